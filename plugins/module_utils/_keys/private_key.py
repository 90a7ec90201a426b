# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private keys in every shape users have: PKCS#8 plain and encrypted, SEC1, PKCS#1, cosign's."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from .._libraries import optional
from . import pem
from .algorithms import algorithm_of
from .fingerprint import spki_der
from .pem import PemBlock, PublicKey, public_key, split

with optional():
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

if t.TYPE_CHECKING:
    from .algorithms import AnyPrivateKey

_PLAIN_PRIVATE = ("PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY")
# Written today, and before cosign 2.
COSIGN_LABELS = ("ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY")
_ENCRYPTED_PKCS8 = "ENCRYPTED PRIVATE KEY"

KeyFormat = t.Literal["pem", "cosign"]


@dataclass(frozen=True)
class PrivateKey:
    """A private key as read from a file. Its C(repr) shows public facts only."""

    key: AnyPrivateKey = field(repr=False)
    public: PublicKey
    format: KeyFormat
    encrypted: bool


def read_private_key(data: bytes, *, passphrase: bytes | None, where: str) -> PrivateKey:
    """Read the one private key in C(data); a passphrase given for a plain key is not used.

    Raises KeyFileError: malformed, passphrase_invalid (wrong or missing), unsupported_algorithm.
    """
    block = only_private_block(data, where=where)
    if block.is_encrypted and passphrase is None:
        raise pem.unreadable(
            where, "passphrase_invalid", "it is encrypted and no passphrase was given",
            "Give passphrase or passphrase_path.",
        )
    if block.label in COSIGN_LABELS:
        from . import encrypted_key

        der = encrypted_key.decrypt(pem.decode_block(block, where), t.cast(bytes, passphrase), where=where)
        return _private(_load(pem.pem_text("PRIVATE KEY", der), None, where), "cosign", True, where)
    if not block.is_encrypted and block.label == "PRIVATE KEY" and pem.PSS_OID in pem.decode_block(block, where):
        raise pem.restricted(where)
    secret = passphrase if block.is_encrypted else None
    return _private(_load(block.text, secret, where), "pem", block.is_encrypted, where)


def only_private_block(data: bytes, *, where: str) -> PemBlock:
    """Return the single private key block of C(data); leading EC PARAMETERS, as openssl writes, are dropped.

    Raises KeyFileError (malformed) that says what the file is instead.
    """
    blocks = list(split(data, where=where))
    if blocks[0].label == "EC PARAMETERS":
        del blocks[0]
    if len(blocks) != 1:
        found = ", ".join(block.label for block in blocks) or "EC PARAMETERS only"
        raise pem.unreadable(
            where, "malformed", f"it must hold exactly one private key, but holds: {found}",
            "Put each key into a file of its own.",
        )
    label = blocks[0].label
    if label not in (*_PLAIN_PRIVATE, _ENCRYPTED_PKCS8, *COSIGN_LABELS):
        found = pem.ARTICLE.get(label, f"a PEM block of type {label}")
        raise pem.unreadable(
            where, "malformed", f"it is {found}, not a private key that can be read here",
            "Give a PKCS#8, SEC1, PKCS#1 or cosign private key.",
        )
    return blocks[0]


def _load(text: bytes, passphrase: bytes | None, where: str) -> object:
    try:
        return serialization.load_pem_private_key(text, passphrase)
    except UnsupportedAlgorithm as exc:
        raise pem.unknown_algorithm(where) from exc
    except (ValueError, TypeError):
        # The library's own text is not shown: it is of no use, and must never quote input.
        pass
    if passphrase == b"":
        raise pem.unreadable(
            where, "passphrase_invalid", "an empty passphrase does not open it; PKCS#8 cannot be read with one",
            "Write it anew with a passphrase: openssl pkcs8 -topk8 -in FILE -out NEW.",
        )
    if passphrase is None:
        raise pem.unreadable(where, "malformed", "no private key can be parsed", "Check that the file is whole.")
    raise pem.unreadable(
        where, "passphrase_invalid", "the passphrase is wrong, or the file is damaged",
        "Check passphrase or passphrase_path.",
    )


def _private(key: object, format: KeyFormat, encrypted: bool, where: str) -> PrivateKey:
    algorithm_of(key, where=where)
    known = t.cast("AnyPrivateKey", key)
    public = public_key(known.public_key(), where=where)
    if isinstance(known, ec.EllipticCurvePrivateKey):
        # A file carries both halves; libraries before cryptography 43 do not compare them.
        derived = ec.derive_private_key(known.private_numbers().private_value, known.curve).public_key()
        if spki_der(derived) != public.der:
            raise pem.unreadable(
                where, "malformed", "its public half is of another key", "Check that the file is whole."
            )
    return PrivateKey(known, public, format, encrypted)
