# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an OCI layout lists: tags as skopeo and oras write them, kinds as cosign does, referrers for oras.

Entries and annotations that we do not know stay as they are.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass, field, replace

from .. import _strict_json
from .._errors import FormatError, RegistryError
from . import layout_files
from . import manifest as manifests
from .layout_reference import LayoutReference
from .manifest import Descriptor

TAG = "org.opencontainers.image.ref.name"
KIND = "kind"
_COSIGN = "dev.cosignproject.cosign/"
_IMAGE_KINDS = (f"{_COSIGN}image", f"{_COSIGN}imageIndex")
# cosign's own tags for what belongs to a digest, and what it calls them in a layout.
_BELONGING = re.compile(r"(?P<algorithm>sha256|sha512)-(?P<hex>[0-9a-f]{64,128})\.(?P<suffix>sig|att|sbom)")
_KINDS = {"sig": f"{_COSIGN}sigs", "att": f"{_COSIGN}atts", "sbom": f"{_COSIGN}sboms"}
_ALL_KINDS = (*_IMAGE_KINDS, *_KINDS.values())
_MAX_ENTRIES = 100_000


@dataclass(frozen=True)
class LayoutIndex:
    """The entries of C(index.json), in their order; C(members) is what else stands there."""

    entries: tuple[Descriptor, ...]
    members: t.Mapping[str, t.Any] = field(default_factory=dict, repr=False, compare=False)

    def find(self, image: LayoutReference) -> Descriptor | None:
        """Return the entry that a tag names, or that of the only image where there is no tag; None if there is none.

        Raises FormatError (malformed): a tag that names two things; RegistryError (input_invalid): several images.
        """
        if image.tag is None:
            return self._only_image(image)
        found = {entry.digest: entry for entry in self.entries if entry.annotations.get(TAG) == image.tag}
        if len(found) > 1:
            raise FormatError(
                code="malformed", object=str(image), attempt="find the tag", cause="it names more than one manifest",
                advice="Name the digest.",
            )
        return next(iter(found.values()), None) or self._of_cosign(image.tag)

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags of images, sorted; those that hold signatures and the like are not among them."""
        return tuple(sorted({
            entry.annotations[TAG] for entry in self.entries
            if TAG in entry.annotations and not _BELONGING.fullmatch(entry.annotations[TAG])
        }))

    def _only_image(self, image: LayoutReference) -> Descriptor | None:
        found = {entry.digest: entry for entry in self._images}
        if len(found) > 1:
            raise RegistryError(
                code="input_invalid", object=str(image), attempt="find the image",
                cause=f"there are {len(found)} images in it: {', '.join(self.tags[:10]) or 'without tags'}",
                advice="Name one by its tag or digest.",
            )
        return next(iter(found.values()), None)

    @property
    def _images(self) -> list[Descriptor]:
        """The entries that are images: cosign says so; others have a tag that is not for signatures, or stand alone."""
        said = [entry for entry in self.entries if entry.annotations.get(KIND) in _IMAGE_KINDS]
        tagged = [
            entry for entry in self.entries
            if TAG in entry.annotations and not _BELONGING.fullmatch(entry.annotations[TAG])
        ]
        bare = [entry for entry in self.entries if TAG not in entry.annotations and KIND not in entry.annotations]
        return [*said, *tagged] or [entry for entry in bare if not entry.artifact_type]

    def _of_cosign(self, tag: str) -> Descriptor | None:
        """Return what cosign saved beside its one image, by the tag it would have in a registry."""
        belonging = _BELONGING.fullmatch(tag)
        if belonging is None:
            return None
        digest = f"{belonging['algorithm']}:{belonging['hex']}"
        if {entry.digest for entry in self.entries if entry.annotations.get(KIND) in _IMAGE_KINDS} != {digest}:
            return None
        kind = _KINDS[belonging["suffix"]]
        return next((
            entry for entry in self.entries if entry.annotations.get(KIND) == kind and TAG not in entry.annotations
        ), None)

    def tagged(self, tag: str | None, entry: Descriptor) -> LayoutIndex:
        """Return the index in which C(tag) means C(entry) and nothing else; None lists it without a tag."""
        if tag is None:
            return self.listed(entry).with_kinds()
        former = [other for other in self.entries if other.annotations.get(TAG) == tag]
        if len(former) == 1 and former[0].digest == entry.digest:
            return self
        replaced = self._of_cosign(tag)
        kept = [other for other in self.entries if other not in former and other is not replaced]
        named = replace(entry, annotations={**entry.annotations, TAG: tag}, source={})
        return replace(self, entries=(*kept, named)).with_kinds()

    def listed(self, entry: Descriptor) -> LayoutIndex:
        """Return the index with an entry for a referrer."""
        if any(other.digest == entry.digest for other in self.entries):
            return self
        return replace(self, entries=(*self.entries, entry))

    def without(self, digests: t.Collection[str]) -> LayoutIndex:
        """Return the index without entries of these digests."""
        return replace(self, entries=tuple(entry for entry in self.entries if entry.digest not in digests))

    def with_kinds(self) -> LayoutIndex:
        """Return the index with cosign's kinds. It knows one image in a layout: the first, and what belongs to it."""
        first = next(iter(self._images), None)
        if first is None:
            return self
        prefix = first.digest.replace(":", "-")
        wanted = {f"{prefix}.{suffix}": kind for suffix, kind in _KINDS.items()}

        def kind_of(entry: Descriptor) -> str | None:
            if entry.digest == first.digest and not _BELONGING.fullmatch(entry.annotations.get(TAG, "")):
                return _IMAGE_KINDS[1] if entry.is_index else _IMAGE_KINDS[0]
            return wanted.get(entry.annotations.get(TAG, ""))

        return replace(self, entries=tuple(_annotated(entry, kind_of(entry)) for entry in self.entries))


def _annotated(entry: Descriptor, kind: str | None) -> Descriptor:
    former = entry.annotations.get(KIND)
    if kind == former or (kind is None and (former not in _ALL_KINDS or TAG not in entry.annotations)):
        return entry
    # A tagged entry of another image must not keep a kind: cosign would take signatures of one for those of the other.
    annotations = {name: value for name, value in entry.annotations.items() if name != KIND}
    if kind is not None:
        annotations[KIND] = kind
    source = {**entry.source, "annotations": annotations} if entry.source else {}
    return replace(entry, annotations=annotations, source=source)


def read(files: layout_files.Readable, *, where: str) -> LayoutIndex:
    """Read C(oci-layout) and C(index.json). Raises RegistryError (not_found), FormatError (malformed)."""
    files.require_version()
    raw = files.index()
    if not raw:
        return LayoutIndex(())
    index = manifests.parse(raw, content_type=manifests.OCI_INDEX, where=f"{where} ({layout_files.INDEX})")
    if len(index.children) > _MAX_ENTRIES:
        raise RegistryError(
            code="limit_exceeded", object=where, attempt="read the layout",
            cause=f"it lists more than {_MAX_ENTRIES} manifests", advice="Spread it over several layouts.",
        )
    return LayoutIndex(index.children, _strict_json.loads(raw, what="index", where=where).members)


def encode(index: LayoutIndex) -> bytes:
    """Return the bytes of C(index.json)."""
    return _strict_json.dumps({
        "schemaVersion": 2, "mediaType": manifests.OCI_INDEX, **index.members,
        "manifests": [entry.as_json() for entry in index.entries],
    })
