# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of building an image only when something that goes into it has changed."""

from __future__ import annotations

import base64
import json
import os
import pathlib
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._docker import build
from ansible_collections.hallmark.signing.plugins.module_utils._docker.build import Base, Built, Recipe
from ansible_collections.hallmark.signing.plugins.module_utils._docker.engine import Engine
from ansible_collections.hallmark.signing.plugins.module_utils._errors import BuildError, HallmarkError
from ansible_collections.hallmark.signing.plugins.module_utils._oci import reference as references
from ansible_collections.hallmark.signing.plugins.module_utils._oci.credentials import AuthFile
from ansible_collections.hallmark.signing.plugins.module_utils._oci.registry import Registries
from ansible_collections.hallmark.signing.plugins.module_utils._oci.transport import HostSettings, RegistrySettings
from ansible_collections.hallmark.signing.tests.unit.fake_registry import OCI_CONFIG, OCI_MANIFEST, FakeRegistry, Fault
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._docker.fake_engine import (
    FakeEngine,
    image_id,
)


class Bench:
    """A context folder, a registry with a base image, and an engine."""

    def __init__(self, folder: pathlib.Path, registry: FakeRegistry, fake: FakeEngine) -> None:
        self.folder, self.registry, self.fake = folder, registry, fake
        self.base = f"{registry.host}/base:1"
        self.base_digest = registry.put_image("base", "1")
        self.name = f"{registry.host}/team/app"
        self.host: dict[str, t.Any] = {}
        self.write("Dockerfile", f"FROM {self.base}\nCOPY file /file\n")
        self.write("file", "content")

    @property
    def pinned(self) -> str:
        """The base by its digest."""
        return f"{self.registry.host}/base@{self.base_digest}"

    def write(self, name: str, text: str) -> None:
        """Write a file of the context."""
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_text(text)

    def registries(self) -> Registries:
        """A new run."""
        hosts = {self.registry.host: HostSettings(**self.host)} if self.host else {}
        return Registries(RegistrySettings(AuthFile("none", {}), hosts, timeout=2.0))

    def recipe(self, **more: t.Any) -> Recipe:
        """What is built."""
        return Recipe(str(self.folder), **more)

    def run(
        self, *tags: str, push: bool = True, pull: bool = True, dry_run: bool = False, **more: t.Any
    ) -> Built:
        """Build once."""
        return build.build_image(
            self.registries(), Engine(self.fake.url), self.recipe(**more), references.parse_name(self.name),
            tags or ("1",), push=push, pull=pull, dry_run=dry_run,
        )

    def tagged(self, tag: str) -> t.Any:
        """The manifest in the registry."""
        return self.registry.manifests["team/app"][tag]


@pytest.fixture
def bench(tmp_path: pathlib.Path, registry: FakeRegistry, fake: FakeEngine) -> Bench:
    """A bench."""
    (tmp_path / "context").mkdir()
    return Bench(tmp_path / "context", registry, fake)


def refused(code: str, action: t.Callable[[], t.Any], kind: type[HallmarkError] = BuildError) -> HallmarkError:
    with pytest.raises(kind) as caught:
        action()
    assert caught.value.code == code
    assert "canary" not in str(caught.value)
    return caught.value


# The whole way -------------------------------------------------------------------------------------------------------


def test_image_is_built_on_the_digest_of_its_base_and_pushed(bench: Bench) -> None:
    built = bench.run("1", "latest")
    (call,) = bench.fake.called("build")
    assert call.dockerfile == f"FROM {bench.pinned}\nCOPY file /file\n"
    assert call.files["file"] == "content"
    assert json.loads(call.query["labels"]) == {"org.hallmark-signing.input-hash": built.input_hash}
    assert call.query["t"] == f"{bench.name}:1"
    assert [call.query["tag"] for call in bench.fake.called("push")] == ["1", "latest"]
    assert bench.tagged("1").digest == bench.tagged("latest").digest == built.digest
    assert (built.changed, built.image_id, built.warnings) == (True, bench.fake.images[f"{bench.name}:1"][0], ())
    assert bench.fake.images[f"{bench.name}:latest"][0] == built.image_id


def test_second_run_builds_nothing(bench: Bench) -> None:
    first = bench.run("1", "latest")
    bench.fake.calls.clear()
    for dry_run in (False, True):
        again = bench.run("1", "latest", dry_run=dry_run)
        assert (again.changed, again.digest, again.input_hash) == (False, first.digest, first.input_hash)
        assert again.image_id == bench.tagged("1").members["config"]["digest"]
    assert bench.fake.calls == []


def test_dry_run_builds_nothing(bench: Bench) -> None:
    planned = bench.run(dry_run=True)
    assert (planned.changed, planned.image_id, planned.digest) == (True, None, None)
    assert (bench.fake.calls, "team/app" in bench.registry.manifests) == ([], False)
    assert planned.input_hash == bench.run().input_hash


def test_change_of_the_context_builds_again(bench: Bench) -> None:
    first = bench.run()
    bench.write("file", "other content")
    planned, second = bench.run(dry_run=True), bench.run()
    assert (planned.changed, second.changed) == (True, True)
    assert planned.input_hash == second.input_hash != first.input_hash
    assert second.digest != first.digest
    assert not bench.run().changed


def test_change_of_the_base_builds_again(bench: Bench) -> None:
    first = bench.run()
    bench.base_digest = bench.registry.put_image("base", "1", platform="linux/arm64")
    second = bench.run()
    assert (second.changed, second.input_hash != first.input_hash) == (True, True)
    assert f"FROM {bench.pinned}\n" in bench.fake.called("build")[-1].dockerfile


@pytest.mark.parametrize("case", ["one tag is missing", "one tag is another image", "a foreign image", "an index"])
def test_tags_must_all_name_one_image_with_these_inputs(case: str, bench: Bench) -> None:
    bench.run("1", "2")
    if case == "one tag is missing":
        del bench.registry.manifests["team/app"]["2"]
    elif case == "one tag is another image":
        bench.registry.put_image("team/app", "2")
    elif case == "a foreign image":
        for tag in ("1", "2"):
            bench.registry.manifests["team/app"].pop(tag)
        digest = bench.registry.put_image("team/app", "1")
        bench.registry.manifests["team/app"]["2"] = bench.registry.manifests["team/app"][digest]
    else:
        digest = bench.registry.put_index("team/app", "1", ["linux/amd64"])
        bench.registry.manifests["team/app"]["2"] = bench.registry.manifests["team/app"][digest]
    assert bench.run("1", "2", dry_run=True).changed
    assert bench.run("1", "2").changed
    assert not bench.run("1", "2").changed


@pytest.mark.parametrize(
    "case", ["no labels", "null config", "null labels", "a list", "no JSON", "wrong bytes", "missing"]
)
def test_configuration_that_cannot_be_read_has_no_hash(case: str, bench: Bench) -> None:
    built = bench.run()
    texts = {
        "no labels": b"{}", "null config": b'{"config":null}', "null labels": b'{"config":{"Labels":null}}',
        "a list": b"[]", "no JSON": b"rubbish",
    }
    if case in texts:
        digest = bench.registry.put_blob("team/app", texts[case])
        bench.registry.put_manifest("team/app", {
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": [],
            "config": {"mediaType": OCI_CONFIG, "size": len(texts[case]), "digest": digest},
        }, tag="1")
    else:
        config = bench.tagged("1").members["config"]["digest"]
        blobs = bench.registry.blobs["team/app"]
        if case == "missing":
            del blobs[config]
        else:
            blobs[config] = bytes(len(blobs[config]))
    again = bench.run()
    assert (again.changed, again.input_hash) == (True, built.input_hash)


@pytest.mark.parametrize("path", ["/manifests/1", "/blobs/"])
def test_registry_that_fails_is_not_taken_for_an_empty_one(path: str, bench: Bench) -> None:
    bench.run()
    bench.fake.calls.clear()
    bench.registry.fail(Fault(status=403), method="GET", path=f"/team/app{path}")
    refused("unauthorized", bench.run, HallmarkError)
    bench.registry.faults.clear()
    bench.registry.fail(Fault(status=500), method="GET", path=f"/team/app{path}")
    refused("registry_error", bench.run, HallmarkError)
    assert bench.fake.calls == []


def test_credentials_of_the_registry_are_used(bench: Bench) -> None:
    bench.host = {"username": "robot", "password": "canary-password"}
    bench.run()
    auth = {"username": "robot", "password": "canary-password"}
    assert [(call.what, call.auth) for call in bench.fake.calls if call.what in ("pull", "push")] == [
        ("pull", auth), ("push", auth),
    ]


def test_recipe_is_passed_on(bench: Bench) -> None:
    bench.write("Dockerfile", f"FROM {bench.base} AS one\nFROM $NOTHING\n")
    bench.run(build_args={"A": "1"}, target="one", platform="linux/arm64")
    (call,) = bench.fake.called("build")
    asked = [call.query[name] for name in ("buildargs", "target", "platform")]
    assert asked == ['{"A": "1"}', "one", "linux/arm64"]
    assert call.dockerfile == f"FROM {bench.pinned} AS one\nFROM $NOTHING\n"
    assert bench.fake.called("pull")[0].query["platform"] == "linux/arm64"


def test_base_may_come_from_an_argument(bench: Bench) -> None:
    bench.write("Dockerfile", "ARG BASE\nFROM $BASE\n")
    bench.run(build_args={"BASE": bench.base})
    assert bench.fake.called("build")[0].dockerfile == f"ARG BASE\nFROM {bench.pinned}\n"


def test_failed_build_is_not_pushed(bench: Bench) -> None:
    bench.fake.say["build"] = [{"error": "returned 1", "errorDetail": {"message": "returned 1"}}]
    refused("build_failed", bench.run)
    assert (bench.fake.called("push"), "team/app" in bench.registry.manifests) == ([], False)


def test_tags_with_different_digests_are_an_error(bench: Bench, lone: FakeEngine) -> None:
    bench.fake = lone
    genuine = lone._push  # type: ignore[attr-defined]

    def push(call: t.Any, name: str) -> t.Any:
        lone.digest = f"sha256:{call.query['tag'] * 64}"
        return genuine(call, name)

    lone._push = push  # type: ignore[attr-defined]
    error = refused("build_failed", lambda: bench.run("1", "2"))
    assert "different digests" in error.cause


# Without pushing -----------------------------------------------------------------------------------------------------


def test_image_that_is_not_pushed_has_no_digest(bench: Bench) -> None:
    built = bench.run("1", "2", push=False)
    assert (built.changed, built.digest) == (True, None)
    assert bench.fake.called("push") == []
    bench.fake.calls.clear()
    again = bench.run("1", "2", push=False)
    assert (again.changed, again.digest, again.image_id) == (False, None, built.image_id)
    assert bench.fake.calls == []


@pytest.mark.parametrize("case", ["missing", "another image", "another hash"])
def test_tags_in_the_engine_must_all_name_one_image(case: str, bench: Bench) -> None:
    bench.run("1", "2", push=False)
    images = bench.fake.images
    if case == "missing":
        del images[f"{bench.name}:2"]
    elif case == "another image":
        images[f"{bench.name}:2"] = (image_id("x"), images[f"{bench.name}:1"][1])
    else:
        for tag in ("1", "2"):
            images[f"{bench.name}:{tag}"] = (image_id("x"), {"org.hallmark-signing.input-hash": "x"})
    assert bench.run("1", "2", push=False, dry_run=True).changed


def test_missing_images_are_not_one_image(bench: Bench) -> None:
    assert bench.run("1", push=False, dry_run=True).changed


# Bases ---------------------------------------------------------------------------------------------------------------


def test_base_by_digest_is_not_asked_for(bench: Bench) -> None:
    bench.write("Dockerfile", f"FROM {bench.base}@{bench.base_digest}\n")
    bench.run()
    assert bench.registry.requests("GET", "/v2/base/") == []
    assert bench.fake.called("build")[0].dockerfile == f"FROM {bench.pinned}\n"


def test_base_is_asked_for_once(bench: Bench) -> None:
    bench.write("Dockerfile", f"FROM {bench.base} AS a\nFROM {bench.base}\nCOPY --from={bench.base} /x /x\n")
    bench.run()
    assert len(bench.registry.requests("GET", "/v2/base/manifests/")) == 1
    assert len(bench.fake.called("pull")) == 1
    assert bench.fake.called("build")[0].dockerfile.count(bench.pinned) == 3


def test_base_that_the_engine_has_is_not_pulled(bench: Bench) -> None:
    bench.fake.images[bench.pinned] = (image_id("base"), None)
    bench.run()
    assert bench.fake.called("pull") == []


def test_tag_in_the_engine_does_not_count_with_pull(bench: Bench) -> None:
    bench.fake.images[bench.base] = (image_id("stale"), None)
    built = bench.run()
    assert (len(bench.fake.called("pull")), built.warnings) == (1, ())
    assert bench.pinned in bench.fake.called("build")[0].dockerfile


def test_tag_in_the_engine_counts_without_pull(bench: Bench) -> None:
    bench.fake.images[bench.base] = (image_id("local"), None)
    built = bench.run(pull=False)
    assert bench.fake.called("build")[0].dockerfile == f"FROM {image_id('local')}\nCOPY file /file\n"
    assert (bench.fake.called("pull"), built.warnings) == ([], ())
    assert bench.registry.requests("GET", "/v2/base/") == []
    bench.fake.images[bench.base] = (image_id("another"), None)
    assert bench.run(pull=False).input_hash != built.input_hash


def test_registry_is_asked_without_pull_where_the_engine_has_nothing(bench: Bench) -> None:
    bench.run(pull=False)
    assert bench.pinned in bench.fake.called("build")[0].dockerfile


def test_base_that_only_the_engine_has_is_used_with_a_warning(bench: Bench) -> None:
    local = f"{bench.registry.host}/local:1"
    bench.write("Dockerfile", f"FROM {local}\n")
    bench.fake.images[local] = (image_id("local"), None)
    for dry_run in (True, False):
        built = bench.run(dry_run=dry_run)
        (warning,) = built.warnings
        assert (warning.code, warning.object) == ("local_base", local)
        assert local in warning.message
    assert bench.fake.called("build")[0].dockerfile == f"FROM {image_id('local')}\n"
    assert bench.fake.called("pull") == []
    again = bench.run()
    assert (again.changed, len(again.warnings)) == (False, 1)


def test_base_that_nobody_has_is_an_error(bench: Bench) -> None:
    missing = f"{bench.registry.host}/missing:1"
    bench.write("Dockerfile", f"FROM {missing}\n")
    error = refused("not_found", lambda: bench.run(dry_run=True))
    assert (error.object, error.attempt) == (missing, "resolve the base")


@pytest.mark.parametrize("status", [401, 403, 500])
def test_base_that_its_registry_cannot_give_is_taken_from_the_engine_with_a_warning(status: int, bench: Bench) -> None:
    bench.fake.images[bench.base] = (image_id("older"), None)
    bench.registry.fail(Fault(status=status), method="GET", path="/v2/base/")
    (warning,) = bench.run(dry_run=True).warnings
    assert (warning.code, warning.object) == ("local_base", bench.base)
    assert "its registry could not give it" in warning.message


def test_base_with_a_wrong_name_is_an_error(bench: Bench) -> None:
    bench.write("Dockerfile", "FROM team/UPPER\n")
    refused("malformed", bench.run, HallmarkError)


def test_image_from_nothing_has_no_base(bench: Bench) -> None:
    bench.write("Dockerfile", "FROM scratch\nCOPY file /file\n")
    assert bench.run().changed
    assert bench.fake.called("pull") == []


# The input hash ------------------------------------------------------------------------------------------------------


def hashed(bench: Bench, **more: t.Any) -> str:
    return bench.run(dry_run=True, **more).input_hash


def test_hash_is_stable_and_hexadecimal(bench: Bench) -> None:
    bench.write("sub/deep", "x")
    first = hashed(bench)
    assert len(bytes.fromhex(first)) == 32
    for path in (bench.folder / "file", bench.folder / "sub", bench.folder / "Dockerfile"):
        os.utime(path, (1, 1))
    assert hashed(bench) == first


def _rewrite(bench: Bench) -> None:
    bench.write("file", "contents")


def _add(bench: Bench) -> None:
    bench.write("more", "")


def _rename(bench: Bench) -> None:
    (bench.folder / "file").rename(bench.folder / "renamed")


def _mode(bench: Bench) -> None:
    (bench.folder / "file").chmod(0o755)


def _folder_mode(bench: Bench) -> None:
    (bench.folder / "sub").chmod(0o700)


def _link(bench: Bench) -> None:
    (bench.folder / "file").unlink()
    (bench.folder / "file").symlink_to("sub")


def _other_link(bench: Bench) -> None:
    (bench.folder / "link").unlink()
    (bench.folder / "link").symlink_to("elsewhere")


def _empty_folder(bench: Bench) -> None:
    (bench.folder / "empty").mkdir()


def _dockerfile(bench: Bench) -> None:
    bench.write("Dockerfile", f"FROM {bench.base}\nCOPY file /file\n# comment\n")


def _swap(bench: Bench) -> None:
    bench.write("file", "sub content")
    bench.write("sub/file", "content")


def _base(bench: Bench) -> None:
    bench.registry.put_image("base", "1", platform="linux/riscv64")


@pytest.mark.parametrize(
    "change",
    [_rewrite, _add, _rename, _mode, _folder_mode, _link, _other_link, _empty_folder, _dockerfile, _swap, _base],
)
def test_each_input_counts(change: t.Callable[[Bench], None], bench: Bench) -> None:
    bench.write("sub/file", "sub content")
    (bench.folder / "file").chmod(0o644)
    (bench.folder / "sub").chmod(0o755)
    (bench.folder / "link").symlink_to("nowhere")
    first = hashed(bench)
    change(bench)
    assert hashed(bench) != first


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"build_args": {"A": "1"}}, {}),
        ({"build_args": {"A": "1"}}, {"build_args": {"A": "2"}}),
        ({"build_args": {"A": "1", "B": "2"}}, {"build_args": {"A": "2", "B": "1"}}),
        ({"target": "one"}, {}),
        ({"platform": "linux/arm64"}, {}),
        ({"platform": "linux/arm64"}, {"target": "one"}),
    ],
)
def test_each_parameter_counts(one: dict[str, t.Any], other: dict[str, t.Any], bench: Bench) -> None:
    bench.write("Dockerfile", f"FROM {bench.base} AS one\n")
    assert hashed(bench, **one) != hashed(bench, **other)


def test_order_of_arguments_does_not_count(bench: Bench) -> None:
    assert hashed(bench, build_args={"A": "1", "B": "2"}) == hashed(bench, build_args={"B": "2", "A": "1"})


def test_hash_covers_what_a_base_is_and_how_it_is_named() -> None:
    def of(*bases: Base) -> str:
        return build.input_hash(Recipe("/nowhere"), "FROM x\n", [], bases)

    first = Base("a", "a@1", "1")
    hashes = [of(first), of(Base("b", "a@1", "1")), of(Base("a", "a@2", "2")), of(), of(first, Base("b", "b@1", "1"))]
    assert len(set(hashes)) == len(hashes)
    assert of(Base("a", "other", "1")) == of(first)


def test_ignored_files_do_not_count(bench: Bench) -> None:
    bench.write(".dockerignore", "# comment\n\n  *.log  \nsub\n")
    first = hashed(bench)
    bench.write("x.log", "x")
    bench.write("sub/x", "x")
    assert hashed(bench) == first
    bench.write("x.txt", "x")
    assert hashed(bench) != first


def test_comments_in_the_ignore_file_are_no_patterns(bench: Bench) -> None:
    bench.write(".dockerignore", "#x\n")
    bench.write("#x", "1")
    first = hashed(bench)
    bench.write("#x", "2")
    assert hashed(bench) != first


def test_dockerfile_may_have_its_own_ignore_file(bench: Bench) -> None:
    bench.write("build/Other", f"FROM {bench.base}\n")
    bench.write(".dockerignore", "*.txt\n")
    bench.write("build/Other.dockerignore", "*.log\n")
    first = hashed(bench, dockerfile="build/Other")
    bench.write("x.log", "x")
    assert hashed(bench, dockerfile="build/Other") == first
    bench.write("x.txt", "x")
    assert hashed(bench, dockerfile="build/Other") != first


def test_what_is_hashed_is_what_is_sent(bench: Bench) -> None:
    bench.write(".dockerignore", "*.log\n")
    bench.write("x.log", "x")
    bench.write("sub/x", "x")
    bench.run()
    (call,) = bench.fake.called("build")
    assert sorted(call.files) == [".dockerignore", "Dockerfile", "file", "sub", "sub/x"]


def test_large_file_is_hashed_to_its_end(bench: Bench) -> None:
    bench.write("file", "x" * 3_000_000)
    first = hashed(bench)
    bench.write("file", "x" * 2_999_999 + "y")
    assert hashed(bench) != first


def test_pipe_in_the_context_is_an_error(bench: Bench) -> None:
    os.mkfifo(bench.folder / "pipe")
    error = refused("not_found", bench.run)
    assert (error.object, error.cause) == (str(bench.folder / "pipe"), "it is neither file, folder nor link")


# Reading the context -------------------------------------------------------------------------------------------------


def test_dockerfile_is_read(bench: Bench) -> None:
    bench.write("build/Other", "FROM scratch\n# ä\n")
    assert build.read_dockerfile(bench.recipe(dockerfile="build/Other")) == "FROM scratch\n# ä\n"
    (bench.folder / "link").symlink_to("build/Other")
    assert build.read_dockerfile(bench.recipe(dockerfile="link")) == "FROM scratch\n# ä\n"


@pytest.mark.parametrize("name", ["missing", "no/such/folder", "sub"])
def test_dockerfile_that_cannot_be_read_is_an_error(name: str, bench: Bench) -> None:
    (bench.folder / "sub").mkdir()
    error = refused("not_found", lambda: bench.run(dockerfile=name))
    assert (error.object, error.attempt) == (str(bench.folder / name), "read the build context")


def test_dockerfile_in_another_encoding_is_an_error(bench: Bench) -> None:
    (bench.folder / "Dockerfile").write_bytes(b"FROM scratch\n# \xe4\n")
    assert refused("not_found", bench.run).cause == "it is not UTF-8 text"


def test_missing_context_is_an_error(bench: Bench) -> None:
    bench.folder = bench.folder / "missing"
    assert refused("not_found", bench.run).cause == "No such file or directory"


@pytest.mark.parametrize("outside", ["../Dockerfile", "link", "sub/../../Dockerfile"])
def test_dockerfile_outside_the_context_is_refused(outside: str, bench: Bench) -> None:
    (bench.folder / "sub").mkdir()
    (bench.folder.parent / "Dockerfile").write_text("FROM scratch\n")
    (bench.folder / "link").symlink_to("../Dockerfile")
    error = refused("not_found", lambda: bench.run(dockerfile=outside))
    assert error.cause == "it lies outside the context"


@pytest.mark.parametrize("name", ["./Dockerfile", "sub/../Dockerfile"])
def test_dockerfile_in_another_spelling_is_pinned_as_well(name: str, bench: Bench) -> None:
    (bench.folder / "sub").mkdir()
    bench.run(dockerfile=name)
    (call,) = bench.fake.called("build")
    assert call.dockerfile == f"FROM {bench.pinned}\nCOPY file /file\n"


# An archive member would be written for it, but its path is not the one the engine looks for.
@pytest.mark.parametrize("path", ["{folder}/Dockerfile", "{folder}/../Dockerfile"])
def test_absolute_path_of_the_dockerfile_is_refused(path: str, bench: Bench) -> None:
    error = refused("not_found", lambda: bench.run(dockerfile=path.format(folder=bench.folder)))
    assert error.cause == "it must be named relative to the context"
    assert bench.fake.calls == []


def test_dockerfile_whose_name_begins_with_two_dots_is_inside(bench: Bench) -> None:
    bench.write("..Dockerfile", f"FROM {bench.base}\n")
    assert bench.run(dockerfile="..Dockerfile", dry_run=True).changed


@pytest.mark.parametrize("case", ["not UTF-8", "a folder"])
def test_ignore_file_that_cannot_be_read_is_an_error(case: str, bench: Bench) -> None:
    if case == "a folder":
        (bench.folder / ".dockerignore").mkdir()
    else:
        (bench.folder / ".dockerignore").write_bytes(b"\xff\n")
    refused("not_found", bench.run)


def test_file_that_goes_while_it_is_hashed_is_an_error(bench: Bench) -> None:
    refused("not_found", lambda: build.input_hash(bench.recipe(), "", ["gone"], []))


def test_engine_gets_no_other_credentials(
    bench: Bench, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "docker"
    folder.mkdir()
    auth = base64.b64encode(b"other:canary").decode()
    (folder / "config.json").write_text(json.dumps({"auths": {bench.registry.host: {"auth": auth}}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    bench.run()
    assert {str(call.auth) for call in bench.fake.calls if call.what in ("pull", "push")} == {"{}"}
