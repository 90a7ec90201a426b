# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Looking in a log, online, for the entries of a signature that brings none."""

from __future__ import annotations

import datetime
import hashlib
import typing as t

from .._errors import FormatError, RegistryError, VerificationError
from .._transparency import proof, rekor
from .._transparency.entry import LogEntry
from .._transparency.log_key import LogKey

# The index knows no SHA-384: what P-384 keys signed in format sig is not found in it.
_HASHES = ("sha256", "sha512")
# Anybody may have the same bytes logged with a key of his own.
_MAX_LOOKED_AT = 100


def finder(log: rekor.Log, keys: t.Sequence[LogKey]) -> t.Callable[[proof.Subject, str], tuple[LogEntry, ...]]:
    """Return what asks a log for entries that prove a signature; those about others are passed over.

    Raises RegistryError (service_unavailable, limit_exceeded) when called.
    """

    def find(subject: proof.Subject, where: str) -> tuple[LogEntry, ...]:
        content = subject.payload if subject.is_dsse else subject.message
        uuids = [
            uuid for name in _HASHES
            for uuid in log.search(rekor.hash_query(f"{name}:{hashlib.new(name, content).hexdigest()}"))
        ]
        if len(uuids) > _MAX_LOOKED_AT:
            raise RegistryError(
                code="limit_exceeded", object=where, attempt="look for its log entry",
                cause=f"the log has {len(uuids)} entries for these bytes", advice="Attach the entry when signing.",
            )
        entries = (log.by_uuid(uuid) for uuid in dict.fromkeys(uuids))
        return tuple(entry for entry in entries if _proves(entry, subject, keys, where))

    return find


def _proves(entry: LogEntry, subject: proof.Subject, keys: t.Sequence[LogKey], where: str) -> bool:
    now = datetime.datetime.now(datetime.timezone.utc)
    try:
        proof.verify(entry, subject=subject, keys=keys, needs_proof=True, now=now, where=where)
    except (FormatError, VerificationError):
        return False
    return True
