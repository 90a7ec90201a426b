# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the signing service as a process sees it: standard input and output, who calls, credentials of a unit."""

from __future__ import annotations

import base64
import json
import os
import pathlib
import signal
import sys
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._custody import journal
from ansible_collections.hallmark.signing.plugins.module_utils._keyhost import serving
from ansible_collections.hallmark.signing.plugins.module_utils._keys import algorithms, fingerprint
from ansible_collections.hallmark.signing.plugins.module_utils._program import main, serve
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._keyhost.keyhost_bench import (
    ASKED,
    NAME,
    sig,
)
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._program.program_bench import built, give

PASSPHRASE = b"canary passphrase"
REQUEST = json.dumps({"version": 1, "reference": str(ASKED), "message": base64.b64encode(sig()).decode()}).encode()


class Host:
    """A host with a key in a file, and a configuration."""

    def __init__(self, folder: pathlib.Path, key: t.Any, pem: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.key, self._monkeypatch = folder, key, monkeypatch
        self.folder.mkdir(mode=0o700)
        (folder / "key").write_bytes(pem)
        (folder / "key").chmod(0o600)
        self.record = str(folder / "uses.jsonl")
        self.configure()
        monkeypatch.delenv("SSH_CONNECTION", raising=False)
        monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)

    def configure(self, **changed: t.Any) -> None:
        """Write the configuration."""
        (self.folder / "serve.json").write_text(json.dumps({
            "identity": "release", "key_id": fingerprint.key_id(self.key.public_key()),
            "private_key_path": str(self.folder / "key"), "record_path": self.record,
            "callers": [{"name": "alice", "repositories": [f"{NAME}"], "per_hour": 5}],
            **changed,
        }))

    def run(
        self, capsys: pytest.CaptureFixture[str], stdin: bytes = REQUEST, *, caller: str | None = "alice"
    ) -> tuple[int, dict[str, t.Any]]:
        """Serve one request."""
        give(self._monkeypatch, stdin)
        capsys.readouterr()
        more = [] if caller is None else ["--caller", caller]
        status = serve.main(["--config", str(self.folder / "serve.json"), *more])
        output, errors = capsys.readouterr()
        assert errors == ""
        assert output.count("\n") == 1
        assert "canary" not in output
        answer = json.loads(output)
        assert status == ("signature" not in answer)
        return status, answer

    def is_signed(self, answer: dict[str, t.Any]) -> bool:
        """Say whether the answer is a signature of the key."""
        signature = base64.b64decode(answer["signature"])
        return algorithms.verifies(self.key.public_key(), signature=signature, message=sig())


@pytest.fixture
def host(
    tmp_path: pathlib.Path, p256: t.Any, private_pem: t.Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> t.Iterator[Host]:
    yield Host(tmp_path / "keyhost", p256, private_pem(p256), monkeypatch)
    # Of the process that serves.
    signal.alarm(0)


def test_request_is_served(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    status, answer = host.run(capsys)
    assert status == 0
    assert host.is_signed(answer)
    assert [entry.members["caller"] for entry in journal.read(host.record)] == ["alice"]


def test_first_line_says_who_calls_behind_a_socket(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    assert host.is_signed(host.run(capsys, b"alice\n" + REQUEST, caller=None)[1])
    for first in (b"bob\n", b"\n", b"", b"alice bob\n", b"Alice\n", b"\xff\n", b"a" * 300):
        status, answer = host.run(capsys, first + REQUEST, caller=None)
        assert (status, answer["error"]["code"]) == (1, "unauthorized"), first
    # With an option, the first line is part of the request.
    assert host.run(capsys, b"alice\n" + REQUEST)[1]["error"]["code"] == "malformed"


def test_first_line_that_came_through_ssh_is_not_believed(
    host: Host, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_CONNECTION", "192.0.2.1 1 192.0.2.2 22")
    status, answer = host.run(capsys, b"alice\n" + REQUEST, caller=None)
    assert (status, answer["error"]["code"]) == (1, "input_invalid")
    assert not os.path.exists(host.record)
    assert host.is_signed(host.run(capsys)[1])


@pytest.mark.parametrize("caller", ["bob", ""])
def test_unknown_caller_is_refused(host: Host, capsys: pytest.CaptureFixture[str], caller: str) -> None:
    assert host.run(capsys, caller=caller)[1]["error"]["code"] == "unauthorized"


def test_request_has_a_limit(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    padding = b" " * (serving.MAX_REQUEST - len(REQUEST))
    assert host.is_signed(host.run(capsys, REQUEST + padding)[1])
    assert host.run(capsys, REQUEST + padding + b" ")[1]["error"]["code"] == "limit_exceeded"


def test_caller_that_says_nothing_is_not_waited_for(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.run(capsys)
    assert 0 < signal.alarm(0) <= 60


def test_wrong_configuration_is_told(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.configure(callers=[])
    assert host.run(capsys)[1]["error"]["code"] == "malformed"
    (host.folder / "serve.json").unlink()
    assert host.run(capsys)[1]["error"]["code"] == "not_found"


def test_other_key_than_the_configured_one_is_refused(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.configure(key_id="0" * 64)
    assert host.run(capsys)[1]["error"]["code"] == "key_mismatch"
    assert not os.path.exists(host.record)
    host.configure(key_id="wrong")
    assert host.run(capsys)[1]["error"]["code"] == "input_invalid"


def test_pointer_is_obeyed_once_it_is_there(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    path = host.folder / "release.pointer.json"
    host.configure(pointer_path=str(path))
    assert host.run(capsys)[0] == 0
    path.write_text(f'{{"key_id": "{"0" * 64}", "fence": 2, "suspended": false}}')
    assert host.run(capsys)[1]["error"]["code"] == "key_fenced"


@pytest.mark.parametrize(("passphrase", "end"), [
    (PASSPHRASE, b""), (PASSPHRASE, b"\n"), (PASSPHRASE + b"\n", b"\n"), (PASSPHRASE + b"\r", b"\n"),
])
def test_passphrase_comes_from_a_file_without_its_last_newline(
    host: Host, capsys: pytest.CaptureFixture[str], private_pem: t.Callable[..., bytes], passphrase: bytes, end: bytes
) -> None:
    (host.folder / "key").write_bytes(private_pem(host.key, passphrase))
    assert host.run(capsys)[1]["error"]["code"] == "passphrase_invalid"
    (host.folder / "passphrase").write_bytes(passphrase + end)
    host.configure(secret_path=str(host.folder / "passphrase"))
    assert host.is_signed(host.run(capsys)[1])
    (host.folder / "passphrase").write_bytes(b"canary wrong")
    assert host.run(capsys)[1]["error"]["code"] == "passphrase_invalid"


def test_key_and_passphrase_may_be_credentials_of_a_unit(
    host: Host, capsys: pytest.CaptureFixture[str], private_pem: t.Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    (host.folder / "key").write_bytes(private_pem(host.key, PASSPHRASE))
    (host.folder / "secret").write_bytes(PASSPHRASE)
    host.configure(private_key_path="credential:key", secret_path="credential:secret")
    answer = host.run(capsys)[1]
    assert answer["error"]["code"] == "not_found"
    assert "systemd gave this process none" in answer["error"]["message"]
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(host.folder))
    assert host.is_signed(host.run(capsys)[1])
    host.configure(private_key_path="credential:missing")
    assert str(host.folder / "missing") in host.run(capsys)[1]["error"]["message"]


def test_key_may_be_behind_a_uri(
    host: Host, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ansible_collections.hallmark.signing.plugins.module_utils._keys.signers import file, uri

    (host.folder / "pin").write_bytes(b"canary 1234\n")
    seen: list[t.Any] = []

    def load(text: str, **options: t.Any) -> t.Any:
        seen.append((text, options))
        return file.load(str(host.folder / "key"), passphrase=None, key_id=options["key_id"])

    monkeypatch.setattr(uri, "load", load)
    key_id = fingerprint.key_id(host.key.public_key())
    (host.folder / "serve.json").write_text(json.dumps({
        "identity": "release", "key_id": key_id, "uri": "pkcs11:token=t;object=o", "record_path": host.record,
        "secret_path": str(host.folder / "pin"), "public_key_path": "/etc/pub",
        "callers": [{"name": "alice", "repositories": [NAME], "per_hour": 5}],
    }))
    assert host.is_signed(host.run(capsys)[1])
    assert seen == [
        ("pkcs11:token=t;object=o", {"pin": b"canary 1234", "public_key_path": "/etc/pub", "key_id": key_id}),
    ]


# The program ---------------------------------------------------------------------------------------------------------


def test_program_finds_its_commands(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from ansible_collections.hallmark.signing.plugins.module_utils._program import certbot, keeping, plugin, relay

    monkeypatch.setattr(main, "_without_core_dumps", lambda: None)
    seen: list[t.Any] = []
    for module, number in ((plugin, 10), (serve, 11), (relay, 12)):
        monkeypatch.setattr(module, "main", lambda argv, number=number: seen.append(list(argv)) or number)
    monkeypatch.setattr(keeping, "main", lambda command, argv: seen.append([command, *argv]) or 13)
    former = os.umask(0o022)
    try:
        for argv, status, arguments in (
            (["/usr/bin/hallmark", "plugin", "v1", "{}"], 10, ["v1", "{}"]),
            (["/opt/bin/sigstore-kms-hallmark", "v1", "{}"], 10, ["v1", "{}"]),
            (["sigstore-kms-hallmark", "serve"], 10, ["serve"]), (["sigstore-kms-hallmark"], 10, []),
            (["hallmark.pyz", "serve", "--config", "x"], 11, ["--config", "x"]), (["x", "relay", "-h"], 12, ["-h"]),
            (["x", "stage", "--lineage"], 13, ["stage", "--lineage"]), (["x", "tidy"], 13, ["tidy"]),
        ):
            assert main.main(argv) == status
            assert seen.pop() == arguments
        for argv in (["x"], ["x", "other"], ["x", ""], ["x", "v1", "{}"], ["sigstore-kms-other", "v1", "{}"]):
            assert main.main(argv) == 2
        assert (seen, os.umask(0o022)) == ([], 0o077)
        # Certbot's hooks, which belong to others, find what they are used to.
        monkeypatch.setattr(main, "_without_core_dumps", lambda: pytest.fail("limits go to programs of others"))
        monkeypatch.setattr(certbot, "main", lambda argv: seen.append(list(argv)) or 14)
        assert main.main(["x", "certbot", "check", "x.settings"]) == 14
        assert (seen, os.umask(0o022)) == ([["check", "x.settings"]], 0o022)
    finally:
        os.umask(former)
    assert capsys.readouterr().err.count("usage: hallmark") == 5


def test_program_as_one_file_signs(host: Host, tmp_path: pathlib.Path) -> None:
    import subprocess

    path = built(tmp_path, sys.executable)
    environment = {"PATH": os.defpath, "PYTHONPATH": "/nonexistent"}
    command = [path, "serve", "--config", str(host.folder / "serve.json"), "--caller", "alice"]
    done = subprocess.run(command, input=REQUEST, capture_output=True, env=environment, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    assert host.is_signed(json.loads(done.stdout))
    done = subprocess.run(
        [*command[:-1], "bob"], input=REQUEST, capture_output=True, env=environment, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (1, b"")
    assert json.loads(done.stdout)["error"]["code"] == "unauthorized"


def test_program_leaves_no_core_dump(tmp_path: pathlib.Path) -> None:
    import resource
    import subprocess

    code = (
        "import resource, sys; sys.path.insert(0, sys.argv[1]); from hallmark_signing._program import main; "
        "main.main(['x']); print(resource.getrlimit(resource.RLIMIT_CORE))"
    )
    path = built(tmp_path, sys.executable)
    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=True, timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (4096, 4096)),
    )
    assert done.stdout == "(0, 0)\n"
