# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures for everything that talks to a registry."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import socket
import tempfile
import typing as t
from pathlib import Path

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._oci import transport
from ansible_collections.hallmark.signing.plugins.module_utils._oci.credentials import AuthFile
from ansible_collections.hallmark.signing.plugins.module_utils._oci.registry import Registries
from ansible_collections.hallmark.signing.plugins.module_utils._oci.transport import HostSettings, RegistrySettings
from ansible_collections.hallmark.signing.tests.unit.fake_registry import FakeRegistry
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

StartRegistry = t.Callable[..., FakeRegistry]


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the test away from this user's files and this machine's authorities, and its retries short."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "no-docker"))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    # Loading some hundred authorities takes longer than most of these tests.
    monkeypatch.setenv("SSL_CERT_FILE", os.devnull)
    monkeypatch.setenv("SSL_CERT_DIR", str(folder))
    monkeypatch.setattr(transport, "_FIRST_DELAY", 0.001)


@pytest.fixture
def registry() -> t.Iterator[StartRegistry]:
    """Return a function that starts a FakeRegistry with the options given; all are stopped after the test."""
    with contextlib.ExitStack() as stack:
        started: list[FakeRegistry] = []

        def start(**options: t.Any) -> FakeRegistry:
            started.append(stack.enter_context(FakeRegistry(**options)))
            return started[-1]

        yield start
    assert [error for fake in started for error in fake.errors] == []


@pytest.fixture
def connect() -> t.Callable[..., Registries]:
    """Return a function that makes Registries for some fakes: connect(fake, timeout=1, username="robot")."""

    def make(
        *fakes: FakeRegistry, timeout: float = 5.0, workers: int = 16, auth_file: AuthFile | None = None,
        **host: t.Any,
    ) -> Registries:
        hosts = {fake.host: HostSettings(**host) for fake in fakes} if host else {}
        return Registries(RegistrySettings(auth_file or AuthFile("none", {}), hosts, timeout, workers))

    return make


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every host below the domain "test" be 127.0.0.1, as seen by clients; no other name is resolved."""
    genuine = socket.getaddrinfo

    def resolve(host: t.Any, *args: t.Any, **kwargs: t.Any) -> t.Any:
        name = host.decode() if isinstance(host, bytes) else str(host)
        if name.endswith(".test"):
            name = "127.0.0.1"
        assert name == "127.0.0.1", f"traffic to {name}"
        return genuine(name, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


class Authority(t.NamedTuple):
    """A CA file, and a certificate of that CA for 127.0.0.1 and *.test."""

    ca_path: str
    certificate: tuple[str, str]


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return a CA for registries on TLS."""
    return _make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def other_authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return another CA of the same name."""
    return _make_authority(tmp_path_factory.mktemp("other"))


def _make_authority(folder: Path) -> Authority:
    now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test CA")])

    def certify(subject: x509.Name, public_key: ec.EllipticCurvePublicKey, is_ca: bool) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        )

    ca = certify(issuer, ca_key.public_key(), True).add_extension(
        x509.KeyUsage(
            digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
            key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
        ), critical=True,
    ).sign(ca_key, hashes.SHA256())
    leaf = certify(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "registry")]), key.public_key(), False
    ).add_extension(
        x509.SubjectAlternativeName([
            x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("registry.test"), x509.DNSName("localhost"),
        ]), critical=False,
    ).sign(ca_key, hashes.SHA256())
    paths = [folder / name for name in ("ca.pem", "certificate.pem", "key.pem")]
    paths[0].write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    paths[2].write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ))
    return Authority(str(paths[0]), (str(paths[1]), str(paths[2])))
