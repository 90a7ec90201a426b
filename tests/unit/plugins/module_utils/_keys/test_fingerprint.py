# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the key id."""

from __future__ import annotations

import base64
import hashlib
import re
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import KeyFileError
from ansible_collections.hallmark.signing.plugins.module_utils._keys import fingerprint
from cryptography.hazmat.primitives import serialization

ID = "0123456789abcdef" * 4


@pytest.mark.parametrize("name", ["cosign2", "cosign3", "cosign3-rsa2048", "openssl-p256"])
def test_key_id_is_the_digest_of_the_public_key_others_wrote(name: str, golden: t.Callable[[str], bytes]) -> None:
    text = golden(f"{name}.pub")
    der = base64.b64decode(b"".join(text.splitlines()[1:-1]))
    key = serialization.load_pem_public_key(text)
    assert fingerprint.spki_der(key) == der
    assert fingerprint.key_id(key) == hashlib.sha256(der).hexdigest()


def test_key_id_has_the_form_of_a_key_id(p256: t.Any, ed25519_key: t.Any) -> None:
    for key in (p256, ed25519_key):
        text = fingerprint.key_id(key.public_key())
        assert re.fullmatch("[0-9a-f]{64}", text)
        assert fingerprint.require_key_id(text, option="key_id") == text


@pytest.mark.parametrize(
    "text",
    [
        "", ID[:-1], ID + "0", ID.upper(), ID[:-1] + "G", ID + "\n", "\n" + ID, " " + ID, "sha256:" + ID,
        ID[:-1] + "\u0663", ID + "\n" + ID,
    ],
)
def test_other_forms_are_refused(text: str) -> None:
    with pytest.raises(KeyFileError, match="is not 64 lower-case hexadecimal characters") as caught:
        fingerprint.require_key_id(text, option="denied_key_ids")
    assert (caught.value.code, caught.value.object) == ("input_invalid", "denied_key_ids")


@pytest.mark.parametrize("expected", [None, ID])
def test_expected_key_is_taken(expected: str | None) -> None:
    fingerprint.expect_key_id(ID, expected, where="/srv/key")


def test_other_key_is_refused_with_both_ids() -> None:
    other = "f" * 64
    with pytest.raises(KeyFileError, match=f"its key id is {ID}, expected {other}") as caught:
        fingerprint.expect_key_id(ID, other, where="/srv/key")
    assert (caught.value.code, caught.value.object) == ("key_mismatch", "/srv/key")


@pytest.mark.parametrize("expected", ["", ID.upper(), ID[:16]])
def test_malformed_expectation_is_refused_as_such(expected: str) -> None:
    with pytest.raises(KeyFileError) as caught:
        fingerprint.expect_key_id(ID, expected, where="/srv/key")
    assert (caught.value.code, caught.value.object) == ("input_invalid", "key_id")
