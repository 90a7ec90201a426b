# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is assembled is what the real engine builds: configuration, history and files of many small Dockerfiles."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pathlib
import secrets
import subprocess
import tarfile
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._docker.assemble import (
    Assembled,
    BaseImage,
    assemble,
)
from ansible_collections.hallmark.signing.plugins.module_utils._docker.base_files import BaseFiles
from ansible_collections.hallmark.signing.plugins.module_utils._docker.engine import context_files
from ansible_collections.hallmark.signing.plugins.module_utils._docker.layer import LAYER
from ansible_collections.hallmark.signing.plugins.module_utils._errors import BuildError
from ansible_collections.hallmark.signing.plugins.module_utils._oci.manifest import Descriptor

Json = dict[str, t.Any]
Files = dict[str, tuple[t.Any, ...]]

# Kind, permission bits, and content or target; the engine takes setuid bits away, see below.
_TREE: dict[str, tuple[str, int, str]] = {
    "a": ("file", 0o644, "A"),
    "b": ("file", 0o600, "B"),
    "a*b": ("file", 0o644, "star"),
    "ümläut": ("file", 0o755, "U"),
    "d": ("folder", 0o700, ""),
    "d/x": ("file", 0o640, "x"),
    "d/link": ("link", 0, "x"),
    "d/s": ("folder", 0o711, ""),
    "d/s/y": ("file", 0o444, "y"),
    "d/s/up": ("link", 0, "../x"),
    "empty": ("folder", 0o750, ""),
    "tree": ("folder", 0o755, ""),
    "tree/etc": ("folder", 0o751, ""),
    "tree/etc/conf": ("file", 0o644, "mine"),
    "tree/opt": ("folder", 0o755, ""),
    "tree/opt/f": ("file", 0o644, "f"),
    "to-a": ("link", 0, "a"),
    "to-d": ("link", 0, "d"),
    "long": ("folder", 0o755, ""),
    f"long/{'n' * 120}": ("folder", 0o755, ""),
    f"long/{'n' * 120}/{'m' * 180}": ("file", 0o644, "long"),
}

_BASE_TREE: dict[str, tuple[str, int, str]] = {
    "etc": ("folder", 0o755, ""),
    "etc/conf": ("file", 0o600, "theirs"),
    "etc/other": ("file", 0o644, "other"),
    "etc/conf.link": ("link", 0, "conf"),
    "etc/gone": ("link", 0, "/etc/not-there"),
    "tmp": ("folder", 0o1777, ""),
    "usr": ("folder", 0o755, ""),
    "usr/bin": ("folder", 0o755, ""),
    "usr/bin/tool": ("file", 0o755, "tool"),
    "bin": ("link", 0, "usr/bin"),
    "var": ("folder", 0o755, ""),
    "var/run": ("link", 0, "/run"),
    "run": ("folder", 0o711, ""),
    "srv": ("folder", 0o750, ""),
}
_BASE_DOCKERFILE = """\
FROM scratch
COPY tree /
ENV BASE=base PATH=/usr/bin:/opt
LABEL base=yes who=base
EXPOSE 80
VOLUME /data
USER 12
WORKDIR /srv
ENTRYPOINT ["/entry"]
CMD ["from", "base"]
STOPSIGNAL SIGQUIT
HEALTHCHECK --interval=5s CMD check
"""

_CASES: dict[str, str] = {
    "nothing": "FROM scratch\nLABEL a=b\n",
    "base alone": "FROM base\nLABEL who=me\n",
    "command of a shell": "FROM scratch\nCMD echo a \\\n   b\\\n c\n",
    "command in json": 'FROM scratch\nENTRYPOINT [ "/a", "b c" ]\nCMD ["\\u00e4", "<&>"]\n',
    "json that is none": "FROM scratch\nCMD ['a']\nENTRYPOINT [\"a\", ]\n",
    "entrypoint drops the command": 'FROM base\nENTRYPOINT ["/x"]\n',
    "entrypoint keeps its own command": 'FROM base\nCMD x\nENTRYPOINT ["/x"]\n',
    "entrypoint of a later stage": 'FROM base AS one\nCMD x\nFROM one\nENTRYPOINT ["/x"]\n',
    "entrypoint is reset": "FROM base\nENTRYPOINT []\n",
    "command is reset": "FROM base\nCMD []\n",
    "environment": (
        "FROM base\nENV A=1 B=$A C='$A' D=\"$A x\" E=\\$A F=${A:-d}${Z:-d}${Z:+p}${BASE:+q}\n"
        "ENV G=$A H=${A:+p} I=${A}x J=$A$B BASE=new-$BASE\n"
        "ENV K hello \"$A\"  w\\ x \nENV L=a\\ b M=\"x\\ny\" N=$ O=$1\n"
    ),
    "path is kept": "FROM base\nENV PATH=$PATH:/mine\n",
    "path by itself": "FROM scratch\nENV PATH=/only\n",
    "labels": "FROM base\nLABEL x=\"a b\" 'y z'=\"c\\\n d\" who=\"${BASE}\"\nLABEL old form \"q\" r\n",
    "arguments": (
        "ARG G=1 H=$G\nFROM scratch\nLABEL a=$G\nARG G\nARG H\nARG I=$G J=$I\nLABEL b=$G c=$H d=$I e=$J f=$GIVEN\n"
        "ARG GIVEN=default\nLABEL g=$GIVEN h=$HTTP_PROXY\n"
    ),
    "arguments of another stage": "ARG A=1\nFROM scratch AS x\nARG A\nENV E=$A\nFROM x\nLABEL z=$A y=$E\n",
    "environment wins over arguments": "FROM base\nARG BASE=mine\nLABEL x=$BASE\n",
    "ports": "FROM base\nARG P=\"90 91/udp\"\nEXPOSE 80 81/udp 8000-8002/TCP 8080:99\nEXPOSE $P\n",
    "volumes": 'FROM base\nVOLUME /a $BASE/b\nVOLUME ["x", "y z"]\n',
    "user and stop signal": "FROM base\nUSER $BASE:7\nSTOPSIGNAL 9\n",
    "health": "FROM base\nHEALTHCHECK --interval=1h1m1.5s --timeout=\"2s\" --start-period=3ms --retries=3 CMD a  $b\n",
    "health in json": 'FROM scratch\nHEALTHCHECK cmd ["a", "b"]\n',
    "no health": "FROM base\nHEALTHCHECK NONE\n",
    "health of the base": "FROM base\nHEALTHCHECK --timeout=3s CMD x\nHEALTHCHECK --interval=2s CMD x\n",
    "no user": "FROM base\nUSER $UNSET\n",
    "comments and blanks": "# c\n\n  # d\nFROM base\nLABEL a=b\\\n# x\n\n  c=d\n\tuser  x \n",
    "other escape character": "# escape=`\nFROM base\nLABEL a=\"x`\"y\" b=c`\n d=c:\\\n",
    "windows line ends": "FROM base\r\nLABEL a=b \\\r\n c=d\r\nUSER x\r\n",
    "copy a file": "FROM scratch\nCOPY a /x/y/a\n",
    "copy with owner": "FROM scratch\nCOPY --chown=5:6 a /x/y/a\nCOPY --chown=7 d /x/z/d\n",
    "copy a folder": "FROM scratch\nCOPY d /z/y\nCOPY d /\nCOPY empty /e/f/\n",
    "copy everything": "FROM base\nCOPY . /all\n",
    "copy by links": "FROM scratch\nCOPY to-a to-d /x/\nCOPY to-d/s /y\n",
    "copy by patterns": (
        "FROM scratch\nCOPY [ab] /p/\nCOPY d/* /q/\nCOPY to-? /r/\nCOPY a[*]b /s\nCOPY a\\*b /t\n"
        "COPY [^c-z]* /u/\n"
    ),
    "copy in json": 'FROM scratch\nCOPY ["a", "/x y/"]\n',
    "copy to where it is a folder": "FROM base\nCOPY a /etc\nCOPY a /tmp/\nCOPY b etc/new/\n",
    "copy over a file": "FROM base\nCOPY a /etc/conf\nCOPY b /etc/other\n",
    "copy through a link": "FROM base\nCOPY a /bin/x\nCOPY b /bin\nCOPY a /var/run/deep/x\nCOPY d /var/run\n",
    "copy onto a link": "FROM base\nCOPY a /etc/conf.link\nCOPY a /etc/gone\n",
    "copy beside a link": "FROM base\nCOPY to-a /etc/conf.link/../\n",
    "copy a folder onto folders": "FROM base\nCOPY tree /\n",
    "copy relatively": (
        "FROM base\nCOPY a .\nCOPY b ./\nWORKDIR sub/../deep\nCOPY a x\nCOPY d ./e/\nWORKDIR /w\nCOPY a .\n"
        ""
    ),
    "copy from the root of the context": "FROM base\nCOPY /a ./b /./d/../d/x /r/\n",
    "names that are long or not ascii": "FROM scratch\nCOPY long /l\nCOPY ümläut /ü/\n",
    "same layer twice": "FROM scratch\nCOPY a a /x/\nCOPY a /x/a\n",
    "add": "FROM scratch\nADD a d /x/\nADD --chown=3 a /y\n",
    "working folders": (
        "FROM base\nWORKDIR /w\nWORKDIR a\nWORKDIR ../b\nWORKDIR /w/b\nWORKDIR $BASE\nWORKDIR /bin/w\n"
        "WORKDIR /tmp\n"
    ),
    "working folder of a user": "FROM base\nUSER 5\nWORKDIR /home/x\nCOPY a .\n",
    "stages": (
        "FROM scratch AS unused\nCOPY a /unused\nFROM base AS One\nCOPY a /one\nFROM one AS two\n"
        "COPY b /two\nFROM two\nUSER 0\n"
    ),
}
_TARGETS = {"stages": [None, "one", "TWO"]}
# Its cache takes an image for that of another instruction, and what is compared here would depend on earlier tests.
_QUIET: Json = {"nocache": True, "rm": True, "forcerm": True, "decode": True}
_BUILD_ARGS = {"GIVEN": "given", "HTTP_PROXY": "proxy"}

_REFUSED = {
    "several sources to a file": "COPY a b /x", "pattern to a file": "COPY [ab] /x", "climbing out": "COPY ../a /x",
    "missing": "COPY nothing /x", "bad pattern": "COPY [a /x", "file is no folder": "COPY a /x\nCOPY b /x/y",
    "working folder is a file": "COPY a /w\nWORKDIR /w", "one word": "COPY a", "strings only": "CMD [1]",
    "flag": "CMD --x a", "port": "EXPOSE x", "big port": "EXPOSE 70000", "protocol": "EXPOSE 80/foo",
    "signal": "STOPSIGNAL FOO", "duration": "HEALTHCHECK --interval=1us CMD a",
    "unit": "HEALTHCHECK --interval=5 CMD a",
    "health of nothing": "HEALTHCHECK NONE x", "no check": "HEALTHCHECK CMD", "quote": "ENV A='x", "brace": "ENV A=${x",
    "needed": "ENV A=${x:?y}", "one name": "ENV A", "no name": "ENV =b", "not all pairs": "ENV A=b c", "word": "FOO x",
    "volume": "VOLUME []", "no folder": "WORKDIR ''", "argument": "ARG", "url": "COPY https://x.invalid/a /x",
}


def _make_tree(folder: pathlib.Path, tree: dict[str, tuple[str, int, str]]) -> None:
    for path, (kind, mode, text) in tree.items():
        whole = folder / path
        if kind == "link":
            whole.symlink_to(text)
            continue
        if kind == "folder":
            whole.mkdir()
        else:
            whole.write_text(text)
        whole.chmod(mode)


@pytest.fixture(scope="module")
def engine() -> t.Iterator[t.Any]:
    """The engine that answers; images of these tests are removed at the end."""
    docker = pytest.importorskip("docker")
    try:
        answers = subprocess.run(["docker", "info"], capture_output=True, check=False, timeout=30).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        answers = False
    if not answers:
        pytest.skip("no container engine answers docker info")
    client = docker.from_env(version="auto", timeout=120)
    made: list[str] = []
    client.made = made
    yield client
    for image in reversed(made):
        subprocess.run(["docker", "rmi", "--force", image], capture_output=True, check=False)


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A context with files of all kinds."""
    folder = tmp_path_factory.mktemp("context")
    _make_tree(folder, _TREE)
    return folder


class Built(t.NamedTuple):
    """What the engine made: its configuration file and its layers."""

    config: Json
    layers: list[bytes]


def build(engine: t.Any, folder: pathlib.Path, text: str, **options: t.Any) -> Built:
    """Build with the engine's own builder, the one that the SDK reaches."""
    (folder / "Dockerfile").write_bytes(text.encode())
    tag = f"hallmark-interop-{secrets.token_hex(6)}"
    try:
        for event in engine.api.build(path=str(folder), tag=tag, **_QUIET, **options):
            if "error" in event:
                raise BuildError(code="build_failed", object=tag, attempt="build", cause=event["error"], advice="")
    finally:
        (folder / "Dockerfile").unlink()
    engine.made.append(tag)
    return saved(engine, tag)


def saved(engine: t.Any, tag: str) -> Built:
    """Read an image of the engine."""
    if not engine.api.inspect_image(tag)["RootFS"].get("Layers"):
        # The engine saves no image without layers.
        history = [{"empty_layer": True} for _entry in engine.api.history(tag)]
        inspected = engine.api.inspect_image(tag)
        return Built({"config": inspected["Config"], "history": history, "os": "linux"}, [])
    with tarfile.open(fileobj=io.BytesIO(b"".join(engine.api.get_image(tag)))) as archive:

        def read(name: str) -> bytes:
            return t.cast("t.IO[bytes]", archive.extractfile(name)).read()

        (manifest,) = json.loads(read("manifest.json"))
        return Built(json.loads(read(manifest["Config"])), [read(name) for name in manifest["Layers"]])


@pytest.fixture(scope="module")
def base(engine: t.Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Built]:
    """A base with links and modes of its own."""
    folder = tmp_path_factory.mktemp("base")
    (folder / "tree").mkdir()
    _make_tree(folder / "tree", _BASE_TREE)
    built = build(engine, folder, _BASE_DOCKERFILE)
    return engine.made[-1], built


def files_of(layers: t.Iterable[bytes]) -> Files:
    """Return what lies where: kind, permission bits, owner, and content or target."""
    found: Files = {}
    for layer in layers:
        with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
            for member in archive:
                folder, name = os.path.split(member.name)
                if name == ".wh..wh..opq":
                    found = {path: what for path, what in found.items() if not path.startswith(f"{folder}/")}
                    continue
                assert not name.startswith(".wh.")
                content: t.Any = member.linkname
                if member.isfile():
                    content = hashlib.sha256(t.cast("t.IO[bytes]", archive.extractfile(member)).read()).hexdigest()
                owner = (member.uid, member.gid)
                if not member.isdir():
                    found = {path: what for path, what in found.items() if not path.startswith(f"{member.name}/")}
                mode = 0 if member.issym() else member.mode & 0o7777
                found[member.name] = (member.type, mode, owner, content)
    return found


def settings_of(config: Json) -> Json:
    """Return the settings without what is empty, and what the engine keeps of its own containers."""
    return {name: value for name, value in config["config"].items() if value and name not in ("Image", "Hostname")}


def image_of(built: Built) -> BaseImage:
    """Return what the engine built, as a base."""
    layers = tuple(Descriptor(LAYER, f"sha256:{hashlib.sha256(raw).hexdigest()}", len(raw)) for raw in built.layers)
    files = BaseFiles.read([(LAYER, iter([raw])) for raw in built.layers], limit=1 << 30, where="base")
    return BaseImage(built.config, layers, files)


def ours(
    folder: pathlib.Path, text: str, base: BaseImage | None, layers: pathlib.Path, target: str | None
) -> Assembled:
    """Assemble the same; the Dockerfile lies in the context, as the engine wants it."""
    (folder / "Dockerfile").write_bytes(text.encode())
    try:
        return assemble(
            context=str(folder), files=context_files(str(folder), [], "Dockerfile"), dockerfile_text=text,
            build_args=_BUILD_ARGS, target=target, platform=None, base=base, epoch=0, labels={}, folder=str(layers),
            where=str(folder / "Dockerfile"),
        )
    finally:
        (folder / "Dockerfile").unlink()


@pytest.mark.parametrize(
    ("name", "target"), [(name, target) for name in _CASES for target in _TARGETS.get(name, [None])]
)
def test_assembled_image_is_the_engines(
    name: str, target: str | None, engine: t.Any, base: tuple[str, Built], context: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    text = _CASES[name]
    on_base = "FROM base" in text
    theirs = build(
        engine, context, text.replace("FROM base", f"FROM {base[0]}"), buildargs=_BUILD_ARGS, target=target or ""
    )
    mine = ours(context, text, image_of(base[1]) if on_base else None, tmp_path, target)
    config = json.loads(mine.config)
    assert settings_of(config) == settings_of(theirs.config)
    assert [bool(entry.get("empty_layer")) for entry in config["history"]] == [
        bool(entry.get("empty_layer")) for entry in theirs.config["history"]
    ]
    new = [pathlib.Path(layer.path).read_bytes() for layer in mine.layers]
    found, wanted = files_of([*(base[1].layers if on_base else []), *new]), files_of(theirs.layers)
    # The Dockerfile of the other one has another name of the base in it.
    for files in (found, wanted):
        files.pop("all/Dockerfile", None)
    assert found == wanted
    diff_ids = [f"sha256:{hashlib.sha256(raw).hexdigest()}" for raw in [*(base[1].layers if on_base else []), *new]]
    assert config["rootfs"] == {"type": "layers", "diff_ids": diff_ids}


@pytest.mark.parametrize("name", _REFUSED)
def test_what_the_engine_refuses_is_refused(
    name: str, engine: t.Any, context: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    from docker.errors import APIError

    text = f"FROM scratch\n{_REFUSED[name]}\n"
    with pytest.raises((APIError, BuildError)):
        build(engine, context, text)
    with pytest.raises(BuildError) as caught:
        ours(context, text, None, tmp_path, None)
    assert caught.value.code == "input_invalid"
    assert f"line {len(text.splitlines())}: " in caught.value.cause


def test_engine_takes_what_is_assembled(engine: t.Any, context: pathlib.Path, tmp_path: pathlib.Path) -> None:
    text = "FROM scratch\nCOPY long ümläut d /x/\nUSER 5\n"
    mine = ours(context, text, None, tmp_path, None)
    tag = f"hallmark-interop-{secrets.token_hex(6)}"
    archive = io.BytesIO()
    manifest = [{"Config": "config.json", "RepoTags": [f"{tag}:latest"], "Layers": ["0.tar"]}]
    with tarfile.open(fileobj=archive, mode="w") as made:
        for name, raw in (
            ("config.json", mine.config), ("0.tar", pathlib.Path(mine.layers[0].path).read_bytes()),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(raw)
            made.addfile(member, io.BytesIO(raw))
    engine.api.load_image(archive.getvalue())
    engine.made.append(tag)
    # The engine's image id is the digest of the configuration.
    assert engine.api.inspect_image(tag)["Id"] == f"sha256:{hashlib.sha256(mine.config).hexdigest()}"
    assert files_of(saved(engine, tag).layers) == files_of([pathlib.Path(mine.layers[0].path).read_bytes()])


# Where assembling differs on purpose: the engine's change of owner takes these bits away, that of BuildKit does not.
def test_setuid_bits_are_kept(engine: t.Any, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "context"
    folder.mkdir()
    _make_tree(folder, {"su": ("file", 0o4755, "x")})
    text = "FROM scratch\nCOPY su /su\n"
    mine = ours(folder, text, None, tmp_path, None)
    assert files_of([pathlib.Path(mine.layers[0].path).read_bytes()])["su"][1] == 0o4755
    assert files_of(build(engine, folder, text).layers)["su"][1] == 0o755


# Where assembling is stricter: the engine puts one in the place of the other, with all that is in it.
@pytest.mark.parametrize("text", ["COPY d/s /q/a\nCOPY a /q/", "COPY a /q/s\nCOPY d /q"])
def test_files_and_folders_do_not_replace_each_other(
    text: str, engine: t.Any, context: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    assert build(engine, context, f"FROM scratch\n{text}\n").layers
    with pytest.raises(BuildError, match="line 3: COPY: "):
        ours(context, f"FROM scratch\n{text}\n", None, tmp_path, None)
