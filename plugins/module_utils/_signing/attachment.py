# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where signatures are: the C(.sig) tag with one layer per signature, and bundles that refer to the image.

Source: cosign's C(specs/SIGNATURE_SPEC.md) for the tag, OCI 1.1 referrers for bundles. Reading yields
candidates, which prove nothing yet.
"""

from __future__ import annotations

import random
import time
import typing as t
from dataclasses import dataclass, field, replace

from .. import _base64, _strict_json
from .._errors import FormatError, HallmarkError, RegistryError
from .._oci import lock, referrers
from .._oci import manifest as manifests
from .._oci.digest import digest_of
from .._oci.manifest import Descriptor, Manifest
from .._oci.reference import Reference
from .._oci.registry import Registries
from . import bundle, payload, statement
from .authority import Format

SIGNATURE_ANNOTATION = "dev.cosignproject.cosign/signature"
# The old format names no key. This hint lets a signature be removed by key id; it proves nothing.
KEY_ID_ANNOTATION = "org.hallmark-signing.key-id"
MAX_LAYERS = 1000
MAX_TOTAL = 64 * 1024 * 1024
MAX_TAG = 128
_ZERO_TIME = "0001-01-01T00:00:00Z"
_WRITE_ATTEMPTS = 8


@dataclass(frozen=True)
class Candidate:
    """One signature found: its format, its digest (payload layer, or referrer manifest) and the signed bytes.

    C(content) is the payload or the statement inside the envelope. C(hinted_key_id) proves nothing.
    """

    format: Format
    digest: str
    signed_bytes: bytes = field(repr=False)
    content: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    hinted_key_id: str | None
    has_certificate: bool = False


@dataclass(frozen=True)
class Layer:
    """One layer of the C(.sig) manifest to be: the payload and its signature in base64."""

    descriptor: Descriptor
    payload: bytes = field(repr=False)


Found = t.Union[Candidate, HallmarkError]


def has_signature_tag(digest: str) -> bool:
    """Say whether the C(.sig) tag of C(digest) is a legal tag: that of a SHA-512 digest is too long."""
    return len(signature_tag(digest)) <= MAX_TAG


def signature_tag(digest: str) -> str:
    """Return the tag that holds the signatures of C(digest): C(sha256-HEX.sig)."""
    return f"{digest.replace(':', '-')}.sig"


def find(registries: Registries, image: Reference, digest: str, format: Format) -> t.Iterator[Found]:
    """Yield the signatures of C(digest) in one format, one at a time, so that a reader can stop early.

    A candidate that cannot be read is yielded as its error, which names it: it spoils nothing but itself.
    Raises RegistryError and FormatError where the list of candidates cannot be had.
    """
    return _find_sig(registries, image, digest) if format == "sig" else _find_bundles(registries, image, digest)


def _find_sig(registries: Registries, image: Reference, digest: str) -> t.Iterator[Found]:
    if not has_signature_tag(digest):
        return
    manifest = registries.find_manifest(image.tagged(signature_tag(digest)))
    for layer in _within_budget(layers_of(manifest, image), image):
        try:
            yield _read_layer(registries, image, layer)
        except HallmarkError as exc:
            exc.signature = layer.digest
            yield exc


def _within_budget(entries: t.Iterable[Descriptor], image: Reference) -> t.Iterator[Descriptor]:
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


def layers_of(manifest: Manifest | None, image: Reference) -> tuple[Descriptor, ...]:
    """Return the layers of a C(.sig) manifest. Raises RegistryError (limit_exceeded) above 1000, as cosign."""
    layers = manifest.layers if manifest else ()
    if len(layers) > MAX_LAYERS:
        raise _too_many_layers(image, len(layers))
    return layers


def _too_many_layers(image: Reference, count: int) -> RegistryError:
    return RegistryError(
        code="limit_exceeded", object=str(image), attempt="read or write the signatures",
        cause=f"there would be {count}, and every reader gives up above {MAX_LAYERS}",
        advice="Remove the superfluous ones: state absent with all: true removes every one.",
    )


def _read_layer(registries: Registries, image: Reference, layer: Descriptor) -> Candidate:
    try:
        signature = _base64.decode(_signature_text(layer))
    except ValueError as exc:
        raise _malformed(image, layer.digest, str(exc)) from exc
    if not signature:
        raise _malformed(image, layer.digest, "it holds no signature")
    content = registries.blob(image, layer, limit=payload.MAX_SIZE)
    hint = layer.annotations.get(KEY_ID_ANNOTATION)
    return Candidate("sig", layer.digest, content, content, signature, hint)


def _find_bundles(registries: Registries, image: Reference, digest: str) -> t.Iterator[Found]:
    # Types and annotations in the list are often wrong: they only decide what is looked at first.
    listed = sorted(
        referrers.find(registries, image, digest),
        key=lambda entry: entry.annotations.get(bundle.PREDICATE_ANNOTATION) != statement.PREDICATE_TYPE,
    )
    for entry in _within_budget({entry.digest: entry for entry in listed}.values(), image):
        try:
            candidate = _read_referrer(registries, image, entry)
        except HallmarkError as exc:
            exc.signature = entry.digest
            yield exc
            continue
        if candidate is not None:
            yield candidate


def _read_referrer(registries: Registries, image: Reference, entry: Descriptor) -> Candidate | None:
    """Return the bundle of a referrer; None when the referrer is something else, such as an SBOM."""
    manifest = registries.manifest(image.at(entry.digest))
    if len(manifest.layers) != 1 or not manifest.layers[0].media_type.startswith(bundle.ANY_MEDIA_TYPE):
        return None
    data = registries.blob(image, manifest.layers[0], limit=bundle.MAX_SIZE)
    found = bundle.decode(data, where=f"{image.name}@{entry.digest}")
    return Candidate(
        "bundle", entry.digest, found.envelope.signed_bytes, found.envelope.payload, found.envelope.signature,
        found.hinted_key_id, found.has_certificate,
    )


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
    return layer.digest, _signature_text(layer)


def _signature_text(layer: Descriptor) -> str:
    # cosign tolerates line breaks here, and tools that wrap base64 exist; nothing else is tolerated.
    return layer.annotations.get(SIGNATURE_ANNOTATION, "").replace("\r", "").replace("\n", "")


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
                raise _too_many_layers(image, len(wanted))
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


def _malformed(image: Reference, digest: str, cause: str) -> FormatError:
    return FormatError(
        code="malformed", object=f"{image.name}@{digest}", attempt="read the signature", cause=cause,
        advice="Find out what wrote it; it does not count.", signature=digest,
    )
