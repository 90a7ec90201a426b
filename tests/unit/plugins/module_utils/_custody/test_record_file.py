# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are appended to, and believed; test_journal.py has what may stand in their place."""

from __future__ import annotations

import os
import pathlib
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._custody import record_file
from ansible_collections.hallmark.signing.plugins.module_utils._errors import CustodyError
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._custody import custody_bench as bench


def refused(code: str, action: t.Callable[[], t.Any], cause: str = "") -> CustodyError:
    with pytest.raises(CustodyError) as caught:
        action()
    assert (caught.value.code, cause in caught.value.cause) == (code, True)
    return caught.value


def put(path: pathlib.Path, mode: int = 0o600) -> None:
    path.write_bytes(b"bytes")
    path.chmod(mode)


def test_missing_file_is_not_read(home: pathlib.Path) -> None:
    for path in (home / "missing", home / "missing" / "deeper"):
        with record_file.open_readable(str(path)) as stream:
            assert stream is None
    assert os.listdir(home) == []


def test_file_is_read(home: pathlib.Path) -> None:
    put(home / "file", 0o644)
    with record_file.open_readable(str(home / "file")) as stream:
        assert stream is not None
        assert stream.read() == b"bytes"


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_file_that_others_can_write_is_not_read_or_appended_to(mode: int, home: pathlib.Path) -> None:
    put(home / "file")
    (home / "file").chmod(mode)

    def read() -> None:
        with record_file.open_readable(str(home / "file")):
            pytest.fail("it is open")

    def append() -> None:
        with record_file.open_appendable(str(home / "file"), mode=0o600):
            pytest.fail("it is open")

    for action in (read, append):
        assert refused("destination_unsafe", action).object == str(home / "file")


def test_failure_of_reading_is_told(home: pathlib.Path) -> None:
    put(home / "file")

    def read() -> None:
        with record_file.open_readable(str(home / "file")):
            raise OSError(5, "Input/output error")

    assert refused("write_failed", read, "Input/output error").object == str(home / "file")


@pytest.mark.parametrize("mode", [0o644, 0o600])
def test_file_is_made_and_appended_to(mode: int, home: pathlib.Path, umask: t.Callable[[int], int]) -> None:
    umask(0o077)
    for _time in range(2):
        with record_file.open_appendable(str(home / "deeper" / "file"), mode=mode) as stream:
            stream.seek(0, os.SEEK_END)
            stream.write(b"bytes")
    assert (home / "deeper" / "file").read_bytes() == b"bytesbytes"
    assert (home / "deeper" / "file").stat().st_mode & 0o777 == mode


def test_real_path_is_absolute_and_without_links(home: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "folder").mkdir(mode=0o700)
    (home / "way").symlink_to("folder")
    monkeypatch.chdir(home)
    for path in ("folder/x", "way/x", f"{home}/way/x", f"{home}//./way/./x", "./folder/x"):
        assert record_file.real_path(path) == str(home / "folder" / "x")
    assert record_file.real_path(f"{home}/missing/x") == str(home / "missing" / "x")
    # The file itself is looked at by others.
    (home / "x").symlink_to("folder")
    assert record_file.real_path("x") == str(home / "x")


@pytest.mark.parametrize("path", ["a/../b", "..", "a/..", "a/", "", "a\0b"])
def test_real_path_of_no_file_is_refused(path: str, home: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    refused("input_invalid", lambda: record_file.real_path(path))


@bench.needs_root
def test_real_path_follows_no_link_of_somebody_else(home: pathlib.Path) -> None:
    (home / "way").symlink_to(home)
    os.lchown(home / "way", bench.FOREIGN, bench.FOREIGN)
    refused("destination_unsafe", lambda: record_file.real_path(f"{home}/way/x"), "of another user")


def test_new_file_is_open_to_nobody_before_it_has_its_mode(
    home: pathlib.Path, umask: t.Callable[[int], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    umask(0)
    seen: list[int] = []
    genuine = os.fchmod
    monkeypatch.setattr(os, "fchmod", lambda fd, mode: (seen.append(os.fstat(fd).st_mode & 0o777), genuine(fd, mode)))
    with record_file.open_appendable(str(home / "file"), mode=0o644):
        pass
    assert seen == [0o600]
