# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is wrong with C(policy.json) and C(registries.d) of containers/image; see C(containers)."""

from __future__ import annotations

import re
import typing as t

from .lint_texts import Finding

_ACCEPT = "insecureAcceptAnything"
_SIGNED = "sigstoreSigned"
_DEMANDING = (_SIGNED, "signedBy")
# What each requirement may have (containers-policy.json(5)); with anything else, no image at all can be pulled.
_MEMBERS: dict[str, set[str]] = {
    _ACCEPT: {"type"}, "reject": {"type"},
    "signedBy": {"type", "keyType", "keyPath", "keyPaths", "keyData", "signedIdentity"},
    _SIGNED: {
        "type", "keyPath", "keyPaths", "keyData", "keyDatas", "fulcio", "pki", "signedIdentity", "rekorPublicKeyPath",
        "rekorPublicKeyPaths", "rekorPublicKeyData", "rekorPublicKeyDatas",
    },
}
# A namespace on component boundaries, or a domain; with a tag or digest, one image.
_SCOPE = re.compile(r"(?:\*\.[^*/:@]+|[^*/@]+(?:/[^*/@:]+)*(?::[^*/@]+)?(?:@[^*/@]+)?)")


def policy(document: t.Any) -> t.Iterator[Finding]:
    """Yield what is wrong with a C(policy.json)."""
    if _has(document["default"], _ACCEPT):
        yield Finding(
            "catch_all_missing", "default", "images that no scope is about are admitted unsigned; write reject"
        )
    yield from _loadable("default", document["default"])
    transports = document.get("transports")
    scopes = transports.get("docker") if isinstance(transports, dict) else None
    for scope, requirements in (scopes or {}).items() if isinstance(scopes, dict) else ():
        yield from _of_scope(str(scope), requirements if isinstance(requirements, list) else [], scopes)


def registries(document: t.Any) -> t.Iterator[Finding]:
    """Yield what is wrong with a file of C(registries.d)."""
    docker = document.get("docker")
    for scope, members in docker.items() if isinstance(docker, dict) else ():
        place = f"docker.{scope}"
        if not _SCOPE.fullmatch(str(scope)):
            yield _nothing(place, str(scope))
        if isinstance(members, dict) and not members.get("use-sigstore-attachments"):
            yield Finding("signatures_not_read", place, "without use-sigstore-attachments, no signature is found there")


def _of_scope(scope: str, requirements: list[t.Any], scopes: t.Any) -> t.Iterator[Finding]:
    place = f"transports.docker.{scope}"
    if scope and not _SCOPE.fullmatch(scope):
        yield _nothing(place, scope)
    yield from _loadable(place, requirements)
    signed = [one for one in requirements if _type(one) == _SIGNED]
    if len(signed) > 1:
        yield Finding(
            "all_required", place,
            f"all of its {len(signed)} requirements must be satisfied; write any of several keys as keyDatas of one",
        )
    for number, one in enumerate(signed):
        yield from _of_requirement(f"{place}[{number}]", one)
    above = [one for one in scopes if scope.startswith(f"{one}/") and _has(scopes[one], *_DEMANDING)]
    if above and _has(requirements, _ACCEPT):
        yield Finding("accepts_below", place, f"it admits everything, though {above[0]} demands signatures")


def _of_requirement(place: str, requirement: dict[str, t.Any]) -> t.Iterator[Finding]:
    identity = requirement.get("signedIdentity")
    if not isinstance(identity, dict) or identity.get("type") in ("matchRepoDigestOrExact", "matchExact"):
        yield Finding(
            "identity_default", place, "signatures of cosign name no tag, so that this matches none; write "
            "matchRepository or exactRepository",
        )
    pki = requirement.get("pki")
    if isinstance(pki, dict) and not {"subjectHostname", "subjectEmail"} & set(pki):
        yield Finding("chain_without_san", f"{place}.pki", "everybody whom the CA knows may sign; name the signer")


def _loadable(place: str, requirements: t.Any) -> t.Iterator[Finding]:
    """Yield what keeps the whole file from being loaded."""
    if not isinstance(requirements, list) or not requirements:
        yield Finding("not_loadable", place, "it is no list of requirements, or an empty one")
        return
    for number, one in enumerate(requirements):
        kind = _type(one)
        unknown = sorted(set(map(str, one)) - _MEMBERS.get(kind, set())) if isinstance(one, dict) else []
        if kind not in _MEMBERS:
            yield Finding("not_loadable", f"{place}[{number}]", f"there is no type {kind[:60]!r}")
        elif unknown:
            yield Finding("not_loadable", f"{place}[{number}]", f"{kind} has no member {unknown[0][:60]!r}")


def _has(requirements: t.Any, *kinds: str) -> bool:
    return isinstance(requirements, list) and any(_type(one) in kinds for one in requirements)


def _type(requirement: t.Any) -> str:
    return str(requirement.get("type")) if isinstance(requirement, dict) else ""


def _nothing(place: str, scope: str) -> Finding:
    return Finding(
        "scope_matches_nothing", place,
        f"{scope[:80]!r} is no scope: write HOST[:PORT][/PATH] without a slash at its end, or *.DOMAIN",
    )
