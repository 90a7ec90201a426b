# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of module image_copy."""

from __future__ import annotations

import json
import os
import pathlib
import tarfile
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._keys import pem, private_key
from ansible_collections.hallmark.signing.plugins.module_utils._keys.signers.file import FileSigner
from ansible_collections.hallmark.signing.plugins.module_utils._oci.credentials import AuthFile
from ansible_collections.hallmark.signing.plugins.module_utils._oci.images import Images
from ansible_collections.hallmark.signing.plugins.module_utils._oci.transport import RegistrySettings
from ansible_collections.hallmark.signing.plugins.module_utils._signing import authority, sign, verify
from ansible_collections.hallmark.signing.plugins.modules import image_copy
from ansible_collections.hallmark.signing.tests.unit.fake_registry import FakeRegistry, Fault

ITEM = {"source", "destination", "digest", "changed", "failed", "reasons", "warnings"}
REASON = {"code", "message", "object", "signature"}
Run = t.Callable[..., t.Any]


@pytest.fixture
def other() -> t.Iterator[FakeRegistry]:
    """Another registry."""
    with FakeRegistry() as fake:
        yield fake
        assert not fake.errors


@pytest.fixture
def run(run_module: Run) -> Run:
    """Runs the module with pairs of source and destination, and checks the shape of the results."""

    def call(*pairs: tuple[str, str], **options: t.Any) -> t.Any:
        copies = [{"source": source, "destination": destination} for source, destination in pairs]
        given = {"copies": copies, "settle_seconds": 0, **options}
        given = {name: value for name, value in given.items() if value is not None}
        ended = run_module(image_copy, ["results"], **given)
        for item in ended.result.get("results", []):
            assert set(item) == ITEM
            assert all(set(reason) == REASON for reason in item["reasons"] + item["warnings"])
            assert item["failed"] is bool(item["reasons"])
        return ended

    return call


@pytest.fixture
def store() -> Images:
    """Everything that can be named."""
    return Images(RegistrySettings(AuthFile("none", {})))


@pytest.fixture
def image(registry: FakeRegistry, store: Images, p256: t.Any) -> str:
    """A signed index with an SBOM that refers to it."""
    digest = registry.put_index("team/app", "1", ["linux/amd64", "linux/arm64"])
    image = f"{registry.host}/team/app:1"
    assert not sign_by(store, image, p256).failed
    referrer = registry.put_referrer("team/app", digest, artifact_type="application/spdx+json")
    listed = registry.manifests["team/app"][digest.replace(":", "-")].members
    listed["manifests"].append({
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": referrer,
        "size": len(registry.manifests["team/app"][referrer].raw), "artifactType": "application/spdx+json",
    })
    registry.put_manifest("team/app", listed, tag=digest.replace(":", "-"))
    return image


def sign_by(store: Images, image: str, key: t.Any) -> sign.Outcome:
    signer = FileSigner(private_key.PrivateKey(key, pem.public_key(key.public_key(), where="key"), "pem", False))
    return sign.sign_image(store, image, sign.Wish((signer,)))


def verified(store: Images, image: str, *keys: t.Any, **options: t.Any) -> bool:
    public = [authority.Authority(f"{n}", pem.public_key(key.public_key(), where="")) for n, key in enumerate(keys)]
    return verify.verify_image(
        store, image, authority.demand(public, threshold=len(public), recursive=True, **options)
    ).verified


def writes(registry: FakeRegistry) -> int:
    return len([seen for seen in registry.log if seen.method not in ("GET", "HEAD")])


def test_image_goes_through_layout_and_archive_into_another_registry_with_all_it_has(
    run: Run, registry: FakeRegistry, other: FakeRegistry, image: str, store: Images, tmp_path: pathlib.Path,
    p256: t.Any,
) -> None:
    digest = registry.manifests["team/app"]["1"].digest
    way = [image, f"oci:{tmp_path}/layout:1", f"oci-archive:{tmp_path}/archive.tar:1", f"{other.host}/inside/app:2"]
    before = writes(registry)
    for pair in zip(way, way[1:]):
        planned = run(pair, check=True)
        first, again, again_planned = run(pair), run(pair), run(pair, check=True)
        assert [one.result["changed"] for one in (planned, first, again, again_planned)] == [True, True, False, False]
        for ended in (planned, first, again, again_planned):
            (item,) = ended.result["results"]
            assert item == {
                "source": pair[0], "destination": pair[1], "digest": digest, "changed": ended.result["changed"],
                "failed": False, "reasons": [], "warnings": [],
            }
            assert (ended.failed, ended.result["reasons"], ended.warnings) == (False, [], [])
        for form in ("sig", "bundle"):
            assert verified(store, pair[1], p256, formats=[form])
    assert writes(registry) == before
    came, went = registry.manifests["team/app"], other.manifests["inside/app"]
    # Every manifest by its digest, to the byte; and the tags that signatures have.
    assert {name for name in came if ":" in name} - {name for name in went if ":" in name} <= {
        # Former states of the tags.
        name for name, stored in came.items() if ":" in name and "subject" not in stored.members
    }
    assert went["2"].raw == came["1"].raw
    for name in [name for name in came if name.endswith(".sig")]:
        assert went[name].raw == came[name].raw
    assert any(stored.members.get("artifactType") == "application/spdx+json" for stored in went.values())


def test_check_mode_writes_nothing(
    run: Run, registry: FakeRegistry, other: FakeRegistry, image: str, tmp_path: pathlib.Path
) -> None:
    before, present = writes(registry), sorted(os.listdir(tmp_path))
    ended = run(
        (image, f"{other.host}/app:1"), (image, f"oci:{tmp_path}/layout:1"), (image, f"oci-archive:{tmp_path}/a.tar"),
        check=True,
    )
    assert [item["changed"] for item in ended.result["results"]] == [True, True, True]
    assert (writes(registry), writes(other), sorted(os.listdir(tmp_path))) == (before, 0, present)


def test_diff_mode_adds_nothing(run: Run, image: str, tmp_path: pathlib.Path) -> None:
    assert "diff" not in run((image, f"oci:{tmp_path}/layout:1"), diff=True).result


def test_signatures_of_both_sides_are_joined(
    run: Run, other: FakeRegistry, image: str, store: Images, p256: t.Any, other_p256: t.Any
) -> None:
    destination = f"{other.host}/app:1"
    run((image, destination))
    sign_by(store, destination, other_p256)
    sign_by(store, image, p256)
    # Nothing new at the source: what the destination has more is no reason to write.
    assert not run((image, destination)).result["changed"]
    assert verified(store, destination, p256, other_p256)
    # And back: the source gets what only the destination had.
    assert run((destination, image)).result["changed"]
    assert verified(store, image, p256, other_p256)
    assert not verified(store, f"{other.host}/app:1", p256, other_p256, denied_key_ids=frozenset(
        {pem.public_key(p256.public_key(), where="").key_id}
    ))


def test_failure_of_one_copy_does_not_stop_the_others(
    run: Run, registry: FakeRegistry, other: FakeRegistry, image: str, tmp_path: pathlib.Path
) -> None:
    digest = registry.manifests["team/app"]["1"].digest
    pairs = [
        (f"{registry.host}/team/app:missing", f"{other.host}/a:1"), (image, f"{other.host}/b:1"),
        (f"{registry.host}/UPPER:1", f"{other.host}/c:1"), (image, f"{other.host}/UPPER:1"),
        (image, f"{other.host}/d@sha256:{'0' * 64}"), (f"oci:{tmp_path}/none:1", f"{other.host}/e:1"),
        (f"oci-archive:{tmp_path}/none.tar", f"{other.host}/f:1"),
    ]
    ended = run(*pairs)
    items = ended.result["results"]
    assert (ended.failed, ended.result["changed"]) == (True, True)
    assert [(item["source"], item["destination"]) for item in items] == pairs
    assert [item["failed"] for item in items] == [True, False, True, True, True, True, True]
    assert [item["changed"] for item in items] == [False, True, False, False, False, False, False]
    assert [item["digest"] for item in items] == [None, digest, None, None, digest, None, None]
    codes = ["not_found", "malformed", "malformed", "digest_mismatch", "not_found", "not_found"]
    assert ended.codes == codes
    assert [reason["code"] for item in items for reason in item["reasons"]] == codes
    assert ended.result["reasons"] == [reason for item in items for reason in item["reasons"]]
    assert set(other.manifests) == {"b"}


@pytest.mark.parametrize("check", [False, True])
def test_layout_without_a_tag_takes_one_image(
    run: Run, registry: FakeRegistry, image: str, tmp_path: pathlib.Path, check: bool
) -> None:
    registry.put_image("team/app", "2")
    layout = f"oci:{tmp_path}/layout"
    assert run((image, layout)).result["changed"]
    assert not run((image, layout), check=check).result["changed"]
    ended = run((f"{registry.host}/team/app:2", layout), check=check)
    assert (ended.failed, ended.codes) == (True, ["input_invalid"])
    assert "another image" in ended.result["msg"]


def test_layout_and_archive_keep_what_else_is_in_them(
    run: Run, registry: FakeRegistry, image: str, tmp_path: pathlib.Path
) -> None:
    registry.put_image("team/app", "2")
    second = f"{registry.host}/team/app:2"
    for place in (f"oci:{tmp_path}/layout", f"oci-archive:{tmp_path}/archive.tar"):
        for source, tag in ((image, "1"), (second, "2")):
            assert run((source, f"{place}:{tag}")).result["changed"]
        for source, tag in ((image, "1"), (second, "2")):
            assert not run((source, f"{place}:{tag}")).result["changed"]
    with tarfile.open(tmp_path / "archive.tar") as archive:
        listed = json.loads(t.cast(t.IO[bytes], archive.extractfile("index.json")).read())
    tags = {entry.get("annotations", {}).get("org.opencontainers.image.ref.name") for entry in listed["manifests"]}
    assert {"1", "2"} <= tags


def test_registry_without_a_tag_gets_latest(run: Run, other: FakeRegistry, image: str) -> None:
    run((image, f"{other.host}/app"))
    assert "latest" in other.manifests["app"]


def test_destination_by_digest_gets_no_tag(run: Run, registry: FakeRegistry, other: FakeRegistry, image: str) -> None:
    digest = registry.manifests["team/app"]["1"].digest
    destination = f"{other.host}/app@{digest}"
    assert run((image, destination)).result["changed"]
    assert not run((image, destination)).result["changed"]
    assert not [name for name in other.manifests["app"] if ":" not in name and not name.startswith("sha256-")]


def test_copies_of_one_task_may_go_to_one_archive(
    run: Run, registry: FakeRegistry, image: str, tmp_path: pathlib.Path
) -> None:
    registry.put_image("team/app", "2")
    pairs = [
        (f"{registry.host}/team/app:{number}", f"oci-archive:{tmp_path}/archive.tar:{number}") for number in (1, 2)
    ]
    assert run(*pairs).result["changed"]
    assert not run(*pairs).result["changed"]
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("archive")) == ["archive.tar"]


def test_copy_that_breaks_off_is_told_and_goes_on(
    run: Run, other: FakeRegistry, image: str, store: Images, p256: t.Any
) -> None:
    # The manifests come after the blobs, and the tag comes last.
    other.fail(Fault(status=403), method="PUT", path="/manifests/", times=1)
    ended = run((image, f"{other.host}/app:1"))
    assert (ended.failed, ended.codes, ended.result["results"][0]["failed"]) == (True, ["unauthorized"], True)
    assert "1" not in other.manifests.get("app", {})
    uploads = len(other.requests("PUT", "/blobs/uploads/"))
    assert run((image, f"{other.host}/app:1")).result["changed"]
    assert verified(store, f"{other.host}/app:1", p256)
    before = len(other.requests("PUT", "/blobs/uploads/"))
    assert before > uploads
    assert not run((image, f"{other.host}/app:1")).result["changed"]
    assert len(other.requests("PUT", "/blobs/uploads/")) == before


def test_what_came_is_changed_also_where_the_copy_failed_later(run: Run, other: FakeRegistry, image: str) -> None:
    other.fail(Fault(status=403), method="PUT", path="/manifests/1")
    ended = run((image, f"{other.host}/app:1"))
    assert (ended.failed, ended.codes) == (True, ["unauthorized"])
    # "Whether anything was written for it."
    assert ended.result["results"][0]["changed"]
    assert ended.result["changed"]


def test_settling_is_for_registries_that_share_tags_only(
    run: Run, registry: FakeRegistry, other: FakeRegistry, image: str, store: Images, other_p256: t.Any,
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    destination = f"{other.host}/app:1"
    run((image, destination), (image, f"oci:{tmp_path}/layout:1"), settle_seconds=0)
    assert waits == []
    sign_by(store, image, other_p256)
    before = len(other.log)
    run((image, f"oci:{tmp_path}/layout:1"), settle_seconds=30)
    assert (waits, len(other.log)) == ([], before)
    run((image, destination), settle_seconds=30, check=True)
    assert waits == []
    run((image, destination), settle_seconds=30)
    assert waits
    assert 25 < max(waits) <= 30
    waits.clear()
    run((image, destination), settle_seconds=30)
    assert waits == []


# Wrong input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", [False, True])
def test_empty_list_is_an_error(run: Run, check: bool) -> None:
    ended = run(check=check)
    assert (ended.failed, ended.codes, ended.result["results"]) == (True, ["input_invalid"], [])
    assert ended.result["reasons"][0]["object"] == "copies"


@pytest.mark.parametrize("check", [False, True])
def test_failure_of_the_whole_task_has_a_result_for_each_copy(run: Run, image: str, check: bool) -> None:
    pairs = [(image, "r.example.org/a:1"), ("not an image", "r.example.org/b:1")]
    ended = run(*pairs, registry_auth_file="/missing", check=check)
    assert (ended.failed, ended.result["changed"], ended.codes) == (True, False, ["not_found"])
    items = ended.result["results"]
    assert [(item["source"], item["destination"]) for item in items] == pairs
    assert all(item["failed"] and item["digest"] is None and not item["changed"] for item in items)


@pytest.mark.parametrize(
    ("copies", "text"),
    [
        (None, "missing required arguments: copies"), ([{"source": "x"}], "destination found in copies"),
        ([{"destination": "x"}], "source found in copies"), ([{"source": "x", "destination": "y", "z": 1}], "copies.z"),
    ],
)
def test_wrong_options_are_refused(copies: t.Any, text: str, run: Run) -> None:
    ended = run(copies=copies)
    assert ended.failed
    assert text in ended.result["msg"]


def test_logins_are_used_and_not_shown(run: Run, registry: FakeRegistry, image: str) -> None:
    with FakeRegistry(auth="bearer", username="robot", password="canary-password") as guarded:
        login = {"host": guarded.host, "username": "robot", "password": "canary-password"}
        assert run((image, f"{guarded.host}/app:1"), registries=[login]).result["changed"]
        refused = run((image, f"{guarded.host}/app:2"), registries=[{**login, "password": "canary-wrong"}])
        assert (refused.failed, refused.codes) == (True, ["unauthorized"])
