# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The pointer of an identity, as the host with its key obeys it: which key signs, and whether it does.

Role rotation writes it beside the signing key, F.pointer.json beside F.key. A key that was superseded, or whose
identity is suspended, is refused, whichever program asks.
"""

from __future__ import annotations

from .. import _strict_json
from .._errors import KeyFileError
from .files import read_key_file


def require(path: str, key_id: str) -> None:
    """Refuse a key that the pointer in a file does not name.

    Raises KeyFileError: key_fenced, and as C(read_key_file()); FormatError (malformed).
    """
    pointer = _strict_json.loads(read_key_file(path), what="pointer", where=path)
    # Without an active generation there is no key.
    named = pointer.string("key_id") if pointer.members.get("key_id", "") is not None else None
    fence = pointer.integer("fence")
    if pointer.members.get("suspended") is not False:
        cause = f"pointer {fence} says that its identity does not sign for now"
    elif named != key_id:
        cause = f"pointer {fence} names {named or 'no key'}, and this one is {key_id}"
    else:
        return
    raise KeyFileError(
        code="key_fenced", object=path, attempt="sign with the key", cause=cause,
        advice="Sign with the key that the pointer names; playbook rotate brings the newest one.",
    )
