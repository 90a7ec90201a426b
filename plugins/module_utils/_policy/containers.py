# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""C(policy.json) and C(registries.d) of podman, skopeo, buildah and CRI-O.

Source: containers-policy.json(5) and containers-registries.d(5) of containers/image, whose versions are meant. Scopes
are prefixes on component boundaries, of which the most specific counts alone: that of a repository is that of all below
it, too. So signatures for a repository must name it, and those of what lies below, which name that, do not count.
"""

from __future__ import annotations

import glob
import json
import os
import re
import typing as t

from .._errors import CustodyError
from .._keys.files import read_key_file
from .._oci.pattern import Pattern
from . import rendering
from .check import Abilities, Choice
from .model import Authority, Certified, Keyless, Log, Policy, Rule
from .rendering import Files, Version

POLICY = "policy.json"
REGISTRIES = "registries.d/hallmark-signing.yaml"
# What CRI-O takes for the pods of a namespace instead, from the folder that its signature_policy_dir names.
NAMESPACE = "policies/{}.json"

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
        logs_differ=False, merges_scopes=True, namespaces=True,
    )


def render(policy: Policy, version: Version) -> Files:
    """Return the files; the policy was checked."""
    del version
    # The policy comes last: without the other files, no signature would be found.
    return {
        REGISTRIES: _registries(policy),
        **{NAMESPACE.format(one): rendering.as_json(_document(policy, one)) for one in policy.namespaces},
        POLICY: rendering.as_json(_document(policy, None)),
    }


def _document(policy: Policy, namespace: str | None) -> dict[str, t.Any]:
    """Return all that holds in a namespace, as no other file is asked there."""
    document: dict[str, t.Any] = {
        "default": [{"type": "reject" if policy.default == "reject" else "insecureAcceptAnything"}]
    }
    scopes: dict[str, list[dict[str, t.Any]]] = {}
    for rule in policy.rules_in(namespace):
        for one, identity in scopes_of(rule).items():
            scopes.setdefault(one, _requirements(rule, identity))
    if scopes:
        document["transports"] = {"docker": dict(sorted(scopes.items()))}
    return document


def require_room(policy: Policy, dest: str) -> None:
    """Refuse a folder where another file defines one of our scopes: then no image at all could be pulled.

    Raises CustodyError (destination_occupied, not_found).
    """
    folder = os.path.join(dest, os.path.dirname(REGISTRIES))
    places = {one for rule in policy.rules for one in scopes_of(rule)}
    found = sorted(glob.glob(f"{glob.escape(folder)}/*.yaml"))
    for path in (one for one in found if os.path.basename(one) != os.path.basename(REGISTRIES)):
        text = read_key_file(path).decode("utf-8", "replace")
        for place in re.findall(r"""^[ \t]+["']?([^\s"'#]+?)["']?[ \t]*:(?:\s|$)""", text, re.MULTILINE):
            if place in places:
                raise CustodyError(
                    code="destination_occupied", object=path, attempt="install the policy beside it",
                    cause=f"it defines {place}, too, and two definitions of one scope are an error there",
                    advice="Take it out of that file.",
                )


def scope(pattern: Pattern) -> str:
    """Return a pattern as a scope: a namespace is its own prefix, and a domain has no path."""
    return str(pattern).removesuffix("/**")


def scopes_of(rule: Rule) -> dict[str, str]:
    """Return the scopes of a rule, each with the repository that signatures must name; none for the image's own.

    In the mirror of a repository, signatures name what they were made for; those of a namespace name the repository
    that was asked for, which is the original where registries.conf knows the mirror.
    """
    found: dict[str, str] = {}
    # Those of namespaces come last, as they include the repository of the same name.
    for image in sorted(rule.images, key=lambda one: one.kind != "repository"):
        for pattern in (image, *(image.at(mirror) for mirror in rule.mirrors)):
            found[scope(pattern)] = str(image) if image.kind == "repository" else ""
    return found


def rule_for(policy: Policy, name: str, namespace: str | None) -> tuple[Rule | None, str]:
    """Return the rule whose scope is the most specific for a repository, and the name that signatures must bear.

    That is not the rule that the policy has for it, where one is about a repository above. No name is the own one.
    """
    scopes: dict[str, tuple[Rule, str]] = {}
    for rule in policy.rules_in(namespace):
        for one, identity in scopes_of(rule).items():
            scopes.setdefault(one, (rule, identity))
    parts = name.split("/")
    labels = parts[0].split(".") if ":" not in parts[0] else []
    asked = ["/".join(parts[:length]) for length in range(len(parts), 0, -1)]
    asked += [f"*.{'.'.join(labels[number:])}" for number in range(1, len(labels))]
    return next((scopes[one] for one in asked if one in scopes), (None, ""))


def _requirements(rule: Rule, repository: str) -> list[dict[str, t.Any]]:
    """Return what must all hold: any of several keys is one requirement, all of several authorities are several."""
    # Payloads of cosign have no tag: the default, which wants one, would refuse every image by tag.
    named = {"type": "exactRepository", "dockerRepository": repository} if repository else {"type": "matchRepository"}
    several = [rule.any_of] if rule.threshold == 1 else [
        (authority,) for authority in sorted(rule.any_of, key=lambda one: one.name)
    ]
    return [{"type": "sigstoreSigned", **_trusted(authorities), "signedIdentity": named} for authorities in several]


def _trusted(authorities: t.Sequence[Authority]) -> dict[str, t.Any]:
    """Return any of several authorities: keys, or one of another kind."""
    authority = authorities[0]
    identity = authority.identity
    if isinstance(identity, Certified):
        return {"pki": _pki(identity)}
    if isinstance(identity, Keyless):
        log = t.cast(Log, authority.log)
        fulcio = {
            "caData": rendering.encoded(*rendering.roots_of(identity)), "oidcIssuer": identity.issuer,
            "subjectEmail": identity.subject,
        }
        return {"fulcio": fulcio, "rekorPublicKeyData": rendering.encoded(log.public_key)}
    keys = sorted({key.key_id: key.pem for authority in authorities for key in authority.keys}.items())
    logs = {authority.log.public_key for authority in authorities if authority.log}  # one, or none: it was checked
    texts = [rendering.encoded(text) for _key_id, text in keys]
    given: dict[str, t.Any] = {"keyData": texts[0]} if len(texts) == 1 else {"keyDatas": texts}
    if logs:
        given["rekorPublicKeyData"] = rendering.encoded(*logs)
    return given


def _pki(identity: Certified) -> dict[str, str]:
    found = {"caRootsData": rendering.encoded(*identity.roots)}
    if identity.intermediates:
        found["caIntermediatesData"] = rendering.encoded(*identity.intermediates)
    found["subjectHostname" if identity.san_type == "dns" else "subjectEmail"] = t.cast(str, identity.value)
    return found


def _registries(policy: Policy) -> str:
    """Return where signatures are looked for: beside the images, also in mirrors.

    JSON texts are YAML, so that no library is needed on the host.
    """
    places = {one for rule in policy.rules for one in scopes_of(rule)}
    lines = [f"  {json.dumps(place)}:\n    use-sigstore-attachments: true\n" for place in sorted(places)]
    return "docker:\n" + "".join(lines) if lines else "docker: {}\n"
