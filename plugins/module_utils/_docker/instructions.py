# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The instructions of one stage of a Dockerfile, with those of the stages it comes from, for builds without RUN.

Source: Dockerfile reference; what it leaves open was tried on dockerd 20.10.
"""

from __future__ import annotations

import json
import re
import typing as t
from dataclasses import dataclass, field

from .._errors import Reason
from . import dockerfile, options, words
from .dockerfile import Arguments, Instruction
from .refusal import Refusal, Refusals

_WITHOUT_ARG = frozenset(
    name for base in ("http", "https", "ftp", "no", "all") for name in (f"{base}_proxy", f"{base.upper()}_PROXY")
)
SOURCE_DATE_EPOCH = "SOURCE_DATE_EPOCH"
_OF_BUILDKIT = frozenset(
    f"{where}{what}" for where in ("TARGET", "BUILD") for what in ("PLATFORM", "OS", "ARCH", "VARIANT")
)
_HEREDOC = re.compile(r"<<-?[\"']?(\w+)[\"']?")
_REMOTE = re.compile(r"(?:https?|ftp|git|ssh)://|git@|github\.com/")
_INSTEAD = {
    "RUN": "nothing is run here; build with a container engine, or copy what it would make",
    "ONBUILD": "triggers are not carried out here; write the instruction where it shall count",
    "SHELL": "it would only serve RUN; write CMD and ENTRYPOINT in their JSON form",
    "MAINTAINER": "it was given up; use LABEL org.opencontainers.image.authors",
}


@dataclass(frozen=True)
class Step:
    """One instruction: its first line (from 1), and its text as it is written."""

    line: int
    text: str


@dataclass(frozen=True)
class Argument(Step):
    """ARG: changes nothing in the image."""


@dataclass(frozen=True)
class Pairs(Step):
    """ENV or LABEL: C(member) of the configuration gets these values, in order."""

    member: t.Literal["Env", "Labels"]
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Names(Step):
    """EXPOSE or VOLUME: C(member) of the configuration gets these names."""

    member: t.Literal["ExposedPorts", "Volumes"]
    names: tuple[str, ...]


@dataclass(frozen=True)
class Setting(Step):
    """USER or STOPSIGNAL: C(member) of the configuration gets this value; an empty one takes it away."""

    member: t.Literal["User", "StopSignal"]
    value: str


@dataclass(frozen=True)
class WorkingFolder(Step):
    """WORKDIR: relative to the one before."""

    path: str


@dataclass(frozen=True)
class Command(Step):
    """CMD or ENTRYPOINT: in JSON form a list of words, in shell form one text.

    An ENTRYPOINT drops the command of the base or an earlier stage, not that of its own stage.
    """

    member: t.Literal["Cmd", "Entrypoint"]
    words: tuple[str, ...]
    is_shell: bool
    drops_inherited: bool


@dataclass(frozen=True)
class Health(Step):
    """HEALTHCHECK: the member as it stands in the configuration."""

    check: t.Mapping[str, t.Any]


@dataclass(frozen=True)
class Copy(Step):
    """COPY or ADD of files of the context; C(owner) is UID and GID, C(mode) None where it is kept."""

    word: str
    sources: tuple[str, ...]
    destination: str
    owner: tuple[int, int] = (0, 0)
    mode: int | None = None


@dataclass(frozen=True)
class Base:
    """What the wanted stage and those it comes from start with; C(platform) is the one that FROM names."""

    image: str
    platform: str | None

    @property
    def is_scratch(self) -> bool:
        """Whether there is no base at all."""
        return self.image == dockerfile.SCRATCH


@dataclass(frozen=True)
class Recipe:
    """The instructions, those of earlier stages first, and what to warn of."""

    base: Base
    steps: tuple[Step, ...]
    warnings: tuple[Reason, ...] = ()


@dataclass
class _Stage:
    image: str
    alias: str
    parent: int | None
    platform: str | None
    instructions: list[Instruction] = field(default_factory=list)


def find_base(text: str, *, build_args: t.Mapping[str, str], target: str | None, where: str) -> Base:
    """Return the base of the wanted stage. What is refused is left to C(read()), which can tell all of it.

    Raises BuildError (malformed): no FROM, one that is not understood, or an unknown target.
    """
    return _File(text, build_args, target, where, Refusals(where)).base


def read(
    text: str, *, build_args: t.Mapping[str, str], target: str | None, where: str, environment: t.Mapping[str, str],
    refusals: Refusals,
) -> Recipe:
    """Read the wanted stage; C(environment) is what the base sets. What is refused is added to C(refusals).

    Stages that the wanted one does not come from are not looked at. Raises BuildError (malformed) like C(find_base()).
    """
    file = _File(text, build_args, target, where, refusals)
    steps: list[Step] = []
    environment = dict(environment)
    for stage in file.lineage:
        steps += _Reader(file, environment, refusals).steps(stage.instructions)
    unused = sorted(set(build_args) - file.declared - _WITHOUT_ARG - {SOURCE_DATE_EPOCH})
    warnings = tuple(
        Reason("input_invalid", f"{where}: no ARG declares the build argument {name}; it has no effect", where)
        for name in unused
    )
    return Recipe(file.base, tuple(steps), warnings)


class _File:
    """A Dockerfile up to the wanted stage: its stages, and the arguments in front of them."""

    def __init__(
        self, text: str, build_args: t.Mapping[str, str], target: str | None, where: str, refusals: Refusals
    ) -> None:
        self.lines = text.split("\n")
        self.escape = dockerfile.escape_of(text)
        self.build_args = build_args
        self.arguments: Arguments = {}
        self.declared: set[str] = set()
        self._stages: list[_Stage] = []
        self._read(text, target or None, where, refusals)

    @property
    def lineage(self) -> list[_Stage]:
        """The stages that make up the wanted one, the first in front."""
        found = [self._stages[-1]]
        while found[0].parent is not None:
            found.insert(0, self._stages[found[0].parent])
        return found

    @property
    def base(self) -> Base:
        """What the first of them starts with."""
        return Base(self.lineage[0].image, self.lineage[0].platform)

    def _read(self, text: str, target: str | None, where: str, refusals: Refusals) -> None:
        names: list[str] = []
        for instruction in dockerfile.instructions(text):
            with refusals.at(instruction.first + 1, instruction.word or "it"):
                if instruction.word == "FROM":
                    if dockerfile.reached(target, names):
                        break
                    self._start(instruction, names, where)
                elif self._stages:
                    self._stages[-1].instructions.append(instruction)
                    if instruction.word == "ARG":
                        found = words.split(instruction.rest, self.escape)
                        self.declared.update(one.partition("=")[0] for one in found)
                elif instruction.word == "ARG":
                    dockerfile.declare(instruction.rest, self.arguments, self.arguments, self.build_args, self.escape)
                    self.declared.update(self.arguments)
                else:
                    raise Refusal("only ARG may stand in front of the first FROM")
        dockerfile.require_target(target, names, where)

    def _start(self, instruction: Instruction, names: list[str], where: str) -> None:
        read = dockerfile.read_from(instruction, self.arguments, names, where)
        parent = len(names) - 1 - names[::-1].index(read.image.lower()) if read.is_stage else None
        names.append(read.alias.lower())
        self._stages.append(_Stage(read.image, read.alias, parent, None))
        self._stages[-1].platform = self._platform(read.flags)

    def _platform(self, flags: str) -> str | None:
        if not flags.strip():
            return None
        name, _equals, value = flags.strip().partition("=")
        platform = words.substitute(value, dockerfile.with_value(self.arguments), self.escape)
        if name != "--platform" or not platform or " " in platform:
            raise Refusal(f"{flags.strip()} is not understood; --platform=OS/ARCHITECTURE is")
        return platform


class _Reader:
    """Reads the instructions of one stage; C(environment) grows with each ENV."""

    def __init__(self, file: _File, environment: dict[str, str], refusals: Refusals) -> None:
        self._file = file
        self._escape = file.escape
        self._arguments: Arguments = {
            name: value for name, value in file.build_args.items() if name in _WITHOUT_ARG
        }
        self._environment = environment
        self._refusals = refusals
        self._after = -1
        self._has_command = False

    def steps(self, instructions: t.Sequence[Instruction]) -> t.Iterator[Step]:
        """Yield what is not refused."""
        for instruction in instructions:
            if instruction.first > self._after and instruction.exact:
                with self._refusals.at(instruction.first + 1, instruction.word or "it"):
                    yield self._step(instruction)

    def _step(self, instruction: Instruction) -> Step:
        word = instruction.word
        if word in ("RUN", "COPY", "ADD"):
            self._skip_heredoc(instruction)
        if word in _INSTEAD:
            raise Refusal(_INSTEAD[word])
        written = instruction.exact.split()[0]
        if word not in _READERS or word != written.upper():
            raise Refusal(f"{written!r} is no instruction; correct it")
        flags, rest = options.flags(instruction.rest, self._escape)
        options.only(flags, *_FLAGS.get(word, ()))
        if not rest:
            raise Refusal("it needs an argument")
        return _READERS[word](self, Step(instruction.first + 1, instruction.exact), rest, flags)

    def _skip_heredoc(self, instruction: Instruction) -> None:
        found = _HEREDOC.search(instruction.rest)
        if found is None:
            return
        ends = [
            number for number, line in enumerate(self._file.lines)
            if number > instruction.last and line.strip() == found[1]
        ]
        # Without an end it is no heredoc; in RUN the shell may mean something else by it.
        if ends:
            self._after = ends[0]
        if ends or instruction.word != "RUN":
            raise Refusal("heredocs (<<) are not read here; put the text into a file of the context, and copy it")

    def _put_in(self, text: str) -> str:
        # The environment wins over arguments of the same name.
        return words.substitute(
            text, {**dockerfile.with_value(self._arguments), **self._environment}, self._escape
        )

    def _argument(self, step: Step, rest: str, flags: options.Flags) -> Step:
        declared: Arguments = {}
        known: Arguments = {**self._arguments, **self._environment}
        dockerfile.declare(rest, declared, known, self._file.build_args, self._escape)
        for name, value in declared.items():
            self._arguments[name] = self._file.arguments.get(name) if value is None else value
            if self._arguments[name] is None and name in _OF_BUILDKIT:
                raise Refusal(f"{name} has no value here; give it in build_args")
        return Argument(step.line, step.text)

    def _pairs(self, step: Step, rest: str, flags: options.Flags) -> Step:
        word = step.text[:3].upper()
        found = words.split(rest, self._escape)
        if "=" not in found[0]:
            old = rest.split(None, 1)
            if len(old) != 2:
                raise Refusal(f"{rest!r} is not NAME=VALUE")
            raw = [(old[0], old[1])]
        else:
            raw = []
            for one in found:
                name, equals, value = one.partition("=")
                if not equals:
                    raise Refusal(f"{one!r} is not NAME=VALUE; quote values that have blanks")
                raw.append((name, value))
        pairs = tuple((self._put_in(name), self._put_in(value)) for name, value in raw)
        if any(not name for name, _value in pairs):
            raise Refusal("a name is empty")
        if word == "ENV":
            self._environment.update(pairs)
        return Pairs(step.line, step.text, "Env" if word == "ENV" else "Labels", pairs)

    def _ports(self, step: Step, rest: str, flags: options.Flags) -> Step:
        found = [port for word in rest.split() for one in self._put_in(word).split() for port in options.ports(one)]
        return Names(step.line, step.text, "ExposedPorts", tuple(found))

    def _volumes(self, step: Step, rest: str, flags: options.Flags) -> Step:
        listed = json_words(rest)
        found = tuple(self._put_in(word).strip() for word in (rest.split() if listed is None else listed))
        if not found or not all(found):
            raise Refusal("it needs a path, and none may be empty")
        return Names(step.line, step.text, "Volumes", found)

    def _user(self, step: Step, rest: str, flags: options.Flags) -> Step:
        return Setting(step.line, step.text, "User", self._put_in(rest))

    def _stop_signal(self, step: Step, rest: str, flags: options.Flags) -> Step:
        return Setting(step.line, step.text, "StopSignal", options.stop_signal(self._put_in(rest)))

    def _working_folder(self, step: Step, rest: str, flags: options.Flags) -> Step:
        path = self._put_in(rest)
        if not path:
            raise Refusal("the path is empty")
        return WorkingFolder(step.line, step.text, path)

    def _command(self, step: Step, rest: str, flags: options.Flags) -> Step:
        listed = json_words(rest)
        member: t.Literal["Cmd", "Entrypoint"] = "Cmd" if step.text[:3].upper() == "CMD" else "Entrypoint"
        self._has_command |= member == "Cmd"
        return Command(
            step.line, step.text, member, (rest,) if listed is None else listed, listed is None, not self._has_command
        )

    def _health(self, step: Step, rest: str, flags: options.Flags) -> Step:
        kind, command = rest.split(None, 1)[0].upper(), "".join(rest.split(None, 1)[1:])
        if kind == "NONE" and not command:
            return Health(step.line, step.text, {"Test": ["NONE"]})
        if kind != "CMD" or not command:
            raise Refusal("it is neither NONE nor CMD with a command")
        listed = json_words(command)
        test = ["CMD-SHELL", command] if listed is None else ["CMD", *listed]
        return Health(step.line, step.text, {"Test": test, **options.health(flags)})

    def _copy(self, step: Step, rest: str, flags: options.Flags) -> Step:
        if "from" in flags:
            raise Refusal("files of other stages and images are not read here; put them into the context")
        listed = json_words(rest)
        paths = [self._put_in(word) for word in (rest.split() if listed is None else listed)]
        if len(paths) < 2 or not all(paths):
            raise Refusal("it needs sources and a destination, none of them empty")
        remote = next((path for path in paths[:-1] if _REMOTE.match(path)), None)
        if remote is not None:
            raise Refusal(f"{remote!r} is not fetched here; put it into the context, and copy it")
        owner = options.owner(self._put_in(flags["chown"])) if "chown" in flags else (0, 0)
        mode = options.mode(self._put_in(flags["chmod"])) if "chmod" in flags else None
        word = step.text[:4].upper().strip()
        return Copy(step.line, step.text, word, tuple(paths[:-1]), paths[-1], owner, mode)


_READERS: dict[str, t.Callable[[_Reader, Step, str, options.Flags], Step]] = {
    "ADD": _Reader._copy,
    "ARG": _Reader._argument,
    "CMD": _Reader._command,
    "COPY": _Reader._copy,
    "ENTRYPOINT": _Reader._command,
    "ENV": _Reader._pairs,
    "EXPOSE": _Reader._ports,
    "HEALTHCHECK": _Reader._health,
    "LABEL": _Reader._pairs,
    "STOPSIGNAL": _Reader._stop_signal,
    "USER": _Reader._user,
    "VOLUME": _Reader._volumes,
    "WORKDIR": _Reader._working_folder,
}
_FLAGS = {
    "ADD": ("chown", "chmod", "link"),
    "COPY": ("chown", "chmod", "link", "from"),
    "HEALTHCHECK": ("interval", "timeout", "start-period", "start-interval", "retries"),
}


def json_words(text: str) -> tuple[str, ...] | None:
    """Return the words of the JSON form, or None for what is no JSON list, and so means the other form.

    Raises Refusal for a list of anything but strings.
    """
    if not text.startswith("["):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not all(isinstance(word, str) for word in found):
        raise Refusal("its JSON form may hold strings only")
    # Go puts this character in the place of half a surrogate pair.
    return tuple(re.sub("[\ud800-\udfff]", "\ufffd", word) for word in found)
