# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The configuration of an image: what it takes over from its base, and what instructions change in it.

Source: OCI image specification, "Image Configuration"; docker adds the members of HEALTHCHECK, SHELL and ONBUILD.
"""

from __future__ import annotations

import json
import typing as t

from .._errors import BuildError
from .._strict_json import JsonObject
from .base_files import join
from .instructions import Command, Health, Names, Pairs, Setting, Step, WorkingFolder

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SHELL = ["/bin/sh", "-c"]
# What docker keeps of a container beside these is no part of an image.
_LISTS = ("Env", "Entrypoint", "Cmd", "Shell")
_MAPPINGS = ("ExposedPorts", "Volumes", "Labels", "Healthcheck")
_OTHERS = ("User", "WorkingDir", "StopSignal", "StopTimeout", "ArgsEscaped")
_PLATFORM = ("os", "architecture", "variant", "os.version", "os.features")


class ImageConfig:
    """The configuration of an image that is being made."""

    def __init__(self, top: dict[str, t.Any], members: dict[str, t.Any], created: str, where: str) -> None:
        self._top = top
        self._members = members
        self._created = created
        self._where = where
        self._diff_ids: list[str] = []
        self._history: list[dict[str, t.Any]] = []
        environment = members.setdefault("Env", [])
        if not any(one.startswith("PATH=") for one in environment):
            environment.append(f"PATH={DEFAULT_PATH}")

    @classmethod
    def of_scratch(cls, platform: tuple[str, str, str], created: str, where: str) -> ImageConfig:
        """Begin without a base."""
        names = ("os", "architecture", "variant")
        return cls({name: value for name, value in zip(names, platform) if value}, {}, created, where)

    @classmethod
    def of_base(cls, base: JsonObject, created: str) -> ImageConfig:
        """Begin with the configuration of a base. Raises FormatError (malformed)."""
        has_config = base.members.get("config") is not None
        inner = base.object("config") if has_config else JsonObject({}, base.what, base.where)
        _check(inner)
        if inner.members.get("OnBuild"):
            raise BuildError(
                code="input_invalid", object=base.where, attempt="assemble the image",
                cause="its base has ONBUILD triggers", advice="Take another base, or build with a container engine.",
            )
        if base.string("os") != "linux":
            raise base.error("its operating system is not linux")
        if not base.string("architecture"):
            raise base.error("it has no architecture")
        members = {
            name: inner.members[name] for name in (*_LISTS, *_MAPPINGS, *_OTHERS) if inner.members.get(name)
        }
        # Copies: what is the base's is not changed.
        copied = t.cast("dict[str, t.Any]", json.loads(json.dumps(members)))
        top = {name: base.members[name] for name in _PLATFORM if base.members.get(name)}
        config = cls(top, copied, created, base.where)
        config._diff_ids = _texts(base.object("rootfs"), "diff_ids")
        history = base.members.get("history")
        config._history = [dict(entry.members) for entry in base.objects("history")] if history is not None else []
        return config

    def require(self, *, layers: int, platform: tuple[str, str, str] | None) -> None:
        """Refuse a base with another number of layers or of another platform. Raises BuildError."""
        if len(self._diff_ids) != layers:
            raise BuildError(
                code="malformed", object=self._where, attempt="assemble the image",
                cause=f"its base has {layers} layers, and the configuration of it names {len(self._diff_ids)}",
                advice="Do not use this base.",
            )
        found = (self._top["os"], self._top["architecture"])
        if platform is not None and platform[:2] != found:
            raise BuildError(
                code="input_invalid", object=self._where, attempt="assemble the image",
                cause=f"its base is for {'/'.join(found)[:100]}, not for {'/'.join(platform[:2])}",
                advice="Take a base for this platform, or correct platform.",
            )

    def environment(self) -> dict[str, str]:
        """Return the variables that are set."""
        return dict(one.partition("=")[::2] for one in self._members["Env"])

    def working_folder(self) -> str:
        """Return what relative paths are relative to."""
        return join("/", self._members.get("WorkingDir", ""))

    def apply(self, step: Step) -> None:
        """Change what an instruction changes; one that changes nothing here is passed over."""
        if isinstance(step, Pairs) and step.member == "Env":
            self._set_environment(step.pairs)
        elif isinstance(step, Pairs):
            self.set_labels(dict(step.pairs))
        elif isinstance(step, Names):
            self._members.setdefault(step.member, {}).update((name, {}) for name in step.names)
        elif isinstance(step, Setting):
            self._members[step.member] = step.value
        elif isinstance(step, WorkingFolder):
            self._members["WorkingDir"] = join(self.working_folder(), step.path)
        elif isinstance(step, Health):
            # What it does not say stays, also below NONE: the engine's own builder does so, BuildKit does not.
            self._members["Healthcheck"] = {**self._members.get("Healthcheck", {}), **step.check}
        elif isinstance(step, Command):
            self._set_command(step)

    def set_labels(self, labels: t.Mapping[str, str]) -> None:
        """Set labels, others stay."""
        self._members.setdefault("Labels", {}).update(labels)

    def add_history(self, text: str, diff_id: str | None) -> None:
        """Note an instruction, and the layer it made, if it made one."""
        entry: dict[str, t.Any] = {"created": self._created, "created_by": text}
        if diff_id is None:
            entry["empty_layer"] = True
        else:
            self._diff_ids.append(diff_id)
        self._history.append(entry)

    def encode(self) -> bytes:
        """Return the configuration as canonical JSON: sorted members, no blanks, nothing empty.

        Raises BuildError (input_invalid): a value is not UTF-8.
        """
        config = {name: value for name, value in self._members.items() if value}
        top = {
            **self._top, "created": self._created, "config": config, "history": self._history,
            "rootfs": {"type": "layers", "diff_ids": self._diff_ids},
        }
        try:
            return json.dumps(top, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as exc:
            raise BuildError(
                code="input_invalid", object=self._where, attempt="assemble the image",
                cause="a build argument or label is not UTF-8", advice="Give it as text.",
            ) from exc

    def _set_environment(self, pairs: t.Sequence[tuple[str, str]]) -> None:
        listed: list[str] = self._members["Env"]
        for name, value in pairs:
            at = next((at for at, one in enumerate(listed) if one.partition("=")[0] == name), len(listed))
            listed[at:at + 1] = [f"{name}={value}"]

    def _set_command(self, step: Command) -> None:
        words = [*(self._members.get("Shell") or _SHELL), *step.words] if step.is_shell else list(step.words)
        self._members[step.member] = words
        if step.drops_inherited:
            self._members.pop("Cmd", None)


def _check(config: JsonObject) -> None:
    """Refuse members of another shape."""
    for name in _LISTS:
        _texts(config, name)
    for name in _MAPPINGS:
        if config.members.get(name) is not None:
            config.object(name)
    config.strings("Labels")
    for name in ("User", "WorkingDir", "StopSignal"):
        if config.members.get(name) is not None:
            config.string(name)


def _texts(source: JsonObject, name: str) -> list[str]:
    found = source.members.get(name)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise source.error(f"member {name!r} is not a list of strings")
    return list(found)
