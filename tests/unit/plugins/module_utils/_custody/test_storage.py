# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a folder lies, and whether what is in memory may be written to a disk in the clear."""

from __future__ import annotations

import pathlib

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._custody import storage
from ansible_collections.hallmark.signing.plugins.module_utils._custody.storage import Mount
from ansible_collections.hallmark.signing.plugins.module_utils._errors import CustodyError

NETWORK = [
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "beegfs", "ceph", "glusterfs", "gfs2", "lustre", "ocfs2",
    "virtiofs",
    "vboxsf", "davfs", "gpfs", "fuse", "fuse.sshfs", "fuse.s3fs", "fuse.glusterfs", "fuse.rclone", "fuse.anything-new",
]
LOCAL = [
    "ext4", "xfs", "btrfs", "zfs", "overlay", "tmpfs", "ramfs", "fuseblk", "fuse.fuse-overlayfs", "vfat", "f2fs",
    "nfsd", "fusectl"
]


def line(point: str, kind: str, source: str = "source", more: str = "") -> str:
    return f"36 35 98:0 / {point} rw,noatime {more}- {kind} {source} rw\n"


@pytest.fixture
def mounts(tmp_path: pathlib.Path) -> pathlib.Path:
    """A table of mounts."""
    path = tmp_path / "mountinfo"
    path.write_text("".join([
        line("/", "ext4", "/dev/sda1", "master:1 shared:2 "), line("/proc", "proc"), line("/run", "tmpfs"),
        line("/srv", "nfs4", "server:/exports"), line("/srv/local", "xfs"), line("/srvice", "fuse.sshfs"),
        line("/mnt/with\\040blank\\134", "cifs", "//server/with\\040blank"), line("/twice", "ext4"),
        line("/twice", "nfs"),
    ]))
    return path


@pytest.mark.parametrize(("path", "found"), [
    ("/", Mount("/", "ext4", "/dev/sda1")), ("/nowhere/at/all", Mount("/", "ext4", "/dev/sda1")),
    ("/run", Mount("/run", "tmpfs", "source")),
    ("/run/x", Mount("/run", "tmpfs", "source")), ("/runner", Mount("/", "ext4", "/dev/sda1")),
    ("/srv/x", Mount("/srv", "nfs4", "server:/exports")), ("/srv/local/x", Mount("/srv/local", "xfs", "source")),
    ("/srv/localize", Mount("/srv", "nfs4", "server:/exports")),
    ("/srvice/x", Mount("/srvice", "fuse.sshfs", "source")),
    ("/mnt/with blank\\/x", Mount("/mnt/with blank\\", "cifs", "//server/with blank")),
    ("/twice/x", Mount("/twice", "nfs", "source")),
])
def test_nearest_mount_is_found(path: str, found: Mount, mounts: pathlib.Path) -> None:
    assert storage.mount_of(path, mounts=str(mounts)) == found


def test_links_are_followed_to_where_the_file_lies(mounts: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "link").symlink_to("/srv")
    found = storage.mount_of(str(tmp_path / "link" / "x"), mounts=str(mounts))
    assert found is not None
    assert found.type == "nfs4"


@pytest.mark.parametrize("text", ["", "36 35 98:0 / /x rw no separator\n", "nonsense\n"])
def test_table_that_tells_nothing_tells_nothing(text: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "mountinfo").write_text(text)
    assert storage.mount_of("/x", mounts=str(tmp_path / "mountinfo")) is None
    assert storage.mount_of("/x", mounts=str(tmp_path / "missing")) is None
    storage.require_local("/x", mounts=str(tmp_path / "missing"))


def test_this_host_has_a_table() -> None:
    found = storage.mount_of("/proc")
    assert found is not None
    assert (found.point, found.type) == ("/proc", "proc")


@pytest.mark.parametrize("kind", NETWORK)
def test_network_file_system_is_refused(kind: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "mountinfo").write_text(line("/", "ext4") + line("/mnt", kind))
    with pytest.raises(CustodyError) as caught:
        storage.require_local("/mnt/deeper/folder", mounts=str(tmp_path / "mountinfo"))
    assert (caught.value.code, caught.value.object) == ("destination_unsafe", "/mnt/deeper/folder")
    assert f"/mnt is kept by another machine, or by a program that may send it there ({kind})" in caught.value.cause
    storage.require_local("/elsewhere", mounts=str(tmp_path / "mountinfo"))


@pytest.mark.parametrize("kind", LOCAL)
def test_local_file_system_is_taken(kind: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "mountinfo").write_text(line("/", "nfs") + line("/mnt", kind))
    storage.require_local("/mnt/x", mounts=str(tmp_path / "mountinfo"))


@pytest.mark.parametrize(
    ("kind", "memory"), [("tmpfs", True), ("ramfs", True), ("ext4", False), ("nfs", False), ("overlay", False)]
)
def test_memory_is_known(kind: str, memory: bool) -> None:
    assert Mount("/x", kind, "x").is_memory is memory


# Swap ----------------------------------------------------------------------------------------------------------------

HEAD = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"


@pytest.mark.parametrize(("area", "files", "clear"), [
    ("/dev/sda2", {}, True), ("/swapfile", {}, True), ("/swap\\040file", {}, True), ("/dev/dm-0", {}, True),
    ("/dev/dm-0", {"dm-0/dm/uuid": "CRYPT-PLAIN-swap\n"}, False),
    ("/dev/dm-0", {"dm-0/dm/uuid": "CRYPT-LUKS2-0-x\n"}, False),
    ("/dev/dm-0", {"dm-0/dm/uuid": "LVM-abc\n"}, True), ("/dev/zram0", {}, False),
    ("/dev/zram0", {"zram0/backing_dev": "none\n"}, False),
    ("/dev/zram1", {"zram1/backing_dev": "/dev/sda3\n"}, True), ("/dev/zramX", {}, True), ("/home/zram0", {}, True),
    ("/home/dm-0", {"dm-0/dm/uuid": "CRYPT-PLAIN-x\n"}, True),
])
def test_swap_in_the_clear_is_told(area: str, files: dict[str, str], clear: bool, tmp_path: pathlib.Path) -> None:
    (tmp_path / "swaps").write_text(f"{HEAD}{area}\tpartition\t1\t0\t-2\n\n")
    for name, text in files.items():
        path = tmp_path / "block" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = storage.clear_swaps(swaps=str(tmp_path / "swaps"), devices=str(tmp_path / "block"))
    assert found == ([area.replace("\\040", " ")] if clear else [])


def test_host_without_swap_has_none(tmp_path: pathlib.Path) -> None:
    (tmp_path / "swaps").write_text(HEAD)
    assert storage.clear_swaps(swaps=str(tmp_path / "swaps")) == []
    assert storage.clear_swaps(swaps=str(tmp_path / "missing")) == []


def test_every_area_counts(tmp_path: pathlib.Path) -> None:
    (tmp_path / "swaps").write_text(f"{HEAD}/dev/zram0\tpartition\t1\t0\t-2\n/a\tfile\t1\t0\t-3\n/b\tfile\t1\t0\t-4\n")
    assert storage.clear_swaps(swaps=str(tmp_path / "swaps"), devices=str(tmp_path)) == ["/a", "/b"]
