# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Telling Ansible users which Python library is missing."""

from __future__ import annotations

import typing as t

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from .._errors import LibraryError
from .._libraries import FLOORS, KEYS_CRYPTOGRAPHY_FLOOR, require
from . import results

_DEBUG = (
    "ANSIBLE_DEBUG is set: Ansible prints the arguments of tasks with it, passphrases and passwords too, whatever no_log "
    "says. Switch it off, and replace secrets that were given as options."
)
_warned: set[str] = set()


def require_libraries(module: AnsibleModule, *libraries: str, empty: t.Mapping[str, t.Any]) -> None:
    """End the task unless each library is there in its floor or newer; C(empty) holds the normal return keys."""
    for library in libraries:
        _require(module, library, FLOORS[library], empty)


def require_for_keys(module: AnsibleModule, *, empty: t.Mapping[str, t.Any]) -> None:
    """End the task unless C(cryptography) suffices for key files, which an older one does."""
    _require(module, "cryptography", KEYS_CRYPTOGRAPHY_FLOOR, empty)


def _require(module: AnsibleModule, library: str, floor: str, empty: t.Mapping[str, t.Any]) -> None:
    if module._debug and _DEBUG not in _warned:
        # Every module comes by here; the secrets were printed before it ran.
        _warned.add(_DEBUG)
        module.warn(_DEBUG)
    try:
        require(library, floor=floor)
    except LibraryError as exc:
        results.fail(module, f"{missing_required_lib(exc.object)} {exc}", [exc.as_reason()], empty)
