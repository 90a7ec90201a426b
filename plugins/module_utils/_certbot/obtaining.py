# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Obtaining a certificate by Certbot, with the hooks that its version would leave out."""

from __future__ import annotations

from . import files, hooks
from .report import Report
from .running import certbot
from .settings import Settings


def obtain(settings: Settings, *arguments: str) -> Report:
    """Run Certbot, and see whether there is another certificate, and which deploy hooks are still to be run for it.

    Raises CertbotError and OSError.
    """
    is_first = arguments[0] == "certonly"
    # Certbot runs these hooks when it renews, and since 3.2 always.
    by_hand = is_first and settings.older_than(3, 2)
    notes = _run_hook(settings.pre_hook) if by_hand else ()
    before = files.digest(settings.fullchain)
    done = certbot(settings, *arguments)
    notes += _run_hook(settings.post_hook) if by_hand else ()
    changed = files.digest(settings.fullchain) != before
    # And deploy hooks of its folder since 5.3.
    left_out = is_first and settings.older_than(5, 3)
    due = hooks.of_others(settings) if left_out else hooks.failed(settings, done.log)
    report = Report(changed=changed, notes=notes, hooks_due=due if changed else None)
    return report.failed(done.error, done.status) if done.status else report


def _run_hook(path: str) -> tuple[str, ...]:
    if not path:
        return ()
    status, said = hooks.run(path)
    return (f"{path}: failed with status {status}: {said}",) if status else ()
