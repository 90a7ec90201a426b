# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Writing, keeping and removing files that nobody else may read, change or redirect.

Method: walk to the folder without following foreign links, hold it by descriptor, create the file under a
temporary name with its final owner and mode before the first byte, and link it into place, which fails if
anything has that name. POSIX openat(2), linkat(2), fsync(2).
"""

from __future__ import annotations

import fcntl
import grp
import os
import pwd
import re
import stat
import typing as t
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from .._errors import CustodyError

if t.TYPE_CHECKING:
    from .._reason_codes import ReasonCode

MAX_SIZE = 1024 * 1024
PUBLIC_MODE = 0o644
_MODE = re.compile(r"0?[0-7]{3}")
_MAX_LINKS = 16
_FORBIDDEN_BITS = 0o137
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# On the way, the right to search a folder must do: O_PATH asks for no other.
_STEP = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_ID = 2**32 - 2


@dataclass(frozen=True)
class Attributes:
    """Mode bits and numeric owner and group; None leaves what is there."""

    mode: int
    uid: int | None = None
    gid: int | None = None


@dataclass(frozen=True)
class Found:
    """A regular file with one name: its bytes, and its attributes. The bytes are not in its C(repr)."""

    data: bytes = field(repr=False)
    attributes: Attributes

    @property
    def mode(self) -> str:
        """The mode as four octal digits."""
        return mode_text(self.attributes.mode)


def attributes(*, mode: str, owner: str | None = None, group: str | None = None) -> Attributes:
    """Return checked attributes of a private file.

    C(mode) is octal text; only reading by owner and group and writing by the owner can be asked for. Raises
    CustodyError (input_invalid).
    """
    if not _MODE.fullmatch(mode):
        raise _invalid("mode", f"{mode!r} is not octal", 'Write it in quotes, such as "0600".')
    bits = int(mode, 8)
    if bits & _FORBIDDEN_BITS or not bits & 0o400:
        raise _invalid("mode", f"{mode} lets others in, or its owner out", "Use 0600, 0400, 0640 or 0440.")
    return Attributes(bits, _uid(owner), _gid(group))


def mode_text(bits: int) -> str:
    """Return permission bits as four octal digits, such as C(0600)."""
    return f"{bits:04o}"


class PrivateFolder:
    """An open folder that only root and this user can change; all work inside is relative to it.

    Files of more than C(limit) bytes are refused.
    """

    def __init__(self, fd: int, path: str, limit: int) -> None:
        self._fd = fd
        self.path = path
        self._limit = limit

    def inspect(self, name: str) -> Found | None:
        """Return the file of that name, or None.

        Raises CustodyError (destination_unsafe): a link, a device, a pipe, a folder, or a file with a second
        name; nothing of that kind is ever opened for reading.
        """
        where = os.path.join(self.path, name)
        with failing(where, "look at it"):
            before = self.status(name)
            if before is None:
                return None
            fd = os.open(name, _READ, dir_fd=self._fd)
            try:
                status = os.fstat(fd)
                same = (status.st_dev, status.st_ino) == (before.st_dev, before.st_ino)
                # Another writer of ours may just have taken its temporary name away; a name may not come.
                if not same or status.st_nlink > before.st_nlink:
                    raise unsafe(where, "it changed while it was looked at")
                data = _read_all(fd, self._limit)
            finally:
                os.close(fd)
        if len(data) > self._limit:
            raise unsafe(where, f"it is larger than {self._limit >> 20} MiB")
        return Found(data, Attributes(stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid))

    def status(self, name: str) -> os.stat_result | None:
        """Return the status of a regular file with one name; None if nothing is there. Raises CustodyError."""
        where = os.path.join(self.path, name)
        try:
            status = os.stat(name, dir_fd=self._fd, follow_symlinks=False)
        except FileNotFoundError:
            return None
        if stat.S_ISLNK(status.st_mode):
            raise unsafe(where, "it is a symbolic link")
        if not stat.S_ISREG(status.st_mode):
            raise unsafe(where, "it is not a regular file")
        if status.st_nlink != 1 and not self._is_leftover_of(name, status):
            raise unsafe(where, "it has a second name (a hard link)")
        return status

    def _is_leftover_of(self, name: str, status: os.stat_result) -> bool:
        """Say whether the second name of a file is the one that an interrupted write of ours left."""
        with suppress(FileNotFoundError):
            other = os.stat(_temporary(name), dir_fd=self._fd, follow_symlinks=False)
            return status.st_nlink == 2 and (other.st_dev, other.st_ino) == (status.st_dev, status.st_ino)
        return False

    def create(self, name: str, data: bytes, wanted: Attributes) -> None:
        """Write a new file, whole or not at all, and read it back.

        Raises CustodyError: destination_occupied when anything has that name, write_failed (disk full and the
        like). Nothing stays behind then, or, if its name was there already, the whole file.
        """
        where = os.path.join(self.path, name)
        temporary = _temporary(name)
        with failing(where, "write it"), self._locked(name):
            self._write_temporary(temporary, data, wanted)
            try:
                os.link(temporary, name, src_dir_fd=self._fd, dst_dir_fd=self._fd, follow_symlinks=False)
            except FileExistsError as exc:
                raise CustodyError(
                    code="destination_occupied", object=where, attempt="write it", cause="something is there already",
                    advice="Nothing is overwritten: remove it, or choose another path.",
                ) from exc
            finally:
                os.unlink(temporary, dir_fd=self._fd)
            os.fsync(self._fd)
            self._read_back(name, data, wanted)

    def replace(self, name: str, data: bytes, wanted: Attributes) -> None:
        """Write a file in place of a former one, atomically, and read it back. Raises CustodyError (write_failed)."""
        where = os.path.join(self.path, name)
        temporary = _temporary(name)
        with failing(where, "replace it"), self._locked(name):
            self._write_temporary(temporary, data, wanted)
            try:
                os.rename(temporary, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
            except OSError:
                os.unlink(temporary, dir_fd=self._fd)
                raise
            os.fsync(self._fd)
            self._read_back(name, data, wanted)

    def converge(self, name: str, found: Found, wanted: Attributes, *, dry_run: bool) -> bool:
        """Give the file the wanted attributes; return whether that changes (or would change) anything.

        It is narrowed before it gets another owner, and widened last. Raises CustodyError (write_failed).
        """
        if _fits(found.attributes, wanted):
            return False
        if dry_run:
            return True
        with failing(os.path.join(self.path, name), "set owner, group and mode"):
            fd = os.open(name, _READ, dir_fd=self._fd)
            try:
                os.fchmod(fd, stat.S_IMODE(os.fstat(fd).st_mode) & wanted.mode)
                self._set_attributes(fd, wanted)
            finally:
                os.close(fd)
        return True

    def remove(self, name: str) -> None:
        """Remove the file, durably. Raises CustodyError (write_failed)."""
        with failing(os.path.join(self.path, name), "remove it"):
            os.unlink(name, dir_fd=self._fd)
            os.fsync(self._fd)

    def fileno(self) -> int:
        """Return the descriptor of the folder."""
        return self._fd

    def sweep(self, name: str) -> None:
        """Remove what an interrupted write of that name left behind."""
        with failing(os.path.join(self.path, name), "remove an interrupted write"), self._locked(name):
            pass

    @contextmanager
    def _locked(self, name: str) -> t.Iterator[None]:
        # One writer per folder; the lock goes with the descriptor, so nothing is left to clean.
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            # Only if it is there: where nothing changes, nothing need be writable.
            with suppress(FileNotFoundError):
                os.stat(_temporary(name), dir_fd=self._fd, follow_symlinks=False)
                os.unlink(_temporary(name), dir_fd=self._fd)
            yield
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def _write_temporary(self, temporary: str, data: bytes, wanted: Attributes) -> None:
        fd = os.open(temporary, _WRITE, 0o600, dir_fd=self._fd)
        try:
            try:
                self._set_attributes(fd, wanted)
                view = memoryview(data)
                while view:
                    view = view[os.write(fd, view):]
                os.fsync(fd)
            finally:
                # Some file systems say only here that they could not store it.
                os.close(fd)
        except BaseException:
            os.unlink(temporary, dir_fd=self._fd)
            raise

    @staticmethod
    def _set_attributes(fd: int, wanted: Attributes) -> None:
        if wanted.uid is not None or wanted.gid is not None:
            os.fchown(fd, -1 if wanted.uid is None else wanted.uid, -1 if wanted.gid is None else wanted.gid)
        os.fchmod(fd, wanted.mode)

    def _read_back(self, name: str, data: bytes, wanted: Attributes) -> None:
        found = self.inspect(name)
        if found is None or found.data != data or not _fits(found.attributes, wanted):
            raise CustodyError(
                code="write_failed", object=os.path.join(self.path, name), attempt="write it",
                cause="reading it back gave something else", advice="Check the file system, and who else writes here.",
            )


@contextmanager
def open_parent(
    path: str, *, create: bool, limit: int = MAX_SIZE
) -> t.Iterator[tuple[PrivateFolder | None, str]]:
    """Open the folder of C(path) and yield it with the file's name; the folder is None if it does not exist.

    With C(create), missing folders are made with mode 0700. Raises CustodyError: destination_unsafe when
    somebody else could change what is there, write_failed, input_invalid.
    """
    whole = os.path.join(os.getcwd(), path)
    folder, name = os.path.split(whole)
    if not name or name == ".." or ".." in folder.split("/") or "\0" in whole:
        raise _invalid(path, "it does not name a file, or contains '..'", "Give the absolute path of the file.")
    with failing(folder, "go there"):
        fd = _walk(folder, create=create)
    try:
        yield (None if fd is None else PrivateFolder(fd, folder, limit)), name
    finally:
        # Nothing was written through it: no error of closing it means anything.
        if fd is not None:
            with suppress(OSError):
                os.close(fd)


def temporary_path(path: str) -> str:
    """Return where a file is written before it gets its name, and may be left by a write that was killed."""
    folder, name = os.path.split(path)
    return os.path.join(folder, _temporary(name))


def _walk(folder: str, *, create: bool) -> int | None:
    """Return a descriptor of C(folder), each step of which was checked; None if it is missing."""
    links = 0
    todo = [part for part in folder.split("/") if part not in ("", ".")]
    fd, here = os.open("/", _STEP), "/"
    try:
        while todo:
            name = todo.pop(0)
            below = os.path.join(here, name)
            status = _child(fd, name, here, create=create)
            if status is None:
                os.close(fd)
                return None
            _check_step(os.fstat(fd), status, here, below)
            if stat.S_ISLNK(status.st_mode):
                links += 1
                if links > _MAX_LINKS:
                    raise unsafe(below, "there are too many symbolic links on the way")
                target = os.readlink(name, dir_fd=fd)
                todo = [part for part in target.split("/") if part not in ("", ".")] + todo
                if ".." in todo:
                    raise unsafe(below, "it is a symbolic link with '..'")
                if target.startswith("/"):
                    fd, here = _enter(fd, "/", "/"), "/"
                continue
            fd, here = _enter(fd, name, below), below
        _check_parent(os.fstat(fd), here)
        return _enter(fd, ".", here, _FOLDER)
    except BaseException:
        with suppress(OSError):
            os.close(fd)
        raise


def _enter(fd: int, name: str, below: str, flags: int | None = None) -> int:
    with failing(below, "enter the folder"):
        deeper = os.open(name, _STEP if flags is None else flags, dir_fd=fd)
    os.close(fd)
    return deeper


def _child(fd: int, name: str, here: str, *, create: bool) -> os.stat_result | None:
    """Return the status of the next step, which is made if it is missing and may be made; else None."""
    below = os.path.join(here, name)
    with failing(below, "look at it"), suppress(FileNotFoundError):
        return os.stat(name, dir_fd=fd, follow_symlinks=False)
    # What is to be made must lie in a safe place, too, also if it is only going to be.
    above = os.fstat(fd)
    if above.st_mode & stat.S_IWOTH and not above.st_mode & stat.S_ISVTX:
        raise unsafe(here, f"it can be written by others, who could exchange {below}")
    if not create:
        return None
    with failing(below, "make the folder"):
        # Another writer may be quicker; the checks that follow look at what it made.
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=fd)
            parent = os.open(".", _FOLDER, dir_fd=fd)
            try:
                os.fsync(parent)
            finally:
                os.close(parent)
        return os.stat(name, dir_fd=fd, follow_symlinks=False)


def _check_step(above: os.stat_result, child: os.stat_result, here: str, below: str) -> None:
    """Refuse a step that anybody could redirect; C(above) is an ancestor of the folder the file goes into."""
    if above.st_mode & stat.S_IWOTH and not (above.st_mode & stat.S_ISVTX and is_trusted(child)):
        raise unsafe(here, f"it can be written by others, who could exchange {below}")
    if stat.S_ISLNK(child.st_mode) and not is_trusted(child):
        raise unsafe(below, "it is a symbolic link of another user")
    if not stat.S_ISLNK(child.st_mode) and not stat.S_ISDIR(child.st_mode):
        raise unsafe(below, "it is not a folder")


def _check_parent(status: os.stat_result, here: str) -> None:
    if not is_trusted(status) or status.st_mode & 0o022:
        raise unsafe(here, "it belongs to another user, or can be written by its group or others")


def is_trusted(status: os.stat_result) -> bool:
    """Say whether something belongs to root or to this user."""
    return status.st_uid in (0, os.geteuid())


def _fits(found: Attributes, wanted: Attributes) -> bool:
    return (
        found.mode == wanted.mode
        and wanted.uid in (None, found.uid)
        and wanted.gid in (None, found.gid)
    )


def _temporary(name: str) -> str:
    # Always the same, so that a later run finds and removes what a killed one left.
    return f".{name}.hallmark-new"


def _read_all(fd: int, limit: int) -> bytes:
    data = b""
    while len(data) <= limit and (chunk := os.read(fd, limit + 1)):
        data += chunk
    return data


def _uid(owner: str | None) -> int | None:
    if owner is None:
        return None
    if owner.isascii() and owner.isdigit():
        return _bounded_id("owner", int(owner))
    try:
        return pwd.getpwnam(owner).pw_uid
    except KeyError:
        raise _invalid("owner", f"there is no user {owner!r}", "Create it first.") from None


def _bounded_id(option: str, number: int) -> int:
    if number > _MAX_ID:
        raise _invalid(option, f"{number} is no user or group id", "Give a name, or a smaller number.")
    return number


def _gid(group: str | None) -> int | None:
    if group is None:
        return None
    if group.isascii() and group.isdigit():
        return _bounded_id("group", int(group))
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise _invalid("group", f"there is no group {group!r}", "Create it first.") from None


@contextmanager
def failing(where: str, attempt: str) -> t.Iterator[None]:
    """Turn an operating system error into a CustodyError (write_failed)."""
    try:
        yield
    except OSError as exc:
        raise CustodyError(
            code="write_failed", object=where, attempt=attempt, cause=exc.strerror or type(exc).__name__,
            advice="Nothing was left half done; make room or allow access, and run again.",
        ) from exc


def unsafe(where: str, cause: str) -> CustodyError:
    """Return the error for a place where a private file would not be private."""
    return CustodyError(
        code="destination_unsafe", object=where, attempt="keep a private file here", cause=cause,
        advice="Choose a place that belongs to root or this user and that nobody else can write.",
    )


def _invalid(where: str, cause: str, advice: str) -> CustodyError:
    code: ReasonCode = "input_invalid"
    return CustodyError(code=code, object=where, attempt="use it", cause=cause, advice=advice)
