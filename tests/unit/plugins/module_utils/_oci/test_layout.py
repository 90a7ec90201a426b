# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""OCI layouts: what others wrote is read, what we write they read, and nothing leads out of the folder."""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
import typing as t
from pathlib import Path

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import FormatError, HallmarkError
from ansible_collections.hallmark.signing.plugins.module_utils._oci import layout_files, manifest
from ansible_collections.hallmark.signing.plugins.module_utils._oci.digest import digest_of
from ansible_collections.hallmark.signing.plugins.module_utils._oci.layout import Layouts
from ansible_collections.hallmark.signing.plugins.module_utils._oci.layout_reference import LayoutReference
from ansible_collections.hallmark.signing.plugins.module_utils._oci.manifest import OCI_INDEX, OCI_MANIFEST, Descriptor
from ansible_collections.hallmark.signing.plugins.module_utils._reason_codes import ReasonCode

TAG = "org.opencontainers.image.ref.name"
KIND = "kind"
COSIGN = "dev.cosignproject.cosign/"
Json = dict[str, t.Any]


class Folder:
    """A layout made by hand."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "blobs" / "sha256").mkdir(parents=True)
        (path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        self.write_index([])

    def at(self, tag: str | None = None, digest: str | None = None) -> LayoutReference:
        return LayoutReference(str(self.path), tag, digest)

    def blob_path(self, digest: str) -> Path:
        return self.path.joinpath("blobs", *digest.split(":"))

    def put(self, data: bytes) -> str:
        digest = digest_of(data)
        self.blob_path(digest).write_bytes(data)
        return digest

    def put_image(self, name: str, **members: t.Any) -> str:
        config = json.dumps({"name": name}).encode()
        return self.put(json.dumps({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST,
            "config": {"mediaType": manifest.OCI_CONFIG, "size": len(config), "digest": self.put(config)},
            "layers": [], **members,
        }).encode())

    def entry(self, digest: str, **annotations: str) -> Json:
        entry: Json = {
            "mediaType": OCI_MANIFEST, "size": len(self.blob_path(digest).read_bytes()), "digest": digest
        }
        return {**entry, "annotations": annotations} if annotations else entry

    def tagged(self, digest: str, tag: str, **annotations: str) -> Json:
        return self.entry(digest, **{TAG: tag, **annotations})

    def write_index(self, entries: t.Sequence[Json], **members: t.Any) -> None:
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(entries), **members}
        (self.path / "index.json").write_text(json.dumps(document))

    @property
    def entries(self) -> list[Json]:
        return t.cast("list[Json]", json.loads((self.path / "index.json").read_bytes())["manifests"])

    def snapshot(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.path)): path.read_bytes()
            for path in self.path.rglob("*") if path.is_file() and not path.is_symlink()
        }


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "layout")


def fails(code: ReasonCode, work: t.Callable[[], t.Any]) -> HallmarkError:
    with pytest.raises(HallmarkError) as caught:
        work()
    assert caught.value.code == code, str(caught.value)
    return caught.value


def encoded(name: str, subject: Descriptor | None = None) -> bytes:
    return manifest.encode_image(
        config=Descriptor(manifest.OCI_EMPTY, digest_of(b"{}"), 2), layers=[], annotations={"name": name},
        subject=subject, artifact_type="x/y" if subject else "",
    )


# Reading -------------------------------------------------------------------------------------------------------------


def test_finds_by_tag_by_digest_and_the_only_image(folder: Folder) -> None:
    digest = folder.put_image("one")
    folder.write_index([folder.tagged(digest, "1")])
    for image in (folder.at("1"), folder.at(digest=digest), folder.at(), folder.at("wrong", digest)):
        found = Layouts().find_manifest(image)
        assert found is not None
        assert (found.digest, found.raw) == (digest, folder.blob_path(digest).read_bytes())
        assert Layouts().has_manifest(image)


@pytest.mark.parametrize("make", [
    lambda folder: folder.at("2"), lambda folder: folder.at(digest=digest_of(b"missing")),
    lambda folder: folder.at("1 "), lambda folder: folder.at(digest=digest_of(b"x", algorithm="sha512")),
])
def test_what_is_not_there_is_none(folder: Folder, make: t.Callable[[Folder], LayoutReference]) -> None:
    folder.write_index([folder.tagged(folder.put_image("one"), "1")])
    assert Layouts().find_manifest(make(folder)) is None
    assert not Layouts().has_manifest(make(folder))
    fails("not_found", lambda: Layouts().manifest(make(folder)))


def test_an_empty_layout_has_no_image(folder: Folder) -> None:
    assert Layouts().find_manifest(folder.at()) is None


def test_no_layout_is_not_found(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        error = fails("not_found", lambda path=path: Layouts().manifest(LayoutReference(str(path), "1")))
        assert "oci-layout" in error.cause
    assert os.listdir(tmp_path) == ["temporary"]


def test_one_image_under_two_tags_is_the_only_image(folder: Folder) -> None:
    digest = folder.put_image("one")
    folder.write_index([folder.tagged(digest, "1"), folder.tagged(digest, "latest")])
    assert Layouts().manifest(folder.at()).digest == digest


def test_of_several_images_one_must_be_named(folder: Folder) -> None:
    folder.write_index([folder.tagged(folder.put_image(name), name) for name in ("b", "a")])
    error = fails("input_invalid", lambda: Layouts().manifest(folder.at()))
    assert "there are 2 images in it: a, b" in error.cause


@pytest.mark.parametrize("same", [True, False])
def test_several_entries_of_one_tag_must_agree(folder: Folder, same: bool) -> None:
    digests = [folder.put_image("one"), folder.put_image("one" if same else "two")]
    folder.write_index([folder.tagged(digest, "1") for digest in digests])
    if same:
        assert Layouts().manifest(folder.at("1")).digest == digests[0]
    else:
        fails("malformed", lambda: Layouts().manifest(folder.at("1")))
        assert Layouts().manifest(folder.at(digest=digests[1])).digest == digests[1]


def test_untagged_entries_are_the_only_image_only_alone(folder: Folder) -> None:
    one = folder.put_image("one")
    folder.write_index([folder.entry(one)])
    assert Layouts().manifest(folder.at()).digest == one
    folder.write_index([folder.entry(one), folder.tagged(two := folder.put_image("two"), "2")])
    assert Layouts().manifest(folder.at()).digest == two


# What "cosign save" writes: kinds and no tags; what belongs to the image is found by the tag it has in a registry.
def cosign_saved(folder: Folder) -> tuple[str, dict[str, str]]:
    image = folder.put_image("image")
    belonging = {suffix: folder.put_image(suffix) for suffix in ("sig", "att", "sbom")}
    folder.write_index([
        folder.entry(image, **{KIND: f"{COSIGN}image"}),
        *(folder.entry(digest, **{KIND: f"{COSIGN}{suffix}s"}) for suffix, digest in belonging.items()),
    ])
    return image, belonging


def test_reads_what_cosign_saved(folder: Folder) -> None:
    image, belonging = cosign_saved(folder)
    assert Layouts().manifest(folder.at()).digest == image
    for suffix, digest in belonging.items():
        tag = f"{image.replace(':', '-')}.{suffix}"
        assert Layouts().manifest(folder.at(tag)).digest == digest
        assert Layouts().find_manifest(folder.at(f"sha256-{'0' * 64}.{suffix}")) is None


def test_kinds_say_nothing_where_there_are_two_images(folder: Folder) -> None:
    image, _belonging = cosign_saved(folder)
    folder.write_index([*folder.entries, folder.entry(folder.put_image("other"), **{KIND: f"{COSIGN}image"})])
    assert Layouts().find_manifest(folder.at(f"{image.replace(':', '-')}.sig")) is None


def test_a_new_sig_takes_the_place_of_what_cosign_saved(folder: Folder) -> None:
    image, belonging = cosign_saved(folder)
    tag = f"{image.replace(':', '-')}.sig"
    Layouts().put_manifest(folder.at(tag), encoded("new"))
    assert Layouts().manifest(folder.at(tag)).digest == digest_of(encoded("new"))
    kinds = [entry["annotations"][KIND] for entry in folder.entries]
    assert sorted(kinds) == sorted([f"{COSIGN}{kind}" for kind in ("image", "atts", "sboms", "sigs")])
    assert belonging["sig"] not in {entry["digest"] for entry in folder.entries}


def test_referrers_are_found_listed_or_not(folder: Folder) -> None:
    image = folder.put_image("image")
    subject = {"mediaType": OCI_MANIFEST, "size": 1, "digest": image}
    one, two = (folder.put_image(name, subject=subject, artifactType="x/y") for name in ("one", "two"))
    folder.put_image("of another", subject={**subject, "digest": digest_of(b"another")})
    folder.put(b'{"subject": {"digest": "' + image.encode() + b'"}, "some": "blob"')
    folder.put(b'layer "subject" ' + image.encode())
    folder.write_index([folder.tagged(image, "1"), folder.entry(one)])
    found = Layouts().referrers(folder.at("1"), image)
    assert [entry.digest for entry in found] == sorted([one, two])
    assert {entry.artifact_type for entry in found} == {"x/y"}


def test_referrers_that_come_and_go_are_noticed(folder: Folder) -> None:
    layouts = Layouts()
    image = folder.put_image("image")
    subject = {"mediaType": OCI_MANIFEST, "size": 1, "digest": image}
    assert layouts.referrers(folder.at(), image) == ()
    one = folder.put_image("one", subject=subject)
    assert [entry.digest for entry in layouts.referrers(folder.at(), image)] == [one]
    folder.blob_path(one).unlink()
    assert layouts.referrers(folder.at(), image) == ()


def test_a_blob_that_is_not_what_it_is_named_refers_to_nothing(folder: Folder) -> None:
    image = folder.put_image("image")
    one = folder.put_image("one", subject={"mediaType": OCI_MANIFEST, "size": 1, "digest": image})
    folder.blob_path(one).write_bytes(folder.blob_path(one).read_bytes() + b" ")
    assert Layouts().referrers(folder.at(), image) == ()


def test_names_of_the_other_algorithm_are_kept(folder: Folder) -> None:
    (folder.path / "blobs" / "sha512").mkdir()
    raw = encoded("one")
    image = digest_of(raw, algorithm="sha512")
    folder.blob_path(image).write_bytes(raw)
    referring = encoded("referrer", Descriptor(OCI_MANIFEST, image, len(raw)))
    referrer = digest_of(referring, algorithm="sha512")
    folder.blob_path(referrer).write_bytes(referring)
    folder.write_index([folder.tagged(image, "1")])
    for place in (folder.at("1"), folder.at(digest=image)):
        assert Layouts().manifest(place).digest == image
    assert [one.digest for one in Layouts().referrers(folder.at("1"), image)] == [referrer]


def test_a_missing_blob_of_a_tag_is_an_error(folder: Folder) -> None:
    digest = folder.put_image("one")
    folder.write_index([folder.tagged(digest, "1")])
    folder.blob_path(digest).unlink()
    error = fails("not_found", lambda: Layouts().find_manifest(folder.at("1")))
    assert digest in error.object
    blob = Descriptor("x/y", digest_of(b"missing"), 7)
    fails("not_found", lambda: Layouts().blob(folder.at(), blob, limit=100))
    fails("not_found", lambda: list(Layouts().stream_blob(folder.at(), blob)))
    assert not Layouts().has_blob(folder.at(), blob)


@pytest.mark.parametrize("by_digest", [True, False])
def test_a_manifest_with_a_wrong_digest_is_refused(folder: Folder, by_digest: bool) -> None:
    digest = folder.put_image("one")
    folder.write_index([folder.tagged(digest, "1")])
    folder.blob_path(digest).write_bytes(folder.blob_path(folder.put_image("two")).read_bytes())
    fails("digest_mismatch", lambda: Layouts().manifest(
        folder.at(digest=digest) if by_digest else folder.at("1")
    ))


@pytest.mark.parametrize(("content", "size", "code"), [
    (b"other", 5, "digest_mismatch"), (b"righ", 5, "digest_mismatch"), (b"rights", 5, "limit_exceeded"),
    (b"right", 4, "limit_exceeded"), (b"right", 6, "digest_mismatch"), (b"right", 101, "limit_exceeded"),
])
def test_a_wrong_blob_is_refused(folder: Folder, content: bytes, size: int, code: ReasonCode) -> None:
    folder.blob_path(digest_of(b"right")).write_bytes(content)
    blob = Descriptor("x/y", digest_of(b"right"), size)
    fails(code, lambda: Layouts().blob(folder.at(), blob, limit=100))


@pytest.mark.parametrize("offset", [0, 1, 70_000, 199_999, 200_000])
def test_streams_from_an_offset(folder: Folder, offset: int) -> None:
    data = os.urandom(200_000)
    blob = Descriptor("x/y", folder.put(data), len(data))
    chunks = list(Layouts().stream_blob(folder.at(), blob, offset=offset))
    assert b"".join(chunks) == data[offset:]
    assert all(len(chunk) <= 65536 for chunk in chunks)


# Nothing leads out of it ---------------------------------------------------------------------------------------------


def _symlink(folder: Folder, path: Path, outside: Path) -> None:
    outside.write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(outside)


def _link_inside(folder: Folder, path: Path, outside: Path) -> None:
    path.rename(folder.path / "kept")
    path.symlink_to(os.path.relpath(folder.path / "kept", path.parent))


def _fifo(folder: Folder, path: Path, outside: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _folder(folder: Folder, path: Path, outside: Path) -> None:
    path.unlink()
    path.mkdir()


def _socket(folder: Folder, path: Path, outside: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def _parent(folder: Folder, path: Path, outside: Path) -> None:
    parent = path.parent
    parent.rename(outside)
    parent.symlink_to(outside)


def _grandparent(folder: Folder, path: Path, outside: Path) -> None:
    blobs = folder.path / "blobs"
    blobs.rename(outside)
    blobs.symlink_to(outside)


PLANTED = [_symlink, _link_inside, _fifo, _folder, _socket]


@pytest.mark.parametrize("plant", [*PLANTED, _parent, _grandparent])
def test_a_blob_is_a_plain_file_inside(
    folder: Folder, tmp_path: Path, plant: t.Callable[[Folder, Path, Path], None]
) -> None:
    digest = folder.put_image("one")
    folder.write_index([folder.tagged(digest, "1")])
    blob = Descriptor(OCI_MANIFEST, digest, len(folder.blob_path(digest).read_bytes()))
    plant(folder, folder.blob_path(digest), tmp_path / "outside")
    works: list[t.Callable[[], t.Any]] = [
        lambda: Layouts().manifest(folder.at("1")), lambda: Layouts().manifest(folder.at(digest=digest)),
        lambda: Layouts().blob(folder.at(), blob, limit=10_000),
        lambda: b"".join(Layouts().stream_blob(folder.at(), blob)), lambda: Layouts().has_blob(folder.at(), blob),
    ]
    done: list[str] = []

    def work() -> None:
        # In a thread: a FIFO that was opened would block for ever.
        for one in works:
            with pytest.raises(HallmarkError) as caught:
                one()
            done.append(caught.value.code)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(120)
    assert done == ["malformed"] * len(works)


@pytest.mark.parametrize("name", ["index.json", "oci-layout"])
@pytest.mark.parametrize("plant", PLANTED)
def test_its_own_files_are_plain_files(
    folder: Folder, tmp_path: Path, name: str, plant: t.Callable[[Folder, Path, Path], None]
) -> None:
    folder.write_index([folder.tagged(folder.put_image("one"), "1")])
    plant(folder, folder.path / name, tmp_path / "outside")
    fails("malformed", lambda: Layouts().manifest(folder.at("1")))


@pytest.mark.parametrize("plant", [_parent, _grandparent])
def test_nothing_is_written_or_removed_through_a_link(
    folder: Folder, tmp_path: Path, plant: t.Callable[[Folder, Path, Path], None]
) -> None:
    digest = folder.put_image("one")
    folder.write_index([folder.tagged(digest, "1")])
    outside = tmp_path / "outside"
    plant(folder, folder.blob_path(digest), outside)
    before = sorted(str(path) for path in outside.rglob("*"))
    large = Descriptor("x/y", digest_of(b"large"), 5)
    for work in (
        lambda: Layouts().put_blob(folder.at(), b"data"),
        lambda: Layouts().put_manifest(folder.at("2"), encoded("two")),
        lambda: Layouts().receive_blob(folder.at(), large, lambda _offset: iter([b"large"])),
        lambda: Layouts().delete_manifest(folder.at(digest=digest)),
        lambda: Layouts().detach(folder.at(), digest, [digest]),
    ):
        fails("malformed", work)
    assert sorted(str(path) for path in outside.rglob("*")) == before


def half_of(folder: Folder, blob: Descriptor) -> Path:
    """Return where a blob waits for the rest of it."""
    return folder.path / f".hallmark-signing-{blob.digest.replace(':', '-')}"


def test_what_is_half_received_is_not_written_through_a_link(folder: Folder, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"precious")
    blob = Descriptor("x/y", digest_of(b"large"), 5)
    half_of(folder, blob).symlink_to(outside / "file")
    with pytest.raises(HallmarkError):
        Layouts().receive_blob(folder.at(), blob, lambda offset: iter([b"large"[offset:]]))
    assert {path.name: path.read_bytes() for path in outside.iterdir()} == {"file": b"precious"}


def test_the_folder_itself_may_be_named_by_a_link(folder: Folder, tmp_path: Path) -> None:
    digest = folder.put_image("one")
    folder.write_index([folder.tagged(digest, "1")])
    (tmp_path / "link").symlink_to(folder.path)
    assert Layouts().manifest(LayoutReference(str(tmp_path / "link"), "1")).digest == digest


# What is no layout ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("marker", [
    "", "{}", "[]", "null", '{"imageLayoutVersion":"2.0.0"}', '{"imageLayoutVersion":"1.0"}',
    '{"imageLayoutVersion":1}', '{"imageLayoutVersion":"1.0.0"', '{"imageLayoutVersion":"1.0.0"} x',
    '{"imageLayoutVersion":"2.0.0","imageLayoutVersion":"1.0.0"}',
])
def test_a_layout_of_another_version_is_refused(folder: Folder, marker: str) -> None:
    folder.write_index([folder.tagged(folder.put_image("one"), "1")])
    (folder.path / "oci-layout").write_text(marker)
    fails("malformed", lambda: Layouts().manifest(folder.at("1")))
    before = folder.snapshot()
    fails("malformed", lambda: Layouts().put_manifest(folder.at("2"), encoded("two")))
    assert folder.snapshot() == before


def test_a_layout_without_index_is_malformed(folder: Folder) -> None:
    (folder.path / "index.json").unlink()
    fails("malformed", lambda: Layouts().manifest(folder.at("1")))


@pytest.mark.parametrize(("index", "code"), [
    (b"{", "malformed"), (b"[]", "malformed"), (b"null", "malformed"), (b"\xff", "malformed"),
    (b'{"schemaVersion":2,"manifests":{}}', "malformed"),
    (b'{"schemaVersion":2,"manifests":[{}]}', "malformed"),
    (b'{"schemaVersion":2,"manifests":[{"digest":"sha256:../../../etc/passwd","size":1}]}', "malformed"),
    (b'{"schemaVersion":2,"manifests":[{"digest":"%s","size":-1}]}' % digest_of(b"x").encode(), "malformed"),
    (b'{"schemaVersion":2,"manifests":[{"digest":"%s","size":1e999}]}' % digest_of(b"x").encode(), "malformed"),
    (b'{"schemaVersion":2,"manifests":[{"digest":"%s","size":%d}]}' % (digest_of(b"x").encode(), 1 << 70), "malformed"),
    (b'{"schemaVersion":2,"manifests":[{"digest":"%s","size":1,"annotations":{"%s":1}}]}' % (
        digest_of(b"x").encode(), TAG.encode()), "malformed"),
    (b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","layers":[]}', "malformed"),
    (b"[" * 100_000, "malformed"),
    (b" " * (33 * 1024 * 1024), "limit_exceeded"),
], ids=range(14))
def test_a_broken_index_is_an_error(folder: Folder, index: bytes, code: ReasonCode) -> None:
    (folder.path / "index.json").write_bytes(index)
    fails(code, lambda: Layouts().find_manifest(folder.at("1")))
    fails(code, lambda: Layouts().put_manifest(folder.at("2"), encoded("two")))
    assert (folder.path / "index.json").read_bytes() == index


def test_an_index_of_too_many_entries_is_refused(folder: Folder) -> None:
    entry = {"mediaType": OCI_MANIFEST, "size": 1, "digest": digest_of(b"x")}
    folder.write_index([entry] * 100_001)
    fails("limit_exceeded", lambda: Layouts().find_manifest(folder.at("1")))


# Writing -------------------------------------------------------------------------------------------------------------


def test_makes_a_layout_that_others_read(tmp_path: Path) -> None:
    image = LayoutReference(str(tmp_path / "new" / "layout"), "1")
    raw = encoded("one")
    assert Layouts().put_manifest(image, raw) is None
    path = Path(image.path)
    assert json.loads((path / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    assert json.loads((path / "index.json").read_bytes()) == {
        "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [{
            "mediaType": OCI_MANIFEST, "size": len(raw), "digest": digest_of(raw),
            "annotations": {TAG: "1", KIND: f"{COSIGN}image"},
        }],
    }
    assert sorted(str(one.relative_to(path)) for one in path.rglob("*") if one.is_file()) == sorted([
        "oci-layout", "index.json", f"blobs/sha256/{digest_of(raw)[7:]}",
    ])


def test_a_tag_that_moves_means_one_thing(folder: Folder) -> None:
    one, other = folder.put_image("one"), folder.put_image("other")
    folder.write_index([folder.tagged(one, "1"), folder.tagged(other, "2"), folder.tagged(other, "1")])
    Layouts().put_manifest(folder.at("1"), encoded("new"))
    assert [(entry["annotations"][TAG], entry["digest"]) for entry in folder.entries] == [
        ("2", other), ("1", digest_of(encoded("new"))),
    ]


def test_by_digest_nothing_is_listed(folder: Folder) -> None:
    before = (folder.path / "index.json").read_bytes()
    raw = encoded("one")
    Layouts().put_manifest(folder.at(digest=digest_of(raw)), raw)
    assert (folder.path / "index.json").read_bytes() == before
    assert Layouts().manifest(folder.at(digest=digest_of(raw))).raw == raw


def test_unknown_entries_and_members_stay_as_they_are(folder: Folder) -> None:
    entries = [
        {"mediaType": "application/x-foreign", "size": 3, "digest": digest_of(b"foreign"), "future": {"x": [1]}},
        {
            **folder.tagged(folder.put_image("one"), "9"), "platform": {"os": "linux", "architecture": "riscv64"},
            "urls": ["https://example.org/"], "data": "e30=",
        },
        folder.entry(folder.put_image("two"), note="<mine>", kind="somebody/else"),
    ]
    folder.write_index(entries)
    Layouts().put_manifest(folder.at("1"), encoded("new"))
    Layouts().attach(
        folder.at("1"), Descriptor(OCI_MANIFEST, digest_of(encoded("new")), 1),
        encoded("referrer", Descriptor(OCI_MANIFEST, digest_of(encoded("new")), 1)),
    )
    written = folder.entries
    assert written[0] == entries[0]
    assert {**written[1], "annotations": None} == {**entries[1], "annotations": None}
    assert written[1]["annotations"][TAG] == "9"
    assert written[2] == entries[2]
    assert len(written) == 5


def test_other_members_of_the_index_stay(folder: Folder) -> None:
    folder.write_index([], annotations={"note": "<mine>"}, future=[1])
    Layouts().put_manifest(folder.at("1"), encoded("new"))
    document = json.loads((folder.path / "index.json").read_bytes())
    assert (document.get("annotations"), document.get("future")) == ({"note": "<mine>"}, [1])


def test_writing_what_is_there_writes_nothing(folder: Folder) -> None:
    Layouts().put_manifest(folder.at("1"), encoded("one"))
    before = {path: path.stat().st_mtime_ns for path in folder.path.rglob("*") if path.is_file()}
    Layouts().put_manifest(folder.at("1"), encoded("one"))
    Layouts().put_blob(folder.at("1"), encoded("one"))
    assert {path: path.stat().st_mtime_ns for path in folder.path.rglob("*") if path.is_file()} == before


def test_attaches_and_detaches(folder: Folder) -> None:
    layouts = Layouts()
    layouts.put_manifest(folder.at("1"), encoded("one"))
    subject = layouts.manifest(folder.at("1")).descriptor()
    raw = encoded("referrer", subject)
    entry, written = layouts.attach(folder.at("1"), subject, raw)
    assert (entry.digest, entry.artifact_type, written) == (digest_of(raw), "x/y", None)
    assert [one.digest for one in layouts.referrers(folder.at("1"), subject.digest)] == [digest_of(raw)]
    assert folder.entries[-1]["artifactType"] == "x/y"
    # The only image is still the image.
    assert layouts.manifest(folder.at()).digest == subject.digest
    assert layouts.detach(folder.at("1"), subject.digest, [digest_of(raw)]) is None
    assert layouts.referrers(folder.at("1"), subject.digest) == ()
    assert len(folder.entries) == 1
    assert not folder.blob_path(digest_of(raw)).exists()


@pytest.mark.parametrize("foreign", ["file", ".git/", "index.html", "blobs.old/"])
def test_a_folder_with_other_files_is_left_alone(tmp_path: Path, foreign: str) -> None:
    target = tmp_path / "busy"
    target.mkdir()
    (target / foreign).mkdir() if foreign.endswith("/") else (target / foreign).write_text("precious")
    for work in (
        lambda: Layouts().put_manifest(LayoutReference(str(target), "1"), encoded("one")),
        lambda: Layouts().put_blob(LayoutReference(str(target), "1"), b"x"),
    ):
        error = fails("destination_occupied", work)
        assert foreign.rstrip("/") in error.cause
    assert os.listdir(target) == [foreign.rstrip("/")]


def test_a_file_in_place_of_the_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    with pytest.raises(HallmarkError):
        Layouts().put_manifest(LayoutReference(str(tmp_path / "file"), "1"), encoded("one"))
    assert (tmp_path / "file").read_text() == "precious"


def test_an_empty_folder_becomes_a_layout(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    image = LayoutReference(str(tmp_path / "empty"), "1")
    Layouts().put_manifest(image, encoded("one"))
    assert Layouts().manifest(image).digest == digest_of(encoded("one"))


def test_a_full_disk_leaves_nothing_behind(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    before = folder.snapshot()

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(layout_files.os, "fsync", full)
    blob = Descriptor("x/y", digest_of(b"large"), 5)
    for work in (
        lambda: Layouts().put_blob(folder.at(), b"data"),
        lambda: Layouts().receive_blob(folder.at(), blob, lambda _offset: iter([b"large"])),
        lambda: Layouts().put_manifest(folder.at("1"), encoded("one")),
    ):
        error = fails("write_failed", work)
        assert error.cause == "No space left on device"
    assert folder.snapshot() == before


def test_what_another_process_took_away_was_not_received(folder: Folder) -> None:
    blob = Descriptor("x/y", digest_of(b"large"), 5)

    def read_from(_offset: int) -> t.Iterator[bytes]:
        yield b"la"
        half_of(folder, blob).unlink()
        yield b"rge"

    fails("write_failed", lambda: Layouts().receive_blob(folder.at(), blob, read_from))
    assert not folder.blob_path(blob.digest).exists()


@pytest.mark.parametrize(("partial", "asked"), [(b"la", 2), (b"", 0), (b"large", 5), (b"larger than it", 0)])
def test_goes_on_with_what_a_former_run_left(folder: Folder, partial: bytes, asked: int) -> None:
    blob = Descriptor("x/y", digest_of(b"large"), 5)
    path = half_of(folder, blob)
    path.write_bytes(partial)
    offsets: list[int] = []

    def read_from(offset: int) -> t.Iterator[bytes]:
        offsets.append(offset)
        yield b"large"[offset:]

    Layouts().receive_blob(folder.at(), blob, read_from)
    assert offsets == [asked]
    assert folder.blob_path(blob.digest).read_bytes() == b"large"
    assert not path.exists()


def test_wrong_leftovers_are_thrown_away(folder: Folder) -> None:
    blob = Descriptor("x/y", digest_of(b"large"), 5)
    half_of(folder, blob).write_bytes(b"xx")
    fails("digest_mismatch", lambda: Layouts().receive_blob(
        folder.at(), blob, lambda offset: iter([b"large"[offset:]])
    ))
    Layouts().receive_blob(folder.at(), blob, lambda offset: iter([b"large"[offset:]]))
    assert folder.blob_path(blob.digest).read_bytes() == b"large"


# Writers at the same time --------------------------------------------------------------------------------------------


def _write_tags(path: str, name: str, count: int) -> None:
    for number in range(count):
        Layouts().put_manifest(LayoutReference(path, f"{name}-{number}"), encoded(f"{name} {number}"))


@pytest.mark.parametrize("exists", [True, False])
def test_processes_that_write_at_once_lose_nothing(tmp_path: Path, exists: bool) -> None:
    path = tmp_path / "layout"
    if exists:
        Folder(path)
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_write_tags, args=(str(path), f"p{number}", 15)) for number in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    found = json.loads((path / "index.json").read_bytes())["manifests"]
    assert sorted(entry["annotations"][TAG] for entry in found) == sorted(
        f"p{process}-{number}" for process in range(3) for number in range(15)
    )
    assert sorted(os.listdir(path)) == ["blobs", "index.json", "oci-layout"]


def test_a_blob_that_many_receive_at_once_is_whole(folder: Folder) -> None:
    data = os.urandom(300_000)
    blob = Descriptor("x/y", digest_of(data), len(data))
    problems: list[BaseException] = []

    def read_from(offset: int) -> t.Iterator[bytes]:
        for start in range(offset, len(data), 10_000):
            yield data[start:start + 10_000]

    def work() -> None:
        try:
            Layouts().receive_blob(folder.at(), blob, read_from)
        except BaseException as exc:
            problems.append(exc)

    threads = [threading.Thread(target=work) for _number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert problems == []
    assert folder.blob_path(blob.digest).read_bytes() == data


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_can_be_read(folder: Folder) -> None:
    digest = folder.put_image("one")
    folder.write_index([folder.tagged(digest, "1")])
    for path in (folder.path, *folder.path.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    assert Layouts().manifest(folder.at("1")).digest == digest
    fails("write_failed", lambda: Layouts().put_manifest(folder.at("2"), encoded("two")))


def test_reading_writes_nothing(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = folder.put_image("one")
    folder.write_index([folder.tagged(digest, "1")])

    def refuse(*_arguments: t.Any, **_options: t.Any) -> t.NoReturn:
        raise OSError(30, "Read-only file system")

    for name in ("mkdir", "makedirs", "replace", "link", "unlink"):
        monkeypatch.setattr(layout_files.os, name, refuse)
    layouts = Layouts()
    found = layouts.manifest(folder.at("1"))
    config = t.cast(Descriptor, found.config)
    assert layouts.blob(folder.at("1"), config, limit=100)
    assert layouts.referrers(folder.at("1"), digest) == ()
    assert layouts.settle_seconds(folder.at("1")) == 0
    fails("write_failed", lambda: layouts.put_manifest(folder.at("2"), encoded("two")))


def test_a_format_error_names_the_layout(folder: Folder) -> None:
    (folder.path / "index.json").write_bytes(b"{")
    with pytest.raises(FormatError) as caught:
        Layouts().manifest(folder.at("1"))
    assert str(folder.path) in caught.value.object
