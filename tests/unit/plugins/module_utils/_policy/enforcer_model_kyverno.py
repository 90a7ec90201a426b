# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the two kinds of Kyverno policies share: how a pod may name the image, and wildcards."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._policy.enforcer_model_common import (
    Image,
    normalized,
    spellings,
)

POSITIONS = ("containers", "initContainers", "ephemeralContainers")


@dataclass(frozen=True)
class Use:
    """One way in which a pod asks for the image: ``raw`` stands in the pod, ``name`` has the default registry."""

    name: str
    raw: str
    position: str
    namespace: str


def uses(image: Image) -> list[Use]:
    hub = normalized(image.repository).startswith("docker.io/")
    result = []
    for spelling in spellings(image.repository):
        name = f"docker.io/{spelling}" if hub and not spelling.startswith("docker.io/") else spelling
        for asked, written in _suffixes(image):
            result += [Use(name + asked, spelling + written, each, image.namespace) for each in POSITIONS]
    return result


def _suffixes(image: Image) -> list[tuple[str, str]]:
    """The compared name loses the tag when there is a digest; a tag may have got its digest in between."""
    digest = f"@{image.digest}"
    if image.tag is None:
        return [(digest, digest)]
    tag = f":{image.tag}"
    return [(tag, tag), (tag, tag + digest), (digest, tag + digest), (digest, digest)]


def wildcard(pattern: str, value: str, *, optional: bool = False) -> bool:
    """``*`` is anything, also over ``/``; ``?`` is one character, or with ``optional`` perhaps none."""
    parts = {"*": ".*", "?": ".?" if optional else "."}
    return re.fullmatch("".join(parts.get(each, re.escape(each)) for each in pattern), value, re.DOTALL) is not None
