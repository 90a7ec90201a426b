# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of bringing renewals in line with the settings."""

from __future__ import annotations

import pathlib
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._certbot import renewal_file
from ansible_collections.hallmark.signing.plugins.module_utils._certbot.configuring import configure
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._certbot.certbot_bench import (
    CONF,
    OUTSIDE,
    calls,
    fake_certbot,
    settings,
    written,
)


def test_settings_of_renewals_are_edited(tmp_path: pathlib.Path) -> None:
    conf = written(tmp_path)
    kept = {"authenticator": "webroot", "webroot_path": "/a, b", "webroot_map x.example": "/a, b"}
    chosen = settings(tmp_path, authenticator={"arguments": [], "kept": kept})
    assert configure(chosen).changed
    text = conf.read_text()
    assert "old.example" not in text
    assert text.count("authenticator") == 1
    assert '[[webroot_map]]\nx.example = "/a, b"\n' in text
    for line in ("version = 2.1.0", "account = 1", "server = https://ca.example/dir", "reuse_key = True"):
        assert line in text.splitlines()
    assert not configure(chosen).changed
    command = {"authenticator": "manual", "pref_challs": "dns-01", "manual_auth_hook": "/bin/a 'two words'"}
    chosen = settings(tmp_path, authenticator={"arguments": [], "kept": command}, reuse_key=False)
    assert configure(chosen).changed
    assert "reuse_key = False" in conf.read_text().splitlines()
    assert renewal_file.parameters(chosen)["manual_auth_hook"] == "/bin/a 'two words'"
    assert not configure(chosen).changed


def test_newer_certbot_changes_them_itself(tmp_path: pathlib.Path) -> None:
    conf = written(tmp_path)
    fake_certbot(tmp_path, f"sed -i s/5002/80/ {conf}")
    own: dict[str, t.Any] = {
        "version": "5.8.0", "authenticator": {"arguments": ["--standalone"], "kept": {"http01_port": "80"}},
    }
    assert configure(settings(tmp_path, **own)).changed
    (call,) = calls(tmp_path)
    assert call.startswith("reconfigure --non-interactive")
    assert call.endswith("--cert-name x.example --agree-tos --standalone --reuse-key")
    # What is usual need not stand there.
    conf.write_text(conf.read_text().replace("http01_port = 80\n", ""))
    assert not configure(settings(tmp_path, **own)).changed
    fake_certbot(tmp_path, "echo no network; exit 1")
    report = configure(settings(tmp_path, **own, reuse_key=False))
    assert (report.changed, report.status, report.error) == (False, 1, "Certbot said no network")
    assert calls(tmp_path)[-1].endswith("--no-reuse-key")


@pytest.mark.parametrize("own", [{"csr": OUTSIDE}, {}])
def test_there_may_be_nothing_to_change(tmp_path: pathlib.Path, own: dict[str, t.Any]) -> None:
    if own:
        written(tmp_path)
    fake_certbot(tmp_path, "exit 1")
    report = configure(settings(tmp_path, version="5.8.0", reuse_key=False, exclusive=False, **own))
    assert (report.changed, report.status) == (False, 0)
    assert calls(tmp_path) == []


def test_what_nobody_renews_is_named(tmp_path: pathlib.Path) -> None:
    written(tmp_path)
    (tmp_path / "le" / "renewal" / "web.example.conf").write_text(CONF)
    (note,) = configure(settings(tmp_path)).notes
    assert note.endswith("web.example.")
    assert configure(settings(tmp_path, exclusive=False)).notes == ()


def test_copies_of_keys_and_another_type_are_told(tmp_path: pathlib.Path) -> None:
    written(tmp_path, CONF.replace("account = 1", "key_type = rsa"))
    (tmp_path / "le" / "keys").mkdir()
    for name in ("0000_key-certbot.pem", "0001_key-certbot.pem", "other"):
        (tmp_path / "le" / "keys" / name).touch(0o600)
    copies, kind = configure(settings(tmp_path)).notes
    assert copies.startswith(f"{tmp_path}/le/keys: holds 2 more copies")
    assert kind == "x.example: its key is of type rsa; certbot_key_type counts for the next new key."
