# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Changing what a tag names while others change it, too, without losing anything.

Signatures of one image share a tag, and registries have no conditional write. Processes of one host take turns by a
lock. Between hosts this holds: everybody writes at most C(w) seconds after reading, and believes in a write only
when a reading C(w) seconds after it still shows it. A writer who had read before our write has then written, and
what it took away is seen and put back; whoever read later kept it.
"""

from __future__ import annotations

import random
import time
import typing as t
from dataclasses import dataclass, field, replace

from .._errors import RegistryError
from . import manifest as manifests
from .manifest import Manifest
from .reference import Image

if t.TYPE_CHECKING:
    from .store import Place, Store

_ATTEMPTS = 8
_ROUNDS = 8


@dataclass(frozen=True)
class Edit:
    """What the tag shall name: the manifest C(raw), after C(blobs) are stored; None to name nothing any more.

    C(emptied) is the manifest to leave where a store cannot delete.
    """

    raw: bytes | None = field(repr=False)
    media_type: str = manifests.OCI_MANIFEST
    blobs: tuple[bytes, ...] = field(default=(), repr=False)
    emptied: Edit | None = None


# From what the tag names now to what it shall name; None when nothing is left to change.
Plan = t.Callable[[t.Optional[Manifest]], t.Optional[Edit]]
# Whether the plan knows better now that its edit was refused.
Refused = t.Callable[[RegistryError], bool]


@dataclass(frozen=True)
class Written:
    """A change that was written; C(at) is when, in monotonic seconds."""

    tag: Image
    subject: str
    plan: Plan = field(repr=False)
    at: float
    refused: Refused = field(repr=False)


def change(
    store: Store[Place], tag: Place, subject: str, plan: Plan, *, refused: Refused = lambda _error: False,
    likely: tuple[bytes, ...] = (), is_new: bool = False, is_contested: bool = False,
) -> Written | None:
    """Apply C(plan) to what C(tag) names, as long as there is anything to change; again where C(refused()) says so.

    What will C(likely) have to be stored for that is stored before the tag is read; what C(is_new), unasked.

    Returns None if there was nothing to change, else what C(settle()) needs, where others write. That reads it again
    after the window; before, a reading proves nothing, and is made only where a tag C(is_contested), and where nothing
    is settled. Raises RegistryError (write_lost when other writers kept undoing it), and whatever the store and the
    plan raise.
    """
    at: float | None = None
    deleted: set[str] = set()
    for blob in likely:
        store.put_blob(tag, blob, is_new=is_new)
    with store.exclusive(tag, subject):
        for attempt in range(_ATTEMPTS + 1):
            since = time.monotonic()
            present = store.find_manifest(tag)
            edit = plan(present)
            if edit is None:
                is_settled = at is None or not store.settle_seconds(tag)
                return None if is_settled else Written(tag, subject, plan, t.cast(float, at), refused)
            if attempt == _ATTEMPTS:
                break
            if edit.raw is None and present is not None:
                # Some registries keep the tag of a manifest that was deleted by its digest.
                edit = edit.emptied if edit.emptied is not None and present.digest in deleted else edit
                deleted.add(present.digest)
            edit = replace(edit, blobs=tuple(blob for blob in edit.blobs if blob not in likely))
            try:
                written = _write(store, tag, present, edit, since)
            except RegistryError as exc:
                if not refused(exc):
                    raise
                continue
            at = written or at
            if written is not None and not is_contested and edit.raw is not None and store.settle_seconds(tag):
                return Written(tag, subject, plan, written, refused)
            if attempt:
                time.sleep(random.uniform(0.0, 0.05 * 2**attempt))
    raise _lost(tag)


def _write(store: Store[Place], tag: Place, read: Manifest | None, edit: Edit, since: float) -> float | None:
    """Write one edit that was read at C(since), and return when; None if the tag had changed meanwhile."""
    if edit.raw is None and read is not None:
        if store.delete_manifest(t.cast("Place", tag.at(read.digest))):
            return time.monotonic()
        if edit.emptied is None:
            return None
        edit = edit.emptied
    if edit.blobs:
        for blob in edit.blobs:
            store.put_blob(tag, blob)
        # What had to be stored first took its time: look again, so that little of it lies between reading and writing.
        since = time.monotonic()
        again = store.find_manifest(tag)
        if (again.digest if again else None) != (read.digest if read else None):
            return None
    window = store.settle_seconds(tag)
    until = since + window if window else None
    try:
        store.put_manifest(tag, t.cast(bytes, edit.raw), media_type=edit.media_type, until=until)
    except RegistryError:
        # Out of time: what became of it is for the next reading to tell, and for settle() to see again.
        if until is None or time.monotonic() < until:
            raise
    return time.monotonic()


def settle(store: Store[Image], written: t.Sequence[Written]) -> None:
    """Wait until each change is old enough to be believed in, read it again, and mend what was lost meanwhile.

    Changes of one batch share the waiting. Raises RegistryError (write_lost) when that takes too many rounds.
    """
    pending = list(written)
    for _round in range(_ROUNDS):
        if not pending:
            return
        wait(store, pending)
        # Whoever met others here takes turns with them until each has seen its own.
        mended = [
            change(store, one.tag, one.subject, one.plan, refused=one.refused, is_contested=True) for one in pending
        ]
        pending = [one for one in mended if one is not None]
    if pending:
        raise _lost(pending[0].tag)


def wait(store: Store[Image], written: t.Sequence[Written]) -> None:
    """Wait until a reading says whether these changes are believed in."""
    until = max((one.at + store.settle_seconds(one.tag) for one in written), default=0.0)
    left = until - time.monotonic()
    if left > 0:
        time.sleep(left)


def _lost(tag: Image) -> RegistryError:
    return RegistryError(
        code="write_lost", object=str(tag), attempt="keep the change",
        cause="other writers overwrote it each time, or the registry was too slow for settle_seconds",
        advice="Run again when they are done; a slow registry needs a greater settle_seconds, the same on every host.",
    )
