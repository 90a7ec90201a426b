# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of canonical base64."""

from __future__ import annotations

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils import _base64

PAIRS = (
    (b"", ""), (b"f", "Zg=="), (b"fo", "Zm8="), (b"foo", "Zm9v"), (b"\xfb\xff", "+/8="), (b"\x00" * 3, "AAAA"),
)


@pytest.mark.parametrize(("data", "text"), PAIRS)
def test_both_ways(data: bytes, text: str) -> None:
    assert _base64.encode(data) == text
    assert _base64.decode(text) == data


def test_long_data_stays_in_one_line() -> None:
    text = _base64.encode(bytes(300))
    assert text == "A" * 400
    assert _base64.decode(text) == bytes(300)


@pytest.mark.parametrize(
    "text",
    [
        "Zg", "Zg=", "Zg===", "Zg====", "=", "====", "Z", "Zm9v=", "Zg==Zg==", "Zm8=\n", "\nZm8=", "Zm 8=",
        "Zm9v\r\nZm9v", "-_8=", "Zm9v!", "Zm9v\x00", "Zm8\u00e9", "\uff3a\uff47==", "Zh==", "Zm9=", "Zi==",
    ],
)
def test_every_other_spelling_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^not (canonical )?base64"):
        _base64.decode(text)


@pytest.mark.parametrize("text", ["Zh==", "Zm9="])
def test_spare_bits_are_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"^not canonical base64$"):
        _base64.decode(text)


def test_error_does_not_quote_the_text() -> None:
    with pytest.raises(ValueError, match="not base64") as caught:
        _base64.decode("c2VjcmV0c2VjcmV0!")
    assert "c2VjcmV0" not in str(caught.value)
