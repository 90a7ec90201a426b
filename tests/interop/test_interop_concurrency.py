# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Many writers of one image's signatures: processes of one host, and hosts that share nothing but the registry.

Hosts are processes with folders for temporary files of their own, so that they share no lock files. What they do is
bounded by settle_seconds; the last tests show what happens without it, and what happens to cosign.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._oci import reference as references
from counting_proxy import CountingProxy
from interop_tools import PASSWORD, Cosign, Json, Registry, said
from native_registry import NativeRegistry
from operators import Operator, operators, together

if t.TYPE_CHECKING:
    from conftest import KeyFiles

PROCESSES = 8
HOSTS = 4


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[list[Operator]]:
    with operators(PROCESSES, tmp_path_factory.mktemp("operators")) as started:
        yield started


@pytest.fixture(scope="module")
def signers(make_key: t.Callable[[], KeyFiles]) -> list[KeyFiles]:
    return [make_key() for _number in range(PROCESSES)]


@pytest.fixture
def folders(tmp_path: pathlib.Path) -> list[str]:
    """One folder for temporary files per host."""
    made = [tmp_path / f"host-{number}" for number in range(HOSTS)]
    for folder in made:
        folder.mkdir()
    return [str(folder) for folder in made]


@pytest.fixture
def native() -> t.Iterator[Registry]:
    with NativeRegistry() as running:
        yield Registry(running.host, pathlib.Path())


def _orders(image: str, keys: t.Sequence[KeyFiles], folders: t.Sequence[str], **settings: t.Any) -> list[Json]:
    return [
        {
            "operation": "sign", "images": [image], "keys": [str(key.pem)], "tmpdir": folders[number % len(folders)],
            "settings": settings,
        }
        for number, key in enumerate(keys)
    ]


def _found(worker: Operator, image: str, keys: t.Sequence[KeyFiles], format: str) -> int:
    """Return how many of the keys have signed the image in a format; every signature is checked."""
    public = [str(key.public) for key in keys]
    done = worker.do("verify", images=[image], public=public, threshold=len(public), formats=[format])["results"][0]
    assert done["verified"] == (len(done["authorities"]) == len(keys)), done
    return len(done["authorities"])


def _require_all(worker: Operator, image: str, keys: t.Sequence[KeyFiles], results: t.Sequence[Json]) -> None:
    assert [one["results"][0]["reasons"] for one in results] == [[]] * len(results)
    assert all(one["results"][0]["changed"] for one in results)
    assert [_found(worker, image, keys, format) for format in ("sig", "bundle")] == [len(keys)] * 2


def _timing(what: str, results: t.Sequence[Json]) -> None:
    seconds = [one["seconds"] for one in results]
    print(f"{what}: {min(seconds):.1f} to {max(seconds):.1f} s, {sum(one['requests'] for one in results)} requests")


# --- every signature is there at the end -----------------------------------------------------------------------------


@pytest.mark.parametrize("hosts", [1, HOSTS])
def test_eight_processes_sign_one_digest_in_a_registry_with_the_fallback_tag(
    registry: Registry, workers: list[Operator], signers: list[KeyFiles], folders: list[str], hosts: int
) -> None:
    image = registry.image()
    results = together(workers, _orders(image, signers, folders[:hosts]))
    _timing(f"docker-registry, {hosts} hosts", results)
    _require_all(workers[0], image, signers, results)
    assert len(registry.layers(image)) == len(registry.referrers(image)) == PROCESSES


@pytest.mark.parametrize("hosts", [1, HOSTS])
def test_eight_processes_sign_one_digest_in_a_registry_with_the_referrers_api(
    native: Registry, workers: list[Operator], signers: list[KeyFiles], folders: list[str], hosts: int
) -> None:
    image = native.image()
    results = together(workers, _orders(image, signers, folders[:hosts]))
    _timing(f"native referrers, {hosts} hosts", results)
    _require_all(workers[0], image, signers, results)
    assert native.referrers(image) == []


def test_writes_that_take_up_to_one_and_a_half_seconds(
    registry: Registry, workers: list[Operator], signers: list[KeyFiles], folders: list[str]
) -> None:
    keys, image = signers[:HOSTS], registry.image()
    with CountingProxy(registry.host, delay=1.5) as slow:
        results = together(workers, _orders(image.replace(registry.host, slow.host), keys, folders))
    _timing("docker-registry behind a slow proxy", results)
    _require_all(workers[0], image, keys, results)


def test_slow_writes_in_a_registry_with_the_referrers_api(
    workers: list[Operator], signers: list[KeyFiles], folders: list[str]
) -> None:
    keys = signers[:HOSTS]
    with NativeRegistry() as running:
        image = Registry(running.host, pathlib.Path()).image()
        running.delay = 1.5
        results = together(workers, _orders(image, keys, folders))
        running.delay = 0.0
        _timing("slow native referrers", results)
        _require_all(workers[0], image, keys, results)


def test_an_image_of_many_digests_is_signed_by_hosts_at_once(
    registry: Registry, workers: list[Operator], signers: list[KeyFiles], folders: list[str]
) -> None:
    index, children = registry.index(2)
    keys = signers[:HOSTS]
    results = together(workers, _orders(index, keys, folders))
    _timing("an index of 2", results)
    for image in (index, *children):
        assert [_found(workers[0], image, keys, format) for format in ("sig", "bundle")] == [HOSTS] * 2


def test_signatures_are_removed_while_others_are_added(
    registry: Registry, workers: list[Operator], signers: list[KeyFiles], folders: list[str]
) -> None:
    image, old, new = registry.image(), signers[:4], signers[4:]
    first = workers[0].do("sign", images=[image], keys=[str(key.pem) for key in old])
    assert first["results"][0]["reasons"] == []
    removing = [
        {"operation": "remove", "images": [image], "key_ids": [key.key_id], "tmpdir": folder}
        for key, folder in zip(old[:3], folders)
    ]
    results = together(workers, [*_orders(image, new, list(reversed(folders))), *removing])
    _timing("4 sign while 3 remove", results)
    assert [one["results"][0]["reasons"] for one in results] == [[]] * 7
    for format in ("sig", "bundle"):
        assert _found(workers[0], image, [old[3], *new], format) == 5
        assert _found(workers[0], image, old[:3], format) == 0


# --- a registry that loses writes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["sig", "bundle"])
def test_a_registry_that_keeps_the_old_manifest_of_a_tag_is_an_error(
    workers: list[Operator], p256: KeyFiles, format: str
) -> None:
    with NativeRegistry(referrers=False) as running:
        image = Registry(running.host, pathlib.Path()).image()
        tag = references.parse(image).digest or ""
        running.faults.append(_lost(tag.replace(":", "-")))
        done = workers[0].do("sign", images=[image], keys=[str(p256.pem)], formats=[format])
        result = done["results"][0]
        print(f"write_lost after {done['seconds']:.1f} s, {done['requests']} requests")
        assert [reason["code"] for reason in result["reasons"]] == ["write_lost"], result
        assert result["failed"]
        assert result["signatures"] == []
        assert running.host in result["reasons"][0]["message"]
        assert "/".join(image.split("/")[1:]).partition("@")[0] in result["reasons"][0]["message"]


def test_a_write_that_is_lost_later_is_put_back(workers: list[Operator], p256: KeyFiles) -> None:
    with NativeRegistry() as running:
        image = Registry(running.host, pathlib.Path()).image()
        name, _at, digest = image.partition("/")[2].partition("@")
        tag = digest.replace(":", "-") + ".sig"
        worker = workers[0]
        worker.send({"operation": "sign", "images": [image], "keys": [str(p256.pem)], "formats": ["sig"]})
        _wait_for(lambda: tag in running.manifests[name])
        # As if a host that had read before wrote now.
        with running._lock:
            del running.manifests[name][tag]
        done = worker.receive()["results"][0]
        assert done["reasons"] == []
        assert len(running.manifests[name][tag].members["layers"]) == 1
        assert _found(worker, image, [p256], "sig") == 1


def _lost(tag: str) -> t.Callable[[t.Any], t.Any]:
    from fake_registry import Fault

    return lambda seen: Fault(status=201) if seen.method == "PUT" and tag in seen.path else None


def _wait_for(condition: t.Callable[[], bool]) -> None:
    from interop_tools import wait_until

    wait_until(condition, "the first write", seconds=10)


# --- the danger is real ----------------------------------------------------------------------------------------------


def test_without_settling_hosts_lose_the_signatures_of_each_other(
    registry: Registry, workers: list[Operator], signers: list[KeyFiles], folders: list[str]
) -> None:
    """What the tests above would not notice if settling did nothing is noticed here."""
    losses = []
    with CountingProxy(registry.host, delay=1.0) as slow:
        for _try in range(6):
            image = registry.image()
            through = image.replace(registry.host, slow.host)
            results = together(workers, _orders(through, signers[:HOSTS], folders, settle_seconds=0.0))
            believed = sum(not one["results"][0]["failed"] for one in results)
            kept = min(_found(workers[0], image, signers[:HOSTS], format) for format in ("sig", "bundle"))
            losses.append(believed - kept)
            if losses[-1] > 0:
                break
    print(f"settle_seconds=0, {HOSTS} hosts: signatures lost in each try: {losses}")
    assert max(losses) > 0, "no signature was lost: this test no longer shows what settling is for"


def test_what_cosign_loses_in_the_same_setting(
    registry: Registry, signers: list[KeyFiles], cosign: Cosign
) -> None:
    """Not a demand: it prints how many signatures of processes that all ended well are gone."""
    keys = signers[:6]
    arguments = {
        "sig": ["--tlog-upload=false"] if cosign.major < 3 else [
            "--use-signing-config=false", "--tlog-upload=false", "--new-bundle-format=false",
        ],
    }
    if cosign.major >= 3:
        arguments["bundle"] = ["--signing-config", str(cosign._signing_config())]
    for format, flags in arguments.items():
        image = registry.image()
        started = [
            subprocess.Popen(
                [cosign.program, "sign", "--key", str(key.cosign), *flags, *said(None), "-y", image],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=cosign.home,
                env={"PATH": "/usr/bin:/bin", "HOME": str(cosign.home), "COSIGN_PASSWORD": PASSWORD,
                     "TUF_ROOT": str(cosign.home / "tuf")},
            )
            for key in keys
        ]
        well = sum(one.wait(timeout=50) == 0 for one in started)
        kept = len(registry.layers(image)) if format == "sig" else len(registry.referrers(image))
        print(json.dumps({"cosign": cosign.name, "format": format, "signed": well, "kept": kept}))
        assert 0 < kept <= well <= 6
