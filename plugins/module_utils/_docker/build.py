# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Building an image with the engine, only when something that goes into it has changed."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import typing as t
from dataclasses import dataclass, field

from .. import _strict_json
from .._errors import BuildError, HallmarkError, Reason, RegistryError
from .._oci import reference as references
from .._oci.manifest import Manifest
from .._oci.reference import Image, Reference
from .._oci.registry import Registries
from . import dockerfile
from .engine import Engine, context_archive, context_files

if t.TYPE_CHECKING:
    from .._oci.store import Store

INPUT_HASH_LABEL = "org.hallmark-signing.input-hash"
MAX_CONFIG = 4 * 1024 * 1024
_CHUNK = 1024 * 1024


@dataclass(frozen=True)
class Recipe:
    """What is built: a context folder and a Dockerfile in it (relative path), with its parameters."""

    context: str
    dockerfile: str = "Dockerfile"
    build_args: t.Mapping[str, str] = field(default_factory=dict)
    target: str | None = None
    platform: str | None = None

    def __post_init__(self) -> None:
        """Refuse a Dockerfile that is not named relative to the context. Raises BuildError."""
        if os.path.isabs(self.dockerfile):
            raise _unreadable(self.dockerfile, "it must be named relative to the context")


@dataclass(frozen=True)
class Base:
    """A base as it is named, the name the build uses in its place, and its digest or image id."""

    named: str
    pinned: str
    identity: str


@dataclass(frozen=True)
class Built:
    """What came of a build; C(digest) is None for an image that was not pushed, or not built in a dry run."""

    changed: bool
    image_id: str | None
    digest: str | None
    input_hash: str
    warnings: tuple[Reason, ...] = ()


def build_image(
    registries: Registries, engine: Engine, recipe: Recipe, name: Reference, tags: t.Sequence[str],
    *, push: bool, pull: bool, dry_run: bool,
) -> Built:
    """Build, tag and push an image, unless every tag already has one with the same input hash.

    C(name) has neither tag nor digest; the digest returned is the one of the push. Raises HallmarkError.
    """
    text = read_dockerfile(recipe)
    warnings: list[Reason] = []
    bases = [
        _resolve(registries, engine, base, pull=pull, warnings=warnings)
        for base in dockerfile.bases(
            text, build_args=recipe.build_args, target=recipe.target, where=dockerfile_path(recipe)
        )
    ]
    files = context_files(recipe.context, ignore_patterns(recipe), recipe.dockerfile)
    inputs = input_hash(recipe, text, files, bases)
    store = t.cast("Store[t.Any]", registries)
    present = pushed(store, name, tags, inputs) if push else _built(engine, name, tags, inputs)
    if present is not None:
        return Built(False, present[0], present[1], inputs, tuple(warnings))
    if dry_run:
        return Built(True, None, None, inputs, tuple(warnings))
    for base in bases:
        _have(registries, engine, base, recipe.platform)
    pinned = dockerfile.pin(
        text, {base.named: base.pinned for base in bases}, build_args=recipe.build_args, target=recipe.target,
        where=dockerfile_path(recipe),
    )
    with context_archive(recipe.context, files, {recipe.dockerfile: pinned}) as archive:
        image_id = engine.build(archive, tag=f"{name.name}:{tags[0]}", dockerfile=recipe.dockerfile, options={
            "buildargs": dict(recipe.build_args), "target": recipe.target or "", "platform": recipe.platform,
            "labels": {INPUT_HASH_LABEL: inputs},
        })
    for tag in tags[1:]:
        engine.tag(image_id, name.name, tag)
    digest = _push(registries, engine, name, tags) if push else None
    return Built(True, image_id, digest, inputs, tuple(warnings))


def require_no_epoch(recipe: Recipe, environment: t.Mapping[str, str]) -> None:
    """Refuse a time that the engine's builder would ignore. Raises BuildError (input_invalid)."""
    if "SOURCE_DATE_EPOCH" in recipe.build_args or environment.get("SOURCE_DATE_EPOCH"):
        raise BuildError(
            code="input_invalid", object="SOURCE_DATE_EPOCH", attempt="build with the engine",
            cause="the engine's builder that can be reached here ignores it, and the image would not be reproducible",
            advice="Build with builder: assemble, or take it out of build_args and the environment.",
        )


def read_dockerfile(recipe: Recipe) -> str:
    """Return the text of the Dockerfile. Raises BuildError: context or Dockerfile missing, or outside the context."""
    path = dockerfile_path(recipe)
    inside = os.path.relpath(os.path.realpath(path), os.path.realpath(recipe.context))
    if inside == os.pardir or inside.startswith(os.pardir + os.sep):
        raise _unreadable(path, "it lies outside the context")
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except (OSError, UnicodeDecodeError) as exc:
        raise _unreadable(path, getattr(exc, "strerror", None) or "it is not UTF-8 text") from exc


def input_hash(
    recipe: Recipe, text: str, files: t.Sequence[str], bases: t.Sequence[Base], **more: t.Any
) -> str:
    """Return the hexadecimal SHA-256 over all that goes into the image.

    That is: path, kind, permission bits and content of each file of the context, the Dockerfile, arguments,
    target, platform, the digest of each base, and what else a builder takes. Times and owners are left out, as
    docker's cache does.
    """
    inputs = {
        "format": 1,
        "files": [_file_input(recipe.context, path) for path in files],
        "dockerfile": hashlib.sha256(text.encode("utf-8")).hexdigest(),
        "build_args": dict(sorted(recipe.build_args.items())),
        "target": recipe.target,
        "platform": recipe.platform,
        "bases": [[base.named, base.identity] for base in bases],
        **more,
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode("utf-8")).hexdigest()


def _file_input(folder: str, path: str) -> list[str]:
    whole = os.path.join(folder, path)
    try:
        return _describe_file(whole, path)
    except OSError as exc:
        raise _unreadable(whole, exc.strerror or type(exc).__name__) from exc


def _describe_file(whole: str, path: str) -> list[str]:
    status = os.lstat(whole)
    mode = f"{stat.S_IMODE(status.st_mode):04o}"
    if stat.S_ISLNK(status.st_mode):
        return [path, "link", os.readlink(whole)]
    if stat.S_ISDIR(status.st_mode):
        return [path, "folder", mode]
    if not stat.S_ISREG(status.st_mode):
        raise _unreadable(whole, "it is neither file, folder nor link")
    digest = hashlib.sha256()
    with open(whole, "rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return [path, mode, digest.hexdigest()]


def ignore_patterns(recipe: Recipe) -> list[str]:
    """Return what C(.dockerignore) leaves out. Raises BuildError."""
    # A Dockerfile may have an ignore file of its own, which then stands for .dockerignore.
    for name in (f"{recipe.dockerfile}.dockerignore", ".dockerignore"):
        try:
            with open(os.path.join(recipe.context, name), encoding="utf-8-sig") as stream:
                lines = [line.strip() for line in stream]
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as exc:
            raise _unreadable(name, getattr(exc, "strerror", None) or "it is not UTF-8 text") from exc
        return [line for line in lines if line and not line.startswith("#")]
    return []


def _resolve(
    registries: Registries, engine: Engine, named: str, *, pull: bool, warnings: list[Reason]
) -> Base:
    """Find the digest of a base once, so that what is hashed is what is built on."""
    local = None if pull else engine.image_id(named)
    if local:
        return Base(named, local, local)
    image = references.parse(named)
    if image.digest:
        return Base(named, str(image.at(image.digest)), image.digest)
    try:
        digest = registries.manifest(image).digest
        return Base(named, str(image.at(digest)), digest)
    except RegistryError as exc:
        local = engine.image_id(named)
        if local is None:
            raise BuildError(
                code=exc.code, object=named, attempt="resolve the base", cause=str(exc),
                advice="The engine does not have it either: check the name, or load it there.",
            ) from exc
        warnings.append(Reason(
            "local_base", f"{named}: the base is used as the engine has it, by its image id, because its registry "
            f"could not give it ({exc.cause}).", named,
        ))
        return Base(named, local, local)


def _have(registries: Registries, engine: Engine, base: Base, platform: str | None) -> None:
    """Pull a base that the engine lacks, with our credentials."""
    if base.pinned == base.identity or engine.image_id(base.pinned):
        return
    image = references.parse(base.pinned)
    engine.pull(
        image.name, base.identity, platform=platform, credentials=registries.settings.credentials_for(image.host)
    )


def pushed(
    store: Store[t.Any], name: Image, tags: t.Sequence[str], inputs: str
) -> tuple[str | None, str] | None:
    """Return image id and digest if every tag names one image with these inputs, else None."""
    found = [store.find_manifest(name.tagged(tag)) for tag in tags]
    first = found[0]
    if first is None or any(other is None or other.digest != first.digest for other in found):
        return None
    if _input_hash_of(store, name, first) != inputs:
        return None
    return (first.config.digest if first.config else None), first.digest


def _input_hash_of(store: Store[t.Any], name: Image, manifest: Manifest) -> str | None:
    if manifest.config is None:
        return None
    try:
        raw = store.blob(name, manifest.config, limit=MAX_CONFIG)
        config = _strict_json.loads(raw, what="image configuration", where=name.name)
        return config.object("config", None).strings("Labels").get(INPUT_HASH_LABEL)
    except HallmarkError as exc:
        if exc.code in ("registry_error", "unauthorized"):
            raise
        return None


def _built(
    engine: Engine, name: Reference, tags: t.Sequence[str], inputs: str
) -> tuple[str | None, str | None] | None:
    full = [f"{name.name}:{tag}" for tag in tags]
    ids = {engine.image_id(one) for one in full}
    if len(ids) != 1 or None in ids or engine.label(full[0], INPUT_HASH_LABEL) != inputs:
        return None
    return ids.pop(), None


def _push(registries: Registries, engine: Engine, name: Reference, tags: t.Sequence[str]) -> str:
    credentials = registries.settings.credentials_for(name.host)
    digests = {engine.push(name.name, tag, credentials=credentials) for tag in tags}
    if len(digests) != 1:
        raise BuildError(
            code="build_failed", object=name.name, attempt="push the image",
            cause="its tags were pushed with different digests", advice="Another build used the same tags; run again.",
        )
    return digests.pop()


def dockerfile_path(recipe: Recipe) -> str:
    """Return the path of the Dockerfile."""
    return os.path.join(recipe.context, recipe.dockerfile)


def _unreadable(path: str, cause: str) -> BuildError:
    return BuildError(
        code="not_found", object=path, attempt="read the build context", cause=cause,
        advice="Check context and dockerfile.",
    )
