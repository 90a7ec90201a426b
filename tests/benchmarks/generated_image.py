# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A registry with one image of any size, whose bytes are made while they are sent; and one that only checks digests.

    generated_image.py source PORT GIBIBYTES     prints the reference of the image, then serves it
    generated_image.py sink PORT                 takes uploads, hashes them, keeps manifests only

Used by the benchmark of large copies. Nothing of this size is ever on a disk or in memory.
"""

from __future__ import annotations

import hashlib
import json
import sys
import typing as t
import urllib.parse
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BLOCK = bytes(range(256)) * 4096
GIBIBYTE = 1024**3
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


class Handler(BaseHTTPRequestHandler):
    """What both kinds have in common."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet."""

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Send a small answer."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class Source(Handler):
    """Serves one image of one generated layer."""

    blobs: t.ClassVar[dict[str, bytes]] = {}
    layer: tuple[str, int] = ("", 0)
    manifest: tuple[str, bytes] = ("", b"")

    def do_GET(self) -> None:
        """Serve."""
        what = self.path.partition("?")[0].rsplit("/", 1)[-1]
        digest, raw = self.manifest
        if "/manifests/" in self.path and what in ("latest", digest):
            self.answer(200, raw, Content_Type=MANIFEST, Docker_Content_Digest=digest)
        elif what in self.blobs:
            self.answer(200, self.blobs[what])
        elif what == self.layer[0]:
            self.generate()
        else:
            self.answer(404)

    do_HEAD = do_GET

    def generate(self) -> None:
        """Send the layer, from the offset of a Range header on."""
        start = int(self.headers.get("Range", "bytes=0-")[6:].partition("-")[0])
        size = self.layer[1]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(size - start))
        self.end_headers()
        while self.command == "GET" and start < size:
            offset = start % len(BLOCK)
            part = memoryview(BLOCK)[offset:offset + size - start]
            self.wfile.write(part)
            start += len(part)


class Sink(Handler):
    """Takes uploads and checks their digests."""

    uploads: t.ClassVar[dict[str, tuple[object, int]]] = {}
    stored: t.ClassVar[set[str]] = set()
    manifests: t.ClassVar[dict[str, bytes]] = {}

    def do_GET(self) -> None:
        """Serve manifests; blobs are only said to be there."""
        what = self.path.partition("?")[0].rsplit("/", 1)[-1]
        if "/manifests/" in self.path and what in self.manifests:
            self.answer(200, self.manifests[what], Content_Type=MANIFEST)
        else:
            self.answer(200 if what in self.stored and self.command == "HEAD" else 404)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        """Begin an upload."""
        name = uuid.uuid4().hex
        self.uploads[name] = (hashlib.sha256(), 0)
        self.answer(202, Location=f"{self.path.partition('?')[0]}{name}")

    def do_PATCH(self) -> None:
        """Take a part of an upload."""
        self.take(self.path.rsplit("/", 1)[-1])
        self.answer(202, Location=self.path)

    def do_PUT(self) -> None:
        """End an upload, or take a manifest."""
        path, _mark, query = self.path.partition("?")
        name = path.rsplit("/", 1)[-1]
        if "/manifests/" in path:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            self.manifests[name] = self.manifests[f"sha256:{hashlib.sha256(raw).hexdigest()}"] = raw
            self.answer(201)
            return
        self.take(name)
        digest = urllib.parse.parse_qs(query)["digest"][0]
        found, _size = self.uploads.pop(name)
        if f"sha256:{found.hexdigest()}" != digest:  # type: ignore[attr-defined]
            self.answer(400, b'{"errors":[{"code":"DIGEST_INVALID"}]}')
            return
        self.stored.add(digest)
        self.answer(201)

    def take(self, name: str) -> None:
        """Read the body into the hash."""
        digest, size = self.uploads[name]
        left = int(self.headers.get("Content-Length", "0"))
        while left and (part := self.rfile.read(min(left, len(BLOCK)))):
            digest.update(part)  # type: ignore[attr-defined]
            size += len(part)
            left -= len(part)
        self.uploads[name] = (digest, size)


def make_image(size: int) -> str:
    """Set up the source's image, with a layer of C(size) bytes; return its digest."""
    digest = hashlib.sha256()
    for start in range(0, size, len(BLOCK)):
        digest.update(memoryview(BLOCK)[:size - start])
    Source.layer = (f"sha256:{digest.hexdigest()}", size)
    config = json.dumps({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [Source.layer[0]]},
    }).encode()
    config_digest = f"sha256:{hashlib.sha256(config).hexdigest()}"
    Source.blobs[config_digest] = config
    raw = json.dumps({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config_digest, "size": len(config),
        },
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": Source.layer[0], "size": size,
        }],
    }).encode()
    Source.manifest = (f"sha256:{hashlib.sha256(raw).hexdigest()}", raw)
    return Source.manifest[0]


def main() -> int:
    """Run the command line."""
    kind, port = sys.argv[1], int(sys.argv[2])
    handler: type[Handler] = Sink
    line = f"127.0.0.1:{port}"
    if kind == "source":
        handler = Source
        line = f"127.0.0.1:{port}/large/image@{make_image(int(float(sys.argv[3]) * GIBIBYTE))}"
    with ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        server.daemon_threads = True
        print(line, flush=True)
        server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
