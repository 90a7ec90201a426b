# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""C(ClusterImagePolicy) and C(ImagePolicy) of OpenShift (config.openshift.io/v1), one for each authority of a rule.

The machine-config operator makes files of containers/image of them. One policy takes one key, and policies with the
same scope must all be satisfied: any of several keys cannot be said. What no scope covers is up to the nodes. A
repository has a policy of its own, as signatures must name it: see C(containers). In a namespace, a scope that a policy
of the cluster covers is ignored.
"""

from __future__ import annotations

import typing as t

from . import rendering
from .check import Abilities
from .containers import scopes_of
from .model import Authority, Certified, Keyless, Log, Policy, Rule
from .rendering import Files, Version

FILE = "cluster-image-policies.yaml"
# Since when the API is v1, and since when it takes certificates without a preview.
_FIRST = (4, 20)
_PKI = (4, 21)


def abilities(version: Version) -> Abilities | None:
    """Return what a version can express; None for those with previews of the API."""
    if version < _FIRST:
        return None
    return Abilities(
        choices=frozenset(("all",)),
        identities=frozenset(("keys", "keyless", *(("certified",) if version >= _PKI else ()))),
        patterns=frozenset(("repository", "tree", "domain")), defaults=frozenset(("accept",)), max_keys=1,
        san_types=frozenset(("dns", "email")), keyless_needs_log=True, keyless_needs_root=True,
        logs=frozenset(("keys", "keyless")), log_algorithms=frozenset(("ec",)),
        merges_scopes=True, namespaces=True, cluster_hides=True,
    )


def render(policy: Policy, version: Version) -> Files:
    """Return the file; the policy was checked."""
    del version
    wanted = [
        (f"{rule.name} {authority.name} {repository}", namespace, _spec(scopes, repository, authority))
        for rule in policy.rules for namespace in rule.namespaces or ("",)
        for repository, scopes in _by_repository(rule).items() for authority in rule.any_of
    ]
    wanted.sort(key=lambda one: one[:2])
    names = rendering.names_of(text for text, *_rest in wanted)
    return {FILE: rendering.as_yaml(*(
        _policy(name, namespace, spec) for name, (_text, namespace, spec) in zip(names, wanted)
    ))}


def _by_repository(rule: Rule) -> dict[str, list[str]]:
    """Return the scopes of a rule by the repository that signatures must name."""
    found: dict[str, list[str]] = {}
    for one, repository in sorted(scopes_of(rule).items()):
        found.setdefault(repository, []).append(one)
    return found


def _policy(name: str, namespace: str, spec: dict[str, t.Any]) -> dict[str, t.Any]:
    return {
        "apiVersion": "config.openshift.io/v1", "kind": "ImagePolicy" if namespace else "ClusterImagePolicy",
        "metadata": {"name": name, **({"namespace": namespace} if namespace else {})}, "spec": spec,
    }


def _spec(scopes: list[str], repository: str, authority: Authority) -> dict[str, t.Any]:
    identity: dict[str, t.Any] = {"matchPolicy": "MatchRepository"}
    if repository:
        identity = {"matchPolicy": "ExactRepository", "exactRepository": {"repository": repository}}
    return {"scopes": scopes, "policy": {"rootOfTrust": _root_of_trust(authority), "signedIdentity": identity}}


def _root_of_trust(authority: Authority) -> dict[str, t.Any]:
    identity = authority.identity
    if isinstance(identity, Certified):
        subject = {"hostname" if identity.san_type == "dns" else "email": identity.value}
        found = {"caRootsData": rendering.encoded(*identity.roots)}
        if identity.intermediates:
            found["caIntermediatesData"] = rendering.encoded(*identity.intermediates)
        return {"policyType": "PKI", "pki": {**found, "pkiCertificateSubject": subject}}
    if isinstance(identity, Keyless):
        return {"policyType": "FulcioCAWithRekor", "fulcioCAWithRekor": {
            "fulcioCAData": rendering.encoded(*rendering.roots_of(identity)),
            "rekorKeyData": rendering.encoded(t.cast(Log, authority.log).public_key),
            "fulcioSubject": {"oidcIssuer": identity.issuer, "signedEmail": identity.subject},
        }}
    key: dict[str, str] = {"keyData": rendering.encoded(identity.keys[0].pem)}
    if authority.log:
        key["rekorKeyData"] = rendering.encoded(authority.log.public_key)
    return {"policyType": "PublicKey", "publicKey": key}
