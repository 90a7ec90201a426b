# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures for tests of custody: a private folder, a deadline, and proof that no descriptor stays open."""

from __future__ import annotations

import functools
import os
import pathlib
import signal
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._keys import encrypted_key
from cryptography.hazmat.primitives.asymmetric import ec


@pytest.fixture(autouse=True, scope="session")
def _cheap_passphrases() -> t.Iterator[None]:
    """Write cosign's format with the least cost that is read, and derive each key once: scrypt is slow by design."""
    patch = pytest.MonkeyPatch()
    patch.setattr(encrypted_key, "_WRITTEN_N", 32768)
    patch.setattr(encrypted_key, "_derive", functools.lru_cache(maxsize=None)(encrypted_key._derive))
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
    """Count the open descriptors before and after."""
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def umask() -> t.Iterator[t.Callable[[int], int]]:
    """Return os.umask; the former one is set again after the test."""
    former = os.umask(0o022)
    os.umask(former)
    yield os.umask
    os.umask(former)
