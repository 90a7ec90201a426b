# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an exported copy says about itself, and how a copy for one use is taken away."""

from __future__ import annotations

import datetime
import os
import pathlib
import stat
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import KeyFileError
from ansible_collections.hallmark.signing.plugins.module_utils._keys import lease, pem, private_key
from ansible_collections.hallmark.signing.plugins.module_utils._keys.lease import Lease

UTC = datetime.timezone.utc
ID = "0123456789abcdef"
END = datetime.datetime(2028, 2, 29, 23, 59, 59, tzinfo=UTC)
KEY = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
Write = t.Callable[..., bytes]


def malformed(data: bytes) -> None:
    for action in (lease.read, lease.require_usable):
        with pytest.raises(KeyFileError) as caught:
            action(data, where="there")
        assert (caught.value.code, caught.value.object) == ("malformed", "there")


@pytest.mark.parametrize(("made", "line"), [
    (Lease(ID, END), f"hallmark-export: {ID} expires 2028-02-29T23:59:59Z\n"),
    (Lease(ID, END, True), f"hallmark-export: {ID} expires 2028-02-29T23:59:59Z, for one use\n"),
    (Lease(ID, None, True), f"hallmark-export: {ID} expires never, for one use\n"),
    (Lease(ID, None), f"hallmark-export: {ID} expires never\n"),
])
def test_lease_is_a_line_before_the_key(made: Lease, line: str) -> None:
    assert made.encode() == line.encode()
    assert lease.read(made.encode() + KEY, where="there") == made
    assert lease.read(b"text before\n" + made.encode() + b"and behind\n" + KEY, where="there") == made


def test_key_without_the_line_has_none() -> None:
    for data in (KEY, b"", b"\n", b"hallmark: something else\n" + KEY, b"\xff\xfe" + KEY):
        assert lease.read(data, where="there") is None
        assert lease.require_usable(data, where="there") is None
        assert not lease.is_for_one_use(data, where="there")


def test_line_behind_the_key_is_text() -> None:
    assert lease.read(KEY + Lease(ID, END).encode(), where="there") is None


LINE = Lease(ID, END).encode()


@pytest.mark.parametrize("line", [
    LINE.replace(b"\n", b"\r\n"), LINE.replace(b"\n", b" \n"), LINE.rstrip(b"\n"),
    LINE.upper().replace(b"HALLMARK-EXPORT", b"hallmark-export"),
    LINE.replace(b"2028-02-29", b"2027-02-29"), LINE.replace(b"2028", b"0000"), LINE.replace(b"23:59:59", b"23:59:60"),
    LINE.replace(b"23:59:59", b"24:00:00"), LINE.replace(b"23:59:59", b"::::::::"), LINE.replace(b"Z", b"+00:00"),
    LINE.replace(b"Z", b""), LINE.replace(ID.encode(), ID[:-1].encode()), LINE.replace(ID.encode(), ID.encode() + b"0"),
    LINE.replace(b": ", b":"), LINE.replace(b"expires", b"expired"), LINE.replace(b"2028-02-29T23:59:59Z", b"soon"),
    LINE.replace(b"\n", b", for two uses\n"), LINE + LINE, LINE + b"hallmark-export\n", b"hallmark-export\n",
    b"-" + LINE[:-1],
    "hallmark-export: ٠123456789abcdef expires never\n".encode(),
])
def test_line_that_was_changed_is_refused(line: bytes) -> None:
    malformed(line + KEY)


@pytest.mark.parametrize(("seconds", "usable"), [(-1, True), (0, False), (1, False), (10**8, False), (-(10**8), True)])
def test_copy_is_refused_from_its_end_on(seconds: int, usable: bool) -> None:
    made = Lease(ID, END)
    now = END + datetime.timedelta(seconds=seconds)
    assert made.is_over(now) is not usable
    if usable:
        assert lease.require_usable(made.encode() + KEY, where="there", now=now) == made
        return
    with pytest.raises(KeyFileError) as caught:
        lease.require_usable(made.encode() + KEY, where="there", now=now)
    assert caught.value.code == "export_expired"
    assert f"{ID} ended at 2028-02-29T23:59:59Z" in caught.value.cause


def test_the_clock_of_this_host_counts_whatever_its_time_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime.datetime.now(UTC)
    past, future = (Lease(ID, now + datetime.timedelta(minutes=minutes)).encode() + KEY for minutes in (-1, 1))
    for zone in ("UTC", "Pacific/Kiritimati", "America/Los_Angeles"):
        monkeypatch.setenv("TZ", zone)
        assert lease.require_usable(future, where="there") is not None
        with pytest.raises(KeyFileError):
            lease.require_usable(past, where="there")


def test_copy_without_an_end_is_never_over() -> None:
    assert not Lease(ID, None).is_over(datetime.datetime.max.replace(tzinfo=UTC))


@pytest.mark.parametrize("once", [True, False])
def test_copy_says_whether_it_is_for_one_use(once: bool) -> None:
    assert lease.is_for_one_use(Lease(ID, None, once).encode() + KEY, where="there") is once
    with pytest.raises(KeyFileError) as caught:
        lease.is_for_one_use(Lease(ID, datetime.datetime(2001, 1, 1, tzinfo=UTC), once).encode() + KEY, where="there")
    assert caught.value.code == "export_expired"


def test_readers_of_pem_skip_the_line(p256: t.Any, private_pem: Write) -> None:
    data = LINE + private_pem(p256)
    assert private_key.read_private_key(
        data, passphrase=None, where="there"
    ).public.key_id == private_key.read_private_key(
        private_pem(p256), passphrase=None, where="there"
    ).public.key_id
    assert [block.label for block in pem.split(data, where="there")] == ["PRIVATE KEY"]


def test_time_is_in_utc_to_the_second() -> None:
    assert lease.Lease("0" * 16, END.replace(microsecond=999_999)).end == "2028-02-29T23:59:59Z"
    assert lease.Lease("0" * 16, None).end == "never"


# One use -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def copy(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "copy"
    path.write_bytes(KEY)
    return path


def gone(path: pathlib.Path, data: bytes = KEY, cause: str = "") -> None:
    with pytest.raises(KeyFileError) as caught:
        lease.consume(str(path), data)
    assert (caught.value.code, caught.value.object) == ("not_found", str(path))
    assert cause in caught.value.cause
    assert "AAAA" not in str(caught.value)


def test_copy_is_taken_away_once(copy: pathlib.Path) -> None:
    lease.consume(str(copy), KEY)
    assert not copy.exists()
    gone(copy, cause="No such file")


def test_link_leads_to_the_name_that_is_taken_away(copy: pathlib.Path) -> None:
    link = copy.with_name("link")
    link.symlink_to(copy)
    lease.consume(str(link), KEY)
    assert not copy.exists()
    gone(link)


def test_copy_with_two_names_is_not_used(copy: pathlib.Path) -> None:
    os.link(copy, copy.with_name("other"))
    gone(copy, cause="another one besides")
    assert copy.exists()


@pytest.mark.parametrize("data", [KEY[:-1], KEY + b"x", b"", KEY.replace(b"A", b"B")])
def test_file_that_was_exchanged_is_left(data: bytes, copy: pathlib.Path) -> None:
    gone(copy, data, "exchanged")
    assert copy.read_bytes() == KEY


def test_file_that_is_exchanged_at_the_last_moment_is_told(copy: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = os.unlink

    def unlink(path: t.Any, **options: t.Any) -> None:
        os.rename(copy, copy.with_name("elsewhere"))
        copy.write_bytes(b"another")
        genuine(path, **options)

    monkeypatch.setattr(os, "unlink", unlink)
    gone(copy, cause="another file had its name")


def test_copy_that_cannot_be_taken_away_is_not_used(copy: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unlink(path: t.Any) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "unlink", unlink)
    gone(copy, cause="Permission denied")
    assert stat.S_ISREG(copy.stat().st_mode)
