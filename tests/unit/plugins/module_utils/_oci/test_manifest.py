# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Manifests, indexes and descriptors: one meaning per document, and the bytes that cosign would write."""

from __future__ import annotations

import json
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils import _strict_json
from ansible_collections.hallmark.signing.plugins.module_utils._errors import FormatError
from ansible_collections.hallmark.signing.plugins.module_utils._oci import manifest
from ansible_collections.hallmark.signing.plugins.module_utils._oci.digest import digest_of
from ansible_collections.hallmark.signing.plugins.module_utils._oci.manifest import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_EMPTY,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    Manifest,
)

D1 = "sha256:" + "1" * 64
D2 = "sha256:" + "2" * 64
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"


def entry(digest: str = D1, **members: t.Any) -> dict[str, t.Any]:
    return {"mediaType": OCI_MANIFEST, "size": 5, "digest": digest, **members}


def image(**members: t.Any) -> dict[str, t.Any]:
    return {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": entry(), "layers": [entry(D2)], **members}


def index(*children: dict[str, t.Any], **members: t.Any) -> dict[str, t.Any]:
    return {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(children), **members}


def parse(document: dict[str, t.Any] | bytes, content_type: str = "") -> Manifest:
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    return manifest.parse(raw, content_type=content_type, where="host/app")


def refused(document: dict[str, t.Any] | bytes, content_type: str = "") -> str:
    with pytest.raises(FormatError) as caught:
        parse(document, content_type)
    assert (caught.value.code, caught.value.object) == ("malformed", "host/app")
    return caught.value.cause


def test_reads_an_image() -> None:
    raw = json.dumps(image(artifactType="application/x", annotations={"a": "b"})).encode()
    found = manifest.parse(raw, content_type=OCI_MANIFEST, where="app")
    assert not found.is_index
    assert (found.raw, found.digest, found.media_type) == (raw, digest_of(raw), OCI_MANIFEST)
    assert (found.artifact_type, found.annotations) == ("application/x", {"a": "b"})
    assert found.config == Descriptor(OCI_MANIFEST, D1, 5)
    assert found.layers == (Descriptor(OCI_MANIFEST, D2, 5),)
    assert found.children == found.images == ()
    assert found.descriptor() == Descriptor(OCI_MANIFEST, digest_of(raw), len(raw))


def test_reads_an_index() -> None:
    platform = {"os": "linux", "architecture": "arm64"}
    found = parse(index(entry(D1, platform=platform, artifactType="x"), entry(D2, annotations={"k": "v"})))
    assert found.is_index
    assert found.config is None
    assert found.children == (
        Descriptor(OCI_MANIFEST, D1, 5, "x"), Descriptor(OCI_MANIFEST, D2, 5, "", {"k": "v"}),
    )
    assert found.images == found.children
    assert found.children[0].source["platform"] == platform


@pytest.mark.parametrize(("media_type", "is_index"), [
    (OCI_MANIFEST, False), (DOCKER_MANIFEST, False), (OCI_INDEX, True), (DOCKER_LIST, True),
])
def test_takes_all_four_media_types(media_type: str, is_index: bool) -> None:
    document = index(entry()) if is_index else image()
    found = parse({**document, "mediaType": media_type}, media_type)
    assert (found.is_index, len(found.children), len(found.layers)) == (is_index, int(is_index), int(not is_index))
    del document["mediaType"]
    found = parse(document, f"{media_type}; charset=utf-8")
    assert (found.media_type, found.is_index) == (media_type, is_index)


@pytest.mark.parametrize(("document", "media_type"), [(image(), OCI_MANIFEST), (index(), OCI_INDEX)])
def test_guesses_the_type_only_where_nothing_names_it(document: dict[str, t.Any], media_type: str) -> None:
    del document["mediaType"]
    assert parse(document).media_type == media_type


def test_buildkit_provenance_is_no_image() -> None:
    provenance = entry(
        D2, platform={"os": "unknown", "architecture": "unknown"},
        annotations={"vnd.docker.reference.type": "attestation-manifest"},
    )
    found = parse(index(entry(D1), provenance))
    assert [child.digest for child in found.children] == [D1, D2]
    assert [child.digest for child in found.images] == [D1]


# The annotation alone must not make an engine's image invisible; BuildKit's own have platform unknown/unknown.
def test_an_image_of_a_real_platform_is_one_whatever_its_annotations() -> None:
    hidden = entry(
        D2, platform={"os": "linux", "architecture": "amd64"},
        annotations={"vnd.docker.reference.type": "attestation-manifest"},
    )
    assert [child.digest for child in parse(index(entry(D1), hidden)).images] == [D1, D2]


@pytest.mark.parametrize("media_type", [
    "text/html",
    "application/json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
    "application/vnd.oci.image.manifest.v2+json",
    OCI_MANIFEST + " ",
    OCI_MANIFEST.upper(),
    "x" * 10_000,
])
def test_refuses_other_media_types(media_type: str) -> None:
    assert len(refused(image(mediaType=media_type))) < 300
    if media_type.strip() != OCI_MANIFEST:
        document = image()
        del document["mediaType"]
        refused(document, media_type)


@pytest.mark.parametrize(("declared", "header"), [
    (OCI_MANIFEST, OCI_INDEX), (OCI_INDEX, OCI_MANIFEST), (OCI_MANIFEST, DOCKER_MANIFEST),
    (DOCKER_MANIFEST, DOCKER_LIST), (OCI_INDEX, OCI_MANIFEST + "; charset=utf-8"),
])
def test_refuses_a_document_and_a_header_that_differ(declared: str, header: str) -> None:
    cause = refused({"schemaVersion": 2, "mediaType": declared}, header)
    assert declared in cause


@pytest.mark.parametrize("header", ["", "application/json", "text/plain", "application/octet-stream"])
def test_a_vague_header_does_not_matter(header: str) -> None:
    assert parse(image(), header).media_type == OCI_MANIFEST


@pytest.mark.parametrize("media_type", [OCI_MANIFEST, OCI_INDEX, None])
def test_refuses_what_is_an_image_and_an_index(media_type: str | None) -> None:
    document = {**image(), "manifests": [entry()]}
    document.pop("mediaType")
    if media_type:
        document["mediaType"] = media_type
    refused(document)


# CVE-2021-41190: two readers would see two documents.
@pytest.mark.parametrize(("document", "header"), [
    ({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "manifests": [entry()]}, ""),
    ({"schemaVersion": 2, "manifests": [entry()]}, OCI_MANIFEST),
    ({"schemaVersion": 2, "manifests": [entry()], "config": entry()}, OCI_MANIFEST),
    ({"schemaVersion": 2, "mediaType": OCI_INDEX, "config": entry(), "layers": [entry()]}, ""),
    ({"schemaVersion": 2, "mediaType": OCI_INDEX, "config": entry(), "manifests": [entry()]}, ""),
    ({"schemaVersion": 2, "layers": [entry()]}, OCI_INDEX),
])
def test_refuses_an_index_with_members_of_an_image_and_the_reverse(document: dict[str, t.Any], header: str) -> None:
    refused(document, header)


# Go ignores the case of members: an engine would read children that a verifier does not see.
@pytest.mark.parametrize("document", [
    {"schemaVersion": 2, "mediaType": OCI_INDEX, "Manifests": [entry()]},
    {**image(), "Layers": [entry()]},
    {**image(), "CONFIG": entry(D2)},
    {**image(), "MediaType": OCI_INDEX},
])
def test_refuses_members_that_differ_by_case_only(document: dict[str, t.Any]) -> None:
    refused(document)


@pytest.mark.parametrize("raw", [
    b"",
    b"[]",
    b"null",
    b'"x"',
    b"not json",
    b"<html></html>",
    b"\xef\xbb\xbf{}",
    b"\xff\xfe{\x00}\x00",
    b'{"a":"\xff"}',
    b"{}{}",
    b"{} x",
    b'{"schemaVersion":2,"schemaVersion":2}',
    b'{"mediaType":"%s","mediaType":"%s"}' % (OCI_MANIFEST.encode(), OCI_INDEX.encode()),
    b'{"annotations":{"a":"1","a":"2"}}',
    b'{"x":NaN}',
    b'{"x":-Infinity}',
    b'{"x":%s}' % (b"1" * 33),
    b'{"x":%s}' % (b"1" * 10_000_000),
    b'{"x":1.%s}' % (b"1" * 33),
    b'{"x":' * 100_000,
    b"[" * 100_000,
    b'{"x":%s1%s}' % (b"[" * 100_000, b"]" * 100_000),
], ids=lambda raw: repr(raw[:20]))
def test_refuses_json_of_more_than_one_meaning(raw: bytes) -> None:
    refused(raw)


@pytest.mark.parametrize("document", [
    image(mediaType=1),
    image(mediaType=None),
    image(artifactType=1),
    image(layers={}),
    image(layers=[1]),
    image(layers=["x"]),
    image(config=[]),
    image(config="x"),
    image(config={}),
    image(annotations={"a": 1}),
    image(annotations=["a"]),
    image(annotations="a"),
    index("x"),  # type: ignore[arg-type]
    {**index(), "manifests": {}},
])
def test_refuses_members_of_the_wrong_type(document: dict[str, t.Any]) -> None:
    refused(document)


@pytest.mark.parametrize("name", ["config", "layers", "manifests"])
def test_null_is_the_same_as_a_missing_member(name: str) -> None:
    # Registries written in Go send null for what is not there.
    document = index(entry()) if name == "manifests" else image()
    null = parse({**document, name: None})
    del document[name]
    missing = parse(document)
    assert (null.config, null.layers, null.children) == (missing.config, missing.layers, missing.children)
    assert {"config": null.config, "layers": null.layers, "manifests": null.children}[name] in (None, ())


@pytest.mark.parametrize("document", [image(manifests=None), index(config=None, layers=None)])
def test_null_makes_no_document_of_two_kinds(document: dict[str, t.Any]) -> None:
    parse(document)


@pytest.mark.parametrize("broken", [
    {"size": -1},
    {"size": 2 ** 62},
    {"size": 2 ** 63},
    {"size": 10 ** 31},
    {"size": 5.0},
    {"size": 1e3},
    {"size": "5"},
    {"size": True},
    {"size": None},
    {"digest": ""},
    {"digest": None},
    {"digest": "sha256:" + "1" * 63},
    {"digest": "sha256:../../etc/passwd"},
    {"digest": "sha1:" + "1" * 40},
    {"digest": D1 + "\n"},
    {"digest": D1.upper()},
    {"mediaType": 1},
    {"artifactType": []},
    {"annotations": {"a": None}},
    {"annotations": []},
])
def test_refuses_broken_descriptors_wherever_they_stand(broken: dict[str, t.Any]) -> None:
    refused(image(config=entry(**broken)))
    refused(image(layers=[entry(D2), entry(**broken)]))
    refused(index(entry(D2), entry(**broken)))


@pytest.mark.parametrize("missing", ["size", "digest"])
def test_refuses_incomplete_descriptors(missing: str) -> None:
    broken = {name: value for name, value in entry().items() if name != missing}
    refused(image(config=broken))
    refused(index(broken))


@pytest.mark.parametrize("size", [0, 1, 2 ** 62 - 1])
def test_takes_sizes_up_to_the_bound(size: int) -> None:
    assert parse(image(layers=[entry(size=size)])).layers[0].size == size


def test_embedded_data_of_a_descriptor_is_ignored() -> None:
    plain = parse(image(layers=[entry(D2)])).layers
    assert parse(image(layers=[entry(D2, data="ZXZpbA==")])).layers == plain
    assert parse(image(layers=[entry(D2, urls=["http://evil.test/x"])])).layers == plain


@pytest.mark.parametrize("annotations", [None, {}])
def test_missing_annotations_are_empty(annotations: dict[str, str] | None) -> None:
    assert parse(image(annotations=annotations)).annotations == {}


def test_raw_bytes_are_not_in_the_repr() -> None:
    assert "raw" not in repr(parse(image()))


def test_writes_a_bundle_manifest_as_cosign_does() -> None:
    # A dump of cosign 3.1.1 (signature-formats.md 2.1), its digests completed.
    expected = (
        '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",'
        f'"config":{{"mediaType":"application/vnd.oci.empty.v1+json","size":2,"digest":"{digest_of(b"{}")}",'
        '"artifactType":"application/vnd.dev.sigstore.bundle.v0.3+json"},'
        f'"layers":[{{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","size":659,"digest":"{D1}"}}],'
        '"annotations":{"dev.sigstore.bundle.content":"dsse-envelope"},'
        f'"subject":{{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":418,"digest":"{D2}"}},'
        '"artifactType":"application/vnd.dev.sigstore.bundle.v0.3+json"}'
    )
    assert manifest.encode_image(
        config=Descriptor(OCI_EMPTY, digest_of(b"{}"), 2, BUNDLE),
        layers=[Descriptor(BUNDLE, D1, 659)],
        annotations={"dev.sigstore.bundle.content": "dsse-envelope"},
        subject=Descriptor(OCI_MANIFEST, D2, 418),
        artifact_type=BUNDLE,
    ).decode() == expected


def test_optional_members_are_left_out() -> None:
    raw = manifest.encode_image(config=Descriptor(OCI_CONFIG, D1, 2), layers=[])
    assert list(json.loads(raw)) == ["schemaVersion", "mediaType", "config", "layers"]
    assert list(Descriptor(OCI_CONFIG, D1, 2).as_json()) == ["mediaType", "size", "digest"]


def test_a_written_image_reads_the_same() -> None:
    config, layer = Descriptor(OCI_CONFIG, D1, 2), Descriptor("x/y", D2, 3, "t", {"a": "<b>&\u2028\u00e4"})
    raw = manifest.encode_image(config=config, layers=[layer], annotations={"<": "&>"}, artifact_type="t")
    assert b"<" not in raw
    assert b"&" not in raw
    assert b"\\u2028" in raw
    found = parse(raw)
    assert (found.config, found.layers, found.annotations, found.artifact_type) == (config, (layer,), {"<": "&>"}, "t")


def test_an_index_keeps_members_that_are_not_known() -> None:
    children = [entry(D1, platform={"os": "linux"}, data="eA==", future=[1, {"x": None}])]
    raw = manifest.encode_index(parse(index(*children)).children)
    assert raw.decode().startswith(
        '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":'
    )
    assert json.loads(raw)["manifests"] == children


def test_an_index_of_new_entries() -> None:
    raw = manifest.encode_index([Descriptor(OCI_MANIFEST, D1, 5, "t", {"a": "b"})])
    assert json.loads(raw)["manifests"] == [entry(D1, annotations={"a": "b"}, artifactType="t")]


def test_what_else_a_descriptor_said_does_not_make_it_another() -> None:
    assert parse(index(entry(D1, platform={"os": "a"}))).children == parse(index(entry(D1))).children


def test_descriptor_reads_one_object() -> None:
    source = _strict_json.loads(json.dumps(entry(D1, artifactType="x")).encode(), what="descriptor", where="app")
    assert manifest.descriptor(source) == Descriptor(OCI_MANIFEST, D1, 5, "x")
