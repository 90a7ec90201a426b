# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a transparency log stores about a signature: the bodies of its entries.

Source: Rekor's C(pkg/types) for version 0.0.1 (Rekor v1), rekor-tiles' C(entry.proto) for 0.0.2 (Rekor v2). A log
writes them as canonical JSON (RFC 8785); it stores what anybody proposes, so nothing in them is believed.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from .. import _base64, _strict_json
from .._errors import KeyFileError
from .._keys import pem
from .._libraries import optional

with optional():
    from cryptography import x509
    from cryptography.exceptions import InternalError, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

HashAlgorithm = t.Literal["sha256", "sha384", "sha512"]

V1 = "0.0.1"
V2 = "0.0.2"
_DIGEST_SIZES: dict[HashAlgorithm, int] = {"sha256": 32, "sha384": 48, "sha512": 64}
# The names of protobuf-specs' enum HashAlgorithm.
_V2_NAMES: dict[str, HashAlgorithm] = {"SHA2_256": "sha256", "SHA2_384": "sha384", "SHA2_512": "sha512"}


@dataclass(frozen=True)
class Logged:
    """What an entry is about: a signature, the digest it belongs to, and the key that is said to have made it.

    The digest is of the signed bytes (kind hashedrekord), or of the payload in an envelope (kind dsse).
    C(spki) is the DER of the key; C(certificate) is the DER where a certificate was logged in its place.
    """

    kind: str
    version: str
    hash_algorithm: HashAlgorithm
    digest: bytes
    signature: bytes
    spki: bytes
    certificate: bytes | None


def kind_of(data: bytes, *, where: str) -> tuple[str, str]:
    """Return kind and version of a body. Raises FormatError (malformed)."""
    top = _top(data, where)
    return top.string("kind"), top.string("apiVersion")


def decode(data: bytes, *, where: str) -> Logged:
    """Parse a body. Raises FormatError (malformed), which names a kind that is not known here."""
    top = _top(data, where)
    kind, version = top.string("kind"), top.string("apiVersion")
    reader = _READERS.get((kind, version))
    if reader is None:
        raise top.error(f"its kind is {kind[:50]!r}, version {version[:50]!r}, which is not known here")
    algorithm, digest, signature, (spki, certificate) = reader(top.object("spec"))
    if len(digest) != _DIGEST_SIZES[algorithm]:
        raise top.error(f"a digest of {len(digest)} bytes is none of {algorithm}")
    return Logged(kind, version, algorithm, digest, signature, spki, certificate)


def hashedrekord(*, digest: bytes, hash_algorithm: HashAlgorithm, signature: bytes, verifier_pem: str) -> bytes:
    """Return the entry to propose to Rekor v1 for a signature over bytes of that digest: what it will store."""
    return _strict_json.dumps({
        "apiVersion": V1,
        "kind": "hashedrekord",
        "spec": {
            "data": {"hash": {"algorithm": hash_algorithm, "value": digest.hex()}},
            "signature": {
                "content": _base64.encode(signature),
                "publicKey": {"content": _base64.encode(verifier_pem.encode("ascii"))},
            },
        },
    })


def dsse(*, envelope: bytes, verifier_pem: str) -> bytes:
    """Return the entry to propose to Rekor v1 for an envelope, given as its JSON."""
    return _strict_json.dumps({
        "apiVersion": V1,
        "kind": "dsse",
        "spec": {"proposedContent": {
            "envelope": envelope.decode("utf-8"),
            "verifiers": [_base64.encode(verifier_pem.encode("ascii"))],
        }},
    })


def _top(data: bytes, where: str) -> _strict_json.JsonObject:
    return _strict_json.loads(data, what="log entry's body", where=where).only("apiVersion", "kind", "spec")


_Verifier = tuple[bytes, t.Optional[bytes]]
_Parts = tuple[HashAlgorithm, bytes, bytes, _Verifier]


def _hashedrekord_v1(spec: _strict_json.JsonObject) -> _Parts:
    data = spec.only("data", "signature").object("data").only("hash")
    signature = spec.object("signature").only("content", "publicKey")
    key = signature.object("publicKey").only("content")
    return (*_hash_v1(data.object("hash")), signature.base64("content"), _verifier_v1(key, "content"))


def _dsse_v1(spec: _strict_json.JsonObject) -> _Parts:
    # The hash of the envelope is not compared: it is of one way to write it, which need not be ours.
    spec.only("envelopeHash", "payloadHash", "signatures")
    signature = _only_signature(spec).only("signature", "verifier")
    return (
        *_hash_v1(spec.object("payloadHash")), signature.base64("signature"), _verifier_v1(signature, "verifier")
    )


def _hashedrekord_v2(spec: _strict_json.JsonObject) -> _Parts:
    record = spec.only("hashedRekordV002").object("hashedRekordV002").only("data", "signature")
    return (*_hash_v2(record.object("data")), *_signature_v2(record.object("signature")))


def _dsse_v2(spec: _strict_json.JsonObject) -> _Parts:
    record = spec.only("dsseV002").object("dsseV002").only("payloadHash", "signatures")
    return (*_hash_v2(record.object("payloadHash")), *_signature_v2(_only_signature(record)))


_READERS: dict[tuple[str, str], t.Callable[[_strict_json.JsonObject], _Parts]] = {
    ("hashedrekord", V1): _hashedrekord_v1,
    ("dsse", V1): _dsse_v1,
    ("hashedrekord", V2): _hashedrekord_v2,
    ("dsse", V2): _dsse_v2,
}


def _hash_v1(source: _strict_json.JsonObject) -> tuple[HashAlgorithm, bytes]:
    algorithm, value = source.only("algorithm", "value").string("algorithm"), source.string("value")
    if algorithm not in _DIGEST_SIZES:
        raise source.error(f"the hash algorithm {algorithm[:50]!r} is not known here")
    try:
        digest = bytes.fromhex(value)
    except ValueError:
        digest = b""
    if digest.hex() != value:
        raise source.error("a digest is not lower-case hexadecimal")
    return algorithm, digest


def _hash_v2(source: _strict_json.JsonObject) -> tuple[HashAlgorithm, bytes]:
    algorithm = source.only("algorithm", "digest").string("algorithm")
    if algorithm not in _V2_NAMES:
        raise source.error(f"the hash algorithm {algorithm[:50]!r} is not known here")
    return _V2_NAMES[algorithm], source.base64("digest")


def _only_signature(source: _strict_json.JsonObject) -> _strict_json.JsonObject:
    signatures = source.objects("signatures")
    if len(signatures) != 1:
        raise source.error(f"it has {len(signatures)} signatures, not one")
    return signatures[0]


def _signature_v2(source: _strict_json.JsonObject) -> tuple[bytes, _Verifier]:
    verifier = source.only("content", "verifier").object("verifier")
    verifier.only("keyDetails", "publicKey", "x509Certificate")
    given = [name for name in ("publicKey", "x509Certificate") if name in verifier.members]
    if len(given) != 1:
        raise verifier.error("it must hold exactly one of publicKey and x509Certificate")
    der = verifier.object(given[0]).only("rawBytes").base64("rawBytes")
    load = x509.load_der_x509_certificate if given == ["x509Certificate"] else serialization.load_der_public_key
    return source.base64("content"), _verifier(verifier, load, der)


def _verifier_v1(source: _strict_json.JsonObject, member: str) -> _Verifier:
    try:
        blocks = pem.split(source.base64(member), where=source.where)
    except KeyFileError as exc:
        raise source.error(exc.cause) from exc
    labels = [block.label for block in blocks]
    if labels not in (["PUBLIC KEY"], ["CERTIFICATE"]):
        raise source.error(f"it must hold one public key or certificate, but holds: {', '.join(labels)[:200]}")
    load = x509.load_pem_x509_certificate if labels == ["CERTIFICATE"] else serialization.load_pem_public_key
    return _verifier(source, load, blocks[0].text)


def _verifier(source: _strict_json.JsonObject, load: t.Callable[[bytes], t.Any], data: bytes) -> _Verifier:
    """Return the DER of the key, and of the certificate if it is one."""
    try:
        found = load(data)
        if not isinstance(found, x509.Certificate):
            return pem.public_key(found, where=source.where).der, None
        return pem.public_key(found.public_key(), where=source.where).der, found.public_bytes(
            serialization.Encoding.DER
        )
    except KeyFileError as exc:
        raise source.error(exc.cause) from exc
    # An internal error is what cryptography 42 makes of an Ed448 key that is too short.
    except (ValueError, UnsupportedAlgorithm, InternalError, x509.InvalidVersion) as exc:
        raise source.error(f"its key or certificate cannot be parsed ({type(exc).__name__})") from exc
