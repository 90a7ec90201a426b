# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What proves that a signature was there at a time: entries of transparency logs, and RFC 3161 timestamps."""

from __future__ import annotations

import datetime
import typing as t
from dataclasses import dataclass, field

from .. import _base64, _strict_json
from .._errors import HallmarkError, VerificationError
from .._keys.pem import PublicKey
from .._transparency import entry as entries
from .._transparency import proof
from .._transparency.entry import LogEntry
from .._transparency.log_key import LogKey
from . import certified
from .candidate import LOG_ANNOTATION, TIMESTAMP_ANNOTATION, Candidate

if t.TYPE_CHECKING:
    from .._reason_codes import ReasonCode
    from .._transparency.timestamp import TimestampAuthority

MAX_TIMESTAMPS = 32


@dataclass(frozen=True)
class Evidence:
    """Which logs and timestamp authorities are trusted, and whether a signature must be known to them.

    C(find) looks for entries in a log, online, for a signature that brings none.
    """

    logs: tuple[LogKey, ...] = ()
    require_log: bool = False
    timestamp_authorities: tuple[TimestampAuthority, ...] = ()
    require_timestamp: bool = False
    find: t.Callable[[proof.Subject, str], tuple[LogEntry, ...]] | None = field(default=None, repr=False)


def times(
    candidate: Candidate, public: PublicKey, wanted: Evidence, *, where: str
) -> tuple[datetime.datetime, ...]:
    """Return every proven time of a signature by C(public).

    What names a trusted log or authority must hold; what names others is passed over. Raises VerificationError:
    log_missing, log_invalid, timestamp_missing, timestamp_invalid; FormatError (malformed).
    """
    stamped = _stamped(candidate, wanted, where)
    now = stamped[0] if stamped else datetime.datetime.now(datetime.timezone.utc)
    return (*stamped, *_logged(candidate, public, wanted, now, where=where))


def _stamped(candidate: Candidate, wanted: Evidence, where: str) -> tuple[datetime.datetime, ...]:
    if not wanted.timestamp_authorities:
        return ()
    from .._transparency import timestamp

    found = timestamps_of(candidate, where)
    if not found and wanted.require_timestamp:
        raise _refused("timestamp_missing", where, "it has no timestamp")
    proven: list[datetime.datetime] = []
    failure: HallmarkError | None = None
    for token in found:
        try:
            proven.append(timestamp.verify(
                token, signature=candidate.signature, authorities=wanted.timestamp_authorities, where=where
            ))
        except HallmarkError as exc:
            failure = exc
    if failure is not None and not proven:
        raise failure
    return tuple(proven)


def _logged(
    candidate: Candidate, public: PublicKey, wanted: Evidence, now: datetime.datetime, *, where: str
) -> tuple[datetime.datetime, ...]:
    if not wanted.logs:
        return ()
    subject = proof.Subject(
        signature=candidate.signature, message=candidate.signed_bytes, payload=candidate.content, spki=public.der,
        # What was logged is the certificate, also for those who trust its bare key.
        certificate=certified.der_of(certified.claimed_leaf(candidate, where)) if candidate.has_certificate else None,
        is_dsse=candidate.format == "bundle",
    )
    found = entries_of(candidate, where)
    # The annotation of the old format has no room for a proof; an answer of the log has one.
    needs_proof = candidate.format == "bundle"
    if not found and wanted.find is not None:
        found, needs_proof = wanted.find(subject, where), True
    known = [one for one in found if proof.is_known(one, wanted.logs, where)]
    if not known and wanted.require_log:
        cause = "its log entries are of logs that are not trusted" if found else "it has no entry of a log"
        raise _refused("log_invalid" if found else "log_missing", where, cause)
    moments = [
        proof.verify(one, subject=subject, keys=wanted.logs, needs_proof=needs_proof, now=now, where=where)
        for one in known
    ]
    return tuple(moment for moment in moments if moment is not None)


def entries_of(candidate: Candidate, where: str) -> tuple[LogEntry, ...]:
    """Return the log entries that came with a signature. Raises FormatError (malformed)."""
    if candidate.material is not None:
        return tuple(entries.from_bundle(one) for one in candidate.material.objects("tlogEntries", []))
    text = candidate.annotations.get(LOG_ANNOTATION)
    return (entries.from_annotation(text, where=where),) if text else ()


def timestamps_of(candidate: Candidate, where: str) -> tuple[bytes, ...]:
    """Return the RFC 3161 responses that came with a signature. Raises FormatError (malformed)."""
    if candidate.material is not None:
        data = candidate.material.object("timestampVerificationData", None).only("rfc3161Timestamps")
        given = data.objects("rfc3161Timestamps", [])
        if len(given) > MAX_TIMESTAMPS:
            raise data.error(f"it has more than {MAX_TIMESTAMPS} timestamps")
        return tuple(one.only("signedTimestamp").base64("signedTimestamp") for one in given)
    text = candidate.annotations.get(TIMESTAMP_ANNOTATION)
    if not text:
        return ()
    top = _strict_json.loads(text.encode("utf-8", "surrogatepass"), what="timestamp", where=where)
    return (top.only("SignedRFC3161Timestamp").base64("SignedRFC3161Timestamp"),)


def timestamp_annotation(response: bytes) -> str:
    """Return the annotation of a C(.sig) layer for an RFC 3161 response, as cosign writes it."""
    return _strict_json.dumps({"SignedRFC3161Timestamp": _base64.encode(response)}).decode("ascii")


def _refused(code: ReasonCode, where: str, cause: str) -> VerificationError:
    return VerificationError(
        code=code, object=where, attempt="count a signature", cause=cause,
        advice="It does not count; others on the same image still may.",
    )
