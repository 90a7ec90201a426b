# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fold: what is known after entries, and what of it is answered."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._trust import keyring as rings
from ansible_collections.hallmark.signing.plugins.module_utils._trust import reports
from ansible_collections.hallmark.signing.plugins.module_utils._trust.keyring import Canary, Enforcer, Holder, Pointer
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._trust.rotation_model import key
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._trust.rotation_story import (
    CLUSTER,
    KIND,
    NOBODY,
    ONE,
    THREE,
    TWO,
    acknowledge,
    at,
    canaries,
    confirm,
    enforcer,
    render,
    signers,
    step,
    take,
    told,
)

FOUR = key(4).key_id


def test_the_story_is_known_when_it_is_over() -> None:
    ring = told("close").keyring
    assert (ring.fleet, ring.policy_version, ring.denied, ring.identities) == (
        "example", 5, frozenset({THREE}), ("release",),
    )
    assert ring.pointers == {"release": Pointer(2, TWO, 5, changed_at="2027-01-01T02:30:06Z")}
    assert ring.trusted == {
        0: frozenset(), 1: {ONE}, 2: {ONE, TWO}, 3: {ONE, TWO, THREE}, 4: {TWO, THREE}, 5: {TWO},
    }
    assert ring.enforcers == {
        "cluster": Enforcer(
            "cluster", "required", CLUSTER, 300, False, None, 5, f"{CLUSTER} 5", "2027-01-01T02:30:07Z", 5
        ),
        "edge1": Enforcer("edge1", "required", KIND, 30, True, None, 5, f"{KIND} 5", "2027-01-01T02:30:07Z", 5),
        "edge2": Enforcer(
            "edge2", "required", KIND, 0, True, "2027-01-02T00:00:00Z", 5, f"{KIND} 5", "2027-01-01T02:30:07Z", 5
        ),
    }
    assert ring.holders["build1", "release"] == Holder(
        "build1", "release", 5, frozenset({TWO}), "2027-01-01T02:30:08Z", 52
    )
    assert ring.holders["build2", "release"] == Holder(
        "build2", "release", 4, frozenset({THREE}), "2027-01-01T02:30:05Z", 46, is_fenced=True
    )
    assert ring.canaries["edge1", ONE] == Canary("edge1", ONE, 1, True, True, True)
    assert ring.incidents == {("release", 3): {
        "declared_at": "2027-01-01T02:30:06Z", "evidence": "INC-1", "suspected_since": None, "policy_version": 5,
        "half_at": "2027-01-01T02:30:07Z", "all_at": "2027-01-01T02:30:07Z",
        "notes": {"closed": "2027-01-01T02:30:09Z"},
    }}
    assert ring.confirmed == {("release", 2, "published"), ("release", 3, "active"), ("release", 1, "withdrawn"),
                              ("release", 3, "revoked"), ("release", 4, "abandoned")}
    assert (ring.nobody, ring.begun[2], ring.reached) == ({}, "2027-01-01T00:16:43Z", {
        1: "2027-01-01T00:00:04Z", 2: "2027-01-01T00:16:43Z", 3: "2027-01-01T00:33:21Z", 4: "2027-01-01T01:15:02Z",
        5: "2027-01-01T02:30:07Z",
    })


def test_a_generation_has_the_shape_of_the_contract() -> None:
    one = told("close").keyring.generations["release", 1]
    assert one.as_dict() == {
        "identity": "release", "generation": 1, "key_id": ONE, "state": "retired", "since": "2027-01-01T02:30:02Z",
        "algorithm": "ecdsa-p256", "public_key": key(1).pem, "spare": False,
    }
    assert one.name == "release-1"
    assert one.entered_at("withdrawn") == at(4500)
    assert dict(one.entered) == {
        "staged": "2027-01-01T00:00:01Z", "published": "2027-01-01T00:00:02Z", "active": "2027-01-01T00:16:40Z",
        "retiring": "2027-01-01T00:50:00Z", "withdrawn": "2027-01-01T01:15:00Z", "destroying": "2027-01-01T02:30:00Z",
        "retired": "2027-01-01T02:30:02Z",
    }
    assert dict(one.policy_versions) == {"published": 1, "active": 1, "retiring": 3, "withdrawn": 4, "retired": 4}
    assert told("stage spare").keyring.generations["release", 2].as_dict()["spare"] is True


def test_a_pointer_has_the_shape_of_the_contract() -> None:
    assert told("suspend").keyring.pointers["release"].as_dict() == {
        "generation": 3, "key_id": THREE, "fence": 3, "suspended": True,
    }
    assert told("resume").keyring.pointers["release"].is_suspended is False


def test_another_key_is_not_suspended_any_more() -> None:
    book = told("suspend")
    step(book, "active", 1)
    assert book.keyring.pointers["release"] == Pointer(1, ONE, 4, changed_at="2027-01-01T00:50:02Z")


def test_questions_are_answered() -> None:
    ring = told("close").keyring
    assert [one.number for one in ring.of("release")] == [1, 2, 3, 4]
    assert ring.of("ci") == ()
    assert [one.number for one in ring.in_state("release", "retired", "revoked")] == [1, 3]
    assert t.cast(t.Any, ring.by_key(FOUR)).state == "abandoned"
    assert ring.by_key("unknown") is None
    assert [one.number for one in ring.usable("release")] == [2]
    assert ring.trusted_now() == {TWO}
    assert [one.name for one in ring.holders_of("release")] == ["build1", "build2"]
    assert ring.holders_of("ci") == ()
    assert [one.name for one in ring.required(at(9))] == ["cluster", "edge1"]
    assert [one.name for one in ring.required(at(86_399))] == ["cluster", "edge1"]
    assert [one.name for one in ring.required(at(86_400))] == ["cluster", "edge1", "edge2"]


def test_a_denied_key_is_not_usable_whatever_its_state() -> None:
    ring = told("signers 1").keyring
    ring.denied = frozenset({ONE})
    assert (ring.usable("release"), ring.trusted_now()) == ((), frozenset())


@pytest.mark.parametrize(("version", "hash", "wanted", "expected"), [
    (2, f"{KIND} 2", 2, True), (2, f"{KIND} 2", 1, True), (2, f"{KIND} 2", 3, False), (2, "bad", 2, False),
    (2, f"{CLUSTER} 2", 2, False), (1, f"{KIND} 1", 1, True), (1, f"{KIND} 2", 1, False),
])
def test_an_enforcer_has_a_policy_by_its_files(version: int, hash: str, wanted: int, expected: bool) -> None:
    book = told("publish spare")
    acknowledge(book, "edge1", version=version, hash=hash)
    assert book.keyring.has(book.keyring.enforcers["edge1"], wanted) is expected


def test_an_enforcer_of_a_kind_that_was_never_rendered_has_nothing() -> None:
    book = told("publish spare")
    take(book, reports.enforcers(book.keyring, [enforcer("new", kind="other")]))
    assert not book.keyring.has(book.keyring.enforcers["new"], 0)
    take(book, reports.acknowledgements(book.keyring, [
        {"enforcer": "new", "policy_version": 2, "effective_hash": None, "ledger_head": None},
    ]))
    assert not book.keyring.has(book.keyring.enforcers["new"], 2)


def test_the_floor_of_an_enforcer_stays_when_it_goes_back() -> None:
    book = told("publish spare")
    acknowledge(book, "edge1", version=1)
    found = book.keyring.enforcers["edge1"]
    assert (found.policy_version, found.floor) == (1, 2)


def test_a_changed_enforcer_keeps_what_it_was_seen_with() -> None:
    book = told("publish spare")
    take(book, reports.enforcers(book.keyring, [enforcer("edge1", interval=7, **{"class": "best_effort"})]))
    found = book.keyring.enforcers["edge1"]
    assert (found.cls, found.interval, found.policy_version) == ("best_effort", 7, 2)


def test_an_enforcer_that_comes_again_by_the_same_name_has_tried_nothing() -> None:
    book = told("publish spare")
    take(book, reports.removed(book.keyring, ["edge1"]))
    assert set(book.keyring.canaries) == {("edge2", ONE), ("edge2", TWO)}
    take(book, reports.enforcers(book.keyring, [enforcer("edge1")]))
    new = book.keyring.enforcers["edge1"]
    assert new == Enforcer("edge1", "required", KIND, 30)
    assert (new.policy_version, new.effective_hash, new.seen, new.floor) == (0, None, None, 0)


@pytest.mark.parametrize(("last", "doomed"), [
    ("cover", []), ("confirm", []), ("destroying 1", [1]), ("retire 1", [1]), ("abandon 4", [1, 4]),
    # The key of an open incident is evidence.
    ("signers of the spare", [1, 4]), ("close", [1, 3, 4]),
])
def test_private_keys_are_destroyed_when_nobody_needs_them(last: str, doomed: list[int]) -> None:
    ring = told(last).keyring
    assert [one.number for one in ring.of("release") if ring.is_doomed(one)] == doomed


def test_how_fast_enforcers_distrust_a_revoked_key() -> None:
    book = told("revoke 3")
    render(book)

    def times() -> list[t.Any]:
        return [book.keyring.incidents["release", 3][name] for name in ("half_at", "all_at")]

    for seconds, name, hash, expected in (
        (9010, "edge1", None, [None, None]),
        (9011, "cluster", "bad", [None, None]),
        (9012, "cluster", None, ["2027-01-01T02:30:12Z", None]),
        (9013, "edge2", None, ["2027-01-01T02:30:12Z", "2027-01-01T02:30:13Z"]),
    ):
        book.open(at(seconds))
        acknowledge(book, name, hash=hash)
        assert times() == expected


def test_half_of_an_even_number_is_half() -> None:
    book = told("abandon 4")
    step(book, "revoked", 3)
    render(book)
    acknowledge(book, "lab")
    assert book.keyring.incidents["release", 3]["half_at"] is None
    acknowledge(book, "edge1")
    assert book.keyring.incidents["release", 3]["half_at"] == "2027-01-01T02:30:04Z"
    assert book.keyring.incidents["release", 3]["all_at"] is None


def test_without_required_enforcers_nothing_is_reached() -> None:
    book = told("render 1")
    take(book, reports.removed(book.keyring, ["edge1", "edge2", "cluster"]))
    acknowledge(book, "lab")
    assert book.keyring.reached == {}


def test_a_policy_is_reached_when_every_required_enforcer_has_its_files() -> None:
    book = told("render 1")
    acknowledge(book, "edge1", "cluster")
    acknowledge(book, "edge2", hash="bad")
    assert book.keyring.reached == {}
    confirm(book)
    assert book.keyring.confirmed == set()
    acknowledge(book, "edge2")
    assert book.keyring.reached == {1: "2027-01-01T00:00:03Z"}
    # The best-effort one is not waited for.
    assert book.keyring.enforcers["lab"].seen is None


def test_nobody_stands_in_for_an_identity_without_a_key() -> None:
    book = told("activate 1")
    step(book, "revoked", 1, accepts_none=True)
    assert book.keyring.nobody == {"release": NOBODY}
    book = told("publish 1")
    step(book, "abandoned", 1)
    assert book.keyring.nobody == {"release": NOBODY}


def test_a_retired_key_is_denied_and_its_generation_stays_retired() -> None:
    book = told("retire 1")
    before = book.keyring.policy_version
    step(book, "revoked", 1)
    one = book.keyring.generations["release", 1]
    assert (one.state, ONE in book.keyring.denied, book.keyring.policy_version) == ("retired", True, before + 1)
    assert "revoked" not in one.entered


@pytest.mark.parametrize(("last", "entry"), [
    ("retire 1", {"event": "published", "identity": "release", "generation": 1, "policy_version": 9}),
    ("close", {"event": "activated", "identity": "release", "generation": 3, "demoted": None, "policy_version": 9,
               "fence": 9}),
    ("signers 1", {"event": "published", "identity": "release", "generation": 1, "policy_version": 0}),
    ("publish 3", {"event": "activated", "identity": "release", "generation": 3, "demoted": 1, "policy_version": 3,
                   "fence": 1}),
    ("signers 1", {"event": "staged", "identity": "release", "generation": 1, "key_id": "new", "spare": False,
                   "algorithm": "a", "public_key": "p"}),
    ("signers 1", {"event": "staged", "identity": "ci", "generation": 1, "key_id": ONE, "spare": False,
                   "algorithm": "a", "public_key": "p"}),
    ("signers 1", {"event": "founded", "format": 1, "fleet": "other"}),
    ("signers 1", {"event": "enforcer_removed", "enforcer": "unknown"}),
    ("signers 1", {"event": "enforcer_excused", "enforcer": "edge1", "until": "x", "time": "2027-01-01T00:00:00Z"}),
    ("signers 1", {"event": "enforcer_excused", "enforcer": "edge1", "until": "x", "time": "soon"}),
])
def test_entries_that_cannot_be_are_not_taken_in(last: str, entry: dict[str, t.Any]) -> None:
    book = told(last)
    with pytest.raises((KeyError, ValueError)):
        book.keyring.apply(len(book.pen.written) + 1, "hash", {"time": "2027-01-02T00:00:00Z", **entry})


def test_the_fold_is_that_of_one_entry_after_the_other() -> None:
    written = told("activate 3").pen.written
    ring = rings.Keyring()
    assert (ring.sequence, ring.head, ring.trusted) == (0, "", {0: frozenset()})
    for entry in written:
        ring.apply(*entry)
    assert vars(ring) == vars(rings.fold(written))
    assert (ring.sequence, ring.head, ring.time) == (len(written), written[-1][1], "2027-01-01T00:50:00Z")


def test_pointers_and_coverage_know_when_they_were_written() -> None:
    book = told("cover")
    assert book.keyring.pointed == {"release": 24}
    assert book.keyring.coverage["release"].sequence == 31
    assert told("destroying 1").keyring.destroying == {("release", 1): 38}
    signers(book, 4, 1, hosts=["build3"])
    assert book.keyring.holders["build3", "release"].sequence == 32
    canaries(book, 3, "lab")
    assert book.keyring.canaries["lab", THREE].passed
