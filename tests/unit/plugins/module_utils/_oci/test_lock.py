# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The writer lock: one at a time among threads and processes, in a folder nobody else can touch."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
import types
import typing as t
from pathlib import Path

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import RegistryError
from ansible_collections.hallmark.signing.plugins.module_utils._oci import lock

PROGRAM = """
import sys, time
from ansible_collections.hallmark.signing.plugins.module_utils._oci import lock
path = sys.argv[1]
for turn in range(20):
    with lock.writer("host/app@digest"):
        with open(path) as stream:
            value = int(stream.read())
        time.sleep(0.001)
        with open(path, "w") as stream:
            stream.write(str(value + 1))
"""


def folder() -> Path:
    return Path(tempfile.gettempdir()) / f"hallmark-signing-locks-{os.geteuid()}"


def increment(path: Path, times: int) -> None:
    for _turn in range(times):
        with lock.writer("host/app@digest"):
            value = int(path.read_text())
            time.sleep(0.001)
            path.write_text(str(value + 1))


def test_threads_and_processes_take_turns(tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    processes = [
        subprocess.Popen([sys.executable, "-c", PROGRAM, str(counter)], env=environment) for _process in range(3)
    ]
    threads = [threading.Thread(target=increment, args=(counter, 20)) for _thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait(10) for process in processes] == [0, 0, 0]
    assert counter.read_text() == str(7 * 20)


def test_other_names_do_not_wait() -> None:
    with lock.writer("host/app@one"), lock.writer("host/app@two"), lock.writer("host/other@one"):
        pass


def test_the_same_name_waits() -> None:
    order: list[str] = []
    inside = threading.Event()

    def second() -> None:
        inside.wait()
        with lock.writer("name"):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with lock.writer("name"):
        inside.set()
        time.sleep(0.1)
        order.append("first")
    thread.join(120)
    assert order == ["first", "second"]


def test_a_thread_may_take_a_lock_again_and_holds_it_until_the_outer_block_ends() -> None:
    order: list[str] = []

    def second() -> None:
        with lock.writer("name"):
            order.append("second")

    thread = threading.Thread(target=second)
    with lock.writer("name"):
        with lock.writer("name"):
            order.append("inner")
        thread.start()
        time.sleep(0.1)
        order.append("outer")
    thread.join(120)
    assert order == ["inner", "outer", "second"]


def test_an_exception_gives_the_lock_back() -> None:
    with pytest.raises(KeyError), lock.writer("name"):
        raise KeyError("x")
    taken = threading.Event()

    def second() -> None:
        with lock.writer("name"):
            taken.set()

    thread = threading.Thread(target=second, daemon=True)
    thread.start()
    assert taken.wait(5)
    # Nor does this thread take itself for the holder of what it gave back.
    assert lock._HELD.names == set()


def test_files_stay_empty_and_private() -> None:
    previous = os.umask(0)
    try:
        with lock.writer("../../etc/passwd\n\0"):
            pass
    finally:
        os.umask(previous)
    assert folder().stat().st_mode & 0o777 == 0o700
    files = list(folder().iterdir())
    assert [(path.stat().st_mode & 0o777, path.read_bytes()) for path in files] == [(0o600, b"")]
    assert len(files[0].name) == 32


def test_file_descriptors_are_closed_and_not_inherited() -> None:
    before = os.listdir("/proc/self/fd")
    with lock.writer("name"):
        held = [
            int(name) for name in os.listdir("/proc/self/fd")
            if os.path.exists(f"/proc/self/fd/{name}")
            and os.readlink(f"/proc/self/fd/{name}").startswith(str(folder()))
        ]
        assert [os.get_inheritable(descriptor) for descriptor in held] == [False]
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o720, 0o702, 0o1777])
def test_refuses_a_folder_that_others_may_write(mode: int) -> None:
    folder().mkdir()
    folder().chmod(mode)
    with pytest.raises(RegistryError) as caught, lock.writer("name"):
        pytest.fail("the block ran")
    assert (caught.value.code, caught.value.object) == ("destination_unsafe", str(folder()))


@pytest.mark.parametrize("make", [
    lambda path, aside: path.symlink_to(aside),
    lambda path, aside: path.write_bytes(b""),
    lambda path, aside: os.mkfifo(path),
], ids=["symlink", "file", "fifo"])
def test_refuses_what_is_no_folder(tmp_path: Path, make: t.Callable[[Path, Path], None]) -> None:
    aside = tmp_path / "aside"
    aside.mkdir(0o700)
    make(folder(), aside)
    if not folder().is_symlink():
        folder().chmod(0o600)
    with pytest.raises(RegistryError) as caught, lock.writer("name"):
        pytest.fail("the block ran")
    assert caught.value.code == "destination_unsafe"
    assert list(aside.iterdir()) == []


def test_refuses_the_folder_of_somebody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    folder().mkdir(0o700)
    genuine = os.lstat

    def foreign(path: t.Any) -> t.Any:
        status = genuine(path)
        return types.SimpleNamespace(st_mode=status.st_mode, st_uid=status.st_uid + 1)

    monkeypatch.setattr(os, "lstat", foreign)
    with pytest.raises(RegistryError) as caught, lock.writer("name"):
        pytest.fail("the block ran")
    assert caught.value.code == "destination_unsafe"


def test_does_not_follow_a_symlink_in_place_of_the_lock_file(tmp_path: Path) -> None:
    with lock.writer("name"):
        path = next(folder().iterdir())
    path.unlink()
    path.symlink_to(tmp_path / "victim")
    with pytest.raises(RegistryError) as caught, lock.writer("name"):
        pytest.fail("the block ran")
    assert (caught.value.code, caught.value.object) == ("write_failed", str(path))
    assert "symbolic links" in caught.value.cause
    assert not (tmp_path / "victim").exists()


# the FileNotFoundError of mkdir in _folder() comes out as it is; nothing says what to do.
def test_a_temporary_folder_that_is_gone_is_an_error_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere/at/all")
    with pytest.raises(RegistryError) as caught, lock.writer("name"):
        pytest.fail("the block ran")
    assert caught.value.code == "write_failed"
