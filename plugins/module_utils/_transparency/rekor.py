# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Asking a transparency log: the API of Rekor v1.

Source: Rekor's C(openapi.yaml). What a log answers is hostile until C(proof.verify()) has seen it.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import replace

from .. import _base64, _strict_json
from .._errors import FormatError, RegistryError
from .._oci.credentials import AuthFile
from .._oci.transport import HostSettings, RegistrySettings, Request, Transport
from . import entry as entries
from .entry import LogEntry

if t.TYPE_CHECKING:
    from .._reason_codes import ReasonCode

_LIMIT = 4 * 1024 * 1024
_MAX_FOUND = 1000
_ENTRIES = "/api/v1/log/entries"
_UUID = re.compile(r"[0-9a-f]{64}|[0-9a-f]{80}")
_URL = re.compile(r"(https?)://([^/?#@\\\s]+)(/[^?#\s]*)?")


class Url(t.NamedTuple):
    """The parts of a URL: HOST[:PORT], a path without its last slash, and whether it is plain HTTP."""

    host: str
    path: str
    is_plain: bool


def parse_url(url: str, *, option: str) -> Url:
    """Return the parts of a URL. Raises FormatError (input_invalid)."""
    parts = _URL.fullmatch(url)
    if parts is None:
        raise FormatError(
            code="input_invalid", object=option, attempt="use it as an address",
            cause=f"{url[:200]!r} is no URL of the form https://HOST[:PORT][/PATH]", advice="Mend it.",
        )
    return Url(parts[2], (parts[3] or "").rstrip("/"), parts[1] == "http")


class Log:
    """One log, by its URL; keep it for the whole run. C(settings) say what TLS files and timeout its host has."""

    def __init__(self, url: str, settings: RegistrySettings) -> None:
        self.url = url
        parts = parse_url(url, option="rekor_url")
        self.host = parts.host
        self._path = parts.path
        self._transport = transport_to(parts.host, settings, plain_http=parts.is_plain)

    def add(self, proposed: bytes) -> LogEntry:
        """Store an entry, or find it there; return it. Raises RegistryError (service_unavailable), FormatError."""
        response = self._send(
            "POST", _ENTRIES, "store the signature in the log", body=proposed, accepted=(201, 400, 409)
        )
        if response.status == 409:
            # The log names what it has already by a path of its own, of which only the last part is used.
            return self.by_uuid(response.headers.get("location", "").rpartition("/")[2])
        if response.status == 400:
            raise RegistryError(
                code="service_unavailable", object=self.host, attempt="store the signature in the log",
                cause="it refuses the entry (400)",
                advice="Use a P-256 or RSA key without signature_algorithm, or ask whoever runs the log what it takes.",
            )
        return self._only(response.body)

    def by_uuid(self, uuid: str) -> LogEntry:
        """Return the entry of a UUID, 64 or 80 hexadecimal digits."""
        if not _UUID.fullmatch(uuid):
            raise self._failed("read an entry", f"{uuid[:100]!r} is no UUID of an entry")
        return self._only(self._send("GET", f"{_ENTRIES}/{uuid}", "read an entry").body)

    def by_index(self, index: int) -> LogEntry:
        """Return the entry of a global index."""
        return self._only(self._send("GET", f"{_ENTRIES}?logIndex={index}", "read an entry").body)

    def search(self, query: t.Mapping[str, t.Any]) -> tuple[str, ...]:
        """Return the UUIDs that the log's index has for a query; nothing vouches for them."""
        response = self._send(
            "POST", "/api/v1/index/retrieve", "search its index",
            body=_strict_json.dumps(dict(query), escape_html=False),
        )
        top = _strict_json.loads(b'{"uuids":' + response.body + b"}", what="answer", where=self.host)
        found = top.only("uuids").members["uuids"]
        if not isinstance(found, list) or not all(isinstance(one, str) and _UUID.fullmatch(one) for one in found):
            raise self._failed("search its index", "its answer is no list of UUIDs")
        if len(found) > _MAX_FOUND:
            raise self._failed("search its index", f"it has more than {_MAX_FOUND} entries", code="limit_exceeded")
        return tuple(found)

    def _only(self, body: bytes) -> LogEntry:
        found = _of(_strict_json.loads(body, what="answer", where=self.host))
        if len(found) != 1:
            raise self._failed("read an entry", f"its answer has {len(found)} entries, not one")
        return found[0]

    def _send(
        self, method: str, path: str, attempt: str, *, body: bytes | None = None, accepted: tuple[int, ...] = (200,)
    ) -> t.Any:
        headers = {"Accept": "application/json", **({"Content-Type": "application/json"} if body else {})}
        try:
            return self._transport.send(Request(
                method, f"{self._path}{path}", "", attempt, headers, body, limit=_LIMIT, accepted=accepted
            ))
        except RegistryError as exc:
            raise unavailable(exc) from exc

    def _failed(self, attempt: str, cause: str, *, code: ReasonCode = "service_unavailable") -> RegistryError:
        return RegistryError(
            code=code, object=self.host, attempt=attempt, cause=cause, advice="Ask whoever runs the log."
        )


def transport_to(host: str, settings: RegistrySettings, *, plain_http: bool) -> Transport:
    """Return a connection to a log or a timestamp authority; credentials of registries are never sent there."""
    own = settings.hosts.get(host, HostSettings())
    return Transport(host, host, replace(
        settings, auth_file=AuthFile("no file", {}),
        hosts={host: replace(own, username=None, password=None, plain_http=plain_http, mirrors=())},
        uses_mirrors=False,
    ))


def unavailable(error: RegistryError) -> RegistryError:
    """Return the same failure, said of a service that is no registry."""
    code = error.code if error.code in ("limit_exceeded", "unauthorized", "not_found") else "service_unavailable"
    return RegistryError(
        code=code, object=error.object, attempt=error.attempt, cause=error.cause,
        advice="Check its address, its TLS settings in registries, and that it is up.",
    )


def _of(answer: _strict_json.JsonObject) -> list[LogEntry]:
    return [entries.from_response(answer.object(uuid)) for uuid in answer.members]


def hash_query(digest: str) -> dict[str, t.Any]:
    """Return the query for entries about a digest, C(sha256:HEX)."""
    return {"hash": digest}


def key_query(pem: bytes) -> dict[str, t.Any]:
    """Return the query for entries about a public key or a certificate."""
    return {"publicKey": {"format": "x509", "content": _base64.encode(pem)}}


def email_query(address: str) -> dict[str, t.Any]:
    """Return the query for entries about certificates for an e-mail address."""
    return {"email": address}
