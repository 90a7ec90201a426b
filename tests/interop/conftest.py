# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fixtures of the interoperability tests: Ansible, the real cosigns, real registries, keys."""

from __future__ import annotations

import base64
import contextlib
import datetime
import ipaddress
import itertools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import typing as t
from dataclasses import dataclass

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._keys import algorithms, making, pem, writing
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from fast_modules import Modules
from interop_tools import (
    PASSWORD,
    Ansible,
    Cosign,
    Json,
    Registry,
    Task,
    TimestampServer,
    TransparencyLog,
    free_port,
    process,
    serve_log,
    serve_registry,
    serve_timestamps,
    stub_server,
)

COSIGNS: list[Json] = json.loads(os.environ.get("HALLMARK_COSIGNS") or "[]")
PEERS = {row["name"]: row["program"] for row in json.loads(os.environ.get("HALLMARK_PEERS") or "[]")}
USERS = {"ci": "interop-push", "node": "interop-pull"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that asks for one cosign with each of those that are there."""
    if "cosign" in metafunc.fixturenames:
        rows = [pytest.param(row, id=str(row["name"]).replace(" ", "-")) for row in COSIGNS]
        missing = pytest.mark.skip(reason="no real cosign: HALLMARK_COSIGNS is empty")
        none = pytest.param(None, id="no-cosign", marks=missing)
        metafunc.parametrize("cosign", rows or [none], indirect=True, scope="session")


def _cosign(row: Json, folder: pathlib.Path) -> Cosign:
    home = folder / str(row["name"]).replace(" ", "-")
    home.mkdir(exist_ok=True)
    return Cosign(row["name"], row["version"], row["program"], home)


@pytest.fixture(scope="session")
def _cosign_homes(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("cosigns")


@pytest.fixture(scope="session")
def cosign(request: pytest.FixtureRequest, _cosign_homes: pathlib.Path) -> Cosign:
    """One real cosign."""
    return _cosign(request.param, _cosign_homes)


@pytest.fixture(scope="session")
def found_cosigns(_cosign_homes: pathlib.Path) -> list[Cosign]:
    """All real cosigns that are there, or none: for tests that mean something without them, too."""
    return [_cosign(row, _cosign_homes) for row in COSIGNS]


@pytest.fixture(scope="session")
def cosigns(found_cosigns: list[Cosign]) -> list[Cosign]:
    """All real cosigns that are there; at least one, else the test is skipped."""
    if not found_cosigns:
        pytest.skip("no real cosign: HALLMARK_COSIGNS is empty")
    return found_cosigns


@pytest.fixture(scope="session")
def bundle_cosign(cosigns: list[Cosign]) -> Cosign:
    """A cosign that writes bundles."""
    able = [one for one in cosigns if one.major >= 3]
    if not able:
        pytest.skip("no cosign of version 3 or newer is there")
    return able[-1]


@pytest.fixture(scope="session")
def legacy_cosign(cosigns: list[Cosign]) -> Cosign:
    """A cosign that knows the old format only."""
    able = [one for one in cosigns if one.major == 2]
    if not able:
        pytest.skip("no cosign of version 2 is there")
    return able[0]


@pytest.fixture(scope="session")
def skopeo13() -> str | None:
    """The skopeo of Debian 13, if it is there; that of Debian 12 verifies no signatures of sigstore's formats."""
    return PEERS.get("skopeo13")


class Podman:
    """The podman of Debian 13, with images of its own: those of this machine's podman are not touched."""

    def __init__(self, program: str, folder: pathlib.Path) -> None:
        self.program, self.folder = program, folder
        self._numbers = itertools.count()
        (folder / "run").mkdir(mode=0o700)

    def pull(self, image: str, *, home: pathlib.Path) -> tuple[bool, str]:
        """Pull an image into an empty storage; its configuration is in .config/containers of C(home)."""
        place = self.folder / f"storage-{next(self._numbers)}"
        places = [f"--{one}={place / one}" for one in ("root", "runroot", "tmpdir", "network-config-dir")]
        kinds = ["--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--events-backend=none"]
        done = subprocess.run(
            [self.program, *places, *kinds, "pull", "--quiet", "--retry=0", "--tls-verify=false", image],
            capture_output=True, text=True, timeout=60, check=False,
            env={
                "PATH": os.defpath, "HOME": str(home), "XDG_RUNTIME_DIR": str(self.folder / "run"),
                "PODMAN_IGNORE_CGROUPSV1_WARNING": "1",
            },
        )
        shutil.rmtree(place, ignore_errors=True)
        return done.returncode == 0, done.stderr

    def close(self) -> None:
        """End the process that it leaves behind where it has not all the rights of root."""
        for path in self.folder.glob("run/**/pause.pid"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(path.read_text()), signal.SIGTERM)


@pytest.fixture(scope="session")
def podman13(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Podman]:
    """The podman of Debian 13; the test is skipped where it is missing, or may not unpack images."""
    if "podman13" not in PEERS:
        pytest.skip("the podman of Debian 13 is not there: HALLMARK_PEERS names none")
    podman = Podman(PEERS["podman13"], tmp_path_factory.mktemp("podman"))
    own = podman.folder / ".config" / "containers"
    own.mkdir(parents=True)
    (own / "policy.json").write_text(json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))
    with contextlib.closing(podman):
        pulled, said = podman.pull(registry.image(), home=podman.folder)
        if not pulled:
            pytest.skip(f"the podman of Debian 13 can pull nothing here: {said.strip()[-150:]}")
        yield podman


@pytest.fixture(scope="session")
def ansible(tmp_path_factory: pytest.TempPathFactory) -> Ansible:
    """The real Ansible."""
    return Ansible(tmp_path_factory.mktemp("ansible"))


@pytest.fixture(scope="session")
def run_module(ansible: Ansible) -> t.Callable[..., Json]:
    """Runs one module through ansible-playbook and returns its result."""

    def run(name: str, args: Json, *, check: bool = False, **options: t.Any) -> Json:
        return ansible.run([Task(name, args)], arguments=["--check"] if check else [], **options)[0]

    return run


@pytest.fixture(scope="session")
def modules(ansible: Ansible, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Modules]:
    """Runs one module without ansible-playbook, which takes a tenth of the time."""
    running = Modules(tmp_path_factory.mktemp("modules"), ansible.folder / "tree")
    yield running
    running.close()


# --- keys ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class KeyFiles:
    """One key in every file that somebody wants: PKCS#8, cosign's format (under PASSWORD), public half."""

    algorithm: str
    key_id: str
    private: t.Any
    pem: pathlib.Path
    cosign: pathlib.Path
    public: pathlib.Path

    @property
    def signer(self) -> Json:
        """One entry of option signers."""
        return {"private_key_path": str(self.pem)}

    @property
    def authority(self) -> Json:
        """One entry of option trust."""
        return {"name": self.algorithm, "public_key_path": str(self.public)}


@pytest.fixture(scope="session")
def make_key(tmp_path_factory: pytest.TempPathFactory) -> t.Callable[[str], KeyFiles]:
    """Makes a new key of an algorithm, with all its files."""
    folder = tmp_path_factory.mktemp("keys")

    def make(algorithm: str = "ecdsa-p256") -> KeyFiles:
        private = making.generate(algorithms.by_name(algorithm))
        public = pem.public_key(private.public_key(), where="test")
        base = folder / f"{algorithm}-{public.key_id[:12]}"
        files = KeyFiles(
            algorithm, public.key_id, private, base.with_suffix(".pem"), base.with_suffix(".key"),
            base.with_suffix(".pub"),
        )
        for path, data in (
            (files.pem, writing.write_private_key(private, format="pem", passphrase=None)),
            (files.cosign, writing.write_private_key(private, format="cosign", passphrase=PASSWORD.encode())),
        ):
            path.touch(mode=0o600)
            path.write_bytes(data)
        files.public.write_text(public.pem)
        return files

    return make


@pytest.fixture(scope="session")
def keys(make_key: t.Callable[[str], KeyFiles]) -> dict[str, KeyFiles]:
    """One key of each algorithm, by its name."""
    return {algorithm.name: make_key(algorithm.name) for algorithm in algorithms.ALGORITHMS}


@pytest.fixture(scope="session")
def p256(keys: dict[str, KeyFiles]) -> KeyFiles:
    """The usual key."""
    return keys["ecdsa-p256"]


@pytest.fixture(scope="session")
def other(make_key: t.Callable[[str], KeyFiles]) -> KeyFiles:
    """The key of somebody else."""
    return make_key("ecdsa-p256")


# --- registries ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def registry_program() -> str:
    """The real registry; the test is skipped where it is missing."""
    found = shutil.which("docker-registry")
    if found is None:
        pytest.skip("docker-registry is not installed")
    return found


@pytest.fixture(scope="session")
def registry(registry_program: str, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Registry]:
    """A registry on plain HTTP that lets everybody in."""
    with serve_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="session")
def private_ca(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with ca.pem, and tls.pem and tls.key of 127.0.0.1."""
    folder = tmp_path_factory.mktemp("ca")
    now = datetime.datetime.now(datetime.timezone.utc)
    span = (now - datetime.timedelta(minutes=5), now + datetime.timedelta(days=2))
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "interop authority")])
    ca_key_id = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    authority = (
        x509.CertificateBuilder().subject_name(ca_name).issuer_name(ca_name).public_key(ca_key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(span[0]).not_valid_after(span[1])
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(ca_key_id, critical=False)
        .add_extension(x509.KeyUsage(False, False, False, False, False, True, True, False, False), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    leaf = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "registry")])).issuer_name(ca_name)
        .public_key(key.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(span[0]).not_valid_after(span[1])
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ca_key_id), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    (folder / "ca.pem").write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    (folder / "tls.pem").write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    (folder / "tls.key").write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ))
    return folder


@pytest.fixture(scope="session")
def tls_registry(
    registry_program: str, private_ca: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> t.Iterator[Registry]:
    """A registry on TLS whose certificate comes from a private authority."""
    tls = {"certificate": str(private_ca / "tls.pem"), "key": str(private_ca / "tls.key")}
    options = {"ca_path": str(private_ca / "ca.pem")}
    with serve_registry(tmp_path_factory.mktemp("tls-registry"), tls=tls, options=options) as running:
        yield running


@pytest.fixture(scope="session")
def password_registry(registry_program: str, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Registry]:
    """A registry with a password file; user ci may do everything."""
    if shutil.which("htpasswd") is None:
        pytest.skip("htpasswd is not installed (Debian package apache2-utils)")
    folder = tmp_path_factory.mktemp("password-registry")
    made = subprocess.run(
        ["htpasswd", "-Bin", "-C", "5", "ci"], input=USERS["ci"], capture_output=True, text=True, check=True
    )
    (folder / "htpasswd").write_text(made.stdout.strip() + "\n")
    auth = {"htpasswd": {"realm": "interop", "path": str(folder / "htpasswd")}}
    options = {"username": "ci", "password": USERS["ci"]}
    with serve_registry(folder, auth=auth, options=options) as running:
        yield running


@pytest.fixture(scope="session")
def token_registry(registry_program: str, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Registry]:
    """A registry with a token service: user ci may push, user node may only pull."""
    import registry_tokens

    folder = tmp_path_factory.mktemp("token-registry")
    registry_tokens.write_certificate(folder)
    (folder / "users.json").write_text(json.dumps({
        "ci": {"password": USERS["ci"], "actions": ["pull", "push", "delete"]},
        "node": {"password": USERS["node"], "actions": ["pull"]},
    }))
    port = free_port()
    command = [sys.executable, registry_tokens.__file__, "serve", str(port), str(folder), str(folder / "users.json")]
    auth = {"token": {
        "realm": f"http://127.0.0.1:{port}/token", "service": registry_tokens.SERVICE,
        "issuer": registry_tokens.ISSUER, "rootcertbundle": str(folder / "token.crt"),
    }}
    options = {"username": "ci", "password": USERS["ci"]}
    service = process(command, port=port, log=folder / "tokens.log")
    with service, serve_registry(folder, auth=auth, options=options) as running:
        yield running


@pytest.fixture(scope="session")
def closed_port() -> t.Iterator[str]:
    """HOST:PORT at which nothing answers, and nothing else will begin to."""
    import socket

    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


@pytest.fixture
def docker_config(tmp_path: pathlib.Path) -> t.Callable[[str, str, str], pathlib.Path]:
    """Writes a docker config.json as docker login does, and returns its folder."""

    def write(host: str, user: str, password: str) -> pathlib.Path:
        folder = tmp_path / f"docker-{user}"
        folder.mkdir()
        auth = base64.b64encode(f"{user}:{password}".encode()).decode()
        (folder / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))
        return folder

    return write


@pytest.fixture(scope="session")
def stub() -> t.Callable[..., t.Any]:
    """Starts a server that gives one answer to everything; a context manager."""
    return stub_server


# --- the log and the time ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def transparency_log(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[TransparencyLog]:
    """A transparency log, Rekor v1 and v2, that tells the truth unless a test lets it lie."""
    with serve_log(tmp_path_factory.mktemp("transparency-log")) as running:
        yield running


@pytest.fixture(scope="session")
def timestamp_server(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[TimestampServer]:
    """A time-stamping authority."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    with serve_timestamps(tmp_path_factory.mktemp("timestamps")) as running:
        yield running


@pytest.fixture(scope="session")
def rekor_cli(tmp_path_factory: pytest.TempPathFactory) -> t.Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the real rekor-cli with a log; the test is skipped where it is missing."""
    program = PEERS.get("rekor-cli") or shutil.which("rekor-cli")
    if program is None:
        pytest.skip("the real rekor-cli is not there: HALLMARK_PEERS names none, nor is one on PATH")
    home = tmp_path_factory.mktemp("rekor-cli")

    def run(log: TransparencyLog, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program, "--rekor_server", log.url, "--retry", "0", *arguments], capture_output=True, text=True,
            timeout=60, check=False, cwd=home, env={"PATH": os.defpath, "HOME": str(home)},
        )

    return run


# --- the engine ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def engine_base() -> str:
    """The base image that the engine has; tests are skipped where no engine can be used."""
    base = os.environ.get("HALLMARK_TEST_BASE")
    if not base:
        pytest.skip("no container engine can be used: HALLMARK_TEST_BASE is not set")
    return base
