# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Re-signing the live set: each image that would be orphaned gets a signature by a key that stays, if it is proven.

Nothing is kept of how far a run came: what is signed is in the registry, so a run that was killed is simply begun anew.
"""

from __future__ import annotations

import time
import typing as t
from dataclasses import dataclass, field, replace

from .._errors import HallmarkError, Reason
from .._oci.concurrency import map_ordered
from .._oci.reference import Image, Reference
from . import coverage
from .coverage import Coverage, Terms

if t.TYPE_CHECKING:
    from .._oci.store import Store
    from .._signing.sign import Outcome, Wish
    from .coverage_cache import CoverageCache

# The images of one batch share the wait for what other hosts may write, and what is covered then is taken down.
BATCH = 1000


@dataclass(frozen=True)
class Plan:
    """How images are worked on: by which terms, and signed by whom, if by anybody."""

    terms: Terms
    wish: Wish | None = None
    dry_run: bool = False
    workers: int = 16


@dataclass(frozen=True)
class Done:
    """What became of one image, or in a dry run would; C(changed) also where it is not covered all the same."""

    image: Reference
    is_covered: bool
    changed: bool = False
    reasons: tuple[Reason, ...] = ()
    warnings: tuple[Reason, ...] = ()


@dataclass(frozen=True)
class _Signed:
    """An image that was signed in this batch, and is to be read once more."""

    found: Coverage
    outcome: Outcome = field(repr=False)


def resign(
    store: Store[Image], images: t.Sequence[Reference], plan: Plan, *, cache: CoverageCache | None = None
) -> t.Iterator[Done]:
    """Yield what became of each image, in their order; those that are known to be covered cost no request.

    Never raises for an image that fails. Raises CustodyError for a cache that cannot be written.
    """
    for first in range(0, len(images), BATCH):
        batch = images[first:first + BATCH]
        known = frozenset(image for image in batch if cache is not None and cache.is_fresh(image))
        at = time.time()
        done = _work(store, [image for image in batch if image not in known], plan)
        found = {one.image: one for one in done}
        yield from (found.get(image) or Done(image, True) for image in batch)
        # Only now: what was signed is told even if this cannot be written.
        if cache is not None and not plan.dry_run:
            cache.add([one.image for one in done if one.is_covered], at=at)


def _work(store: Store[Image], images: t.Sequence[Reference], plan: Plan) -> list[Done]:
    begun = map_ordered(lambda image: _begin(store, image, plan), images, workers=plan.workers)
    # Only now: all images of the batch share the waiting.
    return map_ordered(
        lambda one: _end(store, one, plan) if isinstance(one, _Signed) else one, begun, workers=plan.workers
    )


def _begin(store: Store[Image], image: Reference, plan: Plan) -> Done | _Signed:
    """Look at an image, and sign what is lacking, if it is proven; the proof is of this moment."""
    once = coverage.Once(store)
    found = coverage.look(once, image, plan.terms, proves=plan.wish is not None)
    if found.is_covered:
        return Done(image, True, warnings=found.warnings)
    if plan.wish is None or not found.is_proven:
        return Done(image, False, reasons=found.reasons, warnings=found.warnings)
    if plan.dry_run:
        return Done(image, True, changed=True, warnings=found.warnings)
    # Loaded where something is signed: Ansible compiles what is imported for every task.
    from .._signing import sign

    wish = replace(plan.wish, formats=found.formats, recursive=plan.terms.recursive)
    # What has a digest is the same still.
    return _Signed(found, sign.sign_image(once.forget_names(), str(image), wish))


def _end(store: Store[Image], signed: _Signed, plan: Plan) -> Done:
    """Believe in what was written when, after the wait, it verifies by the key that signed, on whichever host."""
    from .._oci import shared_tag
    from .._signing import sign

    found, outcome, wish = signed.found, signed.outcome, t.cast("Wish", plan.wish)
    reasons, warnings = outcome.reasons, (*found.warnings, *outcome.warnings)
    if reasons:
        # What was written before it failed shall stay.
        sign.settle(store, outcome)
    else:
        (signer,) = wish.signers
        by_signer = [one for one in plan.terms.staying if one.public and one.public.key_id == signer.public.key_id]
        try:
            demands = {format: plan.terms.demand(by_signer, [format]) for format in found.formats}
            shared_tag.wait(store, outcome.written)
            now = coverage.confirm(store, _written(signed), demands)
            if not now.is_covered:
                # Others took something away: it is put back, and has to stay, as for everybody who signs.
                reasons = sign.settle(store, outcome).reasons
                now = now if reasons else coverage.confirm(store, _written(signed), demands)
            if now.is_covered:
                return Done(found.image, True, outcome.changed, warnings=warnings)
            reasons = reasons or now.reasons
        except HallmarkError as exc:
            reasons = (exc.as_reason(),)
    return Done(found.image, False, outcome.changed, reasons, warnings)


def _written(signed: _Signed) -> Coverage:
    """Return what was lacking, and what was signed though it was not: the formats are the same for a whole index."""
    wanted = {subject: dict.fromkeys(formats) for subject, formats in signed.found.lacking.items()}
    for one in signed.outcome.signatures:
        if one.created:
            wanted.setdefault(one.subject, {})[one.format] = None
    return replace(signed.found, lacking={subject: tuple(formats) for subject, formats in wanted.items()})
