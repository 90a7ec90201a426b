# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is attached to a signature beside it: a certificate with its chain, log entries, timestamps."""

from __future__ import annotations

import datetime
import typing as t
from dataclasses import dataclass

from .. import _base64
from .._errors import KeyFileError
from .._keys import certificate as certificates
from .._keys import pem
from .._keys.fingerprint import key_id
from .._libraries import optional
from .._transparency import entry as entries
from .._transparency.entry import LogEntry
from . import certificate_path, certified, evidence
from .candidate import CERTIFICATE_ANNOTATION, CHAIN_ANNOTATION, LOG_ANNOTATION, TIMESTAMP_ANNOTATION

if t.TYPE_CHECKING:
    from .._reason_codes import ReasonCode

with optional():
    from cryptography import x509


@dataclass(frozen=True)
class SignerCertificate:
    """The certificate of a signer and the issuers above it, in order."""

    leaf: x509.Certificate
    chain: tuple[x509.Certificate, ...] = ()

    @property
    def pem(self) -> str:
        """The leaf as PEM, as cosign writes it."""
        return _pem(self.leaf)


@dataclass(frozen=True)
class Material:
    """What goes with one signature."""

    certificate: SignerCertificate | None = None
    entries: tuple[LogEntry, ...] = ()
    timestamps: tuple[bytes, ...] = ()

    def as_annotations(self) -> dict[str, str]:
        """Return the annotations of a C(.sig) layer; it has room for one entry and one timestamp."""
        found: dict[str, str] = {}
        if self.certificate is not None:
            found[CERTIFICATE_ANNOTATION] = self.certificate.pem
            found[CHAIN_ANNOTATION] = "".join(_pem(one) for one in self.certificate.chain)
        for one in self.entries[:1]:
            found[LOG_ANNOTATION] = entries.as_annotation(one)
        for response in self.timestamps[:1]:
            found[TIMESTAMP_ANNOTATION] = evidence.timestamp_annotation(response)
        return found

    def as_bundle(self) -> dict[str, t.Any]:
        """Return members of a bundle's verificationMaterial; version 0.3 has room for the leaf, not for its chain."""
        found: dict[str, t.Any] = {}
        if self.certificate is not None:
            found["certificate"] = {"rawBytes": _base64.encode(certified.der_of(self.certificate.leaf))}
        if self.entries:
            found["tlogEntries"] = [entries.as_bundle(one) for one in self.entries]
        if self.timestamps:
            found["timestampVerificationData"] = {
                "rfc3161Timestamps": [{"signedTimestamp": _base64.encode(one)} for one in self.timestamps]
            }
        return found


def read_certificate(leaf: bytes, chain: bytes | None, *, public: pem.PublicKey, where: str) -> SignerCertificate:
    """Read the certificate of a signer, and the issuers above it, from PEM.

    Raises KeyFileError: malformed, key_mismatch (of another key), eku_mismatch (not for code signing, which no verifier
    takes), certificate_expired (outside its validity: no signature of today would count).
    """
    certs = certificate_path.read_certificates(leaf, where=where)
    if chain is not None:
        certs += certificate_path.read_certificates(chain, where=where)
    facts = certificates.read_chain(leaf + (chain or b""), where=where)
    found = key_id(t.cast(t.Any, certs[0].public_key()))
    if found != public.key_id:
        raise _unfit("key_mismatch", where, f"it is of the key {found}, and the signer's is {public.key_id}")
    if facts.eku and not {"codeSigning", "anyExtendedKeyUsage"} & set(facts.eku):
        raise _unfit("eku_mismatch", where, f"it is for {', '.join(facts.eku)} and not for code signing")
    now = datetime.datetime.now(datetime.timezone.utc)
    if not certs[0].not_valid_before_utc <= now <= certs[0].not_valid_after_utc:
        raise _unfit("certificate_expired", where, f"it is valid from {facts.not_before} to {facts.not_after}")
    return SignerCertificate(certs[0], tuple(certs[1:]))


def _pem(one: x509.Certificate) -> str:
    return pem.pem_text("CERTIFICATE", certified.der_of(one)).decode("ascii")


def _unfit(code: ReasonCode, where: str, cause: str) -> KeyFileError:
    return KeyFileError(
        code=code, object=where, attempt="attach the certificate", cause=cause,
        advice="Have the certificate authority issue one for code signing from the request at csr_path.",
    )
