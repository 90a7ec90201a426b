# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who may have what signed, and how often; and the record of every use.

A bundle carries no repository, so a limit to repositories limits what may be asked for, not where the signature counts.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from .._custody import journal
from .._errors import VerificationError
from .._moments import text_of
from .._oci.pattern import Pattern
from . import claim as claims
from .claim import Claim

# Of one caller. What all of them have recorded in an hour must fit into the part of the record that is read.
MAX_PER_HOUR = 1000
_HOUR = datetime.timedelta(hours=1)


@dataclass(frozen=True)
class Caller:
    """Somebody who may have images signed: of which repositories, and how many in an hour."""

    name: str
    repositories: tuple[Pattern, ...]
    per_hour: int


def require_allowed(caller: Caller, name: str) -> None:
    """Refuse a repository, HOST/REPO, outside the caller's patterns. Raises VerificationError (reference_mismatch)."""
    if not any(pattern.matches(name) for pattern in caller.repositories):
        allowed = ", ".join(map(str, caller.repositories)) or "nothing"
        raise claims.refused(
            "reference_mismatch", name, f"{caller.name} may have signed: {allowed}",
            "Ask for one of these, or have a pattern added where the key is.",
        )


def take_down(
    record: journal.Writer, caller: Caller, claim: Claim, reference: str, key_id: str, *, now: datetime.datetime
) -> journal.Head:
    """Record one use before it happens. Raises VerificationError (limit_exceeded), CustodyError."""
    used, is_whole = _used(record, caller, text_of(now - _HOUR))
    if used >= caller.per_hour:
        raise _exceeded(reference, f"{caller.name} had {used} signatures made in the last hour, of {caller.per_hour}")
    if not is_whole:
        # Who had how many made cannot be told then.
        raise _exceeded(reference, "so much was recorded in the last hour that its beginning is not read any more")
    return record.append({
        "time": text_of(now), "event": "signed", "caller": caller.name, "reference": reference, "format": claim.format,
        "docker_reference": claim.docker_reference if claim.format == "sig" else None,
        "annotations": dict(claim.annotations), "sha256": claim.sha256, "key_id": key_id,
    })


def _used(record: journal.Writer, caller: Caller, since: str) -> tuple[int, bool]:
    """Return how many uses by a caller were recorded after a moment, and whether what was read reaches back so far."""
    used, is_whole = 0, True
    for entry in record.recent():
        # A clock that was put back leaves old times among new ones: what is read is read to its end.
        is_recent = str(entry.members.get("time")) > since
        used += is_recent and entry.members.get("caller") == caller.name and entry.members.get("event") == "signed"
        is_whole = not is_recent or entry.sequence == 1
    return used, is_whole


def _exceeded(reference: str, cause: str) -> VerificationError:
    return VerificationError(
        code="limit_exceeded", object=reference, attempt="sign it", cause=cause,
        advice="Wait, or have the limit raised where the key is.",
    )
