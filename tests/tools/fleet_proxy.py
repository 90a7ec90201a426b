# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A forward proxy for hosts of the fleet that install packages.

An engine that ./dev starts itself changes no firewall, so that its containers reach this machine and nothing else.
"""

from __future__ import annotations

import contextlib
import http.client
import select
import shutil
import socket
import threading
import typing as t
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PATIENCE = 60.0
_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-connection", "proxy-authorization", "te", "transfer-encoding"}
)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = PATIENCE

    def do_GET(self) -> None:
        """Fetch what a client of plain HTTP, such as apt, wants."""
        target = urllib.parse.urlsplit(self.path)
        if target.scheme != "http" or not target.hostname:
            self.send_error(400, "wants an absolute http URL")
            return
        path = urllib.parse.urlunsplit(("", "", target.path or "/", target.query, ""))
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
        with contextlib.closing(http.client.HTTPConnection(target.hostname, target.port, timeout=PATIENCE)) as upstream:
            try:
                upstream.request(self.command, path, headers=headers)
                answer = upstream.getresponse()
            except OSError as exc:
                self.send_error(502, str(exc))
                return
            self._pass_on(answer)

    do_HEAD = do_GET

    def _pass_on(self, answer: http.client.HTTPResponse) -> None:
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        # What comes in pieces of unknown number ends with the connection.
        if answer.length is None and self.command != "HEAD" and answer.status not in (204, 304):
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        shutil.copyfileobj(answer, self.wfile)

    def do_CONNECT(self) -> None:
        """Pass bytes on in both directions, for TLS."""
        self.close_connection = True
        host, _colon, port = self.path.rpartition(":")
        try:
            upstream = socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE)
        except (OSError, ValueError) as exc:
            self.send_error(502, str(exc))
            return
        with upstream:
            self.send_response_only(200)
            self.end_headers()
            _relay(self.connection, upstream)

    def log_message(self, format: str, *args: t.Any) -> None:
        """Say nothing."""


def _relay(one: socket.socket, other: socket.socket) -> None:
    partner = {one: other, other: one}
    while True:
        ready = select.select(list(partner), [], [], PATIENCE)[0]
        if not ready:
            return
        for source in ready:
            with contextlib.suppress(OSError):
                if data := source.recv(65536):
                    partner[source].sendall(data)
                    continue
            return


@contextlib.contextmanager
def serve(address: str) -> t.Iterator[str]:
    """Serve on a free port of the address until the end of the block; yields the URL."""
    server = ThreadingHTTPServer((address, 0), _Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{address}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
