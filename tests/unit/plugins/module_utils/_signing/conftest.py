# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures for the signing tests: keys, and registries that hold an image."""

from __future__ import annotations

import contextlib
import ssl
import typing as t

import pytest
from ansible_collections.hallmark.signing.tests.unit.fake_registry import FakeRegistry
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._signing.signing_bench import Bench, Key
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa


@pytest.fixture(scope="session")
def alice(p256: ec.EllipticCurvePrivateKey) -> Key:
    """A P-256 key, trusted in most tests."""
    return Key("alice", p256)


@pytest.fixture(scope="session")
def bob() -> Key:
    """Another P-256 key."""
    return Key("bob", ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture(scope="session")
def carol(rsa2048: rsa.RSAPrivateKey) -> Key:
    """An RSA key."""
    return Key("carol", rsa2048)


@pytest.fixture(scope="session")
def dave(p384: ec.EllipticCurvePrivateKey) -> Key:
    """A P-384 key."""
    return Key("dave", p384)


@pytest.fixture(scope="session")
def erin(p521: ec.EllipticCurvePrivateKey) -> Key:
    """A P-521 key."""
    return Key("erin", p521)


@pytest.fixture(scope="session")
def frank(ed25519_key: ed25519.Ed25519PrivateKey) -> Key:
    """An Ed25519 key."""
    return Key("frank", ed25519_key)


@pytest.fixture(scope="session")
def mallory() -> Key:
    """A P-256 key that is never trusted."""
    return Key("mallory", ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture(params=["alice", "carol"], ids=["p256", "rsa"])
def key(request: pytest.FixtureRequest) -> Key:
    """A key of each family that is in wide use."""
    return t.cast(Key, request.getfixturevalue(request.param))


@pytest.fixture(autouse=True)
def _hermetic(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep lock files out of the real temporary folder, and do not wait between attempts."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path_factory.getbasetemp()))
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    # These registries speak plain HTTP; loading the system's certificates would take most of the time.
    monkeypatch.setattr("ssl.create_default_context", lambda cafile=None: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


@pytest.fixture
def make_bench() -> t.Iterator[t.Callable[..., Bench]]:
    """Makes registries that hold an image; the options are those of FakeRegistry."""
    with contextlib.ExitStack() as stack:
        benches: list[Bench] = []

        def make(**options: t.Any) -> Bench:
            benches.append(Bench(stack.enter_context(FakeRegistry(**options))))
            return benches[-1]

        yield make
        for bench in benches:
            assert not bench.registry.errors


@pytest.fixture(params=[True, False], ids=["native", "fallback"])
def bench(request: pytest.FixtureRequest, make_bench: t.Callable[..., Bench]) -> Bench:
    """An image in each kind of registry: with the referrers API, and without."""
    return make_bench(referrers=request.param)


@pytest.fixture
def fallback(make_bench: t.Callable[..., Bench]) -> Bench:
    """An image in a registry without the referrers API."""
    return make_bench()


@pytest.fixture
def native(make_bench: t.Callable[..., Bench]) -> Bench:
    """An image in a registry with the referrers API."""
    return make_bench(referrers=True)
