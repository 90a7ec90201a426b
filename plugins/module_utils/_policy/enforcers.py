# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All enforcers, and rendering for any of them: the files, or everything that it cannot express."""

from __future__ import annotations

import typing as t

from . import check, rendering
from .check import Abilities, Refusal
from .model import Policy
from .rendering import Files, Rendering, Version


class Enforcer(t.Protocol):
    """What each of the files of this folder about one enforcer has."""

    def abilities(self, version: Version, /) -> Abilities | None:
        """Return what the enforcer can express in a version, None where it cannot verify."""

    def render(self, policy: Policy, version: Version, /) -> Files:
        """Return the files for a policy that was checked, by relative path, in the order in which to write them."""


def load(name: str) -> Enforcer:
    """Return an enforcer by its name; the others are not loaded, as Ansible compiles them for every task."""
    found: Enforcer
    if name == "containers":
        from . import containers

        found = containers
    elif name == "openshift":
        from . import openshift

        found = openshift
    elif name == "policy_controller":
        from . import policy_controller

        found = policy_controller
    elif name == "kyverno_cluster_policy":
        from . import kyverno_cluster_policy

        found = kyverno_cluster_policy
    elif name == "kyverno_image_validating_policy":
        from . import kyverno_image_validating_policy

        found = kyverno_image_validating_policy
    elif name == "connaisseur":
        from . import connaisseur

        found = connaisseur
    elif name == "ratify":
        from . import ratify

        found = ratify
    else:
        from . import wiz

        found = wiz
    return found


def require_room(policy: Policy, *, enforcer: str, dest: str) -> None:
    """Refuse a folder in which files of others would make those of an enforcer useless. Raises CustodyError."""
    if enforcer == "containers":
        from . import containers

        containers.require_room(policy, dest)


def refused_here(*, enforcer: str, dest: str) -> tuple[Refusal, ...]:
    """Return what the programs of this host could not do with a policy in C(dest)."""
    if enforcer != "containers":
        return ()
    from . import builds

    return builds.refusals(dest)


def render(policy: Policy, *, enforcer: str, version: str) -> Rendering:
    """Return the files of an enforcer, or why there are none: nothing is weakened.

    Raises FormatError (input_invalid, malformed): a version that is none, a trusted root without roots.
    """
    wanted = load(enforcer)
    # Validators are the tenant's, whatever runs in the cluster.
    numbers = rendering.version(version) if enforcer != "wiz" else ()
    abilities = wanted.abilities(numbers)
    if abilities is None:
        return Rendering({}, (check.refusal("version_unsupported", ""),))
    refused = check.refusals(policy, abilities)
    if refused:
        return Rendering({}, refused)
    origin = f"# Made by hallmark.signing.trust_policy of policy version {policy.version}; do not change it here.\n"
    files = wanted.render(policy, numbers)
    return Rendering({name: origin + text if name.endswith(".yaml") else text for name, text in files.items()})
