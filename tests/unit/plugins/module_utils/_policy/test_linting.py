# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is found in policies that others wrote, and that nothing is found in ours."""

from __future__ import annotations

import base64
import pathlib
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._policy import enforcers, linting, rendering
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._policy import policy_bench as bench
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._policy.policy_bench import public, read
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._policy.test_check import (
    ACCEPTING,
    NEWEST,
    ROWS,
    Row,
)
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._signing import certificate_bench as certs
from hypothesis import given
from hypothesis import strategies as st

yaml = pytest.importorskip("yaml")
Json = dict[str, t.Any]
ROOT = pathlib.Path(__file__).parents[5]

KEY, OTHER = public("release").pem, public("backup").pem


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def lint(*documents: t.Any) -> list[linting.Problem]:
    return linting.lint("policy", lambda _path: yaml.safe_dump_all(documents).encode())


def codes(*documents: t.Any) -> list[str]:
    return sorted({problem.code for problem in lint(*documents)})


# --- as they are written ---------------------------------------------------------------------------------------------


def signed(**members: t.Any) -> Json:
    return {"type": "sigstoreSigned", "keyData": b64(KEY), "signedIdentity": {"type": "matchRepository"}, **members}


def policy_json(scopes: t.Mapping[str, t.Any], default: str = "reject") -> Json:
    return {"default": [{"type": default}], "transports": {"docker": dict(scopes)}}


def one_scope(*requirements: Json, scope: str = "r.io/ns") -> Json:
    return policy_json({scope: list(requirements)})


def manifest(api: str, kind: str, spec: Json, name: str = "p") -> Json:
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name}, "spec": spec}


def controller(*authorities: Json, globs: t.Sequence[str] = ("r.io/**",), **spec: t.Any) -> Json:
    known = list(authorities) or [{"key": {"data": KEY}}]
    return manifest("policy.sigstore.dev/v1beta1", "ClusterImagePolicy", {
        "images": [{"glob": glob} for glob in globs], "authorities": known, **spec,
    })


def identities(**members: str) -> Json:
    return {"keyless": {"identities": [{"issuer": "https://i.example.org", "subject": "a@example.org", **members}]}}


def kyverno(*attestors: Json, rules: t.Sequence[Json] = (), **images: t.Any) -> Json:
    verify = {"imageReferences": ["*"], "failureAction": "Enforce", "attestors": list(attestors), **images}
    return manifest("kyverno.io/v1", "ClusterPolicy", {"rules": [{"name": "r", "verifyImages": [verify]}, *rules]})


OFFLINE = {"rekor": {"ignoreTlog": True}, "ctlog": {"ignoreSCT": True}}


def entry(key: str = KEY, **members: t.Any) -> Json:
    return {"keys": {"publicKeys": key, **OFFLINE, **members}}


def validating(**spec: t.Any) -> Json:
    return manifest("policies.kyverno.io/v1", "ImageValidatingPolicy", {
        "failurePolicy": "Fail", "validationActions": ["Deny"], "matchConstraints": {"resourceRules": [{}]},
        "matchImageReferences": [{"expression": "true"}],
        "attestors": [{"name": "a", "cosign": {"key": {"data": KEY}}}], **spec,
    })


def openshift(name: str = "p", scopes: t.Sequence[str] = ("r.io",), **policy: t.Any) -> Json:
    return manifest("config.openshift.io/v1", "ClusterImagePolicy", {"scopes": list(scopes), "policy": {
        "rootOfTrust": {"policyType": "PublicKey", "publicKey": {"keyData": b64(KEY)}},
        "signedIdentity": {"matchPolicy": "MatchRepository"}, **policy,
    }}, name)


def connaisseur(*rules: Json, **application: t.Any) -> Json:
    return {"application": {
        "validators": [
            {"name": "deny", "type": "static", "approve": False}, {"name": "allow", "type": "static", "approve": True},
            {"name": "v", "type": "cosign", "trustRoots": [{"name": "a", "key": KEY}]},
        ],
        "policy": list(rules) or [{"pattern": "*:*", "validator": "deny"}], **application,
    }}


def with_options(**options: t.Any) -> Json:
    rule = {"pattern": "r.io/*:*", "validator": "v", "with": options}
    return connaisseur({"pattern": "*:*", "validator": "deny"}, rule)


def ratify(**parameters: t.Any) -> Json:
    return manifest("config.ratify.deislabs.io/v1beta1", "Verifier", {
        "name": "cosign", "artifactTypes": "x", "parameters": parameters,
    })


INTERMEDIATE = certs.pem(certs.authority("between", "root")).decode()

FOUND: list[tuple[t.Any, list[str]]] = [
    # containers/image
    *((one_scope(bad), ["not_loadable"]) for bad in (
        signed(kyPath="x"), {"type": "rejekt"}, {"type": "reject", "keyPath": "x"}, {},
    )),
    (one_scope(), ["not_loadable"]), ({"default": [{"type": "rejekt"}]}, ["not_loadable"]),
    (policy_json({"r.io": [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "x"}],
                  "r.io/x": [{"type": "insecureAcceptAnything"}]}), ["accepts_below"]),
    (one_scope(signed()), []), (policy_json({}, "insecureAcceptAnything"), ["catch_all_missing"]),
    (one_scope(signed(keyData=b64(KEY + OTHER))), ["two_keys"]), (one_scope(signed(keyData="AAAA")), []),
    (one_scope(signed(), signed(keyData=b64(OTHER))), ["all_required"]),
    (one_scope({"type": "sigstoreSigned", "keyData": b64(KEY)}), ["identity_default"]),
    (one_scope(signed(signedIdentity={"type": "matchRepoDigestOrExact"})), ["identity_default"]),
    (one_scope(signed(pki={"caRootsData": b64(bench.root("root"))})), ["chain_without_san"]),
    (one_scope(signed(pki={"caRootsData": b64(bench.root("root")), "subjectEmail": "a@b"})), []),
    (one_scope(signed(pki={"caRootsData": b64(INTERMEDIATE), "subjectEmail": "a@b"})), ["intermediate_pin"]),
    *((one_scope(signed(), scope=scope), ["scope_matches_nothing"]) for scope in (
        "r.io/ns/*", "r.io/", "https://r.io/x", "r.*/x", "*.r.io/x",
    )),
    *((one_scope(signed(), scope=scope), []) for scope in (
        "r.io", "r.io:5000/x", "*.r.io", "r.io/x:1", "docker.io/library/nginx", f"r.io/x@sha256:{'0' * 64}",
    )),
    (policy_json({"r.io": [signed()], "r.io/x": [{"type": "insecureAcceptAnything"}]}), ["accepts_below"]),
    (policy_json({"r.io/x": [signed()], "r.io": [{"type": "insecureAcceptAnything"}]}), []),
    ({"docker": {"r.io": {"use-sigstore-attachments": True}}}, []),
    ({"docker": {"r.io": {"lookaside": "x"}}}, ["signatures_not_read"]),
    ({"docker": {"r.io/*": {"use-sigstore-attachments": True}}}, ["scope_matches_nothing"]),
    # policy-controller
    (controller(), []), (controller(mode="warn"), ["not_enforced"]),
    (controller({"key": {"data": KEY + OTHER}}), ["two_keys"]),
    (controller(globs=["r.io/x:*"]), ["glob_matches_nothing"]), (controller(globs=["r.io/x:*", "r.io/x@*"]), []),
    (controller(globs=["r.io:5000/x@*"]), []),
    (controller(identities()), []), (controller({"keyless": {"ca-cert": {}}}), ["chain_without_san"]),
    (controller({"keyless": {"url": "https://f"}}), ["chain_without_san"]),
    *((controller(identities(subjectRegExp=expression)), codes) for expression, codes in (
        ("a@example\\.org", ["unanchored_regexp"]), ("^a@example\\.org$", []),
        ("^a@example\\.org", ["unanchored_regexp"]),
        (".*", ["open_regexp"]), ("^.*$", ["open_regexp"]), ("^.+$", ["open_regexp"]), ("", ["open_regexp"]),
        ("^a|b$", ["unanchored_regexp"]), ("^(a|b)$", []), ("^(?:a(x|y)|b)$", []), ("^[a|b]$", []), ("^a\\|b$", []),
    )),
    (controller({"key": {"data": KEY}, "signatureFormat": "bundle"}), ["bundle_by_key"]),
    (controller({"key": {"data": KEY}, "attestations": [{}]}), ["signature_not_checked"]),
    *(({"apiVersion": "v1", "kind": "ConfigMap", "data": {"no-match-policy": answer}}, codes) for answer, codes in (
        ("allow", ["catch_all_missing"]), ("warn", ["catch_all_missing"]), ("deny", []),
    )),
    *(({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"args": [flag]}}, codes) for flag, codes in (
        ("--enable-oci11", ["enable_oci11"]), ("--enable-oci11=true", ["enable_oci11"]), ("--enable-oci11=false", []),
        ("-enable-oci11", ["enable_oci11"]), ("--disable-tuf", []),
    )),
    # Kyverno
    (kyverno({"entries": [entry()]}), []), (kyverno({"entries": [entry(), entry(OTHER)]}), ["count_missing"]),
    (kyverno({"count": 1, "entries": [entry(), entry(OTHER)]}), []),
    (kyverno({"entries": [entry()]}, failureAction="Audit"), ["not_enforced"]),
    (kyverno({"entries": [entry()]}, imageReferences=["r.io/*"]), ["catch_all_missing"]),
    (kyverno({"entries": [entry()]}, imageReferences=["r.io/*"], rules=[{"name": "others", "validate": {}}]), []),
    (kyverno({"entries": [entry(KEY + OTHER)]}), ["two_keys"]),
    (kyverno({"entries": [{"keys": {"publicKeys": KEY}}]}), ["public_log"]),
    (kyverno({"entries": [entry(rekor={"url": "https://rekor.example.org"})]}), []),
    (kyverno({"entries": [{"certificates": {"certChain": bench.root("root")}}]}), ["chain_without_san"]),
    (kyverno({"entries": [{"certificates": {"certChain": "x", "cert": "y"}}]}), []),
    (kyverno({"entries": [{"keyless": {"roots": bench.root("root"), **OFFLINE}}]}), ["chain_without_san"]),
    (kyverno({"entries": [{"keyless": {"roots": bench.root("root"), "subject": "*@example.org"}}]}),
     ["wildcard_identity"]),
    (kyverno({"entries": [{"keyless": {"roots": bench.root("root"), "subject": "a", "issuer": "https://i/?"}}]}),
     ["wildcard_identity"]),
    (kyverno({"entries": [{"keyless": {"roots": INTERMEDIATE, "subject": "a@example.org"}}]}), ["intermediate_pin"]),
    (kyverno(attestations=[{"type": "t", "attestors": [{"entries": [entry(), entry(OTHER)]}]}]), ["count_missing"]),
    (validating(), []), (validating(validationActions=["Audit"]), ["not_enforced"]),
    (validating(failurePolicy="Ignore"), ["fails_open"]), (validating(matchConstraints={}), ["matches_nothing"]),
    (validating(matchImageReferences=[{"glob": "r.io/*"}]), ["glob_of_pod"]),
    (validating(attestors=[{"name": "a", "cosign": {"certificate": {"certChain": {"value": "x"}}}}]),
     ["chain_without_san"]),
    (validating(attestors=[{"name": "a", "cosign": {"key": {}, "ctlog": {"insecureIgnoreTlog": True}}}]),
     ["log_url_missing"]),
    # OpenShift
    (openshift(), []), (openshift(signedIdentity={}), ["identity_default"]),
    (openshift(rootOfTrust={"policyType": "PKI", "pki": {"caRootsData": b64(bench.root("root"))}}),
     ["chain_without_san"]),
    (openshift(rootOfTrust={"policyType": "PKI", "pki": {
        "caRootsData": b64(bench.root("root")), "pkiCertificateSubject": {"email": "a@example.org"},
    }}), []),
    # Connaisseur
    (connaisseur(), []), (connaisseur({"pattern": "*:*", "validator": "allow"}), ["catch_all_missing"]),
    (connaisseur({"pattern": "r.io/*:*", "validator": "v"}), ["catch_all_missing"]),
    (connaisseur(features={"detectionMode": True}), ["not_enforced"]),
    (with_options(trustRoot="*"), ["count_missing"]), (with_options(trustRoot="*", threshold=1), []),
    (with_options(trustRoot="*", required=["a"]), []), (with_options(trustRoot="a"), []),
    (with_options(trustRoot="*", threshold=2), ["threshold_counts_signatures"]),
    # Gatekeeper and Ratify
    (ratify(trustPolicies=[{"name": "t"}]), ["digest_unchecked"]), (ratify(key="/x"), []),
    ({"apiVersion": "constraints.gatekeeper.sh/v1beta1", "kind": "RatifyVerification",
      "spec": {"enforcementAction": "dryrun"}}, ["not_enforced"]),
    ({"cosignKeys": [KEY], "cosign": {}}, ["digest_unchecked"]), ({"cosignKeys": [], "cosign": {"key": KEY}}, []),
    # Wiz
    ({"imageIntegrityValidators": []}, []), ({"resource": {"wiz_image_integrity_validator": {}}}, []),
    # Something else
    *((document, ["unknown_document"]) for document in ({"kind": "Pod", "apiVersion": "v1"}, "text", [])),
]


@pytest.mark.parametrize(("document", "expected"), [
    pytest.param(document, expected, id=f"{number}-{'-'.join(expected) or 'nothing'}")
    for number, (document, expected) in enumerate(FOUND)
])
def test_what_is_found(document: t.Any, expected: list[str]) -> None:
    found = lint(document)
    assert sorted({problem.code for problem in found}) == expected
    for problem in found:
        assert (problem.path, problem.as_dict()["message"]) == ("policy", problem.message)
        assert "PUBLIC KEY" not in problem.message


def test_every_code_is_documented_and_no_other() -> None:
    text = (ROOT / "docs" / "trust_policy.md").read_text()
    table = text[text.index("## What lint finds"):]
    found = {code for _document, expected in FOUND for code in expected} | {"unreadable_certificate", "bundle_only"}
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert {code.strip("` ") for cell in cells for code in cell.split(",")} == found


def test_two_policies_for_one_scope_must_both_be_satisfied() -> None:
    assert codes(openshift("a"), openshift("b")) == ["all_required"]
    assert codes(openshift("a"), openshift("b", ["r.io/x"])) == []


def test_a_root_that_cannot_be_read_is_told() -> None:
    broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    pki = {"caRootsData": b64(broken), "pkiCertificateSubject": {"email": "a"}}
    assert codes(openshift(rootOfTrust={"pki": pki})) == ["unreadable_certificate"]


@pytest.mark.parametrize("text", [
    b"a: [", b"a: 1\na: 2\n", b"\xff", b"!!python/object:os.system {}", b"", b"---\n---\n",
])
def test_what_is_no_document_is_a_problem(text: bytes) -> None:
    assert [problem.code for problem in linting.lint("policy", lambda _path: text)] == ["not_loadable"]


def test_the_place_is_told() -> None:
    (only,) = lint(controller({"key": {"data": KEY + OTHER}}))
    assert only.message.startswith("spec.authorities[0].key.data: it holds 2 public keys")
    (only,) = lint({"kind": "Deployment", "apiVersion": "apps/v1", "--enable-oci11": ["-enable-oci11"]})
    assert only.message.startswith("--enable-oci11[0]: ")


def test_of_several_documents_each_is_named() -> None:
    found = lint(controller(mode="warn"), validating(failurePolicy="Ignore"), {"default": []}, "text")
    assert [problem.message.partition(": ")[0] for problem in found] == [
        "ClusterImagePolicy p", "ImageValidatingPolicy p", "document 3", "document 4",
    ]
    assert lint(controller(mode="warn"))[0].message.startswith("spec.mode: ")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name.replace(" ", "-"))
def test_nothing_is_found_in_what_we_render(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "roots_of", lambda _identity: (bench.root("fulcio"),))
    for enforcer, version in NEWEST.items():
        if row.codes.get(enforcer):
            continue
        members = {"default": "accept" if enforcer in ACCEPTING else "reject", **row.members}
        files = enforcers.render(read(bench.document(**members)), enforcer=enforcer, version=version).files
        for name, text in files.items():
            data = text.encode()
            found = {problem.code for problem in linting.lint(name, lambda _path, data=data: data)}
            # All of several are meant there; attestations are a policy of their own; of a host that accepts, nothing
            # else is to be expected.
            assert found <= {"all_required", "signature_not_checked"} | (
                {"catch_all_missing"} if members["default"] == "accept" else set()
            ), (enforcer, name)


NAMES = (
    "default", "transports", "docker", "default-docker", "type", "signedIdentity", "pki", "keyData", "kind",
    "apiVersion", "spec", "metadata", "name", "images", "glob", "authorities", "keyless", "identities", "rules",
    "verifyImages", "attestors", "entries", "keys", "certificates", "rekor", "ctlog", "policy", "validators",
    "application", "pattern", "with", "threshold", "trustRoot", "scopes", "rootOfTrust", "parameters",
    "trustPolicies", "subjectRegExp", "roots", "matchConstraints", "resourceRules", "cosign", "certificate", "data",
    "features", "attestations", "subject",
)
VALUES = st.sampled_from([
    "sigstoreSigned", "insecureAcceptAnything", "ClusterImagePolicy", "ClusterPolicy", "ImageValidatingPolicy",
    "Verifier", "ConfigMap", "v1", "kyverno.io/v1", "policies.kyverno.io/v1", "config.openshift.io/v1",
    "policy.sigstore.dev/v1beta1", "config.ratify.deislabs.io/v1beta1", "r.io/x:1", "*", "^a$", "", KEY, b64(KEY),
]) | st.none() | st.integers(-1, 3) | st.booleans()
TREES = st.recursive(VALUES, lambda below: st.lists(below, max_size=3) | st.dictionaries(
    st.sampled_from(NAMES), below, max_size=5
), max_leaves=30)


@given(st.lists(TREES, max_size=3))
def test_whatever_stands_there_is_told_or_passed_over(documents: list[t.Any]) -> None:
    for problem in lint(*documents):
        assert problem.code
        assert problem.message


@pytest.mark.parametrize("document", [document for document, _expected in FOUND if isinstance(document, dict)])
def test_anything_may_be_wrong_anywhere(document: Json) -> None:
    for container, name in places(document):
        kept = container[name]
        for bad in (None, 1, "x", [], {}, [None], {"x": None}, [["x"]]):
            container[name] = bad
            for problem in lint(document):
                assert problem.message
        container[name] = kept


def places(value: t.Any) -> list[tuple[t.Any, t.Any]]:
    """Every member and element, as its container and its name or number."""
    found = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for name, one in list(found) for place in ((value, name), *places(one))]
