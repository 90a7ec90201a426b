# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of who may have what signed, and how often."""

from __future__ import annotations

import datetime
import pathlib
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._custody import journal
from ansible_collections.hallmark.signing.plugins.module_utils._errors import CustodyError, VerificationError
from ansible_collections.hallmark.signing.plugins.module_utils._keyhost import claim as claims
from ansible_collections.hallmark.signing.plugins.module_utils._keyhost import limits
from ansible_collections.hallmark.signing.plugins.module_utils._oci import pattern
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._keyhost.keyhost_bench import (
    DIGEST,
    NAME,
    NOW,
)

SECOND = datetime.timedelta(seconds=1)
HOUR = datetime.timedelta(hours=1)


def _caller(name: str = "alice", per_hour: int = 2, *patterns: str) -> limits.Caller:
    return limits.Caller(name, tuple(map(pattern.parse, patterns or ("registry.example.org/acme/**",))), per_hour)


class Record:
    """A record in a file, with the moment that its clock shows."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path, self.now = str(path), NOW

    def use(self, caller: limits.Caller | None = None, annotations: t.Mapping[str, str] | None = None) -> journal.Head:
        """Record one use."""
        claim = claims.Claim("sig", DIGEST, annotations or {}, NAME)
        with journal.opened(self.path, mode=0o600) as writer:
            return limits.take_down(writer, caller or _caller(), claim, f"{NAME}@{DIGEST}", "e" * 64, now=self.now)

    def refuses(self, caller: limits.Caller | None = None) -> VerificationError:
        """Return why a use is not recorded; nothing must be written then."""
        before = self.entries
        with pytest.raises(VerificationError) as caught:
            self.use(caller)
        assert self.entries == before
        assert caught.value.code == "limit_exceeded"
        return caught.value

    @property
    def entries(self) -> tuple[journal.Entry, ...]:
        """What is in it, its chain checked."""
        return journal.read(self.path)


@pytest.fixture
def record(tmp_path: pathlib.Path) -> Record:
    (tmp_path / "keyhost").mkdir(mode=0o700)
    return Record(tmp_path / "keyhost" / "uses.jsonl")


# Repositories --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "allowed"), [
    (NAME, True), ("registry.example.org/acme/app/below", True), ("registry.example.org/acme", True),
    ("registry.example.org/acmeX/app", False), ("registry.example.org/other", False), ("docker.io/acme/app", False),
    ("registry.example.org.evil.example/acme/app", False), ("", False),
])
def test_repository_must_match_a_pattern(name: str, allowed: bool) -> None:
    caller = _caller("alice", 1, "registry.example.org/acme/**", "127.0.0.1:5000/x")
    if allowed:
        limits.require_allowed(caller, name)
        return
    with pytest.raises(VerificationError) as caught:
        limits.require_allowed(caller, name)
    assert (caught.value.code, caught.value.object) == ("reference_mismatch", name)
    assert caught.value.cause == "alice may have signed: registry.example.org/acme/**, 127.0.0.1:5000/x"


def test_each_pattern_counts() -> None:
    caller = _caller("alice", 1, "registry.example.org/one", "registry.example.org/two")
    for name in ("registry.example.org/one", "registry.example.org/two"):
        limits.require_allowed(caller, name)


def test_no_patterns_allow_nothing() -> None:
    with pytest.raises(VerificationError, match="alice may have signed: nothing"):
        limits.require_allowed(limits.Caller("alice", (), 1), NAME)


# The record ----------------------------------------------------------------------------------------------------------


def test_use_is_recorded_with_all_that_is_signed(record: Record) -> None:
    head = record.use(annotations={"build": "17"})
    (entry,) = record.entries
    assert (head.sequence, head.hash) == (entry.sequence, entry.hash) == (1, entry.hash)
    assert entry.members == {
        "sequence": 1, "previous": journal.START, "time": "2030-01-02T12:00:00Z", "event": "signed", "caller": "alice",
        "reference": f"{NAME}@{DIGEST}", "format": "sig", "docker_reference": NAME, "annotations": {"build": "17"},
        "sha256": claims.Claim("sig", DIGEST, {"build": "17"}, NAME).sha256, "key_id": "e" * 64,
    }
    assert pathlib.Path(record.path).stat().st_mode & 0o777 == 0o600


def test_bundle_has_no_name_in_the_record(record: Record) -> None:
    with journal.opened(record.path) as writer:
        limits.take_down(writer, _caller(), claims.Claim("bundle", DIGEST, {}, NAME), "x", "e" * 64, now=NOW)
    assert record.entries[0].members["docker_reference"] is None


def test_as_many_as_allowed_are_recorded_and_no_more(record: Record) -> None:
    record.use()
    record.use()
    error = record.refuses()
    assert error.cause == "alice had 2 signatures made in the last hour, of 2"
    assert error.object == f"{NAME}@{DIGEST}"
    # Another caller has a limit of its own, and another limit counts what is there.
    record.use(_caller("bob", 1))
    record.refuses(_caller("bob", 1))
    record.use(_caller("alice", 3))
    record.refuses(_caller("alice", 3))


def test_hour_ends_after_an_hour(record: Record) -> None:
    record.use()
    record.now += HOUR / 2
    record.use()
    record.now = NOW + HOUR - SECOND
    record.refuses()
    record.now = NOW + HOUR
    record.use()
    record.refuses()
    record.now = NOW + HOUR * 1.5
    record.use()
    record.refuses()


def test_other_events_and_callers_do_not_count(record: Record) -> None:
    for members in (
        {"event": "staged", "caller": "alice"}, {"event": "signed", "caller": "alicia"}, {"event": "signed"},
    ):
        journal.append(record.path, {"time": "2030-01-02T12:00:00Z", **members}, mode=0o600)
    record.use()
    record.use()
    record.refuses()


def test_clock_that_is_put_back_gives_nothing_away(record: Record) -> None:
    record.use()
    record.use()
    record.now = NOW - 30 * HOUR
    # What lies in the future was made a moment ago, as far as anybody knows.
    record.refuses()
    record.use(_caller("alice", 3))
    record.now = NOW + SECOND
    # The old time among the new ones hides none of them.
    record.refuses()
    record.refuses(_caller("alice", 2))
    record.use(_caller("alice", 3))
    record.now = NOW + HOUR + SECOND
    record.use()


def _fill(record: Record, moment: str, size: int, caller: str = "bob") -> int:
    """Write lines until those of the size given no longer fit into what is read."""
    lines = 0
    with journal.opened(record.path, mode=0o600) as writer:
        while lines * size < journal._TAIL + 2 * size:
            writer.append({"time": moment, "event": "signed", "caller": caller, "x": "x" * (size - 250)})
            lines += 1
    return lines


def test_record_that_is_too_full_to_be_counted_stops_all(record: Record) -> None:
    record.use(_caller("alice", 1))
    lines = _fill(record, "2030-01-02T12:00:00Z", 16 * 1024)
    # The use by alice is no longer among what is read: without this, she had the limit anew.
    error = record.refuses(_caller("alice", 1))
    assert "not read any more" in error.cause
    # Who has had too many is told that.
    assert "bob had" in record.refuses(_caller("bob", lines // 2)).cause
    record.now += HOUR
    record.use(_caller("alice", 1))
    record.refuses(_caller("alice", 1))


def test_record_of_long_ago_stops_nobody(record: Record) -> None:
    _fill(record, "2030-01-02T11:00:00Z", 16 * 1024)
    record.use()


def test_record_that_begins_within_the_hour_is_whole(record: Record) -> None:
    for _number in range(3):
        record.use(_caller("alice", 10))
    assert [entry.sequence for entry in record.entries] == [1, 2, 3]


def test_most_that_can_be_allowed_is_counted(record: Record) -> None:
    caller = _caller("alice", limits.MAX_PER_HOUR)
    record.use(caller, {"commit": "a" * 40})
    size = pathlib.Path(record.path).stat().st_size
    assert size * limits.MAX_PER_HOUR < journal._TAIL
    # As the file would have them, without waiting for the disk a thousand times.
    pathlib.Path(record.path).write_bytes(b"".join(
        b'{"sequence":%d,"previous":"","time":"2030-01-02T12:00:00Z","event":"signed","caller":"alice","x":"%s"}\n' % (
            number, b"x" * (size - 100)
        ) for number in range(1, limits.MAX_PER_HOUR + 1)
    ))
    with pytest.raises(VerificationError, match="had 1000 signatures"):
        record.use(caller)


def test_record_that_was_changed_stops_all(record: Record) -> None:
    record.use()
    with open(record.path, "ab") as stream:
        stream.write(b"something else\n")
    with pytest.raises(CustodyError) as caught:
        record.use()
    assert caught.value.code == "journal_broken"
