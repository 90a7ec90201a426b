# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Layers of the signature tag as cosign writes them, and candidates that spoil only themselves."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import HallmarkError, RegistryError
from ansible_collections.hallmark.signing.plugins.module_utils._oci.digest import digest_of
from ansible_collections.hallmark.signing.plugins.module_utils._oci.manifest import Descriptor
from ansible_collections.hallmark.signing.plugins.module_utils._signing import candidate as candidates
from ansible_collections.hallmark.signing.plugins.module_utils._signing.candidate import Candidate
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._signing.signing_bench import (
    HINT_ANNOTATION,
    REPOSITORY,
    SIG_ANNOTATION,
    Bench,
    Key,
    b64,
)


def find(bench: Bench, format: t.Any) -> list[candidates.Found]:
    return list(candidates.find(bench.registries(), bench.reference, bench.digest, format))


def found_codes(found: t.Sequence[candidates.Found]) -> list[str]:
    return [one.code if isinstance(one, HallmarkError) else "candidate" for one in found]


def test_tag_of_signatures() -> None:
    assert candidates.signature_tag("sha256:ab") == "sha256-ab.sig"


@pytest.mark.parametrize(("digest", "legal"), [(f"sha256:{'0' * 64}", True), (f"sha512:{'0' * 128}", False)])
def test_tag_of_a_long_digest_is_none(fallback: Bench, digest: str, legal: bool) -> None:
    assert candidates.has_signature_tag(digest) is legal
    found = candidates.find(fallback.registries(), fallback.reference, digest, "sig")
    assert list(found) == []
    assert bool(fallback.registry.log) is legal


@pytest.mark.parametrize(("sizes", "passed"), [
    ([64 * 1024 * 1024], 1), ([64 * 1024 * 1024 - 1, 1, 0], 3), ([64 * 1024 * 1024 + 1], 0), ([1, 64 * 1024 * 1024], 1),
])
def test_more_than_64_mebibytes_are_too_much_for_one_image(bench: Bench, sizes: list[int], passed: int) -> None:
    entries = iter(candidates.within_budget([Descriptor("", "", size) for size in sizes], bench.reference))
    assert [next(entries).size for _one in range(passed)] == sizes[:passed]
    if passed == len(sizes):
        assert list(entries) == []
        return
    with pytest.raises(RegistryError, match="larger than 67108864 bytes") as caught:
        next(entries)
    assert caught.value.code == "limit_exceeded"


def test_no_signatures(bench: Bench) -> None:
    assert find(bench, "sig") == []


def test_reads_a_layer(bench: Bench, alice: Key) -> None:
    layer = bench.sign_sig(b"content", alice)
    (found,) = find(bench, "sig")
    assert isinstance(found, Candidate)
    assert (found.format, found.digest) == ("sig", layer["digest"])
    assert (found.content, found.signed_bytes) == (b"content", b"content")
    assert (b64(found.signature), found.hinted_key_id) == (layer["annotations"][SIG_ANNOTATION], None)
    assert not found.has_certificate


def test_reads_a_hint(bench: Bench) -> None:
    annotations = {SIG_ANNOTATION: b64(b"sig"), HINT_ANNOTATION: "some key"}
    bench.put_layers([bench.layer(b"content", None, annotations=annotations)])
    (found,) = find(bench, "sig")
    assert isinstance(found, Candidate)
    assert (found.signature, found.hinted_key_id) == (b"sig", "some key")


@pytest.mark.parametrize("media_type", ["text/plain", "", "application/vnd.docker.image.rootfs.diff.tar.gzip"])
def test_media_types_of_layers_do_not_matter(fallback: Bench, media_type: str) -> None:
    fallback.put_layers([fallback.layer(b"content", b"sig", mediaType=media_type)])
    assert found_codes(find(fallback, "sig")) == ["candidate"]


def test_two_signatures_over_one_payload_are_two_candidates(fallback: Bench, alice: Key, bob: Key) -> None:
    fallback.sign_sig(b"content", alice)
    fallback.sign_sig(b"content", bob)
    first, second = find(fallback, "sig")
    assert isinstance(first, Candidate)
    assert isinstance(second, Candidate)
    assert first.digest == second.digest
    assert first.signature != second.signature


@pytest.mark.parametrize(("text", "code"), [
    ("c2ln", "candidate"),
    ("c2\nln\n", "candidate"),
    ("c2\r\nln", "candidate"),
    (None, "malformed"),
    ("", "malformed"),
    ("\n", "malformed"),
    (" c2ln", "malformed"),
    ("c2ln=", "malformed"),
    ("_-_-", "malformed"),
    ("c2lnZg", "malformed"),
    ("c2lnZh==", "malformed"),
    ("\u00e9", "malformed"),
])
def test_spellings_of_a_signature(fallback: Bench, text: str | None, code: str) -> None:
    fallback.put_layers([fallback.layer(b"content", text)])
    assert found_codes(find(fallback, "sig")) == [code]


def test_a_broken_layer_spoils_only_itself_and_is_named(bench: Bench, alice: Key) -> None:
    good = bench.layer(b"content", alice.sign(b"content"))
    missing = bench.layer(b"missing", b"sig")
    del bench.registry.blobs[REPOSITORY][missing["digest"]]
    large = bench.layer(b"large", b"sig", size=256 * 1024 + 1)
    bench.put_layers([bench.layer(b"unsigned", None), missing, large, good])
    found = find(bench, "sig")
    assert found_codes(found) == ["malformed", "not_found", "limit_exceeded", "candidate"]
    digests = [one.signature for one in found if isinstance(one, HallmarkError)]
    assert digests == [digest_of(b"unsigned"), missing["digest"], large["digest"]]


def test_a_payload_of_the_largest_size_is_read(fallback: Bench) -> None:
    fallback.put_layers([fallback.layer(b"x" * 256 * 1024, b"sig")])
    assert found_codes(find(fallback, "sig")) == ["candidate"]


def test_layers_are_read_one_at_a_time(fallback: Bench, alice: Key, bob: Key) -> None:
    fallback.sign_sig(b"one", alice)
    fallback.sign_sig(b"two", bob)
    next(iter(candidates.find(fallback.registries(), fallback.reference, fallback.digest, "sig")))
    assert len(fallback.registry.requests("GET", "/blobs/")) == 1


@pytest.mark.parametrize(("count", "allowed"), [(1000, True), (1001, False)])
def test_at_most_1000_layers(fallback: Bench, count: int, allowed: bool) -> None:
    fallback.put_layers([fallback.layer(b"content", None)] * count)
    if allowed:
        assert len(find(fallback, "sig")) == 1000
        return
    with pytest.raises(RegistryError) as caught:
        find(fallback, "sig")
    assert caught.value.code == "limit_exceeded"


def test_private_content_does_not_show_in_texts(fallback: Bench, alice: Key) -> None:
    fallback.sign_sig(b"canary", alice)
    assert "canary" not in repr(find(fallback, "sig"))
