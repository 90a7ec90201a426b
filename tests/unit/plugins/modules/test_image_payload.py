# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of module image_payload."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import stat
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._keys import making
from ansible_collections.hallmark.signing.plugins.modules import image_copy, image_payload, image_signature
from ansible_collections.hallmark.signing.tests.unit.fake_registry import FakeRegistry

PAYLOAD = {"image", "digest", "format", "path", "sha256", "repository", "docker_reference", "annotations"}
Run = t.Callable[..., t.Any]


@pytest.fixture
def run(run_module: Run, home: pathlib.Path) -> Run:
    """Runs the module with images, and checks the shape of the results."""

    def call(*images: str, **options: t.Any) -> t.Any:
        given = {"dest": str(home / "to-sign"), **options}
        ended = run_module(image_payload, ["payloads"], images=list(images), **given)
        assert all(set(one) == PAYLOAD for one in ended.result.get("payloads", []))
        return ended

    return call


@pytest.fixture
def image(registry: FakeRegistry) -> str:
    """An image by its tag."""
    registry.put_image("team/app", "1")
    return f"{registry.host}/team/app:1"


@pytest.fixture
def index(registry: FakeRegistry) -> str:
    """An index of two images by its tag."""
    registry.put_index("team/app", "2", ["linux/amd64", "linux/arm64"])
    return f"{registry.host}/team/app:2"


def files(folder: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


def test_payloads_are_written_once(run: Run, registry: FakeRegistry, image: str, home: pathlib.Path) -> None:
    digest = registry.manifests["team/app"]["1"].digest
    first = run(image, annotations={"a": 1})
    assert (first.failed, first.result["changed"]) == (False, True)
    assert [(one["image"], one["digest"], one["format"]) for one in first.result["payloads"]] == [
        (image, digest, "sig"), (image, digest, "bundle"),
    ]
    for one in first.result["payloads"]:
        # What a host with the key makes the same bytes of.
        assert {name: one[name] for name in ("repository", "docker_reference", "annotations")} == {
            "repository": f"{registry.host}/team/app", "docker_reference": f"{registry.host}/team/app",
            "annotations": {"a": "1"},
        }
        data = pathlib.Path(one["path"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == one["sha256"]
        assert os.path.dirname(one["path"]) == str(home / "to-sign")
        assert stat.S_IMODE(os.stat(one["path"]).st_mode) == 0o644
    sig = json.loads(pathlib.Path(first.result["payloads"][0]["path"]).read_bytes())
    assert sig["critical"]["image"]["docker-manifest-digest"] == digest
    assert sig["optional"] == {"a": "1"}
    before = files(home / "to-sign")
    again = run(image, annotations={"a": 1})
    assert (again.result["changed"], again.result["payloads"]) == (False, first.result["payloads"])
    assert files(home / "to-sign") == before
    assert {seen.method for seen in registry.log} <= {"GET", "HEAD"}


def test_check_mode_writes_nothing_and_says_the_same(run: Run, image: str, home: pathlib.Path) -> None:
    planned = run(image, check=True)
    assert (planned.result["changed"], (home / "to-sign").exists()) == (True, False)
    done = run(image)
    assert done.result["payloads"] == planned.result["payloads"]
    assert not run(image, check=True).result["changed"]


@pytest.mark.parametrize("recursive", [True, False])
def test_images_of_an_index_are_prepared_unless_told_otherwise(run: Run, index: str, recursive: bool) -> None:
    assert len(run(index, recursive=recursive).result["payloads"]) == (6 if recursive else 2)


@pytest.mark.parametrize("format", ["sig", "bundle"])
def test_formats_are_those_asked_for(run: Run, image: str, format: str) -> None:
    assert [one["format"] for one in run(image, formats=[format]).result["payloads"]] == [format]


def test_name_in_payloads_can_be_chosen(run: Run, image: str) -> None:
    (one,) = run(image, formats=["sig"], docker_reference="mirror.example.org/app").result["payloads"]
    assert one["docker_reference"] == "mirror.example.org/app"
    assert one["repository"] == image.rpartition(":")[0]
    assert b"mirror.example.org/app" in pathlib.Path(one["path"]).read_bytes()
    assert run(image, formats=["sig"]).result["payloads"][0]["path"] != one["path"]
    assert run(image, docker_reference="NOT A NAME").codes == ["malformed"]


def test_image_in_a_layout_has_no_name(run: Run, run_module: Run, image: str, home: pathlib.Path) -> None:
    layout = f"oci:{home}/layout:1"
    assert not run_module(image_copy, ["results"], copies=[{"source": image, "destination": layout}]).failed
    for one in run(layout).result["payloads"]:
        assert (one["repository"], one["docker_reference"]) == ("", "")


def test_file_that_is_something_else_is_left_alone(run: Run, image: str, home: pathlib.Path) -> None:
    sig, bundle = run(image, check=True).result["payloads"]
    (home / "to-sign").mkdir(mode=0o755)
    pathlib.Path(sig["path"]).write_bytes(b"precious")
    ended = run(image)
    assert (ended.failed, ended.codes, ended.result["changed"]) == (True, ["destination_occupied"], True)
    assert pathlib.Path(sig["path"]).read_bytes() == b"precious"
    assert hashlib.sha256(pathlib.Path(bundle["path"]).read_bytes()).hexdigest() == bundle["sha256"]


def test_folder_that_others_may_write_to_is_refused(run: Run, image: str, home: pathlib.Path) -> None:
    (home / "to-sign").mkdir()
    os.chmod(home / "to-sign", 0o777)
    ended = run(image)
    assert (ended.failed, set(ended.codes)) == (True, {"destination_unsafe"})
    assert files(home / "to-sign") == {}


def test_images_that_cannot_be_resolved_do_not_stop_the_others(run: Run, registry: FakeRegistry, image: str) -> None:
    ended = run(f"{registry.host}/team/app:none", image, f"{registry.host}/UPPER")
    assert (ended.failed, ended.codes, ended.result["changed"]) == (True, ["not_found", "malformed"], True)
    assert {one["image"] for one in ended.result["payloads"]} == {image}


@pytest.mark.parametrize("name", ["images", "formats"])
def test_empty_lists_are_errors(run: Run, image: str, name: str) -> None:
    ended = run(*([] if name == "images" else [image]), **({"formats": []} if name == "formats" else {}))
    assert (ended.codes, ended.result["reasons"][0]["object"]) == (["input_invalid"], name)


def test_wrong_auth_file_is_told(run: Run, image: str) -> None:
    ended = run(image, registry_auth_file="/missing")
    assert (ended.codes, ended.result["payloads"]) == (["not_found"], [])


def test_old_library_is_told(run: Run, image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import cryptography

    monkeypatch.setattr(cryptography, "__version__", "41.0.7")
    assert run(image).codes == ["library_missing"]


def test_both_phases_go_together(
    run: Run, run_module: Run, registry: FakeRegistry, index: str, home: pathlib.Path, p256: t.Any,
    public_pem: t.Callable[..., bytes],
) -> None:
    (home / "pub").write_bytes(public_pem(p256))
    external = []
    for one in run(index, annotations={"a": "1"}).result["payloads"]:
        path = pathlib.Path(one["path"])
        pathlib.Path(f"{path}.signature").write_bytes(making.sign(p256, path.read_bytes()))
        external.append({
            "payload_path": str(path), "signature_path": f"{path}.signature", "public_key_path": str(home / "pub"),
        })

    def attach(**options: t.Any) -> t.Any:
        return run_module(image_signature, ["results"], images=[index], settle_seconds=0, **options)

    ended = attach(signers=[{"external": external}])
    assert (ended.failed, ended.codes, ended.result["changed"]) == (True, ["not_found"], False)
    signed = {"signers": [{"external": external}], "annotations": {"a": "1"}}
    for changed in (True, False):
        ended = attach(**signed)
        assert (ended.failed, ended.result["changed"]) == (False, changed)
    # The files are still what they were: signatures beside them are no business of the first phase.
    assert not run(index, annotations={"a": "1"}).result["changed"]
