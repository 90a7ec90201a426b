# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copying blobs: mounted or streamed, resumed where either side breaks, and never stored when they are wrong."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import threading
import typing as t
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import HallmarkError
from ansible_collections.hallmark.signing.plugins.module_utils._oci import transfer
from ansible_collections.hallmark.signing.plugins.module_utils._oci.credentials import AuthFile
from ansible_collections.hallmark.signing.plugins.module_utils._oci.digest import digest_of
from ansible_collections.hallmark.signing.plugins.module_utils._oci.images import Images
from ansible_collections.hallmark.signing.plugins.module_utils._oci.layout_reference import LayoutReference
from ansible_collections.hallmark.signing.plugins.module_utils._oci.manifest import Descriptor
from ansible_collections.hallmark.signing.plugins.module_utils._oci.reference import Image, Reference
from ansible_collections.hallmark.signing.plugins.module_utils._oci.transport import HostSettings, RegistrySettings
from ansible_collections.hallmark.signing.plugins.module_utils._reason_codes import ReasonCode
from ansible_collections.hallmark.signing.tests.unit.fake_registry import FakeRegistry, Fault, Seen

Start = t.Callable[..., FakeRegistry]

LOGIN: dict[str, t.Any] = {"username": "robot", "password": "canary-of-a-password"}
# Larger than what is sent in one piece.
LARGE = random.Random(1).randbytes(transfer.SMALL + 300_000) if hasattr(random.Random, "randbytes") else os.urandom(
    transfer.SMALL + 300_000
)
SMALL = b"a small blob"


def described(data: bytes, **members: t.Any) -> Descriptor:
    members = {"digest": digest_of(data), "size": len(data), **members}
    return Descriptor("application/octet-stream", members["digest"], members["size"])


def images(*fakes: FakeRegistry, timeout: float = 5.0, **host: t.Any) -> Images:
    hosts = {fake.host: HostSettings(**host) for fake in fakes} if host else {}
    return Images(RegistrySettings(AuthFile("none", {}), hosts, timeout))


def at(fake: FakeRegistry, repository: str = "app") -> Reference:
    return Reference(fake.host, repository, "1")


def copy(source: FakeRegistry, target: FakeRegistry | Image, blob: Descriptor, **host: t.Any) -> None:
    """Copy a blob of the repository "from" at the source to the repository "to" at the target, or to a layout."""
    place = at(target, "to") if isinstance(target, FakeRegistry) else target
    fakes = [source, *([target] if isinstance(target, FakeRegistry) else [])]
    known = images(*fakes, **host)
    transfer.copy_blob(known, at(source, "from"), known, place, blob)


def fails(code: ReasonCode, work: t.Callable[[], t.Any]) -> HallmarkError:
    with pytest.raises(HallmarkError) as caught:
        work()
    assert caught.value.code == code, str(caught.value)
    return caught.value


def cut_each(source: FakeRegistry, sizes: t.Sequence[int]) -> None:
    """Cut the body of each answer with a blob after so many bytes."""
    left = list(sizes)

    def hook(seen: Seen) -> Fault | None:
        return Fault(cut_after=left.pop(0)) if left and seen.method == "GET" and "/blobs/sha" in seen.path else None

    source.faults.append(hook)


@pytest.fixture(params=["registry", "layout"])
def target(request: pytest.FixtureRequest, registry: Start, tmp_path: Path) -> FakeRegistry | LayoutReference:
    return registry() if request.param == "registry" else LayoutReference(str(tmp_path / "layout"), "1")


def stored(target: FakeRegistry | LayoutReference, digest: str) -> bytes | None:
    if isinstance(target, FakeRegistry):
        return target.blobs.get("to", {}).get(digest)
    path = Path(target.path, "blobs", *digest.split(":"))
    return path.read_bytes() if path.exists() else None


def remains(target: FakeRegistry | LayoutReference) -> list[str]:
    """Return what is left of unfinished work."""
    if isinstance(target, FakeRegistry):
        return list(target.uploads)
    return [path.name for path in Path(target.path).glob(".hallmark-signing*")]


@pytest.mark.parametrize("data", [b"", SMALL, LARGE], ids=["empty", "small", "large"])
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_copies_a_blob(
    registry: Start, target: FakeRegistry | LayoutReference, data: bytes, algorithm: str
) -> None:
    source = registry()
    blob = described(data, digest=digest_of(data, algorithm=algorithm))
    source.blobs["from"] = {blob.digest: data}
    copy(source, target, blob)
    assert stored(target, blob.digest) == data
    assert remains(target) == []


@pytest.mark.parametrize("data", [SMALL * 2000, LARGE], ids=["medium", "large"])
def test_what_is_there_is_not_fetched(
    registry: Start, target: FakeRegistry | LayoutReference, data: bytes
) -> None:
    source = registry()
    source.put_blob("from", data)
    copy(source, target, described(data))
    before = len(source.log)
    copy(source, target, described(data))
    assert len(source.log) == before


# Where the source breaks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cuts", [[1], [70_000], [0], [0, 0, 0], [200_000, 100_000, 70_000]], ids=str)
@pytest.mark.parametrize("ranges", [True, False])
def test_a_source_that_breaks_is_asked_for_the_rest(
    registry: Start, target: FakeRegistry | LayoutReference, cuts: list[int], ranges: bool
) -> None:
    source = registry(ranges=ranges)
    source.put_blob("from", LARGE)
    cut_each(source, cuts if ranges else [cut * (number + 1) for number, cut in enumerate(cuts)])
    copy(source, target, described(LARGE))
    assert stored(target, digest_of(LARGE)) == LARGE
    gets = source.requests("GET", "/blobs/")
    assert len(gets) == len(cuts) + 1
    assert ["range" in seen.headers for seen in gets] == [False] + [sum(cuts[:n + 1]) >= 1 for n in range(len(cuts))]


def test_a_source_that_keeps_breaking_is_given_up(registry: Start, target: FakeRegistry | LayoutReference) -> None:
    source = registry()
    source.put_blob("from", LARGE)
    source.fail(Fault(cut_after=0), method="GET", path="/blobs/")
    error = fails("registry_error", lambda: copy(source, target, described(LARGE)))
    assert source.host == error.object
    assert len(source.requests("GET")) <= 60
    assert stored(target, digest_of(LARGE)) is None


def test_a_layout_goes_on_in_another_run(registry: Start, tmp_path: Path) -> None:
    source = registry()
    source.put_blob("from", LARGE)
    layout = LayoutReference(str(tmp_path / "layout"), "1")
    source.fail(Fault(cut_after=500_000), method="GET", path="/blobs/", times=1)
    source.fail(Fault(status=500), method="GET", path="/blobs/", times=100)
    fails("registry_error", lambda: copy(source, layout, described(LARGE), timeout=0.5))
    assert stored(layout, digest_of(LARGE)) is None
    source.faults.clear()
    source.log.clear()
    copy(source, layout, described(LARGE))
    assert stored(layout, digest_of(LARGE)) == LARGE
    (asked,) = source.requests("GET", "/blobs/")
    assert asked.headers["range"] == "bytes=500000-"


# Wrong content -------------------------------------------------------------------------------------------------------


WRONG = {
    "another": lambda data: bytes([data[0] ^ 1]) + data[1:],
    "another-at-the-end": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "shorter": lambda data: data[:-1],
    "nothing": lambda data: b"",
    "longer": lambda data: data + b"x",
    "much-longer": lambda data: data + bytes(200_000),
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("data", [SMALL, SMALL * 2000, LARGE], ids=["small", "medium", "large"])
@pytest.mark.parametrize("chunked", [False, True])
def test_wrong_content_is_refused_and_not_stored(
    registry: Start, target: FakeRegistry | LayoutReference, kind: str, data: bytes, chunked: bool
) -> None:
    source = registry()
    source.blobs["from"] = {digest_of(data): WRONG[kind](data)}
    if chunked:
        source.fail(Fault(chunked=True), method="GET")
    with pytest.raises(HallmarkError) as caught:
        copy(source, target, described(data))
    assert caught.value.code in ("digest_mismatch", "limit_exceeded")
    assert stored(target, digest_of(data)) is None
    assert remains(target) == []
    if isinstance(target, FakeRegistry):
        # It was refused here: the target was not even asked to finish.
        assert target.requests("PUT") == []


@pytest.mark.parametrize("size", [len(LARGE) - 1, len(LARGE) + 1])
def test_a_size_that_is_wrong_is_refused(
    registry: Start, target: FakeRegistry | LayoutReference, size: int
) -> None:
    source = registry()
    source.put_blob("from", LARGE)
    with pytest.raises(HallmarkError) as caught:
        copy(source, target, described(LARGE, size=size))
    assert caught.value.code in ("digest_mismatch", "limit_exceeded")
    assert stored(target, digest_of(LARGE)) is None


def test_a_source_that_changes_after_it_broke_is_noticed(
    registry: Start, target: FakeRegistry | LayoutReference
) -> None:
    source = registry()
    other = bytes(byte ^ 1 for byte in LARGE[:100]) + LARGE[100:-100] + bytes(byte ^ 1 for byte in LARGE[-100:])
    source.blobs["from"] = {digest_of(LARGE): LARGE}

    def hook(seen: Seen) -> Fault | None:
        if "range" in seen.headers:
            source.blobs["from"][digest_of(LARGE)] = other
        elif seen.method == "GET":
            return Fault(cut_after=100_000)
        return None

    source.faults.append(hook)
    fails("digest_mismatch", lambda: copy(source, target, described(LARGE)))
    assert stored(target, digest_of(LARGE)) is None


def test_what_was_not_read_whole_is_not_right() -> None:
    blob = described(LARGE)

    class Source:
        def stream_blob(self, image: Image, descriptor: Descriptor, *, offset: int = 0) -> t.Iterator[bytes]:
            yield LARGE[offset:]

    reading = transfer.Reading(Source(), Reference("r.test", "app", "1"), blob)
    fails("digest_mismatch", reading.finish)
    # Whoever skips the beginning has not seen it.
    assert list(reading.chunks(1000))
    fails("digest_mismatch", reading.finish)
    whole = transfer.Reading(Source(), Reference("r.test", "app", "1"), blob)
    assert b"".join(whole.chunks(0)) == LARGE
    assert list(whole.chunks(1000))
    whole.finish()


# Where the destination breaks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [0, 1, 100_000, len(LARGE) - 1])
@pytest.mark.parametrize("times", [1, 3])
def test_a_destination_that_breaks_gets_the_rest(registry: Start, after: int, times: int) -> None:
    source, target = registry(), registry()
    source.put_blob("from", LARGE)
    target.break_body(after, method="PATCH", times=times)
    copy(source, target, described(LARGE))
    assert stored(target, digest_of(LARGE)) == LARGE
    patches = target.requests("PATCH")
    assert len(patches) <= 2 + times * 2
    # Only the rest is sent again; distribution says 0-0 both for nothing and for one byte.
    if after > 1:
        assert patches[1].headers["content-range"] == f"{after}-{len(LARGE) - 1}"


def test_an_answer_that_is_lost_is_asked_for(registry: Start) -> None:
    source, target = registry(), registry()
    source.put_blob("from", LARGE)
    target.fail(Fault(hang_up=True, acted=True), method="PATCH", times=1)
    copy(source, target, described(LARGE))
    assert stored(target, digest_of(LARGE)) == LARGE
    assert len(target.requests("PATCH")) == 1


@pytest.mark.parametrize("fault", [Fault(hang_up=True, acted=True), Fault(status=502, body=b"")])
def test_an_upload_that_is_forgotten_begins_anew(registry: Start, fault: Fault) -> None:
    source, target = registry(), registry()
    source.put_blob("from", LARGE)

    def hook(seen: Seen) -> Fault | None:
        if seen.method == "PATCH" and len(target.requests("PATCH")) == 1:
            return fault
        if seen.method == "GET" and "/uploads/" in seen.path:
            target.uploads.clear()
        return None

    target.faults.append(hook)
    copy(source, target, described(LARGE))
    assert stored(target, digest_of(LARGE)) == LARGE
    assert len(target.requests("POST", "/uploads/")) == 2


def test_a_registry_that_says_it_has_more_than_was_sent_is_not_believed(registry: Start) -> None:
    source, target = registry(), registry()
    source.put_blob("from", LARGE)
    target.break_body(0, method="PATCH")
    target.fail(Fault(headers={"Range": f"0-{len(LARGE) - 1}"}), method="GET", path="/uploads/", times=1)
    try:
        copy(source, target, described(LARGE))
    except HallmarkError:
        assert stored(target, digest_of(LARGE)) is None
    else:
        assert stored(target, digest_of(LARGE)) == LARGE


def test_a_registry_that_cannot_tell_how_far_it_is_begins_anew(registry: Start) -> None:
    source, target = registry(), registry()
    source.put_blob("from", LARGE)
    target.break_body(100_000, method="PATCH")
    target.fail(Fault(status=405), method="GET", path="/uploads/")
    copy(source, target, described(LARGE))
    assert stored(target, digest_of(LARGE)) == LARGE


def test_a_destination_that_keeps_breaking_is_given_up(registry: Start) -> None:
    source, target = registry(), registry()
    source.put_blob("from", LARGE)
    target.break_body(1000, method="PATCH", times=1000)
    target.fail(Fault(status=404), method="GET", path="/uploads/")
    fails("registry_error", lambda: copy(source, target, described(LARGE)))
    assert len(target.requests("PATCH")) <= 10
    assert stored(target, digest_of(LARGE)) is None


def test_a_lost_answer_to_the_end_of_an_upload_is_no_failure(registry: Start) -> None:
    source, target = registry(), registry()
    source.put_blob("from", LARGE)
    target.fail(Fault(hang_up=True, acted=True), method="PUT", times=1)
    copy(source, target, described(LARGE))
    assert stored(target, digest_of(LARGE)) == LARGE


@pytest.mark.parametrize(("method", "status", "code"), [
    ("POST", 403, "unauthorized"), ("PATCH", 403, "unauthorized"), ("PATCH", 413, "registry_error"),
    ("PUT", 403, "unauthorized"), ("PUT", 400, "registry_error"),
])
def test_a_refused_upload_is_given_up_at_once(
    registry: Start, method: str, status: int, code: ReasonCode
) -> None:
    source, target = registry(), registry()
    source.put_blob("from", LARGE)
    target.fail(Fault(status=status), method=method)
    fails(code, lambda: copy(source, target, described(LARGE)))
    assert len(target.requests(method)) == 1
    # Nothing stays behind that the registry would have to tidy up.
    assert target.uploads == {}


def test_both_sides_may_break(registry: Start) -> None:
    source, target = registry(), registry()
    source.put_blob("from", LARGE)
    cut_each(source, [300_000, 200_000, 1])
    target.break_body(250_000, method="PATCH", times=2)
    copy(source, target, described(LARGE))
    assert stored(target, digest_of(LARGE)) == LARGE


# A login that runs out while a large blob is sent.
@pytest.mark.parametrize("auth", ["basic", "bearer"])
def test_a_401_in_the_middle_is_answered_and_the_blob_sent_whole(registry: Start, auth: str) -> None:
    source, target = registry(), registry(auth=auth, **LOGIN)
    source.put_blob("from", LARGE)

    def hook(seen: Seen) -> Fault | None:
        if seen.method == "PATCH" and len(target.requests("PATCH")) == 1:
            target.revoke_tokens()
        return None

    target.faults.append(hook)
    copy(source, target, described(LARGE), **LOGIN)
    assert stored(target, digest_of(LARGE)) == LARGE
    assert not any(seen.authorized for seen in source.log)


# On one host ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("auth", [None, "basic", "bearer"])
@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_a_blob_of_the_same_registry_is_mounted(registry: Start, auth: str | None, data: bytes) -> None:
    fake = registry(auth=auth, **LOGIN)
    fake.put_blob("from", data)
    copy(fake, fake, described(data), **LOGIN)
    assert fake.blobs["to"] == {digest_of(data): data}
    assert [seen.method for seen in fake.log if "/blobs/" in seen.path and seen.body] == []
    assert fake.requests("GET", "/blobs/") == []
    assert "from=from" in fake.requests("POST")[-1].path


@pytest.mark.parametrize("data", [SMALL, SMALL * 2000, LARGE], ids=["small", "medium", "large"])
def test_a_mount_that_is_not_made_is_a_copy(registry: Start, data: bytes) -> None:
    fake = registry(mounts=False)
    fake.put_blob("from", data)
    copy(fake, fake, described(data))
    assert fake.blobs["to"] == {digest_of(data): data}
    assert fake.uploads == {}


def test_nothing_is_mounted_from_another_registry(registry: Start) -> None:
    source, target = registry(), registry()
    source.put_blob("from", SMALL)
    copy(source, target, described(SMALL))
    assert [seen for seen in target.log if "mount=" in seen.path] == []


def test_nothing_is_sent_within_one_repository(registry: Start) -> None:
    fake = registry()
    fake.put_blob("app", LARGE)
    known = images(fake)
    transfer.copy_blob(known, at(fake), known, at(fake), described(LARGE))
    assert fake.log == []


# Memory --------------------------------------------------------------------------------------------------------------


_SIZE = 200 * 1024 * 1024
_PIECE = bytes(range(256)) * 4096


class _Bottomless(BaseHTTPRequestHandler):
    """Serves a blob that is made on the fly, and takes one without keeping it."""

    protocol_version = "HTTP/1.1"
    digest = ""
    taken: t.ClassVar[list[str]] = []

    def log_message(self, format: str, *args: t.Any) -> None:
        pass

    def _answer(self, status: int, length: int = 0, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def do_GET(self) -> None:
        self._answer(200, _SIZE)
        for _piece in range(_SIZE // len(_PIECE)):
            self.wfile.write(_PIECE)

    def do_HEAD(self) -> None:
        self._answer(404)

    def do_POST(self) -> None:
        self._answer(202, Location="/v2/to/blobs/uploads/1")

    def do_PATCH(self) -> None:
        digest, left = hashlib.sha256(), int(self.headers["Content-Length"])
        while left:
            piece = self.rfile.read(min(left, 65536))
            digest.update(piece)
            left -= len(piece)
        self.taken.append(f"sha256:{digest.hexdigest()}")
        self._answer(202, Location="/v2/to/blobs/uploads/1")

    def do_PUT(self) -> None:
        self._answer(201)


MEMORY = """
import resource, sys
from ansible_collections.hallmark.signing.plugins.module_utils._oci import transfer
from ansible_collections.hallmark.signing.plugins.module_utils._oci.credentials import AuthFile
from ansible_collections.hallmark.signing.plugins.module_utils._oci.images import Images
from ansible_collections.hallmark.signing.plugins.module_utils._oci.manifest import Descriptor
from ansible_collections.hallmark.signing.plugins.module_utils._oci.reference import parse_image
from ansible_collections.hallmark.signing.plugins.module_utils._oci.transport import RegistrySettings
source, target, digest, size = sys.argv[1:]
known = Images(RegistrySettings(AuthFile("none", {})))
# What the libraries take is not meant.
known.has_manifest(parse_image(source))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
transfer.copy_blob(known, parse_image(source), known, parse_image(target), Descriptor("x/y", digest, int(size)))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("kind", ["registry", "layout"])
def test_a_large_blob_is_never_held_in_memory(tmp_path: Path, kind: str) -> None:
    digest = hashlib.sha256()
    for _piece in range(_SIZE // len(_PIECE)):
        digest.update(_PIECE)
    name = f"sha256:{digest.hexdigest()}"
    _Bottomless.taken.clear()
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), _Bottomless) for _number in range(2)]
    for server in servers:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    source, other = (f"127.0.0.1:{server.server_address[1]}" for server in servers)
    target = f"{other}/to:1" if kind == "registry" else f"oci:{tmp_path}/layout:1"
    try:
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, f"{source}/from:1", target, name, str(_SIZE)], check=True, timeout=60,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, stdout=subprocess.PIPE, text=True,
        )
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
    # Kilobytes.
    assert int(done.stdout) < 20 * 1024
    assert _Bottomless.taken == ([name] if kind == "registry" else [])
