# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Making the program: a zip archive that Python runs, of exactly the files that are needed, the same bytes each time.

The sources are those that this very code was loaded from, so that program and modules are of one version.
Format: PEP 441.
"""

from __future__ import annotations

import ast
import io
import typing as t
import zipfile

from .._errors import CustodyError

PACKAGE = "hallmark_signing"
_START = "_program/main.py"
_MAIN = f"import sys\n\nfrom {PACKAGE}._program.main import main\n\nsys.exit(main(sys.argv))\n"
# The first moment that a zip archive can name.
_EPOCH = (1980, 1, 1, 0, 0, 0)
Read = t.Callable[[str], t.Optional[bytes]]


def build(read: Read, *, interpreter: str) -> bytes:
    """Return the archive. C(read) returns a file by its path below the utilities, or None if there is none.

    Raises CustodyError (not_found) if the program itself is not there.
    """
    files = {f"{PACKAGE}/{name}": data for name, data in _needed(read).items()}
    # Folders without this file are packages on disk, but not in an archive.
    packages = {f"{path.rpartition('/')[0]}/__init__.py": b"" for path in [f"{PACKAGE}/", *files]}
    buffer = io.BytesIO()
    buffer.write(f"#!{interpreter} -I\n".encode())
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in sorted({"__main__.py": _MAIN.encode(), **packages, **files}.items()):
            archive.writestr(zipfile.ZipInfo(path, _EPOCH), data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def is_program(data: bytes) -> bool:
    """Say whether a file is a program of ours, of any version."""
    if not data.startswith(b"#!"):
        return False
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return f"{PACKAGE}/{_START}" in archive.namelist()
    except (zipfile.BadZipFile, ValueError, OSError):
        return False


def _needed(read: Read) -> dict[str, bytes]:
    """Return the program's files: what it imports, wherever the statement stands, and what that imports."""
    found: dict[str, bytes] = {}
    todo = [_START]
    while todo:
        name = todo.pop()
        if name in found:
            continue
        data = read(name)
        if data is None:
            if name == _START:
                raise CustodyError(
                    code="not_found", object=name, attempt="build the program",
                    cause="its source is not where this code is",
                    advice="Run it by ansible-playbook, from the installed collection.",
                )
            continue
        found[name] = data
        todo += _imported(name, data)
    return found


def _imported(name: str, data: bytes) -> t.Iterator[str]:
    """Yield the names that relative imports may mean: a module, or a name in one."""
    for node in ast.walk(ast.parse(data)):
        if isinstance(node, ast.ImportFrom) and node.level:
            folder = name.split("/")[:-node.level]
            base = "/".join([*folder, *(node.module.split(".") if node.module else [])])
            if node.module:
                yield f"{base}.py"
            for alias in node.names:
                yield f"{base}/{alias.name}.py" if base else f"{alias.name}.py"
