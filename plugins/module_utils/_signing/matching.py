# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Counting distinct authorities where one signature may be good for several."""

from __future__ import annotations

import typing as t
from dataclasses import replace

from .signature import Signature


def match(accepted: t.Sequence[tuple[tuple[str, ...], Signature]]) -> dict[str, Signature]:
    """Give each authority a signature by a key of its own, to as many authorities as possible.

    C(accepted) has, for each signature, the names of the authorities it is good for. One key counts once, whatever it
    is good for and however often it signed. Augmenting paths (Kuhn) find the best distribution.
    """
    signatures: dict[str, Signature] = {}
    names: dict[str, dict[str, None]] = {}
    for good_for, signature in accepted:
        signatures.setdefault(signature.key_id, signature)
        names.setdefault(signature.key_id, {}).update(dict.fromkeys(good_for))
    taken: dict[str, str] = {}

    def place(key_id: str, seen: set[str]) -> bool:
        for name in names[key_id]:
            if name not in seen:
                seen.add(name)
                if name not in taken or place(taken[name], seen):
                    taken[name] = key_id
                    return True
        return False

    for key_id in names:
        place(key_id, set())
    return {name: replace(signatures[key_id], authority=name) for name, key_id in taken.items()}
