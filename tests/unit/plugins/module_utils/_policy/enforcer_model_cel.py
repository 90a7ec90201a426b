# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The few CEL expressions over the images of a pod that the model of ImageValidatingPolicy understands."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._policy.enforcer_model_common import (
    ModelError,
)

_TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'|&&|\|\||>=|<=|==|!=|[A-Za-z_]\w*|\d+|[][().,><])')
_LISTS = ("containers", "initContainers", "ephemeralContainers")


@dataclass(frozen=True)
class Scene:
    """What an expression is evaluated over: the list that the image is in, and how many attestors pass."""

    position: str
    signatures: Callable[[list[str]], int]
    attestations: Callable[[str, list[str]], int]


@dataclass(frozen=True)
class Names:
    """The attestors and attestations that the policy defines."""

    attestors: frozenset[str]
    attestations: frozenset[str]


Number = Callable[[Scene], int]
Truth = Callable[[Scene], bool]


def parse(source: str, names: Names) -> Truth:
    parser = _Parser(source, names)
    result = parser.conjunction(parser.images)
    parser.expect("")
    return result


class _Parser:
    def __init__(self, source: str, names: Names) -> None:
        self._tokens: list[str] = []
        self._names = names
        position, source = 0, source.rstrip()
        while position < len(source):
            match = _TOKEN.match(source, position)
            if match is None:
                raise ModelError(f"CEL: not understood: {source[position:position + 40]!r}")
            position = match.end()
            self._tokens.append(match.group(1))
        self._next = 0

    def _peek(self) -> str:
        return self._tokens[self._next] if self._next < len(self._tokens) else ""

    def _take(self) -> str:
        token = self._peek()
        self._next += 1
        return token

    def expect(self, *tokens: str) -> None:
        for token in tokens:
            taken = self._take()
            if taken != token:
                raise ModelError(f"CEL: {taken!r} where {token!r} belongs")

    def _variable(self) -> str:
        name = self._take()
        if not re.fullmatch(r"[A-Za-z_]\w*", name) or name in ("images", "attestors", "attestations"):
            raise ModelError(f"CEL: {name!r} is no variable")
        return name

    def conjunction(self, member: Callable[[], Truth]) -> Truth:
        parts = [member()]
        while self._peek() == "&&":
            self._take()
            parts.append(member())
        return parts[0] if len(parts) == 1 else lambda scene: all(part(scene) for part in parts)

    def images(self) -> Truth:
        """``images.LIST.all(V, ...)``, ``images.LIST.map(V, NUMBER).all(W, W > 0)`` or ``images.LIST.size() == 0``."""
        self.expect("images", ".")
        name = self._take()
        if name not in _LISTS:
            raise ModelError(f"CEL: images.{name} is not known")
        self.expect(".")
        how = self._take()
        self.expect("(")
        if how == "size":
            # The list has those images only that the policy is about, this one among them.
            self.expect(")", "==", "0")
            return lambda scene: scene.position != name
        variable = self._variable()
        self.expect(",")
        if how == "all":
            body = self.conjunction(lambda: self._body(variable))
            self.expect(")")
        elif how == "map":
            number = self._call(variable)
            self.expect(")", ".", "all", "(")
            each = self._variable()
            self.expect(",", each)
            body = self._compared(number)
            self.expect(")")
        else:
            raise ModelError(f"CEL: {how!r} is not known")
        return lambda scene: scene.position != name or body(scene)

    def _body(self, variable: str) -> Truth:
        return self._compared(self._counted(variable) if self._peek() == "[" else self._call(variable))

    def _counted(self, variable: str) -> Number:
        """``[TRUTH, ...].filter(V, V).size()``."""
        self.expect("[")
        members = [self._compared(self._call(variable))]
        while self._peek() == ",":
            self._take()
            members.append(self._compared(self._call(variable)))
        self.expect("]", ".", "filter", "(")
        passed = self._variable()
        self.expect(",", passed, ")", ".", "size", "(", ")")
        return lambda scene: sum(member(scene) for member in members)

    def _compared(self, number: Number) -> Truth:
        operator, limit = self._take(), self._take()
        if operator not in (">", ">=") or not limit.isdigit():
            raise ModelError(f"CEL: {operator!r} {limit!r} is not known")
        least = int(limit) + (operator == ">")
        return lambda scene: number(scene) >= least

    def _call(self, variable: str) -> Number:
        function = self._take()
        self.expect("(", variable, ",")
        if function == "verifyImageSignatures":
            attestors = self._attestors()
            return lambda scene: scene.signatures(attestors)
        if function != "verifyAttestationSignatures":
            raise ModelError(f"CEL: {function!r} is not known")
        attestation = self._member("attestations", self._names.attestations)
        self.expect(",")
        attestors = self._attestors()
        return lambda scene: scene.attestations(attestation, attestors)

    def _attestors(self) -> list[str]:
        self.expect("[")
        result = [self._member("attestors", self._names.attestors)]
        while self._peek() == ",":
            self._take()
            result.append(self._member("attestors", self._names.attestors))
        self.expect("]", ")")
        return result

    def _member(self, group: str, known: frozenset[str]) -> str:
        """``attestors.name`` or ``attestors["name"]``."""
        self.expect(group)
        if self._peek() == "[":
            self.expect("[")
            name = self._take().strip("\"'")
            self.expect("]")
        else:
            self.expect(".")
            name = self._take()
        if name not in known:
            raise ModelError(f"CEL: {group} has no {name!r}")
        return name


_REFERENCE = re.compile(r"""\s*(!?ref\.matches|ref\.startsWith)\(\s*("(?:[^"\\]|\\.)*")\s*\)\s*""")


def reference(source: str) -> tuple[str, str]:
    """The function and the argument of ``ref.matches("...")``, ``!ref.matches("...")`` or ``ref.startsWith("...")``."""
    match = _REFERENCE.fullmatch(source)
    if match is None:
        raise ModelError(f"CEL: not understood: {source!r}")
    try:
        return match.group(1), str(json.loads(match.group(2)))
    except ValueError as error:
        raise ModelError(f"CEL: not understood: {source!r}") from error
