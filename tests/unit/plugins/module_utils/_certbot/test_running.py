# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of running Certbot."""

from __future__ import annotations

import fcntl
import os
import pathlib
import time

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._certbot import running
from ansible_collections.hallmark.signing.plugins.module_utils._errors import CertbotError
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._certbot.certbot_bench import (
    LIMITED,
    calls,
    fake_certbot,
    settings,
)


def test_certbot_is_called_with_its_folders(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE")
    monkeypatch.setenv("KEPT", "kept")
    fake_certbot(tmp_path, f'echo "$LC_ALL $REQUESTS_CA_BUNDLE $KEPT" >{tmp_path}/environment')
    chosen = settings(tmp_path, ca_path="/ca.pem")
    assert running.certbot(chosen, "renew", "--x") == running.Done(0, "")
    assert calls(tmp_path) == [" ".join(["renew", "--non-interactive", *chosen.folders, "--x"])]
    assert (tmp_path / "environment").read_text() == "C.UTF-8 /ca.pem kept\n"


def test_another_instance_is_waited_for(tmp_path: pathlib.Path) -> None:
    # The log is that of the other instance.
    fake_certbot(tmp_path, f"echo '{running.BUSY}.'; exit 1")
    chosen = settings(tmp_path)
    (tmp_path / "logs" / "letsencrypt.log").write_text(LIMITED)
    done = running.certbot(chosen, "renew")
    assert len(calls(tmp_path)) == 3
    assert done == running.Done(1, f"Certbot said {running.BUSY}")


def test_instance_that_ends_is_waited_for(tmp_path: pathlib.Path) -> None:
    fake_certbot(tmp_path, f"test -e {tmp_path}/free || {{ touch {tmp_path}/free; echo '{running.BUSY}'; exit 1; }}")
    assert running.certbot(settings(tmp_path), "renew").status == 0
    assert len(calls(tmp_path)) == 2


def test_log_of_an_earlier_run_says_nothing(tmp_path: pathlib.Path) -> None:
    fake_certbot(tmp_path, "echo no network; exit 1")
    chosen = settings(tmp_path)
    log = tmp_path / "logs" / "letsencrypt.log"
    log.write_text(LIMITED)
    os.utime(log, (time.time() - 60, time.time() - 60))
    assert running.certbot(chosen, "renew").error == "Certbot said no network"


def test_only_the_end_of_a_log_is_read(tmp_path: pathlib.Path) -> None:
    fake_certbot(tmp_path, "exit 1")
    chosen = settings(tmp_path)
    log = tmp_path / "logs" / "letsencrypt.log"
    log.write_text(LIMITED.replace("rateLimited", "dns") + "x" * running.LOG_BYTES + LIMITED)
    error = running.certbot(chosen, "renew").error
    assert "dns" not in error
    assert "rateLimited" in error


def test_certbot_that_cannot_be_run(tmp_path: pathlib.Path) -> None:
    done = running.certbot(settings(tmp_path), "renew")
    assert done == running.Done(1, f"{tmp_path}/certbot could not be run: No such file or directory")


def test_certbot_that_does_not_end(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_certbot(tmp_path, "exec sleep 60")
    monkeypatch.setattr(running, "_SECONDS", 1)
    assert running.certbot(settings(tmp_path), "renew") == running.Done(1, "Certbot did not end within 1 seconds")
    assert len(calls(tmp_path)) == 1


def test_one_run_at_a_time(tmp_path: pathlib.Path) -> None:
    chosen = settings(tmp_path)
    with open(chosen.beside("lock"), "w", encoding="ascii") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(CertbotError, match="another run of this program") as caught, running.alone(chosen):
            pytest.fail("two runs at a time")
        assert caught.value.code == "lineage_busy"
        fcntl.flock(other, fcntl.LOCK_UN)
        with running.alone(chosen), pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
