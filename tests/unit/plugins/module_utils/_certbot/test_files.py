# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the files of a Certbot host."""

from __future__ import annotations

import os
import pathlib
import threading
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._certbot import files
from ansible_collections.hallmark.signing.plugins.module_utils._errors import CertbotError, CustodyError


def test_file_that_is_missing_says_nothing(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "f")
    assert files.read(path) is None
    assert files.digest(path) == ""
    assert files.read_json(path) == {}
    assert files.stems(path, ".x") == set()


def test_files_are_found_by_their_end(tmp_path: pathlib.Path) -> None:
    for name in ("a.settings", "b.c.settings", "a.status"):
        (tmp_path / name).touch()
    assert files.stems(str(tmp_path), ".settings") == {"a", "b.c"}


def test_what_cannot_be_read_is_named(tmp_path: pathlib.Path) -> None:
    (tmp_path / "f").write_bytes(b"0" * (files.MAX_SIZE + 1))
    with pytest.raises(CertbotError, match=r"/f: could not read the file: it is larger than 1048576 bytes\.") as caught:
        files.read(str(tmp_path / "f"))
    assert caught.value.code == "malformed"
    with pytest.raises(CertbotError, match="Is a directory") as caught:
        files.read(str(tmp_path))
    assert caught.value.code == "not_found"


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"1", b"\xff", b"[" * 100000])
def test_what_is_no_json_object_is_named(tmp_path: pathlib.Path, data: bytes) -> None:
    (tmp_path / "f").write_bytes(data)
    with pytest.raises(CertbotError, match=r"/f: could not read the file: .*Move it away, and run again\.") as caught:
        files.read_json(str(tmp_path / "f"))
    assert caught.value.code == "malformed"


def test_names_that_are_no_text_are_kept(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "f")
    files.keep_json(path, {"hook": "/a/\udce4"})
    assert files.read_json(path) == {"hook": "/a/\udce4"}


def write(path: str, data: bytes) -> None:
    """Write into the state folder."""
    files.keep_json(path, {"data": data.decode()})


@pytest.mark.parametrize("written", [files.write, write])
def test_readers_never_see_half_a_file(tmp_path: pathlib.Path, written: t.Callable[[str, bytes], None]) -> None:
    path, seen, end = tmp_path / "f", set(), threading.Event()
    written(str(path), b"a" * 5000)
    first = path.read_bytes()

    def look() -> None:
        while not end.is_set():
            seen.add(path.read_bytes())

    watching = threading.Thread(target=look)
    watching.start()
    for number in range(100):
        written(str(path), (b"b" if number % 2 else b"a") * 5000)
    end.set()
    watching.join()
    assert seen <= {first, path.read_bytes()}
    assert len(first) >= 5000
    assert oct(path.stat().st_mode & 0o777) == "0o644"
    assert [one.name for one in tmp_path.iterdir()] == ["f"]


def test_nothing_is_left_where_nothing_can_be_written(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "f").write_text("former")

    def refuse(*_arguments: t.Any, **_options: t.Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space"):
        files.write(str(tmp_path / "f"), b"new")
    with pytest.raises(CustodyError, match="No space"):
        files.keep_json(str(tmp_path / "f"), {})
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("f", "former")]


def test_metrics_may_lie_where_others_write_and_state_may_not(tmp_path: pathlib.Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    files.write(str(shared / "f"), b"1\n")
    assert (shared / "f").read_bytes() == b"1\n"
    with pytest.raises(CustodyError) as caught:
        files.keep_json(str(shared / "g"), {})
    assert caught.value.code == "destination_unsafe"
    assert not (shared / "g").exists()
