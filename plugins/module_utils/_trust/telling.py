# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a keyring says, as modules return it; and what is wrong with it that nobody has asked about."""

from __future__ import annotations

import datetime
import typing as t

from .._moments import moment_of, text_of
from .calendar import Calendar, due
from .keyring import TERMINAL, Keyring
from .ledger import Ledger
from .window import Timing, hold_down, terms

Shape = dict[str, t.Any]


def summary(ledger: Ledger, identity: str | None) -> Shape:
    """Return the shape of the module contract: head, pointer, keyring; and what else both modules return.

    Without an identity, there are the generations of all, and no pointer.
    """
    keyring = ledger.keyring
    head = ledger.head
    pointer = keyring.pointers.get(identity) if identity is not None else None
    return {
        "head": {"sequence": head.sequence, "hash": head.hash} if head else None,
        "pointer": pointer.as_dict() if pointer else None,
        "keyring": [
            {**one.as_dict(), "destroy": keyring.is_doomed(one)}
            for _key, one in sorted(keyring.generations.items()) if identity in (None, one.identity)
        ],
        "policy_version": keyring.policy_version,
        "denied_key_ids": sorted(keyring.denied),
    }


def steps(
    keyring: Keyring, identity: str | None, calendar: Calendar, *, now: datetime.datetime, is_wanted_now: bool = False
) -> list[Shape]:
    """Return the steps to come of one identity or all, those that are due first."""
    identities = keyring.identities if identity is None else (identity,)
    found = [
        {"identity": name, "state": one.state, "generation": one.number, "at": text_of(one.at), "due": one.at <= now}
        for name in identities
        for one in due(keyring, name, calendar, now=now, is_wanted_now=is_wanted_now)
    ]
    return sorted(found, key=lambda one: (not one["due"], str(one["at"])))


def enforcers(keyring: Keyring) -> list[Shape]:
    """Return what is known of each enforcer; C(floor) is the lowest version that it may be given."""
    return [
        {
            "enforcer": one.name, "class": one.cls, "kind": one.kind, "policy_version": one.policy_version,
            "seen": one.seen, "floor": max(one.floor, 1), "excused_until": one.excused_until,
            "follows": keyring.has(one, keyring.policy_version),
        }
        for _name, one in sorted(keyring.enforcers.items())
    ]


def windows(keyring: Keyring, identity: str | None, timing: Timing) -> list[Shape]:
    """Return the shortest overlap of each retiring generation, its terms, and the hold-down of those to come."""
    return [
        {
            "identity": one.identity, "generation": one.number, "hold_down": hold_down(keyring, timing),
            "terms": terms(keyring, one, timing), "overlap": sum(terms(keyring, one, timing).values()),
        }
        for _key, one in sorted(keyring.generations.items())
        if one.state == "retiring" and identity in (None, one.identity)
    ]


def incidents(keyring: Keyring) -> list[Shape]:
    """Return each revocation with its timeline: who was told when."""
    return [
        {
            "identity": identity, "generation": number, "declared_at": one["declared_at"], "evidence": one["evidence"],
            "suspected_since": one["suspected_since"], "distrusted_by_half_at": one["half_at"],
            "distrusted_by_all_at": one["all_at"], "notes": dict(one["notes"]),
            "behind": sorted(
                each.name for each in keyring.enforcers.values() if not keyring.has(each, one["policy_version"])
            ),
        }
        for (identity, number), one in sorted(keyring.incidents.items())
    ]


def problems(keyring: Keyring, path: str, *, now: datetime.datetime) -> list[Shape]:
    """Return what should not be so: each with the path of the ledger, a code and words."""
    found = []
    for one in keyring.enforcers.values():
        if one.policy_version < one.floor:
            found.append((
                "enforcer_went_back",
                f"enforcer {one.name} has policy {one.policy_version}, and had {one.floor}: an old disk came back",
            ))
        if one.excused_until and moment_of(one.excused_until) > now:
            found.append(("enforcer_excused", f"enforcer {one.name} need not follow until {one.excused_until}"))
    for identity, pointer in sorted(keyring.pointers.items()):
        if pointer.is_suspended:
            words = f"{identity} does not sign since {pointer.changed_at}: revoke its key, or let it go on"
            found.append(("suspended", words))
        if pointer.generation is None:
            found.append(("no_active_generation", f"{identity} has no key that signs since {pointer.changed_at}"))
        if not any(one.is_spare for one in keyring.in_state(identity, "published")):
            words = f"{identity} has no published spare: after a leak, nothing could take over at once"
            found.append(("no_spare", words))
    for holder in keyring.holders.values():
        for generation in keyring.of(holder.identity):
            if generation.state in TERMINAL and generation.key_id in holder.key_ids and not holder.is_fenced:
                found.append((
                    "copy_left", f"signer {holder.name} has a copy of {generation.name}, which is {generation.state}",
                ))
    return [{"path": path, "code": code, "message": message} for code, message in sorted(found)]
