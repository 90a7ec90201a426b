# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of signatures that another host returned: each is verified, and stands for its bytes only."""

from __future__ import annotations

import base64
import hashlib
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import KeyFileError
from ansible_collections.hallmark.signing.plugins.module_utils._keys import fingerprint, making
from ansible_collections.hallmark.signing.plugins.module_utils._keys.signers import protocol, returned

MESSAGE, OTHER = b"the one", b"the other"
Write = t.Callable[..., bytes]


def _entry(key: t.Any, public: bytes, message: bytes = MESSAGE, **changed: t.Any) -> dict[str, t.Any]:
    signature = base64.b64encode(making.sign(key, message, scheme=changed.pop("scheme", None))).decode()
    sha256 = hashlib.sha256(message).hexdigest()
    return {"sha256": sha256, "signature": signature, "public_key": public.decode(), **changed}


@pytest.fixture
def make(p256: t.Any, public_pem: Write) -> t.Callable[..., dict[str, t.Any]]:
    """Makes an entry by the usual key."""
    return lambda message=MESSAGE, **changed: _entry(p256, public_pem(p256), message, **changed)


def _load(
    *entries: dict[str, t.Any], key_id: str | None = None, scheme: str | None = None, dry_run: bool = False
) -> returned.ReturnedSigner:
    return returned.load(entries, key_id=key_id, scheme=scheme, dry_run=dry_run)


def _refused(*entries: dict[str, t.Any], **options: t.Any) -> KeyFileError:
    with pytest.raises(KeyFileError) as caught:
        _load(*entries, **options)
    assert caught.value.object == "signatures"
    return caught.value


def _not_signed(signer: returned.ReturnedSigner, message: bytes = MESSAGE) -> KeyFileError:
    for use in (signer.sign, lambda one: signer.prepare([one])):
        with pytest.raises(KeyFileError) as caught:
            use(message)
    return caught.value


@pytest.mark.parametrize("fixture", ["p256", "p384", "p521", "rsa2048", "ed25519_key"])
def test_signatures_are_handed_out(fixture: str, request: pytest.FixtureRequest, public_pem: Write) -> None:
    key = request.getfixturevalue(fixture)
    entries = [_entry(key, public_pem(key), message) for message in (MESSAGE, OTHER)]
    signer: protocol.Signer = _load(*entries)
    assert signer.public.pem.encode() == public_pem(key)
    assert signer.chooses_scheme is False
    signer.prepare([MESSAGE, OTHER])
    for entry, message in zip(entries, (MESSAGE, OTHER)):
        assert signer.sign(message) == base64.b64decode(entry["signature"])
        assert signer.sign(message, scheme="ecdsa-sha512") == base64.b64decode(entry["signature"])


def test_further_members_do_not_matter(make: t.Any) -> None:
    assert _load(make(digest="sha256:0", format="sig", key_id="0" * 64)).sign(MESSAGE)


def test_expected_key_is_taken_and_another_refused(make: t.Any, p256: t.Any) -> None:
    own = fingerprint.key_id(p256.public_key())
    assert _load(make(), key_id=own).public.key_id == own
    assert _refused(make(), key_id="0" * 64).code == "key_mismatch"


def test_what_was_not_signed_is_told(make: t.Any) -> None:
    signer = _load(make())
    error = _not_signed(signer, OTHER)
    assert error.code == "not_found"
    assert hashlib.sha256(OTHER).hexdigest() in error.cause
    with pytest.raises(KeyFileError):
        signer.prepare([MESSAGE, OTHER])


def _flipped(entry: dict[str, t.Any], place: int) -> dict[str, t.Any]:
    data = bytearray(base64.b64decode(entry["signature"]))
    data[place] ^= 1
    return {**entry, "signature": base64.b64encode(data).decode()}


def test_signature_that_is_none_is_refused(make: t.Any, other_key: t.Any, public_pem: Write, p256: t.Any) -> None:
    good = make()
    length = len(base64.b64decode(good["signature"]))
    # The first bytes are those of the encoding, the last ones of the number.
    for bad in (
        _flipped(good, 0), _flipped(good, 1), _flipped(good, length - 1), {**good, "signature": ""},
        {**good, "signature": base64.b64encode(base64.b64decode(good["signature"])[:-1]).decode()},
        {**good, "signature": base64.b64encode(base64.b64decode(good["signature"]) + b"\0").decode()},
        {**good, "signature": make(OTHER)["signature"]}, _entry(other_key, public_pem(p256)),
    ):
        error = _not_signed(_load(bad))
        assert error.code == "signature_invalid"
        assert good["sha256"] in error.cause
    # An entry that says it is over other bytes is none over these.
    assert _not_signed(_load({**good, "sha256": hashlib.sha256(OTHER).hexdigest()})).code == "not_found"


@pytest.fixture(scope="module")
def other_key() -> t.Any:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def test_foreign_key_is_another_one(make: t.Any, other_key: t.Any, public_pem: Write, p256: t.Any) -> None:
    foreign = _entry(other_key, public_pem(other_key), OTHER)
    assert _refused(make(), foreign).code == "key_mismatch"
    assert _refused(foreign, key_id=fingerprint.key_id(p256.public_key())).code == "key_mismatch"


@pytest.mark.parametrize("text", [
    "no base64", "YQ", "YR==", "YQ==\n", " YQ==", "YQ=", "\u00e9", "-_-_",
])
def test_only_canonical_base64_is_read(make: t.Any, text: str) -> None:
    assert _refused(make(signature=text)).code == "malformed"


def test_empty_list_is_refused() -> None:
    assert _refused().code == "input_invalid"


@pytest.mark.parametrize("text", ["", "text", "-----BEGIN PUBLIC KEY-----\n", "\udcff"])
def test_what_is_no_public_key_is_refused(make: t.Any, text: str) -> None:
    assert _refused(make(public_key=text)).code == "malformed"


def test_private_key_is_no_public_one(make: t.Any, p256: t.Any, private_pem: Write, assert_hides: t.Any) -> None:
    secret = private_pem(p256)
    error = _refused(make(public_key=secret.decode()))
    assert_hides(error, secret)


def test_scheme_that_is_asked_for_must_be_the_one_used(p384: t.Any, public_pem: Write) -> None:
    entry = _entry(p384, public_pem(p384), scheme="ecdsa-sha256")
    assert _load(entry).sign(MESSAGE)
    assert _load(entry, scheme="ecdsa-sha256").sign(MESSAGE)
    assert _not_signed(_load(entry, scheme="ecdsa-sha384")).code == "signature_invalid"
    unusual = _entry(p384, public_pem(p384), scheme="ecdsa-sha512")
    assert _not_signed(_load(unusual)).code == "signature_invalid"
    assert _load(unusual, scheme="ecdsa-sha512").sign(MESSAGE)
    assert _refused(entry, scheme="rsa-pss-sha256").code == "unsupported_algorithm"


def test_signature_may_be_missing_in_a_dry_run_only(make: t.Any) -> None:
    missing = make(signature=None)
    signer = _load(missing, dry_run=True)
    signer.prepare([MESSAGE])
    assert signer.sign(MESSAGE) == b""
    assert _not_signed(signer, OTHER).code == "not_found"
    assert _not_signed(_load(missing)).code == "not_found"
    # One that is there is verified in a dry run, too.
    assert _not_signed(_load(_flipped(make(), 1), dry_run=True)).code == "signature_invalid"


def test_signatures_are_not_in_the_representation(make: t.Any) -> None:
    entry = make()
    assert str(base64.b64decode(entry["signature"])) not in repr(_load(entry))
