# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Attaching signatures: to the C(.sig) tag, one layer each, and as bundles that refer to the image.

Source: cosign's C(specs/SIGNATURE_SPEC.md) for the tag, OCI 1.1 referrers for bundles. Every change is read
back; what others attached is kept.
"""

from __future__ import annotations

import random
import time
import typing as t
from dataclasses import dataclass, field, replace

from .. import _base64, _strict_json
from .._errors import RegistryError
from .._oci import lock, referrers
from .._oci import manifest as manifests
from .._oci.digest import digest_of
from .._oci.manifest import Descriptor, Manifest
from .._oci.reference import Reference
from .._oci.registry import Registries
from . import bundle, payload
from .candidate import (
    KEY_ID_ANNOTATION,
    MAX_LAYERS,
    SIGNATURE_ANNOTATION,
    Candidate,
    has_signature_tag,
    signature_tag,
    signature_text,
    too_many_layers,
)

_ZERO_TIME = "0001-01-01T00:00:00Z"
_WRITE_ATTEMPTS = 8


@dataclass(frozen=True)
class Layer:
    """One layer of the C(.sig) manifest to be: the payload and its signature in base64."""

    descriptor: Descriptor
    payload: bytes = field(repr=False)


def sig_layer(content: bytes, signature: bytes, key_id: str) -> Layer:
    """Return the layer for a payload and its signature."""
    annotations = {SIGNATURE_ANNOTATION: _base64.encode(signature), KEY_ID_ANNOTATION: key_id}
    return Layer(Descriptor(payload.MEDIA_TYPE, digest_of(content), len(content), "", annotations), content)


def add_sig(registries: Registries, image: Reference, digest: str, layers: t.Sequence[Layer]) -> None:
    """Add layers to the C(.sig) manifest of C(digest), keeping all that are there, and read them back.

    Raises RegistryError (write_lost when other writers kept overwriting the tag).
    """
    if not has_signature_tag(digest):
        raise RegistryError(
            code="input_invalid", object=f"{image.name}@{digest}", attempt="sign it in format sig",
            cause="the tag for a digest of this length would be longer than a tag may be",
            advice="Sign it with formats: [bundle].",
        )
    for layer in layers:
        registries.put_blob(image, layer.payload)

    def missing(present: tuple[Descriptor, ...]) -> list[Descriptor]:
        have = {_identity(entry) for entry in present}
        return [layer.descriptor for layer in layers if _identity(layer.descriptor) not in have]

    _change_sig(registries, image, digest, lambda present: [*present, *missing(present)])


def remove_sig(
    registries: Registries, image: Reference, digest: str, is_gone: t.Callable[[Descriptor], bool]
) -> None:
    """Remove the layers for which C(is_gone) holds from the C(.sig) manifest, keeping all others.

    Raises RegistryError (write_lost when other writers kept putting them back).
    """
    _change_sig(registries, image, digest, lambda present: [entry for entry in present if not is_gone(entry)])


def _identity(layer: Descriptor) -> tuple[str, str]:
    # Two signatures over one payload share the layer digest.
    return layer.digest, signature_text(layer)


def is_layer_of(layer: Descriptor, candidate: Candidate) -> bool:
    """Say whether C(candidate) was read from C(layer)."""
    return _identity(layer) == (candidate.digest, _base64.encode(candidate.signature))


def _change_sig(
    registries: Registries,
    image: Reference,
    digest: str,
    change: t.Callable[[tuple[Descriptor, ...]], list[Descriptor]],
) -> None:
    """Apply C(change) to the layers until a reading shows that nothing is left to change."""
    tag = image.tagged(signature_tag(digest))
    with lock.writer(f"{image.name}@{digest}"):
        for attempt in range(_WRITE_ATTEMPTS + 1):
            manifest = registries.find_manifest(tag)
            present = manifest.layers if manifest else ()
            wanted = change(present)
            if wanted == list(present):
                return
            if attempt == _WRITE_ATTEMPTS:
                break
            if len(wanted) > max(MAX_LAYERS, len(present)):
                raise too_many_layers(image, len(wanted))
            if wanted or manifest is None or not registries.delete_manifest(image.at(manifest.digest)):
                _put_sig(registries, tag, manifest, wanted)
            if attempt:
                time.sleep(random.uniform(0.0, 0.05 * 2**attempt))
    raise referrers.write_lost(str(tag))


def _put_sig(registries: Registries, tag: Reference, former: Manifest | None, layers: list[Descriptor]) -> None:
    config = _strict_json.dumps({
        "architecture": "",
        "created": _ZERO_TIME,
        "history": [{"created": _ZERO_TIME} for _layer in layers],
        "os": "",
        "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
        "config": {},
    })
    registries.put_blob(tag, config)
    raw = manifests.encode_image(
        config=Descriptor(manifests.OCI_CONFIG, digest_of(config), len(config)),
        layers=layers,
        annotations=former.annotations if former else None,
    )
    registries.put_manifest(tag, raw)


def add_bundle(registries: Registries, image: Reference, subject: Descriptor, data: bytes, *, created: str) -> str:
    """Attach the bundle C(data) to C(subject) and return the digest of the referrer. Raises RegistryError."""
    registries.put_blob(image, manifests.EMPTY_OBJECT)
    raw = bundle_manifest(subject, data, created=created)
    registries.put_blob(image, data)
    return referrers.attach(registries, image, subject, raw).digest


def bundle_manifest(subject: Descriptor, data: bytes, *, created: str) -> bytes:
    """Return the referrer manifest for a bundle, as cosign 3 writes it, its config's artifactType included."""
    return manifests.encode_image(
        config=replace(referrers.empty_config(), artifact_type=bundle.MEDIA_TYPE),
        layers=[Descriptor(bundle.MEDIA_TYPE, digest_of(data), len(data))],
        annotations=bundle.manifest_annotations(created),
        subject=Descriptor(subject.media_type, subject.digest, subject.size),
        artifact_type=bundle.MEDIA_TYPE,
    )
