# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The first certificate of a lineage, and another one for other names or from another server."""

from __future__ import annotations

import time

from . import record, renewal_file, status
from .certificates import read_certificate
from .obtaining import obtain
from .report import Report, attempt
from .requesting import request
from .running import alone
from .settings import Settings


def issue(settings: Settings) -> Report:
    """Obtain the certificate, if there is none, or another one is wanted. Raises HallmarkError and OSError."""
    outside = settings.outside
    with alone(settings):
        report = attempt(lambda: request(settings, outside) if outside else _issue(settings))
        # It is no renewal that nothing was to be done.
        if report.tried:
            status.after_attempt(settings, time.time(), error=report.error, hooks_due=report.hooks_due)
        return report


def _issue(settings: Settings) -> Report:
    known, current = record.load(settings), read_certificate(settings.leaf)
    arguments: list[str] = []
    if current:
        moved = renewal_file.server(settings) != settings.server
        if list(current.names) == sorted(settings.domains) and not moved:
            return Report(tried=False)
        arguments += ["--force-renewal"] if moved else []
        arguments += ["--new-key"] if known.is_compromised(current.key_id) else []
    return obtain(
        settings, "certonly", "--agree-tos", "--server", settings.server, "--cert-name", settings.lineage,
        "--renew-with-new-domains", *settings.reuse_arguments, *settings.account, *settings.key,
        *settings.authenticator.arguments, *settings.profile, *arguments,
        *(word for name in settings.domains for word in ("-d", name)), *settings.extra_arguments,
    )
