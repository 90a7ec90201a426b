# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of telling which Python library is missing."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils import _libraries
from ansible_collections.hallmark.signing.plugins.module_utils._ansible import debugging, deps
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._ansible.fake_module import Ended, FakeModule

EMPTY = {"changed": False, "key_id": None}


def failed(action: t.Callable[[FakeModule], None]) -> dict[str, t.Any]:
    module = FakeModule()
    with pytest.raises(Ended):
        action(module)
    assert module.ended is not None
    assert module.ended[0] == "failed"
    return module.ended[1]


def test_libraries_that_are_there_are_no_matter() -> None:
    module = FakeModule()
    deps.require_libraries(module, "cryptography", "docker", "nacl", empty=EMPTY)
    deps.require_libraries(module, empty=EMPTY)
    deps.require_for_keys(module, empty=EMPTY)
    assert module.ended is None


@pytest.mark.parametrize(("library", "package"), [("docker", "docker"), ("nacl", "PyNaCl")])
def test_old_library_ends_the_task_with_all_keys(
    library: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(_libraries.FLOORS, library, "999.5")
    result = failed(lambda module: deps.require_libraries(module, "cryptography", library, empty=EMPTY))
    assert sorted(result) == ["changed", "key_id", "msg", "reasons"]
    assert result["msg"].startswith(f"Failed to import the required Python library ({package})")
    assert "older than 999.5" in result["msg"]
    assert f"Install {package} >= 999.5" in result["msg"]
    (reason,) = result["reasons"]
    assert (reason["code"], reason["object"], reason["signature"]) == ("library_missing", package, None)
    assert {name: result[name] for name in EMPTY} == EMPTY


def test_missing_library_ends_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_libraries.FLOORS, "no_such_library", "1")
    result = failed(lambda module: deps.require_libraries(module, "no_such_library", empty=EMPTY))
    assert result["reasons"][0]["code"] == "library_missing"
    assert "no_such_library" in result["msg"]


def test_first_missing_library_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_libraries.FLOORS, "docker", "999")
    monkeypatch.setitem(_libraries.FLOORS, "nacl", "999")
    result = failed(lambda module: deps.require_libraries(module, "docker", "nacl", empty=EMPTY))
    assert result["reasons"][0]["object"] == "docker"


def test_key_files_are_content_with_an_older_library(monkeypatch: pytest.MonkeyPatch) -> None:
    import cryptography

    monkeypatch.setattr(cryptography, "__version__", "38.0.4")
    module = FakeModule()
    deps.require_for_keys(module, empty=EMPTY)
    assert module.ended is None
    result = failed(lambda module: deps.require_libraries(module, "cryptography", empty=EMPTY))
    assert "38.0.4" in result["msg"]
    monkeypatch.setattr(cryptography, "__version__", "37.0.2")
    result = failed(lambda module: deps.require_for_keys(module, empty=EMPTY))
    assert "older than 38" in result["msg"]
    assert result["reasons"][0]["object"] == "cryptography"


# ANSIBLE_DEBUG -------------------------------------------------------------------------------------------------------


@pytest.fixture
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a new process."""
    monkeypatch.setattr(debugging, "_warned", set())


@pytest.mark.usefixtures("nothing_said")
def test_debug_is_warned_of_once() -> None:
    module = FakeModule(debug=True)
    deps.require_libraries(module, "cryptography", "docker", empty=EMPTY)
    deps.require_for_keys(module, empty=EMPTY)
    (warning,) = module.warnings
    assert warning.startswith("ANSIBLE_DEBUG is set")
    assert "whatever no_log says" in warning
    assert "replace secrets" in warning


@pytest.mark.usefixtures("nothing_said")
def test_debug_is_warned_of_also_where_a_library_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_libraries.FLOORS, "no_such_library", "1")
    module = FakeModule(debug=True)
    with pytest.raises(Ended):
        deps.require_libraries(module, "no_such_library", empty=EMPTY)
    assert len(module.warnings) == 1


@pytest.mark.usefixtures("nothing_said")
def test_nothing_is_warned_of_without_debug() -> None:
    module = FakeModule()
    deps.require_libraries(module, "cryptography", empty=EMPTY)
    deps.require_for_keys(module, empty=EMPTY)
    assert module.warnings == []
