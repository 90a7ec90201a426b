# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The job of role certbot without a Certbot: what it reads, remembers, and says. The rest is in tests/interop."""

from __future__ import annotations

import ast
import datetime
import hashlib
import importlib.util
import json
import os
import pathlib
import sys
import threading
import time
import typing as t

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

PROGRAM = pathlib.Path(__file__).parents[3] / "roles" / "certbot" / "files" / "certbot_job.py"


def _load() -> t.Any:
    spec = importlib.util.spec_from_file_location("certbot_job", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["certbot_job"] = module
    spec.loader.exec_module(module)
    return module


job = _load()
DAY = 86400


def settings(folder: pathlib.Path, **values: t.Any) -> t.Any:
    """Return settings as the role writes them."""
    (folder / "logs").mkdir(exist_ok=True)
    path = folder / "x.example.settings"
    path.write_text(json.dumps({
        "lineage": "x.example", "domains": ["x.example"], "certbot": str(folder / "certbot"), "version": "2.1.0",
        "config_dir": str(folder / "le"), "work_dir": str(folder), "logs_dir": str(folder / "logs"),
        "server": job.PRODUCTION, "ca_path": "", "account": [], "eab": {"kid": "", "hmac_key_path": ""},
        "key": ["--key-type", "ecdsa"], "reuse_key": True, "profile": [],
        "authenticator": {"arguments": [], "kept": {}}, "extra_arguments": [], "csr": {},
        "fullchain": str(folder / "live" / "fullchain.pem"), "hook": str(folder / "hook"),
        "marker": str(folder / "x.example.deployed"), "pre_hook": "", "post_hook": "",
        "metrics_path": "", "exclusive": True, "busy_waits": [0.01, 0.01], **values,
    }))
    return job.Settings.load(str(path))


def fake_certbot(folder: pathlib.Path, text: str) -> pathlib.Path:
    """Write a program that counts its runs, and then does what the text says."""
    program = folder / "certbot"
    program.write_text(f"#!/bin/sh\necho run >>{folder}/runs\n{text}\n")
    program.chmod(0o755)
    return folder / "runs"


# --- certificates ----------------------------------------------------------------------------------------------------

KEYS: dict[str, t.Any] = {
    "ecdsa": ec.generate_private_key(ec.SECP256R1()), "rsa": rsa.generate_private_key(65537, 2048),
}
BEGIN = datetime.datetime(2049, 12, 1, 2, 3, 4, tzinfo=datetime.timezone.utc)


def make_certificate(key: t.Any, *names: str, days: int = 90, serial: int = 0xABCDEF) -> x509.Certificate:
    """Make a certificate with these names."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])] if names else [])
    builder = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
        .serial_number(serial).not_valid_before(BEGIN).not_valid_after(BEGIN + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    if names:
        listed = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        builder = builder.add_extension(listed, critical=True)
    return builder.sign(key, hashes.SHA256())


def spki(key: t.Any) -> str:
    return hashlib.sha256(key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)).hexdigest()


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("names", [(), ("b.example", "a.example", "*.a.example")])
@pytest.mark.parametrize("serial", [1, 0x80, 0x0E57E6, 2**158 + 5])
def test_certificate_is_read(tmp_path: pathlib.Path, kind: str, names: tuple[str, ...], serial: int) -> None:
    made = make_certificate(KEYS[kind], *names, serial=serial)
    path = tmp_path / "cert.pem"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) * 2)
    found = job.certificate(str(path))
    assert found.fingerprint == made.fingerprint(hashes.SHA256()).hex()
    assert found.key_id == spki(KEYS[kind])
    assert int(found.serial, 16) == serial
    assert len(found.serial) % 2 == 0, "as openssl writes it"
    assert (found.not_before, found.not_after) == (BEGIN.timestamp(), BEGIN.timestamp() + 90 * DAY)
    assert found.names == tuple(sorted(names))
    assert found.remaining(BEGIN.timestamp() + 45 * DAY) == pytest.approx(0.5)


@pytest.mark.parametrize("encoding", [serialization.Encoding.PEM, serialization.Encoding.DER])
@pytest.mark.parametrize("names", [(), ("b.example", "a.example")])
def test_request_is_read(tmp_path: pathlib.Path, encoding: serialization.Encoding, names: tuple[str, ...]) -> None:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if names:
        listed = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        builder = builder.add_extension(listed, critical=False)
    path = tmp_path / "request"
    path.write_bytes(builder.sign(KEYS["ecdsa"], hashes.SHA256()).public_bytes(encoding))
    assert job.request(str(path)) == (spki(KEYS["ecdsa"]), tuple(sorted(names)))


def test_what_is_no_certificate(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "cert.pem"
    assert job.certificate(str(path)) is None
    whole = make_certificate(KEYS["ecdsa"], "a.example").public_bytes(serialization.Encoding.DER)
    for data in (b"", b"hello", b"0", b"0\x80", b"0\x89" + b"\xff" * 9, b"-----BEGIN CERTIFICATE-----\n!\n-----END ",
                 *(whole[:length] for length in range(len(whole)))):
        path.write_bytes(data)
        with pytest.raises(job.JobError, match=r"cert\.pem: could not be read as a certificate"):
            job.certificate(str(path))
    path.write_bytes(b"0" * (job.FILE_BYTES + 1))
    with pytest.raises(job.JobError, match="larger than"):
        job.certificate(str(path))


# --- what went wrong -------------------------------------------------------------------------------------------------

LIMITED = """2026-11-21 10:00:00,000:DEBUG:acme.client:Received response:
HTTP 429
Content-Type: application/problem+json
Retry-After: 122400

{
  "type": "urn:ietf:params:acme:error:rateLimited",
  "detail": "too many certificates (5) already issued for this exact set of identifiers in the last 168h0m0s",
  "status": 429
}
Traceback (most recent call last):
acme.messages.Error: urn:ietf:params:acme:error:rateLimited :: There were too many requests :: too many certificates
AttributeError: can't set attribute
"""


def test_masked_error_is_shown() -> None:
    output = "An unexpected error occurred:\nAttributeError: can't set attribute\nAsk for help or search"
    assert job.sentence(output, LIMITED) == (
        "the server answered urn:ietf:params:acme:error:rateLimited: too many certificates (5) already issued for this"
        " exact set of identifiers in the last 168h0m0s / Retry-After: 122400"
    )


def test_error_is_taken_from_the_traceback_where_there_is_no_answer() -> None:
    log = "acme.messages.Error: urn:ietf:params:acme:error:dns :: There was a problem :: no such name x.example\n"
    assert job.server_errors(log) == ["urn:ietf:params:acme:error:dns: no such name x.example"]


def test_nonces_are_no_errors_and_each_error_is_named_once() -> None:
    problem = '{"type": "urn:ietf:params:acme:error:%s", "detail": "d%s", "subproblems": [{"a": {"b": 1}}]}'
    pairs = (("badNonce", 0), ("dns", 1), ("dns", 1), ("tls", 2), ("caa", 3), ("tls", 4))
    log = " ".join(problem % pair for pair in pairs)
    assert [text[-2:] for text in job.server_errors(log)] == ["d2", "d3", "d4"]
    assert job.server_errors('{"type": "urn:ietf:params:acme:error:dns", "detail": ') == []


def test_what_is_shown_is_short_and_clean() -> None:
    key = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49\n-----END PRIVATE KEY-----"
    text = job.clean(f"a\x1b[31m\r\nb {key} c {'Q' * 65} \u202e " + "word " * 1000)
    assert "MIGH" not in text
    assert "Q" * 65 not in text
    assert text.isprintable()
    assert len(text) == job.SENTENCE
    assert job.clean("-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49") == "(left out)"
    assert job.sentence("", "") == "Certbot said nothing"
    assert len(job.sentence("line\n" * 9000 + "x" * 9000, LIMITED * 100)) <= job.SENTENCE


def test_rate_limit_is_not_tried_again(tmp_path: pathlib.Path) -> None:
    log = tmp_path / "logs" / "letsencrypt.log"
    runs = fake_certbot(tmp_path, f"cat >{log} <<'EOF'\n{LIMITED}EOF\nexit 1")
    report = job.issue(settings(tmp_path))
    assert "rateLimited" in report.error
    assert "Retry-After: 122400" in report.error
    assert runs.read_text().split() == ["run"]
    status = json.loads((tmp_path / "x.example.status").read_text())
    assert (status["ok"], status["error"]) == (False, report.error)


def test_another_instance_is_waited_for(tmp_path: pathlib.Path) -> None:
    # The log is that of the other instance.
    runs = fake_certbot(tmp_path, f"echo '{job.BUSY}.'; exit 1")
    chosen = settings(tmp_path)
    (tmp_path / "logs" / "letsencrypt.log").write_text(LIMITED)
    done = job.certbot(chosen, "renew")
    assert len(runs.read_text().split()) == 3
    assert done.error == f"Certbot said {job.BUSY}"


def test_log_of_an_earlier_run_says_nothing(tmp_path: pathlib.Path) -> None:
    fake_certbot(tmp_path, "echo no network; exit 1")
    chosen = settings(tmp_path)
    log = tmp_path / "logs" / "letsencrypt.log"
    log.write_text(LIMITED)
    os.utime(log, (time.time() - 60, time.time() - 60))
    assert job.certbot(chosen, "renew").error == "Certbot said no network"


def test_only_the_end_of_a_log_is_read(tmp_path: pathlib.Path) -> None:
    fake_certbot(tmp_path, "exit 1")
    chosen = settings(tmp_path)
    log = tmp_path / "logs" / "letsencrypt.log"
    log.write_text(LIMITED.replace("rateLimited", "dns") + "x" * job.LOG_BYTES + LIMITED)
    assert "dns" not in job.certbot(chosen, "renew").error


# --- journal, status, metrics ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ages", "server", "refused"), [
    ([1, 2, 3, 6.9], job.PRODUCTION, True), ([1, 2, 3, 7.1], job.PRODUCTION, False), ([1, 2, 3], job.PRODUCTION, False),
    ([1, 1, 1, 1, 1, 1], "https://ca.example/dir", False),
])
def test_limit_of_forced_renewals(tmp_path: pathlib.Path, ages: list[float], server: str, refused: bool) -> None:
    now = time.time()
    journal = job.Journal(str(tmp_path / "j"), [{"at": now - age * DAY, "server": server} for age in ages])
    assert bool(journal.refusal(server, now)) is refused
    if refused:
        assert job.timestamp(now + 0.1 * DAY)[:13] in journal.refusal(server, now)


def test_forced_renewal_that_failed_does_not_count(tmp_path: pathlib.Path) -> None:
    journal = job.Journal(str(tmp_path / "j"))
    seen = []

    def work(changed: bool) -> t.Any:
        # It is written down already, because the run may be killed now.
        seen.append(len(json.loads((tmp_path / "j").read_text())["forced"]))
        return job.Report(changed)

    journal.forcing("s", lambda: work(False))
    journal.forcing("s", lambda: work(True))
    assert seen == [1, 1]
    assert len(json.loads((tmp_path / "j").read_text())["forced"]) == 1


def test_status_and_metrics(tmp_path: pathlib.Path) -> None:
    (tmp_path / "live").mkdir()
    made = make_certificate(KEYS["ecdsa"], "x.example").public_bytes(serialization.Encoding.PEM)
    for name in ("cert", "fullchain"):
        (tmp_path / "live" / f"{name}.pem").write_bytes(made)
    (tmp_path / "x.example.deployed").write_text(f"{hashlib.sha256(made).hexdigest()}  -\n")
    chosen = settings(tmp_path, metrics_path=str(tmp_path / "m.prom"))
    job.record(chosen, 1000.0, attempt=True)
    job.record(chosen, 2000.0, attempt=True, error="no network")
    # The deploy hook succeeded later: the renewal still did not.
    job.record(chosen, 3000.0)
    status = json.loads((tmp_path / "x.example.status").read_text())
    assert {name: status[name] for name in ("last_attempt", "last_success", "ok", "hook_ok", "error")} == {
        "last_attempt": "1970-01-01T00:33:20Z", "last_success": "1970-01-01T00:16:40Z", "ok": False, "hook_ok": True,
        "error": "no network",
    }
    assert status["certificate"]["not_after"] == "2050-03-01T02:03:04Z"
    lines = [line for line in (tmp_path / "m.prom").read_text().splitlines() if not line.startswith("#")]
    assert lines == [
        f'hallmark_certbot_{name}{{lineage="x.example"}} {value}' for name, value in (
            ("renewal_ok", 0), ("deploy_hook_ok", 1), ("last_attempt_timestamp_seconds", 2000),
            ("last_success_timestamp_seconds", 1000),
            ("certificate_not_after_timestamp_seconds", int(BEGIN.timestamp()) + 90 * DAY),
        )
    ]
    assert job.check(chosen).error.startswith("the renewal at 1970-01-01T00:33:20Z failed: no network")


@pytest.mark.parametrize(("left", "word"), [(0.26, ""), (0.24, "less than a quarter"), (-0.1, "ended")])
def test_certificate_that_ends_soon(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, left: float, word: str
) -> None:
    (tmp_path / "live").mkdir()
    made = make_certificate(KEYS["ecdsa"], "x.example").public_bytes(serialization.Encoding.PEM)
    for name in ("cert", "fullchain"):
        (tmp_path / "live" / f"{name}.pem").write_bytes(made)
    (tmp_path / "x.example.deployed").write_text(hashlib.sha256(made).hexdigest())
    monkeypatch.setattr(time, "time", lambda: BEGIN.timestamp() + (1 - left) * 90 * DAY)
    error = job.check(settings(tmp_path)).error
    assert (word in error) if word else (error == "")


def test_readers_never_see_half_a_file(tmp_path: pathlib.Path) -> None:
    path, seen, end = tmp_path / "f", set(), threading.Event()
    job.write(str(path), b"a" * 5000)

    def look() -> None:
        while not end.is_set():
            seen.add(path.read_bytes())

    watching = threading.Thread(target=look)
    watching.start()
    for number in range(100):
        job.write(str(path), (b"b" if number % 2 else b"a") * 5000)
    end.set()
    watching.join()
    assert seen <= {b"a" * 5000, b"b" * 5000}
    assert oct(path.stat().st_mode & 0o777) == "0o644"
    assert [one.name for one in tmp_path.iterdir()] == ["f"]


def test_hooks_of_others_that_failed_are_found(tmp_path: pathlib.Path) -> None:
    chosen = settings(tmp_path, hook=str(tmp_path / "deploy" / "50-ours"))
    (tmp_path / "deploy").mkdir()
    for name in ("50-ours", "10-fails", "20-works", "30-is-none", "9~"):
        (tmp_path / "deploy" / name).touch()
        (tmp_path / "deploy" / name).chmod(0o644 if name == "30-is-none" else 0o755)
    first, second = str(tmp_path / "deploy" / "10-fails"), str(tmp_path / "deploy" / "20-works")
    assert job.other_hooks(chosen) == [first, second]
    log = "\n".join([
        f"2026-11-21 10:00:00,000:INFO:certbot.compat.misc:Running deploy-hook command: {first}",
        "2026-11-21 10:00:00,001:WARNING:certbot.display.ops:Hook 'deploy-hook' reported error code 3",
        f"2026-11-21 10:00:00,002:INFO:certbot.compat.misc:Running deploy-hook command: {second}",
        f"2026-11-21 10:00:00,003:INFO:certbot.compat.misc:Running deploy-hook command: {chosen.hook}",
        "2026-11-21 10:00:00,004:WARNING:certbot.display.ops:Hook 'deploy-hook' reported error code 7",
    ])
    assert job.failed_hooks(chosen, log) == [first]


# --- renewal configuration -------------------------------------------------------------------------------------------

CONF = """version = 2.1.0
cert = /le/live/x/cert.pem
[renewalparams]
account = 1
server = https://ca.example/dir
authenticator = standalone
http01_port = 5002
reuse_key = True
[[webroot_map]]
old.example = /old
"""


def test_settings_of_renewals_are_edited(tmp_path: pathlib.Path) -> None:
    (tmp_path / "le" / "renewal").mkdir(parents=True)
    conf = tmp_path / "le" / "renewal" / "x.example.conf"
    conf.write_text(CONF)
    kept = {"authenticator": "webroot", "webroot_path": "/a, b", "webroot_map x.example": "/a, b"}
    chosen = settings(tmp_path, authenticator={"arguments": [], "kept": kept})
    assert job.configure(chosen).changed
    text = conf.read_text()
    assert "old.example" not in text
    assert text.count("authenticator") == 1
    assert '[[webroot_map]]\nx.example = "/a, b"\n' in text
    for line in ("version = 2.1.0", "account = 1", "server = https://ca.example/dir", "reuse_key = True"):
        assert line in text.splitlines()
    assert not job.configure(chosen).changed
    command = {"authenticator": "manual", "pref_challs": "dns-01", "manual_auth_hook": "/bin/a 'two words'"}
    chosen = settings(tmp_path, authenticator={"arguments": [], "kept": command}, reuse_key=False)
    assert job.configure(chosen).changed
    assert "reuse_key = False" in conf.read_text().splitlines()
    assert job.renewal_parameters(chosen)["manual_auth_hook"] == "/bin/a 'two words'"
    assert not job.configure(chosen).changed


def test_what_nobody_renews_is_named(tmp_path: pathlib.Path) -> None:
    (tmp_path / "le" / "renewal").mkdir(parents=True)
    for name in ("x.example", "web.example"):
        (tmp_path / "le" / "renewal" / f"{name}.conf").write_text(CONF)
    (note,) = job.configure(settings(tmp_path)).notes
    assert note.endswith("web.example.")
    assert job.configure(settings(tmp_path, exclusive=False)).notes == []


# --- the program -----------------------------------------------------------------------------------------------------


def test_one_lineage_does_not_stop_the_others(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    fake_certbot(tmp_path, "echo no network; exit 1")
    settings(tmp_path)
    (tmp_path / "broken.settings").write_text("{")
    (tmp_path / "old.settings").write_text('{"lineage": "old"}')
    assert job.run_scheduled(str(tmp_path)) == 1
    said = capsys.readouterr().err
    assert "broken: " in said
    assert "old.settings: config_dir is missing" in said or "old.settings: busy_waits is missing" in said
    assert "x.example: could not renew: Certbot said no network" in said


def test_job_needs_the_standard_library_only() -> None:
    imported = {
        (alias.name if isinstance(node, ast.Import) else str(node.module)).partition(".")[0]
        for node in ast.walk(ast.parse(PROGRAM.read_text()))
        if isinstance(node, (ast.Import, ast.ImportFrom)) for alias in node.names
    }
    assert imported <= sys.stdlib_module_names
    compile(PROGRAM.read_text(), str(PROGRAM), "exec", ast.PyCF_ONLY_AST)
    ast.parse(PROGRAM.read_text(), feature_version=(3, 9))
