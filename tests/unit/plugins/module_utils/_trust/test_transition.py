# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps of generations: what is written, what is refused in which words, what a step waits for."""

from __future__ import annotations

import dataclasses
import hashlib
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import TrustError
from ansible_collections.hallmark.signing.plugins.module_utils._keys.algorithms import ALGORITHMS
from ansible_collections.hallmark.signing.plugins.module_utils._keys.pem import PublicKey
from ansible_collections.hallmark.signing.plugins.module_utils._trust import transition
from ansible_collections.hallmark.signing.plugins.module_utils._trust.keyring import Pointer
from ansible_collections.hallmark.signing.plugins.module_utils._trust.transition import Plan
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._trust.rotation_model import MemoryLedger, key
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._trust.rotation_story import (
    NOBODY,
    ONE,
    THREE,
    TIMING,
    TWO,
    WHO,
    acknowledge,
    at,
    canaries,
    cover,
    plan,
    publish_and_try,
    render,
    request,
    signers,
    stage,
    states,
    step,
    suspend,
    told,
    words,
)


def written(book: MemoryLedger, state: t.Any, number: int | None = None, **more: t.Any) -> dict[str, t.Any]:
    """Return the one entry of a step."""
    made = plan(book, request(state, number, **more))
    (entry,) = made.entries
    assert not made.blocked or entry["event"] == "destroying", words(made.blocked)
    assert (entry["author"], entry["reason"]) == (WHO["author"], WHO["reason"])
    return {name: value for name, value in entry.items() if name not in WHO}


def refused(book: MemoryLedger, state: t.Any, number: int | None = None, **more: t.Any) -> str:
    before = list(book.pen.written)
    with pytest.raises(TrustError) as caught:
        plan(book, request(state, number, **more))
    assert (caught.value.code, book.pen.written) == ("transition_refused", before)
    return str(caught.value)


def trust(*names: str, denied: t.Sequence[str] = ()) -> str:
    """Return the hash of what is trusted, as the contract says it."""
    lines = [f"trusted {one}\n" for one in sorted(names)] + [f"denied {one}\n" for one in sorted(denied)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


# What is written ------------------------------------------------------------------------------------------------------


def test_a_staged_generation() -> None:
    assert written(told("found"), "staged", public_key=key(1)) == {
        "event": "staged", "identity": "release", "generation": 1, "key_id": ONE, "algorithm": "ecdsa-p256",
        "public_key": key(1).pem, "spare": False,
    }
    assert written(told("activate 1"), "staged", 2, public_key=key(2), is_spare=True)["spare"] is True


@pytest.mark.parametrize(("last", "state", "number", "expected"), [
    ("stage 1", "published", 1, {
        "event": "published", "from": "staged", "key_id": ONE, "policy_version": 1, "trust_before": trust(),
        "trust_after": trust(ONE),
    }),
    ("cover", "withdrawn", 1, {
        "event": "withdrawn", "from": "retiring", "key_id": ONE, "policy_version": 4,
        "trust_before": trust(ONE, TWO, THREE), "trust_after": trust(TWO, THREE),
    }),
    ("confirm", "published", 1, {
        "event": "published", "from": "withdrawn", "key_id": ONE, "policy_version": 5,
        "trust_before": trust(TWO, THREE),
        "trust_after": trust(ONE, TWO, THREE),
    }),
    ("confirm", "retired", 1, {"event": "destroying", "key_id": ONE}),
    ("copies gone", "retired", 1, {
        "event": "retired", "from": "withdrawn", "key_id": ONE, "policy_version": 4, "trust_before": trust(TWO, THREE),
        "trust_after": trust(TWO, THREE),
    }),
    ("stage 4", "abandoned", 4, {
        "event": "abandoned", "from": "staged", "key_id": key(4).key_id, "policy_version": 4,
        "trust_before": trust(TWO, THREE), "trust_after": trust(TWO, THREE), "nobody": "",
    }),
    ("publish 3", "abandoned", 3, {
        "event": "abandoned", "from": "published", "key_id": THREE, "policy_version": 4,
        "trust_before": trust(ONE, TWO, THREE), "trust_after": trust(ONE, TWO), "nobody": "",
    }),
    ("publish 1", "abandoned", 1, {
        "event": "abandoned", "from": "published", "key_id": ONE, "policy_version": 2, "trust_before": trust(ONE),
        "trust_after": trust(), "nobody": NOBODY,
    }),
    ("stage 1", "abandoned", 1, {
        "event": "abandoned", "from": "staged", "key_id": ONE, "policy_version": 0, "trust_before": trust(),
        "trust_after": trust(), "nobody": "",
    }),
    ("canaries 1", "active", 1, {
        "event": "activated", "from": "published", "key_id": ONE, "policy_version": 1, "fence": 1, "demoted": None,
    }),
    ("publish 3", "active", 3, {
        "event": "activated", "from": "published", "key_id": THREE, "policy_version": 3, "fence": 2, "demoted": 1,
    }),
    ("signers again", "active", 1, {
        "event": "activated", "from": "retiring", "key_id": ONE, "policy_version": 3, "fence": 5, "demoted": 3,
    }),
])
def test_steps_are_written(last: str, state: t.Any, number: int, expected: dict[str, t.Any]) -> None:
    book = told(last, to=9000)
    if last == "cover":
        book.open(at(4500))
    assert written(book, state, number) == {"identity": "release", "generation": number, **expected}


def test_the_hash_of_trust_is_that_of_its_lines() -> None:
    assert transition.hash_of_trust({"b", "a"}, {"c"}) == trust("a", "b", denied=["c"])
    assert trust("a", denied=["b"]) == hashlib.sha256(b"trusted a\ndenied b\n").hexdigest()


# None is named --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("last", "state", "number"), [
    ("stage 1", "published", 1), ("publish 1", "published", None), ("canaries 1", "active", 1),
    ("signers 1", "active", None), ("publish 3", "active", 3), ("cover", "withdrawn", 1), ("confirm", "retired", 1),
    ("stage 4", "abandoned", 4), ("stage spare", "published", 2), ("stage 3", "published", 3),
])
def test_the_one_that_is_meant_need_not_be_named(last: str, state: t.Any, number: int | None) -> None:
    book = told(last)
    book.open(at(9000) if state == "retired" else at(4500) if state == "withdrawn" else book.now)
    if state == "active" and number is not None:
        book.open(at(3000))
    made = plan(book, request(state))
    assert [one["generation"] for one in made.entries] == ([] if number is None else [number])


@pytest.mark.parametrize(("last", "state", "cause"), [
    ("found", "published", "no generation of release is staged or published"),
    ("stage 1", "active", "no generation of release is published or active"),
    ("signers 1", "withdrawn", "no generation of release is retiring"),
    ("signers 1", "retired", "no generation of release is withdrawn"),
    ("signers 1", "abandoned", "no generation of release is staged"),
    # The spare is not published or activated by the way.
    ("publish spare", "published", "no generation of release is staged or published"),
])
def test_nothing_that_could_be_meant_is_refused(last: str, state: t.Any, cause: str) -> None:
    assert refused(told(last), state) == (
        f"release: could not make it {state}: {cause}. Nothing was written. Take the steps before it first, or name "
        f"the "
        "generation."
    )


def test_a_revocation_names_its_generation() -> None:
    """A second run would else revoke the one that took over."""
    assert refused(told("cover"), "revoked") == (
        "release: could not make it revoked: which key leaked is not said, and a guess could hit its successor. "
        "Nothing was "
        "written. Name the generation."
    )


def test_several_that_could_be_meant_are_named() -> None:
    book = told("stage spare")
    stage(book, 3)
    assert refused(book, "published") == (
        "release: could not make it published: several could be meant: release-2, release-3. Nothing was written. "
        "Name the "
        "generation."
    )


def test_an_unknown_generation_is_refused() -> None:
    assert refused(told("signers 1"), "published", 9) == (
        "release-9: could not make it published: the ledger knows no such generation. Nothing was written. Stage it "
        "first, "
        "or name another one."
    )


# Skipping, going back -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("last", "state", "number", "words"), [
    ("stage 1", "active", 1, "it is staged, and that is reached from published or retiring only"),
    ("stage 1", "withdrawn", 1, "it is staged, and that is reached from retiring only"),
    ("canaries 1", "retired", 1, "it is published, and that is reached from withdrawn only"),
    ("signers 1", "withdrawn", 1, "it is active, and that is reached from retiring only"),
    ("signers 1", "abandoned", 1, "it is active, and that is reached from staged or published only"),
    ("signers 1", "published", 1, "it is active, and that is reached from staged or withdrawn only"),
    ("cover", "retired", 1, "it is retiring, and that is reached from withdrawn only"),
    ("confirm", "active", 1, "it is withdrawn, and that is reached from published or retiring only"),
])
def test_no_state_is_skipped(last: str, state: t.Any, number: int, words: str) -> None:
    assert refused(told(last, to=9000), state, number) == (
        f"release-{number}: could not make it {state}: {words}. Nothing was written. Take the steps before it first: "
        f"none "
        "is skipped."
    )


@pytest.mark.parametrize("state", ["published", "active", "withdrawn", "retired", "abandoned"])
@pytest.mark.parametrize(("number", "final"), [(1, "retired"), (3, "revoked"), (4, "abandoned")])
def test_terminal_states_stay(state: str, number: int, final: str) -> None:
    book = told("close")
    if state == final:
        assert plan(book, request(t.cast(t.Any, state), number)) == Plan()
        return
    assert refused(book, state, number) == (
        f"release-{number}: could not make it {state}: it is {final}, and stays so. Nothing was written. Stage a new "
        "generation."
    )


def test_a_key_whose_destruction_began_does_not_come_back() -> None:
    assert refused(told("destroying 1"), "published", 1) == (
        "release-1: could not make it published: the destruction of its private key has begun. Nothing was written. "
        "Stage a "
        "new generation."
    )


def test_a_key_that_signed_is_not_abandoned() -> None:
    book = told("confirm")
    step(book, "published", 1)
    assert refused(book, "abandoned", 1) == (
        "release-1: could not make it abandoned: it signed before, and images may need it. Nothing was written. Make "
        "it "
        "active again, or revoke it."
    )


def test_a_step_that_was_taken_is_nothing() -> None:
    book = told("withdraw 1")
    for number, state in ((1, "withdrawn"), (2, "published"), (3, "active")):
        assert plan(book, request(t.cast(t.Any, state), number)) == Plan()
    assert plan(told("stage 3"), request("staged", public_key=key(3))) == Plan()
    assert plan(told("stage 3"), request("staged", 3, public_key=key(3))) == Plan()
    assert plan(told("close"), request("revoked", 3)) == Plan()


# Staging --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("last", "number", "more", "words"), [
    ("close", 1, {}, f"key {ONE} is that of release-1, which is retired: no key comes back"),
    ("close", 3, {}, f"key {THREE} is that of release-3, which is revoked: no key comes back"),
    ("close", 2, {}, f"key {TWO} is that of release-2, which is active: no key comes back"),
    ("stage 3", 3, {"identity": "ci"}, f"key {THREE} is that of release-3, which is staged: no key comes back"),
    ("stage 3", 3, {"number": 2}, f"key {THREE} is that of release-3, which is staged: no key comes back"),
])
def test_no_key_comes_back(last: str, number: int, more: dict[str, t.Any], words: str) -> None:
    name = f"{more.get('identity', 'release')}{'-2' if 'number' in more else ''}"
    assert refused(told(last), "staged", public_key=key(number), **more) == (
        f"{name}: could not make it staged: {words}. Nothing was written. Make a new key."
    )


def test_numbers_only_rise() -> None:
    assert refused(told("abandon 4"), "staged", 4, public_key=key(9)) == (
        "release-4: could not make it staged: the next generation is 5. Nothing was written. Leave the number out, "
        "or name "
        "that one."
    )
    assert written(told("abandon 4"), "staged", 5, public_key=key(9))["generation"] == 5


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda one: one.name)
def test_keys_that_every_enforcer_verifies_are_staged(algorithm: t.Any) -> None:
    public = PublicKey(t.cast(t.Any, None), algorithm, "key", b"key")
    name = algorithm.name
    if name in ("ecdsa-p256", "rsa-2048", "rsa-3072", "rsa-4096"):
        assert written(told("found"), "staged", public_key=public)["algorithm"] == name
    else:
        assert refused(told("found"), "staged", public_key=public) == (
            f"release: could not make it staged: its algorithm is {name}, which not every enforcer can verify. "
            f"Nothing was "
            "written. Make a key of ecdsa-p256, or RSA of 2048 bits or more."
        )


def test_a_staged_generation_needs_its_public_key() -> None:
    with pytest.raises(TrustError) as caught:
        plan(told("found"), request("staged"))
    assert caught.value.code == "input_invalid"
    assert str(caught.value) == (
        "public_key_path: could not make release staged: a staged generation needs its public key. Name it."
    )


@pytest.mark.parametrize(("last", "more", "expected"), [
    ("stage 3", {}, [("one_at_a_time", "release-3", "release-3 is staged, and must get on first")]),
    ("publish 3", {}, [("one_at_a_time", "release-3", "release-3 is published, and must get on first")]),
    ("stage 3", {"is_emergency": True}, []),
    ("stage 3", {"is_spare": True}, [("one_at_a_time", "release-2", "release-2 is published, and must get on first")]),
    ("publish spare", {}, []),
    ("stage 3", {"identity": "ci"}, []),
    ("distrust 3", {}, [(
        "incident_open", "release-3", "release-3 was revoked at 2027-01-01T02:30:06Z, and the incident is not closed",
    )]),
    ("distrust 3", {"is_emergency": True}, []),
])
def test_one_generation_at_a_time_is_on_its_way(last: str, more: dict[str, t.Any], expected: list[t.Any]) -> None:
    made = plan(told(last), request("staged", public_key=key(9), **more))
    assert words(made.blocked) == expected
    assert len(made.entries) == (not expected)


# What a step waits for ------------------------------------------------------------------------------------------------


def guards_of(book: MemoryLedger, state: t.Any, number: int, *, skew: float = 0.0, **more: t.Any) -> list[str]:
    made = plan(book, request(state, number, **more), dataclasses.replace(TIMING, skew=skew))
    assert not (made.blocked and made.entries)
    return list(dict.fromkeys(one.guard for one in made.blocked))


def test_publishing_waits_for_clocks_and_incidents_only() -> None:
    book = told("stage 1")
    assert guards_of(book, "published", 1) == []
    assert guards_of(book, "published", 1, skew=61) == ["clock_skew"]
    book = told("distrust 3")
    stage(book, 5, is_emergency=True)
    assert guards_of(book, "published", 5) == ["incident_open"]
    assert guards_of(book, "published", 5, is_emergency=True) == []


def test_activating_waits_for_all_enforcers_their_canaries_and_the_hold_down() -> None:
    book = told("render 1")
    proofs = ["enforcers_acknowledged", "canaries_passed", "hold_down"]
    assert guards_of(book, "active", 1, skew=61) == ["clock_skew", *proofs]
    assert guards_of(book, "active", 1, is_emergency=True) == proofs
    acknowledge(book)
    assert guards_of(book, "active", 1) == proofs[1:]
    canaries(book, 1)
    assert guards_of(book, "active", 1) == proofs[2:]
    book.open(at(1000))
    assert guards_of(book, "active", 1) == []


def test_withdrawing_waits_for_signers_coverage_and_the_overlap() -> None:
    book = told("resume")
    assert guards_of(book, "withdrawn", 1, skew=61) == ["clock_skew", "signers_drained", "coverage", "overlap"]
    signers(book, 4, 1, 3)
    book.open(at(4000))
    assert guards_of(book, "withdrawn", 1) == ["coverage"]
    cover(book, 2, 3, uncovered=["a", "b"])
    made = plan(book, request("withdrawn", 1))
    assert words(made.blocked) == [
        ("coverage", "release-1", "2 of 3 images have no signature by a key that stays: a, b"),
    ]
    cover(book, 2, 3)
    assert guards_of(book, "withdrawn", 1) == []


def test_retiring_waits_for_enforcers_the_rollback_window_and_then_for_every_copy() -> None:
    book = told("render without 1")
    assert guards_of(book, "retired", 1, skew=61) == ["clock_skew", "enforcers_acknowledged", "rollback_window"]
    book.open(at(9000))
    assert guards_of(book, "retired", 1) == ["enforcers_acknowledged"]
    acknowledge(book)
    made = plan(book, request("retired", 1))
    assert [one["event"] for one in made.entries] == ["destroying"]
    assert words(made.blocked) == [
        ("copies_gone", name, f"signer {name} is to destroy its copy of release-1, and to say so")
        for name in ("build1", "build2")
    ]
    step(book, "retired", 1)
    assert guards_of(book, "retired", 1) == ["copies_gone"]
    signers(book, 4, 3)
    assert guards_of(book, "retired", 1) == []


def test_who_destroys_its_copy_is_said_without_any_known_signer() -> None:
    book = told("confirm", to=9000)
    book.keyring.holders.clear()
    assert words(plan(book, request("retired", 1)).blocked) == [
        ("copies_gone", "release", "signer release is to destroy its copy of release-1, and to say so"),
    ]


def test_fenced_signers_are_not_asked_for_their_copies() -> None:
    book = told("confirm", to=9000)
    holders = book.keyring.holders
    holders["build1", "release"] = dataclasses.replace(holders["build1", "release"], is_fenced=True)
    assert [one.object for one in plan(book, request("retired", 1)).blocked] == ["build2"]


def test_a_denied_key_is_published_and_activated_by_nobody() -> None:
    """No way leads there; the guard is for what nobody thought of."""
    book = told("canaries 1", to=1000)
    book.keyring.denied = frozenset({ONE})
    found = plan(book, request("active", 1)).blocked
    assert words(found) == [("key_denied", "release-1", "the key of release-1 is denied for good")]
    book = told("stage 1")
    book.keyring.denied = frozenset({ONE})
    assert [one.guard for one in plan(book, request("published", 1)).blocked] == ["key_denied"]


# Revoking and suspending ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("last", "number", "expected"), [
    ("cover", 3, {
        "from": "active", "successor": 2, "fence": 5, "nobody": "", "trust_after": trust(ONE, TWO, denied=[THREE]),
    }),
    ("cover", 1, {
        "from": "retiring", "successor": None, "fence": None, "nobody": "",
        "trust_after": trust(TWO, THREE, denied=[ONE]),
    }),
    ("cover", 2, {
        "from": "published", "successor": None, "fence": None, "nobody": "",
        "trust_after": trust(ONE, THREE, denied=[TWO]),
    }),
    ("retire 1", 1, {
        "from": "retired", "successor": None, "fence": None, "nobody": "",
        "trust_after": trust(TWO, THREE, denied=[ONE]),
    }),
    ("stage 1", 1, {
        "from": "staged", "successor": None, "fence": None, "nobody": NOBODY, "trust_after": trust(denied=[ONE]),
    }),
])
def test_revoking_distrusts_at_once(last: str, number: int, expected: dict[str, t.Any]) -> None:
    book = told(last)
    found = written(book, "revoked", number, evidence="INC-1", suspected_since="2026-12-31T00:00:00Z")
    assert found == {
        "event": "revoked", "identity": "release", "generation": number, "key_id": key(number).key_id,
        "policy_version": book.keyring.policy_version + 1, "evidence": "INC-1",
        "suspected_since": "2026-12-31T00:00:00Z",
        "trust_before": transition.hash_of_trust(book.keyring.trusted_now(), set()), **expected,
    }


def test_the_spare_takes_over_before_another_published_generation() -> None:
    book = told("publish 3")
    step(book, "revoked", 1)
    assert states(book.keyring) == {"release-1": "revoked", "release-2": "active", "release-3": "published"}
    book = told("activate 1")
    stage(book, 2)
    publish_and_try(book, 2)
    stage(book, 3, is_spare=True)
    publish_and_try(book, 3)
    step(book, "revoked", 1)
    assert states(book.keyring) == {"release-1": "revoked", "release-2": "published", "release-3": "active"}


def test_a_spare_that_enforcers_do_not_trust_yet_comes_last() -> None:
    book = told("activate 1")
    stage(book, 2)
    publish_and_try(book, 2)
    stage(book, 3, is_spare=True)
    step(book, "published", 3)
    step(book, "revoked", 1)
    assert states(book.keyring) == {"release-1": "revoked", "release-2": "active", "release-3": "published"}


def test_without_a_published_generation_nobody_signs() -> None:
    book = told("cover")
    step(book, "revoked", 2)
    step(book, "revoked", 3)
    assert book.keyring.pointers["release"] == Pointer(None, None, 5, changed_at="2027-01-01T01:06:40Z")
    assert states(book.keyring) == {"release-1": "retiring", "release-2": "revoked", "release-3": "revoked"}


def test_the_last_key_is_revoked_by_those_only_who_accept_that() -> None:
    book = told("activate 1")
    assert refused(book, "revoked", 1) == (
        "release-1: could not make it revoked: no other key of release is trusted, and every enforcer would deny all "
        "of its "
        "images. Nothing was written. Publish a spare generation first; or accept that, if the leak is worse."
    )
    found = written(book, "revoked", 1, accepts_none=True)
    assert (found["nobody"], found["successor"], found["fence"]) == (NOBODY, None, 2)


def test_a_staged_or_withdrawn_generation_does_not_take_over() -> None:
    book = told("stage spare")
    assert "no other key of release is trusted" in refused(book, "revoked", 1)
    assert written(book, "revoked", 1, accepts_none=True)["successor"] is None


@pytest.mark.parametrize(("last", "wanted", "expected"), [
    ("signers 3", True, {"suspended": True, "fence": 3, "generation": 3}), ("signers 3", False, None),
    ("suspend", False, {"suspended": False, "fence": 4, "generation": 3}), ("suspend", True, None),
])
def test_signing_is_suspended_and_goes_on(last: str, wanted: bool, expected: dict[str, t.Any] | None) -> None:
    made = transition.suspend(told(last).keyring, "release", is_suspended=wanted, **WHO)
    assert made == (Plan(({"event": "pointer", "identity": "release", **WHO, **expected},)) if expected else Plan())


def test_what_does_not_sign_cannot_be_suspended() -> None:
    book = told("activate 1")
    step(book, "revoked", 1, accepts_none=True)
    for one in (told("canaries 1"), book):
        with pytest.raises(TrustError) as caught:
            suspend(one, True)
        assert str(caught.value) == (
            "release: could not suspend its pointer: it has no active generation. Nothing was written. Activate one "
            "first."
        )
        assert caught.value.code == "transition_refused"


def test_two_never_sign() -> None:
    book = told("activate 3")
    assert [one.name for one in book.keyring.in_state("release", "active")] == ["release-3"]
    step(book, "active", 1)
    assert [one.name for one in book.keyring.in_state("release", "active")] == ["release-1"]
    render(book)
    assert book.keyring.pointers["release"].fence == 3
