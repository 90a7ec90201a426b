# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the first certificate, and of another one for other names."""

from __future__ import annotations

import json
import pathlib

from ansible_collections.hallmark.signing.plugins.module_utils._certbot import record
from ansible_collections.hallmark.signing.plugins.module_utils._certbot.issuing import issue
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._certbot.certbot_bench import (
    CONF,
    LIMITED,
    calls,
    fake_certbot,
    pem,
    place,
    read,
    revoked,
    settings,
    written,
)


def issuing(folder: pathlib.Path, *names: str) -> None:
    """Let Certbot issue a certificate for these names."""
    (folder / "live").mkdir(exist_ok=True)
    (folder / "new.pem").write_bytes(pem(*names, serial=7))
    fake_certbot(folder, f"for name in cert fullchain; do cp {folder}/new.pem {folder}/live/$name.pem; done")


def test_first_certificate(tmp_path: pathlib.Path) -> None:
    issuing(tmp_path, "a.example", "x.example")
    chosen = settings(
        tmp_path, domains=["x.example", "a.example"], account=["--email", "a@b.example"], extra_arguments=["--extra"],
        profile=["--required-profile", "classic"], authenticator={"arguments": ["--standalone"], "kept": {}},
    )
    assert issue(chosen).changed
    (call,) = calls(tmp_path)
    assert call == " ".join([
        "certonly --non-interactive", *chosen.folders, "--agree-tos --server", record.PRODUCTION,
        "--cert-name x.example --renew-with-new-domains --reuse-key --email a@b.example --key-type ecdsa --standalone",
        "--required-profile classic -d x.example -d a.example --extra",
    ])
    status = read(tmp_path, "status")
    assert (status["renewal_ok"], status["certificate"]["serial"]) == (True, "07")
    # What is there for these names and from this server is left alone, and is no attempt to renew.
    (tmp_path / "x.example.status").unlink()
    report = issue(chosen)
    assert (report.changed, report.tried, report.status) == (False, False, 0)
    assert len(calls(tmp_path)) == 1
    assert not (tmp_path / "x.example.status").exists()


def test_other_names_and_another_server(tmp_path: pathlib.Path) -> None:
    place(tmp_path, pem("old.example"))
    issuing(tmp_path, "x.example")
    assert issue(settings(tmp_path)).changed
    assert "--force-renewal" not in calls(tmp_path)[0]
    written(tmp_path, CONF)
    issue(settings(tmp_path))
    assert "--force-renewal -d x.example" in calls(tmp_path)[1]
    issue(settings(tmp_path, server="https://ca.example/dir"))
    assert len(calls(tmp_path)) == 2


def test_compromised_key_is_not_kept(tmp_path: pathlib.Path) -> None:
    fingerprint = place(tmp_path, pem("old.example"))
    issuing(tmp_path, "x.example")
    chosen = settings(tmp_path)
    (tmp_path / "x.example.journal").write_text(revoked(fingerprint, "keycompromise"))
    issue(chosen)
    assert "--new-key -d x.example" in calls(tmp_path)[0]


def test_rate_limit_is_not_tried_again(tmp_path: pathlib.Path) -> None:
    log = tmp_path / "logs" / "letsencrypt.log"
    fake_certbot(tmp_path, f"cat >{log} <<'EOF'\n{LIMITED}EOF\nexit 1")
    report = issue(settings(tmp_path))
    assert "rateLimited" in report.error
    assert "Retry-After: 122400" in report.error
    assert len(calls(tmp_path)) == 1
    status = read(tmp_path, "status")
    assert (status["ok"], status["error"]) == (False, report.error)


def test_what_cannot_be_done_stands_in_the_status(tmp_path: pathlib.Path) -> None:
    chosen = settings(tmp_path, pre_hook=str(tmp_path / "none"))
    report = issue(chosen)
    assert "No such file" in report.error
    assert read(tmp_path, "status")["error"] == report.error
    (tmp_path / "x.example.journal").write_text(json.dumps([]))
    assert "Move it away, and run again." in issue(chosen).error
