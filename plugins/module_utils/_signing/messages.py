# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The exact bytes that are signed for an image."""

from __future__ import annotations

import typing as t

from .._oci.reference import Image
from . import dsse, payload, statement
from .signature import Format


def of(
    image: Image, digest: str, *, formats: t.Sequence[Format], annotations: t.Mapping[str, str],
    docker_reference: str | None,
) -> dict[Format, bytes]:
    """Return them by format: a SimpleSigning payload, and the pre-authentication encoding of a statement."""
    claim = payload.Payload(docker_reference or image.signed_name, digest, annotations)
    found: dict[Format, bytes] = {
        "sig": payload.encode(claim), "bundle": dsse.pae(statement.encode(digest, annotations)),
    }
    return {format: found[format] for format in formats}
