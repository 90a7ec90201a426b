# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The registry API: every byte checked against its digest, and how many requests it takes."""

from __future__ import annotations

import json
import threading
import time
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import HallmarkError, RegistryError
from ansible_collections.hallmark.signing.plugins.module_utils._oci import content, referrers
from ansible_collections.hallmark.signing.plugins.module_utils._oci import registry as registry_module
from ansible_collections.hallmark.signing.plugins.module_utils._oci.digest import digest_of
from ansible_collections.hallmark.signing.plugins.module_utils._oci.manifest import (
    DOCKER_LIST,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
)
from ansible_collections.hallmark.signing.plugins.module_utils._oci.reference import Reference
from ansible_collections.hallmark.signing.plugins.module_utils._oci.registry import Registries
from ansible_collections.hallmark.signing.plugins.module_utils._oci.transport import Request, Response
from ansible_collections.hallmark.signing.plugins.module_utils._reason_codes import ReasonCode
from ansible_collections.hallmark.signing.tests.unit.fake_registry import FakeRegistry, Fault, Stored

Start = t.Callable[..., FakeRegistry]
Connect = t.Callable[..., Registries]

LOGIN: dict[str, t.Any] = {"username": "robot", "password": "canary-of-a-password"}


def app(fake: FakeRegistry, tag: str = "1") -> Reference:
    return Reference(fake.host, "app", tag)


def blob(data: bytes, **members: t.Any) -> Descriptor:
    members = {"digest": digest_of(data), "size": len(data), **members}
    return Descriptor("application/octet-stream", members["digest"], members["size"])


def fails(code: ReasonCode, work: t.Callable[[], t.Any]) -> HallmarkError:
    with pytest.raises(HallmarkError) as caught:
        work()
    assert caught.value.code == code
    assert "canary" not in str(caught.value)
    return caught.value


# Manifests ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_digest", [True, False])
def test_fetches_a_manifest(registry: Start, connect: Connect, by_digest: bool) -> None:
    fake = registry()
    digest = fake.put_image("app", "1")
    image = app(fake).at(digest) if by_digest else app(fake)
    found = connect(fake).manifest(image)
    assert (found.digest, found.raw, found.media_type) == (digest, fake.manifests["app"]["1"].raw, OCI_MANIFEST)
    assert fake.log[0].path == f"/v2/app/manifests/{digest if by_digest else '1'}"
    assert fake.log[0].headers["accept"] == (
        "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json, "
        "application/vnd.oci.image.index.v1+json, "
        "application/vnd.docker.distribution.manifest.list.v2+json"
    )


def test_fetches_by_the_digest_where_there_is_a_tag_too(registry: Start, connect: Connect) -> None:
    fake = registry()
    digest = fake.put_image("app", "1")
    fake.put_image("app", "2")
    assert connect(fake).manifest(Reference(fake.host, "app", "2", digest)).digest == digest


def test_fetches_by_sha512(registry: Start, connect: Connect) -> None:
    fake = registry()
    fake.put_image("app", "1")
    stored = fake.manifests["app"]["1"]
    digest = digest_of(stored.raw, algorithm="sha512")
    fake.manifests["app"][digest] = stored
    assert connect(fake).manifest(app(fake).at(digest)).digest == digest
    fake.manifests["app"][digest] = Stored(OCI_MANIFEST, stored.raw + b" ")
    fails("digest_mismatch", lambda: connect(fake).manifest(app(fake).at(digest)))


def test_fetches_an_index(registry: Start, connect: Connect) -> None:
    fake = registry()
    digest = fake.put_index("app", "1", ["linux/amd64", "linux/arm64"])
    found = connect(fake).manifest(app(fake))
    assert (found.digest, found.is_index, len(found.images)) == (digest, True, 2)
    assert sorted(fake.manifests["app"]) == sorted(["1", digest, *(child.digest for child in found.images)])


def test_the_digest_a_registry_names_is_not_believed(registry: Start, connect: Connect) -> None:
    fake = registry()
    digest = fake.put_image("app", "1")
    fake.fail(Fault(headers={"Docker-Content-Digest": "sha256:" + "0" * 64}))
    assert connect(fake).manifest(app(fake)).digest == digest


@pytest.mark.parametrize("fault", [
    Fault.wrong_bytes(), Fault(body=b""), Fault(body=b"{}"), Fault(body=b"not json"),
], ids=["other", "empty", "object", "text"])
def test_other_bytes_than_the_digests_are_refused(registry: Start, connect: Connect, fault: Fault) -> None:
    fake = registry()
    digest = fake.put_image("app", "1")
    fake.fail(fault)
    error = fails("digest_mismatch", lambda: connect(fake).manifest(app(fake).at(digest)))
    assert error.object == f"{fake.host}/app@{digest}"
    assert len(fake.log) == 1


def test_a_missing_manifest_is_none_or_an_error(registry: Start, connect: Connect) -> None:
    fake = registry()
    fake.put_image("app", "1")
    client = connect(fake)
    assert client.find_manifest(app(fake, "2")) is None
    assert client.find_manifest(Reference(fake.host, "other", "1")) is None
    error = fails("not_found", lambda: client.manifest(app(fake, "2")))
    assert error.object == f"{fake.host}/app:2"


@pytest.mark.parametrize("status", [401, 403, 500, 400])
def test_only_404_means_missing(registry: Start, connect: Connect, status: int) -> None:
    fake = registry()
    fake.fail(Fault(status=status))
    with pytest.raises(RegistryError) as caught:
        connect(fake).find_manifest(app(fake))
    assert caught.value.code != "not_found"


@pytest.mark.parametrize("by_digest", [True, False])
@pytest.mark.parametrize("content_type", ["text/html", "text/html; charset=utf-8"])
def test_a_login_page_is_named(registry: Start, connect: Connect, by_digest: bool, content_type: str) -> None:
    fake = registry()
    digest = fake.put_image("app", "1")
    fake.fail(Fault(status=200, headers={"Content-Type": content_type}, body=b"<html>canary</html>"))
    error = fails("registry_error", lambda: connect(fake).manifest(app(fake).at(digest) if by_digest else app(fake)))
    assert "HTML page" in error.cause


def test_a_page_that_claims_to_be_a_manifest_is_malformed(registry: Start, connect: Connect) -> None:
    fake = registry()
    fake.fail(Fault(status=200, headers={"Content-Type": OCI_MANIFEST}, body=b"<html>canary</html>"))
    fails("malformed", lambda: connect(fake).manifest(app(fake)))


@pytest.mark.parametrize("header", [OCI_INDEX, DOCKER_LIST])
def test_a_header_that_contradicts_the_document_is_refused(registry: Start, connect: Connect, header: str) -> None:
    fake = registry()
    digest = fake.put_image("app", "1")
    fake.fail(Fault(headers={"Content-Type": header}))
    fails("malformed", lambda: connect(fake).manifest(app(fake).at(digest)))


@pytest.mark.parametrize("fault", [Fault(), Fault(chunked=True)], ids=["declared", "undeclared"])
@pytest.mark.parametrize("over", [0, 1])
def test_a_manifest_is_at_most_4_mib(registry: Start, connect: Connect, fault: Fault, over: int) -> None:
    fake = registry()
    fake.put_image("app", "1")
    raw = fake.manifests["app"]["1"].raw
    fake.fail(fault)
    fake.manifests["app"]["1"] = Stored(OCI_MANIFEST, raw + b" " * (4 * 1024 * 1024 - len(raw) + over))
    if over:
        fails("limit_exceeded", lambda: connect(fake).manifest(app(fake)))
    else:
        assert connect(fake).manifest(app(fake)).layers


def test_a_cut_manifest_is_fetched_again(registry: Start, connect: Connect) -> None:
    fake = registry()
    digest = fake.put_image("app", "1")
    fake.fail(Fault(cut_after=20), times=1)
    assert connect(fake).manifest(app(fake)).digest == digest


# Indexes -----------------------------------------------------------------------------------------------------------


def nest(fake: FakeRegistry, inner: str, levels: int, repeat: int = 1) -> str:
    """Wrap an index into so many more, and return the digest of the outermost."""
    for _level in range(levels):
        raw = fake.manifests["app"][inner].raw
        child = {"mediaType": OCI_INDEX, "size": len(raw), "digest": inner}
        inner = fake.put_manifest("app", {
            "schemaVersion": 2, "mediaType": OCI_INDEX,
            "manifests": [{**child, "annotations": {"n": str(number)}} for number in range(repeat)],
        })
    return inner


def test_an_image_has_no_descendants(registry: Start, connect: Connect) -> None:
    fake = registry()
    fake.put_image("app", "1")
    client = connect(fake)
    assert content.descendants(client, app(fake), client.manifest(app(fake))) == ()
    assert client.request_count == 1


def test_the_descendants_of_an_index_are_its_images(registry: Start, connect: Connect) -> None:
    fake = registry()
    fake.put_index("app", "1", ["linux/amd64", "linux/arm64"])
    client = connect(fake)
    index = client.manifest(app(fake))
    assert content.descendants(client, app(fake), index) == index.images
    assert client.request_count == 1


@pytest.mark.parametrize("media_type", [OCI_INDEX, DOCKER_LIST])
def test_nested_indexes_and_their_images_are_descendants(registry: Start, connect: Connect, media_type: str) -> None:
    fake = registry()
    inner = fake.put_index("app", "inner", ["linux/amd64", "linux/arm64"])
    if media_type == DOCKER_LIST:
        inner = fake.put_manifest("app", {**fake.manifests["app"][inner].members, "mediaType": DOCKER_LIST})
    raw = fake.manifests["app"][inner].raw
    outer = fake.put_manifest("app", {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [
        {"mediaType": media_type, "size": len(raw), "digest": inner},
    ]})
    client = connect(fake)
    found = content.descendants(client, app(fake), client.manifest(app(fake).at(outer)))
    images = [child["digest"] for child in json.loads(raw)["manifests"]]
    assert [child.digest for child in found] == [inner, *images]


def test_a_child_listed_twice_is_one_descendant(registry: Start, connect: Connect) -> None:
    fake = registry()
    fake.put_index("app", "1", ["linux/amd64"])
    document = fake.manifests["app"]["1"].members
    document["manifests"] *= 2
    fake.put_manifest("app", document, tag="twice")
    client = connect(fake)
    assert len(content.descendants(client, app(fake), client.manifest(app(fake, "twice")))) == 1


@pytest.mark.parametrize("levels", [1, 3, 30])
def test_indexes_may_be_nested_as_deep_as_anybody_likes(registry: Start, connect: Connect, levels: int) -> None:
    fake = registry()
    image = app(fake).at(nest(fake, fake.put_index("app", "1", ["linux/amd64"]), levels))
    client = connect(fake)
    outer = client.manifest(image)
    assert len(content.descendants(client, image, outer)) == levels + 1
    assert client.request_count == levels + 1


def wide(fake: FakeRegistry, count: int) -> str:
    """Store an index of so many images, which are not there, and return its digest."""
    return fake.put_manifest("app", {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [
        {"mediaType": OCI_MANIFEST, "size": 2, "digest": f"sha256:{number:064x}"} for number in range(count)
    ]})


@pytest.mark.parametrize(("count", "levels", "fits"), [
    (1000, 0, True), (1001, 0, False), (998, 2, True), (999, 2, False), (10_000, 1, False),
])
def test_an_index_has_at_most_a_thousand_descendants(
    registry: Start, connect: Connect, count: int, levels: int, fits: bool
) -> None:
    fake = registry()
    image = app(fake).at(nest(fake, wide(fake, count), levels))
    client = connect(fake)
    outer = client.manifest(image)
    if fits:
        assert len(content.descendants(client, image, outer)) == 1000
    else:
        error = fails("limit_exceeded", lambda: content.descendants(client, image, outer))
        assert (error.object, error.cause) == (str(image), "it has more than 1000 images")


def test_indexes_without_end_are_asked_for_a_thousand_times_at_most(
    registry: Start, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "MAX_DESCENDANTS", 10)
    fake = registry()
    image = app(fake).at(nest(fake, fake.put_index("app", "1", ["linux/amd64"]), 30))
    client = connect(fake)
    outer = client.manifest(image)
    fails("limit_exceeded", lambda: content.descendants(client, image, outer))
    assert client.request_count == 1 + 10


def test_a_wrong_nested_index_is_refused(registry: Start, connect: Connect) -> None:
    fake = registry()
    inner = fake.put_index("app", "1", ["linux/amd64"])
    client = connect(fake)
    image = app(fake).at(nest(fake, inner, 1))
    outer = client.manifest(image)
    fake.manifests["app"][inner] = Stored(OCI_INDEX, b'{"schemaVersion":2,"manifests":[]}')
    fails("digest_mismatch", lambda: content.descendants(client, image, outer))


# Fetched each time they are listed, 10 equal children in 3 levels would be 1110 requests, 20000 of them 8 * 10^12.
def test_a_nested_index_is_fetched_once_however_often_it_is_listed(registry: Start, connect: Connect) -> None:
    fake = registry()
    image = app(fake).at(nest(fake, fake.put_index("app", "1", ["linux/amd64"]), 3, repeat=5))
    client = connect(fake)
    outer = client.manifest(image)
    content.descendants(client, image, outer)
    assert client.request_count == 1 + 3


# Blobs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"x", b"{}" * 100_000])
def test_fetches_a_blob_in_one_request(registry: Start, connect: Connect, data: bytes) -> None:
    fake = registry()
    fake.put_blob("app", data)
    client = connect(fake)
    assert client.blob(app(fake), blob(data), limit=len(data)) == data
    assert client.request_count == 1


def test_a_blob_over_the_limit_is_not_asked_for(registry: Start, connect: Connect) -> None:
    fake = registry()
    fake.put_blob("app", b"12345")
    client = connect(fake)
    error = fails("limit_exceeded", lambda: client.blob(app(fake), blob(b"12345"), limit=4))
    assert "5 bytes, more than 4" in error.cause
    assert client.request_count == 0


@pytest.mark.parametrize("served", [b"", b"1234", b"12346", b"54321"])
def test_a_blob_of_other_bytes_is_refused(registry: Start, connect: Connect, served: bytes) -> None:
    fake = registry()
    wanted = blob(b"12345")
    fake.blobs["app"] = {wanted.digest: served}
    error = fails("digest_mismatch", lambda: connect(fake).blob(app(fake), wanted, limit=100))
    assert error.object == f"{fake.host}/app@{wanted.digest}"


@pytest.mark.parametrize("fault", [Fault(), Fault(chunked=True), Fault(content_length="")])
def test_a_blob_larger_than_its_descriptor_says_is_refused(registry: Start, connect: Connect, fault: Fault) -> None:
    fake = registry()
    fake.put_blob("app", b"12345")
    fake.fail(fault)
    fails("limit_exceeded", lambda: connect(fake).blob(app(fake), blob(b"12345", size=4), limit=100))


def test_a_blob_smaller_than_its_descriptor_says_is_refused(registry: Start, connect: Connect) -> None:
    fake = registry()
    fake.put_blob("app", b"12345")
    error = fails("digest_mismatch", lambda: connect(fake).blob(app(fake), blob(b"12345", size=6), limit=100))
    assert "it has 5 bytes, its descriptor says 6" in error.cause


def test_a_compressed_blob_is_refused(registry: Start, connect: Connect) -> None:
    fake = registry()
    data = b"x" * 1000
    fake.put_blob("app", data)
    fake.fail(Fault.gzip(data))
    fails("registry_error", lambda: connect(fake).blob(app(fake), blob(data), limit=10_000))


def test_a_missing_blob_is_an_error(registry: Start, connect: Connect) -> None:
    fake = registry()
    error = fails("not_found", lambda: connect(fake).blob(app(fake), blob(b"x"), limit=1))
    assert "BLOB_UNKNOWN" in error.cause


def test_a_blob_may_lie_elsewhere(registry: Start, connect: Connect) -> None:
    fake, storage = registry(auth="bearer", **LOGIN), registry()
    storage.put_blob("app", b"x")
    client = connect(fake, **LOGIN)
    fake.put_blob("app", b"x")
    client.blob(app(fake), blob(b"x"), limit=1)
    fake.fail(Fault.redirect(f"{storage.url}/v2/app/blobs/{digest_of(b'x')}"))
    assert client.blob(app(fake), blob(b"x"), limit=1) == b"x"
    assert not storage.log[0].authorized
    storage.blobs["app"][digest_of(b"x")] = b"y"
    fails("digest_mismatch", lambda: client.blob(app(fake), blob(b"x"), limit=1))


def test_a_trickling_blob_ends_in_time(registry: Start, connect: Connect) -> None:
    fake = registry()
    data = b"x" * 1000
    fake.put_blob("app", data)
    fake.fail(Fault(trickle=0.05))
    begun = time.monotonic()
    fails("registry_error", lambda: connect(fake, timeout=1).blob(app(fake), blob(data), limit=1000))
    assert time.monotonic() - begun < 20


# Uploads -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("auth", [None, "basic", "bearer"])
@pytest.mark.parametrize("data", [b"", b"data", b"x" * 300_000])
def test_stores_a_blob(registry: Start, connect: Connect, auth: str | None, data: bytes) -> None:
    fake = registry(auth=auth, **LOGIN)
    digest = connect(fake, **LOGIN).put_blob(app(fake), data)
    assert digest == digest_of(data)
    assert fake.blobs["app"] == {digest: data}
    upload = fake.requests("PUT")[0]
    assert upload.path.endswith(f"?state=open&digest=sha256%3A{digest[7:]}")
    assert upload.headers["content-type"] == "application/octet-stream"


def test_a_blob_that_is_there_is_not_sent_again(registry: Start, connect: Connect) -> None:
    fake = registry()
    fake.put_blob("app", b"data")
    client = connect(fake)
    client.put_blob(app(fake), b"data")
    assert [seen.method for seen in fake.log] == ["HEAD"]
    client.put_blob(Reference(fake.host, "other", "1"), b"data")
    assert [seen.method for seen in fake.log] == ["HEAD", "HEAD", "POST", "PUT"]
    assert client.request_count == 4


def test_an_upload_location_without_a_query_gets_one(registry: Start, connect: Connect) -> None:
    fake = registry()
    fake.uploads["plain"] = bytearray()
    fake.fail(Fault(status=202, headers={"Location": "/v2/app/blobs/uploads/plain"}), method="POST")
    assert connect(fake).put_blob(app(fake), b"data") in fake.blobs["app"]
    assert "/uploads/plain?digest=sha256%3A" in fake.requests("PUT")[0].path


def test_an_absolute_upload_location_gets_credentials_at_home_only(registry: Start, connect: Connect) -> None:
    fake, storage = registry(auth="basic", **LOGIN), registry()
    storage.uploads["there"] = bytearray()
    fake.fail(Fault(status=202, headers={"Location": f"{storage.url}/v2/app/blobs/uploads/there"}), method="POST")
    connect(fake, **LOGIN).put_blob(app(fake), b"data")
    assert [seen.authorized for seen in storage.log] == [False]
    assert list(storage.blobs["app"].values()) == [b"data"]


@pytest.mark.parametrize("fault", [
    Fault(hang_up=True), Fault(hang_up=True, acted=True), Fault(status=503), Fault(status=500),
], ids=["cut", "cut-after", "503", "500"])
@pytest.mark.parametrize("times", [1, 2])
def test_an_upload_that_broke_off_starts_over(registry: Start, connect: Connect, fault: Fault, times: int) -> None:
    fake = registry()
    fake.fail(fault, method="PUT", times=times)
    connect(fake).put_blob(app(fake), b"data")
    assert list(fake.blobs["app"].values()) == [b"data"]
    # Never is one upload location used twice.
    assert len({seen.path for seen in fake.requests("PUT")}) == len(fake.requests("PUT")) == times + 1


def test_an_upload_that_keeps_breaking_off_is_an_error(registry: Start, connect: Connect) -> None:
    fake = registry()
    fake.fail(Fault(hang_up=True), method="PUT")
    fails("registry_error", lambda: connect(fake).put_blob(app(fake), b"data"))
    assert len(fake.requests("PUT")) == 3


@pytest.mark.parametrize(("status", "code"), [(403, "unauthorized"), (404, "not_found")])
def test_a_refused_upload_is_final(registry: Start, connect: Connect, status: int, code: ReasonCode) -> None:
    fake = registry()
    fake.fail(Fault(status=status), method="PUT")
    fails(code, lambda: connect(fake).put_blob(app(fake), b"data"))
    assert len(fake.requests("PUT")) == 1


# A refusal that cannot pass is not tried again, with the whole blob each time.
@pytest.mark.parametrize("status", [400, 405, 413])
def test_an_upload_that_is_not_wanted_is_sent_once(registry: Start, connect: Connect, status: int) -> None:
    fake = registry()
    fake.fail(Fault(status=status), method="PUT")
    fails("registry_error", lambda: connect(fake).put_blob(app(fake), b"data"))
    assert len(fake.requests("PUT")) == 1


def test_an_upload_meets_the_timeout(registry: Start, connect: Connect) -> None:
    fake = registry()
    fake.fail(Fault(delay=5), method="PUT")
    begun = time.monotonic()
    fails("registry_error", lambda: connect(fake, timeout=0.5).put_blob(app(fake), b"data"))
    assert time.monotonic() - begun < 4


def test_no_upload_starts_over_after_the_timeout(registry: Start, connect: Connect) -> None:
    fake = registry()
    fake.fail(Fault(status=503, delay=0.3), method="PUT")
    fails("registry_error", lambda: connect(fake, timeout=0.5).put_blob(app(fake), b"data"))
    assert len(fake.requests("PUT")) in (1, 2)


# Without a Location the blob would go to the root of the registry, and a 200 there would be a success.
@pytest.mark.parametrize("headers", [{}, {"Location": ""}])
def test_an_upload_without_a_location_is_an_error(registry: Start, connect: Connect, headers: dict[str, str]) -> None:
    fake = registry()
    fake.fail(Fault(status=202, headers=headers), method="POST")
    fake.fail(Fault(status=200), method="PUT")
    fails("registry_error", lambda: connect(fake).put_blob(app(fake), b"data"))
    assert fake.requests("PUT") == []


@pytest.mark.parametrize("location", ["file:///etc/passwd", "http://169.254.169.254/upload"])
def test_an_upload_goes_to_no_forbidden_place(registry: Start, connect: Connect, location: str) -> None:
    fake = registry()
    fake.fail(Fault(status=202, headers={"Location": location}), method="POST")
    fails("registry_error", lambda: connect(fake).put_blob(app(fake), b"data"))
    assert fake.requests("PUT") == []


@pytest.mark.parametrize("status", [200, 201, 204])
def test_an_upload_that_does_not_begin_as_specified_is_an_error(
    registry: Start, connect: Connect, status: int
) -> None:
    fake = registry()
    fake.fail(Fault(status=status), method="POST")
    fails("registry_error", lambda: connect(fake).put_blob(app(fake), b"data"))
    assert fake.requests("PUT") == []


@pytest.mark.parametrize("auth", [None, "basic", "bearer"])
@pytest.mark.parametrize("by_digest", [True, False])
def test_stores_a_manifest(registry: Start, connect: Connect, auth: str | None, by_digest: bool) -> None:
    fake = registry(auth=auth, **LOGIN)
    digest = fake.put_image("other", "1")
    raw = fake.manifests["other"]["1"].raw
    fake.blobs["app"] = fake.blobs["other"]
    image = app(fake).at(digest) if by_digest else app(fake, "2")
    assert connect(fake, **LOGIN).put_manifest(image, raw) is None
    assert fake.manifests["app"]["2" if not by_digest else digest] == Stored(OCI_MANIFEST, raw)


def test_stores_an_index_by_its_type(registry: Start, connect: Connect) -> None:
    fake = registry()
    raw = b'{"schemaVersion":2,"manifests":[]}'
    connect(fake).put_manifest(app(fake), raw, media_type=OCI_INDEX)
    assert fake.manifests["app"]["1"] == Stored(OCI_INDEX, raw)


@pytest.mark.parametrize("status", [200, 201, 202])
@pytest.mark.parametrize("path", ["/manifests/", "/uploads/"])
def test_each_way_to_say_that_it_is_stored(registry: Start, connect: Connect, status: int, path: str) -> None:
    fake = registry()
    fake.fail(Fault(status=status), method="PUT", path=path)
    client = connect(fake)
    client.put_blob(app(fake), b"data")
    client.put_manifest(app(fake), b"{}", media_type=OCI_INDEX)


@pytest.mark.parametrize("status", [204, 304, 307])
@pytest.mark.parametrize("path", ["/manifests/", "/uploads/"])
def test_no_other_answer_means_stored(registry: Start, connect: Connect, status: int, path: str) -> None:
    fake = registry()
    fake.fail(Fault(status=status, headers={"Location": "/v2/"}), method="PUT", path=path)
    client = connect(fake)

    def store() -> None:
        client.put_blob(app(fake), b"data")
        client.put_manifest(app(fake), b"{}", media_type=OCI_INDEX)

    fails("registry_error", store)


def test_the_empty_object_is_asked_for_until_a_repository_has_it(registry: Start, connect: Connect) -> None:
    fake = registry()
    client = connect()
    here, there = (Reference(fake.host, name, "1") for name in ("here", "there"))
    asked = []
    for image, data, algorithm in (
        (here, b"{}", "sha256"), (here, b"{}", "sha256"), (here, b"{}", "sha256"), (there, b"{}", "sha256"),
        (here, b"{}", "sha512"), (here, b"x", "sha256"), (here, b"x", "sha256"), (here, b"x", "sha256"),
    ):
        before = len(fake.requests("HEAD", "/blobs/"))
        client.put_blob(image, data, algorithm=algorithm)
        asked.append(len(fake.requests("HEAD", "/blobs/")) - before)
    assert asked == [1, 1, 0, 1, 1, 1, 1, 1]
    assert set(fake.blobs["there"].values()) == {b"{}"}
    assert digest_of(b"{}", algorithm="sha512") in fake.blobs["here"]


def test_a_manifest_whose_blobs_are_missing_is_refused(registry: Start, connect: Connect) -> None:
    fake = registry()
    fake.put_image("other", "1")
    raw = fake.manifests["other"]["1"].raw
    error = fails("registry_error", lambda: connect(fake).put_manifest(app(fake), raw))
    assert "MANIFEST_BLOB_UNKNOWN" in error.cause
    assert len(fake.log) == 1


@pytest.mark.parametrize("fault", [Fault(hang_up=True), Fault(hang_up=True, acted=True), Fault.too_many("0")])
def test_a_manifest_is_put_again(registry: Start, connect: Connect, fault: Fault) -> None:
    fake = registry()
    fake.fail(fault, times=2)
    raw = b'{"schemaVersion":2,"manifests":[]}'
    connect(fake).put_manifest(app(fake), raw, media_type=OCI_INDEX)
    assert fake.manifests["app"]["1"].raw == raw
    assert len(fake.log) == 3


# Deletion ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("auth", [None, "basic", "bearer"])
def test_deletes_a_manifest(registry: Start, connect: Connect, auth: str | None) -> None:
    fake = registry(auth=auth, **LOGIN)
    digest = fake.put_image("app", "1")
    client = connect(fake, **LOGIN)
    assert client.delete_manifest(app(fake).at(digest))
    assert fake.manifests["app"] == {}
    # Gone already.
    assert client.delete_manifest(app(fake).at(digest))


def test_a_registry_may_not_allow_deletion(registry: Start, connect: Connect) -> None:
    fake = registry(deletable=False)
    digest = fake.put_image("app", "1")
    assert not connect(fake).delete_manifest(app(fake).at(digest))
    assert digest in fake.manifests["app"]


@pytest.mark.parametrize(("status", "deleted"), [(200, True), (202, True), (404, True), (400, False), (405, False)])
def test_answers_to_a_deletion(registry: Start, connect: Connect, status: int, deleted: bool) -> None:
    fake = registry()
    fake.fail(Fault(status=status))
    assert connect(fake).delete_manifest(app(fake).at("sha256:" + "1" * 64)) is deleted


@pytest.mark.parametrize(("status", "code"), [(401, "unauthorized"), (403, "unauthorized"), (500, "registry_error")])
def test_other_answers_to_a_deletion_are_errors(
    registry: Start, connect: Connect, status: int, code: ReasonCode
) -> None:
    fake = registry()
    fake.fail(Fault(status=status))
    fails(code, lambda: connect(fake).delete_manifest(app(fake).at("sha256:" + "1" * 64)))


# Many registries, many threads -------------------------------------------------------------------------------------


def test_each_host_has_its_own_credentials(registry: Start, connect: Connect) -> None:
    one, two = registry(auth="basic", **LOGIN), registry()
    one.put_image("app", "1")
    two.put_image("app", "1")
    client = connect(one, **LOGIN)
    client.manifest(app(one))
    client.manifest(app(two))
    two.auth = "basic"
    fails("unauthorized", lambda: client.manifest(app(two)))
    assert not any(seen.authorized for seen in two.log)
    assert client.request_count == len(one.log) + len(two.log)


@pytest.mark.parametrize(("auth", "first", "then"), [(None, 1, 1), ("basic", 2, 1), ("bearer", 3, 1)])
def test_requests_are_counted(
    registry: Start, connect: Connect, auth: str | None, first: int, then: int
) -> None:
    fake = registry(auth=auth, **LOGIN)
    fake.put_image("app", "1")
    fake.put_blob("app", b"data")
    client = connect(fake, **LOGIN)
    client.manifest(app(fake))
    assert client.request_count == first
    client.blob(app(fake), blob(b"data"), limit=4)
    assert client.request_count == first + then
    client.find_manifest(app(fake, "2"))
    assert client.request_count == first + 2 * then == len(fake.log)
    assert not [seen for seen in fake.log if seen.path in ("/v2", "/v2/")]


def test_many_threads_share_one_transport(registry: Start, connect: Connect) -> None:
    fake = registry(auth="bearer", **LOGIN)
    digests = [fake.put_image("app", str(number)) for number in range(40)]
    client = connect(fake, **LOGIN)
    found: dict[int, str] = {}
    together = threading.Barrier(16)

    def work(first: int) -> None:
        together.wait()
        for number in range(first, 40, 16):
            found[number] = client.manifest(app(fake, str(number))).digest

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert [found[number] for number in range(40)] == digests
    assert client.request_count == len(fake.log) == 42
    assert fake.connections <= 17


def test_docker_hub_is_asked_by_its_api_name(
    registry: Start, connect: Connect, names: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[str, str]] = []

    class Spy:
        request_count = 0

        def __init__(self, host: str, api_host: str, settings: t.Any) -> None:
            made.append((host, api_host))

        def send(self, request: t.Any, *, until: float | None = None) -> Response:
            return Response(404, {}, b"", f"https://{made[-1][1]}/")

    monkeypatch.setattr(registry_module, "Transport", Spy)
    client = connect()
    for _turn in range(2):
        client.find_manifest(Reference("docker.io", "library/alpine", "3"))
    client.find_manifest(Reference("ghcr.io", "o/app", "3"))
    assert made == [("docker.io", "registry-1.docker.io"), ("ghcr.io", "ghcr.io")]


# Paging ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("link", "expected"), [
    ("", None),
    ('</v2/app/x?n=2>; rel="next"', "/v2/app/x?n=2"),
    ("</v2/app/x?n=2>;rel=next", "/v2/app/x?n=2"),
    ('</v2/app/x?n=2> ; rel = "next"', "/v2/app/x?n=2"),
    ('<?n=2>; rel="next"', "/v2/app/referrers/d?n=2"),
    ('<https://r.io/v2/app/x>; rel="next"', "https://r.io/v2/app/x"),
    ('</v2/app/x>; title="x"; rel="next"', "/v2/app/x"),
    ('</v2/app/x>; rel="prev"', None),
    ("</v2/app/x>", None),
    ("next", None),
])
def test_reads_the_link_to_the_next_page(link: str, expected: str | None) -> None:
    response = Response(200, {"link": link} if link else {}, b"", "https://r.io/")
    assert referrers.next_page(response, "/v2/app/referrers/d") == expected


@pytest.mark.parametrize(("link", "expected"), [
    ('</first>; rel="first", </next>; rel="next"', "/next"),
    ('</a;b>; rel="next"', "/a;b"),
    ('</x>; rel="nextish"; rel=nextish', None),
    ('</next>; rel="next", </first>; rel="first"', "/next"),
    ('</first>; rel="first", </last>; rel="last"', None),
])
def test_reads_links_as_rfc_8288_says(link: str, expected: str | None) -> None:
    assert referrers.next_page(Response(200, {"link": link}, b"", "https://r.io/"), "/v2/") == expected


def test_a_link_to_a_broken_url_is_left_to_the_transport(registry: Start, connect: Connect) -> None:
    response = Response(200, {"link": '<http://[x>; rel="next"'}, b"", "https://r.io/")
    location = referrers.next_page(response, "/v2/")
    assert location == "http://[x"
    fake = registry()
    request = Request("GET", location, "", "see more")
    fails("registry_error", lambda: connect(fake).send(app(fake), request))
    assert fake.log == []


def test_paths_and_scopes_name_the_repository() -> None:
    image = Reference("r.io", "team/app", "1")
    assert registry_module.referrers_path(image, "sha256:x") == "/v2/team/app/referrers/sha256:x"
    assert registry_module.pull_scope(image) == "repository:team/app:pull"


@pytest.mark.parametrize(("work", "scope"), [
    (lambda client, image: client.find_manifest(image), "pull"),
    (lambda client, image: client.put_blob(image, b""), "pull,push"),
    (lambda client, image: client.put_manifest(image, b'{"a":1}', media_type=OCI_INDEX), "pull,push"),
    (lambda client, image: client.delete_manifest(image), "pull,push,delete"),
], ids=["read", "blob", "write", "delete"])
def test_no_more_is_asked_for_than_is_needed(
    registry: Start, connect: Connect, work: t.Callable[[Registries, Reference], t.Any], scope: str
) -> None:
    fake = registry(auth="bearer", **LOGIN)
    work(connect(fake, **LOGIN), app(fake))
    wanted = [seen.path.partition("scope=")[2] for seen in fake.requests(path="/token")]
    assert wanted == ["repository%3Aapp%3A" + scope.replace(",", "%2C")]
