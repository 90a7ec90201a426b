# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A linear-time regular-expression match, for patterns over names that somebody else chose.

Python's own engine backtracks: C((a+)+$) over thirty letters can take hours. Here a pattern becomes an automaton
(Thompson, 1968), all whose states are followed at once, as RE2 does. The standard library parses the pattern;
whatever has no automaton is refused by name. C(\\d), C(\\s), C(\\w) (as in RE2) and the flag (?i) are ASCII only.
"""

from __future__ import annotations

import re
import sys
import typing as t
import warnings
from dataclasses import dataclass, field

from .._errors import VerificationError

if sys.version_info >= (3, 11):
    from re import _parser
else:
    import sre_parse as _parser

_MAX_STATES = 10_000
_REFUSED = {
    "ASSERT": "look-around", "ASSERT_NOT": "look-around", "FAILURE": "look-around",
    "GROUPREF": "back-references", "GROUPREF_IGNORE": "back-references", "GROUPREF_EXISTS": "conditional groups",
    "ATOMIC_GROUP": "atomic groups", "POSSESSIVE_REPEAT": "possessive repetition",
}
_DIGIT = ((0x30, 0x39),)
_SPACE = ((0x09, 0x0D), (0x20, 0x20))
_WORD = (*_DIGIT, (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A))

_Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class _Set:
    """A set of characters: ranges of code points, or all but these."""

    ranges: _Ranges
    negated: bool = False
    ignore_case: bool = False

    def holds(self, character: str) -> bool:
        """Say whether a character belongs to the set."""
        cases = {character}
        if self.ignore_case and character.isascii():
            cases |= {character.lower(), character.upper()}
        return self.negated != any(low <= ord(case) <= high for case in cases for low, high in self.ranges)


@dataclass
class _State:
    """A state: it reads one character of C(reads), or nothing, at any position or only where C(only_at) says."""

    to: tuple[int, ...] = ()
    reads: _Set | None = None
    only_at: t.Literal["start", "end", None] = None


@dataclass(frozen=True)
class Matcher:
    """A compiled pattern. State 0 is the end of the pattern."""

    pattern: str
    _states: tuple[_State, ...] = field(repr=False, compare=False)
    _start: int = field(repr=False, compare=False)

    def fullmatch(self, text: str) -> bool:
        """Say whether the pattern matches the whole text, in time proportional to its length."""
        current = self._closure([self._start], is_start=True, is_end=not text)
        for position, character in enumerate(text, 1):
            reached = [
                target for state in current if state.reads is not None and state.reads.holds(character)
                for target in state.to
            ]
            current = self._closure(reached, is_start=False, is_end=position == len(text))
        return self._states[0] in current

    def _closure(self, reached: list[int], *, is_start: bool, is_end: bool) -> list[_State]:
        """Return the states reached, and all that follow them without a character being read."""
        seen = set(reached)
        pending = list(seen)
        while pending:
            state = self._states[pending.pop()]
            blocked = (state.only_at == "start" and not is_start) or (state.only_at == "end" and not is_end)
            if state.reads is None and not blocked:
                more = [target for target in state.to if target not in seen]
                seen.update(more)
                pending.extend(more)
        return [self._states[number] for number in seen]


class _UnsupportedError(ValueError):
    """The pattern has no automaton here; the text says why."""


def compile_pattern(text: str, *, where: str) -> Matcher:
    """Compile a pattern. Raises VerificationError (input_invalid)."""
    try:
        with warnings.catch_warnings():
            # A warning of the parser is about something that RE2, or a later Python, reads in another way.
            warnings.simplefilter("error")
            tree = _parser.parse(text, re.ASCII)
        flags = re.RegexFlag(tree.state.flags)
        _require_flags(flags & ~re.ASCII)
        builder = _Builder()
        start = builder.sequence(tree, bool(flags & re.IGNORECASE), 0)
    except RecursionError:
        raise _invalid(where, text, "its groups are nested too deeply") from None
    except (re.error, ValueError, OverflowError, Warning) as exc:
        raise _invalid(where, text, str(exc)) from exc
    return Matcher(text, tuple(builder.states), start)


def _invalid(where: str, text: str, cause: str) -> VerificationError:
    return VerificationError(
        code="input_invalid", object=where, attempt=f"use the regular expression {text[:200]!r}", cause=cause,
        advice="Use literals, classes, groups, alternatives and repetition; it must match the whole name.",
    )


def _require_flags(flags: int) -> None:
    if flags & ~re.IGNORECASE:
        raise _UnsupportedError("of the inline flags only (?i) is supported")


class _Builder:
    """Makes states from the parser's tree, from the end of the pattern to its start."""

    def __init__(self) -> None:
        self.states = [_State()]

    def sequence(self, items: t.Any, ignore_case: bool, follow: int) -> int:
        """Add the states of the parser's items in a row, in front of state C(follow); return the first."""
        for operation, argument in reversed(list(items)):
            follow = self._item(operation.name, argument, ignore_case, follow)
        return follow

    def _add(self, state: _State) -> int:
        if len(self.states) >= _MAX_STATES:
            raise _UnsupportedError(f"it needs more than {_MAX_STATES} states")
        self.states.append(state)
        return len(self.states) - 1

    def _item(self, operation: str, argument: t.Any, ignore_case: bool, follow: int) -> int:
        if operation in ("LITERAL", "NOT_LITERAL", "ANY", "IN"):
            return self._add(_State((follow,), reads=_set(operation, argument, ignore_case)))
        if operation in ("MAX_REPEAT", "MIN_REPEAT"):
            low, high, items = argument
            return self._repeat(low, high, items, ignore_case, follow)
        if operation == "BRANCH":
            return self._add(_State(tuple(self.sequence(branch, ignore_case, follow) for branch in argument[1])))
        if operation == "SUBPATTERN":
            _number, added, removed, items = argument
            _require_flags(added | removed)
            return self.sequence(items, bool(added) or (ignore_case and not removed), follow)
        if operation == "AT" and argument.name in ("AT_BEGINNING", "AT_BEGINNING_STRING"):
            return self._add(_State((follow,), only_at="start"))
        if operation == "AT" and argument.name in ("AT_END", "AT_END_STRING"):
            return self._add(_State((follow,), only_at="end"))
        name = "word boundaries" if operation == "AT" else _REFUSED.get(operation, operation)
        raise _UnsupportedError(f"{name} cannot be matched in linear time, or are not supported")

    def _repeat(self, low: int, high: int, items: t.Any, ignore_case: bool, follow: int) -> int:
        """Add C(items) C(low) to C(high) times. Greedy or not makes no difference for a match of the whole."""
        entry = follow
        if high == _parser.MAXREPEAT:
            entry = self._add(_State())
            self.states[entry].to = (self.sequence(items, ignore_case, entry), follow)
        else:
            for _time in range(high - low):
                optional = self.sequence(items, ignore_case, entry)
                entry = self._add(_State((optional, follow)))
        for _time in range(low):
            before = self.sequence(items, ignore_case, entry)
            if before == entry:
                # Nothing, however often.
                break
            entry = before
        return entry


def _set(operation: str, argument: t.Any, ignore_case: bool) -> _Set:
    if operation == "ANY":
        return _Set(((0x0A, 0x0A),), negated=True)
    if operation != "IN":
        return _Set(((argument, argument),), operation == "NOT_LITERAL", ignore_case)
    negated = argument[0][0].name == "NEGATE"
    ranges = tuple(part for kind, value in argument[negated:] for part in _ranges(kind.name, value))
    return _Set(ranges, negated, ignore_case)


def _ranges(kind: str, value: t.Any) -> _Ranges:
    if kind == "LITERAL":
        return ((value, value),)
    if kind == "RANGE":
        return (value,)
    name = value.name.replace("CATEGORY_", "").replace("NOT_", "")
    ranges = {"DIGIT": _DIGIT, "SPACE": _SPACE, "WORD": _WORD}[name]
    return _complement(ranges) if "NOT_" in value.name else ranges


def _complement(ranges: _Ranges) -> _Ranges:
    """Return the code points between ranges, which are in ascending order."""
    ends = (-1, *(end for pair in ranges for end in pair), sys.maxunicode + 1)
    return tuple((ends[i] + 1, ends[i + 1] - 1) for i in range(0, len(ends), 2))
