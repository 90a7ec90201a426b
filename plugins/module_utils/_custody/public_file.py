# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files that anybody may read, beside private ones: public keys, chains, requests, payloads."""

from __future__ import annotations

import typing as t

from .._errors import CustodyError
from .private_file import MAX_SIZE, PUBLIC_MODE, Attributes, open_parent


def ensure_public_file(
    path: str, data: bytes | None, *, is_former: t.Callable[[bytes], bool], dry_run: bool, limit: int = MAX_SIZE,
    mode: int = PUBLIC_MODE,
) -> bool:
    """Make a public file (a key or a chain) present with C(mode), by default 0644; return whether that changes
    anything.

    A file with other content is replaced only if C(is_former) recognises it as an older state of the same. In a dry
    run, C(data) may be None: new content that is not known yet. Neither may have more than C(limit) bytes.
    Raises CustodyError (destination_occupied and the rest).
    """
    attributes = Attributes(mode)
    with open_parent(path, create=not dry_run, limit=limit) as (folder, name):
        if folder is not None and not dry_run:
            folder.sweep(name)
        found = folder.inspect(name) if folder else None
        if folder is None or found is None:
            if folder is not None and not dry_run:
                folder.create(name, t.cast(bytes, data), attributes)
            return True
        if found.data == data:
            return folder.converge(name, found, attributes, dry_run=dry_run)
        if not is_former(found.data):
            raise CustodyError(
                code="destination_occupied", object=path, attempt="write the public file",
                cause="the file there belongs to another key, or is something else",
                advice="Nothing is overwritten: remove it, or choose another path.",
            )
        if not dry_run:
            folder.replace(name, t.cast(bytes, data), attributes)
        return True


def read_public_file(path: str, *, limit: int = MAX_SIZE) -> bytes | None:
    """Return what is in a public file; None if there is none. Raises CustodyError."""
    with open_parent(path, create=False, limit=limit) as (folder, name):
        found = folder.inspect(name) if folder else None
        return found.data if found else None


def remove_public_file(
    path: str, *, is_ours: t.Callable[[bytes], bool], dry_run: bool, limit: int = MAX_SIZE
) -> bool:
    """Remove a public file if C(is_ours) recognises it; return whether there was one. Raises CustodyError."""
    with open_parent(path, create=False, limit=limit) as (folder, name):
        if folder is not None and not dry_run:
            folder.sweep(name)
        found = folder.inspect(name) if folder else None
        if folder is None or found is None:
            return False
        if not is_ours(found.data):
            raise CustodyError(
                code="destination_occupied", object=path, attempt="remove the public file",
                cause="the file there is something else", advice="Look at it, and name the right path.",
            )
        if not dry_run:
            folder.remove(name)
        return True
