# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Making keys and signatures."""

from __future__ import annotations

import typing as t

from .._errors import KeyFileError
from .._libraries import optional
from .algorithms import Algorithm, able, algorithm_of, hash_of, padding_of, scheme_for, verifies

with optional():
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

if t.TYPE_CHECKING:
    from .algorithms import AnyPrivateKey, AnyPublicKey


def generate(algorithm: Algorithm) -> AnyPrivateKey:
    """Return a new private key of C(algorithm)."""
    if algorithm.family == "ec":
        curves: dict[int, ec.EllipticCurve] = {256: ec.SECP256R1(), 384: ec.SECP384R1(), 521: ec.SECP521R1()}
        return ec.generate_private_key(curves[algorithm.size])
    if algorithm.family == "rsa":
        return rsa.generate_private_key(public_exponent=65537, key_size=algorithm.size)
    return ed25519.Ed25519PrivateKey.generate()


def sign(key: AnyPrivateKey, message: bytes, *, scheme: str | None = None) -> bytes:
    """Return the signature over C(message) in one scheme, by default the first that readers of the key try.

    ECDSA signatures are DER, salts of RSASSA-PSS as long as the hash. Raises KeyFileError for other keys and schemes;
    LibraryError for ed25519ph without PyNaCl.
    """
    algorithm = algorithm_of(key, where="signing key")
    chosen = scheme_for(algorithm, scheme or algorithm.schemes[0], where="signing key")
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(message, ec.ECDSA(hash_of(chosen)))
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(message, padding_of(chosen), hash_of(chosen))
    if chosen.name == "ed25519":
        return key.sign(message)
    from . import ed25519ph

    return ed25519ph.sign(key, message)


def scheme_of(key: AnyPublicKey, signature: bytes, message: bytes) -> str:
    """Return the scheme in which a signature by C(key) was made. Raises KeyFileError (signature_invalid)."""
    for name in able(algorithm_of(key, where="public key")):
        if verifies(key, signature=signature, message=message, schemes=(name,)):
            return name
    raise KeyFileError(
        code="signature_invalid", object="signature", attempt="find out how it was made",
        cause="the key did not make it", advice="Sign anew.",
    )
