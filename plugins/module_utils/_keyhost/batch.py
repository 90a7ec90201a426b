# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Signing many claims at once, on the host with the key: all of them are checked before the first is signed."""

from __future__ import annotations

import datetime
import os
import typing as t
from dataclasses import dataclass, field

from .. import _base64
from .._custody import export_record, journal
from .._keys.signers.protocol import Signer
from .._moments import text_of
from .._oci import pattern
from .._oci import reference as references
from . import claim as claims
from . import limits
from .claim import Claim


@dataclass(frozen=True)
class Wanted:
    """One claim as it was asked for; C(sha256) is that of the bytes that are meant, or None."""

    digest: str
    format: str
    repository: str = ""
    docker_reference: str = ""
    annotations: t.Mapping[str, str] = field(default_factory=dict)
    sha256: str | None = None


def check(wanted: t.Sequence[Wanted], repositories: t.Sequence[str] | None) -> list[tuple[str, Claim]]:
    """Return the claims with their repositories, if the key may sign all of them.

    Raises VerificationError: input_invalid, digest_mismatch, reference_mismatch, limit_exceeded; FormatError for a
    pattern or a name that is none.
    """
    caller = None
    if repositories is not None:
        caller = limits.Caller("this task", tuple(map(pattern.parse, repositories)), limits.MAX_PER_HOUR)
    return [(one.repository, _checked(one, caller)) for one in wanted]


def sign(
    wanted: t.Sequence[tuple[str, Claim]], signer: Signer, *, scheme: str | None, record_path: str | None, dry_run: bool
) -> list[dict[str, t.Any]]:
    """Record and sign claims; return the shape that C(payload_signature) documents.

    Raises KeyFileError and LibraryError of the signer, CustodyError of the record.
    """
    signer.prepare([claim.message for _repository, claim in wanted])
    made: list[dict[str, t.Any]] = []
    for repository, claim in wanted:
        signature = None if dry_run else _sign(repository, claim, signer, scheme, record_path or default_record())
        made.append({
            "digest": claim.digest, "format": claim.format, "sha256": claim.sha256,
            "signature": None if signature is None else _base64.encode(signature),
            "key_id": signer.public.key_id, "public_key": signer.public.pem,
        })
    return made


def _checked(wanted: Wanted, caller: limits.Caller | None) -> Claim:
    # What has no name, as in a layout, is in no repository.
    names = [references.parse_name(wanted.repository).name if wanted.repository else ""]
    if wanted.format == "sig":
        names.append(references.parse(wanted.docker_reference).name if wanted.docker_reference else "")
    if caller is not None:
        for name in names:
            limits.require_allowed(caller, name)
    return claims.make(
        format=wanted.format, digest=wanted.digest, annotations=wanted.annotations,
        docker_reference=wanted.docker_reference, sha256=wanted.sha256,
    )


def default_record() -> str:
    """Return where uses of keys are recorded, beside the record of exports."""
    return os.path.join(os.path.dirname(export_record.default_path()), "uses.jsonl")


def _sign(repository: str, claim: Claim, signer: Signer, scheme: str | None, record_path: str) -> bytes:
    journal.append(record_path, {
        "time": text_of(datetime.datetime.now(datetime.timezone.utc)), "event": "signed",
        "caller": f"uid {os.geteuid()}", "reference": f"{repository}@{claim.digest}", "format": claim.format,
        "docker_reference": claim.docker_reference if claim.format == "sig" else None,
        "annotations": dict(claim.annotations), "sha256": claim.sha256, "key_id": signer.public.key_id,
    }, mode=0o600)
    algorithm = signer.public.algorithm
    # As image_signature: what most readers of the format try.
    usual = "ecdsa-sha256" if claim.format == "sig" and algorithm.family == "ec" else algorithm.schemes[0]
    return signer.sign(claim.message, scheme=scheme or usual)
