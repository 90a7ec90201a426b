# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Making a private key file present or absent: never replaced, never half there."""

from __future__ import annotations

import os
import typing as t
from dataclasses import dataclass, field

from .._errors import CustodyError, KeyFileError
from .._keys import lease as leases
from .._keys import pem, private_key, writing
from .._keys.fingerprint import expect_key_id, require_key_id
from .._keys.lease import Lease
from .private_file import Attributes, Found, PrivateFolder, mode_text, open_parent
from .storage import require_local

if t.TYPE_CHECKING:
    from .._keys.algorithms import AnyPrivateKey


@dataclass(frozen=True)
class Wanted:
    """The key file that shall be: C(algorithm), C(key_id) and C(encrypted) as None accept any.

    C(passphrase) reads an existing file and encrypts a new one.
    """

    format: private_key.KeyFormat
    passphrase: bytes | None = field(repr=False)
    attributes: Attributes
    algorithm: str | None = None
    key_id: str | None = None
    # What stands in an exported copy that has an end.
    lease: Lease | None = None


@dataclass(frozen=True)
class KeyFile:
    """What became of a key file; C(public) is None for a key that check mode did not make.

    C(former_mode) is None for a new file.
    """

    changed: bool
    former_mode: str | None
    public: pem.PublicKey | None
    format: private_key.KeyFormat
    encrypted: bool
    mode: str

    def before(self) -> dict[str, t.Any]:
        """Return the public facts as they were, for diffs."""
        return {} if self.former_mode is None else {**self.facts(), "mode": self.former_mode}

    def facts(self) -> dict[str, t.Any]:
        """Return the public facts, for results and diffs."""
        return {
            "key_id": self.public.key_id if self.public else None,
            "algorithm": self.public.algorithm.name if self.public else None,
            "format": self.format,
            "encrypted": self.encrypted,
            "mode": self.mode,
        }


def ensure_present(
    path: str, wanted: Wanted, make: t.Callable[[], AnyPrivateKey | None], *, dry_run: bool
) -> KeyFile:
    """Make the wanted key file present at C(path), with a key from C(make) if there is none.

    C(make) may return None in a dry run, when the key is yet to be generated. An existing key is kept, and
    only its owner, group and mode are set. Raises KeyFileError (key_mismatch: another key is there, or the
    same in another shape; and all of reading) and CustodyError.
    """
    with open_parent(path, create=False) as (folder, name):
        if folder is not None and not dry_run:
            folder.sweep(name)
        found = folder.inspect(name) if folder else None
        if folder is not None and found is not None:
            return _keep(path, folder, name, found, wanted, dry_run=dry_run)
    # All that can be refused is refused before anything is made.
    writing.require_writable(format=wanted.format, passphrase=wanted.passphrase)
    if wanted.key_id is not None:
        require_key_id(wanted.key_id, option="key_id")
    key = make()
    if key is None and wanted.key_id is not None:
        raise KeyFileError(
            code="key_mismatch", object=path, attempt="find the key",
            cause=f"there is none, and a new one could not have the key id {wanted.key_id}",
            advice="Bring the key with source_path, or leave key_id out to make a new one.",
        )
    public = pem.public_key(key.public_key(), where=path) if key else None
    if public is not None:
        expect_key_id(public.key_id, wanted.key_id, where=path)
    data = writing.write_private_key(key, format=wanted.format, passphrase=wanted.passphrase) if key else b""
    data = (wanted.lease.encode() if wanted.lease else b"") + data
    require_local(os.path.dirname(os.path.abspath(path)))
    with open_parent(path, create=not dry_run) as (folder, name):
        if folder is not None and not dry_run:
            folder.create(name, data, wanted.attributes)
    encrypted = wanted.passphrase is not None
    return KeyFile(True, None, public, wanted.format, encrypted, mode_text(wanted.attributes.mode))


def _keep(
    path: str, folder: PrivateFolder, name: str, found: Found, wanted: Wanted, *, dry_run: bool
) -> KeyFile:
    try:
        private = private_key.read_private_key(found.data, passphrase=wanted.passphrase, where=path)
    except KeyFileError as exc:
        if exc.code != "malformed":
            raise
        raise CustodyError(
            code="destination_occupied", object=path, attempt="write the key",
            cause=f"something else is there: {exc.cause}",
            advice="Nothing is overwritten: remove it, or choose another path.",
        ) from exc
    expect_key_id(private.public.key_id, wanted.key_id, where=path)
    if leases.read(found.data, where=path) != wanted.lease:
        raise KeyFileError(
            code="key_mismatch", object=path, attempt="keep the existing key",
            cause="it is an exported copy with another end than is asked for, or not recorded on this host",
            advice="Remove it with state: absent first; then it is exported anew.",
        )
    shape = (private.public.algorithm.name, private.format, private.encrypted)
    asked = (wanted.algorithm or shape[0], wanted.format, wanted.passphrase is not None)
    if shape != asked:
        raise KeyFileError(
            code="key_mismatch", object=path, attempt="keep the existing key",
            cause=f"it is {_words(*shape)}, asked for is {_words(*asked)}",
            advice="A key is never replaced: ask for what is there, or move it away first.",
        )
    changed = folder.converge(name, found, wanted.attributes, dry_run=dry_run)
    return KeyFile(
        changed, found.mode, private.public, private.format, private.encrypted, mode_text(wanted.attributes.mode)
    )


def _words(algorithm: str, format: str, encrypted: bool) -> str:
    return f"{algorithm} in format {format}, {'encrypted' if encrypted else 'not encrypted'}"


def ensure_absent(path: str, *, key_id: str | None, passphrase: bytes | None, dry_run: bool) -> bool:
    """Remove the private key file at C(path); return whether there was one.

    With C(key_id) only that key is removed, and an encrypted one needs its passphrase. Raises KeyFileError
    (key_mismatch, malformed for a file that is no private key) and CustodyError.
    """
    if key_id is not None:
        require_key_id(key_id, option="key_id")
    with open_parent(path, create=False) as (folder, name):
        if folder is None:
            return False
        if not dry_run:
            folder.sweep(name)
        found = folder.inspect(name)
        if found is None:
            return False
        private_key.only_private_block(found.data, where=path)
        if key_id is not None:
            private = private_key.read_private_key(found.data, passphrase=passphrase, where=path)
            expect_key_id(private.public.key_id, key_id, where=path)
        if not dry_run:
            folder.remove(name)
        return True
