# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Connections through a proxy: a tunnel by CONNECT (RFC 9110 section 9.3.6) for HTTPS, the proxy itself for HTTP."""

from __future__ import annotations

import socket
import ssl
import typing as t

from . import location
from .proxy import Proxy
from .wire import Answer, Connection, Deadline, HttpError, connect, secured

_RECEIVED = 64 * 1024


def reach(
    proxy: Proxy, host: str, port: int, context: ssl.SSLContext | None, deadline: Deadline
) -> Connection:
    """Return a connection to a server behind a proxy, with TLS if C(context) is given. Raises OSError."""
    _scheme, name, its_port = location.origin(proxy.url)
    connection = connect(name, its_port, deadline)
    if location.is_secure(proxy.url):
        connection = secured(connection, name, ssl.create_default_context(), deadline)
    if context is None:
        return connection
    try:
        _open(connection, proxy, f"{host}:{port}" if ":" not in host else f"[{host}]:{port}", deadline)
        if not isinstance(connection.sock, ssl.SSLSocket):
            return secured(connection, host, context, deadline)
        inner = _Inner(connection.sock, host, context)
        inner.settimeout(deadline.remaining())
        inner.handshake()
        return Connection(t.cast(socket.socket, inner))
    except BaseException:
        connection.close()
        raise


def _open(connection: Connection, proxy: Proxy, authority: str, deadline: Deadline) -> None:
    fields = {"Host": authority, **proxy.headers()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    connection.deadline = deadline
    connection.send(f"CONNECT {authority} HTTP/1.1\r\n{lines}\r\n".encode("latin-1"))
    status = Answer(connection, "CONNECT", None).status
    if not 200 <= status < 300:
        raise HttpError(f"the proxy opens no tunnel: it answered {status}")


class _Inner:
    """TLS inside of TLS, as far as C(Connection) needs a socket."""

    def __init__(self, outer: ssl.SSLSocket, host: str, context: ssl.SSLContext) -> None:
        self._outer = outer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host.rstrip("."))
        self.settimeout, self.fileno, self.close = outer.settimeout, outer.fileno, outer.close

    def handshake(self) -> None:
        self._through(self._tls.do_handshake)

    def sendall(self, data: bytes) -> None:
        self._through(lambda: self._tls.write(data))

    def recv_into(self, buffer: t.Any) -> int:
        try:
            data = t.cast(bytes, self._through(lambda: self._tls.read(len(buffer))))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return 0
        buffer[:len(data)] = data
        return len(data)

    def _through(self, step: t.Callable[[], t.Any]) -> t.Any:
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                self._flush()
            else:
                self._flush()
                return result
            data = self._outer.recv(_RECEIVED)
            if data:
                self._incoming.write(data)
            else:
                self._incoming.write_eof()

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data:
            self._outer.sendall(data)
