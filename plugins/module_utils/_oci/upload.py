# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Uploads to a registry (OCI distribution specification 1.1, "Pushing Blobs"): whole, in parts, or mounted."""

from __future__ import annotations

import re
import time
import typing as t
from contextlib import suppress
from urllib.parse import urlencode

from .._errors import RegistryError
from .digest import digest_of
from .manifest import EMPTY_OBJECT
from .reference import Reference
from .registry import Registries, manifest_path, pull_scope, push_scope, uploads_path
from .transport import Content, Request

_ATTEMPTS = 3
_REFUSALS = 4
_BYTES = {"Content-Type": "application/octet-stream"}


def put(
    registries: Registries, image: Reference, data: bytes, *, algorithm: str = "sha256", is_new: bool = False
) -> str:
    """Store a blob unless it is there, and return its digest. Raises RegistryError.

    What cannot be there yet (C(is_new)) is stored without asking. All else is asked for, however small: storing it once
    more would disturb others who refer to it at this moment. The empty object, which all bundles share, is asked for
    until a repository once had it: a registry that has lost it since refuses what refers to it.
    """
    digest = digest_of(data, algorithm=algorithm)
    where = f"{image.name}@{digest}"
    if where in registries.empty_objects:
        return digest
    if is_new or not registries.has_digest(image, digest):
        send_whole(registries, image, data, digest)
    elif data == EMPTY_OBJECT:
        registries.empty_objects.add(where)
    return digest


def send_whole(registries: Registries, image: Reference, data: bytes, digest: str) -> None:
    """Store a blob in one piece, there already or not. Raises RegistryError."""
    until = time.monotonic() + registries.settings.timeout
    for attempt in range(_ATTEMPTS):
        try:
            finish(registries, image, begin(registries, image), digest, data)
            return
        except RegistryError as exc:
            # An upload that broke off is small: a new one starts over.
            if not exc.is_transient or attempt == _ATTEMPTS - 1 or time.monotonic() >= until:
                raise


def mount(registries: Registries, image: Reference, digest: str, source: Reference) -> str | None:
    """Have the registry take a blob over from another of its repositories.

    Returns None if it did, else the location of the upload that it began instead. Raises RegistryError.
    """
    query = urlencode({"mount": digest, "from": source.repository})
    return _location(registries, image, Request(
        "POST", f"{uploads_path(image)}?{query}", f"{push_scope(image)} {pull_scope(source)}",
        f"mount a blob in {image.name}", body=b"", accepted=(201, 202),
    ))


def begin(registries: Registries, image: Reference) -> str:
    """Begin an upload and return its location. Raises RegistryError."""
    return t.cast(str, _location(registries, image, Request(
        "POST", uploads_path(image), push_scope(image), f"upload a blob to {image.name}", body=b"", accepted=(202,),
    )))


def _location(registries: Registries, image: Reference, request: Request) -> str | None:
    response = registries.send(image, request)
    if response.status == 201:
        return None
    location = response.headers.get("location", "")
    if not location:
        raise RegistryError(
            code="registry_error", object=image.name, attempt=request.attempt,
            cause="the registry did not say where to", advice="Check the registry and what stands before it.",
        )
    return location


def send(
    registries: Registries, image: Reference, location: str, content: Content, *, offset: int, total: int
) -> str:
    """Send the bytes of a blob from C(offset) on to an upload; return its new location. Raises RegistryError."""
    headers = {**_BYTES, "Content-Range": f"{offset}-{total - 1}"} if offset else _BYTES
    response = registries.send(image, Request(
        "PATCH", location, push_scope(image), f"upload a blob to {image.name}", headers=headers, body=content,
        accepted=(202, 204, 201), retried=False,
    ))
    return response.headers.get("location", "") or location


def offset_of(registries: Registries, image: Reference, location: str) -> tuple[str, int]:
    """Return the location of an upload and how many bytes of it the registry has. Raises RegistryError."""
    response = registries.send(image, Request(
        "GET", location, push_scope(image), f"ask for an upload to {image.name}", accepted=(204, 202),
    ))
    last = re.fullmatch(r"(?:bytes=)?0-([0-9]{1,18})", response.headers.get("range", ""))
    # Registries of the distribution project say 0-0 for nothing at all.
    offset = int(last[1]) + 1 if last and last[1] != "0" else 0
    return response.headers.get("location", "") or location, offset


def finish(registries: Registries, image: Reference, location: str, digest: str, data: bytes = b"") -> None:
    """End an upload with its last bytes. Raises RegistryError, also if the registry finds another digest."""
    joiner = "&" if "?" in location else "?"
    registries.send(image, Request(
        "PUT", f"{location}{joiner}{urlencode({'digest': digest})}", push_scope(image),
        f"upload a blob to {image.name}", headers=_BYTES, body=data, accepted=(200, 201, 202), retried=False,
    ))


def cancel(registries: Registries, image: Reference, location: str) -> None:
    """Give up an upload; a registry that does not want to know is left alone."""
    with suppress(RegistryError):
        registries.send(image, Request(
            "DELETE", location, push_scope(image), f"give up an upload to {image.name}",
            accepted=(200, 202, 204, 404, 405), retried=False,
        ))


def put_manifest(
    registries: Registries, image: Reference, raw: bytes, *, media_type: str, until: float | None
) -> str | None:
    """Store a manifest, and return the subject that the registry says it recorded. Raises RegistryError."""
    request = Request(
        "PUT", manifest_path(image), push_scope(image), f"store the manifest {image}",
        headers={"Content-Type": media_type}, body=raw, accepted=(200, 201, 202),
    )
    for attempt in range(_REFUSALS):
        try:
            return registries.send(image, request, until=until).headers.get("oci-subject")
        except RegistryError as exc:
            # The distribution project's registry says so, too, when it meets the link of a blob that another upload
            # of the same blob is writing anew.
            if attempt == _REFUSALS - 1 or "DIGEST_INVALID" not in exc.cause:
                raise
            time.sleep(0.05 * 2**attempt)
    raise AssertionError("unreachable: the last attempt returns or raises")
