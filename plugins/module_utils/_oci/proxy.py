# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which proxy a request goes through: the usual environment variables, as curl and Go read them.

C(HTTPS_PROXY), C(HTTP_PROXY), C(ALL_PROXY) and C(NO_PROXY), in capitals or not. This machine itself is never
reached through a proxy.
"""

from __future__ import annotations

import base64
import os
import typing as t
from dataclasses import dataclass, field
from urllib.parse import unquote

from .._errors import RegistryError
from . import location

_VARIABLES = ("http_proxy", "https_proxy", "all_proxy")


@dataclass(frozen=True)
class Proxy:
    """The URL of a proxy without its login, and that login as C(user:password), if there is one."""

    url: str
    login: str | None = field(default=None, repr=False)

    def headers(self) -> dict[str, str]:
        """Return the header that logs in to the proxy, if it wants that."""
        if not self.login:
            return {}
        return {"Proxy-Authorization": f"Basic {base64.b64encode(unquote(self.login).encode('utf-8')).decode('ascii')}"}


def proxy_for(url: str, environment: t.Mapping[str, str] | None = None) -> Proxy | None:
    """Return the proxy for a URL, or None. Raises RegistryError (input_invalid): a proxy that cannot be used."""
    variables = os.environ if environment is None else environment
    if not any(variables.get(name) or variables.get(name.upper()) for name in _VARIABLES):
        return None
    # Loaded only where there is a proxy: it brings half of the standard library's HTTP along.
    from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

    scheme, host, port = location.origin(url)
    known = _known(variables)
    if location.is_loopback(host) or proxy_bypass_environment(f"{host}:{port}", known):
        return None
    chosen = known.get(scheme) or known.get("all")
    return _parse(chosen) if chosen else None


def _known(variables: t.Mapping[str, str]) -> dict[str, str]:
    known: dict[str, str] = {}
    for name in (*_VARIABLES, "no_proxy"):
        # On a CGI server HTTP_PROXY would be a request header; there is none here, yet small letters win as for curl.
        value = variables.get(name) or variables.get(name.upper())
        if value:
            known[name.partition("_")[0]] = value
    return known


def _parse(text: str) -> Proxy:
    whole = text if "://" in text else f"http://{text}"
    scheme, _separator, rest = whole.partition("://")
    login, at, host = rest.rpartition("@")
    if scheme.lower() not in ("http", "https") or not host.strip("/"):
        raise RegistryError(
            code="input_invalid", object=f"{scheme}://{host}"[:200], attempt="use the proxy of the environment",
            cause="only HTTP and HTTPS proxies are known here",
            advice="Set HTTPS_PROXY to one, or name the host in NO_PROXY.",
        )
    return Proxy(f"{scheme.lower()}://{host.strip('/')}", login if at else None)
