# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a folder lies: on a memory file system, on a disk of this host, or on other machines; and where memory may be
swapped.

Source: proc(5), C(/proc/self/mountinfo) and C(/proc/swaps).
"""

from __future__ import annotations

import os
import re
import typing as t
from dataclasses import dataclass

from .._errors import CustodyError

_MOUNTS = "/proc/self/mountinfo"
_SWAPS = "/proc/swaps"
_MEMORY = frozenset(["tmpfs", "ramfs"])
# What is written there leaves the host, or is kept by somebody else.
_NETWORK = frozenset([
    "9p", "acfs", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "gfs", "gfs2", "glusterfs", "gpfs", "kafs",
    "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "panfs", "prl_fs", "pvfs2", "smb3", "smbfs", "vboxsf",
    "virtiofs", "vmhgfs",
])
# A program keeps it, which may send it anywhere. Only containers without root lie on one that does not.
_LOCAL_FUSE = frozenset(["fuse.fuse-overlayfs"])
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class Mount:
    """The mount that a path is on: where, of which type, and from which source."""

    point: str
    type: str
    source: str

    @property
    def is_memory(self) -> bool:
        """Whether what is written there ends with the next boot."""
        return self.type in _MEMORY

    @property
    def is_network(self) -> bool:
        """Whether what is written there goes to other machines, or to a program that may send it there."""
        is_fuse = self.type.partition(".")[0] == "fuse"
        return self.type in _NETWORK or (is_fuse and self.type not in _LOCAL_FUSE)


def mount_of(path: str, *, mounts: str = _MOUNTS) -> Mount | None:
    """Return the mount that C(path), or its nearest existing ancestor, is on; None where that cannot be told."""
    try:
        with open(mounts, encoding="utf-8", errors="surrogateescape") as stream:
            found = [_mount(line.split()) for line in stream]
    except (OSError, ValueError):
        return None
    here = os.path.realpath(path)
    above = [mount for mount in found if here == mount.point or here.startswith(mount.point.rstrip("/") + "/")]
    # Of several mounts on one point, the last one is seen.
    return max(enumerate(above), key=lambda item: (len(item[1].point), item[0]))[1] if above else None


def require_local(path: str, *, mounts: str = _MOUNTS) -> None:
    """Refuse a folder on a network file system for a private file. Raises CustodyError (destination_unsafe)."""
    mount = mount_of(path, mounts=mounts)
    if mount is not None and mount.is_network:
        raise CustodyError(
            code="destination_unsafe", object=path, attempt="keep a private file here",
            cause=f"{mount.point} is kept by another machine, or by a program that may send it there ({mount.type})",
            advice="Choose a place on this host, such as /run.",
        )


def clear_swaps(*, swaps: str = _SWAPS, devices: str = "/sys/class/block") -> list[str]:
    """Return the swap areas that are neither in memory nor encrypted as a whole by dm-crypt."""
    try:
        with open(swaps, encoding="utf-8", errors="surrogateescape") as stream:
            areas = [_unescape(line.split()[0]) for line in list(stream)[1:] if line.strip()]
    except OSError:
        return []
    return [area for area in areas if not _is_kept(os.path.realpath(area), devices)]


def _is_kept(device: str, devices: str) -> bool:
    name = os.path.basename(device)
    if not device.startswith("/dev/"):
        return False
    if re.fullmatch(r"zram[0-9]+", name):
        # Compressed memory, unless it was given a disk to write to.
        return _first_line(os.path.join(devices, name, "backing_dev")) in ("", "none")
    return _first_line(os.path.join(devices, name, "dm", "uuid")).startswith("CRYPT-")


def _first_line(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.readline().strip()
    except OSError:
        return ""


def _mount(fields: t.Sequence[str]) -> Mount:
    # 36 35 98:0 /root /point options [optional]... - type source superoptions
    after = fields[fields.index("-") + 1:]
    return Mount(_unescape(fields[4]), after[0], _unescape(after[1]))


def _unescape(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)
