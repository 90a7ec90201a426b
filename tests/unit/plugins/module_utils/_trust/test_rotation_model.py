# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Anything happens to a fleet in any order, and the invariants of rotations hold after each event."""

from __future__ import annotations

import collections
import random

import hypothesis
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._trust import rotation_model as model
from hypothesis import strategies as st

_STEPS = 50
_EVENT = st.integers(0, model.NUMBERS - 1)


@hypothesis.settings(
    max_examples=2000, deadline=None, derandomize=False, print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large],
)
@hypothesis.given(start=st.integers(0, model.STARTS - 1), events=st.lists(_EVENT, min_size=_STEPS, max_size=_STEPS))
def test_invariants_hold_whatever_happens(start: int, events: list[int]) -> None:
    trace: list[str] = []
    fleet = model.Fleet(start)
    try:
        for number in events:
            fleet.step(number)
        fleet.finish()
    except Exception:
        # Once more, in words.
        retold = model.Fleet(start, trace=trace)
        try:
            for number in events:
                retold.step(number)
            retold.finish()
        finally:
            hypothesis.note("\n".join(trace))
        raise


def test_model_comes_across_all_that_can_happen() -> None:
    """Sequences of their own, so that this is about the model, and neither about luck nor about another test."""
    chance = random.Random(1)
    found: collections.Counter[str] = collections.Counter()
    for _sequence in range(600):
        fleet = model.Fleet(chance.randrange(model.STARTS))
        for _event in range(_STEPS):
            fleet.step(chance.randrange(model.NUMBERS))
        found += fleet.seen
    assert not [name for name in model.EXPECTED if not found[name]]
