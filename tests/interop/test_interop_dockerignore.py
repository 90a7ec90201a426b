# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What C(.dockerignore) leaves of a build context: ours beside that of the real C(docker build).

Ours is picked by the docker SDK for Python. The kinds of files where that differs from the command are named in
C(_DIFFERENCES); everything else must be the same, for any small folder and any list of patterns.
"""

from __future__ import annotations

import io
import json
import os
import pathlib
import shutil
import subprocess
import tarfile
import tempfile
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._docker import build
from ansible_collections.hallmark.signing.plugins.module_utils._docker.engine import context_files
from docker.utils.build import Pattern, PatternMatcher
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

_IGNORE = ".dockerignore"
_DOCKERFILE = "FROM scratch\nCOPY . /\n"
_NAMES = ("a", "b", "ab", "c.md", ".h", "a b")
_WORDS = (*_NAMES, "*", "?", "**", "[a-b]", "[ab]b", "a*", "*b", "*.md", "?b", ".")


class Refused(Exception):
    """The command does not take this list of patterns."""


def _docker(*arguments: str, folder: pathlib.Path | None = None) -> subprocess.CompletedProcess[bytes]:
    # The builder of the engine itself: BuildKit is not installed everywhere.
    environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
    return subprocess.run(
        ["docker", *arguments], cwd=folder, env=environment, capture_output=True, timeout=60, check=False
    )


def sent(folder: pathlib.Path) -> set[str]:
    """Return what the command builds of a folder, by listing the layer. Raises Refused."""
    built = _docker("build", "--quiet", "--no-cache", "--force-rm", ".", folder=folder)
    if built.returncode:
        raise Refused(built.stderr.decode().strip().splitlines()[-1])
    image = built.stdout.decode().strip()
    try:
        layers = json.loads(_docker("image", "inspect", "--format", "{{json .RootFS.Layers}}", image).stdout)
        # An image of nothing has no layer, and cannot be saved.
        saved = _docker("save", image) if layers else None
    finally:
        _docker("rmi", "--force", image)
    found: set[str] = set()
    if saved is None:
        return found
    assert saved.returncode == 0, saved.stderr
    with tarfile.open(fileobj=io.BytesIO(saved.stdout)) as archive:
        (manifest,) = json.load(t.cast(t.IO[bytes], archive.extractfile("manifest.json")))
        for name in manifest["Layers"]:
            content = t.cast(t.IO[bytes], archive.extractfile(name)).read()
            with tarfile.open(fileobj=io.BytesIO(content)) as layer:
                found.update(entry.strip("/") for entry in layer.getnames())
    return found - {""}


def picked(folder: pathlib.Path) -> set[str]:
    """Return what we take of a folder, with the folders that lead there."""
    files = context_files(str(folder), build.ignore_patterns(build.Recipe(str(folder))), "/")
    return {
        str(one) for file in files for one in (pathlib.PurePosixPath(file), *pathlib.PurePosixPath(file).parents)
    } - {"."}


def write(folder: pathlib.Path, files: t.Iterable[str], ignored: str) -> None:
    """Write small files; names that end with a slash are empty folders."""
    (folder / "Dockerfile").write_text(_DOCKERFILE)
    (folder / _IGNORE).write_text(ignored)
    for name in files:
        path = folder / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.write_text("x")


@pytest.fixture(scope="module", autouse=True)
def _engine(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skip where there is nothing to compare with, and say so."""
    if shutil.which("docker") is None or _docker("info").returncode:
        pytest.skip("no container engine can be used: docker info fails")
    folder = tmp_path_factory.mktemp("probe")
    write(folder, ["a"], "")
    try:
        assert "a" in sent(folder)
    except Refused as exc:
        pytest.skip(f"this docker has no builder but BuildKit: {exc}")


# The property --------------------------------------------------------------------------------------------------------


@st.composite
def _lines(draw: st.DrawFn) -> str:
    """One line of the file: a pattern, perhaps an exception, a comment or nothing, with spaces around."""
    words = draw(st.lists(st.sampled_from(_WORDS), min_size=1, max_size=3))
    edge = draw(st.sampled_from(("", "", "", "/")))
    line = draw(st.sampled_from(("", "", "", "!", "!", "! "))) + edge + "/".join(words)
    line += draw(st.sampled_from(("", "", "/", " ", "\t")))
    return draw(st.sampled_from(("", "", "", " ", "#", " #"))) + line


@st.composite
def _trees(draw: st.DrawFn) -> list[str]:
    paths = draw(st.lists(
        st.lists(st.sampled_from(_NAMES), min_size=1, max_size=4).map("/".join), min_size=2, max_size=7, unique=True
    ))
    # Nothing is both a file and a folder.
    files = [path for path in paths if not any(other.startswith(f"{path}/") for other in paths)]
    return [path + draw(st.sampled_from(("", "", "", "/"))) for path in files]


def _is_known_to_differ(files: t.Sequence[str], lines: t.Sequence[str]) -> bool:
    """Say whether a case is of a kind of C(_DIFFERENCES), as far as the strategies make any."""
    texts = [text for text in (line.strip() for line in lines) if text and not text.startswith("#")]
    patterns = [Pattern(text) for text in texts]
    if any(pattern.exclusion and not pattern.dirs for pattern in patterns):
        return True  # exception-without-a-name
    exceptions = [number for number, pattern in enumerate(patterns) if pattern.exclusion]
    folders = {
        str(parent) for file in files for parent in pathlib.PurePosixPath(file.rstrip("/")).parents
    } | {file.rstrip("/") for file in files if file.endswith("/")}
    for folder in folders - {"."}:
        if exceptions and any("**" in pattern.dirs and pattern.match(folder) for pattern in patterns):
            return True  # folder-at-another-depth
        for number in exceptions:
            if patterns[number].match(folder) and not PatternMatcher(texts[:number]).matches(folder):
                return True  # exception-for-a-folder-that-was-not-left-out
    return False


@settings(
    max_examples=100, derandomize=True, database=None, deadline=None,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)
@given(files=_trees(), lines=st.lists(_lines(), max_size=4))
@example(files=["a/b/c", "a/b/d.md", "a/keep", "ab"], lines=["a/*", "!a/b"])
@example(files=["a/b/c", "a/b/d.md", "b/c.md", "c.md"], lines=["**/*.md", "!a/b/d.md"])
@example(files=["a/b/c", "b/c", "c/"], lines=["*", "!a/b"])
@example(files=["a b", "a", "b"], lines=["# a", "", "  a b  ", "/b/"])
@example(files=["a/b/c", "ab/c"], lines=["a//b", "./ab"])
@example(files=["a/b/c", "a/c"], lines=["a/b/.."])
def test_the_same_files_are_taken_as_by_the_command(files: list[str], lines: list[str]) -> None:
    assume(not _is_known_to_differ(files, lines))
    with tempfile.TemporaryDirectory(prefix="hallmark-interop-") as name:
        folder = pathlib.Path(name)
        write(folder, files, "\n".join(lines) + "\n")
        # .dockerignore itself: see its test.
        assert picked(folder) - {_IGNORE} == sent(folder) - {_IGNORE}


# Where the SDK and the command differ --------------------------------------------------------------------------------

_TREE = ("a/b/c", "a/c/b", "a/keep", "ab", "[x]", "b/a/b/c/keep", "b/a/b/c/out")
# Patterns; what only the command sends; what only we take.
_DIFFERENCES: dict[str, tuple[str, str, str]] = {
    "the-ignore-file-itself": (".dockerignore", "", ".dockerignore"),
    "caret-negates-a-class": ("[^b]", "b", "a"),
    "exclamation-mark-negates-no-class": ("[!b]", "a", "b"),
    "backslash-escapes": ("\\[x]", "", "[x]"),
    "stars-within-a-name": ("**b", "", "ab"),
    "dots-that-leave-the-context": ("../a", "a", ""),
    # A folder that a pattern with ** leaves out, where an exception makes us look into it nevertheless.
    "folder-at-another-depth": ("b/**/c\n!b/a/b/c/keep", "", "b/a/b/c/out"),
    "exception-at-another-depth": ("*\n!a/**/c", "a/c/b", ""),
    "exception-for-a-folder-that-was-not-left-out": ("a/b\n!a", "", "a/b/c"),
}


@pytest.mark.parametrize("kind", _DIFFERENCES)
def test_difference_between_sdk_and_command(kind: str, tmp_path: pathlib.Path) -> None:
    text, only_command, only_ours = _DIFFERENCES[kind]
    write(tmp_path, _TREE, text + "\n")
    ours, command = picked(tmp_path), sent(tmp_path)
    if kind != "the-ignore-file-itself":
        ours, command = ours - {_IGNORE}, command - {_IGNORE}
    assert (ours == command) is (not only_command and not only_ours)
    for name, one, other in ((only_command, command, ours), (only_ours, ours, command)):
        if name:
            assert name in one - other


# The command refuses a list that it cannot read; the SDK takes it for something else.
@pytest.mark.parametrize(
    "text", ["!", "!/", "[", "[]", "a[", "[b"], ids=["exception", "slash", "open", "empty", "open-at-the-end", "no-end"]
)
def test_list_that_only_the_command_refuses(text: str, tmp_path: pathlib.Path) -> None:
    write(tmp_path, _TREE, text + "\n")
    with pytest.raises(Refused):
        sent(tmp_path)
    assert "ab" in picked(tmp_path)
