# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an enforcer cannot express is refused, with the reason and what to do instead; it is never weakened.

Each enforcer describes what it is able to do, in its version, as C(Abilities); everything else about refusing is here.
"""

from __future__ import annotations

import datetime
import itertools
import re
import typing as t
from dataclasses import dataclass

from .._keys import pem
from .._oci.pattern import Kind, Pattern
from .model import Authority, Certified, Keyless, Keys, Policy, Rule

# How a rule may demand several authorities: any one of them, every one, or some number between.
Choice = t.Literal["any", "all", "some"]
IdentityKind = t.Literal["keys", "certified", "keyless"]
# What becomes of an image that several patterns match: the most specific counts, or each has to be satisfied.
Overlap = t.Literal["most specific", "all"]

# Keys whose signatures come with SHA-256, or the hash inside of Ed25519, whatever made them.
_READ_BY_ALL = ("ecdsa-p256", "rsa-2048", "rsa-3072", "rsa-4096", "ed25519")
_SHA256 = ("ecdsa-sha256", "rsa-pkcs1v15-sha256", "ed25519")

# code: why, and what to do instead
ROWS: dict[str, tuple[str, str]] = {
    "version_unsupported": (
        "this version cannot verify these signatures",
        "Upgrade the enforcer, or leave it out; for containers, the version of containers/image is meant.",
    ),
    "build_unsupported": (
        "{program} was built without verification of these signatures, as in Debian 12, and would reject every image",
        "Use the programs of Debian 13, or others.",
    ),
    "choice_unsupported": (
        "it cannot demand {threshold} of {count} authorities",
        "Name one authority, or demand what docs/trust_policy.md says that it can.",
    ),
    "overlap_unsupported": (
        "it takes one key for an authority, and this one has {count}",
        "Sign with both keys while a rotation lasts, and name only one of them here.",
    ),
    "mixed_authorities": (
        "of several authorities, any of which may sign, it takes pinned keys only", "Split the rule by authority.",
    ),
    "mixed_logs": (
        "it demands log entries of all authorities of a rule, of one log, or of none", "Demand the same log of each.",
    ),
    "mixed_roots": ("it takes one set of roots for all authorities of a rule", "Split the rule by authority."),
    "counted_keys": (
        "it counts keys, and two generations of one authority would be two signers",
        "Name one key of each, or demand only one of them.",
    ),
    "identity_unsupported": ("it knows no {kind} authorities", "Pin public keys."),
    "algorithm_unsupported": (
        "it verifies SHA-256 only, and signatures of {algorithm} keys come with other hashes",
        "Sign with a P-256, RSA or Ed25519 key, or name signature_algorithm with SHA-256.",
    ),
    "key_unsupported": ("it takes {families} keys only, and one is {algorithm}", "Sign with a P-256 key."),
    "one_key_only": (
        "it verifies all images with one key, and the rules name {count}", "Name one authority with one key.",
    ),
    "scheme_unsupported": (
        "it cannot be told to demand {algorithm}", "Leave signature_algorithm out and use a P-256 or RSA key.",
    ),
    "san_unsupported": ("it cannot compare a name of type {kind}", "Use certificates with a name that it compares."),
    "regexp_unsupported": ("it compares names, and knows no expressions", "Name the signer with value."),
    "usage_unsupported": ("it demands code signing of every certificate", "Leave eku at codeSigning."),
    "short_life": (
        "a certificate of its CA ends on {ends}, before the policy, and every pull would fail then",
        "Pin the public key, or let not_after of the policy come first.",
    ),
    "subject_unsupported": (
        "it compares e-mail addresses only, letter by letter", "Pin public keys, or sign as a person with an address.",
    ),
    "root_missing": ("it needs the roots of the issuer", "Give trusted_root_path."),
    "unproven_time": (
        "without a log entry or timestamp, a short-lived certificate could not be verified",
        "Demand a log, with its public key.",
    ),
    "log_unsupported": ("it cannot demand an entry of this log", "Verify log entries with image_verify."),
    "log_url_missing": ("it must be told where the log is", "Give rekor_url."),
    "timestamp_unsupported": (
        "it cannot demand timestamps of {kind} authorities", "Verify timestamps with image_verify.",
    ),
    "log_ignored": ("it would ignore the log where it has timestamps", "Demand one of both."),
    "attestation_unsupported": ("it does not look at attestations", "Verify them before the deployment."),
    "pattern_unsupported": ("it has no word for the pattern {pattern}", "Name the repositories, or their namespace."),
    "namespace_unsupported": (
        "its rules hold in all namespaces of the cluster", "Leave namespaces out, or make the repositories differ.",
    ),
    "hidden_rule": (
        "{pattern} lies in {other} of rule {rule}, which holds in all namespaces and would hide it",
        "Make the patterns disjoint.",
    ),
    "similar_hosts": (
        "it compares the ends of host names, and {pattern} would be about {other} of rule {rule}, too",
        "Name hosts of which none ends like another.",
    ),
    "overlapping_rules": (
        "{pattern} overlaps with {other} of rule {rule}, and there every rule that matches must be satisfied",
        "Make the patterns disjoint.",
    ),
    "same_scope": (
        "{pattern} and {other} of rule {rule} are one scope there", "Put both under one rule, or leave one out.",
    ),
    "default_unsupported": ("{words}", "Use default: {instead}."),
    "denial_unsupported": (
        "it cannot deny single keys, and {count} of denied_key_ids may be in certificates that it would accept",
        "Replace the CA, or pin public keys.",
    ),
}


@dataclass(frozen=True)
class Refusal:
    """Something of the policy that the enforcer cannot express: where it stands, why, and what to do instead."""

    code: str
    policy_path: str
    message: str
    instead: str

    def as_dict(self) -> dict[str, str]:
        """Return the shape of the module contract."""
        return {
            "code": self.code, "policy_path": self.policy_path, "message": self.message, "instead": self.instead,
        }


def refusal(code: str, path: str, **details: t.Any) -> Refusal:
    """Return the refusal of a row."""
    message, instead = ROWS[code]
    return Refusal(code, path, message.format(**details), instead.format(**details))


@dataclass(frozen=True)
class Abilities:
    """What an enforcer can express, in one version.

    C(mixes) says that keys and certificates may stand under one choice, C(any_of_keys_only) that a choice is one of
    keys only, C(logs_differ) that its authorities may demand different logs, C(one_validator) that all authorities of a
    rule share a log and roots. C(max_keys) bounds an authority's keys, C(max_keys_in_all) those of all rules;
    C(key_families) are the kinds that are taken. C(counts_keys) says that it counts keys where authorities are meant,
    and whether that matters also where all are demanded. C(merges_scopes) says that a repository and the namespace of
    the same name are one, C(compares_ends) that a host is also any whose name ends so, C(root_hides_log) that a keyless
    authority with roots of its own has no log unless one is named. With C(namespaces) a rule may be for some only; with
    C(cluster_hides) those for all come first.
    """

    choices: frozenset[Choice]
    identities: frozenset[IdentityKind]
    patterns: frozenset[Kind]
    overlap: Overlap = "most specific"
    merges_scopes: bool = False
    counts_keys: Choice | None = None
    compares_ends: bool = False
    namespaces: bool = False
    cluster_hides: bool = False
    defaults: frozenset[str] = frozenset(("reject", "accept"))
    max_keys: int | None = None
    max_keys_in_all: int | None = None
    key_families: frozenset[str] | None = None
    mixes: bool = False
    any_of_keys_only: bool = False
    other_hashes: bool = False
    san_types: frozenset[str] = frozenset()
    san_regexp: bool = False
    keyless_any_subject: bool = False
    keyless_needs_log: bool = False
    keyless_needs_root: bool = False
    root_hides_log: bool = False
    logs: frozenset[IdentityKind] = frozenset()
    log_algorithms: frozenset[str] | None = None
    logs_differ: bool = True
    one_validator: bool = False
    log_needs_url: bool = False
    timestamps: frozenset[IdentityKind] = frozenset()
    timestamps_hide_logs: bool = False
    attestations: bool = False


def refusals(policy: Policy, abilities: Abilities) -> tuple[Refusal, ...]:
    """Return all of a policy that an enforcer with these abilities cannot express; none means that it is rendered."""
    used = {authority.name: authority for rule in policy.rules for authority in rule.authorities}
    return (
        *_of_default(policy, abilities),
        *(found for authority in used.values() for found in _of_authority(policy, authority, abilities)),
        *(found for rule in policy.rules for found in _of_rule(rule, abilities)),
        *(_overlaps(policy) if abilities.overlap == "all" else ()),
        *(_merged_scopes(policy) if abilities.merges_scopes else ()),
        *(_hidden(policy) if abilities.cluster_hides else ()),
        *(_similar_hosts(policy) if abilities.compares_ends else ()),
        *_of_denials(policy, used.values()),
        *_of_keys_in_all(used.values(), abilities),
    )


def kind_of(authority: Authority) -> IdentityKind:
    """Return the kind of an authority."""
    return {Keys: "keys", Certified: "certified", Keyless: "keyless"}[type(authority.identity)]  # type: ignore[return-value]


def choice_of(threshold: int, count: int) -> Choice:
    """Return how C(threshold) of C(count) authorities are demanded; one of one is any of them."""
    return "any" if threshold == 1 else "all" if threshold == count else "some"


def _of_default(policy: Policy, abilities: Abilities) -> t.Iterator[Refusal]:
    if policy.default not in abilities.defaults:
        other = "accept" if policy.default == "reject" else "reject"
        words = {
            "accept": "it rejects what no rule is about", "reject": "it admits what no rule is about",
        }[policy.default]
        yield refusal("default_unsupported", "default", words=words, instead=other)


def _of_authority(policy: Policy, authority: Authority, abilities: Abilities) -> t.Iterator[Refusal]:
    path = f"authorities.{authority.name}"
    kind = kind_of(authority)
    if kind not in abilities.identities:
        yield refusal("identity_unsupported", path, kind=kind)
        return
    identity = authority.identity
    if isinstance(identity, Keys):
        yield from _of_keys(identity, path, abilities)
    elif isinstance(identity, Certified):
        yield from _of_certified(identity, path, abilities)
        if authority.timestamp is None and not authority.log:
            yield from _of_life(policy, identity, path)
    else:
        yield from _of_keyless(authority, identity, path, abilities)
    if authority.log and (kind not in abilities.logs or not _takes_log(authority.log.public_key, abilities)):
        yield refusal("log_unsupported", f"{path}.log")
    if authority.log and authority.log.rekor_url is None and abilities.log_needs_url:
        yield refusal("log_url_missing", f"{path}.log")
    if authority.timestamp and kind not in abilities.timestamps:
        yield refusal("timestamp_unsupported", f"{path}.timestamp", kind=kind)
    if authority.timestamp and authority.log and abilities.timestamps_hide_logs:
        yield refusal("log_ignored", f"{path}.log")


def _of_keys(identity: Keys, path: str, abilities: Abilities) -> t.Iterator[Refusal]:
    if abilities.max_keys is not None and len(identity.keys) > abilities.max_keys:
        yield refusal("overlap_unsupported", path, count=len(identity.keys))
    scheme = identity.signature_algorithm
    for key in identity.keys:
        is_read = scheme in _SHA256 if scheme else key.algorithm.name in _READ_BY_ALL
        if not is_read and not abilities.other_hashes:
            yield refusal("algorithm_unsupported", path, algorithm=key.algorithm.name)
        if abilities.key_families is not None and key.algorithm.family not in abilities.key_families:
            families = " and ".join(sorted(abilities.key_families))
            yield refusal("key_unsupported", path, families=families, algorithm=key.algorithm.name)
    # They would verify signatures of the usual kind instead, which do not count.
    if scheme and ("pss" in scheme or scheme == "ed25519ph"):
        yield refusal("scheme_unsupported", path, algorithm=scheme)


def _of_certified(identity: Certified, path: str, abilities: Abilities) -> t.Iterator[Refusal]:
    if identity.san_type not in abilities.san_types:
        yield refusal("san_unsupported", f"{path}.san", kind=identity.san_type)
    if identity.regexp is not None and not abilities.san_regexp:
        yield refusal("regexp_unsupported", f"{path}.san")
    if identity.eku != "codeSigning":
        yield refusal("usage_unsupported", f"{path}.eku")


def _of_life(policy: Policy, identity: Certified, path: str) -> t.Iterator[Refusal]:
    if policy.not_after is None:
        return
    end = datetime.datetime.strptime(policy.not_after, "%Y-%m-%dT%H:%M:%S%z")
    if identity.ends < end:
        yield refusal("short_life", path, ends=identity.ends.strftime("%Y-%m-%d"))


def _of_keyless(authority: Authority, identity: Keyless, path: str, abilities: Abilities) -> t.Iterator[Refusal]:
    is_address = identity.subject is not None and re.fullmatch(r"[^@\s:/]+@[^@\s:/]+", identity.subject)
    if not abilities.keyless_any_subject and (not is_address or identity.issuer is None):
        yield refusal("subject_unsupported", f"{path}.keyless")
    if abilities.keyless_needs_root and identity.trusted_root is None:
        yield refusal("root_missing", f"{path}.keyless")
    needs_log = abilities.keyless_needs_log or (abilities.root_hides_log and identity.trusted_root is not None)
    if needs_log and authority.log is None and authority.timestamp is None:
        yield refusal("unproven_time", path)


def _takes_log(public_key: str, abilities: Abilities) -> bool:
    if abilities.log_algorithms is None:
        return True
    return pem.read_public_key(public_key.encode(), where="log").algorithm.family in abilities.log_algorithms


def _of_rule(rule: Rule, abilities: Abilities) -> t.Iterator[Refusal]:
    several = [("any_of", rule.any_of, rule.threshold)]
    several += [
        (f"attestations[{number}].any_of", one.any_of, 1) for number, one in enumerate(rule.attestations)
    ]
    for member, authorities, threshold in several:
        count = len(authorities)
        if count > 1 and choice_of(threshold, count) not in abilities.choices:
            yield refusal("choice_unsupported", f"{rule.path}.{member}", threshold=threshold, count=count)
        kinds = {kind_of(one) for one in authorities}
        if threshold < count and (
            (len(kinds) > 1 and not abilities.mixes) or (kinds != {"keys"} and abilities.any_of_keys_only)
        ):
            yield refusal("mixed_authorities", f"{rule.path}.{member}")
        counted = abilities.counts_keys == "all" or threshold < count
        if abilities.counts_keys and threshold > 1 and counted and any(len(one.keys) > 1 for one in authorities):
            yield refusal("counted_keys", f"{rule.path}.{member}")
        is_one = abilities.one_validator or (threshold < count and not abilities.logs_differ)
        if is_one and len({one.log for one in authorities}) > 1:
            yield refusal("mixed_logs", f"{rule.path}.{member}")
        roots = {one.identity.trusted_root for one in authorities if isinstance(one.identity, Keyless)}
        if abilities.one_validator and len(roots) > 1:
            yield refusal("mixed_roots", f"{rule.path}.{member}")
    for number, image in enumerate(rule.images):
        if image.kind not in abilities.patterns:
            yield refusal("pattern_unsupported", f"{rule.path}.images[{number}]", pattern=image)
    if rule.namespaces and not abilities.namespaces:
        yield refusal("namespace_unsupported", f"{rule.path}.namespaces")
    if rule.attestations and not abilities.attestations:
        yield refusal("attestation_unsupported", f"{rule.path}.attestations")


def _overlaps(policy: Policy) -> t.Iterator[Refusal]:
    """Yield a refusal for each pair of patterns, of two rules, that some repository is matched by."""
    named = [(number, pattern) for number, rule in enumerate(policy.rules) for pattern in rule.patterns]
    # Of two patterns of one host that overlap, the path of one begins with that of the other.
    at: dict[tuple[str, str], list[tuple[int, Pattern]]] = {}
    for number, pattern in named:
        at.setdefault((pattern.host, pattern.path), []).append((number, pattern))
    domains = [(number, pattern) for number, pattern in named if pattern.kind == "domain"]
    pairs = {
        tuple(sorted((one, other), key=lambda two: two[0]))
        for one in named
        for other in itertools.chain(domains, *(
            at.get((one[1].host, one[1].path[:length]), ()) for length in range(len(one[1].path) + 1)
        ))
        if one[0] != other[0] and one[1].overlaps(other[1])
    }
    for (first, other), (second, pattern) in sorted(pairs, key=str):
        place = f"{policy.rules[second].path}.images"
        yield refusal("overlapping_rules", place, pattern=pattern, other=other, rule=policy.rules[first].name)


def _merged_scopes(policy: Policy) -> t.Iterator[Refusal]:
    """Yield a refusal for each scope with two meanings; the same pattern may mean something else in a namespace."""
    known: dict[tuple[str, str, bool], tuple[Rule, Pattern]] = {}
    for rule in policy.rules:
        for pattern in rule.patterns:
            scope = (pattern.host, pattern.path, pattern.kind == "domain")
            first, other = known.setdefault(scope, (rule, pattern))
            if first is not rule and (pattern.kind != other.kind or first.namespaces == rule.namespaces):
                yield refusal("same_scope", f"{rule.path}.images", pattern=pattern, other=other, rule=first.name)


def _hidden(policy: Policy) -> t.Iterator[Refusal]:
    """Yield a refusal for each pattern of a namespace that a rule for all namespaces has something to say about."""
    known: dict[str, list[tuple[Rule, Pattern]]] = {}
    for rule in policy.rules_in(None):
        for pattern in rule.patterns:
            known.setdefault("" if pattern.kind == "domain" else pattern.host, []).append((rule, pattern))
    everywhere = [one for several in known.values() for one in several]
    for rule in (one for one in policy.rules if one.namespaces):
        for pattern in rule.patterns:
            near = everywhere if pattern.kind == "domain" else (*known.get(pattern.host, ()), *known.get("", ()))
            for other, wider in near:
                if pattern.overlaps(wider):
                    yield refusal(
                        "hidden_rule", f"{rule.path}.images", pattern=pattern, other=wider, rule=other.name
                    )


def _similar_hosts(policy: Policy) -> t.Iterator[Refusal]:
    """Yield a refusal for each host whose name ends with that of another, or lies in a domain."""
    named: dict[tuple[str, bool], tuple[Rule, Pattern]] = {}
    for rule in policy.rules:
        for pattern in rule.patterns:
            named.setdefault((pattern.host, pattern.kind == "domain"), (rule, pattern))
    for (host, _is_domain), (rule, pattern) in named.items():
        for (end, is_domain), (other, wider) in named.items():
            if wider is not pattern and (host != end or is_domain) and host.endswith(f".{end}" if is_domain else end):
                yield refusal("similar_hosts", f"{rule.path}.images", pattern=wider, other=pattern, rule=other.name)


def _of_denials(policy: Policy, used: t.Iterable[Authority]) -> t.Iterator[Refusal]:
    if policy.denied_key_ids and any(kind_of(authority) != "keys" for authority in used):
        yield refusal("denial_unsupported", "denied_key_ids", count=len(policy.denied_key_ids))


def _of_keys_in_all(used: t.Iterable[Authority], abilities: Abilities) -> t.Iterator[Refusal]:
    keys = {key.key_id for authority in used for key in authority.keys}
    if abilities.max_keys_in_all is not None and len(keys) > abilities.max_keys_in_all:
        yield refusal("one_key_only", "rules", count=len(keys))
