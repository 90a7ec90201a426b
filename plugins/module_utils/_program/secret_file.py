# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Passphrases and PINs in files, as the program reads them: like the modules."""

from __future__ import annotations

from .._keys.files import read_key_file


def read(path: str | None) -> bytes | None:
    """Return the secret in a file, or None for no file; one newline at its end does not count. Raises KeyFileError."""
    return None if path is None else read_key_file(path).removesuffix(b"\n")
