# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Asking docker's credential helpers (programs called C(docker-credential-NAME)), through the docker SDK."""

from __future__ import annotations

from .._errors import LibraryError, RegistryError
from .._libraries import optional, require
from .._oci.credentials import Credentials, from_helper

with optional():
    from docker.credentials import Store
    from docker.credentials.errors import CredentialsNotFound, StoreError


def ask(program: str, server: str) -> Credentials | None:
    """Return what the helper C(docker-credential-PROGRAM) knows about a server; None when it knows nothing.

    Raises RegistryError (unauthorized): the helper is missing or fails; LibraryError: the docker SDK is missing.
    """
    try:
        require("docker")
    except LibraryError as exc:
        raise _failed(program, server, f"that takes the docker SDK, and {exc.cause}", exc.advice) from exc
    try:
        found: dict[str, object] = Store(program).get(server)  # type: ignore[no-untyped-call]
    except CredentialsNotFound:
        return None
    except (StoreError, ValueError, OSError, TypeError, KeyError, AttributeError) as exc:
        # What a helper prints may hold anything: only the SDK's own class of failure is told.
        cause = "it is not there" if "not installed" in str(exc) else f"it failed ({type(exc).__name__})"
        raise _failed(
            program, server, cause, "Install or repair it, log in again, or give registries[].username and password."
        ) from None
    username, secret = found.get("Username"), found.get("Secret")
    if not username or not isinstance(secret, str):
        return None
    return from_helper(str(username), secret, f"credential helper {program}")


def _failed(program: str, server: str, cause: str, advice: str) -> RegistryError:
    return RegistryError(
        code="unauthorized", object=server, attempt=f"ask the credential helper docker-credential-{program}",
        cause=cause, advice=advice,
    )
