# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The words of an instruction: how a line is split, and how variables and quotes in it are replaced.

Source: Dockerfile reference, "Environment replacement"; what it leaves open was tried on dockerd 20.10.
"""

from __future__ import annotations

import functools
import re
import typing as t

from .refusal import Refusal

# A name, or one of the shell's own parameters, which are all empty here.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9@*#?$!-]")
_MODIFIER = re.compile(r":?[-+?]")
_MODIFIERS = "${NAME}, ${NAME:-WORD}, ${NAME:+WORD} and ${NAME:?WORD} are known"


@functools.lru_cache(maxsize=4)
def _word(escape: str) -> re.Pattern[str]:
    e = re.escape(escape)
    return re.compile(
        rf"\s*((?:{e}.?|\"(?:{e}.|[^\"{e}])*(?:\"|{e}?\Z)|'[^']*(?:'|\Z)|[^\s\"'{e}])+)", re.DOTALL
    )


def take(text: str, escape: str) -> tuple[str, str]:
    """Return the first word, with its quotes, and what follows it; a word is empty at the end of the text."""
    found = _word(escape).match(text)
    return (found[1], text[found.end():]) if found else ("", "")


def split(text: str, escape: str) -> list[str]:
    """Return the words; blanks in quotes or behind the escape character split nothing, quotes stay."""
    return _word(escape).findall(text)


def substitute(text: str, values: t.Mapping[str, str], escape: str) -> str:
    """Return the text with variables replaced, and without quotes and escape characters.

    Raises Refusal: a quote or brace that is not closed, a modifier that is not known, C(${NAME:?WORD}) without value.
    """
    return _Text(text, values, escape).until("")


class _Text:
    """A text that is read from left to right."""

    def __init__(self, text: str, values: t.Mapping[str, str], escape: str) -> None:
        self._text = text
        self._values = values
        self._escape = escape
        self._at = 0

    def until(self, stop: str) -> str:
        """Read up to and over the character C(stop), or to the end if it is empty."""
        done: list[str] = []
        while self._at < len(self._text):
            character = self._next()
            if character == stop:
                return "".join(done)
            if character == "'":
                done.append(self._literal())
            elif character == '"':
                done.append(self._quoted())
            elif character == "$":
                done.append(self._variable())
            elif character == self._escape:
                done.append(self._next())
            else:
                done.append(character)
        if stop:
            raise Refusal(f"{self._text!r} lacks a closing {stop!r}")
        return "".join(done)

    def _next(self) -> str:
        self._at += 1
        return self._text[self._at - 1:self._at]

    def _literal(self) -> str:
        end = self._text.find("'", self._at)
        if end < 0:
            raise Refusal(f"{self._text!r} lacks a closing single quote")
        found, self._at = self._text[self._at:end], end + 1
        return found

    def _quoted(self) -> str:
        done: list[str] = []
        while self._at < len(self._text):
            character = self._next()
            if character == '"':
                return "".join(done)
            if character == "$":
                done.append(self._variable())
            elif character == self._escape:
                # In front of anything else the escape character stands for itself.
                following = self._next()
                done.append(following if following in ('"', "$", self._escape) else character + following)
            else:
                done.append(character)
        raise Refusal(f"{self._text!r} lacks a closing double quote")

    def _variable(self) -> str:
        braced = self._text[self._at:self._at + 1] == "{"
        found = _NAME.match(self._text, self._at + braced)
        if found is None:
            if braced:
                raise Refusal(f"{self._text!r} has a ${{ without a name")
            return "$"
        self._at = found.end()
        return self._braced(found[0]) if braced else self._values.get(found[0], "")

    def _braced(self, name: str) -> str:
        modifier = _MODIFIER.match(self._text, self._at)
        if modifier is None:
            if self._next() != "}":
                raise Refusal(f"{self._text!r} has a ${{ that is not understood; {_MODIFIERS}")
            return self._values.get(name, "")
        self._at = modifier.end()
        word = self.until("}")
        value = self._values.get(name, "")
        there = bool(value) if modifier[0].startswith(":") else name in self._values
        if modifier[0].endswith("+"):
            return word if there else ""
        if modifier[0].endswith("?") and not there:
            raise Refusal(f"variable {name} has no value: {word or 'it is needed'}")
        return value if there else word
