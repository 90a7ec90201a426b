# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What both kinds of policies of Kyverno share."""

from __future__ import annotations

from . import rendering
from .model import Keyless


def identity_of(keyless: Keyless) -> dict[str, str]:
    """Return issuer and subject as expressions for whole texts: plain ones are wildcards in one kind of policy."""
    return {
        "issuerRegExp": rendering.expression(keyless.issuer, keyless.issuer_regexp),
        "subjectRegExp": rendering.expression(keyless.subject, keyless.subject_regexp),
    }
