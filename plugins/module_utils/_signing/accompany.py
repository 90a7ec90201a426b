# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Deciding what goes with a signature, and whether one that is there has it already."""

from __future__ import annotations

import typing as t

from .._errors import HallmarkError
from .._keys import making
from .._keys.pem import PublicKey
from . import certified, dsse, evidence
from .candidate import Candidate
from .evidence import Evidence
from .material import Material
from .notary import Signed

if t.TYPE_CHECKING:
    from .sign import Wish


def material(
    wish: Wish, public: PublicKey, signature: bytes, message: bytes, envelope: dsse.Envelope | None, *, where: str
) -> Material:
    """Return what goes with a new signature. Raises RegistryError and VerificationError as C(Notary.witness())."""
    certificate = wish.certificates.get(public.key_id)
    if wish.notary is None:
        return Material(certificate)
    signed = Signed(
        signature=signature, message=message, scheme=making.scheme_of(public.key, signature, message),
        spki=public.der, certificate=certified.der_of(certificate.leaf) if certificate else None,
        verifier_pem=certificate.pem if certificate else public.pem, envelope=envelope,
    )
    return wish.notary.witness(signed, certificate, where=where)


def has(candidate: Candidate, wish: Wish, public: PublicKey, *, where: str) -> bool:
    """Say whether a signature has the certificate, the log entry and the timestamp that a new one would get."""
    certificate = wish.certificates.get(public.key_id)
    try:
        if certificate is None:
            if candidate.format == "bundle" and candidate.has_certificate:
                return False
        elif not candidate.has_certificate or certified.claimed_leaf(candidate, where) != certificate.leaf:
            return False
        if wish.notary is not None:
            evidence.times(candidate, public, _wanted(wish), where=where)
    except HallmarkError:
        return False
    return True


def _wanted(wish: Wish) -> Evidence:
    notary = wish.notary
    if notary is None:
        return Evidence()
    authorities = notary.timestamper.authorities if notary.timestamper else ()
    return Evidence(
        logs=notary.log_keys, require_log=notary.log is not None,
        timestamp_authorities=authorities, require_timestamp=bool(authorities),
    )
