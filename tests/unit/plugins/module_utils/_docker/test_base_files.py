# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of what is read from the layers of a base: folders, links, whiteouts; and of tars that are not right."""

from __future__ import annotations

import gzip
import io
import sys
import tarfile
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._docker import base_files, tar_reader
from ansible_collections.hallmark.signing.plugins.module_utils._docker.base_files import BaseFiles, join
from ansible_collections.hallmark.signing.plugins.module_utils._docker.refusal import Refusal
from ansible_collections.hallmark.signing.plugins.module_utils._errors import RegistryError
from hypothesis import given
from hypothesis import strategies as st

PLAIN = "application/vnd.oci.image.layer.v1.tar"
GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
FOLDER, LINK, FILE, HARD = tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.REGTYPE, tarfile.LNKTYPE


def tar(*rows: tuple[str, bytes, str], form: int = tarfile.PAX_FORMAT) -> bytes:
    """Return a tar: of each row name, type, and link target or content."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as archive:
        for name, kind, text in rows:
            member = tarfile.TarInfo(name)
            member.type = kind
            if kind in (LINK, HARD):
                member.linkname = text
            else:
                member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return stream.getvalue()


def pieces(data: bytes, size: int = 700) -> t.Iterator[bytes]:
    return iter([data[at:at + size] for at in range(0, len(data), size)])


def read(*layers: bytes, limit: int = 1 << 24, media_type: str = PLAIN, size: int = 700) -> BaseFiles:
    return BaseFiles.read([(media_type, pieces(layer, size)) for layer in layers], limit=limit, where="base")


def refused(code: str, *layers: bytes, **options: t.Any) -> str:
    with pytest.raises(RegistryError) as caught:
        read(*layers, **options)
    assert (caught.value.code, caught.value.object) == (code, "base")
    str(caught.value).encode()
    return caught.value.cause


DEBIAN = tar(
    ("./", FOLDER, ""), ("./bin", LINK, "usr/bin"), ("./usr/", FOLDER, ""), ("./usr/bin/", FOLDER, ""),
    ("./usr/bin/sh", LINK, "dash"), ("./usr/bin/dash", FILE, "x" * 700), ("./tmp/", FOLDER, ""),
    ("./var/run", LINK, "/run"), ("./var/lock", LINK, "/run/lock"), ("./run/lock/", FOLDER, ""),
    ("./a", LINK, "b"), ("./b", LINK, "a"), ("./up", LINK, "../../../etc"), ("./etc/x", FILE, ""),
    ("./hard", HARD, "./usr/bin/sh"), ("./hard2", HARD, "usr/bin/dash"), ("./to-file", LINK, "etc/x"),
)


# Where things are ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "resolved"),
    [
        ("/", ""), ("", ""), ("/bin/x", "usr/bin/x"), ("bin", "usr/bin"), ("/bin/sh", "usr/bin/dash"),
        ("/var/run/x/y", "run/x/y"), ("/var/lock/x", "run/lock/x"), ("/new/x", "new/x"), ("/up/y", "etc/y"),
        ("//usr//bin/./x/", "usr/bin/x"), ("/var/../etc", "etc"), ("/../../etc", "etc"), ("/to-file", "etc/x"),
        ("/hard", "dash"), ("/hard2", "hard2"),
    ],
)
def test_links_are_followed_inside_of_the_root(path: str, resolved: str) -> None:
    assert read(DEBIAN).resolve(path) == resolved


def test_last_link_may_be_left_alone() -> None:
    files = read(DEBIAN)
    assert files.resolve("/bin", last=False) == "bin"
    assert files.resolve("/bin/sh", last=False) == "usr/bin/sh"


@pytest.mark.parametrize("path", ["/a", "/a/x", "/etc/x/y", "/to-file/y", "/bin/sh/y"])
def test_path_that_leads_nowhere_is_refused(path: str) -> None:
    with pytest.raises(Refusal):
        read(DEBIAN).resolve(path)


def test_kinds_are_told() -> None:
    files = read(DEBIAN)
    assert [files.kind(path) for path in ("/", "bin", "usr/bin", "etc/x", "none", "etc/x/y", "bin/sh", "hard")] == [
        "folder", "link", "folder", "file", None, None, None, "link"
    ]
    assert [files.is_folder(path) for path in ("/", "bin", "bin/sh", "none", "var/run")] == [
        True, True, False, False, True
    ]


def test_scratch_has_a_root_only() -> None:
    assert (BaseFiles().is_folder("/"), BaseFiles().kind("a"), BaseFiles().resolve("/a/b")) == (True, None, "a/b")


def test_what_is_put_on_is_there_and_a_copy_does_not_have_it() -> None:
    files = read(DEBIAN)
    copy = files.copy()
    files.put("new/deep/x", "file")
    files.put("new/link", "link", "deep")
    files.put("usr", "folder")
    assert (files.kind("new"), files.resolve("new/link/x")) == ("folder", "new/deep/x")
    assert (copy.kind("new"), copy.resolve("/bin/sh"), files.kind("usr/bin")) == (None, "usr/bin/dash", "folder")
    with pytest.raises(Refusal):
        files.put("etc/x/y", "file")


@pytest.mark.parametrize(
    ("folder", "path", "joined"),
    [("/", "a", "/a"), ("/w", "a/../b/", "/w/b"), ("/w", "/x//y", "/x/y"), ("/w", "../../..", "/"), ("", "//a", "/a")],
)
def test_paths_are_joined_by_their_text(folder: str, path: str, joined: str) -> None:
    assert join(folder, path) == joined


# Layers upon layers --------------------------------------------------------------------------------------------------


def kinds(files: BaseFiles, *paths: str) -> list[str | None]:
    return [files.kind(path) for path in paths]


def test_layers_lie_upon_each_other() -> None:
    files = read(
        tar(("d/", FOLDER, ""), ("d/a", FILE, ""), ("e", FILE, ""), ("f/x", FILE, ""), ("l", LINK, "d")),
        tar(("d/", FOLDER, ""), ("d/b", FILE, ""), ("e/", FOLDER, ""), ("f", FILE, ""), ("l/c", FILE, "")),
    )
    assert kinds(files, "d/a", "d/b", "e", "f", "f/x", "l", "d/c") == [
        "file", "file", "folder", "file", None, "link", "file"
    ]


def test_folder_replaces_a_link() -> None:
    files = read(tar(("d/a", FILE, ""), ("l", LINK, "d")), tar(("l/", FOLDER, "")))
    assert kinds(files, "l", "l/a", "d/a") == ["folder", None, "file"]


def test_whiteouts_hide_what_lies_below() -> None:
    lower = tar(("d/a/x", FILE, ""), ("d/b", FILE, ""), ("l", LINK, "d"))
    assert kinds(read(lower, tar(("d/.wh.a", FILE, ""))), "d/a", "d/a/x", "d/b") == [None, None, "file"]
    assert kinds(read(lower, tar(("l/.wh.b", FILE, ""))), "d/a", "d/b") == ["folder", None]
    assert kinds(read(lower, tar((".wh.none", FILE, ""), ("no/.wh.x", FILE, ""))), "d/a/x") == ["file"]
    assert kinds(read(lower, tar((".wh.d", FILE, ""), ("d/c", FILE, ""))), "d/b", "d/c") == [None, "file"]
    # The order within a layer does not count.
    assert kinds(read(lower, tar(("d/c", FILE, ""), (".wh.d", FILE, ""))), "d/b", "d/c") == [None, "file"]


@pytest.mark.parametrize("first", [True, False])
def test_opaque_folder_hides_what_lies_below_and_not_its_own(first: bool) -> None:
    rows = [("d/.wh..wh..opq", FILE, ""), ("d/new", FILE, "")]
    files = read(tar(("d/a/x", FILE, ""), ("d/b", FILE, "")), tar(*(rows if first else rows[::-1])))
    assert kinds(files, "d", "d/a", "d/b", "d/new") == ["folder", None, None, "file"]


def test_notes_of_storage_drivers_are_nothing() -> None:
    files = read(tar((".wh..wh.aufs", FILE, ""), (".wh..wh.plnk/", FOLDER, ""), (".wh..wh.plnk/1.2", FILE, "")))
    assert kinds(files, ".wh..wh.plnk", ".wh..wh.aufs") == [None, None]


# Forms of tar --------------------------------------------------------------------------------------------------------


LONG = "/".join(["a" * 90] * 4)


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT], ids=["pax", "gnu"])
@pytest.mark.parametrize("size", [1, 100, 512, 1 << 20])
def test_long_names_are_read(form: int, size: int) -> None:
    data = tar((f"{LONG}/ü", FILE, "x" * 600), ("l", LINK, f"{LONG}/ü"), ("z", FILE, ""), form=form)
    files = read(data, size=size)
    assert kinds(files, f"{LONG}/ü", LONG, "z") == ["file", "folder", "file"]
    assert files.resolve("l") == f"{LONG}/ü"


def test_ustar_names_have_a_prefix() -> None:
    assert read(tar((f"{'p' * 90}/{'n' * 90}", FILE, ""), form=tarfile.USTAR_FORMAT)).kind("p" * 90) == "folder"


def test_old_folders_end_in_a_slash() -> None:
    data = bytearray(tar(("d/", FOLDER, "")))
    data[156:157] = b"\0"
    data[148:156] = b"%06o\0 " % (sum(data[:148]) + 256 + sum(data[156:512]))
    assert read(bytes(data)).kind("d") == "folder"


def test_global_headers_and_empty_values_change_no_name() -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "x"}) as archive:
        archive.addfile(tarfile.TarInfo("a"))
    assert read(stream.getvalue()).kind("a") == "file"


def test_sizes_may_be_in_an_extended_header_or_binary() -> None:
    header = tarfile.TarInfo("a")
    header.pax_headers = {"size": "600"}
    data = header.tobuf(tarfile.PAX_FORMAT) + b"x" * 1024 + tarfile.TarInfo("b").tobuf()
    assert kinds(read(data), "a", "b") == ["file", "file"]
    header = tarfile.TarInfo("a")
    header.size = 600
    block = bytearray(header.tobuf(tarfile.GNU_FORMAT))
    block[124:136] = b"\x80" + (600).to_bytes(11, "big")
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + 256 + sum(block[156:]))
    assert kinds(read(bytes(block) + b"x" * 1024 + tarfile.TarInfo("b").tobuf()), "a", "b") == ["file", "file"]


def test_sparse_files_are_passed_over() -> None:
    header = tarfile.TarInfo("s")
    header.type, header.size = tarfile.GNUTYPE_SPARSE, 600
    block = bytearray(header.tobuf(tarfile.GNU_FORMAT))
    block[482] = 1
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + 256 + sum(block[156:]))
    more = bytearray(512)
    more[504] = 1
    data = bytes(block) + bytes(more) + bytes(512) + b"x" * 1024 + tarfile.TarInfo("b").tobuf()
    assert kinds(read(data), "s", "b") == ["file", "file"]


@pytest.mark.parametrize("name", ["/", "./", "."])
def test_root_may_be_named(name: str) -> None:
    assert read(tar((name, FOLDER, ""), ("a", FILE, ""))).kind("a") == "file"


@pytest.mark.parametrize("end", [0, 512, 1024, 20480])
def test_end_may_be_marked_or_not(end: int) -> None:
    assert read(tarfile.TarInfo("a").tobuf() + bytes(end)).kind("a") == "file"


# Compression ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "media_type", [GZIP, "application/vnd.docker.image.rootfs.diff.tar.gzip",
                   "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
                   "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"],
)
@pytest.mark.parametrize("size", [1, 700, 1 << 20])
def test_gzip_is_read(media_type: str, size: int) -> None:
    assert read(gzip.compress(DEBIAN), media_type=media_type, size=size).is_folder("/bin")
    # In several parts, too, as some parallel compressors write it.
    parts = gzip.compress(DEBIAN[:1000]) + gzip.compress(DEBIAN[1000:])
    assert read(parts, media_type=media_type, size=size).is_folder("/bin")


@pytest.mark.parametrize("media_type", ["application/vnd.oci.image.layer.v1.tar+other", "", "text/plain", PLAIN + "x"])
def test_other_types_are_refused_by_name(media_type: str) -> None:
    assert repr(media_type) in refused("unsupported_algorithm", DEBIAN, media_type=media_type)


def test_zstd_is_read_where_python_can() -> None:
    media_type = "application/vnd.oci.image.layer.v1.tar+zstd"
    if sys.version_info < (3, 14):
        assert "zstd" in refused("unsupported_algorithm", DEBIAN, media_type=media_type)
    else:
        from compression import zstd

        assert read(zstd.compress(DEBIAN), media_type=media_type).is_folder("/bin")


def test_zstd_reader_is_fed_as_it_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    # The reader of Python 3.14 has the interface of bz2's.
    import bz2

    class Zstd:
        ZstdDecompressor = bz2.BZ2Decompressor
        ZstdError = OSError

    monkeypatch.setattr(tar_reader, "zstd", Zstd, raising=False)
    media_type = "application/vnd.oci.image.layer.v1.tar+zstd"
    assert read(bz2.compress(DEBIAN), media_type=media_type).is_folder("/bin")
    assert "no zstd data" in refused("malformed", b"rubbish", media_type=media_type)


def test_chunks_are_read_to_their_end() -> None:
    chunks = pieces(DEBIAN + bytes(10000))
    BaseFiles.read([(PLAIN, chunks)], limit=1 << 20, where="base")
    assert next(chunks, None) is None


def test_source_that_fails_is_heard() -> None:
    def failing() -> t.Iterator[bytes]:
        yield DEBIAN
        raise RegistryError(code="digest_mismatch", object="x", attempt="x", cause="x", advice="x")

    with pytest.raises(RegistryError, match="could not x"):
        BaseFiles.read([(PLAIN, failing())], limit=1 << 20, where="base")


# Hostile tars --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../a", "a/../../b", "a/..", "/etc/passwd", "//a", "..", "./../a"])
def test_names_that_lead_out_are_refused(name: str) -> None:
    assert "leads out" in refused("malformed", tar((name, FILE, "")))
    assert "leads out" in refused("malformed", tar(("a", HARD, name)))


@pytest.mark.parametrize("cut", [1, 100, 511, 513, 600, 1023, 1024, 1400])
def test_truncated_tar_is_refused(cut: int) -> None:
    data = tar(("a", FILE, "x" * 1500))
    assert "too early" in refused("malformed", data[:cut])


@pytest.mark.parametrize("cut", [1, 20, 100])
def test_truncated_gzip_is_refused(cut: int) -> None:
    import os

    data = gzip.compress(tar(("a", FILE, os.urandom(3000).hex())))
    assert "too early" in refused("malformed", data[:-cut - 40], media_type=GZIP)
    assert "no gzip data" in refused("malformed", b"rubbish", media_type=GZIP)


@pytest.mark.parametrize(
    "field",
    [
        (124, b"\xff" * 12), (124, b"\x80" + b"\xff" * 11), (124, b"9" * 12), (124, b"-0000000001\0"),
        (148, b"x" * 8),
    ],
    ids=["negative", "huge", "no octal", "minus", "checksum"],
)
def test_damaged_header_is_refused(field: tuple[int, bytes]) -> None:
    block = bytearray(tarfile.TarInfo("a").tobuf())
    block[field[0]:field[0] + len(field[1])] = field[1]
    if field[0] != 148:
        block[148:156] = b"%06o\0 " % (sum(block[:148]) + 256 + sum(block[156:]))
    refused("malformed", bytes(block))


def extended(body: bytes, size: int | None = None, kind: bytes = b"x") -> bytes:
    """Return an extended header in front of a file."""
    header = tarfile.TarInfo("h")
    header.type, header.size = kind, len(body) if size is None else size
    return header.tobuf(tarfile.GNU_FORMAT) + body + bytes(-len(body) % 512) + tarfile.TarInfo("a").tobuf()


@pytest.mark.parametrize(
    "body", [b"x", b"5 a=b\n", b"7 a=b\n", b"99 a=b\n", b"6 a=bx", b"5 ab\n", b"0 a=b\n", b" 6 a=b\n", b"9 path=\0\n",
             b"99999999999999999999 a=b\n", b"3 =", b"12 size=-10\n", b"11 size=1x\n", b"15 size=1e99999\n"],
)
def test_damaged_extended_header_is_refused(body: bytes) -> None:
    refused("malformed", extended(body))


def test_large_headers_and_names_are_refused() -> None:
    for kind in (b"x", b"g", b"L", b"K"):
        assert "extended header of" in refused("malformed", extended(b"", 1 << 40, kind))
    for kind in (b"L", b"K"):
        assert "name of more than" in refused("malformed", extended(b"n" * 5000, None, kind))


def test_member_of_absurd_size_ends_too_early() -> None:
    header = tarfile.TarInfo("a")
    header.size = 1 << 61
    assert "too early" in refused("malformed", header.tobuf(tarfile.GNU_FORMAT))


def test_bytes_are_bounded() -> None:
    data = tar(("a", FILE, "x" * 100_000))
    assert read(data, limit=len(data)).kind("a") == "file"
    assert "99999 bytes" in refused("limit_exceeded", data, limit=99_999)
    bomb = gzip.compress(b"x" * 10_000_000)
    assert "bytes" in refused("limit_exceeded", bomb, limit=1000, media_type=GZIP)
    # All layers together.
    refused("limit_exceeded", data, data, limit=len(data) + 1)


def test_entries_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_files, "MAX_ENTRIES", 5)
    rows = [(f"f{number}", FILE, "") for number in range(6)]
    assert read(tar(*rows[:5])).kind("f4") == "file"
    assert "5 entries" in refused("limit_exceeded", tar(*rows))
    assert "5 entries" in refused("limit_exceeded", tar(*rows[:3]), tar(*rows[3:]))
    assert "5 entries" in refused("limit_exceeded", tar(("a/b/c/d/e/f", FILE, "")))
    assert "5 entries" in refused("limit_exceeded", tar(*[(f".wh.f{number}", FILE, "") for number in range(6)]))


def test_names_and_steps_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_files, "_MAX_NAMES", 100)
    refused("limit_exceeded", tar(("a" * 60, FILE, ""), ("b" * 60, FILE, "")))
    monkeypatch.setattr(base_files, "_MAX_NAMES", 1 << 20)
    monkeypatch.setattr(base_files, "_MAX_STEPS", 100)
    links = [(f"l{number}", LINK, "d/" * 20 + "../" * 19) for number in range(20)]
    refused("limit_exceeded", tar(*links, *[(f"l{number}/x", FILE, "") for number in range(20)]))


def test_layers_that_do_not_fit_are_refused() -> None:
    for rows in ([("a", FILE, ""), ("a/b", FILE, "")], [("a", LINK, "a"), ("a/b", FILE, "")]):
        assert "does not fit" in refused("malformed", tar(*rows))


def test_deep_folders_need_no_deep_stack() -> None:
    deep = "/".join("d" * 2000)
    files = read(tar((deep, FOLDER, "")))
    assert files.copy().is_folder(deep)


def test_names_that_are_no_text_are_kept() -> None:
    assert read(tar(("a\udcff", FILE, ""), form=tarfile.GNU_FORMAT)).kind("a\udcff") == "file"


@given(st.binary(max_size=3000), st.integers(0, 8))
def test_rubbish_gives_a_clean_error_or_nothing(data: bytes, flips: int) -> None:
    for raw in (data, DEBIAN[:600] + data, bytes(a ^ b for a, b in zip(DEBIAN, data + bytes(len(DEBIAN))))):
        for media_type in (PLAIN, GZIP):
            try:
                read(raw, media_type=media_type)
            except RegistryError as exc:
                assert exc.code in ("malformed", "limit_exceeded")  # noqa: PT017


@given(st.integers(0, 511), st.binary(min_size=1, max_size=12))
def test_damage_with_a_right_checksum_gives_a_clean_error_or_nothing(at: int, data: bytes) -> None:
    block = bytearray(DEBIAN[:512])
    block[at:at + len(data)] = data
    del block[512:]
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + 256 + sum(block[156:]))
    try:
        read(bytes(block) + DEBIAN[512:])
    except RegistryError as exc:
        assert exc.code in ("malformed", "limit_exceeded")  # noqa: PT017
