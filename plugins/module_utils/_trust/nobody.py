# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A public key that nobody has the private half of: trusted where no key may be, so that nothing is admitted."""

from __future__ import annotations

import hashlib

from .._keys import pem
from .._libraries import optional

with optional():
    from cryptography.hazmat.primitives.asymmetric import ec


def make() -> str:
    """Return its PEM. The private half is let go here, and was never anywhere else."""
    return pem.public_key(ec.generate_private_key(ec.SECP256R1()).public_key(), where="nobody").pem


def of(identity: str) -> str:
    """Return the PEM of an identity that has no key: a point of the curve P-256 that follows from its name alone.

    Its x-coordinate is a hash, so that whoever knew the private half would have taken a discrete logarithm.
    """
    for number in range(256):
        hashed = hashlib.sha256(f"hallmark.signing: nobody signs for {identity}: {number}".encode()).digest()
        try:
            key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x02" + hashed)
        except ValueError:
            continue
        return pem.public_key(key, where="nobody").pem
    raise AssertionError("half of all numbers are coordinates of points")
