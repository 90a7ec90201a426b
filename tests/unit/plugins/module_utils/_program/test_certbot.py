# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of how role certbot and its timer call the program."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._certbot.report import Report
from ansible_collections.hallmark.signing.plugins.module_utils._errors import CertbotError
from ansible_collections.hallmark.signing.plugins.module_utils._program import certbot
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._certbot.certbot_bench import (
    fake_certbot,
    pem,
    place,
    program,
    settings,
)
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._program.program_bench import built


@pytest.mark.parametrize(("command", "arguments", "options"), [
    ("register", [], {}), ("issue", [], {}), ("configure", [], {}), ("deploy", [], {}), ("check", [], {}),
    ("renew", [], {"forced": False, "new_key": False}), ("renew", ["--force"], {"forced": True, "new_key": False}),
    ("renew", ["--new-key"], {"forced": False, "new_key": True}),
    ("revoke", [], {"reason": "unspecified", "key_id": ""}),
    ("revoke", ["--reason", "superseded", "--key-id", "ab"], {"reason": "superseded", "key_id": "ab"}),
])
def test_command_gets_settings_and_options(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str,
    arguments: list[str], options: dict[str, t.Any],
) -> None:
    chosen, seen = settings(tmp_path), []

    def work(given: t.Any, **named: t.Any) -> Report:
        seen.append((given, named))
        return Report(True, "It failed.", ("note",), status=7)

    monkeypatch.setattr(certbot, command, work)
    assert certbot.main([command, chosen.path, *arguments]) == 7
    assert seen == [(chosen, options)]
    assert capsys.readouterr().out == '{"changed": true, "error": "It failed", "notes": ["note"]}\n'


def test_what_cannot_be_done_is_one_line(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.settings"
    assert certbot.main(["check", str(path)]) == 1
    assert json.loads(capsys.readouterr().out) == {
        "changed": False, "notes": [],
        "error": f"{path}: could not read the settings of a lineage: there are none. Run role hallmark.signing.certbot",
    }


def test_library_that_is_missing_is_named(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> None:
        raise CertbotError(code="library_missing", object="o", attempt="a", cause="c", advice="Install it.")

    monkeypatch.setattr(certbot, "require_library", refuse)
    assert certbot.main(["check", settings(tmp_path).path]) == 1
    assert json.loads(capsys.readouterr().out)["error"] == "o: could not a: c. Install it"
    assert certbot.main(["scheduled", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "o: could not a: c. Install it.\n"


def test_one_lineage_does_not_stop_the_others(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    fake_certbot(tmp_path, "echo no network; exit 1")
    settings(tmp_path)
    (tmp_path / "broken.settings").write_text("{")
    (tmp_path / "old.settings").write_text('{"lineage": "old"}')
    assert certbot.main(["scheduled", str(tmp_path)]) == 1
    said = capsys.readouterr().err.splitlines()
    assert [line.partition(": ")[0] for line in said] == ["broken", "old", "x.example"]
    assert "old.settings: could not read the settings of a lineage: certbot is missing" in said[1]
    assert said[2] == "x.example: could not renew: Certbot said no network"


def test_lineages_that_are_well_say_nothing(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    fake_certbot(tmp_path, "")
    settings(tmp_path)
    place(tmp_path, pem("x.example"))
    assert certbot.main(["scheduled", str(tmp_path)]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("arguments", [[], ["check"], ["other", "x"]])
def test_what_is_no_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        certbot.main(arguments)
    assert caught.value.code == 2
    assert "usage: hallmark certbot" in capsys.readouterr().err


def test_program_as_one_file(tmp_path: pathlib.Path) -> None:
    path = built(tmp_path, "/nonexistent")
    fake_certbot(tmp_path, f"umask >{tmp_path}/umask; ulimit -c >{tmp_path}/core; touch {tmp_path}/live/fullchain.pem")
    (tmp_path / "live").mkdir()
    chosen = settings(tmp_path)
    hook = program(tmp_path / "deploy" / "50-ours", f"sha256sum <{chosen.fullchain} >{chosen.marker}")
    command = [sys.executable, "-I", "-B", path, "certbot"]

    def run(name: str, target: str) -> subprocess.CompletedProcess[str]:
        former = os.umask(0o022)
        try:
            return subprocess.run(
                [*command, name, target], capture_output=True, text=True, check=False, timeout=60
            )
        finally:
            os.umask(former)

    done = run("renew", chosen.path)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {"changed": True, "error": "", "notes": []}
    assert int((tmp_path / "umask").read_text(), 8) == 0o022
    done = run("scheduled", str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert hook.exists()
    assert (tmp_path / "x.example.deployed").exists()
