# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What must hold on a signing host after playbook provision, as its own tools see it."""

from __future__ import annotations

import hashlib

from fleet import Host

FOLDER = "/etc/hallmark-signing"
KEY = f"{FOLDER}/release.key"
PUBLIC = f"{FOLDER}/release.pub"
CHAIN = f"{FOLDER}/release.chain.pem"
COPY_FOLDER = "/run/hallmark-signing"
COPY = f"{COPY_FOLDER}/release.key"


def public_half(host: Host, path: str) -> str:
    """Return the public half of a private key, as openssl makes it of the file."""
    return host.run(["openssl", "pkey", "-in", path, "-pubout"]).stdout


def check_key(host: Host) -> str:
    """Assert that key, public half, chain and copy are one key's, and others kept out; return a digest of the key."""
    public = public_half(host, KEY)
    lineage = f"/etc/letsencrypt/live/{host.name}"
    assert public_half(host, COPY) == public, host.name
    assert public_half(host, f"{lineage}/privkey.pem") == public, host.name
    assert host.read(PUBLIC) == public, host.name
    assert host.run(["openssl", "x509", "-in", CHAIN, "-noout", "-pubkey"]).stdout == public, host.name
    assert host.read(CHAIN) == host.read(f"{lineage}/fullchain.pem"), host.name
    check_files(host, {
        FOLDER: "d 700 root:root", KEY: "f 600 root:root", PUBLIC: "f 644 root:root", CHAIN: "f 644 root:root",
        COPY: "f 400 ci:root", f"/etc/letsencrypt/archive/{host.name}/privkey1.pem": "f 600 root:root",
    })
    assert host.run(["cat", COPY], user="ops", check=False).returncode != 0, host.name
    return hashlib.sha256(public.encode()).hexdigest()


def check_files(host: Host, wanted: dict[str, str]) -> None:
    """Assert kind, mode and owner of files, and that nothing half-written lies beside them."""
    found = host.run(["find", *wanted, "-maxdepth", "0", "-printf", r"%p %y %m %u:%g\n"]).stdout
    assert dict(line.split(" ", 1) for line in found.splitlines()) == wanted, host.name
    assert half_written(host) == [], host.name


def half_written(host: Host) -> list[str]:
    """Return files under the names that they have until they are whole, and those beside keys with nothing in them."""
    names = " -o ".join(f"-name {pattern}" for pattern in ("*.hallmark-new", ".ansible_tmp*", "*.new", "*.tmp")).split()
    places = ["/etc", "/opt", "/run", "/usr/local", "/var/lib"]
    unfinished = host.run(["find", *places, "-type", "f", "(", *names, ")"]).stdout.splitlines()
    empty = host.run(["find", FOLDER, COPY_FOLDER, "-type", "f", "-empty"], check=False).stdout.splitlines()
    return sorted(unfinished + empty)


def timers(host: Host) -> dict[str, str]:
    """Return the state of every timer that would renew, by its name."""
    listed = host.run(["systemctl", "list-unit-files", "--type=timer", "--no-legend", "--plain", "*certbot*"]).stdout
    return {line.split()[0]: line.split()[1] for line in listed.splitlines()}


def timer(host: Host) -> str:
    """Return the only timer that renews; assert that all others are masked."""
    enabled = [name for name, state in timers(host).items() if state != "masked"]
    assert len(enabled) == 1, f"{host.name}: {timers(host)}"
    return enabled[0]


def check_scheduler(host: Host) -> None:
    """Assert that one timer is active and will fire, and that no other renews."""
    name = timer(host)
    assert name.startswith("hallmark-"), host.name
    assert timers(host)[name] == "enabled", host.name
    assert "certbot.timer" in timers(host), f"{host.name}: the package's timer is not there to be masked"
    listing = ["systemctl", "list-units", "--type=timer", "--state=active", "--no-legend", "--plain", "*certbot*"]
    assert [line.split()[0] for line in host.run(listing).stdout.splitlines()] == [name], host.name
    fires = host.run(["systemctl", "show", "--value", "--property=NextElapseUSecRealtime", name]).stdout.strip()
    assert fires, f"{host.name}: {name} never fires"
