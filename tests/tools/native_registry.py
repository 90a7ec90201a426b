# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A small registry with the native referrers API, whole enough for cosign, oras, skopeo and containerd, for tests.

    native_registry.py [--port PORT] [--page-size N] [--absolute-links] [--no-filters] [--delay SECONDS]

It prints HOST:PORT and answers on plain HTTP, from memory, until its standard input ends. It is the FakeRegistry of
the unit tests and adds what other clients than ours need: chunked bodies, lists of tags, deletion of blobs, and filters
and absolute links in lists of referrers.
"""

from __future__ import annotations

import argparse
import hashlib
import pathlib
import random
import re
import sys
import threading
import typing as t
from urllib.parse import urlencode, urlsplit

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "unit"))

from fake_registry import (
    _JSON,
    OCI_INDEX,
    Answer,
    FakeRegistry,
    Seen,
    _error,
    _Handler,
    _json,
    _Server,
)

_TAGS = re.compile(r"/v2/(?P<repository>.+)/tags/list")


class NativeRegistry(FakeRegistry):
    """A registry of OCI 1.1; use it as a context manager, like FakeRegistry.

    absolute_links: name the next page with scheme and host; filters: honour artifactType and say so. delay: each PUT
    of a manifest takes up to so many seconds, one half before it is acted on, the other before it is answered.
    tags_survive: a manifest that was deleted by its digest is still there by its tags, as in go-containerregistry's.
    """

    handler: type[NativeHandler]

    def __init__(
        self, *, port: int = 0, absolute_links: bool = False, filters: bool = True, delay: float = 0.0,
        tags_survive: bool = False, **options: t.Any,
    ) -> None:
        super().__init__(**{"referrers": True, **options})
        self.absolute_links = absolute_links
        self.filters = filters
        self.delay = delay
        self.tags_survive = tags_survive
        self._server.server_close()
        self._server = _NativeServer(self, port)
        self.port = self._server.server_address[1]
        self.host = f"127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.003,), daemon=True)

    def tags(self, repository: str) -> list[str]:
        """Return the tags of a repository, sorted."""
        return sorted(reference for reference in self.manifests.get(repository, {}) if ":" not in reference)

    def broken_tags(self, repository: str) -> list[str]:
        """Return the tags whose manifest, or something that it names, is not there whole."""
        return [tag for tag in self.tags(repository) if not self._is_whole(repository, tag)]

    def _is_whole(self, repository: str, reference: str) -> bool:
        stored = self.manifests.get(repository, {}).get(reference)
        if stored is None:
            return False
        members = stored.members
        blobs = [*members.get("layers", []), *([members["config"]] if "config" in members else [])]
        held = self.blobs.get(repository, {})
        return all(
            held.get(blob["digest"]) is not None and len(held[blob["digest"]]) == blob["size"]
            and _digest(held[blob["digest"]], blob["digest"]) == blob["digest"] for blob in blobs
        ) and all(self._is_whole(repository, child["digest"]) for child in members.get("manifests", []))

    # The API ---------------------------------------------------------------------------------------------------

    def _answer(self, seen: Seen) -> Answer:
        match = _TAGS.fullmatch(urlsplit(seen.path).path)
        if match is None:
            return super()._answer(seen)
        if match["repository"] not in self.manifests:
            return Answer(404, _JSON, _error("NAME_UNKNOWN"))
        refusal = self._refuse(seen, match["repository"])
        return refusal or Answer(200, _JSON, _json({
            "name": match["repository"], "tags": self.tags(match["repository"]),
        }))

    def _manifests(self, seen: Seen, repository: str, reference: str) -> Answer:
        known = self.manifests.get(repository, {})
        if seen.method == "DELETE" and self.tags_survive and self.deletable and ":" in reference and reference in known:
            del known[reference]
            return Answer(202)
        return super()._manifests(seen, repository, reference)

    def _list_referrers(self, repository: str, digest: str, query: dict[str, str]) -> Answer:
        if not self.referrers:
            return super()._list_referrers(repository, digest, query)
        wanted = query.get("artifactType", "") if self.filters else ""
        entries = []
        for reference, stored in sorted(self.manifests.get(repository, {}).items()):
            members = stored.members
            if ":" not in reference or members.get("subject", {}).get("digest") != digest:
                continue
            kind = members.get("artifactType") or members.get("config", {}).get("mediaType", "")
            notes = {"annotations": members["annotations"]} if "annotations" in members else {}
            if wanted in ("", kind):
                entries.append({
                    "mediaType": stored.media_type, "size": len(stored.raw), "digest": reference,
                    "artifactType": kind, **notes,
                })
        headers = {"Content-Type": OCI_INDEX}
        if wanted:
            headers["OCI-Filters-Applied"] = "artifactType"
        start = int(query.get("start", "0"))
        if self.page_size:
            if start + self.page_size < len(entries):
                further = urlencode({**query, "start": str(start + self.page_size)})
                path = f"/v2/{repository}/referrers/{digest}?{further}"
                headers["Link"] = f'<{self.url if self.absolute_links else ""}{path}>; rel="next"'
            entries = entries[start:start + self.page_size]
        return Answer(200, headers, _json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}))

    def _blobs(self, seen: Seen, repository: str, last: str, query: dict[str, str]) -> Answer:
        if seen.method == "DELETE" and last in self.blobs.get(repository, {}):
            del self.blobs[repository][last]
            return Answer(202)
        return super()._blobs(seen, repository, last, query)


class NativeHandler(_Handler):
    """Reads bodies in chunks, too, and knows PATCH."""

    def _serve(self) -> None:
        registry = t.cast(NativeRegistry, self.server.registry)
        scheme, _space, secret = self.headers.get("Authorization", "").partition(" ")
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            body = self._body(headers)
        except (OSError, ValueError):
            # Nobody is there any more: what came of the body is dropped, as registries do.
            self.close_connection = True
            return
        wait = registry.delay if self.command == "PUT" and "/manifests/" in self.path else 0.0
        registry.stopping.wait(random.uniform(0.0, wait / 2))
        seen = Seen(self.command, self.path, scheme.lower(), secret, headers, body, self.client_address)
        try:
            answer, fault = registry.respond(seen)
        except BaseException as exc:
            registry.errors.append(exc)
            raise
        registry.stopping.wait(random.uniform(0.0, wait / 2))
        try:
            self._send(answer, fault)
        except OSError:
            self.close_connection = True

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_PATCH = _serve

    def _body(self, headers: t.Mapping[str, str]) -> bytes:
        if headers.get("transfer-encoding", "").lower() != "chunked":
            length = int(headers.get("content-length", "0"))
            body = self.rfile.read(length)
            if len(body) != length:
                raise ValueError("the body ends early")
            return body
        data = bytearray()
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return bytes(data)


NativeRegistry.handler = NativeHandler


class _NativeServer(_Server):
    def __init__(self, registry: NativeRegistry, port: int) -> None:
        self.registry = registry
        # Not what its parent does, which takes any free port.
        super(_Server, self).__init__(("127.0.0.1", port), registry.handler)


def _digest(data: bytes, like: str) -> str:
    algorithm = like.partition(":")[0]
    if algorithm not in ("sha256", "sha384", "sha512"):
        return ""
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--page-size", type=int, default=0)
    parser.add_argument("--absolute-links", action="store_true")
    parser.add_argument("--no-filters", action="store_true")
    parser.add_argument("--delay", type=float, default=0.0)
    given = parser.parse_args()
    with NativeRegistry(
        port=given.port, page_size=given.page_size, absolute_links=given.absolute_links, filters=not given.no_filters,
        delay=given.delay,
    ) as registry:
        print(registry.host, flush=True)
        sys.stdin.read()
    return 0


if __name__ == "__main__":
    sys.exit(main())
