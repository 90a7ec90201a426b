# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of registering an account with a binding."""

from __future__ import annotations

import pathlib

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._certbot import settings as lineages
from ansible_collections.hallmark.signing.plugins.module_utils._certbot.registering import register
from ansible_collections.hallmark.signing.plugins.module_utils._errors import CertbotError
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._certbot.certbot_bench import (
    calls,
    fake_certbot,
    settings,
)

KEY = "c2VjcmV0-_A=="


def bound(folder: pathlib.Path, *, mode: int = 0o600, text: str = f"{KEY}\n") -> lineages.Settings:
    """Return settings with a binding whose key is in a file."""
    path = folder / "hmac"
    path.touch(0o600)
    path.write_text(text)
    path.chmod(mode)
    return settings(folder, eab={"kid": "kid-1", "hmac_key_path": str(path)}, account=["--email", "a@b.example"])


def test_key_reaches_certbot_and_nobody_else(tmp_path: pathlib.Path) -> None:
    # As its arguments say, it reads the file that has no name.
    fake_certbot(tmp_path, f'while [ "$1" != --config ]; do shift; done; cat "$2" >{tmp_path}/read')
    assert register(bound(tmp_path)).changed
    assert (tmp_path / "read").read_text() == f"eab-kid = kid-1\neab-hmac-key = {KEY}\n"
    (call,) = calls(tmp_path)
    assert KEY not in call
    assert call.startswith("register --non-interactive")
    assert "--email a@b.example" in call


def test_account_that_is_there_is_kept(tmp_path: pathlib.Path) -> None:
    fake_certbot(tmp_path, "exit 1")
    chosen = bound(tmp_path)
    account = tmp_path / "le" / "accounts" / "acme-v02.api.letsencrypt.org" / "directory" / "1"
    account.mkdir(parents=True)
    assert register(chosen).status == 1, "a folder without an account is none"
    (account / "regr.json").touch()
    report = register(chosen)
    assert (report.changed, report.status) == (False, 0)
    assert len(calls(tmp_path)) == 1


def test_failure_does_not_show_the_key(tmp_path: pathlib.Path) -> None:
    fake_certbot(tmp_path, f"echo wrong key {KEY} refused; exit 2")
    report = register(bound(tmp_path))
    assert (report.changed, report.status, report.error) == (False, 1, "Certbot said wrong key (left out) refused")


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o604, 0o601])
def test_key_that_others_may_read_or_change(tmp_path: pathlib.Path, mode: int) -> None:
    with pytest.raises(CertbotError, match="others may read or change it") as caught:
        register(bound(tmp_path, mode=mode))
    assert caught.value.code == "mode_too_open"


@pytest.mark.parametrize("text", ["", "two words", "a\nb", "eab-hmac-key = x", "a+b", "ä"])
def test_what_is_no_key_is_refused_and_not_shown(tmp_path: pathlib.Path, text: str) -> None:
    with pytest.raises(CertbotError, match="it does not hold one HMAC key") as caught:
        register(bound(tmp_path, text=text))
    assert not text or text not in str(caught.value)


def test_key_that_is_missing(tmp_path: pathlib.Path) -> None:
    with pytest.raises(CertbotError, match="there is no such file") as caught:
        register(settings(tmp_path, eab={"kid": "k", "hmac_key_path": str(tmp_path / "none")}))
    assert caught.value.code == "not_found"
