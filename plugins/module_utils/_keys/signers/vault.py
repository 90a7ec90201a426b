# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private keys of the Transit engine of Vault and OpenBao, by hvac.

As for their own tools and cosign, VAULT_ADDR, VAULT_TOKEN (or the file C(~/.vault-token)), VAULT_NAMESPACE,
VAULT_CACERT and TRANSIT_SECRET_ENGINE_PATH are read from the environment; for OpenBao also BAO_ADDR and BAO_TOKEN. Run
against a server of the documented API, not against Vault.
"""

from __future__ import annotations

import base64
import hashlib
import os
import typing as t
from contextlib import suppress

from ..._errors import KeyFileError
from ..._libraries import optional
from .. import pem
from ..algorithms import SCHEMES, able
from .service import Service, need
from .uri_scheme import VaultKey, invalid

with optional():
    import hvac
    from cryptography.hazmat.primitives.asymmetric import ed25519

if t.TYPE_CHECKING:
    from ..._reason_codes import ReasonCode

_CODES: dict[str, ReasonCode] = {
    "InvalidPath": "not_found", "Unauthorized": "unauthorized", "Forbidden": "unauthorized",
}


class VaultBackend:
    """One version of a key of the Transit engine."""

    def __init__(self, key: VaultKey, *, seconds: float) -> None:
        need("hvac")
        self._name = key.name
        self._where = str(key)
        self._mount = os.environ.get("TRANSIT_SECRET_ENGINE_PATH") or "transit"
        self._service = Service(str(key), seconds, _CODES, advice="Check VAULT_ADDR, the token and its policy.")
        address = os.environ.get("VAULT_ADDR") or os.environ.get("BAO_ADDR")
        if not address:
            raise invalid("neither VAULT_ADDR nor BAO_ADDR is set", "Set it for this task with environment.")
        self._client = hvac.Client(
            url=address, token=os.environ.get("VAULT_TOKEN") or os.environ.get("BAO_TOKEN") or None, timeout=10,
            namespace=os.environ.get("VAULT_NAMESPACE") or None,
        )
        # A key may be rotated at any time: the version that was read is the one that signs.
        self._version, self.public = self._service.ask("read the public key", lambda: self._read(key.version))
        self.schemes = tuple(name for name in able(self.public.algorithm) if name != "ed25519ph")

    def sign(self, message: bytes, scheme: str) -> bytes:
        """Return the signature; only the digest of the message is sent, but for Ed25519."""
        row = SCHEMES[scheme]
        data, options = message, {}
        if row.hash:
            data = hashlib.new(row.hash, message).digest()
            options = {"prehashed": True, "hash_algorithm": f"sha2-{row.hash[3:]}"}
        if row.family == "ec":
            options["marshaling_algorithm"] = "asn1"
        if row.family == "rsa":
            options["signature_algorithm"] = "pss" if row.is_pss else "pkcs1v15"
        if row.is_pss:
            options["salt_length"] = "hash"
        answer = self._service.ask("sign", lambda: self._client.secrets.transit.sign_data(
            self._name, hash_input=base64.b64encode(data).decode("ascii"), key_version=self._version,
            mount_point=self._mount, **options,
        ))
        with suppress(LookupError, TypeError, ValueError, AttributeError):
            return base64.b64decode(answer["data"]["signature"].split(":")[2], validate=True)
        return b""

    def _read(self, wanted: int | None) -> tuple[int, pem.PublicKey]:
        answer = self._client.secrets.transit.read_key(self._name, mount_point=self._mount)
        versions = {int(number): one for number, one in answer["data"]["keys"].items()}
        version = max(versions) if wanted is None else wanted
        found = versions.get(version)
        if not isinstance(found, dict) or "public_key" not in found:
            raise KeyFileError(
                code="not_found" if found is None else "unsupported_algorithm", object=self._where,
                attempt="read the public key",
                cause=f"version {version} is not there" if found is None else "it is a key that does not sign",
                advice=f"There are the versions {', '.join(str(number) for number in sorted(versions))}.",
            )
        text = str(found["public_key"])
        if not text.startswith("-----BEGIN"):
            # Ed25519 keys come bare.
            bare = ed25519.Ed25519PublicKey.from_public_bytes(base64.b64decode(text))
            return version, pem.public_key(bare, where=self._where)
        return version, pem.read_public_key(text.encode("ascii"), where=self._where)
