# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Content digests (OCI image specification, "Digests"): always recomputed from bytes, never believed."""

from __future__ import annotations

import hashlib
import re

from .._errors import FormatError

# Both registered algorithms; hexadecimal is lower-case and of exact length, so a digest is safe in a path.
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")


def is_digest(text: str) -> bool:
    """Say whether C(text) is a well-formed digest of a registered algorithm."""
    return _DIGEST.fullmatch(text) is not None


def require_digest(text: str, *, where: str) -> str:
    """Return C(text) if it is a digest. Raises FormatError (malformed)."""
    if not is_digest(text):
        raise FormatError(
            code="malformed", object=where, attempt="read the digest",
            cause=f"{text[:150]!r} is neither sha256: with 64 nor sha512: with 128 lower-case hexadecimal characters",
            advice="Give the digest as the registry shows it.",
        )
    return text


def digest_of(data: bytes, *, algorithm: str = "sha256") -> str:
    """Return the digest of C(data) as C(algorithm:hex)."""
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def check(data: bytes, expected: str, *, where: str) -> None:
    """Refuse bytes that do not have the digest they were asked for by. Raises FormatError (digest_mismatch)."""
    found = digest_of(data, algorithm=require_digest(expected, where=where).partition(":")[0])
    if found != expected:
        raise FormatError(
            code="digest_mismatch", object=where, attempt=f"use what was received for {expected}",
            cause=f"the bytes have digest {found}",
            advice="The registry or something between serves wrong content; do not use it.",
        )
