# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of running deploy hooks."""

from __future__ import annotations

import json
import pathlib

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._certbot.deploying import deploy
from ansible_collections.hallmark.signing.plugins.module_utils._errors import CertbotError
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._certbot.certbot_bench import (
    pem,
    place,
    program,
    read,
    settings,
)


def marking(folder: pathlib.Path, before: str = "") -> None:
    """Write the hook of the role, which leaves a mark."""
    text = f'{before}\necho "$RENEWED_LINEAGE $RENEWED_DOMAINS" >>{folder}/seen\n'
    program(folder / "deploy" / "50-ours", f"{text}sha256sum <{folder}/live/fullchain.pem >{folder}/x.example.deployed")


def test_hook_is_run_once(tmp_path: pathlib.Path) -> None:
    place(tmp_path, pem("x.example"), deployed=False)
    marking(tmp_path)
    chosen = settings(tmp_path, domains=["x.example", "a.example"])
    assert deploy(chosen).changed
    report = deploy(chosen)
    assert (report.changed, report.status) == (False, 0)
    assert (tmp_path / "seen").read_text() == f"{tmp_path}/live x.example a.example\n"
    assert read(tmp_path, "status")["hook_ok"]


def test_hook_that_fails_is_run_again(tmp_path: pathlib.Path) -> None:
    place(tmp_path, pem("x.example"), deployed=False)
    marking(tmp_path, f"test -e {tmp_path}/well || {{ echo no service; exit 7; }}")
    chosen = settings(tmp_path)
    report = deploy(chosen)
    assert (report.changed, report.status) == (True, 7)
    assert report.error == f"the deploy hook {chosen.hook} failed with status 7: no service"
    assert read(tmp_path, "status")["hook_error"] == report.error
    (tmp_path / "well").touch()
    assert deploy(chosen).status == 0
    assert read(tmp_path, "status")["hook_error"] == ""


def test_hook_without_its_mark_failed(tmp_path: pathlib.Path) -> None:
    place(tmp_path, pem("x.example"), deployed=False)
    program(tmp_path / "deploy" / "50-ours", "exit 0")
    report = deploy(settings(tmp_path))
    assert (report.status, report.error.partition(" failed ")[2]) == (1, "with status 0: it said nothing")


def test_hooks_of_others_are_run_until_they_succeed(tmp_path: pathlib.Path) -> None:
    place(tmp_path, pem("x.example"), deployed=False)
    marking(tmp_path, "exit 7")
    others = [str(tmp_path / "deploy" / name) for name in ("60-fails", "70-works", "80-not-due")]
    for path, text in zip(others, ("exit 3", "exit 0", f"touch {tmp_path}/ran")):
        program(pathlib.Path(path), text)
    gone = str(tmp_path / "deploy" / "90-gone")
    (tmp_path / "x.example.status").write_text(json.dumps({"hooks_due": [*others[:2], gone]}))
    report = deploy(settings(tmp_path))
    assert report.status == 7, "that of the first"
    assert report.error.count("failed with status") == 2
    assert read(tmp_path, "status")["hooks_due"] == others[:1]
    assert not (tmp_path / "ran").exists()


def test_there_must_be_a_certificate(tmp_path: pathlib.Path) -> None:
    with pytest.raises(CertbotError, match=r"fullchain\.pem: could not deploy the certificate: there is none"):
        deploy(settings(tmp_path))
