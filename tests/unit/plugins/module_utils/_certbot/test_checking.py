# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of looking back at a lineage."""

from __future__ import annotations

import json
import pathlib
import time

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._certbot.checking import check
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._certbot.certbot_bench import (
    BEGIN,
    DAY,
    pem,
    place,
    program,
    revoked,
    settings,
)


def now_is(monkeypatch: pytest.MonkeyPatch, left: float) -> None:
    """Let so much of the certificate's lifetime be left."""
    monkeypatch.setattr(time, "time", lambda: BEGIN.timestamp() + (1 - left) * 90 * DAY)


@pytest.mark.parametrize(("left", "word"), [(0.26, ""), (0.24, "less than a quarter"), (-0.1, "ended")])
def test_certificate_that_ends_soon(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, left: float, word: str
) -> None:
    place(tmp_path, pem("x.example"))
    now_is(monkeypatch, left)
    report = check(settings(tmp_path))
    assert (word in report.error) if word else (report.error == "")
    assert report.status == int(bool(word))


def test_certificate_that_is_missing(tmp_path: pathlib.Path) -> None:
    assert check(settings(tmp_path)).error == f"there is no certificate {tmp_path}/live/cert.pem"


def test_all_that_is_wrong_is_said(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fingerprint = place(tmp_path, pem("x.example"), deployed=False)
    now_is(monkeypatch, 0.1)
    chosen = settings(tmp_path)
    (tmp_path / "x.example.journal").write_text(revoked(fingerprint, "superseded"))
    (tmp_path / "x.example.status").write_text(json.dumps(
        {"renewal_ok": False, "last_attempt": "2050-01-01T00:00:00Z", "error": "no network", "hooks_due": ["/other"]}
    ))
    assert check(chosen).error.split("; ") == [
        "less than a quarter of its certificate's lifetime is left, until 2050-03-01T02:03:04Z",
        "its certificate was revoked, and not replaced yet",
        "the renewal at 2050-01-01T00:00:00Z failed: no network",
        f"the deploy hook {chosen.hook} and /other did not succeed for it",
    ]


def test_error_of_the_hook_is_shown_and_nothing_is_touched(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place(tmp_path, pem("x.example"), deployed=False)
    now_is(monkeypatch, 0.9)
    chosen = settings(tmp_path)
    (tmp_path / "x.example.status").write_text('{"hook_error": "the deploy hook said 7"}')
    program(tmp_path / "deploy" / "50-ours", f"touch {tmp_path}/ran")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert check(chosen).error == "the deploy hook said 7"
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
