# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Signatures that another host made by C(payload_signature): believed only after they were verified here."""

from __future__ import annotations

import hashlib
import typing as t
from dataclasses import dataclass, field

from ... import _base64
from ..._errors import KeyFileError
from .. import pem
from ..algorithms import scheme_for, verifies
from ..fingerprint import expect_key_id

if t.TYPE_CHECKING:
    from ..._reason_codes import ReasonCode


@dataclass(frozen=True)
class ReturnedSigner:
    """Hands out the signatures of one key, by the SHA-256 of what they are over."""

    public: pem.PublicKey
    schemes: tuple[str, ...] | None
    signatures: t.Mapping[str, bytes | None] = field(repr=False)
    dry_run: bool = False
    # The host with the key chose it.
    chooses_scheme: t.ClassVar[bool] = False

    def answers_in(self, asked: str) -> str:
        """Return C(asked)."""
        return asked

    def prepare(self, messages: t.Collection[bytes]) -> None:
        """Refuse messages that were not signed, and signatures that are not over them.

        Raises KeyFileError: not_found, signature_invalid.
        """
        for message in messages:
            self.sign(message)

    def sign(self, message: bytes, *, scheme: str | None = None) -> bytes:
        """Return the signature that was made over C(message)."""
        del scheme
        sha256 = hashlib.sha256(message).hexdigest()
        signature = self.signatures.get(sha256)
        if signature is None and self.dry_run and sha256 in self.signatures:
            # The other host signed nothing either.
            return b""
        if signature is None:
            raise _refused(
                "not_found", f"none is over the bytes with SHA-256 {sha256}",
                "Prepare them by image_payload with the same images and options as here, and sign all of them.",
            )
        if not verifies(self.public.key, signature=signature, message=message, schemes=self.schemes):
            raise _refused(
                "signature_invalid", f"the key {self.public.key_id} did not make the one over {sha256}",
                "Have it signed anew.",
            )
        return signature


def load(
    entries: t.Sequence[t.Mapping[str, t.Any]], *, key_id: str | None, scheme: str | None, dry_run: bool = False
) -> ReturnedSigner:
    """Read entries of C(payload_signature): C(sha256), C(signature) in base64, C(public_key) as PEM, all by one key.

    A signature may be None in a dry run, in which the other host made none either.

    Raises KeyFileError: input_invalid, malformed, key_mismatch, unsupported_algorithm.
    """
    if not entries:
        raise _refused("input_invalid", "the list is empty", "Give what payload_signature returned.")
    texts = {str(entry["public_key"]) for entry in entries}
    if len(texts) != 1:
        raise _refused("key_mismatch", "they are by several keys", "Give each key as a signer of its own.")
    public = pem.read_public_key(texts.pop().encode("utf-8", "replace"), where="signatures")
    expect_key_id(public.key_id, key_id, where="signatures")
    schemes = None if scheme is None else (scheme_for(public.algorithm, scheme, where="signatures").name,)
    try:
        found = {
            str(entry["sha256"]): None if entry["signature"] is None else _base64.decode(str(entry["signature"]))
            for entry in entries
        }
    except ValueError as exc:
        raise _refused("malformed", f"a signature is {exc}", "Give it as payload_signature returned it.") from exc
    return ReturnedSigner(public, schemes, found, dry_run)


def _refused(code: ReasonCode, cause: str, advice: str) -> KeyFileError:
    return KeyFileError(
        code=code, object="signatures", attempt="take over what another host signed", cause=cause, advice=advice
    )
