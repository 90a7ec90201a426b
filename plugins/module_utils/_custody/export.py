# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Exports with their terms: recorded before they are made, taken away when their time is over, never made twice.

An interrupted export leaves a record without a copy, or a copy with a record and a timer; the next run makes it whole.
"""

from __future__ import annotations

import datetime
import os
import secrets
import typing as t
from contextlib import suppress
from dataclasses import dataclass, replace

from .._errors import CustodyError, HallmarkError, KeyFileError
from .._keys import lease as leases
from .._keys import private_key
from .._keys.fingerprint import expect_key_id
from .._keys.lease import Lease, rfc3339
from . import expiry, export_record, key_file, public_file, recipient, storage, sweep
from . import source as sources
from .export_record import Export
from .key_file import KeyFile, Wanted
from .private_file import mode_text, open_parent

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
                code="input_invalid", object="expires_in", attempt="use it", cause=f"{self.expires_in} seconds are no span",
                advice="Give 1 second to 366 days.",
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
    """The exports of one record, at one moment."""

    def __init__(self, record_path: str, *, dry_run: bool, now: datetime.datetime | None = None) -> None:
        self._record = record_path
        self._dry_run = dry_run
        self._now = (now or datetime.datetime.now(_UTC)).replace(microsecond=0)
        self._live = export_record.live(record_path)
        self.events: list[dict[str, t.Any]] = []

    def make(
        self, source: sources.Source, dest: str, wanted: Wanted, terms: Terms, *, chain_dest: str | None, same_format: bool
    ) -> Outcome:
        """Make the copy, unless it is there on the same terms. Raises KeyFileError and CustodyError."""
        dest = os.path.abspath(dest)
        pair = sources.read_pair(source)
        public = pair.private.public
        expect_key_id(public.key_id, wanted.key_id, where=source.private_key_path)
        wanted = replace(wanted, format=pair.private.format if same_format else wanted.format, key_id=public.key_id)
        self.tidy(dest)
        former = next((one for one in self._live.values() if one.path == dest), None)
        made = self._planned(pair, source, dest, wanted, terms, chain_dest) if former is None else former
        if former is not None and (former.key_id != public.key_id or not terms.fits(former)):
            raise KeyFileError(
                code="key_mismatch", object=dest, attempt="keep the exported copy",
                cause=f"export {former.export_id} is of another key, or was made on other terms",
                advice="Remove it with state: absent first; then it is exported anew.",
            )
        wanted = replace(wanted, lease=_lease(made))
        write: t.Callable[..., tuple[KeyFile, bool]] = self._sealed if terms.recipient else self._plain
        if former is not None:
            copied, chain = write(pair, made, wanted, dry_run=self._dry_run)
            return Outcome(copied, made, chain, copied.changed or chain or self._rearm(made), tuple(self.events))
        # All that will be refused is refused before anything is armed, recorded or written.
        copied, chain = write(pair, made, wanted, dry_run=True)
        if self._dry_run:
            return Outcome(copied, made, chain, True, tuple(self.events))
        made = self._begin(made)
        try:
            copied, chain = write(pair, made, wanted, dry_run=False)
        except HallmarkError:
            # A copy that has an end must not outlive what would have ended it.
            if wanted.lease is not None or not os.path.lexists(made.path):
                self._take_away(made)
                self._end(made, "removed")
            raise
        return Outcome(copied, made, chain, True, tuple(self.events))

    def tidy(self, dest: str | None = None) -> list[str]:
        """End exports whose time is over or whose copy is gone, all or that at C(dest); return the files removed."""
        removed: list[str] = []
        for made in [one for one in self._live.values() if dest in (None, one.path)]:
            is_there = os.path.lexists(made.path)
            if is_there and not made.is_over(self._now):
                continue
            if is_there:
                removed += self._take_away(made)
            self._end(made, "expired" if made.is_over(self._now) else "gone")
        return removed

    def retract(self, dest: str, chain_dest: str | None, *, key_id: str | None, passphrase: bytes | None) -> list[str]:
        """Take the copy at C(dest) and its chain away; return the files that were removed. Raises HallmarkError."""
        dest = os.path.abspath(dest)
        made = next((one for one in self._live.values() if one.path == dest), None)
        removed: list[str] = []
        if made is not None and made.recipient is not None and key_id in (None, made.key_id):
            removed += self._take_away(made)
        elif key_file.ensure_absent(dest, key_id=key_id, passphrase=passphrase, dry_run=self._dry_run):
            removed.append(dest)
        for path in {chain_dest, made.chain_path if made else None} - {None}:
            removed += self._without_chain(t.cast(str, path), key_id)
        if made is not None:
            self._end(made, "removed")
        return removed

    def sweep(self, folders: t.Sequence[str], key_id: str, *, passphrase: bytes | None) -> tuple[list[str], list[str]]:
        """Take every copy of a key away that is recorded or lies below C(folders).

        Return the files that were removed, and those with keys that could not be told for want of a passphrase.
        """
        removed: list[str] = []
        for made in [one for one in self._live.values() if one.key_id == key_id]:
            if os.path.lexists(made.path):
                removed += self._take_away(made)
            self._end(made, "removed")
        found = sweep.copies(
            folders, passphrase=passphrase,
            take=lambda copy: key_id in copy.key_ids and not self._dry_run,
        )
        removed += [copy.path for copy in found if key_id in copy.key_ids and copy.path not in removed]
        return removed, [copy.path for copy in found if copy.unknown and key_id not in copy.key_ids]

    def _planned(
        self, pair: sources.Pair, source: sources.Source, dest: str, wanted: Wanted, terms: Terms, chain_dest: str | None
    ) -> Export:
        private_key.require_writable(format=wanted.format, passphrase=wanted.passphrase)
        if terms.recipient is not None:
            recipient.require(terms.recipient)
        expires = self._now + datetime.timedelta(seconds=terms.expires_in) if terms.expires_in else None
        made = Export(
            export_id=secrets.token_hex(8), key_id=pair.private.public.key_id,
            source=os.path.realpath(source.private_key_path), path=dest,
            chain_path=os.path.abspath(chain_dest) if chain_dest else None, format=wanted.format,
            encrypted=wanted.passphrase is not None, mode=mode_text(wanted.attributes.mode), expires_in=terms.expires_in,
            expires_at=rfc3339(expires), once=terms.once, enforced_by=(), recipient=terms.recipient,
        )
        if terms.expires_in is not None:
            _guard(made)
        return made

    def _begin(self, made: Export) -> Export:
        """Arm what ends the export, and record it, before there is anything to end."""
        others = [
            one for one in self._live.values() if os.path.dirname(one.path) == os.path.dirname(made.path) and one.expires_at
        ]
        for other in others:
            expiry.no_longer_alone(_guard(other))
        if made.expires_in is not None:
            expires = datetime.datetime.strptime(t.cast(str, made.expires_at), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=_UTC)
            enforced = expiry.arm(
                _guard(made), expires_at=expires, seconds=made.expires_in, alone=_is_alone(made)
            )
            made = replace(made, enforced_by=enforced)
        try:
            self._note(made, "exported")
        except BaseException:
            if made.expires_in is not None:
                expiry.disarm(_guard(made))
            raise
        self._live[made.export_id] = made
        return made

    def _rearm(self, made: Export) -> bool:
        """Arm a timer again that is gone; return whether that changes anything."""
        if made.expires_in is None or expiry.is_armed(_guard(made)):
            return False
        if not self._dry_run:
            expires = datetime.datetime.strptime(t.cast(str, made.expires_at), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=_UTC)
            expiry.arm(_guard(made), expires_at=expires, seconds=made.expires_in, alone=_is_alone(made))
        return True

    def _plain(self, pair: sources.Pair, made: Export, wanted: Wanted, *, dry_run: bool) -> tuple[KeyFile, bool]:
        # A chain that will be refused is refused before the key is copied.
        sources.ensure_chain(pair, made.chain_path, dry_run=True)
        copied = key_file.ensure_present(made.path, wanted, lambda: pair.private.key, dry_run=dry_run)
        return copied, sources.ensure_chain(pair, made.chain_path, dry_run=dry_run)

    def _sealed(self, pair: sources.Pair, made: Export, wanted: Wanted, *, dry_run: bool) -> tuple[KeyFile, bool]:
        """Write the copy encrypted to its recipient. What it is, this host can tell only by its record."""
        sources.ensure_chain(pair, made.chain_path, dry_run=True)
        storage.require_local(os.path.dirname(made.path))
        facts = (pair.private.public, wanted.format, True, mode_text(wanted.attributes.mode))
        with open_parent(made.path, create=not dry_run) as (folder, name):
            found = folder.inspect(name) if folder else None
            if folder is not None and found is not None:
                if made.export_id not in self._live or not _is_ours(made, found.data):
                    raise CustodyError(
                        code="destination_occupied", object=made.path, attempt="write the copy",
                        cause="something else is there",
                        advice="Nothing is overwritten: remove it, or choose another path.",
                    )
                changed = folder.converge(name, found, wanted.attributes, dry_run=dry_run)
                return KeyFile(changed, found.mode, *facts), sources.ensure_chain(pair, made.chain_path, dry_run=dry_run)
            if folder is not None and not dry_run:
                plain = private_key.write_private_key(pair.private.key, format=wanted.format, passphrase=wanted.passphrase)
                data = recipient.encrypt(_prefix(made) + plain, t.cast(str, made.recipient))
                folder.create(name, data, wanted.attributes)
        return KeyFile(True, None, *facts), sources.ensure_chain(pair, made.chain_path, dry_run=dry_run)

    def _take_away(self, made: Export) -> list[str]:
        """Remove the files of an export, if they still are what was exported."""
        removed = []
        with open_parent(made.path, create=False) as (folder, name):
            found = folder.inspect(name) if folder else None
            if folder is not None and found is not None and _is_ours(made, found.data):
                if not self._dry_run:
                    folder.remove(name)
                removed.append(made.path)
        if made.chain_path is not None:
            removed += self._without_chain(made.chain_path, made.key_id)
        return removed

    def _without_chain(self, path: str, key_id: str | None) -> list[str]:
        gone = public_file.remove_public_file(
            path, is_ours=lambda data: sources.is_chain_of(data, key_id), dry_run=self._dry_run
        )
        return [path] if gone else []

    def _end(self, made: Export, event: export_record.Event) -> None:
        self._live.pop(made.export_id, None)
        if self._dry_run:
            return
        if made.expires_in is not None:
            with suppress(CustodyError):
                expiry.disarm(_guard(made))
        self._note(made, event)

    def _note(self, made: Export, event: export_record.Event) -> None:
        self.events.append(export_record.write(self._record, made, event, now=self._now))


def _guard(made: Export) -> expiry.Guard:
    return expiry.guard(made.export_id, [made.path, *([made.chain_path] if made.chain_path else [])])


def _lease(made: Export) -> Lease | None:
    if made.expires_at is None and not made.once:
        return None
    expires = made.expires_at and datetime.datetime.strptime(made.expires_at, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=_UTC)
    return Lease(made.export_id, expires or None, made.once)


def _prefix(made: Export) -> bytes:
    lease = _lease(made)
    return lease.encode() if lease else b""


def _is_ours(made: Export, data: bytes) -> bool:
    """Say whether a file still is the copy that was exported, as far as that can be told without its passphrase."""
    if made.recipient is not None:
        return data.startswith(recipient.BEGIN)
    with suppress(HallmarkError):
        found = leases.read(data, where=made.path)
        if found is not None or _lease(made) is not None:
            return found is not None and found.export_id == made.export_id
        block = private_key.only_private_block(data, where=made.path)
        return block.is_encrypted or made.key_id == private_key.read_private_key(
            data, passphrase=None, where=made.path
        ).public.key_id
    return False


def _is_alone(made: Export) -> bool:
    """Say whether nothing but this export lies in its folder."""
    own = {made.path, made.chain_path}
    folder = os.path.dirname(made.path)
    with suppress(FileNotFoundError):
        return {os.path.join(folder, name) for name in os.listdir(folder)} <= own
    return True
