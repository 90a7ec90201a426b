# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small OCI registry in this process, for tests: real HTTP on 127.0.0.1, and every fault a test asks for."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import secrets
import ssl
import threading
import time
import typing as t
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"

_PATH = re.compile(r"/v2/(?P<repository>.+?)/(?P<kind>manifests|blobs|referrers)/(?P<last>.+)")
_ACTIONS = {"GET": "pull", "HEAD": "pull", "DELETE": "delete"}


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    """Return the digest of data as algorithm:hex."""
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


class Stored(t.NamedTuple):
    """One manifest or index as it was put."""

    media_type: str
    raw: bytes

    @property
    def digest(self) -> str:
        """The sha256 digest of the bytes."""
        return digest_of(self.raw)

    @property
    def members(self) -> dict[str, t.Any]:
        """The parsed document."""
        return t.cast("dict[str, t.Any]", json.loads(self.raw))


@dataclass(frozen=True)
class Seen:
    """One request as it arrived. ``authorization`` is its scheme in lower case, or "" where the header was absent."""

    method: str
    path: str
    authorization: str
    secret: str = field(repr=False)
    headers: t.Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    connection: t.Any = field(repr=False, compare=False)

    @property
    def authorized(self) -> bool:
        """Whether an Authorization header was present."""
        return bool(self.authorization)


@dataclass(frozen=True)
class Answer:
    """What the registry would say."""

    status: int
    headers: t.Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one answer.

    With a status, headers and body are sent instead of the genuine answer, and the registry does not act on
    the request. Without one the genuine answer is made, headers are added, body (if any) takes its place,
    and the rest of the members spoil how it travels.
    """

    status: int | None = None
    headers: t.Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    # Send only so many bytes of the body, then cut the connection.
    cut_after: int | None = None
    # Cut the connection without any answer; with acted, after the request was carried out.
    hang_up: bool = False
    acted: bool = False
    # Say this Content-Length whatever the body is; "" leaves the header out and closes afterwards.
    content_length: str | None = None
    # Send the body in chunks, without a Content-Length.
    chunked: bool = False
    # Seconds before the first byte; seconds between the bytes of the body, or of status line and headers.
    delay: float = 0.0
    trickle: float = 0.0
    trickle_headers: float = 0.0
    # Further bytes that follow the body for ever (with chunked): an endless body.
    endless: bool = False

    @staticmethod
    def redirect(url: str, status: int = 307) -> Fault:
        """Point to another URL; relative to this registry's root it redirects to itself."""
        return Fault(status=status, headers={"Location": url})

    @staticmethod
    def html(status: int = 200) -> Fault:
        """Answer with a login page."""
        return Fault(status=status, headers={"Content-Type": "text/html; charset=utf-8"}, body=_PAGE)

    @staticmethod
    def wrong_bytes() -> Fault:
        """Serve content that is not what the digest says."""
        return Fault(body=b'{"schemaVersion":2}')

    @staticmethod
    def gzip(data: bytes) -> Fault:
        """Answer with a compressed body."""
        return Fault(headers={"Content-Encoding": "gzip"}, body=gzip.compress(data))

    @staticmethod
    def too_many(retry_after: str = "") -> Fault:
        """Answer 429, with Retry-After where one is given."""
        return Fault(
            status=429, headers={"Retry-After": retry_after} if retry_after else {}, body=_error("TOOMANYREQUESTS")
        )


Hook = t.Callable[[Seen], t.Optional[Fault]]


class FakeRegistry:
    """A registry on 127.0.0.1 with a free port; use it as a context manager.

    with FakeRegistry(auth="bearer", username="robot", password="s3cret") as registry:
        digest = registry.put_image("app", "1")        # or put_index("app", "1", ["linux/amd64", "linux/arm64"])
        registry.fail(Fault(status=503), method="GET", path="/manifests/", times=2)
        ...                                            # talk to registry.host ("127.0.0.1:PORT")
        registry.log[-1].authorization                 # "bearer"; registry.requests("GET", "/blobs/") selects
        registry.manifests["app"]["1"].raw             # exact bytes; tag and digest are both keys
        registry.blobs["app"][digest]                  # exact bytes; write here to plant wrong ones

    It does not use the code under test: digests and manifests are made by hand. faults is a list of functions
    that see each request and return a Fault or None; the first Fault counts.

    auth: None, "basic" or "bearer". With credentials both want exactly these; bearer without credentials gives
    tokens to everybody. realm replaces the URL of the token service, actions limits what a token may do,
    token_lifetime is what the token service says and what is kept to (seconds).
    certificate: (certificate file, key file) turns TLS on.
    client_ca: a CA file; clients must show a certificate of it.
    identity_token: what the token service takes in a POST in place of a password.
    mounts: blobs are taken over from other repositories; ranges: parts of blobs are served.
    Uploads are as strict about offsets as those of the distribution project, and keep what arrived of a broken one.
    referrers: the native referrers API, page_size entries a page (0: all); announces: answer OCI-Subject.
    deletable: whether manifests may be deleted (else 405).
    """

    def __init__(
        self,
        *,
        auth: t.Literal["basic", "bearer"] | None = None,
        username: str = "",
        password: str = "",
        realm: str | None = None,
        actions: t.Collection[str] = ("pull", "push", "delete"),
        token_lifetime: int = 300,
        certificate: tuple[str, str] | None = None,
        client_ca: str = "",
        identity_token: str = "",
        mounts: bool = True,
        ranges: bool = True,
        referrers: bool = False,
        announces: bool = True,
        page_size: int = 0,
        deletable: bool = True,
    ) -> None:
        self.auth = auth
        self.username = username
        self.password = password
        self.realm = realm
        self.actions = actions
        self.token_lifetime = token_lifetime
        self.identity_token = identity_token
        self.mounts = mounts
        self.ranges = ranges
        self.referrers = referrers
        self.announces = announces
        self.page_size = page_size
        self.deletable = deletable
        self.manifests: dict[str, dict[str, Stored]] = {}
        self.blobs: dict[str, dict[str, bytes]] = {}
        self.log: list[Seen] = []
        self.faults: list[Hook] = []
        # Exceptions of the registry itself; a test that finds one here has found a mistake in this file.
        self.errors: list[BaseException] = []
        self.stopping = threading.Event()
        self._lock = threading.RLock()
        self._tokens: dict[str, tuple[tuple[str, ...], float]] = {}
        self.uploads: dict[str, bytearray] = {}
        self._breaks: list[list[t.Any]] = []
        self._tls: ssl.SSLContext | None = None
        if certificate is not None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(*certificate)
            if client_ca:
                self._tls.verify_mode = ssl.CERT_REQUIRED
                self._tls.load_verify_locations(client_ca)
        self._server = _Server(self)
        self.port: int = self._server.server_address[1]
        self.host = f"127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.003,), daemon=True)

    def __enter__(self) -> FakeRegistry:
        self._thread.start()
        return self

    def __exit__(self, *_exception: t.Any) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """Scheme and host of this registry."""
        return f"{'https' if self._tls else 'http'}://{self.host}"

    # Content ---------------------------------------------------------------------------------------------------

    def put_blob(self, repository: str, data: bytes) -> str:
        """Store a blob and return its digest."""
        digest = digest_of(data)
        with self._lock:
            self.blobs.setdefault(repository, {})[digest] = data
        return digest

    def put_manifest(
        self, repository: str, document: dict[str, t.Any] | bytes, *, tag: str = "", media_type: str = ""
    ) -> str:
        """Store a manifest or index under its digest, and under a tag where one is given; return the digest."""
        raw = document if isinstance(document, bytes) else _json(document)
        if not media_type:
            media_type = OCI_MANIFEST if isinstance(document, bytes) else document.get("mediaType", OCI_MANIFEST)
        stored = Stored(media_type, raw)
        with self._lock:
            references = self.manifests.setdefault(repository, {})
            references[stored.digest] = stored
            if tag:
                references[tag] = stored
        return stored.digest

    def put_image(self, repository: str, tag: str, *, platform: str = "linux/amd64") -> str:
        """Make a tiny image of one layer and return its digest; tag and platform make it unique."""
        system, _slash, architecture = platform.partition("/")
        layer = gzip.compress(f"{repository} {tag} {platform}".encode(), mtime=0)
        config = _json({"architecture": architecture, "os": system, "config": {"Labels": {"tag": tag}}})
        return self.put_manifest(repository, {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": self._descriptor(repository, OCI_CONFIG, config),
            "layers": [self._descriptor(repository, OCI_LAYER, layer)],
        }, tag=tag)

    def put_index(self, repository: str, tag: str, platforms: t.Sequence[str]) -> str:
        """Make an index with one tiny image per platform ("linux/arm64") and return its digest."""
        children = []
        for platform in platforms:
            # The children of an index have no tag of their own.
            digest = self.put_image(repository, f"{tag}-child", platform=platform)
            system, _slash, architecture = platform.partition("/")
            children.append({
                "mediaType": OCI_MANIFEST, "size": len(self.manifests[repository][digest].raw), "digest": digest,
                "platform": {"architecture": architecture, "os": system},
            })
        self.manifests.get(repository, {}).pop(f"{tag}-child", None)
        return self.put_manifest(
            repository, {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children}, tag=tag
        )

    def put_referrer(
        self, repository: str, subject: str, *, artifact_type: str = "application/example", note: str = ""
    ) -> str:
        """Store a manifest that refers to subject; it is not added to any fallback tag. Return its digest."""
        stored = self.manifests[repository][subject]
        return self.put_manifest(repository, {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": self._descriptor(repository, "application/vnd.oci.empty.v1+json", b"{}"),
            "layers": [],
            "annotations": {"note": note},
            "subject": {"mediaType": stored.media_type, "size": len(stored.raw), "digest": subject},
            "artifactType": artifact_type,
        })

    def _descriptor(self, repository: str, media_type: str, data: bytes) -> dict[str, t.Any]:
        return {"mediaType": media_type, "size": len(data), "digest": self.put_blob(repository, data)}

    # Observation and faults ------------------------------------------------------------------------------------

    def fail(self, fault: Fault, *, method: str = "", path: str = "", times: int = 1_000_000) -> None:
        """Let requests whose method is this and whose path contains that fail so many times."""
        left = [times]

        def hook(seen: Seen) -> Fault | None:
            if left[0] <= 0 or (method and seen.method != method) or path not in seen.path:
                return None
            left[0] -= 1
            return fault

        self.faults.append(hook)

    def break_body(self, after: int, *, method: str, path: str = "", times: int = 1) -> None:
        """Cut connections while such requests come in, after so many bytes of their body; those bytes count."""
        self._breaks.append([method, path, after, times])

    def breaks_after(self, method: str, path: str) -> int | None:
        """Say after how many bytes of a request's body its connection is cut."""
        with self._lock:
            for entry in self._breaks:
                if entry[0] == method and entry[1] in path and entry[3] > 0:
                    entry[3] -= 1
                    return t.cast(int, entry[2])
        return None

    def requests(self, method: str = "", path: str = "") -> list[Seen]:
        """Return the logged requests whose method is this and whose path contains that."""
        return [seen for seen in list(self.log) if path in seen.path and method in ("", seen.method)]

    @property
    def connections(self) -> int:
        """How many TCP connections requests came on."""
        return len({seen.connection for seen in list(self.log)})

    def revoke_tokens(self) -> None:
        """Make every token that was given invalid, as a restart of a token service does."""
        with self._lock:
            self._tokens.clear()

    # The API ---------------------------------------------------------------------------------------------------

    def respond(self, seen: Seen) -> tuple[Answer, Fault]:
        """Return the answer to a request and how it is to be spoilt."""
        with self._lock:
            self.log.append(seen)
            fault = next((found for found in (hook(seen) for hook in list(self.faults)) if found), Fault())
            if fault.status is not None:
                return Answer(fault.status, fault.headers, fault.body or b""), fault
            answer = Answer(500) if fault.hang_up and not fault.acted else self._answer(seen)
            body = answer.body if fault.body is None else fault.body
            return replace(answer, headers={**answer.headers, **fault.headers}, body=body), fault

    def _answer(self, seen: Seen) -> Answer:
        parts = urlsplit(seen.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/token":
            return self._give_token(seen, parse_qs(parts.query).get("scope", []))
        match = _PATH.fullmatch(parts.path)
        refusal = self._refuse(seen, match["repository"] if match else "")
        if refusal is not None:
            return refusal
        if match is None:
            return Answer(200, {}, b"{}") if parts.path == "/v2/" else _plain_404()
        kind = match["kind"]
        if kind == "manifests":
            return self._manifests(seen, match["repository"], match["last"])
        if kind == "referrers":
            return self._list_referrers(match["repository"], match["last"], query)
        return self._blobs(seen, match["repository"], match["last"], query)

    def _refuse(self, seen: Seen, repository: str) -> Answer | None:
        if self.auth == "basic":
            if seen.authorization == "basic" and seen.secret == self._basic():
                return None
            return Answer(401, {"WWW-Authenticate": 'Basic realm="fake registry"'}, _error("UNAUTHORIZED"))
        if self.auth == "bearer":
            action = _ACTIONS.get(seen.method, "push")
            scopes, expiry = self._tokens.get(seen.secret, ((), 0.0))
            query = parse_qs(urlsplit(seen.path).query)
            needed = [(repository, action), *((name, "pull") for name in query.get("from", []))]
            granted = {(name, one) for scope in scopes for name, one in _granted(scope)}
            if granted.issuperset(needed) and time.monotonic() < expiry:
                return None
            challenge = (
                f'Bearer realm="{self.realm or self.url + "/token"}",service="fake",'
                f'scope="repository:{repository}:{action}"'
            )
            return Answer(401, {"WWW-Authenticate": challenge}, _error("UNAUTHORIZED"))
        return None

    def _basic(self) -> str:
        return base64.b64encode(f"{self.username}:{self.password}".encode()).decode()

    def _give_token(self, seen: Seen, scopes: t.Sequence[str]) -> Answer:
        if seen.method == "POST":
            return self._refresh(seen)
        if self.username and seen.secret != self._basic():
            return Answer(401, {}, _error("UNAUTHORIZED"))
        return self._token(scopes)

    def _refresh(self, seen: Seen) -> Answer:
        form = {name: values[0] for name, values in parse_qs(seen.body.decode()).items()}
        given = form.get("grant_type") == "refresh_token" and form.get("client_id") and form.get("service") == "fake"
        if seen.authorized or not given or form.get("refresh_token") != self.identity_token or not self.identity_token:
            return Answer(401, {}, _error("UNAUTHORIZED"))
        return self._token(form.get("scope", "").split(" "), "access_token")

    def _token(self, scopes: t.Sequence[str], member: str = "token") -> Answer:
        token = secrets.token_urlsafe(24)
        allowed = []
        for scope in scopes:
            kind, name, wanted = [*scope.split(":"), "", "", ""][:3]
            granted = ",".join(action for action in wanted.split(",") if action in self.actions)
            allowed.append(f"{kind}:{name}:{granted}")
        self._tokens[token] = (tuple(allowed), time.monotonic() + self.token_lifetime)
        return Answer(
            200, {"Content-Type": "application/json"}, _json({member: token, "expires_in": self.token_lifetime})
        )

    def _manifests(self, seen: Seen, repository: str, reference: str) -> Answer:
        references = self.manifests.get(repository, {})
        if seen.method == "PUT":
            return self._put_manifest(seen, repository, reference)
        if reference not in references:
            return Answer(404, _JSON, _error("MANIFEST_UNKNOWN" if references else "NAME_UNKNOWN"))
        if seen.method == "DELETE":
            if not self.deletable:
                return Answer(405, _JSON, _error("UNSUPPORTED"))
            gone = references.pop(reference)
            if ":" in reference:
                for tag in [tag for tag, stored in references.items() if stored == gone]:
                    del references[tag]
            return Answer(202)
        stored = references[reference]
        return Answer(
            200, {"Content-Type": stored.media_type, "Docker-Content-Digest": stored.digest}, stored.raw
        )

    def _put_manifest(self, seen: Seen, repository: str, reference: str) -> Answer:
        stored = Stored(seen.headers.get("content-type", ""), seen.body)
        if ":" in reference and reference != stored.digest:
            return Answer(400, _JSON, _error("DIGEST_INVALID"))
        try:
            members = stored.members
            wanted = [*members.get("layers", []), *([members["config"]] if "config" in members else [])]
            missing = [entry for entry in wanted if entry["digest"] not in self.blobs.get(repository, {})]
        except (ValueError, KeyError, TypeError, AttributeError):
            return Answer(400, _JSON, _error("MANIFEST_INVALID"))
        if missing:
            return Answer(400, _JSON, _error("MANIFEST_BLOB_UNKNOWN"))
        tag = "" if ":" in reference else reference
        digest = self.put_manifest(repository, stored.raw, tag=tag, media_type=stored.media_type)
        headers = {"Location": f"/v2/{repository}/manifests/{digest}", "Docker-Content-Digest": digest}
        if self.referrers and self.announces and "subject" in members:
            headers["OCI-Subject"] = members["subject"]["digest"]
        return Answer(201, headers)

    def _list_referrers(self, repository: str, digest: str, query: dict[str, str]) -> Answer:
        if not self.referrers:
            return _plain_404()
        if repository not in self.manifests:
            return Answer(404, _JSON, _error("NAME_UNKNOWN"))
        entries = []
        for reference, stored in sorted(self.manifests[repository].items()):
            if ":" not in reference or stored.members.get("subject", {}).get("digest") != digest:
                continue
            entries.append({
                "mediaType": stored.media_type, "size": len(stored.raw), "digest": reference,
                "annotations": stored.members.get("annotations", {}),
                "artifactType": stored.members.get("artifactType", ""),
            })
        headers = {"Content-Type": OCI_INDEX}
        start = int(query.get("start", "0"))
        if self.page_size:
            if start + self.page_size < len(entries):
                path = f"/v2/{repository}/referrers/{digest}?start={start + self.page_size}"
                headers["Link"] = f'<{path}>; rel="next"'
            entries = entries[start:start + self.page_size]
        return Answer(200, headers, _json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}))

    def _blobs(self, seen: Seen, repository: str, last: str, query: dict[str, str]) -> Answer:
        blobs = self.blobs.setdefault(repository, {})
        if last == "uploads/" and seen.method == "POST":
            return self._begin_upload(repository, blobs, query)
        if last.startswith("uploads/"):
            return self._upload(seen, repository, last.partition("/")[2], query)
        if last not in blobs:
            return Answer(404, _JSON, _error("BLOB_UNKNOWN"))
        headers = {"Content-Type": "application/octet-stream", "Docker-Content-Digest": last}
        part = re.fullmatch(r"bytes=([0-9]+)-", seen.headers.get("range", ""))
        if not self.ranges or part is None:
            return Answer(200, headers, blobs[last])
        start, size = int(part[1]), len(blobs[last])
        if start >= size:
            return Answer(416, {"Content-Range": f"bytes */{size}"})
        return Answer(206, {**headers, "Content-Range": f"bytes {start}-{size - 1}/{size}"}, blobs[last][start:])

    def _begin_upload(self, repository: str, blobs: dict[str, bytes], query: dict[str, str]) -> Answer:
        mounted = self.blobs.get(query.get("from", ""), {}).get(query.get("mount", ""))
        if mounted is not None and self.mounts:
            blobs[query["mount"]] = mounted
            return Answer(201, {"Location": f"/v2/{repository}/blobs/{query['mount']}"})
        upload = secrets.token_hex(8)
        self.uploads[upload] = bytearray()
        return Answer(202, {"Location": f"/v2/{repository}/blobs/uploads/{upload}?state=open"})

    @staticmethod
    def _patch(seen: Seen, data: bytearray, headers: dict[str, str]) -> Answer:
        declared = re.fullmatch(r"([0-9]+)-([0-9]+)", seen.headers.get("content-range", ""))
        if "content-range" in seen.headers:
            length = int(seen.headers.get("content-length", "-1"))
            if declared is None or int(declared[2]) - int(declared[1]) + 1 != length:
                return Answer(400, _JSON, _error("SIZE_INVALID"))
            if int(declared[1]) != len(data):
                return Answer(416, headers)
        data += seen.body
        location = headers["Location"].partition("?")[0]
        return Answer(202, {
            **headers, "Location": f"{location}?state={len(data)}", "Range": f"0-{max(0, len(data) - 1)}",
        })

    def _upload(self, seen: Seen, repository: str, upload: str, query: dict[str, str]) -> Answer:
        """Answer to one upload as the distribution project does (registry/handlers/blobupload.go)."""
        if upload not in self.uploads:
            return Answer(404, _JSON, _error("BLOB_UPLOAD_UNKNOWN"))
        data = self.uploads[upload]
        headers = {
            "Location": f"/v2/{repository}/blobs/uploads/{upload}?state={len(data)}",
            "Range": f"0-{max(0, len(data) - 1)}", "Docker-Upload-UUID": upload,
        }
        if seen.method == "GET":
            return Answer(204, headers)
        if seen.method == "DELETE":
            del self.uploads[upload]
            return Answer(204)
        if seen.method == "PATCH":
            return self._patch(seen, data, headers)
        data += seen.body
        del self.uploads[upload]
        wanted = query.get("digest", "")
        if wanted.partition(":")[0] not in ("sha256", "sha512") or wanted != digest_of(data, wanted.partition(":")[0]):
            return Answer(400, _JSON, _error("DIGEST_INVALID"))
        self.blobs[repository][wanted] = bytes(data)
        return Answer(201, {"Location": f"/v2/{repository}/blobs/{wanted}"})


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, registry: FakeRegistry) -> None:
        self.registry = registry
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: t.Any, client_address: t.Any) -> None:
        """Note what went wrong here; a client that hangs up is no error."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "FakeRegistry"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Server

    def setup(self) -> None:
        context = self.server.registry._tls
        if context is not None:
            self.request = context.wrap_socket(self.request, server_side=True)
        super().setup()

    def finish(self) -> None:
        try:
            super().finish()
        except (OSError, ValueError):
            pass
        finally:
            if self.server.registry._tls is not None:
                self.request.close()

    def log_message(self, format: str, *args: t.Any) -> None:
        pass

    def _serve(self) -> None:
        registry = self.server.registry
        scheme, _space, secret = self.headers.get("Authorization", "").partition(" ")
        length = int(self.headers.get("Content-Length", "0"))
        broken = registry.breaks_after(self.command, self.path)
        body = self.rfile.read(length if broken is None else min(length, broken))
        headers = {name.lower(): value for name, value in self.headers.items()}
        seen = Seen(self.command, self.path, scheme.lower(), secret, headers, body, self.client_address)
        try:
            answer, fault = registry.respond(seen)
        except BaseException as exc:
            registry.errors.append(exc)
            raise
        if broken is not None:
            self.close_connection = True
            return
        try:
            self._send(answer, fault)
        except OSError:
            self.close_connection = True

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = _serve

    def _send(self, answer: Answer, fault: Fault) -> None:
        if fault.delay:
            self.server.registry.stopping.wait(fault.delay)
        if fault.hang_up:
            self.close_connection = True
            return
        body = b"" if self.command == "HEAD" else answer.body
        self._slowly(self._head(answer, fault), fault.trickle_headers)
        if fault.cut_after is not None:
            body = body[:fault.cut_after]
            self.close_connection = True
        if not fault.chunked or self.command == "HEAD":
            self._slowly(body, fault.trickle)
            return
        for start in range(0, len(body), 65536):
            piece = body[start:start + 65536]
            self._slowly(b"%x\r\n" % len(piece) + piece + b"\r\n", fault.trickle)
        while fault.endless and not self.server.registry.stopping.is_set():
            self._slowly(b"4000\r\n" + bytes(0x4000) + b"\r\n", 0.0)
        if fault.cut_after is None:
            self._slowly(b"0\r\n\r\n", fault.trickle)

    def _head(self, answer: Answer, fault: Fault) -> bytes:
        length = str(len(answer.body)) if fault.content_length is None else fault.content_length
        names = {name.lower() for name in answer.headers}
        lines = [f"HTTP/1.1 {answer.status} {self.responses.get(answer.status, ('Answer',))[0]}"]
        for name, value in answer.headers.items():
            # Several fields of one name: separate them by a line feed.
            lines += [f"{name}: {part}" for part in value.split("\n")]
        if fault.chunked:
            lines.append("Transfer-Encoding: chunked")
        elif length and "content-length" not in names:
            lines.append(f"Content-Length: {length}")
        else:
            self.close_connection = True
        if self.close_connection or fault.cut_after is not None:
            lines.append("Connection: close")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def _slowly(self, data: bytes, pause: float) -> None:
        if not pause:
            self.wfile.write(data)
            self.wfile.flush()
            return
        for position in range(len(data)):
            self.wfile.write(data[position:position + 1])
            self.wfile.flush()
            if self.server.registry.stopping.wait(pause):
                return


_JSON = {"Content-Type": "application/json"}
_PAGE = b"<!DOCTYPE html>\n<html><head><title>Log in</title></head><body>canary-of-a-foreign-page</body></html>\n"


def _granted(scope: str) -> list[tuple[str, str]]:
    kind, name, actions = [*scope.split(":"), "", "", ""][:3]
    return [(name, action) for action in actions.split(",")] if kind == "repository" else []


def _json(value: t.Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _error(code: str) -> bytes:
    return _json({"errors": [{"code": code, "message": "canary-of-a-foreign-message"}]})


def _plain_404() -> Answer:
    # What distribution 2.8 answers where it knows no such route.
    return Answer(404, {"Content-Type": "text/plain; charset=utf-8"}, b"404 page not found\n")
