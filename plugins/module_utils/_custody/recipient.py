# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Encrypting a copy of a key to the one who shall have it, with the program age, so that nobody between can read it.

Source: the age format, C(age-encryption.org/v1). The program does it, for no maintained Python library does.
"""

from __future__ import annotations

import re
import shutil
import subprocess

from .._errors import CustodyError

_RECIPIENT = re.compile(r"age1[a-z0-9]{1,4096}")
_TIMEOUT = 60
BEGIN = b"-----BEGIN AGE ENCRYPTED FILE-----"


def require(recipient: str) -> str:
    """Return the path of the program, if it is there and C(recipient) is one of its recipients. Raises CustodyError."""
    if not _RECIPIENT.fullmatch(recipient):
        raise _failed(
            "input_invalid", recipient, "it is no age recipient", "Give the public key that age-keygen prints."
        )
    program = shutil.which("age")
    if program is None:
        raise _failed("not_found", "age", "the program is not installed", "Install the package age, or use passphrase.")
    return program


def encrypt(data: bytes, recipient: str) -> bytes:
    """Return C(data) encrypted to C(recipient), in age's armor.

    Raises CustodyError (not_found, input_invalid, write_failed).
    """
    program = require(recipient)
    try:
        done = subprocess.run(
            [program, "--armor", "--recipient", recipient], input=data, capture_output=True, timeout=_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as exc:
        # Without its context: a timeout holds what was sent.
        failure = type(exc).__name__
    else:
        if done.returncode == 0 and done.stdout.startswith(BEGIN):
            return done.stdout
        failure = f"it ended with status {done.returncode}"
    raise _failed("write_failed", program, failure, "Try the program by hand with the same recipient.")


def _failed(code: str, where: str, cause: str, advice: str) -> CustodyError:
    return CustodyError(
        code=code, object=where, attempt="encrypt the copy to its recipient", cause=cause, advice=advice  # type: ignore[arg-type]
    )
