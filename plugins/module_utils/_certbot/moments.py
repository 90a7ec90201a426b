# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Moments as Certbot hosts have them: seconds since 1970 in the program, text in its files."""

from __future__ import annotations

import datetime

from .. import _moments


def text_of(moment: float) -> str:
    """Return a moment, in seconds since 1970, as text."""
    return _moments.text_of(datetime.datetime.fromtimestamp(moment, datetime.timezone.utc))


def seconds_of(text: str) -> float:
    """Return the seconds since 1970. Raises ValueError."""
    return _moments.moment_of(text).timestamp()
