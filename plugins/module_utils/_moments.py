# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Moments as our own files have them: RFC 3339 in UTC, to the second, always in the one spelling that can be sorted."""

from __future__ import annotations

import datetime

_FORM = "%Y-%m-%dT%H:%M:%SZ"


def text_of(moment: datetime.datetime) -> str:
    """Return a moment in UTC as text; fractions of a second are left out."""
    return moment.strftime(_FORM)


def moment_of(text: str) -> datetime.datetime:
    """Return the moment of a text, in UTC. Raises ValueError, and TypeError for what is no text."""
    return datetime.datetime.strptime(text, _FORM).replace(tzinfo=datetime.timezone.utc)
