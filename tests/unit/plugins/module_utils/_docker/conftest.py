# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures for tests of the engine: one in this process, with a registry, and nothing of this user's configuration."""

from __future__ import annotations

import pathlib
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._oci import transport
from ansible_collections.hallmark.signing.tests.unit.fake_registry import FakeRegistry
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._docker.fake_engine import FakeEngine


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "no-docker"))
    for name in ("DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(transport, "_FIRST_DELAY", 0.005)


@pytest.fixture
def registry() -> t.Iterator[FakeRegistry]:
    """A registry."""
    with FakeRegistry() as fake:
        yield fake
        assert not fake.errors


@pytest.fixture
def fake(registry: FakeRegistry) -> t.Iterator[FakeEngine]:
    """An engine that pushes to the registry."""
    with FakeEngine(registry) as engine:
        yield engine


@pytest.fixture
def lone() -> t.Iterator[FakeEngine]:
    """An engine without any registry."""
    with FakeEngine() as engine:
        yield engine
