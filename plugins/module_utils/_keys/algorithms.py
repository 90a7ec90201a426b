# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which keys are used, under which names, and how each signs and verifies.

The names are those of the module contract. Whatever is not in the table is refused by name.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from .._errors import KeyFileError
from .._libraries import optional

with optional():
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

if t.TYPE_CHECKING:
    AnyPrivateKey = t.Union[ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey, ed25519.Ed25519PrivateKey]
    AnyPublicKey = t.Union[ec.EllipticCurvePublicKey, rsa.RSAPublicKey, ed25519.Ed25519PublicKey]


@dataclass(frozen=True)
class Algorithm:
    """One row of the table: contract name, family, size in bits, and whether images can be signed with it."""

    name: str
    family: t.Literal["ec", "rsa", "ed25519"]
    size: int
    signs_images: bool


ALGORITHMS = (
    Algorithm("ecdsa-p256", "ec", 256, True),
    Algorithm("ecdsa-p384", "ec", 384, False),
    Algorithm("ecdsa-p521", "ec", 521, False),
    Algorithm("rsa-2048", "rsa", 2048, True),
    Algorithm("rsa-3072", "rsa", 3072, True),
    Algorithm("rsa-4096", "rsa", 4096, True),
    Algorithm("ed25519", "ed25519", 256, False),
)
_CURVES = {"secp256r1": "ecdsa-p256", "secp384r1": "ecdsa-p384", "secp521r1": "ecdsa-p521"}


def by_name(name: str) -> Algorithm:
    """Return the row of a contract name. Raises KeyError for any other."""
    return {algorithm.name: algorithm for algorithm in ALGORITHMS}[name]


def algorithm_of(key: object, *, where: str) -> Algorithm:
    """Return the row of a C(cryptography) public or private key.

    Raises KeyFileError (unsupported_algorithm) that names the curve or size found.
    """
    if isinstance(key, (ec.EllipticCurvePublicKey, ec.EllipticCurvePrivateKey)):
        if key.curve.name in _CURVES:
            return by_name(_CURVES[key.curve.name])
        found = f"an elliptic curve key on {key.curve.name}"
    elif isinstance(key, (rsa.RSAPublicKey, rsa.RSAPrivateKey)):
        if key.key_size in (2048, 3072, 4096):
            return by_name(f"rsa-{key.key_size}")
        found = f"an RSA key of {key.key_size} bits"
    elif isinstance(key, (ed25519.Ed25519PublicKey, ed25519.Ed25519PrivateKey)):
        return by_name("ed25519")
    else:
        found = f"a key of type {type(key).__name__}"
    raise KeyFileError(
        code="unsupported_algorithm", object=where, attempt="use the key", cause=f"it is {found}",
        advice=f"Use one of {', '.join(algorithm.name for algorithm in ALGORITHMS)}.",
    )


def require_signing(algorithm: Algorithm, *, where: str) -> None:
    """Refuse an algorithm that image signatures are not made or verified with.

    P-384, P-521 and Ed25519 image signatures are read differently by each cosign version.
    Raises KeyFileError (unsupported_algorithm).
    """
    if not algorithm.signs_images:
        able = ", ".join(row.name for row in ALGORITHMS if row.signs_images)
        raise KeyFileError(
            code="unsupported_algorithm", object=where, attempt="sign or verify images with the key",
            cause=f"{algorithm.name} image signatures are not read alike by all cosign versions",
            advice=f"Use one of {able}.",
        )


def generate(algorithm: Algorithm) -> AnyPrivateKey:
    """Return a new private key of C(algorithm)."""
    if algorithm.family == "ec":
        curves: dict[int, ec.EllipticCurve] = {256: ec.SECP256R1(), 384: ec.SECP384R1(), 521: ec.SECP521R1()}
        return ec.generate_private_key(curves[algorithm.size])
    if algorithm.family == "rsa":
        return rsa.generate_private_key(public_exponent=65537, key_size=algorithm.size)
    return ed25519.Ed25519PrivateKey.generate()


def sign(key: AnyPrivateKey, message: bytes) -> bytes:
    """Return the signature over C(message): ECDSA with SHA-256 in DER, or RSA PKCS#1 v1.5 with SHA-256.

    The scheme cosign uses for these keys in every version (signature registry PKIX_ECDSA_P256_SHA_256,
    PKIX_RSA_PKCS1V15_*_SHA256). Raises KeyFileError for other keys.
    """
    require_signing(algorithm_of(key, where="signing key"), where="signing key")
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(message, ec.ECDSA(hashes.SHA256()))
    return t.cast("rsa.RSAPrivateKey", key).sign(message, padding.PKCS1v15(), hashes.SHA256())


def verifies(key: AnyPublicKey, *, signature: bytes, message: bytes) -> bool:
    """Say whether C(signature) over C(message) was made by C(key), in the scheme of C(sign()).

    ECDSA signatures must be DER; other encodings and hashes are False. Raises KeyFileError for keys that do
    not sign images.
    """
    require_signing(algorithm_of(key, where="public key"), where="public key")
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
        else:
            t.cast("rsa.RSAPublicKey", key).verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return False
    return True
