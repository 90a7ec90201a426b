# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""AWS KMS for tests: moto's server, with two defects of its signatures mended in this process.

    aws_kms.py PORT

It answers at http://127.0.0.1:PORT until it is stopped. moto hashes what it signs also where MessageType is DIGEST,
which AWS takes as the hash itself; and it salts RSASSA-PSS with as much as fits, where AWS uses the length of the hash.
"""

from __future__ import annotations

import sys
import typing as t

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, utils
from moto.kms.exceptions import ValidationException
from moto.kms.models import KmsBackend
from moto.kms.responses import KmsResponse
from moto.server import main as serve

_HASHES = {"256": hashes.SHA256, "384": hashes.SHA384, "512": hashes.SHA512}
_plain_response = KmsResponse.sign


def _sign(self: KmsBackend, key_id: str, message: bytes, signing_algorithm: str) -> tuple[str, bytes, str]:
    key = self.describe_key(key_id)
    if signing_algorithm not in (key.signing_algorithms or ()):
        raise ValidationException(f"{signing_algorithm} is not valid for key {key.arn}")
    algorithm = _HASHES[signing_algorithm[-3:]]()
    if len(message) != algorithm.digest_size:
        raise ValidationException("Digest is invalid length for algorithm")
    private: t.Any = key.private_key.private_key
    chosen = utils.Prehashed(algorithm)
    if signing_algorithm.startswith("ECDSA"):
        return key.arn, private.sign(message, ec.ECDSA(chosen)), signing_algorithm
    pss = padding.PSS(mgf=padding.MGF1(algorithm), salt_length=algorithm.digest_size)
    pad = pss if "PSS" in signing_algorithm else padding.PKCS1v15()
    return key.arn, private.sign(message, pad, chosen), signing_algorithm


def _respond(self: KmsResponse) -> str:
    # The backend is not told the type of the message; those of the product are all digests.
    if self._get_param("MessageType") != "DIGEST":
        raise ValidationException("this test wants MessageType DIGEST: messages above 4096 bytes need it")
    return _plain_response(self)


def main() -> None:
    """Run the command line."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    KmsBackend.sign = _sign  # type: ignore[method-assign]
    KmsResponse.sign = _respond  # type: ignore[method-assign]
    serve(["-H", "127.0.0.1", "-p", sys.argv[1]])


if __name__ == "__main__":
    main()
