# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading the authorities of a trust policy: pinned keys here, all others in C(signers)."""

from __future__ import annotations

import typing as t

from .._errors import HallmarkError
from .._keys import algorithms, pem
from .document import Node
from .model import Authority, Identity, Keys, Log

KINDS = ("public_key_path", "public_key_content", "generations", "ledger_path", "ca_path", "ca_content", "keyless")
# Signatures by the keys of other generations do not count, or do not count any longer.
USABLE_STATES = ("published", "active", "retiring")
STATES = ("staged", *USABLE_STATES, "withdrawn", "retired", "revoked", "abandoned")
_MEMBERS = (
    *KINDS, "identity", "ledger_head", "signature_algorithm", "intermediates_path", "san", "eku", "trusted_root_path",
    "log", "timestamp",
)
_KEY_KINDS = KINDS[:4]
_BELONGS = {
    "signature_algorithm": _KEY_KINDS, "identity": ("ledger_path",), "ledger_head": ("ledger_path",),
    "intermediates_path": ("ca_path", "ca_content"), "san": ("ca_path", "ca_content"),
    "eku": ("ca_path", "ca_content"), "trusted_root_path": ("keyless",),
}
Members = t.Mapping[str, Node]


class Reader:
    """Reads authorities; C(read_file) opens the files they name, and C(denied) keys are nobody's."""

    def __init__(self, read_file: t.Callable[[str], bytes], denied: frozenset[str]) -> None:
        self._read_file = read_file
        self._denied = denied

    def authority(self, name: str, node: Node) -> Authority | None:
        """Return an authority, or None where something of it is wrong, which is noted."""
        members = node.members(_MEMBERS)
        given = [kind for kind in KINDS if kind in members]
        if not isinstance(node.value, dict):
            return None
        if len(given) != 1:
            node.wrong(f"it needs exactly one of {', '.join(KINDS)}, and has {', '.join(given) or 'none'}")
            return None
        for member, kinds in _BELONGS.items():
            if member in members and given[0] not in kinds:
                members[member].wrong(f"it does not go with {given[0]}")
        if given[0] in _KEY_KINDS:
            found: Identity | None = self._keys(members, given[0])
        else:
            # Loaded where one is named: Ansible compiles what is imported for every task.
            from . import signers

            found = signers.Reader(self._data).identity(node, members)
        log = self._log(members["log"]) if "log" in members else None
        stamped = self._timestamp(members["timestamp"]) if "timestamp" in members else None
        return Authority(name, found, log, stamped) if found else None

    # --- the kinds ---------------------------------------------------------------------------------------------------

    def _keys(self, members: Members, kind: str) -> Keys | None:
        node = members[kind]
        known = len(node.mistakes)
        if kind == "generations":
            read = [self._generation(one) for one in node.items()]
        elif kind == "ledger_path":
            read = list(self._of_ledger(members))
        else:
            read = [self._key(node, is_path=kind == "public_key_path")]
        keys = [key for key in read if key is not None]
        usable = {key.key_id: key for key in keys if key.key_id not in self._denied}
        if len({key.key_id for key in keys}) != len(keys):
            node.wrong("two of its generations have the same key")
        if not usable and len(node.mistakes) == known:
            states = f" in state {', '.join(USABLE_STATES)}" if kind == "generations" else ""
            node.wrong(f"nothing could satisfy it: it has no key{states} that is not denied")
        scheme = members["signature_algorithm"].text() if "signature_algorithm" in members else None
        for key in usable.values() if scheme else ():
            try:
                algorithms.scheme_for(key.algorithm, t.cast(str, scheme), where=node.path)
            except HallmarkError as exc:
                members["signature_algorithm"].wrong(exc.cause)
        return Keys(tuple(usable.values()), scheme) if usable else None

    def _of_ledger(self, members: Members) -> tuple[pem.PublicKey, ...]:
        from .._trust import trusted_keys

        path = members["ledger_path"]
        if "identity" not in members:
            path.wrong("it needs an identity")
            return ()
        identity = members["identity"].text()
        head = members["ledger_head"].text() if "ledger_head" in members else None
        if not path.text() or not identity:
            return ()
        try:
            return trusted_keys.keys(path.value, identity=identity, head=head)
        except HallmarkError as exc:
            path.wrong(exc.cause)
            return ()

    def _generation(self, node: Node) -> pem.PublicKey | None:
        members = node.members(
            ("generation", "state", "public_key_path", "public_key_content"), required=("generation", "state")
        )
        if "generation" in members:
            members["generation"].integer()
        state = members["state"].choice(*STATES) if "state" in members else None
        sources = [name for name in ("public_key_path", "public_key_content") if name in members]
        if len(sources) != 1:
            node.wrong("it needs exactly one of public_key_path, public_key_content")
            return None
        key = self._key(members[sources[0]], is_path=sources[0] == "public_key_path")
        return key if state in USABLE_STATES else None

    # --- what goes with them -----------------------------------------------------------------------------------------

    def _log(self, node: Node) -> Log | None:
        members = node.members(("required", "rekor_url", "public_key_path"), required=("required",))
        required = members["required"].boolean() if "required" in members else False
        url = members["rekor_url"].text() if "rekor_url" in members else None
        key = self._key(members["public_key_path"], is_path=True) if "public_key_path" in members else None
        if required and "public_key_path" not in members:
            node.wrong("it is missing, and no entry could be verified", member="public_key_path")
        if url is not None and not url.startswith(("https://", "http://")):
            members["rekor_url"].wrong(f"{url[:60]!r} is no URL")
        return Log(key.pem, url) if required and key else None

    def _timestamp(self, node: Node) -> tuple[str, ...] | None:
        members = node.members(("required", "authority_path"), required=("required",))
        required = members["required"].boolean() if "required" in members else False
        if required and "authority_path" not in members:
            node.wrong("it is missing, and no timestamp could be verified", member="authority_path")
            return None
        if "authority_path" not in members:
            return None
        from . import signers

        chain = signers.Reader(self._data).certificates(members["authority_path"], is_path=True, are_issuers=False)
        return chain if required else None

    def _key(self, node: Node, *, is_path: bool) -> pem.PublicKey | None:
        text = node.text()
        try:
            return pem.read_public_key(self._data(text, is_path), where=node.path) if text else None
        except HallmarkError as exc:
            node.wrong(f"{text}: {exc.cause}" if is_path else exc.cause)
            return None

    def _data(self, text: str, is_path: bool) -> bytes:
        return self._read_file(text) if is_path else text.encode("utf-8", "replace")
