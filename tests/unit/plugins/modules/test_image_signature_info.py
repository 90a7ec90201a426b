# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of module image_signature_info."""

from __future__ import annotations

import base64
import json
import pathlib
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._keys import pem, private_key
from ansible_collections.hallmark.signing.plugins.module_utils._keys.signers.file import FileSigner
from ansible_collections.hallmark.signing.plugins.module_utils._oci.credentials import AuthFile
from ansible_collections.hallmark.signing.plugins.module_utils._oci.images import Images
from ansible_collections.hallmark.signing.plugins.module_utils._oci.transport import RegistrySettings
from ansible_collections.hallmark.signing.plugins.module_utils._signing import sign
from ansible_collections.hallmark.signing.plugins.modules import image_copy, image_signature_info
from ansible_collections.hallmark.signing.tests.unit.fake_registry import OCI_MANIFEST, FakeRegistry, Fault

ITEM = {"image", "reference", "digest", "signatures", "attestations", "artifacts", "tags", "reasons", "warnings"}
SIGNATURE = {"format", "digest", "subject", "key_id", "algorithm", "annotations", "created"}
ATTESTATION = {"format", "digest", "subject", "predicate_type"}
ARTIFACT = {"kind", "digest", "subject", "artifact_type", "size", "annotations"}
CONTENTS = {"payload", "signature", "certificate", "chain", "bundle"}
TAGS = {"subject", "signature", "attestation", "sbom"}
REASON = {"code", "message", "object", "signature"}
Run = t.Callable[..., t.Any]


@pytest.fixture
def run(run_module: Run) -> Run:
    """Runs the module with images, and checks the shape of the results."""

    def call(*images: str, **options: t.Any) -> t.Any:
        ended = run_module(image_signature_info, ["results"], images=list(images), **options)
        assert not ended.result.get("changed")
        more = {"contents"} if options.get("contents") else set()
        for item in ended.result.get("results", []):
            assert set(item) == ITEM
            assert all(set(one) == SIGNATURE | more for one in item["signatures"])
            assert all(set(one) == ATTESTATION | more for one in item["attestations"])
            assert all(set(one) == ARTIFACT for one in item["artifacts"])
            assert all(set(one) == TAGS for one in item["tags"])
            assert all(set(reason) == REASON for reason in item["reasons"] + item["warnings"])
            # Nothing was verified.
            assert all((one["algorithm"], one["created"]) == (None, False) for one in item["signatures"])
        return ended

    return call


def key_id(key: t.Any) -> str:
    return pem.public_key(key.public_key(), where="key").key_id


def put(registry: FakeRegistry, tag: str, *keys: t.Any, **wish: t.Any) -> str:
    """Make an image with signatures by these keys."""
    registry.put_image("team/app", tag)
    image = f"{registry.host}/team/app:{tag}"
    if keys:
        signers = tuple(
            FileSigner(private_key.PrivateKey(key, pem.public_key(key.public_key(), where="key"), "pem", False))
            for key in keys
        )
        images = Images(RegistrySettings(AuthFile("none", {})))
        assert not sign.sign_image(images, image, sign.Wish(signers, **wish)).failed
    return image


def put_layers(registry: FakeRegistry, tag: str, media_type: str, *contents: bytes) -> list[str]:
    """Store what cosign attaches by tag; return the digests of the layers."""
    config = registry.put_blob("team/app", b"{}")
    layers = [registry.put_blob("team/app", content) for content in contents]
    registry.put_manifest("team/app", {
        "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2},
        "layers": [
            {"mediaType": media_type, "digest": digest, "size": len(content)}
            for digest, content in zip(layers, contents)
        ],
    }, tag=tag)
    return layers


@pytest.mark.parametrize("mode", [{}, {"check": True}, {"diff": True}])
def test_image_without_anything_has_empty_lists(mode: dict[str, bool], run: Run, registry: FakeRegistry) -> None:
    image = put(registry, "1")
    digest = registry.manifests["team/app"]["1"].digest
    ended = run(image, **mode)
    stem = digest.replace(":", "-")
    assert (ended.failed, ended.result["reasons"]) == (False, [])
    assert "diff" not in ended.result
    assert ended.result["results"] == [{
        "image": image, "reference": f"{registry.host}/team/app@{digest}", "digest": digest, "signatures": [],
        "attestations": [], "artifacts": [], "reasons": [], "warnings": [],
        "tags": [{
            "subject": digest, "signature": f"{stem}.sig", "attestation": f"{stem}.att", "sbom": f"{stem}.sbom",
        }],
    }]


@pytest.mark.parametrize("check", [False, True])
def test_signatures_of_both_formats_are_listed(
    run: Run, registry: FakeRegistry, p256: t.Any, other_p256: t.Any, check: bool
) -> None:
    image = put(registry, "1", p256, other_p256, annotations={"a": "1"})
    digest = registry.manifests["team/app"]["1"].digest
    (item,) = run(image, check=check).result["results"]
    found = {(one["format"], one["key_id"], one["subject"], one["annotations"]["a"]) for one in item["signatures"]}
    assert found == {
        (form, key_id(key), digest, "1") for form in ("sig", "bundle") for key in (p256, other_p256)
    }
    assert len(item["signatures"]) == 4
    assert item["artifacts"] == item["attestations"] == item["warnings"] == []


def test_contents_are_what_cosign_downloads(run: Run, registry: FakeRegistry, p256: t.Any) -> None:
    image = put(registry, "1", p256)
    digest = registry.manifests["team/app"]["1"].digest
    (item,) = run(image, contents=True).result["results"]
    sig, bundle = (one["contents"] for one in item["signatures"])
    assert set(sig) == set(bundle) == CONTENTS
    payload = base64.b64decode(sig["payload"])
    assert json.loads(payload)["critical"]["image"]["docker-manifest-digest"] == digest
    assert payload in registry.blobs["team/app"].values()
    assert base64.b64decode(sig["signature"])
    assert (sig["certificate"], sig["chain"], sig["bundle"]) == (None, None, None)
    statement = json.loads(base64.b64decode(bundle["payload"]))
    assert statement["subject"][0]["digest"] == {"sha256": digest.partition(":")[2]}
    envelope = json.loads(bundle["bundle"])["dsseEnvelope"]
    assert (envelope["payload"], envelope["signatures"][0]["sig"]) == (bundle["payload"], bundle["signature"])
    assert (bundle["certificate"], bundle["chain"]) == (None, None)
    assert bundle["bundle"].encode() in registry.blobs["team/app"].values()


@pytest.mark.parametrize("contents", [False, True])
def test_attestations_sboms_and_referrers_are_listed(run: Run, registry: FakeRegistry, contents: bool) -> None:
    image = put(registry, "1")
    digest = registry.manifests["team/app"]["1"].digest
    stem = digest.replace(":", "-")
    statement = json.dumps({"_type": "https://in-toto.io/Statement/v1", "predicateType": "https://slsa.dev/p"}).encode()
    envelope = json.dumps({
        "payloadType": "application/vnd.in-toto+json", "payload": base64.b64encode(statement).decode(),
        "signatures": [{"sig": "AA=="}],
    }).encode()
    (att,) = put_layers(registry, f"{stem}.att", "application/vnd.dsse.envelope.v1+json", envelope)
    (sbom,) = put_layers(registry, f"{stem}.sbom", "text/spdx", b"SPDXVersion: SPDX-2.3")
    registry.referrers = True
    referrer = registry.put_referrer("team/app", digest, artifact_type="application/example", note="x")
    (item,) = run(image, contents=contents).result["results"]
    assert item["warnings"] == item["signatures"] == []
    (attestation,) = item["attestations"]
    if contents:
        assert base64.b64decode(attestation.pop("contents")) == envelope
    assert attestation == {
        "format": "att", "digest": att, "subject": digest, "predicate_type": "https://slsa.dev/p",
    }
    assert item["artifacts"] == [
        {
            "kind": "sbom", "digest": sbom, "subject": digest, "artifact_type": "text/spdx", "size": 21,
            "annotations": {},
        },
        {
            "kind": "referrer", "digest": referrer, "subject": digest, "artifact_type": "application/example",
            "size": len(registry.manifests["team/app"][referrer].raw), "annotations": {"note": "x"},
        },
    ]


def test_what_cannot_be_read_is_a_warning(run: Run, registry: FakeRegistry, p256: t.Any) -> None:
    image = put(registry, "1", p256, formats=("sig",))
    digest = registry.manifests["team/app"]["1"].digest
    stem = digest.replace(":", "-")
    (broken,) = put_layers(registry, f"{stem}.att", "application/vnd.dsse.envelope.v1+json", b"no envelope")
    for check in (False, True):
        ended = run(image, check=check)
        (item,) = ended.result["results"]
        assert (ended.failed, item["attestations"], len(item["signatures"])) == (False, [], 1)
        assert [(one["code"], one["signature"]) for one in item["warnings"]] == [("malformed", broken)]


def test_children_are_listed_if_asked(run: Run, registry: FakeRegistry, p256: t.Any) -> None:
    registry.put_index("team/app", "2", ["linux/amd64", "linux/arm64"])
    image = f"{registry.host}/team/app:2"
    signer = FileSigner(private_key.PrivateKey(p256, pem.public_key(p256.public_key(), where="key"), "pem", False))
    sign.sign_image(Images(RegistrySettings(AuthFile("none", {}))), image, sign.Wish((signer,)))
    top = registry.manifests["team/app"]["2"]
    children = [entry["digest"] for entry in top.members["manifests"]]
    (alone,) = run(image).result["results"]
    (whole,) = run(image, recursive=True).result["results"]
    assert [one["subject"] for one in alone["tags"]] == [top.digest]
    assert [one["subject"] for one in whole["tags"]] == [top.digest, *children]
    assert {one["subject"] for one in alone["signatures"]} == {top.digest}
    assert {one["subject"] for one in whole["signatures"]} == {top.digest, *children}
    assert (len(alone["signatures"]), len(whole["signatures"])) == (2, 6)


def test_layouts_and_archives_are_listed(
    run: Run, run_module: Run, registry: FakeRegistry, p256: t.Any, tmp_path: pathlib.Path
) -> None:
    image = put(registry, "1", p256)
    (here,) = run(image).result["results"]
    for place in (f"oci:{tmp_path}/layout:1", f"oci-archive:{tmp_path}/archive.tar:1"):
        run_module(
            image_copy, ["results"], copies=[{"source": image, "destination": place}], settle_seconds=0
        )
        (there,) = run(place).result["results"]
        assert {**there, "image": "", "reference": ""} == {**here, "image": "", "reference": ""}
        assert there["reference"] == f"{place.rpartition(':')[0]}@{here['digest']}"


@pytest.mark.parametrize("check", [False, True])
def test_failure_of_one_image_does_not_stop_the_others(
    run: Run, registry: FakeRegistry, p256: t.Any, tmp_path: pathlib.Path, check: bool
) -> None:
    good = put(registry, "1", p256)
    images = [f"{registry.host}/team/app:missing", good, f"{registry.host}/UPPER:1", f"oci:{tmp_path}/none:1"]
    ended = run(*images, check=check)
    items = ended.result["results"]
    assert (ended.failed, ended.codes) == (True, ["not_found", "malformed", "not_found"])
    assert [item["image"] for item in items] == images
    assert [[reason["code"] for reason in item["reasons"]] for item in items] == [
        ["not_found"], [], ["malformed"], ["not_found"],
    ]
    assert [item["digest"] is None for item in items] == [True, False, True, True]
    assert [item["reference"] is None for item in items] == [True, False, True, True]
    assert len(items[1]["signatures"]) == 2


def test_registry_that_fails_later_fails_the_image_with_what_was_found(
    run: Run, registry: FakeRegistry, p256: t.Any
) -> None:
    image = put(registry, "1", p256)
    registry.fail(Fault(status=403), path=".att")
    ended = run(image)
    (item,) = ended.result["results"]
    assert (ended.failed, ended.codes, item["digest"] is None) == (True, ["unauthorized"], False)


def test_nothing_is_written(run: Run, registry: FakeRegistry, p256: t.Any) -> None:
    image = put(registry, "1", p256)
    registry.log.clear()
    run(image, contents=True, recursive=True)
    assert {seen.method for seen in registry.log} <= {"GET", "HEAD"}


# Wrong input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", [False, True])
def test_empty_list_is_an_error(run: Run, check: bool) -> None:
    ended = run(check=check)
    assert (ended.failed, ended.codes, ended.result["results"]) == (True, ["input_invalid"], [])
    assert ended.result["reasons"][0]["object"] == "images"


@pytest.mark.parametrize("check", [False, True])
def test_failure_of_the_whole_task_has_a_result_for_each_image(run: Run, check: bool) -> None:
    images = ["r.example.org/x", "not an image"]
    ended = run(*images, registry_auth_file="/missing", check=check)
    assert (ended.failed, ended.codes) == (True, ["not_found"])
    assert [item["image"] for item in ended.result["results"]] == images
    assert all(item["reasons"] and item["digest"] is None for item in ended.result["results"])


@pytest.mark.parametrize(
    ("options", "text"),
    [({"recursive": "x"}, "recursive"), ({"contents": "x"}, "contents"), ({"workers": "x"}, "workers")],
)
def test_wrong_options_are_refused(options: dict[str, t.Any], text: str, run: Run) -> None:
    ended = run("r.example.org/x", **options)
    assert ended.failed
    assert text in ended.result["msg"]


@pytest.mark.parametrize("workers", [0, -1])
def test_number_of_workers_is_at_least_one(workers: int, run: Run, registry: FakeRegistry) -> None:
    assert not run(put(registry, "1"), workers=workers).failed


def test_logins_are_used_and_not_shown(run: Run) -> None:
    with FakeRegistry(auth="basic", username="robot", password="canary-password") as guarded:
        guarded.put_image("team/app", "1")
        login = {"host": guarded.host, "username": "robot", "password": "canary-password"}
        assert not run(f"{guarded.host}/team/app:1", registries=[login]).failed
        refused = run(f"{guarded.host}/team/app:1", registries=[{**login, "password": "canary-wrong"}])
        assert (refused.failed, refused.codes) == (True, ["unauthorized"])
