# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private keys of AWS KMS, by boto3. Credentials and region come from where AWS' own tools have them."""

from __future__ import annotations

import hashlib
import typing as t

from ..._libraries import optional
from .. import pem
from ..algorithms import SCHEMES
from .service import Service, need
from .uri_scheme import AwsKey

with optional():
    import boto3
    from botocore.config import Config
    from cryptography.hazmat.primitives import serialization

if t.TYPE_CHECKING:
    from ..._reason_codes import ReasonCode

_SCHEMES = {
    **{f"ECDSA_SHA_{size}": f"ecdsa-sha{size}" for size in (256, 384, 512)},
    **{f"RSASSA_PKCS1_V1_5_SHA_{size}": f"rsa-pkcs1v15-sha{size}" for size in (256, 384, 512)},
    **{f"RSASSA_PSS_SHA_{size}": f"rsa-pss-sha{size}" for size in (256, 384, 512)},
}
_ALGORITHMS = {scheme: name for name, scheme in _SCHEMES.items()}
_CODES: dict[str, ReasonCode] = {
    "NotFoundException": "not_found",
    **dict.fromkeys((
        "AccessDeniedException", "AccessDenied", "UnrecognizedClientException", "InvalidClientTokenId",
        "IncompleteSignature", "InvalidSignatureException", "SignatureDoesNotMatch", "ExpiredTokenException",
        "MissingAuthenticationToken", "DisabledException", "NoCredentialsError", "PartialCredentialsError",
        "CredentialRetrievalError", "ProfileNotFound",
    ), "unauthorized"),
    **dict.fromkeys(("NoRegionError", "InvalidArnException", "InvalidRegionError"), "input_invalid"),
    **dict.fromkeys(("InvalidKeyUsageException", "UnsupportedOperationException"), "unsupported_algorithm"),
}


def _names(error: Exception) -> list[str]:
    response = getattr(error, "response", None) or {}
    code = response.get("Error", {}).get("Code")
    return [str(code)] if code else [kind.__name__ for kind in type(error).__mro__]


class AwsBackend:
    """One key of AWS KMS."""

    def __init__(self, key: AwsKey, *, seconds: float) -> None:
        need("boto3")
        self._service = Service(str(key), seconds, _CODES, _names, advice="Check credentials, key policy and region.")
        self._client = self._service.ask("begin", lambda: boto3.client(
            "kms", region_name=key.region, endpoint_url=f"https://{key.endpoint}" if key.endpoint else None,
            config=Config(connect_timeout=5, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 2}),
        ))
        self._key_id, self.public, self.schemes = self._service.ask("read the public key", lambda: self._read(key))

    def _read(self, key: AwsKey) -> tuple[str, pem.PublicKey, tuple[str, ...]]:
        answer = self._client.get_public_key(KeyId=key.key)
        public = pem.public_key(serialization.load_der_public_key(answer["PublicKey"]), where=str(key))
        schemes = tuple(_SCHEMES[name] for name in answer.get("SigningAlgorithms") or () if name in _SCHEMES)
        # An alias may be given to another key at any time: the key that was read is the one that signs.
        return answer["KeyId"], public, schemes

    def sign(self, message: bytes, scheme: str) -> bytes:
        """Return the signature; only the digest of the message is sent."""
        digest = hashlib.new(SCHEMES[scheme].hash, message).digest()
        return self._service.ask("sign", lambda: bytes(self._client.sign(
            KeyId=self._key_id, Message=digest, MessageType="DIGEST", SigningAlgorithm=_ALGORITHMS[scheme],
        )["Signature"]))
