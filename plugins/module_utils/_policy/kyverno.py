# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What both kinds of policies of Kyverno share."""

from __future__ import annotations

from .._oci.reference import HUB
from . import rendering
from .model import Keyless
from .pattern import Pattern


def names_of(pattern: Pattern) -> tuple[str, ...]:
    """Return HOST/PATH, or HOST alone, of a pattern that is none of a domain, however Kyverno may call it.

    Names of Docker Hub get a host there, and not the namespace of its own images.
    """
    short = pattern.path.removeprefix("library").removeprefix("/") if pattern.host == HUB else pattern.path
    return tuple(f"{pattern.host}/{path}" if path else pattern.host for path in dict.fromkeys((pattern.path, short)))


def identity_of(keyless: Keyless) -> dict[str, str]:
    """Return issuer and subject as expressions for whole texts: plain ones are wildcards in one kind of policy."""
    return {
        "issuerRegExp": rendering.expression(keyless.issuer, keyless.issuer_regexp),
        "subjectRegExp": rendering.expression(keyless.subject, keyless.subject_regexp),
    }
