# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Mirrors of a registry: C(HOST[:PORT][/PREFIX]), below which its repositories are found."""

from __future__ import annotations

import dataclasses

from . import reference as references
from .reference import Reference


def require_mirror(mirror: str) -> None:
    """Refuse what is no mirror: it would be passed over in silence, like one that fails. Raises FormatError."""
    if references.parse_name(f"{mirror.rstrip('/')}/image").host != mirror.partition("/")[0]:
        raise references.malformed(mirror, "it is no HOST[:PORT][/PREFIX] of a registry")


def mirrored(image: Reference, mirror: str) -> Reference:
    """Return where a mirror has an image."""
    host, slash, prefix = mirror.rstrip("/").partition("/")
    return dataclasses.replace(image, host=host, repository=f"{prefix}{slash}{image.repository}")
