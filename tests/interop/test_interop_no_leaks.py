# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""No secret leaks: canary key, passphrases and password, in every module, with all that Ansible can print."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pathlib
import secrets
import shutil
import subprocess
import threading
import typing as t
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import quote

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._keys import algorithms, pem
from cryptography.hazmat.primitives import serialization
from interop_tools import Ansible, Json, Registry, Run, Task, serve_registry


@dataclass
class Canaries:
    """What must not be seen anywhere, and where it may lie."""

    given: pathlib.Path
    secrets: dict[str, str]
    forms: dict[str, bytes]

    def seen_in(self, data: bytes) -> list[str]:
        """Return the names of the forms that occur."""
        return [name for name, form in self.forms.items() if form in data]


def _forms(name: str, text: str) -> dict[str, bytes]:
    data = text.encode()
    return {
        name: data, f"{name} in base64": base64.b64encode(data).rstrip(b"="), f"{name} in hex": data.hex().encode(),
        f"{name} in a URL": quote(text, safe="").encode(),
        f"{name} as Basic": base64.b64encode(f"ci:{text}".encode()).rstrip(b"="),
    }


@pytest.fixture(scope="module")
def canaries(tmp_path_factory: pytest.TempPathFactory) -> Canaries:
    """New secrets, in files of a folder that nothing else is written to."""
    given = tmp_path_factory.mktemp("given")
    given.chmod(0o700)
    words = {
        name: f"canary/{name}+{secrets.token_hex(8)}"
        for name in ("passphrase", "other_passphrase", "wrong_passphrase", "password", "wrong_password")
    }
    forms: dict[str, bytes] = {}
    for name, text in words.items():
        forms.update(_forms(name, text))
        (given / name).write_text(text + "\n")
        (given / name).chmod(0o600)
    key = algorithms.generate(algorithms.by_name("ecdsa-p256"))
    plain = pem.write_private_key(key, format="pem", passphrase=None)
    encrypted = pem.write_private_key(key, format="pem", passphrase=words["passphrase"].encode())
    (given / "public.pub").write_text(pem.public_key(key.public_key(), where="canary").pem)
    for name, data in (("plain.pem", plain), ("encrypted.pem", encrypted)):
        path = given / name
        path.touch(mode=0o600)
        path.write_bytes(data)
        lines = [line for line in data.splitlines() if not line.startswith(b"-") and len(line) > 20]
        forms.update({f"{name}, line {number}": line for number, line in enumerate(lines)})
    scalar = key.private_numbers().private_value.to_bytes(32, "big")  # type: ignore[union-attr]
    der = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    traditional = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    forms.update({
        "key number": scalar, "key number in hex": scalar.hex().encode(), "key number in decimal": str(
            int.from_bytes(scalar, "big")
        ).encode(),
        "DER in hex": der.hex().encode(), "DER": der, "DER in base64": base64.b64encode(der).rstrip(b"="),
        "SEC1, line 1": traditional.splitlines()[1],
    })
    return Canaries(given, words, forms)


@pytest.fixture(scope="module")
def registry(
    registry_program: str, canaries: Canaries, tmp_path_factory: pytest.TempPathFactory
) -> t.Iterator[Registry]:
    """A registry whose password is a canary, too."""
    if shutil.which("htpasswd") is None:
        pytest.skip("htpasswd is not installed (Debian package apache2-utils)")
    folder = tmp_path_factory.mktemp("canary-registry")
    made = subprocess.run(
        ["htpasswd", "-Bin", "-C", "5", "ci"], input=canaries.secrets["password"], capture_output=True, text=True,
        check=True,
    )
    (folder / "htpasswd").write_text(made.stdout.strip() + "\n")
    auth = {"htpasswd": {"realm": "interop", "path": str(folder / "htpasswd")}}
    options = {"username": "ci", "password": canaries.secrets["password"]}
    with serve_registry(folder, auth=auth, options=options) as running:
        yield running


class Processes:
    """Reads arguments and environments of all processes, as fast as it can, and looks for canaries in them."""

    def __init__(self, canaries: Canaries) -> None:
        self._canaries = canaries
        self._known: dict[str, bytes] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.looked_at = 0
        self.seen: set[str] = set()

    def __enter__(self) -> Processes:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.01):
            for name in os.listdir("/proc"):
                if name.isdigit():
                    with contextlib.suppress(OSError):
                        self._look(name)

    def _look(self, pid: str) -> None:
        arguments = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
        if self._known.get(pid) == arguments:
            return
        environment = b""
        with contextlib.suppress(PermissionError):
            environment = pathlib.Path(f"/proc/{pid}/environ").read_bytes()
        self._known[pid] = arguments
        self.looked_at += 1
        self.seen.update(
            f"{form} in {arguments[:200]!r}" for form in self._canaries.seen_in(arguments + b"\0" + environment)
        )


def _passphrases(way: str, given: pathlib.Path, **names: str) -> Json:
    """Return options that hand over secrets: by value, or by the path of a file."""
    if way == "path":
        return {f"{option}_path": str(given / secret) for option, secret in names.items()}
    return {option: f"{{{{ canary_{secret} }}}}" for option, secret in names.items()}


def _good(way: str, given: pathlib.Path, dest: pathlib.Path, image: str, login: Json, build: Json | None) -> list[Task]:
    encrypted = str(given / "encrypted.pem")
    tasks = [
        Task("signing_key", {
            "path": str(dest / "new.key"), "public_key_path": str(dest / "new.pub"),
            **_passphrases(way, given, passphrase="passphrase"),
        }),
        Task("signing_key", {
            "path": str(dest / "imported.key"), "source_path": encrypted, "format": "cosign",
            **_passphrases(way, given, passphrase="other_passphrase", source_passphrase="passphrase"),
        }),
        Task("signing_key", {"path": str(dest / "plain.key"), "source_path": str(given / "plain.pem")}),
        Task("key_export", {
            "private_key_path": encrypted, "dest": str(dest / "export.key"),
            **_passphrases(way, given, passphrase="other_passphrase", source_passphrase="passphrase"),
        }),
        Task("key_export", {"private_key_path": str(given / "plain.pem"), "dest": str(dest / "export-plain.key")}),
        Task("signing_key_info", {
            "paths": [encrypted, str(given / "plain.pem")], **_passphrases(way, given, passphrase="passphrase"),
        }),
        Task("image_signature", {
            "images": [image], "registries": [login],
            "signers": [{"private_key_path": encrypted, **_passphrases(way, given, passphrase="passphrase")}],
        }),
        Task("image_verify", {
            "images": [image], "registries": [login], "trust": [{"public_key_path": str(given / "public.pub")}],
            "on_failure": "report",
        }),
        Task("key_export", {
            "dest": str(dest / "export.key"), "state": "absent",
            **_passphrases(way, given, passphrase="other_passphrase"),
        }),
    ]
    if build:
        tasks.append(Task("image_build", {**build, "registries": [login]}))
    return tasks


def _bad(way: str, given: pathlib.Path, dest: pathlib.Path, image: str, login: Json, build: Json | None) -> list[Task]:
    encrypted = str(given / "encrypted.pem")
    wrong = _passphrases(way, given, passphrase="wrong_passphrase")
    wrong_source = _passphrases(way, given, source_passphrase="wrong_passphrase")
    refused = {**login, "password": "{{ canary_wrong_password }}"}
    signer = {"private_key_path": encrypted, **_passphrases(way, given, passphrase="passphrase")}
    tasks = [
        # Each secret where another one is right, and where something else is wrong beside a right one.
        Task("signing_key", {"path": str(dest / "new.key"), **wrong}),
        Task("signing_key", {"path": str(dest / "another.key"), "source_path": encrypted, **wrong_source}),
        Task("signing_key", {
            "path": str(dest / "new.key"), "algorithm": "rsa-2048", **_passphrases(way, given, passphrase="passphrase"),
        }),
        Task("signing_key", {
            "path": str(given / "public.pub"), "source_path": str(given / "plain.pem"), "key_id": "0" * 64,
        }),
        Task("signing_key", {
            "path": str(dest / "new.key"), "state": "absent", "key_id": "0" * 64,
            **_passphrases(way, given, passphrase="passphrase"),
        }),
        Task("key_export", {
            "private_key_path": encrypted, "dest": str(dest / "export.key"), **wrong_source,
        }),
        Task("key_export", {"private_key_path": str(given / "plain.pem"), "dest": str(dest / "new.key"), **wrong}),
        Task("signing_key_info", {"paths": [encrypted, str(given / "passphrase")], **wrong}),
        Task("image_signature", {
            "images": [image], "registries": [login], "signers": [{"private_key_path": encrypted, **wrong}],
        }),
        Task("image_signature", {"images": [image], "registries": [refused], "signers": [signer]}),
        Task("image_verify", {
            "images": [image], "registries": [refused], "trust": [{"public_key_path": str(given / "public.pub")}],
        }),
        # A private key, and a passphrase file, where a public key should be.
        Task("image_verify", {
            "images": [image], "registries": [login], "trust": [{"public_key_path": str(given / "plain.pem")}],
        }),
        Task("image_verify", {
            "images": [image], "registries": [login], "trust": [{"public_key_path": str(given / "passphrase")}],
        }),
        # And options that contradict each other, which Ansible itself refuses.
        Task("signing_key", {
            "path": str(dest / "x.key"), "passphrase": "{{ canary_passphrase }}",
            "passphrase_path": str(given / "passphrase"),
        }),
        Task("image_signature", {
            "images": [image], "signers": [{**signer, "passphrase": "{{ canary_passphrase }}", "unknown": 1}],
            "registries": [{**refused, "unknown": "x"}],
        }),
    ]
    if build:
        tasks.append(Task("image_build", {**build, "tags": ["2"], "registries": [refused]}))
    return tasks


class Leaks(t.NamedTuple):
    """What one series of playbooks left: the runs by name, and the folder of it all."""

    runs: dict[str, Run]
    folder: pathlib.Path
    dest: pathlib.Path


def _series(way: str, canaries: Canaries, registry: Registry, folder: pathlib.Path) -> Leaks:
    """Run all modules: in check mode, for success, for failure."""
    given, dest = canaries.given, folder / "dest"
    dest.mkdir(mode=0o700)
    own = Ansible(folder / "ansible-own")
    image = registry.image(way)
    login = {"host": registry.host, "username": "ci", "password": "{{ canary_password }}"}
    build = _build(registry, folder, way) if way == "option" else None
    good, bad = (make(way, given, dest, image, login, build) for make in (_good, _bad))

    def play(tasks: list[Task], *more: str) -> Run:
        run = own.play(
            [{"tasks": [task.as_json() for task in tasks]}],
            arguments=["-vvv", "--diff", "-e", f"@{given / 'vars.json'}", *more],
            environment={"ANSIBLE_LOG_PATH": str(folder / "ansible.log")},
        )
        assert len(run.lines) == len(tasks), run.stderr
        return run

    try:
        runs = {"check": play(good, "--check"), "success": play(good), "failure": play(bad)}
    finally:
        if build:
            names = [f"{build['name']}:{tag}" for tag in ("1", "2")]
            subprocess.run(["docker", "rmi", "--force", *names], capture_output=True, check=False)
    return Leaks(runs, folder, dest)


@pytest.fixture(scope="module")
def processes(canaries: Canaries) -> Processes:
    """What the processes showed while the playbooks ran."""
    return Processes(canaries)


@pytest.fixture(scope="module")
def leaks(
    canaries: Canaries, registry: Registry, tmp_path_factory: pytest.TempPathFactory, processes: Processes
) -> dict[str, Leaks]:
    """Both series, each with its way of handing over passphrases; at the same time, to save some."""
    (canaries.given / "vars.json").write_text(
        json.dumps({f"canary_{name}": text for name, text in canaries.secrets.items()})
    )
    ways = ("option", "path")
    with processes, ThreadPoolExecutor(len(ways)) as pool:
        made = pool.map(
            lambda way: _series(way, canaries, registry, tmp_path_factory.mktemp(f"leaks-{way}")), ways
        )
        return dict(zip(ways, made, strict=True))


@pytest.mark.parametrize("way", ["option", "path"])
def test_the_playbooks_did_what_they_were_to_do(leaks: dict[str, Leaks], way: str) -> None:
    """Else nothing that follows would mean anything."""
    runs = leaks[way].runs
    assert [line["result"] for line in runs["success"].lines if line["status"] != "ok"] == []
    assert [line["task"] for line in runs["failure"].lines if line["status"] == "ok"] == []


@pytest.mark.parametrize("run", ["check", "success", "failure"])
@pytest.mark.parametrize("way", ["option", "path"])
def test_nothing_printed_shows_a_secret(leaks: dict[str, Leaks], canaries: Canaries, way: str, run: str) -> None:
    done = leaks[way].runs[run]
    assert canaries.seen_in(done.stdout.encode()) == []
    assert canaries.seen_in(done.stderr.encode()) == []
    assert canaries.seen_in(json.dumps(done.results).encode()) == []


@pytest.mark.usefixtures("leaks")
def test_no_process_shows_a_secret(processes: Processes) -> None:
    assert processes.looked_at > 50
    assert processes.seen == set()


@pytest.mark.parametrize("way", ["option", "path"])
def test_no_file_but_the_destinations_holds_a_secret(leaks: dict[str, Leaks], canaries: Canaries, way: str) -> None:
    folder, dest = leaks[way].folder, leaks[way].dest
    found = {
        str(path.relative_to(folder)): canaries.seen_in(path.read_bytes())
        for path in folder.rglob("*") if path.is_file() and not path.is_relative_to(dest)
    }
    assert "ansible.log" in found
    assert {name: forms for name, forms in found.items() if forms} == {}
    # What the modules wrote is encrypted where it should be.
    for name in ("new.key", "imported.key"):
        assert canaries.seen_in((dest / name).read_bytes()) == []


def _build(registry: Registry, folder: pathlib.Path, way: str) -> Json | None:
    """Return the arguments of a small build, or None where no engine can be used."""
    if not os.environ.get("HALLMARK_TEST_BASE"):
        return None
    context = folder / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM scratch\nCOPY file /file\n")
    (context / "file").write_text("nothing secret\n")
    name = f"{registry.host}/hallmark-interop-leaks/{way}"
    return {"name": name, "tags": ["1"], "context": str(context)}
