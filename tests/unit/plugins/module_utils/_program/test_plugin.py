# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of cosign's plugin: its protocol, its configuration, and what it makes of answers by good and bad key hosts."""

from __future__ import annotations

import base64
import io
import json
import os
import pathlib
import stat
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._program import plugin
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._program.program_bench import give
from hypothesis import given
from hypothesis import strategies as st

IMAGE = "127.0.0.1:5891/acme/app@sha256:d55a0d08096f7219dcf0922eeb1ed8d5bbcd5931981fcc89506645197b20b41f"
PAYLOAD = (
    '{"critical":{"identity":{"docker-reference":"127.0.0.1:5891/acme/app"},"image":{"docker-manifest-digest":"'
    + IMAGE.partition("@")[2] + '"},"type":"cosign container image signature"},"optional":{"commit":"1"}}'
).encode()
PAE = (
    'DSSEv1 28 application/vnd.in-toto+json 242 {"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":'
    '{"sha256":"' + IMAGE.rpartition(":")[2] + '"},"annotations":{"commit":"1"}}],"predicateType":'
    '"https://sigstore.dev/cosign/sign/v1","predicate":{}}'
).encode()
OPTIONS = '"protocolVersion":"v1","keyResourceID":"release/' + IMAGE + '","hashFunc":5,"rpcOptions":{"keyVersion":"",' \
    '"remoteVerification":false}'
# What the cosigns of Debian 13 and sid sent.
GOLDEN = {
    "cosign 2.5.0": (
        '{"initOptions":{"ctxDeadline":"2026-11-21T21:40:10.233683477Z",' + OPTIONS + '},"methodName":"signMessage",'
        '"signMessage":{"signOptions":{"rpcOptions":{"ctxDeadline":"2026-11-21T21:40:10.233683477Z","keyVersion":"",'
        '"remoteVerification":false},"messageOptions":{"digest":null}}}}', PAYLOAD, None,
    ),
    "cosign 3.1.1": (
        '{"initOptions":{"ctxDeadline":"2026-11-21T21:40:10.343064163Z",' + OPTIONS + '},"methodName":"signMessage",'
        '"signMessage":{"signOptions":{"rpcOptions":{"keyVersion":"","remoteVerification":false},"messageOptions":'
        '{"digest":"YwrahFSyObT2cYmq5lvJXU+uNuXWEUnts7K8FqegHXE="}}}}', PAE,
        "YwrahFSyObT2cYmq5lvJXU+uNuXWEUnts7K8FqegHXE=",
    ),
}
PUBLIC_KEY = (
    '{"initOptions":{"ctxDeadline":"2026-11-21T21:40:10.343064163Z",' + OPTIONS + '},"methodName":"publicKey",'
    '"publicKey":{"publicKeyOptions":{"rpcOptions":{"keyVersion":"","remoteVerification":false}}}}'
)


class Bench:
    """An account with a configuration, and a program ssh that notes how it is called and says what it is told."""

    def __init__(
        self, folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.folder, self._monkeypatch, self._capsys = folder, monkeypatch, capsys
        self.home = folder / "home"
        self.bin = folder / "bin"
        self.bin.mkdir()
        (folder / "release.pub").write_text("the public key\n")
        self.system = folder / "system.json"
        monkeypatch.setenv("HOME", str(self.home))
        monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
        monkeypatch.setenv("PATH", f"{self.bin}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setattr(plugin, "_SYSTEM", str(self.system))
        self.answers('{"signature":"c2lnbmF0dXJl"}')
        self.configure()

    def configure(self, **changed: t.Any) -> None:
        """Write the configuration of the account."""
        entry = {"destination": "keyhost", "public_key_path": str(self.folder / "release.pub"), **changed}
        self.write({"identities": {"release": {name: value for name, value in entry.items() if value is not ...}}})

    def write(self, document: t.Any, path: pathlib.Path | None = None) -> None:
        """Write a configuration of any kind."""
        path = path or self.home / ".config" / "hallmark-signing" / "plugin.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(document if isinstance(document, str) else json.dumps(document))

    def answers(self, stdout: str | bytes, stderr: str = "", status: int = 0, *, seconds: float = 0) -> None:
        """Say what the other side says."""
        (self.folder / "stdout").write_bytes(stdout if isinstance(stdout, bytes) else stdout.encode())
        (self.folder / "stderr").write_text(stderr)
        program = self.bin / "ssh"
        program.write_text(
            f"#!/bin/sh\nfor word; do echo \"$word\"; done > {self.folder}/arguments\ncat > {self.folder}/request\n"
            f"exec 3>&1\nsleep {seconds}\ncat {self.folder}/stdout\ncat {self.folder}/stderr >&2\nexit {status}\n"
        )
        program.chmod(0o755)

    @property
    def arguments(self) -> list[str]:
        """How ssh was called; empty if it was not."""
        path = self.folder / "arguments"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def request(self) -> dict[str, t.Any]:
        """What ssh was given."""
        return t.cast("dict[str, t.Any]", json.loads((self.folder / "request").read_bytes()))

    def run(self, *argv: str, stdin: bytes = b"") -> tuple[int, dict[str, t.Any]]:
        """Run the plugin, and return its status and its answer, which is one line of ASCII."""
        give(self._monkeypatch, stdin)
        self._capsys.readouterr()
        status = plugin.main(argv)
        output, errors = self._capsys.readouterr()
        assert (output.count("\n"), output[-1:], errors) == (1, "\n", "")
        assert output.isascii()
        answer = json.loads(output)
        # cosign crashes over an answer that says nothing.
        assert len(answer) == 1
        assert all(answer.values())
        assert status == ("errorMessage" in answer)
        return status, answer

    def ask(
        self, method: str, key: str = f"release/{IMAGE}", *, stdin: bytes = b"", **options: t.Any
    ) -> dict[str, t.Any]:
        """Ask as cosign does."""
        request = {"initOptions": {"protocolVersion": "v1", "keyResourceID": key, "hashFunc": 5, **options}}
        return self.run("v1", json.dumps({**request, "methodName": method, method: {}}), stdin=stdin)[1]

    def sign(self, key: str = f"release/{IMAGE}", *, stdin: bytes = PAYLOAD, **options: t.Any) -> dict[str, t.Any]:
        """Have something signed."""
        return self.ask("signMessage", key, stdin=stdin, **options)

    def fails(self, *args: t.Any, **options: t.Any) -> str:
        """Return why nothing is signed."""
        answer = self.sign(*args, **options)
        assert list(answer) == ["errorMessage"], answer
        said = answer["errorMessage"]
        assert not any(ord(letter) < 32 or ord(letter) == 127 for letter in said)
        return str(said)


@pytest.fixture
def bench(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Bench:
    return Bench(tmp_path, monkeypatch, capsys)


# The protocol --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GOLDEN)
def test_what_cosign_sends_is_understood(bench: Bench, name: str) -> None:
    request, message, digest = GOLDEN[name]
    status, answer = bench.run("v1", request, stdin=message)
    assert (status, answer) == (0, {"signMessage": {"signature": "c2lnbmF0dXJl"}})
    assert bench.request == {
        "version": 1, "reference": IMAGE, "annotations": {}, "hash": "sha256",
        "message": base64.b64encode(message).decode(), "digest": digest,
    }


def test_public_key_comes_from_a_file_without_asking_anybody(bench: Bench) -> None:
    status, answer = bench.run("v1", PUBLIC_KEY)
    assert status == 0
    assert base64.b64decode(answer["publicKey"]["publicKeyPEM"]) == b"the public key\n"
    assert bench.ask("publicKey", "release") == answer
    assert bench.arguments == []


def test_algorithms_are_told(bench: Bench) -> None:
    assert bench.ask("defaultAlgorithm") == {"defaultAlgorithm": {"defaultAlgorithm": "ecdsa-p256-sha256"}}
    found = bench.ask("supportedAlgorithms")["supportedAlgorithms"]["supportedAlgorithms"]
    assert "ecdsa-p256-sha256" in found


@pytest.mark.parametrize(("method", "words"), [
    ("createKey", "not by cosign"), ("verifySignature", "release.pub"), ("", "not by cosign"), ("x" * 999, "x: keys"),
])
def test_other_methods_are_refused(bench: Bench, method: str, words: str) -> None:
    answer = bench.ask(method)
    assert words in answer["errorMessage"]
    assert len(answer["errorMessage"]) < 300
    assert bench.arguments == []


@pytest.mark.parametrize("argv", [
    [], ["v1"], ["v2", PUBLIC_KEY], ["v1", PUBLIC_KEY, "more"], [PUBLIC_KEY, "v1"], ["--help"],
])
def test_other_calls_are_refused(bench: Bench, argv: list[str]) -> None:
    assert "version v1" in bench.run(*argv)[1]["errorMessage"]


@pytest.mark.parametrize("request_", [
    "", "{", "null", "[]", "1", '"text"', "{}", '{"initOptions":{}}', '{"initOptions":null,"methodName":"signMessage"}',
    '{"initOptions":[],"methodName":"publicKey"}', '{"initOptions":{"keyResourceID":1},"methodName":"publicKey"}',
    '{"initOptions":{},"methodName":null}',
    '{"initOptions":{"keyResourceID":"release/a@b"},"methodName":"signMessage"}',
    '{"initOptions":{"keyResourceID":"release/a@b"},"methodName":"signMessage","signMessage":[]}',
    '{"initOptions":{"keyResourceID":"release/a@b"},"methodName":"signMessage","signMessage":{"signOptions":1}}',
    '{"initOptions":{"keyResourceID":"release/a@b","hashFunc":[]},"methodName":"signMessage","signMessage":{}}',
    "[" * 100000, '{"a":' * 100000,
])
def test_what_is_not_understood_is_an_error_and_no_crash(bench: Bench, request_: str) -> None:
    assert "not understood" in bench.run("v1", request_)[1]["errorMessage"]
    assert bench.arguments == []


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(
        st.sampled_from(["initOptions", "methodName", "signMessage", "keyResourceID", "hashFunc", "signOptions"]),
        inner,
    ), max_leaves=8,
))
def test_no_request_makes_it_crash(request_: t.Any) -> None:
    # Without an answer of the key host: this account has no configuration.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", "/nonexistent")
        patch.delenv("XDG_CONFIG_HOME", raising=False)
        patch.setattr(plugin, "_SYSTEM", "/nonexistent/plugin.json")
        patch.setattr("sys.stdout", out := io.StringIO())
        give(patch, b"")
        plugin.main(["v1", json.dumps(request_)])
    assert json.loads(out.getvalue())


@pytest.mark.parametrize(("number", "name"), [(5, "sha256"), (6, "sha384"), (7, "sha512")])
def test_hash_goes_by_its_name(bench: Bench, number: int, name: str) -> None:
    bench.sign(hashFunc=number)
    assert bench.request["hash"] == name


@pytest.mark.parametrize("number", [0, 3, 8, -5, None, "5", "sha256"])
def test_other_hashes_are_refused(bench: Bench, number: t.Any) -> None:
    assert "hash function" in bench.fails(hashFunc=number)
    assert bench.arguments == []


def test_message_may_be_missing_and_has_a_limit(bench: Bench) -> None:
    bench.sign(stdin=b"")
    assert bench.request["message"] is None
    limit = 256 * 1024
    bench.sign(stdin=b"x" * limit)
    assert len(base64.b64decode(bench.request["message"])) == limit
    os.unlink(bench.folder / "arguments")
    assert "larger" in bench.fails(stdin=b"x" * (limit + 1))
    assert bench.arguments == []


# What stands behind hallmark:// --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "reference", "annotations"), [
    (f"release/{IMAGE}", IMAGE, {}), (f"hallmark://release/{IMAGE}", IMAGE, {}),
    (f"release/{IMAGE}?a=1&b=x%20y%26z", IMAGE, {"a": "1", "b": "x y&z"}),
    (f"release/{IMAGE}?url=https://ci.example.org/1", IMAGE, {"url": "https://ci.example.org/1"}),
    (f"hallmark://release/{IMAGE}?url=https://ci/1", IMAGE, {"url": "https://ci/1"}),
    (f"release/{IMAGE}?empty=", IMAGE, {"empty": ""}), (f"release/{IMAGE}?by=Jos%C3%A9", IMAGE, {"by": "Jos\u00e9"}),
    (f"release/{IMAGE}?", IMAGE, {}), (f"release/{IMAGE}?a=1;b", IMAGE, {"a": "1;b"}),
    # What is no image is for the key host to refuse.
    ("release/UPPER@", "UPPER@", {}),
])
def test_key_names_identity_image_and_annotations(
    bench: Bench, key: str, reference: str, annotations: dict[str, str]
) -> None:
    assert "signMessage" in bench.sign(key)
    assert (bench.request["reference"], bench.request["annotations"]) == (reference, annotations)


@pytest.mark.parametrize("key", [
    "", "/", f"/{IMAGE}", f"../release/{IMAGE}", f".release/{IMAGE}", f"-o/{IMAGE}", f"re lease/{IMAGE}",
    f"{'r' * 65}/{IMAGE}", f"rel\n/{IMAGE}", f"release\n/{IMAGE}", f"other://release/{IMAGE}",
])
def test_identity_that_is_none_is_refused(bench: Bench, key: str) -> None:
    assert "hallmark://IDENTITY" in bench.fails(key)


@pytest.mark.parametrize("key", ["release", "release/", "release/127.0.0.1:5891/acme/app", "release/app:1?a=x@y"])
def test_image_must_be_named_by_its_digest(bench: Bench, key: str) -> None:
    assert "hallmark://release/HOST/REPO@DIGEST" in bench.fails(key)
    assert bench.arguments == []


@pytest.mark.parametrize("query", ["text", "&", "a=1&&b=2", "a=1&b", "a=%ff", "a=1;b&"])
def test_what_are_no_annotations_is_refused(bench: Bench, query: str) -> None:
    assert "NAME=VALUE" in bench.fails(f"release/{IMAGE}?{query}")
    assert bench.arguments == []


def test_annotation_is_named_once(bench: Bench) -> None:
    assert "twice" in bench.fails(f"release/{IMAGE}?a=1&a=2")
    assert bench.arguments == []


# The configuration ---------------------------------------------------------------------------------------------------


def test_configuration_of_the_account_comes_before_that_of_the_host(bench: Bench) -> None:
    entry = {"destination": "of-the-host", "public_key_path": "/etc/release.pub"}
    bench.write({"identities": {"release": entry, "other": entry}}, bench.system)
    bench.sign()
    assert bench.arguments[-1] == "keyhost"
    bench.sign(f"other/{IMAGE}")
    assert bench.arguments[-1] == "of-the-host"
    (bench.home / ".config" / "hallmark-signing" / "plugin.json").unlink()
    bench.sign()
    assert bench.arguments[-1] == "of-the-host"


def test_folder_of_configurations_can_be_elsewhere(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(bench.folder / "xdg"))
    assert "neither in" in bench.fails()
    entry = {"destination": "of-xdg", "public_key_path": "x"}
    bench.write({"identities": {"release": entry}}, bench.folder / "xdg" / "hallmark-signing" / "plugin.json")
    bench.sign()
    assert bench.arguments[-1] == "of-xdg"


def test_unknown_identity_names_both_files(bench: Bench) -> None:
    said = bench.fails(f"unknown/{IMAGE}")
    assert str(bench.home / ".config" / "hallmark-signing" / "plugin.json") in said
    assert str(bench.system) in said


@pytest.mark.parametrize("document", [
    "", "{", "[]", "{}", "null", '{"identities":null}', '{"identities":[["release"]]}', '{"identities":{"release":1}}',
    '{"identities":{"release":null}}', '{"identities":{"release":["destination"]}}', "[" * 100000,
])
def test_broken_configuration_names_its_file(bench: Bench, document: str) -> None:
    bench.write(document)
    said = bench.fails()
    assert "plugin.json" in said
    assert bench.arguments == []


def test_configuration_that_is_not_utf8_or_not_readable_is_told(bench: Bench) -> None:
    path = bench.home / ".config" / "hallmark-signing" / "plugin.json"
    path.write_bytes(b"\xff\xfe")
    assert str(path) in bench.fails()
    path.unlink()
    path.mkdir()
    assert f"{path}: could not be read (IsADirectoryError)" in bench.fails()


@pytest.mark.parametrize(("changed", "word"), [
    ({"destination": ...}, "destination"), ({"destination": ""}, "destination"),
    ({"destination": "-oProxyCommand=x"}, "destination"), ({"destination": 1}, "destination"),
    ({"destination": ["keyhost"]}, "destination"),
    ({"public_key_path": ...}, "public_key_path"), ({"public_key_path": ""}, "public_key_path"),
    ({"port": "22"}, "port"), ({"port": True}, "port"), ({"port": 0}, "port"), ({"port": 65536}, "port"),
    ({"port": 22.5}, "port"),
    ({"timeout": 0}, "timeout"), ({"timeout": "60"}, "timeout"), ({"timeout": 3601}, "timeout"),
    ({"timeout": None}, "timeout"),
    ({"identity_file": 1}, "identity_file"), ({"known_hosts": []}, "known_hosts"), ({"unknown": "x"}, "unknown"),
    ({"identity": "other"}, "identity"),
])
def test_wrong_entry_is_told(bench: Bench, changed: dict[str, t.Any], word: str) -> None:
    bench.configure(**changed)
    said = bench.fails()
    assert "plugin.json: could not be read (release: " in said
    assert word in said
    assert bench.arguments == []


@pytest.mark.parametrize("changed", [{"port": 1}, {"port": 65535}, {"timeout": 1}, {"timeout": 3600}])
def test_bounds_are_within(bench: Bench, changed: dict[str, int]) -> None:
    bench.configure(**changed)
    assert "signMessage" in bench.sign()


def test_missing_public_key_is_told(bench: Bench) -> None:
    bench.configure(public_key_path="/missing/release.pub")
    said = bench.ask("publicKey")["errorMessage"]
    assert said == "/missing/release.pub: could not read the public key of release: No such file or directory"


def test_paths_may_begin_in_the_home(bench: Bench) -> None:
    (bench.home / "own.pub").write_text("own\n")
    bench.configure(public_key_path="~/own.pub", known_hosts="~/hosts", identity_file="~/id")
    assert base64.b64decode(bench.ask("publicKey")["publicKey"]["publicKeyPEM"]) == b"own\n"
    bench.sign()
    assert f"UserKnownHostsFile={bench.home}/hosts" in bench.arguments
    assert f"{bench.home}/id" in bench.arguments


# ssh -----------------------------------------------------------------------------------------------------------------


def _options(arguments: list[str]) -> list[str]:
    return [value for name, value in zip(arguments, arguments[1:]) if name == "-o"]


def test_ssh_asks_nobody_and_learns_nothing(bench: Bench) -> None:
    bench.sign()
    assert bench.arguments[:1] + bench.arguments[-2:] == ["-T", "--", "keyhost"]
    assert {"-a", "-x"} <= set(bench.arguments)
    assert bench.arguments[bench.arguments.index("-p") + 1] == "22"
    options = _options(bench.arguments)
    assert {
        "BatchMode=yes", "StrictHostKeyChecking=yes", "UpdateHostKeys=no", "ClearAllForwardings=yes",
        "ControlPath=none",
    } <= set(options)
    assert not [one for one in options if one.startswith(("UserKnownHosts", "IdentitiesOnly", "GlobalKnownHosts"))]
    assert "-i" not in bench.arguments


def test_ssh_uses_what_is_configured_and_nothing_else(bench: Bench) -> None:
    bench.configure(destination="signer@keyhost", port=2222, identity_file="/id", known_hosts="/hosts")
    bench.sign()
    assert bench.arguments[-1] == "signer@keyhost"
    assert bench.arguments[bench.arguments.index("-p") + 1] == "2222"
    assert bench.arguments[bench.arguments.index("-i") + 1] == "/id"
    assert {"UserKnownHostsFile=/hosts", "GlobalKnownHostsFile=/dev/null", "IdentitiesOnly=yes"} <= set(
        _options(bench.arguments)
    )


def test_nothing_secret_is_in_its_arguments(bench: Bench) -> None:
    bench.sign(f"release/{IMAGE}?token=canary")
    assert "canary" not in " ".join(bench.arguments)
    assert stat.S_ISREG(os.stat(bench.folder / "request").st_mode)


def test_error_of_the_key_host_is_shown(bench: Bench) -> None:
    bench.answers('{"error":{"code":"limit_exceeded","message":"alice had 5 signatures"}}\n', status=1)
    assert bench.fails() == "alice had 5 signatures"


def test_hostile_answer_is_cleaned(bench: Bench) -> None:
    said = "\u001b]0;title\u0007\u001b[31mred\u001b[0m\nline\r\t\u009b\u202e" + "x" * 5000
    bench.answers(json.dumps({"error": {"code": "x", "message": said}}), status=1)
    shown = bench.fails()
    assert shown.startswith(" ]0;title [31mred [0m line x")
    assert len(shown) == 2000
    bench.answers("", stderr=f"{said}\n", status=1)
    assert "\u001b" not in bench.fails()


@pytest.mark.parametrize("answer", [
    "", "{}", "[]", "null", "1", '"error"', '"text"', '["error"]', "{", '{"signature":null}', '{"signature":1}',
    '{"signature":""}', '{"signature":"no base64!"}', '{"signature":"YQ==\\n"}', '{"signature":["YQ=="]}',
    '{"signature":{"a":1}}',
    '{"signature":"' + "A" * 8193 + '"}', '{"error":null}', '{"error":"text"}', '{"error":{}}', '{"error":[]}',
    "\u2028", "[" * 100000, b"\xff\xfe\x00", '{"signature":"YQ=="}{"signature":"YQ=="}',
    'Welcome!\n{"signature":"YQ=="}',
])
def test_answer_that_is_none_is_an_error(bench: Bench, answer: t.Any) -> None:
    bench.answers(answer, stderr="first line\nlast line\n\n", status=3)
    assert bench.fails() == "keyhost: ssh ended with status 3: last line"


def test_error_comes_before_a_signature(bench: Bench) -> None:
    bench.answers('{"signature":"YQ==","error":{"code":"x","message":"refused"}}')
    assert bench.fails() == "refused"


def test_silence_is_told(bench: Bench) -> None:
    bench.answers("", status=255)
    assert bench.fails() == "keyhost: ssh ended with status 255: it said nothing"


def test_changed_host_key_is_told_with_what_it_means(bench: Bench) -> None:
    warning = "@@@@\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\nHost key verification failed.\n"
    bench.answers("", stderr=warning, status=255)
    said = bench.fails()
    assert said.startswith("keyhost: its ssh host key is not the one in known_hosts. Nothing was sent.")
    bench.configure(known_hosts="/etc/hosts-we-know")
    assert "not the one in /etc/hosts-we-know" in bench.fails()
    bench.answers("", stderr="No ED25519 host key is known for x\nHost key verification failed.\r\n", status=255)
    assert "its ssh host key is not in /etc/hosts-we-know. Nothing was sent." in bench.fails()


def test_host_that_says_nothing_is_not_waited_for(bench: Bench) -> None:
    bench.configure(timeout=1)
    bench.answers("", seconds=30)
    assert bench.fails() == "keyhost: no answer within 1 seconds"


def test_missing_ssh_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(bench.folder / "empty"))
    assert bench.fails() == "could not run ssh: No such file or directory"
