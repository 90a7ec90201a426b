# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the options of registries, and of what becomes of them."""

from __future__ import annotations

import pathlib
import typing as t

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.hallmark.signing.plugins.module_utils._ansible import registries
from ansible_collections.hallmark.signing.plugins.module_utils._errors import KeyFileError, RegistryError
from ansible_collections.hallmark.signing.plugins.module_utils._oci.transport import HostSettings, RegistrySettings

KEY_ID = "0123456789abcdef" * 4


def validate(spec: registries.Spec, **params: t.Any) -> dict[str, t.Any]:
    """Return the parameters as a module gets them."""
    result = ArgumentSpecValidator(spec).validate(params)
    assert result.error_messages == []
    return t.cast("dict[str, t.Any]", result.validated_parameters)


def settings_of(params: dict[str, t.Any], **options: t.Any) -> RegistrySettings:
    return registries.images(params, **options).registries.settings


def errors(spec: registries.Spec, **params: t.Any) -> str:
    return " / ".join(ArgumentSpecValidator(spec).validate(params).error_messages)


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))


def test_registry_options_have_the_defaults_of_the_contract() -> None:
    assert validate(registries.registry_spec()) == {
        "registry_auth_file": None, "registries": [], "timeout": 30, "workers": 16,
    }
    (entry,) = validate(registries.registry_spec(), registries=[{"host": "r.example.org"}])["registries"]
    assert entry == {
        "host": "r.example.org", "username": None, "password": None, "ca_path": None, "validate_certs": True,
        "plain_http": None, "client_cert": None, "client_key": None, "mirrors": [],
    }


def test_registry_options_that_belong_together_are_wanted_together() -> None:
    spec = registries.registry_spec()
    assert "missing required" in errors(spec, registries=[{"username": "robot", "password": "x"}])
    for entry in ({"username": "robot"}, {"password": "x"}):
        assert "required together" in errors(spec, registries=[{"host": "r", **entry}])


def test_password_of_a_registry_is_a_secret() -> None:
    assert registries.registry_spec()["registries"]["options"]["password"]["no_log"] is True


def test_settings_are_those_given() -> None:
    entries = [
        {"host": "r.example.org", "username": "robot", "password": "canary", "ca_path": "/ca.pem"},
        {"host": "127.0.0.1:5000", "validate_certs": False, "plain_http": True},
    ]
    params = validate(registries.registry_spec(), registries=entries, timeout=7, workers=3)
    settings = settings_of(params)
    assert settings.hosts == {
        "r.example.org": HostSettings("robot", "canary", "/ca.pem", True, None),
        "127.0.0.1:5000": HostSettings(None, None, None, False, True),
    }
    assert (settings.timeout, settings.workers) == (7.0, 3)
    assert "canary" not in repr(settings)


@pytest.mark.parametrize("number", [0, -1])
def test_timeout_and_workers_are_at_least_one(number: int) -> None:
    settings = settings_of(validate(registries.registry_spec(), timeout=number, workers=number))
    assert (settings.timeout, settings.workers) == (1.0, 1)


def test_credentials_come_from_the_file_that_is_named(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "auth.json"
    path.write_text('{"auths": {"r.example.org": {"auth": "cm9ib3Q6Y2FuYXJ5"}}}')
    settings = settings_of(validate(registries.registry_spec(), registry_auth_file=str(path)))
    credentials = settings.credentials_for("r.example.org")
    assert credentials is not None
    assert (credentials.username, credentials.password) == ("robot", "canary")
    assert settings_of(validate(registries.registry_spec())).credentials_for("r.example.org") is None


def test_missing_file_of_credentials_is_an_error(tmp_path: pathlib.Path) -> None:
    with pytest.raises(RegistryError) as caught:
        registries.images(validate(registries.registry_spec(), registry_auth_file=str(tmp_path / "missing")))
    assert caught.value.code == "not_found"


def test_last_of_two_entries_for_one_host_counts() -> None:
    params = validate(registries.registry_spec(), registries=[{"host": "r", "plain_http": True}, {"host": "r"}])
    assert settings_of(params).hosts == {"r": HostSettings(None, None, None, True, None)}


def test_key_ids_are_checked() -> None:
    other = "f" * 64
    assert registries.key_ids([KEY_ID, other, KEY_ID], option="key_ids") == frozenset({KEY_ID, other})
    assert registries.key_ids([], option="key_ids") == frozenset()
    for text in (KEY_ID.upper(), KEY_ID[:-1], KEY_ID + "0", f"sha256:{KEY_ID}", "", f"{KEY_ID}\n"):
        with pytest.raises(KeyFileError) as caught:
            registries.key_ids([KEY_ID, text], option="denied_key_ids")
        assert (caught.value.code, caught.value.object) == ("input_invalid", "denied_key_ids")
