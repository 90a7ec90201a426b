# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lines of a Dockerfile as instructions; finding its bases, and writing other names in their place.

Source: Dockerfile reference, FROM, ARG, COPY --from, and parser directives. Only what concerns bases is understood.
"""

from __future__ import annotations

import re
import typing as t
from contextlib import suppress
from dataclasses import dataclass

from .._errors import BuildError
from . import words
from .refusal import Refusal

SCRATCH = "scratch"
Arguments = dict[str, t.Optional[str]]
_DIRECTIVE = re.compile(r"#\s*([A-Za-z]+)\s*=\s*(.*)")
_FROM = re.compile(
    r"FROM\s+(?P<flags>(?:--\S+\s+)*)(?P<image>\S+)(?:\s+AS\s+(?P<name>\S+))?\s*", re.IGNORECASE | re.DOTALL
)
_COPY_FROM = re.compile(r"(?P<head>(?:COPY|ADD)\s+(?:--\S+\s+)*?--from=)(?P<image>\S+)", re.IGNORECASE)
_MOUNT_FROM = re.compile(r"--mount=\S*?\bfrom=(?P<image>[^,\s]+)")
_VARIABLE = re.compile(r"\$(?:\{(\w+)(?:(:[-+])([^}]*))?\}|(\w+))")
_INSTRUCTION = re.compile(r"\s*([A-Za-z]+)\s")


@dataclass(frozen=True)
class Instruction:
    """One instruction: its text with continuation lines joined, and its first and last line (from 0).

    C(exact) is the text joined as docker does it, which leaves the blanks as they are.
    """

    text: str
    first: int
    last: int
    exact: str = ""

    @property
    def word(self) -> str:
        """The instruction's name in capitals."""
        found = _INSTRUCTION.match(self.text + " ")
        return found.group(1).upper() if found else ""

    @property
    def rest(self) -> str:
        """What follows the name, exactly."""
        return self.exact[len(self.word):].strip()


@dataclass(frozen=True)
class From:
    """What a FROM says: the image or stage with arguments put in, whether it is a stage, and its own name."""

    image: str
    is_stage: bool
    flags: str
    alias: str


def bases(text: str, *, build_args: t.Mapping[str, str], target: str | None, where: str) -> tuple[str, ...]:
    """Return the images that the build starts or copies from, in order, each once; stages and scratch are none.

    Stages behind C(target) are not looked at. Raises BuildError (malformed): no FROM, or an unknown target.
    """
    found: dict[str, None] = {}
    _visit(text, build_args, target, where, lambda image: found.setdefault(image) or image)
    return tuple(found)


def pin(
    text: str, names: t.Mapping[str, str], *, build_args: t.Mapping[str, str], target: str | None, where: str
) -> str:
    """Return the Dockerfile with each base replaced by C(names[base])."""
    lines = text.split("\n")
    changes = _visit(text, build_args, target, where, lambda image: names[image])
    for instruction, replaced in reversed(changes):
        lines[instruction.first:instruction.last + 1] = [replaced]
    return "\n".join(lines)


def _visit(
    text: str,
    build_args: t.Mapping[str, str],
    target: str | None,
    where: str,
    name_of: t.Callable[[str], str],
) -> list[tuple[Instruction, str]]:
    """Call C(name_of) for each base; return the instructions that name one, with the new name in place."""
    # An empty target means the last stage, as it does to docker.
    target = target or None
    arguments: Arguments = {}
    stages: list[str] = []
    changes: list[tuple[Instruction, str]] = []
    escape = escape_of(text)
    for instruction in instructions(text):
        if instruction.word == "ARG" and not stages:
            # What is wrong with an argument is for the builder to say; the bases that need it are empty.
            with suppress(Refusal):
                declare(instruction.rest, arguments, arguments, build_args, escape)
        if instruction.word == "FROM":
            if reached(target, stages):
                break
            changes += _from(instruction, arguments, stages, name_of, where)
        mounted = _MOUNT_FROM.search(instruction.text) if instruction.word == "RUN" else None
        if mounted and not _is_stage(mounted["image"], stages):
            raise BuildError(
                code="malformed", object=where, attempt="read the Dockerfile",
                cause=f"line {instruction.first + 1} mounts the image {mounted['image']}, which could not be pinned",
                advice="Make it a stage of its own: FROM IMAGE AS NAME.",
            )
        copied = _COPY_FROM.match(instruction.text.lstrip())
        if copied and not _is_stage(copied["image"], stages):
            rest = instruction.text.lstrip()[copied.end():]
            changes.append((instruction, f"{copied['head']}{name_of(copied['image'])}{rest}"))
    require_target(target, stages, where)
    return changes


def require_target(target: str | None, stages: t.Sequence[str], where: str) -> None:
    """Refuse a Dockerfile without stages, or without the one that is wanted. Raises BuildError (malformed)."""
    if not stages or not (target is None or reached(target, stages)):
        cause = "it has no FROM" if not stages else f"it has no stage {target!r}"
        raise BuildError(
            code="malformed", object=where, attempt="read the Dockerfile", cause=cause, advice="Check it, and target."
        )


def _from(
    instruction: Instruction, arguments: Arguments, stages: list[str], name_of: t.Callable[[str], str], where: str
) -> list[tuple[Instruction, str]]:
    read = read_from(instruction, arguments, stages, where)
    stages.append(read.alias.lower())
    if read.is_stage or read.image == SCRATCH:
        return []
    alias = f" AS {read.alias}" if read.alias else ""
    return [(instruction, f"FROM {read.flags}{name_of(read.image)}{alias}")]


def read_from(instruction: Instruction, arguments: Arguments, stages: t.Sequence[str], where: str) -> From:
    """Read a FROM behind the C(stages), which are named in small letters. Raises BuildError (malformed)."""
    parsed = _FROM.fullmatch(instruction.text.strip())
    if parsed is None:
        raise BuildError(
            code="malformed", object=where, attempt="read the Dockerfile",
            cause=f"line {instruction.first + 1} is not FROM IMAGE [AS NAME]", advice="Mend it.",
        )
    image = _substitute(parsed["image"], arguments)
    if not image:
        raise BuildError(
            code="malformed", object=where, attempt="read the Dockerfile",
            cause=f"the base in line {instruction.first + 1} is empty", advice="Give the build argument it names.",
        )
    # Unlike COPY, FROM knows stages by name only.
    is_stage = image != SCRATCH and image.lower() in stages
    return From(image, is_stage, parsed["flags"], parsed["name"] or "")


def _is_stage(image: str, stages: t.Sequence[str]) -> bool:
    return image.lower() in stages or image.isdigit()


def reached(target: str | None, stages: t.Sequence[str]) -> bool:
    """Say whether the stage that is wanted is among those seen."""
    if target is None:
        return False
    return target.lower() in stages or (target.isdigit() and int(target) < len(stages))


def declare(
    text: str, arguments: Arguments, values: Arguments, build_args: t.Mapping[str, str], escape: str
) -> None:
    """Put what stands behind an ARG into C(arguments); None is the value of a name without one.

    All of its defaults see C(values) as they are before the line. Raises Refusal.
    """
    known = with_value(values)
    declared: Arguments = {}
    for word in words.split(text, escape):
        raw_name, equals, default = word.partition("=")
        name = words.substitute(raw_name, known, escape)
        if not name:
            raise Refusal("a name is empty")
        declared[name] = words.substitute(default, known, escape) if equals else None
        if name in build_args:
            declared[name] = build_args[name]
    if not declared:
        raise Refusal("it needs a name")
    arguments.update(declared)


def with_value(arguments: Arguments) -> dict[str, str]:
    """Return the arguments that have a value."""
    return {name: value for name, value in arguments.items() if value is not None}


def _substitute(text: str, arguments: Arguments) -> str:
    # Narrower than words.substitute(): a base with quotes or nested braces shall not pass for an image.
    def value(match: re.Match[str]) -> str:
        found = arguments.get(match[1] or match[4]) or ""
        if match[2] == ":-":
            return found or match[3]
        if match[2] == ":+":
            return match[3] if found else ""
        return found

    return _VARIABLE.sub(value, text)


def escape_of(text: str) -> str:
    """Return the escape character: directives are the comments before everything else."""
    for line in _lines(text):
        directive = _DIRECTIVE.fullmatch(line.strip())
        if directive is None:
            break
        if directive[1].lower() == "escape" and directive[2].strip() in ("\\", "`"):
            return directive[2].strip()
    return "\\"


def _lines(text: str) -> list[str]:
    return text.removeprefix("\ufeff").split("\n")


def instructions(text: str) -> t.Iterator[Instruction]:
    """Yield the instructions of a Dockerfile."""
    lines = _lines(text)
    escape = escape_of(text)
    parts: list[str] = []
    exact: list[str] = []
    first = 0
    for number, line in enumerate(lines):
        bare = line.strip()
        if not bare or bare.startswith("#"):
            # Comments and empty lines inside a continued instruction do not end it.
            continue
        if not parts:
            first = number
        # An escape character that is escaped itself continues nothing.
        continued = bare.endswith(escape) and not bare.endswith(escape * 2)
        parts.append(bare[:-1] if continued else bare)
        exact.append(line.rstrip()[:-1] if continued else line)
        if not continued:
            yield Instruction(" ".join(parts), first, number, "".join(exact).strip())
            parts, exact = [], []
    if parts:
        yield Instruction(" ".join(parts), first, len(lines) - 1, "".join(exact).strip())
