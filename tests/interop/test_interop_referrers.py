# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Referrers in every kind of registry: with the referrers API in its variants, and with the fallback tag.

What cosign 3 and oras write is read by us, and what we write by them. Beside docker-registry and the small registry of
these tests there are two of Go's libraries, where HALLMARK_PEERS names programs that serve them.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._oci import manifest as manifests
from ansible_collections.hallmark.signing.plugins.module_utils._oci import reference as references
from interop_tools import Cosign, Json, Registry, free_port, process
from native_registry import NativeRegistry
from operators import Operator, operators

if t.TYPE_CHECKING:
    from conftest import KeyFiles

PEERS = {row["name"]: row["program"] for row in json.loads(os.environ.get("HALLMARK_PEERS") or "[]")}
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
SBOM = "application/x-example-sbom"
NATIVE: dict[str, Json] = {
    "native": {}, "paged": {"page_size": 1}, "absolute-links": {"page_size": 2, "absolute_links": True},
    "without-filters": {"filters": False}, "silent": {"announces": False},
    "keeping-tags": {"tags_survive": True},
}
# Programs that take an address: registry.New(WithReferrersSupport) of go-containerregistry, ociserver of cuelabs.
SERVERS = ("ggcrreg", "cuereg")
KINDS = (*NATIVE, *SERVERS, "fallback")


class Kind(t.NamedTuple):
    """A registry of one kind."""

    name: str
    registry: Registry
    small: NativeRegistry | None

    @property
    def is_native(self) -> bool:
        return self.name != "fallback"

    @property
    def cosign_sees_all(self) -> bool:
        """Whether cosign 3 finds every bundle: of a list in pages it reads the first one."""
        return not (self.small and self.small.page_size)

    @property
    def lists_types(self) -> bool:
        """Whether the list tells the type of each artifact: the libraries of Go tell another, or none."""
        return self.name not in SERVERS


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Kind]:
    name = str(request.param)
    if name == "fallback":
        yield Kind(name, request.getfixturevalue("registry"), None)
    elif name in SERVERS:
        if name not in PEERS:
            pytest.skip(f"HALLMARK_PEERS names no {name}")
        folder, port = tmp_path_factory.mktemp(name), free_port()
        with process([PEERS[name], f"127.0.0.1:{port}"], port=port, log=folder / "log"):
            yield Kind(name, Registry(f"127.0.0.1:{port}", folder), None)
    else:
        with NativeRegistry(**NATIVE[name]) as running:
            yield Kind(name, Registry(running.host, pathlib.Path()), running)
            assert running.errors == []


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Operator]:
    with operators(1, tmp_path_factory.mktemp("operators")) as started:
        yield started[0]


def _oras(*arguments: str, folder: pathlib.Path) -> str:
    program = PEERS.get("oras") or shutil.which("oras")
    if program is None:
        pytest.skip("the real oras is not there: HALLMARK_PEERS names none, nor is one on PATH")
    done = subprocess.run(
        [program, *arguments], capture_output=True, text=True, timeout=60, check=False, cwd=folder,
        env={"PATH": os.defpath, "HOME": str(folder)},
    )
    assert done.returncode == 0, f"{arguments}: {done.stderr}"
    return done.stdout


def _discovered(image: str, folder: pathlib.Path, *arguments: str) -> list[Json]:
    """Return what oras finds: 1.3 calls the list by another name than 1.2."""
    found = json.loads(_oras("discover", "--plain-http", "--format", "json", *arguments, image, folder=folder))
    return t.cast("list[Json]", found["referrers"] if "referrers" in found else found["manifests"] or [])


def _sign(worker: Operator, image: str, *keys: KeyFiles, **order: t.Any) -> Json:
    done = worker.do(
        "sign", images=[image], keys=[str(key.pem) for key in keys], settings={"settle_seconds": 0.0}, **order
    )
    assert done["results"][0]["reasons"] == [], done
    return t.cast(Json, done["results"][0])


def _require(worker: Operator, image: str, *keys: KeyFiles, format: str = "bundle") -> None:
    done = worker.do(
        "verify", images=[image], public=[str(key.public) for key in keys], threshold=len(keys), formats=[format]
    )
    assert done["results"][0]["verified"], done


def _info(worker: Operator, image: str) -> Json:
    found = worker.do("info", images=[image])["results"][0]
    assert found["reasons"] == [], found
    return t.cast(Json, found)


def _attach(image: str, folder: pathlib.Path) -> None:
    (folder / "sbom.json").write_text('{"packages":[]}')
    _oras("attach", "--plain-http", "--artifact-type", SBOM, image, "sbom.json:application/json", folder=folder)


def _fallback(kind: Kind, image: str) -> manifests.Manifest | None:
    reference = references.parse(image)
    return kind.registry.client.find_manifest(reference.tagged(str(reference.digest).replace(":", "-")))


# --- in every kind of registry ---------------------------------------------------------------------------------------


def test_what_we_write_is_read_by_cosign(
    kind: Kind, worker: Operator, p256: KeyFiles, other: KeyFiles, found_cosigns: list[Cosign]
) -> None:
    image = kind.registry.image()
    first = _sign(worker, image, p256, other)
    again = _sign(worker, image, p256, other)
    assert len(first["signatures"]) == 4
    assert not again["changed"]
    assert (_fallback(kind, image) is None) == kind.is_native
    _require(worker, image, p256, other)
    for cosign in found_cosigns:
        accepted = [cosign.accepts(image, key.public) for key in (p256, other)]
        print(f"{cosign.name} on {kind.name}: {accepted}")
        # Of a list in pages cosign 3 reads the first one only.
        assert all(accepted) or (not kind.cosign_sees_all and any(accepted))
        tree = cosign.run("tree", image)
        assert tree.returncode == 0, tree.stderr
        assert tree.stdout.count("Signatures for an image tag") == 1
        if cosign.major >= 3 and kind.cosign_sees_all and kind.lists_types:
            assert tree.stdout.count("via OCI referrer") == 2, tree.stdout


def test_what_we_write_is_read_and_copied_by_oras(
    kind: Kind, worker: Operator, registry: Registry, p256: KeyFiles, other: KeyFiles, tmp_path: pathlib.Path
) -> None:
    image = kind.registry.image()
    _sign(worker, image, p256, other, formats=["bundle"])
    _attach(image, tmp_path)
    assert len(_discovered(image, tmp_path)) == 3
    if kind.lists_types:
        bundles = _discovered(image, tmp_path, "--artifact-type", BUNDLE)
        assert [entry["artifactType"] for entry in bundles] == [BUNDLE] * 2
        assert len(_discovered(image, tmp_path, "--artifact-type", SBOM)) == 1
    if kind.small:
        asked = [seen.path for seen in kind.small.requests("GET", "artifactType=")]
        assert asked, "oras asks the registry to filter"
    copy = f"{registry.name()}:copied"
    _oras("cp", "-r", "--from-plain-http", "--to-plain-http", image, copy, folder=tmp_path)
    _require(worker, copy, p256, other)
    # And back, into a registry of this kind.
    back = f"{kind.registry.name()}:back"
    _oras("cp", "-r", "--from-plain-http", "--to-plain-http", copy, back, folder=tmp_path)
    _require(worker, back, p256, other)
    assert [one["artifact_type"] for one in _info(worker, back)["artifacts"]] == [SBOM]


def test_what_cosign_and_oras_write_is_read_by_us_and_kept(
    kind: Kind, worker: Operator, p256: KeyFiles, other: KeyFiles, bundle_cosign: Cosign, tmp_path: pathlib.Path
) -> None:
    image = kind.registry.image()
    bundle_cosign.sign(image, other.cosign)
    _require(worker, image, other)
    _attach(image, tmp_path)
    found = _info(worker, image)
    assert [one["format"] for one in found["signatures"]] == ["bundle"]
    assert [one["artifact_type"] for one in found["artifacts"]] == [SBOM]
    listed = {one["digest"] for one in (*found["signatures"], *found["artifacts"])}
    if not kind.is_native:
        index = _fallback(kind, image)
        assert index is not None
        print({entry.digest[:20]: entry.artifact_type for entry in index.children})
    _sign(worker, image, p256)
    _require(worker, image, p256, other)
    assert {entry["digest"] for entry in _discovered(image, tmp_path)} > listed
    # Now it is cosign that adds to what we wrote.
    kept = {entry["digest"] for entry in _discovered(image, tmp_path)}
    bundle_cosign.sign(image, other.cosign, annotations={"second": "yes"})
    assert {entry["digest"] for entry in _discovered(image, tmp_path)} > kept
    _require(worker, image, p256, other)
    done = worker.do(
        "remove", images=[image], key_ids=[p256.key_id], settings={"settle_seconds": 0.0}
    )["results"][0]
    assert done["reasons"] == [], done
    assert {one["format"] for one in done["signatures"]} == {"sig", "bundle"}
    left = {entry["digest"] for entry in _discovered(image, tmp_path)}
    assert left >= listed
    assert len(left) == 3
    _require(worker, image, other)


def test_images_are_copied_into_it_and_out_of_it(
    kind: Kind, worker: Operator, registry: Registry, p256: KeyFiles, other: KeyFiles
) -> None:
    image, there, back = kind.registry.image(), f"{registry.name()}:1", f"{kind.registry.name()}:1"
    _sign(worker, image, p256, other)
    for source, destination in ((image, there), (there, back)):
        done = worker.do("copy", copies=[[source, destination]], settings={"settle_seconds": 0.0})
        assert done["results"][0]["reasons"] == [], done
        for format in ("sig", "bundle"):
            _require(worker, destination, p256, other, format=format)
    again = worker.do("copy", copies=[[image, there], [there, back]], settings={"settle_seconds": 0.0})
    assert [one["changed"] for one in again["results"]] == [False, False], again


def test_skopeo_copies_images_into_it_and_out_of_it(
    kind: Kind, registry: Registry, worker: Operator, p256: KeyFiles, tmp_path: pathlib.Path
) -> None:
    program = shutil.which("skopeo")
    if program is None:
        pytest.skip("skopeo is not installed")
    index, _children = registry.index(2)
    first, second = f"{kind.registry.name()}:1", f"{kind.registry.name()}:2"
    for source, destination in ((index, first), (first, second)):
        done = subprocess.run(
            [program, "--insecure-policy", "copy", "--all", "--preserve-digests", "--src-tls-verify=false",
             "--dest-tls-verify=false", f"docker://{source}", f"docker://{destination}"],
            capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path,
            env={"PATH": os.defpath, "HOME": str(tmp_path)},
        )
        assert done.returncode == 0, done.stderr
    assert _sign(worker, second, p256)["digest"] == references.parse(index).digest
    _require(worker, second, p256)


# --- what lies behind fallback tags ----------------------------------------------------------------------------------


def test_a_fallback_tag_that_names_the_image_itself(
    registry: Registry, worker: Operator, p256: KeyFiles, found_cosigns: list[Cosign]
) -> None:
    """This is what cosign copy leaves."""
    image = registry.image()
    reference = references.parse(image)
    tag = reference.tagged(str(reference.digest).replace(":", "-"))
    itself = registry.client.manifest(reference)
    registry.client.put_manifest(tag, itself.raw, media_type=itself.media_type)
    assert _info(worker, image)["artifacts"] == []
    _sign(worker, image, p256)
    _require(worker, image, p256)
    assert len(registry.referrers(image)) == 1
    assert all(cosign.accepts(image, p256.public) for cosign in found_cosigns)


def test_signing_after_a_copy_by_cosign(
    registry: Registry, worker: Operator, p256: KeyFiles, other: KeyFiles, cosign: Cosign
) -> None:
    image, copy = registry.image(), f"{registry.name()}:1"
    cosign.sign(image, other.cosign)
    done = cosign.run("copy", image, copy)
    assert done.returncode == 0, done.stderr
    digest = str(references.parse(image).digest)
    left = registry.client.find_manifest(references.parse(copy).tagged(digest.replace(":", "-")))
    print(f"{cosign.name} copy left: {left.media_type if left else None}")
    _sign(worker, copy, p256)
    _require(worker, copy, p256)
    name = copy.removesuffix(":1")
    assert cosign.accepts(f"{name}@{digest}", p256.public)
    if left is not None and left.is_index:
        _require(worker, copy, p256, other)
        assert cosign.accepts(f"{name}@{digest}", other.public)


def test_a_list_that_names_what_is_gone(
    registry: Registry, worker: Operator, p256: KeyFiles, other: KeyFiles, found_cosigns: list[Cosign]
) -> None:
    image = registry.image()
    _sign(worker, image, p256, formats=["bundle"])
    (gone,) = registry.referrers(image)
    registry.client.delete_manifest(references.parse(image).at(gone))
    assert registry.referrers(image) == [gone]
    assert [reason["code"] for reason in _info(worker, image)["warnings"]] == ["not_found"]
    _sign(worker, image, other, formats=["bundle"])
    _require(worker, image, other)
    assert gone not in registry.referrers(image)
    assert all(cosign.accepts(image, other.public) for cosign in found_cosigns if cosign.major >= 3)


def test_types_and_annotations_in_the_list_are_hints_only(
    registry: Registry, worker: Operator, p256: KeyFiles, tmp_path: pathlib.Path
) -> None:
    """Cosign 3.1.1 writes the type of the config where that of the artifact belongs."""
    image = registry.image()
    _sign(worker, image, p256, formats=["bundle"])
    reference = references.parse(image)
    tag = reference.tagged(str(reference.digest).replace(":", "-"))
    index = json.loads(registry.client.manifest(tag).raw)
    for wrong in ("application/vnd.oci.empty.v1+json", SBOM, None):
        for entry in index["manifests"]:
            entry.pop("annotations", None)
            entry["artifactType"] = wrong
            if wrong is None:
                del entry["artifactType"]
        registry.client.put_manifest(tag, json.dumps(index).encode(), media_type=manifests.OCI_INDEX)
        _require(worker, image, p256)
        assert not _sign(worker, image, p256, formats=["bundle"])["changed"]
        assert [one["format"] for one in _info(worker, image)["signatures"]] == ["bundle"]
