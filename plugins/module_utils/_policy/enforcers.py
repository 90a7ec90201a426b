# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All enforcers, and rendering for any of them: the files, or everything that it cannot express."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from . import check, containers, kyverno_cluster_policy, openshift, policy_controller, rendering
from .check import Abilities
from .model import Policy
from .rendering import Files, Rendering, Version


@dataclass(frozen=True)
class Enforcer:
    """What one enforcer is able to do in a version, None where it cannot verify, and how its files are made."""

    abilities: t.Callable[[Version], Abilities | None]
    render: t.Callable[[Policy, Version], Files]


ENFORCERS: t.Mapping[str, Enforcer] = {
    "containers": Enforcer(containers.abilities, containers.render),
    "kyverno_cluster_policy": Enforcer(kyverno_cluster_policy.abilities, kyverno_cluster_policy.render),
    "openshift": Enforcer(openshift.abilities, openshift.render),
    "policy_controller": Enforcer(policy_controller.abilities, policy_controller.render),
}


def render(policy: Policy, *, enforcer: str, version: str) -> Rendering:
    """Return the files of an enforcer, or why there are none: nothing is weakened.

    Raises FormatError (input_invalid, malformed): a version that is none, a trusted root without roots.
    """
    wanted = ENFORCERS[enforcer]
    numbers = rendering.version(version)
    abilities = wanted.abilities(numbers)
    if abilities is None:
        return Rendering({}, (check.refusal("version_unsupported", ""),))
    refused = check.refusals(policy, abilities)
    return Rendering({} if refused else wanted.render(policy, numbers), refused)
