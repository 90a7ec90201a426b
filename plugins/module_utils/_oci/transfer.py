# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Moving blobs from one place to another: mounted where a registry can, else streamed, checked and resumed.

No blob is held in memory, whatever its size; what breaks on either side goes on from where it broke.
"""

from __future__ import annotations

import hashlib
import typing as t

from .._errors import FormatError, RegistryError
from . import upload
from .images import Images
from .layout_reference import LayoutReference
from .manifest import Descriptor
from .reference import Image, Reference
from .registry import Registries
from .transport import Content

# Up to here one request with the whole blob is better than an upload that could be resumed.
SMALL = 1024 * 1024
TINY = 16 * 1024
_BREAKS = 5
_CHUNK = 64 * 1024


def copy_blob(source: Images, image: Image, target: Images, destination: Image, blob: Descriptor) -> None:
    """Bring a blob of C(image) to C(destination), unless it is there. Its digest and size are checked.

    Raises RegistryError, FormatError (digest_mismatch); then nothing is at the destination under this digest.
    """
    if isinstance(destination, Reference) and isinstance(image, Reference) and image.host == destination.host:
        if image.repository == destination.repository:
            return
        location = upload.mount(target.registries, destination, blob.digest, image)
        if location is None:
            return
        upload.cancel(target.registries, destination, location)
    if blob.size <= TINY and isinstance(destination, Reference):
        # Sending it costs no more than asking for it first.
        upload.send_whole(
            target.registries, destination, source.blob(image, blob, limit=TINY), blob.digest
        )
    elif blob.size <= SMALL:
        if not target.has_blob(destination, blob):
            data = source.blob(image, blob, limit=SMALL)
            target.put_blob(destination, data, algorithm=blob.digest.partition(":")[0])
    else:
        store_blob(Reading(source, image, blob), target, destination, blob)


def store_blob(reading: Reading, target: Images, destination: Image, blob: Descriptor) -> None:
    """Store what is read, unless it is there. Raises RegistryError, FormatError (digest_mismatch)."""
    if target.has_blob(destination, blob):
        return
    if isinstance(destination, LayoutReference):
        from .layout import Layouts

        t.cast(Layouts, target.store_of(destination)).receive_blob(destination, blob, reading.chunks)
    else:
        _upload(reading, target.registries, destination, blob)


class BlobSource(t.Protocol):
    """What blobs are read from."""

    def stream_blob(self, image: Image, descriptor: Descriptor, *, offset: int = 0) -> t.Iterator[bytes]:
        """Yield a blob from C(offset) on. Raises RegistryError, transient when it is worth to ask again."""


class FileSource:
    """A blob that lies in a file."""

    def __init__(self, path: str) -> None:
        self._path = path

    def stream_blob(self, image: Image, descriptor: Descriptor, *, offset: int = 0) -> t.Iterator[bytes]:
        """Yield the file from C(offset) on."""
        with open(self._path, "rb") as stream:
            stream.seek(offset)
            while chunk := stream.read(_CHUNK):
                yield chunk


class Reading:
    """A blob that is read in small chunks, again from where it broke when the source breaks."""

    def __init__(self, source: BlobSource, image: Image, blob: Descriptor) -> None:
        self._source = source
        self._image = image
        self._blob = blob
        self._hash = hashlib.new(blob.digest.partition(":")[0])
        self._hashed = 0

    def chunks(self, offset: int) -> t.Iterator[bytes]:
        """Yield the blob from C(offset) on. Raises FormatError (digest_mismatch): its length is wrong."""
        position, breaks = offset, 0
        while position < self._blob.size:
            before = position
            try:
                for chunk in self._source.stream_blob(self._image, self._blob, offset=position):
                    self._take(chunk, position)
                    position += len(chunk)
                    if position > self._blob.size:
                        raise self._wrong(f"it is longer than {self._blob.size} bytes")
                    yield chunk
                if position < self._blob.size:
                    raise self._wrong(f"it ends after {position} of {self._blob.size} bytes")
            except RegistryError as exc:
                breaks = breaks + 1 if position == before else 0
                if not exc.is_transient or breaks == _BREAKS:
                    raise

    def finish(self) -> None:
        """Check the digest of what was read. Raises FormatError (digest_mismatch)."""
        found = f"{self._hash.name}:{self._hash.hexdigest()}"
        if self._hashed != self._blob.size:
            raise self._wrong(f"only {self._hashed} of {self._blob.size} bytes were read")
        if found != self._blob.digest:
            raise self._wrong(f"it has digest {found}")

    @property
    def so_far(self) -> int:
        """How many bytes of the blob were read."""
        return self._hashed

    def _take(self, chunk: bytes, position: int) -> None:
        # A part that is read twice, for a destination that broke, counts once.
        fresh = chunk[max(0, self._hashed - position):]
        self._hash.update(fresh)
        self._hashed += len(fresh)

    def _wrong(self, cause: str) -> FormatError:
        return FormatError(
            code="digest_mismatch", object=f"{self._image.name}@{self._blob.digest}", attempt="copy the blob",
            cause=cause, advice="The source serves wrong content; do not use it.",
        )


def _upload(reading: Reading, registries: Registries, destination: Reference, blob: Descriptor) -> None:
    location = upload.begin(registries, destination)
    try:
        location = _send(reading, registries, destination, blob, location)
        reading.finish()
        _finish(registries, destination, location, blob)
    except (FormatError, RegistryError):
        upload.cancel(registries, destination, location)
        raise


def _finish(registries: Registries, destination: Reference, location: str, blob: Descriptor) -> None:
    try:
        upload.finish(registries, destination, location, blob.digest)
    except RegistryError as exc:
        # The answer was lost, perhaps not the upload.
        if not exc.is_transient or not registries.has_digest(destination, blob.digest):
            raise


def _send(
    reading: Reading, registries: Registries, destination: Reference, blob: Descriptor, location: str
) -> str:
    """Send a blob to an upload, going on where it broke; return the upload's last location."""
    offset = furthest = breaks = 0
    while True:
        content = Content(blob.size - offset, reading.chunks(offset))
        try:
            return upload.send(registries, destination, location, content, offset=offset, total=blob.size)
        except RegistryError as exc:
            if not exc.is_transient:
                raise
            try:
                location, offset = upload.offset_of(registries, destination, location)
            except RegistryError:
                offset = 0
            if not 0 < offset <= reading.so_far:
                # It has forgotten the upload, or says 0-0, which means nothing to one and a byte to another.
                location = upload.begin(registries, destination)
            breaks = breaks + 1 if offset <= furthest else 0
            furthest = max(furthest, offset)
            if breaks == _BREAKS:
                raise
            if offset == blob.size:
                return location
