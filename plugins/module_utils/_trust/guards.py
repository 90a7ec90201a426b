# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What must hold before a generation changes its state. Each guard returns what is unmet, in words; none looks at time
alone, and clocks that differ only ever lengthen a wait.
"""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass

from .._moments import moment_of, text_of
from .keyring import Coverage, Enforcer, Generation, Keyring
from .window import Timing, hold_down, terms

_SHOWN = 20


@dataclass(frozen=True)
class Block:
    """A guard that is not met: its name, what it is about, why; and until when, if waiting is all that it takes."""

    guard: str
    object: str
    message: str
    until: str | None = None

    def as_dict(self) -> dict[str, str | None]:
        """Return the shape of the module contract."""
        return {"guard": self.guard, "object": self.object, "message": self.message, "until": self.until}


Blocks = tuple[Block, ...]


def clocks_agree(timing: Timing) -> Blocks:
    """Clocks must not differ by more than the bound."""
    if timing.skew <= timing.skew_bound:
        return ()
    return (Block("clock_skew", "clocks", f"clocks differ by {timing.skew:g} s, more than {timing.skew_bound} s"),)


def not_frozen(keyring: Keyring, *, is_emergency: bool) -> Blocks:
    """Planned changes wait while a compromise is not closed."""
    return () if is_emergency else tuple(
        Block(
            "incident_open", f"{identity}-{number}",
            f"{identity}-{number} was revoked at {keyring.incidents[identity, number]['declared_at']}, and the "
            "incident is not closed",
        )
        for identity, number in keyring.open_incidents()
    )


def acknowledged(keyring: Keyring, version: int, *, now: datetime.datetime) -> Blocks:
    """Every required enforcer must have been read back with a version of the policy, or a later one."""
    required = keyring.required(now)
    if not required:
        return (Block("enforcers_known", keyring.fleet, "no required enforcer is known, so nobody trusts the key"),)
    return tuple(_behind(keyring, one, version) for one in required if not keyring.has(one, version))


def _behind(keyring: Keyring, enforcer: Enforcer, version: int) -> Block:
    if enforcer.seen is None:
        message = f"enforcer {enforcer.name} has not acknowledged any policy"
    elif enforcer.policy_version < version:
        message = (
            f"enforcer {enforcer.name} still at policy {enforcer.policy_version}, last seen {enforcer.seen}; it needs "
            f"policy {version}"
        )
    elif enforcer.policy_version not in keyring.renderings:
        message = f"enforcer {enforcer.name} has policy {enforcer.policy_version}, which the ledger never rendered"
    else:
        message = (
            f"enforcer {enforcer.name} says policy {enforcer.policy_version}, but its files are not those that were "
            f"rendered, last seen {enforcer.seen}"
        )
    return Block("enforcers_acknowledged", enforcer.name, message)


def canaries_passed(keyring: Keyring, generation: Generation, *, now: datetime.datetime) -> Blocks:
    """Each required enforcer that can try images must have admitted one by the key, and denied the two others."""
    blocks = []
    for one in keyring.required(now):
        canary = keyring.canaries.get((one.name, generation.key_id))
        if not one.has_tool:
            continue
        if canary is None or canary.policy_version < generation.policy_versions["published"]:
            words = f"enforcer {one.name} has not tried images of {generation.name}"
            blocks.append(Block("canaries_passed", one.name, words))
        elif not canary.passed:
            wrong = [
                words for is_right, words in (
                    (canary.is_admitted, f"denied an image signed by {generation.name}"),
                    (canary.is_unsigned_denied, "admitted an unsigned image"),
                    (canary.is_foreign_denied, "admitted an image signed by a foreign key"),
                ) if not is_right
            ]
            blocks.append(Block("canaries_passed", one.name, f"enforcer {one.name} {' and '.join(wrong)}"))
    return tuple(blocks)


def held_down(keyring: Keyring, generation: Generation, timing: Timing, *, now: datetime.datetime) -> Blocks:
    """A published key must have been so for as long as caches may lag."""
    seconds = hold_down(keyring, timing)
    return _not_before(
        "hold_down", generation, generation.entered_at("published"), seconds, now,
        f"{generation.name} was published at {generation.entered['published']}, and is held down for {seconds} s",
    )


def overlapped(keyring: Keyring, generation: Generation, timing: Timing, *, now: datetime.datetime) -> Blocks:
    """Both keys must have been trusted for the computed window, or longer if the operator wants that; never shorter."""
    parts = terms(keyring, generation, timing)
    shortest = sum(parts.values())
    wanted = shortest if timing.overlap is None else timing.overlap
    said = " + ".join(f"{name} {seconds}" for name, seconds in parts.items())
    if wanted < shortest:
        words = f"overlap is {wanted} s, and must be {shortest} s: {said}"
        return (Block("overlap_too_short", generation.name, words),)
    return _not_before(
        "overlap", generation, generation.entered_at("retiring"), wanted, now,
        f"{generation.name} is retiring since {generation.entered['retiring']}, and overlaps for {wanted} s ({said})",
    )


def drained(keyring: Keyring, generation: Generation, timing: Timing, *, now: datetime.datetime) -> Blocks:
    """Every host that signs must obey the new pointer, and jobs that began before must be over."""
    pointer = keyring.pointers[generation.identity]
    holders = [one for one in keyring.holders_of(generation.identity) if not one.is_fenced]
    if not holders:
        words = f"no host that signs for {generation.identity} is known"
        return (Block("signers_drained", generation.identity, words),)
    late = [one for one in holders if one.fence < pointer.fence]
    if late:
        return tuple(
            Block(
                "signers_drained", one.name,
                f"signer {one.name} obeys pointer {one.fence}, not {pointer.fence}, last seen {one.seen}",
            )
            for one in late
        )
    last = max(moment_of(one.seen) for one in holders)
    return _not_before(
        "signers_drained", generation, last, timing.max_job_time + timing.skew_bound, now,
        f"jobs that began to sign with {generation.name} before {text_of(last)} may still run",
    )


def covered(keyring: Keyring, generation: Generation, timing: Timing, *, now: datetime.datetime) -> Blocks:
    """Every image of the live set must have signatures by keys that stay, as was checked after the change, just now."""
    coverage = keyring.coverage.get(generation.identity)
    if coverage is None or coverage.sequence < keyring.pointed[generation.identity]:
        words = f"the live set was not checked since {generation.name} is retiring"
        return (Block("coverage", generation.name, words),)
    own = {one.key_id for one in keyring.usable(generation.identity)} - {generation.key_id}
    leaving = coverage.staying - (keyring.trusted_now() - {generation.key_id})
    if leaving or not coverage.staying & own:
        words = (
            f"the live set was checked against keys that do not stay: {', '.join(sorted(leaving))}" if leaving else
            f"the live set was not checked against a key of {generation.identity} that stays"
        )
        return (Block("coverage", generation.name, words),)
    if not coverage.count:
        return (Block("coverage", generation.name, "the live set is empty, and proves nothing"),)
    if coverage.uncovered_count:
        named = ", ".join(coverage.uncovered[:_SHOWN])
        more = coverage.uncovered_count - min(len(coverage.uncovered), _SHOWN)
        return (Block(
            "coverage", generation.name,
            f"{coverage.uncovered_count} of {coverage.count} images have no signature by a key that stays: {named}"
            + (f", and {more} more" if more else ""),
        ),)
    return checked_late_enough(keyring, generation, coverage, timing, now=now)


def checked_late_enough(
    keyring: Keyring, generation: Generation, coverage: Coverage, timing: Timing, *, now: datetime.datetime
) -> Blocks:
    """What was checked must have been so after the last job with the key that leaves, and not long ago."""
    checked = moment_of(coverage.checked_at)
    if checked - datetime.timedelta(seconds=math.ceil(coverage.seconds)) < _drained_at(keyring, generation, timing):
        words = (
            f"the live set was last checked at {coverage.checked_at}, when jobs that sign with {generation.name} could "
            "still run"
        )
        return (Block("coverage", generation.name, words),)
    age = (now - checked).total_seconds()
    if age > timing.coverage_max_age:
        return (Block("coverage", generation.name, f"the live set was last checked {age:.0f} s ago"),)
    return ()


def _drained_at(keyring: Keyring, generation: Generation, timing: Timing) -> datetime.datetime:
    """Return from when on no image can have come that only a former key signed."""
    jobs = datetime.timedelta(seconds=timing.max_job_time + timing.skew_bound)
    return max(
        (
            moment_of(one.seen) + (datetime.timedelta() if one.is_fenced else jobs)
            for one in keyring.holders_of(generation.identity)
        ),
        default=generation.entered_at("retiring"),
    )


def rollback_over(generation: Generation, timing: Timing, *, now: datetime.datetime) -> Blocks:
    """A withdrawn key is kept as long as somebody may want it back."""
    return _not_before(
        "rollback_window", generation, generation.entered_at("withdrawn"), timing.rollback_window + timing.skew_bound,
        now, f"{generation.name} was withdrawn at {generation.entered['withdrawn']}, and is kept for a rollback",
    )


def copies_gone(keyring: Keyring, generation: Generation) -> Blocks:
    """Every host must have said, after destruction began, that it has no copy of the private key."""
    holders = keyring.holders_of(generation.identity)
    if not holders:
        return (Block("copies_gone", generation.name, f"no host has said which copies of {generation.name} it has"),)
    begun = keyring.destroying.get((generation.identity, generation.number))
    return tuple(
        Block(
            "copies_gone", one.name,
            f"signer {one.name} has a copy of {generation.name}" if generation.key_id in one.key_ids else
            f"signer {one.name} has not said since that its copy of {generation.name} is gone, last seen {one.seen}",
        )
        for one in holders
        if not one.is_fenced and (generation.key_id in one.key_ids or begun is None or one.sequence < begun)
    )


def _not_before(
    guard: str, generation: Generation, since: datetime.datetime, seconds: int, now: datetime.datetime, message: str
) -> Blocks:
    until = since + datetime.timedelta(seconds=seconds)
    if now >= until:
        return ()
    return (Block(guard, generation.name, f"{message}, until {text_of(until)}", until=text_of(until)),)


def all_of(*blocks: Blocks) -> Blocks:
    """Return what is unmet of several guards."""
    return tuple(block for some in blocks for block in some)
