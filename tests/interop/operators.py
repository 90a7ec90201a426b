# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Processes that sign, verify, list and copy images by order: see tests/tools/operate.py."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import select
import subprocess
import sys
import time
import typing as t

import ansible_collections
from interop_tools import ROOT, Json

# How long after the order all begin: longer than it takes to read one.
_HEAD_START = 0.3


class Operator:
    """One process; give it one order after the other. One that does not answer in time is replaced by another."""

    def __init__(self, log: pathlib.Path) -> None:
        self._log = log
        self.process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        tree = pathlib.Path(next(iter(ansible_collections.__path__))).parent
        with self._log.open("ab") as errors:
            return subprocess.Popen(
                [sys.executable, str(ROOT / "tests" / "tools" / "operate.py")], stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=errors, text=True, bufsize=1,
                env={**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"},
            )

    def send(self, order: Json) -> None:
        """Give an order."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()

    def receive(self, *, seconds: float = 60.0) -> Json:
        """Return what came of the order before."""
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], max(0.0, seconds))[0]:
            self.restart()
            raise AssertionError(f"nothing came of it within {seconds:.0f} seconds")
        line = self.process.stdout.readline()
        if not line:
            self.restart()
            raise AssertionError(self._log.read_text(errors="replace"))
        return t.cast(Json, json.loads(line))

    def do(self, operation: str, *, seconds: float = 60.0, **order: t.Any) -> Json:
        """Give one order and return what came of it."""
        self.send({"operation": operation, **order})
        return self.receive(seconds=seconds)

    def restart(self) -> None:
        """Forget the order."""
        self.process.kill()
        self.stop()
        self.process = self._start()
        self.receive()

    def stop(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


@contextlib.contextmanager
def operators(count: int, folder: pathlib.Path) -> t.Iterator[list[Operator]]:
    """Start so many processes; all are ready, and all are stopped at the end."""
    started: list[Operator] = []
    try:
        for number in range(count):
            started.append(Operator(folder / f"operator-{number}.log"))
        for one in started:
            one.receive()
        yield started
    finally:
        for one in started:
            one.stop()


def together(workers: t.Sequence[Operator], orders: t.Sequence[Json], *, seconds: float = 60.0) -> list[Json]:
    """Have each process carry out one order, all beginning at the same moment."""
    assert len(orders) <= len(workers)
    at = time.time() + _HEAD_START
    for worker, order in zip(workers, orders):
        worker.send({"at": at, **order})
    until = time.monotonic() + seconds
    results: list[Json] = []
    try:
        for worker, _order in zip(workers, orders):
            results.append(worker.receive(seconds=until - time.monotonic()))
    except AssertionError:
        # The others are still at it: nobody is to take their answers for those to later orders.
        for worker in workers[len(results) + 1:len(orders)]:
            worker.restart()
        raise
    return results
