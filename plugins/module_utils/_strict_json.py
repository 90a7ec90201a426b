# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""JSON as a verifier must read it: one meaning per document, bounded, and typed access with clear errors.

Go's decoder takes the last of two equal members and ignores their case, Python's takes trailing byte order
marks of other encodings and numbers of any length: two readers of the same signed bytes could then see two
different claims. Everything of that kind is refused here.
"""

from __future__ import annotations

import json
import math
import typing as t
from dataclasses import dataclass

from . import _base64
from ._errors import FormatError

_MAX_NUMBER_LENGTH = 32
# Far beyond any format read here. What the interpreter itself allows depends on how deep it is already.
_MAX_DEPTH = 100
# Names and values of the document stand in errors, and it may be many megabytes long.
_MAX_WORDS = 500
_REQUIRED: t.Any = object()


def dumps(value: t.Any, *, escape_html: bool = True) -> bytes:
    """Return compact UTF-8 JSON, members in the order given.

    With C(escape_html), five characters are escaped as Go's C(encoding/json) does; its C(protojson) does not.
    Raises ValueError for what is no text or no number.
    """
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    for character, escape in () if not escape_html else (
        ("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026"), ("\u2028", "\\u2028"), ("\u2029", "\\u2029"),
    ):
        text = text.replace(character, escape)
    return text.encode("utf-8")


def loads(data: bytes, *, what: str, where: str) -> JsonObject:
    """Parse C(data), which must be one JSON object.

    Refused: duplicate members, byte order marks, trailing data, lone surrogates, NaN and Infinity,
    numbers over 32 characters, nesting beyond 100 levels. C(what) names the document, C(where) the
    object it came from.
    Raises FormatError (malformed).
    """
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique_members,
            parse_constant=_refuse_constant,
            parse_int=_bounded_int,
            parse_float=_bounded_float,
        )
        if data.count(b"{") + data.count(b"[") > _MAX_DEPTH:
            _require_shallow(value)
        if b"\\u" in data:
            # A lone surrogate is no text: each reader would put something else in its place. Only escapes make one.
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as exc:
        cause = "it is nested too deeply" if isinstance(exc, RecursionError) else str(exc)
        raise _malformed(what, where, f"not strict JSON: {cause}") from exc
    if not isinstance(value, dict):
        raise _malformed(what, where, "not a JSON object")
    return JsonObject(value, what, where)


def _require_shallow(value: t.Any) -> None:
    level: t.Any = [[value]]
    for _depth in range(_MAX_DEPTH + 1):
        level = [
            inner for one in level for inner in (one.values() if isinstance(one, dict) else one)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return
    raise ValueError("it is nested too deeply")


def _unique_members(pairs: list[tuple[str, t.Any]]) -> dict[str, t.Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member occurs twice")
    return members


def _refuse_constant(name: str) -> t.NoReturn:
    raise ValueError(f"the constant {name}")


def _bounded(text: str) -> str:
    if len(text) > _MAX_NUMBER_LENGTH:
        raise ValueError(f"a number of {len(text)} characters")
    return text


def _bounded_int(text: str) -> int:
    return int(_bounded(text))


def _bounded_float(text: str) -> float:
    value = float(_bounded(text))
    if not math.isfinite(value):
        raise ValueError("a number without bounds")
    return value


def _malformed(what: str, where: str, cause: str) -> FormatError:
    return FormatError(
        code="malformed", object=where, attempt=f"read the {what[:_MAX_WORDS]}", cause=cause[:_MAX_WORDS],
        advice="Find out what wrote it; nothing of it is used.",
    )


@dataclass(frozen=True)
class JsonObject:
    """A JSON object whose members are read with their type; C(what) and C(where) go into errors."""

    members: dict[str, t.Any]
    what: str
    where: str

    def error(self, cause: str) -> FormatError:
        """Return a malformed error for this object, to be raised by the caller."""
        return _malformed(self.what, self.where, cause)

    def only(self, *names: str) -> JsonObject:
        """Refuse members outside C(names)."""
        unknown = sorted(set(self.members) - set(names))
        if unknown:
            raise self.error(f"unknown member {unknown[0]!r}")
        return self

    def no_case_variants(self, *names: str) -> JsonObject:
        """Refuse members that differ from one of C(names) by case only: Go folds case, and reads them as the same."""
        known = {name.casefold() for name in names}
        for member in self.members:
            if member not in names and member.casefold() in known:
                raise self.error(f"member {member!r} differs from a known one by case only")
        return self

    def string(self, name: str, default: t.Any = _REQUIRED) -> str:
        """Return a string member."""
        return t.cast(str, self._typed(name, str, "a string", default))

    def base64(self, name: str, default: t.Any = _REQUIRED) -> bytes:
        """Return the bytes of a member in canonical base64."""
        try:
            return _base64.decode(self.string(name, default))
        except ValueError as exc:
            raise self.error(f"member {name!r} is {exc}") from exc

    def integer(self, name: str, default: t.Any = _REQUIRED) -> int:
        """Return an integer member; a boolean is none."""
        value = self._typed(name, int, "an integer", default)
        if isinstance(value, bool):
            raise self.error(f"member {name!r} is not an integer")
        return t.cast(int, value)

    def object(self, name: str, default: t.Any = _REQUIRED) -> JsonObject:
        """Return an object member; C(None) as default makes a missing one an empty object."""
        value = self._typed(name, dict, "an object", {} if default is None else default)
        return JsonObject(t.cast(dict[str, t.Any], value), f"{self.what}, {name}", self.where)

    def objects(self, name: str, default: t.Any = _REQUIRED) -> list[JsonObject]:
        """Return a member that is a list of objects."""
        values = self._typed(name, list, "a list", default)
        if not all(isinstance(value, dict) for value in values):
            raise self.error(f"member {name!r} is not a list of objects")
        return [JsonObject(value, f"{self.what}, {name}", self.where) for value in values]

    def strings(self, name: str) -> dict[str, str]:
        """Return a member that maps strings to strings; a missing or null one is empty."""
        value = self.members.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            raise self.error(f"member {name!r} does not map strings to strings")
        return dict(value)

    def _typed(self, name: str, kind: type, words: str, default: t.Any) -> t.Any:
        if name not in self.members and default is not _REQUIRED:
            return default
        if not isinstance(self.members.get(name), kind):
            raise self.error(f"member {name!r} is missing or not {words}")
        return self.members[name]
