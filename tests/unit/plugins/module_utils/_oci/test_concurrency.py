# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists worked on by many threads, with results in input order."""

from __future__ import annotations

import threading
import time

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._oci.concurrency import map_ordered


@pytest.mark.parametrize("workers", [1, 2, 16, 1000])
@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_results_come_in_input_order(workers: int, count: int) -> None:
    def late_first(item: int) -> int:
        time.sleep(0.002 * (count - item) / 50)
        return item * 2

    assert map_ordered(late_first, range(count), workers=workers) == [item * 2 for item in range(count)]


@pytest.mark.parametrize(("workers", "count", "most"), [(1, 6, 1), (3, 12, 3), (16, 4, 4), (0, 3, 1), (-1, 3, 1)])
def test_never_more_at_a_time_than_workers(workers: int, count: int, most: int) -> None:
    lock, running, seen = threading.Lock(), [0], [0]
    # Each waits until as many as may be are there, so that it does not matter how busy this machine is.
    together = threading.Barrier(most)

    def count_up(_item: int) -> None:
        with lock:
            running[0] += 1
            seen[0] = max(seen[0], running[0])
        together.wait(10)
        time.sleep(0.02)
        with lock:
            running[0] -= 1

    map_ordered(count_up, range(count), workers=workers)
    assert seen[0] == most


@pytest.mark.parametrize(("workers", "items"), [(16, ["one"]), (1, ["one", "two"])])
def test_no_thread_where_none_is_needed(workers: int, items: list[str]) -> None:
    assert set(map_ordered(lambda _item: threading.get_ident(), items, workers=workers)) == {threading.get_ident()}


@pytest.mark.parametrize("workers", [1, 4])
def test_an_exception_stops_the_whole_call(workers: int) -> None:
    begun: list[int] = []

    def fail_early(item: int) -> None:
        begun.append(item)
        if item == 1:
            raise KeyError("item 1")
        time.sleep(0.01)

    with pytest.raises(KeyError, match="item 1"):
        map_ordered(fail_early, range(200), workers=workers)
    assert len(begun) < 100
