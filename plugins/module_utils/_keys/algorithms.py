# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which keys are used, under which names, and in which schemes each signs and verifies.

The names of keys are those of the module contract. Whatever is not in a table is refused by name.
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

Family = t.Literal["ec", "rsa", "ed25519"]


@dataclass(frozen=True)
class Algorithm:
    """One kind of key: contract name, family, size in bits, and the schemes that its signatures are read in.

    cosign 2 signs with SHA-256 whatever the curve, cosign 3 with the hash of the curve's size, and its Ed25519
    signatures are prehashed: a reader of all of them tries both. Hashes of one key do not weaken each other.
    """

    name: str
    family: Family
    size: int
    schemes: tuple[str, ...]


@dataclass(frozen=True)
class Scheme:
    """How a key of one family signs: the hash, and for RSA the padding."""

    name: str
    family: Family
    hash: str
    is_pss: bool = False


ALGORITHMS = (
    Algorithm("ecdsa-p256", "ec", 256, ("ecdsa-sha256",)),
    Algorithm("ecdsa-p384", "ec", 384, ("ecdsa-sha384", "ecdsa-sha256")),
    Algorithm("ecdsa-p521", "ec", 521, ("ecdsa-sha512", "ecdsa-sha256")),
    Algorithm("rsa-2048", "rsa", 2048, ("rsa-pkcs1v15-sha256",)),
    Algorithm("rsa-3072", "rsa", 3072, ("rsa-pkcs1v15-sha256",)),
    Algorithm("rsa-4096", "rsa", 4096, ("rsa-pkcs1v15-sha256",)),
    Algorithm("ed25519", "ed25519", 256, ("ed25519", "ed25519ph")),
)
SCHEMES = {
    scheme.name: scheme for scheme in (
        *(Scheme(f"ecdsa-{name}", "ec", name) for name in ("sha256", "sha384", "sha512")),
        *(Scheme(f"rsa-pkcs1v15-{name}", "rsa", name) for name in ("sha256", "sha384", "sha512")),
        *(Scheme(f"rsa-pss-{name}", "rsa", name, is_pss=True) for name in ("sha256", "sha384", "sha512")),
        Scheme("ed25519", "ed25519", ""),
        Scheme("ed25519ph", "ed25519", "sha512"),
    )
}
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


def able(algorithm: Algorithm) -> tuple[str, ...]:
    """Return the names of all schemes that keys of C(algorithm) can sign in."""
    return tuple(scheme.name for scheme in SCHEMES.values() if scheme.family == algorithm.family)


def scheme_for(algorithm: Algorithm, name: str, *, where: str) -> Scheme:
    """Return a scheme that keys of C(algorithm) can sign in. Raises KeyFileError (unsupported_algorithm)."""
    scheme = SCHEMES.get(name)
    if scheme is None or scheme.family != algorithm.family:
        raise KeyFileError(
            code="unsupported_algorithm", object=where, attempt=f"use the signature algorithm {name[:100]!r}",
            cause=f"keys of type {algorithm.name} cannot", advice=f"Use one of {', '.join(able(algorithm))}.",
        )
    return scheme


def verifies(
    key: AnyPublicKey, *, signature: bytes, message: bytes, schemes: t.Sequence[str] | None = None
) -> bool:
    """Say whether C(signature) over C(message) was made by C(key), in one of C(schemes).

    By default these are the schemes that cosign of any version uses for such a key. ECDSA signatures must be DER;
    other encodings are False. Raises KeyFileError for other keys; LibraryError for ed25519ph without PyNaCl.
    """
    algorithm = algorithm_of(key, where="public key")
    return any(
        _verifies(key, signature, message, scheme_for(algorithm, name, where="public key"))
        for name in schemes or algorithm.schemes
    )


def _verifies(key: AnyPublicKey, signature: bytes, message: bytes, scheme: Scheme) -> bool:
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, message, ec.ECDSA(hash_of(scheme)))
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, message, padding_of(scheme), hash_of(scheme))
        elif scheme.name == "ed25519":
            key.verify(signature, message)
        else:
            from . import ed25519ph

            return ed25519ph.verifies(key, signature=signature, message=message)
    except InvalidSignature:
        return False
    return True


def hash_of(scheme: Scheme) -> hashes.HashAlgorithm:
    """Return the hash of a scheme that has one."""
    return t.cast("hashes.HashAlgorithm", getattr(hashes, scheme.hash.upper())())


def padding_of(scheme: Scheme) -> padding.PKCS1v15 | padding.PSS:
    """Return the padding of a scheme for RSA."""
    if not scheme.is_pss:
        return padding.PKCS1v15()
    return padding.PSS(mgf=padding.MGF1(hash_of(scheme)), salt_length=padding.PSS.DIGEST_LENGTH)
