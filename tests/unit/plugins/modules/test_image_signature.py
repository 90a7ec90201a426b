# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of module image_signature."""

from __future__ import annotations

import base64
import json
import pathlib
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._keys import making, writing
from ansible_collections.hallmark.signing.plugins.module_utils._keys.fingerprint import key_id
from ansible_collections.hallmark.signing.plugins.modules import (
    image_copy,
    image_payload,
    image_signature,
    payload_signature,
)
from ansible_collections.hallmark.signing.tests.unit.fake_registry import FakeRegistry, Fault
from ansible_collections.hallmark.signing.tests.unit.fake_services import FakeLog, FakeStamper
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._signing import certificate_bench as certs
from cryptography.hazmat.primitives.asymmetric import ec

ITEM = {"image", "reference", "digest", "changed", "failed", "reasons", "warnings", "signatures"}
SIGNATURE = {"format", "digest", "subject", "key_id", "algorithm", "annotations", "created"}
REASON = {"code", "message", "object", "signature"}
PASSPHRASE = "canary passphrase"
Run = t.Callable[..., t.Any]


@pytest.fixture
def run(run_module: Run) -> Run:
    """Runs the module with images, and checks the shape of the results."""

    def call(*images: str, **options: t.Any) -> t.Any:
        # No other host signs these images: waiting for it would be for nothing.
        ended = run_module(image_signature, ["results"], images=list(images), **{"settle_seconds": 0, **options})
        for item in ended.result.get("results", []):
            assert set(item) == ITEM
            assert all(set(signature) == SIGNATURE for signature in item["signatures"])
            assert all(set(reason) == REASON for reason in item["reasons"] + item["warnings"])
            assert item["failed"] is bool(item["reasons"])
        return ended

    return call


@pytest.fixture
def image(registry: FakeRegistry) -> str:
    """An image by its tag."""
    registry.put_image("team/app", "1")
    return f"{registry.host}/team/app:1"


@pytest.fixture
def key(home: pathlib.Path, p256: t.Any, private_pem: t.Callable[..., bytes]) -> str:
    """A key file."""
    (home / "key").write_bytes(private_pem(p256))
    return str(home / "key")


@pytest.fixture
def signers(key: str) -> list[dict[str, str]]:
    """The option signers with that key."""
    return [{"private_key_path": key}]


def id_of(key: t.Any) -> str:
    return key_id(key.public_key())


def writes(registry: FakeRegistry) -> int:
    return len([seen for seen in registry.log if seen.method not in ("GET", "HEAD")])


def test_image_is_signed_in_both_formats_once(
    run: Run, registry: FakeRegistry, image: str, signers: t.Any, p256: t.Any
) -> None:
    digest = registry.manifests["team/app"]["1"].digest
    first = run(image, signers=signers, annotations={"a": "1"})
    assert (first.failed, first.result["changed"]) == (False, True)
    (item,) = first.result["results"]
    assert {name: item[name] for name in ITEM - {"signatures"}} == {
        "image": image, "reference": f"{registry.host}/team/app@{digest}", "digest": digest, "changed": True,
        "failed": False, "reasons": [], "warnings": [],
    }
    shown = [(one["format"], one["subject"], one["key_id"], one["created"]) for one in item["signatures"]]
    assert shown == [("sig", digest, id_of(p256), True), ("bundle", digest, id_of(p256), True)]
    assert all(one["annotations"] == {"a": "1"} for one in item["signatures"])
    again = run(image, signers=signers, annotations={"a": "1"})
    assert not again.result["changed"]
    assert [one["created"] for one in again.result["results"][0]["signatures"]] == [False, False]


def test_check_mode_writes_nothing(run: Run, registry: FakeRegistry, image: str, signers: t.Any) -> None:
    planned = run(image, signers=signers, check=True)
    assert (planned.result["changed"], writes(registry)) == (True, 0)
    assert [one["created"] for one in planned.result["results"][0]["signatures"]] == [True, True]
    assert planned.result["results"][0]["signatures"][1]["digest"] is None
    run(image, signers=signers)
    before = writes(registry)
    assert not run(image, signers=signers, check=True).result["changed"]
    assert writes(registry) == before


def test_diff_lists_the_signatures(run: Run, registry: FakeRegistry, image: str, signers: t.Any, p256: t.Any) -> None:
    digest = registry.manifests["team/app"]["1"].digest
    lines = [f"{format} {id_of(p256)} on {digest}" for format in ("sig", "bundle")]
    difference = run(image, signers=signers, diff=True).result["diff"]
    assert difference == {
        "before_header": "signatures", "after_header": "signatures", "before": {image: []}, "after": {image: lines},
    }
    difference = run(image, signers=signers, diff=True).result["diff"]
    assert difference["before"] == difference["after"] == {image: lines}
    difference = run(image, state="absent", all=True, diff=True).result["diff"]
    assert ({image: sorted(difference["before"][image])}, difference["after"]) == ({image: sorted(lines)}, {image: []})


@pytest.mark.parametrize("format", ["sig", "bundle"])
def test_formats_are_those_asked_for(format: str, run: Run, image: str, signers: t.Any) -> None:
    (item,) = run(image, signers=signers, formats=[format]).result["results"]
    assert [one["format"] for one in item["signatures"]] == [format]


def test_values_of_annotations_are_text(run: Run, image: str, signers: t.Any) -> None:
    (item,) = run(image, signers=signers, annotations={"n": 1, "b": True}).result["results"]
    assert item["signatures"][0]["annotations"] == {"n": "1", "b": "True"}


def test_children_of_an_index_are_signed_unless_told_otherwise(
    run: Run, registry: FakeRegistry, signers: t.Any
) -> None:
    registry.put_index("team/app", "2", ["linux/amd64", "linux/arm64"])
    image = f"{registry.host}/team/app:2"
    assert len(run(image, signers=signers, recursive=False).result["results"][0]["signatures"]) == 2
    assert len(run(image, signers=signers).result["results"][0]["signatures"]) == 6


def test_name_in_signatures_can_be_chosen(run: Run, registry: FakeRegistry, image: str, signers: t.Any) -> None:
    run(image, signers=signers, docker_reference="mirror.example.org/app")
    assert any(b"mirror.example.org/app" in blob for blob in registry.blobs["team/app"].values())


@pytest.mark.parametrize("way", ["passphrase", "passphrase_path"])
def test_encrypted_keys_sign(way: str, run: Run, image: str, home: pathlib.Path, p256: t.Any) -> None:
    (home / "key").write_bytes(writing.write_private_key(p256, format="pem", passphrase=PASSPHRASE.encode()))
    (home / "secret").write_text(PASSPHRASE)
    value = PASSPHRASE if way == "passphrase" else str(home / "secret")
    assert run(image, signers=[{"private_key_path": str(home / "key"), way: value}]).result["changed"]
    assert run(image, signers=[{"private_key_path": str(home / "key")}]).codes == ["passphrase_invalid"]


def test_failure_of_one_image_does_not_stop_the_others(
    run: Run, registry: FakeRegistry, image: str, signers: t.Any
) -> None:
    missing, malformed = f"{registry.host}/team/app:missing", f"{registry.host}/UPPER:1"
    ended = run(missing, image, malformed, signers=signers)
    assert (ended.failed, ended.result["changed"], ended.codes) == (True, True, ["not_found", "malformed"])
    assert [item["image"] for item in ended.result["results"]] == [missing, image, malformed]
    assert [item["failed"] for item in ended.result["results"]] == [True, False, True]
    assert [item["digest"] is None for item in ended.result["results"]] == [True, False, True]
    assert [item["reference"] is None for item in ended.result["results"]] == [True, False, True]


def test_warnings_are_shown(
    run: Run, image: str, signers: t.Any, home: pathlib.Path, other_p256: t.Any, private_pem: t.Callable[..., bytes]
) -> None:
    (home / "other").write_bytes(private_pem(other_p256))
    run(image, signers=[{"private_key_path": str(home / "other")}], formats=["sig"])
    ended = run(image, signers=signers)
    assert [warning["code"] for warning in ended.result["results"][0]["warnings"]] == ["bundle_hides_sig"]
    assert ended.warnings == [ended.result["results"][0]["warnings"][0]["message"]]


# Waiting for other hosts ---------------------------------------------------------------------------------------------


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The times that are waited for, none of which passes."""
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    return waited


def test_all_images_share_one_wait(
    run: Run, registry: FakeRegistry, image: str, signers: t.Any, waits: list[float]
) -> None:
    registry.put_image("team/app", "2")
    images = [image, f"{registry.host}/team/app:2"]
    done = run(*images, signers=signers, settle_seconds=30)
    assert (done.failed, [item["changed"] for item in done.result["results"]]) == (False, [True, True])
    # Those that are told are not the waits of one image after another: nearly all of the time, again and again.
    assert waits
    assert all(25 < wait <= 30 for wait in waits)
    waits.clear()
    assert not run(*images, signers=signers, settle_seconds=30).result["changed"]
    assert run(*images, signers=signers, annotations={"a": "1"}, settle_seconds=30, check=True).result["changed"]
    assert waits == []


def test_default_waits_two_seconds(run_module: Run, image: str, signers: t.Any, waits: list[float]) -> None:
    assert run_module(image_signature, ["results"], images=[image], signers=signers).result["changed"]
    assert waits
    assert 1 < max(waits) <= 2


@pytest.mark.parametrize("seconds", [0, -1])
def test_nobody_waits_who_asks_for_it(
    run: Run, image: str, signers: t.Any, waits: list[float], seconds: float
) -> None:
    assert run(image, signers=signers, settle_seconds=seconds).result["changed"]
    assert waits == []


def test_what_shares_no_tag_is_not_waited_for(
    run: Run, registry: FakeRegistry, image: str, signers: t.Any, waits: list[float]
) -> None:
    registry.referrers = True
    assert run(image, signers=signers, formats=["bundle"], settle_seconds=30).result["changed"]
    assert waits == []


def test_what_another_host_overwrites_is_written_again(
    run: Run, registry: FakeRegistry, image: str, signers: t.Any, other_p256: t.Any, home: pathlib.Path,
    private_pem: t.Callable[..., bytes], monkeypatch: pytest.MonkeyPatch,
) -> None:
    tag = f"{registry.manifests['team/app']['1'].digest.replace(':', '-')}.sig"
    (home / "other").write_bytes(private_pem(other_p256))
    run(image, signers=[{"private_key_path": str(home / "other")}], formats=["sig"])
    former = registry.manifests["team/app"][tag]
    waited: list[float] = []

    def overwrite(seconds: float) -> None:
        # Another host had read before we wrote.
        if not waited:
            registry.manifests["team/app"][tag] = former
        waited.append(seconds)

    monkeypatch.setattr("time.sleep", overwrite)
    ended = run(image, signers=signers, formats=["sig"], settle_seconds=30)
    assert (ended.failed, ended.result["changed"], len(waited) > 1) == (False, True, True)
    assert len(registry.manifests["team/app"][tag].members["layers"]) == 2


def test_what_is_overwritten_each_time_is_an_error(
    run: Run, registry: FakeRegistry, image: str, signers: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tag = f"{registry.manifests['team/app']['1'].digest.replace(':', '-')}.sig"
    monkeypatch.setattr("time.sleep", lambda _seconds: registry.manifests["team/app"].pop(tag, None))
    ended = run(image, signers=signers, formats=["sig"], settle_seconds=30)
    assert (ended.failed, ended.codes) == (True, ["write_lost"])
    assert ended.result["results"][0]["failed"]
    assert ended.result["results"][0]["signatures"] == []


# Layouts -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def layout(run_module: Run, registry: FakeRegistry, image: str, tmp_path: pathlib.Path) -> str:
    """The image by its tag in a layout."""
    place = f"oci:{tmp_path}/layout:1"
    copies = [{"source": image, "destination": place}]
    assert not run_module(image_copy, ["results"], copies=copies, settle_seconds=0).failed
    registry.log.clear()
    return place


def files(folder: pathlib.Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_image_in_a_layout_is_signed_once(
    run: Run, registry: FakeRegistry, layout: str, signers: t.Any, p256: t.Any, tmp_path: pathlib.Path,
    waits: list[float],
) -> None:
    digest = registry.manifests["team/app"]["1"].digest
    before = files(tmp_path / "layout")
    planned = run(layout, signers=signers, check=True, settle_seconds=30)
    assert (planned.result["changed"], files(tmp_path / "layout")) == (True, before)
    first = run(layout, signers=signers, annotations={"a": "1"}, settle_seconds=30)
    (item,) = first.result["results"]
    assert {name: item[name] for name in ITEM - {"signatures"}} == {
        "image": layout, "reference": f"oci:{tmp_path}/layout@{digest}", "digest": digest, "changed": True,
        "failed": False, "reasons": [], "warnings": [],
    }
    shown = [(one["format"], one["subject"], one["key_id"], one["created"]) for one in item["signatures"]]
    assert shown == [("sig", digest, id_of(p256), True), ("bundle", digest, id_of(p256), True)]
    after = files(tmp_path / "layout")
    for check in (False, True):
        again = run(layout, f"oci:{tmp_path}/layout@{digest}", signers=signers, annotations={"a": "1"}, check=check)
        assert (again.result["changed"], files(tmp_path / "layout")) == (False, after)
    removed = run(layout, state="absent", key_ids=[id_of(p256)])
    assert {one["format"] for one in removed.result["results"][0]["signatures"]} == {"sig", "bundle"}
    assert not run(layout, state="absent", all=True).result["changed"]
    assert (waits, registry.log) == ([], [])


def test_layout_has_no_name_to_sign_unless_one_is_given(
    run: Run, layout: str, signers: t.Any, tmp_path: pathlib.Path
) -> None:
    run(layout, signers=signers, formats=["sig"])
    payloads = [data for data in files(tmp_path / "layout").values() if b"docker-reference" in data]
    assert [json.loads(data)["critical"]["identity"]["docker-reference"] for data in payloads] == [""]
    run(layout, signers=signers, formats=["sig"], docker_reference="r.example.org/app", annotations={"a": "1"})
    payloads = [data for data in files(tmp_path / "layout").values() if b"r.example.org/app" in data]
    assert len(payloads) == 1


def test_archives_and_missing_layouts_are_told(
    run: Run, run_module: Run, registry: FakeRegistry, image: str, signers: t.Any, tmp_path: pathlib.Path
) -> None:
    archive = f"oci-archive:{tmp_path}/archive.tar:1"
    copies = [{"source": image, "destination": archive}]
    run_module(image_copy, ["results"], copies=copies, settle_seconds=0)
    before = (tmp_path / "archive.tar").read_bytes()
    ended = run(archive, f"oci:{tmp_path}/none:1", image, signers=signers)
    assert (ended.failed, ended.codes) == (True, ["input_invalid", "not_found"])
    assert [item["failed"] for item in ended.result["results"]] == [True, True, False]
    assert "written whole" in ended.result["msg"]
    assert (tmp_path / "archive.tar").read_bytes() == before
    assert not (tmp_path / "none").exists()


# Wrong input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "name"), [({"signers": []}, "signers"), ({"formats": []}, "formats"), ({"images": []}, "images")]
)
def test_empty_lists_are_errors(options: dict[str, t.Any], name: str, run: Run, image: str, signers: t.Any) -> None:
    images = options.pop("images", [image])
    ended = run(*images, **{"signers": signers, **options})
    assert (ended.failed, ended.codes, ended.result["reasons"][0]["object"]) == (True, ["input_invalid"], name)


def test_key_id_of_a_signer_is_kept_to_before_anything_is_signed(
    run: Run, registry: FakeRegistry, image: str, signers: t.Any, key: str, p256: t.Any
) -> None:
    for expected, code in (("0" * 64, "key_mismatch"), ("x", "input_invalid")):
        ended = run(image, signers=[*signers, {"private_key_path": key, "key_id": expected}])
        assert (ended.failed, ended.codes, writes(registry)) == (True, [code], 0)
    assert run(image, signers=[{"private_key_path": key, "key_id": id_of(p256)}]).result["changed"]


def test_key_of_an_unknown_kind_is_refused(
    run: Run, registry: FakeRegistry, image: str, home: pathlib.Path, private_pem: t.Callable[..., bytes]
) -> None:
    (home / "k256").write_bytes(private_pem(ec.generate_private_key(ec.SECP256K1())))
    ended = run(image, signers=[{"private_key_path": str(home / "k256")}])
    assert (ended.codes, writes(registry)) == (["unsupported_algorithm"], 0)


# The contract: same order and length as the input, also on failure.
@pytest.mark.parametrize(
    "options", [{"signers": [{"private_key_path": "/missing"}]}, {"docker_reference": "NOT A NAME"},
                {"registry_auth_file": "/missing"}, {"state": "absent", "key_ids": ["x"], "signers": None}],
)
def test_failure_has_a_result_for_each_image(options: dict[str, t.Any], run: Run, image: str, signers: t.Any) -> None:
    ended = run(image, image, **{"signers": signers, **options})
    assert (ended.failed, [item["image"] for item in ended.result["results"]]) == (True, [image, image])


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"signers": [{"private_key_path": "/missing"}]}, "not_found"),
        ({"docker_reference": "NOT A NAME"}, "malformed"),
        ({"registry_auth_file": "/missing"}, "not_found"),
    ],
)
def test_wrong_options_are_told(options: dict[str, t.Any], code: str, run: Run, image: str, signers: t.Any) -> None:
    ended = run(image, **{"signers": signers, **options})
    assert (ended.failed, ended.codes, ended.result["changed"]) == (True, [code], False)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "signers"), ({"signers": [{}]}, "private_key_path"), ({"formats": ["gpg"]}, "must be one or more of"),
        (
            {"signers": [{"private_key_path": "/k", "passphrase": PASSPHRASE, "passphrase_path": "/p"}]},
            "mutually exclusive",
        ),
        ({"state": "gone"}, "must be one of"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    options: dict[str, t.Any], text: str, run: Run, image: str
) -> None:
    ended = run(image, **options)
    assert ended.failed
    assert text in ended.result["msg"]


# The contract: "key_ids, all: only with state: absent, one of them; signers is required with present only".
@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"state": "absent", "key_ids": ["0" * 64], "all": True}, "key_ids"),
        ({"state": "present", "signers": True, "all": True}, "all"),
        ({"state": "present", "signers": True, "key_ids": ["0" * 64]}, "key_ids"),
        ({"state": "present", "signers": True, "public_key_paths": ["/x"]}, "public_key_paths"),
        ({"state": "absent", "signers": True, "all": True}, "signers"),
        ({"state": "absent", "signers": True, "key_ids": ["0" * 64]}, "signers"),
    ],
)
def test_options_that_do_not_fit_the_state_are_refused(
    options: dict[str, t.Any], name: str, run: Run, image: str, signers: t.Any, registry: FakeRegistry
) -> None:
    given = {option: signers if option == "signers" else value for option, value in options.items()}
    for check in (False, True):
        ended = run(image, image, check=check, **given)
        assert (ended.failed, ended.codes, ended.result["reasons"][0]["object"]) == (True, ["input_invalid"], name)
        assert f"state={options['state']}" in ended.result["msg"]
        assert [item["image"] for item in ended.result["results"]] == [image, image]
    assert writes(registry) == 0


def test_old_library_is_told(run: Run, image: str, signers: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import cryptography

    monkeypatch.setattr(cryptography, "__version__", "41.0.7")
    assert run(image, signers=signers).codes == ["library_missing"]


# Removing ------------------------------------------------------------------------------------------------------------


def test_signatures_of_a_key_are_removed(
    run: Run, registry: FakeRegistry, image: str, signers: t.Any, home: pathlib.Path, p256: t.Any, other_p256: t.Any,
    private_pem: t.Callable[..., bytes],
) -> None:
    (home / "other").write_bytes(private_pem(other_p256))
    run(image, signers=[*signers, {"private_key_path": str(home / "other")}])
    before = writes(registry)
    planned = run(image, state="absent", key_ids=[id_of(p256)], check=True)
    assert (planned.result["changed"], writes(registry)) == (True, before)
    done = run(image, state="absent", key_ids=[id_of(p256)])
    for ended in (planned, done):
        removed = ended.result["results"][0]["signatures"]
        assert {(one["format"], one["key_id"]) for one in removed} == {("sig", id_of(p256)), ("bundle", id_of(p256))}
    assert not run(image, state="absent", key_ids=[id_of(p256)]).result["changed"]
    left = run(image, state="absent", all=True).result["results"][0]["signatures"]
    assert {one["key_id"] for one in left} == {id_of(other_p256)}


def test_formats_to_remove_can_be_chosen(run: Run, image: str, signers: t.Any) -> None:
    run(image, signers=signers)
    removed = run(image, state="absent", all=True, formats=["sig"]).result["results"][0]["signatures"]
    assert [one["format"] for one in removed] == ["sig"]


def test_public_keys_recognise_signatures(
    run: Run, registry: FakeRegistry, image: str, signers: t.Any, home: pathlib.Path, p256: t.Any,
    public_pem: t.Callable[..., bytes],
) -> None:
    run(image, signers=signers, formats=["sig"])
    tag = f"{registry.manifests['team/app']['1'].digest.replace(':', '-')}.sig"
    document = registry.manifests["team/app"][tag].members
    for layer in document["layers"]:
        # As cosign writes it: nothing names the key.
        layer["annotations"].pop("org.hallmark-signing.key-id", None)
    registry.put_manifest("team/app", document, tag=tag)
    ended = run(image, state="absent", key_ids=[id_of(p256)])
    assert not ended.result["changed"]
    assert [warning["code"] for warning in ended.result["results"][0]["warnings"]] == ["key_unknown"]
    (home / "pub").write_bytes(public_pem(p256))
    (home / "k256").write_bytes(public_pem(ec.generate_private_key(ec.SECP256K1())))
    options = {"state": "absent", "key_ids": [id_of(p256)]}
    assert run(image, **options, public_key_paths=[str(home / "missing")]).codes == ["not_found"]
    assert run(image, **options, public_key_paths=[str(home / "k256")]).codes == ["unsupported_algorithm"]
    assert run(image, **options, public_key_paths=[str(home / "pub")]).result["changed"]


@pytest.mark.parametrize("options", [{}, {"key_ids": []}, {"key_ids": ["x"]}])
def test_absent_wants_to_know_which(options: dict[str, t.Any], run: Run, image: str) -> None:
    ended = run(image, state="absent", **options)
    assert (ended.failed, ended.codes, ended.result["reasons"][0]["object"]) == (True, ["input_invalid"], "key_ids")


def test_registry_that_fails_fails_the_task(run: Run, registry: FakeRegistry, image: str, signers: t.Any) -> None:
    registry.fail(Fault(status=403), method="PUT")
    registry.fail(Fault(status=403), method="POST")
    ended = run(image, signers=signers)
    assert (ended.failed, ended.codes, ended.result["results"][0]["changed"]) == (True, ["unauthorized"], False)


# Algorithms, external signers, and what accompanies signatures -------------------------------------------------------

SUB, ROOT = certs.authority("sub", "root"), certs.authority("root")
ANNOTATIONS = {
    "certificate": "dev.sigstore.cosign/certificate", "chain": "dev.sigstore.cosign/chain",
    "log": "dev.sigstore.cosign/bundle", "timestamp": "dev.sigstore.cosign/rfc3161timestamp",
}


def layers(registry: FakeRegistry) -> list[dict[str, t.Any]]:
    tag = f"{registry.manifests['team/app']['1'].digest.replace(':', '-')}.sig"
    stored = registry.manifests["team/app"].get(tag)
    return t.cast("list[dict[str, t.Any]]", stored.members["layers"]) if stored else []


def attached(registry: FakeRegistry) -> list[set[str]]:
    """What accompanies each signature of format sig."""
    return [
        {name for name, annotation in ANNOTATIONS.items() if annotation in layer["annotations"]}
        for layer in layers(registry)
    ]


@pytest.mark.parametrize("fixture", ["p384", "p521", "rsa2048", "ed25519_key"])
def test_keys_of_every_kind_sign(
    fixture: str, run: Run, image: str, home: pathlib.Path, private_pem: t.Callable[..., bytes],
    request: pytest.FixtureRequest,
) -> None:
    (home / "other").write_bytes(private_pem(request.getfixturevalue(fixture)))
    signers = [{"private_key_path": str(home / "other")}]
    assert run(image, signers=signers).result["changed"]
    assert not run(image, signers=signers).result["changed"]


def test_signature_algorithm_can_be_chosen(
    run: Run, registry: FakeRegistry, image: str, signers: t.Any, p256: t.Any
) -> None:
    assert run(image, signers=signers, signature_algorithm="ecdsa-sha512", formats=["sig"]).result["changed"]
    (layer,) = layers(registry)
    content = registry.blobs["team/app"][layer["digest"]]
    signature = base64.b64decode(layer["annotations"]["dev.cosignproject.cosign/signature"])
    assert making.scheme_of(p256.public_key(), signature, content) == "ecdsa-sha512"
    ended = run(image, signers=signers, signature_algorithm="rsa-pss-sha256")
    assert (ended.failed, ended.codes) == (True, ["unsupported_algorithm"])


@pytest.fixture
def certified(home: pathlib.Path, private_pem: t.Callable[..., bytes]) -> dict[str, str]:
    """A signer with a certificate and its chain."""
    (home / "leaf.key").write_bytes(private_pem(certs.Subject("leaf").key))
    (home / "leaf.pem").write_bytes(certs.pem(certs.leaf()))
    (home / "chain.pem").write_bytes(certs.pem(SUB, ROOT))
    return {
        "private_key_path": str(home / "leaf.key"), "certificate_path": str(home / "leaf.pem"),
        "chain_path": str(home / "chain.pem"),
    }


def test_certificate_is_attached_if_asked_for(
    run: Run, registry: FakeRegistry, image: str, certified: dict[str, str]
) -> None:
    assert run(image, signers=[certified]).result["changed"]
    assert attached(registry) == [set()]
    assert run(image, signers=[certified], attach_certificate=True).result["changed"]
    assert attached(registry) == [set(), {"certificate", "chain"}]
    assert layers(registry)[1]["annotations"][ANNOTATIONS["chain"]].encode() == certs.pem(SUB, ROOT)
    assert not run(image, signers=[certified], attach_certificate=True).result["changed"]


def test_certificate_that_does_not_fit_is_refused_before_anything_is_signed(
    run: Run, registry: FakeRegistry, image: str, certified: dict[str, str], signers: t.Any, home: pathlib.Path
) -> None:
    (home / "foreign.pem").write_bytes(certs.pem(certs.leaf(subject="other")))
    (home / "expired.pem").write_bytes(certs.pem(certs.leaf(**certs.PAST)))
    for attach in (True, False):
        for name, code in (("foreign", "key_mismatch"), ("expired", "certificate_expired"), ("none", "not_found")):
            signer = {**certified, "certificate_path": str(home / f"{name}.pem")}
            ended = run(image, signers=[signer], attach_certificate=attach)
            assert (ended.failed, ended.codes) == (True, [code])
    ended = run(image, signers=signers, attach_certificate=True)
    assert (ended.codes, ended.result["reasons"][0]["object"]) == (["input_invalid"], "attach_certificate")
    assert writes(registry) == 0


def test_log_and_timestamp_are_attached(
    run: Run, registry: FakeRegistry, image: str, signers: t.Any, log: FakeLog, stamper: FakeStamper,
    home: pathlib.Path,
) -> None:
    (home / "rekor.pub").write_bytes(log.public_pem)
    options = {
        "transparency": {"rekor_url": log.url, "rekor_public_key_path": str(home / "rekor.pub")},
        "timestamp_authority": {"url": stamper.url, "certificate_path": str(stamper.chain)},
    }
    assert run(image, signers=signers, check=True, **options).result["changed"]
    assert (log.requests, stamper.requests) == ([], 0)
    assert run(image, signers=signers, **options).result["changed"]
    assert attached(registry) == [{"log", "timestamp"}]
    assert (log.entries, stamper.requests) == (3, 2)
    assert not run(image, signers=signers, **options).result["changed"]
    assert (log.entries, stamper.requests) == (3, 2)


def test_service_that_fails_leaves_nothing_behind(
    run: Run, registry: FakeRegistry, image: str, signers: t.Any, log: FakeLog, home: pathlib.Path
) -> None:
    (home / "rekor.pub").write_bytes(log.public_pem)
    options = {"transparency": {"rekor_url": log.url, "rekor_public_key_path": str(home / "rekor.pub")}}
    for kind, code in (("status500", "service_unavailable"), ("set", "log_invalid")):
        log.lie(kind)
        ended = run(image, signers=signers, **options)
        assert (ended.failed, ended.codes, ended.result["changed"]) == (True, [code], False)
    assert writes(registry) == 0


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"transparency": {"rekor_url": "log.example.org", "rekor_public_key_path": "PUB"}}, "input_invalid"),
        ({"transparency": {"rekor_url": "https://log.example.org", "rekor_public_key_path": "/missing"}}, "not_found"),
        ({"timestamp_authority": {"url": "https://t.example.org", "certificate_path": "/missing"}}, "not_found"),
    ],
)
def test_wrong_services_are_told(
    options: dict[str, t.Any], code: str, run: Run, registry: FakeRegistry, image: str, signers: t.Any, log: FakeLog,
    home: pathlib.Path,
) -> None:
    (home / "rekor.pub").write_bytes(log.public_pem)
    given = {
        option: {name: str(home / "rekor.pub") if value == "PUB" else value for name, value in values.items()}
        for option, values in options.items()
    }
    ended = run(image, signers=signers, **given)
    assert (ended.failed, ended.codes, writes(registry)) == (True, [code], 0)


@pytest.mark.parametrize("option", ["attach_certificate", "signature_algorithm", "transparency", "timestamp_authority"])
def test_options_of_signing_do_not_go_with_removing(
    option: str, run: Run, registry: FakeRegistry, image: str
) -> None:
    values: dict[str, t.Any] = {
        "attach_certificate": True, "signature_algorithm": "ecdsa-sha256",
        "transparency": {"rekor_url": "https://log.example.org", "rekor_public_key_path": "/x"},
        "timestamp_authority": {"url": "https://t.example.org", "certificate_path": "/x"},
    }
    ended = run(image, state="absent", all=True, **{option: values[option]})
    assert (ended.failed, ended.codes, ended.result["reasons"][0]["object"]) == (True, ["input_invalid"], option)
    assert writes(registry) == 0


def test_external_signatures_are_attached(
    run: Run, registry: FakeRegistry, image: str, home: pathlib.Path, p256: t.Any, public_pem: t.Callable[..., bytes]
) -> None:
    digest = registry.manifests["team/app"]["1"].digest
    (home / "pub").write_bytes(public_pem(p256))
    claim = {
        "critical": {
            "identity": {"docker-reference": f"{registry.host}/team/app"},
            "image": {"docker-manifest-digest": digest}, "type": "cosign container image signature",
        },
        "optional": None,
    }
    content = json.dumps(claim, separators=(",", ":")).encode()
    (home / "payload").write_bytes(content)
    (home / "signature").write_bytes(base64.b64encode(making.sign(p256, content)))
    signer = {"external": [{
        "payload_path": str(home / "payload"), "signature_path": str(home / "signature"),
        "public_key_path": str(home / "pub"),
    }]}
    assert run(image, signers=[signer]).codes == ["not_found"]
    assert writes(registry) == 0
    for changed in (True, False):
        assert run(image, signers=[signer], formats=["sig"]).result["changed"] is changed
    for expected, code in ((id_of(p256), None), ("0" * 64, "key_mismatch")):
        ended = run(image, signers=[{**signer, "key_id": expected}], formats=["sig"])
        assert ended.codes == ([code] if code else [])
    (home / "signature").write_bytes(b"rubbish")
    assert run(image, signers=[signer], formats=["sig"]).codes == ["signature_invalid"]


@pytest.mark.parametrize(
    ("signer", "text"),
    [
        ({"external": [{"payload_path": "/p", "signature_path": "/s"}], "private_key_path": "/k"}, "mutually"),
        ({"external": [{"payload_path": "/p"}]}, "signature_path"),
        ({"private_key_path": "/k", "chain_path": "/c"}, "certificate_path"),
    ],
)
def test_signers_that_contradict_themselves_are_refused(
    signer: dict[str, t.Any], text: str, run: Run, image: str
) -> None:
    ended = run(image, signers=[signer])
    assert ended.failed
    assert text in ended.result["msg"]


@pytest.mark.parametrize(("external", "code"), [
    ([], "input_invalid"), ([{"payload_path": "/p", "signature_path": "/s"}], "input_invalid"),
    ([{"payload_path": "/p", "signature_path": "/s", "public_key_path": "/missing"}], "not_found"),
])
def test_external_signatures_that_cannot_be_taken_are_told(
    external: list[dict[str, str]], code: str, run: Run, registry: FakeRegistry, image: str
) -> None:
    ended = run(image, signers=[{"external": external}])
    assert (ended.failed, ended.codes, writes(registry)) == (True, [code], 0)


# Keys that are elsewhere ---------------------------------------------------------------------------------------------


def test_other_kinds_of_keys_are_loaded_with_their_options(
    run: Run, image: str, key: str, home: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ansible_collections.hallmark.signing.plugins.module_utils._keys.signers import command, file, uri

    seen: list[t.Any] = []

    def load(what: t.Any, **options: t.Any) -> t.Any:
        seen.append((what, options))
        return file.load(key, passphrase=None, key_id=None)

    for module in (uri, command):
        monkeypatch.setattr(module, "load", load)
    (home / "pin").write_bytes(b"canary 1234\n")
    by_uri = {"uri": "pkcs11:token=t", "pin_path": str(home / "pin"), "public_key_path": "/pub", "key_id": "0" * 64}
    assert run(image, signers=[by_uri]).result["changed"]
    assert not run(image, signers=[{"uri": "awskms:///k"}], signature_algorithm="ecdsa-sha256").result["changed"]
    assert not run(image, signers=[{"command": ["/bin/sign", "-x"], "public_key_path": "/pub"}]).result["changed"]
    assert seen == [
        ("pkcs11:token=t", {"pin": b"canary 1234", "public_key_path": "/pub", "key_id": "0" * 64, "scheme": None}),
        ("awskms:///k", {"pin": None, "public_key_path": None, "key_id": None, "scheme": "ecdsa-sha256"}),
        (["/bin/sign", "-x"], {"public_key_path": "/pub", "key_id": None, "scheme": None}),
    ]


def test_pin_that_is_missing_is_told(run: Run, registry: FakeRegistry, image: str) -> None:
    ended = run(image, signers=[{"uri": "pkcs11:token=t", "pin_path": "/missing"}])
    assert (ended.failed, ended.codes, writes(registry)) == (True, ["not_found"], 0)


SIGNED = {"sha256": "0" * 64, "signature": "YQ==", "public_key": "text"}


@pytest.mark.parametrize("signer", [
    {}, {"uri": "hsm:", "private_key_path": "/key"}, {"uri": "hsm:", "command": ["x"], "public_key_path": "/pub"},
    {"command": ["x"]}, {"pin_path": "/pin", "private_key_path": "/key"}, {"signatures": [SIGNED], "uri": "hsm:"},
    {"signatures": [SIGNED], "external": [{"payload_path": "/a", "signature_path": "/b"}]},
    {"signatures": [SIGNED], "private_key_path": "/key"}, {"signatures": [{"signature": "YQ=="}]},
    {"signatures": [{**SIGNED, "unknown": 1}]}, {"signatures": ["YQ=="]},
], ids=str)
def test_signer_is_of_exactly_one_kind(run: Run, registry: FakeRegistry, image: str, signer: dict[str, t.Any]) -> None:
    ended = run(image, signers=[signer])
    assert ended.failed
    assert "reasons" not in ended.result
    assert registry.log == []


def _signed(run_module: Run, image: str, key: str, home: pathlib.Path, **options: t.Any) -> list[dict[str, t.Any]]:
    prepared = run_module(image_payload, ["payloads"], images=[image], dest=str(home / "to-sign"), **options)
    ended = run_module(
        payload_signature, ["signatures"], payloads=prepared.result["payloads"], private_key_path=key,
        record_path=str(home / "uses.jsonl"),
    )
    assert not ended.failed
    return t.cast("list[dict[str, t.Any]]", ended.result["signatures"])


def test_what_another_host_returned_is_attached_as_it_is(
    run: Run, run_module: Run, registry: FakeRegistry, image: str, key: str, home: pathlib.Path, p256: t.Any
) -> None:
    signed = _signed(run_module, image, key, home)
    ended = run(image, signers=[{"signatures": signed, "key_id": id_of(p256)}])
    assert (ended.failed, ended.result["changed"]) == (False, True)
    assert {one["key_id"] for one in ended.result["results"][0]["signatures"]} == {id_of(p256)}
    blobs = b"".join(registry.blobs["team/app"].values()) + b"".join(
        document.raw for document in registry.manifests["team/app"].values()
    )
    assert all(one["signature"].encode() in blobs for one in signed)


def test_nothing_is_attached_if_one_is_wrong_or_missing(
    run: Run, run_module: Run, registry: FakeRegistry, image: str, key: str, home: pathlib.Path, other_p256: t.Any,
    public_pem: t.Callable[..., bytes],
) -> None:
    sig, bundle = _signed(run_module, image, key, home)
    foreign = {**bundle, "public_key": public_pem(other_p256).decode()}
    for code, signatures, more in (
        ("input_invalid", [], {}), ("not_found", [sig], {}), ("not_found", [bundle], {}),
        ("signature_invalid", [sig, {**bundle, "signature": sig["signature"]}], {}),
        ("signature_invalid", [{**sig, "public_key": foreign["public_key"]}, foreign], {}),
        ("not_found", [sig, {**bundle, "sha256": "0" * 64}], {}),
        ("not_found", [sig, {**bundle, "signature": None}], {}),
        ("malformed", [sig, {**bundle, "signature": "no base64"}], {}), ("key_mismatch", [sig, foreign], {}),
        ("key_mismatch", [sig, bundle], {"key_id": "0" * 64}),
    ):
        for check in (True, False):
            if check and signatures[-1:] == [{**bundle, "signature": None}]:
                continue
            ended = run(image, signers=[{"signatures": signatures, **more}], check=check)
            assert (ended.failed, ended.codes) == (True, [code]), (code, ended.result)
    assert writes(registry) == 0
    assert run(image, signers=[{"signatures": [sig]}], formats=["sig"]).result["changed"]
