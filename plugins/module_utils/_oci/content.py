# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rules for what any store gives out: what is there, how large it may be, what lies below an index."""

from __future__ import annotations

import typing as t

from .._errors import FormatError, RegistryError
from .digest import check
from .manifest import Descriptor, Manifest
from .reference import Image

if t.TYPE_CHECKING:
    from .store import Store

MAX_MANIFEST = 4 * 1024 * 1024
MAX_DESCENDANTS = 1000


def not_there(image: Image) -> RegistryError:
    """Return the error for a manifest that is not there."""
    return RegistryError(
        code="not_found", object=str(image), attempt="fetch the manifest", cause="it is not there",
        advice="Check repository or folder, tag and digest, and that this user may see them.",
    )


def descendants(
    store: Store[Image], image: Image, manifest: Manifest, *, attestations: bool = False
) -> tuple[Descriptor, ...]:
    """Return the manifests below an index, those of nested indexes included, each once; none for an image.

    BuildKit's attestation manifests are left out, unless asked for. Raises RegistryError (limit_exceeded) above
    1000 of them, and whatever C(manifest()) raises.
    """
    found: dict[str, Descriptor] = {}
    todo = list(manifest.children if attestations else manifest.images)
    while todo:
        child = todo.pop(0)
        if child.digest in found:
            continue
        found[child.digest] = child
        if len(found) > MAX_DESCENDANTS:
            raise RegistryError(
                code="limit_exceeded", object=str(image), attempt="walk the index",
                cause=f"it has more than {MAX_DESCENDANTS} images",
                advice="Work on its parts by themselves.",
            )
        if child.is_index:
            below = store.manifest(image.at(child.digest))
            todo.extend(below.children if attestations else below.images)
    return tuple(found.values())


def require_size(image: Image, descriptor: Descriptor, *, limit: int) -> None:
    """Refuse a blob that its descriptor says is larger than C(limit) bytes. Raises RegistryError (limit_exceeded)."""
    if descriptor.size > limit:
        raise RegistryError(
            code="limit_exceeded", object=f"{image.name}@{descriptor.digest}", attempt="fetch the blob",
            cause=f"its size is {descriptor.size} bytes, more than {limit}",
            advice="Look at it.",
        )


def checked(data: bytes, descriptor: Descriptor, *, where: str) -> bytes:
    """Return the bytes of a blob if they fit its descriptor. Raises FormatError (digest_mismatch)."""
    check(data, descriptor.digest, where=where)
    if len(data) != descriptor.size:
        raise FormatError(
            code="digest_mismatch", object=where, attempt="use the blob",
            cause=f"it has {len(data)} bytes, its descriptor says {descriptor.size}",
            advice="Whoever wrote the manifest made a mistake, or worse; it does not count.",
        )
    return data
