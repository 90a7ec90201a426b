# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Changing inputs layer by layer: a signature in base64 inside of JSON in base64 is reached as easily as a byte.

Whatever holds a value in a known form is written again so that only the value has changed: lengths of DER, checksums
of tar, base64 stay right. Every so often plain bytes are changed instead, by libFuzzer, so that forms break, too.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import json
import random
import re
import typing as t
import zlib

import atheris

_PLAINLY = 0.15
_STRETCHED = 0.004
# What was stretched once is found again as a large input, on which all time would go.
_LARGE = 16 * 1024
_MAX_NODES = 2000
_PEM = re.compile(rb"-----BEGIN ([A-Z ]+)-----\n([A-Za-z0-9+/=\n]+)-----END \1-----\n")
# Written as a text first, and then replaced: no writer nests as deeply as the readers must stand.
_DEEP = "@deep@"
_VALUES: tuple[t.Any, ...] = (
    None, True, False, 0, 1, -1, 2, 33, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63), 10**31, 0.5, 1e308, "",
    "0", "00", "-1", "1e3", "null", "\0", "\ud800", "\u2028", "\u00e9", "../x", [], {}, [[]], {"": ""}, ["", None],
    _DEEP,
)
_TIMES = (0x17, 0x18)
_BLOCK = 512
_FIELDS = ((0, 100), (124, 136), (124, 136), (156, 157), (157, 257), (257, 265), (345, 500))
_KINDS = b"01256gxLKSV\0D"
_RECORD_KEYS = (
    b"path", b"linkpath", b"size", b"mtime", b"hdrcharset", b"GNU.sparse.major", b"GNU.sparse.minor",
    b"GNU.sparse.size", b"GNU.sparse.realsize", b"GNU.sparse.name", b"GNU.sparse.map", b"GNU.sparse.numblocks",
)
_RECORD_VALUES = (
    b"0", b"1", b"-512", b"-1024", b"512", b"99999999999999999999", b"1e3", b"blobs/sha256/", b"0,1", b"index.json",
    b"", b"BINARY", b"\xff", b"../x",
)

Rng = random.Random
Change = t.Callable[[bytes, Rng], t.Optional[bytes]]


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Return a changed input of at most C(max_size) bytes: libFuzzer's custom mutator."""
    rng = Rng(seed)
    if len(data) > _LARGE and rng.random() < 0.8:
        data = _cut(data, rng)
    for _round in range(rng.choice((1, 1, 1, 2, 3, 6))):
        data = _changed(data, rng)
    if rng.random() < _STRETCHED:
        data = _stretched(data, max_size, rng)
    return data[:max_size]


def _changed(data: bytes, rng: Rng) -> bytes:
    if rng.random() >= _PLAINLY:
        for change in _LAYERS:
            found = change(data, rng)
            if found is not None:
                return found
    return _plain(data, rng)


def _plain(data: bytes, rng: Rng) -> bytes:
    if data and rng.random() < 0.1:
        return _cut(data, rng)
    return bytes(atheris.Mutate(data, len(data) + 64))


def _cut(data: bytes, rng: Rng) -> bytes:
    begin, end = sorted((rng.randrange(len(data)), rng.randrange(len(data) + 1)))
    return data[:begin] + data[end:]


def _stretched(data: bytes, max_size: int, rng: Rng) -> bytes:
    """Repeat a short part until the input is large: whatever takes more than linear time shows."""
    if not data:
        return data
    begin = rng.randrange(len(data))
    part = data[begin:begin + rng.choice((1, 1, 2, 3, 8, 64))]
    count = max(0, (rng.choice((4096, 65536, max_size)) - len(data)) // len(part))
    return data[:begin] + part * count + data[begin:]


# --- JSON, and texts in it -------------------------------------------------------------------------------------------


def _json(data: bytes, rng: Rng) -> bytes | None:
    if data[:1] not in (b"{", b"["):
        return None
    try:
        top = json.loads(data)
        places = _places(top)
        if not places:
            return None
        _change_member(*rng.choice(places), rng, places)
        # What is signed or hashed changes with a blank, too.
        text = json.dumps(top, separators=rng.choice(((",", ":"),) * 9 + ((", ", ":"),)))
    except (ValueError, RecursionError):
        return None
    depth = rng.choice((50, 300, 960, 970, 975, 980, 985, 990, 5000))
    return text.replace(f'"{_DEEP}"', "[" * depth + "]" * depth).encode("ascii")


def _places(top: t.Any) -> list[tuple[t.Any, t.Any]]:
    """Return every container with each of its keys."""
    found: list[tuple[t.Any, t.Any]] = []
    pending = [top]
    while pending and len(found) < _MAX_NODES:
        container = pending.pop()
        for key in list(container) if isinstance(container, dict) else range(len(container)):
            found.append((container, key))
            if isinstance(container[key], (dict, list)):
                pending.append(container[key])
    return found


def _change_member(container: t.Any, key: t.Any, rng: Rng, places: list[tuple[t.Any, t.Any]]) -> None:
    value, what = container[key], rng.random()
    if isinstance(value, str) and what < 0.6:
        container[key] = _text(value, rng)
    elif isinstance(value, int) and what < 0.4:
        container[key] = value + rng.choice((-1, 1, 256, -256, 2**32, -value))
    elif what < 0.7:
        container[key] = rng.choice(_VALUES)
    elif what < 0.8:
        other, other_key = rng.choice(places)
        # Through text: a container must not come to hold itself.
        container[key] = json.loads(json.dumps(other[other_key]))
    elif what < 0.9:
        del container[key]
    elif isinstance(container, dict):
        container[rng.choice((str(key).swapcase(), f"{key} ", rng.choice(places)[1]))] = value
    else:
        container.extend([value] * rng.choice((1, 1, 2, 40)))


def _text(text: str, rng: Rng) -> str:
    with_base64 = _decoded(text)
    if with_base64:
        return base64.b64encode(_changed(with_base64, rng)).decode("ascii")
    if re.fullmatch("[0-9]{1,19}", text) and rng.random() < 0.7:
        return str(abs(int(text) + rng.choice((-1, 1, 60, 10**6, 10**9, -int(text)))))
    if len(text) >= 16 and re.fullmatch("(?:[0-9a-f]{2})+", text):
        return _plain(bytes.fromhex(text), rng).hex()
    return _changed(text.encode("utf-8", "surrogatepass"), rng).decode("utf-8", "replace")


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text.encode("ascii"), validate=True) if len(text) >= 8 else b""
    except (binascii.Error, UnicodeEncodeError):
        return b""


def _pem(data: bytes, rng: Rng) -> bytes | None:
    blocks = list(_PEM.finditer(data))
    if not blocks:
        return None
    block = rng.choice(blocks)
    if rng.random() < 0.1:
        return data[:block.start()] + rng.choice((b"", block[0] * 2, block[0] * 20)) + data[block.end():]
    try:
        changed = base64.encodebytes(_changed(base64.b64decode(block[2]), rng))
    except binascii.Error:
        return None
    return data[:block.start(2)] + changed + data[block.end(2):]


# --- DER -------------------------------------------------------------------------------------------------------------


def _der(data: bytes, rng: Rng) -> bytes | None:
    row = elements(data) if data[:1] in (b"\x30", b"\x31", b"\xa0") else None
    return None if not row else _changed_row(row, rng)


def _changed_row(row: list[tuple[int, bytes]], rng: Rng) -> bytes:
    # Large elements have more in them that can be changed.
    at, what = rng.choices(range(len(row)), [len(content) + 4 for _tag, content in row])[0], rng.random()
    if what < 0.8:
        row[at] = (row[at][0], _changed_content(*row[at], rng))
    elif what < 0.85:
        del row[at]
    elif what < 0.9:
        row[at:at] = [row[at]] * rng.choice((1, 1, 2, 50))
    elif what < 0.95:
        row[at] = (rng.choice((row[at][0] ^ 1 << rng.randrange(8), rng.choice(row)[0], 0x05, 0x0C)), row[at][1])
    else:
        row[at] = rng.choice(row)
    return b"".join(element(tag, content) for tag, content in row)


def _changed_content(tag: int, content: bytes, rng: Rng) -> bytes:
    # Bit strings begin with the number of bits that are not used; these and octet strings often hold more DER.
    before = content[:1] if tag == 0x03 else b""
    row = elements(content[len(before):]) if tag & 0x20 or tag in (0x03, 0x04) else None
    if row and rng.random() < 0.97:
        return before + _changed_row(row, rng)
    if tag in _TIMES and content and rng.random() < 0.8:
        at = rng.randrange(len(content))
        return content[:at] + rng.choice(b"0123456789").to_bytes(1, "big") + content[at + 1:]
    return _plain(content, rng)


def elements(data: bytes) -> list[tuple[int, bytes]] | None:
    """Return tags and contents of the DER elements that C(data) is made of; None if it is made of something else."""
    found: list[tuple[int, bytes]] = []
    at = 0
    while at < len(data):
        if at + 2 > len(data):
            return None
        length, begin = data[at + 1], at + 2
        if length & 0x80:
            begin += length & 0x7F
            length = int.from_bytes(data[at + 2:begin], "big")
        if begin + length > len(data) or len(found) > _MAX_NODES:
            return None
        found.append((data[at], data[begin:begin + length]))
        at = begin + length
    return found


def element(tag: int, content: bytes) -> bytes:
    """Return one DER element."""
    if len(content) < 0x80:
        return bytes([tag, len(content)]) + content
    size = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(size)]) + size + content


# --- archives --------------------------------------------------------------------------------------------------------


def _gzip(data: bytes, rng: Rng) -> bytes | None:
    if data[:2] != b"\x1f\x8b" or rng.random() < 0.2:
        return None
    try:
        inner = zlib.decompressobj(31).decompress(data, 1 << 20)
    except zlib.error:
        return None
    return gzip.compress(_changed(inner, rng), 1, mtime=0)


def _tar(data: bytes, rng: Rng) -> bytes | None:
    headers = [at for at in range(0, len(data), _BLOCK) if data[at + 257:at + 262] == b"ustar"]
    if not headers:
        return None
    at, what = rng.choice(headers), rng.random()
    if what < 0.15:
        return data[:at] + data[at:at + 2 * _BLOCK] * rng.choice((0, 2, 3, 20)) + data[at + 2 * _BLOCK:]
    if what < 0.4:
        # What follows a header: the content of a file, or the records of an extended one.
        content = data[at + _BLOCK:at + 2 * _BLOCK]
        return data[:at + _BLOCK] + _records(content, rng).ljust(_BLOCK, b"\0")[:_BLOCK] + data[at + 2 * _BLOCK:]
    header = bytearray(data[at:at + _BLOCK].ljust(_BLOCK, b"\0"))
    begin, end = rng.choice(_FIELDS)
    header[begin:end] = _field(bytes(header[begin:end]), begin, rng).ljust(end - begin, b"\0")[:end - begin]
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return data[:at] + bytes(header) + data[at + _BLOCK:]


def _field(value: bytes, begin: int, rng: Rng) -> bytes:
    if begin == 156:
        return bytes([rng.choice(_KINDS)])
    if begin == 124 and rng.random() < 0.8:
        number = rng.choice((0, 1, 511, 512, 1024, 2**20, 2**33 - 1))
        # The second form is GNU's, for numbers of any size and sign.
        return b"%011o" % number if rng.random() < 0.6 else rng.choice((b"\x80", b"\xff")) + rng.choice((
            number.to_bytes(11, "big"), (-number).to_bytes(11, "big", signed=True), b"\x7f" + b"\xff" * 10,
        ))
    return _plain(value.rstrip(b"\0"), rng)


def _records(content: bytes, rng: Rng) -> bytes:
    key, value = rng.choice(_RECORD_KEYS), rng.choice(_RECORD_VALUES)
    records, rest = content.rstrip(b"\0"), len(key) + len(value) + 3
    if rng.random() < 0.3:
        return _plain(records, rng)
    size = next(size for size in range(rest, rest + 9) if len(str(size)) + rest == size)
    record = b"%d %b=%b\n" % (size, key, value)
    return record + records if records.endswith(b"\n") and rng.random() < 0.5 else record


_LAYERS: tuple[Change, ...] = (_json, _pem, _der, _gzip, _tar)
