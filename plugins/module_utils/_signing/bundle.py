# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sigstore bundles v0.3 with a DSSE envelope, as cosign 3 attaches them to images.

Source: sigstore protobuf-specs C(sigstore_bundle.proto), JSON form; media types of the bundle specification.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from .. import _base64, _strict_json
from . import dsse
from .statement import PREDICATE_TYPE

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_READ_MEDIA_TYPES = (MEDIA_TYPE, "application/vnd.dev.sigstore.bundle+json;version=0.3")
ANY_MEDIA_TYPE = "application/vnd.dev.sigstore.bundle"
CONTENT_ANNOTATION = "dev.sigstore.bundle.content"
PREDICATE_ANNOTATION = "dev.sigstore.bundle.predicateType"
CREATED_ANNOTATION = "org.opencontainers.image.created"
# A small bundle once more, in base64: registries put annotations into their lists of referrers, and a reader needs not
# ask for the manifest and the bundle. A hint as all the others.
COPY_ANNOTATION = "org.hallmark-signing.bundle"
MAX_SIZE = 5 * 1024 * 1024
# What copies may add to a list, which has to be fetched whole and is refused beyond some size.
_MAX_COPIED = 8 * 1024
_MAX_COPIES = 64
_MAX_ENTRIES = 32
_MATERIAL = ("publicKey", "certificate", "x509CertificateChain")


@dataclass(frozen=True)
class Bundle:
    """A bundle: its envelope, and the key id in its hint, which is no proof; None when signed by a certificate.

    C(material) is what came with the envelope, of which only the shape was looked at.
    """

    envelope: dsse.Envelope
    hinted_key_id: str | None
    has_certificate: bool
    material: _strict_json.JsonObject


def encode(envelope: dsse.Envelope, *, key_id: str, material: t.Mapping[str, t.Any] | None = None) -> bytes:
    """Return the JSON of a bundle; without a certificate, the hint is the base64 of the key id's bytes."""
    extra = dict(material or {})
    hint = {} if "certificate" in extra else {"publicKey": {"hint": _base64.encode(bytes.fromhex(key_id))}}
    return _strict_json.dumps({
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {**hint, **extra},
        "dsseEnvelope": dsse.encode(envelope),
    })


def decode(data: bytes, *, where: str) -> Bundle:
    """Parse a bundle. Raises FormatError (malformed) for every other version, kind or unknown member."""
    top = _strict_json.loads(data, what="bundle", where=where)
    top.only("mediaType", "verificationMaterial", "dsseEnvelope", "messageSignature")
    if top.string("mediaType") not in _READ_MEDIA_TYPES:
        raise top.error(f"its media type {top.string('mediaType')[:100]!r} is not that of version 0.3")
    if "dsseEnvelope" not in top.members or "messageSignature" in top.members:
        raise top.error("it must hold a DSSE envelope and nothing else that is signed")
    material = top.object("verificationMaterial")
    material.only(*_MATERIAL, "tlogEntries", "timestampVerificationData")
    given = [name for name in _MATERIAL if name in material.members]
    if given not in (["publicKey"], ["certificate"]):
        raise material.error("it must hold exactly one of publicKey and certificate")
    if len(material.objects("tlogEntries", [])) > _MAX_ENTRIES:
        raise material.error(f"it has more than {_MAX_ENTRIES} log entries")
    return Bundle(
        envelope=dsse.decode(top.object("dsseEnvelope")),
        hinted_key_id=_hint(material.object("publicKey", None)),
        has_certificate=given == ["certificate"],
        material=material,
    )


def manifest_annotations(created: str, data: bytes, *, listed: int = 0) -> dict[str, str]:
    """Return the annotations of the referrer manifest; C(created) is RFC 3339 in UTC. They authenticate nothing.

    Registries show them in the list of referrers, where C(listed) bundles are already.
    """
    is_copied = len(data) <= _MAX_COPIED and listed < _MAX_COPIES
    copy = {COPY_ANNOTATION: _base64.encode(data)} if is_copied else {}
    return {
        CONTENT_ANNOTATION: "dsse-envelope",
        PREDICATE_ANNOTATION: PREDICATE_TYPE,
        CREATED_ANNOTATION: created,
        **copy,
    }


def copy_in(annotations: t.Mapping[str, str]) -> bytes | None:
    """Return the copy of the bundle that a list of referrers holds, or None."""
    try:
        return _base64.decode(annotations.get(COPY_ANNOTATION, "")) or None
    except ValueError:
        return None


def _hint(public_key: _strict_json.JsonObject) -> str | None:
    public_key.only("hint")
    try:
        return _base64.decode(public_key.string("hint", "")).hex() or None
    except ValueError:
        # Any text is legal here; a hint we cannot read is no hint.
        return None
