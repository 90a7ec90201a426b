# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of passphrases on their way to the domain."""

from __future__ import annotations

import importlib
import pathlib
import sys
import types
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._ansible import secrets
from ansible_collections.hallmark.signing.plugins.module_utils._errors import KeyFileError


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was registered as a secret."""
    found: list[str] = []
    monkeypatch.setattr(secrets, "register_secret", found.append)
    return found


def from_file(data: bytes, folder: pathlib.Path, prefix: str = "") -> bytes | None:
    (folder / "passphrase").write_bytes(data)
    params = {f"{prefix}passphrase": None, f"{prefix}passphrase_path": str(folder / "passphrase")}
    return secrets.passphrase(params, prefix)


@pytest.mark.parametrize("prefix", ["", "source_"])
def test_option_is_the_passphrase(prefix: str) -> None:
    for text in ("canary", "", "ä\n", "  x "):
        params = {f"{prefix}passphrase": text, f"{prefix}passphrase_path": None}
        assert secrets.passphrase(params, prefix) == text.encode()


def test_other_prefix_does_not_count(tmp_path: pathlib.Path) -> None:
    params = {"passphrase": "x", "passphrase_path": None, "source_passphrase": None, "source_passphrase_path": None}
    assert secrets.passphrase(params, "source_") is None
    assert secrets.passphrase(params) == b"x"


@pytest.mark.parametrize("params", [{}, {"passphrase": None, "passphrase_path": None}])
def test_no_passphrase_is_none(params: dict[str, t.Any]) -> None:
    assert secrets.passphrase(params) is None


@pytest.mark.parametrize("prefix", ["", "source_"])
@pytest.mark.parametrize(
    ("data", "passphrase"),
    [
        (b"canary", b"canary"), (b"canary\n", b"canary"), (b"canary\n\n", b"canary\n"), (b" canary ", b" canary "),
        (b"canary\r\n", b"canary\r"), ("ä\n".encode(), "ä".encode()), (b"a\nb\n", b"a\nb"),
    ],
)
def test_file_is_the_passphrase_but_for_one_newline(
    prefix: str, data: bytes, passphrase: bytes, tmp_path: pathlib.Path, registered: list[str]
) -> None:
    assert from_file(data, tmp_path, prefix) == passphrase
    assert registered == [passphrase.decode()]


@pytest.mark.parametrize("data", [b"", b"\n"])
def test_empty_file_is_the_empty_passphrase(data: bytes, tmp_path: pathlib.Path, registered: list[str]) -> None:
    assert from_file(data, tmp_path) == b""
    # Masking the empty text would mask everything.
    assert registered == []


def test_missing_file_is_an_error(tmp_path: pathlib.Path) -> None:
    with pytest.raises(KeyFileError) as caught:
        secrets.passphrase({"passphrase_path": str(tmp_path / "missing")})
    assert (caught.value.code, caught.value.object) == ("not_found", str(tmp_path / "missing"))


def test_other_than_text_is_an_error(tmp_path: pathlib.Path, assert_hides: t.Callable[..., None]) -> None:
    with pytest.raises(KeyFileError) as caught:
        from_file(b"canary \xff", tmp_path)
    assert (caught.value.code, caught.value.object) == ("malformed", str(tmp_path / "passphrase"))
    # UnicodeDecodeError carries all of the file, also where "from None" hides it from a traceback.
    assert_hides(caught.value, b"canary")
    assert caught.value.__context__ is None


@pytest.fixture
def reload(monkeypatch: pytest.MonkeyPatch) -> t.Iterator[t.Callable[[t.Any], t.Any]]:
    """Loads secrets again with another ansible.module_utils.secrets; None is none."""

    def load(module: t.Any) -> t.Any:
        monkeypatch.setitem(sys.modules, "ansible.module_utils.secrets", module)
        return importlib.reload(secrets)

    yield load
    monkeypatch.undo()
    importlib.reload(secrets)


def test_secrets_are_registered_where_ansible_can(
    reload: t.Callable[[t.Any], t.Any], tmp_path: pathlib.Path
) -> None:
    found: list[str] = []
    newer: t.Any = types.ModuleType("ansible.module_utils.secrets")
    newer.register_secret = found.append
    loaded = reload(newer)
    (tmp_path / "passphrase").write_bytes(b"canary\n")
    assert loaded.passphrase({"passphrase_path": str(tmp_path / "passphrase")}) == b"canary"
    assert found == ["canary"]


def test_older_ansible_registers_nothing(reload: t.Callable[[t.Any], t.Any]) -> None:
    loaded = reload(None)
    assert loaded.register_secret("canary") is None
    assert loaded.passphrase({"passphrase": "canary"}) == b"canary"
