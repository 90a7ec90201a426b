# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for all tests."""

from __future__ import annotations

import os
import sys

import hypothesis
import pytest

# A failure shall be about the change, not about chance or a busy machine. HALLMARK_RANDOM=1 tries others each time.
hypothesis.settings.register_profile(
    "steady", deadline=None, derandomize=not os.environ.get("HALLMARK_RANDOM"),
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("steady")


def pytest_report_teststatus(report: pytest.CollectReport | pytest.TestReport) -> tuple[str, str, str] | None:
    """In a log, thousands of dots would only hide what failed; the reasons for skipping are told at the end."""
    if sys.__stdout__.isatty() or report.failed or hasattr(report, "wasxfail"):
        return None
    if report.skipped:
        return "skipped", "", ""
    return ("passed", "", "") if report.when == "call" else None
