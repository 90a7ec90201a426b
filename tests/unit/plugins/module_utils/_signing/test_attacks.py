# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The attack corpus through the whole verifier: logs, certificates, timestamps, bundles, and what is too much.

Numbers are those of the corpus; test_verify.py has the rows about payloads, statements and bare signatures.
"""

from __future__ import annotations

import datetime
import functools
import json
import pathlib
import time
import typing as t
from dataclasses import dataclass, field, replace

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._keys import making
from ansible_collections.hallmark.signing.plugins.module_utils._signing import authority, verify
from ansible_collections.hallmark.signing.plugins.module_utils._signing.authority import Authority
from ansible_collections.hallmark.signing.plugins.module_utils._signing.certified import Issuer
from ansible_collections.hallmark.signing.plugins.module_utils._signing.evidence import Evidence
from ansible_collections.hallmark.signing.plugins.module_utils._signing.identity import Identity, read_identity
from ansible_collections.hallmark.signing.plugins.module_utils._signing.signature import Format
from ansible_collections.hallmark.signing.plugins.module_utils._transparency.log_key import LogKey
from ansible_collections.hallmark.signing.tests.tools import timestamp_server
from ansible_collections.hallmark.signing.tests.unit.fake_services import FakeStamper
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._signing import certificate_bench as certs
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._signing.signing_bench import (
    BOTH,
    BUNDLE_TYPE,
    IN_TOTO,
    OTHER_DIGEST,
    SIG_ANNOTATION,
    Bench,
    Json,
    Key,
    b64,
    claim,
    codes,
    compact,
    pae,
    statement,
)
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._transparency import log_bench
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._transparency.log_bench import (
    HOST,
    Log,
    LogEntry,
    canonical,
)
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

ACCEPTED = "accepted"
CERTIFICATE, CHAIN = "dev.sigstore.cosign/certificate", "dev.sigstore.cosign/chain"
LOGGED, STAMPED = "dev.sigstore.cosign/bundle", "dev.sigstore.cosign/rfc3161timestamp"
LOG = Log(ec.generate_private_key(ec.SECP256R1()), 1)
TILES = Log(ed25519.Ed25519PrivateKey.generate(), 2)
EC_TILES = Log(ec.generate_private_key(ec.SECP256R1()), 2)
UNKNOWN = Log(ec.generate_private_key(ec.SECP256R1()), 1)
LOGS = (LOG.known, TILES.known, EC_TILES.known)
ROOT, SUB, LEAF = certs.authority("root"), certs.authority("sub", "root"), certs.leaf()
JOB = Identity("uri", certs.JOB.value)
HOUR = datetime.timedelta(hours=1)
# When the logs say that they got an entry.
AT = certs.NOW - HOUR


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def owner(subject: str = "leaf") -> Key:
    """Whoever has the key of a subject."""
    return Key(subject, certs.Subject(subject).key)


# What is attacked --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Made:
    """One signature in one format by a key, which has a certificate where a C(leaf) is given."""

    bench: Bench
    format: Format
    key: Key
    leaf: x509.Certificate | None
    content: bytes
    signature: bytes

    @property
    def message(self) -> bytes:
        """What the signature is over."""
        return self.content if self.format == "sig" else pae(self.content)

    @property
    def signer(self) -> log_bench.Signer:
        """Who is logged."""
        return log_bench.Signer(self.key.private, der(self.leaf) if self.leaf else None)

    def other(self, *, digest: str = OTHER_DIGEST, key: Key | None = None) -> Made:
        """Another good signature: of another image, unless told otherwise, or by another key."""
        return make(self.bench, self.format, key or self.key, None if key else self.leaf, digest=digest)

    def put(self, entries: t.Sequence[LogEntry | Json] = (), stamps: t.Sequence[bytes] = (), **more: t.Any) -> None:
        """Attach it with these; C(more) are further annotations or members of the material."""
        written = [one if isinstance(one, dict) else as_json(one, self.format) for one in entries]
        if self.format == "sig":
            annotations = {SIG_ANNOTATION: b64(self.signature)}
            if self.leaf:
                annotations[CERTIFICATE] = certs.pem(self.leaf).decode()
            if written:
                annotations[LOGGED] = json.dumps(written[0])
            if stamps:
                annotations[STAMPED] = json.dumps({"SignedRFC3161Timestamp": b64(stamps[0])})
            layer = self.bench.layer(self.content, None, annotations={**annotations, **more})
            self.bench.put_layers([*self.bench.layers(), layer])
            return
        material: Json = {"certificate": {"rawBytes": b64(der(self.leaf))}} if self.leaf else {
            "publicKey": {"hint": ""}
        }
        if written:
            material["tlogEntries"] = written
        if stamps:
            material["timestampVerificationData"] = {
                "rfc3161Timestamps": [{"signedTimestamp": b64(one)} for one in stamps],
            }
        material = {name: value for name, value in {**material, **more}.items() if value is not None}
        self.bench.refer(compact({
            "mediaType": BUNDLE_TYPE, "verificationMaterial": material, "dsseEnvelope": self.envelope,
        }))

    @property
    def envelope(self) -> Json:
        """The envelope of a bundle."""
        return {"payload": b64(self.content), "payloadType": IN_TOTO, "signatures": [{"sig": b64(self.signature)}]}


def make(
    bench: Bench, format: Format, key: Key, leaf: x509.Certificate | None = None, *, digest: str = ""
) -> Made:
    """Sign the image, or another one."""
    digest = digest or bench.digest
    content = compact(claim(digest, bench.name) if format == "sig" else statement(digest))
    return Made(bench, format, key, leaf, content, key.sign(content if format == "sig" else pae(content)))


def as_json(entry: LogEntry, format: Format) -> Json:
    """An entry as cosign writes it: in an annotation, or in a bundle."""
    promise = b64(entry.signed_entry_timestamp) if entry.signed_entry_timestamp else ""
    if format == "sig":
        return {"SignedEntryTimestamp": promise, "Payload": {
            "body": b64(entry.body), "integratedTime": entry.integrated_time, "logIndex": entry.index,
            "logID": entry.log_id.hex(),
        }}
    body, proof = json.loads(entry.body), entry.proof
    document = {
        "logIndex": str(entry.index),
        "logId": {"keyId": b64(entry.log_id)},
        "kindVersion": {"kind": body["kind"], "version": body["apiVersion"]},
        "integratedTime": str(entry.integrated_time) if entry.integrated_time else None,
        "inclusionPromise": {"signedEntryTimestamp": promise} if promise else None,
        "inclusionProof": None if proof is None else {
            "logIndex": str(proof.index), "rootHash": b64(proof.root), "treeSize": str(proof.size),
            "hashes": [b64(one) for one in proof.hashes], "checkpoint": {"envelope": proof.checkpoint},
        },
        "canonicalizedBody": b64(entry.body),
    }
    return {name: value for name, value in document.items() if value is not None}


def logged(
    made: Made, log: Log = LOG, *, at: datetime.datetime = AT, by: log_bench.Signer | None = None,
    edit: t.Callable[[Json], t.Any] | None = None, signature: bytes = b"", **of_checkpoint: t.Any,
) -> LogEntry:
    """The entry of a signature; C(edit) changes the body before it is logged."""
    kind = "dsse" if made.format == "bundle" and log.version == 1 else "hashedrekord"
    content = made.content if kind == "dsse" else made.message
    body = log_bench.body(kind, log.version, by or made.signer, content, signature=signature or made.signature)
    if edit is not None:
        document = json.loads(body)
        edit(document)
        body = canonical(document)
    entry = log.enter(body, **of_checkpoint)
    return entry if log.version == 2 else log.promise(replace(entry, integrated_time=int(at.timestamp())))


def with_proof(entry: LogEntry, **changes: t.Any) -> LogEntry:
    assert entry.proof is not None
    return replace(entry, proof=replace(entry.proof, **changes))


def with_note(entry: LogEntry, log: Log, edit: t.Callable[[str], str], *, signed: bool = True) -> LogEntry:
    """The same with another text in the checkpoint, signed by the log again or not."""
    assert entry.proof is not None
    note, _divider, line = entry.proof.checkpoint.partition("\n\n")
    text = edit(f"{note}\n")
    if signed:
        line = f"\u2014 {log.name} {b64(log.id[:4] + log_bench.sign(log.key, text.encode()))}\n"
    return with_proof(entry, checkpoint=f"{text}\n{line}")


@pytest.fixture(params=BOTH)
def format(request: pytest.FixtureRequest) -> Format:
    """Each format."""
    return t.cast(Format, request.param)


def trusting(
    *, roots: t.Sequence[x509.Certificate] = (ROOT,), intermediates: t.Sequence[x509.Certificate] = (SUB,),
    of: Identity = JOB,
) -> Authority:
    """An authority that is an issuer."""
    return Authority("ci", issuer=Issuer(tuple(roots), of, tuple(intermediates)))


def look(bench: Bench, *trusted: Authority, evidence: Evidence | None = None, **demanded: t.Any) -> verify.Verification:
    demand = authority.demand(list(trusted), evidence=evidence, **demanded)
    return verify.verify_image(bench.registries(), bench.pinned, demand)


def check(verdict: verify.Verification, answer: str) -> None:
    """Demand that exactly this came of it."""
    if answer == ACCEPTED:
        assert verdict.verified, verdict.reasons
        assert verdict.authorities
        return
    assert (verdict.verified, verdict.signatures, verdict.authorities) == (False, (), ())
    assert codes(verdict.reasons) == [answer], verdict.reasons
    assert verdict.reasons[0].signature
    assert len(verdict.reasons[0].message) < 1000


# Transparency logs -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LogRow:
    """One case: the entries that go with a signature, and our answer where a log is required."""

    number: str
    words: str
    entries: t.Callable[[Made], t.Sequence[LogEntry | Json]]
    answer: str = "log_invalid"
    formats: tuple[Format, ...] = BOTH
    only: str = ""
    logs: tuple[LogKey, ...] = LOGS


def renewed(made: Made) -> log_bench.Signer:
    """The signer with another certificate of the same key and names."""
    return log_bench.Signer(made.key.private, der(certs.leaf()))


def bare(made: Made) -> log_bench.Signer:
    return log_bench.Signer(made.key.private)


def stranger() -> log_bench.Signer:
    return log_bench.Signer(certs.key("stranger"))


def without(document: Json, *names: str) -> Json:
    return {name: value for name, value in document.items() if name not in names}


def promised(made: Made, **members: t.Any) -> Json:
    """The annotation of a good entry, with other members in what is promised; the promise is as it was."""
    document = as_json(logged(made), "sig")
    return {**document, "Payload": {**document["Payload"], **members}}


def set_kind(kind: str) -> t.Callable[[Json], None]:
    return lambda body: body.update(kind=kind)


def label(name: str) -> t.Callable[[Json], None]:
    """Say that the digest in a body of version 1 is another hash than it is."""

    def edit(body: Json) -> None:
        spec = body["spec"]
        (spec["data"]["hash"] if "data" in spec else spec["payloadHash"])["algorithm"] = name

    return edit


def label_v2(body: Json) -> None:
    body["spec"]["hashedRekordV002"]["data"]["algorithm"] = "SHA2_512"


def foreign_digest(body: Json) -> None:
    spec = body["spec"]
    (spec["data"]["hash"] if "data" in spec else spec["payloadHash"])["value"] = OTHER_DIGEST[7:]


def v2(log: Log, change: t.Callable[[LogEntry], LogEntry | Json]) -> t.Callable[[Made], t.Sequence[LogEntry | Json]]:
    """A good entry of a log of version 2, changed."""
    return lambda made: [change(logged(made, log))]


def v1(change: t.Callable[[LogEntry], LogEntry | Json]) -> t.Callable[[Made], t.Sequence[LogEntry | Json]]:
    """A good entry of a log of version 1, changed."""
    return lambda made: [change(logged(made))]


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def in_note(old: str, new: str, *, signed: bool = False, log: Log = LOG) -> t.Callable[[LogEntry], LogEntry]:
    def change(entry: LogEntry) -> LogEntry:
        found = with_note(entry, log, lambda text: text.replace(old, new, 1), signed=signed)
        assert found != entry
        return found

    return change


def short_root(text: str) -> str:
    origin, size, _root, _end = text.split("\n")
    return f"{origin}\n{size}\n{b64(bytes(31))}\n"


def ended(log: Log, when: datetime.datetime) -> tuple[LogKey, ...]:
    return (replace(log.known, not_after=when),)


BUNDLE: tuple[Format, ...] = ("bundle",)
SIG: tuple[Format, ...] = ("sig",)
V1_SAYS = log_bench.HOST + " - 77"
PROOFS: t.Any = (
    ("hash missing", lambda entry: with_proof(entry, hashes=entry.proof.hashes[1:])),
    ("last hash missing", lambda entry: with_proof(entry, hashes=entry.proof.hashes[:-1])),
    ("hash too many", lambda entry: with_proof(entry, hashes=(*entry.proof.hashes, bytes(32)))),
    ("hashes exchanged", lambda entry: with_proof(entry, hashes=entry.proof.hashes[::-1])),
    ("no hash", lambda entry: with_proof(entry, hashes=())),
    ("hash altered", lambda entry: with_proof(
        entry, hashes=(flipped(entry.proof.hashes[0]), *entry.proof.hashes[1:]))),
)
NOTES: t.Any = (
    ("signed by another key", {"signer": UNKNOWN.key}), ("another hint", {"hint": b"\1\2\3\4"}),
)
ORIGINS: t.Any = (
    ("origin is not the host", {"origin": "evil.example", "name": "evil.example"}),
    ("origin has a number", {"origin": V1_SAYS}), ("name is not the origin", {"name": "evil.example"}),
    ("only the origin is another", {"origin": "evil.example"}),
)
SIZES: t.Any = (
    ("size with a sign", lambda text: text.replace("\n7\n", "\n+7\n")),
    ("size with a zero before", lambda text: text.replace("\n7\n", "\n07\n")), ("root of 31 bytes", short_root),
    ("no size", lambda text: text.replace("\n7\n", "\n")),
)

LOG_ROWS = (
    LogRow("good", "entry of Rekor 1", lambda made: [logged(made)], ACCEPTED),
    LogRow("good", "entry of Rekor 2", lambda made: [logged(made, TILES)], ACCEPTED, BUNDLE),
    LogRow("good", "entry of Rekor 2 with an ECDSA key", lambda made: [logged(made, EC_TILES)], ACCEPTED, BUNDLE),
    LogRow("good", "entry of an unknown log beside a good one", lambda made: [
        logged(made, UNKNOWN), logged(made)], ACCEPTED, BUNDLE),
    LogRow("good", "entry of the time when the log's key ended", lambda made: [logged(made)], ACCEPTED,
           logs=ended(LOG, AT)),
    LogRow("N20", "good entry of another image", lambda made: [logged(made.other())]),
    LogRow("N20", "good entry of another signature on the same image", lambda made: [
        logged(made.other(digest=made.bench.digest))]),
    LogRow("N20b", "good entry of another image, Rekor 2", lambda made: [logged(made.other(), TILES)],
           formats=BUNDLE),
    LogRow("N21", "good entry of another key's signature", lambda made: [
        logged(made.other(digest=made.bench.digest, key=owner("stranger")))]),
    LogRow("N21", "this signature, another key", lambda made: [logged(made, by=stranger())]),
    LogRow("N21", "this signature, another key, Rekor 2", lambda made: [
        logged(made, TILES, by=stranger())], formats=BUNDLE),
    LogRow("N21", "another certificate of the same key", lambda made: [logged(made, by=renewed(made))],
           only="ca"),
    LogRow("N21", "the bare key in place of its certificate", lambda made: [
        logged(made, by=bare(made))], only="ca"),
    LogRow("N21", "a certificate in place of the bare key", lambda made: [
        logged(made, by=renewed(made))], only="key"),
    LogRow("N22", "no entry", lambda _made: [], "log_missing"),
    LogRow("N23", "promise over another body", lambda made: [replace(
        logged(made), signed_entry_timestamp=logged(made.other()).signed_entry_timestamp)]),
    LogRow("N23", "body put in behind the promise", lambda made: [
        replace(logged(made.other()), body=logged(made).body)]),
    LogRow("N23", "promise by another key", lambda made: [UNKNOWN.promise(logged(made))]),
    LogRow("N23", "promise altered", lambda made: [replace(
        logged(made), signed_entry_timestamp=flipped(logged(made).signed_entry_timestamp or b""))]),
    LogRow("N24", "time altered", lambda made: [replace(
        logged(made), integrated_time=int(AT.timestamp()) - 1)]),
    LogRow("N24", "index altered", lambda made: [replace(logged(made), index=1)]),
    LogRow("N24", "time is zero", lambda made: [replace(logged(made), integrated_time=0)], formats=SIG),
    LogRow("N25", "unknown log", lambda made: [logged(made, UNKNOWN)]),
    LogRow("N25", "unknown log under the id of a known one", lambda made: [
        logged(made, replace(UNKNOWN, log_id=LOG.id))]),
    LogRow("N25", "known log under the id of an unknown one", lambda made: [
        logged(made, replace(LOG, log_id=UNKNOWN.id))]),
    LogRow("N25", "key of the log ended before", lambda made: [logged(made)],
           logs=ended(LOG, AT - datetime.timedelta(seconds=1))),
    LogRow("N25", "key of the log began later", lambda made: [logged(made)],
           logs=(replace(LOG.known, not_before=AT + HOUR),)),
    LogRow("N25", "key of Rekor 2 ended", lambda made: [logged(made, TILES)], formats=BUNDLE, logs=ended(TILES, AT)),
    LogRow("N26", "promise absent", lambda made: [without(as_json(logged(made), "sig"), "SignedEntryTimestamp")],
           "malformed", SIG),
    LogRow("N26", "promise empty", lambda made: [replace(logged(made), signed_entry_timestamp=b"")], formats=SIG),
    LogRow("N26", "neither promise nor proof", lambda made: [without(
        as_json(logged(made), "bundle"), "inclusionPromise", "inclusionProof")], formats=BUNDLE),
    LogRow("N26", "time promised by Rekor 2, which promises none", v2(EC_TILES, lambda entry: EC_TILES.promise(
        replace(entry, integrated_time=int(AT.timestamp())))), formats=BUNDLE),
    LogRow("N27", "index in the proof", v1(lambda entry: with_proof(entry, index=3)), formats=BUNDLE),
    LogRow("N27", "index of Rekor 2", v2(TILES, lambda entry: replace(entry, index=3)), formats=BUNDLE),
    *(LogRow("N27", f"{words}, Rekor {log.version}", v2(log, change), formats=BUNDLE) for log in (LOG, TILES)
      for words, change in PROOFS),
    LogRow("N27", "tree of one", v1(lambda entry: with_proof(entry, size=1, index=0, hashes=())), formats=BUNDLE),
    LogRow("N27", "tree of another size", v1(lambda entry: with_proof(entry, size=8)), formats=BUNDLE),
    LogRow("N27", "root is not that of the checkpoint", v1(lambda entry: with_proof(entry, root=bytes(32))),
           formats=BUNDLE),
    LogRow("N31d", "body that is about nothing", v1(lambda entry: replace(
        entry, body=canonical({"apiVersion": "0.0.1", "kind": "dsse", "spec": {}}))), "malformed", BUNDLE),
    *(LogRow("N28", f"checkpoint: {words}, Rekor {log.version}", lambda made, log=log, of=of: [
        logged(made, log, **of)], formats=BUNDLE) for log in (LOG, TILES) for words, of in NOTES),
    LogRow("N28", "checkpoint: text altered", v1(in_note(HOST, "x" + HOST)), formats=BUNDLE),
    LogRow("N28", "checkpoint: size altered", v1(in_note("\n7\n", "\n8\n")), formats=BUNDLE),
    LogRow("N28", "checkpoint: line added", v2(TILES, in_note("=\n", "=\nmore\n")), formats=BUNDLE),
    LogRow("N29", "checkpoint of another origin, signed by the log", lambda made: [logged(made, replace(
        LOG, origin="evil.example - 77", name="evil.example"))], formats=BUNDLE),
    LogRow("N29", "checkpoint of another origin, signed under the right name", lambda made: [logged(made, replace(
        LOG, origin="evil.example - 77"))], formats=BUNDLE),
    LogRow("N29", "checkpoint signed under another name", lambda made: [logged(made, replace(
        LOG, name="evil.example"))], formats=BUNDLE),
    *(LogRow("N30", f"{words}, {kind}", lambda made, log=log, of=of: [logged(made, replace(log, **of))],
             formats=BUNDLE)
      for kind, log in (("Ed25519", TILES), ("ECDSA", EC_TILES)) for words, of in ORIGINS),
    LogRow("N31b", "kind is not that of the body", v1(lambda entry: {
        **as_json(entry, "bundle"), "kindVersion": {"kind": "hashedrekord", "version": "0.0.1"}}), "malformed", BUNDLE),
    LogRow("N31b", "version is not that of the body", v2(TILES, lambda entry: {
        **as_json(entry, "bundle"), "kindVersion": {"kind": "hashedrekord", "version": "0.0.1"}}), "malformed", BUNDLE),
    LogRow("N31c", "promise and no proof", v1(lambda entry: replace(entry, proof=None)), formats=BUNDLE),
    LogRow("N31c", "no proof, Rekor 2", v2(TILES, lambda entry: replace(entry, proof=None)), formats=BUNDLE),
    LogRow("N31c", "no proof, Rekor 2, ECDSA", v2(EC_TILES, lambda entry: EC_TILES.promise(
        replace(entry, proof=None, integrated_time=int(AT.timestamp())))), formats=BUNDLE),
    *(LogRow("N31d", f"kind {kind}", lambda made, kind=kind: [logged(made, edit=set_kind(kind))], "malformed")
      for kind in ("cose", "rpm", "intoto", "")),
    LogRow("N31d", "kind of the other format", lambda made: [logged(replace(
        made, format="sig" if made.format == "bundle" else "bundle"))]),
    LogRow("N31e", "body of another entry, Rekor 2", v2(TILES, lambda entry: replace(
        entry, body=log_bench.body("hashedrekord", 2, stranger(), b"something"))), formats=BUNDLE),
    *(LogRow("N31f", f"checkpoint: {words}, Rekor {log.version}", v2(
        log, lambda entry, log=log, edit=edit: with_note(entry, log, edit)), "malformed", BUNDLE)
      for log in (LOG, TILES) for words, edit in SIZES),
    LogRow("N31g", "digest of another image in the body", lambda made: [logged(made, edit=foreign_digest)]),
    LogRow("N31h", "SHA-256 labelled SHA-512", lambda made: [logged(made, edit=label("sha512"))], "malformed"),
    LogRow("N31h", "SHA-256 labelled SHA-512, Rekor 2", lambda made: [logged(made, TILES, edit=label_v2)], "malformed",
           BUNDLE),
    LogRow("N31h", "SHA-256 labelled MD5", lambda made: [logged(made, edit=label("md5"))], "malformed"),
    LogRow("N71", "proof of 65 hashes", v1(lambda entry: with_proof(entry, hashes=(bytes(32),) * 65)), "malformed",
           BUNDLE),
    LogRow("N71", "33 good entries", lambda made: [logged(made)] * 33, "malformed", BUNDLE),
    LogRow("N71", "32 good entries", lambda made: [logged(made)] * 32, ACCEPTED, BUNDLE),
    LogRow("N71", "checkpoint of 33 signatures", lambda made: [logged(
        made, after=f"\u2014 witness {b64(bytes(70))}\n" * 32)], "malformed", BUNDLE),
    LogRow("N71", "checkpoint of 32 signatures", lambda made: [logged(
        made, after=f"\u2014 witness {b64(bytes(70))}\n" * 31)], ACCEPTED, BUNDLE),
    LogRow("N72", "checkpoint of 17 KiB", lambda made: [logged(made, extension=f"{'x' * 17_000}\n")], "malformed",
           BUNDLE),
    LogRow("N72", "annotation of 2 MiB", lambda made: [{
        **as_json(logged(made), "sig"), "x": "x" * 2_000_000}], "malformed", SIG),
    LogRow("N73", "time is no number", lambda made: [promised(made, integratedTime="x")], "malformed", SIG),
    LogRow("N73", "index beyond 64 bits", lambda made: [promised(made, logIndex=2**63)], "malformed", SIG),
    LogRow("N73", "body nested deeply", lambda made: [promised(made, body=b64(b"[" * 100_000))], "malformed", SIG),
)


def _log_cases() -> t.Iterator[t.Any]:
    for number, row in enumerate(LOG_ROWS):
        for format in row.formats:
            for by in ("key", "ca"):
                if row.only in ("", by):
                    yield pytest.param(row, format, by, id=f"{number} {row.number} {row.words}-{format}-{by}")


@pytest.mark.parametrize(("row", "format", "by"), list(_log_cases()))
def test_attack_on_the_log(native: Bench, row: LogRow, format: Format, by: str) -> None:
    key, leaf = owner(), LEAF if by == "ca" else None
    made = make(native, format, key, leaf)
    made.put(row.entries(made))
    trusted = trusting() if leaf else key.authority
    check(look(native, trusted, evidence=Evidence(row.logs, require_log=True)), row.answer)
    # Nothing else is wrong with any of them, if there are not more entries than a bundle may have.
    if "33 good entries" not in row.words:
        check(look(native, trusted), ACCEPTED)


def test_n22_entry_that_is_there_is_judged_even_if_none_is_required(native: Bench, format: Format) -> None:
    made = make(native, format, owner())
    made.put([logged(made.other())])
    check(look(native, owner().authority, evidence=Evidence(LOGS)), "log_invalid")


def test_n31a_one_entry_twice_is_no_second_witness(native: Bench, alice: Key) -> None:
    made = make(native, "bundle", owner())
    made.put([logged(made), logged(made)])
    wanted = Evidence(LOGS, require_log=True)
    assert look(native, owner().authority, evidence=wanted).verified
    # Nothing here is counted by logs; authorities are, and there is one.
    verdict = look(native, owner().authority, alice.authority, evidence=wanted, threshold=2)
    assert (verdict.verified, codes(verdict.reasons)) == (False, ["threshold_not_met"])


def test_n31a_a_bad_entry_beside_a_good_one(native: Bench) -> None:
    made = make(native, "bundle", owner())
    made.put([logged(made), replace(logged(made), integrated_time=1)])
    check(look(native, owner().authority, evidence=Evidence(LOGS, require_log=True)), "log_invalid")


def test_n20_the_entry_of_one_signature_does_not_serve_the_next(native: Bench, format: Format) -> None:
    first, second = make(native, format, owner()), make(native, format, owner())
    first.put()
    second.put([logged(first)])
    verdict = look(native, owner().authority, evidence=Evidence(LOGS, require_log=True))
    assert (verdict.verified, set(codes(verdict.reasons))) == (False, {"log_missing", "log_invalid"})


# Certificates and times --------------------------------------------------------------------------------------------

OLD_ROOT = certs.authority("root", start=certs.NOW - 99 * certs.DAY)
OLD_SUB = certs.authority("sub", "root", start=certs.NOW - 99 * certs.DAY)
SHORT = functools.partial(certs.leaf, start=certs.NOW - 9 * certs.DAY, end=certs.NOW - 8 * certs.DAY)
OLD = {"roots": (OLD_ROOT,), "intermediates": (OLD_SUB,)}
IN_TIME, TOO_EARLY = certs.NOW - 9 * certs.DAY + HOUR, certs.NOW - 10 * certs.DAY
# RFC 9598: an address outside ASCII; its last letter but one is Cyrillic.
SMTP_UTF8 = certs.other_name("1.3.6.1.5.5.7.8.9", certs.utf8("d\u0435v@example.com"))
FULCIO = certs.other_name("1.3.6.1.4.1.57264.1.7", certs.utf8("dev!example.com"))
UNTRUSTED, EXPIRED, USAGE, NAME = "certificate_untrusted", "certificate_expired", "eku_mismatch", "identity_mismatch"


def email(text: str) -> Identity:
    return Identity("email", text)


def matching(pattern: str) -> Identity:
    return read_identity({"type": "dns", "regexp": pattern})


@dataclass(frozen=True)
class Row:
    """One case: a certificate, who signed, what came along, what is trusted, and our answer."""

    number: str
    words: str
    leaf: t.Callable[[], x509.Certificate]
    answer: str
    by: str = "leaf"
    chain: tuple[x509.Certificate, ...] = ()
    at: datetime.datetime | None = None
    promised: bool = True
    log: Log = LOG
    formats: tuple[Format, ...] = BOTH
    trust: t.Mapping[str, t.Any] = field(default_factory=dict)


def with_names(*sans: x509.GeneralName, **more: t.Any) -> t.Callable[[], x509.Certificate]:
    return lambda: certs.leaf(sans=list(sans), **more)


ROWS = (
    Row("good", "certificate", certs.leaf, ACCEPTED),
    Row("good", "name by an expression", with_names(certs.dns("ci.example.com")), ACCEPTED,
        trust={"of": matching("[a-z]+[.]example[.]com")}),
    Row("good", "certificate that was valid when logged", SHORT, ACCEPTED, at=IN_TIME, trust=OLD),
    Row("good", "root brought along that is trusted anyway", certs.leaf, ACCEPTED, chain=(SUB, ROOT), formats=SIG,
        trust={"intermediates": ()}),
    Row("N32", "expression for a part of the name", with_names(certs.dns("evil-example.com")), NAME,
        trust={"of": matching("example[.]com")}),
    Row("N32", "name that goes on behind", with_names(certs.dns("example.com.evil.org")), NAME,
        trust={"of": matching("example[.]com")}),
    Row("N32", "alternatives without brackets", with_names(certs.dns("example.com.evil.org")), NAME,
        trust={"of": matching("example[.]com|example[.]net")}),
    Row("N32", "several lines", with_names(certs.dns("example.com\nevil")), UNTRUSTED,
        trust={"of": matching("example[.]com.*")}),
    Row("N33", "expired", lambda: certs.leaf(**certs.PAST), EXPIRED),
    Row("N33", "not yet valid", lambda: certs.leaf(**certs.FUTURE), EXPIRED),
    Row("N34", "intermediate expired", lambda: certs.leaf(start=certs.PAST["start"]), EXPIRED,
        trust={"intermediates": (certs.authority("sub", "root", **certs.PAST),)}),
    Row("N34", "root expired", lambda: certs.leaf(start=certs.PAST["start"]), EXPIRED,
        trust={"roots": (certs.authority("root", **certs.PAST),)}),
    Row("N35", "logged before it was valid", SHORT, EXPIRED, at=TOO_EARLY, trust=OLD),
    Row("N35", "logged after it had expired", SHORT, EXPIRED, at=certs.NOW - HOUR, trust=OLD),
    Row("N35", "valid now, logged before", certs.leaf, EXPIRED, at=TOO_EARLY, trust=OLD),
    Row("N26", "expired, and nobody promised the time", SHORT, EXPIRED, at=IN_TIME, promised=False, formats=BUNDLE,
        trust=OLD),
    Row("N45", "expired, and Rekor 2 proves no time", SHORT, EXPIRED, at=IN_TIME, log=TILES, formats=BUNDLE, trust=OLD),
    Row("N36", "signed by itself", lambda: certs.leaf("leaf"), UNTRUSTED),
    Row("N36", "signed by itself, and an authority", lambda: SELF, UNTRUSTED),
    Row("N36", "a leaf that issues", lambda: certs.leaf("anybody"), UNTRUSTED,
        trust={"intermediates": (certs.leaf("root", subject="anybody", ca=False),)}),
    Row("N36", "a leaf that issues, without constraints", lambda: certs.leaf("anybody"), UNTRUSTED,
        trust={"intermediates": (certs.leaf("root", subject="anybody"),)}),
    Row("N36", "path too long", certs.leaf, UNTRUSTED, trust={"roots": (certs.authority("root", below=0),)}),
    Row("N37", "root from the chain", lambda: certs.leaf("stranger"), UNTRUSTED,
        chain=(certs.authority("stranger"),), formats=SIG),
    Row("N37", "root of the right name from the chain", lambda: certs.leaf(certs.Subject("root", key_of="stranger")),
        UNTRUSTED, chain=(certs.authority(certs.Subject("root", key_of="stranger")),), formats=SIG),
    Row("N37", "intermediate of another root, and the right root", lambda: certs.leaf("other"), UNTRUSTED,
        chain=(certs.authority("other", "stranger"), certs.authority("stranger"), ROOT), formats=SIG),
    Row("N38", "for servers", lambda: certs.leaf(eku=["serverAuth"]), USAGE),
    Row("N38", "for servers and clients", lambda: certs.leaf(eku=["serverAuth", "clientAuth"]), USAGE),
    Row("N39", "intermediate for servers", certs.leaf, USAGE,
        trust={"intermediates": (certs.authority("sub", "root", eku=["serverAuth"]),)}),
    Row("N40", "another name", with_names(certs.uri("https://ci.example.com/other")), NAME),
    Row("N40", "name goes on", with_names(certs.uri(f"{certs.JOB.value}/../evil")), NAME),
    Row("N40", "right name of another type", with_names(certs.dns("ci.example.com"), certs.JOB), NAME,
        trust={"of": email("ci.example.com")}),
    Row("N40", "name in the subject only", with_names(
        subject=certs.Subject("leaf", name=certs.name(CN="ci.example.com"))), NAME,
        trust={"of": Identity("dns", "ci.example.com")}),
    Row("N40", "wildcard", with_names(certs.dns("*.example.com")), NAME,
        trust={"of": Identity("dns", "ci.example.com")}),
    Row("N42", "certificate of another key, same name", lambda: certs.leaf(subject="anybody"), "signature_invalid"),
    Row("N47", "leaf of the timestamp authority", lambda: certs.leaf("tsa"), UNTRUSTED, chain=(
        certs.authority("tsa"),), formats=SIG),
    Row("N47", "certificate that stamps", lambda: certs.leaf(eku=["1.3.6.1.5.5.7.3.8"]), USAGE),
    Row("N48", "NUL in a name", with_names(certs.dns("ci.example.com\0.evil.org")), UNTRUSTED,
        trust={"of": Identity("dns", "ci.example.com")}),
    Row("N48", "NUL beside the right name", with_names(certs.JOB, certs.email("dev@example.com\0.evil.org")),
        UNTRUSTED),
    Row("N48", "address in capitals", with_names(certs.email("DEV@example.com")), NAME,
        trust={"of": email("dev@example.com")}),
    Row("N48", "host in capitals", with_names(certs.dns("CI.example.com")), NAME,
        trust={"of": Identity("dns", "ci.example.com")}),
    Row("N48", "punycode", with_names(certs.dns("xn--xample-9uf.com")), NAME,
        trust={"of": Identity("dns", "\u0435xample.com")}),
    Row("N48", "address outside ASCII that looks the same", with_names(SMTP_UTF8), NAME,
        trust={"of": email("dev@example.com")}),
    Row("N48", "critical other name", with_names(FULCIO, critical_sans=True), NAME,
        trust={"of": email("dev!example.com")}),
    Row("N48", "critical other name, the wanted one", with_names(FULCIO, critical_sans=True), ACCEPTED,
        trust={"of": Identity("other", "dev!example.com")}),
)
SELF = certs.leaf("leaf", ca=True, cert_sign=True)


@pytest.mark.parametrize(("row", "format"), [
    pytest.param(row, format, id=f"{number} {row.number} {row.words}-{format}")
    for number, row in enumerate(ROWS) for format in row.formats
])
def test_attack_on_certificates(native: Bench, row: Row, format: Format) -> None:
    made = make(native, format, owner(row.by), row.leaf())
    evidence, entries = None, []
    if row.at is not None:
        entry = logged(made, row.log, at=row.at)
        entries = [entry if row.promised else replace(entry, signed_entry_timestamp=None)]
        evidence = Evidence(LOGS, require_log=True)
    made.put(entries, **({CHAIN: certs.pem(*row.chain).decode()} if row.chain else {}))
    check(look(native, trusting(**row.trust), evidence=evidence), row.answer)


def test_n36_leaf_that_is_its_own_trusted_root(native: Bench, format: Format) -> None:
    made = make(native, format, owner(), SELF)
    made.put()
    check(look(native, trusting(roots=[SELF])), UNTRUSTED)


def test_n42_signature_by_the_wanted_name_and_another_key(native: Bench, format: Format, mallory: Key) -> None:
    make(native, format, mallory, LEAF).put()
    check(look(native, trusting()), "signature_invalid")


def test_n46_a_bare_key_does_not_stand_for_its_certificate(native: Bench, format: Format) -> None:
    make(native, format, owner()).put()
    check(look(native, trusting()), "signature_invalid")
    check(look(native, owner().authority), ACCEPTED)


def test_n46_a_certificate_in_a_bundle_does_not_stand_for_its_key(native: Bench) -> None:
    make(native, "bundle", owner(), LEAF).put()
    check(look(native, owner().authority), UNTRUSTED)
    check(look(native, trusting()), ACCEPTED)


@pytest.mark.parametrize("keys", ["key", "certificate"])
def test_s16_one_key_is_one_signer(native: Bench, alice: Key, keys: str) -> None:
    # Twice as a key, with a certificate, with a renewed one, and in both formats.
    key = owner()
    for format in BOTH:
        for leaf in (None, LEAF, certs.leaf()):
            make(native, format, key, leaf).put()
    trust = (key.authority, alice.authority) if keys == "key" else (
        trusting(), Authority("again", issuer=Issuer((ROOT,), matching(".*"), (SUB,))), key.authority,
    )
    verdict = look(native, *trust, threshold=2)
    assert (verdict.verified, verdict.reasons[-1].code) == (False, "threshold_not_met")
    assert len(verdict.authorities) == 1
    make(native, "sig", alice).put()
    assert look(native, *trust[-1:], alice.authority if keys == "certificate" else key.authority, threshold=2).verified


# Timestamps --------------------------------------------------------------------------------------------------------


def stamp(stamper: FakeStamper, signature: bytes, kind: str | None = None, **more: t.Any) -> bytes:
    """What the authority answers, be it true or not."""
    from ansible_collections.hallmark.signing.plugins.module_utils._transparency import timestamp

    stamper.lie(kind, **more)
    return stamper.server.token(timestamp.request(signature))


def by_another(stamper: FakeStamper, signature: bytes, folder: pathlib.Path) -> bytes:
    """A token signed by whoever's certificate and key are in the folder."""
    from ansible_collections.hallmark.signing.plugins.module_utils._transparency import timestamp

    request = timestamp.request(signature)
    return timestamp_server.odd_reply(folder, stamper.server.folder / "inner", request, seconds=0)


def stamped_by(stamper: FakeStamper, **options: t.Any) -> Evidence:
    from ansible_collections.hallmark.signing.plugins.module_utils._transparency import timestamp

    chain = stamper.chain.read_bytes()
    return Evidence(timestamp_authorities=(timestamp.read_authority(chain, where="tsa"),), **options)


def unfit(stamper: FakeStamper, signature: bytes) -> bytes:
    """A token by a signer of the same authority who may sign code and not stamp."""
    import argparse

    folder = stamper.server.folder / "unfit"
    given = argparse.Namespace(key="ec", essential="sha256", lifetime=[-3600, 86400])
    timestamp_server.write_authority(folder, given, usage="signing")
    stamper.chain.write_bytes((folder / "chain.pem").read_bytes())
    return by_another(stamper, signature, folder)


def by_signer_of_code(stamper: FakeStamper, signature: bytes) -> bytes:
    """A token by the leaf of the code-signing authority, which is trusted for code."""
    folder = stamper.server.folder / "code"
    folder.mkdir()
    (folder / "signer.pem").write_bytes(certs.pem(LEAF))
    (folder / "signer.key").write_bytes(owner().private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ))
    return by_another(stamper, signature, folder)


def modified(stamper: FakeStamper, signature: bytes) -> bytes:
    """A token that was granted with modifications."""
    whole = stamp(stamper, signature, "clock", seconds=0)
    granted = bytes.fromhex("3003020100")
    assert granted in whole[:10]
    return whole.replace(granted, granted[:-1] + b"\1", 1)


Stamps = t.Callable[[FakeStamper, Made], t.Sequence[bytes]]
STAMPS: tuple[tuple[str, str, Stamps, str], ...] = (
    ("good", "timestamp", lambda stamper, made: [stamp(stamper, made.signature)], ACCEPTED),
    ("N44", "over another signature", lambda stamper, made: [stamp(stamper, made.other().signature)],
     "timestamp_invalid"),
    ("N44", "over the content in place of the signature", lambda stamper, made: [stamp(stamper, made.message)],
     "timestamp_invalid"),
    ("N44", "over nothing", lambda stamper, made: [stamp(stamper, made.signature, "imprint")], "timestamp_invalid"),
    ("N44", "by another authority of the same names", lambda stamper, made: [
        stamp(stamper, made.signature, "other_authority")], "timestamp_invalid"),
    ("N44", "by a certificate that is not for it", lambda stamper, made: [unfit(stamper, made.signature)],
     "timestamp_invalid"),
    ("N44", "before the certificate was valid", lambda stamper, made: [
        stamp(stamper, made.signature, "clock", seconds=-7200)], "timestamp_invalid"),
    ("N44", "after the certificate expired", lambda stamper, made: [
        stamp(stamper, made.signature, "clock", seconds=2 * 86400)], "timestamp_invalid"),
    ("N44", "not granted", lambda stamper, made: [stamp(stamper, made.signature, "denied")], "timestamp_invalid"),
    ("N44", "granted with modifications", lambda stamper, made: [modified(stamper, made.signature)],
     "timestamp_invalid"),
    ("N44", "no timestamp at all", lambda _stamper, _made: [b"no"], "malformed"),
    ("N45", "required and absent", lambda _stamper, _made: [], "timestamp_missing"),
    ("N47", "by the authority for code", lambda stamper, made: [by_signer_of_code(stamper, made.signature)],
     "timestamp_invalid"),
    ("N72", "of 65 KiB", lambda stamper, made: [stamp(stamper, made.signature) + bytes(65 * 1024)], "malformed"),
)


@pytest.mark.parametrize("by", ["key", "ca"])
@pytest.mark.parametrize(("number", "words", "stamps", "answer"), STAMPS, ids=[
    f"{number} {words}" for number, words, *_rest in STAMPS
])
def test_attack_on_timestamps(
    native: Bench, stamper: FakeStamper, format: Format, by: str, number: str, words: str, stamps: Stamps, answer: str
) -> None:
    key, leaf = owner(), LEAF if by == "ca" else None
    made = make(native, format, key, leaf)
    made.put(stamps=stamps(stamper, made))
    trusted = trusting() if leaf else key.authority
    check(look(native, trusted, evidence=stamped_by(stamper, require_timestamp=True)), answer)
    # What is there and does not hold is refused even where none is required.
    check(look(native, trusted, evidence=stamped_by(stamper)), ACCEPTED if number == "N45" else answer)
    check(look(native, trusted), ACCEPTED)
    assert words


def test_n71_too_many_timestamps(native: Bench, stamper: FakeStamper) -> None:
    made = make(native, "bundle", owner())
    made.put(stamps=[stamp(stamper, made.signature)] * 33)
    check(look(native, owner().authority, evidence=stamped_by(stamper)), "malformed")


def test_n45_rekor_2_needs_a_timestamp_for_a_certificate_that_has_expired(native: Bench, stamper: FakeStamper) -> None:
    five = datetime.timedelta(minutes=5)
    leaf = certs.leaf(start=certs.NOW - certs.DAY, end=certs.NOW - five)
    made = make(native, "bundle", owner(), leaf)
    made.put([logged(made, TILES)])
    wanted = replace(stamped_by(stamper), logs=LOGS, require_log=True)
    check(look(native, trusting(), evidence=wanted), EXPIRED)
    made.put([logged(made, TILES)], [stamp(stamper, made.signature, "clock", seconds=-1800)])
    assert look(native, trusting(), evidence=wanted).verified


# Bundles by certificates -------------------------------------------------------------------------------------------

# Members of the material beside a good certificate; None leaves the certificate out.
BUNDLES: tuple[tuple[str, str, Json, str], ...] = (
    ("good", "certificate", {}, ACCEPTED),
    ("N57", "key and certificate", {"publicKey": {"hint": ""}}, "malformed"),
    ("N57", "neither", {"certificate": None}, "malformed"),
    ("N57", "certificate is empty", {"certificate": {}}, "malformed"),
    ("N58", "chain as well", {"x509CertificateChain": {"certificates": [{"rawBytes": b64(der(LEAF))}]}}, "malformed"),
    ("N58", "chain alone", {
        "certificate": None,
        "x509CertificateChain": {"certificates": [{"rawBytes": b64(der(one))} for one in (LEAF, SUB)]},
    }, "malformed"),
    ("N56", "unknown member", {"more": 1}, "malformed"),
    ("N56", "unknown member beside the certificate", {"certificate": {"rawBytes": b64(der(LEAF)), "more": 1}},
     "malformed"),
    ("N59", "certificate in URL-safe base64", {"certificate": {"rawBytes": "-_-_"}}, "malformed"),
    ("N59", "snake case", {"certificate": {"raw_bytes": b64(der(LEAF))}}, "malformed"),
    ("N72", "certificate of 65 KiB", {"certificate": {"rawBytes": b64(der(LEAF) + bytes(65 * 1024))}}, "malformed"),
)


@pytest.mark.parametrize(("number", "words", "members", "answer"), BUNDLES, ids=[
    f"{number} {words}" for number, words, *_rest in BUNDLES
])
def test_attack_on_bundles_by_certificates(native: Bench, number: str, words: str, members: Json, answer: str) -> None:
    make(native, "bundle", owner(), LEAF).put(**members)
    check(look(native, trusting()), answer)
    assert number
    assert words


@pytest.mark.parametrize(("change", "answer"), [
    ({}, ACCEPTED), ({"mediaType": None}, "malformed"), ({"messageSignature": {"signature": ""}}, "malformed"),
    ({"dsseEnvelope": None, "messageSignature": {
        "messageDigest": {"algorithm": "SHA2_256", "digest": b64(bytes(32))}, "signature": b64(b"x"),
    }}, "malformed"),
], ids=["good", "N55 no media type", "N57 message signature as well", "N31g message signature alone"])
def test_attack_on_the_kind_of_bundle(native: Bench, change: Json, answer: str) -> None:
    made = make(native, "bundle", owner())
    document = {
        "mediaType": BUNDLE_TYPE, "verificationMaterial": {"publicKey": {"hint": ""}}, "dsseEnvelope": made.envelope,
        **change,
    }
    native.refer(compact({name: value for name, value in document.items() if value is not None}))
    check(look(native, owner().authority), answer)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_s17_number_of_signatures_in_an_envelope_by_a_certificate(native: Bench, count: int) -> None:
    made = make(native, "bundle", owner(), LEAF)
    envelope = {**made.envelope, "signatures": made.envelope["signatures"] * count}
    native.refer(compact({
        "mediaType": BUNDLE_TYPE, "verificationMaterial": {"certificate": {"rawBytes": b64(der(LEAF))}},
        "dsseEnvelope": envelope,
    }))
    check(look(native, trusting()), ACCEPTED if count == 1 else "malformed")


@pytest.mark.parametrize(("claimed", "signed"), [
    ("application/json", "application/json"), (IN_TOTO, "application/json"), (IN_TOTO, IN_TOTO[:-2]),
    (IN_TOTO, IN_TOTO),
])
def test_s18_type_of_an_envelope_by_a_certificate(native: Bench, claimed: str, signed: str) -> None:
    content = compact(native.statement())
    body = content if signed != IN_TOTO[:-2] else IN_TOTO[-2:].encode() + content
    native.refer(compact({
        "mediaType": BUNDLE_TYPE, "verificationMaterial": {"certificate": {"rawBytes": b64(der(LEAF))}},
        "dsseEnvelope": {
            "payload": b64(content), "payloadType": claimed,
            "signatures": [{"sig": b64(owner().sign(pae(body, signed)))}],
        },
    }))
    good = "malformed" if claimed != IN_TOTO else "signature_invalid"
    check(look(native, trusting()), ACCEPTED if claimed == signed == IN_TOTO else good)


def test_n62_n63_unreadable_or_foreign_ones_hide_no_certified_signature(native: Bench, mallory: Key) -> None:
    native.refer(b"rubbish")
    make(native, "bundle", mallory, certs.leaf("stranger")).put()
    check_formats: tuple[Format, ...] = ("bundle", "sig")
    assert not look(native, trusting(), formats=check_formats).verified
    make(native, "sig", owner(), LEAF).put()
    assert look(native, trusting(), formats=check_formats).verified


def test_s13_an_ed25519_signature_in_an_envelope_has_one_encoding(native: Bench, frank: Key) -> None:
    order = 2**252 + 27742317777372353535851937790883648493
    for scheme in ("ed25519", "ed25519ph"):
        made = make(native, "bundle", frank)
        signature = making.sign(frank.private, made.message, scheme=scheme)
        number = int.from_bytes(signature[32:], "little")
        # More than the order; the neutral point as R; nothing at all.
        for other in (
            signature[:32] + (number + order).to_bytes(32, "little"), (1).to_bytes(32, "little") + signature[32:],
            (1).to_bytes(32, "little") + bytes(32), bytes(64), signature[:-1], signature + b"\0",
        ):
            replace(made, signature=other).put()
            assert set(codes(look(native, frank.authority).reasons)) == {"signature_invalid"}
    replace(made, signature=signature).put()
    assert look(native, frank.authority).verified


# What is too much --------------------------------------------------------------------------------------------------


def huge_oid() -> bytes:
    """The DER of a certificate with an extension whose identifier has 20,000 bytes."""
    *parts, extensions = certs.inside(LEAF.tbs_certificate_bytes)
    odd = certs.der(0x30, certs.der(0x06, b"\x2a" + b"\x81" * 20_000 + b"\1"), certs.der(0x04, b"\5\0"))
    inner = certs.der(0xA3, certs.der(0x30, *certs.inside(certs.inside(extensions)[0]), odd))
    body = certs.der(0x30, *parts, inner)
    return certs.der(0x30, body, *certs.inside(der(LEAF))[1:])


@pytest.mark.parametrize(("name", "text"), [
    (CERTIFICATE, log_bench.pem("CERTIFICATE", der(LEAF) + bytes(65 * 1024)).decode()),
    (CERTIFICATE, certs.pem(LEAF).decode() * 2),
    (CERTIFICATE, log_bench.pem("CERTIFICATE", huge_oid()).decode()), (CHAIN, certs.pem(*[SUB] * 17).decode()),
    (CHAIN, log_bench.pem("CERTIFICATE", huge_oid()).decode()),
], ids=["huge", "two", "oid", "long chain", "oid in the chain"])
def test_n73_certificates_that_are_too_much(native: Bench, name: str, text: str) -> None:
    make(native, "sig", owner(), LEAF).put(**{name: text})
    check(look(native, trusting()), "malformed")


@pytest.mark.parametrize(("size", "answer"), [(40, ACCEPTED), (70, "malformed")])
def test_n72_size_of_a_certificate_in_kib(native: Bench, format: Format, size: int, answer: str) -> None:
    make(native, format, owner(), certs.leaf(extensions=[("1.2.3.4", bytes(size * 1024), False)])).put()
    check(look(native, trusting()), answer)


def test_n73_huge_identifier_in_the_certificate_of_a_bundle(native: Bench) -> None:
    make(native, "bundle", owner(), LEAF).put(certificate={"rawBytes": b64(huge_oid())})
    check(look(native, trusting()), "malformed")


@pytest.mark.parametrize("pattern", ["(a+)+", "(a|a)*b", "(a|aa)+b", "((a*)*)*b", "(.*a){20}b", "([a-z]+)*[.]b"])
def test_n74_no_expression_takes_long(native: Bench, format: Format, pattern: str) -> None:
    make(native, format, owner(), certs.leaf(sans=[certs.dns(f"{'a' * 3000}!")])).put()
    begin = time.monotonic()
    check(look(native, trusting(of=matching(pattern))), NAME)
    # Linear is a fraction of a second; backtracking would not end in this century.
    assert time.monotonic() - begin < 20


def test_n71_one_good_beside_many_by_other_certificates(native: Bench, format: Format, mallory: Key) -> None:
    bad = certs.leaf("stranger")
    for _number in range(20):
        make(native, format, mallory, bad).put()
    make(native, format, owner(), LEAF).put()
    assert look(native, trusting()).verified
