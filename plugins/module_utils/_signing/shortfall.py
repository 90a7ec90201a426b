# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Why a demand as a whole was not met."""

from __future__ import annotations

import typing as t

from .._errors import Reason, VerificationError
from .._oci.reference import Image
from .authority import Demand

if t.TYPE_CHECKING:
    from .._keys.pem import PublicKey
    from .._oci.store import Store
    from .._reason_codes import ReasonCode


def shortfall(
    store: Store[Image], image: Image, digest: str, demand: Demand, *, found: int, reasons: t.Sequence[Reason]
) -> list[Reason]:
    """Say why the demand as a whole was not met, beside the reasons of the single candidates."""
    where = f"{image.name}@{digest}"
    added: list[VerificationError] = []
    if not found and not reasons:
        # Only now is it worth a request to tell an unsigned image from one that is not there.
        if store.find_manifest(image.at(digest)) is None:
            return [_unmet("not_found", where, "the registry has no such image", "Check the reference.").as_reason()]
        wanted = " or ".join(demand.formats)
        added.append(_unmet(
            "no_signatures", where, f"no signature of format {wanted} was found", "Sign it, or do not use it."
        ))
    for authority in demand.denied_authorities if not demand.is_satisfiable else ():
        denied = t.cast("PublicKey", authority.public).key_id
        added.append(_unmet(
            "key_denied", where, f"the key {denied} of authority {authority.name} is denied",
            "Sign it with a key that is not, and trust that one.",
        ))
    if found or demand.threshold > 1 or (added and not demand.is_satisfiable):
        added.append(_unmet(
            "threshold_not_met", where, f"{found} of {demand.threshold} authorities signed it",
            "Have the others sign it, too.",
        ))
    return [error.as_reason() for error in added]


def _unmet(code: ReasonCode, where: str, cause: str, advice: str) -> VerificationError:
    return VerificationError(code=code, object=where, attempt="verify the image", cause=cause, advice=advice)
