# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Key files in every shape users have: PKCS#8 plain and encrypted, SEC1, PKCS#1, cosign's, SPKI.

PEM is read strictly (RFC 7468): one key per file, so that two tools cannot pick two different ones.
"""

from __future__ import annotations

import base64
import re
import textwrap
import typing as t
from contextlib import suppress
from dataclasses import dataclass, field

from .. import _base64
from .._errors import KeyFileError
from .._libraries import optional
from .algorithms import Algorithm, algorithm_of
from .fingerprint import key_id, spki_der

with optional():
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

if t.TYPE_CHECKING:
    from .algorithms import AnyPrivateKey, AnyPublicKey

MINIMUM_PASSPHRASE = 8
_BLOCK = re.compile(
    rb"-----BEGIN ([A-Z0-9 ]+)-----[ \t]*\r?\n((?:[^-]|-(?!----))*)-----END \1-----[ \t]*(?:\r?\n|\Z)"
)
_ENCRYPTED_HEADER = re.compile(rb"^Proc-Type:\s*4,\s*ENCRYPTED", re.MULTILINE)
# RSASSA-PSS (RFC 4055): the library drops the restriction, and would sign with the wrong padding.
_PSS_OID = bytes.fromhex("06092a864886f70d01010a")
_PLAIN_PRIVATE = ("PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY")
# Written today, and before cosign 2.
COSIGN_LABELS = ("ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY")
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
        return self.label.startswith("ENCRYPTED ") or _ENCRYPTED_HEADER.search(self.body) is not None


@dataclass(frozen=True)
class PublicKey:
    """A public key with its algorithm, its key id and its DER SubjectPublicKeyInfo."""

    # Keys of older libraries do not compare; the DER says it all.
    key: AnyPublicKey = field(compare=False)
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


def split(data: bytes, *, where: str, what: str = "key") -> tuple[PemBlock, ...]:
    """Return the PEM blocks of C(data); text between them is ignored, as RFC 7468 section 2 allows.

    C(what) is the word for it in errors.

    Raises KeyFileError (malformed): no block at all, or one without its end.
    """
    blocks = tuple(
        PemBlock(match.group(1).decode("ascii"), match.group(0), match.group(2)) for match in _BLOCK.finditer(data)
    )
    if not blocks or len(blocks) != data.count(b"-----BEGIN "):
        cause = "it holds no PEM block" if b"-----BEGIN " not in data else "a PEM block has no matching end"
        raise KeyFileError(
            code="malformed", object=where, attempt=f"read the {what}", cause=cause,
            advice="Give it as PEM; openssl converts DER files with -inform DER.",
        )
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
    if block.label in COSIGN_LABELS:
        from . import encrypted_key

        der = encrypted_key.decrypt(_decode(block, where), t.cast(bytes, passphrase), where=where)
        return _private(_load(_pem_text("PRIVATE KEY", der), None, where), "cosign", True, where)
    if not block.is_encrypted and block.label == "PRIVATE KEY" and _PSS_OID in _decode(block, where):
        raise _restricted(where)
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
        raise _unreadable(
            where, "malformed", f"it must hold exactly one private key, but holds: {found}",
            "Put each key into a file of its own.",
        )
    label = blocks[0].label
    if label not in (*_PLAIN_PRIVATE, _ENCRYPTED_PKCS8, *COSIGN_LABELS):
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
    except UnsupportedAlgorithm as exc:
        raise _unknown_algorithm(where) from exc
    except ValueError as exc:
        raise _unreadable(where, "malformed", "no public key can be parsed", "Check that the file is whole.") from exc
    if _PSS_OID in _decode(blocks[0], where):
        raise _restricted(where)
    return public_key(key, where=where)


def public_key(key: object, *, where: str) -> PublicKey:
    """Wrap a C(cryptography) public key. Raises KeyFileError (unsupported_algorithm)."""
    algorithm = algorithm_of(key, where=where)
    known = t.cast("AnyPublicKey", key)
    exponent = known.public_numbers().e if isinstance(known, rsa.RSAPublicKey) else 65537
    if exponent < 3 or exponent % 2 == 0:
        # Libraries before cryptography 43 take such keys, for which anybody can forge signatures.
        raise _unreadable(where, "malformed", f"its RSA exponent is {exponent}", "Make a key with exponent 65537.")
    return PublicKey(known, algorithm, key_id(known), spki_der(known))


def require_writable(*, format: KeyFormat, passphrase: bytes | None) -> None:
    """Refuse a passphrase that no new key gets.

    Raises KeyFileError (passphrase_invalid): a new file wants 8 or more characters or none; cosign's wants one.
    """
    if passphrase is not None and len(passphrase.decode("utf-8", "replace")) < MINIMUM_PASSPHRASE:
        raise _unreadable(
            "passphrase", "passphrase_invalid", f"a new key wants {MINIMUM_PASSPHRASE} or more characters, or none",
            "Choose a longer one.",
        )
    if format == "cosign" and passphrase is None:
        raise _unreadable(
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
            raise _unreadable(
                "passphrase", "passphrase_invalid", "it is too long for PKCS#8", "Use less than 1024 bytes."
            ) from None
    from . import encrypted_key

    der = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return _pem_text(COSIGN_LABELS[0], encrypted_key.encrypt(der, t.cast(bytes, passphrase)))


def _load(text: bytes, passphrase: bytes | None, where: str) -> object:
    try:
        return serialization.load_pem_private_key(text, passphrase)
    except UnsupportedAlgorithm as exc:
        raise _unknown_algorithm(where) from exc
    except (ValueError, TypeError):
        # The library's own text is not shown: it is of no use, and must never quote input.
        pass
    if passphrase == b"":
        raise _unreadable(
            where, "passphrase_invalid", "an empty passphrase does not open it; PKCS#8 cannot be read with one",
            "Write it anew with a passphrase: openssl pkcs8 -topk8 -in FILE -out NEW.",
        )
    if passphrase is None:
        raise _unreadable(where, "malformed", "no private key can be parsed", "Check that the file is whole.")
    raise _unreadable(
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
            raise _unreadable(where, "malformed", "its public half is of another key", "Check that the file is whole.")
    return PrivateKey(known, public, format, encrypted)


def _decode(block: PemBlock, where: str) -> bytes:
    with suppress(ValueError):
        return _base64.decode(b"".join(block.body.split()).decode("ascii"))
    # Raised outside: the decoder's exception holds the text, which may be a plain key.
    raise _unreadable(where, "malformed", "its PEM block is not base64", "Check that the file is whole.")


def _pem_text(label: str, data: bytes) -> bytes:
    lines = "\n".join(textwrap.wrap(base64.b64encode(data).decode("ascii"), 64))
    return f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n".encode("ascii")


def _unknown_algorithm(where: str) -> KeyFileError:
    return _unreadable(where, "unsupported_algorithm", "its algorithm is not known", "Use P-256 or RSA.")


def _restricted(where: str) -> KeyFileError:
    return _unreadable(
        where, "unsupported_algorithm", "it is an RSA key restricted to PSS, which no cosign reads",
        "Use an unrestricted RSA key, or P-256.",
    )


def _unreadable(
    where: str, code: t.Literal["malformed", "passphrase_invalid", "unsupported_algorithm"], cause: str, advice: str
) -> KeyFileError:
    return KeyFileError(code=code, object=where, attempt="read the key", cause=cause, advice=advice)
