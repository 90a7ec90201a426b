# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A proxy before a registry, for tests: it writes down every request, and makes PUTs of manifests slow if asked."""

from __future__ import annotations

import http.client
import random
import threading
import typing as t
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "te", "upgrade"})


class Passed(t.NamedTuple):
    """One request that went through, and how it was answered."""

    method: str
    path: str
    status: int

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.status}"


class CountingProxy:
    """Passes requests on to a registry on plain HTTP until the block ends; host is its own HOST:PORT.

    A PUT of a manifest takes up to C(delay) seconds more, one half before it is passed on, the other after.
    """

    def __init__(self, upstream: str, *, delay: float = 0.0) -> None:
        self.upstream = upstream
        self.delay = delay
        self.log: list[Passed] = []
        self.stopping = threading.Event()
        self._server = _server(self)
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> CountingProxy:
        self._thread.start()
        return self

    def __exit__(self, *_exception: t.Any) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def requests(self, method: str = "", path: str = "") -> list[Passed]:
        """Return what went through whose method is this and whose path contains that."""
        return [one for one in list(self.log) if method in ("", one.method) and path in one.path]


def _server(proxy: CountingProxy) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def _serve(self) -> None:
            wait = proxy.delay / 2 if self.command == "PUT" and "/manifests/" in self.path else 0.0
            body = self._body()
            proxy.stopping.wait(random.uniform(0.0, wait))
            connection = http.client.HTTPConnection(proxy.upstream, timeout=30)
            try:
                # Host stays as it came, so that the registry's locations lead back to here.
                headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
                if self.command in ("PUT", "POST", "PATCH"):
                    headers["Content-Length"] = str(len(body))
                connection.request(self.command, self.path, body=body or None, headers=headers)
                answer = connection.getresponse()
                content = answer.read()
            finally:
                connection.close()
            proxy.log.append(Passed(self.command, self.path, answer.status))
            proxy.stopping.wait(random.uniform(0.0, wait))
            length = answer.headers.get("Content-Length") if self.command == "HEAD" else str(len(content))
            try:
                self.send_response_only(answer.status)
                for name, value in answer.headers.items():
                    if name.lower() not in _HOP:
                        self.send_header(name, value)
                if length is not None and answer.status != 204:
                    self.send_header("Content-Length", length)
                self.end_headers()
                self.wfile.write(content)
                self.wfile.flush()
            except OSError:
                self.close_connection = True

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_PATCH = _serve

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", "0")))
            data = bytearray()
            while size := int(self.rfile.readline().partition(b";")[0], 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return bytes(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False
        request_queue_size = 128

        def handle_error(self, request: t.Any, client_address: t.Any) -> None:
            """A client that hangs up is no error."""

    return Server(("127.0.0.1", 0), Handler)
