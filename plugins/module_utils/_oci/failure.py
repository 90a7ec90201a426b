# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a registry means when it does not do what it was asked for."""

from __future__ import annotations

import time
import typing as t

from .._errors import RegistryError

if t.TYPE_CHECKING:
    from .transport import Response

_ERROR_LIMIT = 64 * 1024


def unexpected(host: str, attempt: str, response: Response) -> RegistryError:
    """Return the error for a status that no part of the attempt knows what to do with."""
    code = error_code(response)
    detail = f"it answered {response.status}" + (f" {code}" if code else "")
    if response.status == 404:
        return RegistryError(
            code="not_found", object=host, attempt=attempt, cause=detail,
            advice="Check repository, tag and digest, and that this user may see them.",
        )
    if b"HTTP request to an HTTPS server" in response.body:
        detail += ": it speaks HTTPS; set plain_http: false for this host"
    if response.status == 407:
        return RegistryError(
            code="registry_error", object=host, attempt=attempt, cause="the proxy refuses us (407)",
            advice="Check the login in HTTP_PROXY and HTTPS_PROXY.",
        )
    if response.status == 429:
        wait = retry_after(response.headers)
        detail += f" (too many requests; it asks to wait {wait:g} seconds)" if wait else " (too many requests)"
    return RegistryError(
        code="registry_error", object=host, attempt=attempt, cause=detail,
        advice="Check its address, its TLS settings in registries, and its log.",
    )


def error_code(response: Response) -> str:
    """Return the registry's own error code (distribution specification, "Error Codes"), or nothing.

    Only the code is taken: messages of foreign servers are not repeated.
    """
    if b"<html" in response.body[:1024].lower():
        return "with an HTML page"
    head = response.body[:_ERROR_LIMIT]
    for code in _KNOWN_CODES:
        if f'"{code}"'.encode("ascii") in head:
            return code
    return ""


_KNOWN_CODES = (
    "BLOB_UNKNOWN", "BLOB_UPLOAD_INVALID", "BLOB_UPLOAD_UNKNOWN", "DIGEST_INVALID", "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID", "MANIFEST_UNKNOWN", "MANIFEST_UNVERIFIED", "NAME_INVALID", "NAME_UNKNOWN", "SIZE_INVALID",
    "TAG_INVALID", "UNAUTHORIZED", "DENIED", "UNSUPPORTED", "TOOMANYREQUESTS",
)


def retry_after(headers: t.Mapping[str, str]) -> float:
    """Return the seconds a Retry-After header asks for (RFC 9110 section 10.2.3), 0 when there is none."""
    value = headers.get("retry-after", "").strip()
    if (value.isascii() and value.isdigit()):
        return float(value[:6])
    import email.utils

    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def html_page(where: str) -> RegistryError:
    """Return the error for an answer that is meant for people."""
    return RegistryError(
        code="registry_error", object=where, attempt="fetch the manifest",
        cause="the answer is an HTML page, not a manifest",
        advice="Check the host and port: a login page or proxy may stand before the registry.",
    )


def plain_text(exc: Exception) -> str:
    """Return what happened to a connection, in one line of a length that fits into a message."""
    return ascii(str(exc))[1:-1][:200] or type(exc).__name__
