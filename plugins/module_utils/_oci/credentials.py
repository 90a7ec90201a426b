# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who we are to a registry: given credentials, or what docker's C(config.json) says.

That file holds plain C(auths), and names credential helpers: programs that are asked for one host at a time.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import typing as t
from dataclasses import dataclass, field

from .._errors import RegistryError
from .reference import HUB

_HUB_KEY = "index.docker.io"
# What docker calls its hub when it asks a credential helper.
_HUB_SERVER = "https://index.docker.io/v1/"
_MAX_FILE = 1024 * 1024


@dataclass(frozen=True)
class Credentials:
    """A user name and a password for one registry, or an identity token. No secret is in its C(repr).

    An C(identity_token) (OAuth2 refresh token) goes to the token service only, in place of the password.
    """

    username: str
    password: str = field(repr=False)
    source: str
    identity_token: str = field(default="", repr=False)

    def basic(self) -> str:
        """Return the value of an Authorization header (RFC 7617)."""
        pair = f"{self.username}:{self.password}".encode()
        return "Basic " + base64.b64encode(pair).decode("ascii")


# Asks the credential helper NAME (docker-credential-NAME) for a server; None when it knows none.
Helper = t.Callable[[str, str], t.Optional[Credentials]]
_TOKEN_USER = "<token>"


@dataclass(frozen=True)
class AuthFile:
    """What a C(config.json) says: plain credentials and the name of a credential helper, by host.

    C(store) is the helper for all other hosts. C(helper) asks one; without it none is asked.
    """

    path: str
    by_host: t.Mapping[str, Credentials]
    helpers: t.Mapping[str, str] = field(default_factory=dict)
    store: str | None = None
    helper: Helper | None = field(default=None, repr=False, compare=False)

    def for_host(self, host: str) -> Credentials | None:
        """Return the credentials for a registry host, or None: a helper's first, as docker does.

        Raises RegistryError (unauthorized) when a helper fails.
        """
        key = _HUB_KEY if host == HUB else host
        name = self.helpers.get(key) or self.store
        found = self.helper(name, _HUB_SERVER if host == HUB else host) if name and self.helper else None
        return found or self.by_host.get(key)


def from_helper(username: str, secret: str, source: str) -> Credentials:
    """Return what a credential helper said: with user C(<token>), the secret is an identity token."""
    if username == _TOKEN_USER:
        return Credentials(username, "", source, identity_token=secret)
    return Credentials(username, secret, source)


def default_path() -> str:
    """Return where docker keeps its configuration for this user: C($DOCKER_CONFIG) or C(~/.docker)."""
    folder = os.environ.get("DOCKER_CONFIG") or os.path.join(os.path.expanduser("~"), ".docker")
    return os.path.join(folder, "config.json")


def read_auth_file(path: str | None, *, helper: Helper | None = None) -> AuthFile:
    """Read C(path), or docker's own file if there is one; C(helper) is how credential helpers are asked.

    Raises RegistryError (not_found, malformed): a file that was asked for is missing, or one cannot be parsed.
    """
    where = path or default_path()
    if path is None and not os.path.exists(where):
        return AuthFile(where, {})
    try:
        with open(where, "rb") as stream:
            document = json.loads(stream.read(_MAX_FILE))
        auths = document.get("auths") or {}
        found = {_host(name): _credentials(entry, where) for name, entry in auths.items() if _is_whole_host(name)}
        helpers = {_host(name): str(program) for name, program in (document.get("credHelpers") or {}).items()}
    except OSError as exc:
        raise _unreadable(where, "not_found", exc.strerror or type(exc).__name__) from exc
    except (ValueError, AttributeError, TypeError, RecursionError) as exc:
        # The parser's text may quote the file, and the file holds passwords.
        raise _unreadable(where, "malformed", "it is not a docker configuration") from (
            None if isinstance(exc, ValueError) else exc
        )
    plain = {host: value for host, value in found.items() if value is not None}
    return AuthFile(where, plain, helpers, document.get("credsStore") or None, helper)


def _host(name: str) -> str:
    # Docker writes bare hosts, and URLs such as https://index.docker.io/v1/ for its own hub.
    bare = name.partition("://")[2] or name
    host = bare.partition("/")[0]
    return _HUB_KEY if host in (HUB, "registry-1.docker.io") else host


def _is_whole_host(name: str) -> bool:
    # Other tools also keep credentials for a namespace, HOST/TEAM; those are not for the whole host.
    bare = name.partition("://")[2] or name
    return bare.partition("/")[2].strip("/") in ("", "v1", "v2")


def _credentials(entry: t.Mapping[str, t.Any], source: str) -> Credentials | None:
    username, password = entry.get("username"), entry.get("password")
    if entry.get("auth"):
        try:
            pair = base64.b64decode(str(entry["auth"]), validate=True).decode("utf-8")
        except (binascii.Error, UnicodeDecodeError):
            raise ValueError("an auth entry is not base64") from None
        username, _colon, password = pair.partition(":")
    token = str(entry.get("identitytoken") or "")
    if token:
        return Credentials(str(username or _TOKEN_USER), "", source, identity_token=token)
    if not username or password is None:
        return None
    return Credentials(str(username), str(password).rstrip("\0"), source)


def _unreadable(where: str, code: t.Literal["not_found", "malformed"], cause: str) -> RegistryError:
    return RegistryError(
        code=code, object=where, attempt="read the registry credentials", cause=cause,
        advice="Name another file in registry_auth_file, or write one with docker login.",
    )
