# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures that several unit tests share."""

from __future__ import annotations

import base64
import pathlib
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._custody import export_record
from ansible_collections.hallmark.signing.tests.unit import fake_services
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

_KEYS = pathlib.Path(__file__).parent / "data" / "keys"


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name data after its argument: it may hold a time or chance, and all processes must name tests alike."""
    return argname if isinstance(val, bytes) or (isinstance(val, str) and len(val) > 80) else None


@pytest.fixture(scope="session")
def p256() -> ec.EllipticCurvePrivateKey:
    """A key of the kind that most sign with."""
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture(scope="session")
def rsa2048() -> rsa.RSAPrivateKey:
    """A key of the other family that is in wide use."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="session")
def p384() -> ec.EllipticCurvePrivateKey:
    """A key on a larger curve, which cosign 2 and cosign 3 sign with different hashes."""
    return ec.generate_private_key(ec.SECP384R1())


@pytest.fixture(scope="session")
def p521() -> ec.EllipticCurvePrivateKey:
    """A key on the largest curve."""
    return ec.generate_private_key(ec.SECP521R1())


@pytest.fixture(scope="session")
def ed25519_key() -> ed25519.Ed25519PrivateKey:
    """A key that signs both plainly and prehashed."""
    return ed25519.Ed25519PrivateKey.generate()


@pytest.fixture(scope="session")
def golden() -> t.Callable[[str], bytes]:
    """Reads a file of data/keys; its README.md says how each was made."""
    return lambda name: (_KEYS / name).read_bytes()


@pytest.fixture(scope="session")
def private_pem() -> t.Callable[..., bytes]:
    """Writes a private key as PEM: PKCS#8, or with traditional=True SEC1 or PKCS#1; plain or encrypted."""

    def write(key: t.Any, passphrase: bytes | None = None, *, traditional: bool = False) -> bytes:
        return key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL if traditional else serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption() if passphrase is None else serialization.BestAvailableEncryption(passphrase),
        )

    return write


@pytest.fixture(scope="session")
def public_pem() -> t.Callable[[t.Any], bytes]:
    """Writes the public half of a private key, or a public key, as SubjectPublicKeyInfo PEM."""

    def write(key: t.Any) -> bytes:
        public = key.public_key() if hasattr(key, "public_key") else key
        return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    return write


@pytest.fixture(scope="session")
def pem_block() -> t.Callable[[str, bytes], bytes]:
    """Puts any bytes into a PEM block of any label."""

    def write(label: str, data: bytes) -> bytes:
        return f"-----BEGIN {label}-----\n{base64.encodebytes(data).decode()}-----END {label}-----\n".encode()

    return write


@pytest.fixture(scope="session")
def assert_hides() -> t.Callable[..., None]:
    """Asserts that an error, with all it was raised from, shows none of the secrets: passphrases or PEM files."""

    def check(error: BaseException, *secrets: bytes) -> None:
        shown, links = "", [error]
        for link in links:
            shown += f"{link} {link!r} {link.args!r} {vars(link)!r}"
            links.extend(more for more in (link.__cause__, link.__context__) if more and more not in links)
        for secret in secrets:
            for line in secret.decode("utf-8", "replace").splitlines():
                if not line.startswith("-----") and len(line) > 3:
                    assert line not in shown

    return check


@pytest.fixture(autouse=True)
def _own_record(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the record of exports in a folder of the test: that of this host is not touched."""
    folder = tmp_path_factory.mktemp("record", numbered=True)
    monkeypatch.setattr(export_record, "default_path", lambda: str(folder / "exports.jsonl"))


@pytest.fixture
def log() -> t.Iterator[fake_services.FakeLog]:
    """A transparency log."""
    with fake_services.fake_log() as running:
        yield running


@pytest.fixture
def stamper(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[fake_services.FakeStamper]:
    """A timestamp authority."""
    pytest.importorskip("rfc3161_client", reason="rfc3161-client is not installed")
    if not fake_services.can_stamp():
        pytest.skip("there is no program openssl")
    with fake_services.fake_stamper(tmp_path_factory.mktemp("stamper")) as running:
        yield running
