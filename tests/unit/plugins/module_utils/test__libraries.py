# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the guard for third-party imports."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils import _libraries
from ansible_collections.hallmark.signing.plugins.module_utils._errors import LibraryError

PACKAGE = "ansible_collections.hallmark.signing.plugins.module_utils"
GUARDED = (
    "_libraries", "_keys.pem", "_keys.encrypted_key", "_keys.algorithms", "_keys.fingerprint", "_keys.certificate",
    "_keys.signers.file", "_keys.signers.protocol", "_transparency.timestamp",
)
# What stands in for each library: it is found before the real one.
Install = t.Callable[[str, str], pathlib.Path]


@pytest.fixture
def install(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    def write(name: str, text: str) -> pathlib.Path:
        path = tmp_path / f"{name}.py"
        path.write_text(text, encoding="utf-8")
        # Remembered first, so that what the test imports is forgotten after it.
        monkeypatch.setitem(sys.modules, name, sys)
        monkeypatch.delitem(sys.modules, name)
        monkeypatch.syspath_prepend(str(tmp_path))
        return path

    return write


@pytest.mark.parametrize("library", _libraries.FLOORS)
def test_libraries_of_the_unit_tests_are_new_enough(library: str) -> None:
    pytest.importorskip(library)
    _libraries.require(library)


@pytest.mark.parametrize(
    ("version", "floor"),
    [
        ("2", "2"), ("2.0", "2"), ("2.0.1", "2"), ("3", "2"), ("10.0", "9"), ("7.1", "7.1"), ("7.1.0", "7.1"),
        ("7.10", "7.2"), ("42.0.0.dev1", "42"), ("42.0.8+deb12u1", "42"), ("38.0.4-3", "38"), ("8.0rc1", "7.1"),
    ],
)
def test_floor_and_newer_are_taken(install: Install, version: str, floor: str) -> None:
    install("hallmark_stand_in", f"__version__ = {version!r}\n")
    _libraries.require("hallmark_stand_in", floor=floor)


@pytest.mark.parametrize(
    ("version", "floor"),
    [
        ("1.9.9", "2"), ("7.0.9", "7.1"), ("7", "7.1"), ("9.0", "10"), ("41.0.7", "42"), ("", "1"), ("unknown", "1"),
        ("rc2", "1"), ("7.dev2", "7.1"),
        # Digits behind "rc" are no part of the number before it: 7.0rc1 once read as 7.01 and 41.9b2 as 41.92.
        pytest.param(
            "7.0rc1", "7.1"),
        pytest.param(
            "1.0b99", "1.1"),
    ],
)
def test_older_is_refused_with_version_and_place(install: Install, version: str, floor: str) -> None:
    path = install("hallmark_stand_in", f"__version__ = {version!r}\n")
    with pytest.raises(LibraryError) as caught:
        _libraries.require("hallmark_stand_in", floor=floor)
    assert caught.value.code == "library_missing"
    assert caught.value.cause == f"version {version} in {path} is older than {floor}"
    assert f"Install hallmark_stand_in >= {floor} " in caught.value.advice


def test_library_without_version_is_refused(install: Install) -> None:
    install("hallmark_stand_in", "")
    with pytest.raises(LibraryError, match=r"version 0 in .* is older than 1"):
        _libraries.require("hallmark_stand_in", floor="1")


# rfc3161-client is of that kind.
def test_version_may_be_known_to_the_installer_only(install: Install, tmp_path: pathlib.Path) -> None:
    install("hallmark_stand_in", "")
    (tmp_path / "hallmark_stand_in-1.9.dist-info").mkdir()
    (tmp_path / "hallmark_stand_in-1.9.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: hallmark-stand-in\nVersion: 1.9\n"
    )
    _libraries.require("hallmark_stand_in", floor="1.9")
    with pytest.raises(LibraryError, match=r"version 1\.9 in .* is older than 2"):
        _libraries.require("hallmark_stand_in", floor="2")


def test_version_of_the_library_itself_counts_first(install: Install, tmp_path: pathlib.Path) -> None:
    install("hallmark_stand_in", "__version__ = '3'\n")
    (tmp_path / "hallmark_stand_in-1.9.dist-info").mkdir()
    (tmp_path / "hallmark_stand_in-1.9.dist-info" / "METADATA").write_text("Name: hallmark-stand-in\nVersion: 1.9\n")
    _libraries.require("hallmark_stand_in", floor="3")


def test_library_without_place_is_refused(install: Install) -> None:
    install("hallmark_stand_in", "__version__ = '1'\ndel __file__\n")
    with pytest.raises(LibraryError, match="version 1 in an unknown place is older than 2"):
        _libraries.require("hallmark_stand_in", floor="2")


@pytest.mark.parametrize("text", ["import hallmark_nowhere\n", "raise ImportError('broken build')\n"])
def test_library_that_cannot_be_imported_is_missing(install: Install, text: str) -> None:
    install("hallmark_stand_in", text)
    with pytest.raises(LibraryError, match="could not import it") as caught:
        _libraries.require("hallmark_stand_in", floor="2")
    assert caught.value.code == "library_missing"
    assert isinstance(caught.value.__cause__, ImportError)
    assert str(caught.value.__cause__) == caught.value.cause


@pytest.mark.parametrize(
    ("library", "package", "older"),
    [
        ("cryptography", "cryptography", "41.9"), ("docker", "docker", "7.0.0"),
        ("nacl", "PyNaCl", "1.4.0"), ("rfc3161_client", "rfc3161-client", "1.0.8"),
    ],
)
def test_own_floor_is_the_default_and_the_package_is_named(
    install: Install, library: str, package: str, older: str
) -> None:
    install(library, f"__version__ = {older!r}\n")
    with pytest.raises(LibraryError) as caught:
        _libraries.require(library)
    assert caught.value.object == package
    assert caught.value.advice.startswith(f"Install {package} >= {_libraries.FLOORS[library]} ")


def test_given_floor_replaces_the_default(install: Install) -> None:
    install("cryptography", "__version__ = '38.0.4'\n")
    _libraries.require("cryptography", floor=_libraries.KEYS_CRYPTOGRAPHY_FLOOR)


def test_optional_hides_missing_imports_only() -> None:
    with _libraries.optional():
        import hallmark_nowhere  # type: ignore  # noqa: F401
    with pytest.raises(ValueError, match="invalid literal"), _libraries.optional():
        int("x")


@pytest.mark.parametrize("module", GUARDED)
def test_module_is_importable_without_third_party_libraries(module: str) -> None:
    root = pathlib.Path(_libraries.__file__).parents[5]
    hide = "for name in ('cryptography', 'nacl', 'rfc3161_client'): sys.modules[name] = None"
    code = f"import sys\n{hide}\nimport {PACKAGE}.{module}\n"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(root)})
