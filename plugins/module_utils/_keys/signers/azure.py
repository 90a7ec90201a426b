# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private keys of Azure Key Vault, by azure-keyvault-keys. Credentials are the default ones of azure-identity.

Not run against the real service; against its client library with a transport of our own.
"""

from __future__ import annotations

import hashlib
import typing as t

from ..._libraries import optional
from .. import pem
from ..algorithms import SCHEMES
from .service import Service, need
from .uri_scheme import AzureKey

with optional():
    from azure.identity import DefaultAzureCredential
    from azure.keyvault.keys import KeyClient
    from azure.keyvault.keys.crypto import CryptographyClient, SignatureAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

if t.TYPE_CHECKING:
    from ..._reason_codes import ReasonCode

_CURVES = {"P-256": ("SECP256R1", "256"), "P-384": ("SECP384R1", "384"), "P-521": ("SECP521R1", "512")}
_CODES: dict[str, ReasonCode] = {
    "401": "unauthorized", "403": "unauthorized", "404": "not_found",
    "ClientAuthenticationError": "unauthorized", "ResourceNotFoundError": "not_found",
}
# azure-core asks ten times by default, and waits longer each time.
_LIMITS = {"retry_total": 1, "connection_timeout": 5, "read_timeout": 10}


def _names(error: Exception) -> list[str]:
    status = getattr(error, "status_code", None)
    code = getattr(getattr(error, "error", None), "code", None)
    return [*([str(code)] if code else []), *(kind.__name__ for kind in type(error).__mro__), str(status)]


class AzureBackend:
    """One version of a key of Azure Key Vault. Keys on curves sign in one scheme, RSA keys in all."""

    def __init__(self, key: AzureKey, *, seconds: float) -> None:
        need("azure.identity")
        need("azure.keyvault.keys")
        self._service = Service(str(key), seconds, _CODES, _names, advice="Check credentials and role.")
        credential = self._service.ask("begin", DefaultAzureCredential)
        reader = KeyClient(vault_url=f"https://{key.host}", credential=credential, **_LIMITS)
        found = self._service.ask("read the public key", lambda: reader.get_key(key.name, key.version))
        self.public, self.schemes = self._service.ask("read the public key", lambda: _public_key(found.key, str(key)))
        # By its identifier, which has the version: another one may become current at any time.
        self._client = CryptographyClient(found, credential=credential, **_LIMITS)

    def sign(self, message: bytes, scheme: str) -> bytes:
        """Return the signature, ECDSA as raw r and s; only the digest of the message is sent."""
        row = SCHEMES[scheme]
        kind = {"ec": "ES", "rsa": "PS" if row.is_pss else "RS"}[row.family]
        algorithm = SignatureAlgorithm(kind + row.hash[3:])
        digest = hashlib.new(row.hash, message).digest()
        return self._service.ask("sign", lambda: bytes(self._client.sign(algorithm, digest).signature))


def _public_key(key: t.Any, where: str) -> tuple[pem.PublicKey, tuple[str, ...]]:
    """Return the key of a JSON web key (RFC 7517), and the schemes that it signs in."""
    if key.crv in _CURVES:
        curve, size = _CURVES[key.crv]
        numbers = ec.EllipticCurvePublicNumbers(_number(key.x), _number(key.y), getattr(ec, curve)())
        return pem.public_key(numbers.public_key(), where=where), (f"ecdsa-sha{size}",)
    if getattr(key.kty, "value", key.kty) in ("RSA", "RSA-HSM"):
        schemes = tuple(name for name, row in SCHEMES.items() if row.family == "rsa")
        return pem.public_key(rsa.RSAPublicNumbers(_number(key.e), _number(key.n)).public_key(), where=where), schemes
    raise pem.unknown_algorithm(where)


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big")
