# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every place that keeps images can do: registries, OCI layouts, archives.

Everything by digest is checked on the way. Nothing here is executed: import it for checking only.
"""

from __future__ import annotations

import typing as t

from . import manifest as manifests
from .manifest import Descriptor, Manifest
from .reference import Image

if t.TYPE_CHECKING:
    from .shared_tag import Written


# How a store names what it keeps: registries by Reference, layouts by LayoutReference, all of them together by Image.
Place = t.TypeVar("Place", bound=Image)
_Named_contra = t.TypeVar("_Named_contra", bound=Image, contravariant=True)


class Store(t.Protocol[_Named_contra]):
    """Manifests, blobs and referrers. Methods raise RegistryError, and FormatError for content that is not right."""

    def find_manifest(self, image: _Named_contra) -> Manifest | None:
        """Fetch a manifest or index by its digest, else by its tag, and check its digest; None where there is none."""

    def has_manifest(self, image: _Named_contra) -> bool:
        """Say whether the manifest is there, without fetching it."""

    def manifest(self, image: _Named_contra) -> Manifest:
        """Fetch a manifest like C(find_manifest()); one that is not there is an error (not_found)."""

    def blob(self, image: _Named_contra, descriptor: Descriptor, *, limit: int) -> bytes:
        """Fetch a blob of at most C(limit) bytes and check its size and digest (limit_exceeded, digest_mismatch)."""

    def stream_blob(self, image: _Named_contra, descriptor: Descriptor, *, offset: int = 0) -> t.Iterator[bytes]:
        """Yield a blob from C(offset) on in small chunks; size and digest are for the caller to check."""

    def has_blob(self, image: _Named_contra, descriptor: Descriptor) -> bool:
        """Say whether the blob is there, in its size."""

    def put_blob(
        self, image: _Named_contra, data: bytes, *, algorithm: str = "sha256", is_new: bool = False
    ) -> str:
        """Store a blob unless it is there, and return its digest; nobody asks whether what C(is_new) is there."""

    def put_manifest(
        self, image: _Named_contra, raw: bytes, *, media_type: str = manifests.OCI_MANIFEST, until: float | None = None
    ) -> str | None:
        """Store a manifest at the digest or tag of C(image), not later than C(until) (monotonic seconds).

        Return the subject that the store says it recorded, if it does.
        """

    def delete_manifest(self, image: _Named_contra) -> bool:
        """Delete the manifest at a digest, gone already or not; return False where that is not allowed."""

    def referrers(self, image: _Named_contra, digest: str) -> tuple[Descriptor, ...]:
        """Return the descriptors of all manifests whose subject is C(digest); their types are hints only."""

    def attach(self, image: _Named_contra, subject: Descriptor, raw: bytes) -> tuple[Descriptor, Written | None]:
        """Store the manifest C(raw), which names C(subject), so that it is listed as its referrer."""

    def detach(self, image: _Named_contra, subject: str, digests: t.Collection[str]) -> Written | None:
        """Remove manifests from the referrers of C(subject), and from the store."""

    def exclusive(self, image: _Named_contra, digest: str) -> t.ContextManager[None]:
        """Keep other writers of the signatures of C(digest) out, as far as they use this."""

    def settle_seconds(self, image: _Named_contra) -> float:
        """Return how long writers elsewhere may take from reading a shared tag to writing it; 0 when there are none."""
