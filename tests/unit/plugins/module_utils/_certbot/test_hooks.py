# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of hooks, those of the role and those of others."""

from __future__ import annotations

import pathlib

from ansible_collections.hallmark.signing.plugins.module_utils._certbot import hooks
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._certbot.certbot_bench import (
    pem,
    place,
    program,
    settings,
)


def test_hook_gets_its_environment_and_is_heard(tmp_path: pathlib.Path) -> None:
    path = program(tmp_path / "hook", 'echo "a $RENEWED_LINEAGE"; printf "b\\033[1m" >&2; exit 3')
    assert hooks.run(str(path), RENEWED_LINEAGE="/le/x") == (3, "a /le/x b [1m")


def test_mark_counts_for_the_current_certificate_only(tmp_path: pathlib.Path) -> None:
    chosen = settings(tmp_path)
    assert not hooks.succeeded(chosen), "there is neither a mark nor a certificate"
    place(tmp_path, pem("x.example"), deployed=False)
    assert not hooks.succeeded(chosen)
    place(tmp_path, pem("x.example"))
    assert hooks.succeeded(chosen)
    place(tmp_path, pem("x.example", serial=7), deployed=False)
    assert not hooks.succeeded(chosen)


def test_hooks_of_others_that_failed_are_found(tmp_path: pathlib.Path) -> None:
    chosen = settings(tmp_path)
    assert hooks.of_others(chosen) == ()
    for name in ("50-ours", "10-fails", "20-works", "30-is-none", "9~"):
        program(tmp_path / "deploy" / name, "").chmod(0o644 if name == "30-is-none" else 0o755)
    (tmp_path / "deploy" / "40-folder").mkdir()
    first, second = str(tmp_path / "deploy" / "10-fails"), str(tmp_path / "deploy" / "20-works")
    assert hooks.of_others(chosen) == (first, second)
    log = "\n".join([
        f"2026-11-21 10:00:00,000:INFO:certbot.compat.misc:Running deploy-hook command: {first}",
        "2026-11-21 10:00:00,001:WARNING:certbot.display.ops:Hook 'deploy-hook' reported error code 3",
        f"2026-11-21 10:00:00,002:INFO:certbot.compat.misc:Running deploy-hook command: {second}",
        f"2026-11-21 10:00:00,003:INFO:certbot.compat.misc:Running deploy-hook command: {chosen.hook}",
        "2026-11-21 10:00:00,004:WARNING:certbot.display.ops:Hook 'deploy-hook' reported error code 7",
    ])
    assert hooks.failed(chosen, log) == (first,)
