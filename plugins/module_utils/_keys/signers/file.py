# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A signer whose key is a file on this host."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field

from ..._errors import KeyFileError
from .. import algorithms, pem
from ..fingerprint import expect_key_id

MAXIMUM_KEY_FILE = 1024 * 1024


@dataclass(frozen=True)
class FileSigner:
    """Signs with a private key that was read once, when the signer was made."""

    private: pem.PrivateKey = field(repr=False)

    @property
    def public(self) -> pem.PublicKey:
        """The public half."""
        return self.private.public

    def sign(self, message: bytes) -> bytes:
        """Return the signature over C(message)."""
        return algorithms.sign(self.private.key, message)


def load(path: str, *, passphrase: bytes | None, key_id: str | None) -> FileSigner:
    """Read the key file; C(key_id) is the expected one or None.

    Raises KeyFileError: not_found, malformed, passphrase_invalid, key_mismatch, unsupported_algorithm.
    """
    private = pem.read_private_key(read_key_file(path), passphrase=passphrase, where=path)
    expect_key_id(private.public.key_id, key_id, where=path)
    algorithms.require_signing(private.public.algorithm, where=path)
    return FileSigner(private)


def read_key_file(path: str) -> bytes:
    """Return the bytes of a key or certificate file of at most 1 MiB. Raises KeyFileError (not_found, malformed)."""
    try:
        # Without blocking: a pipe would be waited for.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise ValueError("it is not a regular file")
            data = stream.read(MAXIMUM_KEY_FILE + 1)
    except (OSError, ValueError) as exc:
        raise KeyFileError(
            code="not_found", object=path, attempt="read the file", cause=getattr(exc, "strerror", None) or str(exc),
            advice="Check the path, and that the user of this task may read it.",
        ) from exc
    if len(data) > MAXIMUM_KEY_FILE:
        raise KeyFileError(
            code="malformed", object=path, attempt="read the file", cause="it is larger than 1 MiB",
            advice="Give a key or certificate file.",
        )
    return data
