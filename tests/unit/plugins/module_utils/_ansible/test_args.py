# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the argument specs that several modules share."""

from __future__ import annotations

import pathlib
import typing as t

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.hallmark.signing.plugins.module_utils._ansible import args
from ansible_collections.hallmark.signing.plugins.module_utils._errors import KeyFileError, RegistryError
from ansible_collections.hallmark.signing.plugins.module_utils._oci.transport import HostSettings

KEY_ID = "0123456789abcdef" * 4


def validate(spec: args.Spec, **params: t.Any) -> dict[str, t.Any]:
    """Return the parameters as a module gets them."""
    result = ArgumentSpecValidator(spec).validate(params)
    assert result.error_messages == []
    return t.cast("dict[str, t.Any]", result.validated_parameters)


def errors(spec: args.Spec, **params: t.Any) -> str:
    return " / ".join(ArgumentSpecValidator(spec).validate(params).error_messages)


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))


def test_registry_options_have_the_defaults_of_the_contract() -> None:
    assert validate(args.registry_spec()) == {
        "registry_auth_file": None, "registries": [], "timeout": 30, "workers": 16,
    }
    (entry,) = validate(args.registry_spec(), registries=[{"host": "r.example.org"}])["registries"]
    assert entry == {
        "host": "r.example.org", "username": None, "password": None, "ca_path": None, "validate_certs": True,
        "plain_http": None,
    }


def test_registry_options_that_belong_together_are_wanted_together() -> None:
    spec = args.registry_spec()
    assert "missing required" in errors(spec, registries=[{"username": "robot", "password": "x"}])
    for entry in ({"username": "robot"}, {"password": "x"}):
        assert "required together" in errors(spec, registries=[{"host": "r", **entry}])


def test_password_of_a_registry_is_a_secret() -> None:
    assert args.registry_spec()["registries"]["options"]["password"]["no_log"] is True


def test_settings_are_those_given() -> None:
    entries = [
        {"host": "r.example.org", "username": "robot", "password": "canary", "ca_path": "/ca.pem"},
        {"host": "127.0.0.1:5000", "validate_certs": False, "plain_http": True},
    ]
    settings = args.registries(validate(args.registry_spec(), registries=entries, timeout=7, workers=3)).settings
    assert settings.hosts == {
        "r.example.org": HostSettings("robot", "canary", "/ca.pem", True, None),
        "127.0.0.1:5000": HostSettings(None, None, None, False, True),
    }
    assert (settings.timeout, settings.workers) == (7.0, 3)
    assert "canary" not in repr(settings)


@pytest.mark.parametrize("number", [0, -1])
def test_timeout_and_workers_are_at_least_one(number: int) -> None:
    settings = args.registries(validate(args.registry_spec(), timeout=number, workers=number)).settings
    assert (settings.timeout, settings.workers) == (1.0, 1)


def test_credentials_come_from_the_file_that_is_named(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "auth.json"
    path.write_text('{"auths": {"r.example.org": {"auth": "cm9ib3Q6Y2FuYXJ5"}}}')
    settings = args.registries(validate(args.registry_spec(), registry_auth_file=str(path))).settings
    credentials = settings.credentials_for("r.example.org")
    assert credentials is not None
    assert (credentials.username, credentials.password) == ("robot", "canary")
    assert args.registries(validate(args.registry_spec())).settings.credentials_for("r.example.org") is None


def test_missing_file_of_credentials_is_an_error(tmp_path: pathlib.Path) -> None:
    with pytest.raises(RegistryError) as caught:
        args.registries(validate(args.registry_spec(), registry_auth_file=str(tmp_path / "missing")))
    assert caught.value.code == "not_found"


# Two entries of one host may well have different users; which one counts is chance.
@pytest.mark.xfail(strict=True, reason="questionable: of two entries for one host the first is dropped silently")
def test_two_entries_for_one_host_are_refused() -> None:
    params = validate(args.registry_spec(), registries=[{"host": "r", "plain_http": True}, {"host": "r"}])
    with pytest.raises(RegistryError):
        args.registries(params)


@pytest.mark.parametrize("prefix", ["", "source_"])
def test_passphrase_is_a_secret_and_its_path_is_none(prefix: str) -> None:
    spec = args.passphrase_spec(prefix)
    assert spec == {
        f"{prefix}passphrase": {"type": "str", "no_log": True},
        f"{prefix}passphrase_path": {"type": "path", "no_log": False},
    }
    assert validate(spec) == {f"{prefix}passphrase": None, f"{prefix}passphrase_path": None}


def test_file_options_have_the_defaults_of_the_contract() -> None:
    assert validate(args.file_spec()) == {"owner": None, "group": None, "mode": "0600"}
    # What YAML makes of an unquoted 0600; the domain refuses it.
    assert validate(args.file_spec(), mode=0o600)["mode"] == "384"


def test_key_ids_are_checked() -> None:
    other = "f" * 64
    assert args.key_ids([KEY_ID, other, KEY_ID], option="key_ids") == frozenset({KEY_ID, other})
    assert args.key_ids([], option="key_ids") == frozenset()
    for text in (KEY_ID.upper(), KEY_ID[:-1], KEY_ID + "0", f"sha256:{KEY_ID}", "", f"{KEY_ID}\n"):
        with pytest.raises(KeyFileError) as caught:
            args.key_ids([KEY_ID, text], option="denied_key_ids")
        assert (caught.value.code, caught.value.object) == ("input_invalid", "denied_key_ids")
