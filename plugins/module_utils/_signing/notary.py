# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Having a signature witnessed before it is attached: by a transparency log, by a timestamp authority."""

from __future__ import annotations

import datetime
import hashlib
import typing as t
from dataclasses import dataclass

from .. import _strict_json
from .._errors import FormatError, RegistryError
from .._keys.algorithms import SCHEMES
from .._oci.transport import RegistrySettings, Request
from .._transparency import body as bodies
from .._transparency import proof, rekor, timestamp
from .._transparency.entry import LogEntry
from .._transparency.log_key import LogKey
from . import dsse
from .material import Material, SignerCertificate

_TIMESTAMP_LIMIT = 64 * 1024


@dataclass(frozen=True)
class Signed:
    """A signature as it was made: over C(message), in C(scheme); C(envelope) holds it in format bundle."""

    signature: bytes
    message: bytes
    scheme: str
    spki: bytes
    certificate: bytes | None
    verifier_pem: str
    envelope: dsse.Envelope | None = None


@dataclass(frozen=True)
class Notary:
    """Where signatures are witnessed. What a service answers is verified before anything is attached."""

    log: rekor.Log | None = None
    log_keys: tuple[LogKey, ...] = ()
    timestamper: Timestamper | None = None

    def witness(self, signed: Signed, certificate: SignerCertificate | None, *, where: str) -> Material:
        """Return what goes with the signature.

        Raises RegistryError (service_unavailable), VerificationError (log_invalid, timestamp_invalid).
        """
        entries = () if self.log is None else (self._enter(self.log, signed, where),)
        stamps = () if self.timestamper is None else (self.timestamper.stamp(signed.signature, where=where),)
        return Material(certificate, entries, stamps)

    def _enter(self, log: rekor.Log, signed: Signed, where: str) -> LogEntry:
        found = log.add(proposal(signed, where=where))
        proof.verify(
            found, subject=subject_of(signed), keys=self.log_keys, needs_proof=True,
            now=datetime.datetime.now(datetime.timezone.utc), where=where,
        )
        return found


def proposal(signed: Signed, *, where: str) -> bytes:
    """Return what is proposed to the log. Raises FormatError (unsupported_algorithm)."""
    scheme = SCHEMES[signed.scheme]
    is_dsse = signed.envelope is not None
    # Rekor verifies what it stores: envelopes by pure Ed25519 or with SHA-256, anything else by its digest.
    fits = scheme.hash in ("", "sha256") if is_dsse else bool(scheme.hash)
    if not fits or scheme.is_pss:
        raise FormatError(
            code="unsupported_algorithm", object=where, attempt="store the signature in the log",
            cause=f"logs take no {signed.scheme} signatures of format {'bundle' if is_dsse else 'sig'}",
            advice="Use a P-256 or RSA key; with Ed25519, formats: [bundle].",
        )
    if signed.envelope is not None:
        envelope = _strict_json.dumps(dsse.encode(signed.envelope), escape_html=False)
        return bodies.dsse(envelope=envelope, verifier_pem=signed.verifier_pem)
    return bodies.hashedrekord(
        digest=hashlib.new(scheme.hash, signed.message).digest(),
        hash_algorithm=t.cast(bodies.HashAlgorithm, scheme.hash),
        signature=signed.signature, verifier_pem=signed.verifier_pem,
    )


def subject_of(signed: Signed) -> proof.Subject:
    """Return what an entry about the signature must be about."""
    return proof.Subject(
        signature=signed.signature, message=signed.message,
        payload=signed.envelope.payload if signed.envelope else signed.message,
        spki=signed.spki, certificate=signed.certificate, is_dsse=signed.envelope is not None,
    )


class Timestamper:
    """A timestamp authority by its URL, and the certificates its answers are verified with."""

    def __init__(
        self, url: str, settings: RegistrySettings, authorities: tuple[timestamp.TimestampAuthority, ...]
    ) -> None:
        self._url = rekor.parse_url(url, option="timestamp_authority.url")
        self._transport = rekor.transport_to(self._url.host, settings, plain_http=self._url.is_plain)
        self.authorities = authorities

    def stamp(self, signature: bytes, *, where: str) -> bytes:
        """Return a verified RFC 3161 response for a signature."""
        try:
            answer = self._transport.send(Request(
                "POST", self._url.path or "/", "", "get a timestamp",
                {"Content-Type": "application/timestamp-query", "Accept": "application/timestamp-reply"},
                timestamp.request(signature), limit=_TIMESTAMP_LIMIT, accepted=(200, 201),
            ))
        except RegistryError as exc:
            raise rekor.unavailable(exc) from exc
        timestamp.verify(answer.body, signature=signature, authorities=self.authorities, where=where)
        return answer.body
