# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Builds with the real engine and without: what is pushed, when it is built, and the image of the demonstration."""

from __future__ import annotations

import os
import pathlib
import secrets
import shutil
import subprocess
import time
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._oci import reference as references
from interop_tools import ROOT, Ansible, Json, Registry, Task

needs_engine = pytest.mark.usefixtures("engine_base")
DEMO = ROOT / "playbooks" / "files" / "nginx-demo"

_DOCKERFILE = """\
ARG BASE
FROM ${BASE}
ARG WORD=one
LABEL word=${WORD}
COPY . /app/
"""

# The small Debian of the base has no program for this.
_ASK = r"exec 3<>/dev/tcp/127.0.0.1/8080 && printf 'GET /health HTTP/1.0\r\n\r\n' >&3 && cat <&3"


def _docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True, timeout=120)
    return done.stdout.strip()


@pytest.fixture(scope="module")
def repository(registry: Registry) -> t.Iterator[str]:
    """A HOST/REPO prefix of this run; what the engine gets under it is removed at the end."""
    prefix = f"{registry.host}/hallmark-interop-{secrets.token_hex(4)}"
    yield prefix
    columns = "{{.Repository}} {{.Tag}} {{.Digest}}"
    for line in _docker("image", "ls", "--all", "--digests", "--format", columns).splitlines():
        name, tag, digest = line.split()
        if name.startswith(prefix):
            target = f"{name}:{tag}" if tag != "<none>" else f"{name}@{digest}"
            subprocess.run(["docker", "rmi", "--force", target], capture_output=True, check=False)


@pytest.fixture
def context(tmp_path: pathlib.Path) -> pathlib.Path:
    """A build context with something that is ignored."""
    folder = tmp_path / "context"
    folder.mkdir()
    (folder / "Dockerfile").write_text(_DOCKERFILE)
    (folder / "file").write_text("first\n")
    (folder / ".dockerignore").write_text("# what is not sent\nignored\n**/*.tmp\n!kept.tmp\n")
    for name in ("ignored", "a.tmp", "kept.tmp"):
        (folder / name).write_text(f"{name}\n")
    return folder


def _write(path: pathlib.Path, text: str) -> Task:
    return Task("ansible.builtin.copy", {"content": text, "dest": str(path), "mode": "0644"})


def _digest(registry: Registry, name: str, tag: str) -> str | None:
    found = registry.client.find_manifest(references.parse(f"{name}:{tag}"))
    return found.digest if found else None


def _require_service(image: str) -> None:
    """Run an image of the demonstration until it is healthy, serves, and does so as its ordinary user."""
    container = f"hallmark-interop-{secrets.token_hex(4)}"
    # It is asked from inside, so that no network of the engine is needed.
    _docker("run", "--detach", "--name", container, "--read-only", "--tmpfs", "/tmp", "--network", "none", image)
    try:
        deadline = time.monotonic() + 180
        while _docker("inspect", "--format", "{{.State.Health.Status}}", container) != "healthy":
            assert time.monotonic() < deadline, (
                _docker("inspect", "--format", "{{json .State}}", container), _docker("logs", container)
            )
            time.sleep(0.2)
        pid = _docker("inspect", "--format", "{{.State.Pid}}", container)
        assert "Uid:\t101\t101\t101\t101\n" in pathlib.Path(f"/proc/{pid}/status").read_text()
        served = _docker("exec", container, "bash", "-c", _ASK).splitlines()
        assert (served[0].split()[1], served[-1]) == ("200", "ok"), served
    finally:
        _docker("rm", "--force", container)


@needs_engine
def test_what_is_built_pushed_and_skipped(
    registry: Registry, ansible: Ansible, repository: str, context: pathlib.Path
) -> None:
    name, base = f"{repository}/app", f"{repository}-base/base"
    registry.image("first base", name=base, tag="1")
    build: Json = {"name": name, "tags": ["1", "latest"], "context": str(context), "build_args": {"BASE": f"{base}:1"}}
    checked, = ansible.run([Task("image_build", build, {"check_mode": True})])
    assert checked["changed"]
    assert (checked["image"], checked["digest"]) == (None, None)
    assert _digest(registry, name, "1") is None

    first, again, _copied, ignored, check_again, _copied, changed, args, args_again, one_tag, more_tags = ansible.run([
        Task("image_build", build), Task("image_build", build),
        _write(context / "ignored", "something else\n"), Task("image_build", build),
        Task("image_build", build, {"check_mode": True}),
        _write(context / "kept.tmp", "something else\n"), Task("image_build", build),
        Task("image_build", {**build, "build_args": {**build["build_args"], "WORD": "two"}}),
        Task("image_build", {**build, "build_args": {**build["build_args"], "WORD": "two"}}),
        Task("image_build", {**build, "build_args": {**build["build_args"], "WORD": "two"}, "tags": ["latest"]}),
        Task("image_build", {**build, "build_args": {**build["build_args"], "WORD": "two"}, "tags": ["1", "new"]}),
    ])
    assert first["changed"], first
    assert first["image"] == f"{name}@{first['digest']}"
    assert first["tags"] == ["1", "latest"]
    assert first["input_hash"] == checked["input_hash"]
    for result in (again, ignored, check_again):
        assert not result["changed"], result
        assert (result["digest"], result["image"], result["image_id"]) == (
            first["digest"], first["image"], first["image_id"]
        )
    assert changed["changed"]
    assert changed["input_hash"] != first["input_hash"]
    assert args["changed"]
    assert args["input_hash"] not in (first["input_hash"], changed["input_hash"])
    assert not args_again["changed"]
    assert not one_tag["changed"]
    assert more_tags["changed"], "a tag was missing"
    # The tag that was missing has the digest that was returned, which may not differ from the others.
    assert {_digest(registry, name, tag) for tag in ("1", "new")} == {more_tags["digest"]}
    assert _docker("image", "inspect", "--format", "{{.Config.Labels.word}}", f"{name}:new") == "two"

    # Files: only what .dockerignore leaves is in the image.
    container = _docker("create", "--name", f"hallmark-interop-{secrets.token_hex(4)}", f"{name}:new", "none")
    try:
        listed = subprocess.run(
            ["docker", "export", container], capture_output=True, check=True, timeout=60
        ).stdout
    finally:
        _docker("rm", container)
    for path, there in (("app/file", True), ("app/kept.tmp", True), ("app/ignored", False), ("app/a.tmp", False)):
        assert (path.encode() in listed) is there, path

    # The base of that name becomes another: the digest is hashed, not the name.
    registry.image("second base", name=base, tag="1")
    rebased, again = ansible.run([Task("image_build", build), Task("image_build", build)])
    assert rebased["changed"]
    assert rebased["input_hash"] != changed["input_hash"]
    assert not again["changed"]


@needs_engine
def test_without_push_and_with_a_base_that_only_the_engine_has(
    ansible: Ansible, repository: str, context: pathlib.Path, engine_base: str, registry: Registry
) -> None:
    name = f"{repository}/local"
    local: Json = {
        "name": name, "tags": ["1"], "context": str(context), "build_args": {"BASE": engine_base}, "push": False,
        "timeout": 5,
    }
    (context / "broken").write_text("ARG BASE\nFROM ${BASE}\nRUN echo before && exit 3\n")
    first, again, without_pull, failing, missing, nowhere, no_file = ansible.run([
        Task("image_build", local), Task("image_build", local), Task("image_build", {**local, "pull": False}),
        Task("image_build", {**local, "dockerfile": "broken", "tags": ["broken"]}),
        Task("image_build", {**local, "build_args": {"BASE": f"{registry.host}/no/such:base"}}),
        Task("image_build", {**local, "dockerfile": "../outside"}),
        Task("image_build", {**local, "dockerfile": "no-such-file"}),
    ])
    assert first["changed"], first
    assert (first["image"], first["digest"]) == (None, None)
    assert first["image_id"] == _docker("image", "inspect", "--format", "{{.Id}}", f"{name}:1")
    assert _digest(registry, name, "1") is None
    assert any(engine_base in warning and "image id" in warning for warning in first["warnings"])
    assert not again["changed"]
    assert again["image_id"] == first["image_id"]
    assert not without_pull["changed"]
    assert "warnings" not in without_pull or not any(engine_base in one for one in without_pull["warnings"])

    assert [reason["code"] for reason in failing["reasons"]] == ["build_failed"]
    assert "RUN echo before && exit 3" in failing["msg"], "the step that failed is named"
    assert "3" in failing["msg"]
    assert (failing["changed"], failing["image"], failing["digest"]) == (False, None, None)
    assert [reason["code"] for reason in missing["reasons"]] == ["not_found"]
    assert "no/such:base" in missing["msg"]
    for result in (nowhere, no_file):
        assert [reason["code"] for reason in result["reasons"]] == ["not_found"]


@needs_engine
def test_the_image_of_the_demonstration_serves_as_an_ordinary_user(
    ansible: Ansible, repository: str, engine_base: str
) -> None:
    name = f"{repository}/nginx"
    (built,) = ansible.run([Task("image_build", {
        "name": name, "tags": ["1"], "context": str(DEMO),
        "build_args": {"BASE": engine_base}, "push": False, "pull": False,
    })])
    assert built["changed"], built
    _require_service(f"{name}:1")


@needs_engine
def test_the_image_of_the_demonstration_serves_when_it_was_assembled_without_the_engine(
    ansible: Ansible, repository: str, engine_base: str
) -> None:
    base, name = f"{repository}-base/nginx:1", f"{repository}/assembled"
    _docker("tag", engine_base, base)
    _docker("push", "--quiet", base)
    build: Json = {
        "name": name, "tags": ["1"], "context": str(DEMO), "build_args": {"BASE": base}, "builder": "assemble",
        # Nobody may help.
        "docker_host": "unix:///nowhere/docker.sock",
    }
    planned, built, again = ansible.run([
        Task("image_build", build, {"check_mode": True}), Task("image_build", build), Task("image_build", build),
    ])
    assert (planned["changed"], planned["digest"]) == (True, None), planned
    assert built["changed"], built
    assert (again["changed"], again["digest"]) == (False, built["digest"])
    _docker("pull", "--quiet", built["image"])
    # Its id is the same to the engine, which has checked each layer.
    assert _docker("image", "inspect", "--format", "{{.Id}}", built["image"]) == built["image_id"]
    _require_service(built["image"])


def test_the_image_of_the_demonstration_is_assembled_alike_from_every_copy(
    ansible: Ansible, registry: Registry, tmp_path: pathlib.Path
) -> None:
    base = tmp_path / "base"
    (base / "etc" / "nginx").mkdir(parents=True)
    (base / "etc" / "nginx" / "mime.types").write_text("types { }\n")
    (base / "Dockerfile").write_text("FROM scratch\nCOPY etc/ /etc/\nENV PATH=/usr/sbin:/usr/bin\n")
    copies = [tmp_path / "one", tmp_path / "other" / "place"]
    for number, copy in enumerate(copies):
        copy.mkdir(parents=True)
        # Not in the same order, so that no folder lists them alike by chance.
        for path in sorted(DEMO.iterdir(), reverse=bool(number)):
            shutil.copyfile(path, copy / path.name)
            (copy / path.name).chmod(0o644)
        copy.chmod(0o755)
        for path in (copy, *copy.iterdir()):
            os.utime(path, (number * 10**9, number * 10**9 + 0.5))
            if os.geteuid() == 0:
                os.chown(path, number * 1234, number * 4321)
    layout = f"oci:{tmp_path}/layout"
    name = registry.name()
    of_base, *built = ansible.run([
        Task("image_build", {"name": layout, "tags": ["base"], "context": str(base), "builder": "assemble"}),
        *(
            Task("image_build", {
                "name": place, "tags": [f"t{number}"], "context": str(copy), "builder": "assemble",
                "build_args": {"BASE": f"{layout}:base", "SOURCE_DATE_EPOCH": "1795000000"},
            })
            for place in (name, layout) for number, copy in enumerate(copies)
        ),
        # What one copy made is what the other would make.
        Task("image_build", {
            "name": name, "tags": ["t0"], "context": str(copies[1]), "builder": "assemble",
            "build_args": {"BASE": f"{layout}:base", "SOURCE_DATE_EPOCH": "1795000000"},
        }),
    ])
    assert of_base["changed"], of_base
    assert [one["changed"] for one in built] == [True, True, True, True, False], built
    assert len({one["digest"] for one in built}) == 1
    assert len({one["input_hash"] for one in built}) == 1
    assert {_digest(registry, name, tag) for tag in ("t0", "t1")} == {built[0]["digest"]}
