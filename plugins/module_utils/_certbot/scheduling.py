# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the timer is there for: every lineage of a folder is renewed and deployed."""

from __future__ import annotations

import functools
import os
import typing as t

from . import files
from . import settings as lineages
from .deploying import deploy
from .renewing import renew
from .report import Report, attempt


def every(folder: str) -> t.Iterator[tuple[str, Report]]:
    """Renew every lineage of a folder; what fails does not stop the others."""
    for name in sorted(files.stems(folder, ".settings")):
        yield name, attempt(functools.partial(_run, os.path.join(folder, f"{name}.settings")))


def _run(path: str) -> Report:
    return scheduled(lineages.load(path))


def scheduled(settings: lineages.Settings) -> Report:
    """Renew a lineage if that is due, and see that it was deployed. Raises HallmarkError and OSError."""
    renewed = renew(settings)
    deployment = deploy(settings) if files.digest(settings.fullchain) else Report()
    errors = [f"could not renew: {renewed.error}" if renewed.error else "", deployment.error]
    report = Report(renewed.changed or deployment.changed, notes=renewed.notes)
    return report.failed("; ".join(filter(None, errors))) if any(errors) else report
