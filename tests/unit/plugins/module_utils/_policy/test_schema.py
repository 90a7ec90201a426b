# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The JSON schema of policies: what it refuses is refused by the reader, and what the reader takes it takes."""

from __future__ import annotations

import copy
import json
import pathlib
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._policy import reading
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._policy.policy_bench import (
    Json,
    ca,
    document,
    key,
    keyless,
    read,
    rule,
)
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._policy.test_check import APP, ROWS, Row

jsonschema = pytest.importorskip("jsonschema")
SCHEMA = json.loads((pathlib.Path(__file__).parents[5] / "docs" / "trust_policy.schema.json").read_text())
KINDS = {"key": key("a"), "ca": ca(), "keyless": keyless(), "generations": {"generations": [
    {"generation": 1, "state": "active", "public_key_path": "keys/a.pub"},
]}}


def takes(given: t.Any) -> bool:
    return bool(jsonschema.Draft202012Validator(SCHEMA).is_valid(without_nulls(given)))


def without_nulls(value: t.Any) -> t.Any:
    """What is meant: a member that is null is none. The schema does not know them, for nobody writes them."""
    if isinstance(value, dict):
        return {name: without_nulls(one) for name, one in value.items() if one is not None}
    return [without_nulls(one) for one in value] if isinstance(value, list) else value


def reads(given: t.Any) -> bool:
    try:
        read(given)
    except reading.PolicyError:
        return False
    return True


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name.replace(" ", "-"))
def test_what_is_read_is_taken(row: Row) -> None:
    given = document(**row.members)
    assert reads(given)
    assert takes(given)


def places(value: t.Any) -> t.Iterator[tuple[t.Any, t.Any]]:
    """Every member and element, as its container and its name or number."""
    found = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in list(found):
        yield value, name
        yield from places(one)


def test_what_is_refused_is_not_read() -> None:
    whole = document(
        rule(APP, mirrors=["mirror.example.org/x"], namespaces=["team-a"], attestations=[
            {"predicate_type": "https://slsa.dev/provenance/v1", "any_of": ["release"]},
        ]), authorities={"release": key("release", log={"required": True, "public_key_path": "keys/log.pub"}), **KINDS},
        not_after="2027-06-01T00:00:00Z", denied_key_ids=["0" * 64], default="reject",
    )
    assert reads(whole)
    assert takes(whole)
    refused = 0
    for number, _place in enumerate(list(places(whole))):
        for bad in (None, 0, -1, 1.5, True, "", "x", "é*?@", [], {}, [None], {"x": 1}, "__remove__"):
            changed = copy.deepcopy(whole)
            container, name = list(places(changed))[number]
            if bad == "__remove__":
                del container[name]
            else:
                container[name] = bad
            if not takes(changed):
                refused += 1
                assert not reads(changed), (name, bad)
    assert refused > 200


@pytest.mark.parametrize("change", [
    {"version": 0}, {"version": "1"}, {"rules": []}, {"default": "warn"}, {"authorities": []}, {"unknown": 1},
    {"denied_key_ids": ["x"]}, {"authorities": {"release": {}}}, {"rules": [{**rule(APP), "tags": ["v1"]}]},
    {"authorities": {"release": {**key("a"), **ca()}}}, {"rules": [{**rule(APP), "threshold": 0}]},
    {"rules": [rule("r.io/a@sha256:00")]}, {"authorities": {"release": keyless(log={})}},
])
def test_mistakes_that_an_editor_can_tell(change: Json) -> None:
    assert not takes({**document(), **change})
