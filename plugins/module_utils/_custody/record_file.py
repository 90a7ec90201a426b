# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files that are appended to and believed, for nobody else can have written them; and the path that is recorded."""

from __future__ import annotations

import fcntl
import os
import typing as t
from contextlib import contextmanager

from .private_file import PrivateFolder, failing, is_trusted, open_parent, unsafe

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_APPEND = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def real_path(path: str) -> str:
    """Return the one path of a file by which it is recorded: absolute, without links on the way to its folder.

    Raises CustodyError as C(open_parent()): a link of another user is refused before it is followed.
    """
    with open_parent(path, create=False) as (_folder, name):
        return os.path.join(os.path.realpath(os.path.dirname(os.path.join(os.getcwd(), path))), name)


@contextmanager
def open_readable(path: str) -> t.Iterator[t.BinaryIO | None]:
    """Open a file that only root and this user can change; None if it is missing.

    Raises CustodyError as C(open_parent()), and destination_unsafe.
    """
    with open_parent(path, create=False) as (folder, name):
        fd = None if folder is None or folder.status(name) is None else _open(folder, name, _READ)
        if fd is None:
            yield None
            return
        with failing(path, "read it"), os.fdopen(fd, "rb") as stream:
            yield stream


@contextmanager
def open_appendable(path: str, *, mode: int) -> t.Iterator[t.BinaryIO]:
    """Open a file for reading and appending, made with C(mode) if it is missing; nobody else may hold it meanwhile.

    Raises CustodyError as C(open_readable()).
    """
    with open_parent(path, create=True) as (folder, name):
        fd = _open(t.cast(PrivateFolder, folder), name, _APPEND, mode)
        # In this order: what was not written yet is written when the stream is closed, which fails again.
        with failing(path, "write to it"), os.fdopen(fd, "r+b") as stream:
            # The lock goes with the descriptor.
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield stream


def _open(folder: PrivateFolder, name: str, flags: int, mode: int | None = None) -> int:
    """Return a descriptor of a file, which is made with C(mode) if that is given. Raises CustodyError."""
    where = os.path.join(folder.path, name)
    with failing(where, "open it"):
        fd = None if mode is None else _made(folder, name, flags, mode)
        if fd is None:
            folder.status(name)
            fd = os.open(name, flags, dir_fd=folder.fileno())
    status = os.fstat(fd)
    if not is_trusted(status) or status.st_mode & 0o022:
        os.close(fd)
        raise unsafe(where, "it belongs to another user, or can be written by its group or others")
    return fd


def _made(folder: PrivateFolder, name: str, flags: int, mode: int) -> int | None:
    try:
        fd = os.open(name, flags | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=folder.fileno())
    except FileExistsError:
        return None
    os.fchmod(fd, mode)
    os.fsync(folder.fileno())
    return fd
