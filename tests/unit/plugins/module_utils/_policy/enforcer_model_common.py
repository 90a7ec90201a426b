# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the models of the enforcers share: the images they judge, strict reading, PEM, regular expressions, globs."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import yaml

Files = dict[str, str]

# What ``Signature.root`` and ``Signature.log_key`` say of the public-good instance: its keys come over TUF and
# stand in no file, so no PEM of a test can be equal to them.
PUBLIC_ROOT = "public-good Fulcio"
PUBLIC_LOG = "public-good Rekor"

PUBLIC_KEY = "PUBLIC KEY"
CERTIFICATE = "CERTIFICATE"
_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)


class ModelError(Exception):
    """A configuration that the model does not know, or that the product would refuse."""


@dataclass(frozen=True)
class Signature:
    """One signature or attestation that lies beside an image."""

    format: Literal["sig", "bundle"]
    signer: str
    algorithm_hash: Literal["sha256", "sha384", "sha512"] = "sha256"
    repository: str = ""
    log_key: str | None = None
    timestamped_by: str | None = None
    root: str | None = None
    subject: str | None = None
    san_type: Literal["dns", "email", "uri"] = "email"
    issuer: str | None = None
    predicate_type: str | None = None


@dataclass(frozen=True)
class Image:
    """What the pod asks for, and everything that lies beside it in the registry."""

    repository: str
    tag: str | None
    digest: str
    signatures: tuple[Signature, ...]
    children: tuple[Image, ...] = ()
    namespace: str = "default"


# Strict reading


def mapping(value: object, where: str, *known: str) -> dict[str, Any]:
    """The mapping ``value``, which has no other fields than ``known``."""
    result = free_mapping(value, where)
    unknown = sorted(set(result) - set(known))
    if unknown:
        raise ModelError(f"{where}: unknown field {', '.join(unknown)}")
    return result


def free_mapping(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ModelError(f"{where}: not a mapping of names")
    return value


def array(value: object, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise ModelError(f"{where}: not a list")
    return value


def text(value: object, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise ModelError(f"{where}: not a text, or empty")
    return value


def texts(value: object, where: str) -> list[str]:
    return [text(each, where) for each in array(value, where)]


def flag(value: object, default: bool, where: str) -> bool:
    if value is None:
        return default
    if not isinstance(value, bool):
        raise ModelError(f"{where}: not true or false")
    return value


def one_of(value: object, allowed: Iterable[str], where: str) -> str:
    if value not in tuple(allowed):
        raise ModelError(f"{where}: unknown value {value!r}")
    return str(value)


def exactly_one(fields: Mapping[str, object], names: Iterable[str], where: str) -> str:
    """The one field of ``names`` that is there."""
    present = [name for name in names if fields.get(name) is not None]
    if len(present) != 1:
        raise ModelError(f"{where}: exactly one of {', '.join(names)} is needed, found {present}")
    return present[0]


def base64_text(value: object, where: str) -> str:
    try:
        return base64.b64decode("".join(text(value, where).split()), validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise ModelError(f"{where}: not the base64 of a text") from error


def release(version: str) -> tuple[int, ...]:
    """``1.18.2`` as (1, 18, 2); no version is the newest."""
    if not version:
        return (9999,)
    match = re.fullmatch(r"v?(\d+(?:\.\d+)*)(?:[-+].*)?", version)
    if match is None:
        raise ModelError(f"version {version!r} is none")
    return tuple(int(part) for part in match.group(1).split("."))


def json_document(content: str, where: str) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _value in pairs}) != len(pairs):
            raise ModelError(f"{where}: a field stands there twice")
        return dict(pairs)

    try:
        return json.loads(content, object_pairs_hook=once)
    except ValueError as error:
        raise ModelError(f"{where}: not JSON: {error}") from error


class _StrictLoader(yaml.SafeLoader):
    """PyYAML keeps the last of two equal keys, the products refuse them."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _value in node.value]
        if len(set(names)) != len(names):
            raise ModelError(f"a field stands there twice{node.start_mark}")
        return super().construct_mapping(node, deep)


@lru_cache(maxsize=64)  # a test asks about many images under the same files
def yaml_documents(content: str, where: str) -> list[Any]:
    try:
        loaded = list(yaml.load_all(content, Loader=_StrictLoader))
    except yaml.YAMLError as error:
        raise ModelError(f"{where}: not YAML: {error}") from error
    return [document for document in loaded if document is not None]


# Kubernetes resources


@dataclass(frozen=True)
class Resource:
    """One manifest; ``body`` is the document without apiVersion, kind and metadata."""

    api: str
    kind: str
    name: str
    namespace: str
    body: dict[str, Any]

    @property
    def where(self) -> str:
        return f"{self.kind} {self.namespace + '/' if self.namespace else ''}{self.name}"

    def spec(self, *known: str) -> dict[str, Any]:
        mapping(self.body, self.where, "spec")
        return mapping(self.body.get("spec"), f"{self.where}: spec", *known)


def resources(files: Files, known: Mapping[str, Iterable[str]]) -> list[Resource]:
    """Every manifest of the files; ``known`` are the apiVersions of each kind ("PREFIX/*" for any version)."""
    result: list[Resource] = []
    for path, content in sorted(files.items()):
        if path.endswith((".md", ".txt")):
            continue
        if not path.endswith((".yaml", ".yml", ".json")):
            raise ModelError(f"{path}: the model does not know what becomes of this file")
        result += [_resource(document, path, known) for document in yaml_documents(content, path)]
    keys = [(each.kind, each.namespace, each.name) for each in result]
    if len(set(keys)) != len(keys):
        raise ModelError("two manifests have the same kind and name")
    return result


def _resource(document: object, path: str, known: Mapping[str, Iterable[str]]) -> Resource:
    fields = dict(free_mapping(document, path))
    api, kind = text(fields.pop("apiVersion", None), path), text(fields.pop("kind", None), path)
    if kind not in known or api not in known[kind]:
        raise ModelError(f"{path}: unknown resource {api} {kind}")
    meta = mapping(fields.pop("metadata", None), f"{path}: metadata", "name", "namespace", "labels", "annotations")
    return Resource(api, kind, text(meta.get("name"), path), meta.get("namespace") or "", fields)


# PEM


def canonical(pem: str) -> str:
    """What two spellings of the same first PEM block have in common (a text without a block stays itself)."""
    match = _PEM.search(pem)
    if match is None:
        return pem.strip()
    return f"{match.group(1)}:{''.join(match.group(2).split())}"


def pem_blocks(pem: str, label: str, where: str) -> list[str]:
    """Every block of the text, canonical; each of them has this label and a body that is base64."""
    found = list(_PEM.finditer(pem))
    if not found:
        raise ModelError(f"{where}: no PEM block")
    for match in found:
        if match.group(1) != label:
            raise ModelError(f"{where}: a {match.group(1)} where a {label} belongs")
        try:
            base64.b64decode("".join(match.group(2).split()), validate=True)
        except binascii.Error as error:
            raise ModelError(f"{where}: the body of a PEM block is not base64") from error
    return [canonical(match.group(0)) for match in found]


def first_key(pem: str, where: str) -> str:
    """The key of a slot: every reader silently takes the first of two blocks."""
    return pem_blocks(pem, PUBLIC_KEY, where)[0]


def certificates(pem: str, where: str) -> frozenset[str]:
    return frozenset(pem_blocks(pem, CERTIFICATE, where))


def made_with(signature: Signature, key: str, algorithm: str) -> bool:
    return bool(signature.signer) and canonical(signature.signer) == key and signature.algorithm_hash == algorithm


def chains_to(signature: Signature, roots: Iterable[str]) -> bool:
    """Whether a certificate under one of the roots made it; an issuer without a root is the public instance."""
    if signature.root is not None:
        return canonical(signature.root) in roots
    return signature.issuer is not None and PUBLIC_ROOT in roots


def among(pem: str | None, wanted: Iterable[str]) -> bool:
    return pem is not None and canonical(pem) in wanted


def logged(signature: Signature, keys: Iterable[str]) -> bool:
    return among(signature.log_key, keys)


# Regular expressions and globs

_NOT_IN_GO = re.compile(r"\(\?(?:[=!#(>]|<[=!]|P=)|[*+?}]\+")
_NO_ESCAPE_IN_GO = re.compile(r"\\[1-9EQZ]")


def go_search(pattern: str, subject: str, where: str) -> bool:
    """Whether Go's unanchored MatchString finds the pattern."""
    plain = re.sub(r"\[[^]]*\]", "", re.sub(r"\\.", "", pattern))
    if _NOT_IN_GO.search(plain) or _NO_ESCAPE_IN_GO.search(pattern.replace("\\\\", "")):
        raise ModelError(f"{where}: {pattern!r} is no regular expression of Go")
    try:
        return re.search(_for_python(pattern), subject, re.ASCII) is not None
    except re.error as error:
        raise ModelError(f"{where}: {pattern!r}: {error}") from error


def _for_python(pattern: str) -> str:
    """Go's ``$`` and ``\\z`` are the end of the text, Python's ``$`` is also before a last line feed."""
    result: list[str] = []
    in_class = False
    for token in re.findall(r"\\.|.", pattern, re.DOTALL):
        if token == "[":
            in_class = True
        elif token == "]":
            in_class = False
        result.append(r"\Z" if token == r"\z" or (token == "$" and not in_class) else token)
    return "".join(result)


def glob_matches(pattern: str, name: str, *, crosses: bool) -> bool:
    """Whole-string match; ``*`` goes over ``/`` or not, ``**`` always does, everything else is literal."""
    parts = re.split(r"(\*+)", pattern)
    star = ".*" if crosses else "[^/]*"
    source = "".join((star if part == "*" else ".*") if part.startswith("*") else re.escape(part) for part in parts)
    return re.fullmatch(source, name, re.DOTALL) is not None


# Names of images


def normalized(repository: str) -> str:
    """The name as containers/image and the runtimes understand it."""
    host, slash, rest = repository.partition("/")
    if not slash or not (set(host) & set(".:") or host == "localhost"):
        host, rest = "docker.io", repository
    if host in ("docker.io", "index.docker.io"):
        return "docker.io/" + (rest if "/" in rest else f"library/{rest}")
    return f"{host}/{rest}"


def spellings(repository: str) -> list[str]:
    """What a pod may write for the repository."""
    canonical_name = normalized(repository)
    host, _slash, rest = canonical_name.partition("/")
    if host != "docker.io":
        return [canonical_name]
    short = rest.removeprefix("library/")
    return list(dict.fromkeys([canonical_name, rest, f"docker.io/{short}", short]))


def references(repository: str, image: Image) -> list[str]:
    """What follows the repository in the pod: the tag, the digest, or both."""
    by_digest = f"{repository}@{image.digest}"
    if image.tag is None:
        return [by_digest]
    untagged = [repository] if image.tag == "latest" else []
    return [*untagged, f"{repository}:{image.tag}", f"{repository}:{image.tag}@{image.digest}", by_digest]
