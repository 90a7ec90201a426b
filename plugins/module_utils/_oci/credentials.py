# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who we are to a registry: given credentials, or the plain C(auths) of docker's C(config.json)."""

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
_MAX_FILE = 1024 * 1024


@dataclass(frozen=True)
class Credentials:
    """A user name and a password or token for one registry. The password is not in its C(repr)."""

    username: str
    password: str = field(repr=False)
    source: str

    def basic(self) -> str:
        """Return the value of an Authorization header (RFC 7617)."""
        pair = f"{self.username}:{self.password}".encode()
        return "Basic " + base64.b64encode(pair).decode("ascii")


@dataclass(frozen=True)
class AuthFile:
    """The credentials of a C(config.json) by host, and whether it names helpers that are not asked."""

    path: str
    by_host: t.Mapping[str, Credentials]
    names_helpers: bool

    def for_host(self, host: str) -> Credentials | None:
        """Return the credentials for a registry host, or None."""
        return self.by_host.get(_HUB_KEY if host == HUB else host)


def default_path() -> str:
    """Return where docker keeps its configuration for this user: C($DOCKER_CONFIG) or C(~/.docker)."""
    folder = os.environ.get("DOCKER_CONFIG") or os.path.join(os.path.expanduser("~"), ".docker")
    return os.path.join(folder, "config.json")


def read_auth_file(path: str | None) -> AuthFile:
    """Read C(path), or docker's own file if there is one.

    Raises RegistryError (not_found, malformed): a file that was asked for is missing, or one cannot be parsed.
    """
    where = path or default_path()
    if path is None and not os.path.exists(where):
        return AuthFile(where, {}, False)
    try:
        with open(where, "rb") as stream:
            document = json.loads(stream.read(_MAX_FILE))
        auths = document.get("auths") or {}
        found = {_host(name): _credentials(entry, where) for name, entry in auths.items() if _is_whole_host(name)}
    except OSError as exc:
        raise _unreadable(where, "not_found", exc.strerror or type(exc).__name__) from exc
    except (ValueError, AttributeError, TypeError, RecursionError) as exc:
        # The parser's text may quote the file, and the file holds passwords.
        raise _unreadable(where, "malformed", "it is not a docker configuration") from (
            None if isinstance(exc, ValueError) else exc
        )
    helpers = bool(document.get("credsStore") or document.get("credHelpers"))
    return AuthFile(where, {host: value for host, value in found.items() if value is not None}, helpers)


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
    if not username or password is None or (not password and entry.get("identitytoken")):
        return None
    return Credentials(str(username), str(password).rstrip("\0"), source)


def _unreadable(where: str, code: t.Literal["not_found", "malformed"], cause: str) -> RegistryError:
    return RegistryError(
        code=code, object=where, attempt="read the registry credentials", cause=cause,
        advice="Name another file in registry_auth_file, or write one with docker login.",
    )
