# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is wrong with manifests and Helm values of clusters; see the files of the enforcers for where this is from."""

from __future__ import annotations

import itertools
import typing as t

from .lint_texts import Finding

Document = dict[str, t.Any]
Findings = t.Iterator[Finding]


def kind_of(document: Document) -> t.Callable[[Document], Findings] | None:
    """Return what looks at a document, or None if nothing does."""
    if "imageIntegrityValidators" in document or "wiz_image_integrity_validator" in _dict(document, "resource"):
        return _nothing
    if "cosignKeys" in document and "cosign" in document:
        return _ratify_values
    application = document.get("application")
    if isinstance(application, dict) and "validators" in application:
        return _connaisseur
    group = str(document.get("apiVersion", "")).partition("/")[0]
    return _KINDS.get((group, str(document.get("kind", ""))))


def together(documents: list[t.Any]) -> Findings:
    """Yield what only all documents of a file show: what is said twice, and what is said nowhere."""
    yield from _same_scopes(documents)
    rules = [
        rule for document in documents if isinstance(document, dict) and kind_of(document) is _kyverno
        for rule in _dicts(_dict(document, "spec"), "rules")
    ]
    verifying = [images for rule in rules for images in _dicts(rule, "verifyImages")]
    has_all = any("*" in _list(images, "imageReferences") for images in verifying)
    if verifying and not has_all and not any("validate" in rule for rule in rules):
        yield Finding("catch_all_missing", "spec.rules", "images that no reference matches are admitted; deny them")


def _same_scopes(documents: list[t.Any]) -> Findings:
    """Yield policies of OpenShift that must all be satisfied for one scope."""
    scopes: dict[str, str] = {}
    for document in documents:
        if not isinstance(document, dict) or kind_of(document) is not _openshift:
            continue
        name = str(_dict(document, "metadata").get("name", ""))
        for scope in _list(_dict(document, "spec"), "scopes"):
            if scopes.setdefault(str(scope), name) != name:
                yield Finding(
                    "all_required", f"{name}: spec.scopes",
                    f"{scope} is one of {scopes[str(scope)]}, too, and an image needs the signatures of both",
                )


# --- policy-controller -----------------------------------------------------------------------------------------------


def _policy_controller(document: Document) -> Findings:
    spec = _dict(document, "spec")
    if spec.get("mode") == "warn":
        yield Finding("not_enforced", "spec.mode", "it warns, and denies nothing")
    globs = [str(one.get("glob", "")) for one in _dicts(spec, "images")]
    for number, glob in enumerate(globs):
        host, _slash, path = glob.partition("/")
        repository = path.rpartition(":")[0]
        if ":" in path and "@" not in path and f"{host}/{repository}@*" not in globs:
            yield Finding(
                "glob_matches_nothing", f"spec.images[{number}].glob",
                f"{glob!r} names a tag, and what is compared ends with a digest; write {host}/{repository}@*, too",
            )
    for number, authority in enumerate(_dicts(spec, "authorities")):
        yield from _authority(f"spec.authorities[{number}]", authority)


def _authority(place: str, authority: Document) -> Findings:
    keyless = authority.get("keyless")
    if isinstance(keyless, dict) and ("ca-cert" in keyless or not _list(keyless, "identities")):
        yield Finding("chain_without_san", f"{place}.keyless", "it says nothing about who signed; write identities")
    if authority.get("signatureFormat") == "bundle" and "key" in authority:
        yield Finding("bundle_by_key", place, "bundles by a key are not read there, and every image would be denied")
    if "attestations" in authority:
        yield Finding(
            "signature_not_checked", place, "with attestations, the signature of the image is no longer looked at; "
            "write a second policy for it",
        )


def _config_map(document: Document) -> Findings:
    answer = _dict(document, "data").get("no-match-policy")
    if answer in ("allow", "warn"):
        yield Finding(
            "catch_all_missing", "data.no-match-policy",
            "images without a policy are admitted, also those whose policy an error took away; write deny",
        )


# --- Kyverno ---------------------------------------------------------------------------------------------------------


def _kyverno(document: Document) -> Findings:
    for rule in _dicts(_dict(document, "spec"), "rules"):
        for number, images in enumerate(_dicts(rule, "verifyImages")):
            yield from _verify_images(f"{rule.get('name')}: verifyImages[{number}]", images)


def _verify_images(place: str, images: Document) -> Findings:
    if images.get("failureAction", "Audit") != "Enforce":
        yield Finding("not_enforced", place, "its failureAction is not Enforce, and it denies nothing")
    sets = [*_dicts(images, "attestors"), *itertools.chain.from_iterable(
        _dicts(one, "attestors") for one in _dicts(images, "attestations")
    )]
    for number, one in enumerate(sets):
        entries = _dicts(one, "entries")
        if len(entries) > 1 and "count" not in one:
            yield Finding(
                "count_missing", f"{place}.attestors[{number}]", f"all of its {len(entries)} entries must have signed; "
                "write count: 1 for any of them",
            )
        for entry in entries:
            yield from _entry(f"{place}.attestors[{number}]", entry)


def _entry(place: str, entry: Document) -> Findings:
    certificates, keyless, keys = (_dict(entry, name) for name in ("certificates", "keyless", "keys"))
    unnamed = {"subject", "subjectRegExp"}.isdisjoint(keyless)
    if ("certChain" in certificates and "cert" not in certificates) or ("roots" in keyless and unnamed):
        yield Finding("chain_without_san", place, "everybody whom the CA knows may sign; name the signer")
    for name in ("subject", "issuer"):
        if set("*?") & set(str(keyless.get(name, ""))):
            yield Finding(
                "wildcard_identity", f"{place}.{name}", f"{keyless[name]!r} is a wildcard; write an expression, "
                "or the whole name",
            )
    offline = _dict(keys, "rekor").get("ignoreTlog") and _dict(keys, "ctlog").get("ignoreSCT")
    if keys and not offline and "url" not in _dict(keys, "rekor"):
        yield Finding(
            "public_log", place,
            "the public log is asked for each signature; write rekor.ignoreTlog and ctlog.ignoreSCT, or the log",
        )


def _validating(document: Document) -> Findings:
    spec = _dict(document, "spec")
    if "Deny" not in _list(spec, "validationActions"):
        yield Finding("not_enforced", "spec.validationActions", "it denies nothing; write Deny")
    if spec.get("failurePolicy") != "Fail":
        yield Finding("fails_open", "spec.failurePolicy", "an error may admit an image; write Fail")
    if not _list(_dict(spec, "matchConstraints"), "resourceRules"):
        yield Finding("matches_nothing", "spec.matchConstraints", "without resourceRules it looks at nothing")
    for number, one in enumerate(_dicts(spec, "matchImageReferences")):
        if "glob" in one:
            yield Finding(
                "glob_of_pod", f"spec.matchImageReferences[{number}].glob",
                "it is compared with what stands in the pod, where host and tag may be missing: such images would be "
                "admitted; write an expression",
            )
    for number, attestor in enumerate(_dicts(spec, "attestors")):
        cosign = _dict(attestor, "cosign")
        if "certChain" in _dict(cosign, "certificate"):
            yield Finding(
                "chain_without_san", f"spec.attestors[{number}].cosign.certificate",
                "everybody whom the CA knows may sign; pin keys",
            )
        if "ctlog" in cosign and "url" not in _dict(cosign, "ctlog"):
            yield Finding(
                "log_url_missing", f"spec.attestors[{number}].cosign.ctlog", "without url, the check fails up to 1.18"
            )


# --- the others ------------------------------------------------------------------------------------------------------


def _openshift(document: Document) -> Findings:
    policy = _dict(_dict(document, "spec"), "policy")
    match = _dict(policy, "signedIdentity").get("matchPolicy", "MatchRepoDigestOrExact")
    if match == "MatchRepoDigestOrExact":
        yield Finding(
            "identity_default", "spec.policy.signedIdentity",
            "signatures of cosign name no tag, so that this matches none; write MatchRepository or ExactRepository",
        )
    pki = _dict(_dict(policy, "rootOfTrust"), "pki")
    if pki and not _dict(pki, "pkiCertificateSubject"):
        yield Finding("chain_without_san", "spec.policy.rootOfTrust.pki", "everybody whom the CA knows may sign")


def _connaisseur(document: Document) -> Findings:
    application = document["application"]
    rules = _dicts(application, "policy")
    static = {
        str(one.get("name")): one.get("approve") for one in _dicts(application, "validators")
        if one.get("type") == "static"
    }
    others = [static.get(str(one.get("validator"))) for one in rules if str(one.get("pattern")) in ("*:*", "*")]
    if others != [False]:
        yield Finding("catch_all_missing", "application.policy", "no pattern denies images that have none of their own")
    if _dict(application, "features").get("detectionMode"):
        yield Finding("not_enforced", "application.features.detectionMode", "it warns, and denies nothing")
    for number, rule in enumerate(rules):
        options, place = _dict(rule, "with"), f"application.policy[{number}].with"
        if options.get("trustRoot") == "*" and not {"threshold", "required"} & set(options):
            yield Finding("count_missing", place, "all trust roots must have signed; write threshold: 1 for any")
        threshold = options.get("threshold", 0)
        if isinstance(threshold, int) and threshold > 1:
            yield Finding(
                "threshold_counts_signatures", place, f"{threshold} signatures by one key are enough; write required"
            )


def _ratify(document: Document) -> Findings:
    parameters = _dict(_dict(document, "spec"), "parameters")
    if _list(parameters, "trustPolicies") and _dict(document, "spec").get("name") == "cosign":
        yield Finding(
            "digest_unchecked", "spec.parameters.trustPolicies", "as of Ratify 1.4.0, the digest in a signature is not "
            "compared with the image's here: a signature of another image will do; write key",
        )


def _ratify_values(document: Document) -> Findings:
    if _list(document, "cosignKeys"):
        yield Finding(
            "digest_unchecked", "cosignKeys", "with it the chart writes trustPolicies, by which, as of Ratify 1.4.0, a "
            "signature of another image will do; write cosign.key",
        )


def _constraint(document: Document) -> Findings:
    if _dict(document, "spec").get("enforcementAction", "deny") != "deny":
        yield Finding("not_enforced", "spec.enforcementAction", "it denies nothing")


def _nothing(_document: Document) -> Findings:
    return iter(())


_KINDS: dict[tuple[str, str], t.Callable[[Document], Findings]] = {
    ("policy.sigstore.dev", "ClusterImagePolicy"): _policy_controller, ("policy.sigstore.dev", "TrustRoot"): _nothing,
    ("v1", "ConfigMap"): _config_map, ("apps", "Deployment"): _nothing,
    ("kyverno.io", "ClusterPolicy"): _kyverno, ("kyverno.io", "Policy"): _kyverno,
    ("policies.kyverno.io", "ImageValidatingPolicy"): _validating,
    ("policies.kyverno.io", "NamespacedImageValidatingPolicy"): _validating,
    ("config.openshift.io", "ClusterImagePolicy"): _openshift, ("config.openshift.io", "ImagePolicy"): _openshift,
    ("config.ratify.deislabs.io", "Verifier"): _ratify, ("config.ratify.deislabs.io", "NamespacedVerifier"): _ratify,
    ("config.ratify.deislabs.io", "KeyManagementProvider"): _nothing,
    ("constraints.gatekeeper.sh", "RatifyVerification"): _constraint,
    ("constraints.gatekeeper.sh", "HallmarkSigning"): _constraint,
    ("templates.gatekeeper.sh", "ConstraintTemplate"): _nothing,
}


def _dict(source: t.Any, name: str) -> Document:
    found = source.get(name) if isinstance(source, dict) else None
    return found if isinstance(found, dict) else {}


def _list(source: t.Any, name: str) -> list[t.Any]:
    found = source.get(name) if isinstance(source, dict) else None
    return found if isinstance(found, list) else []


def _dicts(source: t.Any, name: str) -> list[Document]:
    return [one for one in _list(source, name) if isinstance(one, dict)]
