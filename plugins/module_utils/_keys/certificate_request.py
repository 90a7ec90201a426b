# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Certificate requests for code-signing authorities (PKCS#10, RFC 2986): made, read and compared.

A request asks for keyUsage digitalSignature (critical), extendedKeyUsage codeSigning and the alternative names.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass

from .._errors import KeyFileError
from .._libraries import optional
from . import certificate, pem
from .algorithms import algorithm_of
from .fingerprint import key_id

with optional():
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if t.TYPE_CHECKING:
    from .algorithms import AnyPrivateKey

# RFC 1034 section 3.5 with underscores, RFC 5321 and RFC 3986, each no wider than needed to find what is meant.
_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_FORMS = {
    "dns": re.compile(rf"(?=.{{1,253}}\Z)(\*\.)?{_LABEL}(\.{_LABEL})*"),
    "email": re.compile(r"[!-;=?A-~]+@[A-Za-z0-9.-]+"),
    "uri": re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!-~]+"),
    "other": re.compile(r"[0-9.]+:.+"),
}


@dataclass(frozen=True)
class Content:
    """What a request says beside the key: subject, and extensions by object identifier, with whether each is critical.

    The order in which names are listed means nothing.
    """

    subject: x509.Name
    extensions: dict[str, tuple[bool, t.Any]]

    def facts(self) -> dict[str, t.Any]:
        """Return the public facts, for diffs."""
        _critical, names = self.extensions.get(x509.SubjectAlternativeName.oid.dotted_string, (False, ()))
        return {"csr_subject": self.subject.rfc4514_string(), "csr_sans": sorted(_text_of(name) for name in names)}


@dataclass(frozen=True)
class Request:
    """A file with a request: its bytes, its PEM block, the key it is for, whether that key signed it, what it says."""

    data: bytes
    pem: str
    key_id: str
    is_signed: bool
    content: Content

    def satisfies(self, wanted: Wanted, key_id: str) -> bool:
        """Say whether this is a good request of the key that asks for what is wanted."""
        return self.is_signed and (self.key_id, self.content) == (key_id, wanted.content)


@dataclass(frozen=True)
class Wanted:
    """What shall be asked for, to be signed by any key; and the same as it is read again, to compare it."""

    builder: x509.CertificateSigningRequestBuilder
    content: Content


def wanted(subject: str, sans: t.Sequence[str]) -> Wanted:
    """Return what shall be asked for: C(subject) as in RFC 4514, C(sans) as TYPE:VALUE.

    Raises KeyFileError (input_invalid), object csr_subject or csr_sans.
    """
    try:
        name = x509.Name.from_rfc4514_string(subject)
    except (ValueError, KeyError) as exc:
        raise _invalid("csr_subject", f"{subject!r} is no distinguished name") from exc
    values = [attribute.value for attribute in name]
    if not values or not all(isinstance(value, str) and value and value.isprintable() for value in values):
        raise _invalid("csr_subject", f"{subject!r} has no value, or characters that cannot be printed")
    # Older libraries leave it to the authority to find out (RFC 5280 appendix A.1, ub-common-name).
    if any(len(attribute.value) > 64 for attribute in name.get_attributes_for_oid(NameOID.COMMON_NAME)):
        raise _invalid("csr_subject", f"{subject!r} has a common name of more than 64 characters")
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    for extension, critical in (
        (x509.KeyUsage(True, False, False, False, False, False, False, False, False), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), False),
    ):
        builder = builder.add_extension(extension, critical=critical)
    names = [_name_of(san) for san in sans]
    if len(set(names)) != len(names):
        raise _invalid("csr_sans", "a name occurs twice")
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    # With a key that is thrown away: what cannot be encoded is found out before anything is written.
    try:
        data = _sign(ec.generate_private_key(ec.SECP256R1()), builder)
    except ValueError as exc:
        raise _invalid("csr_subject", f"{subject!r} cannot be encoded, or csr_sans cannot ({exc})") from exc
    return Wanted(builder, read(data, where="csr_subject").content)


def create(key: AnyPrivateKey, asked: Wanted) -> bytes:
    """Return the request as PEM, signed by C(key) with the hash of its size."""
    return _sign(key, asked.builder)


def _sign(key: AnyPrivateKey, builder: x509.CertificateSigningRequestBuilder) -> bytes:
    algorithm = algorithm_of(key, where="certificate request")
    hash_of: dict[str, hashes.HashAlgorithm | None] = {
        "ecdsa-p384": hashes.SHA384(), "ecdsa-p521": hashes.SHA512(), "ed25519": None,
    }
    request = builder.sign(key, hash_of.get(algorithm.name, hashes.SHA256()))  # type: ignore[arg-type]
    return request.public_bytes(serialization.Encoding.PEM)


def read(data: bytes, *, where: str) -> Request:
    """Read the one request in a PEM file. Raises KeyFileError (malformed)."""
    blocks = pem.split(data, where=where, what="certificate request")
    try:
        if [block.label for block in blocks] != ["CERTIFICATE REQUEST"]:
            raise ValueError("it must hold one block, of type CERTIFICATE REQUEST")
        request = x509.load_pem_x509_csr(blocks[0].text)
        extensions = {
            one.oid.dotted_string: (one.critical, _without_order(one.value)) for one in request.extensions
        }
        return Request(
            data, blocks[0].text.decode("ascii"), key_id(request.public_key()), request.is_signature_valid,
            Content(request.subject, extensions),
        )
    except certificate.UNPARSABLE as exc:
        raise KeyFileError(
            code="malformed", object=where, attempt="read the certificate request",
            cause=f"it cannot be parsed ({type(exc).__name__})", advice="Check that the file is whole.",
        ) from exc


def _without_order(extension: t.Any) -> t.Any:
    return frozenset(extension) if isinstance(extension, x509.SubjectAlternativeName) else extension


def _name_of(san: str) -> x509.GeneralName:
    kind, _colon, value = san.partition(":")
    form = _FORMS.get(kind)
    if form is None or not form.fullmatch(value) or not value.isprintable():
        raise _invalid("csr_sans", f"{san[:100]!r} is none of dns:NAME, email:ADDRESS, uri:URI, other:OID:TEXT")
    if kind == "dns":
        return x509.DNSName(value)
    if kind == "uri":
        return x509.UniformResourceIdentifier(value)
    if kind == "email":
        return x509.RFC822Name(value)
    oid, _colon, text = value.partition(":")
    try:
        return x509.OtherName(x509.ObjectIdentifier(oid), _utf8_string(text))
    except (ValueError, OverflowError) as exc:
        raise _invalid("csr_sans", f"{san[:100]!r} has no object identifier, or is too long") from exc


def _utf8_string(text: str) -> bytes:
    """Return the DER of a UTF8String (X.690 section 8.23). Raises ValueError; OverflowError from 64 KiB on."""
    data = text.encode("utf-8")
    octets = len(data).to_bytes(2, "big").lstrip(b"\0")
    return b"\x0c" + (b"" if len(data) < 128 else bytes([0x80 | len(octets)])) + octets + data


def _text_of(name: x509.GeneralName) -> str:
    """Return a name as it is asked for, so far as it can be."""
    if isinstance(name, x509.OtherName):
        # Behind the tag and the length, which may take more than one octet.
        begin = 2 + max(0, int.from_bytes(name.value[1:2], "big") - 128)
        return f"other:{name.type_id.dotted_string}:{name.value[begin:].decode('utf-8', 'replace')}"
    kinds = {x509.DNSName: "dns", x509.RFC822Name: "email", x509.UniformResourceIdentifier: "uri"}
    return f"{kinds.get(type(name), type(name).__name__)}:{name.value}"


def _invalid(option: str, cause: str) -> KeyFileError:
    return KeyFileError(
        code="input_invalid", object=option, attempt="make a certificate request of it", cause=cause,
        advice="Write csr_subject as CN=release,O=Example, and csr_sans as email:release@example.com.",
    )
