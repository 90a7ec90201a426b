# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Timestamps of signatures (RFC 3161, 5816): asking for one, and verifying the authority's answer.

The library parses strict DER, and verifies the signature and, at the time stamped, the chain with its usage. It
trusts what it is given as the signer's certificate, does not read the signed attributes, and takes any hash there:
which certificate signed, and that the attributes name it, is checked here.
"""

from __future__ import annotations

import hashlib
import re
import typing as t
from contextlib import contextmanager
from dataclasses import dataclass

from .._errors import FormatError, HallmarkError, KeyFileError, VerificationError
from .._keys import certificate as facts
from .._keys import pem
from .._libraries import optional

with optional():
    import rfc3161_client
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.x509.oid import ExtendedKeyUsageOID

if t.TYPE_CHECKING:
    import datetime

MAXIMUM_SIZE = 64 * 1024
# The hashes that are taken, by object identifier, as it is written and as it is encoded.
_HASHES = {f"2.16.840.1.101.3.4.2.{arc}": name for arc, name in ((1, "sha256"), (2, "sha384"), (3, "sha512"))}
_ENCODED_HASHES = {bytes.fromhex(f"60864801650304020{dotted[-1]}"): name for dotted, name in _HASHES.items()}
# Encoded: what is signed, and the signed attributes that are read.
_CONTENT_TYPE = bytes.fromhex("2a864886f70d010903")
_TST_INFO = bytes.fromhex("2a864886f70d0109100104")
_SIGNING_CERTIFICATE = bytes.fromhex("2a864886f70d010910020c")
_SIGNING_CERTIFICATE_V2 = bytes.fromhex("2a864886f70d010910022f")
_SEQUENCE, _SET, _OCTETS, _OBJECT_IDENTIFIER = 0x30, 0x31, 0x04, 0x06


@dataclass(frozen=True)
class TimestampAuthority:
    """Certificates, each issued by the next, the root last; the first, if it is no issuer, is the only signer."""

    name: str
    certificates: tuple[x509.Certificate, ...]


def read_authority(data: bytes, *, where: str) -> TimestampAuthority:
    """Read an authority from PEM, its certificates in the order of the chain. Raises KeyFileError (malformed)."""
    blocks = pem.split(data, where=where, what="certificates of the timestamp authority")
    if any(block.label != "CERTIFICATE" for block in blocks):
        raise _unreadable(where, "it holds something else than certificates")
    try:
        chain = tuple(x509.load_pem_x509_certificate(block.text) for block in blocks)
        # Each of these parses a further part.
        parts = [(one.subject, one.issuer, one.public_key(), one.extensions) for one in chain]
    except facts.UNPARSABLE as exc:
        raise _unreadable(where, f"a certificate cannot be parsed ({type(exc).__name__})") from exc
    for lower, upper in zip(parts, [*parts[1:], parts[-1]]):
        if lower[1] != upper[0]:
            found = "it does not end with a root" if lower is upper else "the certificates are not in order"
            raise _unreadable(where, found)
    return TimestampAuthority(where, chain)


def request(signature: bytes) -> bytes:
    """Return the DER TimeStampReq over the SHA-256 of C(signature), which asks for certificates.

    It has no nonce: an older answer about the same signature is as true, and earlier.
    """
    builder = rfc3161_client.TimestampRequestBuilder(
        data=signature, hash_algorithm=rfc3161_client.HashAlgorithm.SHA256, nonce=False, cert_req=True
    )
    return builder.build().as_bytes()


def verify(
    response: bytes, *, signature: bytes, authorities: t.Sequence[TimestampAuthority], where: str
) -> datetime.datetime:
    """Return the time at which one of C(authorities) saw C(signature), in UTC, in whole seconds.

    Raises VerificationError (timestamp_invalid) and FormatError (malformed).
    """
    if len(response) > MAXIMUM_SIZE:
        raise _malformed(where, f"it is larger than {MAXIMUM_SIZE // 1024} KiB")
    with _reading(where):
        parsed = rfc3161_client.decode_timestamp_response(_with_order(response))
        # Also granted with modifications: nothing that was asked for can be given up.
        if parsed.status != rfc3161_client.PKIStatus.GRANTED:
            raise _invalid(where, f"the authority did not grant it (status {parsed.status})")
        signer = _only_signer(parsed, where)
        _require_imprint(parsed.tst_info, signature, where)
        refused: list[str] = []
        for authority in authorities:
            try:
                _require_signer(parsed, signer, authority, where)
                _require_chain(parsed, signature, authority, where)
                return parsed.tst_info.gen_time
            except VerificationError as exc:
                refused.append(f"{authority.name}: {exc.cause}")
    raise _invalid(where, "; ".join(refused) or "no timestamp authority is trusted")


def _with_order(response: bytes) -> bytes:
    """Return a response with its certificates in the order of DER, in which neither OpenSSL nor others write them.

    The library refuses any other order. Nothing that is signed is changed.
    """
    status, *tokens = _children(response, _SEQUENCE)
    if not tokens:
        return response
    kind, wrapped = _children(tokens[0].whole, _SEQUENCE)
    parts = _children(_children(wrapped.whole, 0xA0)[0].whole, _SEQUENCE)
    ordered = [
        _element(0xA0, *sorted(one.whole for one in _elements(part.content))) if part.tag == 0xA0 else part.whole
        for part in parts
    ]
    token = _element(_SEQUENCE, kind.whole, _element(0xA0, _element(_SEQUENCE, *ordered)))
    return _element(_SEQUENCE, status.whole, token, *(one.whole for one in tokens[1:]))


@dataclass(frozen=True)
class _Signer:
    """The one SignerInfo: how it names the signer's certificate, and its signed attributes by type."""

    issuer: x509.Name
    serial_number: int
    attributes: dict[bytes, bytes]


def _only_signer(parsed: rfc3161_client.TimeStampResponse, where: str) -> _Signer:
    """Return the signer (RFC 5652 section 5.3). The library has parsed all of it but the values of attributes."""
    token = _children(parsed.time_stamp_token(), _SEQUENCE)
    signed_data = _children(_children(token[1].whole, 0xA0)[0].whole, _SEQUENCE)
    signers = _children(signed_data[-1].whole, _SET)
    if len(signers) != 1:
        raise _invalid(where, f"it has {len(signers)} signers instead of one")
    info = _children(signers[0].whole, _SEQUENCE)
    if _children(info[2].whole, _SEQUENCE)[0].content not in _ENCODED_HASHES:
        raise _invalid(where, "it is signed with a hash that is not taken")
    if info[3].tag != 0xA0:
        raise _invalid(where, "its signer signed no attributes")
    _require_no_critical_extension(_children(signed_data[2].whole, _SEQUENCE)[1], where)
    attributes: dict[bytes, bytes] = {}
    for attribute in _children(info[3].whole, 0xA0):
        kind, values = _children(attribute.whole, _SEQUENCE)
        if kind.content in attributes:
            raise _invalid(where, "an attribute of its signer occurs twice")
        attributes[kind.content] = values.content
    if attributes.get(_CONTENT_TYPE) != _element(_OBJECT_IDENTIFIER, _TST_INFO):
        raise _invalid(where, "its signer signed something else than a timestamp")
    (info_of_library,) = parsed.signed_data.signer_infos
    return _Signer(info_of_library.issuer, info_of_library.serial_number, attributes)


def _require_no_critical_extension(content: _Element, where: str) -> None:
    """Refuse what a reader must not pass over (RFC 3161 section 2.4.2, RFC 5280 section 4.2); no extension is known."""
    last = _children(_children(content.whole, 0xA0)[0].content, _SEQUENCE)[-1]
    # DER writes the member "critical" only where it is true.
    if last.tag == 0xA1 and any(len(_children(one.whole, _SEQUENCE)) > 2 for one in _children(last.whole, 0xA1)):
        raise _invalid(where, "it has an extension that must be understood")


def _require_imprint(stamped: rfc3161_client.TimeStampTokenInfo, signature: bytes, where: str) -> None:
    if stamped.version != 1:
        raise _invalid(where, f"it is of version {stamped.version}")
    algorithm = stamped.message_imprint.hash_algorithm.dotted_string
    if algorithm not in _HASHES:
        raise _invalid(where, f"it is over a hash that is not taken ({algorithm})")
    if stamped.message_imprint.message != hashlib.new(_HASHES[algorithm], signature).digest():
        raise _invalid(where, "it is about another signature")


def _require_signer(
    parsed: rfc3161_client.TimeStampResponse, signer: _Signer, authority: TimestampAuthority, where: str
) -> None:
    """Find the one certificate that the signer is said to have, and hold everything against that one."""
    brought = {x509.load_der_x509_certificate(der) for der in parsed.signed_data.certificates}
    found = [
        certificate for certificate in brought | set(authority.certificates)
        if (certificate.issuer, certificate.serial_number) == (signer.issuer, signer.serial_number)
    ]
    if len(found) != 1:
        raise _invalid(where, f"its signer names {'several certificates' if found else 'no certificate that is known'}")
    pinned = _pinned(authority)
    if pinned is not None and found[0] != pinned:
        raise _invalid(where, "it was signed by another certificate")
    _require_named(found[0], signer.attributes, where)
    for certificate in {*brought, *authority.certificates}:
        _require_fit(certificate, where)


def _pinned(authority: TimestampAuthority) -> x509.Certificate | None:
    """Return the signer that the authority names, if any."""
    first = authority.certificates[0]
    try:
        is_issuer = first.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        is_issuer = False
    return None if is_issuer else first


def _require_named(certificate: x509.Certificate, attributes: dict[bytes, bytes], where: str) -> None:
    """Check that the signer names its certificate: ESSCertID (RFC 2634) or ESSCertIDv2 (RFC 5816), both if both."""
    values = [
        (name, attributes[kind]) for name, kind in (("sha1", _SIGNING_CERTIFICATE), ("sha256", _SIGNING_CERTIFICATE_V2))
        if kind in attributes
    ]
    if not values:
        raise _invalid(where, "its signer does not say which certificate is its own")
    for default, value in values:
        # SigningCertificate, certs, the first of them; its issuerSerial says nothing that the hash does not.
        identifier = _children(_children(_children(value, _SEQUENCE)[0].whole, _SEQUENCE)[0].whole, _SEQUENCE)
        name: str | None = default
        if default != "sha1" and identifier[0].tag == _SEQUENCE:
            name = _ENCODED_HASHES.get(_children(identifier[0].whole, _SEQUENCE)[0].content)
            del identifier[0]
        der = certificate.public_bytes(serialization.Encoding.DER)
        if name is None or identifier[0].whole != _element(_OCTETS, hashlib.new(name, der).digest()):
            raise _invalid(where, "its signer says that another certificate is its own")


def _require_fit(certificate: x509.Certificate, where: str) -> None:
    """Refuse what OpenSSL takes and Go does not: weak hashes, and issuers for something else; and short keys."""
    key, algorithm = certificate.public_key(), certificate.signature_hash_algorithm
    if algorithm is not None and algorithm.name in ("md5", "sha1") and certificate.issuer != certificate.subject:
        raise _invalid(where, f"a certificate is signed with {algorithm.name}")
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < 2048:
        raise _invalid(where, f"a certificate has an RSA key of {key.key_size} bits")
    for extension in certificate.extensions:
        usages = extension.value
        if isinstance(usages, x509.ExtendedKeyUsage) and not {
            ExtendedKeyUsageOID.TIME_STAMPING, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE
        } & set(usages):
            raise _invalid(where, "a certificate is not for timestamps")


def _require_chain(
    parsed: rfc3161_client.TimeStampResponse, signature: bytes, authority: TimestampAuthority, where: str
) -> None:
    """Have the library verify the signature, the chain to the root at the time stamped, and the usages on it."""
    # Never a certificate from the response: the library trusts a self-signed one that it is given here.
    verifier = rfc3161_client.VerifierBuilder(
        tsa_certificate=_pinned(authority), intermediates=list(authority.certificates[:-1]),
        roots=[authority.certificates[-1]],
    ).build()
    try:
        verifier.verify_message(parsed, signature)
    except rfc3161_client.VerificationError as exc:
        # It quotes OpenSSL's queue of errors, in which the last words are the most telling.
        words = re.findall(r'(?:Verify error:|reason: ")\s*([^"]+)', str(exc))
        raise _invalid(where, words[-1] if words else str(exc)[:200]) from exc


class _Element(t.NamedTuple):
    tag: int
    content: bytes
    whole: bytes


def _children(data: bytes, tag: int) -> list[_Element]:
    """Return what is in the one DER element C(data), which must have that tag. Raises ValueError."""
    (outer,) = _elements(data)
    if outer.tag != tag:
        raise ValueError(f"tag {outer.tag:#x} instead of {tag:#x}")
    return _elements(outer.content)


def _elements(data: bytes) -> list[_Element]:
    """Return DER elements that follow each other (X.690 sections 8.1 and 10.1). Raises ValueError, IndexError."""
    found: list[_Element] = []
    start = 0
    while start < len(data):
        length, begin = data[start + 1], start + 2
        if length & 0x80:
            octets = length & 0x7F
            begin += octets
            length = int.from_bytes(data[start + 2:begin], "big")
            if length < 128 or length >> 8 * (octets - 1) == 0:
                raise ValueError("a length is not DER")
        end = begin + length
        if end > len(data):
            raise ValueError("an element is cut off")
        found.append(_Element(data[start], data[begin:end], data[start:end]))
        start = end
    return found


def _element(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    return bytes([tag, *([0x80 | len(size)] if len(content) > 127 else []), *(size or b"\0")]) + content


@contextmanager
def _reading(where: str) -> t.Iterator[None]:
    """Make whatever parsing raises a FormatError, also a panic of Rust code, which is no Exception."""
    try:
        yield
    except HallmarkError:
        raise
    except BaseException as exc:
        if not isinstance(exc, Exception) and type(exc).__name__ != "PanicException":
            raise
        raise _malformed(where, f"it cannot be parsed ({type(exc).__name__})") from exc


def _invalid(where: str, cause: str) -> VerificationError:
    return VerificationError(
        code="timestamp_invalid", object=where, attempt="take its timestamp for proof", cause=cause,
        advice="Find out who made it, and which timestamp authority is trusted.",
    )


def _malformed(where: str, cause: str) -> FormatError:
    return FormatError(
        code="malformed", object=where, attempt="read its timestamp", cause=cause,
        advice="Find out what wrote it; nothing of it is used.",
    )


def _unreadable(where: str, cause: str) -> KeyFileError:
    return KeyFileError(
        code="malformed", object=where, attempt="read the certificates of the timestamp authority", cause=cause,
        advice="Give the signer's certificate first, if at all, and its issuers behind it up to the root, as PEM.",
    )
