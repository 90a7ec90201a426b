# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Referrers: the API and its pages, the fallback tag, and writers that do not lose each other's entries."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import types
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import HallmarkError
from ansible_collections.hallmark.signing.plugins.module_utils._oci import manifest, referrers, shared_tag
from ansible_collections.hallmark.signing.plugins.module_utils._oci.digest import digest_of
from ansible_collections.hallmark.signing.plugins.module_utils._oci.manifest import (
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
)
from ansible_collections.hallmark.signing.plugins.module_utils._oci.reference import Reference
from ansible_collections.hallmark.signing.plugins.module_utils._oci.registry import Registries
from ansible_collections.hallmark.signing.plugins.module_utils._reason_codes import ReasonCode
from ansible_collections.hallmark.signing.tests.unit.fake_registry import FakeRegistry, Fault, Seen, Stored

Start = t.Callable[..., FakeRegistry]
Connect = t.Callable[..., Registries]

LOGIN: dict[str, t.Any] = {"username": "robot", "password": "canary-of-a-password"}
TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
EMPTY = Descriptor(manifest.OCI_EMPTY, digest_of(b"{}"), 2)


def app(fake: FakeRegistry) -> Reference:
    return Reference(fake.host, "app", "1")


def subject_of(fake: FakeRegistry, digest: str) -> Descriptor:
    stored = fake.manifests["app"][digest]
    return Descriptor(stored.media_type, digest, len(stored.raw))


def bundle(fake: FakeRegistry, subject: str, note: str = "x") -> bytes:
    """Return a manifest that refers to subject; its config blob is in the registry."""
    fake.put_blob("app", b"{}")
    return manifest.encode_image(
        config=EMPTY, layers=[], annotations={"note": note},
        subject=subject_of(fake, subject), artifact_type=TYPE,
    )


def entry(number: int, **members: t.Any) -> dict[str, t.Any]:
    return {"mediaType": OCI_MANIFEST, "size": 2, "digest": f"sha256:{number:064x}", **members}


def plant(fake: FakeRegistry, digest: str, *entries: dict[str, t.Any], **members: t.Any) -> None:
    """Store a fallback index."""
    fake.put_manifest(
        "app", {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(entries), **members},
        tag=digest.replace(":", "-"),
    )


def listed(fake: FakeRegistry, digest: str) -> list[str]:
    """Return the digests behind the fallback tag."""
    return [member["digest"] for member in fake.manifests["app"][digest.replace(":", "-")].members["manifests"]]


def found(client: Registries, fake: FakeRegistry, digest: str) -> list[str]:
    return [descriptor.digest for descriptor in referrers.find(client, app(fake), digest)]


def fails(code: ReasonCode, work: t.Callable[[], t.Any]) -> HallmarkError:
    with pytest.raises(HallmarkError) as caught:
        work()
    assert caught.value.code == code
    return caught.value


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_the_fallback_tag_is_the_digest(algorithm: str) -> None:
    digest = digest_of(b"", algorithm=algorithm)
    # A tag has at most 128 characters: the specification cuts the hexadecimal part to 64.
    assert referrers.fallback_tag(digest) == f"{algorithm}-{digest[7:71]}"


# Reading by the API ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("auth", [None, "basic", "bearer"])
def test_lists_by_the_api_in_one_request(registry: Start, connect: Connect, auth: str | None) -> None:
    fake = registry(referrers=True, auth=auth, **LOGIN)
    digest = fake.put_image("app", "1")
    expected = sorted(fake.put_referrer("app", digest, artifact_type=TYPE, note=str(number)) for number in range(3))
    client = connect(fake, **LOGIN)
    client.manifest(app(fake))
    before = client.request_count
    descriptors = referrers.find(client, app(fake), digest)
    assert [descriptor.digest for descriptor in descriptors] == expected
    assert {descriptor.artifact_type for descriptor in descriptors} == {TYPE}
    assert client.request_count == before + 1
    assert client.has_referrers_api == {fake.host: True}


def test_asks_for_an_index_and_filters_nothing(registry: Start, connect: Connect) -> None:
    fake = registry(referrers=True)
    digest = fake.put_image("app", "1")
    referrers.find(connect(fake), app(fake), digest)
    assert fake.log[0].path == f"/v2/app/referrers/{digest}"
    assert fake.log[0].headers["accept"] == OCI_INDEX


def test_an_image_without_referrers_has_none(registry: Start, connect: Connect) -> None:
    fake = registry(referrers=True)
    digest = fake.put_image("app", "1")
    plant(fake, digest, entry(1))
    client = connect(fake)
    # With the API the tag does not count.
    assert found(client, fake, digest) == []
    assert client.request_count == 1


@pytest.mark.parametrize(("count", "page_size", "requests"), [(7, 3, 3), (6, 3, 2), (3, 3, 1), (1, 1, 1), (50, 1, 50)])
def test_follows_pages(registry: Start, connect: Connect, count: int, page_size: int, requests: int) -> None:
    fake = registry(referrers=True, page_size=page_size)
    digest = fake.put_image("app", "1")
    expected = sorted(fake.put_referrer("app", digest, note=str(number)) for number in range(count))
    client = connect(fake)
    assert found(client, fake, digest) == expected
    assert client.request_count == requests


def test_a_next_page_elsewhere_gets_no_credentials(registry: Start, connect: Connect) -> None:
    fake, other = registry(referrers=True, auth="basic", **LOGIN), registry(referrers=True)
    digest = fake.put_image("app", "1")
    other.put_image("app", "1")
    mine, theirs = fake.put_referrer("app", digest), other.put_referrer("app", digest, note="theirs")
    client = connect(fake, **LOGIN)
    client.manifest(app(fake))
    fake.fail(Fault(headers={"Link": f'<{other.url}/v2/app/referrers/{digest}>; rel="next"'}), path="/referrers/")
    assert found(client, fake, digest) == [mine, theirs]
    assert [seen.authorized for seen in other.log] == [False]


@pytest.mark.parametrize("location", ["file:///etc/passwd", "http://169.254.169.254/x", "http://[x", "//u@127.0.0.1/"])
def test_a_next_page_in_a_forbidden_place_is_refused(registry: Start, connect: Connect, location: str) -> None:
    fake = registry(referrers=True)
    digest = fake.put_image("app", "1")
    fake.fail(Fault(headers={"Link": f'<{location}>; rel="next"'}))
    fails("registry_error", lambda: found(connect(fake), fake, digest))
    assert len(fake.log) == 1


def pages(*counts: int, more: bool) -> t.Callable[[Seen], Fault | None]:
    """Return a hook that serves pages of so many entries; with more, the last one repeats for ever."""
    served = [0]

    def hook(seen: Seen) -> Fault | None:
        if "/referrers/" not in seen.path:
            return None
        number = served[0]
        served[0] += 1
        count = counts[min(number, len(counts) - 1)]
        entries = [entry(number * 10_000 + position + 1) for position in range(count)]
        body = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
        last = number >= len(counts) - 1 and not more
        return Fault(status=200, headers={} if last else {"Link": f'<?page={number + 1}>; rel="next"'}, body=body)

    return hook


@pytest.mark.parametrize(("counts", "fits"), [
    ((1000,), True), ((1001,), False), ((500, 500), True), ((500, 501), False), ((10_000,), False),
])
def test_at_most_a_thousand_referrers(registry: Start, connect: Connect, counts: tuple[int, ...], fits: bool) -> None:
    fake = registry()
    digest = fake.put_image("app", "1")
    fake.faults.append(pages(*counts, more=False))
    client = connect(fake)
    if fits:
        assert len(found(client, fake, digest)) == 1000
    else:
        error = fails("limit_exceeded", lambda: found(client, fake, digest))
        assert "more than 1000" in error.cause


def test_pages_without_end_stop_at_a_thousand_entries(registry: Start, connect: Connect) -> None:
    fake = registry()
    digest = fake.put_image("app", "1")
    fake.faults.append(pages(200, more=True))
    fails("limit_exceeded", lambda: found(connect(fake), fake, digest))
    assert len(fake.log) == 6


# What was found so far must never be returned as if it were all.
@pytest.mark.parametrize("count", [0, 1])
def test_pages_without_end_are_an_error(registry: Start, connect: Connect, count: int) -> None:
    fake = registry()
    digest = fake.put_image("app", "1")
    fake.faults.append(pages(count, more=True))
    error = fails("limit_exceeded", lambda: found(connect(fake), fake, digest))
    assert "more than 100 pages" in error.cause
    assert len(fake.log) == 100


# A later page that is missing makes the list incomplete: neither is it short, nor is there no API.
@pytest.mark.parametrize(("status", "code"), [
    (404, "not_found"), (400, "registry_error"), (405, "registry_error"), (406, "registry_error"),
    (401, "unauthorized"), (500, "registry_error"),
])
@pytest.mark.parametrize("known", [True, False])
def test_a_later_page_that_fails_is_an_error(
    registry: Start, connect: Connect, status: int, code: ReasonCode, known: bool
) -> None:
    fake = registry(referrers=True, page_size=1)
    digest = fake.put_image("app", "1")
    for number in range(2):
        fake.put_referrer("app", digest, note=str(number))
    fake.fail(Fault(status=status), path="?start=")
    client = connect(fake)
    if known:
        client.has_referrers_api[fake.host] = True
    fails(code, lambda: found(client, fake, digest))
    assert client.has_referrers_api == {fake.host: True}
    assert fake.requests(path="/manifests/") == []


# One 404 must not turn the API off for all repositories of a host that has just proved to have it.
def test_an_api_that_answered_stays_known(registry: Start, connect: Connect) -> None:
    fake = registry(referrers=True)
    digest = fake.put_image("app", "1")
    expected = fake.put_referrer("app", digest)
    client = connect(fake)
    assert found(client, fake, digest) == [expected]
    fake.fail(Fault(status=404, body=b"not here"), path="/v2/strange/referrers/")
    referrers.find(client, Reference(fake.host, "strange", "1"), digest)
    assert found(client, fake, digest) == [expected]


@pytest.mark.parametrize(("fault", "code"), [
    (Fault(status=401), "unauthorized"),
    (Fault(status=403), "unauthorized"),
    (Fault(status=500), "registry_error"),
    (Fault(status=418), "registry_error"),
    (Fault(status=200, body=b"not json"), "malformed"),
    (Fault.html(), "malformed"),
    (Fault(status=200, body=b"[]"), "malformed"),
    (Fault(status=200, body=b'{"mediaType":"%s"}' % OCI_MANIFEST.encode()), "malformed"),
    (Fault(status=200, body=b'{"manifests":[{"digest":"x","size":1}]}'), "malformed"),
    (Fault(status=200, chunked=True, endless=True), "limit_exceeded"),
    (Fault(status=200, body=b" " * (4 * 1024 * 1024 + 1)), "limit_exceeded"),
    (Fault.gzip(b"{}"), "registry_error"),
    (Fault(cut_after=5), "registry_error"),
])
def test_a_list_that_cannot_be_had_is_an_error_and_not_empty(
    registry: Start, connect: Connect, fault: Fault, code: ReasonCode
) -> None:
    fake = registry(referrers=True)
    digest = fake.put_image("app", "1")
    plant(fake, digest, entry(1))
    fake.fail(fault, path="/referrers/")
    fails(code, lambda: found(connect(fake), fake, digest))


# A nil slice of a registry written in Go is null, and means no referrers.
def test_null_is_an_empty_list(registry: Start, connect: Connect) -> None:
    fake = registry()
    digest = fake.put_image("app", "1")
    fake.fail(Fault(status=200, body=b'{"schemaVersion":2,"manifests":null}'), path="/referrers/")
    assert found(connect(fake), fake, digest) == []


# Reading by the fallback tag ---------------------------------------------------------------------------------------


def test_lists_by_the_fallback_tag(registry: Start, connect: Connect) -> None:
    fake = registry()
    digest = fake.put_image("app", "1")
    plant(fake, digest, entry(2, artifactType="application/vnd.oci.empty.v1+json"), entry(1))
    client = connect(fake)
    assert found(client, fake, digest) == [entry(2)["digest"], entry(1)["digest"]]
    assert client.has_referrers_api == {fake.host: False}
    assert [seen.path for seen in fake.log] == [
        f"/v2/app/referrers/{digest}", f"/v2/app/manifests/{digest.replace(':', '-')}",
    ]


def test_the_api_is_probed_once_for_a_registry_and_run(registry: Start, connect: Connect) -> None:
    fake = registry()
    digests = [fake.put_image("app", str(number)) for number in range(5)]
    client = connect(fake)
    for digest in digests:
        assert found(client, fake, digest) == []
    assert len(fake.requests(path="/referrers/")) == 1
    assert client.request_count == 1 + 5


@pytest.mark.parametrize("writing", [False, True])
def test_the_api_is_probed_once_by_sixteen_threads(registry: Start, connect: Connect, writing: bool) -> None:
    fake = registry()
    digests = [fake.put_image("app", str(number)) for number in range(16)]
    client = connect(fake)
    client.manifest(app(fake))
    fake.fail(Fault(delay=0.05), path="/referrers/")
    together = threading.Barrier(16)
    results: list[t.Any] = []

    def work(digest: str) -> None:
        together.wait()
        if writing:
            results.append(referrers.attach(client, app(fake), subject_of(fake, digest), bundle(fake, digest)))
        else:
            results.append(found(client, fake, digest))

    threads = [threading.Thread(target=work, args=(digest,)) for digest in digests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(results) == 16
    assert len(fake.requests(path="/referrers/")) == 1
    assert client.has_referrers_api == {fake.host: False}


def test_sixteen_threads_ask_the_api_once_for_each_image(registry: Start, connect: Connect) -> None:
    fake = registry(referrers=True)
    digests = [fake.put_image("app", str(number)) for number in range(16)]
    expected = {digest: [fake.put_referrer("app", digest)] for digest in digests}
    client = connect(fake)
    fake.fail(Fault(delay=0.02), path="/referrers/")
    together = threading.Barrier(16)
    results: dict[str, list[str]] = {}

    def work(digest: str) -> None:
        together.wait()
        results[digest] = found(client, fake, digest)

    threads = [threading.Thread(target=work, args=(digest,)) for digest in digests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert results == expected
    assert len(fake.requests(path="/referrers/")) == 16
    assert fake.requests(path="/manifests/") == []


@pytest.mark.parametrize("status", [400, 404, 405, 406])
def test_each_way_to_say_that_there_is_no_api(registry: Start, connect: Connect, status: int) -> None:
    fake = registry()
    digest = fake.put_image("app", "1")
    plant(fake, digest, entry(1))
    fake.fail(Fault(status=status), path="/referrers/")
    assert found(connect(fake), fake, digest) == [entry(1)["digest"]]


def test_a_repository_that_does_not_exist_yet_says_nothing_about_the_api(registry: Start, connect: Connect) -> None:
    fake = registry(referrers=True)
    client = connect(fake)
    missing = "sha256:" + "1" * 64
    assert found(client, fake, missing) == []
    assert client.has_referrers_api == {}
    digest = fake.put_image("app", "1")
    expected = fake.put_referrer("app", digest)
    assert found(client, fake, digest) == [expected]


def test_a_fallback_tag_that_is_the_image_itself_lists_nothing(registry: Start, connect: Connect) -> None:
    fake = registry()
    digest = fake.put_image("app", "1")
    fake.manifests["app"][digest.replace(":", "-")] = fake.manifests["app"][digest]
    assert found(connect(fake), fake, digest) == []


# Distribution specification, "Pushing Manifests with Subject": report what is no index, and do not go on.
def test_a_fallback_tag_that_is_of_another_kind_is_an_error_and_stays(registry: Start, connect: Connect) -> None:
    fake = registry()
    digest = fake.put_image("app", "1")
    kind = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    planted = Stored(kind, b'{"schemaVersion":1,"name":"app"}')
    fake.manifests["app"][digest.replace(":", "-")] = planted
    fails("malformed", lambda: found(connect(fake), fake, digest))
    fails("malformed", lambda: referrers.attach(
        connect(fake), app(fake), subject_of(fake, digest), bundle(fake, digest)
    ))
    assert fake.manifests["app"][digest.replace(":", "-")] == planted


def test_a_fallback_index_of_ten_thousand_entries_is_refused(registry: Start, connect: Connect) -> None:
    fake = registry()
    digest = fake.put_image("app", "1")
    plant(fake, digest, *[entry(number) for number in range(10_000)])
    fails("limit_exceeded", lambda: found(connect(fake), fake, digest))


@pytest.mark.parametrize(("fault", "code"), [
    (Fault(status=403), "unauthorized"),
    (Fault(status=500), "registry_error"),
    (Fault.html(), "registry_error"),
    (Fault(cut_after=5), "registry_error"),
    (Fault(status=200, body=b" " * (4 * 1024 * 1024 + 1)), "limit_exceeded"),
])
def test_a_fallback_tag_that_cannot_be_had_is_an_error(
    registry: Start, connect: Connect, fault: Fault, code: ReasonCode
) -> None:
    fake = registry()
    digest = fake.put_image("app", "1")
    plant(fake, digest, entry(1))
    fake.fail(fault, path="/manifests/sha256-")
    fails(code, lambda: found(connect(fake), fake, digest))


# A list that cannot be parsed is not an empty one.
@pytest.mark.parametrize("broken", [
    {"mediaType": OCI_MANIFEST, "size": -1, "digest": "sha256:" + "1" * 64},
    {"mediaType": OCI_MANIFEST, "size": 1, "digest": "sha256:../.."},
])
def test_a_fallback_index_with_a_broken_entry_is_an_error(
    registry: Start, connect: Connect, broken: dict[str, t.Any]
) -> None:
    fake = registry()
    digest = fake.put_image("app", "1")
    plant(fake, digest, entry(1), broken)
    fails("malformed", lambda: found(connect(fake), fake, digest))


# Writing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("auth", [None, "basic", "bearer"])
def test_attaches_in_one_request_where_the_registry_lists_by_itself(
    registry: Start, connect: Connect, auth: str | None
) -> None:
    fake = registry(referrers=True, auth=auth, **LOGIN)
    digest = fake.put_image("app", "1")
    raw = bundle(fake, digest)
    client = connect(fake, **LOGIN)
    client.manifest(app(fake))
    attached, _written = referrers.attach(client, app(fake), subject_of(fake, digest), raw)
    assert attached == Descriptor(OCI_MANIFEST, digest_of(raw), len(raw), TYPE, {"note": "x"})
    assert fake.manifests["app"][attached.digest] == Stored(OCI_MANIFEST, raw)
    assert client.has_referrers_api == {fake.host: True}
    assert digest.replace(":", "-") not in fake.manifests["app"]
    assert len(fake.requests("PUT")) == 1
    assert fake.requests("GET", "/referrers/") == []
    assert found(client, fake, digest) == [attached.digest]


@pytest.mark.parametrize("subject", [None, "sha256:" + "0" * 64])
def test_a_registry_that_does_not_announce_is_asked(
    registry: Start, connect: Connect, subject: str | None
) -> None:
    fake = registry(referrers=True, announces=False)
    digest = fake.put_image("app", "1")
    if subject:
        fake.fail(Fault(headers={"OCI-Subject": subject}), method="PUT")
    client = connect(fake)
    referrers.attach(client, app(fake), subject_of(fake, digest), bundle(fake, digest))
    assert len(fake.requests("GET", "/referrers/")) == 1
    assert digest.replace(":", "-") not in fake.manifests["app"]


def test_an_announcement_for_another_subject_does_not_count(registry: Start, connect: Connect) -> None:
    fake = registry()
    digest = fake.put_image("app", "1")
    fake.fail(Fault(headers={"OCI-Subject": "sha256:" + "0" * 64}), method="PUT")
    attached, _written = referrers.attach(connect(fake), app(fake), subject_of(fake, digest), bundle(fake, digest))
    assert listed(fake, digest) == [attached.digest]


def test_makes_the_fallback_index(registry: Start, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(shared_tag, "time", types.SimpleNamespace(sleep=pauses.append, monotonic=time.monotonic))
    fake = registry()
    digest = fake.put_image("app", "1")
    raw = bundle(fake, digest)
    client = connect(fake)
    attached, _written = referrers.attach(client, app(fake), subject_of(fake, digest), raw)
    stored = fake.manifests["app"][digest.replace(":", "-")]
    assert stored.media_type == OCI_INDEX
    assert stored.members == {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [{
        "mediaType": OCI_MANIFEST, "size": len(raw), "digest": digest_of(raw),
        "annotations": {"note": "x"}, "artifactType": TYPE,
    }]}
    assert fake.manifests["app"][attached.digest].raw == raw
    # The manifest, the probe, read, write, read back.
    assert [seen.method for seen in fake.log] == ["PUT", "GET", "GET", "PUT", "GET"]
    assert pauses == []


def test_entries_of_others_are_kept_whole_and_sorted(registry: Start, connect: Connect) -> None:
    fake = registry()
    digest = fake.put_image("app", "1")
    others = [entry(2 ** 255, data="eA==", future={"x": [1]}), entry(1, platform={"os": "x"}, annotations={"k": "<v>"})]
    plant(fake, digest, *others)
    attached, _written = referrers.attach(connect(fake), app(fake), subject_of(fake, digest), bundle(fake, digest))
    members = fake.manifests["app"][digest.replace(":", "-")].members["manifests"]
    assert [member["digest"] for member in members] == sorted(
        [attached.digest, *(other["digest"] for other in others)]
    )
    assert all(other in members for other in others)


def test_attaching_twice_writes_the_list_once(registry: Start, connect: Connect) -> None:
    fake = registry()
    digest = fake.put_image("app", "1")
    client = connect(fake)
    for _turn in range(2):
        referrers.attach(client, app(fake), subject_of(fake, digest), bundle(fake, digest))
    assert len(listed(fake, digest)) == 1
    assert len(fake.requests("PUT", "/manifests/sha256-")) == 1
    assert len(fake.requests("GET", "/referrers/")) == 1


@pytest.mark.parametrize(("count", "fits"), [(999, True), (1000, False)])
def test_no_list_is_written_that_nobody_would_read(
    registry: Start, connect: Connect, count: int, fits: bool
) -> None:
    fake = registry()
    digest = fake.put_image("app", "1")
    plant(fake, digest, *[entry(number) for number in range(count)])
    client = connect(fake)
    if fits:
        referrers.attach(client, app(fake), subject_of(fake, digest), bundle(fake, digest))
        assert len(found(client, fake, digest)) == 1000
    else:
        fails("limit_exceeded", lambda: referrers.attach(
            client, app(fake), subject_of(fake, digest), bundle(fake, digest)
        ))
        assert len(listed(fake, digest)) == 1000


def test_a_tag_that_is_the_image_itself_is_replaced(registry: Start, connect: Connect) -> None:
    fake = registry()
    digest = fake.put_image("app", "1")
    fake.manifests["app"][digest.replace(":", "-")] = fake.manifests["app"][digest]
    attached, _written = referrers.attach(connect(fake), app(fake), subject_of(fake, digest), bundle(fake, digest))
    assert listed(fake, digest) == [attached.digest]
    assert digest in fake.manifests["app"]


# One entry that cannot be read must not make the whole list "something else", which a writer would overwrite.
@pytest.mark.parametrize("broken", [
    {"mediaType": OCI_MANIFEST, "size": -1, "digest": "sha256:" + "f" * 64},
    {"mediaType": OCI_MANIFEST, "size": 2, "digest": "sha384:" + "f" * 96},
    {"mediaType": OCI_MANIFEST, "size": 2, "digest": "sha256:" + "f" * 64, "annotations": {"x": 1}},
])
def test_a_list_that_cannot_be_read_is_not_overwritten(
    registry: Start, connect: Connect, broken: dict[str, t.Any]
) -> None:
    fake = registry()
    digest = fake.put_image("app", "1")
    plant(fake, digest, entry(1), broken)
    with pytest.raises(HallmarkError):
        referrers.attach(connect(fake), app(fake), subject_of(fake, digest), bundle(fake, digest))
    assert entry(1)["digest"] in listed(fake, digest)


def test_a_list_that_cannot_be_had_is_not_overwritten(registry: Start, connect: Connect) -> None:
    fake = registry()
    digest = fake.put_image("app", "1")
    plant(fake, digest, entry(1))
    fake.fail(Fault(status=500), method="GET", path="/manifests/sha256-")
    fails("registry_error", lambda: referrers.attach(
        connect(fake), app(fake), subject_of(fake, digest), bundle(fake, digest)
    ))
    assert listed(fake, digest) == [entry(1)["digest"]]


def test_only_a_manifest_can_be_attached(registry: Start, connect: Connect) -> None:
    fake = registry()
    digest = fake.put_image("app", "1")
    fails("malformed", lambda: referrers.attach(connect(fake), app(fake), subject_of(fake, digest), b"{"))
    assert fake.log == []


# Writers at the same time ------------------------------------------------------------------------------------------

PROGRAM = """
import sys
from ansible_collections.hallmark.signing.plugins.module_utils._oci import manifest, referrers
from ansible_collections.hallmark.signing.plugins.module_utils._oci.credentials import AuthFile
from ansible_collections.hallmark.signing.plugins.module_utils._oci.digest import digest_of
from ansible_collections.hallmark.signing.plugins.module_utils._oci.reference import Reference
from ansible_collections.hallmark.signing.plugins.module_utils._oci.registry import Registries
from ansible_collections.hallmark.signing.plugins.module_utils._oci.transport import RegistrySettings
host, digest, size, name = sys.argv[1:]
client = Registries(RegistrySettings(AuthFile("none", {})))
for number in range(5):
    raw = manifest.encode_image(
        config=manifest.Descriptor(manifest.OCI_EMPTY, digest_of(b"{}"), 2), layers=[],
        annotations={"note": name + str(number)},
        subject=manifest.Descriptor(manifest.OCI_MANIFEST, digest, int(size)), artifact_type="x/y",
    )
    print(referrers.attach(
        client, Reference(host, "app"), manifest.Descriptor(manifest.OCI_MANIFEST, digest, int(size)), raw
    )[0].digest)
"""


def test_threads_and_processes_lose_nothing(registry: Start, connect: Connect) -> None:
    fake = registry()
    digest = fake.put_image("app", "1")
    subject = subject_of(fake, digest)
    fake.put_blob("app", b"{}")
    # Time between read and write, in which another writer would come in.
    fake.fail(Fault(delay=0.003), path="/manifests/sha256-")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, fake.host, digest, str(subject.size), f"process {number} "],
            env=environment, stdout=subprocess.PIPE, text=True,
        ) for number in range(3)
    ]
    attached: list[str] = []

    def work(client: Registries, name: str) -> None:
        for number in range(5):
            raw = bundle(fake, digest, f"{name} {number}")
            attached.append(referrers.attach(client, app(fake), subject, raw)[0].digest)

    shared = connect(fake)
    clients = [shared, shared, shared, connect(fake), connect(fake)]
    threads = [threading.Thread(target=work, args=(client, str(number))) for number, client in enumerate(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    for process in processes:
        attached += process.communicate(timeout=120)[0].split()
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(set(attached)) == 8 * 5
    assert listed(fake, digest) == sorted(attached)


def overwriting(fake: FakeRegistry, digest: str, times: int) -> None:
    """Let another host write the fallback tag back just after each of our writes, so many times."""
    tag = digest.replace(":", "-")
    left = [times]

    def hook(seen: Seen) -> Fault | None:
        if seen.method == "GET" and seen.path.endswith(tag) and left[0] and fake.requests("PUT", tag):
            before = fake.manifests["app"].get(tag)
            mine = {member["digest"] for member in before.members["manifests"]} if before else set()
            if entry(1)["digest"] not in mine or len(mine) > 1:
                left[0] -= 1
                plant(fake, digest, entry(1))
        return None

    fake.faults.append(hook)


@pytest.mark.parametrize("times", [1, 2])
def test_an_entry_that_another_host_overwrote_is_written_again(registry: Start, connect: Connect, times: int) -> None:
    fake = registry()
    digest = fake.put_image("app", "1")
    overwriting(fake, digest, times)
    attached, _written = referrers.attach(connect(fake), app(fake), subject_of(fake, digest), bundle(fake, digest))
    assert sorted(listed(fake, digest)) == sorted([entry(1)["digest"], attached.digest])


def test_the_last_write_is_read_back_before_it_is_given_up(
    registry: Start, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_tag, "time", types.SimpleNamespace(sleep=lambda _pause: None, monotonic=time.monotonic))
    fake = registry()
    digest = fake.put_image("app", "1")
    overwriting(fake, digest, shared_tag._ATTEMPTS - 1)
    attached, _written = referrers.attach(connect(fake), app(fake), subject_of(fake, digest), bundle(fake, digest))
    assert attached.digest in listed(fake, digest)
    assert len(fake.requests("PUT", "/manifests/sha256-")) == shared_tag._ATTEMPTS


def test_an_entry_that_is_always_overwritten_is_an_error(
    registry: Start, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(shared_tag, "time", types.SimpleNamespace(sleep=pauses.append, monotonic=time.monotonic))
    fake = registry()
    digest = fake.put_image("app", "1")
    overwriting(fake, digest, 1000)
    error = fails("write_lost", lambda: referrers.attach(
        connect(fake), app(fake), subject_of(fake, digest), bundle(fake, digest)
    ))
    assert error.object == f"{fake.host}/app:{digest.replace(':', '-')}"
    assert len(fake.requests("PUT", "/manifests/sha256-")) == 8
    assert len([pause for pause in pauses if pause]) >= 6


# Removing ----------------------------------------------------------------------------------------------------------


def test_detaches_by_the_api(registry: Start, connect: Connect) -> None:
    fake = registry(referrers=True)
    digest = fake.put_image("app", "1")
    one, two, three = (fake.put_referrer("app", digest, note=str(number)) for number in range(3))
    client = connect(fake)
    referrers.detach(client, app(fake), digest, [one, two])
    assert found(client, fake, digest) == [three]
    assert one not in fake.manifests["app"]
    assert fake.requests("PUT") + fake.requests(path="/manifests/sha256-") == []


def test_detaches_by_the_fallback_tag(registry: Start, connect: Connect) -> None:
    fake = registry()
    digest = fake.put_image("app", "1")
    one = fake.put_referrer("app", digest)
    plant(fake, digest, entry(2, future=1), entry(1), {**entry(0), "digest": one})
    referrers.detach(connect(fake), app(fake), digest, [one, entry(1)["digest"]])
    assert fake.manifests["app"][digest.replace(":", "-")].members["manifests"] == [entry(2, future=1)]
    assert one not in fake.manifests["app"]
    assert digest in fake.manifests["app"]


def test_the_list_is_changed_before_the_manifest_is_deleted(registry: Start, connect: Connect) -> None:
    fake = registry()
    digest = fake.put_image("app", "1")
    one = fake.put_referrer("app", digest)
    plant(fake, digest, {**entry(0), "digest": one})
    referrers.detach(connect(fake), app(fake), digest, [one])
    methods = [seen.method for seen in fake.log]
    assert methods.index("PUT") < methods.index("DELETE")


def test_detaching_what_is_not_listed_writes_nothing(registry: Start, connect: Connect) -> None:
    fake = registry()
    digest = fake.put_image("app", "1")
    plant(fake, digest, entry(1))
    referrers.detach(connect(fake), app(fake), digest, [entry(2)["digest"]])
    assert fake.requests("PUT") == []
    assert listed(fake, digest) == [entry(1)["digest"]]


def test_detaching_without_a_list_makes_none(registry: Start, connect: Connect) -> None:
    fake = registry()
    digest = fake.put_image("app", "1")
    referrers.detach(connect(fake), app(fake), digest, [entry(2)["digest"]])
    assert fake.requests("PUT") == []


def test_a_registry_without_the_api_may_refuse_deletion(registry: Start, connect: Connect) -> None:
    fake = registry(deletable=False)
    digest = fake.put_image("app", "1")
    one = fake.put_referrer("app", digest)
    plant(fake, digest, {**entry(0), "digest": one})
    # No longer listed: that is what counts.
    referrers.detach(connect(fake), app(fake), digest, [one])
    assert listed(fake, digest) == []
    assert one in fake.manifests["app"]


def test_a_registry_with_the_api_that_refuses_deletion_is_an_error(registry: Start, connect: Connect) -> None:
    fake = registry(referrers=True, deletable=False)
    digest = fake.put_image("app", "1")
    one = fake.put_referrer("app", digest)
    error = fails("registry_error", lambda: referrers.detach(connect(fake), app(fake), digest, [one]))
    assert "does not allow deletion" in error.cause
    assert error.object == f"{fake.host}/app@{one}"


def test_detaching_what_is_gone_is_no_error(registry: Start, connect: Connect) -> None:
    fake = registry(referrers=True)
    digest = fake.put_image("app", "1")
    referrers.detach(connect(fake), app(fake), digest, [entry(1)["digest"]])


def test_a_removal_that_another_host_undid_is_done_again(registry: Start, connect: Connect) -> None:
    fake = registry()
    digest = fake.put_image("app", "1")
    plant(fake, digest, entry(1), entry(2))
    tag = digest.replace(":", "-")
    undone = [1]

    def hook(seen: Seen) -> Fault | None:
        if seen.method == "GET" and seen.path.endswith(tag) and undone[0] and fake.requests("PUT", tag):
            undone[0] -= 1
            plant(fake, digest, entry(1), entry(2), entry(3))
        return None

    fake.faults.append(hook)
    referrers.detach(connect(fake), app(fake), digest, [entry(1)["digest"]])
    assert listed(fake, digest) == [entry(2)["digest"], entry(3)["digest"]]
