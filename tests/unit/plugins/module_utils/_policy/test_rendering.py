# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rendered files: what stands in them, that they come out the same each time, and that the schemas take them."""

from __future__ import annotations

import base64
import json
import pathlib
import re
import sys
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import FormatError
from ansible_collections.hallmark.signing.plugins.module_utils._oci import pattern
from ansible_collections.hallmark.signing.plugins.module_utils._policy import enforcers, rendering
from ansible_collections.hallmark.signing.plugins.module_utils._policy.model import Keyless
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._oci import test_pattern
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._policy import policy_bench as bench
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
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._policy.test_check import (
    ACCEPTING,
    APP,
    LOG,
    NEWEST,
    ROWS,
    STAMPS,
    TWO_KEYS,
    Row,
    with_root,
)
from hypothesis import given
from hypothesis import strategies as st

yaml = pytest.importorskip("yaml")
ROOT = pathlib.Path(__file__).parents[5]


def files(enforcer: str, *rules: Json, **members: t.Any) -> dict[str, str]:
    """Render a policy that the newest version of an enforcer takes."""
    default = "accept" if enforcer in ACCEPTING else "reject"
    policy = read(document(*rules, **{"default": default, **members}))
    found = enforcers.render(policy, enforcer=enforcer, version=NEWEST[enforcer])
    assert found.refused == ()
    return found.files


def documents(enforcer: str, *rules: Json, **members: t.Any) -> list[Json]:
    """The same, as the documents in the files of manifests."""
    return [one for text in files(enforcer, *rules, **members).values() for one in yaml.safe_load_all(text)]


def b64(*texts: str) -> str:
    return base64.b64encode("".join(texts).encode()).decode()


# --- all of them -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def problems() -> t.Iterator[t.Callable[[Json], list[str]]]:
    """What the schema of a manifest has against it."""
    pytest.importorskip("jsonschema")
    sys.path.insert(0, str(ROOT / "tests" / "tools"))
    try:
        import validate_manifests

        crds = validate_manifests.Crds(validate_manifests.SCHEMAS)
        cel = validate_manifests.Cel() if validate_manifests.HAVE_CEL else None
        yield lambda one: [
            said for said in validate_manifests.check(one, crds, cel, False) if not said.startswith("note:")
        ]
    finally:
        sys.path.pop(0)


@pytest.mark.parametrize(("enforcer", "row"), [
    pytest.param(enforcer, row, id=f"{enforcer}-{row.name.replace(' ', '-')}")
    for enforcer in NEWEST if enforcer not in ("containers", "connaisseur", "wiz")
    for row in ROWS if enforcer not in row.codes
])
def test_the_schemas_take_every_manifest(
    row: Row, enforcer: str, problems: t.Callable[[Json], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendering, "roots_of", lambda _identity: (bench.root("fulcio"),))
    for one in documents(enforcer, **row.members):
        # Neither a constraint, whose kind the template makes, nor values have a schema.
        if one.get("kind") not in ("ConfigMap", "HallmarkSigning", None):
            assert problems(one) == [], one


def test_the_schemas_refuse_something(problems: t.Callable[[Json], list[str]]) -> None:
    (one,) = documents("openshift")
    one["spec"]["scopes"] = ["*"]
    assert problems(one)
    del one["spec"]["policy"]["rootOfTrust"]["publicKey"]
    assert problems(one)


@pytest.mark.parametrize("enforcer", NEWEST)
def test_the_order_of_the_policy_changes_nothing_that_counts(enforcer: str) -> None:
    one, other = rule("r.io/a", "r.io/b"), rule("r.io/c", any_of=["release" if enforcer == "ratify" else "backup"])
    mixed = {**one, "images": ["r.io/b", "r.io/a"]}
    first, second = files(enforcer, one, other), files(enforcer, one, other)
    assert first == second
    if enforcer == "containers":
        assert files(enforcer, other, mixed) == first


def test_texts_of_several_lines_are_blocks() -> None:
    text = files("policy_controller")["cluster-image-policies.yaml"]
    assert "data: |\n" in text
    assert "-----BEGIN PUBLIC KEY-----\n" in text
    assert "&id" not in files("policy_controller", rule(APP), rule("r.io/x"))["cluster-image-policies.yaml"]


@given(st.recursive(st.text(max_size=20) | st.booleans() | st.integers(), lambda below: st.lists(below, max_size=3) | (
    st.dictionaries(st.sampled_from(["name", "keyData", "=(init)"]), below, max_size=3)
), max_leaves=8))
def test_yaml_is_the_same_without_the_library_in_c(document: t.Any) -> None:
    written = rendering.as_yaml({"it": document})
    assert next(iter(yaml.safe_load_all(written))) == {"it": document}
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(yaml, "CSafeDumper", raising=False)
        assert rendering.as_yaml({"it": document}) == written


@pytest.mark.parametrize(("text", "name"), [
    ("release", "release"), ("Release Images", "release-images"), ("äöü", "rule"), ("-a-", "a"), ("a" * 80, "a" * 50),
    ("docker.io/acme/rs-*", "docker-io-acme-rs"),
])
def test_names_for_kubernetes(text: str, name: str) -> None:
    assert rendering.name_of(text) == name


def test_names_that_would_be_alike_are_numbered() -> None:
    assert rendering.names_of(["a b", "a-b", "A/B", "a b", "a b 2"]) == ["a-b", "a-b-2", "a-b-3", "a-b-4", "a-b-2-2"]


# One manifest would take the place of another, and what that demanded would be gone.
@pytest.mark.parametrize("enforcer", sorted(set(NEWEST) - {"containers", "connaisseur", "ratify", "wiz"}))
def test_no_two_manifests_have_one_name(enforcer: str) -> None:
    long = "x" * 60
    names = ["a", "b c", "b-c", "c", f"{long} one", f"{long} two"]
    known = {name: key(f"k{number}", log=LOG) for number, name in enumerate(names)}
    found = documents(
        enforcer, rule("r.io/1", any_of=["c", "a"], threshold=2) | {"name": "a b"},
        rule("r.io/2", any_of=["b c", "b-c"], threshold=2) | {"name": "a"},
        rule("r.io/3", any_of=[f"{long} one"]) | {"name": "a b 1"}, rule("r.io/4", any_of=["c"]) | {"name": long + "1"},
        rule("r.io/5", any_of=[f"{long} two"]) | {"name": long + "2"}, authorities=known,
    )
    named = [(one["kind"], one["metadata"]["name"]) for one in found]
    assert len(set(named)) == len(named)
    inner = [one["name"] for document in found for one in document["spec"].get("rules", [])] if (
        enforcer == "kyverno_cluster_policy"
    ) else []
    assert len(set(inner)) == len(inner)
    roots = {one["metadata"]["name"]: one for one in found if one["kind"] == "TrustRoot"}
    assert len(roots) == (len(names) if enforcer == "policy_controller" else 0)


# --- containers/image ------------------------------------------------------------------------------------------------


def policy_json(*rules: Json, **members: t.Any) -> Json:
    return t.cast(Json, json.loads(files("containers", *rules, **members)["policy.json"]))


def requirements(*rules: Json, **members: t.Any) -> list[Json]:
    (found,) = policy_json(*rules, **members)["transports"]["docker"].values()
    return t.cast("list[Json]", found)


NAMED = {"signedIdentity": {"type": "exactRepository", "dockerRepository": APP}}


def test_one_key_for_one_repository() -> None:
    assert policy_json() == {
        "default": [{"type": "reject"}],
        "transports": {"docker": {APP: [
            {"type": "sigstoreSigned", "keyData": b64(public("release").pem), **NAMED},
        ]}},
    }


def test_any_of_several_keys_is_one_requirement() -> None:
    (only,) = requirements(
        rule(APP, any_of=["release", "both"]), authorities={"release": key("release"), "both": TWO_KEYS}
    )
    keys = sorted((public(owner) for owner in ("release", "g1", "g2")), key=lambda one: one.key_id)
    assert only["keyDatas"] == [b64(one.pem) for one in keys]


def test_all_of_several_authorities_are_several_requirements() -> None:
    found = requirements(
        rule(APP, any_of=["release", "both"], threshold=2), authorities={"release": key("release"), "both": TWO_KEYS}
    )
    assert [sorted(set(one) - {"type", "signedIdentity"}) for one in found] == [["keyDatas"], ["keyData"]]


def test_a_certificate_of_a_pki() -> None:
    (only,) = requirements(authorities={"release": ca(intermediates_path="ca/sub.pem")})
    assert only["pki"] == {
        "caRootsData": b64(bench.root("root")), "caIntermediatesData": b64(bench.root("sub")),
        "subjectHostname": "signer.example.org",
    }
    (only,) = requirements(authorities={"release": ca(san={"type": "email", "value": "a@example.org"})})
    assert (only["pki"]["subjectEmail"], "subjectHostname" in only["pki"]) == ("a@example.org", False)


def test_a_person(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "roots_of", lambda _identity: ("root\n",))
    (only,) = requirements(authorities={"release": with_root(keyless()) | {"log": LOG}})
    assert only["fulcio"] == {
        "caData": b64("root\n"), "oidcIssuer": "https://accounts.example.org", "subjectEmail": "release@example.org",
    }
    assert only["rekorPublicKeyData"] == b64(public("log").pem)


def test_a_log_is_demanded_of_keys() -> None:
    (only,) = requirements(authorities={"release": key("release", log=LOG)})
    assert only["rekorPublicKeyData"] == b64(public("log").pem)


def test_what_signatures_must_name() -> None:
    policy = policy_json(rule(APP, "r.io/ns/**", mirrors=["m.io/x"]), rule("q.io/a", "q.io/a/**"))
    found = policy["transports"]["docker"]
    assert {scope: one[0]["signedIdentity"].get("dockerRepository") for scope, one in found.items()} == {
        APP: APP, "m.io/x/app": APP, "r.io/ns": None, "m.io/x/ns": None, "q.io/a": None,
    }


def test_scopes_are_without_wildcards_at_their_end() -> None:
    found = policy_json(rule("r.io/ns/**"), rule("*.example.org/**"), rule("q.io/**"), rule("docker.io/nginx"))
    assert list(found["transports"]["docker"]) == ["*.example.org", "docker.io/library/nginx", "q.io", "r.io/ns"]


def test_signatures_are_looked_for_beside_images_and_in_mirrors() -> None:
    text = files("containers", rule(APP, mirrors=["mirror.example.org:5000/x"]), rule("r.io/ns/**"))[
        "registries.d/hallmark-signing.yaml"
    ]
    assert yaml.safe_load(text) == {"docker": {
        place: {"use-sigstore-attachments": True}
        for place in (APP, "mirror.example.org:5000/x/app", "r.io/ns")
    }}


def test_the_default_that_accepts() -> None:
    assert policy_json(default="accept")["default"] == [{"type": "insecureAcceptAnything"}]


# --- OpenShift -------------------------------------------------------------------------------------------------------


def test_one_policy_for_each_authority() -> None:
    first, second = documents("openshift", rule("r.io/ns/**", "q.io/**", any_of=["release", "backup"], threshold=2))
    assert [one["metadata"]["name"] for one in (first, second)] == ["r-io-ns-backup", "r-io-ns-release"]
    assert first["spec"]["scopes"] == second["spec"]["scopes"] == ["q.io", "r.io/ns"]
    assert second["spec"]["policy"] == {
        "rootOfTrust": {"policyType": "PublicKey", "publicKey": {"keyData": b64(public("release").pem)}},
        "signedIdentity": {"matchPolicy": "MatchRepository"},
    }


def test_a_repository_has_a_policy_of_its_own() -> None:
    found = documents("openshift", rule(APP, "r.io/ns/**", mirrors=["m.io"]))
    assert {tuple(one["spec"]["scopes"]): one["spec"]["policy"]["signedIdentity"] for one in found} == {
        ("m.io/app", APP): {"matchPolicy": "ExactRepository", "exactRepository": {"repository": APP}},
        ("m.io/ns", "r.io/ns"): {"matchPolicy": "MatchRepository"},
    }


def test_other_roots_of_trust(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "roots_of", lambda _identity: ("root\n",))
    (logged,) = documents("openshift", authorities={"release": key("a", log=LOG)})
    assert logged["spec"]["policy"]["rootOfTrust"]["publicKey"]["rekorKeyData"] == b64(public("log").pem)
    (pki,) = documents("openshift", authorities={"release": ca(intermediates_path="ca/sub.pem")})
    assert pki["spec"]["policy"]["rootOfTrust"] == {"policyType": "PKI", "pki": {
        "caRootsData": b64(bench.root("root")), "caIntermediatesData": b64(bench.root("sub")),
        "pkiCertificateSubject": {"hostname": "signer.example.org"},
    }}
    (person,) = documents("openshift", authorities={"release": with_root(keyless()) | {"log": LOG}})
    assert person["spec"]["policy"]["rootOfTrust"]["fulcioCAWithRekor"]["fulcioSubject"] == {
        "oidcIssuer": "https://accounts.example.org", "signedEmail": "release@example.org",
    }


# --- policy-controller -----------------------------------------------------------------------------------------------


def specs(*rules: Json, **members: t.Any) -> dict[str, Json]:
    return {
        one["metadata"]["name"]: one["spec"] for one in documents("policy_controller", *rules, **members)
        if one["kind"] != "ConfigMap"
    }


def test_any_of_several_authorities_is_one_policy() -> None:
    found = specs(rule(APP, any_of=["release", "both"]), authorities={"release": key("release"), "both": TWO_KEYS})
    (only,) = found.values()
    assert only["mode"] == "enforce"
    assert [(one["name"], one["key"]) for one in only["authorities"]] == [
        (name, {"data": public(owner).pem, "hashAlgorithm": "sha256"})
        for name, owner in (("release", "release"), ("both", "g1"), ("both-key-2", "g2"))
    ]


def test_all_of_several_authorities_are_several_policies() -> None:
    found = specs(rule(APP, any_of=["release", "backup"], threshold=2))
    assert [[one["name"] for one in spec["authorities"]] for spec in found.values()] == [["release"], ["backup"]]
    first, second = found.values()
    assert first["images"] == second["images"]


def test_what_an_attestation_demands_is_a_policy_of_its_own() -> None:
    kind = "https://slsa.dev/provenance/v1"
    found = specs(rule(APP, attestations=[{"predicate_type": kind, "any_of": ["backup"]}]))
    signed, attested = found.values()
    assert all("attestations" not in one for one in signed["authorities"])
    assert [one["attestations"][0]["predicateType"] for one in attested["authorities"]] == [kind]


@pytest.mark.parametrize(("pattern", "globs"), [
    (APP, [f"{APP}@*", f"{APP}:*"]), ("r.io/ns/**", ["r.io/ns@*", "r.io/ns:*", "r.io/ns/**"]), ("r.io/**", ["r.io/**"]),
    ("docker.io/acme/rs-*", ["index.docker.io/acme/rs-*@*", "index.docker.io/acme/rs-*:*"]),
    ("*.example.org/**", ["*.example.org/**"]), ("nginx.io/a*", ["nginx.io/a*@*", "nginx.io/a*:*"]),
])
def test_globs(pattern: str, globs: list[str]) -> None:
    (only,) = specs(rule(pattern)).values()
    assert [one["glob"] for one in only["images"]] == globs


def test_mirrors_are_further_globs() -> None:
    (only,) = specs(rule(APP, mirrors=["mirror.example.org/x"])).values()
    assert [one["glob"] for one in only["images"]][2:] == [
        "mirror.example.org/x/app@*", "mirror.example.org/x/app:*",
    ]


def test_certificates_logs_and_timestamps_are_in_trust_roots() -> None:
    found = specs(authorities={"release": ca(
        san={"type": "uri", "regexp": "https://ci\\.example\\.org/.+"}, intermediates_path="ca/sub.pem",
        timestamp=STAMPS,
    )})
    (authority,) = found[APP.replace("/", "-").replace(".", "-")]["authorities"]
    assert authority["keyless"] == {
        "identities": [{"issuerRegExp": "^$", "subjectRegExp": "^(?:https://ci\\.example\\.org/.+)$"}],
        "trustRootRef": "release-root", "insecureIgnoreSCT": True,
    }
    assert authority["rfc3161timestamp"] == {"trustRootRef": "release-root"}
    keys = found["release-root"]["sigstoreKeys"]
    assert keys["certificateAuthorities"][0]["certChain"] == b64(bench.root("sub"), bench.root("root"))
    assert keys["timestampAuthorities"][0]["certChain"] == b64(bench.root("tsa"))
    found = specs(authorities={"release": key("a", log=LOG)})
    assert found["release-root"]["sigstoreKeys"]["tLogs"] == [{
        "baseURL": "https://rekor.example.org", "hashAlgorithm": "sha-256", "publicKey": b64(public("log").pem),
    }]


def test_expressions_of_keyless_authorities_are_anchored() -> None:
    found = specs(authorities={"release": {"keyless": {"issuer_regexp": "https://[ab]", "subject_regexp": "x|y"}}})
    (only,) = found.values()
    assert only["authorities"][0]["keyless"] == {
        "identities": [{"issuerRegExp": "^(?:https://[ab])$", "subjectRegExp": "^(?:x|y)$"}],
    }


@pytest.mark.parametrize(("default", "answer"), [("reject", "deny"), ("accept", "allow")])
def test_what_no_policy_is_about(default: str, answer: str) -> None:
    found = documents("policy_controller", default=default)
    assert found[-1]["data"]["no-match-policy"] == answer


def test_other_hashes_are_named() -> None:
    (only,) = specs(authorities={"release": key("p384-a", signature_algorithm="ecdsa-sha384")}).values()
    assert only["authorities"][0]["key"]["hashAlgorithm"] == "sha384"


# --- Kyverno's ClusterPolicy -----------------------------------------------------------------------------------------


def kyverno(*rules: Json, **members: t.Any) -> dict[str, Json]:
    """The rules of the policy, by name."""
    (only,) = documents("kyverno_cluster_policy", *rules, **members)
    assert (only["spec"]["failurePolicy"], only["spec"]["background"]) == ("Fail", False)
    return {one["name"]: one for one in only["spec"]["rules"]}


def attestors(found: Json) -> list[Json]:
    (only,) = found["verifyImages"]
    assert (only["type"], only["failureAction"], only["required"], only["verifyDigest"]) == (
        "Cosign", "Enforce", True, True,
    )
    return t.cast("list[Json]", only["attestors"])


OFFLINE = {"rekor": {"ignoreTlog": True}, "ctlog": {"ignoreSCT": True}}


def entry(owner: str, **members: t.Any) -> Json:
    return {"keys": {"publicKeys": public(owner).pem, "signatureAlgorithm": "sha256", **OFFLINE, **members}}


def test_kyverno_counts_entries_of_one_key_each() -> None:
    known = {"release": key("release"), "both": TWO_KEYS}
    name = APP.replace("/", "-").replace(".", "-")
    found = kyverno(rule(APP, any_of=["release", "both"]), authorities=known)
    assert attestors(found[name]) == [{"count": 1, "entries": [entry("release"), entry("g1"), entry("g2")]}]
    found = kyverno(rule(APP, any_of=["release", "both"], threshold=2), authorities=known)
    assert attestors(found[name]) == [
        {"count": 1, "entries": [entry("release")]}, {"count": 1, "entries": [entry("g1"), entry("g2")]},
    ]
    known = {one: key(one) for one in "abc"}
    found = kyverno(rule(APP, any_of=["a", "b", "c"], threshold=2), authorities=known)
    assert attestors(found[name]) == [{"count": 2, "entries": [entry("a"), entry("b"), entry("c")]}]


@pytest.mark.parametrize(("pattern", "references"), [
    (APP, [f"{APP}:*", f"{APP}@*"]), ("r.io/ns/**", ["r.io/ns:*", "r.io/ns@*", "r.io/ns/*"]), ("r.io/**", ["r.io/*"]),
    ("r.io/ns/rs-*", ["r.io/ns/rs-*"]), ("*.example.org/**", ["*.example.org/*"]),
    ("docker.io/nginx", ["docker.io/library/nginx:*", "docker.io/library/nginx@*", "docker.io/nginx:*",
                         "docker.io/nginx@*"]),
    ("docker.io/acme/app", ["docker.io/acme/app:*", "docker.io/acme/app@*"]),
    ("docker.io/library/**", ["docker.io/library:*", "docker.io/library@*", "docker.io/library/*", "docker.io/*"]),
])
def test_references_for_kyverno(pattern: str, references: list[str]) -> None:
    found = kyverno(rule(pattern) | {"name": "it"})
    assert found["it"]["verifyImages"][0]["imageReferences"] == references
    # All else is denied by the same references, less what lies below a prefix.
    spec = found["no-other-images"]["validate"]["pattern"]["spec"]
    (known,) = {one[0]["image"] for one in spec.values()}
    assert set(known.split(" | ")) >= {
        f"{one} & !{one}/*" if one in ("r.io/ns/rs-*", "docker.io/*") else one for one in references
    }
    assert set(spec) == {"containers", "=(initContainers)", "=(ephemeralContainers)"}


def test_kyverno_knows_images_however_they_are_written() -> None:
    def known(text: str) -> set[str]:
        spec = kyverno(rule(text))["no-other-images"]["validate"]["pattern"]["spec"]
        return set(spec["containers"][0]["image"].split(" | "))

    assert known(APP) == {APP, f"{APP}:*", f"{APP}@*"}
    names = {"docker.io/library/nginx", "library/nginx", "docker.io/nginx", "nginx"}
    assert known("docker.io/nginx") == {name + end for name in names for end in ("", ":*", "@*")}
    assert known("docker.io/acme/rs-*") == {
        "docker.io/acme/rs-* & !docker.io/acme/rs-*/*", "acme/rs-* & !acme/rs-*/*",
    }
    # Any name without a host would be one of these.
    assert known("docker.io/**") == {"docker.io/*"}


def test_many_rules_are_several_policies() -> None:
    rules = [rule(f"r.io/{number}") for number in range(450)]
    found = documents("kyverno_cluster_policy", *rules)
    assert [one["metadata"]["name"] for one in found] == [
        "hallmark-signing", "hallmark-signing-2", "hallmark-signing-3",
    ]
    names = [one["name"] for document in found for one in document["spec"]["rules"]]
    assert (len(names), len(set(names)), names[-1]) == (451, 451, "no-other-images")
    assert max(len(yaml.safe_dump(one)) for one in found) < 1_000_000


def test_kyverno_admits_all_else_where_the_policy_does() -> None:
    assert list(kyverno(rule(APP) | {"name": "it"}, default="accept")) == ["it"]


def test_attestations_are_a_rule_of_their_own_for_kyverno() -> None:
    kind = "https://slsa.dev/provenance/v1"
    found = kyverno(rule(APP, attestations=[{"predicate_type": kind, "any_of": ["backup"]}]) | {"name": "it"})
    (attested,) = found["it-attestation-1"]["verifyImages"]
    assert "attestors" not in attested
    assert attested["attestations"] == [{"type": kind, "attestors": [{"count": 1, "entries": [entry("backup")]}]}]


def test_logs_timestamps_and_people_for_kyverno(monkeypatch: pytest.MonkeyPatch) -> None:
    found = kyverno(rule(APP) | {"name": "it"}, authorities={"release": key("a", log=LOG)})
    (logged,) = attestors(found["it"])[0]["entries"]
    assert logged["keys"]["rekor"] == {"url": "https://rekor.example.org", "pubkey": public("log").pem}
    assert logged["keys"]["ctlog"] == {"ignoreSCT": True}
    monkeypatch.setattr(rendering, "roots_of", lambda _identity: ("root\n",))
    person = with_root({"keyless": {"issuer": "https://i.example.org/*", "subject_regexp": "[ab]@example\\.org"}})
    found = kyverno(rule(APP) | {"name": "it"}, authorities={"release": person | {"log": LOG, "timestamp": STAMPS}})
    (only,) = attestors(found["it"])[0]["entries"]
    assert only["keyless"]["ctlog"] == {"ignoreSCT": True, "tsaCertChain": bench.root("tsa")}
    assert {name: only["keyless"][name] for name in ("issuerRegExp", "subjectRegExp", "roots")} == {
        "issuerRegExp": "^https://i\\.example\\.org/\\*$", "subjectRegExp": "^(?:[ab]@example\\.org)$",
        "roots": "root\n",
    }


# --- Kyverno's ImageValidatingPolicy ---------------------------------------------------------------------------------


def validating(*rules: Json, **members: t.Any) -> Json:
    """The only policy, where all else is accepted."""
    (only,) = documents("kyverno_image_validating_policy", *rules, **{"default": "accept", **members})
    assert (only["apiVersion"], only["kind"]) == ("policies.kyverno.io/v1", "ImageValidatingPolicy")
    assert (only["spec"]["failurePolicy"], only["spec"]["validationActions"]) == ("Fail", ["Deny"])
    return t.cast(Json, only["spec"])


def expressions(spec: Json) -> set[str]:
    """What must hold, of each kind of container the same."""
    found = [one["expression"] for one in spec["validations"]]
    kinds = ("containers", "initContainers", "ephemeralContainers")
    assert [one.partition(".all(")[0] for one in found] == [f"images.{kind}" for kind in kinds]
    return {one.partition(".all(")[2] for one in found}


def test_authorities_are_counted_whatever_their_keys() -> None:
    known = {"a": TWO_KEYS, "b": key("b"), "c": key("c")}
    one = validating(rule(APP), authorities={"release": key("release")})
    assert expressions(one) == {"image, verifyImageSignatures(image, [attestors.k0_0]) > 0)"}
    assert one["attestors"] == [{"name": "k0_0", "cosign": {
        "key": {"data": public("release").pem, "hashAlgorithm": "sha256"},
        "ctlog": {"url": "https://rekor.sigstore.dev", "insecureIgnoreTlog": True, "insecureIgnoreSCT": True},
    }}]
    two = validating(rule(APP, any_of=["a", "b", "c"], threshold=2), authorities=known)
    assert [one["name"] for one in two["attestors"]] == ["k0_0", "k0_1", "k1_0", "k2_0"]
    assert expressions(two) == {
        "image, [verifyImageSignatures(image, [attestors.k0_0, attestors.k0_1]) > 0, "
        "verifyImageSignatures(image, [attestors.k1_0]) > 0, verifyImageSignatures(image, [attestors.k2_0]) > 0]"
        ".filter(passed, passed).size() >= 2)"
    }


def test_eleven_authorities_keep_their_keys_apart() -> None:
    names = [f"a{number}" for number in range(11)]
    (only,) = expressions(validating(rule(APP, any_of=names), authorities={name: key(name) for name in names}))
    assert only.count("[attestors.k1_0]") == only.count("[attestors.k10_0]") == 1


def spellings(name: str) -> set[str]:
    """All that may stand in a pod for a repository."""
    host, _slash, path = name.partition("/")
    names = {name, f"{host.upper()}/{path}"}
    if host == "docker.io":
        short = path.removeprefix("library/") if path.count("/") == 1 else path
        names |= {path, short, f"docker.io/{short}", f"index.docker.io/{path}", f"registry-1.docker.io/{short}"}
    ends = ("", ":v1", f"@sha256:{'0' * 64}", f":v1@sha256:{'0' * 64}")
    return {one + end for one in names for end in ends}


def test_validating_policies_find_images_however_they_are_written() -> None:
    hub = ["docker.io/library/nginx", "docker.io/library/nginx2", "docker.io/acme/app", "docker.io/library/a/b"]
    names = [*test_pattern.NAMES, *hub]
    trees = ["docker.io/**", "docker.io/library/**", "docker.io/library/ngin*", "docker.io/acme/**"]
    texts = [*test_pattern.PATTERNS, *hub, *trees]
    for text in texts:
        ours = pattern.parse(text)
        one, others = documents("kyverno_image_validating_policy", rule(text))
        (match,), (no_match,) = (spec["spec"]["matchImageReferences"] for spec in (one, others))
        found = re.fullmatch(r'ref\.matches\("(.*)"\)', match["expression"])
        missed = re.fullmatch(r'!ref\.matches\("(.*)"\)', no_match["expression"])
        assert found
        assert missed
        for name in names:
            for image in spellings(name):
                expected = ours.matches(name)
                assert bool(re.search(found[1], image)) is expected, (text, image, found[1])
                assert bool(re.search(missed[1], image)) is expected, (text, image, missed[1])


def test_validating_policies_deny_all_else_where_the_policy_does() -> None:
    found = documents("kyverno_image_validating_policy", rule(APP), rule("r.io/x"))
    assert [one["metadata"]["name"] for one in found] == ["registry-example-org-app", "r-io-x", "no-other-images"]
    last = found[-1]["spec"]
    assert (last["failurePolicy"], last["validationActions"]) == ("Fail", ["Deny"])
    assert [one["expression"] for one in last["validations"]] == [
        f"images.{kind}.size() == 0" for kind in ("containers", "initContainers", "ephemeralContainers")
    ]
    assert len(documents("kyverno_image_validating_policy", rule(APP), default="accept")) == 1


def test_logs_and_timestamps_for_validating_policies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "roots_of", lambda _identity: ("root\n",))
    person = with_root(keyless()) | {"log": LOG, "timestamp": STAMPS}
    (only,) = validating(authorities={"release": person})["attestors"]
    assert only["cosign"]["ctlog"] == {
        "url": "https://rekor.example.org", "rekorPubKey": public("log").pem, "insecureIgnoreSCT": True,
        "tsaCertChain": bench.root("tsa"),
    }


def test_the_api_of_older_releases() -> None:
    found = enforcers.render(
        read(document(default="accept")), enforcer="kyverno_image_validating_policy", version="1.16.4"
    ).files
    assert "apiVersion: policies.kyverno.io/v1beta1\n" in found["image-validating-policies.yaml"]


# --- trusted roots ---------------------------------------------------------------------------------------------------


def test_roots_of_a_trusted_root() -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    der = x509.load_pem_x509_certificate(bench.root("fulcio").encode()).public_bytes(serialization.Encoding.DER)
    raw = base64.b64encode(der).decode()
    text = json.dumps({"certificateAuthorities": [{"certChain": {"certificates": [{"rawBytes": raw}]}}]})
    assert rendering.roots_of(Keyless("i", None, "s", None, text)) == (bench.root("fulcio"),)


@pytest.mark.parametrize("text", [
    "", "[]", "{}", '{"certificateAuthorities": [{}]}',
    '{"certificateAuthorities": [{"certChain": {"certificates": [{"rawBytes": "AAAA"}]}}]}',
])
def test_a_trusted_root_without_roots(text: str) -> None:
    with pytest.raises(FormatError, match="trusted root"):
        rendering.roots_of(Keyless("i", None, "s", None, text))


# --- namespaces of Kubernetes ----------------------------------------------------------------------------------------


OWN = rule(APP, name="own", any_of=["backup"], namespaces=["team-b", "team-a"])


def test_a_namespace_has_a_file_with_all_that_holds_there() -> None:
    found = files("containers", rule(APP), OWN, rule("r.io/**"))
    assert list(found) == [
        "registries.d/hallmark-signing.yaml", "policies/team-a.json", "policies/team-b.json", "policy.json",
    ]
    everywhere, there = (
        json.loads(found[name])["transports"]["docker"] for name in ("policy.json", "policies/team-a.json")
    )
    assert [one[APP][0]["keyData"] for one in (everywhere, there)] == [
        b64(public(name).pem) for name in ("release", "backup")
    ]
    assert everywhere["r.io"] == there["r.io"]
    assert found["policies/team-a.json"] == found["policies/team-b.json"]


def test_a_rule_for_a_namespace_is_a_policy_of_it() -> None:
    found = documents("openshift", OWN, rule("r.io/**"))
    assert [(one["kind"], one["metadata"].get("namespace")) for one in found] == [
        ("ImagePolicy", "team-a"), ("ImagePolicy", "team-b"), ("ClusterImagePolicy", None),
    ]


# --- Connaisseur -----------------------------------------------------------------------------------------------------


def connaisseur(*rules: Json, **members: t.Any) -> Json:
    (values,) = documents("connaisseur", *rules, **members)
    return t.cast(Json, values["application"])


def test_one_validator_for_each_rule_and_one_for_all_else() -> None:
    found = connaisseur(rule(APP, name="release images"))
    assert [one["name"] for one in found["validators"]] == ["allow", "deny", "release-images"]
    (root,) = found["validators"][2]["trustRoots"]
    assert root["key"] == public("release").pem
    assert [(one["pattern"], one["validator"]) for one in found["policy"]] == [
        ("*:*", "deny"),
        (f"*{APP}:*", "release-images"), (f"*?{APP}:*", "deny"),
        (f"*{APP}@*", "release-images"), (f"*?{APP}@*", "deny"),
    ]
    assert found["policy"][1]["with"] == {
        "trustRoot": "*", "threshold": 1, "verifyInTransparencyLog": False, "verifySCT": False,
    }


def test_a_validator_is_never_one_of_the_static_ones() -> None:
    found = connaisseur(rule(APP, name="allow"), rule("r.io/x", name="Deny"))
    assert [one["name"] for one in found["validators"]] == ["allow", "deny", "allow-2", "deny-2"]
    assert {one["validator"] for one in found["policy"]} == {"deny", "allow-2", "deny-2"}


def test_all_of_several_authorities_are_required_by_name() -> None:
    found = connaisseur(rule(APP, any_of=["release", "backup"], threshold=2))
    names = [one["name"] for one in found["validators"][2]["trustRoots"]]
    assert (len(set(names)), found["policy"][1]["with"]["required"]) == (2, names)
    assert "threshold" not in found["policy"][1]["with"]


def test_what_is_accepted_elsewhere_needs_no_second_pattern() -> None:
    found = connaisseur(rule("docker.io/acme/**"), default="accept")
    assert [(one["pattern"], one["validator"]) for one in found["policy"]] == [("*:*", "allow"), *(
        (f"*index.docker.io/acme{end}", "docker-io-acme") for end in (":*", "@*", "/*")
    )]


def test_a_domain_is_not_found_in_the_middle_of_a_name() -> None:
    found = connaisseur(rule("*.example.org/**", name="all"))
    assert [(one["pattern"], one["validator"]) for one in found["policy"][1:]] == [
        ("*.example.org/*", "all"), ("*/*.example.org/*", "deny"),
    ]


def test_a_log_and_persons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "roots_of", lambda _identity: (bench.root("fulcio"),))
    found = connaisseur(authorities={"release": with_root(keyless()) | {"log": LOG}})
    (validator,) = found["validators"][2:]
    assert validator["host"] == {
        "rekor": LOG["rekor_url"], "rekorPubkey": public("log").pem, "fulcioCert": bench.root("fulcio"),
    }
    (root,) = validator["trustRoots"]
    assert root["keyless"] == {
        "issuerRegex": r"^https://accounts\.example\.org$", "subjectRegex": r"^release@example\.org$",
    }
    assert found["policy"][1]["with"]["verifyInTransparencyLog"] is True


# --- Gatekeeper with Ratify ------------------------------------------------------------------------------------------


def test_ratify_gets_the_one_key_of_all_rules() -> None:
    values, template, constraint = documents("ratify", rule(APP), rule("docker.io/acme/**"))
    assert values["cosign"] == {"enabled": True, "key": public("release").pem, "rekorURL": ""}
    # With keys, or without its own part, the chart would take the configuration that compares no digest.
    assert (values["cosignKeys"], values["notation"]) == ([], {"enabled": False})
    assert template["metadata"]["name"] == constraint["kind"].lower()
    assert constraint["spec"]["enforcementAction"] == "deny"
    assert constraint["spec"]["parameters"] == {"default": "reject", "patterns": [
        {"kind": "tree", "host": "docker.io", "path": "acme"},
        {"kind": "repository", "host": "registry.example.org", "path": "app"},
    ]}


class Gatekeeper:
    """The Rego of the template, with the provider's answer as data: the real one has a function for it."""

    def __init__(self, *rules: Json, **members: t.Any) -> None:
        regopy = pytest.importorskip("regopy")
        _values, template, constraint = documents("ratify", *rules, **members)
        rego = template["spec"]["targets"][0]["rego"]
        self.parameters = constraint["spec"]["parameters"]
        self.interpreter = regopy.Interpreter()
        with_answer, count = re.subn(r"external_data\(\{.*\}\)", "input.answer", rego)
        assert count == 1
        self.interpreter.add_module("template", with_answer)

    def denied(self, spec: Json, answer: Json) -> list[str]:
        """Return why a pod is denied."""
        self.interpreter.set_input({
            "parameters": self.parameters, "answer": answer, "review": {"object": {"spec": spec}},
        })
        found = json.loads(str(self.interpreter.query("data.hallmarksigning.violation")))
        return sorted(json.loads(one)["msg"] for one in found["expressions"][0])


def pod(*images: str, member: str = "containers") -> Json:
    return {member: [{"name": f"c{number}", "image": image} for number, image in enumerate(images)]}


def answer(verified: t.Mapping[str, t.Any], errors: t.Any = (), system_error: str = "") -> Json:
    return {
        "responses": [[image, {"isSuccess": one}] for image, one in verified.items()],
        "errors": [[one, "x"] for one in errors], "system_error": system_error,
    }


OURS = f"{APP}:1.0"


@pytest.mark.parametrize(("given", "denied"), [
    (answer({OURS: True}), False), (answer({OURS: False}), True), (answer({OURS: "true"}), True),
    (answer({}), True), ({}, True), (answer({OURS: True}, errors=[OURS]), True),
    (answer({OURS: True}, errors=["r.io/other:1"]), False), (answer({OURS: True}, system_error="timeout"), True),
    ({"responses": [[OURS, {}]], "errors": [], "system_error": ""}, True),
    ({"responses": [[OURS, {"isSuccess": True}], [OURS, {"isSuccess": False}]], "errors": []}, True),
])
@pytest.mark.parametrize("member", ["containers", "initContainers", "ephemeralContainers"])
def test_only_an_answer_with_success_admits(given: Json, denied: bool, member: str) -> None:
    found = Gatekeeper().denied(pod(OURS, member=member), given)
    assert found == ([f"{OURS}: it is not verified to be signed"] if denied else [])


def test_one_bad_image_of_several_denies_the_pod() -> None:
    gatekeeper = Gatekeeper(rule("registry.example.org/**"))
    images = ["registry.example.org/a:1", "registry.example.org/b:1"]
    spec = {**pod(images[0]), **pod(images[1], member="initContainers")}
    assert gatekeeper.denied(spec, answer(dict.fromkeys(images, True))) == []
    for image in images:
        assert len(gatekeeper.denied(spec, answer({**dict.fromkeys(images, True), image: False}))) == 1


def test_rego_knows_the_patterns_that_we_know() -> None:
    digest = f"@sha256:{'0' * 64}"
    images = {name + end: name for name in test_pattern.NAMES for end in ("", ":v1", digest, f":v1{digest}")}
    for text in (*test_pattern.PATTERNS[::5], *test_pattern.PATTERNS[-5:]):
        ours = pattern.parse(text)
        told = Gatekeeper(rule(text)).denied(pod(*images), answer({}))
        assert told == sorted(
            f"{image}: it is not verified to be signed" if ours.matches(name) else
            f"{image}: the trust policy has no rule for it"
            for image, name in images.items()
        ), text


def test_rego_admits_where_the_policy_has_no_rule_and_accepts() -> None:
    gatekeeper = Gatekeeper(rule("r.io/ns/**"), default="accept")
    found = gatekeeper.denied(pod("r.io/x:1", "r.io/ns/x:1", "r.io/nsx"), answer({}))
    assert found == ["r.io/ns/x:1: it is not verified to be signed"]


@pytest.mark.parametrize("image", [
    "nginx", "nginx:1", "library/nginx", "docker.io/nginx:1", "index.docker.io/library/nginx", "DOCKER.io/nginx",
])
def test_rego_knows_the_names_of_docker_hub(image: str) -> None:
    gatekeeper = Gatekeeper(rule("docker.io/library/nginx"), default="accept")
    assert gatekeeper.denied(pod(image), answer({})) == [f"{image}: it is not verified to be signed"]
    assert gatekeeper.denied(pod(f"acme/{image.rpartition('/')[2]}"), answer({})) == []


# --- Wiz -------------------------------------------------------------------------------------------------------------


def test_a_validator_for_each_rule() -> None:
    found = files("wiz", rule(APP, name="App", mirrors=["mirror.example.org/x"]), rule("r.io/b", any_of=["backup"]))
    objects, terraform = (json.loads(found[name]) for name in ("image-integrity-validators.json", "wiz.tf.json"))
    assert [one["name"] for one in objects["imageIntegrityValidators"]] == ["app", "r-io-b"]
    first, second = objects["imageIntegrityValidators"]
    assert first["imagePatterns"] == [
        f"{name}{end}" for name in (APP, "mirror.example.org/x/app") for end in ("", ":*", "@*")
    ]
    assert [one["value"]["cosign"]["key"] for one in (first, second)] == [public("release").pem, public("backup").pem]
    assert objects["policies"][0]["imageIntegrityValidators"] == ["app", "r-io-b"]
    (resources,) = terraform["resource"].values()
    assert [one["image_patterns"] for one in resources.values()] == [
        one["imagePatterns"] for one in objects["imageIntegrityValidators"]
    ]
