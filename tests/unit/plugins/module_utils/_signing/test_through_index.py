# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verifying one platform's image by the signature of the index that lists it."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._signing import authority, through_index
from ansible_collections.hallmark.signing.plugins.module_utils._signing.through_index import VerifiedIndex
from ansible_collections.hallmark.signing.plugins.module_utils._signing.verify import Verification
from ansible_collections.hallmark.signing.tests.unit import fake_registry
from ansible_collections.hallmark.signing.tests.unit.fake_registry import Fault
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._signing.signing_bench import (
    REPOSITORY,
    Bench,
    Key,
    codes,
    do_sign,
    make_index,
)


class Listed:
    """An index at tag 2, signed without its children."""

    def __init__(self, bench: Bench, key: Key) -> None:
        self.bench = bench
        self.index, self.children = make_index(bench)
        assert do_sign(bench, key, image=self.name, recursive=False).reasons == ()

    @property
    def name(self) -> str:
        return f"{self.bench.name}:2"

    def at(self, digest: str) -> str:
        return f"{self.bench.name}@{digest}"

    def verified(self, *keys: Key, index: str = "", **demanded: t.Any) -> VerifiedIndex:
        demand = authority.demand([key.authority for key in keys], **demanded)
        return through_index.verify_index(self.bench.registries(), index or self.name, demand)

    def child(self, image: str, *keys: Key, index: str = "", **demanded: t.Any) -> Verification:
        verified = self.verified(*keys, index=index, **demanded)
        return through_index.verify_child(self.bench.registries(), image, verified)


@pytest.fixture
def listed(bench: Bench, alice: Key) -> Listed:
    return Listed(bench, alice)


def test_a_child_counts_by_its_index(listed: Listed, alice: Key) -> None:
    for child in listed.children:
        # By itself it does not.
        assert not listed.bench.verify(alice, image=listed.at(child)).verified
        verdict = listed.child(listed.at(child), alice)
        assert (verdict.verified, verdict.digest, verdict.reasons) == (True, child, ())
        assert verdict.reference == listed.at(child)
        assert verdict.authorities == ("alice",)
        assert {signature.subject for signature in verdict.signatures} == {listed.index}


def test_the_index_itself_and_what_is_below_count(listed: Listed, alice: Key) -> None:
    assert listed.verified(alice).digests == frozenset({listed.index, *listed.children})
    assert listed.child(listed.name, alice).verified


def test_a_child_by_tag_is_resolved(listed: Listed, alice: Key) -> None:
    listed.bench.manifests["amd64"] = listed.bench.manifests[listed.children[0]]
    verdict = listed.child(f"{listed.bench.name}:amd64", alice)
    assert (verdict.verified, verdict.digest) == (True, listed.children[0])


def test_an_image_that_is_not_listed_does_not_count(listed: Listed, alice: Key) -> None:
    verdict = listed.child(listed.bench.pinned, alice)
    assert (verdict.verified, codes(verdict.reasons)) == (False, ["not_in_index"])
    assert (verdict.reference, verdict.digest) == (listed.bench.pinned, listed.bench.digest)


def test_an_index_that_is_not_signed_lends_nothing(listed: Listed, bob: Key) -> None:
    verdict = listed.child(listed.at(listed.children[0]), bob)
    assert not verdict.verified
    assert "not_in_index" not in codes(verdict.reasons)
    assert codes(verdict.reasons)
    assert listed.verified(bob).digests == frozenset()


def test_a_signature_of_the_child_alone_lends_nothing(listed: Listed, alice: Key, bob: Key) -> None:
    assert do_sign(listed.bench, bob, image=listed.at(listed.children[0])).reasons == ()
    assert not listed.child(listed.at(listed.children[0]), bob).verified


def test_an_index_inside_of_the_index_lends_what_it_lists(listed: Listed, alice: Key) -> None:
    bench = listed.bench
    outer = bench.registry.put_manifest(REPOSITORY, {
        "schemaVersion": 2, "mediaType": fake_registry.OCI_INDEX, "manifests": [bench.entry(listed.index)],
    }, tag="3")
    do_sign(bench, alice, image=f"{bench.name}:3", recursive=False)
    assert listed.verified(alice, index=f"{bench.name}:3").digests == frozenset(
        {outer, listed.index, *listed.children}
    )


# The list counts only in the bytes whose digest was verified.
def test_a_list_that_was_changed_after_signing_is_refused(listed: Listed, alice: Key) -> None:
    bench = listed.bench
    evil = bench.registry.put_manifest(REPOSITORY, {
        "schemaVersion": 2, "mediaType": fake_registry.OCI_INDEX, "manifests": [bench.entry(bench.digest)],
    })
    bench.manifests[listed.index] = bench.manifests[evil]
    verified = listed.verified(alice, index=listed.at(listed.index))
    assert (verified.verdict.verified, verified.digests) == (False, frozenset())
    assert codes(verified.verdict.reasons) == ["digest_mismatch"]
    assert not listed.child(bench.pinned, alice, index=listed.at(listed.index)).verified


def test_a_tag_that_moves_meanwhile_changes_nothing(listed: Listed, alice: Key) -> None:
    bench = listed.bench
    evil = bench.registry.put_manifest(REPOSITORY, {
        "schemaVersion": 2, "mediaType": fake_registry.OCI_INDEX, "manifests": [bench.entry(bench.digest)],
    })
    asked = [0]

    def hook(seen: fake_registry.Seen) -> None:
        if seen.path.endswith("/manifests/2"):
            asked[0] += 1
            if asked[0] > 1:
                bench.manifests["2"] = bench.manifests[evil]

    bench.registry.faults.append(hook)
    assert listed.verified(alice).digests == frozenset({listed.index, *listed.children})


def test_an_image_that_is_no_index_lists_itself_only(bench: Bench, alice: Key) -> None:
    do_sign(bench, alice)
    listed = Listed(bench, alice)
    assert listed.verified(alice, index=bench.tagged).digests == frozenset({bench.digest})
    assert codes(listed.child(listed.at(listed.children[0]), alice, index=bench.tagged).reasons) == ["not_in_index"]


@pytest.mark.parametrize(("image", "code"), [("{name}:missing", "not_found"), ("r.io/APP", "malformed")])
def test_a_child_that_cannot_be_resolved_is_a_reason(listed: Listed, alice: Key, image: str, code: str) -> None:
    verdict = listed.child(image.format(name=listed.bench.name), alice)
    assert (verdict.verified, codes(verdict.reasons)) == (False, [code])
    assert (verdict.reference, verdict.digest) == (None, None)


@pytest.mark.parametrize("index", ["{name}:missing", "r.io/APP"])
def test_an_index_that_cannot_be_had_is_a_reason(listed: Listed, alice: Key, index: str) -> None:
    verified = listed.verified(alice, index=index.format(name=listed.bench.name))
    assert (verified.verdict.verified, verified.digests, len(verified.verdict.reasons)) == (False, frozenset(), 1)
    assert not listed.child(listed.at(listed.children[0]), alice, index=index.format(name=listed.bench.name)).verified


def test_the_index_is_verified_once_for_all_children(listed: Listed, alice: Key) -> None:
    verified = listed.verified(alice)
    listed.bench.registry.log.clear()
    known = listed.bench.registries()
    assert all(through_index.verify_child(known, listed.at(child), verified).verified for child in listed.children)
    assert listed.bench.registry.log == []


def test_a_registry_that_fails_after_the_verdict_lends_nothing(listed: Listed, alice: Key) -> None:
    def hook(seen: fake_registry.Seen) -> Fault | None:
        # By tag it is resolved, and by digest its list is read.
        return Fault(status=500) if seen.path.endswith(f"/manifests/{listed.index}") else None

    listed.bench.registry.faults.append(hook)
    verified = listed.verified(alice)
    assert (verified.verdict.verified, verified.digests) == (False, frozenset())
