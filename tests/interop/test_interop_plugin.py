# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The real cosigns sign with a key that stays on its host: by their plugin, a real ssh, and a forced command."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import pathlib
import re
import secrets
import shutil
import socket
import subprocess
import sys
import typing as t
from concurrent.futures import ThreadPoolExecutor

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._oci import reference as references
from interop_tools import Ansible, Cosign, Registry, free_port, listing, wait_until
from key_host import Account, KeyHost, Watched, install

if t.TYPE_CHECKING:
    from conftest import KeyFiles
    from fast_modules import Modules

ANNOTATIONS = {"commit": "17", "text": "it's <b>ü</b> & more, more"}


@pytest.fixture(scope="module")
def program(ansible: Ansible, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The program, as its module installs it."""
    return install(ansible, tmp_path_factory.mktemp("program"))


@pytest.fixture(scope="module")
def host(
    program: str, p256: KeyFiles, registry: Registry, tmp_path_factory: pytest.TempPathFactory
) -> t.Iterator[KeyHost]:
    """A host with a key. Of three callers, one may have signed what is elsewhere, and one may do so twice."""
    host = KeyHost(tmp_path_factory.mktemp("keyhost"), program)
    mine = f"{registry.host}/interop/**"
    host.configure(p256.key_id, [
        {"name": "alice", "repositories": [mine], "per_hour": 1000},
        {"name": "elsewhere", "repositories": ["registry.example.org/**"], "per_hour": 1000},
        {"name": "twice", "repositories": [mine], "per_hour": 2},
        {"name": "bob", "repositories": [mine], "per_hour": 1000},
    ], private_key_path=str(p256.pem))
    with host.running():
        yield host


@pytest.fixture(scope="module")
def alice(host: KeyHost, p256: KeyFiles) -> Account:
    """Somebody who may have signed all images of these tests."""
    return host.account("alice", p256.public)


def _stored(registry: Registry, image: str) -> dict[str, t.Any]:
    """Return everything that the registry has of a repository."""
    reference = references.parse(image)
    return listing(registry.folder / "data" / "docker" / "registry" / "v2" / "repositories" / reference.repository)


def _formats(cosign: Cosign) -> list[str]:
    return ["sig", "bundle"] if cosign.major >= 3 else ["sig"]


def _is_verified(
    image: str, key: KeyFiles, modules: Modules, cosigns: list[Cosign], format: str,
    annotations: t.Mapping[str, str] | None = None,
) -> None:
    """Have everybody verify the signature."""
    modules.succeed(
        "image_verify", images=[image], trust=[key.authority], formats=[format], annotations=annotations or {}
    )
    for cosign in cosigns:
        if cosign.major >= 3 or format == "sig":
            done = cosign.verify(image, key.public, annotations=annotations)
            assert done.returncode == 0, f"{cosign.name}: {done.stderr}"


class Refused:
    """Sees to it that an attempt changes nothing: in the registry, in the record, among the files of the account."""

    def __init__(self, host: KeyHost, registry: Registry, image: str, account: Account) -> None:
        self._state = lambda: (host.entries, _stored(registry, image), listing(account.folder))

    def __enter__(self) -> None:
        self._before = self._state()

    def __exit__(self, kind: t.Any, *_error: object) -> None:
        assert kind is not None or self._state() == self._before


# What works ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("annotations", [{}, ANNOTATIONS], ids=["plain", "annotated"])
def test_cosign_signs_and_everybody_verifies(
    annotations: dict[str, str], cosign: Cosign, cosigns: list[Cosign], host: KeyHost, alice: Account, p256: KeyFiles,
    registry: Registry, modules: Modules,
) -> None:
    for format in _formats(cosign):
        image = registry.image()
        before = len(host.entries)
        alice.sign(cosign, image, format=format, annotations=annotations)
        (entry,) = host.entries[before:]
        name, _at, digest = image.partition("@")
        assert {member: entry.members[member] for member in ("event", "caller", "reference", "format", "key_id")} == {
            "event": "signed", "caller": "alice", "reference": f"{name}@{digest}", "format": format,
            "key_id": p256.key_id,
        }
        assert entry.members["annotations"] == annotations
        _is_verified(image, p256, modules, cosigns, format, annotations)
        # What it says is what image_signature would sign: it adds nothing.
        done = modules.succeed(
            "image_signature", images=[image], signers=[p256.signer], formats=[format], annotations=annotations
        )
        assert not done["changed"]


def test_image_may_be_named_by_a_tag_if_the_key_names_the_digest(
    cosign: Cosign, cosigns: list[Cosign], alice: Account, p256: KeyFiles, registry: Registry, modules: Modules
) -> None:
    name = registry.name()
    image = registry.image(name=name, tag="1.4")
    alice.sign(cosign, f"{name}:1.4", key=f"hallmark://release/{image}")
    _is_verified(image, p256, modules, cosigns, cosign.own_format)


@pytest.fixture(scope="module", params=["spaces", "none"])
def build(request: pytest.FixtureRequest, bundle_cosign: Cosign, tmp_path_factory: pytest.TempPathFactory) -> Cosign:
    """A cosign of another build: half of all builds write JSON with spaces, which goes by the program's bytes."""
    folder = tmp_path_factory.mktemp("builds")
    for number in range(1, 40):
        program = folder / f"cosign-{number}"
        shutil.copy(bundle_cosign.program, program)
        with program.open("ab") as stream:
            stream.write(b"x" * 1024 * number)
        made = Cosign(f"{bundle_cosign.name} {request.param}", bundle_cosign.version, str(program), folder)
        config = folder / f"{number}.json"
        assert made.run("signing-config", "create", "--out", str(config)).returncode == 0
        if (b", " in config.read_bytes()) is (request.param == "spaces"):
            return made
        program.unlink()
    pytest.fail("no bytes behind the program make a build of this kind")


def test_each_build_of_cosign_can_sign(
    build: Cosign, cosigns: list[Cosign], alice: Account, p256: KeyFiles, registry: Registry, modules: Modules
) -> None:
    image = registry.image()
    alice.sign(build, image, annotations=ANNOTATIONS)
    _is_verified(image, p256, modules, cosigns, "bundle", ANNOTATIONS)
    blobs = [path.read_bytes() for path in (registry.folder / "data").rglob("data") if path.is_file()]
    digest = image.rpartition(":")[2].encode()
    statements = [
        base64.b64decode(json.loads(blob)["dsseEnvelope"]["payload"]) for blob in blobs if b'"dsseEnvelope"' in blob
    ]
    (own,) = [statement for statement in statements if digest in statement]
    assert (b'", "predicateType"' in own or b'], "predicateType"' in own) is build.name.endswith("spaces")


@pytest.mark.parametrize("algorithm", ["ecdsa-p384", "ecdsa-p521", "rsa-3072"])
def test_other_keys_sign_too(
    algorithm: str, cosign: Cosign, cosigns: list[Cosign], program: str, keys: dict[str, KeyFiles], registry: Registry,
    modules: Modules, tmp_path: pathlib.Path,
) -> None:
    key = keys[algorithm]
    host = KeyHost(tmp_path, program)
    host.configure(
        key.key_id, [{"name": "alice", "repositories": [f"{registry.host}/**"], "per_hour": 9}],
        private_key_path=str(key.pem),
    )
    account = host.account("alice", key.public)
    with host.running():
        for format in _formats(cosign):
            image = registry.image()
            account.sign(cosign, image, format=format)
            modules.succeed("image_verify", images=[image], trust=[key.authority], formats=[format])
            # cosign 3.1 verifies its own bundles of these keys only if it is told the hash.
            told = {"ecdsa-p384": "sha384", "ecdsa-p521": "sha512"}.get(algorithm) if format == "bundle" else None
            more = ["--signature-digest-algorithm", told] if told else []
            assert cosign.accepts(image, key.public, *more), f"{cosign.name}, {format}"


def test_public_key_can_be_asked_for_and_verification_says_how(
    cosign: Cosign, alice: Account, p256: KeyFiles, registry: Registry
) -> None:
    done = cosign.run("public-key", "--key", "hallmark://release", environment=alice.environment)
    assert done.stdout.strip() == p256.public.read_text().strip(), done.stderr
    image = registry.image()
    alice.sign(cosign, image, format="sig")
    done = cosign.verify(image, "hallmark://release", environment=alice.environment)
    assert done.returncode != 0
    assert f"cosign verify --key {alice.public}" in done.stderr


def test_many_at_once_leave_one_chain(
    cosigns: list[Cosign], host: KeyHost, alice: Account, p256: KeyFiles, registry: Registry, modules: Modules
) -> None:
    bob = host.account("bob", p256.public, name="bob-at-once")
    before = len(host.entries)
    work = [
        ((alice, bob)[number % 2], cosigns[number // 2 % len(cosigns)], registry.image()) for number in range(8)
    ]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda one: one[0].sign(one[1], one[2]), work))
    made = host.entries[before:]
    assert sorted(entry.members["reference"] for entry in made) == sorted(image for _who, _cosign, image in work)
    assert sorted(entry.members["caller"] for entry in made) == ["alice"] * 4 + ["bob"] * 4
    assert [entry.sequence for entry in made] == list(range(before + 1, before + 9))
    for _who, cosign, image in work:
        _is_verified(image, p256, modules, [cosign], cosign.own_format)


# What is refused -----------------------------------------------------------------------------------------------------


def test_repository_outside_of_the_patterns(
    cosign: Cosign, host: KeyHost, p256: KeyFiles, registry: Registry
) -> None:
    account = host.account("elsewhere", p256.public, name=f"elsewhere-{cosign.version}")
    image = registry.image()
    with Refused(host, registry, image, account):
        said = account.fails(cosign, image)
    assert f"{image.partition('@')[0]}: could not sign it: elsewhere may have signed: registry.example.org/**" in said
    # To ask for another repository than is signed helps nobody.
    key = f"hallmark://release/registry.example.org/app@{image.partition('@')[2]}"
    with Refused(host, registry, image, account):
        said = account.fails(cosign, image, key=key, format="sig")
    assert f"it names '{image.partition('@')[0]}'" in said


def test_bundle_carries_no_repository(
    bundle_cosign: Cosign, host: KeyHost, p256: KeyFiles, registry: Registry
) -> None:
    # As the documentation says: the limit is to what is asked for, not to where the signature counts.
    account = host.account("elsewhere", p256.public, name="elsewhere-bundle")
    image = registry.image()
    key = f"hallmark://release/registry.example.org/app@{image.partition('@')[2]}"
    account.sign(bundle_cosign, image, key=key)
    assert host.entries[-1].members["reference"].startswith("registry.example.org/app@")


def test_rate_is_limited(
    cosign: Cosign, program: str, p256: KeyFiles, registry: Registry, tmp_path: pathlib.Path
) -> None:
    host = KeyHost(tmp_path, program)
    mine = [f"{registry.host}/**"]
    host.configure(p256.key_id, [
        {"name": "twice", "repositories": mine, "per_hour": 2}, {"name": "other", "repositories": mine, "per_hour": 2},
    ], private_key_path=str(p256.pem))
    twice, other = (host.account(name, p256.public) for name in ("twice", "other"))
    with host.running():
        for _number in range(2):
            twice.sign(cosign, registry.image())
        image = registry.image()
        with Refused(host, registry, image, twice):
            said = twice.fails(cosign, image)
        assert "twice had 2 signatures made in the last hour, of 2" in said
        other.sign(cosign, image)
    assert len(host.entries) == 3


@pytest.mark.parametrize("digest", ["other", "none", "tag"])
def test_key_must_name_the_image(
    digest: str, cosign: Cosign, host: KeyHost, alice: Account, registry: Registry
) -> None:
    image = registry.image()
    name = image.partition("@")[0]
    key = {"other": registry.image(name=name, text="other"), "none": name, "tag": f"{name}:1"}[digest]
    with Refused(host, registry, image, alice):
        said = alice.fails(cosign, image, key=f"hallmark://release/{key}")
    words = {"other": "it is about sha256:", "none": "name it as in hallmark://", "tag": "name it as in hallmark://"}
    assert words[digest] in said


def test_children_of_an_index_are_other_images(
    cosign: Cosign, host: KeyHost, alice: Account, registry: Registry
) -> None:
    index, children = registry.index()
    alice.sign(cosign, index)
    before = host.entries
    assert "it is about sha256:" in alice.fails(cosign, index, "--recursive")
    # The index itself comes first, and is signed again.
    assert {entry.members["reference"] for entry in host.entries[len(before):]} <= {index}
    assert [registry.sig(child) for child in children] == [None, None]


def test_other_things_of_cosign_are_not_signed(
    cosign: Cosign, host: KeyHost, alice: Account, registry: Registry, tmp_path: pathlib.Path
) -> None:
    image = registry.image()
    (tmp_path / "predicate").write_text('{"a":1}')
    (tmp_path / "blob").write_bytes(b" " * 64 + b"TLS 1.3, server CertificateVerify\0" + hashlib.sha256().digest())
    key = f"hallmark://release/{image}"
    new = cosign.major >= 3
    flags = ["--signing-config", str(cosign._signing_config())] if new else ["--tlog-upload=false"]
    bundle = ["--bundle", str(tmp_path / "bundle")] if new else []
    for arguments in (
        ["attest", "--key", key, *flags, "--type", "custom", "--predicate", str(tmp_path / "predicate"), "-y", image],
        ["sign-blob", "--key", key, *flags, *bundle, "-y", str(tmp_path / "blob")],
    ):
        with Refused(host, registry, image, alice):
            done = cosign.run(*arguments, environment=alice.environment)
        assert done.returncode != 0, arguments
        assert "it is no signature of an image" in done.stderr, done.stderr
    assert not (tmp_path / "bundle").exists()


# ssh -----------------------------------------------------------------------------------------------------------------


def test_host_whose_key_changed_is_not_believed(
    cosign: Cosign, program: str, p256: KeyFiles, registry: Registry, tmp_path: pathlib.Path
) -> None:
    host = KeyHost(tmp_path, program)
    host.configure(
        p256.key_id, [{"name": "alice", "repositories": [f"{registry.host}/**"], "per_hour": 9}],
        private_key_path=str(p256.pem),
    )
    account = host.account("alice", p256.public)
    with host.running():
        account.sign(cosign, registry.image())
    host.make_key("host")
    image = registry.image()
    with host.running():
        with Refused(host, registry, image, account):
            said = account.fails(cosign, image)
        assert f"its ssh host key is not the one in {account.folder}/known_hosts. Nothing was sent." in said
        # It was not even told who wanted to come in.
        log = (host.folder / "log").read_text()
        assert "Connection" in log
        assert not re.search("Accepted|publickey|Starting session", log)
        # A host that is not known is no better.
        (account.folder / "known_hosts").write_text("")
        with Refused(host, registry, image, account):
            said = account.fails(cosign, image)
        assert f"its ssh host key is not in {account.folder}/known_hosts" in said
        (account.folder / "known_hosts").write_text(host.known_hosts)
        account.sign(cosign, image)


def test_wrong_key_of_ssh_is_not_let_in(
    cosign: Cosign, host: KeyHost, p256: KeyFiles, registry: Registry
) -> None:
    wrong = str(host.make_key("wrong"))
    account = host.account("alice", p256.public, name=f"wrong-{cosign.version}", identity_file=wrong)
    image = registry.image()
    with Refused(host, registry, image, account):
        said = account.fails(cosign, image)
    assert "ssh ended with status 255" in said
    assert "Permission denied" in said


def test_host_that_is_down_is_told(cosign: Cosign, host: KeyHost, p256: KeyFiles, registry: Registry) -> None:
    account = host.account("alice", p256.public, name=f"down-{cosign.version}", port=free_port())
    image = registry.image()
    with Refused(host, registry, image, account):
        said = account.fails(cosign, image)
    assert "Connection refused" in said


def test_plugin_that_is_not_configured_says_so(
    cosign: Cosign, host: KeyHost, p256: KeyFiles, registry: Registry
) -> None:
    account = host.account("alice", p256.public, name=f"bare-{cosign.version}")
    (account.folder / "config" / "hallmark-signing" / "plugin.json").unlink()
    image = registry.image()
    with Refused(host, registry, image, account):
        said = account.fails(cosign, image)
    assert "identity release is neither in" in said


@pytest.mark.parametrize(("arguments", "options"), [
    ([], []), (["id"], []), (["cat", "/etc/passwd"], []), (["serve", "--caller", "bob"], []), (["id; id"], ["-A"]),
    ([], ["-A", "-X"]), ([], ["-o", "SetEnv=LD_PRELOAD=/x"]), (["sftp"], ["-s"]),
], ids=str)
def test_nothing_but_the_forced_command_is_to_be_had(
    host: KeyHost, arguments: list[str], options: list[str]
) -> None:
    before = host.entries
    done = host.ssh("alice", *arguments, options=options)
    assert done.status != 0
    # The answer of the program, to an empty request.
    assert json.loads(done.stdout)["error"]["code"] == "malformed", done
    assert host.entries == before


def test_no_terminal_is_to_be_had(host: KeyHost) -> None:
    done = host.ssh("alice", "id", options=["-tt"])
    assert "PTY allocation request failed" in done.stderr
    assert b"uid=" not in done.stdout


def test_caller_is_the_one_of_the_key(host: KeyHost, registry: Registry) -> None:
    request = {"version": 1, "reference": registry.image(), "message": None, "digest": None}
    done = host.ssh("elsewhere", stdin=b"alice\n" + json.dumps(request).encode())
    assert json.loads(done.stdout)["error"]["code"] == "malformed"
    done = host.ssh("elsewhere", stdin=json.dumps(request).encode())
    assert "elsewhere may have signed" in json.loads(done.stdout)["error"]["message"]


def test_no_port_is_forwarded(host: KeyHost) -> None:
    port = free_port()
    command = [
        host.programs["ssh"], "-F", "/dev/null", "-N", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes",
        "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-i", str(host.folder / "ssh-alice"),
        "-L", f"{port}:127.0.0.1:{host.port}", "-p", str(host.port), "127.0.0.1",
    ]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as running:
        try:
            def banner() -> bytes:
                with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                    return connection.recv(100)

            def is_listening() -> bool:
                with socket.socket() as probe:
                    return probe.connect_ex(("127.0.0.1", port)) == 0

            wait_until(lambda: is_listening() or running.poll() is not None, "ssh to listen")
            assert running.poll() is None
            # The other end is sshd itself, and would say so.
            assert banner() == b""
        finally:
            running.terminate()
            assert running.stderr is not None
            said = running.stderr.read().decode()
    assert "administratively prohibited" in said


# Secrets -------------------------------------------------------------------------------------------------------------


def test_neither_key_nor_passphrase_is_seen(
    cosigns: list[Cosign], program: str, p256: KeyFiles, registry: Registry, tmp_path: pathlib.Path
) -> None:
    from ansible_collections.hallmark.signing.plugins.module_utils._keys import writing

    passphrase = f"canary-{secrets.token_hex(12)}"
    folder = tmp_path / "keyhost"
    folder.mkdir()
    host = KeyHost(folder, program)
    encrypted = writing.write_private_key(p256.private, format="pem", passphrase=passphrase.encode())
    secret = tmp_path / "secret"
    secret.mkdir(mode=0o700)
    (secret / "key").write_bytes(encrypted)
    (secret / "passphrase").write_text(f"{passphrase}\n")
    number = p256.private.private_numbers().private_value
    body = b"".join(encrypted.splitlines()[1:-1])
    canaries = [
        passphrase.encode(), base64.b64encode(passphrase.encode()).rstrip(b"="), number.to_bytes(32, "big"),
        number.to_bytes(32, "big").hex().encode(), str(number).encode(), base64.b64encode(number.to_bytes(32, "big")),
        body[:40], body[-40:],
    ]
    allowed = {"name": "alice", "repositories": [f"{registry.host}/**"], "per_hour": 9}
    host.configure(
        p256.key_id, [allowed], private_key_path=str(secret / "key"), secret_path=str(secret / "passphrase")
    )
    account = host.account("alice", p256.public)
    said: list[str] = []
    with host.running(), Watched(*canaries) as watched:
        for cosign in cosigns:
            account.sign(cosign, registry.image())
        # What fails after the key was read, and before.
        (secret / "passphrase").write_text(f"{passphrase}-wrong\n")
        said.append(account.fails(cosigns[0], registry.image()))
        (secret / "key").write_bytes(encrypted[:-60] + b"\n-----END ENCRYPTED PRIVATE KEY-----\n")
        said.append(account.fails(cosigns[0], registry.image()))
        host.configure("0" * 64, [allowed], private_key_path=str(p256.pem))
        said.append(account.fails(cosigns[0], registry.image()))
        done = host.ssh("alice", stdin=b"{")
        said.append(done.stdout.decode() + done.stderr)
    assert "key_mismatch" in said[-2] or "key id" in said[-2]
    assert watched.seen == set()
    # It did look where the key was.
    assert any(" serve --config " in one for one in watched.programs)
    assert any("sigstore-kms-hallmark v1" in one for one in watched.programs)
    for text in said:
        assert not [canary for canary in canaries if canary in text.encode()]
    for path in [*folder.rglob("*"), *(one for cosign in cosigns for one in cosign.home.rglob("*"))]:
        if path.is_file():
            assert not [canary for canary in canaries if canary in path.read_bytes()], path
    for path in (registry.folder / "data").rglob("data"):
        assert not [canary for canary in canaries if canary in path.read_bytes()], path


def test_record_that_was_changed_stops_the_signing(
    cosign: Cosign, program: str, p256: KeyFiles, registry: Registry, tmp_path: pathlib.Path
) -> None:
    host = KeyHost(tmp_path, program)
    host.configure(
        p256.key_id, [{"name": "alice", "repositories": [f"{registry.host}/**"], "per_hour": 9}],
        private_key_path=str(p256.pem),
    )
    account = host.account("alice", p256.public)
    with host.running():
        account.sign(cosign, registry.image())
        with host.record.open("a") as stream:
            stream.write("{}\n")
        image = registry.image()
        before = _stored(registry, image)
        assert "could not go on with the record" in account.fails(cosign, image)
        assert _stored(registry, image) == before


def test_program_is_one_file_that_needs_no_ansible(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-c", "import zipfile, sys; print(*zipfile.ZipFile(sys.argv[1]).namelist())", program],
        capture_output=True, text=True, check=True,
    )
    assert "_ansible" not in done.stdout
    assert os.access(program, os.X_OK)
