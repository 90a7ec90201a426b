# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Entries of a transparency log, in the three shapes they come in: annotation, bundle, answer of the log.

Sources: cosign's C(pkg/cosign/bundle) for the annotation; sigstore protobuf-specs C(sigstore_rekor.proto), JSON form,
for bundles; Rekor's C(openapi.yaml), LogEntry, for answers. Reading an entry proves nothing: C(proof.verify()) does.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass, field

from .. import _base64, _strict_json
from . import body as bodies

MAX_ANNOTATION = 1024 * 1024
_MAX_NUMBER = 2**63 - 1
# The last second of the year 9999, and of Python's calendar.
_MAX_TIME = 253402300799
_MAX_HASHES = 64
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}")
_HEX = re.compile(r"[0-9a-f]*")


@dataclass(frozen=True)
class InclusionProof:
    """The proof that an entry is the leaf C(index) of a tree of C(size) leaves, whose root a checkpoint signs."""

    index: int
    size: int
    root: bytes
    hashes: tuple[bytes, ...]
    checkpoint: str


@dataclass(frozen=True)
class LogEntry:
    """One entry. C(index) counts all trees of the log, C(integrated_time) is in seconds since 1970.

    Of Rekor v1, both are vouched for by the signed entry timestamp and by nothing else.
    """

    index: int
    log_id: bytes
    integrated_time: int | None
    body: bytes = field(repr=False)
    signed_entry_timestamp: bytes | None
    proof: InclusionProof | None

    @property
    def promised_bytes(self) -> bytes:
        """What the signed entry timestamp is over: canonical JSON (RFC 8785) of four members."""
        return _strict_json.dumps({
            "body": _base64.encode(self.body), "integratedTime": self.integrated_time,
            "logID": self.log_id.hex(), "logIndex": self.index,
        })


def from_annotation(text: str, *, where: str) -> LogEntry:
    """Parse the annotation C(dev.sigstore.cosign/bundle) of a C(.sig) layer. Raises FormatError (malformed)."""
    if len(text) > MAX_ANNOTATION:
        raise _strict_json.JsonObject({}, "log entry", where).error(f"it is longer than {MAX_ANNOTATION} characters")
    # What is no Unicode is refused with the rest that is no JSON.
    top = _strict_json.loads(text.encode("utf-8", "surrogatepass"), what="log entry", where=where)
    payload = top.only("SignedEntryTimestamp", "Payload").object("Payload")
    payload.only("body", "integratedTime", "logIndex", "logID")
    return LogEntry(
        index=_number(payload, "logIndex"),
        log_id=_hash(payload, "logID", _from_hex(payload, payload.string("logID"))),
        integrated_time=_number(payload, "integratedTime", limit=_MAX_TIME),
        body=payload.base64("body"),
        signed_entry_timestamp=top.base64("SignedEntryTimestamp"),
        proof=None,
    )


def as_annotation(entry: LogEntry) -> str:
    """Return the annotation as cosign writes it; it holds no inclusion proof.

    Raises FormatError (malformed) for an entry without a signed entry timestamp, which nobody could check.
    """
    if entry.signed_entry_timestamp is None or entry.integrated_time is None:
        raise _strict_json.JsonObject({}, "log entry", "answer of the log").error("it has no signed entry timestamp")
    return _strict_json.dumps({
        "SignedEntryTimestamp": _base64.encode(entry.signed_entry_timestamp),
        "Payload": {
            "body": _base64.encode(entry.body), "integratedTime": entry.integrated_time,
            "logIndex": entry.index, "logID": entry.log_id.hex(),
        },
    }).decode("ascii")


def from_bundle(source: _strict_json.JsonObject) -> LogEntry:
    """Parse one of a bundle's C(tlogEntries), of Rekor v1 or v2; what is absent has the value zero or is empty.

    Raises FormatError (malformed), also where kind and version are not those of the body.
    """
    source.only(
        "logIndex", "logId", "kindVersion", "integratedTime", "inclusionPromise", "inclusionProof", "canonicalizedBody"
    )
    body = source.base64("canonicalizedBody")
    named = source.object("kindVersion").only("kind", "version")
    if (named.string("kind"), named.string("version")) != bodies.kind_of(body, where=source.where):
        raise named.error("it names another kind or version than the body")
    promise = source.object("inclusionPromise", None).only("signedEntryTimestamp")
    log_id = source.object("logId").only("keyId")
    return LogEntry(
        index=_number(source, "logIndex", default=0),
        log_id=_hash(log_id, "keyId", log_id.base64("keyId")),
        integrated_time=_number(source, "integratedTime", default=0, limit=_MAX_TIME) or None,
        body=body,
        signed_entry_timestamp=promise.base64("signedEntryTimestamp") if promise.members else None,
        proof=_proof_from_bundle(source.object("inclusionProof")) if "inclusionProof" in source.members else None,
    )


def as_bundle(entry: LogEntry) -> dict[str, t.Any]:
    """Return the JSON members of the entry inside a bundle, those left out that are zero or empty."""
    kind, version = bodies.kind_of(entry.body, where="log entry")
    promise, proof = entry.signed_entry_timestamp, entry.proof
    return _filled({
        "logIndex": _as_text(entry.index),
        "logId": {"keyId": _base64.encode(entry.log_id)},
        "kindVersion": {"kind": kind, "version": version},
        "integratedTime": _as_text(entry.integrated_time or 0),
        "inclusionPromise": {"signedEntryTimestamp": _base64.encode(promise)} if promise else {},
        "inclusionProof": {} if proof is None else _filled({
            "logIndex": _as_text(proof.index),
            "rootHash": _base64.encode(proof.root),
            "treeSize": _as_text(proof.size),
            "hashes": [_base64.encode(one) for one in proof.hashes],
            "checkpoint": {"envelope": proof.checkpoint},
        }),
        "canonicalizedBody": _base64.encode(entry.body),
    })


def from_response(source: _strict_json.JsonObject) -> LogEntry:
    """Parse a LogEntry as the API of Rekor v1 answers it. Raises FormatError (malformed).

    Members that are not known are ignored, as for every API.
    """
    verification = source.object("verification", None)
    promise = "signedEntryTimestamp" in verification.members
    proof = "inclusionProof" in verification.members
    return LogEntry(
        index=_number(source, "logIndex"),
        log_id=_hash(source, "logID", _from_hex(source, source.string("logID"))),
        integrated_time=_number(source, "integratedTime", limit=_MAX_TIME),
        body=source.base64("body"),
        signed_entry_timestamp=verification.base64("signedEntryTimestamp") if promise else None,
        proof=_proof_from_response(verification.object("inclusionProof")) if proof else None,
    )


def _proof_from_bundle(source: _strict_json.JsonObject) -> InclusionProof:
    source.only("logIndex", "rootHash", "treeSize", "hashes", "checkpoint")
    return InclusionProof(
        index=_number(source, "logIndex", default=0),
        size=_number(source, "treeSize", default=0),
        root=_hash(source, "rootHash", source.base64("rootHash")),
        hashes=tuple(_hash(source, "hashes", _from_base64(source, text)) for text in _texts(source, "hashes")),
        checkpoint=source.object("checkpoint").only("envelope").string("envelope"),
    )


def _proof_from_response(source: _strict_json.JsonObject) -> InclusionProof:
    return InclusionProof(
        index=_number(source, "logIndex"),
        size=_number(source, "treeSize"),
        root=_hash(source, "rootHash", _from_hex(source, source.string("rootHash"))),
        hashes=tuple(_hash(source, "hashes", _from_hex(source, text)) for text in _texts(source, "hashes")),
        checkpoint=source.string("checkpoint"),
    )


def _number(
    source: _strict_json.JsonObject, member: str, *, default: int | None = None, limit: int = _MAX_NUMBER
) -> int:
    """Return a number of 64 bits that is not negative; bundles have it as a string, and every reader takes both."""
    value = source.members.get(member, default)
    if isinstance(value, str) and _DECIMAL.fullmatch(value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= limit:
        raise source.error(f"member {member!r} is missing or no number from 0 to {limit}")
    return value


def _texts(source: _strict_json.JsonObject, member: str) -> list[str]:
    values = source.members.get(member, [])
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise source.error(f"member {member!r} is not a list of strings")
    if len(values) > _MAX_HASHES:
        raise source.error(f"member {member!r} has more than {_MAX_HASHES} parts")
    return values


def _hash(source: _strict_json.JsonObject, member: str, value: bytes) -> bytes:
    if len(value) != 32:
        raise source.error(f"member {member!r} holds {len(value)} bytes where a SHA-256 hash belongs")
    return value


def _from_base64(source: _strict_json.JsonObject, text: str) -> bytes:
    try:
        return _base64.decode(text)
    except ValueError as exc:
        raise source.error(str(exc)) from exc


def _from_hex(source: _strict_json.JsonObject, text: str) -> bytes:
    if len(text) % 2 or not _HEX.fullmatch(text):
        raise source.error("a hash is not lower-case hexadecimal")
    return bytes.fromhex(text)


def _as_text(number: int) -> str:
    # An empty text is left out, as every number that is zero.
    return str(number) if number else ""


def _filled(members: dict[str, t.Any]) -> dict[str, t.Any]:
    return {name: value for name, value in members.items() if value}
