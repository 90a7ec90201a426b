# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What somebody elsewhere wants to have signed, as the host with the key understands it.

The bytes are always made here, out of the claim. What came as bytes is taken apart, made again, and must be the same:
so nobody gets a signature over anything but the claim that an image of this digest is signed.
"""

from __future__ import annotations

import hashlib
import json
import typing as t
from dataclasses import dataclass, replace

from .._errors import HallmarkError, VerificationError
from .._oci import reference as references
from .._oci.digest import is_digest
from .._oci.reference import Reference
from .._signing import dsse, payload, statement
from .._signing.signature import FORMATS, Format

if t.TYPE_CHECKING:
    from .._reason_codes import ReasonCode

MAX_MESSAGE = 256 * 1024
# They stand in the record of uses, whose lines have an end.
MAX_ANNOTATIONS = 4 * 1024
# The size of a digest tells which it is. cosign 3 takes the one that fits the curve of the key.
HASHES = {32: "sha256", 48: "sha384", 64: "sha512"}
_ADVICE = "Ask for the image that is meant: hallmark://IDENTITY/HOST/REPO@DIGEST, with the same annotations."


@dataclass(frozen=True)
class Claim:
    """One claim: this digest, in this format, with these annotations; in format sig under C(docker_reference)."""

    format: Format
    digest: str
    annotations: t.Mapping[str, str]
    docker_reference: str
    # Which of the spellings of a statement: our own, or another that some cosign 3 writes.
    spelling: int = 0

    @property
    def message(self) -> bytes:
        """The exact bytes that are signed."""
        if self.format == "sig":
            return payload.encode(payload.Payload(self.docker_reference, self.digest, self.annotations))
        return dsse.pae(_statements(self.digest, self.annotations)[self.spelling])

    def spellings(self) -> t.Iterator[Claim]:
        """Yield the same claim in each spelling that a cosign may want to have signed."""
        for number in range(len(_statements(self.digest, self.annotations)) if self.format == "bundle" else 1):
            yield replace(self, spelling=number)

    @property
    def sha256(self) -> str:
        """The SHA-256 of the message, hexadecimal."""
        return hashlib.sha256(self.message).hexdigest()


def make(
    *, format: str, digest: str, annotations: t.Mapping[str, str], docker_reference: str, sha256: str | None = None
) -> Claim:
    """Return a checked claim; C(sha256) is that of the bytes that the other side means, if it said so.

    Raises VerificationError: input_invalid, limit_exceeded, digest_mismatch when the bytes made here are others.
    """
    if format not in FORMATS or not is_digest(digest):
        raise refused("input_invalid", digest[:100], "it is no digest, or its format is none of sig and bundle")
    claim = Claim(format, digest, dict(annotations), docker_reference)
    _require_small(claim, digest)
    try:
        made = claim.sha256
    except ValueError as exc:
        raise refused("input_invalid", digest, "its name or its annotations are no text") from exc
    if sha256 is not None and sha256 != made:
        raise refused(
            "digest_mismatch", digest, f"the bytes made here have SHA-256 {made}, those that were meant {sha256[:64]}"
        )
    return claim


def rebuild(
    asked: Reference, *, message: bytes | None, digest: bytes | None, annotations: t.Mapping[str, str]
) -> Claim:
    """Return the claim about C(asked) that is to be signed, known by its bytes, or by their digest and annotations.

    Raises VerificationError: type_mismatch for anything but the signature of an image, digest_mismatch and
    reference_mismatch for another image than the one asked for, annotation_mismatch, limit_exceeded.
    """
    if message is None:
        of = t.cast(str, asked.digest)
        candidates = [Claim(format, of, annotations, asked.signed_name) for format in FORMATS]
    else:
        if digest is not None and digest != _hashed(message, digest):
            raise refused("digest_mismatch", str(asked), "the digest to be signed is not that of the bytes beside it")
        candidates = [_read(message, asked)]
        if annotations and candidates[0].annotations != annotations:
            found = dict(candidates[0].annotations)
            raise refused("annotation_mismatch", str(asked), f"its annotations are {found}"[:1000])
    for candidate in candidates:
        _require_small(candidate, str(asked))
        for claim in candidate.spellings():
            made = claim.message
            if made == message or (message is None and digest is not None and digest == _hashed(made, digest)):
                return claim
    raise refused(
        "type_mismatch", str(asked), "it is not what is signed for this image; a digest alone is never signed blindly"
    )


def _hashed(message: bytes, like: bytes) -> bytes | None:
    """Return the digest of a message of the same kind as another; None if that is none."""
    name = HASHES.get(len(like))
    return hashlib.new(name, message).digest() if name else None


def _read(message: bytes, asked: Reference) -> Claim:
    """Take the bytes of either format apart, as cosign 2 and 3 write them."""
    if len(message) > MAX_MESSAGE:
        raise refused("limit_exceeded", str(asked), f"{len(message)} bytes are more than any claim has")
    try:
        claim = _read_bundle(message, asked) if message.startswith(b"DSSEv1 ") else _read_sig(message, asked)
    except HallmarkError as exc:
        if exc.code in ("reference_mismatch", "digest_mismatch"):
            raise
        raise refused("type_mismatch", str(asked), f"it is no signature of an image: {exc.cause}") from exc
    if claim.digest != asked.digest:
        raise refused("digest_mismatch", str(asked), f"it is about {claim.digest}")
    return claim


def _read_sig(message: bytes, asked: Reference) -> Claim:
    found = payload.decode(message, where=str(asked))
    name, tag = references.split_tag(found.docker_reference)
    if tag is not None:
        references.require_tag(tag, whole=found.docker_reference)
    if name not in (asked.signed_name, asked.name):
        raise refused("reference_mismatch", str(asked), f"it names {found.docker_reference[:300]!r}")
    return Claim("sig", found.digest, found.annotations, found.docker_reference)


def _read_bundle(message: bytes, asked: Reference) -> Claim:
    content = message.partition(b"{")
    data = content[1] + content[2]
    subjects = statement.decode(data, where=str(asked))
    algorithm = t.cast(str, asked.digest).partition(":")[0]
    if len(subjects) != 1 or set(subjects[0].digests) != {algorithm}:
        raise refused("type_mismatch", str(asked), "it is not about exactly one digest")
    return Claim("bundle", f"{algorithm}:{subjects[0].digests[algorithm]}", subjects[0].annotations, asked.signed_name)


def _require_small(claim: Claim, where: str) -> None:
    size = len(json.dumps(dict(claim.annotations)))
    if size > MAX_ANNOTATIONS:
        raise refused("limit_exceeded", where, f"its annotations have {size} bytes, of at most {MAX_ANNOTATIONS}")


def _statements(digest: str, annotations: t.Mapping[str, str]) -> tuple[bytes, ...]:
    """Return the spellings of a statement, our own first.

    cosign 3 before 3.0.5 leaves the empty predicate out. Go's C(protojson), by which all of them write it, puts a space
    after each comma in half of all builds, on purpose; nothing else differs.
    """
    whole = json.loads(statement.encode(digest, annotations))
    bare = {name: value for name, value in whole.items() if name != "predicate"}
    return tuple(
        json.dumps(members, separators=(comma, ":"), ensure_ascii=False).encode("utf-8")
        for members in (whole, bare) for comma in (",", ", ")
    )


def refused(code: ReasonCode, where: str, cause: str, advice: str = _ADVICE) -> VerificationError:
    """Return the error for what is not signed."""
    return VerificationError(code=code, object=where, attempt="sign it", cause=cause, advice=advice)
