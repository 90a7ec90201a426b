# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of how the program is made: of the files it needs, the same bytes each time, from folders and archives."""

from __future__ import annotations

import ast
import io
import pathlib
import subprocess
import sys
import typing as t
import zipfile
import zipimport

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import CustodyError
from ansible_collections.hallmark.signing.plugins.module_utils._program import archive
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._program.program_bench import (
    UTILS,
    built,
    source,
)

FLOOR = (3, 9)


@pytest.fixture(scope="module")
def program() -> bytes:
    return archive.build(t.cast(archive.Read, source), interpreter="/usr/bin/python3")


def _files(program: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(program)) as opened:
        assert opened.testzip() is None
        return {name: opened.read(name) for name in opened.namelist()}


def _own(program: bytes) -> dict[str, bytes]:
    """Return the files of the collection by their path below the utilities."""
    prefix = f"{archive.PACKAGE}/"
    files = {name[len(prefix):]: data for name, data in _files(program).items() if name.startswith(prefix)}
    return {name: data for name, data in files.items() if not name.endswith("__init__.py")}


def test_same_code_makes_the_same_bytes(program: bytes) -> None:
    assert archive.build(t.cast(archive.Read, source), interpreter="/usr/bin/python3") == program
    other = archive.build(t.cast(archive.Read, source), interpreter="/opt/venv/bin/python")
    assert other.startswith(b"#!/opt/venv/bin/python -I\nPK")
    assert _files(other) == _files(program)


def test_first_line_names_the_interpreter_in_isolated_mode(program: bytes) -> None:
    assert program.startswith(b"#!/usr/bin/python3 -I\nPK")


def test_archive_is_sound(program: bytes, tmp_path: pathlib.Path) -> None:
    with zipfile.ZipFile(io.BytesIO(program)) as opened:
        names = [entry.filename for entry in opened.infolist()]
        assert {entry.date_time for entry in opened.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        # Its offsets count from the first byte of the file, as readers expect that do not search.
        assert opened.infolist()[0].header_offset == program.index(b"PK")
    assert len(names) == len(set(names))
    assert names == sorted(names)


def test_files_are_those_of_the_collection(program: bytes) -> None:
    own = _own(program)
    assert {name: source(name) for name in own} == own
    others = {name for name in _files(program) if not name.startswith(f"{archive.PACKAGE}/")}
    assert others == {"__main__.py"}
    assert {data for name, data in _files(program).items() if name.endswith("__init__.py")} == {b""}


def test_each_folder_is_a_package(program: bytes) -> None:
    names = set(_files(program))
    folders = {str(parent) for name in names for parent in pathlib.PurePath(name).parents} - {"."}
    assert {f"{folder}/__init__.py" for folder in folders} <= names


def _imports(data: bytes) -> t.Iterator[ast.ImportFrom | ast.Import]:
    for node in ast.walk(ast.parse(data)):
        if isinstance(node, (ast.ImportFrom, ast.Import)):
            yield node


def test_nothing_is_missing_and_nothing_is_too_much(program: bytes) -> None:
    own = _own(program)
    reached, todo = set(), ["_program/main.py"]
    while todo:
        name = todo.pop()
        reached.add(name)
        for node in _imports(own[name]):
            if isinstance(node, ast.ImportFrom) and node.level:
                base = UTILS.joinpath(name).parents[node.level - 1].joinpath(*(node.module or "").split("."))
                below = [base / f"{alias.name}.py" for alias in node.names]
                for one in below if base.is_dir() else [base.with_suffix(".py")]:
                    assert one.is_file(), f"{name}, line {node.lineno}"
                    found = str(one.relative_to(UTILS))
                    todo += [found] if found not in reached else []
    assert reached == set(own)


def test_program_knows_no_ansible(program: bytes) -> None:
    for name, data in _own(program).items():
        assert not name.startswith(("_ansible/", "_docker/", "_transparency/", "_trust/"))
        for node in _imports(data):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            assert not [one for one in modules if one.partition(".")[0].startswith("ansible")], name
    # What it is made for, and what it is not.
    wanted = {"_program/plugin.py", "_program/serve.py", "_keyhost/claim.py", "_keys/signers/uri.py"}
    assert wanted <= set(_own(program))
    assert not {"_oci/registry.py", "_oci/transport.py", "_signing/sign.py"} & set(_own(program))


def test_program_is_written_for_the_oldest_python(program: bytes) -> None:
    for name, data in _files(program).items():
        tree = ast.parse(data, name, feature_version=FLOOR)
        assert not data or name == "__main__.py" or b"from __future__ import annotations" in data, name
        # Statements and modules that came later.
        assert not [node for node in ast.walk(tree) if type(node).__name__ in ("Match", "TryStar", "TypeAlias")], name
        names = {alias.name for node in _imports(data) for alias in node.names}
        assert not names & {"tomllib", "pairwise", "Self", "StrEnum", "TypeAlias", "batched", "override"}, name


def test_plugin_and_relay_want_the_standard_library_only(program: bytes) -> None:
    own = _own(program)
    for name in ("_program/plugin.py", "_program/relay.py"):
        for node in _imports(own[name]):
            assert not (isinstance(node, ast.ImportFrom) and node.level), f"{name}, line {node.lineno}"
    start = own["_program/main.py"]
    outside = [node for node in ast.parse(start).body if isinstance(node, ast.ImportFrom) and node.level]
    assert outside == []


def test_program_runs(tmp_path: pathlib.Path) -> None:
    path = built(tmp_path, sys.executable)
    done = subprocess.run([path], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: hallmark plugin")
    # All of it can be loaded, from the archive.
    script = "import sys; sys.path.insert(0, sys.argv[1]); import hallmark_signing._program." + (
        "serve, hallmark_signing._program.plugin, hallmark_signing._program.relay, hallmark_signing._program.keeping; "
        "import hallmark_signing._program.certbot; "
        "from hallmark_signing._keys.signers import file, uri; print(file.__file__)"
    )
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.strip() == f"{path}/hallmark_signing/_keys/signers/file.py", done.stderr


def test_code_is_read_from_an_archive_too(program: bytes, tmp_path: pathlib.Path) -> None:
    # As Ansible sends it.
    prefix = "ansible_collections/hallmark/signing/plugins/module_utils"
    sent = tmp_path / "sent.zip"
    with zipfile.ZipFile(sent, "w") as opened:
        for path in UTILS.rglob("*.py"):
            opened.writestr(f"{prefix}/{path.relative_to(UTILS)}", path.read_bytes())
    loader = zipimport.zipimporter(str(sent))

    def read(name: str) -> bytes | None:
        try:
            return loader.get_data(f"{sent}/{prefix}/{name}")
        except OSError:
            return None

    assert archive.build(read, interpreter="/usr/bin/python3") == program


def test_missing_source_is_told() -> None:
    with pytest.raises(CustodyError) as caught:
        archive.build(lambda _name: None, interpreter="/usr/bin/python3")
    assert caught.value.code == "not_found"


def test_imports_of_all_kinds_are_followed() -> None:
    sources = {
        "_program/main.py": b"from . import one\nfrom .two import name\nfrom .. import _three\nimport os\n"
        b"def f():\n    from .._x.y import four\n    from ..._outside import five\n",
        "_program/one.py": b"", "_program/two.py": b"from .one import anything\n", "_three.py": b"",
        "_x/y/four.py": b"",
        "_program/unused.py": b"", "os.py": b"",
    }
    made = archive.build(sources.get, interpreter="python")
    assert set(_own(made)) == {"_program/main.py", "_program/one.py", "_program/two.py", "_three.py", "_x/y/four.py"}


# Whose file it is ----------------------------------------------------------------------------------------------------


def test_program_of_any_version_is_recognised(program: bytes) -> None:
    assert archive.is_program(program)
    older = archive.build({"_program/main.py": b"1\n"}.get, interpreter="/old")
    assert archive.is_program(older)


def _zip(*names: str, first: bytes = b"#!/usr/bin/python3\n") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        for name in names:
            opened.writestr(name, "")
    return first + buffer.getvalue()


@pytest.mark.parametrize("data", [
    b"", b"#!", b"#!/bin/sh\necho\n", b"\0" * 100, _zip(), _zip("__main__.py"), _zip("other/_program/main.py"),
    _zip(f"{archive.PACKAGE}/_program/main.py", first=b""), b"#!/usr/bin/python3\nPK\x05\x06" + b"\xff" * 18,
    b"#!/usr/bin/python3\nPK\x03\x04",
])
def test_anything_else_is_not(data: bytes) -> None:
    assert not archive.is_program(data)
    assert not archive.is_program(_zip(f"{archive.PACKAGE}/_program/main.py")[:-1])
