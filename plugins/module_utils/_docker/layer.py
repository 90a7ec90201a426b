# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Layers of an image as tar files: the same entries give the same bytes on every machine.

Source: OCI image specification, "Image Layer Filesystem Changeset"; POSIX.1-2001, pax interchange format. Layers stay
uncompressed: compressors of different versions give different bytes, and with them a different digest. tarfile is not
used for writing, so that no release of Python changes them either.
"""

from __future__ import annotations

import hashlib
import os
import stat
import typing as t
from dataclasses import dataclass

from .._errors import BuildError

LAYER = "application/vnd.oci.image.layer.v1.tar"
FOLDER_MODE = 0o755
_BLOCK = 512
_CHUNK = 1024 * 1024
_MAX_NAME = 100
_MAX_ID = 0o7777777
_MAX_NUMBER = 0o77777777777
_PAX = "././@PaxHeader"


@dataclass(frozen=True)
class Entry:
    """One path of a layer, relative to the root, and what is put there.

    A file has C(source), where its content lies; a link has C(target).
    """

    path: str
    kind: t.Literal["folder", "file", "link"]
    mode: int = FOLDER_MODE
    uid: int = 0
    gid: int = 0
    source: str = ""
    target: str = ""


def write_layer(entries: t.Iterable[Entry], stream: t.IO[bytes], *, epoch: int) -> tuple[str, int]:
    """Write an uncompressed layer and return its digest, which is its diff id, too, and its size.

    Entries are sorted by path, a later one stands for an earlier one of the same path. All have the time C(epoch).
    Raises BuildError: not_found for a file that cannot be read, build_failed for one that changes its size meanwhile,
    input_invalid for a name that is not UTF-8, write_failed.
    """
    tar = _Tar(stream, epoch)
    for _path, entry in sorted({entry.path: entry for entry in entries}.items()):
        tar.add(entry)
    return tar.close()


class _Tar:
    def __init__(self, stream: t.IO[bytes], epoch: int) -> None:
        self._stream = stream
        self._epoch = epoch
        self._digest = hashlib.sha256()
        self._size = 0

    def add(self, entry: Entry) -> None:
        if entry.kind == "file":
            self._file(entry)
        else:
            self._header(entry, 0)

    def close(self) -> tuple[str, int]:
        self._write(bytes(2 * _BLOCK))
        return f"sha256:{self._digest.hexdigest()}", self._size

    def _file(self, entry: Entry) -> None:
        try:
            # Something else may lie there by now: a pipe would block.
            number = os.open(entry.source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                status = os.fstat(number)
                if not stat.S_ISREG(status.st_mode):
                    raise _changed(entry.source)
                with open(number, "rb", closefd=False) as file:
                    self._header(entry, status.st_size)
                    self._content(file, entry.source, status.st_size)
            finally:
                os.close(number)
        except OSError as exc:
            raise BuildError(
                code="not_found", object=entry.source, attempt="read a file of the context",
                cause=exc.strerror or type(exc).__name__, advice="Check it, and its rights.",
            ) from exc

    def _content(self, file: t.IO[bytes], path: str, size: int) -> None:
        left = size
        while left:
            chunk = file.read(min(left, _CHUNK))
            if not chunk:
                raise _changed(path)
            self._write(chunk)
            left -= len(chunk)
        if file.read(1):
            raise _changed(path)
        self._write(bytes(-size % _BLOCK))

    def _header(self, entry: Entry, size: int) -> None:
        name = _encoded(entry.path, entry.path) + (b"/" if entry.kind == "folder" else b"")
        target = _encoded(entry.target, entry.path)
        numbers = {"gid": entry.gid, "mtime": self._epoch, "size": size, "uid": entry.uid}
        limits = {"gid": _MAX_ID, "mtime": _MAX_NUMBER, "size": _MAX_NUMBER, "uid": _MAX_ID}
        records = {key: str(value).encode() for key, value in numbers.items() if value > limits[key]}
        records.update(
            (key, value) for key, value in (("path", name), ("linkpath", target))
            if len(value) > _MAX_NAME or not value.isascii()
        )
        if records:
            body = b"".join(_record(key, value) for key, value in sorted(records.items()))
            self._write(_block(_PAX.encode(), b"x", 0o644, 0, 0, len(body), 0, b""))
            self._write(body + bytes(-len(body) % _BLOCK))
        kind = {"folder": b"5", "file": b"0", "link": b"2"}[entry.kind]
        fit = {key: 0 if key in records else value for key, value in numbers.items()}
        mode = 0o777 if entry.kind == "link" else entry.mode & 0o7777
        self._write(
            _block(_short(name), kind, mode, fit["uid"], fit["gid"], fit["size"], fit["mtime"], _short(target))
        )

    def _write(self, data: bytes) -> None:
        try:
            self._stream.write(data)
        except OSError as exc:
            raise BuildError(
                code="write_failed", object=str(getattr(self._stream, "name", "layer")), attempt="write a layer",
                cause=exc.strerror or type(exc).__name__, advice="Make room there, and run again.",
            ) from exc
        self._digest.update(data)
        self._size += len(data)


def _encoded(text: str, path: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as exc:
        raise BuildError(
            code="input_invalid", object=repr(path), attempt="write it into a layer",
            cause="its name or link target is not UTF-8", advice="Rename it, or list it in .dockerignore.",
        ) from exc


def _short(text: bytes) -> bytes:
    # Readers that know no pax records see this; it needs no more than to fit.
    return bytes(byte if byte < 128 else ord("?") for byte in text)[:_MAX_NAME]


def _record(key: str, value: bytes) -> bytes:
    """Return a pax record, which begins with its own length."""
    rest = b" " + key.encode() + b"=" + value + b"\n"
    length = len(rest)
    while len(str(length)) + len(rest) != length:
        length = len(str(length)) + len(rest)
    return str(length).encode() + rest


def _block(name: bytes, kind: bytes, mode: int, uid: int, gid: int, size: int, mtime: int, target: bytes) -> bytes:
    """Return a ustar header."""
    head = name.ljust(100, b"\0") + b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (mode, uid, gid, size, mtime)
    # Both names of the owner are empty: they would be those of this machine.
    tail = kind + target.ljust(100, b"\0") + b"ustar\00000" + bytes(64) + b"%07o\0%07o\0" % (0, 0)
    block = (head + b" " * 8 + tail).ljust(_BLOCK, b"\0")
    return head + b"%06o\0 " % sum(block) + block[156:]


def _changed(path: str) -> BuildError:
    return BuildError(
        code="build_failed", object=path, attempt="put it into a layer", cause="it changed while it was read",
        advice="Wait for what writes to it, and run again.",
    )
