# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""In-toto statements: what cosign 3 signs, and which statements say that an image is signed."""

from __future__ import annotations

import json
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import FormatError, HallmarkError
from ansible_collections.hallmark.signing.plugins.module_utils._signing import statement as statements
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._signing.signing_bench import (
    PROVENANCE_TYPE,
    compact,
    statement,
)

HEX = "6723f5a6ea505cf92ec96270d979e35bdeedb046d544504ea10e45174cedb851"
DIGEST = f"sha256:{HEX}"
# What cosign 3.1.1 signed with -a z=9 (but for the digest).
COSIGN = (
    f'{{"_type":"https://in-toto.io/Statement/v1","subject":[{{"digest":{{"sha256":"{HEX}"}},"annotations":{{"z":"9"}}'
    f'}}],"predicateType":"https://sigstore.dev/cosign/sign/v1","predicate":{{}}}}'
)


def good(**members: t.Any) -> dict[str, t.Any]:
    return statement(DIGEST, **members)


def subject(**members: t.Any) -> dict[str, t.Any]:
    return {"digest": {"sha256": HEX}, **members}


def test_writes_the_statement_of_cosign_3() -> None:
    assert statements.encode(DIGEST, {"z": "9"}).decode() == COSIGN


def test_writes_an_empty_object_for_no_annotations_and_sorts_them() -> None:
    assert json.loads(statements.encode(DIGEST, {}))["subject"][0]["annotations"] == {}
    assert b'{"B":"1","a":"2"}' in statements.encode(DIGEST, {"a": "2", "B": "1"})


def test_reads_the_statement_of_cosign_3() -> None:
    (found,) = statements.decode(COSIGN.encode(), where="x")
    assert found == statements.Subject({"sha256": HEX}, {"z": "9"})


@pytest.mark.parametrize("document", [
    pytest.param(good(_type="https://in-toto.io/Statement/v0.1"), id="statement v0.1"),
    pytest.param(good(predicate=None), id="predicate missing, as cosign 3.0.0 to 3.0.4"),
    pytest.param(good(predicate={"x": [1]}), id="predicate with members"),
    pytest.param(good(subject=[subject()]), id="annotations missing"),
    pytest.param(good(subject=[subject(annotations=None)]), id="annotations null"),
    pytest.param(good(subject=[subject(
        name="a", uri="b", content="c", downloadLocation="d", mediaType="e", annotations={},
    )]), id="all members of a subject"),
])
def test_reads_variants(document: dict[str, t.Any]) -> None:
    (found,) = statements.decode(compact(document), where="x")
    assert found == statements.Subject({"sha256": HEX}, {})


def test_keeps_all_subjects_in_order() -> None:
    other = {"digest": {"sha512": "ab", "sha1": "cd"}}
    found = statements.decode(compact(good(subject=[other, subject(annotations={"a": "1"})])), where="x")
    assert [one.digests for one in found] == [{"sha512": "ab", "sha1": "cd"}, {"sha256": HEX}]
    assert [one.annotations for one in found] == [{}, {"a": "1"}]


@pytest.mark.parametrize(("digests", "same"), [
    ({"sha256": HEX}, True),
    ({"sha512": "00", "sha256": HEX}, True),
    ({"sha256": HEX[:-1] + "0"}, False),
    ({"sha512": HEX}, False),
    ({"sha256": HEX.upper()}, False),
    ({}, False),
])
def test_is_of(digests: dict[str, str], same: bool) -> None:
    assert statements.Subject(digests, {}).is_of(DIGEST) is same


@pytest.mark.parametrize("document", [
    pytest.param(good(_type="https://in-toto.io/Statement/v2"), id="another statement version"),
    pytest.param(good(_type=""), id="type empty"),
    pytest.param(good(_type="garbage" * 1000), id="type garbage"),
    pytest.param(good(predicateType=PROVENANCE_TYPE), id="provenance"),
    pytest.param(good(predicateType="https://sigstore.dev/cosign/sign/v1/"), id="predicate type with a slash"),
    pytest.param(good(predicateType=""), id="predicate type empty"),
    pytest.param(good(predicateType=None), id="predicate type missing"),
    pytest.param(good(predicateType="x" * 9000), id="predicate type long"),
])
def test_type_mismatch(document: dict[str, t.Any]) -> None:
    with pytest.raises(HallmarkError) as caught:
        statements.decode(compact(document), where="x")
    assert caught.value.code == "type_mismatch"
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("document", [
    pytest.param(good(_type=None), id="type missing"),
    pytest.param(good(_type=1), id="type a number"),
    pytest.param(good(predicateType=1), id="predicate type a number"),
    pytest.param({**good(), "predicate": None}, id="predicate null"),
    pytest.param(good(predicate=[]), id="predicate a list"),
    pytest.param(good(comment=""), id="unknown member"),
    pytest.param({**good(), "Subject": []}, id="case variant"),
    pytest.param(good(subject=None), id="subject missing"),
    pytest.param(good(subject={}), id="subject an object"),
    pytest.param(good(subject=[]), id="no subject"),
    pytest.param({**good(), "subject": [None]}, id="null subject"),
    pytest.param(good(subject=[None, subject()]), id="null beside a good one"),
    pytest.param(good(subject=[subject()] * 1025), id="1025 subjects"),
    pytest.param(good(subject=[subject(comment="")]), id="unknown member of a subject"),
    pytest.param(good(subject=[{"Digest": {"sha256": HEX}}]), id="case variant in a subject"),
    pytest.param(good(subject=[{"digest": []}]), id="digests a list"),
    pytest.param(good(subject=[{"digest": {"sha256": 1}}]), id="digest a number"),
    pytest.param(good(subject=[{"digest": {"sha256": HEX.upper()}}]), id="digest upper-case"),
    pytest.param(good(subject=[{"digest": {"sha256": ""}}]), id="digest empty"),
    pytest.param(good(subject=[{"digest": {"sha256": HEX, "gitCommit": "main"}}]), id="another digest not hex"),
    pytest.param(good(subject=[{"digest": {"sha256": f"{HEX}\n"}}]), id="digest with a line end"),
    pytest.param(good(subject=[subject(annotations={"a": 1})]), id="annotation a number"),
    pytest.param(good(subject=[subject(annotations=[])]), id="annotations a list"),
])
def test_malformed(document: dict[str, t.Any]) -> None:
    with pytest.raises(FormatError) as caught:
        statements.decode(compact(document), where="the image")
    assert (caught.value.code, caught.value.object) == ("malformed", "the image")


@pytest.mark.parametrize("data", [
    pytest.param(b"not JSON", id="text"),
    pytest.param(COSIGN.encode() + b"{}", id="trailing data"),
    pytest.param(COSIGN.replace('"predicate":', '"_type":"","predicate":').encode(), id="duplicate member"),
    pytest.param(COSIGN.replace('"annotations"', '"digest":{},"annotations"').encode(), id="duplicate in a subject"),
])
def test_not_strict_json(data: bytes) -> None:
    with pytest.raises(FormatError, match="not strict JSON"):
        statements.decode(data, where="x")


def test_takes_1024_subjects() -> None:
    assert len(statements.decode(compact(good(subject=[subject()] * 1024)), where="x")) == 1024
