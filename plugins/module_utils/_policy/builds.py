# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Builds of podman, skopeo and buildah that verify nothing, such as Debian 12's.

There, verification of these signatures is compiled out, and every image that is to be signed is rejected. The version
does not tell, the text of the error in the program does.
"""

from __future__ import annotations

import mmap
import os
import shutil

from .check import Refusal, refusal

PROGRAMS = ("podman", "skopeo", "buildah", "crio")
# Where the programs of this host look for a policy, for all users and for one.
_LIVE = ("/etc/containers", "~/.config/containers")
_DISABLED = b"Debian-local change: sigstore disabled"


def refusals(dest: str) -> tuple[Refusal, ...]:
    """Return a refusal for each program of this host that could not verify what a policy in C(dest) demands.

    Files that are rendered into another folder are for other hosts.
    """
    if os.path.realpath(dest) not in {os.path.realpath(os.path.expanduser(one)) for one in _LIVE}:
        return ()
    found = (shutil.which(name) for name in PROGRAMS)
    return tuple(refusal("build_unsupported", "", program=path) for path in found if path and _is_disabled(path))


def _is_disabled(path: str) -> bool:
    try:
        with open(path, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return data.find(_DISABLED) >= 0
    except (OSError, ValueError):
        # It cannot be read, or is empty: nothing is known about it.
        return False
