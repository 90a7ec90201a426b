# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""C(policy.json) and C(registries.d) of podman, skopeo, buildah and CRI-O.

Source: containers-policy.json(5) and containers-registries.d(5) of containers/image, whose versions are meant. Scopes
are prefixes on component boundaries, of which the most specific counts alone.
"""

from __future__ import annotations

import json
import typing as t

from . import rendering
from .check import Abilities, Choice
from .model import Authority, Certified, Keyless, Log, Policy, Rule
from .pattern import Pattern
from .rendering import Files, Version

POLICY = "policy.json"
REGISTRIES = "registries.d/hallmark-signing.yaml"

# Which version brought fulcio and Rekor, lists of keys, certificates of a private PKI.
_FIRST = (5, 24)
_LISTS = (5, 33)
_PKI = (5, 34, 2)


def abilities(version: Version) -> Abilities | None:
    """Return what a version can express; None for those that verify nothing."""
    if version < _FIRST:
        return None
    choices: set[Choice] = {"all"}
    if version >= _LISTS:
        choices.add("any")
    return Abilities(
        choices=frozenset(choices),
        identities=frozenset(("keys", "keyless", *(("certified",) if version >= _PKI else ()))),
        patterns=frozenset(("repository", "tree", "domain")), max_keys=None if version >= _LISTS else 1,
        san_types=frozenset(("dns", "email")), keyless_needs_log=True, keyless_needs_root=True,
        logs=frozenset(("keys", "keyless")), log_algorithms=frozenset(("ec",)), any_of_keys_only=True,
        logs_differ=False,
    )


def render(policy: Policy, version: Version) -> Files:
    """Return the files; the policy was checked."""
    default = [{"type": "reject" if policy.default == "reject" else "insecureAcceptAnything"}]
    scopes = {
        scope(pattern): _requirements(rule, version) for rule in policy.rules for pattern in rule.patterns
    }
    document: dict[str, t.Any] = {"default": default}
    if scopes:
        document["transports"] = {"docker": dict(sorted(scopes.items()))}
    return {POLICY: rendering.as_json(document), REGISTRIES: _registries(policy)}


def scope(pattern: Pattern) -> str:
    """Return a pattern as a scope: a namespace is its own prefix, and a domain has no path."""
    return str(pattern).removesuffix("/**")


def _requirements(rule: Rule, version: Version) -> list[dict[str, t.Any]]:
    """Return what must all hold: any of several keys is one requirement, all of several authorities are several."""
    if len(rule.any_of) > 1 and rule.threshold == 1:
        return [_by_keys(rule.any_of, version)]
    return [_by(authority, version) for authority in sorted(rule.any_of, key=lambda one: one.name)]


def _by(authority: Authority, version: Version) -> dict[str, t.Any]:
    identity = authority.identity
    if isinstance(identity, Certified):
        return _signed(pki=_pki(identity))
    if isinstance(identity, Keyless):
        log = t.cast(Log, authority.log)
        return _signed(
            fulcio={
                "caData": rendering.encoded(*rendering.roots_of(identity)), "oidcIssuer": identity.issuer,
                "subjectEmail": identity.subject,
            },
            rekorPublicKeyData=rendering.encoded(log.public_key),
        )
    return _by_keys((authority,), version)


def _by_keys(authorities: t.Sequence[Authority], version: Version) -> dict[str, t.Any]:
    keys = sorted({key.key_id: key.pem for authority in authorities for key in authority.keys}.items())
    logs = {authority.log.public_key for authority in authorities if authority.log}  # one, or none: it was checked
    texts = [rendering.encoded(text) for _key_id, text in keys]
    given: dict[str, t.Any] = {"keyData": texts[0]} if len(texts) == 1 else {"keyDatas": texts}
    if logs:
        given["rekorPublicKeyData"] = rendering.encoded(*logs)
    return _signed(**given)


def _pki(identity: Certified) -> dict[str, str]:
    found = {"caRootsData": rendering.encoded(*identity.roots)}
    if identity.intermediates:
        found["caIntermediatesData"] = rendering.encoded(*identity.intermediates)
    found["subjectHostname" if identity.san_type == "dns" else "subjectEmail"] = t.cast(str, identity.value)
    return found


def _signed(**members: t.Any) -> dict[str, t.Any]:
    # Payloads of cosign have no tag: the default, which wants one, would refuse every image by tag.
    return {"type": "sigstoreSigned", **members, "signedIdentity": {"type": "matchRepository"}}


def _registries(policy: Policy) -> str:
    """Return where signatures are looked for: beside the images, also in mirrors.

    JSON texts are YAML, so that no library is needed on the host.
    """
    places = {scope(pattern) for rule in policy.rules for pattern in rule.patterns}
    lines = [f"  {json.dumps(place)}:\n    use-sigstore-attachments: true\n" for place in sorted(places)]
    return "docker:\n" + "".join(lines) if lines else "docker: {}\n"
