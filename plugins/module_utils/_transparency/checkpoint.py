# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checkpoints: what a transparency log signs about its tree.

Source: C2SP C(signed-note) and C(tlog-checkpoint). Decoding proves nothing: a log's key has to verify a signature.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass

from .. import _base64
from .._errors import FormatError

MAX_SIZE = 16 * 1024
_MAX_SIGNATURES = 32
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")
_SIGNATURE = re.compile("— ([^ ]+) ([^ ]+)")
_CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")


@dataclass(frozen=True)
class NoteSignature:
    """One signature line: the signer's name, the first four bytes of the key's id, and the signature."""

    name: str
    hint: bytes
    signature: bytes


@dataclass(frozen=True)
class Checkpoint:
    """The size and the root of the tree of the log C(origin), and the signatures over C(signed_bytes)."""

    origin: str
    size: int
    root: bytes
    signed_bytes: bytes
    signatures: tuple[NoteSignature, ...]


def decode(text: str, *, where: str) -> Checkpoint:
    """Parse a checkpoint; lines behind the root that are not known are ignored. Raises FormatError (malformed)."""
    try:
        return _decode(text)
    except ValueError as exc:
        raise FormatError(
            code="malformed", object=where, attempt="read the checkpoint of the log", cause=str(exc),
            advice="Find out what wrote it; nothing of it is used.",
        ) from exc


def _decode(text: str) -> Checkpoint:
    if len(text) > MAX_SIZE:
        raise ValueError(f"it is longer than {MAX_SIZE} characters")
    if _CONTROLS.search(text):
        raise ValueError("it holds control characters")
    # An empty line can stand in one place only, and every line has an end.
    note, _divider, signatures = text.partition("\n\n")
    lines = note.split("\n")
    if len(lines) < 3 or not lines[0] or not signatures.endswith("\n"):
        raise ValueError("it is not origin, size and root, an empty line, and signatures")
    if not _SIZE.fullmatch(lines[1]):
        raise ValueError(f"the size {lines[1][:50]!r} is no plain decimal number")
    root = _base64.decode(lines[2])
    if len(root) != 32:
        raise ValueError(f"the root has {len(root)} bytes, not 32")
    signed = signatures[:-1].split("\n")
    if len(signed) > _MAX_SIGNATURES:
        raise ValueError(f"it has more than {_MAX_SIGNATURES} signatures")
    return Checkpoint(
        origin=lines[0],
        size=int(lines[1]),
        root=root,
        signed_bytes=f"{note}\n".encode(),
        signatures=tuple(_signature(line) for line in signed),
    )


def _signature(line: str) -> NoteSignature:
    match = _SIGNATURE.fullmatch(line)
    if match is None:
        raise ValueError("a signature line is not a dash, a name and a signature")
    data = _base64.decode(t.cast(str, match.group(2)))
    if len(data) <= 4:
        raise ValueError("a signature is empty")
    return NoteSignature(t.cast(str, match.group(1)), data[:4], data[4:])
