# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Copying into an archive: put together as a layout beside it, then written whole, the former archive included."""

from __future__ import annotations

import os
import shutil

from .._errors import RegistryError
from .._oci import archive as archives
from .._oci import layout_files, lock
from .._oci.images import Images
from .._oci.layout_reference import LayoutReference
from .._oci.manifest import Manifest
from .._oci.reference import Image
from .copying import Copying


def copy_to_archive(
    source: Images, target: Images, image: Image, destination: LayoutReference, manifest: Manifest, *, dry_run: bool
) -> bool:
    """Copy an image into an archive, keeping what that has; return whether it changed. Raises HallmarkError.

    The archive is replaced at the end, or left alone. A copy that broke off goes on from the folder it left.
    """
    probe = Copying(source, target, image, destination, dry_run=True)
    probe.image(manifest)
    if dry_run or not probe.changed:
        return probe.changed
    folder = f"{os.path.abspath(destination.path)}.hallmark-signing"
    place = LayoutReference(folder, destination.tag, destination.digest)
    with lock.writer(f"archive {os.path.abspath(destination.path)}"):
        files = layout_files.make(folder)
        if os.path.exists(destination.path):
            archives.unpack(archives.ArchiveFiles(os.path.abspath(destination.path)), files)
        Copying(source, target, image, place, dry_run=False).image(manifest)
        archives.pack(files, os.path.abspath(destination.path))
        try:
            shutil.rmtree(folder)
        except OSError as exc:
            raise RegistryError(
                code="write_failed", object=folder, attempt="remove the folder the archive was put together in",
                cause=exc.strerror or type(exc).__name__, advice="The archive is whole; remove the folder by hand.",
            ) from exc
    return True
