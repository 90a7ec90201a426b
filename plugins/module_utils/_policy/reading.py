# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading a trust policy: everything that is wrong with it at once, each with its place in the document."""

from __future__ import annotations

import datetime
import itertools
import os
import re
import typing as t
from dataclasses import dataclass

from .._errors import HallmarkError, Reason
from .._oci import pattern
from . import identities
from .document import Mistake, Node
from .model import Attestation, Authority, Policy, Rule

_KEY_ID = re.compile(r"[0-9a-f]{64}")
# A label of RFC 1123.
_NAMESPACE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!-~]+")


class PolicyError(HallmarkError):
    """A policy has mistakes, all of which stand in C(mistakes)."""

    def __init__(self, mistakes: t.Sequence[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__(
            code="input_invalid", object="policy", attempt="read it",
            cause="; ".join(f"{one.path or 'policy'}: {one.message}" for one in self.mistakes),
            advice="Mend each of these places; nothing was written.",
        )

    def as_reasons(self) -> list[Reason]:
        """Return one reason for each mistake."""
        return [
            Reason(
                "input_invalid", f"{one.path or 'policy'}: could not read the policy: {one.message}. Mend this place.",
                one.path or "policy",
            )
            for one in self.mistakes
        ]


def read(document: t.Any, *, now: datetime.datetime, read_file: t.Callable[[str], bytes]) -> Policy:
    """Return the policy that a mapping describes; C(read_file) opens the files that it names.

    Raises PolicyError with all mistakes, also for a policy past its not_after at C(now).
    """
    mistakes: list[Mistake] = []
    top = Node(document, "", mistakes).members(
        ("version", "not_after", "default", "authorities", "denied_key_ids", "rules"),
        required=("version", "authorities", "rules"),
    )
    denied = _denied(top.get("denied_key_ids"))
    named = top["authorities"].named() if "authorities" in top else {}
    read_identity = identities.Reader(read_file, denied)
    authorities = {name: read_identity.authority(name, node) for name, node in named.items()}
    known = {name: authority for name, authority in authorities.items() if authority is not None}
    rules = [
        _rule(node, _Names(known, frozenset(authorities))) for node in (top["rules"].items() if "rules" in top else [])
    ]
    version = top["version"].integer() if "version" in top else None
    default = top["default"].choice("reject", "accept") if "default" in top else "reject"
    not_after = _not_after(top.get("not_after"), now)
    if rules:
        _note_repetitions(top["rules"], [rule for rule in rules if rule is not None])
    if mistakes:
        raise PolicyError(mistakes)
    return Policy(
        t.cast(int, version), t.cast(t.Any, default), tuple(t.cast("list[Rule]", rules)), tuple(known.values()),
        denied, not_after,
    )


@dataclass(frozen=True)
class _Names:
    """The authorities that could be read, and the names of all: a mistake is told once, where it is."""

    known: t.Mapping[str, Authority]
    all: frozenset[str]

    def any_of(self, node: Node) -> tuple[Authority, ...]:
        """Return the authorities that a list names, each once."""
        found: dict[str, Authority] = {}
        for one in node.items():
            name = one.text()
            if name is None:
                continue
            if name not in self.all:
                one.wrong(f"there is no authority {name[:60]!r}")
            elif name in found:
                one.wrong(f"{name!r} is named twice")
            elif name in self.known:
                found[name] = self.known[name]
        seen: dict[str, str] = {}
        for authority in found.values():
            for key in authority.keys:
                if key.key_id in seen:
                    node.wrong(f"{seen[key.key_id]!r} and {authority.name!r} have one key, which would count twice")
                seen[key.key_id] = authority.name
        return tuple(found.values())


def read_option(
    document: t.Any, path: str | None, *, now: datetime.datetime, read_file: t.Callable[[str], bytes]
) -> Policy:
    """Return the policy of a task: what it was given, or what stands in a file. Raises HallmarkError as C(read()).

    What a file names without a path is beside it.
    """
    if path is None:
        return read(document, now=now, read_file=read_file)
    from . import parsing

    folder = os.path.dirname(path)
    return read(
        parsing.parse_yaml(read_file(path), where=path), now=now,
        read_file=lambda name: read_file(os.path.join(folder, name)),
    )


def _rule(node: Node, names: _Names) -> Rule | None:
    members = node.members(
        ("name", "images", "any_of", "threshold", "mirrors", "attestations", "namespaces"),
        required=("name", "images", "any_of"),
    )
    name = members["name"].text() if "name" in members else None
    images = [_pattern(one) for one in members["images"].items()] if "images" in members else []
    any_of = names.any_of(members["any_of"]) if "any_of" in members else ()
    threshold = members["threshold"].integer() if "threshold" in members else 1
    given = len(members["any_of"].value) if "any_of" in members and isinstance(members["any_of"].value, list) else 0
    if threshold is not None and given and threshold > given:
        members["threshold"].wrong(f"{threshold} is more than the {given} authorities of any_of")
    mirrors = [_mirror(one) for one in members["mirrors"].items()] if "mirrors" in members else []
    attestations = [
        _attestation(one, names) for one in (members["attestations"].items() if "attestations" in members else [])
    ]
    namespaces = [_namespace(one) for one in members["namespaces"].items()] if "namespaces" in members else []
    if name is None or threshold is None or any(None in few for few in (images, mirrors, attestations, namespaces)):
        return None
    return Rule(
        name, tuple(t.cast("list[pattern.Pattern]", images)), any_of, threshold,
        tuple(t.cast("list[str]", mirrors)), tuple(t.cast("list[Attestation]", attestations)),
        tuple(sorted({t.cast(str, namespace) for namespace in namespaces})), node.path,
    )


def _pattern(node: Node) -> pattern.Pattern | None:
    text = node.text()
    if text is None:
        return None
    try:
        return pattern.parse(text)
    except HallmarkError as exc:
        node.wrong(f"{text[:60]!r}: {exc.cause}. {exc.advice.rstrip('.')}")
        return None


def _mirror(node: Node) -> str | None:
    text = node.text()
    if text is None:
        return None
    try:
        return str(pattern.parse(f"{text}/**")).removesuffix("/**")
    except HallmarkError as exc:
        node.wrong(f"{text[:60]!r} is no place of a registry: {exc.cause}. Write HOST or HOST/NS")
        return None


def _namespace(node: Node) -> str | None:
    text = node.text()
    if text is not None and not _NAMESPACE.fullmatch(text):
        node.wrong(f"{text[:60]!r} is no namespace of Kubernetes")
        return None
    return text


def _attestation(node: Node, names: _Names) -> Attestation | None:
    members = node.members(("predicate_type", "any_of"), required=("predicate_type", "any_of"))
    kind = members["predicate_type"].text() if "predicate_type" in members else None
    any_of = names.any_of(members["any_of"]) if "any_of" in members else ()
    if kind is None:
        return None
    if not _URI.fullmatch(kind):
        members["predicate_type"].wrong(f"{kind[:60]!r} is no URI, such as https://slsa.dev/provenance/v1")
    return Attestation(kind, any_of)


def _denied(node: Node | None) -> frozenset[str]:
    found = []
    for one in node.items() if node else []:
        text = one.text()
        if text is not None and not _KEY_ID.fullmatch(text):
            one.wrong(f"{text[:60]!r} is no key id: 64 lower-case hexadecimal characters")
        found.append(text or "")
    return frozenset(found)


def _not_after(node: Node | None, now: datetime.datetime) -> str | None:
    text = node.text() if node else None
    if node is None or text is None:
        return None
    try:
        # Python before 3.11 does not know the Z of RFC 3339.
        moment = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        node.wrong(f"{text[:60]!r} is no time of RFC 3339 with a time zone, such as 2027-01-31T00:00:00Z")
        return None
    if moment <= now:
        node.wrong(f"the policy ended at {text}")
    return moment.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _note_repetitions(node: Node, rules: t.Sequence[Rule]) -> None:
    """Note what two rules have in common: a name, or a pattern, of which neither is the more specific."""
    names: dict[str, str] = {}
    patterns: dict[tuple[pattern.Pattern, str | None], str] = {}
    for rule in rules:
        place = Node(None, rule.path, node.mistakes)
        if rule.name in names:
            place.wrong(f"{rule.name!r} is the name of {names[rule.name]}, too", member="name")
        names[rule.name] = rule.path
        for one in itertools.product(rule.patterns, rule.namespaces or (None,)):
            if one in patterns:
                place.wrong(f"{str(one[0])!r} stands in {patterns[one]}, too", member="images")
            patterns[one] = rule.path
