# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Credentials: docker's config.json, and passwords that are never shown."""

from __future__ import annotations

import base64
import json
import traceback
import typing as t
from pathlib import Path

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import RegistryError
from ansible_collections.hallmark.signing.plugins.module_utils._oci import credentials
from ansible_collections.hallmark.signing.plugins.module_utils._oci.credentials import AuthFile, Credentials
from ansible_collections.hallmark.signing.plugins.module_utils._oci.transport import HostSettings, RegistrySettings

CANARY = "canary-of-a-password"


def encoded(username: str, password: str) -> str:
    return base64.b64encode(f"{username}:{password}".encode()).decode()


def read(tmp_path: Path, document: t.Any) -> AuthFile:
    path = tmp_path / "auth.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
    return credentials.read_auth_file(str(path))


def test_makes_a_basic_header() -> None:
    # The examples of RFC 7617 sections 2 and 2.1.
    assert Credentials("Aladdin", "open sesame", "x").basic() == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    assert Credentials("test", "123\u00a3", "x").basic() == "Basic dGVzdDoxMjPCow=="


@pytest.mark.parametrize("value", [
    Credentials("robot", CANARY, "x"),
    AuthFile("x", {"h": Credentials("robot", CANARY, "x")}),
    HostSettings(username="robot", password=CANARY),
    RegistrySettings(
        AuthFile("x", {"h": Credentials("robot", CANARY, "x")}), {"h": HostSettings("robot", CANARY)}
    ),
])
def test_a_password_is_in_no_repr(value: t.Any) -> None:
    assert CANARY not in repr(value) + str(value)


@pytest.mark.parametrize(("entry", "expected"), [
    ({"auth": encoded("robot", "pw")}, ("robot", "pw")),
    ({"auth": encoded("robot", "p:w:")}, ("robot", "p:w:")),
    ({"auth": encoded("robot", "p\u00e4")}, ("robot", "p\u00e4")),
    ({"auth": encoded("robot", "pw\0\0")}, ("robot", "pw")),
    ({"username": "robot", "password": "pw"}, ("robot", "pw")),
    ({"username": "robot", "password": ""}, ("robot", "")),
    ({"auth": encoded("right", "pw"), "username": "wrong", "password": "wrong"}, ("right", "pw")),
    ({"auth": "", "username": "robot", "password": "pw"}, ("robot", "pw")),
    ({}, None),
    ({"auth": ""}, None),
    ({"auth": None}, None),
    ({"auth": encoded("", "pw")}, None),
    ({"username": "robot"}, None),
    ({"password": "pw"}, None),
    ({"email": "x@example"}, None),
])
def test_reads_entries(tmp_path: Path, entry: t.Any, expected: tuple[str, str] | None) -> None:
    found = read(tmp_path, {"auths": {"r.io": entry}}).for_host("r.io")
    assert (found and (found.username, found.password)) == expected
    if found:
        assert found.source == str(tmp_path / "auth.json")


@pytest.mark.parametrize(("key", "host"), [
    ("r.io", "r.io"),
    ("r.io:5000", "r.io:5000"),
    ("https://r.io", "r.io"),
    ("https://r.io/v1/", "r.io"),
    ("http://r.io:5000/v2/", "r.io:5000"),
    ("https://index.docker.io/v1/", "docker.io"),
    ("index.docker.io", "docker.io"),
    ("docker.io", "docker.io"),
    ("registry-1.docker.io", "docker.io"),
    ("[::1]:5000", "[::1]:5000"),
])
def test_finds_the_entry_of_a_host(tmp_path: Path, key: str, host: str) -> None:
    found = read(tmp_path, {"auths": {key: {"auth": encoded("robot", "pw")}}})
    assert found.for_host(host) == Credentials("robot", "pw", str(tmp_path / "auth.json"))


@pytest.mark.parametrize("host", ["r.io:443", "r.io:5000", "x.r.io", "io", "evil.io", "R.io", "r.io.evil.io", ""])
def test_another_host_or_port_gets_nothing(tmp_path: Path, host: str) -> None:
    assert read(tmp_path, {"auths": {"r.io": {"auth": encoded("robot", "pw")}}}).for_host(host) is None


@pytest.mark.parametrize(("document", "helpers", "store"), [
    ({}, {}, None),
    ({"auths": {}}, {}, None),
    ({"auths": None}, {}, None),
    ({"credsStore": ""}, {}, None),
    ({"credHelpers": {}}, {}, None),
    ({"credsStore": "desktop"}, {}, "desktop"),
    ({"credHelpers": {"r.io": "ecr-login"}}, {"r.io": "ecr-login"}, None),
    ({"credHelpers": {"https://index.docker.io/v1/": "pass"}}, {"index.docker.io": "pass"}, None),
])
def test_notices_helpers(tmp_path: Path, document: t.Any, helpers: dict[str, str], store: str | None) -> None:
    found = read(tmp_path, document)
    assert (found.helpers, found.store, found.by_host) == (helpers, store, {})


@pytest.mark.parametrize("document", [
    "",
    "not json " + CANARY,
    f'{{"auths": {{"r.io": {{"password": "{CANARY}"',
    f'["{CANARY}"]',
    f'"{CANARY}"',
    "null",
    "1",
    json.dumps({"auths": [CANARY]}),
    json.dumps({"auths": CANARY}),
    json.dumps({"auths": {"r.io": CANARY}}),
    json.dumps({"auths": {"r.io": None}}),
    json.dumps({"auths": {"r.io": [CANARY]}}),
    json.dumps({"auths": {"r.io": {"auth": CANARY + "!"}}}),
    json.dumps({"auths": {"r.io": {"auth": encoded("robot", CANARY) + "\n"}}}),
    json.dumps({"auths": {"r.io": {"auth": base64.b64encode(b"\xff:" + CANARY.encode()).decode()}}}),
    json.dumps({"auths": {"r.io": {"auth": 1}}}),
    "x" * (2 * 1024 * 1024),
    '{"auths": {"r.io": {"auth": ""}}}' + " " * (1024 * 1024) + CANARY,
], ids=lambda document: repr(document[:30]))
def test_a_file_that_cannot_be_parsed_is_an_error_that_does_not_quote_it(tmp_path: Path, document: str) -> None:
    if document.endswith(CANARY) and document.startswith("{"):
        # Only the first MiB is read: the rest of this one does not count, it is well-formed up to there.
        assert read(tmp_path, document).by_host == {}
        return
    with pytest.raises(RegistryError) as caught:
        read(tmp_path, document)
    assert (caught.value.code, caught.value.object) == ("malformed", str(tmp_path / "auth.json"))
    shown = "".join(traceback.format_exception(type(caught.value), caught.value, caught.value.__traceback__))
    assert CANARY not in str(caught.value)
    assert encoded("robot", CANARY) not in shown
    assert CANARY not in shown
    # The parser's own exception holds the whole document.
    assert not hasattr(caught.value.__cause__, "doc")


def test_a_file_nested_without_end_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RegistryError) as caught:
        read(tmp_path, "[" * 100_000)
    assert caught.value.code == "malformed"


@pytest.mark.parametrize(("make", "words"), [
    (lambda path: None, "No such file or directory"),
    (Path.mkdir, "Is a directory"),
    (lambda path: path.symlink_to(str(path)), "Too many levels of symbolic links"),
], ids=["missing", "folder", "loop"])
def test_a_file_that_was_asked_for_must_be_readable(
    tmp_path: Path, make: t.Callable[[Path], None], words: str
) -> None:
    path = tmp_path / "auth.json"
    make(path)
    with pytest.raises(RegistryError) as caught:
        credentials.read_auth_file(str(path))
    assert (caught.value.code, caught.value.object, caught.value.cause) == ("not_found", str(path), words)


def test_dockers_own_file_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "none"))
    assert credentials.read_auth_file(None) == AuthFile(str(tmp_path / "none" / "config.json"), {})


@pytest.mark.parametrize("by_variable", [True, False])
def test_reads_dockers_own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_variable: bool) -> None:
    folder = tmp_path / ("anywhere" if by_variable else ".docker")
    folder.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(folder) if by_variable else "")
    monkeypatch.setenv("HOME", str(tmp_path))
    (folder / "config.json").write_text(json.dumps({"auths": {"r.io": {"auth": encoded("robot", "pw")}}}))
    found = credentials.read_auth_file(None)
    assert found.path == credentials.default_path() == str(folder / "config.json")
    assert found.for_host("r.io") is not None


def test_dockers_own_broken_file_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(RegistryError) as caught:
        credentials.read_auth_file(None)
    assert caught.value.code == "malformed"


# Podman's file gives a namespace its own entry.
def test_an_entry_for_a_namespace_is_not_for_its_whole_host(tmp_path: Path) -> None:
    found = read(tmp_path, {"auths": {
        "quay.io": {"auth": encoded("general", "a")}, "quay.io/team": {"auth": encoded("team", "b")},
    }}).for_host("quay.io")
    assert found is not None
    assert found.username == "general"


# "docker login" with a refresh token writes identitytoken and an auth without a password.
def test_an_identity_token_is_no_empty_password(tmp_path: Path) -> None:
    entry = {"auth": encoded("00000000-0000-0000-0000-000000000000", ""), "identitytoken": CANARY}
    found = read(tmp_path, {"auths": {"r.azurecr.io": entry}}).for_host("r.azurecr.io")
    assert found is not None
    assert (found.password, found.identity_token) == ("", CANARY)
    assert CANARY not in repr(found)
