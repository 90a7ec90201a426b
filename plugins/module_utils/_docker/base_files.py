# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What lies where in an image: its folders, symbolic links and other files, layer upon layer.

Source: OCI image specification, "Image Layer Filesystem Changeset", for whiteouts.
"""

from __future__ import annotations

import posixpath
import typing as t

from . import tar_reader
from .refusal import Refusal
from .tar_reader import Budget, Member, malformed, too_much

MAX_ENTRIES = 1_000_000
# Names cost memory, and links that lead through links time, far beyond the size of a small hostile layer.
_MAX_NAMES = 128 * 1024 * 1024
_MAX_STEPS = 100_000_000
_MAX_HOPS = 40
_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
# Others of this kind are what a storage driver noted for itself.
_NOTES = ".wh..wh."
_FOLDER, _LINK, _HARD_LINK = b"5", b"2", b"1"
_GLOBAL = b"g"

Kind = t.Literal["folder", "link", "file"]


class _Node:
    """A folder has children, a link a target, everything else neither."""

    __slots__ = ("children", "target")

    def __init__(self, children: dict[str, _Node] | None = None, target: str | None = None) -> None:
        self.children = children
        self.target = target

    @property
    def kind(self) -> Kind:
        """What it is."""
        return "folder" if self.children is not None else "file" if self.target is None else "link"


class BaseFiles:
    """The paths of an image; paths given may begin with a slash, those returned do not."""

    def __init__(self) -> None:
        """Begin with an empty root, as scratch is."""
        self._root = _Node({})
        self._nodes = 0
        self._names = 0
        self._steps = 0

    @classmethod
    def read(cls, layers: t.Iterable[tuple[str, t.Iterator[bytes]]], *, limit: int, where: str) -> BaseFiles:
        """Read the layers of an image, lowest first, each a media type and its bytes in chunks.

        All that comes out of them may be C(limit) bytes. Chunks are read to their end, their digest is not checked.
        Raises RegistryError: malformed, limit_exceeded, unsupported_algorithm.
        """
        found = cls()
        budget = Budget(limit, where)
        for media_type, chunks in layers:
            found._put_on(tar_reader.members(media_type, chunks, budget), where)
        found._steps = 0
        return found

    def copy(self) -> BaseFiles:
        """Return an independent copy."""
        other = BaseFiles()
        todo = [(self._root, other._root)]
        while todo:
            source, made = todo.pop()
            for name, node in (source.children or {}).items():
                twin = _Node(None if node.children is None else {}, node.target)
                t.cast("dict[str, _Node]", made.children)[name] = twin
                if node.children:
                    todo.append((node, twin))
        other._nodes = self._nodes
        return other

    def resolve(self, path: str, *, last: bool = True) -> str:
        """Return the path with links followed inside of the root; with C(last) its last part, too.

        What does not exist yet stays as it is. Raises Refusal: links that lead around in circles, a file in the way.
        """
        todo = _parts(path)[::-1]
        done: list[tuple[str, _Node | None]] = []
        hops = 0
        while todo:
            self._steps += 1
            name = todo.pop()
            if name == "..":
                del done[-1:]
                continue
            folder = done[-1][1] if done else self._root
            if folder is not None and folder.children is None:
                raise Refusal(f"{'/'.join(['', *(part for part, _node in done)])!r} is no folder in the image")
            node = (folder.children or {}).get(name) if folder is not None else None
            if node is None or node.target is None or not (todo or last):
                done.append((name, node))
                continue
            hops += 1
            if hops > _MAX_HOPS:
                raise Refusal(f"links lead in circles at {path!r}")
            done = [] if node.target.startswith("/") else done
            todo += _parts(node.target)[::-1]
        return "/".join(name for name, _node in done)

    def kind(self, path: str) -> Kind | None:
        """Return what lies at a path, links not followed; None for nothing."""
        node = self._find(_parts(path))
        return node.kind if node else None

    def is_folder(self, path: str) -> bool:
        """Say whether a path is a folder, links followed. Raises Refusal like C(resolve())."""
        return self.kind(self.resolve(path)) == "folder"

    def put(self, path: str, kind: Kind, target: str = "") -> None:
        """Put something at a resolved path, with the folders above it; a folder keeps what is in it."""
        node = _Node({} if kind == "folder" else None, target if kind == "link" else None)
        self._put(_parts(path), node)

    def _find(self, parts: t.Sequence[str]) -> _Node | None:
        node: _Node | None = self._root
        for name in parts:
            node = (node.children or {}).get(name) if node else None
        return node

    def _put(self, parts: t.Sequence[str], node: _Node) -> None:
        folder = self._root
        for name in parts[:-1]:
            self._steps += 1
            children = t.cast("dict[str, _Node]", folder.children)
            if name not in children:
                children[name] = _Node({})
                self._nodes += 1
            folder = children[name]
            if folder.children is None:
                raise Refusal(f"{'/'.join(['', *parts])!r} lies in something that is no folder")
        if parts:
            children = t.cast("dict[str, _Node]", folder.children)
            present = children.get(parts[-1])
            if present is None or present.children is None or node.children is None:
                children[parts[-1]] = node
                self._nodes += 1

    def _put_on(self, members: t.Iterator[Member], where: str) -> None:
        """Apply one layer. Whiteouts hide what lies below only, wherever in the layer they stand."""
        hidden: list[list[str]] = []
        added: list[tuple[list[str], Member]] = []
        for member in members:
            if member.kind == _GLOBAL:
                continue
            parts = _member_parts(member.name, where)
            self._names += len(member.name) + len(member.target)
            if self._nodes + len(added) + len(hidden) >= MAX_ENTRIES or self._names > _MAX_NAMES:
                raise too_much(where, f"its layers have more than {MAX_ENTRIES} entries, or too long names")
            if any(part.startswith(_NOTES) and part != _OPAQUE for part in parts):
                continue
            if parts and parts[-1].startswith(_WHITEOUT):
                hidden.append(parts)
            else:
                added.append((parts, member))
        try:
            for parts in hidden:
                self._hide(parts, where)
            for parts, member in added:
                self._add(parts, member, where)
        except Refusal as exc:
            raise malformed(where, f"a layer does not fit: {exc}") from exc

    def _hide(self, parts: list[str], where: str) -> None:
        folder = self._find(_parts(self.resolve("/".join(parts[:-1]))))
        self._bound(where)
        if folder is None or folder.children is None:
            return
        if parts[-1] == _OPAQUE:
            folder.children.clear()
        else:
            folder.children.pop(parts[-1][len(_WHITEOUT):], None)

    def _add(self, parts: list[str], member: Member, where: str) -> None:
        if not parts:
            return
        place = _parts(self.resolve("/".join(parts), last=False))
        node = _Node()
        if member.kind == _FOLDER:
            node = _Node({})
        elif member.kind == _LINK:
            node = _Node(None, member.target)
        elif member.kind == _HARD_LINK:
            linked = self._find(_parts(self.resolve("/".join(_member_parts(member.target, where)), last=False)))
            node = _Node(None, linked.target if linked else None)
        self._put(place, node)
        self._bound(where)

    def _bound(self, where: str) -> None:
        if self._nodes > MAX_ENTRIES or self._steps > _MAX_STEPS:
            raise too_much(where, f"its layers have more than {MAX_ENTRIES} entries, or links without end")


def join(folder: str, path: str) -> str:
    """Return a path of an image, relative to a folder or not, without its dots, as docker does: by its text only."""
    return "/" + posixpath.normpath(posixpath.join("/", folder, path)).lstrip("/")


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _member_parts(name: str, where: str) -> list[str]:
    parts = _parts(name)
    # "/" alone is the root, as kaniko names it.
    if ".." in parts or (name.startswith("/") and parts):
        raise malformed(where, f"a layer has the name {name[:200]!r}, which leads out of it")
    return parts
