# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of cosign's encrypted private key file."""

from __future__ import annotations

import base64
import hashlib
import json
import sys
import types
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import KeyFileError, LibraryError
from ansible_collections.hallmark.signing.plugins.module_utils._keys import encrypted_key
from cryptography.hazmat.primitives import serialization
from nacl.secret import SecretBox

PASSPHRASE = b"correct horse"
PLAIN = b"private key material"


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _document(n: int = 32768, r: int = 8, p: int = 1, salt: bytes = b"s" * 32) -> dict[str, t.Any]:
    """What a writer with these parameters writes: PLAIN under PASSPHRASE, truly encrypted with them."""
    key = hashlib.scrypt(PASSPHRASE, salt=salt, n=n, r=r, p=p, dklen=32, maxmem=2**30)
    nonce = b"n" * 24
    return {
        "kdf": {"name": "scrypt", "params": {"N": n, "r": r, "p": p}, "salt": _b64(salt)},
        "cipher": {"name": "nacl/secretbox", "nonce": _b64(nonce)},
        "ciphertext": _b64(SecretBox(key).encrypt(PLAIN, nonce).ciphertext),
    }


def _decrypt(document: t.Any, passphrase: bytes = PASSPHRASE) -> bytes:
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    return encrypted_key.decrypt(data, passphrase, where="/srv/cosign.key")


def _refused(document: t.Any) -> KeyFileError:
    with pytest.raises(KeyFileError) as caught:
        _decrypt(document)
    assert (caught.value.code, caught.value.object) == ("malformed", "/srv/cosign.key")
    assert caught.value.attempt == "read the encrypted key"
    return caught.value


@pytest.fixture(scope="module")
def document() -> dict[str, t.Any]:
    return _document()


@pytest.fixture(scope="module")
def written() -> dict[str, t.Any]:
    return json.loads(encrypted_key.encrypt(PLAIN, PASSPHRASE))


@pytest.mark.parametrize(
    ("name", "passphrase"),
    [
        ("cosign2", PASSPHRASE), ("cosign3", PASSPHRASE), ("cosign3-empty-passphrase", b""),
        ("cosign3-rsa2048", PASSPHRASE),
    ],
)
def test_cosign_keys_are_decrypted(name: str, passphrase: bytes, golden: t.Callable[[str], bytes]) -> None:
    body = b"".join(golden(f"{name}.key").splitlines()[1:-1])
    der = _decrypt(base64.b64decode(body), passphrase)
    public = serialization.load_der_private_key(der, None).public_key()
    text = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert text == golden(f"{name}.pub")


@pytest.mark.parametrize("cost", [32768, 65536, 131072])
def test_costs_that_cosign_has_written_are_read(cost: int) -> None:
    assert _decrypt(_document(cost)) == PLAIN


@pytest.mark.parametrize(
    ("n", "r", "p"), [(16384, 8, 1), (32768, 4, 1), (32768, 8, 2), (32768, 1, 8), (1024, 8, 1), (2, 8, 1)]
)
def test_other_costs_are_refused_even_with_the_right_passphrase(n: int, r: int, p: int) -> None:
    assert _refused(_document(n, r, p)).cause == "its scrypt parameters are none that cosign writes"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("N", 2**30), ("N", 262144), ("N", 0), ("N", -65536), ("N", 65537), ("r", 0), ("r", 16), ("p", 0), ("p", 2**30),
    ],
)
def test_hostile_costs_are_refused(name: str, value: int, document: t.Any) -> None:
    document = json.loads(json.dumps(document))
    document["kdf"]["params"][name] = value
    assert _refused(document).cause == "its scrypt parameters are none that cosign writes"


# Each is what json.loads or base64 would let through, or what another format of this family writes.
@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("kdf.params.p", True),
        ("kdf.params.p", 1.0),
        ("kdf.params.N", "32768"),
        ("kdf.params.N", None),
        ("kdf.params", []),
        ("kdf.name", "pbkdf2"),
        ("kdf.name", "Scrypt"),
        ("kdf.name", None),
        ("kdf.salt", ""),
        ("kdf.salt", None),
        ("kdf.salt", "c3M"),
        ("kdf.salt", "c3N=\n"),
        ("kdf.salt", "\u00e9"),
        ("kdf", None),
        ("cipher.name", "aes-256-gcm"),
        ("cipher.name", "NACL/secretbox"),
        ("cipher.nonce", _b64(b"n" * 23)),
        ("cipher.nonce", _b64(b"n" * 25)),
        ("cipher.nonce", ""),
        ("cipher.nonce", _b64(b"n" * 24) + "\n"),
        ("cipher", "nacl/secretbox"),
        ("ciphertext", None),
        ("ciphertext", "not base64"),
        ("ciphertext", "AB=="),
    ],
)
def test_other_documents_are_refused(path: str, value: t.Any, document: t.Any) -> None:
    document = json.loads(json.dumps(document))
    at = document
    *parents, last = path.split(".")
    for parent in parents:
        at = at[parent]
    at[last] = value
    _refused(document)


def test_wrong_cipher_and_lengths_are_named(document: t.Any) -> None:
    other = {**document, "cipher": {**document["cipher"], "name": "aes"}}
    assert _refused(other).cause == "its cipher is not nacl/secretbox"
    other = {**document, "cipher": {**document["cipher"], "nonce": _b64(b"n" * 8)}}
    assert _refused(other).cause == "its salt or nonce has the wrong length"


def test_empty_salt_is_refused_even_with_the_right_passphrase() -> None:
    assert _refused(_document(salt=b"")).cause == "its salt or nonce has the wrong length"


@pytest.mark.parametrize("missing", ["kdf", "cipher", "ciphertext"])
def test_missing_members_are_refused(missing: str, document: t.Any) -> None:
    assert repr(missing) in _refused({name: value for name, value in document.items() if name != missing}).cause


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b"{} {}", b"null", b'{"kdf":' * 100000])
def test_other_than_one_json_object_is_refused(data: bytes) -> None:
    _refused(data)


def test_duplicate_members_are_refused(document: t.Any) -> None:
    text = json.dumps(document)
    assert "occurs twice" in _refused(text.replace('{"kdf"', '{"ciphertext":"","kdf"').encode()).cause


@pytest.mark.parametrize("passphrase", [b"", b"correct horse ", b"Correct horse", b"\xff"])
def test_wrong_passphrase_is_refused(passphrase: bytes, document: t.Any) -> None:
    with pytest.raises(KeyFileError, match="the passphrase is wrong, or the file is damaged") as caught:
        _decrypt(document, passphrase)
    assert (caught.value.code, caught.value.object) == ("passphrase_invalid", "/srv/cosign.key")


@pytest.mark.parametrize("change", ["flip", "cut", "append", "short", "empty"])
def test_altered_ciphertext_is_refused(change: str, document: t.Any) -> None:
    data = base64.b64decode(document["ciphertext"])
    altered = {
        "flip": data[:-1] + bytes((data[-1] ^ 1,)), "cut": data[:-1], "append": data + b"\x00", "short": data[:15],
        "empty": b"",
    }[change]
    with pytest.raises(KeyFileError) as caught:
        _decrypt({**document, "ciphertext": _b64(altered)})
    assert caught.value.code == "passphrase_invalid"


@pytest.mark.parametrize("found", [None, types.SimpleNamespace(__version__="1.4.0")])
def test_library_is_required_both_ways(found: t.Any, document: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # None is how Python marks a module that cannot be imported; the other one is too old.
    monkeypatch.setitem(sys.modules, "nacl", found)
    with pytest.raises(LibraryError, match="Install PyNaCl"):
        _decrypt(document)
    with pytest.raises(LibraryError, match="Install PyNaCl"):
        encrypted_key.encrypt(PLAIN, PASSPHRASE)


def test_errors_show_neither_passphrase_nor_document(document: t.Any, assert_hides: t.Callable[..., None]) -> None:
    secrets = (PASSPHRASE, b"hunter2hunter2", document["ciphertext"].encode(), document["kdf"]["salt"].encode(), PLAIN)
    with pytest.raises(KeyFileError) as caught:
        _decrypt(document, b"hunter2hunter2")
    assert_hides(caught.value, *secrets)
    assert caught.value.__context__ is None
    for other in (
        {**document, "cipher": {}}, {**document, "ciphertext": document["ciphertext"] + "="}, {**document, "kdf": {}},
    ):
        assert_hides(_refused(other), *secrets)


def test_written_document_is_what_cosign_writes(written: t.Any, golden: t.Callable[[str], bytes]) -> None:
    written = json.loads(json.dumps(written))
    theirs = json.loads(base64.b64decode(b"".join(golden("cosign3.key").splitlines()[1:-1])))
    for document in (written, theirs):
        assert len(base64.b64decode(document["kdf"].pop("salt"))) == 32
        assert len(base64.b64decode(document["cipher"].pop("nonce"))) == 24
        document.pop("ciphertext")
    assert written == theirs
    assert json.dumps(written) == json.dumps(theirs)  # members in the same order
    assert written["kdf"]["params"] == {"N": 65536, "r": 8, "p": 1}


def test_written_key_is_read_again_and_no_two_are_alike() -> None:
    texts = [encrypted_key.encrypt(PLAIN, PASSPHRASE) for _turn in range(2)]
    first, second = (json.loads(text) for text in texts)
    assert first["kdf"]["salt"] != second["kdf"]["salt"]
    assert first["cipher"]["nonce"] != second["cipher"]["nonce"]
    assert len(base64.b64decode(first["ciphertext"])) == len(PLAIN) + 16
    assert _decrypt(texts[0]) == PLAIN
    for text in texts:
        assert PLAIN not in text
        assert PASSPHRASE not in text
        assert _b64(PLAIN).encode() not in text
