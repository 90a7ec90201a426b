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


def require_libraries(module: AnsibleModule, *libraries: str, empty: t.Mapping[str, t.Any]) -> None:
    """End the task unless each library is there in its floor or newer; C(empty) holds the normal return keys."""
    for library in libraries:
        _require(module, library, FLOORS[library], empty)


def require_for_keys(module: AnsibleModule, *, empty: t.Mapping[str, t.Any]) -> None:
    """End the task unless C(cryptography) suffices for key files, which an older one does."""
    _require(module, "cryptography", KEYS_CRYPTOGRAPHY_FLOOR, empty)


def _require(module: AnsibleModule, library: str, floor: str, empty: t.Mapping[str, t.Any]) -> None:
    if module._debug:
        # Every module with secrets comes by here.
        from . import debugging

        debugging.warn(module)
    try:
        require(library, floor=floor)
    except LibraryError as exc:
        results.fail(module, f"{missing_required_lib(exc.object)} {exc}", [exc.as_reason()], empty)
