# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How many requests each operation costs a registry, counted before the registry. Fewer is better; more is a defect."""

from __future__ import annotations

import collections
import json
import pathlib
import sys
import typing as t
from urllib.parse import parse_qs, urlsplit

import pytest
import registry_tokens
from counting_proxy import CountingProxy
from interop_tools import Cosign, Json, Registry, free_port, process, serve_registry
from native_registry import NativeRegistry
from operators import Operator, operators

if t.TYPE_CHECKING:
    from conftest import KeyFiles

IMAGES = 50


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Operator]:
    with operators(1, tmp_path_factory.mktemp("operators")) as started:
        yield started[0]


class Counted(t.NamedTuple):
    """A registry, and the proxy before it that counts."""

    registry: Registry
    proxy: CountingProxy
    is_native: bool

    def through(self, image: str) -> str:
        """Return the name of an image by way of the proxy."""
        return image.replace(self.registry.host, self.proxy.host)


@pytest.fixture(scope="module", params=["native", "fallback"])
def counted(request: pytest.FixtureRequest) -> t.Iterator[Counted]:
    if request.param == "fallback":
        real = request.getfixturevalue("registry")
        with CountingProxy(real.host) as proxy:
            yield Counted(real, proxy, False)
    else:
        with NativeRegistry() as running, CountingProxy(running.host) as proxy:
            yield Counted(Registry(running.host, pathlib.Path()), proxy, True)


def _do(worker: Operator, counted: Counted, operation: str, **order: t.Any) -> list[str]:
    """Carry out an order that must end well; return its requests, as method and kind of what is asked for."""
    counted.proxy.log.clear()
    order = {"settings": {"settle_seconds": 0.0}, **order}
    done = worker.do(operation, **order)
    for result in done["results"]:
        assert result["reasons"] == [], result
    assert done["requests"] == len(counted.proxy.log)
    return [_kind(one.method, one.path) for one in counted.proxy.log]


def _kind(method: str, path: str) -> str:
    parts = urlsplit(path).path.split("/")
    kind = next((part for part in ("referrers", "uploads", "blobs", "manifests") if part in parts), path)
    last = parts[-1]
    if kind == "manifests" and ":" not in last:
        stem, dot, suffix = last.partition(".")
        kind = dot + suffix if dot else "fallback" if stem.startswith("sha256-") else "tag"
    return f"{method} {kind}"


def _counts(what: str, counted: Counted, requests: t.Sequence[str]) -> collections.Counter[str]:
    found = collections.Counter(requests)
    place = "native" if counted.is_native else "fallback"
    print(f"{what} ({place}): {len(requests)} requests, {json.dumps(dict(found))}")
    return found


def test_verifying_by_digest(counted: Counted, worker: Operator, p256: KeyFiles) -> None:
    image = counted.through(counted.registry.image())
    _do(worker, counted, "sign", images=[image], keys=[str(p256.pem)])
    verify: Json = {"images": [image], "public": [str(p256.public)]}
    # The payload is one that everybody knows, so that its digest suffices.
    assert _do(worker, counted, "verify", **verify, formats=["sig"]) == ["GET .sig"]
    # Both formats are asked for, and the first is enough.
    assert _do(worker, counted, "verify", **verify) == ["GET .sig"]
    listed = ["GET referrers"] if counted.is_native else ["GET referrers", "GET fallback"]
    # The list holds a copy of the bundle.
    assert _do(worker, counted, "verify", **verify, formats=["bundle"]) == listed


def test_verifying_a_bundle_of_cosign_by_digest(
    counted: Counted, worker: Operator, p256: KeyFiles, bundle_cosign: Cosign
) -> None:
    image = counted.through(counted.registry.image())
    bundle_cosign.sign(image, p256.cosign)
    asked = _do(worker, counted, "verify", images=[image], public=[str(p256.public)], formats=["bundle"])
    listed = ["GET referrers"] if counted.is_native else ["GET referrers", "GET fallback"]
    assert asked == [*listed, "GET manifests", "GET blobs"]


def test_verifying_by_tag_costs_one_more(counted: Counted, worker: Operator, p256: KeyFiles) -> None:
    name = counted.registry.name()
    counted.registry.image(name=name)
    tagged = counted.through(f"{name}:1")
    _do(worker, counted, "sign", images=[tagged], keys=[str(p256.pem)])
    requests = _do(worker, counted, "verify", images=[tagged], public=[str(p256.public)])
    assert requests == ["GET tag", "GET .sig"]


def test_signing_once_and_again(counted: Counted, worker: Operator, p256: KeyFiles) -> None:
    image = counted.through(counted.registry.image())
    first = _counts("sign", counted, _do(worker, counted, "sign", images=[image], keys=[str(p256.pem)]))
    again = _counts("sign again", counted, _do(worker, counted, "sign", images=[image], keys=[str(p256.pem)]))
    assert sum(first.values()) <= 28
    # The image, the .sig and its payload, the list, the bundle and its content: nothing is asked twice.
    assert sum(again.values()) <= (6 if counted.is_native else 7)
    assert not [request for request in again if not request.startswith("GET")]


def test_fifty_images_cost_one_probe_for_the_referrers_api(
    counted: Counted, worker: Operator, p256: KeyFiles
) -> None:
    images = [counted.through(counted.registry.image(str(number))) for number in range(IMAGES)]
    signed = _counts("sign 50", counted, _do(worker, counted, "sign", images=images, keys=[str(p256.pem)]))
    verify: Json = {"images": images, "public": [str(p256.public)]}
    verified = _counts("verify 50 bundles", counted, _do(worker, counted, "verify", **verify, formats=["bundle"]))
    listed = _counts("info 50", counted, _do(worker, counted, "info", images=images))
    if counted.is_native:
        assert verified == {"GET referrers": IMAGES}
        assert signed["GET referrers"] == listed["GET referrers"] == IMAGES
        assert "GET fallback" not in signed + verified + listed
    else:
        assert signed["GET referrers"] == verified["GET referrers"] == listed["GET referrers"] == 1
        assert verified == {"GET referrers": 1, "GET fallback": IMAGES}
    assert _do(worker, counted, "verify", **verify).count("GET referrers") == 0
    assert sum(signed.values()) <= 25 * IMAGES


def test_copying_what_is_there_already(
    counted: Counted, worker: Operator, p256: KeyFiles, other: KeyFiles
) -> None:
    image = counted.through(counted.registry.image())
    _do(worker, counted, "sign", images=[image], keys=[str(p256.pem), str(other.pem)])
    copies = [[image, counted.through(f"{counted.registry.name()}:1")]]
    first = _counts("copy", counted, _do(worker, counted, "copy", copies=copies))
    again = _counts("copy again", counted, _do(worker, counted, "copy", copies=copies))
    assert sum(first.values()) <= (26 if counted.is_native else 32)
    assert sum(again.values()) <= (11 if counted.is_native else 13)
    assert {request.partition(" ")[0] for request in again} <= {"GET", "HEAD"}
    assert "GET blobs" not in again


# --- tokens ----------------------------------------------------------------------------------------------------------


class Guarded(t.NamedTuple):
    """A registry with a token service, and the proxies before both."""

    registry: Registry
    proxy: CountingProxy
    tokens: CountingProxy


@pytest.fixture(scope="module")
def guarded(registry_program: str, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Guarded]:
    folder, port = tmp_path_factory.mktemp("counted-tokens"), free_port()
    registry_tokens.write_certificate(folder)
    (folder / "users.json").write_text(json.dumps({"ci": {"password": "p", "actions": ["pull", "push", "delete"]}}))
    command = [sys.executable, registry_tokens.__file__, "serve", str(port), str(folder), str(folder / "users.json")]
    with CountingProxy(f"127.0.0.1:{port}") as tokens:
        auth = {"token": {
            "realm": f"http://{tokens.host}/token", "service": registry_tokens.SERVICE,
            "issuer": registry_tokens.ISSUER, "rootcertbundle": str(folder / "token.crt"),
        }}
        service = process(command, port=port, log=folder / "tokens.log")
        login = {"username": "ci", "password": "p"}
        with service, serve_registry(folder, auth=auth, options=login) as running, CountingProxy(running.host) as proxy:
            yield Guarded(running, proxy, tokens)


def test_one_token_per_scope(guarded: Guarded, worker: Operator, p256: KeyFiles) -> None:
    name = guarded.registry.name()
    several = [guarded.registry.image(str(number), name=name, tag=f"t{number}") for number in range(10)]
    elsewhere = [guarded.registry.image(str(number)) for number in range(3)]
    images = [image.replace(guarded.registry.host, guarded.proxy.host) for image in (*several, *elsewhere)]
    settings = {"hosts": {guarded.proxy.host: {"username": "ci", "password": "p"}}, "settle_seconds": 0.0}
    for operation, order in (
        ("sign", {"keys": [str(p256.pem)]}), ("verify", {"public": [str(p256.public)]}), ("info", {}),
        ("remove", {"key_ids": [p256.key_id]}),
    ):
        guarded.tokens.log.clear()
        guarded.proxy.log.clear()
        done = worker.do(operation, images=images, settings=settings, **order)
        assert [result["reasons"] for result in done["results"]] == [[]] * len(images)
        scopes = [parse_qs(urlsplit(one.path).query)["scope"][0] for one in guarded.tokens.log]
        refused = [one for one in guarded.proxy.log if one.status == 401]
        print(f"{operation}: {len(guarded.proxy.log)} requests, {len(scopes)} tokens, {len(refused)} refusals")
        assert len(scopes) == len(set(scopes)), scopes
        assert len({scope.split(":")[1] for scope in scopes}) == 4, "one repository each"
        # Only the first request is sent without a token.
        assert len(refused) == 1
