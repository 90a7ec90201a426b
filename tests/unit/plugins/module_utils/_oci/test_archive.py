# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""OCI archives: read in place, whatever their members are called, and written the same way each time."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import struct
import tarfile
import threading
import time
import typing as t
from pathlib import Path

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import HallmarkError, RegistryError
from ansible_collections.hallmark.signing.plugins.module_utils._oci import archive, layout_files, manifest
from ansible_collections.hallmark.signing.plugins.module_utils._oci.archive import ArchiveFiles, Archives
from ansible_collections.hallmark.signing.plugins.module_utils._oci.digest import digest_of
from ansible_collections.hallmark.signing.plugins.module_utils._oci.layout import Layouts
from ansible_collections.hallmark.signing.plugins.module_utils._oci.layout_files import LayoutFiles
from ansible_collections.hallmark.signing.plugins.module_utils._oci.layout_reference import LayoutReference
from ansible_collections.hallmark.signing.plugins.module_utils._oci.manifest import Descriptor
from ansible_collections.hallmark.signing.plugins.module_utils._reason_codes import ReasonCode
from hypothesis import given, settings
from hypothesis import strategies as st

MARKER = b'{"imageLayoutVersion": "1.0.0"}'
CONFIG = b'{"a": "config"}'
IMAGE = manifest.encode_image(
    config=Descriptor(manifest.OCI_CONFIG, digest_of(CONFIG), len(CONFIG)), layers=[], annotations={"name": "one"}
)
DIGEST = digest_of(IMAGE)
INDEX = json.dumps({"schemaVersion": 2, "mediaType": manifest.OCI_INDEX, "manifests": [{
    "mediaType": manifest.OCI_MANIFEST, "size": len(IMAGE), "digest": DIGEST,
    "annotations": {"org.opencontainers.image.ref.name": "1"},
}]}).encode()


def blob(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


MEMBERS: tuple[tuple[str, bytes], ...] = (
    ("oci-layout", MARKER), ("index.json", INDEX), (blob(DIGEST), IMAGE), (blob(digest_of(CONFIG)), CONFIG),
)


def entry(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, link
    return info


def tar(
    members: t.Iterable[tuple[str | tarfile.TarInfo, bytes]] = MEMBERS, *, format: int = tarfile.PAX_FORMAT
) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=format) as made:
        for name, data in members:
            info = entry(name, len(data)) if isinstance(name, str) else name
            made.addfile(info, io.BytesIO(data))
    return stream.getvalue()


@pytest.fixture
def put(tmp_path: Path) -> t.Callable[[bytes], LayoutReference]:
    def write(data: bytes) -> LayoutReference:
        path = tmp_path / "image.tar"
        path.write_bytes(data)
        return LayoutReference(str(path), "1", None, True)

    return write


Put = t.Callable[[bytes], LayoutReference]


def fails(code: ReasonCode, work: t.Callable[[], t.Any]) -> HallmarkError:
    with pytest.raises(HallmarkError) as caught:
        work()
    assert caught.value.code == code, str(caught.value)
    return caught.value


# Reading -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("prefix", ["", "./", ".//", "./././"])
def test_reads_in_place(put: Put, tmp_path: Path, format: int, prefix: str) -> None:
    image = put(tar([
        (entry(f"{prefix}blobs", kind=tarfile.DIRTYPE), b""),
        *((prefix + name, data) for name, data in reversed(MEMBERS)),
    ], format=format))
    archives = Archives()
    found = archives.manifest(image)
    assert (found.digest, found.raw) == (DIGEST, IMAGE)
    assert archives.manifest(LayoutReference(image.path, None, None, True)).digest == DIGEST
    assert archives.manifest(image.at(DIGEST)).digest == DIGEST
    assert archives.find_manifest(image.tagged("2")) is None
    config = t.cast(Descriptor, found.config)
    assert archives.blob(image, config, limit=100) == CONFIG
    assert archives.has_blob(image, config)
    assert b"".join(archives.stream_blob(image, config, offset=5)) == CONFIG[5:]
    assert archives.referrers(image, DIGEST) == ()
    assert sorted(os.listdir(tmp_path)) == ["image.tar", "temporary"]


def test_finds_referrers(put: Put) -> None:
    raw = manifest.encode_image(
        config=Descriptor(manifest.OCI_EMPTY, digest_of(b"{}"), 2), layers=[],
        subject=Descriptor(manifest.OCI_MANIFEST, DIGEST, len(IMAGE)), artifact_type="x/y",
    )
    image = put(tar([*MEMBERS, (blob(digest_of(raw)), raw)]))
    assert [one.digest for one in Archives().referrers(image, DIGEST)] == [digest_of(raw)]


def test_an_archive_is_looked_through_once(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    image = put(tar())
    archives = Archives()
    files = archives.files(image)
    assert archives.files(image) is files
    # One that was replaced is another one.
    os.unlink(image.path)
    put(tar([*MEMBERS[:3]]))
    os.utime(image.path, (1, 1))
    assert archives.files(image) is not files


@pytest.mark.parametrize(("compress", "name"), [
    (gzip.compress, "gzip"), (bz2.compress, "bzip2"), (lzma.compress, "xz"),
    (lambda data: b"\x28\xb5\x2f\xfd" + data, "zstd"),
])
def test_a_compressed_archive_is_refused_by_name(
    put: Put, compress: t.Callable[[bytes], bytes], name: str
) -> None:
    assert name in fails("malformed", lambda: Archives().manifest(put(compress(tar())))).cause


@pytest.mark.parametrize("number", range(len(MEMBERS)))
@pytest.mark.parametrize("prefix", ["", "./", "x/../"])
def test_a_member_that_is_there_twice_is_refused(put: Put, number: int, prefix: str) -> None:
    name, data = MEMBERS[number]
    image = put(tar([*MEMBERS, (prefix + name, data)]))
    assert "twice" in fails("malformed", lambda: Archives().manifest(image)).cause


@pytest.mark.parametrize("number", range(len(MEMBERS)))
@pytest.mark.parametrize(("kind", "link"), [
    (tarfile.SYMTYPE, "/etc/passwd"), (tarfile.LNKTYPE, "oci-layout"), (tarfile.FIFOTYPE, ""), (tarfile.CHRTYPE, ""),
    (tarfile.DIRTYPE, ""), (tarfile.GNUTYPE_SPARSE, ""),
])
def test_a_member_that_is_no_plain_file_is_refused(put: Put, number: int, kind: bytes, link: str) -> None:
    members: list[tuple[str | tarfile.TarInfo, bytes]] = list(MEMBERS)
    members[number] = (entry(MEMBERS[number][0], kind=kind, link=link), b"")
    fails("malformed", lambda: Archives().manifest(put(tar(members))))


def test_a_sparse_member_is_refused(put: Put) -> None:
    # What "tar --sparse --format=pax" writes: a size of a gigabyte in some bytes.
    info = entry(blob(DIGEST), len(IMAGE))
    info.pax_headers = {
        "GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.map": "0,1", "GNU.sparse.size": "1073741824",
        "GNU.sparse.numblocks": "1",
    }
    image = put(tar([*MEMBERS[:2], (info, IMAGE)]))
    fails("malformed", lambda: Archives().manifest(image))


@pytest.mark.parametrize("name", [
    "../x", "../../../../tmp/x", "/etc/x", "x/../../y", "blobs/../../x", "blobs/sha256/../../../x", "C:\\x", "x\n",
    f"../{blob(DIGEST)}", f"/{blob(DIGEST)}", f"x/{blob(DIGEST)}", f"{blob(DIGEST)}/x", "blobs/sha256/short",
    f"blobs/md5/{'0' * 32}", f"blobs/sha256/{'A' * 64}",
])
def test_names_that_lead_elsewhere_are_never_touched(put: Put, tmp_path: Path, name: str) -> None:
    image = put(tar([(name, b"hostile"), *MEMBERS, (entry(f"{name}2", kind=tarfile.SYMTYPE, link="/etc"), b"")]))
    assert Archives().manifest(image).digest == DIGEST
    target = LayoutFiles(str(tmp_path / "unpacked"))
    layout_files.make(target.where)
    before = {str(path) for path in tmp_path.rglob("*")}
    archive.unpack(ArchiveFiles(image.path), target)
    after = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if str(path) not in before}
    assert after == {f"unpacked/{blob(DIGEST)}", f"unpacked/{blob(digest_of(CONFIG))}"}


@pytest.mark.parametrize("length", [1, 100, 511, 512, 700, 1024, 1536, 2047, 3000])
def test_a_truncated_archive_is_an_error_or_has_less(put: Put, length: int) -> None:
    with pytest.raises(HallmarkError) as caught:
        Archives().manifest(put(tar()[:length]))
    assert caught.value.code in ("malformed", "not_found")


def test_a_member_that_is_cut_off_is_an_error(put: Put) -> None:
    data = tar([*MEMBERS[:2], (blob(DIGEST), IMAGE)])
    cut = data.index(IMAGE) + len(IMAGE) - 1
    assert "cut off" in fails("malformed", lambda: Archives().manifest(put(data[:cut]))).cause


@pytest.mark.parametrize("content", [b"", b"\0" * 10_240, b"x" * 10_240, os.urandom(4096), b"{}"], ids=range(5))
def test_what_is_no_tar_file_is_an_error(put: Put, content: bytes) -> None:
    fails("malformed", lambda: Archives().manifest(put(content)))


def test_an_archive_of_docker_save_gets_advice(put: Put) -> None:
    image = put(tar([("manifest.json", b"[]"), ("0123/layer.tar", b""), ("repositories", b"{}")]))
    assert "docker save" in fails("malformed", lambda: Archives().manifest(image)).cause


def test_one_that_is_missing_is_not_found(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.tar", tmp_path):
        image = LayoutReference(str(path), "1", None, True)
        assert fails("not_found", lambda image=image: Archives().manifest(image)).object == str(path)


def test_a_fifo_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    found: list[str] = []

    def work() -> None:
        with pytest.raises(HallmarkError) as caught:
            Archives().manifest(LayoutReference(str(tmp_path / "fifo"), "1", None, True))
        found.append(caught.value.code)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(2)
    blocked = thread.is_alive()
    if blocked:
        # Let it go.
        os.close(os.open(tmp_path / "fifo", os.O_WRONLY | os.O_NONBLOCK))
    assert not blocked
    assert found


@pytest.mark.parametrize(("number", "content", "code"), [
    (0, b"{}", "malformed"), (0, b'{"imageLayoutVersion":"2.0.0"}', "malformed"), (0, b" " * 70_000, "limit_exceeded"),
    (1, b"{", "malformed"), (1, b" " * (33 << 20), "limit_exceeded"),
    (2, IMAGE[:-1] + b" ", "digest_mismatch"), (2, IMAGE + b" " * (5 << 20), "limit_exceeded"),
])
def test_wrong_members_are_refused(put: Put, number: int, content: bytes, code: ReasonCode) -> None:
    members: list[tuple[str | tarfile.TarInfo, bytes]] = list(MEMBERS)
    members[number] = (MEMBERS[number][0], content)
    fails(code, lambda: Archives().manifest(put(tar(members))))


def header(name: str, size: bytes, kind: bytes = b"0", *, goes_on: bool = False) -> bytes:
    """A tar header with any twelve bytes for its size; one of a sparse file may say that it goes on."""
    raw = bytearray(entry(name).tobuf(tarfile.GNU_FORMAT))
    raw[124:136], raw[156:157], raw[482] = size, kind, goes_on
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw)
    return bytes(raw[:512])


# Headers that make tarfile loop, recurse, or ask for all the memory there is.
@pytest.mark.parametrize("data", [
    header("x", b"\xff" * 12) * 3,
    header("oci-layout", b"\xff" * 12),
    header(blob(DIGEST), struct.pack(">BxxxQ", 0x80, 1 << 63)),
    header("x", struct.pack(">BxxxQ", 0x80, (1 << 64) - 1)),
    header("x", b"\x80" + b"\xff" * 11),
    header("x", b"\x80" + b"\xff" * 11, b"L"),
    header("x", struct.pack(">BxxxQ", 0x80, 1 << 45), b"L"),
    header("x", struct.pack(">BxxxQ", 0x80, 1 << 45), b"x"),
    (header("x", b"00000000002\0", b"L") + b"y\0".ljust(512, b"\0")) * 3000,
    (header("x", b"00000000000\0", b"x")) * 5000,
    header("x", b"%011o\0" % 26, b"x") + b"26 size=9999999999999999999\n".ljust(512, b"\0") + header("y", b"0" * 12),
    header("x", b"%011o\0" % 20, b"x") + b"20 size=-99999999999\n".ljust(512, b"\0") + header("y", b"0" * 12),
    header("x", b"00000000000\0", b"S"),
    # Found by tests/fuzz: a size of -1024 leads back to the second header.
    header("x", b"0" * 12) * 2 + header("x", (-1024).to_bytes(12, "big", signed=True)),
    # Found by tests/fuzz: what goes on is not there.
    header("x", b"0" * 12, b"S", goes_on=True),
], ids=range(15))
def test_hostile_headers_are_errors_in_time(put: Put, data: bytes) -> None:
    begun = time.monotonic()
    with pytest.raises(HallmarkError):
        Archives().manifest(put(data + bytes(1024)))
    with pytest.raises(HallmarkError):
        Archives().manifest(put(tar()[:-10_240] + data + bytes(1024)).tagged("missing"))
    assert time.monotonic() - begun < 10


# Found by tests/fuzz: the index would be empty, and the layout with it.
def test_a_member_of_less_than_nothing_is_refused(put: Put) -> None:
    index = header(MEMBERS[1][0], (-511).to_bytes(12, "big", signed=True)) + b"{}".ljust(512, b"\0")
    image = put(tar([MEMBERS[0]])[:1024] + index + bytes(1024))
    fails("malformed", lambda: Archives().index(image))


@settings(max_examples=150)
@given(st.data())
def test_no_change_of_bytes_raises_anything_else(tmp_path_factory: t.Any, data: st.DataObject) -> None:
    raw = bytearray(tar())
    for _change in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(0, 4200))] = data.draw(st.sampled_from([0, 1, 48, 57, 0x80, 0xFF, 120, 76, 83]))
    path = tmp_path_factory.getbasetemp() / "changed.tar"
    path.write_bytes(raw)
    image = LayoutReference(str(path), "1", None, True)
    try:
        found = Archives().manifest(image)
        assert found.digest == digest_of(found.raw)
        Archives().referrers(image, DIGEST)
    except HallmarkError:
        pass


# Writing -------------------------------------------------------------------------------------------------------------


def a_layout(path: Path, *order: str) -> LayoutFiles:
    for name in order or ("one", "two"):
        raw = manifest.encode_image(
            config=Descriptor(manifest.OCI_EMPTY, digest_of(b"{}"), 2), layers=[], annotations={"name": name}
        )
        Layouts().put_manifest(LayoutReference(str(path), name), raw)
    Layouts().put_blob(LayoutReference(str(path)), b"{}")
    return LayoutFiles(str(path))


def test_the_same_layout_is_the_same_archive(tmp_path: Path) -> None:
    written = []
    for number in range(2):
        files = a_layout(tmp_path / f"layout{number}")
        for path in Path(files.where).rglob("*"):
            os.utime(path, (number * 1000, number * 1000))
            path.chmod(0o700 if number else 0o755)
        archive.pack(files, str(tmp_path / f"{number}.tar"))
        written.append((tmp_path / f"{number}.tar").read_bytes())
    assert written[0] == written[1]
    with tarfile.open(tmp_path / "0.tar") as made:
        names = made.getnames()
        assert {(info.mode, info.uid, info.gid, info.mtime, info.uname) for info in made} == {(0o644, 0, 0, 0, "")}
    # Readers that stream want these first.
    assert names[:2] == ["oci-layout", "index.json"]
    assert names[2:] == sorted(names[2:])


def test_what_was_packed_is_unpacked(tmp_path: Path) -> None:
    files = a_layout(tmp_path / "layout")
    archive.pack(files, str(tmp_path / "image.tar"))
    other = layout_files.make(str(tmp_path / "other"))
    archive.unpack(ArchiveFiles(str(tmp_path / "image.tar")), other)
    archive.pack(other, str(tmp_path / "again.tar"))
    assert (tmp_path / "again.tar").read_bytes() == (tmp_path / "image.tar").read_bytes()
    for name in ("one", "two"):
        found = Archives().manifest(LayoutReference(str(tmp_path / "image.tar"), name, None, True))
        assert Layouts().manifest(LayoutReference(other.where, name)).digest == found.digest


def test_an_archive_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = a_layout(tmp_path / "layout")
    target = tmp_path / "image.tar"
    target.write_bytes(b"former")

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archive.os, "fsync", full)
    fails("write_failed", lambda: archive.pack(files, str(target)))
    assert target.read_bytes() == b"former"
    assert sorted(os.listdir(tmp_path)) == ["image.tar", "layout", "temporary"]


def test_unpacking_wrong_content_is_an_error(put: Put, tmp_path: Path) -> None:
    image = put(tar([*MEMBERS, (blob(digest_of(b"right")), b"wrong")]))
    fails("digest_mismatch", lambda: archive.unpack(
        ArchiveFiles(image.path), layout_files.make(str(tmp_path / "other"))
    ))


@pytest.mark.parametrize("work", [
    lambda archives, image: archives.put_blob(image, b"x"),
    lambda archives, image: archives.put_manifest(image, IMAGE, media_type=manifest.OCI_MANIFEST, until=1.0),
    lambda archives, image: archives.delete_manifest(image.at(DIGEST)),
    lambda archives, image: archives.attach(image, Descriptor("x/y", DIGEST, 1), IMAGE),
    lambda archives, image: archives.detach(image, DIGEST, [DIGEST]),
    lambda archives, image: archives.exclusive(image, DIGEST),
])
def test_an_archive_is_not_changed_in_place(put: Put, work: t.Callable[[Archives, LayoutReference], t.Any]) -> None:
    image = put(tar())
    before = Path(image.path).read_bytes()
    error = fails("input_invalid", lambda: work(Archives(), image))
    assert isinstance(error, RegistryError)
    assert "image_copy" in error.advice
    assert Path(image.path).read_bytes() == before
