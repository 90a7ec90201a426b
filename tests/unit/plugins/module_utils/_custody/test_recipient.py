# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Encrypting a copy to its recipient with the program age; the real one is asked by tests/interop."""

from __future__ import annotations

import os
import pathlib
import subprocess
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._custody import recipient
from ansible_collections.hallmark.signing.plugins.module_utils._errors import CustodyError

TO = "age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq3290gq"
SECRET = b"canary key"


@pytest.fixture
def program(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> t.Callable[[str], pathlib.Path]:
    """Makes a program age that does what is said."""

    def make(does: str) -> pathlib.Path:
        path = tmp_path / "bin" / "age"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{does}\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}/usr/bin{os.pathsep}/bin")
        return path

    return make


def refused(code: str, action: t.Callable[[], t.Any], cause: str = "") -> None:
    with pytest.raises(CustodyError) as caught:
        action()
    assert (caught.value.code, cause in caught.value.cause) == (code, True), str(caught.value)
    links: list[t.Any] = [caught.value]
    for link in links:
        assert "canary" not in f"{link} {link!r} {vars(link)!r}"
        links += [more for more in (link.__cause__, link.__context__) if more is not None]


@pytest.mark.parametrize("text", [
    "", "age", "age1", f"{TO}\n", f" {TO}", TO.upper(), "-h", "--recipient", "AGE-SECRET-KEY-1QQQ", "ssh-ed25519 AAAA",
    f"{TO} {TO}",
    "age1" + "q" * 5000, "age1é", "/etc/passwd",
])
def test_what_is_no_recipient_is_refused(text: str, program: t.Callable[[str], pathlib.Path]) -> None:
    program("exit 0")
    refused("input_invalid", lambda: recipient.require(text))
    refused("input_invalid", lambda: recipient.encrypt(SECRET, text))


def test_missing_program_is_told(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    refused("not_found", lambda: recipient.require(TO), "not installed")


def test_key_goes_by_standard_input_only(program: t.Callable[[str], pathlib.Path], tmp_path: pathlib.Path) -> None:
    path = program(f"""
        printf '%s\\n' "$@" >{tmp_path}/arguments; env >{tmp_path}/environment; cat >{tmp_path}/given
        echo '{recipient.BEGIN.decode()}'
    """)
    assert recipient.require(TO) == str(path)
    assert recipient.encrypt(SECRET, TO) == recipient.BEGIN + b"\n"
    assert (tmp_path / "given").read_bytes() == SECRET
    assert (tmp_path / "arguments").read_text().splitlines() == ["--armor", "--recipient", TO]
    assert "canary" not in (tmp_path / "environment").read_text()


@pytest.mark.parametrize(("does", "cause"), [
    ("cat >&2; exit 3", "it ended with status 3"), ("cat", "it ended with status 0"), ("exit 0", "status 0"),
    (f"cat >/dev/null; echo '{recipient.BEGIN.decode()}'; exit 1", "status 1"), ("kill -9 $$", "status -9"),
])
def test_failure_shows_nothing_of_the_key(does: str, cause: str, program: t.Callable[[str], pathlib.Path]) -> None:
    program(does)
    refused("write_failed", lambda: recipient.encrypt(SECRET, TO), cause)


def test_program_that_hangs_is_ended(program: t.Callable[[str], pathlib.Path], monkeypatch: pytest.MonkeyPatch) -> None:
    program("exec sleep 60")
    monkeypatch.setattr(recipient, "_TIMEOUT", 0.1)
    refused("write_failed", lambda: recipient.encrypt(SECRET, TO), subprocess.TimeoutExpired.__name__)


def test_program_that_cannot_be_started_is_told(program: t.Callable[[str], pathlib.Path]) -> None:
    program("").write_bytes(b"\x7fELF nothing")
    refused("write_failed", lambda: recipient.encrypt(SECRET, TO), "OSError")
