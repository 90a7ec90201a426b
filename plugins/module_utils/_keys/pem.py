# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""PEM files, and the public keys in them (SPKI, PKCS#1).

PEM is read strictly (RFC 7468): one key per file, so that two tools cannot pick two different ones.
"""

from __future__ import annotations

import base64
import re
import typing as t
from contextlib import suppress
from dataclasses import dataclass, field

from .. import _base64
from .._errors import KeyFileError
from .._libraries import optional
from .algorithms import Algorithm, algorithm_of
from .fingerprint import key_id, spki_der

with optional():
    from cryptography.exceptions import InternalError, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

if t.TYPE_CHECKING:
    from .algorithms import AnyPublicKey

_BLOCK = re.compile(
    # Base64 has no dashes, and headers have few. Each costs the engine memory, as each letter did one by one.
    rb"-----BEGIN ([A-Z0-9 ]+)-----[ \t]*\r?\n([^-]*(?:-(?!----)[^-]*){0,100})-----END \1-----[ \t]*(?:\r?\n|\Z)"
)
_ENCRYPTED_HEADER = re.compile(rb"^Proc-Type:\s*4,\s*ENCRYPTED", re.MULTILINE)
# RSASSA-PSS (RFC 4055): the library drops the restriction, and would sign with the wrong padding.
PSS_OID = bytes.fromhex("06092a864886f70d01010a")
# The y coordinates of the eight points of small order on edwards25519, two of them in their second spelling.
_PRIME = 2**255 - 19
_SMALL_ORDER = (
    0, 1, _PRIME - 1, _PRIME, _PRIME + 1,
    0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
    0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7,
)
_PUBLIC = ("PUBLIC KEY", "RSA PUBLIC KEY")
ARTICLE = {"CERTIFICATE": "a certificate", "OPENSSH PRIVATE KEY": "an OpenSSH private key"}


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
        return pem_text("PUBLIC KEY", self.der).decode("ascii")


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


def read_public_key(data: bytes, *, where: str) -> PublicKey:
    """Read the one public key in C(data).

    Raises KeyFileError: malformed for private keys, certificates and second blocks, or unsupported_algorithm.
    """
    blocks = split(data, where=where)
    if len(blocks) != 1:
        raise unreadable(
            where, "malformed", f"it holds {len(blocks)} PEM blocks, but an authority is exactly one key",
            "Give each public key as an authority of its own.",
        )
    if blocks[0].label not in _PUBLIC:
        found = "a private key" if blocks[0].is_private else ARTICLE.get(blocks[0].label, blocks[0].label)
        raise unreadable(
            where, "malformed", f"it is {found}, not a public key",
            "Give the public key; openssl pkey -pubout and openssl x509 -pubkey -noout write it.",
        )
    try:
        key = serialization.load_pem_public_key(blocks[0].text)
    except UnsupportedAlgorithm as exc:
        raise unknown_algorithm(where) from exc
    except (ValueError, InternalError) as exc:
        raise unreadable(where, "malformed", "no public key can be parsed", "Check that the file is whole.") from exc
    if PSS_OID in decode_block(blocks[0], where):
        raise restricted(where)
    return public_key(key, where=where)


def public_key(key: object, *, where: str) -> PublicKey:
    """Wrap a C(cryptography) public key. Raises KeyFileError (unsupported_algorithm)."""
    algorithm = algorithm_of(key, where=where)
    known = t.cast("AnyPublicKey", key)
    exponent = known.public_numbers().e if isinstance(known, rsa.RSAPublicKey) else 65537
    if exponent < 3 or exponent % 2 == 0:
        # Libraries before cryptography 43 take such keys, for which anybody can forge signatures.
        raise unreadable(where, "malformed", f"its RSA exponent is {exponent}", "Make a key with exponent 65537.")
    der = spki_der(known)
    if algorithm.family == "ed25519" and int.from_bytes(der[-32:], "little") % 2**255 in _SMALL_ORDER:
        raise unreadable(where, "malformed", "it is a point of small order, for which anybody can sign", "Make a key.")
    return PublicKey(known, algorithm, key_id(known), der)


def decode_block(block: PemBlock, where: str) -> bytes:
    """Return the bytes of a block without headers. Raises KeyFileError (malformed)."""
    with suppress(ValueError):
        return _base64.decode(b"".join(block.body.split()).decode("ascii"))
    # Raised outside: the decoder's exception holds the text, which may be a plain key.
    raise unreadable(where, "malformed", "its PEM block is not base64", "Check that the file is whole.")


def pem_text(label: str, data: bytes) -> bytes:
    """Return a PEM block with 64 columns (RFC 7468), with a newline at its end."""
    text = base64.b64encode(data).decode("ascii")
    lines = "\n".join(text[start:start + 64] for start in range(0, len(text), 64))
    return f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n".encode("ascii")


def unknown_algorithm(where: str) -> KeyFileError:
    """Return the error for a key that the library does not know."""
    return unreadable(where, "unsupported_algorithm", "its algorithm is not known", "Use P-256 or RSA.")


def restricted(where: str) -> KeyFileError:
    """Return the error for a key whose SubjectPublicKeyInfo restricts it to RSASSA-PSS."""
    return unreadable(
        where, "unsupported_algorithm", "it is an RSA key restricted to PSS, which no cosign reads",
        "Use an unrestricted RSA key, or P-256.",
    )


def unreadable(
    where: str, code: t.Literal["malformed", "passphrase_invalid", "unsupported_algorithm"], cause: str, advice: str
) -> KeyFileError:
    """Return the error for a key that cannot be read."""
    return KeyFileError(code=code, object=where, attempt="read the key", cause=cause, advice=advice)
