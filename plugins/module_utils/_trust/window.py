# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How long the keys of a rotation must overlap: a sum of measured and stated times, never a guess."""

from __future__ import annotations

import math
import typing as t
from dataclasses import dataclass

from .._moments import moment_of

if t.TYPE_CHECKING:
    from .keyring import Generation, Keyring


@dataclass(frozen=True)
class Timing:
    """Times in seconds. C(skew) is the largest difference of clocks that was measured, C(skew_bound) the largest that
    is borne; C(overlap) is what the operator wants, at least the window that is computed.
    """

    skew_bound: int = 60
    skew: float = 0.0
    overlap: int | None = None
    offline_allowance: int = 0
    cached_image_age: int = 0
    max_job_time: int = 3600
    rollback_window: int = 86400
    coverage_max_age: int = 3600


def hold_down(keyring: Keyring, timing: Timing) -> int:
    """Return how long a published key waits: the longest time an enforcer works with an old policy, and two skews."""
    return max((one.interval for one in keyring.enforcers.values()), default=0) + 2 * timing.skew_bound


def terms(keyring: Keyring, generation: Generation, timing: Timing) -> dict[str, int]:
    """Return what the shortest overlap for a retiring generation is the sum of, by name, in whole seconds.

    Propagation and re-signing are measured: how long the policy took that brought in the successor, and how long the
    last check of the live set.
    """
    successor = keyring.in_state(generation.identity, "active")
    measured = 0.0
    if successor:
        version = successor[0].policy_versions["published"]
        if version in keyring.reached:
            measured = (moment_of(keyring.reached[version]) - moment_of(keyring.begun[version])).total_seconds()
    coverage = keyring.coverage.get(generation.identity)
    return {
        "propagation": math.ceil(measured), "offline_allowance": timing.offline_allowance,
        "re_signing": math.ceil(coverage.seconds) if coverage else 0, "cached_image_age": timing.cached_image_age,
        "max_job_time": timing.max_job_time, "clock_skew": 2 * timing.skew_bound,
    }
