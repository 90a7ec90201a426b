# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each guard: when it is met, and what a user reads when it is not."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._trust import guards, reports
from ansible_collections.hallmark.signing.plugins.module_utils._trust.keyring import Generation
from ansible_collections.hallmark.signing.plugins.module_utils._trust.window import Timing
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._trust.rotation_model import MemoryLedger, key
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._trust.rotation_story import (
    ONE,
    THREE,
    TIMING,
    TWO,
    acknowledge,
    at,
    canaries,
    cover,
    enforcer,
    render,
    signers,
    step,
    suspend,
    take,
    told,
    words,
)

Change = t.Callable[[MemoryLedger], object]


def one(book: MemoryLedger, number: int = 1) -> Generation:
    return book.keyring.generations["release", number]


def excuse(book: MemoryLedger, name: str, until: str) -> t.Any:
    take(book, reports.excused(book.keyring, [{"enforcer": name, "until": until}]))


def enforcers(book: MemoryLedger, *wanted: dict[str, t.Any]) -> t.Any:
    take(book, reports.enforcers(book.keyring, wanted))


def remove(book: MemoryLedger, *names: str) -> t.Any:
    take(book, reports.removed(book.keyring, names))


def test_a_block_has_the_shape_of_the_contract() -> None:
    block = guards.Block("canaries_passed", "edge1", "words", until="2027-01-01T00:00:00Z")
    assert block.as_dict() == {
        "guard": "canaries_passed", "object": "edge1", "message": "words", "until": "2027-01-01T00:00:00Z",
    }


def test_what_several_guards_lack_is_told_in_order() -> None:
    first, second = guards.Block("a", "b", "c"), guards.Block("d", "e", "f")
    assert guards.all_of((first,), (), (second, first)) == (first, second, first)


@pytest.mark.parametrize(("skew", "bound", "expected"), [
    (0.0, 60, []), (60.0, 60, []), (60.5, 60, [("clock_skew", "clocks", "clocks differ by 60.5 s, more than 60 s")]),
    (1, 0, [("clock_skew", "clocks", "clocks differ by 1 s, more than 0 s")]),
])
def test_clocks_agree(skew: float, bound: int, expected: list[t.Any]) -> None:
    assert words(guards.clocks_agree(Timing(skew=skew, skew_bound=bound))) == expected


def test_a_compromise_that_is_not_closed_freezes_planned_changes() -> None:
    book = told("signers of the spare")
    take(book, reports.noted(book.keyring, "release", 3, "rebuilt"))
    assert words(guards.not_frozen(book.keyring, is_emergency=False)) == [(
        "incident_open", "release-3",
        "release-3 was revoked at 2027-01-01T02:30:06Z, and the incident is not closed",
    )]
    assert not guards.not_frozen(book.keyring, is_emergency=True)
    assert not guards.not_frozen(told("close").keyring, is_emergency=False)
    assert not guards.not_frozen(told("retire 1").keyring, is_emergency=False)


# Enforcers ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("change", "expected"), [
    (acknowledge, []),
    (lambda book: acknowledge(book, "edge1", "edge2", "cluster"), []),
    (lambda book: None, [
        ("cluster", "enforcer cluster has not acknowledged any policy"),
        ("edge1", "enforcer edge1 has not acknowledged any policy"),
        ("edge2", "enforcer edge2 has not acknowledged any policy"),
    ]),
    (lambda book: acknowledge(book, "cluster", "edge2"), [("edge1", "enforcer edge1 has not acknowledged any policy")]),
    (lambda book: (acknowledge(book), acknowledge(book, "edge2", version=0, hash="old")), [
        ("edge2", "enforcer edge2 still at policy 0, last seen 2027-01-01T00:00:03Z; it needs policy 1"),
    ]),
    (lambda book: (acknowledge(book), acknowledge(book, "edge2", hash="bad")), [
        ("edge2", "enforcer edge2 says policy 1, but its files are not those that were rendered, last seen "
                  "2027-01-01T00:00:03Z"),
    ]),
    (lambda book: (acknowledge(book), enforcers(book, enforcer("edge1", kind="containers 5.35"))), [
        ("edge1", "enforcer edge1 says policy 1, but its files are not those that were rendered, last seen "
                  "2027-01-01T00:00:03Z"),
    ]),
    (lambda book: (acknowledge(book), enforcers(book, enforcer("new"))), [
        ("new", "enforcer new has not acknowledged any policy"),
    ]),
    (lambda book: (acknowledge(book, "edge1", "cluster"), remove(book, "edge2")), []),
    (lambda book: (acknowledge(book, "edge1", "cluster"), excuse(book, "edge2", "2027-01-01T00:00:04Z")), []),
    (lambda book: (acknowledge(book, "edge1", "cluster"), excuse(book, "edge2", "2027-01-01T00:00:03Z")), [
        ("edge2", "enforcer edge2 has not acknowledged any policy"),
    ]),
])
def test_every_required_enforcer_acknowledged(change: Change, expected: list[t.Any]) -> None:
    book = told("render 1")
    change(book)
    found = guards.acknowledged(book.keyring, 1, now=book.now)
    assert words(found) == [("enforcers_acknowledged", *some) for some in expected]


def test_a_later_policy_counts_and_one_that_was_never_rendered_does_not() -> None:
    book = told("publish spare")
    assert not guards.acknowledged(book.keyring, 1, now=book.now)
    assert not guards.acknowledged(book.keyring, 2, now=book.now)
    book = told("publish 1")
    acknowledge(book, hash="any")
    assert words(guards.acknowledged(book.keyring, 1, now=book.now))[0] == (
        "enforcers_acknowledged", "cluster", "enforcer cluster has policy 1, which the ledger never rendered",
    )


def test_without_enforcers_nobody_trusts_a_key() -> None:
    book = told("acknowledge 1")
    remove(book, "edge1", "edge2", "cluster")
    assert words(guards.acknowledged(book.keyring, 1, now=book.now)) == [
        ("enforcers_known", "example", "no required enforcer is known, so nobody trusts the key"),
    ]


@pytest.mark.parametrize(("change", "expected"), [
    (lambda book: canaries(book, 1), []),
    (lambda book: None, [
        ("edge1", "enforcer edge1 has not tried images of release-1"),
        ("edge2", "enforcer edge2 has not tried images of release-1"),
    ]),
    (lambda book: canaries(book, 1, "edge2", "cluster"), [
        ("edge1", "enforcer edge1 has not tried images of release-1"),
    ]),
    (lambda book: (canaries(book, 1), canaries(book, 1, "edge1", admitted=False)), [
        ("edge1", "enforcer edge1 denied an image signed by release-1"),
    ]),
    (lambda book: (canaries(book, 1), canaries(book, 1, "edge2", unsigned_denied=False, foreign_denied=False)), [
        ("edge2", "enforcer edge2 admitted an unsigned image and admitted an image signed by a foreign key"),
    ]),
    (lambda book: (canaries(book, 1), canaries(book, 1, "edge1", unsigned_denied=False)), [
        ("edge1", "enforcer edge1 admitted an unsigned image"),
    ]),
    (lambda book: (canaries(book, 1), canaries(book, 1, "edge1", foreign_denied=False)), [
        ("edge1", "enforcer edge1 admitted an image signed by a foreign key"),
    ]),
    (lambda book: (canaries(book, 1, "edge1"), excuse(book, "edge2", "2027-02-01T00:00:00Z")), []),
])
def test_every_enforcer_that_can_try_images_did(change: Change, expected: list[t.Any]) -> None:
    book = told("acknowledge 1")
    change(book)
    assert words(guards.canaries_passed(book.keyring, one(book), now=book.now)) == [
        ("canaries_passed", *some) for some in expected
    ]


def test_canaries_of_a_former_policy_do_not_count() -> None:
    book = told("confirm")
    step(book, "published", 1)
    assert [some.object for some in guards.canaries_passed(book.keyring, one(book), now=book.now)] == ["edge1", "edge2"]
    canaries(book, 1)
    assert not guards.canaries_passed(book.keyring, one(book), now=book.now)


# Waits ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "is_met"), [(421, False), (422, True), (423, True)])
def test_a_published_key_is_held_down(seconds: int, is_met: bool) -> None:
    book = told("canaries 1", to=seconds)
    assert words(guards.held_down(book.keyring, one(book), TIMING, now=book.now)) == ([] if is_met else [(
        "hold_down", "release-1",
        "release-1 was published at 2027-01-01T00:00:02Z, and is held down for 420 s, until 2027-01-01T00:07:02Z",
    )])
    found = guards.held_down(book.keyring, one(book), TIMING, now=book.now)
    assert [some.until for some in found] == ([] if is_met else ["2027-01-01T00:07:02Z"])


_SUM = "propagation 0 + offline_allowance 0 + re_signing 13 + cached_image_age 0 + max_job_time 600 + clock_skew 120"


@pytest.mark.parametrize(("overlap", "seconds", "expected"), [
    (None, 4000, [(
        "overlap", "release-1",
        f"release-1 is retiring since 2027-01-01T00:50:00Z, and overlaps for 733 s ({_SUM}), until "
        "2027-01-01T01:02:13Z",
    )]),
    (None, 3733, None), (733, 4000, None), (None, 3732, None),
    (732, 9999, [("overlap_too_short", "release-1", f"overlap is 732 s, and must be 733 s: {_SUM}")]),
])
def test_both_keys_overlap(overlap: int | None, seconds: int, expected: list[t.Any] | None) -> None:
    book = told("cover")
    timing = dataclasses.replace(TIMING, overlap=overlap)
    now = at(seconds)
    found = guards.overlapped(book.keyring, one(book), timing, now=now)
    if overlap == 732:
        assert words(found) == expected
        assert found[0].until is None
    else:
        # Retiring since second 3000.
        assert bool(found) == (seconds < 3733)
    early = guards.overlapped(book.keyring, one(book), dataclasses.replace(TIMING, overlap=733), now=at(3001))
    assert words(early) == [(
        "overlap", "release-1",
        f"release-1 is retiring since 2027-01-01T00:50:00Z, and overlaps for 733 s ({_SUM}), until "
        "2027-01-01T01:02:13Z",
    )]
    longer = guards.overlapped(book.keyring, one(book), dataclasses.replace(TIMING, overlap=7000), now=at(9999))
    assert longer[0].until == "2027-01-01T02:46:40Z"


@pytest.mark.parametrize(("seconds", "is_met"), [(8159, False), (8160, True)])
def test_a_withdrawn_key_is_kept_for_a_rollback(seconds: int, is_met: bool) -> None:
    book = told("confirm", to=seconds)
    assert words(guards.rollback_over(one(book), TIMING, now=book.now)) == ([] if is_met else [(
        "rollback_window", "release-1",
        "release-1 was withdrawn at 2027-01-01T01:15:00Z, and is kept for a rollback, until 2027-01-01T02:16:00Z",
    )])


# Signers --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("last", "seconds", "change", "expected"), [
    ("signers again", 3663, None, [(
        "release-1", "jobs that began to sign with release-1 before 2027-01-01T00:50:04Z may still run, until "
                     "2027-01-01T01:01:04Z",
    )]),
    ("signers again", 3664, None, []),
    ("resume", 9000, None, [
        ("build1", "signer build1 obeys pointer 2, not 4, last seen 2027-01-01T00:50:01Z"),
        ("build2", "signer build2 obeys pointer 2, not 4, last seen 2027-01-01T00:50:01Z"),
    ]),
    ("resume", 3004, lambda book: (
        signers(book, 4, 3, hosts=["build1"]), take(book, reports.fenced(book.keyring, "release", ["build2"])),
        book.open(at(9000)),
    ), []),
    ("resume", 3004, lambda book: (signers(book, 4, 3, hosts=["build2"]), book.open(at(9000))), [
        ("build1", "signer build1 obeys pointer 2, not 4, last seen 2027-01-01T00:50:01Z"),
    ]),
    ("resume", 3004, lambda book: (
        take(book, reports.fenced(book.keyring, "release", ["build1", "build2"])), book.open(at(9000)),
    ), [("release", "no host that signs for release is known")]),
])
def test_signers_are_drained(last: str, seconds: int, change: Change | None, expected: list[t.Any]) -> None:
    book = told(last, to=seconds)
    if change:
        change(book)
    found = guards.drained(book.keyring, one(book), TIMING, now=book.now)
    assert words(found) == [("signers_drained", *some) for some in expected]


def test_without_a_signer_nothing_is_drained() -> None:
    book = told("activate 1")
    assert words(guards.drained(book.keyring, one(book), TIMING, now=at(9000))) == [
        ("signers_drained", "release", "no host that signs for release is known"),
    ]


@pytest.mark.parametrize(("change", "expected"), [
    (lambda book: None, [
        ("build1", "signer build1 has a copy of release-1"), ("build2", "signer build2 has a copy of release-1"),
    ]),
    (lambda book: signers(book, 4, 3), []),
    (lambda book: signers(book, 4, 3, hosts=["build1"]), [("build2", "signer build2 has a copy of release-1")]),
    (lambda book: (
        signers(book, 4, 3, hosts=["build1"]), take(book, reports.fenced(book.keyring, "release", ["build2"])),
    ), []),
    (lambda book: (signers(book, 4, 3), signers(book, 4, 1, hosts=["build3"])), [
        ("build3", "signer build3 has a copy of release-1"),
    ]),
])
def test_every_copy_is_gone(change: Change, expected: list[t.Any]) -> None:
    book = told("destroying 1")
    change(book)
    assert words(guards.copies_gone(book.keyring, one(book))) == [("copies_gone", *some) for some in expected]


def test_what_was_said_before_destruction_began_does_not_count() -> None:
    book = told("confirm", to=8000)
    signers(book, 4, 3)
    expected = [
        ("copies_gone", name, f"signer {name} has not said since that its copy of release-1 is gone, last seen "
                              "2027-01-01T02:13:20Z")
        for name in ("build1", "build2")
    ]
    assert words(guards.copies_gone(book.keyring, one(book))) == expected
    book.open(at(9000))
    step(book, "retired", 1)
    assert words(guards.copies_gone(book.keyring, one(book))) == expected
    signers(book, 4, 3)
    assert not guards.copies_gone(book.keyring, one(book))


def test_without_a_holder_no_copy_is_known_to_be_gone() -> None:
    book = told("activate 1")
    assert words(guards.copies_gone(book.keyring, one(book))) == [
        ("copies_gone", "release-1", "no host has said which copies of release-1 it has"),
    ]


# Coverage -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("change", "seconds", "expected"), [
    (None, 4000, "the live set was not checked since release-1 is retiring"),
    (lambda book: cover(book, 3), 4000, None),
    (lambda book: cover(book, 2, 3), 7600, None),
    (lambda book: cover(book, 2, 3), 7601, "the live set was last checked 3601 s ago"),
    (cover, 4000, "the live set was not checked against a key of release that stays"),
    (lambda book: cover(book, 1, 3), 4000, f"the live set was checked against keys that do not stay: {ONE}"),
    (lambda book: cover(book, 3, 9), 4000,
     f"the live set was checked against keys that do not stay: {key(9).key_id}"),
    (lambda book: cover(book, 3, count=0), 4000, "the live set is empty, and proves nothing"),
    (lambda book: cover(book, 3, uncovered=["registry.example.org/a@sha256:1"]), 4000,
     "1 of 3 images have no signature by a key that stays: registry.example.org/a@sha256:1"),
    (lambda book: cover(book, 3, count=30, uncovered=[f"i{number}" for number in range(20)]), 4000,
     "20 of 30 images have no signature by a key that stays: " + ", ".join(f"i{number}" for number in range(20))),
    (lambda book: cover(book, 3, count=99, uncovered=[f"i{number}" for number in range(70)]), 4000,
     "70 of 99 images have no signature by a key that stays: " + ", ".join(f"i{number}" for number in range(20))
     + ", and 50 more"),
])
def test_every_live_image_is_covered(change: Change | None, seconds: int, expected: str | None) -> None:
    book = told("signers again", to=4000)
    if change:
        change(book)
    found = guards.covered(book.keyring, one(book), TIMING, now=at(seconds))
    assert words(found) == ([] if expected is None else [("coverage", "release-1", expected)])


def test_a_key_that_was_revoked_since_does_not_stay() -> None:
    book = told("cover")
    assert not guards.covered(book.keyring, one(book), TIMING, now=book.now)
    step(book, "revoked", 2)
    assert words(guards.covered(book.keyring, one(book), TIMING, now=book.now)) == [
        ("coverage", "release-1", f"the live set was checked against keys that do not stay: {TWO}"),
    ]


def test_keys_of_another_identity_do_not_stand_in_for_its_last_one() -> None:
    """They may stay beside one of its own; else its policy would have no key, and could not be made."""
    book = told("signers again", to=3999)
    step(book, "staged", identity="ci", public_key=key(7))
    step(book, "published", identity="ci")
    book.open(at(4000))
    cover(book, 3, 7)
    assert not guards.covered(book.keyring, one(book), TIMING, now=book.now)
    cover(book, 7)
    assert words(guards.covered(book.keyring, one(book), TIMING, now=book.now)) == [
        ("coverage", "release-1", "the live set was not checked against a key of release that stays"),
    ]


def test_a_check_before_the_switch_does_not_count() -> None:
    book = told("publish 3")
    cover(book, 3)
    step(book, "active", 3, timing=dataclasses.replace(TIMING, skew_bound=0))
    book = told("cover")
    book.open(at(4001))
    step(book, "active", 1)
    step(book, "active", 3)
    assert words(guards.covered(book.keyring, one(book), TIMING, now=book.now)) == [
        ("coverage", "release-1", "the live set was not checked since release-1 is retiring"),
    ]


# Signers said at 3004 that they obey; their jobs end at 3664. The check took 12.5 s.
@pytest.mark.parametrize(("seconds", "is_met"), [(3663, False), (3676, False), (3677, True)])
def test_a_check_while_old_jobs_ran_does_not_count(seconds: int, is_met: bool) -> None:
    book = told("signers again", to=seconds)
    cover(book, 2, 3)
    found = guards.covered(book.keyring, one(book), TIMING, now=at(5000))
    text = f"2027-01-01T01:0{(seconds - 3600) // 60}:{seconds % 60:02}Z"
    assert words(found) == ([] if is_met else [(
        "coverage", "release-1",
        f"the live set was last checked at {text}, when jobs that sign with release-1 could still run",
    )])


def test_a_check_before_a_late_signer_was_fenced_does_not_count() -> None:
    book = told("resume", to=3004)
    signers(book, 4, 3, hosts=["build1"])
    book.open(at(4000))
    cover(book, 2, 3)
    book.open(at(4100))
    take(book, reports.fenced(book.keyring, "release", ["build2"]))
    assert len(guards.covered(book.keyring, one(book), TIMING, now=at(4200))) == 1
    book.open(at(4113))
    cover(book, 2, 3)
    assert not guards.covered(book.keyring, one(book), TIMING, now=at(4200))


def test_a_clock_that_is_far_ahead_passes_no_guard_alone() -> None:
    """Waits end by time; answers do not come by it."""
    book = told("render 1")
    late = at(10**9)
    assert guards.acknowledged(book.keyring, 1, now=late)
    assert guards.canaries_passed(book.keyring, one(book), now=late)
    assert not guards.held_down(book.keyring, one(book), TIMING, now=late)
    book = told("resume")
    assert guards.drained(book.keyring, one(book), TIMING, now=late)
    assert guards.covered(book.keyring, one(book), TIMING, now=late)
    book = told("destroying 1")
    assert guards.copies_gone(book.keyring, one(book))
    render(book)
    suspend(book, True)
    assert THREE not in book.keyring.denied
