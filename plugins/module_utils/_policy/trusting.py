# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The trust policy that the keyring asks for: the rules of people, with the keys and the version of the ledger.

Authorities that name the ledger get the generations whose signatures count; revoked keys are denied for everybody. What
each kind of enforcer must have of it is known before anything is distributed.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import typing as t

from .._errors import FormatError, TrustError
from .._trust import nobody
from .._trust.keyring import Keyring, Members
from . import enforcers, installing, reading
from .model import Policy

Document = dict[str, t.Any]


def next_version(base: Document, keyring: Keyring) -> int:
    """Return the version of the policy: that of what is trusted, or one more when the rules are others than before."""
    wanted = base.get("version", 1)
    version = max(keyring.policy_version, wanted if isinstance(wanted, int) else 1, 1)
    rendered = keyring.renderings.get(version)
    return version if rendered is None or rendered.rules == rules_hash(base) else version + 1


def rules_hash(base: Document) -> str:
    """Return lower-case hex SHA-256 of what people wrote, its version left out."""
    said = {name: value for name, value in base.items() if name != "version"}
    return hashlib.sha256(json.dumps(said, sort_keys=True, separators=(",", ":"), default=str).encode()).hexdigest()


def document(base: Document, keyring: Keyring, *, ledger_path: str, version: int) -> Document:
    """Return the whole policy, for module trust_policy. Raises FormatError, TrustError (input_invalid)."""
    authorities = base.get("authorities")
    if not isinstance(authorities, dict):
        raise FormatError(
            code="input_invalid", object="policy.authorities", attempt="fill in the keys of the ledger",
            cause="it is no mapping", advice="Nothing was written. Name the authorities there.",
        )
    denied = sorted({*(base.get("denied_key_ids") or []), *keyring.denied})
    return {
        **base, "version": version,
        "authorities": {name: _filled(name, one, keyring, ledger_path) for name, one in authorities.items()},
        **({"denied_key_ids": denied} if denied else {}),
    }


def _filled(name: str, authority: t.Any, keyring: Keyring, ledger_path: str) -> t.Any:
    if not isinstance(authority, dict) or "ledger_path" not in authority:
        return authority
    rest = {key: value for key, value in authority.items() if key not in ("ledger_path", "identity", "ledger_head")}
    identity = authority.get("identity")
    is_ours = os.path.realpath(str(authority["ledger_path"])) == os.path.realpath(ledger_path)
    if not is_ours or not isinstance(identity, str):
        raise TrustError(
            code="input_invalid", object=f"policy.authorities.{name}", attempt="fill in the keys of the ledger",
            cause="it names another ledger, or no identity",
            advice="Nothing was written. Name this ledger, and an identity.",
        )
    usable = keyring.usable(identity)
    if not usable and identity in keyring.nobody:
        # Every image is denied: nobody has the private half.
        return {**rest, "public_key_content": keyring.nobody[identity]}
    if not usable and keyring.open_incidents():
        # A key that leaked is distrusted at once, whoever else is not ready yet.
        return {**rest, "public_key_content": nobody.of(identity)}
    if not usable:
        raise TrustError(
            code="input_invalid", object=f"policy.authorities.{name}", attempt="fill in the keys of the ledger",
            cause=f"no generation of {identity} is published, active or retiring",
            advice="Nothing was written. Publish its first generation.",
        )
    return {**rest, "generations": [
        {"generation": one.number, "state": one.state, "public_key_content": one.public_key} for one in usable
    ]}


def rendered(
    full: Document, base: Document, keyring: Keyring, *, now: datetime.datetime, read_file: t.Callable[[str], bytes]
) -> Members:
    """Return the entry of a policy: its hashes for every kind of enforcer that the ledger knows.

    Raises PolicyError with all mistakes; FormatError (policy_refused) for what an enforcer cannot express.
    """
    policy = reading.read(full, now=now, read_file=read_file)
    kinds = sorted({one.kind for one in keyring.enforcers.values()})
    return {
        "event": "policy", "policy_version": policy.version, "rules": rules_hash(base), "policy_hash": policy.hash,
        "effective": {kind: _effective(policy, kind) for kind in kinds},
    }


def _effective(policy: Policy, kind: str) -> str:
    enforcer, _space, version = kind.partition(" ")
    found = enforcers.render(policy, enforcer=enforcer, version=version)
    if found.refused:
        one = found.refused[0]
        raise FormatError(
            code="policy_refused", object=one.policy_path or "policy", attempt=f"express it for {kind}",
            cause=one.message,
            advice=f"Nothing was written. {one.instead} Those that are gone are named in removed_enforcers.",
        )
    return installing.hash_of({name: text.encode() for name, text in found.files.items()})
