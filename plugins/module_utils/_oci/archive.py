# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""OCI archives: the files of an OCI layout in one tar file, which is read in place and written whole.

Nothing is unpacked to read: members are found by their place in the file, so that no name can lead anywhere and
nothing can grow beyond what its descriptor says.
"""

from __future__ import annotations

import errno
import functools
import os
import stat
import tarfile
import threading
import typing as t
from contextlib import suppress
from dataclasses import dataclass

from .._errors import FormatError, RegistryError
from . import layout_files
from .digest import is_digest
from .layout import LayoutReader
from .layout_files import INDEX, MARKER, LayoutFiles, blob_name, malformed, require_version
from .layout_reference import LayoutReference
from .manifest import Descriptor

# What docker save wrote before it wrote layouts.
_DOCKER = "manifest.json"
_CHUNK = 64 * 1024
_MAX_SMALL = 32 * 1024 * 1024
_MAX_MEMBERS = 1_000_000
_COMPRESSED = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"BZh", "bzip2"), (b"\xfd7zXZ", "xz"))


@dataclass(frozen=True)
class Member:
    """Where the content of a file lies in the archive, in bytes."""

    offset: int
    size: int


class ArchiveFiles:
    """The files of a layout in a tar archive; reads from C(where)."""

    def __init__(self, where: str) -> None:
        """List the members. Raises RegistryError (not_found, limit_exceeded), FormatError (malformed)."""
        self.where = where
        try:
            with open(where, "rb") as stream:
                self._members = _members(stream, where)
        except OSError as exc:
            raise _unreadable(where, exc) from exc

    def require_version(self) -> None:
        """Check C(oci-layout). Raises FormatError (malformed)."""
        raw = self._content(MARKER, limit=_CHUNK)
        if raw is None:
            docker = " (it is one of docker save, which keeps no manifest)" if _DOCKER in self._members else ""
            raise malformed(self.where, f"it has no file {MARKER}{docker}")
        require_version(raw, where=self.where)

    def index(self) -> bytes:
        """Return C(index.json). Raises FormatError (malformed) where it is missing."""
        raw = self._content(INDEX, limit=_MAX_SMALL)
        if raw is None:
            raise malformed(self.where, f"it has no file {INDEX}")
        return raw

    def size(self, digest: str) -> int | None:
        """Return the size of a blob in bytes, or None."""
        member = self._members.get(blob_name(digest))
        return member.size if member else None

    def read(self, digest: str, *, limit: int) -> bytes | None:
        """Return a blob, or None. Raises RegistryError (limit_exceeded)."""
        return self._content(blob_name(digest), limit=limit)

    def stream(self, digest: str, *, offset: int) -> t.Iterator[bytes] | None:
        """Yield a blob from C(offset) on, or return None where it is not there."""
        member = self._members.get(blob_name(digest))
        return None if member is None else self._chunks(member, offset)

    def small_blobs(self, limit: int) -> set[str]:
        """Return the digests of all blobs of at most C(limit) bytes."""
        return {
            name[len("blobs/"):].replace("/", ":") for name, member in self._members.items()
            if name.startswith("blobs/") and member.size <= limit
        }

    def _content(self, name: str, *, limit: int) -> bytes | None:
        member = self._members.get(name)
        if member is None:
            return None
        if member.size > limit:
            raise RegistryError(
                code="limit_exceeded", object=f"{self.where} ({name})", attempt="read the archive",
                cause=f"it has {member.size} bytes, more than {limit}",
                advice="Nothing legitimate is that large; look at it.",
            )
        return b"".join(self._chunks(member, 0))

    def _chunks(self, member: Member, offset: int) -> t.Iterator[bytes]:
        with open(self.where, "rb") as stream:
            stream.seek(member.offset + offset)
            left = member.size - offset
            while left > 0 and (chunk := stream.read(min(_CHUNK, left))):
                left -= len(chunk)
                yield chunk


def _members(stream: t.BinaryIO, where: str) -> dict[str, Member]:
    head = stream.read(8)
    stream.seek(0)
    for magic, name in _COMPRESSED:
        if head.startswith(magic):
            raise malformed(where, f"it is compressed with {name}; an OCI archive is a plain tar file: unpack it first")
    end = os.fstat(stream.fileno()).st_size
    members: dict[str, Member] = {}
    last = -1
    try:
        with tarfile.open(fileobj=stream, mode="r:") as archive:
            for count, entry in enumerate(archive):
                # tarfile keeps every entry it has seen; a million of them are enough.
                archive.members = []  # type: ignore[attr-defined,unused-ignore]
                if count >= _MAX_MEMBERS:
                    raise malformed(where, f"it has more than {_MAX_MEMBERS} members")
                # A size below zero leads back to a header that was read before.
                if entry.offset <= last or entry.size < 0:
                    raise malformed(where, "its members do not follow each other")
                last = entry.offset
                name = os.path.normpath(entry.name)
                if name in (MARKER, INDEX, _DOCKER) or _is_blob(name):
                    if not entry.isreg() or entry.issparse() or entry.offset_data + entry.size > end:
                        raise malformed(where, f"its member {name} is not a plain file, or is cut off")
                    if name in members:
                        raise malformed(where, f"its member {name} is there twice")
                    members[name] = Member(entry.offset_data, entry.size)
    except (tarfile.TarError, ValueError, LookupError, EOFError, OverflowError, MemoryError, RecursionError) as exc:
        # Hostile headers bring tarfile to all of these.
        raise malformed(where, f"it is not a tar file: {exc or type(exc).__name__}") from exc
    return members


def _unreadable(where: str, exc: OSError) -> RegistryError:
    return RegistryError(
        code="not_found", object=where, attempt="read the archive", cause=exc.strerror or type(exc).__name__,
        advice="Name a tar file with an OCI layout in it.",
    )


def _is_blob(name: str) -> bool:
    parts = name.split("/")
    return len(parts) == 3 and parts[0] == "blobs" and is_digest(f"{parts[1]}:{parts[2]}")


class Archives(LayoutReader):
    """All archives of one run, to be read; what would write to one is refused. A C(Store)."""

    def __init__(self) -> None:
        super().__init__()
        self._opened: dict[tuple[str, int, int], ArchiveFiles] = {}
        self._opening = threading.Lock()

    def files(self, image: LayoutReference) -> ArchiveFiles:
        """Return the files of an archive, which is looked through once. Raises RegistryError, FormatError."""
        path = os.path.abspath(image.path)
        try:
            status = os.stat(path)
        except OSError as exc:
            raise _unreadable(path, exc) from exc
        if not stat.S_ISREG(status.st_mode):
            raise _unreadable(path, OSError(errno.EINVAL, "it is not a file"))
        # One that was replaced meanwhile is another one.
        key = (path, status.st_ino, status.st_mtime_ns)
        with self._opening:
            if key not in self._opened:
                self._opened[key] = ArchiveFiles(path)
            return self._opened[key]

    def _refused(self, image: LayoutReference, *_arguments: t.Any, **_options: t.Any) -> t.NoReturn:
        raise RegistryError(
            code="input_invalid", object=str(image), attempt="change the archive", cause="archives are written whole",
            advice="Copy it to a layout (oci:DIR:TAG) with image_copy, change that, and copy it to an archive again.",
        )

    put_blob = put_manifest = delete_manifest = attach = detach = exclusive = _refused


def pack(files: LayoutFiles, destination: str) -> None:
    """Write a layout as a tar archive: the same bytes for the same layout, whole or not at all.

    Raises RegistryError (write_failed).
    """
    temporary = f"{destination}.{os.getpid()}-{os.urandom(4).hex()}.partial"
    try:
        # GNU's format has no bound on sizes, and every reader knows it.
        with open(temporary, "xb") as stream, tarfile.open(
            fileobj=stream, mode="w", format=tarfile.GNU_FORMAT
        ) as archive:
            for name in (MARKER, INDEX, *sorted(blob_name(digest) for digest in files.small_blobs(1 << 62))):
                _add(archive, files.path(name), name)
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, destination)
    except OSError as exc:
        raise layout_files.failed(destination, exc) from exc
    except tarfile.TarError as exc:
        raise FormatError(
            code="malformed", object=destination, attempt="write the archive", cause=str(exc),
            advice="Look at the layout.",
        ) from exc
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)


def _add(archive: tarfile.TarFile, path: str, name: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.mode = 0o644
    with open(path, "rb") as content:
        entry.size = os.fstat(content.fileno()).st_size
        archive.addfile(entry, content)


def _stream(archive: ArchiveFiles, digest: str, offset: int) -> t.Iterator[bytes]:
    return t.cast("t.Iterator[bytes]", archive.stream(digest, offset=offset))


def unpack(archive: ArchiveFiles, files: LayoutFiles) -> None:
    """Copy the blobs and the index of an archive into a layout. Raises RegistryError, FormatError."""
    for digest in sorted(archive.small_blobs(1 << 62)):
        blob = Descriptor("", digest, t.cast(int, archive.size(digest)))
        files.receive(blob, functools.partial(_stream, archive, digest))
    files.replace(INDEX, archive.index())
