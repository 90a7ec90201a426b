# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of module signing_program."""

from __future__ import annotations

import hashlib
import io
import os
import pathlib
import stat
import subprocess
import sys
import typing as t
import zipfile

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._program import archive
from ansible_collections.hallmark.signing.plugins.modules import signing_program

Run = t.Callable[..., t.Any]


@pytest.fixture
def dest(home: pathlib.Path) -> pathlib.Path:
    """Where the program will be."""
    return home / "lib" / "hallmark.pyz"


@pytest.fixture
def run(run_module: Run, dest: pathlib.Path) -> Run:
    """Runs the module."""

    def call(**options: t.Any) -> t.Any:
        given = {"dest": str(dest), "interpreter": sys.executable, **options}
        ended = run_module(signing_program, ["path", "sha256", "mode"], **given)
        assert ended.result.get("path", given["dest"]) == given["dest"]
        return ended

    return call


def _sha256(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_program_is_installed_once_and_runs(run: Run, dest: pathlib.Path) -> None:
    first = run()
    assert (first.failed, first.result["changed"], first.result["sha256"]) == (False, True, _sha256(dest))
    assert stat.S_IMODE(dest.stat().st_mode) == 0o755
    assert stat.S_IMODE(dest.parent.stat().st_mode) == 0o700
    before = dest.stat()
    again = run()
    assert (again.result["changed"], again.result["sha256"]) == (False, first.result["sha256"])
    assert (dest.stat().st_ino, dest.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    done = subprocess.run([dest], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr.partition(" ")[0]) == (2, "usage:")


def test_check_mode_writes_nothing_and_says_the_same(run: Run, dest: pathlib.Path) -> None:
    planned = run(check=True)
    assert (planned.result["changed"], dest.parent.exists()) == (True, False)
    done = run()
    assert [planned.result[name] for name in ("sha256", "mode")] == [done.result[name] for name in ("sha256", "mode")]
    assert done.result["mode"] == "0755"
    assert not run(check=True).result["changed"]
    assert run(check=True, state="absent").result["changed"]
    assert dest.exists()


def test_diff_shows_the_hash(run: Run, dest: pathlib.Path) -> None:
    sha256 = run(check=True).result["sha256"]
    header = {"before_header": str(dest), "after_header": str(dest)}
    assert run(diff=True).result["diff"] == {**header, "before": {}, "after": {"sha256": sha256}}
    assert run(diff=True).result["diff"] == {**header, "before": {"sha256": sha256}, "after": {"sha256": sha256}}
    removed = run(diff=True, state="absent").result["diff"]
    assert removed == {**header, "before": {"sha256": sha256}, "after": {}}


def test_program_of_another_version_or_interpreter_is_replaced(run: Run, dest: pathlib.Path) -> None:
    dest.parent.mkdir(mode=0o700)
    dest.write_bytes(archive.build({"_program/main.py": b"1\n"}.get, interpreter="/old"))
    former = _sha256(dest)
    ended = run(diff=True)
    assert (ended.failed, ended.result["changed"]) == (False, True)
    assert ended.result["diff"]["before"] == {"sha256": former}
    other = run(interpreter="/usr/bin/python3")
    assert other.result["changed"]
    assert other.result["sha256"] != ended.result["sha256"]
    assert dest.read_bytes().startswith(b"#!/usr/bin/python3 -I\n")


def test_mode_is_mended(run: Run, dest: pathlib.Path) -> None:
    run()
    dest.chmod(0o700)
    assert run(check=True).result["changed"]
    assert run().result["changed"]
    assert stat.S_IMODE(dest.stat().st_mode) == 0o755
    assert not run().result["changed"]


def test_program_is_removed(run: Run, dest: pathlib.Path) -> None:
    run()
    ended = run(state="absent")
    assert (ended.failed, ended.result["changed"], ended.result["sha256"]) == (False, True, None)
    assert ended.result["mode"] is None
    assert not dest.exists()
    assert not run(state="absent").result["changed"]


@pytest.mark.parametrize("state", ["present", "absent"])
@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\necho precious\n", b"\x7fELF"])
def test_file_that_is_something_else_is_left_alone(
    run: Run, dest: pathlib.Path, content: bytes, state: str
) -> None:
    dest.parent.mkdir(mode=0o700)
    dest.write_bytes(content)
    for check in (True, False):
        ended = run(state=state, check=check)
        assert (ended.failed, ended.codes, ended.result["changed"]) == (True, ["destination_occupied"], False)
    assert dest.read_bytes() == content


def test_link_and_open_folder_are_refused(run: Run, dest: pathlib.Path, home: pathlib.Path) -> None:
    dest.parent.mkdir(mode=0o700)
    (home / "elsewhere").write_bytes(archive.build({"_program/main.py": b"1\n"}.get, interpreter="/old"))
    dest.symlink_to(home / "elsewhere")
    assert run().codes == run(state="absent").codes == ["destination_unsafe"]
    dest.unlink()
    os.chmod(dest.parent, 0o777)
    assert run().codes == ["destination_unsafe"]
    assert list(dest.parent.iterdir()) == []


def test_program_holds_the_code_of_this_collection(run: Run, dest: pathlib.Path) -> None:
    run()
    utils = pathlib.Path(archive.__file__).parents[1]
    with zipfile.ZipFile(io.BytesIO(dest.read_bytes())) as opened:
        for name in ("_program/plugin.py", "_keyhost/claim.py", "_errors.py"):
            assert opened.read(f"{archive.PACKAGE}/{name}") == (utils / name).read_bytes()


def test_missing_source_is_told(run: Run, dest: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_START", "_program/missing.py")
    ended = run()
    assert (ended.failed, ended.codes, ended.result["sha256"], dest.exists()) == (True, ["not_found"], None, False)
