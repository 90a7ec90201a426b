# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""No secret leaks: canary keys, passphrases, passwords and tokens, in every module, with all that Ansible can print."""

from __future__ import annotations

import base64
import contextlib
import datetime
import http.client
import json
import os
import pathlib
import secrets
import select
import shutil
import socket
import subprocess
import threading
import typing as t
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, urlsplit

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._keys import algorithms, making, pem, writing
from ansible_collections.hallmark.signing.tests.unit.fake_registry import FakeRegistry
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID
from interop_tools import Ansible, Json, Registry, Run, Task, serve_registry

_WORDS = (
    "passphrase", "other_passphrase", "wrong_passphrase", "password", "wrong_password", "identity_token",
    "wrong_identity_token",
)
_WAYS = ("option", "path", "logins")
# Nobody resolves these names: only a proxy leads there.
_BEHIND, _BEHIND_TLS = "registry.behind.invalid:5000", "registry.behind.invalid:5001"


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


def _client() -> tuple[bytes, bytes]:
    """Return a key and a certificate by which a host is known to a registry."""
    key = making.generate(algorithms.by_name("ecdsa-p256"))
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "client")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return (
        writing.write_private_key(key, format="pem", passphrase=None),
        certificate.public_bytes(serialization.Encoding.PEM),
    )


@pytest.fixture(scope="module")
def canaries(tmp_path_factory: pytest.TempPathFactory) -> Canaries:
    """New secrets, in files of a folder that nothing else is written to."""
    given = tmp_path_factory.mktemp("given")
    given.chmod(0o700)
    words = {name: f"canary/{name}+{secrets.token_hex(8)}" for name in _WORDS}
    forms: dict[str, bytes] = {}
    for name, text in words.items():
        forms.update(_forms(name, text))
        (given / name).write_text(text + "\n")
        (given / name).chmod(0o600)
    key = making.generate(algorithms.by_name("ecdsa-p256"))
    plain = writing.write_private_key(key, format="pem", passphrase=None)
    encrypted = writing.write_private_key(key, format="pem", passphrase=words["passphrase"].encode())
    (given / "public.pub").write_text(pem.public_key(key.public_key(), where="canary").pem)
    client, certificate = _client()
    (given / "client.pem").write_bytes(certificate)
    (given / "client-all.pem").write_bytes(certificate + client)
    for name, data in (("plain.pem", plain), ("encrypted.pem", encrypted), ("client.key", client)):
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


@pytest.fixture(scope="module")
def client_registry(
    registry_program: str, canaries: Canaries, private_ca: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> t.Iterator[Registry]:
    """A registry that wants to see a certificate of its clients."""
    tls = {
        "certificate": str(private_ca / "tls.pem"), "key": str(private_ca / "tls.key"),
        "clientcas": [str(canaries.given / "client.pem")],
    }
    options = {
        "ca_path": str(private_ca / "ca.pem"), "client_cert": str(canaries.given / "client.pem"),
        "client_key": str(canaries.given / "client.key"),
    }
    with serve_registry(tmp_path_factory.mktemp("client-registry"), tls=tls, options=options) as running:
        yield running


@pytest.fixture(scope="module")
def token_host(canaries: Canaries) -> t.Iterator[FakeRegistry]:
    """A registry whose token service takes an identity token."""
    with FakeRegistry(
        auth="bearer", username="ci", password="unknown", identity_token=canaries.secrets["identity_token"]
    ) as running:
        running.put_image("team/app", "1")
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


class Leaks(t.NamedTuple):
    """What one series of playbooks left: the runs by name, and the folder of it all."""

    runs: dict[str, Run]
    folder: pathlib.Path
    dest: pathlib.Path


def _play(
    own: Ansible, tasks: list[Task], canaries: Canaries, folder: pathlib.Path, *more: str,
    environment: t.Mapping[str, str] | None = None,
) -> Run:
    """Run tasks so that Ansible prints as much as it can."""
    run = own.play(
        [{"tasks": [task.as_json() for task in tasks]}],
        arguments=["-vvvv", "--diff", "-e", f"@{canaries.given / 'vars.json'}", *more],
        environment={"ANSIBLE_LOG_PATH": str(folder / "ansible.log"), **(environment or {})}, timeout=400,
    )
    assert len(run.lines) == len(tasks), run.stderr
    return run


def _write_pages(folder: pathlib.Path) -> None:
    """Write what can be assembled without an engine."""
    (folder / "pages").mkdir()
    (folder / "pages" / "Dockerfile").write_text("FROM scratch\nCOPY file /file\n")
    (folder / "pages" / "file").write_text("nothing secret\n")


def _passphrases(way: str, given: pathlib.Path, **names: str) -> Json:
    """Return options that hand over secrets: by value, or by the path of a file."""
    if way == "path":
        return {f"{option}_path": str(given / secret) for option, secret in names.items()}
    return {option: f"{{{{ canary_{secret} }}}}" for option, secret in names.items()}


def _key_id(given: pathlib.Path) -> str:
    return pem.read_public_key((given / "public.pub").read_bytes(), where="public.pub").key_id


def _sealed(way: str, given: pathlib.Path, dest: pathlib.Path) -> list[Task]:
    """Return an export to a recipient, where the program age is there: it gets the plain key."""
    if shutil.which("age-keygen") is None:
        return []
    made = subprocess.run(["age-keygen"], capture_output=True, text=True, check=True)
    (recipient,) = (line.split()[-1] for line in made.stdout.splitlines() if "public key" in line)
    return [Task("key_export", {
        "private_key_path": str(given / "encrypted.pem"), "dest": str(dest / "export.age"), "recipient": recipient,
        **_passphrases(way, given, source_passphrase="passphrase"),
    })]


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
        Task("key_export", {
            "private_key_path": encrypted, "dest": str(dest / "export-once.key"), "consume_once": True,
            **_passphrases(way, given, passphrase="other_passphrase", source_passphrase="passphrase"),
        }),
        *_sealed(way, given, dest),
        Task("key_export", {"private_key_path": str(given / "plain.pem"), "dest": str(dest / "swept" / "copy.key")}),
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
            "dest": str(dest / "export.key"), "state": "absent", "key_id": _key_id(given),
            "sweep_paths": [str(dest / "swept")],
            **_passphrases(way, given, passphrase="other_passphrase"),
        }),
    ]
    tasks += _uses(image, f"oci:{dest.parent}/layout", {"registries": [login]}, dest.parent / "pages", given)
    if build:
        tasks.append(Task("image_build", {**build, "registries": [login]}))
    return tasks


def _uses(image: str, layout: str, options: Json, context: pathlib.Path, given: pathlib.Path) -> list[Task]:
    """Return a task for each module that talks to registries, but image_signature, with these options."""
    name, _at, digest = image.partition("@")
    return [
        Task("image_copy", {"copies": [{"source": image, "destination": f"{layout}:1"}], **options}),
        Task("image_copy", {"copies": [
            {"source": image, "destination": f"{name}-copied:1"}, {"source": image, "destination": f"{layout}:2"},
        ], **options}),
        Task("image_signature_info", {"images": [image], "contents": True, "recursive": True, **options}),
        Task("image_verify", {
            "images": [image], "trust": [{"public_key_path": str(given / "public.pub")}], "on_failure": "report",
            **options,
        }),
        Task("image_build", {
            "name": f"{name}-assembled", "tags": [digest[-8:]], "context": str(context), "builder": "assemble",
            **options,
        }),
        Task("trust_policy_info", {
            "images": [image], "policy": _policy(name, given / "public.pub"), "enforcers": [ENFORCER], **options,
        }),
    ]


ENFORCER = {"enforcer": "containers", "enforcer_version": "5.34.2"}


def _policy(name: str, key: pathlib.Path) -> Json:
    """A trust policy for one repository and one key, or what lies where a key should be."""
    return {
        "version": 1, "authorities": {"release": {"public_key_path": str(key)}},
        "rules": [{"name": "app", "images": [name], "any_of": ["release"]}],
    }


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
        Task("key_export", {
            "private_key_path": str(given / "plain.pem"), "dest": str(dest / "x.age"), "recipient": "age1" + "q" * 58,
        }),
        Task("key_export", {
            "private_key_path": str(given / "plain.pem"), "dest": str(dest / "x.key"),
            "record_path": str(given / "passphrase"),
        }),
        Task("key_export", {
            "dest": str(dest / "none.key"), "state": "absent", "key_id": "0" * 64,
            "sweep_paths": [str(given / "plain.pem")],
        }),
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
        *(Task("trust_policy", {
            "policy": _policy("r.io/x", given / name), **ENFORCER, "dest": str(dest / "policy"),
        }) for name in ("plain.pem", "passphrase")),
        Task("trust_policy_info", {"lint_paths": [str(given / "plain.pem"), str(given / "passphrase")]}),
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
    tasks += _refused_uses(image, f"oci:{dest.parent}/none", {"registries": [refused]}, dest.parent / "pages", given)
    if build:
        tasks.append(Task("image_build", {**build, "tags": ["2"], "registries": [refused]}))
    return tasks


def _refused_uses(image: str, layout: str, options: Json, context: pathlib.Path, given: pathlib.Path) -> list[Task]:
    """Return the same tasks, as they fail where the options do not let us in."""
    tasks = _uses(image, layout, options, context, given)
    for task in tasks:
        task.args.pop("on_failure", None)
        if task.module == "image_build":
            task.args["tags"] = ["refused"]
    return tasks


# Logins that are no passwords ----------------------------------------------------------------------------------------

# What each helper does when it is asked. The secrets lie beside it.
_HELPERS = {
    "good": 'cat "$given/helper.json"',
    "token": 'cat "$given/helper-token.json"',
    "wrong": 'cat "$given/helper-wrong.json"',
    "wrong-token": 'cat "$given/helper-wrong-token.json"',
    "to-stderr": 'cat "$given/password" >&2; exit 1',
    "to-stdout": 'cat "$given/password"; exit 1',
    "nonsense": 'cat "$given/password"',
    "other-json": 'cat "$given/helper-list.json"',
    "killed": 'cat "$given/password" "$given/password" >&2; kill -9 $$',
}


def _write_helpers(canaries: Canaries) -> pathlib.Path:
    """Write credential helpers, what they say, and configurations of docker that name them; return their folder."""
    given, words = canaries.given, canaries.secrets
    folder = given / "bin"
    folder.mkdir()
    for name, does in _HELPERS.items():
        path = folder / f"docker-credential-canary-{name}"
        path.write_text(f"#!/bin/sh\ngiven={given}\ncat >/dev/null\n{does}\n")
        path.chmod(0o700)
    for name, user, secret in (
        ("helper", "ci", "password"), ("helper-token", "<token>", "identity_token"),
        ("helper-wrong", "ci", "wrong_password"), ("helper-wrong-token", "<token>", "wrong_identity_token"),
    ):
        said = {"ServerURL": "any", "Username": user, "Secret": words[secret]}
        (given / f"{name}.json").write_text(json.dumps(said))
    (given / "helper-list.json").write_text(json.dumps([{"Secret": words["password"]}]))
    for name in (*_HELPERS, "missing"):
        (given / f"use-{name}.json").write_text(json.dumps({"credsStore": f"canary-{name}"}))
    return folder


def _write_logins(canaries: Canaries, registry: Registry, token_host: FakeRegistry) -> None:
    """Write configurations of docker with plain logins, right and wrong, and one that cannot be parsed."""
    for name, secrets_of in (("plain", ("password", "identity_token")), ("plain-wrong", ("wrong_password",
                                                                                         "wrong_identity_token"))):
        password, token = (canaries.secrets[one] for one in secrets_of)
        auth = base64.b64encode(f"ci:{password}".encode()).decode()
        (canaries.given / f"use-{name}.json").write_text(json.dumps({"auths": {
            registry.host: {"auth": auth}, token_host.host: {"identitytoken": token},
        }}))
    text = (canaries.given / "use-plain.json").read_text()
    (canaries.given / "use-broken.json").write_text(text[:-3])


def _logins_good(
    canaries: Canaries, registry: Registry, client_registry: Registry, token_host: FakeRegistry, folder: pathlib.Path
) -> list[Task]:
    given, pages = canaries.given, folder / "pages"
    digest = token_host.manifests["team/app"]["1"].digest
    of_token, of_registry = f"{token_host.host}/team/app@{digest}", registry.image("logins")
    of_client = client_registry.image("logins")
    tasks: list[Task] = []
    for number, (image, options) in enumerate((
        (of_registry, {"registry_auth_file": str(given / "use-good.json")}),
        (of_registry, {"registry_auth_file": str(given / "use-plain.json")}),
        (of_token, {"registry_auth_file": str(given / "use-token.json")}),
        (of_token, {"registry_auth_file": str(given / "use-plain.json")}),
        (of_client, {"registries": client_registry.options}),
        (of_client, {"registries": [{
            "host": client_registry.host, "ca_path": client_registry.options[0]["ca_path"],
            "client_cert": str(given / "client-all.pem"),
        }]}),
    )):
        tasks += _uses(image, f"oci:{folder}/layout-{number}", options, pages, given)
        signer = {"private_key_path": str(given / "plain.pem")}
        tasks.append(Task("image_signature", {"images": [image], "signers": [signer], **options}))
    return tasks


def _logins_bad(
    canaries: Canaries, registry: Registry, client_registry: Registry, token_host: FakeRegistry, folder: pathlib.Path
) -> list[Task]:
    given, pages = canaries.given, folder / "pages"
    digest = token_host.manifests["team/app"]["1"].digest
    of_token, of_registry = f"{token_host.host}/team/app@{digest}", registry.image("logins")
    of_client, ours = client_registry.image("logins"), client_registry.options[0]
    names = ("wrong", "to-stderr", "to-stdout", "nonsense", "other-json", "killed", "missing", "plain-wrong", "broken")
    of_tokens = ("wrong-token", "plain-wrong")
    cases: list[tuple[str, Json]] = [
        *((of_registry, {"registry_auth_file": str(given / f"use-{name}.json")}) for name in names),
        *((of_token, {"registry_auth_file": str(given / f"use-{name}.json")}) for name in of_tokens),
        # A key that is missing, is none, is protected, belongs to another certificate; no certificate; a folder.
        *((of_client, {"registries": [{**ours, "client_key": str(given / name)}]}) for name in (
            "missing", "passphrase", "encrypted.pem", "plain.pem", "bin",
        )),
        (of_client, {"registries": [{**ours, "client_cert": str(given / "client.key")}]}),
        (of_client, {"registries": [{"host": ours["host"], "ca_path": ours["ca_path"]}]}),
        # The key where the authorities should be; and options that Ansible itself refuses.
        (of_client, {"registries": [{**ours, "ca_path": str(given / "client.key")}]}),
        (of_client, {"registries": [{**ours, "client_cert": None, "unknown": "x"}]}),
    ]
    signer = {"private_key_path": str(given / "plain.pem")}
    tasks: list[Task] = []
    for number, (image, options) in enumerate(cases):
        more = _refused_uses(image, f"oci:{folder}/none", options, pages, given)
        more.append(Task("image_signature", {"images": [image], "signers": [signer], **options}))
        # Each module with some of the failures, and some modules with each, is enough: they share this code.
        tasks += [more[number % len(more)], more[(number + 3) % len(more)]]
    return tasks


def _logins(
    canaries: Canaries, registry: Registry, client_registry: Registry, token_host: FakeRegistry, folder: pathlib.Path
) -> Leaks:
    """Run all modules with credential helpers, identity tokens and client certificates."""
    path = _write_helpers(canaries)
    _write_logins(canaries, registry, token_host)
    _write_pages(folder)
    dest = folder / "dest"
    dest.mkdir()
    own = Ansible(folder / "ansible-own")
    own.environment["PATH"] = f"{path}{os.pathsep}{own.environment['PATH']}"
    hosts = (canaries, registry, client_registry, token_host, folder)
    good, bad = _logins_good(*hosts), _logins_bad(*hosts)
    return Leaks({
        "check": _play(own, good, canaries, folder, "--check"), "success": _play(own, good, canaries, folder),
        "failure": _play(own, bad, canaries, folder),
    }, folder, dest)


def _series(way: str, canaries: Canaries, registry: Registry, folder: pathlib.Path) -> Leaks:
    """Run all modules: in check mode, for success, for failure."""
    given, dest = canaries.given, folder / "dest"
    dest.mkdir(mode=0o700)
    _write_pages(folder)
    own = Ansible(folder / "ansible-own")
    image = registry.image(way)
    login = {"host": registry.host, "username": "ci", "password": "{{ canary_password }}"}
    build = _build(registry, folder, way) if way == "option" else None
    good, bad = (make(way, given, dest, image, login, build) for make in (_good, _bad))

    try:
        runs = {
            "check": _play(own, good, canaries, folder, "--check"), "success": _play(own, good, canaries, folder),
            "failure": _play(own, bad, canaries, folder),
        }
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
    canaries: Canaries, registry: Registry, client_registry: Registry, token_host: FakeRegistry,
    tmp_path_factory: pytest.TempPathFactory, processes: Processes,
) -> dict[str, Leaks]:
    """All series, each with its way of handing over secrets; at the same time, to save some."""
    (canaries.given / "vars.json").write_text(
        json.dumps({f"canary_{name}": text for name, text in canaries.secrets.items()})
    )
    folders = {way: tmp_path_factory.mktemp(f"leaks-{way}") for way in _WAYS}
    with processes, ThreadPoolExecutor(len(_WAYS)) as pool:
        made = {
            way: pool.submit(_logins, canaries, registry, client_registry, token_host, folder) if way == "logins"
            else pool.submit(_series, way, canaries, registry, folder)
            for way, folder in folders.items()
        }
        return {way: one.result() for way, one in made.items()}


@pytest.mark.parametrize("way", _WAYS)
def test_the_playbooks_did_what_they_were_to_do(leaks: dict[str, Leaks], way: str) -> None:
    """Else nothing that follows would mean anything."""
    runs = leaks[way].runs
    assert [line["result"] for line in runs["success"].lines if line["status"] != "ok"] == []
    # No image makes trust_policy_info fail: it says what would become of it.
    well = {line["task"] for line in runs["failure"].lines if line["status"] == "ok"}
    assert well <= {"hallmark.signing.trust_policy_info"}


@pytest.mark.parametrize("run", ["check", "success", "failure"])
@pytest.mark.parametrize("way", _WAYS)
def test_nothing_printed_shows_a_secret(leaks: dict[str, Leaks], canaries: Canaries, way: str, run: str) -> None:
    done = leaks[way].runs[run]
    assert canaries.seen_in(done.stdout.encode()) == []
    assert canaries.seen_in(done.stderr.encode()) == []
    assert canaries.seen_in(json.dumps(done.results).encode()) == []


@pytest.mark.usefixtures("leaks")
def test_no_process_shows_a_secret(processes: Processes) -> None:
    assert processes.looked_at > 50
    assert processes.seen == set()


@pytest.mark.parametrize("way", _WAYS)
def test_no_file_but_the_destinations_holds_a_secret(leaks: dict[str, Leaks], canaries: Canaries, way: str) -> None:
    folder, dest = leaks[way].folder, leaks[way].dest
    found = {
        str(path.relative_to(folder)): canaries.seen_in(path.read_bytes())
        for path in folder.rglob("*") if path.is_file() and not path.is_relative_to(dest)
    }
    assert "ansible.log" in found
    assert {name: forms for name, forms in found.items() if forms} == {}
    # What the modules wrote is encrypted where it should be.
    for name in ("new.key", "imported.key") if way != "logins" else ():
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


# Logins of proxies ---------------------------------------------------------------------------------------------------


class _Proxy(BaseHTTPRequestHandler):
    """A proxy that wants a login, tells everybody the login it was given, and leads to two registries."""

    def _is_let_in(self) -> bool:
        given = self.headers.get("Proxy-Authorization", "")
        if given in t.cast(t.Any, self.server).logins:
            return True
        body = f"not {given} {base64.b64decode(given.partition(' ')[2]).decode()}".encode()
        self.send_response(407, body.decode())
        self.send_header("Proxy-Authenticate", f'Basic realm="{given}"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else body)
        return False

    def do_GET(self) -> None:
        if not self._is_let_in():
            return
        parts = urlsplit(self.path)
        connection = http.client.HTTPConnection(t.cast(t.Any, self.server).upstream[parts.netloc], timeout=20)
        headers = {name: value for name, value in self.headers.items() if not name.lower().startswith("proxy-")}
        connection.request(self.command, parts.path + (f"?{parts.query}" if parts.query else ""), headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "transfer-encoding", "date", "server"):
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        connection.close()

    do_HEAD = do_GET

    def do_CONNECT(self) -> None:
        if not self._is_let_in():
            return
        host, _colon, port = t.cast(t.Any, self.server).upstream[self.path].partition(":")
        self.send_response(200)
        self.end_headers()
        with socket.create_connection((host, int(port)), timeout=20) as other:
            ends = [self.connection, other]
            while True:
                for ready in select.select(ends, [], [], 20)[0]:
                    data = ready.recv(65536)
                    if not data:
                        self.close_connection = True
                        return
                    ends[ready is self.connection].sendall(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Proxied(t.NamedTuple):
    """Playbooks behind proxies: the runs by name, and their log."""

    runs: dict[str, Run]
    log: pathlib.Path
    forms: dict[str, bytes]


def _proxied_tasks(
    canaries: Canaries, registry: Registry, client_registry: Registry, folder: pathlib.Path, keywords: Json
) -> list[Task]:
    pages, given = folder / "pages", canaries.given
    plain, tls = registry.image("proxied"), client_registry.image("proxied")
    of_plain = {"host": _BEHIND, "username": "ci", "password": "{{ canary_password }}", "plain_http": True}
    of_tls = {**client_registry.options[0], "host": _BEHIND_TLS, "ca_path": None, "validate_certs": False}
    (pages / "Dockerfile").write_text("ARG BASE\nFROM $BASE\nCOPY file /file\n")
    tasks: list[Task] = []
    for image, host, settings in ((plain, _BEHIND, of_plain), (tls, _BEHIND_TLS, of_tls)):
        named = f"{host}/{image.partition('/')[2]}"
        options = {"registries": [{name: value for name, value in settings.items() if value is not None}], "timeout": 5}
        tasks += [
            Task("image_copy", {"copies": [{"source": named, "destination": f"oci:{folder}/layout:1"}], **options}),
            Task("image_signature_info", {"images": [named], **options}),
            Task("image_verify", {
                "images": [named], "trust": [{"public_key_path": str(given / "public.pub")}],
                **options,
            }),
            Task("image_signature", {
                "images": [named], "signers": [{"private_key_path": str(given / "plain.pem")}], **options,
            }, {"check_mode": True}),
            Task("image_build", {
                "name": f"oci:{folder}/layout", "tags": ["built"], "context": str(pages), "builder": "assemble",
                "build_args": {"BASE": named}, **options,
            }, {"check_mode": True}),
        ]
    return [Task(task.module, task.args, {**task.keywords, **keywords}) for task in tasks]


@pytest.fixture(scope="module")
def proxied(
    canaries: Canaries, registry: Registry, client_registry: Registry, leaks: dict[str, Leaks], closed_port: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Proxied:
    """All modules behind a proxy with a login, right and wrong, and behind one that does not answer."""
    folder = tmp_path_factory.mktemp("leaks-proxies")
    _write_pages(folder)
    right, wrong = (f"canary-{name}-{secrets.token_hex(8)}" for name in ("proxy", "wrong-proxy"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Proxy)
    server.daemon_threads = True
    server.logins = {"Basic " + base64.b64encode(f"ci:{right}".encode()).decode()}  # type: ignore[attr-defined]
    server.upstream = {_BEHIND: registry.host, _BEHIND_TLS: client_registry.host}  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    host = f"127.0.0.1:{server.server_address[1]}"
    urls = {
        "success": f"http://ci:{right}@{host}", "wrong": f"http://ci:{wrong}@{host}",
        "unreachable": f"http://ci:{right}@{closed_port}", "unresolved": f"http://ci:{right}@proxy.behind.invalid:1",
        "unusable": f"socks5://ci:{right}@{host}", "none": f"http://ci:{right}@",
    }
    own = Ansible(folder / "ansible-own")
    runs: dict[str, Run] = {}
    try:
        for name, url in urls.items():
            variables = {"HTTP_PROXY": url, "HTTPS_PROXY": url}
            tasks = _proxied_tasks(canaries, registry, client_registry, folder, {})
            # Every module where the proxy answers; two of them where it does not.
            tasks = tasks if name in ("success", "wrong") else [*tasks[:1], *tasks[-1:]]
            runs[name] = _play(own, tasks, canaries, folder, environment=variables)
        # In the environment of the task, where a playbook has them.
        for name in ("success", "wrong", "unreachable"):
            keywords = {"environment": {"HTTP_PROXY": urls[name], "HTTPS_PROXY": urls[name]}}
            tasks = _proxied_tasks(canaries, registry, client_registry, folder, keywords)[1::4]
            runs[f"task-{name}"] = _play(own, tasks, canaries, folder)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    return Proxied(runs, folder / "ansible.log", {**_forms("proxy", right), **_forms("wrong proxy", wrong)})


def _without_commands(text: str) -> str:
    """Leave out the lines with which Ansible itself prints its commands, the environment of tasks in them."""
    return "\n".join(line for line in text.splitlines() if " EXEC " not in line)


def test_the_playbooks_behind_proxies_did_what_they_were_to_do(proxied: Proxied) -> None:
    for name, run in proxied.runs.items():
        # What is verified here was never signed.
        others = [line for line in run.lines if not line["task"].endswith("image_verify")]
        assert not [line for line in run.lines if line["result"].get("verified")]
        wanted = {"ok"} if name.endswith("success") else {"ignored"}
        assert {line["status"] for line in others} == wanted, (name, [line["result"].get("msg") for line in others])


def test_login_of_a_proxy_is_not_printed(proxied: Proxied, canaries: Canaries) -> None:
    for name, run in proxied.runs.items():
        printed = run.stdout + run.stderr
        printed = _without_commands(printed) if name.startswith("task-") else printed
        seen = [form for form, text in proxied.forms.items() if text in (printed + json.dumps(run.results)).encode()]
        assert seen == [], name
        assert canaries.seen_in(printed.encode()) == []
    log = _without_commands(proxied.log.read_text()).encode()
    assert [form for form, text in proxied.forms.items() if text in log] == []
    assert canaries.seen_in(log) == []
