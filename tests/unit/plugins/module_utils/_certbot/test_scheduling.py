# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of what the timer does."""

from __future__ import annotations

import pathlib

from ansible_collections.hallmark.signing.plugins.module_utils._certbot.scheduling import every, scheduled
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._certbot.certbot_bench import (
    fake_certbot,
    pem,
    place,
    program,
    settings,
)


def test_renewal_and_deployment_are_both_reported(tmp_path: pathlib.Path) -> None:
    fake_certbot(tmp_path, "echo no network; exit 1")
    chosen = settings(tmp_path)
    # There is nothing to deploy yet.
    assert scheduled(chosen).error == "could not renew: Certbot said no network"
    place(tmp_path, pem("x.example"), deployed=False)
    program(tmp_path / "deploy" / "50-ours", "exit 7")
    report = scheduled(chosen)
    assert (report.changed, report.status) == (True, 1)
    assert report.error == (
        f"could not renew: Certbot said no network; the deploy hook {chosen.hook} failed with status 7: it said nothing"
    )
    fake_certbot(tmp_path, "")
    place(tmp_path, pem("x.example"))
    report = scheduled(chosen)
    assert (report.changed, report.status, report.error) == (False, 0, "")


def test_one_lineage_does_not_stop_the_others(tmp_path: pathlib.Path) -> None:
    fake_certbot(tmp_path, "echo no network; exit 1")
    settings(tmp_path)
    (tmp_path / "broken.settings").write_text("{")
    (tmp_path / "old.settings").write_text('{"lineage": "old"}')
    errors = {name: report.error for name, report in every(str(tmp_path))}
    assert list(errors) == ["broken", "old", "x.example"]
    assert "broken.settings: could not read the file" in errors["broken"]
    assert "old.settings: could not read the settings of a lineage: certbot is missing" in errors["old"]
    assert errors["x.example"] == "could not renew: Certbot said no network"
