# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A signer whose key is a file on this host."""

from __future__ import annotations

import os
import typing as t
from dataclasses import dataclass, field

from ..._errors import KeyFileError
from .. import lease, making, pem, private_key
from ..files import read_key_file
from ..fingerprint import expect_key_id


@dataclass(frozen=True)
class FileSigner:
    """Signs with a private key that was read once, when the signer was made."""

    private: private_key.PrivateKey = field(repr=False)
    chooses_scheme: t.ClassVar[bool] = True

    @property
    def public(self) -> pem.PublicKey:
        """The public half."""
        return self.private.public

    def prepare(self, messages: t.Collection[bytes]) -> None:
        """Do nothing: a key signs whatever is asked for."""

    def sign(self, message: bytes, *, scheme: str | None = None) -> bytes:
        """Return the signature over C(message)."""
        return making.sign(self.private.key, message, scheme=scheme)


def load(path: str, *, passphrase: bytes | None, key_id: str | None, dry_run: bool = False) -> FileSigner:
    """Read the key file; C(key_id) is the expected one or None. An exported copy for one use is taken away first.

    Raises KeyFileError: not_found, malformed, passphrase_invalid, key_mismatch, unsupported_algorithm, export_expired.
    """
    data = read_key_file(path)
    made = lease.require_usable(data, where=path)
    private = private_key.read_private_key(data, passphrase=passphrase, where=path)
    expect_key_id(private.public.key_id, key_id, where=path)
    if made is not None and made.once and not dry_run:
        _consume(path)
    return FileSigner(private)


def _consume(path: str) -> None:
    """Take the name away before the key is used: whoever comes second finds nothing."""
    try:
        os.unlink(path)
    except OSError as exc:
        raise KeyFileError(
            code="not_found", object=path, attempt="take away the copy that is for one use",
            cause=exc.strerror or type(exc).__name__,
            advice="If another process used it, export it anew; else let the user of this task write to its folder.",
        ) from exc
