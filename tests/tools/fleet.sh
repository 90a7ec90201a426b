# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=bash disable=SC2154,SC2034
# Sourced by ./dev: images and containers of the test fleet, whose names begin with what belongs to this checkout alone.

fleet_prefix=hallmark-fleet-$(printf '%s' "$root" | sha256sum | cut -c 1-8)
fleet_times=$work/log/fleet-times

# A host as a hoster hands it over: nothing of ours, and no python3-apt.
fleet_bare_packages=(ca-certificates dbus iproute2 procps python3 openssh-server sudo systemd systemd-sysv)
# A host on which the packages of the roles are there already.
fleet_node_packages=("${fleet_bare_packages[@]}" certbot docker-registry openssl pebble python3-cryptography)
# A host that runs images: the first podman and skopeo of Debian that know signatures of sigstore's formats.
fleet_enforcer_packages=("${fleet_bare_packages[@]}" certbot openssl podman python3-cryptography python3-docker python3-jmespath skopeo)

fleet_images() {
  fleet_image bare bookworm "${fleet_bare_packages[@]}"
  fleet_image node bookworm "${fleet_node_packages[@]}"
  fleet_image enforcer trixie "${fleet_enforcer_packages[@]}"
}

# Whether a fleet can run here; fleet_reason says why not.
fleet_possible() {
  if ! engine_start; then
    fleet_reason=$engine_note
  elif [ ! -r /usr/share/keyrings/debian-archive-keyring.gpg ]; then
    fleet_reason="there is no Debian archive keyring (package debian-archive-keyring) to make images with"
  elif ! fleet_gateway >/dev/null; then
    fleet_reason="the engine is on another machine: the network of its containers cannot be reached from here"
  else
    note "$engine_note"
    return 0
  fi
  return 1
}

# The address of this machine in the network of the containers.
fleet_gateway() {
  "$(python_of test)" - <<'END'
import ipaddress, json, socket, subprocess
(network,) = json.loads(subprocess.run(["docker", "network", "inspect", "bridge"], capture_output=True, check=True).stdout)
# An engine that made its bridge itself names no gateway: it took the first address.
config = network["IPAM"]["Config"][0]
gateway = config.get("Gateway") or str(next(ipaddress.ip_network(config["Subnet"]).hosts()))
with socket.socket() as probe:
    try:
        probe.bind((gateway, 0))
    except OSError:
        raise SystemExit(1) from None
print(gateway)
END
}

# fleet_image NAME SUITE PACKAGE... - an image of Debian packages. Its tar is kept in .work, by suite and packages.
fleet_image() {
  local name=$1 suite=$2 packages hook mirror tar since=$SECONDS
  shift 2
  packages=$(IFS=,; echo "$*")
  # Logins are by a key that is mounted, whoever owns its file. A fleet shares its ssh host keys: nobody checks them.
  # shellcheck disable=SC2016
  hook='
    cd "$1" && rm -rf var/lib/apt/lists/* var/cache/* && : >etc/machine-id && rm -f etc/hostname
    printf "AuthorizedKeysFile /fleet/authorized_keys .ssh/authorized_keys\nStrictModes no\nUseDNS no\n" >etc/ssh/sshd_config.d/fleet.conf
    printf "ops ALL=(ALL) NOPASSWD: ALL\n" >etc/sudoers.d/ops && chmod 440 etc/sudoers.d/ops
    chroot . useradd --create-home --shell /bin/bash ops && chroot . useradd --create-home ci
    # The last three take half of the inotify instances of a host; the kernel gives 128 to all of a fleet together.
    for unit in apt-daily.timer apt-daily-upgrade.timer docker-registry.service e2scrub_all.timer fstrim.timer \
      systemd-ask-password-console.path systemd-ask-password-wall.path systemd-logind.service; do
      ln -sf /dev/null "etc/systemd/system/$unit"
    done
    mkdir -p etc/containers
    # The disk of a container is an overlay, which no other can lie upon.
    { echo "[storage]"; echo "driver = \"vfs\""; echo "runroot = \"/run/containers/storage\""
      echo "graphroot = \"/var/lib/containers/storage\""; } >etc/containers/storage.conf'
  tar=$work/cache/fleet-$name-$(printf '%s' "$suite" "$packages" "$hook" | sha256sum | cut -c 1-16).tar
  if [ ! -s "$tar" ]; then
    need_packages mmdebstrap
    mirror=$(bash -c '. "$1" && mirror' dev "$root/tests/tools/get-cosign") || die "there is no Debian mirror to make images of the fleet from"
    mkdir -p "$work/cache"
    rm -f -- "$work/cache/fleet-$name"-*.tar
    note "making the image $name of Debian packages ($suite), once"
    # The mirror's clock may be behind ours; signatures are checked all the same.
    as_root mmdebstrap --quiet --mode=auto --format=tar --variant=minbase --include="$packages" \
      --aptopt='Acquire::Check-Valid-Until "false"' --dpkgopt='path-exclude=/usr/share/doc/*' \
      --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
      --customize-hook="$hook" "$suite" "$tar.new" \
      "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" \
      >"$work/fleet-image.log" 2>&1 ||
      die "mmdebstrap failed: $(tail -n 1 "$work/fleet-image.log"); all of it is in $work/fleet-image.log"
    as_root chown "$(id -u):$(id -g)" "$tar.new"
    mv -- "$tar.new" "$tar"
  fi
  docker import "$tar" "$fleet_prefix-$name" >/dev/null
  fleet_time "image $name" "$((SECONDS - since))"
}

fleet_time() { printf '%-60s %6d s\n' "$1" "$2" >>"$fleet_times"; }

# Remove the containers and images of this checkout's fleet, those of a run that was killed, too.
fleet_remove() {
  local found
  rm -rf -- "/tmp/$fleet_prefix-"*
  command -v docker >/dev/null || return 0
  found=$(timeout 20 docker ps -a --format '{{.Names}}' 2>/dev/null | grep "^$fleet_prefix-") || true
  # shellcheck disable=SC2086
  [ -z "$found" ] || docker rm -f $found >/dev/null
  found=$(timeout 20 docker images --format '{{.Repository}}' 2>/dev/null | grep "^$fleet_prefix-") || true
  # shellcheck disable=SC2086
  [ -z "$found" ] || docker rmi $found >/dev/null
}
