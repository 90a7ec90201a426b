# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private keys of Google Cloud KMS, by google-cloud-kms. Credentials are the application default ones.

Not run against the real service; against its client library with a transport of our own.
"""

from __future__ import annotations

import hashlib
import re
import typing as t

from ..._libraries import optional
from .. import pem
from ..algorithms import SCHEMES
from .service import Service, need
from .uri_scheme import GcpKey

with optional():
    from google.cloud import kms

if t.TYPE_CHECKING:
    from ..._reason_codes import ReasonCode

_ALGORITHM = re.compile(r"(?:EC_SIGN_P[0-9]+|RSA_SIGN_(?P<padding>PSS|PKCS1)_[0-9]+)_SHA(?P<hash>256|384|512)")
_CODES: dict[str, ReasonCode] = {
    "NotFound": "not_found",
    **dict.fromkeys((
        "PermissionDenied", "Forbidden", "Unauthenticated", "Unauthorized", "DefaultCredentialsError", "RefreshError",
        "FailedPrecondition",
    ), "unauthorized"),
    "InvalidArgument": "input_invalid",
}


class GcpBackend:
    """One version of a key of Google Cloud KMS. It signs in one scheme."""

    def __init__(self, key: GcpKey, *, seconds: float) -> None:
        need("google.cloud.kms")
        self._name = key.name
        self._service = Service(str(key), seconds, _CODES, advice="Check credentials, role and the version's state.")
        self._client = self._service.ask("begin", kms.KeyManagementServiceClient)
        self.public, self.schemes = self._service.ask("read the public key", self._read)

    def _read(self) -> tuple[pem.PublicKey, tuple[str, ...]]:
        answer = self._client.get_public_key(request={"name": self._name}, timeout=self._service.seconds)
        public = pem.read_public_key(answer.pem.encode("ascii"), where=self._service.where)
        match = _ALGORITHM.fullmatch(answer.algorithm.name)
        kinds = {"PSS": "rsa-pss", "PKCS1": "rsa-pkcs1v15", None: "ecdsa"}
        return public, () if match is None else (f"{kinds[match['padding']]}-sha{match['hash']}",)

    def sign(self, message: bytes, scheme: str) -> bytes:
        """Return the signature; only the digest of the message is sent."""
        name = SCHEMES[scheme].hash
        request = {"name": self._name, "digest": {name: hashlib.new(name, message).digest()}}
        return self._service.ask("sign", lambda: bytes(self._client.asymmetric_sign(
            request=request, timeout=self._service.seconds
        ).signature))
