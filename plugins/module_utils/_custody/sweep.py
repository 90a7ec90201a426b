# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Finding every copy of a key below folders, whatever it is called, and taking copies away.

Links are not followed, so nobody can lead the search elsewhere; what is removed is removed from the very folder it was
found in. Files are read up to 1 MiB; archives, and keys in yet another encoding, are not looked into.
"""

from __future__ import annotations

import os
import re
import stat
import typing as t
from contextlib import suppress
from dataclasses import dataclass

from .._errors import CustodyError, HallmarkError
from .._keys import pem, private_key
from .._keys.files import MAXIMUM_KEY_FILE

_PIECES = re.compile(rb"(?=-----BEGIN )")
# As blocks stand in YAML; older libraries read none of these.
_INDENT = re.compile(rb"^[ \t]+", re.MULTILINE)
_PRIVATE = re.compile(rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----")
_MAX_FILES = 100_000
# Each level is an open folder; nobody keeps keys deeper.
_MAX_DEPTH = 100
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True)
class Copy:
    """A file that holds private keys: their ids, and how many could not be told; or what could not be looked into."""

    path: str
    key_ids: frozenset[str]
    unknown: int


def copies(
    folders: t.Sequence[str], *, passphrase: bytes | None = None, take: t.Callable[[Copy], bool] | None = None
) -> list[Copy]:
    """Return the files with private keys below C(folders), in order; those that C(take) says yes to are removed.

    A folder that is missing holds none. Raises CustodyError: input_invalid for what is no folder, limit_exceeded for
    more than 100,000 files, write_failed where one cannot be removed.
    """
    search = _Search(passphrase, take)
    for folder in folders:
        with suppress(FileNotFoundError):
            if not stat.S_ISDIR(os.stat(folder, follow_symlinks=False).st_mode):
                raise CustodyError(
                    code="input_invalid", object=folder, attempt="look for copies of keys",
                    cause="it is no folder, or a link", advice="Name the folder itself.",
                )
            search.folder(folder, folder, None, 0)
    return search.found


class _Search:
    """One search: what it found so far, and how many files it looked at."""

    def __init__(self, passphrase: bytes | None, take: t.Callable[[Copy], bool] | None) -> None:
        self._passphrase = passphrase
        self._take = take
        self._looked_at = 0
        self.found: list[Copy] = []

    def folder(self, path: str, name: str, above: int | None, depth: int) -> None:
        """Look at everything in a folder, which is opened in the one above it."""
        try:
            fd = os.open(name, _FOLDER, dir_fd=above)
        except FileNotFoundError:
            return
        except OSError:
            self.found.append(Copy(path, frozenset(), 1))
            return
        try:
            for entry in sorted(os.listdir(fd)):
                with suppress(FileNotFoundError):
                    self._entry(os.path.join(path, entry), entry, fd, depth)
        finally:
            os.close(fd)

    def _entry(self, path: str, name: str, fd: int, depth: int) -> None:
        mode = os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode) and depth < _MAX_DEPTH:
            self.folder(path, name, fd, depth + 1)
        elif stat.S_ISDIR(mode):
            self.found.append(Copy(path, frozenset(), 1))
        elif stat.S_ISREG(mode):
            self._file(path, name, fd)

    def _file(self, path: str, name: str, fd: int) -> None:
        self._looked_at += 1
        if self._looked_at > _MAX_FILES:
            raise CustodyError(
                code="limit_exceeded", object=path, attempt="look for copies of keys",
                cause=f"there are more than {_MAX_FILES} files", advice="Name the folders where keys are kept.",
            )
        copy = _look(path, name, fd, self._passphrase)
        if copy is not None:
            self.found.append(copy)
            if self._take is not None and self._take(copy):
                _remove(path, name, fd)


def _look(path: str, name: str, fd: int, passphrase: bytes | None) -> Copy | None:
    data = b""
    try:
        opened = os.open(name, _FILE, dir_fd=fd)
        with os.fdopen(opened, "rb") as stream:
            # It may have become a pipe in between.
            if stat.S_ISREG(os.fstat(opened).st_mode):
                data = stream.read(MAXIMUM_KEY_FILE)
    except FileNotFoundError:
        return None
    except OSError:
        return Copy(path, frozenset(), 1)
    if data[:1] == b"\x30":
        return _look_at_der(path, data)
    # Each alone: a broken block does not hide the others, and is still one that somebody may mend.
    blocks = [piece for piece in _PIECES.split(_INDENT.sub(b"", data)) if _PRIVATE.match(piece)]
    known = [_key_id(block, passphrase, path) for block in blocks]
    return Copy(path, frozenset(filter(None, known)), known.count(None)) if blocks else None


def _key_id(block: bytes, passphrase: bytes | None, path: str) -> str | None:
    with suppress(HallmarkError):
        return private_key.read_private_key(block, passphrase=passphrase, where=path).public.key_id
    return None


def _look_at_der(path: str, data: bytes) -> Copy | None:
    """Return what a file in DER is, in whichever of the three forms; None where it is no plain key."""
    for label in ("PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY"):
        key_id = _key_id(pem.pem_text(label, data), None, path)
        if key_id is not None:
            return Copy(path, frozenset([key_id]), 0)
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
