# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures for tests of modules: they run in this process, and their results must have exactly the keys they should."""

from __future__ import annotations

import functools
import json
import os
import pathlib
import typing as t

import pytest
import yaml
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args
from ansible_collections.hallmark.signing.plugins.module_utils._keys import encrypted_key
from ansible_collections.hallmark.signing.plugins.module_utils._oci import transport
from ansible_collections.hallmark.signing.tests.unit.fake_registry import FakeRegistry
from cryptography.hazmat.primitives.asymmetric import ec

REASON = ["code", "message", "object", "signature"]
# AnsibleModule.add_path_info() adds these to every result with a "path", and writes the mode of that file to "mode".
PATH_INFO = {"uid", "gid", "owner", "group", "state", "size", "secontext"}


class Result(t.NamedTuple):
    """How a module ended, and everything it said."""

    failed: bool
    result: dict[str, t.Any]
    warnings: list[str]

    @property
    def codes(self) -> list[str]:
        """The codes of the reasons."""
        return [reason["code"] for reason in self.result["reasons"]]


Run = t.Callable[..., Result]


@functools.cache
def _documented(module: str, text: str) -> dict[str, t.Any]:
    return t.cast("dict[str, t.Any]", yaml.safe_load(text))


def lacking(entries: dict[str, t.Any], result: dict[str, t.Any]) -> set[str]:
    """Return what the documentation promises in every outcome and a result does not have, lists looked into."""
    missing = {name for name, entry in entries.items() if entry["returned"] == "always" and name not in result}
    for name, entry in entries.items():
        if "contains" in entry and isinstance(result.get(name), list):
            missing |= {f"{name}[].{one}" for item in result[name] for one in lacking(entry["contains"], item)}
    return missing


@pytest.fixture
def run_module(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a module: run(module, keys, check=False, diff=False, **options); keys are those of the contract."""

    def run(
        module: t.Any, keys: t.Collection[str], *, check: bool = False, diff: bool = False, **options: t.Any
    ) -> Result:
        capfd.readouterr()
        # Ansible gathers warnings per process, and this one runs many modules.
        warned: list[str] = []
        monkeypatch.setattr(AnsibleModule, "warn", lambda _module, warning, **_more: warned.append(warning))
        former = os.umask(0o022)
        given = {"_ansible_check_mode": check, "_ansible_diff": diff, **options}
        try:
            with patch_module_args(given), pytest.raises(SystemExit) as caught:
                module.main()
        finally:
            os.umask(former)
        output, errors = capfd.readouterr()
        result = json.loads(output)
        failed = bool(result.get("failed"))
        assert bool(caught.value.code) is failed
        surplus = {"invocation", "warnings", "deprecations", "exception"} | ({"failed", "msg"} if failed else set())
        # Ansible itself ends a task with wrong options, before the module can say anything.
        if "reasons" in result or not failed:
            wanted = {"changed", "reasons", *keys}
            surplus |= PATH_INFO if "path" in keys else set()
            assert set(result) - surplus - ({"diff"} if diff else set()) == wanted
            assert lacking(_documented(module.__name__, module.RETURN), result) == set()
            assert bool(result["reasons"]) or not failed
            for reason in result["reasons"]:
                assert sorted(reason) == REASON
                assert reason["message"] in (result["msg"] if failed else reason["message"])
        assert "exception" not in result or not str(result["exception"]).startswith("Traceback")
        assert "canary" not in f"{output} {errors} {warned}"
        return Result(failed, result, warned)

    return run


_derive = functools.lru_cache(maxsize=None)(encrypted_key._derive)


# Not for the whole session: that would last into the tests of other folders.
@pytest.fixture(autouse=True, scope="module")
def _cheap_passphrases() -> t.Iterator[None]:
    """Write cosign's format with the least cost that is read, and derive each key once: scrypt is slow by design."""
    patch = pytest.MonkeyPatch()
    patch.setattr(encrypted_key, "_WRITTEN_N", 32768)
    patch.setattr(encrypted_key, "_derive", _derive)
    yield
    patch.undo()


@pytest.fixture
def home(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder that only this user can use."""
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture(scope="session")
def other_p256() -> ec.EllipticCurvePrivateKey:
    """Another key that signs images."""
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
def registry() -> t.Iterator[FakeRegistry]:
    """A registry."""
    with FakeRegistry() as fake:
        yield fake
        assert not fake.errors


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    """Keep the test away from this user's files, and its retries short."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "no-docker"))
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    for name in ("DOCKER_HOST", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(transport, "_FIRST_DELAY", 0.005)
