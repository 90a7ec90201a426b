# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of what is read of certificates and requests."""

from __future__ import annotations

import pathlib
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._certbot import certificates
from ansible_collections.hallmark.signing.plugins.module_utils._errors import CertbotError, HallmarkError, LibraryError
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._certbot.certbot_bench import (
    BEGIN,
    DAY,
    KEYS,
    certificate,
    key_id,
    request,
)
from cryptography.hazmat.primitives import hashes, serialization


@pytest.mark.parametrize(("kind", "names", "serial"), [
    ("ecdsa", ("b.example", "a.example"), 0xABCDEF), ("rsa", ("*.a.example",), 2**158 + 1), ("ecdsa", (), 0x80),
    ("ecdsa", ("a.example",), 5),
])
def test_certificate_is_read(tmp_path: pathlib.Path, kind: str, names: tuple[str, ...], serial: int) -> None:
    made = certificate(KEYS[kind], *names, serial=serial)
    path = tmp_path / "cert.pem"
    for data in (made.public_bytes(serialization.Encoding.PEM) * 2, made.public_bytes(serialization.Encoding.DER)):
        path.write_bytes(data)
        found = certificates.read_certificate(str(path))
        assert found is not None
        assert found.fingerprint == made.fingerprint(hashes.SHA256()).hex()
        assert found.key_id == key_id(kind)
        assert int(found.serial, 16) == serial
        assert len(found.serial) % 2 == 0, "as openssl writes it"
        assert (found.not_before, found.not_after) == (BEGIN.timestamp(), BEGIN.timestamp() + 90 * DAY)
        assert found.names == tuple(sorted(names))
        assert found.remaining(BEGIN.timestamp() + 45 * DAY) == pytest.approx(0.5)


def test_first_certificate_counts(tmp_path: pathlib.Path) -> None:
    # Whoever comes behind it, its issuer or not; and whatever stands before it.
    parts = [
        request("a.example").public_bytes(serialization.Encoding.PEM),
        *(certificate(KEYS["ecdsa"], f"{name}.example").public_bytes(serialization.Encoding.PEM) for name in "ab"),
    ]
    (tmp_path / "f").write_bytes(b"text\n" + b"".join(parts))
    found = certificates.read_certificate(str(tmp_path / "f"))
    assert found is not None
    assert found.names == ("a.example",)


@pytest.mark.parametrize("encoding", [serialization.Encoding.PEM, serialization.Encoding.DER])
@pytest.mark.parametrize("names", [(), ("b.example", "a.example")])
def test_request_is_read(tmp_path: pathlib.Path, encoding: serialization.Encoding, names: tuple[str, ...]) -> None:
    path = tmp_path / "request"
    path.write_bytes(request(*names).public_bytes(encoding))
    assert certificates.read_request(str(path)) == certificates.Request(key_id(), tuple(sorted(names)))


def test_older_label_of_requests_is_known(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "request"
    data = request("a.example").public_bytes(serialization.Encoding.PEM)
    path.write_bytes(data.replace(b" CERTIFICATE REQUEST", b" NEW CERTIFICATE REQUEST"))
    assert certificates.read_request(str(path)).names == ("a.example",)


def test_what_is_no_certificate(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "cert.pem"
    assert certificates.read_certificate(str(path)) is None
    whole = certificate(KEYS["ecdsa"], "a.example").public_bytes(serialization.Encoding.DER)
    asked = request().public_bytes(serialization.Encoding.PEM)
    for data in (b"", b"hello", b"0", b"0\x80", b"0\x89" + b"\xff" * 9, b"-----BEGIN CERTIFICATE-----\n!\n-----END ",
                 asked, *(whole[:length] for length in range(len(whole)))):
        path.write_bytes(data)
        with pytest.raises(HallmarkError, match=r"cert\.pem: could not read the certificate") as caught:
            certificates.read_certificate(str(path))
        assert caught.value.code == "malformed"


def test_what_is_no_request(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "request"
    with pytest.raises(CertbotError, match="there is no such file") as caught:
        certificates.read_request(str(path))
    assert caught.value.code == "not_found"
    for data in (b"0", b"hello", certificate(KEYS["ecdsa"]).public_bytes(serialization.Encoding.PEM)):
        path.write_bytes(data)
        with pytest.raises(HallmarkError, match="request: could not read the certificate request"):
            certificates.read_request(str(path))


def test_library_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    certificates.require_library()

    def refuse(library: str, *, floor: str) -> t.NoReturn:
        raise LibraryError(
            code="library_missing", object=library, attempt="import it", cause=f"none, and {floor} is wanted",
            advice="x",
        )

    monkeypatch.setattr(certificates, "require", refuse)
    with pytest.raises(CertbotError) as caught:
        certificates.require_library()
    assert str(caught.value) == (
        "cryptography: could not import it: none, and 38 is wanted. Install python3-cryptography, 38 or newer, for the "
        "Python of the system; role hallmark.signing.certbot does it."
    )
    assert caught.value.code == "library_missing"
