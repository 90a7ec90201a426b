# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Searching a log, and saying of each entry whether the log really holds it."""

from __future__ import annotations

import datetime
import hashlib
import typing as t
from dataclasses import dataclass

from .._errors import HallmarkError, Reason
from . import body, proof
from .entry import LogEntry
from .log_key import LogKey
from .rekor import Log


@dataclass(frozen=True)
class Found:
    """One entry of a log. C(verified): the log vouches for it; what it says is its submitter's word.

    C(integrated_time) is RFC 3339 in UTC, C(key_id) that of the key that signed; None where it cannot be read.
    """

    log_index: int | None
    integrated_time: str | None = None
    kind: str | None = None
    key_id: str | None = None
    verified: bool = False
    reasons: tuple[Reason, ...] = ()

    def as_dict(self) -> dict[str, t.Any]:
        """Return the shape of the module contract."""
        return {
            "log_index": self.log_index, "integrated_time": self.integrated_time, "kind": self.kind,
            "key_id": self.key_id, "verified": self.verified, "reasons": [one.as_dict() for one in self.reasons],
        }


def describe(get: t.Callable[[], LogEntry], key: LogKey, *, where: str) -> Found:
    """Return an entry with the verdict on it. Never raises: what fails is among the reasons."""
    found = Found(None)
    try:
        entry = get()
        found = Found(entry.index)
        kind, version = body.kind_of(entry.body, where=where)
        found = Found(entry.index, _rfc3339(entry.integrated_time), f"{kind} {version}")
        logged = body.decode(entry.body, where=where)
        found = Found(entry.index, found.integrated_time, found.kind, hashlib.sha256(logged.spki).hexdigest())
        now = datetime.datetime.now(datetime.timezone.utc)
        proof.verify(entry, subject=None, keys=(key,), needs_proof=True, now=now, where=f"{where}, entry {entry.index}")
    except HallmarkError as exc:
        return Found(found.log_index, found.integrated_time, found.kind, found.key_id, False, (exc.as_reason(),))
    return Found(found.log_index, found.integrated_time, found.kind, found.key_id, True)


def search(log: Log, query: t.Mapping[str, t.Any]) -> list[t.Callable[[], LogEntry]]:
    """Return what fetches each entry that the log's index names. Raises RegistryError."""
    return [lambda uuid=uuid: log.by_uuid(uuid) for uuid in log.search(query)]  # type: ignore[misc]


def _rfc3339(seconds: int | None) -> str | None:
    if seconds is None:
        return None
    return datetime.datetime.fromtimestamp(seconds, tz=datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
