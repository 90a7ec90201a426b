# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Exported copies in the hands of others: cosign, openssl, age, a second use; and where key bytes go meanwhile."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import subprocess
import threading
import typing as t

import pytest
from interop_tools import PASSWORD, Ansible, Cosign, Json, Registry, Task

if t.TYPE_CHECKING:
    from conftest import KeyFiles

Run = t.Callable[..., Json]
_WRITES = "write,pwrite64,writev,pwritev,sendto,sendmsg,copy_file_range,sendfile,splice,execve,memfd_create"
_WRITTEN = re.compile(r"^(?P<call>\w+)\(\d+<(?P<where>[^>]*)>")


@pytest.fixture
def base(tmp_path: pathlib.Path) -> pathlib.Path:
    """A private folder of one test, with its record."""
    folder = tmp_path / "base"
    folder.mkdir(mode=0o700)
    return folder


def export(run_module: Run, base: pathlib.Path, key: KeyFiles, name: str, **options: t.Any) -> Json:
    """Export a key to base/NAME."""
    return run_module("key_export", {
        "private_key_path": str(key.pem), "dest": str(base / name), "record_path": str(base / "record"), **options,
    })


def _lines(key: KeyFiles) -> list[bytes]:
    return [line for line in key.pem.read_bytes().splitlines() if not line.startswith(b"-")]


# In the hands of others ----------------------------------------------------------------------------------------------


def test_cosign_signs_with_a_copy_that_carries_its_line(
    cosign: Cosign, run_module: Run, base: pathlib.Path, p256: KeyFiles, registry: Registry
) -> None:
    export(run_module, base, p256, "cosign.key", format="cosign", passphrase=PASSWORD, consume_once=True)
    assert (base / "cosign.key").read_bytes().startswith(b"hallmark-export: ")
    image = registry.image()
    cosign.sign(image, base / "cosign.key")
    assert cosign.accepts(image, p256.public)
    # It takes nothing away: only this collection does.
    assert (base / "cosign.key").exists()


def test_openssl_reads_a_copy_that_carries_its_line(run_module: Run, base: pathlib.Path, p256: KeyFiles) -> None:
    export(run_module, base, p256, "plain.key", consume_once=True)
    export(run_module, base, p256, "locked.key", passphrase=PASSWORD)
    for name in ("plain.key", "locked.key"):
        assert (base / name).read_bytes().startswith(b"hallmark-export: ")
        done = subprocess.run(
            ["openssl", "pkey", "-in", str(base / name), "-passin", f"pass:{PASSWORD}", "-pubout"],
            capture_output=True, check=True
        )
        assert done.stdout == p256.public.read_bytes()


def test_copy_for_one_use_signs_once(
    run_module: Run, base: pathlib.Path, p256: KeyFiles, registry: Registry, cosign: Cosign
) -> None:
    copy = base / "once.key"
    made = export(run_module, base, p256, "once.key", consume_once=True)
    image = registry.image()
    task = {"images": [image], "signers": [{"private_key_path": str(copy)}]}
    run_module("image_signature", task, check=True)
    assert copy.exists()
    assert run_module("image_signature", task)["changed"]
    assert not copy.exists()
    assert cosign.accepts(image, p256.public)
    again = run_module("image_signature", task)
    assert [reason["code"] for reason in again["reasons"]] == ["not_found"]
    # The next export says what became of the former.
    anew = export(run_module, base, p256, "once.key", consume_once=True)
    assert [event["event"] for event in anew["events"]] == ["gone", "exported"]
    assert anew["export_id"] != made["export_id"]


def test_copy_whose_time_is_over_does_not_sign(
    run_module: Run, base: pathlib.Path, p256: KeyFiles, registry: Registry
) -> None:
    copy = base / "over.key"
    copy.write_bytes(b"hallmark-export: 0123456789abcdef expires 2020-01-01T00:00:00Z\n" + p256.pem.read_bytes())
    copy.chmod(0o600)
    result = run_module("image_signature", {"images": [registry.image()], "signers": [{"private_key_path": str(copy)}]})
    assert [reason["code"] for reason in result["reasons"]] == ["export_expired"]
    (found,) = run_module("signing_key_info", {"paths": [str(copy)]})["signing_keys"]
    assert (found["key_id"], [problem["code"] for problem in found["problems"]]) == (p256.key_id, ["export_expired"])


@pytest.fixture
def age(tmp_path: pathlib.Path) -> tuple[pathlib.Path, str]:
    """The identity of the other host, and its recipient."""
    if shutil.which("age") is None or shutil.which("age-keygen") is None:
        pytest.skip("the program age is not installed")
    identity = tmp_path / "identity"
    subprocess.run(["age-keygen", "-o", str(identity)], capture_output=True, check=True)
    done = subprocess.run(["age-keygen", "-y", str(identity)], capture_output=True, text=True, check=True)
    return identity, done.stdout.strip()


def test_copy_to_a_recipient_is_opened_by_that_recipient_only(
    run_module: Run, base: pathlib.Path, tmp_path: pathlib.Path, p256: KeyFiles, age: tuple[pathlib.Path, str]
) -> None:
    identity, recipient = age
    made = export(run_module, base, p256, "sealed", recipient=recipient, consume_once=True)
    assert (made["changed"], made["key_id"]) == (True, p256.key_id)
    sealed = (base / "sealed").read_bytes()
    assert sealed.startswith(b"-----BEGIN AGE ENCRYPTED FILE-----\n")
    assert not export(run_module, base, p256, "sealed", recipient=recipient, consume_once=True)["changed"]
    # On the other host.
    opened = tmp_path / "opened"
    subprocess.run(
        ["age", "--decrypt", "--identity", str(identity), "--output", str(opened), str(base / "sealed")], check=True
    )
    opened.chmod(0o600)
    assert opened.read_text().startswith(f"hallmark-export: {made['export_id']} expires never, for one use\n")
    (found,) = run_module("signing_key_info", {"paths": [str(opened)]})["signing_keys"]
    assert found["key_id"] == p256.key_id
    other = subprocess.run(["age-keygen", "-o", str(tmp_path / "other")], capture_output=True, check=True)
    assert other.returncode == 0
    refused = subprocess.run(
        ["age", "--decrypt", "--identity", str(tmp_path / "other"), str(base / "sealed")], capture_output=True,
        check=False
    )
    assert refused.returncode != 0
    wrong = export(run_module, base, p256, "wrong", recipient="age1" + "q" * 58)
    assert [reason["code"] for reason in wrong["reasons"]] == ["write_failed"]
    assert not (base / "wrong").exists()


# Where key bytes go --------------------------------------------------------------------------------------------------


class Commands(threading.Thread):
    """Looks at the arguments and the environment of all processes, as fast as it can."""

    def __init__(self, secrets: list[bytes]) -> None:
        super().__init__(daemon=True)
        self._secrets, self._stop_asked = secrets, threading.Event()
        self.seen: set[str] = set()
        self.programs: set[str] = set()

    def run(self) -> None:
        while not self._stop_asked.is_set():
            for number in filter(str.isdigit, os.listdir("/proc")):
                for what in ("cmdline", "environ"):
                    try:
                        data = pathlib.Path(f"/proc/{number}/{what}").read_bytes()
                    except OSError:
                        continue
                    if what == "cmdline":
                        self.programs.add(os.path.basename(data.split(b"\0")[0].decode(errors="replace")))
                    if any(secret in data for secret in self._secrets):
                        self.seen.add(f"{what}: {data[:200]!r}")

    def end(self) -> None:
        self._stop_asked.set()
        self.join()


def _can_trace() -> bool:
    if shutil.which("strace") is None:
        return False
    return subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, check=False).returncode == 0


def test_key_bytes_go_to_the_destination_and_to_age_only(
    ansible: Ansible, base: pathlib.Path, tmp_path: pathlib.Path, p256: KeyFiles
) -> None:
    """Each byte that any process of the playbook writes is looked at."""
    if not _can_trace():
        pytest.skip("strace cannot trace here")
    record = {"record_path": str(base / "record")}
    tasks = [
        Task("key_export", {"private_key_path": str(p256.pem), "dest": str(base / name), **record, **options})
        for name, options in {"a.key": {}, "b.key": {"consume_once": True, "mode": "0400"}}.items()
    ]
    if shutil.which("age-keygen"):
        made = subprocess.run(["age-keygen"], capture_output=True, text=True, check=True).stdout
        recipient = next(line.split()[-1] for line in made.splitlines() if "public key" in line)
        tasks.append(Task("key_export", {
            "private_key_path": str(p256.pem), "dest": str(base / "c.age"), "recipient": recipient, **record,
        }))
    tasks += [
        Task("signing_key_info", {"paths": [str(base / "a.key")]}),
        Task("key_export", {
            "dest": str(base / "a.key"), "state": "absent", "key_id": p256.key_id, "sweep_paths": [str(base)], **record,
        }),
    ]
    secrets = _lines(p256)
    commands = Commands(secrets)
    commands.start()
    try:
        results = ansible.run(tasks, wrapper=[
            "strace", "-ff", "-qq", "-y", "-s", "65536", "-e", f"trace={_WRITES}", "-o", str(tmp_path / "trace"),
        ])
    finally:
        commands.end()
    assert not any(result.get("failed") for result in results), results
    assert commands.seen == set()
    went: set[str] = set()
    for path in tmp_path.glob("trace.*"):
        for line in path.read_bytes().splitlines():
            if any(secret in line for secret in secrets):
                found = _WRITTEN.match(line.decode(errors="replace"))
                assert found, line[:200]
                went.add("a pipe" if found["where"].startswith("pipe:") else found["where"])
    # Standard input of age is the only pipe that a key goes through.
    wanted = {str(base / f".{name}.hallmark-new") for name in ("a.key", "b.key")}
    assert went == wanted | ({"a pipe"} if len(tasks) == 5 else set())
    # Nothing of it is left, and the record never had it.
    assert sorted(os.listdir(base)) == ["record"]
    assert not any(secret in (base / "record").read_bytes() for secret in secrets)


# ANSIBLE_DEBUG -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("debug", ["1", ""])
def test_debug_is_warned_of_by_every_module_with_secrets(
    debug: str, ansible: Ansible, base: pathlib.Path, p256: KeyFiles, registry: Registry
) -> None:
    """Ansible shows the arguments of tasks then: that is its documented doing, and nothing that a module could hide."""
    tasks = [
        Task("signing_key", {"path": str(base / "new.key"), "passphrase": PASSWORD}),
        Task("signing_key_info", {"paths": [str(base / "new.key")], "passphrase": PASSWORD}),
        Task("key_export", {
            "private_key_path": str(p256.pem), "dest": str(base / "copy.key"), "passphrase": PASSWORD,
            "record_path": str(base / "record"),
        }),
        Task("image_signature", {"images": [registry.image()], "signers": [{"private_key_path": str(p256.pem)}]}),
    ]
    run = ansible.play(
        [{"tasks": [task.as_json() for task in tasks]}], environment={"ANSIBLE_DEBUG": debug} if debug else None
    ).require()
    for line in run.lines:
        assert any("ANSIBLE_DEBUG is set" in said for said in line["result"].get("warnings", [])) is bool(debug), line
    # What the modules themselves return hides it all the same.
    assert PASSWORD not in json.dumps(run.results)
