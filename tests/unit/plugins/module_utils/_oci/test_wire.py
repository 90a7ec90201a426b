# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP on the wire: what a hostile server sends is bounded in time and size, and never read in two ways."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import socketserver
import ssl
import threading
import time
import tracemalloc
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._oci import tunnel, wire
from ansible_collections.hallmark.signing.plugins.module_utils._oci.proxy import Proxy
from ansible_collections.hallmark.signing.tests.unit.fake_registry import FakeRegistry, Fault

Start = t.Callable[..., FakeRegistry]

# A body that takes a second when its bytes come one by one, and chunks whose size lines do.
BODY = b"x" * 100
CHUNK = b"1;" + b"x" * 100 + b"\r\nx\r\n0\r\n\r\n"
TRAILER = b"1\r\nx\r\n0\r\nX-Trailer: " + b"x" * 100 + b"\r\n\r\n"
CHUNKED = {"Transfer-Encoding": "chunked", "Connection": "close"}

# Only a guard: whoever hangs is found, however slow the machine.
_HANGS = 20.0

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


def soon(seconds: float = 5.0) -> wire.Deadline:
    return wire.Deadline(time.monotonic() + seconds)


def fetch(
    server: wire.Server, url: str, *, seconds: float = 5.0, method: str = "GET", body: bytes | None = None,
    size: int = 1_000_000,
) -> bytes:
    """Fetch a page with all of its body before a deadline."""
    deadline = soon(seconds)
    answer = server.request(method, f"{url}/", {}, body, deadline)
    try:
        return b"".join(iter(lambda: answer.read(size, deadline), b""))
    finally:
        answer.done()


# Time --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TRICKLES)
@pytest.mark.parametrize("secure", [False, True])
def test_a_trickle_ends_in_time_wherever_it_is(registry: Start, authority: t.Any, kind: str, secure: bool) -> None:
    fake = registry(certificate=authority.certificate) if secure else registry()
    fake.fail(TRICKLES[kind])
    context = ssl.create_default_context(cafile=authority.ca_path) if secure else None
    begun = time.monotonic()
    with pytest.raises((OSError, wire.HttpError)):
        fetch(wire.Server(fake.url, context), fake.url, seconds=0.2)
    assert 0.15 < time.monotonic() - begun < _HANGS


@pytest.mark.parametrize("kind", TRICKLES)
def test_the_same_answer_is_read_where_there_is_time(registry: Start, kind: str) -> None:
    # What the test before proves is the bound, and not that the answer is broken.
    slow = TRICKLES[kind]
    fake = registry()
    fake.fail(dataclasses.replace(slow, trickle=slow.trickle / 20, trickle_headers=slow.trickle_headers / 20))
    assert fetch(wire.Server(fake.url, None), fake.url, seconds=30) in (b"", b"x", BODY)


def test_nothing_is_sent_or_read_when_the_time_is_up() -> None:
    one, other = socket.socketpair()
    with one, other:
        # Even where something is there: it could be there each time.
        other.sendall(b"x")
        connection = wire.Connection(one)
        connection.deadline = soon(-0.001)
        for attempt in (lambda: connection.makefile("rb").read(1), lambda: connection.send(b"x")):
            with pytest.raises(TimeoutError, match="the time is up"):
                attempt()
        connection.deadline = soon()
        assert connection.makefile("rb").read(1) == b"x"


def test_a_body_that_goes_on_may_take_long() -> None:
    deadline = soon(0.05)
    for _chunk in deadline.extended([b"x"] * 5, 0.1):
        time.sleep(0.03)
    assert deadline.remaining() > 0.05


# What is read --------------------------------------------------------------------------------------------------------


Script = t.Callable[..., str]


@pytest.fixture
def scripted() -> t.Iterator[Script]:
    """Returns a function that starts a server which answers each request with the next of these bytes."""
    with contextlib.ExitStack() as stack:

        def start(*answers: bytes, closes: bool = True) -> str:
            server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

            def talk() -> None:
                left = list(answers)
                with contextlib.suppress(OSError):
                    while left:
                        peer = server.accept()[0]
                        with peer:
                            while left and peer.recv(65536):
                                peer.sendall(left.pop(0))
                                if closes:
                                    break

            threading.Thread(target=talk, daemon=True).start()
            return f"http://127.0.0.1:{server.getsockname()[1]}"

        yield start


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(("answer", "body"), [
    (OK + b"Content-Length: 2\r\n\r\nok", b"ok"),
    (OK + b"content-length:2\r\n\r\nok", b"ok"),
    (OK + b"\r\nok", b"ok"),
    (b"HTTP/1.0 200\r\n\r\nok", b"ok"),
    (OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\no\r\n1;name=value\r\nk\r\n0\r\n\r\n", b"ok"),
    (OK + b"Transfer-Encoding: Chunked\r\n\r\n02\r\nok\r\n0\r\nTrailer: x\r\n\r\n", b"ok"),
    (OK + b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n2\r\nok\r\n0\r\n\r\n", b"ok"),
    (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nok", b"ok"),
    (b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n", b""),
    (b"HTTP/1.1 304 Not Modified\r\n\r\n", b""),
])
@pytest.mark.parametrize("size", [1, 1000])
def test_reads_every_framing(scripted: Script, answer: bytes, body: bytes, size: int) -> None:
    url = scripted(answer)
    assert fetch(wire.Server(url, None), url, size=size) == body


@pytest.mark.parametrize("answer", [
    b"", b"x", b"SSH-2.0-OpenSSH_9.2\r\n\r\n", b"HTTP/2 200 OK\r\n\r\n", b"HTTP/1.1 20 OK\r\n\r\n",
    b"HTTP/1.1 2000 OK\r\n\r\n", b"http/1.1 200 OK\r\n\r\n", b"\r\n" + OK + b"\r\n",
    OK + b"Content-Length: 2\r\n", OK + b"Content-Length: 2\r\n\r\no",
    OK + b"Content-Length: 2\r\nContent-Length: 1\r\n\r\nok",
    OK + b"Content-Length: 2, 2\r\n\r\nok", OK + b"Content-Length: +2\r\n\r\nok", OK + b"Content-Length: \r\n\r\nok",
    OK + b"Content-Length: " + b"9" * 19 + b"\r\n\r\nok", OK + b"Content-Length: \xb2\r\n\r\nok",
    OK + b"Content-Length : 2\r\n\r\nok", OK + b"no colon\r\n\r\nok",
    OK + b": no name\r\n\r\nok",
    OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    OK + b"Transfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nok",
    OK + b"Transfer-Encoding: chunked\r\n\r\n", OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok",
    OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nok\r\n0\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 16 + b"\r\n", OK + b"Transfer-Encoding: chunked\r\n\r\n\r\n",
    OK + b"X: " + b"x" * 70_000 + b"\r\n\r\nok",
    OK + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"x" * 70_000 + b"\r\nx\r\n0\r\n\r\n",
    # Found by tests/fuzz: what int() takes for a length, and what only some take for the end of a line.
    *(OK + b"Transfer-Encoding: chunked\r\n\r\n%b\r\nok\r\n0\r\n\r\n" % size for size in (
        b"+2", b"0x2", b"0_2", b" 2", b"\t2"
    )),
    OK + b"Transfer-Encoding: chunked\r\n\r\n-0\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    OK + b"X: a\rContent-Length: 1\r\nContent-Length: 2\r\n\r\nok",
    OK + b"X: a\rTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    OK + b"Content-Length: 2\r\nX: a\r\n b\r\n\r\nok",
])
def test_whatever_has_two_meanings_or_none_is_an_error(scripted: Script, answer: bytes) -> None:
    url = scripted(answer)
    server = wire.Server(url, None)
    with pytest.raises((OSError, wire.HttpError)):
        fetch(server, url)
    assert server._kept == []


# Found by tests/fuzz: http.client reads all that comes for a chunk whose length is below zero.
@pytest.mark.parametrize("length", [b"-1", b"-ffff"])
def test_a_chunk_below_zero_takes_no_memory(scripted: Script, length: bytes) -> None:
    url = scripted(OK + b"Transfer-Encoding: chunked\r\n\r\n" + length + b"\r\n" + bytes(32 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(wire.HttpError):
            fetch(wire.Server(url, None), url, size=1000)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


# Found by tests/fuzz: http.client takes the end of the connection for that of the header.
@pytest.mark.parametrize("answer", [
    b"HTTP/1.1 200 OK", OK, OK + b"Location: /v2/x/blo", OK + b"Link: </v2/x?n=1>; rel=next\r\n",
])
def test_a_header_that_is_cut_off_is_an_error(scripted: Script, answer: bytes) -> None:
    url = scripted(answer)
    with pytest.raises(wire.HttpError, match="in the middle of an answer"):
        fetch(wire.Server(url, None), url, method="HEAD")


def test_equal_headers_are_joined(scripted: Script) -> None:
    url = scripted(OK + b"WWW-Authenticate: Basic x\r\nContent-Length: 0\r\nwww-authenticate:\tBearer y \r\n\r\n")
    answer = wire.Server(url, None).request("GET", url, {}, None, soon())
    assert answer.headers == {"www-authenticate": "Basic x, Bearer y", "content-length": "0"}


def test_words_of_a_server_are_not_repeated(scripted: Script) -> None:
    for answer in (b"canary\r\n\r\n", OK + b"canary\r\n\r\n", OK + b"Content-Length: canary\r\n\r\n",
                   OK + b"Transfer-Encoding: canary\r\n\r\n", OK + b"Transfer-Encoding: chunked\r\n\r\ncanary\r\n"):
        url = scripted(answer)
        with pytest.raises(wire.HttpError) as caught:
            fetch(wire.Server(url, None), url)
        assert "canary" not in str(caught.value)


def test_a_head_has_no_body(scripted: Script) -> None:
    url = scripted(OK + b"Content-Length: 1000\r\n\r\n", OK + b"Content-Length: 2\r\n\r\nok", closes=False)
    server = wire.Server(url, None)
    assert fetch(server, url, method="HEAD") == b""
    assert fetch(server, url) == b"ok"


# What is sent --------------------------------------------------------------------------------------------------------


def test_a_request_is_as_it_should_be(registry: Start) -> None:
    fake = registry()
    server = wire.Server(fake.url, None)
    deadline = soon()
    sent = [("PUT", b"xy"), ("POST", None), ("GET", None), ("DELETE", None), ("PATCH", [b"x", b"yz"])]
    for method, body in sent:
        headers = {"Content-Length": "3"} if isinstance(body, list) else {}
        answer = server.request(method, f"{fake.url}/a?b=c#d", headers, body, deadline)
        while answer.read(1000, deadline):
            pass
        answer.done()
    assert [(seen.method, seen.path, seen.body) for seen in fake.log] == [
        ("PUT", "/a?b=c", b"xy"), ("POST", "/a?b=c", b""), ("GET", "/a?b=c", b""), ("DELETE", "/a?b=c", b""),
        ("PATCH", "/a?b=c", b"xyz"),
    ]
    assert [seen.headers.get("content-length") for seen in fake.log] == ["2", "0", None, None, "3"]
    assert {seen.headers["host"] for seen in fake.log} == {fake.host}


@pytest.mark.parametrize(("url", "target"), [
    ("", "/"), ("/", "/"), ("?a=/b", "/?a=/b"), ("/a#b", "/a"), ("#a", "/"), ("/a?b#c", "/a?b"),
])
def test_the_target_is_what_follows_the_host(registry: Start, url: str, target: str) -> None:
    fake = registry()
    wire.Server(fake.url, None).request("GET", f"{fake.url}{url}", {}, None, soon())
    assert fake.log[0].path == target


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb", "a\rb"])
def test_a_header_cannot_smuggle_another(registry: Start, value: str) -> None:
    fake = registry()
    with pytest.raises(ValueError, match="more than one line"):
        wire.Server(fake.url, None).request("GET", fake.url, {"A": value}, None, soon())
    assert fake.log == []


def test_an_answer_before_the_end_of_the_body_is_read(scripted: Script) -> None:
    url = scripted(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
    server = wire.Server(url, None)

    def body() -> t.Iterator[bytes]:
        for _turn in range(200):
            yield b"x" * 65536
            time.sleep(0.001)

    with contextlib.suppress(ConnectionResetError):
        answer = server.request("PUT", url, {"Content-Length": str(200 * 65536)}, body(), soon())
        assert answer.status == 413
        answer.done()
    assert server._kept == []


# Kept connections ----------------------------------------------------------------------------------------------------


def test_connections_are_kept_and_each_answer_has_its_deadline(registry: Start) -> None:
    fake = registry()
    fake.fail(Fault(status=200, body=b"quick"), times=3)
    fake.fail(TRICKLES["body"])
    server = wire.Server(fake.url, None)
    for _turn in range(3):
        assert fetch(server, fake.url) == b"quick"
    begun = time.monotonic()
    with pytest.raises((OSError, wire.HttpError)):
        fetch(server, fake.url, seconds=0.3)
    assert time.monotonic() - begun < _HANGS
    assert fake.connections == 1


@pytest.mark.parametrize("answer", [
    OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nok",
    OK + b"Connection: x, Close\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    OK + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    OK + b"Content-Length: 2\r\n\r\nok" + OK + b"Content-Length: 4\r\n\r\nevil",
    OK + b"Content-Length: 2\r\n\r\nok\r\n",
])
def test_a_connection_in_doubt_is_not_used_again(scripted: Script, answer: bytes) -> None:
    url = scripted(answer, OK + b"Content-Length: 4\r\n\r\ngood", closes=False)
    server = wire.Server(url, None)
    assert fetch(server, url) == b"ok"
    kept = list(server._kept)
    # The server still waits on the first connection: only closing it lets it go on to the next.
    assert fetch(server, url) == b"good"
    assert all(connection.sock.fileno() < 0 for connection in kept)


def test_a_connection_that_was_closed_meanwhile_is_not_used(scripted: Script) -> None:
    url = scripted(OK + b"Content-Length: 2\r\n\r\nok", OK + b"Content-Length: 2\r\n\r\nok")
    server = wire.Server(url, None)
    assert fetch(server, url) == b"ok"
    time.sleep(0.1)
    assert fetch(server, url) == b"ok"


def test_a_write_is_lost_once_at_most_on_connections_that_were_kept() -> None:
    class HangsUpAtTheSecond(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            if self.request.recv(65536):
                self.request.sendall(OK + b"Content-Length: 2\r\n\r\nok")
            self.request.recv(65536)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), HangsUpAtTheSecond) as service:
        service.daemon_threads = True
        threading.Thread(target=service.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{service.server_address[1]}"
        server = wire.Server(url, None)
        assert fetch(server, url) == b"ok"
        # What became of it, nobody knows: whoever writes decides how to go on.
        with pytest.raises(wire.Disconnected):
            fetch(server, url, method="PUT")
        for method in ("POST", "PUT", "PATCH", "GET", "DELETE") * 3:
            assert fetch(server, url, method=method) == b"ok", method
        assert len(server._kept) <= 1
        service.shutdown()


def test_an_answer_that_was_not_read_closes_its_connection(registry: Start) -> None:
    fake = registry()
    fake.fail(Fault(status=200, body=BODY))
    server = wire.Server(fake.url, None)
    answer = server.request("GET", fake.url, {}, None, soon())
    assert answer.read(50, soon()) == b"x" * 50
    answer.done()
    answer.done()
    assert server._kept == []
    answer = server.request("GET", fake.url, {}, None, soon())
    assert answer.read(100, soon()) == BODY
    answer.done()
    answer.done()
    assert len(server._kept) == 1


# TLS inside of TLS ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def proxy_on_tls(certificate: tuple[str, str]) -> t.Iterator[tuple[str, list[bytes]]]:
    """Run a proxy that is reached by TLS and opens one tunnel to 127.0.0.1; yield its URL and what it was asked."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def pump(source: t.Any, sink: t.Any) -> None:
            with contextlib.suppress(OSError):
                while data := source.recv(1000):
                    sink.sendall(data)
            with contextlib.suppress(OSError):
                sink.shutdown(socket.SHUT_RDWR)

        def talk() -> None:
            with contextlib.suppress(OSError), context.wrap_socket(server.accept()[0], server_side=True) as peer:
                asked.append(peer.recv(65536))
                port = int(asked[0].split(b" ")[1].rpartition(b":")[2])
                with socket.create_connection(("127.0.0.1", port)) as far:
                    peer.sendall(OK + b"\r\n")
                    threading.Thread(target=pump, args=(far, peer), daemon=True).start()
                    pump(peer, far)

        threading.Thread(target=talk, daemon=True).start()
        yield f"https://127.0.0.1:{server.getsockname()[1]}", asked


def test_tls_goes_through_a_tunnel_inside_of_tls(
    registry: Start, authority: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", authority.ca_path)
    fake = registry(certificate=authority.certificate)
    fake.fail(Fault(status=200, body=b"x" * 300_000))
    context = ssl.create_default_context(cafile=authority.ca_path)
    with proxy_on_tls(authority.certificate) as (url, asked):
        server = wire.Server(fake.url, context, Proxy(url, "robot:canary"))
        for _turn in range(2):
            assert fetch(server, fake.url, method="PUT", body=b"y" * 100_000) == b"x" * 300_000
    assert asked[0].startswith(f"CONNECT 127.0.0.1:{fake.port} HTTP/1.1\r\n".encode())
    assert b"Proxy-Authorization: Basic cm9ib3Q6Y2FuYXJ5\r\n" in asked[0]
    assert fake.connections == 1


def test_the_certificate_inside_is_checked(
    registry: Start, authority: t.Any, other_authority: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", authority.ca_path)
    fake = registry(certificate=authority.certificate)
    context = ssl.create_default_context(cafile=other_authority.ca_path)
    with proxy_on_tls(authority.certificate) as (url, _asked), pytest.raises(ssl.SSLCertVerificationError):
        fetch(wire.Server(fake.url, context, Proxy(url)), fake.url)
    assert fake.log == []


@pytest.mark.parametrize("status", [b"407", b"502", b"302"])
def test_a_tunnel_that_is_refused_is_an_error(scripted: Script, status: bytes) -> None:
    url = scripted(b"HTTP/1.1 " + status + b" canary\r\nX: canary\r\n\r\n")
    with pytest.raises(wire.HttpError, match=status.decode()) as caught:
        tunnel.reach(Proxy(url), "registry.test", 443, ssl.create_default_context(), soon())
    assert "canary" not in str(caught.value)
