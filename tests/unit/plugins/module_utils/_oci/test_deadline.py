# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bound on reading: a server that trickles is as slow as one that is silent."""

from __future__ import annotations

import dataclasses
import socket
import threading
import time
import typing as t

import pytest
import urllib3
from ansible_collections.hallmark.signing.plugins.module_utils._oci import deadline
from ansible_collections.hallmark.signing.tests.unit.fake_registry import FakeRegistry, Fault
from urllib3.exceptions import HTTPError

Start = t.Callable[..., FakeRegistry]

# A body that takes a second when its bytes come one by one, and chunks whose size lines do.
BODY = b"x" * 100
CHUNK = b"1;" + b"x" * 100 + b"\r\nx\r\n0\r\n\r\n"
TRAILER = b"1\r\nx\r\n0\r\nX-Trailer: " + b"x" * 100 + b"\r\n\r\n"
CHUNKED = {"Transfer-Encoding": "chunked", "Connection": "close"}

TRICKLES = {
    "status-line": Fault(status=200, body=b"", trickle_headers=0.05),
    "headers": Fault(status=200, body=b"", trickle_headers=0.007, headers={"X-Long": "x" * 150}),
    "many-headers": Fault(status=200, body=b"", trickle_headers=0.007, headers={f"X-{n}": "x" for n in range(30)}),
    "chunk-size": Fault(status=200, headers=CHUNKED, content_length="", body=CHUNK, trickle=0.01),
    "chunk": Fault(status=200, chunked=True, body=BODY, trickle=0.01),
    "trailer": Fault(status=200, headers=CHUNKED, content_length="", body=TRAILER, trickle=0.01),
    "body": Fault(status=200, body=BODY, trickle=0.01),
    "until-close": Fault(status=200, content_length="", body=BODY, trickle=0.01),
    "error-page": Fault(status=503, body=BODY, trickle=0.01),
}


def fetch(pools: urllib3.PoolManager, url: str, seconds: float | None) -> bytes:
    """Fetch a page with a bound, or with none; the timeout of the socket is always as long as 5 seconds."""

    def work() -> bytes:
        answer = pools.request("GET", url, retries=False, preload_content=False, timeout=5.0)
        try:
            return answer.read(1_000_000)
        finally:
            answer.close()

    if seconds is None:
        return work()
    with deadline.Bound(time.monotonic() + seconds):
        return work()


@pytest.mark.parametrize("kind", TRICKLES)
@pytest.mark.parametrize("secure", [False, True])
def test_a_trickle_ends_in_time_wherever_it_is(registry: Start, authority: t.Any, kind: str, secure: bool) -> None:
    fake = registry(certificate=authority.certificate) if secure else registry()
    fake.fail(TRICKLES[kind])
    options = {"ca_certs": authority.ca_path} if secure else {}
    begun = time.monotonic()
    with pytest.raises((HTTPError, TimeoutError)):
        fetch(deadline.pool_manager(**options), fake.url, 0.2)
    assert 0.15 < time.monotonic() - begun < 0.6


@pytest.mark.parametrize("kind", TRICKLES)
def test_the_same_answer_is_read_where_there_is_time(registry: Start, kind: str) -> None:
    # What the test before proves is the bound, and not that the answer is broken.
    slow = TRICKLES[kind]
    fake = registry()
    fake.fail(dataclasses.replace(slow, trickle=slow.trickle / 20, trickle_headers=slow.trickle_headers / 20))
    assert fetch(deadline.pool_manager(), fake.url, 30) in (b"", b"x", BODY)


def test_a_bound_shorter_than_the_timeout_of_the_socket_counts(registry: Start) -> None:
    fake = registry()
    fake.fail(Fault(delay=3))
    begun = time.monotonic()
    with pytest.raises((HTTPError, TimeoutError)):
        fetch(deadline.pool_manager(), fake.url, 0.2)
    assert time.monotonic() - begun < 0.7


def test_a_bound_ends_with_its_block(registry: Start) -> None:
    fake = registry()
    fake.fail(Fault(status=200, body=b"xx", trickle=0.2))
    pools = deadline.pool_manager()
    with pytest.raises((HTTPError, TimeoutError)):
        fetch(pools, fake.url, 0.05)
    assert fetch(pools, fake.url, None) == b"xx"


def test_a_bound_is_for_its_thread_only(registry: Start) -> None:
    fake = registry()
    fake.fail(Fault(status=200, body=b"xx", trickle=0.1))
    pools = deadline.pool_manager()
    bodies: list[bytes] = []
    with deadline.Bound(time.monotonic() - 1):
        thread = threading.Thread(target=lambda: bodies.append(fetch(pools, fake.url, None)))
        thread.start()
        thread.join(5)
    assert bodies == [b"xx"]


def test_connections_are_kept_and_each_answer_has_its_bound(registry: Start) -> None:
    fake = registry()
    fake.fail(Fault(status=200, body=b"quick"), times=3)
    fake.fail(TRICKLES["body"])
    pools = deadline.pool_manager()
    for _turn in range(3):
        with deadline.Bound(time.monotonic() + 5):
            assert pools.request("GET", fake.url).data == b"quick"
    begun = time.monotonic()
    with pytest.raises((HTTPError, TimeoutError)):
        fetch(pools, fake.url, 0.3)
    assert time.monotonic() - begun < 0.7
    assert fake.connections == 1


@pytest.fixture
def pair() -> t.Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a connection."""
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def test_nothing_is_read_when_the_time_is_up(pair: tuple[socket.socket, socket.socket]) -> None:
    # Even where something is there: it could be there each time.
    pair[1].sendall(b"x")
    reader = deadline._BoundedReader(pair[0])
    with deadline.Bound(time.monotonic() - 0.001), pytest.raises(TimeoutError, match="the time is up"):
        reader.read(1)
    assert reader.read(1) == b"x"


def test_a_reader_ends_with_the_stream_and_holds_the_socket_open(pair: tuple[socket.socket, socket.socket]) -> None:
    reader = deadline._BoundedReader(pair[0])
    pair[1].sendall(b"x")
    pair[1].close()
    pair[0].close()
    assert reader.readable()
    with deadline.Bound(time.monotonic() + 5):
        assert (reader.read(1), reader.read(1)) == (b"x", b"")
    assert pair[0].fileno() != -1
    reader.close()
    assert reader.closed
    assert pair[0].fileno() == -1


def test_a_bound_ends_where_the_block_fails(pair: tuple[socket.socket, socket.socket]) -> None:
    reader = deadline._BoundedReader(pair[0])
    with pytest.raises(KeyError), deadline.Bound(time.monotonic() - 1):
        raise KeyError("x")
    pair[1].sendall(b"x")
    assert reader.read(1) == b"x"
