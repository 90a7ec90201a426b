# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Answering a registry's challenge: Basic (RFC 7617), or a bearer token from its token service.

Source: distribution specification "Token Authentication"; challenges by RFC 9110 section 11.6.1.
"""

from __future__ import annotations

import re
import time
import typing as t
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit

from .. import _strict_json
from .._errors import FormatError, RegistryError
from . import location
from .credentials import Credentials

_SCHEME = re.compile(r'(?:^|,)\s*(Basic|Bearer)(?:\s+|$)', re.IGNORECASE)
_OTHER_SCHEME = re.compile(r',\s*[A-Za-z][A-Za-z0-9-]*(?:\s+[A-Za-z0-9]|\s*$|\s*,)')
# It begins where a word begins: to try each letter of a long word would take quadratic time.
_PARAMETER = re.compile(r'(?<![a-zA-Z_])([a-zA-Z_]+)\s*=\s*(?:"([^"]*)"|([^\s,"]+))')
_DEFAULT_LIFETIME = 60
_CLOCK_MARGIN = 10


@dataclass(frozen=True)
class Challenge:
    """What a WWW-Authenticate header asks for: scheme C(basic) or C(bearer), with realm and service."""

    scheme: t.Literal["basic", "bearer"]
    realm: str
    service: str

    def token_url(self, scope: str) -> str:
        """Return the URL that gives a token for C(scope): one or more, such as C(repository:app:pull), by spaces."""
        query = [("service", self.service)] if self.service else []
        joiner = "&" if urlsplit(self.realm).query else "?"
        return f"{self.realm}{joiner}{urlencode([*query, *(('scope', one) for one in scope.split())])}"

    def refresh_form(self, scope: str, identity_token: str) -> bytes:
        """Return the form that an identity token is sent in (distribution project, "OAuth2 token")."""
        return urlencode({
            "grant_type": "refresh_token", "service": self.service, "client_id": "hallmark.signing",
            "scope": scope, "refresh_token": identity_token,
        }).encode("ascii")


@dataclass(frozen=True)
class Token:
    """A bearer token and the monotonic time (seconds) from which it is not used any more."""

    value: str = field(repr=False)
    stale_at: float

    @property
    def is_fresh(self) -> bool:
        """Whether the token may still be sent."""
        return time.monotonic() < self.stale_at


def read_challenge(header: str, *, base: str, where: str) -> Challenge:
    """Parse WWW-Authenticate headers, joined by commas; Bearer is preferred to Basic, others are passed over.

    C(base) is the URL of the registry. Raises RegistryError (unauthorized): no scheme we know, or a token
    service to which no password may go: on plain HTTP when the registry is on HTTPS, or in a foreign network.
    """
    found = {match[1].lower(): header[match.end():] for match in reversed(list(_SCHEME.finditer(header)))}
    if "bearer" in found:
        parameters = _parameters(found["bearer"])
        try:
            realm = location.resolve(base, parameters.get("realm", ""))
        except ValueError as exc:
            raise _refused(where, f"its token service is at no usable address: {exc}") from exc
        if not parameters.get("realm"):
            raise _refused(where, "it names no token service")
        if location.is_secure(base) and not location.is_secure(realm):
            raise _refused(where, "its token service is on plain HTTP while the registry is on HTTPS")
        return Challenge("bearer", realm, parameters.get("service", ""))
    if "basic" in found:
        return Challenge("basic", _parameters(found["basic"]).get("realm", ""), "")
    raise _refused(where, "it asks for an authentication that is neither Basic nor Bearer")


def _parameters(text: str) -> dict[str, str]:
    other = _OTHER_SCHEME.search(re.sub(r'"[^"]*"', lambda quoted: '"' + "x" * (len(quoted[0]) - 2) + '"', text))
    own = text[:other.start()] if other else text
    return {name.lower(): quoted or bare for name, quoted, bare in reversed(_PARAMETER.findall(own))}


def read_token(body: bytes, *, where: str) -> Token:
    """Parse the answer of a token service. Raises RegistryError (unauthorized)."""
    try:
        answer = _strict_json.loads(body, what="token", where=where)
        value = answer.string("token", "") or answer.string("access_token", "")
        seconds = answer.integer("expires_in", _DEFAULT_LIFETIME)
    except FormatError as exc:
        # The answer holds a credential: say what is wrong with it, never quote it.
        raise _refused(where, "its token service answered with something else than a token") from exc
    if not value or not value.isascii() or not value.isprintable() or " " in value:
        raise _refused(where, "its token service gave no token")
    return Token(value, time.monotonic() + max(seconds, _DEFAULT_LIFETIME) - _CLOCK_MARGIN)


def no_credentials(credentials: Credentials | None, *, where: str) -> RegistryError:
    """Return the error for a registry that refuses us, saying which credentials were used, if any."""
    if credentials is None:
        return _refused(where, "it wants a login, and no credentials are known for it")
    who = "the identity token" if credentials.identity_token else f"user {credentials.username!r}"
    return _refused(where, f"it refuses {who} (credentials from {credentials.source})")


def _refused(where: str, cause: str) -> RegistryError:
    return RegistryError(
        code="unauthorized", object=where, attempt="log in to the registry", cause=cause,
        advice="Give registries[].username and password, or a registry_auth_file with an entry or a credential helper "
        "for this host.",
    )
