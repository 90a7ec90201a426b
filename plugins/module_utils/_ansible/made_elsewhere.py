# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options that bring signatures which were made elsewhere, turned into a signer. Loaded only by tasks with some."""

from __future__ import annotations

import typing as t

from .._keys.signers import external, returned
from .._keys.signers.protocol import Signer


def load(options: t.Mapping[str, t.Any], *, scheme: str | None, dry_run: bool) -> Signer:
    """Return the signer of C(signatures) or C(external). Raises KeyFileError as its kind does."""
    if options["signatures"] is not None:
        return returned.load(options["signatures"], key_id=options["key_id"], scheme=scheme, dry_run=dry_run)
    return external.load(
        [external.Files(**entry) for entry in options["external"]], certificate_path=options["certificate_path"],
        key_id=options["key_id"], scheme=scheme,
    )
