# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What enforcers would say of images, compared with models of how each evaluates its own configuration."""

from __future__ import annotations

import collections
import os
import random
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._policy import enforcers
from ansible_collections.hallmark.signing.plugins.module_utils._policy.decision import Decision, Judge
from ansible_collections.hallmark.signing.plugins.module_utils._policy.model import Policy
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._policy import enforcer_models as models
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._policy import policy_bench as bench
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._policy.image_bench import (
    PROVENANCE,
    Made,
    Memory,
)
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._policy.policy_bench import Json, key, rule
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._policy.test_check import (
    ACCEPTING,
    APP,
    LOG,
    NEWEST,
    with_root,
)

pytest.importorskip("yaml")

READS_BUNDLES = ("kyverno_image_validating_policy", "wiz")
READS_CHILDREN = ("containers", "openshift")
ATTESTING = ("policy_controller", "kyverno_cluster_policy")
ZERO = f"sha256:{'0' * 64}"


def decide(
    enforcer: str, memory: Memory, image: models.Image, *rules: Json, namespace: str | None = None, **members: t.Any
) -> Decision:
    """Decide about an image by its digest, under a policy with these rules."""
    members = {"default": "accept" if enforcer in ACCEPTING else "reject", **members}
    judge = Judge(
        bench.policy(*(rules or [rule(APP)]), **members), enforcer=enforcer, version=NEWEST[enforcer],
        namespace=namespace,
    )
    return judge.decide(t.cast(t.Any, memory), f"{image.repository}@{image.digest}")


def codes(decision: Decision) -> list[str]:
    return [reason.code for reason in decision.reasons]


@pytest.fixture
def memory() -> Memory:
    return Memory()


# --- one thing at a time ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("enforcer", NEWEST)
@pytest.mark.parametrize(("made", "code"), [
    ([Made("release")], None), ([], "no_signatures"), ([Made("stranger")], "signature_invalid"),
    ([Made("release", digest=ZERO)], "digest_mismatch"), ([Made("stranger"), Made("release")], None),
    ([Made("release", predicate_type=PROVENANCE)], "no_signatures"),
])
def test_only_signatures_of_the_image_by_the_authority_admit(
    memory: Memory, enforcer: str, made: list[Made], code: str | None
) -> None:
    found = decide(enforcer, memory, memory.image(APP, "1", *made))
    assert (found.admit, found.rule) == (code is None, APP)
    assert codes(found)[-1:] == ([code] if code else [])


@pytest.mark.parametrize("enforcer", NEWEST)
def test_who_reads_bundles(memory: Memory, enforcer: str) -> None:
    found = decide(enforcer, memory, memory.image(APP, "1", Made("release", "bundle")))
    assert (found.admit, found.bundle_only) == ((True, False) if enforcer in READS_BUNDLES else (False, True))
    both = decide(enforcer, memory, memory.image(APP, "2", Made("release"), Made("release", "bundle")))
    assert (both.admit, both.bundle_only) == (True, False)
    # A bundle of somebody else, whatever it says, hides signatures in the old format from Kyverno.
    for hiding in (Made("stranger", "bundle"), Made("stranger", "bundle", predicate_type=PROVENANCE)):
        hidden = decide(enforcer, memory, memory.image(APP, f"3{hiding.predicate_type}", Made("release"), hiding))
        assert hidden.admit is (enforcer != "kyverno_image_validating_policy")


@pytest.mark.parametrize("enforcer", NEWEST)
def test_who_reads_the_images_of_an_index(memory: Memory, enforcer: str) -> None:
    signed = [Made("release")]
    for tag, below, above, by_children, by_index in (
        ("only-index", [[], []], signed, False, True), ("all", [signed, signed], signed, True, True),
        ("only-images", [signed, signed], [], True, False), ("one-image", [signed, []], signed, False, True),
        ("nothing", [], signed, False, True),
    ):
        found = decide(enforcer, memory, memory.index(APP, tag, below, *above))
        assert found.admit is (by_children if enforcer in READS_CHILDREN else by_index), tag


@pytest.mark.parametrize("enforcer", NEWEST)
def test_who_compares_names(memory: Memory, enforcer: str) -> None:
    found = decide(enforcer, memory, memory.image(APP, "1", Made("release", name="r.io/other")))
    compares = enforcer in READS_CHILDREN
    assert (found.admit, codes(found)) == (not compares, ["reference_mismatch"] if compares else [])


@pytest.mark.parametrize("enforcer", READS_CHILDREN)
def test_names_in_a_mirror_are_those_of_the_scope(memory: Memory, enforcer: str) -> None:
    own, original = (
        memory.image("mirror.example.org/x/app", tag, Made("release", name=name))
        for tag, name in (("own", "mirror.example.org/x/app"), ("original", APP))
    )
    one = rule(APP, mirrors=["mirror.example.org/x"])
    whole = rule("registry.example.org/**", mirrors=["mirror.example.org/x"])
    assert [decide(enforcer, memory, image, one).admit for image in (own, original)] == [False, True]
    assert [decide(enforcer, memory, image, whole).admit for image in (own, original)] == [True, False]


@pytest.mark.parametrize("enforcer", READS_CHILDREN)
def test_the_scope_of_a_repository_is_that_of_what_lies_below(memory: Memory, enforcer: str) -> None:
    image = memory.image(f"{APP}/sub", "1", Made("release", name=f"{APP}/sub"))
    found = decide(enforcer, memory, image, rule(APP), default="accept")
    assert (found.admit, found.rule, codes(found)) == (False, APP, ["reference_mismatch"])


@pytest.mark.parametrize("enforcer", READS_CHILDREN)
@pytest.mark.parametrize(("name", "expected"), [
    ("a.r.org/app", "any"), ("b.a.r.org/app", "any"), ("r.org/app", None), ("a.r.org:5000/app", None),
    ("own.r.org/app", "own"), ("own.r.org/other", "any"), ("r.org:5000/ns/app", "port"), ("r.org:5001/ns/app", None),
])
def test_the_most_specific_scope_is_found(memory: Memory, enforcer: str, name: str, expected: str | None) -> None:
    rules = [
        rule("*.r.org/**", name="any"), rule("own.r.org/app", name="own"), rule("r.org:5000/ns/**", name="port"),
    ]
    found = decide(enforcer, memory, memory.image(name, "1", Made("release")), *rules)
    assert found.rule == expected


@pytest.mark.parametrize("enforcer", NEWEST)
def test_what_no_rule_is_about(memory: Memory, enforcer: str) -> None:
    image = memory.image("r.io/x", "1", Made("release"))
    found = decide(enforcer, memory, image)
    accepts = enforcer in ACCEPTING
    assert (found.admit, found.rule, codes(found)) == (accepts, None, [] if accepts else ["no_rule"])
    # Nobody needs to look at it for that.
    assert memory.asked == []


@pytest.mark.parametrize(("authorities", "threshold", "by", "expected"), [
    (["a", "b"], 1, "b", True), (["a", "b"], 2, "ab", True), (["a", "b"], 2, "b", False), (["a", "b"], 1, "c", False),
    (["a", "b", "c"], 2, "ca", True), (["a", "b", "c"], 2, "cc", False),
])
def test_authorities_are_counted(
    memory: Memory, authorities: list[str], threshold: int, by: str, expected: bool
) -> None:
    found = decide(
        "kyverno_cluster_policy", memory, memory.image(APP, "1", *(Made(one) for one in by)),
        rule(APP, any_of=authorities, threshold=threshold), authorities={name: key(name) for name in authorities},
    )
    assert found.admit is expected


@pytest.mark.parametrize("enforcer", ATTESTING)
@pytest.mark.parametrize(("made", "expected"), [
    ([Made("ci", predicate_type=PROVENANCE)], []), ([], ["attestation_missing"]),
    ([Made("release", predicate_type=PROVENANCE)], ["attestation_missing"]),
    ([Made("ci", predicate_type="https://example.org/other")], ["attestation_missing"]),
    ([Made("ci", predicate_type=PROVENANCE, digest=ZERO)], ["attestation_missing"]),
    ([Made("ci", "bundle", predicate_type=PROVENANCE)], ["attestation_missing"]),
])
def test_attestations(memory: Memory, enforcer: str, made: list[Made], expected: list[str]) -> None:
    found = decide(
        enforcer, memory, memory.image(APP, "1", Made("release"), *made),
        rule(APP, attestations=[{"predicate_type": PROVENANCE, "any_of": ["ci"]}]),
        authorities={"release": key("release"), "ci": key("ci")},
    )
    assert codes(found) == expected


def test_a_signature_without_a_demanded_log_entry_is_none(memory: Memory) -> None:
    image = memory.image(APP, "1", Made("release"))
    found = decide("policy_controller", memory, image, authorities={"release": key("release", log=LOG)})
    assert codes(found)[0] == "log_missing"


def test_a_certificate_is_demanded_where_a_ca_is_trusted(memory: Memory) -> None:
    image = memory.image(APP, "1", Made("release"))
    found = decide("containers", memory, image, authorities={"release": bench.ca()})
    assert codes(found)[0] == "signature_invalid"


def test_who_signs_without_a_key_is_said_not_to_be_evaluated(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enforcers.rendering, "roots_of", lambda _identity: (bench.root("fulcio"),))
    image = memory.image(APP, "1", Made("release"))
    person = with_root(bench.keyless()) | {"log": LOG}
    found = decide("policy_controller", memory, image, authorities={"release": person})
    assert (found.admit, codes(found)) == (False, ["not_evaluated"])
    either = decide(
        "policy_controller", memory, image, rule(APP, any_of=["person", "release"]),
        authorities={"person": person, "release": key("release")},
    )
    assert (either.admit, codes(either)) == (True, [])


@pytest.mark.parametrize(("image", "code"), [
    ("registry.example.org/app:none", "not_found"), ("oci:/srv/layout:1", "input_invalid"),
    ("registry.example.org/UPPER:1", "malformed"), (f"{ZERO[7:]}", "malformed"),
])
def test_what_cannot_be_decided_is_not_admitted(memory: Memory, image: str, code: str) -> None:
    judge = Judge(bench.policy(rule(APP)), enforcer="containers", version=NEWEST["containers"])
    found = judge.decide(t.cast(t.Any, memory), image)
    assert (found.admit, codes(found)) == (False, [code])


def test_what_is_refused_admits_nothing(memory: Memory) -> None:
    image = memory.image(APP, "1", Made("release"))
    found = decide("openshift", memory, image, default="reject")
    assert (found.admit, codes(found)) == (False, ["policy_refused"])


@pytest.mark.parametrize(("namespace", "by", "expected"), [
    (None, "release", True), (None, "backup", False), ("team-a", "release", False), ("team-a", "backup", True),
    ("team-b", "release", True),
])
def test_a_namespace_may_have_a_rule_of_its_own(
    memory: Memory, namespace: str | None, by: str, expected: bool
) -> None:
    own = rule(APP, name="own", any_of=["backup"], namespaces=["team-a"])
    found = decide("containers", memory, memory.image(APP, "1", Made(by)), rule(APP), own, namespace=namespace)
    assert found.admit is expected


def test_each_thing_is_read_once(memory: Memory) -> None:
    image = memory.image(APP, "1", Made("c"))
    names = ["a", "b", "c"]
    found = decide(
        "connaisseur", memory, image, rule(APP, any_of=names), authorities={name: key(name) for name in names}
    )
    assert found.admit
    assert len(memory.asked) == len(set(memory.asked))


# --- any policy, any image -------------------------------------------------------------------------------------------


REPOSITORIES = (
    "r.org/app", "r.org/ns", "r.org/ns/app", "r.org/ns/rs-one", "r.org/ns/rs-one/deep", "r.org/ns-other/app",
    "a.r.org/app", "r.org:5000/app", "evilr.org/app", "evil.io/r.org/app", "docker.io/library/nginx",
    "docker.io/acme/app", "mirror.io/r.org/app",
)
PATTERNS = (
    "r.org/app", "r.org/ns", "r.org/ns/app", "r.org/**", "r.org/ns/**", "r.org/ns/rs-*", "*.r.org/**", "r.org:5000/**",
    "docker.io/library/nginx", "docker.io/library/**", "docker.io/acme/**", "docker.io/**", "r.org/ns/rs-one",
)
KEYS = ("a", "b", "c")
# Signatures as they may be found together.
SIGNED: tuple[tuple[Made, ...], ...] = (
    (), (Made("a"),), (Made("b"),), (Made("a"), Made("b")), (Made("a"), Made("a")), (Made("c"), Made("a"), Made("b")),
    (Made("a", "bundle"),), (Made("a"), Made("a", "bundle")), (Made("a"), Made("b", "bundle")),
    (Made("a", digest=ZERO),), (Made("a", name="r.org/app"),), (Made("a"), Made("b", predicate_type=PROVENANCE)),
    (Made("a"), Made("c", "bundle", predicate_type=PROVENANCE)),
)
PER_ENFORCER = 250


def random_policy(rng: random.Random, enforcer: str) -> Policy:
    """A policy that some enforcers take: the more it says, the fewer do."""
    known: Json = {name: key(name) for name in KEYS}
    if rng.random() < 0.3:
        known["a"] = {"generations": [
            {"generation": number, "state": state, "public_key_path": f"keys/{name}.pub"}
            for number, (state, name) in enumerate((("retiring", "a"), ("active", "d")), 1)
        ]}
    rules = []
    for number, pattern in enumerate(rng.sample(PATTERNS, rng.choice([1, 1, 2, 3]))):
        any_of = rng.sample(KEYS, rng.choice([1, 1, 2, 3]))
        members: Json = {"name": f"rule {number}", "threshold": rng.choice([1, 1, len(any_of)])}
        if rng.random() < 0.1:
            members["mirrors"] = ["mirror.io/r.org"]
        if enforcer in ATTESTING and rng.random() < 0.2:
            members["attestations"] = [{"predicate_type": PROVENANCE, "any_of": [rng.choice(KEYS)]}]
        if enforcer in READS_CHILDREN and rng.random() < 0.2:
            members["namespaces"] = ["team-a"]
        rules.append({**rule(pattern, any_of=any_of), **members})
    default = "accept" if enforcer in ACCEPTING else rng.choice(["reject", "reject", "accept"])
    return bench.policy(*rules, authorities=known, default=default)


def random_image(rng: random.Random, memory: Memory) -> models.Image:
    name, tag = rng.choice(REPOSITORIES), rng.choice(["latest", "v1"])
    made = () if rng.random() < 0.1 else rng.choice(SIGNED)
    if rng.random() < 0.2:
        return memory.index(name, tag, [rng.choice(SIGNED), rng.choice(SIGNED)], *made)
    return memory.image(name, tag, *made)


@pytest.mark.parametrize("enforcer", NEWEST)
def test_no_enforcer_admits_what_we_say_is_denied(enforcer: str) -> None:
    seed = int(os.environ.get("HALLMARK_RANDOM", "") or 20261121)
    rng, told = random.Random(seed), collections.Counter[tuple[bool, bool]]()
    while told.total() < PER_ENFORCER:
        try:
            policy = random_policy(rng, enforcer)
        except bench.reading.PolicyError:
            continue
        found = enforcers.render(policy, enforcer=enforcer, version=NEWEST[enforcer])
        if found.refused:
            continue
        memory = Memory()
        image = random_image(rng, memory)
        namespace = rng.choice([None, "team-a", "team-b"])
        asked = models.Image(image.repository, image.tag, image.digest, image.signatures, image.children,
                             namespace or "default")
        ours = Judge(policy, enforcer=enforcer, version=NEWEST[enforcer], namespace=namespace).decide(
            t.cast(t.Any, memory), f"{image.repository}:{image.tag}"
        )
        theirs = models.admits(enforcer, NEWEST[enforcer], found.files, asked)
        assert ours.admit or not theirs, (seed, image, policy.rules, ours.reasons, found.files)
        told[ours.admit, theirs] += 1
    print(f"{enforcer}, seed {seed}: {dict(told)}")
    # Both are met often enough, and where we say that it is admitted, it nearly always is.
    assert min(told[True, True], told[False, False]) >= PER_ENFORCER // 50
    assert told[True, False] <= PER_ENFORCER // 10
