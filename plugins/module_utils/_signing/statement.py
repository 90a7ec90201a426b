# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The in-toto statement that a bundle signature is over.

Source: in-toto attestation specification, Statement v1; the predicate type is cosign 3's for image signatures.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass

from .. import _strict_json
from .._errors import HallmarkError, VerificationError

TYPE = "https://in-toto.io/Statement/v1"
_READ_TYPES = (TYPE, "https://in-toto.io/Statement/v0.1")
PREDICATE_TYPE = "https://sigstore.dev/cosign/sign/v1"
MAX_SUBJECTS = 1024
_HEX = re.compile(r"[0-9a-f]+")


@dataclass(frozen=True)
class Subject:
    """One subject: its digests by algorithm, in lower-case hexadecimal, and its annotations."""

    digests: t.Mapping[str, str]
    annotations: t.Mapping[str, str]

    def is_of(self, digest: str) -> bool:
        """Say whether the subject names the digest C(algorithm:hex)."""
        algorithm, _colon, value = digest.partition(":")
        return self.digests.get(algorithm) == value


def encode(digest: str, annotations: t.Mapping[str, str]) -> bytes:
    """Return the statement that cosign 3 signs for an image; it carries no repository name."""
    algorithm, _colon, value = digest.partition(":")
    return _strict_json.dumps({
        "_type": TYPE,
        "subject": [{"digest": {algorithm: value}, "annotations": dict(sorted(annotations.items()))}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {},
    }, escape_html=False)


def decode(data: bytes, *, where: str) -> tuple[Subject, ...]:
    """Parse a statement whose signature was verified, and return its subjects.

    Raises FormatError (malformed) and VerificationError (type_mismatch): an attestation is no image signature.
    """
    top = _strict_json.loads(data, what="statement", where=where)
    top.only("_type", "subject", "predicateType", "predicate")
    if top.string("_type") not in _READ_TYPES:
        raise _type_mismatch(where, f"its type is {top.string('_type')[:100]!r}, not {TYPE!r}")
    if top.string("predicateType", "") != PREDICATE_TYPE:
        raise _type_mismatch(where, f"its predicate type is {top.string('predicateType', '')[:100]!r}")
    top.object("predicate", None)
    subjects = top.objects("subject")
    if not 0 < len(subjects) <= MAX_SUBJECTS:
        raise top.error(f"it has {len(subjects)} subjects")
    return tuple(_subject(subject) for subject in subjects)


def is_image_signature(data: bytes) -> bool:
    """Say whether C(data) claims to be a statement that an image is signed, and not another attestation."""
    try:
        decode(data, where="statement")
    except HallmarkError:
        return False
    return True


def _subject(source: _strict_json.JsonObject) -> Subject:
    source.only("name", "digest", "annotations", "uri", "content", "downloadLocation", "mediaType")
    digests = source.strings("digest")
    if not all(_HEX.fullmatch(value) for value in digests.values()):
        raise source.error("a digest is not lower-case hexadecimal")
    return Subject(digests, source.strings("annotations"))


def _type_mismatch(where: str, cause: str) -> VerificationError:
    return VerificationError(
        code="type_mismatch", object=where, attempt="accept the statement", cause=cause,
        advice=f"Only the predicate type {PREDICATE_TYPE} says that an image is signed.",
    )
