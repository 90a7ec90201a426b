# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Finding every copy of a key below folders, whatever it is called, and taking copies away.

Links are not followed, so nobody can lead the search elsewhere; what is removed is removed from the very folder it was found in.
"""

from __future__ import annotations

import os
import stat
import typing as t
from contextlib import suppress
from dataclasses import dataclass

from .._errors import CustodyError, HallmarkError
from .._keys import pem, private_key
from .._keys.files import MAXIMUM_KEY_FILE

_BEGIN = b"-----BEGIN "
_MAX_FILES = 100_000


@dataclass(frozen=True)
class Copy:
    """A file that holds private keys: their ids, and how many blocks nothing is known of, for want of a passphrase."""

    path: str
    key_ids: frozenset[str]
    unknown: int


def copies(
    folders: t.Sequence[str], *, passphrase: bytes | None = None, take: t.Callable[[Copy], bool] | None = None
) -> list[Copy]:
    """Return the files with private keys below C(folders), in order; those that C(take) says yes to are removed.

    Raises CustodyError: limit_exceeded for more than 100,000 files, write_failed where one cannot be removed.
    """
    found: list[Copy] = []
    looked_at = 0
    for folder in folders:
        for here, below, names, fd in os.fwalk(folder, follow_symlinks=False):
            below.sort()
            for name in sorted(names):
                looked_at += 1
                if looked_at > _MAX_FILES:
                    raise CustodyError(
                        code="limit_exceeded", object=folder, attempt="look for copies of keys",
                        cause=f"there are more than {_MAX_FILES} files", advice="Name the folders where keys are kept.",
                    )
                copy = _look(os.path.join(here, name), name, fd, passphrase)
                if copy is not None:
                    found.append(copy)
                    if take is not None and take(copy):
                        _remove(copy.path, name, fd)
    return found


def _look(path: str, name: str, fd: int, passphrase: bytes | None) -> Copy | None:
    data = b""
    with suppress(OSError):
        opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=fd)
        with os.fdopen(opened, "rb") as stream:
            if stat.S_ISREG(os.fstat(opened).st_mode):
                data = stream.read(MAXIMUM_KEY_FILE)
    if data[:1] == b"\x30":
        return _look_at_der(path, data)
    if _BEGIN not in data or b"PRIVATE KEY-----" not in data:
        return None
    blocks: t.Sequence[pem.PemBlock] = ()
    with suppress(HallmarkError):
        blocks = [block for block in pem.split(data, where=path) if block.is_private]
    known: set[str] = set()
    for block in blocks:
        with suppress(HallmarkError):
            known.add(private_key.read_private_key(block.text, passphrase=passphrase, where=path).public.key_id)
    # A broken block is still one that somebody may mend.
    return Copy(path, frozenset(known), max(1, len(blocks)) - len(known))


def _look_at_der(path: str, data: bytes) -> Copy | None:
    """Return what a file in DER is, in whichever of the three forms; None where it is no plain key."""
    for label in ("PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY"):
        with suppress(HallmarkError):
            found = private_key.read_private_key(pem.pem_text(label, data), passphrase=None, where=path)
            return Copy(path, frozenset([found.public.key_id]), 0)
    return None


def _remove(path: str, name: str, fd: int) -> None:
    try:
        os.unlink(name, dir_fd=fd)
        os.fsync(fd)
    except OSError as exc:
        raise CustodyError(
            code="write_failed", object=path, attempt="remove a copy of the key",
            cause=exc.strerror or type(exc).__name__, advice="Allow it, and run again: the others are gone.",
        ) from exc
