# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One writer at a time: among the processes of one user on this host, or among all that use a file."""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
import tempfile
import threading
import typing as t
from contextlib import contextmanager, suppress

from .._errors import RegistryError

_HELD = threading.local()


@contextmanager
def writer(name: str) -> t.Iterator[None]:
    """Hold the lock for C(name), such as HOST/REPO@DIGEST, while the block runs; others wait.

    A thread that holds a lock may take it again. The lock files lie in a folder of this user only and stay there,
    empty: removing them would race. Raises RegistryError: destination_unsafe if that folder belongs to somebody
    else, or write_failed.
    """
    path = os.path.join(tempfile.gettempdir(), f"hallmark-signing-locks-{os.geteuid()}")
    if name in _held():
        yield
        return
    try:
        path = os.path.join(_folder(), hashlib.sha256(name.encode("utf-8")).hexdigest()[:32])
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise _failed(path, exc) from exc
    with _locked(name, fd):
        yield


@contextmanager
def on_file(path: str) -> t.Iterator[None]:
    """Hold the lock on an existing file, for all users and, where the file system passes locks on, all hosts.

    A thread that holds it may take it again. Raises RegistryError (write_failed).
    """
    name = os.path.realpath(path)
    if name in _held():
        yield
        return
    try:
        fd = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as exc:
        raise _failed(path, exc) from exc
    with _locked(name, fd):
        yield


def _held() -> set[str]:
    return t.cast("set[str]", _HELD.__dict__.setdefault("names", set()))


@contextmanager
def _locked(name: str, fd: int) -> t.Iterator[None]:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        _held().add(name)
        yield
    finally:
        _held().discard(name)
        os.close(fd)


def _failed(path: str, exc: OSError) -> RegistryError:
    return RegistryError(
        code="write_failed", object=path, attempt="lock the signatures of an image",
        cause=exc.strerror or type(exc).__name__, advice="Make room or allow access in that folder.",
    )


def _folder() -> str:
    folder = os.path.join(tempfile.gettempdir(), f"hallmark-signing-locks-{os.geteuid()}")
    with suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    status = os.lstat(folder)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise RegistryError(
            code="destination_unsafe", object=folder, attempt="lock the signatures of an image",
            cause="the folder for lock files is not a private folder of this user",
            advice="Remove it, after finding out who made it.",
        )
    return folder
