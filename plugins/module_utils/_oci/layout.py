# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""OCI layouts (OCI image specification 1.1, "Image Layout"): images in a folder, by tag, digest and referrer.

What we write is read by skopeo (tags), oras (tags, listed referrers) and cosign (annotation C(kind)). What they wrote
is read, too: cosign lists bundles nowhere, so that referrers are looked for among all blobs. Files are trusted no
more than a registry: each is checked against its name, none is reached through a link.
"""

from __future__ import annotations

import dataclasses
import os
import threading
import typing as t

from .._errors import HallmarkError, RegistryError
from . import layout_files, lock
from . import layout_index as indexes
from . import manifest as manifests
from .content import MAX_MANIFEST, checked, not_there, require_size
from .digest import check, digest_of
from .layout_files import LayoutFiles
from .layout_index import LayoutIndex
from .layout_reference import LayoutReference
from .manifest import Descriptor, Manifest

if t.TYPE_CHECKING:
    from .shared_tag import Written


class LayoutReader:
    """The reading half of a C(Store), over anything that has the files of a layout."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Which manifest refers to which, by folder and digest; contents never change under a digest.
        self._subjects: dict[str, dict[str, Descriptor | None]] = {}
        self._referrers: dict[str, dict[str, list[Descriptor]]] = {}

    def files(self, image: LayoutReference) -> layout_files.Readable:
        """Return the files of the layout. Raises RegistryError (not_found) where there is none."""
        raise NotImplementedError

    def index(self, image: LayoutReference) -> LayoutIndex:
        """Read C(index.json). Raises RegistryError (not_found), FormatError (malformed)."""
        return indexes.read(self.files(image), where=image.name)

    def find_manifest(self, image: LayoutReference) -> Manifest | None:
        """Read a manifest by its digest, its tag, or as the only image there; None where there is none.

        Raises RegistryError, FormatError (malformed, digest_mismatch).
        """
        entry = None if image.digest else self.index(image).find(image)
        digest = image.digest or (entry.digest if entry else None)
        if digest is None:
            return None
        raw = self.files(image).read(digest, limit=MAX_MANIFEST)
        if raw is None and entry is not None:
            raise _missing(image, digest)
        if raw is None:
            return None
        where = f"{image.name}@{digest}"
        check(raw, digest, where=where)
        parsed = manifests.parse(raw, content_type=entry.media_type if entry else "", where=where)
        return dataclasses.replace(parsed, digest=digest)

    def has_manifest(self, image: LayoutReference) -> bool:
        """Say whether the manifest is there, whole."""
        return self.find_manifest(image) is not None

    def manifest(self, image: LayoutReference) -> Manifest:
        """Read a manifest like C(find_manifest()). Raises RegistryError (not_found) where there is none."""
        found = self.find_manifest(image)
        if found is None:
            raise not_there(image)
        return found

    def blob(self, image: LayoutReference, descriptor: Descriptor, *, limit: int) -> bytes:
        """Read a blob of at most C(limit) bytes and check its size and digest."""
        require_size(image, descriptor, limit=limit)
        raw = self.files(image).read(descriptor.digest, limit=descriptor.size)
        if raw is None:
            raise _missing(image, descriptor.digest)
        return checked(raw, descriptor, where=f"{image.name}@{descriptor.digest}")

    def stream_blob(self, image: LayoutReference, descriptor: Descriptor, *, offset: int = 0) -> t.Iterator[bytes]:
        """Yield a blob from C(offset) on in small chunks. Its digest is for the caller to check."""
        chunks = self.files(image).stream(descriptor.digest, offset=offset)
        if chunks is None:
            raise _missing(image, descriptor.digest)
        return chunks

    def has_blob(self, image: LayoutReference, descriptor: Descriptor) -> bool:
        """Say whether the blob is there, in its size."""
        return self.files(image).size(descriptor.digest) == descriptor.size

    def referrers(self, image: LayoutReference, digest: str) -> tuple[Descriptor, ...]:
        """Return the descriptors of all manifests whose subject is C(digest), listed or not, by digest."""
        files = self.files(image)
        with self._lock:
            known = self._subjects.setdefault(files.where, {})
            by_subject = self._referrers.setdefault(files.where, {})
            present = files.small_blobs(MAX_MANIFEST)
            for name in present - known.keys():
                known[name] = None
                manifest = _maybe_manifest(files.read(name, limit=MAX_MANIFEST) or b"", name)
                if manifest is not None and manifest.subject is not None:
                    known[name] = manifest.as_referrer()
                    by_subject.setdefault(manifest.subject.digest, []).append(t.cast(Descriptor, known[name]))
            found = [entry for entry in by_subject.get(digest, ()) if entry.digest in present]
        return tuple(sorted(found, key=lambda entry: entry.digest))

    def settle_seconds(self, image: LayoutReference) -> float:
        """Return 0: whoever writes here holds the lock from reading to writing."""
        return 0.0


class Layouts(LayoutReader):
    """All layouts of one run; a C(Store), safe to use from many threads and processes."""

    def files(self, image: LayoutReference) -> LayoutFiles:
        """Return the files of the layout. Raises RegistryError (not_found) where there is none."""
        return LayoutFiles(os.path.abspath(image.path))

    def put_blob(
        self, image: LayoutReference, data: bytes, *, algorithm: str = "sha256", is_new: bool = False
    ) -> str:
        """Store a blob unless it is there, and return its digest. Raises RegistryError (write_failed)."""
        digest = digest_of(data, algorithm=algorithm)
        files = self._made(image)
        if files.size(digest) != len(data):
            files.write(digest, data)
        return digest

    def receive_blob(
        self, image: LayoutReference, descriptor: Descriptor, read_from: t.Callable[[int], t.Iterator[bytes]]
    ) -> None:
        """Store a large blob from C(read_from(OFFSET)), going on where a former call broke off.

        Raises RegistryError (write_failed), FormatError (digest_mismatch), and what C(read_from) raises.
        """
        self._made(image).receive(descriptor, read_from)

    def put_manifest(
        self, image: LayoutReference, raw: bytes, *, media_type: str = manifests.OCI_MANIFEST,
        until: float | None = None,
    ) -> str | None:
        """Store a manifest, and list it unless C(image) names a digest. A tag then means nothing else."""
        stored = manifests.parse(raw, content_type=media_type, where=image.name)
        self.put_blob(image, raw, algorithm=(image.digest or "sha256").partition(":")[0])
        if not image.digest:
            entry = stored.descriptor()
            self._change_index(image, lambda index: index.tagged(image.tag, entry))
        return None

    def delete_manifest(self, image: LayoutReference) -> bool:
        """Take the manifest at a digest out of the list and away. Its blobs stay: others may use them."""
        digest = t.cast(str, image.digest)
        self._change_index(image, lambda index: index.without({digest}))
        self.files(image).remove(digest)
        return True

    def attach(self, image: LayoutReference, subject: Descriptor, raw: bytes) -> tuple[Descriptor, Written | None]:
        """Store a manifest that names C(subject), and list it, for oras."""
        stored = manifests.parse(raw, content_type="", where=image.name)
        entry = stored.as_referrer()
        self.put_blob(image, raw)
        self._change_index(image, lambda index: index.listed(entry))
        return entry, None

    def detach(self, image: LayoutReference, subject: str, digests: t.Collection[str]) -> Written | None:
        """Take referrers out of the list and away."""
        for digest in digests:
            self.delete_manifest(image.at(digest))
        return None

    def exclusive(self, image: LayoutReference, digest: str) -> t.ContextManager[None]:
        """Keep all other writers out of the layout."""
        return lock.on_file(self._made(image).path(layout_files.MARKER))

    def _made(self, image: LayoutReference) -> LayoutFiles:
        return layout_files.make(os.path.abspath(image.path))

    def _change_index(self, image: LayoutReference, change: t.Callable[[LayoutIndex], LayoutIndex]) -> None:
        files = self._made(image)
        with self.exclusive(image, ""):
            present = indexes.read(files, where=image.name)
            wanted = change(present)
            if wanted != present:
                files.replace(layout_files.INDEX, indexes.encode(wanted))


def _maybe_manifest(raw: bytes, name: str) -> Manifest | None:
    """Return a blob as a manifest if it is one that names a subject; anything else is somebody's layer."""
    if raw.lstrip()[:1] != b"{" or b'"subject"' not in raw:
        return None
    try:
        check(raw, name, where=name)
        return dataclasses.replace(manifests.parse(raw, content_type="", where=name), digest=name)
    except HallmarkError:
        return None


def _missing(image: LayoutReference, digest: str) -> RegistryError:
    return RegistryError(
        code="not_found", object=f"{image.name}@{digest}", attempt="read the blob",
        cause="the layout has no such file, or one of another size", advice="The layout is incomplete: make it anew.",
    )
