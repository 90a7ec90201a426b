# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Authorities that are issuers of certificates: a private code-signing PKI, and the name it must vouch for."""

from __future__ import annotations

import datetime
import typing as t
from dataclasses import dataclass

from .._errors import HallmarkError, VerificationError
from .._keys import pem
from .._keys.fingerprint import key_id
from .._libraries import optional
from . import certificate_path, identity
from .authority import Authority
from .candidate import CERTIFICATE_ANNOTATION, CHAIN_ANNOTATION, Candidate

with optional():
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

CODE_SIGNING = "codeSigning"


@dataclass(frozen=True)
class Issuer:
    """Who may vouch for a signer: trusted roots, intermediates that help to reach them, a usage and a name."""

    roots: tuple[x509.Certificate, ...]
    identity: identity.Identity
    intermediates: tuple[x509.Certificate, ...] = ()
    eku: str = CODE_SIGNING


def claimed_leaf(candidate: Candidate, where: str) -> x509.Certificate:
    """Return the certificate that came with a signature. Raises HallmarkError (malformed)."""
    if candidate.material is not None:
        raw = candidate.material.object("certificate").only("rawBytes").base64("rawBytes")
        return certificate_path.read_leaf_der(raw, where=where)
    data = candidate.annotations[CERTIFICATE_ANNOTATION].encode("utf-8", "replace")
    leaf, *more = certificate_path.read_certificates(data, where=where)
    if more:
        raise VerificationError(
            code="malformed", object=where, attempt="read the certificate of a signature",
            cause="there is more than one", advice="Find out what wrote it; it does not count.",
        )
    return leaf


def der_of(certificate: x509.Certificate) -> bytes:
    """Return the DER of a certificate."""
    return certificate.public_bytes(serialization.Encoding.DER)


def claimed_key(candidate: Candidate, where: str) -> pem.PublicKey:
    """Return the key of the certificate that came with a signature. Raises HallmarkError."""
    return pem.public_key(claimed_leaf(candidate, where).public_key(), where=where)


def vouching(
    candidate: Candidate, authorities: t.Sequence[Authority], *,
    denied: t.Collection[str], times: t.Sequence[datetime.datetime], where: str,
) -> tuple[Authority, ...]:
    """Return those of C(authorities) whose issuer vouches for the certificate at each of C(times); now, if none.

    The chain that came with a signature helps to find a path and is never trusted. Raises VerificationError: the
    reason of the last authority, if none vouches; key_denied, if any key of a path is.
    """
    leaf = claimed_leaf(candidate, where)
    chain = candidate.annotations.get(CHAIN_ANNOTATION, "").encode("utf-8", "replace")
    brought = certificate_path.read_certificates(chain, where=where) if chain.strip() else ()
    found: list[Authority] = []
    failure: HallmarkError | None = None
    for authority in authorities:
        issuer = t.cast(Issuer, authority.issuer)
        try:
            for moment in times or [datetime.datetime.now(datetime.timezone.utc)]:
                path = certificate_path.find_path(
                    leaf, intermediates=(*issuer.intermediates, *brought), roots=issuer.roots, at=moment,
                    eku=issuer.eku, where=where,
                )
                _refuse_denied(path, denied, where)
            _require_name(leaf, authority, issuer, where)
        except HallmarkError as exc:
            failure = exc
        else:
            found.append(authority)
    if failure is not None and not found:
        raise failure
    return tuple(found)


def _refuse_denied(path: t.Iterable[x509.Certificate], denied: t.Collection[str], where: str) -> None:
    for certificate in path:
        if key_id(t.cast(t.Any, certificate.public_key())) in denied:
            raise _refused("key_denied", where, "a key on the path of its certificate is denied")


def _require_name(leaf: x509.Certificate, authority: Authority, issuer: Issuer, where: str) -> None:
    if not issuer.identity.matches(leaf):
        names = ", ".join(f"{name.type}:{name.value}"[:100] for name in identity.names_of(leaf)[:5]) or "none"
        raise _refused(
            "identity_mismatch", where, f"no name of its certificate is that of authority {authority.name}: {names}"
        )


def _refused(code: t.Literal["key_denied", "identity_mismatch"], where: str, cause: str) -> VerificationError:
    return VerificationError(
        code=code, object=where, attempt="count a signature", cause=cause,
        advice="It does not count; others on the same image still may.",
    )
