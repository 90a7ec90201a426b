# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the pointer that a host with a key obeys."""

from __future__ import annotations

import json
import pathlib
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import FormatError, KeyFileError
from ansible_collections.hallmark.signing.plugins.module_utils._keys import pointer

MINE, OTHER = "a" * 64, "b" * 64


def written(folder: pathlib.Path, **members: t.Any) -> str:
    path = folder / "release.pointer.json"
    path.write_text(json.dumps({"generation": 2, "key_id": MINE, "fence": 3, "suspended": False, **members}))
    return str(path)


def test_key_that_it_names_signs(tmp_path: pathlib.Path) -> None:
    pointer.require(written(tmp_path), MINE)


@pytest.mark.parametrize(("members", "said"), [
    ({"key_id": OTHER}, f"pointer 3 names {OTHER}, and this one is {MINE}"),
    ({"key_id": None}, f"pointer 3 names no key, and this one is {MINE}"),
    ({"suspended": True}, "pointer 3 says that its identity does not sign for now"),
    ({"suspended": None}, "pointer 3 says that its identity does not sign for now"),
])
def test_any_other_is_refused(tmp_path: pathlib.Path, members: dict[str, t.Any], said: str) -> None:
    with pytest.raises(KeyFileError) as caught:
        pointer.require(written(tmp_path, **members), MINE)
    assert (caught.value.code, caught.value.cause) == ("key_fenced", said)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"key_id": 1, "fence": 1, "suspended": false}', '{"key_id": "a"}'])
def test_what_is_no_pointer_is_refused(tmp_path: pathlib.Path, text: str) -> None:
    path = tmp_path / "release.pointer.json"
    path.write_text(text)
    with pytest.raises(FormatError) as caught:
        pointer.require(str(path), MINE)
    assert caught.value.code == "malformed"


def test_missing_one_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(KeyFileError) as caught:
        pointer.require(str(tmp_path / "none"), MINE)
    assert caught.value.code == "not_found"
