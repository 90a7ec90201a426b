# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The services of tests/tools in this process: a transparency log and a timestamp authority that can be told to lie."""

from __future__ import annotations

import argparse
import contextlib
import pathlib
import shutil
import threading
import typing as t
from http.server import ThreadingHTTPServer

from ansible_collections.hallmark.signing.tests.tools import timestamp_server, transparency_log
from cryptography.hazmat.primitives.asymmetric import ec, ed25519


@contextlib.contextmanager
def _serving(server: ThreadingHTTPServer) -> t.Iterator[str]:
    thread = threading.Thread(target=server.serve_forever, args=(0.003,), daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class FakeLog:
    """A log at C(url), which lies as soon as C(lie()) says how: see the faults of tests/tools/transparency_log.py."""

    def __init__(self, host: str, server: transparency_log.Server) -> None:
        self.host = host
        self.url = f"http://{host}"
        self.server = server

    @property
    def public_pem(self) -> bytes:
        """The public key of the log of version 1."""
        return transparency_log.public_bytes(self.server.first.key.public_key())

    def lie(self, kind: str | None, **more: t.Any) -> None:
        """Lie from now on; None: no longer."""
        self.server.set_fault({"kind": kind, **more})

    def answer(self, body: str | bytes = b"", *, status: int = 200, path: str = "", **headers: str) -> None:
        """Answer with this from now on, whatever is asked at paths that contain C(path)."""
        text = body if isinstance(body, str) else body.decode()
        self.lie("answer", body=text, status=status, headers=headers, path=path)

    @property
    def requests(self) -> list[str]:
        """All requests so far."""
        return self.server.requests

    @property
    def entries(self) -> int:
        """How many entries there are, the first of which is the log's own."""
        return len(self.server.first.bodies)


@contextlib.contextmanager
def fake_log() -> t.Iterator[FakeLog]:
    """Run a log."""
    name = "127.0.0.1"
    first = transparency_log.LogV1(ec.generate_private_key(ec.SECP256R1()), name)
    second = transparency_log.LogV2(ed25519.Ed25519PrivateKey.generate(), name)
    for log, proposed in zip((first, second), transparency_log.first_entries()):
        log.add(proposed)
    server = transparency_log.Server((name, 0), first, second)
    with _serving(server) as host:
        yield FakeLog(host, server)


class FakeStamper:
    """A timestamp authority at C(url); C(chain) is the file with its certificates. C(openssl) makes the tokens."""

    def __init__(self, host: str, server: timestamp_server.Server) -> None:
        self.url = f"http://{host}/stamp"
        self.server = server
        self.chain = server.folder / "chain.pem"

    @property
    def requests(self) -> int:
        """How many tokens were asked for."""
        return self.server.requests

    def lie(self, kind: str | None, **more: t.Any) -> None:
        """Lie from now on; None: no longer."""
        self.server.fault = {"kind": kind, **more} if kind else {}


def can_stamp() -> bool:
    """Whether there is the program that makes timestamps."""
    return shutil.which("openssl") is not None


@contextlib.contextmanager
def fake_stamper(folder: pathlib.Path) -> t.Iterator[FakeStamper]:
    """Run a timestamp authority."""
    given = argparse.Namespace(key="ec", essential="sha256", lifetime=[-3600, 86400])
    for one in (folder, folder / "other", folder / "inner"):
        timestamp_server.write_authority(one, given, usage="critical")
    server = timestamp_server.Server(("127.0.0.1", 0), folder, is_odd=False)
    with _serving(server) as host:
        yield FakeStamper(host, server)
