# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of RFC 3161 timestamps: answers of real authorities, and of openssl with one thing wrong at a time."""

from __future__ import annotations

import base64
import datetime
import hashlib
import itertools
import json
import pathlib
import shutil
import subprocess
import time
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import (
    FormatError,
    HallmarkError,
    KeyFileError,
    VerificationError,
)
from ansible_collections.hallmark.signing.plugins.module_utils._transparency import timestamp
from ansible_collections.hallmark.signing.plugins.module_utils._transparency.timestamp import TimestampAuthority
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

rfc3161_client = pytest.importorskip("rfc3161_client", reason="rfc3161-client is not installed")

DATA = pathlib.Path(__file__).parents[3] / "data" / "timestamps"
VECTORS = json.loads((DATA / "vectors.json").read_text(encoding="utf-8"))
SIGNATURE = b"any bytes will do"
UTC = datetime.timezone.utc
NOW = datetime.datetime.now(UTC).replace(microsecond=0)
DAY = datetime.timedelta(days=1)
STAMPING = (ExtendedKeyUsageOID.TIME_STAMPING,)
OIDS = {
    "tst_info": "1.2.840.113549.1.9.16.1.4", "data": "1.2.840.113549.1.7.1", "sha1": "1.3.14.3.2.26",
    "sha256": "2.16.840.1.101.3.4.2.1", "sha384": "2.16.840.1.101.3.4.2.2", "sha512": "2.16.840.1.101.3.4.2.3",
    "sha224": "2.16.840.1.101.3.4.2.4", "sha3-256": "2.16.840.1.101.3.4.2.8",
}
# Which OpenSSL is in the library decides how the sentence ends.
TOO_EARLY = "certificate is not yet valid"
CONFIG = """
[tsa]
default_tsa = one
[one]
serial = {folder}/serial
signer_cert = {folder}/signer.pem
signer_key = {folder}/signer.key
certs = {folder}/issuers.pem
signer_digest = sha256
ess_cert_id_alg = {essential}
default_policy = 1.2.3.4
digests = sha1, sha256, sha384, sha512
"""


# DER, as little as these tests need ----------------------------------------------------------------------------------


def der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = len(content)
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag]) + (bytes([size]) if size < 128 else bytes([0x80 | len(length)]) + length) + content


def oid(dotted: str) -> bytes:
    first, second, *arcs = (int(arc) for arc in dotted.split("."))
    content = bytes([first * 40 + second])
    for arc in arcs:
        groups = [arc >> shift & 127 for shift in range(28, -1, -7)]
        while len(groups) > 1 and not groups[0]:
            del groups[0]
        content += bytes([group | 128 for group in groups[:-1]] + groups[-1:])
    return der(0x06, content)


def integer(number: int) -> bytes:
    return der(0x02, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def tst_info(
    *, signature: bytes = SIGNATURE, moment: datetime.datetime = NOW, algorithm: str = "sha256", version: int = 1,
    policy: bytes = b"", tail: bytes = b"",
) -> bytes:
    imprint = hashlib.new(algorithm.replace("-", "_"), signature).digest()
    return der(
        0x30, integer(version), policy or oid("1.2.3.4"),
        der(0x30, der(0x30, oid(OIDS[algorithm]), der(0x05)), der(0x04, imprint)),
        integer(7), der(0x18, moment.strftime("%Y%m%d%H%M%SZ").encode()), tail,
    )


def answer(token: bytes, *, status: int) -> bytes:
    return der(0x30, der(0x30, integer(status)), token)


# An authority --------------------------------------------------------------------------------------------------------


class Pair(t.NamedTuple):
    """A certificate and its key."""

    certificate: x509.Certificate
    key: t.Any


def issue(
    name: str, by: Pair | None = None, *, key: t.Any = None, is_ca: bool = False,
    usages: t.Sequence[x509.ObjectIdentifier] = STAMPING, critical: bool = True,
    begin: datetime.datetime = NOW - DAY, end: datetime.datetime = NOW + DAY, serial: int | None = None,
) -> Pair:
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key()).serial_number(serial or x509.random_serial_number())
        .not_valid_before(begin).not_valid_after(end)
        .add_extension(x509.BasicConstraints(is_ca, None), critical=True)
    )
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=critical)
    return Pair(builder.sign(by.key if by else key, hashes.SHA256()), key)


class Chain(t.NamedTuple):
    """The certificates of an authority, with their keys."""

    signer: Pair
    issuer: Pair
    root: Pair

    def authority(self, *, with_signer: bool = True) -> TimestampAuthority:
        certificates = tuple(pair.certificate for pair in self)
        return TimestampAuthority("the authority", certificates if with_signer else certificates[1:])

    def but(self, **changes: t.Any) -> Chain:
        """Return the same with another signer under the same issuer."""
        return self._replace(signer=issue("signer", self.issuer, **changes))


def make_chain(**of_signer: t.Any) -> Chain:
    root = issue("root", is_ca=True, usages=())
    issuer = issue("issuer", root, is_ca=True)
    return Chain(issue("signer", issuer, **of_signer), issuer, root)


@pytest.fixture(scope="module")
def chain() -> Chain:
    """An authority without fault."""
    return make_chain()


def pem_of(*certificates: x509.Certificate) -> bytes:
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates)


Run = t.Callable[..., bytes]
Sign = t.Callable[..., bytes]


@pytest.fixture(scope="module")
def openssl() -> Run:
    """Runs openssl and returns what it printed."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no program openssl")

    def run(*arguments: object) -> bytes:
        done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    return run


def write_pair(pair: Pair, folder: pathlib.Path) -> None:
    (folder / "signer.pem").write_bytes(pem_of(pair.certificate))
    (folder / "signer.key").write_bytes(pair.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ))


@pytest.fixture(scope="module")
def sign(openssl: Run, tmp_path_factory: pytest.TempPathFactory) -> Sign:
    """Lets "openssl cms" sign any TSTInfo, with any certificate, as a timestamp."""
    folder = tmp_path_factory.mktemp("cms")

    def call(
        content: bytes, signer: Pair, *options: object, brings: t.Sequence[x509.Certificate] = (),
        names_itself: bool = True, content_type: str = OIDS["tst_info"], digest: str = "sha256",
        status: int = 0,
    ) -> bytes:
        write_pair(signer, folder)
        (folder / "content").write_bytes(content)
        (folder / "more.pem").write_bytes(pem_of(*brings))
        more = ["-certfile", folder / "more.pem"] if brings else []
        return answer(openssl(
            "cms", "-sign", "-binary", "-nodetach", "-nosmimecap", "-outform", "DER", "-md", digest,
            "-econtent_type", content_type, "-in", folder / "content", "-signer", folder / "signer.pem",
            "-inkey", folder / "signer.key", *more, *(["-cades"] if names_itself else []), *options,
        ), status=status)

    return call


@pytest.fixture
def reply(openssl: Run, tmp_path: pathlib.Path) -> Run:
    """Lets "openssl ts" answer a request: reply(request, chain, essential="sha256")."""

    def call(query: bytes, chain: Chain, *, essential: str = "sha256", digests: str | None = None) -> bytes:
        config = CONFIG.format(folder=tmp_path, essential=essential)
        if digests:
            config = config.replace("sha1, sha256, sha384, sha512", digests)
        write_pair(chain.signer, tmp_path)
        for name, text in (
            ("openssl.cnf", config.encode()), ("serial", b"01\n"), ("query", query),
            ("issuers.pem", pem_of(chain.issuer.certificate, chain.root.certificate)),
        ):
            (tmp_path / name).write_bytes(text)
        openssl(
            "ts", "-reply", "-config", tmp_path / "openssl.cnf", "-queryfile", tmp_path / "query",
            "-out", tmp_path / "answer",
        )
        return (tmp_path / "answer").read_bytes()

    return call


def essential(certificate: x509.Certificate, *, algorithm: str | None = None, is_old: bool = False) -> bytes:
    """Return an ESSCertID, or an ESSCertIDv2 whose hash is left out if it is the default one."""
    name = "sha1" if is_old else algorithm or "sha256"
    digest = hashlib.new(name, certificate.public_bytes(serialization.Encoding.DER)).digest()
    return der(0x30, der(0x30, oid(OIDS[algorithm])) if algorithm else b"", der(0x04, digest))


def handmade(pair: Pair, *attributes: tuple[str, bytes]) -> bytes:
    """Return a response without certificates, with these signed attributes beside those that every one has."""
    content = tst_info()
    fixed = (
        ("1.2.840.113549.1.9.3", oid(OIDS["tst_info"])),
        ("1.2.840.113549.1.9.4", der(0x04, hashlib.sha256(content).digest())),
    )
    signed = b"".join(sorted(
        der(0x30, oid(kind), der(0x31, value)) for kind, value in (*fixed, *attributes)
    ))
    sha256 = der(0x30, oid(OIDS["sha256"]))
    signature = pair.key.sign(der(0x31, signed), ec.ECDSA(hashes.SHA256()))
    info = der(
        0x30, integer(1), der(0x30, pair.certificate.issuer.public_bytes(), integer(pair.certificate.serial_number)),
        sha256, der(0xA0, signed), der(0x30, oid("1.2.840.10045.4.3.2")), der(0x04, signature),
    )
    data = der(
        0x30, integer(3), der(0x31, sha256), der(0x30, oid(OIDS["tst_info"]), der(0xA0, der(0x04, content))),
        der(0x31, info),
    )
    return answer(der(0x30, oid("1.2.840.113549.1.7.2"), der(0xA0, data)), status=0)


OLD, NEW = "1.2.840.113549.1.9.16.2.12", "1.2.840.113549.1.9.16.2.47"


def verify(response: bytes, *authorities: TimestampAuthority, signature: bytes = SIGNATURE) -> datetime.datetime:
    return timestamp.verify(response, signature=signature, authorities=authorities, where="the signature")


def cause_of(response: bytes, *authorities: TimestampAuthority, signature: bytes = SIGNATURE) -> str:
    """Return why a response is refused; every refusal has the same code and object."""
    with pytest.raises(VerificationError) as caught:
        verify(response, *authorities, signature=signature)
    assert (caught.value.code, caught.value.object) == ("timestamp_invalid", "the signature")
    return caught.value.cause


def malformed(response: bytes, *authorities: TimestampAuthority) -> str:
    with pytest.raises(FormatError) as caught:
        verify(response, *authorities)
    assert (caught.value.code, caught.value.object) == ("malformed", "the signature")
    return caught.value.cause


# Real authorities ----------------------------------------------------------------------------------------------------


def vector_authority(name: str = "tsa-chain.pem") -> TimestampAuthority:
    return timestamp.read_authority((DATA / name).read_bytes(), where=name)


def decoded(vector: dict[str, str]) -> tuple[bytes, bytes]:
    return base64.b64decode(vector["response"]), base64.b64decode(vector["signature"])


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["origin"])
def test_timestamps_of_a_real_authority(vector: dict[str, str]) -> None:
    response, signature = decoded(vector)
    if vector["expected"] == "accept":
        found = verify(response, vector_authority("other-tsa-chain.pem"), vector_authority(), signature=signature)
        assert found.utcoffset() == datetime.timedelta(0)
        assert found.date() == datetime.date(2026, 11, 20)
    else:
        assert cause_of(response, vector_authority(), signature=signature)


@pytest.mark.parametrize(
    "vector", [vector for vector in VECTORS if vector["expected"] == "accept"], ids=lambda vector: vector["origin"]
)
def test_real_timestamps_count_for_their_signature_and_authority_only(vector: dict[str, str]) -> None:
    response, signature = decoded(vector)
    assert cause_of(response, vector_authority(), signature=signature + b"x") == "it is about another signature"
    assert cause_of(response, vector_authority("other-tsa-chain.pem"), signature=signature)
    assert cause_of(response, signature=signature) == "no timestamp authority is trusted"


@pytest.mark.parametrize("with_signer", [True, False])
@pytest.mark.parametrize("essential", ["sha1", "sha256", "sha384", "sha512"])
def test_openssl_answers_what_is_asked(essential: str, with_signer: bool, reply: Run, chain: Chain) -> None:
    response = reply(timestamp.request(SIGNATURE), chain, essential=essential)
    found = verify(response, chain.authority(with_signer=with_signer))
    assert datetime.timedelta(0) <= found - NOW < datetime.timedelta(minutes=30)
    assert found.tzinfo is not None


def test_request_is_that_of_rfc_3161() -> None:
    imprint = der(0x30, der(0x30, oid(OIDS["sha256"]), der(0x05)), der(0x04, hashlib.sha256(SIGNATURE).digest()))
    assert timestamp.request(SIGNATURE) == der(0x30, integer(1), imprint, der(0x01, b"\xff"))


def test_openssl_reads_the_request(openssl: Run, tmp_path: pathlib.Path) -> None:
    (tmp_path / "query").write_bytes(timestamp.request(SIGNATURE))
    text = openssl("ts", "-query", "-in", tmp_path / "query", "-text").decode()
    assert "Hash Algorithm: sha256" in text
    assert "Nonce: unspecified" in text
    assert "Certificate required: yes" in text


def test_openssl_refuses_a_hash_and_the_refusal_is_told(reply: Run, chain: Chain) -> None:
    response = reply(timestamp.request(SIGNATURE), chain, digests="sha512")
    assert cause_of(response, chain.authority()) == "the authority did not grant it (status 2)"


# What is taken -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_strong_imprints_are_taken(algorithm: str, sign: Sign, chain: Chain) -> None:
    assert verify(sign(tst_info(algorithm=algorithm), chain.signer), chain.authority()) == NOW


@pytest.mark.parametrize("digest", ["sha256", "sha384", "sha512"])
def test_strong_digests_are_taken(digest: str, sign: Sign, chain: Chain) -> None:
    assert verify(sign(tst_info(), chain.signer, digest=digest), chain.authority()) == NOW


def test_certificates_may_come_with_it_or_from_the_authority(sign: Sign, chain: Chain) -> None:
    root_only = TimestampAuthority("root", (chain.root.certificate,))
    brings = (chain.issuer.certificate, chain.root.certificate)
    assert verify(sign(tst_info(), chain.signer, brings=brings), root_only) == NOW
    assert verify(sign(tst_info(), chain.signer, "-nocerts"), chain.authority()) == NOW
    assert cause_of(sign(tst_info(), chain.signer), root_only).startswith("root: unable to get")
    assert cause_of(sign(tst_info(), chain.signer, "-nocerts"), chain.authority(with_signer=False)) == (
        "the authority: its signer names no certificate that is known"
    )


def test_rsa_signer_is_taken(sign: Sign, chain: Chain) -> None:
    other = chain.but(key=rsa.generate_private_key(65537, 2048))
    assert verify(sign(tst_info(), other.signer), other.authority()) == NOW


def test_signer_may_be_its_own_root(sign: Sign) -> None:
    alone = issue("alone")
    authority = timestamp.read_authority(pem_of(alone.certificate), where="alone.pem")
    assert (authority.name, authority.certificates) == ("alone.pem", (alone.certificate,))
    assert verify(sign(tst_info(), alone), authority) == NOW


def test_chain_need_not_be_valid_now(sign: Sign) -> None:
    past: dict[str, t.Any] = {"begin": NOW - 30 * DAY, "end": NOW - 10 * DAY}
    root = issue("root", is_ca=True, usages=(), **past)
    issuer = issue("issuer", root, is_ca=True, **past)
    old = Chain(issue("signer", issuer, **past), issuer, root)
    assert verify(sign(tst_info(moment=NOW - 20 * DAY), old.signer), old.authority()) == NOW - 20 * DAY
    assert cause_of(sign(tst_info(), old.signer), old.authority()).endswith("certificate has expired")


def test_certificates_come_in_any_order(sign: Sign, chain: Chain) -> None:
    issuers = (chain.issuer.certificate, chain.root.certificate)
    response = sign(tst_info(), chain.signer, brings=issuers)
    wanted = [one.public_bytes(serialization.Encoding.DER) for one in (chain.signer.certificate, *issuers)]
    for order in itertools.permutations(wanted):
        other = response.replace(b"".join(sorted(wanted)), b"".join(order))
        assert (other == response) is (list(order) == sorted(wanted))
        assert verify(other, chain.authority()) == NOW


def test_fractions_of_a_second_are_dropped(sign: Sign, chain: Chain) -> None:
    whole = NOW.strftime("%Y%m%d%H%M%SZ").encode()
    fraction = whole[:-1] + b".75Z"
    content = tst_info().replace(der(0x18, whole), der(0x18, fraction))
    content = der(0x30, content[2:])
    assert verify(sign(content, chain.signer), chain.authority()) == NOW


def test_one_of_several_authorities_suffices_and_each_tells_why_not(sign: Sign, chain: Chain) -> None:
    other = TimestampAuthority("other", make_chain().authority().certificates)
    response = sign(tst_info(), chain.signer)
    assert verify(response, other, chain.authority()) == verify(response, chain.authority(), other) == NOW
    third = TimestampAuthority("third", (issue("third", is_ca=True, usages=()).certificate,))
    cause = cause_of(response, other, third)
    assert cause.startswith("other: it was signed by another certificate; third: ")


# What is refused, row N44 of the reference and more ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of_signer", "cause"),
    [
        ({"usages": ()}, "unsuitable certificate purpose"), ({"critical": False}, "unsuitable certificate purpose"),
        ({"usages": (*STAMPING, ExtendedKeyUsageOID.CODE_SIGNING)}, "unsuitable certificate purpose"),
        ({"usages": (ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,)}, "unsuitable certificate purpose"),
        ({"usages": (ExtendedKeyUsageOID.CODE_SIGNING,)}, "a certificate is not for timestamps"),
        ({"end": NOW - datetime.timedelta(seconds=1)}, "certificate has expired"),
        ({"begin": NOW + datetime.timedelta(seconds=1)}, TOO_EARLY),
        ({"key": rsa.generate_private_key(65537, 1024)}, "a certificate has an RSA key of 1024 bits"),
    ],
    ids=["none", "plain", "more", "any", "other", "expired", "future", "short"],
)
@pytest.mark.parametrize("with_signer", [True, False])
def test_unfit_signer_is_refused(
    of_signer: dict[str, t.Any], cause: str, with_signer: bool, sign: Sign, chain: Chain
) -> None:
    other = chain.but(**of_signer)
    response = sign(tst_info(), other.signer)
    assert cause_of(response, other.authority(with_signer=with_signer)).startswith(f"the authority: {cause}")


@pytest.mark.parametrize("place", ["issuer", "root"])
@pytest.mark.parametrize(
    ("validity", "cause"), [
        ({"end": NOW - datetime.timedelta(seconds=1)}, "certificate has expired"),
        ({"begin": NOW + datetime.timedelta(seconds=1)}, TOO_EARLY),
    ], ids=["expired", "future"],
)
def test_every_certificate_must_be_valid_then(
    place: str, validity: dict[str, t.Any], cause: str, sign: Sign, chain: Chain
) -> None:
    if place == "root":
        root = issue("root", key=chain.root.key, is_ca=True, usages=(), **validity)
        other = chain._replace(root=root)
    else:
        other = chain._replace(issuer=issue("issuer", chain.root, key=chain.issuer.key, is_ca=True, **validity))
    assert cause_of(sign(tst_info(), chain.signer), other.authority()).startswith(f"the authority: {cause}")


@pytest.mark.parametrize("usages", [(ExtendedKeyUsageOID.CODE_SIGNING,), (ExtendedKeyUsageOID.SERVER_AUTH,)])
@pytest.mark.parametrize("brought", [True, False])
def test_issuer_for_something_else_is_refused(
    usages: tuple[x509.ObjectIdentifier, ...], brought: bool, sign: Sign, chain: Chain
) -> None:
    issuer = issue("code", chain.root, is_ca=True, usages=usages)
    other = Chain(issue("signer", issuer), issuer, chain.root)
    authority = TimestampAuthority("root", (chain.root.certificate,)) if brought else other.authority()
    response = sign(tst_info(), other.signer, brings=[issuer.certificate] if brought else [])
    assert cause_of(response, authority).endswith(": a certificate is not for timestamps")


@pytest.mark.parametrize("place", ["signer", "issuer"])
def test_certificate_with_a_weak_hash_is_refused(
    place: str, sign: Sign, chain: Chain, openssl: Run, tmp_path: pathlib.Path
) -> None:
    above, below = (chain.issuer, chain.signer) if place == "signer" else (chain.root, chain.issuer)
    write_pair(below, tmp_path)
    (tmp_path / "request").write_bytes(openssl(
        "req", "-new", "-key", tmp_path / "signer.key", "-subj", f"/CN={place}",
    ))
    write_pair(above, tmp_path)
    (tmp_path / "extensions").write_text(
        "extendedKeyUsage=critical,timeStamping\n" + ("basicConstraints=CA:TRUE\n" if place == "issuer" else "")
    )
    weak = x509.load_pem_x509_certificate(openssl(
        "x509", "-req", "-in", tmp_path / "request", "-CA", tmp_path / "signer.pem", "-CAkey", tmp_path / "signer.key",
        "-sha1", "-days", "1", "-set_serial", below.certificate.serial_number, "-extfile", tmp_path / "extensions",
    ))
    other = chain._replace(**{place: Pair(weak, below.key)})
    moment = NOW + datetime.timedelta(hours=1)
    response = sign(tst_info(moment=moment), other.signer)
    assert cause_of(response, other.authority()) == "the authority: a certificate is signed with sha1"


def test_root_may_have_a_weak_hash(sign: Sign, chain: Chain, openssl: Run, tmp_path: pathlib.Path) -> None:
    """Nobody verifies the signature of a root that is trusted."""
    write_pair(chain.root, tmp_path)
    root = x509.load_pem_x509_certificate(openssl(
        "req", "-new", "-x509", "-sha1", "-key", tmp_path / "signer.key", "-subj", "/CN=root", "-days", "2",
    ))
    assert isinstance(root.signature_hash_algorithm, hashes.SHA1)
    moment = NOW + datetime.timedelta(hours=1)
    authority = chain._replace(root=Pair(root, chain.root.key)).authority()
    assert verify(sign(tst_info(moment=moment), chain.signer), authority) == moment


def test_serial_numbers_are_those_of_their_issuer(sign: Sign) -> None:
    root = issue("root", is_ca=True, usages=(), serial=1)
    issuer = issue("issuer", root, is_ca=True, serial=1)
    small = Chain(issue("signer", issuer, serial=1), issuer, root)
    for with_signer in (True, False):
        assert verify(sign(tst_info(), small.signer), small.authority(with_signer=with_signer)) == NOW


def test_timestamp_of_another_signature_is_refused(sign: Sign, chain: Chain) -> None:
    response = sign(tst_info(signature=b"another"), chain.signer)
    assert cause_of(response, chain.authority()) == "it is about another signature"
    assert verify(response, chain.authority(), signature=b"another") == NOW


@pytest.mark.parametrize("algorithm", ["sha1", "sha224", "sha3-256"])
def test_other_imprints_are_refused(algorithm: str, sign: Sign, chain: Chain) -> None:
    response = sign(tst_info(algorithm=algorithm), chain.signer)
    assert cause_of(response, chain.authority()) == f"it is over a hash that is not taken ({OIDS[algorithm]})"


def test_sha1_imprint_of_openssl_is_refused(reply: Run, openssl: Run, chain: Chain, tmp_path: pathlib.Path) -> None:
    (tmp_path / "signature").write_bytes(SIGNATURE)
    query = openssl("ts", "-query", "-data", tmp_path / "signature", "-sha1", "-cert")
    assert "1.3.14.3.2.26" in cause_of(reply(query, chain), chain.authority())


def test_imprint_with_another_length_is_refused(sign: Sign, chain: Chain) -> None:
    content = tst_info().replace(hashlib.sha256(SIGNATURE).digest(), bytes(32))
    assert cause_of(sign(content, chain.signer), chain.authority()) == "it is about another signature"


@pytest.mark.parametrize("digest", ["sha1", "sha224"])
def test_weak_digests_of_the_signer_are_refused(digest: str, sign: Sign, chain: Chain) -> None:
    response = sign(tst_info(), chain.signer, digest=digest)
    assert cause_of(response, chain.authority()) == "it is signed with a hash that is not taken"


@pytest.mark.parametrize("status", [1, 2, 3, 4, 5, 6, 255])
def test_only_what_was_granted_counts(status: int, sign: Sign, chain: Chain) -> None:
    response = sign(tst_info(), chain.signer, status=status)
    assert cause_of(response, chain.authority()) == f"the authority did not grant it (status {status})"


@pytest.mark.parametrize("status", [0, 1, 2, 5])
def test_response_without_token_is_refused(status: int, chain: Chain) -> None:
    response = der(0x30, der(0x30, integer(status), der(0x30, der(0x0C, b"no"))))
    if status:
        assert cause_of(response, chain.authority()) == f"the authority did not grant it (status {status})"
    else:
        assert malformed(response, chain.authority())


def test_other_authority_is_refused(sign: Sign, chain: Chain) -> None:
    # Of the same names and serial numbers, so that only keys differ.
    root = issue("root", is_ca=True, usages=())
    issuer = issue("issuer", root, is_ca=True)
    forged = Chain(issue("signer", issuer, serial=chain.signer.certificate.serial_number), issuer, root)
    response = sign(tst_info(), forged.signer, brings=[issuer.certificate, root.certificate])
    assert verify(response, forged.authority()) == NOW
    assert cause_of(response, chain.authority()) == "the authority: its signer names several certificates"
    assert cause_of(response, chain.authority(with_signer=False)).startswith("the authority: ")
    response = sign(tst_info(), forged.signer, "-nocerts")
    assert cause_of(response, chain.authority()).startswith("the authority: ")


def test_self_signed_signer_from_the_response_is_not_trusted(sign: Sign, chain: Chain) -> None:
    alone = issue("alone")
    response = sign(tst_info(), alone)
    assert cause_of(response, chain.authority(with_signer=False)) .startswith("the authority: self")
    assert cause_of(response, chain.authority()) == "the authority: it was signed by another certificate"


def test_another_signer_under_the_same_issuer_is_refused_where_one_is_named(sign: Sign, chain: Chain) -> None:
    other = chain.but()
    response = sign(tst_info(), other.signer)
    assert cause_of(response, chain.authority()) == "the authority: it was signed by another certificate"
    assert verify(response, chain.authority(with_signer=False)) == NOW


def test_chain_of_another_certificate_than_the_signers_is_refused(sign: Sign, chain: Chain) -> None:
    """The CVE-2026-39984 class: a good certificate comes along, another one signed."""
    forged = issue("forged")
    for brings in ([chain.signer.certificate], [chain.signer.certificate, chain.issuer.certificate]):
        response = sign(tst_info(), forged, brings=brings)
        for with_signer in (True, False):
            assert cause_of(response, chain.authority(with_signer=with_signer)).startswith("the authority: ")
    same_name = issue("signer", chain.issuer._replace(key=forged.key), serial=chain.signer.certificate.serial_number)
    response = sign(tst_info(), same_name, brings=[chain.signer.certificate])
    for with_signer in (True, False):
        cause = cause_of(response, chain.authority(with_signer=with_signer))
        assert cause == "the authority: its signer names several certificates"


# The same key, name and number in a certificate that differs otherwise: with it, the signature is as good.
@pytest.mark.parametrize("essential", ["sha1", "sha256", "sha512"])
def test_signer_must_name_its_certificate(essential: str, reply: Run, chain: Chain) -> None:
    serial = chain.signer.certificate.serial_number
    twin = issue("signer", chain.issuer, key=chain.signer.key, serial=serial, end=NOW + 2 * DAY)
    query = timestamp.request(SIGNATURE).replace(der(0x01, b"\xff"), b"")
    query = der(0x30, query[2:])
    response = reply(query, chain, essential=essential)
    assert verify(response, chain.authority()) >= NOW
    assert cause_of(response, chain._replace(signer=twin).authority()) == (
        "the authority: its signer says that another certificate is its own"
    )


@pytest.mark.parametrize("algorithm", [None, "sha256", "sha384", "sha512"])
def test_strong_names_of_the_certificate_are_taken(algorithm: str | None, chain: Chain) -> None:
    own = chain.signer.certificate
    new = (NEW, der(0x30, der(0x30, essential(own, algorithm=algorithm), essential(chain.issuer.certificate))))
    old = (OLD, der(0x30, der(0x30, essential(own, is_old=True)), der(0x30)))
    for attributes in ([new], [old], [new, old]):
        assert verify(handmade(chain.signer, *attributes), chain.authority()) == NOW


@pytest.mark.parametrize("kind", ["second", "old", "new", "weak", "none", "old as new", "sha1 as new", "unknown"])
def test_other_names_of_the_certificate_are_refused(kind: str, chain: Chain) -> None:
    own, other = chain.signer.certificate, chain.issuer.certificate
    good = essential(own)
    ids = {
        "second": [essential(other), good], "new": [essential(other)], "weak": [essential(own, algorithm="sha224")],
        "none": [der(0x30, der(0x04))], "old as new": [essential(own, is_old=True)],
        "sha1 as new": [essential(own, algorithm="sha1")], "old": [good],
        "unknown": [der(0x30, der(0x30, oid("1.2.3.4")), good[2:])],
    }[kind]
    attributes = [(NEW, der(0x30, der(0x30, *ids)))]
    if kind == "old":
        attributes.append((OLD, der(0x30, der(0x30, essential(other, is_old=True)))))
    assert cause_of(handmade(chain.signer, *attributes), chain.authority()) == (
        "the authority: its signer says that another certificate is its own"
    )


def test_old_name_of_the_certificate_has_no_hash_of_its_choice(chain: Chain) -> None:
    value = der(0x30, der(0x30, essential(chain.signer.certificate, algorithm="sha256")))
    assert cause_of(handmade(chain.signer, (OLD, value)), chain.authority()) == (
        "the authority: its signer says that another certificate is its own"
    )


def test_attribute_that_occurs_twice_is_refused(chain: Chain) -> None:
    own, other = ((NEW, der(0x30, der(0x30, essential(pair.certificate)))) for pair in (chain.signer, chain.issuer))
    for attributes in ([own, other], [own, own]):
        cause = cause_of(handmade(chain.signer, *attributes), chain.authority())
        assert cause == "an attribute of its signer occurs twice"
    unknown = [("1.2.3.4", der(0x05)), ("1.2.3.5", der(0x05))]
    assert verify(handmade(chain.signer, own, *unknown), chain.authority()) == NOW


@pytest.mark.parametrize("damage", ["long form", "leading zero", "indefinite", "cut off", "set", "empty", "text"])
def test_name_of_the_certificate_must_be_der(damage: str, chain: Chain) -> None:
    # Inside of the attribute's value, into which the library does not look.
    good = der(0x30, essential(chain.signer.certificate))
    inner = {
        "long form": b"\x30\x81" + good[1:], "leading zero": b"\x30\x82\x00" + good[1:],
        "indefinite": b"\x30\x80" + good[2:] + b"\0\0", "cut off": b"\x30\x7f" + good[2:],
        "set": b"\x31" + good[1:], "empty": b"", "text": b"text",
    }[damage]
    assert malformed(handmade(chain.signer, (NEW, der(0x30, inner))), chain.authority())


def test_signer_without_a_word_about_its_certificate_is_refused(sign: Sign, chain: Chain) -> None:
    response = sign(tst_info(), chain.signer, names_itself=False)
    assert cause_of(response, chain.authority()) == (
        "the authority: its signer does not say which certificate is its own"
    )


def test_signer_without_attributes_is_refused(sign: Sign, chain: Chain) -> None:
    response = sign(tst_info(), chain.signer, "-noattr", names_itself=False)
    assert cause_of(response, chain.authority()) == "its signer signed no attributes"


def test_several_signers_are_refused(sign: Sign, chain: Chain, tmp_path: pathlib.Path) -> None:
    write_pair(chain.but().signer, tmp_path)
    second = ["-signer", tmp_path / "signer.pem", "-inkey", tmp_path / "signer.key"]
    for more in ([], ["-nocerts"]):
        response = sign(tst_info(), chain.signer, *second, *more)
        assert cause_of(response, chain.authority()) == "it has 2 signers instead of one"


def test_other_content_is_refused(sign: Sign, chain: Chain) -> None:
    response = sign(tst_info(), chain.signer, content_type=OIDS["data"])
    assert cause_of(response, chain.authority()) == "its signer signed something else than a timestamp"
    # The signed attribute says so, the content does not.
    other = "1.2.840.113549.1.9.16.1.9"
    response = sign(tst_info(), chain.signer, content_type=other).replace(oid(other), oid(OIDS["tst_info"]), 1)
    assert cause_of(response, chain.authority()) == "its signer signed something else than a timestamp"


def test_content_that_is_no_timestamp_is_refused(sign: Sign, chain: Chain) -> None:
    assert malformed(sign(b"something", chain.signer), chain.authority())


def test_broken_signature_is_refused(sign: Sign, chain: Chain) -> None:
    response = sign(tst_info(), chain.signer)
    end = response[:-1] + bytes([response[-1] ^ 1])
    assert cause_of(end, chain.authority()) == "the authority: signature failure"
    moment = NOW.strftime("%Y%m%d%H%M%SZ").encode()
    later = (NOW + datetime.timedelta(seconds=1)).strftime("%Y%m%d%H%M%SZ").encode()
    assert cause_of(response.replace(der(0x18, moment), der(0x18, later)), chain.authority()) == (
        "the authority: signature failure"
    )


def test_other_version_is_refused(sign: Sign, chain: Chain) -> None:
    assert cause_of(sign(tst_info(version=2), chain.signer), chain.authority()) == "it is of version 2"


def test_extension_that_must_be_understood_is_refused(sign: Sign, chain: Chain) -> None:
    cause = "it has an extension that must be understood"
    for critical, taken in ((b"", True), (der(0x01, b"\xff"), False)):
        one, two = der(0x30, oid("1.2.3.5"), der(0x04, b"x")), der(0x30, oid("1.2.3.6"), critical, der(0x04, b""))
        tail = der(0xA1, one, two)
        response = sign(tst_info(tail=tail), chain.signer)
        if taken:
            assert verify(response, chain.authority()) == NOW
        else:
            assert cause_of(response, chain.authority()) == cause


# Hostile input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data", [b"", b"x", b"0", b"0\x80", b"0\x84\xff\xff\xff\xff", b"\x00" * 100, bytes(64 * 1024)],
    ids=["empty", "letter", "tag", "indefinite", "long", "zeros", "many"],
)
def test_what_is_no_der_is_malformed(data: bytes, chain: Chain) -> None:
    assert malformed(data, chain.authority()).startswith("it cannot be parsed (")


def test_framing_must_be_der(sign: Sign, chain: Chain) -> None:
    response = sign(tst_info(), chain.signer)
    assert response[:2] == b"\x30\x82"
    longer = (int.from_bytes(response[2:4], "big") + 1).to_bytes(2, "big")
    for other in (
        b"\x31" + response[1:], b"\x30\x83\x00" + response[2:], b"\x30\x82" + longer + response[4:], response + b"\0",
        response[:-1], response.replace(b"\xa0\x82", b"\xa1\x82", 1),
    ):
        assert malformed(other, chain.authority())


def test_size_is_bounded(chain: Chain) -> None:
    text = der(0x0C, b"x" * 60_000)
    begin = time.monotonic()
    fits = der(0x30, der(0x30, integer(2), der(0x30, text)))
    assert cause_of(fits, chain.authority()).startswith("the authority did not grant it")
    assert malformed(bytes(64 * 1024 + 1), chain.authority()) == "it is larger than 64 KiB"
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize("size", [64, 1000, 20_000])
def test_huge_object_identifiers_are_malformed(size: int, sign: Sign, chain: Chain) -> None:
    """Row N73."""
    huge = der(0x06, b"\x2a" + b"\x81" * size + b"\x01")
    assert malformed(sign(tst_info(policy=huge), chain.signer), chain.authority())
    response = sign(tst_info(), chain.signer).replace(oid(OIDS["tst_info"]), huge)
    assert malformed(response, chain.authority())


def test_panics_and_surprises_of_the_library_are_malformed(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    class PanicException(BaseException):
        """As pyo3 raises it."""

    response = der(0x30, der(0x30, integer(0)))
    for error in (PanicException("no"), ValueError("no"), MemoryError(), AssertionError()):
        def fail(_data: bytes, error: BaseException = error) -> None:
            raise error

        monkeypatch.setattr(rfc3161_client, "decode_timestamp_response", fail)
        assert malformed(response, chain.authority()) == f"it cannot be parsed ({type(error).__name__})"
    for stop in (KeyboardInterrupt(), SystemExit(3)):
        def end(_data: bytes, stop: BaseException = stop) -> None:
            raise stop

        monkeypatch.setattr(rfc3161_client, "decode_timestamp_response", end)
        with pytest.raises(type(stop)):
            verify(response, chain.authority())


@pytest.fixture(scope="module")
def good(sign: Sign, chain: Chain) -> bytes:
    """A response with every certificate."""
    return sign(tst_info(), chain.signer, brings=[chain.issuer.certificate, chain.root.certificate])


OUTCOMES = (NOW, "timestamp_invalid", "malformed")


def outcome(response: bytes, authority: TimestampAuthority) -> datetime.datetime | str:
    try:
        return verify(response, authority)
    except HallmarkError as exc:
        return exc.code


@given(data=st.data())
@settings(max_examples=600, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_altered_responses_end_well_or_tell_the_same_time(data: st.DataObject, good: bytes, chain: Chain) -> None:
    altered = bytearray(good)
    for _round in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(altered) - 1))
        how = data.draw(st.sampled_from(["flip", "put", "cut", "double"]))
        if how == "flip":
            altered[at] ^= 1 << data.draw(st.integers(0, 7))
        elif how == "put":
            altered[at:at + 1] = data.draw(st.binary(min_size=0, max_size=4))
        elif how == "cut":
            del altered[at:at + data.draw(st.integers(1, 40))]
        else:
            altered[at:at] = altered[at:at + data.draw(st.integers(1, 40))]
        if not altered:
            break
    for with_signer in (True, False):
        assert outcome(bytes(altered), chain.authority(with_signer=with_signer)) in OUTCOMES


# Every byte of a token in turn: what is not covered by a signature must not matter, what is must.
def test_every_flipped_byte_ends_well(good: bytes, chain: Chain) -> None:
    for at in range(len(good)):
        for bit in (0x01, 0x80):
            altered = good[:at] + bytes([good[at] ^ bit]) + good[at + 1:]
            assert outcome(altered, chain.authority()) in OUTCOMES


# Files of authorities ------------------------------------------------------------------------------------------------


def test_authority_is_read_in_order(chain: Chain) -> None:
    certificates = tuple(pair.certificate for pair in chain)
    for wanted in (certificates, certificates[1:], certificates[2:]):
        authority = timestamp.read_authority(b"text\n" + pem_of(*wanted) + b"text\n", where="file")
        assert authority == TimestampAuthority("file", wanted)


@pytest.mark.parametrize(("order", "cause"), [
    ((0,), "does not end with a root"), ((0, 1), "does not end with a root"), ((1, 0, 2), "not in order"),
    ((0, 2), "not in order"), ((2, 1, 0), "not in order"), ((0, 1, 2, 2, 1), "not in order"),
])
def test_authority_without_order_or_root_is_refused(order: tuple[int, ...], cause: str, chain: Chain) -> None:
    with pytest.raises(KeyFileError, match=cause) as caught:
        timestamp.read_authority(pem_of(*(chain[place].certificate for place in order)), where="file")
    assert (caught.value.code, caught.value.object) == ("malformed", "file")


def test_authority_is_certificates_and_nothing_else(
    chain: Chain, public_pem: t.Callable[..., bytes], pem_block: t.Callable[..., bytes]
) -> None:
    root = pem_of(chain.root.certificate)
    broken = chain.root.certificate.public_bytes(serialization.Encoding.DER)
    weird_curve = broken.replace(bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("06082a8648ce3d03017f"))
    assert weird_curve != broken
    for data in (
        b"", b"text", public_pem(chain.root.key) + root, root + public_pem(chain.root.key), root[:-30],
        pem_block("X509 CERTIFICATE", broken),
        pem_block("CERTIFICATE", broken.replace(b"\x0c\x04root", b"\x31\x04root")),
        pem_block("CERTIFICATE", broken.replace(b"\x0c\x04root", b"\x03\x04root")),
        pem_block("CERTIFICATE", b"x"), pem_block("CERTIFICATE", broken[:-1]), pem_block("CERTIFICATE", weird_curve),
    ):
        with pytest.raises(KeyFileError) as caught:
            timestamp.read_authority(data, where="file")
        assert (caught.value.code, caught.value.object) == ("malformed", "file")
