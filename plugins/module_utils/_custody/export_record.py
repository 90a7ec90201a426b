# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The record of exports: which copies of which keys were made, when they end, and which were taken away. No key material.

It is a journal. Entries have C(event), one of C(exported), C(removed), C(expired) and C(gone), C(time), and of an export the
fields of C(Export). An export that nothing else was said of is live.
"""

from __future__ import annotations

import datetime
import os
import typing as t
from dataclasses import asdict, dataclass, fields

from .._keys.lease import rfc3339
from . import journal

Event = t.Literal["exported", "removed", "expired", "gone"]


@dataclass(frozen=True)
class Export:
    """One copy: its id and key, from where to where, until when, and what takes it away then."""

    export_id: str
    key_id: str
    source: str
    path: str
    chain_path: str | None
    format: str
    encrypted: bool
    mode: str
    expires_in: int | None
    expires_at: str | None
    once: bool
    enforced_by: tuple[str, ...]
    # Of a copy that this host cannot read: what it was encrypted to.
    recipient: str | None = None

    def is_over(self, now: datetime.datetime) -> bool:
        """Say whether its time is over."""
        return self.expires_at is not None and self.expires_at <= t.cast(str, rfc3339(now))


def default_path() -> str:
    """Return where the record is: of root in /var/lib, of others in their own folder of state."""
    if os.geteuid() == 0:
        return "/var/lib/hallmark-signing/exports.jsonl"
    base = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(base, "hallmark-signing", "exports.jsonl")


def live(path: str) -> dict[str, Export]:
    """Return the exports that nothing but their making is recorded of, by id. Raises CustodyError (journal_broken)."""
    names = {field.name for field in fields(Export)}
    found: dict[str, Export] = {}
    for entry in journal.read(path):
        export_id = str(entry.members.get("export_id"))
        if entry.members.get("event") != "exported":
            found.pop(export_id, None)
            continue
        try:
            members: dict[str, t.Any] = {name: value for name, value in entry.members.items() if name in names}
            found[export_id] = Export(**{**members, "enforced_by": tuple(members["enforced_by"])})
        except (TypeError, KeyError):
            raise journal.broken(path, entry.sequence, "it is no export of ours") from None
    return found


def write(path: str, export: Export, event: Event, *, now: datetime.datetime) -> dict[str, t.Any]:
    """Record an event of an export, durably; return the entry, for a second record elsewhere. Raises CustodyError."""
    members: dict[str, t.Any] = {"time": rfc3339(now), "event": event}
    if event == "exported":
        members.update({**asdict(export), "enforced_by": list(export.enforced_by), "uid": os.geteuid()})
    else:
        members.update({"export_id": export.export_id, "key_id": export.key_id, "path": export.path})
    head = journal.append(path, members)
    return {"sequence": head.sequence, **members, "hash": head.hash}
