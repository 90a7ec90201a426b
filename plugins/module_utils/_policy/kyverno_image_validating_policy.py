# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""C(ImageValidatingPolicy) of Kyverno (policies.kyverno.io), one for each rule.

It reads bundles where an image has any, else C(.sig). C(verifyImageSignatures) returns how many attestors passed, so an
authority counts once however many of its keys did. Every policy that matches an image must be satisfied, and what none
matches is admitted. How far an asterisk reaches differs between releases: namespaces are written out to a depth of
C(DEPTH) parts. All of this is from its documentation and source; it was not run.
"""

from __future__ import annotations

import re
import typing as t

from . import kyverno, rendering
from .check import Abilities
from .model import Authority, Keyless, Keys, Policy, Rule
from .pattern import Pattern
from .rendering import Files, Version

FILE = "image-validating-policies.yaml"
DEPTH = 16
# Since when there is v1beta1, and v1.
_FIRST = (1, 16)
_V1 = (1, 17)
# That of the release that crashed on bundles by a key, with a log.
_CRASHED = (1, 18, 0)
# Named even where it shall not be asked: without a URL, the check fails.
_PUBLIC_LOG = "https://rekor.sigstore.dev"
_PODS = {"resourceRules": [{
    "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
    "resources": ["pods", "pods/ephemeralcontainers"],
}]}
_IMAGES = ("containers", "initContainers", "ephemeralContainers")


def abilities(version: Version) -> Abilities | None:
    """Return what a version can express; None for those before v1beta1."""
    if version < _FIRST:
        return None
    return Abilities(
        choices=frozenset(("any", "all", "some")),
        # A chain is trusted whatever the name in the certificate.
        identities=frozenset(("keys", "keyless")), patterns=frozenset(("repository", "tree", "prefix")), overlap="all",
        defaults=frozenset(("accept",)), mixes=True, other_hashes=True, keyless_any_subject=True,
        keyless_needs_log=True, keyless_needs_root=True, log_algorithms=frozenset(("ec",)), log_needs_url=True,
        logs=frozenset() if version[:3] == _CRASHED else frozenset(("keys", "keyless")), timestamps=True,
    )


def render(policy: Policy, version: Version) -> Files:
    """Return the file; the policy was checked."""
    names = rendering.names_of(rule.name for rule in policy.rules)
    api = f"policies.kyverno.io/{'v1' if version >= _V1 else 'v1beta1'}"
    return {FILE: rendering.as_yaml(*(_policy(api, name, rule) for name, rule in zip(names, policy.rules)))}


def _policy(api: str, name: str, rule: Rule) -> dict[str, t.Any]:
    attestors = {
        f"k{number}_{one}": attestor
        for number, authority in enumerate(rule.any_of) for one, attestor in enumerate(_attestors(authority))
    }
    return {
        "apiVersion": api, "kind": "ImageValidatingPolicy", "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail", "validationActions": ["Deny"], "webhookConfiguration": {"timeoutSeconds": 30},
            "matchConstraints": _PODS,
            "matchImageReferences": [{"glob": glob} for pattern in rule.patterns for glob in _globs(pattern)],
            "validationConfigurations": {"mutateDigest": True, "verifyDigest": True, "required": True},
            "attestors": [{"name": one, "cosign": attestor} for one, attestor in attestors.items()],
            "validations": [
                {"expression": _expression(images, rule, list(attestors)), "message": f"{rule.name}: not signed"}
                for images in _IMAGES
            ],
        },
    }


def _expression(images: str, rule: Rule, attestors: list[str]) -> str:
    """Return CEL that counts the authorities any of whose attestors passed."""
    counted = []
    for number, _authority in enumerate(rule.any_of):
        own = ", ".join(f"attestors.{name}" for name in attestors if re.match(rf"k{number}_", name))
        counted.append(f"verifyImageSignatures(image, [{own}]) > 0")
    if len(counted) == 1:
        return f"images.{images}.all(image, {counted[0]})"
    return f"images.{images}.all(image, [{', '.join(counted)}].filter(passed, passed).size() >= {rule.threshold})"


def _attestors(authority: Authority) -> list[dict[str, t.Any]]:
    identity = authority.identity
    shared = {"ctlog": _ctlog(authority)}
    if isinstance(identity, Keys):
        return [{"key": {"data": key.pem, "hashAlgorithm": rendering.hash_of(identity)}, **shared}
                for key in identity.keys]
    keyless = t.cast(Keyless, identity)
    return [{"keyless": {
        "identities": [kyverno.identity_of(keyless)], "roots": "".join(rendering.roots_of(keyless)),
    }, **shared}]


def _ctlog(authority: Authority) -> dict[str, t.Any]:
    found: dict[str, t.Any] = {"url": _PUBLIC_LOG, "insecureIgnoreTlog": True, "insecureIgnoreSCT": True}
    if authority.log:
        found = {"url": authority.log.rekor_url, "rekorPubKey": authority.log.public_key, "insecureIgnoreSCT": True}
    if authority.timestamp:
        found["tsaCertChain"] = "".join(authority.timestamp)
    return found


def _globs(pattern: Pattern) -> tuple[str, ...]:
    return tuple(one for name in kyverno.names_of(pattern) for one in _at(pattern, name))


def _at(pattern: Pattern, name: str) -> tuple[str, ...]:
    if pattern.kind == "prefix":
        return (f"{name}*",)
    below = [name + "/*" * depth for depth in range(1, DEPTH + 1)] if pattern.kind == "tree" else []
    return (*((f"{name}:*", f"{name}@*") if "/" in name else ()), *below)
