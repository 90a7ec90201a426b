# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The public keys of transparency logs, and the ids that entries name them by."""

from __future__ import annotations

import datetime
import hashlib
import typing as t
import urllib.parse
from dataclasses import dataclass, field

from .._errors import KeyFileError
from .._keys import algorithms, pem
from .._libraries import optional

with optional():
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

if t.TYPE_CHECKING:
    from .._keys.algorithms import AnyPublicKey

_SCHEMES = {"ec": "ecdsa-sha256", "rsa": "rsa-pkcs1v15-sha256", "ed25519": "ed25519"}
# C2SP signed-note: the type of Ed25519 keys, and the escape for types without a number with rekor-tiles' name for RSA.
_ED25519_TYPE = b"\x01"
_RSA_TYPE = b"\xffPKIX-RSA-PKCS#1v1.5"


@dataclass(frozen=True)
class LogKey:
    """The key of one log: its DER SubjectPublicKeyInfo, the host its checkpoints must name, and when it signs.

    None as host takes any name; None as a moment is no limit.
    """

    # Keys of older libraries do not compare; the DER says it all.
    public: AnyPublicKey = field(compare=False, repr=False)
    der: bytes
    host: str | None = None
    not_before: datetime.datetime | None = None
    not_after: datetime.datetime | None = None

    @property
    def id_v1(self) -> str:
        """The log id in entries of Rekor v1: lower-case hex SHA-256 of the key, whatever the log is called."""
        return hashlib.sha256(self.der).hexdigest()

    def id_v2(self, origin: str) -> bytes:
        """Return the log id in entries of Rekor v2: the whole key id of C2SP C(signed-note)."""
        if isinstance(self.public, ec.EllipticCurvePublicKey):
            return hashlib.sha256(self.der).digest()
        key = _RSA_TYPE + self.der
        if isinstance(self.public, ed25519.Ed25519PublicKey):
            key = _ED25519_TYPE + self.public.public_bytes(
                serialization.Encoding.Raw, serialization.PublicFormat.Raw
            )
        return hashlib.sha256(origin.encode("utf-8") + b"\n" + key).digest()

    def verifies(self, *, signature: bytes, message: bytes) -> bool:
        """Say whether the log signed C(message): ECDSA or RSA PKCS#1 v1.5 with SHA-256, or Ed25519."""
        family = algorithms.algorithm_of(self.public, where="log key").family
        return algorithms.verifies(
            self.public, signature=signature, message=message, schemes=(_SCHEMES[family],)
        )

    def is_valid_at(self, moment: datetime.datetime) -> bool:
        """Say whether the log signed with this key at C(moment); both limits are inside."""
        return (self.not_before is None or self.not_before <= moment) and (
            self.not_after is None or moment <= self.not_after
        )


def read(
    data: bytes,
    *,
    where: str,
    rekor_url: str | None = None,
    not_before: datetime.datetime | None = None,
    not_after: datetime.datetime | None = None,
) -> LogKey:
    """Read the one public key of a log, PEM; the host of its URL is what its checkpoints must name.

    Raises KeyFileError (malformed, unsupported_algorithm; input_invalid: a URL without a host).
    """
    public = pem.read_public_key(data, where=where)
    host = None if rekor_url is None else _host_of(rekor_url)
    return LogKey(public.key, public.der, host, not_before, not_after)


def _host_of(url: str) -> str:
    """Return the host of a URL without its port, as cosign compares it."""
    try:
        host = urllib.parse.urlsplit(url).hostname
    except ValueError:
        host = None
    if not host:
        raise KeyFileError(
            code="input_invalid", object="rekor_url", attempt="use it as the URL of a log",
            cause=f"{url[:200]!r} names no host", advice="Give the URL as https://HOST.",
        )
    return host
