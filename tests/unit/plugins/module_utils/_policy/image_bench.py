# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images in a store that is in memory, signed in any way, and the same as the models of enforcers know them.

Signatures are made by hand: not one byte comes from the code under test.
"""

from __future__ import annotations

import hashlib
import json
import typing as t
from dataclasses import dataclass, field

from ansible_collections.hallmark.signing.plugins.module_utils._errors import RegistryError
from ansible_collections.hallmark.signing.plugins.module_utils._oci import manifest as manifests
from ansible_collections.hallmark.signing.plugins.module_utils._oci.manifest import Descriptor, Manifest
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._policy import enforcer_models as models
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._policy import policy_bench
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._signing import certificate_bench as certs
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._signing import signing_bench as signing

Json = dict[str, t.Any]
PROVENANCE = "https://slsa.dev/provenance/v1"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"


@dataclass(frozen=True)
class Made:
    """One signature or attestation: whose key made it, how, and what it says."""

    by: str
    format: t.Literal["sig", "bundle"] = "sig"
    name: str = ""
    digest: str = ""
    predicate_type: str | None = None


@dataclass
class Place:
    """What one repository holds, by tag and digest."""

    manifests: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)


class Memory:
    """A store of images, as far as reading signatures needs one."""

    def __init__(self) -> None:
        self.places: dict[str, Place] = {}
        self.asked: list[str] = []

    # --- as a store --------------------------------------------------------------------------------------------------

    def find_manifest(self, image: t.Any) -> Manifest | None:
        self.asked.append(str(image))
        found = self.places.get(image.name, Place()).manifests.get(image.target)
        return manifests.parse(found[0], content_type=found[1], where=str(image)) if found else None

    def manifest(self, image: t.Any) -> Manifest:
        found = self.find_manifest(image)
        if found is None:
            raise RegistryError(
                code="not_found", object=str(image), attempt="fetch it", cause="it is not there", advice="Look."
            )
        return found

    def blob(self, image: t.Any, descriptor: Descriptor, *, limit: int) -> bytes:
        self.asked.append(descriptor.digest)
        return self.places[image.name].blobs[descriptor.digest][:limit]

    def referrers(self, image: t.Any, digest: str) -> tuple[Descriptor, ...]:
        self.asked.append(f"referrers {digest}")
        found = (
            (name, raw, kind) for name, (raw, kind) in self.places[image.name].manifests.items()
            if json.loads(raw).get("subject", {}).get("digest") == digest
        )
        return tuple(Descriptor(kind, name, len(raw)) for name, raw, kind in found)

    # --- to fill it --------------------------------------------------------------------------------------------------

    def image(self, name: str, tag: str, *made: Made) -> models.Image:
        """Write an image and its signatures; return it as the models know it."""
        return self._signed(name, tag, self._put(name, {"schemaVersion": 2, "mediaType": _MANIFEST, **self._config(
            name, f"{name}:{tag}".encode()
        ), "layers": []}, _MANIFEST, tag), made)

    def index(self, name: str, tag: str, children: t.Sequence[t.Sequence[Made]], *made: Made) -> models.Image:
        """Write an index of images with signatures of their own."""
        below = [self.image(name, f"{tag}-{number}", *one) for number, one in enumerate(children)]
        entries = [
            {"mediaType": _MANIFEST, "digest": one.digest, "size": len(self.places[name].manifests[one.digest][0]),
             "platform": {"os": "linux", "architecture": f"arch{number}"}}
            for number, one in enumerate(below)
        ]
        digest = self._put(name, {"schemaVersion": 2, "mediaType": _INDEX, "manifests": entries}, _INDEX, tag)
        return self._signed(name, tag, digest, made, children=tuple(below))

    def _signed(
        self, name: str, tag: str, digest: str, made: t.Sequence[Made], *, children: tuple[models.Image, ...] = ()
    ) -> models.Image:
        for suffix, wanted in (("sig", False), ("att", True)):
            layers = [
                self._layer(name, digest, one) for one in made
                if one.format == "sig" and (one.predicate_type is not None) is wanted
            ]
            if layers:
                self._put(name, {
                    "schemaVersion": 2, "mediaType": _MANIFEST, **self._config(name), "layers": layers,
                }, _MANIFEST, f"{digest.replace(':', '-')}.{suffix}")
        for number, one in enumerate(one for one in made if one.format == "bundle"):
            self._refer(name, digest, one, number)
        # A signature of another image says nothing to anybody.
        seen = tuple(
            models.Signature(
                format=one.format, signer=policy_bench.public(one.by).pem, repository=one.name or name,
                predicate_type=one.predicate_type,
            )
            for one in made if not one.digest
        )
        return models.Image(name, tag, digest, seen, children)

    def _layer(self, name: str, digest: str, made: Made) -> Json:
        key = signing.Key(made.by, t.cast(t.Any, certs.key(made.by, "p256")))
        if made.predicate_type is None:
            content = signing.compact(signing.claim(made.digest or digest, made.name or name))
            signature = signing.b64(key.sign(content))
        else:
            said = signing.compact(signing.statement(made.digest or digest, predicateType=made.predicate_type))
            content, signature = signing.compact({
                "payload": signing.b64(said), "payloadType": signing.IN_TOTO,
                "signatures": [{"keyid": "", "sig": signing.b64(key.sign(signing.pae(said)))}],
            }), ""
        return {**self._descriptor(name, content, signing.SIG_TYPE), "annotations": {signing.SIG_ANNOTATION: signature}}

    def _refer(self, name: str, digest: str, made: Made, number: int) -> None:
        key = signing.Key(made.by, t.cast(t.Any, certs.key(made.by, "p256")))
        said = signing.statement(made.digest or digest)
        if made.predicate_type is not None:
            said = signing.statement(made.digest or digest, predicateType=made.predicate_type)
        data = signing.compact(signing.bundle(signing.compact(said), key))
        raw, kind = self.places[name].manifests[digest]
        self._put(name, {
            "schemaVersion": 2, "mediaType": _MANIFEST, **self._config(name),
            "layers": [self._descriptor(name, data, signing.BUNDLE_TYPE)], "annotations": {"number": str(number)},
            "subject": {"mediaType": kind, "digest": digest, "size": len(raw)},
        }, _MANIFEST)

    def _config(self, name: str, data: bytes = b"{}") -> Json:
        return {"config": self._descriptor(name, data, "application/vnd.oci.image.config.v1+json")}

    def _descriptor(self, name: str, data: bytes, media_type: str) -> Json:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.places.setdefault(name, Place()).blobs[digest] = data
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    def _put(self, name: str, document: Json, media_type: str, tag: str = "") -> str:
        raw = signing.compact(document)
        digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        place = self.places.setdefault(name, Place())
        for one in (digest, tag) if tag else (digest,):
            place.manifests[one] = (raw, media_type)
        return digest
