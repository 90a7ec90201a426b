# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Exports with terms: recorded, armed, written, ended; and what is there whenever the process dies."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import hashlib
import json
import os
import pathlib
import subprocess
import time
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._custody import (
    expiry,
    export,
    export_record,
    journal,
    private_file,
    recipient,
    storage,
)
from ansible_collections.hallmark.signing.plugins.module_utils._custody import source as sources
from ansible_collections.hallmark.signing.plugins.module_utils._custody.export import Exports, Terms
from ansible_collections.hallmark.signing.plugins.module_utils._custody.key_file import Wanted
from ansible_collections.hallmark.signing.plugins.module_utils._custody.private_file import Attributes
from ansible_collections.hallmark.signing.plugins.module_utils._errors import CustodyError, HallmarkError, KeyFileError
from ansible_collections.hallmark.signing.plugins.module_utils._keys import lease, private_key, writing
from ansible_collections.hallmark.signing.plugins.module_utils._keys.fingerprint import key_id
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._custody import custody_bench as bench
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._custody.conftest import Systemd

Hides = t.Callable[..., None]
NOW = datetime.datetime(2028, 2, 29, 23, 59, 30, tzinfo=datetime.timezone.utc)
PASSPHRASE = b"canary passphrase"
PLAIN = Wanted("pem", None, Attributes(0o600))
LOCKED = dataclasses.replace(PLAIN, passphrase=PASSPHRASE)
RECIPIENT = "age1canaryrecipient"


class Host:
    """A host with a key, a record and somewhere to export to."""

    def __init__(self, home: pathlib.Path, key: t.Any) -> None:
        self.home, self.key, self.key_id = home, key, key_id(key.public_key())
        self.record, self.out = home / "record.jsonl", home / "out"
        (home / "key").write_bytes(bench.key_pem(key))
        (home / "chain").write_bytes(bench.chain_pem(key))
        self.source = sources.Source(str(home / "key"), str(home / "chain"))
        self.now = NOW

    def exports(self, *, dry_run: bool = False) -> Exports:
        return Exports(str(self.record), dry_run=dry_run, now=self.now)

    def make(
        self, name: str = "a", wanted: Wanted = PLAIN, *, chain: bool | str = False, dry_run: bool = False,
        **terms: t.Any
    ) -> export.Outcome:
        chain_dest = str(self.out / (chain if isinstance(chain, str) else f"{name}.chain")) if chain else None
        return self.exports(dry_run=dry_run).make(
            self.source, str(self.out / name), wanted, Terms(**terms), chain_dest=chain_dest, same_format=False,
        )

    def retract(self, name: str = "a", *, dry_run: bool = False, **options: t.Any) -> list[str]:
        chain_dest = options.pop("chain_dest", None)
        given = {"key_id": None, "passphrase": None, **options}
        return self.exports(dry_run=dry_run).retract(str(self.out / name), chain_dest, **given)

    def events(self) -> list[str]:
        """What the record says, as EVENT NAME."""
        return [
            f"{entry.members['event']} {os.path.basename(entry.members['path'])}"
            for entry in (journal.read(str(self.record)) if self.record.parent.exists() else ())
        ]

    @property
    def live(self) -> list[export_record.Export]:
        return list(export_record.live(str(self.record)).values())

    @property
    def files(self) -> list[str]:
        return sorted(os.listdir(self.out)) if self.out.exists() else []

    def later(self, seconds: float) -> None:
        self.now += datetime.timedelta(seconds=seconds)


@pytest.fixture
def host(home: pathlib.Path, p256: t.Any) -> Host:
    """A host."""
    return Host(home, p256)


def refused(kind: type[HallmarkError], code: str, action: t.Callable[[], t.Any], cause: str = "") -> HallmarkError:
    with pytest.raises(kind) as caught:
        action()
    assert (caught.value.code, cause in caught.value.cause) == (code, True), str(caught.value)
    assert "canary" not in str(caught.value)
    return caught.value


# Terms ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0, -1, 366 * 86400 + 1, 10**12])
def test_span_that_is_none_is_refused(seconds: int) -> None:
    refused(CustodyError, "input_invalid", lambda: Terms(expires_in=seconds))


@pytest.mark.parametrize("seconds", [1, 366 * 86400])
def test_spans_from_a_second_to_a_year_are_taken(seconds: int) -> None:
    assert Terms(expires_in=seconds).expires_in == seconds


@pytest.mark.parametrize(("now", "seconds", "ends"), [
    (NOW, 29, "2028-02-29T23:59:59Z"), (NOW, 30, "2028-03-01T00:00:00Z"), (NOW, 365 * 86400, "2029-02-28T23:59:30Z"),
    # Rounded up: never shorter than asked for.
    (NOW.replace(microsecond=1), 1, "2028-02-29T23:59:32Z"),
    (NOW.replace(microsecond=999_999), 1, "2028-02-29T23:59:32Z"),
    (datetime.datetime(2026, 12, 31, 23, 59, 59, tzinfo=datetime.timezone.utc), 1, "2027-01-01T00:00:00Z"),
])
def test_end_is_in_utc(
    now: datetime.datetime, seconds: int, ends: str, host: Host, systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    time.tzset()
    try:
        host.now = now
        made = host.make(expires_in=seconds).made
        assert made.expires_at == ends
        said = lease.read((host.out / "a").read_bytes(), where="a")
        assert said is not None
        assert said.end == ends
        (timer,) = systemd.timers
        calendar = f"--on-calendar={ends[:10]} {ends[11:19]} UTC"
        assert calendar in systemd.arguments(timer)
    finally:
        monkeypatch.undo()
        time.tzset()


# Without an end ------------------------------------------------------------------------------------------------------


def test_plain_copy_is_the_key_and_nothing_else(host: Host) -> None:
    made = host.make().made
    assert (host.out / "a").read_bytes() == bench.key_pem(host.key)
    assert (made.expires_at, made.once, made.enforced_by) == (None, False, ())
    assert host.events() == ["exported a"]
    assert not host.make().changed
    assert host.events() == ["exported a"]


@pytest.mark.parametrize("wanted", [LOCKED, dataclasses.replace(LOCKED, format="cosign")], ids=["pem", "cosign"])
def test_encrypted_copy_says_which_export_it_is(wanted: Wanted, host: Host) -> None:
    """Without its passphrase nobody could tell it from any other encrypted key."""
    made = host.make(wanted=wanted).made
    data = (host.out / "a").read_bytes()
    assert lease.read(data, where="a") == lease.Lease(made.export_id, None, False)
    assert private_key.read_private_key(data, passphrase=PASSPHRASE, where="a").public.key_id == host.key_id
    assert not host.make(wanted=wanted).changed


def test_record_has_facts_and_no_key(host: Host, assert_hides: Hides) -> None:
    outcome = host.make(wanted=LOCKED, chain=True, once=True)
    text = host.record.read_text()
    entry = json.loads(text)
    export_id = outcome.made.export_id
    assert {name: entry[name] for name in entry if name not in ("sequence", "previous")} == {
        "time": "2028-02-29T23:59:30Z", "event": "exported", "export_id": export_id, "key_id": host.key_id,
        "source": str(host.home / "key"), "path": str(host.out / "a"), "chain_path": str(host.out / "a.chain"),
        "format": "pem", "encrypted": True, "mode": "0600", "expires_in": None, "expires_at": None, "once": True,
        "enforced_by": [], "recipient": None, "uid": os.geteuid(),
    }
    (event,) = outcome.events
    head = journal.read(str(host.record))[-1]
    assert (event["sequence"], event["hash"], event["export_id"]) == (1, head.hash, export_id)
    assert_hides(
        RuntimeError(text, repr(outcome.events)), PASSPHRASE, bench.key_pem(host.key), (host.out / "a").read_bytes()
    )


def test_copy_that_was_there_before_the_record_is_taken_into_it(host: Host) -> None:
    host.make()
    host.record.unlink()
    assert host.make().changed
    assert host.events() == ["exported a"]
    assert not host.make().changed


def test_links_on_the_way_make_no_second_export(host: Host) -> None:
    host.make()
    (host.home / "way").symlink_to(host.out)
    outcome = host.exports().make(
        host.source, str(host.home / "way" / "." / "a"), PLAIN, Terms(), chain_dest=None, same_format=True
    )
    assert (outcome.changed, len(host.live)) == (False, 1)
    assert host.exports().retract(
        str(host.home / "way" / "a"), None, key_id=None, passphrase=None
    ) == [str(host.out / "a")]
    assert host.events() == ["exported a", "removed a"]


@pytest.mark.parametrize("dest", ["out/../out/a", "out/a/", "out/..", "a\0b"])
def test_trick_paths_are_refused(dest: str, host: Host) -> None:
    for action in (
        lambda: host.exports().make(
            host.source, f"{host.home}/{dest}", PLAIN, Terms(), chain_dest=None, same_format=True
        ),
        lambda: host.exports().retract(f"{host.home}/{dest}", None, key_id=None, passphrase=None),
        lambda: host.exports().make(
            host.source, f"{host.home}/b", PLAIN, Terms(), chain_dest=f"{host.home}/{dest}", same_format=True
        ),
    ):
        refused(CustodyError, "input_invalid", action)
    assert sorted(os.listdir(host.home)) == ["chain", "key"]


def test_new_chain_is_added_to_a_copy_without_an_end(host: Host) -> None:
    first = host.make()
    assert host.make(chain=True, dry_run=True).changed
    assert not (host.out / "a.chain").exists()
    second = host.make(chain=True)
    assert (second.changed, second.made.export_id) == (True, first.made.export_id)
    assert (host.out / "a.chain").read_bytes() == (host.home / "chain").read_bytes()
    assert not host.make(chain=True).changed
    # Nothing was said of the chain.
    assert not host.make().changed
    assert host.events() == ["exported a", "exported a"]
    assert sorted(host.retract()) == [str(host.out / "a"), str(host.out / "a.chain")]
    assert (host.files, host.live) == ([], [])


def test_chain_of_two_exports_goes_with_the_last(host: Host) -> None:
    host.make("a", chain="chain")
    host.make("b", chain="chain")
    assert host.retract("a") == [str(host.out / "a")]
    assert host.retract("b") == [str(host.out / "b"), str(host.out / "chain")]


def test_something_else_in_place_of_the_chain_is_left(host: Host, systemd: Systemd) -> None:
    host.make(chain=True, expires_in=60)
    (host.out / "a.chain").write_bytes(b"of somebody else\n")
    host.later(60)
    assert host.exports().tidy() == [str(host.out / "a")]
    assert (host.files, host.live, systemd.timers) == (["a.chain"], [], [])


def test_link_in_place_of_the_chain_is_told(host: Host, systemd: Systemd) -> None:
    host.make(chain=True, expires_in=60)
    (host.out / "a.chain").unlink()
    (host.out / "a.chain").symlink_to(host.home / "chain")
    host.later(60)
    refused(CustodyError, "destination_unsafe", lambda: host.exports().tidy())
    # The key is gone all the same; the export stays in the record until somebody looked at the link.
    assert (host.files, len(host.live)) == (["a.chain"], 1)
    (host.out / "a.chain").unlink()
    host.exports().tidy()
    nothing_left(host, systemd)


@pytest.mark.parametrize("terms", [{}, {"once": True}, {"expires_in": 60}], ids=["plain", "once", "end"])
def test_other_terms_or_another_key_are_refused(
    terms: dict[str, t.Any], host: Host, systemd: Systemd, other_p256: t.Any
) -> None:
    host.make(**terms)
    before = (host.record.read_bytes(), systemd.timers, systemd.rules, bench.private_files(host.out))
    for others in ({}, {"once": True}, {"expires_in": 60}, {"expires_in": 61}, {"expires_in": 60, "once": True}):
        for dry_run in (True, False):
            if others == terms:
                assert not host.make(dry_run=dry_run, **others).changed
            else:
                error = refused(KeyFileError, "key_mismatch", functools.partial(host.make, dry_run=dry_run, **others))
                assert "state: absent" in error.advice
    (host.home / "key").write_bytes(bench.key_pem(other_p256))
    host.source = sources.Source(str(host.home / "key"), None)
    refused(KeyFileError, "key_mismatch", lambda: host.make(**terms))
    assert (host.record.read_bytes(), systemd.timers, systemd.rules, bench.private_files(host.out)) == before


def test_chain_of_an_export_with_an_end_is_not_changed(host: Host, systemd: Systemd) -> None:
    """Its timer knows the files."""
    host.make(expires_in=60)
    refused(KeyFileError, "key_mismatch", lambda: host.make(expires_in=60, chain=True))
    assert host.files == ["a"]


@pytest.mark.parametrize("terms", [{"once": True}, {"expires_in": 60}], ids=["once", "end"])
def test_export_with_an_end_is_not_exported_again(terms: dict[str, t.Any], host: Host, systemd: Systemd) -> None:
    host.make(**terms)
    host.source = sources.Source(str(host.out / "a"), None)
    error = refused(KeyFileError, "input_invalid", lambda: host.make("b", **terms), "its copies would outlive it")
    assert "Export from the key itself" in error.advice
    assert host.files == ["a"]


def test_export_without_an_end_may_be_exported_again(host: Host) -> None:
    host.make(wanted=LOCKED)
    host.source = sources.Source(str(host.out / "a"), None, PASSPHRASE)
    host.make("b")
    assert (host.out / "b").read_bytes() == bench.key_pem(host.key)


# With an end ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chain", [False, True])
def test_export_with_an_end_is_recorded_armed_and_written(chain: bool, host: Host, systemd: Systemd) -> None:
    planned = host.make(chain=chain, expires_in=60, dry_run=True)
    assert (host.files, systemd.timers, systemd.rules, host.record.exists()) == ([], [], [], False)
    outcome = host.make(chain=chain, expires_in=60)
    made = outcome.made
    assert planned.made.enforced_by == made.enforced_by == (
        "systemd_timer", "tmpfiles_age", "tmpfiles_boot", "check_at_use",
    )
    own = [str(host.out / "a"), str(host.out / ".a.hallmark-new"), *([str(host.out / "a.chain")] if chain else [])]
    rule = str(systemd.persistent / f"hallmark-export-{made.export_id}.conf")
    assert systemd.timers == [f"hallmark-export-{made.export_id}.timer"]
    assert systemd.rules == [rule]
    said = systemd.arguments(systemd.timers[0])
    assert "--on-calendar=2028-03-01 00:00:30 UTC" in said
    assert "--on-active=60s" in said
    assert "--timer-property=AccuracySec=1s" in said
    assert "--timer-property=RemainAfterElapse=no" in said
    assert said[-len(own) - 3:] == ["-f", "--", *own, rule]
    assert os.path.basename(said[-len(own) - 4]) == "rm"
    assert pathlib.Path(rule).read_text().splitlines()[1:] == [
        *(f"r! {path}" for path in (*own, rule)), f"e {host.out} - - - cm:60s",
    ]
    (event,) = outcome.events
    assert (event["enforced_by"], event["expires_at"]) == (list(made.enforced_by), "2028-03-01T00:00:30Z")
    again = host.make(chain=chain, expires_in=60)
    assert (again.changed, again.made) == (False, made)
    systemd.fire()
    assert (host.files, systemd.rules) == ([], [])


def test_order_is_record_timer_copy(host: Host, systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    genuine_run, genuine_create = expiry._run, private_file.PrivateFolder.create

    def asked(argv: t.Sequence[str]) -> subprocess.CompletedProcess[str]:
        if argv[0] == "systemd-run":
            assert host.events() == ["exported a"]
            steps.append("timer")
        return genuine_run(argv)

    def create(folder: t.Any, name: str, data: bytes, wanted: Attributes) -> None:
        steps.append(name)
        genuine_create(folder, name, data, wanted)

    monkeypatch.setattr(expiry, "_run", asked)
    monkeypatch.setattr(private_file.PrivateFolder, "create", create)
    host.make(expires_in=60)
    assert [step for step in steps if "hallmark-export" not in step] == ["timer", "a"]


def test_boot_takes_the_copy_and_its_rule_away_and_no_later_file(host: Host, systemd: Systemd) -> None:
    host.make(expires_in=3600)
    systemd.boot()
    assert (host.files, systemd.rules) == ([], [])
    (host.out / "a").write_bytes(b"a file that stays")
    systemd.boot()
    assert host.files == ["a"]


def test_what_a_killed_writer_left_goes_with_the_copy(host: Host, systemd: Systemd) -> None:
    host.make(expires_in=60)
    os.rename(host.out / "a", host.out / ".a.hallmark-new")
    systemd.fire()
    assert host.files == []


@pytest.mark.parametrize("way", ["tidy", "make", "retract", "sweep"])
def test_whatever_comes_next_takes_away_what_a_killed_writer_left(way: str, host: Host, systemd: Systemd) -> None:
    host.make(expires_in=60)
    os.rename(host.out / "a", host.out / ".a.hallmark-new")
    if way == "make":
        host.make(expires_in=60)
    elif way == "retract":
        assert host.retract() == []
    elif way == "sweep":
        host.exports().sweep([], host.key_id, passphrase=None)
    else:
        host.exports().tidy()
    assert host.files == (["a"] if way == "make" else [])
    assert len(systemd.timers) == len(systemd.rules) == len(host.live) == (1 if way == "make" else 0)


def test_leftover_beside_a_whole_copy_is_taken_away(host: Host, systemd: Systemd) -> None:
    host.make(expires_in=60, chain=True)
    for name in ("a", "a.chain"):
        os.link(host.out / name, host.out / f".{name}.hallmark-new")
    assert not host.make(expires_in=60, chain=True).changed
    assert host.files == ["a", "a.chain"]


@pytest.mark.parametrize("dry_run", [False, True])
def test_copy_whose_time_is_over_is_exported_anew(dry_run: bool, host: Host, systemd: Systemd) -> None:
    """Its timer was stopped: nobody took it away."""
    first = host.make(expires_in=60, chain=True).made
    host.later(60)
    outcome = host.make(expires_in=60, chain=True, dry_run=dry_run)
    assert (outcome.changed, outcome.chain_changed, outcome.copied.former_mode) == (True, True, None)
    if dry_run:
        assert (host.events(), len(systemd.timers)) == (["exported a"], 1)
        return
    assert outcome.made.export_id != first.export_id
    assert host.events() == ["exported a", "expired a", "exported a"]
    assert [event["event"] for event in outcome.events] == ["expired", "exported"]
    assert systemd.timers == [f"hallmark-export-{outcome.made.export_id}.timer"]
    assert len(systemd.rules) == 1


@pytest.mark.parametrize("dry_run", [False, True])
def test_tidy_ends_what_is_over_or_gone(dry_run: bool, host: Host, systemd: Systemd) -> None:
    for name, terms in {
        "over": {"expires_in": 60}, "gone": {"expires_in": 3600}, "used": {"once": True}, "stays": {"expires_in": 3600},
        "plain": {},
    }.items():
        host.make(name, chain=True, **terms)
    for name in ("gone", "used"):
        (host.out / name).unlink()
    host.later(60)
    before = host.files
    assert host.exports(dry_run=dry_run).tidy() == [
        str(host.out / name) for name in ("over", "over.chain", "gone.chain", "used.chain")
    ]
    if dry_run:
        assert (host.files, len(host.live), len(systemd.timers)) == (before, 5, 3)
        return
    assert host.files == ["plain", "plain.chain", "stays", "stays.chain"]
    assert host.events()[5:] == ["expired over", "gone gone", "gone used"]
    assert (len(systemd.timers), len(systemd.rules)) == (1, 1)
    assert host.exports().tidy() == []


def test_copy_without_an_end_that_somebody_took_away_leaves_its_chain(host: Host) -> None:
    host.make(chain=True)
    (host.out / "a").unlink()
    assert host.exports().tidy() == []
    assert (host.files, host.events()) == (["a.chain"], ["exported a", "gone a"])


def test_tidy_is_not_kept_from_the_others_by_one(host: Host, systemd: Systemd) -> None:
    for name in ("a", "b", "c"):
        host.make(name, expires_in=60)
    (host.out / "b").unlink()
    (host.out / "b").symlink_to(host.home / "key")
    host.later(61)
    refused(CustodyError, "destination_unsafe", lambda: host.exports().tidy())
    assert (host.files, [made.path for made in host.live]) == (["b"], [str(host.out / "b")])
    assert len(systemd.timers) == 1


def test_nothing_to_tidy_writes_nothing(host: Host) -> None:
    assert host.exports().tidy() == []
    assert not host.record.exists()


def test_timer_that_is_gone_is_armed_again(host: Host, systemd: Systemd) -> None:
    made = host.make(expires_in=600).made
    (systemd.units / systemd.timers[0]).unlink()
    host.later(100)
    assert host.make(expires_in=600, dry_run=True).changed
    assert systemd.timers == []
    # Also where something else changes, too.
    outcome = host.make(wanted=dataclasses.replace(PLAIN, attributes=Attributes(0o400)), expires_in=600)
    assert (outcome.changed, outcome.made.export_id) == (True, made.export_id)
    said = systemd.arguments(systemd.timers[0])
    assert "--on-active=500s" in said
    assert "--on-calendar=2028-03-01 00:09:30 UTC" in said
    # It is as old as the whole span when it ends.
    assert "cm:600s" in pathlib.Path(systemd.rules[0]).read_text()
    assert not host.make(wanted=dataclasses.replace(PLAIN, attributes=Attributes(0o400)), expires_in=600).changed


def test_second_file_takes_the_age_out_of_the_rule(host: Host, systemd: Systemd) -> None:
    host.make("a", expires_in=60)
    second = host.make("b", expires_in=60).made
    assert "tmpfiles_age" not in second.enforced_by
    again = host.make("a", expires_in=60)
    assert (again.changed, again.made.enforced_by) == (False, ("systemd_timer", "tmpfiles_boot", "check_at_use"))
    assert all("\ne " not in pathlib.Path(rule).read_text() for rule in systemd.rules)


@pytest.mark.parametrize("what", ["copy", "chain"])
def test_export_without_an_end_takes_the_age_out_of_the_rule(what: str, host: Host, systemd: Systemd) -> None:
    host.make("a", expires_in=60)
    chain = host.out / "chain" if what == "chain" else None
    dest = host.out / "b" if what == "copy" else host.home / "elsewhere" / "b"
    host.exports().make(
        host.source, str(dest), PLAIN, Terms(), chain_dest=str(chain) if chain else None, same_format=True
    )
    assert "\ne " not in pathlib.Path(systemd.rules[0]).read_text()


def test_export_elsewhere_changes_no_rule(host: Host, systemd: Systemd) -> None:
    host.make("a", expires_in=60)
    host.make("deeper/b", expires_in=60)
    assert ["\ne " in pathlib.Path(rule).read_text() for rule in systemd.rules].count(True) == 2
    assert "tmpfiles_age" in host.make("a", expires_in=60).made.enforced_by


def test_folder_with_something_else_is_not_aged(host: Host, systemd: Systemd) -> None:
    host.out.mkdir(mode=0o700)
    (host.out / "other").touch()
    assert "tmpfiles_age" not in host.make(expires_in=60).made.enforced_by
    assert "\ne " not in pathlib.Path(systemd.rules[0]).read_text()


def test_memory_needs_no_boot_rule_on_disk(host: Host, systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "mount_of", lambda path, **_more: storage.Mount("/run", "tmpfs", "tmpfs"))
    made = host.make(expires_in=60).made
    assert made.enforced_by == ("systemd_timer", "tmpfiles_age", "memory", "check_at_use")
    assert systemd.rules == [str(systemd.volatile / f"hallmark-export-{made.export_id}.conf")]
    # What it lies on now says nothing of where the rule is.
    monkeypatch.setattr(storage, "mount_of", lambda path, **_more: None)
    host.retract()
    assert (systemd.rules, systemd.timers) == ([], [])


@pytest.mark.parametrize(("unit", "lost"), [
    ("systemd-tmpfiles-clean.timer", "tmpfiles_age"), ("systemd-tmpfiles-setup.service", "tmpfiles_boot"),
])
@pytest.mark.parametrize("dry_run", [False, True])
def test_what_systemd_does_not_do_is_not_promised(
    unit: str, lost: str, dry_run: bool, host: Host, systemd: Systemd
) -> None:
    (systemd.units / unit).unlink()
    assert lost not in host.make(expires_in=60, dry_run=dry_run).made.enforced_by


# What goes wrong -----------------------------------------------------------------------------------------------------


def nothing_left(host: Host, systemd: Systemd) -> None:
    assert (host.files, systemd.timers, systemd.rules, host.live) == ([], [], [], [])


FAILURES: dict[str, tuple[str, str]] = {
    "systemd-run": ("exit 1", "systemd-run: the timer is not active"),
    "says why": ('echo "Failed to start\nno bus" >&2; exit 1', "systemd-run: no bus"),
    "arms nothing": ("exit 0", "systemd-run: the timer is not active"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_timer_that_cannot_be_armed_leaves_nothing(failure: str, host: Host, systemd: Systemd) -> None:
    does, cause = FAILURES[failure]
    systemd.program("systemd-run", does)
    error = refused(CustodyError, "expiry_unenforceable", lambda: host.make(expires_in=60), cause)
    assert error.object == str(host.out / "a")
    nothing_left(host, systemd)
    assert host.events() == ["exported a", "removed a"]


def test_rule_that_cannot_be_written_leaves_nothing(host: Host, systemd: Systemd) -> None:
    systemd.persistent.symlink_to(host.home / "nowhere" / "deeper")
    (host.home / "nowhere").write_bytes(b"")
    refused(CustodyError, "destination_unsafe", lambda: host.make(expires_in=60))
    assert (host.files, systemd.timers) == ([], [])
    # Nobody can tell whether the rule is there: the record keeps the export until somebody can.
    assert len(host.live) == 1
    systemd.persistent.unlink()
    host.exports().tidy()
    nothing_left(host, systemd)


def test_timer_that_fires_before_the_copy_is_written_leaves_nothing(
    host: Host, systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk may hang for longer than a copy shall live."""
    genuine = private_file.PrivateFolder.create

    def create(folder: t.Any, name: str, data: bytes, wanted: Attributes) -> None:
        if name == "a":
            systemd.fire()
        genuine(folder, name, data, wanted)

    monkeypatch.setattr(private_file.PrivateFolder, "create", create)
    refused(CustodyError, "expiry_unenforceable", lambda: host.make(expires_in=1), "its timer was gone")
    nothing_left(host, systemd)


@pytest.mark.parametrize("terms", [{}, {"once": True}, {"expires_in": 60}], ids=["plain", "once", "end"])
@pytest.mark.parametrize("where", ["key", "chain"])
def test_write_that_fails_leaves_no_key_with_an_end(
    where: str, terms: dict[str, t.Any], host: Host, systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = private_file.PrivateFolder.create

    def create(folder: t.Any, name: str, data: bytes, wanted: Attributes) -> None:
        if name == ("a" if where == "key" else "a.chain"):
            raise CustodyError(code="write_failed", object=name, attempt="write it", cause="full", advice="")
        genuine(folder, name, data, wanted)

    monkeypatch.setattr(private_file.PrivateFolder, "create", create)
    refused(CustodyError, "write_failed", lambda: host.make(chain=True, **terms))
    if terms or where == "key":
        nothing_left(host, systemd)
        assert host.events() == ["exported a", "removed a"]
    else:
        # It is what was asked for, and recorded; the next run adds the chain.
        assert (host.files, len(host.live)) == (["a"], 1)
    monkeypatch.undo()


def test_failure_is_told_also_where_the_copy_cannot_be_taken_away(
    host: Host, systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the timer and the record stay: they still have something to end."""
    genuine = private_file.PrivateFolder.create

    def create(folder: t.Any, name: str, data: bytes, wanted: Attributes) -> None:
        genuine(folder, name, data, wanted)
        if name == "a":
            raise CustodyError(code="write_failed", object=name, attempt="write it", cause="full", advice="")

    def remove(_folder: t.Any, name: str) -> None:
        raise CustodyError(code="write_failed", object=name, attempt="remove it", cause="not now", advice="")

    monkeypatch.setattr(private_file.PrivateFolder, "create", create)
    monkeypatch.setattr(private_file.PrivateFolder, "remove", remove)
    refused(CustodyError, "write_failed", lambda: host.make(expires_in=60), "full")
    assert (host.files, len(systemd.timers), len(host.live)) == (["a"], 1, 1)


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("why", ["not root", "no systemd", "no program", "path"])
def test_end_that_cannot_be_enforced_is_refused(
    why: str, dry_run: bool, host: Host, systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, code, cause = "a", "expiry_unenforceable", "this host was not booted with systemd"
    if why == "not root":
        monkeypatch.setattr(expiry, "_is_root", lambda: False)
        cause = "only root can arm a timer"
    elif why == "no systemd":
        monkeypatch.setattr(expiry, "_BOOTED", str(host.home / "missing"))
    elif why == "no program":
        monkeypatch.setenv("PATH", str(host.home))
    else:
        name, code, cause = "a b", "input_invalid", "it has other characters"
    error = refused(CustodyError, code, lambda: host.make(name, expires_in=60, dry_run=dry_run), cause)
    assert error.object == str(host.out / name)
    assert not host.record.exists()
    nothing_left(host, systemd)


@pytest.mark.parametrize(
    "name", ["a b", "a%n", "a$HOME", "a*", "a?", "a[b]", "a\\b", "a'b", 'a"b', "a;b", "ä", "a\nb", "a~", "a#"]
)
def test_path_that_means_something_to_units_is_refused(name: str, host: Host, systemd: Systemd) -> None:
    refused(CustodyError, "input_invalid", lambda: host.make(name, expires_in=60))
    refused(CustodyError, "input_invalid", lambda: host.make("a", chain=name, expires_in=60))
    # Without an end, no unit names it.
    host.make(name)


def test_network_file_system_is_refused_with_nothing_left(
    host: Host, systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "mount_of", lambda path, **_more: storage.Mount("/mnt", "nfs4", "server:/"))
    monkeypatch.setattr(recipient, "require", lambda text: "age")
    for terms in ({}, {"expires_in": 60}, {"once": True}, {"recipient": RECIPIENT}):
        refused(CustodyError, "destination_unsafe", functools.partial(host.make, **terms), "kept by another machine")
    nothing_left(host, systemd)
    assert (host.out.exists(), host.record.exists()) == (False, False)


@pytest.mark.parametrize("mode", [0o1777, 0o777, 0o770])
def test_folder_of_all_is_refused_with_nothing_left(mode: int, host: Host, systemd: Systemd) -> None:
    host.out.mkdir()
    host.out.chmod(mode)
    for terms in ({}, {"expires_in": 60}, {"once": True}):
        refused(CustodyError, "destination_unsafe", functools.partial(host.make, **terms))
    nothing_left(host, systemd)
    assert not host.record.exists()


# Removing ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("terms", [{}, {"once": True}, {"expires_in": 60}], ids=["plain", "once", "end"])
def test_removed_export_leaves_no_timer_and_no_rule(terms: dict[str, t.Any], host: Host, systemd: Systemd) -> None:
    host.make(chain=True, **terms)
    paths = [str(host.out / "a"), str(host.out / "a.chain")]
    assert host.retract(dry_run=True) == paths
    assert host.events() == ["exported a"]
    assert host.retract() == paths
    nothing_left(host, systemd)
    assert host.events() == ["exported a", "removed a"]
    assert host.retract() == []
    assert host.events() == ["exported a", "removed a"]


def test_removing_what_is_gone_says_so(host: Host) -> None:
    host.make(once=True)
    (host.out / "a").unlink()
    assert host.retract() == []
    assert host.events() == ["exported a", "gone a"]


def test_removing_what_was_never_recorded_makes_no_record(host: Host) -> None:
    host.out.mkdir(mode=0o700)
    (host.out / "a").write_bytes(bench.key_pem(host.key))
    assert host.retract() == [str(host.out / "a")]
    assert (host.files, host.record.exists()) == ([], False)


def test_rule_that_cannot_be_removed_keeps_the_export_in_the_record(host: Host, systemd: Systemd) -> None:
    host.make(expires_in=60)
    rule = pathlib.Path(systemd.rules[0])
    rule.write_text("r /etc/something/else\n")
    refused(CustodyError, "destination_occupied", host.retract)
    assert (host.files, len(host.live), rule.exists()) == ([], 1, True)
    rule.unlink()
    assert host.exports().tidy() == []
    assert host.live == []


# What is not ours ----------------------------------------------------------------------------------------------------


def forge(host: Host, **members: t.Any) -> None:
    """Write a line that says what was never exported."""
    made = export_record.Export(**{
        "export_id": "0" * 16, "key_id": host.key_id, "source": "/x", "path": "/x", "chain_path": None, "format": "pem",
        "encrypted": False, "mode": "0600", "expires_in": None, "expires_at": "2001-01-01T00:00:00Z", "once": False,
        "enforced_by": (), **members,
    })
    journal.append(str(host.record), {"event": "exported", **dataclasses.asdict(made)})


@pytest.mark.parametrize(
    "what", ["text", "other key", "encrypted key", "key", "chain", "public", "empty", "other lease", "two keys"]
)
@pytest.mark.parametrize("terms", [
    {}, {"expires_at": None, "once": True}, {"expires_at": None, "encrypted": True},
    {"expires_at": None, "chain_path": "same"},
], ids=["over", "once", "encrypted", "chain"])
def test_forged_line_removes_nothing(
    what: str, terms: dict[str, t.Any], host: Host, other_p256: t.Any, private_pem: t.Any, public_pem: t.Any
) -> None:
    data = {
        "text": b"root:*:19000:0:99999:7:::\n", "other key": bench.key_pem(other_p256),
        "encrypted key": private_pem(host.key, PASSPHRASE), "key": bench.key_pem(host.key),
        "chain": bench.chain_pem(other_p256),
        "public": public_pem(host.key), "empty": b"",
        "other lease": lease.Lease("1" * 16, NOW).encode() + bench.key_pem(host.key),
        "two keys": bench.key_pem(host.key) + bench.key_pem(other_p256),
    }[what]
    victim = host.home / "victim"
    victim.write_bytes(data)
    chain = {"chain_path": str(victim), "expires_at": None} if "chain_path" in terms else {}
    forge(host, **{**terms, "path": str(host.home / "none") if chain else str(victim), **chain})
    for action in (
        lambda: host.exports().tidy(), lambda: host.exports().sweep([], host.key_id, passphrase=None),
    ):
        with contextlib.suppress(HallmarkError):
            action()
    assert victim.read_bytes() == data


def test_sweep_says_what_stands_where_an_export_was(host: Host, other_p256: t.Any) -> None:
    host.make()
    (host.out / "a").write_bytes(bench.key_pem(other_p256))
    assert host.exports().sweep([], host.key_id, passphrase=None) == ([], [str(host.out / "a")])
    assert (host.files, host.live) == (["a"], [])


@pytest.mark.parametrize("members", [
    {"export_id": "../../../etc/x"}, {"export_id": "A" * 16}, {"export_id": 5}, {"path": "relative"}, {"path": 5},
    {"path": None},
    {"expires_at": "yesterday"}, {"expires_at": 5}, {"enforced_by": None}, {"enforced_by": 5},
])
def test_line_that_is_no_export_is_an_error(members: dict[str, t.Any], host: Host) -> None:
    forge(host)
    line = {"event": "exported", **dataclasses.asdict(host_line(host)), **members}
    journal.append(str(host.record), line)
    refused(CustodyError, "journal_broken", host.exports, "line 2: it is no export of ours")


def host_line(host: Host) -> export_record.Export:
    return next(iter(export_record.live(str(host.record)).values()))


def test_line_without_a_field_is_an_error_and_one_more_is_not(host: Host) -> None:
    forge(host)
    line = {"event": "exported", **dataclasses.asdict(host_line(host)), "from_the_future": 1}
    journal.append(str(host.record), line)
    assert len(host.live) == 1
    del line["mode"]
    journal.append(str(host.record), line)
    refused(CustodyError, "journal_broken", host.exports, "line 3")


# The sweep -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dry_run", [False, True])
def test_sweep_takes_recorded_and_other_copies(dry_run: bool, host: Host, systemd: Systemd, other_p256: t.Any) -> None:
    host.make("a", expires_in=60, chain=True)
    host.make("b", LOCKED)
    below = host.home / "below"
    (below / "deeper").mkdir(parents=True)
    (below / "deeper" / "copy").write_bytes(bench.key_pem(host.key))
    (below / "other").write_bytes(bench.key_pem(other_p256))
    (below / "locked").write_bytes(writing.write_private_key(host.key, format="pem", passphrase=PASSPHRASE))
    removed, unknown = host.exports(dry_run=dry_run).sweep([str(below), str(host.out)], host.key_id, passphrase=None)
    assert removed == [str(host.out / name) for name in ("a", "a.chain", "b")] + [str(below / "deeper" / "copy")]
    assert unknown == [str(below / "locked")]
    if dry_run:
        assert (len(host.live), len(systemd.timers), len(host.files)) == (2, 1, 3)
        return
    nothing_left(host, systemd)
    assert sorted(os.listdir(below)) == ["deeper", "locked", "other"]
    removed, unknown = host.exports().sweep([str(below)], host.key_id, passphrase=PASSPHRASE)
    assert (removed, unknown, sorted(os.listdir(below))) == ([str(below / "locked")], [], ["deeper", "other"])


@pytest.mark.parametrize("is_link", [False, True])
def test_sweep_keeps_what_it_is_told_to(is_link: bool, host: Host) -> None:
    host.make("a")
    (below := host.home / "below").mkdir()
    (beside := host.home / "below-not").mkdir()
    for folder in (below, beside):
        (folder / "copy").write_bytes(bench.key_pem(host.key))
    (link := host.home / "link").symlink_to(below)
    searched = [str(host.home / "below"), str(beside)]
    keep = [str(host.out), str(link if is_link else below)]
    assert host.exports().sweep(searched, host.key_id, passphrase=None, keep=keep) == ([str(beside / "copy")], [])
    assert (below / "copy").exists()
    assert host.files == ["a"]
    assert host.events() == ["exported a"]


def test_sweep_ends_what_was_used_up(host: Host) -> None:
    host.make(once=True)
    (host.out / "a").unlink()
    assert host.exports().sweep([], host.key_id, passphrase=None) == ([], [])
    assert host.events() == ["exported a", "gone a"]


def test_sweep_without_a_record_makes_none(host: Host) -> None:
    assert host.exports().sweep([], host.key_id, passphrase=None) == ([], [])
    assert not host.record.exists()


# To a recipient ------------------------------------------------------------------------------------------------------


@pytest.fixture
def age(systemd: Systemd) -> Systemd:
    """A program that stands for age: it shows what it was given, in its armor."""
    systemd.program("age", f"""
        echo '{recipient.BEGIN.decode()}'
        tr 'A-Za-z' 'N-ZA-Mn-za-m'
        echo '-----END AGE ENCRYPTED FILE-----'
    """)
    return systemd


def test_sealed_copy_is_known_by_its_record(host: Host, age: Systemd, assert_hides: Hides) -> None:
    planned = host.make(recipient=RECIPIENT, expires_in=60, chain=True, dry_run=True)
    assert (host.files, age.timers) == ([], [])
    outcome = host.make(recipient=RECIPIENT, expires_in=60, chain=True)
    data = (host.out / "a").read_bytes()
    assert data.startswith(recipient.BEGIN)
    assert_hides(RuntimeError(data, age.calls), bench.key_pem(host.key))
    assert [call for call in age.calls if call.startswith("age ")] == [f"age --armor --recipient {RECIPIENT}"]
    for one in (planned, outcome):
        assert (one.copied.encrypted, one.copied.former_mode, one.made.recipient) == (True, None, RECIPIENT)
    assert (host.live[0].encrypted, host.live[0].recipient) == (True, RECIPIENT)
    assert not host.make(recipient=RECIPIENT, expires_in=60, chain=True).changed
    changed = host.make(
        wanted=dataclasses.replace(PLAIN, attributes=Attributes(0o400)), recipient=RECIPIENT, expires_in=60
    )
    assert (
        changed.changed, changed.copied.former_mode, (host.out / "a").stat().st_mode & 0o777
    ) == (True, "0600", 0o400)
    assert host.retract(key_id=host.key_id) == [str(host.out / "a"), str(host.out / "a.chain")]
    nothing_left(host, age)


@pytest.mark.parametrize("terms", [{}, {"recipient": RECIPIENT}], ids=["plain", "sealed"])
def test_dry_run_leaves_what_a_killed_writer_left(terms: dict[str, t.Any], host: Host, age: Systemd) -> None:
    host.make(**terms)
    for name in (".a.hallmark-new", ".b.hallmark-new"):
        (host.out / name).write_bytes(b"half a key")
    for name in "ab":
        host.make(name, dry_run=True, **terms)
    host.retract(dry_run=True)
    host.exports(dry_run=True).tidy()
    host.exports(dry_run=True).sweep([], host.key_id, passphrase=None)
    assert host.files == [".a.hallmark-new", ".b.hallmark-new", "a"]


def test_sealed_copy_carries_its_lease(host: Host, age: Systemd) -> None:
    made = host.make(recipient=RECIPIENT, expires_in=60).made
    body = (host.out / "a").read_text().splitlines()[1:-1]
    plain = subprocess.run(
        ["tr", "A-Za-z", "N-ZA-Mn-za-m"], input="\n".join(body) + "\n", capture_output=True, text=True, check=True
    ).stdout.encode()
    found = lease.read(plain, where="a")
    assert found is not None
    assert (found.export_id, found.end) == (made.export_id, made.expires_at)
    assert private_key.read_private_key(plain, passphrase=None, where="a").public.key_id == host.key_id


def test_other_sealed_file_is_not_taken_for_the_copy(host: Host, age: Systemd) -> None:
    host.out.mkdir(mode=0o700)
    (host.out / "a").write_bytes(recipient.BEGIN + b"\n")
    refused(CustodyError, "destination_occupied", lambda: host.make(recipient=RECIPIENT))
    assert host.live == []
    host.make("b", recipient=RECIPIENT)
    (host.out / "b").write_bytes(b"something else")
    refused(CustodyError, "destination_occupied", lambda: host.make("b", recipient=RECIPIENT))
    assert (host.out / "b").read_bytes() == b"something else"


@pytest.mark.parametrize("dry_run", [False, True])
def test_recipient_without_the_program_is_refused(
    dry_run: bool, host: Host, systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(systemd.programs))
    refused(CustodyError, "not_found", lambda: host.make(recipient=RECIPIENT, dry_run=dry_run))
    assert (host.files, host.record.exists()) == ([], False)


def test_program_that_fails_leaves_nothing(host: Host, age: Systemd) -> None:
    age.program("age", 'cat >&2; exit 1')
    error = refused(CustodyError, "write_failed", lambda: host.make(recipient=RECIPIENT, expires_in=60), "status 1")
    assert bench.key_pem(host.key).decode().splitlines()[1] not in str(error)
    nothing_left(host, age)


# Several at once -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("terms", [{}, {"once": True}, {"expires_in": 3600}], ids=["plain", "once", "end"])
def test_exports_to_one_place_at_once_make_one_copy(terms: dict[str, t.Any], host: Host, systemd: Systemd) -> None:
    def make() -> tuple[bool, str]:
        outcome = host.make(chain=True, **terms)
        return outcome.changed, outcome.made.export_id

    for round_number in range(5):
        waits = [bench.in_child(make) for _process in range(4)]
        found = [wait() for wait in waits]
        assert [changed for changed, _id in found].count(True) == 1, round_number
        assert len({export_id for _changed, export_id in found}) == 1
        assert (host.files, len(host.live)) == (["a", "a.chain"], 1)
        assert len(systemd.timers) == len(systemd.rules) == (1 if "expires_in" in terms else 0)
        host.retract()


def test_what_the_system_refuses_once_is_told_at_once(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    # Only what stands in the way may be the work of another process, and is looked at again.
    host.make("other")
    refusals = [CustodyError(code="write_failed", object="a", attempt="look", cause="refused", advice="Run again.")]
    real = sources.ensure_chain

    def refusing(*arguments: t.Any, **options: t.Any) -> bool:
        if refusals:
            raise refusals.pop()
        return real(*arguments, **options)

    monkeypatch.setattr(sources, "ensure_chain", refusing)
    with pytest.raises(CustodyError) as caught:
        host.make("a")
    assert caught.value.code == "write_failed"
    assert host.files == ["other"]


def test_making_and_removing_at_once_leaves_record_and_copy_alike(host: Host, systemd: Systemd) -> None:
    def work(makes: bool) -> None:
        for _round in range(8):
            # The other may have taken it away, or made it, in between: that is told.
            with contextlib.suppress(HallmarkError):
                host.make(expires_in=3600) if makes else host.retract()

    for wait in [bench.in_child(lambda makes=makes: work(makes)) for makes in (True, False, True)]:
        wait()
    there = host.files == ["a"]
    assert len(host.live) == len(systemd.timers) == len(systemd.rules) == int(there)
    host.retract()
    nothing_left(host, systemd)


# Dying ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def quick(systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> Systemd:
    """The same systemd without processes: a test that kills a thousand times starts no ten thousand."""

    def run(argv: t.Sequence[str]) -> subprocess.CompletedProcess[str]:
        status = 0
        if argv[0] == "systemd-run":
            unit = next(word[7:] for word in argv if word.startswith("--unit="))
            with open(systemd.units / f"{unit}.timer", "w") as stream:
                stream.write("\n".join([*argv[1:], ""]))
        elif argv[1] == "stop":
            with contextlib.suppress(FileNotFoundError):
                (systemd.units / argv[3]).unlink()
        elif argv[1] in ("is-active", "is-enabled"):
            status = int(not (systemd.units / argv[3]).exists())
        return subprocess.CompletedProcess(argv, status, "systemd 252 (252)" if argv[1] == "--version" else "", "")

    monkeypatch.setattr(expiry, "_run", run)
    return systemd


def consistent(host: Host, systemd: Systemd, place: str) -> None:
    """Assert that everything there is has its record, and everything with an end its timer."""
    known = {made.path: made for made in host.live}
    timers = {name[len("hallmark-export-"):-len(".timer")]: systemd.arguments(name) for name in systemd.timers}
    for name in host.files:
        path = str(host.out / name)
        target = str(host.out / name[1:-len(".hallmark-new")]) if name.startswith(".") else path
        if target.endswith(".chain"):
            continue
        assert target in known, (place, name)
        made = known[target]
        if made.expires_in is not None:
            assert made.export_id in timers, (place, name)
            assert path in timers[made.export_id], (place, name)
        assert os.stat(path).st_mode & 0o077 == 0, (place, name)
    ids = {made.export_id for made in host.live}
    assert set(timers) <= ids, place
    for rule in systemd.rules:
        if not os.path.basename(rule).startswith("."):
            assert os.path.basename(rule)[len("hallmark-export-"):-len(".conf")] in timers, (place, rule)


@pytest.mark.parametrize("terms", [{}, {"once": True}, {"expires_in": 3600}], ids=["plain", "once", "end"])
def test_death_while_exporting_is_made_whole(terms: dict[str, t.Any], host: Host, quick: Systemd) -> None:
    for place in bench.deaths(lambda: host.make(chain=True, **terms).made.export_id, bench.CHANGES):
        consistent(host, quick, place)
        host.make(chain=True, **terms)
        consistent(host, quick, place)
        assert (host.files, len(host.live)) == (["a", "a.chain"], 1), place
        assert len(quick.timers) == len(quick.rules) == (1 if "expires_in" in terms else 0), place
        host.retract()
        nothing_left(host, quick)


@pytest.mark.parametrize("way", ["retract", "tidy", "sweep"])
def test_death_while_ending_is_made_whole(way: str, host: Host, quick: Systemd) -> None:
    def end() -> None:
        if way == "retract":
            host.retract()
        elif way == "tidy":
            host.exports().tidy()
        else:
            host.exports().sweep([str(host.out)], host.key_id, passphrase=None)

    start = host.now
    host.make(chain=True, expires_in=60)
    host.later(60 if way == "tidy" else 0)
    for place in bench.deaths(end, bench.CHANGES):
        consistent(host, quick, place)
        end()
        nothing_left(host, quick)
        host.now = start
        host.make(chain=True, expires_in=60)
        host.later(60 if way == "tidy" else 0)


def test_timers_end_what_death_left(host: Host, quick: Systemd) -> None:
    """Also where no next run comes."""
    for place in bench.deaths(lambda: host.make(expires_in=3600).made.export_id, bench.CHANGES):
        quick.fire()
        assert (host.files, [rule for rule in quick.rules if "/." not in rule]) == ([], []), place
        host.exports().tidy()
        assert host.live == [], place


# Growth --------------------------------------------------------------------------------------------------------------


def test_record_of_ten_thousand_exports_is_used(host: Host) -> None:
    """No time is asserted: the deadline of every test is the limit."""
    host.make("first")
    made = host.live[0]
    (entry,) = journal.read(str(host.record))
    previous, lines = entry.hash, [host.record.read_bytes()]
    for number in range(2, 20_001):
        event = {
            "event": "exported", **dataclasses.asdict(made), "export_id": f"{number // 2:016x}",
            "path": f"/x/{number // 2}"
        }
        if number % 2:
            event = {"event": "removed", "export_id": event["export_id"], "path": event["path"]}
        line = json.dumps({"sequence": number, "previous": previous, **event}, separators=(",", ":")).encode()
        previous = hashlib.sha256(line).hexdigest()
        lines.append(line + b"\n")
    host.record.write_bytes(b"".join(lines))
    assert len(host.live) == 2
    assert host.make(chain=True).changed
    assert len(journal.read(str(host.record))) == 20_001
