# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The spellings of one signature: DER, raw r and s, and either of them in base64."""

from __future__ import annotations

import typing as t
from contextlib import suppress

from ... import _base64
from ..._libraries import optional
from ..algorithms import verifies
from ..pem import PublicKey

with optional():
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature


def verified(
    data: bytes, message: bytes, public: PublicKey, *, schemes: t.Sequence[str] | None, is_text: bool = True
) -> bytes | None:
    """Return the signature that C(data) means and that C(public) made over C(message), ECDSA as DER; None if none is.

    With C(is_text) it may be base64.
    """
    for signature in _spellings(data, public, is_text=is_text):
        if verifies(public.key, signature=signature, message=message, schemes=schemes):
            return signature
    return None


def _spellings(data: bytes, public: PublicKey, *, is_text: bool) -> t.Iterator[bytes]:
    found = [data]
    with suppress(ValueError):
        found += [_base64.decode(b"".join(data.split()).decode("ascii"))] if is_text else []
    for signature in found:
        yield signature
        if public.algorithm.family == "ec" and len(signature) == 2 * ((public.algorithm.size + 7) // 8):
            half = len(signature) // 2
            yield encode_dss_signature(int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big"))
