# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of what Certbot keeps for renewals."""

from __future__ import annotations

import pathlib

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._certbot import renewal_file
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._certbot.certbot_bench import (
    OUTSIDE,
    settings,
    written,
)


def test_parameters_are_read(tmp_path: pathlib.Path) -> None:
    chosen = settings(tmp_path)
    assert renewal_file.parameters(chosen) == {}
    assert str(written(tmp_path)) == renewal_file.path_of(chosen)
    found = renewal_file.parameters(chosen)
    assert found["webroot_map old.example"] == "/old"
    assert found["http01_port"] == "5002"
    assert "version" not in found


def test_server_is_that_of_the_certificate(tmp_path: pathlib.Path) -> None:
    assert renewal_file.server(settings(tmp_path)) == settings(tmp_path).server
    written(tmp_path)
    assert renewal_file.server(settings(tmp_path)) == "https://ca.example/dir"
    # Certbot keeps nothing of a request whose key is elsewhere.
    assert renewal_file.server(settings(tmp_path, csr=OUTSIDE)) == settings(tmp_path).server


@pytest.mark.parametrize("value", ["plain", "/a, b", "a#b", "it's", 'say "x"', "two words"])
def test_values_are_read_as_they_were_written(tmp_path: pathlib.Path, value: str) -> None:
    path = written(tmp_path)
    renewal_file.edit(str(path), {"pref_challs": value, "webroot_map x.example": value})
    found = renewal_file.parameters(settings(tmp_path))
    assert (found["pref_challs"], found["webroot_map x.example"]) == (value, value)
    assert found["account"] == "1"
    assert "webroot_map old.example" not in found


def test_blocks_of_quotes_are_known(tmp_path: pathlib.Path) -> None:
    written(tmp_path, "[renewalparams]\na = '''it's \"x\"'''\nb = \"\"\"c\"\"\"\n")
    assert renewal_file.parameters(settings(tmp_path)) == {"a": "it's \"x\"", "b": "c"}
