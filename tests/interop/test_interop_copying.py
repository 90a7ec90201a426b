# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Copies with everything that hangs on an image, and who reads what: cosign 2 and 3, oras, skopeo, and we them."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._oci import manifest as manifests
from ansible_collections.hallmark.signing.plugins.module_utils._oci import reference as references
from interop_tools import Ansible, Cosign, Json, Registry, Task, listing, serve_registry

if t.TYPE_CHECKING:
    from conftest import KeyFiles

RunModule = t.Callable[..., Json]
PEERS = {row["name"]: row["program"] for row in json.loads(os.environ.get("HALLMARK_PEERS", "[]"))}
SKOPEOS = ("skopeo", "skopeo13")


def _peer(name: str) -> str:
    found = PEERS.get(name) or shutil.which(name)
    if found is None:
        pytest.skip(f"the real {name} is not there: HALLMARK_PEERS names none, nor is one on PATH")
    return found


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done


def _oras(*arguments: str) -> str:
    return _run(_peer("oras"), *arguments).stdout


def _skopeo(name: str, *arguments: str) -> str:
    return _run(_peer(name), "--insecure-policy", *arguments).stdout


def _copy(source: str, destination: str, **options: t.Any) -> Task:
    return Task("image_copy", {
        "copies": [{"source": source, "destination": destination}], "settle_seconds": 0, **options,
    })


def _sign(image: str, *keys: KeyFiles, **options: t.Any) -> Task:
    return Task("image_signature", {
        "images": [image], "signers": [key.signer for key in keys], "settle_seconds": 0, **options,
    })


def _verify(image: str, *keys: KeyFiles, **options: t.Any) -> Task:
    return Task("image_verify", {
        "images": [image], "trust": [{**key.authority, "name": str(number)} for number, key in enumerate(keys)],
        "on_failure": "report", "threshold": len(keys), **options,
    })


def _info(image: str, **options: t.Any) -> Task:
    return Task("image_signature_info", {"images": [image], "recursive": True, "contents": True, **options})


def _hung(result: Json) -> Json:
    """Return all that hangs on an image, in an order that does not depend on where it is."""
    row = result["results"][0]
    assert not row["warnings"], row["warnings"]
    return {
        name: sorted(row[name], key=lambda entry: json.dumps(entry, sort_keys=True))
        for name in ("digest", "signatures", "attestations", "artifacts", "tags") if name != "digest"
    }


@pytest.fixture(scope="module")
def second(registry_program: str, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Registry]:
    """Another real registry."""
    with serve_registry(tmp_path_factory.mktemp("second")) as running:
        yield running


class Loaded(t.NamedTuple):
    """An index on which hangs all that anybody hangs on one; C(image) is it at its digest."""

    image: str
    key: KeyFiles
    other: KeyFiles
    hung: Json


@pytest.fixture(scope="module")
def loaded(
    registry: Registry, ansible: Ansible, p256: KeyFiles, other: KeyFiles, found_cosigns: list[Cosign],
    tmp_path_factory: pytest.TempPathFactory,
) -> Loaded:
    """Write it: two images and BuildKit's attestation in an index, signed by two keys, attested, with an SBOM."""
    folder = tmp_path_factory.mktemp("loaded")
    name = registry.name()
    children = [registry.image(f"child {number}", name=name, tag=f"c{number}") for number in range(2)]
    entries = [registry.client.manifest(references.parse(child)).descriptor().as_json() for child in children]
    provenance = registry.image("provenance", name=name, tag="provenance")
    entries.append({
        **registry.client.manifest(references.parse(provenance)).descriptor().as_json(),
        "platform": {"architecture": "unknown", "os": "unknown"},
        "annotations": {"vnd.docker.reference.type": "attestation-manifest"},
    })
    raw = json.dumps({"schemaVersion": 2, "mediaType": manifests.OCI_INDEX, "manifests": entries}).encode()
    registry.client.put_manifest(references.parse(f"{name}:1"), raw, media_type=manifests.OCI_INDEX)
    image = f"{name}@sha256:{hashlib.sha256(raw).hexdigest()}"
    ansible.run([_sign(image, p256), _sign(image, other, annotations={"by": "other"})])
    predicate = folder / "predicate.json"
    predicate.write_text('{"is": "an attestation"}')
    for cosign in found_cosigns:
        flags = ["--tlog-upload=false"] if cosign.major < 3 else ["--signing-config", str(cosign._signing_config())]
        done = cosign.run(
            "attest", "--key", str(p256.cosign), "--predicate", str(predicate), "--type", "custom", "-y", *flags, image
        )
        assert done.returncode == 0, done.stderr
        sbom = folder / "sbom.json"
        sbom.write_text('{"spdxVersion": "SPDX-2.3"}')
        if cosign.major < 3:
            done = cosign.run("attach", "sbom", "--sbom", str(sbom), "--type", "spdx", "--input-format", "json", image)
            assert done.returncode == 0, done.stderr
    hung = _hung(ansible.run([_info(image)])[0])
    assert len(hung["signatures"]) == 2 * 2 * 3
    return Loaded(image, p256, other, hung)


def test_copies_carry_everything_in_every_direction(
    loaded: Loaded, registry: Registry, second: Registry, ansible: Ansible, tmp_path: pathlib.Path
) -> None:
    stations = [
        f"{second.host}/copied/image:1", f"oci:{tmp_path}/layout:1", f"{registry.name()}:1",
        f"oci-archive:{tmp_path}/archive.tar:1", f"oci:{tmp_path}/layout-2:1", f"{second.name()}:1",
    ]
    tasks, source = [], loaded.image
    for station in stations:
        tasks += [
            _copy(source, station), _copy(source, station), _info(station),
            _verify(station, loaded.key, loaded.other, recursive=True),
            _verify(station, loaded.key, loaded.other, recursive=True, formats=["bundle"]),
        ]
        source = station
    results = ansible.run(tasks)
    for number, station in enumerate(stations):
        first, again, info, sig, bundle = results[number * 5:number * 5 + 5]
        assert first["changed"], (station, first)
        assert first["results"][0]["digest"] == loaded.image.partition("@")[2]
        assert not again["changed"], (station, again)
        assert _hung(info) == loaded.hung, station
        assert sig["verified"], (station, sig["reasons"])
        assert bundle["verified"], (station, bundle["reasons"])


def test_what_cosigns_copy_loses_is_kept(
    loaded: Loaded, second: Registry, cosign: Cosign, ansible: Ansible
) -> None:
    theirs, ours = f"{second.name()}:1", f"{second.name()}:1"
    done = cosign.run("copy", loaded.image, theirs)
    assert done.returncode == 0, done.stderr
    copied, lost, kept = ansible.run([
        _copy(loaded.image, ours), _verify(theirs, loaded.key, formats=["bundle"]),
        _verify(ours, loaded.key, formats=["bundle"]),
    ])
    assert copied["changed"]
    assert not lost["verified"]
    assert kept["verified"]


def test_signatures_of_both_sides_are_joined(
    registry: Registry, second: Registry, ansible: Ansible, p256: KeyFiles, other: KeyFiles
) -> None:
    image, destination = registry.image(), f"{second.name()}:1"
    *_done, joined, verified, source = ansible.run([
        _sign(image, p256), _copy(image, destination), _sign(destination, other), _copy(image, destination),
        _verify(destination, p256, other), _info(image),
    ])
    assert not joined["changed"], "the destination had all of it"
    assert verified["verified"]
    assert len(source["results"][0]["signatures"]) == 2, "the source stays as it is"


def test_check_mode_copies_nothing(
    registry: Registry, second: Registry, ansible: Ansible, p256: KeyFiles, tmp_path: pathlib.Path
) -> None:
    image, destination = registry.image(), f"{second.name()}:1"
    ansible.run([_sign(image, p256)])
    places = [destination, f"oci:{tmp_path}/layout:1", f"oci-archive:{tmp_path}/archive.tar"]
    for result in ansible.run([_copy(image, place) for place in places], arguments=["--check"]):
        assert result["changed"], result
    assert second.client.find_manifest(references.parse(destination)) is None
    assert list(tmp_path.iterdir()) == []


# --- read by others --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(
    registry: Registry, ansible: Ansible, p256: KeyFiles, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, pathlib.Path]:
    """Return a signed image, and the folder with a layout (layout:1) and an archive (archive.tar) of it."""
    folder = tmp_path_factory.mktemp("written")
    image = registry.image("written")
    for result in ansible.run([
        _sign(image, p256), _copy(image, f"oci:{folder}/layout:1"), _copy(image, f"oci-archive:{folder}/archive.tar:1"),
    ]):
        assert result["changed"], result
    (folder / "unpacked").mkdir()
    _run("tar", "-x", "-f", str(folder / "archive.tar"), "-C", str(folder / "unpacked"))
    return image, folder


@pytest.mark.parametrize("layout", ["layout", "unpacked"])
def test_cosign_verifies_our_layout(
    written: tuple[str, pathlib.Path], layout: str, cosign: Cosign, p256: KeyFiles, other: KeyFiles
) -> None:
    folder = str(written[1] / layout)
    assert cosign.accepts(folder, p256.public, "--local-image")
    assert not cosign.accepts(folder, other.public, "--local-image")


@pytest.mark.parametrize("layout", ["layout", "unpacked"])
def test_cosign_loads_our_layout(
    written: tuple[str, pathlib.Path], layout: str, cosign: Cosign, second: Registry, p256: KeyFiles, ansible: Ansible
) -> None:
    destination = f"{second.name()}:1"
    done = cosign.run("load", "--dir", str(written[1] / layout), destination)
    if cosign.major >= 3 and "MANIFEST_BLOB_UNKNOWN" in done.stderr:
        # It pushes a bundle before what is in it; the image and its .sig are there by then.
        pass
    else:
        assert done.returncode == 0, done.stderr
    assert ansible.run([_verify(destination, p256, formats=["sig"])])[0]["verified"]


@pytest.mark.parametrize("name", SKOPEOS)
@pytest.mark.parametrize("source", ["oci:{}/layout:1", "oci-archive:{}/archive.tar:1"])
def test_skopeo_copies_from_what_we_wrote(
    written: tuple[str, pathlib.Path], name: str, source: str, second: Registry
) -> None:
    if name == "skopeo13" and name not in PEERS:
        pytest.skip("the skopeo of Debian 13 is not there: HALLMARK_PEERS names none")
    image, folder = written
    destination = f"{second.name()}:1"
    # It would compress the layer otherwise, and the digest would be another.
    _skopeo(name, "copy", "--preserve-digests", "--dest-tls-verify=false", source.format(folder), f"docker://{destination}")
    found = second.client.manifest(references.parse(destination))
    assert found.digest == image.partition("@")[2]


@pytest.mark.parametrize("source", ["layout", "archive.tar"])
def test_oras_finds_and_copies_what_we_wrote(
    written: tuple[str, pathlib.Path], source: str, second: Registry, p256: KeyFiles, ansible: Ansible
) -> None:
    place = f"{written[1]}/{source}:1"
    assert "application/vnd.dev.sigstore.bundle.v0.3+json" in _oras("discover", "--oci-layout", place)
    destination = f"{second.name()}:1"
    _oras("cp", "-r", "--from-oci-layout", "--to-plain-http", place, destination)
    assert ansible.run([_verify(destination, p256, formats=["bundle"])])[0]["verified"]


def test_cosign_verifies_what_we_copied(
    written: tuple[str, pathlib.Path], cosign: Cosign, second: Registry, p256: KeyFiles, other: KeyFiles,
    ansible: Ansible,
) -> None:
    destination = f"{second.name()}:1"
    assert ansible.run([_copy(f"oci-archive:{written[1]}/archive.tar", destination)])[0]["changed"]
    assert cosign.accepts(destination, p256.public)
    assert not cosign.accepts(destination, other.public)


# --- what others wrote -----------------------------------------------------------------------------------------------


def test_what_cosign_saved_is_verified_and_copied(
    registry: Registry, second: Registry, cosign: Cosign, p256: KeyFiles, ansible: Ansible, tmp_path: pathlib.Path
) -> None:
    image, destination = registry.image(), f"{second.name()}:1"
    cosign.sign(image, p256.cosign)
    done = cosign.run("save", "--dir", str(tmp_path / "saved"), image)
    assert done.returncode == 0, done.stderr
    before = listing(tmp_path / "saved")
    verified, by_digest, copied = ansible.run([
        _verify(f"oci:{tmp_path}/saved", p256), _verify(f"oci:{tmp_path}/saved@{image.partition('@')[2]}", p256),
        _copy(f"oci:{tmp_path}/saved", destination),
    ])
    assert verified["verified"], verified["reasons"]
    assert by_digest["verified"]
    assert copied["changed"]
    assert listing(tmp_path / "saved") == before
    assert cosign.accepts(destination, p256.public)


@pytest.mark.parametrize("name", SKOPEOS)
@pytest.mark.parametrize("place", ["oci:{}/theirs:1", "oci-archive:{}/theirs.tar:1"])
def test_what_skopeo_wrote_is_signed_and_copied(
    registry: Registry, second: Registry, name: str, place: str, p256: KeyFiles, found_cosigns: list[Cosign],
    ansible: Ansible, tmp_path: pathlib.Path,
) -> None:
    if name == "skopeo13" and name not in PEERS:
        pytest.skip("the skopeo of Debian 13 is not there: HALLMARK_PEERS names none")
    source, destination = place.format(tmp_path), f"{second.name()}:1"
    _skopeo(name, "copy", "--src-tls-verify=false", f"docker://{registry.image()}", source)
    layout = source
    if source.startswith("oci-archive:"):
        layout = f"oci:{tmp_path}/unpacked:1"
        assert ansible.run([_copy(source, layout)])[0]["changed"]
    signed, copied = ansible.run([_sign(layout, p256), _copy(layout, destination)])
    assert signed["changed"], signed
    assert copied["changed"], copied
    # It still reads the layout that we signed into.
    _skopeo(name, "inspect", layout)
    for cosign in found_cosigns:
        assert cosign.accepts(destination, p256.public)
        assert cosign.accepts(layout[len("oci:"):].rpartition(":")[0], p256.public, "--local-image")


def test_what_oras_wrote_is_verified_and_copied(
    registry: Registry, second: Registry, p256: KeyFiles, ansible: Ansible, tmp_path: pathlib.Path,
    bundle_cosign: Cosign,
) -> None:
    name = registry.name()
    registry.image(name=name, tag="1")
    bundle_cosign.sign(f"{name}:1", p256.cosign)
    _oras("cp", "-r", "--to-oci-layout", "--from-plain-http", f"{name}:1", f"{tmp_path}/theirs:1")
    destination = f"{second.name()}:1"
    verified, copied = ansible.run([
        _verify(f"oci:{tmp_path}/theirs:1", p256), _copy(f"oci:{tmp_path}/theirs:1", destination),
    ])
    assert verified["verified"], verified["reasons"]
    assert copied["changed"]
    assert bundle_cosign.accepts(destination, p256.public)


# --- bad input -------------------------------------------------------------------------------------------------------


def _damaged(written: tuple[str, pathlib.Path], folder: pathlib.Path) -> pathlib.Path:
    shutil.copytree(written[1] / "layout", folder / "damaged")
    return folder / "damaged"


def _layer(layout: pathlib.Path) -> pathlib.Path:
    """Return the file of the image's layer."""
    index = json.loads((layout / "index.json").read_text())
    entry = next(one for one in index["manifests"] if one["annotations"].get("kind", "").endswith("/image"))
    manifest = json.loads((layout / "blobs" / entry["digest"].replace(":", "/")).read_text())
    return layout / "blobs" / str(manifest["layers"][0]["digest"]).replace(":", "/")


def _gone(layout: pathlib.Path) -> None:
    _layer(layout).unlink()


def _changed(layout: pathlib.Path) -> None:
    file = _layer(layout)
    file.write_bytes(bytes(len(file.read_bytes())))


def _shorter(layout: pathlib.Path) -> None:
    file = _layer(layout)
    file.write_bytes(file.read_bytes()[:-1])


def _linked(layout: pathlib.Path) -> None:
    file = _layer(layout)
    outside = layout.parent / "outside"
    shutil.move(file, outside)
    file.symlink_to(outside)


def _linked_folder(layout: pathlib.Path) -> None:
    shutil.move(layout / "blobs", layout.parent / "outside")
    (layout / "blobs").symlink_to(layout.parent / "outside")


def _fifo(layout: pathlib.Path) -> None:
    file = _layer(layout)
    file.unlink()
    os.mkfifo(file)


def _no_marker(layout: pathlib.Path) -> None:
    (layout / "oci-layout").unlink()


@pytest.mark.parametrize(("damage", "code", "said"), [
    (_gone, "not_found", "no such file"),
    (_changed, "digest_mismatch", "digest"),
    (_shorter, "digest_mismatch", ""),
    (_linked, "malformed", "link"),
    (_linked_folder, "malformed", "link"),
    (_fifo, "malformed", "not a file"),
    (_no_marker, "not_found", "oci-layout"),
], ids=lambda value: getattr(value, "__name__", None))
def test_a_damaged_layout_is_refused_and_leaves_no_tag(
    written: tuple[str, pathlib.Path], second: Registry, ansible: Ansible, tmp_path: pathlib.Path,
    damage: t.Callable[[pathlib.Path], None], code: str, said: str,
) -> None:
    layout = _damaged(written, tmp_path)
    damage(layout)
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    destination = f"{second.name()}:1"
    result = ansible.run([_copy(f"oci:{layout}:1", destination)])[0]
    assert result["failed"]
    assert [reason["code"] for reason in result["reasons"]] == [code], result["msg"]
    assert said in result["msg"]
    assert str(layout) in result["msg"]
    assert second.client.find_manifest(references.parse(destination)) is None
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


@pytest.mark.parametrize(("suffix", "command"), [("gz", ["gzip", "-c"]), ("xz", ["xz", "-c"])])
def test_a_compressed_archive_is_refused_by_the_name_of_its_compressor(
    written: tuple[str, pathlib.Path], ansible: Ansible, tmp_path: pathlib.Path, suffix: str, command: list[str]
) -> None:
    packed = tmp_path / f"archive.tar.{suffix}"
    packed.write_bytes(subprocess.run(
        [*command, str(written[1] / "archive.tar")], capture_output=True, check=True
    ).stdout)
    result = ansible.run([_copy(f"oci-archive:{packed}", f"oci:{tmp_path}/layout:1")])[0]
    assert [reason["code"] for reason in result["reasons"]] == ["malformed"]
    assert {"gz": "gzip", "xz": "xz"}[suffix] in result["msg"]
    assert not (tmp_path / "layout").exists()


def test_a_full_disk_fails_the_copy_by_name_and_leaves_no_tag(
    registry: Registry, ansible: Ansible, tmp_path: pathlib.Path
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        image = registry.image("x" * 3_000_000)
        result = ansible.run([_copy(image, f"oci:{small}/layout:1")])[0]
        assert [reason["code"] for reason in result["reasons"]] == ["write_failed"], result["msg"]
        assert "No space left" in result["msg"]
        assert json.loads((small / "layout" / "index.json").read_text())["manifests"] == []
        again = ansible.run([_copy(registry.image(), f"oci:{small}/layout:1")])[0]
        assert again["changed"], "what was written in vain does not stay"
    finally:
        subprocess.run(["umount", str(small)], check=True)
