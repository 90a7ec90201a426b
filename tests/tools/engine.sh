# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=bash disable=SC2154,SC2034
# Sourced by ./dev: a container engine (the one that runs, or one of our own) and a base image of Debian packages.

# Use the engine that runs, or start one; engine_note says which, or why none. Never starts a second one.
engine_start() {
  if ! command -v docker >/dev/null; then
    # Debian 13 has the client in a package of its own.
    install_packages docker.io "$(apt-cache show docker-cli >/dev/null 2>&1 && echo docker-cli || echo docker.io)"
  fi
  if timeout 20 docker info >/dev/null 2>&1; then
    engine_note="using the engine that runs"
    return 0
  fi
  if [ -n "${DOCKER_HOST:-}" ]; then
    engine_note="DOCKER_HOST is set, and nothing answers there"
    return 1
  fi
  if pgrep -x dockerd >/dev/null 2>&1; then
    engine_note="an engine runs, but this user cannot use it"
    return 1
  fi
  command -v dockerd >/dev/null || [ -x /usr/sbin/dockerd ] || install_packages docker.io
  engine_own
}

engine_own() {
  local run program bridge=absent
  program=$(command -v dockerd || echo /usr/sbin/dockerd)
  [ -x "$program" ] || { engine_note="dockerd is not installed"; return 1; }
  as_root true || { engine_note="starting one needs root"; return 1; }
  [ ! -e /sys/class/net/docker0 ] || bridge=present
  engine_ghosts
  # Paths of sockets must be short, those of checkouts are not.
  run=$(mktemp -d /tmp/hallmark-engine.XXXXXX)
  mkdir -p "$engine"
  printf '%s %s\n' "$run" "$bridge" >"$engine/state"
  as_root "$program" --data-root "$engine/data" --exec-root "$run/exec" --pidfile "$run/pid" \
    --host "unix://$run/sock" --group "$(id -g)" --iptables=false --ip6tables=false --ip-masq=false \
    >"$engine/log" 2>&1 </dev/null &
  for _ in $(seq 100); do
    if DOCKER_HOST=unix://$run/sock timeout 5 docker info >/dev/null 2>&1; then
      export DOCKER_HOST=unix://$run/sock
      engine_note="started an engine of its own"
      return 0
    fi
    kill -0 $! 2>/dev/null || break
    sleep 0.2
  done
  engine_note="dockerd does not start: $(grep -oE '(failed to start daemon|level=(fatal|error) msg=|Error ).*' "$engine/log" |
    tail -n 1 | cut -c 1-160)"
  engine_stop
  return 1
}

# Unplug containers that an engine left when it was killed: nothing runs in them, yet they answer at their addresses,
# which the next engine gives away again.
engine_ghosts() {
  local port
  ! pgrep -f containerd-shim >/dev/null 2>&1 || return 0
  for port in /sys/class/net/docker0/brif/veth*; do
    [ ! -e "$port" ] || as_root ip link delete "${port##*/}" || true
  done
}

# Remove the images that came from or went to one registry, and our base, from an engine that is not ours.
engine_forget() {
  local images
  images=$(timeout 20 docker images --format '{{.Repository}}:{{.Tag}}' 2>/dev/null |
    grep -E "^($1/|hallmark-demo/)" | grep -v '<none>') || return 0
  # shellcheck disable=SC2086
  docker rmi $images >/dev/null 2>&1 || true
}

# Stop an engine of our own, and only that.
engine_stop() {
  local run bridge
  [ -f "$engine/state" ] || return 0
  read -r run bridge <"$engine/state"
  if [ -f "$run/pid" ]; then
    as_root start-stop-daemon --stop --oknodo --quiet --retry 20 --pidfile "$run/pid" --exec "$(command -v dockerd || echo /usr/sbin/dockerd)"
  fi
  [ "$bridge" = present ] || as_root ip link delete docker0 2>/dev/null || true
  as_root rm -rf -- "${run:?}" "${engine:?}"
  [ "${DOCKER_HOST:-}" != "unix://$run/sock" ] || unset DOCKER_HOST
}

# Make a base with nginx of Debian packages, once, and give it to the engine; engine_base_name is its name there.
engine_base() {
  local suite mirror components=main tar=$work/cache/nginx-base.tar
  engine_base_name=hallmark-demo/nginx-base:debian
  if [ ! -s "$tar" ]; then
    need_packages mmdebstrap
    suite=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
    grep -q '^ID=ubuntu' /etc/os-release && components='main universe'
    # shellcheck disable=SC2016
    mirror=$(apt-get indextargets --format '$(REPO_URI)|$(RELEASE)' 'Created-By: Packages' |
      awk -F'|' -v s="$suite" '$2 == s { print $1; exit }')
    [ -n "$mirror" ] || die "apt knows no source of $suite to make a base image of"
    mkdir -p "$work/cache"
    note "making a base image of Debian packages ($suite), once"
    # shellcheck disable=SC2016
    as_root mmdebstrap --quiet --mode=auto --format=tar --variant=minbase --include=nginx-light \
      --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
      --dpkgopt='path-exclude=/usr/share/locale/*' \
      --customize-hook='rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/*' \
      "$suite" "$tar.new" "deb $mirror $suite $components" >"$work/base.log" 2>&1 ||
      die "mmdebstrap failed: $(tail -n 1 "$work/base.log"); all of it is in $work/base.log"
    as_root chown "$(id -u):$(id -g)" "$tar.new"
    mv -- "$tar.new" "$tar"
  fi
  docker image inspect "$engine_base_name" >/dev/null 2>&1 || docker import "$tar" "$engine_base_name" >/dev/null
}

# Unpack what nginx needs from Debian packages, once, as the context of a base that is assembled without an engine.
base_files() {
  local context=$work/cache/nginx-files debs=$work/cache/debs new link target
  [ ! -f "$context/Dockerfile" ] || return 0
  note "unpacking the files of a base image from Debian packages, once"
  new=$context.new
  rm -rf -- "${new:?}" "${debs:?}"
  mkdir -p "$new/root" "$debs/partial"
  : >"$debs/status"
  # With an empty list of installed packages, everything that is needed is fetched.
  { apt-get -y -qq --no-install-recommends --download-only -o Dir::State::status="$debs/status" \
    -o Dir::Cache::archives="$debs" -o Debug::NoLocking=true install nginx-light dash bash grep ||
    { as_root apt-get update -qq && apt-get -y -qq --no-install-recommends --download-only \
      -o Dir::State::status="$debs/status" -o Dir::Cache::archives="$debs" -o Debug::NoLocking=true \
      install nginx-light dash bash grep; }; } >"$work/base.log" 2>&1 </dev/null ||
    die "apt-get cannot fetch nginx-light: $(grep -E '^E:' "$work/base.log" | tail -n 1); all of it is in $work/base.log"
  # base-files comes first: in newer releases it holds the links /bin and /lib that the others go through.
  for deb in "$debs"/base-files_*.deb "$debs"/*.deb; do
    [ ! -f "$deb" ] || dpkg-deb --extract "$deb" "$new/root"
  done
  rm -rf -- "$new"/root/usr/share/{doc,man,locale,info,lintian}
  # Links are made relative: what leaves the context is refused.
  find "$new/root" -type l -lname '/*' | while read -r link; do
    target=$(readlink "$link")
    ln -sfn --relative "$new/root$target" "$link"
  done
  printf 'FROM scratch\nCOPY root/ /\n' >"$new/Dockerfile"
  rm -rf -- "${context:?}" "${debs:?}"
  mv -- "$new" "$context"
}
