# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures for tests of custody: a private folder, a deadline, and proof that no descriptor stays open."""

from __future__ import annotations

import collections
import contextlib
import functools
import os
import pathlib
import signal
import subprocess
import textwrap
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._custody import expiry
from ansible_collections.hallmark.signing.plugins.module_utils._keys import encrypted_key
from cryptography.hazmat.primitives.asymmetric import ec

_derive = functools.lru_cache(maxsize=None)(encrypted_key._derive)


# Not for the whole session: that would last into the tests of other folders.
@pytest.fixture(autouse=True, scope="module")
def _cheap_passphrases() -> t.Iterator[None]:
    """Write cosign's format with the least cost that is read, and derive each key once: scrypt is slow by design."""
    patch = pytest.MonkeyPatch()
    patch.setattr(encrypted_key, "_WRITTEN_N", 32768)
    patch.setattr(encrypted_key, "_derive", _derive)
    yield
    patch.undo()


@pytest.fixture
def home(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder that only this user can use."""
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture(scope="session")
def other_p256() -> ec.EllipticCurvePrivateKey:
    """Another key that signs images."""
    return ec.generate_private_key(ec.SECP256R1())


class Late(BaseException):
    """A test hangs; no OSError, as TimeoutError is, which the code under test would turn into an error of its own."""


@pytest.fixture(autouse=True)
def _deadline() -> t.Iterator[None]:
    """End a test that hangs, as opening a pipe does."""

    def late(_number: int, _frame: t.Any) -> None:
        raise Late

    former = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, 30)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, former)


@pytest.fixture(autouse=True)
def _no_descriptor_stays_open() -> t.Iterator[None]:
    """Look at the open files and folders before and after."""
    before = _open_files()
    yield
    assert not _open_files() - before


def _open_files() -> collections.Counter[str]:
    """What is open, and how often; sockets are left out, because those of earlier tests may close at any time."""
    found: collections.Counter[str] = collections.Counter()
    for number in os.listdir("/proc/self/fd"):
        # The descriptor of this listing is among them, and closed again.
        with contextlib.suppress(FileNotFoundError):
            target = os.readlink(f"/proc/self/fd/{number}")
            found[target] += not target.startswith("socket:")
    return found


@pytest.fixture
def umask() -> t.Iterator[t.Callable[[int], int]]:
    """Return os.umask; the former one is set again after the test."""
    former = os.umask(0o022)
    os.umask(former)
    yield os.umask
    os.umask(former)


class Systemd:
    """Programs that stand for those of systemd, and keep what they were asked: units are files, with one argument a
    line."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.units, self.log = folder / "units", folder / "log"
        self.volatile, self.persistent = folder / "run-rules", folder / "etc-rules"
        self.programs = folder / "bin"
        for made in (self.units, self.programs):
            made.mkdir(parents=True)
        (folder / "version").write_text("252")
        self.version = folder / "version"
        for unit in ("systemd-tmpfiles-clean.timer", "systemd-tmpfiles-setup.service"):
            (self.units / unit).touch()
        self.program("systemd-run", f"""
            for one in "$@"; do case $one in --unit=*) unit=${{one#--unit=}};; esac; done
            printf '%s\\n' "$@" >"{self.units}/$unit.timer"
        """)
        self.program("systemctl", f"""
            case "$1 $3" in
                "is-active "*|"is-enabled "*) test -e "{self.units}/$3" ;;
                "stop "*) rm -f "{self.units}/$3" ;;
                "--version "*) echo "systemd $(cat {folder}/version) ($(cat {folder}/version).1-1)"; echo "+PAM" ;;
                *) exit 64 ;;
            esac
        """)

    def program(self, name: str, does: str) -> None:
        """Write a program that first writes down its arguments."""
        path = self.programs / name
        path.write_text(f"#!/bin/sh\nprintf '%s\\n' \"{name} $*\" >>\"{self.log}\"\n{textwrap.dedent(does)}\n")
        path.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        """What was asked, in order."""
        return self.log.read_text().splitlines() if self.log.exists() else []

    @property
    def timers(self) -> list[str]:
        """The timers that wait."""
        return sorted(path.name for path in self.units.glob("hallmark-export-*.timer"))

    @property
    def rules(self) -> list[str]:
        """The rules of systemd-tmpfiles that are there."""
        found = [path for folder in (self.volatile, self.persistent) if folder.is_dir() for path in folder.iterdir()]
        return sorted(str(path) for path in found)

    def arguments(self, timer: str) -> list[str]:
        """Return what systemd-run was asked for a timer."""
        return (self.units / timer).read_text().splitlines()

    def fire(self) -> None:
        """Let the time of all timers be over."""
        for timer in self.timers:
            words = self.arguments(timer)
            (self.units / timer).unlink()
            subprocess.run(words[next(place for place, word in enumerate(words) if word.startswith("/")):], check=True)

    def boot(self) -> None:
        """Let the host boot: timers are gone, and systemd-tmpfiles removes what rules say."""
        for timer in self.timers:
            (self.units / timer).unlink()
        for rule in self.rules:
            for line in pathlib.Path(rule).read_text().splitlines():
                if line.startswith("r! "):
                    pathlib.Path(line[3:]).unlink(missing_ok=True)


@pytest.fixture
def systemd(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Systemd:
    """A host that was booted with systemd, as far as exports see it.

    Tests in tests/fleet check it with the real one.
    """
    made = Systemd(tmp_path / "systemd")
    monkeypatch.setenv("PATH", f"{made.programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}")
    monkeypatch.setattr(expiry, "_is_root", lambda: True)
    monkeypatch.setattr(expiry, "_BOOTED", str(tmp_path))
    monkeypatch.setattr(expiry, "_VOLATILE", str(made.volatile))
    monkeypatch.setattr(expiry, "_PERSISTENT", str(made.persistent))
    return made
