# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Listing what hangs on an image: signatures, attestations, SBOMs, other referrers. Nothing is verified here.

It tells as data what C(cosign tree), C(cosign download) and C(cosign triangulate) tell.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from .. import _base64, _strict_json
from .._errors import HallmarkError, Reason
from .._oci import reference as references
from .._oci.content import descendants
from .._oci.manifest import Descriptor
from .._oci.reference import Image
from . import bundle, payload, statement
from . import candidate as candidates
from .candidate import layers_of, signature_tag, within_budget
from .dsse import decode as decode_envelope
from .referred import is_bundle

if t.TYPE_CHECKING:
    from .._oci.store import Store

_CERTIFICATE = "dev.sigstore.cosign/certificate"
_CHAIN = "dev.sigstore.cosign/chain"


@dataclass
class Listing:
    """What was found on one image; C(reasons) says why it could not be listed, C(warnings) what cannot be read."""

    image: str
    reference: str | None = None
    digest: str | None = None
    signatures: list[dict[str, t.Any]] = field(default_factory=list)
    attestations: list[dict[str, t.Any]] = field(default_factory=list)
    artifacts: list[dict[str, t.Any]] = field(default_factory=list)
    tags: list[dict[str, t.Any]] = field(default_factory=list)
    reasons: list[Reason] = field(default_factory=list)
    warnings: list[Reason] = field(default_factory=list)

    def as_dict(self) -> dict[str, t.Any]:
        """Return the shape of the module contract."""
        return {
            "image": self.image, "reference": self.reference, "digest": self.digest, "signatures": self.signatures,
            "attestations": self.attestations, "artifacts": self.artifacts, "tags": self.tags,
            "reasons": [reason.as_dict() for reason in self.reasons],
            "warnings": [reason.as_dict() for reason in self.warnings],
        }


def list_image(store: Store[Image], image: str, *, recursive: bool, contents: bool) -> Listing:
    """List what hangs on one image, and on the children of an index if asked; with C(contents), what that says.

    Never raises for an image that fails: the listing carries the reason.
    """
    listing = Listing(image)
    try:
        asked = references.parse_image(image)
        manifest = store.manifest(asked)
        resolved = asked.at(manifest.digest)
        listing.reference, listing.digest = str(resolved), manifest.digest
        below = descendants(store, asked, manifest) if recursive else ()
        for subject in dict.fromkeys([manifest.digest, *(child.digest for child in below)]):
            _Lister(store, resolved, subject, listing, contents).all()
    except HallmarkError as exc:
        listing.reasons.append(exc.as_reason())
    return listing


class _Lister:
    """Lists one digest."""

    def __init__(self, store: Store[Image], image: Image, subject: str, listing: Listing, contents: bool) -> None:
        self._store = store
        self._image = image
        self._subject = subject
        self._listing = listing
        self._contents = contents

    def all(self) -> None:
        """List tags, and what they name, and referrers."""
        if candidates.has_signature_tag(self._subject):
            stem = signature_tag(self._subject).removesuffix(".sig")
            self._listing.tags.append({
                "subject": self._subject, "signature": f"{stem}.sig", "attestation": f"{stem}.att",
                "sbom": f"{stem}.sbom",
            })
            self._layers(f"{stem}.sig", self._signature)
            self._layers(f"{stem}.att", self._attestation)
            self._layers(f"{stem}.sbom", self._sbom)
        for entry in self._store.referrers(self._image, self._subject):
            self._guarded(entry.digest, lambda entry=entry: self._referrer(entry))  # type: ignore[misc]

    def _layers(self, tag: str, take: t.Callable[[Descriptor], None]) -> None:
        manifest = self._store.find_manifest(self._image.tagged(tag))
        for layer in within_budget(layers_of(manifest, self._image), self._image):
            self._guarded(layer.digest, lambda layer=layer: take(layer))  # type: ignore[misc]

    def _guarded(self, digest: str, take: t.Callable[[], None]) -> None:
        """Note what cannot be read: it spoils nothing but itself."""
        try:
            take()
        except HallmarkError as exc:
            exc.signature = digest
            self._listing.warnings.append(exc.as_reason())

    def _signature(self, layer: Descriptor) -> None:
        content = self._store.blob(self._image, layer, limit=payload.MAX_SIZE)
        claim = payload.decode(content, where=f"{self._image.name}@{layer.digest}")
        found = self._entry(
            "sig", layer.digest, layer.annotations.get(candidates.KEY_ID_ANNOTATION), claim.annotations
        )
        if self._contents:
            found["contents"] = {
                "payload": _base64.encode(content), "signature": candidates.signature_text(layer),
                "certificate": layer.annotations.get(_CERTIFICATE), "chain": layer.annotations.get(_CHAIN),
                "bundle": None,
            }
        self._listing.signatures.append(found)

    def _attestation(self, layer: Descriptor) -> None:
        where = f"{self._image.name}@{layer.digest}"
        content = self._store.blob(self._image, layer, limit=bundle.MAX_SIZE)
        envelope = decode_envelope(_strict_json.loads(content, what="envelope", where=where))
        self._attested("att", layer.digest, envelope.payload, content)

    def _attested(self, format: str, digest: str, said: bytes, content: bytes) -> None:
        top = _strict_json.loads(said, what="statement", where=f"{self._image.name}@{digest}")
        found: dict[str, t.Any] = {
            "format": format, "digest": digest, "subject": self._subject,
            "predicate_type": top.string("predicateType", ""),
        }
        if self._contents:
            found["contents"] = _base64.encode(content)
        self._listing.attestations.append(found)

    def _sbom(self, layer: Descriptor) -> None:
        self._artifact("sbom", layer.digest, layer.media_type, layer.size, layer.annotations)

    def _referrer(self, entry: Descriptor) -> None:
        manifest = self._store.manifest(self._image.at(entry.digest))
        if not is_bundle(manifest):
            described = manifest.as_referrer()
            self._artifact("referrer", entry.digest, described.artifact_type, len(manifest.raw), manifest.annotations)
            return
        data = self._store.blob(self._image, manifest.layers[0], limit=bundle.MAX_SIZE)
        found = bundle.decode(data, where=f"{self._image.name}@{entry.digest}")
        said = found.envelope.payload
        if not statement.is_image_signature(said):
            self._attested("bundle", entry.digest, said, data)
            return
        subjects = statement.decode(said, where=self._image.name)
        of_image = [subject for subject in subjects if subject.is_of(self._subject)]
        signature = self._entry(
            "bundle", entry.digest, found.hinted_key_id, of_image[0].annotations if of_image else {}
        )
        if self._contents:
            signature["contents"] = {
                "payload": _base64.encode(said), "signature": _base64.encode(found.envelope.signature),
                "certificate": None, "chain": None, "bundle": data.decode("utf-8"),
            }
        self._listing.signatures.append(signature)

    def _entry(
        self, format: str, digest: str, key_id: str | None, annotations: t.Mapping[str, str]
    ) -> dict[str, t.Any]:
        # Nothing was verified: who signed is as hinted, and by what algorithm is not known.
        return {
            "format": format, "digest": digest, "subject": self._subject, "key_id": key_id, "algorithm": None,
            "annotations": dict(annotations), "created": False,
        }

    def _artifact(
        self, kind: str, digest: str, artifact_type: str, size: int, annotations: t.Mapping[str, str]
    ) -> None:
        self._listing.artifacts.append({
            "kind": kind, "digest": digest, "subject": self._subject, "artifact_type": artifact_type, "size": size,
            "annotations": dict(annotations),
        })
