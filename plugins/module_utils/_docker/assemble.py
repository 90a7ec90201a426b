# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An image from a Dockerfile without engine or privileges: its configuration and new layers, always the same bytes.

Source: OCI image specification, "Image Configuration"; what docker writes into it was tried on dockerd 20.10.
"""

from __future__ import annotations

import datetime
import os
import platform as machine
import posixpath
import re
import tempfile
import typing as t
from dataclasses import dataclass

from .. import _strict_json
from .._errors import BuildError, Reason
from .._oci.manifest import Descriptor
from . import copying, instructions, layer
from .base_files import BaseFiles
from .copying import Context
from .image_config import ImageConfig
from .instructions import SOURCE_DATE_EPOCH, Copy, Step, WorkingFolder
from .layer import Entry
from .refusal import Refusal, Refusals

_SECONDS = re.compile(r"[0-9]{1,12}")
# The last second of the year 9999: RFC 3339 knows no later ones.
_MAX_EPOCH = 253402300799
_PLATFORM = re.compile(r"([a-z0-9]+)/([a-z0-9_]+)(?:/([a-z0-9.]+))?")
_ARCHITECTURES = {
    "x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64", "armv7l": "arm/v7", "armv6l": "arm/v6",
    "armv5tel": "arm/v5", "i386": "386", "i686": "386", "ppc64le": "ppc64le", "s390x": "s390x", "riscv64": "riscv64",
    "loongarch64": "loong64", "mips64": "mips64le",
}


@dataclass(frozen=True)
class BaseImage:
    """A base: its configuration as parsed JSON, its layers, and what is in them."""

    config: t.Mapping[str, t.Any]
    layers: tuple[Descriptor, ...]
    files: BaseFiles


@dataclass(frozen=True)
class LayerFile:
    """A new layer and the file that holds it."""

    path: str
    descriptor: Descriptor


@dataclass(frozen=True)
class Assembled:
    """The bytes of the configuration, the layers to put upon those of the base, and what to warn of."""

    config: bytes
    layers: tuple[LayerFile, ...]
    warnings: tuple[Reason, ...]


def source_date_epoch(build_args: t.Mapping[str, str], environ: t.Mapping[str, str]) -> int:
    """Return the time, in seconds since 1970, that images get: of the build argument, of the environment, or 0.

    Source: reproducible-builds.org, SOURCE_DATE_EPOCH. Raises BuildError (input_invalid).
    """
    text = build_args.get(SOURCE_DATE_EPOCH) or environ.get(SOURCE_DATE_EPOCH) or "0"
    if not _SECONDS.fullmatch(text) or int(text) > _MAX_EPOCH:
        raise BuildError(
            code="input_invalid", object=SOURCE_DATE_EPOCH, attempt="read the time of the image",
            cause=f"{text[:50]!r} is no number of seconds up to {_MAX_EPOCH}",
            advice="Give a decimal number, or nothing.",
        )
    return int(text)


def assemble(
    *, context: str, files: t.Sequence[str], dockerfile_text: str, build_args: t.Mapping[str, str], target: str | None,
    platform: str | None, base: BaseImage | None, epoch: int, labels: t.Mapping[str, str], folder: str, where: str,
) -> Assembled:
    """Make an image from the C(files) of a context, and write its new layers into C(folder).

    C(base) is that of C(instructions.find_base()), None for scratch. C(labels) are put on last.
    Raises BuildError: input_invalid names every line that is refused, malformed, not_found, build_failed, write_failed;
    FormatError (malformed) for a base whose configuration is not as specified.
    """
    refusals = Refusals(where)
    named = instructions.find_base(dockerfile_text, build_args=build_args, target=target, where=where)
    if named.is_scratch is not (base is None):
        raise BuildError(
            code="input_invalid", object=where, attempt="assemble the image", cause=f"its base is {named.image}",
            advice="Give this base, and none for scratch.",
        )
    config = _begin(base, named.platform or platform, epoch, where)
    recipe = instructions.read(
        dockerfile_text, build_args=build_args, target=target, where=where, environment=config.environment(),
        refusals=refusals,
    )
    image = base.files.copy() if base else BaseFiles()
    planned = _plan(recipe.steps, Context(context, files), image, config, refusals)
    refusals.check()
    layers: list[LayerFile] = []
    for step, entries in planned:
        written = _write(entries, folder, len(layers), epoch) if entries else None
        config.add_history(step.text, written.descriptor.digest if written else None)
        layers += [written] if written else []
    if labels:
        config.set_labels(labels)
        config.add_history("LABEL " + " ".join(f"{name}={value}" for name, value in sorted(labels.items())), None)
    return Assembled(config.encode(), tuple(layers), recipe.warnings)


def _begin(base: BaseImage | None, platform: str | None, epoch: int, where: str) -> ImageConfig:
    created = datetime.datetime.fromtimestamp(epoch, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    if base is None:
        return ImageConfig.of_scratch(platform_of(platform, where), created, where)
    read = _strict_json.JsonObject(dict(base.config), "image configuration", where)
    config = ImageConfig.of_base(read, created)
    config.require(layers=len(base.layers), platform=platform_of(platform, where) if platform else None)
    return config


def platform_of(text: str | None, where: str) -> tuple[str, str, str]:
    """Return operating system, architecture and variant, in Go's words; by default Linux on this machine.

    Raises BuildError (input_invalid).
    """
    if text is None:
        name = machine.machine().lower()
        text = f"linux/{_ARCHITECTURES.get(name, name)}"
    found = _PLATFORM.fullmatch(text)
    if found is None or found[1] != "linux":
        raise BuildError(
            code="input_invalid", object=where, attempt="assemble the image",
            cause=f"{text!r} is no platform that can be assembled", advice="Give it like linux/amd64 or linux/arm/v7.",
        )
    return found[1], found[2], found[3] or ""


def _plan(
    steps: t.Sequence[Step], context: Context, image: BaseFiles, config: ImageConfig, refusals: Refusals
) -> list[tuple[Step, list[Entry]]]:
    """Apply each instruction to configuration and image; return the entries of its layer, which may be none."""
    planned: list[tuple[Step, list[Entry]]] = []
    for step in steps:
        with refusals.at(step.line, step.text.split(None, 1)[0].upper()):
            entries: list[Entry] = []
            if isinstance(step, Copy):
                entries = copying.copy(context, step, image, config.working_folder())
            else:
                config.apply(step)
            if isinstance(step, WorkingFolder):
                entries = _make_folder(config.working_folder(), image)
            planned.append((step, entries))
    return planned


def _make_folder(path: str, image: BaseFiles) -> list[Entry]:
    path = image.resolve(path)
    missing: list[Entry] = []
    while path and image.kind(path) is None:
        missing.append(Entry(path, "folder"))
        path = posixpath.dirname(path)
    if image.kind(path) != "folder":
        raise Refusal(f"{'/' + path!r} is no folder in the image")
    for entry in reversed(missing):
        image.put(entry.path, "folder")
    return missing


def _write(entries: t.Sequence[Entry], folder: str, number: int, epoch: int) -> LayerFile:
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=f"layer-{number}-", suffix=".tar", delete=False) as stream:
            digest, size = layer.write_layer(entries, stream, epoch=epoch)
    except OSError as exc:
        raise BuildError(
            code="write_failed", object=folder, attempt="write a layer", cause=exc.strerror or type(exc).__name__,
            advice="Make room there, and run again.",
        ) from exc
    return LayerFile(os.path.abspath(stream.name), Descriptor(layer.LAYER, digest, size))
