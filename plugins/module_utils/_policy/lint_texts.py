# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is wrong with keys, certificates and expressions, wherever they stand in a policy."""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass

from .. import _base64
from .._errors import HallmarkError
from .._signing import certificate_path

_EXPRESSIONS = re.compile(r".*(?:RegExp|Regex)", re.IGNORECASE)
# A certificate of a private PKI names no issuer of OpenID.
_NOBODY = "^$"
_OPEN = ("", ".*", ".+", ".", "(.*)", "(.+)")
# Where a certificate is a root, that is, trusted with all that it issued.
_ROOTS = ("caRootsData", "caData", "fulcioCAData", "roots", "fulcioCert")
_KEY = "-----BEGIN PUBLIC KEY-----"
_CERTIFICATE = "-----BEGIN CERTIFICATE-----"
_FLAG = re.compile(r"-{1,2}enable-oci11(?:=(?!false)|\b(?!=))")


@dataclass(frozen=True)
class Finding:
    """A stable code, the place in the document, and what it means there."""

    code: str
    place: str
    message: str


def findings(document: t.Any) -> t.Iterator[Finding]:
    """Yield what holds for all kinds of policies."""
    for place, name, value in texts(document):
        if _EXPRESSIONS.fullmatch(name):
            yield from _of_expression(place, value)
        yield from _of_blocks(place, name, _decoded(value))
        if _FLAG.search(value):
            yield Finding(
                "enable_oci11", place, "with this flag, attestations that nobody signed are accepted; leave it out"
            )


def texts(value: t.Any, place: str = "", name: str = "") -> t.Iterator[tuple[str, str, str]]:
    """Yield every text with its place and the name of its member."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield from texts(one, f"{place}.{key}" if place else str(key), str(key))
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from texts(one, f"{place}[{number}]", name)
    elif isinstance(value, str):
        yield place, name, value


def _decoded(value: str) -> str:
    """Return the PEM that a text is, or is the base64 of."""
    if "-----BEGIN " in value:
        return value
    try:
        return _base64.decode("".join(value.split())).decode("ascii") if len(value) > len(_KEY) else ""
    except ValueError:
        return ""


def _of_expression(place: str, value: str) -> t.Iterator[Finding]:
    bare = value.removeprefix("^").removesuffix("$")
    if bare in _OPEN and value != _NOBODY:
        yield Finding("open_regexp", place, f"{value[:60]!r} matches everybody; name who may sign")
    elif not (value.startswith("^") and value.endswith("$")) or "|" in _outside_groups(bare):
        yield Finding(
            "unanchored_regexp", place,
            f"{value[:60]!r} is searched for, and matches longer names, too; write ^(?:...)$",
        )


def _outside_groups(expression: str) -> str:
    """Return an expression without its groups and classes: an alternative outside of them escapes the anchors."""
    shorter = re.sub(r"\\.|\[\^?\]?[^\]]*\]", "", expression)
    while (found := re.sub(r"\([^()]*\)", "", shorter)) != shorter:
        shorter = found
    return shorter


def _of_blocks(place: str, name: str, text: str) -> t.Iterator[Finding]:
    if text.count(_KEY) > 1:
        yield Finding(
            "two_keys", place, f"it holds {text.count(_KEY)} public keys, and readers take the first; write one each"
        )
    if name in _ROOTS and _CERTIFICATE in text:
        yield from _of_roots(place, text)


def _of_roots(place: str, text: str) -> t.Iterator[Finding]:
    try:
        found = certificate_path.read_certificates(text.encode("ascii", "replace"), where=place)
    except HallmarkError as exc:
        yield Finding("unreadable_certificate", place, exc.cause)
        return
    for one in found:
        if one.subject != one.issuer:
            yield Finding(
                "intermediate_pin", place,
                f"{one.subject.rfc4514_string()[:80]!r} is no root: its authority may use another from one day to the "
                "next, and all that it issued is trusted; pin public keys, or the root with a name",
            )
