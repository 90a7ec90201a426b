# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""OpenShift ClusterImagePolicy and ImagePolicy, as the machine-config operator compiles them."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._policy import (
    enforcer_model_containers as containers,
)
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._policy.enforcer_model_common import (
    Files,
    Image,
    ModelError,
    Resource,
    base64_text,
    certificates,
    first_key,
    mapping,
    one_of,
    resources,
    text,
    texts,
)

_KINDS = {"ClusterImagePolicy": ("config.openshift.io/v1",), "ImagePolicy": ("config.openshift.io/v1",)}
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_WILDCARD = re.compile(rf"\*(?:\.{_LABEL})+")
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})+|localhost)(?::[0-9]+)?"
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-*)[a-z0-9]+)*"
_SCOPE = re.compile(rf"{_HOST}(?:/{_COMPONENT})*(?::\w[\w.-]{{0,127}})?(?:@[A-Za-z0-9+._-]+:[0-9a-fA-F]{{32,}})?")


def admits(version: str, files: Files, image: Image) -> bool:
    del version  # one API, one meaning
    scoped: dict[str, containers.Requirements] = {}
    policies = resources(files, _KINDS)
    cluster = [policy for policy in policies if policy.kind == "ClusterImagePolicy"]
    for policy in cluster:
        _add(policy, scoped, ())
    superior = tuple(scoped)
    for policy in policies:
        if policy.kind == "ImagePolicy":
            target = scoped if _namespace(policy) == image.namespace else {}
            _add(policy, target, superior)
    return containers.evaluate(image, scoped, (containers.Requirement("accept"),), lambda repository, suffix: True)


def _namespace(policy: Resource) -> str:
    if not policy.namespace:
        raise ModelError(f"{policy.where}: without a namespace")
    return policy.namespace


def _add(policy: Resource, scoped: dict[str, containers.Requirements], superior: tuple[str, ...]) -> None:
    """Several policies on one scope end in one list, so all of them must hold."""
    spec = policy.spec("scopes", "policy")
    requirement = containers.Requirement("signed", _trust(spec.get("policy"), policy.where))
    for scope in texts(spec.get("scopes"), policy.where):
        if not (_WILDCARD.fullmatch(scope) or _SCOPE.fullmatch(scope)):
            raise ModelError(f"{policy.where}: invalid scope {scope}")
        if not any(_inside(scope, outer) for outer in superior):
            scoped[scope] = (*scoped.get(scope, ()), requirement)


def _inside(scope: str, outer: str) -> bool:
    if outer.startswith("*."):
        return scope.split("/", maxsplit=1)[0].partition(":")[0].endswith(outer[1:])
    ends = ("/", ":", "@") if "/" in outer else ("/",)
    return scope == outer or scope.startswith(tuple(outer + end for end in ends))


def _trust(value: object, where: str) -> containers.Trust:
    policy = mapping(value, f"{where}: policy", "rootOfTrust", "signedIdentity")
    root = mapping(policy.get("rootOfTrust"), where, "policyType", "publicKey", "fulcioCAWithRekor", "pki")
    fields = {"PublicKey": "publicKey", "FulcioCAWithRekor": "fulcioCAWithRekor", "PKI": "pki"}
    name = fields[one_of(root.get("policyType"), fields, where)]
    mapping(root, f"{where}: rootOfTrust", "policyType", name)
    identity = _identity(policy.get("signedIdentity"), where)
    if name == "publicKey":
        return _public_key(root.get(name), identity, where)
    return _pki(root.get(name), identity, where) if name == "pki" else _fulcio(root.get(name), identity, where)


def _public_key(value: object, identity: containers.Identity, where: str) -> containers.Trust:
    fields = mapping(value, f"{where}: publicKey", "keyData", "rekorKeyData")
    logs = frozenset([_key(fields, "rekorKeyData", where)]) if "rekorKeyData" in fields else None
    return containers.Trust("keys", identity, frozenset([_key(fields, "keyData", where)]), logs=logs)


def _pki(value: object, identity: containers.Identity, where: str) -> containers.Trust:
    fields = mapping(value, f"{where}: pki", "caRootsData", "caIntermediatesData", "pkiCertificateSubject")
    subject = mapping(fields.get("pkiCertificateSubject"), where, "hostname", "email")
    if not subject:
        raise ModelError(f"{where}: pki without a subject")
    if "caIntermediatesData" in fields:
        _certificates(fields, "caIntermediatesData", where)
    hostname, email = subject.get("hostname"), subject.get("email")
    return containers.Trust("pki", identity, _certificates(fields, "caRootsData", where), hostname, email)


def _fulcio(value: object, identity: containers.Identity, where: str) -> containers.Trust:
    fields = mapping(value, f"{where}: fulcio", "fulcioCAData", "rekorKeyData", "fulcioSubject")
    subject = mapping(fields.get("fulcioSubject"), where, "oidcIssuer", "signedEmail")
    return containers.Trust(
        "fulcio",
        identity,
        _certificates(fields, "fulcioCAData", where),
        email=text(subject.get("signedEmail"), where),
        issuer=text(subject.get("oidcIssuer"), where),
        logs=frozenset([_key(fields, "rekorKeyData", where)]),
    )


def _pem(fields: dict[str, Any], name: str, label: str, where: str) -> str:
    """The CEL rules of the CRD: the text begins and ends with the lines of a PEM block."""
    pem = base64_text(fields.get(name), f"{where}: {name}")
    if not pem.startswith(f"-----BEGIN {label}-----") or not pem.removesuffix("\n").endswith(f"-----END {label}-----"):
        raise ModelError(f"{where}: {name} is refused by the CRD")
    return pem


def _key(fields: dict[str, Any], name: str, where: str) -> str:
    return first_key(_pem(fields, name, "PUBLIC KEY", where), where)


def _certificates(fields: dict[str, Any], name: str, where: str) -> frozenset[str]:
    return certificates(_pem(fields, name, "CERTIFICATE", where), where)


def _identity(value: object, where: str) -> containers.Identity:
    if value is None:
        return containers.Identity("never")
    fields = mapping(value, f"{where}: signedIdentity", "matchPolicy", "exactRepository")
    kind = one_of(fields.get("matchPolicy"), ("MatchRepoDigestOrExact", "MatchRepository", "ExactRepository"), where)
    if (kind == "ExactRepository") != ("exactRepository" in fields):
        raise ModelError(f"{where}: matchPolicy and exactRepository do not belong together")
    if kind == "ExactRepository":
        exact = mapping(fields["exactRepository"], where, "repository")
        return containers.Identity("exact", text(exact.get("repository"), where))
    return containers.Identity("same" if kind == "MatchRepository" else "never")
