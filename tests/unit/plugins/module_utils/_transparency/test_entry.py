# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Log entries: annotations, entries of bundles, answers of Rekor v1."""

from __future__ import annotations

import json
import typing as t
from dataclasses import replace

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils import _strict_json
from ansible_collections.hallmark.signing.plugins.module_utils._errors import FormatError
from ansible_collections.hallmark.signing.plugins.module_utils._transparency import entry as entries
from ansible_collections.hallmark.signing.plugins.module_utils._transparency.entry import InclusionProof, LogEntry
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._transparency import log_bench
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._transparency.log_bench import Json, b64
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import example, given, settings
from hypothesis import strategies as st

BODY_V1 = log_bench.body("dsse", 1, log_bench.Signer(ec.generate_private_key(ec.SECP256R1())), b"payload")
BODY_V2 = log_bench.body("hashedrekord", 2, log_bench.Signer(ec.generate_private_key(ec.SECP256R1())), b"message")
ID, ROOT, HASH = bytes(range(32)), bytes(range(32, 64)), b"h" * 32
PROOF = InclusionProof(index=4, size=7, root=ROOT, hashes=(HASH, ROOT, HASH), checkpoint="a checkpoint\n")
ENTRY_V1 = LogEntry(1004, ID, log_bench.TIME, BODY_V1, b"timestamp", PROOF)
ENTRY_V2 = LogEntry(4, ID, None, BODY_V2, None, PROOF)

PAYLOAD: Json = {"body": b64(BODY_V1), "integratedTime": log_bench.TIME, "logIndex": 1004, "logID": ID.hex()}
ANNOTATION: Json = {"SignedEntryTimestamp": b64(b"timestamp"), "Payload": PAYLOAD}
BUNDLED: Json = {
    "logIndex": "1004", "logId": {"keyId": b64(ID)}, "kindVersion": {"kind": "dsse", "version": "0.0.1"},
    "integratedTime": str(log_bench.TIME), "inclusionPromise": {"signedEntryTimestamp": b64(b"timestamp")},
    "inclusionProof": {
        "logIndex": "4", "rootHash": b64(ROOT), "treeSize": "7", "hashes": [b64(HASH), b64(ROOT), b64(HASH)],
        "checkpoint": {"envelope": "a checkpoint\n"},
    },
    "canonicalizedBody": b64(BODY_V1),
}
BUNDLED_V2: Json = {
    **{name: BUNDLED[name] for name in ("logId", "inclusionProof")}, "logIndex": "4",
    "kindVersion": {"kind": "hashedrekord", "version": "0.0.2"}, "canonicalizedBody": b64(BODY_V2),
}
ANSWER: Json = {
    "attestation": {"data": "ignored"}, "body": b64(BODY_V1), "integratedTime": log_bench.TIME, "logID": ID.hex(),
    "logIndex": 1004, "verification": {
        "inclusionProof": {
            "checkpoint": "a checkpoint\n", "hashes": [HASH.hex(), ROOT.hex(), HASH.hex()], "logIndex": 4,
            "rootHash": ROOT.hex(), "treeSize": 7,
        },
        "signedEntryTimestamp": b64(b"timestamp"),
    },
}


def source(document: t.Any) -> _strict_json.JsonObject:
    return _strict_json.loads(json.dumps(document).encode("utf-8"), what="log entry", where="registry/image")


def from_annotation(document: t.Any) -> LogEntry:
    return entries.from_annotation(json.dumps(document), where="registry/image")


def from_bundle(document: t.Any) -> LogEntry:
    return entries.from_bundle(source(document))


def from_response(document: t.Any) -> LogEntry:
    return entries.from_response(source(document))


Reader = t.Callable[[t.Any], LogEntry]
SHAPES: dict[str, tuple[Reader, Json]] = {
    "annotation": (from_annotation, ANNOTATION), "bundle": (from_bundle, BUNDLED),
    "bundle, version 2": (from_bundle, BUNDLED_V2), "answer": (from_response, ANSWER),
}


def altered(document: Json, **changes: t.Any) -> Json:
    """The document with members replaced, or removed; two underscores lead into an object."""
    copied: Json = json.loads(json.dumps(document))
    for name, new in changes.items():
        *parents, last = name.split("__")
        parent = copied
        for step in parents:
            parent = parent[step]
        if new is ...:
            del parent[last]
        else:
            parent[last] = new
    return copied


def test_reads_and_writes_annotations() -> None:
    assert from_annotation(ANNOTATION) == replace(ENTRY_V1, proof=None)
    # As Go writes it: no spaces, members in this order.
    assert entries.as_annotation(ENTRY_V1) == json.dumps(ANNOTATION, separators=(",", ":"))


@pytest.mark.parametrize("entry", [
    replace(ENTRY_V1, signed_entry_timestamp=None), replace(ENTRY_V1, integrated_time=None), ENTRY_V2,
])
def test_what_nobody_could_check_makes_no_annotation(entry: LogEntry) -> None:
    with pytest.raises(FormatError, match="it has no signed entry timestamp"):
        entries.as_annotation(entry)


def test_reads_and_writes_bundles() -> None:
    assert from_bundle(BUNDLED) == ENTRY_V1
    assert from_bundle(BUNDLED_V2) == ENTRY_V2
    assert json.dumps(entries.as_bundle(ENTRY_V1)) == json.dumps(BUNDLED)
    assert entries.as_bundle(ENTRY_V2) == BUNDLED_V2


def test_reads_answers() -> None:
    assert from_response(ANSWER) == ENTRY_V1
    assert from_response(altered(ANSWER, attestation=..., verification=...)) == replace(
        ENTRY_V1, signed_entry_timestamp=None, proof=None
    )
    assert from_response({**ANSWER, "unknown": 1}) == ENTRY_V1


def test_the_signed_entry_timestamp_is_over_canonical_json() -> None:
    assert ENTRY_V1.promised_bytes == log_bench.canonical(PAYLOAD)


def test_what_a_bundle_leaves_out_is_zero_or_empty() -> None:
    first = replace(ENTRY_V2, index=0, proof=InclusionProof(0, 1, ROOT, (), "a checkpoint\n"))
    document = altered(
        BUNDLED_V2, logIndex=..., inclusionProof__logIndex=..., inclusionProof__hashes=..., inclusionProof__treeSize="1"
    )
    assert from_bundle(document) == first
    assert entries.as_bundle(first) == document
    zeros = altered(
        BUNDLED_V2, logIndex="0", integratedTime="0", inclusionProof__logIndex="0", inclusionProof__hashes=[],
        inclusionProof__treeSize="1", inclusionPromise={},
    )
    assert from_bundle(zeros) == first
    assert from_bundle(altered(BUNDLED, inclusionPromise=..., inclusionProof=...)) == replace(
        ENTRY_V1, signed_entry_timestamp=None, proof=None
    )
    without = replace(ENTRY_V1, signed_entry_timestamp=None, proof=None)
    assert entries.as_bundle(without) == altered(BUNDLED, inclusionPromise=..., inclusionProof=...)


def test_numbers_of_bundles_may_be_numbers() -> None:
    document = altered(
        BUNDLED, logIndex=1004, integratedTime=log_bench.TIME, inclusionProof__logIndex=4, inclusionProof__treeSize=7
    )
    assert from_bundle(document) == ENTRY_V1


NUMBERS = {
    "annotation": ["Payload__logIndex", "Payload__integratedTime"],
    "bundle": ["logIndex", "integratedTime", "inclusionProof__logIndex", "inclusionProof__treeSize"],
    "answer": [
        "logIndex", "integratedTime", "verification__inclusionProof__logIndex", "verification__inclusionProof__treeSize"
    ],
}
BAD_NUMBERS = (
    -1, 2**63, 1.0, True, None, [], {}, "", "-1", "+1", "01", " 1", "1 ", "1.0", "1e0", "0x1", "1_0", "\u0661",
    "9" * 19, "9" * 20, "9" * 5000, "x",
)


@pytest.mark.parametrize("new", BAD_NUMBERS, ids=range(len(BAD_NUMBERS)))
@pytest.mark.parametrize(("shape", "member"), [(shape, member) for shape, names in NUMBERS.items() for member in names])
def test_numbers_are_of_64_bits_and_not_negative(shape: str, member: str, new: t.Any) -> None:
    read, document = SHAPES[shape]
    with pytest.raises(FormatError) as caught:
        read(altered(document, **{member: new}))
    assert (caught.value.code, caught.value.object) == ("malformed", "registry/image")


def test_numbers_may_be_as_large_as_64_bits_allow() -> None:
    read, document = SHAPES["annotation"]
    assert read(altered(document, Payload__logIndex=2**63 - 1)).index == 2**63 - 1


def test_a_proof_has_as_many_hashes_as_a_tree_of_64_bits_has_levels() -> None:
    read, document = SHAPES["bundle"]
    proof = read(altered(document, inclusionProof__hashes=[b64(HASH)] * 64)).proof
    assert proof is not None
    assert len(proof.hashes) == 64
    with pytest.raises(FormatError, match="more than 64"):
        read(altered(document, inclusionProof__hashes=[b64(HASH)] * 65))


def test_annotations_end_at_a_mebibyte() -> None:
    text = json.dumps(SHAPES["annotation"][1])
    for size in (1024 * 1024, 1024 * 1024 + 1):
        padded = text + " " * (size - len(text))
        if size == 1024 * 1024:
            assert entries.from_annotation(padded, where="x").index == ENTRY_V1.index
        else:
            with pytest.raises(FormatError, match="longer than 1048576"):
                entries.from_annotation(padded, where="x")


@pytest.mark.parametrize(("shape", "member"), [
    ("annotation", "Payload__integratedTime"), ("bundle", "integratedTime"), ("answer", "integratedTime"),
])
def test_times_end_with_the_year_9999(shape: str, member: str) -> None:
    read, document = SHAPES[shape]
    assert read(altered(document, **{member: 253402300799})).integrated_time == 253402300799
    with pytest.raises(FormatError):
        read(altered(document, **{member: 253402300800}))


def cases(shape: str, **members: t.Sequence[t.Any]) -> list[t.Any]:
    return [
        pytest.param(shape, member, new, id=f"{shape}-{member}-{at}")
        for member, news in members.items() for at, new in enumerate(news)
    ]


BAD_HEX = (..., None, 7, "", "x" * 64, ID.hex()[:-2], ID.hex() + "00", ID.hex().upper(), f" {ID.hex()}", ID.hex()[:-1])
BAD_BASE64 = (..., None, 7, "eA", "eB==", "eA==\n", "é", "-_-_")
BAD_HASH = (*BAD_BASE64, b64(ID[:-1]), b64(ID + b"x"), "")
BAD_OBJECT = (..., None, [], "x", {}, {"x": 1})


@pytest.mark.parametrize(("shape", "member", "new"), [
    *cases("annotation", SignedEntryTimestamp=BAD_BASE64, Payload=BAD_OBJECT, Payload__body=BAD_BASE64,
           Payload__logID=BAD_HEX, Payload__logIndex=(...,), Payload__integratedTime=(...,),
           Payload__x=[1], x=[1], Payload__logId=[ID.hex()], payload=[PAYLOAD]),
    *cases("bundle", logId=BAD_OBJECT, logId__keyId=BAD_HASH, canonicalizedBody=(*BAD_BASE64, "", b64(b"{}")),
           kindVersion=BAD_OBJECT, kindVersion__kind=(..., None, "", "hashedrekord", "DSSE"),
           kindVersion__version=(..., None, "", "0.0.2", "1"), kindVersion__x=["y"],
           inclusionPromise=(None, [], "", {"x": 1}), inclusionPromise__signedEntryTimestamp=BAD_BASE64[1:],
           inclusionPromise__x=["y"], inclusionProof=(None, [], "", {}), inclusionProof__rootHash=BAD_HASH,
           inclusionProof__hashes=(None, {}, "", [None], [7], [b64(HASH[:-1])], ["x"], [b64(HASH)] * 65),
           inclusionProof__checkpoint=(..., None, [], "", {}), inclusionProof__checkpoint__envelope=(..., None, 7),
           inclusionProof__x=["y"], inclusionProof__checkpoint__x=["y"], x=["y"], log_index=["1"], logId__x=["y"]),
    *cases("bundle, version 2", kindVersion__kind=["dsse"], kindVersion__version=["0.0.1"],
           canonicalizedBody=[b64(BODY_V1)]),
    *cases("answer", body=BAD_BASE64, logID=BAD_HEX, logIndex=(...,), integratedTime=(...,),
           verification=(None, [], ""), verification__signedEntryTimestamp=BAD_BASE64[1:],
           verification__inclusionProof=(None, [], "", {}), verification__inclusionProof__rootHash=BAD_HEX,
           verification__inclusionProof__hashes=(None, {}, [None], [b64(HASH)], [HASH.hex()[:-2]], [HASH.hex()] * 65),
           verification__inclusionProof__checkpoint=(..., None, {}), verification__inclusionProof__logIndex=(...,),
           verification__inclusionProof__treeSize=(...,)),
])
def test_malformed(shape: str, member: str, new: t.Any) -> None:
    read, document = SHAPES[shape]
    with pytest.raises(FormatError) as caught:
        read(altered(document, **{member: new}))
    assert (caught.value.code, caught.value.object) == ("malformed", "registry/image")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("text", [
    "", "x", "[]", "null", "{}", "\ud800", '{"x": "\ud800"}', json.dumps(ANNOTATION) + "x",
    json.dumps(ANNOTATION)[:-1] + ',"Payload":{}}', pytest.param(" " * 1024 * 1024 + json.dumps(ANNOTATION), id="long"),
])
def test_annotations_are_one_bounded_object(text: str) -> None:
    with pytest.raises(FormatError) as caught:
        entries.from_annotation(text, where="registry/image")
    assert (caught.value.code, caught.value.object) == ("malformed", "registry/image")


NUMBER = st.integers(0, 2**63 - 1)
HASHES = st.binary(min_size=32, max_size=32)
PROOFS = st.builds(
    InclusionProof, NUMBER, NUMBER, HASHES, st.lists(HASHES, max_size=64).map(tuple), st.text(min_size=1)
)
ENTRIES = st.builds(
    LogEntry, NUMBER, HASHES, st.integers(1, 253402300799), st.sampled_from([BODY_V1, BODY_V2]),
    st.binary(min_size=1), PROOFS,
)


@given(ENTRIES)
def test_round_trips(entry: LogEntry) -> None:
    assert from_bundle(entries.as_bundle(entry)) == entry
    assert entries.from_annotation(entries.as_annotation(entry), where="x") == replace(entry, proof=None)
    assert from_response({
        "body": b64(entry.body), "integratedTime": entry.integrated_time, "logID": entry.log_id.hex(),
        "logIndex": entry.index, "verification": {
            "signedEntryTimestamp": b64(t.cast(bytes, entry.signed_entry_timestamp)),
            "inclusionProof": {
                "checkpoint": t.cast(InclusionProof, entry.proof).checkpoint,
                "hashes": [one.hex() for one in t.cast(InclusionProof, entry.proof).hashes],
                "logIndex": t.cast(InclusionProof, entry.proof).index,
                "rootHash": t.cast(InclusionProof, entry.proof).root.hex(),
                "treeSize": t.cast(InclusionProof, entry.proof).size,
            },
        },
    }) == entry


def only_format_errors(read: t.Callable[[], LogEntry]) -> LogEntry | None:
    try:
        return read()
    except FormatError:
        return None


@settings(max_examples=300)
@given(st.sampled_from(sorted(SHAPES)), st.data())
def test_mutated_text_raises_only_format_errors(shape: str, data: st.DataObject) -> None:
    good = json.dumps(SHAPES[shape][1])
    start = data.draw(st.integers(0, len(good)))
    new = data.draw(st.text(st.characters(exclude_categories=()), max_size=3))
    text = good[:start] + new + good[start + data.draw(st.integers(0, 3)):]
    if shape == "annotation":
        only_format_errors(lambda: entries.from_annotation(text, where="x"))
    else:
        raw = text.encode("utf-8", "surrogatepass")
        convert = entries.from_response if shape == "answer" else entries.from_bundle
        only_format_errors(lambda: convert(_strict_json.loads(raw, what="log entry", where="x")))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=5,
)


def members(document: Json, prefix: str = "") -> t.Iterator[str]:
    """Every member, as altered() names it."""
    for name, value in document.items():
        yield f"{prefix}{name}"
        if isinstance(value, dict):
            yield from members(value, f"{prefix}{name}__")


@settings(max_examples=300)
@given(st.sampled_from([(shape, name) for shape in SHAPES for name in members(SHAPES[shape][1])]), JSON)
def test_any_value_in_any_place_raises_only_format_errors(place: tuple[str, str], new: t.Any) -> None:
    read, document = SHAPES[place[0]]
    only_format_errors(lambda: read(altered(document, **{place[1]: new})))


@given(st.text(st.characters(exclude_categories=()), max_size=50))
@example("\ud800")
def test_any_text_is_no_annotation(text: str) -> None:
    assert only_format_errors(lambda: entries.from_annotation(text, where="x")) is None
