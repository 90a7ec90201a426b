# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kyverno ClusterPolicy and Policy: verifyImages, and validate.pattern over the images of a pod."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

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
    free_mapping,
    go_search,
    logged,
    made_with,
    mapping,
    one_of,
    pem_blocks,
    release,
    resources,
    text,
    texts,
)
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._policy.enforcer_model_kyverno import (
    POSITIONS,
    Use,
    uses,
    wildcard,
)

_APIS = ("kyverno.io/v1", "kyverno.io/v2beta1")
_KINDS = {"ClusterPolicy": _APIS, "Policy": _APIS}
_SPEC = (
    "rules", "validationFailureAction", "failurePolicy", "background", "webhookConfiguration", "admission",
    "applyRules", "emitWarning", "webhookTimeoutSeconds",
)
_VERIFY = (
    "imageReferences", "skipImageReferences", "type", "failureAction", "attestors", "attestations", "mutateDigest",
    "verifyDigest", "required", "useCache", "imageRegistryCredentials", "cosignOCI11",
)
_HASHES = ("sha224", "sha256", "sha384", "sha512")
Check = Callable[[Signature], bool]
Passes = Callable[[Sequence[Signature]], bool]


@dataclass(frozen=True)
class Rule:
    """A rule that denies: which namespaces it concerns, and what it says of a use of the image."""

    concerns: Callable[[str], bool]
    allows: Callable[[Use, Image], bool]


@dataclass(frozen=True)
class Reader:
    """What the ``type`` of a verifyImages entry can read in this version."""

    format: str
    keys: bool

    @property
    def is_bundle(self) -> bool:
        return self.format == "bundle"


def admits(version: str, files: Files, image: Image) -> bool:
    rules = [rule for policy in resources(files, _KINDS) for rule in _rules(policy, version)]
    return any(
        all(rule.allows(use, image) for rule in rules if rule.concerns(use.namespace)) for use in uses(image)
    )


def _rules(policy: Resource, version: str) -> list[Rule]:
    spec = policy.spec(*_SPEC)
    if not flag(spec.get("admission"), True, policy.where) or spec.get("applyRules", "All") != "All":
        raise ModelError(f"{policy.where}: admission and applyRules are not in the model")
    one_of(spec.get("failurePolicy", "Fail"), ("Fail", "Ignore"), policy.where)
    actions = ("Audit", "Enforce", "audit", "enforce")
    action = one_of(spec.get("validationFailureAction", "Audit"), actions, policy.where)
    result = []
    for value in array(spec.get("rules"), policy.where):
        known = ("name", "match", "exclude", "verifyImages", "validate", "skipBackgroundRequests")
        fields = mapping(value, policy.where, *known)
        where = f"{policy.where}: {text(fields.get('name'), policy.where)}"
        concerns = _concerns(fields, policy, where)
        result += [Rule(concerns, allows) for allows in _checks(fields, action, version, where)]
    return result


def _checks(fields: dict[str, Any], action: str, version: str, where: str) -> list[Callable[[Use, Image], bool]]:
    if exactly_one(fields, ("verifyImages", "validate"), where) == "verifyImages":
        entries = array(fields["verifyImages"], where)
        return [_verify_images(mapping(each, where, *_VERIFY), action, version, where) for each in entries]
    return [_validate(fields["validate"], action, where)]


def _enforced(fields: dict[str, Any], action: str, where: str) -> bool:
    """An action of the rule goes before the one of the policy, whose default is Audit."""
    return one_of(fields.get("failureAction", action.capitalize()), ("Audit", "Enforce"), where) == "Enforce"


# Which pods


def _concerns(fields: dict[str, Any], policy: Resource, where: str) -> Callable[[str], bool]:
    match = _selector(fields.get("match"), f"{where}: match")
    exclude = _selector(fields["exclude"], f"{where}: exclude") if fields.get("exclude") else None

    def concerns(namespace: str) -> bool:
        if policy.kind == "Policy" and policy.namespace != namespace:
            return False
        return match(namespace) and not (exclude is not None and exclude(namespace))

    return concerns


def _selector(value: object, where: str) -> Callable[[str], bool]:
    fields = mapping(value, where, "any", "all", "resources")
    kind = exactly_one(fields, ("any", "all", "resources"), where)
    blocks = [fields] if kind == "resources" else array(fields[kind], where)
    filters = [
        mapping(mapping(each, where, "resources").get("resources"), where, "kinds", "namespaces", "operations")
        for each in blocks
    ]
    if not filters:
        raise ModelError(f"{where}: selects nothing")
    return lambda namespace: (all if kind == "all" else any)(_selects(each, namespace, where) for each in filters)


def _selects(resource: dict[str, Any], namespace: str, where: str) -> bool:
    kinds = texts(resource.get("kinds", ["*"]), where)
    operations = texts(resource.get("operations", ["CREATE"]), where)
    patterns = texts(resource.get("namespaces", ["*"]), where)
    named = any(wildcard(each, namespace) for each in patterns)
    return bool({"Pod", "v1/Pod", "*"} & set(kinds)) and "CREATE" in operations and named


# validate.pattern


def _validate(value: object, action: str, where: str) -> Callable[[Use, Image], bool]:
    fields = mapping(value, where, "message", "failureAction", "pattern", "allowExistingViolations")
    enforced = _enforced(fields, action, where)
    spec = mapping(mapping(fields.get("pattern"), where, "spec").get("spec"), where, *_anchored())
    patterns = {name: _image_pattern(spec[name], f"{where}: {name}") for name in spec}

    def allows(use: Use, image: Image) -> bool:
        del image
        return not enforced or all(_holds(name, pattern, use) for name, pattern in patterns.items())

    return allows


def _anchored() -> list[str]:
    return [*POSITIONS, *(f"=({name})" for name in POSITIONS)]


def _image_pattern(value: object, where: str) -> str:
    entries = array(value, where)
    if len(entries) != 1:
        raise ModelError(f"{where}: one pattern is known")
    pattern = text(mapping(entries[0], where, "image").get("image"), where)
    if any(each.strip()[0] in "<>=" for each in re.split("[|&]", pattern)):
        raise ModelError(f"{where}: an operator that is not in the model: {pattern}")
    return pattern


def _holds(name: str, pattern: str, use: Use) -> bool:
    """A list that the pattern names without ``=( )`` must be in the pod; ``containers`` always is."""
    position = name.strip("=()")
    if position == use.position:
        # First alternatives, then what must all hold (source of 1.18.2, pkg/engine/pattern/pattern.go).
        return any(
            all(_alternative(part.strip(), use.raw) for part in each.split("&")) for each in pattern.split("|")
        )
    return position == "containers" or name.startswith("=(")


def _alternative(pattern: str, raw: str) -> bool:
    return not wildcard(pattern[1:].strip(), raw) if pattern.startswith("!") else wildcard(pattern, raw)


# verifyImages


def _verify_images(fields: dict[str, Any], action: str, version: str, where: str) -> Callable[[Use, Image], bool]:
    references = texts(fields.get("imageReferences"), f"{where}: imageReferences")
    skipped = texts(fields.get("skipImageReferences") or [], f"{where}: skipImageReferences")
    if not references or any("?" in each for each in [*references, *skipped]):
        raise ModelError(f"{where}: no imageReferences, or one with a question mark")
    if flag(fields.get("cosignOCI11"), False, where):
        raise ModelError(f"{where}: cosignOCI11 is not in the model")
    kind = one_of(fields.get("type", "Cosign"), ("Cosign", "SigstoreBundle"), f"{where}: type")
    reader = Reader("sig", True) if kind == "Cosign" else Reader("bundle", release(version) >= (1, 19))
    # Without ``required`` nothing says that an image must have been verified.
    required = flag(fields.get("required"), True, where)
    denies = _enforced(fields, action, where) and required
    verified = _verified(fields, reader, where)

    def allows(use: Use, image: Image) -> bool:
        named = any(wildcard(each, use.name) for each in references)
        skip = any(wildcard(each, use.name) for each in skipped)
        return not denies or not named or skip or verified(image.signatures)

    return allows


def _verified(fields: dict[str, Any], reader: Reader, where: str) -> Passes:
    """With attestors and attestations in one entry it is not known which are checked, so either is enough."""
    sets = [_set(each, reader, where) for each in array(fields.get("attestors") or [], where)]
    attestations = [_attestation(each, reader, where) for each in array(fields.get("attestations") or [], where)]

    def by_attestors(signatures: Sequence[Signature]) -> bool:
        readable = [each for each in signatures if each.format == reader.format and each.predicate_type is None]
        return all(check(readable) for check in sets)

    def verified(signatures: Sequence[Signature]) -> bool:
        attested = all(check(signatures) for check in attestations)
        if sets and attestations:
            return by_attestors(signatures) or attested
        return by_attestors(signatures) and attested

    return verified


def _attestation(value: object, reader: Reader, where: str) -> Passes:
    fields = mapping(value, f"{where}: attestations", "name", "type", "predicateType", "attestors", "conditions")
    kind = text(fields[exactly_one(fields, ("type", "predicateType"), where)], f"{where}: type")
    sets = [_set(each, reader, where) for each in array(fields.get("attestors") or [], where)]

    def passes(signatures: Sequence[Signature]) -> bool:
        """Without attestors nobody's signature is asked for; what the predicate says is outside of the model."""
        readable = [each for each in signatures if each.format == reader.format and each.predicate_type == kind]
        return bool(readable) and all(check(readable) for check in sets)

    return passes


def _set(value: object, reader: Reader, where: str) -> Passes:
    fields = mapping(value, f"{where}: attestors", "count", "entries")
    entries = [check for each in array(fields.get("entries"), where) for check in _entries(each, reader, where)]
    count = fields.get("count", len(entries))
    if not entries or not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise ModelError(f"{where}: no entries, or count {count!r}")
    return lambda signatures: sum(check(signatures) for check in entries) >= count


def _entries(value: object, reader: Reader, where: str) -> list[Passes]:
    """The entry, or one entry for each PEM block of its keys."""
    fields = mapping(value, f"{where}: entries", "keys", "certificates", "keyless", "attestor", "signatureAlgorithm")
    kinds = ("keys", "certificates", "keyless", "attestor")
    kind = exactly_one(fields, kinds, f"{where}: entries")
    if kind == "attestor":
        return [_set(fields[kind], reader, where)]
    algorithm = one_of(fields.get("signatureAlgorithm", "sha256"), _HASHES, where)
    if kind == "keys":
        return [_some(check) for check in _keys(fields[kind], algorithm, reader, f"{where}: keys")]
    read = _certificates if kind == "certificates" else _keyless
    return [_some(read(free_mapping(fields[kind], where), algorithm, reader, f"{where}: {kind}"))]


def _some(check: Check) -> Passes:
    return lambda signatures: any(check(each) for each in signatures)


# Entries


def _keys(value: object, algorithm: str, reader: Reader, where: str) -> list[Check]:
    fields = mapping(value, where, "publicKeys", "signatureAlgorithm", "rekor", "ctlog")
    own = one_of(fields.get("signatureAlgorithm", "sha256"), _HASHES, where)
    # Which of two different algorithms holds is not known.
    hashes = {own, algorithm} if "signatureAlgorithm" in fields and algorithm != "sha256" else {
        own if "signatureAlgorithm" in fields else algorithm
    }
    keys = pem_blocks(text(fields.get("publicKeys"), where), "PUBLIC KEY", where)
    log = _log(fields, where)
    # Older releases lost the settings of an entry that they split.
    logs = [log] if len(keys) == 1 else [log, frozenset([PUBLIC_LOG])]
    return [_key(key, hashes, logs, reader) for key in keys]


def _key(key: str, hashes: set[str], logs: Sequence[frozenset[str] | None], reader: Reader) -> Check:
    def accepts(signature: Signature) -> bool:
        made = any(made_with(signature, key, algorithm) for algorithm in hashes)
        return reader.keys and made and any(log is None or logged(signature, log) for log in logs)

    return accepts


def _certificates(fields: dict[str, Any], algorithm: str, reader: Reader, where: str) -> Check:
    """A chain alone asks for no subject: every leaf below it passes."""
    mapping(fields, where, "certChain", "rekor", "ctlog")
    del reader
    roots = certificates(text(fields.get("certChain"), where), where)
    log = _log(fields, where)
    return lambda signature: (
        signature.algorithm_hash == algorithm
        and chains_to(signature, roots)
        and (log is None or logged(signature, log))
    )


def _keyless(fields: dict[str, Any], algorithm: str, reader: Reader, where: str) -> Check:
    known = ("subject", "subjectRegExp", "issuer", "issuerRegExp", "roots", "rekor", "ctlog")
    mapping(fields, where, *known)
    if not fields.get("roots") and not (fields.get("rekor") or {}).get("url"):
        raise ModelError(f"{where}: refused by the webhook: neither rekor.url nor roots")
    roots = certificates(fields["roots"], where) if fields.get("roots") else frozenset([PUBLIC_ROOT])
    # A bundle is verified with the public root over TUF; whether roots are then an error is not known.
    roots = roots | {PUBLIC_ROOT} if reader.is_bundle else roots
    log = _log(fields, where)
    for name in ("subject", "issuer"):
        _named(fields, name, "", where)

    def accepts(signature: Signature) -> bool:
        if signature.algorithm_hash != algorithm or not chains_to(signature, roots):
            return False
        if signature.subject is not None and not _named(fields, "subject", signature.subject, where):
            return False  # a certificate without any SAN skips the test
        return _named(fields, "issuer", signature.issuer or "", where) and (log is None or logged(signature, log))

    return accepts


def _named(fields: dict[str, Any], name: str, value: str, where: str) -> bool:
    """Both forms together are OR; without either everything passes."""
    pattern, expression = fields.get(name), fields.get(f"{name}RegExp")
    if not pattern and not expression:
        return True
    found = bool(expression) and go_search(text(expression, where), value, where)
    return found or (bool(pattern) and wildcard(text(pattern, where), value, optional=True))


def _log(fields: dict[str, Any], where: str) -> frozenset[str] | None:
    """The keys of which one must have logged the signature; None: the log is ignored.

    A ``tsaCertChain`` narrows nothing here: that a timestamp must be there is not known.
    """
    ctlog = mapping(fields.get("ctlog") or {}, f"{where}: ctlog", "ignoreSCT", "pubkey", "tsaCertChain")
    flag(ctlog.get("ignoreSCT"), False, f"{where}: ignoreSCT")
    if ctlog.get("tsaCertChain") is not None:
        certificates(text(ctlog["tsaCertChain"], where), where)
    rekor = mapping(fields.get("rekor") or {}, f"{where}: rekor", "url", "pubkey", "ignoreTlog")
    if flag(rekor.get("ignoreTlog"), False, f"{where}: ignoreTlog"):
        return None
    return frozenset([first_key(rekor["pubkey"], where) if rekor.get("pubkey") else PUBLIC_LOG])
