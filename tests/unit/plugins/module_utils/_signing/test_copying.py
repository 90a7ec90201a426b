# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copying images with all that hangs on them, between registries of both kinds, layouts and archives."""

from __future__ import annotations

import errno
import json
import os
import shutil
import typing as t
from pathlib import Path

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._oci import layout_files, transfer
from ansible_collections.hallmark.signing.plugins.module_utils._oci.credentials import AuthFile
from ansible_collections.hallmark.signing.plugins.module_utils._oci.images import Images
from ansible_collections.hallmark.signing.plugins.module_utils._oci.transport import RegistrySettings
from ansible_collections.hallmark.signing.plugins.module_utils._signing import authority, copying, remove, sign, verify
from ansible_collections.hallmark.signing.tests.unit import fake_registry
from ansible_collections.hallmark.signing.tests.unit.fake_registry import FakeRegistry, Fault, Seen, digest_of
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._signing.signing_bench import (
    REPOSITORY,
    Bench,
    Json,
    Key,
    codes,
)

MakeBench = t.Callable[..., Bench]
COPY = "mirror/app"
BUILDKIT = {
    "annotations": {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": "sha256:x"},
    "platform": {"architecture": "unknown", "os": "unknown"},
}


def images(**options: t.Any) -> Images:
    return Images(RegistrySettings(AuthFile("none", {}), **options))


def copy(source: str, destination: str, *, dry_run: bool = False, **options: t.Any) -> copying.Copy:
    """Copy in a new run, and settle."""
    known = images(**options)
    done = copying.copy_image(known, known, (source, destination), dry_run=dry_run)
    return copying.settle(known, done)


def succeed(source: str, destination: str, **options: t.Any) -> copying.Copy:
    done = copy(source, destination, **options)
    assert done.reasons == ()
    return done


def refer(bench: Bench, subject: str, note: str) -> str:
    """Let a manifest refer to another, in either kind of registry."""
    digest = bench.registry.put_referrer(REPOSITORY, subject, note=note)
    if not bench.registry.referrers:
        bench.list_referrers([*bench.listed(subject), bench.entry(digest)], of=subject)
    return digest


class Released:
    """An index at REPOSITORY:2 with everything that can hang on one."""

    def __init__(self, bench: Bench, key: Key) -> None:
        self.bench = bench
        registry = bench.registry
        made = registry.put_index(REPOSITORY, "2", ["linux/amd64", "linux/arm64"])
        platforms: list[Json] = bench.manifests[made].members["manifests"]
        attestation = registry.put_image(REPOSITORY, "attestation", platform="unknown/unknown")
        del bench.manifests["attestation"], bench.manifests[made]
        self.index = registry.put_manifest(REPOSITORY, {
            "schemaVersion": 2, "mediaType": fake_registry.OCI_INDEX,
            "manifests": [*platforms, bench.entry(attestation, **BUILDKIT)],
        }, tag="2")
        self.children = [entry["digest"] for entry in platforms]
        self.digests = [self.index, *self.children, attestation]
        outcome = sign.sign_image(images(), self.name, sign.Wish((key.signer,)))
        assert outcome.reasons == ()
        self.tags: list[str] = []
        for digest in self.digests:
            for suffix in ("att", "sbom"):
                tag = f"{digest.replace(':', '-')}.{suffix}"
                bench.registry.put_manifest(REPOSITORY, {
                    "schemaVersion": 2, "mediaType": fake_registry.OCI_MANIFEST,
                    "config": bench.descriptor(b"{}", "application/vnd.oci.image.config.v1+json"),
                    "layers": [bench.descriptor(f"{suffix} of {digest}".encode(), "application/vnd.example+json")],
                }, tag=tag)
                self.tags.append(tag)
        self.tags += [f"{digest.replace(':', '-')}.sig" for digest in [self.index, *self.children]]
        self.on_child = refer(bench, self.children[1], "on a child")
        self.on_referrer = refer(bench, self.on_child, "on a referrer")
        self.on_attestation = refer(bench, attestation, "on an attestation")

    @property
    def name(self) -> str:
        return f"{self.bench.name}:2"

    def at(self, fake: FakeRegistry) -> list[str]:
        """Say what of all that is not at a registry, under COPY."""
        present = fake.manifests.get(COPY, {})
        missing = [digest for digest in self.digests if digest not in present]
        missing += [tag for tag in self.tags if present.get(tag) != self.bench.manifests[tag]]
        known = images()
        for subject in (*self.digests, self.on_child):
            wanted = {one.digest for one in known.referrers(sign.references.parse(self.name), subject)}
            listed = known.referrers(sign.references.parse(f"{fake.host}/{COPY}"), subject)
            missing += sorted(wanted - {one.digest for one in listed})
            missing += [digest for digest in wanted if digest not in present]
        assert {self.on_child, self.on_referrer, self.on_attestation} <= set(self.bench.manifests)
        return missing


@pytest.fixture
def released(bench: Bench, alice: Key) -> Released:
    return Released(bench, alice)


@pytest.fixture(params=[True, False], ids=["to-native", "to-fallback"])
def target(request: pytest.FixtureRequest, make_bench: MakeBench) -> FakeRegistry:
    fake = make_bench(referrers=request.param).registry
    fake.manifests.clear()
    fake.blobs.clear()
    return fake


def demand(*keys: Key, **demanded: t.Any) -> authority.Demand:
    trusted = [key.authority for key in keys]
    return authority.demand(trusted, recursive=True, docker_reference_check="ignore", **demanded)


def test_everything_is_copied(released: Released, target: FakeRegistry, alice: Key) -> None:
    done = succeed(released.name, f"{target.host}/{COPY}:9")
    assert (done.digest, done.changed) == (released.index, True)
    assert released.at(target) == []
    assert target.manifests[COPY]["9"] == released.bench.manifests["2"]
    verdict = verify.verify_image(images(), f"{target.host}/{COPY}:9", demand(alice))
    assert verdict.reasons == ()
    assert verdict.verified


def test_the_source_is_only_read(released: Released, target: FakeRegistry) -> None:
    before, seen = released.bench.content(), len(released.bench.registry.log)
    succeed(released.name, f"{target.host}/{COPY}:9")
    assert released.bench.content() == before
    assert {one.method for one in released.bench.registry.log[seen:]} <= {"GET", "HEAD"}


def test_a_second_copy_changes_nothing(released: Released, target: FakeRegistry) -> None:
    succeed(released.name, f"{target.host}/{COPY}:9")
    before = (dict(target.manifests[COPY]), dict(target.blobs[COPY]), len(target.log))
    done = succeed(released.name, f"{target.host}/{COPY}:9")
    assert (done.changed, done.written) == (False, ())
    again = target.log[before[2]:]
    assert {seen.method for seen in again} <= {"GET", "HEAD"}
    assert (target.manifests[COPY], target.blobs[COPY]) == before[:2]
    # Per digest: one look for the manifest, three tags, the referrers; and what hangs on referrers.
    assert len(again) <= 60


def test_a_dry_run_says_what_would_change_and_writes_nothing(released: Released, target: FakeRegistry) -> None:
    assert succeed(released.name, f"{target.host}/{COPY}:9", dry_run=True).changed
    assert {seen.method for seen in target.log} <= {"GET", "HEAD"}
    succeed(released.name, f"{target.host}/{COPY}:9")
    assert not succeed(released.name, f"{target.host}/{COPY}:9", dry_run=True).changed
    # Something is missing again.
    del target.manifests[COPY]["9"]
    assert succeed(released.name, f"{target.host}/{COPY}:9", dry_run=True).changed


@pytest.mark.parametrize("missing", ["sig", "bundle", "child", "att", "tag", "referrer"])
def test_what_is_missing_is_added(released: Released, target: FakeRegistry, missing: str) -> None:
    succeed(released.name, f"{target.host}/{COPY}:9")
    present = target.manifests[COPY]
    gone = {
        "sig": [f"{released.index.replace(':', '-')}.sig"], "att": [f"{released.children[0].replace(':', '-')}.att"],
        "child": [released.children[0]], "tag": ["9"], "referrer": [released.on_child],
        "bundle": released.bench.referrers(released.index),
    }[missing]
    for one in gone:
        del present[one]
        if ":" in one:
            # The registry lists it no more.
            for name, stored in list(present.items()):
                members = stored.members.get("manifests", [])
                if ":" not in name and any(entry["digest"] == one for entry in members) and name != "9":
                    del present[name]
    assert succeed(released.name, f"{target.host}/{COPY}:9").changed
    assert released.at(target) == []
    assert "9" in present


def test_signatures_of_both_sides_are_joined(
    released: Released, target: FakeRegistry, alice: Key, bob: Key, carol: Key
) -> None:
    name = f"{target.host}/{COPY}:9"
    succeed(released.name, name)
    assert sign.sign_image(images(), name, sign.Wish((bob.signer,))).reasons == ()
    assert sign.sign_image(images(), released.name, sign.Wish((carol.signer,))).reasons == ()
    assert succeed(released.name, name).changed
    for format in ("sig", "bundle"):
        verdict = verify.verify_image(images(), name, demand(alice, bob, carol, threshold=3, formats=(format,)))
        assert verdict.reasons == (), format
    assert not succeed(released.name, name).changed


def test_a_copy_of_signatures_counts_only_for_their_image(
    released: Released, target: FakeRegistry, alice: Key, mallory: Key
) -> None:
    name = f"{target.host}/{COPY}:9"
    succeed(released.name, name)
    verdict = verify.verify_image(images(), name, demand(mallory))
    assert not verdict.verified


def test_copies_a_single_image_by_digest(bench: Bench, target: FakeRegistry) -> None:
    done = succeed(bench.pinned, f"{target.host}/{COPY}@{bench.digest}")
    assert done.changed
    assert list(target.manifests[COPY]) == [bench.digest]


def test_a_destination_with_another_digest_is_refused(bench: Bench, target: FakeRegistry) -> None:
    done = copy(bench.tagged, f"{target.host}/{COPY}@sha256:{'0' * 64}")
    assert (codes(done.reasons), done.changed, target.log) == (["digest_mismatch"], False, [])


@pytest.mark.parametrize(("source", "code"), [("{host}/team/missing:1", "not_found"), ("{host}/TEAM", "malformed")])
def test_a_source_that_is_not_there_is_a_reason(
    bench: Bench, target: FakeRegistry, source: str, code: str
) -> None:
    done = copy(source.format(host=bench.registry.host), f"{target.host}/{COPY}:9")
    assert codes(done.reasons) == [code]
    assert target.log == []
    assert done.as_dict()["failed"] is True


@pytest.mark.parametrize("what", ["index", "manifest", "blob", "upload", "referrer"])
def test_a_destination_that_refuses_something_gets_no_tag(
    released: Released, target: FakeRegistry, what: str
) -> None:
    def refused(seen: Seen) -> bool:
        kind = seen.headers.get("content-type", "")
        return {
            "index": seen.method == "PUT" and kind == fake_registry.OCI_INDEX,
            "manifest": seen.method == "PUT" and kind == fake_registry.OCI_MANIFEST,
            "blob": seen.method == "PUT" and "/blobs/" in seen.path,
            "upload": seen.method == "POST",
            "referrer": b'"subject"' in seen.body,
        }[what]

    target.faults.append(lambda seen: Fault(status=400, body=b'{"errors":[{"code":"MANIFEST_INVALID"}]}')
                         if refused(seen) else None)
    done = copy(released.name, f"{target.host}/{COPY}:9")
    assert codes(done.reasons) == ["registry_error"]
    assert "9" not in target.manifests.get(COPY, {})


def test_what_was_written_before_a_failure_is_told(released: Released, target: FakeRegistry) -> None:
    target.faults.append(lambda seen: Fault(status=400) if seen.path.endswith("/manifests/9") and seen.method == "PUT"
                         else None)
    done = copy(released.name, f"{target.host}/{COPY}:9")
    assert done.reasons
    assert done.changed


@pytest.mark.parametrize("path", ["/manifests/sha256:", "/blobs/"])
def test_wrong_content_is_copied_nowhere(bench: Bench, target: FakeRegistry, path: str) -> None:
    bench.registry.fail(Fault.wrong_bytes(), method="GET", path=path)
    done = copy(bench.pinned, f"{target.host}/{COPY}:9")
    assert codes(done.reasons) == ["digest_mismatch"]
    assert target.manifests.get(COPY, {}) == {}


def test_a_manifest_that_lies_about_its_subject_is_not_attached(fallback: Bench, target: FakeRegistry) -> None:
    other = fallback.registry.put_image(REPOSITORY, "other")
    stray = fallback.registry.put_referrer(REPOSITORY, other, note="of another")
    fallback.list_referrers([fallback.entry(stray)])
    succeed(fallback.tagged, f"{target.host}/{COPY}:9")
    assert stray not in target.manifests[COPY]


@pytest.mark.parametrize(("count", "codes_"), [(4, []), (5, ["limit_exceeded"]), (8, ["limit_exceeded"])])
def test_referrers_without_end_are_refused(
    bench: Bench, target: FakeRegistry, count: int, codes_: list[str]
) -> None:
    subject = bench.digest
    for number in range(count):
        subject = refer(bench, subject, str(number))
    done = copy(bench.tagged, f"{target.host}/{COPY}:9")
    assert codes(done.reasons) == codes_
    assert ("9" in target.manifests.get(COPY, {})) is not bool(codes_)


def test_a_destination_whose_tag_cannot_be_read_gets_none(bench: Bench, target: FakeRegistry) -> None:
    succeed(bench.tagged, f"{target.host}/{COPY}:8")
    target.faults.append(lambda seen: Fault(status=403) if seen.path.endswith("/manifests/9") and seen.method == "GET"
                         else None)
    done = copy(bench.tagged, f"{target.host}/{COPY}:9")
    assert (codes(done.reasons), done.changed) == (["unauthorized"], False)
    assert "9" not in target.manifests[COPY]


def test_a_destination_that_does_not_tell_what_it_has_is_left_alone(bench: Bench, target: FakeRegistry) -> None:
    target.faults.append(lambda seen: Fault(status=403) if seen.method == "HEAD" else None)
    done = copy(bench.tagged, f"{target.host}/{COPY}:9")
    assert (codes(done.reasons), done.changed) == (["unauthorized"], False)
    assert target.manifests.get(COPY, {}) == {}


def test_a_destination_that_does_not_tell_what_refers_is_a_reason(released: Released, target: FakeRegistry) -> None:
    succeed(released.name, f"{target.host}/{COPY}:1")
    listed = ("/referrers/", "/manifests/sha256-")
    target.faults.append(
        lambda seen: Fault(status=403) if any(part in seen.path for part in listed) and "." not in seen.path.rpartition(
            "/")[2] else None
    )
    done = copy(released.name, f"{target.host}/{COPY}:2")
    assert codes(done.reasons) == ["unauthorized"]
    assert "2" not in target.manifests[COPY]


@pytest.mark.parametrize("names", ["nothing", "another"])
def test_a_tag_that_does_not_name_the_copy_afterwards_is_a_reason(
    bench: Bench, target: FakeRegistry, names: str
) -> None:
    other = bench.registry.put_image(REPOSITORY, "other")

    def moved(seen: Seen) -> Fault | None:
        if not seen.path.endswith("/manifests/9") or seen.method != "GET":
            return None
        found = bench.manifests[other]
        return Fault(status=404) if names == "nothing" else Fault(
            status=200, headers={"Content-Type": found.media_type}, body=found.raw
        )

    target.faults.append(moved)
    done = copy(bench.tagged, f"{target.host}/{COPY}:9")
    assert (codes(done.reasons), done.changed) == (["write_lost"], True)


def test_a_referrer_that_is_an_index_brings_its_children(bench: Bench, target: FakeRegistry) -> None:
    child = bench.registry.put_image(REPOSITORY, "child")
    subject = bench.manifests[bench.digest]
    digest = bench.registry.put_manifest(REPOSITORY, {
        "schemaVersion": 2, "mediaType": fake_registry.OCI_INDEX, "manifests": [bench.entry(child)],
        "subject": {"mediaType": subject.media_type, "size": len(subject.raw), "digest": bench.digest},
        "artifactType": "application/example",
    })
    if not bench.registry.referrers:
        bench.list_referrers([bench.entry(digest)])
    succeed(bench.tagged, f"{target.host}/{COPY}:9")
    assert {digest, child} <= set(target.manifests[COPY])
    assert not succeed(bench.tagged, f"{target.host}/{COPY}:9").changed


@pytest.mark.parametrize(("levels", "codes_"), [(32, []), (33, ["limit_exceeded"]), (600, ["limit_exceeded"])])
def test_an_index_nested_without_end_is_a_reason(
    fallback: Bench, target: FakeRegistry, levels: int, codes_: list[str]
) -> None:
    digest = fallback.digest
    for _level in range(levels):
        digest = fallback.registry.put_manifest(REPOSITORY, {
            "schemaVersion": 2, "mediaType": fake_registry.OCI_INDEX, "manifests": [fallback.entry(digest)],
        })
    done = copy(f"{fallback.name}@{digest}", f"{target.host}/{COPY}:9")
    assert codes(done.reasons) == codes_


# What removal leaves where nothing can be deleted.
def test_a_sig_without_layers_is_no_change(bench: Bench, target: FakeRegistry) -> None:
    bench.put_layers([])
    succeed(bench.tagged, f"{target.host}/{COPY}:9")
    assert not succeed(bench.tagged, f"{target.host}/{COPY}:9").changed


def test_within_one_registry_blobs_are_mounted(bench: Bench, alice: Key) -> None:
    released = Released(bench, alice)
    bench.registry.log.clear()
    succeed(released.name, f"{bench.registry.host}/{COPY}:9")
    assert released.at(bench.registry) == []
    posts = bench.registry.requests("POST")
    assert posts
    assert [seen.path for seen in posts if "mount=" not in seen.path and "/team/" in seen.path] == []


def test_within_one_repository_only_the_tag_is_new(released: Released) -> None:
    before = len(released.bench.registry.log)
    done = succeed(released.name, f"{released.bench.name}:stable")
    assert done.changed
    writes = [seen for seen in released.bench.registry.log[before:] if seen.method not in ("GET", "HEAD")]
    assert [seen.path.rpartition("/")[2] for seen in writes] == ["stable"]


# Layouts and archives ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["oci", "oci-archive"])
def test_a_copy_goes_out_and_in_again(
    released: Released, target: FakeRegistry, alice: Key, tmp_path: Path, prefix: str
) -> None:
    away = f"{prefix}:{tmp_path}/image:9"
    assert succeed(released.name, away).changed
    assert not succeed(released.name, away).changed
    verdict = verify.verify_image(images(), away, demand(alice, formats=("bundle",)))
    assert verdict.reasons == ()
    assert verify.verify_image(images(), away, demand(alice, formats=("sig",))).verified
    succeed(away, f"{target.host}/{COPY}:9")
    assert released.at(target) == []
    assert sorted(os.listdir(tmp_path)) == ["image"]


def test_an_archive_keeps_what_it_has(released: Released, tmp_path: Path) -> None:
    away = f"oci-archive:{tmp_path}/image.tar"
    succeed(released.bench.tagged, f"{away}:1")
    succeed(released.name, f"{away}:2")
    known = images()
    for tag, digest in (("1", released.bench.digest), ("2", released.index)):
        assert known.manifest(sign.references.parse_image(f"{away}:{tag}")).digest == digest


@pytest.mark.parametrize(("error", "cause"), [
    (OSError(16, "Device or resource busy"), "Device or resource busy"), (OSError(), "OSError"),
])
def test_a_folder_that_stays_beside_an_archive_is_a_reason(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, cause: str
) -> None:
    def refuse(_folder: str) -> None:
        raise error

    away = f"oci-archive:{tmp_path}/image.tar:1"
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", refuse)
        done = copy(bench.tagged, away)
    assert [(reason.code, cause in reason.message) for reason in done.reasons] == [("write_failed", True)]
    # The archive is whole all the same.
    assert images().manifest(sign.references.parse_image(away)).digest == bench.digest


def test_a_layout_that_has_another_image_needs_a_tag(bench: Bench, tmp_path: Path) -> None:
    other = bench.registry.put_image(REPOSITORY, "other")
    succeed(bench.tagged, f"oci:{tmp_path}/layout")
    done = copy(f"{bench.name}@{other}", f"oci:{tmp_path}/layout")
    assert codes(done.reasons) == ["input_invalid"]
    index = json.loads((tmp_path / "layout" / "index.json").read_bytes())
    assert [entry["digest"] for entry in index["manifests"]] == [bench.digest]


def test_a_busy_folder_is_left_alone(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    done = copy(bench.tagged, f"oci:{tmp_path}:1")
    assert codes(done.reasons) == ["destination_occupied"]
    assert os.listdir(tmp_path) == ["precious"]


@pytest.mark.parametrize("prefix", ["oci", "oci-archive"])
def test_a_dry_run_makes_no_files(released: Released, tmp_path: Path, prefix: str) -> None:
    assert succeed(released.name, f"{prefix}:{tmp_path}/image:1", dry_run=True).changed
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("prefix", ["oci", "oci-archive"])
@pytest.mark.parametrize("writes", [0, 12])
def test_a_full_disk_is_a_reason_and_gives_no_tag(
    fallback: Bench, alice: Key, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefix: str, writes: int
) -> None:
    released = Released(fallback, alice)
    genuine, left = os.fsync, [writes]

    def full(fd: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        genuine(fd)

    away = f"{prefix}:{tmp_path}/image:1"
    with monkeypatch.context() as patch:
        patch.setattr(layout_files.os, "fsync", full)
        done = copy(released.name, away)
    assert codes(done.reasons) == ["write_failed"]
    assert "No space left" in done.reasons[0].message
    index = tmp_path / "image" / "index.json"
    assert prefix != "oci" or not index.exists() or b'"1"' not in index.read_bytes()
    assert prefix == "oci" or not (tmp_path / "image").exists()
    # When there is room again, the next run does the rest.
    assert succeed(released.name, away).changed
    assert not succeed(released.name, away).changed


def test_signing_removing_and_verifying_work_on_a_layout(
    bench: Bench, alice: Key, bob: Key, tmp_path: Path
) -> None:
    name = f"oci:{tmp_path}/layout:1"
    succeed(bench.tagged, name)
    for _turn in range(2):
        first = sign.sign_image(images(), name, sign.Wish((alice.signer, bob.signer)))
        assert (first.reasons, first.changed) == ((), _turn == 0)
        assert sign.settle(images(), first).reasons == ()
    for format in ("sig", "bundle"):
        verdict = verify.verify_image(images(), name, demand(alice, bob, threshold=2, formats=(format,)))
        assert verdict.verified, verdict.reasons
    gone = remove.remove_signatures(images(), name, remove.Removal(frozenset({alice.id}), False))
    assert (gone.reasons, gone.changed, len(gone.signatures)) == ((), True, 2)
    assert not verify.verify_image(images(), name, demand(alice)).verified
    assert verify.verify_image(images(), name, demand(bob)).verified
    gone = remove.remove_signatures(images(), name, remove.Removal(frozenset(), True))
    assert (gone.reasons, gone.changed) == ((), True)
    assert codes(verify.verify_image(images(), name, demand(bob)).reasons) == ["no_signatures"]
    index = json.loads((tmp_path / "layout" / "index.json").read_bytes())
    assert [entry["digest"] for entry in index["manifests"]] == [bench.digest]


def test_an_archive_is_verified_and_not_signed(bench: Bench, alice: Key, tmp_path: Path) -> None:
    name = f"oci-archive:{tmp_path}/image.tar:1"
    assert sign.sign_image(images(), bench.tagged, sign.Wish((alice.signer,))).reasons == ()
    succeed(bench.tagged, name)
    assert verify.verify_image(images(), name, demand(alice)).verified
    before = (tmp_path / "image.tar").read_bytes()
    # What is there needs no writing.
    assert codes(sign.sign_image(images(), name, sign.Wish((alice.signer,), ("bundle",))).reasons) in (
        [], ["input_invalid"],
    )
    assert (tmp_path / "image.tar").read_bytes() == before


def test_a_large_layer_is_copied_whole(fallback: Bench, target: FakeRegistry, tmp_path: Path) -> None:
    layer = os.urandom(transfer.SMALL + 1000)
    digest = fallback.registry.put_manifest(REPOSITORY, {
        "schemaVersion": 2, "mediaType": fake_registry.OCI_MANIFEST,
        "config": fallback.descriptor(b"{}", fake_registry.OCI_CONFIG),
        "layers": [fallback.descriptor(layer, fake_registry.OCI_LAYER)],
    }, tag="large")
    succeed(f"{fallback.name}:large", f"oci-archive:{tmp_path}/image.tar:1")
    succeed(f"oci-archive:{tmp_path}/image.tar:1", f"oci:{tmp_path}/layout:1")
    succeed(f"oci:{tmp_path}/layout:1", f"{target.host}/{COPY}:9")
    assert target.manifests[COPY]["9"].digest == digest
    assert target.blobs[COPY][digest_of(layer)] == layer


def test_the_result_has_the_shape_of_the_contract(bench: Bench, target: FakeRegistry) -> None:
    name = f"{target.host}/{COPY}:9"
    assert succeed(bench.tagged, name).as_dict() == {
        "source": bench.tagged, "destination": name, "digest": bench.digest, "changed": True, "failed": False,
        "reasons": [], "warnings": [],
    }
