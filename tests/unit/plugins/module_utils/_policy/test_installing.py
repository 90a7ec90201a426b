# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Installing files: large ones, folders that others could change, and taking back what failed."""

from __future__ import annotations

import os
import pathlib

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._custody import private_file
from ansible_collections.hallmark.signing.plugins.module_utils._errors import CustodyError, FormatError
from ansible_collections.hallmark.signing.plugins.module_utils._policy import installing
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._policy import policy_bench as bench

LARGE = "x" * (3 * 1024 * 1024)


@pytest.fixture
def dest(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder in one that only this user can change."""
    (tmp_path / "home").mkdir(mode=0o700)
    return tmp_path / "home" / "enforcer"


def install(dest: pathlib.Path, *, version: int = 1, **files: str) -> installing.Installation:
    return installing.install(
        files, bench.policy(version=version), enforcer="containers", dest=str(dest), dry_run=False
    )


def test_large_files_are_installed_once(dest: pathlib.Path) -> None:
    first = install(dest, large=LARGE)
    assert first.changed
    assert (dest / "large").read_text() == LARGE
    again = install(dest, large=LARGE)
    assert (again.changed, again.effective_hash) == (False, first.effective_hash)


def test_what_failed_is_taken_back_though_it_is_large(dest: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create = private_file.PrivateFolder.create

    def broken(folder: private_file.PrivateFolder, name: str, data: bytes, wanted: private_file.Attributes) -> None:
        if name == "second":
            raise CustodyError(
                code="write_failed", object=name, attempt="write it", cause="No space left", advice="Make room."
            )
        create(folder, name, data, wanted)

    monkeypatch.setattr(private_file.PrivateFolder, "create", broken)
    with pytest.raises(CustodyError, match="No space left"):
        install(dest, first=LARGE, second="y")
    assert list(dest.iterdir()) == []


def test_a_folder_that_others_may_write_is_refused(dest: pathlib.Path) -> None:
    dest.mkdir()
    dest.chmod(0o777)
    with pytest.raises(CustodyError) as caught:
        install(dest, policy="x")
    assert caught.value.code == "destination_unsafe"
    assert os.listdir(dest) == []


def test_a_folder_that_cannot_be_made_is_told(dest: pathlib.Path) -> None:
    dest.write_text("a file")
    with pytest.raises(CustodyError) as caught:
        install(dest, **{"below/policy": "x"})
    assert (caught.value.code, dest.read_text()) in (("write_failed", "a file"), ("destination_unsafe", "a file"))


@pytest.mark.parametrize("record", ["", "[]", "{}", '{"policy_version": "1", "policy_hash": "x"}'])
def test_a_record_that_cannot_be_read_is_told(dest: pathlib.Path, record: str) -> None:
    install(dest, policy="x")
    (dest.parent / f"{dest.name}{installing.RECORD}").write_text(record)
    with pytest.raises(FormatError) as caught:
        install(dest, policy="y", version=2)
    assert installing.RECORD in str(caught.value)
    assert (dest / "policy").read_text() == "x"


def test_the_hash_is_of_names_and_contents() -> None:
    one = installing.hash_of({"a": b"1", "b": b"2"})
    assert one == installing.hash_of({"b": b"2", "a": b"1"})
    assert len({one, installing.hash_of({"a": b"2", "b": b"1"}), installing.hash_of({"a": b"1"}),
                installing.hash_of({"a": b"1", "c": b"2"})}) == 4


def test_a_folder_for_which_there_is_no_room_is_told(dest: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(installing.os, "mkdir", full)
    with pytest.raises(CustodyError) as caught:
        install(dest, first="x")
    found = caught.value
    assert (found.code, found.attempt, found.cause) == ("write_failed", "make the folder", "No space left on device")
