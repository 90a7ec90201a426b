# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verification: the attack corpus as a table, the policy around single signatures, and what it costs in requests."""

from __future__ import annotations

import base64
import gzip
import hashlib
import hmac
import json
import typing as t
from dataclasses import dataclass, field

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import HallmarkError
from ansible_collections.hallmark.signing.plugins.module_utils._keys import algorithms, making, pem
from ansible_collections.hallmark.signing.plugins.module_utils._oci import reference
from ansible_collections.hallmark.signing.plugins.module_utils._signing import authority, dsse, referring, verify
from ansible_collections.hallmark.signing.plugins.module_utils._signing import bundle as bundles
from ansible_collections.hallmark.signing.plugins.module_utils._signing import sign as signing
from ansible_collections.hallmark.signing.plugins.module_utils._signing import statement as statements
from ansible_collections.hallmark.signing.tests.unit.fake_registry import (
    OCI_INDEX,
    OCI_MANIFEST,
    FakeRegistry,
    Fault,
    Seen,
    digest_of,
)
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._signing.signing_bench import (
    IN_TOTO,
    OTHER_DIGEST,
    PROVENANCE_TYPE,
    REPOSITORY,
    SIG_ANNOTATION,
    Bench,
    Json,
    Key,
    b64,
    bundle,
    claim,
    compact,
    pae,
    statement,
)
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa, utils

ACCEPTED = "accepted"
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
ED25519 = ed25519.Ed25519PrivateKey.generate()
ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493


# What the corpus is made of --------------------------------------------------------------------------------------


def dumps(document: Json) -> str:
    return compact(document).decode()


def spare_bits(signature: bytes) -> str:
    """Base64 whose unused last bits are not zero; the signature must not be a multiple of three long."""
    text = b64(signature)
    data = text.rstrip("=")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return data[:-1] + alphabet[alphabet.index(data[-1]) + 1] + text[len(data):]


def signed_until(key: Key, message: bytes, marks: str) -> bytes:
    """Sign until the base64 has one of the marks: ECDSA gives another signature each time, RSA has them at once."""
    return next(made for made in (key.sign(message) for _attempt in range(1000)) if set(marks) & set(b64(made)))


def padded(key: Key, message: bytes) -> bytes:
    return signed_until(key, message, "=")


def url_safe(key: Key, message: bytes) -> str:
    return b64(signed_until(key, message, "+/")).replace("+", "-").replace("/", "_")


def folded(text: str) -> str:
    return f"{text[:20]}\n{text[20:]}"


def non_minimal(signature: bytes) -> bytes:
    """The same ECDSA signature with a superfluous zero before r."""
    length = signature[3]
    return bytes([0x30, signature[1] + 1, 2, length + 1, 0]) + signature[4:]


def raw_pair(signature: bytes) -> bytes:
    r, s = utils.decode_dss_signature(signature)
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def altered(signature: bytes) -> bytes:
    return signature[:-1] + bytes([signature[-1] ^ 1])


def pss(key: Key, message: bytes) -> bytes:
    return t.cast(rsa.RSAPrivateKey, key.private).sign(message, padding.PSS(
        padding.MGF1(hashes.SHA256()), 32
    ), hashes.SHA256())


Attack = t.Callable[[Bench, Key, Key], t.Any]


@dataclass(frozen=True)
class Row:
    """One case: its number in signature-formats.md 10.7, what is attempted, and how we answer.

    attack gets the image, the trusted key and a foreign one. cosign says what cosign 2.5.0 (c2) and 3.1.1 (c3)
    answer where it differs from ours; all of it was measured with the very rows of this table.
    """

    number: str
    words: str
    attack: Attack
    answer: str
    cosign: str = ""
    only: str = ""
    demand: t.Mapping[str, t.Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"{self.number} {self.words}"


def payload_attack(change: t.Callable[[Json, str], Json | bytes | str]) -> Attack:
    """A rightly signed payload, changed before it was signed."""

    def attack(bench: Bench, key: Key, _foreign: Key) -> None:
        content = change(bench.claim(), bench.digest)
        bench.sign_sig(content.encode() if isinstance(content, str) else content, key)

    return attack


def statement_attack(change: t.Callable[[Json, str], Json | bytes | str]) -> Attack:
    """A rightly signed statement, changed before it was signed."""

    def attack(bench: Bench, key: Key, _foreign: Key) -> None:
        content = change(bench.statement(), bench.digest)
        bench.sign_bundle(content.encode() if isinstance(content, str) else content, key)

    return attack


def signature_attack(make: t.Callable[[Key, bytes], bytes | str | None]) -> Attack:
    """A good payload whose signature annotation is something else."""

    def attack(bench: Bench, key: Key, _foreign: Key) -> None:
        content = compact(bench.claim())
        bench.put_layers([bench.layer(content, make(key, content))])

    return attack


def sig_attack(make: t.Callable[[Key, bytes], bytes | str]) -> Attack:
    """A good bundle whose sig is something else."""

    def attack(bench: Bench, key: Key, _foreign: Key) -> None:
        content = compact(bench.statement())
        made = make(key, pae(content))
        document = bundle(content, key)
        document["dsseEnvelope"]["signatures"][0]["sig"] = b64(made) if isinstance(made, bytes) else made
        bench.refer(compact(document))

    return attack


def bundle_attack(change: t.Callable[[Json], Json | bytes | str]) -> Attack:
    """A good bundle, changed after it was signed."""

    def attack(bench: Bench, key: Key, _foreign: Key) -> None:
        changed = change(bundle(compact(bench.statement()), key))
        bench.refer(compact(changed) if isinstance(changed, dict) else changed.encode()
                    if isinstance(changed, str) else changed)

    return attack


def material(**members: t.Any) -> t.Callable[[Json], Json]:
    return lambda document: {**document, "verificationMaterial": members}


def critical(document: Json, **members: t.Any) -> Json:
    return {**document, "critical": {**document["critical"], **members}}


def image(document: Json, **members: t.Any) -> Json:
    return critical(document, image={name.replace("_", "-"): value for name, value in members.items()})


def two_digests(document: Json, first: str, second: str) -> str:
    member = "docker-manifest-digest"
    text = dumps(image(document, docker_manifest_digest=first))
    return text.replace(f'"{first}"', f'"{first}","{member}":"{second}"')


def upper(digest: str) -> str:
    return f"sha256:{digest[7:].upper()}"


def copied_from_another_image(bench: Bench, key: Key, _foreign: Key) -> None:
    other = bench.registry.put_image(REPOSITORY, "2")
    content = compact(claim(other, bench.name))
    bench.put_layers([bench.layer(content, key.sign(content))], of=other)
    bench.manifests[bench.sig_tag] = bench.manifests[f"{other.replace(':', '-')}.sig"]


def copied_bundle(bench: Bench, key: Key, _foreign: Key) -> None:
    bench.sign_bundle(statement(bench.registry.put_image(REPOSITORY, "2")), key)


def hostile_blob(bench: Bench, key: Key, _foreign: Key) -> None:
    layer = bench.sign_sig(bench.claim(digest=OTHER_DIGEST), key)
    good = compact(bench.claim())
    layer["annotations"][SIG_ANNOTATION] = b64(key.sign(good))
    bench.put_layers([layer])
    bench.registry.blobs[REPOSITORY][layer["digest"]] = good


def hostile_bundle_blob(bench: Bench, key: Key, _foreign: Key) -> None:
    foreign = compact(bundle(compact(statement(OTHER_DIGEST)), key))
    good = compact(bundle(compact(bench.statement()), key))
    good += b" " * (len(foreign) - len(good))
    bench.refer(foreign, layer={"size": len(good)})
    bench.registry.blobs[REPOSITORY][digest_of(foreign)] = good


def sized(change: int) -> Attack:
    def attack(bench: Bench, key: Key, _foreign: Key) -> None:
        content = compact(bench.claim())
        bench.sign_sig(content, key, size=len(content) + change)

    return attack


def sized_bundle(change: int) -> Attack:
    def attack(bench: Bench, key: Key, _foreign: Key) -> None:
        data = compact(bundle(compact(bench.statement()), key))
        bench.refer(data, layer={"size": len(data) + change})

    return attack


def inline_data(present: bool, annotations: Json | None) -> Attack:
    """Embedded content in the descriptor: the right one without a blob, or a foreign one beside the right blob."""

    def attack(bench: Bench, key: Key, _foreign: Key) -> None:
        content = compact(bench.claim(annotations))
        data = compact(bench.claim(digest=OTHER_DIGEST)) if present else content
        layer = bench.sign_sig(content, key, data=b64(data))
        if not present:
            del bench.registry.blobs[REPOSITORY][layer["digest"]]

    return attack


def foreign_referrer_bytes(bench: Bench, key: Key, _foreign: Key) -> None:
    digest = bench.sign_bundle(bench.statement(), key)
    raw = bench.manifests[digest].raw
    bench.manifests[digest] = bench.manifests[digest]._replace(raw=raw + b"\n")


def with_sizes(size: int) -> Attack:
    return lambda bench, key, _foreign: bench.sign_sig(bench.claim(), key, size=size)


def many_layers(bench: Bench, key: Key, _foreign: Key) -> None:
    good = bench.sign_sig(bench.claim(), key)
    bench.put_layers([good] * 1001)


def good_and_bad(bench: Bench, key: Key, foreign: Key) -> None:
    content = compact(bench.claim())
    bad = [bench.layer(content, altered(foreign.sign(content))) for _number in range(199)]
    bench.put_layers([*bad, bench.layer(content, key.sign(content))])


def many_referrers(bench: Bench, key: Key, _foreign: Key) -> None:
    digest = bench.sign_bundle(bench.statement(), key)
    entries = [bench.entry(digest)] * 10_000
    if bench.registry.referrers:
        body = compact({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})
        bench.registry.fail(Fault(body=body), path="/referrers/")
    else:
        bench.list_referrers(entries)


def fallback_tag_is_the_image(bench: Bench, _key: Key, _foreign: Key) -> None:
    bench.manifests[bench.fallback_tag] = bench.manifests[bench.digest]


def listed_elsewhere(bench: Bench, key: Key, _foreign: Key) -> None:
    """A good bundle in a manifest whose subject is another image, which the registry lists for ours all the same."""
    other = bench.registry.put_image(REPOSITORY, "2")
    digest = bench.refer(
        compact(bundle(compact(bench.statement()), key)),
        subject={"mediaType": OCI_MANIFEST, "size": len(bench.manifests[other].raw), "digest": other},
    )
    if bench.registry.referrers:
        body = compact({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [bench.entry(digest)]})
        bench.registry.fail(Fault(body=body), path="/referrers/")


def foreign_payload_type(kind: str, shift: int = 0) -> Attack:
    """A signature over the encoding of another type; shift moves the border between type and body."""

    def attack(bench: Bench, key: Key, _foreign: Key) -> None:
        content = compact(bench.statement())
        signature = key.sign(pae(kind[len(kind) - shift:].encode() + content, kind[:len(kind) - shift]))
        document = bundle(content, key)
        document["dsseEnvelope"]["signatures"] = [{"sig": b64(signature)}]
        document["dsseEnvelope"]["payloadType"] = kind
        bench.refer(compact(document))

    return attack


def raw_statement_signature(bench: Bench, key: Key, _foreign: Key) -> None:
    content = compact(bench.statement())
    document = bundle(content, key)
    document["dsseEnvelope"]["signatures"] = [{"sig": b64(key.sign(content))}]
    bench.refer(compact(document))


def envelope_with(count: int) -> t.Callable[[Json], Json]:
    def change(document: Json) -> Json:
        envelope = document["dsseEnvelope"]
        return {**document, "dsseEnvelope": {**envelope, "signatures": envelope["signatures"] * count}}

    return change


def gzip_layer(size: int) -> Attack:
    def attack(bench: Bench, key: Key, _foreign: Key) -> None:
        good = compact(bundle(compact(bench.statement()), key))
        bench.refer(gzip.compress(good + b" " * size, mtime=0))

    return attack


def endless(bench: Bench, key: Key, _foreign: Key) -> None:
    bench.sign_bundle(bench.statement(), key)
    bench.registry.fail(Fault(chunked=True, endless=True), path="/blobs/")


def huge(bench: Bench, key: Key, _foreign: Key) -> None:
    bench.refer(compact(bundle(compact(bench.statement()), key)), layer={"size": 200 * 1024 * 1024})


def also_signed(attack: Attack, format: str) -> Attack:
    """The attack beside a good signature of the other format."""

    def both(bench: Bench, key: Key, foreign: Key) -> None:
        if format == "sig":
            bench.sign_sig(bench.claim(), key)
        else:
            bench.sign_bundle(bench.statement(), key)
        attack(bench, key, foreign)

    return both


def by(foreign_signs: t.Callable[[Bench, Key], t.Any]) -> Attack:
    return lambda bench, _key, foreign: foreign_signs(bench, foreign)


def nothing(_bench: Bench, _key: Key, _foreign: Key) -> None:
    pass


def subject(digest: str, **members: t.Any) -> Json:
    return {"digest": {"sha256": digest[7:]}, **members}


def subjects(*of: t.Any) -> t.Callable[[Json, str], Json]:
    """Replace the subjects of a statement; OURS stands for that of the image."""
    return lambda document, _digest: {
        **document, "subject": [document["subject"][0] if one is OURS else one for one in of],
    }


def numbers(
    key: Key, message: bytes, *, r: int | None = None, s: int | None = None, more: int = 0
) -> bytes:
    """An ECDSA signature with one or both numbers replaced, or s too large by so much."""
    true_r, true_s = utils.decode_dss_signature(key.sign(message))
    return utils.encode_dss_signature(true_r if r is None else r, (true_s if s is None else s) + more)


def with_payload(spell: t.Callable[[str], str], text: str) -> Attack:
    """A good bundle whose statement has so much in its predicate that the spelling of the base64 differs."""

    def attack(bench: Bench, key: Key, _foreign: Key) -> None:
        content = compact({**bench.statement(), "predicate": {"x": text}})
        document = bundle(content, key)
        right = document["dsseEnvelope"]["payload"]
        document["dsseEnvelope"]["payload"] = spell(right)
        assert document["dsseEnvelope"]["payload"] != right
        bench.refer(compact(document))

    return attack


url_safe_payload = with_payload(lambda text: text.replace("+", "-").replace("/", "_"), "~~~???\u00ff\u00fe")


def unpadded_payload(bench: Bench, key: Key, foreign: Key) -> None:
    length = len(compact({**bench.statement(), "predicate": {"x": ""}}))
    with_payload(lambda text: text.rstrip("="), "x" * (2 + 3 - (length + 1) % 3))(bench, key, foreign)


def by_hint(key_id: str) -> Attack:
    return bundle_attack(material(publicKey={"hint": b64(bytes.fromhex(key_id))}))


def claims_the_key(bench: Bench, key: Key, foreign: Key) -> None:
    hint = b64(bytes.fromhex(key.id))
    bench.sign_bundle(bench.statement(), foreign, verificationMaterial={"publicKey": {"hint": hint}})


OURS: t.Any = object()
WANTED: Json = {"annotations": {"env": "prod"}}
NAMED: Json = {"docker_reference_check": "repository"}
BUNDLE_FIRST: Json = {"formats": ("bundle", "sig")}

# The corpus ------------------------------------------------------------------------------------------------------

# What is wrong with a signature itself, in both formats: the signed message goes in, what takes its place comes out.
SIGNATURES: tuple[tuple[str, str, t.Callable[[Key, bytes], bytes | str], str, str, str], ...] = (
    ("S01b", "altered", lambda key, message: altered(key.sign(message)), "signature_invalid", "", ""),
    ("S03", "spare bits", lambda key, message: spare_bits(padded(key, message)), "malformed", "c2, c3 accept", ""),
    ("S05", "no padding", lambda key, message: b64(padded(key, message)).rstrip("="), "malformed",
     "c3 accepts in bundles", ""),
    ("S05b", "URL-safe alphabet", url_safe, "malformed", "c3 accepts in bundles", ""),
    ("S05c", "leading space", lambda key, message: f" {b64(key.sign(message))}", "malformed", "", ""),
    ("S06", "trailing byte", lambda key, message: key.sign(message) + b"\0", "signature_invalid", "", ""),
    ("S06b", "r is not minimal", lambda key, message: non_minimal(key.sign(message)), "signature_invalid", "", "ec"),
    ("S07", "raw r and s", lambda key, message: raw_pair(key.sign(message)), "signature_invalid", "c2, c3 accept",
     "ec"),
    ("S08", "r = 0", lambda key, message: numbers(key, message, r=0), "signature_invalid", "", "ec"),
    ("S08b", "s = 0", lambda key, message: numbers(key, message, s=0), "signature_invalid", "", "ec"),
    ("S08c", "r = s = 0", lambda key, message: numbers(key, message, r=0, s=0), "signature_invalid", "", "ec"),
    ("S08d", "r = n", lambda key, message: numbers(key, message, r=ORDER), "signature_invalid", "", "ec"),
    ("S08e", "s + n", lambda key, message: numbers(key, message, more=ORDER), "signature_invalid", "", "ec"),
    ("S09", "SHA-512", lambda key, message: key.sign(message, hashes.SHA512()), "signature_invalid", "", ""),
    ("S09b", "SHA-1", lambda key, message: key.sign(message, hashes.SHA1()), "signature_invalid", "", ""),
    ("S10", "PSS", pss, "signature_invalid", "", "rsa"),
    ("S12", "by an Ed25519 key", lambda _key, message: ED25519.sign(message), "signature_invalid", "", ""),
    ("S12b", "HMAC with the public key", lambda key, message: hmac.new(
        key.public.pem.encode(), message, hashlib.sha256).digest(), "signature_invalid", "", ""),
)

SIG_ROWS = (
    Row("N01", "payload is for another image", payload_attack(
        lambda document, _digest: image(document, docker_manifest_digest=OTHER_DIGEST)), "digest_mismatch"),
    Row("N02", "payload digest is upper-case", payload_attack(
        lambda document, digest: image(document, docker_manifest_digest=upper(digest))), "malformed"),
    Row("N03", "payload digest is missing", payload_attack(lambda document, _digest: image(document)), "malformed"),
    Row("N04", "manifest is copied from another image", copied_from_another_image, "digest_mismatch"),
    Row("N05", "duplicate member, bad then good", payload_attack(
        lambda document, digest: two_digests(document, OTHER_DIGEST, digest)), "malformed", "c2, c3 accept"),
    Row("N06", "duplicate member, good then bad", payload_attack(
        lambda document, digest: two_digests(document, digest, OTHER_DIGEST)), "malformed"),
    Row("N07", "member in another case", payload_attack(
        lambda document, _digest: dumps(document).replace("critical", "CRITICAL")), "malformed", "c2, c3 accept"),
    Row("N07b", "digest member in another case", payload_attack(
        lambda document, _digest: dumps(document).replace("docker-manifest", "Docker-Manifest")), "malformed",
        "c2, c3 accept"),
    Row("N07c", "bad digest, then the good one in another case", payload_attack(
        lambda document, digest: dumps(image(document, docker_manifest_digest=OTHER_DIGEST)).replace(
            f'"{OTHER_DIGEST}"', f'"{OTHER_DIGEST}","Docker-Manifest-Digest":"{digest}"')), "malformed",
        "c2, c3 accept"),
    Row("N08", "trailing data", payload_attack(lambda document, _digest: dumps(document) + "{}"), "malformed"),
    Row("N08b", "trailing line end", payload_attack(lambda document, _digest: dumps(document) + "\n"), ACCEPTED),
    Row("N09", "byte order mark", payload_attack(lambda document, _digest: f"\ufeff{dumps(document)}"), "malformed"),
    Row("N10", "type of containers/image", payload_attack(
        lambda document, _digest: critical(document, type="atomic container signature")), "type_mismatch",
        "c2, c3 accept"),
    Row("N10b", "type empty", payload_attack(
        lambda document, _digest: critical(document, type="")), "type_mismatch", "c2, c3 accept"),
    Row("N11", "name is foreign", payload_attack(
        lambda document, _digest: critical(document, identity={"docker-reference": "evil.example/app"})),
        "reference_mismatch", "c2, c3 accept", demand=NAMED),
    Row("N11b", "name is empty", payload_attack(
        lambda document, _digest: critical(document, identity={"docker-reference": ""})), "reference_mismatch",
        "c2, c3 accept", demand=NAMED),
    Row("N11c", "name is missing", payload_attack(
        lambda document, _digest: critical(document, identity={})), "reference_mismatch", "c2, c3 accept",
        demand=NAMED),
    Row("N12", "optional is a list", payload_attack(
        lambda document, _digest: {**document, "optional": ["env"]}), "malformed"),
    Row("N13", "annotation is missing", payload_attack(
        lambda document, _digest: document), "annotation_mismatch", demand=WANTED),
    Row("N13b", "annotation has another value", payload_attack(
        lambda document, _digest: {**document, "optional": {"env": "test"}}), "annotation_mismatch", demand=WANTED),
    Row("N13c", "annotation is no string", payload_attack(
        lambda document, _digest: {**document, "optional": {"env": ["prod"]}}), "annotation_mismatch", demand=WANTED),
    Row("N13d", "annotation is null", payload_attack(
        lambda document, _digest: {**document, "optional": {"env": None}}), "annotation_mismatch", demand=WANTED),
    Row("N15", "blob is not what its digest says", hostile_blob, "digest_mismatch"),
    Row("N16", "descriptor says less than the blob has", sized(-1), "limit_exceeded"),
    Row("N16b", "descriptor says more than the blob has", sized(1), "digest_mismatch"),
    Row("N17", "content embedded in the descriptor, no blob", inline_data(False, {"a": "1"}), "not_found",
        "c2, c3 accept"),
    Row("N17a", "content that everybody knows, no blob", inline_data(False, None), ACCEPTED),
    Row("N17b", "other content embedded beside the right blob", inline_data(True, {"a": "1"}), ACCEPTED,
        "c2, c3 refuse"),
    Row("S01", "made by another key", by(lambda bench, key: bench.sign_sig(bench.claim(), key)), "signature_invalid"),
    Row("S02", "no annotation", signature_attack(lambda _key, _content: None), "malformed"),
    Row("S02b", "empty annotation", signature_attack(lambda _key, _content: ""), "malformed"),
    Row("S04", "inner line end", signature_attack(lambda key, content: folded(b64(key.sign(content)))), ACCEPTED),
    *(Row(number, words, signature_attack(make), answer, cosign, only)
      for number, words, make, answer, cosign, only in SIGNATURES),
    Row("S14", "no layers", lambda bench, _key, _foreign: bench.put_layers([]), "no_signatures"),
    Row("S15", "one good beside 199 bad", good_and_bad, ACCEPTED),
    Row("N51", "payload is no JSON", payload_attack(lambda _document, _digest: "signed by me"), "malformed"),
    Row("N51b", "payload is a statement", payload_attack(
        lambda _document, digest: statement(digest)), "malformed"),
    Row("N70", "layer size is -1", with_sizes(-1), "malformed"),
    Row("N70b", "layer size is 2^63", with_sizes(2**63), "malformed"),
    Row("N70c", "layer size is 2^62 - 1", with_sizes(2**62 - 1), "limit_exceeded"),
    Row("N71", "1001 layers", many_layers, "limit_exceeded"),
    Row("N72", "layer of 200 MiB", with_sizes(200 * 1024 * 1024), "limit_exceeded"),
    Row("N73", "nested deeply", payload_attack(lambda _document, _digest: "[" * 100_000), "malformed"),
    Row("N73b", "long number", payload_attack(
        lambda document, _digest: dumps(document).replace("null", f'{{"a":{"9" * 200_000}}}')), "malformed"),
)

BUNDLE_ROWS = (
    Row("N01", "statement is for another image", copied_bundle, "digest_mismatch"),
    Row("N13", "annotation is missing", statement_attack(
        lambda document, _digest: document), "annotation_mismatch", demand=WANTED),
    Row("N13b", "annotation has another value", statement_attack(
        lambda _document, digest: statement(digest, {"env": "test"})), "annotation_mismatch", demand=WANTED),
    Row("N13c", "annotation is no string", statement_attack(
        lambda _document, digest: statement(digest, {"env": ["prod"]})), "malformed", demand=WANTED),
    Row("N13d", "annotation is on the subject of another image", statement_attack(
        subjects(subject(OTHER_DIGEST, annotations={"env": "prod"}), OURS)), "annotation_mismatch", demand=WANTED),
    Row("N15", "blob is not what its digest says", hostile_bundle_blob, "digest_mismatch"),
    Row("N16", "descriptor says less than the blob has", sized_bundle(-1), "limit_exceeded"),
    Row("N16b", "descriptor says more than the blob has", sized_bundle(1), "digest_mismatch"),
    Row("N18", "referrer is not what its digest says", foreign_referrer_bytes, "digest_mismatch"),
    Row("S01", "made by another key", by(
        lambda bench, key: bench.sign_bundle(bench.statement(), key)), "signature_invalid"),
    *(Row(number, words, sig_attack(make), answer, cosign, only)
      for number, words, make, answer, cosign, only in SIGNATURES),
    Row("S02", "empty signature", sig_attack(lambda _key, _message: ""), "signature_invalid"),
    Row("S04", "inner line end", sig_attack(lambda key, message: folded(b64(key.sign(message)))), "malformed"),
    Row("S14", "no bundle", nothing, "no_signatures"),
    Row("S17", "no signature in the envelope", bundle_attack(envelope_with(0)), "malformed"),
    Row("S17b", "two signatures in the envelope", bundle_attack(envelope_with(2)), "malformed"),
    Row("S18", "another payload type, rightly signed", foreign_payload_type("application/json"), "malformed"),
    Row("S18b", "border between type and body moved", foreign_payload_type(IN_TOTO, shift=2), "signature_invalid"),
    Row("S18c", "statement signed without the encoding", raw_statement_signature, "signature_invalid"),
    Row("N46", "made with a certificate", bundle_attack(
        material(certificate={"rawBytes": b64(b"DER")})), "certificate_untrusted"),
    Row("N50", "attestation of another type", statement_attack(
        lambda document, _digest: {**document, "predicateType": PROVENANCE_TYPE}), "type_mismatch",
        "c3 accepts, which is N52"),
    Row("N51", "statement is no JSON", statement_attack(lambda _document, _digest: "signed by me"), "malformed"),
    Row("N51b", "statement is a payload", statement_attack(
        lambda _document, digest: claim(digest, "name")), "malformed"),
    Row("N53", "subject has only another algorithm", statement_attack(
        lambda document, digest: {**document, "subject": [{"digest": {"sha512": digest[7:] * 2}}]}),
        "digest_mismatch"),
    Row("N53", "subject digest is upper-case", statement_attack(
        lambda _document, digest: statement(upper(digest))), "malformed"),
    Row("N53", "no subject", statement_attack(subjects()), "malformed"),
    Row("N53b", "second subject is the image", statement_attack(subjects(subject(OTHER_DIGEST), OURS)), ACCEPTED),
    Row("N53c", "statement type garbage", statement_attack(
        lambda document, _digest: {**document, "_type": "garbage"}), "type_mismatch", "c3 accepts"),
    Row("N53c", "statement type missing", statement_attack(
        lambda _document, digest: statement(digest, _type=None)), "malformed", "c3 accepts"),
    Row("N53c", "predicate type empty", statement_attack(
        lambda document, _digest: {**document, "predicateType": ""}), "type_mismatch", "c3 accepts"),
    Row("N53c", "predicate type missing", statement_attack(
        lambda _document, digest: statement(digest, predicateType=None)), "type_mismatch", "c3 accepts"),
    Row("N54", "null subject", statement_attack(subjects(None)), "malformed"),
    Row("N54", "null beside the good subject", statement_attack(subjects(None, OURS)), "malformed"),
    Row("N54b", "unknown member", statement_attack(lambda document, _digest: {**document, "x": 1}), "malformed"),
    Row("N54b", "duplicate member", statement_attack(
        lambda document, _digest: dumps(document).replace('"predicate":', '"predicateType":"","predicate":')),
        "malformed"),
    Row("N54b", "another digest is not hex", statement_attack(
        lambda document, digest: {**document, "subject": [{"digest": {"sha256": digest[7:], "x": "z"}}]}),
        "malformed"),
    Row("N55", "v0.4", bundle_attack(lambda document: {
        **document, "mediaType": "application/vnd.dev.sigstore.bundle.v0.4+json"}), "malformed"),
    Row("N55", "media type unknown", bundle_attack(
        lambda document: {**document, "mediaType": "text/plain"}), "malformed"),
    Row("N55", "media type empty", bundle_attack(lambda document: {**document, "mediaType": ""}), "malformed"),
    Row("N56", "unknown member", bundle_attack(lambda document: {**document, "x": 1}), "malformed"),
    Row("N56", "duplicate member", bundle_attack(
        lambda document: dumps(document).replace('"dsseEnvelope":', '"mediaType":"","dsseEnvelope":')), "malformed"),
    Row("N56", "trailing data", bundle_attack(lambda document: dumps(document) + "{}"), "malformed"),
    Row("N56", "null", bundle_attack(lambda _document: b"null"), "malformed"),
    Row("N56", "list", bundle_attack(lambda document: f"[{dumps(document)}]"), "malformed"),
    Row("N56", "empty", bundle_attack(lambda _document: b""), "malformed"),
    Row("N57", "message signature as well", bundle_attack(
        lambda document: {**document, "messageSignature": {"signature": ""}}), "malformed"),
    Row("N57", "key and certificate", bundle_attack(
        material(publicKey={"hint": ""}, certificate={"rawBytes": b64(b"DER")})), "malformed"),
    Row("N57", "neither key nor certificate", bundle_attack(material()), "malformed"),
    Row("N57", "nothing signed", bundle_attack(
        lambda document: {**document, "dsseEnvelope": None}), "malformed"),
    Row("N58", "certificate chain", bundle_attack(
        material(x509CertificateChain={"certificates": [{"rawBytes": b64(b"DER")}]})), "malformed"),
    Row("N59", "URL-safe payload", url_safe_payload, "malformed", "c3 accepts"),
    Row("N59", "payload without padding", unpadded_payload, "malformed", "c3 accepts"),
    Row("N59", "snake_case", bundle_attack(
        lambda document: dumps(document).replace("dsseEnvelope", "dsse_envelope")), "malformed", "c3 accepts"),
    Row("N60", "hint is that of another key", by_hint(OTHER_DIGEST[7:]), ACCEPTED),
    Row("N60", "hint is empty", bundle_attack(material(publicKey={"hint": ""})), ACCEPTED),
    Row("N60", "hint is missing", bundle_attack(material(publicKey={})), ACCEPTED),
    Row("N60", "hint is the trusted key, maker is another", claims_the_key, "signature_invalid"),
    Row("N61", "referrer names another subject", listed_elsewhere, ACCEPTED),
    Row("N62", "unreadable bundle beside a good .sig", also_signed(
        bundle_attack(lambda _document: b"not JSON"), "sig"), ACCEPTED, demand=BUNDLE_FIRST),
    Row("N63", "bundle by a foreign key beside a good .sig", also_signed(
        by(lambda bench, key: bench.sign_bundle(bench.statement(), key)), "sig"), ACCEPTED, "c3 refuses",
        demand=BUNDLE_FIRST),
    Row("N64", "fallback tag is the image itself", fallback_tag_is_the_image, "no_signatures"),
    Row("N71", "10,000 referrers", many_referrers, "limit_exceeded", "c3 accepts, slowly"),
    Row("N71", "1101 subjects", statement_attack(subjects(*[OURS] * 1101)), "malformed"),
    Row("N71", "33 log entries", bundle_attack(material(publicKey={}, tlogEntries=[{}] * 33)), "malformed"),
    Row("N72", "bundle of 200 MiB", huge, "limit_exceeded"),
    Row("N72", "endless body", endless, "limit_exceeded", "c3 accepts"),
    Row("N72b", "compressed bundle", gzip_layer(100), "malformed", "c3 accepts"),
    Row("N72b", "compressed bundle that grows to 32 MiB", gzip_layer(32 * 1024 * 1024), "malformed", "c3 accepts"),
    Row("N73", "nested deeply", bundle_attack(
        lambda document: dumps(document).replace('"publicKey"', '"x":' + "[" * 100_000 + ',"publicKey"')),
        "malformed"),
    Row("N73b", "statement nested deeply", statement_attack(lambda _document, _digest: '{"a":' * 100_000), "malformed"),
)


def _cases() -> t.Iterator[t.Any]:
    for format, rows, kinds in (("sig", SIG_ROWS, ("fallback",)), ("bundle", BUNDLE_ROWS, ("fallback", "native"))):
        for row in rows:
            for kind in kinds:
                for name in ("alice", "carol"):
                    if row.only in ("", {"alice": "ec", "carol": "rsa"}[name]):
                        yield pytest.param(format, row, kind, name, id=f"{format} {row.id}-{kind}-{name}")


@pytest.mark.parametrize(("format", "row", "kind", "name"), list(_cases()))
def test_attack(
    request: pytest.FixtureRequest, make_bench: t.Callable[..., Bench], mallory: Key, format: str, row: Row, kind: str,
    name: str,
) -> None:
    bench: Bench = make_bench(referrers=kind == "native")
    key: Key = request.getfixturevalue(name)
    row.attack(bench, key, mallory)
    verdict = bench.verify(key, **{"formats": (format,), **row.demand})
    if row.answer == ACCEPTED:
        assert verdict.verified
        assert verdict.authorities == (name,)
        assert not verdict.reasons
        assert {signature.subject for signature in verdict.signatures} == {bench.digest}
    else:
        assert not verdict.verified
        assert {reason.code for reason in verdict.reasons} == {row.answer}
        assert (verdict.signatures, verdict.authorities) == ((), ())
        assert all(len(reason.message) < 1000 for reason in verdict.reasons)


@pytest.mark.parametrize("target", [
    "@sha256:0123", "@sha256:../../blobs/x", f"@sha1:{'0' * 40}", f"@SHA256:{'0' * 64}", f"@sha256:{'A' * 64}",
    f"@sha256:{'0' * 64}0", f"@sha512:{'0' * 64}", "@", f":1@{OTHER_DIGEST}@{OTHER_DIGEST}", f"@{OTHER_DIGEST}\n",
])
def test_n14_references_that_are_none_reach_no_registry(fallback: Bench, alice: Key, target: str) -> None:
    verdict = fallback.verify(alice, image=f"{fallback.name}{target}")
    assert [reason.code for reason in verdict.reasons] == ["malformed"]
    assert (verdict.verified, verdict.reference, verdict.digest) == (False, None, None)
    assert not fallback.registry.log


@pytest.mark.parametrize("recursive", [False, True])
def test_n18_bytes_that_are_not_of_the_digest_asked_for(fallback: Bench, alice: Key, recursive: bool) -> None:
    fallback.sign_sig(fallback.claim(), alice)
    fallback.registry.fail(Fault.wrong_bytes(), path=f"/manifests/{fallback.digest}")
    verdict = fallback.verify(alice, recursive=recursive)
    # Without recursive the image itself is not fetched, so there is nothing to be deceived with.
    assert [reason.code for reason in verdict.reasons] == (["digest_mismatch"] if recursive else [])


def test_n18_the_digest_of_a_tag_is_computed_not_believed(fallback: Bench, alice: Key) -> None:
    fallback.sign_sig(fallback.claim(), alice)
    other = fallback.registry.put_image(REPOSITORY, "2")
    fallback.registry.fail(Fault(headers={"Docker-Content-Digest": fallback.digest}), path="/manifests/2")
    verdict = fallback.verify(alice, image=f"{fallback.name}:2")
    assert (verdict.verified, verdict.digest) == (False, other)


def test_n78_a_tag_is_resolved_once_and_the_verdict_names_the_digest(fallback: Bench, alice: Key) -> None:
    fallback.sign_sig(fallback.claim(), alice)

    def move(seen: Seen) -> None:
        if not seen.path.endswith("/manifests/1"):
            fallback.registry.put_image(REPOSITORY, "1", platform="linux/evil")

    fallback.registry.faults.append(move)
    verdict = fallback.verify(alice, image=fallback.tagged)
    assert verdict.verified
    assert (verdict.image, verdict.reference, verdict.digest) == (fallback.tagged, fallback.pinned, fallback.digest)
    assert len(fallback.registry.requests(path="/manifests/1")) == 1
    assert not fallback.verify(alice, image=fallback.tagged).verified


@pytest.mark.parametrize("format", ["sig", "bundle"])
def test_n72_a_trickle_of_bytes_meets_the_timeout(fallback: Bench, alice: Key, format: authority.Format) -> None:
    fallback.sign_sig(fallback.claim({"a": "1"}), alice)
    fallback.sign_bundle(fallback.statement(), alice)
    fallback.registry.fail(Fault(trickle=0.02), path="/blobs/")
    demand = authority.demand([alice.authority], formats=(format,))
    verdict = verify.verify_image(fallback.registries(timeout=0.2), fallback.pinned, demand)
    assert [reason.code for reason in verdict.reasons] == ["registry_error"]


def test_s11_forged_padding_under_an_exponent_of_three(fallback: Bench) -> None:
    private = rsa.generate_private_key(public_exponent=3, key_size=2048)
    key = Key("cubic", private)
    content = compact(fallback.claim())
    info = bytes.fromhex("3031300d060960864801650304020105000420") + hashlib.sha256(content).digest()
    # A parser that takes padding of any length, and garbage after the hash, accepts a number with this cube.
    wanted = int.from_bytes(b"\0\1\xff\xff\xff\xff\xff\xff\xff\xff\0" + info + b"\xff" * (256 - 11 - len(info)), "big")
    low, high = 0, 1 << 700
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if middle**3 <= wanted else (low, middle - 1)
    assert (low**3).to_bytes(256, "big")[:11 + len(info)] == b"\0\1" + b"\xff" * 8 + b"\0" + info
    fallback.put_layers([fallback.layer(content, low.to_bytes(256, "big"))])
    verdict = fallback.verify(key, formats=("sig",))
    assert [reason.code for reason in verdict.reasons] == ["signature_invalid"]
    fallback.sign_sig(content, key)
    assert fallback.verify(key, formats=("sig",)).verified


@pytest.mark.parametrize("label", ["CERTIFICATE", "RSA PUBLIC KEY", "EC PUBLIC KEY"])
def test_s12_a_key_under_another_label_is_no_authority(alice: Key, label: str) -> None:
    text = alice.public.pem.replace("PUBLIC KEY", label).encode()
    with pytest.raises(HallmarkError) as caught:
        pem.read_public_key(text, where="authority")
    assert caught.value.code in ("malformed", "unsupported_algorithm")


@pytest.mark.parametrize("scheme", ["ed25519", "ed25519ph"])
def test_s13_an_ed25519_signature_has_one_encoding(fallback: Bench, frank: Key, scheme: str) -> None:
    content = compact(fallback.claim())
    signature = making.sign(frank.private, content, scheme=scheme)
    number = int.from_bytes(signature[32:], "little")
    for more in (ED25519_ORDER, 2 * ED25519_ORDER):
        other = signature[:32] + (number + more).to_bytes(32, "little")
        fallback.put_layers([fallback.layer(content, other)])
        verdict = fallback.verify(frank, formats=("sig",))
        assert [reason.code for reason in verdict.reasons] == ["signature_invalid"]
    fallback.put_layers([fallback.layer(content, signature)])
    assert fallback.verify(frank, formats=("sig",)).verified


def test_s13_an_ed25519_key_of_small_order_is_no_authority() -> None:
    # The neutral point as the key and as R, and zero: OpenSSL takes that for a signature over anything.
    neutral = (1).to_bytes(32, "little")
    anybody = ed25519.Ed25519PublicKey.from_public_bytes(neutral)
    anybody.verify(neutral + bytes(32), b"anything")
    with pytest.raises(HallmarkError, match="small order") as caught:
        pem.public_key(anybody, where="x")
    assert caught.value.code == "malformed"


# Policy ----------------------------------------------------------------------------------------------------------


def codes(verdict: verify.Verification) -> list[str]:
    return [reason.code for reason in verdict.reasons]


def sign(bench: Bench, format: str, key: Key, annotations: Json | None = None) -> str:
    """Sign rightly and return the digest of the signature."""
    if format == "sig":
        return str(bench.sign_sig(bench.claim(annotations), key)["digest"])
    return bench.sign_bundle(bench.statement(annotations), key)


@pytest.fixture(params=["sig", "bundle"])
def format(request: pytest.FixtureRequest) -> authority.Format:
    """Each format."""
    return t.cast(authority.Format, request.param)


def test_what_is_reported_of_a_good_signature(bench: Bench, key: Key, format: authority.Format) -> None:
    digest = sign(bench, format, key, {"a": "1", "b": "2"})
    verdict = bench.verify(key, annotations={"a": "1"})
    algorithm = {"alice": "ecdsa-p256", "carol": "rsa-2048"}[key.name]
    assert verdict.as_dict() == {
        "image": bench.pinned, "reference": bench.pinned, "digest": bench.digest, "verified": True,
        "signatures": [{
            "format": format, "digest": digest, "subject": bench.digest, "key_id": key.id, "algorithm": algorithm,
            "annotations": {"a": "1", "b": "2"}, "created": False, "authority": key.name,
        }],
        "authorities": [key.name], "reasons": [], "warnings": [],
    }


def test_what_is_reported_of_a_bad_signature(bench: Bench, alice: Key, mallory: Key, format: authority.Format) -> None:
    digest = sign(bench, format, mallory)
    verdict = bench.verify(alice).as_dict()
    (reason,) = verdict.pop("reasons")
    message = reason.pop("message")
    assert reason == {
        "code": "signature_invalid", "object": f"{bench.name}@{bench.digest}", "signature": digest,
    }
    assert message.startswith(f"{bench.name}@{bench.digest}: could not count a signature: no trusted key made it")
    assert verdict == {
        "image": bench.pinned, "reference": bench.pinned, "digest": bench.digest, "verified": False,
        "signatures": [], "authorities": [], "warnings": [],
    }


def test_every_broken_candidate_is_named(bench: Bench, alice: Key, mallory: Key) -> None:
    broken = bench.layer(b"unsigned", None)
    bench.put_layers([broken])
    foreign = sign(bench, "sig", mallory)
    unreadable = bench.refer(b"not JSON")
    verdict = bench.verify(alice)
    assert [(reason.code, reason.signature) for reason in verdict.reasons] == [
        ("malformed", broken["digest"]), ("signature_invalid", foreign), ("malformed", unreadable),
    ]


def test_broken_candidates_beside_a_good_one_do_not_show(bench: Bench, alice: Key, mallory: Key) -> None:
    bench.put_layers([bench.layer(b"unsigned", None), bench.layer(b"missing", b"sig")])
    del bench.registry.blobs[REPOSITORY][digest_of(b"missing")]
    sign(bench, "sig", mallory)
    bench.refer(b"not JSON")
    sign(bench, "bundle", mallory)
    good = sign(bench, "bundle", alice)
    verdict = bench.verify(alice)
    assert (verdict.verified, verdict.reasons) == (True, ())
    assert [signature.digest for signature in verdict.signatures] == [good]


def test_an_unreadable_signature_tag_does_not_hide_a_bundle(bench: Bench, alice: Key) -> None:
    bench.registry.put_manifest(REPOSITORY, {"layers": "none"}, tag=bench.sig_tag)
    assert codes(bench.verify(alice)) == ["malformed"]
    sign(bench, "bundle", alice)
    assert bench.verify(alice).verified


@pytest.mark.parametrize("spread", [("sig", "sig"), ("bundle", "bundle"), ("sig", "bundle"), ("bundle", "sig")])
def test_a_threshold_counts_distinct_authorities(
    bench: Bench, alice: Key, bob: Key, carol: Key, spread: tuple[str, str]
) -> None:
    sign(bench, spread[0], alice)
    verdict = bench.verify(alice, bob, carol, threshold=2)
    assert (verdict.verified, codes(verdict), verdict.authorities) == (False, ["threshold_not_met"], ("alice",))
    assert "1 of 2" in verdict.reasons[0].message
    sign(bench, spread[1], carol)
    verdict = bench.verify(alice, bob, carol, threshold=2)
    assert verdict.verified
    assert set(verdict.authorities) == {"alice", "carol"}
    assert {signature.authority for signature in verdict.signatures} == {"alice", "carol"}


def test_s16_the_same_key_twice_counts_once(bench: Bench, alice: Key, bob: Key) -> None:
    for format in ("sig", "bundle", "sig", "bundle"):
        sign(bench, format, alice, {"time": format})
    verdict = bench.verify(alice, bob, threshold=2)
    assert (verdict.verified, codes(verdict), verdict.authorities) == (False, ["threshold_not_met"], ("alice",))
    assert len(verdict.signatures) == 1


def test_the_first_of_several_signatures_of_one_authority_is_reported(fallback: Bench, alice: Key, bob: Key) -> None:
    first = sign(fallback, "sig", alice, {"n": "1"})
    sign(fallback, "sig", alice, {"n": "2"})
    last = sign(fallback, "sig", bob)
    verdict = fallback.verify(alice, bob, threshold=2)
    assert [signature.digest for signature in verdict.signatures] == [first, last]


def test_a_threshold_that_nothing_meets(bench: Bench, alice: Key, bob: Key) -> None:
    assert codes(bench.verify(alice, bob, threshold=2)) == ["no_signatures", "threshold_not_met"]


def test_a_denied_key_wins_over_trust(bench: Bench, alice: Key, bob: Key, format: authority.Format) -> None:
    digest = sign(bench, format, alice)
    verdict = bench.verify(alice, bob, denied_key_ids=[alice.id])
    assert [(reason.code, reason.signature) for reason in verdict.reasons] == [("key_denied", digest)]
    assert verdict.authorities == ()


def test_a_denied_key_does_not_spoil_the_signature_of_another(
    bench: Bench, alice: Key, bob: Key, format: authority.Format
) -> None:
    sign(bench, format, alice)
    sign(bench, format, bob)
    verdict = bench.verify(alice, bob, denied_key_ids=[alice.id])
    assert (verdict.verified, verdict.authorities, verdict.reasons) == (True, ("bob",), ())


def test_a_denied_key_that_is_not_trusted_is_named_where_the_bundle_hints_at_it(
    bench: Bench, alice: Key, mallory: Key
) -> None:
    sign(bench, "bundle", mallory)
    assert codes(bench.verify(alice, denied_key_ids=[mallory.id])) == ["key_denied"]
    assert codes(bench.verify(alice)) == ["signature_invalid"]


def test_a_hint_at_a_denied_key_does_not_refuse_a_good_signature(bench: Bench, alice: Key, mallory: Key) -> None:
    hint = {"publicKey": {"hint": b64(bytes.fromhex(mallory.id))}}
    bench.sign_bundle(bench.statement(), alice, verificationMaterial=hint)
    assert bench.verify(alice, denied_key_ids=[mallory.id]).verified


@pytest.mark.parametrize(("signed", "wanted"), [
    (True, ["key_denied", "key_denied", "threshold_not_met"]),
    (False, ["no_signatures", "key_denied", "threshold_not_met"]),
])
def test_too_few_authorities_after_denials(
    bench: Bench, alice: Key, bob: Key, signed: bool, wanted: list[str]
) -> None:
    if signed:
        sign(bench, "sig", alice)
    verdict = bench.verify(alice, bob, threshold=2, denied_key_ids=[alice.id])
    assert codes(verdict) == wanted
    assert "authority alice" in verdict.reasons[-2].message
    assert alice.id in verdict.reasons[-2].message


def test_the_only_authority_denied(bench: Bench, alice: Key) -> None:
    sign(bench, "bundle", alice)
    verdict = bench.verify(alice, denied_key_ids=[alice.id])
    assert codes(verdict) == ["key_denied", "key_denied", "threshold_not_met"]


def test_enough_authorities_after_a_denial(bench: Bench, alice: Key, bob: Key, carol: Key) -> None:
    for key in (alice, bob, carol):
        sign(bench, "sig", key)
    verdict = bench.verify(alice, bob, carol, threshold=2, denied_key_ids=[alice.id])
    assert (verdict.verified, verdict.authorities) == (True, ("bob", "carol"))


@pytest.mark.parametrize(("check", "verified", "reasons", "warnings"), [
    ("warn", True, [], ["reference_mismatch"]),
    ("ignore", True, [], []),
    ("repository", False, ["reference_mismatch"], []),
])
def test_a_foreign_name(
    fallback: Bench, alice: Key, check: str, verified: bool, reasons: list[str], warnings: list[str]
) -> None:
    layer = fallback.sign_sig(fallback.claim(name="mirror.example/app"), alice)
    verdict = fallback.verify(alice, docker_reference_check=check)
    assert (verdict.verified, codes(verdict)) == (verified, reasons)
    assert [warning.code for warning in verdict.warnings] == warnings
    for warning in verdict.warnings:
        assert (warning.object, warning.signature) == (fallback.name, layer["digest"])
        assert "mirror.example/app" in warning.message


@pytest.mark.parametrize("suffix", ["", ":1", f"@{OTHER_DIGEST}"])
@pytest.mark.parametrize("check", ["warn", "repository"])
def test_the_same_name_with_any_tag_or_digest(fallback: Bench, alice: Key, check: str, suffix: str) -> None:
    fallback.sign_sig(fallback.claim(name=fallback.name + suffix), alice)
    verdict = fallback.verify(alice, docker_reference_check=check)
    assert (verdict.verified, verdict.warnings) == (True, ())


def test_bundles_carry_no_name(bench: Bench, alice: Key) -> None:
    sign(bench, "bundle", alice)
    verdict = bench.verify(alice, docker_reference_check="repository")
    assert (verdict.verified, verdict.warnings) == (True, ())


def test_a_foreign_name_of_any_length_makes_a_short_message(fallback: Bench, alice: Key) -> None:
    fallback.sign_sig(fallback.claim(name="x" * 100_000), alice)
    for check in ("warn", "repository"):
        verdict = fallback.verify(alice, docker_reference_check=check)
        assert all(len(one.message) < 1000 for one in (*verdict.reasons, *verdict.warnings))


@pytest.mark.parametrize(("found", "wanted", "missing"), [
    ({}, {}, None),
    ({"a": "1", "b": "2"}, {"b": "2"}, None),
    ({"a": "1", "b": "2"}, {"a": "1", "b": "2"}, None),
    ({"a": ""}, {"a": ""}, None),
    ({}, {"a": "1"}, "a"),
    ({"a": "1"}, {"a": "1", "c": "3", "b": "2"}, "b"),
    ({"a": "1"}, {"a": "2"}, "a"),
    ({"A": "1"}, {"a": "1"}, "a"),
])
def test_annotations(
    bench: Bench, alice: Key, format: authority.Format, found: Json, wanted: Json, missing: str | None
) -> None:
    sign(bench, format, alice, found)
    verdict = bench.verify(alice, annotations=wanted)
    assert verdict.verified is (missing is None)
    if missing is not None:
        assert codes(verdict) == ["annotation_mismatch"]
        assert f"'{missing}'" in verdict.reasons[0].message


def test_annotations_of_another_signature_do_not_count(bench: Bench, alice: Key, format: authority.Format) -> None:
    sign(bench, format, alice, {"a": "1"})
    sign(bench, format, alice, {"b": "2"})
    assert codes(bench.verify(alice, annotations={"a": "1", "b": "2"})) == ["annotation_mismatch"] * 2
    sign(bench, format, alice, {"a": "1", "b": "2"})
    assert bench.verify(alice, annotations={"a": "1", "b": "2"}).verified


@pytest.mark.parametrize(("wanted", "found"), [({}, {"a": "1"}), ({"b": "2"}, {"b": "2"}), ({"c": "3"}, None)])
def test_the_subject_with_the_wanted_annotations_is_taken(
    bench: Bench, alice: Key, wanted: Json, found: Json | None
) -> None:
    of_image = [subject(bench.digest, annotations={name: value}) for name, value in (("a", "1"), ("b", "2"))]
    bench.sign_bundle(bench.statement(subject=[subject(OTHER_DIGEST, annotations={"c": "3"}), *of_image]), alice)
    verdict = bench.verify(alice, annotations=wanted)
    assert [signature.annotations for signature in verdict.signatures] == ([] if found is None else [found])


def test_annotations_are_checked_before_the_name(fallback: Bench, alice: Key) -> None:
    fallback.sign_sig(fallback.claim(name="mirror.example/app"), alice)
    verdict = fallback.verify(alice, annotations={"a": "1"})
    assert (codes(verdict), verdict.warnings) == (["annotation_mismatch"], ())


@pytest.mark.parametrize(("attack", "code"), [
    pytest.param({"digest": OTHER_DIGEST, "type": "foreign"}, "type_mismatch", id="type before digest"),
    pytest.param({"digest": OTHER_DIGEST}, "digest_mismatch", id="digest before annotations"),
])
def test_order_of_checks(fallback: Bench, alice: Key, attack: dict[str, str], code: str) -> None:
    document = fallback.claim(digest=attack["digest"], name="mirror.example/app")
    fallback.sign_sig(critical(document, type=attack.get("type", document["critical"]["type"])), alice)
    verdict = fallback.verify(alice, annotations={"a": "1"}, docker_reference_check="repository")
    assert codes(verdict) == [code]


def test_nothing_is_parsed_before_its_signature_was_verified(
    bench: Bench, alice: Key, bob: Key, mallory: Key, format: authority.Format
) -> None:
    if format == "sig":
        bench.sign_sig(b"not JSON", mallory)
        bench.sign_sig(b"not JSON either", bob)
    else:
        bench.sign_bundle(b"not JSON", mallory)
        bench.sign_bundle(b"not JSON either", bob)
    verdict = bench.verify(alice, bob, denied_key_ids=[bob.id])
    assert set(codes(verdict)) == {"signature_invalid", "key_denied"}


# Requests --------------------------------------------------------------------------------------------------------


def paths(bench: Bench) -> list[str]:
    return [seen.path.partition(REPOSITORY)[2].lstrip("/") for seen in bench.registry.log]


def test_a_sig_by_digest_costs_one_request(bench: Bench, alice: Key) -> None:
    # What the payload of this image says is known: that it is this one, its digest tells.
    sign(bench, "sig", alice)
    assert bench.verify(alice).verified
    assert paths(bench) == [f"manifests/{bench.sig_tag}"]


def test_a_sig_with_annotations_costs_one_more(bench: Bench, alice: Key) -> None:
    digest = sign(bench, "sig", alice, {"a": "1"})
    assert bench.verify(alice).verified
    assert paths(bench) == [f"manifests/{bench.sig_tag}", f"blobs/{digest}"]


def test_a_bundle_by_digest_costs_three_requests_and_one_probe_a_run(bench: Bench, alice: Key) -> None:
    sign(bench, "bundle", alice)
    registries = bench.registries()
    demand = authority.demand([alice.authority], formats=("bundle",))
    for number in range(3):
        bench.registry.log.clear()
        assert verify.verify_image(registries, bench.pinned, demand).verified
        probes = 1 if bench.registry.referrers or not number else 0
        assert len(bench.registry.requests(path="/referrers/")) == probes
        assert len(bench.registry.log) == (4 if probes and not bench.registry.referrers else 3)


@pytest.mark.parametrize(("copy", "asked"), [
    ("right", []), ("nothing", ["manifests", "blobs"]), ("no bundle", ["manifests", "blobs"]),
    ("by a foreign key", ["manifests", "blobs"]), ("of another image", ["manifests", "blobs"]),
])
def test_a_list_may_hold_a_copy_of_a_bundle(
    fallback: Bench, alice: Key, mallory: Key, copy: str, asked: list[str]
) -> None:
    sign(fallback, "sig", alice)
    image = reference.parse_image(fallback.pinned)
    subject = fallback.registries().manifest(image).descriptor()
    data = _bundled(statements.encode(fallback.digest, {}), alice)
    referring.add_bundle(fallback.registries(), image, subject, data, created="2026-11-21T00:00:00Z")
    copies = {
        "nothing": b"", "no bundle": b"{}",
        "by a foreign key": _bundled(statements.encode(fallback.digest, {}), mallory),
        "of another image": _bundled(statements.encode(f"sha256:{'0' * 64}", {}), alice),
    }
    tag = fallback.digest.replace(":", "-")
    listed = json.loads(fallback.registries().manifest(image.tagged(tag)).raw)
    if copy in copies:
        listed["manifests"][0]["annotations"][bundles.COPY_ANNOTATION] = base64.b64encode(copies[copy]).decode()
        raw = json.dumps(listed).encode()
        fallback.registries().put_manifest(image.tagged(tag), raw, media_type=listed["mediaType"])
    fallback.registry.log.clear()
    assert fallback.verify(alice, formats=("bundle",)).verified
    # The probe and the list come first.
    assert [path.partition("/")[0] for path in paths(fallback)][2:] == asked
    # Whoever signs looks at what others would read, not at what a list says.
    fallback.registry.log.clear()
    wish = signing.Wish((alice.signer,), ("bundle",))
    sign_again = signing.sign_image(fallback.registries(), fallback.pinned, wish)
    assert (sign_again.changed, sign_again.reasons) == (False, ())
    assert any("manifests/sha256:" in path for path in paths(fallback))


def _bundled(content: bytes, key: Key) -> bytes:
    return bundles.encode(dsse.Envelope(content, key.sign(dsse.pae(content))), key_id=key.id)


def test_a_copy_by_a_foreign_key_is_refused_once(fallback: Bench, alice: Key, mallory: Key) -> None:
    image = reference.parse_image(fallback.pinned)
    subject = fallback.registries().manifest(image).descriptor()
    data = _bundled(statements.encode(fallback.digest, {}), mallory)
    referring.add_bundle(fallback.registries(), image, subject, data, created="2026-11-21T00:00:00Z")
    verdict = fallback.verify(alice, formats=("bundle",))
    assert [reason.code for reason in verdict.reasons].count("signature_invalid") == 1
    # The bundle that lies there is looked for, but what is known already is not fetched.
    assert [path.partition("/")[0] for path in paths(fallback)][-1:] == ["manifests"]


def test_a_bundle_that_cannot_be_read_is_told_though_its_copy_is_alike(fallback: Bench, alice: Key) -> None:
    image = reference.parse_image(fallback.pinned)
    subject = fallback.registries().manifest(image).descriptor()
    referring.add_bundle(fallback.registries(), image, subject, b"{}", created="2026-11-21T00:00:00Z")
    verdict = fallback.verify(alice, formats=("bundle",))
    assert [reason.code for reason in verdict.reasons] == ["malformed"]


def test_signing_counts_the_copies_in_the_list(
    fallback: Bench, alice: Key, mallory: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundles, "_MAX_COPIES", 1)
    for key in (alice, mallory):
        wish = signing.Wish((key.signer,), ("bundle",))
        assert signing.sign_image(fallback.registries(), fallback.pinned, wish).changed
    listed = fallback.registries().referrers(reference.parse_image(fallback.pinned), fallback.digest)
    assert sorted(bundles.COPY_ANNOTATION in entry.annotations for entry in listed) == [False, True]


def test_a_tag_costs_one_more_request(bench: Bench, alice: Key) -> None:
    sign(bench, "sig", alice)
    assert bench.verify(alice, image=bench.tagged).verified
    assert paths(bench) == ["manifests/1", f"manifests/{bench.sig_tag}"]


def test_bundles_are_not_looked_for_once_a_sig_satisfies(bench: Bench, alice: Key) -> None:
    sign(bench, "sig", alice)
    sign(bench, "bundle", alice)
    verdict = bench.verify(alice)
    assert [signature.format for signature in verdict.signatures] == ["sig"]
    assert not bench.registry.requests(path="/referrers/")


def test_formats_are_tried_in_the_order_given(bench: Bench, alice: Key) -> None:
    sign(bench, "sig", alice)
    sign(bench, "bundle", alice)
    verdict = bench.verify(alice, formats=("bundle", "sig"))
    assert [signature.format for signature in verdict.signatures] == ["bundle"]
    assert not bench.registry.requests(path=".sig")


def test_a_format_that_was_not_named_does_not_count(bench: Bench, alice: Key, format: authority.Format) -> None:
    sign(bench, format, alice)
    other: authority.Format = "bundle" if format == "sig" else "sig"
    verdict = bench.verify(alice, formats=(other,))
    assert codes(verdict) == ["no_signatures"]
    assert f"format {other} " in verdict.reasons[0].message


def test_reading_stops_at_the_first_that_satisfies(bench: Bench, alice: Key, format: authority.Format) -> None:
    for number in range(5):
        sign(bench, format, alice, {"n": str(number)})
    assert bench.verify(alice, formats=(format,)).verified
    assert len(bench.registry.requests(path="/blobs/")) == 1


def test_reading_goes_on_until_the_threshold(fallback: Bench, alice: Key, bob: Key) -> None:
    for key in (alice, bob, alice):
        sign(fallback, "sig", key, {"n": str(len(fallback.layers()))})
    assert fallback.verify(alice, bob, threshold=2).verified
    assert len(fallback.registry.requests(path="/blobs/")) == 2


def test_the_hint_decides_which_key_is_tried_first(fallback: Bench, alice: Key, bob: Key, monkeypatch: t.Any) -> None:
    sign(fallback, "bundle", bob)
    tried: list[t.Any] = []
    genuine = algorithms.verifies

    def verifies(key: t.Any, **arguments: t.Any) -> bool:
        tried.append(key)
        return genuine(key, **arguments)

    monkeypatch.setattr(algorithms, "verifies", verifies)
    assert fallback.verify(alice, bob).verified
    assert len(tried) == 1


# Registries ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("formats", [("sig",), ("bundle",), ("sig", "bundle")])
def test_no_signatures_and_not_found_differ(bench: Bench, alice: Key, formats: tuple[authority.Format, ...]) -> None:
    assert codes(bench.verify(alice, formats=formats)) == ["no_signatures"]
    for image in (f"{bench.name}@{OTHER_DIGEST}", f"{bench.name}:none", f"{bench.registry.host}/none:1"):
        verdict = bench.verify(alice, image=image, formats=formats)
        assert (verdict.verified, codes(verdict)) == (False, ["not_found"])


def test_where_there_are_reasons_the_image_is_not_asked_for(bench: Bench, mallory: Key, alice: Key) -> None:
    sign(bench, "sig", mallory)
    del bench.manifests[bench.digest]
    assert codes(bench.verify(alice)) == ["signature_invalid"]
    assert not bench.registry.requests(path=f"/manifests/{bench.digest}")


@pytest.mark.parametrize("image", ["127.0.0.1:1/app:1", f"127.0.0.1:1/app@{OTHER_DIGEST}"])
@pytest.mark.parametrize("recursive", [False, True])
def test_an_unreachable_registry(fallback: Bench, alice: Key, image: str, recursive: bool) -> None:
    verdict = fallback.verify(alice, image=image, recursive=recursive)
    assert not verdict.verified
    assert set(codes(verdict)) == {"registry_error"}
    assert verdict.image == image


def test_a_registry_that_refuses(make_bench: t.Callable[..., Bench], alice: Key) -> None:
    bench = make_bench(auth="basic", username="robot", password="s3cret")
    sign(bench, "sig", alice)
    for image in (bench.tagged, bench.pinned):
        verdict = bench.verify(alice, image=image)
        assert (verdict.verified, set(codes(verdict))) == (False, {"unauthorized"})


def test_one_format_out_of_reach_leaves_the_other(bench: Bench, alice: Key) -> None:
    sign(bench, "sig", alice)
    sign(bench, "bundle", alice)
    bench.registry.fail(Fault(status=500), path=".sig")
    verdict = bench.verify(alice)
    assert [signature.format for signature in verdict.signatures] == ["bundle"]


def test_failures_of_the_registry_are_told_where_nothing_counts(bench: Bench, alice: Key, mallory: Key) -> None:
    sign(bench, "bundle", mallory)
    bench.registry.fail(Fault(status=500), path=".sig")
    assert codes(bench.verify(alice)) == ["registry_error", "signature_invalid"]


def test_the_last_look_for_the_image_may_fail_too(bench: Bench, alice: Key) -> None:
    bench.registry.fail(Fault(status=500), path=f"/manifests/{bench.digest}")
    assert codes(bench.verify(alice, formats=("sig",))) == ["registry_error"]


# Indexes ---------------------------------------------------------------------------------------------------------


class Index:
    """An index of two images in a bench's registry."""

    def __init__(self, bench: Bench, *further: Json) -> None:
        registry: FakeRegistry = bench.registry
        self.bench = bench
        digest = registry.put_index(REPOSITORY, "2", ["linux/amd64", "linux/arm64"])
        entries = bench.manifests[digest].members["manifests"]
        self.children: list[str] = [entry["digest"] for entry in entries]
        self.digest = registry.put_manifest(REPOSITORY, {
            "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [*entries, *further],
        }, tag="2")
        self.tagged = f"{bench.name}:2"

    def sign(self, key: Key, *digests: str) -> None:
        """Sign these digests."""
        for digest in digests:
            self.bench.sign_sig(claim(digest, self.bench.name), key, of=digest)

    def verify(self, *keys: Key, image: str = "", **demand: t.Any) -> verify.Verification:
        """Verify the index and its children."""
        return self.bench.verify(*keys, image=image or self.tagged, recursive=True, **demand)


def test_an_index_is_verified_as_itself(fallback: Bench, alice: Key) -> None:
    index = Index(fallback)
    index.sign(alice, *index.children)
    assert codes(fallback.verify(alice, image=index.tagged)) == ["no_signatures"]
    index.sign(alice, index.digest)
    verdict = fallback.verify(alice, image=index.tagged)
    assert (verdict.verified, verdict.digest) == (True, index.digest)


def test_recursive_wants_the_index_and_every_child(fallback: Bench, alice: Key) -> None:
    index = Index(fallback)
    wanted = [index.digest, *index.children]
    for number, digest in enumerate(wanted):
        verdict = index.verify(alice)
        assert not verdict.verified
        assert codes(verdict) == ["no_signatures"] * (3 - number)
        assert [reason.object for reason in verdict.reasons] == [f"{fallback.name}@{one}" for one in wanted[number:]]
        index.sign(alice, digest)
    for image in (index.tagged, f"{fallback.name}@{index.digest}"):
        verdict = index.verify(alice, image=image)
        assert (verdict.verified, verdict.digest, verdict.authorities) == (True, index.digest, ("alice",))
        assert verdict.reference == f"{fallback.name}@{index.digest}"
        assert [signature.subject for signature in verdict.signatures] == wanted


def test_recursive_over_a_single_image(bench: Bench, alice: Key) -> None:
    sign(bench, "bundle", alice)
    assert bench.verify(alice, recursive=True).verified
    assert bench.verify(alice, recursive=True, image=bench.tagged).verified


def test_recursive_follows_nested_indexes(fallback: Bench, alice: Key) -> None:
    inner = Index(fallback)
    outer = fallback.registry.put_manifest(REPOSITORY, {
        "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [fallback.entry(inner.digest)],
    }, tag="3")
    inner.sign(alice, outer, inner.digest, inner.children[0])
    verdict = inner.verify(alice, image=f"{fallback.name}:3")
    assert [reason.object for reason in verdict.reasons] == [f"{fallback.name}@{inner.children[1]}"]
    inner.sign(alice, inner.children[1])
    assert inner.verify(alice, image=f"{fallback.name}:3").verified


@pytest.mark.parametrize(("platform", "left_alone"), [("unknown", True), ("linux", False)])
def test_attestations_of_buildkit_are_left_alone(
    fallback: Bench, alice: Key, platform: str, left_alone: bool
) -> None:
    attestation = fallback.entry(
        fallback.digest, platform={"architecture": "unknown", "os": platform},
        annotations={"vnd.docker.reference.type": "attestation-manifest"},
    )
    index = Index(fallback, attestation)
    index.sign(alice, index.digest, *index.children)
    # An image that would run on some platform is verified whatever its annotations say.
    assert index.verify(alice).verified is left_alone
    assert bool(fallback.registry.requests(path=fallback.sig_tag)) is not left_alone


def test_a_child_that_is_listed_twice_is_verified_once(fallback: Bench, alice: Key) -> None:
    index = Index(fallback, fallback.entry(fallback.digest), fallback.entry(fallback.digest))
    index.sign(alice, index.digest, *index.children, fallback.digest)
    assert len(index.verify(alice).signatures) == 4


def test_the_threshold_holds_for_every_child(fallback: Bench, alice: Key, bob: Key) -> None:
    index = Index(fallback)
    index.sign(alice, index.digest, *index.children)
    index.sign(bob, index.digest, index.children[0])
    verdict = index.verify(alice, bob, threshold=2)
    assert (verdict.verified, codes(verdict), verdict.authorities) == (False, ["threshold_not_met"], ("alice",))


def test_warnings_of_children_are_kept(fallback: Bench, alice: Key) -> None:
    index = Index(fallback)
    index.sign(alice, index.digest, index.children[0])
    fallback.sign_sig(claim(index.children[1], "mirror.example/app"), alice, of=index.children[1])
    verdict = index.verify(alice)
    assert verdict.verified
    assert [warning.code for warning in verdict.warnings] == ["reference_mismatch"]


def test_the_authorities_of_a_whole_index_are_those_of_each_part(fallback: Bench, alice: Key, bob: Key) -> None:
    # the index has signatures of alice and bob, its children of bob only, so bob signed all of it. Reading
    # stops at alice for the index, and the intersection is empty: verified is true and authorities names nobody.
    index = Index(fallback)
    index.sign(alice, index.digest)
    index.sign(bob, index.digest, *index.children)
    verdict = index.verify(alice, bob)
    assert verdict.verified
    assert verdict.authorities == ("bob",)


def test_a_sha512_digest_is_looked_for_under_tags_that_exist(fallback: Bench, alice: Key) -> None:
    # sha512-HEX.sig and sha512-HEX are 139 and 135 characters, longer than a tag may be (128). OCI 1.1 cuts
    # the fallback tag to 64 characters of the digest; the .sig tag cannot exist at all and must not be asked for.
    digest = digest_of(fallback.manifests[fallback.digest].raw, "sha512")
    fallback.manifests[digest] = fallback.manifests[fallback.digest]
    fallback.verify(alice, image=f"{fallback.name}@{digest}")
    tags = [path.partition("manifests/")[2] for path in paths(fallback) if path.startswith("manifests/sha512-")]
    assert all(len(tag) <= 128 for tag in tags)
