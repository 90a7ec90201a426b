# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Drill: three new hosts of the fleet fail, each in its own way, in the middle of a run over all."""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass

import pytest
import signing_hosts
from fleet import SIZE, Fleet, Host, Play, Times, wait_until
from services import Acme

BALLAST = f"{signing_hosts.FOLDER}/ballast"


@dataclass(frozen=True)
class Faults:
    """The three hosts, and what came of the run."""

    killed: Host
    full: Host
    cut_off: Host
    play: Play

    @property
    def hosts(self) -> list[Host]:
        """All three."""
        return [self.killed, self.full, self.cut_off]


@pytest.fixture(scope="module")
def faults(provisioned: Fleet, acme: Acme, times: Times) -> Faults:
    """Replace three hosts by new machines, and provision all: one loses power, one is full, one is cut off."""
    killed, full, cut_off = provisioned.group("signers")[1:4]
    killed.replace()
    # The folder of the key, on a disk that has no room for a single file.
    full.replace("--tmpfs", f"{signing_hosts.FOLDER}:rw,mode=0700,size=64k")
    filled = full.run(["dd", "if=/dev/zero", f"of={BALLAST}", "bs=4096"], check=False)
    assert "No space left on device" in filled.stderr
    cut_off.replace("--cap-add", "NET_ADMIN")
    cut_off.run(["ip", "route", "add", "unreachable", acme.address])

    def lose_power() -> None:
        pattern = r"certbot .*\bcertonly\b"
        wait_until(lambda: killed.processes(pattern), f"{killed.name}: Certbot", seconds=300, pause=0.02)
        killed.kill()

    play = provisioned.play("hallmark.signing.provision", meanwhile=lose_power)
    times.add(f"{SIZE} hosts provisioned, three of them with faults", play.seconds)
    return Faults(killed, full, cut_off, play)


def test_all_other_hosts_end_well_and_unchanged(provisioned: Fleet, faults: Faults) -> None:
    others = [host for host in provisioned.group("signers") if host not in faults.hosts]
    assert len(others) == SIZE - 3
    assert [host.name for host in others if not faults.play.recap[host.name].well] == []
    assert faults.play.changed.keys() <= {host.name for host in faults.hosts}
    provisioned.each(signing_hosts.check_key, others)


def test_exactly_the_three_are_named(faults: Faults) -> None:
    assert faults.play.status != 0
    recap = faults.play.recap
    assert {name for name, row in recap.items() if row.unreachable} == {faults.killed.name}
    assert {name for name, row in recap.items() if row.failed} == {faults.full.name, faults.cut_off.name}


@pytest.mark.parametrize(("which", "words"), [
    # Ansible says so in one way or the other, depending on where in a task the host was lost.
    ("killed", ["(Failed to connect to the host|Data could not be sent to remote host).* ssh"]),
    ("full", [f"{signing_hosts.FOLDER}/.*: could not .*: No space left on device"]),
    ("cut_off", ["could not obtain a certificate", "{url}", "No route to host"]),
])
def test_the_reason_says_what_happened(faults: Faults, acme: Acme, which: str, words: list[str]) -> None:
    host: Host = getattr(faults, which)
    reason = faults.play.reason(host.name)
    missing = [word for word in words if not re.search(word.format(url=acme.url), reason)]
    assert not missing, f"{reason!r} lacks {missing}"
    # Ansible prints it, too.
    assert host.name in faults.play.output


def test_nothing_half_written_is_left(faults: Faults) -> None:
    for host in (faults.full, faults.cut_off):
        assert signing_hosts.half_written(host) == [], host.name
        assert [path for path in host.entries(signing_hosts.FOLDER) if path.endswith((".key", ".pem"))] == [], host.name
        assert not host.exists(signing_hosts.KEY)
        assert not host.exists(signing_hosts.COPY)
    assert not faults.cut_off.exists(f"/etc/letsencrypt/live/{faults.cut_off.name}")
    # It is off, and must not have been given more than it had time for.
    assert faults.killed.address == ""


def test_after_repair_one_run_completes_all(
    provisioned: Fleet, faults: Faults, acme: Acme, times: Times
) -> None:
    before = keys_of(provisioned, faults)
    faults.killed.start()
    assert signing_hosts.half_written(faults.killed) == []
    faults.full.run(["rm", BALLAST])
    faults.cut_off.run(["ip", "route", "del", "unreachable", acme.address])
    play = provisioned.play("hallmark.signing.provision").require()
    times.add(f"{SIZE} hosts provisioned after repair", play.seconds)
    assert play.changed.keys() == {host.name for host in faults.hosts}
    key_ids = provisioned.each(signing_hosts.check_key, provisioned.group("signers"))
    assert len(set(key_ids)) == SIZE
    provisioned.each(signing_hosts.check_scheduler, faults.hosts)
    assert keys_of(provisioned, faults) == before


def keys_of(fleet: Fleet, faults: Faults) -> dict[str, t.Any]:
    """Return a digest of the key of each host that had no fault."""
    others = [host for host in fleet.group("signers") if host not in faults.hosts]
    return dict(zip([host.name for host in others], fleet.each(signing_hosts.check_key, others), strict=True))
