# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=bash disable=SC2154
# Sourced by ./dev: packages, virtual environments, the real cosigns. Each is found at once when it is there.

die() {
  printf 'dev: %s\n' "$*" >&2
  exit 1
}

step() {
  step_since=${EPOCHREALTIME/[.,]/}
  printf '   -  %s\n' "$1"
}

step_done() {
  local now=${EPOCHREALTIME/[.,]/}
  printf '      %d.%d s\n' $(((now - step_since) / 1000000)) $(((now - step_since) / 100000 % 10))
}

note() { printf '      %s\n' "$*"; }

as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
    sudo "$@"
  else
    return 77
  fi
}

# one_at_a_time NAME COMMAND... - parts of the tests may run beside each other, and want the same things.
one_at_a_time() {
  local status=0 lock
  mkdir -p "$work"
  exec {lock}>"$work/$1.lock"
  flock "$lock"
  shift
  # What it starts must not hold the lock any longer.
  (exec {lock}>&-; "$@") || status=$?
  exec {lock}>&-
  return "$status"
}

# need_packages NAME[:FILE]... - install the Debian packages whose program (default: of the same name) is missing.
need_packages() { one_at_a_time apt need_these_packages "$@"; }

need_these_packages() {
  local entry missing=()
  usable_python >/dev/null || missing+=(python3 python3-venv)
  for entry in ca-certificates:/usr/sbin/update-ca-certificates "$@"; do
    case $entry in
      *:*) [ -e "${entry#*:}" ] || missing+=("${entry%%:*}") ;;
      *) command -v "$entry" >/dev/null || missing+=("$entry") ;;
    esac
  done
  [ "${#missing[@]}" -eq 0 ] || install_packages "${missing[@]}"
}

install_packages() {
  local log=$work/apt.log policy=/usr/sbin/policy-rc.d status=0
  command -v apt-get >/dev/null || die "these are missing, and there is no apt-get to install them: $*"
  note "installing Debian packages: $*"
  as_root true || die "may not install Debian packages: run as root, or install them first: apt-get install $*"
  mkdir -p "$work"
  # Services of these packages shall not start by themselves; ours run with configurations of their own.
  [ -e "$policy" ] || printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
  as_root chmod 755 "$policy" || die "may not keep services from starting by themselves: $policy"
  { as_root apt-get update -qq && as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "$@"; } >"$log" 2>&1 </dev/null || status=$?
  if [ "$(as_root cat "$policy")" = "$(printf '#!/bin/sh\nexit 101')" ]; then as_root rm -f "$policy"; fi
  [ "$status" -eq 0 ] || die "apt-get install $* failed: $(grep -E '^E:' "$log" | tail -n 1); all of it is in $log"
  if [ -d /run/systemd/system ]; then
    as_root systemctl disable --quiet docker-registry.service 2>/dev/null || true
  fi
}

# A Python that ansible-core 2.19 runs on (3.11 to 3.13) and that can make virtual environments.
usable_python() {
  local candidate
  for candidate in /usr/bin/python3 python3 python3.13 python3.12 python3.11; do
    if command -v "$candidate" >/dev/null && "$candidate" -c '
import sys, ensurepip, venv
sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
      command -v "$candidate"
      return 0
    fi
  done
  return 1
}

python_of() { printf '%s/venv-%s/bin/python\n' "$work" "$1"; }

python_version() { "$(python_of "$1")" -c 'import sys; print("%d.%d" % sys.version_info[:2])'; }

# need_venv NAME REQUIREMENT... - a virtual environment with exactly these; made anew when they change.
need_venv() { one_at_a_time "venv-$1" need_this_venv "$@"; }

need_this_venv() {
  local name=$1 venv=$work/venv-$1 python
  shift
  if [ "$(cat "$venv/requirements" 2>/dev/null)" = "$*" ] && "$venv/bin/python" -c '' 2>/dev/null; then return 0; fi
  python=$(usable_python) || die "needs Python 3.11, 3.12 or 3.13 with venv (Debian package python3-venv)"
  note "making the virtual environment $name"
  rm -rf -- "$venv"
  mkdir -p "$work"
  "$python" -m venv "$venv" || die "$python cannot make virtual environments"
  "$venv/bin/pip" install --quiet --disable-pip-version-check "$@" >"$work/pip-$name.log" 2>&1 ||
    die "pip install $* failed: $(grep -E '^ERROR' "$work/pip-$name.log" | tail -n 1); all of it is in $work/pip-$name.log"
  printf '%s' "$*" >"$venv/requirements"
}

need_tree() {
  mkdir -p "$tree/ansible_collections/hallmark" "$work/tmp"
  ln -sfn "$root" "$tree/ansible_collections/hallmark/signing"
}

# The real cosigns, as far as they can be had: cosign_note says why not.
need_cosign() {
  cosign_note=
  if [ -r /usr/share/keyrings/debian-archive-keyring.gpg ] && command -v apt-get >/dev/null; then
    # The newest suite may stand still on a mirror: its dates are not checked, its signatures are.
    GET_COSIGN_ALLOW_STALE=1 "$root/tests/tools/get-cosign" "$work/tools" >"$work/cosign.log" 2>&1 ||
      cosign_note="get-cosign: $(tail -n 1 "$work/cosign.log")"
  elif command -v cosign >/dev/null; then
    mkdir -p "$work/tools"
    printf 'path %s - %s\n' "$(cosign version 2>&1 | sed -n 's/^GitVersion: *v*//p')" "$(command -v cosign)" \
      >"$work/tools/versions"
  else
    cosign_note="there is no Debian archive keyring to fetch it with, and none on PATH"
  fi
  [ -z "$cosign_note" ] || note "without the real cosign: $cosign_note"
}

# The real oras, rekor-cli, and skopeo and podman of Debian 13, beside what the host has.
need_peers() {
  : >"$work/peers"
  if [ -r /usr/share/keyrings/debian-archive-keyring.gpg ] && command -v apt-get >/dev/null; then
    GET_COSIGN_ALLOW_STALE=1 "$root/tests/tools/get-peers" "$work/tools" >"$work/peers" 2>"$work/peers.log" ||
      note "without oras, rekor-cli, skopeo and podman of Debian 13: $(tail -n 1 "$work/peers.log")"
  else
    note "without oras, rekor-cli, skopeo and podman of Debian 13: there is no Debian archive keyring to fetch them with"
  fi
}

peers_json() {
  awk 'BEGIN { printf "[" }
       NF == 3 { printf "%s{\"name\": \"%s\", \"version\": \"%s\", \"program\": \"%s\"}", (n++ ? ", " : ""), $1, $2, $3 }
       END { print "]" }' "$work/peers"
}

cosigns_json() {
  [ -s "$work/tools/versions" ] || { echo '[]'; return; }
  awk 'BEGIN { printf "[" }
       { printf "%s{\"name\": \"cosign %s\", \"version\": \"%s\", \"program\": \"%s\"}", (NR > 1 ? ", " : ""), $2, $2, $4 }
       END { print "]" }' "$work/tools/versions"
}
