# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the options of registries, and of what becomes of them."""

from __future__ import annotations

import json
import os
import pathlib
import traceback
import typing as t

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.hallmark.signing.plugins.module_utils._ansible import registries
from ansible_collections.hallmark.signing.plugins.module_utils._errors import FormatError, KeyFileError, RegistryError
from ansible_collections.hallmark.signing.plugins.module_utils._oci.credentials import Credentials
from ansible_collections.hallmark.signing.plugins.module_utils._oci.transport import HostSettings, RegistrySettings

KEY_ID = "0123456789abcdef" * 4


def validate(spec: registries.Spec, **params: t.Any) -> dict[str, t.Any]:
    """Return the parameters as a module gets them."""
    result = ArgumentSpecValidator(spec).validate(params)
    assert result.error_messages == []
    return t.cast("dict[str, t.Any]", result.validated_parameters)


def settings_of(params: dict[str, t.Any], **options: t.Any) -> RegistrySettings:
    return registries.settings(params, **options)


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
        registries.settings(validate(registries.registry_spec(), registry_auth_file=str(tmp_path / "missing")))
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


# Credential helpers --------------------------------------------------------------------------------------------------


@pytest.fixture
def helper(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> t.Callable[..., dict[str, t.Any]]:
    """Puts docker-credential-x on the PATH, names it in an auth file, and returns the parameters of a module."""

    def make(script: str, **members: t.Any) -> dict[str, t.Any]:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        (folder / "docker-credential-x").write_text(f"#!/bin/sh\n{script}\n")
        (folder / "docker-credential-x").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        path = tmp_path / "auth.json"
        path.write_text(json.dumps({"credHelpers": {"r.example.org": "x"}, **members}))
        return validate(registries.registry_spec(), registry_auth_file=str(path))

    return make


Helper = t.Callable[..., dict[str, t.Any]]
SAYS = """test "$1" = get || exit 2
read server
printf '{"ServerURL":"%s","Username":"NAME","Secret":"canary"}' "$server" """


def outcome(settings: RegistrySettings) -> tuple[Credentials | None, RegistryError | None]:
    """Return the credentials for the host that the helper is for, or why there are none."""
    try:
        return settings.credentials_for("r.example.org"), None
    except RegistryError as exc:
        return None, exc


NOTHING = "echo 'credentials not found in native keychain'; exit 1"


def test_a_credential_helper_is_asked_for_its_host(helper: Helper, tmp_path: pathlib.Path) -> None:
    settings = settings_of(helper(SAYS.replace("NAME", "robot") + f"; echo \"$server\" >> {tmp_path}/asked"))
    found = settings.credentials_for("r.example.org")
    assert found is not None
    assert (found.username, found.password, found.identity_token) == ("robot", "canary", "")
    assert (found.source, "canary" in repr(found)) == ("credential helper x", False)
    assert settings.credentials_for("other.example.org") is None
    assert (tmp_path / "asked").read_text() == "r.example.org\n"


def test_a_credential_helper_may_say_an_identity_token(helper: Helper) -> None:
    found = settings_of(helper(SAYS.replace("NAME", "<token>"))).credentials_for("r.example.org")
    assert found is not None
    assert (found.password, found.identity_token) == ("", "canary")
    assert "canary" not in repr(found)


@pytest.mark.parametrize(("host", "server"), [
    ("r.example.org", "r.example.org"), ("docker.io", "https://index.docker.io/v1/"), ("[::1]:5000", "[::1]:5000"),
])
def test_a_store_is_asked_for_every_host(helper: Helper, tmp_path: pathlib.Path, host: str, server: str) -> None:
    params = helper(SAYS.replace("NAME", "robot") + f"; echo \"$server\" > {tmp_path}/asked", credHelpers={},
                    credsStore="x")
    assert settings_of(params).credentials_for(host) is not None
    assert (tmp_path / "asked").read_text() == f"{server}\n"


def test_where_a_helper_knows_nothing_the_file_counts(helper: Helper) -> None:
    plain = {"r.example.org": {"auth": "cm9ib3Q6Y2FuYXJ5"}}
    found = settings_of(helper(NOTHING, auths=plain)).credentials_for("r.example.org")
    assert found is not None
    assert (found.username, found.password) == ("robot", "canary")
    assert settings_of(helper(NOTHING)).credentials_for("r.example.org") is None


def test_given_credentials_win_over_a_helper(helper: Helper, tmp_path: pathlib.Path) -> None:
    params = helper(f"touch {tmp_path}/asked; exit 1")
    entry = {"host": "r.example.org", "username": "own", "password": "canary"}
    params = validate(
        registries.registry_spec(), registries=[entry], registry_auth_file=params["registry_auth_file"]
    )
    found = settings_of(params).credentials_for("r.example.org")
    assert found is not None
    assert found.username == "own"
    assert not (tmp_path / "asked").exists()


@pytest.mark.parametrize("script", [
    "echo canary >&2; echo canary; exit 1", "echo canary", "printf '[\"canary\"]'", "kill -9 $$", "exit 127",
    """printf '{"Username":"robot","Secret":{"canary":1}}'""",
], ids=range(6))
def test_a_helper_that_fails_is_an_error_that_does_not_quote_it(helper: Helper, script: str) -> None:
    found, error = outcome(settings_of(helper(script)))
    assert found is None
    if error is not None:
        assert (error.code, "docker-credential-x" in error.attempt) == ("unauthorized", True)
        assert "canary" not in "".join(traceback.format_exception(type(error), error, error.__traceback__))


def test_a_helper_that_is_missing_is_an_error(helper: Helper) -> None:
    settings = settings_of(helper("", credHelpers={"r.example.org": "missing"}))
    with pytest.raises(RegistryError) as caught:
        settings.credentials_for("r.example.org")
    assert (caught.value.code, caught.value.cause) == ("unauthorized", "it is not there")


@pytest.mark.parametrize("name", ["../x", "/bin/sh", "x; touch y", "x y", ""])
def test_the_name_of_a_helper_is_no_path_and_no_command(helper: Helper, tmp_path: pathlib.Path, name: str) -> None:
    found, error = outcome(settings_of(helper(f"touch {tmp_path}/run", credHelpers={"r.example.org": name})))
    assert found is None
    assert error is None or error.code == "unauthorized"
    assert not (tmp_path / "run").exists()
    assert not pathlib.Path("y").exists()


def test_mirrors_and_settling_become_settings() -> None:
    entry = {
        "host": "docker.io", "mirrors": ["m.example.org", "n.example.org/hub"], "client_cert": "/c", "client_key": "/k",
    }
    params = validate({**registries.registry_spec(), **registries.settle_spec()}, registries=[entry])
    settings = settings_of(params, uses_mirrors=True)
    assert settings.hosts["docker.io"].mirrors == ("m.example.org", "n.example.org/hub")
    assert (settings.hosts["docker.io"].client_cert, settings.hosts["docker.io"].client_key) == ("/c", "/k")
    assert (settings.uses_mirrors, settings.settle_seconds) == (True, 2.0)
    assert settings_of(params).uses_mirrors is False
    assert "required" in errors(registries.registry_spec(), registries=[{"host": "r", "client_key": "/k"}])


@pytest.mark.parametrize("mirror", ["mirror.test:port", "http://mirror.test", "mirror", "", "mirror.test/UPPER"])
def test_a_mirror_that_is_no_host_is_refused(mirror: str) -> None:
    entry = {"host": "r.test", "mirrors": [mirror]}
    with pytest.raises(FormatError):
        registries.settings({"registries": [entry], "registry_auth_file": None, "timeout": 1, "workers": 1})
