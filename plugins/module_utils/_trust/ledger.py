# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ledger: the one journal of a fleet that says what becomes of its keys; everything else is a fold over it.

Entries are those of C(_custody.journal): JSON lines, chained by hash, kept on disk before they count, one writer at a
time. What its chain cannot show, lines cut off at the end and a file written anew, shows against heads that others
keep: enforcers, controllers, verifiers. All of it is public.
"""

from __future__ import annotations

import datetime
import typing as t
from contextlib import contextmanager

from .._custody import journal
from .._errors import TrustError
from .._moments import moment_of, text_of
from .keyring import Keyring, Members

# What two clocks may differ by, in seconds, unless somebody says otherwise.
SKEW_BOUND = 60


class Ledger:
    """A ledger that is held open: its keyring, and the next entries."""

    def __init__(
        self, path: str, writer: journal.Writer | None, entries: tuple[journal.Entry, ...], *,
        now: datetime.datetime, skew_bound: int, dry_run: bool,
    ) -> None:
        self.path = path
        self.keyring = Keyring()
        self.is_changed = False
        self._writer = None if dry_run else writer
        self._entries = entries
        self._skew_bound = skew_bound
        self._hashes = {entry.sequence: entry.hash for entry in entries}
        for entry in entries:
            self._fold(entry.sequence, entry.hash, entry.members)
        self.now = self._agreed(now, skew_bound)

    def rehearsal(self) -> Ledger:
        """Return the same ledger for trying: what is appended there is taken in, and not written."""
        return Ledger(self.path, None, self._entries, now=self.now, skew_bound=self._skew_bound, dry_run=True)

    @property
    def head(self) -> journal.Head | None:
        """The last entry; None before the first."""
        return journal.Head(self.keyring.sequence, self.keyring.head) if self.keyring.sequence else None

    def expect_head(self, text: str) -> None:
        """Refuse to go on unless the last entry is the one that is meant. Raises TrustError (ledger_moved)."""
        if self.head is None or not _is_head(text, self.head.sequence, self.head.hash):
            found = text_of_head(self.head)
            raise self._error(
                "ledger_moved", "go on from the head that was expected",
                f"its head is {found}, not {text}: somebody else wrote to it meanwhile",
                "Nothing was written. Read it again, and decide again.",
            )

    def expect_witnesses(self, heads: t.Mapping[str, str]) -> None:
        """Refuse a ledger that lacks a head that somebody holds, by whose name. Raises TrustError (ledger_mismatch)."""
        for holder, text in heads.items():
            if not self.knows(text):
                raise self._error(
                    "ledger_mismatch", "believe in it",
                    f"{holder} holds head {text}, which is not in it: it was cut off, written anew or forked, or is "
                    "that of another fleet",
                    "Nothing was written. Keep the file as evidence, and find the ledger that has this head.",
                )

    def expect_fleet(self, fleet: str) -> None:
        """Refuse the ledger of another fleet. Raises TrustError (ledger_mismatch)."""
        if self.keyring.fleet and self.keyring.fleet != fleet:
            raise self._error(
                "ledger_mismatch", "use it", f"it is that of fleet {self.keyring.fleet!r}, not of {fleet!r}",
                "Nothing was written. Name the ledger of this fleet.",
            )

    def knows(self, text: str) -> bool:
        """Say whether a head, SEQUENCE:HASH or HASH, is that of one of its entries."""
        sequence, colon, hash = text.rpartition(":")
        if not colon:
            return hash in self._hashes.values()
        return sequence.isdecimal() and self._hashes.get(int(sequence)) == hash

    def append(self, members: Members) -> None:
        """Write one entry, and take it in. Raises CustodyError, TrustError."""
        members = {**members, "time": text_of(self.now)}
        if self._writer is None:
            # In check mode its hash is that of nothing.
            sequence, hash = self.keyring.sequence + 1, journal.START
        else:
            head = self._writer.append(members)
            sequence, hash = head.sequence, head.hash
            self._hashes[sequence] = hash
        self._fold(sequence, hash, members)
        self.is_changed = True

    def _fold(self, sequence: int, hash: str, members: Members) -> None:
        if sequence == 1 and members.get("event") != "founded":
            raise self._broken(sequence, "it does not begin as a ledger does")
        try:
            self.keyring.apply(sequence, hash, members)
        except (AttributeError, KeyError, TypeError, ValueError) as exc:
            raise self._broken(sequence, f"it makes no sense after those before it ({type(exc).__name__})") from None

    def _agreed(self, now: datetime.datetime, bound: int) -> datetime.datetime:
        """Return the time of the next entries, never before that of the last. Raises TrustError (clock_skew)."""
        now = now.replace(microsecond=0)
        if not self.keyring.time or now >= moment_of(self.keyring.time):
            return now
        last = moment_of(self.keyring.time)
        if (last - now).total_seconds() > bound:
            raise self._error(
                "clock_skew", "write to it",
                f"its last entry is of {self.keyring.time}, and the clock of this host says {text_of(now)}: they "
                f"differ by more than {bound} s",
                "Nothing was written. Set the clock right, and run this again.",
            )
        return last

    def _broken(self, sequence: int, cause: str) -> TrustError:
        return self._error(
            "ledger_mismatch", "read it", f"entry {sequence}: {cause}",
            "Nothing was written. Keep the file as evidence, and find out who changed it.",
        )

    def _error(
        self, code: t.Literal["ledger_moved", "ledger_mismatch", "clock_skew"], attempt: str, cause: str, advice: str
    ) -> TrustError:
        return TrustError(code=code, object=self.path, attempt=attempt, cause=cause, advice=advice)


@contextmanager
def opened(
    path: str, *, now: datetime.datetime, skew_bound: int = SKEW_BOUND, dry_run: bool = False
) -> t.Iterator[Ledger]:
    """Hold a ledger, alone; others wait. With C(dry_run) it is only read, and entries are taken in, not written.

    Raises CustodyError as C(journal.opened()), and TrustError: ledger_mismatch, clock_skew.
    """
    if dry_run:
        yield Ledger(path, None, journal.read(path), now=now, skew_bound=skew_bound, dry_run=True)
        return
    with journal.opened(path) as writer:
        yield Ledger(path, writer, writer.entries(), now=now, skew_bound=skew_bound, dry_run=False)


def read(path: str, *, now: datetime.datetime) -> Ledger:
    """Return a ledger as it is, for reading; a missing one is refused.

    Raises CustodyError (not_found, and as C(journal.read())), TrustError (ledger_mismatch).
    """
    entries = journal.read(path)
    if not entries:
        raise TrustError(
            code="not_found", object=path, attempt="read the ledger", cause="there is none",
            advice="Name the file that module keyring writes.",
        )
    # Whoever only reads needs no clock.
    return Ledger(path, None, entries, now=now, skew_bound=2**62, dry_run=True)


def text_of_head(head: journal.Head | None) -> str:
    """Return a head as SEQUENCE:HASH, as others keep it."""
    return f"{head.sequence}:{head.hash}" if head else "0"


def _is_head(text: str, sequence: int, hash: str) -> bool:
    return text in (hash, f"{sequence}:{hash}")
