# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What hosts report: what is new is written, what is known is not, what cannot be is refused in words."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._custody import journal
from ansible_collections.hallmark.signing.plugins.module_utils._errors import TrustError
from ansible_collections.hallmark.signing.plugins.module_utils._trust import reports
from ansible_collections.hallmark.signing.plugins.module_utils._trust.window import Timing
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._trust.rotation_model import MemoryLedger, key
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._trust.rotation_story import (
    FLEET,
    KIND,
    ONE,
    THREE,
    TWO,
    acknowledge,
    at,
    cover,
    enforcer,
    signers,
    step,
    take,
    told,
)

Entries = list[t.Any]


def refused(code: str, entries: t.Iterator[t.Any]) -> str:
    with pytest.raises(TrustError) as caught:
        list(entries)
    assert caught.value.code == code
    return str(caught.value)


# Enforcers ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [
    {}, {"class": "best_effort"}, {"kind": "containers 5.35"}, {"interval": 31}, {"has_tool": False},
])
def test_enforcers_that_are_new_or_others_are_written(change: dict[str, t.Any]) -> None:
    book = told("found")
    assert list(reports.enforcers(book.keyring, FLEET)) == []
    said = enforcer("edge1", **change)
    expected = {
        "event": "enforcer", "enforcer": "edge1",
        **{name: said[name] for name in ("class", "kind", "interval", "has_tool")},
    }
    assert list(reports.enforcers(book.keyring, [said])) == ([expected] if change else [])
    assert list(reports.enforcers(MemoryLedger().keyring, [said])) == [expected]


def test_enforcers_are_named_once() -> None:
    assert refused("input_invalid", reports.enforcers(told("found").keyring, [
        enforcer("b"), enforcer("b"), enforcer("a"), enforcer("a"), enforcer("c"),
    ])) == "enforcers: could not take it in: a, b is named twice. Nothing was written. Name each once."


def test_enforcers_are_taken_out_once() -> None:
    ring = told("found").keyring
    assert list(reports.removed(ring, ["lab", "unknown", "lab"])) == [
        {"event": "enforcer_removed", "enforcer": "lab"},
    ]


def test_enforcers_are_excused_until_a_moment() -> None:
    book = told("found")
    said = [{"enforcer": "edge1", "until": "2027-01-02T00:00:00Z"}]
    take(book, reports.excused(book.keyring, said))
    assert book.pen.written[-1][2]["event"] == "enforcer_excused"
    assert list(reports.excused(book.keyring, said)) == []
    assert len(list(reports.excused(book.keyring, [{"enforcer": "edge1", "until": "2027-01-03T00:00:00Z"}]))) == 1
    assert refused("input_invalid", reports.excused(book.keyring, [{"enforcer": "x", "until": ""}])) == (
        "x: could not excuse it: the ledger knows no such enforcer. Nothing was written. Name it in enforcers first."
    )


def said_of(name: str, version: int, hash: str = "h") -> dict[str, t.Any]:
    return {"enforcer": name, "policy_version": version, "effective_hash": hash, "ledger_head": "1:a", "more": 1}


def test_acknowledgements_are_written_where_something_changed() -> None:
    book = told("acknowledge 1")
    new = said_of("edge1", 1)
    (entry,) = reports.acknowledgements(book.keyring, [new, said_of("edge2", 1, f"{KIND} 1")])
    assert entry == {"event": "acknowledged", "acknowledgements": [{
        "enforcer": "edge1", "policy_version": 1, "effective_hash": "h", "ledger_head": "1:a",
    }]}
    assert len(list(reports.acknowledgements(book.keyring, [said_of("edge2", 0, f"{KIND} 1")]))) == 1


@pytest.mark.parametrize(("code", "said", "words"), [
    ("ledger_mismatch", [said_of("edge1", 2)],
     "edge1: could not take in its acknowledgement: it has policy 2, and this ledger made 1 so far. Nothing was "
     "written. "
     "Use the ledger that made that policy."),
    ("input_invalid", [said_of("x", 1)],
     "x: could not take in its acknowledgement: the ledger knows no such enforcer. Nothing was written. Name it in "
     "enforcers first."),
    ("input_invalid", [said_of("edge1", 1), said_of("edge1", 0)],
     "acknowledgements: could not take it in: edge1 is named twice. Nothing was written. Name each once."),
])
def test_acknowledgements_that_cannot_be_are_refused(code: str, said: Entries, words: str) -> None:
    assert refused(code, reports.acknowledgements(told("acknowledge 1").keyring, said)) == words


def canary(name: str = "edge1", version: int = 1, key_id: str = ONE, **answers: bool) -> dict[str, t.Any]:
    return {
        "enforcer": name, "key_id": key_id, "policy_version": version, "admitted": True, "unsigned_denied": True,
        "foreign_denied": True, **answers,
    }


@pytest.mark.parametrize(("said", "is_new"), [
    (canary(), False), (canary("lab"), True), (canary(version=0), False), (canary(admitted=False), True),
    (canary(unsigned_denied=False), True), (canary(foreign_denied=False), True), (canary(version=2), True),
])
def test_canaries_are_written_where_something_changed(said: dict[str, t.Any], is_new: bool) -> None:
    book = told("publish spare")
    if said["policy_version"] < 2:
        book = told("canaries 1")
    expected = [{"event": "canaries", "canaries": [said]}] if is_new else []
    assert list(reports.canaries(book.keyring, [said])) == expected


@pytest.mark.parametrize(("code", "said", "words"), [
    ("input_invalid", canary("x"),
     "x: could not take in what it did with canaries: the ledger knows no such enforcer. Nothing was written. Name "
     "it in "
     "enforcers first."),
    ("input_invalid", canary(key_id="k"),
     "edge1: could not take in what it did with canaries: key k is that of no generation. Nothing was written."),
    ("ledger_mismatch", canary(version=2),
     "edge1: could not take in what it did with canaries: it has policy 2, and this ledger made 1 so far. Nothing was "
     "written. Use the ledger that made that policy."),
])
def test_canaries_that_cannot_be_are_refused(code: str, said: dict[str, t.Any], words: str) -> None:
    assert refused(code, reports.canaries(told("canaries 1").keyring, [said])) == words


def test_reports_of_many_are_cut_into_lines_that_fit() -> None:
    book = MemoryLedger()
    names = [f"host-with-a-rather-long-name-{number:03}.fleet.example.org" for number in range(61)]
    book.append({"event": "founded", "format": 1, "fleet": "example", "author": "a", "reason": "b"})
    take(book, reports.enforcers(book.keyring, [enforcer(name) for name in names]))
    step(book, "staged", public_key=key(1))
    step(book, "published", 1)
    head = f"{9999}:{'f' * 64}"
    lines = [
        *reports.acknowledgements(book.keyring, [
            {"enforcer": name, "policy_version": 1, "effective_hash": "f" * 64, "ledger_head": head} for name in names
        ]),
        *reports.canaries(book.keyring, [canary(name) for name in names]),
    ]
    assert [len(one.get("acknowledgements", one.get("canaries"))) for one in lines] == [30, 30, 1, 30, 30, 1]
    assert all(len(journal._line(one)) < journal.MAX_LINE * 0.8 for one in lines)


# Signers --------------------------------------------------------------------------------------------------------------


def signer(name: str, fence: int, *key_ids: str) -> dict[str, t.Any]:
    return {"signer": name, "identity": "release", "fence": fence, "key_ids": list(key_ids)}


@pytest.mark.parametrize(("said", "is_new"), [
    (signer("build1", 4, ONE, THREE), False), (signer("build1", 4, THREE, ONE), False),
    (signer("build1", 4, THREE), True), (signer("build3", 0), True), (signer("build3", 4, TWO), True),
])
def test_signers_are_written_where_something_changed(said: dict[str, t.Any], is_new: bool) -> None:
    expected = {"event": "signers", "signers": [{**said, "key_ids": sorted(said["key_ids"])}]}
    assert list(reports.signers(told("signers again").keyring, [said])) == ([expected] if is_new else [])


def test_signers_say_once_more_what_they_have_when_destruction_began() -> None:
    book = told("destroying 1")
    said = signer("build1", 4, ONE, THREE)
    assert len(list(reports.signers(book.keyring, [said]))) == 1
    signers(book, 4, 1, 3)
    assert list(reports.signers(book.keyring, [said])) == []
    # For another identity nothing is destroyed.
    take(book, reports.signers(book.keyring, [{**said, "identity": "ci", "fence": 0}]))
    assert list(reports.signers(book.keyring, [{**said, "identity": "ci", "fence": 0}])) == []


def test_a_fenced_signer_that_reports_signs_again() -> None:
    book = told("signers again")
    take(book, reports.fenced(book.keyring, "release", ["build1", "build1"]))
    assert book.keyring.holders["build1", "release"].is_fenced
    assert list(reports.fenced(book.keyring, "release", ["build1"])) == []
    take(book, reports.signers(book.keyring, [signer("build1", 4, ONE, THREE)]))
    assert not book.keyring.holders["build1", "release"].is_fenced


def test_a_signer_from_an_old_disk_is_waited_for() -> None:
    book = told("signers again")
    take(book, reports.signers(book.keyring, [signer("build1", 3)]))
    assert book.keyring.holders["build1", "release"].fence == 3
    take(book, reports.signers(book.keyring, [signer("build1", 4)]))
    assert book.keyring.holders["build1", "release"].fence == 4


@pytest.mark.parametrize(("said", "code", "words"), [
    (signer("build1", 5), "ledger_mismatch",
     "build1: could not take in what it obeys: it obeys pointer 5, and this ledger made 4 so far. Nothing was "
     "written. Use "
     "the ledger that made that pointer."),
    ({**signer("ci1", 1), "identity": "ci"}, "ledger_mismatch",
     "ci1: could not take in what it obeys: it obeys pointer 1, and this ledger made 0 so far. Nothing was written. "
     "Use "
     "the ledger that made that pointer."),
])
def test_signers_that_cannot_be_are_refused(said: dict[str, t.Any], code: str, words: str) -> None:
    assert refused(code, reports.signers(told("signers again").keyring, [said])) == words


def test_only_a_known_signer_is_fenced() -> None:
    ring = told("signers again").keyring
    assert list(reports.fenced(ring, "release", ["build1"])) == [
        {"event": "signer_fenced", "signer": "build1", "identity": "release"},
    ]
    assert refused("input_invalid", reports.fenced(ring, "ci", ["build1"])) == (
        "build1: could not note that it is fenced: it never signed for ci. Nothing was written. Name a signer that the "
        "ledger knows."
    )


# Coverage -------------------------------------------------------------------------------------------------------------


# No job outlives the change.
FRESH = Timing(coverage_max_age=3600, max_job_time=0, skew_bound=0)


def live(**more: t.Any) -> dict[str, t.Any]:
    return {
        "staying": [THREE, TWO], "live_set_hash": "live", "count": 3, "uncovered": [], "seconds": 12.5, **more,
    }


@pytest.mark.parametrize(("seconds", "said", "is_new"), [
    (4000, live(), False), (5799, live(), False), (5800, live(), True), (4001, live(seconds=1.0), False),
    (4001, live(staying=[TWO]), True), (4001, live(live_set_hash="other"), True), (4001, live(count=4), True),
    (4001, live(uncovered=["a"]), True),
])
def test_coverage_is_written_if_it_is_new_or_no_longer_fresh(
    seconds: int, said: dict[str, t.Any], is_new: bool
) -> None:
    ring = told("cover").keyring
    found = list(reports.coverage(ring, "release", said, timing=FRESH, now=at(seconds)))
    assert found == ([{
        "event": "coverage", "identity": "release", "staying": sorted(said["staying"]),
        "live_set_hash": said["live_set_hash"], "count": said["count"], "uncovered": said["uncovered"],
        "uncovered_count": len(said["uncovered"]), "seconds": said["seconds"],
    }] if is_new else [])


def test_coverage_names_the_first_images_and_counts_all() -> None:
    images = [f"image{number}" for number in range(70)]
    (entry,) = reports.coverage(told("cover").keyring, "release", live(uncovered=images), timing=FRESH, now=at(4000))
    assert (entry["uncovered"], entry["uncovered_count"]) == (images[:50], 70)


def test_coverage_is_written_again_after_the_pointer_moved_or_a_signer_spoke() -> None:
    book = told("cover")
    signers(book, 4, 3, hosts=["build1"])
    assert len(list(reports.coverage(book.keyring, "release", live(), timing=FRESH, now=book.now))) == 1
    step(book, "active", 1)
    assert len(list(reports.coverage(book.keyring, "release", live(), timing=FRESH, now=book.now))) == 1


def test_coverage_is_written_again_when_it_was_checked_while_jobs_could_run() -> None:
    ring = told("cover").keyring
    slow = Timing(coverage_max_age=3600, max_job_time=3600)
    assert len(list(reports.coverage(ring, "release", live(), timing=slow, now=at(4001)))) == 1


def test_coverage_before_anything_signs() -> None:
    book = told("canaries 1")
    cover(book, 1)
    assert book.keyring.coverage["release"].staying == {ONE}
    cover(book, 1)
    assert book.keyring.sequence == 11


# Confirmations, notes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("last", "expected"), [
    ("stage 1", []), ("publish 1", []), ("acknowledge 1", [(1, "published")]), ("activate 1", []),
    ("signers 1", [(1, "active")]), ("signers 3", [(2, "published"), (3, "active")]), ("suspend", [(2, "published")]),
    ("withdraw 1", [(2, "published"), (3, "active")]),
    ("acknowledge without 1", [(1, "withdrawn"), (2, "published"), (3, "active")]), ("confirm", []),
    ("abandon 4", [(4, "abandoned")]), ("revoke 3", [(4, "abandoned")]), ("signers of the spare", [(2, "active")]),
])
def test_what_all_have_is_confirmed_once(last: str, expected: Entries) -> None:
    book = told(last)
    assert list(reports.confirmations(book.keyring, "release")) == [
        {"event": "confirmed", "identity": "release", "generation": number, "to": state} for number, state in expected
    ]
    take(book, reports.confirmations(book.keyring, "release"))
    assert list(reports.confirmations(book.keyring, "release")) == []


def test_a_fenced_signer_is_not_waited_for() -> None:
    book = told("resume")
    signers(book, 4, 3, hosts=["build1"])
    assert "active" not in [one["to"] for one in reports.confirmations(book.keyring, "release")]
    take(book, reports.fenced(book.keyring, "release", ["build2"]))
    assert "active" in [one["to"] for one in reports.confirmations(book.keyring, "release")]


def test_what_was_done_about_a_compromise_is_noted_once() -> None:
    book = told("revoke 3")
    assert list(reports.noted(book.keyring, "release", 3, "rebuilt")) == [
        {"event": "noted", "identity": "release", "generation": 3, "note": "rebuilt"},
    ]
    take(book, reports.noted(book.keyring, "release", 3, "rebuilt"))
    assert list(reports.noted(book.keyring, "release", 3, "rebuilt")) == []
    assert book.keyring.incidents["release", 3]["notes"] == {"rebuilt": "2027-01-01T02:30:06Z"}
    assert refused("input_invalid", reports.noted(book.keyring, "release", 1, "closed")) == (
        "release-1: could not note closed: it was not revoked. Nothing was written. Name the generation of the "
        "incident."
    )
    acknowledge(book, "edge1", version=0, hash="old")
