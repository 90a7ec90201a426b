# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Moments as the files of a Certbot host have them: RFC 3339 in UTC, without fractions of seconds."""

from __future__ import annotations

import datetime
import time

_FORM = "%Y-%m-%dT%H:%M:%SZ"


def text_of(moment: float) -> str:
    """Return a moment, in seconds since 1970, as text."""
    return time.strftime(_FORM, time.gmtime(moment))


def seconds_of(text: str) -> float:
    """Return the seconds since 1970. Raises ValueError."""
    return datetime.datetime.strptime(text, _FORM).replace(tzinfo=datetime.timezone.utc).timestamp()
