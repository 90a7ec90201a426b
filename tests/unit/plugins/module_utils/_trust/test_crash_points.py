# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A controller that is killed after any effect, and started again, ends where one ends that was not."""

from __future__ import annotations

import fcntl
import os
import pathlib
import typing as t
from contextlib import contextmanager

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._custody import journal
from ansible_collections.hallmark.signing.plugins.module_utils._trust import keyring as rings
from ansible_collections.hallmark.signing.plugins.module_utils._trust import ledger
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._trust.rotation_story import (
    NAMES,
    STORY,
    at,
    states,
)

_KILLED, _FAILED = 77, 78


class Killer:
    """Counts the effects of this process on the ledger, and ends it before one of them."""

    def __init__(self, after: int) -> None:
        self.left = after

    def effect(self) -> None:
        """Count one, or die as a killed process does: nothing is flushed, nothing is closed."""
        if self.left == 0:
            os._exit(_KILLED)
        self.left -= 1

    def around(self, genuine: t.Callable[..., t.Any]) -> t.Callable[..., t.Any]:
        """Return a function that may die before it, and after it."""

        def does(*arguments: t.Any, **more: t.Any) -> t.Any:
            self.effect()
            found = genuine(*arguments, **more)
            self.effect()
            return found

        return does


class Stream:
    """The file of a ledger, whose every change is an effect; a line may reach it in parts."""

    def __init__(self, genuine: t.BinaryIO, killer: Killer) -> None:
        self._genuine, self._killer = genuine, killer

    def write(self, data: bytes) -> int:
        """Write a line as the kernel may: a byte, half of it, all but its newline, all."""
        before = 0
        for end in (1, len(data) // 2, len(data) - 1, len(data)):
            self._killer.effect()
            self._genuine.write(data[before:end])
            self._genuine.flush()
            before = end
        return len(data)

    def truncate(self, size: int) -> int:
        """Cut the file off."""
        return int(self._killer.around(self._genuine.truncate)(size))

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._killer.effect()
        self._genuine.close()

    def __getattr__(self, name: str) -> t.Any:
        return getattr(self._genuine, name)


@contextmanager
def _counted(killer: Killer) -> t.Iterator[None]:
    """Count what is done to files: opening, modes, locks, lines, syncing."""
    patch = pytest.MonkeyPatch()
    genuine = t.cast(t.Callable[..., t.BinaryIO], os.fdopen)
    for name in ("open", "fchmod", "fsync"):
        patch.setattr(os, name, killer.around(getattr(os, name)))
    patch.setattr(fcntl, "flock", killer.around(fcntl.flock))
    patch.setattr(os, "fdopen", lambda *arguments: Stream(genuine(*arguments), killer))
    try:
        yield
    finally:
        patch.undo()


def _run(path: pathlib.Path, number: int, later: int = 0) -> None:
    seconds, _name, operation = STORY[number]
    with ledger.opened(str(path), now=at(seconds + later)) as book:
        operation(book)


def _killed(work: t.Callable[[], None], after: int) -> bool:
    """Run something in a process of its own that dies after some effects; say whether it did."""
    child = os.fork()
    if child == 0:
        try:
            with _counted(Killer(after)):
                work()
        except BaseException:
            os._exit(_FAILED)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, _KILLED)
    return code == _KILLED


def _said(path: pathlib.Path) -> list[dict[str, t.Any]]:
    """Return what a ledger says, its times and its chain left out."""
    return [
        {name: value for name, value in entry.members.items() if name not in ("time", "previous")}
        for entry in journal.read(str(path))
    ]


def _timeless(path: pathlib.Path) -> dict[str, t.Any]:
    """Return the keyring, as if all had happened at one moment."""
    entries = [
        (entry.sequence, "", {**entry.members, "time": "2027-01-01T00:00:00Z"}) for entry in journal.read(str(path))
    ]
    return vars(rings.fold(entries))


@pytest.fixture
def home(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder that only this user can use."""
    (tmp_path / "home").mkdir(mode=0o700)
    return tmp_path / "home"


@pytest.mark.parametrize("name", NAMES)
def test_an_operation_that_is_killed_anywhere_is_gone_on_with(name: str, home: pathlib.Path) -> None:
    number, whole = NAMES.index(name), home / "whole.jsonl"
    for former in range(number):
        _run(whole, former)
    before = whole.read_bytes() if number else None
    _run(whole, number)
    grown = len(whole.read_bytes()) - len(before or b"")
    assert grown > 0
    path, killed, sizes = home / "ledger.jsonl", 0, set()
    while True:
        path.unlink(missing_ok=True)
        if before is not None:
            path.write_bytes(before)
        if not _killed(lambda: _run(path, number), killed):
            break
        sizes.add(path.stat().st_size if path.exists() else -1)
        _run(path, number, later=7)
        assert _said(path) == _said(whole)
        assert _timeless(path) == _timeless(whole)
        after = path.read_bytes()
        _run(path, number, later=9)
        assert path.read_bytes() == after
        killed += 1
    assert path.read_bytes() == whole.read_bytes()
    # It was killed within lines, too: before its entries, and with parts of them.
    assert killed > 10
    assert len(sizes) >= 5


def test_a_rotation_that_is_killed_anywhere_is_gone_on_with(home: pathlib.Path) -> None:
    whole, counts = home / "whole.jsonl", []
    for number in range(len(STORY)):
        _run(whole, number)
        counts.append(len(_said(whole)))
    path, killed = home / "ledger.jsonl", 0

    def all_of_it() -> None:
        for number in range(len(STORY)):
            _run(path, number)

    while True:
        path.unlink(missing_ok=True)
        # Every seventh effect: each operation by itself is killed at all of its effects above.
        if not _killed(all_of_it, killed * 7):
            break
        there = len(_said(path)) if path.exists() else 0
        for number, count in enumerate(counts):
            if there < count:
                _run(path, number, later=0)
        assert _said(path) == _said(whole)
        assert _timeless(path) == _timeless(whole)
        killed += 1
    assert killed > 80
    with ledger.opened(str(path), now=at(10_000)) as book:
        assert states(book.keyring) == {
            "release-1": "retired", "release-2": "active", "release-3": "revoked", "release-4": "abandoned",
        }
