# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of the program share: standard input and output of bytes, and the program as one file."""

from __future__ import annotations

import io
import pathlib
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._program import archive

UTILS = pathlib.Path(archive.__file__).parents[1]


def source(name: str) -> bytes | None:
    """Return a file of the code as it lies on disk."""
    path = UTILS / name
    return path.read_bytes() if path.is_file() else None


class Input(io.TextIOWrapper):
    """Standard input that is read as bytes."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))


def give(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    """Put bytes on standard input."""
    monkeypatch.setattr("sys.stdin", Input(data))


def built(folder: pathlib.Path, interpreter: str) -> str:
    """Write the program into a folder, and return its path."""
    path = folder / "hallmark.pyz"
    path.write_bytes(archive.build(t.cast(archive.Read, source), interpreter=interpreter))
    path.chmod(0o755)
    return str(path)
