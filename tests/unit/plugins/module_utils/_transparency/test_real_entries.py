# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Entries of real logs (data/transparency; its README.md says where they come from), right ones and altered ones."""

from __future__ import annotations

import base64
import datetime
import json
import pathlib
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils import _strict_json
from ansible_collections.hallmark.signing.plugins.module_utils._errors import FormatError, VerificationError
from ansible_collections.hallmark.signing.plugins.module_utils._transparency import body, log_key, proof
from ansible_collections.hallmark.signing.plugins.module_utils._transparency import entry as entries
from ansible_collections.hallmark.signing.plugins.module_utils._transparency.entry import LogEntry
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._transparency.log_bench import (
    Json,
    b64,
    pae,
    spki,
)
from cryptography import x509
from cryptography.hazmat.primitives import serialization

DATA = pathlib.Path(__file__).parents[3] / "data" / "transparency"
VECTORS: dict[str, Json] = {one["name"]: one for one in json.loads((DATA / "vectors.json").read_bytes())}
# What no cosign refuses and the entry itself shows to be wrong.
STRICTER = {"blob-r2-entry-body-altered", "blob-r2-kind-altered"}
# What cosign refuses and the log still vouches for: without a promise there is no time; a witness takes nothing away.
LAXER = {"blob-r1-set-missing", "blob-r1-checkpoint-unknown-cosignature"}
DAY = datetime.datetime(2026, 11, 20, tzinfo=datetime.timezone.utc)
NEXT_DAY = DAY + datetime.timedelta(days=1)


def is_accepted(name: str) -> bool:
    return (VECTORS[name]["cosign"]["3.1.1"] == "accepts" or name in LAXER) and name not in STRICTER


ACCEPTED = [name for name in VECTORS if is_accepted(name)]
REFUSED = [name for name in VECTORS if not is_accepted(name)]


def key(name: str, **options: t.Any) -> log_key.LogKey:
    return log_key.read((DATA / name).read_bytes(), where=name, **options)


def keys(**options: t.Any) -> list[log_key.LogKey]:
    return [
        key("other-rekor1.pub", rekor_url="https://rekor1.vectors.test", **options),
        key("rekor1.pub", rekor_url="https://rekor1.vectors.test", **options),
        key("rekor2.pub", rekor_url="https://rekor2.vectors.test", **options),
    ]


def of_key(certificate: bytes | None) -> bytes:
    """The DER of the key of a certificate; without one, of the key that signed all else."""
    if certificate is None:
        return spki(serialization.load_pem_public_key((DATA / "cosign.pub").read_bytes()))
    return spki(x509.load_der_x509_certificate(certificate).public_key())


def from_64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def read(name: str) -> tuple[LogEntry, proof.Subject, bool]:
    """The entry, what it must be about, and whether it must have a proof."""
    vector = VECTORS[name]
    if "annotations" in vector:
        notes = vector["annotations"]
        pem = notes.get("dev.sigstore.cosign/certificate")
        leaf = x509.load_pem_x509_certificate(pem.encode()).public_bytes(serialization.Encoding.DER) if pem else None
        content = vector["payload"].encode()
        return entries.from_annotation(notes["dev.sigstore.cosign/bundle"], where=name), proof.Subject(
            from_64(notes["dev.cosignproject.cosign/signature"]), content, content, of_key(leaf), leaf, False
        ), False
    material = vector["bundle"]["verificationMaterial"]
    leaf = from_64(material["certificate"]["rawBytes"]) if "certificate" in material else None
    envelope = vector["bundle"].get("dsseEnvelope")
    content = from_64(envelope["payload"]) if envelope else vector["artifact"].encode()
    signed = envelope["signatures"][0]["sig"] if envelope else vector["bundle"]["messageSignature"]["signature"]
    (source,) = material["tlogEntries"]
    parsed = _strict_json.loads(json.dumps(source).encode(), what="log entry", where=name)
    return entries.from_bundle(parsed), proof.Subject(
        from_64(signed), pae(content) if envelope else content, content, of_key(leaf), leaf, envelope is not None
    ), True


def verify(name: str, trusted: t.Sequence[log_key.LogKey], *, now: datetime.datetime = DAY) -> datetime.datetime | None:
    entry, subject, needs_proof = read(name)
    return proof.verify(entry, subject=subject, keys=trusted, needs_proof=needs_proof, now=now, where=name)


def refuses(name: str, trusted: t.Sequence[log_key.LogKey]) -> None:
    with pytest.raises((VerificationError, FormatError)) as caught:
        verify(name, trusted)
    assert caught.value.code in ("log_invalid", "malformed")
    assert caught.value.object == name


def test_the_vectors_are_there() -> None:
    assert (len(ACCEPTED), len(REFUSED)) == (12, 27)


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepts(name: str) -> None:
    moment = verify(name, keys(not_before=DAY, not_after=NEXT_DAY))
    if "-r2-" in name or name == "blob-r1-set-missing":
        assert moment is None
    else:
        assert moment is not None
        assert DAY < moment < NEXT_DAY


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_what_was_altered(name: str) -> None:
    refuses(name, keys())


@pytest.mark.parametrize("name", ACCEPTED)
def test_refuses_other_logs(name: str) -> None:
    refuses(name, [key("other-rekor1.pub"), key("cosign.pub")])


@pytest.mark.parametrize("name", ACCEPTED)
def test_refuses_keys_that_were_not_valid(name: str) -> None:
    refuses(name, keys(not_after=DAY - datetime.timedelta(seconds=1)))
    refuses(name, keys(not_before=NEXT_DAY))


@pytest.mark.parametrize("name", [name for name in ACCEPTED if "bundle" in VECTORS[name]])
def test_refuses_the_same_key_under_another_name(name: str) -> None:
    log = "rekor2.pub" if "-r2-" in name else "rekor1.pub"
    refuses(name, [key(log, rekor_url="https://rekor3.vectors.test")])
    verify(name, [key(log)])


@pytest.mark.parametrize("name", [name for name in ACCEPTED if "annotations" in VECTORS[name]])
def test_writes_the_annotation_as_cosign_did(name: str) -> None:
    assert entries.as_annotation(read(name)[0]) == VECTORS[name]["annotations"]["dev.sigstore.cosign/bundle"]


@pytest.mark.parametrize("name", [name for name in ACCEPTED if "bundle" in VECTORS[name]])
def test_writes_the_entry_as_cosign_did(name: str) -> None:
    (written,) = VECTORS[name]["bundle"]["verificationMaterial"]["tlogEntries"]
    assert json.dumps(entries.as_bundle(read(name)[0])) == json.dumps(written)


@pytest.mark.parametrize("name", ["blob-r1-email", "img-leg-tsa-key", "img-leg-tsa-uri"])
def test_proposes_what_rekor_stored(name: str) -> None:
    entry, subject, _needs_proof = read(name)
    logged = body.decode(entry.body, where=name)
    stored = json.loads(entry.body)["spec"]["signature"]["publicKey"]["content"]
    assert body.hashedrekord(
        digest=logged.digest, hash_algorithm=logged.hash_algorithm, signature=subject.signature,
        verifier_pem=from_64(stored).decode("ascii"),
    ) == entry.body


def test_reads_the_answer_that_the_log_gave_for_a_bundle() -> None:
    entry, subject, _needs_proof = read("img-v3-r1-key")
    assert entry.proof
    assert entry.signed_entry_timestamp
    answer = {
        "body": b64(entry.body), "integratedTime": entry.integrated_time, "logID": entry.log_id.hex(),
        "logIndex": entry.index, "verification": {
            "inclusionProof": {
                "checkpoint": entry.proof.checkpoint, "hashes": [one.hex() for one in entry.proof.hashes],
                "logIndex": entry.proof.index, "rootHash": entry.proof.root.hex(), "treeSize": entry.proof.size,
            },
            "signedEntryTimestamp": b64(entry.signed_entry_timestamp),
        },
    }
    again = entries.from_response(_strict_json.loads(json.dumps(answer).encode(), what="answer", where="x"))
    assert again == entry
    assert proof.verify(again, subject=subject, keys=keys(), needs_proof=True, now=DAY, where="x")
