# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is refused in a Dockerfile: collected, so that a user sees all of it at once."""

from __future__ import annotations

import typing as t
from contextlib import contextmanager

from .._errors import BuildError


class Refusal(Exception):
    """Something in one instruction is refused; the text says what, and what to do instead.

    Who reads the instruction knows its line and adds it: see C(Refusals).
    """


class Refusals:
    """The refusals of one Dockerfile; C(where) is its path."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._found: list[tuple[int, str]] = []

    @contextmanager
    def at(self, line: int, word: str) -> t.Iterator[None]:
        """Keep a refusal of what is done inside, as one of the instruction C(word) in this line (from 1)."""
        try:
            yield
        except Refusal as exc:
            self._found.append((line, f"line {line}: {word}: {exc}"))

    def check(self) -> None:
        """Raise BuildError (input_invalid) with everything that was refused, by line."""
        if self._found:
            raise BuildError(
                code="input_invalid", object=self._where, attempt="assemble the image",
                cause="; ".join(text for _line, text in sorted(self._found)),
                advice="Mend these lines, or build it with a container engine.",
            )
