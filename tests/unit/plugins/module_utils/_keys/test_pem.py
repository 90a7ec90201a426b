# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of key files in every shape."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import time
import tracemalloc
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import KeyFileError
from ansible_collections.hallmark.signing.plugins.module_utils._keys import encrypted_key, pem, private_key, writing
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa, x25519

PASSPHRASE = b"correct horse"
WRONG = b"incorrect mule"
# A block of another kind; what stands in it does not matter.
OTHER = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
EC_PARAMETERS = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
ENCODING, PRIVATE, PUBLIC = serialization.Encoding, serialization.PrivateFormat, serialization.PublicFormat

Write = t.Callable[..., bytes]
Hides = t.Callable[..., None]


def _private(data: bytes, passphrase: bytes | None = None) -> private_key.PrivateKey:
    return private_key.read_private_key(data, passphrase=passphrase, where="/srv/key")


def _private_refused(data: bytes, code: str, passphrase: bytes | None = None) -> KeyFileError:
    with pytest.raises(KeyFileError) as caught:
        _private(data, passphrase)
    assert (caught.value.code, caught.value.object) == (code, "/srv/key")
    return caught.value


def _public(data: bytes) -> pem.PublicKey:
    return pem.read_public_key(data, where="/srv/key")


def _public_refused(data: bytes, code: str) -> KeyFileError:
    with pytest.raises(KeyFileError) as caught:
        _public(data)
    assert (caught.value.code, caught.value.object) == (code, "/srv/key")
    return caught.value


def _der(key: t.Any) -> bytes:
    public = key.public_key() if hasattr(key, "public_key") else key
    return public.public_bytes(ENCODING.DER, PUBLIC.SubjectPublicKeyInfo)


def _label(data: bytes) -> str:
    return data.split(b"\n", 1)[0].decode().replace("-----BEGIN ", "").replace("-----", "")


def _tlv(tag: int, body: bytes) -> bytes:
    size = len(body)
    if size < 128:
        return bytes((tag, size)) + body
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + body


def _rsa_public_key_pem(n: int, e: int, write: Write) -> bytes:
    numbers = (_tlv(2, number.to_bytes(number.bit_length() // 8 + 1, "big")) for number in (n, e))
    return write("RSA PUBLIC KEY", _tlv(0x30, b"".join(numbers)))


# --- blocks


def test_blocks_are_split_in_order_and_text_between_is_ignored() -> None:
    first = b"-----BEGIN A-----\nAAAA\nBBBB\n-----END A-----\n"
    second = b"-----BEGIN B C2-----\r\nCCCC\r\n-----END B C2-----"
    blocks = pem.split(b"Bag Attributes\n  friendlyName: x\n" + first + b"text\n" + second, where="x")
    assert blocks == (pem.PemBlock("A", first, b"AAAA\nBBBB\n"), pem.PemBlock("B C2", second, b"CCCC\r\n"))


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b" \t\n", b"\ntext\n"])
@pytest.mark.parametrize("line", [b"\n", b"\r\n", b" \n", b"\t \r\n"])
def test_blanks_and_line_ends_of_both_kinds_are_taken(line: bytes, end: bytes) -> None:
    (block,) = pem.split(b"-----BEGIN A-----" + line + b"AAAA\n-----END A-----" + end, where="x")
    assert (block.label, block.body) == ("A", b"AAAA\n")


@pytest.mark.parametrize("data", [b"", b"text", b"\x30\x82\x01\x00", b"----BEGIN A-----\nAAAA\n-----END A-----\n"])
def test_file_without_a_block_is_refused(data: bytes) -> None:
    with pytest.raises(KeyFileError, match="it holds no PEM block") as caught:
        pem.split(data, where="/srv/key")
    assert (caught.value.code, caught.value.object) == ("malformed", "/srv/key")
    assert "openssl converts DER files with -inform DER" in caught.value.advice


@pytest.mark.parametrize(
    "data",
    [
        b"-----BEGIN A-----\nAAAA\n",
        b"-----BEGIN A-----\nAAAA\n-----END B-----\n",
        b"-----BEGIN A-----\nAAAA\n-----END A----\n",
        b"-----BEGIN A-----\nAAAA\n-----END A-----x\n",
        b"-----BEGIN A-----\nAAAA\n-----END A------\n",
        b"-----BEGIN A-----x\nAAAA\n-----END A-----\n",
        b"-----BEGIN A----- AAAA -----END A-----\n",
        b"-----BEGIN A-----\rAAAA\r-----END A-----\r",
        b"-----BEGIN a-----\nAAAA\n-----END a-----\n",
        b"-----BEGIN -----\nAAAA\n-----END -----\n",
        # Two readers could take different keys: the outer one, the inner one, or the whole one behind the broken one.
        b"-----BEGIN A-----\n-----BEGIN B-----\nAAAA\n-----END B-----\n-----END A-----\n",
        b"-----BEGIN A-----\nAAAA\n" + OTHER,
        OTHER + b"-----BEGIN A-----\nAAAA\n",
        b"-----BEGIN A-----\nAAAA\n-----BEGIN A-----\nAAAA\n-----END A-----\n",
        b"-----BEGIN a-----\nAAAA\n-----END a-----\n" + OTHER,
    ],
)
def test_block_without_its_end_is_refused(data: bytes) -> None:
    with pytest.raises(KeyFileError, match="a PEM block has no matching end") as caught:
        pem.split(data, where="/srv/key")
    assert (caught.value.code, caught.value.object) == ("malformed", "/srv/key")


# Doubling the input quadruples the time: 54 kB take a second, the 1 MiB that a key file may have takes minutes.
def test_unended_blocks_are_refused_quickly() -> None:
    start = time.process_time()
    with pytest.raises(KeyFileError):
        pem.split(b"-----BEGIN A-----\n" * 3000, where="x")
    assert time.process_time() - start < 0.5


# Found by tests/fuzz: a certificate in an annotation can have four megabytes.
@pytest.mark.parametrize("text", [b"A", b"A-", b"-A", b"AAAA\n"])
def test_a_long_block_takes_little_memory(text: bytes) -> None:
    data = b"-----BEGIN A-----\n" + text * 200_000 + b"\n-----END A-----\n"
    tracemalloc.start()
    try:
        with contextlib.suppress(KeyFileError):
            pem.split(data, where="x")
        assert tracemalloc.get_traced_memory()[1] < 4 * len(data)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("label", "body", "private", "encrypted"),
    [
        ("PRIVATE KEY", b"AAAA", True, False),
        ("EC PRIVATE KEY", b"AAAA", True, False),
        ("OPENSSH PRIVATE KEY", b"AAAA", True, False),
        ("ENCRYPTED PRIVATE KEY", b"AAAA", True, True),
        ("ENCRYPTED SIGSTORE PRIVATE KEY", b"AAAA", True, True),
        ("ENCRYPTED COSIGN PRIVATE KEY", b"AAAA", True, True),
        ("RSA PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA", True, True),
        ("PUBLIC KEY", b"AAAA", False, False),
        ("CERTIFICATE", b"AAAA", False, False),
        ("EC PARAMETERS", b"AAAA", False, False),
    ],
)
def test_block_knows_whether_it_is_private_and_encrypted(
    label: str, body: bytes, private: bool, encrypted: bool
) -> None:
    block = pem.PemBlock(label, b"", body)
    assert (block.is_private, block.is_encrypted) == (private, encrypted)


def test_repr_of_a_block_shows_its_label_only() -> None:
    block = pem.PemBlock("PRIVATE KEY", b"secret", b"secret")
    assert repr(block) == "PemBlock(label='PRIVATE KEY')"
    with pytest.raises(dataclasses.FrozenInstanceError):
        block.label = "PUBLIC KEY"  # type: ignore


# --- private keys


@pytest.mark.parametrize(
    ("fixture", "traditional", "label", "algorithm"),
    [
        ("p256", False, "PRIVATE KEY", "ecdsa-p256"),
        ("p256", True, "EC PRIVATE KEY", "ecdsa-p256"),
        ("p384", False, "PRIVATE KEY", "ecdsa-p384"),
        ("rsa2048", False, "PRIVATE KEY", "rsa-2048"),
        ("rsa2048", True, "RSA PRIVATE KEY", "rsa-2048"),
        ("ed25519_key", False, "PRIVATE KEY", "ed25519"),
    ],
)
@pytest.mark.parametrize("encrypted", [False, True])
def test_pem_keys_are_read(
    fixture: str, traditional: bool, label: str, algorithm: str, encrypted: bool, request: pytest.FixtureRequest,
    private_pem: Write,
) -> None:
    key = request.getfixturevalue(fixture)
    data = private_pem(key, PASSPHRASE if encrypted else None, traditional=traditional)
    assert _label(data) == (f"ENCRYPTED {label}" if encrypted and not traditional else label)
    assert (b"Proc-Type" in data) == (encrypted and traditional)
    private = _private(data, PASSPHRASE if encrypted else None)
    assert (private.format, private.encrypted) == ("pem", encrypted)
    assert private.public.algorithm.name == algorithm
    assert private.public.der == _der(key)
    assert private.key.private_bytes(ENCODING.DER, PRIVATE.PKCS8, serialization.NoEncryption()) == key.private_bytes(
        ENCODING.DER, PRIVATE.PKCS8, serialization.NoEncryption()
    )


@pytest.mark.parametrize("passphrase", [b"", WRONG])
@pytest.mark.parametrize("traditional", [False, True])
def test_passphrase_for_a_plain_key_is_not_used(
    passphrase: bytes, traditional: bool, p256: t.Any, private_pem: Write
) -> None:
    private = _private(private_pem(p256, traditional=traditional), passphrase)
    assert (private.format, private.encrypted) == ("pem", False)


@pytest.mark.parametrize(
    ("name", "passphrase", "format", "public"),
    [
        ("cosign2.key", PASSPHRASE, "cosign", "cosign2.pub"),
        ("cosign3.key", PASSPHRASE, "cosign", "cosign3.pub"),
        ("cosign3-empty-passphrase.key", b"", "cosign", "cosign3-empty-passphrase.pub"),
        ("cosign3-rsa2048.key", PASSPHRASE, "cosign", "cosign3-rsa2048.pub"),
        ("openssl-sec1-with-parameters.pem", None, "pem", "openssl-p256.pub"),
        ("openssl-sec1-encrypted.pem", PASSPHRASE, "pem", "openssl-p256.pub"),
        ("openssl-pkcs8-scrypt.pem", PASSPHRASE, "pem", "openssl-p256.pub"),
    ],
)
def test_keys_of_other_tools_are_read(
    name: str, passphrase: bytes | None, format: str, public: str, golden: t.Callable[[str], bytes]
) -> None:
    private = _private(golden(name), passphrase)
    assert (private.format, private.encrypted) == (format, passphrase is not None)
    assert private.public.pem.encode() == golden(public)


def test_pkcs8_with_an_empty_passphrase_is_refused_with_the_way_out(golden: t.Callable[[str], bytes]) -> None:
    data = golden("openssl-pkcs8-empty-passphrase.pem")
    with contextlib.suppress(TypeError):
        # cryptography up to 42 can read it; newer ones take an empty passphrase for none at all.
        serialization.load_pem_private_key(data, b"")
        assert _private(data, b"").encrypted
        return
    error = _private_refused(data, "passphrase_invalid", b"")
    assert error.cause == "an empty passphrase does not open it; PKCS#8 cannot be read with one"
    assert "openssl pkcs8 -topk8 -in FILE -out NEW" in error.advice
    assert error.__context__ is None


def test_older_label_of_cosign_is_read(golden: t.Callable[[str], bytes]) -> None:
    data = golden("cosign3.key").replace(b"SIGSTORE", b"COSIGN")
    assert _label(data) == "ENCRYPTED COSIGN PRIVATE KEY"
    assert _private(data, PASSPHRASE).public.pem.encode() == golden("cosign3.pub")


def test_key_may_stand_between_text_and_dos_line_ends(p256: t.Any, private_pem: Write) -> None:
    data = b"\xef\xbb\xbfBag Attributes\n" + private_pem(p256).strip() + b" \nmore text"
    for shape in (data, data.replace(b"\n", b"\r\n")):
        assert _private(shape).public.der == _der(p256)


@pytest.mark.parametrize("name", ["p256", "openssl", "cosign", "rfc1421"])
@pytest.mark.parametrize("passphrase", [None, b"", WRONG])
def test_missing_and_wrong_passphrases_are_told_apart(
    name: str, passphrase: bytes | None, p256: t.Any, private_pem: Write, golden: t.Callable[[str], bytes],
    assert_hides: Hides,
) -> None:
    data = {
        "p256": private_pem(p256, PASSPHRASE),
        "openssl": golden("openssl-pkcs8-scrypt.pem"),
        "cosign": golden("cosign3.key"),
        "rfc1421": golden("openssl-sec1-encrypted.pem"),
    }[name]
    error = _private_refused(data, "passphrase_invalid", passphrase)
    if passphrase is None:
        assert error.cause == "it is encrypted and no passphrase was given"
    elif passphrase or name == "cosign":
        assert error.cause == "the passphrase is wrong, or the file is damaged"
    else:
        assert error.cause.startswith("an empty passphrase does not open it")
    assert_hides(error, data, WRONG, PASSPHRASE)
    assert error.__cause__ is None
    assert error.__context__ is None


def test_exactly_one_private_key_is_wanted(p256: t.Any, private_pem: Write, public_pem: Write) -> None:
    one = private_pem(p256)
    for data, found in (
        (one + one, "PRIVATE KEY, PRIVATE KEY"),
        (one + public_pem(p256), "PRIVATE KEY, PUBLIC KEY"),
        (OTHER + one, "CERTIFICATE, PRIVATE KEY"),
        (EC_PARAMETERS, "EC PARAMETERS only"),
        (EC_PARAMETERS + one + one, "PRIVATE KEY, PRIVATE KEY"),
    ):
        error = _private_refused(data, "malformed")
        assert error.cause == f"it must hold exactly one private key, but holds: {found}"


@pytest.mark.parametrize(
    ("label", "found"),
    [
        ("CERTIFICATE", "a certificate"),
        ("OPENSSH PRIVATE KEY", "an OpenSSH private key"),
        ("PUBLIC KEY", "a PEM block of type PUBLIC KEY"),
        ("RSA PUBLIC KEY", "a PEM block of type RSA PUBLIC KEY"),
        ("DSA PRIVATE KEY", "a PEM block of type DSA PRIVATE KEY"),
        ("ANY PRIVATE KEY", "a PEM block of type ANY PRIVATE KEY"),
        ("ENCRYPTED EC PRIVATE KEY", "a PEM block of type ENCRYPTED EC PRIVATE KEY"),
        ("PGP PRIVATE KEY BLOCK", "a PEM block of type PGP PRIVATE KEY BLOCK"),
        ("CERTIFICATE REQUEST", "a PEM block of type CERTIFICATE REQUEST"),
    ],
)
def test_other_blocks_are_refused_as_private_keys(label: str, found: str, p256: t.Any, pem_block: Write) -> None:
    # A good key inside, so that nothing but the label can be the reason.
    der = p256.private_bytes(ENCODING.DER, PRIVATE.PKCS8, serialization.NoEncryption())
    error = _private_refused(pem_block(label, der), "malformed", PASSPHRASE)
    assert error.cause == f"it is {found}, not a private key that can be read here"


def test_real_openssh_and_dsa_keys_are_refused(p256: t.Any) -> None:
    plain = serialization.NoEncryption()
    openssh = p256.private_bytes(ENCODING.PEM, PRIVATE.OpenSSH, plain)
    assert "OpenSSH" in _private_refused(openssh, "malformed").cause
    key = dsa.generate_private_key(1024)
    assert "DSA PRIVATE KEY" in _private_refused(
        key.private_bytes(ENCODING.PEM, PRIVATE.TraditionalOpenSSL, plain), "malformed"
    ).cause
    pkcs8 = key.private_bytes(ENCODING.PEM, PRIVATE.PKCS8, plain)
    assert "DSAPrivateKey" in _private_refused(pkcs8, "unsupported_algorithm").cause


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda: ec.generate_private_key(ec.SECP224R1()), "on secp224r1"),
        (lambda: ec.generate_private_key(ec.SECP256K1()), "on secp256k1"),
        (lambda: rsa.generate_private_key(public_exponent=65537, key_size=1024), "an RSA key of 1024 bits"),
        (x25519.X25519PrivateKey.generate, "X25519PrivateKey"),
    ],
)
def test_keys_of_other_algorithms_are_refused_in_both_halves(
    make: t.Callable[[], t.Any], found: str, private_pem: Write, public_pem: Write
) -> None:
    key = make()
    assert found in _private_refused(private_pem(key), "unsupported_algorithm").cause
    assert found.replace("Private", "Public") in _public_refused(public_pem(key), "unsupported_algorithm").cause


def test_private_keys_of_unknown_algorithms_are_refused(golden: t.Callable[[str], bytes]) -> None:
    data = golden("openssl-sm2.pem")
    assert _private_refused(data, "unsupported_algorithm").cause == "its algorithm is not known"


def test_public_keys_of_unknown_algorithms_are_refused(golden: t.Callable[[str], bytes]) -> None:
    _public_refused(golden("openssl-sm2.pub"), "unsupported_algorithm")


# cosign refuses these keys, and their key id would not be the digest of the SubjectPublicKeyInfo in the file.
@pytest.mark.parametrize("half", ["pem", "pub"])
def test_keys_restricted_to_pss_are_refused(half: str, golden: t.Callable[[str], bytes]) -> None:
    data = golden(f"openssl-rsa-pss.{half}")
    if half == "pem":
        _private_refused(data, "unsupported_algorithm")
    else:
        _public_refused(data, "unsupported_algorithm")


# for PRIVATE KEY: _decode() raises from the ValueError of the decoder; for a byte outside ASCII that is
# a UnicodeDecodeError, whose args hold the whole text of the plain key.
@pytest.mark.parametrize("label", ["PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY"])
def test_damaged_plain_keys_are_malformed(
    label: str, p256: t.Any, private_pem: Write, pem_block: Write, assert_hides: Hides
) -> None:
    good = private_pem(p256)
    lines = good.splitlines()
    body = base64.b64decode(b"".join(lines[1:-1]))
    for bad in (
        pem_block(label, body[:-7]),
        pem_block(label, b"\x31" + body[1:]),
        pem_block(label, b""),
        pem_block(label, b"secret secret secret"),
        f"-----BEGIN {label}-----\n!{lines[1].decode()}\n-----END {label}-----\n".encode(),
        f"-----BEGIN {label}-----\n\xe9{lines[1].decode()}\n-----END {label}-----\n".encode("latin-1"),
    ):
        for passphrase in (None, WRONG):
            error = _private_refused(bad, "malformed", passphrase)
            assert error.cause in ("no private key can be parsed", "its PEM block is not base64")
            assert_hides(error, good, bad, WRONG)
            assert error.__cause__ is None
            assert error.__context__ is None


def test_bytes_behind_a_key_change_nothing(p256: t.Any, private_pem: Write, pem_block: Write) -> None:
    body = base64.b64decode(b"".join(private_pem(p256).splitlines()[1:-1]))
    for label in ("PRIVATE KEY", "EC PRIVATE KEY"):
        _same_or_malformed(lambda label=label: _private(pem_block(label, body + b"\x00")).public, p256)
    _same_or_malformed(lambda: _public(pem_block("PUBLIC KEY", _der(p256) + b"\x00")), p256)


def _same_or_malformed(read: t.Callable[[], pem.PublicKey], key: t.Any) -> None:
    """Refused by newer versions of cryptography; what older ones read must be the key."""
    try:
        found = read().der
    except KeyFileError as exc:
        found = exc.code
    assert found in (_der(key), "malformed")


@pytest.mark.parametrize(
    ("label", "form"), [("PRIVATE KEY", PRIVATE.PKCS8), ("EC PRIVATE KEY", PRIVATE.TraditionalOpenSSL)]
)
def test_key_with_the_public_half_of_another_is_refused(
    label: str, form: serialization.PrivateFormat, p256: t.Any, pem_block: Write
) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    points = [key.public_key().public_bytes(ENCODING.X962, PUBLIC.UncompressedPoint) for key in (p256, other)]
    der = p256.private_bytes(ENCODING.DER, form, serialization.NoEncryption())
    assert points[0] in der
    data = pem_block(label, der.replace(*points))
    _private_refused(data, "malformed")


def test_damaged_encrypted_key_is_refused(p256: t.Any, private_pem: Write, pem_block: Write) -> None:
    body = base64.b64decode(b"".join(private_pem(p256, PASSPHRASE).splitlines()[1:-1]))
    for bad in (body[:-16], body[:-1] + b"\x00", b"", b"x"):
        _private_refused(pem_block("ENCRYPTED PRIVATE KEY", bad), "passphrase_invalid", PASSPHRASE)


@pytest.mark.parametrize("body", [b"not base64!\n", b"AAA\n", b"Proc-Type: 4,ENCRYPTED\n\nAAAA\n", b"\xff\n"])
def test_cosign_block_that_is_not_base64_is_refused(body: bytes, assert_hides: Hides) -> None:
    label = b"ENCRYPTED SIGSTORE PRIVATE KEY"
    data = b"-----BEGIN " + label + b"-----\n" + body + b"-----END " + label + b"-----\n"
    error = _private_refused(data, "malformed", PASSPHRASE)
    assert error.cause == "its PEM block is not base64"
    assert_hides(error, data, PASSPHRASE)


def test_cosign_block_that_holds_no_document_is_refused(pem_block: Write) -> None:
    error = _private_refused(pem_block("ENCRYPTED COSIGN PRIVATE KEY", b"\x30\x00"), "malformed", PASSPHRASE)
    assert "strict JSON" in error.cause


@pytest.mark.parametrize("content", ["nothing", "public", "x25519"])
def test_cosign_block_around_another_thing_is_refused(content: str, p256: t.Any, pem_block: Write) -> None:
    plain, code = {
        "nothing": (b"", "malformed"),
        "public": (_der(p256), "malformed"),
        "x25519": (
            x25519.X25519PrivateKey.generate().private_bytes(
                ENCODING.DER, PRIVATE.PKCS8, serialization.NoEncryption()
            ),
            "unsupported_algorithm",
        ),
    }[content]
    data = pem_block(private_key.COSIGN_LABELS[0], encrypted_key.encrypt(plain, PASSPHRASE))
    _private_refused(data, code, PASSPHRASE)


def test_repr_of_a_private_key_shows_public_facts_only(p256: t.Any, private_pem: Write) -> None:
    private = _private(private_pem(p256))
    shown = repr(private)
    assert shown.startswith("PrivateKey(public=PublicKey(")
    assert shown.endswith(", format='pem', encrypted=False)")
    assert "PrivateKey object" not in shown
    secret = p256.private_numbers().private_value
    assert str(secret) not in shown
    assert f"{secret:x}" not in shown
    for line in private_pem(p256).splitlines()[1:-1]:
        assert line.decode() not in shown


def test_only_private_block_returns_the_block_as_it_stands(golden: t.Callable[[str], bytes]) -> None:
    data = golden("openssl-sec1-with-parameters.pem")
    block = private_key.only_private_block(data, where="x")
    assert block.label == "EC PRIVATE KEY"
    assert block.text == data[data.index(b"-----BEGIN EC PRIVATE KEY"):]


# --- public keys


@pytest.mark.parametrize(
    ("fixture", "algorithm"),
    [("p256", "ecdsa-p256"), ("p384", "ecdsa-p384"), ("rsa2048", "rsa-2048"), ("ed25519_key", "ed25519")],
)
def test_public_keys_are_read(
    fixture: str, algorithm: str, request: pytest.FixtureRequest, public_pem: Write
) -> None:
    key = request.getfixturevalue(fixture)
    public = _public(b"text\n" + public_pem(key))
    assert public.algorithm.name == algorithm
    assert public.der == _der(key)
    assert public.pem.encode() == public_pem(key)
    again = pem.public_key(key.public_key(), where="x")
    assert (public.algorithm, public.key_id, public.der) == (again.algorithm, again.key_id, again.der)


def test_pkcs1_public_key_is_the_same_key(rsa2048: rsa.RSAPrivateKey) -> None:
    data = rsa2048.public_key().public_bytes(ENCODING.PEM, PUBLIC.PKCS1)
    assert _label(data) == "RSA PUBLIC KEY"
    assert _public(data).der == _der(rsa2048)


def test_compressed_point_is_the_same_key(golden: t.Callable[[str], bytes]) -> None:
    compressed, usual = golden("openssl-p256-compressed.pub"), golden("openssl-p256.pub")
    assert _public(compressed).key_id == _public(usual).key_id
    assert _public(compressed).pem == usual.decode()


@pytest.mark.parametrize("name", ["cosign2.pub", "cosign3.pub", "cosign3-rsa2048.pub"])
def test_public_key_is_written_as_cosign_writes_it(name: str, golden: t.Callable[[str], bytes]) -> None:
    text = _public(golden(name)).pem
    assert text.encode() == golden(name)
    lines = text.splitlines()
    assert {len(line) for line in lines[1:-2]} == {64}
    assert text.endswith("-----END PUBLIC KEY-----\n")


def test_authority_is_exactly_one_key(p256: t.Any, p384: t.Any, public_pem: Write) -> None:
    for data in (
        public_pem(p256) + public_pem(p384), public_pem(p256) + public_pem(p256), public_pem(p256) + OTHER,
        OTHER + public_pem(p256), EC_PARAMETERS + public_pem(p256),
    ):
        assert "it holds 2 PEM blocks" in _public_refused(data, "malformed").cause
    assert "it holds 3 PEM blocks" in _public_refused(public_pem(p256) * 3, "malformed").cause


def test_private_keys_are_no_authority(
    p256: t.Any, rsa2048: t.Any, private_pem: Write, golden: t.Callable[[str], bytes], assert_hides: Hides
) -> None:
    for data in (
        private_pem(p256), private_pem(p256, traditional=True), private_pem(p256, PASSPHRASE), golden("cosign3.key"),
        private_pem(rsa2048, traditional=True), p256.private_bytes(
            ENCODING.PEM, PRIVATE.OpenSSH, serialization.NoEncryption()
        ),
    ):
        error = _public_refused(data, "malformed")
        assert error.cause == "it is a private key, not a public key"
        assert_hides(error, data)


@pytest.mark.parametrize(
    ("label", "found"),
    [
        ("CERTIFICATE", "a certificate"), ("X509 CRL", "X509 CRL"), ("EC PARAMETERS", "EC PARAMETERS"),
        ("EC PUBLIC KEY", "EC PUBLIC KEY"), ("SSH2 PUBLIC KEY", "SSH2 PUBLIC KEY"),
    ],
)
def test_other_blocks_are_refused_as_public_keys(label: str, found: str, p256: t.Any, pem_block: Write) -> None:
    error = _public_refused(pem_block(label, _der(p256)), "malformed")
    assert error.cause == f"it is {found}, not a public key"


@pytest.mark.parametrize("label", ["PUBLIC KEY", "RSA PUBLIC KEY"])
@pytest.mark.parametrize("data", [b"", b"\x30\x00", b"rubbish", b"\x30\x82\xff\xff"])
def test_public_key_that_cannot_be_parsed_is_refused(label: str, data: bytes, pem_block: Write) -> None:
    assert "no public key can be parsed" in _public_refused(pem_block(label, data), "malformed").cause


def test_point_off_the_curve_is_refused(p256: t.Any, pem_block: Write) -> None:
    der = _der(p256)
    _public_refused(pem_block("PUBLIC KEY", der[:-1] + bytes((der[-1] ^ 1,))), "malformed")


@pytest.mark.parametrize("exponent", [1, 2, 4])
def test_rsa_keys_under_which_anyone_signs_are_refused(
    exponent: int, rsa2048: rsa.RSAPrivateKey, pem_block: Write
) -> None:
    modulus = rsa2048.public_key().public_numbers().n
    assert _public(_rsa_public_key_pem(modulus, 65537, pem_block)).der == _der(rsa2048)
    data = _rsa_public_key_pem(modulus, exponent, pem_block)
    with pytest.raises(KeyFileError):
        _public(data)


# edwards25519 (RFC 8032 section 5.1), as slow as it is short.
PRIME, ORDER = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
CURVE_D = -121665 * pow(121666, -1, PRIME) % PRIME


def _added(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    (a, b), (c, d) = one, other
    factor = CURVE_D * a * b * c * d
    return (
        (a * d + b * c) * pow(1 + factor, -1, PRIME) % PRIME, (b * d + a * c) * pow(1 - factor, -1, PRIME) % PRIME,
    )


def _point(y: int) -> tuple[int, int] | None:
    square = (y * y - 1) * pow(CURVE_D * y * y + 1, -1, PRIME) % PRIME
    root = pow(square, (PRIME + 3) // 8, PRIME)
    for x in (root, root * pow(2, (PRIME - 1) // 4, PRIME) % PRIME):
        if x * x % PRIME == square:
            return x, y
    return None


def _times(factor: int, point: tuple[int, int]) -> tuple[int, int]:
    found = (0, 1)
    for bit in f"{factor:b}":
        found = _added(found, found)
        found = _added(found, point) if bit == "1" else found
    return found


def _small_order() -> set[int]:
    """The y of all points whose order divides 8: multiples of one of order 8, found by clearing the large factor."""
    for y in range(2, 100):
        point = _point(y)
        if point is not None:
            point = _times(ORDER, point)
            if _times(4, point) != (0, 1):
                return {_times(factor, point)[1] for factor in range(8)}
    raise AssertionError("unreachable")


def test_ed25519_keys_under_which_anyone_signs_are_refused(pem_block: Write) -> None:
    small = _small_order()
    assert len(small) == 5
    # What is below 2^255 and not below the prime is another spelling of the same.
    spellings = {y + more for y in small for more in (0, PRIME) if y + more < 2**255}
    assert len(spellings) == 7
    for encoded in (y | sign << 255 for y in spellings for sign in (0, 1)):
        key = ed25519.Ed25519PublicKey.from_public_bytes(encoded.to_bytes(32, "little"))
        assert "small order" in _public_refused(pem_block("PUBLIC KEY", _der(key)), "malformed").cause
        with pytest.raises(KeyFileError, match="small order"):
            pem.public_key(key, where="/srv/key")
    for encoded in (2, 3, PRIME - 2):
        assert _public(pem_block("PUBLIC KEY", _der(
            ed25519.Ed25519PublicKey.from_public_bytes(encoded.to_bytes(32, "little"))
        ))).algorithm.name == "ed25519"


# --- writing


@pytest.mark.parametrize("fixture", ["p256", "p384", "rsa2048", "ed25519_key"])
@pytest.mark.parametrize(
    ("format", "passphrase", "label"),
    [
        ("pem", None, "PRIVATE KEY"),
        ("pem", PASSPHRASE, "ENCRYPTED PRIVATE KEY"),
        ("cosign", PASSPHRASE, "ENCRYPTED SIGSTORE PRIVATE KEY"),
    ],
)
def test_written_key_is_read_again(
    fixture: str, format: t.Any, passphrase: bytes | None, label: str, request: pytest.FixtureRequest
) -> None:
    key = request.getfixturevalue(fixture)
    data = writing.write_private_key(key, format=format, passphrase=passphrase)
    assert _label(data) == label
    assert data.endswith(f"-----END {label}-----\n".encode())
    lines = data.splitlines()[1:-1]
    assert {len(line) for line in lines[:-1]} <= {64}
    assert 0 < len(lines[-1]) <= 64
    private = _private(data, passphrase)
    assert (private.format, private.encrypted) == (format, passphrase is not None)
    assert private.public.der == _der(key)
    if passphrase is not None:
        der = key.private_bytes(ENCODING.DER, PRIVATE.PKCS8, serialization.NoEncryption())
        assert der[-40:] not in base64.b64decode(b"".join(lines))
        assert passphrase not in data


def test_written_pkcs8_is_encrypted_with_aes_256(p256: t.Any) -> None:
    data = writing.write_private_key(p256, format="pem", passphrase=PASSPHRASE)
    der = base64.b64decode(b"".join(data.splitlines()[1:-1]))
    assert bytes.fromhex("060960864801650304012a") in der  # id-aes256-CBC


@pytest.mark.parametrize("format", ["pem", "cosign"])
@pytest.mark.parametrize(
    "passphrase", [b"", b"1234567", "\u00e9".encode() * 7, "\U0001f511".encode() * 2, b"\xff\xff"]
)
def test_new_key_wants_a_passphrase_of_eight_characters(
    format: t.Any, passphrase: bytes, p256: t.Any, assert_hides: Hides
) -> None:
    with pytest.raises(KeyFileError, match="a new key wants 8 or more characters, or none") as caught:
        writing.write_private_key(p256, format=format, passphrase=passphrase)
    assert (caught.value.code, caught.value.object) == ("passphrase_invalid", "passphrase")
    assert_hides(caught.value, passphrase)


@pytest.mark.parametrize("passphrase", [b"12345678", "\u00e9".encode() * 8, b"\xff" * 8, b" " * 8, b"x" * 1023])
def test_eight_characters_of_any_kind_are_enough(passphrase: bytes, p256: t.Any) -> None:
    data = writing.write_private_key(p256, format="pem", passphrase=passphrase)
    assert _private(data, passphrase).encrypted


def test_long_passphrase_is_taken_by_the_format_of_cosign(p256: t.Any) -> None:
    data = writing.write_private_key(p256, format="cosign", passphrase=b"x" * 5000)
    assert _private(data, b"x" * 5000).encrypted


def test_passphrase_too_long_for_pkcs8_is_refused_as_such(p256: t.Any) -> None:
    with pytest.raises(KeyFileError) as caught:
        writing.write_private_key(p256, format="pem", passphrase=b"x" * 1024)
    assert caught.value.code == "passphrase_invalid"


def test_format_of_cosign_wants_a_passphrase(p256: t.Any) -> None:
    with pytest.raises(KeyFileError, match="cosign's key format is always encrypted") as caught:
        writing.write_private_key(p256, format="cosign", passphrase=None)
    assert (caught.value.code, caught.value.object) == ("passphrase_invalid", "passphrase")


def test_every_error_says_what_to_do(golden: t.Callable[[str], bytes], pem_block: Write) -> None:
    errors = [
        _private_refused(golden("openssl-sm2.pem"), "unsupported_algorithm"),
        _public_refused(pem_block("PUBLIC KEY", b""), "malformed"),
    ]
    assert all(error.advice for error in errors)
