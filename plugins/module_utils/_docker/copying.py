# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""COPY and ADD: which files of the context are meant, and where in the image they come to lie.

Source: Dockerfile reference, COPY; what it leaves open was tried on dockerd 20.10. Patterns are those of Go's
filepath.Match.
"""

from __future__ import annotations

import bz2
import lzma
import os
import posixpath
import re
import stat
import typing as t
import zlib

from .base_files import BaseFiles, join
from .instructions import Copy
from .layer import FOLDER_MODE, Entry
from .refusal import Refusal

_MAX_HOPS = 40
_TAR_BLOCK = 512
# bz2 gives nothing before the end of its first block.
_HEAD = 2 * 1024 * 1024
_SPECIAL = re.compile(r"(?:\\.|[^*?\[\\])*[*?\[]", re.DOTALL)
_PIECE = re.compile(
    r"(?P<any>\*)|(?P<one>\?)|\[(?P<not>\^?)(?P<set>(?:\\.|[^\\\]])+)\]|\\(?P<escaped>.)|(?P<plain>[^\[\\])", re.DOTALL
)
# A dash of its own must be escaped.
_RANGE = re.compile(r"(\\.|[^\\-])(?:-(\\.|[^\\-]))?", re.DOTALL)
_RANGES = re.compile(rf"(?:{_RANGE.pattern})+", re.DOTALL)
_ZSTD = b"\x28\xb5\x2f\xfd"
_COMPRESSED: dict[bytes, t.Callable[[], t.Any]] = {
    b"\x1f\x8b\x08": lambda: zlib.decompressobj(31),
    b"BZh": bz2.BZ2Decompressor,
    b"\xfd7zXZ\0": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ),
}


class Context:
    """The files of a build context: C(files) are the relative paths that .dockerignore leaves."""

    def __init__(self, folder: str, files: t.Iterable[str]) -> None:
        self._folder = folder
        self._listed = frozenset(files)
        # A folder that is ignored still is above the files in it that are not.
        above = {
            path[:end] for path in self._listed for end in range(len(path)) if path[end] == "/"
        }
        self._there = self._listed | above
        self._sorted = sorted(self._there)

    def find(self, source: str) -> list[tuple[str, str]]:
        """Return what a source means, in order: each path as it is named, and where it lies, links followed.

        Raises Refusal: nothing is there, or it leads out of the context.
        """
        path = posixpath.normpath(source.lstrip("/") or ".")
        if path == ".." or path.startswith("../"):
            raise Refusal(f"{source!r} leads out of the context; copy it into the context")
        if _SPECIAL.match(path):
            pattern = _pattern(path)
            found = [one for one in self._sorted if pattern and pattern.fullmatch(one)]
        else:
            found = [path]
        resolved = [(one, self.resolve(one)) for one in found]
        there = [(one, real) for one, real in resolved if real == "." or real in self._there]
        if not there:
            raise Refusal(f"{source!r} is not in the context, or .dockerignore lists it; correct one of them")
        return there

    def resolve(self, path: str) -> str:
        """Return the path with links followed. Raises Refusal for one that leads out of the context, or in circles."""
        todo = path.split("/")[::-1]
        done: list[str] = []
        hops = 0
        while todo:
            name = todo.pop()
            if name in ("", "."):
                continue
            if name == "..":
                if not done:
                    raise Refusal(f"{path!r} leads out of the context by a link; put a copy there instead")
                done.pop()
                continue
            done.append(name)
            here = "/".join(done)
            target = self._link(here)
            if target is None:
                continue
            hops += 1
            if target.startswith("/") or hops > _MAX_HOPS:
                cause = "leads in circles" if hops > _MAX_HOPS else f"leads out of the context, to {target!r}"
                raise Refusal(f"the link {here!r} {cause}; put a copy there instead")
            done.pop()
            todo += target.split("/")[::-1]
        return "/".join(done) or "."

    def _link(self, path: str) -> str | None:
        # What is not listed does not exist for a build, whatever lies there.
        return self.link(path) if path in self._there and stat.S_ISLNK(self.status(path).st_mode) else None

    def link(self, path: str) -> str:
        """Return the target of a link."""
        try:
            return os.readlink(self.whole(path))
        except OSError as exc:
            raise _unreadable(path, exc) from exc

    def below(self, folder: str) -> list[str]:
        """Return what lies below a folder, each folder in front of what is in it."""
        if folder == ".":
            return self._sorted
        return [path for path in self._sorted if path.startswith(f"{folder}/")]

    def is_listed(self, path: str) -> bool:
        """Say whether the path itself, and not only something below it, is in the context."""
        return path in self._listed

    def status(self, path: str) -> os.stat_result:
        """Return the status, links not followed. Raises Refusal."""
        try:
            return os.lstat(self.whole(path))
        except OSError as exc:
            raise _unreadable(path, exc) from exc

    def whole(self, path: str) -> str:
        """Return the path on this machine."""
        return os.path.join(self._folder, path)


def copy(context: Context, step: Copy, image: BaseFiles, working_folder: str) -> list[Entry]:
    """Return the entries of the layer that COPY or ADD makes, and put them into C(image). Raises Refusal."""
    found = [match for source in step.sources for match in context.find(source)]
    if len(found) > 1 and not step.destination.endswith("/"):
        raise Refusal(f"it has several sources; their destination must be a folder: {step.destination}/")
    writing = _Writing(context, image, step)
    destination = image.resolve(join(working_folder, step.destination))
    into = step.destination.endswith("/") or image.kind(destination) == "folder"
    for name, real in found:
        if real == "." or stat.S_ISDIR(context.status(real).st_mode):
            writing.folder(real, destination)
            continue
        if step.word == "ADD" and _is_archive(context.whole(real)):
            raise Refusal(f"docker would unpack {name!r}; unpack it before, or take COPY to copy it as it is")
        writing.file(real, posixpath.join(destination, posixpath.basename(name)) if into else destination)
    return writing.entries


class _Writing:
    """Collects the entries of one instruction."""

    def __init__(self, context: Context, image: BaseFiles, step: Copy) -> None:
        self.entries: list[Entry] = []
        self._context = context
        self._image = image
        self._owner = step.owner
        self._mode = step.mode

    def file(self, source: str, path: str) -> None:
        """Copy one file or link; folders above it that are missing belong to the same owner, as with docker."""
        self._folders(posixpath.dirname(path), self._owner)
        self._content(source, path)

    def folder(self, source: str, path: str) -> None:
        """Copy what is in a folder."""
        self._folders(posixpath.dirname(path), (0, 0))
        if self._image.kind(path) != "folder":
            self._new_folder(path, FOLDER_MODE if self._mode is None else self._mode, self._owner)
        places = {source: path}
        for child in self._context.below(source):
            place = posixpath.join(places[posixpath.dirname(child) or "."], posixpath.basename(child))
            if self._is_folder(child):
                places[child] = self._subfolder(child, place)
            else:
                self._content(child, place)

    def _is_folder(self, path: str) -> bool:
        return not self._context.is_listed(path) or stat.S_ISDIR(self._context.status(path).st_mode)

    def _subfolder(self, source: str, place: str) -> str:
        """Copy a folder without its content, and return where it lies in the image."""
        if self._image.kind(place) == "link":
            # As /bin of many bases: what is in the folder goes where the link leads.
            place = self._image.resolve(place)
            if self._image.kind(place) == "folder":
                return place
        mode = self._mode
        if mode is None:
            # The mode of a folder that .dockerignore lists is no input of the build.
            listed = self._context.is_listed(source)
            mode = stat.S_IMODE(self._context.status(source).st_mode) if listed else FOLDER_MODE
        self._new_folder(place, mode, self._owner)
        return place

    def _folders(self, path: str, owner: tuple[int, int]) -> None:
        missing: list[str] = []
        while path and self._image.kind(path) is None:
            missing.append(path)
            path = posixpath.dirname(path)
        for one in reversed(missing):
            self._new_folder(one, FOLDER_MODE, owner)

    def _new_folder(self, path: str, mode: int, owner: tuple[int, int]) -> None:
        if self._image.kind(path) not in (None, "folder"):
            raise Refusal(f"{'/' + path!r} is no folder in the image; choose another destination")
        self._add(Entry(path, "folder", mode, *owner))

    def _content(self, source: str, path: str) -> None:
        if self._image.kind(path) == "folder":
            raise Refusal(
                f"{'/' + path!r} is a folder in the image, and {source!r} is none; choose another destination"
            )
        status = self._context.status(source)
        if stat.S_ISLNK(status.st_mode):
            self._context.resolve(source)
            self._add(Entry(path, "link", 0o777, *self._owner, target=self._context.link(source)))
        elif stat.S_ISREG(status.st_mode):
            mode = stat.S_IMODE(status.st_mode) if self._mode is None else self._mode
            self._add(Entry(path, "file", mode, *self._owner, source=self._context.whole(source)))
        else:
            raise Refusal(f"{source!r} is a {_special(status.st_mode)}; list it in .dockerignore")

    def _add(self, entry: Entry) -> None:
        self._image.put(entry.path, entry.kind, entry.target)
        self.entries.append(entry)


def _special(mode: int) -> str:
    if stat.S_ISSOCK(mode):
        return "socket"
    return "named pipe" if stat.S_ISFIFO(mode) else "device"


def _unreadable(path: str, exc: OSError) -> Refusal:
    return Refusal(f"{path!r} cannot be read: {exc.strerror or type(exc).__name__}; check it")


def _pattern(text: str) -> re.Pattern[str] | None:
    """Return a pattern of Go's filepath.Match, or None for a malformed one, which matches nothing."""
    done: list[str] = []
    at = 0
    while at < len(text):
        piece = _PIECE.match(text, at)
        if piece is None:
            return None
        at = piece.end()
        if piece["any"]:
            done.append("[^/]*")
        elif piece["one"]:
            done.append("[^/]")
        elif piece["set"]:
            if not _RANGES.fullmatch(piece["set"]):
                return None
            done.append(_set(piece["set"], piece["not"]))
        else:
            done.append(re.escape(piece["escaped"] or piece["plain"]))
    return re.compile("".join(done), re.DOTALL)


def _set(text: str, negated: str) -> str:
    ranges = [(first[-1], (last or first)[-1]) for first, last in _RANGE.findall(text)]
    # Nothing lies between two ends that are the wrong way round.
    valid = "".join(f"{re.escape(first)}-{re.escape(last)}" for first, last in ranges if first <= last)
    if not valid:
        return "[^/]" if negated else r"(?!)"
    return f"(?!/)[{negated}{valid}]"


def _is_archive(path: str) -> bool:
    """Say whether docker's ADD takes a file for an archive: a tar, bare or compressed, whatever its name."""
    try:
        with open(path, "rb") as stream:
            head = stream.read(_HEAD)
    except OSError as exc:
        raise _unreadable(path, exc) from exc
    if head.startswith(_ZSTD):
        # What is inside cannot be read here; newer engines unpack it.
        return True
    for magic, make in _COMPRESSED.items():
        if head.startswith(magic):
            try:
                return _begins_tar(make().decompress(head, _TAR_BLOCK))
            except (OSError, zlib.error, lzma.LZMAError):
                return False
    return _begins_tar(head)


def _begins_tar(data: bytes) -> bool:
    block = data[:_TAR_BLOCK]
    checksum = re.fullmatch(rb" *([0-7]+)[ \0]*", block[148:156])
    return len(block) == _TAR_BLOCK and checksum is not None and int(checksum[1], 8) == sum(block) - sum(
        block[148:156]
    ) + 8 * 32
