# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ed25519ph (RFC 8032 section 5.1, prehashed, empty context): what cosign 3 makes of an image with an Ed25519 key.

C(cryptography) knows pure Ed25519 only; libsodium, by way of PyNaCl, knows both.
"""

from __future__ import annotations

import typing as t

from .._libraries import optional, require

with optional():
    import nacl.bindings
    from cryptography.hazmat.primitives import serialization
    from nacl.exceptions import BadSignatureError

if t.TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_LENGTH = 64


def sign(key: Ed25519PrivateKey, message: bytes) -> bytes:
    """Return the 64 bytes of the signature. Raises LibraryError without PyNaCl."""
    require("nacl")
    seed = key.private_bytes(
        serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption()
    )
    return nacl.bindings.crypto_sign_ed25519ph_final_create(
        _hashed(message), nacl.bindings.crypto_sign_seed_keypair(seed)[1]
    )


def verifies(key: Ed25519PublicKey, *, signature: bytes, message: bytes) -> bool:
    """Say whether C(key) made the signature. Raises LibraryError without PyNaCl."""
    if len(signature) != _LENGTH:
        return False
    require("nacl")
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    try:
        return nacl.bindings.crypto_sign_ed25519ph_final_verify(_hashed(message), signature, raw)
    except BadSignatureError:
        return False


def _hashed(message: bytes) -> nacl.bindings.crypto_sign_ed25519ph_state:
    state = nacl.bindings.crypto_sign_ed25519ph_state()
    nacl.bindings.crypto_sign_ed25519ph_update(state, message)
    return state
