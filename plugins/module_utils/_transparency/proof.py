# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Deciding whether a log entry vouches for a signature. C(verify()) is the order of checks; the rest does one each."""

from __future__ import annotations

import datetime
import hashlib
import re
import typing as t
from dataclasses import dataclass, field

from .._errors import VerificationError
from . import body, checkpoint, merkle
from .body import Logged
from .checkpoint import Checkpoint
from .entry import InclusionProof, LogEntry
from .log_key import LogKey

# Rekor v1 names a host and one of its trees.
_ORIGIN_V1 = re.compile(r"(\S+) - [0-9]+")


@dataclass(frozen=True)
class Subject:
    """The signature that an entry must be about, verified or still to be verified with the same key.

    C(message) is what the signature is over; C(payload) is the same, or what the envelope holds. C(spki) is the DER
    of the key, C(certificate) the DER of its certificate where one signed.
    """

    signature: bytes = field(repr=False)
    message: bytes = field(repr=False)
    payload: bytes = field(repr=False)
    spki: bytes
    certificate: bytes | None
    is_dsse: bool


def verify(
    entry: LogEntry,
    *,
    subject: Subject | None,
    keys: t.Sequence[LogKey],
    needs_proof: bool,
    now: datetime.datetime,
    where: str,
) -> datetime.datetime | None:
    """Verify that a known log holds an entry, for C(subject) if given; return its time if the log signed that.

    Without such a time, the key of the log must be valid at C(now). With C(needs_proof), a signed entry timestamp
    alone is not enough. Raises VerificationError (log_invalid) and FormatError (malformed).
    """
    logged = body.decode(entry.body, where=where)
    is_v2 = logged.version == body.V2
    if entry.proof is None and (needs_proof or entry.signed_entry_timestamp is None):
        raise _refused(where, "it comes without an inclusion proof")
    note = None if entry.proof is None else checkpoint.decode(entry.proof.checkpoint, where=where)
    key = _find_key(entry, keys, note.origin if note and is_v2 else None)
    if key is None:
        raise _refused(where, f"it is of a log that is not trusted, {entry.log_id.hex()}")
    if subject is not None:
        _require_binding(logged, subject, where)
    integrated = _promised_time(entry, key, is_v2, where)
    if entry.proof and note:
        _require_inclusion(entry, entry.proof, note, is_v2, where)
        _require_signed(note, key, entry.log_id, is_v2, where)
    if not key.is_valid_at(integrated or now):
        raise _refused(where, f"the key of the log is not valid at {(integrated or now).isoformat()}")
    return integrated


def is_known(entry: LogEntry, keys: t.Sequence[LogKey], where: str) -> bool:
    """Say whether the entry names one of the logs. Raises FormatError (malformed)."""
    note = None if entry.proof is None else checkpoint.decode(entry.proof.checkpoint, where=where)
    return any(_find_key(entry, keys, origin) for origin in (None, note.origin if note else None))


def _find_key(entry: LogEntry, keys: t.Sequence[LogKey], origin: str | None) -> LogKey | None:
    """Return the key that the entry names; of Rekor v2, the name of the log is part of the key's id."""
    for key in keys:
        if entry.log_id == (bytes.fromhex(key.id_v1) if origin is None else key.id_v2(origin)):
            return key
    return None


def _require_binding(logged: Logged, subject: Subject, where: str) -> None:
    """Require that the entry is about this signature, by this key, over these bytes."""
    # Rekor v2 logs the signature of an envelope as one over bytes; each v1 kind is for its own signatures.
    is_expected = logged.kind == ("dsse" if subject.is_dsse else "hashedrekord")
    if not is_expected and (logged.kind == "dsse" or logged.version != body.V2):
        raise _refused(where, f"its kind {logged.kind} does not go with this signature")
    if logged.signature != subject.signature:
        raise _refused(where, "it is about another signature")
    if logged.spki != subject.spki:
        raise _refused(where, "it is about another key")
    if logged.certificate != subject.certificate:
        raise _refused(where, "it names another certificate than the one that signed, or only one of them is one")
    content = subject.payload if logged.kind == "dsse" else subject.message
    if logged.digest != hashlib.new(logged.hash_algorithm, content).digest():
        raise _refused(where, "it is about other content")


def _promised_time(entry: LogEntry, key: LogKey, is_v2: bool, where: str) -> datetime.datetime | None:
    """Return the time that the signed entry timestamp vouches for; None without one: the entry's word is not enough."""
    if entry.signed_entry_timestamp is None:
        return None
    # Logs of version 2 give no such promise: a signature that fits would be of something else.
    if is_v2 or entry.integrated_time is None:
        raise _refused(where, "it has a signed entry timestamp where none belongs")
    if not key.verifies(signature=entry.signed_entry_timestamp, message=entry.promised_bytes):
        raise _refused(where, "its signed entry timestamp is not that of the log over this entry")
    return datetime.datetime.fromtimestamp(entry.integrated_time, tz=datetime.timezone.utc)


def _require_inclusion(entry: LogEntry, proof: InclusionProof, note: Checkpoint, is_v2: bool, where: str) -> None:
    """Require that the entry is a leaf of the tree in the checkpoint."""
    # In entries of Rekor v2 the proof's own numbers and root are not signed by anybody, and nothing reads them.
    if not is_v2 and (proof.size != note.size or proof.root != note.root):
        raise _refused(where, "its inclusion proof is for another tree than its checkpoint")
    try:
        root = merkle.root_of_inclusion(
            leaf=merkle.leaf_hash(entry.body),
            index=entry.index if is_v2 else proof.index,
            size=note.size,
            hashes=proof.hashes,
        )
    except ValueError as exc:
        raise _refused(where, f"its inclusion proof does not hold: {exc}") from exc
    if root != note.root:
        raise _refused(where, "its inclusion proof leads to another root than that of its checkpoint")


def _require_signed(note: Checkpoint, key: LogKey, log_id: bytes, is_v2: bool, where: str) -> None:
    """Require that the log signed the checkpoint, under the name it has; lines of others, such as witnesses, may be."""
    match = _ORIGIN_V1.fullmatch(note.origin)
    name = note.origin if is_v2 else match and match.group(1)
    if key.host not in (None, name and name.lower()):
        raise _refused(where, f"its checkpoint is of {note.origin[:200]!r}, not of the log {key.host}")
    of_log = (line for line in note.signatures if line.name == name and line.hint == log_id[:4])
    if not any(key.verifies(signature=line.signature, message=note.signed_bytes) for line in of_log):
        raise _refused(where, "the log did not sign its checkpoint")


def _refused(where: str, cause: str) -> VerificationError:
    return VerificationError(
        code="log_invalid", object=where, attempt="believe the log entry", cause=cause,
        advice="A signature does not count with it; sign again, or trust the key of that log if it is yours.",
    )
