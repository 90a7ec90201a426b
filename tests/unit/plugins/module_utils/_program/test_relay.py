# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the relay: one request goes to the socket under the caller's name, and the answer comes back."""

from __future__ import annotations

import contextlib
import io
import json
import pathlib
import signal
import socket
import threading
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._keyhost import serving
from ansible_collections.hallmark.signing.plugins.module_utils._program import relay
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._program.program_bench import give


class Service:
    """A service behind a socket, which takes one request."""

    def __init__(self, path: str, answer: t.Callable[[socket.socket, bytes], None]) -> None:
        self.received = b""
        self._answer = answer
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(path)
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        connection, _peer = self._socket.accept()
        with connection:
            while chunk := connection.recv(65536):
                self.received += chunk
            self._answer(connection, self.received)

    def close(self) -> None:
        """Wait until it has served."""
        self._thread.join(20)
        self._socket.close()


class Output(io.StringIO):
    """Standard output that is written to as bytes and as text."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = io.BytesIO()


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> t.Iterator[t.Callable[..., tuple[int, bytes]]]:
    """Runs the relay with a request, and returns its status and what it wrote."""

    def call(request: bytes = b"{}", *, caller: str = "alice", path: str | None = None) -> tuple[int, bytes]:
        give(monkeypatch, request)
        monkeypatch.setattr("sys.stdout", out := Output())
        status = relay.main(["--socket", path or str(tmp_path / "socket"), "--caller", caller])
        return status, out.buffer.getvalue() + out.getvalue().encode()

    yield call
    signal.alarm(0)


@pytest.fixture
def serve(tmp_path: pathlib.Path) -> t.Callable[..., Service]:
    """Starts a service."""
    return lambda answer: Service(str(tmp_path / "socket"), answer)


def _error(output: bytes) -> dict[str, str]:
    answer = json.loads(output)
    assert list(answer) == ["error"]
    return t.cast("dict[str, str]", answer["error"])


@pytest.mark.parametrize("answer", [
    b'{"signature":"YQ=="}\n', b'{"error":{"code":"x","message":"y"}}', b"\xff\x00" * 50_000,
])
def test_request_and_answer_are_carried_as_they_are(run: t.Any, serve: t.Any, answer: bytes) -> None:
    service = serve(lambda connection, _request: connection.sendall(answer))
    request = b'{"version":1}\n\x00\xff' + b"x" * 100_000
    assert run(request) == (0, answer)
    service.close()
    assert service.received == b"alice\n" + request


def test_empty_request_is_carried_too(run: t.Any, serve: t.Any) -> None:
    service = serve(lambda connection, _request: connection.sendall(b"{}"))
    assert run(b"") == (0, b"{}")
    service.close()
    assert service.received == b"alice\n"


@pytest.mark.parametrize("caller", ["a", "A.b_c@d-9", "0", "a" * 64])
def test_callers_have_such_names(run: t.Any, serve: t.Any, caller: str) -> None:
    service = serve(lambda connection, _request: connection.sendall(b"{}"))
    assert run(caller=caller)[0] == 0
    service.close()
    assert service.received == f"{caller}\n{{}}".encode()


@pytest.mark.parametrize("caller", [
    "", "alice\n", "alice\nbob", "al ice", ".alice", "@alice", "a" * 65, "Jos\u00e9", "alice\0",
])
def test_other_names_are_refused(run: t.Any, tmp_path: pathlib.Path, caller: str) -> None:
    status, output = run(caller=caller)
    assert status == 1
    assert _error(output)["code"] == "input_invalid"


def test_names_are_those_that_the_configuration_takes() -> None:
    assert relay._CALLER.pattern == serving.NAME.pattern
    assert relay._MAX == serving.MAX_REQUEST


def test_too_large_a_request_is_not_carried(run: t.Any, serve: t.Any) -> None:
    status, output = run(b"x" * (relay._MAX + 1))
    assert (status, _error(output)["code"]) == (1, "limit_exceeded")
    service = serve(lambda connection, _request: connection.sendall(b"{}"))
    assert run(b"x" * relay._MAX) == (0, b"{}")
    service.close()


def test_missing_service_is_told(run: t.Any, tmp_path: pathlib.Path) -> None:
    status, output = run()
    assert status == 1
    assert _error(output) == {
        "code": "service_unavailable",
        "message": f"could not reach the signing service: {tmp_path}/socket: No such file or directory",
    }
    assert _error(run(path="/" + "x" * 200)[1])["code"] == "service_unavailable"


def test_service_that_ends_without_an_answer_is_told(run: t.Any, serve: t.Any) -> None:
    service = serve(lambda _connection, _request: None)
    status, output = run()
    service.close()
    assert status == 1
    assert "without an answer" in _error(output)["message"]


def test_service_that_never_answers_is_not_waited_for(
    run: t.Any, serve: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "_SECONDS", 1)
    end = threading.Event()
    service = serve(lambda _connection, _request: t.cast(None, end.wait(20)))
    status, output = run()
    end.set()
    service.close()
    assert (status, _error(output)["code"]) == (1, "service_unavailable")


def test_answer_without_an_end_is_cut(run: t.Any, serve: t.Any) -> None:
    def flood(connection: socket.socket, _request: bytes) -> None:
        # Until nobody listens any more.
        with contextlib.suppress(OSError):
            while True:
                connection.sendall(b"x" * 65536)

    service = serve(flood)
    status, output = run()
    assert status == 0
    assert relay._MAX < len(output) <= relay._MAX + 65536
    service.close()


def test_caller_that_says_nothing_is_not_waited_for(run: t.Any, serve: t.Any) -> None:
    service = serve(lambda connection, _request: connection.sendall(b"{}"))
    run()
    service.close()
    assert 0 < signal.alarm(0) <= 2 * relay._SECONDS
