# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small container engine in this process: docker's API over HTTP, so that the real SDK is between it and the code.

Events, status codes and messages are those of dockerd 20.10 (API 1.41), taken down from a real one.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import tarfile
import threading
import typing as t
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

from ansible_collections.hallmark.signing.tests.unit.fake_registry import OCI_CONFIG, OCI_MANIFEST, FakeRegistry

Events = list[dict[str, t.Any]]
_ROUTE = re.compile(r"/v1\.41/(?P<first>images|build)(?:/(?P<name>.+))?")


def image_id(text: str) -> str:
    """Return an image id."""
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


@dataclass(frozen=True)
class Call:
    """One request that changes something: its last word, its query, who asked, and the files of a build context."""

    what: str
    query: dict[str, str]
    auth: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    modes: dict[str, str] = field(default_factory=dict)

    @property
    def dockerfile(self) -> str:
        """The text of the Dockerfile that was built."""
        return self.files[self.query["dockerfile"]]


class FakeEngine:
    """An engine on 127.0.0.1; use it as a context manager.

    images maps names to (id, labels). calls lists what was asked for. With a registry, pulls come from it and
    pushes go to it; else a push reports digest. say replaces the events of "build", "pull" or "push"; refuse
    answers them with a status and a message; cut ends the connection after the events, or at once for inspect.
    """

    def __init__(self, registry: FakeRegistry | None = None) -> None:
        self.registry = registry
        self.images: dict[str, tuple[str, dict[str, str] | None]] = {}
        self.calls: list[Call] = []
        self.say: dict[str, Events] = {}
        self.refuse: dict[str, tuple[int, str]] = {}
        self.cut: set[str] = set()
        self.digest = f"sha256:{'ab' * 32}"
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._server.engine = self  # type: ignore[attr-defined]
        self.url = f"tcp://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> FakeEngine:
        self._thread.start()
        return self

    def __exit__(self, *_exception: t.Any) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def called(self, what: str) -> list[Call]:
        """Return the calls of one kind."""
        return [call for call in self.calls if call.what == what]

    def events(self, call: Call, name: str) -> Events:
        """Do what is asked and return what is said of it."""
        return self.say[call.what] if call.what in self.say else getattr(self, f"_{call.what}")(call, name)

    def _build(self, call: Call, _name: str) -> Events:
        labels = json.loads(call.query.get("labels", "{}"))
        new = image_id(json.dumps([call.files, labels], sort_keys=True))
        self.images[call.query["t"]] = (new, labels)
        return [
            {"stream": "Step 1/1 : FROM scratch"}, {"stream": "\n"}, {"stream": " ---> \n"},
            # Each stage has an id; the last one is that of the image.
            {"aux": {"ID": image_id("another stage")}}, {"aux": {"ID": new}},
            {"stream": f"Successfully built {new[7:19]}\n"}, {"stream": f"Successfully tagged {call.query['t']}\n"},
        ]

    def _pull(self, call: Call, _name: str) -> Events:
        name, tag = call.query["fromImage"], call.query["tag"]
        where = f"{name}@{tag}" if ":" in tag else f"{name}:{tag}"
        self.images[where] = (image_id(where), None)
        return [
            {"status": f"Pulling from {name.partition('/')[2]}", "id": where}, {"status": f"Digest: {tag}"},
            {"status": f"Status: Downloaded newer image for {where}"},
        ]

    def _push(self, call: Call, name: str) -> Events:
        tag, refers = call.query["tag"], {"status": f"The push refers to repository [{name}]"}
        if f"{name}:{tag}" not in self.images:
            text = f"An image does not exist locally with the tag: {name}"
            return [refers, {"errorDetail": {"message": text}, "error": text}]
        digest = self._store(name, tag) if self.registry else self.digest
        return [
            refers, {"status": "Preparing", "progressDetail": {}, "id": "4c16fa48a1cb"},
            {"status": f"{tag}: digest: {digest} size: 524"},
            {"progressDetail": {}, "aux": {"Tag": tag, "Digest": digest, "Size": 524}},
        ]

    def _store(self, name: str, tag: str) -> str:
        assert self.registry is not None
        repository = name.partition("/")[2]
        known, labels = self.images[f"{name}:{tag}"]
        config = json.dumps({"os": "linux", "id": known, "config": {"Labels": labels}}).encode()
        digest = self.registry.put_blob(repository, config)
        return self.registry.put_manifest(repository, {
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": [],
            "config": {"mediaType": OCI_CONFIG, "size": len(config), "digest": digest},
        }, tag=tag)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    @property
    def engine(self) -> FakeEngine:
        return t.cast(FakeEngine, self.server.engine)  # type: ignore[attr-defined]

    def log_message(self, format: str, *args: t.Any) -> None:
        pass

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if path.endswith("/version"):
            self._answer(200, {"ApiVersion": "1.41", "MinAPIVersion": "1.12", "Version": "20.10.24"})
            return
        match = _ROUTE.fullmatch(path)
        name = match["name"].rpartition("/json")[0] if match else ""
        if "inspect" in self.engine.cut:
            self.close_connection = True
        elif "inspect" in self.engine.refuse:
            self._refuse("inspect")
        elif name in self.engine.images:
            found, labels = self.engine.images[name]
            self._answer(200, {"Id": found, "RepoTags": [name], "Config": {"Labels": labels}})
        else:
            self._answer(404, {"message": f"No such image: {name}"})

    def do_POST(self) -> None:
        parts = urlsplit(self.path)
        match = _ROUTE.fullmatch(unquote(parts.path))
        query = {key: values[0] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
        name, _slash, word = (match["name"] or "build").rpartition("/") if match else ("", "", "")
        what = {"create": "pull"}.get(word, word)
        body = self._body()
        files, modes = _unpack(body) if what == "build" else ({}, {})
        auth = json.loads(base64.urlsafe_b64decode(self.headers.get("X-Registry-Auth", "bnVsbA==")))
        call = Call(what, query, auth, files, modes)
        self.engine.calls.append(call)
        if what in self.engine.refuse:
            self._refuse(what)
        elif what == "tag":
            known = dict(self.engine.images.values())
            if name not in known:
                self._answer(404, {"message": f"No such image: {name}"})
                return
            self.engine.images[f"{query['repo']}:{query['tag']}"] = (name, known[name])
            self._answer(201, None)
        else:
            self._stream(self.engine.events(call, name), cut=what in self.engine.cut)

    def _refuse(self, what: str) -> None:
        status, message = self.engine.refuse[what]
        self._answer(status, {"message": message})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while True:
            size = int(self.rfile.readline(), 16)
            body += self.rfile.read(size)
            self.rfile.readline()
            if not size:
                return body

    def _answer(self, status: int, document: t.Any) -> None:
        body = b"" if document is None else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, events: Events, *, cut: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in events:
            data = json.dumps(event).encode() + b"\r\n"
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.close_connection = cut
        if not cut:
            self.wfile.write(b"0\r\n\r\n")


def _unpack(archive: bytes) -> tuple[dict[str, str], dict[str, str]]:
    """Return what files a context has after it was unpacked: later members win."""
    files, modes = {}, {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar.getmembers():
            stream = tar.extractfile(member) if member.isfile() else None
            content = stream.read().decode("utf-8", "replace") if stream else f"-> {member.linkname}"
            files[member.name], modes[member.name] = content, f"{member.mode:04o}"
    return files, modes
