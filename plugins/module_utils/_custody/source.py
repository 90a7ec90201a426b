# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where an exported key comes from: a key and the certificate chain that belongs to it, read together."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field

from .._errors import KeyFileError
from .._keys import certificate, lease, private_key
from .._keys.files import read_key_file
from . import public_file

# Certbot switches the four links of a lineage one after another; a renewal is over in well under a second.
_PAIR_ATTEMPTS = 10
_PAIR_DELAY = 0.3


@dataclass(frozen=True)
class Source:
    """Where the key and its certificate chain (leaf first) are read; C(chain_path) may be None."""

    private_key_path: str
    chain_path: str | None
    passphrase: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Pair:
    """A key, and the chain that was issued for it, read together."""

    private: private_key.PrivateKey
    chain: bytes | None


def lineage(path: str, *, passphrase: bytes | None = None) -> Source:
    """Return the source for a Certbot lineage directory, such as C(/etc/letsencrypt/live/NAME)."""
    return Source(os.path.join(path, "privkey.pem"), os.path.join(path, "fullchain.pem"), passphrase)


def read_pair(source: Source, *, delay: float = _PAIR_DELAY) -> Pair:
    """Read key and chain, again for up to three seconds while they do not belong together.

    Raises KeyFileError (key_mismatch when they still do not, input_invalid for an export that ends, and all of
    reading).
    """
    for attempt in range(_PAIR_ATTEMPTS):
        if attempt:
            time.sleep(delay)
        try:
            key_file_bytes = read_key_file(source.private_key_path)
            chain = read_key_file(source.chain_path) if source.chain_path else b""
        except KeyFileError:
            # Certbot takes each link away before it sets the new one.
            if attempt == _PAIR_ATTEMPTS - 1 or source.chain_path is None:
                raise
            continue
        made = lease.require_usable(key_file_bytes, where=source.private_key_path)
        if made is not None and (made.once or made.expires_at is not None):
            raise KeyFileError(
                code="input_invalid", object=source.private_key_path, attempt="export the key",
                cause=f"it is itself export {made.export_id}, which has an end, and its copies would outlive it",
                advice="Export from the key itself.",
            )
        private = private_key.read_private_key(
            key_file_bytes, passphrase=source.passphrase, where=source.private_key_path
        )
        if source.chain_path is None:
            return Pair(private, None)
        if certificate.belongs_together(certificate.read_chain(chain, where=source.chain_path), private):
            return Pair(private, chain)
    raise KeyFileError(
        code="key_mismatch", object=source.private_key_path, attempt="read the key with its certificate",
        cause=f"the certificate in {source.chain_path} was issued for another key",
        advice="If a renewal is under way, run again when it is over; else name the files that belong together.",
    )


def ensure_chain(pair: Pair, dest: str | None, *, dry_run: bool) -> bool:
    """Copy the chain of C(pair) to C(dest) if that is given; return whether that changes anything.

    An older chain of the same key is replaced. Raises CustodyError, and KeyFileError (input_invalid) if there is no
    chain.
    """
    if dest is None:
        return False
    if pair.chain is None:
        raise KeyFileError(
            code="input_invalid", object=dest, attempt="export the chain", cause="no chain_path was given",
            advice="Give chain_path or lineage.",
        )
    return public_file.ensure_public_file(
        dest, pair.chain, dry_run=dry_run, is_former=lambda data: is_chain_of(data, pair.private.public.key_id)
    )


def is_chain_of(data: bytes, key_id: str | None) -> bool:
    """Say whether C(data) is a certificate chain, and its leaf is of C(key_id) where that is given."""
    try:
        facts = certificate.read_chain(data, where="chain")
    except KeyFileError:
        return False
    return key_id in (None, facts.key_id)
