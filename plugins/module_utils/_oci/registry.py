# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The registry API (OCI distribution specification 1.1): manifests and blobs, checked byte for byte."""

from __future__ import annotations

import dataclasses
import threading
import typing as t
from contextlib import suppress

from .._errors import HallmarkError
from . import manifest as manifests
from .content import MAX_MANIFEST, checked, not_there, require_size
from .digest import check
from .manifest import Descriptor, Manifest
from .reference import Reference
from .transport import RegistrySettings, Request, Response, Transport

if t.TYPE_CHECKING:
    from .shared_tag import Written

Got = t.TypeVar("Got")


class Registries:
    """All registries of one run, by host; a C(Store), safe to use from many threads."""

    def __init__(self, settings: RegistrySettings) -> None:
        self.settings = settings
        self._lock = threading.Lock()
        self._transports: dict[str, Transport] = {}
        # One probe of the referrers API per registry and run; a registry is in here once it was asked.
        self.has_referrers_api: dict[str, bool] = {}
        self._probes: dict[str, threading.Lock] = {}
        # Where the empty object was found to be: see C(upload.put()).
        self.empty_objects: set[str] = set()

    @property
    def request_count(self) -> int:
        """How many HTTP requests were sent so far."""
        return sum(transport.request_count for transport in self._transports.values())

    def referrers_probe(self, host: str) -> threading.Lock:
        """Return the lock to hold while a registry is asked for its referrers API the first time."""
        with self._lock:
            return self._probes.setdefault(host, threading.Lock())

    def manifest(self, image: Reference) -> Manifest:
        """Fetch a manifest or index by its digest, else by its tag, and check its digest.

        Raises RegistryError (not_found and the rest) and FormatError (malformed, digest_mismatch).
        """
        found = self.find_manifest(image)
        if found is None:
            raise not_there(image)
        return found

    def find_manifest(self, image: Reference) -> Manifest | None:
        """Fetch a manifest like C(manifest()), but return None where the registry answers 404."""
        return self._anywhere(image, self._find_manifest, is_found=lambda found: found is not None)

    def _find_manifest(self, image: Reference) -> Manifest | None:
        response = self.send(image, Request(
            "GET", _path(image, "manifests", image.target), _scope(image, "pull"), f"fetch the manifest of {image}",
            headers={"Accept": ", ".join(manifests.ACCEPTED)}, limit=MAX_MANIFEST, accepted=(200, 404),
        ))
        if response.status == 404:
            return None
        self._refuse_html(image, response)
        if image.digest:
            check(response.body, image.digest, where=str(image))
        found = manifests.parse(
            response.body, content_type=response.headers.get("content-type", ""), where=str(image)
        )
        return dataclasses.replace(found, digest=image.digest or found.digest)

    def has_manifest(self, image: Reference) -> bool:
        """Say whether the registry has the manifest, without fetching it."""
        response = self.send(image, Request(
            "HEAD", _path(image, "manifests", image.target), _scope(image, "pull"), f"look for the manifest {image}",
            headers={"Accept": ", ".join(manifests.ACCEPTED)}, accepted=(200, 404),
        ))
        return response.status == 200

    def blob(self, image: Reference, descriptor: Descriptor, *, limit: int) -> bytes:
        """Fetch a blob of at most C(limit) bytes and check its size and digest against its descriptor.

        Raises RegistryError (limit_exceeded, not_found and the rest) and FormatError (digest_mismatch).
        """
        require_size(image, descriptor, limit=limit)
        return self._anywhere(image, lambda place: self._blob(place, descriptor))

    def _blob(self, image: Reference, descriptor: Descriptor) -> bytes:
        where = f"{image.name}@{descriptor.digest}"
        response = self.send(image, Request(
            "GET", _path(image, "blobs", descriptor.digest), _scope(image, "pull"), f"fetch the blob {where}",
            limit=descriptor.size,
        ))
        return checked(response.body, descriptor, where=where)

    def stream_blob(self, image: Reference, descriptor: Descriptor, *, offset: int = 0) -> t.Iterator[bytes]:
        """Yield a blob from C(offset) on in chunks of at most 64 KiB. Its digest is for the caller to check.

        Raises RegistryError, transient when the connection broke: ask again from where it broke.
        """
        return self._anywhere(image, lambda place: self._stream_blob(place, descriptor, offset))

    def _stream_blob(self, image: Reference, descriptor: Descriptor, offset: int) -> t.Iterator[bytes]:
        response = self.send(image, Request(
            "GET", _path(image, "blobs", descriptor.digest), _scope(image, "pull"),
            f"fetch the blob {image.name}@{descriptor.digest}",
            headers={"Range": f"bytes={offset}-"} if offset else {},
            limit=descriptor.size, accepted=(200, 206) if offset else (200,), streamed=True,
        ))
        if not offset or response.status == 206:
            return response.chunks
        # It knows no ranges and began anew.
        return _without(response.chunks, offset)

    def has_blob(self, image: Reference, descriptor: Descriptor) -> bool:
        """Say whether the registry has the blob in this repository."""
        return self.has_digest(image, descriptor.digest)

    def has_digest(self, image: Reference, digest: str) -> bool:
        """Say whether the registry has a blob of this digest in this repository."""
        exists = self.send(image, Request(
            "HEAD", _path(image, "blobs", digest), _scope(image, "pull,push"), f"look for a blob in {image.name}",
            accepted=(200, 404),
        ))
        return exists.status == 200

    def put_blob(
        self, image: Reference, data: bytes, *, algorithm: str = "sha256", is_new: bool = False
    ) -> str:
        """Store a blob unless it is there, and return its digest: see C(upload.put())."""
        from . import upload

        return upload.put(self, image, data, algorithm=algorithm, is_new=is_new)

    def put_manifest(
        self, image: Reference, raw: bytes, *, media_type: str = manifests.OCI_MANIFEST, until: float | None = None
    ) -> str | None:
        """Store a manifest at the digest or tag of C(image), not later than C(until) (monotonic seconds).

        Returns the subject that the registry says it recorded (header OCI-Subject). Raises RegistryError.
        """
        from . import upload

        return upload.put_manifest(self, image, raw, media_type=media_type, until=until)

    def delete_manifest(self, image: Reference) -> bool:
        """Delete the manifest at a digest; return False where the registry does not allow deletion.

        A manifest that is gone already counts as deleted. Raises RegistryError.
        """
        response = self.send(image, Request(
            "DELETE", _path(image, "manifests", image.target), _scope(image, "pull,push,delete"),
            f"delete the manifest {image}", accepted=(200, 202, 404, 400, 405),
        ))
        return response.status not in (400, 405)

    def referrers(self, image: Reference, digest: str) -> tuple[Descriptor, ...]:
        """Return the descriptors of all manifests whose subject is C(digest): see C(referrers.find())."""
        from . import referrers

        return self._anywhere(image, lambda place: referrers.find(self, place, digest), is_found=bool)

    def attach(self, image: Reference, subject: Descriptor, raw: bytes) -> tuple[Descriptor, Written | None]:
        """Store a manifest that names C(subject) so that it is listed: see C(referrers.attach())."""
        from . import referrers

        return referrers.attach(self, image, subject, raw)

    def detach(self, image: Reference, subject: str, digests: t.Collection[str]) -> Written | None:
        """Remove manifests from the referrers of C(subject): see C(referrers.detach())."""
        from . import referrers

        return referrers.detach(self, image, subject, digests)

    def exclusive(self, image: Reference, digest: str) -> t.ContextManager[None]:
        """Keep other processes of this user on this host out of the signatures of C(digest)."""
        from . import lock

        return lock.writer(f"{image.name}@{digest}")

    def settle_seconds(self, image: Reference) -> float:
        """Return the window within which hosts that share this registry read and write."""
        return self.settings.settle_seconds

    def send(self, image: Reference, request: Request, *, until: float | None = None) -> Response:
        """Send a request to the registry of C(image)."""
        with self._lock:
            if image.host not in self._transports:
                self._transports[image.host] = Transport(image.host, image.api_host, self.settings)
            transport = self._transports[image.host]
        return transport.send(request, until=until)

    def _anywhere(
        self, image: Reference, read: t.Callable[[Reference], Got], *,
        is_found: t.Callable[[Got], bool] = lambda _got: True,
    ) -> Got:
        """Read from the mirrors of a registry in their order, and from itself where they fail or have nothing."""
        host = self.settings.hosts.get(image.host)
        for mirror in host.mirrors if host and self.settings.uses_mirrors else ():
            from .mirror import mirrored

            with suppress(HallmarkError):
                got = read(mirrored(image, mirror))
                if is_found(got):
                    return got
        return read(image)

    @staticmethod
    def _refuse_html(image: Reference, response: Response) -> None:
        if response.headers.get("content-type", "").startswith("text/html"):
            from . import failure

            raise failure.html_page(str(image))


def referrers_path(image: Reference, digest: str) -> str:
    """Return the path of the referrers API for a digest."""
    return _path(image, "referrers", digest)


def pull_scope(image: Reference) -> str:
    """Return the token scope for reading the repository of C(image)."""
    return _scope(image, "pull")


def push_scope(image: Reference) -> str:
    """Return the token scope for writing to the repository of C(image)."""
    return _scope(image, "pull,push")


def manifest_path(image: Reference) -> str:
    """Return the path of a manifest by digest or tag."""
    return _path(image, "manifests", image.target)


def uploads_path(image: Reference) -> str:
    """Return the path at which uploads begin."""
    return _path(image, "blobs", "uploads") + "/"


def _scope(image: Reference, actions: str) -> str:
    return f"repository:{image.repository}:{actions}"


def _path(image: Reference, kind: str, last: str) -> str:
    return f"/v2/{image.repository}/{kind}/{last}"


def _without(chunks: t.Iterator[bytes], count: int) -> t.Iterator[bytes]:
    for chunk in chunks:
        if count < len(chunk):
            yield chunk[count:]
        count = max(0, count - len(chunk))
