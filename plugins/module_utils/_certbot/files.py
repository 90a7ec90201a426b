# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files of a Certbot host: small ones, read whole, and written whole or not at all.

None of them is private. No private key is read here.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import typing as t

from .._custody import public_file
from .._custody.private_file import MAX_SIZE
from .._errors import CertbotError

Json = dict[str, t.Any]


def read(path: str) -> bytes | None:
    """Return the content of a file, or None where there is none. Raises CertbotError (not_found, malformed)."""
    try:
        with open(path, "rb") as stream:
            data = stream.read(MAX_SIZE + 1)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise CertbotError(
            code="not_found", object=path, attempt="read the file", cause=exc.strerror or type(exc).__name__,
            advice="Check the path, and that this user may read it.",
        ) from exc
    if len(data) > MAX_SIZE:
        raise CertbotError(
            code="malformed", object=path, attempt="read the file", cause=f"it is larger than {MAX_SIZE} bytes",
            advice="Look at what is there.",
        )
    return data


def digest(path: str) -> str:
    """Return the SHA-256 of a file, or an empty text where there is none. Raises CertbotError."""
    data = read(path)
    return hashlib.sha256(data).hexdigest() if data is not None else ""


def read_json(path: str) -> Json:
    """Return the JSON object in a file, or an empty one where there is none. Raises CertbotError (malformed)."""
    data = read(path)
    if data is None:
        return {}
    try:
        # Not strictly: names of hooks that are no UTF-8 stand in it as lone surrogates.
        document = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise malformed(path, f"it is no JSON: {exc}") from exc
    if not isinstance(document, dict):
        raise malformed(path, "it is no JSON object")
    return document


def malformed(path: str, cause: str) -> CertbotError:
    """Return the error for a file of the state folder that says something else than this code wrote."""
    return CertbotError(
        code="malformed", object=path, attempt="read the file", cause=cause, advice="Move it away, and run again.",
    )


def stems(folder: str, end: str) -> set[str]:
    """Return how the files of a folder are called that have this end, without it; none where there is no folder."""
    with contextlib.suppress(OSError):
        return {name[:-len(end)] for name in os.listdir(folder) if name.endswith(end)}
    return set()


def keep_json(path: str, document: Json) -> None:
    """Write a JSON object into the state folder, for people and programs. Raises CustodyError."""
    data = (json.dumps(document, indent=2, sort_keys=True) + "\n").encode()
    public_file.ensure_public_file(path, data, is_former=lambda former: True, dry_run=False)


def write(path: str, data: bytes) -> None:
    """Write a file with mode 0644 that anybody's folder may hold, such as that of an exporter of metrics.

    Public files of C(_custody) are refused there, because others may write in such a folder. Raises OSError.
    """
    descriptor, name = tempfile.mkstemp(prefix=".new-", dir=os.path.dirname(path))
    try:
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(stream.fileno(), 0o644)
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise
