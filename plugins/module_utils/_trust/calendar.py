# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When each step of a rotation is due: fractions of the lifetime of the key that signs.

The calendar only says when to try. The guards decide, and what was begun is always gone on with.
"""

from __future__ import annotations

import datetime
import typing as t
from dataclasses import dataclass

from .._moments import moment_of
from .keyring import Keyring, State

if t.TYPE_CHECKING:
    from .keyring import Generation


@dataclass(frozen=True)
class Calendar:
    """How long a key signs, in seconds (None: until somebody says so), and at which part of that each step begins."""

    lifetime: int | None = None
    stage: float = 0.7
    publish: float = 0.75
    activate: float = 0.9


@dataclass(frozen=True)
class Due:
    """A step: the state that a generation comes into, its number (None for a new one), and from when on."""

    state: State
    number: int | None
    at: datetime.datetime


def due(
    keyring: Keyring, identity: str, calendar: Calendar, *, now: datetime.datetime, is_wanted_now: bool = False
) -> tuple[Due, ...]:
    """Return the next steps of an identity, those of the past and those to come; spares and suspicions do not count.

    With C(is_wanted_now), the whole way of one new key is due at once.
    """
    active = keyring.in_state(identity, "active")
    found = [Due("withdrawn", one.number, one.entered_at("retiring")) for one in keyring.in_state(identity, "retiring")]
    found += [
        Due("retired", one.number, one.entered_at("withdrawn")) for one in keyring.in_state(identity, "withdrawn")
    ]
    coming = [one for one in keyring.in_state(identity, "staged", "published") if not one.is_spare]
    if coming:
        state: State = "published" if coming[0].state == "staged" else "active"
        found.append(Due(state, coming[0].number, _at(active, calendar, state, now, is_wanted_now)))
    elif not active or calendar.lifetime is not None or is_wanted_now:
        found.append(Due("staged", None, _at(active, calendar, "staged", now, is_wanted_now)))
    return tuple(found)


def _at(
    active: tuple[Generation, ...], calendar: Calendar, state: State, now: datetime.datetime, is_wanted_now: bool
) -> datetime.datetime:
    """Return when a step begins: at once for the first key, and without a calendar."""
    if not active or is_wanted_now or calendar.lifetime is None:
        return now
    part = {"staged": calendar.stage, "published": calendar.publish, "active": calendar.activate}[state]
    since = moment_of(active[0].entered["active"])
    return since + datetime.timedelta(seconds=calendar.lifetime * part)
