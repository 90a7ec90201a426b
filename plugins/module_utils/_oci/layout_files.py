# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files of an OCI layout: no link is followed inside of it, every file is written aside and renamed."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import stat
import threading
import typing as t
from contextlib import contextmanager, suppress

from .. import _strict_json
from .._errors import FormatError, RegistryError
from .digest import is_digest
from .manifest import Descriptor

MARKER = "oci-layout"
INDEX = "index.json"
VERSION = "1.0.0"
# What files are called that are not whole yet; no reader of layouts looks at them.
_PARTIAL = ".hallmark-signing-"
_CHUNK = 64 * 1024
_MAX_INDEX = 32 * 1024 * 1024
_EMPTY_INDEX = b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}'


class Readable(t.Protocol):
    """What a layout is read from. Methods raise RegistryError and FormatError."""

    where: str

    def require_version(self) -> None:
        """Check C(oci-layout)."""

    def index(self) -> bytes:
        """Return C(index.json)."""

    def size(self, digest: str) -> int | None:
        """Return the size of a blob in bytes, or None."""

    def read(self, digest: str, *, limit: int) -> bytes | None:
        """Return a blob, None where it is not there; a larger one than C(limit) is an error (limit_exceeded)."""

    def stream(self, digest: str, *, offset: int) -> t.Iterator[bytes] | None:
        """Yield a blob in chunks of at most 64 KiB, or return None."""

    def small_blobs(self, limit: int) -> set[str]:
        """Return the digests of all blobs of at most C(limit) bytes."""


class LayoutFiles:
    """The files of one layout, by its absolute path."""

    def __init__(self, where: str) -> None:
        self.where = where

    def path(self, name: str) -> str:
        """Return the path of a file of the layout."""
        return os.path.join(self.where, name)

    def require_version(self) -> None:
        """Check C(oci-layout). Raises RegistryError (not_found), FormatError (malformed)."""
        raw = self._read_file(MARKER, limit=_CHUNK)
        if raw is None:
            raise RegistryError(
                code="not_found", object=self.where, attempt="read the layout", cause=f"it has no file {MARKER}",
                advice="Name the folder of an OCI layout, as skopeo copy and cosign save write them.",
            )
        require_version(raw, where=self.where)

    def require_folders(self) -> None:
        """Refuse to write where a folder is a link that leads elsewhere. Raises FormatError (malformed)."""
        for name in ("blobs", "blobs/sha256", "blobs/sha512"):
            with suppress(FileNotFoundError):
                if not stat.S_ISDIR(os.lstat(self.path(name)).st_mode):
                    raise malformed(self.path(name), "it is not a folder")

    def index(self) -> bytes:
        """Return C(index.json). Raises FormatError (malformed) where it is missing."""
        raw = self._read_file(INDEX, limit=_MAX_INDEX)
        if raw is None:
            raise malformed(self.where, f"it has no file {INDEX}")
        return raw

    def size(self, digest: str) -> int | None:
        """Return the size of a blob in bytes, or None."""
        with self._opened(blob_name(digest)) as fd:
            return None if fd is None else os.fstat(fd).st_size

    def read(self, digest: str, *, limit: int) -> bytes | None:
        """Return a blob, or None. Raises RegistryError (limit_exceeded)."""
        return self._read_file(blob_name(digest), limit=limit)

    def stream(self, digest: str, *, offset: int) -> t.Iterator[bytes] | None:
        """Yield a blob from C(offset) on, or return None where it is not there."""
        return self._chunks(digest, offset) if self.size(digest) is not None else None

    def _chunks(self, digest: str, offset: int) -> t.Iterator[bytes]:
        with self._opened(blob_name(digest)) as fd:
            if fd is None:
                return
            os.lseek(fd, offset, os.SEEK_SET)
            while chunk := os.read(fd, _CHUNK):
                yield chunk

    def small_blobs(self, limit: int) -> set[str]:
        """Return the digests of all blobs of at most C(limit) bytes."""
        found: set[str] = set()
        for algorithm in ("sha256", "sha512"):
            folder = self.path(f"blobs/{algorithm}")
            with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
                for entry in entries:
                    digest = f"{algorithm}:{entry.name}"
                    # What is not named by a digest, or is no plain file, is nobody's blob.
                    if is_digest(digest) and entry.is_file(follow_symlinks=False):
                        with suppress(FileNotFoundError):
                            if entry.stat(follow_symlinks=False).st_size <= limit:
                                found.add(digest)
        return found

    def write(self, digest: str, data: bytes) -> None:
        """Store a blob. Raises RegistryError (write_failed)."""
        self._make_folder(os.path.dirname(blob_name(digest)))
        self.replace(blob_name(digest), data)

    def replace(self, name: str, data: bytes) -> None:
        """Write a file whole or not at all. Raises RegistryError (write_failed)."""
        final = self.path(name)
        temporary = self._temporary()
        try:
            with open(temporary, "xb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, final)
        except OSError as exc:
            raise failed(final, exc) from exc
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary)

    def receive(self, descriptor: Descriptor, read_from: t.Callable[[int], t.Iterator[bytes]]) -> None:
        """Store a blob that does not fit into memory, going on where a former call broke off.

        Raises RegistryError (write_failed), FormatError (digest_mismatch), and what C(read_from) raises.
        """
        if self.size(descriptor.digest) == descriptor.size:
            return
        partial = self._partial(descriptor.digest)
        try:
            self._fill(partial, descriptor, read_from)
            with suppress(FileNotFoundError):
                # Another process that fetched the same blob may have been faster.
                os.replace(partial, self.path(blob_name(descriptor.digest)))
            if self.size(descriptor.digest) != descriptor.size:
                raise FileNotFoundError(errno.ENOENT, "another process removed it")
        except (FormatError, RegistryError) as exc:
            # What can never become what it shall be does not stay, nor does nothing at all.
            with suppress(OSError):
                if exc.code in ("digest_mismatch", "limit_exceeded") or not os.path.getsize(partial):
                    os.unlink(partial)
            raise
        except OSError as exc:
            # A full disk is not helped by what lies on it.
            with suppress(OSError):
                os.unlink(partial)
            raise failed(partial, exc) from exc

    def _fill(
        self, partial: str, descriptor: Descriptor, read_from: t.Callable[[int], t.Iterator[bytes]]
    ) -> None:
        with open(os.open(partial, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644), "rb+") as stream:
            # Two that fetch the same blob take turns; the second finds it whole.
            fcntl.flock(stream.fileno(), fcntl.LOCK_EX)
            if stream.seek(0, os.SEEK_END) > descriptor.size:
                stream.truncate(0)
            stream.seek(0)
            digest = hashlib.new(descriptor.digest.partition(":")[0])
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
            for chunk in read_from(stream.tell()):
                stream.write(chunk)
                digest.update(chunk)
                if stream.tell() > descriptor.size:
                    break
            stream.flush()
            os.fsync(stream.fileno())
            size = stream.tell()
            if f"{digest.name}:{digest.hexdigest()}" == descriptor.digest and size == descriptor.size:
                return
        raise FormatError(
            code="digest_mismatch", object=f"{self.where}@{descriptor.digest}", attempt="store the blob",
            cause=f"what came has {size} bytes and digest {digest.hexdigest()}; {descriptor.size} bytes were promised",
            advice="The source serves wrong content; do not use it.",
        )

    def remove(self, digest: str) -> None:
        """Take a blob away; one that is gone is fine. Raises RegistryError (write_failed)."""
        try:
            with suppress(FileNotFoundError):
                os.unlink(self.path(blob_name(digest)))
        except OSError as exc:
            raise failed(self.path(blob_name(digest)), exc) from exc

    def _partial(self, digest: str) -> str:
        self._make_folder(os.path.dirname(blob_name(digest)))
        return self.path(f"{_PARTIAL}{digest.replace(':', '-')}")

    def _temporary(self) -> str:
        return self.path(f"{_PARTIAL}{os.getpid()}-{threading.get_ident()}-{os.urandom(6).hex()}")

    def _make_folder(self, name: str) -> None:
        try:
            os.makedirs(self.path(name), mode=0o755, exist_ok=True)
        except OSError as exc:
            raise failed(self.path(name), exc) from exc

    def _read_file(self, name: str, *, limit: int) -> bytes | None:
        with self._opened(name) as fd:
            if fd is None:
                return None
            size = os.fstat(fd).st_size
            if size > limit:
                raise RegistryError(
                    code="limit_exceeded", object=self.path(name), attempt="read the file",
                    cause=f"it has {size} bytes, more than {limit}",
                    advice="Nothing legitimate is that large; look at it.",
                )
            with os.fdopen(os.dup(fd), "rb") as stream:
                return stream.read(limit)

    @contextmanager
    def _opened(self, name: str) -> t.Iterator[int | None]:
        """Open a file of the layout for reading, one component at a time, so that no link leads out of it."""
        fds: list[int] = []
        try:
            yield self._walk(name, fds)
        finally:
            for fd in fds:
                os.close(fd)

    def _walk(self, name: str, fds: list[int]) -> int | None:
        common = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            fds.append(os.open(self.where, common | os.O_DIRECTORY))
            *folders, last = name.split("/")
            for folder in folders:
                fds.append(os.open(folder, common | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fds[-1]))
            fds.append(os.open(last, common | os.O_NOFOLLOW, dir_fd=fds[-1]))
        except OSError as exc:
            if exc.errno == errno.ENOENT:
                return None
            link = exc.errno in (errno.ELOOP, errno.ENOTDIR)
            raise malformed(
                self.path(name), "it is or goes through a link, and no layout has one" if link else str(exc.strerror)
            ) from exc
        if not stat.S_ISREG(os.fstat(fds[-1]).st_mode):
            raise malformed(self.path(name), "it is not a file")
        return fds[-1]


def blob_name(digest: str) -> str:
    """Return the path of a blob inside a layout; a digest is safe in a path."""
    algorithm, _colon, value = digest.partition(":")
    return f"blobs/{algorithm}/{value}"


def make(where: str) -> LayoutFiles:
    """Return the files of a layout that is there, or make an empty one.

    Raises RegistryError: destination_occupied where something else lies in the folder, or write_failed.
    """
    files = LayoutFiles(where)
    if os.path.exists(files.path(MARKER)):
        files.require_version()
        files.require_folders()
        return files
    try:
        os.makedirs(where, exist_ok=True)
        others = {
            name for name in os.listdir(where)
            if name not in ("blobs", INDEX, MARKER) and not name.startswith(_PARTIAL)
        }
        if others:
            raise RegistryError(
                code="destination_occupied", object=where, attempt="make a layout",
                cause=f"the folder has other files in it, such as {sorted(others)[0]!r}",
                advice="Name an empty folder, or one that is not there.",
            )
        os.makedirs(files.path("blobs/sha256"), exist_ok=True)
        files.require_folders()
        for name, content in ((INDEX, _EMPTY_INDEX), (MARKER, json.dumps({"imageLayoutVersion": VERSION}).encode())):
            _write_new(files, name, content)
    except OSError as exc:
        raise failed(where, exc) from exc
    return files


def _write_new(files: LayoutFiles, name: str, content: bytes) -> None:
    """Write a file unless another process was faster."""
    temporary = files._temporary()
    try:
        with open(temporary, "xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        with suppress(FileExistsError):
            os.link(temporary, files.path(name))
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)


def require_version(raw: bytes, *, where: str) -> None:
    """Check the content of C(oci-layout). Raises FormatError (malformed)."""
    marker = _strict_json.loads(raw, what=MARKER, where=where)
    version = marker.string("imageLayoutVersion", "")
    if version != VERSION:
        raise malformed(where, f"its layout version is {version[:50]!r}, not {VERSION}")


def malformed(where: str, cause: str) -> FormatError:
    """Return the error for something that is no layout."""
    return FormatError(
        code="malformed", object=where, attempt="read the layout", cause=cause, advice="Make it anew, or repair it.",
    )


def failed(path: str, exc: OSError) -> RegistryError:
    """Return the error for a write that failed."""
    return RegistryError(
        code="write_failed", object=path, attempt="write to the layout", cause=exc.strerror or type(exc).__name__,
        advice="Make room, or allow writing there, and run again: what is there already is not fetched twice.",
    )
