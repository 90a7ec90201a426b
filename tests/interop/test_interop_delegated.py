# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A playbook on two hosts: one reaches the registry and has no key, the other has the key and no network."""

from __future__ import annotations

import base64
import json
import pathlib
import secrets
import sys
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._custody import journal
from ansible_collections.hallmark.signing.plugins.module_utils._keys import making, writing
from ansible_collections.hallmark.signing.plugins.module_utils._oci import reference as references
from interop_tools import Ansible, Cosign, Json, Registry, Run, Task, listing
from key_host import KeyHost, Watched, user

if t.TYPE_CHECKING:
    from conftest import KeyFiles
    from fast_modules import Modules

ANNOTATIONS = {"commit": "17", "text": "it's <b>\u00fc</b> & more"}
# Notes each attempt to reach anything, from the first line that Python runs.
_NOTING = """
import sys
with open({notes!r}, "a") as stream:
    stream.write("started\\n")
def note(event, arguments):
    # Ansible tries its own work-around with this address, which is no name.
    if event in {events!r} and not (event == "socket.getaddrinfo" and arguments[0] == "127.0.0.1"):
        with open({notes!r}, "a") as stream:
            stream.write(event + "\\n")
sys.addaudithook(note)
"""


_EVENTS = tuple(f"socket.{name}" for name in (
    "connect", "bind", "sendto", "sendmsg", "getaddrinfo", "gethostbyname", "gethostbyaddr", "getnameinfo",
))


class Hosts:
    """Two hosts on this machine, with folders of their own; what the one with the key reaches for is noted."""

    def __init__(self, ansible: Ansible, folder: pathlib.Path, key: KeyFiles) -> None:
        self.ansible, self.folder, self.key = ansible, folder, key
        self.notes = folder / "notes"
        (folder / "hook").mkdir()
        (folder / "hook" / "sitecustomize.py").write_text(_NOTING.format(notes=str(self.notes), events=_EVENTS))
        self.python = folder / "python"
        self.python.write_text(f'#!/bin/sh\nPYTHONPATH={folder}/hook exec {sys.executable} "$@"\n')
        self.python.chmod(0o755)
        for name in ("build", "state"):
            (folder / name).mkdir(mode=0o700)
        self.record = folder / "state" / "uses.jsonl"
        self.signing: Json = {"private_key_path": str(key.pem), "record_path": str(self.record)}

    @property
    def entries(self) -> tuple[journal.Entry, ...]:
        """The record of the host with the key."""
        return journal.read(str(self.record))

    @property
    def reached_for(self) -> list[str]:
        """What the host with the key reached for."""
        return [line for line in self.notes.read_text().splitlines() if line != "started"]

    def tasks(
        self, image: str, *, payloads: str = "{{ prepared.payloads }}", signatures: str = "{{ signed.signatures }}",
        signing: Json | None = None, attaching: Json | None = None, **common: t.Any,
    ) -> list[Task]:
        """Return the flow as the documentation has it."""
        return [
            Task("image_payload", {"images": [image], "dest": str(self.folder / "build" / "to-sign"), **common}, {
                "register": "prepared",
            }),
            Task("payload_signature", {"payloads": payloads, **self.signing, **(signing or {})}, {
                "delegate_to": "keyhost", "register": "signed",
            }),
            Task("image_signature", {
                "images": [image], "signers": [{"signatures": signatures}], **common, **(attaching or {}),
            }),
        ]

    def run(self, tasks: t.Sequence[Task], *arguments: str, keyhost: Json | None = None) -> Run:
        """Run tasks on the host without a key; they stop where one fails."""
        book: list[Json] = [{"hosts": "build", "tasks": [{**task.as_json(), "ignore_errors": False} for task in tasks]}]
        hosts = {"build": {}, "keyhost": {"ansible_python_interpreter": str(self.python), **(keyhost or {})}}
        return self.ansible.play(book, arguments=arguments, hosts=hosts)


@pytest.fixture
def hosts(ansible: Ansible, p256: KeyFiles, tmp_path: pathlib.Path) -> Hosts:
    return Hosts(ansible, tmp_path, p256)


def _stored(registry: Registry, image: str) -> dict[str, t.Any]:
    reference = references.parse(image)
    return listing(registry.folder / "data" / "docker" / "registry" / "v2" / "repositories" / reference.repository)


def _changed(run: Run) -> list[bool]:
    return [result["changed"] for result in run.require().results]


def test_key_host_needs_no_registry(
    hosts: Hosts, registry: Registry, modules: Modules, cosigns: list[Cosign]
) -> None:
    index, children = registry.index()
    common: Json = {"annotations": ANNOTATIONS, "docker_reference": "registry.example.org/app"}
    tasks = hosts.tasks(
        index, signing={"repositories": [f"{registry.host}/interop/**", "registry.example.org/**"]}, **common
    )
    # On hosts where nothing was done yet.
    before = _stored(registry, index)
    assert _changed(hosts.run(tasks, "--check", "--diff")) == [True, False, True]
    assert (_stored(registry, index), list((hosts.folder / "build").iterdir()), hosts.entries) == (before, [], ())
    # Done, and done again: the host with the key records both.
    done = hosts.run(tasks)
    assert _changed(done) == [True, False, True]
    assert len(hosts.entries) == len(done.results[1]["signatures"]) == 6
    after = _stored(registry, index)
    assert _changed(hosts.run(tasks)) == [False, False, False]
    assert _stored(registry, index) == after
    assert len(hosts.entries) == 12
    assert _changed(hosts.run(tasks, "--check", "--diff")) == [False, False, False]
    assert len(hosts.entries) == 12
    assert {entry.members["reference"].partition("@")[0] for entry in hosts.entries} == {index.partition("@")[0]}
    # It ran each time, and reached for nothing.
    assert hosts.notes.read_text().count("started") >= 4
    assert hosts.reached_for == []
    for format in ("sig", "bundle"):
        modules.succeed(
            "image_verify", images=[index], trust=[hosts.key.authority], formats=[format], recursive=True,
            annotations=ANNOTATIONS, docker_reference_check="ignore",
        )
    for cosign in cosigns:
        for image in (index, *children):
            assert cosign.accepts(image, hosts.key.public, annotations=ANNOTATIONS), cosign.name


def test_playbook_release_has_it_signed_by_a_key_host(hosts: Hosts, registry: Registry, modules: Modules) -> None:
    image = registry.image("released")
    own = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    inventory, variables = hosts.folder / "inventory.json", hosts.folder / "variables.json"
    keyhost = {**own, "ansible_python_interpreter": str(hosts.python)}
    inventory.write_text(json.dumps({"all": {"hosts": {"build": own, "keyhost": keyhost}}}))
    settings: Json = {
        "signing_become": False, "release_host": "build", "signer_libraries": "given", "release_image": image,
        "release_annotations": ANNOTATIONS, "release_payload_dir": str(hosts.folder / "build" / "to-sign"),
        "release_key_host": "keyhost", "release_key_interpreter": str(hosts.python),
        "release_trust": [hosts.key.authority],
        "release_key": {**hosts.signing, "repositories": [f"{registry.host}/interop/**"], "key_id": hosts.key.key_id},
    }

    def release(*arguments: str, **changed: t.Any) -> Run:
        variables.write_text(json.dumps({**settings, **changed}))
        return hosts.ansible.playbook(
            "hallmark.signing.release", inventory, arguments=["-e", f"@{variables}", *arguments]
        )

    # Nothing is signed, on either host, in check mode and outside of the patterns.
    before = _stored(registry, image)
    checked = release("--check")
    checked.require()
    refused = release(release_key={**hosts.signing, "repositories": ["registry.example.org/**"]})
    assert refused.status != 0
    assert "registry.example.org/**" in refused.stdout
    assert (_stored(registry, image), hosts.entries) == (before, ())
    release().require()
    assert len(hosts.entries) == 2
    assert hosts.reached_for == []
    modules.succeed("image_verify", images=[image], trust=[hosts.key.authority], annotations=ANNOTATIONS)


def test_what_is_reached_for_is_noted(hosts: Hosts, registry: Registry) -> None:
    """Else the test above would mean nothing."""
    task = Task("image_signature_info", {"images": [registry.image()]}, {"delegate_to": "keyhost"})
    hosts.run([task]).require()
    assert "socket.connect" in hosts.reached_for


@pytest.mark.parametrize(("code", "changed"), [
    ("digest_mismatch", {"payloads": "{{ prepared.payloads | map('combine', {'sha256': '0' * 64}) | list }}"}),
    ("digest_mismatch", {"payloads": "{{ prepared.payloads | map('combine', {'annotations': {'a': '2'}}) | list }}"}),
    ("reference_mismatch", {"signing": {"repositories": ["registry.example.org/**"]}}),
    ("key_mismatch", {"signing": {"key_id": "0" * 64}}),
])
def test_what_the_key_host_refuses(
    code: str, changed: Json, hosts: Hosts, registry: Registry
) -> None:
    image = registry.image()
    before = _stored(registry, image)
    for arguments in ([], ["--check"]):
        run = hosts.run(hosts.tasks(image, **changed), *arguments)
        assert run.status != 0
        assert [reason["code"] for reason in run.results[-1]["reasons"]] == [code]
        assert len(run.results) == 2
    assert (_stored(registry, image), hosts.entries) == (before, ())


_FIRST = "{{ [signed.signatures[0] | combine(%s)] + signed.signatures[1:] }}"


@pytest.mark.parametrize(("code", "changed"), [
    ("signature_invalid", {"signatures": _FIRST % "{'signature': signed.signatures[1].signature}"}),
    ("signature_invalid", {"signatures": _FIRST % "{'signature': 'AA' ~ signed.signatures[0].signature[2:]}"}),
    ("malformed", {"signatures": _FIRST % "{'signature': signed.signatures[0].signature ~ ' '}"}),
    ("not_found", {"signatures": _FIRST % "{'sha256': '0' * 64}"}),
    ("not_found", {"signatures": "{{ signed.signatures[:1] }}"}),
    ("not_found", {"attaching": {"annotations": {"a": "2"}}}),
    ("not_found", {"attaching": {"docker_reference": "registry.example.org/other"}}),
])
def test_what_came_back_wrong_is_not_attached(
    code: str, changed: Json, hosts: Hosts, registry: Registry
) -> None:
    image = registry.image()
    before = _stored(registry, image)
    run = hosts.run(hosts.tasks(image, **changed))
    assert run.status != 0
    assert [reason["code"] for reason in run.results[-1]["reasons"]] == [code], run.results[-1]["msg"]
    assert _stored(registry, image) == before


def test_signatures_of_another_key_or_image_are_not_attached(
    hosts: Hosts, registry: Registry, other: KeyFiles
) -> None:
    image, another = registry.image(), registry.image()
    before = _stored(registry, image)
    signed = hosts.run(hosts.tasks(another)).require().results[1]["signatures"]
    foreign = [
        {**one, "signature": base64.b64encode(making.sign(other.private, b"x")).decode()} for one in signed
    ]
    expecting = {"key_id": hosts.key.key_id}
    theirs = hosts.run(hosts.tasks(another, signing={"private_key_path": str(other.pem)})).require().results[1]
    for code, signer in (
        ("not_found", {"signatures": signed}), ("not_found", {"signatures": foreign}),
        ("key_mismatch", {"signatures": theirs["signatures"], **expecting}),
        ("key_mismatch", {"signatures": [signed[0], theirs["signatures"][1]]}),
    ):
        run = hosts.run([Task("image_signature", {"images": [image], "signers": [signer]})])
        assert [reason["code"] for reason in run.results[0]["reasons"]] == [code]
    assert _stored(registry, image) == before


def test_over_a_real_ssh(
    ansible: Ansible, p256: KeyFiles, registry: Registry, modules: Modules, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "ssh").mkdir()
    (tmp_path / "hosts").mkdir()
    host = KeyHost(tmp_path / "ssh", "/nonexistent")
    hosts = Hosts(ansible, tmp_path / "hosts", p256)
    (host.folder / "authorized_keys").write_text(host.make_key("admin").with_suffix(".pub").read_text())
    (host.folder / "known_hosts").write_text(host.known_hosts)
    remote = {
        "ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": host.port, "ansible_user": user(),
        "ansible_ssh_private_key_file": str(host.folder / "ssh-admin"),
        "ansible_ssh_common_args": (
            f"-F /dev/null -o UserKnownHostsFile={host.folder}/known_hosts -o StrictHostKeyChecking=yes "
            "-o ControlMaster=no -o ControlPath=none"
        ),
        "ansible_remote_tmp": str(tmp_path / "remote"),
    }
    image = registry.image()
    with host.running():
        assert _changed(hosts.run(hosts.tasks(image), keyhost=remote)) == [True, False, True]
        assert _changed(hosts.run(hosts.tasks(image), keyhost=remote)) == [False, False, False]
    assert hosts.reached_for == []
    assert "Accepted publickey" in (host.folder / "log").read_text()
    modules.succeed("image_verify", images=[image], trust=[p256.authority])


def test_neither_key_nor_passphrase_is_seen(hosts: Hosts, registry: Registry, ansible: Ansible) -> None:
    passphrase = f"canary-{secrets.token_hex(12)}"
    secret = hosts.folder / "secret"
    secret.mkdir(mode=0o700)
    encrypted = writing.write_private_key(hosts.key.private, format="pem", passphrase=passphrase.encode())
    (secret / "key").write_bytes(encrypted)
    (secret / "passphrase").write_text(passphrase)
    (secret / "vars.json").write_text(json.dumps({"canary": passphrase}))
    number = hosts.key.private.private_numbers().private_value
    canaries = [
        passphrase.encode(), base64.b64encode(passphrase.encode()).rstrip(b"="), str(number).encode(),
        number.to_bytes(32, "big").hex().encode(), b"".join(encrypted.splitlines()[1:-1])[-40:],
    ]
    runs: list[Run] = []
    with Watched(*canaries) as watched:
        for way in (
            {"passphrase_path": str(secret / "passphrase")}, {"passphrase": "{{ canary }}"},
            {"passphrase": "wrong-{{ canary }}"},
        ):
            for more in ([], ["--check"]):
                tasks = hosts.tasks(registry.image(), signing={"private_key_path": str(secret / "key"), **way})
                runs.append(hosts.run(tasks, "-vvvv", "--diff", "-e", f"@{secret}/vars.json", *more))
    assert [run.status == 0 for run in runs] == [True] * 4 + [False] * 2
    assert watched.seen == set()
    assert any(str(hosts.python) in one or "AnsiballZ_payload_signature" in one for one in watched.programs)
    for run in runs:
        shown = (run.stdout + run.stderr + json.dumps(run.results)).encode()
        assert not [canary for canary in canaries if canary in shown]
    left = [hosts.folder.rglob("*"), ansible.folder.glob("play-*"), (ansible.folder / "ansible-remote").rglob("*")]
    for path in (path for paths in left for path in paths):
        if path.is_file() and secret not in path.parents:
            assert not [canary for canary in canaries if canary in path.read_bytes()], path
