# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of which keys are used, and how they sign and verify."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import KeyFileError
from ansible_collections.hallmark.signing.plugins.module_utils._keys import algorithms, making
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa, utils, x25519

MESSAGE = b"message"
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
# name: family, size, schemes that its signatures are read in, the first of which it signs in
TABLE = {
    "ecdsa-p256": ("ec", 256, ("ecdsa-sha256",)),
    "ecdsa-p384": ("ec", 384, ("ecdsa-sha384", "ecdsa-sha256")),
    "ecdsa-p521": ("ec", 521, ("ecdsa-sha512", "ecdsa-sha256")),
    "rsa-2048": ("rsa", 2048, ("rsa-pkcs1v15-sha256",)),
    "rsa-3072": ("rsa", 3072, ("rsa-pkcs1v15-sha256",)),
    "rsa-4096": ("rsa", 4096, ("rsa-pkcs1v15-sha256",)),
    "ed25519": ("ed25519", 256, ("ed25519", "ed25519ph")),
}
# name: family, hash, whether the padding is PSS
SCHEMES = {
    "ecdsa-sha256": ("ec", "sha256", False),
    "ecdsa-sha384": ("ec", "sha384", False),
    "ecdsa-sha512": ("ec", "sha512", False),
    "rsa-pkcs1v15-sha256": ("rsa", "sha256", False),
    "rsa-pkcs1v15-sha384": ("rsa", "sha384", False),
    "rsa-pkcs1v15-sha512": ("rsa", "sha512", False),
    "rsa-pss-sha256": ("rsa", "sha256", True),
    "rsa-pss-sha384": ("rsa", "sha384", True),
    "rsa-pss-sha512": ("rsa", "sha512", True),
    "ed25519": ("ed25519", "", False),
    "ed25519ph": ("ed25519", "sha512", False),
}
# The keys of the fixtures. RSA keys of other sizes differ in nothing that these tests look at.
KEYS = {
    "p256": "ecdsa-p256", "p384": "ecdsa-p384", "p521": "ecdsa-p521", "rsa2048": "rsa-2048", "ed25519_key": "ed25519",
}
ABLE = [(key, scheme) for key, name in KEYS.items() for scheme, row in SCHEMES.items() if row[0] == TABLE[name][0]]
UNABLE = [(name, scheme) for name, row in TABLE.items() for scheme, other in SCHEMES.items() if row[0] != other[0]]
HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512(),
}


def _rsa_public(bits: int) -> rsa.RSAPublicKey:
    """A public key of any size, at once: nobody has factored this modulus, and nobody needs to."""
    return rsa.RSAPublicNumbers(65537, 2 ** (bits - 1) + 1).public_key()


def _both_halves(key: t.Any) -> tuple[t.Any, t.Any]:
    return key, key.public_key()


def _der_integer(number: int, pad: bytes = b"") -> bytes:
    body = pad + number.to_bytes(number.bit_length() // 8 + 1, "big")
    return bytes((2, len(body))) + body


def test_table_has_the_names_of_the_contract() -> None:
    assert {row.name: (row.family, row.size, row.schemes) for row in algorithms.ALGORITHMS} == TABLE
    assert len(algorithms.ALGORITHMS) == len(TABLE)


def test_schemes_have_the_names_of_the_contract() -> None:
    assert {name: (row.family, row.hash, row.is_pss) for name, row in algorithms.SCHEMES.items()} == SCHEMES
    assert all(row.name == name for name, row in algorithms.SCHEMES.items())


@pytest.mark.parametrize("name", TABLE)
def test_rows_are_found_by_name(name: str) -> None:
    assert algorithms.by_name(name).name == name


@pytest.mark.parametrize("name", ["", "ecdsa-p224", "ECDSA-P256", "rsa-1024", "rsa"])
def test_other_names_are_unknown(name: str) -> None:
    with pytest.raises(KeyError):
        algorithms.by_name(name)


@pytest.mark.parametrize(
    ("curve", "name"),
    [(ec.SECP256R1(), "ecdsa-p256"), (ec.SECP384R1(), "ecdsa-p384"), (ec.SECP521R1(), "ecdsa-p521")],
)
def test_curves_are_recognised(curve: ec.EllipticCurve, name: str) -> None:
    for key in _both_halves(ec.generate_private_key(curve)):
        assert algorithms.algorithm_of(key, where="x").name == name


def test_ed25519_is_recognised(ed25519_key: ed25519.Ed25519PrivateKey) -> None:
    for key in _both_halves(ed25519_key):
        assert algorithms.algorithm_of(key, where="x").name == "ed25519"


@pytest.mark.parametrize("bits", [2048, 3072, 4096])
def test_rsa_sizes_are_recognised(bits: int) -> None:
    assert algorithms.algorithm_of(_rsa_public(bits), where="x").name == f"rsa-{bits}"


def test_rsa_private_key_is_recognised(rsa2048: rsa.RSAPrivateKey) -> None:
    assert algorithms.algorithm_of(rsa2048, where="x").name == "rsa-2048"


@pytest.mark.parametrize(
    ("key", "found"),
    [
        *((_rsa_public(bits), f"an RSA key of {bits} bits") for bits in (1024, 2047, 2049, 2560, 4097, 5120, 8192)),
        *(
            (key, f"an elliptic curve key on {curve.name}")
            for curve in (ec.SECP224R1(), ec.SECP256K1(), ec.BrainpoolP256R1(), ec.BrainpoolP384R1())
            for key in _both_halves(ec.generate_private_key(curve))
        ),
        (ed448.Ed448PrivateKey.generate(), "a key of type "),
        (ed448.Ed448PrivateKey.generate().public_key(), "a key of type "),
        (x25519.X25519PrivateKey.generate(), "a key of type "),
        (dsa.DSAPublicNumbers(4, dsa.DSAParameterNumbers(2**2047 + 1, 2**255 + 1, 2)).public_key(), "a key of type "),
        (b"key", "a key of type bytes"),
        (None, "a key of type NoneType"),
    ],
)
def test_other_keys_are_refused_by_name(key: object, found: str) -> None:
    with pytest.raises(KeyFileError, match="could not use the key: it is ") as caught:
        algorithms.algorithm_of(key, where="/srv/key")
    assert (caught.value.code, caught.value.object) == ("unsupported_algorithm", "/srv/key")
    assert caught.value.cause.startswith(f"it is {found}")
    assert ", ".join(TABLE) in caught.value.advice


@pytest.mark.parametrize(("key", "scheme"), ABLE)
def test_schemes_of_the_family_are_found_by_name(key: str, scheme: str) -> None:
    found = algorithms.scheme_for(algorithms.by_name(KEYS[key]), scheme, where="x")
    assert found is algorithms.SCHEMES[scheme]


@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        *UNABLE,
        *(
            (name, scheme)
            for name in TABLE
            for scheme in ("", "sha256", "ECDSA-SHA256", "ecdsa-sha1", "ecdsa-sha224", "rsa-pkcs1v15-sha1",
                           "rsa-pkcs1v15-sha224", "rsa-pss-sha1", "rsa-pss", "ed25519ctx", "ecdsa-sha256\n", "x" * 200)
        ),
    ],
)
def test_other_schemes_are_refused_by_name(name: str, scheme: str) -> None:
    algorithm = algorithms.by_name(name)
    with pytest.raises(KeyFileError) as caught:
        algorithms.scheme_for(algorithm, scheme, where="/srv/key")
    assert (caught.value.code, caught.value.object) == ("unsupported_algorithm", "/srv/key")
    assert caught.value.attempt == f"use the signature algorithm {scheme[:100]!r}"
    assert name in caught.value.cause
    able = [one for one, row in SCHEMES.items() if row[0] == algorithm.family]
    assert caught.value.advice == f"Use one of {', '.join(able)}."


# rsa-4096 takes seconds and is generated by the same line as these.
@pytest.mark.parametrize("name", ["ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "rsa-2048", "rsa-3072", "ed25519"])
def test_generated_key_is_of_the_algorithm(name: str) -> None:
    key = making.generate(algorithms.by_name(name))
    assert algorithms.algorithm_of(key, where="x").name == name
    if isinstance(key, rsa.RSAPrivateKey):
        assert key.public_key().public_numbers().e == 65537


def test_generated_keys_differ() -> None:
    keys = [making.generate(algorithms.by_name("ecdsa-p256")) for _turn in range(2)]
    assert keys[0].public_key() != keys[1].public_key()


# Signing and verifying -----------------------------------------------------------------------------------------------


def _by_library(key: t.Any, scheme: str, signature: bytes) -> None:
    """Verify with nothing of the code under test; raises InvalidSignature."""
    family, hash_name, is_pss = SCHEMES[scheme]
    if family == "ed25519":
        key.public_key().verify(signature, MESSAGE)
    elif family == "ec":
        key.public_key().verify(signature, MESSAGE, ec.ECDSA(HASHES[hash_name]))
    else:
        size = HASHES[hash_name].digest_size
        scheme_padding = padding.PSS(padding.MGF1(HASHES[hash_name]), size) if is_pss else padding.PKCS1v15()
        key.public_key().verify(signature, MESSAGE, scheme_padding, HASHES[hash_name])


@pytest.mark.parametrize(("fixture", "scheme"), ABLE)
def test_signature_in_a_scheme_is_one_in_no_other(fixture: str, scheme: str, request: pytest.FixtureRequest) -> None:
    key = request.getfixturevalue(fixture)
    public = key.public_key()
    signature = making.sign(key, MESSAGE, scheme=scheme)
    # The prehashed form has a test vector of its own: see test_ed25519ph.py.
    if scheme != "ed25519ph":
        _by_library(key, scheme, signature)
    fitting = [
        other for one, other in ABLE
        if one == fixture
        and algorithms.verifies(public, signature=signature, message=MESSAGE, schemes=(other,))
    ]
    assert fitting == [scheme]
    every = [other for one, other in ABLE if one == fixture]
    assert algorithms.verifies(public, signature=signature, message=MESSAGE, schemes=every)
    every.remove(scheme)
    assert not algorithms.verifies(public, signature=signature, message=MESSAGE, schemes=every)
    assert not algorithms.verifies(public, signature=signature, message=MESSAGE + b"\n", schemes=(scheme,))
    assert making.scheme_of(public, signature, MESSAGE) == scheme
    # By default, the schemes of the table and no other.
    usual = scheme in TABLE[KEYS[fixture]][2]
    assert algorithms.verifies(public, signature=signature, message=MESSAGE) is usual


@pytest.mark.parametrize(("fixture", "name"), KEYS.items())
def test_default_is_the_first_scheme_of_the_key(fixture: str, name: str, request: pytest.FixtureRequest) -> None:
    key = request.getfixturevalue(fixture)
    signature = making.sign(key, MESSAGE)
    assert making.scheme_of(key.public_key(), signature, MESSAGE) == TABLE[name][2][0]
    _by_library(key, TABLE[name][2][0], signature)


def test_ecdsa_signature_is_der(p256: ec.EllipticCurvePrivateKey) -> None:
    signature = making.sign(p256, MESSAGE)
    assert utils.encode_dss_signature(*utils.decode_dss_signature(signature)) == signature


def test_rsa_signature_is_pkcs1_v15_over_sha256(rsa2048: rsa.RSAPrivateKey) -> None:
    assert making.sign(rsa2048, MESSAGE) == rsa2048.sign(MESSAGE, padding.PKCS1v15(), hashes.SHA256())


@pytest.mark.parametrize("fixture", KEYS)
def test_nobody_signs_in_a_scheme_of_other_keys(fixture: str, request: pytest.FixtureRequest) -> None:
    key = request.getfixturevalue(fixture)
    for scheme in {*SCHEMES, "ecdsa-sha1"} - {scheme for one, scheme in ABLE if one == fixture}:
        with pytest.raises(KeyFileError) as caught:
            making.sign(key, MESSAGE, scheme=scheme)
        assert (caught.value.code, caught.value.object) == ("unsupported_algorithm", "signing key")
        with pytest.raises(KeyFileError) as caught:
            algorithms.verifies(key.public_key(), signature=b"", message=MESSAGE, schemes=(scheme,))
        assert (caught.value.code, caught.value.object) == ("unsupported_algorithm", "public key")


def test_scheme_of_what_the_key_did_not_sign(p256: t.Any, p384: t.Any) -> None:
    signature = making.sign(p256, MESSAGE)
    for key, message in ((p384, MESSAGE), (p256, MESSAGE + b"\n")):
        with pytest.raises(KeyFileError) as caught:
            making.scheme_of(key.public_key(), signature, message)
        assert caught.value.code == "signature_invalid"


def test_unknown_curves_neither_sign_nor_verify() -> None:
    key = ec.generate_private_key(ec.SECP256K1())
    with pytest.raises(KeyFileError, match="secp256k1"):
        making.sign(key, MESSAGE)
    with pytest.raises(KeyFileError, match="secp256k1"):
        algorithms.verifies(
            key.public_key(), signature=key.sign(MESSAGE, ec.ECDSA(hashes.SHA256())), message=MESSAGE
        )


@pytest.mark.parametrize("fixture", KEYS)
@pytest.mark.parametrize("message", [b"", MESSAGE, bytes(100000)])
def test_own_signature_verifies_over_its_message_only(
    fixture: str, message: bytes, request: pytest.FixtureRequest
) -> None:
    key = request.getfixturevalue(fixture)
    signature = making.sign(key, message)
    assert algorithms.verifies(key.public_key(), signature=signature, message=message) is True
    assert algorithms.verifies(key.public_key(), signature=signature, message=message + b"\n") is False


def test_signature_of_another_key_does_not_verify(p256: t.Any, rsa2048: t.Any) -> None:
    other = making.generate(algorithms.by_name("ecdsa-p256"))
    for signer in (other, rsa2048):
        signature = making.sign(signer, MESSAGE)
        assert algorithms.verifies(p256.public_key(), signature=signature, message=MESSAGE) is False
    signature = making.sign(p256, MESSAGE)
    assert algorithms.verifies(rsa2048.public_key(), signature=signature, message=MESSAGE) is False


@pytest.mark.parametrize("algorithm", [hashes.SHA1(), hashes.SHA224(), hashes.SHA3_256(), hashes.SHA512_256()])
@pytest.mark.parametrize("fixture", ["p256", "p384", "p521", "rsa2048"])
def test_other_hashes_do_not_verify_in_any_scheme(
    algorithm: hashes.HashAlgorithm, fixture: str, request: pytest.FixtureRequest
) -> None:
    key = request.getfixturevalue(fixture)
    scheme = (padding.PKCS1v15(), algorithm) if fixture == "rsa2048" else (ec.ECDSA(algorithm),)
    signature = key.sign(MESSAGE, *scheme)
    for schemes in (None, [other for one, other in ABLE if one == fixture]):
        assert not algorithms.verifies(key.public_key(), signature=signature, message=MESSAGE, schemes=schemes)


@pytest.mark.parametrize("salt", [0, 20, 64, padding.PSS.MAX_LENGTH])
def test_pss_has_a_salt_as_long_as_the_hash(salt: t.Any, rsa2048: rsa.RSAPrivateKey) -> None:
    signature = rsa2048.sign(MESSAGE, padding.PSS(padding.MGF1(hashes.SHA256()), salt), hashes.SHA256())
    assert not algorithms.verifies(
        rsa2048.public_key(), signature=signature, message=MESSAGE, schemes=("rsa-pss-sha256",)
    )


def test_pss_has_a_mask_of_the_same_hash(rsa2048: rsa.RSAPrivateKey) -> None:
    signature = rsa2048.sign(MESSAGE, padding.PSS(padding.MGF1(hashes.SHA1()), 32), hashes.SHA256())
    assert not algorithms.verifies(
        rsa2048.public_key(), signature=signature, message=MESSAGE, schemes=("rsa-pss-sha256",)
    )


def test_prehashed_message_does_not_verify(p256: t.Any) -> None:
    digest = hashes.Hash(hashes.SHA256())
    digest.update(MESSAGE)
    signature = making.sign(p256, MESSAGE)
    assert not algorithms.verifies(p256.public_key(), signature=signature, message=digest.finalize())


def test_ecdsa_signature_has_one_encoding(p256: ec.EllipticCurvePrivateKey) -> None:
    signature = making.sign(p256, MESSAGE)
    r, s = utils.decode_dss_signature(signature)
    body = _der_integer(r) + _der_integer(s)
    padded = _der_integer(r, b"\x00\x00") + _der_integer(s)
    others = (
        r.to_bytes(32, "big") + s.to_bytes(32, "big"),
        signature + b"\x00",
        signature[:-1],
        bytes((0x30, 0x81, len(body))) + body,
        bytes((0x30, len(padded))) + padded,
        b"\x30\x80" + body + b"\x00\x00",
    )
    for other in others:
        assert algorithms.verifies(p256.public_key(), signature=other, message=MESSAGE) is False


def test_ecdsa_signature_with_either_s_verifies(p256: ec.EllipticCurvePrivateKey) -> None:
    r, s = utils.decode_dss_signature(making.sign(p256, MESSAGE))
    for value in (s, P256_ORDER - s):
        signature = utils.encode_dss_signature(r, value)
        assert algorithms.verifies(p256.public_key(), signature=signature, message=MESSAGE) is True


@pytest.mark.parametrize(("r", "s"), [(0, 0), (1, 0), (0, 1), (P256_ORDER, P256_ORDER), (P256_ORDER, 1)])
def test_degenerate_ecdsa_signatures_do_not_verify(r: int, s: int, p256: ec.EllipticCurvePrivateKey) -> None:
    signature = utils.encode_dss_signature(r, s)
    assert algorithms.verifies(p256.public_key(), signature=signature, message=MESSAGE) is False


@pytest.mark.parametrize("fixture", KEYS)
@pytest.mark.parametrize("signature", [b"", b"\x00", b"\x30\x00", bytes(64), bytes(256), b"\xff" * 256, bytes(100000)])
def test_rubbish_does_not_verify(fixture: str, signature: bytes, request: pytest.FixtureRequest) -> None:
    key = request.getfixturevalue(fixture).public_key()
    assert algorithms.verifies(key, signature=signature, message=MESSAGE) is False


def test_rsa_signature_has_one_length(rsa2048: rsa.RSAPrivateKey) -> None:
    signature = making.sign(rsa2048, MESSAGE)
    for other in (signature + b"\x00", b"\x00" + signature, signature[:-1]):
        assert algorithms.verifies(rsa2048.public_key(), signature=other, message=MESSAGE) is False
