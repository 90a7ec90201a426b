# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Append-only records: one chain whoever writes, nothing foreign touched, and every kind of change seen."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pathlib
import resource
import signal
import time
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._custody import journal, private_file
from ansible_collections.hallmark.signing.plugins.module_utils._custody.journal import Head
from ansible_collections.hallmark.signing.plugins.module_utils._errors import CustodyError
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._custody import custody_bench as bench

_LIMIT = private_file.MAX_SIZE


@pytest.fixture
def record(home: pathlib.Path) -> pathlib.Path:
    """Where the journal is."""
    return home / "deeper" / "record.jsonl"


def add(path: pathlib.Path, *words: str) -> list[Head]:
    return [journal.append(str(path), {"word": word}) for word in words]


def refused(code: str, action: t.Callable[[], t.Any], cause: str = "") -> CustodyError:
    with pytest.raises(CustodyError) as caught:
        action()
    assert (caught.value.code, cause in caught.value.cause) == (code, True), str(caught.value)
    return caught.value


def words(path: pathlib.Path) -> list[str]:
    return [entry.members["word"] for entry in journal.read(str(path))]


def broken(path: pathlib.Path, cause: str = "") -> None:
    """Assert that reading and appending both refuse, and leave the file as it is."""
    before = path.read_bytes()
    error = refused("journal_broken", lambda: journal.read(str(path)), cause)
    assert error.object == str(path)
    assert path.read_bytes() == before


# Writing and reading -------------------------------------------------------------------------------------------------


def test_lines_are_chained(record: pathlib.Path) -> None:
    heads = add(record, "a", "ä\n\0")
    lines = record.read_bytes().split(b"\n")
    assert lines[0] == b'{"sequence":1,"previous":"' + b"0" * 64 + b'","word":"a"}'
    former = hashlib.sha256(lines[0]).hexdigest().encode()
    assert lines[1] == b'{"sequence":2,"previous":"%s","word":"\\u00e4\\n\\u0000"}' % former
    assert lines[2:] == [b""]
    assert heads == [Head(number, hashlib.sha256(line).hexdigest()) for number, line in enumerate(lines[:2], 1)]
    entries = journal.read(str(record))
    assert [(entry.sequence, entry.hash, entry.members["word"]) for entry in entries] == [
        (1, heads[0].hash, "a"), (2, heads[1].hash, "ä\n\0"),
    ]


def test_missing_journal_has_no_entries_and_is_not_made(record: pathlib.Path) -> None:
    assert journal.read(str(record)) == ()
    assert not record.parent.exists()
    record.parent.mkdir(mode=0o700)
    assert journal.read(str(record)) == ()
    assert not record.exists()


@pytest.mark.parametrize(("given", "mode"), [(None, 0o644), (0o600, 0o600)])
@pytest.mark.parametrize("mask", [0, 0o077])
def test_journal_has_its_mode_and_a_private_folder(
    given: int | None, mode: int, mask: int, record: pathlib.Path, umask: t.Callable[[int], int]
) -> None:
    umask(mask)
    journal.append(str(record), {"word": "a"}, **({} if given is None else {"mode": given}))
    assert (record.stat().st_mode & 0o7777, record.parent.stat().st_mode & 0o7777) == (mode, 0o700)


def test_entries_are_on_the_medium(record: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(record, "a")
    synced: list[tuple[str, int]] = []
    genuine = os.fsync

    def note(fd: int) -> None:
        synced.append((os.readlink(f"/proc/self/fd/{fd}"), record.stat().st_size))
        genuine(fd)

    monkeypatch.setattr(os, "fsync", note)
    add(record, "b")
    assert synced == [(str(record), record.stat().st_size)]


def test_writer_knows_what_is_there(record: pathlib.Path) -> None:
    with journal.opened(str(record)) as writer:
        assert (writer.entries(), list(writer.recent())) == ((), [])
        heads = [writer.append({"word": word}) for word in "abc"]
        assert [entry.members["word"] for entry in writer.entries()] == ["a", "b", "c"]
        assert [entry.members["word"] for entry in writer.recent()] == ["c", "b", "a"]
    assert heads[-1] == Head(3, journal.read(str(record))[-1].hash)


def test_recent_entries_are_those_of_the_last_mebibyte(record: pathlib.Path) -> None:
    with journal.opened(str(record)) as writer:
        for number in range(100):
            writer.append({"word": str(number), "filler": "x" * 15_000})
        recent = [int(entry.members["word"]) for entry in writer.recent()]
        assert len(writer.entries()) == 100
    assert recent == list(range(99, 99 - len(recent), -1))
    assert 60 < len(recent) < 80
    assert add(record, "after")[0].sequence == 101


def test_entry_that_is_too_long_is_not_written(record: pathlib.Path) -> None:
    add(record, "a")
    begin = len(record.read_bytes()) - 2
    longest = "x" * (journal.MAX_LINE - begin)
    refused("journal_broken", lambda: add(record, f"{longest}x"), f"more than {journal.MAX_LINE}")
    assert words(record) == ["a"]
    add(record, longest)
    assert words(record) == ["a", longest]


def test_others_wait_while_it_is_held(record: pathlib.Path) -> None:
    started = record.with_name("started")

    def second() -> int:
        started.touch()
        return add(record, "second")[0].sequence

    def first() -> None:
        with journal.opened(str(record)) as writer:
            record.with_name("held").touch()
            while not started.exists():
                time.sleep(0.001)
            time.sleep(0.2)
            writer.append({"word": "first"})

    # Forked before anything is held: a child would hold it, too.
    holding = bench.in_child(first)
    while not record.with_name("held").exists():
        time.sleep(0.001)
    waiting = bench.in_child(second)
    holding()
    assert waiting() == 2
    assert words(record) == ["first", "second"]


def test_eight_writers_keep_one_chain(record: pathlib.Path) -> None:
    def write(name: str) -> list[int]:
        return [journal.append(str(record), {"word": f"{name}{number}"}).sequence for number in range(40)]

    waits = [bench.in_child(lambda name=name: write(name)) for name in "abcdefgh"]
    numbers = [wait() for wait in waits]
    assert sorted(number for own in numbers for number in own) == list(range(1, 321))
    assert all(own == sorted(own) for own in numbers)
    found = words(record)
    for name in "abcdefgh":
        assert [word for word in found if word[0] == name] == [f"{name}{number}" for number in range(40)]


def test_writer_that_dies_leaves_a_chain(record: pathlib.Path) -> None:
    add(record, "first")
    for place in bench.deaths(lambda: add(record, "more")):
        assert set(words(record)[1:]) <= {"more", "after"}, place
        add(record, "after")
        assert words(record)[-1] == "after", place


def test_what_cannot_be_written_is_told(record: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(record, "a")

    def full(_fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    error = refused("write_failed", lambda: add(record, "b"), "No space left on device")
    assert error.object == str(record)


def test_full_disk_is_told_and_leaves_a_chain(home: pathlib.Path) -> None:
    """What a stream could not write it tries to write again when it is closed."""
    record = home / "record"
    add(record, "a")

    def write() -> str:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        size = record.stat().st_size + 20
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        return refused("write_failed", lambda: add(record, "b" * 100)).cause

    assert bench.in_child(write)() == os.strerror(errno.EFBIG)
    assert words(record) == ["a"]
    add(record, "c")
    assert words(record) == ["a", "c"]


# What somebody else did ----------------------------------------------------------------------------------------------


def _lines(path: pathlib.Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


CHANGES: dict[str, t.Callable[[list[bytes]], list[bytes]]] = {
    "a changed word": lambda lines: [lines[0], lines[1].replace(b'"b"', b'"B"'), *lines[2:]],
    "a changed blank": lambda lines: [lines[0].replace(b",", b", ", 1), *lines[1:]],
    "a missing line": lambda lines: [lines[0], *lines[2:]],
    "a missing first line": lambda lines: lines[1:],
    "a doubled line": lambda lines: [lines[0], lines[0], *lines[1:]],
    "exchanged lines": lambda lines: [lines[1], lines[0], *lines[2:]],
    "an empty line": lambda lines: [lines[0], b"\n", *lines[1:]],
    "an inserted line": lambda lines: [
        lines[0],
        b'{"sequence":2,"previous":"%s","word":"x"}\n' % hashlib.sha256(lines[0][:-1]).hexdigest().encode(),
        *lines[1:],
    ],
    "a number that is not one": lambda lines: [lines[0].replace(b":1,", b":true,", 1), *lines[1:]],
    "a number in quotes": lambda lines: [lines[0].replace(b":1,", b':"1",', 1), *lines[1:]],
    "no number": lambda lines: [lines[0].replace(b'"sequence":1,', b""), *lines[1:]],
    "no hash": lambda lines: [b'{"sequence":1,"word":"a"}\n', *lines[1:]],
    "a list": lambda lines: [b"[1]\n", *lines[1:]],
    "a text": lambda lines: [b'"sequence"\n', *lines[1:]],
    "no JSON": lambda lines: [b"{sequence}\n", *lines[1:]],
    "no text": lambda lines: [b"\xff\xfe\n", *lines[1:]],
    "depth": lambda lines: [b"[" * 100_000 + b"\n", *lines[1:]],
}


@pytest.mark.parametrize("change", CHANGES)
def test_change_is_seen(change: str, record: pathlib.Path) -> None:
    add(record, "a", "b", "c")
    record.write_bytes(b"".join(CHANGES[change](_lines(record))))
    broken(record)
    with journal.opened(str(record)) as writer:
        refused("journal_broken", writer.entries)


@pytest.mark.parametrize(
    ("former", "latter"), [(b":1,", b":true,"), (b":1,", b":1.0,"), (b'"' + b"0" * 64 + b'"', b"0")]
)
def test_last_line_that_is_not_ours_is_seen(former: bytes, latter: bytes, record: pathlib.Path) -> None:
    """No hash of a later line tells."""
    add(record, "a")
    record.write_bytes(record.read_bytes().replace(former, latter, 1))
    broken(record)
    before = record.read_bytes()
    refused("journal_broken", lambda: add(record, "b"))
    assert record.read_bytes() == before


def test_first_bad_line_is_named(record: pathlib.Path) -> None:
    add(record, "a", "b", "c")
    record.write_bytes(record.read_bytes().replace(b'"b"', b'"x"'))
    broken(record, "line 3: it does not follow")


def test_what_was_cut_off_or_rewritten_shows_against_a_kept_head(record: pathlib.Path) -> None:
    """The chain alone does not tell; the head that append() returned does."""
    kept = add(record, "a", "b")[-1]
    record.write_bytes(_lines(record)[0])
    assert words(record) == ["a"]
    assert add(record, "c")[0].sequence == kept.sequence
    assert journal.read(str(record))[-1].hash != kept.hash


@pytest.mark.parametrize("size", [1, 5, 30, 90, 100])
def test_unfinished_line_is_left_out_and_cut_off(size: int, record: pathlib.Path) -> None:
    add(record, "a", "b", "x" * 50)
    whole = record.read_bytes()
    whole_lines = _lines(record)
    record.write_bytes(whole[:-len(whole_lines[-1])] + whole_lines[-1][:size])
    assert words(record) == ["a", "b"]
    add(record, "d")
    assert words(record) == ["a", "b", "d"]


def test_unfinished_first_line_is_cut_off(record: pathlib.Path) -> None:
    add(record, "a")
    record.write_bytes(record.read_bytes()[:-1])
    assert words(record) == []
    assert add(record, "b")[0].sequence == 1
    assert words(record) == ["b"]


FOREIGN = {
    "text": b"nothing of ours\n", "text without an end": b"nothing of ours", "JSON without an end": b'{"a": 1}',
    "another sequence": b'{"sequence": 7, "b": 2}', "ours, but not the next": b'{"sequence":7,"previous":"00',
    "the next, with another hash": b'{"sequence":1,"previous":"1', "a key": b"-----BEGIN PRIVATE KEY-----\nMII=\n",
    "much text without an end": b"x" * 3 * _LIMIT, "much text in one line": b"x" * 3 * _LIMIT + b"\n",
    "a blank line": b"\n", "zeros": b"\0" * 4096,
    "our sequence, not our line": b'{"sequence": 1}\n',
    "much without an end behind ours": b'{"sequence":1,"previous":"' + b"0" * 20_000,
}


@pytest.mark.parametrize("foreign", FOREIGN)
def test_foreign_file_is_never_changed(foreign: str, record: pathlib.Path) -> None:
    record.parent.mkdir(mode=0o700)
    record.write_bytes(FOREIGN[foreign])
    record.chmod(0o600)
    refused("journal_broken", lambda: add(record, "a"))
    assert record.read_bytes() == FOREIGN[foreign]
    assert record.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("foreign", FOREIGN)
def test_what_is_behind_ours_is_never_cut_off(foreign: str, record: pathlib.Path) -> None:
    add(record, "a")
    with record.open("ab") as stream:
        stream.write(FOREIGN[foreign])
    before = record.read_bytes()
    refused("journal_broken", lambda: add(record, "b"))
    assert record.read_bytes() == before


# Where it may be -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["symbolic link", "dangling link", "hard link", "pipe", "folder"])
def test_what_is_no_plain_file_is_refused(kind: str, home: pathlib.Path) -> None:
    target, path = home.parent / "target", home / "record"
    add(home / "other", "a")
    os.rename(home / "other", target)
    before = target.read_bytes()
    if kind == "symbolic link":
        path.symlink_to(target)
    elif kind == "dangling link":
        path.symlink_to(home / "nowhere")
    elif kind == "hard link":
        os.link(target, path)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    for action in (lambda: add(path, "b"), lambda: journal.read(str(path))):
        refused("destination_unsafe", action)
    assert target.read_bytes() == before
    assert sorted(os.listdir(home)) == ["record"]


@pytest.mark.parametrize("action", ["read", "append"])
@pytest.mark.parametrize("what", ["folder", "file"])
@pytest.mark.parametrize("mode", [0o020, 0o002])
def test_journal_that_others_can_write_is_refused(mode: int, what: str, action: str, home: pathlib.Path) -> None:
    """Else somebody else could tell root what to remove."""
    path = home / "record"
    add(path, "a")
    (home if what == "folder" else path).chmod(0o700 | mode)
    refused("destination_unsafe", lambda: journal.read(str(path)) if action == "read" else add(path, "b"))


@bench.needs_root
@pytest.mark.parametrize("what", ["folder", "file"])
def test_journal_of_somebody_else_is_refused(what: str, home: pathlib.Path) -> None:
    path = home / "record"
    add(path, "a")
    os.chown(home if what == "folder" else path, bench.FOREIGN, bench.FOREIGN)
    refused("destination_unsafe", lambda: journal.read(str(path)))
    refused("destination_unsafe", lambda: add(path, "b"))


def test_journal_is_not_read_through_a_link_of_a_folder_of_others(tmp_path: pathlib.Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o1777)
    refused("destination_unsafe", lambda: journal.read(str(tmp_path / "open" / "record")))


def test_members_are_json(record: pathlib.Path) -> None:
    journal.append(str(record), {"list": [1, None, {"a": True}]})
    assert json.loads(record.read_bytes())["list"] == [1, None, {"a": True}]
