# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options that say what signs, turned into a signer."""

from __future__ import annotations

import typing as t

from .._keys.signers import file
from .._keys.signers.protocol import Signer
from . import args, secrets

KINDS = ("private_key_path", "uri", "command")
Options = t.Mapping[str, t.Any]


def spec() -> args.Spec:
    """Return the options of a key on this host or behind it; exactly one of C(KINDS)."""
    return {
        "private_key_path": {"type": "path", "no_log": False},
        **args.passphrase_spec(),
        "uri": {"type": "str"},
        "pin_path": {"type": "path", "no_log": False},
        "command": {"type": "list", "elements": "str"},
        "public_key_path": {"type": "path", "no_log": False},
        "key_id": {"type": "str", "no_log": False},
    }


def load(options: Options, *, scheme: str | None, dry_run: bool) -> Signer:
    """Return the signer. Raises KeyFileError and LibraryError as its kind does."""
    path, key_id, public = options["private_key_path"], options["key_id"], options["public_key_path"]
    if path is not None:
        return file.load(path, passphrase=secrets.passphrase(options), key_id=key_id, dry_run=dry_run)
    if options["uri"] is not None:
        from .._keys.signers import uri

        pin = secrets.from_file(options["pin_path"])
        return uri.load(options["uri"], pin=pin, public_key_path=public, key_id=key_id, scheme=scheme)
    from .._keys.signers import command

    return command.load(options["command"], public_key_path=public, key_id=key_id, scheme=scheme)
