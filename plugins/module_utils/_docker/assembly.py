# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Assembling an image and storing it in a registry or OCI layout, only when something that goes into it changed."""

from __future__ import annotations

import os
import tempfile
import typing as t
from dataclasses import replace

from .. import _strict_json
from .._errors import BuildError, RegistryError
from .._oci import manifest as manifests
from .._oci import reference as references
from .._oci import transfer
from .._oci.digest import digest_of
from .._oci.images import Images
from .._oci.manifest import Descriptor, Manifest
from .._oci.reference import Image
from . import assemble, build, instructions
from .base_files import BaseFiles
from .build import INPUT_HASH_LABEL, Base, Built, Recipe
from .engine import context_files, leaves_out

# What the layers of a base may hold when they are looked through for folders and links.
_MAX_BASE = 64 * 1024**3
_NO_DOCKERFILE = "/"
_LAYER_TYPES = {
    "application/vnd.docker.image.rootfs.diff.tar": "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd": "application/vnd.oci.image.layer.v1.tar+zstd",
}


def assemble_image(
    source: Images, target: Images, recipe: Recipe, name: Image, tags: t.Sequence[str], *, dry_run: bool
) -> Built:
    """Assemble and store an image, unless every tag already has one with the same input hash.

    C(name) has neither tag nor digest; bases are read from C(source). Raises HallmarkError.
    """
    where = build.dockerfile_path(recipe)
    text = build.read_dockerfile(recipe)
    epoch = assemble.source_date_epoch(recipe.build_args, os.environ)
    named = instructions.find_base(text, build_args=recipe.build_args, target=recipe.target, where=where)
    platform = named.platform or recipe.platform
    base = None if named.is_scratch else _Base(source, named.image, assemble.platform_of(platform, where))
    # The SDK adds the Dockerfile to the context in any case; without an engine nobody needs it there.
    patterns = build.ignore_patterns(recipe)
    files = [
        path for path in context_files(recipe.context, list(patterns), _NO_DOCKERFILE)
        if path != ".dockerignore" or not leaves_out(patterns, path)
    ]
    bases = [] if base is None else [Base(named.image, base.digest, base.digest)]
    inputs = build.input_hash(recipe, text, files, bases, builder="assemble", epoch=epoch)
    present = _present(target, name, tags, inputs)
    if present is not None:
        return Built(False, present[0], present[1], inputs)
    with tempfile.TemporaryDirectory(prefix="hallmark-assemble-") as folder:
        made = assemble.assemble(
            context=recipe.context, files=files, dockerfile_text=text, build_args=recipe.build_args,
            target=recipe.target, platform=recipe.platform, base=base.image() if base else None, epoch=epoch,
            labels={INPUT_HASH_LABEL: inputs}, folder=folder, where=where,
        )
        if dry_run:
            return Built(True, None, None, inputs, made.warnings)
        digest = _store(target, name, tags, made, base)
    return Built(True, digest_of(made.config), digest, inputs, made.warnings)


def _present(
    target: Images, name: Image, tags: t.Sequence[str], inputs: str
) -> tuple[str | None, str] | None:
    try:
        return build.pushed(target, name, tags, inputs)
    except RegistryError as exc:
        # A layout that is not there yet has nothing.
        if exc.code == "not_found":
            return None
        raise


class _Base:
    """A base that was resolved once: C(digest) is what its name leads to, C(manifest) the image of the platform."""

    def __init__(self, source: Images, named: str, platform: tuple[str, str, str]) -> None:
        self._source = source
        self._named = references.parse_image(named)
        resolved = source.manifest(self._named)
        self.digest = resolved.digest
        self.place = self._named.at(resolved.digest)
        self.manifest = self._of_platform(resolved, platform) if resolved.is_index else resolved

    @property
    def layers(self) -> tuple[Descriptor, ...]:
        """The layers with the media types of OCI, whatever they are called in the base."""
        return tuple(
            replace(layer, media_type=_LAYER_TYPES.get(layer.media_type, layer.media_type), source={})
            for layer in self.manifest.layers
        )

    def image(self) -> assemble.BaseImage:
        """Read the configuration, and look through the layers. Raises HallmarkError."""
        config = self.manifest.config
        if config is None:
            raise self._unusable("it has no configuration")
        raw = self._source.blob(self.place, config, limit=build.MAX_CONFIG)
        members = _strict_json.loads(raw, what="image configuration", where=str(self.place)).members
        files = BaseFiles.read(
            ((layer.media_type, self._checked(layer)) for layer in self.manifest.layers),
            limit=_MAX_BASE, where=str(self.place),
        )
        return assemble.BaseImage(members, self.manifest.layers, files)

    def _checked(self, layer: Descriptor) -> t.Iterator[bytes]:
        reading = transfer.Reading(self._source, self.place, layer)
        yield from reading.chunks(0)
        reading.finish()

    def copy_to(self, target: Images, name: Image) -> None:
        """Bring the layers to where the image will be. Raises HallmarkError."""
        for layer in {layer.digest: layer for layer in self.manifest.layers}.values():
            transfer.copy_blob(self._source, self.place, target, name, layer)

    def _of_platform(self, index: Manifest, platform: tuple[str, str, str]) -> Manifest:
        wanted = {"os": platform[0], "architecture": platform[1], "variant": platform[2]}
        fitting = []
        for child in index.images:
            said = child.source.get("platform")
            found = {key: said.get(key, "") for key in wanted} if isinstance(said, dict) else {}
            # An image for arm64 may say v8, which every arm64 is.
            if wanted in (found, {**found, "variant": ""}):
                fitting.append(child)
        if not fitting:
            raise self._unusable(f"it has no image for {'/'.join(part for part in platform if part)}")
        return self._source.manifest(self._named.at(fitting[0].digest))

    def _unusable(self, cause: str) -> BuildError:
        return BuildError(
            code="input_invalid", object=str(self._named), attempt="use the base", cause=cause,
            advice="Name another base, or another platform.",
        )


def _store(target: Images, name: Image, tags: t.Sequence[str], made: assemble.Assembled, base: _Base | None) -> str:
    """Store what the image is made of, then the manifest, then the tags. Returns the digest. Raises HallmarkError."""
    if base is not None:
        base.copy_to(target, name)
    for layer in made.layers:
        reading = transfer.Reading(transfer.FileSource(layer.path), name, layer.descriptor)
        transfer.store_blob(reading, target, name, layer.descriptor)
    target.put_blob(name, made.config)
    raw = manifests.encode_image(
        config=Descriptor(manifests.OCI_CONFIG, digest_of(made.config), len(made.config)),
        layers=[*(base.layers if base else ()), *(layer.descriptor for layer in made.layers)],
    )
    digest = digest_of(raw)
    target.put_manifest(name.at(digest), raw)
    for tag in tags:
        target.put_manifest(name.tagged(tag), raw)
    return digest
