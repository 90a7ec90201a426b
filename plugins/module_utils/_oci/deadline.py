# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A bound on the time of a whole HTTP exchange, however slowly its bytes trickle in.

The timeout of a socket starts anew with each byte: a server that sends one byte a second is never too slow
for it. Here each read is given only what is left until a deadline, status line and headers included.
"""

from __future__ import annotations

import http.client
import io
import socket
import threading
import time
import typing as t

from .._libraries import optional

with optional():
    import urllib3
    from urllib3.connection import HTTPConnection, HTTPSConnection
    from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

_CURRENT = threading.local()


class Bound:
    """Bounds all reading from pools of C(pool_manager()) in this thread by C(deadline), in monotonic seconds.

    One inside of another, for a source that is read while a destination is written, counts alone while it is held.
    """

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self._former: Bound | None = None

    def __enter__(self) -> Bound:
        self._former = getattr(_CURRENT, "bound", None)
        _CURRENT.bound = self
        return self

    def __exit__(self, *_exception: object) -> None:
        _CURRENT.bound = self._former

    def extended(self, chunks: t.Iterable[bytes], seconds: float) -> t.Iterator[bytes]:
        """Yield chunks that are to be sent; with each of them the time begins anew."""
        for chunk in chunks:
            self.deadline = time.monotonic() + seconds
            yield chunk
        self.deadline = time.monotonic() + seconds


class _BoundedReader(io.RawIOBase):
    """Reads a socket, each time with what is left of the time."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__()
        self._socket = sock
        # Holds the socket open when the connection is closed before its last answer was read.
        self._raw = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: t.Any) -> int:
        bound = getattr(_CURRENT, "bound", None)
        if bound is not None:
            remaining = bound.deadline - time.monotonic()
            if remaining <= 0:
                raise TimeoutError("the time is up")
            self._socket.settimeout(remaining)
        return self._raw.readinto(buffer) or 0

    def close(self) -> None:
        self._raw.close()
        super().close()


class _BoundedResponse(http.client.HTTPResponse):
    """A response that reads its status line, headers and body through the bound."""

    def __init__(self, sock: socket.socket, *args: t.Any, **options: t.Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp.close()
        self.fp = io.BufferedReader(_BoundedReader(sock))


def pool_manager(proxy: str | None = None, **options: t.Any) -> urllib3.PoolManager:
    """Return a C(urllib3.PoolManager), or one for a proxy's URL, whose responses honour C(Bound)."""
    plain = type("BoundedHTTPConnection", (HTTPConnection,), {"response_class": _BoundedResponse})
    secure = type("BoundedHTTPSConnection", (HTTPSConnection,), {"response_class": _BoundedResponse})
    pools = urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)
    pools.pool_classes_by_scheme = {
        "http": type("BoundedHTTPPool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
        "https": type("BoundedHTTPSPool", (HTTPSConnectionPool,), {"ConnectionCls": secure}),
    }
    return pools
