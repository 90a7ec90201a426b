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
import typing as t

import pytest
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
