# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Exporting a key: one checked, restrictive copy of a key and of the certificate that belongs to it."""

from __future__ import annotations

import os
import time
import typing as t
from dataclasses import dataclass, field

from .._errors import KeyFileError
from .._keys import certificate, private_key
from .._keys.files import read_key_file
from .._keys.fingerprint import expect_key_id
from . import key_file, public_file
from .key_file import KeyFile, Wanted

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

    Raises KeyFileError (key_mismatch when they still do not, and all of reading).
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


def export_key(
    source: Source, dest: str, wanted: Wanted, *, chain_dest: str | None, dry_run: bool, same_format: bool
) -> tuple[KeyFile, bool]:
    """Copy the key of C(source) to C(dest), and its chain to C(chain_dest); return both results.

    With C(same_format) the copy has the format of its source. Raises KeyFileError and CustodyError; nothing
    is ever overwritten but an older chain of the same key.
    """
    pair = read_pair(source)
    expect_key_id(pair.private.public.key_id, wanted.key_id, where=source.private_key_path)
    exact = Wanted(
        format=pair.private.format if same_format else wanted.format,
        passphrase=wanted.passphrase,
        attributes=wanted.attributes,
        key_id=pair.private.public.key_id,
    )
    if chain_dest is not None and pair.chain is None:
        raise KeyFileError(
            code="input_invalid", object=chain_dest, attempt="export the chain", cause="no chain_path was given",
            advice="Give chain_path or lineage.",
        )

    def chain(*, dry_run: bool) -> bool:
        return chain_dest is not None and public_file.ensure_public_file(
            chain_dest, t.cast(bytes, pair.chain), dry_run=dry_run,
            is_former=lambda data: is_chain_of(data, pair.private.public.key_id),
        )

    # All that will be refused is refused before anything is copied; the key is what matters, so it comes first.
    foreseen = key_file.ensure_present(dest, exact, lambda: pair.private.key, dry_run=True)
    chain_foreseen = chain(dry_run=True)
    if dry_run:
        return foreseen, chain_foreseen
    return key_file.ensure_present(dest, exact, lambda: pair.private.key, dry_run=False), chain(dry_run=False)


def is_chain_of(data: bytes, key_id: str | None) -> bool:
    """Say whether C(data) is a certificate chain, and its leaf is of C(key_id) where that is given."""
    try:
        facts = certificate.read_chain(data, where="chain")
    except KeyFileError:
        return False
    return key_id in (None, facts.key_id)
