# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The trust policy: which images need the signatures of which authorities.

Everything here is frozen and was checked by C(reading.read()): names are known, keys are usable, nothing is vacuous.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import typing as t
from dataclasses import dataclass

from .._keys.pem import PublicKey
from .._oci.pattern import Pattern

if t.TYPE_CHECKING:
    # Loaded where a certificate is named: Ansible compiles what is imported for every task.
    from .._signing.identity import NameType

Default = t.Literal["reject", "accept"]

# Whom a policy can be rendered for; each has a file of its own.
ENFORCERS = (
    "containers", "openshift", "policy_controller", "kyverno_cluster_policy", "kyverno_image_validating_policy",
    "connaisseur", "ratify", "wiz",
)


@dataclass(frozen=True)
class Keys:
    """The pinned keys of one signer: one, or all generations that may sign; any of them speaks for it.

    C(signature_algorithm) is the one scheme that counts; None means those that cosign uses for each key.
    """

    keys: tuple[PublicKey, ...]
    signature_algorithm: str | None = None

    def canonical(self) -> t.Any:
        """Return what it says, for the hash of the policy."""
        return {"keys": sorted(key.key_id for key in self.keys), "signature_algorithm": self.signature_algorithm}


@dataclass(frozen=True)
class Certified:
    """A name that a private code-signing PKI vouches for; certificates are PEM, one block each.

    Exactly one of C(value) and C(regexp) is given; an expression matches the whole name. C(ends) is when the first of
    the certificates does.
    """

    roots: tuple[str, ...]
    intermediates: tuple[str, ...]
    san_type: NameType
    value: str | None
    regexp: str | None
    eku: str
    ends: datetime.datetime

    def canonical(self) -> t.Any:
        """Return what it says, for the hash of the policy."""
        return {
            "roots": sorted(self.roots), "intermediates": sorted(self.intermediates), "eku": self.eku,
            "san": [self.san_type, self.value, self.regexp],
        }


@dataclass(frozen=True)
class Keyless:
    """A workload or person that an OpenID issuer vouches for; expressions match the whole text.

    C(trusted_root) is the text of a Sigstore trusted root; None is the public one.
    """

    issuer: str | None
    issuer_regexp: str | None
    subject: str | None
    subject_regexp: str | None
    trusted_root: str | None

    def canonical(self) -> t.Any:
        """Return what it says, for the hash of the policy."""
        return {
            "issuer": [self.issuer, self.issuer_regexp], "subject": [self.subject, self.subject_regexp],
            "trusted_root": self.trusted_root,
        }


Identity = t.Union[Keys, Certified, Keyless]


@dataclass(frozen=True)
class Log:
    """A transparency log whose entries signatures must have: the PEM of its key, and its URL where one is known."""

    public_key: str
    rekor_url: str | None = None


@dataclass(frozen=True)
class Authority:
    """One thing that may sign. C(timestamp) is the PEM chain of the timestamp authority that must have stamped it."""

    name: str
    identity: Identity
    log: Log | None = None
    timestamp: tuple[str, ...] | None = None

    @property
    def keys(self) -> tuple[PublicKey, ...]:
        """Its pinned keys; none if it is an authority of another kind."""
        return self.identity.keys if isinstance(self.identity, Keys) else ()

    def canonical(self) -> t.Any:
        """Return what it says, for the hash of the policy."""
        return {
            type(self.identity).__name__.lower(): self.identity.canonical(),
            "log": [self.log.public_key, self.log.rekor_url] if self.log else None,
            "timestamp": list(self.timestamp) if self.timestamp else None,
        }


@dataclass(frozen=True)
class Attestation:
    """An attestation that must be there: its predicate type (a URI), and the authorities any of which signed it."""

    predicate_type: str
    any_of: tuple[Authority, ...]


@dataclass(frozen=True)
class Rule:
    """What images of some repositories need: signatures of C(threshold) distinct authorities, and attestations.

    C(mirrors) are places (HOST or HOST/NS) that have the same repositories, under the same paths. C(namespaces) are
    those of Kubernetes that it is for; none means all, and hosts without any. C(path) is where the rule stands in the
    document that it was read from.
    """

    name: str
    images: tuple[Pattern, ...]
    any_of: tuple[Authority, ...]
    threshold: int = 1
    mirrors: tuple[str, ...] = ()
    attestations: tuple[Attestation, ...] = ()
    namespaces: tuple[str, ...] = ()
    path: str = ""

    @property
    def patterns(self) -> tuple[Pattern, ...]:
        """The patterns of its images, and the same in each mirror."""
        return tuple(dict.fromkeys((*self.images, *(one.at(mirror) for mirror in self.mirrors for one in self.images))))

    @property
    def authorities(self) -> tuple[Authority, ...]:
        """All authorities that it names, each once."""
        named = [*self.any_of, *(one for attestation in self.attestations for one in attestation.any_of)]
        return tuple({authority.name: authority for authority in named}.values())

    def canonical(self) -> t.Any:
        """Return what it says, for the hash of the policy."""
        return {
            "images": sorted(map(str, self.images)), "any_of": sorted(one.name for one in self.any_of),
            "threshold": self.threshold, "mirrors": sorted(self.mirrors),
            "attestations": sorted(
                [one.predicate_type, *sorted(authority.name for authority in one.any_of)] for one in self.attestations
            ),
            "namespaces": sorted(self.namespaces),
        }


@dataclass(frozen=True)
class Policy:
    """All rules, and what becomes of images that none of them is about. C(not_after) is RFC 3339 in UTC, or None."""

    version: int
    default: Default
    rules: tuple[Rule, ...]
    authorities: tuple[Authority, ...]
    denied_key_ids: frozenset[str] = frozenset()
    not_after: str | None = None

    @property
    def namespaces(self) -> tuple[str, ...]:
        """The namespaces that some rule is for, in their order."""
        return tuple(sorted({namespace for rule in self.rules for namespace in rule.namespaces}))

    def rules_in(self, namespace: str | None) -> tuple[Rule, ...]:
        """Return the rules that hold in a namespace, those that are for it first; None is where there are none."""
        own = tuple(rule for rule in self.rules if namespace in rule.namespaces)
        return (*own, *(rule for rule in self.rules if not rule.namespaces))

    def rule_for(self, name: str, namespace: str | None = None) -> Rule | None:
        """Return the rule for a repository, HOST/REPO: the most specific, and of two alike that of the namespace."""
        matching = [
            (pattern.specificity, rule) for rule in self.rules_in(namespace) for pattern in rule.patterns
            if pattern.matches(name)
        ]
        return max(matching, key=lambda one: one[0])[1] if matching else None

    @property
    def hash(self) -> str:
        """Lower-case hex SHA-256 of what the policy says, whatever its order and its files."""
        said = {
            "version": self.version, "default": self.default, "not_after": self.not_after,
            "rules": {rule.name: rule.canonical() for rule in self.rules},
            "authorities": {one.name: one.canonical() for one in self.authorities},
            "denied_key_ids": sorted(self.denied_key_ids),
        }
        return hashlib.sha256(json.dumps(said, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
