# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The record of exports: which copies of which keys were made, when they end, and which were taken away. No key
material.

It is a journal. Entries have C(event), one of C(exported), C(removed), C(expired) and C(gone), C(time), and of an
export the fields of C(Export). An export that nothing else was said of is live.
"""

from __future__ import annotations

import datetime
import os
import re
import typing as t
from dataclasses import asdict, dataclass, fields

from .._moments import moment_of, text_of
from . import journal

_EXPORT_ID = re.compile(r"[0-9a-f]{16}")

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
        return self.expires_at is not None and self.expires_at <= text_of(now)


def default_path() -> str:
    """Return where the record is: of root in /var/lib, of others in their own folder of state."""
    if os.geteuid() == 0:
        return "/var/lib/hallmark-signing/exports.jsonl"
    base = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(base, "hallmark-signing", "exports.jsonl")


def live(path: str) -> dict[str, Export]:
    """Return the exports that nothing but their making is recorded of, by id.

    Raises CustodyError: journal_broken, destination_unsafe for a record that somebody else could have written.
    """
    return fold(journal.read(path), path)


def fold(entries: t.Iterable[journal.Entry], path: str) -> dict[str, Export]:
    """Return the live exports of the entries of a record. Raises CustodyError (journal_broken)."""
    found: dict[str, Export] = {}
    for entry in entries:
        if entry.members.get("event") == "exported":
            made = _export(entry, path)
            found[made.export_id] = made
        else:
            found.pop(str(entry.members.get("export_id")), None)
    return found


def _export(entry: journal.Entry, path: str) -> Export:
    names = {field.name for field in fields(Export)}
    members: dict[str, t.Any] = {name: value for name, value in entry.members.items() if name in names}
    try:
        made = Export(**{**members, "enforced_by": tuple(members["enforced_by"])})
        has_moment = made.expires_at is None or moment_of(made.expires_at)
        # The id becomes part of names of files and units, and paths are removed.
        if has_moment and _EXPORT_ID.fullmatch(made.export_id) and made.path.startswith("/"):
            return made
    except (TypeError, KeyError, ValueError, AttributeError):
        pass
    raise journal.broken(path, entry.sequence, "it is no export of ours")


def write(record: journal.Writer, export: Export, event: Event, *, now: datetime.datetime) -> dict[str, t.Any]:
    """Record an event of an export, durably; return the entry, for a second record elsewhere. Raises CustodyError."""
    members: dict[str, t.Any] = {"time": text_of(now), "event": event}
    if event == "exported":
        members.update({**asdict(export), "enforced_by": list(export.enforced_by), "uid": os.geteuid()})
    else:
        members.update({"export_id": export.export_id, "key_id": export.key_id, "path": export.path})
    head = record.append(members)
    return {"sequence": head.sequence, **members, "hash": head.hash}
