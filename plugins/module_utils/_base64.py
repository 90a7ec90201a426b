# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Canonical base64 (RFC 4648 section 4), both ways."""

from __future__ import annotations

import base64
import binascii


def encode(data: bytes) -> str:
    """Return C(data) in standard base64 with padding, in one line."""
    return base64.b64encode(data).decode("ascii")


def decode(text: str) -> bytes:
    """Return the bytes of canonical base64: standard alphabet, padded, no spare bits, no white space.

    Raises ValueError; the bytes of a signature have exactly one spelling that is taken.
    """
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as exc:
        raise ValueError(f"not base64: {exc}") from exc
    if encode(data) != text:
        raise ValueError("not canonical base64")
    return data
