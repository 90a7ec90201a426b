# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP to registries: credentials, TLS, retries, redirects, limits and time, against a real server."""

from __future__ import annotations

import contextlib
import email.utils
import socket
import threading
import time
import traceback
import types
import typing as t
from concurrent.futures import ThreadPoolExecutor

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import RegistryError
from ansible_collections.hallmark.signing.plugins.module_utils._oci import failure as failures
from ansible_collections.hallmark.signing.plugins.module_utils._oci import location, transport, wire
from ansible_collections.hallmark.signing.plugins.module_utils._oci.authorization import Token
from ansible_collections.hallmark.signing.plugins.module_utils._oci.credentials import AuthFile, Credentials
from ansible_collections.hallmark.signing.plugins.module_utils._oci.transport import (
    HostSettings,
    RegistrySettings,
    Request,
    Response,
    Transport,
)
from ansible_collections.hallmark.signing.plugins.module_utils._reason_codes import ReasonCode
from ansible_collections.hallmark.signing.tests.unit.fake_registry import FakeRegistry, Fault, Seen

Start = t.Callable[..., FakeRegistry]

PASSWORD = "canary-of-a-password"
# Only a guard: whoever hangs is found, however slow the machine.
_HANGS = 20.0

LOGIN: dict[str, t.Any] = {"username": "robot", "password": PASSWORD}


def to(
    fake: FakeRegistry | str, *, timeout: float = 5.0, auth_file: AuthFile | None = None,
    api_host: str = "", **host: t.Any,
) -> Transport:
    name = fake if isinstance(fake, str) else fake.host
    settings = RegistrySettings(
        auth_file or AuthFile("none", {}), {name: HostSettings(**host)} if host else {}, timeout
    )
    return Transport(name, api_host or name, settings)


def get(location: str = "/v2/app/manifests/1", **members: t.Any) -> Request:
    members = {"method": "GET", "scope": "repository:app:pull", "attempt": "fetch it", "limit": 100_000, **members}
    return Request(location=location, **members)


def put(location: str = "/v2/app/manifests/2", **members: t.Any) -> Request:
    members = {"accepted": (201,), "scope": "repository:app:pull,push", "body": b"{}", **members}
    return get(location, method="PUT", **members)


def failure(client: Transport, request: Request | None = None, code: ReasonCode = "registry_error") -> str:
    """Send a request that must fail with this code, and return the cause; the password is nowhere in it."""
    with pytest.raises(RegistryError) as caught:
        client.send(request or get())
    assert (caught.value.code, caught.value.object) == (code, client.host)
    assert caught.value.attempt == (request or get()).attempt
    shown = "".join(traceback.format_exception(type(caught.value), caught.value, caught.value.__traceback__))
    assert PASSWORD not in shown
    assert Credentials("robot", PASSWORD, "").basic() not in shown
    assert "canary-of-a-foreign" not in shown
    return caught.value.cause


@pytest.fixture
def sleeps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let waiting take no time: the list holds what would have been slept."""
    slept: list[float] = []
    monkeypatch.setattr(transport, "time", types.SimpleNamespace(
        monotonic=lambda: time.monotonic() + sum(slept), time=time.time, sleep=slept.append,
    ))
    return slept


# Answers -----------------------------------------------------------------------------------------------------------


def test_returns_status_headers_and_body(registry: Start) -> None:
    fake = registry()
    digest = fake.put_image("app", "1")
    response = to(fake).send(get())
    assert (response.status, response.body) == (200, fake.manifests["app"]["1"].raw)
    assert response.headers["docker-content-digest"] == digest


def test_says_what_it_is_and_wants_no_compression(registry: Start) -> None:
    fake = registry()
    fake.put_image("app", "1")
    to(fake).send(get(headers={"Accept": "x/y"}))
    sent = fake.log[0].headers
    assert (sent["user-agent"], sent["accept-encoding"], sent["accept"]) == ("hallmark.signing", "identity", "x/y")


def test_connections_are_kept(registry: Start) -> None:
    fake = registry()
    fake.put_image("app", "1")
    client = to(fake)
    for _turn in range(5):
        client.send(get())
        client.send(get(method="HEAD"))
        client.send(get("/v2/app/manifests/none", accepted=(404,)))
    assert (fake.connections, client.request_count, len(fake.log)) == (1, 15, 15)


@pytest.mark.parametrize(("status", "code", "words"), [
    (404, "not_found", "answered 404 MANIFEST_UNKNOWN"),
    (400, "registry_error", "answered 400 NAME_INVALID"),
    (405, "registry_error", "answered 405 UNSUPPORTED"),
    (403, "unauthorized", "no credentials are known"),
    (204, "registry_error", "answered 204"),
    (206, "registry_error", "answered 206"),
    (304, "registry_error", "answered 304"),
    (418, "registry_error", "answered 418"),
    (501, "registry_error", "answered 501"),
])
def test_an_unexpected_status_is_final(registry: Start, status: int, code: ReasonCode, words: str) -> None:
    fake = registry()
    name = words.rpartition(" ")[2]
    body = b'{"errors":[{"code":"%s","message":"canary-of-a-foreign"}]}' % name.encode()
    fake.fail(Fault(status=status, body=b"" if status in (204, 304) else body))
    assert words in failure(to(fake), code=code)
    assert len(fake.log) == 1


@pytest.mark.parametrize(("body", "words"), [
    (b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}', "MANIFEST_UNKNOWN"),
    (b'{"errors":[{"code":"DENIED"}]}', "DENIED"),
    (b'{"errors":[{"code":"canary-of-a-foreign code"}]}', ""),
    (b"MANIFEST_UNKNOWN", ""),
    (b"", ""),
    (b"<!DOCTYPE html><HTML>\"DENIED\"</HTML>", "with an HTML page"),
    (b"x" * 2000 + b'"DENIED"', "DENIED"),
    (b"\xff\xfe", ""),
])
def test_takes_known_error_codes_and_nothing_else(body: bytes, words: str) -> None:
    assert failures.error_code(Response(400, {}, body, "http://r.io/")) == words


@pytest.mark.parametrize("code", [
    "BLOB_UNKNOWN", "BLOB_UPLOAD_INVALID", "BLOB_UPLOAD_UNKNOWN", "DIGEST_INVALID", "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID", "MANIFEST_UNKNOWN", "MANIFEST_UNVERIFIED", "NAME_INVALID", "NAME_UNKNOWN", "SIZE_INVALID",
    "TAG_INVALID", "UNAUTHORIZED", "DENIED", "UNSUPPORTED", "TOOMANYREQUESTS",
])
def test_knows_the_codes_of_the_specification(code: str) -> None:
    body = b'{"errors":[{"code":"%s"}]}' % code.encode()
    assert failures.error_code(Response(400, {}, body, "http://r.io/")) == code


def test_an_html_error_page_is_named(registry: Start) -> None:
    fake = registry()
    fake.fail(Fault.html(status=502))
    assert "it answered 502 with an HTML page" in failure(to(fake))


def test_a_registry_on_tls_that_is_asked_in_clear_is_recognised(registry: Start) -> None:
    fake = registry()
    fake.fail(Fault(status=400, body=b"Client sent an HTTP request to an HTTPS server.\n"))
    assert "set plain_http: false" in failure(to(fake))


def test_reprs_of_requests_and_responses_hold_no_content() -> None:
    assert "canary" not in repr(get(body=b"canary")) + repr(Response(200, {}, b"canary", "http://r.io/"))


# Retries -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
@pytest.mark.parametrize("times", [1, 4])
def test_a_passing_failure_is_retried(registry: Start, sleeps: list[float], status: int, times: int) -> None:
    fake = registry()
    fake.put_image("app", "1")
    fake.fail(Fault(status=status), times=times)
    assert to(fake, timeout=100).send(get()).status == 200
    assert (len(fake.log), len(sleeps)) == (times + 1, times)


@pytest.mark.parametrize("status", [429, 503])
def test_a_lasting_failure_ends_after_five_attempts(registry: Start, sleeps: list[float], status: int) -> None:
    fake = registry()
    fake.fail(Fault(status=status))
    words = " (too many requests)" if status == 429 else ""
    assert failure(to(fake, timeout=100)) == f"it answered {status}{words}"
    assert (len(fake.log), len(sleeps)) == (5, 4)


def test_the_pauses_double(registry: Start, sleeps: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "_FIRST_DELAY", 0.2)
    fake = registry()
    fake.fail(Fault(status=503))
    failure(to(fake, timeout=100))
    assert all(0.1 * 2 ** turn <= pause <= 0.2 * 2 ** turn for turn, pause in enumerate(sleeps))


def test_a_request_that_must_not_be_repeated_is_not(registry: Start) -> None:
    fake = registry()
    fake.fail(Fault(status=503))
    failure(to(fake), get(retried=False))
    assert len(fake.log) == 1


def test_retry_after_in_seconds_is_kept_to(registry: Start, sleeps: list[float]) -> None:
    fake = registry()
    fake.put_image("app", "1")
    fake.fail(Fault.too_many("7"), times=2)
    assert to(fake, timeout=100).send(get()).status == 200
    assert sleeps == [7.0, 7.0]


def test_retry_after_as_a_date_is_kept_to(registry: Start, sleeps: list[float]) -> None:
    fake = registry()
    fake.put_image("app", "1")
    fake.fail(Fault.too_many(email.utils.formatdate(time.time() + 20, usegmt=True)), times=1)
    assert to(fake, timeout=100).send(get()).status == 200
    assert sleeps == [pytest.approx(19.5, abs=1)]


def test_retry_after_really_waits(registry: Start) -> None:
    fake = registry()
    fake.put_image("app", "1")
    fake.fail(Fault.too_many("1"), times=1)
    begun = time.monotonic()
    to(fake).send(get())
    assert time.monotonic() - begun >= 1.0


@pytest.mark.parametrize("value", [
    "5", "3600", "9" * 30, email.utils.formatdate(time.time() + 3600, usegmt=True),
], ids=["seconds", "hour", "absurd", "date"])
def test_retry_after_beyond_the_timeout_fails_at_once(registry: Start, value: str) -> None:
    fake = registry()
    fake.fail(Fault.too_many(value))
    begun = time.monotonic()
    cause = failure(to(fake, timeout=4.5))
    assert time.monotonic() - begun < 4.5
    assert "too many requests; it asks to wait" in cause
    assert len(fake.log) == 1


@pytest.mark.parametrize("value", [
    "", "0", "-5", "1.5", "soon", "NaN", "inf", "1e9", "0x10", " ", "Mon, 01 Jan 2001 00:00:00 GMT", "1 1 1",
    "Mon, 01 Jan 2020 00:00:00 +999999",
])
def test_a_useless_retry_after_is_ignored(registry: Start, sleeps: list[float], value: str) -> None:
    fake = registry()
    fake.put_image("app", "1")
    fake.fail(Fault(status=429, headers={"Retry-After": value}), times=1)
    assert to(fake, timeout=100).send(get()).status == 200
    assert sleeps[0] <= 0.001


# str.isdigit() is true for a superscript two; a year of 20 digits makes parsedate_to_datetime raise OverflowError.
@pytest.mark.parametrize("value", ["\u00b2", "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"])
def test_a_hostile_retry_after_is_ignored(registry: Start, sleeps: list[float], value: str) -> None:
    fake = registry()
    fake.put_image("app", "1")
    fake.fail(Fault(status=429, headers={"Retry-After": value}), times=1)
    assert to(fake, timeout=100).send(get()).status == 200


def test_too_many_requests_without_a_time_is_named(registry: Start) -> None:
    fake = registry()
    fake.fail(Fault(status=429))
    assert failure(to(fake)).endswith("it answered 429 (too many requests)")


# Bodies ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [
    Fault(cut_after=10),
    Fault(cut_after=0),
    Fault(content_length="100000"[:5], cut_after=100),
    Fault(chunked=True, cut_after=10),
    Fault(hang_up=True),
], ids=["cut", "cut-at-once", "shorter-than-said", "chunks-without-end", "no-answer"])
def test_a_truncated_answer_is_never_used(registry: Start, fault: Fault) -> None:
    fake = registry()
    fake.put_image("app", "1")
    fake.fail(fault)
    failure(to(fake))
    assert len(fake.log) == 5
    fake.faults.clear()
    assert to(fake).send(get()).body == fake.manifests["app"]["1"].raw


@pytest.mark.parametrize("fault", [Fault(cut_after=10), Fault(hang_up=True), Fault(chunked=True, cut_after=10)])
def test_a_truncated_answer_is_asked_for_again(registry: Start, fault: Fault) -> None:
    fake = registry()
    fake.put_image("app", "1")
    fake.fail(fault, times=2)
    assert to(fake).send(get()).body == fake.manifests["app"]["1"].raw
    assert len(fake.log) == 3


@pytest.mark.parametrize("fault", [Fault(chunked=True), Fault(content_length="")], ids=["chunked", "until-close"])
def test_a_body_of_undeclared_length_is_read(registry: Start, fault: Fault) -> None:
    fake = registry()
    fake.put_image("app", "1")
    fake.fail(fault)
    assert to(fake).send(get()).body == fake.manifests["app"]["1"].raw


@pytest.mark.parametrize("fault", [
    Fault(),
    Fault(chunked=True),
    Fault(content_length=""),
    Fault(chunked=True, endless=True),
    Fault(content_length=str(200 * 1024 * 1024)),
], ids=["declared", "chunked", "until-close", "endless", "declared-200-MiB"])
def test_a_body_over_the_limit_is_refused(registry: Start, fault: Fault) -> None:
    fake = registry()
    fake.blobs["app"] = {"sha256:x": b"x" * 100_001}
    fake.fail(fault)
    begun = time.monotonic()
    cause = failure(to(fake, timeout=30), get("/v2/app/blobs/sha256:x"), "limit_exceeded")
    assert "100000 bytes" in cause
    assert time.monotonic() - begun < 20
    assert len(fake.log) == 1


@pytest.mark.parametrize("fault", [Fault(), Fault(chunked=True), Fault(content_length="")])
def test_a_body_of_just_the_limit_is_taken(registry: Start, fault: Fault) -> None:
    fake = registry()
    fake.blobs["app"] = {"sha256:x": b"x" * 100_000}
    fake.fail(fault)
    assert len(to(fake).send(get("/v2/app/blobs/sha256:x")).body) == 100_000


def test_no_body_is_taken_where_none_is_allowed(registry: Start) -> None:
    fake = registry()
    fake.blobs["app"] = {"sha256:x": b"x"}
    failure(to(fake), get("/v2/app/blobs/sha256:x", limit=0), "limit_exceeded")


def test_a_head_may_name_any_length(registry: Start) -> None:
    fake = registry()
    fake.blobs["app"] = {"sha256:x": b"x" * 200_000}
    client = to(fake)
    assert client.send(get("/v2/app/blobs/sha256:x", method="HEAD")).body == b""
    client.send(get("/v2/app/blobs/sha256:x", method="HEAD"))
    assert fake.connections == 1


def test_the_rest_of_a_refused_body_is_not_read_as_an_answer(registry: Start) -> None:
    fake = registry()
    fake.blobs["app"] = {"sha256:x": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno" * 10_000}
    fake.put_image("app", "1")
    client = to(fake)
    failure(client, get("/v2/app/blobs/sha256:x"), "limit_exceeded")
    assert client.send(get()).body == fake.manifests["app"]["1"].raw
    assert fake.connections == 2


def test_an_error_page_has_its_own_limit(registry: Start) -> None:
    fake = registry()
    fake.fail(Fault(status=400, chunked=True, endless=True))
    begun = time.monotonic()
    with pytest.raises(RegistryError):
        to(fake, timeout=30).send(get(limit=10 ** 12))
    assert time.monotonic() - begun < 20
    assert len(fake.log) == 1


def test_a_small_limit_does_not_hide_an_error(registry: Start) -> None:
    fake = registry()
    fake.fail(Fault(status=400, body=b'{"errors":[{"code":"DIGEST_INVALID"}]}'))
    assert "DIGEST_INVALID" in failure(to(fake), get(limit=1))


# The status decides, not the size of the page.
@pytest.mark.parametrize("framing", [
    {}, {"chunked": True}, {"content_length": ""}, {"chunked": True, "endless": True},
    {"content_length": str(10 ** 12)},
], ids=["declared", "chunked", "until-close", "endless", "declared-1-TB"])
def test_an_error_page_above_the_limit_is_cut_off_and_retried(registry: Start, framing: dict[str, t.Any]) -> None:
    fake = registry()
    fake.put_image("app", "1")
    fake.fail(Fault(status=502, body=b"<html>" + b"x" * 200_000, **framing), times=1)
    assert to(fake).send(get()).status == 200
    assert len(fake.log) == 2


@pytest.mark.parametrize(("size", "length"), [(65_535, 65_535), (65_536, 65_536), (65_537, 65_536), (200_000, 65_536)])
def test_an_error_page_is_taken_up_to_its_limit(registry: Start, size: int, length: int) -> None:
    fake = registry()
    fake.fail(Fault(status=400, body=b"x" * size))
    client = to(fake)
    for _turn in range(2):
        response = client._send_once(get(limit=10), time.monotonic() + 5)
        assert (response.status, response.body) == (400, b"x" * length)
    # What was not read is not taken for the next answer: the connection is given up.
    assert fake.connections == (2 if size == 200_000 else 1)


def test_the_rest_of_an_error_page_is_not_waited_for(registry: Start) -> None:
    # The rest is not even there yet, so that nothing but the close tells that this connection is of no more use.
    fake = registry()
    fake.put_image("app", "1")
    fake.fail(Fault(status=400, body=b"x" * 131_072, content_length=str(10 ** 12)), times=1)
    client = to(fake)
    failure(client)
    assert client.send(get()).body == fake.manifests["app"]["1"].raw
    assert (client.request_count, fake.connections) == (2, 2)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "GZIP", "gzip, identity", "x"])
def test_a_compressed_body_is_refused_and_never_unpacked(registry: Start, encoding: str) -> None:
    fake = registry()
    fake.put_image("app", "1")
    fault = Fault.gzip(b"x" * 90_000)
    fake.fail(Fault(headers={"Content-Encoding": encoding}, body=fault.body))
    assert "compressed" in failure(to(fake))
    assert len(fake.log) == 1


@pytest.mark.parametrize("encoding", ["identity", "Identity", ""])
def test_identity_is_no_compression(registry: Start, encoding: str) -> None:
    fake = registry()
    fake.put_image("app", "1")
    fake.fail(Fault(headers={"Content-Encoding": encoding}))
    assert to(fake).send(get()).body == fake.manifests["app"]["1"].raw


@pytest.mark.parametrize("length", ["\u00b2", "-1", "1e3", "x"])
def test_a_hostile_content_length_is_an_error_or_ignored(registry: Start, length: str) -> None:
    fake = registry()
    fake.put_image("app", "1")
    fake.fail(Fault(content_length=length))
    with contextlib.suppress(RegistryError):
        assert to(fake, timeout=0.3).send(get()).body == fake.manifests["app"]["1"].raw


# Time --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [
    Fault(delay=5),
    Fault(trickle=0.05),
    Fault(trickle=0.05, chunked=True),
    Fault(trickle=0.05, content_length=""),
    Fault(trickle=5),
    Fault(trickle_headers=0.05),
    Fault(trickle_headers=0.007, headers={"X-Long": "x" * 200}),
    Fault(status=503, trickle=0.05, body=b"x" * 200),
], ids=["silence", "body", "chunks", "until-close", "one-byte", "status-line", "headers", "error-page"])
def test_nothing_takes_longer_than_the_timeout(registry: Start, fault: Fault) -> None:
    fake = registry()
    fake.put_image("app", "1")
    fake.fail(fault)
    begun = time.monotonic()
    failure(to(fake, timeout=0.3))
    assert 0.25 < time.monotonic() - begun < _HANGS


def test_the_time_of_retries_counts(registry: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "_FIRST_DELAY", 0.2)
    fake = registry()
    fake.fail(Fault(status=503, delay=0.3))
    cause = failure(to(fake, timeout=0.7))
    assert "503" in cause
    assert len(fake.log) < 5


def test_what_went_wrong_is_told_when_the_pause_outlasts_the_time(
    registry: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A busy machine wakes late.
    monkeypatch.setattr(transport.time, "sleep", lambda seconds, pause=time.sleep: pause(seconds + 1))
    fake = registry()
    fake.fail(Fault(status=503))
    assert "503" in failure(to(fake, timeout=1))
    assert len(fake.log) == 1


def test_what_went_wrong_is_told_where_the_time_ends_in_the_next_attempt(
    registry: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = registry()
    fake.fail(Fault(status=500), times=1)
    fake.fail(Fault(delay=5.0))
    monkeypatch.setattr(transport, "_FIRST_DELAY", 0.01)
    with pytest.raises(RegistryError) as caught:
        to(fake, timeout=0.5).send(get())
    assert "500" in caught.value.cause
    # The time is over: nobody shall begin anew because of it.
    assert not caught.value.is_transient
    assert len(fake.log) == 2


def test_a_refusal_that_is_heard_late_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*_arguments: object) -> t.NoReturn:
        time.sleep(0.2)
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(wire, "connect", connect)
    assert "refused" in failure(to("127.0.0.1:1", timeout=0.1))


def test_the_time_of_redirects_counts(registry: Start) -> None:
    fake = registry()
    fake.fail(Fault(status=307, headers={"Location": "/v2/app/manifests/1"}, delay=0.15))
    assert "within 0.5 seconds" in failure(to(fake, timeout=0.5))


def test_sixteen_threads_before_a_silent_registry_all_end_in_time(registry: Start) -> None:
    fake = registry()
    fake.fail(Fault(delay=5))
    client = to(fake, timeout=0.4)
    begun = time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        causes = list(pool.map(failure, [client] * 16))
    # One after the other would take more than six seconds.
    assert time.monotonic() - begun < 5
    assert len(causes) == 16


def test_nothing_is_sent_when_the_time_is_over(registry: Start) -> None:
    fake = registry()
    client = to(fake, timeout=3)
    with pytest.raises(RegistryError) as caught:
        client._exchange(get(), f"{fake.url}/v2/", {}, time.monotonic() - 0.001)
    assert "no answer within 3 seconds" in caught.value.cause
    assert (fake.log, client.request_count) == ([], 0)


def test_a_refused_connection_is_retried_and_then_an_error() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        client = to(f"127.0.0.1:{unused.getsockname()[1]}")
        cause = failure(client)
    assert "Connection refused" in cause
    assert "0x" not in cause
    assert client.request_count == 5


@pytest.mark.parametrize(("text", "expected"), [
    ("Connection broken", "Connection broken"), ("", "OSError"), ("two\nlines", "two\\nlines"), ("x" * 300, "x" * 200),
])
def test_texts_of_libraries_are_shown_in_one_line(text: str, expected: str) -> None:
    assert failures.plain_text(OSError(text)) == expected


def test_a_name_that_does_not_exist_is_not_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_args: t.Any, **_kwargs: t.Any) -> t.NoReturn:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    client = to("registry.test:5000")
    assert "Name or service not known" in failure(client)
    assert client.request_count == 1


def test_garbage_is_an_error(registry: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        def talk() -> None:
            for _turn in range(5):
                peer = server.accept()[0]
                peer.recv(65536)
                peer.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
                peer.close()

        thread = threading.Thread(target=talk, daemon=True)
        thread.start()
        failure(to(f"127.0.0.1:{server.getsockname()[1]}"))


# Login -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("auth", ["basic", "bearer"])
def test_logs_in_with_given_credentials(registry: Start, auth: str) -> None:
    fake = registry(auth=auth, **LOGIN)
    fake.put_image("app", "1")
    assert to(fake, **LOGIN).send(get()).status == 200


@pytest.mark.parametrize("auth", ["basic", "bearer"])
def test_logs_in_with_the_auth_file(registry: Start, auth: str) -> None:
    fake = registry(auth=auth, **LOGIN)
    fake.put_image("app", "1")
    found = AuthFile("x", {fake.host: Credentials("robot", PASSWORD, "x")})
    assert to(fake, auth_file=found).send(get()).status == 200


def test_given_credentials_win_over_the_auth_file(registry: Start) -> None:
    fake = registry(auth="basic", **LOGIN)
    fake.put_image("app", "1")
    found = AuthFile("x", {fake.host: Credentials("robot", "wrong", "x")})
    assert to(fake, auth_file=found, **LOGIN).send(get()).status == 200


def test_other_settings_of_a_host_leave_the_auth_file_in_force(registry: Start) -> None:
    fake = registry(auth="basic", **LOGIN)
    fake.put_image("app", "1")
    found = AuthFile("x", {fake.host: Credentials("robot", PASSWORD, "x")})
    assert to(fake, auth_file=found, plain_http=True).send(get()).status == 200


def test_a_user_without_a_password_has_an_empty_one(registry: Start) -> None:
    fake = registry(auth="basic", username="robot", password="")
    fake.put_image("app", "1")
    assert to(fake, username="robot").send(get()).status == 200


def test_tokens_are_given_to_everybody_where_the_registry_does(registry: Start) -> None:
    fake = registry(auth="bearer")
    fake.put_image("app", "1")
    assert to(fake).send(get()).status == 200
    assert not fake.requests(path="/token")[0].authorized


@pytest.mark.parametrize("auth", ["basic", "bearer"])
def test_nothing_is_sent_before_it_is_asked_for(registry: Start, auth: str) -> None:
    fake = registry(auth=auth, **LOGIN)
    fake.put_image("app", "1")
    to(fake, **LOGIN).send(get())
    assert not fake.log[0].authorized
    plain = registry()
    plain.put_image("app", "1")
    client = to(plain, **LOGIN)
    client.send(get())
    client.send(get())
    assert [seen.authorized for seen in plain.log] == [False, False]


def test_a_bearer_registry_never_sees_the_password(registry: Start) -> None:
    fake = registry(auth="bearer", **LOGIN)
    fake.put_image("app", "1")
    to(fake, **LOGIN).send(get())
    assert [(seen.path.partition("?")[0], seen.authorization) for seen in fake.log] == [
        ("/v2/app/manifests/1", ""), ("/token", "basic"), ("/v2/app/manifests/1", "bearer"),
    ]


@pytest.mark.parametrize(("auth", "requests"), [("basic", 2), ("bearer", 3)])
def test_the_challenge_is_asked_for_once_and_there_is_no_ping(registry: Start, auth: str, requests: int) -> None:
    fake = registry(auth=auth, **LOGIN)
    fake.put_image("app", "1")
    client = to(fake, **LOGIN)
    client.send(get())
    assert client.request_count == len(fake.log) == requests
    client.send(get())
    client.send(get())
    assert client.request_count == len(fake.log) == requests + 2
    assert [seen for seen in fake.log if seen.path in ("/v2", "/v2/")] == []


def test_sixteen_threads_take_one_challenge_and_one_token_for_each_scope(registry: Start) -> None:
    fake = registry(auth="bearer", **LOGIN)
    names = ["app", "team/app"]
    for name in names:
        fake.put_image(name, "1")
    fake.fail(Fault(delay=0.05), path="/token")
    client = to(fake, **LOGIN)
    together = threading.Barrier(16)
    statuses: list[int] = []

    def work(number: int) -> None:
        name = names[number % 2]
        together.wait()
        for _turn in range(3):
            response = client.send(get(f"/v2/{name}/manifests/1", scope=f"repository:{name}:pull"))
            statuses.append(response.status)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert statuses == [200] * 48
    assert len(fake.requests(path="/token")) == 2
    assert len([seen for seen in fake.log if not seen.authorized]) == 1
    assert client.request_count == len(fake.log) == 48 + 2 + 1


# No lock for all tokens is held while one is fetched: the workers of a thousand repositories would take turns.
def test_a_slow_token_for_one_repository_does_not_hold_up_another(registry: Start) -> None:
    fake = registry(auth="bearer", **LOGIN)
    fake.put_image("app", "1")
    fake.put_image("slow", "1")
    client = to(fake, **LOGIN)
    client.send(get())
    fake.fail(Fault(delay=3), path="/token")
    slow = threading.Thread(target=client.send, args=(
        get("/v2/slow/manifests/1", scope="repository:slow:pull"),
    ))
    slow.start()
    time.sleep(0.1)
    begun = time.monotonic()
    client.send(get())
    taken = time.monotonic() - begun
    slow.join()
    assert taken < 2


def test_reading_and_writing_have_tokens_of_their_own(registry: Start) -> None:
    fake = registry(auth="bearer", **LOGIN)
    fake.put_image("app", "1")
    client = to(fake, **LOGIN)
    client.send(get())
    client.send(put())
    client.send(get())
    client.send(put())
    tokens = fake.requests(path="/token")
    assert [seen.path.partition("scope=")[2] for seen in tokens] == [
        "repository%3Aapp%3Apull", "repository%3Aapp%3Apull%2Cpush",
    ]


@pytest.mark.parametrize("auth", ["basic", "bearer"])
@pytest.mark.parametrize("given", [{}, {"username": "robot", "password": PASSWORD + "x"}], ids=["none", "wrong"])
def test_a_refusal_is_final_and_says_whose_credentials_were_used(
    registry: Start, auth: str, given: dict[str, t.Any]
) -> None:
    fake = registry(auth=auth, **LOGIN)
    fake.put_image("app", "1")
    with pytest.raises(RegistryError) as caught:
        to(fake, **given).send(get())
    assert caught.value.code == "unauthorized"
    assert ("user 'robot' (credentials from registries)" if given else "no credentials are known") in str(caught.value)
    assert PASSWORD not in str(caught.value)
    assert len(fake.log) <= 3


@pytest.mark.parametrize("auth", ["basic", "bearer"])
def test_logs_in_with_what_a_credential_helper_says(registry: Start, auth: str) -> None:
    fake = registry(auth=auth, **LOGIN)
    fake.put_image("app", "1")
    asked: list[tuple[str, str]] = []

    def helper(program: str, server: str) -> Credentials:
        asked.append((program, server))
        return Credentials(LOGIN["username"], LOGIN["password"], "credential helper x")

    client = to(fake, auth_file=AuthFile("x", {}, {fake.host: "x"}, None, helper))
    assert [client.send(get()).status for _turn in range(2)] == [200, 200]
    # Once for a run, however many requests there are.
    assert asked == [("x", fake.host)]


def test_a_refusal_names_the_helper_whose_credentials_were_used(registry: Start) -> None:
    fake = registry(auth="basic", **LOGIN)
    auth_file = AuthFile("x", {}, {}, "x", lambda _program, _server: Credentials("robot", "no", "credential helper x"))
    assert "credential helper x" in failure(to(fake, auth_file=auth_file), code="unauthorized")


def test_a_refused_password_is_sent_once(registry: Start) -> None:
    fake = registry(auth="basic", **LOGIN)
    fake.put_image("app", "1")
    failure(to(fake, username="robot", password="wrong"), code="unauthorized")
    assert len([seen for seen in fake.log if seen.authorized]) == 1


def test_a_token_that_allows_too_little_is_a_refusal(registry: Start) -> None:
    fake = registry(auth="bearer", actions=("pull",), **LOGIN)
    fake.put_image("app", "1")
    client = to(fake, **LOGIN)
    assert client.send(get()).status == 200
    assert "refuses user 'robot'" in failure(client, put(), "unauthorized")
    assert len(fake.requests("PUT")) <= 2


def test_a_403_is_a_refusal_and_not_repeated(registry: Start) -> None:
    fake = registry()
    fake.fail(Fault(status=403, body=b'{"errors":[{"code":"DENIED"}]}'))
    failure(to(fake), code="unauthorized")
    assert len(fake.log) == 1


@pytest.mark.parametrize("auth", ["basic", "bearer"])
def test_a_registry_may_begin_to_ask_later(registry: Start, auth: t.Any) -> None:
    fake = registry(**LOGIN)
    fake.put_image("app", "1")
    client = to(fake, **LOGIN)
    assert client.send(get()).status == 200
    fake.auth = auth
    assert client.send(get()).status == 200
    assert client.send(get()).status == 200


@pytest.mark.parametrize(("before", "after"), [("basic", "bearer"), ("bearer", "basic")])
def test_a_registry_may_change_how_it_asks(registry: Start, before: str, after: t.Any) -> None:
    fake = registry(auth=before, **LOGIN)
    fake.put_image("app", "1")
    client = to(fake, **LOGIN)
    client.send(get())
    fake.auth = after
    assert client.send(get()).status == 200


def test_a_token_that_was_revoked_is_replaced_once(registry: Start) -> None:
    fake = registry(auth="bearer", **LOGIN)
    fake.put_image("app", "1")
    client = to(fake, **LOGIN)
    client.send(get())
    fake.revoke_tokens()
    assert client.send(get()).status == 200
    assert len(fake.requests(path="/token")) == 2
    assert client.send(get()).status == 200
    assert len(fake.requests(path="/token")) == 2


def test_sixteen_threads_replace_a_revoked_token_once(registry: Start) -> None:
    fake = registry(auth="bearer", **LOGIN)
    fake.put_image("app", "1")
    client = to(fake, **LOGIN)
    client.send(get())
    fake.revoke_tokens()
    fake.fail(Fault(delay=0.05), path="/v2/", times=16)
    together = threading.Barrier(16)
    statuses: list[int] = []

    def work() -> None:
        together.wait()
        statuses.append(client.send(get()).status)

    threads = [threading.Thread(target=work) for _thread in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert statuses == [200] * 16
    assert len(fake.requests(path="/token")) == 2


def test_a_token_that_expired_by_our_clock_is_not_sent(registry: Start, sleeps: list[float]) -> None:
    fake = registry(auth="bearer", token_lifetime=300, **LOGIN)
    fake.put_image("app", "1")
    client = to(fake, **LOGIN)
    client.send(get())
    token = client._login.tokens["repository:app:pull"]
    client._login.tokens["repository:app:pull"] = Token(token.value, time.monotonic() - 1)
    client.send(get())
    assert [seen.authorization for seen in fake.log] == ["", "basic", "bearer", "basic", "bearer"]


def test_a_registry_that_refuses_every_token_is_left_alone(registry: Start) -> None:
    fake = registry(auth="bearer", **LOGIN)
    fake.put_image("app", "1")
    challenge = {"WWW-Authenticate": f'Bearer realm="{fake.url}/token"'}
    fake.fail(Fault(status=401, headers=challenge), path="/v2/")
    failure(to(fake, **LOGIN), code="unauthorized")
    assert len(fake.log) <= 5


@pytest.mark.parametrize("header", ["", "Negotiate", 'Bearer realm="file:///etc/passwd"'])
def test_a_challenge_that_is_not_understood_is_an_error(registry: Start, header: str) -> None:
    fake = registry()
    fake.fail(Fault(status=401, headers={"WWW-Authenticate": header} if header else {}))
    for _turn in range(2):
        with pytest.raises(RegistryError) as caught:
            to(fake, **LOGIN).send(get())
        assert caught.value.code == "unauthorized"
    assert [seen.authorized for seen in fake.log] == [False, False]


# Of several header fields of one name the last one must not win.
def test_one_of_several_challenges_is_answered(registry: Start) -> None:
    fake = registry(auth="basic", **LOGIN)
    fake.put_image("app", "1")

    def hook(seen: Seen) -> Fault | None:
        if seen.authorized:
            return None
        return Fault(status=401, headers={"WWW-Authenticate": 'Basic realm="r"\nNegotiate'})

    fake.faults.append(hook)
    assert to(fake, **LOGIN).send(get()).status == 200


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_token_service_that_refuses_is_a_refusal(registry: Start, status: int) -> None:
    fake = registry(auth="bearer", **LOGIN)
    fake.fail(Fault(status=status, body=b"canary-of-a-foreign"), path="/token")
    with pytest.raises(RegistryError) as caught:
        to(fake, **LOGIN).send(get())
    assert caught.value.code == "unauthorized"
    assert "canary" not in str(caught.value)
    assert len(fake.requests(path="/token")) == 1


# whatever a token service answers is a refusal, "it refuses user 'robot'": a page that is not there, a
# redirect and a fault of the service send the reader to the password. The status is not named.
@pytest.mark.parametrize("status", [404, 418, 307, 501])
def test_a_token_service_that_fails_is_an_error(registry: Start, status: int) -> None:
    fake = registry(auth="bearer", **LOGIN)
    fake.fail(Fault(status=status, headers={"Location": "/token2"}), path="/token")
    with pytest.raises(RegistryError) as caught:
        to(fake, **LOGIN).send(get())
    assert (caught.value.code, caught.value.attempt) == ("registry_error", "log in to the registry")
    assert str(status) in caught.value.cause
    assert len(fake.requests(path="/token")) == 1


@pytest.mark.parametrize("fault", [Fault.html(), Fault.html(status=502)], ids=["page", "page-502"])
def test_a_token_service_that_answers_with_a_page_is_an_error(registry: Start, fault: Fault) -> None:
    fake = registry(auth="bearer", **LOGIN)
    fake.fail(fault, path="/token")
    with pytest.raises(RegistryError) as caught:
        to(fake, timeout=1, **LOGIN).send(get())
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_token_service_is_retried(registry: Start, status: int) -> None:
    fake = registry(auth="bearer", **LOGIN)
    fake.put_image("app", "1")
    fake.fail(Fault(status=status), path="/token", times=1)
    assert to(fake, **LOGIN).send(get()).status == 200


def test_a_cut_connection_to_the_token_service_is_retried(registry: Start) -> None:
    fake = registry(auth="bearer", **LOGIN)
    fake.put_image("app", "1")
    fake.fail(Fault(hang_up=True), path="/token", times=1)
    assert to(fake, **LOGIN).send(get()).status == 200


# Callers take not_found for "there is no such image or signature".
def test_a_token_service_that_is_not_there_does_not_mean_that_the_image_is_not(registry: Start) -> None:
    fake = registry(auth="bearer", **LOGIN)
    fake.fail(Fault(status=404), path="/token")
    with pytest.raises(RegistryError) as caught:
        to(fake, **LOGIN).send(get())
    assert caught.value.code != "not_found"


def test_a_token_service_gets_limits_too(registry: Start) -> None:
    fake = registry(auth="bearer", **LOGIN)
    fake.fail(Fault(chunked=True, endless=True), path="/token")
    with pytest.raises(RegistryError) as caught:
        to(fake, timeout=2, **LOGIN).send(get())
    assert caught.value.code == "limit_exceeded"


def test_no_request_shows_credentials_in_its_repr(registry: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = registry(auth="bearer", **LOGIN)
    fake.put_image("app", "1")
    client = to(fake, **LOGIN)
    shown: list[str] = []
    genuine = Transport._exchange

    def spy(self: Transport, request: Request, *args: t.Any) -> t.Any:
        shown.append(repr(request))
        return genuine(self, request, *args)

    monkeypatch.setattr(Transport, "_exchange", spy)
    client.send(get())
    assert Credentials("robot", PASSWORD, "").basic() not in "".join(shown)


# Redirects ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_follows_redirects(registry: Start, status: int, method: str) -> None:
    fake, storage = registry(), registry()
    storage.put_image("app", "1")
    fake.fail(Fault.redirect(f"{storage.url}/v2/app/manifests/1", status))
    client = to(fake)
    assert client.send(get(method=method)).status == 200
    assert client.request_count == 2


@pytest.mark.parametrize("location", ["/v2/app/manifests/1", "1", "../manifests/1"])
def test_follows_relative_redirects_and_keeps_credentials(registry: Start, location: str) -> None:
    fake = registry(auth="basic", **LOGIN)
    fake.put_image("app", "1")
    fake.fail(Fault.redirect(location), path="/manifests/moved")
    assert to(fake, **LOGIN).send(get("/v2/app/manifests/moved")).status == 200
    assert fake.log[-1].authorized


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
def test_does_not_follow_redirects_of_writes(registry: Start, method: str) -> None:
    fake, other = registry(), registry()
    fake.fail(Fault.redirect(f"{other.url}/v2/app/manifests/1"))
    assert "answered 307" in failure(to(fake), get(method=method, body=b"{}"))
    assert other.log == []


@pytest.mark.parametrize("auth", ["basic", "bearer"])
def test_credentials_do_not_go_to_another_port(registry: Start, auth: str) -> None:
    fake, storage = registry(auth=auth, **LOGIN), registry()
    storage.put_image("app", "1")
    client = to(fake, **LOGIN)
    fake.put_image("app", "1")
    client.send(get())
    fake.fail(Fault.redirect(f"{storage.url}/v2/app/manifests/1"))
    assert client.send(get()).status == 200
    assert fake.log[-1].authorized
    assert [seen.authorized for seen in storage.log] == [False]


@pytest.mark.parametrize("auth", ["basic", "bearer"])
@pytest.mark.parametrize("host", ["other.test", "sub.registry.test", "127.0.0.1"])
def test_credentials_do_not_go_to_another_host_on_the_same_port(
    registry: Start, names: None, auth: str, host: str
) -> None:
    fake = registry(auth=auth, **LOGIN)
    fake.put_image("app", "1")
    name = f"localhost.test:{fake.port}" if host == "127.0.0.1" else f"registry.test:{fake.port}"
    fake.realm = f"http://{name}/token"
    client = to(name, plain_http=True, **LOGIN)
    if host == "127.0.0.1":
        # A redirect to this machine is refused for a registry elsewhere: nothing is sent at all.
        fake.fail(Fault.redirect(f"http://{host}:{fake.port}/v2/app/blobs/x"), path="/manifests/")
        with pytest.raises(RegistryError):
            client.send(get())
        return
    client.send(get())
    fake.fail(Fault.redirect(f"http://{host}:{fake.port}/v2/app/blobs/x"), path="/manifests/")
    with pytest.raises(RegistryError):
        client.send(get())
    arrived = fake.requests(path="/blobs/")
    assert arrived
    assert not any(seen.authorized for seen in arrived)


def test_credentials_do_not_go_to_another_scheme(
    registry: Start, names: None, authority: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    secure = registry(certificate=authority.certificate)
    secure.put_image("app", "1")
    fake = registry(auth="basic", **LOGIN)
    fake.put_image("app", "1")
    client = to(fake, ca_path=authority.ca_path, plain_http=True, **LOGIN)
    client.send(get())
    # The same host and, as far as the rule can see, the same port: only the scheme differs.
    monkeypatch.setattr(location, "origin", _with_port(location.origin, fake.port))
    fake.fail(Fault.redirect(f"{secure.url}/v2/app/manifests/1"))
    assert client.send(get()).status == 200
    assert [seen.authorized for seen in secure.log] == [False]


def _with_port(genuine: t.Callable[[str], t.Any], port: int) -> t.Callable[[str], t.Any]:
    return lambda url: (*genuine(url)[:2], port)


def test_credentials_come_back_with_the_registry(registry: Start) -> None:
    fake, other = registry(auth="basic", **LOGIN), registry()
    fake.put_image("app", "1")
    fake.fail(Fault.redirect(f"{other.url}/away"), path="/manifests/moved")
    other.fail(Fault.redirect(f"{fake.url}/v2/app/manifests/1"))
    assert to(fake, **LOGIN).send(get("/v2/app/manifests/moved")).status == 200
    assert [seen.authorized for seen in other.log][-1:] == [False]


# Its realm would then get the password. Only an answer from the registry's origin may teach.
@pytest.mark.parametrize("auth", ["basic", "bearer", None])
@pytest.mark.parametrize("scheme", ["Bearer", "Basic"])
@pytest.mark.parametrize("first", [True, False])
def test_the_challenge_of_a_redirects_target_is_never_learnt(
    registry: Start, auth: str | None, scheme: str, first: bool
) -> None:
    fake, evil = registry(auth=None if first else auth, **LOGIN), registry()
    fake.put_image("app", "1")
    challenge = {"WWW-Authenticate": f'{scheme} realm="{evil.url}/token"'}
    evil.fail(Fault(status=401, headers=challenge), path="/blob")
    client = to(fake, **LOGIN)
    if not first:
        client.send(get())
    learnt = client._login and client._login.challenge
    fake.fail(Fault.redirect(f"{evil.url}/blob"), path="/manifests/moved")
    for _turn in range(2):
        failure(client, get("/v2/app/manifests/moved"), "unauthorized")
    assert (client._login and client._login.challenge) == learnt
    assert [seen.path for seen in evil.log] == ["/blob", "/blob"]
    assert [seen for seen in evil.log if seen.authorized] == []
    assert len(fake.requests(path="/token")) == (1 if auth == "bearer" and not first else 0)
    # The registry itself is still answered.
    fake.auth = t.cast(t.Any, auth)
    assert client.send(get()).status == 200


# urlsplit takes what follows "@" for the host, urllib3 ends the host at the backslash: the rule would look at the
# registry, and the connection go elsewhere.
@pytest.mark.parametrize("url", [
    "http://{evil}\\@{own}/v2/app/manifests/1", "http://{evil}\\.{own}/x", "http://{own}@{evil}/x",
    "http://robot:x@{own}/v2/app/manifests/1", "http:\\\\{evil}/x", "/\\{evil}/x",
])
def test_a_location_that_two_parsers_read_differently_is_refused(registry: Start, url: str) -> None:
    fake, evil = registry(auth="basic", **LOGIN), registry()
    fake.put_image("app", "1")
    client = to(fake, **LOGIN)
    client.send(get())
    fake.fail(Fault.redirect(url.format(evil=evil.host, own=fake.host)), path="/manifests/moved")
    assert "is not a plain HTTP URL" in failure(client, get("/v2/app/manifests/moved"))
    assert evil.log == []
    assert fake.log[-1].path == "/v2/app/manifests/moved"


@pytest.mark.parametrize("hops", [5, 6])
def test_at_most_five_redirects(registry: Start, hops: int) -> None:
    fake = registry()
    fake.put_image("app", "1")
    fake.fail(Fault.redirect("/v2/app/manifests/1"), times=hops)
    client = to(fake)
    if hops == 5:
        assert client.send(get()).status == 200
    else:
        assert "redirected more than five times" in failure(client)
    assert client.request_count == 6


@pytest.mark.parametrize("headers", [{}, {"Location": ""}])
def test_a_redirect_to_nowhere_is_an_error(registry: Start, headers: dict[str, str]) -> None:
    fake = registry()
    fake.fail(Fault(status=302, headers=headers))
    failure(to(fake))


@pytest.mark.parametrize("location", [
    "file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1:70/x", "javascript:1", "data:,x", "https:///x",
])
def test_redirects_to_other_schemes_are_refused(registry: Start, location: str) -> None:
    fake = registry()
    fake.fail(Fault.redirect(location))
    assert "is not a plain HTTP URL" in failure(to(fake))
    assert len(fake.log) == 1


@pytest.mark.parametrize("location", [
    "http://[::1/x", "http://127.0.0.1:99999/x", "http://127.0.0.1:port/x", "//[", "http://[x]/",
    "http://127.0.0.1:0/x", "http://127.0.0.1:/x", "http://[::1]x/", "/x y", "/\x7f", "/\xe9",
])
def test_a_redirect_to_a_broken_url_is_an_error(registry: Start, location: str) -> None:
    fake = registry(auth="basic", **LOGIN)
    fake.put_image("app", "1")
    client = to(fake, **LOGIN)
    client.send(get())
    fake.fail(Fault.redirect(location), path="/manifests/moved")
    failure(client, get("/v2/app/manifests/moved"))
    assert fake.log[-1].path == "/v2/app/manifests/moved"


@pytest.mark.parametrize("address", [
    "169.254.169.254", "169.254.0.1:80", "[fe80::1]", "[fe80::1%25eth0]", "[::ffff:169.254.169.254]",
    "[::ffff:a9fe:a9fe]", "2852039166", "0xa9fea9fe", "169.254.43518", "0251.0376.0251.0376", "169.254.169.254.",
])
@pytest.mark.parametrize("plain", [True, False])
def test_redirects_to_link_local_addresses_are_refused(
    registry: Start, authority: t.Any, address: str, plain: bool
) -> None:
    fake = registry() if plain else registry(certificate=authority.certificate)
    fake.fail(Fault.redirect(f"{'http' if plain else 'https'}://{address}/latest/meta-data"))
    client = to(fake, **({} if plain else {"ca_path": authority.ca_path}))
    # A zone is in no plain URL.
    assert ("is not a plain HTTP URL" if "%" in address else "which is not on its network") in failure(client)
    assert client.request_count == 1


@pytest.mark.parametrize("host", [
    "localhost", "127.0.0.1", "127.1.2.3", "[::1]", "x.localhost", "LOCALHOST", "localhost.", "0.0.0.0", "[::]",
    "[::ffff:127.0.0.1]", "127.1", "2130706433", "0x7f000001", "0177.0.0.1",
])
def test_a_registry_elsewhere_cannot_redirect_to_this_machine(registry: Start, names: None, host: str) -> None:
    fake, inner = registry(), registry()
    inner.put_image("app", "1")
    fake.fail(Fault.redirect(f"http://{host}:{inner.port}/v2/app/manifests/1"))
    client = to(f"registry.test:{fake.port}", plain_http=True)
    assert "which is not on its network" in failure(client)
    assert (inner.log, client.request_count) == ([], 1)


def test_a_registry_on_a_link_local_address_may_point_to_itself_only() -> None:
    # Nothing is sent: only the rule is asked.
    client = to("169.254.1.1:5000", plain_http=True)
    client._check_target("http://169.254.1.1:5000/x", get())
    with pytest.raises(RegistryError):
        client._check_target("http://169.254.1.2:5000/x", get())


def test_a_registry_on_this_machine_may_redirect_on_it(registry: Start) -> None:
    fake, inner = registry(), registry()
    inner.put_image("app", "1")
    fake.fail(Fault.redirect(f"http://127.0.0.1:{inner.port}/v2/app/manifests/1"))
    assert to(fake).send(get()).status == 200


def test_a_token_service_cannot_redirect(registry: Start) -> None:
    fake, evil = registry(auth="bearer", **LOGIN), registry()
    fake.fail(Fault.redirect(f"{evil.url}/token"), path="/token")
    with pytest.raises(RegistryError):
        to(fake, **LOGIN).send(get())
    assert evil.log == []


@pytest.mark.parametrize("host", [
    "127.0.0.1", "[::1]", "localhost", "2130706433", "[::ffff:7f00:1]", "169.254.169.254",
])
def test_a_realm_on_this_machine_is_refused_for_a_registry_elsewhere(
    registry: Start, names: None, host: str
) -> None:
    inner = registry()
    fake = registry(auth="bearer", realm=f"http://{host}:{inner.port}/token", **LOGIN)
    client = to(f"registry.test:{fake.port}", plain_http=True, **LOGIN)
    with pytest.raises(RegistryError) as caught:
        client.send(get())
    assert "which is not on its network" in caught.value.cause
    assert (inner.log, client.request_count) == ([], 1)


@pytest.mark.parametrize("location", ["http://169.254.169.254/x", "file:///etc/passwd"])
def test_a_location_from_the_registry_is_checked_before_the_first_request(registry: Start, location: str) -> None:
    fake = registry()
    client = to(fake)
    failure(client, put(location))
    assert client.request_count == 0


def test_an_upload_to_another_host_gets_no_credentials(registry: Start) -> None:
    fake, storage = registry(auth="basic", **LOGIN), registry()
    fake.put_image("app", "1")
    client = to(fake, **LOGIN)
    client.send(get())
    client.send(put(f"{storage.url}/v2/app/manifests/2"))
    assert [seen.authorized for seen in storage.log] == [False]


# TLS ---------------------------------------------------------------------------------------------------------------


def test_tls_with_a_ca(registry: Start, authority: t.Any) -> None:
    fake = registry(certificate=authority.certificate)
    fake.put_image("app", "1")
    assert to(fake, ca_path=authority.ca_path).send(get()).status == 200


@pytest.mark.parametrize("settings", ["none", "other-ca"])
def test_an_unknown_ca_is_refused_and_not_retried(
    registry: Start, authority: t.Any, other_authority: t.Any, settings: str
) -> None:
    fake = registry(certificate=authority.certificate)
    given = {"plain_http": False} if settings == "none" else {"ca_path": other_authority.ca_path}
    client = to(fake, **given, **LOGIN)
    assert "CERTIFICATE_VERIFY_FAILED" in failure(client)
    assert (client.request_count, fake.log) == (1, [])


def test_a_certificate_for_another_name_is_refused(registry: Start, names: None, authority: t.Any) -> None:
    fake = registry(certificate=authority.certificate)
    fake.put_image("app", "1")
    assert to(f"registry.test:{fake.port}", ca_path=authority.ca_path).send(get()).status == 200
    client = to(f"other.test:{fake.port}", ca_path=authority.ca_path)
    assert "CERTIFICATE_VERIFY_FAILED" in failure(client)
    assert (client.request_count, len(fake.log)) == (1, 1)


def test_validation_can_be_turned_off(registry: Start, names: None, authority: t.Any) -> None:
    fake = registry(certificate=authority.certificate)
    fake.put_image("app", "1")
    assert to(fake, plain_http=False, validate_certs=False).send(get()).status == 200
    assert to(f"other.test:{fake.port}", validate_certs=False).send(get()).status == 200


@pytest.mark.parametrize("given", [
    {"plain_http": False}, {"plain_http": False, "validate_certs": False}, {"ca_path": "ca"},
])
def test_https_never_falls_back_to_http(registry: Start, authority: t.Any, given: dict[str, t.Any]) -> None:
    fake = registry(auth="basic", **LOGIN)
    fake.put_image("app", "1")
    if "ca_path" in given:
        given = {"ca_path": authority.ca_path}
    failure(to(fake, **given, **LOGIN))
    assert fake.log == []


def test_a_registry_elsewhere_is_on_https_by_default(registry: Start, names: None) -> None:
    fake = registry()
    failure(to(f"registry.test:{fake.port}"))
    assert fake.log == []


@pytest.mark.parametrize(("host", "given", "scheme"), [
    ("registry.example", {}, "https"),
    ("registry.example:80", {}, "https"),
    ("registry:5000", {}, "https"),
    ("10.0.0.1:5000", {}, "https"),
    ("registry.example", {"plain_http": True}, "http"),
    ("localhost:5000", {}, "http"),
    ("127.0.0.1:5000", {}, "http"),
    ("[::1]:5000", {}, "http"),
    ("localhost:5000", {"plain_http": False}, "https"),
    ("localhost:5000", {"username": "x"}, "http"),
    ("localhost:5000", {"ca_path": "ca"}, "https"),
    ("localhost:5000", {"ca_path": "ca", "plain_http": True}, "http"),
])
def test_plain_http_is_the_default_for_this_machine_only(
    authority: t.Any, host: str, given: dict[str, t.Any], scheme: str
) -> None:
    if "ca_path" in given:
        given = {**given, "ca_path": authority.ca_path}
    assert to(host, **given)._base == f"{scheme}://{host}"


def test_the_api_host_is_asked_and_the_host_named(registry: Start) -> None:
    fake = registry()
    fake.put_image("app", "1")
    client = to("hub.example", api_host=fake.host)
    assert client.send(get()).status == 200
    fake.fail(Fault(status=400))
    failure(client)


@pytest.mark.parametrize("same_host", [True, False])
def test_a_redirect_from_https_to_http_is_refused(registry: Start, authority: t.Any, same_host: bool) -> None:
    fake, plain = registry(certificate=authority.certificate), registry()
    plain.put_image("app", "1")
    fake.fail(Fault.redirect(f"http://{fake.host if same_host else plain.host}/v2/app/manifests/1"))
    client = to(fake, ca_path=authority.ca_path, **LOGIN)
    assert "from HTTPS to plain HTTP" in failure(client)
    assert (client.request_count, plain.log) == (1, [])


def test_a_token_service_in_clear_is_refused_for_a_registry_on_tls(registry: Start, authority: t.Any) -> None:
    service = registry(auth="bearer", **LOGIN)
    fake = registry(auth="bearer", certificate=authority.certificate, realm=f"{service.url}/token", **LOGIN)
    with pytest.raises(RegistryError) as caught:
        to(fake, ca_path=authority.ca_path, **LOGIN).send(get())
    assert caught.value.code == "unauthorized"
    assert "plain HTTP" in caught.value.cause
    assert (service.log, len(fake.log)) == ([], 1)


def test_login_over_tls(registry: Start, authority: t.Any) -> None:
    fake = registry(auth="bearer", certificate=authority.certificate, **LOGIN)
    fake.put_image("app", "1")
    assert to(fake, ca_path=authority.ca_path, **LOGIN).send(get()).status == 200


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_a_ca_file_that_cannot_be_read_is_an_error(tmp_path: t.Any, content: bytes | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RegistryError) as caught:
        to("registry.example", ca_path=str(path))
    assert (caught.value.code, caught.value.object) == ("not_found" if content is None else "malformed", str(path))


# Identity tokens -----------------------------------------------------------------------------------------------------


CANARY = "canary-of-an-identity-token"


def with_token(fake: FakeRegistry, token: str = CANARY) -> AuthFile:
    return AuthFile("auth.json", {fake.host: Credentials("<token>", "", "auth.json", identity_token=token)})


def test_an_identity_token_goes_to_the_token_service_in_a_form_and_nowhere_else(registry: Start) -> None:
    fake = registry(auth="bearer", identity_token=CANARY)
    fake.put_image("app", "1")
    client = to(fake, auth_file=with_token(fake))
    assert [client.send(get()).status for _turn in range(2)] == [200, 200]
    (asked,) = fake.requests("POST", "/token")
    assert not asked.authorized
    assert CANARY.encode() in asked.body
    others = [seen for seen in fake.log if seen is not asked]
    assert not any(CANARY in f"{seen.path} {seen.headers} {seen.body!r}" for seen in others)


@pytest.mark.parametrize("auth", ["basic", "bearer"])
def test_a_refused_identity_token_is_an_error_that_does_not_show_it(registry: Start, auth: str) -> None:
    fake = registry(auth=auth, username="<token>", identity_token="another")
    fake.put_image("app", "1")
    with pytest.raises(RegistryError) as caught:
        to(fake, auth_file=with_token(fake)).send(get())
    assert (caught.value.code, CANARY in str(caught.value)) == ("unauthorized", False)
    # Least of all it is sent as a password.
    assert not any(seen.authorized for seen in fake.log)


def test_an_identity_token_does_not_go_where_a_password_would_not(registry: Start) -> None:
    other = registry(auth="bearer", identity_token=CANARY)
    fake = registry(auth="bearer", identity_token=CANARY, realm="http://169.254.169.254/token")
    with pytest.raises(RegistryError):
        to(fake, auth_file=with_token(fake)).send(get())
    assert other.log == []


def test_a_token_that_runs_out_in_the_middle_of_a_run_is_renewed(registry: Start) -> None:
    fake = registry(auth="bearer", identity_token=CANARY)
    fake.put_image("app", "1")
    client = to(fake, auth_file=with_token(fake))
    for _turn in range(3):
        assert client.send(get()).status == 200
        fake.revoke_tokens()
    assert len(fake.requests("POST", "/token")) == 3


def test_a_registry_may_want_a_login_after_it_did_not(registry: Start) -> None:
    fake = registry(identity_token=CANARY)
    fake.put_image("app", "1")
    client = to(fake, auth_file=with_token(fake))
    assert client.send(get()).status == 200
    fake.auth = "bearer"
    assert client.send(get()).status == 200
