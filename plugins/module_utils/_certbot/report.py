# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What one command did."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, replace

from .._errors import HallmarkError
from .failure import one_line


@dataclass(frozen=True)
class Report:
    """What a command did; this is what the role reads."""

    changed: bool = False
    error: str = ""
    notes: tuple[str, ...] = ()
    status: int = 0
    # Whether a server was asked, or would have been, if that had been needed.
    tried: bool = True
    # Deploy hooks of others that are still to be run for a new certificate; None leaves what is known of them.
    hooks_due: tuple[str, ...] | None = None

    def failed(self, error: str, status: int = 1) -> Report:
        """Return it as that of a command that failed."""
        return replace(self, error=error, status=status)


def attempt(work: t.Callable[[], Report]) -> Report:
    """Return the report of the work, or one of what it could not do."""
    try:
        return work()
    except (HallmarkError, OSError) as exc:
        return Report().failed(one_line(str(exc)))
