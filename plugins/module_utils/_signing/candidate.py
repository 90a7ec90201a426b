# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Finding signatures: the C(.sig) tag with one layer per signature, and bundles that refer to the image.

Source: cosign's C(specs/SIGNATURE_SPEC.md) for the tag, OCI 1.1 referrers for bundles. Reading yields
candidates, which prove nothing yet.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from .. import _base64, _strict_json
from .._errors import FormatError, HallmarkError, RegistryError
from .._oci.digest import digest_of
from .._oci.manifest import Descriptor, Manifest
from .._oci.reference import Image
from . import payload
from .signature import Format

if t.TYPE_CHECKING:
    from .._oci.store import Store

SIGNATURE_ANNOTATION = "dev.cosignproject.cosign/signature"
CERTIFICATE_ANNOTATION = "dev.sigstore.cosign/certificate"
CHAIN_ANNOTATION = "dev.sigstore.cosign/chain"
LOG_ANNOTATION = "dev.sigstore.cosign/bundle"
TIMESTAMP_ANNOTATION = "dev.sigstore.cosign/rfc3161timestamp"
MATERIAL_ANNOTATIONS = (CERTIFICATE_ANNOTATION, CHAIN_ANNOTATION, LOG_ANNOTATION, TIMESTAMP_ANNOTATION)
# The old format names no key. This hint lets a signature be removed by key id; it proves nothing.
KEY_ID_ANNOTATION = "org.hallmark-signing.key-id"
MAX_LAYERS = 1000
MAX_TOTAL = 64 * 1024 * 1024
MAX_TAG = 128


@dataclass(frozen=True)
class Candidate:
    """One signature found: its format, its digest (payload layer, or referrer manifest) and the signed bytes.

    C(content) is the payload or the statement inside the envelope. C(hinted_key_id) proves nothing, nor does what came
    with the signature, unread: the C(annotations) of a layer, or the C(material) of a bundle.
    """

    format: Format
    digest: str
    signed_bytes: bytes = field(repr=False)
    content: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    hinted_key_id: str | None
    has_certificate: bool = False
    annotations: t.Mapping[str, str] = field(default_factory=dict, repr=False)
    material: _strict_json.JsonObject | None = field(default=None, repr=False)


Found = t.Union[Candidate, HallmarkError]


def has_signature_tag(digest: str) -> bool:
    """Say whether the C(.sig) tag of C(digest) is a legal tag: that of a SHA-512 digest is too long."""
    return len(signature_tag(digest)) <= MAX_TAG


def signature_tag(digest: str) -> str:
    """Return the tag that holds the signatures of C(digest): C(sha256-HEX.sig)."""
    return f"{digest.replace(':', '-')}.sig"


def find(
    store: Store[Image], image: Image, digest: str, format: Format, *, fetches_all: bool = False
) -> t.Iterator[Found]:
    """Yield the signatures of C(digest) in one format, one at a time, so that a reader can stop early.

    Content that is known by its digest is not fetched, unless C(fetches_all), which finds what others could not read.

    A candidate that cannot be read is yielded as its error, which names it: it spoils nothing but itself.
    Raises RegistryError and FormatError where the list of candidates cannot be had.
    """
    if format == "sig":
        return _find_sig(store, image, digest, fetches_all)
    # Code for bundles is loaded when one is looked for: Ansible compiles what is imported for every task.
    from .referred import find_bundles

    return find_bundles(store, image, digest, fetches_all=fetches_all)


def _find_sig(store: Store[Image], image: Image, digest: str, fetches_all: bool) -> t.Iterator[Found]:
    if not has_signature_tag(digest):
        return
    manifest = store.find_manifest(image.tagged(signature_tag(digest)))
    for layer in within_budget(layers_of(manifest, image), image):
        try:
            # Most payloads hold nothing that we do not know: what has the same digest need not be fetched.
            known = None if fetches_all else payload.encode(payload.Payload(image.signed_name, digest, {}))
            yield _read_layer(store, image, layer, known)
        except HallmarkError as exc:
            exc.signature = layer.digest
            yield exc


def within_budget(entries: t.Iterable[Descriptor], image: Image) -> t.Iterator[Descriptor]:
    """Pass on descriptors until what they point to is more than anybody should have to read for one image."""
    spent = 0
    for entry in entries:
        spent += entry.size
        if spent > MAX_TOTAL:
            raise RegistryError(
                code="limit_exceeded", object=str(image), attempt="read the signatures",
                cause=f"they are larger than {MAX_TOTAL} bytes together", advice="Remove the superfluous ones.",
            )
        yield entry


def layers_of(manifest: Manifest | None, image: Image) -> tuple[Descriptor, ...]:
    """Return the layers of a C(.sig) manifest. Raises RegistryError (limit_exceeded) above 1000, as cosign."""
    layers = manifest.layers if manifest else ()
    if len(layers) > MAX_LAYERS:
        raise too_many_layers(image, len(layers))
    return layers


def too_many_layers(image: Image, count: int) -> RegistryError:
    """Return the error for more signatures than any reader looks at."""
    return RegistryError(
        code="limit_exceeded", object=str(image), attempt="read or write the signatures",
        cause=f"there would be {count}, and every reader gives up above {MAX_LAYERS}",
        advice="Remove the superfluous ones: state absent with all: true removes every one.",
    )


def _read_layer(store: Store[Image], image: Image, layer: Descriptor, known: bytes | None) -> Candidate:
    try:
        signature = _base64.decode(signature_text(layer))
    except ValueError as exc:
        raise _malformed(image, layer.digest, str(exc)) from exc
    if not signature:
        raise _malformed(image, layer.digest, "it holds no signature")
    is_known = known is not None and (digest_of(known), len(known)) == (layer.digest, layer.size)
    content = t.cast(bytes, known) if is_known else store.blob(image, layer, limit=payload.MAX_SIZE)
    hint = layer.annotations.get(KEY_ID_ANNOTATION)
    return Candidate(
        "sig", layer.digest, content, content, signature, hint, annotations=layer.annotations,
        has_certificate=bool(layer.annotations.get(CERTIFICATE_ANNOTATION)),
    )


def signature_text(layer: Descriptor) -> str:
    """Return the base64 of the signature of a layer, in one line."""
    # cosign tolerates line breaks here, and tools that wrap base64 exist; nothing else is tolerated.
    return layer.annotations.get(SIGNATURE_ANNOTATION, "").replace("\r", "").replace("\n", "")


def _malformed(image: Image, digest: str, cause: str) -> FormatError:
    return FormatError(
        code="malformed", object=f"{image.name}@{digest}", attempt="read the signature", cause=cause,
        advice="Find out what wrote it; it does not count.", signature=digest,
    )
