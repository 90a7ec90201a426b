# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the record of exports is, and which exports of it are live; test_exports.py has the rest."""

from __future__ import annotations

import datetime
import os
import pathlib
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._custody import export_record, journal
from ansible_collections.hallmark.signing.plugins.module_utils._custody.export_record import Event, Export

NOW = datetime.datetime(2028, 2, 29, 23, 59, 30, 999_999, tzinfo=datetime.timezone.utc)


def made(number: int, **members: t.Any) -> Export:
    return Export(**{
        "export_id": f"{number:016x}", "key_id": "0" * 64, "source": "/s", "path": f"/x/{number}", "chain_path": None,
        "format": "pem", "encrypted": False, "mode": "0600", "expires_in": None, "expires_at": None, "once": False,
        "enforced_by": ("check_at_use",), **members,
    })


@pytest.mark.parametrize(("uid", "state", "wanted"), [
    (0, None, "/var/lib/hallmark-signing/exports.jsonl"), (0, "/state", "/var/lib/hallmark-signing/exports.jsonl"),
    (7, None, "/home/x/.local/state/hallmark-signing/exports.jsonl"),
    (7, "", "/home/x/.local/state/hallmark-signing/exports.jsonl"),
    (7, "/state", "/state/hallmark-signing/exports.jsonl"),
])
def test_record_has_its_place(uid: int, state: str | None, wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The tests have a place of their own.
    monkeypatch.undo()
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setenv("HOME", "/home/x")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    if state is not None:
        monkeypatch.setenv("XDG_STATE_HOME", state)
    assert export_record.default_path() == wanted


@pytest.mark.parametrize("event", ["removed", "expired", "gone"])
def test_export_is_live_until_something_else_is_said_of_it(event: Event, home: pathlib.Path) -> None:
    path = str(home / "record")
    one, other = made(1, expires_at="2028-03-01T00:00:00Z"), made(2)
    with journal.opened(path) as record:
        first = export_record.write(record, one, "exported", now=NOW)
        export_record.write(record, other, "exported", now=NOW)
        assert export_record.fold(record.entries(), path) == {one.export_id: one, other.export_id: other}
        second = export_record.write(record, one, event, now=NOW)
        # Twice is once.
        export_record.write(record, one, event, now=NOW)
    assert export_record.live(path) == {other.export_id: other}
    entries = journal.read(path)
    assert (first["sequence"], first["hash"], first["uid"]) == (1, entries[0].hash, os.geteuid())
    assert {name: value for name, value in second.items() if name != "hash"} == {
        "sequence": 3, "time": "2028-02-29T23:59:30Z", "event": event, "export_id": one.export_id, "key_id": one.key_id,
        "path": one.path,
    }


@pytest.mark.parametrize(("ends", "over"), [
    (None, False), ("2028-02-29T23:59:29Z", True), ("2028-02-29T23:59:30Z", True), ("2028-02-29T23:59:31Z", False),
    ("2028-03-01T00:00:00Z", False), ("2027-12-31T23:59:59Z", True),
])
def test_export_is_over_from_its_end_on(ends: str | None, over: bool) -> None:
    assert made(1, expires_at=ends).is_over(NOW) is over


def test_missing_record_has_none(home: pathlib.Path) -> None:
    assert export_record.live(str(home / "missing")) == {}
