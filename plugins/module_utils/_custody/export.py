# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Exports with their terms: recorded before they are made, taken away when their time is over, never made twice.

First the record, then the timer, then the copy: an interrupted export leaves a record without a copy, or a copy with a
record and a timer, and the next run makes it whole. The timer takes away what was written under another name, too.
"""

from __future__ import annotations

import datetime
import math
import os
import secrets
import typing as t
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace

from .._errors import CustodyError, HallmarkError, KeyFileError
from .._keys import lease as leases
from .._keys import private_key, writing
from .._keys.fingerprint import expect_key_id
from .._keys.lease import Lease
from .._moments import moment_of, text_of
from . import expiry, export_record, journal, key_file, public_file, recipient, storage, sweep
from . import source as sources
from .export_record import Export
from .key_file import KeyFile, Wanted
from .private_file import mode_text, open_parent, temporary_path
from .record_file import real_path

_UTC = datetime.timezone.utc


@dataclass(frozen=True)
class Terms:
    """How long a copy lives (seconds, or None), whether the first use takes it away, and whom it is encrypted to."""

    expires_in: int | None = None
    once: bool = False
    recipient: str | None = None

    def __post_init__(self) -> None:
        """Refuse what means nothing. Raises CustodyError (input_invalid)."""
        if self.expires_in is not None and not 1 <= self.expires_in <= 366 * 86400:
            raise CustodyError(
                code="input_invalid", object="expires_in", attempt="use it",
                cause=f"{self.expires_in} seconds are no span", advice="Give 1 second to 366 days.",
            )

    def fits(self, made: Export) -> bool:
        """Say whether an export was made on these terms."""
        return (self.expires_in, self.once, self.recipient) == (made.expires_in, made.once, made.recipient)


@dataclass(frozen=True)
class Outcome:
    """What became of an export: the copy, its entry in the record, and what was written to the record."""

    copied: KeyFile
    made: Export
    chain_changed: bool
    changed: bool
    events: tuple[dict[str, t.Any], ...] = ()


class Exports:
    """The exports of one record. What is changed is first gone through without changing, and then under its lock."""

    def __init__(self, record_path: str, *, dry_run: bool, now: datetime.datetime | None = None) -> None:
        self._path = record_path
        self._dry_run = dry_run
        self._given_now = now
        self._live = export_record.live(record_path)
        # Whether something may be changed now, and the record, which is held meanwhile.
        self._dry = True
        self._record: journal.Writer | None = None
        self.events: list[dict[str, t.Any]] = []

    def make(
        self, source: sources.Source, dest: str, wanted: Wanted, terms: Terms, *, chain_dest: str | None,
        same_format: bool,
    ) -> Outcome:
        """Make the copy, unless it is there on the same terms. Raises KeyFileError and CustodyError."""
        dest = real_path(dest)
        chain_dest = real_path(chain_dest) if chain_dest else None
        if dest == os.path.realpath(source.private_key_path):
            raise CustodyError(
                code="input_invalid", object=dest, attempt="write the copy", cause="it is the key that shall be copied",
                advice="Choose another path.",
            )
        pair = sources.read_pair(source)
        expect_key_id(pair.private.public.key_id, wanted.key_id, where=source.private_key_path)
        wanted = replace(
            wanted, format=pair.private.format if same_format else wanted.format, key_id=pair.private.public.key_id
        )
        # All that will be refused is refused before anything is armed, recorded or written.
        outcome = None
        try:
            outcome = self._settle(pair, source, dest, wanted, terms, chain_dest)
        except HallmarkError as exc:
            # What is in the way may be what another process exports at this moment; it records that first.
            is_in_the_way = exc.code in ("key_mismatch", "destination_occupied")
            if self._dry_run or not is_in_the_way or not os.path.lexists(self._path):
                raise
            with self._held(changing=False):
                self._settle(pair, source, dest, wanted, terms, chain_dest)
        leftovers = [temporary_path(path) for path in (dest, chain_dest) if path]
        if outcome is not None and (self._dry_run or not (outcome.changed or any(map(os.path.lexists, leftovers)))):
            return outcome
        with self._held():
            outcome = self._settle(pair, source, dest, wanted, terms, chain_dest)
        return replace(outcome, events=tuple(self.events))

    def tidy(self, dest: str | None = None) -> list[str]:
        """End exports whose time is over or whose copy is gone, all or that at C(dest); return the files removed.

        What cannot be ended does not keep others from it. Raises HallmarkError, that of the first, at the end.
        """
        if self._dry_run or not any(self._is_past(made) for made in self._at(dest)):
            return self._tidy(dest)
        with self._held():
            return self._tidy(dest)

    def retract(self, dest: str, chain_dest: str | None, *, key_id: str | None, passphrase: bytes | None) -> list[str]:
        """Take the copy at C(dest) and its chain away; return the files that were removed. Raises HallmarkError."""
        dest = real_path(dest)
        chain_dest = real_path(chain_dest) if chain_dest else None
        removed = self._retract(dest, chain_dest, key_id, passphrase)
        if not self._dry_run and (removed or self._at(dest) or os.path.lexists(temporary_path(dest))):
            # Nothing is recorded of what never was.
            with self._held(recording=os.path.lexists(self._path)):
                removed = self._retract(dest, chain_dest, key_id, passphrase)
        return removed

    def sweep(
        self, folders: t.Sequence[str], key_id: str, *, passphrase: bytes | None, keep: t.Sequence[str] = ()
    ) -> tuple[list[str], list[str]]:
        """Take every copy of a key away that is recorded or lies below C(folders), but for what lies below C(keep).

        Return the files that were removed, and those that may hold the key but could not be told.
        """
        kept = [os.path.join(os.path.realpath(folder), "") for folder in keep]

        def is_meant(path: str) -> bool:
            # A folder may be searched by a name that leads to it over links; the record has real ones.
            return not os.path.join(os.path.realpath(os.path.dirname(path)), "").startswith(tuple(kept))

        if self._dry_run or not any(made.key_id == key_id for made in self._live.values()):
            removed, unknown = self._end_all(key_id, is_meant)
        else:
            with self._held():
                removed, unknown = self._end_all(key_id, is_meant)
        found = [copy for copy in sweep.copies(
            folders, passphrase=passphrase,
            take=lambda copy: key_id in copy.key_ids and is_meant(copy.path) and not self._dry_run,
        ) if is_meant(copy.path)]
        removed += [copy.path for copy in found if key_id in copy.key_ids]
        unknown += [copy.path for copy in found if copy.unknown and key_id not in copy.key_ids]
        return list(dict.fromkeys(removed)), [path for path in dict.fromkeys(unknown) if path not in removed]

    # What follows changes something only while the record is held. ---------------------------------------------------

    @contextmanager
    def _held(self, *, recording: bool = True, changing: bool = True) -> t.Iterator[None]:
        """Hold the record against others, and read again what they wrote."""
        with journal.opened(self._path) if recording else nullcontext() as self._record:
            if self._record is not None:
                self._live = export_record.fold(self._record.entries(), self._path)
            self._dry = not changing
            try:
                yield
            finally:
                self._dry = True

    def _settle(
        self, pair: sources.Pair, source: sources.Source, dest: str, wanted: Wanted, terms: Terms,
        chain_dest: str | None,
    ) -> Outcome:
        gone = self._tidy(dest)
        former = next((made for made in self._at(dest) if not self._is_past(made)), None)
        if former is not None:
            return self._keep(pair, former, wanted, terms, chain_dest)
        made = self._planned(pair, source, dest, wanted, terms, chain_dest)
        wanted = replace(wanted, lease=_lease(made))
        if self._dry:
            # What would be gone by then is not in the way.
            copied, chain = self._write(pair, made, wanted) if dest not in gone else (_new(pair, made, wanted), True)
            return Outcome(copied, made, chain, changed=True)
        self._begin(made)
        try:
            if made.expires_in is not None:
                self._arm(made)
            copied, chain = self._write(pair, made, wanted)
            if made.expires_in is not None and not expiry.is_armed(_guard(made)):
                raise CustodyError(
                    code="expiry_unenforceable", object=dest, attempt="export a key that ends",
                    cause="its timer was gone before the copy was written", advice="Give it more time.",
                )
        except HallmarkError:
            # A copy that has an end must not outlive what would have ended it.
            if wanted.lease is not None or not os.path.lexists(made.path):
                with suppress(HallmarkError):
                    self._take_away(made)
                    self._end(made, "removed")
            raise
        return Outcome(copied, made, chain, changed=True)

    def _keep(
        self, pair: sources.Pair, former: Export, wanted: Wanted, terms: Terms, chain_dest: str | None
    ) -> Outcome:
        """Keep a copy that is there, with the attributes and the chain that are asked for, and with what ends it."""
        moved = chain_dest is not None and chain_dest != former.chain_path
        if former.key_id != wanted.key_id or not terms.fits(former) or (moved and former.expires_in is not None):
            raise KeyFileError(
                code="key_mismatch", object=former.path, attempt="keep the exported copy",
                cause=f"export {former.export_id} is of another key, or was made on other terms",
                advice="Remove it with state: absent first; then it is exported anew.",
            )
        rearmed = self._rearm(former)
        made = replace(former, chain_path=chain_dest) if moved else former
        if moved and not self._dry:
            self._note(made, "exported")
        copied, chain = self._write(pair, made, replace(wanted, lease=_lease(made)))
        if made.expires_in is not None:
            # What was foreseen may have changed since.
            made = replace(made, enforced_by=expiry.enforced(_guard(made)))
        return Outcome(copied, made, chain, changed=copied.changed or chain or moved or rearmed)

    def _tidy(self, dest: str | None) -> list[str]:
        removed: list[str] = []
        failed: list[HallmarkError] = []
        for made in [one for one in self._at(dest) if self._is_past(one)]:
            try:
                is_over = made.is_over(self._now())
                # A copy without an end that somebody took away leaves its chain to them.
                gone = self._take_away(made, with_chain=is_over or _lease(made) is not None)
                self._end(made, "expired" if is_over else "gone")
                removed += gone
            except HallmarkError as exc:
                failed.append(exc)
        if failed:
            raise failed[0]
        return removed

    def _retract(
        self, dest: str, chain_dest: str | None, key_id: str | None, passphrase: bytes | None
    ) -> list[str]:
        made = next(iter(self._at(dest)), None)
        if made is not None and made.recipient is not None and key_id in (None, made.key_id):
            removed = self._take_away(made, with_chain=False)
        else:
            gone = key_file.ensure_absent(dest, key_id=key_id, passphrase=passphrase, dry_run=self._dry)
            removed = [dest] if gone else []
        if chain_dest is not None:
            removed += self._chain_away(chain_dest, key_id)
        if made is not None:
            removed += [path for path in self._own_chain_away(made) if path not in removed]
            self._end(made, "removed" if dest in removed else "gone")
        return removed

    def _end_all(self, key_id: str, is_meant: t.Callable[[str], bool]) -> tuple[list[str], list[str]]:
        removed: list[str] = []
        others: list[str] = []
        for made in [one for one in self._live.values() if one.key_id == key_id and is_meant(one.path)]:
            gone = self._take_away(made)
            # Something that is not known for the copy any more may still hold the key.
            others += [made.path] if made.path not in gone and os.path.lexists(made.path) else []
            self._end(made, "removed" if gone else "gone")
            removed += gone
        return removed, others

    def _planned(
        self, pair: sources.Pair, source: sources.Source, dest: str, wanted: Wanted, terms: Terms,
        chain_dest: str | None,
    ) -> Export:
        writing.require_writable(format=wanted.format, passphrase=wanted.passphrase)
        if terms.recipient is not None:
            recipient.require(terms.recipient)
        made = Export(
            export_id=secrets.token_hex(8), key_id=pair.private.public.key_id,
            source=os.path.realpath(source.private_key_path), path=dest, chain_path=chain_dest, format=wanted.format,
            encrypted=wanted.passphrase is not None or terms.recipient is not None,
            mode=mode_text(wanted.attributes.mode), expires_in=terms.expires_in, expires_at=None, once=terms.once,
            enforced_by=(), recipient=terms.recipient,
        )
        if terms.expires_in is None:
            return made
        # Rounded up: a copy lives no shorter than was asked for.
        ends = (self._now() + datetime.timedelta(seconds=terms.expires_in, microseconds=999_999)).replace(microsecond=0)
        made = replace(made, expires_at=text_of(ends))
        expiry.require(_guard(made))
        return replace(made, enforced_by=expiry.foreseen(_guard(made), alone=_is_alone(made)))

    def _begin(self, made: Export) -> None:
        """Record the export, before there is anything to end: every timer has its entry, by which it is found."""
        folders = {os.path.dirname(path) for path in (made.path, made.chain_path) if path}
        for other in self._live.values():
            if other.expires_at is not None and os.path.dirname(other.path) in folders:
                expiry.no_longer_alone(_guard(other))
        self._note(made, "exported")
        self._live[made.export_id] = made

    def _rearm(self, made: Export) -> bool:
        """Arm a timer again that is gone; return whether that changes anything."""
        if made.expires_in is None or expiry.is_armed(_guard(made)):
            return False
        expiry.require(_guard(made))
        if not self._dry:
            self._arm(made)
        return True

    def _arm(self, made: Export) -> None:
        ends = moment_of(t.cast(str, made.expires_at))
        expiry.arm(
            _guard(made), expires_at=ends, remaining=max(1, math.ceil((ends - self._now()).total_seconds())),
            age=made.expires_in if _is_alone(made) else None,
        )

    def _write(self, pair: sources.Pair, made: Export, wanted: Wanted) -> tuple[KeyFile, bool]:
        # A chain that will be refused is refused before the key is copied.
        sources.ensure_chain(pair, made.chain_path, dry_run=True)
        if made.recipient is not None:
            copied = self._sealed(pair, made, wanted)
        else:
            copied = key_file.ensure_present(made.path, wanted, lambda: pair.private.key, dry_run=self._dry)
        return copied, sources.ensure_chain(pair, made.chain_path, dry_run=self._dry)

    def _sealed(self, pair: sources.Pair, made: Export, wanted: Wanted) -> KeyFile:
        """Write the copy encrypted to its recipient. What it is, this host can tell only by its record."""
        storage.require_local(os.path.dirname(made.path))
        new = _new(pair, made, wanted)
        with open_parent(made.path, create=not self._dry) as (folder, name):
            if folder is not None and not self._dry:
                folder.sweep(name)
            found = folder.inspect(name) if folder else None
            if folder is not None and found is not None:
                if made.export_id not in self._live or not _is_ours(made, found.data):
                    raise CustodyError(
                        code="destination_occupied", object=made.path, attempt="write the copy",
                        cause="something else is there",
                        advice="Nothing is overwritten: remove it, or choose another path.",
                    )
                changed = folder.converge(name, found, wanted.attributes, dry_run=self._dry)
                return replace(new, changed=changed, former_mode=found.mode)
            if folder is not None and not self._dry:
                plain = writing.write_private_key(pair.private.key, format=wanted.format, passphrase=wanted.passphrase)
                data = recipient.encrypt(_prefix(made) + plain, t.cast(str, made.recipient))
                folder.create(name, data, wanted.attributes)
        return new

    def _take_away(self, made: Export, *, with_chain: bool = True) -> list[str]:
        """Remove the files of an export, if they still are what was exported, and what a killed process left of it."""
        removed = []
        with open_parent(made.path, create=False) as (folder, name):
            if folder is not None and not self._dry:
                folder.sweep(name)
            found = folder.inspect(name) if folder else None
            if folder is not None and found is not None and _is_ours(made, found.data):
                if not self._dry:
                    folder.remove(name)
                removed.append(made.path)
        return removed + (self._own_chain_away(made) if with_chain else [])

    def _own_chain_away(self, made: Export) -> list[str]:
        """Remove the chain of an export, unless another one has it too, or something else is there now."""
        others = [one.chain_path for one in self._live.values() if one.export_id != made.export_id]
        if made.chain_path is None or made.chain_path in others:
            return []
        try:
            return self._chain_away(made.chain_path, made.key_id)
        except CustodyError as exc:
            if exc.code != "destination_occupied":
                raise
        return []

    def _chain_away(self, path: str, key_id: str | None) -> list[str]:
        gone = public_file.remove_public_file(
            path, is_ours=lambda data: sources.is_chain_of(data, key_id), dry_run=self._dry
        )
        return [path] if gone else []

    def _end(self, made: Export, event: export_record.Event) -> None:
        if self._dry:
            return
        if made.expires_in is not None:
            expiry.disarm(_guard(made))
        self._note(made, event)
        del self._live[made.export_id]

    def _note(self, made: Export, event: export_record.Event) -> None:
        self.events.append(export_record.write(t.cast(journal.Writer, self._record), made, event, now=self._now()))

    def _now(self) -> datetime.datetime:
        return self._given_now or datetime.datetime.now(_UTC)

    def _at(self, dest: str | None) -> list[Export]:
        return [made for made in self._live.values() if dest in (None, made.path)]

    def _is_past(self, made: Export) -> bool:
        """Say whether the time of an export is over, or its copy gone."""
        return made.is_over(self._now()) or not os.path.lexists(made.path)


def _new(pair: sources.Pair, made: Export, wanted: Wanted) -> KeyFile:
    return KeyFile(True, None, pair.private.public, wanted.format, made.encrypted, mode_text(wanted.attributes.mode))


def _guard(made: Export) -> expiry.Guard:
    return expiry.guard(made.export_id, made.path, made.chain_path)


def _lease(made: Export) -> Lease | None:
    # An encrypted copy could not be told from any other encrypted key.
    if made.expires_at is None and not made.once and not made.encrypted:
        return None
    return Lease(made.export_id, moment_of(made.expires_at) if made.expires_at else None, made.once)


def _prefix(made: Export) -> bytes:
    lease = _lease(made)
    return lease.encode() if lease else b""


def _is_ours(made: Export, data: bytes) -> bool:
    """Say whether a file still is the copy that was exported; nothing else is ever removed."""
    if made.recipient is not None:
        return data.startswith(recipient.BEGIN)
    with suppress(HallmarkError):
        found = leases.read(data, where=made.path)
        if found is not None or _lease(made) is not None:
            return found is not None and found.export_id == made.export_id
        return made.key_id == private_key.read_private_key(data, passphrase=None, where=made.path).public.key_id
    return False


def _is_alone(made: Export) -> bool:
    """Say whether nothing but this export lies in its folder."""
    own = {made.path, temporary_path(made.path), made.chain_path}
    folder = os.path.dirname(made.path)
    with suppress(FileNotFoundError):
        return {os.path.join(folder, name) for name in os.listdir(folder)} <= own
    return True
