# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Copying an image with everything that belongs to it: children, C(.sig), C(.att), C(.sbom) and all referrers.

The order makes a copy that broke off harmless: contents, then manifests by digest, then what belongs to them, and
the tag last. What the destination has already stays, and signatures of both sides are joined.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field, replace

from .._errors import HallmarkError, Reason, RegistryError
from .._oci import reference as references
from .._oci import shared_tag
from .._oci.content import descendants
from .._oci.images import Images
from .._oci.layout_reference import LayoutReference
from .._oci.manifest import Descriptor, Manifest
from .._oci.reference import Image
from .._oci.shared_tag import Written
from .._oci.transfer import copy_blob
from . import attachment
from .candidate import has_signature_tag, signature_tag

_SUFFIXES = (".sig", ".att", ".sbom")
_MAX_DEPTH = 4
_MAX_NESTING = 32
_BUNDLE = "application/vnd.dev.sigstore.bundle"


@dataclass(frozen=True)
class Copy:
    """What happened to one copy; C(digest) is that of the image."""

    source: str
    destination: str
    digest: str | None = None
    changed: bool = False
    reasons: tuple[Reason, ...] = ()
    warnings: tuple[Reason, ...] = ()
    written: tuple[Written, ...] = field(default=(), repr=False)

    def as_dict(self) -> dict[str, t.Any]:
        """Return the shape of the module contract."""
        return {
            "source": self.source, "destination": self.destination, "digest": self.digest, "changed": self.changed,
            "failed": bool(self.reasons),
            "reasons": [reason.as_dict() for reason in self.reasons],
            "warnings": [reason.as_dict() for reason in self.warnings],
        }


def copy_image(source: Images, target: Images, names: tuple[str, str], *, dry_run: bool) -> Copy:
    """Copy an image from the first name to the second, with all that belongs to it, unless it is there already.

    Never raises for an image that fails: the result carries the reason. The source is never changed.
    """
    copy = Copy(*names)
    work: Copying | None = None
    try:
        image, destination = (references.parse_image(name) for name in names)
        manifest = source.manifest(image)
        copy = replace(copy, digest=manifest.digest)
        destination = _target_of(destination, manifest)
        if isinstance(destination, LayoutReference) and destination.is_archive:
            from .archiving import copy_to_archive

            changed = copy_to_archive(source, target, image, destination, manifest, dry_run=dry_run)
            return replace(copy, changed=changed)
        work = Copying(source, target, image, destination, dry_run)
        work.image(manifest)
    except HallmarkError as exc:
        copy = replace(copy, reasons=(exc.as_reason(),))
    return replace(copy, changed=work.changed, written=tuple(work.written)) if work else copy


def settle(target: Images, copy: Copy) -> Copy:
    """See after a while that what was joined with the signatures of others is still there: see C(shared_tag)."""
    try:
        shared_tag.settle(target, copy.written)
    except HallmarkError as exc:
        return replace(copy, reasons=(*copy.reasons, exc.as_reason()))
    return copy


def _target_of(destination: Image, manifest: Manifest) -> Image:
    if destination.digest and destination.digest != manifest.digest:
        raise RegistryError(
            code="digest_mismatch", object=str(destination), attempt="copy an image to it",
            cause=f"the source has digest {manifest.digest}", advice="Name the destination by tag, or by that digest.",
        )
    return destination


class Copying:
    """One image under way."""

    def __init__(self, source: Images, target: Images, image: Image, destination: Image, dry_run: bool) -> None:
        self._source = source
        self._target = target
        self._image = image
        self._destination = destination
        self._dry_run = dry_run
        self._seen: set[str] = set()
        # What the destination does not have can have nothing there that hangs on it; looking would cost requests.
        self._new: set[str] = set()
        self.changed = False
        self.written: list[Written] = []

    def image(self, manifest: Manifest) -> None:
        """Copy an image or index, what belongs to it and to its children, and give it its tag at the end."""
        whole = self._whole(manifest)
        self._manifest(manifest, whole)
        for one in whole.values():
            self._belongings(one, depth=0)
        if self._destination.tag or not self._destination.digest:
            self._tag(manifest)

    def _whole(self, manifest: Manifest) -> dict[str, Manifest]:
        """Return a manifest and all that are below it, by digest."""
        whole = {manifest.digest: manifest}
        for entry in descendants(self._source, self._image, manifest, attestations=True):
            whole[entry.digest] = self._source.manifest(self._image.at(entry.digest))
        return whole

    def _manifest(self, manifest: Manifest, whole: t.Mapping[str, Manifest], *, depth: int = 0) -> None:
        """Copy one manifest by its digest, after its children and its blobs."""
        if manifest.digest in self._seen:
            return
        self._seen.add(manifest.digest)
        if depth > _MAX_NESTING:
            raise self._too_deep("copy the index", _MAX_NESTING)
        for child in manifest.children:
            self._manifest(whole[child.digest], whole, depth=depth + 1)
        if self._target_has(self._destination.at(manifest.digest)):
            return
        self._new.add(manifest.digest)
        if not self._dry_run:
            self._blobs(manifest)
            self._target.put_manifest(
                self._destination.at(manifest.digest), manifest.raw, media_type=manifest.media_type
            )
        self.changed = True

    def _target_has(self, image: Image) -> bool:
        try:
            return self._target.has_manifest(image)
        except RegistryError as exc:
            # A layout that is not there yet has nothing.
            if exc.code == "not_found":
                return False
            raise

    def _blobs(self, manifest: Manifest) -> None:
        blobs = [*manifest.layers, *([manifest.config] if manifest.config else [])]
        for blob in {blob.digest: blob for blob in blobs}.values():
            copy_blob(self._source, self._image, self._target, self._destination, blob)

    def _belongings(self, manifest: Manifest, *, depth: int) -> None:
        """Copy what hangs on a manifest: signatures and the like by tag, and referrers, on which more may hang."""
        if depth > _MAX_DEPTH:
            raise self._too_deep("copy its referrers", _MAX_DEPTH)
        digest = manifest.digest
        if has_signature_tag(digest):
            for suffix in _SUFFIXES:
                self._joined(signature_tag(digest).removesuffix(".sig") + suffix, digest)
        listed = self._source.referrers(self._image, digest)
        present = {entry.digest for entry in self._present_referrers(digest)} if listed else set()
        for entry in {entry.digest: entry for entry in listed}.values():
            referrer = self._source.manifest(self._image.at(entry.digest))
            if referrer.subject is not None and referrer.subject.digest == digest:
                if entry.digest not in present:
                    self._attach(manifest, referrer)
                # Nobody signs a signature.
                if not referrer.artifact_type.startswith(_BUNDLE):
                    self._belongings(referrer, depth=depth + 1)

    def _present_referrers(self, digest: str) -> tuple[Descriptor, ...]:
        if digest in self._new:
            return ()
        try:
            return self._target.referrers(self._destination, digest)
        except RegistryError as exc:
            if exc.code == "not_found":
                return ()
            raise

    def _attach(self, manifest: Manifest, referrer: Manifest) -> None:
        if self._dry_run:
            self.changed = True
            return
        whole = self._whole(referrer)
        for child in referrer.children:
            self._manifest(whole[child.digest], whole)
        self._blobs(referrer)
        _entry, written = self._target.attach(self._destination, manifest.descriptor(), referrer.raw)
        self.changed = True
        if written is not None:
            self.written.append(written)

    def _joined(self, tag: str, digest: str) -> None:
        """Copy what a tag of cosign's names, joined with what the destination has under it."""
        found = self._source.find_manifest(self._image.tagged(tag))
        if found is None or not found.layers:
            # One without layers is what is left of a tag where a registry cannot delete.
            return
        destination = self._destination.tagged(tag)
        present = None if digest in self._new else self._present(destination)
        if present is not None and set(map(attachment.layer_identity, found.layers)) <= set(
            map(attachment.layer_identity, present.layers)
        ):
            return
        if self._dry_run:
            self.changed = True
            return
        self._blobs(found)
        written = attachment.merge_layers(self._target, destination, digest, found.layers, model=found)
        self.changed = True
        if written is not None:
            self.written.append(written)

    def _too_deep(self, attempt: str, depth: int) -> RegistryError:
        return RegistryError(
            code="limit_exceeded", object=str(self._image), attempt=attempt,
            cause=f"they go more than {depth} deep", advice="Look at who wrote them.",
        )

    def _present(self, image: Image) -> Manifest | None:
        try:
            return self._target.find_manifest(image)
        except RegistryError as exc:
            if exc.code == "not_found":
                return None
            raise

    def _tag(self, manifest: Manifest) -> None:
        tagged = bool(self._destination.target)
        present = None if tagged and manifest.digest in self._new else self._present(self._destination)
        if present is not None and present.digest == manifest.digest:
            return
        if present is not None and not tagged:
            raise RegistryError(
                code="input_invalid", object=str(self._destination), attempt="copy an image to it",
                cause="there is another image in it", advice="Give the copy a tag, or name an empty folder.",
            )
        if self._dry_run:
            self.changed = True
            return
        self._target.put_manifest(self._destination, manifest.raw, media_type=manifest.media_type)
        self.changed = True
        present = self._present(self._destination)
        if present is None or present.digest != manifest.digest:
            raise RegistryError(
                code="write_lost", object=str(self._destination), attempt="give the copy its tag",
                cause="it does not name the copy afterwards",
                advice="Find out who moves it, or look at the registry's log.",
            )
