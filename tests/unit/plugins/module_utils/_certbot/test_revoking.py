# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of revocations."""

from __future__ import annotations

import pathlib
import time

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._certbot.revoking import revoke
from ansible_collections.hallmark.signing.plugins.module_utils._errors import CertbotError
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._certbot.certbot_bench import (
    BEGIN,
    DAY,
    calls,
    fake_certbot,
    key_id,
    pem,
    place,
    read,
    settings,
)


@pytest.fixture(autouse=True)
def lineage(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """An archive of three certificates, of which the last two have one key, and the last one is current."""
    archive = tmp_path / "le" / "archive" / "x.example"
    archive.mkdir(parents=True)
    for number, key in ((2, "rsa"), (9, "ecdsa"), (10, "ecdsa")):
        (archive / f"cert{number}.pem").write_bytes(pem("x.example", key=key, serial=number))
    for number in (9, 10):
        # Nobody but Certbot reads it.
        (archive / f"privkey{number}.pem").mkdir()
    (archive / "notes").touch()
    place(tmp_path, (archive / "cert10.pem").read_bytes())
    monkeypatch.setattr(time, "time", lambda: BEGIN.timestamp() + DAY)
    fake_certbot(tmp_path, "")
    return archive


def test_all_certificates_of_a_compromised_key_are_revoked(tmp_path: pathlib.Path, lineage: pathlib.Path) -> None:
    chosen = settings(tmp_path)
    assert revoke(chosen, reason="keycompromise", key_id="").changed
    assert calls(tmp_path) == [
        " ".join([
            "revoke --non-interactive", *chosen.folders,
            f"--server {chosen.server} --cert-path {lineage}/cert{number}.pem",
            f"--key-path {lineage}/privkey{number}.pem --reason keycompromise --no-delete-after-revoke",
        ]) for number in (9, 10)
    ]
    entries = read(tmp_path, "journal")["revoked"].values()
    assert sorted(entry["serial"] for entry in entries) == ["09", "0a"]
    assert {(entry["key_id"], entry["reason"]) for entry in entries} == {(key_id(), "keycompromise")}
    report = revoke(chosen, reason="keycompromise", key_id=key_id())
    assert (report.changed, report.status, len(calls(tmp_path))) == (False, 0, 2)


def test_other_reasons_are_about_the_current_certificate(tmp_path: pathlib.Path, lineage: pathlib.Path) -> None:
    assert revoke(settings(tmp_path), reason="superseded", key_id="").changed
    (call,) = calls(tmp_path)
    assert f"--cert-path {lineage}/cert10.pem --reason superseded" in call
    # Without a current one there is none to revoke, whatever is in the archive.
    (tmp_path / "live" / "cert.pem").unlink()
    with pytest.raises(CertbotError, match="there is no valid certificate of key"):
        revoke(settings(tmp_path), reason="superseded", key_id=key_id("rsa"))
    with pytest.raises(CertbotError, match=r"key \(none\)"):
        revoke(settings(tmp_path), reason="superseded", key_id="")


def test_named_key_is_revoked_and_no_other(tmp_path: pathlib.Path, lineage: pathlib.Path) -> None:
    assert revoke(settings(tmp_path), reason="keycompromise", key_id=key_id("rsa")).changed
    (call,) = calls(tmp_path)
    assert f"{lineage}/cert2.pem --reason" in call, "there is no key of it to be shown"


def test_certificate_that_ended_is_left_alone(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: BEGIN.timestamp() + 91 * DAY)
    with pytest.raises(CertbotError, match="there is no valid certificate") as caught:
        revoke(settings(tmp_path), reason="keycompromise", key_id="")
    assert caught.value.code == "not_found"


@pytest.mark.parametrize("said", ["urn:ietf:params:acme:error:alreadyRevoked", "Certificate has already been revoked"])
def test_revoked_already_counts_as_done(tmp_path: pathlib.Path, said: str) -> None:
    fake_certbot(tmp_path, f"echo '{said}'; exit 1")
    assert revoke(settings(tmp_path), reason="superseded", key_id="").changed


def test_failure_in_the_middle_keeps_what_was_done(tmp_path: pathlib.Path, lineage: pathlib.Path) -> None:
    fake_certbot(tmp_path, 'case "$*" in *cert10*) echo no network; exit 1;; esac')
    report = revoke(settings(tmp_path), reason="keycompromise", key_id="")
    assert (report.changed, report.status) == (True, 1)
    assert report.error == f"{lineage}/cert10.pem: Certbot said no network"
    assert [entry["serial"] for entry in read(tmp_path, "journal")["revoked"].values()] == ["09"]


def test_lineage_without_an_archive(tmp_path: pathlib.Path, lineage: pathlib.Path) -> None:
    lineage.rename(tmp_path / "elsewhere")
    with pytest.raises(CertbotError, match="there is no valid certificate"):
        revoke(settings(tmp_path), reason="keycompromise", key_id="")
    # A request whose key is elsewhere has one certificate, and no key to be shown.
    out = {name: str(tmp_path / "live" / "cert.pem") for name in ("certificate", "chain", "fullchain")}
    chosen = settings(tmp_path, csr={"path": "/r", **out, "renew_at": 0.3})
    assert revoke(chosen, reason="keycompromise", key_id="").changed
    assert "--key-path" not in calls(tmp_path)[0]
