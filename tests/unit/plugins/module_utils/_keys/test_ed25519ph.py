# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of prehashed Ed25519 signatures, first of all with the test vector of RFC 8032."""

from __future__ import annotations

import hashlib
import sys
import types
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import LibraryError
from ansible_collections.hallmark.signing.plugins.module_utils._keys import algorithms, ed25519ph, making
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

pytest.importorskip("nacl", reason="PyNaCl is not installed")

# RFC 8032, section 7.3, "TEST abc".
SECRET = bytes.fromhex("833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42")
PUBLIC = bytes.fromhex("ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf")
SIGNATURE = bytes.fromhex(
    "98a70222f0b8121aa9d30f813d683f809e462b469c7ff87639499bb94e6dae41"
    "31f85042463c2a355a2003d062adf5aaa10b8c61e636062aaad11c2a26083406"
)
MESSAGE = b"abc"
ORDER = 2**252 + 27742317777372353535851937790883648493


@pytest.fixture
def key() -> ed25519.Ed25519PrivateKey:
    """The key of the test vector."""
    return ed25519.Ed25519PrivateKey.from_private_bytes(SECRET)


def _verifies(signature: bytes, message: bytes = MESSAGE, public: bytes = PUBLIC) -> bool:
    key = ed25519.Ed25519PublicKey.from_public_bytes(public)
    return ed25519ph.verifies(key, signature=signature, message=message)


def test_vector_of_the_rfc(key: ed25519.Ed25519PrivateKey) -> None:
    raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    assert raw == PUBLIC
    assert ed25519ph.sign(key, MESSAGE) == SIGNATURE
    assert _verifies(SIGNATURE) is True


def test_vector_is_reached_by_the_name_of_the_scheme(key: ed25519.Ed25519PrivateKey) -> None:
    assert making.sign(key, MESSAGE, scheme="ed25519ph") == SIGNATURE
    public = key.public_key()
    assert making.scheme_of(public, SIGNATURE, MESSAGE) == "ed25519ph"
    assert algorithms.verifies(public, signature=SIGNATURE, message=MESSAGE)
    assert not algorithms.verifies(public, signature=SIGNATURE, message=MESSAGE, schemes=("ed25519",))


@pytest.mark.parametrize("message", [b"", b"x", bytes(200000)])
def test_own_signature_verifies_over_its_message_only(key: ed25519.Ed25519PrivateKey, message: bytes) -> None:
    signature = ed25519ph.sign(key, message)
    assert len(signature) == 64
    assert _verifies(signature, message) is True
    assert _verifies(signature, message + b"\n") is False
    assert _verifies(signature, hashlib.sha512(message).digest()) is False


@pytest.mark.parametrize("position", [0, 31, 32, 63])
def test_altered_signature_does_not_verify(position: int) -> None:
    altered = bytearray(SIGNATURE)
    altered[position] ^= 1
    assert _verifies(bytes(altered)) is False


def test_signature_has_one_encoding() -> None:
    number = int.from_bytes(SIGNATURE[32:], "little") + ORDER
    assert _verifies(SIGNATURE[:32] + number.to_bytes(32, "little")) is False


@pytest.mark.parametrize("length", [0, 1, 32, 63, 65, 128])
def test_signature_has_one_length(length: int) -> None:
    assert _verifies((SIGNATURE * 2)[:length]) is False


def test_signature_of_another_key_does_not_verify(ed25519_key: ed25519.Ed25519PrivateKey) -> None:
    other = ed25519_key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    assert _verifies(SIGNATURE, public=other) is False


def test_plain_signatures_are_others(key: ed25519.Ed25519PrivateKey) -> None:
    # Over the message, or over its hash, which is not the same either: the prefix tells them apart.
    for message in (MESSAGE, hashlib.sha512(MESSAGE).digest()):
        assert _verifies(key.sign(message)) is False


@pytest.mark.parametrize("found", [None, types.SimpleNamespace(__version__="1.4.0")])
def test_library_is_required_both_ways(
    found: t.Any, key: ed25519.Ed25519PrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    # None is how Python marks a module that cannot be imported; the other one is too old.
    monkeypatch.setitem(sys.modules, "nacl", found)
    with pytest.raises(LibraryError, match="Install PyNaCl") as caught:
        making.sign(key, MESSAGE, scheme="ed25519ph")
    assert caught.value.code == "library_missing"
    with pytest.raises(LibraryError, match="Install PyNaCl"):
        algorithms.verifies(key.public_key(), signature=SIGNATURE, message=MESSAGE)


def test_plain_signatures_need_no_further_library(
    key: ed25519.Ed25519PrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nacl", None)
    signature = making.sign(key, MESSAGE)
    assert algorithms.verifies(key.public_key(), signature=signature, message=MESSAGE)
    # What cannot be a signature of any kind.
    assert not algorithms.verifies(key.public_key(), signature=b"", message=MESSAGE)
