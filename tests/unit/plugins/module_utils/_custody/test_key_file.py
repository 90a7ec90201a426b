# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of making a private key file, and public files beside it, present or absent."""

from __future__ import annotations

import errno
import os
import pathlib
import stat
import threading
import time
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._custody import key_file, public_file
from ansible_collections.hallmark.signing.plugins.module_utils._custody.key_file import KeyFile, Wanted
from ansible_collections.hallmark.signing.plugins.module_utils._custody.private_file import Attributes, PrivateFolder
from ansible_collections.hallmark.signing.plugins.module_utils._errors import CustodyError, HallmarkError, KeyFileError
from ansible_collections.hallmark.signing.plugins.module_utils._keys import private_key
from ansible_collections.hallmark.signing.plugins.module_utils._keys.fingerprint import key_id
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._custody import custody_bench as bench

PASSPHRASE = b"canary passphrase"
PRIVATE = Attributes(0o600)
PLAIN = Wanted("pem", None, PRIVATE)
ENCRYPTED = Wanted("pem", PASSPHRASE, PRIVATE)
COSIGN = Wanted("cosign", PASSPHRASE, PRIVATE)
Hides = t.Callable[..., None]


def wanted(former: Wanted = PLAIN, **more: t.Any) -> Wanted:
    return Wanted(**{**vars(former), **more})


def ensure(path: pathlib.Path, key: t.Any, wish: Wanted = PLAIN, *, dry_run: bool = False) -> KeyFile:
    return key_file.ensure_present(str(path), wish, lambda: key, dry_run=dry_run)


def keep(path: pathlib.Path, wish: Wanted = PLAIN, *, dry_run: bool = False) -> KeyFile:
    def never() -> t.Any:
        raise AssertionError("a key was made although there is one")

    return key_file.ensure_present(str(path), wish, never, dry_run=dry_run)


def id_of(key: t.Any) -> str:
    return key_id(key.public_key())


def refused(kind: type[HallmarkError], code: str, action: t.Callable[[], t.Any]) -> HallmarkError:
    with pytest.raises(kind) as caught:
        action()
    assert caught.value.code == code
    return caught.value


def mode_of(path: pathlib.Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# A key that shall be there -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wish", [PLAIN, ENCRYPTED, COSIGN], ids=["plain", "encrypted", "cosign"])
def test_new_key_is_written_in_its_shape(wish: Wanted, home: pathlib.Path, p256: t.Any) -> None:
    made = ensure(home / "sub" / "key", p256, wish)
    data = (home / "sub" / "key").read_bytes()
    found = private_key.read_private_key(data, passphrase=wish.passphrase, where="key")
    encrypted = wish.passphrase is not None
    assert (found.public.key_id, found.format, found.encrypted) == (id_of(p256), wish.format, encrypted)
    assert (made.changed, made.former_mode, made.mode) == (True, None, "0600")
    assert made.public is not None
    assert made.public.der == found.public.der
    assert made.before() == {}
    assert made.facts() == {
        "key_id": id_of(p256), "algorithm": "ecdsa-p256", "format": wish.format, "encrypted": encrypted, "mode": "0600",
    }
    assert mode_of(home / "sub") == 0o700
    assert bench.private_files(home / "sub") == {"key": (0o600, data)}


@pytest.mark.parametrize("wish", [PLAIN, ENCRYPTED, COSIGN], ids=["plain", "encrypted", "cosign"])
def test_second_run_changes_nothing(wish: Wanted, home: pathlib.Path, p256: t.Any) -> None:
    first = ensure(home / "key", p256, wish)
    before = (home / "key").stat(), (home / "key").read_bytes()
    for dry_run in (False, True):
        again = keep(home / "key", wish, dry_run=dry_run)
        assert not again.changed
        assert again.facts() == again.before() == first.facts()
    after = (home / "key").stat(), (home / "key").read_bytes()
    assert (after[0].st_ino, after[0].st_ctime_ns, after[1]) == (before[0].st_ino, before[0].st_ctime_ns, before[1])


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640, 0o440])
def test_new_key_has_its_mode(mode: int, home: pathlib.Path, p256: t.Any) -> None:
    made = ensure(home / "key", p256, wanted(attributes=Attributes(mode)))
    assert (mode_of(home / "key"), made.mode) == (mode, f"0{mode:o}")


def test_attributes_of_an_existing_key_converge(home: pathlib.Path, p256: t.Any) -> None:
    ensure(home / "key", p256)
    (home / "key").chmod(0o644)
    data = (home / "key").read_bytes()
    planned = keep(home / "key", dry_run=True)
    assert (planned.changed, mode_of(home / "key")) == (True, 0o644)
    done = keep(home / "key")
    assert bench.comparable(done) == bench.comparable(planned)
    assert (done.before()["mode"], done.facts()["mode"], mode_of(home / "key")) == ("0644", "0600", 0o600)
    assert {**done.before(), "mode": ""} == {**done.facts(), "mode": ""}
    assert (home / "key").read_bytes() == data


# The facts have no owner, so that a new one is a change without a difference.
@bench.needs_root
def test_change_of_owner_is_a_change(home: pathlib.Path, p256: t.Any) -> None:
    ensure(home / "key", p256)
    done = keep(home / "key", wanted(attributes=Attributes(0o600, bench.FOREIGN)))
    assert (done.changed, (home / "key").stat().st_uid) == (True, bench.FOREIGN)
    assert done.before() == done.facts()


@pytest.mark.parametrize(
    ("there", "asked"),
    [
        (PLAIN, wanted(algorithm="ecdsa-p384")), (PLAIN, wanted(algorithm="rsa-2048")), (ENCRYPTED, COSIGN),
        (COSIGN, ENCRYPTED), (PLAIN, ENCRYPTED), (PLAIN, COSIGN),
    ],
)
def test_key_in_another_shape_is_refused(there: Wanted, asked: Wanted, home: pathlib.Path, p256: t.Any) -> None:
    ensure(home / "key", p256, there)
    (home / "key").chmod(0o644)
    before = bench.private_files(home)
    for dry_run in (False, True):
        error = refused(KeyFileError, "key_mismatch", lambda dry=dry_run: keep(home / "key", asked, dry_run=dry))
        assert error.object == str(home / "key")
        assert f"it is ecdsa-p256 in format {there.format}" in error.cause
        assert f"asked for is {asked.algorithm or 'ecdsa-p256'} in format {asked.format}" in error.cause
    assert bench.private_files(home) == before


def test_error_about_another_shape_says_whether_it_is_encrypted(home: pathlib.Path, p256: t.Any) -> None:
    ensure(home / "key", p256)
    error = refused(KeyFileError, "key_mismatch", lambda: keep(home / "key", ENCRYPTED))
    assert error.cause == (
        "it is ecdsa-p256 in format pem, not encrypted, asked for is ecdsa-p256 in format pem, encrypted"
    )


@pytest.mark.parametrize("asked", ["ecdsa-p256", None])
def test_algorithm_that_is_there_is_accepted(asked: str | None, home: pathlib.Path, p256: t.Any) -> None:
    ensure(home / "key", p256)
    assert not keep(home / "key", wanted(algorithm=asked)).changed


def test_key_with_another_id_is_refused(home: pathlib.Path, p256: t.Any, other_p256: t.Any) -> None:
    ensure(home / "key", p256, wanted(key_id=id_of(p256)))
    before = bench.private_files(home)
    for dry_run in (False, True):
        refused(KeyFileError, "key_mismatch", lambda dry=dry_run: ensure(
            home / "key", other_p256, wanted(key_id=id_of(other_p256)), dry_run=dry
        ))
    assert bench.private_files(home) == before
    assert not keep(home / "key", wanted(key_id=id_of(p256))).changed


@pytest.mark.parametrize("dry_run", [False, True])
def test_new_key_with_another_id_is_not_written(
    dry_run: bool, home: pathlib.Path, p256: t.Any, other_p256: t.Any
) -> None:
    refused(KeyFileError, "key_mismatch", lambda: ensure(
        home / "key", p256, wanted(key_id=id_of(other_p256)), dry_run=dry_run
    ))
    assert os.listdir(home) == []


@pytest.mark.parametrize("data", [b"", b"canary: no key at all", b"-----BEGIN PRIVATE KEY-----\ncanary\n"])
def test_what_is_no_key_is_never_touched(data: bytes, home: pathlib.Path, p256: t.Any, assert_hides: Hides) -> None:
    (home / "key").write_bytes(data)
    (home / "key").chmod(0o644)
    for dry_run in (False, True):
        error = refused(
            CustodyError, "destination_occupied", lambda dry=dry_run: ensure(home / "key", p256, dry_run=dry)
        )
        assert "something else is there: " in error.cause
        assert_hides(error, b"canary")
    assert bench.private_files(home) == {"key": (0o644, data)}


def test_public_half_is_no_private_key(home: pathlib.Path, p256: t.Any, public_pem: t.Callable[..., bytes]) -> None:
    (home / "key").write_bytes(public_pem(p256))
    error = refused(CustodyError, "destination_occupied", lambda: ensure(home / "key", p256))
    assert "not a private key" in error.cause
    assert (home / "key").read_bytes() == public_pem(p256)


@pytest.mark.parametrize("passphrase", [None, b"canary of a wrong passphrase"])
@pytest.mark.parametrize("there", [ENCRYPTED, COSIGN], ids=["pem", "cosign"])
def test_wrong_passphrase_is_told_and_not_shown(
    there: Wanted, passphrase: bytes | None, home: pathlib.Path, p256: t.Any, assert_hides: Hides
) -> None:
    ensure(home / "key", p256, there)
    before = bench.private_files(home)
    error = refused(
        KeyFileError, "passphrase_invalid", lambda: keep(home / "key", wanted(there, passphrase=passphrase))
    )
    assert_hides(error, PASSPHRASE, passphrase or PASSPHRASE, before["key"][1])
    assert bench.private_files(home) == before


@pytest.mark.parametrize(
    "wish", [wanted(passphrase=b"canary7"), wanted(passphrase=b""), Wanted("cosign", None, PRIVATE)],
    ids=["short", "empty", "cosign without"],
)
@pytest.mark.parametrize("dry_run", [False, True])
def test_passphrase_of_a_new_key_is_checked_before_anything_is_written(
    wish: Wanted, dry_run: bool, home: pathlib.Path, p256: t.Any, assert_hides: Hides
) -> None:
    error = refused(KeyFileError, "passphrase_invalid", lambda: ensure(home / "key", p256, wish, dry_run=dry_run))
    assert_hides(error, b"canary7", bench.key_pem(p256))
    assert os.listdir(home) == []


@pytest.mark.parametrize(
    ("wish", "code"),
    [
        (wanted(passphrase=b"short"), "passphrase_invalid"), (Wanted("cosign", None, PRIVATE), "passphrase_invalid"),
        (wanted(key_id="0" * 64), "key_mismatch"), (wanted(key_id="no key id"), "input_invalid"),
    ],
    ids=["short passphrase", "cosign without passphrase", "key id of another key", "malformed key id"],
)
def test_check_mode_refuses_what_the_run_refuses(wish: Wanted, code: str, home: pathlib.Path, p256: t.Any) -> None:
    refused(KeyFileError, code, lambda: ensure(home / "key", p256, wish))
    refused(KeyFileError, code, lambda: ensure(home / "key", None, wish, dry_run=True))


@pytest.mark.parametrize("wish", [wanted(passphrase=b"short"), wanted(key_id="0" * 64)])
def test_refused_key_leaves_no_folders(wish: Wanted, home: pathlib.Path, p256: t.Any) -> None:
    with pytest.raises(KeyFileError):
        ensure(home / "new" / "key", p256, wish)
    assert os.listdir(home) == []


@pytest.mark.parametrize("folder", ["", "new/deeper"])
def test_dry_run_makes_nothing(folder: str, home: pathlib.Path, p256: t.Any) -> None:
    planned = ensure(home / folder / "key", p256, dry_run=True)
    assert (planned.changed, planned.before()) == (True, {})
    assert planned.facts()["key_id"] == id_of(p256)
    assert os.listdir(home) == []
    assert bench.comparable(ensure(home / folder / "key", p256)) == bench.comparable(planned)


@pytest.mark.parametrize("folder", ["", "new/deeper"])
def test_dry_run_knows_no_key_that_is_yet_to_be_made(folder: str, home: pathlib.Path) -> None:
    planned = ensure(home / folder / "key", None, ENCRYPTED, dry_run=True)
    assert (planned.changed, planned.public, planned.former_mode) == (True, None, None)
    assert planned.facts() == {
        "key_id": None, "algorithm": None, "format": "pem", "encrypted": True, "mode": "0600",
    }
    assert os.listdir(home) == []


def test_dry_run_looks_at_the_place(home: pathlib.Path, p256: t.Any) -> None:
    home.chmod(0o770)
    refused(CustodyError, "destination_unsafe", lambda: ensure(home / "key", p256, dry_run=True))
    home.chmod(0o700)
    (home / "key").symlink_to("elsewhere")
    refused(CustodyError, "destination_unsafe", lambda: ensure(home / "key", p256, dry_run=True))


def test_leftover_is_removed_by_a_run_and_kept_by_a_dry_run(home: pathlib.Path, p256: t.Any) -> None:
    leftover = home / ".key.hallmark-new"
    ensure(home / "key", p256)
    leftover.write_bytes(b"half a key")
    keep(home / "key", dry_run=True)
    assert leftover.exists()
    keep(home / "key")
    assert not leftover.exists()


def test_key_that_appears_meanwhile_is_not_overwritten(home: pathlib.Path, p256: t.Any) -> None:
    def make() -> t.Any:
        (home / "key").write_bytes(b"of somebody else")
        return p256

    refused(CustodyError, "destination_occupied", lambda: key_file.ensure_present(
        str(home / "key"), PLAIN, make, dry_run=False
    ))
    assert bench.private_files(home)["key"][1] == b"of somebody else"
    assert os.listdir(home) == ["key"]


def test_results_show_no_private_byte(home: pathlib.Path, p256: t.Any) -> None:
    for made in (ensure(home / "key", p256, ENCRYPTED), keep(home / "key", ENCRYPTED)):
        shown = f"{made!r} {made.facts()!r} {made.before()!r}"
        assert "canary" not in shown
        assert f"{p256.private_numbers().private_value:x}" not in shown
        for line in bench.key_pem(p256).decode().splitlines()[1:-1]:
            assert line not in shown


def test_wish_shows_no_passphrase() -> None:
    assert "canary" not in repr(ENCRYPTED)


# Killed and competing writers ----------------------------------------------------------------------------------------


def test_killed_write_leaves_nothing_or_the_whole_key(home: pathlib.Path, p256: t.Any) -> None:
    data = bench.key_pem(p256)
    path = home / "a" / "b" / "key"
    outcomes = set()
    for death in bench.deaths(lambda: ensure(path, p256).changed):
        left = bench.private_files(path.parent) if path.parent.is_dir() else {}
        assert left.get("key", (0o600, data)) == (0o600, data), death
        assert set(left) <= {"key", ".key.hallmark-new"}, death
        assert all(mode == 0o600 for mode, _data in left.values()), death
        outcomes.add(tuple(sorted(left)))
        again = ensure(path, p256)
        assert again.public is not None, death
        assert bench.private_files(path.parent) == {"key": (0o600, data)}, death
        assert not keep(path).changed, death
        path.unlink()
        path.parent.rmdir()
        path.parent.parent.rmdir()
    # Each state was met: nothing, a temporary file, both, and the key alone.
    assert outcomes == {(), (".key.hallmark-new",), (".key.hallmark-new", "key"), ("key",)}


def test_killed_change_of_mode_is_never_wider_than_before_or_wanted(home: pathlib.Path, p256: t.Any) -> None:
    ensure(home / "key", p256)
    for before, after in ((0o644, 0o440), (0o400, 0o640)):
        wish = wanted(attributes=Attributes(after))
        (home / "key").chmod(before)
        for death in bench.deaths(lambda wish=wish: keep(home / "key", wish).changed):
            assert mode_of(home / "key") in {before, before & after, after}, death
            assert keep(home / "key", wish).public is not None, death
            assert mode_of(home / "key") == after, death
            (home / "key").chmod(before)


def test_killed_removal_leaves_all_or_nothing(home: pathlib.Path, p256: t.Any) -> None:
    ensure(home / "key", p256)
    for death in bench.deaths(lambda: _remove(home / "key", p256)):
        assert set(os.listdir(home)) <= {"key"}, death
        assert not (home / "key").exists() or (home / "key").read_bytes() == bench.key_pem(p256), death
        ensure(home / "key", p256)


def test_killed_replacement_leaves_the_old_or_the_new_file(home: pathlib.Path) -> None:
    for death in bench.deaths(lambda: public(home / "pub", b"new")):
        left = bench.private_files(home)
        assert left.get("pub", (0o644, b"old")) in ((0o644, b"old"), (0o644, b"new")), death
        public(home / "pub", b"new")
        assert bench.private_files(home) == {"pub": (0o644, b"new")}, death
        (home / "pub").write_bytes(b"old")


@pytest.fixture
def between(home: pathlib.Path, p256: t.Any) -> pathlib.Path:
    """A key whose writer was killed when the file had both names."""
    ensure(home / "key", p256)
    os.link(home / "key", home / ".key.hallmark-new")
    return home / "key"


def test_run_mends_a_file_with_both_names(between: pathlib.Path) -> None:
    assert not keep(between).changed
    assert os.listdir(between.parent) == ["key"]


def test_absent_mends_a_file_with_both_names(between: pathlib.Path, p256: t.Any) -> None:
    assert _remove(between, p256)
    assert os.listdir(between.parent) == []


def test_public_file_with_both_names_is_mended(home: pathlib.Path) -> None:
    public(home / "pub", b"same")
    os.link(home / "pub", home / ".pub.hallmark-new")
    assert not public(home / "pub", b"same")
    assert os.listdir(home) == ["pub"]


# The next three: a file that has its temporary name as its second one is whole, and ours.
def test_dry_run_accepts_a_file_with_both_names(between: pathlib.Path) -> None:
    assert not keep(between, dry_run=True).changed


def test_dry_run_of_absent_accepts_a_file_with_both_names(between: pathlib.Path, p256: t.Any) -> None:
    assert _remove(between, p256, dry_run=True)


@pytest.mark.parametrize("kind", ["both names", "half written"])
def test_public_file_is_removed_after_a_kill(kind: str, home: pathlib.Path) -> None:
    public(home / "pub", b"ours")
    if kind == "both names":
        os.link(home / "pub", home / ".pub.hallmark-new")
    else:
        (home / ".pub.hallmark-new").write_bytes(b"ou")
    assert public_file.remove_public_file(str(home / "pub"), is_ours=lambda data: data == b"ours", dry_run=False)
    assert os.listdir(home) == []


# inspect() looks without the lock that create() holds, and sees the file while it has both names.
def test_writer_that_looks_while_another_one_writes_waits_or_keeps(
    home: pathlib.Path, p256: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    linked, looked = threading.Event(), threading.Event()
    unlink, sweep = os.unlink, PrivateFolder.sweep
    first = threading.Thread(target=ensure, args=(home / "key", p256))

    def slow_unlink(path: t.Any, **where: t.Any) -> None:
        if threading.current_thread() is first and (home / "key").exists():
            linked.set()
            looked.wait(0.5)
        unlink(path, **where)

    def then_wait(folder: PrivateFolder, name: str) -> None:
        sweep(folder, name)
        if threading.current_thread() is not first:
            first.start()
            linked.wait(5)

    monkeypatch.setattr(os, "unlink", slow_unlink)
    monkeypatch.setattr(PrivateFolder, "sweep", then_wait)
    try:
        second = ensure(home / "key", p256)
    except CustodyError as exc:
        if exc.code != "destination_occupied":
            raise
    else:
        assert not second.changed
    finally:
        looked.set()
        first.join()


@pytest.mark.parametrize("writers", [2, 5])
def test_of_competing_writers_one_makes_the_key(
    writers: int, home: pathlib.Path, p256: t.Any, other_p256: t.Any, p384: t.Any
) -> None:
    keys = [p256, other_p256, p384]

    def attempt(number: int) -> str:
        while not (home / "go").exists():
            time.sleep(0.0005)
        try:
            made = ensure(home / "new" / "key", keys[number % 3])
        except CustodyError as exc:
            return exc.code
        return f"{'made' if made.changed else 'kept'} {made.facts()['key_id']}"

    for _round in range(4):
        waits = [bench.in_child(lambda number=number: attempt(number)) for number in range(writers)]
        (home / "go").touch()
        answers = [wait() for wait in waits]
        data = (home / "new" / "key").read_bytes()
        there = private_key.read_private_key(data, passphrase=None, where="key").public.key_id
        assert bench.private_files(home / "new") == {"key": (0o600, data)}
        assert answers.count(f"made {there}") == 1
        assert set(answers) <= {f"made {there}", f"kept {there}", "destination_occupied"}
        (home / "new" / "key").unlink()
        (home / "new").rmdir()
        (home / "go").unlink()


# A key that shall not be there ---------------------------------------------------------------------------------------


def _remove(path: pathlib.Path, key: t.Any, *, dry_run: bool = False, passphrase: bytes | None = None) -> bool:
    return key_file.ensure_absent(str(path), key_id=id_of(key), passphrase=passphrase, dry_run=dry_run)


@pytest.mark.parametrize("wish", [PLAIN, ENCRYPTED, COSIGN], ids=["plain", "encrypted", "cosign"])
def test_key_is_removed(wish: Wanted, home: pathlib.Path, p256: t.Any) -> None:
    ensure(home / "key", p256, wish)
    assert _remove(home / "key", p256, passphrase=wish.passphrase, dry_run=True)
    assert os.listdir(home) == ["key"]
    assert _remove(home / "key", p256, passphrase=wish.passphrase)
    assert os.listdir(home) == []
    for dry_run in (False, True):
        assert not _remove(home / "key", p256, passphrase=wish.passphrase, dry_run=dry_run)


def test_key_in_a_missing_folder_is_absent(home: pathlib.Path, p256: t.Any) -> None:
    for dry_run in (False, True):
        assert not _remove(home / "no" / "such" / "key", p256, dry_run=dry_run)
    assert os.listdir(home) == []


def test_another_key_is_not_removed(home: pathlib.Path, p256: t.Any, other_p256: t.Any) -> None:
    ensure(home / "key", p256)
    for dry_run in (False, True):
        refused(KeyFileError, "key_mismatch", lambda dry=dry_run: _remove(home / "key", other_p256, dry_run=dry))
    assert os.listdir(home) == ["key"]


@pytest.mark.parametrize("passphrase", [None, b"canary of a wrong passphrase"])
def test_encrypted_key_with_an_id_is_removed_with_its_passphrase_only(
    passphrase: bytes | None, home: pathlib.Path, p256: t.Any, assert_hides: Hides
) -> None:
    ensure(home / "key", p256, ENCRYPTED)
    error = refused(
        KeyFileError, "passphrase_invalid", lambda: _remove(home / "key", p256, passphrase=passphrase)
    )
    assert_hides(error, PASSPHRASE, b"canary of a wrong passphrase")
    assert os.listdir(home) == ["key"]


@pytest.mark.parametrize("wish", [PLAIN, ENCRYPTED, COSIGN], ids=["plain", "encrypted", "cosign"])
def test_any_key_is_removed_without_an_id(wish: Wanted, home: pathlib.Path, p256: t.Any) -> None:
    ensure(home / "key", p256, wish)
    assert key_file.ensure_absent(str(home / "key"), key_id=None, passphrase=None, dry_run=False)
    assert os.listdir(home) == []


@pytest.mark.parametrize("expected", [None, "0" * 64])
def test_what_is_no_key_is_not_removed(
    expected: str | None, home: pathlib.Path, p256: t.Any, public_pem: t.Callable[..., bytes]
) -> None:
    for data in (b"", b"precious", public_pem(p256), bench.key_pem(p256) * 2):
        (home / "key").write_bytes(data)
        for dry_run in (False, True):
            refused(KeyFileError, "malformed", lambda dry=dry_run: key_file.ensure_absent(
                str(home / "key"), key_id=expected, passphrase=None, dry_run=dry
            ))
        assert (home / "key").read_bytes() == data


def test_link_is_not_removed(home: pathlib.Path, p256: t.Any) -> None:
    ensure(home / "real", p256)
    (home / "key").symlink_to("real")
    refused(CustodyError, "destination_unsafe", lambda: _remove(home / "key", p256))
    assert sorted(os.listdir(home)) == ["key", "real"]


def test_key_in_an_unsafe_folder_is_not_removed(home: pathlib.Path, p256: t.Any) -> None:
    ensure(home / "key", p256)
    home.chmod(0o770)
    refused(CustodyError, "destination_unsafe", lambda: _remove(home / "key", p256))
    assert os.listdir(home) == ["key"]


def test_leftover_of_a_missing_key_is_removed(home: pathlib.Path, p256: t.Any) -> None:
    leftover = home / ".key.hallmark-new"
    leftover.write_bytes(b"half a key")
    assert not _remove(home / "key", p256, dry_run=True)
    assert leftover.exists()
    assert not _remove(home / "key", p256)
    assert not leftover.exists()


# Public files --------------------------------------------------------------------------------------------------------


def public(
    path: pathlib.Path, data: bytes, *, former: t.Callable[[bytes], bool] = lambda data: data == b"old",
    dry_run: bool = False,
) -> bool:
    return public_file.ensure_public_file(str(path), data, is_former=former, dry_run=dry_run)


@pytest.mark.parametrize("folder", ["", "new/deeper"])
def test_public_file_is_made_for_all_to_read(folder: str, home: pathlib.Path) -> None:
    former = os.umask(0o077)
    try:
        assert public(home / folder / "pub", b"new", dry_run=True)
        assert os.listdir(home) == []
        assert public(home / folder / "pub", b"new")
    finally:
        os.umask(former)
    assert bench.private_files(home / folder) == {"pub": (0o644, b"new")}
    for dry_run in (False, True):
        assert not public(home / folder / "pub", b"new", dry_run=dry_run)


def test_mode_of_a_public_file_converges(home: pathlib.Path) -> None:
    public(home / "pub", b"new")
    for mode in (0o600, 0o666, 0o755):
        (home / "pub").chmod(mode)
        assert public(home / "pub", b"new", dry_run=True)
        assert mode_of(home / "pub") == mode
        assert public(home / "pub", b"new")
        assert mode_of(home / "pub") == 0o644


def test_older_state_of_a_public_file_is_replaced(home: pathlib.Path) -> None:
    (home / "pub").write_bytes(b"old")
    (home / "pub").chmod(0o600)
    assert public(home / "pub", b"new", dry_run=True)
    assert bench.private_files(home) == {"pub": (0o600, b"old")}
    assert public(home / "pub", b"new")
    assert bench.private_files(home) == {"pub": (0o644, b"new")}


@pytest.mark.parametrize("dry_run", [False, True])
def test_other_file_is_not_replaced(dry_run: bool, home: pathlib.Path) -> None:
    (home / "pub").write_bytes(b"of another key")
    error = refused(
        CustodyError, "destination_occupied", lambda: public(home / "pub", b"new", dry_run=dry_run)
    )
    assert (error.object, error.attempt) == (str(home / "pub"), "write the public file")
    assert (home / "pub").read_bytes() == b"of another key"


def test_leftover_of_a_public_file_is_removed(home: pathlib.Path) -> None:
    public(home / "pub", b"new")
    (home / ".pub.hallmark-new").write_bytes(b"half")
    public(home / "pub", b"new", dry_run=True)
    assert (home / ".pub.hallmark-new").exists()
    public(home / "pub", b"new")
    assert os.listdir(home) == ["pub"]


@pytest.mark.parametrize("dry_run", [False, True])
def test_public_file_is_removed_if_it_is_ours(dry_run: bool, home: pathlib.Path) -> None:
    def remove(path: pathlib.Path) -> bool:
        return public_file.remove_public_file(str(path), is_ours=lambda data: data == b"ours", dry_run=dry_run)

    assert not remove(home / "pub")
    assert not remove(home / "no" / "such" / "pub")
    (home / "pub").write_bytes(b"of another key")
    error = refused(CustodyError, "destination_occupied", lambda: remove(home / "pub"))
    assert (error.object, error.attempt) == (str(home / "pub"), "remove the public file")
    assert (home / "pub").read_bytes() == b"of another key"
    (home / "pub").write_bytes(b"ours")
    assert remove(home / "pub")
    assert os.listdir(home) == (["pub"] if dry_run else [])


@pytest.mark.parametrize("work", ["present", "public", "absent", "not public"])
def test_relative_path_starts_at_the_working_folder(
    work: str, home: pathlib.Path, p256: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    path = pathlib.Path("name")
    ensure(path, p256) if work in ("present", "absent") else public(path, b"ours")
    assert (home / "name").exists()
    if work == "absent":
        assert _remove(path, p256)
    if work == "not public":
        assert public_file.remove_public_file("name", is_ours=lambda _data: True, dry_run=False)
    assert (home / "name").exists() is (work in ("present", "public"))


def test_full_disk_leaves_no_key(
    home: pathlib.Path, p256: t.Any, monkeypatch: pytest.MonkeyPatch, assert_hides: Hides
) -> None:
    def full(_fd: int, _data: t.Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    error = refused(CustodyError, "write_failed", lambda: ensure(home / "key", p256))
    assert_hides(error, bench.key_pem(p256))
    assert os.listdir(home) == []
