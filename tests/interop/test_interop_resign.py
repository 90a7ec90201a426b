# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Re-signing what runs, in a real registry: killed at any moment, begun anew, and read by every cosign."""

from __future__ import annotations

import collections
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import typing as t

import ansible_collections
import pytest
from counting_proxy import CountingProxy
from interop_tools import Cosign, Json, Registry
from native_registry import NativeRegistry
from operators import Operator, operators

if t.TYPE_CHECKING:
    from conftest import KeyFiles

COUNT = 20
_MODULE = "ansible_collections.hallmark.signing.plugins.modules.image_resignature"
# Signatures of the old format, bundles, and their lists, in turn.
KILLED_AFTER = (1, 2, 3, 5, 8)


class Fleet:
    """Images that old signed, and the module that signs them with new, as a process that can be killed."""

    def __init__(self, folder: pathlib.Path, images: list[str], old: KeyFiles, new: KeyFiles) -> None:
        self.folder = folder
        self.images = images
        self._options = {
            "images": images, "trust": [{"name": "old", "public_key_path": str(old.public)}],
            "staying_key_ids": [new.key_id], "signers": [new.signer], "settle_seconds": 0.2,
            # cosign 3 writes bundles only, which have no name.
            "docker_reference_check": "warn",
        }

    def start(self, **options: t.Any) -> subprocess.Popen[str]:
        """Start the module."""
        given = {name: value for name, value in {**self._options, **options}.items() if value is not None}
        arguments = self.folder / "arguments.json"
        arguments.write_text(json.dumps({"ANSIBLE_MODULE_ARGS": given}))
        tree = pathlib.Path(next(iter(ansible_collections.__path__))).parent
        with arguments.open() as source:
            return subprocess.Popen(
                [sys.executable, "-m", _MODULE], stdin=source, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                text=True, cwd=self.folder, env={
                    "PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": str(tree), "LC_ALL": "C.UTF-8",
                    "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(self.folder), "TMPDIR": str(self.folder),
                },
            )

    def run(self, **options: t.Any) -> Json:
        """Run the module to its end."""
        output, errors = self.start(**options).communicate(timeout=120)
        assert output.strip(), errors
        return t.cast(Json, json.loads(output))


def _wait_for(proxy: CountingProxy, count: int, process: subprocess.Popen[str]) -> None:
    """Wait until that many manifests were stored; a process that ends before is a mistake of the test."""
    until = time.monotonic() + 60
    while len(proxy.requests("PUT", "/manifests/")) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.001)


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Operator]:
    with operators(1, tmp_path_factory.mktemp("operators")) as started:
        yield started[0]


@pytest.fixture(params=["native", "fallback"])
def proxy(request: pytest.FixtureRequest) -> t.Iterator[CountingProxy]:
    """Before a registry of each kind."""
    if request.param == "fallback":
        with CountingProxy(request.getfixturevalue("registry").host) as counting:
            yield counting
    else:
        with NativeRegistry() as running, CountingProxy(running.host) as counting:
            yield counting


def _fleet(proxy: CountingProxy, worker: Operator, folder: pathlib.Path, old: KeyFiles, new: KeyFiles) -> Fleet:
    there = Registry(proxy.host, folder)
    images = [there.image(str(number), name=f"{proxy.host}/{folder.name}/r{number}") for number in range(COUNT)]
    done = worker.do("sign", images=images[2:], keys=[str(old.pem)], settings={"settle_seconds": 0.0})
    assert [one["reasons"] for one in done["results"]] == [[]] * (COUNT - 2)
    return Fleet(folder, images, old, new)


def test_twenty_images_are_signed_by_a_task_that_is_killed_again_and_again(
    proxy: CountingProxy, worker: Operator, cosigns: list[Cosign], make_key: t.Callable[[], KeyFiles],
    tmp_path: pathlib.Path,
) -> None:
    old, new = make_key(), make_key()
    fleet = _fleet(proxy, worker, tmp_path, old, new)
    # Two that others have signed, each in its own format.
    for image, cosign in zip(fleet.images, (cosigns[0], cosigns[-1])):
        cosign.sign(image, old.cosign)
    for after in KILLED_AFTER:
        proxy.log.clear()
        process = fleet.start(workers=3)
        _wait_for(proxy, after, process)
        process.send_signal(signal.SIGKILL)
        assert process.wait(30) == -signal.SIGKILL
        process.communicate()
    done = fleet.run()
    assert (done["changed"], done["covered"], done["uncovered"]) == (True, COUNT, []), done
    assert 0 < len(done["resigned"]) < COUNT
    there = Registry(proxy.host, tmp_path)
    # Killing made none twice that anybody can see.
    assert [len(there.layers(image)) for image in fleet.images[2:]] == [2] * (COUNT - 2)
    proxy.log.clear()
    again = fleet.run()
    assert (again["changed"], again["covered"], again["resigned"]) == (False, COUNT, [])
    assert {one.method for one in proxy.log} <= {"GET", "HEAD"}
    for cosign in cosigns:
        for image in fleet.images:
            assert cosign.accepts(image, new.public), (cosign.name, image)
    # Whoever trusts the old key only is none the worse for it.
    assert all(cosigns[-1].accepts(image, old.public) for image in fleet.images[2:])


def test_what_it_costs(
    proxy: CountingProxy, worker: Operator, make_key: t.Callable[[], KeyFiles], tmp_path: pathlib.Path
) -> None:
    old, new = make_key(), make_key()
    fleet = _fleet(proxy, worker, tmp_path, old, new)
    fleet.images[:] = fleet.images[2:]
    cache = tmp_path / "covered.json"

    def cost(what: str, **options: t.Any) -> collections.Counter[str]:
        proxy.log.clear()
        fleet.run(on_failure="report", **options)
        requests = collections.Counter(one.method for one in proxy.log)
        print(f"{what}: {sum(requests.values()) / len(fleet.images):.2f} requests an image, {dict(requests)}")
        return requests

    probe = 1
    planned = cost("plan, not covered", signers=None, trust=[
        {"public_key_path": str(key.public)} for key in (old, new)
    ])
    assert sum(planned.values()) <= 4 * len(fleet.images) + probe
    signed = cost("sign")
    assert sum(signed.values()) <= 27 * len(fleet.images) + probe
    covered = cost("plan, covered", cache_path=str(cache))
    assert sum(covered.values()) <= 3 * len(fleet.images) + probe
    assert cost("plan, from a warm cache", cache_path=str(cache)) == {}
    assert sum(cost("plan, without recursion", recursive=False).values()) <= 2 * len(fleet.images) + probe
