# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of module image_build: with a registry and an engine in this process."""

from __future__ import annotations

import gzip
import io
import json
import os
import pathlib
import shutil
import tarfile
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils import _libraries
from ansible_collections.hallmark.signing.plugins.modules import image_build
from ansible_collections.hallmark.signing.tests.unit.fake_registry import (
    OCI_CONFIG,
    OCI_LAYER,
    OCI_MANIFEST,
    FakeRegistry,
    Fault,
    digest_of,
)
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
        ({"context": None}, "missing required arguments: context"),
        ({"builder": "kaniko"}, "must be one of: engine, assemble"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, t.Any], text: str, run: Run) -> None:
    ended = run(**options)
    assert ended.failed
    assert text in ended.result["msg"]


# What the two builders do not share ----------------------------------------------------------------------------------


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize("name", ["oci:/srv/layout", "oci-archive:/srv/archive.tar"])
def test_engine_builds_for_registries_only(run: Run, engine: FakeEngine, name: str, check: bool) -> None:
    ended = run(name=name, check=check)
    assert (ended.failed, ended.codes, ended.result["reasons"][0]["object"]) == (True, ["input_invalid"], "name")
    assert "builder: assemble" in ended.result["msg"]
    assert engine.calls == []


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize("way", ["build_args", "environment"])
def test_engine_with_a_time_is_refused_by_name(
    run: Run, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, way: str, check: bool
) -> None:
    options = {"build_args": {"SOURCE_DATE_EPOCH": "1"}} if way == "build_args" else {}
    if way == "environment":
        monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    ended = run(check=check, **options)
    assert (ended.failed, ended.codes) == (True, ["input_invalid"])
    assert ended.result["reasons"][0]["object"] == "SOURCE_DATE_EPOCH"
    assert "builder: assemble" in ended.result["msg"]
    assert {key: ended.result[key] for key in KEYS} == {
        "image": None, "digest": None, "tags": ["1"], "image_id": None, "input_hash": None,
    }
    assert engine.calls == []


@pytest.mark.parametrize("check", [False, True])
def test_assembling_for_a_registry_without_push_is_refused(
    run: Run, registry: FakeRegistry, pages: pathlib.Path, check: bool
) -> None:
    ended = run(builder="assemble", context=str(pages), push=False, check=check)
    assert (ended.failed, ended.codes, ended.result["reasons"][0]["object"]) == (True, ["input_invalid"], "push")
    assert "team/app" not in registry.manifests


# An archive is written whole, by image_copy: check mode must not promise what the task will not do.
@pytest.mark.parametrize("check", [False, True])
def test_assembling_into_an_archive_is_refused(
    run: Run, pages: pathlib.Path, tmp_path: pathlib.Path, check: bool
) -> None:
    ended = run(
        builder="assemble", context=str(pages), name=f"oci-archive:{tmp_path}/archive.tar", check=check
    )
    assert (ended.failed, ended.codes) == (True, ["input_invalid"])
    assert ended.result["reasons"][0]["object"] == "name"
    assert "image_copy" in ended.result["msg"]
    assert not (tmp_path / "archive.tar").exists()


# The docker SDK makes a regular expression of each pattern.
@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize("builder", ["engine", "assemble"])
def test_list_of_ignored_files_that_cannot_be_read_is_told(
    run: Run, pages: pathlib.Path, engine: FakeEngine, builder: str, check: bool
) -> None:
    (pages / ".dockerignore").write_text("[b-a]\n")
    ended = run(builder=builder, context=str(pages), check=check)
    assert (ended.failed, ended.codes, engine.calls) == (True, ["malformed"], [])
    assert ".dockerignore" in ended.result["msg"]


# Assembling ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def pages(tmp_path: pathlib.Path) -> pathlib.Path:
    """A context folder that can be assembled, on nothing."""
    folder = tmp_path / "pages"
    (folder / "html" / "css").mkdir(parents=True)
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY html/ /srv/\nENV A=1\nCMD [\"serve\"]\n")
    (folder / ".dockerignore").write_text("**/*.tmp\n")
    for path, text in (("html/index.html", "hello"), ("html/css/style.css", "p {}"), ("html/left.tmp", "out")):
        (folder / path).write_text(text)
    return folder


@pytest.fixture
def assemble(run: Run, pages: pathlib.Path, engine: FakeEngine) -> Run:
    """Runs the module with builder assemble, and no engine that could help."""

    def call(**options: t.Any) -> t.Any:
        ended = run(**{"builder": "assemble", "context": str(pages), "docker_host": "unix:///nowhere", **options})
        assert engine.calls == []
        return ended

    return call


def layer_of(files: dict[str, str]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for path, text in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return stream.getvalue()


def put_base(registry: FakeRegistry, tag: str, platforms: t.Sequence[str] = ("linux/amd64",)) -> list[str]:
    """Store images whose layers are real; one platform as an image, more as an index. Return their digests."""
    digests, children = [], []
    for platform in platforms:
        system, _slash, architecture = platform.partition("/")
        tar = layer_of({"etc/platform": platform})
        layer, config = gzip.compress(tar, mtime=0), json.dumps({
            "os": system, "architecture": architecture, "config": {"Env": ["PATH=/bin"], "User": "7"},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(tar)]},
        }).encode()
        digests.append(registry.put_manifest("base", {
            "schemaVersion": 2, "mediaType": OCI_MANIFEST,
            "config": {"mediaType": OCI_CONFIG, "digest": registry.put_blob("base", config), "size": len(config)},
            "layers": [{"mediaType": OCI_LAYER, "digest": registry.put_blob("base", layer), "size": len(layer)}],
        }, tag=tag if len(platforms) == 1 else ""))
        children.append({
            "mediaType": OCI_MANIFEST, "digest": digests[-1], "size": len(registry.manifests["base"][digests[-1]].raw),
            "platform": {"os": system, "architecture": architecture},
        })
    if len(platforms) > 1:
        registry.put_manifest("base", {
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": children,
        }, tag=tag)
    return digests


def config_of(registry: FakeRegistry, tag: str = "1") -> dict[str, t.Any]:
    members = registry.manifests["team/app"][tag].members
    return t.cast("dict[str, t.Any]", json.loads(registry.blobs["team/app"][members["config"]["digest"]]))


def names_in(registry: FakeRegistry, tag: str = "1") -> list[str]:
    """Return the names in the new layers, which are not compressed."""
    found: list[str] = []
    for layer in registry.manifests["team/app"][tag].members["layers"]:
        assert layer["mediaType"] == "application/vnd.oci.image.layer.v1.tar"
        with tarfile.open(fileobj=io.BytesIO(registry.blobs["team/app"][layer["digest"]]), mode="r:") as archive:
            found += archive.getnames()
    return found


def writes(registry: FakeRegistry) -> int:
    return len([seen for seen in registry.log if seen.method not in ("GET", "HEAD")])


def test_image_is_assembled_and_pushed_once(assemble: Run, registry: FakeRegistry, name: str) -> None:
    planned = assemble(check=True, tags=["1", "latest"])
    assert (planned.result["changed"], writes(registry)) == (True, 0)
    assert {key: planned.result[key] for key in KEYS[:4]} == {
        "image": None, "digest": None, "tags": ["1", "latest"], "image_id": None,
    }
    first = assemble(tags=["1", "latest"])
    stored = registry.manifests["team/app"]["1"]
    assert stored == registry.manifests["team/app"]["latest"]
    assert first.result["changed"]
    assert {key: first.result[key] for key in KEYS} == {
        "image": f"{name}@{stored.digest}", "digest": stored.digest, "tags": ["1", "latest"],
        "image_id": stored.members["config"]["digest"], "input_hash": planned.result["input_hash"],
    }
    config = config_of(registry)
    assert config["config"]["Labels"] == {"org.hallmark-signing.input-hash": first.result["input_hash"]}
    assert (config["config"]["Cmd"], "A=1" in config["config"]["Env"]) == (["serve"], True)
    assert config["created"] == "1970-01-01T00:00:00Z"
    assert sorted(path for path in names_in(registry) if path.endswith(("html", "css", "tmp"))) == [
        "srv/css", "srv/css/style.css", "srv/index.html",
    ]
    before = writes(registry)
    for check in (False, True):
        again = assemble(tags=["1", "latest"], check=check)
        assert not again.result["changed"]
        assert {key: again.result[key] for key in KEYS} == {key: first.result[key] for key in KEYS}
    assert writes(registry) == before
    # A tag that is missing is given.
    assert assemble(tags=["1", "new"], check=True).result["changed"]
    more = assemble(tags=["1", "new"])
    assert (more.result["changed"], more.result["digest"]) == (True, stored.digest)
    assert registry.manifests["team/app"]["new"].digest == stored.digest


@pytest.mark.parametrize("push", [True, False])
def test_image_is_assembled_into_a_layout_once(
    assemble: Run, registry: FakeRegistry, tmp_path: pathlib.Path, push: bool
) -> None:
    options = {"name": f"oci:{tmp_path}/layout", "tags": ["1", "2"], "push": push}
    planned = assemble(check=True, **options)
    assert (planned.result["changed"], (tmp_path / "layout").exists()) == (True, False)
    assert (planned.result["image"], planned.result["digest"], planned.result["image_id"]) == (None, None, None)
    first = assemble(**options)
    digest = first.result["digest"]
    assert first.result["image"] == f"oci:{tmp_path}/layout@{digest}"
    listed = json.loads((tmp_path / "layout" / "index.json").read_text())["manifests"]
    assert {entry["annotations"]["org.opencontainers.image.ref.name"]: entry["digest"] for entry in listed} == {
        "1": digest, "2": digest,
    }
    for check in (False, True):
        again = assemble(check=check, **options)
        assert {key: again.result[key] for key in KEYS} == {key: first.result[key] for key in KEYS}
        assert not again.result["changed"]
    assert registry.log == []
    # A layout and a registry get the same image.
    assert assemble().result["digest"] == digest


def test_same_input_is_the_same_digest_wherever_and_whenever(
    assemble: Run, pages: pathlib.Path, tmp_path: pathlib.Path, registry: FakeRegistry
) -> None:
    first = assemble()
    copy = tmp_path / "elsewhere" / "copy"
    copy.parent.mkdir()
    # In another order, too.
    copy.mkdir()
    for entry in sorted(os.listdir(pages), reverse=True):
        source = pages / entry
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, copy / entry)
    for number, path in enumerate([copy, *copy.rglob("*")]):
        os.utime(path, (1_000_000_000 + number, 1_200_000_000 + number))
        if os.geteuid() == 0:
            os.chown(path, 12345, 54321)
    second = assemble(context=str(copy), tags=["2"])
    assert (second.result["changed"], second.result["digest"]) == (True, first.result["digest"])
    assert second.result["input_hash"] == first.result["input_hash"]
    # The very same request finds it there.
    assert not assemble(context=str(copy)).result["changed"]
    for change in (lambda: (copy / "html" / "index.html").write_text("other"),
                   lambda: (copy / "html" / "index.html").chmod(0o755),
                   lambda: (copy / "html" / "more").write_text("")):
        before = assemble(context=str(copy)).result
        change()
        after = assemble(context=str(copy)).result
        assert (after["changed"], after["digest"] == before["digest"]) == (True, False)
    (copy / "html" / "more.tmp").write_text("ignored")
    assert not assemble(context=str(copy)).result["changed"]


@pytest.mark.parametrize("way", ["build_args", "environment"])
def test_time_of_the_image_may_be_given(
    assemble: Run, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    without = assemble().result["digest"]
    options = {"build_args": {"SOURCE_DATE_EPOCH": 1795000000}} if way == "build_args" else {}
    if way == "environment":
        monkeypatch.setenv("SOURCE_DATE_EPOCH", "1795000000")
    ended = assemble(**options)
    assert (ended.result["changed"], ended.result["digest"] == without) == (True, False)
    assert config_of(registry)["created"] == "2026-11-18T11:06:40Z"
    layer = registry.manifests["team/app"]["1"].members["layers"][0]["digest"]
    with tarfile.open(fileobj=io.BytesIO(registry.blobs["team/app"][layer])) as archive:
        assert {entry.mtime for entry in archive} == {1795000000}
    assert not assemble(**options).result["changed"]


@pytest.mark.parametrize("time", ["soon", "-1", "1.5", "9" * 12])
@pytest.mark.parametrize("check", [False, True])
def test_time_that_is_none_is_refused_by_name(assemble: Run, time: str, check: bool) -> None:
    ended = assemble(build_args={"SOURCE_DATE_EPOCH": time}, check=check)
    assert (ended.failed, ended.codes) == (True, ["input_invalid"])
    assert ended.result["reasons"][0]["object"] == "SOURCE_DATE_EPOCH"


def test_base_comes_from_a_registry_and_is_resolved_once(
    assemble: Run, pages: pathlib.Path, registry: FakeRegistry
) -> None:
    first_base, = put_base(registry, "1")
    (pages / "Dockerfile").write_text("ARG BASE\nFROM $BASE\nCOPY html /srv/\n")
    options = {"build_args": {"BASE": f"{registry.host}/base:1"}}
    planned, first = assemble(check=True, **options), assemble(**options)
    assert planned.result["input_hash"] == first.result["input_hash"]
    stored = registry.manifests["team/app"]["1"].members
    assert stored["layers"][0] == registry.manifests["base"][first_base].members["layers"][0]
    assert len(stored["layers"]) == 2
    config = config_of(registry)
    assert (config["config"]["User"], config["config"]["Env"]) == ("7", ["PATH=/bin"])
    assert not assemble(**options).result["changed"]
    # Another image behind the same name is another input.
    put_base(registry, "1", ["linux/arm64"])
    changed = assemble(**options)
    assert changed.result["changed"]
    assert changed.result["input_hash"] != first.result["input_hash"]


def test_platform_picks_the_image_of_an_index(assemble: Run, pages: pathlib.Path, registry: FakeRegistry) -> None:
    put_base(registry, "2", ["linux/amd64", "linux/arm64"])
    (pages / "Dockerfile").write_text(f"FROM {registry.host}/base:2\nCOPY html /srv/\n")
    for platform in ("amd64", "arm64"):
        assert assemble(platform=f"linux/{platform}").result["changed"]
        assert config_of(registry)["architecture"] == platform
    for check in (False, True):
        missing = assemble(platform="linux/s390x", check=check)
        assert (missing.failed, missing.codes) == (True, ["input_invalid"])
        assert "linux/s390x" in missing.result["msg"]


def test_base_may_lie_in_a_layout(
    assemble: Run, pages: pathlib.Path, registry: FakeRegistry, tmp_path: pathlib.Path
) -> None:
    layout = f"oci:{tmp_path}/layout"
    assert assemble(name=layout).result["changed"]
    (pages / "Dockerfile").write_text(f"FROM {layout}:1\nLABEL a=b\n")
    assert assemble().result["changed"]
    assert config_of(registry)["config"]["Labels"]["a"] == "b"
    assert config_of(registry)["config"]["Cmd"] == ["serve"]


@pytest.mark.parametrize("check", [False, True])
def test_everything_that_cannot_be_done_is_refused_by_line_at_once(
    assemble: Run, pages: pathlib.Path, registry: FakeRegistry, check: bool
) -> None:
    (pages / "Dockerfile").write_text(
        "FROM scratch\nRUN make\nCOPY html /srv/\nONBUILD RUN x\nCOPY --from=other /a /b\nCOPY missing /\n"
        "ADD https://example.org/x /x\n"
    )
    ended = assemble(check=check)
    assert (ended.failed, ended.codes, ended.result["changed"]) == (True, ["input_invalid"], False)
    for line in ("line 2: RUN", "line 4: ONBUILD", "line 5: COPY", "line 6: COPY", "line 7: ADD"):
        assert line in ended.result["msg"]
    assert "line 3" not in ended.result["msg"]
    assert ended.result["reasons"][0]["object"] == str(pages / "Dockerfile")
    assert {key: ended.result[key] for key in KEYS} == {
        "image": None, "digest": None, "tags": ["1"], "image_id": None, "input_hash": None,
    }
    assert writes(registry) == 0


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"context": "/nowhere"}, "not_found"), ({"dockerfile": "../Dockerfile"}, "not_found"),
        ({"dockerfile": "missing"}, "not_found"), ({"target": "none"}, "malformed"), ({"tags": []}, "input_invalid"),
        ({"tags": ["not a tag"]}, "malformed"), ({"name": "r.example.org/app:1"}, "malformed"),
        ({"name": "oci:/srv/layout:1"}, "malformed"), ({"name": "oci:"}, "malformed"),
        ({"platform": "windows/amd64"}, "input_invalid"), ({"registry_auth_file": "/nowhere"}, "not_found"),
    ],
)
@pytest.mark.parametrize("check", [False, True])
def test_failed_assembly_has_every_key(
    options: dict[str, t.Any], code: str, check: bool, assemble: Run, registry: FakeRegistry
) -> None:
    ended = assemble(check=check, **options)
    assert (ended.failed, ended.codes, ended.result["changed"]) == (True, [code], False)
    assert {key: ended.result[key] for key in KEYS} == {
        "image": None, "digest": None, "tags": options.get("tags", ["1"]), "image_id": None, "input_hash": None,
    }
    assert writes(registry) == 0


def test_push_that_fails_is_told_and_goes_well_the_next_time(assemble: Run, registry: FakeRegistry) -> None:
    registry.fail(Fault(status=403), method="PUT", path="/manifests/", times=1)
    ended = assemble()
    assert (ended.failed, ended.codes) == (True, ["unauthorized"])
    assert "team/app" not in registry.manifests
    assert assemble().result["changed"]


def test_logins_are_used_for_bases_and_images(assemble: Run, pages: pathlib.Path, registry: FakeRegistry) -> None:
    put_base(registry, "1")
    with FakeRegistry(auth="bearer", username="robot", password="canary-password") as guarded:
        guarded.blobs, guarded.manifests = registry.blobs, registry.manifests
        (pages / "Dockerfile").write_text(f"FROM {guarded.host}/base:1\nCOPY html /srv/\n")
        login = {"host": guarded.host, "username": "robot", "password": "canary-password"}
        assert assemble(name=f"{guarded.host}/team/app", registries=[login]).result["changed"]
        refused = assemble(name=f"{guarded.host}/team/app", registries=[{**login, "password": "canary-wrong"}])
        assert (refused.failed, refused.codes) == (True, ["unauthorized"])


def test_nothing_is_left_in_the_folder_for_temporary_files(
    assemble: Run, pages: pathlib.Path, tmp_path: pathlib.Path, registry: FakeRegistry
) -> None:
    assemble(check=True)
    assemble()
    registry.fail(Fault(status=403), method="PUT")
    assert assemble(build_args={"SOURCE_DATE_EPOCH": "1"}).failed
    assert list((tmp_path / "temporary").iterdir()) == []


def test_assembling_needs_the_library_that_knows_dockerignore(assemble: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_libraries.FLOORS, "docker", "999")
    ended = assemble()
    assert [one["code"] for one in ended.result["reasons"]] == ["library_missing"]
