# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of certificate requests; openssl reads each, and an authority made with it signs them."""

from __future__ import annotations

import dataclasses
import pathlib
import re
import shutil
import subprocess
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import KeyFileError
from ansible_collections.hallmark.signing.plugins.module_utils._keys import (
    algorithms,
    certificate,
    certificate_request,
    making,
)
from ansible_collections.hallmark.signing.plugins.module_utils._keys.fingerprint import key_id
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

SUBJECT = "CN=release,OU=build,O=Example,C=DE"
OTHER = "1.3.6.1.4.1.57264.1.7"
SANS = [
    "dns:ci.example.com", "dns:*.example.com", "email:release@example.com", "uri:https://ci.example.com/job?x=1",
    f"other:{OTHER}:rel:eäse", f"other:{OTHER}:{'long ' * 60}x",
]
SIGNED_WITH = {
    "ecdsa-p256": "ecdsa-with-SHA256", "ecdsa-p384": "ecdsa-with-SHA384", "ecdsa-p521": "ecdsa-with-SHA512",
    "rsa-2048": "sha256WithRSAEncryption", "rsa-3072": "sha256WithRSAEncryption", "ed25519": "ED25519",
}
Run = t.Callable[..., str]


@pytest.fixture
def openssl(tmp_path: pathlib.Path) -> Run:
    """Runs openssl in the test's folder and returns what it printed."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no program openssl")

    def run(*arguments: str) -> str:
        done = subprocess.run(
            ["openssl", *arguments], capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    return run


def make(key: t.Any, subject: str = SUBJECT, sans: t.Sequence[str] = tuple(SANS)) -> bytes:
    return certificate_request.create(key, certificate_request.wanted(subject, sans))


def read(data: bytes) -> certificate_request.Request:
    return certificate_request.read(data, where="request")


@pytest.mark.parametrize("name", SIGNED_WITH)
def test_openssl_reads_and_verifies_it(name: str, openssl: Run, tmp_path: pathlib.Path) -> None:
    key = making.generate(algorithms.by_name(name))
    (tmp_path / "request").write_bytes(make(key))
    text = openssl("req", "-verify", "-in", "request", "-noout", "-text", "-nameopt", "RFC2253,utf8")
    assert "verify OK" in text
    assert f"Signature Algorithm: {SIGNED_WITH[name]}\n" in text
    assert f"Subject: {SUBJECT}\n" in text
    assert re.search(r"X509v3 Key Usage: critical\n +Digital Signature\n", text)
    assert re.search(r"X509v3 Extended Key Usage: ?\n +Code Signing\n", text)
    assert ", ".join((
        "DNS:ci.example.com", "DNS:*.example.com", "email:release@example.com", "URI:https://ci.example.com/job?x=1",
    )) in text
    assert re.search(rf"othername: ?{OTHER}::?rel:e", text)
    assert text.count("X509v3 ") == 3


def test_authority_of_openssl_signs_it(openssl: Run, tmp_path: pathlib.Path, p256: t.Any) -> None:
    openssl(
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "ca.key",
        "-out", "ca.pem", "-subj", "/CN=authority", "-days", "2",
    )
    (tmp_path / "request").write_bytes(make(p256))
    openssl(
        "x509", "-req", "-in", "request", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "1",
        "-copy_extensions", "copyall", "-out", "leaf.pem", "-CAcreateserial",
    )
    assert "OK" in openssl("verify", "-CAfile", "ca.pem", "leaf.pem")
    facts = certificate.read_chain((tmp_path / "leaf.pem").read_bytes(), where="leaf")
    assert (facts.key_id, facts.eku) == (key_id(p256.public_key()), ("codeSigning",))
    assert [f"{san.type}:{san.value}" for san in facts.sans][:4] == SANS[:4]
    leaf = x509.load_pem_x509_certificate((tmp_path / "leaf.pem").read_bytes())
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage)
    assert (usage.critical, usage.value.digital_signature, usage.value.key_cert_sign) == (True, True, False)
    assert leaf.subject.rfc4514_string() == SUBJECT
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    others = [name.value for name in names if isinstance(name, x509.OtherName)]
    assert others[0] == b"\x0c\x09" + "rel:eäse".encode()
    assert others[1] == b"\x0c\x82\x01\x2d" + ("long " * 60 + "x").encode()


def test_it_is_one_pem_block(p256: t.Any) -> None:
    lines = make(p256).decode("ascii").splitlines(keepends=True)
    assert (lines[0], lines[-1]) == (
        "-----BEGIN CERTIFICATE REQUEST-----\n", "-----END CERTIFICATE REQUEST-----\n"
    )


def test_key_signs_it(p256: t.Any, rsa2048: t.Any, p384: t.Any, ed25519_key: t.Any) -> None:
    for key in (p256, rsa2048, p384, ed25519_key):
        found = read(make(key))
        assert (found.key_id, found.is_signed) == (key_id(key.public_key()), True)


def test_names_may_be_left_out(p256: t.Any) -> None:
    found = read(make(p256, sans=[]))
    assert sorted(found.content.extensions) == ["2.5.29.15", "2.5.29.37"]
    assert found.content.facts() == {"csr_subject": SUBJECT, "csr_sans": []}


def test_facts_are_what_was_asked_for(p256: t.Any) -> None:
    facts = {"csr_subject": SUBJECT, "csr_sans": sorted(SANS)}
    assert certificate_request.wanted(SUBJECT, SANS).content.facts() == read(make(p256)).content.facts() == facts


@pytest.mark.parametrize("size", [1, 127, 128, 255, 256, 65_535])
def test_text_of_any_length_is_der(size: int, p256: t.Any) -> None:
    san = f"other:1.2.3:{'x' * size}"
    assert read(make(p256, sans=[san])).content.facts()["csr_sans"] == [san]


# Wrong input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subject", [
    "", "release", "CN", "CN=", "O=Example,", "CN=a,,O=b", "CN=a;O=b", "X=y", "C=DEU", "9.9=x", "CN=a\\00b", "CN=a\nb",
    "CN=" + "x" * 65, "CN=\ud800", "CN=#0c0161", "/CN=release",
])
def test_bad_subject_is_refused(subject: str) -> None:
    with pytest.raises(KeyFileError) as caught:
        certificate_request.wanted(subject, [])
    assert (caught.value.code, caught.value.object) == ("input_invalid", "csr_subject")


def test_what_cannot_be_encoded_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # What that is differs from library to library: newer ones do not take C=D_.
    def refuse(*_arguments: object) -> t.NoReturn:
        raise ValueError("no")

    monkeypatch.setattr(certificate_request, "_sign", refuse)
    with pytest.raises(KeyFileError, match="cannot be encoded") as caught:
        certificate_request.wanted("C=D_", [])
    assert (caught.value.code, caught.value.object) == ("input_invalid", "csr_subject")


@pytest.mark.parametrize("subject", [
    "CN=release", "CN=a\\, b", "CN=a+O=b", "CN=é", "1.2.840.113549.1.9.1=a@b", "CN=" + "x" * 64,
    "UID=x,DC=example,DC=com",
])
def test_other_subjects_are_taken(subject: str, p256: t.Any) -> None:
    assert read(make(p256, subject, [])).content.subject == x509.Name.from_rfc4514_string(subject)


@pytest.mark.parametrize("san", [
    "", "dns", "dns:", "release", "ip:127.0.0.1", "DNS:a", "dns:a b", "dns:ä.example", "dns:.a", "dns:a.", "dns:a..b",
    "dns:-a", "dns:a-", "dns:" + "a" * 64, "dns:" + "a." * 127 + "a", "dns:*", "dns:a.*", "dns:a\n", "dns:https://a",
    "email:", "email:release", "email:@a", "email:a@", "email:a b@c", "email:Release <a@b>", "email:a@b@c", "email:ä@b",
    "email:a@b\n", "uri:", "uri:example.com/x", "uri:https:", "uri:https://ä", "uri:https://a b", "uri:https://a\n",
    "other:", "other:1.2.3", "other:1.2.3:", "other::x", "other:x:y", "other:9.9:x", "other:1:x", "other:1..2:x",
    "other:1.2.3:a\nb", "other:1.2.3:\x00", "other:1.2.3:\ud800", "other:1.2.3:" + "x" * 65_536,
    "other:1.2." + "1." * 100 + "1:x", "other:1.2." + "9" * 60 + ":x",
], ids=lambda san: ascii(san[:40]))
def test_bad_name_is_refused(san: str) -> None:
    with pytest.raises(KeyFileError) as caught:
        certificate_request.wanted(SUBJECT, ["dns:good.example", san])
    assert (caught.value.code, caught.value.object) == ("input_invalid", "csr_sans")


def test_name_that_occurs_twice_is_refused() -> None:
    with pytest.raises(KeyFileError, match="twice") as caught:
        certificate_request.wanted(SUBJECT, ["dns:a", "email:a@b", "dns:a"])
    assert (caught.value.code, caught.value.object) == ("input_invalid", "csr_sans")


# Comparing -----------------------------------------------------------------------------------------------------------


CONFIG = """
[req]
distinguished_name = name
prompt = no
req_extensions = asked
[name]
{name}
[asked]
keyUsage = {usage}
extendedKeyUsage = {extended}
{more}
"""


@pytest.mark.parametrize(("changes", "is_same"), [
    ({}, True), ({"usage": "digitalSignature"}, False), ({"usage": "critical,digitalSignature,nonRepudiation"}, False),
    ({"extended": "critical,codeSigning"}, False), ({"extended": "codeSigning,timeStamping"}, False),
    ({"extended": "serverAuth"}, False), ({"more": ""}, False), ({"more": "subjectAltName=DNS:b.example"}, False),
    ({"more": "subjectAltName=critical,DNS:b.example,email:a@example"}, False),
    ({"more": "subjectAltName=email:a@example,DNS:b.example"}, True),
    ({"more": "subjectAltName=DNS:b.example,email:a@example\nbasicConstraints=CA:FALSE"}, False),
    ({"more": "subjectAltName=DNS:b.example,email:a@example,IP:127.0.0.1"}, False), ({"name": "CN=release"}, False),
    ({"name": "CN=release\nO=Example"}, False), ({"name": "O=Example\nCN=released"}, False),
])
def test_request_of_openssl_that_asks_for_the_same_satisfies(
    changes: dict[str, str], is_same: bool, openssl: Run, tmp_path: pathlib.Path, p256: t.Any,
    private_pem: t.Callable[..., bytes],
) -> None:
    parts = {
        "name": "O=Example\nCN=release", "usage": "critical,digitalSignature", "extended": "codeSigning",
        "more": "subjectAltName=DNS:b.example,email:a@example", **changes,
    }
    (tmp_path / "config").write_text(CONFIG.format(**parts))
    (tmp_path / "key").write_bytes(private_pem(p256))
    openssl("req", "-new", "-utf8", "-key", "key", "-config", "config", "-out", "request")
    found = read((tmp_path / "request").read_bytes())
    wanted = certificate_request.wanted("CN=release,O=Example", ["dns:b.example", "email:a@example"])
    own = key_id(p256.public_key())
    assert found.satisfies(wanted, own) is is_same
    assert not found.satisfies(wanted, "0" * 64)
    assert not dataclasses.replace(found, is_signed=False).satisfies(wanted, own)
    assert found.content.facts()["csr_sans"] == sorted(found.content.facts()["csr_sans"])


def test_request_that_its_key_did_not_sign_does_not_satisfy(p256: t.Any) -> None:
    wanted = certificate_request.wanted(SUBJECT, SANS)
    der = x509.load_pem_x509_csr(certificate_request.create(p256, wanted)).public_bytes(serialization.Encoding.DER)
    broken = der.replace(b"ci.example.com", b"ci.example.org")
    found = read(x509.load_der_x509_csr(broken).public_bytes(serialization.Encoding.PEM))
    other = certificate_request.wanted(SUBJECT, [san.replace("ci.example.com", "ci.example.org") for san in SANS])
    assert found.content == other.content
    assert (found.is_signed, found.satisfies(other, found.key_id)) == (False, False)


def test_text_around_the_block_is_kept_out_of_it(p256: t.Any) -> None:
    data = make(p256)
    found = read(b"a comment\n" + data + b"more\n")
    assert (found.data, found.pem.encode()) == (b"a comment\n" + data + b"more\n", data)


def test_names_of_others_are_shown_as_they_are(p256: t.Any) -> None:
    name = x509.Name.from_rfc4514_string("CN=x")
    names: list[x509.GeneralName] = [
        x509.OtherName(x509.ObjectIdentifier("1.2.3"), b"\x05\x00"), x509.DirectoryName(name),
    ]
    request = (
        x509.CertificateSigningRequestBuilder().subject_name(name)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
        .sign(p256, hashes.SHA256())
    )
    sans = read(request.public_bytes(serialization.Encoding.PEM)).content.facts()["csr_sans"]
    assert len(sans) == 2
    assert sans[1] == "other:1.2.3:"


def test_what_is_no_request_is_malformed(
    p256: t.Any, public_pem: t.Callable[..., bytes], private_pem: t.Callable[..., bytes],
    pem_block: t.Callable[..., bytes],
) -> None:
    good = make(p256)
    der = x509.load_pem_x509_csr(good).public_bytes(serialization.Encoding.DER)
    for data in (
        b"", b"x", good[:-40], good + good, public_pem(p256), private_pem(p256), good + private_pem(p256),
        pem_block("CERTIFICATE REQUEST", b"x"), pem_block("CERTIFICATE REQUEST", der[:-1]),
        pem_block("CERTIFICATE REQUEST", der.replace(b"\x0c\x07release", b"\x31\x07release")),
        pem_block("CERTIFICATE REQUEST", der.replace(b"\x0c\x07release", b"\x03\x07release")),
        pem_block("NEW CERTIFICATE REQUEST", der), pem_block("CERTIFICATE", der),
    ):
        with pytest.raises(KeyFileError) as caught:
            read(data)
        assert (caught.value.code, caught.value.object) == ("malformed", "request")
        assert "PRIVATE" not in str(caught.value)


def test_every_altered_byte_ends_well(p256: t.Any, pem_block: t.Callable[..., bytes]) -> None:
    wanted = certificate_request.wanted(SUBJECT, SANS)
    good = x509.load_pem_x509_csr(certificate_request.create(p256, wanted))
    der = good.public_bytes(serialization.Encoding.DER)
    for at in range(len(der)):
        altered = der[:at] + bytes([der[at] ^ 0x01]) + der[at + 1:]
        try:
            found = read(pem_block("CERTIFICATE REQUEST", altered))
        except KeyFileError:
            continue
        assert found.content.facts()
        # A last bit of the signature that is zero may also be called unused: that changes nothing that is asked for.
        if found.satisfies(wanted, key_id(p256.public_key())):
            again = x509.load_pem_x509_csr(found.pem.encode())
            assert again.tbs_certrequest_bytes == good.tbs_certrequest_bytes
