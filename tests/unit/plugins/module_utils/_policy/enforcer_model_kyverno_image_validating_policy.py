# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kyverno ImageValidatingPolicy and its namespaced form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._policy import enforcer_model_cel as cel
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._policy.enforcer_model_common import (
    PUBLIC_LOG,
    PUBLIC_ROOT,
    Files,
    Image,
    ModelError,
    Resource,
    Signature,
    array,
    certificates,
    chains_to,
    exactly_one,
    first_key,
    flag,
    glob_matches,
    go_search,
    logged,
    made_with,
    mapping,
    one_of,
    release,
    resources,
    text,
    texts,
)
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._policy.enforcer_model_kyverno import (
    Use,
    uses,
)

_GROUP = "policies.kyverno.io/"
_KINDS = {
    "ImageValidatingPolicy": (_GROUP + "v1", _GROUP + "v1beta1", _GROUP + "v1alpha1"),
    "NamespacedImageValidatingPolicy": (_GROUP + "v1", _GROUP + "v1beta1"),
}
_SINCE = {_GROUP + "v1": (1, 17), _GROUP + "v1beta1": (1, 16), _GROUP + "v1alpha1": (1, 14)}
_SPEC = (
    "attestations", "attestors", "matchConstraints", "matchImageReferences", "validations", "validationActions",
    "validationConfigurations", "failurePolicy", "webhookConfiguration", "evaluation", "autogen", "credentials",
)
_CTLOG = ("url", "rekorPubKey", "ctLogPubKey", "tsaCertChain", "insecureIgnoreTlog", "insecureIgnoreSCT")
_NAME_LABEL = "kubernetes.io/metadata.name"
Check = Callable[[Signature], bool]
Named = Callable[[str, bool], bool]


@dataclass(frozen=True)
class Attestor:
    """One attestor; ``broken``: evaluating it is an error. ``attests``: it can verify attestations at all."""

    accepts: Check
    broken: bool
    attests: bool


@dataclass(frozen=True)
class Policy:
    """A policy that denies."""

    concerns: Callable[[str], bool]
    names: Callable[[str, bool], bool]
    attestors: dict[str, Attestor]
    attestations: dict[str, str]
    validations: tuple[cel.Truth, ...]
    ignores_errors: bool
    falls_back: bool

    def allows(self, use: Use, image: Image, crosses: bool) -> bool:
        if not self.concerns(use.namespace) or not self.names(use.raw, crosses):
            return True
        scene = cel.Scene(
            use.position,
            lambda attestors: sum(self._passes(name, None, image) for name in attestors),
            lambda attestation, attestors: sum(
                self._passes(name, self.attestations[attestation], image) for name in attestors
            ),
        )
        return all(validation(scene) for validation in self.validations)

    def _passes(self, name: str, predicate: str | None, image: Image) -> bool:
        attestor = self.attestors[name]
        if attestor.broken:
            return self.ignores_errors
        if predicate is not None and not attestor.attests:
            return False
        return any(
            each.format in self._formats(image) and each.predicate_type == predicate and attestor.accepts(each)
            for each in image.signatures
        )

    def _formats(self, image: Image) -> set[str]:
        """Any bundle, even somebody else's attestation, hides the legacy signatures."""
        if any(each.format == "bundle" for each in image.signatures):
            return {"bundle", "sig"} if self.falls_back else {"bundle"}
        return {"sig"}


def admits(version: str, files: Files, image: Image) -> bool:
    found = [_policy(each, version) for each in resources(files, _KINDS)]
    policies = [each for each in found if each is not None]
    return any(
        all(policy.allows(use, image, crosses) for policy in policies)
        for use in uses(image)
        for crosses in (True, False)
    )


def _policy(resource: Resource, version: str) -> Policy | None:
    """None: a policy that never denies."""
    if release(version) < _SINCE[resource.api]:
        raise ModelError(f"{resource.where}: {resource.api} is not served by {version}")
    spec = resource.spec(*_SPEC)
    attestors = _attestors(spec.get("attestors"), version, resource.where)
    attestations = _attestations(spec.get("attestations") or [], resource.where)
    failure = one_of(spec.get("failurePolicy", "Ignore"), ("Fail", "Ignore"), resource.where)
    concerns = _constraints(spec.get("matchConstraints") or {}, resource, version)
    policy = Policy(
        concerns or (lambda namespace: False),
        _references(spec.get("matchImageReferences"), resource.where),
        attestors,
        attestations,
        _validations(spec.get("validations"), cel.Names(frozenset(attestors), frozenset(attestations)), resource.where),
        failure == "Ignore",
        release(version) >= (1, 19),
    )
    return policy if concerns is not None and _denies(spec, resource.where) else None


def _denies(spec: dict[str, Any], where: str) -> bool:
    """Without actions it is not known that the policy denies."""
    mapping(spec.get("validationConfigurations") or {}, where, "mutateDigest", "verifyDigest", "required")
    evaluation = mapping(spec.get("evaluation") or {}, f"{where}: evaluation", "admission", "background", "mode")
    one_of(evaluation.get("mode", "Kubernetes"), ("Kubernetes",), f"{where}: mode")
    admission = mapping(evaluation.get("admission") or {}, where, "enabled")
    actions = {one_of(each, ("Deny", "Audit", "Warn"), where) for each in spec.get("validationActions") or []}
    if {"Deny", "Warn"} <= actions:
        raise ModelError(f"{where}: Deny and Warn together are refused")
    return "Deny" in actions and flag(admission.get("enabled"), True, where)


# What the policy is for


def _constraints(value: object, resource: Resource, version: str) -> Callable[[str], bool] | None:
    where = f"{resource.where}: matchConstraints"
    fields = mapping(value, where, "resourceRules", "namespaceSelector", "objectSelector", "matchPolicy")
    if fields.get("objectSelector"):
        raise ModelError(f"{where}: objectSelector is not in the model")
    one_of(fields.get("matchPolicy", "Equivalent"), ("Equivalent", "Exact"), where)
    inside = _namespaces(fields.get("namespaceSelector") or {}, where)
    rules = array(fields.get("resourceRules") or [], where)
    if not rules and release(version) >= (1, 19):
        raise ModelError(f"{where}: without resourceRules it is refused")
    if not [rule for rule in rules if _has_pods(rule, where)]:
        return None
    own = resource.namespace if resource.kind.startswith("Namespaced") else None
    return lambda namespace: own in (None, namespace) and inside(namespace)


def _has_pods(value: object, where: str) -> bool:
    rule = mapping(value, where, "apiGroups", "apiVersions", "operations", "resources", "scope")
    wanted = {"apiGroups": "", "apiVersions": "v1", "operations": "CREATE", "resources": "pods"}
    return all({one, "*"} & set(array(rule.get(name), where)) for name, one in wanted.items())


def _namespaces(value: object, where: str) -> Callable[[str], bool]:
    fields = mapping(value, f"{where}: namespaceSelector", "matchExpressions")
    conditions: list[tuple[bool, list[str]]] = []
    for each in fields.get("matchExpressions") or []:
        entry = mapping(each, where, "key", "operator", "values")
        one_of(entry.get("key"), (_NAME_LABEL,), where)
        operator = one_of(entry.get("operator"), ("In", "NotIn"), where)
        conditions.append((operator == "In", texts(entry.get("values"), where)))
    return lambda namespace: all((namespace in names) == wanted for wanted, names in conditions)


def _references(value: object, where: str) -> Named:
    where = f"{where}: matchImageReferences"
    checks: list[Named] = []
    for each in array(value, where):
        fields = mapping(each, where, "glob", "expression")
        if exactly_one(fields, ("glob", "expression"), where) == "glob":
            checks.append(_glob(text(fields["glob"], where), where))
        else:
            checks.append(_expression(text(fields["expression"], where), where))
    if not checks:
        raise ModelError(f"{where}: empty")
    return lambda name, crosses: any(check(name, crosses) for check in checks)


def _glob(pattern: str, where: str) -> Named:
    if set(pattern) & set("?[]{}!\\"):
        raise ModelError(f"{where}: {pattern} is not in the model")
    return lambda name, crosses: glob_matches(pattern, name, crosses=crosses)


def _expression(source: str, where: str) -> Named:
    function, argument = cel.reference(source)
    if function == "ref.startsWith":
        return lambda name, crosses: name.startswith(argument)
    go_search(argument, "", where)
    wanted = function == "ref.matches"
    return lambda name, crosses: go_search(argument, name, where) is wanted


def _validations(value: object, names: cel.Names, where: str) -> tuple[cel.Truth, ...]:
    known = ("expression", "message", "messageExpression", "reason")
    entries = [mapping(each, where, *known) for each in array(value, where)]
    return tuple(cel.parse(text(each.get("expression"), where), names) for each in entries)


# Attestors


def _attestations(value: object, where: str) -> dict[str, str]:
    result: dict[str, str] = {}
    for each in array(value, where):
        fields = mapping(each, f"{where}: attestations", "name", "intoto")
        kind = mapping(fields.get("intoto"), f"{where}: attestations", "type")
        result[text(fields.get("name"), where)] = text(kind.get("type"), where)
    return result


def _attestors(value: object, version: str, where: str) -> dict[str, Attestor]:
    result: dict[str, Attestor] = {}
    for each in array(value, where):
        fields = mapping(each, f"{where}: attestors", "name", "cosign")
        name = text(fields.get("name"), where)
        if name in result:
            raise ModelError(f"{where}: two attestors {name}")
        result[name] = _attestor(fields.get("cosign"), version, f"{where}: {name}")
    return result


def _attestor(value: object, version: str, where: str) -> Attestor:
    cosign = mapping(value, where, "key", "keyless", "certificate", "ctlog")
    kind = exactly_one(cosign, ("key", "keyless", "certificate"), where)
    readers = {"key": _key, "keyless": _keyless, "certificate": _certificate}
    maker = readers[kind](cosign[kind], where)
    ctlog = mapping(cosign.get("ctlog") or {}, f"{where}: ctlog", *_CTLOG)
    log = _log(ctlog, where)
    broken = "ctlog" in cosign and not ctlog.get("url") and release(version) < (1, 19)
    attests = kind != "key" or log is not None or release(version)[:2] > (1, 19)
    return Attestor(lambda signature: maker(signature) and (log is None or logged(signature, log)), broken, attests)


def _log(ctlog: dict[str, Any], where: str) -> frozenset[str] | None:
    """As in a ClusterPolicy, a ``tsaCertChain`` is not known to make timestamps a duty."""
    flag(ctlog.get("insecureIgnoreSCT"), False, where)
    if ctlog.get("tsaCertChain"):
        certificates(text(ctlog["tsaCertChain"], where), where)
    if flag(ctlog.get("insecureIgnoreTlog"), False, where):
        return None
    return frozenset([first_key(ctlog["rekorPubKey"], where) if ctlog.get("rekorPubKey") else PUBLIC_LOG])


def _key(value: object, where: str) -> Check:
    fields = mapping(value, f"{where}: key", "data", "hashAlgorithm")
    key = first_key(text(fields.get("data"), f"{where}: key"), where)
    algorithm = one_of(fields.get("hashAlgorithm", "sha256"), ("sha224", "sha256", "sha384", "sha512"), where)
    return lambda signature: made_with(signature, key, algorithm)


def _certificate(value: object, where: str) -> Check:
    """A chain alone asks for no subject."""
    chain = mapping(mapping(value, where, "certChain").get("certChain"), f"{where}: certChain", "value")
    roots = certificates(text(chain.get("value"), where), where)
    return lambda signature: signature.algorithm_hash == "sha256" and chains_to(signature, roots)


def _keyless(value: object, where: str) -> Check:
    fields = mapping(value, f"{where}: keyless", "identities", "roots")
    roots = certificates(fields["roots"], where) if fields.get("roots") else frozenset([PUBLIC_ROOT])
    known = ("issuer", "issuerRegExp", "subject", "subjectRegExp")
    identities = [mapping(each, f"{where}: identities", *known) for each in array(fields.get("identities"), where)]
    for each in identities:
        _named(each, "issuer", "", where)
        _named(each, "subject", "", where)
    return lambda signature: (
        signature.algorithm_hash == "sha256"
        and chains_to(signature, roots)
        and (not identities or any(_identity(each, signature, where) for each in identities))
    )


def _identity(fields: dict[str, Any], signature: Signature, where: str) -> bool:
    names = ("issuer", "subject")
    if signature.format == "bundle" and not all(fields.get(each) or fields.get(f"{each}RegExp") for each in names):
        return False  # both are mandatory with bundles
    if signature.subject is None and (fields.get("subject") or fields.get("subjectRegExp")):
        return False
    return _named(fields, "issuer", signature.issuer or "", where) and _named(
        fields, "subject", signature.subject or "", where
    )


def _named(fields: dict[str, Any], name: str, value: str, where: str) -> bool:
    """Exact or unanchored; ``*`` in an exact name is itself."""
    exact, expression = fields.get(name), fields.get(f"{name}RegExp")
    if not exact and not expression:
        return True
    return exact == value or (bool(expression) and go_search(text(expression, where), value, where))
