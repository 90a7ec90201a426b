# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading key and certificate files, bounded."""

from __future__ import annotations

import os
import stat

from .._errors import KeyFileError

MAXIMUM_KEY_FILE = 1024 * 1024
# What begins the line in which an exported copy says when it ends: see C(lease).
EXPORTED = b"hallmark-export"


def read_key_file(path: str) -> bytes:
    """Return the bytes of a key or certificate file of at most 1 MiB. Raises KeyFileError (not_found, malformed)."""
    try:
        # Without blocking: a pipe would be waited for.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise ValueError("it is not a regular file")
            data = stream.read(MAXIMUM_KEY_FILE + 1)
    except (OSError, ValueError) as exc:
        raise KeyFileError(
            code="not_found", object=path, attempt="read the file", cause=getattr(exc, "strerror", None) or str(exc),
            advice="Check the path, and that the user of this task may read it.",
        ) from exc
    if len(data) > MAXIMUM_KEY_FILE:
        raise KeyFileError(
            code="malformed", object=path, attempt="read the file", cause="it is larger than 1 MiB",
            advice="Give a key or certificate file.",
        )
    return data
