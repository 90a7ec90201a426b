# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""C(ImageValidatingPolicy) of Kyverno (policies.kyverno.io), one for each rule.

It reads bundles where an image has any, else C(.sig). C(verifyImageSignatures) returns how many attestors passed, so an
authority counts once however many of its keys did. Every policy that matches an image must be satisfied, and what none
matches is admitted: where the policy rejects all else, one more denies it. Names are compared as they stand in the
pod, without the host of Docker Hub and without a tag where these were left out, which globs would miss: expressions
find them all. All of this is from its documentation and source (1.16 to 1.19); it was not run.
"""

from __future__ import annotations

import re
import typing as t

from .._oci.pattern import Pattern
from .._oci.reference import HUB
from . import kyverno, rendering
from .check import Abilities
from .model import Authority, Keyless, Keys, Policy, Rule
from .rendering import Files, Version

FILE = "image-validating-policies.yaml"
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
_MATCHING = {
    "failurePolicy": "Fail", "validationActions": ["Deny"], "webhookConfiguration": {"timeoutSeconds": 30},
    "matchConstraints": _PODS,
}
_HUB_HOST = "(?i:(?:index[.]|registry-1[.])?docker[.]io)/"
_IMAGES = ("containers", "initContainers", "ephemeralContainers")


def abilities(version: Version) -> Abilities | None:
    """Return what a version can express; None for those before v1beta1."""
    if version < _FIRST:
        return None
    return Abilities(
        choices=frozenset(("any", "all", "some")),
        # A chain is trusted whatever the name in the certificate.
        identities=frozenset(("keys", "keyless")), patterns=frozenset(("repository", "tree", "prefix", "domain")),
        overlap="all", mixes=True, other_hashes=True, keyless_any_subject=True,
        keyless_needs_log=True, keyless_needs_root=True, log_algorithms=frozenset(("ec",)), log_needs_url=True,
        logs=frozenset() if version[:3] == _CRASHED else frozenset(("keys", "keyless")),
        timestamps=frozenset(("keyless",)),
    )


def render(policy: Policy, version: Version) -> Files:
    """Return the file; the policy was checked."""
    names = rendering.names_of((*(rule.name for rule in policy.rules), "no-other-images"))
    specs = [_spec(rule) for rule in policy.rules]
    if policy.default == "reject":
        specs.append(_no_others(policy))
    api = f"policies.kyverno.io/{'v1' if version >= _V1 else 'v1beta1'}"
    return {FILE: rendering.as_yaml(*(
        {"apiVersion": api, "kind": "ImageValidatingPolicy", "metadata": {"name": name}, "spec": spec}
        for name, spec in zip(names, specs)
    ))}


def _spec(rule: Rule) -> dict[str, t.Any]:
    attestors = {
        f"k{number}_{one}": attestor
        for number, authority in enumerate(rule.any_of) for one, attestor in enumerate(_attestors(authority))
    }
    return {
        **_MATCHING,
        "matchImageReferences": [{"expression": f'ref.matches("^{_name(one)}$")'} for one in rule.patterns],
        "validationConfigurations": {"mutateDigest": True, "verifyDigest": True, "required": True},
        "attestors": [{"name": one, "cosign": attestor} for one, attestor in attestors.items()],
        "validations": [
            {"expression": _expression(images, rule, list(attestors)), "message": f"{rule.name}: not signed"}
            for images in _IMAGES
        ],
    }


def _no_others(policy: Policy) -> dict[str, t.Any]:
    known = "|".join(dict.fromkeys(_name(one) for rule in policy.rules for one in rule.patterns))
    return {
        **_MATCHING,
        "matchImageReferences": [{"expression": f'!ref.matches("^(?:{known})$")'}],
        # Nothing is to be verified, and a digest would admit nothing either.
        "validationConfigurations": {"mutateDigest": False, "verifyDigest": False, "required": False}, "attestors": [],
        "validations": [
            {"expression": f"images.{images}.size() == 0", "message": "The trust policy has no rule for this image."}
            for images in _IMAGES
        ],
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


def _name(pattern: Pattern) -> str:
    """Return an expression (RE2) for all that may stand in a pod for the images of a pattern."""
    if pattern.kind == "domain":
        return f"(?i:[^/:@]+[.]{_literally(pattern.host)})/.*"
    path, end = _literally(pattern.path), "(?:[:@][^/]*)?"
    below = {"repository": "", "prefix": "[^/:@]*", "tree": "(?:/.*)?"}[pattern.kind]
    host = f"(?i:{_literally(pattern.host)})/"
    if pattern.host != HUB:
        return f"{host}{path}{below}{end}" if path else f"{host}.*"
    host = f"(?:{_HUB_HOST})?"
    if not path:
        return f"(?:{_HUB_HOST}.*|[^/.:@]+(?:/.*|{end}))"
    if pattern.path == "library":
        # The namespace of its own images need not be written.
        return f"{host}(?:{path}{below}|[^/:@]+){end}"
    return f"{host}{path.replace('library/', '(?:library/)?', 1)}{below}{end}"


def _literally(text: str) -> str:
    """Return an expression for a text, without a backslash: those would have to be doubled in CEL."""
    return "".join(f"[{one}]" if one in ".[]" else one for one in text)
