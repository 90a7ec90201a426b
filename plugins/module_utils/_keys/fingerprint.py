# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The key id: the only identity of a key."""

from __future__ import annotations

import hashlib
import re
import typing as t

from .._errors import KeyFileError
from .._libraries import optional

with optional():
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

if t.TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

_KEY_ID = re.compile(r"[0-9a-f]{64}")


def spki_der(public_key: PublicKeyTypes) -> bytes:
    """Return the DER SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7), points of curves never compressed."""
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        # cryptography 38 keeps a compressed point as it was read, and one key would have two ids.
        public_key = public_key.public_numbers().public_key()
    return public_key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def key_id(public_key: PublicKeyTypes) -> str:
    """Return the key id: lower-case hex SHA-256 of the DER SubjectPublicKeyInfo, 64 characters."""
    return hashlib.sha256(spki_der(public_key)).hexdigest()


def require_key_id(text: str, *, option: str) -> str:
    """Return C(text) if it has the form of a key id. Raises KeyFileError (input_invalid)."""
    if not _KEY_ID.fullmatch(text):
        raise KeyFileError(
            code="input_invalid", object=option, attempt="use it as a key id",
            cause=f"{text!r} is not 64 lower-case hexadecimal characters",
            advice="Take the key_id that hallmark.signing.signing_key_info returns.",
        )
    return text


def expect_key_id(found: str, expected: str | None, *, where: str) -> None:
    """Refuse a key other than the expected one. Raises KeyFileError (key_mismatch); None expects nothing."""
    if expected is not None and found != require_key_id(expected, option="key_id"):
        raise KeyFileError(
            code="key_mismatch", object=where, attempt="use the key",
            cause=f"its key id is {found}, expected {expected}",
            advice="Point to the expected key, or change key_id after finding out why the key changed.",
        )
