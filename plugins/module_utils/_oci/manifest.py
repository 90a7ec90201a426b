# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Image manifests, indexes and descriptors (OCI image specification 1.1; Docker schema 2)."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from .. import _strict_json
from .digest import digest_of, require_digest

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
INDEXES = (OCI_INDEX, DOCKER_LIST)
ACCEPTED = (OCI_MANIFEST, DOCKER_MANIFEST, *INDEXES)
EMPTY_OBJECT = b"{}"

# BuildKit hangs its provenance into an index as manifests of this platform with this annotation.
_BUILDKIT_TYPE = "vnd.docker.reference.type"
_BUILDKIT_VALUE = "attestation-manifest"
_BUILDKIT_PLATFORM = {"architecture": "unknown", "os": "unknown"}
_MEMBERS = (
    "schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "subject", "annotations",
)
_MAX_SIZE = 1 << 62


@dataclass(frozen=True)
class Descriptor:
    """A pointer to content: media type, digest, size in bytes, and the optional members used here.

    C(source) holds all members of a descriptor that was read, so that writing it again loses none.
    """

    media_type: str
    digest: str
    size: int
    artifact_type: str = ""
    annotations: t.Mapping[str, str] = field(default_factory=dict)
    source: t.Mapping[str, t.Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def is_index(self) -> bool:
        """Whether this points to an image index or a Docker manifest list."""
        return self.media_type in INDEXES

    @property
    def is_manifest(self) -> bool:
        """Whether this points to a manifest or an index, and not to a blob."""
        return self.media_type in ACCEPTED

    @property
    def is_build_attestation(self) -> bool:
        """Whether this is one of BuildKit's attestations inside an index; a real platform is never one."""
        return (
            self.annotations.get(_BUILDKIT_TYPE) == _BUILDKIT_VALUE
            and self.source.get("platform") == _BUILDKIT_PLATFORM
        )

    def as_json(self) -> dict[str, t.Any]:
        """Return the JSON members: as they were read, else in the order cosign writes them."""
        if self.source:
            return dict(self.source)
        members: dict[str, t.Any] = {"mediaType": self.media_type, "size": self.size, "digest": self.digest}
        if self.annotations:
            members["annotations"] = dict(self.annotations)
        if self.artifact_type:
            members["artifactType"] = self.artifact_type
        return members


@dataclass(frozen=True)
class Manifest:
    """A manifest or index as received: its exact bytes, their digest, and the members used here."""

    raw: bytes = field(repr=False)
    digest: str
    media_type: str
    artifact_type: str
    config: Descriptor | None
    layers: tuple[Descriptor, ...]
    children: tuple[Descriptor, ...]
    annotations: t.Mapping[str, str]
    subject: Descriptor | None = None

    @property
    def is_index(self) -> bool:
        """Whether this is an image index or a Docker manifest list."""
        return self.media_type in INDEXES

    @property
    def images(self) -> tuple[Descriptor, ...]:
        """The children of an index that are images: BuildKit's attestation manifests are left out."""
        return tuple(child for child in self.children if not child.is_build_attestation)

    def descriptor(self) -> Descriptor:
        """Return the descriptor that points to this manifest."""
        return Descriptor(self.media_type, self.digest, len(self.raw))

    def as_referrer(self) -> Descriptor:
        """Return the entry for a list of referrers: with artifact type and annotations, as the specification wants."""
        artifact_type = self.artifact_type or (self.config.media_type if self.config else "")
        return Descriptor(self.media_type, self.digest, len(self.raw), artifact_type, dict(self.annotations))


def parse(raw: bytes, *, content_type: str, where: str) -> Manifest:
    """Parse a manifest or index; C(content_type) counts only where the document has no C(mediaType) of its own.

    Raises FormatError (malformed), also when both types are given and differ.
    """
    top = _strict_json.loads(raw, what="manifest", where=where).no_case_variants(*_MEMBERS)
    declared = top.string("mediaType", "")
    header = content_type.partition(";")[0].strip()
    media_type = declared or header
    if not media_type:
        media_type = OCI_INDEX if "manifests" in top.members else OCI_MANIFEST
    if media_type not in ACCEPTED:
        raise top.error(f"its media type {media_type[:100]!r} is not an OCI or Docker manifest")
    if declared and header in ACCEPTED and header != declared:
        raise top.error(f"it says {declared}, the registry says {header}")
    # CVE-2021-41190: one document must not be an image to one reader and an index to another.
    is_index = media_type in INDEXES
    if any(top.members.get(name) is not None for name in (("config", "layers") if is_index else ("manifests",))):
        raise top.error("it has members of an image and of an index")
    children = _list(top, "manifests")
    return Manifest(
        raw=raw,
        digest=digest_of(raw),
        media_type=media_type,
        artifact_type=top.string("artifactType", ""),
        config=descriptor(top.object("config")) if top.members.get("config") is not None else None,
        layers=tuple(descriptor(layer) for layer in _list(top, "layers")),
        children=tuple(descriptor(child) for child in children),
        annotations=top.strings("annotations"),
        subject=descriptor(top.object("subject")) if top.members.get("subject") is not None else None,
    )


def _list(top: _strict_json.JsonObject, name: str) -> list[_strict_json.JsonObject]:
    # Registries written in Go send null for an empty list.
    return [] if top.members.get(name) is None else top.objects(name)


def descriptor(source: _strict_json.JsonObject) -> Descriptor:
    """Read one descriptor; its C(data) member is ignored: content always comes by digest.

    Raises FormatError (malformed), also for negative or absurd sizes.
    """
    size = source.integer("size")
    if not 0 <= size < _MAX_SIZE:
        raise source.error(f"a size of {size}")
    return Descriptor(
        media_type=source.string("mediaType", ""),
        digest=require_digest(source.string("digest"), where=source.where),
        size=size,
        artifact_type=source.string("artifactType", ""),
        annotations=source.strings("annotations"),
        source=source.members,
    )


def encode_image(
    *,
    config: Descriptor,
    layers: t.Sequence[Descriptor],
    annotations: t.Mapping[str, str] | None = None,
    subject: Descriptor | None = None,
    artifact_type: str = "",
) -> bytes:
    """Return the bytes of an OCI image manifest, members in cosign's order."""
    members: dict[str, t.Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config.as_json(),
        "layers": [layer.as_json() for layer in layers],
    }
    if annotations:
        members["annotations"] = dict(annotations)
    if subject is not None:
        members["subject"] = subject.as_json()
    if artifact_type:
        members["artifactType"] = artifact_type
    return _strict_json.dumps(members)


def encode_index(children: t.Sequence[Descriptor]) -> bytes:
    """Return the bytes of an OCI index over C(children)."""
    return _strict_json.dumps(
        {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [child.as_json() for child in children]}
    )
