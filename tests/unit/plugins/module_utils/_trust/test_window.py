# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The times of a rotation: the hold-down, and the terms of the overlap."""

from __future__ import annotations

import dataclasses

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._trust.window import Timing, hold_down, terms
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._trust.rotation_model import MemoryLedger
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._trust.rotation_story import (
    TIMING,
    acknowledge,
    at,
    canaries,
    cover,
    render,
    stage,
    step,
    told,
)


@pytest.mark.parametrize(("last", "bound", "seconds"), [("found", 60, 420), ("found", 0, 300), ("found", 5, 310)])
def test_hold_down_is_the_longest_interval_and_two_skews(last: str, bound: int, seconds: int) -> None:
    assert hold_down(told(last).keyring, Timing(skew_bound=bound)) == seconds


def test_hold_down_without_enforcers_is_two_skews() -> None:
    assert hold_down(MemoryLedger().keyring, Timing()) == 120


def test_times_that_nobody_set() -> None:
    assert dataclasses.asdict(Timing()) == {
        "skew_bound": 60, "skew": 0.0, "overlap": None, "offline_allowance": 0, "cached_image_age": 0,
        "max_job_time": 3600, "rollback_window": 86400, "coverage_max_age": 3600,
    }


def test_terms_are_stated_or_measured() -> None:
    book = told("cover")
    stated = dataclasses.replace(TIMING, offline_allowance=7, cached_image_age=11, skew_bound=30)
    assert terms(book.keyring, book.keyring.generations["release", 1], stated) == {
        "propagation": 0, "offline_allowance": 7, "re_signing": 13, "cached_image_age": 11, "max_job_time": 600,
        "clock_skew": 60,
    }


def test_propagation_is_how_long_all_required_enforcers_took_with_the_policy_of_the_successor() -> None:
    book = told("publish spare")
    book.open(at(1100))
    stage(book, 3)
    step(book, "published", 3)
    render(book)
    book.open(at(1150))
    acknowledge(book, "edge1", "cluster", "lab")
    retiring = book.keyring.generations["release", 1]
    assert 3 not in book.keyring.reached
    book.open(at(1237))
    acknowledge(book, "edge2")
    canaries(book, 3)
    assert terms(book.keyring, retiring, TIMING)["propagation"] == 2
    book.open(at(2000))
    step(book, "active", 3)
    assert terms(book.keyring, retiring, TIMING)["propagation"] == 137
    assert terms(book.keyring, retiring, TIMING)["re_signing"] == 0
    cover(book, 3, seconds=0.01)
    assert terms(book.keyring, retiring, TIMING)["re_signing"] == 1


def test_without_a_successor_nothing_was_measured() -> None:
    book = told("canaries 1")
    assert terms(book.keyring, book.keyring.generations["release", 1], TIMING) == {
        "propagation": 0, "offline_allowance": 0, "re_signing": 0, "cached_image_age": 0, "max_job_time": 600,
        "clock_skew": 120,
    }
