# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""HTTP/1.1 to registries and logs, by the standard library: kept connections, and every byte before a deadline.

The timeout of a socket starts anew with each byte: a server that sends one byte a second is never too slow for it.
Here each wait is given only what is left until a deadline. Whatever could be read in two ways is an error, and its
connection is not used again.
"""

from __future__ import annotations

import http.client
import io
import re
import select
import socket
import time
import typing as t
from urllib.parse import urlsplit

if t.TYPE_CHECKING:
    import ssl

    from .proxy import Proxy

# Beginning an upload twice is no harm, nor is a search.
_REPEATABLE = ("GET", "HEAD", "POST")
_LENGTH = re.compile(r"[0-9]{1,18}")
_CHUNK_LENGTH = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?\r?\n")


class HttpError(OSError):
    """An exchange went wrong, and another may go well; the text holds nothing that a server sent."""


class Disconnected(HttpError):
    """The connection was closed before any of the answer came."""


class Deadline:
    """When something must be over, in monotonic seconds."""

    def __init__(self, at: float) -> None:
        self.at = at

    def remaining(self) -> float:
        """Return the seconds that are left. Raises TimeoutError."""
        seconds = self.at - time.monotonic()
        if seconds <= 0:
            raise TimeoutError("the time is up")
        return seconds

    def extended(self, chunks: t.Iterable[bytes], seconds: float) -> t.Iterator[bytes]:
        """Yield chunks that are to be sent; with each of them the time begins anew."""
        for chunk in chunks:
            self.at = time.monotonic() + seconds
            yield chunk
        self.at = time.monotonic() + seconds


class Connection:
    """One connection; what is read from it is read before C(deadline)."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.deadline = Deadline(0)
        # Whether more came than was asked for.
        self.has_surplus = False
        self.has_ended = False

    @property
    def is_quiet(self) -> bool:
        """Whether nothing was sent that was not asked for, not even the end."""
        if self.sock.fileno() < 0 or self.has_surplus:
            return False
        waiting = select.poll()
        waiting.register(self.sock, select.POLLIN)
        return not waiting.poll(0)

    def send(self, data: bytes) -> None:
        """Send all of C(data)."""
        self.sock.settimeout(self.deadline.remaining())
        self.sock.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return what C(http.client) reads an answer from; closing it leaves the connection open."""
        return _Buffer(_Reader(self))

    def close(self) -> None:
        """Close it."""
        self.sock.close()


class _Reader(io.RawIOBase):
    """Reads a connection for the time of one answer."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self.connection = connection
        self.is_over = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: t.Any) -> int:
        connection = self.connection
        if self.is_over:
            return 0
        connection.sock.settimeout(connection.deadline.remaining())
        count = connection.sock.recv_into(buffer)
        connection.has_ended = count == 0
        return count


class _Buffer(io.BufferedReader):
    """Buffers what was read; at the end of an answer nothing may be left in it.

    C(http.client) takes whatever C(int()) takes for the length of a chunk, and reads all that comes for one below 0.
    """

    # Whether the next line is the length of a chunk.
    is_chunked = False

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(size)
        if b"\r" in line.rstrip(b"\n").removesuffix(b"\r"):
            # The parser of headers takes it for the end of a line, and others do not.
            raise HttpError("its header is malformed")
        if self.is_chunked and line:
            length = _CHUNK_LENGTH.fullmatch(line)
            if length is None:
                raise HttpError("the length it says of a chunk is none")
            self.is_chunked = int(length[1], 16) > 0
        return line

    def close(self) -> None:
        if not self.closed:
            reader = t.cast(_Reader, self.raw)
            reader.is_over = True
            reader.connection.has_surplus = bool(self.peek(1))
        super().close()


class Answer:
    """Status and headers of an answer, and its body, which is still on its way: C(read()) it, then C(done()).

    Names of headers are in lower case; the values of equal names are joined by commas (RFC 9110 section 5.3).
    """

    def __init__(self, connection: Connection, method: str, kept: list[Connection] | None) -> None:
        # Where the connection goes when all was read; None if it cannot be used again.
        self._kept = kept
        self._connection = connection
        self._response = http.client.HTTPResponse(t.cast(t.Any, connection), method=method)
        try:
            self._response.begin()
        except http.client.RemoteDisconnected:
            raise Disconnected("it closed the connection before it answered") from None
        except (http.client.HTTPException, ValueError) as exc:
            # Raised without its cause, which repeats what the server sent.
            raise HttpError(_words(exc)) from None
        if connection.has_ended:
            # http.client takes the end for that of the header: what it has of it may be half a line.
            raise HttpError("it closed the connection in the middle of an answer")
        self.status = self._response.status
        self.headers: dict[str, str] = {}
        for name, value in self._response.headers.items():
            known = self.headers.get(name.lower())
            self.headers[name.lower()] = value.strip() if known is None else f"{known}, {value.strip()}"
        self._check_framing()

    def _check_framing(self) -> None:
        """Refuse an answer whose end could be read in two ways (RFC 9112 section 6.3)."""
        coding, length = self.headers.get("transfer-encoding"), self.headers.get("content-length")
        if self.status < 200:
            raise HttpError("it never comes to an answer")
        if self._response.headers.defects or any("\n" in value for value in self.headers.values()):
            raise HttpError("its header is malformed")
        # Those have no body, and http.client would wait for one.
        if coding is not None and (coding.lower() != "chunked" or self.status in (204, 304)):
            raise HttpError("it sent the body in a transfer coding that was not asked for")
        if coding is None and length is not None and not _LENGTH.fullmatch(length):
            raise HttpError("the length it says of the body is none")
        if coding is not None and not self._response.isclosed():
            t.cast(_Buffer, self._response.fp).is_chunked = True
        if self._response.will_close or (coding is not None and length is not None):
            self._kept = None

    def read(self, size: int, deadline: Deadline) -> bytes:
        """Return at most C(size) bytes of the body, nothing at its end."""
        self._connection.deadline = deadline
        try:
            data = self._response.read(size)
        except (http.client.HTTPException, ValueError) as exc:
            self._kept = None
            raise HttpError(_words(exc)) from None
        if not data and size and self._response.length:
            self._kept = None
            raise HttpError("it closed the connection in the middle of an answer")
        return data

    def done(self) -> None:
        """Keep the connection if the whole answer was read, else close it."""
        kept, self._kept = self._kept, None
        if self._response.isclosed() and kept is not None:
            kept.append(self._connection)
        else:
            self._connection.close()


def _words(error: Exception) -> str:
    if isinstance(error, http.client.IncompleteRead):
        return "it closed the connection in the middle of an answer"
    return "what answers there is no HTTP"


class Server:
    """One server, directly or through a proxy, and the connections to it that are kept; safe to use from threads."""

    def __init__(self, url: str, context: ssl.SSLContext | None, proxy: Proxy | None = None) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._port = parts.port or (80 if context is None else 443)
        self._context = context
        self._proxy = proxy
        self._kept: list[Connection] = []
        # Whether it closes kept connections unannounced; what must not be sent twice goes over new ones then.
        self._closes_kept = False

    def request(
        self, method: str, url: str, headers: t.Mapping[str, str], body: bytes | t.Iterable[bytes] | None,
        deadline: Deadline,
    ) -> Answer:
        """Send a request for a plain URL of this server and read the answer as far as its body.

        Raises OSError; C(HttpError) is one.
        """
        _scheme, authority, target = _parts(url)
        fields = {"Host": authority, **headers}
        if self._proxy is not None and self._context is None:
            target = url.partition("#")[0]
            fields.update(self._proxy.headers())
        if isinstance(body, bytes) or (body is None and method in ("POST", "PUT", "PATCH")):
            fields["Content-Length"] = str(len(body or b""))
        if any("\r" in value or "\n" in value for value in fields.values()):
            raise ValueError("a header has more than one line")
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        head = f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1")
        # What is new for each write must not be kept either, or they would be more and more.
        pool = None if self._closes_kept and method not in _REPEATABLE else self._kept
        kept = _take_quiet(pool)
        connection = kept or self._connect(deadline)
        connection.deadline = deadline
        try:
            try:
                return _exchange(connection, method, head, body, pool)
            except (Disconnected, ConnectionError):
                # A server may close what it kept at the very moment when that is used again. What writes may have been
                # carried out all the same: whoever writes knows how to go on.
                if kept is None:
                    raise
                self._closes_kept = True
                if method not in _REPEATABLE:
                    raise
            connection.close()
            connection = self._connect(deadline)
            connection.deadline = deadline
            return _exchange(connection, method, head, body, pool)
        except BaseException:
            connection.close()
            raise

    def _connect(self, deadline: Deadline) -> Connection:
        if self._proxy is not None:
            from . import tunnel

            return tunnel.reach(self._proxy, self._host, self._port, self._context, deadline)
        connection = connect(self._host, self._port, deadline)
        return connection if self._context is None else secured(connection, self._host, self._context, deadline)


def _exchange(
    connection: Connection, method: str, head: bytes, body: bytes | t.Iterable[bytes] | None,
    pool: list[Connection] | None,
) -> Answer:
    try:
        if body is None or isinstance(body, bytes):
            connection.send(head + (body or b""))
        else:
            connection.send(head)
            for chunk in body:
                connection.send(chunk)
    except BrokenPipeError:
        # It may have said why before it closed.
        pool = None
    return Answer(connection, method, pool)


def _take_quiet(pool: list[Connection] | None) -> Connection | None:
    while pool:
        try:
            connection = pool.pop()
        except IndexError:
            return None
        if connection.is_quiet:
            return connection
        connection.close()
    return None


def connect(host: str, port: int, deadline: Deadline) -> Connection:
    """Connect to a host. Raises OSError."""
    # Text would be put through the rules of international names, whose tables take long to import.
    name = host.encode("ascii") if host.isascii() else host
    sock = socket.create_connection((name, port), timeout=deadline.remaining())  # type: ignore[arg-type]
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return Connection(sock)


def secured(connection: Connection, host: str, context: ssl.SSLContext, deadline: Deadline) -> Connection:
    """Return the connection with TLS on it. Raises OSError."""
    try:
        connection.sock.settimeout(deadline.remaining())
        return Connection(context.wrap_socket(connection.sock, server_hostname=host.rstrip(".")))
    except BaseException:
        connection.close()
        raise


def _parts(url: str) -> tuple[str, str, str]:
    """Return scheme, authority and request target of a plain URL."""
    scheme, _separator, rest = url.partition("#")[0].partition("://")
    end = min((at for at in (rest.find("/"), rest.find("?")) if at >= 0), default=len(rest))
    target = rest[end:]
    return scheme, rest[:end], target if target.startswith("/") else f"/{target}"
