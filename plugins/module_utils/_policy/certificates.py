# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Certificates in a trust policy: issuers only, kept as PEM, as enforcers want them."""

from __future__ import annotations

import datetime

from .._errors import KeyFileError
from .._libraries import optional
from .._signing import certificate_path

with optional():
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization


def read(data: bytes, *, where: str) -> tuple[str, ...]:
    """Return the certificates in PEM, one text each. Raises KeyFileError (malformed)."""
    return tuple(_pem(one) for one in certificate_path.read_certificates(data, where=where))


def read_issuers(data: bytes, *, where: str) -> tuple[str, ...]:
    """Return the certificates of authorities. Raises KeyFileError (malformed), also for one that is of no authority."""
    for one in certificate_path.read_certificates(data, where=where):
        if not _is_issuer(one):
            name = one.subject.rfc4514_string()[:100]
            raise KeyFileError(
                code="malformed", object=where, attempt="trust a certificate authority",
                cause=f"the certificate of {name!r} is not that of a CA; pin its key with public_key_path",
                advice="Name the root of the PKI, or the public key.",
            )
    return read(data, where=where)


def of_der(data: bytes) -> str:
    """Return a certificate as PEM. Raises ValueError."""
    return _pem(x509.load_der_x509_certificate(data))


def end_of(text: str) -> datetime.datetime:
    """Return when a certificate in PEM ends."""
    return x509.load_pem_x509_certificate(text.encode("ascii")).not_valid_after_utc


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")


def _is_issuer(certificate: x509.Certificate) -> bool:
    try:
        return bool(certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
    except (x509.ExtensionNotFound, ValueError):
        return False
