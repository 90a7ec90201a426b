# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Running the deploy hooks that did not succeed for the current certificate, or were left out."""

from __future__ import annotations

from .._errors import CertbotError
from . import files, hooks, status
from .report import Report
from .running import alone
from .settings import Settings


def deploy(settings: Settings) -> Report:
    """Run the hook of the role unless it left its mark, and those of others that are due. Raises HallmarkError."""
    with alone(settings):
        if not files.digest(settings.fullchain):
            raise CertbotError(
                code="not_found", object=settings.fullchain, attempt="deploy the certificate", cause="there is none",
                advice="Obtain one first.",
            )
        known = status.load(settings).hooks_due
        due = [path for path in hooks.of_others(settings) if path in known]
        paths = [*([] if hooks.succeeded(settings) else [settings.hook]), *due]
        failures = {path: found for path in paths for found in [_run(settings, path)] if found[1]}
        error = "; ".join(text for _code, text in failures.values())
        still_due = tuple(path for path in failures if path != settings.hook)
        status.after_hooks(settings, error=error, hooks_due=still_due)
        report = Report(changed=bool(paths))
        return report.failed(error, next(iter(failures.values()))[0]) if failures else report


def _run(settings: Settings, path: str) -> tuple[int, str]:
    """Run one hook; return its exit status, and what went wrong."""
    code, said = hooks.run(path, RENEWED_LINEAGE=settings.live, RENEWED_DOMAINS=" ".join(settings.domains))
    if not code and (path != settings.hook or hooks.succeeded(settings)):
        return 0, ""
    return code or 1, f"the deploy hook {path} failed with status {code}: {said or 'it said nothing'}"
