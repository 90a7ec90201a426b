# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of files that nobody else may read, change or redirect."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import grp
import os
import pathlib
import pwd
import shutil
import socket
import stat
import subprocess
import threading
import time
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._custody import private_file
from ansible_collections.hallmark.signing.plugins.module_utils._custody.private_file import (
    Attributes,
    Found,
    PrivateFolder,
)
from ansible_collections.hallmark.signing.plugins.module_utils._errors import CustodyError
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._custody import custody_bench as bench
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._custody.custody_bench import (
    FOREIGN,
    needs_root,
)

SECRET = b"canary-of-a-private-key\n" * 40
PRIVATE = Attributes(0o600)
Patch = pytest.MonkeyPatch
Umask = t.Callable[[int], int]


@contextlib.contextmanager
def parent(path: t.Any, *, create: bool = True) -> t.Iterator[tuple[PrivateFolder, str]]:
    with private_file.open_parent(str(path), create=create) as (folder, name):
        assert folder is not None
        yield folder, name


def write(path: t.Any, data: bytes = SECRET, wanted: Attributes = PRIVATE) -> None:
    with parent(path) as (folder, name):
        folder.create(name, data, wanted)


def look(path: t.Any) -> Found | None:
    with parent(path, create=False) as (folder, name):
        return folder.inspect(name)


def refused(
    code: str, action: t.Callable[[], t.Any], *, cause: str = "", object: pathlib.Path | None = None
) -> CustodyError:
    with pytest.raises(CustodyError) as caught:
        action()
    error = caught.value
    assert error.code == code
    assert cause in error.cause
    if object is not None:
        assert error.object == str(object)
    for text in (str(error), repr(error), str(error.__cause__), repr(error.as_reason())):
        assert "canary" not in text
    return error


def mode_of(path: pathlib.Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def spy(monkeypatch: Patch, *names: str, after: t.Callable[[str], None] | None = None) -> list[t.Any]:
    """Note each call of these functions of os as (name, arguments)."""
    calls: list[t.Any] = []

    def wrap(name: str, genuine: t.Callable[..., t.Any]) -> t.Callable[..., t.Any]:
        def call(*args: t.Any, **kwargs: t.Any) -> t.Any:
            calls.append((name, args))
            result = genuine(*args, **kwargs)
            if after is not None:
                after(name)
            return result

        return call

    for name in names:
        monkeypatch.setattr(os, name, wrap(name, getattr(os, name)))
    return calls


def fail(
    monkeypatch: Patch, name: str, error: BaseException, when: t.Callable[..., bool] = lambda *_args: True
) -> None:
    """Let a function of os fail, for those arguments."""
    genuine = getattr(os, name)

    def call(*args: t.Any, **kwargs: t.Any) -> t.Any:
        if when(*args):
            raise error
        return genuine(*args, **kwargs)

    monkeypatch.setattr(os, name, call)


def before_opening(monkeypatch: Patch, name: str, work: t.Callable[[], None]) -> None:
    """Do something right before a file of that name is opened."""
    genuine = os.open

    def call(path: t.Any, *args: t.Any, **kwargs: t.Any) -> int:
        if path == name:
            work()
        return genuine(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", call)


def is_folder(fd: int, *_more: t.Any) -> bool:
    return stat.S_ISDIR(os.fstat(fd).st_mode)


def is_file(fd: int, *_more: t.Any) -> bool:
    return not is_folder(fd)


def is_creation(_path: t.Any, flags: int, *_more: t.Any) -> bool:
    return bool(flags & os.O_CREAT)


# Attributes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "bits"),
    [("0600", 0o600), ("600", 0o600), ("0400", 0o400), ("400", 0o400), ("0640", 0o640), ("0440", 0o440)],
)
def test_mode_is_octal_text(text: str, bits: int) -> None:
    assert private_file.attributes(mode=text) == Attributes(bits, None, None)
    assert private_file.mode_text(bits) == f"0{text[-3:]}"


@pytest.mark.parametrize(
    "text",
    ["", "0", "60", "00600", "1600", "4600", "0o600", "0600\n", " 0600", "-600", "u=rw", "0x180", "0680", "٠٦٠٠"],
)
def test_mode_of_another_shape_is_refused(text: str) -> None:
    error = refused("input_invalid", lambda: private_file.attributes(mode=text), cause="is not octal")
    assert error.object == "mode"
    assert '"0600"' in error.advice


@pytest.mark.parametrize("text", ["0700", "0500", "0660", "0620", "0610", "0650", "0644", "0604", "0602", "0601"])
def test_mode_that_lets_others_in_is_refused(text: str) -> None:
    refused("input_invalid", lambda: private_file.attributes(mode=text), cause="lets others in")


@pytest.mark.parametrize("text", ["0000", "0200", "0240", "0040"])
def test_mode_that_keeps_the_owner_out_is_refused(text: str) -> None:
    refused("input_invalid", lambda: private_file.attributes(mode=text), cause="or its owner out")


# YAML reads an unquoted 0600 as the number 384: none of the modes that can be asked for survives that.
@pytest.mark.parametrize("meant", [0o600, 0o400, 0o640, 0o440])
def test_mode_without_quotes_is_refused(meant: int) -> None:
    refused("input_invalid", lambda: private_file.attributes(mode=str(meant)))


def test_owner_and_group_are_names_or_numbers() -> None:
    user, group = pwd.getpwall()[-1], grp.getgrall()[-1]
    assert private_file.attributes(mode="0600", owner=user.pw_name, group=group.gr_name) == Attributes(
        0o600, user.pw_uid, group.gr_gid
    )
    assert private_file.attributes(mode="0600", owner="1234", group="5678") == Attributes(0o600, 1234, 5678)
    assert private_file.attributes(mode="0600", owner="0", group="0") == Attributes(0o600, 0, 0)


@pytest.mark.parametrize("option", ["owner", "group"])
@pytest.mark.parametrize("name", ["", "no-such-name", "-1", "1.5"])
def test_unknown_name_is_refused(option: str, name: str) -> None:
    error = refused("input_invalid", lambda: private_file.attributes(mode="0600", **{option: name}))
    assert error.object == option
    assert repr(name) in error.cause


# int() takes no "²" although str.isdigit() does; 2**32-1 is -1 for chown(2), which then does nothing; and larger
# numbers would end in an OverflowError when the file is already on its way.
@pytest.mark.parametrize("option", ["owner", "group"])
@pytest.mark.parametrize("number", ["²", "4294967295", "99999999999999999999"])
def test_number_that_is_no_id_is_refused(option: str, number: str) -> None:
    refused("input_invalid", lambda: private_file.attributes(mode="0600", **{option: number}))


# Creating ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640, 0o440, 0o644])
@pytest.mark.parametrize("mask", [0, 0o022, 0o777])
def test_file_has_its_bytes_and_mode_whatever_the_umask(
    mode: int, mask: int, home: pathlib.Path, umask: Umask
) -> None:
    umask(mask)
    write(home / "key", wanted=Attributes(mode))
    assert mode_of(home / "key") == mode
    found = look(home / "key")
    assert found is not None
    assert (found.data, found.mode) == (SECRET, f"0{mode:o}")
    assert found.attributes == Attributes(mode, os.geteuid(), os.getegid())
    assert os.listdir(home) == ["key"]


def test_empty_file_can_be_written(home: pathlib.Path) -> None:
    write(home / "key", b"")
    assert (home / "key").read_bytes() == b""


@needs_root
@pytest.mark.parametrize(
    ("wanted", "owner"),
    [
        (Attributes(0o400, FOREIGN, 54321), (FOREIGN, 54321)),
        (Attributes(0o400, FOREIGN), (FOREIGN, 0)),
        (Attributes(0o400, None, 54321), (0, 54321)),
    ],
)
def test_file_has_its_owner(wanted: Attributes, owner: tuple[int, int], home: pathlib.Path) -> None:
    write(home / "key", wanted=wanted)
    status = (home / "key").stat()
    assert (status.st_uid, status.st_gid, mode_of(home / "key")) == (*owner, 0o400)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640, 0o440])
@pytest.mark.parametrize("work", ["create", "replace"])
def test_temporary_file_has_its_attributes_before_its_first_byte(
    mode: int, work: str, home: pathlib.Path, monkeypatch: Patch, umask: Umask
) -> None:
    umask(0)
    uid, gid = (FOREIGN, 54321) if bench.IS_ROOT else (os.geteuid(), os.getegid())
    seen: list[t.Any] = []
    genuine = os.write

    def spying(fd: int, data: t.Any) -> int:
        status = os.fstat(fd)
        name = os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))
        seen.append((name, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_size))
        return genuine(fd, data)

    monkeypatch.setattr(os, "write", spying)
    with parent(home / "key") as (folder, name):
        getattr(folder, work)(name, SECRET, Attributes(mode, uid, gid))
    assert seen == [(".key.hallmark-new", mode, uid, gid, 0)]


def test_temporary_file_is_never_open_to_others(home: pathlib.Path, monkeypatch: Patch, umask: Umask) -> None:
    umask(0)
    seen: set[int] = set()

    def note(_name: str) -> None:
        seen.update(mode_of(entry) for entry in home.iterdir())

    spy(monkeypatch, "open", "fchown", "fchmod", "write", after=note)
    write(home / "key", wanted=Attributes(0o400, os.geteuid()))
    assert seen == {0o600, 0o400}


def test_temporary_file_is_created_anew_and_never_followed(home: pathlib.Path, monkeypatch: Patch) -> None:
    calls = spy(monkeypatch, "open")
    write(home / "key")
    flags = [arguments[1] for _name, arguments in calls if arguments[0] == ".key.hallmark-new"]
    wanted = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_WRONLY
    assert [flag & wanted for flag in flags] == [wanted]


@pytest.mark.parametrize("work", ["create", "replace"])
def test_short_writes_are_continued(work: str, home: pathlib.Path, monkeypatch: Patch) -> None:
    genuine = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: genuine(fd, bytes(data)[:7]))
    with parent(home / "key") as (folder, name):
        getattr(folder, work)(name, SECRET, PRIVATE)
    assert (home / "key").read_bytes() == SECRET


@pytest.mark.parametrize("work", ["create", "replace"])
def test_final_name_only_ever_shows_the_whole_file(
    work: str, home: pathlib.Path, monkeypatch: Patch, umask: Umask
) -> None:
    umask(0)
    former = {(0o644, 3)} if work == "replace" else set()
    if former:
        write(home / "key", b"old", Attributes(0o644))
    seen = set()
    genuine = os.lstat

    def note(_name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            status = genuine(str(home / "key"))
            seen.add((stat.S_IMODE(status.st_mode), status.st_size))

    spy(monkeypatch, *bench.CALLS, after=note)
    with parent(home / "key") as (folder, name):
        getattr(folder, work)(name, SECRET, Attributes(0o440))
    assert seen == {(0o440, len(SECRET))} | former


def test_watcher_never_sees_another_mode(home: pathlib.Path, umask: Umask) -> None:
    umask(0)

    def watch() -> set[tuple[str, int, int]]:
        seen = set()
        (home.parent / "ready").touch()
        while not (home.parent / "stop").exists():
            for name in ("key", ".key.hallmark-new"):
                with contextlib.suppress(FileNotFoundError):
                    status = os.stat(home / name, follow_symlinks=False)
                    seen.add((name, stat.S_IMODE(status.st_mode), status.st_size))
        return seen

    watched = bench.in_child(watch)
    try:
        while not (home.parent / "ready").exists():
            time.sleep(0.001)
        for _round in range(150):
            with parent(home / "key") as (folder, name):
                folder.create(name, SECRET, Attributes(0o440))
                folder.remove(name)
    finally:
        (home.parent / "stop").touch()
        seen = watched()
    assert {entry for entry in seen if entry[0] == "key"} == {("key", 0o440, len(SECRET))}
    temporary = {entry[1:] for entry in seen if entry[0] != "key"}
    # Empty with 0600 after open(2), then empty or whole with its final mode.
    assert temporary <= {(0o600, 0), (0o440, 0), (0o440, len(SECRET))}


@pytest.mark.parametrize("work", ["create", "replace"])
def test_bytes_are_on_the_medium_before_the_name_and_the_name_before_the_end(
    work: str, home: pathlib.Path, monkeypatch: Patch
) -> None:
    calls = spy(monkeypatch, "write", "fsync", "link", "rename", "read")
    kinds: list[str] = []
    genuine = os.fsync

    def kind(fd: int) -> None:
        kinds.append("folder" if is_folder(fd) else "file")
        genuine(fd)

    monkeypatch.setattr(os, "fsync", kind)
    with parent(home / "key") as (folder, name):
        getattr(folder, work)(name, SECRET, PRIVATE)
    naming = "link" if work == "create" else "rename"
    order = [name for name, _arguments in calls]
    assert order[:4] == ["write", "fsync", naming, "fsync"]
    assert order[4:] == ["read", "read"]
    assert kinds == ["file", "folder"]


def test_removal_is_on_the_medium(home: pathlib.Path, monkeypatch: Patch) -> None:
    write(home / "key")
    calls = spy(monkeypatch, "unlink", "fsync")
    with parent(home / "key") as (folder, name):
        folder.remove(name)
    assert [name for name, _arguments in calls] == ["unlink", "fsync"]
    assert os.listdir(home) == []


def test_missing_file_cannot_be_removed(home: pathlib.Path) -> None:
    with parent(home / "key") as (folder, name):
        error = refused("write_failed", lambda: folder.remove(name), object=home / "key")
    assert error.attempt == "remove it"


def test_representation_has_no_bytes() -> None:
    assert "canary" not in repr(Found(SECRET, PRIVATE))
    assert "0600" in Found(SECRET, PRIVATE).mode


# What is at the destination ------------------------------------------------------------------------------------------


def plant(kind: str, path: pathlib.Path, elsewhere: pathlib.Path, monkeypatch: Patch) -> None:
    elsewhere.write_bytes(b"elsewhere")
    if kind == "symbolic link":
        path.symlink_to(elsewhere)
    elif kind == "dangling link":
        path.symlink_to(path.parent / "nowhere")
    elif kind == "hard link":
        os.link(elsewhere, path)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        monkeypatch.chdir(path.parent)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
    elif kind == "device":
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))


KINDS = [
    "symbolic link", "dangling link", "hard link", "pipe", "folder", "socket", pytest.param("device", marks=needs_root),
]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_plain_file_is_refused(kind: str, home: pathlib.Path, monkeypatch: Patch) -> None:
    plant(kind, home / "key", home.parent / "elsewhere", monkeypatch)
    causes = {"symbolic link": "symbolic link", "dangling link": "symbolic link", "hard link": "second name"}
    refused(
        "destination_unsafe", lambda: look(home / "key"), cause=causes.get(kind, "not a regular file"),
        object=home / "key",
    )


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_plain_file_is_never_opened(kind: str, home: pathlib.Path, monkeypatch: Patch) -> None:
    plant(kind, home / "key", home.parent / "elsewhere", monkeypatch)
    calls = spy(monkeypatch, "open")
    refused("destination_unsafe", lambda: look(home / "key"))
    assert "key" not in [os.path.basename(arguments[0]) for _name, arguments in calls]


@pytest.mark.parametrize("kind", [*KINDS, "file"])
def test_nothing_is_ever_overwritten(kind: str, home: pathlib.Path, monkeypatch: Patch) -> None:
    plant(kind, home / "key", home.parent / "elsewhere", monkeypatch)
    if kind == "file":
        (home / "key").write_bytes(b"former")
    before = (home / "key").lstat()
    error = refused("destination_occupied", lambda: write(home / "key"), object=home / "key")
    assert error.attempt == "write it"
    after = (home / "key").lstat()
    assert (after.st_ino, after.st_mode, after.st_nlink) == (before.st_ino, before.st_mode, before.st_nlink)
    assert (home.parent / "elsewhere").read_bytes() == b"elsewhere"
    assert os.listdir(home) == ["key"]
    if kind == "file":
        assert (home / "key").read_bytes() == b"former"


def test_missing_file_is_none(home: pathlib.Path) -> None:
    assert look(home / "key") is None


@pytest.mark.parametrize(
    ("size", "fits"), [(0, True), (private_file.MAX_SIZE, True), (private_file.MAX_SIZE + 1, False)]
)
def test_file_is_read_up_to_its_limit(size: int, fits: bool, home: pathlib.Path, monkeypatch: Patch) -> None:
    (home / "key").write_bytes(bytes(size))
    genuine = os.read
    monkeypatch.setattr(os, "read", lambda fd, length: genuine(fd, min(length, 300_000)))
    if fits:
        found = look(home / "key")
        assert found is not None
        assert len(found.data) == size
    else:
        refused("destination_unsafe", lambda: look(home / "key"), cause="larger than 1 MiB", object=home / "key")


def test_endless_file_is_not_read_to_its_end(home: pathlib.Path) -> None:
    with open(home / "key", "wb") as stream:
        stream.truncate(1 << 40)
    refused("destination_unsafe", lambda: look(home / "key"), cause="larger than 1 MiB")


@pytest.mark.parametrize("kind", ["symbolic link", "pipe", "hard link"])
def test_file_that_is_exchanged_while_it_is_looked_at_is_refused(
    kind: str, home: pathlib.Path, monkeypatch: Patch
) -> None:
    write(home / "key")

    def exchange() -> None:
        # Moved, not removed: its inode number could be given to the other file.
        (home / "key").rename(home.parent / "former")
        plant(kind, home / "key", home.parent / "elsewhere", monkeypatch)

    before_opening(monkeypatch, "key", exchange)
    with pytest.raises(CustodyError) as caught:
        look(home / "key")
    assert caught.value.code == ("write_failed" if kind == "symbolic link" else "destination_unsafe")
    assert caught.value.object == str(home / "key")


# The number of an inode may be used again at once, so that another file can have the number of the one looked at.
def test_file_that_gets_a_second_name_while_it_is_looked_at_is_refused(
    home: pathlib.Path, monkeypatch: Patch
) -> None:
    write(home / "key")
    before_opening(monkeypatch, "key", lambda: os.link(home / "key", home.parent / "other"))
    refused("destination_unsafe", lambda: look(home / "key"), object=home / "key")


# The other way round it is a writer of ours that has just finished, between the look at the file and its opening.
def test_file_that_loses_its_temporary_name_while_it_is_looked_at_is_read(
    home: pathlib.Path, monkeypatch: Patch
) -> None:
    write(home / "key")
    os.link(home / "key", home / ".key.hallmark-new")
    before_opening(monkeypatch, "key", (home / ".key.hallmark-new").unlink)
    found = look(home / "key")
    assert found is not None
    assert found.data == SECRET


def test_file_that_cannot_be_read_is_an_error(home: pathlib.Path, monkeypatch: Patch) -> None:
    write(home / "key")
    fail(monkeypatch, "open", PermissionError(errno.EACCES, "Permission denied"), lambda path, *_args: path == "key")
    error = refused("write_failed", lambda: look(home / "key"), cause="Permission denied", object=home / "key")
    assert error.attempt == "look at it"


# The way there -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["", "/", "key/", "..", "sub/..", "../key", "sub/../key", "/../key", "a/../../key"])
def test_path_without_a_name_or_with_two_dots_is_refused(path: str, home: pathlib.Path, monkeypatch: Patch) -> None:
    (home / "sub").mkdir(mode=0o700)
    monkeypatch.chdir(home)
    error = refused("input_invalid", lambda: write(path))
    assert (error.object, os.listdir(home)) == (path, ["sub"])


@pytest.mark.parametrize("path", ["key", "./key", "sub/key", "sub//./key", "sub/..key"])
def test_relative_path_starts_at_the_working_folder(path: str, home: pathlib.Path, monkeypatch: Patch) -> None:
    monkeypatch.chdir(home)
    write(path)
    assert (home / path).read_bytes() == SECRET


def test_folder_says_where_it_is(home: pathlib.Path) -> None:
    with parent(home / "key") as (folder, name):
        assert (folder.path, name) == (str(home), "key")


def test_missing_folders_are_made_for_the_owner_only(home: pathlib.Path, umask: Umask) -> None:
    umask(0)
    with parent(home / "a" / "b" / "c" / "key"):
        pass
    assert [mode_of(home / path) for path in ("a", "a/b", "a/b/c")] == [0o700] * 3


# Without it a key that was reported may be gone after a power failure, together with its folder.
def test_missing_folders_are_made_durably(home: pathlib.Path, monkeypatch: Patch) -> None:
    calls = spy(monkeypatch, "fsync")
    with parent(home / "a" / "b" / "c" / "key"):
        pass
    assert len(calls) == 3


def test_missing_folder_is_none_and_not_made_without_create(home: pathlib.Path) -> None:
    with private_file.open_parent(str(home / "a" / "b" / "key"), create=False) as (folder, name):
        assert (folder, name) == (None, "key")
    assert os.listdir(home) == []


def test_folder_that_another_writer_makes_first_is_used(home: pathlib.Path, monkeypatch: Patch) -> None:
    genuine = os.mkdir

    def slower(*args: t.Any, **kwargs: t.Any) -> None:
        genuine(*args, **kwargs)
        raise FileExistsError(errno.EEXIST, "File exists")

    monkeypatch.setattr(os, "mkdir", slower)
    write(home / "a" / "key")
    assert (home / "a" / "key").read_bytes() == SECRET


def test_folder_that_another_writer_makes_first_is_checked(
    home: pathlib.Path, monkeypatch: Patch, umask: Umask
) -> None:
    umask(0)
    genuine = os.mkdir

    def other(path: t.Any, _mode: int, **kwargs: t.Any) -> None:
        genuine(path, 0o777, **kwargs)
        raise FileExistsError(errno.EEXIST, "File exists")

    monkeypatch.setattr(os, "mkdir", other)
    refused("destination_unsafe", lambda: write(home / "a" / "key"), object=home / "a")
    assert os.listdir(home / "a") == []


@pytest.mark.parametrize(
    ("name", "when", "attempt"),
    [("mkdir", lambda *_args: True, "make the folder"), ("open", lambda path, *_args: path == "a", "enter the folder")],
)
def test_folder_that_cannot_be_made_or_entered_is_an_error(
    name: str, when: t.Callable[..., bool], attempt: str, home: pathlib.Path, monkeypatch: Patch
) -> None:
    fail(monkeypatch, name, OSError(errno.ENOSPC, "No space left on device"), when)
    error = refused("write_failed", lambda: write(home / "a" / "key"), cause="No space left", object=home / "a")
    assert error.attempt == attempt


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o750, 0o711, 0o500, 0o2755, 0o1755])
def test_folder_that_nobody_else_can_write_is_trusted(mode: int, home: pathlib.Path) -> None:
    home.chmod(mode)
    with parent(home / "key") as (folder, name):
        assert folder.inspect(name) is None
    home.chmod(0o700)


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o720, 0o770, 0o775, 0o702, 0o1702, 0o2770])
def test_folder_that_others_can_write_is_refused(mode: int, home: pathlib.Path) -> None:
    home.chmod(mode)
    refused(
        "destination_unsafe", lambda: write(home / "key"), cause="written by its group or others", object=home
    )
    assert os.listdir(home) == []


@pytest.mark.parametrize("mode", [0o777, 0o702, 0o757, 0o772])
def test_ancestor_that_others_can_write_is_refused(mode: int, home: pathlib.Path) -> None:
    (home / "sub").mkdir(mode=0o700)
    home.chmod(mode)
    error = refused("destination_unsafe", lambda: write(home / "sub" / "key"), object=home)
    assert str(home / "sub") in error.cause
    assert os.listdir(home / "sub") == []


@pytest.mark.parametrize("mode", [0o1777, 0o1770, 0o1722])
def test_sticky_ancestor_is_accepted_before_a_trusted_folder(mode: int, home: pathlib.Path) -> None:
    (home / "sub").mkdir(mode=0o700)
    home.chmod(mode)
    write(home / "sub" / "key")
    write(home / "new" / "key")
    assert mode_of(home / "new") == 0o700


@needs_root
@pytest.mark.parametrize("linked", [False, True])
def test_sticky_ancestor_is_refused_before_what_another_user_owns(linked: bool, home: pathlib.Path) -> None:
    (home.parent / "real").mkdir(mode=0o700)
    if linked:
        (home / "sub").symlink_to(home.parent / "real")
    else:
        (home / "sub" / "deeper").mkdir(parents=True, mode=0o700)
    os.chown(home / "sub", FOREIGN, FOREIGN, follow_symlinks=False)
    home.chmod(0o1777)
    path = home / "sub" / ("key" if linked else "deeper/key")
    refused("destination_unsafe", lambda: write(path), cause="written by others", object=home)


@needs_root
def test_folder_of_another_user_is_refused(home: pathlib.Path) -> None:
    os.chown(home, FOREIGN, FOREIGN)
    refused("destination_unsafe", lambda: write(home / "key"), cause="belongs to another user", object=home)
    assert os.listdir(home) == []


# The contract only speaks of ancestors that "others" can write. Whoever owns one of these, or is in its group, can put
# another folder of root in the place of the right one, but cannot read what is written into it.
@pytest.mark.parametrize("mode", [0o720, 0o770, 0o2775])
def test_ancestor_that_its_group_can_write_is_accepted(mode: int, home: pathlib.Path) -> None:
    (home / "sub").mkdir(mode=0o700)
    home.chmod(mode)
    write(home / "sub" / "key")
    assert (home / "sub" / "key").exists()


@needs_root
def test_ancestor_of_another_user_is_accepted(home: pathlib.Path) -> None:
    (home / "sub").mkdir(mode=0o700)
    os.chown(home, FOREIGN, FOREIGN)
    write(home / "sub" / "key")
    assert (home / "sub" / "key").exists()


@needs_root
@pytest.mark.parametrize(("user", "trusted"), [(FOREIGN, True), (54321, False)])
def test_folder_is_trusted_by_its_owner_only(
    user: int, trusted: bool, home: pathlib.Path, monkeypatch: Patch
) -> None:
    os.chown(home, FOREIGN, FOREIGN)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    if trusted:
        assert look(home / "key") is None
    else:
        refused("destination_unsafe", lambda: look(home / "key"), object=home)


@pytest.mark.skipif(bench.IS_ROOT, reason="what belongs to root is trusted by everybody")
def test_own_folder_is_not_trusted_by_another_user(home: pathlib.Path, monkeypatch: Patch) -> None:
    own = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: own + 1)
    refused("destination_unsafe", lambda: look(home / "key"))


@pytest.mark.parametrize("target", ["{home}/real", "real", "./real", "{home}//real/.", "other"])
def test_own_symbolic_link_on_the_way_is_followed(target: str, home: pathlib.Path) -> None:
    (home / "real" / "sub").mkdir(parents=True, mode=0o700)
    (home / "other").symlink_to("real")
    (home / "link").symlink_to(target.format(home=home))
    write(home / "link" / "sub" / "key")
    assert (home / "real" / "sub" / "key").read_bytes() == SECRET


@needs_root
def test_symbolic_link_of_another_user_is_refused(home: pathlib.Path) -> None:
    (home / "real").mkdir(mode=0o700)
    (home / "link").symlink_to("real")
    os.chown(home / "link", FOREIGN, FOREIGN, follow_symlinks=False)
    refused(
        "destination_unsafe", lambda: write(home / "link" / "key"), cause="symbolic link of another user",
        object=home / "link",
    )
    assert os.listdir(home / "real") == []


def test_folders_behind_a_symbolic_link_are_checked(home: pathlib.Path) -> None:
    (home / "open" / "sub").mkdir(parents=True, mode=0o700)
    (home / "open").chmod(0o777)
    (home / "link").symlink_to("open/sub")
    refused("destination_unsafe", lambda: write(home / "link" / "key"), object=home / "open")


@pytest.mark.parametrize("target", ["..", "../home/real", "{home}/../home/real", "real/.."])
def test_symbolic_link_with_two_dots_is_refused(target: str, home: pathlib.Path) -> None:
    (home / "real").mkdir(mode=0o700)
    (home / "link").symlink_to(target.format(home=home))
    refused("destination_unsafe", lambda: write(home / "link" / "key"), cause="with '..'", object=home / "link")


@pytest.mark.parametrize(("links", "good"), [(16, True), (17, False)])
def test_symbolic_links_are_counted(links: int, good: bool, home: pathlib.Path) -> None:
    (home / "0").mkdir(mode=0o700)
    for number in range(links):
        (home / str(number + 1)).symlink_to(str(number))
    if good:
        write(home / str(links) / "key")
        assert (home / "0" / "key").exists()
    else:
        refused("destination_unsafe", lambda: write(home / str(links) / "key"), cause="too many symbolic links")


def test_symbolic_link_to_itself_is_refused(home: pathlib.Path) -> None:
    (home / "link").symlink_to("link")
    refused("destination_unsafe", lambda: write(home / "link" / "key"), cause="too many symbolic links")


def test_file_on_the_way_is_refused(home: pathlib.Path) -> None:
    (home / "file").write_bytes(b"")
    for path in ("file/key", "file/sub/key"):
        refused("destination_unsafe", lambda path=path: write(home / path), cause="not a folder", object=home / "file")


@pytest.mark.parametrize("kind", ["symbolic link", "pipe"])
def test_folder_that_is_exchanged_on_the_way_is_not_entered(kind: str, home: pathlib.Path, monkeypatch: Patch) -> None:
    (home / "sub").mkdir(mode=0o700)
    (home.parent / "evil").mkdir(mode=0o777)
    genuine = os.open

    def exchange(path: t.Any, *args: t.Any, **kwargs: t.Any) -> int:
        if path == "sub":
            (home / "sub").rmdir()
            if kind == "pipe":
                os.mkfifo(home / "sub")
            else:
                (home / "sub").symlink_to(home.parent / "evil")
        return genuine(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", exchange)
    refused("write_failed", lambda: write(home / "sub" / "key"), object=home / "sub")
    assert os.listdir(home.parent / "evil") == []


def test_folder_that_is_exchanged_later_does_not_redirect(home: pathlib.Path) -> None:
    (home / "sub").mkdir(mode=0o700)
    (home / "evil").mkdir(mode=0o700)
    with parent(home / "sub" / "key") as (folder, name):
        (home / "sub").rename(home / "moved")
        (home / "sub").symlink_to("evil")
        folder.create(name, SECRET, PRIVATE)
        folder.replace(name, b"more", PRIVATE)
        found = folder.inspect(name)
        assert found is not None
        folder.converge(name, found, Attributes(0o400), dry_run=False)
        folder.sweep(name)
    assert os.listdir(home / "evil") == []
    assert bench.private_files(home / "moved") == {"key": (0o400, b"more")}


# Making a folder before looking at where it is made would leave something behind where nothing should be, and check
# mode, which makes nothing, would not find out at all.
def test_nothing_is_made_in_a_folder_that_is_refused(home: pathlib.Path) -> None:
    home.chmod(0o777)
    refused("destination_unsafe", lambda: write(home / "new" / "key"), object=home)
    assert os.listdir(home) == []


def test_unsafe_folder_above_a_missing_one_is_refused_in_check_mode(home: pathlib.Path) -> None:
    home.chmod(0o777)
    refused("destination_unsafe", lambda: look(home / "new" / "key"), object=home)


@pytest.mark.parametrize("mode", [0o770, 0o1777])
def test_folder_is_made_where_one_that_is_there_would_do(mode: int, home: pathlib.Path) -> None:
    home.chmod(mode)
    with private_file.open_parent(str(home / "new" / "key"), create=False) as (folder, _file):
        assert folder is None
    write(home / "new" / "key")
    assert (mode_of(home / "new"), mode_of(home / "new" / "key")) == (0o700, 0o600)


def test_ordinary_user_can_use_what_is_its_own() -> None:
    with bench.folder_of_ordinary_user() as folder:
        bench.as_ordinary_user(lambda: write(folder / "sub" / "key"))
        assert bench.private_files(folder / "sub") == {"key": (0o600, SECRET)}


@pytest.mark.skipif(os.stat("/").st_uid != 0, reason="the root folder does not belong to root")
def test_ordinary_user_cannot_give_the_file_away() -> None:
    with bench.folder_of_ordinary_user() as folder:
        code = bench.as_ordinary_user(
            lambda: refused("write_failed", lambda: write(folder / "key", wanted=Attributes(0o600, 0))).code
        )
        assert (code, os.listdir(folder)) == ("write_failed", [])


# An ancestor need not be readable for it to be walked through.
@needs_root
def test_ordinary_user_can_walk_through_a_folder_it_cannot_list() -> None:
    with bench.folder_of_ordinary_user() as folder:
        (folder / "own").mkdir(mode=0o700)
        os.chown(folder / "own", FOREIGN, FOREIGN)
        os.chown(folder, 0, 0)
        folder.chmod(0o711)
        bench.as_ordinary_user(lambda: write(folder / "own" / "key"))


# Failures ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "when"),
    [("open", is_creation), ("fchown", is_file), ("fchmod", is_file), ("write", is_file), ("fsync", is_file),
     ("link", lambda *_args: True)],
)
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), OSError(errno.EIO, "I/O error")])
def test_failed_write_leaves_nothing(
    name: str, when: t.Callable[..., bool], error: OSError, home: pathlib.Path, monkeypatch: Patch
) -> None:
    fail(monkeypatch, name, error, when)
    caught = refused(
        "write_failed", lambda: write(home / "key", wanted=Attributes(0o600, os.geteuid())), cause=error.strerror,
        object=home / "key",
    )
    assert (caught.attempt, caught.__cause__, os.listdir(home)) == ("write it", error, [])


@pytest.mark.parametrize(
    ("name", "when"),
    [("open", is_creation), ("fchmod", is_file), ("write", is_file), ("fsync", is_file),
     ("rename", lambda *_args: True)],
)
def test_failed_replacement_leaves_the_former_file(
    name: str, when: t.Callable[..., bool], home: pathlib.Path, monkeypatch: Patch
) -> None:
    write(home / "key", b"former", Attributes(0o644))
    fail(monkeypatch, name, OSError(errno.ENOSPC, "No space left on device"), when)
    with parent(home / "key") as (folder, key):
        error = refused("write_failed", lambda: folder.replace(key, SECRET, PRIVATE), object=home / "key")
    assert (error.attempt, bench.private_files(home)) == ("replace it", {"key": (0o644, b"former")})


def test_error_without_text_is_named_by_its_class(home: pathlib.Path, monkeypatch: Patch) -> None:
    fail(monkeypatch, "link", OSError())
    refused("write_failed", lambda: write(home / "key"), cause="OSError")


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, MemoryError])
def test_interruption_leaves_nothing(
    interruption: type[BaseException], home: pathlib.Path, monkeypatch: Patch
) -> None:
    fail(monkeypatch, "write", interruption())
    with pytest.raises(interruption):
        write(home / "key")
    assert os.listdir(home) == []


@pytest.mark.parametrize("options", ["size=16k", "nr_inodes=1"])
def test_full_file_system_leaves_nothing(options: str, home: pathlib.Path) -> None:
    mount = shutil.which("mount")
    if not bench.IS_ROOT or mount is None:
        pytest.skip("only root can mount a small file system; test_failed_write_leaves_nothing shows the same")
    command = [mount, "-t", "tmpfs", "-o", f"{options},mode=700", "tmpfs", str(home)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here; test_failed_write_leaves_nothing shows the same")
    try:
        refused("write_failed", lambda: write(home / "key", bytes(100_000)), cause="No space left")
        left = os.listdir(home)
    finally:
        subprocess.run(["umount", str(home)], check=True)
    assert left == []


@pytest.mark.parametrize(("name", "when"), [("unlink", lambda path, *_args: "new" in path), ("fsync", is_folder)])
def test_failure_after_the_name_is_there_leaves_a_whole_file(
    name: str, when: t.Callable[..., bool], home: pathlib.Path, monkeypatch: Patch
) -> None:
    armed = [False]
    spy(monkeypatch, "link", after=lambda _name: armed.append(True))
    fail(monkeypatch, name, OSError(errno.EIO, "I/O error"), lambda *args: armed[-1] and when(*args))
    refused("write_failed", lambda: write(home / "key"))
    monkeypatch.undo()
    with parent(home / "key") as (folder, key):
        folder.sweep(key)
        found = folder.inspect(key)
    assert found is not None
    assert found.data == SECRET
    assert os.listdir(home) == ["key"]


def tamper(kind: str, path: pathlib.Path) -> None:
    if kind == "content":
        path.write_bytes(b"x" * len(SECRET))
    elif kind == "shorter":
        path.write_bytes(SECRET[:-1])
    elif kind == "mode":
        path.chmod(0o644)
    elif kind == "gone":
        path.unlink()
    elif kind == "owner":
        os.chown(path, 54321, -1)
    elif kind == "group":
        os.chown(path, -1, 54321)


@pytest.mark.parametrize(
    "kind", ["content", "shorter", "mode", "gone", pytest.param("owner", marks=needs_root),
             pytest.param("group", marks=needs_root)],
)
@pytest.mark.parametrize("work", ["create", "replace"])
def test_what_is_read_back_must_be_what_was_written(
    kind: str, work: str, home: pathlib.Path, monkeypatch: Patch
) -> None:
    genuine = os.fsync

    def tampering(fd: int) -> None:
        genuine(fd)
        if is_folder(fd):
            tamper(kind, home / "key")

    monkeypatch.setattr(os, "fsync", tampering)
    wanted = Attributes(0o600, os.geteuid(), os.getegid())
    with parent(home / "key") as (folder, name):
        error = refused("write_failed", lambda: getattr(folder, work)(name, SECRET, wanted), object=home / "key")
    assert "reading it back" in error.cause


# None of these may come out as a bare OSError, which ends a module in a traceback.
LONG = "k" * 250


def _read_only(monkeypatch: Patch, _home: pathlib.Path) -> None:
    fail(monkeypatch, "unlink", OSError(errno.EROFS, "Read-only file system"))


def _leftover_on_read_only(monkeypatch: Patch, home: pathlib.Path) -> None:
    (home / ".key.hallmark-new").write_bytes(b"half")
    _read_only(monkeypatch, home)


def _locks_refused(monkeypatch: Patch, _home: pathlib.Path) -> None:
    def refuse(*_args: t.Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)


def _unreadable(monkeypatch: Patch, home: pathlib.Path) -> None:
    write(home / "key")
    fail(monkeypatch, "read", OSError(errno.EIO, "I/O error"))


def _folder_in_the_way(_monkeypatch: Patch, home: pathlib.Path) -> None:
    (home / ".key.hallmark-new").mkdir()


def test_error_while_reading_is_told(home: pathlib.Path, monkeypatch: Patch) -> None:
    _unreadable(monkeypatch, home)
    refused("write_failed", lambda: look(home / "key"), cause="I/O error", object=home / "key")


@pytest.mark.parametrize("name", ["k" * 300, "k" * 300 + "/key"])
def test_name_that_is_too_long_is_told(name: str, home: pathlib.Path) -> None:
    refused("write_failed", lambda: look(home / name), cause="too long")


# A file system that is read only refuses unlink(2) even of what is not there.
def test_nothing_to_sweep_needs_no_right_to_write(home: pathlib.Path, monkeypatch: Patch) -> None:
    _read_only(monkeypatch, home)
    with parent(home / "key") as (folder, name):
        folder.sweep(name)


@pytest.mark.parametrize(
    ("name", "arrange"),
    [
        ("key", _leftover_on_read_only), ("key", _locks_refused), ("key", _folder_in_the_way),
        (LONG, lambda *_args: None),
    ],
    ids=["read only", "no locks", "folder as temporary", "long"],
)
def test_error_while_sweeping_is_told(
    name: str, arrange: t.Callable[..., None], home: pathlib.Path, monkeypatch: Patch
) -> None:
    arrange(monkeypatch, home)
    with parent(home / name) as (folder, below):
        refused("write_failed", lambda: folder.sweep(below), object=home / name)


@needs_root
def test_ordinary_user_is_told_of_a_folder_it_cannot_search() -> None:
    with bench.folder_of_ordinary_user() as folder:
        (folder / "own").mkdir(mode=0o700)
        os.chown(folder, 0, 0)
        folder.chmod(0o744)
        bench.as_ordinary_user(lambda: refused("write_failed", lambda: write(folder / "own" / "key")).code)


def test_null_character_in_a_path_is_refused(home: pathlib.Path) -> None:
    refused("input_invalid", lambda: write(f"{home}/k\0ey"))


# Converging ----------------------------------------------------------------------------------------------------------


def converge(path: pathlib.Path, wanted: Attributes, *, dry_run: bool = False) -> bool:
    with parent(path) as (folder, name):
        found = folder.inspect(name)
        assert found is not None
        return folder.converge(name, found, wanted, dry_run=dry_run)


@pytest.mark.parametrize("wanted", [Attributes(0o600), Attributes(0o600, os.geteuid(), os.getegid())])
def test_what_fits_is_left_alone(wanted: Attributes, home: pathlib.Path, monkeypatch: Patch) -> None:
    write(home / "key")
    calls = spy(monkeypatch, "fchmod", "fchown")
    assert not converge(home / "key", wanted)
    assert calls == []


@pytest.mark.parametrize(
    ("before", "wanted", "modes"),
    [
        (0o644, 0o600, [0o600, 0o600]), (0o400, 0o640, [0o400, 0o640]), (0o640, 0o400, [0o400, 0o400]),
        (0o666, 0o440, [0o440, 0o440]), (0o040, 0o600, [0o000, 0o600]), (0o4755, 0o600, [0o600, 0o600]),
    ],
)
def test_mode_is_narrowed_first_and_widened_last(
    before: int, wanted: int, modes: list[int], home: pathlib.Path, monkeypatch: Patch
) -> None:
    write(home / "key")
    with parent(home / "key") as (folder, name):
        found = folder.inspect(name)
        assert found is not None
        (home / "key").chmod(before)
        status = Found(found.data, Attributes(before, found.attributes.uid, found.attributes.gid))
        genuine = os.open
        # Ordinary users cannot open a file of mode 0040, so that the descriptor is made before.
        (home / "key").chmod(0o600)
        monkeypatch.setattr(os, "open", lambda *args, **kwargs: _opened(genuine(*args, **kwargs), home / "key", before))
        calls = spy(monkeypatch, "fchmod", "fchown")
        assert folder.converge(name, status, Attributes(wanted, os.geteuid(), os.getegid()), dry_run=False)
    assert [name for name, _arguments in calls] == ["fchmod", "fchown", "fchmod"]
    assert [arguments[1] for name, arguments in calls if name == "fchmod"] == modes
    assert mode_of(home / "key") == wanted


def _opened(fd: int, path: pathlib.Path, mode: int) -> int:
    path.chmod(mode)
    return fd


@needs_root
@pytest.mark.parametrize(
    ("wanted", "owner"),
    [
        (Attributes(0o600, FOREIGN, 54321), (FOREIGN, 54321)), (Attributes(0o600, FOREIGN), (FOREIGN, 0)),
        (Attributes(0o600, None, 54321), (0, 54321)), (Attributes(0o400, FOREIGN), (FOREIGN, 0)),
    ],
)
def test_owner_and_group_converge(wanted: Attributes, owner: tuple[int, int], home: pathlib.Path) -> None:
    write(home / "key")
    assert converge(home / "key", wanted, dry_run=True)
    status = (home / "key").stat()
    assert (status.st_uid, status.st_gid, mode_of(home / "key")) == (0, 0, 0o600)
    assert converge(home / "key", wanted)
    status = (home / "key").stat()
    assert (status.st_uid, status.st_gid, mode_of(home / "key")) == (*owner, wanted.mode)
    assert not converge(home / "key", wanted)
    assert (home / "key").read_bytes() == SECRET


def test_dry_run_changes_no_mode(home: pathlib.Path) -> None:
    write(home / "key", wanted=Attributes(0o644))
    assert converge(home / "key", PRIVATE, dry_run=True)
    assert mode_of(home / "key") == 0o644
    assert converge(home / "key", PRIVATE)
    assert not converge(home / "key", PRIVATE, dry_run=True)


def test_attributes_that_cannot_be_set_are_an_error(home: pathlib.Path, monkeypatch: Patch) -> None:
    write(home / "key", wanted=Attributes(0o640))
    fail(monkeypatch, "fchown", PermissionError(errno.EPERM, "Operation not permitted"))
    error = refused(
        "write_failed", lambda: converge(home / "key", Attributes(0o600, os.geteuid())), object=home / "key"
    )
    assert error.attempt == "set owner, group and mode"
    assert mode_of(home / "key") == 0o600


def test_attributes_of_the_target_of_a_new_link_are_left_alone(home: pathlib.Path) -> None:
    write(home / "key", wanted=Attributes(0o640))
    (home / "other").write_bytes(b"")
    (home / "other").chmod(0o644)
    with parent(home / "key") as (folder, name):
        found = folder.inspect(name)
        assert found is not None
        (home / "key").unlink()
        (home / "key").symlink_to("other")
        refused("write_failed", lambda: folder.converge(name, found, PRIVATE, dry_run=False))
    assert mode_of(home / "other") == 0o644


# Leftovers and competitors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("work", ["sweep", "create", "replace"])
@pytest.mark.parametrize("kind", ["file", "symbolic link", "dangling link", "hard link", "pipe"])
def test_leftover_is_removed_whatever_it_is(work: str, kind: str, home: pathlib.Path, monkeypatch: Patch) -> None:
    leftover = home / ".key.hallmark-new"
    plant(kind, leftover, home.parent / "elsewhere", monkeypatch)
    if kind == "file":
        leftover.write_bytes(b"half a ke")
    (home / ".other.hallmark-new").write_bytes(b"of another name")
    with parent(home / "key") as (folder, name):
        if work == "sweep":
            folder.sweep(name)
        else:
            getattr(folder, work)(name, SECRET, PRIVATE)
    assert not os.path.lexists(leftover)
    assert (home.parent / "elsewhere").read_bytes() == b"elsewhere"
    assert (home / ".other.hallmark-new").exists()


def test_sweep_is_content_without_leftover(home: pathlib.Path) -> None:
    with parent(home / "key") as (folder, name):
        folder.sweep(name)
        folder.sweep(name)
    assert os.listdir(home) == []


@pytest.mark.parametrize("work", ["create", "replace", "sweep"])
def test_writer_waits_for_another_one(work: str, home: pathlib.Path) -> None:
    (home / ".key.hallmark-new").write_bytes(b"being written by the other one")

    def run() -> None:
        with parent(home / "key") as (folder, name):
            getattr(folder, work)(*((name,) if work == "sweep" else (name, SECRET, PRIVATE)))

    other = os.open(home, os.O_RDONLY)
    try:
        fcntl.flock(other, fcntl.LOCK_EX)
        thread = threading.Thread(target=run)
        thread.start()
        thread.join(0.1)
        assert thread.is_alive()
        assert (home / ".key.hallmark-new").read_bytes() == b"being written by the other one"
        fcntl.flock(other, fcntl.LOCK_UN)
        thread.join(120)
        assert not thread.is_alive()
    finally:
        os.close(other)
    assert not (home / ".key.hallmark-new").exists()


@pytest.mark.parametrize("work", ["create", "replace", "sweep", "failing"])
def test_folder_is_free_again_after_each_write(work: str, home: pathlib.Path, monkeypatch: Patch) -> None:
    other = os.open(home, os.O_RDONLY)
    try:
        with parent(home / "key") as (folder, name):
            if work == "failing":
                fail(monkeypatch, "link", OSError(errno.EIO, "I/O error"))
                refused("write_failed", lambda: folder.create(name, SECRET, PRIVATE))
            else:
                getattr(folder, work)(*((name,) if work == "sweep" else (name, SECRET, PRIVATE)))
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(other)


def test_only_one_of_many_writers_wins(home: pathlib.Path) -> None:
    def attempt(number: int) -> str:
        while not (home.parent / "go").exists():
            time.sleep(0.0005)
        try:
            write(home / "key", b"%d" % number * 5000)
        except CustodyError as exc:
            return exc.code
        return f"won by {number}"

    waits = [bench.in_child(lambda number=number: attempt(number)) for number in range(1, 7)]
    (home.parent / "go").touch()
    answers = sorted(wait() for wait in waits)
    assert answers[:-1] == ["destination_occupied"] * 5
    winner = int(answers[-1].rpartition(" ")[2])
    assert bench.private_files(home) == {"key": (0o600, b"%d" % winner * 5000)}


# What a killed writer leaves -----------------------------------------------------------------------------------------


def test_temporary_path_is_that_of_the_writer(home: pathlib.Path, monkeypatch: Patch) -> None:
    seen: list[str] = []
    genuine = os.link
    monkeypatch.setattr(os, "link", lambda *args, **more: (seen.extend(os.listdir(home)), genuine(*args, **more)))
    write(home / "key")
    assert [str(home / name) for name in seen] == [private_file.temporary_path(str(home / "key"))]
