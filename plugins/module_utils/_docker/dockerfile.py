# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Finding the bases of a Dockerfile, and writing other names in their place.

Source: Dockerfile reference, FROM, ARG, COPY --from, and parser directives. Only what concerns bases is read.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass

from .._errors import BuildError

SCRATCH = "scratch"
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
    """One instruction: its text with continuation lines joined, and its first and last line (from 0)."""

    text: str
    first: int
    last: int

    @property
    def word(self) -> str:
        """The instruction's name in capitals."""
        found = _INSTRUCTION.match(self.text + " ")
        return found.group(1).upper() if found else ""


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
    arguments: dict[str, str] = {}
    stages: list[str] = []
    changes: list[tuple[Instruction, str]] = []
    for instruction in _instructions(text):
        if instruction.word == "ARG" and not stages:
            _declare(instruction.text, arguments, build_args)
        if instruction.word == "FROM":
            if _reached(target, stages):
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
    if not stages or not (target is None or _reached(target, stages)):
        cause = "it has no FROM" if not stages else f"it has no stage {target!r}"
        raise BuildError(
            code="malformed", object=where, attempt="read the Dockerfile", cause=cause, advice="Check it, and target."
        )
    return changes


def _from(
    instruction: Instruction, arguments: t.Mapping[str, str], stages: list[str], name_of: t.Callable[[str], str],
    where: str,
) -> list[tuple[Instruction, str]]:
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
    known = image == SCRATCH or image.lower() in stages
    stages.append((parsed["name"] or "").lower())
    if known:
        return []
    alias = f" AS {parsed['name']}" if parsed["name"] else ""
    return [(instruction, f"FROM {parsed['flags']}{name_of(image)}{alias}")]


def _is_stage(image: str, stages: t.Sequence[str]) -> bool:
    return image.lower() in stages or image.isdigit()


def _reached(target: str | None, stages: t.Sequence[str]) -> bool:
    """Say whether the stage that is wanted is among those seen."""
    if target is None:
        return False
    return target.lower() in stages or (target.isdigit() and int(target) < len(stages))


def _declare(text: str, arguments: dict[str, str], build_args: t.Mapping[str, str]) -> None:
    for word in text.split()[1:]:
        name, _equals, default = word.partition("=")
        arguments[name] = build_args.get(name, _substitute(default.strip("\"'"), arguments))


def _substitute(text: str, arguments: t.Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        found = arguments.get(match[1] or match[4], "")
        if match[2] == ":-":
            return found or match[3]
        if match[2] == ":+":
            return match[3] if found else ""
        return found

    return _VARIABLE.sub(value, text)


def _escape(lines: t.Sequence[str]) -> str:
    """Return the escape character: directives are the comments before everything else."""
    for line in lines:
        directive = _DIRECTIVE.fullmatch(line.strip())
        if directive is None:
            break
        if directive[1].lower() == "escape" and directive[2].strip() in ("\\", "`"):
            return directive[2].strip()
    return "\\"


def _instructions(text: str) -> t.Iterator[Instruction]:
    lines = text.removeprefix("\ufeff").split("\n")
    escape = _escape(lines)
    parts: list[str] = []
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
        if not continued:
            yield Instruction(" ".join(parts), first, number)
            parts = []
    if parts:
        yield Instruction(" ".join(parts), first, len(lines) - 1)
