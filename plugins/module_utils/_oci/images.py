# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images wherever they are: each call goes to the registries, the layouts or the archives, by its reference."""

from __future__ import annotations

import typing as t

from . import manifest as manifests
from .manifest import Descriptor, Manifest
from .reference import Image, Reference
from .registry import Registries
from .transport import RegistrySettings

if t.TYPE_CHECKING:
    from .shared_tag import Written
    from .store import Store


class Images:
    """A C(Store) of all images that can be named; safe to use from many threads."""

    def __init__(self, settings: RegistrySettings) -> None:
        self.settings = settings
        self.registries = Registries(settings)
        self._folders: dict[bool, Store[t.Any]] = {}

    def store_of(self, image: Image) -> Store[t.Any]:
        """Return what keeps an image."""
        if isinstance(image, Reference):
            return t.cast("Store[t.Any]", self.registries)
        if image.is_archive not in self._folders:
            # Loaded when a layout is named: Ansible compiles what is imported for every task.
            from .layout import Layouts

            if image.is_archive:
                from .archive import Archives

                self._folders.setdefault(True, Archives())
            else:
                self._folders.setdefault(False, Layouts())
        return self._folders[image.is_archive]

    def find_manifest(self, image: Image) -> Manifest | None:
        """See C(Store)."""
        return self.store_of(image).find_manifest(image)

    def has_manifest(self, image: Image) -> bool:
        """See C(Store)."""
        return self.store_of(image).has_manifest(image)

    def manifest(self, image: Image) -> Manifest:
        """See C(Store)."""
        return self.store_of(image).manifest(image)

    def blob(self, image: Image, descriptor: Descriptor, *, limit: int) -> bytes:
        """See C(Store)."""
        return self.store_of(image).blob(image, descriptor, limit=limit)

    def stream_blob(self, image: Image, descriptor: Descriptor, *, offset: int = 0) -> t.Iterator[bytes]:
        """See C(Store)."""
        return self.store_of(image).stream_blob(image, descriptor, offset=offset)

    def has_blob(self, image: Image, descriptor: Descriptor) -> bool:
        """See C(Store)."""
        return self.store_of(image).has_blob(image, descriptor)

    def put_blob(self, image: Image, data: bytes, *, algorithm: str = "sha256", is_new: bool = False) -> str:
        """See C(Store)."""
        return self.store_of(image).put_blob(image, data, algorithm=algorithm, is_new=is_new)

    def put_manifest(
        self, image: Image, raw: bytes, *, media_type: str = manifests.OCI_MANIFEST, until: float | None = None
    ) -> str | None:
        """See C(Store)."""
        return self.store_of(image).put_manifest(image, raw, media_type=media_type, until=until)

    def delete_manifest(self, image: Image) -> bool:
        """See C(Store)."""
        return self.store_of(image).delete_manifest(image)

    def referrers(self, image: Image, digest: str) -> tuple[Descriptor, ...]:
        """See C(Store)."""
        return self.store_of(image).referrers(image, digest)

    def attach(self, image: Image, subject: Descriptor, raw: bytes) -> tuple[Descriptor, Written | None]:
        """See C(Store)."""
        return self.store_of(image).attach(image, subject, raw)

    def detach(self, image: Image, subject: str, digests: t.Collection[str]) -> Written | None:
        """See C(Store)."""
        return self.store_of(image).detach(image, subject, digests)

    def exclusive(self, image: Image, digest: str) -> t.ContextManager[None]:
        """See C(Store)."""
        return self.store_of(image).exclusive(image, digest)

    def settle_seconds(self, image: Image) -> float:
        """See C(Store)."""
        return self.store_of(image).settle_seconds(image)
