# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""HTTP to registries: pooled connections, login, retries, redirects, limits.

Rules that hold for every request: TLS is never given up, credentials go to the registry and its token
service only, every body has a byte limit, and nothing takes longer than C(timeout) in all.
"""

from __future__ import annotations

import email.utils
import random
import re
import ssl
import threading
import time
import typing as t
from dataclasses import dataclass, field

from .._errors import RegistryError
from .._libraries import optional
from . import location
from .credentials import AuthFile, Credentials
from .deadline import pool_manager, until

with optional():
    import urllib3
    from urllib3.exceptions import HTTPError, NameResolutionError, SSLError

if t.TYPE_CHECKING:
    # Loaded when a registry asks for a login: Ansible compiles what is imported for every task.
    from . import authorization

_RETRIED_STATUS = (429, 500, 502, 503, 504)
_REDIRECTS = (301, 302, 303, 307, 308)
_ATTEMPTS = 5
_MAX_REDIRECTS = 5
_FIRST_DELAY = 0.2
_CHUNK = 64 * 1024
_ERROR_LIMIT = 64 * 1024
_USER_AGENT = "hallmark.signing"


@dataclass(frozen=True)
class HostSettings:
    """What the user said about one registry host; None leaves the default."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_path: str | None = None
    validate_certs: bool = True
    plain_http: bool | None = None


@dataclass(frozen=True)
class RegistrySettings:
    """All settings of one run: C(hosts) by HOST[:PORT], C(timeout) in seconds for a request with its retries."""

    auth_file: AuthFile
    hosts: t.Mapping[str, HostSettings] = field(default_factory=dict)
    timeout: float = 30.0
    workers: int = 16

    def credentials_for(self, host: str) -> Credentials | None:
        """Return who we are to a registry host: as given for it, else as the auth file says, else None."""
        own = self.hosts.get(host, HostSettings())
        if own.username is not None:
            return Credentials(own.username, own.password or "", "registries")
        return self.auth_file.for_host(host)


@dataclass(frozen=True)
class Request:
    """One request to a registry: C(location) is a path, or an absolute URL that the registry gave."""

    method: str
    location: str
    scope: str
    attempt: str
    headers: t.Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)
    limit: int = _ERROR_LIMIT
    accepted: tuple[int, ...] = (200,)
    retried: bool = True


@dataclass(frozen=True)
class Response:
    """An answer whose body was read whole, within its limit."""

    status: int
    headers: t.Mapping[str, str]
    body: bytes = field(repr=False)
    url: str


class _Transient(Exception):
    """An attempt failed in a way that may pass; C(delay) is what the registry asked for, in seconds."""

    def __init__(self, error: RegistryError, delay: float = 0.0) -> None:
        super().__init__(str(error))
        error.is_transient = True
        self.error = error
        self.delay = delay


class Transport:
    """Talks to one registry host, from many threads; keep it for the whole run.

    C(request_count) counts everything sent, token requests and redirects included.
    """

    def __init__(self, host: str, api_host: str, settings: RegistrySettings) -> None:
        self.host = host
        self.request_count = 0
        self._settings = settings
        self._own = settings.hosts.get(host, HostSettings())
        self._base = f"{'http' if self._is_plain(api_host) else 'https'}://{api_host}"
        self._credentials = settings.credentials_for(host)
        self._pool = self._make_pool()
        self._lock = threading.Lock()
        self._introduced = False
        self._challenge: authorization.Challenge | None = None
        self._tokens: dict[str, authorization.Token] = {}
        self._scope_locks: dict[str, threading.Lock] = {}

    def send(self, request: Request) -> Response:
        """Send C(request) and return an answer whose status is in C(request.accepted).

        Raises RegistryError: not_found (404), unauthorized (401, 403), limit_exceeded, registry_error.
        """
        deadline = time.monotonic() + self._settings.timeout
        for attempt in range(_ATTEMPTS):
            try:
                response = self._send_authorised(request, deadline)
                return self._judge(request, response)
            except _Transient as exc:
                delay = max(exc.delay, _FIRST_DELAY * 2**attempt * random.uniform(0.5, 1.0))
                last = not request.retried or attempt == _ATTEMPTS - 1
                if last or time.monotonic() + delay >= deadline:
                    raise exc.error from exc.__cause__
                time.sleep(delay)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _send_authorised(self, request: Request, deadline: float) -> Response:
        if not self._introduced:
            # The first request finds out what the registry asks for; the others wait for the answer.
            with self._lock:
                if not self._introduced:
                    response = self._send_once(request, deadline)
                    self._introduced = True
                    if response.status != 401 or not self._is_own(response):
                        return response
                    self._learn(response)
        used = self._authorization(request, deadline)
        response = self._send_once(request, deadline, used)
        if response.status != 401 or not self._is_own(response):
            return response
        with self._lock:
            former = self._challenge
            self._learn(response)
            # A token may have expired or been revoked, a second refusal is final; a password stays the same.
            if used is not None and used.startswith("Basic ") and former == self._challenge:
                return response
            token = self._tokens.get(request.scope)
            if token is not None and f"Bearer {token.value}" == used:
                del self._tokens[request.scope]
        return self._send_once(request, deadline, self._authorization(request, deadline))

    def _learn(self, response: Response) -> None:
        from . import authorization

        header = response.headers.get("www-authenticate", "")
        self._challenge = authorization.read_challenge(header, base=self._base, where=self.host)

    def _is_own(self, response: Response) -> bool:
        # Whoever a redirect points to may ask for a login, too; our credentials are not for them.
        return location.origin(response.url) == location.origin(self._base)

    def _authorization(self, request: Request, deadline: float) -> str | None:
        challenge = self._challenge
        if challenge is None:
            return None
        if challenge.scheme == "basic":
            if self._credentials is None:
                raise self._refused()
            return self._credentials.basic()
        with self._lock:
            scope_lock = self._scope_locks.setdefault(request.scope, threading.Lock())
        with scope_lock:
            token = self._tokens.get(request.scope)
            if token is None or not token.is_fresh:
                token = self._fetch_token(challenge, request.scope, deadline)
                self._tokens[request.scope] = token
        return f"Bearer {token.value}"

    def _fetch_token(self, challenge: authorization.Challenge, scope: str, deadline: float) -> authorization.Token:
        from . import authorization

        headers = {"Authorization": self._credentials.basic()} if self._credentials else {}
        ask = Request("GET", challenge.token_url(scope), scope, "log in to the registry", headers)
        self._check_target(ask.location, ask)
        response = self._exchange(ask, ask.location, dict(headers), deadline)
        if response.status in _RETRIED_STATUS:
            raise _Transient(self._unexpected(ask, response), _retry_after(response.headers))
        if response.status in (400, 401, 403):
            raise self._refused()
        if response.status != 200:
            raise self._error(ask, f"its token service answered {response.status}")
        return authorization.read_token(response.body, where=self.host)

    def _send_once(self, request: Request, deadline: float, authorised: str | None = None) -> Response:
        url = self._resolve(f"{self._base}/", request.location, request)
        for _hop in range(_MAX_REDIRECTS + 1):
            headers = dict(request.headers)
            if authorised is not None and location.origin(url) == location.origin(self._base):
                headers["Authorization"] = authorised
            response = self._exchange(request, url, headers, deadline)
            if response.status not in _REDIRECTS or request.method not in ("GET", "HEAD"):
                return response
            url = self._resolve(url, response.headers.get("location", ""), request)
        raise self._error(request, "it redirected more than five times")

    def _resolve(self, base: str, given: str, request: Request) -> str:
        try:
            url = location.resolve(base, given)
        except ValueError as exc:
            raise self._error(request, str(exc)) from exc
        self._check_target(url, request)
        return url

    def _check_target(self, url: str, request: Request) -> None:
        """Refuse a location that leaves HTTPS, or points from outside into this machine or its neighbours."""
        if location.is_secure(self._base) and not location.is_secure(url):
            raise self._error(request, "it points from HTTPS to plain HTTP")
        host, own = location.origin(url)[1], location.origin(self._base)[1]
        if host != own and (location.is_link_local(host) or location.is_loopback(host) > location.is_loopback(own)):
            raise self._error(request, f"it points to {host}, which is not on its network")

    def _exchange(self, request: Request, url: str, headers: dict[str, str], deadline: float) -> Response:
        headers.update({"Accept-Encoding": "identity", "User-Agent": _USER_AGENT})
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise self._error(request, f"no answer within {self._settings.timeout:g} seconds")
        with _COUNT_LOCK:
            self.request_count += 1
        try:
            with until(deadline):
                answer = self._pool.request(
                    request.method, url, body=request.body, headers=headers, redirect=False, retries=False,
                    preload_content=False, decode_content=False,
                    timeout=urllib3.Timeout(connect=remaining, read=remaining),
                )
                return self._read(request, answer, url)
        except (SSLError, NameResolutionError) as exc:
            raise self._error(request, _plain_text(exc)) from exc
        except (HTTPError, TimeoutError) as exc:
            if time.monotonic() >= deadline:
                raise self._error(request, f"no whole answer within {self._settings.timeout:g} seconds") from exc
            raise _Transient(self._error(request, _plain_text(exc))) from exc

    def _read(self, request: Request, answer: urllib3.BaseHTTPResponse, url: str) -> Response:
        wanted = answer.status in request.accepted
        limit = request.limit if wanted else _ERROR_LIMIT
        body = bytearray()
        try:
            declared = answer.headers.get("Content-Length", "")
            if wanted and request.method != "HEAD" and _is_number(declared) and int(declared) > limit:
                raise self._too_large(request, limit)
            if answer.headers.get("Content-Encoding", "identity").lower() not in ("", "identity"):
                raise self._error(request, "it sent a compressed body that was not asked for")
            while len(body) <= limit and (chunk := answer.read(_CHUNK)):
                body += chunk
            if wanted and len(body) > limit:
                raise self._too_large(request, limit)
        except BaseException:
            answer.close()
            raise
        if len(body) > limit:
            # The rest of an error page is not worth reading.
            answer.close()
        answer.release_conn()
        headers = {name.lower(): answer.headers[name] for name in answer.headers}
        return Response(answer.status, headers, bytes(body[:limit]), url)

    def _judge(self, request: Request, response: Response) -> Response:
        if response.status in request.accepted:
            return response
        if response.status in _RETRIED_STATUS:
            raise _Transient(self._unexpected(request, response), _retry_after(response.headers))
        if response.status in (401, 403):
            raise self._refused(request)
        raise self._unexpected(request, response)

    def _unexpected(self, request: Request, response: Response) -> RegistryError:
        code = error_code(response)
        detail = f"it answered {response.status}" + (f" {code}" if code else "")
        if response.status == 404:
            return RegistryError(
                code="not_found", object=self.host, attempt=request.attempt, cause=detail,
                advice="Check repository, tag and digest, and that this user may see them.",
            )
        if b"HTTP request to an HTTPS server" in response.body:
            detail += ": it speaks HTTPS; set plain_http: false for this host"
        if response.status == 429:
            wait = _retry_after(response.headers)
            detail += f" (too many requests; it asks to wait {wait:g} seconds)" if wait else " (too many requests)"
        return self._error(request, detail)

    def _refused(self, request: Request | None = None) -> RegistryError:
        from . import authorization

        refusal = authorization.no_credentials(
            self._credentials, names_helpers=self._settings.auth_file.names_helpers, where=self.host
        )
        if request is None:
            return refusal
        return RegistryError(
            code="unauthorized", object=self.host, attempt=request.attempt, cause=refusal.cause, advice=refusal.advice
        )

    def _too_large(self, request: Request, limit: int) -> RegistryError:
        return RegistryError(
            code="limit_exceeded", object=self.host, attempt=request.attempt,
            cause=f"the answer is larger than {limit} bytes", advice="Nothing legitimate is that large; look at it.",
        )

    def _error(self, request: Request, cause: str) -> RegistryError:
        return RegistryError(
            code="registry_error", object=self.host, attempt=request.attempt, cause=cause,
            advice="Check the registry's address, its TLS settings in registries, and its log.",
        )

    def _is_plain(self, api_host: str) -> bool:
        if self._own.plain_http is not None:
            return self._own.plain_http
        return self._own.ca_path is None and location.is_loopback(location.origin(f"http://{api_host}")[1])

    def _make_pool(self) -> urllib3.PoolManager:
        try:
            context = ssl.create_default_context(cafile=self._own.ca_path)
        except OSError as exc:
            raise RegistryError(
                code="not_found", object=str(self._own.ca_path), attempt=f"read the CA for {self.host}",
                cause=exc.strerror or type(exc).__name__, advice="Give registries[].ca_path as a PEM file.",
            ) from exc
        options: dict[str, t.Any] = {}
        if not self._own.validate_certs:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            options = {"cert_reqs": "CERT_NONE", "assert_hostname": False}
        return pool_manager(
            num_pools=8, maxsize=self._settings.workers, block=False, ssl_context=context, **options
        )


_COUNT_LOCK = threading.Lock()


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


def _retry_after(headers: t.Mapping[str, str]) -> float:
    """Return the seconds a Retry-After header asks for (RFC 9110 section 10.2.3), 0 when there is none."""
    value = headers.get("retry-after", "").strip()
    if _is_number(value):
        return float(value[:6])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _plain_text(exc: Exception) -> str:
    """Return what happened without object addresses and pool names."""
    text = re.sub(r"^(?:<[^>]*>|HTTPS?Connection(?:Pool)?\([^)]*\)): ", "", str(exc))
    return text or type(exc).__name__
