# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who we are to a registry: given credentials, or what docker's C(config.json) says.

That file holds plain C(auths), and names credential helpers: programs that are asked for one host at a time.
"""

from __future__ import annotations

import base64
import os
import typing as t
from dataclasses import dataclass, field

from .reference import HUB

HUB_KEY = "index.docker.io"
# What docker calls its hub when it asks a credential helper.
_HUB_SERVER = "https://index.docker.io/v1/"


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
TOKEN_USER = "<token>"


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
        key = HUB_KEY if host == HUB else host
        name = self.helpers.get(key) or self.store
        found = self.helper(name, _HUB_SERVER if host == HUB else host) if name and self.helper else None
        return found or self.by_host.get(key)


def from_helper(username: str, secret: str, source: str) -> Credentials:
    """Return what a credential helper said: with user C(<token>), the secret is an identity token."""
    if username == TOKEN_USER:
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
    # Most hosts have none: Ansible compiles what is imported for every task.
    from .auth_file import read

    return read(where, helper=helper)
