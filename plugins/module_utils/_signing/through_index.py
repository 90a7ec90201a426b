# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Verifying the image of one platform by the signature of the index that lists it.

What runs is a child, by its digest; what was signed is often only the index. The child counts if the index is
verified and the very bytes that were verified list it.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from .._errors import HallmarkError, Reason, VerificationError
from .._oci import reference as references
from .._oci.content import descendants
from .._oci.reference import Image
from .authority import Demand
from .verify import Verification, verify_image

if t.TYPE_CHECKING:
    from .._oci.store import Store


@dataclass(frozen=True)
class VerifiedIndex:
    """The verdict on an index, and the digests that its verified bytes lead to, its own included."""

    verdict: Verification
    digests: frozenset[str]


def verify_index(store: Store[Image], index: str, demand: Demand) -> VerifiedIndex:
    """Verify an index once for all its children. Never raises for one that fails: the verdict carries the reasons."""
    verdict = verify_image(store, index, demand)
    if not verdict.verified:
        return VerifiedIndex(verdict, frozenset())
    at = references.parse_image(t.cast(str, verdict.reference))
    try:
        manifest = store.manifest(at)
        below = descendants(store, at, manifest)
    except HallmarkError as exc:
        return VerifiedIndex(_failed(index, at, exc.as_reason()), frozenset())
    return VerifiedIndex(verdict, frozenset({manifest.digest, *(child.digest for child in below)}))


def verify_child(store: Store[Image], image: str, index: VerifiedIndex) -> Verification:
    """Verify one image as a child of a verified index; signatures and authorities are those of the index."""
    resolved: Image | None = None
    try:
        asked = references.parse_image(image)
        resolved = asked.at(asked.digest or store.manifest(asked).digest)
        if index.verdict.verified and resolved.digest not in index.digests:
            raise VerificationError(
                code="not_in_index", object=str(resolved), attempt="verify it through its index",
                cause=f"the index {index.verdict.reference} does not list it",
                advice="Name the index that it belongs to, or sign it by itself.",
            )
    except HallmarkError as exc:
        return _failed(image, resolved, exc.as_reason())
    verdict = index.verdict
    return Verification(
        image, str(resolved), resolved.digest, verdict.verified, verdict.signatures, verdict.authorities,
        verdict.reasons, verdict.warnings,
    )


def _failed(image: str, resolved: Image | None, reason: Reason) -> Verification:
    return Verification(
        image, str(resolved) if resolved else None, resolved.digest if resolved else None, False, reasons=(reason,)
    )
