# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of assembling images: which files come where, what the configuration says, and that it is always the same.

What docker does is compared in tests/interop/test_interop_assemble_semantics.py.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import pathlib
import platform as machine
import socket
import tarfile
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._docker import assemble as module
from ansible_collections.hallmark.signing.plugins.module_utils._docker import copying
from ansible_collections.hallmark.signing.plugins.module_utils._docker.assemble import (
    Assembled,
    BaseImage,
    assemble,
    source_date_epoch,
)
from ansible_collections.hallmark.signing.plugins.module_utils._docker.base_files import BaseFiles
from ansible_collections.hallmark.signing.plugins.module_utils._docker.image_config import DEFAULT_PATH
from ansible_collections.hallmark.signing.plugins.module_utils._errors import BuildError, FormatError, HallmarkError
from ansible_collections.hallmark.signing.plugins.module_utils._oci.manifest import Descriptor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

PATH = f"PATH={DEFAULT_PATH}"
DIGEST = f"sha256:{'0' * 64}"
PLAIN = "application/vnd.oci.image.layer.v1.tar"
CONFIG: dict[str, t.Any] = {
    "architecture": "arm64", "os": "linux", "variant": "v8", "author": "me", "created": "2020-01-01T00:00:00Z",
    "config": {
        "Env": ["PATH=/bin", "A=base"], "Cmd": ["base"], "Entrypoint": ["/e"], "Labels": {"a": "b", "c": "d"},
        "WorkingDir": "/srv", "User": "5", "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/v": {}}, "StopSignal": "INT",
        "Healthcheck": {"Test": ["NONE"]}, "Hostname": "noise", "Image": "sha256:noise", "OnBuild": None, "Tty": False,
    },
    "rootfs": {"type": "layers", "diff_ids": [DIGEST]},
    "history": [{"created_by": "base", "created": "2020-01-01T00:00:00Z"}],
    "container": "noise", "docker_version": "1",
}


def files_of_base(*rows: tuple[str, bytes, str]) -> BaseFiles:
    """Return a base of these rows: path, type, link target."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, kind, target in rows:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            archive.addfile(member)
    return BaseFiles.read([(PLAIN, iter([stream.getvalue()]))], limit=1 << 24, where="base")


def base(config: dict[str, t.Any] | None = None, **members: t.Any) -> BaseImage:
    """Return a merged-usr base; members of the inner configuration may be others."""
    made = json.loads(json.dumps(config or CONFIG))
    made["config"].update(members)
    files = files_of_base(
        ("usr/bin", tarfile.DIRTYPE, ""), ("bin", tarfile.SYMTYPE, "usr/bin"), ("etc/conf", tarfile.REGTYPE, ""),
        ("tmp", tarfile.DIRTYPE, ""), ("etc/link", tarfile.SYMTYPE, "conf"), ("gone", tarfile.SYMTYPE, "/not/there"),
        ("round", tarfile.SYMTYPE, "round"), ("srv", tarfile.DIRTYPE, ""),
    )
    return BaseImage(made, (Descriptor(PLAIN, DIGEST, 1),), files)


class Row(t.NamedTuple):
    """What lies at a path of a layer."""

    kind: str
    mode: int
    owner: int
    text: str


class Bench:
    """A context, and what is assembled of it."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.context = folder / "context"
        self.context.mkdir()
        self.out = folder / "out"
        self.out.mkdir()

    def write(self, path: str, text: str | bytes = "x", mode: int = 0o644) -> pathlib.Path:
        """Write a file, with the folders above it."""
        whole = self.context / path
        whole.parent.mkdir(parents=True, exist_ok=True)
        whole.write_bytes(text.encode() if isinstance(text, str) else text)
        whole.chmod(mode)
        return whole

    def link(self, path: str, target: str) -> None:
        """Make a link."""
        (self.context / path).parent.mkdir(parents=True, exist_ok=True)
        (self.context / path).symlink_to(target)

    def listed(self) -> list[str]:
        """Return all paths of the context."""
        return sorted(
            os.path.relpath(os.path.join(where, name), self.context)
            for where, folders, files in os.walk(self.context) for name in [*folders, *files]
        )

    def run(
        self, text: str, *, files: list[str] | None = None, on: BaseImage | None = None, **more: t.Any
    ) -> Assembled:
        """Assemble; the text begins behind the FROM unless it has one."""
        options: dict[str, t.Any] = {
            "build_args": {}, "target": None, "platform": "linux/amd64" if on is None else None, "epoch": 0,
            "labels": {}, "where": "/srv/Dockerfile", **more,
        }
        if "FROM" not in text:
            text = f"FROM {'scratch' if on is None else 'base'}\n{text}\n"
        return assemble(
            context=str(self.context), files=self.listed() if files is None else files, dockerfile_text=text, base=on,
            folder=str(self.out), **options,
        )

    def config(self, text: str, **options: t.Any) -> t.Any:
        """Return the inner configuration."""
        return json.loads(self.run(text, **options).config)["config"]

    def rows(self, text: str, **options: t.Any) -> list[dict[str, Row]]:
        """Return what is in the layers."""
        return [rows_of(pathlib.Path(layer.path).read_bytes()) for layer in self.run(text, **options).layers]

    def paths(self, text: str, **options: t.Any) -> list[list[str]]:
        """Return the paths in the layers; folders end in a slash."""
        return [
            [path + "/" * (row.kind == "folder") for path, row in rows.items()] for rows in self.rows(text, **options)
        ]

    def refused(self, text: str, *says: str, **options: t.Any) -> str:
        """Assemble what is refused, and return why."""
        before = list(self.out.iterdir())
        with pytest.raises(BuildError) as caught:
            self.run(text, **options)
        assert (caught.value.code, caught.value.object) == ("input_invalid", "/srv/Dockerfile")
        assert [one for one in says if one not in caught.value.cause] == []
        assert list(self.out.iterdir()) == before
        return caught.value.cause


def rows_of(data: bytes) -> dict[str, Row]:
    found: dict[str, Row] = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            kind = "folder" if member.isdir() else "link" if member.issym() else "file"
            text = member.linkname
            if kind == "file":
                text = t.cast("t.IO[bytes]", archive.extractfile(member)).read().decode("utf-8", "replace")
            assert (member.uid, member.mtime) == (member.gid, 0)
            found[member.name] = Row(kind, member.mode, member.uid, text)
    return found


@pytest.fixture
def bench(tmp_path: pathlib.Path) -> Bench:
    """A bench with some files."""
    made = Bench(tmp_path)
    made.write("a", "A")
    made.write("b", "B", 0o600)
    made.write("d/x", "X", 0o4750)
    made.write("d/s/y", "Y")
    made.link("d/l", "s/y")
    (made.context / "d").chmod(0o700)
    (made.context / "d/s").chmod(0o711)
    made.link("to-a", "a")
    made.link("to-d", "d")
    return made


# Which files come where ----------------------------------------------------------------------------------------------


def test_file_is_copied_with_the_folders_above_it(bench: Bench) -> None:
    assert bench.rows("COPY b /x/y/z") == [{
        "x": Row("folder", 0o755, 0, ""), "x/y": Row("folder", 0o755, 0, ""), "x/y/z": Row("file", 0o600, 0, "B"),
    }]


def test_content_of_a_folder_is_copied(bench: Bench) -> None:
    assert bench.rows("COPY d /x") == [{
        "x": Row("folder", 0o755, 0, ""), "x/l": Row("link", 0o777, 0, "s/y"), "x/s": Row("folder", 0o711, 0, ""),
        "x/s/y": Row("file", 0o644, 0, "Y"), "x/x": Row("file", 0o4750, 0, "X"),
    }]


@pytest.mark.parametrize(
    ("line", "paths"),
    [
        ("COPY a /", ["a"]), ("COPY a /x", ["x"]), ("COPY a /x/", ["x/", "x/a"]), ("COPY a .", ["a"]),
        ("COPY a x/../y", ["y"]), ("COPY a ../../y", ["y"]), ("COPY /a /x", ["x"]), ("COPY ./d/../a /x", ["x"]),
        ("COPY a b /x/", ["x/", "x/a", "x/b"]), ("COPY [ab] /x/", ["x/", "x/a", "x/b"]),
        ("COPY ? /", ["a", "b", "l", "s/", "s/y", "x"]),
        ("COPY d/* /x/", ["x/", "x/l", "x/x", "x/y"]), ("COPY d/[^l]? /x/", None), ("COPY d/[w-y] /q", ["q"]),
        ("COPY to-a /x/", ["x/", "x/to-a"]), ("COPY to-d /x", ["x/", "x/l", "x/s/", "x/s/y", "x/x"]),
        ("COPY to-d/x /q", ["q"]), ("COPY d/l /q", ["q"]), ("COPY to-d/s /q", ["q/", "q/y"]), ("COPY a a /", ["a"]),
        ("COPY d/s d /", ["l", "s/", "s/y", "x", "y"]), ("ADD a /x", ["x"]),
        ("COPY d d/s /x/", ["x/", "x/l", "x/s/", "x/s/y", "x/x", "x/y"]),
    ],
)
def test_sources_and_destination_are_those_of_docker(line: str, paths: list[str] | None, bench: Bench) -> None:
    if paths is None:
        bench.refused(line, "not in the context")
    else:
        assert bench.paths(line) == [paths]


def test_folders_above_belong_to_the_owner_of_a_file_but_not_of_a_folder(bench: Bench) -> None:
    rows = bench.rows("COPY --chown=7 a /x/y/a\nCOPY --chown=7 d/s /z/s")
    assert {path: row.owner for one in rows for path, row in one.items()} == {
        "x": 7, "x/y": 7, "x/y/a": 7, "z": 0, "z/s": 7, "z/s/y": 7,
    }


def test_mode_is_that_of_chmod_for_all_but_links_and_the_folders_above(bench: Bench) -> None:
    (rows,) = bench.rows("COPY --chmod=0751 d /x/y")
    assert {path: row.mode for path, row in rows.items()} == {
        "x": 0o755, "x/y": 0o751, "x/y/l": 0o777, "x/y/s": 0o751, "x/y/s/y": 0o751, "x/y/x": 0o751,
    }


def test_relative_destination_belongs_to_the_working_folder(bench: Bench) -> None:
    assert bench.paths("WORKDIR /w\nWORKDIR v\nCOPY a .\nCOPY a x/\nCOPY a /r") == [
        ["w/"], ["w/v/"], ["w/v/a"], ["w/v/x/", "w/v/x/a"], ["r"]
    ]
    assert bench.paths("COPY a x", on=base()) == [["srv/x"]]


def test_working_folder_makes_a_layer_only_if_it_is_new(bench: Bench) -> None:
    assert bench.paths("WORKDIR /tmp\nWORKDIR /bin/w/\nWORKDIR .\nWORKDIR /gone/x", on=base()) == [
        ["usr/bin/w/"], ["not/", "not/there/", "not/there/x/"]
    ]


def test_folders_of_the_base_get_no_entry(bench: Bench) -> None:
    assert bench.paths("COPY a /tmp/a\nCOPY a /tmp\nCOPY d/s /tmp/", on=base()) == [["tmp/a"], ["tmp/a"], ["tmp/y"]]


def test_links_of_the_base_are_followed_and_never_replaced_by_folders(bench: Bench) -> None:
    bench.write("tree/bin/tool")
    assert bench.paths(
        "COPY a /bin/x\nCOPY a /bin\nCOPY tree /\nCOPY a /etc/link\nCOPY a /gone/x/\nCOPY to-a /bin/../y", on=base()
    ) == [
        ["usr/bin/x"], ["usr/bin/a"], ["usr/bin/tool"], ["etc/conf"],
        ["not/", "not/there/", "not/there/x/", "not/there/x/a"], ["y"],
    ]


def test_link_at_the_end_is_replaced_if_it_was_not_named(bench: Bench) -> None:
    bench.write("link")
    assert bench.paths("COPY link /etc/\nCOPY a /etc/link", on=base()) == [["etc/link"], ["etc/link"]]


def test_what_was_copied_before_counts(bench: Bench) -> None:
    assert bench.paths("COPY d /x\nCOPY a /x\nCOPY b /x/s\nCOPY b /x/l") == [
        ["x/", "x/l", "x/s/", "x/s/y", "x/x"], ["x/a"], ["x/s/b"], ["x/s/y"]
    ]


def test_base_is_not_changed_by_what_is_put_on_it(bench: Bench) -> None:
    on = base()
    assert bench.run("COPY a /new/x", on=on).config == bench.run("COPY a /new/x", on=on).config
    assert on.files.kind("new") is None


def test_ignored_files_are_not_there(bench: Bench) -> None:
    files = ["d/s/y", "a"]
    assert bench.rows("COPY . /x/", files=files) == [{
        "x": Row("folder", 0o755, 0, ""), "x/a": Row("file", 0o644, 0, "A"), "x/d": Row("folder", 0o755, 0, ""),
        "x/d/s": Row("folder", 0o755, 0, ""), "x/d/s/y": Row("file", 0o644, 0, "Y"),
    }]
    for line in ("COPY b /x", "COPY d/x /x", "COPY to-a /x", "COPY to-d/s/y /x", "COPY to-* /x", "COPY e /x"):
        bench.refused(line, "line 2: COPY: ", ".dockerignore", files=files)


def test_empty_folders_are_copied(bench: Bench) -> None:
    (bench.context / "e").mkdir(mode=0o700)
    assert bench.paths("COPY e /x\nCOPY e /") == [["x/"]]
    (bench.context / "d/e").mkdir()
    assert bench.rows("COPY d /x")[0]["x/e"].kind == "folder"


def test_nothing_is_copied_from_an_empty_context(bench: Bench) -> None:
    assert bench.run("COPY . /", files=[]).layers == ()


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("*", "abc", True), ("*", "a/b", False), ("a*", "a", True), ("*c", "abc", True), ("?", "ä", True),
        ("?", "", False), ("a/*", "a/b", True), ("a?b", "a/b", False), ("[a-c]", "b", True), ("[a-c]", "d", False),
        ("[^a-c]", "d", True), ("[^a-c]", "b", False), ("[^a]", "/", False), ("[!a]", "!", True), ("[!a]", "b", False),
        (r"\*", "*", True), (r"\*", "x", False), (r"[\]]", "]", True), (r"[a\-z]", "-", True), (r"[\-x]", "x", True),
        ("[-]", "-", False), ("[a-]", "a", False), ("[a-b-c]", "b", False), ("[]a]", "a", False), ("[a", "a", False),
        ("a\\", "a", False), ("[c-a]", "b", False),
        ("**", "ab", True), ("**", "a/b", False), (".*", ".x", True), ("*", ".x", True), ("a.c", "abc", False),
        ("(a)", "(a)", True), ("[a-cx-z]y", "zy", True), ("[]", "a", False), ("[^]", "a", False), ("*\n", "x\n", True),
    ],
)
def test_patterns_are_those_of_go(pattern: str, name: str, matches: bool) -> None:
    compiled = copying._pattern(pattern)
    assert bool(compiled and compiled.fullmatch(name)) is matches


# What is refused of files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("COPY ../a /x", "leads out"), ("COPY d/../../a /x", "leads out"), ("COPY none /x", "not in the context"),
        ("COPY n* /x", "not in the context"), ("COPY [a /x", "not in the context"), ("COPY a b /x", "several sources"),
        ("COPY [ab] /x", "several sources"), ("COPY d a /x", "several sources"), ("COPY a/x /x", "not in the context"),
        ("COPY a /x\nCOPY b /x/y", "is no folder"), ("COPY a /x\nCOPY b /x/", "no folder"),
        ("COPY a /x\nCOPY d /x", "no folder"), ("COPY a /x\nWORKDIR /x", "no folder"),
        ("COPY a /x\nWORKDIR /x/y", "no folder"), ("COPY d/s /q/a\nCOPY a /q/", "is a folder"),
        ("COPY a /q/s\nCOPY d /q", "no folder"), ("COPY d/s /q/l\nCOPY d /q", "is a folder"),
        ("COPY a /q/s\nCOPY a /q/s/x", "no folder"),
    ],
)
def test_copy_is_refused_with_its_line(line: str, says: str, bench: Bench) -> None:
    cause = bench.refused(line, says)
    assert cause.startswith(f"line {len(line.splitlines()) + 1}: ")


def test_links_in_circles_of_the_base_are_refused(bench: Bench) -> None:
    bench.refused("COPY a /round/x\nWORKDIR /round", "line 2: COPY: ", "line 3: WORKDIR: ", "circles", on=base())


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("/etc/passwd", "'/etc/passwd'"), ("../../outside", "out of the context"), ("s/../../../outside", "out of"),
        ("s/../../..", "out of"), ("up/outside", "out of"), ("self", "circles"),
    ],
)
def test_link_that_leads_out_of_the_context_is_refused(target: str, says: str, bench: Bench) -> None:
    (bench.folder / "outside").write_text("secret")
    bench.write("l/s/x")
    if target == "up/outside":
        bench.link("l/up", "../..")
    bench.link("l/self", target)
    for line in ("COPY l /x", "COPY . /x", "COPY l/self /x", "COPY l/* /x/"):
        bench.refused(line, "line 2: COPY: ", says)


def test_source_below_a_link_that_leads_out_is_refused(bench: Bench) -> None:
    (bench.folder / "outside").mkdir()
    (bench.folder / "outside/secret").write_text("secret")
    bench.link("evil", "../outside")
    files = [*bench.listed(), "evil/secret"]
    unlisted = [path for path in files if path != "evil"]
    for line in ("COPY evil/secret /x", "COPY evil /x", "COPY evil/* /x"):
        bench.refused(line, "leads out", files=files)
        bench.refused(line, "leads out", files=unlisted)


def test_link_to_what_is_not_there_is_copied(bench: Bench) -> None:
    bench.link("l/gone", "nothing/../here")
    assert bench.rows("COPY l /x")[0]["x/gone"].text == "nothing/../here"


@pytest.mark.parametrize("kind", ["socket", "named pipe"])
def test_special_files_are_refused_by_name(kind: str, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    (bench.context / "s").mkdir()
    monkeypatch.chdir(bench.context)
    if kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("s/special")
    else:
        os.mkfifo("s/special")
    bench.refused("COPY s /x\nCOPY s/special /y", "line 2: COPY: 's/special' is a ", "line 3: ", kind)


def _tar(text: bytes = b"x") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        member = tarfile.TarInfo("x")
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("tar", _tar()), ("gzip", gzip.compress(_tar())), ("bzip2", bz2.compress(_tar(os.urandom(800_000)))),
        ("xz", lzma.compress(_tar())), ("zstd", b"\x28\xb5\x2f\xfd whatever"),
    ],
)
def test_archives_are_not_added(name: str, data: bytes, bench: Bench) -> None:
    bench.write("file.txt", data)
    bench.refused("ADD file.txt /x", "line 2: ADD: ", "COPY")
    assert bench.paths("COPY file.txt /x") == [["x"]]
    # In a folder docker unpacks none.
    bench.write("f/file", data)
    assert bench.paths("ADD f /x") == [["x/", "x/file"]]


@pytest.mark.parametrize(
    "data",
    [
        b"", b"x" * 600, bytes(1024), gzip.compress(b"text"), b"BZh9rubbish", b"\xfd7zXZ\0rubbish",
        b"\x1f\x8b\x08rubbish", _tar()[:511],
    ],
)
def test_other_files_are_added(data: bytes, bench: Bench) -> None:
    bench.write("file.tar.gz", data)
    assert bench.paths("ADD file.tar.gz /x") == [["x"]]


def test_everything_that_is_refused_is_said_at_once(bench: Bench) -> None:
    cause = bench.refused("RUN x\nCOPY none /x\nUSER y\nCOPY a b /x\nWORKDIR /a\nSHELL x")
    assert [part.split(":")[0] for part in cause.split("; line ")] == ["line 2", "3", "5", "7"]


def test_file_that_cannot_be_read_is_named(bench: Bench) -> None:
    files = [*bench.listed(), "gone"]
    bench.refused("COPY gone /x\nCOPY . /y", "line 2", "line 3", "'gone' cannot be read", files=files)


def test_names_that_are_no_text_are_refused(bench: Bench) -> None:
    bench.write("n/a\udcff")
    with pytest.raises(BuildError) as caught:
        bench.run("COPY n /x")
    assert caught.value.code == "input_invalid"
    str(caught.value).encode()


# The configuration ---------------------------------------------------------------------------------------------------


def test_configuration_of_an_image_from_scratch(bench: Bench) -> None:
    made = bench.run("COPY a /a\nENV A=b\nARG C\nUSER 5\nLABEL x=ü&", epoch=86400, labels={"hash": "1", "b": "2"})
    (layer,) = made.layers
    data = pathlib.Path(layer.path).read_bytes()
    assert layer.descriptor == Descriptor(PLAIN, f"sha256:{hashlib.sha256(data).hexdigest()}", len(data))
    history: list[dict[str, t.Any]] = [{"created_by": "COPY a /a"}] + [
        {"created_by": text, "empty_layer": True}
        for text in ("ENV A=b", "ARG C", "USER 5", "LABEL x=ü&", "LABEL b=2 hash=1")
    ]
    members = {
        "architecture": "amd64", "os": "linux", "created": "1970-01-02T00:00:00Z",
        "config": {"Env": [PATH, "A=b"], "User": "5", "Labels": {"x": "ü&", "hash": "1", "b": "2"}},
        "rootfs": {"type": "layers", "diff_ids": [layer.descriptor.digest]},
        "history": [{**entry, "created": "1970-01-02T00:00:00Z"} for entry in history],
    }
    assert made.config == json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def test_configuration_of_the_base_is_inherited(bench: Bench) -> None:
    made = json.loads(bench.run("COPY a /a\nUSER 6\nUSER 7", on=base()).config)
    noise = ("Hostname", "Image", "OnBuild", "Tty")
    kept = {name: value for name, value in CONFIG["config"].items() if name not in noise}
    assert made["config"] == {**kept, "User": "7"}
    assert {name: made[name] for name in ("os", "architecture", "variant")} == {
        "os": "linux", "architecture": "arm64", "variant": "v8"
    }
    assert set(made) == {"os", "architecture", "variant", "created", "config", "rootfs", "history"}
    assert made["rootfs"]["diff_ids"][0] == DIGEST
    assert len(made["rootfs"]["diff_ids"]) == 2
    assert made["history"][0] == CONFIG["history"][0]
    assert [entry.get("empty_layer", False) for entry in made["history"]] == [False, False, True, True]


@pytest.mark.parametrize(
    ("line", "member", "value"),
    [
        ("ENV A=x B=y", "Env", ["PATH=/bin", "A=x", "B=y"]), ("ENV PATH=$PATH:/x", "Env", ["PATH=/bin:/x", "A=base"]),
        ("ENV A=", "Env", ["PATH=/bin", "A="]), ("LABEL c=x e=$A", "Labels", {"a": "b", "c": "x", "e": "base"}),
        ("EXPOSE 80 81/udp", "ExposedPorts", {"80/tcp": {}, "81/udp": {}}),
        ("VOLUME /w", "Volumes", {"/v": {}, "/w": {}}),
        ("CMD x y", "Cmd", ["/bin/sh", "-c", "x y"]), ('CMD ["x"]', "Cmd", ["x"]), ("CMD []", "Cmd", None),
        ("ENTRYPOINT x", "Cmd", None), ('CMD x\nENTRYPOINT ["y"]', "Cmd", ["/bin/sh", "-c", "x"]),
        ('ENTRYPOINT ["y"]', "Entrypoint", ["y"]), ("ENTRYPOINT []", "Entrypoint", None), ("USER $NONE", "User", None),
        ("STOPSIGNAL TERM", "StopSignal", "TERM"), ("WORKDIR /x//y/../", "WorkingDir", "/x"),
        ("WORKDIR x", "WorkingDir", "/srv/x"), ("WORKDIR ../..", "WorkingDir", "/"),
        ("WORKDIR //x", "WorkingDir", "/x"),
        ("HEALTHCHECK CMD x", "Healthcheck", {"Test": ["CMD-SHELL", "x"]}),
        ("HEALTHCHECK --timeout=1s CMD x\nHEALTHCHECK --interval=2s CMD y", "Healthcheck",
         {"Test": ["CMD-SHELL", "y"], "Interval": 2 * 10**9, "Timeout": 10**9}),
    ],
)
def test_instruction_changes_its_member(line: str, member: str, value: t.Any, bench: Bench) -> None:
    found = bench.config(line, on=base())
    assert found.get(member) == value
    untouched = {name: one for name, one in found.items() if name not in (member, "Cmd", "Entrypoint")}
    assert untouched.items() <= {**bench.config("USER 5", on=base()), "User": "5"}.items() or member == "Cmd"


def test_shell_of_the_base_runs_commands(bench: Bench) -> None:
    assert bench.config("CMD x", on=base(Shell=["/bin/bash", "-c"]))["Cmd"] == ["/bin/bash", "-c", "x"]


@pytest.mark.parametrize(
    ("environment", "wanted"), [(None, [PATH]), (["A=b"], ["A=b", PATH]), (["PATH="], ["PATH="])]
)
def test_path_is_set_unless_it_is(environment: list[str] | None, wanted: list[str], bench: Bench) -> None:
    assert bench.config("USER 1", on=base(Env=environment))["Env"] == wanted


def test_base_may_have_hardly_any_configuration(bench: Bench) -> None:
    config = {"os": "linux", "architecture": "amd64", "config": {}, "rootfs": {"diff_ids": [DIGEST]}}
    made = json.loads(bench.run("USER 1", on=base(config)).config)
    assert made["config"] == {"Env": [PATH], "User": "1"}
    bare = BaseImage({**config, "config": None}, (Descriptor(PLAIN, DIGEST, 1),), BaseFiles())
    assert json.loads(bench.run("USER 1", on=bare).config)["config"] == made["config"]


# Found by tests/fuzz.
@pytest.mark.parametrize("architecture", ["", None, 1])
def test_a_base_without_architecture_is_refused(architecture: t.Any, bench: Bench) -> None:
    config = {"os": "linux", "architecture": architecture, "config": {}, "rootfs": {"diff_ids": [DIGEST]}}
    with pytest.raises(FormatError, match="architecture"):
        bench.run("USER 1", on=base(config))


def test_stages_make_one_image(bench: Bench) -> None:
    text = "FROM scratch AS a\nCOPY a /a\nCMD x\nFROM a\nENTRYPOINT y\nCOPY b /b\n"
    assert [list(rows) for rows in bench.rows(text)] == [["a"], ["b"]]
    assert "Cmd" not in bench.config(text)
    assert bench.config(text, target="a")["Cmd"] == ["/bin/sh", "-c", "x"]


def test_unused_build_arguments_are_warned_of(bench: Bench) -> None:
    (warning,) = bench.run("ARG A", build_args={"A": "1", "B": "2"}).warnings
    assert "argument B" in warning.message


def test_values_of_build_arguments_are_not_in_the_history(bench: Bench) -> None:
    assert b"canary" not in bench.run("ARG A\nARG A=x", build_args={"A": "canary"}).config


@pytest.mark.parametrize(
    ("platform", "members"),
    [
        ("linux/arm64", {"os": "linux", "architecture": "arm64"}),
        ("linux/arm/v7", {"os": "linux", "architecture": "arm", "variant": "v7"}),
    ],
)
def test_platform_is_that_which_is_wanted(platform: str, members: dict[str, str], bench: Bench) -> None:
    for text, option in (("USER 1", platform), (f"FROM --platform={platform} scratch\nUSER 1\n", "linux/amd64")):
        made = json.loads(bench.run(text, platform=option).config)
        assert {name: made[name] for name in ("os", "architecture", "variant") if name in made} == members


@pytest.mark.parametrize(
    ("name", "architecture"), [("x86_64", "amd64"), ("aarch64", "arm64"), ("armv7l", "arm"), ("new", "new")]
)
def test_platform_is_else_that_of_this_machine(
    name: str, architecture: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "machine", lambda: name)
    assert json.loads(bench.run("USER 1", platform=None).config)["architecture"] == architecture


@pytest.mark.parametrize("platform", ["windows/amd64", "linux", "LINUX/AMD64", "linux/amd64/v1/x", "", "linux/"])
def test_other_platforms_are_refused(platform: str, bench: Bench) -> None:
    with pytest.raises(BuildError) as caught:
        bench.run("USER 1", platform=platform)
    assert caught.value.code == "input_invalid"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"os": "windows"}, "malformed"), ({"os": None}, "malformed"), ({"architecture": 5}, "malformed"),
        ({"rootfs": None}, "malformed"), ({"rootfs": {"diff_ids": [1]}}, "malformed"),
        ({"rootfs": {"diff_ids": []}}, "malformed"), ({"history": "x"}, "malformed"), ({"config": []}, "malformed"),
        ({"config": {"Env": "x"}}, "malformed"), ({"config": {"Labels": {"a": 1}}}, "malformed"),
        ({"config": {"Cmd": [1]}}, "malformed"), ({"config": {"Volumes": []}}, "malformed"),
        ({"config": {"WorkingDir": 1}}, "malformed"), ({"config": {"OnBuild": ["RUN x"]}}, "input_invalid"),
    ],
)
def test_base_that_cannot_be_used_is_refused(change: dict[str, t.Any], code: str, bench: Bench) -> None:
    on = BaseImage({**CONFIG, **change}, (Descriptor(PLAIN, DIGEST, 1),), BaseFiles())
    with pytest.raises(HallmarkError) as caught:
        bench.run("USER 1", on=on)
    assert isinstance(caught.value, (BuildError, FormatError))
    assert caught.value.code == code


def test_base_of_another_platform_is_refused(bench: Bench) -> None:
    assert bench.run("USER 1", on=base(), platform="linux/arm64").config
    bench.refused("USER 1", "linux/arm64, not for linux/amd64", on=base(), platform="linux/amd64")


# Found by tests/fuzz.
def test_the_platform_of_a_base_is_not_quoted_at_length(bench: Bench) -> None:
    config = {"os": "linux", "architecture": "x" * 100_000, "config": {}, "rootfs": {"diff_ids": [DIGEST]}}
    with pytest.raises(BuildError) as caught:
        bench.run("USER 1", on=base(config), platform="linux/amd64")
    assert len(str(caught.value)) < 1000


def test_base_must_fit_the_dockerfile(bench: Bench) -> None:
    bench.refused("FROM scratch\n", "its base is scratch", on=base())
    bench.refused("FROM a\n", "its base is a")


def test_layers_that_cannot_be_written_are_said(bench: Bench) -> None:
    bench.out.rmdir()
    with pytest.raises(BuildError) as caught:
        bench.run("COPY a /a")
    assert caught.value.code == "write_failed"


# Always the same -----------------------------------------------------------------------------------------------------


_TREES = st.dictionaries(
    st.text("ab.é", min_size=1, max_size=3).filter(lambda name: name not in (".", "..")),
    st.one_of(
        st.binary(max_size=600),
        st.dictionaries(st.sampled_from(["x", "y", "-"]), st.binary(max_size=5), max_size=3),
    ),
    min_size=1, max_size=6,
)


def _make(folder: pathlib.Path, tree: dict[str, t.Any], names: list[str], umask: int, time: int) -> None:
    old = os.umask(umask)
    try:
        folder.mkdir()
        for name in names:
            if isinstance(tree[name], bytes):
                (folder / name).write_bytes(tree[name])
            else:
                (folder / name).mkdir()
                for child, data in tree[name].items():
                    (folder / name / child).write_bytes(data)
    finally:
        os.umask(old)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o640)
        if os.geteuid() == 0:
            os.chown(path, time % 1000, 5)
        os.utime(path, (time, time))


@given(_TREES, st.randoms(), st.integers(0, 1 << 31), st.sampled_from([0, 0o22, 0o27]))
@settings(max_examples=40, suppress_health_check=list(HealthCheck))
def test_same_files_give_the_same_image(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[str, t.Any], random: t.Any, time: int, umask: int
) -> None:
    made = []
    for number in range(2):
        bench = Bench(tmp_path_factory.mktemp("same"))
        names = sorted(tree)
        if number:
            random.shuffle(names)
        bench.context.rmdir()
        _make(bench.context, tree, names, umask if number else 0o77, time if number else 0)
        files = bench.listed()
        if number:
            random.shuffle(files)
        made.append(bench.run("COPY . /x/", files=files))
    assert made[0].config == made[1].config
    assert [layer.descriptor for layer in made[0].layers] == [layer.descriptor for layer in made[1].layers]
    rows = rows_of(pathlib.Path(made[0].layers[0].path).read_bytes())
    wanted = {
        f"x/{name}/{child}" if child else f"x/{name}" for name, what in tree.items()
        for child in ("", *(what if isinstance(what, dict) else ()))
    }
    assert set(rows) == {"x", *wanted}


@pytest.mark.parametrize(
    ("build_args", "environ", "epoch"),
    [
        ({}, {}, 0), ({"SOURCE_DATE_EPOCH": "5"}, {"SOURCE_DATE_EPOCH": "6"}, 5), ({}, {"SOURCE_DATE_EPOCH": "6"}, 6),
        ({"SOURCE_DATE_EPOCH": ""}, {"SOURCE_DATE_EPOCH": ""}, 0),
        ({"SOURCE_DATE_EPOCH": "0"}, {"SOURCE_DATE_EPOCH": "6"}, 0),
        ({"SOURCE_DATE_EPOCH": "253402300799"}, {}, 253402300799),
    ],
)
def test_time_of_the_image_is_found(build_args: dict[str, str], environ: dict[str, str], epoch: int) -> None:
    assert source_date_epoch(build_args, environ) == epoch


@pytest.mark.parametrize("text", ["-1", "1.5", "x", " 1", "1\n", "٣", "253402300800", "9" * 5000, "0x1", "+1"])
def test_time_that_is_no_number_of_seconds_is_refused(text: str) -> None:
    with pytest.raises(BuildError) as caught:
        source_date_epoch({}, {"SOURCE_DATE_EPOCH": text})
    assert (caught.value.code, caught.value.object) == ("input_invalid", "SOURCE_DATE_EPOCH")


def test_latest_time_is_written(bench: Bench) -> None:
    made = json.loads(bench.run("USER 1", epoch=module._MAX_EPOCH).config)
    assert made["created"] == "9999-12-31T23:59:59Z"
