# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of reports."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._certbot.report import Report, attempt
from ansible_collections.hallmark.signing.plugins.module_utils._errors import CertbotError


def test_failure_keeps_what_was_done() -> None:
    report = Report(changed=True, notes=("n",), hooks_due=("h",))
    assert report.failed("e", 7) == Report(changed=True, error="e", notes=("n",), status=7, hooks_due=("h",))
    assert report.failed("e").status == 1
    assert attempt(lambda: report) is report


@pytest.mark.parametrize("error", [
    CertbotError(code="malformed", object=f"{'o' * 99}\x1b", attempt="a", cause="c", advice="A."),
    OSError(13, f"{'o' * 99} : could not a: c. A."),
])
def test_what_could_not_be_done_is_a_report(error: Exception) -> None:
    def work() -> t.NoReturn:
        raise error

    report = attempt(work)
    # A path is as long as it is.
    assert report.error.endswith(f"{'o' * 99} : could not a: c. A.")
    assert (report.status, report.changed) == (1, False)


def test_mistakes_of_the_code_are_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        attempt(lambda: Report(status=1 // 0))
