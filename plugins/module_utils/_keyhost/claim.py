# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What somebody elsewhere wants to have signed, as the host with the key understands it.

The bytes are always made here, out of the claim. What came as bytes is taken apart, made again, and must be the same: so
nobody gets a signature over anything but the claim that an image of this digest is signed.
"""

from __future__ import annotations

import hashlib
import typing as t
from dataclasses import dataclass

from .._errors import HallmarkError, VerificationError
from .._oci import reference as references
from .._oci.digest import is_digest
from .._oci.reference import Reference
from .._signing import dsse, payload, statement
from .._signing.signature import FORMATS, Format

MAX_MESSAGE = 256 * 1024


@dataclass(frozen=True)
class Claim:
    """One claim: this digest, in this format, with these annotations; in format sig under C(docker_reference)."""

    format: Format
    digest: str
    annotations: t.Mapping[str, str]
    docker_reference: str

    @property
    def message(self) -> bytes:
        """The exact bytes that are signed."""
        if self.format == "sig":
            return payload.encode(payload.Payload(self.docker_reference, self.digest, self.annotations))
        return dsse.pae(statement.encode(self.digest, self.annotations))

    @property
    def sha256(self) -> str:
        """The SHA-256 of the message, hexadecimal."""
        return hashlib.sha256(self.message).hexdigest()


def make(
    *, format: str, digest: str, annotations: t.Mapping[str, str], docker_reference: str, sha256: str | None = None
) -> Claim:
    """Return a checked claim; C(sha256) is that of the bytes that the other side means, if it said so.

    Raises VerificationError: input_invalid, digest_mismatch when the bytes made here are others.
    """
    if format not in FORMATS or not is_digest(digest):
        raise refused("input_invalid", digest[:100], "it is no digest, or its format is none of sig and bundle")
    claim = Claim(format, digest, dict(annotations), docker_reference)
    if sha256 is not None and sha256 != claim.sha256:
        raise refused(
            "digest_mismatch", digest, f"the bytes made here have SHA-256 {claim.sha256}, those that were meant {sha256[:64]}"
        )
    return claim


def rebuild(
    asked: Reference, *, message: bytes | None, sha256: bytes | None, annotations: t.Mapping[str, str]
) -> Claim:
    """Return the claim about C(asked) that cosign wants signed, known by its bytes, or by their SHA-256 and the annotations.

    Raises VerificationError: type_mismatch for anything but the signature of an image, digest_mismatch and
    reference_mismatch for another image than the one asked for, annotation_mismatch.
    """
    digest = t.cast(str, asked.digest)
    if message is not None:
        if sha256 not in (None, hashlib.sha256(message).digest()):
            raise refused("digest_mismatch", str(asked), "the digest to be signed is not that of the bytes that came with it")
        candidates = [_read(message, asked)]
    else:
        candidates = [Claim(format, digest, annotations, asked.signed_name) for format in FORMATS]
    for claim in candidates:
        wanted = claim.message == message if message is not None else hashlib.sha256(claim.message).digest() == sha256
        if wanted:
            return claim
    raise refused(
        "type_mismatch", str(asked), "it is not what is signed for this image; a digest alone is never signed blindly"
    )


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
    name = references.split_tag(found.docker_reference)[0]
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


def refused(code: t.Any, where: str, cause: str) -> VerificationError:
    """Return the error for what is not signed."""
    return VerificationError(
        code=code, object=where, attempt="sign it", cause=cause,
        advice="Ask for the image that is meant: hallmark://IDENTITY/HOST/REPO@DIGEST, with the same annotations.",
    )
