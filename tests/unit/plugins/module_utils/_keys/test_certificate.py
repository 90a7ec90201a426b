# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of what a certificate says."""

from __future__ import annotations

import dataclasses
import datetime
import ipaddress
import types
import typing as t
import warnings

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import KeyFileError
from ansible_collections.hallmark.signing.plugins.module_utils._keys import certificate, fingerprint, private_key
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

START = datetime.datetime(2024, 2, 29, 23, 59, 58)
END = datetime.datetime(2034, 12, 31, 1, 2, 3)
Write = t.Callable[..., bytes]


class Authority:
    """Issues certificates; CAs and leaves only differ by what the test says."""

    def __init__(self) -> None:
        self.keys = [ec.generate_private_key(ec.SECP256R1()) for _level in range(3)]

    def issue(
        self, subject: str, issuer: str, *extensions: x509.ExtensionType, key: t.Any = None, serial: int = 1
    ) -> x509.Certificate:
        """Issue for keys[0] unless told otherwise, signed by keys[2]: nobody checks that here."""
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(subject))
            .issuer_name(_name(issuer))
            .public_key((key or self.keys[0]).public_key())
            .serial_number(serial)
            .not_valid_before(START)
            .not_valid_after(END)
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self.keys[2], hashes.SHA256())


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def _name(common_name: str) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example, Inc")] if common_name == "root" else []
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates)


def _read(data: bytes) -> certificate.CertificateFacts:
    return certificate.read_chain(data, where="/srv/chain.pem")


def _refused(data: bytes) -> KeyFileError:
    with pytest.raises(KeyFileError) as caught:
        _read(data)
    assert (caught.value.code, caught.value.object) == ("malformed", "/srv/chain.pem")
    return caught.value


def test_chain_says_who_issued_whom(authority: Authority) -> None:
    leaf = authority.issue("leaf", "intermediate")
    intermediate = authority.issue("intermediate", "root", key=authority.keys[1])
    root = authority.issue("root", "root", key=authority.keys[2])
    facts = _read(b"text\n" + _pem(leaf, intermediate, root))
    ids = [fingerprint.key_id(key.public_key()) for key in authority.keys]
    assert facts.key_id == ids[0]
    assert facts.issuer_chain == (
        certificate.Issuer("CN=intermediate", ids[1]), certificate.Issuer("CN=root,O=Example\\, Inc", ids[2]),
    )
    assert facts.as_dict() == {
        "key_id": ids[0],
        "sans": [],
        "eku": [],
        "issuer_chain": [
            {"subject": "CN=intermediate", "key_id": ids[1]},
            {"subject": "CN=root,O=Example\\, Inc", "key_id": ids[2]},
        ],
        "not_before": "2024-02-29T23:59:58Z",
        "not_after": "2034-12-31T01:02:03Z",
    }


def test_leaf_alone_has_no_issuers(authority: Authority) -> None:
    assert _read(_pem(authority.issue("leaf", "root"))).issuer_chain == ()


@pytest.mark.parametrize("order", [(1, 0, 2), (0, 2, 1), (0, 2), (0, 0), (2, 1, 0), (0, 1, 1)])
def test_chain_in_another_order_is_refused(order: tuple[int, ...], authority: Authority) -> None:
    chain = (
        authority.issue("leaf", "intermediate"),
        authority.issue("intermediate", "root", key=authority.keys[1]),
        authority.issue("root", "root", key=authority.keys[2]),
    )
    error = _refused(_pem(*(chain[index] for index in order)))
    assert "did not issue the certificate before it" in error.cause
    assert error.attempt == "read the certificate"


def test_certificate_that_is_none_of_the_chain_is_named(authority: Authority) -> None:
    error = _refused(_pem(authority.issue("leaf", "root"), authority.issue("stranger", "root")))
    assert error.cause == "'CN=stranger' did not issue the certificate before it"


def test_alternative_names_are_listed_in_order(authority: Authority) -> None:
    names = x509.SubjectAlternativeName([
        x509.UniformResourceIdentifier("https://example.com/ci"),
        x509.DNSName("*.example.com"),
        x509.RFC822Name("dev@example.com"),
        x509.IPAddress(ipaddress.ip_address("192.0.2.1")),
        x509.IPAddress(ipaddress.ip_address("2001:db8::1")),
        x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.7"), b"\x0c\x03foo"),
        x509.DirectoryName(_name("x")),
        x509.DNSName("b.example.com"),
    ])
    facts = _read(_pem(authority.issue("leaf", "root", names)))
    expected = [
        ("uri", "https://example.com/ci"),
        ("dns", "*.example.com"),
        ("email", "dev@example.com"),
        ("ip", "192.0.2.1"),
        ("ip", "2001:db8::1"),
        ("other", "1.3.6.1.4.1.57264.1.7:0c03666f6f"),
        ("other", "DirectoryName"),
        ("dns", "b.example.com"),
    ]
    assert [(san.type, san.value) for san in facts.sans] == expected
    assert facts.as_dict()["sans"] == [{"type": kind, "value": value} for kind, value in expected]


USAGES = {
    "1.3.6.1.5.5.7.3.1": "serverAuth",
    "1.3.6.1.5.5.7.3.2": "clientAuth",
    "1.3.6.1.5.5.7.3.3": "codeSigning",
    "1.3.6.1.5.5.7.3.4": "emailProtection",
    "1.3.6.1.5.5.7.3.8": "timeStamping",
    "1.3.6.1.5.5.7.3.9": "OCSPSigning",
    "2.5.29.37.0": "anyExtendedKeyUsage",
    "1.3.6.1.5.5.7.3.17": "1.3.6.1.5.5.7.3.17",
}


def test_usages_are_named_and_unknown_ones_shown_as_numbers(authority: Authority) -> None:
    usages = x509.ExtendedKeyUsage([x509.ObjectIdentifier(oid) for oid in USAGES])
    facts = _read(_pem(authority.issue("leaf", "root", usages)))
    assert facts.eku == tuple(USAGES.values())
    assert facts.as_dict()["eku"] == list(USAGES.values())


@pytest.mark.parametrize(
    ("usages", "tls_only"),
    [
        ((), False),
        ((ExtendedKeyUsageOID.SERVER_AUTH,), True),
        ((ExtendedKeyUsageOID.CLIENT_AUTH,), True),
        ((ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH), True),
        ((ExtendedKeyUsageOID.CODE_SIGNING,), False),
        ((ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CODE_SIGNING), False),
        ((ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE), False),
    ],
)
def test_leaf_of_an_acme_authority_is_for_tls_only(
    usages: tuple[t.Any, ...], tls_only: bool, authority: Authority
) -> None:
    extensions = (x509.ExtendedKeyUsage(usages),) if usages else ()
    assert _read(_pem(authority.issue("leaf", "root", *extensions))).is_tls_only is tls_only


def test_extensions_of_issuers_are_not_those_of_the_leaf(authority: Authority) -> None:
    root = authority.issue(
        "root", "root", x509.SubjectAlternativeName([x509.DNSName("a")]),
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]),
    )
    facts = _read(_pem(authority.issue("leaf", "root"), root))
    assert (facts.sans, facts.eku) == ((), ())


def test_times_are_read_without_what_cryptography_deprecates(authority: Authority) -> None:
    data = _pem(authority.issue("leaf", "root"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert _read(data).not_before == "2024-02-29T23:59:58Z"


def test_times_of_cryptography_before_42_are_read_as_utc() -> None:
    # Debian 12 has 38, without the aware attributes; the certificate of the library at hand always has them.
    old: t.Any = types.SimpleNamespace(not_valid_before=START)
    assert certificate._rfc3339(old, "not_valid_before") == "2024-02-29T23:59:58Z"


def test_facts_cannot_be_changed(authority: Authority) -> None:
    facts = _read(_pem(authority.issue("leaf", "root"), authority.issue("root", "root")))
    for what in (facts, facts.issuer_chain[0], certificate.AlternativeName("dns", "a")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            what.key_id = "0"  # type: ignore


def test_key_of_another_algorithm_still_has_an_id(authority: Authority) -> None:
    key = ec.generate_private_key(ec.SECP224R1())
    assert _read(_pem(authority.issue("leaf", "root", key=key))).key_id == fingerprint.key_id(key.public_key())


def test_certificate_belongs_to_its_key_only(authority: Authority, private_pem: Write) -> None:
    facts = _read(_pem(authority.issue("leaf", "root"), authority.issue("root", "root", key=authority.keys[1])))
    answers = [
        certificate.belongs_together(facts, private_key.read_private_key(private_pem(key), passphrase=None, where="x"))
        for key in authority.keys
    ]
    assert answers == [True, False, False]


def test_other_than_certificates_is_refused(
    authority: Authority, private_pem: Write, public_pem: Write, assert_hides: t.Callable[..., None]
) -> None:
    good, secret = _pem(authority.issue("leaf", "root")), private_pem(authority.keys[0])
    for data in (secret, good + secret, secret + good, good + public_pem(authority.keys[0])):
        error = _refused(data)
        assert error.cause == "it holds something else than certificates"
        assert_hides(error, secret)


@pytest.mark.parametrize("label", ["X509 CERTIFICATE", "TRUSTED CERTIFICATE", "CERTIFICATE REQUEST", "PKCS7"])
def test_other_labels_are_refused(label: str, authority: Authority) -> None:
    data = _pem(authority.issue("leaf", "root")).replace(b"CERTIFICATE", label.encode())
    assert _refused(data).cause == "it holds something else than certificates"


@pytest.mark.parametrize("data", [b"", b"\x30\x03\x02\x01\x01", b"no PEM"])
def test_file_without_pem_is_refused(data: bytes) -> None:
    assert _refused(data).cause == "it holds no PEM block"


@pytest.mark.parametrize("data", [b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_error_about_a_certificate_file_speaks_of_certificates(data: bytes) -> None:
    error = _refused(data)
    assert error.attempt == "read the certificate"
    assert "pkey" not in error.advice


@pytest.mark.parametrize("data", [b"", b"\x30\x00", b"rubbish"])
def test_rubbish_is_refused(data: bytes, authority: Authority, pem_block: Write) -> None:
    good = _pem(authority.issue("leaf", "root"))
    for text in (pem_block("CERTIFICATE", data), good + pem_block("CERTIFICATE", data)):
        assert _refused(text).cause.startswith("a certificate cannot be parsed (")


def test_certificate_of_an_unknown_curve_is_refused(
    authority: Authority, golden: t.Callable[[str], bytes], pem_block: Write
) -> None:
    # The key of the leaf becomes one on SM2: the same length, another curve.
    der = authority.issue("leaf", "root").public_bytes(serialization.Encoding.DER)
    p256_curve = bytes.fromhex("06082a8648ce3d030107")
    unknown_curve = bytes.fromhex("06082a8648ce3d030104")  # prime239v1
    assert p256_curve in der
    error = _refused(pem_block("CERTIFICATE", der.replace(p256_curve, unknown_curve)))
    # The second one is what cryptography 38 says.
    assert error.cause in (
        "a certificate cannot be parsed (UnsupportedAlgorithm)", "a certificate cannot be parsed (ValueError)"
    )


SAN = ExtensionOID.SUBJECT_ALTERNATIVE_NAME


@pytest.mark.parametrize("value", [b"\x30\x05\x87\x03\x01\x02\x03", b"\x30\x05", b"rubbish"])
def test_malformed_extension_is_refused(value: bytes, authority: Authority) -> None:
    data = _pem(authority.issue("leaf", "root", x509.UnrecognizedExtension(SAN, value)))
    assert "a certificate cannot be parsed" in _refused(data).cause


# The next three end in a traceback: the classes of cryptography.x509 for these are no ValueErrors.


def test_extension_that_occurs_twice_is_refused(authority: Authority, pem_block: Write) -> None:
    names = x509.SubjectAlternativeName([x509.DNSName("a")]), x509.IssuerAlternativeName([x509.DNSName("b")])
    der = authority.issue("leaf", "root", *names).public_bytes(serialization.Encoding.DER)
    _refused(pem_block("CERTIFICATE", der.replace(b"\x06\x03\x55\x1d\x12", b"\x06\x03\x55\x1d\x11")))


@pytest.mark.parametrize("value", [b"\x30\x02\xa3\x00", b"\x30\x06\xa5\x04\xa1\x02\x0c\x00"])
def test_alternative_name_of_an_unknown_kind_is_refused(value: bytes, authority: Authority) -> None:
    _refused(_pem(authority.issue("leaf", "root", x509.UnrecognizedExtension(SAN, value))))


def test_certificate_of_an_unknown_version_is_refused(authority: Authority, pem_block: Write) -> None:
    der = authority.issue("leaf", "root").public_bytes(serialization.Encoding.DER)
    _refused(pem_block("CERTIFICATE", der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x05")))
