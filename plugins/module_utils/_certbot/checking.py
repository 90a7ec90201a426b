# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Looking back at a lineage, without touching anything."""

from __future__ import annotations

import time
import typing as t

from . import hooks, record, status
from .certificates import Certificate, read_certificate
from .moments import text_of
from .report import Report
from .settings import Settings

_SMALL_SHARE = 0.25


def check(settings: Settings) -> Report:
    """Say what is wrong with the lineage, all of it. Raises HallmarkError."""
    current = read_certificate(settings.leaf)
    wrong = "; ".join([*_of_certificate(settings, current, time.time()), *_of_status(settings, current)])
    return Report().failed(wrong) if wrong else Report()


def _of_certificate(settings: Settings, current: Certificate | None, now: float) -> t.Iterator[str]:
    if current is None:
        yield f"there is no certificate {settings.leaf}"
        return
    end = text_of(current.not_after)
    if current.not_after <= now:
        yield f"its certificate ended at {end}"
    elif current.remaining(now) < _SMALL_SHARE:
        yield f"less than a quarter of its certificate's lifetime is left, until {end}"
    if current.fingerprint in record.load(settings).revoked:
        yield "its certificate was revoked, and not replaced yet"


def _of_status(settings: Settings, current: Certificate | None) -> t.Iterator[str]:
    found = status.load(settings)
    if not found.renewal_ok:
        yield f"the renewal at {found.last_attempt} failed: {found.error}"
    due = [*([] if hooks.succeeded(settings) else [settings.hook]), *found.hooks_due]
    if current and due:
        yield found.hook_error or f"the deploy hook {' and '.join(due)} did not succeed for it"
