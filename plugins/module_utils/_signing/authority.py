# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a verifier accepts: authorities, how many of them, and what else it demands."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from .._errors import VerificationError
from .._keys import algorithms
from .._keys.pem import PublicKey
from .signature import FORMATS, Format

if t.TYPE_CHECKING:
    # Loaded by tasks that ask for it: Ansible compiles what is imported for every task.
    from .certified import Issuer
    from .evidence import Evidence

ReferenceCheck = t.Literal["warn", "ignore", "repository"]


@dataclass(frozen=True)
class Authority:
    """One thing that may sign, under a name: a public key, or whoever an issuer of certificates vouches for.

    Several keys that are generations of one identity have one name, and count once.
    C(signature_algorithm) is the one scheme its signatures must be in; None means those that cosign uses for its key.
    """

    name: str
    public: PublicKey | None = None
    issuer: Issuer | None = None
    signature_algorithm: str | None = None
    is_generation: bool = False

    @property
    def schemes(self) -> tuple[str, ...] | None:
        """The schemes that count, or None for the usual ones."""
        return (self.signature_algorithm,) if self.signature_algorithm else None


@dataclass(frozen=True)
class Demand:
    """All that one verification asks for. Made by C(demand()), which refuses what could be vacuously true."""

    authorities: tuple[Authority, ...]
    threshold: int = 1
    formats: tuple[Format, ...] = FORMATS
    annotations: t.Mapping[str, str] = field(default_factory=dict)
    denied_key_ids: frozenset[str] = frozenset()
    docker_reference_check: ReferenceCheck = "warn"
    recursive: bool = False
    evidence: Evidence | None = None

    def is_denied(self, authority: Authority) -> bool:
        """Say whether signatures by the key of this authority never count."""
        return authority.public is not None and authority.public.key_id in self.denied_key_ids

    @property
    def denied_authorities(self) -> tuple[Authority, ...]:
        """The authorities that are named in trust and denied all the same: the denial wins."""
        return tuple(authority for authority in self.authorities if self.is_denied(authority))

    @property
    def is_satisfiable(self) -> bool:
        """Whether enough authorities remain after the denials."""
        return len({one.name for one in self.authorities if not self.is_denied(one)}) >= self.threshold


def demand(
    authorities: t.Sequence[Authority],
    *,
    threshold: int = 1,
    formats: t.Sequence[Format] = FORMATS,
    annotations: t.Mapping[str, str] | None = None,
    denied_key_ids: t.Collection[str] = (),
    docker_reference_check: ReferenceCheck = "warn",
    recursive: bool = False,
    evidence: Evidence | None = None,
) -> Demand:
    """Return a checked demand.

    Raises VerificationError (input_invalid): no authority, two of one name, one key under two names (it would
    count twice), a threshold below 1 or above the number of authorities, no format; and KeyFileError
    (unsupported_algorithm).
    """
    names = {authority.name for authority in authorities}
    single = [authority.name for authority in authorities if not authority.is_generation]
    single += {authority.name for authority in authorities if authority.is_generation}
    keys = [authority.public.key_id for authority in authorities if authority.public]
    if not authorities:
        raise _invalid("trust", "it names no authority", "Name at least one public key.")
    count = len(names)
    if len(set(single)) != len(single) or len(set(keys)) != len(keys):
        raise _invalid("trust", "a name or a key occurs twice", "Give each key once, under a name of its own.")
    if not 1 <= threshold <= count:
        raise _invalid(
            "threshold", f"{threshold} is not between 1 and the number of authorities, {count}",
            "Lower it, or name more authorities.",
        )
    if not formats:
        raise _invalid("formats", "it is empty", "Name sig, bundle or both.")
    for authority in authorities:
        if authority.public and authority.signature_algorithm:
            algorithms.scheme_for(
                authority.public.algorithm, authority.signature_algorithm, where=f"authority {authority.name}"
            )
    return Demand(
        authorities=tuple(authorities),
        threshold=threshold,
        formats=tuple(dict.fromkeys(formats)),
        annotations=dict(annotations or {}),
        denied_key_ids=frozenset(denied_key_ids),
        docker_reference_check=docker_reference_check,
        recursive=recursive,
        evidence=evidence,
    )


def _invalid(where: str, cause: str, advice: str) -> VerificationError:
    return VerificationError(
        code="input_invalid", object=where, attempt="verify anything", cause=cause, advice=advice
    )
