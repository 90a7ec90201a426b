# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is to be known of the certificates of a lineage, and of requests whose key is elsewhere."""

from __future__ import annotations

import hashlib
import typing as t
from dataclasses import dataclass

from .._errors import CertbotError, LibraryError
from .._keys import certificate, certificate_request, pem
from .._libraries import KEYS_CRYPTOGRAPHY_FLOOR, optional, require
from . import files
from .moments import seconds_of

with optional():
    from cryptography import x509

# RFC 5280 section 4.2.1.6.
_ALTERNATIVE_NAMES = "2.5.29.17"


@dataclass(frozen=True)
class Certificate:
    """A certificate: the SHA-256 of its DER, what it says, and when it is valid, in seconds since 1970."""

    fingerprint: str
    serial: str
    key_id: str
    not_before: float
    not_after: float
    names: tuple[str, ...]

    def remaining(self, now: float) -> float:
        """Return the share of its lifetime that is left."""
        return (self.not_after - now) / max(self.not_after - self.not_before, 1.0)


@dataclass(frozen=True)
class Request:
    """A request for a certificate: whose key it is, and for which names."""

    key_id: str
    names: tuple[str, ...]


def require_library() -> None:
    """Check that certificates can be read on this host. Raises CertbotError (library_missing)."""
    try:
        require("cryptography", floor=KEYS_CRYPTOGRAPHY_FLOOR)
    except LibraryError as exc:
        raise CertbotError(
            code=exc.code, object=exc.object, attempt=exc.attempt, cause=exc.cause,
            advice=f"Install python3-cryptography, {KEYS_CRYPTOGRAPHY_FLOOR} or newer, for the Python of the system; "
            "role hallmark.signing.certbot does it.",
        ) from exc


def read_certificate(path: str) -> Certificate | None:
    """Return the first certificate of a file, or None where there is no file. Raises HallmarkError (malformed)."""
    data = files.read(path)
    if data is None:
        return None
    der = _der(data, path, "CERTIFICATE")
    text = pem.pem_text("CERTIFICATE", der)
    facts = certificate.read_chain(text, where=path)
    # It was parsed before, so that this cannot fail.
    serial = x509.load_pem_x509_certificate(text).serial_number
    return Certificate(
        fingerprint=hashlib.sha256(der).hexdigest(), serial=_hexadecimal(serial), key_id=facts.key_id,
        not_before=seconds_of(facts.not_before), not_after=seconds_of(facts.not_after),
        names=_dns_names(facts.sans),
    )


def read_request(path: str) -> Request:
    """Return what a request asks for. Raises HallmarkError (not_found, malformed)."""
    data = files.read(path)
    if data is None:
        raise CertbotError(
            code="not_found", object=path, attempt="read the certificate request", cause="there is no such file",
            advice="Make the request where its key is, and put it there.",
        )
    # Certbot takes DER, and the older label, too.
    der = _der(data, path, "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST")
    request = certificate_request.read(pem.pem_text("CERTIFICATE REQUEST", der), where=path)
    _critical, names = request.content.extensions.get(_ALTERNATIVE_NAMES, (False, ()))
    return Request(request.key_id, _dns_names([certificate.alternative_name(name) for name in names]))


def _der(data: bytes, path: str, *labels: str) -> bytes:
    """Return the first of these from PEM, or what is DER already. Raises HallmarkError (malformed)."""
    if data[:1] == b"\x30":
        return data
    what = labels[0].lower()
    for block in pem.split(data, where=path, what=what):
        if block.label in labels:
            return pem.decode_block(block, path)
    raise CertbotError(
        code="malformed", object=path, attempt=f"read the {what}", cause=f"there is no {what} in it",
        advice="Look at what is there.",
    )


def _hexadecimal(serial: int) -> str:
    """Return a serial number as openssl writes it, two digits for each octet."""
    text = f"{abs(serial):x}"
    return ("-" if serial < 0 else "") + "0" * (len(text) % 2) + text


def _dns_names(names: t.Iterable[certificate.AlternativeName]) -> tuple[str, ...]:
    return tuple(sorted(name.value for name in names if name.type == "dns"))
