# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of lineages share: settings as the role writes them, certificates, and a program as Certbot."""

from __future__ import annotations

import datetime
import hashlib
import json
import pathlib
import typing as t

from ansible_collections.hallmark.signing.plugins.module_utils._certbot import record
from ansible_collections.hallmark.signing.plugins.module_utils._certbot import settings as lineages
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

NAME = "x.example"
DAY = 86400
BEGIN = datetime.datetime(2049, 12, 1, 2, 3, 4, tzinfo=datetime.timezone.utc)
KEYS: dict[str, t.Any] = {
    "ecdsa": ec.generate_private_key(ec.SECP256R1()), "rsa": rsa.generate_private_key(65537, 2048),
}
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
OUTSIDE = {"path": "/r", "certificate": "/c", "chain": "/i", "fullchain": "/f", "renew_at": 0.3}


def values(folder: pathlib.Path, **changed: t.Any) -> dict[str, t.Any]:
    """Return what the role writes down, for a host in a folder."""
    return {
        "lineage": NAME, "domains": [NAME], "certbot": str(folder / "certbot"), "version": "2.1.0",
        "config_dir": str(folder / "le"), "work_dir": str(folder), "logs_dir": str(folder / "logs"),
        "server": record.PRODUCTION, "ca_path": "", "account": [], "eab": {"kid": "", "hmac_key_path": ""},
        "key": ["--key-type", "ecdsa"], "reuse_key": True, "profile": [],
        "authenticator": {"arguments": [], "kept": {}}, "extra_arguments": [], "csr": {},
        "fullchain": str(folder / "live" / "fullchain.pem"), "hook": str(folder / "deploy" / "50-ours"),
        "marker": str(folder / f"{NAME}.deployed"), "pre_hook": "", "post_hook": "",
        "metrics_path": "", "exclusive": True, "busy_waits": [0.01, 0.01], **changed,
    }


def settings(folder: pathlib.Path, **changed: t.Any) -> lineages.Settings:
    """Write settings as the role does, and read them."""
    (folder / "logs").mkdir(exist_ok=True)
    path = folder / f"{NAME}.settings"
    path.write_text(json.dumps(values(folder, **changed)))
    return lineages.load(str(path))


def program(path: pathlib.Path, text: str) -> pathlib.Path:
    """Write a program of the shell."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def fake_certbot(folder: pathlib.Path, text: str) -> pathlib.Path:
    """Write a Certbot that writes down how it was called, and then does what the text says; return where it does."""
    program(folder / "certbot", f'echo "$*" >>{folder}/runs\n{text}')
    return folder / "runs"


def calls(folder: pathlib.Path) -> list[str]:
    """Return how that Certbot was called."""
    runs = folder / "runs"
    return runs.read_text().splitlines() if runs.exists() else []


def certificate(key: t.Any, *names: str, days: int = 90, serial: int = 0xABCDEF) -> x509.Certificate:
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


def pem(*names: str, key: str = "ecdsa", serial: int = 0xABCDEF) -> bytes:
    """Make a certificate as PEM."""
    return certificate(KEYS[key], *names, serial=serial).public_bytes(serialization.Encoding.PEM)


def request(*names: str, key: str = "ecdsa") -> x509.CertificateSigningRequest:
    """Make a request for these names."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if names:
        listed = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        builder = builder.add_extension(listed, critical=False)
    return builder.sign(KEYS[key], hashes.SHA256())


def key_id(key: str = "ecdsa") -> str:
    """Return the key id of one of the keys."""
    public = KEYS[key].public_key()
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def place(folder: pathlib.Path, data: bytes, *, deployed: bool = True) -> str:
    """Put a certificate where the current one is, marked as deployed; return its fingerprint."""
    (folder / "live").mkdir(exist_ok=True)
    for name in ("cert", "fullchain"):
        (folder / "live" / f"{name}.pem").write_bytes(data)
    if deployed:
        (folder / f"{NAME}.deployed").write_text(f"{hashlib.sha256(data).hexdigest()}  -\n")
    return x509.load_pem_x509_certificate(data).fingerprint(hashes.SHA256()).hex()


def read(folder: pathlib.Path, end: str) -> dict[str, t.Any]:
    """Return the status or the journal."""
    return t.cast(dict[str, t.Any], json.loads((folder / f"{NAME}.{end}").read_text()))


def revoked(fingerprint: str, reason: str, key: str = "ecdsa") -> str:
    """Return a journal in which one certificate was revoked."""
    entry = {"serial": "01", "key_id": key_id(key), "reason": reason, "at": "2026-11-21T10:00:00Z"}
    return json.dumps({"forced": [], "revoked": {fingerprint: entry}})


def written(folder: pathlib.Path, text: str = CONF) -> pathlib.Path:
    """Write what Certbot keeps for renewals."""
    (folder / "le" / "renewal").mkdir(parents=True)
    path = folder / "le" / "renewal" / "x.example.conf"
    path.write_text(text)
    return path
