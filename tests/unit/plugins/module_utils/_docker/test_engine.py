# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the container engine: the genuine SDK talks to an engine in this process."""

from __future__ import annotations

import io
import pathlib
import stat
import tarfile
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._docker import engine as engines
from ansible_collections.hallmark.signing.plugins.module_utils._docker.engine import Engine
from ansible_collections.hallmark.signing.plugins.module_utils._errors import BuildError
from ansible_collections.hallmark.signing.plugins.module_utils._oci.credentials import Credentials
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._docker.fake_engine import (
    FakeEngine,
    image_id,
)

NAME = "r.example.org/app"
DIGEST = f"sha256:{'cd' * 32}"
ROBOT = Credentials("robot", "canary-password", "test")
OPTIONS: dict[str, t.Any] = {
    "buildargs": {"A": "1"}, "target": "", "platform": None, "labels": {"org.example": "x"},
}


def context(**files: str) -> t.IO[bytes]:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    archive.seek(0)
    return archive


def refused(code: str, where: str, action: t.Callable[[], t.Any]) -> BuildError:
    with pytest.raises(BuildError) as caught:
        action()
    assert (caught.value.code, caught.value.object) == (code, where)
    assert "canary" not in str(caught.value) + repr(caught.value)
    return caught.value


def build(engine: Engine, **more: t.Any) -> str:
    return engine.build(context(Dockerfile="FROM scratch"), tag=f"{NAME}:1", dockerfile="Dockerfile", options={
        **OPTIONS, **more
    })


# Connecting ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["tcp://127.0.0.1:1", "unix:///nowhere/docker.sock", "nonsense://x", "http://", "npipe:////./pipe/x"]
)
def test_engine_that_cannot_be_reached_is_told(host: str) -> None:
    error = refused("engine_unavailable", host, lambda: Engine(host))
    assert error.attempt == "reach the container engine"
    assert "docker_host" in error.advice


def test_host_comes_from_the_environment(lone: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    lone.images["x"] = (image_id("x"), None)
    monkeypatch.setenv("DOCKER_HOST", lone.url)
    assert Engine(None).image_id("x") == image_id("x")
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    refused("engine_unavailable", "tcp://127.0.0.1:1", lambda: Engine(None))
    assert Engine(lone.url).image_id("x") == image_id("x")


def test_usual_socket_is_named_where_nothing_else_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**options: t.Any) -> t.Any:
        assert options == {"version": "auto", "timeout": 600}
        raise engines.DockerException("no such file")

    monkeypatch.setattr(engines.docker, "from_env", fail)
    refused("engine_unavailable", "unix:///var/run/docker.sock", lambda: Engine(None))


# Looking -------------------------------------------------------------------------------------------------------------


def test_image_that_is_there_has_id_and_label(lone: FakeEngine) -> None:
    lone.images[f"{NAME}:1"] = (DIGEST, {"org.example": "x"})
    engine = Engine(lone.url)
    assert engine.image_id(f"{NAME}:1") == DIGEST
    assert engine.label(f"{NAME}:1", "org.example") == "x"
    assert engine.label(f"{NAME}:1", "other") is None


def test_image_that_is_not_there_has_neither(lone: FakeEngine) -> None:
    engine = Engine(lone.url)
    assert engine.image_id(f"{NAME}:1") is None
    assert engine.label(f"{NAME}:1", "org.example") is None


def test_image_without_labels_has_none(lone: FakeEngine) -> None:
    lone.images["x"] = (DIGEST, None)
    assert Engine(lone.url).label("x", "org.example") is None


def test_image_without_configuration_has_no_label(lone: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(lone.url)
    monkeypatch.setattr(engine, "_inspect", lambda _name: {"Id": DIGEST, "Config": None})
    assert engine.label("x", "org.example") is None


def test_failed_look_is_an_error(lone: FakeEngine) -> None:
    engine = Engine(lone.url)
    lone.refuse["inspect"] = (500, "the store is broken")
    for look in (lambda: engine.image_id("x"), lambda: engine.label("x", "y")):
        error = refused("build_failed", "x", look)
        assert (error.attempt, error.cause) == ("look at the image", "the store is broken")


# Building ------------------------------------------------------------------------------------------------------------


def test_build_returns_the_id_of_the_last_stage(lone: FakeEngine) -> None:
    built = build(Engine(lone.url))
    assert built == lone.images[f"{NAME}:1"][0]
    (call,) = lone.called("build")
    assert call.files == {"Dockerfile": "FROM scratch"}
    assert call.query == {
        "t": f"{NAME}:1", "dockerfile": "Dockerfile", "rm": "True", "forcerm": "True", "q": "False", "nocache": "False",
        "pull": "False", "buildargs": '{"A": "1"}', "labels": '{"org.example": "x"}',
    }


def test_target_and_platform_are_passed_on(lone: FakeEngine) -> None:
    build(Engine(lone.url), target="one", platform="linux/arm64")
    (call,) = lone.called("build")
    assert (call.query["target"], call.query["platform"]) == ("one", "linux/arm64")


def test_id_is_that_of_this_very_build_and_not_of_the_tag(lone: FakeEngine) -> None:
    # Another build may have taken the tag meanwhile.
    lone.say["build"] = [{"aux": {"ID": image_id("a stage")}}, {"aux": {"ID": image_id("the image")}}]
    lone.images[f"{NAME}:1"] = (DIGEST, None)
    assert build(Engine(lone.url)) == image_id("the image")


def test_build_that_names_no_id_is_looked_up(lone: FakeEngine) -> None:
    # As podman's API does.
    lone.say["build"] = [{"stream": "STEP 1/1: FROM scratch\n"}]
    lone.images[f"{NAME}:1"] = (DIGEST, None)
    assert build(Engine(lone.url)) == DIGEST


def test_build_without_any_id_is_an_error(lone: FakeEngine) -> None:
    lone.say["build"] = [{"stream": "STEP 1/1: FROM scratch\n"}, {"aux": {"Digest": DIGEST}}]
    error = refused("build_failed", f"{NAME}:1", lambda: build(Engine(lone.url)))
    assert (error.attempt, error.cause) == ("build the image", "the engine named no image id")


def failure(text: str) -> dict[str, t.Any]:
    return {"errorDetail": {"message": text}, "error": text}


def test_failed_build_shows_the_end_of_its_log(lone: FakeEngine) -> None:
    lines = [{"stream": f"line {number}\n"} for number in range(30)]
    lone.say["build"] = [*lines, {"stream": "\n"}, {"stream": "two\nin one\n"}, failure("returned 1\n")]
    lone.images[f"{NAME}:1"] = (DIGEST, None)
    error = refused("build_failed", f"{NAME}:1", lambda: build(Engine(lone.url)))
    expected = [*(f"line {number}" for number in range(20, 30)), "two", "in one", "returned 1"]
    assert error.cause == " / ".join(expected)


def test_error_wins_over_an_id(lone: FakeEngine) -> None:
    lone.say["build"] = [{"aux": {"ID": DIGEST}}, failure("a later stage failed")]
    refused("build_failed", f"{NAME}:1", lambda: build(Engine(lone.url)))


@pytest.mark.parametrize("status", [400, 500])
def test_refused_build_is_an_error(status: int, lone: FakeEngine) -> None:
    lone.refuse["build"] = (status, "dockerfile parse error line 2: unknown instruction: NOPE")
    error = refused("build_failed", f"{NAME}:1", lambda: build(Engine(lone.url)))
    assert error.cause == "dockerfile parse error line 2: unknown instruction: NOPE"


def test_long_message_is_cut(lone: FakeEngine) -> None:
    lone.refuse["build"] = (400, "x" * 5000)
    assert refused("build_failed", f"{NAME}:1", lambda: build(Engine(lone.url))).cause == "x" * 500


def test_error_without_text_is_named_by_its_class() -> None:
    assert engines._short(ValueError()) == "ValueError"


# Pulling, tagging, pushing -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("credentials", "auth"), [(None, {}), (ROBOT, {"username": "robot", "password": "canary-password"})]
)
def test_credentials_are_those_given(
    credentials: Credentials | None, auth: dict[str, str], lone: FakeEngine, tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # What the user's own configuration says does not count: with no credentials there are none.
    (tmp_path / "config.json").write_text('{"auths": {"r.example.org": {"auth": "b3RoZXI6b3RoZXI="}}}')
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    lone.images[f"{NAME}:1"] = (DIGEST, None)
    engine = Engine(lone.url)
    engine.pull(NAME, DIGEST, platform=None, credentials=credentials)
    engine.push(NAME, "1", credentials=credentials)
    assert [(call.what, call.auth) for call in lone.calls] == [("pull", auth), ("push", auth)]


@pytest.mark.parametrize("platform", [None, "linux/arm64"])
def test_pull_is_by_digest(platform: str | None, lone: FakeEngine) -> None:
    engine = Engine(lone.url)
    engine.pull(NAME, DIGEST, platform=platform, credentials=None)
    (call,) = lone.calls
    assert (call.query["fromImage"], call.query["tag"], call.query.get("platform")) == (NAME, DIGEST, platform)
    assert engine.image_id(f"{NAME}@{DIGEST}")


def test_failed_pull_is_an_error(lone: FakeEngine) -> None:
    engine = Engine(lone.url)

    def pull() -> None:
        engine.pull(NAME, DIGEST, platform=None, credentials=ROBOT)

    lone.refuse["pull"] = (404, f"manifest for {NAME} not found: manifest unknown")
    error = refused("build_failed", f"{NAME}@{DIGEST}", pull)
    assert (error.attempt, "manifest unknown" in error.cause) == ("pull the base", True)
    lone.refuse.clear()
    lone.say["pull"] = [{"status": f"Pulling from {NAME}"}, failure("unexpected EOF")]
    assert refused("build_failed", f"{NAME}@{DIGEST}", pull).cause == "unexpected EOF"


def test_image_gets_another_name(lone: FakeEngine) -> None:
    lone.images[f"{NAME}:1"] = (DIGEST, None)
    engine = Engine(lone.url)
    engine.tag(DIGEST, NAME, "2")
    assert engine.image_id(f"{NAME}:2") == DIGEST


def test_failed_tag_is_an_error(lone: FakeEngine) -> None:
    error = refused("build_failed", f"{NAME}:2", lambda: Engine(lone.url).tag(DIGEST, NAME, "2"))
    assert (error.attempt, error.cause) == ("tag the image", f"No such image: {DIGEST}")


def test_push_returns_the_digest_it_reports(lone: FakeEngine) -> None:
    lone.images[f"{NAME}:1"] = (image_id("x"), None)
    assert Engine(lone.url).push(NAME, "1", credentials=None) == lone.digest
    (call,) = lone.calls
    assert call.query["tag"] == "1"


def test_push_without_a_digest_is_an_error(lone: FakeEngine) -> None:
    lone.say["push"] = [{"status": "Pushed"}, {"aux": {"Tag": "1", "Size": 5}}]
    error = refused("build_failed", f"{NAME}:1", lambda: Engine(lone.url).push(NAME, "1", credentials=None))
    assert error.cause == "the engine reported no digest"


def test_failed_push_is_an_error_although_its_status_is_good(lone: FakeEngine) -> None:
    engine = Engine(lone.url)
    error = refused("build_failed", f"{NAME}:1", lambda: engine.push(NAME, "1", credentials=ROBOT))
    assert (error.attempt, "does not exist locally" in error.cause) == ("push the image", True)
    lone.say["push"] = [{"aux": {"Tag": "1", "Digest": DIGEST}}, failure("denied: requested access is denied")]
    refused("build_failed", f"{NAME}:1", lambda: engine.push(NAME, "1", credentials=ROBOT))


# The SDK passes on what requests and urllib3 raise: neither is a DockerException.
@pytest.mark.parametrize("what", ["inspect", "build", "pull", "push"])
def test_engine_that_goes_away_is_told(what: str, lone: FakeEngine) -> None:
    engine = Engine(lone.url)
    lone.cut.add(what)
    lone.images[f"{NAME}:1"] = (DIGEST, None)
    work: dict[str, t.Callable[[], t.Any]] = {
        "inspect": lambda: engine.image_id("x"),
        "build": lambda: build(engine),
        "pull": lambda: engine.pull(NAME, DIGEST, platform=None, credentials=None),
        "push": lambda: engine.push(NAME, "1", credentials=None),
    }
    with pytest.raises(BuildError):
        work[what]()


# Contexts ------------------------------------------------------------------------------------------------------------


def tree(folder: pathlib.Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


@pytest.mark.parametrize(
    ("patterns", "files"),
    [
        ([], [".dockerignore", "Dockerfile", "a.log", "b", "sub", "sub/c", "sub/d.log"]),
        (["*.log"], [".dockerignore", "Dockerfile", "b", "sub", "sub/c", "sub/d.log"]),
        (["**/*.log"], [".dockerignore", "Dockerfile", "b", "sub", "sub/c"]),
        (["sub"], [".dockerignore", "Dockerfile", "a.log", "b"]),
        (["/sub/"], [".dockerignore", "Dockerfile", "a.log", "b"]),
        (["sub", "!sub/c"], [".dockerignore", "Dockerfile", "a.log", "b", "sub/c"]),
        (["Dockerfile"], [".dockerignore", "Dockerfile", "a.log", "b", "sub", "sub/c", "sub/d.log"]),
        (["*"], [".dockerignore", "Dockerfile"]),
    ],
)
def test_context_is_what_is_not_ignored(patterns: list[str], files: list[str], tmp_path: pathlib.Path) -> None:
    tree(tmp_path, "Dockerfile", ".dockerignore", "a.log", "b", "sub/c", "sub/d.log")
    assert engines.context_files(str(tmp_path), patterns, "Dockerfile") == files


def test_context_has_the_dockerfile_that_is_named(tmp_path: pathlib.Path) -> None:
    tree(tmp_path, "Dockerfile", "build/Other")
    assert "build/Other" in engines.context_files(str(tmp_path), ["*"], "build/Other")
    assert "Dockerfile" not in engines.context_files(str(tmp_path), ["*"], "build/Other")


def test_archive_has_the_files_with_some_replaced(tmp_path: pathlib.Path) -> None:
    tree(tmp_path, "Dockerfile", "run", "sub/c", "left-out")
    (tmp_path / "run").chmod(0o750)
    (tmp_path / "link").symlink_to("run")
    files = ["Dockerfile", "link", "run", "sub", "sub/c"]
    archive = engines.context_archive(str(tmp_path), files, {"Dockerfile": "FROM scratch # ä"})
    with archive, tarfile.open(fileobj=archive) as tar:
        members = {member.name: member for member in tar.getmembers()}
        assert sorted(members) == files
        assert len(tar.getmembers()) == len(files)
        streams = {name: tar.extractfile(name) for name in ("Dockerfile", "run", "sub/c")}
        texts = {name: stream.read().decode() for name, stream in streams.items() if stream}
    assert texts == {"Dockerfile": "FROM scratch # ä", "run": "run", "sub/c": "sub/c"}
    assert stat.S_IMODE(members["run"].mode) == 0o750
    assert (members["link"].issym(), members["link"].linkname, members["sub"].isdir()) == (True, "run", True)


def test_archive_reaches_the_engine_whole(lone: FakeEngine, tmp_path: pathlib.Path) -> None:
    tree(tmp_path, "Dockerfile", "big")
    (tmp_path / "big").write_text("x" * 300_000)
    files = engines.context_files(str(tmp_path), [], "Dockerfile")
    with engines.context_archive(str(tmp_path), files, {"Dockerfile": "FROM scratch"}) as archive:
        Engine(lone.url).build(archive, tag=f"{NAME}:1", dockerfile="Dockerfile", options=OPTIONS)
    (call,) = lone.called("build")
    assert (call.files["big"], call.dockerfile) == ("x" * 300_000, "FROM scratch")
