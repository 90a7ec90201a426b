# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of modules that talk to registries, and how they become the registries of one task."""

from __future__ import annotations

import typing as t

from .._keys.fingerprint import require_key_id
from .._oci.credentials import read_auth_file
from .._oci.registry import Registries
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
                "validate_certs": {"type": "bool", "default": True},
                "plain_http": {"type": "bool"},
            },
            "required_together": [("username", "password")],
        },
        "timeout": {"type": "int", "default": 30},
        "workers": {"type": "int", "default": 16},
    }


def registries(params: Spec) -> Registries:
    """Return the registries of one task. Raises RegistryError for an unreadable auth file."""
    hosts = {entry["host"]: entry for entry in params["registries"]}
    return Registries(RegistrySettings(
        auth_file=read_auth_file(params["registry_auth_file"]),
        hosts={
            host: HostSettings(**{name: value for name, value in entry.items() if name != "host"})
            for host, entry in hosts.items()
        },
        timeout=float(max(1, params["timeout"])),
        workers=max(1, params["workers"]),
    ))


def key_ids(values: t.Iterable[str], *, option: str) -> frozenset[str]:
    """Return checked key ids. Raises KeyFileError (input_invalid)."""
    return frozenset(require_key_id(value, option=option) for value in values)
