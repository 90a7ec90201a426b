# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The models of the enforcers against what is known of the products: each trap with one small manifest."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest
import yaml
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._policy import enforcer_models
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._policy.enforcer_models import (
    PUBLIC_LOG,
    PUBLIC_ROOT,
    Files,
    Image,
    ModelError,
    Signature,
    admits,
)

Fields = dict[str, Any]
DIGEST = "sha256:" + "ab" * 32


def pem(name: str, label: str = "PUBLIC KEY") -> str:
    body = base64.b64encode(name.encode()).decode()
    return f"-----BEGIN {label}-----\n{body}\n-----END {label}-----\n"


def b64(value: str) -> str:
    return base64.b64encode(value.encode()).decode()


NEW, OLD, LOG, OTHER = pem("new"), pem("old"), pem("log"), pem("other")
ROOT, LEFT, TSA = pem("root", "CERTIFICATE"), pem("left", "CERTIFICATE"), pem("tsa", "CERTIFICATE")
REPO = "r.example/ns/app"
SIG = Signature("sig", NEW, repository=REPO)
MAIL = Signature("sig", "", repository=REPO, root=ROOT, subject="a@example.org", issuer="https://i.example")
PLAIN = Signature("sig", "", repository=REPO, root=ROOT, subject="s.example.org", san_type="dns")
BUNDLE = Signature("bundle", NEW)
ATTESTED = Signature("sig", NEW, predicate_type="https://slsa.dev/provenance/v1")


def image(*signatures: Signature, repository: str = REPO, tag: str | None = None, **more: Any) -> Image:
    return Image(repository, tag, DIGEST, signatures, **more)


def resource(api: str, kind: str, spec: Fields, name: str = "p", **meta: str) -> Fields:
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, **meta}, "spec": spec}


def manifests(*documents: Fields) -> Files:
    return {"all.yaml": yaml.safe_dump_all(documents)}


def verdicts(enforcer: str, files: Files, *images: Image, version: str = "") -> list[bool]:
    return [admits(enforcer, version, files, each) for each in images]


def test_unknown_enforcer() -> None:
    with pytest.raises(ModelError):
        admits("none", "", {}, image())


def test_every_enforcer_refuses_a_file_it_does_not_know() -> None:
    for enforcer in enforcer_models.ENFORCERS:
        with pytest.raises(ModelError):
            admits(enforcer, "", {"surprise.bin": ""}, image())


# containers/image

SAME = {"type": "matchRepository"}
REGISTRIES = "docker:\n  r.example:\n    use-sigstore-attachments: true\n"


def signed(**fields: Any) -> Fields:
    return {"type": "sigstoreSigned", "signedIdentity": SAME, **fields}


def policy_json(scopes: Fields, default: str = "reject", registries: str = REGISTRIES, **more: str) -> Files:
    policy = {"default": [{"type": default}], "transports": {"docker": scopes}}
    return {"policy.json": json.dumps(policy), "etc/registries.d/own.yaml": registries, **more}


def containers(requirement: Fields, *signatures: Signature, scope: str = REPO, **more: Any) -> bool:
    return admits("containers", "", policy_json({scope: [requirement]}), image(*signatures, **more))


KEY = signed(keyData=b64(NEW))


@pytest.mark.parametrize(
    ("requirement", "signatures", "expected"),
    [
        (KEY, [SIG], True),
        (KEY, [], False),
        (KEY, [replace(SIG, signer=OLD)], False),
        (KEY, [BUNDLE], False),
        (KEY, [ATTESTED], False),
        (KEY, [replace(SIG, algorithm_hash="sha384")], False),
        (KEY, [replace(SIG, repository="r.example/ns/else")], False),
        (signed(keyDatas=[b64(OLD), b64(NEW)]), [SIG], True),
        (signed(keyData=b64(OLD + NEW)), [SIG], False),
        ({"type": "sigstoreSigned", "keyData": b64(NEW)}, [SIG], False),
        (KEY | {"signedIdentity": {"type": "exactRepository", "dockerRepository": "o.example/a"}}, [SIG], False),
        (KEY | {"rekorPublicKeyData": b64(LOG)}, [SIG], False),
        (KEY | {"rekorPublicKeyDatas": [b64(OTHER), b64(LOG)]}, [replace(SIG, log_key=LOG)], True),
    ],
)
def test_containers_keys(requirement: Fields, signatures: list[Signature], expected: bool) -> None:
    assert containers(requirement, *signatures) is expected


FULCIO = {"caData": b64(ROOT), "oidcIssuer": "https://i.example", "subjectEmail": "a@example.org"}
PKI = {"caRootsData": b64(ROOT), "subjectHostname": "s.example.org"}


@pytest.mark.parametrize(
    ("requirement", "signature", "expected"),
    [
        (signed(fulcio=FULCIO, rekorPublicKeyData=b64(LOG)), replace(MAIL, log_key=LOG), True),
        (signed(fulcio=FULCIO, rekorPublicKeyData=b64(LOG)), MAIL, False),
        (signed(fulcio=FULCIO, rekorPublicKeyData=b64(LOG)), replace(MAIL, log_key=LOG, san_type="uri"), False),
        (signed(fulcio=FULCIO, rekorPublicKeyData=b64(LOG)), replace(MAIL, log_key=LOG, issuer="https://o"), False),
        (signed(pki=PKI), PLAIN, True),
        (signed(pki=PKI), replace(PLAIN, root=LEFT), False),
        (signed(pki=PKI), replace(PLAIN, subject="*.example.org"), True),
        (signed(pki=PKI), replace(PLAIN, subject="t.example.org"), False),
        (signed(pki=PKI), replace(PLAIN, subject=None), False),
        (signed(pki=PKI | {"subjectEmail": "a@example.org"}), PLAIN, False),
    ],
)
def test_containers_certificates(requirement: Fields, signature: Signature, expected: bool) -> None:
    assert containers(requirement, signature) is expected


@pytest.mark.parametrize(
    "requirement",
    [
        signed(keyData=NEW),
        signed(keyData=b64(NEW), keyPath="/k.pem"),
        signed(keyPaths=["/k.pem"]),
        signed(fulcio=FULCIO),
        signed(pki=PKI, rekorPublicKeyData=b64(LOG)),
        signed(keyData=b64(NEW), keydata=""),
        KEY | {"signedIdentity": {"type": "remapIdentity"}},
        {"type": "signedBy"},
    ],
)
def test_containers_refuses(requirement: Fields) -> None:
    with pytest.raises(ModelError):
        containers(requirement, SIG)


@pytest.mark.parametrize("version", ["5.32.0", "5.34.0"])
def test_containers_versions(version: str) -> None:
    field: Fields = {"keyDatas": [b64(NEW)]} if version == "5.32.0" else {"pki": PKI}
    with pytest.raises(ModelError, match="Unknown key"):
        admits("containers", version, policy_json({REPO: [signed(**field)]}), image(SIG))


def test_containers_empty_requirements() -> None:
    with pytest.raises(ModelError, match="must not be empty"):
        admits("containers", "", policy_json({REPO: []}), image(SIG))


@pytest.mark.parametrize(
    ("scope", "covers"),
    [
        ("r.example/ns", True), ("r.example", True), ("*.example", True), ("", True), (f"{REPO}@{DIGEST}", True),
        ("r.example/ns/*", False), ("r.example/ns/", False), ("https://r.example/ns", False), ("r.example/n", False),
        (f"{REPO}:v1", False),
    ],
)
def test_containers_scopes(scope: str, covers: bool) -> None:
    assert containers(KEY, SIG, scope=scope) is covers


def test_containers_most_specific_scope_alone() -> None:
    open_child = policy_json({"r.example": [KEY], REPO: [{"type": "insecureAcceptAnything"}]})
    assert admits("containers", "", open_child, image())


def test_containers_tag_scope_does_not_cover_the_digest() -> None:
    files = policy_json({f"{REPO}:v1": [KEY]}, default="insecureAcceptAnything")
    assert admits("containers", "", files, image(tag="v1"))


def test_containers_requirements_are_and() -> None:
    files = policy_json({REPO: [KEY, signed(keyData=b64(OLD))]})
    assert verdicts("containers", files, image(SIG), image(SIG, replace(SIG, signer=OLD))) == [False, True]


def test_containers_checks_the_platforms_only() -> None:
    child, bare = image(SIG), image()
    files = policy_json({REPO: [KEY]})
    indexes = [image(SIG, children=(bare,)), image(children=(child, child)), image(children=(child, bare))]
    assert verdicts("containers", files, *indexes) == [False, True, False]


@pytest.mark.parametrize(
    ("registries", "expected"),
    [
        ("default-docker:\n  use-sigstore-attachments: true\n", True),
        ("docker:\n  r.example:\n    use-sigstore-attachments: true\n  r.example/ns:\n    lookaside: x\n", True),
        ("docker:\n  r.example/ns:\n    use-sigstore-attachments: false\n", False),
        ("docker: {}\n", False),
    ],
)
def test_containers_attachments(registries: str, expected: bool) -> None:
    files = policy_json({REPO: [KEY]}, registries=registries)
    assert admits("containers", "", files, image(SIG)) is expected


def test_containers_registries_files() -> None:
    ignored = policy_json({REPO: [KEY]}, registries="docker: {}\n") | {"registries.d/b.yml": REGISTRIES}
    assert not admits("containers", "", ignored, image(SIG))
    with pytest.raises(ModelError, match="another file"):
        admits("containers", "", policy_json({REPO: [KEY]}) | {"registries.d/b.yaml": REGISTRIES}, image(SIG))


def test_containers_key_file() -> None:
    files = policy_json({REPO: [signed(keyPaths=["/etc/keys/k.pem"])]}) | {"keys/k.pem": NEW}
    assert admits("containers", "", files, image(SIG))


def test_containers_namespace_replaces_the_policy() -> None:
    own = {"policies/team.json": json.dumps({"default": [{"type": "insecureAcceptAnything"}]})}
    files = policy_json({REPO: [KEY]}) | own
    assert verdicts("containers", files, image(namespace="team"), image()) == [True, False]


def test_containers_hub_name_of_cosign() -> None:
    hub = image(replace(SIG, repository="index.docker.io/library/nginx"), repository="docker.io/library/nginx")
    registries = "default-docker:\n  use-sigstore-attachments: true\n"
    files = policy_json({"docker.io/library/nginx": [KEY]}, registries=registries)
    assert admits("containers", "", files, hub)


# OpenShift


def image_policy(*scopes: str, key: str = NEW, kind: str = "ClusterImagePolicy", **more: Any) -> Fields:
    root = {"policyType": "PublicKey", "publicKey": {"keyData": b64(key)}}
    identity = more.pop("identity", {"matchPolicy": "MatchRepository"})
    policy = {"rootOfTrust": root} | ({"signedIdentity": identity} if identity else {})
    return resource("config.openshift.io/v1", kind, {"scopes": list(scopes), "policy": policy}, **more)


def test_openshift_one_key_and_what_is_not_covered() -> None:
    files = manifests(image_policy(REPO))
    images = [image(SIG), image(), image(BUNDLE), image(repository="o.example/a")]
    assert verdicts("openshift", files, *images) == [True, False, False, True]


def test_openshift_policies_on_one_scope_are_and() -> None:
    files = manifests(image_policy(REPO), image_policy(REPO, key=OLD, name="q"))
    assert verdicts("openshift", files, image(SIG), image(SIG, replace(SIG, signer=OLD))) == [False, True]


def test_openshift_default_identity_rejects_cosign() -> None:
    assert not admits("openshift", "", manifests(image_policy(REPO, identity=None)), image(SIG))


def test_openshift_image_policy_inside_a_cluster_scope_is_ignored() -> None:
    inner = image_policy(REPO, key=OLD, kind="ImagePolicy", name="q", namespace="team")
    files = manifests(image_policy("r.example/ns"), inner)
    assert admits("openshift", "", files, image(SIG, namespace="team"))
    only = manifests(inner)
    assert verdicts("openshift", only, image(SIG, namespace="team"), image(namespace="x")) == [False, True]


@pytest.mark.parametrize("scope", ["r.example/ns/*", "nodomain/app", "https://r.example", "r.example/ns/"])
def test_openshift_scopes(scope: str) -> None:
    with pytest.raises(ModelError):
        admits("openshift", "", manifests(image_policy(scope)), image(SIG))


def test_openshift_certificates() -> None:
    pki = {"caRootsData": b64(ROOT), "pkiCertificateSubject": {"hostname": "s.example.org"}}
    subject = {"oidcIssuer": "https://i.example", "signedEmail": "a@example.org"}
    fulcio = {"fulcioCAData": b64(ROOT), "rekorKeyData": b64(LOG), "fulcioSubject": subject}
    kinds = [("PKI", "pki", pki), ("FulcioCAWithRekor", "fulcioCAWithRekor", fulcio)]
    for (kind, field, value), good in zip(kinds, [PLAIN, replace(MAIL, log_key=LOG)]):
        document = image_policy(REPO)
        document["spec"]["policy"]["rootOfTrust"] = {"policyType": kind, field: value}
        bad = replace(good, subject="b@example.org")
        assert verdicts("openshift", manifests(document), image(good), image(bad)) == [True, False]


def test_openshift_raw_pem_and_remap() -> None:
    raw = image_policy(REPO)
    raw["spec"]["policy"]["rootOfTrust"]["publicKey"]["keyData"] = NEW
    for document in (raw, image_policy(REPO, identity={"matchPolicy": "RemapIdentity"})):
        with pytest.raises(ModelError):
            admits("openshift", "", manifests(document), image(SIG))


# policy-controller

CIP = "policy.sigstore.dev/v1beta1"


def cip(*authorities: Fields, glob: str = f"{REPO}@*", name: str = "p", **more: Any) -> Fields:
    spec = {"images": [{"glob": glob}], "authorities": list(authorities), **more}
    return resource(CIP, "ClusterImagePolicy", spec, name)


def authority(key: str = NEW, **more: Any) -> Fields:
    return {"key": {"data": key}, **more}


def no_match(value: str, **data: str) -> Fields:
    meta = {"name": "config-policy-controller", "namespace": "cosign-system"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"no-match-policy": value, **data}}


def trust_root() -> Fields:
    chain = {"subject": {"organization": "o", "commonName": "c"}, "uri": "https://x", "certChain": b64(LEFT + ROOT)}
    stamp = chain | {"certChain": b64(TSA + ROOT)}
    log = {"baseURL": "https://l", "hashAlgorithm": "sha-256", "publicKey": b64(LOG)}
    keys = {"certificateAuthorities": [chain], "tLogs": [log], "timestampAuthorities": [stamp]}
    return resource("policy.sigstore.dev/v1alpha1", "TrustRoot", {"sigstoreKeys": keys}, "tr")


def controller(document: Fields, *signatures: Signature, **more: Any) -> bool:
    return admits("policy_controller", "", manifests(document, trust_root()), image(*signatures, **more))


@pytest.mark.parametrize(
    ("authorities", "signatures", "expected"),
    [
        ([authority(OLD), authority(NEW)], [SIG], True),
        ([authority(OLD + NEW)], [SIG], False),
        ([authority()], [replace(SIG, repository="")], True),
        ([authority()], [BUNDLE], False),
        ([authority()], [ATTESTED], False),
        ([authority(signatureFormat="bundle")], [BUNDLE], False),
        ([{"key": {"data": NEW, "hashAlgorithm": "sha384"}}], [SIG], False),
        ([{"static": {"action": "pass"}}], [], True),
        ([{"static": {"action": "fail"}}], [SIG], False),
        ([], [SIG], False),
    ],
)
def test_controller_authorities(authorities: list[Fields], signatures: list[Signature], expected: bool) -> None:
    assert controller(cip(*authorities), *signatures) is expected


IDS = [{"subject": "s.example.org", "issuerRegExp": "^$"}]
ROOTED = {"trustRootRef": "tr", "identities": IDS, "insecureIgnoreSCT": True}
PUBLIC = {"identities": [{"subject": "a@example.org", "issuer": "https://i.example"}]}
STAMP = {"trustRootRef": "tr"}


@pytest.mark.parametrize(
    ("fields", "signature", "expected"),
    [
        (authority(), SIG, True),
        (authority(ctlog={"url": "https://r"}), SIG, False),
        (authority(ctlog={"url": "https://r"}), replace(SIG, log_key=LOG), False),
        (authority(ctlog={"url": "https://r"}), replace(SIG, log_key=PUBLIC_LOG), True),
        (authority(ctlog={"trustRootRef": "tr"}), replace(SIG, log_key=LOG), True),
        (authority(ctlog={"trustRootRef": "tr"}), replace(SIG, log_key=PUBLIC_LOG), False),
        (authority(rfc3161timestamp=STAMP), SIG, False),
        (authority(rfc3161timestamp=STAMP, ctlog={"url": "https://r"}), replace(SIG, timestamped_by=TSA), True),
        ({"keyless": PUBLIC}, replace(MAIL, root=PUBLIC_ROOT), False),
        ({"keyless": PUBLIC}, replace(MAIL, root=PUBLIC_ROOT, log_key=PUBLIC_LOG), True),
        ({"keyless": PUBLIC}, replace(MAIL, log_key=PUBLIC_LOG), False),
        ({"keyless": ROOTED}, PLAIN, True),
        ({"keyless": ROOTED}, replace(PLAIN, root=LEFT), False),
        ({"keyless": ROOTED}, replace(PLAIN, subject="*.example.org"), False),
        ({"keyless": ROOTED}, replace(PLAIN, subject=None), False),
        ({"keyless": ROOTED}, replace(PLAIN, issuer="https://i.example"), False),
        ({"keyless": {"ca-cert": {"data": ROOT}, "identities": IDS}}, PLAIN, False),
        ({"keyless": ROOTED | {"identities": [{"subjectRegExp": "example", "issuerRegExp": ".*"}]}}, PLAIN, True),
        ({"keyless": ROOTED | {"identities": [{"subjectRegExp": "^example$", "issuerRegExp": ".*"}]}}, PLAIN, False),
    ],
)
def test_controller_matrix(fields: Fields, signature: Signature, expected: bool) -> None:
    assert controller(cip(fields), signature) is expected


@pytest.mark.parametrize(
    ("glob", "repository", "matches"),
    [
        (f"{REPO}@*", REPO, True), (f"{REPO}:*", REPO, False), (f"{REPO}*", f"{REPO}-evil", True),
        ("r.example/*", REPO, False), ("r.example/**", REPO, True), ("**", REPO, True), ("*", REPO, False),
        ("*", "docker.io/library/nginx", True), ("docker.io/library/nginx@*", "docker.io/library/nginx", False),
        ("index.docker.io/library/nginx@*", "docker.io/library/nginx", True), ("*.example/**", REPO, True),
    ],
)
def test_controller_globs(glob: str, repository: str, matches: bool) -> None:
    assert controller(cip(authority(), glob=glob), SIG, repository=repository, tag="v1") is matches


def test_controller_every_matching_policy_must_pass() -> None:
    files = manifests(cip(authority()), cip(authority(OLD), glob="**", name="q"))
    assert verdicts("policy_controller", files, image(SIG), image(SIG, replace(SIG, signer=OLD))) == [False, True]


@pytest.mark.parametrize(("value", "expected"), [("deny", False), ("warn", True), ("allow", True)])
def test_controller_no_match(value: str, expected: bool) -> None:
    files = manifests(cip(authority()), no_match(value))
    assert admits("policy_controller", "", files, image(repository="o.example/a")) is expected


def test_controller_warn_and_empty_authorities() -> None:
    assert controller(cip(authority(), mode="warn"))
    files = manifests(cip(), no_match("deny", **{"fail-on-empty-authorities": "false"}))
    assert admits("policy_controller", "", files, image())


PROVENANCE = [{"name": "prov", "predicateType": "https://slsa.dev/provenance/v1"}]


def test_controller_authority_with_attestations_ignores_the_signature() -> None:
    document = cip(authority(attestations=PROVENANCE))
    assert [controller(document, SIG), controller(document, ATTESTED)] == [False, True]


def test_controller_policy_over_the_authorities() -> None:
    both = """
    package sigstore
    import "list"
    authorityMatches: {
      image: signatures: list.MinItems(1) & list.MaxItems(9)  // a comment
      "att": attestations: {"prov": [_, ...]}
    }
    """
    authorities = [authority(name="image"), authority(name="att", attestations=PROVENANCE)]
    document = cip(*authorities, policy={"type": "cue", "data": both})
    given = [(SIG,), (ATTESTED,), (SIG, ATTESTED)]
    assert [controller(document, *each) for each in given] == [False, False, True]
    assert controller(cip(*authorities), SIG)


def test_controller_bundle_attestations_need_a_keyless_authority() -> None:
    attested = replace(PLAIN, format="bundle", predicate_type="https://slsa.dev/provenance/v1")
    fields = {"keyless": ROOTED, "attestations": PROVENANCE, "signatureFormat": "bundle"}
    assert controller(cip(fields), attested)
    keyed = authority(attestations=PROVENANCE, signatureFormat="bundle")
    assert not controller(cip(keyed), replace(ATTESTED, format="bundle"))


def test_controller_oci11_trusts_unsigned_attestations() -> None:
    files = manifests(cip(authority(attestations=PROVENANCE)), no_match("deny", **{"enable-oci11": "true"}))
    assert admits("policy_controller", "", files, image(replace(ATTESTED, format="bundle", signer=OTHER)))


@pytest.mark.parametrize(
    "document",
    [
        cip(authority(), glob="r.example/{a,b}"),
        cip({"keyless": ROOTED | {"identities": [{"subject": "s", "issuer": "i", "issuerRegExp": "^$"}]}}),
        cip({"keyless": ROOTED | {"identities": []}}),
        cip({"keyless": ROOTED | {"identities": [{"subjectRegExp": "(?=x)", "issuer": "i"}]}}),
        cip(authority(ctlog={"trustRootRef": "gone"})),
        cip(authority(), policy={"type": "rego", "data": "x"}),
        cip(authority(kee=1)),
        cip({"key": {"secretRef": {"name": "x"}}}),
    ],
)
def test_controller_refuses(document: Fields) -> None:
    with pytest.raises(ModelError):
        controller(document, SIG)


# Kyverno ClusterPolicy

QUIET = {"rekor": {"ignoreTlog": True}, "ctlog": {"ignoreSCT": True}}
BOTH_REFS = [f"{REPO}:*", f"{REPO}@*"]
PODS = {"any": [{"resources": {"kinds": ["Pod"]}}]}


def keys(value: str = NEW, **more: Any) -> Fields:
    return {"keys": {"publicKeys": value, **QUIET, **more}}


def cpol(entry: Fields, references: list[str] | None = None, **more: Any) -> Fields:
    verify = {"imageReferences": references or BOTH_REFS, "failureAction": "Enforce", **entry}
    rule = {"name": "r", "match": PODS, "verifyImages": [verify]} | more
    return resource("kyverno.io/v1", "ClusterPolicy", {"rules": [rule]})


def entries(*values: Fields, **more: Any) -> Fields:
    return {"attestors": [{"entries": list(values), **more}]}


def kyverno(document: Fields, *signatures: Signature, version: str = "", **more: Any) -> bool:
    return admits("kyverno_cluster_policy", version, manifests(document), image(*signatures, **more))


@pytest.mark.parametrize(
    ("entry", "signatures", "expected"),
    [
        (entries(keys(), keys(OLD), count=1), [SIG], True),
        (entries(keys(), keys(OLD)), [SIG], False),
        (entries(keys(NEW + OLD)), [SIG], False),
        (entries(keys(OLD + NEW), count=1), [SIG], True),
        ({"attestors": [{"entries": [keys()]}, {"entries": [keys(OLD)]}]}, [SIG], False),
        (entries({"attestor": {"entries": [keys()]}}), [SIG], True),
        (entries(keys()), [BUNDLE], False),
        (entries({"keys": {"publicKeys": NEW}}), [SIG], False),
        (entries({"keys": {"publicKeys": NEW}}), [replace(SIG, log_key=PUBLIC_LOG)], True),
        (entries(keys(rekor={"pubkey": LOG, "url": "https://r"})), [replace(SIG, log_key=LOG)], True),
        (entries(keys(signatureAlgorithm="sha384")), [SIG], False),
        (entries(keys()) | {"failureAction": "Audit"}, [], True),
        (entries(keys()) | {"required": False}, [], True),
        ({}, [], True),
        (entries({"certificates": {"certChain": ROOT, **QUIET}}), [replace(PLAIN, subject="anybody")], True),
    ],
)
def test_cluster_policy_entries(entry: Fields, signatures: list[Signature], expected: bool) -> None:
    assert kyverno(cpol(entry), *signatures) is expected


def keyless(**fields: Any) -> Fields:
    return entries({"keyless": {"roots": ROOT, **QUIET, **fields}})


@pytest.mark.parametrize(
    ("fields", "signature", "expected"),
    [
        ({"subject": "s.example.org"}, PLAIN, True),
        ({"subject": "*.example.org"}, PLAIN, True),
        ({"subject": "?.example.org"}, PLAIN, True),
        ({"subject": "t.example.org"}, PLAIN, False),
        ({"subject": "t.example.org"}, replace(PLAIN, subject=None), True),
        ({"subject": "t.example.org", "subjectRegExp": "example"}, PLAIN, True),
        ({"subjectRegExp": "^example"}, PLAIN, False),
        ({}, PLAIN, True),
        ({"subject": "s.example.org"}, replace(PLAIN, root=LEFT), False),
        ({"subject": "s.example.org", "issuer": "https://*"}, PLAIN, False),
    ],
)
def test_cluster_policy_keyless(fields: Fields, signature: Signature, expected: bool) -> None:
    assert kyverno(cpol(keyless(**fields)), signature) is expected


def test_cluster_policy_without_failure_action_is_audit() -> None:
    document = cpol(entries(keys()))
    del document["spec"]["rules"][0]["verifyImages"][0]["failureAction"]
    assert kyverno(document)
    document["spec"]["validationFailureAction"] = "Enforce"
    assert not kyverno(document)


def test_cluster_policy_bundles() -> None:
    document = cpol(entries(keys()) | {"type": "SigstoreBundle"})
    assert [kyverno(document, BUNDLE, version="1.18.2"), kyverno(document, BUNDLE, version="1.19.0")] == [False, True]
    assert not kyverno(document, SIG)


@pytest.mark.parametrize(
    ("references", "repository", "tag", "denied"),
    [
        (BOTH_REFS, REPO, "v1", True),
        ([f"{REPO}:*"], REPO, None, False),
        ([f"{REPO}@*"], REPO, "v1", False),
        (["r.example/*"], REPO, "v1", True),
        (["docker.io/library/nginx*"], "docker.io/library/nginx", None, False),
        (["docker.io/library/nginx*", "docker.io/nginx*"], "docker.io/library/nginx", None, True),
        (["docker.io/team/*"], "docker.io/team/app", "v1", True),
    ],
)
def test_cluster_policy_references(references: list[str], repository: str, tag: str | None, denied: bool) -> None:
    assert kyverno(cpol(entries(keys()), references), repository=repository, tag=tag) is not denied


def test_cluster_policy_skipped_excluded_and_namespaced() -> None:
    assert kyverno(cpol(entries(keys()) | {"skipImageReferences": ["r.example/ns/*"]}))
    excluded = cpol(entries(keys()), exclude={"any": [{"resources": {"namespaces": ["kube-*"]}}]})
    assert [kyverno(excluded, namespace="kube-system"), kyverno(excluded)] == [True, False]
    policy = cpol(entries(keys())) | {"kind": "Policy", "metadata": {"name": "p", "namespace": "team"}}
    assert [kyverno(policy, namespace="team"), kyverno(policy)] == [False, True]


def test_cluster_policy_attestations() -> None:
    kind = {"type": "https://slsa.dev/provenance/v1"}
    document = cpol({"attestations": [kind | entries(keys())]})
    assert [kyverno(document, SIG), kyverno(document, ATTESTED)] == [False, True]
    anybody = cpol({"attestations": [kind]})
    assert kyverno(anybody, replace(ATTESTED, signer=OTHER))


def catch_all(pattern: str, *lists: str) -> Fields:
    spec = {name: [{"image": pattern}] for name in lists}
    rule = {"name": "c", "match": PODS, "validate": {"failureAction": "Enforce", "pattern": {"spec": spec}}}
    return resource("kyverno.io/v1", "ClusterPolicy", {"rules": [rule]})


ALL_LISTS = ("containers", "=(initContainers)", "=(ephemeralContainers)")


def test_cluster_policy_catch_all() -> None:
    document = catch_all("r.example/ns/* | o.example/*", *ALL_LISTS)
    images = [image(), image(repository="o.example/a/b"), image(repository="x.example/a")]
    assert verdicts("kyverno_cluster_policy", manifests(document), *images) == [True, True, False]
    assert kyverno(catch_all("r.example/*", "containers"), repository="x.example/a")
    assert not kyverno(catch_all("!x.example/*", *ALL_LISTS), repository="x.example/a")


@pytest.mark.parametrize(
    "entry",
    [
        entries({"keyless": {"subject": "s", **QUIET}}),
        entries(keys(), count=0),
        entries({"keys": {"kms": "awskms://x"}}),
        {"cosignOCI11": True},
        {"key": NEW},
        entries(),
    ],
)
def test_cluster_policy_refuses(entry: Fields) -> None:
    with pytest.raises(ModelError):
        kyverno(cpol(entry), SIG)


# Kyverno ImageValidatingPolicy

NO_LOG = {"url": "https://rekor.sigstore.dev", "insecureIgnoreTlog": True, "insecureIgnoreSCT": True}
RULES = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["pods"]}]
CALL = "verifyImageSignatures(image, [attestors.a])"
EACH = f"images.LIST.all(image, {CALL} > 0)"


def in_all(expression: str) -> list[Fields]:
    names = ("containers", "initContainers", "ephemeralContainers")
    return [{"expression": expression.replace("LIST", name)} for name in names]


def attestor(name: str, key: str = NEW, **more: Any) -> Fields:
    return {"name": name, "cosign": {"key": {"data": key}, "ctlog": NO_LOG, **more}}


def ivpol(*attestors: Fields, **more: Any) -> Fields:
    spec = {
        "failurePolicy": "Fail", "validationActions": ["Deny"], "matchConstraints": {"resourceRules": RULES},
        "matchImageReferences": [{"glob": each} for each in BOTH_REFS], "attestors": list(attestors) or [attestor("a")],
        "validations": in_all(EACH),
    }
    return resource("policies.kyverno.io/v1", "ImageValidatingPolicy", spec | more)


def validating(document: Fields, *signatures: Signature, version: str = "1.18.2", **more: Any) -> bool:
    return admits("kyverno_image_validating_policy", version, manifests(document), image(*signatures, **more))


FOREIGN = Signature("bundle", OTHER, predicate_type="https://x")


@pytest.mark.parametrize(
    ("document", "signatures", "expected"),
    [
        (ivpol(), [SIG], True),
        (ivpol(), [], False),
        (ivpol(), [BUNDLE], True),
        (ivpol(), [SIG, FOREIGN], False),
        (ivpol(attestor("a", OLD + NEW)), [SIG], False),
        (ivpol(attestor("a", ctlog={"url": "https://r"})), [SIG], False),
        (ivpol(attestor("a", ctlog={"url": "https://r", "rekorPubKey": LOG})), [replace(SIG, log_key=LOG)], True),
        (ivpol(attestor("a", ctlog={"insecureIgnoreTlog": True})), [SIG], False),
        (ivpol(attestor("a", ctlog={"insecureIgnoreTlog": True}), failurePolicy="Ignore"), [], True),
        (ivpol(validationActions=["Audit"]), [], True),
        (ivpol(validationActions=[]), [], True),
        (ivpol(matchConstraints={}), [], True),
        (ivpol(validations=in_all(EACH)[:1]), [], True),
        (ivpol(evaluation={"admission": {"enabled": False}}), [], True),
    ],
)
def test_validating_policy(document: Fields, signatures: list[Signature], expected: bool) -> None:
    assert validating(document, *signatures) is expected


def test_validating_policy_fallback_of_1_19() -> None:
    assert validating(ivpol(), SIG, FOREIGN, version="1.19.0")


@pytest.mark.parametrize(
    ("identity", "signature", "expected"),
    [
        ({"subject": "s.example.org", "issuerRegExp": "^$"}, PLAIN, True),
        ({"subject": "*.example.org", "issuerRegExp": "^$"}, PLAIN, False),
        ({"subjectRegExp": "example"}, PLAIN, True),
        ({"subjectRegExp": "example"}, replace(PLAIN, format="bundle"), False),
        ({"subjectRegExp": "example"}, replace(PLAIN, subject=None), False),
    ],
)
def test_validating_policy_keyless(identity: Fields, signature: Signature, expected: bool) -> None:
    fields = {"name": "a", "cosign": {"keyless": {"roots": ROOT, "identities": [identity]}, "ctlog": NO_LOG}}
    assert validating(ivpol(fields), signature) is expected


@pytest.mark.parametrize(
    ("glob", "repository", "denied"),
    [
        ("r.example/ns/*", REPO, True), ("r.example/*", REPO, False), ("r.example/**", REPO, True),
        ("docker.io/library/nginx@*", "docker.io/library/nginx", False),
    ],
)
def test_validating_policy_globs(glob: str, repository: str, denied: bool) -> None:
    document = ivpol(matchImageReferences=[{"glob": glob}])
    assert validating(document, repository=repository) is not denied


def test_validating_policy_reference_expression() -> None:
    document = ivpol(matchImageReferences=[{"expression": 'ref.matches("^[a-z]+\\\\.example/")'}])
    assert [validating(document), validating(document, repository="example.org/a")] == [False, True]


TWO = "[verifyImageSignatures(image, [attestors.a]) > 0, verifyImageSignatures(image, [attestors.b]) > 0]"


@pytest.mark.parametrize(
    ("expression", "needed"),
    [
        ("images.LIST.all(image, verifyImageSignatures(image, [attestors.a, attestors.b]) > 0)", 1),
        ("images.LIST.all(image, verifyImageSignatures(image, [attestors.a, attestors.b]) >= 2)", 2),
        ("images.LIST.map(i, verifyImageSignatures(i, [attestors['a'], attestors.b])).all(e, e > 0)", 1),
        (f"images.LIST.all(image, {TWO}.filter(passed, passed).size() >= 1)", 1),
        (f"images.LIST.all(image, {TWO}.filter(passed, passed).size() >= 2)", 2),
    ],
)
def test_validating_policy_expressions(expression: str, needed: int) -> None:
    document = ivpol(attestor("a"), attestor("b", OLD), validations=in_all(expression))
    given = [(), (SIG,), (SIG, replace(SIG, signer=OLD))]
    assert [validating(document, *each) for each in given] == [count >= needed for count in range(3)]


def test_validating_policy_attestations() -> None:
    expression = "images.LIST.all(image, verifyAttestationSignatures(image, attestations.prov, [attestors.a]) > 0)"
    more: Fields = {
        "attestations": [{"name": "prov", "intoto": {"type": "https://slsa.dev/provenance/v1"}}],
        "validations": in_all(expression),
    }
    logged = attestor("a", ctlog={"url": "https://r", "rekorPubKey": LOG})
    assert validating(ivpol(logged, **more), replace(ATTESTED, log_key=LOG))
    assert not validating(ivpol(**more), ATTESTED)


@pytest.mark.parametrize(
    "expression",
    [
        "true",
        "images.containers.exists(image, verifyImageSignatures(image, [attestors.a]) > 0)",
        "images.containers.all(image, verifyImageSignatures(image, [attestors.gone]) > 0)",
        "images.containers.all(image, verifyImageSignatures(image, [attestors.a]) > 0) || true",
        "images.containers.all(image, verifyImageSignatures(other, [attestors.a]) > 0)",
        "images.containers.all(image, verifyImageSignatures(image, [attestors.a]) == 0)",
    ],
)
def test_validating_policy_refuses_expressions(expression: str) -> None:
    with pytest.raises(ModelError, match="CEL"):
        validating(ivpol(validations=[{"expression": expression}]), SIG)


@pytest.mark.parametrize(
    ("document", "version"),
    [
        (ivpol(), "1.16.0"),
        (ivpol(validationActions=["Deny", "Warn"]), "1.18.2"),
        (ivpol(matchConstraints={}), "1.19.0"),
        (ivpol(attestor("a", source={"pullSecrets": []})), "1.18.2"),
        (ivpol(matchImageReferences=[{"glob": "x", "expression": "y"}]), "1.18.2"),
    ],
)
def test_validating_policy_refuses(document: Fields, version: str) -> None:
    with pytest.raises(ModelError):
        validating(document, SIG, version=version)


# Connaisseur

OFF: Fields = {"verifyInTransparencyLog": False}
STATICS = [{"name": "deny", "type": "static", "approve": False}, {"name": "allow", "type": "static", "approve": True}]


def values(*policy: Fields, roots: list[Fields] | None = None, **more: Any) -> Files:
    named = roots or [{"name": "default", "key": NEW}]
    validators = [{"name": "cosign", "type": "cosign", "trustRoots": named, **more.pop("validator", {})}, *STATICS]
    return {"values.yaml": yaml.safe_dump({"application": {"validators": validators, "policy": list(policy), **more}})}


def rule(pattern: str = f"{REPO}*", validator: str = "cosign", **options: Any) -> Fields:
    return {"pattern": pattern, "validator": validator} | ({"with": options} if options else {})


DENY_ALL = rule("*:*", "deny")
ROOTS = [{"name": "new", "key": NEW}, {"name": "old", "key": OLD}]


@pytest.mark.parametrize(
    ("options", "signatures", "expected"),
    [
        ({"trustRoot": "*", "threshold": 1, **OFF}, [SIG], True),
        ({"trustRoot": "*", **OFF}, [SIG], False),
        ({"trustRoot": "*", "required": ["new"], **OFF}, [SIG], True),
        ({"trustRoot": "*", "required": ["old"], "threshold": 1, **OFF}, [SIG], False),
        ({"trustRoot": "new", **OFF}, [SIG], True),
        ({"trustRoot": "old", **OFF}, [SIG], False),
        ({"trustRoot": "new"}, [SIG], False),
        ({"trustRoot": "new"}, [replace(SIG, log_key=PUBLIC_LOG)], True),
        ({"trustRoot": "new", **OFF}, [BUNDLE, ATTESTED, replace(SIG, algorithm_hash="sha512")], False),
    ],
)
def test_connaisseur_roots(options: Fields, signatures: list[Signature], expected: bool) -> None:
    files = values(rule(**options), DENY_ALL, roots=ROOTS)
    assert admits("connaisseur", "", files, image(*signatures)) is expected


def test_connaisseur_own_log_and_detection() -> None:
    files = values(rule(), DENY_ALL, validator={"host": {"rekorPubkey": LOG}})
    assert verdicts("connaisseur", files, image(replace(SIG, log_key=LOG)), image(SIG)) == [True, False]
    assert admits("connaisseur", "", values(DENY_ALL, features={"detectionMode": True}), image())


def test_connaisseur_keyless_is_unanchored() -> None:
    fields = {"name": "default", "keyless": {"issuer": "https://i.example", "subjectRegex": "example"}}
    files = values(rule(**OFF), DENY_ALL, roots=[fields], validator={"host": {"fulcioCert": ROOT}})
    assert verdicts("connaisseur", files, image(MAIL), image(replace(MAIL, root=LEFT))) == [True, False]


def test_connaisseur_most_specific_pattern() -> None:
    files = values(rule("*:*", "allow"), rule(f"{REPO}*", **OFF), rule("r.example/*", "deny"))
    images = [image(SIG), image(), image(repository="r.example/x"), image(repository="o.example/x")]
    assert verdicts("connaisseur", files, *images) == [True, False, False, True]


def test_connaisseur_tag_pattern_misses_the_digest() -> None:
    assert admits("connaisseur", "", values(rule("*:*", "allow"), rule(f"{REPO}:*", **OFF)), image())


@pytest.mark.parametrize(
    "files",
    [
        values(rule(trustRoot="gone")),
        values(rule(validator="gone")),
        values(rule(trustRoot="*", threshold=0)),
        values(rule(trustroot="*")),
        values(DENY_ALL, validator={"type": "notation"}),
    ],
)
def test_connaisseur_refuses(files: Files) -> None:
    with pytest.raises(ModelError):
        admits("connaisseur", "", files, image(SIG))


def test_connaisseur_pattern_with_something_before() -> None:
    files = values(rule("*:*", "deny"), rule(f"*{REPO}:*", **OFF), rule(f"*?{REPO}:*", "deny"))
    assert verdicts("connaisseur", files, image(SIG, tag="1"), image(SIG, tag="1", repository=f"evil{REPO}")) == [
        True, False,
    ]


def test_connaisseur_threshold_counts_signatures() -> None:
    files = values(rule(trustRoot="*", threshold=2, **OFF), DENY_ALL, roots=ROOTS)
    assert verdicts("connaisseur", files, image(SIG), image(SIG, SIG)) == [False, True]
    files = values(rule(trustRoot="*", required=["new", "old"], **OFF), DENY_ALL, roots=ROOTS)
    assert verdicts("connaisseur", files, image(SIG, SIG), image(SIG, replace(SIG, signer=OLD))) == [False, True]


# Wiz


def wiz(*validators: tuple[str, str, list[str]], enforcement: str = "BLOCK") -> Files:
    made = [
        {"name": name, "imagePatterns": list(patterns), "value": {"method": "COSIGN", "cosign": slot}}
        for name, key, patterns in validators
        for slot in [{"method": "KEY", "key": key}]
    ]
    policy = {"name": "p", "enforcement": enforcement, "imageIntegrityValidators": [each["name"] for each in made]}
    return {"image-integrity-validators.json": json.dumps({"imageIntegrityValidators": made, "policies": [policy]})}


WIZ_BOTH = [f"{REPO}:*", f"{REPO}@*"]


def test_wiz() -> None:
    files = wiz(("new", NEW, WIZ_BOTH))
    images = [image(SIG), image(BUNDLE), image(), image(replace(SIG, signer=OLD)), image(repository="o.example/a")]
    assert verdicts("wiz", files, *images) == [True, True, False, False, True]


def test_wiz_any_reading_admits() -> None:
    both = wiz(("new", NEW, WIZ_BOTH), ("old", OLD, WIZ_BOTH))
    assert admits("wiz", "", both, image(SIG))
    assert admits("wiz", "", wiz(("new", NEW, ["r.example/*"])), image())
    assert not admits("wiz", "", wiz(("new", NEW, ["r.example/**"])), image())


def test_wiz_audit_stops_nothing() -> None:
    assert admits("wiz", "", wiz(("new", NEW, WIZ_BOTH), enforcement="AUDIT"), image())


def test_wiz_two_keys_in_one_slot() -> None:
    assert not admits("wiz", "", wiz(("new", OLD + NEW, WIZ_BOTH)), image(SIG))


# What the models share


def test_duplicate_fields_and_manifests_are_refused() -> None:
    with pytest.raises(ModelError, match="twice"):
        admits("openshift", "", {"a.yaml": "kind: A\nkind: B\n"}, image())
    with pytest.raises(ModelError, match="twice"):
        admits("containers", "", {"policy.json": '{"default": [], "default": []}'}, image())
    with pytest.raises(ModelError, match="same kind"):
        admits("openshift", "", manifests(image_policy(REPO), image_policy(REPO)), image())
