# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of what the role writes down about a lineage."""

from __future__ import annotations

import json
import pathlib
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._certbot import settings as lineages
from ansible_collections.hallmark.signing.plugins.module_utils._errors import CertbotError
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._certbot.certbot_bench import (
    settings,
    values,
)

OUTSIDE = {"path": "/r", "certificate": "/out/c", "chain": "/out/i", "fullchain": "/out/f", "renew_at": 1}


def test_settings_are_read(tmp_path: pathlib.Path) -> None:
    found = settings(
        tmp_path, domains=["a.example", "b.example"], authenticator={"arguments": ["--x"], "kept": {"a": "b"}},
        eab={"kid": "k", "hmac_key_path": "/h"}, busy_waits=[1, 0.5],
    )
    assert found.domains == ("a.example", "b.example")
    assert found.authenticator == lineages.Authenticator(("--x",), {"a": "b"})
    assert found.binding == lineages.Binding("k", "/h")
    assert found.busy_waits == (1, 0.5)
    assert found.outside is None
    assert found.live == str(tmp_path / "live")
    assert found.leaf == str(tmp_path / "live" / "cert.pem")
    assert found.beside("status") == str(tmp_path / "x.example.status")
    assert found.folders == (
        "--config-dir", str(tmp_path / "le"), "--work-dir", str(tmp_path), "--logs-dir", str(tmp_path / "logs"),
    )
    assert found.reuse_arguments == ("--reuse-key",)
    assert settings(tmp_path, reuse_key=False).reuse_arguments == ("--no-reuse-key",)


def test_key_that_is_elsewhere(tmp_path: pathlib.Path) -> None:
    found = settings(tmp_path, csr=OUTSIDE)
    assert found.outside == lineages.Outside("/r", "/out/c", "/out/i", "/out/f", 1)
    assert found.leaf == "/out/c"


@pytest.mark.parametrize(("version", "older"), [
    ("2.1.0", True), ("2.2", True), ("2.3.0", False), ("10.0", False), ("0", True),
])
def test_versions_are_compared_as_numbers(tmp_path: pathlib.Path, version: str, older: bool) -> None:
    assert settings(tmp_path, version=version).older_than(2, 3) is older


def test_settings_that_are_missing(tmp_path: pathlib.Path) -> None:
    with pytest.raises(CertbotError, match=r"Run role hallmark\.signing\.certbot\.") as caught:
        lineages.load(str(tmp_path / "x.settings"))
    assert caught.value.code == "not_found"


@pytest.mark.parametrize("name", sorted(values(pathlib.Path("/"))))
def test_member_that_is_missing_is_named(tmp_path: pathlib.Path, name: str) -> None:
    written = values(tmp_path)
    del written[name]
    (tmp_path / "x.settings").write_text(json.dumps(written))
    with pytest.raises(CertbotError, match=rf"{name} is missing\. Run role .*certbot again\.") as caught:
        lineages.load(str(tmp_path / "x.settings"))
    assert caught.value.code == "malformed"


@pytest.mark.parametrize(("changed", "named"), [
    ({"domains": "x.example"}, "domains"), ({"domains": [1]}, "domains"), ({"reuse_key": "True"}, "reuse_key"),
    ({"reuse_key": 1}, "reuse_key"), ({"busy_waits": [True]}, "busy_waits"), ({"server": None}, "server"),
    ({"authenticator": []}, "authenticator"), ({"authenticator": {"arguments": [], "kept": {"a": 1}}}, r"kept\.a"),
    ({"eab": {"kid": 1, "hmac_key_path": ""}}, r"eab\.kid"), ({"csr": {**OUTSIDE, "renew_at": "1"}}, r"csr\.renew_at"),
    ({"csr": {**OUTSIDE, "renew_at": True}}, r"csr\.renew_at"),
])
def test_member_of_another_type_is_named(tmp_path: pathlib.Path, changed: dict[str, t.Any], named: str) -> None:
    with pytest.raises(CertbotError, match=f"{named} is of the wrong type"):
        settings(tmp_path, **changed)
