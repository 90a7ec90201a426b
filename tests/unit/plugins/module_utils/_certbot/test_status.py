# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the status of a lineage, and of its metrics."""

from __future__ import annotations

import pathlib

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._certbot import status
from ansible_collections.hallmark.signing.plugins.module_utils._certbot.checking import check
from ansible_collections.hallmark.signing.plugins.module_utils._errors import CertbotError
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._certbot.certbot_bench import (
    BEGIN,
    DAY,
    key_id,
    pem,
    place,
    read,
    settings,
)


def test_status_and_metrics(tmp_path: pathlib.Path) -> None:
    place(tmp_path, pem("x.example"))
    chosen = settings(tmp_path, metrics_path=str(tmp_path / "m.prom"))
    status.after_attempt(chosen, 1000.0, error="", hooks_due=None)
    status.after_attempt(chosen, 2000.0, error="no network", hooks_due=None)
    # The deploy hook succeeded later: the renewal still did not.
    status.after_hooks(chosen, error="", hooks_due=())
    assert read(tmp_path, "status") == {
        "last_attempt": "1970-01-01T00:33:20Z", "last_success": "1970-01-01T00:16:40Z", "ok": False, "hook_ok": True,
        "renewal_ok": False, "error": "no network", "hook_error": "", "hooks_due": [], "lineage": "x.example",
        "server": chosen.server,
        "certificate": {
            "serial": "abcdef", "key_id": key_id(), "names": ["x.example"],
            "not_before": "2049-12-01T02:03:04Z", "not_after": "2050-03-01T02:03:04Z",
        },
    }
    lines = [line for line in (tmp_path / "m.prom").read_text().splitlines() if not line.startswith("#")]
    assert lines == [
        f'hallmark_certbot_{name}{{lineage="x.example"}} {value}' for name, value in (
            ("renewal_ok", 0), ("deploy_hook_ok", 1), ("last_attempt_timestamp_seconds", 2000),
            ("last_success_timestamp_seconds", 1000),
            ("certificate_not_after_timestamp_seconds", int(BEGIN.timestamp()) + 90 * DAY),
        )
    ]
    assert check(chosen).error.startswith("the renewal at 1970-01-01T00:33:20Z failed: no network")


def test_metrics_without_a_certificate(tmp_path: pathlib.Path) -> None:
    chosen = settings(tmp_path, metrics_path=str(tmp_path / "m.prom"))
    status.after_hooks(chosen, error="broken", hooks_due=())
    found = read(tmp_path, "status")
    assert (found["certificate"], found["hook_ok"], found["hook_error"]) == (None, False, "broken")
    lines = [line for line in (tmp_path / "m.prom").read_text().splitlines() if not line.startswith("#")]
    assert [line.rpartition(" ")[2] for line in lines] == ["1", "0"]


def test_hooks_that_are_due_stay_so_until_they_are_run(tmp_path: pathlib.Path) -> None:
    place(tmp_path, pem("x.example"))
    chosen = settings(tmp_path)
    status.after_attempt(chosen, 1.0, error="", hooks_due=("/h",))
    status.after_attempt(chosen, 2.0, error="", hooks_due=None)
    assert status.load(chosen).hooks_due == ("/h",)
    status.after_hooks(chosen, error="it failed", hooks_due=("/h",))
    status.after_attempt(chosen, 3.0, error="", hooks_due=None)
    assert (read(tmp_path, "status")["hook_ok"], read(tmp_path, "status")["hook_error"]) == (False, "it failed")
    status.after_hooks(chosen, error="", hooks_due=())
    assert (read(tmp_path, "status")["hook_ok"], read(tmp_path, "status")["hook_error"]) == (True, "")


@pytest.mark.parametrize("text", [
    "{", '{"renewal_ok": 1}', '{"hooks_due": "x"}', '{"error": null}', '{"last_attempt": "yesterday"}',
    '{"last_success": 1}',
])
def test_status_that_cannot_be_read_is_replaced(tmp_path: pathlib.Path, text: str) -> None:
    place(tmp_path, pem("x.example"))
    chosen = settings(tmp_path, metrics_path=str(tmp_path / "m.prom"))
    (tmp_path / "x.example.status").write_text(text)
    with pytest.raises(CertbotError, match=r"x\.example\.status: could not read the file"):
        status.load(chosen)
    status.after_attempt(chosen, 0.0, error="", hooks_due=None)
    assert status.load(chosen) == status.Status("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z")
