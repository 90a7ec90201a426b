# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bodies of log entries, of both versions of Rekor."""

from __future__ import annotations

import hashlib
import json
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import FormatError
from ansible_collections.hallmark.signing.plugins.module_utils._transparency import body
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._transparency import log_bench
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._transparency.log_bench import (
    PAYLOAD,
    SIGNATURE,
    Json,
    Signer,
    b64,
    canonical,
    pem,
    spki,
)
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

KINDS = [("hashedrekord", 1), ("dsse", 1), ("hashedrekord", 2), ("dsse", 2)]
KEY = ec.generate_private_key(ec.SECP256R1())
SIGNERS = {"key": Signer(KEY), "certificate": Signer(KEY, log_bench.certificate(KEY))}


def decode(data: bytes) -> body.Logged:
    return body.decode(data, where="registry/image")


def sample(kind: str, version: int, signer: str = "key") -> Json:
    found: Json = json.loads(log_bench.body(kind, version, SIGNERS[signer], PAYLOAD))
    return found


@pytest.mark.parametrize("signer", SIGNERS)
@pytest.mark.parametrize("hash", ["sha256", "sha384", "sha512"])
@pytest.mark.parametrize(("kind", "version"), KINDS)
def test_reads_every_kind(kind: str, version: int, hash: str, signer: str) -> None:
    data = log_bench.body(kind, version, SIGNERS[signer], PAYLOAD, hash=hash)
    assert body.kind_of(data, where="x") == (kind, f"0.0.{version}")
    assert decode(data) == body.Logged(
        kind, f"0.0.{version}", t.cast(body.HashAlgorithm, hash), hashlib.new(hash, PAYLOAD).digest(), SIGNATURE,
        spki(KEY), SIGNERS[signer].certificate,
    )


@pytest.mark.parametrize(("kind", "version"), KINDS)
def test_reads_every_key(
    kind: str, version: int, p384: log_bench.AnyPrivate, rsa2048: log_bench.AnyPrivate,
    ed25519_key: log_bench.AnyPrivate,
) -> None:
    for key in (p384, rsa2048, ed25519_key):
        for signer in (Signer(key), Signer(key, log_bench.certificate(key))):
            found = decode(log_bench.body(kind, version, signer, PAYLOAD))
            assert (found.spki, found.certificate) == (spki(key), signer.certificate)


def test_proposes_what_rekor_stores() -> None:
    for signer in SIGNERS.values():
        assert body.hashedrekord(
            digest=hashlib.sha384(PAYLOAD).digest(), hash_algorithm="sha384", signature=SIGNATURE,
            verifier_pem=signer.pem.decode("ascii"),
        ) == log_bench.body("hashedrekord", 1, signer, PAYLOAD, hash="sha384")


def test_proposes_an_envelope() -> None:
    envelope = '{"payload":"é<>&"}'.encode()
    assert json.loads(body.dsse(envelope=envelope, verifier_pem="-----BEGIN PUBLIC KEY-----\n")) == {
        "apiVersion": "0.0.1", "kind": "dsse", "spec": {"proposedContent": {
            "envelope": '{"payload":"é<>&"}', "verifiers": [b64(b"-----BEGIN PUBLIC KEY-----\n")],
        }},
    }


@pytest.mark.parametrize(("kind", "version"), [
    ("intoto", "0.0.2"), ("rekord", "0.0.1"), ("cose", "0.0.1"), ("rpm", "0.0.1"), ("", ""),
    ("hashedrekord", "0.0.3"), ("dsse", "0.0.10"), ("HashedRekord", "0.0.1"), ("hashedrekord", "1"),
    ("x" * 10_000, "y" * 10_000),
])
def test_other_kinds_are_refused_by_name(kind: str, version: str) -> None:
    with pytest.raises(FormatError) as caught:
        decode(canonical({"apiVersion": version, "kind": kind, "spec": {}}))
    assert (caught.value.code, caught.value.object) == ("malformed", "registry/image")
    assert kind[:50] in caught.value.cause
    assert version[:50] in caught.value.cause
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("data", [
    b"", b"[]", b"null", b"{}", b'{"apiVersion":"0.0.1","kind":"dsse","spec":{}}{}', b"\xff",
])
def test_no_body_at_all(data: bytes) -> None:
    with pytest.raises(FormatError):
        decode(data)
    with pytest.raises(FormatError):
        body.kind_of(data, where="x")


def places(value: t.Any, path: tuple[t.Any, ...] = ()) -> t.Iterator[tuple[t.Any, ...]]:
    """Every member of a document, and every part of a list."""
    for name in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*path, name)
        yield from places(value[name], (*path, name))


def put(document: Json, path: tuple[t.Any, ...], new: t.Any) -> bytes:
    """The document with one member replaced, or removed."""
    copied: t.Any = json.loads(json.dumps(document))
    parent = copied
    for name in path[:-1]:
        parent = parent[name]
    if new is ...:
        del parent[path[-1]]
    else:
        parent[path[-1]] = new
    return canonical(copied)


# Members that nothing reads.
UNREAD = {"envelopeHash", "keyDetails"}
EVERY_PLACE = [
    pytest.param(kind, version, signer, path, id=f"{kind}-{version}-{signer}-{'.'.join(map(str, path))}")
    for kind, version in KINDS for signer in SIGNERS for path in places(sample(kind, version, signer))
    if not UNREAD & set(path)
]


@pytest.mark.parametrize(("kind", "version", "signer", "path"), EVERY_PLACE)
def test_every_member_must_be_there_with_its_type(
    kind: str, version: int, signer: str, path: tuple[t.Any, ...]
) -> None:
    for new in (..., None, 7, True, [], {}, "!", ["x"], {"x": "y"}):
        with pytest.raises(FormatError):
            decode(put(sample(kind, version, signer), path, new))


@pytest.mark.parametrize(("kind", "version", "signer", "path"), EVERY_PLACE)
def test_no_member_may_be_beside_it(kind: str, version: int, signer: str, path: tuple[t.Any, ...]) -> None:
    if isinstance(path[-1], str):
        for added in ("", "format", path[-1].upper()):
            with pytest.raises(FormatError):
                decode(put(sample(kind, version, signer), (*path[:-1], added), "x"))


def bad(kind: str, version: int, path: str, *values: t.Any) -> list[t.Any]:
    return [
        pytest.param(kind, version, path, value, id=f"{kind}-{version}-{path}-{at}") for at, value in enumerate(values)
    ]


KEY_PEM = pem("PUBLIC KEY", spki(KEY))
VERIFIERS = (
    b"", b"x", spki(KEY), KEY_PEM * 2, KEY_PEM[:-20], pem("PUBLIC KEY", b""), pem("PUBLIC KEY", spki(KEY)[:-1]),
    pem("PUBLIC KEY", spki(KEY) + b"x"), pem("CERTIFICATE", spki(KEY)), pem("EC PRIVATE KEY", spki(KEY)),
    pem("CERTIFICATE", t.cast(bytes, SIGNERS["certificate"].certificate)) * 2,
    pem("CERTIFICATE", t.cast(bytes, SIGNERS["certificate"].certificate)[:-1]),
    pem("PUBLIC KEY", t.cast(bytes, SIGNERS["certificate"].certificate)),
    # Of a version that does not exist.
    pem("CERTIFICATE", t.cast(bytes, SIGNERS["certificate"].certificate).replace(
        bytes.fromhex("a003020102"), bytes.fromhex("a003020105"), 1
    )),
    # An algorithm that does not exist; an Ed448 key that is too short.
    pem("PUBLIC KEY", spki(KEY).replace(bytes.fromhex("2a8648ce3d0201"), bytes.fromhex("2a8648ce3d0209"))),
    pem("PUBLIC KEY", bytes.fromhex("302a300506032b6571032100") + bytes(32)),
    # A curve that is known to the library and not used here.
    pem("PUBLIC KEY", spki(ec.generate_private_key(ec.SECP256K1()))),
)
HEX = hashlib.sha256(PAYLOAD).hexdigest()


@pytest.mark.parametrize(("kind", "version", "path", "value"), [
    *bad("hashedrekord", 1, "spec.data.hash.algorithm", "sha1", "SHA256", "sha256 ", "md5", "shake_128"),
    *bad("hashedrekord", 1, "spec.data.hash.value", HEX[:-2], HEX + "00", HEX[:-1], HEX.upper(), f" {HEX}",
         HEX[:-2] + "  ", HEX[:-2] + "0g", "é" * 64),
    *bad("hashedrekord", 1, "spec.signature.content", "x", "eA", "eB==", "eA==\n", " eA=="),
    *bad("hashedrekord", 1, "spec.signature.publicKey.content", *map(b64, VERIFIERS)),
    *bad("dsse", 1, "spec.payloadHash.algorithm", "sha1", "SHA2_256"),
    *bad("dsse", 1, "spec.payloadHash.value", HEX[:-2], HEX.upper()),
    *bad("dsse", 1, "spec.signatures", [], sample("dsse", 1)["spec"]["signatures"] * 2),
    *bad("dsse", 1, "spec.signatures.0.verifier", *map(b64, VERIFIERS)),
    *bad("hashedrekord", 2, "spec.hashedRekordV002.data.algorithm", "sha256", "SHA2_224", "SHA3_256", "1"),
    *bad("hashedrekord", 2, "spec.hashedRekordV002.data.digest", b64(bytes(31)), b64(bytes(33)), HEX + "="),
    *bad("hashedrekord", 2, "spec.hashedRekordV002.signature.verifier.publicKey.rawBytes", *map(b64, (
        b"", spki(KEY)[:-1], spki(KEY) + b"x", KEY_PEM, t.cast(bytes, SIGNERS["certificate"].certificate),
        spki(ec.generate_private_key(ec.SECP256K1())),
    ))),
    *bad("hashedrekord", 2, "spec.hashedRekordV002.signature.verifier", {"keyDetails": "x"}, {
        "publicKey": {"rawBytes": b64(spki(KEY))},
        "x509Certificate": {"rawBytes": b64(t.cast(bytes, SIGNERS["certificate"].certificate))},
    }, {"x509Certificate": {"rawBytes": b64(spki(KEY))}}),
    *bad("dsse", 2, "spec.dsseV002.signatures", [], sample("dsse", 2)["spec"]["dsseV002"]["signatures"] * 2),
    *bad("dsse", 2, "spec.dsseV002.payloadHash.algorithm", "sha256"),
])
def test_malformed(kind: str, version: int, path: str, value: t.Any) -> None:
    where = tuple(int(name) if name.isdigit() else name for name in path.split("."))
    with pytest.raises(FormatError) as caught:
        decode(put(sample(kind, version), where, value))
    assert (caught.value.code, caught.value.object) == ("malformed", "registry/image")
    assert len(str(caught.value)) < 500


def test_a_member_twice_is_refused() -> None:
    data = log_bench.body("hashedrekord", 1, SIGNERS["key"], PAYLOAD)
    with pytest.raises(FormatError):
        decode(data.replace(b'"kind":', b'"kind":"dsse","kind":'))


def test_a_compressed_point_is_the_same_key(golden: t.Callable[[str], bytes]) -> None:
    plain, compressed = golden("openssl-p256.pub"), golden("openssl-p256-compressed.pub")
    spkis = set()
    for verifier in (plain, compressed):
        data = put(sample("hashedrekord", 1), ("spec", "signature", "publicKey", "content"), b64(verifier))
        spkis.add(decode(data).spki)
    assert len(spkis) == 1


@settings(max_examples=300)
@given(st.data())
def test_mutated_bytes_raise_only_format_errors(data: st.DataObject) -> None:
    kind, version = data.draw(st.sampled_from(KINDS))
    signer = data.draw(st.sampled_from(sorted(SIGNERS)))
    good = log_bench.body(kind, version, SIGNERS[signer], PAYLOAD)
    start = data.draw(st.integers(0, len(good)))
    mutated = good[:start] + data.draw(st.binary(max_size=4)) + good[start + data.draw(st.integers(0, 4)):]
    try:
        decode(mutated)
    except FormatError:
        return


@settings(max_examples=300)
@given(st.data())
def test_mutated_keys_raise_only_format_errors(data: st.DataObject) -> None:
    version = data.draw(st.sampled_from((1, 2)))
    signer = data.draw(st.sampled_from(sorted(SIGNERS)))
    der = bytearray(SIGNERS[signer].certificate or spki(KEY))
    for at in data.draw(st.lists(st.integers(0, len(der) - 1), min_size=1, max_size=3)):
        der[at] = data.draw(st.integers(0, 255))
    member, label = ("x509Certificate", "CERTIFICATE") if signer == "certificate" else ("publicKey", "PUBLIC KEY")
    if version == 1:
        path: tuple[t.Any, ...] = ("spec", "signature", "publicKey", "content")
        value: t.Any = b64(pem(label, bytes(der)))
    else:
        path = ("spec", "hashedRekordV002", "signature", "verifier")
        value = {"keyDetails": "x", member: {"rawBytes": b64(bytes(der))}}
    try:
        found = decode(put(sample("hashedrekord", version), path, value))
    except FormatError:
        return
    if bytes(der) != (SIGNERS[signer].certificate or spki(KEY)):
        assert (found.spki, found.certificate) != (spki(KEY), SIGNERS[signer].certificate)


@given(st.binary(max_size=200))
def test_any_bytes_raise_only_format_errors(data: bytes) -> None:
    with pytest.raises(FormatError):
        decode(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=5,
)


@settings(max_examples=200)
@given(st.data())
def test_any_value_in_any_place_raises_only_format_errors(data: st.DataObject) -> None:
    kind, version, signer, path = data.draw(st.sampled_from([one.values for one in EVERY_PLACE]))
    document = sample(t.cast(str, kind), t.cast(int, version), t.cast(str, signer))
    try:
        decode(put(document, t.cast("tuple[t.Any, ...]", path), data.draw(JSON)))
    except FormatError:
        return
