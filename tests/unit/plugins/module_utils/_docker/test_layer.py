# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of writing layers: the same bytes for the same entries, whatever the machine."""

from __future__ import annotations

import hashlib
import io
import os
import pathlib
import tarfile
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._docker import layer
from ansible_collections.hallmark.signing.plugins.module_utils._docker.layer import Entry, write_layer
from ansible_collections.hallmark.signing.plugins.module_utils._errors import BuildError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

# One that some Python wrote once: no other may write anything else.
KNOWN = "sha256:0b3b794715ef2a46dc713eb492f03c2c8c2a42c2008bb75b4aeb6a6cf43713f0"


def write(entries: t.Iterable[Entry], epoch: int = 0) -> tuple[str, bytes]:
    """Return digest and bytes, which must fit."""
    stream = io.BytesIO()
    digest, size = write_layer(entries, stream, epoch=epoch)
    data = stream.getvalue()
    assert (digest, size) == (f"sha256:{hashlib.sha256(data).hexdigest()}", len(data))
    return digest, data


def listed(data: bytes) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        return archive.getmembers()


@pytest.fixture
def source(tmp_path: pathlib.Path) -> str:
    """A file of two blocks and a bit."""
    (tmp_path / "source").write_bytes(b"content " * 129)
    return str(tmp_path / "source")


def entries(source: str) -> list[Entry]:
    """Entries with everything that names and owners can need."""
    return [
        Entry("a", "folder", 0o1777), Entry("a/b", "file", 0o4755, 1, 2, source),
        Entry("a/link", "link", target="../somewhere/" + "t" * 300),
        Entry("ü", "file", 0o600, 2097152, 2097151, source),
        Entry("a-b", "link", 0o777, target="ä"), Entry("n" * 100, "folder", 0o700), Entry("m" * 99, "folder", 0o700),
        Entry("/".join(["long" * 20] * 4), "file", 0o644, source=source),
        Entry("😀" * 60, "file", 0o644, source=source),
        Entry("x" * 300, "file", 0o644, 1 << 31, 0, source),
    ]


def test_bytes_are_always_the_same(source: str) -> None:
    assert write(entries(source), 1700000000)[0] == KNOWN
    assert write(reversed(entries(source)), 1700000000)[0] == KNOWN


def test_what_was_written_is_read_back(source: str) -> None:
    found = {member.name: member for member in listed(write(entries(source), 1700000000)[1])}
    assert list(found) == sorted(entry.path for entry in entries(source))
    for entry in entries(source):
        member = found[entry.path]
        assert (member.uid, member.gid, member.uname, member.gname) == (entry.uid, entry.gid, "", "")
        assert (member.mtime, member.linkname) == (1700000000, entry.target)
        assert member.type == {"file": b"0", "folder": b"5", "link": b"2"}[entry.kind]
        assert member.mode == (0o777 if entry.kind == "link" else entry.mode)
        assert member.size == (1032 if entry.kind == "file" else 0)
        assert (member.devmajor, member.devminor) == (0, 0)


def test_content_is_read_back(source: str) -> None:
    data = write([Entry("f", "file", source=source), Entry("g", "file", source=source)])[1]
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert [t.cast("t.IO[bytes]", archive.extractfile(name)).read() for name in "fg"] == [b"content " * 129] * 2


def test_short_names_need_no_extended_header(source: str) -> None:
    assert b"PaxHeader" not in write([Entry("a" * 100, "link", target="b" * 100), Entry("c" * 99, "folder")])[1]
    for long in (Entry("a" * 101, "link"), Entry("c" * 100, "folder"), Entry("c", "link", target="b" * 101)):
        assert b"PaxHeader" in write([long])[1]


def test_nothing_is_an_empty_tar() -> None:
    assert write([])[1] == bytes(1024)


def test_later_entry_stands_for_an_earlier_one() -> None:
    assert write([Entry("a", "folder", 0o700), Entry("a", "folder", 0o711)]) == write([Entry("a", "folder", 0o711)])


def test_hard_links_are_files_of_their_own(source: str) -> None:
    os.link(source, f"{source}2")
    found = listed(write([Entry("a", "file", source=source), Entry("b", "file", source=f"{source}2")])[1])
    assert [member.type for member in found] == [b"0", b"0"]


@pytest.mark.parametrize(("size", "blocks"), [(0, 0), (1, 1), (511, 1), (512, 1), (513, 2)])
def test_content_is_filled_up_to_blocks(size: int, blocks: int, tmp_path: pathlib.Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * size)
    assert len(write([Entry("f", "file", source=str(tmp_path / "f"))])[1]) == 512 * (3 + blocks)


class Meddler(io.BytesIO):
    """A stream that changes a file once its header is written."""

    def __init__(self, action: t.Callable[[], object]) -> None:
        super().__init__()
        self._action = action

    def write(self, data: t.Any) -> int:
        self._action()
        return super().write(data)


@pytest.mark.parametrize("size", [0, 1, 1031, 1033, 5000])
def test_file_that_changes_its_size_is_refused(size: int, source: str) -> None:
    with pytest.raises(BuildError) as caught:
        write_layer([Entry("f", "file", source=source)], Meddler(lambda: os.truncate(source, size)), epoch=0)
    assert (caught.value.code, caught.value.object) == ("build_failed", source)


def test_what_is_no_file_any_more_is_refused(tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name, code in (("pipe", "build_failed"), ("link", "not_found"), ("none", "not_found"), (".", "build_failed")):
        with pytest.raises(BuildError) as caught:
            write([Entry("f", "file", source=str(tmp_path / name))])
        assert caught.value.code == code


def test_full_disk_is_said() -> None:
    with open("/dev/full", "wb", buffering=0) as stream, pytest.raises(BuildError) as caught:
        write_layer([Entry("f", "folder")], stream, epoch=0)
    assert (caught.value.code, caught.value.object) == ("write_failed", "/dev/full")


@pytest.mark.parametrize("entry", [Entry("a\udcff", "folder"), Entry("a", "link", target="\udcff")])
def test_names_that_are_no_text_are_refused(entry: Entry) -> None:
    with pytest.raises(BuildError) as caught:
        write([entry])
    assert caught.value.code == "input_invalid"
    str(caught.value).encode()


def test_large_numbers_are_read_back(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # 8 GiB and more do not fit into the header; a file of that size is too much for a test.
    monkeypatch.setattr(layer, "_MAX_NUMBER", 4)
    (tmp_path / "f").write_bytes(b"12345")
    (member,) = listed(write([Entry("f", "file", source=str(tmp_path / "f"))], 7)[1])
    assert (member.size, member.mtime) == (5, 7)


_NAMES = st.text(
    st.characters(blacklist_categories=("Cs",), blacklist_characters="/\0"), min_size=1, max_size=150
).filter(lambda name: name not in (".", ".."))
_OWNERS = st.integers(0, (1 << 32) - 2)


@given(st.lists(st.tuples(_NAMES, st.sampled_from(["folder", "link"]), st.integers(0, 0o7777), _OWNERS, _NAMES)),
       st.integers(0, 253402300799), st.randoms())
@settings(suppress_health_check=list(HealthCheck))
def test_any_entries_in_any_order_give_one_layer(rows: list[t.Any], epoch: int, random: t.Any) -> None:
    made = list({row[0]: Entry(row[0], row[1], row[2], row[3], row[3], target=row[4] if row[1] == "link" else "")
                 for row in rows}.values())
    data = write(made, epoch)[1]
    random.shuffle(made)
    assert write(made, epoch)[1] == data
    found = [(one.name, one.uid, one.gid, one.linkname, one.mtime) for one in listed(data)]
    assert found == [(one.path, one.uid, one.gid, one.target, epoch) for one in sorted(made, key=lambda one: one.path)]
