# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The registry API (OCI distribution specification 1.1): manifests and blobs, checked byte for byte."""

from __future__ import annotations

import dataclasses
import re
import threading
import time
from contextlib import suppress
from urllib.parse import urlencode, urljoin

from .._errors import FormatError, RegistryError
from . import manifest as manifests
from .digest import check, digest_of
from .manifest import Descriptor, Manifest
from .reference import Reference
from .transport import RegistrySettings, Request, Response, Transport

MAX_MANIFEST = 4 * 1024 * 1024
MAX_DESCENDANTS = 1000
_UPLOAD_ATTEMPTS = 3
_LINK = re.compile(r'<(?P<target>[^>]*)>(?P<parameters>(?:\s*;[^,<]*)*)')


class Registries:
    """All registries of one run, by host; safe to use from many threads."""

    def __init__(self, settings: RegistrySettings) -> None:
        self.settings = settings
        self._lock = threading.Lock()
        self._transports: dict[str, Transport] = {}
        # One probe of the referrers API per registry and run; a registry is in here once it was asked.
        self.has_referrers_api: dict[str, bool] = {}
        self.referrers_probe = threading.Lock()

    @property
    def request_count(self) -> int:
        """How many HTTP requests were sent so far."""
        return sum(transport.request_count for transport in self._transports.values())

    def manifest(self, image: Reference) -> Manifest:
        """Fetch a manifest or index by its digest, else by its tag, and check its digest.

        Raises RegistryError (not_found and the rest) and FormatError (malformed, digest_mismatch).
        """
        found = self.find_manifest(image)
        if found is None:
            raise RegistryError(
                code="not_found", object=str(image), attempt="fetch the manifest", cause="the registry has none",
                advice="Check repository, tag and digest, and that this user may see them.",
            )
        return found

    def find_manifest(self, image: Reference) -> Manifest | None:
        """Fetch a manifest like C(manifest()), but return None where the registry answers 404."""
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

    def descendants(self, image: Reference, manifest: Manifest) -> tuple[Descriptor, ...]:
        """Return the images below an index, those of nested indexes included, each once; none for an image.

        Raises RegistryError (limit_exceeded) above 1000 of them, and whatever C(manifest()) raises.
        """
        found: dict[str, Descriptor] = {}
        todo = list(manifest.images)
        while todo:
            child = todo.pop(0)
            if child.digest in found:
                continue
            found[child.digest] = child
            if len(found) > MAX_DESCENDANTS:
                raise RegistryError(
                    code="limit_exceeded", object=str(image), attempt="walk the index",
                    cause=f"it has more than {MAX_DESCENDANTS} images",
                    advice="Sign or verify its parts by themselves.",
                )
            if child.media_type in (manifests.OCI_INDEX, manifests.DOCKER_LIST):
                todo.extend(self.manifest(image.at(child.digest)).images)
        return tuple(found.values())

    def blob(self, image: Reference, descriptor: Descriptor, *, limit: int) -> bytes:
        """Fetch a blob of at most C(limit) bytes and check its size and digest against its descriptor.

        Raises RegistryError (limit_exceeded, not_found and the rest) and FormatError (digest_mismatch).
        """
        where = f"{image.name}@{descriptor.digest}"
        if descriptor.size > limit:
            raise RegistryError(
                code="limit_exceeded", object=where, attempt="fetch the blob",
                cause=f"its size is {descriptor.size} bytes, more than {limit}",
                advice="Nothing legitimate is that large; look at it.",
            )
        response = self.send(image, Request(
            "GET", _path(image, "blobs", descriptor.digest), _scope(image, "pull"), f"fetch the blob {where}",
            limit=descriptor.size,
        ))
        check(response.body, descriptor.digest, where=where)
        if len(response.body) != descriptor.size:
            raise FormatError(
                code="digest_mismatch", object=where, attempt="use the blob",
                cause=f"it has {len(response.body)} bytes, its descriptor says {descriptor.size}",
                advice="Whoever wrote the manifest made a mistake, or worse; it does not count.",
            )
        return response.body

    def put_blob(self, image: Reference, data: bytes) -> str:
        """Store a blob unless it is there, and return its digest. Raises RegistryError."""
        digest = digest_of(data)
        exists = self.send(image, Request(
            "HEAD", _path(image, "blobs", digest), _scope(image, "pull,push"), f"look for a blob in {image.name}",
            accepted=(200, 404),
        ))
        if exists.status == 200:
            return digest
        until = time.monotonic() + self.settings.timeout
        for attempt in range(_UPLOAD_ATTEMPTS):
            try:
                self._upload(image, digest, data)
                return digest
            except RegistryError as exc:
                # An upload that broke off cannot be continued: a new one starts over.
                if not exc.is_transient or attempt == _UPLOAD_ATTEMPTS - 1 or time.monotonic() >= until:
                    raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    def put_manifest(self, image: Reference, raw: bytes, *, media_type: str = manifests.OCI_MANIFEST) -> Response:
        """Store a manifest at the digest or tag of C(image). Raises RegistryError."""
        return self.send(image, Request(
            "PUT", _path(image, "manifests", image.target), _scope(image, "pull,push"), f"store the manifest {image}",
            headers={"Content-Type": media_type}, body=raw, accepted=(200, 201, 202),
        ))

    def delete_manifest(self, image: Reference) -> bool:
        """Delete the manifest at a digest; return False where the registry does not allow deletion.

        A manifest that is gone already counts as deleted. Raises RegistryError.
        """
        response = self.send(image, Request(
            "DELETE", _path(image, "manifests", image.target), _scope(image, "pull,push,delete"),
            f"delete the manifest {image}", accepted=(200, 202, 404, 400, 405),
        ))
        return response.status not in (400, 405)

    def send(self, image: Reference, request: Request) -> Response:
        """Send a request to the registry of C(image)."""
        with self._lock:
            if image.host not in self._transports:
                self._transports[image.host] = Transport(image.host, image.api_host, self.settings)
            transport = self._transports[image.host]
        return transport.send(request)

    def _upload(self, image: Reference, digest: str, data: bytes) -> None:
        what = f"upload a blob to {image.name}"
        scope = _scope(image, "pull,push")
        begun = self.send(image, Request(
            "POST", _path(image, "blobs", "uploads") + "/", scope, what, body=b"", accepted=(202,)
        ))
        location = begun.headers.get("location", "")
        if not location:
            raise RegistryError(
                code="registry_error", object=image.name, attempt="upload a blob",
                cause="the registry did not say where to", advice="Check the registry and what stands before it.",
            )
        joiner = "&" if "?" in location else "?"
        self.send(image, Request(
            "PUT", f"{location}{joiner}{urlencode({'digest': digest})}", scope, what,
            headers={"Content-Type": "application/octet-stream"}, body=data, accepted=(200, 201, 202), retried=False,
        ))

    @staticmethod
    def _refuse_html(image: Reference, response: Response) -> None:
        if response.headers.get("content-type", "").startswith("text/html"):
            raise RegistryError(
                code="registry_error", object=str(image), attempt="fetch the manifest",
                cause="the answer is an HTML page, not a manifest",
                advice="Check the host and port: a login page or proxy may stand before the registry.",
            )


def referrers_path(image: Reference, digest: str) -> str:
    """Return the path of the referrers API for a digest."""
    return _path(image, "referrers", digest)


def next_page(response: Response, current: str) -> str | None:
    """Return the location of the next page that a Link header names (RFC 8288), or None."""
    for match in _LINK.finditer(response.headers.get("link", "")):
        if re.search(r';\s*rel\s*=\s*"?next"?\s*(?:;|$)', match["parameters"], re.IGNORECASE):
            # An address that cannot be joined is refused by whoever sends to it.
            with suppress(ValueError):
                return urljoin(current, str(match["target"]))
            return str(match["target"])
    return None


def pull_scope(image: Reference) -> str:
    """Return the token scope for reading the repository of C(image)."""
    return _scope(image, "pull")


def _scope(image: Reference, actions: str) -> str:
    return f"repository:{image.repository}:{actions}"


def _path(image: Reference, kind: str, last: str) -> str:
    return f"/v2/{image.repository}/{kind}/{last}"
