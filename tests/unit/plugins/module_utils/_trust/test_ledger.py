# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger: what of its changes shows, who may write to it, and that what is refused leaves it as it is."""

from __future__ import annotations

import datetime
import json
import os
import pathlib
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._custody import journal
from ansible_collections.hallmark.signing.plugins.module_utils._errors import CustodyError, HallmarkError, TrustError
from ansible_collections.hallmark.signing.plugins.module_utils._trust import keyring as rings
from ansible_collections.hallmark.signing.plugins.module_utils._trust import ledger
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._trust.rotation_story import (
    NAMES,
    STORY,
    Operation,
    at,
    found,
    stage,
    states,
    step,
    told,
)

_OPERATIONS = {name: (seconds, operation) for seconds, name, operation in STORY}


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    """Where the ledger is, in a folder that only this user can use."""
    (tmp_path / "home").mkdir(mode=0o700)
    return tmp_path / "home" / "ledger.jsonl"


def write(path: pathlib.Path, last: str, *, later: int = 0) -> str:
    """Write the story until an operation, and return the head."""
    for seconds, name, operation in STORY:
        with ledger.opened(str(path), now=at(seconds + later)) as book:
            operation(book)
            head = ledger.text_of_head(book.head)
        if name == last:
            break
    return head


def refused(code: str, action: t.Callable[[], object], kind: type[HallmarkError] = TrustError) -> str:
    with pytest.raises(kind) as caught:
        action()
    assert caught.value.code == code
    return str(caught.value)


def look(path: pathlib.Path, **heads: str) -> None:
    """Read a ledger as a verifier does that was given heads."""
    ledger.read(str(path), now=at(0)).expect_witnesses(heads)


# What shows -----------------------------------------------------------------------------------------------------------


def test_a_fold_that_is_gone_on_with_is_the_fold_of_all() -> None:
    written = told("close").pen.written
    whole = vars(rings.fold(written))
    for number in range(len(written) + 1):
        part = rings.fold(written[:number])
        for entry in written[number:]:
            part.apply(*entry)
        assert vars(part) == whole


def test_what_is_read_is_what_was_written(path: pathlib.Path) -> None:
    write(path, "close")
    with ledger.opened(str(path), now=at(9010)) as book:
        again, hashes = book.keyring, {one.sequence: one.hash for one in journal.read(str(path))}
    model = told("close").keyring
    assert (again.generations, again.pointers, again.enforcers) == (model.generations, model.pointers, model.enforcers)
    assert (again.head, again.sequence, again.time) == (hashes[53], 53, "2027-01-01T02:30:09Z")


def test_any_changed_byte_shows(path: pathlib.Path) -> None:
    head = write(path, "stage 1")
    data = path.read_bytes()
    last = data.rindex(b"\n", 0, -1) + 1
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1:])
        with pytest.raises((CustodyError, TrustError)) as caught:
            look(path, edge1=head)
        assert caught.value.code in ("journal_broken", "ledger_mismatch")
        if place < last:
            # Nobody's head is needed for what another line follows.
            with pytest.raises((CustodyError, TrustError)):
                look(path)


def test_a_change_of_the_last_line_shows_against_a_head_only(path: pathlib.Path) -> None:
    head = write(path, "stage 1")
    path.write_bytes(path.read_bytes().replace(b'"spare":false', b'"spare":true '))
    assert ledger.read(str(path), now=at(0)).keyring.generations["release", 1].is_spare
    assert f"edge1 holds head {head}, which is not in it" in refused("ledger_mismatch", lambda: look(path, edge1=head))


def test_lines_that_were_cut_off_show_against_a_head_only(path: pathlib.Path) -> None:
    head = write(path, "activate 1")
    lines = path.read_bytes().splitlines(keepends=True)
    for count in range(1, len(lines)):
        path.write_bytes(b"".join(lines[:count]))
        look(path)
        words = refused("ledger_mismatch", lambda: look(path, edge1=head))
        assert words == (
            f"{path}: could not believe in it: edge1 holds head {head}, which is not in it: it was cut off, written "
            f"anew or "
            "forked, or is that of another fleet. Nothing was written. Keep the file as evidence, and find the "
            "ledger that "
            "has this head."
        )
    # An unfinished line is what an interrupted writer leaves: it never counted.
    path.write_bytes(b"".join(lines[:-1]) + lines[-1][:-1])
    assert ledger.read(str(path), now=at(0)).keyring.sequence == len(lines) - 1


def test_a_ledger_that_was_written_anew_shows_against_a_head_only(path: pathlib.Path) -> None:
    heads = []
    for name in ("stage 1", "activate 1"):
        heads.append(write(path, name))
        path.unlink()
    write(path, "activate 1", later=1)
    look(path)
    for head in heads:
        refused("ledger_mismatch", lambda head=head: look(path, controller=head))  # type: ignore[misc]


def test_two_branches_of_a_fork_show_to_whoever_holds_heads_of_both(path: pathlib.Path) -> None:
    common = write(path, "stage 1")
    former = path.read_bytes()
    heads = []
    for later in (0, 1):
        path.write_bytes(former)
        with ledger.opened(str(path), now=at(2 + later)) as book:
            step(book, "published", 1)
            heads.append(ledger.text_of_head(book.head))
    look(path, both=common, second=heads[1])
    refused("ledger_mismatch", lambda: look(path, first=heads[0], second=heads[1]))


@pytest.mark.parametrize(("text", "known"), [
    ("{n}:{hash}", True), ("{hash}", True), ("{other}:{hash}", False), ("{n}:{zeros}", False), ("{zeros}", False),
    ("-1:{hash}", False), ("x:{hash}", False), (":{hash}", False), ("0", False), ("", False), ("²:{hash}", False),
])
def test_heads_are_known_by_number_and_hash(text: str, known: bool, path: pathlib.Path) -> None:
    number, hash = write(path, "stage 1").split(":")
    given = text.format(n=number, other=int(number) - 1, hash=hash, zeros="0" * 64)
    assert ledger.read(str(path), now=at(0)).knows(given) is known


def test_a_ledger_of_another_fleet_is_refused(path: pathlib.Path) -> None:
    write(path, "stage 1")
    before = path.read_bytes()

    def use() -> None:
        with ledger.opened(str(path), now=at(5)) as book:
            book.expect_fleet("example")
            book.expect_fleet("other")
            book.append({"event": "confirmed"})

    assert refused("ledger_mismatch", use) == (
        f"{path}: could not use it: it is that of fleet 'example', not of 'other'. Nothing was written. Name the "
        f"ledger of "
        "this fleet."
    )
    assert path.read_bytes() == before


def test_an_acknowledgement_by_the_ledger_of_another_fleet_is_refused(
    path: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "other").mkdir(mode=0o700)
    foreign = write(tmp_path / "other" / "ledger.jsonl", "activate 1", later=3)
    write(path, "activate 1")
    refused("ledger_mismatch", lambda: look(path, edge1=foreign))


# Two controllers, and clocks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES[1:])
def test_of_two_controllers_one_loses_and_leaves_nothing(name: str, path: pathlib.Path) -> None:
    head = write(path, NAMES[NAMES.index(name) - 1])
    seconds, operation = _OPERATIONS[name]

    def go_on(operation: Operation = operation) -> str:
        with ledger.opened(str(path), now=at(seconds)) as book:
            book.expect_head(head)
            operation(book)
            return ledger.text_of_head(book.head)

    winner = go_on()
    before = path.read_bytes()
    assert refused("ledger_moved", go_on) == (
        f"{path}: could not go on from the head that was expected: its head is {winner}, not {head}: somebody else "
        f"wrote "
        "to it meanwhile. Nothing was written. Read it again, and decide again."
    )
    assert path.read_bytes() == before


def test_of_many_controllers_at_once_one_wins(path: pathlib.Path) -> None:
    head = write(path, "found")
    children = []
    for number in range(6):
        child = os.fork()
        if child == 0:
            code = 2
            try:
                with ledger.opened(str(path), now=at(5)) as book:
                    book.expect_head(head)
                    stage(book, number + 1)
                code = 0
            except TrustError as exc:
                code = 1 if exc.code == "ledger_moved" else 2
            finally:
                os._exit(code)
        children.append(child)
    codes = sorted(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)
    assert codes == [0, 1, 1, 1, 1, 1]
    assert len(ledger.read(str(path), now=at(0)).keyring.generations) == 1


def test_no_head_is_expected_of_a_ledger_that_is_not_there(path: pathlib.Path) -> None:
    def begin() -> None:
        with ledger.opened(str(path), now=at(0)) as book:
            book.expect_head("1:" + "0" * 64)

    assert "its head is 0, not 1:000" in refused("ledger_moved", begin)
    assert path.read_bytes() == b""


@pytest.mark.parametrize(("seconds", "bound", "time"), [
    (1, 60, "2027-01-01T00:00:01Z"), (0, 60, "2027-01-01T00:00:01Z"), (-59, 60, "2027-01-01T00:00:01Z"),
    (500, 60, "2027-01-01T00:08:20Z"), (1, 0, "2027-01-01T00:00:01Z"),
])
def test_time_never_goes_back(seconds: int, bound: int, time: str, path: pathlib.Path) -> None:
    write(path, "stage 1")
    moment = at(seconds) + datetime.timedelta(microseconds=999_999)
    with ledger.opened(str(path), now=moment, skew_bound=bound) as book:
        step(book, "published", 1)
        assert book.now.microsecond == 0
    assert json.loads(path.read_bytes().splitlines()[-1])["time"] == time


@pytest.mark.parametrize(("seconds", "is_borne"), [(-59, True), (-60, False)])
def test_a_minute_is_borne_unless_somebody_says_otherwise(seconds: int, is_borne: bool, path: pathlib.Path) -> None:
    write(path, "stage 1")

    def use() -> None:
        with ledger.opened(str(path), now=at(seconds)) as book:
            assert book.now == at(1)

    if is_borne:
        use()
    else:
        refused("clock_skew", use)


@pytest.mark.parametrize(("seconds", "bound", "text"), [
    (-60, 60, "2026-12-31T23:59:00Z"), (0, 0, "2027-01-01T00:00:00Z"),
])
def test_a_clock_that_is_behind_is_refused(seconds: int, bound: int, text: str, path: pathlib.Path) -> None:
    write(path, "stage 1")
    before = path.read_bytes()

    def use() -> None:
        with ledger.opened(str(path), now=at(seconds), skew_bound=bound):
            raise AssertionError

    assert refused("clock_skew", use) == (
        f"{path}: could not write to it: its last entry is of 2027-01-01T00:00:01Z, and the clock of this host says "
        f"{text}: "
        f"they differ by more than {bound} s. Nothing was written. Set the clock right, and run this again."
    )
    assert path.read_bytes() == before
    assert ledger.read(str(path), now=at(seconds)).keyring.sequence == 6


# Reading and writing --------------------------------------------------------------------------------------------------


def test_a_dry_run_takes_in_and_writes_nothing(path: pathlib.Path) -> None:
    with ledger.opened(str(path), now=at(0), dry_run=True) as book:
        assert (book.head, ledger.text_of_head(book.head), book.is_changed) == (None, "0", False)
        found(book)
        assert (states(book.keyring), book.is_changed, book.keyring.sequence) == ({}, True, 5)
    assert not path.exists()
    write(path, "stage 1")
    before = path.read_bytes()
    with ledger.opened(str(path), now=at(5), dry_run=True) as book:
        step(book, "published", 1)
        assert states(book.keyring) == {"release-1": "published"}
        assert not book.knows(ledger.text_of_head(book.head))
    assert path.read_bytes() == before


def test_what_was_just_written_is_known(path: pathlib.Path) -> None:
    with ledger.opened(str(path), now=at(0)) as book:
        assert not book.is_changed
        found(book)
        assert book.is_changed
        assert book.knows(ledger.text_of_head(book.head))
        book.expect_head(ledger.text_of_head(book.head))
        book.expect_head(book.keyring.head)
        assert book.head == journal.Head(5, journal.read(str(path))[-1].hash)


def test_a_ledger_that_is_missing_is_not_read(path: pathlib.Path) -> None:
    assert refused("not_found", lambda: look(path)) == (
        f"{path}: could not read the ledger: there is none. Name the file that module keyring writes."
    )


_FOUNDED = {"event": "founded", "format": 1, "fleet": "example"}
_STAGED: dict[str, t.Any] = {
    "event": "staged", "identity": "release", "generation": 1, "key_id": "a", "algorithm": "ecdsa-p256",
    "public_key": "pem", "spare": False,
}


@pytest.mark.parametrize(("entries", "cause"), [
    ([_STAGED], "entry 1: it does not begin as a ledger does"),
    ([{"word": "a"}], "entry 1: it does not begin as a ledger does"),
    ([{**_FOUNDED, "format": 2}], "entry 1: it makes no sense after those before it (ValueError)"),
    ([_FOUNDED, _FOUNDED], "entry 2: it makes no sense after those before it (ValueError)"),
    ([_FOUNDED, {"event": "unheard_of"}], "entry 2: it makes no sense after those before it (AttributeError)"),
    ([_FOUNDED, {}], "entry 2: it makes no sense after those before it (KeyError)"),
    ([_FOUNDED, {"event": "staged"}], "entry 2: it makes no sense after those before it (KeyError)"),
    ([_FOUNDED, {"event": "acknowledged", "acknowledgements": 5}],
     "entry 2: it makes no sense after those before it (TypeError)"),
    ([_FOUNDED, _STAGED, _STAGED], "entry 3: it makes no sense after those before it (ValueError)"),
    ([_FOUNDED, _STAGED, {**_STAGED, "generation": 2}],
     "entry 3: it makes no sense after those before it (ValueError)"),
])
def test_entries_that_make_no_sense_are_refused(
    entries: list[dict[str, t.Any]], cause: str, path: pathlib.Path
) -> None:
    for entry in entries:
        journal.append(str(path), {**entry, **({"time": "2027-01-01T00:00:00Z"} if "event" in entry else {})})
    before = path.read_bytes()
    for action in (lambda: look(path), lambda: write(path, "found")):
        assert refused("ledger_mismatch", action) == (
            f"{path}: could not read it: {cause}. Nothing was written. Keep the file as evidence, and find out who "
            f"changed "
            "it."
        )
    assert path.read_bytes() == before
