# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of modules that talk to registries, and what they say."""

from __future__ import annotations

import typing as t

from .._oci.credentials import Credentials, read_auth_file
from .._oci.transport import HostSettings, RegistrySettings

Spec = dict[str, t.Any]


def registry_spec() -> Spec:
    """Return the options of every module that talks to registries; doc fragment C(_registry)."""
    return {
        "registry_auth_file": {"type": "path"},
        "registries": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "host": {"type": "str", "required": True},
                "username": {"type": "str"},
                "password": {"type": "str", "no_log": True},
                "ca_path": {"type": "path"},
                "client_cert": {"type": "path"},
                "client_key": {"type": "path", "no_log": False},
                "mirrors": {"type": "list", "elements": "str", "default": []},
                "validate_certs": {"type": "bool", "default": True},
                "plain_http": {"type": "bool"},
            },
            "required_together": [("username", "password")],
            "required_by": {"client_key": ["client_cert"]},
        },
        "timeout": {"type": "int", "default": 30},
        "workers": {"type": "int", "default": 16},
    }


def settle_spec() -> Spec:
    """Return the option of modules that write what other hosts may write, too; doc fragment C(_registry.settle)."""
    return {"settle_seconds": {"type": "float", "default": 2.0}}


def settings(params: Spec, *, uses_mirrors: bool = False) -> RegistrySettings:
    """Return what the options of one task say about registries, and about the hosts of logs.

    Raises RegistryError for an unreadable auth file, FormatError for a mirror that is none. Mirrors are for tasks that
    read only: what is to be written must be read where it is written.
    """
    hosts = {entry["host"]: entry for entry in params["registries"]}
    for entry in hosts.values():
        for mirror in entry["mirrors"]:
            from .._oci.mirror import require_mirror

            require_mirror(mirror)
    return RegistrySettings(
        auth_file=read_auth_file(params["registry_auth_file"], helper=_ask_helper),
        hosts={
            host: HostSettings(**{
                **{name: value for name, value in entry.items() if name != "host"}, "mirrors": tuple(entry["mirrors"]),
            })
            for host, entry in hosts.items()
        },
        timeout=float(max(1, params["timeout"])),
        workers=max(1, params["workers"]),
        settle_seconds=max(0.0, params.get("settle_seconds", 0.0)),
        uses_mirrors=uses_mirrors,
    )


def _ask_helper(program: str, server: str) -> Credentials | None:
    # The docker SDK is loaded only where a credential helper is named.
    from .._docker import credential_helper

    return credential_helper.ask(program, server)


def key_ids(values: t.Iterable[str], *, option: str) -> frozenset[str]:
    """Return checked key ids. Raises KeyFileError (input_invalid)."""
    # Most tasks that talk to registries name no keys.
    from .._keys.fingerprint import require_key_id

    return frozenset(require_key_id(value, option=option) for value in values)
