# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Helm values of Connaisseur 3 (C(application.validators), C(application.policy)), one validator for each rule.

An asterisk crosses slashes, and whatever a pattern begins with may be preceded by anything: so that only our hosts
count, a second pattern, longer by one character, denies what has something before. Of patterns with as many parts the
one with the longest beginning in common wins, then the longer one. A threshold counts signatures, not who made them:
all of several authorities are named as C(required), and only one of them is counted. All of this is from its
documentation and source (3.10); it was not run.
"""

from __future__ import annotations

import typing as t

from .._oci.pattern import Pattern
from . import rendering
from .check import Abilities
from .model import Authority, Keyless, Keys, Policy, Rule
from .rendering import Files, Version

FILE = "values.yaml"
_FIRST = (3, 0)


def abilities(version: Version) -> Abilities | None:
    """Return what a version can express; None for those with another grammar of patterns."""
    if version < _FIRST:
        return None
    return Abilities(
        choices=frozenset(("any", "all")), counts_keys="all", identities=frozenset(("keys", "keyless")),
        patterns=frozenset(("repository", "tree", "domain")), compares_ends=True, merges_scopes=True, mixes=True,
        one_validator=True, keyless_any_subject=True, keyless_needs_log=True, keyless_needs_root=True,
        logs=frozenset(("keys", "keyless")), log_algorithms=frozenset(("ec",)), log_needs_url=True,
    )


def render(policy: Policy, version: Version) -> Files:
    """Return the file; the policy was checked."""
    del version
    names = rendering.names_of(("allow", "deny", *(rule.name for rule in policy.rules)))
    others = "deny" if policy.default == "reject" else "allow"
    return {FILE: rendering.as_yaml({"application": {
        "validators": [
            {"name": "allow", "type": "static", "approve": True}, {"name": "deny", "type": "static", "approve": False},
            *(_validator(name, rule) for name, rule in zip(names[2:], policy.rules)),
        ],
        "policy": [
            {"pattern": "*:*", "validator": others},
            *(one for name, rule in zip(names[2:], policy.rules) for one in _policy(name, rule, others)),
        ],
    }})}


def _validator(name: str, rule: Rule) -> dict[str, t.Any]:
    roots = [{"name": root, **trusted} for root, trusted in _trust_roots(rule)]
    host = _host(rule)
    return {"name": name, "type": "cosign", **({"host": host} if host else {}), "trustRoots": roots}


def _trust_roots(rule: Rule) -> t.Iterator[tuple[str, dict[str, t.Any]]]:
    """Yield each key or person with a name that no other of the rule has."""
    names = rendering.names_of(authority.name for authority in rule.any_of)
    for name, authority in zip(names, rule.any_of):
        yield from _of_authority(name, authority)


def _of_authority(name: str, authority: Authority) -> t.Iterator[tuple[str, dict[str, t.Any]]]:
    identity = authority.identity
    if isinstance(identity, Keys):
        for key in identity.keys:
            yield f"{name}.{key.key_id[:12]}", {"key": key.pem}
        return
    keyless = t.cast(Keyless, identity)
    yield name, {"keyless": {
        "issuerRegex": rendering.expression(keyless.issuer, keyless.issuer_regexp),
        "subjectRegex": rendering.expression(keyless.subject, keyless.subject_regexp),
    }}


def _host(rule: Rule) -> dict[str, str]:
    """Return the log and the roots of a validator; its authorities agree in the log, as was checked."""
    found: dict[str, str] = {}
    log = rule.any_of[0].log
    if log:
        found = {"rekor": t.cast(str, log.rekor_url), "rekorPubkey": log.public_key}
    roots = [root for authority in rule.any_of if isinstance(authority.identity, Keyless)
             for root in rendering.roots_of(authority.identity)]
    return {**found, "fulcioCert": "".join(dict.fromkeys(roots))} if roots else found


def _policy(name: str, rule: Rule, others: str) -> t.Iterator[dict[str, t.Any]]:
    options: dict[str, t.Any] = {
        "trustRoot": "*", "verifyInTransparencyLog": rule.any_of[0].log is not None, "verifySCT": False,
    }
    if rule.threshold == 1:
        options["threshold"] = 1
    else:
        options["required"] = [root for root, _trusted in _trust_roots(rule)]
    for pattern in rule.patterns:
        for text in _patterns(pattern):
            yield {"pattern": f"*{text}", "validator": name, "with": options}
            if others == "deny":
                yield {"pattern": f"*/*{text}" if pattern.kind == "domain" else f"*?{text}", "validator": "deny"}


def _patterns(pattern: Pattern) -> tuple[str, ...]:
    """Return what names of images end with, after whatever may stand before."""
    if pattern.kind == "domain":
        return (f".{pattern.host}/*",)
    host = rendering.host_in_go(pattern)
    if not pattern.path:
        return (f"{host}/*",)
    whole = f"{host}/{pattern.path}"
    below = (f"{whole}/*",) if pattern.kind == "tree" else ()
    return (f"{whole}:*", f"{whole}@*", *below)
