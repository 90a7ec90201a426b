# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of renewals."""

from __future__ import annotations

import json
import pathlib
import time

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._certbot import record
from ansible_collections.hallmark.signing.plugins.module_utils._certbot.renewing import renew
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._certbot.certbot_bench import (
    calls,
    fake_certbot,
    pem,
    place,
    read,
    revoked,
    settings,
    written,
)


def renewing(folder: pathlib.Path) -> str:
    """Let Certbot renew, and return the fingerprint of what is to be renewed."""
    (folder / "new.pem").write_bytes(pem("x.example", serial=7))
    fake_certbot(folder, f"for name in cert fullchain; do cp {folder}/new.pem {folder}/live/$name.pem; done")
    return place(folder, pem("x.example"))


def test_certbot_decides_what_is_due(tmp_path: pathlib.Path) -> None:
    renewing(tmp_path)
    chosen = settings(tmp_path, profile=["--preferred-profile", "classic"])
    assert renew(chosen).changed
    assert not renew(chosen).changed
    assert calls(tmp_path) == [" ".join([
        "renew --non-interactive", *chosen.folders,
        "--cert-name x.example --no-random-sleep-on-renew --preferred-profile classic",
    ])] * 2
    assert read(tmp_path, "status")["certificate"]["serial"] == "07"
    assert not (tmp_path / "x.example.journal").exists()


def test_forced_renewal_is_recorded(tmp_path: pathlib.Path) -> None:
    renewing(tmp_path)
    written(tmp_path)
    assert renew(settings(tmp_path), forced=True).changed
    assert calls(tmp_path)[0].endswith("--force-renewal")
    (entry,) = read(tmp_path, "journal")["forced"]
    assert entry["server"] == "https://ca.example/dir", "which the certificate is from"


def test_forced_renewal_that_would_block_the_names_is_refused(tmp_path: pathlib.Path) -> None:
    renewing(tmp_path)
    recent = [{"at": time.time() - 60, "server": record.PRODUCTION}] * 4
    (tmp_path / "x.example.journal").write_text(json.dumps({"forced": recent}))
    report = renew(settings(tmp_path), forced=True)
    assert report.error.startswith("4 renewals were forced in the last 7 days")
    assert calls(tmp_path) == []
    assert not (tmp_path / "x.example.status").exists()
    # One that is due needs no force.
    assert renew(settings(tmp_path)).changed


@pytest.mark.parametrize(("reason", "arguments"), [
    ("keycompromise", "--new-key --key-type ecdsa --force-renewal"), ("superseded", "--force-renewal"),
    ("cessationofoperation", ""),
])
def test_revoked_certificate_is_replaced_if_the_reason_says_so(
    tmp_path: pathlib.Path, reason: str, arguments: str
) -> None:
    (tmp_path / "x.example.journal").write_text(revoked(renewing(tmp_path), reason))
    renew(settings(tmp_path))
    assert calls(tmp_path)[0].partition("--no-random-sleep-on-renew")[2].strip() == arguments


def test_new_key_is_a_renewal_by_force_and_recorded_so(tmp_path: pathlib.Path) -> None:
    renewing(tmp_path)
    written(tmp_path)
    assert renew(settings(tmp_path), new_key=True).changed
    said = calls(tmp_path)[0].partition("--no-random-sleep-on-renew")[2].strip()
    assert said == "--new-key --key-type ecdsa --force-renewal"
    assert len(read(tmp_path, "journal")["forced"]) == 1


def test_failure_stands_in_the_status(tmp_path: pathlib.Path) -> None:
    place(tmp_path, pem("x.example"))
    fake_certbot(tmp_path, "echo no network; exit 4")
    report = renew(settings(tmp_path), forced=True)
    assert (report.changed, report.status, report.error) == (False, 4, "Certbot said no network")
    assert (read(tmp_path, "status")["renewal_ok"], read(tmp_path, "journal")["forced"]) == (False, [])
    (tmp_path / "live" / "cert.pem").write_text("broken")
    with pytest.raises(Exception, match="could not read the certificate"):
        renew(settings(tmp_path))
