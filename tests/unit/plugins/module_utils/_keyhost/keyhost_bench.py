# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of signing where the key lives share: an image, its messages as both cosigns write them, a signer."""

from __future__ import annotations

import datetime
import hashlib
import json
import typing as t

from ansible_collections.hallmark.signing.plugins.module_utils._keys import making, pem
from ansible_collections.hallmark.signing.plugins.module_utils._oci import reference as references

HEX = "3dc87e6a7cbb8bc6aa0d9bf6ff7b1cf3b5cb9b5b0e5be1a5b3e5a0cd54cfe361"
DIGEST = f"sha256:{HEX}"
OTHER_HEX = "0" * 64
NAME = "registry.example.org/acme/app"
ASKED = references.parse(f"{NAME}@{DIGEST}")
NOW = datetime.datetime(2030, 1, 2, 12, 0, 0, tzinfo=datetime.timezone.utc)


def sig(name: str = NAME, hex_digest: str = HEX, annotations: t.Mapping[str, str] | None = None) -> bytes:
    """Return the payload that cosign 2 signs, and cosign 3 with --new-bundle-format=false."""
    optional = json.dumps(annotations, separators=(",", ":"), sort_keys=True) if annotations else "null"
    return (
        f'{{"critical":{{"identity":{{"docker-reference":"{name}"}},"image":{{"docker-manifest-digest":"sha256:'
        f'{hex_digest}"}},"type":"cosign container image signature"}},"optional":{optional}}}'
    ).encode()


def statement(
    hex_digest: str = HEX, annotations: t.Mapping[str, str] | None = None, *, comma: str = ",", predicate: bool = True
) -> bytes:
    """Return the statement of cosign 3: with spaces in half of all builds, without a predicate in the first ones."""
    text = json.dumps(annotations or {}, separators=(comma, ":"), sort_keys=True, ensure_ascii=False)
    members = [
        '"_type":"https://in-toto.io/Statement/v1"',
        f'"subject":[{{"digest":{{"sha256":"{hex_digest}"}}{comma}"annotations":{text}}}]',
        '"predicateType":"https://sigstore.dev/cosign/sign/v1"', *(['"predicate":{}'] if predicate else []),
    ]
    return f"{{{comma.join(members)}}}".encode()


def pae(content: bytes) -> bytes:
    """Return the pre-authentication encoding."""
    return b"DSSEv1 28 application/vnd.in-toto+json %d " % len(content) + content


def bundle(*args: t.Any, **options: t.Any) -> bytes:
    """Return what cosign 3 signs."""
    return pae(statement(*args, **options))


SPELLINGS = [
    {"comma": comma, "predicate": predicate} for predicate in (True, False) for comma in (",", ", ")
]


def sha256(message: bytes) -> bytes:
    """Return the hash of a message."""
    return hashlib.sha256(message).digest()


class FakeSigner:
    """A key that counts what it signs, and can fail."""

    chooses_scheme = True

    def __init__(self, key: t.Any) -> None:
        self.key = key
        self.public = pem.public_key(key.public_key(), where="test")
        self.signed: list[bytes] = []
        self.prepared: list[bytes] = []
        self.error: Exception | None = None
        self.signs_with = key

    def answers_in(self, asked: str) -> str:
        """Return C(asked)."""
        return asked

    def prepare(self, messages: t.Collection[bytes]) -> None:
        """Take them down."""
        self.prepared += messages

    def sign(self, message: bytes, *, scheme: str | None = None) -> bytes:
        """Sign, and take it down."""
        self.signed.append(message)
        if self.error is not None:
            raise self.error
        return making.sign(self.signs_with, message, scheme=scheme)
