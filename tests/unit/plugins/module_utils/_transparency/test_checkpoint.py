# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checkpoints: signed notes with one meaning."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import FormatError
from ansible_collections.hallmark.signing.plugins.module_utils._transparency import checkpoint
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._transparency.log_bench import b64
from hypothesis import example, given
from hypothesis import strategies as st

ROOT = bytes(range(32))
LINE = f"\u2014 log.example {b64(b'hint' + b'signature')}\n"
NOTE = f"log.example - 77\n8\n{b64(ROOT)}\n"
GOOD = f"{NOTE}\n{LINE}"


def decode(text: str) -> checkpoint.Checkpoint:
    return checkpoint.decode(text, where="registry/image")


def test_reads_every_part() -> None:
    assert decode(GOOD) == checkpoint.Checkpoint(
        origin="log.example - 77", size=8, root=ROOT, signed_bytes=NOTE.encode("utf-8"),
        signatures=(checkpoint.NoteSignature("log.example", b"hint", b"signature"),),
    )


@pytest.mark.parametrize(("text", "size", "signatures"), [
    (GOOD.replace("\n8\n", "\n0\n"), 0, 1),
    (GOOD.replace("\n8\n", "\n9223372036854775807\n"), 2**63 - 1, 1),
    (f"{NOTE}Timestamp: 1689177396617352539\n\n{LINE}", 8, 1),
    (f"{NOTE}one\ntwo\n\n{LINE}", 8, 1),
    (f"{GOOD}\u2014 witness.example/w1 {b64(bytes(76))}\n{LINE}", 8, 3),
    (f"{NOTE}\n" + LINE * 32, 8, 32),
    (f"{NOTE}{'x' * (16 * 1024 - len(GOOD) - 1)}\n\n{LINE}", 8, 1),
])
def test_reads_what_is_legal(text: str, size: int, signatures: int) -> None:
    found = decode(text)
    assert (found.size, len(found.signatures)) == (size, signatures)
    assert found.signed_bytes.decode("utf-8") == text.partition("\n\n")[0] + "\n"


def other(old: str, new: str) -> t.Any:
    assert old in GOOD
    return pytest.param(GOOD.replace(old, new), id=f"{old!r} as {new[:20]!r}")


@pytest.mark.parametrize("text", [
    "", "\n", "\n\n", "\n\n\n", NOTE, LINE, NOTE + LINE, NOTE + "\n", GOOD[:-1], GOOD[:-1] + "x", GOOD + "\n",
    "\n" + GOOD, GOOD * 2,
    GOOD.replace("\n", "\r\n"), GOOD.replace("\n", "\u2028"), "\ufeff\n" + GOOD,
    f"{NOTE}\n" + LINE * 33,
    pytest.param(f"{NOTE}{'x' * (16 * 1024 - len(GOOD))}\n\n{LINE}", id="too long"),
    other("log.example - 77\n", ""), other("log.example - 77\n", "\n"), other("8\n", ""), other("\n8\n", "\n\n"),
    *(other("\n8\n", f"\n{size}\n") for size in (
        "+8", "-8", "08", "00", " 8", "8 ", "8.0", "8e0", "0x8", "8_0", "\u0668", "", "9" * 20, "x", "²",
    )),
    other(b64(ROOT), b64(ROOT[:31])), other(b64(ROOT), b64(ROOT + b"x")), other(b64(ROOT), ""),
    other(b64(ROOT), b64(ROOT).rstrip("=")), other(b64(ROOT), b64(ROOT) + " "),
    other(b64(ROOT), b64(ROOT)[:-2] + "9="), other(b64(ROOT), b64(bytes([255] * 32)).replace("/", "_")),
    other("\u2014 ", "- "), other("\u2014 ", "\u2014"), other("\u2014 ", "\u2014  "), other("\u2014 ", ""),
    other("\u2014 log.example ", "\u2014 "), other("\u2014 log.example ", "\u2014 log example "),
    other(LINE, LINE.replace("\n", " x\n")), other(LINE, "\u2014 log.example \n"),
    other(b64(b"hintsignature"), b64(b"hint")), other(b64(b"hintsignature"), b64(b"hin")),
    other(b64(b"hintsignature"), "!!!!"), other(b64(b"hintsignature"), b64(b"hintsignature").rstrip("=")),
    other("log.example - 77", "log\x00example"), other("log.example - 77", "log\texample"),
    other("log.example - 77", "log\x7fexample"), other("log.example - 77", "\ud800"),
    f"{NOTE}\n{LINE}\n{LINE}", f"{NOTE}\n\n{LINE}", f"{NOTE}a\n\nb\n\n{LINE}",
])
def test_malformed(text: str) -> None:
    with pytest.raises(FormatError) as caught:
        decode(text)
    assert (caught.value.code, caught.value.object) == ("malformed", "registry/image")
    assert len(str(caught.value)) < 400


def raises_only_format_errors(text: str) -> checkpoint.Checkpoint | None:
    try:
        return decode(text)
    except FormatError:
        return None


@given(st.text(st.characters(exclude_categories=())))
@example("\ud800")
def test_any_text(text: str) -> None:
    assert raises_only_format_errors(text) is None


@given(st.integers(0, len(GOOD)), st.integers(0, len(GOOD)), st.text(st.characters(exclude_categories=()), max_size=3))
def test_mutations_change_what_is_read_or_are_refused(start: int, end: int, new: str) -> None:
    text = GOOD[:start] + new + GOOD[end:]
    found = raises_only_format_errors(text)
    assert found is None or text == GOOD or found != decode(GOOD)


@given(
    st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=40), st.integers(0, 10**19 - 1),
    st.binary(min_size=32, max_size=32), st.lists(st.binary(min_size=5, max_size=80), min_size=1, max_size=32),
)
def test_round_trip(origin: str, size: int, root: bytes, signatures: list[bytes]) -> None:
    note = f"{origin}\n{size}\n{b64(root)}\n"
    found = decode(note + "\n" + "".join(f"\u2014 name{at} {b64(data)}\n" for at, data in enumerate(signatures)))
    assert (found.origin, found.size, found.root, found.signed_bytes) == (origin, size, root, note.encode("utf-8"))
    assert [(one.name, one.hint + one.signature) for one in found.signatures] == [
        (f"name{at}", data) for at, data in enumerate(signatures)
    ]
