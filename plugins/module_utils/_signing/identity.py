# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The name that a certificate must bear: what an issuer of certificates has to vouch for.

Names are compared character by character: C(*.example.com) in a certificate is just a text, and the common name is
never looked at. Of several names of the wanted type, any may be the one.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass

from .._errors import VerificationError
from .._keys import certificate
from .._libraries import optional
from . import linear_match

with optional():
    from cryptography import x509
    from cryptography.x509.oid import ExtensionOID

NameType = t.Literal["dns", "email", "uri", "other"]
# Fulcio's name of a user who has neither an address nor a URI: a DER UTF8String.
_FULCIO_NAME = "1.3.6.1.4.1.57264.1.7"
_UTF8_STRING = 0x0C
_OID_AND_HEX = re.compile(r"[0-9.]+:[0-9a-f]*")


@dataclass(frozen=True)
class Identity:
    """A name of one type: exactly this value, or any that the expression matches as a whole.

    Type other is an otherName: Fulcio's (1.3.6.1.4.1.57264.1.7) as its text, all else as OID:HEX with the DER value in
    lower-case hex, as hallmark.signing.signing_key_info returns it.
    """

    type: NameType
    value: str | None = None
    regexp: linear_match.Matcher | None = None

    def matches(self, leaf: x509.Certificate) -> bool:
        """Say whether a name of the certificate is this one."""
        return any(name.type == self.type and self._is(name.value) for name in names_of(leaf))

    def _is(self, text: str) -> bool:
        return self.regexp.fullmatch(text) if self.regexp else text == self.value


def read_identity(option: t.Mapping[str, t.Any]) -> Identity:
    """Read option san: type, and either value or regexp. Raises VerificationError (input_invalid)."""
    kind, value, pattern = (option.get(name) for name in ("type", "value", "regexp"))
    if kind not in t.get_args(NameType):
        raise _invalid(f"its type is {str(kind)[:100]!r}", f"Give one of {', '.join(t.get_args(NameType))}.")
    if (value is None) == (pattern is None):
        raise _invalid("it needs one of value and regexp, and not both", "Name what the certificate must bear.")
    asked = pattern if value is None else value
    if not asked or not isinstance(asked, str):
        # The empty text is no name, and an empty expression matches nothing else.
        raise _invalid("its value or regexp is empty, or no text", "Name what the certificate must bear.")
    matcher = linear_match.compile_pattern(pattern, where="san") if pattern else None
    return Identity(t.cast(NameType, kind), value, matcher)


def names_of(leaf: x509.Certificate) -> tuple[certificate.AlternativeName, ...]:
    """Return the alternative names of a certificate that was read whole, as C(certificate_path) does.

    Directory names and registered ids are left out: they have no type that could be asked for.
    """
    names = certificate.extension(leaf, ExtensionOID.SUBJECT_ALTERNATIVE_NAME) or ()
    return tuple(_name(name) for name in names if not isinstance(name, (x509.DirectoryName, x509.RegisteredID)))


def _name(name: x509.GeneralName) -> certificate.AlternativeName:
    if isinstance(name, x509.OtherName) and name.type_id.dotted_string == _FULCIO_NAME:
        text = _utf8_string(name.value)
        # A text that looks like another kind of name must not pass for it.
        if text is not None and text.isprintable() and not _OID_AND_HEX.fullmatch(text):
            return certificate.AlternativeName("other", text)
    return certificate.alternative_name(name)


def _utf8_string(der: bytes) -> str | None:
    """Return the text of a DER UTF8String (X.690 section 8.23), or None; the library vouches for the length."""
    header = 2 if der[1] < 0x80 else 2 + (der[1] & 0x7F)
    try:
        return der[header:].decode("utf-8") if der[0] == _UTF8_STRING else None
    except UnicodeDecodeError:
        return None


def _invalid(cause: str, advice: str) -> VerificationError:
    return VerificationError(
        code="input_invalid", object="san", attempt="tell which certificates to trust", cause=cause, advice=advice
    )
