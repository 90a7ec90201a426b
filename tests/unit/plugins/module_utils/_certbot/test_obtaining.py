# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of obtaining a certificate, and of the hooks around it."""

from __future__ import annotations

import pathlib

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._certbot.obtaining import obtain
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._certbot.certbot_bench import (
    fake_certbot,
    pem,
    place,
    program,
    settings,
)


@pytest.mark.parametrize(("version", "command", "order"), [
    ("2.1.0", "certonly", ["pre", "certbot", "post"]), ("3.1", "certonly", ["pre", "certbot", "post"]),
    ("3.2", "certonly", ["certbot"]), ("2.1.0", "renew", ["certbot"]),
])
def test_hooks_that_this_certbot_leaves_out(
    tmp_path: pathlib.Path, version: str, command: str, order: list[str]
) -> None:
    own = {f"{name}_hook": str(program(tmp_path / name, f"echo {name} >>{tmp_path}/order")) for name in ("pre", "post")}
    fake_certbot(tmp_path, f"echo certbot >>{tmp_path}/order; exit 3")
    report = obtain(settings(tmp_path, version=version, **own), command)
    assert (tmp_path / "order").read_text().split() == order
    assert (report.status, report.notes) == (3, ())


def test_hook_that_fails_is_told(tmp_path: pathlib.Path) -> None:
    path = str(program(tmp_path / "pre", "echo no such service; exit 5"))
    fake_certbot(tmp_path, "")
    report = obtain(settings(tmp_path, pre_hook=path), "certonly")
    assert (report.status, report.notes) == (0, (f"{path}: failed with status 5: no such service",))


@pytest.mark.parametrize(("version", "command", "due"), [
    ("5.2", "certonly", ["10-fails", "20-works"]), ("5.3", "certonly", ["10-fails"]), ("2.1.0", "renew", ["10-fails"]),
])
def test_deploy_hooks_that_are_still_due(tmp_path: pathlib.Path, version: str, command: str, due: list[str]) -> None:
    folder = tmp_path / "deploy"
    for name in ("50-ours", "10-fails", "20-works"):
        program(folder / name, "")
    place(tmp_path, pem("x.example"))
    (tmp_path / "new.pem").write_bytes(pem("x.example", serial=7))
    said = f"X:Running deploy-hook command: {folder}/10-fails\nX:Hook 'deploy-hook' reported error code 3\n"
    (tmp_path / "said").write_text(said)
    log = f"cp {tmp_path}/said {tmp_path}/logs/letsencrypt.log"
    fake_certbot(tmp_path, f"{log}; cp {tmp_path}/new.pem {tmp_path}/live/fullchain.pem")
    report = obtain(settings(tmp_path, version=version), command)
    assert report.changed
    assert report.hooks_due == tuple(str(folder / name) for name in due)
    # Without a new certificate there is nothing to deploy.
    report = obtain(settings(tmp_path, version=version), command)
    assert (report.changed, report.hooks_due) == (False, None)
