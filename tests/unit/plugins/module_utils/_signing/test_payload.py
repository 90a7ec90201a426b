# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SimpleSigning payloads: cosign's bytes when written, one meaning only when read."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import FormatError, HallmarkError
from ansible_collections.hallmark.signing.plugins.module_utils._signing import payload
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._signing.signing_bench import (
    OTHER_DIGEST,
    claim,
    compact,
)

NAME = "127.0.0.1:5821/tw/gold"
DIGEST = "sha256:6723f5a6ea505cf92ec96270d979e35bdeedb046d544504ea10e45174cedb851"
_HEAD = (
    f'{{"critical":{{"identity":{{"docker-reference":"{NAME}"}},"image":{{"docker-manifest-digest":"{DIGEST}"}},'
    f'"type":"cosign container image signature"}},"optional":'
)


def good(**critical: t.Any) -> dict[str, t.Any]:
    document = claim(DIGEST, NAME)
    document["critical"].update(critical)
    return document


@pytest.mark.parametrize(("annotations", "optional"), [
    # What `cosign generate` of cosign 2.5.0 wrote for this image with these -a.
    pytest.param({}, "null", id="none"),
    pytest.param({"é": "3", "a": "2", "\U0001f600": "4", "B": "1", "\uffee": "5"},
                 '{"B":"1","a":"2","é":"3","\uffee":"5","\U0001f600":"4"}', id="sorted"),
    pytest.param({"a": "1", "b": "x<y>&z\u2028\u2029é\\/\x07\b\f"},
                 '{"a":"1","b":"x\\u003cy\\u003e\\u0026z\\u2028\\u2029é\\\\/\\u0007\\b\\f"}', id="escaped"),
])
def test_writes_the_bytes_of_cosign_generate(annotations: dict[str, str], optional: str) -> None:
    assert payload.encode(payload.Payload(NAME, DIGEST, annotations)).decode() == f"{_HEAD}{optional}}}"


def test_reads_what_it_writes() -> None:
    written = payload.Payload(NAME, DIGEST, {"a": "<1>", "b": ""})
    assert payload.decode(payload.encode(written), where="x") == written


@pytest.mark.parametrize("document", [
    pytest.param({"optional": None, **good()}, id="another order"),
    pytest.param({**good(), "more": {"a": [1]}}, id="unknown member at the top"),
    pytest.param({**good(comment="x")}, id="unknown member in critical"),
    pytest.param(good(image={"docker-manifest-digest": DIGEST, "size": 1}), id="unknown member in image"),
    pytest.param({"critical": good()["critical"]}, id="optional missing"),
    pytest.param({**good(), "optional": {}}, id="optional empty"),
])
def test_reads_the_same_claim_in_another_spelling(document: dict[str, t.Any]) -> None:
    assert payload.decode(compact(document) + b"\n", where="x") == payload.Payload(NAME, DIGEST, {})


def test_reads_a_sha512_digest() -> None:
    digest = f"sha512:{'ab' * 64}"
    assert payload.decode(compact(claim(digest, NAME)), where="x").digest == digest


@pytest.mark.parametrize("identity", [{}, {"docker-reference": ""}, {"other": 1}])
def test_a_missing_name_is_an_empty_name(identity: dict[str, t.Any]) -> None:
    assert payload.decode(compact(good(identity=identity)), where="x").docker_reference == ""


def test_a_missing_identity_is_an_empty_name() -> None:
    document = good()
    del document["critical"]["identity"]
    assert payload.decode(compact(document), where="x").docker_reference == ""


def test_annotations_that_are_no_strings_do_not_count() -> None:
    document = {**good(), "optional": {"a": "1", "b": True, "c": 1, "d": None, "e": {}, "f": ["1"]}}
    assert payload.decode(compact(document), where="x").annotations == {"a": "1"}


@pytest.mark.parametrize("kind", ["atomic container signature", "", "Cosign container image signature", "x" * 5000])
def test_another_type_is_a_type_mismatch(kind: str) -> None:
    with pytest.raises(HallmarkError) as caught:
        payload.decode(compact(good(type=kind)), where="x")
    assert caught.value.code == "type_mismatch"
    assert len(str(caught.value)) < 400


def _without(*path: str) -> dict[str, t.Any]:
    document = good()
    inner = document
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return document


@pytest.mark.parametrize("data", [
    pytest.param(b"", id="empty"),
    pytest.param(b"null", id="null"),
    pytest.param(b"[]", id="list"),
    pytest.param(compact([good()]), id="in a list"),
    pytest.param(compact(good()) + b"{}", id="trailing data"),
    pytest.param(b"\xef\xbb\xbf" + compact(good()), id="byte order mark"),
    pytest.param(compact(good()).decode().encode("utf-16"), id="UTF-16"),
    pytest.param(compact(good()).replace(b"tw/gold", b"tw/\xff"), id="not UTF-8"),
    pytest.param(compact(_without("critical")), id="critical missing"),
    pytest.param(compact({**good(), "critical": []}), id="critical a list"),
    pytest.param(compact(good(identity="x")), id="identity a string"),
    pytest.param(compact(good(identity={"docker-reference": 1})), id="name a number"),
    pytest.param(compact(_without("critical", "image")), id="image missing"),
    pytest.param(compact(good(image={})), id="digest missing"),
    pytest.param(compact(good(image={"docker-manifest-digest": None})), id="digest null"),
    pytest.param(compact(good(image={"docker-manifest-digest": DIGEST.upper()})), id="digest upper-case"),
    pytest.param(compact(good(image={"docker-manifest-digest": DIGEST[:-1]})), id="digest short"),
    pytest.param(compact(good(image={"docker-manifest-digest": DIGEST + "\n"})), id="digest with a line end"),
    pytest.param(compact(_without("critical", "type")), id="type missing"),
    pytest.param(compact(good(type=1)), id="type a number"),
    pytest.param(compact({**good(), "optional": []}), id="optional a list"),
    pytest.param(compact({**good(), "optional": "a"}), id="optional a string"),
    pytest.param(compact({**good(), "optional": False}), id="optional false"),
])
def test_malformed(data: bytes) -> None:
    with pytest.raises(FormatError) as caught:
        payload.decode(data, where="the image")
    assert (caught.value.code, caught.value.object) == ("malformed", "the image")


@pytest.mark.parametrize("text", [
    pytest.param(f'{{"docker-manifest-digest":"{OTHER_DIGEST}","docker-manifest-digest":"{DIGEST}"}}', id="bad, good"),
    pytest.param(f'{{"docker-manifest-digest":"{DIGEST}","docker-manifest-digest":"{OTHER_DIGEST}"}}', id="good, bad"),
])
def test_duplicate_members_are_refused(text: str) -> None:
    data = compact(good(image={})).replace(b'"image":{}', b'"image":' + text.encode())
    with pytest.raises(FormatError, match="occurs twice"):
        payload.decode(data, where="x")


@pytest.mark.parametrize(("name", "variant"), [
    ("critical", "Critical"),
    ("optional", "OPTIONAL"),
    ("identity", "Identity"),
    ("image", "imagE"),
    ("type", "Type"),
    ("docker-reference", "Docker-Reference"),
    ("docker-reference", "doc\u212aer-reference"),
    ("docker-manifest-digest", "docker-manifest-Digest"),
    ("docker-manifest-digest", "doc\u212aer-manifest-digest"),
])
@pytest.mark.parametrize("beside", [False, True], ids=["instead", "beside"])
def test_members_that_differ_by_case_are_refused(name: str, variant: str, beside: bool) -> None:
    text = compact({**good(), "optional": {}}).decode()
    assert text.count(f'"{name}":') == 1
    value = f'"{OTHER_DIGEST}"' if name.startswith("docker") else "{}"
    changed = text.replace(f'"{name}":', f'"{variant}":{value},"{name}":' if beside else f'"{variant}":')
    with pytest.raises(FormatError, match="differs from a known one by case only"):
        payload.decode(changed.encode(), where="x")


def test_members_that_differ_by_a_long_s_are_refused() -> None:
    # Go's decoder folds U+017F to s: both cosigns take the second member for the digest (measured).
    image = {"docker-manifest-digest": DIGEST, "docker-manife\u017ft-digest": OTHER_DIGEST}
    with pytest.raises(FormatError, match="differs from a known one by case only"):
        payload.decode(compact(good(image=image)), where="x")


@pytest.mark.parametrize("data", [
    pytest.param(b"[" * 100_000, id="nested lists"),
    pytest.param(b'{"a":' * 100_000, id="nested objects"),
    pytest.param(compact(good()).replace(b"null", b"9" * 10_000_000), id="long number"),
    pytest.param(compact(good()).replace(b"null", b"1." + b"9" * 1000), id="long fraction"),
    pytest.param(compact(good()).replace(b"null", b'{"a":NaN}'), id="NaN"),
    pytest.param(compact(good()).replace(b"null", b'{"a":-Infinity}'), id="Infinity"),
])
def test_what_exhausts_or_confuses_a_parser_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError, match="not strict JSON"):
        payload.decode(data, where="x")
