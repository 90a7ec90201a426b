# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bundles among the referrers of an image, and such as spoil only themselves."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import HallmarkError, RegistryError
from ansible_collections.hallmark.signing.plugins.module_utils._oci.digest import digest_of
from ansible_collections.hallmark.signing.plugins.module_utils._signing import candidate as candidates
from ansible_collections.hallmark.signing.plugins.module_utils._signing import referred
from ansible_collections.hallmark.signing.plugins.module_utils._signing.candidate import Candidate
from ansible_collections.hallmark.signing.tests.unit.fake_registry import Fault
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._signing.signing_bench import (
    BUNDLE_TYPE,
    PROVENANCE_TYPE,
    REPOSITORY,
    Bench,
    Key,
    bundle,
    compact,
    pae,
)


def find(bench: Bench) -> list[candidates.Found]:
    return list(referred.find_bundles(bench.registries(), bench.reference, bench.digest))


def found_codes(found: t.Sequence[candidates.Found]) -> list[str]:
    return [one.code if isinstance(one, HallmarkError) else "candidate" for one in found]


def test_no_bundles(bench: Bench) -> None:
    assert find(bench) == []


def test_reads_a_bundle(bench: Bench, alice: Key) -> None:
    digest = bench.sign_bundle(b"statement", alice)
    (found,) = find(bench)
    assert isinstance(found, Candidate)
    assert (found.format, found.digest, found.content) == ("bundle", digest, b"statement")
    assert (found.signed_bytes, found.hinted_key_id, found.has_certificate) == (pae(b"statement"), alice.id, False)


def test_referrers_that_are_no_bundles_are_passed_over(bench: Bench, alice: Key) -> None:
    bench.refer(b"{}", layer={"mediaType": "application/spdx+json"})
    bench.refer(compact(bundle(b"x", alice)), layer={"mediaType": "application/vnd.dev.sigstore"})
    bench.refer(compact(bundle(b"x", alice)), layers=[])
    bench.refer(compact(bundle(b"x", alice)), layers=[bench.descriptor(b"{}", BUNDLE_TYPE)] * 2)
    assert find(bench) == []
    assert not list(bench.registry.requests("GET", "/blobs/"))


def test_annotations_only_decide_what_is_looked_at_first(native: Bench, alice: Key) -> None:
    for number in range(4):
        native.sign_bundle(b"%d" % number, alice)
    other = native.refer(
        compact(bundle(b"other", alice)), annotations={"dev.sigstore.bundle.predicateType": PROVENANCE_TYPE}
    )
    last = find(native)[-1]
    assert isinstance(last, Candidate)
    assert last.digest == other


def test_a_wrong_type_in_the_list_does_not_matter(fallback: Bench, alice: Key) -> None:
    # go-containerregistry before 0.22.1 writes the config's media type (cosign issue 4641).
    digest = fallback.sign_bundle(b"statement", alice)
    fallback.list_referrers([fallback.entry(digest, artifactType="application/vnd.oci.empty.v1+json")])
    assert found_codes(find(fallback)) == ["candidate"]


def test_a_broken_bundle_spoils_only_itself_and_is_named(fallback: Bench, alice: Key) -> None:
    good = fallback.sign_bundle(b"statement", alice)
    malformed = fallback.refer(b"not JSON")
    missing = fallback.refer(b"missing")
    del fallback.registry.blobs[REPOSITORY][digest_of(b"missing")]
    gone = {**fallback.entry(good), "digest": digest_of(b"gone")}
    large = fallback.refer(b"large", layer={"size": 5 * 1024 * 1024 + 1})
    fallback.list_referrers([gone, *(fallback.entry(digest) for digest in (malformed, missing, large, good))])
    found = find(fallback)
    assert found_codes(found) == ["not_found", "malformed", "not_found", "limit_exceeded", "candidate"]
    named = [one.signature for one in found if isinstance(one, HallmarkError)]
    assert named == [gone["digest"], malformed, missing, large]


def test_a_bundle_of_the_largest_size_is_read(fallback: Bench, alice: Key) -> None:
    data = compact(bundle(b"statement", alice))
    fallback.refer(data + b" " * (5 * 1024 * 1024 - len(data)))
    assert found_codes(find(fallback)) == ["candidate"]


def test_the_list_that_is_not_there_is_no_error_but_an_unreadable_one_is(bench: Bench) -> None:
    path = "/referrers/" if bench.registry.referrers else f"/manifests/{bench.fallback_tag}"
    bench.registry.fail(Fault(status=500), path=path)
    with pytest.raises(RegistryError) as caught:
        find(bench)
    assert caught.value.code == "registry_error"
