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
from contextlib import contextmanager

from .._libraries import optional

with optional():
    import urllib3
    from urllib3.connection import HTTPConnection, HTTPSConnection
    from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

_CURRENT = threading.local()


@contextmanager
def until(deadline: float) -> t.Iterator[None]:
    """Bound all reading from pools of C(pool_manager()) in this thread by C(deadline), in monotonic seconds."""
    _CURRENT.deadline = deadline
    try:
        yield
    finally:
        _CURRENT.deadline = None


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
        deadline = getattr(_CURRENT, "deadline", None)
        if deadline is not None:
            remaining = deadline - time.monotonic()
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


def pool_manager(**options: t.Any) -> urllib3.PoolManager:
    """Return a C(urllib3.PoolManager) whose responses honour C(until())."""
    plain = type("BoundedHTTPConnection", (HTTPConnection,), {"response_class": _BoundedResponse})
    secure = type("BoundedHTTPSConnection", (HTTPSConnection,), {"response_class": _BoundedResponse})
    pools = urllib3.PoolManager(**options)
    pools.pool_classes_by_scheme = {
        "http": type("BoundedHTTPPool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
        "https": type("BoundedHTTPSPool", (HTTPSConnectionPool,), {"ConnectionCls": secure}),
    }
    return pools
