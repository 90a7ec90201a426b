# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of certificates for requests whose key is elsewhere."""

from __future__ import annotations

import pathlib
import time
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._certbot import settings as lineages
from ansible_collections.hallmark.signing.plugins.module_utils._certbot.issuing import issue
from ansible_collections.hallmark.signing.plugins.module_utils._certbot.renewing import renew
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._certbot.certbot_bench import (
    BEGIN,
    DAY,
    calls,
    fake_certbot,
    pem,
    program,
    read,
    request,
    revoked,
    settings,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization


def elsewhere(folder: pathlib.Path, *names: str, **changed: t.Any) -> lineages.Settings:
    """Return settings with a request for these names."""
    (folder / "request.pem").write_bytes(request(*names).public_bytes(serialization.Encoding.PEM))
    out = folder / "out"
    return settings(folder, **{
        "fullchain": str(out / "both.pem"),
        "csr": {
            "path": str(folder / "request.pem"), "certificate": str(out / "leaf.pem"), "chain": str(out / "chain.pem"),
            "fullchain": str(out / "both.pem"), "renew_at": 0.34,
        }, **changed,
    })


def issuing(folder: pathlib.Path, *, key: str = "ecdsa", serial: int = 7) -> None:
    """Let Certbot write a certificate, its chain and both where its arguments say."""
    leaf, chain = pem("x.example", key=key, serial=serial), pem("ca.example", key="rsa")
    for name, data in (("leaf", leaf), ("chain", chain), ("both", leaf + chain)):
        (folder / f"made-{name}").write_bytes(data)
    fake_certbot(folder, f"""while [ $# -gt 0 ]; do
  case "$1" in
    --cert-path) cp {folder}/made-leaf "$2";;
    --chain-path) cp {folder}/made-chain "$2";;
    --fullchain-path) cp {folder}/made-both "$2";;
  esac
  shift
done""")


@pytest.fixture
def issued(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> lineages.Settings:
    """A host with a certificate for its request, in the middle of its lifetime."""
    monkeypatch.setattr(time, "time", lambda: BEGIN.timestamp() + 45 * DAY)
    issuing(tmp_path)
    chosen = elsewhere(tmp_path, "x.example")
    assert issue(chosen).changed
    return chosen


def test_certificate_is_laid_out(tmp_path: pathlib.Path, issued: lineages.Settings) -> None:
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == ["both.pem", "chain.pem", "leaf.pem"]
    assert (out / "leaf.pem").read_bytes() + (out / "chain.pem").read_bytes() == (out / "both.pem").read_bytes()
    assert oct((out / "leaf.pem").stat().st_mode & 0o777) == "0o644"
    assert [path.name for path in tmp_path.iterdir() if ".csr-" in path.name] == []
    assert f"--csr {tmp_path}/request.pem" in calls(tmp_path)[0]
    for command in (issue, renew):
        assert not command(issued).changed
    assert len(calls(tmp_path)) == 1


def test_it_is_renewed_when_it_is_due_or_forced(
    tmp_path: pathlib.Path, issued: lineages.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "deploy" / "60-other", "")
    issuing(tmp_path, serial=8)
    report = renew(issued, forced=True)
    assert report.changed
    assert report.hooks_due == (str(tmp_path / "deploy" / "60-other"),)
    assert [one["server"] for one in read(tmp_path, "journal")["forced"]] == [issued.server]
    monkeypatch.setattr(time, "time", lambda: BEGIN.timestamp() + 0.67 * 90 * DAY)
    issuing(tmp_path, serial=9)
    assert renew(issued).changed
    assert read(tmp_path, "status")["certificate"]["serial"] == "09"


def test_what_is_not_whole_is_made_again(tmp_path: pathlib.Path, issued: lineages.Settings) -> None:
    # As a run leaves it that is killed between two files.
    (tmp_path / "out" / "both.pem").write_bytes(pem("x.example", serial=5))
    assert issue(issued).changed
    assert not issue(issued).changed


@pytest.mark.parametrize(("reason", "renewed"), [("superseded", True), ("cessationofoperation", False)])
def test_revoked_certificate_is_replaced_if_the_reason_says_so(
    tmp_path: pathlib.Path, issued: lineages.Settings, reason: str, renewed: bool
) -> None:
    leaf = x509.load_pem_x509_certificate((tmp_path / "out" / "leaf.pem").read_bytes())
    (tmp_path / "x.example.journal").write_text(revoked(leaf.fingerprint(hashes.SHA256()).hex(), reason))
    issuing(tmp_path, serial=8)
    assert renew(issued).changed is renewed


def test_compromised_key_is_not_used_again(tmp_path: pathlib.Path, issued: lineages.Settings) -> None:
    (tmp_path / "x.example.journal").write_text(revoked("00", "keycompromise"))
    assert "its key was revoked as compromised. Make a new key and a new request" in renew(issued).error
    assert len(calls(tmp_path)) == 1


def test_request_for_other_names_is_refused(tmp_path: pathlib.Path) -> None:
    report = issue(elsewhere(tmp_path, "a.example", "b.example"))
    assert "it is for a.example, b.example, not for certbot_domains" in report.error
    assert read(tmp_path, "status")["error"] == report.error


def test_request_without_names_is_not_judged_by_them(tmp_path: pathlib.Path) -> None:
    issuing(tmp_path)
    assert issue(elsewhere(tmp_path)).changed


def test_request_that_is_missing(tmp_path: pathlib.Path) -> None:
    chosen = elsewhere(tmp_path)
    (tmp_path / "request.pem").unlink()
    assert "there is no such file" in issue(chosen).error


@pytest.mark.parametrize("text", ["echo no network; exit 2", ""])
def test_nothing_is_put_in_place_without_a_certificate(tmp_path: pathlib.Path, text: str) -> None:
    fake_certbot(tmp_path, text)
    report = issue(elsewhere(tmp_path, "x.example"))
    assert report.status == (2 if text else 1)
    assert not (tmp_path / "out").exists()


def test_certificate_for_another_key_is_refused(tmp_path: pathlib.Path) -> None:
    issuing(tmp_path, key="rsa")
    report = issue(elsewhere(tmp_path, "x.example"))
    assert report.error == f"{tmp_path}/request.pem: the server made a certificate for another key."
    assert not (tmp_path / "out").exists()
