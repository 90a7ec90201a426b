# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The calendar: which steps are due when."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._trust.calendar import Calendar, Due, due
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._trust.rotation_story import (
    at,
    publish_and_try,
    stage,
    step,
    told,
)

YEAR = Calendar(lifetime=100_000)


@pytest.mark.parametrize(("last", "calendar", "is_wanted_now", "expected"), [
    # The first key needs no calendar.
    ("found", Calendar(), False, [("staged", None, 5000)]),
    ("stage 1", Calendar(), False, [("published", 1, 5000)]),
    ("stage 1", YEAR, False, [("published", 1, 5000)]),
    ("canaries 1", YEAR, False, [("active", 1, 5000)]),
    # From then on nothing comes by itself, unless a lifetime is set or somebody wants it.
    ("signers 1", Calendar(), False, []),
    ("signers 1", Calendar(), True, [("staged", None, 5000)]),
    ("signers 1", YEAR, False, [("staged", None, 71_000)]),
    ("signers 1", dataclasses.replace(YEAR, stage=0.5), False, [("staged", None, 51_000)]),
    ("signers 1", YEAR, True, [("staged", None, 5000)]),
    # The spare is nobody's successor on the calendar.
    ("publish spare", YEAR, False, [("staged", None, 71_000)]),
    ("publish spare", Calendar(), False, []),
    ("stage 3", YEAR, False, [("published", 3, 76_000)]),
    ("stage 3", Calendar(), False, [("published", 3, 5000)]),
    ("stage 3", YEAR, True, [("published", 3, 5000)]),
    ("publish 3", YEAR, False, [("active", 3, 91_000)]),
    ("publish 3", YEAR, True, [("active", 3, 5000)]),
    # What was begun is gone on with.
    ("activate 3", Calendar(), False, [("withdrawn", 1, 3000)]),
    ("activate 3", YEAR, False, [("withdrawn", 1, 3000), ("staged", None, 73_000)]),
    ("withdraw 1", Calendar(), False, [("retired", 1, 4500)]),
    ("destroying 1", Calendar(), False, [("retired", 1, 4500)]),
    ("retire 1", Calendar(), False, []),
    # The spare took over, and signs since.
    ("close", YEAR, False, [("staged", None, 79_006)]),
])
def test_steps_are_due(last: str, calendar: Calendar, is_wanted_now: bool, expected: list[t.Any]) -> None:
    found = due(told(last).keyring, "release", calendar, now=at(5000), is_wanted_now=is_wanted_now)
    assert found == tuple(Due(state, number, at(seconds)) for state, number, seconds in expected)


def test_a_key_that_was_on_its_way_comes_after_what_ends() -> None:
    book = told("activate 3")
    stage(book, 4)
    assert [(one.state, one.number) for one in due(book.keyring, "release", YEAR, now=at(5000))] == [
        ("withdrawn", 1), ("published", 4),
    ]
    publish_and_try(book, 4)
    step(book, "active", 4)
    assert [(one.state, one.number) for one in due(book.keyring, "release", YEAR, now=at(5000))] == [
        ("withdrawn", 1), ("active", 4),
    ]


def test_times_that_nobody_set() -> None:
    assert dataclasses.asdict(Calendar()) == {"lifetime": None, "stage": 0.7, "publish": 0.75, "activate": 0.9}


def test_another_identity_has_its_own_steps() -> None:
    assert due(told("activate 3").keyring, "ci", YEAR, now=at(9)) == (Due("staged", None, at(9)),)
