# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Renewing a lineage: when it is due, when its certificate was revoked, or when it must be."""

from __future__ import annotations

import time

from . import record, renewal_file, status
from .certificates import read_certificate
from .obtaining import obtain
from .report import Report, attempt
from .requesting import request
from .running import alone
from .settings import Settings


def renew(settings: Settings, *, forced: bool = False, new_key: bool = False) -> Report:
    """Renew the certificate, unless it is neither due nor forced; C(new_key) forces it. Raises HallmarkError, OSError.
    """
    forced = forced or new_key
    outside = settings.outside
    with alone(settings):
        refusal = record.load(settings).refusal(renewal_file.server(settings), time.time()) if forced else ""
        if refusal:
            return Report().failed(refusal)
        report = attempt(
            lambda: request(settings, outside, forced=forced) if outside
            else _renew(settings, forced=forced, new_key=new_key)
        )
        status.after_attempt(settings, time.time(), error=report.error, hooks_due=report.hooks_due)
        return report


def _renew(settings: Settings, *, forced: bool, new_key: bool) -> Report:
    known, current = record.load(settings), read_certificate(settings.leaf)
    arguments = ["renew", "--cert-name", settings.lineage, "--no-random-sleep-on-renew", *settings.profile]
    if new_key or (current and known.is_compromised(current.key_id)):
        # Else the lineage would keep the key that somebody else may have.
        arguments += ["--new-key", *settings.key]
    if forced or known.demands_successor(current):
        server = renewal_file.server(settings)
        return known.forcing(server, lambda: obtain(settings, *arguments, "--force-renewal"))
    return obtain(settings, *arguments)
