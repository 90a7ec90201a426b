# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a certificate says: names, usages, validity, issuers. Read only; nothing here trusts a certificate."""

from __future__ import annotations

import datetime
import ipaddress
import typing as t
from dataclasses import dataclass

from .._errors import KeyFileError
from .._libraries import optional
from . import pem
from .fingerprint import key_id

with optional():
    from cryptography import x509
    from cryptography.exceptions import InternalError, UnsupportedAlgorithm
    from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

    # What parts of a certificate raise where they are looked at: it is parsed no earlier.
    UNPARSABLE = (
        ValueError, TypeError, KeyError, InternalError, UnsupportedAlgorithm, x509.DuplicateExtension,
        x509.InvalidVersion, x509.UnsupportedGeneralNameType,
    )

if t.TYPE_CHECKING:
    from .private_key import PrivateKey

# RFC 5280 section 4.2.1.12 names; the contract's eku values.
USAGES = {
    "1.3.6.1.5.5.7.3.1": "serverAuth",
    "1.3.6.1.5.5.7.3.2": "clientAuth",
    "1.3.6.1.5.5.7.3.3": "codeSigning",
    "1.3.6.1.5.5.7.3.4": "emailProtection",
    "1.3.6.1.5.5.7.3.8": "timeStamping",
    "1.3.6.1.5.5.7.3.9": "OCSPSigning",
    "2.5.29.37.0": "anyExtendedKeyUsage",
}


@dataclass(frozen=True)
class AlternativeName:
    """One subject alternative name: type dns, email, uri, ip or other, and its value as text."""

    type: str
    value: str


@dataclass(frozen=True)
class Issuer:
    """One certificate above the leaf: its subject (RFC 4514) and the key id of its key."""

    subject: str
    key_id: str


@dataclass(frozen=True)
class CertificateFacts:
    """The facts of a leaf and of the issuers that came with it; times are RFC 3339 in UTC."""

    key_id: str
    sans: tuple[AlternativeName, ...]
    eku: tuple[str, ...]
    issuer_chain: tuple[Issuer, ...]
    not_before: str
    not_after: str

    def as_dict(self) -> dict[str, t.Any]:
        """Return the shape of the module contract."""
        return {
            "key_id": self.key_id,
            "sans": [{"type": san.type, "value": san.value} for san in self.sans],
            "eku": list(self.eku),
            "issuer_chain": [{"subject": issuer.subject, "key_id": issuer.key_id} for issuer in self.issuer_chain],
            "not_before": self.not_before,
            "not_after": self.not_after,
        }

    @property
    def is_tls_only(self) -> bool:
        """Whether the leaf is for TLS only, as those of public ACME authorities are."""
        return bool(self.eku) and set(self.eku) <= {"serverAuth", "clientAuth"}


def read_chain(data: bytes, *, where: str) -> CertificateFacts:
    """Read a leaf and, behind it, its issuers in order, from PEM.

    Raises KeyFileError (malformed): something else than certificates, or one that the former does not name
    as its issuer.
    """
    blocks = pem.split(data, where=where, what="certificate")
    if any(block.label != "CERTIFICATE" for block in blocks):
        raise _unreadable(where, "it holds something else than certificates")
    try:
        chain = [x509.load_pem_x509_certificate(block.text) for block in blocks]
        for lower, upper in zip(chain, chain[1:]):
            if lower.issuer != upper.subject:
                raise _unreadable(where, f"{_name(upper.subject)!r} did not issue the certificate before it")
        leaf = chain[0]
        return CertificateFacts(
            key_id=key_id(leaf.public_key()),
            sans=_alternative_names(leaf),
            eku=_usages(leaf),
            issuer_chain=tuple(Issuer(_name(cert.subject), key_id(cert.public_key())) for cert in chain[1:]),
            not_before=_rfc3339(leaf, "not_valid_before"),
            not_after=_rfc3339(leaf, "not_valid_after"),
        )
    except UNPARSABLE as exc:
        raise _unreadable(where, f"a certificate cannot be parsed ({type(exc).__name__})") from exc


def belongs_together(certificate: CertificateFacts, private: PrivateKey) -> bool:
    """Say whether the certificate was issued for the key."""
    return certificate.key_id == private.public.key_id


def _name(name: x509.Name) -> str:
    return name.rfc4514_string()


def extension(certificate: x509.Certificate, oid: t.Any) -> t.Any:
    """Return the value of an extension, or None. Raises one of C(UNPARSABLE), as other parts of certificates do."""
    try:
        return certificate.extensions.get_extension_for_oid(oid).value
    except x509.ExtensionNotFound:
        return None


def _alternative_names(certificate: x509.Certificate) -> tuple[AlternativeName, ...]:
    names = extension(certificate, ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
    return tuple(alternative_name(name) for name in names or ())


def alternative_name(name: x509.GeneralName) -> AlternativeName:
    """Return a name as facts have it: other names as OID:HEX, or the kind of name where it is of no use here."""
    if isinstance(name, x509.DNSName):
        return AlternativeName("dns", name.value)
    if isinstance(name, x509.RFC822Name):
        return AlternativeName("email", name.value)
    if isinstance(name, x509.UniformResourceIdentifier):
        return AlternativeName("uri", name.value)
    if isinstance(name, x509.IPAddress):
        address: ipaddress.IPv4Address | ipaddress.IPv6Address | t.Any = name.value
        return AlternativeName("ip", str(address))
    if isinstance(name, x509.OtherName):
        return AlternativeName("other", f"{name.type_id.dotted_string}:{name.value.hex()}")
    return AlternativeName("other", type(name).__name__)


def _usages(certificate: x509.Certificate) -> tuple[str, ...]:
    usages = extension(certificate, ExtensionOID.EXTENDED_KEY_USAGE)
    oids: t.Iterable[ExtendedKeyUsageOID] = usages or ()
    return tuple(USAGES.get(oid.dotted_string, oid.dotted_string) for oid in t.cast(t.Any, oids))


def _rfc3339(certificate: x509.Certificate, attribute: str) -> str:
    # cryptography 42 brought the aware attributes; the naive ones of 38 are UTC as well.
    moment = getattr(certificate, f"{attribute}_utc", None) or getattr(certificate, attribute)
    return t.cast(datetime.datetime, moment).replace(tzinfo=None).isoformat() + "Z"


def _unreadable(where: str, cause: str) -> KeyFileError:
    return KeyFileError(
        code="malformed", object=where, attempt="read the certificate", cause=cause,
        advice="Give the leaf first and its issuers behind it, as PEM.",
    )
