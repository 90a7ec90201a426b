# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Attaching bundles as referrers of an image (OCI image specification 1.1, C(subject)), as cosign 3 does."""

from __future__ import annotations

import typing as t

from .._oci import manifest as manifests
from .._oci.digest import digest_of
from .._oci.manifest import Descriptor
from .._oci.reference import Image
from .._oci.shared_tag import Written
from . import bundle

if t.TYPE_CHECKING:
    from .._oci.store import Store


def add_bundle(
    store: Store[Image], image: Image, subject: Descriptor, data: bytes, *, created: str, listed: int = 0
) -> tuple[str, Written | None]:
    """Attach the bundle C(data) to C(subject), which has C(listed) others; return the digest of the referrer.

    Raises RegistryError.
    """
    store.put_blob(image, manifests.EMPTY_OBJECT)
    raw = bundle_manifest(subject, data, created=created, listed=listed)
    store.put_blob(image, data, is_new=True)
    entry, written = store.attach(image, subject, raw)
    return entry.digest, written


def bundle_manifest(subject: Descriptor, data: bytes, *, created: str, listed: int = 0) -> bytes:
    """Return the referrer manifest for a bundle, as cosign 3 writes it, its config's artifactType included."""
    return manifests.encode_image(
        config=Descriptor(
            manifests.OCI_EMPTY, digest_of(manifests.EMPTY_OBJECT), len(manifests.EMPTY_OBJECT), bundle.MEDIA_TYPE
        ),
        layers=[Descriptor(bundle.MEDIA_TYPE, digest_of(data), len(data))],
        annotations=bundle.manifest_annotations(created, data, listed=listed),
        subject=Descriptor(subject.media_type, subject.digest, subject.size),
        artifact_type=bundle.MEDIA_TYPE,
    )
