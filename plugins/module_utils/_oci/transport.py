# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""HTTP to registries: pooled connections, login, retries, redirects, limits.

Rules that hold for every request: TLS is never given up, credentials go to the registry and its token
service only, every body has a byte limit, and nothing takes longer than C(timeout) in all.
"""

from __future__ import annotations

import os
import random
import socket
import threading
import time
import typing as t
from dataclasses import dataclass, field

from .._errors import RegistryError
from . import location
from .credentials import AuthFile, Credentials
from .wire import Answer, Deadline, Server

if t.TYPE_CHECKING:
    import ssl

    # Loaded when a registry asks for a login: Ansible compiles what is imported for every task.
    from .login import Login
    from .proxy import Proxy

_RETRIED_STATUS = (429, 500, 502, 503, 504)
_REDIRECTS = (301, 302, 303, 307, 308)
_ATTEMPTS = 5
_MAX_REDIRECTS = 5
_FIRST_DELAY = 0.2
_CHUNK = 64 * 1024
_ERROR_LIMIT = 64 * 1024
_USER_AGENT = "hallmark.signing"
_MAX_SERVERS = 8


@dataclass(frozen=True)
class HostSettings:
    """What the user said about one registry host; None leaves the default."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_path: str | None = None
    validate_certs: bool = True
    plain_http: bool | None = None
    client_cert: str | None = None
    client_key: str | None = None
    mirrors: tuple[str, ...] = ()


@dataclass(frozen=True)
class RegistrySettings:
    """All settings of one run: C(hosts) by HOST[:PORT], C(timeout) in seconds for a request with its retries.

    C(settle_seconds) bounds the time from reading to writing what others write, too; see C(shared_tag). Mirrors are
    read from only with C(uses_mirrors): what is to be written must be read where it is written.
    """

    auth_file: AuthFile
    hosts: t.Mapping[str, HostSettings] = field(default_factory=dict)
    timeout: float = 30.0
    workers: int = 16
    settle_seconds: float = 0.0
    uses_mirrors: bool = False

    def credentials_for(self, host: str) -> Credentials | None:
        """Return who we are to a registry host: as given for it, else as the auth file says, else None."""
        own = self.hosts.get(host, HostSettings())
        if own.username is not None:
            return Credentials(own.username, own.password or "", "registries")
        return self.auth_file.for_host(host)


@dataclass(frozen=True)
class Content:
    """A request body too large for memory: C(size) bytes that C(chunks) yields, once."""

    size: int
    chunks: t.Iterable[bytes] = field(repr=False)


@dataclass(frozen=True)
class Request:
    """One request to a registry: C(location) is a path, or an absolute URL that the registry gave.

    C(scope) is what a token is asked for: one or more, by spaces. With C(streamed), an accepted answer's body is
    not read but left for C(Response.chunks()).
    """

    method: str
    location: str
    scope: str
    attempt: str
    headers: t.Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | Content | None = field(default=None, repr=False)
    limit: int = _ERROR_LIMIT
    accepted: tuple[int, ...] = (200,)
    retried: bool = True
    streamed: bool = False


@dataclass(frozen=True)
class Response:
    """An answer whose body was read whole, within its limit; that of a streamed request has C(chunks) instead."""

    status: int
    headers: t.Mapping[str, str]
    body: bytes = field(repr=False)
    url: str
    chunks: t.Iterator[bytes] = field(default_factory=lambda: iter(()), repr=False, compare=False)


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
        self._origin = location.origin(self._base)
        self._servers: dict[tuple[tuple[str, str, int], Proxy | None], Server] = {}
        self._servers_lock = threading.Lock()
        self._has_proxies = any(name.lower().endswith("_proxy") for name in os.environ)
        self._lock = threading.Lock()
        # Reads the files of this host's settings now, so that wrong ones fail at once.
        self._server_for(f"{self._base}/")
        self._introduced = False
        self._login: Login | None = None

    def send(self, request: Request, *, until: float | None = None) -> Response:
        """Send C(request) and return an answer whose status is in C(request.accepted), before C(until) if given.

        Raises RegistryError: not_found (404), unauthorized (401, 403), limit_exceeded, registry_error.
        """
        deadline = time.monotonic() + self._settings.timeout
        deadline = deadline if until is None else min(deadline, until)
        former: list[RegistryError] = []
        while True:
            try:
                return self._judge(request, self._send_authorised(request, deadline))
            except RegistryError as exc:
                if former and exc.code == "registry_error" and time.monotonic() >= deadline:
                    # It says more than that no time was left to try again, or that a busy machine woke too late.
                    former[-1].is_transient = False
                    raise former[-1] from None
                raise
            except _Transient as exc:
                delay = max(exc.delay, _FIRST_DELAY * 2 ** len(former) * random.uniform(0.5, 1.0))
                former.append(exc.error)
                if request.retried and len(former) < _ATTEMPTS and time.monotonic() + delay < deadline:
                    time.sleep(delay)
                    continue
                raise exc.error from exc.__cause__

    def _send_authorised(self, request: Request, deadline: float) -> Response:
        if not self._introduced:
            # The first request finds out what the registry asks for; the others wait for the answer.
            with self._lock:
                if not self._introduced:
                    response = self._send_once(request, deadline)
                    is_refused = response.status == 401 and self._is_own(response)
                    try:
                        if is_refused:
                            self._learn(response)
                    finally:
                        # Only now: whoever does not wait for the lock must know what was learnt.
                        self._introduced = True
                    if not is_refused:
                        return response
        used = self._login.authorization(request.scope, deadline) if self._login else None
        response = self._send_once(request, deadline, used)
        if response.status != 401 or not self._is_own(response):
            return response
        with self._lock:
            login = self._learn(response, used=used, scope=request.scope)
        if login is None:
            return response
        if isinstance(request.body, Content):
            # What it yielded is gone; whoever sent it asks how much arrived and goes on.
            raise _Transient(self._unexpected(request, response))
        return self._send_once(request, deadline, login.authorization(request.scope, deadline))

    def _learn(self, response: Response, *, used: str | None = None, scope: str = "") -> Login | None:
        """Take down what the registry asks for; return None if what it refused would only be sent again."""
        from .login import Login

        login = self._login or Login(self.host, self._base, self._credentials, self._ask_for_token)
        learnt = login.learn(response.headers.get("www-authenticate", ""), used=used, scope=scope)
        # Kept only now: what cannot be understood raises.
        self._login = login
        return login if learnt else None

    def _is_own(self, response: Response) -> bool:
        # Whoever a redirect points to may ask for a login, too; our credentials are not for them.
        return self._is_at_home(response.url)

    def _is_at_home(self, url: str) -> bool:
        return url.startswith(f"{self._base}/") or location.origin(url) == self._origin

    def _ask_for_token(self, ask: Request, deadline: float) -> Response:
        self._check_target(ask.location, ask)
        response = self._exchange(ask, ask.location, dict(ask.headers), deadline)
        if response.status in _RETRIED_STATUS:
            raise _Transient(self._unexpected(ask, response), self._wait_for(response))
        if response.status not in ask.accepted:
            raise self._error(ask, f"its token service answered {response.status}")
        return response

    def _send_once(self, request: Request, deadline: float, authorised: str | None = None) -> Response:
        url = self._resolve(f"{self._base}/", request.location, request)
        for _hop in range(_MAX_REDIRECTS + 1):
            headers = dict(request.headers)
            if authorised is not None and self._is_at_home(url):
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
        if url.startswith(f"{self._base}/"):
            return
        if location.is_secure(self._base) and not location.is_secure(url):
            raise self._error(request, "it points from HTTPS to plain HTTP")
        host, own = location.origin(url)[1], self._origin[1]
        if host != own and (location.is_link_local(host) or location.is_loopback(host) > location.is_loopback(own)):
            raise self._error(request, f"it points to {host}, which is not on its network")

    def _exchange(self, request: Request, url: str, headers: dict[str, str], deadline: float) -> Response:
        headers.update({"Accept-Encoding": "identity", "User-Agent": _USER_AGENT})
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise self._error(request, f"no answer within {self._settings.timeout:g} seconds")
        body: t.Any = request.body
        until = Deadline(deadline)
        if isinstance(body, Content):
            headers["Content-Length"] = str(body.size)
            # It may take long, as long as it goes on.
            body = until.extended(body.chunks, self._settings.timeout)
        with _COUNT_LOCK:
            self.request_count += 1
        try:
            answer = self._server_for(url).request(request.method, url, headers, body, until)
            return self._read(request, answer, url, until)
        except OSError as exc:
            # Loaded where something failed, or there is TLS anyway.
            from ssl import SSLError

            if isinstance(exc, (SSLError, socket.gaierror)):
                raise self._error(request, self._said(exc)) from exc
            # Who refuses or hangs up has answered, however late we hear of it.
            if time.monotonic() >= until.at and not isinstance(exc, ConnectionError):
                raise self._error(request, f"no whole answer within {self._settings.timeout:g} seconds") from exc
            raise _Transient(self._error(request, self._said(exc))) from exc

    def _read(self, request: Request, answer: Answer, url: str, until: Deadline) -> Response:
        wanted = answer.status in request.accepted
        limit = request.limit if wanted else _ERROR_LIMIT
        body = b""
        try:
            declared = answer.headers.get("content-length", "")
            if wanted and request.method != "HEAD" and _is_number(declared) and int(declared) > limit:
                raise self._too_large(request, limit)
            if answer.headers.get("content-encoding", "identity").lower() not in ("", "identity"):
                raise self._error(request, "it sent a compressed body that was not asked for")
            if wanted and request.streamed:
                return Response(answer.status, answer.headers, b"", url, self._stream(request, answer))
            while len(body) <= limit and (chunk := answer.read(_CHUNK, until)):
                body += chunk
            if wanted and len(body) > limit:
                raise self._too_large(request, limit)
        except BaseException:
            answer.done()
            raise
        # What is left of an error page is not worth reading.
        answer.done()
        return Response(answer.status, answer.headers, body[:limit], url)

    def _stream(self, request: Request, answer: Answer) -> t.Iterator[bytes]:
        """Yield the body; each chunk has C(timeout) to come, so that a server that stalls or trickles is given up."""
        try:
            while chunk := answer.read(_CHUNK, Deadline(time.monotonic() + self._settings.timeout)):
                yield chunk
        except OSError as exc:
            error = self._error(request, self._said(exc))
            error.is_transient = True
            raise error from exc
        finally:
            answer.done()

    def _judge(self, request: Request, response: Response) -> Response:
        if response.status in request.accepted:
            return response
        if response.status in _RETRIED_STATUS:
            raise _Transient(self._unexpected(request, response), self._wait_for(response))
        if response.status in (401, 403):
            raise self._refused(request)
        raise self._unexpected(request, response)

    def _unexpected(self, request: Request, response: Response) -> RegistryError:
        from . import failure

        return failure.unexpected(self.host, request.attempt, response)

    def _refused(self, request: Request) -> RegistryError:
        from . import authorization

        refusal = authorization.no_credentials(self._credentials, where=self.host)
        return RegistryError(
            code="unauthorized", object=self.host, attempt=request.attempt, cause=refusal.cause, advice=refusal.advice
        )

    @staticmethod
    def _wait_for(response: Response) -> float:
        from . import failure

        return failure.retry_after(response.headers)

    @staticmethod
    def _said(exc: Exception) -> str:
        from . import failure

        return failure.plain_text(exc)

    def _too_large(self, request: Request, limit: int) -> RegistryError:
        return RegistryError(
            code="limit_exceeded", object=self.host, attempt=request.attempt,
            cause=f"the answer is larger than {limit} bytes", advice="Look at it.",
        )

    def _error(self, request: Request, cause: str) -> RegistryError:
        return RegistryError(
            code="registry_error", object=self.host, attempt=request.attempt, cause=cause,
            advice="Check its address, its TLS settings in registries, and its log.",
        )

    def _is_plain(self, api_host: str) -> bool:
        if self._own.plain_http is not None:
            return self._own.plain_http
        return self._own.ca_path is None and location.is_loopback(location.origin(f"http://{api_host}")[1])

    def _server_for(self, url: str) -> Server:
        """Return the server of a URL: own CA and client certificate are for the registry itself only."""
        proxy = self._proxy_for(url)
        is_own = self._is_at_home(url)
        origin = self._origin if is_own else location.origin(url)
        with self._servers_lock:
            server = self._servers.get((origin, proxy))
            if server is None:
                if len(self._servers) >= _MAX_SERVERS:
                    # Redirects to ever new hosts: connections to the others are not worth keeping.
                    self._servers.clear()
                server = self._servers[(origin, proxy)] = Server(url, self._context_for(origin[0], is_own), proxy)
        return server

    def _context_for(self, scheme: str, is_own: bool) -> ssl.SSLContext | None:
        own = self._own
        if scheme == "http" and not own.ca_path and not own.client_cert:
            # Reading all CAs of the system takes as long as verifying ten images.
            return None
        from . import tls

        context = tls.context(
            self.host, ca_path=own.ca_path, validate_certs=own.validate_certs, is_own=is_own,
            client_cert=own.client_cert, client_key=own.client_key,
        )
        return context if scheme == "https" else None

    def _proxy_for(self, url: str) -> Proxy | None:
        if not self._has_proxies:
            return None
        from . import proxy

        return proxy.proxy_for(url)


_COUNT_LOCK = threading.Lock()


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()
