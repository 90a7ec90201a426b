# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images that somebody takes it upon himself to leave behind: each with its owner, and an end of the exception."""

from __future__ import annotations

import datetime
import typing as t
from dataclasses import dataclass

from .._errors import HallmarkError, Reason
from .._oci.reference import Reference
from .live_set import LiveSetError, Mistake, pinned


@dataclass(frozen=True)
class OutOfSupport:
    """An image that need not be covered, for whom, and until when."""

    image: Reference
    owner: str
    expires: datetime.datetime

    def as_dict(self) -> dict[str, str]:
        """Return it as it was given, the image as it is known here."""
        return {"image": str(self.image), "owner": self.owner, "expires": self.expires.isoformat()}


class Exceptions(t.NamedTuple):
    """What counts now, by image, and warnings of what does not count any more."""

    valid: dict[Reference, OutOfSupport]
    expired: tuple[Reason, ...]


def read(entries: t.Sequence[t.Mapping[str, t.Any]], *, now: datetime.datetime) -> Exceptions:
    """Return the exceptions that some entries C({image, owner, expires}) are.

    Raises LiveSetError with all mistakes.
    """
    mistakes: list[Mistake] = []
    valid: dict[Reference, OutOfSupport] = {}
    expired: list[Reason] = []
    for number, entry in enumerate(entries):
        place = f"out_of_support[{number}]"
        one = _read(entry, place, mistakes)
        if one is None:
            continue
        if one.image in valid:
            mistakes.append(Mistake(place, f"{one.image} is there already"))
        if one.expires > now:
            valid[one.image] = one
        else:
            expired.append(_expired(one))
    if mistakes:
        raise LiveSetError(mistakes)
    return Exceptions(valid, tuple(expired))


def _read(entry: t.Mapping[str, t.Any], place: str, mistakes: list[Mistake]) -> OutOfSupport | None:
    before = len(mistakes)
    image: Reference | None = None
    expires: datetime.datetime | None = None
    owner = entry.get("owner")
    try:
        image = pinned(entry.get("image"))
    except HallmarkError as exc:
        mistakes.append(Mistake(f"{place}.image", f"{str(entry.get('image'))[:200]!r}: {exc.cause}"))
    if not isinstance(owner, str) or not owner.strip():
        mistakes.append(Mistake(f"{place}.owner", "nobody is named who answers for it"))
    try:
        expires = moment(entry.get("expires"))
    except ValueError as exc:
        mistakes.append(Mistake(f"{place}.expires", str(exc)))
    if image is None or expires is None or len(mistakes) > before:
        return None
    return OutOfSupport(image, t.cast(str, owner), expires)


def moment(text: t.Any) -> datetime.datetime:
    """Return the moment of a text of RFC 3339, which has a time zone. Raises ValueError."""
    try:
        # Python before 3.11 does not know the Z of RFC 3339.
        found = datetime.datetime.fromisoformat(str(text).strip().upper().replace("Z", "+00:00"))
    except ValueError as exc:
        raise ValueError(f"{str(text)[:50]!r} is no time of RFC 3339") from exc
    if found.tzinfo is None:
        raise ValueError(f"{str(text)[:50]!r} has no time zone")
    return found


def _expired(one: OutOfSupport) -> Reason:
    return Reason(
        "input_invalid",
        f"{one.image}: that it is out of support was agreed with {one.owner} until {one.expires.isoformat()}, which is "
        "over. It must be covered like all others; re-sign it, take it out of service, or agree anew.",
        str(one.image),
    )
