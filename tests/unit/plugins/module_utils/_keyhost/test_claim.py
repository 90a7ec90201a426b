# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of what the host with the key understands: only the claim that an image is signed, byte for byte."""

from __future__ import annotations

import hashlib
import json
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import VerificationError
from ansible_collections.hallmark.signing.plugins.module_utils._keyhost import claim as claims
from ansible_collections.hallmark.signing.plugins.module_utils._oci import reference as references
from ansible_collections.hallmark.signing.plugins.module_utils._program import plugin
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._keyhost.keyhost_bench import (
    ASKED,
    DIGEST,
    HEX,
    NAME,
    OTHER_HEX,
    SPELLINGS,
    bundle,
    pae,
    sha256,
    sig,
    statement,
)
from hypothesis import example, given
from hypothesis import strategies as st

ANNOTATIONS = {"build": "17", "by": "Jos\u00e9"}


def _rebuild(
    message: bytes | None = None, digest: bytes | None = None, annotations: t.Mapping[str, str] | None = None,
    asked: references.Reference = ASKED,
) -> claims.Claim:
    return claims.rebuild(asked, message=message, digest=digest, annotations=annotations or {})


def _refused(*args: t.Any, **options: t.Any) -> VerificationError:
    with pytest.raises(VerificationError) as caught:
        _rebuild(*args, **options)
    assert caught.value.attempt == "sign it"
    return caught.value


# What is signed ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("annotations", [{}, {"build": "17"}, {"b": "<&>", "a": "it's \"quoted\"\n\u2028"}])
def test_payload_is_recognised(annotations: dict[str, str]) -> None:
    message = sig(annotations=annotations)
    # Go escapes these, whatever the rest of the payload looks like.
    for character, escape in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
        message = message.replace(character.encode(), escape.encode())
    claim = _rebuild(message)
    assert (claim.format, claim.digest, claim.docker_reference) == ("sig", DIGEST, NAME)
    assert claim.annotations == annotations
    assert claim.message == message
    assert claim.sha256 == hashlib.sha256(message).hexdigest()


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("annotations", [{}, {"build": "17"}, ANNOTATIONS | {"list": "a, b,c"}])
def test_statement_is_recognised_in_each_spelling(annotations: dict[str, str], spelling: t.Any) -> None:
    message = bundle(annotations=annotations, **spelling)
    claim = _rebuild(message)
    assert (claim.format, claim.digest, claim.annotations) == ("bundle", DIGEST, annotations)
    assert claim.message == message


@pytest.mark.parametrize("message", [sig(), *(bundle(**spelling) for spelling in SPELLINGS)])
def test_digest_beside_the_message_must_be_its_own(message: bytes) -> None:
    # cosign 3 takes the hash of the curve's size.
    for name in ("sha256", "sha384", "sha512"):
        digest = hashlib.new(name, message).digest()
        assert _rebuild(message, digest).message == message
        assert _refused(message, digest[:-1]).code == _refused(message, digest + b"0").code == "digest_mismatch"
    for other in (sha256(message + b" "), b"", b"0" * 32, b"0" * 48, b"0" * 64, hashlib.sha224(message).digest()):
        assert _refused(message, other).code == "digest_mismatch"


@pytest.mark.parametrize("annotations", [{}, ANNOTATIONS])
@pytest.mark.parametrize("make", [sig, *(
    lambda annotations, spelling=spelling: bundle(annotations=annotations, **spelling) for spelling in SPELLINGS
)])
def test_digest_alone_is_signed_if_it_is_that_of_the_claim(make: t.Any, annotations: dict[str, str]) -> None:
    message = make(annotations=annotations)
    if make is sig:
        message = message.replace(b"\\u00e9", "\u00e9".encode())
    for name in ("sha256", "sha384", "sha512"):
        assert _rebuild(None, hashlib.new(name, message).digest(), annotations).message == message
    for wrong in ({"build": "17"}, {**annotations, "more": ""}):
        assert _refused(None, sha256(message), wrong).code == "type_mismatch"


@pytest.mark.parametrize("digest", [
    None, b"", b"\0" * 32, sha256(b"anything"), hashlib.sha224(sig()).digest(), sha256(sig())[:-1],
    sha256(sig()).hex().encode(),
])
def test_digest_alone_is_never_signed_blindly(digest: bytes | None) -> None:
    error = _refused(None, digest)
    assert error.code == "type_mismatch"
    assert "never signed blindly" in error.cause


def test_images_of_docker_hub_have_two_names() -> None:
    asked = references.parse(f"docker.io/library/nginx@{DIGEST}")
    for name in ("index.docker.io/library/nginx", "docker.io/library/nginx"):
        assert _rebuild(sig(name), asked=asked).docker_reference == name
    assert _refused(sig("registry-1.docker.io/library/nginx"), asked=asked).code == "reference_mismatch"
    # What is known by its digest alone is spelled as cosign does.
    assert _rebuild(None, sha256(sig("index.docker.io/library/nginx")), asked=asked).format == "sig"
    assert _refused(None, sha256(sig("docker.io/library/nginx")), asked=asked).code == "type_mismatch"


def test_tag_may_stand_in_the_name() -> None:
    assert _rebuild(sig(f"{NAME}:1.4")).docker_reference == f"{NAME}:1.4"
    asked = references.parse(f"127.0.0.1:5000/app@{DIGEST}")
    assert _rebuild(sig("127.0.0.1:5000/app:1.4"), asked=asked).docker_reference == "127.0.0.1:5000/app:1.4"


def test_longer_digests_are_signed_as_such() -> None:
    long = "ab" * 64
    asked = references.parse(f"{NAME}@sha512:{long}")
    message = bundle().replace(b'{"sha256":"' + HEX.encode(), b'{"sha512":"' + long.encode())
    content = message[message.index(b"{"):]
    assert _rebuild(pae(content), asked=asked).digest == f"sha512:{long}"
    assert _refused(bundle(), asked=asked).code == "type_mismatch"


def test_annotations_that_were_asked_for_must_be_those_of_the_message() -> None:
    for message in (sig(annotations={"build": "17"}), bundle(annotations={"build": "17"})):
        assert _rebuild(message, annotations={"build": "17"}).message == message
        for wrong in ({"build": "18"}, {"build": "17", "more": ""}, {"other": "17"}):
            error = _refused(message, annotations=wrong)
            assert error.code == "annotation_mismatch"
            assert "'build': '17'" in error.cause


# What is not ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("message", [sig(hex_digest=OTHER_HEX), bundle(OTHER_HEX)])
def test_other_image_is_refused(message: bytes) -> None:
    error = _refused(message)
    assert error.code == "digest_mismatch"
    assert OTHER_HEX in error.cause
    assert error.object == str(ASKED)


@pytest.mark.parametrize("name", [
    "registry.example.org/acme/other", "registry.example.org/acme/app/below", "registry.example.org/acme",
    "evil.example.org/acme/app", "registry.example.org:443/acme/app", "acme/app", "app", "",
    f"{NAME}@sha256:{HEX}", f"{NAME}@sha256", f"{NAME} ", "Registry.example.org/acme/app", f"{NAME}/",
])
def test_other_repository_is_refused(name: str) -> None:
    assert _refused(sig(name)).code == "reference_mismatch"


@pytest.mark.parametrize("tag", ["", " ", "1.4 and more", "-1", "a" * 129, "1\\n2", "\u00e9"])
def test_what_is_no_tag_is_refused(tag: str) -> None:
    assert _refused(sig(f"{NAME}:{tag}")).code == "type_mismatch"


# A TLS 1.3 server signs this (RFC 8446 section 4.4.3), and a TLS 1.2 server its randoms and parameters.
HANDSHAKE = b" " * 64 + b"TLS 1.3, server CertificateVerify" + b"\0" + sha256(b"transcript")


def _statement(**changed: t.Any) -> bytes:
    whole = {**json.loads(statement()), **changed}
    return pae(json.dumps({key: value for key, value in whole.items() if value is not None}).encode())


@pytest.mark.parametrize("message", [
    b"", b"\0", b"{", b"{}", b"[]", b"null", b"\xff\xfe", b"text", HANDSHAKE, HANDSHAKE + sig(), sig() + HANDSHAKE,
    b"\x16\x03\x03" + b"\0" * 61 + b"\x03\x00\x17\x41" + b"\x04" * 65,
    # A certificate request, and one that begins as a statement does.
    b"\x30\x82\x01\x00\x02\x01\x00" + b"\0" * 200, b"DSSEv1 \x30\x82\x01\x00",
    # What other things of sigstore and of containers are.
    json.dumps({"critical": {**json.loads(sig())["critical"], "type": "atomic container signature"}}).encode(),
    json.dumps({"critical": {**json.loads(sig())["critical"], "type": ""}, "optional": None}).encode(),
    _statement(predicateType="https://slsa.dev/provenance/v1"),
    _statement(predicateType="https://sigstore.dev/cosign/sign/v2"), _statement(predicateType=None),
    _statement(_type="https://in-toto.io/Statement/v2"), _statement(subject=[]),
    pae(b"hello"), pae(b"{}"), pae(b""), pae(sig()), statement(), b"DSSEv1 ", b"DSSEv1 {}",
], ids=lambda message: str(len(message)))
def test_anything_else_is_refused(message: bytes) -> None:
    error = _refused(message)
    assert error.code == "type_mismatch"
    assert _refused(message, sha256(message)).code == "type_mismatch"


GOOD = statement(annotations={"a": "1"})


@pytest.mark.parametrize("message", [
    # White space, other orders, other escapes.
    sig() + b"\n", b" " + sig(), sig().replace(b",", b", "), sig().replace(b":", b": ", 1), b"\xef\xbb\xbf" + sig(),
    sig().replace(b"container image", b"container\\u0020image"), sig().replace(b"/", b"\\/"),
    json.dumps(json.loads(sig()), sort_keys=False, indent=1).encode(),
    json.dumps({name: json.loads(sig())[name] for name in ("optional", "critical")}, separators=(",", ":")).encode(),
    sig().replace(b"null", b"{}"), sig().replace(b',"optional":null', b""),
    # More than the claim.
    sig().replace(b'"optional"', b'"extra":1,"optional"'), sig().replace(b'"type"', b'"more":{},"type"'),
    sig().replace(b"null", b'{"number":1}'), sig().replace(b"null", b'{"nested":{"a":"b"}}'),
    # The same member twice: Go takes the last, others the first.
    sig().replace(b'"optional"', b'"critical":{},"optional"'), sig().replace(b"null", b'{"a":"1","a":"2"}'),
    sig().replace(b'"image":', b'"image":{"docker-manifest-digest":"sha256:' + OTHER_HEX.encode() + b'"},"image":'),
    sig().replace(b'"image":', b'"Image":{"docker-manifest-digest":"sha256:' + OTHER_HEX.encode() + b'"},"image":'),
    # The pre-authentication encoding with another length, type, version, or something around it.
    pae(GOOD).replace(b" 28 ", b" 27 "), pae(GOOD).replace(b"json %d" % len(GOOD), b"json %d" % (len(GOOD) - 1)),
    pae(GOOD).replace(b"json ", b"json 0"), pae(GOOD).replace(b"in-toto", b"in-tota"), pae(GOOD) + b" ",
    pae(GOOD).replace(b"DSSEv1", b"DSSEv2"), pae(GOOD).replace(b"DSSEv1 ", b"DSSEv1  "), GOOD, b"DSSEv1 " + GOOD,
    pae(GOOD)[:-1], pae(GOOD + b"\n"), pae(b" " + GOOD),
    # A statement in a spelling that no cosign has.
    pae(GOOD.replace(b",", b", ", 1)), pae(GOOD.replace(b":", b": ")), pae(GOOD.replace(b",", b",  ")),
    pae(json.dumps(json.loads(GOOD), sort_keys=True, separators=(",", ":")).encode()),
    pae(GOOD.replace(b'"predicate":{}', b'"predicate":{"a":1}')),
    pae(GOOD.replace(b'"predicate":{}', b'"predicate":null')),
    pae(GOOD.replace(b'"digest"', b'"name":"app","digest"')), pae(GOOD.replace(b"/v1", b"/v0.1", 1)),
    # Two subjects, none, or another digest beside it.
    pae(GOOD.replace(b'"1"}}', b'"1"}},{"digest":{"sha256":"' + OTHER_HEX.encode() + b'"}}')),
    pae(GOOD.replace(b'"digest":{', b'"digest":{"sha512":"' + b"a" * 128 + b'",')),
    pae(GOOD.replace(b'"sha256"', b'"sha1"')), pae(GOOD.replace(HEX.encode(), HEX.upper().encode())),
    pae(GOOD.replace(b'"sha256":', b'"sha256":"' + OTHER_HEX.encode() + b'","sha256":')),
    pae(GOOD.replace(b'{"a":"1"}', b'{"a":"1","a":"1"}')), pae(GOOD.replace(b'"1"', b"1")),
], ids=lambda message: str(len(message)))
def test_other_bytes_for_the_same_image_are_refused(message: bytes) -> None:
    assert _refused(message).code in ("type_mismatch", "digest_mismatch")


def test_limits_are_the_documented_ones() -> None:
    assert claims.MAX_MESSAGE == plugin._MAX_MESSAGE == 256 * 1024
    assert claims.MAX_ANNOTATIONS == 4 * 1024


def test_what_is_huge_is_not_even_read() -> None:
    huge = sig() + b" " * claims.MAX_MESSAGE
    assert _refused(huge).code == "limit_exceeded"
    padded = sig().ljust(claims.MAX_MESSAGE)
    assert _refused(padded).code == "type_mismatch"


@pytest.mark.parametrize("make", [sig, bundle])
def test_annotations_have_a_limit(make: t.Any) -> None:
    fits = {"a": "x" * (claims.MAX_ANNOTATIONS - len('{"a": ""}'))}
    assert _rebuild(make(annotations=fits)).annotations == fits
    more = {"a": fits["a"] + "x"}
    for error in (_refused(make(annotations=more)), _refused(None, sha256(make(annotations=more)), more)):
        assert error.code == "limit_exceeded"
        assert str(claims.MAX_ANNOTATIONS) in error.cause
    # It is that of the record, in which other letters are longer.
    assert _refused(make(annotations={"a": "\u00e9" * (claims.MAX_ANNOTATIONS // 6)})).code == "limit_exceeded"


# Whatever comes in ---------------------------------------------------------------------------------------------------

_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_annotations = st.dictionaries(_texts, _texts, max_size=3)
_good = st.one_of(
    st.builds(lambda annotations: claims.Claim("sig", DIGEST, annotations, NAME).message, _annotations),
    st.builds(
        lambda annotations, spelling: claims.Claim("bundle", DIGEST, annotations, NAME, spelling).message, _annotations,
        st.integers(0, 3),
    ),
)


@st.composite
def _messages(draw: st.DrawFn) -> bytes:
    """Anything, a good message, or one with a few bytes cut, put in or replaced."""
    message = draw(st.one_of(st.binary(max_size=200), _good))
    for _number in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(message)))
        end = draw(st.integers(start, min(len(message), start + 8)))
        put = draw(st.binary(max_size=4) | st.sampled_from([b"}", b",", b'"', b" "]))
        message = message[:start] + put + message[end:]
    return message


@given(_messages(), st.booleans(), _annotations)
@example(sig(), True, {})
@example(bundle(comma=", ", predicate=False), True, {})
def test_nothing_but_a_claim_about_the_image_is_ever_made(
    message: bytes, with_digest: bool, annotations: dict[str, str]
) -> None:
    try:
        claim = _rebuild(message, sha256(message) if with_digest else None, annotations)
    except VerificationError:
        return
    assert claim.message == message
    assert claim.digest == DIGEST
    assert claim.format in ("sig", "bundle")
    assert references.split_tag(claim.docker_reference)[0] == NAME
    assert not annotations or claim.annotations == annotations
    # Whoever reads these bytes finds the claim, and nothing else.
    if claim.format == "sig":
        read = json.loads(message)
        assert read["critical"]["image"]["docker-manifest-digest"] == DIGEST
        assert (read["optional"] or {}) == claim.annotations
    else:
        read = json.loads(message[message.index(b"{"):])
        assert message == pae(message[message.index(b"{"):])
        assert read["subject"] == [{"digest": {"sha256": HEX}, "annotations": claim.annotations}]


@given(_good)
def test_each_good_message_is_signed(message: bytes) -> None:
    claim = _rebuild(message)
    assert claim.message == message
    assert _rebuild(None, sha256(message), claim.annotations).message == message


# Claims that were named ----------------------------------------------------------------------------------------------


def _make(**changed: t.Any) -> claims.Claim:
    given = {"format": "sig", "digest": DIGEST, "annotations": {}, "docker_reference": NAME, **changed}
    return claims.make(**given)


def _not_made(**changed: t.Any) -> VerificationError:
    with pytest.raises(VerificationError) as caught:
        _make(**changed)
    return caught.value


def test_claim_is_made_of_its_parts() -> None:
    assert _make(annotations={"a": "1"}).message == sig(annotations={"a": "1"})
    assert _make(format="bundle", annotations={"a": "1"}).message == bundle(annotations={"a": "1"})
    assert _make(sha256=hashlib.sha256(sig()).hexdigest()).message == sig()


@pytest.mark.parametrize("changed", [
    {"format": "attestation"}, {"format": ""}, {"digest": "latest"}, {"digest": HEX}, {"digest": f"sha256:{HEX[:-1]}"},
    {"annotations": {"a": "\ud800"}}, {"docker_reference": "\udfff"},
])
def test_parts_that_are_wrong_make_no_claim(changed: dict[str, t.Any]) -> None:
    assert _not_made(**changed).code == "input_invalid"


def test_bytes_that_were_meant_must_be_the_same() -> None:
    meant = hashlib.sha256(bundle()).hexdigest()
    error = _not_made(sha256=meant)
    assert error.code == "digest_mismatch"
    assert hashlib.sha256(sig()).hexdigest() in error.cause
    assert meant in error.cause
    assert _not_made(sha256="").code == "digest_mismatch"


def test_named_claims_have_the_same_limit() -> None:
    assert _not_made(annotations={"a": "x" * claims.MAX_ANNOTATIONS}).code == "limit_exceeded"
