# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The roles certbot and signer with a real Certbot and a real ACME server, from the bare host to the rotation."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import typing as t
from dataclasses import dataclass

import pytest
from free_ports import free_ports
from interop_tools import Ansible, Json, Run, Task, listing

NAME = "signer.interop.example"


@dataclass
class Host:
    """A signing host in a folder, and the ACME server that it uses."""

    ansible: Ansible
    folder: pathlib.Path
    variables: Json

    @property
    def live(self) -> pathlib.Path:
        """The lineage."""
        return self.folder / "letsencrypt" / "live" / NAME

    @property
    def signer(self) -> pathlib.Path:
        """The folder of the signing key."""
        return self.folder / "signer"

    def roles(self, *names: str, check: bool = False, **variables: t.Any) -> Run:
        """Run roles of the collection; a name may carry an entry point, such as C(certbot/renew)."""
        tasks = []
        for name in names:
            role, _slash, entry = name.partition("/")
            include = {"name": f"hallmark.signing.{role}", **({"tasks_from": entry} if entry else {})}
            tasks.append({"name": f"Role {name}", "ansible.builtin.include_role": include})
        play = {
            "gather_facts": True, "gather_subset": ["!all", "!min", "distribution", "python", "service_mgr"],
            "vars": {**self.variables, **variables}, "tasks": tasks,
        }
        return self.ansible.play([play], arguments=["--check"] if check else [])

    def certbot(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Certbot itself, as an administrator may."""
        return subprocess.run(
            [
                "/usr/bin/certbot", *arguments, "--non-interactive",
                "--config-dir", self.variables["certbot_config_dir"],
                "--work-dir", self.variables["certbot_work_dir"], "--logs-dir", self.variables["certbot_logs_dir"],
            ],
            capture_output=True, text=True, timeout=60, check=False,
            env={**os.environ, "REQUESTS_CA_BUNDLE": self.variables["certbot_server_ca_path"]},
        )

    def serial(self) -> str:
        """Return the serial number of the current certificate."""
        return self._openssl("-serial")

    def names(self) -> str:
        """Return the names in the current certificate."""
        return self._openssl("-ext", "subjectAltName")

    def _openssl(self, *arguments: str) -> str:
        return subprocess.run(
            ["openssl", "x509", "-in", str(self.live / "fullchain.pem"), "-noout", *arguments],
            capture_output=True, text=True, check=True,
        ).stdout

    def key_id(self, path: pathlib.Path) -> str:
        """Return the key id of a private key, a certificate or a lineage."""
        (result,) = self.ansible.run([Task("signing_key_info", {"paths": [str(path)]})])
        return str(result["signing_keys"][0]["key_id"])


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory, ansible: Ansible) -> t.Iterator[Host]:
    """A bare host beside an ACME server that role acme_test_ca started."""
    for program in ("certbot", "pebble", "pebble-challtestsrv", "openssl"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    folder = tmp_path_factory.mktemp("certbot")
    ports = free_ports(6)
    acme = {
        "acme_test_ca_directory": str(folder / "acme"), "acme_test_ca_port": ports[0],
        "acme_test_ca_management_port": ports[1], "acme_test_ca_http01_port": ports[2],
        "acme_test_ca_dns_port": ports[3], "acme_test_ca_dns_management_port": ports[4],
    }
    variables = {
        "certbot_lineage": NAME, "certbot_domains": [NAME], "certbot_agree_tos": True,
        "certbot_server": f"https://127.0.0.1:{ports[0]}/dir",
        "certbot_server_ca_path": str(folder / "acme" / "ca.pem"),
        "certbot_http01_port": ports[2], "certbot_config_dir": str(folder / "letsencrypt"),
        "certbot_work_dir": str(folder / "work"), "certbot_logs_dir": str(folder / "logs"), "certbot_scheduler": "none",
        "signer_libraries": "given", "signer_directory": str(folder / "signer"),
        "signer_record_path": str(folder / "exports.jsonl"),
        "certbot_program_path": str(folder / "program" / "hallmark.pyz"),
        "signer_program_path": str(folder / "program" / "hallmark.pyz"),
    }
    made = Host(ansible, folder, {**acme, **variables, "unused_port": ports[5]})
    try:
        made.roles("acme_test_ca").require()
        yield made
    finally:
        made.roles("acme_test_ca", acme_test_ca_state="stopped").require()


# The tests build on one another, in this order; each needs what the former left.


def test_01_check_mode_on_a_bare_host(host: Host) -> None:
    before = set(os.listdir(host.folder))
    run = host.roles("certbot", "signer", check=True).require()
    assert set(os.listdir(host.folder)) == before
    assert run.changed
    assert run.failed == []


def test_02_terms_that_were_not_agreed_to(host: Host) -> None:
    run = host.roles("certbot", certbot_agree_tos=False)
    assert run.status != 0
    assert "certbot_agree_tos" in run.failed[-1]["msg"]
    assert not (host.folder / "letsencrypt").exists()


def test_03_first_issue_and_key(host: Host) -> None:
    run = host.roles("certbot", "signer").require()
    assert "Run certbot certonly" in " ".join(run.changed)
    key = host.signer / "release.key"
    assert oct(key.stat().st_mode & 0o777) == "0o600"
    assert oct(host.signer.stat().st_mode & 0o777) == "0o700"
    assert host.key_id(key) == host.key_id(host.live) == host.key_id(host.signer / "release.pub")
    assert (host.signer / "release.chain.pem").read_bytes() == (host.live / "fullchain.pem").read_bytes()


def test_04_second_run_changes_nothing(host: Host) -> None:
    before, serial = listing(host.signer), host.serial()
    run = host.roles("certbot", "signer").require()
    assert run.changed == []
    assert (listing(host.signer), host.serial()) == (before, serial)


def test_05_renewal_that_keeps_the_key(host: Host) -> None:
    key, public, serial = *((host.signer / f"release.{end}").read_bytes() for end in ("key", "pub")), host.serial()
    run = host.roles("certbot/renew", "signer", certbot_force_renewal=True).require()
    assert [name for name in run.changed if "certbot renew" in name]
    # The hook ran by Certbot already, and the role saw its mark.
    assert "Run the deploy hook for the current certificate" not in " ".join(run.changed)
    assert host.serial() != serial
    assert ((host.signer / "release.key").read_bytes(), (host.signer / "release.pub").read_bytes()) == (key, public)
    # Only the chain is another.
    assert (host.signer / "release.chain.pem").read_bytes() == (host.live / "fullchain.pem").read_bytes()


def test_06_renewal_that_is_not_due(host: Host) -> None:
    serial = host.serial()
    run = host.roles("certbot/renew", "signer").require()
    assert run.changed == []
    assert host.serial() == serial


def test_07_another_list_of_names_expands_the_certificate(host: Host) -> None:
    key = (host.signer / "release.key").read_bytes()
    host.roles("certbot", "signer", certbot_domains=[NAME, f"also.{NAME}"]).require()
    host.variables["certbot_domains"] = [NAME, f"also.{NAME}"]
    assert f"DNS:also.{NAME}" in host.names()
    assert f"DNS:{NAME}" in host.names()
    assert (host.signer / "release.key").read_bytes() == key


def test_08_failing_deploy_hook_fails_the_role_although_certbot_exits_with_0(host: Host) -> None:
    broken = [["/bin/sh", "-c", "echo deploying; exit 7"]]
    # The first role only writes the hook: the mark of the former one's success is still there.
    run = host.roles("certbot", "certbot/renew", certbot_deploy_commands=broken, certbot_force_renewal=True)
    assert run.of("Run certbot renew")["rc"] == 0, "Certbot itself takes it for a success"
    assert run.status != 0
    assert run.failed[-1]["rc"] == 7
    # With a hook that works it is mended, without a new certificate.
    serial = host.serial()
    works = [["/bin/sh", "-c", f"echo $RENEWED_LINEAGE >{host.folder}/seen"]]
    host.roles("certbot", "signer", certbot_deploy_commands=works).require()
    assert (host.folder / "seen").read_text().strip() == str(host.live)
    assert host.serial() == serial


def test_09_renewal_with_a_new_key_is_staged_and_nothing_signs_with_it(host: Host) -> None:
    before = host.key_id(host.signer / "release.key")
    renewed = host.certbot("renew", "--cert-name", NAME, "--force-renewal", "--new-key", "--no-random-sleep-on-renew")
    assert renewed.returncode == 0, renewed.stderr
    new = host.key_id(host.live)
    assert new != before
    files, signing = listing(host.signer), sorted(host.signer.glob("release.*"))
    used = {path: path.read_bytes() for path in signing if path.is_file()}
    assert host.signer / "release.key" in used
    for check in (True, False):
        run = host.roles("signer", check=check).require()
        assert {path: path.read_bytes() for path in used} == used
        assert not check or listing(host.signer) == files
        told = run.of("Tell of a staged generation")["msg"]
        assert new in told
        assert before in told
    assert host.key_id(host.signer / "release.key") == before
    assert host.key_id(host.signer / "release.generations" / f"{new}.key") == new


def test_10_failing_challenge_says_what_to_look_at(host: Host) -> None:
    lost = "lost.interop.example"
    run = host.roles(
        "certbot", certbot_lineage=lost, certbot_domains=[lost], certbot_http01_port=host.variables["unused_port"],
    )
    assert run.status != 0
    message = run.failed[-1]["msg"]
    server = host.variables["certbot_server"]
    assert message.startswith(f"{lost}: could not obtain a certificate for {lost} from {server}: ")
    assert "challenge" in message.lower()
    assert "port of the challenge" in message
    log = host.folder / "logs" / "letsencrypt.log"
    assert str(log) in message
    assert log.exists()
    assert not (host.folder / "letsencrypt" / "live" / lost).exists()
    # And the lineage that was there before is still whole.
    assert f"DNS:{NAME}" in host.names()
