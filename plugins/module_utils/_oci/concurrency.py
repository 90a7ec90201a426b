# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Working on lists: many items at a time, results in the order of the input."""

from __future__ import annotations

import typing as t
from concurrent.futures import ThreadPoolExecutor

Item = t.TypeVar("Item")
Result = t.TypeVar("Result")


def map_ordered(function: t.Callable[[Item], Result], items: t.Sequence[Item], *, workers: int) -> list[Result]:
    """Return C(function(item)) for each item, at most C(workers) at a time, in input order.

    C(function) turns its own failures into results: an exception here stops the whole call.
    """
    if len(items) <= 1 or workers <= 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(max_workers=min(workers, len(items))) as pool:
        return list(pool.map(function, items))
