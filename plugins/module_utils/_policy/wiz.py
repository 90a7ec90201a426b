# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Objects of a Wiz tenant: image integrity validators, as a neutral document and for Terraform.

Policies live in the tenant, and the documentation behind a login. The names of members are those of its public clients;
what patterns mean, and whether one of several validators suffices, is not known: one key for one repository is all that
is said here. NOT VERIFIED against the real service.
"""

from __future__ import annotations

import typing as t

from .._oci.pattern import Pattern
from .._oci.reference import HUB
from . import rendering
from .check import Abilities
from .model import Policy
from .rendering import Files, Version

OBJECTS = "image-integrity-validators.json"
TERRAFORM = "wiz.tf.json"


def abilities(version: Version) -> Abilities | None:
    """Return what can be expressed, whatever the version: validators are the tenant's."""
    del version
    return Abilities(
        choices=frozenset(), identities=frozenset(("keys",)), max_keys=1, patterns=frozenset(("repository",)),
        overlap="all", defaults=frozenset(("accept",)),
    )


def render(policy: Policy, version: Version) -> Files:
    """Return the files; the policy was checked."""
    del version
    validators = [
        {
            "name": name, "description": f"{rule.name}: trust policy version {policy.version}",
            "imagePatterns": [
                f"{name}{end}" for one in rule.patterns for name in _names(one) for end in ("", ":*", "@*")
            ],
            "value": {"method": "COSIGN", "cosign": {"method": "KEY", "key": rule.any_of[0].keys[0].pem}},
        }
        for name, rule in zip(rendering.names_of(rule.name for rule in policy.rules), policy.rules)
    ]
    names = [str(one["name"]) for one in validators]
    objects = {
        "imageIntegrityValidators": validators,
        "policies": [{"name": "hallmark-signing", "enforcement": "BLOCK", "imageIntegrityValidators": names}],
    }
    return {OBJECTS: rendering.as_json(objects), TERRAFORM: rendering.as_json(_terraform(validators))}


def _names(pattern: Pattern) -> t.Iterator[str]:
    """Yield a repository as it may be written: of Docker Hub, without the host, too."""
    for name in rendering.names_with_host(pattern):
        yield name
        if pattern.host == HUB:
            yield name.removeprefix(f"{HUB}/")


def _terraform(validators: list[dict[str, t.Any]]) -> dict[str, t.Any]:
    """Return the same as Terraform's JSON; the policy that refers to them is the tenant's own."""
    return {
        "resource": {"wiz_image_integrity_validator": {
            one["name"].replace("-", "_"): {
                "name": one["name"], "description": one["description"], "image_patterns": one["imagePatterns"],
                "value": one["value"],
            }
            for one in validators
        }},
    } if validators else {}
