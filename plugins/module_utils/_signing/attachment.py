# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Attaching signatures to the C(.sig) tag, one layer each.

Source: cosign's C(specs/SIGNATURE_SPEC.md). Every change is read
back; what others attached is kept: see C(shared_tag).
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from .. import _base64, _strict_json
from .._errors import RegistryError
from .._oci import manifest as manifests
from .._oci import shared_tag
from .._oci.digest import digest_of
from .._oci.manifest import Descriptor, Manifest
from .._oci.reference import Image
from .._oci.shared_tag import Written
from . import payload
from .candidate import (
    KEY_ID_ANNOTATION,
    MATERIAL_ANNOTATIONS,
    MAX_LAYERS,
    SIGNATURE_ANNOTATION,
    Candidate,
    has_signature_tag,
    signature_tag,
    signature_text,
    too_many_layers,
)

if t.TYPE_CHECKING:
    from .._oci.store import Store

_ZERO_TIME = "0001-01-01T00:00:00Z"


@dataclass(frozen=True)
class Layer:
    """One layer of the C(.sig) manifest to be: the payload and its signature in base64."""

    descriptor: Descriptor
    payload: bytes = field(repr=False)


def sig_layer(
    content: bytes, signature: bytes, key_id: str, material: t.Mapping[str, str] | None = None
) -> Layer:
    """Return the layer for a payload, its signature and the annotations of what goes with it."""
    annotations = {SIGNATURE_ANNOTATION: _base64.encode(signature), KEY_ID_ANNOTATION: key_id, **(material or {})}
    return Layer(Descriptor(payload.MEDIA_TYPE, digest_of(content), len(content), "", annotations), content)


def add_sig(
    store: Store[Image], image: Image, digest: str, layers: t.Sequence[Layer], *,
    present: t.Sequence[str] | None = None,
) -> Written | None:
    """Add layers to the C(.sig) manifest of C(digest), keeping all that are there.

    C(present) are the digests of those that were there a moment ago, which saves requests and decides nothing.
    Returns what C(shared_tag.settle()) wants. Raises RegistryError (write_lost when others kept overwriting the tag).
    """
    if not has_signature_tag(digest):
        raise RegistryError(
            code="input_invalid", object=f"{image.name}@{digest}", attempt="sign it in format sig",
            cause="the tag for a digest of this length would be longer than a tag may be",
            advice="Sign it with formats: [bundle].",
        )
    for content in {layer.payload: None for layer in layers}:
        store.put_blob(image, content, is_new=present is not None and not present)
    tag = image.tagged(signature_tag(digest))
    return merge_layers(store, tag, digest, [layer.descriptor for layer in layers], present=present)


def merge_layers(
    store: Store[Image], tag: Image, digest: str, layers: t.Sequence[Descriptor], *, model: Manifest | None = None,
    present: t.Sequence[str] | None = None,
) -> Written | None:
    """Add layers, whose blobs are there, to the manifest of a tag such as C(.sig), keeping all that it has.

    Where the tag is not there and C(model) has just these layers, its very bytes are stored. Raises RegistryError.
    """

    def wanted(present: tuple[Descriptor, ...]) -> list[Descriptor]:
        have = {layer_identity(entry) for entry in present}
        return [*present, *(layer for layer in layers if layer_identity(layer) not in have)]

    likely = () if present is None else (_config_of([*present, *(layer.digest for layer in layers)]),)
    return _change_layers(store, tag, digest, wanted, model=model, likely=likely, is_new=not present)


def remove_sig(
    store: Store[Image], image: Image, digest: str, is_gone: t.Callable[[Descriptor], bool]
) -> Written | None:
    """Remove the layers for which C(is_gone) holds from the C(.sig) manifest, keeping all others.

    Raises RegistryError (write_lost when other writers kept putting them back).
    """
    return _change_layers(
        store, image.tagged(signature_tag(digest)), digest,
        lambda present: [entry for entry in present if not is_gone(entry)],
    )


def layer_identity(layer: Descriptor) -> tuple[str, ...]:
    """Return what tells two layers of a C(.sig) manifest apart: payload, signature, and what goes with it."""
    # Two signatures over one payload share the layer digest; RSA and Ed25519 sign the same each time.
    return (layer.digest, signature_text(layer), *(layer.annotations.get(name, "") for name in MATERIAL_ANNOTATIONS))


def is_layer_of(layer: Descriptor, candidate: Candidate) -> bool:
    """Say whether C(candidate) was read from C(layer), or is the same signature with other things beside it."""
    return (layer.digest, signature_text(layer)) == (candidate.digest, _base64.encode(candidate.signature))


def _change_layers(
    store: Store[Image], tag: Image, digest: str, change: t.Callable[[tuple[Descriptor, ...]], list[Descriptor]],
    *, model: Manifest | None = None, likely: tuple[bytes, ...] = (), is_new: bool = False,
) -> Written | None:

    def plan(found: Manifest | None) -> shared_tag.Edit | None:
        present = found.layers if found else ()
        wanted = change(present)
        if wanted == list(present):
            return None
        if len(wanted) > max(MAX_LAYERS, len(present)):
            raise too_many_layers(tag, len(wanted))
        if found is None and model is not None:
            return shared_tag.Edit(model.raw, model.media_type)
        edit = _manifest_of(wanted, found)
        return edit if wanted else shared_tag.Edit(None, emptied=edit)

    return shared_tag.change(store, tag, digest, plan, likely=likely, is_new=is_new)


def _manifest_of(layers: list[Descriptor], former: Manifest | None) -> shared_tag.Edit:
    config = _config_of([layer.digest for layer in layers])
    raw = manifests.encode_image(
        config=Descriptor(manifests.OCI_CONFIG, digest_of(config), len(config)),
        layers=layers,
        annotations=former.annotations if former else None,
    )
    return shared_tag.Edit(raw, blobs=(config,))


def _config_of(layers: t.Sequence[str]) -> bytes:
    """Return the config for layers of these digests."""
    return _strict_json.dumps({
        "architecture": "",
        "created": _ZERO_TIME,
        "history": [{"created": _ZERO_TIME} for _layer in layers],
        "os": "",
        "rootfs": {"type": "layers", "diff_ids": list(layers)},
        "config": {},
    })
