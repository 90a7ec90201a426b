# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The members of a tar that comes in chunks: names, kinds and link targets, nothing held but one header.

Sources: POSIX.1-2001 (ustar, pax), GNU tar manual, "Basic Tar Format". tarfile is not used: it takes a damaged header
behind the first one for the end, and reads extended headers of any size into memory.
"""

from __future__ import annotations

import re
import typing as t
import zlib
from dataclasses import dataclass

from .._errors import RegistryError
from .._libraries import optional

with optional():
    from compression import zstd  # type: ignore[import-not-found,unused-ignore]

_BLOCK = 512
_STEP = 1024 * 1024
_MAX_EXTENDED = 1024 * 1024
_MAX_NAME = 4096
_HEADER_ONLY = b"123456"
_OCTAL = re.compile(rb" *([0-7]*)[ \0]*")
_PLAIN = re.compile(r"application/vnd\.(oci\.image\.layer(\.nondistributable)?\.v1|docker\.image\.rootfs\.\S+)\.tar")
_GZIP = re.compile(_PLAIN.pattern + r"(\+gzip|\.gzip)")
_ZSTD = re.compile(_PLAIN.pattern + r"(\+zstd|\.zstd)")
_GZIP_WINDOW = 31


@dataclass(frozen=True)
class Member:
    """One member: its name as it stands there, its type flag, and the target of a link."""

    name: str
    kind: bytes
    target: str


class Budget:
    """How many more bytes may come out of layers; C(where) names the image in errors."""

    def __init__(self, limit: int, where: str) -> None:
        self._left = limit
        self._limit = limit
        self.where = where

    def spend(self, size: int) -> None:
        """Raise RegistryError (limit_exceeded) when there is no more."""
        self._left -= size
        if self._left < 0:
            raise too_much(self.where, f"its layers hold more than {self._limit} bytes")


def members(media_type: str, chunks: t.Iterator[bytes], budget: Budget) -> t.Iterator[Member]:
    """Yield the members of a layer, then read the chunks to their end, so that their source can check them.

    Raises RegistryError: malformed for what is no tar, limit_exceeded, unsupported_algorithm for other compressions.
    """
    tar = _Tar(_Source(_unpacked(media_type, chunks, budget.where), budget))
    yield from tar.members()
    for _chunk in chunks:
        pass


def _unpacked(media_type: str, chunks: t.Iterator[bytes], where: str) -> t.Iterator[bytes]:
    if _PLAIN.fullmatch(media_type):
        return chunks
    if _GZIP.fullmatch(media_type):
        return _gunzip(chunks, where)
    if _ZSTD.fullmatch(media_type) and "zstd" in globals():
        return _unzstd(chunks, where)
    raise RegistryError(
        code="unsupported_algorithm", object=where, attempt="read a layer of the base",
        cause=f"its type {media_type[:100]!r} cannot be read here",
        advice="Layers can be plain or gzip, with Python 3.14 zstd, too; take such a base, or a container engine.",
    )


def _gunzip(chunks: t.Iterator[bytes], where: str) -> t.Iterator[bytes]:
    reader = zlib.decompressobj(_GZIP_WINDOW)
    for chunk in chunks:
        data = chunk
        while data:
            try:
                yield reader.decompress(data, _STEP)
            except zlib.error as exc:
                raise malformed(where, f"a layer is no gzip data: {exc}") from exc
            data = reader.unconsumed_tail
            if reader.eof:
                data = reader.unused_data
                reader = zlib.decompressobj(_GZIP_WINDOW)
    yield reader.flush()


def _unzstd(chunks: t.Iterator[bytes], where: str) -> t.Iterator[bytes]:
    reader = zstd.ZstdDecompressor()
    for chunk in chunks:
        data = chunk
        while data or not reader.needs_input:
            try:
                yield reader.decompress(data, _STEP)
            except zstd.ZstdError as exc:
                raise malformed(where, f"a layer is no zstd data: {exc}") from exc
            data = b""
            if reader.eof:
                data = reader.unused_data
                reader = zstd.ZstdDecompressor()


class _Source:
    """Bytes in the sizes that are asked for."""

    def __init__(self, chunks: t.Iterator[bytes], budget: Budget) -> None:
        self._chunks = chunks
        self._budget = budget
        self._held = b""
        self._at = 0
        self.where = budget.where

    def block(self) -> bytes:
        """Return the next block, nothing at the end."""
        return self.read(_BLOCK) if self._more() else b""

    def read(self, size: int) -> bytes:
        """Return so many bytes."""
        parts: list[bytes] = []
        self._pass_over(size, parts.append)
        return b"".join(parts)

    def skip(self, size: int) -> None:
        """Pass over so many bytes."""
        self._pass_over(size, lambda _part: None)

    def _pass_over(self, size: int, keep: t.Callable[[bytes], None]) -> None:
        while size:
            if not self._more():
                raise malformed(self.where, "a layer ends too early")
            part = self._held[self._at:self._at + size]
            self._at += len(part)
            keep(part)
            size -= len(part)

    def _more(self) -> bool:
        while self._at == len(self._held):
            chunk = next(self._chunks, None)
            if chunk is None:
                return False
            self._budget.spend(len(chunk))
            self._held, self._at = chunk, 0
        return True


class _Tar:
    def __init__(self, source: _Source) -> None:
        self._source = source
        self._where = source.where

    def members(self) -> t.Iterator[Member]:
        """Yield each member; those that only describe the next one are put into it."""
        extended: dict[str, str] = {}
        while True:
            block = self._source.block()
            # A tar may end without the blocks of zeros that should mark its end.
            if not block.strip(b"\0"):
                return
            self._check(block)
            kind, size = block[156:157], self._number(block[124:136])
            if kind in b"xgLK":
                self._extend(extended, kind, size)
                continue
            size = self._decimal(extended.get("size", str(size)))
            name = extended.get("GNU.sparse.name", extended.get("path", self._name(block)))
            yield self._member(name, kind, extended.get("linkpath", _text(block[157:257])))
            extended = {}
            if kind == b"S":
                self._skip_sparse_map(block)
            if kind not in _HEADER_ONLY:
                self._source.skip(size + -size % _BLOCK)

    def _member(self, name: str, kind: bytes, target: str) -> Member:
        if len(name) > _MAX_NAME or len(target) > _MAX_NAME:
            raise malformed(self._where, f"a layer has a name of more than {_MAX_NAME} characters")
        # The oldest tars know folders by their names only.
        return Member(name, b"5" if kind in (b"0", b"\0") and name.endswith("/") else kind, target)

    def _name(self, block: bytes) -> str:
        prefix = _text(block[345:500]) if block[257:263] == b"ustar\0" else ""
        return f"{prefix}/{_text(block[:100])}" if prefix else _text(block[:100])

    def _extend(self, extended: dict[str, str], kind: bytes, size: int) -> None:
        if size > _MAX_EXTENDED:
            raise malformed(self._where, f"a layer has an extended header of {size} bytes")
        data = self._source.read(size)
        self._source.skip(-size % _BLOCK)
        if kind == b"L":
            extended["path"] = _text(data)
        elif kind == b"K":
            extended["linkpath"] = _text(data)
        elif kind == b"x":
            extended.update(self._records(data))

    def _records(self, data: bytes) -> t.Iterator[tuple[str, str]]:
        at = 0
        while at < len(data):
            digits = re.compile(rb"([0-9]{1,7}) ").match(data, at)
            end = at + int(digits[1]) if digits else 0
            if digits is None or not digits.end() < end <= len(data) or data[end - 1:end] != b"\n":
                raise malformed(self._where, "a layer has an extended header that is damaged")
            key, equals, value = data[digits.end():end - 1].partition(b"=")
            if not equals or b"\0" in value:
                raise malformed(self._where, "a layer has an extended header that is damaged")
            # An empty value takes back what another header said.
            if value:
                yield key.decode("utf-8", "replace"), value.decode("utf-8", "surrogateescape")
            at = end

    def _skip_sparse_map(self, block: bytes) -> None:
        more = block[482]
        while more:
            more = self._source.read(_BLOCK)[504]

    def _check(self, block: bytes) -> None:
        said = _OCTAL.fullmatch(block[148:156])
        blank = block[:148] + b" " * 8 + block[156:]
        signed = sum(byte - 256 * (byte > 127) for byte in blank)
        if not said or not said[1] or int(said[1], 8) not in (sum(blank), signed):
            raise malformed(self._where, "a layer is no tar, or damaged")

    def _number(self, data: bytes) -> int:
        if data[0] & 0x80:
            value = int.from_bytes(bytes([data[0] & 0x7F]) + data[1:], "big")
            return self._bounded(value if data[0] == 0x80 else -1)
        found = _OCTAL.fullmatch(data)
        if found is None:
            raise malformed(self._where, "a layer has a size that is no number")
        return self._bounded(int(found[1] or b"0", 8))

    def _decimal(self, text: str) -> int:
        return self._bounded(int(text) if re.fullmatch("[0-9]{1,20}", text) else -1)

    def _bounded(self, size: int) -> int:
        if not 0 <= size < 1 << 62:
            raise malformed(self._where, "a layer has a member of absurd size")
        return size


def _text(data: bytes) -> str:
    return data.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def malformed(where: str, cause: str) -> RegistryError:
    """Return the error for a layer that is not what it should be."""
    return RegistryError(
        code="malformed", object=where, attempt="read the layers of the base", cause=cause,
        advice="Do not use this image; find out what made it.",
    )


def too_much(where: str, cause: str) -> RegistryError:
    """Return the error for a layer that holds too much."""
    return RegistryError(
        code="limit_exceeded", object=where, attempt="read the layers of the base", cause=cause,
        advice="Take a smaller base, or build with a container engine.",
    )
