# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Role certbot with the Certbots and ACME servers that hosts have: old and new ones, and what goes wrong with each."""

from __future__ import annotations

import base64
import contextlib
import datetime
import fcntl
import functools
import http.client
import http.server
import json
import os
import pathlib
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import typing as t
from dataclasses import dataclass

import pytest
from conftest import PEERS
from free_ports import free_ports
from interop_tools import ROOT, Ansible, Json, Run, process

ROLE = ROOT / "roles" / "certbot"
CERTBOT5 = pathlib.Path(os.environ.get("HALLMARK_CERTBOT_VENV") or "/nonexistent")
PRODUCTION = "https://acme-v02.api.letsencrypt.org/directory"
DAY = 86400


# --- servers ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Acme:
    """A running ACME server."""

    url: str
    management: int
    http_port: int
    ca: pathlib.Path
    dns_management: int

    def status(self, serial: str) -> Json:
        """Ask the server itself what it knows of a certificate."""
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.management, timeout=10, context=ssl.create_default_context(cafile=str(self.ca))
        )
        with contextlib.closing(connection):
            connection.request("GET", f"/cert-status-by-serial/{serial}")
            return t.cast(Json, json.loads(connection.getresponse().read()))


@contextlib.contextmanager
def serve_acme(
    folder: pathlib.Path, program: str | None, name: str, tls: pathlib.Path, **settings: t.Any
) -> t.Iterator[Acme]:
    """Run Pebble, and the DNS server that it asks, until the block ends."""
    dns_program = shutil.which("pebble-challtestsrv")
    if program is None or dns_program is None:
        pytest.skip(f"{name} or pebble-challtestsrv is not installed")
    port, management, http_port, dns, dns_management = free_ports(5)
    (folder / "pebble.json").write_text(json.dumps({"pebble": {
        "listenAddress": f"127.0.0.1:{port}", "managementListenAddress": f"127.0.0.1:{management}",
        "certificate": str(tls / "tls.pem"), "privateKey": str(tls / "tls.key"), "httpPort": http_port, "tlsPort": 5001,
        "ocspResponderURL": "", "externalAccountBindingRequired": False, **settings,
    }}))
    records = process(
        [dns_program, "-dns01", f"127.0.0.1:{dns}", "-management", f"127.0.0.1:{dns_management}", "-http01", "",
         "-https01", "", "-tlsalpn01", "", "-defaultIPv6", ""],
        port=dns_management, log=folder / "dns.log",
    )
    server = process(
        [program, "-config", str(folder / "pebble.json"), "-dnsserver", f"127.0.0.1:{dns}", "-strict=false"],
        port=port, log=folder / "pebble.log",
        environment={"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0", "PEBBLE_AUTHZREUSE": "0"},
    )
    with records, server:
        yield Acme(f"https://127.0.0.1:{port}/dir", management, http_port, tls / "ca.pem", dns_management)


NEWER: Json = {
    "domainBlocklist": ["blocked.example"], "retryAfter": {"authz": 1, "order": 1}, "keyAlgorithm": "ecdsa",
    "profiles": {"classic": {"description": "90 days", "validityPeriod": 90 * DAY}},
}
# base64url, as servers hand it out; the last test looks for it everywhere.
BINDING_KEY = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")


@pytest.fixture(scope="module")
def pebble24(private_ca: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Acme]:
    """The Pebble of the distribution."""
    with serve_acme(tmp_path_factory.mktemp("pebble24"), shutil.which("pebble"), "pebble", private_ca) as running:
        yield running


@pytest.fixture(scope="module")
def pebble210(private_ca: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Acme]:
    """A newer Pebble, which is like Let's Encrypt now."""
    folder = tmp_path_factory.mktemp("pebble210")
    with serve_acme(folder, PEERS.get("pebble210"), "the pebble210 of HALLMARK_PEERS", private_ca, **NEWER) as running:
        yield running


@pytest.fixture(scope="module")
def binding_pebble(private_ca: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Acme]:
    """One that wants accounts to be bound, and has two profiles."""
    profiles = {**NEWER["profiles"], "shortlived": {"description": "160 h", "validityPeriod": 576000}}
    own = {"externalAccountBindingRequired": True, "externalAccountMACKeys": {"kid-1": BINDING_KEY}}
    folder = tmp_path_factory.mktemp("binding")
    with serve_acme(
        folder, PEERS.get("pebble210"), "the pebble210 of HALLMARK_PEERS", private_ca,
        **{**NEWER, **own, "profiles": profiles},
    ) as running:
        yield running


# --- hosts -----------------------------------------------------------------------------------------------------------


@functools.cache
def version(install: str) -> tuple[int, ...]:
    """Return the version of a Certbot, or an empty one where it is missing."""
    program = "/usr/bin/certbot" if install == "apt" else str(CERTBOT5 / "bin" / "certbot")
    if not os.path.exists(program):
        return ()
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]
    return tuple(int(part) for part in said.split(".")[:2])


def need(install: str) -> None:
    """Skip the test where this Certbot is missing."""
    if not version(install):
        pytest.skip("certbot is not installed" if install == "apt" else "HALLMARK_CERTBOT_VENV has no Certbot")


class Host:
    """A signing host in a folder."""

    def __init__(self, ansible: Ansible, folder: pathlib.Path, acme: Acme, install: str, name: str) -> None:
        need(install)
        self.ansible, self.folder, self.acme, self.name = ansible, folder, acme, name
        self.state = folder / "work" / "hallmark"
        self.hook_says = folder / "hook-says"
        # One for all hosts: it is not changed by the name of one.
        self.program = ansible.folder / "program" / "hallmark.pyz"
        self.variables: Json = {
            "certbot_lineage": name, "certbot_domains": [name], "certbot_agree_tos": True, "certbot_install": install,
            "certbot_venv": str(CERTBOT5), "certbot_server": acme.url, "certbot_server_ca_path": str(acme.ca),
            "certbot_http01_port": acme.http_port, "certbot_config_dir": str(folder / "letsencrypt"),
            "certbot_work_dir": str(folder / "work"), "certbot_logs_dir": str(folder / "logs"),
            "certbot_program_path": str(self.program),
            "certbot_scheduler": "none", "certbot_metrics_path": str(folder / "certbot.prom"),
            "certbot_deploy_commands": [["/bin/sh", "-c", f"! grep broken {self.hook_says} 2>/dev/null"]],
        }
        self.busy_waits = [0.5] * 20

    def play(self, *entries: str, arguments: t.Sequence[str] = (), **variables: t.Any) -> Run:
        """Run the role, or entry points of it."""
        tasks = [
            {"name": f"Entry {entry}", "ansible.builtin.include_role": {
                "name": "hallmark.signing.certbot", "tasks_from": entry}} for entry in entries or ("main",)
        ]
        play = {"vars": {**self.variables, **variables}, "tasks": tasks}
        waits = ["-e", json.dumps({"__certbot_busy_waits": self.busy_waits})]
        return self.ansible.play([play], arguments=[*waits, *arguments])

    def job(self, command: str, *arguments: str, ok: bool = True) -> Json:
        """Run the program as the role does, and return what it reports."""
        called = self.command(command, *arguments)
        done = subprocess.run(called, capture_output=True, text=True, timeout=120, check=False)
        assert (done.returncode == 0) is ok, done.stdout + done.stderr
        return t.cast(Json, json.loads(done.stdout))

    def command(self, command: str, *arguments: str) -> list[str]:
        """Return how the program is called."""
        path = self.state if command == "scheduled" else self.state / f"{self.name}.settings"
        return ["/usr/bin/python3", "-I", "-B", str(self.program), "certbot", command, str(path), *arguments]

    def issue(self) -> None:
        """Obtain the certificate as the role does."""
        assert self.job("issue")["changed"]
        # Certbot since 5.3 ran the hook already.
        self.job("deploy")

    def scheduled(self) -> subprocess.CompletedProcess[str]:
        """Run the program as the timer does."""
        return subprocess.run(self.command("scheduled"), capture_output=True, text=True, timeout=120, check=False)

    def change(self, **values: t.Any) -> None:
        """Change the settings of the lineage."""
        path = self.state / f"{self.name}.settings"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    def read(self, end: str) -> Json:
        """Return the status or the journal."""
        return t.cast(Json, json.loads((self.state / f"{self.name}.{end}").read_text()))

    @property
    def live(self) -> pathlib.Path:
        """The folder of the current certificate."""
        return self.folder / "letsencrypt" / "live" / self.name

    @property
    def conf(self) -> str:
        """What Certbot keeps for renewals."""
        return (self.folder / "letsencrypt" / "renewal" / f"{self.name}.conf").read_text()

    def public(self, file: str = "cert.pem") -> str:
        """Return the public key of the certificate, or of the key."""
        kind = ["pkey", "-pubout"] if file == "privkey.pem" else ["x509", "-pubkey", "-noout"]
        return openssl(*kind, "-in", str(self.live / file))


def openssl(*arguments: str) -> str:
    """Run openssl."""
    return subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=True).stdout


def serial(certificate: pathlib.Path) -> str:
    """Return the serial number of a certificate."""
    return openssl("x509", "-in", str(certificate), "-noout", "-serial").strip().partition("=")[2].lower()


MATRIX = [("apt", "pebble24"), ("apt", "pebble210"), ("venv", "pebble210")]
Make = t.Callable[..., Host]


@pytest.fixture(scope="module")
def prepared(ansible: Ansible, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Make:
    """Returns a host that the role prepared; one for each Certbot and server."""

    @functools.cache
    def made(install: str, server: str) -> Host:
        folder = tmp_path_factory.mktemp("base")
        host = Host(ansible, folder, request.getfixturevalue(server), install, "base.interop.example")
        host.play("prepare").require()
        return host

    return made


@pytest.fixture
def make(ansible: Ansible, tmp_path: pathlib.Path, request: pytest.FixtureRequest, prepared: Make) -> Make:
    """Makes a host that has nothing yet, or is prepared: with a copy of what the role wrote for another one."""

    def made(
        install: str = "apt", server: str = "pebble210", name: str = "signer.interop.example", *, ready: bool = True
    ) -> Host:
        need(install)
        host = Host(ansible, tmp_path / "host", request.getfixturevalue(server), install, name)
        if ready:
            base = prepared(install, server)
            shutil.copytree(base.folder, host.folder)
            for path in [path for path in host.folder.rglob("*") if path.is_file()]:
                path.write_text(path.read_text().replace(str(base.folder), str(host.folder)).replace(base.name, name))
                path.rename(path.with_name(path.name.replace(base.name, name)))
        host.folder.mkdir(exist_ok=True)
        return host

    return made


# --- the life of a lineage -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("install", "server"), MATRIX)
def test_life_of_a_lineage(make: Make, install: str, server: str) -> None:
    host = make(install, server)
    host.issue()
    first, key = serial(host.live / "cert.pem"), host.public()
    status = host.read("status")
    assert (status["ok"], status["hook_ok"], status["certificate"]["serial"]) == (True, True, first)
    assert "reuse_key = True" in host.conf
    assert not host.job("issue")["changed"]
    assert not host.job("configure")["changed"]
    # Certbot before 2.3 keeps copies of keys, and we say so.
    assert bool(host.job("configure")["notes"]) is (version(install) < (2, 3))

    assert host.job("renew", "--force")["changed"]
    assert serial(host.live / "cert.pem") != first
    assert host.public() == key, "reuse_key"
    assert not host.job("deploy")["changed"], "Certbot ran the hook itself"

    # Both certificates of the key are revoked: that of the issue, and that of the renewal.
    second = serial(host.live / "cert.pem")
    assert host.job("revoke", "--reason", "keycompromise")["changed"]
    for one in (first, second):
        assert (host.acme.status(one)["Status"], host.acme.status(one).get("Reason")) == ("Revoked", 1)
    assert not host.job("revoke", "--reason", "keycompromise")["changed"]
    assert (host.live / "fullchain.pem").exists()
    # Without the journal, the server's answer counts: as Certbot says it, or as it is in its log only.
    journal = (host.state / f"{host.name}.journal").read_text()
    (host.state / f"{host.name}.journal").unlink()
    host.job("revoke", "--reason", "keycompromise")
    assert set(host.read("journal")["revoked"]) == set(json.loads(journal)["revoked"])
    assert "was revoked" in host.job("check", ok=False)["error"]

    # The renewal is due now, whatever the calendar says, and gets a new key; the next one keeps that.
    assert host.job("renew")["changed"]
    new = host.public()
    assert new != key
    assert new == host.public("privkey.pem")
    assert not host.job("renew")["changed"]
    assert host.acme.status(serial(host.live / "cert.pem"))["Status"] == "Valid"
    assert host.job("renew", "--force")["changed"]
    assert host.public() == new
    assert "reuse_key = True" in host.conf
    host.job("check")


def test_entry_points(make: Make) -> None:
    host = make("venv", ready=False)
    run = host.play("main", "revoke").require()
    assert "Run certbot certonly" in " ".join(run.changed)
    assert "Run certbot revoke" in " ".join(run.changed)
    compromised = host.read("status")["certificate"]["key_id"]
    run = host.play("renew", "check").require()
    assert [name.rpartition(" : ")[2] for name in run.changed] == ["Run certbot renew"]
    assert host.read("status")["certificate"]["key_id"] != compromised
    # With the key id, the successor is left alone.
    assert not host.job("revoke", "--reason", "keycompromise", "--key-id", compromised)["changed"]
    assert host.acme.status(serial(host.live / "cert.pem"))["Status"] == "Valid"


# --- profiles and bindings -------------------------------------------------------------------------------------------


def test_profile_that_certbot_does_not_know(make: Make) -> None:
    host = make("apt", "pebble24", ready=False)
    if version("apt") >= (4, 0):
        pytest.skip("the distribution's Certbot knows profiles")
    run = host.play(certbot_profile="shortlived")
    assert run.status != 0
    message = run.failed[-1]["msg"]
    assert "certbot_profile is shortlived" in message
    assert ".".join(map(str, version("apt"))) in message
    assert "4.0" in message
    # Nothing was asked of the server.
    assert not host.folder.joinpath("letsencrypt").exists()


class Watch:
    """Looks at the arguments of all processes while the block runs."""

    def __init__(self, canary: bytes, known: bytes) -> None:
        self.canary, self.known, self.seen, self.known_seen = canary, known, 0, 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._end.is_set():
            for number in filter(str.isdigit, os.listdir("/proc")):
                with contextlib.suppress(OSError):
                    line = pathlib.Path("/proc", number, "cmdline").read_bytes()
                    self.seen += self.canary in line
                    self.known_seen += self.known in line
            time.sleep(0.01)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._end.set()
        self._thread.join()


def holders(folder: pathlib.Path, text: str) -> list[pathlib.Path]:
    """Return the files below a folder that hold a text."""
    return [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def lifetime(host: Host) -> float:
    """Return the lifetime of the current certificate in seconds."""
    current = host.read("status")["certificate"]
    begin, end = (datetime.datetime.fromisoformat(current[name].rstrip("Z")) for name in ("not_before", "not_after"))
    return (end - begin).total_seconds()


def test_binding_and_profile(make: Make) -> None:
    host = make("venv", "binding_pebble", "bound.interop.example", ready=False)
    key = host.folder / "hmac"
    key.touch(mode=0o600)
    binding = {"certbot_eab_kid": "kid-1", "certbot_eab_hmac_key_path": str(key)}
    key.write_text(BINDING_KEY + "\n")
    with Watch(BINDING_KEY.encode(), b"/dev/fd/") as watch:
        run = host.play(
            certbot_profile="shortlived", arguments=["-vvv", "--diff"], **binding,
        ).require()
    assert "Register the account with its binding" in " ".join(run.changed)
    assert watch.known_seen, "the registration was not watched"
    assert watch.seen == 0
    assert BINDING_KEY not in run.stdout + run.stderr + json.dumps(run.lines)
    assert holders(host.folder, BINDING_KEY) == [key]
    assert holders(host.ansible.folder, BINDING_KEY) == []
    # The profile was that one, and the account is not registered again.
    assert lifetime(host) < 8 * DAY
    assert host.job("renew", "--force")["changed"]
    assert lifetime(host) < 8 * DAY
    assert not host.job("register")["changed"]
    shutil.rmtree(host.folder / "letsencrypt" / "accounts")
    # An older Certbot reads the key in the same way.
    if version("apt"):
        host.change(certbot="/usr/bin/certbot")
        assert host.job("register")["changed"]
        shutil.rmtree(host.folder / "letsencrypt" / "accounts")
        assert holders(host.folder, BINDING_KEY) == [key]
    # A wrong key is refused by the server, and told to nobody either.
    wrong = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")
    key.write_text(wrong)
    refused = host.job("register", ok=False)["error"]
    assert "urn:ietf:params:acme:error:" in refused
    assert wrong not in refused
    assert holders(host.folder, wrong) == [key]
    key.chmod(0o644)
    assert "others may read" in host.job("register", ok=False)["error"]


# --- what the server says --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("install", ["apt", "venv"])
def test_the_error_of_the_server_is_shown(make: Make, install: str) -> None:
    host = make(install, "pebble210", "blocked.example", ready=install == "venv")
    if install == "venv":
        message = host.job("issue", ok=False)["error"]
    else:
        run = host.play()
        assert run.status != 0
        message = run.failed[-1]["msg"]
    assert "urn:ietf:params:acme:error:rejectedIdentifier" in message
    assert "blocked.example" in message.partition("the server answered")[2]
    # What the Certbot of Debian 12 says instead of it.
    assert "can't set attribute" not in message
    status = host.read("status")
    assert [status[name] for name in ("ok", "renewal_ok", "last_success", "certificate")] == [False, False, None, None]
    assert "rejectedIdentifier" in status["error"]
    # A challenge that fails, because the server looks at another port.
    (port,) = free_ports(1)
    host.change(
        domains=["lost.interop.example"],
        authenticator={"arguments": ["--standalone", "--http-01-port", str(port)], "kept": {}},
    )
    error = host.job("issue", ok=False)["error"]
    assert "urn:ietf:params:acme:error:connection" in error
    assert "lost.interop.example" in error


# --- authenticators --------------------------------------------------------------------------------------------------


def test_records_by_programs(make: Make) -> None:
    host = make("venv", "pebble210", "dns.interop.example", ready=False)
    program = host.folder / "record"
    program.write_text(f"""#!{sys.executable}
import json, os, sys, urllib.request
host = "_acme-challenge." + os.environ["CERTBOT_DOMAIN"] + "."
data = {{"host": host, "value": os.environ["CERTBOT_VALIDATION"]}}
url = sys.argv[2] + "/" + sys.argv[1] + "-txt"
urllib.request.urlopen(urllib.request.Request(url, json.dumps(data).encode()), timeout=9)
open(sys.argv[3], "a").write(sys.argv[1] + " " + host + "\\n")
""")
    program.chmod(0o755)
    place = [f"http://127.0.0.1:{host.acme.dns_management}", str(host.folder / "two words")]
    names = ["*.dns.interop.example", "dns.interop.example"]
    own = {
        "certbot_authenticator": "dns", "certbot_domains": names,
        "certbot_dns_auth_hook": [str(program), "set", *place],
        "certbot_dns_cleanup_hook": [str(program), "clear", *place],
    }
    host.play(**own).require()
    assert "DNS:*.dns.interop.example, DNS:dns.interop.example" in openssl(
        "x509", "-in", str(host.live / "cert.pem"), "-noout", "-ext", "subjectAltName")
    calls = (host.folder / "two words").read_text().splitlines()
    assert calls.count("set _acme-challenge.dns.interop.example.") == 2
    assert calls.count("clear _acme-challenge.dns.interop.example.") == 2
    assert not host.job("issue")["changed"]
    assert not host.job("configure")["changed"]
    assert host.job("renew", "--force")["changed"]


@pytest.mark.parametrize(("install", "server"), [("apt", "pebble24"), ("venv", "pebble210")])
def test_another_way_to_prove_control(make: Make, install: str, server: str) -> None:
    host = make(install, server, "web.interop.example")
    order = host.folder / "order"
    for when in ("pre", "post"):
        hook = host.folder / "letsencrypt" / "renewal-hooks" / when / f"50-hallmark-{host.name}"
        hook.parent.mkdir()
        hook.write_text(f"#!/bin/sh\necho {when} >>{order}\n")
        hook.chmod(0o755)
        host.change(**{f"{when}_hook": str(hook)})
    other = host.folder / "letsencrypt" / "renewal-hooks" / "deploy" / "60-other"
    other.write_text(f"#!/bin/sh\necho deploy >>{order}\n")
    other.chmod(0o755)
    host.issue()
    # Once each, whether this Certbot runs them at first issue or not.
    assert sorted(order.read_text().split()) == ["deploy", "post", "pre"]
    assert not host.job("deploy")["changed"]
    web = host.folder / "web"
    web.mkdir()
    own = {"certbot_authenticator": "webroot", "certbot_webroot_path": str(web)}
    served = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(web))
    with http.server.ThreadingHTTPServer(("127.0.0.1", host.acme.http_port), served) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        try:
            before = serial(host.live / "cert.pem")
            run = host.play(**own).require()
            assert "Bring the settings of renewals in line" in " ".join(run.changed)
            assert serial(host.live / "cert.pem") == before
            assert "authenticator = webroot" in host.conf
            assert not host.job("configure")["changed"]
            assert not (host.folder / "letsencrypt" / "renewal-hooks" / "pre" / f"50-hallmark-{host.name}").exists()
            assert host.job("renew", "--force")["changed"]
        finally:
            running.shutdown()
    assert serial(host.live / "cert.pem") != before
    assert "reuse_key = True" in host.conf


def test_key_that_is_elsewhere(make: Make) -> None:
    host = make("venv", "pebble210", "hsm.interop.example", ready=False)
    key, request = host.folder / "elsewhere.key", host.folder / "request.pem"
    openssl(
        "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(key), "-out",
        str(request), "-subj", "/", "-addext", f"subjectAltName=DNS:{host.name}",
    )
    own = {"certbot_csr_path": str(request), "certbot_csr_fullchain_path": str(host.folder / "out" / "bundle.pem")}
    host.play(**own).require()
    out = host.folder / "out"
    assert sorted(path.name for path in out.iterdir()) == ["bundle.pem", "cert.pem", "chain.pem"]
    public = openssl("pkey", "-in", str(key), "-pubout")
    assert openssl("x509", "-in", str(out / "bundle.pem"), "-pubkey", "-noout") == public
    assert (out / "cert.pem").read_text() + (out / "chain.pem").read_text() == (out / "bundle.pem").read_text()
    assert not host.live.exists(), "Certbot keeps no lineage"
    for command in ("issue", "configure", "renew", "deploy", "check"):
        assert not host.job(command)["changed"]
    before = serial(out / "cert.pem")
    settings = json.loads((host.state / f"{host.name}.settings").read_text())
    host.change(csr={**settings["csr"], "renew_at": 1.5})
    assert host.scheduled().returncode == 0
    assert serial(out / "cert.pem") != before
    assert openssl("x509", "-in", str(out / "cert.pem"), "-pubkey", "-noout") == public
    assert host.read("status")["ok"]
    assert [path.name for path in host.state.iterdir() if ".csr-" in path.name] == []
    # A request for other names, and a certificate whose revocation made the key of the request useless.
    host.change(csr=settings["csr"], domains=["other.interop.example"])
    assert "not for certbot_domains" in host.job("renew", ok=False)["error"]
    host.change(domains=[host.name])
    assert host.job("revoke", "--reason", "keycompromise")["changed"]
    assert host.acme.status(serial(out / "cert.pem"))["Reason"] == 1
    assert "Make a new key" in host.job("renew", ok=False)["error"]


# --- failures that must be seen --------------------------------------------------------------------------------------


def test_failures_are_visible(make: Make) -> None:
    host = make("apt", "pebble24")
    host.issue()
    prom = host.folder / "certbot.prom"
    lineage = f'{{lineage="{host.name}"}}'
    assert f"hallmark_certbot_renewal_ok{lineage} 1\n" in prom.read_text()
    for path in (prom, host.state / f"{host.name}.status"):
        assert oct(path.stat().st_mode & 0o777) == "0o644"
    good = host.read("status")

    # A renewal that fails: somebody else listens on the port.
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", host.acme.http_port))
        held.listen()
        error = host.job("renew", "--force", ok=False)["error"]
    assert str(host.acme.http_port) in error
    status = host.read("status")
    assert (status["ok"], status["renewal_ok"], status["hook_ok"]) == (False, False, True)
    assert (status["last_success"], status["certificate"]) == (good["last_success"], good["certificate"])
    assert f"hallmark_certbot_renewal_ok{lineage} 0\n" in prom.read_text()
    run = host.play("check")
    assert run.status != 0
    assert f"the renewal at {status['last_attempt']} failed" in run.failed[-1]["msg"]
    # What was not renewed does not count as forced.
    assert host.read("journal")["forced"] == []
    # The timer mends it.
    assert host.scheduled().returncode == 0
    host.job("check")

    # A hook that fails, although Certbot ends with 0.
    host.hook_says.write_text("broken")
    assert host.job("renew", "--force")["changed"]
    done = host.scheduled()
    assert done.returncode == 1
    assert "deploy hook" in done.stderr
    status = host.read("status")
    assert (status["ok"], status["renewal_ok"], status["hook_ok"]) == (False, True, False)
    assert f"hallmark_certbot_deploy_hook_ok{lineage} 0\n" in prom.read_text()
    assert "deploy hook" in host.job("check", ok=False)["error"]
    host.hook_says.unlink()
    assert host.scheduled().returncode == 0
    assert host.job("check")["error"] == ""

    # The hook of somebody else, such as that of role signer.
    other = host.folder / "letsencrypt" / "renewal-hooks" / "deploy" / "60-other"
    other.write_text(f"#!/bin/sh\necho $RENEWED_LINEAGE >>{host.folder}/seen; test -e {host.folder}/well\n")
    other.chmod(0o755)
    assert host.job("renew", "--force")["changed"]
    assert host.read("status")["hooks_due"] == [str(other)]
    assert str(other) in host.job("check", ok=False)["error"]
    assert host.scheduled().returncode == 1
    (host.folder / "well").touch()
    assert host.scheduled().returncode == 0
    assert host.job("check")["error"] == ""
    assert host.scheduled().returncode == 0
    assert (host.folder / "seen").read_text().split() == [str(host.live)] * 3

    # A marker that is lost.
    (host.state / f"{host.name}.deployed").unlink()
    assert "deploy hook" in host.job("check", ok=False)["error"]


def test_another_instance_and_the_end_in_the_middle(make: Make) -> None:
    host = make("venv", "pebble210")
    host.issue()
    # Certbot locks its folders like this.
    with (host.folder / "letsencrypt" / ".certbot.lock").open("w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        host.change(busy_waits=[0.1])
        assert "Another instance of Certbot" in host.job("renew", "--force", ok=False)["error"]
        host.change(busy_waits=[0.3] * 60)
        with subprocess.Popen(host.command("renew", "--force"), stdout=subprocess.PIPE, text=True) as waiting:
            time.sleep(2)
            assert waiting.poll() is None
            fcntl.lockf(lock, fcntl.LOCK_UN)
            said, _errors = waiting.communicate(timeout=60)
    assert json.loads(said)["changed"]
    key = host.public()
    for delay in (0.6, 1.5):
        command = host.command("renew", "--force")
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True) as killed:
            time.sleep(delay)
            os.killpg(killed.pid, signal.SIGKILL)
        assert host.public() == host.public("privkey.pem") == key
    assert host.scheduled().returncode == 0
    assert host.job("renew", "--force")["changed"]
    assert host.public() == key
    host.job("deploy")
    host.job("check")


# --- limits ----------------------------------------------------------------------------------------------------------


def test_forced_renewals_are_counted(make: Make) -> None:
    host = make("apt", "pebble24")
    host.issue()
    host.job("renew", "--force")
    (entry,) = host.read("journal")["forced"]
    assert entry["server"] == host.acme.url
    now = time.time()
    recent = [{"at": now - days * DAY, "server": PRODUCTION} for days in (8, 6, 3, 2, 1)]
    (host.state / f"{host.name}.journal").write_text(json.dumps({"forced": recent}))
    conf = host.folder / "letsencrypt" / "renewal" / f"{host.name}.conf"
    conf.write_text(host.conf.replace(host.acme.url, PRODUCTION))
    log, chain = host.folder / "logs" / "letsencrypt.log", (host.live / "fullchain.pem").read_bytes()
    before = log.stat()
    run = host.play("renew", certbot_force_renewal=True, certbot_server="production")
    assert run.status != 0
    message = run.failed[-1]["msg"]
    assert PRODUCTION in message
    assert "4 renewals were forced in the last 7 days" in message
    again = datetime.datetime.fromtimestamp(now + DAY, datetime.timezone.utc)
    assert again.strftime("%Y-%m-%d") in message
    # Certbot was not even started, so nothing was asked of the server.
    assert (log.stat().st_ino, log.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert (host.live / "fullchain.pem").read_bytes() == chain


def test_another_server(make: Make, pebble210: Acme) -> None:
    host = make("apt", "pebble24")
    host.issue()
    key = host.public()
    # Such as from the staging server to the production server: a new certificate for the same key.
    host.change(server=pebble210.url, authenticator={
        "arguments": ["--standalone", "--http-01-port", str(pebble210.http_port)], "kept": {},
    })
    assert host.job("issue")["changed"]
    assert pebble210.status(serial(host.live / "cert.pem"))["Status"] == "Valid"
    assert host.public() == key
    assert f"server = {pebble210.url}" in host.conf
    assert not host.job("issue")["changed"]


def test_first_issues_are_spread(ansible: Ansible) -> None:
    names = [f"h{number}.example" for number in range(12)]

    def delays(count: int, **variables: t.Any) -> dict[str, int]:
        play = {
            "vars_files": [str(ROLE / "defaults" / "main.yml"), str(ROLE / "vars" / "main.yml")],
            "vars": {"certbot_lineage": "{{ inventory_hostname }}"},
            "tasks": [{"name": "Delay", "ansible.builtin.debug": {"msg": "{{ __certbot_stagger_delay | int }}"}}],
        }
        run = ansible.play(
            [play], hosts={name: {} for name in names[:count]}, arguments=["-e", json.dumps(variables)]
        ).require()
        return {line["host"]: int(line["result"]["msg"]) for line in run.lines}

    many = delays(12)
    assert len(set(many.values())) > 6
    assert all(0 <= delay <= 12 * 60 for delay in many.values())
    assert many == delays(12), "always as long"
    assert set(delays(12, certbot_server="https://ca.example/dir").values()) == {0}
    assert set(delays(3).values()) == {0}
    asked = delays(3, certbot_stagger_seconds=500)
    assert 0 < max(asked.values()) <= 500


# --- schedulers ------------------------------------------------------------------------------------------------------


def test_exactly_one_scheduler(make: Make) -> None:
    host = make("apt", "pebble24")
    root = host.folder / "root"
    for folder in ("cron.d", "cron.daily", "systemd/system"):
        (root / "etc" / folder).mkdir(parents=True)
    (root / "etc" / "cron.d" / "certbot").write_text("0 */12 * * * root certbot -q renew\n")
    (root / "etc" / "cron.d" / "notes").write_text("  # certbot renew was here\n0 1 * * * root certbot certificates\n")
    own = {
        "certbot_scheduler": "cron", "arguments": ["-e", json.dumps({"__certbot_root": str(root)})],
    }
    run = host.play("schedule", **own).require()
    assert len(run.changed) == 2
    assert sorted(path.name for path in (root / "etc" / "cron.d").iterdir()) == ["hallmark-certbot", "notes"]
    entry = (root / "etc" / "cron.d" / "hallmark-certbot").read_text()
    (line,) = [line for line in entry.splitlines() if " root " in line]
    assert line.endswith(f"{host.program} certbot scheduled {host.state}")

    daily, unit = root / "etc" / "cron.daily" / "renew", root / "etc" / "systemd" / "system" / "ours.service"
    daily.write_text("#!/bin/sh\ncertbot renew\n")
    unit.write_text("[Service]\nExecStart=/opt/certbot/bin/certbot --quiet renew\n")
    run = host.play("schedule", **own)
    assert run.status != 0
    assert str(daily) in run.failed[-1]["msg"]
    assert str(unit) in run.failed[-1]["msg"]
    # Everything else is as it was.
    run = host.play("schedule", certbot_other_schedulers="warn", **own).require()
    assert run.changed == []
    assert str(daily) in run.of("Warn of a second scheduler")["msg"]


def test_snap_is_adopted_and_not_installed(make: Make) -> None:
    if os.path.exists("/snap/bin/certbot"):
        pytest.skip("there is a snap of Certbot")
    host = make("apt", "pebble24", ready=False)
    run = host.play(certbot_install="snap")
    assert run.status != 0
    assert run.failed[-1]["msg"].startswith("/snap/bin/certbot: could not be used")
    assert not (host.folder / "letsencrypt").exists()
