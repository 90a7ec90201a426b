# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The little CUE that a policy over the authorities of a ClusterImagePolicy needs."""

from __future__ import annotations

import re
from typing import Union

from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._policy.enforcer_model_common import (
    ModelError,
)

# A struct, or the least number of elements of a list.
Tree = Union[dict[str, "Tree"], int]
_TOKEN = re.compile(r'\s*(?://[^\n]*|("(?:[^"\\]|\\.)*"|\.\.\.|[A-Za-z_#$][\w$]*(?:\.[A-Za-z]\w*)?|\d+|[][{}():,&?!]))')


def parse(source: str) -> dict[str, Tree]:
    """The constraints of the text; only lists with a least length are understood."""
    parser = _Parser(source)
    parser.skip_header()
    result = parser.fields("")
    parser.expect("")
    return result


class _Parser:
    def __init__(self, source: str) -> None:
        self._tokens: list[str] = []
        position, source = 0, source.rstrip()
        while position < len(source):
            match = _TOKEN.match(source, position)
            if match is None:
                raise ModelError(f"CUE: not understood: {source[position:position + 40]!r}")
            position = match.end()
            if match.group(1):
                self._tokens.append(match.group(1))
        self._next = 0

    def _peek(self, ahead: int = 0) -> str:
        index = self._next + ahead
        return self._tokens[index] if index < len(self._tokens) else ""

    def _take(self) -> str:
        token = self._peek()
        self._next += 1
        return token

    def expect(self, token: str) -> None:
        taken = self._take()
        if taken != token:
            raise ModelError(f"CUE: {taken!r} where {token!r} belongs")

    def _skip(self, token: str) -> bool:
        if self._peek() != token:
            return False
        self._next += 1
        return True

    def skip_header(self) -> None:
        if self._skip("package"):
            self._take()
        while self._skip("import"):
            if not self._skip("("):
                self._take()
                continue
            while not self._skip(")"):
                if not self._take():
                    raise ModelError("CUE: import without an end")

    def fields(self, end: str) -> dict[str, Tree]:
        result: dict[str, Tree] = {}
        while self._peek() != end:
            if self._skip(",") or self._skip("..."):
                continue
            name, value, optional = self._field()
            if name in result:
                raise ModelError(f"CUE: the field {name} stands there twice")
            if not optional:
                result[name] = value
        return result

    def _field(self) -> tuple[str, Tree, bool]:
        name = self._take()
        if not re.fullmatch(r'[A-Za-z_$][\w$]*|"[^"\\]*"', name):
            raise ModelError(f"CUE: {name!r} is no field")
        optional = self._skip("?")
        self._skip("!")
        self.expect(":")
        return name.strip('"'), self._value(), optional

    def _value(self) -> Tree:
        if self._skip("{"):
            fields = self.fields("}")
            self.expect("}")
            return fields
        if self._peek(1) in (":", "?", "!"):
            name, value, optional = self._field()
            return {} if optional else {name: value}
        least = self._list()
        while self._skip("&"):
            least = max(least, self._list())
        return least

    def _list(self) -> int:
        token = self._take()
        if token in ("list.MinItems", "list.MaxItems"):
            self.expect("(")
            count = self._take()
            self.expect(")")
            if not count.isdigit():
                raise ModelError(f"CUE: {count!r} is no number")
            return int(count) if token == "list.MinItems" else 0
        if token != "[":
            raise ModelError(f"CUE: {token!r} is not understood")
        return self._elements()

    def _elements(self) -> int:
        count = 0
        while not self._skip("]"):
            if self._skip("..."):
                self._skip("_")
                continue
            if not (self._skip("_") or self._skip(",")):
                raise ModelError(f"CUE: {self._peek()!r} in a list is not understood")
            count += self._tokens[self._next - 1] == "_"
        return count


def holds(tree: Tree, value: object) -> bool:
    """Whether the value has what the constraints need; an absent list has no elements."""
    if isinstance(tree, int):
        return (value if isinstance(value, int) else 0) >= tree
    found = value if isinstance(value, dict) else {}
    return all(holds(each, found.get(name)) for name, each in tree.items())
