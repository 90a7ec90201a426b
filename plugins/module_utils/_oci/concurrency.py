# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Working on lists: many items at a time, done in the order of the input."""

from __future__ import annotations

import threading
import typing as t

Item = t.TypeVar("Item")
Result = t.TypeVar("Result")


def map_ordered(function: t.Callable[[Item], Result], items: t.Sequence[Item], *, workers: int) -> list[Result]:
    """Return C(function(item)) for each item, at most C(workers) at a time, in input order.

    C(function) turns its own failures into results: an exception here stops the whole call.
    """
    if len(items) <= 1 or workers <= 1:
        return [function(item) for item in items]
    # Not concurrent.futures: it brings logging along, and importing both takes as long as verifying several images.
    todo = enumerate(items)
    done: dict[int, Result] = {}
    failures: list[BaseException] = []

    def work() -> None:
        # Taking the next one is a single step of the interpreter: no two threads get the same.
        for number, item in todo:
            if failures:
                return
            try:
                done[number] = function(item)
            except BaseException as exc:
                failures.append(exc)

    threads = [threading.Thread(target=work) for _number in range(min(workers, len(items)))]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except BaseException as exc:
        # Interrupted: what is under way ends, and nothing else is begun.
        failures.append(exc)
        raise
    if failures:
        raise failures[0]
    return [done[number] for number in range(len(items))]
