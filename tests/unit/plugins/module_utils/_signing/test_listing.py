# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Listing what hangs on an image, verified or not."""

from __future__ import annotations

import base64
import json
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._signing import listing
from ansible_collections.hallmark.signing.tests.unit.fake_registry import OCI_MANIFEST, Fault, digest_of
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._signing.signing_bench import (
    IN_TOTO,
    PROVENANCE_TYPE,
    REPOSITORY,
    Bench,
    Key,
    b64,
    codes,
    compact,
    do_sign,
    make_index,
    pae,
)


def list_image(bench: Bench, image: str = "", *, recursive: bool = False, contents: bool = False) -> listing.Listing:
    return listing.list_image(bench.registries(), image or bench.tagged, recursive=recursive, contents=contents)


def put_tag(bench: Bench, suffix: str, *contents: bytes, media_type: str = "text/spdx", of: str = "") -> None:
    """Write a tag of cosign's with a layer for each content."""
    bench.registry.put_manifest(REPOSITORY, {
        "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": bench.descriptor(b"{}", "application/vnd.oci.image.config.v1+json"),
        "layers": [{**bench.descriptor(content, media_type), "annotations": {"note": "x"}} for content in contents],
    }, tag=f"{(of or bench.digest).replace(':', '-')}.{suffix}")


def attestation(bench: Bench, key: Key) -> bytes:
    said = compact(bench.statement(predicateType=PROVENANCE_TYPE))
    return compact({
        "payloadType": IN_TOTO, "payload": b64(said), "signatures": [{"keyid": "", "sig": b64(key.sign(pae(said)))}],
    })


def test_a_bare_image_has_nothing(bench: Bench) -> None:
    found = list_image(bench)
    stem = bench.digest.replace(":", "-")
    assert found.as_dict() == {
        "image": bench.tagged, "reference": bench.pinned, "digest": bench.digest, "signatures": [],
        "attestations": [], "artifacts": [], "reasons": [], "warnings": [],
        "tags": [{
            "subject": bench.digest, "signature": f"{stem}.sig", "attestation": f"{stem}.att", "sbom": f"{stem}.sbom",
        }],
    }


def test_lists_signatures_of_both_formats_unverified(bench: Bench, alice: Key, mallory: Key) -> None:
    do_sign(bench, alice, annotations={"build": "7"})
    do_sign(bench, mallory)
    found = list_image(bench)
    assert [(one["format"], one["key_id"], one["annotations"]) for one in found.signatures] == [
        ("sig", alice.id, {"build": "7"}), ("sig", mallory.id, {}),
        *sorted(
            [("bundle", alice.id, {"build": "7"}), ("bundle", mallory.id, {})],
            key=lambda entry: [one["key_id"] for one in found.signatures[2:]].index(entry[1]),
        ),
    ]
    assert {one["algorithm"] for one in found.signatures} == {None}
    assert {one["subject"] for one in found.signatures} == {bench.digest}
    assert (found.warnings, found.reasons) == ([], [])


def test_a_signature_by_nobody_known_has_no_key_id(bench: Bench, alice: Key) -> None:
    bench.sign_sig(bench.claim(), alice)
    assert [one["key_id"] for one in list_image(bench).signatures] == [None]


def test_lists_attestations_sboms_and_referrers(bench: Bench, alice: Key) -> None:
    put_tag(bench, "att", attestation(bench, alice), media_type="application/vnd.dsse.envelope.v1+json")
    put_tag(bench, "sbom", b"an SBOM")
    attested = bench.sign_bundle(bench.statement(predicateType=PROVENANCE_TYPE), alice)
    referrer = bench.registry.put_referrer(REPOSITORY, bench.digest, note="<mine>")
    if not bench.registry.referrers:
        bench.list_referrers([*bench.listed(), bench.entry(referrer)])
    found = list_image(bench)
    assert sorted((one["format"], one["predicate_type"]) for one in found.attestations) == [
        ("att", PROVENANCE_TYPE), ("bundle", PROVENANCE_TYPE),
    ]
    assert [one["digest"] for one in found.attestations if one["format"] == "bundle"] == [attested]
    assert found.artifacts == [
        {
            "kind": "sbom", "digest": digest_of(b"an SBOM"), "subject": bench.digest, "artifact_type": "text/spdx",
            "size": 7, "annotations": {"note": "x"},
        },
        {
            "kind": "referrer", "digest": referrer, "subject": bench.digest, "artifact_type": "application/example",
            "size": len(bench.manifests[referrer].raw), "annotations": {"note": "<mine>"},
        },
    ]
    assert found.signatures == []


def test_contents_are_what_was_signed(bench: Bench, alice: Key) -> None:
    do_sign(bench, alice)
    envelope_of_att = attestation(bench, alice)
    put_tag(bench, "att", envelope_of_att, media_type="application/vnd.dsse.envelope.v1+json")
    found = list_image(bench, contents=True)
    contents = {one["format"]: one["contents"] for one in found.signatures}
    claimed = json.loads(base64.b64decode(contents["sig"]["payload"]))
    assert claimed["critical"]["image"]["docker-manifest-digest"] == bench.digest
    assert contents["sig"]["bundle"] is None
    envelope = json.loads(contents["bundle"]["bundle"])["dsseEnvelope"]
    assert envelope["payload"] == contents["bundle"]["payload"]
    assert envelope["signatures"][0]["sig"] == contents["bundle"]["signature"]
    assert base64.b64decode(found.attestations[0]["contents"]) == envelope_of_att
    assert all("contents" not in one for one in list_image(bench).signatures)


def test_children_are_listed_where_asked(bench: Bench, alice: Key) -> None:
    digest, children = make_index(bench)
    do_sign(bench, alice, image=f"{bench.name}:2")
    found = list_image(bench, f"{bench.name}:2")
    assert {one["subject"] for one in found.signatures} == {digest}
    found = list_image(bench, f"{bench.name}:2", recursive=True)
    assert {one["subject"] for one in found.signatures} == {digest, *children}
    assert [one["subject"] for one in found.tags] == [digest, *children]


@pytest.mark.parametrize("broken", [
    lambda bench: bench.put_layers([bench.layer(b"no JSON", b"sig")]),
    lambda bench: bench.put_layers([bench.layer(b"{}", b"sig")]),
    lambda bench: bench.put_layers([{**bench.layer(b"gone", b"sig"), "digest": digest_of(b"missing")}]),
    lambda bench: put_tag(bench, "att", b"no envelope"),
    lambda bench: put_tag(bench, "att", b"{}"),
    lambda bench: bench.refer(b"no bundle"),
    lambda bench: bench.refer(b"{}"),
])
def test_what_cannot_be_read_is_a_warning_and_spoils_nothing_else(
    bench: Bench, alice: Key, broken: t.Callable[[Bench], t.Any]
) -> None:
    broken(bench)
    put_tag(bench, "sbom", b"an SBOM")
    found = list_image(bench, contents=True)
    assert len(found.warnings) == 1
    assert found.warnings[0].signature
    assert (len(found.artifacts), found.reasons) == (1, [])


def test_what_cannot_be_asked_for_is_a_reason(bench: Bench) -> None:
    assert codes(list_image(bench, f"{bench.name}:missing").reasons) == ["not_found"]
    assert codes(list_image(bench, "r.example.org/APP").reasons) == ["malformed"]
    bench.registry.fail(Fault(status=403), path=".att")
    assert codes(list_image(bench).reasons) == ["unauthorized"]


def test_nothing_is_written(bench: Bench, alice: Key) -> None:
    do_sign(bench, alice)
    before = bench.content()
    bench.registry.log.clear()
    list_image(bench, contents=True, recursive=True)
    assert (bench.writes, bench.content()) == ([], before)
