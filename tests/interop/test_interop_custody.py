# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Custody under real Ansible: no moment at which a key could be read by others, and nothing planted is followed."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import shutil
import stat
import subprocess
import threading
import typing as t

import pytest
from interop_tools import PASSWORD, Ansible, Json, Task, listing

if t.TYPE_CHECKING:
    from conftest import KeyFiles

_CALLS = (
    "openat,?open,?creat,?mkdir,mkdirat,?chmod,fchmod,fchmodat,?fchmodat2,?link,linkat,?rename,renameat,renameat2,"
    "symlinkat"
)
_CREATED = re.compile(r'^openat\(.*?, "(?P<name>[^"]*)", (?P<flags>[A-Z_|]*O_CREAT[A-Z_|]*)(?:, (?P<mode>0[0-7]*))?\)')
_MODE_SET = re.compile(r"^(?P<call>fchmod|chmod|fchmodat2?)\((?P<what>.*), (?P<mode>0[0-7]+)[,)]")
_FOLDER_MADE = re.compile(r'^mkdir(?:at)?\(.*"(?P<name>[^"]*)", (?P<mode>0[0-7]+)\)')


class Watcher:
    """Looks at all names below a folder, as fast as it can, and keeps every mode that it sees."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = str(folder)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.seen: set[tuple[str, int]] = set()

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._look(self._folder)
            self._stop.wait(0.0005)

    def _look(self, folder: str) -> None:
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    mode = entry.stat(follow_symlinks=False).st_mode
                    self.seen.add((entry.path, mode))
                    if stat.S_ISDIR(mode):
                        self._look(entry.path)


def _can_trace() -> bool:
    if shutil.which("strace") is None:
        return False
    return subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, check=False).returncode == 0


def _is_public(name: str) -> bool:
    return name.removesuffix(".hallmark-new").endswith((".pub", ".chain"))


@pytest.fixture(scope="module")
def lineage(tmp_path_factory: pytest.TempPathFactory, p256: KeyFiles) -> pathlib.Path:
    """A lineage folder as Certbot leaves it."""
    folder = tmp_path_factory.mktemp("lineage")
    shutil.copyfile(p256.pem, folder / "privkey.pem")
    (folder / "privkey.pem").chmod(0o600)
    subprocess.run(
        ["openssl", "req", "-x509", "-key", str(p256.pem), "-days", "1", "-subj", "/CN=signer", "-out",
         str(folder / "fullchain.pem")], check=True, capture_output=True,
    )
    return folder


def _tasks(base: pathlib.Path, lineage: pathlib.Path, key: KeyFiles) -> list[Task]:
    new = base / "made" / "deeper"
    return [
        Task("signing_key", {"path": str(new / "a.key"), "public_key_path": str(new / "a.pub")}),
        Task("signing_key", {"path": str(new / "b.key"), "mode": "0640", "format": "cosign", "passphrase": PASSWORD}),
        Task("signing_key", {"path": str(new / "c.key"), "source_path": str(key.pem), "mode": "0400"}),
        Task("key_export", {
            "lineage": str(lineage), "dest": str(base / "export" / "d.key"), "mode": "0400",
            "chain_dest": str(base / "export" / "d.chain"),
        }),
        Task("key_export", {
            "private_key_path": str(key.pem), "dest": str(base / "export" / "e.key"), "format": "cosign",
            "passphrase": PASSWORD,
        }),
        # Narrower first: the group and others never get in on the way.
        Task("signing_key", {"path": str(new / "c.key"), "source_path": str(key.pem), "mode": "0640"}),
        Task("signing_key", {"path": str(new / "c.key"), "source_path": str(key.pem), "mode": "0600"}),
    ]


def test_no_other_mode_was_ever_visible(
    ansible: Ansible, tmp_path: pathlib.Path, lineage: pathlib.Path, p256: KeyFiles
) -> None:
    base = tmp_path / "keys"
    base.mkdir(mode=0o700)
    tasks = _tasks(base, lineage, p256)
    traced = _can_trace()
    wrapper = ["strace", "-ff", "-qq", "-y", "-s", "4096", "-e", f"trace={_CALLS}", "-o", str(tmp_path / "trace")]
    before = os.umask(0)
    try:
        # With an empty umask, nothing but the module's own care keeps others out.
        with Watcher(base) as watcher:
            results = ansible.run(tasks, wrapper=wrapper if traced else [])
    finally:
        os.umask(before)
    assert [result["changed"] for result in results] == [True] * len(tasks), results
    for path, mode in watcher.seen:
        allowed = {0o700} if stat.S_ISDIR(mode) else {0o600, 0o644} if _is_public(path) else {0o600, 0o400, 0o640}
        assert stat.S_IMODE(mode) in allowed, (path, oct(mode))
    # 0640 was asked for b.key and, for a while, c.key.
    closed = [(path, mode) for path, mode in watcher.seen if path[-5:] in ("a.key", "d.key", "e.key")]
    assert closed
    assert not any(stat.S_IMODE(mode) & 0o077 for _path, mode in closed)
    if not traced:
        pytest.skip("strace cannot trace here; the watching thread saw nothing wrong")
    _judge_trace(tmp_path, base)


def _judge_trace(folder: pathlib.Path, base: pathlib.Path) -> None:
    lines = [
        line for path in folder.glob("trace.*") for line in path.read_text(errors="replace").splitlines()
        if str(base) in line and "ENOENT" not in line
    ]
    created, set_modes, made = [], [], []
    for line in lines:
        if found := _CREATED.match(line):
            created.append(found["name"])
            assert found["mode"] == "0600", line
            assert {"O_EXCL", "O_NOFOLLOW"} <= set(found["flags"].split("|")), line
        elif found := _FOLDER_MADE.match(line):
            made.append(found["name"])
            assert found["mode"] == "0700", line
        elif found := _MODE_SET.match(line):
            set_modes.append(line)
            # By the open file, never by its name.
            assert found["call"] == "fchmod", line
            name = found["what"].rstrip(">")
            allowed = {"0644"} if _is_public(name) else {"0600", "0400", "0640"}
            assert found["mode"] in allowed, line
        elif line.startswith(("rename", "symlink", "creat", "chmod")):
            raise AssertionError(f"unexpected: {line}")
    assert sorted(created) == sorted(
        f".{name}.hallmark-new" for name in ("a.key", "a.pub", "b.key", "c.key", "d.key", "d.chain", "e.key")
    )
    assert len(made) == 3
    assert set_modes


# --- what is planted -------------------------------------------------------------------------------------------------


def _symlink(path: pathlib.Path, victim: pathlib.Path) -> None:
    path.symlink_to(victim)


def _dangling(path: pathlib.Path, victim: pathlib.Path) -> None:
    path.symlink_to(victim.parent / "not-there-yet")


def _hard_link(path: pathlib.Path, victim: pathlib.Path) -> None:
    os.link(victim, path)


def _pipe(path: pathlib.Path, victim: pathlib.Path) -> None:
    os.mkfifo(path, 0o600)


def _folder(path: pathlib.Path, victim: pathlib.Path) -> None:
    path.mkdir()


PLANTS: dict[str, t.Callable[[pathlib.Path, pathlib.Path], None]] = {
    "symlink": _symlink, "dangling": _dangling, "hard-link": _hard_link, "pipe": _pipe, "folder": _folder,
}
TARGETS = ("key", "public", "export", "chain", "absent")


@pytest.fixture(scope="module")
def planted(
    tmp_path_factory: pytest.TempPathFactory, ansible: Ansible, lineage: pathlib.Path, p256: KeyFiles
) -> dict[tuple[str, str], tuple[Json, object, object]]:
    """What became of each target with each thing planted there: the result, and all names before and after."""
    root = tmp_path_factory.mktemp("planted")
    tasks: list[Task] = []
    folders: list[pathlib.Path] = []
    rows = [(plant, target) for plant in PLANTS for target in TARGETS]
    for plant, target in rows:
        folder = root / f"{plant}-{target}"
        (folder / "inside").mkdir(parents=True, mode=0o700)
        victim, path = folder / "victim", folder / "inside" / "target"
        shutil.copyfile(p256.pem, victim)
        victim.chmod(0o600)
        PLANTS[plant](path, victim)
        other = str(folder / "inside" / "other")
        tasks.append({
            "key": Task("signing_key", {"path": str(path)}),
            "public": Task("signing_key", {
                "path": str(victim), "source_path": str(p256.pem), "public_key_path": str(path)
            }) if plant != "hard-link" else Task("signing_key", {"path": str(p256.pem), "public_key_path": str(path)}),
            "export": Task("key_export", {"private_key_path": str(p256.pem), "dest": str(path)}),
            "chain": Task("key_export", {"lineage": str(lineage), "dest": other, "chain_dest": str(path)}),
            "absent": Task("key_export", {"dest": str(path), "state": "absent"}),
        }[target])
        folders.append(folder)
    before = [listing(folder) for folder in folders]
    results = ansible.run_apart(tasks)
    after = [listing(folder) for folder in folders]
    return {row: found for row, *found in zip(rows, results, before, after, strict=True)}  # type: ignore[misc]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("plant", PLANTS)
def test_what_is_planted_is_refused_and_left_alone(
    planted: dict[tuple[str, str], tuple[Json, object, object]], plant: str, target: str
) -> None:
    result, before, after = planted[plant, target]
    assert result["failed"], result
    assert [reason["code"] for reason in result["reasons"]] == ["destination_unsafe"], result
    assert after == before
    assert not result["changed"]
