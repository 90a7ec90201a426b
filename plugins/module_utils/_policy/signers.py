# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading the authorities of a trust policy that are no keys: names of a private PKI, keyless signers."""

from __future__ import annotations

import typing as t

from .._errors import HallmarkError
from .._signing import certificate_path, identity, linear_match
from . import certificates
from .document import Node
from .model import Certified, Identity, Keyless

_PROBE = "\u2603 no name of anybody"

Members = t.Mapping[str, Node]


class Reader:
    """Reads what vouches for signers; C(data) returns the bytes that a text is, or names."""

    def __init__(self, data: t.Callable[[str, bool], bytes]) -> None:
        self._data = data

    def identity(self, node: Node, members: Members) -> Identity | None:
        """Return who may sign, or None where something of it is wrong, which is noted."""
        return self._keyless(members) if "keyless" in members else self._certified(node, members)

    def _certified(self, node: Node, members: Members) -> Certified | None:
        source = next(members[name] for name in ("ca_path", "ca_content") if name in members)
        roots = self.certificates(source, is_path="ca_path" in members)
        between = members.get("intermediates_path")
        intermediates = self.certificates(between, is_path=True) if between else ()
        if "san" not in members:
            node.wrong("san is missing: everybody whom the CA knows would be trusted", member="san")
            return None
        san = members["san"].members(("type", "value", "regexp"), required=("type",))
        texts = {name: one.text() for name, one in san.items()}
        eku = members["eku"].text() if "eku" in members else "codeSigning"
        try:
            identity.read_identity(texts)
            certificate_path.usage_oid(eku or "codeSigning", where=members["eku"].path if "eku" in members else "")
        except HallmarkError as exc:
            members["san"].wrong(exc.cause)
            return None
        self._require_narrow(members["san"], texts.get("regexp"))
        if roots is None or intermediates is None or eku is None:
            return None
        return Certified(
            roots, intermediates, t.cast(t.Any, texts["type"]), texts.get("value"), texts.get("regexp"), eku,
            min(certificates.end_of(text) for text in (*roots, *intermediates)),
        )

    def _keyless(self, members: Members) -> Keyless | None:
        node = members["keyless"]
        given = node.members(("issuer", "issuer_regexp", "subject", "subject_regexp"))
        texts = {name: one.text() for name, one in given.items()}
        for one, other in (("issuer", "issuer_regexp"), ("subject", "subject_regexp")):
            if (one in given) == (other in given):
                node.wrong(f"it needs exactly one of {one} and {other}: any other signer would be trusted")
            self._require_narrow(given.get(other, node), texts.get(other))
        root = None
        if "trusted_root_path" in members:
            root = self._text_of(members["trusted_root_path"])
        return Keyless(texts.get("issuer"), texts.get("issuer_regexp"), texts.get("subject"),
                       texts.get("subject_regexp"), root)

    @staticmethod
    def _require_narrow(node: Node, expression: str | None) -> None:
        """Note an expression that cannot be used, or that anybody's name matches."""
        if expression is None:
            return
        try:
            matcher = linear_match.compile_pattern(expression, where=node.path)
        except HallmarkError as exc:
            node.wrong(exc.cause)
            return
        if matcher.fullmatch(_PROBE):
            node.wrong(f"{expression[:60]!r} matches any name")

    def certificates(self, node: Node, *, is_path: bool, are_issuers: bool = True) -> tuple[str, ...] | None:
        """Return certificates as PEM, or None where something is wrong, which is noted."""
        text = node.text()
        read = certificates.read_issuers if are_issuers else certificates.read
        try:
            return read(self._data(text, is_path), where=node.path) if text else None
        except HallmarkError as exc:
            node.wrong(f"{text}: {exc.cause}" if is_path else exc.cause)
            return None

    def _text_of(self, node: Node) -> str | None:
        path = node.text()
        try:
            return self._data(path, True).decode("utf-8") if path else None
        except HallmarkError as exc:
            node.wrong(f"{path}: {exc.cause}")
        except UnicodeDecodeError:
            node.wrong(f"{path}: it is no text")
        return None
