# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Signatures that were made elsewhere: in an HSM room, by a signing server, on a machine without network.

They are taken back with the bytes they are over, and believed only after they were verified.
"""

from __future__ import annotations

import hashlib
import typing as t
from dataclasses import dataclass, field

from ..._errors import KeyFileError
from ..._libraries import optional
from .. import algorithms, pem
from ..files import read_key_file
from ..fingerprint import expect_key_id
from . import spelling

if t.TYPE_CHECKING:
    from ..._reason_codes import ReasonCode

with optional():
    from cryptography import x509


@dataclass(frozen=True)
class Files:
    """One signature: the file that was signed, its signature, and the public key unless a certificate has it."""

    payload_path: str
    signature_path: str
    public_key_path: str | None = None


@dataclass(frozen=True)
class ExternalSigner:
    """Hands out verified signatures, by the bytes they are over."""

    public: pem.PublicKey
    signatures: t.Mapping[bytes, bytes] = field(repr=False)
    # Whoever signed chose it.
    chooses_scheme: t.ClassVar[bool] = False

    def answers_in(self, asked: str) -> str:
        """Return C(asked)."""
        return asked

    def prepare(self, messages: t.Collection[bytes]) -> None:
        """Refuse messages that were not signed. Raises KeyFileError (not_found) that names their SHA-256."""
        missing = sorted(hashlib.sha256(message).hexdigest() for message in messages if message not in self.signatures)
        if missing:
            raise KeyFileError(
                code="not_found", object="external", attempt="sign with what was signed elsewhere",
                cause=f"no payload_path holds the {len(missing)} payloads with SHA-256 {', '.join(missing[:5])}",
                advice="Write them with image_payload and the same options, have them signed, and name all of them.",
            )

    def sign(self, message: bytes, *, scheme: str | None = None) -> bytes:
        """Return the signature that was made over C(message)."""
        del scheme
        self.prepare([message])
        return self.signatures[message]


def load(
    files: t.Sequence[Files], *, certificate_path: str | None, key_id: str | None, scheme: str | None
) -> ExternalSigner:
    """Read and verify signatures by one key; C(scheme) is the only one they may be in, or None for the usual ones.

    Signatures may be DER, as openssl writes them, raw r and s, as HSMs do, and either of them in base64.
    Raises KeyFileError: not_found, malformed, key_mismatch, signature_invalid, unsupported_algorithm, input_invalid.
    """
    if not files:
        raise _refused("input_invalid", "external", "the list is empty", "Name at least one signature.")
    publics = {_public_key(one, certificate_path) for one in files}
    if len({public.key_id for public in publics}) != 1:
        raise _refused("key_mismatch", "external", "it names several keys", "Give each key as a signer of its own.")
    public = publics.pop()
    expect_key_id(public.key_id, key_id, where="external")
    schemes = None if scheme is None else (algorithms.scheme_for(public.algorithm, scheme, where="external").name,)
    found: dict[bytes, bytes] = {}
    for one in files:
        message = read_key_file(one.payload_path)
        found[message] = _verified(read_key_file(one.signature_path), message, public, schemes, one)
    return ExternalSigner(public, found)


def _public_key(one: Files, certificate_path: str | None) -> pem.PublicKey:
    if one.public_key_path is not None:
        return pem.read_public_key(read_key_file(one.public_key_path), where=one.public_key_path)
    if certificate_path is None:
        raise _refused(
            "input_invalid", "external", "neither public_key_path nor certificate_path is there",
            "Name the public key, or the certificate of the signer.",
        )
    block = pem.split(read_key_file(certificate_path), where=certificate_path, what="certificate")[0]
    try:
        key = x509.load_pem_x509_certificate(block.text).public_key()
    except ValueError as exc:
        raise _refused(
            "malformed", certificate_path, "no certificate can be parsed", "Check that the file is whole."
        ) from exc
    return pem.public_key(key, where=certificate_path)


def _verified(
    data: bytes, message: bytes, public: pem.PublicKey, schemes: tuple[str, ...] | None, one: Files
) -> bytes:
    signature = spelling.verified(data, message, public, schemes=schemes)
    if signature is None:
        raise _refused(
            "signature_invalid", one.signature_path,
            f"the key {public.key_id} did not make it over the bytes of {one.payload_path}",
            "Sign exactly these bytes, for instance by: openssl dgst -sha256 -sign KEY -out SIGNATURE PAYLOAD.",
        )
    return signature


def _refused(code: ReasonCode, where: str, cause: str, advice: str) -> KeyFileError:
    return KeyFileError(code=code, object=where, attempt="take over the signature", cause=cause, advice=advice)
