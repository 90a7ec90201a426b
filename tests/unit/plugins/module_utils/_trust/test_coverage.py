# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What covers an image, what proves it, and what of it is remembered."""

from __future__ import annotations

import json
import os
import pathlib
import time
import typing as t
from dataclasses import replace

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import CustodyError, HallmarkError
from ansible_collections.hallmark.signing.plugins.module_utils._oci import reference as references
from ansible_collections.hallmark.signing.plugins.module_utils._oci.manifest import Descriptor
from ansible_collections.hallmark.signing.plugins.module_utils._trust import coverage, coverage_cache
from ansible_collections.hallmark.signing.tests.unit.fake_registry import Fault
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._signing.signing_bench import codes
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._trust.resign_bench import (
    FakeRegistry,
    World,
    alone,
    key,
)


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    alone(monkeypatch, tmp_path)


@pytest.fixture(params=[True, False], ids=["native", "fallback"])
def world(request: pytest.FixtureRequest) -> t.Iterator[World]:
    with FakeRegistry(referrers=request.param) as registry:
        yield World(registry)
        assert not registry.errors


# What covers ----------------------------------------------------------------------------------------------------------


def test_an_image_is_covered_by_a_key_that_stays_in_every_format(world: World) -> None:
    world.signed(key("old"))
    found = world.look()
    assert (found.is_covered, found.is_proven, found.lacking) == (False, True, {world.digest: ("sig", "bundle")})
    world.signed(key("new"), formats=("sig",))
    assert world.look().lacking == {world.digest: ("bundle",)}
    assert world.look(formats=("sig",)).is_covered
    world.signed(key("new"))
    found = world.look()
    assert (found.is_covered, found.lacking, found.reasons) == (True, {}, ())


def test_each_format_may_be_by_another_key_that_stays(world: World) -> None:
    world.signed(key("new"), formats=("sig",))
    world.signed(key("third"), formats=("bundle",))
    assert world.look(trust=("old", "new", "third"), stay=("new", "third")).is_covered
    assert world.look(trust=("old", "new", "third"), stay=("new",)).formats == ("bundle",)


def test_an_image_without_signatures_is_neither_covered_nor_proven(world: World) -> None:
    found = world.look()
    assert (found.is_covered, found.is_proven, codes(found.reasons)) == (False, False, ["no_signatures"])


def test_a_foreign_signature_neither_covers_nor_proves(world: World) -> None:
    world.signed(key("mallory"))
    found = world.look()
    assert (found.is_covered, found.is_proven) == (False, False)
    assert set(codes(found.reasons)) == {"signature_invalid"}


def test_a_signature_by_a_denied_key_proves_nothing(world: World) -> None:
    world.signed(key("old"))
    found = world.look(denied_key_ids=[key("old").id])
    assert (found.is_covered, found.is_proven) == (False, False)
    assert "key_denied" in codes(found.reasons)
    # Another key that is trusted still may.
    world.signed(key("third"))
    assert world.look(trust=("old", "new", "third"), denied_key_ids=[key("old").id]).is_proven


def test_a_signature_for_another_image_neither_covers_nor_proves(world: World) -> None:
    world.sign_sig(world.claim(digest=f"sha256:{'0' * 64}"), key("old"))
    world.sign_sig(world.claim(digest=f"sha256:{'0' * 64}"), key("new"))
    found = world.look()
    assert (found.is_covered, found.is_proven) == (False, False)
    assert "digest_mismatch" in codes(found.reasons)


def test_a_name_of_another_repository_counts_only_if_told(world: World) -> None:
    for name in ("old", "new"):
        world.sign_sig(world.claim(name="elsewhere.example.org/app"), key(name))
    found = world.look(formats=("sig",))
    assert (found.is_covered, found.is_proven, set(codes(found.reasons))) == (False, False, {"reference_mismatch"})
    found = world.look(formats=("sig",), docker_reference_check="warn")
    assert (found.is_covered, codes(found.warnings)) == (True, ["reference_mismatch"])
    found = world.look(formats=("sig",), docker_reference_check="ignore")
    assert (found.is_covered, found.warnings) == (True, ())


def test_a_bundle_which_has_no_name_proves_none(world: World) -> None:
    # Else an image that was copied elsewhere with its bundle would get a signature for the name it has there.
    world.signed(key("old"), formats=("bundle",))
    for formats in (("sig",), ("sig", "bundle")):
        found = world.look(formats=formats)
        assert (found.is_proven, codes(found.reasons)[0]) == (False, "reference_mismatch")
    assert world.look(formats=("bundle",)).is_proven
    assert world.look(docker_reference_check="warn").is_proven
    world.signed(key("new"), formats=("sig",))
    assert world.look().is_proven


def test_annotations_must_be_there_in_what_covers_and_in_what_proves(world: World) -> None:
    world.signed(key("old"), annotations={"env": "test"})
    # Else a claim would be made that nobody made before.
    found = world.look(annotations={"env": "prod"})
    assert (found.is_covered, found.is_proven) == (False, False)
    assert "annotation_mismatch" in codes(found.reasons)
    assert world.look(annotations={"env": "test"}).is_proven


def test_an_index_is_covered_with_its_images(world: World) -> None:
    index, children = world.index()
    world.signed(key("new"), index, children[0])
    found = world.look(index)
    assert (found.is_covered, found.is_proven, set(found.lacking)) == (False, False, {children[1].digest})
    assert world.look(index, recursive=False).is_covered
    # The signature of the index is no proof for what it lists.
    assert codes(found.reasons) == ["no_signatures"]
    world.signed(key("old"), children[1])
    assert world.look(index).is_proven
    world.signed(key("new"), children[1])
    assert world.look(index).is_covered


def test_an_image_that_is_gone_is_not_covered(world: World) -> None:
    gone = world.reference.at(f"sha256:{'0' * 64}")
    for recursive in (True, False):
        found = world.look(gone, recursive=recursive)
        assert (found.is_covered, found.is_proven, codes(found.reasons)) == (False, False, ["not_found"])


def test_a_registry_that_fails_covers_nothing(world: World) -> None:
    world.signed(key("new"))
    world.registry.fail(Fault(status=403), path=".sig")
    found = world.look()
    assert (found.is_covered, found.formats) == (False, ("sig",))
    assert "unauthorized" in codes(found.reasons)


def test_what_has_a_name_is_asked_again_before_anything_is_written(world: World) -> None:
    world.signed(key("old"))
    once = coverage.Once(world.store())
    assert not coverage.look(once, world.reference, world.terms(), proves=True).is_covered
    world.signed(key("new"))
    assert not coverage.look(once, world.reference, world.terms(), proves=True).is_covered
    once.forget_names()
    before = len(world.registry.log)
    assert coverage.look(once, world.reference, world.terms(), proves=True).is_covered
    paths = [seen.path for seen in world.registry.log[before:]]
    assert not [path for path in paths if path.endswith(f"/manifests/{world.digest}")]


def test_a_blob_that_was_read_is_known_to_be_there_and_no_other(world: World) -> None:
    content = b"payload"
    digest = world.registry.put_blob(world.reference.repository, content)
    once = coverage.Once(world.store())
    once.put_blob(world.reference, content)
    assert [seen.method for seen in world.registry.log] == ["HEAD"]
    right = Descriptor("text/plain", digest, len(content))
    assert once.blob(world.reference, right, limit=10) == once.blob(world.reference, right, limit=10) == content
    assert once.put_blob(world.reference, content) == digest
    assert [seen.method for seen in world.registry.log] == ["HEAD", "GET"]
    once.put_blob(world.reference, b"other")
    assert len(world.registry.blobs[world.reference.repository]) == 4
    # What a descriptor says of it is held against it all the same.
    for descriptor, limit in ((Descriptor("text/plain", digest, 3), 10), (right, 3)):
        with pytest.raises(HallmarkError):
            once.blob(world.reference, descriptor, limit=limit)


# Round trips ----------------------------------------------------------------------------------------------------------


def asked(world: World, image: references.Reference, **further: t.Any) -> int:
    store = world.store()
    terms = world.terms(**further)
    # The probe for the referrers API is once a run, not once an image.
    coverage.look(coverage.Once(store), image, terms, proves=True)
    before = len(world.registry.log)
    coverage.look(coverage.Once(store), image, terms, proves=True)
    return len(world.registry.log) - before


def test_an_image_costs_three_requests_and_one_for_each_foreign_bundle_if_it_is_not_covered(world: World) -> None:
    assert asked(world, world.reference) == 3
    world.signed(key("old"))
    # The proof costs nothing; that no bundle is by a key that stays is not believed to the list.
    assert asked(world, world.reference) == 4
    world.signed(key("new"))
    assert asked(world, world.reference) == 3
    assert asked(world, world.reference, recursive=False) == 2
    assert asked(world, world.reference, recursive=False, formats=("sig",)) == 1


# Terms ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("further", "code", "object"), [
    ({"stay": ()}, "input_invalid", "staying_key_ids"),
    ({"stay": ("third",)}, "input_invalid", "staying_key_ids"),
    ({"denied_key_ids": [key("new").id]}, "key_denied", "staying_key_ids"),
    ({"signer": "third"}, "input_invalid", "staying_key_ids"),
    ({"signer": "old"}, "input_invalid", "staying_key_ids"),
    ({"formats": ()}, "input_invalid", "formats"),
    ({"trust": ("old", "old"), "stay": ("old",)}, "input_invalid", "trust"),
])
def test_terms_that_make_no_sense_are_refused(further: dict[str, t.Any], code: str, object: str, world: World) -> None:
    with pytest.raises(HallmarkError) as caught:
        world.terms(**further)
    assert (caught.value.code, caught.value.object) == (code, object)


def test_the_key_of_the_signer_need_not_be_in_trust(world: World) -> None:
    found = world.terms(trust=("old",), stay=("new",), signer="new")
    assert [one.public and one.public.key_id for one in found.staying] == [key("new").id]
    assert len(found.trusted) == 2


def test_the_hash_is_about_all_that_covers_and_nothing_else(world: World) -> None:
    base = world.terms()
    same = (world.terms(trust=("new", "old")), world.terms(trust=("new", "old", "third")), world.terms(signer="new"))
    assert {one.hash for one in same} == {base.hash}
    other = [
        world.terms(stay=("new", "old")), world.terms(stay=("old",)), world.terms(formats=("sig",)),
        world.terms(recursive=False), world.terms(annotations={"a": "1"}), world.terms(denied_key_ids=[key("old").id]),
        world.terms(docker_reference_check="warn"),
        *(
            coverage.terms([replace(key("new").authority, signature_algorithm=name)], [key("new").id])
            for name in ("ecdsa-sha384", "ecdsa-sha512")
        ),
    ]
    assert len({one.hash for one in (base, *other)}) == len(other) + 1


# The cache ------------------------------------------------------------------------------------------------------------

IMAGE = references.parse(f"r.io/a@sha256:{'a' * 64}")
OTHER = references.parse(f"r.io/b@sha256:{'a' * 64}")


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    folder = tmp_path / "private"
    folder.mkdir(mode=0o700)
    return folder / "covered.json"


def cached(path: pathlib.Path, terms: str = "one", max_age: int = 100) -> coverage_cache.CoverageCache:
    return coverage_cache.CoverageCache(str(path), terms, max_age=max_age)


def test_what_was_taken_down_is_known_to_the_same_terms_only(path: pathlib.Path) -> None:
    assert not cached(path).is_fresh(IMAGE)
    assert not path.exists()
    cached(path).add([IMAGE], at=time.time())
    assert cached(path).is_fresh(IMAGE)
    assert not cached(path).is_fresh(OTHER)
    assert not cached(path, "two").is_fresh(IMAGE)
    assert path.stat().st_mode & 0o777 == 0o600
    # Others keep what is theirs.
    cached(path, "two").add([OTHER], at=time.time())
    assert cached(path).is_fresh(IMAGE)
    assert cached(path, "two").is_fresh(OTHER)


def test_what_is_too_old_or_of_the_future_does_not_count(path: pathlib.Path) -> None:
    cached(path).add([IMAGE], at=time.time() - 50)
    assert cached(path, max_age=60).is_fresh(IMAGE)
    assert not cached(path, max_age=40).is_fresh(IMAGE)
    cached(path).add([IMAGE], at=time.time() + 50)
    assert not cached(path).is_fresh(IMAGE)


def test_with_age_zero_nothing_counts_and_all_is_taken_down(path: pathlib.Path) -> None:
    one = cached(path, max_age=0)
    one.add([IMAGE], at=time.time() - 1)
    assert not one.is_fresh(IMAGE)
    assert not cached(path, max_age=0).is_fresh(IMAGE)
    assert cached(path).is_fresh(IMAGE)


def test_what_is_very_old_is_forgotten(path: pathlib.Path) -> None:
    cached(path).add([OTHER], at=time.time() - coverage_cache.MAX_AGE - 5)
    cached(path, "two").add([IMAGE], at=time.time())
    assert list(json.loads(path.read_text())["covered"]) == ["two"]


def test_two_tasks_at_a_time_lose_nothing_of_each_other(path: pathlib.Path) -> None:
    first, second = cached(path), cached(path)
    first.add([IMAGE], at=time.time())
    second.add([OTHER], at=time.time())
    assert cached(path).is_fresh(IMAGE)
    assert cached(path).is_fresh(OTHER)


@pytest.mark.parametrize("content", [
    "", "x", "[]", "{}", '{"version": 2, "covered": {}}', '{"version": 1}', '{"version": 1, "covered": []}',
    '{"version": 1, "covered": {"one": []}}', '{"version": 1, "covered": {"one": {"r.io/a": "now"}}}',
    '{"version": 1, "covered": {"one": {"r.io/a": true}}}', '{"version": 1, "covered": {"one": {"r.io/a": 1.5}}}',
    "[" * 100000,
])
def test_a_broken_cache_is_an_error_that_names_it(content: str, path: pathlib.Path) -> None:
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(CustodyError) as caught:
        cached(path)
    assert (caught.value.code, caught.value.object) == ("malformed", str(path))
    assert path.read_text() == content


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_cache_that_others_can_write_is_refused(mode: int, path: pathlib.Path) -> None:
    cached(path).add([IMAGE], at=time.time())
    path.chmod(mode)
    with pytest.raises(CustodyError) as caught:
        cached(path)
    assert caught.value.code == "destination_unsafe"
    path.chmod(0o600)
    path.parent.chmod(0o777)
    with pytest.raises(CustodyError) as caught:
        cached(path)
    assert caught.value.code == "destination_unsafe"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_cache_of_somebody_else_is_refused(path: pathlib.Path) -> None:
    cached(path).add([IMAGE], at=time.time())
    os.chown(path, 65534, 65534)
    with pytest.raises(CustodyError) as caught:
        cached(path)
    assert caught.value.code == "destination_unsafe"


def test_a_link_is_refused(path: pathlib.Path, tmp_path: pathlib.Path) -> None:
    cached(path).add([IMAGE], at=time.time())
    link = path.parent / "link"
    link.symlink_to(path)
    with pytest.raises(CustodyError) as caught:
        cached(link)
    assert caught.value.code == "destination_unsafe"


def test_what_became_unsafe_meanwhile_is_not_overwritten(path: pathlib.Path) -> None:
    one = cached(path)
    one.add([IMAGE], at=time.time())
    path.chmod(0o666)
    before = path.read_bytes()
    with pytest.raises(CustodyError):
        one.add([OTHER], at=time.time())
    assert path.read_bytes() == before


def test_a_negative_age_is_an_error(path: pathlib.Path) -> None:
    with pytest.raises(CustodyError, match="cache_max_age"):
        cached(path, max_age=-1)
