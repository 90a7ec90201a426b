# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each enforcer refuses, and what it does not: a table of policies with the codes that each must give."""

from __future__ import annotations

import itertools
import pathlib
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import FormatError
from ansible_collections.hallmark.signing.plugins.module_utils._oci import pattern
from ansible_collections.hallmark.signing.plugins.module_utils._policy import check, enforcers
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._oci import test_pattern
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._policy.policy_bench import (
    Json,
    ca,
    document,
    key,
    keyless,
    public,
    read,
    rule,
)
from hypothesis import given
from hypothesis import strategies as st

APP = "registry.example.org/app"
NEWEST = {"containers": "5.39.2", "openshift": "4.21", "policy_controller": "0.15.1",
          "kyverno_cluster_policy": "1.18.2", "kyverno_image_validating_policy": "1.18.2", "connaisseur": "3.10.0",
          "ratify": "1.4.0", "wiz": "3.13"}
KYVERNO = ("kyverno_cluster_policy", "kyverno_image_validating_policy")
# What becomes of all other images is not up to these.
ACCEPTING = ("openshift", "wiz")
LOG = {"required": True, "public_key_path": "keys/log.pub", "rekor_url": "https://rekor.example.org"}
STAMPS = {"required": True, "authority_path": "ca/tsa.pem"}
TWO_KEYS = {"generations": [
    {"generation": number, "state": state, "public_key_path": f"keys/g{number}.pub"}
    for number, state in ((1, "retiring"), (2, "active"))
]}


def with_root(given: Json) -> Json:
    """Name the roots of a keyless authority."""
    return {**given, "trusted_root_path": "trusted_root.json"}


def refused(enforcer: str, version: str, *rules: Json, **members: t.Any) -> list[str]:
    """Return the codes of what an enforcer refuses of a policy, whose default is one that it can have."""
    default = "accept" if enforcer in ACCEPTING else "reject"
    policy = read(document(*rules, **{"default": default, **members}))
    abilities = enforcers.load(enforcer).abilities(enforcers.rendering.version(version))
    assert abilities is not None
    found = check.refusals(policy, abilities)
    for one in found:
        assert one.message
        assert one.instead.endswith(".")
        assert "{" not in one.message + one.instead
        assert set(one.as_dict()) == {"code", "policy_path", "message", "instead"}
    return [one.code for one in found]


def alone(authority: Json) -> Json:
    return {"authorities": {"release": authority}}


class Row(t.NamedTuple):
    """Members of a policy, and the codes that enforcers refuse it with; those not named take it."""

    name: str
    members: Json
    codes: t.Mapping[str, t.Sequence[str]]


def both(enforcer_codes: t.Sequence[str]) -> dict[str, t.Sequence[str]]:
    """The same codes from containers/image and from OpenShift, which makes files of it."""
    return {"containers": enforcer_codes, "openshift": enforcer_codes}


# Kyverno takes no CA: a certificate without any name, or with any, would pass.
NO_CA = {name: ["identity_unsupported"] for name in (*KYVERNO, "connaisseur", "ratify", "wiz")}
# These take one key for an image, and the first of them for all images.
ONE = ("ratify", "wiz")
NO_PERSON = {name: ["identity_unsupported"] for name in ONE}
NO_CHOICE = {"ratify": ["choice_unsupported", "one_key_only"], "wiz": ["choice_unsupported"]}
NO_CHOICE_OF_CA = {name: ["choice_unsupported", "identity_unsupported"] for name in ONE}
SHA256_ONLY = ("containers", "openshift", "connaisseur", "ratify", "wiz")
NO_OTHER_HASH = {name: ["algorithm_unsupported"] for name in SHA256_ONLY}
EC_ONLY = {"ratify": ["key_unsupported"]}
# Policies that match one image must all be satisfied there.
ALL_MATCHING = ("policy_controller", *KYVERNO)
NO_SCHEME = {
    **{name: ["algorithm_unsupported", "scheme_unsupported"] for name in SHA256_ONLY},
    **{name: ["scheme_unsupported"] for name in ALL_MATCHING},
    "ratify": ["algorithm_unsupported", "key_unsupported", "scheme_unsupported"],
}
WITH_CA = ("containers", "openshift", "policy_controller")
NO_LOG = {name: ["log_unsupported"] for name in ONE}
NO_TREE = {"wiz": ["pattern_unsupported"]}
OVERLAPPING = {
    **{name: ["overlapping_rules"] for name in ALL_MATCHING}, "ratify": ["one_key_only"],
    "wiz": ["overlapping_rules", "pattern_unsupported"],
}
NO_NAMESPACE = {name: ["namespace_unsupported"] for name in NEWEST if name not in ("containers", "openshift")}

ROWS = [
    Row("one key", {}, {}),
    Row("any of two keys", {"rules": [rule(APP, any_of=["release", "backup"])]}, {
        "openshift": ["choice_unsupported"], **NO_CHOICE,
    }),
    Row("all of two keys", {"rules": [rule(APP, any_of=["release", "backup"], threshold=2)]}, NO_CHOICE),
    Row("all of two, one with two keys", {
        "authorities": {"a": TWO_KEYS, "b": key("b")}, "rules": [rule(APP, any_of=["a", "b"], threshold=2)],
    }, {
        "openshift": ["overlap_unsupported"], "connaisseur": ["counted_keys"],
        **{name: [*codes, "overlap_unsupported"] for name, codes in NO_CHOICE.items()},
    }),
    Row("two of three keys", {
        "authorities": {name: key(name) for name in "abc"}, "rules": [rule(APP, any_of=["a", "b", "c"], threshold=2)],
    }, {**{name: ["choice_unsupported"] for name in (*WITH_CA, "connaisseur")}, **NO_CHOICE}),
    Row("two of three, one with two keys", {
        "authorities": {"a": TWO_KEYS, "b": key("b"), "c": key("c")},
        "rules": [rule(APP, any_of=["a", "b", "c"], threshold=2)],
    }, {
        "containers": ["choice_unsupported"], "openshift": ["choice_unsupported", "overlap_unsupported"],
        "policy_controller": ["choice_unsupported"], "kyverno_cluster_policy": ["counted_keys"],
        "connaisseur": ["choice_unsupported", "counted_keys"],
        **{name: [*codes, "overlap_unsupported"] for name, codes in NO_CHOICE.items()},
    }),
    Row("two generations", alone(TWO_KEYS), {
        "openshift": ["overlap_unsupported"], "ratify": ["one_key_only", "overlap_unsupported"],
        "wiz": ["overlap_unsupported"],
    }),
    Row("another key for another image", {"rules": [rule(APP), rule("r.io/x", any_of=["backup"])]}, {
        "ratify": ["one_key_only"],
    }),
    Row("P-384 key", alone(key("p384-a")), NO_OTHER_HASH),
    Row("P-521 key", alone(key("p521-a")), NO_OTHER_HASH),
    Row("P-384 key, told to use SHA-256", alone(key("p384-a", signature_algorithm="ecdsa-sha256")), {}),
    Row("P-256 key, told to use SHA-384", alone(key("a", signature_algorithm="ecdsa-sha384")),
        NO_OTHER_HASH),
    Row("RSA key", alone(key("rsa3072-a")), EC_ONLY),
    Row("Ed25519 key", alone(key("ed25519-a")), EC_ONLY),
    Row("Ed25519ph", alone(key("ed25519-a", signature_algorithm="ed25519ph")), NO_SCHEME),
    Row("RSA-PSS", alone(key("rsa3072-a", signature_algorithm="rsa-pss-sha256")), NO_SCHEME),
    Row("CA and DNS name", alone(ca()), NO_CA),
    Row("CA and address", alone(ca(san={"type": "email", "value": "release@example.org"})), NO_CA),
    Row("CA and URI", alone(ca(san={"type": "uri", "value": "https://ci.example.org/x"})), {
        **both(["san_unsupported"]), **NO_CA,
    }),
    Row("CA and other name", alone(ca(san={"type": "other", "value": "x"})), {
        **{name: ["san_unsupported"] for name in WITH_CA}, **NO_CA,
    }),
    Row("CA and expression", alone(ca(san={"type": "dns", "regexp": "a[0-9]\\.example\\.org"})),
        {**both(["regexp_unsupported"]), **NO_CA}),
    Row("CA and another usage", alone(ca(eku="emailProtection")), {
        **{name: ["usage_unsupported"] for name in WITH_CA}, **NO_CA,
    }),
    Row("CA that ends before the policy", {**alone(ca()), "not_after": "2099-01-01T00:00:00Z"}, {
        **{name: ["short_life"] for name in WITH_CA}, **NO_CA,
    }),
    Row("the same with timestamps", {**alone(ca(timestamp=STAMPS)), "not_after": "2099-01-01T00:00:00Z"},
        {**both(["timestamp_unsupported"]), **NO_CA}),
    Row("CA and a log", alone(ca(log=LOG)), {**{name: ["log_unsupported"] for name in WITH_CA}, **NO_CA}),
    Row("CA and denied keys", {**alone(ca()), "denied_key_ids": ["0" * 64]}, {
        **{name: ["denial_unsupported"] for name in WITH_CA},
        **{name: ["denial_unsupported", *codes] for name, codes in NO_CA.items()},
    }),
    Row("keys and denied keys", {"denied_key_ids": [public("backup").key_id], **alone(key("release"))}, {}),
    Row("key or CA", {"authorities": {"a": key("a"), "b": ca()}, "rules": [rule(APP, any_of=["a", "b"])]}, {
        "containers": ["mixed_authorities"], "openshift": ["choice_unsupported", "mixed_authorities"], **NO_CA,
        **{name: [*codes, "mixed_authorities"] for name, codes in NO_CHOICE_OF_CA.items()},
    }),
    Row("one CA or another", {
        "authorities": {"a": ca(), "b": ca(ca_path="ca/other.pem")}, "rules": [rule(APP, any_of=["a", "b"])],
    }, {"containers": ["mixed_authorities"], "openshift": ["choice_unsupported"], **NO_CA, **NO_CHOICE_OF_CA}),
    Row("key and CA", {
        "authorities": {"a": key("a"), "b": ca()}, "rules": [rule(APP, any_of=["a", "b"], threshold=2)],
    }, {**NO_CA, **NO_CHOICE_OF_CA}),
    Row("person", alone(with_root(keyless()) | {"log": LOG}), NO_PERSON),
    Row("persons of different roots", {
        "authorities": {"a": with_root(keyless()) | {"log": LOG}, "b": {
            **keyless(), "log": LOG, "trusted_root_path": "other_root.json",
        }}, "rules": [rule(APP, any_of=["a", "b"], threshold=2)],
    }, {"connaisseur": ["mixed_roots"], **NO_CHOICE_OF_CA}),
    Row("person without a log", alone(with_root(keyless())), {
        **both(["unproven_time"]), **NO_PERSON,
        **{name: ["unproven_time"] for name in (*KYVERNO, "connaisseur", "policy_controller")},
    }),
    Row("person of the public issuer, without a log", alone(keyless()), {
        **both(["root_missing", "unproven_time"]), **NO_PERSON,
        **{name: ["root_missing", "unproven_time"] for name in (*KYVERNO, "connaisseur")},
    }),
    Row("person without roots", alone(keyless() | {"log": LOG}), {
        **both(["root_missing"]), **{name: ["root_missing"] for name in (*KYVERNO, "connaisseur")}, **NO_PERSON,
    }),
    Row("workflow", alone(with_root({"keyless": {
        "issuer": "https://i.example.org", "subject": "https://h.example.org/w.yml@refs/heads/main",
    }}) | {"log": LOG}), {**both(["subject_unsupported"]), **NO_PERSON}),
    Row("any person of a domain", alone(with_root({"keyless": {
        "issuer": "https://i.example.org", "subject_regexp": "[a-z]+@example\\.org",
    }}) | {"log": LOG}), {**both(["subject_unsupported"]), **NO_PERSON}),
    Row("person of any of some issuers", alone(with_root({"keyless": {
        "issuer_regexp": "https://[ab]\\.example\\.org", "subject": "a@example.org",
    }}) | {"log": LOG}), {**both(["subject_unsupported"]), **NO_PERSON}),
    Row("key and log", alone(key("a", log=LOG)), NO_LOG),
    Row("key and log without URL", alone(key("a", log={**LOG, "rekor_url": None})), {
        **{name: ["log_url_missing"] for name in (*ALL_MATCHING, "connaisseur")}, **NO_LOG,
    }),
    Row("key and log with another key", alone(key("a", log={**LOG, "public_key_path": "keys/ed25519-log.pub"})), {
        name: ["log_unsupported"] for name in NEWEST
    }),
    Row("log of one of two", {
        "authorities": {"a": key("a", log=LOG), "b": key("b")}, "rules": [rule(APP, any_of=["a", "b"])],
    }, {
        "containers": ["mixed_logs"], "openshift": ["choice_unsupported"], "connaisseur": ["mixed_logs"],
        **{name: [*codes, "log_unsupported"] for name, codes in NO_CHOICE.items()},
    }),
    Row("different logs of all", {
        "authorities": {"a": key("a", log=LOG), "b": key("b", log={**LOG, "rekor_url": "https://other.example.org"})},
        "rules": [rule(APP, any_of=["a", "b"], threshold=2)],
    }, {
        "connaisseur": ["mixed_logs"], **{name: [*codes, "log_unsupported"] for name, codes in NO_CHOICE.items()},
    }),
    # Signatures of bare keys would be taken without one.
    Row("key and timestamps", alone(key("a", timestamp=STAMPS)), {name: ["timestamp_unsupported"] for name in NEWEST}),
    Row("person and timestamps", alone(with_root(keyless()) | {"timestamp": STAMPS}), {
        **{name: ["timestamp_unsupported"] for name in ("containers", "openshift", "connaisseur")}, **NO_PERSON,
    }),
    Row("person, log and timestamps", alone(with_root(keyless()) | {"log": LOG, "timestamp": STAMPS}), {
        **{name: ["timestamp_unsupported"] for name in ("containers", "openshift", "connaisseur")}, **NO_PERSON,
        "policy_controller": ["log_ignored"],
    }),
    Row("attestation", {"rules": [rule(APP, attestations=[
        {"predicate_type": "https://slsa.dev/provenance/v1", "any_of": ["release"]},
    ])]}, {name: ["attestation_unsupported"] for name in (*SHA256_ONLY, "kyverno_image_validating_policy")}),
    Row("prefix", {"rules": [rule("docker.io/acme/rs-*")]}, {
        name: ["pattern_unsupported"] for name in ("containers", "openshift", "connaisseur", "wiz")
    }),
    Row("tree", {"rules": [rule("registry.example.org/ns/**")]}, NO_TREE),
    Row("domain", {"rules": [rule("*.example.org/**")]}, NO_TREE),
    Row("host in a domain", {"rules": [rule("*.example.org/**"), rule("registry.example.org/app")]}, {
        **{name: ["overlapping_rules"] for name in ALL_MATCHING}, "connaisseur": ["similar_hosts"],
        "wiz": ["overlapping_rules", "pattern_unsupported"],
    }),
    Row("host beside a domain", {"rules": [rule("*.example.org/**"), rule("example.org/app")]}, NO_TREE),
    Row("hosts of which one ends like another", {"rules": [rule("r.io/x"), rule("mirror.io/y")]}, {
        "connaisseur": ["similar_hosts"],
    }),
    Row("rules that overlap", {
        "rules": [rule("registry.example.org/**"), rule(APP, any_of=["backup"])],
    }, OVERLAPPING),
    Row("rules that overlap in a mirror", {
        "rules": [rule("mirror.example.org/**"), rule(APP, any_of=["backup"], mirrors=["mirror.example.org/x"])],
    }, OVERLAPPING),
    Row("repository and namespace of one name", {
        "rules": [rule("r.io/ns"), rule("r.io/ns/**", any_of=["backup"])],
    }, {**both(["same_scope"]), "connaisseur": ["same_scope"], **OVERLAPPING}),
    Row("repository and namespace of one name in one rule", {"rules": [rule("r.io/ns", "r.io/ns/**")]}, NO_TREE),
    Row("a rule for a namespace of Kubernetes", {"rules": [rule(APP, namespaces=["team-a"])]}, NO_NAMESPACE),
    Row("another rule for a namespace", {
        "rules": [rule("r.io/app"), rule("r.io/app", name="own", any_of=["backup"], namespaces=["team-a"])],
    }, {
        **NO_NAMESPACE, "openshift": ["hidden_rule"], "ratify": ["namespace_unsupported", "one_key_only"],
        **{name: ["namespace_unsupported", "overlapping_rules"] for name in (*ALL_MATCHING, "wiz")},
    }),
    Row("default", {"default": "reject"}, {name: ["default_unsupported"] for name in ACCEPTING}),
]


@pytest.mark.parametrize("enforcer", NEWEST)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name.replace(" ", "-"))
def test_what_is_refused(row: Row, enforcer: str) -> None:
    assert sorted(set(refused(enforcer, NEWEST[enforcer], **row.members))) == sorted(row.codes.get(enforcer, ()))


def test_each_row_of_the_table_is_met() -> None:
    met = {code for row in ROWS for codes in row.codes.values() for code in codes}
    # These two are not about the policy.
    met |= {"version_unsupported", "build_unsupported"}
    assert set(check.ROWS) == met
    told = (pathlib.Path(__file__).parents[5] / "docs" / "trust_policy.md").read_text()
    assert [code for code in check.ROWS if f"`{code}`" not in told] == []


@given(st.lists(st.sampled_from(test_pattern.PATTERNS), min_size=2, max_size=8, unique=True))
def test_all_pairs_of_patterns_that_overlap_are_told(texts: list[str]) -> None:
    policy = read(document(*(rule(text) for text in texts)))
    abilities = enforcers.load("policy_controller").abilities((0, 15, 1))
    assert abilities is not None
    found = {
        frozenset((rules.name, one.message.partition(" ")[0]))
        for one in check.refusals(policy, abilities) if one.code == "overlapping_rules"
        for rules in policy.rules if f"of rule {rules.name}," in one.message
    }
    patterns = [pattern.parse(text) for text in texts]
    assert found == {
        frozenset((str(one), str(other))) for one, other in itertools.combinations(patterns, 2) if one.overlaps(other)
    }


@pytest.mark.parametrize(("enforcer", "version", "members", "codes"), [
    ("containers", "5.32", {"rules": [rule(APP, any_of=["release", "backup"])]}, ["choice_unsupported"]),
    ("containers", "5.33", {"rules": [rule(APP, any_of=["release", "backup"])]}, []),
    ("containers", "5.32.1", alone(TWO_KEYS), ["overlap_unsupported"]),
    ("containers", "5.33.0", alone(TWO_KEYS), []),
    ("kyverno_image_validating_policy", "1.18.0", alone(key("a", log=LOG)), ["log_unsupported"]),
    ("kyverno_image_validating_policy", "1.18.1", alone(key("a", log=LOG)), []),
    ("containers", "5.34.1", alone(ca()), ["identity_unsupported"]), ("containers", "5.34.2", alone(ca()), []),
    ("openshift", "4.20.3", alone(ca()), ["identity_unsupported"]), ("openshift", "v4.21.0", alone(ca()), []),
])
def test_what_a_version_decides(enforcer: str, version: str, members: Json, codes: list[str]) -> None:
    assert refused(enforcer, version, **members) == codes


@pytest.mark.parametrize(("enforcer", "version"), [
    ("containers", "5.23.9"), ("openshift", "4.19"), ("policy_controller", "0.12.2"),
    ("kyverno_cluster_policy", "1.12.9"), ("kyverno_cluster_policy", "1.20.0"),
    ("kyverno_image_validating_policy", "1.15.3"),
])
def test_a_version_that_cannot_verify_gets_nothing(enforcer: str, version: str) -> None:
    found = enforcers.render(read(document()), enforcer=enforcer, version=version)
    assert ([one.code for one in found.refused], found.files) == (["version_unsupported"], {})


@pytest.mark.parametrize("version", ["", "5", "latest", "5.34.x", "5.34.2.1.1", "v", "5..3", "٥.٣٣", "5.33\n"])
def test_what_is_no_version(version: str) -> None:
    with pytest.raises(FormatError, match="no version"):
        enforcers.render(read(document()), enforcer="containers", version=version)


def test_the_other_default_is_named() -> None:
    found = enforcers.render(read(document(default="reject")), enforcer="openshift", version="4.21")
    assert [(one.policy_path, one.instead) for one in found.refused] == [("default", "Use default: accept.")]


def test_nothing_is_rendered_of_a_policy_of_which_something_is_refused() -> None:
    policy = read(document(rule(APP), rule("docker.io/acme/rs-*")))
    found = enforcers.render(policy, enforcer="containers", version="5.39.2")
    assert ([(one.code, one.policy_path) for one in found.refused], found.files) == (
        [("pattern_unsupported", "rules[1].images[0]")], {},
    )
