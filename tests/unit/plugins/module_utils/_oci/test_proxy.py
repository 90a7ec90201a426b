# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Proxies: which one a request goes through, by the environment, and a real one in between."""

from __future__ import annotations

import base64
import contextlib
import select
import socket
import threading
import typing as t
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import RegistryError
from ansible_collections.hallmark.signing.plugins.module_utils._oci.credentials import AuthFile
from ansible_collections.hallmark.signing.plugins.module_utils._oci.proxy import Proxy, proxy_for
from ansible_collections.hallmark.signing.plugins.module_utils._oci.reference import Reference
from ansible_collections.hallmark.signing.plugins.module_utils._oci.registry import Registries
from ansible_collections.hallmark.signing.plugins.module_utils._oci.transport import HostSettings, RegistrySettings
from ansible_collections.hallmark.signing.tests.unit.fake_registry import FakeRegistry

Start = t.Callable[..., FakeRegistry]
P = Proxy("http://proxy:3128")
Q = Proxy("http://other:3128")


@pytest.mark.parametrize(("url", "environment", "expected"), [
    ("https://r.io/", {}, None),
    ("https://r.io/", {"HTTPS_PROXY": "http://proxy:3128"}, P),
    ("https://r.io/", {"https_proxy": "http://proxy:3128"}, P),
    ("https://r.io/", {"HTTP_PROXY": "http://proxy:3128"}, None),
    ("http://r.io/", {"HTTP_PROXY": "http://proxy:3128"}, P),
    ("http://r.io/", {"HTTPS_PROXY": "http://proxy:3128"}, None),
    ("https://r.io/", {"ALL_PROXY": "http://proxy:3128"}, P),
    ("http://r.io/", {"all_proxy": "http://proxy:3128"}, P),
    ("https://r.io/", {"ALL_PROXY": "http://other:3128", "HTTPS_PROXY": "http://proxy:3128"}, P),
    ("https://r.io/", {"HTTPS_PROXY": "http://other:3128", "https_proxy": "http://proxy:3128"}, P),
    ("https://r.io/", {"HTTPS_PROXY": "", "https_proxy": ""}, None),
    ("https://r.io/", {"HTTPS_PROXY": "http://proxy:3128", "https_proxy": ""}, P),
    # As curl takes it: a host and a port.
    ("https://r.io/", {"HTTPS_PROXY": "proxy:3128"}, P),
    ("https://r.io/", {"HTTPS_PROXY": "HTTP://proxy:3128/"}, P),
    ("https://r.io/", {"HTTPS_PROXY": "https://proxy:3128"}, Proxy("https://proxy:3128")),
    ("https://r.io/", {"HTTPS_PROXY": "http://u:p@proxy:3128"}, Proxy("http://proxy:3128", "u:p")),
    ("https://r.io/", {"HTTPS_PROXY": "http://u:p%40x@proxy:3128"}, Proxy("http://proxy:3128", "u:p%40x")),
    ("https://r.io/", {"HTTPS_PROXY": "http://u:p@x@proxy:3128"}, Proxy("http://proxy:3128", "u:p@x")),
    # Exceptions.
    ("https://r.io/", {"HTTPS_PROXY": "proxy:3128", "NO_PROXY": "r.io"}, None),
    ("https://r.io/", {"HTTPS_PROXY": "proxy:3128", "no_proxy": "r.io"}, None),
    ("https://r.io/", {"HTTPS_PROXY": "proxy:3128", "NO_PROXY": "*"}, None),
    ("https://x.r.io/", {"HTTPS_PROXY": "proxy:3128", "NO_PROXY": "r.io"}, None),
    ("https://x.r.io/", {"HTTPS_PROXY": "proxy:3128", "NO_PROXY": ".r.io"}, None),
    ("https://evilr.io/", {"HTTPS_PROXY": "proxy:3128", "NO_PROXY": "r.io"}, P),
    ("https://r.io/", {"HTTPS_PROXY": "proxy:3128", "NO_PROXY": "a.io, r.io ,b.io"}, None),
    ("https://r.io:5000/", {"HTTPS_PROXY": "proxy:3128", "NO_PROXY": "r.io"}, None),
    ("https://r.io:5000/", {"HTTPS_PROXY": "proxy:3128", "NO_PROXY": "r.io:5000"}, None),
    ("https://r.io:5001/", {"HTTPS_PROXY": "proxy:3128", "NO_PROXY": "r.io:5000"}, P),
    ("https://10.1.2.3/", {"HTTPS_PROXY": "proxy:3128", "NO_PROXY": "10.1.2.3"}, None),
    # This machine itself.
    ("http://localhost:5000/", {"HTTP_PROXY": "proxy:3128"}, None),
    ("http://127.0.0.1:5000/", {"ALL_PROXY": "proxy:3128"}, None),
    ("http://127.1:5000/", {"ALL_PROXY": "proxy:3128"}, None),
    ("https://[::1]:5000/", {"HTTPS_PROXY": "proxy:3128"}, None),
    ("https://registry.localhost/", {"HTTPS_PROXY": "proxy:3128"}, None),
])
def test_the_environment_says_which_proxy(url: str, environment: dict[str, str], expected: Proxy | None) -> None:
    assert proxy_for(url, environment) == expected


def test_the_environment_of_the_process_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert proxy_for("https://r.io/") is None
    monkeypatch.setenv("https_proxy", "proxy:3128")
    assert proxy_for("https://r.io/") == P


@pytest.mark.parametrize("text", [
    "socks5://proxy:1080", "socks5h://canary:canary@proxy:1080", "ftp://proxy", "http://", "file:///x", "http:///",
    "http://canary@",
])
def test_a_proxy_of_another_kind_is_an_error(text: str) -> None:
    with pytest.raises(RegistryError) as caught:
        proxy_for("https://r.io/", {"HTTPS_PROXY": text})
    assert caught.value.code == "input_invalid"
    assert "canary" not in str(caught.value)


def test_a_login_does_not_show_in_texts() -> None:
    found = proxy_for("https://r.io/", {"HTTPS_PROXY": "http://robot:canary@proxy:1"})
    assert found is not None
    assert "canary" not in repr(found)
    assert "robot" not in found.url


# A proxy in between --------------------------------------------------------------------------------------------------


_OWN = ("host", "proxy-authorization")


class TinyProxy(BaseHTTPRequestHandler):
    """A proxy that knows every name below "test" as 127.0.0.1."""

    protocol_version = "HTTP/1.1"
    seen: t.ClassVar[list[tuple[str, str, str]]] = []
    login: t.ClassVar[str] = ""

    def log_message(self, format: str, *args: t.Any) -> None:
        pass

    def _refused(self) -> bool:
        given = self.headers.get("Proxy-Authorization", "")
        self.seen.append((self.command, self.path, self.headers.get("Authorization", "")))
        if not self.login or given == "Basic " + base64.b64encode(self.login.encode()).decode():
            return False
        self.send_response(407)
        self.send_header("Content-Length", "0")
        self.end_headers()
        return True

    def do_CONNECT(self) -> None:
        if self._refused():
            return
        port = int(self.path.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as other:
            self.send_response(200)
            self.end_headers()
            pairs = {self.connection: other, other: self.connection}
            while True:
                for ready in select.select(list(pairs), [], [], 5)[0]:
                    data = ready.recv(65536)
                    if not data:
                        self.close_connection = True
                        return
                    pairs[ready].sendall(data)

    def do_GET(self) -> None:
        if self._refused():
            return
        url = urlsplit(self.path)
        with socket.create_connection(("127.0.0.1", url.port or 80)) as other:
            lines = [f"{self.command} {url.path} HTTP/1.0", f"Host: {url.netloc}"]
            lines += [f"{name}: {value}" for name, value in self.headers.items() if name.lower() not in _OWN]
            other.sendall("\r\n".join([*lines, "Connection: close", "", ""]).encode())
            while data := other.recv(65536):
                self.wfile.write(data)
        self.close_connection = True


@pytest.fixture
def between(monkeypatch: pytest.MonkeyPatch) -> t.Iterator[t.Callable[..., type[TinyProxy]]]:
    """Starts a proxy and names it in the environment; what it saw is in its class."""
    with contextlib.ExitStack() as stack:

        def start(*, login: str = "", given: str = "") -> type[TinyProxy]:
            handler = type("Handler", (TinyProxy,), {"seen": [], "login": login})
            server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
            server.daemon_threads, server.block_on_close = True, False
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
            at = f"{given}@" if given else ""
            for name in ("HTTP_PROXY", "HTTPS_PROXY"):
                monkeypatch.setenv(name, f"http://{at}127.0.0.1:{server.server_address[1]}")
            return handler

        yield start


def client(host: str, **settings: t.Any) -> Registries:
    return Registries(RegistrySettings(AuthFile("none", {}), {host: HostSettings(**settings)}, 5.0))


@pytest.fixture
def unresolvable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no name be resolved here: the proxy does that."""
    genuine = socket.getaddrinfo

    def resolve(host: t.Any, *args: t.Any, **options: t.Any) -> t.Any:
        assert host in ("127.0.0.1", b"127.0.0.1"), f"{host} was resolved here"
        return genuine(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


@pytest.mark.usefixtures("unresolvable")
def test_tls_goes_through_a_tunnel(registry: Start, between: t.Any, authority: t.Any) -> None:
    fake = registry(certificate=authority.certificate, auth="bearer", username="robot", password="canary")
    fake.realm = f"https://registry.test:{fake.port}/token"
    digest = fake.put_image("app", "1")
    handler = between()
    host = f"registry.test:{fake.port}"
    known = client(host, ca_path=authority.ca_path, username="robot", password="canary")
    for _turn in range(2):
        assert known.manifest(Reference(host, "app", "1")).digest == digest
    # The proxy sees where to, and nothing else.
    assert set(handler.seen) == {("CONNECT", host, "")}
    assert all(seen.headers["host"] == host for seen in fake.log)
    assert not any("proxy-authorization" in seen.headers for seen in fake.log)


@pytest.mark.usefixtures("unresolvable")
def test_the_certificate_of_the_registry_is_checked_through_a_tunnel(
    registry: Start, between: t.Any, authority: t.Any, other_authority: t.Any
) -> None:
    fake = registry(certificate=authority.certificate)
    between()
    host = f"registry.test:{fake.port}"
    with pytest.raises(RegistryError) as caught:
        client(host, ca_path=other_authority.ca_path).manifest(Reference(host, "app", "1"))
    assert "certificate" in caught.value.cause.lower()
    assert fake.log == []


@pytest.mark.usefixtures("unresolvable")
def test_plain_http_goes_through_the_proxy(registry: Start, between: t.Any) -> None:
    fake = registry()
    digest = fake.put_image("app", "1")
    handler = between()
    host = f"registry.test:{fake.port}"
    assert client(host, plain_http=True).manifest(Reference(host, "app", "1")).digest == digest
    assert [entry[:2] for entry in handler.seen] == [("GET", f"http://{host}/v2/app/manifests/1")]


def test_this_machine_is_reached_without_the_proxy(registry: Start, between: t.Any) -> None:
    fake = registry()
    digest = fake.put_image("app", "1")
    handler = between()
    assert client(fake.host).manifest(Reference(fake.host, "app", "1")).digest == digest
    assert handler.seen == []


@pytest.mark.usefixtures("unresolvable")
@pytest.mark.parametrize("secure", [True, False])
@pytest.mark.parametrize(("given", "works"), [
    ("robot:p%40ss", True), ("robot:wrong-canary", False), ("", False),
])
def test_a_proxy_may_want_a_login(
    registry: Start, between: t.Any, authority: t.Any, secure: bool, given: str, works: bool
) -> None:
    fake = registry(**({"certificate": authority.certificate} if secure else {}))
    digest = fake.put_image("app", "1")
    between(login="robot:p@ss", given=given)
    host = f"registry.test:{fake.port}"
    known = client(host, **({"ca_path": authority.ca_path} if secure else {"plain_http": True}))
    if works:
        assert known.manifest(Reference(host, "app", "1")).digest == digest
    else:
        with pytest.raises(RegistryError) as caught:
            known.manifest(Reference(host, "app", "1"))
        assert "407" in caught.value.cause
        assert "canary" not in str(caught.value)
    assert not any("proxy-authorization" in seen.headers for seen in fake.log)


def test_a_proxy_that_is_down_is_an_error_without_its_login(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HTTPS_PROXY", f"http://robot:canary@127.0.0.1:{sock.getsockname()[1]}")
        with pytest.raises(RegistryError) as caught:
            client("registry.test", username="x", password="y").manifest(Reference("registry.test", "app", "1"))
    assert (caught.value.code, "canary" in str(caught.value)) == ("registry_error", False)


def test_a_wrong_proxy_fails_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://canary:canary@proxy:1080")
    with pytest.raises(RegistryError) as caught:
        client("registry.test").manifest(Reference("registry.test", "app", "1"))
    assert (caught.value.code, "canary" in str(caught.value)) == ("input_invalid", False)
