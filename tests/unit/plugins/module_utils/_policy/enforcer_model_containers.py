# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""containers/image: policy.json, registries.d and the policies of CRI-O for single namespaces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._policy.enforcer_model_common import (
    Files,
    Image,
    ModelError,
    Signature,
    array,
    base64_text,
    certificates,
    chains_to,
    exactly_one,
    first_key,
    flag,
    free_mapping,
    json_document,
    logged,
    made_with,
    mapping,
    normalized,
    release,
    text,
    texts,
    yaml_documents,
)

_TRANSPORTS = (
    "atomic", "containers-storage", "dir", "docker", "docker-archive", "docker-daemon", "oci", "oci-archive",
    "ostree", "sif", "tarball",
)
_REGISTRY = ("lookaside", "lookaside-staging", "sigstore", "sigstore-staging", "use-sigstore-attachments")


@dataclass(frozen=True)
class Identity:
    """Which repository the payload of a signature must name; cosign writes a repository without a tag."""

    kind: Literal["same", "exact", "never"]
    repository: str = ""

    def accepts(self, signed: str, asked: str) -> bool:
        if self.kind == "never" or not signed:
            return False
        return normalized(signed) == normalized(asked if self.kind == "same" else self.repository)


@dataclass(frozen=True)
class Trust:
    """One ``sigstoreSigned`` requirement."""

    kind: Literal["keys", "pki", "fulcio"]
    identity: Identity
    material: frozenset[str]
    hostname: str | None = None
    email: str | None = None
    issuer: str | None = None
    logs: frozenset[str] | None = None

    def accepts(self, signature: Signature, repository: str) -> bool:
        if signature.format != "sig" or signature.predicate_type is not None:
            return False
        if self.logs is not None and not logged(signature, self.logs):
            return False
        return self.identity.accepts(signature.repository, repository) and self._made_by(signature)

    def _made_by(self, signature: Signature) -> bool:
        if self.kind == "keys":
            return any(made_with(signature, key, "sha256") for key in self.material)
        if signature.algorithm_hash != "sha256" or not chains_to(signature, self.material):
            return False
        if self.kind == "fulcio" and signature.issuer != self.issuer:
            return False
        return self._has_subject(signature)

    def _has_subject(self, signature: Signature) -> bool:
        if self.email is not None and (signature.san_type, signature.subject) != ("email", self.email):
            return False
        if self.hostname is None:
            return True
        return signature.san_type == "dns" and _is_host(signature.subject or "", self.hostname)


def _is_host(pattern: str, host: str) -> bool:
    """x509 VerifyHostname: a leading ``*`` in the certificate stands for one label."""
    if "*" in host:
        return pattern.lower() == host.lower()
    ours, theirs = host.lower().removesuffix(".").split("."), pattern.lower().split(".")
    return len(ours) == len(theirs) and theirs[1:] == ours[1:] and theirs[0] in ("*", ours[0])


@dataclass(frozen=True)
class Requirement:
    """One member of a requirement list; all of the list must hold."""

    kind: Literal["accept", "reject", "signed"]
    trust: Trust | None = None

    def allows(self, signatures: tuple[Signature, ...], repository: str) -> bool:
        if self.trust is None:
            return self.kind == "accept"
        return any(self.trust.accepts(signature, repository) for signature in signatures)


Requirements = tuple[Requirement, ...]


def scopes_of(repository: str, suffix: str) -> list[str]:
    """The scopes that may hold for a reference, most specific first."""
    parts = repository.split("/")
    result = [repository + suffix, *("/".join(parts[:count]) for count in range(len(parts), 0, -1))]
    labels = parts[0].partition(":")[0].split(".")
    return result + ["*." + ".".join(labels[index:]) for index in range(1, len(labels))]


def suffixes(image: Image) -> list[str]:
    """By tag and by digest: a scope with a tag does not cover the same image by digest."""
    return [f"@{image.digest}"] if image.tag is None else [f":{image.tag}", f"@{image.digest}"]


def manifests(image: Image) -> list[Image]:
    """What is pulled: the platforms of an index, never the index itself."""
    return [leaf for child in image.children for leaf in manifests(child)] if image.children else [image]


def evaluate(
    image: Image, scoped: dict[str, Requirements], default: Requirements, attached: Callable[[str, str], bool]
) -> bool:
    repository = normalized(image.repository)
    return any(_allowed(image, repository, suffix, scoped, default, attached) for suffix in suffixes(image))


def _allowed(
    image: Image,
    repository: str,
    suffix: str,
    scoped: dict[str, Requirements],
    default: Requirements,
    attached: Callable[[str, str], bool],
) -> bool:
    names = [*scopes_of(repository, suffix), ""]
    requirements = next((scoped[name] for name in names if name in scoped), default)
    seen = attached(repository, suffix)
    return all(
        requirement.allows(manifest.signatures if seen else (), repository)
        for manifest in manifests(image)
        for requirement in requirements
    )


# policy.json


def admits(version: str, files: Files, image: Image) -> bool:
    _only_known(files)
    path = _policy_path(files, image.namespace)
    policy = mapping(json_document(files[path], path), path, "default", "transports")
    default = _requirements(policy.get("default"), files, version, f"{path}: default")
    transports = free_mapping(policy.get("transports", {}), f"{path}: transports")
    docker: dict[str, Requirements] = {}
    for name, scopes in transports.items():
        if name not in _TRANSPORTS:
            raise ModelError(f"{path}: unknown transport {name}")
        read = {
            scope: _requirements(value, files, version, f"{path}: {name} {scope}")
            for scope, value in free_mapping(scopes, f"{path}: {name}").items()
        }
        docker = read if name == "docker" else docker
    settings = _registries(files)
    return evaluate(image, docker, default, lambda repository, suffix: _attached(settings, repository, suffix))


def _only_known(files: Files) -> None:
    for path in files:
        inside = f"/{path}"
        if path.endswith((".pem", ".pub", ".crt", ".md", ".txt")) or "/registries.d/" in inside:
            continue
        if not inside.endswith("/policy.json") and not ("/policies/" in inside and path.endswith(".json")):
            raise ModelError(f"{path}: the model does not know what becomes of this file")


def _policy_path(files: Files, namespace: str) -> str:
    for ending in (f"/policies/{namespace}.json", "/policy.json"):
        found = [path for path in files if f"/{path}".endswith(ending)]
        if len(found) > 1:
            raise ModelError(f"more than one file is {ending}")
        if found:
            return found[0]
    raise ModelError("there is no policy.json")


def _requirements(value: object, files: Files, version: str, where: str) -> Requirements:
    entries = array(value, where)
    if not entries:
        raise ModelError(f"{where}: List of verification policy requirements must not be empty")
    return tuple(_requirement(free_mapping(entry, where), files, version, where) for entry in entries)


def _requirement(entry: dict[str, Any], files: Files, version: str, where: str) -> Requirement:
    kind = entry.get("type")
    if kind in ("insecureAcceptAnything", "reject"):
        mapping(entry, where, "type")
        return Requirement("accept" if kind == "insecureAcceptAnything" else "reject")
    if kind != "sigstoreSigned":
        raise ModelError(f"{where}: unknown requirement {kind!r}")
    return Requirement("signed", _trust(entry, files, version, where))


def _trust(entry: dict[str, Any], files: Files, version: str, where: str) -> Trust:
    _version_has(entry, version, where)
    keys, logs = ("keyPath", "keyPaths", "keyData", "keyDatas"), "rekorPublicKey"
    rekor = [logs + ending for ending in ("Path", "Paths", "Data", "Datas")]
    mapping(entry, where, "type", "fulcio", "pki", "signedIdentity", *keys, *rekor)
    source = exactly_one(entry, (*keys, "fulcio", "pki"), where)
    identity = _identity(entry.get("signedIdentity"), where)
    log_keys = _material(entry, logs, files, where)
    trusted = None if log_keys is None else frozenset(first_key(pem, where) for pem in log_keys)
    if source == "pki":
        if trusted is not None:
            raise ModelError(f"{where}: pki and a Rekor key")
        return _pki(entry["pki"], files, identity, where)
    if source == "fulcio":
        return _fulcio(entry["fulcio"], files, identity, trusted, where)
    pems = _material(entry, "key", files, where) or []
    return Trust("keys", identity, frozenset(first_key(pem, where) for pem in pems), logs=trusted)


def _version_has(entry: dict[str, Any], version: str, where: str) -> None:
    since = {"keyPaths": (5, 33), "keyDatas": (5, 33), "pki": (5, 34, 1), "fulcio": (5, 24)}
    since |= {"rekorPublicKeyPaths": (5, 33), "rekorPublicKeyDatas": (5, 33)}
    since |= {"rekorPublicKeyPath": (5, 24), "rekorPublicKeyData": (5, 24)}
    for name, first in since.items():
        if name in entry and release(version) < first:
            raise ModelError(f"{where}: Unknown key {name!r} in {version}")


def _pki(value: object, files: Files, identity: Identity, where: str) -> Trust:
    known = ("caRootsPath", "caRootsData", "caIntermediatesPath", "caIntermediatesData")
    fields = mapping(value, f"{where}: pki", *known, "subjectHostname", "subjectEmail")
    roots = _material(fields, "caRoots", files, where)
    hostname, email = fields.get("subjectHostname"), fields.get("subjectEmail")
    if roots is None or not (hostname or email):
        raise ModelError(f"{where}: pki needs roots and a subject")
    for pem in _material(fields, "caIntermediates", files, where) or []:
        certificates(pem, where)
    return Trust("pki", identity, certificates(roots[0], where), hostname, email)


def _fulcio(value: object, files: Files, identity: Identity, logs: frozenset[str] | None, where: str) -> Trust:
    fields = mapping(value, f"{where}: fulcio", "caPath", "caData", "oidcIssuer", "subjectEmail")
    roots = _material(fields, "ca", files, where)
    if roots is None or logs is None:
        raise ModelError(f"{where}: fulcio needs a CA and a Rekor key")
    email, issuer = text(fields.get("subjectEmail"), where), text(fields.get("oidcIssuer"), where)
    return Trust("fulcio", identity, certificates(roots[0], where), None, email, issuer, logs)


def _identity(value: object, where: str) -> Identity:
    if value is None:
        return Identity("never")  # matchRepoDigestOrExact wants a tag in the payload
    fields = mapping(value, f"{where}: signedIdentity", "type", "dockerRepository", "dockerReference")
    kind = fields.get("type")
    if kind in ("matchExact", "matchRepoDigestOrExact", "exactReference"):
        return Identity("never")
    if kind == "matchRepository":
        return Identity("same")
    if kind == "exactRepository":
        return Identity("exact", text(fields.get("dockerRepository"), where))
    raise ModelError(f"{where}: unknown signedIdentity {kind!r}")


def _material(fields: dict[str, Any], stem: str, files: Files, where: str) -> list[str] | None:
    """The PEM texts of ``stem`` + Path, Paths, Data or Datas, of which at most one is there."""
    names = [stem + ending for ending in ("Path", "Paths", "Data", "Datas") if stem + ending in fields]
    if not names:
        return None
    if len(names) > 1:
        raise ModelError(f"{where}: {' and '.join(names)} cannot be used simultaneously")
    value = fields[names[0]]
    entries = texts(value, where) if names[0].endswith("s") else [text(value, where)]
    if not entries:
        raise ModelError(f"{where}: {names[0]} is empty")
    if names[0].startswith(stem + "Path"):
        return [_file(path, files, where) for path in entries]
    return [base64_text(entry, where) for entry in entries]


def _file(path: str, files: Files, where: str) -> str:
    """The file that is installed at ``path``: the renderer's paths are relative to a root that it does not know."""
    found = [content for name, content in files.items() if f"/{path.lstrip('/')}".endswith(f"/{name}")]
    if len(found) != 1:
        raise ModelError(f"{where}: {path}: no such file, or more than one")
    return found[0]


# registries.d


def _registries(files: Files) -> dict[str, dict[str, Any]]:
    """The settings of every namespace; the name "" is ``default-docker``."""
    result: dict[str, dict[str, Any]] = {}
    for path, content in files.items():
        if "/registries.d/" not in f"/{path}" or not path.endswith(".yaml"):
            continue  # .yml is not read
        for document in yaml_documents(content, path)[:1]:
            fields = mapping(document, path, "default-docker", "docker")
            found = dict(free_mapping(fields.get("docker") or {}, path))
            if "default-docker" in fields:
                found[""] = fields["default-docker"]
            if set(found) & set(result):
                raise ModelError(f"{path}: a namespace that another file has too")
            result |= {name: mapping(value, f"{path}: {name}", *_REGISTRY) for name, value in found.items()}
    return result


def _attached(settings: dict[str, dict[str, Any]], repository: str, suffix: str) -> bool:
    """``use-sigstore-attachments`` of the most specific namespace that has it."""
    for name in [*scopes_of(repository, suffix), ""]:
        value = settings.get(name, {}).get("use-sigstore-attachments")
        if value is not None:
            return flag(value, False, f"registries.d: {name}")
    return False
