# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of JSON with one meaning."""

from __future__ import annotations

import dataclasses
import json
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils import _strict_json
from ansible_collections.hallmark.signing.plugins.module_utils._errors import FormatError


def _loads(text: str | bytes) -> _strict_json.JsonObject:
    return _strict_json.loads(
        text.encode("utf-8") if isinstance(text, str) else text, what="payload", where="registry/image"
    )


def test_dumps_is_compact_and_keeps_the_order() -> None:
    assert _strict_json.dumps({"b": [1, None, True], "a": {"c": "d"}}) == b'{"b":[1,null,true],"a":{"c":"d"}}'


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("<", b'"\\u003c"'), (">", b'"\\u003e"'), ("&", b'"\\u0026"'), ("\u2028", b'"\\u2028"'),
        ("\u2029", b'"\\u2029"'), ("é", '"é"'.encode()), ('"\\', b'"\\"\\\\"'), ("\n\t", b'"\\n\\t"'),
        ({"<&>": "a"}, b'{"\\u003c\\u0026\\u003e":"a"}'),
    ],
)
def test_dumps_escapes_as_go_does(value: t.Any, written: bytes) -> None:
    assert _strict_json.dumps(value) == written
    assert json.loads(written) == value


def test_loads_reads_every_type() -> None:
    text = ' {"a":"é","b":1,"c":-2.5e3,"d":[true,null],"e":{"f":{}}}\n'
    assert _loads(text).members == json.loads(text)


@pytest.mark.parametrize("number", ["1" * 32, "-" + "1" * 31, "0." + "1" * 30])
def test_numbers_up_to_the_bound_are_read(number: str) -> None:
    assert _loads(f'{{"a":{number}}}').members == {"a": json.loads(number)}


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ('{"a":1,"a":1}', "a member occurs twice"),
        ('{"a":1,"\\u0061":2}', "a member occurs twice"),
        ('{"a":{"b":1,"c":2,"b":3}}', "a member occurs twice"),
        ('{"a":[{"b":1,"b":3}]}', "a member occurs twice"),
        ('{"a":NaN}', "the constant NaN"),
        ('{"a":Infinity}', "the constant Infinity"),
        ('{"a":-Infinity}', "the constant -Infinity"),
        ('{"a":' + "1" * 33 + "}", "a number of 33 characters"),
        ('{"a":-' + "1" * 32 + "}", "a number of 33 characters"),
        ('{"a":0.' + "1" * 31 + "}", "a number of 33 characters"),
        ('{"a":' + "1" * 5000 + "}", "a number of 5000 characters"),
        ("[" * 100000, "it is nested too deeply"),
        ('{"a":' * 100000 + "1" + "}" * 100000, "it is nested too deeply"),
        ("{}{}", "Extra data"),
        ("{} x", "Extra data"),
        ("\ufeff{}", "BOM"),
        ('{"a":1,}', ""),
        ("{'a':1}", ""),
        ('{"a":01}', ""),
        ('{"a":"\n"}', ""),
        ('// a\n{"a":1}', ""),
        ("", ""),
        # Python reads infinity here, which no JSON can say and Go refuses.
        ('{"a":1e999}', ""),
        ('{"a":-1e999}', ""),
        # Go reads U+FFFD, Python half a character: two readers see two values, and two members become one.
        ('{"a":"\\ud800"}', ""),
        ('{"a":{"\\udfff":"b"}}', ""),
    ],
)
def test_what_is_not_strict_is_refused(text: str, cause: str) -> None:
    with pytest.raises(FormatError) as caught:
        _loads(text)
    assert caught.value.code == "malformed"
    assert caught.value.cause.startswith("not strict JSON: ")
    assert cause in caught.value.cause


# Found by tests/fuzz: how deep is too deep did not depend on the depth alone.
@pytest.mark.parametrize("beside", ["", ',"b":[[],[],{"c":{}}]'])
@pytest.mark.parametrize("inside", ["", "1", '"x"'])
def test_a_hundred_levels_are_taken_whatever_else_is_there(beside: str, inside: str) -> None:
    def nested(levels: int) -> str:
        return f'{{"a":{"[" * (levels - 1)}{inside}{"]" * (levels - 1)}{beside}}}'

    assert _loads(nested(100)).members
    with pytest.raises(FormatError, match="too deeply"):
        _loads(nested(101))


# Found by tests/fuzz: what was read must be writable wherever that happens, deeper inside than where it was read.
@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_what_was_read_can_be_written_further_down(opening: str) -> None:
    def further_down(value: t.Any, calls: int) -> bytes:
        return further_down(value, calls - 1) if calls else _strict_json.dumps(value)

    taken = 0
    for depth in (50, 98, 99, 100, *range(900, 1000, 7)):
        closing = "]" if opening == "[" else "}"
        try:
            value = _loads(f'{{"a":{opening * depth}1{closing * depth}}}')
        except FormatError:
            continue
        taken += 1
        assert further_down(value.members, 60)
    assert taken > 1


# Found by tests/fuzz: a name can be as long as the whole document.
def test_errors_are_bounded() -> None:
    value = _loads(json.dumps({"x" * 100_000: {"y": 1}}))
    name = "x" * 100_000
    for read in (
        lambda: value.only("a"), lambda: value.no_case_variants("X" * 100_000), lambda: value.string(name),
        lambda: value.object(name).object(name), lambda: value.object(name).string("y"),
    ):
        with pytest.raises(FormatError) as caught:
            read()
        assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("data", [b'{"a":"\xe9"}', b'{"a":"\xed\xa0\x80"}', b'{"a":"\xc0\xaf"}', b"\xff\xfe{}"])
def test_other_than_utf8_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError, match="not strict JSON: 'utf-8'"):
        _loads(data)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le"])
def test_other_encodings_are_not_guessed(encoding: str) -> None:
    with pytest.raises(FormatError, match="not strict JSON"):
        _loads('{"a":1}'.encode(encoding))


@pytest.mark.parametrize("text", ["[]", '"a"', "1", "null", "true", '[{"a":1}]'])
def test_other_than_an_object_is_refused(text: str) -> None:
    with pytest.raises(FormatError, match="not a JSON object") as caught:
        _loads(text)
    assert caught.value.code == "malformed"


def test_errors_name_the_document_and_its_place() -> None:
    with pytest.raises(FormatError) as caught:
        _loads("x")
    assert (caught.value.object, caught.value.attempt) == ("registry/image", "read the payload")
    error = _loads('{"a":{"b":{}}}').object("a").object("b").error("it is odd")
    assert (error.code, error.object, error.attempt, error.cause) == (
        "malformed", "registry/image", "read the payload, a, b", "it is odd",
    )


def test_only_refuses_unknown_members() -> None:
    value = _loads('{"a":1,"z":2,"b":3}')
    assert value.only("a", "b", "z", "c") is value
    with pytest.raises(FormatError, match="unknown member 'b'"):
        value.only("a")
    with pytest.raises(FormatError, match="unknown member 'z'"):
        value.only("a", "b")


@pytest.mark.parametrize("members", ['{"Digest":1}', '{"digest":1,"DIGEST":2}', '{"a":1,"dIgest":2}'])
def test_case_variants_are_refused(members: str) -> None:
    with pytest.raises(FormatError, match="differs from a known one by case only"):
        _loads(members).no_case_variants("digest", "other")


@pytest.mark.parametrize(
    ("member", "name"),
    [
        ("\u212aind", "kind"),
        # Go folds the long s to s, lower() does not: its reader sees docker-manifest-digest.
        pytest.param(
            "docker-manife\u017ft-digest", "docker-manifest-digest"),
    ],
)
def test_case_variants_outside_ascii_are_refused(member: str, name: str) -> None:
    with pytest.raises(FormatError, match="differs from a known one by case only"):
        _loads(f'{{"{member}":1}}').no_case_variants(name)


def test_exact_and_other_members_are_no_case_variants() -> None:
    value = _loads('{"digest":1,"Type":2,"digests":3}')
    assert value.no_case_variants("digest", "Type") is value


def test_members_are_read_with_their_type() -> None:
    value = _loads('{"s":"x","i":-7,"o":{"a":1},"l":[{"a":1},{"b":2}],"m":{"k":"v"}}')
    assert value.string("s") == "x"
    assert value.integer("i") == -7
    assert value.object("o").members == {"a": 1}
    assert [item.members for item in value.objects("l")] == [{"a": 1}, {"b": 2}]
    assert value.objects("l")[0].what == "payload, l"
    assert value.strings("m") == {"k": "v"}


READERS = ("string", "integer", "object", "objects")
WRONG = {
    "string": ("1", "null", "[]", "{}", "true"),
    "integer": ('"1"', "null", "1.0", "true", "false", "[]"),
    "object": ("[]", "null", '"a"', "1"),
    "objects": ("{}", "null", '"a"', "[1]", "[{},null]", '[{},"a"]', "[[]]"),
}


@pytest.mark.parametrize(("reader", "text"), [(reader, text) for reader in READERS for text in WRONG[reader]])
def test_members_of_another_type_are_refused(reader: str, text: str) -> None:
    value = _loads(f'{{"a":{text}}}')
    with pytest.raises(FormatError, match="member 'a' is ") as caught:
        getattr(value, reader)("a")
    assert caught.value.code == "malformed"


@pytest.mark.parametrize(
    ("reader", "text", "default"),
    [("string", "null", "b"), ("string", "1", "b"), ("integer", "true", 7), ("object", "null", None),
     ("object", "[]", None), ("objects", "null", [])],
)
def test_default_does_not_excuse_another_type(reader: str, text: str, default: t.Any) -> None:
    with pytest.raises(FormatError, match="member 'a' is "):
        getattr(_loads(f'{{"a":{text}}}'), reader)("a", default)


@pytest.mark.parametrize("reader", READERS)
def test_missing_members_are_refused(reader: str) -> None:
    with pytest.raises(FormatError, match=r"member 'a' is missing or not an? "):
        getattr(_loads('{"A":1}'), reader)("a")


def test_missing_members_take_the_default() -> None:
    value = _loads("{}")
    assert value.string("a", "b") == "b"
    assert value.integer("a", 7) == 7
    assert value.object("a", None).members == {}
    assert value.object("a", {"b": 1}).members == {"b": 1}
    assert value.objects("a", []) == []


@pytest.mark.parametrize("text", ["{}", '{"a":null}', '{"a":{}}'])
def test_missing_null_and_empty_maps_are_empty(text: str) -> None:
    assert _loads(text).strings("a") == {}


@pytest.mark.parametrize("text", ["[]", '""', "0", "false", '{"b":1}', '{"b":"c","d":null}', '{"b":{}}'])
def test_maps_of_other_than_strings_are_refused(text: str) -> None:
    with pytest.raises(FormatError, match="member 'a' does not map strings to strings"):
        _loads(f'{{"a":{text}}}').strings("a")


def test_object_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        _loads("{}").members = {"a": 1}  # type: ignore


def test_map_returned_is_a_copy() -> None:
    value = _loads('{"a":{"b":"c"}}')
    value.strings("a").clear()
    assert value.strings("a") == {"b": "c"}


def test_only_json_of_go_escapes_what_html_would_read() -> None:
    text = "<a>&\u2028\u2029\u00e9"
    escaped = '"\\u003ca\\u003e\\u0026\\u2028\\u2029\u00e9"'
    assert _strict_json.dumps(text) == _strict_json.dumps(text, escape_html=True) == escaped.encode()
    assert _strict_json.dumps(text, escape_html=False) == f'"{text}"'.encode()


@pytest.mark.parametrize("escape_html", [True, False])
@pytest.mark.parametrize("value", ["\ud800", float("nan"), float("inf")])
def test_what_is_no_text_or_no_number_is_not_written(value: object, escape_html: bool) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        _strict_json.dumps({"a": value}, escape_html=escape_html)
