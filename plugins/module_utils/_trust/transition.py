# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What brings a generation from one state into the next: what is refused, what is waited for, what is written.

A step that can never be taken raises TrustError (transition_refused); one that cannot be taken yet returns what blocks
it. Nothing here writes: the entries of a plan are appended by whoever holds the ledger, each whole by itself.
"""

from __future__ import annotations

import datetime
import hashlib
import typing as t
from dataclasses import dataclass

from .._errors import HallmarkError, TrustError
from . import guards
from .guards import Blocks
from .keyring import TERMINAL, TRUSTED, Generation, Keyring, Members, State
from .window import Timing

if t.TYPE_CHECKING:
    from .._keys import pem

# Enforcers that know other curves, or longer hashes, are few.
_CURVE, _RSA_BITS = "ecdsa-p256", 2048


@dataclass(frozen=True)
class Request:
    """Who wants which generation of an identity in which state, and why. No number means the one that is meant by then.

    C(is_emergency) passes over the freeze of an open incident and over a generation that is already on its way, never
    over proofs. C(accepts_none) lets a revocation leave an identity without any key.
    """

    identity: str
    state: State
    author: str
    reason: str
    number: int | None = None
    public_key: pem.PublicKey | None = None
    is_spare: bool = False
    is_emergency: bool = False
    accepts_none: bool = False
    evidence: str = ""
    suspected_since: str | None = None


@dataclass(frozen=True)
class Plan:
    """What is to be written, or what blocks it; neither if all is as wanted."""

    entries: tuple[Members, ...] = ()
    blocked: Blocks = ()


@dataclass(frozen=True)
class _Case:
    """All that a step is decided by."""

    keyring: Keyring
    request: Request
    generation: Generation
    timing: Timing
    now: datetime.datetime
    make_nobody: t.Callable[[], str]


def plan(
    keyring: Keyring, request: Request, *, timing: Timing, now: datetime.datetime,
    make_nobody: t.Callable[[], str],
) -> Plan:
    """Return the step that is asked for. C(make_nobody) makes the public key of a pair whose private half is let go.

    Raises TrustError: transition_refused, input_invalid.
    """
    if request.state == "staged":
        return _stage(keyring, request)
    generation = _meant(keyring, request)
    if request.state == "revoked":
        return _revoke(keyring, request, generation, make_nobody, now)
    if generation.state == request.state:
        return Plan()
    _require_step(generation, request.state)
    return _DECIDE[request.state](_Case(keyring, request, generation, timing, now, make_nobody))


# The states that a state is reached from on purpose; a generation is retiring when another is activated.
_STEPS: dict[State, tuple[State, ...]] = {
    "published": ("staged", "withdrawn"), "active": ("published", "retiring"), "withdrawn": ("retiring",),
    "retired": ("withdrawn",), "abandoned": ("staged", "published"),
}
# Which generation is meant by a state if none is named.
_MEANT: dict[State, tuple[State, ...]] = {
    "published": ("staged", "published"), "active": ("published", "active"), "withdrawn": ("retiring",),
    "retired": ("withdrawn",), "abandoned": ("staged",), "revoked": (),
}


def _meant(keyring: Keyring, request: Request) -> Generation:
    if request.number is not None:
        found = keyring.generations.get((request.identity, request.number))
        if found is None:
            raise refused(request, "the ledger knows no such generation", "Stage it first, or name another one.")
        return found
    if not _MEANT[request.state]:
        cause = "which key leaked is not said, and a guess could hit its successor"
        raise refused(request, cause, "Name the generation.")
    for state in _MEANT[request.state]:
        several = [one for one in keyring.in_state(request.identity, state) if not one.is_spare or state != "published"]
        if len(several) > 1:
            names = ", ".join(one.name for one in several)
            raise refused(request, f"several could be meant: {names}", "Name the generation.")
        if several:
            return several[0]
    raise refused(
        request, f"no generation of {request.identity} is {' or '.join(_MEANT[request.state])}",
        "Take the steps before it first, or name the generation.",
    )


def _require_step(generation: Generation, state: State) -> None:
    if generation.state in TERMINAL:
        raise _refused_for(generation, state, f"it is {generation.state}, and stays so", "Stage a new generation.")
    if generation.state not in _STEPS[state]:
        raise _refused_for(
            generation, state, f"it is {generation.state}, and that is reached from {' or '.join(_STEPS[state])} only",
            "Take the steps before it first: none is skipped.",
        )
    if generation.is_destroying and state != "retired":
        raise _refused_for(
            generation, state, "the destruction of its private key has begun", "Stage a new generation.",
        )


# --- the steps -------------------------------------------------------------------------------------------------------


def _stage(keyring: Keyring, request: Request) -> Plan:
    public = request.public_key
    if public is None:
        raise _invalid(request, "public_key_path", "a staged generation needs its public key", "Name it.")
    known = keyring.by_key(public.key_id)
    if known is not None:
        if (known.identity, known.state) == (request.identity, "staged") and request.number in (None, known.number):
            return Plan()
        raise refused(
            request, f"key {public.key_id} is that of {known.name}, which is {known.state}: no key comes back",
            "Make a new key.",
        )
    _require_algorithm(public, request)
    number = max((one.number for one in keyring.of(request.identity)), default=0) + 1
    if request.number not in (None, number):
        raise refused(request, f"the next generation is {number}", "Leave the number out, or name that one.")
    on_its_way = [
        one for one in keyring.in_state(request.identity, "staged", "published") if one.is_spare == request.is_spare
    ]
    blocked = guards.not_frozen(keyring, is_emergency=request.is_emergency)
    if on_its_way and not request.is_emergency:
        blocked = (*blocked, guards.Block(
            "one_at_a_time", on_its_way[0].name,
            f"{on_its_way[0].name} is {on_its_way[0].state}, and must get on first",
        ))
    entry = _entry(request, "staged", number, key_id=public.key_id, algorithm=public.algorithm.name)
    return Plan(blocked=blocked) if blocked else Plan(({
        **entry, "public_key": public.pem, "spare": request.is_spare,
    },))


def _require_algorithm(public: pem.PublicKey, request: Request) -> None:
    name = public.algorithm.name
    bits = int(name.partition("-")[2]) if name.startswith("rsa-") else 0
    if name != _CURVE and bits < _RSA_BITS:
        raise refused(
            request, f"its algorithm is {name}, which not every enforcer can verify",
            f"Make a key of {_CURVE}, or RSA of {_RSA_BITS} bits or more.",
        )


def _publish(case: _Case) -> Plan:
    keyring, generation = case.keyring, case.generation
    blocked = guards.all_of(_planned(case), _not_denied(keyring, generation))
    return Plan(blocked=blocked) if blocked else Plan((
        _trust_entry(keyring, case.request, "published", generation, {*keyring.trusted_now(), generation.key_id}),
    ))


def _activate(case: _Case) -> Plan:
    keyring, generation, identity = case.keyring, case.generation, case.request.identity
    blocked = guards.all_of(
        _planned(case), _not_denied(keyring, generation),
        guards.acknowledged(keyring, generation.policy_versions["published"], now=case.now),
        guards.canaries_passed(keyring, generation, now=case.now),
        guards.held_down(keyring, generation, case.timing, now=case.now),
    )
    if blocked:
        return Plan(blocked=blocked)
    former = keyring.in_state(identity, "active")
    return Plan((_entry(
        case.request, "activated", generation.number, key_id=generation.key_id, fence=_next_fence(keyring, identity),
        demoted=former[0].number if former else None, policy_version=keyring.policy_version,
        **{"from": generation.state},
    ),))


def _withdraw(case: _Case) -> Plan:
    keyring, generation = case.keyring, case.generation
    blocked = guards.all_of(
        _planned(case), guards.drained(keyring, generation, case.timing, now=case.now),
        guards.covered(keyring, generation, case.timing, now=case.now),
        guards.overlapped(keyring, generation, case.timing, now=case.now),
    )
    return Plan(blocked=blocked) if blocked else Plan((
        _trust_entry(keyring, case.request, "withdrawn", generation, keyring.trusted_now() - {generation.key_id}),
    ))


def _retire(case: _Case) -> Plan:
    keyring, generation = case.keyring, case.generation
    blocked = guards.all_of(
        guards.clocks_agree(case.timing),
        guards.acknowledged(keyring, generation.policy_versions["withdrawn"], now=case.now),
        guards.rollback_over(generation, case.timing, now=case.now),
    )
    if blocked:
        return Plan(blocked=blocked)
    if not generation.is_destroying:
        # From here on nobody may want it back; then the hosts are told.
        entry = _entry(case.request, "destroying", generation.number, key_id=generation.key_id)
        return Plan((entry,), _awaited(keyring, generation))
    gone = guards.copies_gone(keyring, generation)
    return Plan(blocked=gone) if gone else Plan((
        _trust_entry(keyring, case.request, "retired", generation, keyring.trusted_now()),
    ))


def _awaited(keyring: Keyring, generation: Generation) -> Blocks:
    names = [one.name for one in keyring.holders_of(generation.identity) if not one.is_fenced]
    return tuple(
        guards.Block("copies_gone", name, f"signer {name} is to destroy its copy of {generation.name}, and to say so")
        for name in names or [generation.identity]
    )


def _abandon(case: _Case) -> Plan:
    keyring, generation = case.keyring, case.generation
    if "active" in generation.entered:
        raise _refused_for(
            generation, "abandoned", "it signed before, and images may need it", "Make it active again, or revoke it."
        )
    others = {one.key_id for one in keyring.usable(generation.identity)} - {generation.key_id}
    return Plan(({
        **_trust_entry(keyring, case.request, "abandoned", generation, keyring.trusted_now() - {generation.key_id}),
        # A policy without any key could not be made, and the former one would stand.
        "nobody": case.make_nobody() if generation.state in TRUSTED and not others else "",
    },))


_DECIDE: dict[State, t.Callable[[_Case], Plan]] = {
    "published": _publish, "active": _activate, "withdrawn": _withdraw, "retired": _retire, "abandoned": _abandon,
}


def _planned(case: _Case) -> Blocks:
    return guards.all_of(
        guards.not_frozen(case.keyring, is_emergency=case.request.is_emergency), guards.clocks_agree(case.timing)
    )


def _revoke(
    keyring: Keyring, request: Request, generation: Generation, make_nobody: t.Callable[[], str],
    now: datetime.datetime,
) -> Plan:
    """Distrust a key at once. If it is the one that signs, a published generation takes over.

    One that every required enforcer trusts comes first, of those the spare.
    """
    if generation.key_id in keyring.denied:
        return Plan()
    pointer = keyring.pointers.get(request.identity)
    is_signing = bool(pointer and pointer.generation == generation.number)
    others = [one for one in keyring.usable(request.identity) if one.number != generation.number]
    waiting = sorted(
        (one for one in others if one.state == "published" and not one.is_destroying),
        key=lambda one: (
            bool(guards.acknowledged(keyring, one.policy_versions["published"], now=now)), not one.is_spare, one.number,
        ),
    )
    if not others and generation.state in TRUSTED and not request.accepts_none:
        raise refused(
            request,
            f"no other key of {request.identity} is trusted, and every enforcer would deny all of its images",
            "Publish a spare generation first; or accept that, if the leak is worse.",
        )
    successor = waiting[0] if is_signing and waiting else None
    after = keyring.trusted_now() - {generation.key_id}
    return Plan(({
        **_trust_entry(keyring, request, "revoked", generation, after, denies=generation.key_id),
        "successor": successor.number if successor else None,
        "fence": _next_fence(keyring, request.identity) if is_signing else None,
        "nobody": make_nobody() if not others else "",
        "evidence": request.evidence, "suspected_since": request.suspected_since,
    },))


def suspend(keyring: Keyring, identity: str, *, is_suspended: bool, author: str, reason: str) -> Plan:
    """Return what takes signing off the pointer, or puts it back: the key stays trusted. Raises TrustError."""
    pointer = keyring.pointers.get(identity)
    if pointer is None or pointer.generation is None:
        raise TrustError(
            code="transition_refused", object=identity, attempt="suspend its pointer",
            cause="it has no active generation", advice="Nothing was written. Activate one first.",
        )
    if pointer.is_suspended == is_suspended:
        return Plan()
    return Plan(({
        "event": "pointer", "identity": identity, "generation": pointer.generation, "suspended": is_suspended,
        "fence": pointer.fence + 1, "author": author, "reason": reason,
    },))


# --- entries ---------------------------------------------------------------------------------------------------------


def _entry(request: Request, event: str, number: int, **more: t.Any) -> Members:
    return {
        "event": event, "identity": request.identity, "generation": number, **more, "author": request.author,
        "reason": request.reason,
    }


def _trust_entry(
    keyring: Keyring, request: Request, event: str, generation: Generation, after: t.AbstractSet[str], *,
    denies: str | None = None,
) -> Members:
    """Return an entry with what is trusted before and after it; a change is a version of the policy more."""
    before = keyring.trusted_now()
    denied = keyring.denied | ({denies} if denies else set())
    is_change = before != after or denied != keyring.denied
    return _entry(
        request, event, generation.number, key_id=generation.key_id, **{"from": generation.state},
        trust_before=hash_of_trust(before, keyring.denied), trust_after=hash_of_trust(after, denied),
        policy_version=keyring.policy_version + is_change,
    )


def hash_of_trust(trusted: t.AbstractSet[str], denied: t.AbstractSet[str]) -> str:
    """Return lower-case hex SHA-256 over the keys that are trusted and those that are denied, a line each, sorted."""
    lines = [f"trusted {one}\n" for one in sorted(trusted)] + [f"denied {one}\n" for one in sorted(denied)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _next_fence(keyring: Keyring, identity: str) -> int:
    pointer = keyring.pointers.get(identity)
    return pointer.fence + 1 if pointer else 1


def _not_denied(keyring: Keyring, generation: Generation) -> Blocks:
    if generation.key_id not in keyring.denied:
        return ()
    return (guards.Block("key_denied", generation.name, f"the key of {generation.name} is denied for good"),)


def refused(request: Request, cause: str, advice: str) -> TrustError:
    """Return the error for a step that cannot be taken."""
    name = request.identity if request.number is None else f"{request.identity}-{request.number}"
    return TrustError(
        code="transition_refused", object=name, attempt=f"make it {request.state}", cause=cause,
        advice=f"Nothing was written. {advice}",
    )


def _refused_for(generation: Generation, state: State, cause: str, advice: str) -> TrustError:
    return TrustError(
        code="transition_refused", object=generation.name, attempt=f"make it {state}", cause=cause,
        advice=f"Nothing was written. {advice}",
    )


def _invalid(request: Request, where: str, cause: str, advice: str) -> HallmarkError:
    return TrustError(
        code="input_invalid", object=where, attempt=f"make {request.identity} {request.state}", cause=cause,
        advice=advice,
    )
