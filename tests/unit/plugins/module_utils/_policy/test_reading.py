# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Trust policies: what is read from them, and every mistake at once, with its place."""

from __future__ import annotations

import contextlib
import copy
import datetime
import pathlib
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._policy import identities, model, reading
from ansible_collections.hallmark.signing.plugins.module_utils._trust import ledger
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._policy import policy_bench as bench
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._policy.policy_bench import (
    LATER,
    NOW,
    ca,
    document,
    key,
    keyless,
    policy,
    public,
    rule,
)
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._trust.rotation_story import at, found, step
from hypothesis import given
from hypothesis import strategies as st

APP = "registry.example.org/app"


def mistakes(given: t.Any, **options: t.Any) -> dict[str, str]:
    """Read a wrong document; return what was said of each place, by place."""
    with pytest.raises(reading.PolicyError) as caught:
        bench.read(given, **options)
    error = caught.value
    assert (error.code, error.object) == ("input_invalid", "policy")
    assert [reason.object for reason in error.as_reasons()] == [one.path or "policy" for one in error.mistakes]
    assert all(one.message in str(error) for one in error.mistakes)
    return {one.path: one.message for one in error.mistakes}


# --- what is read ----------------------------------------------------------------------------------------------------


def test_a_policy_with_everything() -> None:
    found = policy(
        rule(APP, "docker.io/acme/rs-*", any_of=["release", "ci", "person"], threshold=2,
             mirrors=["mirror.example.org/x"],
             attestations=[{"predicate_type": "https://slsa.dev/provenance/v1", "any_of": ["ci"]}]),
        rule("*.example.org/**", any_of=["release"]),
        authorities={
            "release": key("release", log={"required": True, "public_key_path": "keys/log.pub",
                                           "rekor_url": "https://rekor.example.org"}),
            "ci": ca(intermediates_path="ca/sub.pem", timestamp={"required": True, "authority_path": "ca/tsa.pem"}),
            "person": keyless(),
        }, not_after="2027-06-01T02:00:00+02:00", default="reject", denied_key_ids=["0" * 64],
    )
    assert (found.version, found.default, found.not_after) == (7, "reject", "2027-06-01T00:00:00Z")
    assert found.denied_key_ids == {"0" * 64}
    first, second = found.rules
    assert ([str(one) for one in first.images], first.threshold) == ([APP, "docker.io/acme/rs-*"], 2)
    assert first.mirrors == ("mirror.example.org/x",)
    assert [one.name for one in first.any_of] == ["release", "ci", "person"]
    assert [(one.predicate_type, [by.name for by in one.any_of]) for one in first.attestations] == [
        ("https://slsa.dev/provenance/v1", ["ci"])
    ]
    release, ci, person = found.authorities
    assert release.keys == (public("release"),)
    assert release.log == model.Log(public("log").pem, "https://rekor.example.org")
    assert isinstance(ci.identity, model.Certified)
    assert (ci.identity.san_type, ci.identity.value, ci.identity.eku) == ("dns", "signer.example.org", "codeSigning")
    assert (ci.identity.roots, ci.identity.intermediates) == ((bench.root("root"),), (bench.root("sub"),))
    assert ci.timestamp == (bench.root("tsa"),)
    assert person.identity == model.Keyless("https://accounts.example.org", None, "release@example.org", None, None)
    assert found.rule_for(APP) is first
    assert found.rule_for("other.example.org/x") is second
    assert found.rule_for("example.com/x") is None


def test_defaults() -> None:
    found = policy()
    assert (found.default, found.not_after, found.denied_key_ids) == ("reject", None, frozenset())
    (only,) = found.rules
    assert (only.threshold, only.mirrors, only.attestations) == (1, (), ())


def test_a_null_is_as_if_nothing_stood_there() -> None:
    given = document(not_after=None, denied_key_ids=None, default=None)
    given["authorities"]["release"]["log"] = None
    given["rules"][0]["threshold"] = None
    assert bench.read(given).hash == policy().hash


def generation(owner: str, state: str, number: int = 1) -> t.Any:
    return {"generation": number, "state": state, "public_key_path": f"keys/{owner}.pub"}


def test_generations_in_usable_states_speak_for_one_authority() -> None:
    every = [generation(f"g{number}", state, number) for number, state in enumerate(identities.STATES, 1)]
    found = policy(authorities={"release": {"generations": every}})
    states = ("published", "active", "retiring")
    usable = [number for number, state in enumerate(identities.STATES, 1) if state in states]
    assert found.authorities[0].keys == tuple(public(f"g{number}") for number in usable)


def test_keys_of_a_ledger_speak_for_one_authority(tmp_path: pathlib.Path) -> None:
    (tmp_path / "home").mkdir(mode=0o700)
    path = str(tmp_path / "home" / "ledger.jsonl")
    with ledger.opened(path, now=at(0)) as book:
        found(book)
        step(book, "staged", 1, public_key=public("g1"))
        step(book, "published", 1)
        step(book, "staged", 2, public_key=public("g2"))
    release = {"ledger_path": path, "identity": "release"}
    assert policy(authorities={"release": release}).authorities[0].keys == (public("g1"),)
    place = f"{AUTHORITY}.ledger_path"
    for wrong, said in (
        ({"ledger_path": path}, "it needs an identity"), ({**release, "identity": "other"}, "no generation of it"),
        ({**release, "ledger_head": "0" * 64}, "holds head"), ({**release, "ledger_path": f"{path}.none"}, "none"),
    ):
        assert said in mistakes(document(authorities={"release": wrong}))[place]


def test_a_denied_key_is_nobodys() -> None:
    found = policy(
        authorities={"release": {"generations": [generation("old", "retiring"), generation("new", "active", 2)]}},
        denied_key_ids=[public("old").key_id],
    )
    assert found.authorities[0].keys == (public("new"),)


def test_logs_and_timestamps_that_are_not_required_demand_nothing() -> None:
    found = policy(authorities={"release": key(
        "release", log={"required": False, "public_key_path": "keys/log.pub"},
        timestamp={"required": False, "authority_path": "ca/tsa.pem"},
    )})
    assert (found.authorities[0].log, found.authorities[0].timestamp) == (None, None)


def test_the_hash_is_of_what_is_said_and_not_of_how() -> None:
    one = policy(rule(APP), rule("r.io/a", "r.io/b"))
    other = policy(rule("r.io/a", "r.io/b") | {"images": ["r.io/b", "r.io/a"]}, rule(APP))
    assert one.hash == other.hash
    assert policy(rule(APP), authorities={"release": {"public_key_content": public("release").pem},
                                          "backup": key("backup")}).hash == policy(rule(APP)).hash


@pytest.mark.parametrize("change", [
    {"version": 8}, {"default": "accept"}, {"not_after": LATER}, {"denied_key_ids": ["1" * 64]},
    {"rules": [rule("r.io/app") | {"name": APP}]}, {"rules": [rule(APP, any_of=["backup"])]},
    {"rules": [rule(APP, any_of=["release", "backup"], threshold=2)]}, {"rules": [rule(APP, mirrors=["m.io"])]},
    {"rules": [rule(APP, attestations=[{"predicate_type": "a:b", "any_of": ["release"]}])]},
    {"authorities": {"release": key("other"), "backup": key("backup")}},
    {"authorities": {"release": key("release", signature_algorithm="ecdsa-sha384"), "backup": key("backup")}},
    {"authorities": {"release": key("release", log={"required": True, "public_key_path": "keys/log.pub"}),
                     "backup": key("backup")}},
    {"authorities": {"release": key("release", timestamp={"required": True, "authority_path": "ca/tsa.pem"}),
                     "backup": key("backup")}},
    {"authorities": {"release": ca(), "backup": key("backup")}},
    {"authorities": {"release": keyless(), "backup": key("backup")}},
], ids=str)
def test_everything_that_is_said_is_in_the_hash(change: t.Any) -> None:
    assert bench.read(document(**change)).hash != policy().hash


# --- what is wrong ---------------------------------------------------------------------------------------------------


def test_all_mistakes_at_once() -> None:
    found = mistakes({
        "version": 0, "not_after": "soon", "defualt": "reject", "denied_key_ids": ["abc"],
        "authorities": {
            "one": {"public_key_path": "keys/one.pub", "ca_path": "ca/root.pem"},
            "two": {"public_key_path": "nowhere"}, "three": {"ca_path": "ca/root.pem"},
        },
        "rules": [
            {"name": "a", "images": ["r.io/App", "r.io/app:1"], "any_of": ["two", "four"], "threshold": 3},
            {"images": [], "any_of": ["one"]},
        ],
    })
    assert set(found) == {
        "version", "not_after", "", "denied_key_ids[0]", "authorities.one", "authorities.two.public_key_path",
        "authorities.three.san", "rules[0].images[0]", "rules[0].images[1]", "rules[0].any_of[1]",
        "rules[0].threshold", "rules[1].name", "rules[1].images",
    }
    assert "is default meant?" in found[""]


AUTHORITY = "authorities.release"
WRONG_AUTHORITIES = [
    ({}, AUTHORITY, "exactly one of"), ("keys/a.pub", AUTHORITY, "not a mapping"),
    ({"public_key_path": "leaf.pem"}, f"{AUTHORITY}.public_key_path", "certificate"),
    ({"public_key_content": ""}, f"{AUTHORITY}.public_key_content", "empty"),
    ({"public_key_content": "x"}, f"{AUTHORITY}.public_key_content", "no PEM"),
    ({"public_key_content": 7}, f"{AUTHORITY}.public_key_content", "not a text"),
    ({"public_key_content": public("a").pem + public("b").pem}, f"{AUTHORITY}.public_key_content", "2 PEM blocks"),
    (key("a", san={"type": "dns", "value": "x"}), f"{AUTHORITY}.san", "does not go with"),
    (key("a", signature_algorithm="rsa-pss-sha256"), f"{AUTHORITY}.signature_algorithm", "ecdsa"),
    (key("a", public_key="x"), AUTHORITY, "'public_key' is not known"),
    (key("a", log={"required": True}), f"{AUTHORITY}.log.public_key_path", "missing"),
    (key("a", log={"public_key_path": "keys/log.pub"}), f"{AUTHORITY}.log.required", "missing"),
    (key("a", log={"required": "yes"}), f"{AUTHORITY}.log.required", "neither true nor false"),
    (key("a", log={"required": True, "public_key_path": "keys/l.pub", "rekor_url": "r"}), f"{AUTHORITY}.log.rekor_url",
     "no URL"),
    (key("a", timestamp={"required": True}), f"{AUTHORITY}.timestamp.authority_path", "missing"),
    ({"generations": []}, f"{AUTHORITY}.generations", "empty"),
    ({"generations": [generation("a", "staged")]}, f"{AUTHORITY}.generations", "published, active, retiring"),
    ({"generations": [generation("a", "live")]}, f"{AUTHORITY}.generations[0].state", "none of"),
    ({"generations": [generation("a", "active") | {"generation": True}]}, f"{AUTHORITY}.generations[0].generation",
     "no whole number"),
    ({"generations": [{"generation": 1, "state": "active"}]}, f"{AUTHORITY}.generations[0]", "exactly one of"),
    ({"generations": [generation("a", "active"), generation("a", "retiring", 2)]}, f"{AUTHORITY}.generations",
     "the same key"),
    (ca(ca_path="leaf.pem"), f"{AUTHORITY}.ca_path", "not that of a CA; pin its key"),
    (ca(ca_path="keys/a.pub"), f"{AUTHORITY}.ca_path", "certificate"),
    (ca(intermediates_path="leaf.pem"), f"{AUTHORITY}.intermediates_path", "not that of a CA"),
    (ca(san={"type": "dns"}), f"{AUTHORITY}.san", "one of value and regexp"),
    (ca(san={"type": "ip", "value": "x"}), f"{AUTHORITY}.san", "type"),
    (ca(san={"type": "dns", "regexp": ".*"}), f"{AUTHORITY}.san", "matches any name"),
    (ca(san={"type": "dns", "regexp": "("}), f"{AUTHORITY}.san", ""),
    (ca(eku="codesigning"), f"{AUTHORITY}.san", "neither a name"),
    (keyless(subject_regexp="x"), f"{AUTHORITY}.keyless", "exactly one of subject"),
    ({"keyless": {"issuer": "https://i.example.org"}}, f"{AUTHORITY}.keyless", "exactly one of subject"),
    ({"keyless": {"issuer": "i", "subject_regexp": "(.|x)+"}}, f"{AUTHORITY}.keyless.subject_regexp", "any name"),
    (keyless() | {"trusted_root_path": "nowhere"}, f"{AUTHORITY}.trusted_root_path", "No such file"),
]


@pytest.mark.parametrize(("authority", "path", "words"), WRONG_AUTHORITIES, ids=range(len(WRONG_AUTHORITIES)))
def test_a_wrong_authority(authority: t.Any, path: str, words: str) -> None:
    found = mistakes(document(authorities={"release": authority}))
    assert list(found) == [path]
    assert words in found[path]


def test_a_key_that_is_denied_and_alone() -> None:
    found = mistakes(document(denied_key_ids=[public("release").key_id]))
    assert list(found) == [f"{AUTHORITY}.public_key_path"]
    assert "denied" in found[f"{AUTHORITY}.public_key_path"]


WRONG_RULES = [
    ([], "rules", "empty"), ({}, "rules", "not a list"), (["x"], "rules[0]", "not a mapping"),
    ([rule(APP) | {"any_of": []}], "rules[0].any_of", "empty"),
    ([rule(APP, any_of=["release", "release"])], "rules[0].any_of[1]", "twice"),
    ([rule(APP, any_of=["nobody"])], "rules[0].any_of[0]", "no authority"),
    ([rule(APP, threshold=2)], "rules[0].threshold", "more than the 1"),
    ([rule(APP, threshold=0)], "rules[0].threshold", "no whole number"),
    ([rule(APP, mirrors=["r"])], "rules[0].mirrors[0]", "no place of a registry"),
    ([rule(APP, mirrors=["r.io/a:1"])], "rules[0].mirrors[0]", "no place of a registry"),
    ([rule(APP, attestations=[{"predicate_type": "slsa", "any_of": ["release"]}])],
     "rules[0].attestations[0].predicate_type", "no URI"),
    ([rule(APP, attestations=[{"predicate_type": "a:b", "any_of": []}])], "rules[0].attestations[0].any_of", "empty"),
    ([rule(APP), rule("r.io/a") | {"name": APP}], "rules[1].name", "rules[0]"),
    ([rule(APP), rule(APP) | {"name": "again"}], "rules[1].images", "rules[0]"),
    ([rule("nginx")], "rules[0].images[0]", "no registry host"),
]


@pytest.mark.parametrize(("rules", "path", "words"), WRONG_RULES, ids=range(len(WRONG_RULES)))
def test_a_wrong_rule(rules: t.Any, path: str, words: str) -> None:
    found = mistakes({**document(), "rules": rules})
    assert list(found) == [path]
    assert words in found[path]


def test_one_key_under_two_names_would_count_twice() -> None:
    found = mistakes(document(
        rule(APP, any_of=["release", "again"], threshold=2), authorities={"release": key("a"), "again": key("a")},
    ))
    assert list(found) == ["rules[0].any_of"]


@pytest.mark.parametrize(("members", "path", "words"), [
    ({"version": "7"}, "version", "no whole number"), ({"version": True}, "version", "no whole number"),
    ({"version": None}, "version", "missing"), ({"default": "allow"}, "default", "none of reject, accept"),
    ({"not_after": "2027-01-01"}, "not_after", "time zone"), ({"not_after": 2027}, "not_after", "not a text"),
    ({"not_after": "2026-11-21T12:00:00Z"}, "not_after", "ended"), ({"denied_key_ids": "x"}, "denied_key_ids", "list"),
    ({"denied_key_ids": ["A" * 64]}, "denied_key_ids[0]", "no key id"),
    ({"authorities": []}, "authorities", "not a mapping"), ({"ledger": 1}, "", "not known"),
])
def test_a_wrong_member(members: t.Any, path: str, words: str) -> None:
    found = mistakes({**document(), **members})
    assert words in found[path]


def test_a_policy_ends_at_its_moment() -> None:
    given = document(not_after="2026-11-21T12:00:01Z")
    assert bench.read(given).not_after == "2026-11-21T12:00:01Z"
    assert list(mistakes(given, now=NOW + datetime.timedelta(seconds=1))) == ["not_after"]


@pytest.mark.parametrize("given", [None, [], "x", 7])
def test_what_is_no_document(given: t.Any) -> None:
    assert "not a mapping" in mistakes(given)[""]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3), max_leaves=8,
)
WHOLE = document(
    rule(APP, mirrors=["m.io"], attestations=[{"predicate_type": "a:b", "any_of": ["release"]}]),
    authorities={"release": key("release", log={"required": True, "public_key_path": "keys/log.pub"}), "ca": ca(),
                 "person": keyless(), "all": {"generations": [generation("a", "active")]}},
    not_after=LATER, denied_key_ids=["0" * 64],
)


def _places(value: t.Any, path: tuple[t.Any, ...] = ()) -> t.Iterator[tuple[t.Any, ...]]:
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, child in children:
        yield from _places(child, (*path, name))


@given(st.sampled_from(sorted(_places(WHOLE), key=str)), _JSON)
def test_whatever_stands_anywhere_is_read_or_told(place: tuple[t.Any, ...], value: t.Any) -> None:
    given: t.Any = copy.deepcopy(WHOLE)
    inner = given
    for name in place[:-1]:
        inner = inner[name]
    if place:
        inner[place[-1]] = value
    else:
        given = value
    with contextlib.suppress(reading.PolicyError):
        found = bench.read(given)
        assert found.rules
        assert all(one.any_of and one.images for one in found.rules)
