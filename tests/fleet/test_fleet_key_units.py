# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Drill: keys go to units of a real systemd, and people have images signed over a real ssh without getting them."""

from __future__ import annotations

import base64
import hashlib
import json
import pathlib
import re
import typing as t

import pytest
from conftest import DOMAIN
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from fleet import Fleet, Host, Json, Play

HERE = pathlib.Path(__file__).parent
KEY = "/etc/hallmark-signing/release.key"
RECORD = "/var/lib/private/hallmark-signer-release/uses.jsonl"
DIGEST = f"sha256:{hashlib.sha256(b'drill').hexdigest()}"
MINE, OTHERS = "registry.example.org/acme/app", "registry.example.org/other/app"
# What systemd calls safe begins at 2.0.
MOST_EXPOSED = 2.0
UNITS = ["hallmark-sign-look.service", "hallmark-signer-release@0.service"]
LOOK = 'ls -l "$CREDENTIALS_DIRECTORY"; wc -c < "$CREDENTIALS_DIRECTORY/signing-key"; id --user'


class Served(t.NamedTuple):
    """Hosts with a key for units, plain and encrypted, one whose users sign there, and the runs that made them so."""

    fleet: Fleet
    key_hosts: list[Host]
    client: Host
    first: Play
    second: Play


@pytest.fixture(scope="module")
def served(empty_fleet: Fleet) -> t.Iterator[Served]:
    """Two hosts with keys, and one with the plugin."""
    key_hosts = [
        empty_fleet.add(f"{name}.{DOMAIN}", group="keyhosts", variables={"signer_credential": name})
        for name in ("plain", "encrypted")
    ]
    client = empty_fleet.add(f"client.{DOMAIN}", group="clients", variables={"signer_libraries": "given"})
    for host in (*key_hosts, client):
        host.wait()
    client.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/home/ci/id"])
    client.run(["chown", "ci", "/home/ci/id"])
    empty_fleet.group_variables["keyhosts"] = {
        "signing_hosts": "keyhosts", "signer_key_source": "own", "signer_libraries": "given",
        "signer_units": [{"name": "look", "command": ["/bin/sh", "-c", LOOK], "schedule": "daily", "network": False}],
        "signer_callers": [{
            "name": "carol", "ssh_public_key": client.read("/home/ci/id.pub").strip(),
            "repositories": ["registry.example.org/acme/**"], "per_hour": 5,
        }],
    }
    provision = ["hallmark.signing.provision", "--extra-vars", "signing_hosts=keyhosts"]
    first = empty_fleet.play(*provision).require()
    empty_fleet.group_variables["clients"] = {
        "signer_plugin_identities": [
            {"identity": host.name.partition(".")[0], "destination": f"hallmark-release@{host.address}",
             "public_key": host.read("/etc/hallmark-signing/release.pub"), "identity_file": "~/id"}
            for host in key_hosts
        ],
        "signer_plugin_known_hosts": [
            f"{host.address} {host.read('/etc/ssh/ssh_host_ed25519_key.pub').strip()}" for host in key_hosts
        ],
    }
    empty_fleet.play(HERE / "plugin.yml").require()
    yield Served(empty_fleet, key_hosts, client, first, empty_fleet.play(*provision).require())
    for host in (*key_hosts, client):
        empty_fleet.discard(host)


def ask(served: Served, key_host: Host, repository: str, message: bytes) -> Json:
    """Run the plugin as cosign does, as a user without any rights."""
    identity = key_host.name.partition(".")[0]
    request = {
        "initOptions": {"protocolVersion": "v1", "keyResourceID": f"{identity}/{repository}@{DIGEST}", "hashFunc": 5},
        "methodName": "signMessage", "signMessage": {"signOptions": {"messageOptions": {"digest": None}}},
    }
    said = served.client.run(
        ["sh", "-c", 'HOME=/home/ci exec sigstore-kms-hallmark v1 "$1"', "sh", json.dumps(request)], user="ci",
        input=message.decode(), check=False,
    )
    return t.cast(Json, json.loads(said.stdout))


def payload(repository: str) -> bytes:
    """Return what cosign signs."""
    return json.dumps({
        "critical": {
            "identity": {"docker-reference": repository}, "image": {"docker-manifest-digest": DIGEST},
            "type": "cosign container image signature",
        },
        "optional": None,
    }, separators=(",", ":")).encode()


def test_a_second_run_changes_nothing(served: Served) -> None:
    assert all(recap.changed for recap in served.first.recap.values())
    assert served.second.changed == {}


def test_units_are_hardened(served: Served) -> None:
    for host in served.key_hosts:
        for unit in UNITS:
            said = host.run(["systemd-analyze", "security", "--no-pager", unit], check=False).stdout
            found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
            assert found, said
            assert float(found[1]) <= MOST_EXPOSED, f"{host.name}: {unit}: {said}"


def test_unit_gets_the_key_while_it_runs_and_nobody_else_does(served: Served) -> None:
    for host in served.key_hosts:
        host.run(["systemctl", "start", "hallmark-sign-look.service"])
        said = host.run(["journalctl", "--quiet", "--output=cat", "--unit=hallmark-sign-look.service"]).stdout
        size = host.run(["stat", "--format=%s", KEY]).stdout.strip()
        assert "signing-key" in said
        assert size in said.splitlines(), said
        user = next(line for line in said.splitlines() if line.isdigit() and line != size)
        assert int(user) not in (0, 1000), "it runs as a user of its own"
        assert not host.exists("/run/credentials/hallmark-sign-look.service")
        for reader in ("hallmark-release", "ci"):
            assert host.run(["cat", KEY], user=reader, check=False).returncode != 0


def test_people_have_images_of_their_repositories_signed(served: Served) -> None:
    for host in served.key_hosts:
        answer = ask(served, host, MINE, payload(MINE))
        public = serialization.load_pem_public_key(host.read("/etc/hallmark-signing/release.pub").encode())
        assert isinstance(public, ec.EllipticCurvePublicKey)
        signature = base64.b64decode(answer["signMessage"]["signature"])
        public.verify(signature, payload(MINE), ec.ECDSA(hashes.SHA256()))
        assert f'"reference":"{MINE}@{DIGEST}"' in host.read(RECORD)
        assert '"caller":"carol"' in host.read(RECORD)


@pytest.mark.parametrize(("repository", "message", "word"), [
    (OTHERS, payload(OTHERS), "carol may have signed: registry.example.org/acme/**"),
    (MINE, payload(OTHERS), OTHERS),
    (MINE, b"a certificate request", "no signature of an image"),
])
def test_nothing_else_is_signed(served: Served, repository: str, message: bytes, word: str) -> None:
    for host in served.key_hosts:
        before = host.read(RECORD)
        answer = ask(served, host, repository, message)
        assert list(answer) == ["errorMessage"]
        assert word in answer["errorMessage"]
        assert host.read(RECORD) == before


def test_the_ssh_key_leads_to_the_forced_command_only(served: Served) -> None:
    host = served.key_hosts[0]
    ssh = ["ssh", "-F", "none", "-i", "/home/ci/id", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no",
           "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
    shell = served.client.run(
        [*ssh, f"hallmark-release@{host.address}", "id; cat /etc/passwd"], user="ci", input="", check=False
    )
    assert "error" in json.loads(shell.stdout)
    assert "root:" not in shell.stdout
    forward = served.client.run(
        [*ssh, "-o", "ExitOnForwardFailure=yes", "-W", "127.0.0.1:22", f"hallmark-release@{host.address}"], user="ci",
        input="", check=False,
    )
    assert forward.returncode != 0


def test_it_serves_again_after_a_boot_and_stops_at_the_limit(served: Served) -> None:
    host = served.key_hosts[0]
    host.restart()
    # Its address may be another one now, which the client does not know.
    known = served.fleet.group_variables["clients"]
    known["signer_plugin_identities"][0]["destination"] = f"hallmark-release@{host.address}"
    known["signer_plugin_known_hosts"].append(
        f"{host.address} {host.read('/etc/ssh/ssh_host_ed25519_key.pub').strip()}"
    )
    served.fleet.play(HERE / "plugin.yml").require()
    answers = [ask(served, host, MINE, payload(MINE)) for _attempt in range(6)]
    assert "signMessage" in answers[0], answers[0]
    assert "in the last hour, of 5" in answers[-1]["errorMessage"]
    # The hash of each line is in the next one.
    lines = host.read(RECORD).splitlines()
    assert len(lines) == 5
    for former, line in zip(lines, lines[1:]):
        assert json.loads(line)["previous"] == hashlib.sha256(former.encode()).hexdigest()


def test_a_host_with_another_ssh_key_is_not_believed_in(served: Served) -> None:
    host = served.key_hosts[1]
    before = host.read(RECORD)
    host.run(["sh", "-c", "rm /etc/ssh/ssh_host_*; ssh-keygen -A; systemctl restart ssh"])
    answer = ask(served, host, MINE, payload(MINE))
    assert "its ssh host key is not the one" in answer["errorMessage"]
    assert host.read(RECORD) == before
