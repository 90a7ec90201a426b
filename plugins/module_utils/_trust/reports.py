# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What hosts report to the ledger: which enforcers there are and what they have in force, which signers hold what, how
much of the live set is covered. Only what is new is written; a second report changes nothing.
"""

from __future__ import annotations

import datetime
import typing as t

from .._errors import TrustError
from .._moments import moment_of
from . import guards
from .keyring import Keyring, Members
from .window import Timing

# So that an entry stays far below the longest line of a journal.
_AT_ONCE = 30
_NAMED = 50
Reports = t.Sequence[t.Mapping[str, t.Any]]


def enforcers(keyring: Keyring, wanted: Reports) -> t.Iterator[Members]:
    """Yield an entry for each enforcer that is new or another than it was. None goes by being left out."""
    _require_once("enforcers", [one["name"] for one in wanted])
    for one in wanted:
        known = keyring.enforcers.get(one["name"])
        said = (one["class"], one["kind"], one["interval"], one["has_tool"])
        if known is None or said != (known.cls, known.kind, known.interval, known.has_tool):
            yield {
                "event": "enforcer", "enforcer": one["name"], "class": one["class"], "kind": one["kind"],
                "interval": one["interval"], "has_tool": one["has_tool"],
            }


def removed(keyring: Keyring, names: t.Sequence[str]) -> t.Iterator[Members]:
    """Yield an entry for each enforcer that is taken out on purpose."""
    for name in dict.fromkeys(names):
        if name in keyring.enforcers:
            yield {"event": "enforcer_removed", "enforcer": name}


def excused(keyring: Keyring, wanted: Reports) -> t.Iterator[Members]:
    """Yield an entry for each enforcer that need not follow until some moment."""
    for one in wanted:
        _require_enforcer(keyring, one["enforcer"], "excuse it")
        if keyring.enforcers[one["enforcer"]].excused_until != one["until"]:
            yield {"event": "enforcer_excused", "enforcer": one["enforcer"], "until": one["until"]}


def acknowledgements(keyring: Keyring, wanted: Reports) -> t.Iterator[Members]:
    """Yield entries of the policies that enforcers were read back with, where that changed."""
    _require_once("acknowledgements", [one["enforcer"] for one in wanted])
    new = []
    for one in wanted:
        known = _require_enforcer(keyring, one["enforcer"], "take in its acknowledgement")
        _require_version(keyring, one, "take in its acknowledgement")
        if (one["policy_version"], one["effective_hash"]) != (known.policy_version, known.effective_hash):
            new.append({name: one[name] for name in ("enforcer", "policy_version", "effective_hash", "ledger_head")})
    for number in range(0, len(new), _AT_ONCE):
        yield {"event": "acknowledged", "acknowledgements": new[number:number + _AT_ONCE]}


def canaries(keyring: Keyring, wanted: Reports) -> t.Iterator[Members]:
    """Yield entries of what enforcers did with images that show whether they enforce, where that is new."""
    new = []
    for one in wanted:
        _require_enforcer(keyring, one["enforcer"], "take in what it did with canaries")
        _require_version(keyring, one, "take in what it did with canaries")
        if keyring.by_key(one["key_id"]) is None:
            raise TrustError(
                code="input_invalid", object=one["enforcer"], attempt="take in what it did with canaries",
                cause=f"key {one['key_id']} is that of no generation", advice="Nothing was written.",
            )
        known = keyring.canaries.get((one["enforcer"], one["key_id"]))
        said = {name: one[name] for name in ("admitted", "unsigned_denied", "foreign_denied")}
        if known is None or known.policy_version < one["policy_version"] or list(said.values()) != [
            known.is_admitted, known.is_unsigned_denied, known.is_foreign_denied
        ]:
            new.append({
                "enforcer": one["enforcer"], "key_id": one["key_id"], "policy_version": one["policy_version"], **said,
            })
    for number in range(0, len(new), _AT_ONCE):
        yield {"event": "canaries", "canaries": new[number:number + _AT_ONCE]}


def signers(keyring: Keyring, wanted: Reports) -> t.Iterator[Members]:
    """Yield an entry of each host that signs, where what it obeys or holds changed, or a destruction waits for it."""
    for one in wanted:
        known = keyring.holders.get((one["signer"], one["identity"]))
        said = one["fence"], frozenset(one["key_ids"])
        awaited = max(
            (number for (identity, _generation), number in keyring.destroying.items() if identity == one["identity"]),
            default=0,
        )
        if known and (known.fence, known.key_ids) == said and known.sequence > awaited and not known.is_fenced:
            continue
        pointer = keyring.pointers.get(one["identity"])
        if one["fence"] > (pointer.fence if pointer else 0):
            raise TrustError(
                code="ledger_mismatch", object=one["signer"], attempt="take in what it obeys",
                cause=f"it obeys pointer {one['fence']}, and this ledger made {pointer.fence if pointer else 0} so far",
                advice="Nothing was written. Use the ledger that made that pointer.",
            )
        # A lower one than before is that of an old disk: guards wait until the pointer was brought there again.
        yield {"event": "signers", "signers": [{
            "signer": one["signer"], "identity": one["identity"], "fence": one["fence"],
            "key_ids": sorted(one["key_ids"]),
        }]}


def fenced(keyring: Keyring, identity: str, names: t.Sequence[str]) -> t.Iterator[Members]:
    """Yield an entry for each signer whose credentials somebody took away."""
    for name in dict.fromkeys(names):
        known = keyring.holders.get((name, identity))
        if known is None:
            raise TrustError(
                code="input_invalid", object=name, attempt="note that it is fenced",
                cause=f"it never signed for {identity}",
                advice="Nothing was written. Name a signer that the ledger knows.",
            )
        if not known.is_fenced:
            yield {"event": "signer_fenced", "signer": name, "identity": identity}


def coverage(
    keyring: Keyring, identity: str, said: t.Mapping[str, t.Any], *, timing: Timing, now: datetime.datetime
) -> t.Iterator[Members]:
    """Yield an entry of how much of the live set keys cover that stay; not if the last one says so and is fresh."""
    known = keyring.coverage.get(identity)
    uncovered = [*said["uncovered"]]
    # What was seen before a signer learned of a change says nothing of what it signed until then.
    changed = max((one.sequence for one in keyring.holders_of(identity)), default=0)
    if (
        known is not None and known.sequence > max(changed, keyring.pointed.get(identity, 0))
        and (known.staying, known.live_set_hash, known.count, known.uncovered_count)
        == (frozenset(said["staying"]), said["live_set_hash"], said["count"], len(uncovered))
        and (now - moment_of(known.checked_at)).total_seconds() * 2 < timing.coverage_max_age
        and not any(
            guards.checked_late_enough(keyring, one, known, timing, now=now)
            for one in keyring.in_state(identity, "retiring")
        )
    ):
        return
    yield {
        "event": "coverage", "identity": identity, "staying": sorted(said["staying"]),
        "live_set_hash": said["live_set_hash"], "count": said["count"], "uncovered": uncovered[:_NAMED],
        "uncovered_count": len(uncovered), "seconds": said["seconds"],
    }


def noted(keyring: Keyring, identity: str, number: int, note: str) -> t.Iterator[Members]:
    """Yield an entry of what was done about a revocation, the first time."""
    incident = keyring.incidents.get((identity, number))
    if incident is None:
        raise TrustError(
            code="input_invalid", object=f"{identity}-{number}", attempt=f"note {note}", cause="it was not revoked",
            advice="Nothing was written. Name the generation of the incident.",
        )
    if note not in incident["notes"]:
        yield {"event": "noted", "identity": identity, "generation": number, "note": note}


def confirmations(keyring: Keyring, identity: str) -> t.Iterator[Members]:
    """Yield an entry for each change that all required enforcers, or all signers, have by now."""
    for one in keyring.of(identity):
        if one.state in ("published", "withdrawn", "revoked", "abandoned"):
            is_so = one.policy_versions[one.state] in keyring.reached
        elif one.state == "active":
            pointer, holders = keyring.pointers[identity], keyring.holders_of(identity)
            is_so = bool(holders) and all(each.is_fenced or each.fence >= pointer.fence for each in holders)
        else:
            continue
        if is_so and (identity, one.number, one.state) not in keyring.confirmed:
            yield {"event": "confirmed", "identity": identity, "generation": one.number, "to": one.state}


def _require_once(option: str, names: t.Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise TrustError(
            code="input_invalid", object=option, attempt="take it in", cause=f"{', '.join(twice)} is named twice",
            advice="Nothing was written. Name each once.",
        )


def _require_version(keyring: Keyring, one: t.Mapping[str, t.Any], attempt: str) -> None:
    if one["policy_version"] > keyring.policy_version:
        raise TrustError(
            code="ledger_mismatch", object=one["enforcer"], attempt=attempt,
            cause=f"it has policy {one['policy_version']}, and this ledger made {keyring.policy_version} so far",
            advice="Nothing was written. Use the ledger that made that policy.",
        )


def _require_enforcer(keyring: Keyring, name: str, attempt: str) -> t.Any:
    found = keyring.enforcers.get(name)
    if found is None:
        raise TrustError(
            code="input_invalid", object=name, attempt=attempt, cause="the ledger knows no such enforcer",
            advice="Nothing was written. Name it in enforcers first.",
        )
    return found
