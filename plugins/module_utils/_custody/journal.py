# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Append-only records: JSON lines, each with the hash of the line before it, written one at a time and kept on disk.

A changed, missing or inserted line breaks the chain. Lines cut off at the end, or a file that was written anew, show
only against a head that somebody else kept: the hash of the last line, which every append returns.
"""

from __future__ import annotations

import hashlib
import json
import os
import typing as t
from contextlib import contextmanager
from dataclasses import dataclass

from .._errors import CustodyError
from .private_file import PUBLIC_MODE
from .record_file import open_appendable, open_readable

START = "0" * 64
MAX_LINE = 16 * 1024
_TAIL = 1024 * 1024


@dataclass(frozen=True)
class Head:
    """The last line of a journal: its number, from 1, and the SHA-256 of its bytes without the newline."""

    sequence: int
    hash: str


@dataclass(frozen=True)
class Entry:
    """One line: its number, the hash of it, and what it says."""

    sequence: int
    hash: str
    members: t.Mapping[str, t.Any]


def append(path: str, members: t.Mapping[str, t.Any], *, mode: int = PUBLIC_MODE) -> Head:
    """Add one line durably, one writer at a time, and return the new head.

    What an interrupted writer left of a line is cut off: it was never confirmed to anybody. Raises CustodyError:
    journal_broken when the last line is not one of ours, destination_unsafe, write_failed.
    """
    with open_appendable(path, mode=mode) as stream:
        return _append(stream, path, members)


class Writer:
    """A journal that is held open and locked, for those who decide by what was written so far."""

    def __init__(self, stream: t.BinaryIO, path: str) -> None:
        self._stream = stream
        self._path = path

    def entries(self) -> tuple[Entry, ...]:
        """Return all entries, whose chain is checked. Raises CustodyError as the function C(read())."""
        self._stream.seek(0)
        return _chained(self._stream.read(), self._path)

    def recent(self) -> t.Iterator[Entry]:
        """Yield the last entries, newest first: those of the last MiB."""
        yield from _backwards(self._stream, self._path)

    def append(self, members: t.Mapping[str, t.Any]) -> Head:
        """Add one line durably. Raises CustodyError as the function C(append())."""
        return _append(self._stream, self._path, members)


@contextmanager
def opened(path: str, *, mode: int = PUBLIC_MODE) -> t.Iterator[Writer]:
    """Hold a journal, which is made if it is missing; others wait. Raises CustodyError as the function C(append())."""
    with open_appendable(path, mode=mode) as stream:
        yield Writer(stream, path)


def read(path: str) -> tuple[Entry, ...]:
    """Return all entries of a journal, whose chain is checked; nothing for a missing file.

    An unfinished last line is left out. Raises CustodyError: journal_broken, that names the first bad line;
    destination_unsafe for a file that somebody else could have written, write_failed.
    """
    with open_readable(path) as stream:
        return _chained(stream.read(), path) if stream else ()


def _chained(data: bytes, path: str) -> tuple[Entry, ...]:
    entries: list[Entry] = []
    previous = START
    for number, line in enumerate(data.split(b"\n")[:-1], 1):
        entry = _entry(line, path, number)
        if entry.sequence != number or entry.members.get("previous") != previous:
            raise broken(path, number, "it does not follow the line before it")
        entries.append(entry)
        previous = entry.hash
    return tuple(entries)


def _append(stream: t.BinaryIO, path: str, members: t.Mapping[str, t.Any]) -> Head:
    last = next(_backwards(stream, path), None)
    sequence, previous = (last.sequence + 1, last.hash) if last else (1, START)
    link = {"sequence": sequence, "previous": previous}
    _cut_unfinished(stream, path, _line(link)[:-1])
    line = _line({**link, **members})
    if len(line) > MAX_LINE:
        raise broken(path, sequence, f"what is to be written has {len(line)} bytes, more than {MAX_LINE}")
    stream.seek(0, os.SEEK_END)
    # One write, so that a reader sees all of it or an unfinished line.
    stream.write(line + b"\n")
    stream.flush()
    os.fsync(stream.fileno())
    return Head(sequence, hashlib.sha256(line).hexdigest())


def _line(members: t.Mapping[str, t.Any]) -> bytes:
    return json.dumps(members, ensure_ascii=True, separators=(",", ":")).encode("ascii")


def _cut_unfinished(stream: t.BinaryIO, path: str, begin: bytes) -> None:
    """Cut off the part of the very line that an interrupted writer left. Raises CustodyError for anything else."""
    size = stream.seek(0, os.SEEK_END)
    start = max(0, size - _TAIL)
    stream.seek(start)
    tail = stream.read()
    rest = tail[tail.rfind(b"\n") + 1:]
    if not rest:
        return
    if len(rest) > MAX_LINE or rest[:len(begin)] != begin[:len(rest)]:
        raise broken(path, None, "it does not end with an entry of ours")
    stream.truncate(size - len(rest))


def _backwards(stream: t.BinaryIO, path: str) -> t.Iterator[Entry]:
    size = stream.seek(0, os.SEEK_END)
    start = max(0, size - _TAIL)
    stream.seek(start)
    lines = stream.read().split(b"\n")[:-1]
    if start:
        # Its beginning was not read.
        del lines[:1]
        if not lines:
            raise broken(path, None, "its last line is longer than any of ours")
    for line in reversed(lines):
        yield _entry(line, path, None)


def _entry(line: bytes, path: str, number: int | None) -> Entry:
    try:
        members = json.loads(line)
        sequence = members["sequence"]
        if not isinstance(sequence, int) or isinstance(sequence, bool) or not isinstance(members["previous"], str):
            raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise broken(path, number, "it is no entry of ours") from None
    return Entry(sequence, hashlib.sha256(line).hexdigest(), members)


def broken(path: str, number: int | None, cause: str) -> CustodyError:
    """Return the error for a journal that was changed by somebody else."""
    where = f"line {number}: " if number else ""
    return CustodyError(
        code="journal_broken", object=path, attempt="go on with the record", cause=f"{where}{cause}",
        advice="Nothing was written. Keep the file as evidence under another name, and find out who changed it.",
    )
