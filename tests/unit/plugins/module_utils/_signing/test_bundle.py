# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sigstore bundles: cosign 3's bytes when written, v0.3 with a DSSE envelope and nothing else when read."""

from __future__ import annotations

import base64
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import FormatError
from ansible_collections.hallmark.signing.plugins.module_utils._keys import algorithms, pem
from ansible_collections.hallmark.signing.plugins.module_utils._signing import bundle as bundles
from ansible_collections.hallmark.signing.plugins.module_utils._signing import dsse, statement
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._signing.signing_bench import (
    BUNDLE_TYPE,
    PREDICATE_TYPE,
    Key,
    b64,
    bundle,
    compact,
)

# Written by `cosign sign` of cosign 3.1.1, with the public key that belongs to it.
COSIGN = (
    b'{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{"publicKey":{"hint":'
    b'"3M6bIJbWWMiSVe8TuuX+PjqptBZvbs5atT4pW8Cn6gY="}},"dsseEnvelope":{"payload":"eyJfdHlwZSI6Imh0dHBzOi8vaW4tdG90by5p'
    b"by9TdGF0ZW1lbnQvdjEiLCJzdWJqZWN0IjpbeyJkaWdlc3QiOnsic2hhMjU2IjoiNjcyM2Y1YTZlYTUwNWNmOTJlYzk2MjcwZDk3OWUzNWJkZWVk"
    b"YjA0NmQ1NDQ1MDRlYTEwZTQ1MTc0Y2VkYjg1MSJ9LCJhbm5vdGF0aW9ucyI6eyJ6IjoiPDk+JiJ9fV0sInByZWRpY2F0ZVR5cGUiOiJodHRwczov"
    b'L3NpZ3N0b3JlLmRldi9jb3NpZ24vc2lnbi92MSIsInByZWRpY2F0ZSI6e319","payloadType":"application/vnd.in-toto+json",'
    b'"signatures":[{"sig":"MEUCIQDrPa1ceeKu/Vi+AGmjZUns4C+NMSPwaViyKK8OtJwuLQIgX9pN/hEBfBRRmX2oZimZR4SSJca+hXsuk+jgH63'
    b'OHQI="}]}}'
)
COSIGN_KEY = b"""-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEvLrSM3BZ+a8ROONDRlX+B+5EiRb2
deAicjSTC565mprSW7spnOsGs3dcHWCa9kkV26rdfuhMTuA7wFnW6//lpw==
-----END PUBLIC KEY-----
"""
CERTIFICATE = {"certificate": {"rawBytes": b64(b"DER")}}


def decode(document: t.Any) -> bundles.Bundle:
    return bundles.decode(document if isinstance(document, bytes) else compact(document), where="the image")


def test_reads_the_bundle_of_cosign_3() -> None:
    public = pem.read_public_key(COSIGN_KEY, where="x")
    found = decode(COSIGN)
    assert (found.hinted_key_id, found.has_certificate) == (public.key_id, False)
    assert algorithms.verifies(
        public.key, signature=found.envelope.signature, message=found.envelope.signed_bytes
    )
    (subject,) = statement.decode(found.envelope.payload, where="x")
    assert subject.annotations == {"z": "<9>&"}


def test_writes_the_bundle_of_cosign_3() -> None:
    found = decode(COSIGN)
    assert found.hinted_key_id is not None
    assert bundles.encode(found.envelope, key_id=found.hinted_key_id) == COSIGN


def test_annotations_of_the_manifest_are_those_of_cosign_3_and_one_of_ours() -> None:
    annotations = bundles.manifest_annotations("2026-11-21T01:56:00Z", b"bundle")
    assert annotations == {
        "dev.sigstore.bundle.content": "dsse-envelope",
        "dev.sigstore.bundle.predicateType": "https://sigstore.dev/cosign/sign/v1",
        "org.opencontainers.image.created": "2026-11-21T01:56:00Z",
        "org.hallmark-signing.bundle": base64.b64encode(b"bundle").decode(),
    }
    assert bundles.copy_in(annotations) == b"bundle"
    assert PREDICATE_TYPE == statement.PREDICATE_TYPE


@pytest.mark.parametrize(("size", "is_copied"), [(0, True), (8192, True), (8193, False)])
def test_only_small_bundles_are_copied_into_lists(size: int, is_copied: bool) -> None:
    assert (bundles.COPY_ANNOTATION in bundles.manifest_annotations("now", b"x" * size)) is is_copied


@pytest.mark.parametrize(("listed", "is_copied"), [(0, True), (63, True), (64, False)])
def test_long_lists_get_no_more_copies(listed: int, is_copied: bool) -> None:
    assert (bundles.COPY_ANNOTATION in bundles.manifest_annotations("now", b"x", listed=listed)) is is_copied


@pytest.mark.parametrize("copy", [None, "", "=", "e30", "e30=\n", "e31=", "{}", "\u00e9"])
def test_what_is_no_copy_is_passed_over(copy: str | None) -> None:
    assert bundles.copy_in({} if copy is None else {bundles.COPY_ANNOTATION: copy}) is None


def material(**members: t.Any) -> dict[str, t.Any]:
    return {"verificationMaterial": members}


@pytest.mark.parametrize("members", [
    pytest.param({"mediaType": "application/vnd.dev.sigstore.bundle+json;version=0.3"}, id="older media type"),
    pytest.param(material(publicKey={"hint": ""}, tlogEntries=[]), id="no log entries"),
    pytest.param(material(publicKey={"hint": ""}, tlogEntries=[{}] * 32), id="32 log entries"),
    pytest.param(material(publicKey={"hint": ""}, timestampVerificationData={}), id="timestamps"),
])
def test_reads_variants(alice: Key, members: dict[str, t.Any]) -> None:
    assert decode(bundle(b"{}", alice, **members)).envelope.payload == b"{}"


@pytest.mark.parametrize(("public_key", "hinted"), [
    ({"hint": b64(b"\x01\xab")}, "01ab"),
    ({"hint": ""}, None),
    ({}, None),
    ({"hint": "any text"}, None),
    ({"hint": b64(b"\x01\xab").rstrip("=")}, None),
    ({"hint": "é"}, None),
])
def test_a_hint_that_cannot_be_read_is_no_hint(alice: Key, public_key: dict[str, str], hinted: str) -> None:
    assert decode(bundle(b"{}", alice, **material(publicKey=public_key))).hinted_key_id == hinted


def test_certificate(alice: Key) -> None:
    found = decode(bundle(b"{}", alice, **material(**CERTIFICATE)))
    assert (found.hinted_key_id, found.has_certificate) == (None, True)


_CHAIN = {"x509CertificateChain": {"certificates": [{"rawBytes": ""}]}}
_MESSAGE = {"messageSignature": {"messageDigest": {"algorithm": "SHA2_256", "digest": ""}, "signature": ""}}


@pytest.mark.parametrize("members", [
    pytest.param({"mediaType": "application/vnd.dev.sigstore.bundle.v0.4+json"}, id="v0.4"),
    pytest.param({"mediaType": "application/vnd.dev.sigstore.bundle+json;version=0.2"}, id="v0.2"),
    pytest.param({"mediaType": "application/vnd.dev.sigstore.bundle+json;version=0.1"}, id="v0.1"),
    pytest.param({"mediaType": "x" * 100_000}, id="media type unknown"),
    pytest.param({"mediaType": None}, id="media type missing"),
    pytest.param({"mediaType": 3}, id="media type a number"),
    pytest.param({"comment": ""}, id="unknown member"),
    pytest.param({"media_type": BUNDLE_TYPE}, id="snake_case"),
    pytest.param({"dsseEnvelope": None}, id="nothing signed"),
    pytest.param({"dsseEnvelope": None, **_MESSAGE}, id="message signature"),
    pytest.param(_MESSAGE, id="both kinds of content"),
    pytest.param({"messageSignature": ""}, id="both, one empty"),
    pytest.param({"dsseEnvelope": []}, id="envelope a list"),
    pytest.param({"verificationMaterial": None}, id="no material"),
    pytest.param({"verificationMaterial": []}, id="material a list"),
    pytest.param(material(), id="neither key nor certificate"),
    pytest.param(material(publicKey={}, **CERTIFICATE), id="key and certificate"),
    pytest.param(material(**_CHAIN), id="certificate chain"),
    pytest.param(material(publicKey={}, **_CHAIN), id="key and chain"),
    pytest.param(material(publicKey={}, comment=""), id="unknown member of the material"),
    pytest.param(material(publicKey=""), id="key a string"),
    pytest.param(material(publicKey={"hint": 1}), id="hint a number"),
    pytest.param(material(publicKey={"hint": "", "raw": ""}), id="unknown member of the key"),
    pytest.param(material(publicKey={}, tlogEntries={}), id="log entries an object"),
    pytest.param(material(publicKey={}, tlogEntries=[None]), id="log entry null"),
    pytest.param(material(publicKey={}, tlogEntries=[{}] * 33), id="33 log entries"),
])
def test_malformed(alice: Key, members: dict[str, t.Any]) -> None:
    with pytest.raises(FormatError) as caught:
        decode(bundle(b"{}", alice, **members))
    assert (caught.value.code, caught.value.object) == ("malformed", "the image")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("data", [
    pytest.param(b"", id="empty"),
    pytest.param(b"null", id="null"),
    pytest.param(b"[" + COSIGN + b"]", id="list"),
    pytest.param(COSIGN + b"{}", id="trailing data"),
    pytest.param(COSIGN.replace(b'"dsseEnvelope"', b'"mediaType":"x","dsseEnvelope"'), id="duplicate member"),
    pytest.param(COSIGN.replace(b'{"publicKey"', b'{"publicKey":{},"publicKey"'), id="duplicate key"),
])
def test_not_one_json_object(data: bytes) -> None:
    with pytest.raises(FormatError):
        decode(data)


@pytest.mark.parametrize("members", [{}, {"payloadType": "text/plain"}, {"signatures": []}])
def test_a_broken_envelope_is_malformed(alice: Key, members: dict[str, t.Any]) -> None:
    document = bundle(b"{}", alice)
    document["dsseEnvelope"] = {**document["dsseEnvelope"], **members} if members else {}
    with pytest.raises(FormatError):
        decode(document)


def test_key_ids_are_written_as_their_bytes() -> None:
    written = bundles.encode(dsse.Envelope(b"", b""), key_id="01ab")
    assert decode(written).hinted_key_id == "01ab"
    assert b'"hint":"Aas="' in written
