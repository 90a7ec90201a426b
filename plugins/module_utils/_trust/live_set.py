# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The live set: the images that run anywhere, or may be deployed by rule, each by its digest.

What a rotation must not break is decided by this list, so nothing falls out of it in silence: what cannot be read is a
mistake, and what is left out is named.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import typing as t
from dataclasses import dataclass

from .._errors import FormatError, HallmarkError, Reason
from .._oci import reference as references
from .._oci.reference import Reference

MAX_FILE = 512 * 1024 * 1024
_MAX_TOLD = 100
# How the kubelet marks what an engine pulled by its digest.
_PULLABLE = "docker-pullable://"


class Mistake(t.NamedTuple):
    """Something in a list that is no image with a digest, and its place, such as C(images[3])."""

    place: str
    message: str


class LiveSetError(FormatError):
    """A live set has mistakes, all of which stand in C(mistakes)."""

    def __init__(self, mistakes: t.Sequence[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__(
            code="input_invalid", object="live set", attempt="read it",
            cause="; ".join(f"{one.place}: {one.message}" for one in self._told()),
            advice="Mend each of these places; nothing was done.",
        )

    def _told(self) -> list[Mistake]:
        told = list(self.mistakes[:_MAX_TOLD])
        more = len(self.mistakes) - len(told)
        return [*told, Mistake("live set", f"there are {more} more of these")] if more else told

    def as_reasons(self) -> list[Reason]:
        """Return one reason for each mistake; of very many, for the first ones and the number of the others."""
        return [
            Reason(
                "input_invalid", f"{one.place}: could not read the live set: {one.message}. Mend this place.", one.place
            )
            for one in self._told()
        ]


@dataclass(frozen=True)
class LiveSet:
    """Images by their digests, each once, and the repositories whose images were left out."""

    images: tuple[Reference, ...]
    left_out: tuple[str, ...] = ()

    @property
    def hash(self) -> str:
        """SHA-256 over the references, sorted, one a line: by it two readings can be told to be of the same set."""
        lines = "".join(f"{line}\n" for line in sorted(map(str, self.images)))
        return hashlib.sha256(lines.encode()).hexdigest()


def gather(
    lists: t.Mapping[str, t.Sequence[t.Any]], *, releases: t.Sequence[t.Any] = (), keep: int = 1,
    only: t.Sequence[str] = (),
) -> LiveSet:
    """Return the set that some lists of images make, by the names of the lists, with the last of some C(releases).

    C(only) are patterns of the repositories that count. Raises LiveSetError with all mistakes, and FormatError
    (input_invalid) for a set that is empty.
    """
    mistakes: list[Mistake] = []
    found = [image for name, entries in lists.items() for image in _images(name, entries, mistakes)]
    found += latest(_images("releases", releases, mistakes), keep)
    is_ours = _matcher(only, mistakes)
    if mistakes:
        raise LiveSetError(mistakes)
    images = tuple(dict.fromkeys(found))
    ours = tuple(image for image in images if is_ours(image.name))
    if not ours:
        raise _invalid(
            "live set", "it is empty" if not images else f"none of its {len(images)} images is in a repository of only"
        )
    return LiveSet(ours, tuple(dict.fromkeys(image.name for image in images if not is_ours(image.name))))


def latest(releases: t.Sequence[Reference], keep: int) -> list[Reference]:
    """Return, of an ordered list, oldest first, the last image of each repository and the C(keep) before it.

    What was released again counts where it stands last. Raises FormatError (input_invalid) below 0.
    """
    if keep < 0:
        raise _invalid("keep", f"{keep} is not 0 or more")
    newest_first: dict[Reference, None] = dict.fromkeys(reversed(releases))
    seen: dict[str, int] = {}
    kept: list[Reference] = []
    for image in newest_first:
        seen[image.name] = seen.get(image.name, 0) + 1
        if seen[image.name] <= keep + 1:
            kept.append(image)
    return kept[::-1]


def pinned(entry: t.Any) -> Reference:
    """Return an image by its digest, HOST/REPO@DIGEST, as engines and the kubelet write it, too.

    Raises FormatError (malformed).
    """
    if not isinstance(entry, str):
        raise references.malformed(repr(entry)[:100], f"it is {type(entry).__name__}, and not a text")
    text = entry[len(_PULLABLE):] if entry.startswith(_PULLABLE) else entry
    if text.startswith((references.LAYOUT_PREFIX, references.ARCHIVE_PREFIX)):
        raise references.malformed(entry, "it is not in a registry")
    if text.startswith("sha256:"):
        raise references.malformed(entry, "it is the id of an image in an engine, which says nothing of any registry")
    found = references.parse(text)
    if found.digest is None:
        raise references.malformed(entry, "it has no digest, and what its tag names may change")
    return found.at(found.digest)


def shard(images: t.Sequence[Reference], *, index: int, count: int) -> tuple[Reference, ...]:
    """Return the part of some images that is for one of C(count) workers, by digest: all parts make the whole.

    Raises FormatError (input_invalid).
    """
    if not 0 <= index < count:
        raise _invalid("shard", f"index {index} is not between 0 and {count - 1}, the last of count {count}")
    return tuple(image for image in images if _number(image) % count == index)


def _number(image: Reference) -> int:
    return int(t.cast(str, image.digest).partition(":")[2][:16], 16)


def read_file(path: str) -> t.Any:
    """Return what is in a file: a JSON document, or else its lines, without those that are empty or begin with a C(#).

    Raises FormatError (not_found, malformed, limit_exceeded).
    """
    try:
        # Without blocking: a pipe would be waited for.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ValueError("it is not a regular file")
            data = file.read(MAX_FILE + 1)
    except (OSError, ValueError) as exc:
        raise FormatError(
            code="not_found", object=path, attempt="read the list of images",
            cause=getattr(exc, "strerror", None) or str(exc),
            advice="Name a file that this user may read.",
        ) from exc
    if len(data) > MAX_FILE:
        raise FormatError(
            code="limit_exceeded", object=path, attempt="read the list of images",
            cause=f"it is larger than {MAX_FILE >> 20} MiB", advice="Name the right file.",
        )
    try:
        text = data.decode("utf-8")
        if text.lstrip()[:1] in ("[", "{"):
            return json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise FormatError(
            code="malformed", object=path, attempt="read the list of images",
            cause=f"it is neither JSON nor lines of text: {' '.join(str(exc).split())[:200]}",
            advice="Write a JSON list of references, or one reference a line.",
        ) from exc
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _images(name: str, entries: t.Sequence[t.Any], mistakes: list[Mistake]) -> list[Reference]:
    found = []
    for number, entry in enumerate(entries):
        try:
            found.append(pinned(entry))
        except HallmarkError as exc:
            mistakes.append(Mistake(f"{name}[{number}]", f"{str(entry)[:200]!r}: {exc.cause}"))
    return found


def _matcher(only: t.Sequence[str], mistakes: list[Mistake]) -> t.Callable[[str], bool]:
    if not only:
        return lambda _name: True
    # Loaded where patterns are given: Ansible compiles what is imported for every task.
    from .._oci import pattern

    patterns = []
    for number, text in enumerate(only):
        try:
            patterns.append(pattern.parse(text))
        except HallmarkError as exc:
            mistakes.append(Mistake(f"only[{number}]", f"{text[:200]!r}: {exc.cause}"))
    return lambda name: any(one.matches(name) for one in patterns)


def _invalid(where: str, cause: str) -> FormatError:
    return FormatError(
        code="input_invalid", object=where, attempt="work on the images that run", cause=cause,
        advice="Mend the options: nothing is true of no images at all.",
    )
