# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Passphrases on their way from options to the domain."""

from __future__ import annotations

import typing as t
from contextlib import suppress

from .._errors import KeyFileError
from .._keys.files import read_key_file

try:  # ansible-core 2.22 masks registered secrets in all output; before, no_log cuts them out of results.
    from ansible.module_utils.secrets import register_secret  # type: ignore[import-not-found,unused-ignore]
except ImportError:
    def register_secret(value: str) -> None:
        """Do nothing: this ansible-core hides the values of C(no_log) options by itself."""


def passphrase(params: t.Mapping[str, t.Any], prefix: str = "") -> bytes | None:
    """Return a passphrase given as an option or in a file, or None.

    One newline at the end of the file does not count. Raises KeyFileError (not_found, malformed).
    """
    if params.get(f"{prefix}passphrase") is not None:
        return str(params[f"{prefix}passphrase"]).encode("utf-8")
    return from_file(params.get(f"{prefix}passphrase_path"))


def from_file(path: str | None) -> bytes | None:
    """Return the passphrase or PIN in a file, or None for no file; one newline at its end does not count.

    Raises KeyFileError (not_found, malformed).
    """
    if path is None:
        return None
    text: str | None = None
    with suppress(UnicodeDecodeError):
        text = read_key_file(path).decode("utf-8")
    if text is None:
        # Raised out here, so that no context of it holds the bytes.
        raise KeyFileError(
            code="malformed", object=path, attempt="read the passphrase", cause="it is not UTF-8 text",
            advice="Write the passphrase as one line of text.",
        )
    text = text[:-1] if text.endswith("\n") else text
    if text:
        register_secret(text)
    return text.encode("utf-8")
