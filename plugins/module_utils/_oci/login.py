# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Being logged in to one registry host: what it asked for, and the tokens it gave. Loaded when it asks."""

from __future__ import annotations

import threading
import typing as t

from . import authorization
from .authorization import Challenge, Token
from .credentials import Credentials
from .transport import Request, Response

_REFUSALS = (400, 401, 403)


class Login:
    """Says which Authorization header goes with a request; used from many threads.

    C(ask) sends a request to the token service, and returns its answer, which may be a refusal.
    """

    def __init__(
        self, host: str, base: str, credentials: Credentials | None, ask: t.Callable[[Request, float], Response]
    ) -> None:
        self.challenge: Challenge | None = None
        self.tokens: dict[str, Token] = {}
        self._host = host
        self._base = base
        self._credentials = credentials
        self._ask = ask
        self._lock = threading.Lock()
        self._scope_locks: dict[str, threading.Lock] = {}

    def learn(self, header: str, *, used: str | None, scope: str) -> bool:
        """Read what a 401 asks for; say whether another try could fare better. Raises RegistryError (unauthorized)."""
        former = self.challenge
        self.challenge = authorization.read_challenge(header, base=self._base, where=self._host)
        # A token may have expired or been revoked, a second refusal is final; a password stays the same.
        if used is not None and used.startswith("Basic ") and former == self.challenge:
            return False
        token = self.tokens.get(scope)
        if token is not None and f"Bearer {token.value}" == used:
            del self.tokens[scope]
        return True

    def authorization(self, scope: str, deadline: float) -> str:
        """Return the header for a request of C(scope). Raises RegistryError (unauthorized, registry_error)."""
        challenge = t.cast(Challenge, self.challenge)
        if challenge.scheme == "basic":
            if self._credentials is None or self._credentials.identity_token:
                raise authorization.no_credentials(self._credentials, where=self._host)
            return self._credentials.basic()
        with self._lock:
            scope_lock = self._scope_locks.setdefault(scope, threading.Lock())
        with scope_lock:
            token = self.tokens.get(scope)
            if token is None or not token.is_fresh:
                token = self._fetch_token(challenge, scope, deadline)
                self.tokens[scope] = token
        return f"Bearer {token.value}"

    def _fetch_token(self, challenge: Challenge, scope: str, deadline: float) -> Token:
        who = self._credentials
        attempt, accepted = "log in to the registry", (200, *_REFUSALS)
        if who is not None and who.identity_token:
            ask = Request(
                "POST", challenge.realm, scope, attempt, {"Content-Type": "application/x-www-form-urlencoded"},
                challenge.refresh_form(scope, who.identity_token), accepted=accepted,
            )
        else:
            headers = {"Authorization": who.basic()} if who else {}
            ask = Request("GET", challenge.token_url(scope), scope, attempt, headers, accepted=accepted)
        response = self._ask(ask, deadline)
        if response.status in _REFUSALS:
            raise authorization.no_credentials(who, where=self._host)
        return authorization.read_token(response.body, where=self._host)
