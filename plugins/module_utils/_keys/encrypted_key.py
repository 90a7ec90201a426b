# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""cosign's encrypted private key file: scrypt and NaCl secretbox around PKCS#8 DER.

Format: sigstore's C(pkg/cryptoutils) and go-securesystemslib C(encrypted) (JSON in a PEM block), as written
by cosign 1 to 3. Only the parameter sets cosign itself has written are read: a hostile file could otherwise
ask for any amount of memory, or for a derivation weak enough to be broken.
"""

from __future__ import annotations

import hashlib
import os
import typing as t

from .. import _base64, _strict_json
from .._errors import FormatError, KeyFileError
from .._libraries import optional, require

with optional():
    from nacl.exceptions import CryptoError
    from nacl.secret import SecretBox

_READABLE_N = (32768, 65536, 131072)
_WRITTEN_N = 65536
_SCRYPT_MEMORY = 256 * 1024 * 1024
_SALT_SIZE, _NONCE_SIZE = 32, 24


def decrypt(document: bytes, passphrase: bytes, *, where: str) -> bytes:
    """Return the PKCS#8 DER inside the JSON C(document) of such a PEM block.

    Raises KeyFileError: malformed (also for scrypt parameters cosign never writes) or passphrase_invalid.
    """
    require("nacl")
    salt, nonce, ciphertext, cost = _parse(document, where)
    box = SecretBox(_derive(passphrase, salt, cost))
    try:
        return bytes(box.decrypt(ciphertext, nonce))
    except CryptoError:
        pass
    raise KeyFileError(
        code="passphrase_invalid", object=where, attempt="decrypt the private key",
        cause="the passphrase is wrong, or the file is damaged", advice="Check passphrase or passphrase_path.",
    )


def encrypt(pkcs8: bytes, passphrase: bytes) -> bytes:
    """Return the JSON document for the PKCS#8 DER, with a new salt and nonce. Raises LibraryError."""
    require("nacl")
    salt, nonce = os.urandom(_SALT_SIZE), os.urandom(_NONCE_SIZE)
    box = SecretBox(_derive(passphrase, salt, _WRITTEN_N))
    return _strict_json.dumps({
        "kdf": {
            "name": "scrypt",
            "params": {"N": _WRITTEN_N, "r": 8, "p": 1},
            "salt": _base64.encode(salt),
        },
        "cipher": {"name": "nacl/secretbox", "nonce": _base64.encode(nonce)},
        "ciphertext": _base64.encode(box.encrypt(pkcs8, nonce).ciphertext),
    })


def _derive(passphrase: bytes, salt: bytes, cost: int) -> bytes:
    return hashlib.scrypt(passphrase, salt=salt, n=cost, r=8, p=1, dklen=32, maxmem=_SCRYPT_MEMORY)


def _parse(document: bytes, where: str) -> tuple[bytes, bytes, bytes, int]:
    try:
        top = _strict_json.loads(document, what="encrypted key", where=where)
        kdf, cipher = top.object("kdf"), top.object("cipher")
        params = kdf.object("params")
        cost = params.integer("N")
        if (kdf.string("name"), params.integer("r"), params.integer("p")) != ("scrypt", 8, 1) or (
            cost not in _READABLE_N
        ):
            raise top.error("its scrypt parameters are none that cosign writes")
        if cipher.string("name") != "nacl/secretbox":
            raise top.error("its cipher is not nacl/secretbox")
        salt, nonce = _base64.decode(kdf.string("salt")), _base64.decode(cipher.string("nonce"))
        if len(nonce) != _NONCE_SIZE or not salt:
            raise top.error("its salt or nonce has the wrong length")
        return salt, nonce, _base64.decode(top.string("ciphertext")), cost
    except (FormatError, ValueError) as exc:
        cause = exc.cause if isinstance(exc, FormatError) else str(exc)
        raise KeyFileError(
            code="malformed", object=where, attempt="read the encrypted key", cause=cause,
            advice="Take the file that cosign generate-key-pair or hallmark.signing.signing_key wrote.",
        ) from t.cast(t.Optional[BaseException], exc)
