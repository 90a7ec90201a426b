# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A document that a person wrote, read so that all of its mistakes are told at once, each with its place."""

from __future__ import annotations

import difflib
import typing as t
from dataclasses import dataclass

_SHOWN = 60


@dataclass(frozen=True)
class Mistake:
    """One mistake: where it is, such as C(rules[2].images[0]), and what is wrong."""

    path: str
    message: str


class Node:
    """A value and its place. What is wrong is noted in a list that all nodes share; then the answer is None or empty.

    A null is as if nothing stood there.
    """

    def __init__(self, value: t.Any, path: str, mistakes: list[Mistake]) -> None:
        self.value = value
        self.path = path
        self.mistakes = mistakes

    def wrong(self, message: str, *, member: str = "") -> None:
        """Note a mistake of this value, or of one of its members."""
        path = f"{self.path}.{member}" if self.path and member else self.path or member
        self.mistakes.append(Mistake(path, message))

    def members(self, known: t.Collection[str], *, required: t.Collection[str] = ()) -> dict[str, Node]:
        """Return the members of a mapping that are there."""
        if not isinstance(self.value, dict):
            self.wrong(f"it is {_kind(self.value)}, not a mapping")
            return {}
        for name in self.value:
            if name not in known:
                near = difflib.get_close_matches(str(name), known, 1)
                hint = f" (is {near[0]} meant?)" if near else f"; known are {', '.join(known)}"
                self.wrong(f"{str(name)[:_SHOWN]!r} is not known here{hint}")
        for name in required:
            if self.value.get(name) is None:
                self.wrong("it is missing", member=name)
        return {name: self._below(name) for name in known if self.value.get(name) is not None}

    def named(self) -> dict[str, Node]:
        """Return all members of a mapping whose names the user chooses."""
        if not isinstance(self.value, dict):
            self.wrong(f"it is {_kind(self.value)}, not a mapping")
            return {}
        for name in self.value:
            if not isinstance(name, str) or not name or not name.isprintable():
                self.wrong(f"{str(name)[:_SHOWN]!r} is no name")
        return {name: self._below(name) for name in self.value if isinstance(name, str)}

    def items(self) -> list[Node]:
        """Return the elements of a list, at least one."""
        if not isinstance(self.value, list):
            self.wrong(f"it is {_kind(self.value)}, not a list")
            return []
        if not self.value:
            self.wrong("it is empty")
        return [Node(one, f"{self.path}[{number}]", self.mistakes) for number, one in enumerate(self.value)]

    def text(self) -> str | None:
        """Return a text that is not empty."""
        if not isinstance(self.value, str):
            self.wrong(f"it is {_kind(self.value)}, not a text")
            return None
        if not self.value:
            self.wrong("it is empty")
        return self.value or None

    def choice(self, *known: str) -> str | None:
        """Return one of a few texts."""
        if self.value in known:
            return str(self.value)
        self.wrong(f"{str(self.value)[:_SHOWN]!r} is none of {', '.join(known)}")
        return None

    def integer(self) -> int | None:
        """Return a number from 1 on."""
        if isinstance(self.value, bool) or not isinstance(self.value, int) or self.value < 1:
            self.wrong(f"{str(self.value)[:_SHOWN]!r} is no whole number from 1 on")
            return None
        return self.value

    def boolean(self) -> bool:
        """Return true or false."""
        if not isinstance(self.value, bool):
            self.wrong(f"{str(self.value)[:_SHOWN]!r} is neither true nor false")
        return self.value is True

    def _below(self, name: str) -> Node:
        return Node(self.value[name], f"{self.path}.{name}" if self.path else name, self.mistakes)


def _kind(value: t.Any) -> str:
    names = {dict: "a mapping", list: "a list", str: "a text", bool: "true or false", type(None): "nothing"}
    return next((words for kind, words in names.items() if isinstance(value, kind)), "a number")
