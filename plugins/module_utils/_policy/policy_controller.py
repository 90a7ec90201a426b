# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""C(ClusterImagePolicy) and C(TrustRoot) of sigstore's policy-controller (policy.sigstore.dev).

Authorities of one policy are any-of; policies that match one image must all be satisfied. So a rule that demands all of
its authorities becomes as many policies, and rules must not overlap. The name that a glob is compared with ends with
C(@sha256:...), for the webhook has resolved the tag; an asterisk stops at a slash, two do not. A timestamp tells when a
certificate was used; a signature without one is taken as long as its certificate is valid, and of a bare key always.

C(no-match-policy) of the controller decides about all else, and denies by default: the file for it is rendered, too.
"""

from __future__ import annotations

import typing as t

from .._oci.pattern import Pattern
from . import rendering
from .check import Abilities
from .model import Attestation, Authority, Certified, Keyless, Keys, Policy, Rule
from .rendering import Files, Version

POLICIES = "cluster-image-policies.yaml"
ROOTS = "trust-roots.yaml"
NO_MATCH = "config-policy-controller.yaml"
_FIRST = (0, 13)


def abilities(version: Version) -> Abilities | None:
    """Return what a version can express; None for those before the trust roots as rendered here."""
    if version < _FIRST:
        return None
    return Abilities(
        choices=frozenset(("any", "all")), identities=frozenset(("keys", "certified", "keyless")),
        patterns=frozenset(("repository", "tree", "prefix", "domain")), overlap="all", mixes=True, other_hashes=True,
        san_types=frozenset(("dns", "email", "uri")), san_regexp=True, keyless_any_subject=True,
        logs=frozenset(("keys", "keyless")), log_algorithms=frozenset(("ec",)), log_needs_url=True,
        timestamps=frozenset(("certified", "keyless")), timestamps_hide_logs=True, attestations=True,
        root_hides_log=True,
    )


def render(policy: Policy, version: Version) -> Files:
    """Return the files; the policy was checked."""
    del version
    known = rendering.names_of(authority.name for authority in policy.authorities)
    names = {authority.name: name for authority, name in zip(policy.authorities, known)}
    demands = [(rule, demand) for rule in policy.rules for demand in _demands(rule)]
    documents = [
        _policy(name, rule, [one for authority in authorities for one in _authorities(authority, names, attestation)])
        for name, (rule, (_text, authorities, attestation)) in zip(
            rendering.names_of(demand[0] for _rule, demand in demands), demands
        )
    ]
    used = {authority.name for rule in policy.rules for authority in rule.authorities}
    roots = [
        _trust_root(authority, names) for authority in policy.authorities
        if _needs_root(authority) and authority.name in used
    ]
    files = {POLICIES: rendering.as_yaml(*documents), NO_MATCH: rendering.as_yaml(_no_match(policy))}
    return {**files, ROOTS: rendering.as_yaml(*roots)} if roots else files


def _demands(rule: Rule) -> t.Iterator[tuple[str, tuple[Authority, ...], Attestation | None]]:
    """Yield what must all hold of the images of a rule: each is a policy of its own."""
    name = rule.name
    if rule.threshold == 1:
        yield name, rule.any_of, None
    else:
        for number, authority in enumerate(rule.any_of, 1):
            yield f"{name}-{number}", (authority,), None
    for number, attestation in enumerate(rule.attestations, 1):
        # An authority with attestations no longer looks at the signature of the image.
        yield f"{name}-attestation-{number}", attestation.any_of, attestation


def _policy(name: str, rule: Rule, authorities: list[dict[str, t.Any]]) -> dict[str, t.Any]:
    globs = [glob for pattern in rule.patterns for glob in _globs(pattern)]
    return {
        "apiVersion": "policy.sigstore.dev/v1beta1", "kind": "ClusterImagePolicy", "metadata": {"name": name},
        "spec": {
            "images": [{"glob": glob} for glob in globs], "mode": "enforce", "authorities": authorities,
        },
    }


def _globs(pattern: Pattern) -> tuple[str, ...]:
    """Return what matches an image by digest; C(:*) matches in policy-tester only, which keeps the tag."""
    host = rendering.host_in_go(pattern)
    if pattern.kind == "domain":
        # With a port it is another host.
        return (f"*.{pattern.host}/**",)
    if pattern.kind == "tree":
        whole = f"{host}/{pattern.path}"
        return (f"{whole}@*", f"{whole}:*", f"{whole}/**") if pattern.path else (f"{host}/**",)
    whole = f"{host}/{pattern.path}" + ("*" if pattern.kind == "prefix" else "")
    return f"{whole}@*", f"{whole}:*"


def _authorities(
    authority: Authority, names: t.Mapping[str, str], attestation: Attestation | None
) -> t.Iterator[dict[str, t.Any]]:
    root = _root_name(authority, names)
    for number, trusted in enumerate(_trusted(authority, root), 1):
        found = {"name": names[authority.name] + (f"-key-{number}" if number > 1 else ""), **trusted}
        if authority.log:
            found["ctlog"] = {"trustRootRef": root}
        if authority.timestamp:
            found["rfc3161timestamp"] = {"trustRootRef": root}
        if attestation is not None:
            found["attestations"] = [{"name": "attestation", "predicateType": attestation.predicate_type}]
        yield found


def _trusted(authority: Authority, root: str) -> t.Iterator[dict[str, t.Any]]:
    identity = authority.identity
    if isinstance(identity, Keys):
        for key in identity.keys:
            yield {"key": {"data": key.pem, "hashAlgorithm": rendering.hash_of(identity)}}
    elif isinstance(identity, Certified):
        subject = {"subject": identity.value} if identity.value is not None else {
            "subjectRegExp": rendering.anchored(t.cast(str, identity.regexp))
        }
        yield {"keyless": {
            # A certificate of a private PKI names no issuer of OpenID, and the controller wants to be told one.
            "identities": [{"issuerRegExp": "^$", **subject}],
            "trustRootRef": root, "insecureIgnoreSCT": True,
        }}
    else:
        yield {"keyless": {
            "identities": [_identity(identity)],
            **({"trustRootRef": root} if identity.trusted_root is not None else {}),
        }}


def _identity(identity: Keyless) -> dict[str, str]:
    found: dict[str, str] = {}
    for exact, expression in (("issuer", "issuerRegExp"), ("subject", "subjectRegExp")):
        value, pattern = getattr(identity, exact), getattr(identity, f"{exact}_regexp")
        found[exact if value is not None else expression] = value if value is not None else rendering.anchored(pattern)
    return found


def _needs_root(authority: Authority) -> bool:
    is_certified = isinstance(authority.identity, Certified)
    has_root = isinstance(authority.identity, Keyless) and authority.identity.trusted_root is not None
    return is_certified or has_root or authority.log is not None or authority.timestamp is not None


def _root_name(authority: Authority, names: t.Mapping[str, str]) -> str:
    return f"{names[authority.name]}-root"


def _trust_root(authority: Authority, names: t.Mapping[str, str]) -> dict[str, t.Any]:
    keys: dict[str, t.Any] = {}
    identity = authority.identity
    if not isinstance(identity, Keys):
        certificates = (
            (*identity.intermediates, *identity.roots) if isinstance(identity, Certified)
            else rendering.roots_of(identity)
        )
        keys["certificateAuthorities"] = [_authority_of(authority.name, certificates)]
    if authority.log:
        keys["tLogs"] = [{
            "baseURL": authority.log.rekor_url, "hashAlgorithm": "sha-256",
            "publicKey": rendering.encoded(authority.log.public_key),
        }]
    if authority.timestamp:
        keys["timestampAuthorities"] = [_authority_of(f"{authority.name} timestamps", authority.timestamp)]
    return {
        "apiVersion": "policy.sigstore.dev/v1alpha1", "kind": "TrustRoot",
        "metadata": {"name": _root_name(authority, names)},
        "spec": {"sigstoreKeys": keys},
    }


def _authority_of(name: str, certificates: tuple[str, ...]) -> dict[str, t.Any]:
    return {
        "subject": {"organization": "hallmark-signing", "commonName": name}, "uri": "https://authority.invalid",
        "certChain": rendering.encoded(*certificates),
    }


def _no_match(policy: Policy) -> dict[str, t.Any]:
    return {
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "config-policy-controller", "namespace": "cosign-system"},
        "data": {
            "no-match-policy": "deny" if policy.default == "reject" else "allow", "fail-on-empty-authorities": "true",
        },
    }
