# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Paths of certificates: which are found, what is said of those that are not, and that the search ends.

What openssl and cosign make of the same table is asked in tests/interop/test_interop_certificates.py.
"""

from __future__ import annotations

import base64
import datetime
import itertools
import random
import types
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import (
    HallmarkError,
    KeyFileError,
    VerificationError,
)
from ansible_collections.hallmark.signing.plugins.module_utils._signing import certificate_path
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._signing import certificate_bench as bench
from cryptography import x509
from cryptography.exceptions import InternalError, InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import x25519

SECOND = datetime.timedelta(seconds=1)


def der(certificate: bench.Cert) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def read(*certificates: bench.Cert) -> tuple[bench.Cert, ...]:
    return tuple(certificate_path.read_leaf_der(der(one), where="test") for one in certificates)


def find(case: bench.Case, **options: t.Any) -> certificate_path.Path:
    """Find the path of a case, all of which is read as if it came from somewhere."""
    return certificate_path.find_path(read(case.leaf)[0], **{
        "intermediates": read(*case.intermediates), "roots": read(*case.roots), "at": bench.NOW, "eku": case.eku,
        "where": "image", **options,
    })


def refused(case: bench.Case, **options: t.Any) -> VerificationError:
    with pytest.raises(VerificationError) as caught:
        find(case, **options)
    assert caught.value.object == "image"
    return caught.value


# --- the table -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in bench.cases()])
def test_table(case: bench.Case) -> None:
    if case.code is not None:
        assert refused(case).code == case.code
        return
    path = find(case)
    assert path[0] == case.leaf
    assert path[-1] in case.roots
    assert set(path[1:-1]) <= set(case.intermediates)
    for lower, upper in zip(path, path[1:]):
        lower.verify_directly_issued_by(upper)


def test_table_has_every_kind() -> None:
    codes = [case.code for case in bench.cases()]
    assert len(codes) > 150
    assert set(codes) == {None, bench.UNTRUSTED, bench.EXPIRED, bench.USAGE}


def test_the_shortest_path_is_taken() -> None:
    case = bench.chain("x", intermediates=(
        bench.authority("sub", "two"), bench.authority("two", "root"), bench.authority("sub", "root"),
    ))
    assert find(case) == (case.leaf, case.intermediates[2], case.roots[0])


# --- what is said ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("id", "words"), [
    ("another-root", ["none of the trusted roots issued", "'CN=leaf,O=Example'"]),
    ("leaf-that-is-the-root", ["itself one of the roots"]),
    ("leaf-used-as-authority", ["'CN=sub,O=Example'", "not that of an authority"]),
    ("length-of-the-root-exceeded", ["'CN=root,O=Example' allows 0", "not 1"]),
    ("intermediate-may-not-sign", ["'CN=sub,O=Example'", "lacks keyCertSign"]),
    ("critical-extension-of-the-leaf", ["'CN=leaf,O=Example'", "1.2.3.4"]),
    ("leaf-signed-with-sha1", ["'CN=leaf,O=Example'", "sha1"]),
    ("intermediate-with-ed448", ["'CN=leaf,O=Example'", "an algorithm that is not used"]),
    ("leaf-with-rsa1024", ["'CN=leaf,O=Example'", "1024 bits"]),
    ("root-with-k256", ["'CN=root,O=Example'", "secp256k1"]),
    ("leaf-with-dsa", ["'CN=leaf,O=Example'", "of a kind that is not used"]),
    ("key-restricted-to-pss", ["'CN=sub,O=Example'", "restricted"]),
    ("nul-in-a-name", ["control characters"]),
    ("code-other-usage-of-the-leaf", ["'CN=leaf,O=Example' is for clientAuth, not for codeSigning"]),
    ("names-dns-other-not-permitted", ["'CN=sub,O=Example'", "do not allow 'ci.example.org'"]),
    ("names-uri-without-host-under-an-exclusion", ["cannot be applied to", "'urn:example:job'"]),
    ("names-of-an-unknown-type", ["cannot be applied to", "RegisteredID"]),
    ("names-with-a-minimum", ["bounds"]),
    ("names-too-many", ["too many"]),
])
def test_cause_names_the_certificate_and_the_rule(id: str, words: list[str]) -> None:
    (case,) = (case for case in bench.cases() if case.id == id)
    cause = refused(case).cause
    assert [word for word in words if word not in cause] == []


def test_expiry_names_the_certificate_and_its_dates() -> None:
    start, end = bench.NOW - 3 * bench.DAY, bench.NOW - bench.DAY
    error = refused(bench.chain("x", sub=bench.authority("sub", "root", start=start, end=end)))
    assert error.cause == (
        f"at {bench.NOW.isoformat()}, certificate 'CN=sub,O=Example' is expired: "
        f"it is valid from {start.isoformat()} to {end.isoformat()}"
    )
    error = refused(bench.chain("x", leaf=bench.leaf(start=bench.NOW + bench.DAY)))
    assert "'CN=leaf,O=Example' is not yet valid: it is valid from " in error.cause


def test_names_of_subjects_are_quoted_and_cut() -> None:
    subject = bench.Subject("sub", name=bench.name(CN="\x1b[31m", O="x" * 64, OU="y" * 64, E="z" * 120))
    case = bench.chain("x", leaf=bench.leaf(subject), sub=bench.authority(subject, "root", ca=False))
    cause = refused(case).cause
    assert "\x1b" not in cause
    assert len(cause) < 300


def test_certificate_without_subject_is_named_by_its_number() -> None:
    leaf = bench.leaf(subject=bench.Subject("leaf", name=bench.name()), eku=["serverAuth"])
    cause = refused(bench.chain("x", leaf=leaf)).cause
    assert f"the certificate of number {leaf.serial_number:x} is for serverAuth" in cause


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_reason_is_that_of_the_path_that_got_furthest(order: tuple[int, ...]) -> None:
    subs = (
        bench.authority("sub", "root", ca=False), bench.authority("sub", "root", **bench.PAST),
        bench.authority("sub", "root", eku=["serverAuth"]),
    )
    case = bench.chain("x", intermediates=tuple(subs[index] for index in order))
    assert refused(case).code == bench.USAGE
    case = bench.chain("x", intermediates=tuple(subs[index] for index in order if index != 2))
    assert refused(case).code == bench.EXPIRED


# --- time ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["leaf", "sub", "root"])
def test_both_ends_of_the_validity_belong_to_it(level: str) -> None:
    span: dict[str, t.Any] = {"start": bench.NOW - bench.DAY, "end": bench.NOW + bench.DAY}
    long: dict[str, t.Any] = {"start": bench.NOW - 3 * bench.DAY, "end": bench.NOW + 3 * bench.DAY}
    own = {name: span if name == level else long for name in ("leaf", "sub", "root")}
    case = bench.chain(
        "x", leaf=bench.leaf(**own["leaf"]), sub=bench.authority("sub", "root", **own["sub"]),
        root=bench.authority("root", **own["root"]),
    )
    for moment in (span["start"], bench.NOW, span["end"]):
        assert len(find(case, at=moment)) == 3
    # Other zones name the same moments.
    assert len(find(case, at=span["end"].astimezone(datetime.timezone(datetime.timedelta(hours=5))))) == 3
    for moment in (span["start"] - SECOND, span["end"] + SECOND, span["end"] + SECOND / 2):
        assert refused(case, at=moment).code == bench.EXPIRED


# --- usages ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("eku", "oid"), [
    ("codeSigning", "1.3.6.1.5.5.7.3.3"), ("timeStamping", "1.3.6.1.5.5.7.3.8"), ("1.3.6.1.5.5.7.3.3",) * 2,
    ("1.2", "1.2"), ("2.999.0", "2.999.0"), ("anyExtendedKeyUsage", "2.5.29.37.0"),
])
def test_usages_by_name_and_number(eku: str, oid: str) -> None:
    assert certificate_path.usage_oid(eku, where="eku") == oid


@pytest.mark.parametrize("eku", ["", "codesigning", "1", "1.", ".1", "1..2", "3.1", "1.02", "1.2 ", "1.2\n", "x" * 999])
def test_what_is_no_usage(eku: str) -> None:
    with pytest.raises(VerificationError) as caught:
        certificate_path.usage_oid(eku, where="eku")
    assert (caught.value.code, caught.value.object) == ("input_invalid", "eku")
    assert len(str(caught.value)) < 500
    assert refused(bench.cases()[0], eku=eku).code == "input_invalid"


@pytest.mark.parametrize("eku", ["serverAuth", "1.2.3.4", "2.5.29.37"])
def test_the_usage_asked_for_is_the_one_that_counts(eku: str) -> None:
    assert refused(bench.cases()[0], eku=eku).code == bench.USAGE


def test_many_usages_are_not_all_told() -> None:
    case = bench.chain("x", leaf=bench.leaf(eku=[f"1.2.3.{number}" for number in range(1000)]))
    assert len(refused(case).cause) < 300


# --- a search that ends ----------------------------------------------------------------------------------------------


def web(size: int) -> tuple[bench.Cert, ...]:
    """Authorities, every one of which is certified by every other."""
    names = ["sub", *(f"web-{number}" for number in range(1, size))]
    return tuple(bench.authority(lower, upper) for lower in names for upper in names if lower != upper)


Pair = tuple[bench.Cert, bench.Cert]


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[Pair]:
    """The signatures that are checked: by whom, and on what."""
    pairs: list[Pair] = []
    has_signed = certificate_path._has_signed

    def noting(upper: bench.Cert, lower: bench.Cert) -> bool:
        pairs.append((upper, lower))
        return has_signed(upper, lower)

    monkeypatch.setattr(certificate_path, "_has_signed", noting)
    return pairs


def test_search_in_a_web_ends(checked: list[Pair]) -> None:
    error = refused(bench.chain("x", intermediates=web(6)))
    assert (error.code, len(checked)) == (bench.UNTRUSTED, 100)
    assert "100 signatures" in error.cause


def test_circles_are_left_where_they_close(checked: list[Pair]) -> None:
    circle = (bench.authority("sub", "two"), bench.authority("two", "sub"))
    assert refused(bench.chain("x", intermediates=circle)).code == bench.UNTRUSTED
    assert len(checked) == len(set(checked)) == 2


@pytest.mark.parametrize("error", [
    ValueError(), TypeError(), InvalidSignature(), UnsupportedAlgorithm(""), InternalError("", []),
], ids=lambda error: type(error).__name__)
def test_signatures_that_the_library_cannot_check_are_none(error: Exception) -> None:
    def fail(_upper: object) -> t.NoReturn:
        raise error

    lower: t.Any = types.SimpleNamespace(verify_directly_issued_by=fail)
    assert not certificate_path._has_signed(lower, lower)


def test_keys_that_cannot_sign_are_passed_over() -> None:
    spki = x25519.X25519PrivateKey.generate().public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    sub = bench.authority("sub", "root")
    odd = bench.with_key(sub, "root", spki)
    assert len(find(bench.chain("x", intermediates=(odd, sub)))) == 3
    assert refused(bench.chain("x", intermediates=(odd,))).code == bench.UNTRUSTED


def test_path_out_of_a_web_is_found() -> None:
    intermediates = (*web(6), bench.authority("web-1", "root"))
    assert len(find(bench.chain("x", intermediates=intermediates))) == 4


def test_junk_under_the_right_name_does_not_hide_a_path() -> None:
    junk = tuple(bench.authority(bench.Subject("sub", key_of=f"junk-{number}"), "root") for number in range(40))
    assert len(find(bench.chain("x", intermediates=(*junk, bench.authority("sub", "root"))))) == 3


def test_certificates_of_other_names_are_not_counted() -> None:
    strangers = tuple(bench.authority(bench.Subject(f"stranger-{number}", key_of="stranger")) for number in range(150))
    assert len(find(bench.chain("x", intermediates=(*strangers, bench.authority("sub", "root"))))) == 3


def test_doubles_are_checked_once(checked: list[Pair]) -> None:
    broken = bench.broken(bench.authority("sub", "root"))
    assert "none of the trusted roots" in refused(bench.chain("x", intermediates=(broken,) * 200)).cause
    assert len(checked) == 2


# --- certificates that no library writes -----------------------------------------------------------------------------


@pytest.mark.parametrize("exponent", [1, 4])
def test_rsa_keys_for_which_anybody_can_sign(exponent: int) -> None:
    subject = bench.Subject("leaf", "rsa2048")
    spki = bench.rsa_spki(subject.key.public_key(), exponent=exponent)
    leaf = bench.with_key(bench.leaf(subject=subject), "sub", spki)
    # Newer libraries do not read them.
    with pytest.raises(HallmarkError) as caught:
        find(bench.chain("x", leaf=leaf))
    assert caught.value.code in ("malformed", bench.UNTRUSTED)


def test_rsa_keys_of_the_smallest_exponent() -> None:
    subject = bench.Subject("leaf", "rsa2048")
    leaf = bench.with_key(bench.leaf(subject=subject), "sub", bench.rsa_spki(subject.key.public_key(), exponent=3))
    assert len(find(bench.chain("x", leaf=leaf))) == 3


def test_compressed_points_are_refused() -> None:
    key = bench.key("leaf").public_key()
    point = key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)
    algorithm = bytes.fromhex("301306072a8648ce3d020106082a8648ce3d030107")
    leaf = bench.with_key(bench.leaf(), "sub", bench.der(0x30, algorithm, bench.der(0x03, b"\0", point)))
    assert "oddly encoded" in refused(bench.chain("x", leaf=leaf)).cause


def test_bits_in_a_subject_are_compared_as_well() -> None:
    bits = x509.NameAttribute(x509.NameOID.X500_UNIQUE_IDENTIFIER, b"\0\1", x509.name._ASN1Type.BitString)
    base = x509.DirectoryName(x509.Name([bits]))
    subject = bench.Subject("leaf", name=x509.Name([bits, *bench.name(CN="leaf")]))
    case = bench.constrained("x", [bench.JOB], excluded=[base], subject=subject)
    assert "do not allow" in refused(case).cause
    assert len(find(bench.constrained("x", [bench.JOB], excluded=[base]))) == 3


@pytest.mark.parametrize("spelt", ["EXAMPLE", " Example", "\uff25xample", "Exam\u0070le"])
def test_spellings_of_a_subject_are_excluded_alike(spelt: str) -> None:
    case = bench.constrained("x", [bench.JOB], excluded=[bench.directory(O=spelt)])
    assert "do not allow" in refused(case).cause


@pytest.mark.parametrize("kind", ["permitted", "excluded"])
def test_networks_in_place_of_an_address_cannot_be_judged(kind: str) -> None:
    # An iPAddress [7] of eight bytes: 192.0.2.0/24.
    names = ("2.5.29.17", bytes.fromhex("300a8708c0000200ffffff00"), False)
    base: dict[str, t.Any] = {kind: [bench.network("192.0.2.0/24")]}
    case = bench.chain("x", leaf=bench.leaf(sans=[], extensions=[names]), sub=bench.authority("sub", "root", **base))
    assert "cannot be applied" in refused(case).cause


def test_parts_of_a_name_with_several_attributes_are_sets() -> None:
    def part(*values: str) -> x509.RelativeDistinguishedName:
        oids = (x509.NameOID.ORGANIZATION_NAME, x509.NameOID.ORGANIZATIONAL_UNIT_NAME)
        return x509.RelativeDistinguishedName([
            x509.NameAttribute(oid, value) for oid, value in zip(oids, values)
        ])

    subject = bench.Subject("leaf", name=x509.Name([part("a", "b")]))
    for values, allowed in ((("a", "b"), True), (("A", "B"), True), (("a",), False), (("a", "c"), False)):
        base = x509.DirectoryName(x509.Name([part(*values)]))
        case = bench.constrained("x", [bench.JOB], [base], subject=subject)
        if allowed:
            assert len(find(case)) == 3
        else:
            assert refused(case).code == bench.UNTRUSTED


def test_spoilt_certificates_are_never_trusted() -> None:
    """Change, drop and add bytes: what comes of it is one of our errors, or a certificate that is not trusted."""
    chance = random.Random(5280)
    case = bench.cases()[0]
    data = der(case.leaf)
    for _time in range(1500):
        spoilt = bytearray(data)
        for _change in range(chance.randint(1, 3)):
            place = chance.randrange(len(spoilt))
            spoilt[place:place + chance.randint(0, 1)] = bytes([chance.randrange(256)] * chance.randint(0, 2))
        if bytes(spoilt) != data:
            with pytest.raises(HallmarkError):
                certificate_path.find_path(
                    certificate_path.read_leaf_der(bytes(spoilt), where="test"), intermediates=case.intermediates,
                    roots=case.roots, at=bench.NOW, where="image",
                )


# --- files -----------------------------------------------------------------------------------------------------------


def test_reads_pem() -> None:
    certificates = tuple(bench.authority("sub", "root") for _number in range(16))
    assert certificate_path.read_certificates(bench.pem(*certificates), where="ca.pem") == certificates
    one = bench.pem(certificates[0])
    for data in (b"subject=CN=sub\n" + one + b"\n", one.replace(b"\n", b"\r\n"), one.rstrip(b"\n")):
        assert certificate_path.read_certificates(data, where="ca.pem") == certificates[:1]


KEY = bench.key("leaf").private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)
USUAL = bench.leaf()


def _as_pem(data: bytes) -> bytes:
    return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(data) + b"-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(("data", "cause"), [
    pytest.param(b"", "no PEM block", id="empty"),
    pytest.param(der(USUAL), "no PEM block", id="DER"),
    pytest.param(bench.pem(USUAL)[:-30], "no matching end", id="cut off"),
    pytest.param(bench.pem(USUAL) + b"-----BEGIN CERTIFICATE-----\n", "no matching end", id="one more begun"),
    pytest.param(bench.pem(USUAL) + KEY, "something else", id="a key behind"),
    pytest.param(bench.pem(USUAL).replace(b"CERTIFICATE", b"TRUSTED CERTIFICATE"), "something else", id="trusted"),
    pytest.param(bench.pem(USUAL) * 17, "there are 17 certificates, more than 16", id="too many"),
    pytest.param(_as_pem(b"none"), "cannot be parsed", id="no certificate"),
    pytest.param(_as_pem(der(USUAL) + b"\0"), "cannot be parsed", id="bytes behind in a block"),
    pytest.param(_as_pem(b"\0" * 65537), "larger than", id="too large"),
    pytest.param(b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", "cannot be parsed", id="no base64"),
])
def test_what_is_no_file_of_certificates(data: bytes, cause: str) -> None:
    with pytest.raises(KeyFileError) as caught:
        certificate_path.read_certificates(data, where="ca.pem")
    assert (caught.value.code, caught.value.object) == ("malformed", "ca.pem")
    assert cause in caught.value.cause


def _extended(oid: str, value: str) -> bench.Cert:
    return bench.leaf(sans=[], extensions=[(oid, bytes.fromhex(value), False)])


def _twice(parts: list[bytes]) -> list[bytes]:
    (extensions,) = bench.inside(parts[-1])
    return [*parts[:-1], bench.der(0xA3, bench.der(0x30, *bench.inside(extensions) * 2))]


def _spelt(place: int, old: bytes, new: bytes) -> bytes:
    return der(bench.rewritten(
        USUAL, "sub", lambda parts: [*parts[:place], parts[place].replace(old, new), *parts[place + 1:]]
    ))


@pytest.mark.parametrize("data", [
    pytest.param(b"", id="empty"),
    pytest.param(bench.pem(USUAL), id="PEM"),
    pytest.param(der(USUAL) + b"\0", id="a byte behind"),
    pytest.param(der(USUAL) * 2, id="two"),
    pytest.param(der(USUAL)[:-1], id="a byte short"),
    pytest.param(b"\x30\x84\xff\xff\xff\xff", id="a huge length"),
    pytest.param(der(_extended("2.5.29.17", "3003820180")), id="a name that is not ASCII"),
    pytest.param(der(_extended("2.5.29.17", "0500")), id="names of another type"),
    pytest.param(der(_extended("2.5.29.19", "3003020100")), id="basic constraints that are none"),
    pytest.param(der(_extended("2.5.29.30", "3000")), id="name constraints without any"),
    pytest.param(der(_extended("2.5.29.30", "300aa0083006870401020304")), id="constraints on one address"),
    pytest.param(der(_extended("2.5.29.30", "300ea00c300a8708c0a80000ff00ff00")), id="constraints with a gap"),
    pytest.param(der(bench.rewritten(USUAL, "sub", _twice)), id="extensions twice"),
    pytest.param(_spelt(5, b"leaf", b"le\xff\xfe"), id="a subject that is not UTF-8"),
    pytest.param(_spelt(3, b"sub", b"s\xff\xfe"), id="an issuer that is not UTF-8"),
    pytest.param(
        der(bench.with_key(USUAL, "sub", bytes.fromhex("3009300406022a03030100"))), id="a key of no known kind"
    ),
    pytest.param(der(bench.rewritten(
        USUAL, "sub", bench.as_is, algorithm=(bytes.fromhex("2a8648ce3d040302"), bytes.fromhex("2a8648ce3d04037f")),
    )), id="a signature of no known kind"),
])
def test_what_is_no_certificate(data: bytes) -> None:
    with pytest.raises(KeyFileError) as caught:
        certificate_path.read_leaf_der(data, where="bundle")
    assert (caught.value.code, caught.value.object) == ("malformed", "bundle")


def test_reads_der() -> None:
    assert certificate_path.read_leaf_der(der(USUAL), where="bundle") == USUAL


def test_certificates_of_the_largest_size() -> None:
    # Signatures of this kind are all of one size.
    signer = bench.Subject("sub", "ed25519")

    def filled(size: int) -> bench.Cert:
        return bench.leaf(signer, extensions=[("1.2.3.4", bench.der(0x04, b"\0" * size), False)])

    room = 60000 + 65536 - len(der(filled(60000)))
    largest = filled(room)
    assert len(der(largest)) == 65536
    assert certificate_path.read_leaf_der(der(largest), where="bundle") == largest
    with pytest.raises(KeyFileError) as caught:
        certificate_path.read_leaf_der(der(filled(room + 1)), where="bundle")
    assert "larger than 65536 bytes" in caught.value.cause


@pytest.mark.parametrize(("names", "allowed"), [(248, True), (249, False)])
def test_name_constraints_that_can_just_be_applied(names: int, allowed: bool) -> None:
    # Besides, there are a URI and the subject.
    hosts = [bench.dns(f"a{number}.example.com") for number in range(names)]
    bases = [bench.dns(f"b{number}.example.com") for number in range(99)]
    others = [bench.dns(f"c{number}.example.com") for number in range(100)]
    case = bench.constrained("x", hosts, [*bases, bench.dns("example.com")], others)
    if allowed:
        assert len(find(case)) == 3
    else:
        assert "too many" in refused(case).cause
