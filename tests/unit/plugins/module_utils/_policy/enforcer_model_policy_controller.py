# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""sigstore policy-controller: ClusterImagePolicy, TrustRoot and the ConfigMap config-policy-controller."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._policy import enforcer_model_cue as cue
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._policy.enforcer_model_common import (
    CERTIFICATE,
    PUBLIC_LOG,
    PUBLIC_ROOT,
    Files,
    Image,
    ModelError,
    Resource,
    Signature,
    among,
    array,
    base64_text,
    chains_to,
    exactly_one,
    first_key,
    flag,
    glob_matches,
    go_search,
    logged,
    made_with,
    mapping,
    normalized,
    one_of,
    pem_blocks,
    release,
    resources,
    text,
)

_GROUP = "policy.sigstore.dev/"
_KINDS = {
    "ClusterImagePolicy": (_GROUP + "v1alpha1", _GROUP + "v1beta1"),
    "TrustRoot": (_GROUP + "v1alpha1",),
    "ConfigMap": ("v1",),
}
_HASHES = ("sha224", "sha256", "sha384", "sha512")
_AUTHORITY = (
    "name", "key", "keyless", "static", "ctlog", "rfc3161timestamp", "attestations", "signatureFormat",
)
_GLOB = re.compile(r"[a-zA-Z0-9_:/*.@-]+")


@dataclass(frozen=True)
class TrustRoot:
    """The ``sigstoreKeys`` of a TrustRoot."""

    roots: frozenset[str]
    logs: frozenset[str]
    timestamps: frozenset[str]


@dataclass(frozen=True)
class Settings:
    """What holds for all policies."""

    no_match: str
    empty_fails: bool
    oci11: bool
    roots: dict[str, TrustRoot]
    bundles: bool

    def root(self, name: object, where: str) -> TrustRoot:
        if name not in self.roots:
            raise ModelError(f"{where}: there is no TrustRoot {name!r}")
        return self.roots[str(name)]


Check = Callable[[Signature], bool]
Result = dict[str, Any]


def admits(version: str, files: Files, image: Image) -> bool:
    found = resources(files, _KINDS)
    roots = {each.name: _trust_root(each) for each in found if each.kind == "TrustRoot"}
    configs = [_config(each) for each in found if each.kind == "ConfigMap"]
    config = configs[0] if configs else _no_config({})
    bundles = release(version) >= (0, 13)
    settings = Settings(config[0], config[1], config[2], roots, bundles)
    policies = [each for each in found if each.kind == "ClusterImagePolicy"]
    name = f"{_hub(image.repository)}@{image.digest}"
    judged = [(_matches(each, name), _passes(each, settings, image)) for each in policies]
    verdicts = [passes for matches, passes in judged if matches]
    if not verdicts:
        return settings.no_match != "deny"
    return all(verdicts)


def _hub(repository: str) -> str:
    name = normalized(repository)
    return "index." + name if name.startswith("docker.io/") else name


def _no_config(data: dict[str, Any]) -> tuple[str, bool, bool]:
    no_match = one_of(data.get("no-match-policy", "deny"), ("deny", "warn", "allow"), "no-match-policy")
    empty = one_of(data.get("fail-on-empty-authorities", "true"), ("true", "false"), "fail-on-empty-authorities")
    oci11 = one_of(data.get("enable-oci11", "false"), ("true", "false"), "enable-oci11")
    return no_match, empty == "true", oci11 == "true"


def _config(resource: Resource) -> tuple[str, bool, bool]:
    if resource.name != "config-policy-controller":
        raise ModelError(f"{resource.where} is not the one of the controller")
    body = mapping(resource.body, resource.where, "data")
    known = ("no-match-policy", "fail-on-empty-authorities", "enable-oci11")
    return _no_config(mapping(body.get("data", {}), resource.where, *known))


# TrustRoot


def _trust_root(resource: Resource) -> TrustRoot:
    keys_name = "sigstoreKeys"
    parts = ("certificateAuthorities", "ctLogs", "tLogs", "timestampAuthorities")
    keys = mapping(resource.spec(keys_name).get(keys_name), resource.where, *parts)
    chains = [_chain(each, resource.where) for each in keys.get("certificateAuthorities") or []]
    stamps = [_chain(each, resource.where) for each in keys.get("timestampAuthorities") or []]
    for each in keys.get("ctLogs") or []:
        _log(each, resource.where)
    return TrustRoot(
        frozenset(chain[-1] for chain in chains),
        frozenset(_log(each, resource.where) for each in keys.get("tLogs") or []),
        frozenset(chain[0] for chain in stamps),
    )


def _chain(value: object, where: str) -> list[str]:
    fields = mapping(value, where, "subject", "uri", "certChain")
    subject = mapping(fields.get("subject"), f"{where}: subject", "organization", "commonName")
    for name in ("organization", "commonName"):
        text(subject.get(name), f"{where}: subject: {name}")
    text(fields.get("uri"), f"{where}: uri")
    return pem_blocks(base64_text(fields.get("certChain"), where), CERTIFICATE, where)


def _log(value: object, where: str) -> str:
    fields = mapping(value, where, "baseURL", "hashAlgorithm", "publicKey")
    text(fields.get("baseURL"), f"{where}: baseURL")
    text(fields.get("hashAlgorithm"), f"{where}: hashAlgorithm")
    return first_key(base64_text(fields.get("publicKey"), where), where)


# ClusterImagePolicy


def _matches(policy: Resource, name: str) -> bool:
    spec = policy.spec("images", "authorities", "match", "mode", "policy")
    pods = _concerns_pods(spec.get("match"), policy.where)
    globs = [mapping(each, policy.where, "glob").get("glob") for each in array(spec.get("images"), policy.where)]
    if not globs:
        raise ModelError(f"{policy.where}: no images")
    matching = [each for each in globs if _glob(text(each, policy.where), name, policy.where)]
    return pods and bool(matching)


def _glob(glob: str, name: str, where: str) -> bool:
    if not _GLOB.fullmatch(glob):
        raise ModelError(f"{where}: invalid glob {glob}")
    short = {"*": "index.docker.io/library/*", "*/*": "index.docker.io/*/*"}
    return glob_matches(short.get(glob, glob), name, crosses=False)


def _concerns_pods(value: object, where: str) -> bool:
    if value is None:
        return True
    entries = [mapping(each, f"{where}: match", "group", "version", "resource") for each in array(value, where)]
    return not entries or any(each.get("resource") == "pods" for each in entries)


def _passes(policy: Resource, settings: Settings, image: Image) -> bool:
    spec = policy.spec("images", "authorities", "match", "mode", "policy")
    mode = one_of(spec.get("mode", "enforce"), ("enforce", "warn"), policy.where)
    authorities = array(spec.get("authorities") or [], policy.where)
    results = _results(authorities, settings, image, policy.where)
    rules = None if spec.get("policy") is None else _cue(spec["policy"], policy.where)
    if not authorities:
        return mode == "warn" or not settings.empty_fails
    passes = bool(results) and (rules is None or cue.holds(rules, {"authorityMatches": results}))
    return mode == "warn" or passes


def _cue(value: object, where: str) -> cue.Tree:
    fields = mapping(value, f"{where}: policy", "type", "data")
    one_of(fields.get("type"), ("cue",), f"{where}: policy: type")
    tree = cue.parse(text(fields.get("data"), f"{where}: policy: data"))
    if set(tree) != {"authorityMatches"}:
        raise ModelError(f"{where}: the model knows only authorityMatches, not {sorted(tree)}")
    return tree


def _results(authorities: list[Any], settings: Settings, image: Image, where: str) -> dict[str, Result]:
    """What the authorities found, by name, without those that found nothing."""
    results: dict[str, Result] = {}
    for index, value in enumerate(authorities):
        fields = mapping(value, f"{where}: authorities", *_AUTHORITY)
        name = text(fields.get("name", f"authority-{index}"), where)
        if name in results:
            raise ModelError(f"{where}: two authorities {name}")
        result = _result(fields, settings, image, f"{where}: {name}")
        if result is not None:
            results[name] = result
    return results


def _result(fields: dict[str, Any], settings: Settings, image: Image, where: str) -> Result | None:
    kind = exactly_one(fields, ("key", "keyless", "static"), where)
    if kind == "static":
        static = mapping(fields["static"], where, "action", "message")
        return {"static": True} if one_of(static.get("action"), ("pass", "fail"), where) == "pass" else None
    check = _check(kind, fields, settings, where)
    formats = {"legacy": "sig", "bundle": "bundle"}
    wanted = formats[one_of(fields.get("signatureFormat", "legacy"), formats, where)]
    if wanted == "bundle" and not settings.bundles:
        raise ModelError(f"{where}: signatureFormat came with 0.13.0")
    if fields.get("attestations"):
        # A bundle is read for keyless attestations only: "the authority must be keyless".
        readable = wanted == "sig" or kind == "keyless"
        return _attested(fields["attestations"], check if readable else _never, wanted, settings, image, where)
    if wanted == "bundle":
        return None  # "bundle support for image signatures is not yet implemented"
    count = sum(each.format == "sig" and each.predicate_type is None and check(each) for each in image.signatures)
    return {"signatures": count} if count else None


def _never(signature: Signature) -> bool:
    del signature
    return False


def _attested(
    value: object, check: Check, wanted: str, settings: Settings, image: Image, where: str
) -> Result | None:
    """An authority with attestations no longer looks at the signature of the image."""
    counts: dict[str, int] = {}
    for entry in array(value, f"{where}: attestations"):
        fields = mapping(entry, f"{where}: attestations", "name", "predicateType", "policy")
        kind = text(fields.get("predicateType"), f"{where}: predicateType")
        if fields.get("policy") is not None:
            _content(fields["policy"], where)
        counts[text(fields.get("name"), where)] = sum(
            (each.format == wanted and check(each)) or (settings.oci11 and each.format == "bundle")
            for each in image.signatures
            if each.predicate_type == kind
        )
    return {"attestations": counts} if all(counts.values()) else None


def _content(value: object, where: str) -> None:
    """What the predicate must say is outside of the model, which lets every predicate pass."""
    fields = mapping(value, f"{where}: policy", "type", "data")
    one_of(fields.get("type"), ("cue", "rego"), where)
    text(fields.get("data"), where)


# Authorities


def _check(kind: str, fields: dict[str, Any], settings: Settings, where: str) -> Check:
    maker = _key(fields["key"], where) if kind == "key" else _keyless(fields["keyless"], settings, where)
    time = _time(kind, fields, settings, where)
    return lambda signature: maker(signature) and time(signature)


def _key(value: object, where: str) -> Check:
    fields = mapping(value, f"{where}: key", "data", "hashAlgorithm")
    algorithm = one_of(fields.get("hashAlgorithm", "sha256"), _HASHES, f"{where}: hashAlgorithm")
    key = first_key(text(fields.get("data"), f"{where}: key: data"), where)
    return lambda signature: made_with(signature, key, algorithm)


def _keyless(value: object, settings: Settings, where: str) -> Check:
    known = ("url", "identities", "trustRootRef", "insecureIgnoreSCT", "ca-cert")
    fields = mapping(value, f"{where}: keyless", *known)
    identities = [_identity(each, where) for each in array(fields.get("identities"), f"{where}: identities")]
    if not identities:
        raise ModelError(f"{where}: keyless without identities")
    flag(fields.get("insecureIgnoreSCT"), False, where)
    if "ca-cert" in fields:
        if "url" in fields:
            raise ModelError(f"{where}: ca-cert and url")
        return _never  # "no Keyless URL specified"
    reference = fields.get("trustRootRef")
    roots = frozenset([PUBLIC_ROOT]) if reference is None else settings.root(reference, where).roots
    return lambda signature: (
        signature.algorithm_hash == "sha256"
        and chains_to(signature, roots)
        and any(identity(signature) for identity in identities)
    )


def _identity(value: object, where: str) -> Check:
    fields = mapping(value, f"{where}: identities", "issuer", "issuerRegExp", "subject", "subjectRegExp")
    issuer = exactly_one(fields, ("issuer", "issuerRegExp"), where)
    subject = exactly_one(fields, ("subject", "subjectRegExp"), where)
    for name in (issuer, subject):
        text(fields[name], f"{where}: {name}")
        if name.endswith("RegExp"):
            go_search(fields[name], "", where)

    def accepts(signature: Signature) -> bool:
        if signature.subject is None:
            return False
        return _is(issuer, fields, signature.issuer or "", where) and _is(subject, fields, signature.subject, where)

    return accepts


def _is(name: str, fields: dict[str, Any], value: str, where: str) -> bool:
    return go_search(fields[name], value, where) if name.endswith("RegExp") else bool(value == fields[name])


def _time(kind: str, fields: dict[str, Any], settings: Settings, where: str) -> Check:
    """The matrix of logs and timestamps."""
    if fields.get("rfc3161timestamp") is not None:
        stamp = mapping(fields["rfc3161timestamp"], f"{where}: rfc3161timestamp", "trustRootRef")
        stamps = settings.root(stamp.get("trustRootRef"), where).timestamps
        return lambda signature: among(signature.timestamped_by, stamps)
    keys = _log_keys(kind, fields, settings, where)
    if keys is None:
        return lambda signature: True
    wanted = keys
    return lambda signature: logged(signature, wanted)


def _log_keys(kind: str, fields: dict[str, Any], settings: Settings, where: str) -> frozenset[str] | None:
    """The keys of which one must have logged the signature; None: the log is ignored."""
    reference = (fields.get("keyless") or {}).get("trustRootRef")
    if fields.get("ctlog") is None:
        return frozenset([PUBLIC_LOG]) if kind == "keyless" and reference is None else None
    ctlog = mapping(fields["ctlog"], f"{where}: ctlog", "url", "trustRootRef")
    if ctlog.get("trustRootRef") is not None:
        return settings.root(ctlog["trustRootRef"], where).logs
    # Which keys hold for a keyless authority with a TrustRoot and a bare URL is not known: any of them.
    return frozenset([PUBLIC_LOG]) | (settings.root(reference, where).logs if reference is not None else frozenset())
