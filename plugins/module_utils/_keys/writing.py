# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Writing private keys: PKCS#8, plain or encrypted, and cosign's format. Who signs only reads them."""

from __future__ import annotations

import typing as t

from .._libraries import optional
from . import pem
from .private_key import COSIGN_LABELS, KeyFormat

with optional():
    from cryptography.hazmat.primitives import serialization

if t.TYPE_CHECKING:
    from .algorithms import AnyPrivateKey

MINIMUM_PASSPHRASE = 8


def require_writable(*, format: KeyFormat, passphrase: bytes | None) -> None:
    """Refuse a passphrase that no new key gets.

    Raises KeyFileError (passphrase_invalid): a new file wants 8 or more characters or none; cosign's wants one.
    """
    if passphrase is not None and len(passphrase.decode("utf-8", "replace")) < MINIMUM_PASSPHRASE:
        raise pem.unreadable(
            "passphrase", "passphrase_invalid", f"a new key wants {MINIMUM_PASSPHRASE} or more characters, or none",
            "Choose a longer one.",
        )
    if format == "cosign" and passphrase is None:
        raise pem.unreadable(
            "passphrase", "passphrase_invalid", "cosign's key format is always encrypted",
            "Give passphrase or passphrase_path, or choose format pem.",
        )


def write_private_key(key: AnyPrivateKey, *, format: KeyFormat, passphrase: bytes | None) -> bytes:
    """Return the file for C(key): PKCS#8 PEM, encrypted when a passphrase is given, or cosign's format.

    Raises KeyFileError (passphrase_invalid) as C(require_writable()), and for what is too long for PKCS#8.
    """
    require_writable(format=format, passphrase=passphrase)
    if format == "pem":
        try:
            return key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption(),
            )
        except ValueError:
            raise pem.unreadable(
                "passphrase", "passphrase_invalid", "it is too long for PKCS#8", "Use less than 1024 bytes."
            ) from None
    from . import encrypted_key

    der = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem.pem_text(COSIGN_LABELS[0], encrypted_key.encrypt(der, t.cast(bytes, passphrase)))
