# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Key files in every shape users have: PKCS#8 plain and encrypted, SEC1, PKCS#1, cosign's, SPKI.

PEM is read strictly (RFC 7468): one key per file, so that two tools cannot pick two different ones.
"""

from __future__ import annotations

import base64
import binascii
import re
import textwrap
import typing as t
from dataclasses import dataclass, field

from .._errors import KeyFileError
from .._libraries import optional
from . import encrypted_key
from .algorithms import Algorithm, algorithm_of
from .fingerprint import key_id, spki_der

with optional():
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

if t.TYPE_CHECKING:
    from .algorithms import AnyPrivateKey, AnyPublicKey

MINIMUM_PASSPHRASE = 8
_BLOCK = re.compile(
    rb"-----BEGIN ([A-Z0-9 ]+)-----[ \t]*\r?\n(.*?)-----END \1-----[ \t]*(?:\r?\n|\Z)", re.DOTALL
)
_PLAIN_PRIVATE = ("PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY")
_ENCRYPTED_PKCS8 = "ENCRYPTED PRIVATE KEY"
_PUBLIC = ("PUBLIC KEY", "RSA PUBLIC KEY")
_ARTICLE = {"CERTIFICATE": "a certificate", "OPENSSH PRIVATE KEY": "an OpenSSH private key"}

KeyFormat = t.Literal["pem", "cosign"]


@dataclass(frozen=True)
class PemBlock:
    """One block of a PEM file: its label, its text, and the text between its marks (which may be secret)."""

    label: str
    text: bytes = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def is_private(self) -> bool:
        """Whether the block holds private material of any kind."""
        return self.label.endswith("PRIVATE KEY")

    @property
    def is_encrypted(self) -> bool:
        """Whether a passphrase protects the block: by its label, or by the headers of RFC 1421."""
        return self.label.startswith("ENCRYPTED ") or b"Proc-Type: 4,ENCRYPTED" in self.body


@dataclass(frozen=True)
class PublicKey:
    """A public key with its algorithm, its key id and its DER SubjectPublicKeyInfo."""

    key: AnyPublicKey
    algorithm: Algorithm
    key_id: str
    der: bytes

    @property
    def pem(self) -> str:
        """The SubjectPublicKeyInfo as PEM, 64 columns, with a newline at its end, as cosign writes it."""
        return _pem_text("PUBLIC KEY", self.der).decode("ascii")


@dataclass(frozen=True)
class PrivateKey:
    """A private key as read from a file. Its C(repr) shows public facts only."""

    key: AnyPrivateKey = field(repr=False)
    public: PublicKey
    format: KeyFormat
    encrypted: bool


def split(data: bytes, *, where: str) -> tuple[PemBlock, ...]:
    """Return the PEM blocks of C(data); text between them is ignored, as RFC 7468 section 2 allows.

    Raises KeyFileError (malformed): no block at all, or one without its end.
    """
    blocks = tuple(
        PemBlock(match.group(1).decode("ascii"), match.group(0), match.group(2)) for match in _BLOCK.finditer(data)
    )
    if not blocks or len(blocks) != data.count(b"-----BEGIN "):
        cause = "it holds no PEM block" if b"-----BEGIN " not in data else "a PEM block has no matching end"
        raise _unreadable(where, "malformed", cause, "Convert DER files with: openssl pkey -inform DER -in FILE.")
    return blocks


def read_private_key(data: bytes, *, passphrase: bytes | None, where: str) -> PrivateKey:
    """Read the one private key in C(data); a passphrase given for a plain key is not used.

    Raises KeyFileError: malformed, passphrase_invalid (wrong or missing), unsupported_algorithm.
    """
    block = only_private_block(data, where=where)
    if block.is_encrypted and passphrase is None:
        raise _unreadable(
            where, "passphrase_invalid", "it is encrypted and no passphrase was given",
            "Give passphrase or passphrase_path.",
        )
    if block.label in encrypted_key.LABELS:
        der = encrypted_key.decrypt(_decode(block, where), t.cast(bytes, passphrase), where=where)
        return _private(_load(_pem_text("PRIVATE KEY", der), None, where), "cosign", True, where)
    secret = passphrase if block.is_encrypted else None
    return _private(_load(block.text, secret, where), "pem", block.is_encrypted, where)


def only_private_block(data: bytes, *, where: str) -> PemBlock:
    """Return the single private key block of C(data); leading EC PARAMETERS, as openssl writes, are dropped.

    Raises KeyFileError (malformed) that says what the file is instead.
    """
    blocks = [block for block in split(data, where=where) if block.label != "EC PARAMETERS"]
    if len(blocks) != 1:
        found = ", ".join(block.label for block in blocks) or "EC PARAMETERS only"
        raise _unreadable(
            where, "malformed", f"it must hold exactly one private key, but holds: {found}",
            "Put each key into a file of its own.",
        )
    label = blocks[0].label
    if label not in (*_PLAIN_PRIVATE, _ENCRYPTED_PKCS8, *encrypted_key.LABELS):
        found = _ARTICLE.get(label, f"a PEM block of type {label}")
        raise _unreadable(
            where, "malformed", f"it is {found}, not a private key that can be read here",
            "Give a PKCS#8, SEC1, PKCS#1 or cosign private key.",
        )
    return blocks[0]


def read_public_key(data: bytes, *, where: str) -> PublicKey:
    """Read the one public key in C(data).

    Raises KeyFileError: malformed for private keys, certificates and second blocks, or unsupported_algorithm.
    """
    blocks = split(data, where=where)
    if len(blocks) != 1:
        raise _unreadable(
            where, "malformed", f"it holds {len(blocks)} PEM blocks, but an authority is exactly one key",
            "Give each public key as an authority of its own.",
        )
    if blocks[0].label not in _PUBLIC:
        found = "a private key" if blocks[0].is_private else _ARTICLE.get(blocks[0].label, blocks[0].label)
        raise _unreadable(
            where, "malformed", f"it is {found}, not a public key",
            "Give the public key; openssl pkey -pubout and openssl x509 -pubkey -noout write it.",
        )
    try:
        key = serialization.load_pem_public_key(blocks[0].text)
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise _unreadable(where, "malformed", f"no public key can be parsed ({type(exc).__name__})", "") from exc
    return public_key(key, where=where)


def public_key(key: object, *, where: str) -> PublicKey:
    """Wrap a C(cryptography) public key. Raises KeyFileError (unsupported_algorithm)."""
    algorithm = algorithm_of(key, where=where)
    known = t.cast("AnyPublicKey", key)
    return PublicKey(known, algorithm, key_id(known), spki_der(known))


def write_private_key(key: AnyPrivateKey, *, format: KeyFormat, passphrase: bytes | None) -> bytes:
    """Return the file for C(key): PKCS#8 PEM, encrypted when a passphrase is given, or cosign's format.

    Raises KeyFileError (passphrase_invalid): a new file wants 8 or more characters or none; cosign's wants one.
    """
    if passphrase is not None and len(passphrase.decode("utf-8", "replace")) < MINIMUM_PASSPHRASE:
        raise _unreadable(
            "passphrase", "passphrase_invalid", f"a new key wants {MINIMUM_PASSPHRASE} or more characters, or none",
            "Choose a longer one.",
        )
    if format == "pem":
        return key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption() if passphrase is None else serialization.BestAvailableEncryption(passphrase),
        )
    if passphrase is None:
        raise _unreadable(
            "passphrase", "passphrase_invalid", "cosign's key format is always encrypted",
            "Give passphrase or passphrase_path, or choose format pem.",
        )
    der = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return _pem_text(encrypted_key.LABELS[0], encrypted_key.encrypt(der, passphrase))


def _load(text: bytes, passphrase: bytes | None, where: str) -> object:
    try:
        return serialization.load_pem_private_key(text, passphrase)
    except UnsupportedAlgorithm as exc:
        raise _unreadable(where, "unsupported_algorithm", "its algorithm is not known", "") from exc
    except (ValueError, TypeError):
        # The library's own text is not shown: it is of no use, and must never quote input.
        pass
    if passphrase is None:
        raise _unreadable(where, "malformed", "no private key can be parsed", "Check that the file is whole.")
    raise _unreadable(
        where, "passphrase_invalid", "the passphrase is wrong, or the file is damaged",
        "Check passphrase or passphrase_path.",
    )


def _private(key: object, format: KeyFormat, encrypted: bool, where: str) -> PrivateKey:
    algorithm_of(key, where=where)
    known = t.cast("AnyPrivateKey", key)
    return PrivateKey(known, public_key(known.public_key(), where=where), format, encrypted)


def _decode(block: PemBlock, where: str) -> bytes:
    try:
        return base64.b64decode(b"".join(block.body.split()), validate=True)
    except binascii.Error as exc:
        raise _unreadable(where, "malformed", "its PEM block is not base64", "Check that the file is whole.") from exc


def _pem_text(label: str, data: bytes) -> bytes:
    lines = "\n".join(textwrap.wrap(base64.b64encode(data).decode("ascii"), 64))
    return f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n".encode("ascii")


def _unreadable(
    where: str, code: t.Literal["malformed", "passphrase_invalid", "unsupported_algorithm"], cause: str, advice: str
) -> KeyFileError:
    return KeyFileError(code=code, object=where, attempt="read the key", cause=cause, advice=advice)
