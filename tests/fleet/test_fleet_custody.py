# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Drill: exported keys end with their time under the real systemd, whatever becomes of playbooks, hosts and clocks."""

from __future__ import annotations

import json
import typing as t

import pytest
from fleet import Fleet, Host, Json, wait_until

SOURCE = "/etc/custody/release.key"
# In memory, and on the disk.
FOLDERS = ("/run/custody", "/var/lib/custody")
LIVES = {
    "/run/custody": ["systemd_timer", "tmpfiles_age", "memory", "check_at_use"],
    "/var/lib/custody": ["systemd_timer", "tmpfiles_age", "tmpfiles_boot", "check_at_use"],
}
HOUR = 3600
# A task takes seconds; the copy must be seen before its end.
SHORT = 15


class Custody:
    """A host with a key, and the module that exports it."""

    def __init__(self, fleet: Fleet, host: Host) -> None:
        self._fleet, self.host = fleet, host

    def export(self, *tasks: Json, become: bool = True) -> list[Json]:
        """Run the module once for each task; return what each returned, also if it failed."""
        path = self._fleet.folder / "custody.yml"
        path.write_text(json.dumps([{
            "hosts": self.host.name, "gather_facts": False, "become": become,
            "tasks": [{"hallmark.signing.key_export": one, "ignore_errors": True} for one in tasks],
        }]))
        return [line["result"] for line in self._fleet.play(path).require().lines]

    def present(self, dest: str, **options: t.Any) -> Json:
        """Export the key to one place."""
        (result,) = self.export({"private_key_path": SOURCE, "dest": dest, **options})
        return result

    def absent(self, *paths: str) -> None:
        """Take copies away, whatever a test left."""
        self.export(*({"dest": path, "state": "absent"} for path in paths))

    @property
    def timers(self) -> list[str]:
        """The timers of exports that wait."""
        return self._listed(["systemctl", "list-units", "--all", "--no-legend", "--plain", "hallmark-export-*.timer"])

    @property
    def rules(self) -> list[str]:
        """The rules of exports."""
        return self._listed(["find", "/etc/tmpfiles.d", "/run/tmpfiles.d", "-name", "*hallmark-export-*"])

    @property
    def copies(self) -> list[str]:
        """Every file of the host with a line of the key in it, its source left out."""
        line = self.host.read(SOURCE).splitlines()[1]
        places = ["/etc", "/home", "/opt", "/root", "/run", "/srv", "/tmp", "/usr/local", "/var"]
        found = self.host.run(["grep", "-rslF", "-D", "skip", "--", line, *places], check=False).stdout
        return sorted(set(found.split()) - {SOURCE})

    def _listed(self, argv: list[str]) -> list[str]:
        return [line.split()[0] for line in self.host.run(argv, check=False).stdout.splitlines()]

    def nothing_left(self) -> None:
        """Assert that nothing of any export is on the host but its record."""
        assert (self.copies, self.timers, self.rules) == ([], [], [])


@pytest.fixture(scope="module")
def custody(empty_fleet: Fleet) -> t.Iterator[Custody]:
    """A host of its own, with systemd and a key."""
    host = empty_fleet.add("custody.fleet.example", group="custody")
    host.wait()
    host.run(["install", "-d", "-m", "0700", "/etc/custody"])
    host.run(
        [
            "sh", "-c", 'umask 077 && openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1"', "sh",
            SOURCE
        ]
    )
    yield Custody(empty_fleet, host)
    empty_fleet.discard(host)


def test_copies_are_gone_after_their_time(custody: Custody) -> None:
    paths = [f"{folder}/a.key" for folder in FOLDERS]
    results = custody.export(*({"private_key_path": SOURCE, "dest": path, "expires_in": SHORT} for path in paths))
    assert [result["enforced_by"] for result in results] == list(LIVES.values()), results
    assert custody.copies == paths
    assert len(custody.rules) == 2
    wait_until(lambda: not custody.copies, "the end of the copies", pause=0.5)
    # Nothing ran here since; the timers took their rules away, and are spent themselves.
    wait_until(lambda: not custody.timers, "the end of the timers", pause=0.5)
    custody.nothing_left()
    for folder in FOLDERS:
        assert custody.host.entries(folder) == {}


def test_a_process_that_died_leaves_nothing_beyond_the_end(custody: Custody) -> None:
    path, left = "/var/lib/custody/a.key", "/var/lib/custody/.a.key.hallmark-new"
    custody.present(path, expires_in=SHORT)
    custody.host.run(["mv", path, left])
    assert custody.copies == [left]
    wait_until(lambda: not custody.copies, "the end of what was left", pause=0.5)
    wait_until(lambda: not custody.timers, "the end of the timer", pause=0.5)
    custody.nothing_left()


def _reboot(host: Host) -> None:
    host.restart()


def _lose_power(host: Host) -> None:
    host.kill()
    host.start()


@pytest.mark.parametrize("how", [_reboot, _lose_power])
def test_copies_are_gone_after_a_boot(custody: Custody, how: t.Callable[[Host], None]) -> None:
    paths = [f"{folder}/a.key" for folder in FOLDERS]
    custody.export(*({"private_key_path": SOURCE, "dest": path, "expires_in": HOUR} for path in paths))
    assert custody.copies == paths
    how(custody.host)
    custody.nothing_left()
    # What comes to the same place later is not taken away by a rule of long ago.
    custody.host.write(paths[1], "a file that stays\n")
    custody.host.restart()
    assert custody.host.read(paths[1]) == "a file that stays\n"
    custody.host.run(["rm", paths[1]])
    assert custody.present(paths[1])["changed"]
    custody.absent(*paths)


def test_removed_export_leaves_no_timer_and_no_rule(custody: Custody) -> None:
    for folder in FOLDERS:
        path = f"{folder}/a.key"
        custody.present(path, expires_in=HOUR)
        assert (len(custody.timers), len(custody.rules)) == (1, 1)
        custody.absent(path)
        custody.nothing_left()


def test_copy_is_aged_without_its_timer_and_other_files_are_not(custody: Custody) -> None:
    host, folder = custody.host, "/var/lib/custody"
    old = ["touch", "-d", "2001-01-01"]
    elsewhere = "/var/lib/custody-elsewhere"
    host.run(["install", "-d", "-m", "0700", elsewhere])
    host.run([*old, f"{elsewhere}/old"])
    result = custody.present(f"{folder}/a.key", expires_in=SHORT)
    host.run(["systemctl", "stop", f"hallmark-export-{result['export_id']}.timer"])
    host.run(["sleep", str(SHORT + 2)])
    assert custody.copies == [f"{folder}/a.key"]
    # Somebody brings an old file here: it is old by its bytes, and not by its entry.
    host.run([*old, f"{folder}/moved"])
    cleaned = host.run(["systemd-tmpfiles", "--clean"])
    assert "hallmark-export" not in cleaned.stderr
    assert custody.copies == []
    assert host.exists(f"{folder}/moved")
    assert host.exists(f"{elsewhere}/old")
    host.run(["rm", "-r", f"{folder}/moved", elsewhere])
    custody.absent(f"{folder}/a.key")
    custody.nothing_left()


def test_timer_that_somebody_stopped_is_armed_again(custody: Custody) -> None:
    path = "/run/custody/a.key"
    result = custody.present(path, expires_in=HOUR)
    unit = f"hallmark-export-{result['export_id']}.timer"
    custody.host.run(["systemctl", "stop", unit])
    again = custody.present(path, expires_in=HOUR)
    assert (
        again["changed"], again["export_id"], again["enforced_by"]
    ) == (True, result["export_id"], LIVES["/run/custody"])
    shown = custody.host.run(
        ["systemctl", "show", "--property", "TimersMonotonic,TimersCalendar,AccuracyUSec", unit]
    ).stdout
    # By the clock and by the time that passed: a clock that is set back does not let it live on.
    assert "OnActiveUSec" in shown
    assert "OnCalendar" in shown
    assert "AccuracyUSec=1s" in shown
    assert not custody.present(path, expires_in=HOUR)["changed"]
    custody.absent(path)
    custody.nothing_left()


def test_what_this_host_does_not_do_is_not_promised(custody: Custody) -> None:
    host = custody.host
    host.run(["systemctl", "stop", "systemd-tmpfiles-clean.timer"])
    host.run(["systemctl", "mask", "systemd-tmpfiles-setup.service"])
    try:
        result = custody.present("/var/lib/custody/a.key", expires_in=HOUR)
        assert result["enforced_by"] == ["systemd_timer", "check_at_use"]
    finally:
        host.run(["systemctl", "unmask", "systemd-tmpfiles-setup.service"])
        host.run(["systemctl", "start", "systemd-tmpfiles-clean.timer"])
        custody.absent("/var/lib/custody/a.key")


def test_user_without_privileges_is_refused(custody: Custody) -> None:
    own = "umask 077 && openssl genpkey -algorithm ed25519 -out /home/ops/own.key"
    custody.host.run(["sh", "-c", own], user="ops")
    (result,) = custody.export(
        {"private_key_path": "/home/ops/own.key", "dest": "/home/ops/copies/a.key", "expires_in": HOUR}, become=False
    )
    assert [reason["code"] for reason in result["reasons"]] == ["expiry_unenforceable"], result
    assert "only root" in result["msg"]
    assert not custody.host.exists("/home/ops/copies")
    assert not custody.host.exists("/home/ops/.local")


def test_record_is_whole_after_all_that(custody: Custody) -> None:
    """Every export was ended, and the chain of hashes holds: the module reads it."""
    assert custody.host.run(["stat", "-c", "%a %U", "/var/lib/hallmark-signing/exports.jsonl"]).stdout == "644 root\n"
    lines = [json.loads(line) for line in custody.host.read("/var/lib/hallmark-signing/exports.jsonl").splitlines()]
    live = {line["export_id"] for line in lines if line["event"] == "exported"}
    ended = {line["export_id"] for line in lines if line["event"] != "exported"}
    assert len(live - ended) <= 1
    result = custody.present("/run/custody/last.key")
    assert result["events"][-1]["sequence"] > len(lines)
    custody.absent("/run/custody/last.key")
