# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The signing service of one identity: reads one request, and answers it.

Behind a forced command of ssh it is told who calls; behind a socket, the relay says so in a first line. A path of the
configuration that begins with C(credential:) is in the folder of credentials that systemd gives to the unit.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import signal
import sys
import typing as t

from .._errors import HallmarkError, KeyFileError
from .._keyhost import serving
from .._keys.files import read_key_file
from .._keys.signers.protocol import Signer
from . import secret_file

_CREDENTIAL = "credential:"
_SECONDS = 60


def main(argv: t.Sequence[str]) -> int:
    """Serve one request; return 0 if there is a signature in the answer."""
    parser = argparse.ArgumentParser(prog="hallmark serve")
    parser.add_argument("--config", required=True)
    parser.add_argument("--caller", help="who calls; without it, the first line says so")
    options = parser.parse_args(argv)
    # Whoever connects and says nothing is not waited for.
    signal.alarm(_SECONDS)
    try:
        _require_caller(options.caller)
        key = serving.read_key(read_key_file(options.config), where=options.config)
        source = sys.stdin.buffer
        caller = options.caller or source.readline(256).decode("ascii", "replace").strip()
        request = source.read(serving.MAX_REQUEST + 1)
        answer = serving.answer(
            key, caller, request, lambda: _load(key), now=datetime.datetime.now(datetime.timezone.utc)
        )
    except HallmarkError as exc:
        answer = {"error": {"code": exc.code, "message": str(exc)}}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
    return 0 if "signature" in answer else 1


def _require_caller(caller: str | None) -> None:
    """Refuse to believe a first line that came through ssh: the caller wrote it."""
    if caller is None and "SSH_CONNECTION" in os.environ:
        raise KeyFileError(
            code="input_invalid", object="--caller", attempt="serve a request that came through ssh",
            cause="nothing says who calls", advice="Put the name of the caller into the forced command.",
        )


def _load(key: serving.Key) -> Signer:
    if key.pointer_path is not None and os.path.lexists(key.pointer_path):
        from .._keys import pointer

        pointer.require(key.pointer_path, key.key_id)
    secret = secret_file.read(_path(key.secret_path) if key.secret_path else None)
    if key.private_key_path is not None:
        from .._keys.signers import file

        return file.load(_path(key.private_key_path), passphrase=secret, key_id=key.key_id)
    from .._keys.signers import uri

    return uri.load(t.cast(str, key.uri), pin=secret, public_key_path=key.public_key_path, key_id=key.key_id)


def _path(text: str) -> str:
    if not text.startswith(_CREDENTIAL):
        return text
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        raise KeyFileError(
            code="not_found", object=text, attempt="read the credential", cause="systemd gave this process none",
            advice="Run it as the unit that role signer installs.",
        )
    return os.path.join(folder, text[len(_CREDENTIAL):])
