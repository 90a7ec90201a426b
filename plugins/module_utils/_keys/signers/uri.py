# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A signer whose key is named by a URI: in an HSM, or with a cloud service that signs.

Not by way of securesystemslib, whose URIs these are. Of its version 1.6.0: HSMSigner logs in for each signature and
knows P-256 and P-384 only; VaultSigner knows Ed25519 only, AzureSigner no RSA, AWSSigner no P-521; none takes a time
limit, a limit of retries or an endpoint. The libraries below it are used instead, each in a file of its own.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from ..._errors import KeyFileError
from .. import pem
from ..algorithms import able, scheme_for
from ..files import read_key_file
from ..fingerprint import expect_key_id
from . import spelling, uri_scheme

SECONDS = 30.0


class Backend(t.Protocol):
    """One kind of place where a key is. Both attributes are known once it is made."""

    public: pem.PublicKey
    schemes: tuple[str, ...]

    def sign(self, message: bytes, scheme: str) -> bytes:
        """Return a signature over C(message), ECDSA as DER or raw r and s. Raises KeyFileError."""


@dataclass(frozen=True)
class UriSigner:
    """Signs with a key that stays where it is; one login serves all images and threads of a task."""

    where: str
    public: pem.PublicKey
    schemes: tuple[str, ...]
    default: str
    backend: Backend = field(repr=False)

    @property
    def chooses_scheme(self) -> bool:
        """Whether the key can sign in each scheme of its kind; many services bind a key to one."""
        return set(able(self.public.algorithm)) <= set(self.schemes)

    def answers_in(self, asked: str | None) -> str:
        """Return the scheme in which it signs when it is asked for this one, or for none."""
        return asked if asked in self.schemes else self.default

    def prepare(self, messages: t.Collection[bytes]) -> None:
        """Do nothing: login, key and scheme were checked when the signer was made."""

    def sign(self, message: bytes, *, scheme: str | None = None) -> bytes:
        """Return the verified signature over C(message); in C(scheme) if the key can, else in the one it is for.

        Raises KeyFileError: service_unavailable, unauthorized, not_found, signature_invalid.
        """
        chosen = self.answers_in(scheme)
        answer = self.backend.sign(message, chosen)
        signature = spelling.verified(answer, message, self.public, schemes=(chosen,), is_text=False)
        if signature is None:
            raise KeyFileError(
                code="signature_invalid", object=self.where, attempt=f"sign in {chosen}",
                cause=f"what it returned is no signature by its key {self.public.key_id}",
                advice="Nothing was written with it; look there for what is wrong with the key or the device.",
            )
        return signature


def load(
    uri: str, *, pin: bytes | None = None, public_key_path: str | None = None, key_id: str | None = None,
    scheme: str | None = None, seconds: float = SECONDS,
) -> UriSigner:
    """Find the key, log in, and learn what it can; C(key_id) is the expected one or None.

    C(pin) is for HSMs; no other way is tried if it is wrong. C(scheme) is the only one to sign in, or None for a usual
    one. C(public_key_path) is compared with the key, and serves HSMs that hold no public half. Each question to a
    service may take C(seconds). Raises KeyFileError: input_invalid, not_found, passphrase_invalid, parent_unsafe,
    unauthorized, service_unavailable, key_mismatch, unsupported_algorithm; LibraryError.
    """
    key = uri_scheme.parse(uri)
    if pin is not None and not isinstance(key, uri_scheme.TokenKey):
        raise uri_scheme.invalid("a PIN is given, and only HSMs have one", "Leave the PIN out.")
    expected = None
    if public_key_path is not None:
        expected = pem.read_public_key(read_key_file(public_key_path), where=public_key_path)
        expect_key_id(expected.key_id, key_id, where=public_key_path)
    backend = _backend(key, pin, expected, seconds)
    if expected is not None and expected != backend.public:
        raise KeyFileError(
            code="key_mismatch", object=str(key), attempt="use the key",
            cause=f"its key id is {backend.public.key_id}, that of {public_key_path} is {expected.key_id}",
            advice="Find out which of them is meant.",
        )
    expect_key_id(backend.public.key_id, key_id, where=str(key))
    return UriSigner(str(key), backend.public, backend.schemes, _default(key, backend, scheme), backend)


def _backend(key: uri_scheme.AnyKey, pin: bytes | None, expected: pem.PublicKey | None, seconds: float) -> Backend:
    if isinstance(key, uri_scheme.TokenKey):
        from . import pkcs11

        return pkcs11.TokenBackend(key, pin=pin, public=expected, seconds=seconds)
    if isinstance(key, uri_scheme.AwsKey):
        from . import aws

        return aws.AwsBackend(key, seconds=seconds)
    if isinstance(key, uri_scheme.GcpKey):
        from . import gcp

        return gcp.GcpBackend(key, seconds=seconds)
    if isinstance(key, uri_scheme.AzureKey):
        from . import azure

        return azure.AzureBackend(key, seconds=seconds)
    from . import vault

    return vault.VaultBackend(key, seconds=seconds)


def _default(key: uri_scheme.AnyKey, backend: Backend, asked: str | None) -> str:
    """Return the scheme to sign in where no other is asked for. Raises KeyFileError (unsupported_algorithm)."""
    algorithm = backend.public.algorithm
    wanted = algorithm.schemes if asked is None else (scheme_for(algorithm, asked, where=str(key)).name,)
    found = next((name for name in wanted if name in backend.schemes), None)
    if found is None:
        raise KeyFileError(
            code="unsupported_algorithm", object=str(key), attempt=f"sign in {' or '.join(wanted)}",
            cause=f"the key signs in {', '.join(backend.schemes) + ' only' if backend.schemes else 'no known way'}",
            advice="Use another key, or ask for its scheme by signature_algorithm, which few readers may take.",
        )
    return found
