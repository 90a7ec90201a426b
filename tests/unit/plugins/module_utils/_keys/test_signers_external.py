# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of signatures that were made elsewhere: which spellings are taken, and that nothing unverified gets in."""

from __future__ import annotations

import base64
import hashlib
import pathlib
import textwrap
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import HallmarkError, KeyFileError
from ansible_collections.hallmark.signing.plugins.module_utils._keys import making, pem
from ansible_collections.hallmark.signing.plugins.module_utils._keys.signers import external, protocol
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._signing import certificate_bench
from cryptography.hazmat.primitives.asymmetric import ec, utils

PAYLOAD = b'{"critical":{}}'
KEYS = ["p256", "p384", "p521", "rsa2048", "ed25519_key"]
CURVES = {"p256": 32, "p384": 48, "p521": 66}
Write = t.Callable[..., bytes]


class Room:
    """Where signatures are made: a folder, and the key whose public half is in it as C(pub)."""

    def __init__(self, folder: pathlib.Path, key: t.Any, public_pem: Write) -> None:
        self.folder, self.key = folder, key
        (folder / "pub").write_bytes(public_pem(key))

    def put(
        self, signature: bytes, payload: bytes = PAYLOAD, *, name: str = "one", public_key: str | None = "pub"
    ) -> external.Files:
        """Write what came back under this name."""
        (self.folder / f"{name}.payload").write_bytes(payload)
        (self.folder / f"{name}.signature").write_bytes(signature)
        return external.Files(
            str(self.folder / f"{name}.payload"), str(self.folder / f"{name}.signature"),
            None if public_key is None else str(self.folder / public_key),
        )

    def sign(self, payload: bytes = PAYLOAD, scheme: str | None = None) -> bytes:
        """Sign as whoever has the key does."""
        return making.sign(self.key, payload, scheme=scheme)


@pytest.fixture
def room(tmp_path: pathlib.Path, p256: t.Any, public_pem: Write) -> Room:
    """A room with a P-256 key."""
    return Room(tmp_path, p256, public_pem)


def _load(
    *files: external.Files, certificate_path: str | None = None, key_id: str | None = None, scheme: str | None = None
) -> external.ExternalSigner:
    return external.load(files, certificate_path=certificate_path, key_id=key_id, scheme=scheme)


def _refused(*files: external.Files, **options: t.Any) -> HallmarkError:
    with pytest.raises(KeyFileError) as caught:
        _load(*files, **options)
    return caught.value


# Spellings ---------------------------------------------------------------------------------------------------------


def _raw(signature: bytes, size: int) -> bytes:
    r, s = utils.decode_dss_signature(signature)
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


def _wrapped(data: bytes, width: int, end: str) -> bytes:
    return (end.join(textwrap.wrap(base64.b64encode(data).decode(), width)) + end).encode()


SPELLINGS: dict[str, t.Callable[[bytes], bytes]] = {
    "as it is": lambda signature: signature,
    "base64": base64.b64encode,
    "base64 with a line end": lambda signature: base64.b64encode(signature) + b"\n",
    "wrapped base64": lambda signature: _wrapped(signature, 64, "\n"),
    "wrapped base64, CRLF": lambda signature: _wrapped(signature, 76, "\r\n"),
    "base64 with blanks around it": lambda signature: b"\t " + base64.b64encode(signature) + b" \n\n",
}


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
@pytest.mark.parametrize("fixture", KEYS)
def test_signatures_are_taken_in_every_spelling(
    fixture: str, spelling: t.Callable[[bytes], bytes], request: pytest.FixtureRequest, tmp_path: pathlib.Path,
    public_pem: Write,
) -> None:
    room = Room(tmp_path, request.getfixturevalue(fixture), public_pem)
    signature = room.sign()
    signer: protocol.Signer = _load(room.put(spelling(signature)))
    assert signer.public.pem.encode() == public_pem(room.key)
    assert signer.sign(PAYLOAD) == signature
    assert signer.sign(PAYLOAD, scheme="whatever") == signature


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
@pytest.mark.parametrize(("fixture", "size"), CURVES.items())
def test_raw_numbers_become_der(
    fixture: str, size: int, spelling: t.Callable[[bytes], bytes], request: pytest.FixtureRequest,
    tmp_path: pathlib.Path, public_pem: Write,
) -> None:
    room = Room(tmp_path, request.getfixturevalue(fixture), public_pem)
    signature = room.sign()
    signer = _load(room.put(spelling(_raw(signature, size))))
    assert signer.sign(PAYLOAD) == signature


def test_raw_numbers_have_the_size_of_the_curve(room: Room) -> None:
    signature = room.sign()
    for data in (_raw(signature, 33), _raw(signature, 64), _raw(signature, 32)[1:], _raw(signature, 32) + b"\0"):
        assert _refused(room.put(data)).code == "signature_invalid"
    assert _load(room.put(_raw(signature, 32))).sign(PAYLOAD) == signature


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"), (b"\n", "blank"), (bytes(64), "zeros"), (b"\xff" * 64, "too large numbers"),
        (b"not base64 at all", "text"), (b"\xff\xfe", "no ASCII"), (b"0" * 64, "text as long as two numbers"),
        (b"MEUCIQ", "cut base64"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("fixture", KEYS)
def test_rubbish_is_no_signature(
    fixture: str, data: bytes, words: str, request: pytest.FixtureRequest, tmp_path: pathlib.Path, public_pem: Write
) -> None:
    del words
    room = Room(tmp_path, request.getfixturevalue(fixture), public_pem)
    error = _refused(room.put(data))
    assert (error.code, error.object) == ("signature_invalid", str(tmp_path / "one.signature"))


def test_base64_is_read_strictly_and_once(room: Room) -> None:
    signature = room.sign()
    while not set(base64.b64encode(signature)) & set(b"+/"):
        signature = room.sign()
    for data in (
        base64.urlsafe_b64encode(signature), base64.b64encode(base64.b64encode(signature)),
        b"-----BEGIN SIGNATURE-----\n" + base64.b64encode(signature),
    ):
        assert _refused(room.put(data)).code == "signature_invalid"


# Whose signature, over what ----------------------------------------------------------------------------------------


def test_signature_of_another_key_is_refused(room: Room) -> None:
    other = making.sign(ec.generate_private_key(ec.SECP256R1()), PAYLOAD)
    error = _refused(room.put(other))
    assert error.code == "signature_invalid"
    assert str(room.folder / "one.payload") in error.cause
    assert pem.public_key(room.key.public_key(), where="x").key_id in error.cause


@pytest.mark.parametrize("payload", [b"", PAYLOAD + b"\n", PAYLOAD[:-1], b"\xef\xbb\xbf" + PAYLOAD])
def test_signature_over_other_bytes_is_refused(room: Room, payload: bytes) -> None:
    # An editor added a line end, for instance.
    assert _refused(room.put(room.sign(), payload)).code == "signature_invalid"
    assert _refused(room.put(room.sign(payload))).code == "signature_invalid"


def test_one_wrong_signature_spoils_all(room: Room) -> None:
    error = _refused(room.put(room.sign()), room.put(room.sign(b"x"), b"y", name="two"))
    assert (error.code, error.object) == ("signature_invalid", str(room.folder / "two.signature"))


def test_signatures_are_handed_out_by_what_they_are_over(room: Room) -> None:
    signatures = {payload: room.sign(payload) for payload in (b"1", b"2", b"3")}
    signer = _load(*(
        room.put(signature, payload, name=payload.decode()) for payload, signature in signatures.items()
    ))
    assert {payload: signer.sign(payload) for payload in signatures} == signatures
    assert not signer.chooses_scheme
    assert all(repr(signature)[2:-1] not in repr(signer) for signature in signatures.values())


def test_what_was_not_signed_is_named_by_its_hash(room: Room) -> None:
    signer = _load(room.put(room.sign()))
    signer.prepare([])
    signer.prepare([PAYLOAD, PAYLOAD])
    with pytest.raises(KeyFileError) as caught:
        signer.prepare([PAYLOAD, b"two", b"one"])
    assert (caught.value.code, caught.value.object) == ("not_found", "external")
    hashes = sorted(hashlib.sha256(message).hexdigest() for message in (b"one", b"two"))
    assert caught.value.cause == f"no payload_path holds the 2 payloads with SHA-256 {', '.join(hashes)}"
    assert "image_payload" in caught.value.advice
    with pytest.raises(KeyFileError, match=hashlib.sha256(b"one").hexdigest()):
        signer.sign(b"one")


def test_no_more_than_five_of_many_are_named(room: Room) -> None:
    signer = _load(room.put(room.sign()))
    with pytest.raises(KeyFileError) as caught:
        signer.prepare([b"%d" % number for number in range(1000)])
    assert "the 1000 payloads" in caught.value.cause
    assert len(str(caught.value)) < 1000


# Which scheme ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fixture", "usual", "others"),
    [
        ("p256", ["ecdsa-sha256"], ["ecdsa-sha384", "ecdsa-sha512"]),
        ("p384", ["ecdsa-sha384", "ecdsa-sha256"], ["ecdsa-sha512"]),
        ("p521", ["ecdsa-sha512", "ecdsa-sha256"], ["ecdsa-sha384"]),
        ("rsa2048", ["rsa-pkcs1v15-sha256"], ["rsa-pkcs1v15-sha512", "rsa-pss-sha256"]),
        ("ed25519_key", ["ed25519", "ed25519ph"], []),
    ],
)
def test_usual_schemes_are_taken_and_others_if_asked_for(
    fixture: str, usual: list[str], others: list[str], request: pytest.FixtureRequest, tmp_path: pathlib.Path,
    public_pem: Write,
) -> None:
    room = Room(tmp_path, request.getfixturevalue(fixture), public_pem)
    for scheme in (*usual, *others):
        files = room.put(room.sign(scheme=scheme))
        if scheme in usual:
            assert _load(files)
        else:
            assert _refused(files).code == "signature_invalid"
        assert _load(files, scheme=scheme)
        for other in {*usual, *others} - {scheme}:
            assert _refused(files, scheme=other).code == "signature_invalid"


def test_scheme_of_other_keys_is_refused(room: Room) -> None:
    error = _refused(room.put(room.sign()), scheme="rsa-pss-sha256")
    assert (error.code, error.object) == ("unsupported_algorithm", "external")


# Which key ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def certificate(room: Room) -> str:
    """A certificate of the key, with its issuer behind it."""
    owner = certificate_bench.Subject("leaf")
    path = room.folder / "certificate.pem"
    path.write_bytes(certificate_bench.pem(certificate_bench.leaf(), certificate_bench.authority("sub")))
    room.key = owner.key
    return str(path)


def test_key_may_come_from_a_certificate(room: Room, certificate: str) -> None:
    files = room.put(room.sign(), public_key=None)
    signer = _load(files, certificate_path=certificate)
    assert signer.public == pem.public_key(room.key.public_key(), where="x")
    assert signer.sign(PAYLOAD)


def test_public_key_counts_where_both_are_given(room: Room, certificate: str, public_pem: Write, p256: t.Any) -> None:
    # The certificate is compared with the key where it is attached: see test_material.py.
    (room.folder / "same").write_bytes(public_pem(room.key))
    assert _load(room.put(room.sign(), public_key="same"), certificate_path=certificate)
    assert _refused(room.put(room.sign()), certificate_path=certificate).code == "signature_invalid"
    assert _load(room.put(making.sign(p256, PAYLOAD)), certificate_path=certificate)


def test_several_keys_are_refused(room: Room, certificate: str, public_pem: Write) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    (room.folder / "other").write_bytes(public_pem(other))
    first = room.put(room.sign())
    second = room.put(making.sign(other, b"2"), b"2", name="2", public_key="other")
    third = room.put(room.sign(b"3"), b"3", name="3", public_key=None)
    for files in ((first, second), (first, third)):
        error = _refused(*files, certificate_path=certificate)
        assert (error.code, error.object, error.cause) == ("key_mismatch", "external", "it names several keys")


def test_one_key_in_several_files_is_one_key(room: Room) -> None:
    text = (room.folder / "pub").read_bytes()
    (room.folder / "copy").write_bytes(b"a comment\n" + text.replace(b"\n", b"\r\n"))
    second = room.put(room.sign(b"2"), b"2", name="2", public_key="copy")
    assert _load(room.put(room.sign()), second).sign(b"2")


def test_expected_key_is_taken_and_another_refused(room: Room) -> None:
    files = room.put(room.sign())
    own = _load(files).public.key_id
    assert _load(files, key_id=own).public.key_id == own
    error = _refused(files, key_id="0" * 64)
    assert (error.code, error.object) == ("key_mismatch", "external")


def test_some_key_is_wanted(room: Room) -> None:
    error = _refused(room.put(room.sign(), public_key=None))
    assert (error.code, error.object) == ("input_invalid", "external")


def test_empty_list_is_refused() -> None:
    error = _refused()
    assert (error.code, error.object) == ("input_invalid", "external")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"", "malformed"), (b"rubbish", "malformed"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "malformed"),
        (certificate_bench.pem(certificate_bench.leaf(subject=certificate_bench.Subject("leaf", "k256"))),
         "unsupported_algorithm"),
    ],
)
def test_certificate_that_is_none_is_refused(room: Room, text: bytes, code: str) -> None:
    path = room.folder / "bad.pem"
    path.write_bytes(text)
    error = _refused(room.put(room.sign(), public_key=None), certificate_path=str(path))
    assert (error.code, error.object) == (code, str(path))


# Files -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["one.payload", "one.signature", "pub"])
@pytest.mark.parametrize(("size", "code"), [(None, "not_found"), (1048577, "malformed")])
def test_files_that_are_missing_or_huge_are_refused(room: Room, name: str, size: int | None, code: str) -> None:
    files = room.put(room.sign())
    path = room.folder / name
    path.unlink()
    if size is not None:
        path.write_bytes(bytes(size))
    error = _refused(files)
    assert (error.code, error.object) == (code, str(path))


def test_huge_certificate_is_refused(room: Room) -> None:
    path = room.folder / "huge.pem"
    path.write_bytes(b"\n" * 1048577)
    error = _refused(room.put(room.sign(), public_key=None), certificate_path=str(path))
    assert (error.code, error.object, error.cause) == ("malformed", str(path), "it is larger than 1 MiB")
