# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""C(ClusterPolicy) of Kyverno (kyverno.io/v1, C(verifyImages)), which knows nothing of bundles by keys.

Entries of an attestor set are all demanded unless C(count) says how many, and sets are all demanded; every rule that
matches an image must be satisfied. An asterisk in a reference crosses slashes: a prefix reaches further down there, and
more is demanded than the policy says, never less. What no reference matches is admitted, so that a rule of its own
denies it where the policy does; there, what lies below a prefix is told apart. All of this is from its documentation
and source; it was not run.
"""

from __future__ import annotations

import typing as t

from .._oci.pattern import Pattern
from .._oci.reference import HUB
from . import kyverno, rendering
from .check import Abilities
from .model import Authority, Keyless, Keys, Policy, Rule
from .rendering import Files, Version

FILE = "cluster-policy.yaml"
# Since when a rule has failureAction, and the release that is to remove this kind.
_FIRST = (1, 13)
_GONE = (1, 20)
# Objects of Kubernetes have 1.5 MB at most.
_MAX_RULES = 200
_PODS = {"any": [{"resources": {"kinds": ["Pod"]}}]}


def abilities(version: Version) -> Abilities | None:
    """Return what a version can express; None for those without failureAction, and those without the kind."""
    if not _FIRST <= version < _GONE:
        return None
    return Abilities(
        choices=frozenset(("any", "all", "some")), counts_keys="some",
        # Certificates without any name would pass as having the right one.
        identities=frozenset(("keys", "keyless")),
        patterns=frozenset(("repository", "tree", "prefix", "domain")), overlap="all", mixes=True, other_hashes=True,
        keyless_any_subject=True, keyless_needs_log=True, keyless_needs_root=True,
        logs=frozenset(("keys", "keyless")), log_algorithms=frozenset(("ec",)), log_needs_url=True,
        timestamps=frozenset(("keyless",)), attestations=True,
    )


def render(policy: Policy, version: Version) -> Files:
    """Return the file; the policy was checked."""
    del version
    rules = [one for rule in policy.rules for one in _rules(rule)]
    if policy.default == "reject":
        rules.append(_no_others(policy))
    for one, name in zip(rules, rendering.names_of(one["name"] for one in rules)):
        one["name"] = name
    several = [rules[first:first + _MAX_RULES] for first in range(0, len(rules), _MAX_RULES)]
    return {FILE: rendering.as_yaml(*(
        {
            "apiVersion": "kyverno.io/v1", "kind": "ClusterPolicy",
            "metadata": {"name": "hallmark-signing" + (f"-{number}" if number > 1 else "")},
            "spec": {
                "background": False, "failurePolicy": "Fail", "webhookConfiguration": {"timeoutSeconds": 30},
                "rules": some,
            },
        }
        for number, some in enumerate(several, 1)
    ))}


def _rules(rule: Rule) -> t.Iterator[dict[str, t.Any]]:
    references = [one for pattern in rule.patterns for one in _references(pattern)]
    signed = {"attestors": _attestors(rule.any_of, rule.threshold)}
    yield _rule(rule.name, references, signed)
    for number, one in enumerate(rule.attestations, 1):
        # A rule looks at signatures or at attestations, not at both.
        attested = {"attestations": [{"type": one.predicate_type, "attestors": _attestors(one.any_of, 1)}]}
        yield _rule(f"{rule.name} attestation {number}", references, attested)


def _rule(name: str, references: list[str], demanded: dict[str, t.Any]) -> dict[str, t.Any]:
    return {"name": name, "match": _PODS, "verifyImages": [{
        "type": "Cosign", "imageReferences": references, "failureAction": "Enforce", "mutateDigest": True,
        "verifyDigest": True, "required": True, **demanded,
    }]}


def _references(pattern: Pattern) -> tuple[str, ...]:
    if pattern.kind == "domain":
        return (f"*.{pattern.host}/*",)
    return tuple(one for name in rendering.names_with_host(pattern) for one in _at(pattern, name))


def _at(pattern: Pattern, name: str) -> tuple[str, ...]:
    if pattern.kind == "prefix":
        return (f"{name}*",)
    below = (f"{name}/*",) if pattern.kind == "tree" else ()
    return (*((f"{name}:*", f"{name}@*") if "/" in name else ()), *below)


def _written(pattern: Pattern) -> t.Iterator[str]:
    """Yield the references as they may stand in a pod: without a tag, and of Docker Hub without the host."""
    for reference in _references(pattern):
        name = reference.removesuffix(":*")
        hidden = (name,) if name != reference else ()
        for one in (reference, *hidden):
            yield _just(pattern, one)
            if pattern.host == HUB and pattern.kind != "domain" and one != f"{HUB}/*":
                yield _just(pattern, one.removeprefix(f"{HUB}/"))


def _just(pattern: Pattern, reference: str) -> str:
    """Return a reference without what lies further down, where the pattern means one part of a name only."""
    is_hub_short = pattern.kind == "tree" and pattern.path and reference == f"{pattern.host}/*"
    return f"{reference} & !{reference}/*" if pattern.kind == "prefix" or is_hub_short else reference


def _attestors(authorities: tuple[Authority, ...], threshold: int) -> list[dict[str, t.Any]]:
    """Return the sets: one of which so many must sign, or one for each authority, all of whose keys speak for it."""
    if threshold > 1 and threshold == len(authorities):
        return [{"count": 1, "entries": _entries(authority)} for authority in authorities]
    return [{"count": threshold, "entries": [one for authority in authorities for one in _entries(authority)]}]


def _entries(authority: Authority) -> list[dict[str, t.Any]]:
    """Return one entry for each key, with a log and a hash of its own: several keys in one lost them."""
    identity = authority.identity
    shared = {"rekor": _rekor(authority), "ctlog": _ctlog(authority)}
    if isinstance(identity, Keys):
        return [
            {"keys": {"publicKeys": key.pem, "signatureAlgorithm": rendering.hash_of(identity), **shared}}
            for key in identity.keys
        ]
    keyless = t.cast(Keyless, identity)
    return [{"keyless": {
        **kyverno.identity_of(keyless), "roots": "".join(rendering.roots_of(keyless)), **shared,
    }}]


def _rekor(authority: Authority) -> dict[str, t.Any]:
    if authority.log is None:
        return {"ignoreTlog": True}
    return {"url": authority.log.rekor_url, "pubkey": authority.log.public_key}


def _ctlog(authority: Authority) -> dict[str, t.Any]:
    # Left out, keys of the public log would be fetched, even for a plain key.
    found: dict[str, t.Any] = {"ignoreSCT": True}
    if authority.timestamp:
        found["tsaCertChain"] = "".join(authority.timestamp)
    return found


def _no_others(policy: Policy) -> dict[str, t.Any]:
    known = " | ".join(dict.fromkeys(
        one for rule in policy.rules for pattern in rule.patterns for one in _written(pattern)
    ))
    return {
        "name": "no-other-images", "match": _PODS,
        "validate": {
            "failureAction": "Enforce", "message": "The trust policy has no rule for this image.",
            "pattern": {"spec": {
                "=(initContainers)": [{"image": known}], "=(ephemeralContainers)": [{"image": known}],
                "containers": [{"image": known}],
            }},
        },
    }
