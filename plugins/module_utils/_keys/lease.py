# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an exported copy of a key says about itself: which export it is, when it ends, and whether it is for one use.

It stands as text before the PEM block, where RFC 7468 section 2 allows explanatory text and every reader of PEM skips
it. So it goes wherever the copy goes, and whoever signs with it can see that its time is over.
"""

from __future__ import annotations

import datetime
import os
import re
from dataclasses import dataclass

from .._errors import KeyFileError
from .._moments import moment_of, text_of
from .files import EXPORTED

_LINE = re.compile(
    rb"hallmark-export: (?P<id>[0-9a-f]{16}) expires (?P<expires>[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z|never)"
    rb"(?P<once>, for one use)?\n"
)
_BEGIN = b"-----BEGIN "


@dataclass(frozen=True)
class Lease:
    """One export: its id (16 hexadecimal digits), its end in UTC or None, and whether the first use takes it away."""

    export_id: str
    expires_at: datetime.datetime | None
    once: bool = False

    @property
    def end(self) -> str:
        """The end as text, or C(never)."""
        return text_of(self.expires_at) if self.expires_at else "never"

    def encode(self) -> bytes:
        """Return the line that stands before the PEM block."""
        return f"hallmark-export: {self.export_id} expires {self.end}{', for one use' if self.once else ''}\n".encode()

    def is_over(self, now: datetime.datetime) -> bool:
        """Say whether its time is over."""
        return self.expires_at is not None and now >= self.expires_at


def read(data: bytes, *, where: str) -> Lease | None:
    """Return the lease of a key file, or None for a key that is no export.

    Raises KeyFileError (malformed): the line is there, and does not say what it should.
    """
    before = data.partition(_BEGIN)[0]
    if EXPORTED not in before:
        return None
    match = _LINE.search(before)
    if match is None or before.count(EXPORTED) != 1:
        raise _malformed(where)
    expires = match["expires"].decode("ascii")
    try:
        moment = None if expires == "never" else moment_of(expires)
    except ValueError:
        raise _malformed(where) from None
    return Lease(match["id"].decode("ascii"), moment, match["once"] is not None)


def require_usable(data: bytes, *, where: str, now: datetime.datetime | None = None) -> Lease | None:
    """Return the lease of a key that is about to be used.

    Raises KeyFileError: export_expired when its time is over, malformed.
    """
    lease = read(data, where=where)
    if lease is not None and lease.is_over(now or datetime.datetime.now(datetime.timezone.utc)):
        raise KeyFileError(
            code="export_expired", object=where, attempt="use the exported key",
            cause=f"export {lease.export_id} ended at {lease.end}",
            advice="Export it anew with key_export; and find out why nothing took this copy away.",
        )
    return lease


def is_for_one_use(data: bytes, *, where: str) -> bool:
    """Say whether the first use of a key that is about to be used takes it away. Raises as C(require_usable())."""
    lease = require_usable(data, where=where)
    return lease is not None and lease.once


def consume(path: str, data: bytes) -> None:
    """Take the name of a copy away before the key is used: whoever comes second finds nothing.

    Raises KeyFileError (not_found).
    """
    try:
        with open(path, "rb") as stream:
            cause = "it was exchanged" if stream.read(len(data) + 1) != data else ""
            if os.fstat(stream.fileno()).st_nlink != 1:
                cause = "it has no name any more, or another one besides"
            if not cause:
                # The name of the file itself, not that of a link to it.
                os.unlink(os.path.realpath(path))
                cause = "another file had its name" if os.fstat(stream.fileno()).st_nlink else ""
    except OSError as exc:
        cause = exc.strerror or type(exc).__name__
    if cause:
        raise KeyFileError(
            code="not_found", object=path, attempt="take away the copy that is for one use", cause=cause,
            advice="If another process used it, export it anew; else let the user of this task write to its folder.",
        )


def _malformed(where: str) -> KeyFileError:
    return KeyFileError(
        code="malformed", object=where, attempt="read when the exported key ends", cause="that line was changed",
        advice="Take the copy away, and export the key anew.",
    )
