# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of signers that are programs: real processes, good ones and bad ones."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import pathlib
import signal
import sys
import time
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import KeyFileError
from ansible_collections.hallmark.signing.plugins.module_utils._keys import algorithms, making, pem
from ansible_collections.hallmark.signing.plugins.module_utils._keys.signers import command, protocol
from ansible_collections.hallmark.signing.plugins.module_utils._oci.concurrency import map_ordered
from cryptography.hazmat.primitives.asymmetric import utils

MESSAGE = b"payload\0\xff"
SECRET = "s3cr3t"
# Notes what it is given, and then does what the test says.
PROGRAM = """#!{python} -IS
import base64, json, os, sys, time
message = sys.stdin.buffer.read()
told = {{name: os.environ[name] for name in os.environ if name.startswith("HALLMARK_") or name == "FROM_CALLER"}}
with open({folder!r} + "/seen", "a") as file:
    file.write(json.dumps([sys.argv[1:], base64.b64encode(message).decode(), told]) + chr(10))
{body}
"""


class Room:
    """A folder with a key, and with programs that write what they are made with."""

    def __init__(self, folder: pathlib.Path, key: t.Any, public_pem: t.Any) -> None:
        self.folder, self.key = folder, key
        self.public = folder / "pub"
        self.public.write_bytes(public_pem(key))
        self.count = 0

    def program(self, body: str) -> str:
        """Write a program; return its path."""
        self.count += 1
        path = self.folder / f"program{self.count}"
        path.write_text(PROGRAM.format(python=sys.executable, folder=str(self.folder), body=body))
        path.chmod(0o755)
        return str(path)

    def writing(self, data: bytes) -> str:
        """Write a program whose output this is."""
        return self.program(f"sys.stdout.buffer.write({data!r})")

    def load(self, *argv: str, **options: t.Any) -> command.CommandSigner:
        return command.load(argv, public_key_path=str(self.public), **options)

    @property
    def seen(self) -> list[t.Any]:
        """What the programs were given."""
        return [json.loads(line) for line in (self.folder / "seen").read_text().splitlines()]


@pytest.fixture
def room(tmp_path: pathlib.Path, p256: t.Any, public_pem: t.Any) -> Room:
    """A room with a P-256 key."""
    return Room(tmp_path, p256, public_pem)


def refusal(function: t.Callable[[], object]) -> KeyFileError:
    """Return the error with which a function refuses."""
    with pytest.raises(KeyFileError) as caught:
        function()
    return caught.value


# What a program gets and gives ---------------------------------------------------------------------------------------


def test_program_gets_the_message_and_is_told_what_is_wanted(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_CALLER", "yes")
    path = room.writing(making.sign(room.key, MESSAGE))
    signer: protocol.Signer = room.load(path, "--key", "a b;$(exit)")
    signer.prepare([MESSAGE])
    signature = signer.sign(MESSAGE, scheme="ecdsa-sha256")
    assert algorithms.verifies(room.key.public_key(), signature=signature, message=MESSAGE)
    ((arguments, message, told),) = room.seen
    assert arguments == ["--key", "a b;$(exit)"]
    assert base64.b64decode(message) == MESSAGE
    assert told == {
        "FROM_CALLER": "yes", "HALLMARK_SCHEME": "ecdsa-sha256", "HALLMARK_KEY_ID": signer.public.key_id,
        "HALLMARK_MESSAGE_SHA256": hashlib.sha256(MESSAGE).hexdigest(),
    }
    assert "HALLMARK_SCHEME" not in os.environ


@pytest.mark.parametrize("spelling", ["der", "raw", "base64", "base64 of raw"])
def test_output_may_be_spelled_as_signatures_are(spelling: str, room: Room) -> None:
    signature = making.sign(room.key, MESSAGE)
    raw = b"".join(number.to_bytes(32, "big") for number in utils.decode_dss_signature(signature))
    data = {
        "der": signature, "raw": raw, "base64": base64.encodebytes(signature),
        "base64 of raw": base64.b64encode(raw) + b"\n",
    }[spelling]
    assert room.load(room.writing(data)).sign(MESSAGE) == signature


@pytest.mark.parametrize("change", [
    lambda signature: b"", lambda signature: signature[:-1], lambda signature: signature + b"\n",
    lambda signature: b"signature: " + signature, lambda signature: signature * 2, lambda signature: bytes(70),
])
def test_output_that_is_no_signature_is_refused(change: t.Any, room: Room) -> None:
    signer = room.load(room.writing(change(making.sign(room.key, MESSAGE))))
    error = refusal(lambda: signer.sign(MESSAGE))
    assert (error.code, error.object) == ("signature_invalid", signer.argv[0])
    assert signer.public.key_id in error.cause


def test_signature_over_something_else_is_refused(room: Room) -> None:
    signer = room.load(room.writing(making.sign(room.key, MESSAGE)))
    assert refusal(lambda: signer.sign(MESSAGE + b"\n")).code == "signature_invalid"


def test_scheme_is_one_of_the_usual_ones_or_the_one_asked_for(
    tmp_path: pathlib.Path, p384: t.Any, public_pem: t.Any
) -> None:
    room = Room(tmp_path, p384, public_pem)
    for made, asked, taken in (
        ("ecdsa-sha384", None, True), ("ecdsa-sha256", None, True), ("ecdsa-sha512", None, False),
        ("ecdsa-sha512", "ecdsa-sha512", True), ("ecdsa-sha384", "ecdsa-sha512", False),
    ):
        signer = room.load(room.writing(making.sign(p384, MESSAGE, scheme=made)), scheme=asked)
        assert not signer.chooses_scheme
        if taken:
            assert signer.sign(MESSAGE, scheme="ecdsa-sha256")
        else:
            assert refusal(lambda signer=signer: signer.sign(MESSAGE)).code == "signature_invalid"  # type: ignore[misc]
    told = [one[2]["HALLMARK_SCHEME"] for one in room.seen]
    assert told == ["ecdsa-sha256", "ecdsa-sha256", "ecdsa-sha384", "ecdsa-sha512", "ecdsa-sha512"]


def test_program_need_not_read(room: Room) -> None:
    path = room.folder / "deaf"
    signature = room.folder / "signature"
    message = bytes(1 << 20)
    signature.write_bytes(making.sign(room.key, message))
    path.write_text(f"#!/bin/sh\nexec cat {signature}\n")
    path.chmod(0o755)
    assert room.load(str(path)).sign(message) == signature.read_bytes()


def test_programs_run_in_many_threads(room: Room) -> None:
    signer = room.load(room.writing(making.sign(room.key, MESSAGE)))
    assert len(map_ordered(lambda _number: signer.sign(MESSAGE), range(12), workers=6)) == 12


def test_arguments_are_not_shown(room: Room) -> None:
    signer = room.load(room.program("sys.exit(1)"), SECRET)
    assert SECRET not in repr(signer) + str(refusal(lambda: signer.sign(MESSAGE)))


# Programs that fail --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("body", "cause"), [
    ("sys.exit('first' + chr(10) + 'the last' + chr(10) + '  ' + chr(10))", "it ended with status 1: the last"),
    ("sys.exit(3)", "it ended with status 3: it said nothing"),
    ("os.kill(os.getpid(), 9)", "signal 9 ended it: it said nothing"),
    ("sys.stderr.write(chr(27) + '[31mred' + chr(7) + chr(0x202e)); sys.exit(1)", "it ended with status 1: [31mred"),
    ("sys.stderr.write('x' * 1000); sys.exit(1)", "it ended with status 1: " + "x" * 200),
    ("sys.stderr.buffer.write(bytes([255, 10])); sys.exit(1)", "it ended with status 1: \N{REPLACEMENT CHARACTER}"),
    ("sys.stderr.write('x' * 1000000 + chr(10) + 'end'); sys.exit(1)", "it ended with status 1: end"),
])
def test_failure_is_told_with_the_last_line(body: str, cause: str, room: Room) -> None:
    signer = room.load(room.program(body))
    error = refusal(lambda: signer.sign(MESSAGE))
    assert (error.code, error.object, error.cause) == ("service_unavailable", signer.argv[0], cause)


def test_status_counts_whatever_the_output(room: Room) -> None:
    good = making.sign(room.key, MESSAGE)
    signer = room.load(room.program(f"sys.stdout.buffer.write({good!r}); sys.stdout.flush(); sys.exit(1)"))
    assert refusal(lambda: signer.sign(MESSAGE)).code == "service_unavailable"


def test_complaints_of_a_program_that_succeeds_do_not_matter(room: Room) -> None:
    good = making.sign(room.key, MESSAGE)
    path = room.program(f"sys.stderr.write('x' * 1000000); sys.stdout.buffer.write({good!r})")
    assert room.load(path).sign(MESSAGE) == good


@pytest.mark.parametrize("body", [
    "time.sleep(600)", "sys.stdout.write('x'); sys.stdout.flush(); time.sleep(600)",
    "os.close(1); os.close(2); time.sleep(600)",
])
def test_program_that_does_not_end_is_killed(body: str, room: Room) -> None:
    signer, begun = room.load(room.program(body), seconds=1), time.monotonic()
    error = refusal(lambda: signer.sign(MESSAGE))
    assert (error.code, error.cause) == (
        "service_unavailable", "it did not end within 1 seconds, and was killed",
    )
    assert time.monotonic() - begun < 60


def _is_running(pid: int) -> bool:
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _wait_for_end(pid: int) -> bool:
    for _attempt in range(200):
        if not _is_running(pid):
            return True
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    return False


@pytest.mark.parametrize("ends", [True, False])
def test_what_a_program_started_ends_with_it(ends: bool, room: Room) -> None:
    good, pid = making.sign(room.key, MESSAGE), room.folder / "pid"
    body = (
        "child = os.fork()\n"
        "if child == 0:\n    time.sleep(600)\n"
        f"open({str(pid)!r}, 'w').write(str(child))\n"
        f"sys.stdout.buffer.write({good!r})\nsys.stdout.flush()\n" + ("" if ends else "time.sleep(600)\n")
    )
    signer, begun = room.load(room.program(body), seconds=60 if ends else 2), time.monotonic()
    if ends:
        # What it leaves behind holds its output open, and is not waited for.
        assert signer.sign(MESSAGE) == good
        assert time.monotonic() - begun < 50
    else:
        assert refusal(lambda: signer.sign(MESSAGE)).code == "service_unavailable"
    assert _wait_for_end(int(pid.read_text()))


def test_output_is_bounded(room: Room) -> None:
    signer = room.load(room.program("while True: sys.stdout.write('x' * 65536)"))
    error = refusal(lambda: signer.sign(MESSAGE))
    assert (error.code, error.cause) == ("limit_exceeded", "it wrote more than 64 KiB")
    for size, code in ((65536, "signature_invalid"), (65537, "limit_exceeded")):
        signer = room.load(room.program(f"sys.stdout.write('x' * {size})"))
        assert refusal(lambda signer=signer: signer.sign(MESSAGE)).code == code  # type: ignore[misc]


def test_file_that_is_no_program_is_told(room: Room) -> None:
    path = room.folder / "empty"
    path.write_bytes(b"\x7fELF rubbish")
    path.chmod(0o755)
    error = refusal(lambda: room.load(str(path)).sign(MESSAGE))
    assert (error.code, error.object, error.cause) == ("not_found", str(path), "Exec format error")


# Which program -------------------------------------------------------------------------------------------------------


def test_name_is_looked_up_in_path(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pathlib.Path(room.writing(making.sign(room.key, MESSAGE)))
    error = refusal(lambda: room.load(path.name))
    assert (error.code, error.object) == ("not_found", path.name)
    assert "on PATH" in error.cause
    monkeypatch.setenv("PATH", f"{room.folder}:{os.environ['PATH']}")
    signer = room.load(path.name)
    assert signer.argv == (str(path),)
    # What is found is what runs, whatever becomes of PATH.
    monkeypatch.setenv("PATH", "/nowhere")
    assert signer.sign(MESSAGE)


def test_program_that_is_missing_or_not_executable_is_refused(room: Room) -> None:
    path = pathlib.Path(room.writing(b""))
    path.chmod(0o644)
    for name in (str(path), str(room.folder / "none"), str(room.folder)):
        error = refusal(lambda name=name: room.load(name))  # type: ignore[misc]
        assert (error.code, error.object, "PATH" in error.cause) == ("not_found", name, False)


@pytest.mark.parametrize("argv", [(), ("",), ("a\0b",), ("/bin/true", "a\0b"), ("./sign",), ("bin/sign",)])
def test_command_that_makes_no_sense_is_refused(argv: tuple[str, ...], room: Room) -> None:
    error = refusal(lambda: room.load(*argv))
    assert (error.code, error.object) == ("input_invalid", "command")


def test_program_that_others_may_change_is_refused(room: Room) -> None:
    path = pathlib.Path(room.writing(b""))
    path.chmod(0o777)
    assert refusal(lambda: room.load(str(path))).code == "parent_unsafe"
    path.chmod(0o755)
    room.folder.chmod(0o777)
    error = refusal(lambda: room.load(str(path)))
    assert (error.code, error.object) == ("parent_unsafe", str(path))


# Which key -----------------------------------------------------------------------------------------------------------


def test_expected_key_is_taken_and_another_refused(room: Room) -> None:
    own = pem.public_key(room.key.public_key(), where="x")
    path = room.writing(b"")
    assert room.load(path, key_id=own.key_id).public == own
    error = refusal(lambda: room.load(path, key_id="0" * 64))
    assert (error.code, error.object) == ("key_mismatch", str(room.public))
    error = refusal(lambda: room.load(path, scheme="rsa-pss-sha256"))
    assert (error.code, error.object) == ("unsupported_algorithm", "command")
    room.public.unlink()
    assert refusal(lambda: room.load(path)).code == "not_found"
