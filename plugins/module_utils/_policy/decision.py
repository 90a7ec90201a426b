# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an enforcer with our policy would say about an image, and why: each reads signatures in its own way.

C(Judge.decide()) is the order of what is asked. Signatures are really verified; what is rendered, but cannot be
verified by us yet, is said to be so (not_evaluated) and counts as missing.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, replace

from .._errors import FormatError, HallmarkError, Reason
from .._oci import reference as references
from .._oci.content import descendants
from .._oci.digest import is_digest
from .._oci.reference import Reference
from . import enforcers, witnesses
from .model import Policy, Rule

if t.TYPE_CHECKING:
    from .._oci.reference import Image
    from .._oci.store import Store
    from .._signing.authority import ReferenceCheck
    from .._signing.signature import Format


@dataclass(frozen=True)
class Reading:
    """How an enforcer reads signatures.

    C(formats): which of them it reads; C(bundles_first): only bundles, where an image has any. C(children): of an
    index, those of every image that it lists, and not its own. C(names): only those that name the repository.
    """

    formats: tuple[Format, ...] = ("sig",)
    bundles_first: bool = False
    children: bool = False
    names: bool = False


# All others read signatures of what is to be run, by the tag of the old format, whatever name they bear.
_READINGS = {
    "containers": Reading(children=True, names=True), "openshift": Reading(children=True, names=True),
    "kyverno_image_validating_policy": Reading(bundles_first=True),
    # What it reads is not known: whatever it may be, it must not be said to be denied.
    "wiz": Reading(formats=("sig", "bundle")),
}


@dataclass(frozen=True)
class Decision:
    """What an enforcer would say, by which rule. C(bundle_only) says that it cannot see the signatures there are."""

    image: str
    enforcer: str
    admit: bool
    digest: str | None = None
    rule: str | None = None
    reasons: tuple[Reason, ...] = ()
    bundle_only: bool = False

    def as_dict(self) -> dict[str, t.Any]:
        """Return the shape of the module contract."""
        return {
            "image": self.image, "digest": self.digest, "enforcer": self.enforcer, "admit": self.admit,
            "rule": self.rule, "reasons": [reason.as_dict() for reason in self.reasons],
        }


class Judge:
    """One enforcer, in one version, with one policy."""

    def __init__(self, policy: Policy, *, enforcer: str, version: str, namespace: str | None = None) -> None:
        self.policy, self.enforcer, self.namespace = policy, enforcer, namespace
        self.refused = enforcers.render(policy, enforcer=enforcer, version=version).refused
        self._reading = _READINGS.get(enforcer, Reading())

    def decide(self, store: Store[Image], image: str) -> Decision:
        """Say what becomes of an image. Never raises for an image that fails: the decision carries the reasons."""
        decision = Decision(image, self.enforcer, admit=False)
        if self.refused:
            return replace(decision, reasons=tuple(
                Reason("policy_refused", f"{one.policy_path or 'policy'}: {one.message}. {one.instead}", image)
                for one in self.refused
            ))
        try:
            asked = references.parse_image(image)
            if not isinstance(asked, Reference) or is_digest(image):
                raise _no_registry(image)
            rule, name = self._rule_for(asked)
            decision = replace(decision, rule=rule.name if rule else None, digest=asked.digest)
            if rule is None:
                return self._by_default(decision)
            return self._by_rule(store, asked, rule, name, decision)
        except HallmarkError as exc:
            return replace(decision, reasons=(exc.as_reason(),))

    def _rule_for(self, asked: Reference) -> tuple[Rule | None, str]:
        """Return the rule for an image, and the name that signatures must bear, if names are compared."""
        if not self._reading.names:
            return self.policy.rule_for(asked.name, self.namespace), asked.name
        from . import containers

        rule, name = containers.rule_for(self.policy, asked.name, self.namespace)
        return rule, name or asked.name

    def _by_default(self, decision: Decision) -> Decision:
        admit = self.policy.default == "accept"
        reason = Reason(
            "no_rule", f"{decision.image}: no rule is about it, and the default is {self.policy.default}.",
            decision.image,
        )
        return replace(decision, admit=admit, reasons=() if admit else (reason,))

    def _by_rule(
        self, store: Store[Image], asked: Reference, rule: Rule, name: str, decision: Decision
    ) -> Decision:
        manifest = store.manifest(asked)
        decision = replace(decision, digest=manifest.digest)
        subjects = [manifest.digest]
        if self._reading.children and manifest.is_index:
            subjects = [one.digest for one in descendants(store, asked, manifest) if not one.is_index]
        seen = witnesses.remembering(store, asked)
        found = [self._judge(seen, references.parse_name(name).at(subject), rule) for subject in subjects]
        reasons = tuple(reason for one in found for reason in one.reasons)
        # Nothing is vacuously true: an index of nothing runs nowhere.
        admit = bool(found) and all(one.admit for one in found)
        return replace(
            decision, admit=admit, reasons=() if admit else reasons, bundle_only=any(one.bundle_only for one in found)
        )

    def _judge(self, store: Store[Image], image: Reference, rule: Rule) -> Decision:
        """Judge one digest: enough authorities, and each attestation."""
        formats = self._formats(store, image)
        names: ReferenceCheck = "repository" if self._reading.names else "ignore"
        reasons: list[Reason] = []
        count = 0
        for authority in rule.any_of:
            missing = witnesses.signed_by(
                store, image, authority, formats=formats, names=names, denied=self.policy.denied_key_ids
            )
            count += not missing
            reasons += missing
            if count >= rule.threshold:
                break
        enough = count >= rule.threshold
        unseen = not enough and formats == ("sig",) and witnesses.has_bundle_only(store, image)
        lacking = [] if enough else reasons
        for attestation in rule.attestations:
            lacking += witnesses.attested(store, image, attestation)
        return Decision(str(image), self.enforcer, not lacking, reasons=tuple(lacking), bundle_only=unseen)

    def _formats(self, store: Store[Image], image: Reference) -> tuple[Format, ...]:
        if self._reading.bundles_first and witnesses.has_bundle(store, image):
            return ("bundle",)
        return self._reading.formats


def _no_registry(image: str) -> FormatError:
    return FormatError(
        code="input_invalid", object=image, attempt="decide about it", cause="it does not name an image in a registry",
        advice="Name the image as it is deployed.",
    )
