# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connaisseur: the Helm values of validators and of the policy.

How patterns are matched and compared, and what a threshold counts, is as in its source, 3.10
(internal/config/config.go, internal/policy/match.go, internal/validator/cosignvalidator).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._policy.enforcer_model_common import (
    PUBLIC_LOG,
    PUBLIC_ROOT,
    Files,
    Image,
    ModelError,
    Signature,
    array,
    certificates,
    chains_to,
    exactly_one,
    first_key,
    flag,
    free_mapping,
    go_search,
    logged,
    made_with,
    mapping,
    normalized,
    one_of,
    references,
    spellings,
    text,
    texts,
    yaml_documents,
)

_WITH = ("trustRoot", "threshold", "required", "verifyInTransparencyLog", "verifySCT", "mode")
Check = Callable[[Signature], bool]


@dataclass(frozen=True)
class Validator:
    """A validator; ``approve`` is set for a static one only."""

    roots: dict[str, Check]
    logs: frozenset[str]
    approve: bool | None = None


@dataclass(frozen=True)
class Rule:
    """One entry of the policy."""

    pattern: str
    validator: Validator
    options: dict[str, Any]

    def accepts(self, image: Image) -> bool:
        if self.validator.approve is not None:
            return self.validator.approve
        where = f"policy {self.pattern}"
        log = flag(self.options.get("verifyInTransparencyLog"), True, where)
        readable = [
            each
            for each in image.signatures
            if each.format == "sig" and each.predicate_type is None and (not log or logged(each, self.validator.logs))
        ]
        signed = {
            name: count for name, check in self.validator.roots.items()
            if (count := sum(check(each) for each in readable))
        }
        return _enough(self.options, set(self.validator.roots), signed, where)


def admits(version: str, files: Files, image: Image) -> bool:
    del version
    application = _application(files)
    features = mapping(
        application.get("features") or {}, "features", "detectionMode", "automaticChildApproval",
        "automaticUnchangedApproval", "cache",
    )
    rules = _rules(application)
    if flag(features.get("detectionMode"), False, "detectionMode"):
        return True
    full = {_full(spelling) for spelling in spellings(image.repository)}
    # A tag that was left out is written.
    names = {name for one in full for name in references(one, image) if name != one}
    return any(_reading(rules, name, image) for name in names)


def _full(repository: str) -> str:
    """Names are those of go-containerregistry: Docker Hub has another host, and its own images their namespace."""
    host, _slash, rest = normalized(repository).partition("/")
    return f"index.docker.io/{rest}" if host == "docker.io" else f"{host}/{rest}"


def _application(files: Files) -> dict[str, Any]:
    paths = [path for path in files if f"/{path}".endswith("/values.yaml")]
    if len(paths) != 1 or any(not path.endswith((".md", ".txt", "values.yaml")) for path in files):
        raise ModelError("exactly one values.yaml is known")
    documents = yaml_documents(files[paths[0]], paths[0])
    if len(documents) != 1:
        raise ModelError("values.yaml must be one document")
    values = mapping(documents[0], "values.yaml", "application", "kubernetes")
    return mapping(values.get("application"), "application", "validators", "policy", "features", "logLevel")


def _reading(rules: list[Rule], name: str, image: Image) -> bool:
    """Without a matching rule, an image is denied."""
    matching = [rule for rule in rules if _is_match(rule.pattern, name)]
    if not matching:
        return False
    best = max(_specificity(rule.pattern, name) for rule in matching)
    return any(rule.accepts(image) for rule in matching if _specificity(rule.pattern, name) == best)


def _is_match(pattern: str, name: str) -> bool:
    """An asterisk crosses slashes, and stands before and after every pattern; a question mark is any character."""
    if set(pattern) & set("[]{}!\\"):
        raise ModelError(f"policy {pattern}: not in the model")
    whole = f"{'' if pattern.startswith('*') else '*'}{pattern}{'' if pattern.endswith('*') else '*'}"
    return re.fullmatch("".join({"*": ".*", "?": "."}.get(one, re.escape(one)) for one in whole), name) is not None


def _specificity(pattern: str, name: str) -> tuple[int, list[int], list[int]]:
    """First the number of components, then what each has in common with the name, then their lengths."""
    components, asked = pattern.split("/"), name.split("/")
    common = [_common(one, other) for one, other in zip(components, asked)]
    return len(components), common, [len(one) for one in components]


def _common(one: str, other: str) -> int:
    pairs = enumerate(zip(one, other))
    return next((number for number, pair in pairs if len(set(pair)) > 1), min(len(one), len(other)))


def _enough(options: dict[str, Any], known: set[str], signed: dict[str, int], where: str) -> bool:
    """A threshold, also that of all roots, counts signatures; those that are required are looked at by name."""
    chosen = options.get("trustRoot", "default")
    if chosen != "*":
        if text(chosen, where) not in known:
            raise ModelError(f"{where}: there is no trust root {chosen}")
        return chosen in signed
    required = set(texts(options.get("required") or [], where))
    if not required <= known:
        raise ModelError(f"{where}: unknown required roots {sorted(required - known)}")
    threshold = options.get("threshold", 0 if required else len(known))
    if not isinstance(threshold, int) or isinstance(threshold, bool) or ("threshold" in options and threshold < 1):
        raise ModelError(f"{where}: threshold {threshold!r}")
    asked = required if required and threshold <= len(required) else known
    count = sum(number for name, number in signed.items() if name in asked)
    return required <= set(signed) and count >= max(threshold, 1)


def _rules(application: dict[str, Any]) -> list[Rule]:
    validators: dict[str, Validator] = {}
    for value in array(application.get("validators"), "validators"):
        fields = mapping(value, "validators", "name", "type", "trustRoots", "host", "approve", "auth")
        name = text(fields.get("name"), "validators: name")
        if name in validators:
            raise ModelError(f"two validators {name}")
        validators[name] = _validator(fields, f"validator {name}")
    entries = array(application.get("policy"), "policy")
    return [_rule(mapping(each, "policy", "pattern", "validator", "with"), validators) for each in entries]


def _rule(entry: dict[str, Any], validators: dict[str, Validator]) -> Rule:
    pattern = text(entry.get("pattern"), "policy: pattern")
    name = text(entry.get("validator", "default"), f"policy {pattern}")
    if name not in validators:
        raise ModelError(f"policy {pattern}: there is no validator {name}")
    options = mapping(entry.get("with") or {}, f"policy {pattern}: with", *_WITH)
    one_of(options.get("mode", "mutate"), ("mutate", "insecureValidateOnly"), f"policy {pattern}: mode")
    flag(options.get("verifySCT"), True, f"policy {pattern}: verifySCT")
    if validators[name].approve is None:
        _enough(options, set(validators[name].roots), {}, f"policy {pattern}")
    return Rule(pattern, validators[name], options)


def _validator(fields: dict[str, Any], where: str) -> Validator:
    kind = one_of(fields.get("type"), ("cosign", "static"), f"{where}: type")
    if kind == "static":
        mapping(fields, where, "name", "type", "approve")
        if "approve" not in fields:
            raise ModelError(f"{where}: static without approve")
        return Validator({}, frozenset(), flag(fields["approve"], False, where))
    mapping(fields, where, "name", "type", "trustRoots", "host", "auth")
    host = mapping(fields.get("host") or {}, f"{where}: host", "rekor", "rekorPubkey", "fulcioCert", "ctLogPubkey")
    logs = first_key(host["rekorPubkey"], where) if "rekorPubkey" in host else PUBLIC_LOG
    fulcio = certificates(host["fulcioCert"], where) if "fulcioCert" in host else frozenset([PUBLIC_ROOT])
    roots: dict[str, Check] = {}
    for value in array(fields.get("trustRoots"), f"{where}: trustRoots"):
        root = free_mapping(value, where)
        name = text(root.get("name"), f"{where}: trustRoots: name")
        if name in roots or name == "*":
            raise ModelError(f"{where}: trust root {name}")
        roots[name] = _root(root, fulcio, f"{where}: {name}")
    return Validator(roots, frozenset([logs]))


def _root(root: dict[str, Any], fulcio: frozenset[str], where: str) -> Check:
    mapping(root, where, "name", "key", "keyless")
    if exactly_one(root, ("key", "keyless"), where) == "key":
        key = first_key(text(root["key"], where), where)
        return lambda signature: made_with(signature, key, "sha256")
    fields = mapping(root["keyless"], f"{where}: keyless", "issuer", "issuerRegex", "subject", "subjectRegex")
    issuer = exactly_one(fields, ("issuer", "issuerRegex"), where)
    subject = exactly_one(fields, ("subject", "subjectRegex"), where)
    for name in (issuer, subject):
        _is(name, fields, "", where)

    def accepts(signature: Signature) -> bool:
        if signature.subject is None or signature.algorithm_hash != "sha256" or not chains_to(signature, fulcio):
            return False
        return _is(issuer, fields, signature.issuer or "", where) and _is(subject, fields, signature.subject, where)

    return accepts


def _is(name: str, fields: dict[str, Any], value: str, where: str) -> bool:
    wanted = text(fields[name], f"{where}: {name}")
    return go_search(wanted, value, where) if name.endswith("Regex") else value == wanted
