# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of module image_build: with a registry and an engine in this process."""

from __future__ import annotations

import pathlib
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils import _libraries
from ansible_collections.hallmark.signing.plugins.modules import image_build
from ansible_collections.hallmark.signing.tests.unit.fake_registry import FakeRegistry
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._docker.fake_engine import (
    FakeEngine,
    image_id,
)

KEYS = ["image", "digest", "tags", "image_id", "input_hash"]
Run = t.Callable[..., t.Any]


@pytest.fixture
def engine(registry: FakeRegistry) -> t.Iterator[FakeEngine]:
    """An engine that pushes to the registry."""
    with FakeEngine(registry) as fake:
        yield fake


@pytest.fixture
def context(tmp_path: pathlib.Path, registry: FakeRegistry) -> pathlib.Path:
    """A context folder whose Dockerfile starts from an image in the registry."""
    folder = tmp_path / "context"
    folder.mkdir()
    registry.put_image("base", "1")
    (folder / "Dockerfile").write_text(f"FROM {registry.host}/base:1\nCOPY file /file\n")
    (folder / "file").write_text("content")
    return folder


@pytest.fixture
def name(registry: FakeRegistry) -> str:
    """The name of the image that is built."""
    return f"{registry.host}/team/app"


@pytest.fixture
def run(run_module: Run, engine: FakeEngine, context: pathlib.Path, name: str) -> Run:
    """Runs the module for name:1."""

    def call(**options: t.Any) -> t.Any:
        given = {"name": name, "tags": ["1"], "context": str(context), "docker_host": engine.url, **options}
        return run_module(image_build, KEYS, **{key: value for key, value in given.items() if value is not None})

    return call


def test_image_is_built_and_pushed_once(run: Run, registry: FakeRegistry, engine: FakeEngine, name: str) -> None:
    planned = run(check=True, tags=["1", "latest"])
    assert (planned.result["changed"], engine.calls) == (True, [])
    assert {key: planned.result[key] for key in KEYS[:4]} == {
        "image": None, "digest": None, "tags": ["1", "latest"], "image_id": None,
    }
    first = run(tags=["1", "latest"])
    digest = registry.manifests["team/app"]["1"].digest
    assert first.result["changed"]
    assert {key: first.result[key] for key in KEYS} == {
        "image": f"{name}@{digest}", "digest": digest, "tags": ["1", "latest"],
        "image_id": engine.images[f"{name}:1"][0], "input_hash": planned.result["input_hash"],
    }
    assert len(first.result["input_hash"]) == 64
    engine.calls.clear()
    for check in (False, True):
        again = run(tags=["1", "latest"], check=check)
        assert (again.result["changed"], again.result["image"]) == (False, f"{name}@{digest}")
        assert (again.result["tags"], again.result["input_hash"]) == (["1", "latest"], first.result["input_hash"])
    assert engine.calls == []


def test_diff_mode_adds_nothing(run: Run) -> None:
    assert "diff" not in run(diff=True).result


def test_image_that_is_not_pushed_has_no_digest(
    run: Run, registry: FakeRegistry, engine: FakeEngine, name: str
) -> None:
    built = run(push=False)
    assert (built.result["changed"], built.result["image"], built.result["digest"]) == (True, None, None)
    assert built.result["image_id"] == engine.images[f"{name}:1"][0]
    assert "team/app" not in registry.manifests
    again = run(push=False)
    assert (again.result["changed"], again.result["image_id"]) == (False, built.result["image_id"])


def test_each_option_reaches_the_build(
    run: Run, registry: FakeRegistry, engine: FakeEngine, context: pathlib.Path
) -> None:
    (context / "Other").write_text(f"ARG BASE\nFROM $BASE AS one\nFROM {registry.host}/missing AS two\n")
    ended = run(
        dockerfile="Other", build_args={"BASE": f"{registry.host}/base:1", "N": 1}, target="one",
        platform="linux/arm64",
        registries=[{"host": registry.host, "username": "robot", "password": "canary-password"}],
    )
    assert not ended.failed
    (call,) = engine.called("build")
    assert call.query["dockerfile"] == "Other"
    assert call.query["target"] == "one"
    assert call.query["platform"] == "linux/arm64"
    assert '"N": "1"' in call.query["buildargs"]
    assert engine.called("push")[0].auth == {"username": "robot", "password": "canary-password"}


def test_base_that_only_the_engine_has_is_warned_of(
    run: Run, registry: FakeRegistry, engine: FakeEngine, context: pathlib.Path
) -> None:
    local = f"{registry.host}/local:1"
    (context / "Dockerfile").write_text(f"FROM {local}\n")
    engine.images[local] = (image_id("local"), None)
    ended = run()
    assert (ended.failed, len(ended.warnings)) == (False, 1)
    assert local in ended.warnings[0]


def test_pull_can_be_left_out(run: Run, registry: FakeRegistry, engine: FakeEngine) -> None:
    engine.images[f"{registry.host}/base:1"] = (image_id("local"), None)
    run(pull=False)
    assert engine.called("build")[0].dockerfile.startswith(f"FROM {image_id('local')}\n")


def test_engine_may_come_from_the_environment(
    run: Run, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", engine.url)
    assert run(docker_host=None).result["changed"]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"docker_host": "unix:///nowhere"}, "engine_unavailable"), ({"context": "/nowhere"}, "not_found"),
        ({"dockerfile": "../Dockerfile"}, "not_found"), ({"target": "none"}, "malformed"),
        ({"tags": []}, "input_invalid"),
        ({"tags": ["1", "not a tag"]}, "malformed"), ({"tags": [""]}, "malformed"), ({"tags": ["a/b"]}, "malformed"),
        ({"name": "r.example.org/app:1"}, "malformed"), ({"name": "r.example.org/APP"}, "malformed"),
        ({"name": f"r.example.org/app@sha256:{'0' * 64}"}, "malformed"),
        ({"registry_auth_file": "/nowhere"}, "not_found"),
    ],
)
@pytest.mark.parametrize("check", [False, True])
def test_failure_has_every_key(
    options: dict[str, t.Any], code: str, check: bool, run: Run, engine: FakeEngine
) -> None:
    ended = run(check=check, **options)
    assert (ended.failed, ended.codes, ended.result["changed"]) == (True, [code], False)
    assert {key: ended.result[key] for key in KEYS} == {
        "image": None, "digest": None, "tags": options.get("tags", ["1"]), "image_id": None, "input_hash": None,
    }
    assert engine.calls == []


def test_failed_build_and_failed_push_are_told(run: Run, engine: FakeEngine) -> None:
    for what in ("build", "push"):
        engine.say = {what: [{"error": "no luck", "errorDetail": {"message": "no luck"}}]}
        ended = run()
        assert (ended.failed, ended.codes) == (True, ["build_failed"])
        assert "no luck" in ended.result["msg"]


def test_old_library_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_libraries.FLOORS, "docker", "999")
    ended = run()
    assert (ended.codes, ended.result["reasons"][0]["object"]) == (["library_missing"], "docker")


# "1@sha256:..." is a tag with a digest to the parser; what is pushed under that name would be up to the engine.
def test_tag_with_a_digest_is_refused(run: Run) -> None:
    assert run(tags=[f"1@sha256:{'0' * 64}"]).codes == ["malformed"]


# str(None) is "None"; for docker an argument without a value is one that is not given.
def test_null_is_no_build_argument(run: Run, engine: FakeEngine) -> None:
    ended = run(build_args={"A": None})
    assert ended.failed or "None" not in engine.called("build")[0].query["buildargs"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"name": None}, "missing required arguments: name"), ({"tags": None}, "missing required arguments: tags"),
        ({"context": None}, "missing required arguments: context"), ({"builder": "assemble"}, "must be one of: engine"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, t.Any], text: str, run: Run) -> None:
    ended = run(**options)
    assert ended.failed
    assert text in ended.result["msg"]
