# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The keys of an identity as verifiers take them out of the ledger."""

from __future__ import annotations

import datetime

from .._errors import TrustError
from .._keys import pem
from .._keys.pem import PublicKey
from . import ledger


def keys(path: str, *, identity: str, head: str | None) -> tuple[PublicKey, ...]:
    """Return the keys of the generations that are published, active or retiring.

    C(head), SEQUENCE:HASH or HASH, must be one of its entries: an older ledger, or another one, is not believed in.
    Raises TrustError: ledger_mismatch, key_denied for an identity without a usable generation; CustodyError.
    """
    found = ledger.read(path, now=datetime.datetime.now(datetime.timezone.utc))
    if head is not None:
        found.expect_witnesses({"the verifier": head})
    usable = found.keyring.usable(identity)
    if not usable:
        raise TrustError(
            code="key_denied" if found.keyring.of(identity) else "not_found", object=identity,
            attempt=f"trust it by the ledger {path}", cause="no generation of it is published, active or retiring",
            advice="Nothing was verified. Name another identity, or publish a generation of this one.",
        )
    return tuple(pem.read_public_key(one.public_key.encode(), where=one.name) for one in usable)
