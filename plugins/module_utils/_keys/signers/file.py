# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A signer whose key is a file on this host."""

from __future__ import annotations

import os
import typing as t
from dataclasses import dataclass, field

from .. import making, pem, private_key
from ..files import EXPORTED, read_key_file
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

    def answers_in(self, asked: str) -> str:
        """Return C(asked)."""
        return asked

    def prepare(self, messages: t.Collection[bytes]) -> None:
        """Do nothing: a key signs whatever is asked for."""

    def sign(self, message: bytes, *, scheme: str | None = None) -> bytes:
        """Return the signature over C(message)."""
        return making.sign(self.private.key, message, scheme=scheme)


def load(path: str, *, passphrase: bytes | None, key_id: str | None, dry_run: bool = False) -> FileSigner:
    """Read the key file; C(key_id) is the expected one or None. An exported copy for one use is taken away first.

    Raises KeyFileError: not_found, malformed, passphrase_invalid, key_mismatch, unsupported_algorithm, export_expired,
    key_fenced.
    """
    data = read_key_file(path)
    is_exported = EXPORTED in data
    if is_exported:
        # Few keys are exported copies.
        from .. import lease

        is_for_one_use = lease.is_for_one_use(data, where=path)
    private = private_key.read_private_key(data, passphrase=passphrase, where=path)
    expect_key_id(private.public.key_id, key_id, where=path)
    if os.path.lexists(beside := path.removesuffix(".key") + ".pointer.json"):
        # Few keys are rotated by a ledger.
        from .. import pointer

        pointer.require(beside, private.public.key_id)
    if is_exported and is_for_one_use and not dry_run:
        lease.consume(path, data)
    return FileSigner(private)
