# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading docker's C(config.json): plain credentials, and which credential helpers there are."""

from __future__ import annotations

import base64
import binascii
import json
import typing as t

from .._errors import RegistryError
from .credentials import HUB_KEY, TOKEN_USER, AuthFile, Credentials, Helper
from .reference import HUB

_MAX_FILE = 1024 * 1024


def read(where: str, *, helper: Helper | None) -> AuthFile:
    """Read the file C(where). Raises RegistryError (not_found, malformed)."""
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
    return HUB_KEY if host in (HUB, "registry-1.docker.io") else host


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
        return Credentials(str(username or TOKEN_USER), "", source, identity_token=token)
    if not username or password is None:
        return None
    return Credentials(str(username), str(password).rstrip("\0"), source)


def _unreadable(where: str, code: t.Literal["not_found", "malformed"], cause: str) -> RegistryError:
    return RegistryError(
        code=code, object=where, attempt="read the registry credentials", cause=cause,
        advice="Name another file in registry_auth_file, or write one with docker login.",
    )
