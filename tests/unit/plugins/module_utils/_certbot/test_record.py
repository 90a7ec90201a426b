# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the record of what was forced and revoked."""

from __future__ import annotations

import json
import pathlib
import time

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._certbot import moments, record
from ansible_collections.hallmark.signing.plugins.module_utils._certbot.certificates import Certificate
from ansible_collections.hallmark.signing.plugins.module_utils._certbot.report import Report
from ansible_collections.hallmark.signing.plugins.module_utils._errors import CertbotError
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._certbot.certbot_bench import (
    DAY,
    read,
    settings,
)

CURRENT = Certificate("ff", "01", "kk", 0.0, 10.0, ("x.example",))


@pytest.mark.parametrize(("ages", "server", "refused"), [
    ([1, 2, 3, 6.9], record.PRODUCTION, True), ([1, 2, 3, 7.1], record.PRODUCTION, False),
    ([1, 2, 3], record.PRODUCTION, False), ([1, 1, 1, 1, 1, 1], "https://ca.example/dir", False),
])
def test_limit_of_forced_renewals(ages: list[float], server: str, refused: bool) -> None:
    now = time.time()
    known = record.Record("j", tuple(record.Forced(now - age * DAY, server) for age in ages))
    assert bool(known.refusal(server, now)) is refused
    if refused:
        assert moments.text_of(now + 0.1 * DAY)[:13] in known.refusal(server, now)


def test_forced_renewal_that_failed_does_not_count(tmp_path: pathlib.Path) -> None:
    seen = []

    def work(changed: bool) -> Report:
        # It is written down already, because the run may be killed now.
        seen.append(len(read(tmp_path, "journal")["forced"]))
        return Report(changed)

    chosen = settings(tmp_path)
    for changed, count in ((False, 0), (True, 1), (False, 1), (True, 2)):
        record.load(chosen).forcing("s", lambda changed=changed: work(changed))  # type: ignore[misc]
        assert len(read(tmp_path, "journal")["forced"]) == count
    assert seen == [1, 1, 2, 2]


def test_what_is_too_old_to_matter_is_forgotten(tmp_path: pathlib.Path) -> None:
    old = record.Record(str(tmp_path / "j"), (record.Forced(1.0, "s"), record.Forced(8.0 * DAY, "s")))
    old.save(8.5 * DAY)
    assert json.loads((tmp_path / "j").read_text()) == {"forced": [{"at": 8.0 * DAY, "server": "s"}], "revoked": {}}


@pytest.mark.parametrize(("reason", "successor", "compromised"), [
    ("keycompromise", True, True), ("superseded", True, False), ("cessationofoperation", False, False),
])
def test_reason_decides_what_follows(
    tmp_path: pathlib.Path, reason: str, successor: bool, compromised: bool
) -> None:
    chosen = settings(tmp_path)
    record.load(chosen).with_revoked(CURRENT, reason, 0.0).save(0.0)
    known = record.load(chosen)
    assert known.revoked == {"ff": record.Revoked("01", "kk", reason, "1970-01-01T00:00:00Z")}
    assert known.demands_successor(CURRENT) is successor
    assert known.is_compromised("kk") is compromised
    assert not known.is_compromised("other")
    assert not known.demands_successor(None)


def test_record_need_not_be_there(tmp_path: pathlib.Path) -> None:
    known = record.load(settings(tmp_path))
    assert (known.forced, known.revoked) == ((), {})
    assert not known.demands_successor(CURRENT)


@pytest.mark.parametrize("text", [
    '{"forced": [{}]}', '{"forced": 1}', '{"forced": [{"at": "x", "server": "s"}]}', '{"revoked": []}',
    '{"revoked": {"a": {"serial": "1"}}}', '{"revoked": {"a": 1}}',
])
def test_what_is_no_record_is_not_guessed_at(tmp_path: pathlib.Path, text: str) -> None:
    chosen = settings(tmp_path)
    (tmp_path / "x.example.journal").write_text(text)
    with pytest.raises(CertbotError, match=r"x\.example\.journal: could not read the file: it is no record"):
        record.load(chosen)
