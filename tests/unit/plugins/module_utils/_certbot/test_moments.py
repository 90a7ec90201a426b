# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of moments as text."""

from __future__ import annotations

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._certbot import moments


@pytest.mark.parametrize(("seconds", "text"), [(0, "1970-01-01T00:00:00Z"), (2524608000, "2050-01-01T00:00:00Z")])
def test_moments_are_read_as_they_were_written(
    monkeypatch: pytest.MonkeyPatch, seconds: float, text: str
) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert moments.text_of(seconds + 0.9) == text
    assert moments.seconds_of(text) == seconds


def test_what_is_no_moment() -> None:
    with pytest.raises(ValueError, match="yesterday"):
        moments.seconds_of("yesterday")
