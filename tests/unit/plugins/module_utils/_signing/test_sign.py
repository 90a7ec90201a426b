# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Signing: idempotent, told truly, and never at the cost of anybody else's signature."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import threading
import typing as t
from concurrent.futures import ThreadPoolExecutor

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import VerificationError
from ansible_collections.hallmark.signing.plugins.module_utils._keys.pem import PublicKey
from ansible_collections.hallmark.signing.plugins.module_utils._signing import sign
from ansible_collections.hallmark.signing.plugins.module_utils._signing.signature import Format
from ansible_collections.hallmark.signing.tests.unit.fake_registry import Fault, Seen, digest_of
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._signing.signing_bench import (
    BOTH,
    HINT_ANNOTATION,
    PROVENANCE_TYPE,
    REPOSITORY,
    SIG_ANNOTATION,
    Bench,
    Json,
    Key,
    b64,
    codes,
    compact,
    do_remove,
    do_sign,
    make_index,
    overwrite,
    verified,
)
from cryptography.hazmat.primitives.asymmetric import ec

SIG: tuple[Format, ...] = ("sig",)
BUNDLE: tuple[Format, ...] = ("bundle",)


@pytest.fixture(params=["sig", "bundle"])
def format(request: pytest.FixtureRequest) -> Format:
    """Each format."""
    return t.cast(Format, request.param)


# Signing ---------------------------------------------------------------------------------------------------------


def test_signs_in_both_formats(bench: Bench, key: Key) -> None:
    outcome = do_sign(bench, key, image=bench.tagged, annotations={"b": "2", "a": "<1>"})
    (layer,) = bench.layers()
    (referrer,) = bench.referrers()
    common = {
        "subject": bench.digest, "key_id": key.id, "algorithm": {"alice": "ecdsa-p256", "carol": "rsa-2048"}[key.name],
        "annotations": {"a": "<1>", "b": "2"}, "created": True,
    }
    assert outcome.as_dict() == {
        "image": bench.tagged, "reference": bench.pinned, "digest": bench.digest, "changed": True, "failed": False,
        "reasons": [], "warnings": [],
        "signatures": [
            {"format": "sig", "digest": layer["digest"], **common},
            {"format": "bundle", "digest": referrer, **common},
        ],
    }
    for format in BOTH:
        assert bench.verify(key, formats=(format,), annotations={"a": "<1>"}).warnings == ()
        assert verified(bench, key, format, annotations={"a": "<1>", "b": "2"}, docker_reference_check="repository")


def test_what_is_written_says_what_cosign_writes(fallback: Bench, alice: Key) -> None:
    do_sign(fallback, alice, annotations={"a": "1"})
    (layer,) = fallback.layers()
    assert fallback.registry.blobs[REPOSITORY][layer["digest"]] == compact(fallback.claim({"a": "1"}))
    assert layer["annotations"][HINT_ANNOTATION] == alice.id
    (entry,) = fallback.listed()
    manifest = fallback.manifests[entry["digest"]].members
    assert entry["annotations"] == manifest["annotations"]
    assert entry["artifactType"] == manifest["artifactType"]
    assert manifest["subject"] == fallback.entry(fallback.digest)
    assert re.fullmatch(
        r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", manifest["annotations"]["org.opencontainers.image.created"]
    )


@pytest.mark.parametrize(("formats", "tags"), [(SIG, 1), (BUNDLE, 0)])
def test_signs_in_one_format_only(native: Bench, alice: Key, formats: tuple[Format, ...], tags: int) -> None:
    outcome = do_sign(native, alice, formats=formats)
    assert [signature.format for signature in outcome.signatures] == list(formats)
    assert (len(native.layers()), len(native.referrers())) == (tags, 1 - tags)


@pytest.mark.parametrize("keys", [["alice"], ["carol"], ["alice", "bob", "carol"]])
def test_a_second_run_writes_nothing(request: pytest.FixtureRequest, bench: Bench, keys: list[str]) -> None:
    signers = [request.getfixturevalue(name) for name in keys]
    first = do_sign(bench, *signers, annotations={"a": "1"})
    assert [signature.created for signature in first.signatures] == [True] * 2 * len(keys)
    content = bench.content()
    bench.registry.log.clear()
    for image in (bench.pinned, bench.tagged):
        again = do_sign(bench, *signers, image=image, annotations={"a": "1"})
        assert (again.changed, again.reasons, again.warnings) == (False, (), ())
        assert [dataclasses.replace(one, created=True) for one in again.signatures] == list(first.signatures)
        assert not any(signature.created for signature in again.signatures)
    assert bench.writes == []
    assert not bench.registry.requests("HEAD")
    assert bench.content() == content


def test_a_first_signature_asks_for_nothing_that_cannot_be_there(fallback: Bench, alice: Key, bob: Key) -> None:
    do_sign(fallback, alice, formats=SIG)
    asked = [(request.method, request.path.rpartition("/v2/")[2]) for request in fallback.registry.log]
    # The image, its signatures in both formats with the question for the API; payload and config; and the tag, which is
    # looked at once more, written, and read back.
    assert [method for method, _path in asked] == ["GET"] * 4 + ["POST", "PUT"] * 2 + ["GET", "PUT", "GET"]
    fallback.registry.log.clear()
    do_sign(fallback, bob, formats=SIG)
    # What others may refer to is not stored once more.
    assert len(fallback.registry.requests("HEAD")) == 2
    assert len(fallback.registry.requests("POST")) == 1


def test_several_signers_share_one_payload_and_one_write(bench: Bench, alice: Key, bob: Key, carol: Key) -> None:
    outcome = do_sign(bench, alice, bob, carol)
    assert [(one.format, one.key_id) for one in outcome.signatures] == [
        (format, key.id) for format in BOTH for key in (alice, bob, carol)
    ]
    assert len({layer["digest"] for layer in bench.layers()}) == 1
    assert len(bench.layers()) == 3
    assert bench.writes.count(f"PUT {bench.sig_tag}") == 1
    assert len(set(bench.referrers())) == 3
    for key in (alice, bob, carol):
        assert verified(bench, key, "sig")
        assert verified(bench, key, "bundle")


def test_only_what_is_missing_is_added(bench: Bench, alice: Key, bob: Key, format: Format) -> None:
    do_sign(bench, alice, formats=(format,))
    outcome = do_sign(bench, alice, bob)
    assert [one.created for one in outcome.signatures if (one.format, one.key_id) == (format, alice.id)] == [False]
    assert sum(one.created for one in outcome.signatures) == 3
    assert (len(bench.layers()), len(bench.referrers())) == (2, 2)


@pytest.mark.parametrize("wished", [
    pytest.param({"annotations": {"a": "2"}}, id="another value"),
    pytest.param({"annotations": {"a": "1", "b": "1"}}, id="more annotations"),
    pytest.param({"annotations": {}}, id="fewer annotations"),
])
def test_other_annotations_are_another_signature(bench: Bench, alice: Key, wished: Json) -> None:
    do_sign(bench, alice, annotations={"a": "1"})
    outcome = do_sign(bench, alice, **wished)
    assert [signature.created for signature in outcome.signatures] == [True, True]
    assert (len(bench.layers()), len(bench.referrers())) == (2, 2)
    assert not do_sign(bench, alice, annotations={"a": "1"}).changed


def test_another_name_is_another_sig_but_no_other_bundle(bench: Bench, alice: Key) -> None:
    do_sign(bench, alice)
    outcome = do_sign(bench, alice, docker_reference="registry.example/app")
    assert [(one.format, one.created) for one in outcome.signatures] == [("sig", True), ("bundle", False)]
    assert compact(bench.claim(name="registry.example/app")) in bench.registry.blobs[REPOSITORY].values()
    assert not do_sign(bench, alice, docker_reference="registry.example/app").changed


def test_a_name_with_a_tag_is_another_name(fallback: Bench, alice: Key) -> None:
    # sign._claims compares names without their tags, so a wished docker_reference of HOST/REPO:TAG (which
    # containers/image's matchExact needs) is never written once HOST/REPO was signed: changed is false.
    do_sign(fallback, alice, formats=SIG)
    assert do_sign(fallback, alice, formats=SIG, docker_reference=fallback.tagged).changed


def test_names_of_docker_hub_are_one_name(bench: Bench, alice: Key) -> None:
    bench.sign_sig(bench.claim(name="docker.io/library/app"), alice)
    assert not do_sign(bench, alice, formats=SIG, docker_reference="index.docker.io/library/app").changed


def test_a_name_that_is_none_is_the_same_as_itself(bench: Bench, alice: Key) -> None:
    assert do_sign(bench, alice, formats=SIG, docker_reference="My Shop").changed
    assert not do_sign(bench, alice, formats=SIG, docker_reference="My Shop").changed


@pytest.mark.parametrize("spelled", [
    pytest.param(lambda document: compact(document) + b"\n", id="line end"),
    pytest.param(lambda document: compact({"optional": {}, **document, "more": 1}), id="another order"),
])
def test_a_payload_in_another_spelling_counts_as_there(
    bench: Bench, alice: Key, spelled: t.Callable[[Json], bytes]
) -> None:
    bench.sign_sig(spelled(bench.claim()), alice)
    outcome = do_sign(bench, alice, formats=SIG)
    assert (outcome.changed, bench.writes) == (False, [])


def test_a_statement_in_another_spelling_counts_as_there(bench: Bench, alice: Key) -> None:
    bench.sign_bundle(bench.statement(predicate=None), alice, verificationMaterial={"publicKey": {}})
    outcome = do_sign(bench, alice, formats=BUNDLE)
    assert (outcome.changed, bench.writes) == (False, [])


@pytest.mark.parametrize("there", [
    pytest.param(lambda bench, key: bench.sign_sig(b"not JSON", key), id="payload is no JSON"),
    pytest.param(lambda bench, key: bench.sign_sig(bench.claim(digest=f"sha256:{'0' * 64}"), key), id="another image"),
    pytest.param(lambda bench, key: bench.put_layers([
        bench.layer(compact(bench.claim()), key.sign(b"other"))
    ]), id="broken signature"),
    pytest.param(lambda bench, key: bench.put_layers([bench.layer(compact(bench.claim()), None)]), id="no signature"),
    pytest.param(lambda bench, key: bench.sign_bundle(b"not JSON", key), id="statement is no JSON"),
    pytest.param(lambda bench, key: bench.sign_bundle(bench.statement(predicateType=PROVENANCE_TYPE), key),
                 id="attestation"),
    pytest.param(lambda bench, key: bench.sign_bundle(bench.statement(subject=[{"digest": {"sha256": "00"}}]), key),
                 id="statement about another image"),
    pytest.param(lambda bench, key: bench.sign_bundle(
        bench.statement(), key, verificationMaterial={"certificate": {"rawBytes": b64(b"DER")}}
    ), id="certificate"),
    pytest.param(lambda bench, key: bench.refer(b"not JSON"), id="bundle is no JSON"),
])
def test_what_is_no_such_signature_is_signed_beside_and_left_alone(
    bench: Bench, alice: Key, there: t.Callable[[Bench, Key], t.Any]
) -> None:
    there(bench, alice)
    layers, referrers = bench.layers(), bench.referrers()
    outcome = do_sign(bench, alice)
    assert [signature.created for signature in outcome.signatures] == [True, True]
    assert bench.layers()[:len(layers)] == layers
    assert set(referrers) < set(bench.referrers())
    for format in BOTH:
        assert verified(bench, alice, format)


def test_dry_run_writes_nothing(bench: Bench, alice: Key) -> None:
    content = bench.content()
    outcome = do_sign(bench, alice, dry_run=True)
    assert (outcome.changed, outcome.failed) == (True, False)
    assert [(one.format, one.created) for one in outcome.signatures] == [("sig", True), ("bundle", True)]
    assert outcome.signatures[0].digest == digest_of(compact(bench.claim()))
    assert outcome.signatures[1].digest is None
    assert bench.writes == []
    assert bench.content() == content


class Meeting:
    """A signer that waits, but not for long, until both threads are about to sign."""

    def __init__(self, key: Key) -> None:
        self.key = key
        self.barrier = threading.Barrier(2)

    @property
    def public(self) -> PublicKey:
        """The public half."""
        return self.key.public

    @property
    def chooses_scheme(self) -> bool:
        """As a key file."""
        return True

    def answers_in(self, asked: str) -> str:
        """Return C(asked)."""
        return asked

    def prepare(self, messages: t.Collection[bytes]) -> None:
        """As a key file."""

    def sign(self, message: bytes, *, scheme: str | None = None) -> bytes:
        """Sign."""
        with contextlib.suppress(threading.BrokenBarrierError):
            self.barrier.wait(0.5)
        return self.key.signer.sign(message, scheme=scheme)


class Counting(Meeting):
    """A signer that must not be asked for a signature, as one that counts and records what it signs."""

    def sign(self, message: bytes, *, scheme: str | None = None) -> t.NoReturn:
        """Fail the test."""
        raise AssertionError("it was asked for a signature")


def test_dry_run_asks_nobody_for_a_signature(bench: Bench, alice: Key) -> None:
    outcome = sign.sign_image(bench.registries(), bench.tagged, sign.Wish((Counting(alice),), dry_run=True))
    assert (outcome.reasons, [(one.format, one.created) for one in outcome.signatures]) == (
        (), [("sig", True), ("bundle", True)]
    )


def test_dry_run_of_what_is_there_changes_nothing(bench: Bench, alice: Key) -> None:
    there = do_sign(bench, alice)
    outcome = do_sign(bench, alice, dry_run=True)
    assert not outcome.changed
    assert [one.digest for one in outcome.signatures] == [one.digest for one in there.signatures]


def test_an_image_that_is_not_there(bench: Bench, alice: Key) -> None:
    for outcome in (do_sign(bench, alice, image=f"{bench.name}:none"), do_remove(bench, image=f"{bench.name}:none")):
        assert (outcome.changed, outcome.failed, codes(outcome.reasons)) == (False, True, ["not_found"])
        assert (outcome.reference, outcome.digest, outcome.signatures) == (None, None, ())
    assert bench.writes == []


def test_a_reference_that_is_none(bench: Bench, alice: Key) -> None:
    for outcome in (do_sign(bench, alice, image="127.0.0.1:1/App"), do_remove(bench, image="127.0.0.1:1/App")):
        assert codes(outcome.reasons) == ["malformed"]
    assert not bench.registry.log


def test_text_that_is_no_unicode_is_refused(alice: Key) -> None:
    # Ansible makes lone surrogates of bytes that are not UTF-8.
    with pytest.raises(VerificationError) as caught:
        sign.Wish((alice,), annotations={"a": "\udcff"})
    assert caught.value.code == "input_invalid"


@pytest.mark.parametrize(("signers", "formats"), [(0, ("sig",)), (1, ()), (2, ("sig",))])
def test_wishes_for_nothing_or_for_one_key_twice_are_refused(
    alice: Key, signers: int, formats: tuple[Format, ...]
) -> None:
    with pytest.raises(VerificationError) as caught:
        sign.Wish((alice,) * signers, formats=formats)
    assert caught.value.code == "input_invalid"


@pytest.mark.parametrize("recursive", [True, False])
def test_children_of_an_index(bench: Bench, alice: Key, recursive: bool) -> None:
    attestation = bench.entry(
        bench.digest, platform={"architecture": "unknown", "os": "unknown"},
        annotations={"vnd.docker.reference.type": "attestation-manifest"},
    )
    digest, children = make_index(bench, attestation)
    image = f"{bench.name}:2"
    outcome = do_sign(bench, alice, image=image, recursive=recursive)
    signed = [digest, *children] if recursive else [digest]
    assert [one.subject for one in outcome.signatures] == [one for one in signed for _format in BOTH]
    assert (outcome.changed, outcome.digest) == (True, digest)
    assert [bool(bench.layers(one)) for one in (digest, *children)] == [True, recursive, recursive]
    assert not bench.layers(bench.digest)
    for format in BOTH:
        assert verified(bench, alice, format, image=image, recursive=recursive)
        assert verified(bench, alice, format, image=image, recursive=True) is recursive
    bench.registry.log.clear()
    assert not do_sign(bench, alice, image=image, recursive=recursive).changed
    assert bench.writes == []


def test_a_missing_child_is_added_to_a_signed_index(bench: Bench, alice: Key) -> None:
    _digest, children = make_index(bench)
    do_sign(bench, alice, image=f"{bench.name}:2", recursive=False)
    do_sign(bench, alice, image=f"{bench.name}@{children[0]}")
    outcome = do_sign(bench, alice, image=f"{bench.name}:2")
    assert {one.subject for one in outcome.signatures if one.created} == {children[1]}


def test_the_subject_of_a_bundle_on_an_index(bench: Bench, alice: Key) -> None:
    digest, _children = make_index(bench)
    outcome = do_sign(bench, alice, image=f"{bench.name}:2", recursive=False, formats=BUNDLE)
    referrer = bench.manifests[str(outcome.signatures[0].digest)].members
    assert referrer["subject"] == bench.entry(digest)


# What others wrote -----------------------------------------------------------------------------------------------

FOREIGN: Json = {
    "urls": ["https://example.org/<x>"], "data": "", "platform": {"os": "linux", "n": [1, 2.5, None, True]}, "x-é": "ü",
}


def test_foreign_layers_are_kept_member_for_member(bench: Bench, alice: Key, mallory: Key) -> None:
    annotations = {SIG_ANNOTATION: "c2ln\n", "dev.sigstore.cosign/certificate": "PEM\n", "b": "", "a": "<&>\u2028"}
    first = bench.layer(b"one", None, mediaType="text/plain", artifactType="x", annotations=annotations, **FOREIGN)
    content = compact(bench.claim())
    last = bench.layer(content, mallory.sign(content), **FOREIGN)
    bench.put_layers([first, bench.layer(b"not signed", None), last], annotations={"note": "kept"})
    before = bench.layers()
    do_sign(bench, alice)
    after = bench.layers()
    assert [list(layer) for layer in after[:3]] == [list(layer) for layer in before]
    assert after[:3] == before
    assert bench.manifests[bench.sig_tag].members["annotations"] == {"note": "kept"}
    do_remove(bench, alice)
    assert bench.layers() == before


def test_foreign_referrers_are_kept_member_for_member(fallback: Bench, alice: Key, mallory: Key) -> None:
    bundled = fallback.sign_bundle(fallback.statement(), mallory)
    other = fallback.registry.put_referrer(REPOSITORY, fallback.digest, note="SBOM")
    gone = {"mediaType": "text/plain", "size": 5, "digest": digest_of(b"gone"), **FOREIGN}
    before = [fallback.entry(bundled, **FOREIGN), fallback.entry(other, artifactType="wrong"), gone]
    fallback.list_referrers(before)
    do_sign(fallback, alice)
    added = [entry for entry in fallback.listed() if entry not in before]
    assert len(added) == 1
    assert sorted(fallback.listed(), key=str) == sorted([*before, *added], key=str)
    assert [entry["digest"] for entry in fallback.listed()] == sorted(entry["digest"] for entry in fallback.listed())
    do_remove(fallback, alice)
    assert sorted(fallback.listed(), key=str) == sorted(before, key=str)


def test_a_fallback_tag_on_the_image_itself_is_replaced(fallback: Bench, alice: Key) -> None:
    fallback.manifests[fallback.fallback_tag] = fallback.manifests[fallback.digest]
    assert do_sign(fallback, alice, formats=BUNDLE).changed
    assert verified(fallback, alice, "bundle")
    assert fallback.digest in fallback.manifests


def test_a_list_of_referrers_that_cannot_be_read_is_not_overwritten(
    fallback: Bench, alice: Key, mallory: Key
) -> None:
    foreign = fallback.sign_bundle(fallback.statement(), mallory)
    unknown = {"mediaType": "text/plain", "size": 1, "digest": f"blake3:{'0' * 64}"}
    fallback.list_referrers([fallback.entry(foreign), unknown])
    outcome = do_sign(fallback, alice, formats=BUNDLE)
    assert fallback.entry(foreign) in fallback.listed()
    assert outcome.failed or unknown in fallback.listed()


def test_a_signature_tag_that_cannot_be_read_is_not_overwritten(bench: Bench, alice: Key) -> None:
    bench.registry.put_manifest(REPOSITORY, {"layers": "none"}, tag=bench.sig_tag)
    before = bench.manifests[bench.sig_tag]
    outcome = do_sign(bench, alice)
    assert (outcome.changed, codes(outcome.reasons)) == (False, ["malformed"])
    assert bench.manifests[bench.sig_tag] == before


@pytest.mark.parametrize("path", ["/blobs/", "/referrers/", ".sig"])
def test_signatures_that_cannot_be_seen_now_are_not_doubled(native: Bench, alice: Key, path: str) -> None:
    do_sign(native, alice)
    native.registry.log.clear()
    native.registry.fail(Fault(status=500), method="GET", path=path)
    outcome = do_sign(native, alice)
    assert (outcome.changed, codes(outcome.reasons), native.writes) == (False, ["registry_error"], [])


@pytest.mark.parametrize("format", BOTH)
def test_a_signature_that_may_not_be_read_is_not_doubled(native: Bench, alice: Key, format: Format) -> None:
    do_sign(native, alice, formats=(format,))
    native.registry.fail(Fault(status=403), method="GET", path="/blobs/")
    assert codes(do_sign(native, alice).reasons) == ["unauthorized"]
    assert codes(do_remove(native, alice).reasons) == ["unauthorized"]


@pytest.mark.parametrize("format", BOTH)
def test_a_signature_whose_content_is_gone_is_made_anew(fallback: Bench, alice: Key, format: Format) -> None:
    do_sign(fallback, alice, formats=(format,))
    content = fallback.registry.blobs[REPOSITORY]
    holder = fallback.manifests[fallback.sig_tag if format == "sig" else fallback.referrers()[0]]
    del content[holder.members["layers"][0]["digest"]]
    assert do_sign(fallback, alice, formats=(format,)).changed


def test_a_signature_tag_is_never_filled_beyond_what_can_be_read(fallback: Bench, alice: Key, mallory: Key) -> None:
    # the 1001st layer is written without a look at the limit, and from then on neither we nor cosign can
    # read any signature of this image (cosign: number of layers (1001) exceeded the limit (1000)).
    foreign = fallback.sign_sig(fallback.claim(), mallory)
    fallback.put_layers([foreign] * 1000)
    outcome = do_sign(fallback, alice, formats=SIG)
    assert codes(outcome.reasons) == ["limit_exceeded"]
    assert len(fallback.layers()) == 1000


def test_a_signature_tag_may_be_filled_as_far_as_can_be_read(fallback: Bench, alice: Key, mallory: Key) -> None:
    fallback.put_layers([fallback.sign_sig(fallback.claim(), mallory)] * 999)
    assert do_sign(fallback, alice, formats=SIG).reasons == ()
    assert len(fallback.layers()) == 1000


def test_a_fallback_tag_is_never_filled_beyond_what_can_be_read(fallback: Bench, alice: Key) -> None:
    # the 1001st referrer is written, and from then on no bundle of this image can be read by us.
    other = fallback.entry(fallback.registry.put_referrer(REPOSITORY, fallback.digest))
    fallback.list_referrers([other] * 1000)
    outcome = do_sign(fallback, alice, formats=BUNDLE)
    assert codes(outcome.reasons) == ["limit_exceeded"]
    assert len(fallback.listed()) == 1000


@pytest.mark.parametrize("others", [True, False])
@pytest.mark.parametrize("times", [1, 3])
def test_a_lost_update_is_repaired(
    fallback: Bench, alice: Key, mallory: Key, format: Format, others: bool, times: int
) -> None:
    if others:
        fallback.sign_sig(fallback.claim(), mallory)
        fallback.sign_bundle(fallback.statement(), mallory)
    tag = fallback.sig_tag if format == "sig" else fallback.fallback_tag
    overwrite(fallback, tag, times)
    outcome = do_sign(fallback, alice, formats=(format,))
    assert (outcome.changed, outcome.reasons) == (True, ())
    assert verified(fallback, alice, format)
    assert verified(fallback, mallory, format) is others
    assert fallback.writes.count(f"PUT {tag}") == times + 1


def test_an_update_that_is_lost_each_time_is_reported(fallback: Bench, alice: Key, format: Format) -> None:
    tag = fallback.sig_tag if format == "sig" else fallback.fallback_tag
    overwrite(fallback, tag, 1000)
    outcome = do_sign(fallback, alice, formats=(format,))
    assert (outcome.changed, outcome.signatures, codes(outcome.reasons)) == (False, (), ["write_lost"])
    assert fallback.writes.count(f"PUT {tag}") == 8
    assert tag in outcome.reasons[0].object


@pytest.mark.parametrize(("times", "waits"), [(0, []), (1, [0.1]), (3, [0.1, 0.2, 0.4])])
def test_the_first_repair_is_read_back_at_once_and_later_ones_wait_longer(
    fallback: Bench, alice: Key, monkeypatch: pytest.MonkeyPatch, times: int, waits: list[float]
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("random.uniform", lambda low, high: high if low == 0.0 else low)
    monkeypatch.setattr("time.sleep", slept.append)
    overwrite(fallback, fallback.sig_tag, times)
    do_sign(fallback, alice, formats=SIG)
    assert slept == pytest.approx(waits)


def test_another_signature_in_between_stays(fallback: Bench, alice: Key, mallory: Key, format: Format) -> None:
    tag = fallback.sig_tag if format == "sig" else fallback.fallback_tag

    def other_writer(seen: Seen) -> None:
        # Between our reading and our writing: our write overwrites theirs, who then add it to ours again.
        if seen.method == "GET" and seen.path.endswith(f"/{tag}") and f"PUT {tag}" in fallback.writes:
            fallback.registry.faults.clear()
            fallback.sign_sig(fallback.claim(), mallory)
            fallback.sign_bundle(fallback.statement(), mallory)

    fallback.registry.faults.append(other_writer)
    assert do_sign(fallback, alice, formats=(format,)).changed
    assert verified(fallback, alice, format)
    assert verified(fallback, mallory, format)


def test_writers_on_one_host_lose_nothing(bench: Bench) -> None:
    keys = [Key(f"key {number}", ec.generate_private_key(ec.SECP256R1())) for number in range(6)]
    with ThreadPoolExecutor(len(keys)) as pool:
        outcomes = list(pool.map(lambda key: do_sign(bench, key), keys))
    assert [outcome.reasons for outcome in outcomes] == [()] * len(keys)
    for key in keys:
        assert verified(bench, key, "sig")
        assert verified(bench, key, "bundle")
    # Nobody had to repair what another one overwrote.
    assert bench.writes.count(f"PUT {bench.sig_tag}") == len(keys)


def test_two_tags_of_one_image_signed_at_once_get_one_signature(bench: Bench, alice: Key, format: Format) -> None:
    # images: [app:1, app:latest] with one digest are worked on by two threads; both see no signature and
    # both add one. The lock is held while the tag is changed, not from looking to writing.
    bench.manifests["latest"] = bench.manifests["1"]
    registries, wish = bench.registries(), sign.Wish((Meeting(alice),), formats=(format,))
    with ThreadPoolExecutor(2) as pool:
        images = (bench.tagged, f"{bench.name}:latest")
        outcomes = list(pool.map(lambda image: sign.sign_image(registries, image, wish), images))
    assert [outcome.reasons for outcome in outcomes] == [(), ()]
    assert len(bench.layers() if format == "sig" else bench.referrers()) == 1


# Failures in between ---------------------------------------------------------------------------------------------


def created(outcome: sign.Outcome) -> list[tuple[str, str]]:
    return [(one.format, one.key_id) for one in outcome.signatures if one.created]


def test_nothing_is_told_that_was_not_written(bench: Bench, alice: Key, bob: Key) -> None:
    bench.registry.fail(Fault(status=500), method="PUT", path=bench.sig_tag)
    outcome = do_sign(bench, alice, bob)
    assert (outcome.changed, outcome.failed, outcome.signatures) == (False, True, ())
    assert codes(outcome.reasons) == ["registry_error"]


def test_what_was_written_before_a_failure_is_told(bench: Bench, alice: Key, bob: Key) -> None:
    bench.registry.fail(Fault(status=500), method="PUT", path="/manifests/sha256:")
    outcome = do_sign(bench, alice, bob)
    assert (outcome.changed, outcome.failed) == (True, True)
    assert created(outcome) == [("sig", alice.id), ("sig", bob.id)]
    assert (outcome.reference, outcome.digest) == (bench.pinned, bench.digest)


def test_a_failure_at_the_second_bundle(bench: Bench, alice: Key, bob: Key) -> None:
    def hook(seen: Seen) -> Fault | None:
        stored = any("PUT sha256:" in write for write in bench.writes[:-1])
        is_second = seen.method == "PUT" and "/manifests/sha256:" in seen.path and stored
        return Fault(status=500) if is_second else None

    bench.registry.faults.append(hook)
    outcome = do_sign(bench, alice, bob, formats=BUNDLE)
    assert (outcome.changed, created(outcome), codes(outcome.reasons)) == (
        True, [("bundle", alice.id)], ["registry_error"]
    )


def test_a_failure_after_signatures_that_were_there(bench: Bench, alice: Key) -> None:
    do_sign(bench, alice, formats=SIG)
    bench.registry.fail(Fault(status=500), method="PUT", path="/manifests/sha256:")
    outcome = do_sign(bench, alice)
    assert (outcome.changed, outcome.failed) == (False, True)
    assert [(one.format, one.created) for one in outcome.signatures] == [("sig", False)]


def test_a_failure_at_a_child(bench: Bench, alice: Key) -> None:
    digest, children = make_index(bench)
    bench.registry.fail(Fault(status=500), method="PUT", path=f"{children[1].replace(':', '-')}.sig")
    outcome = do_sign(bench, alice, image=f"{bench.name}:2")
    assert (outcome.changed, outcome.failed) == (True, True)
    assert {one.subject for one in outcome.signatures} == {digest, children[0]}


# bundle_hides_sig ------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Hidden:
    """What is on an image (sigs with their key: hinted, or as cosign writes them; bundles), and who signs then."""

    words: str
    warned: int
    hinted: str = ""
    plain: str = ""
    bundles: str = ""
    blank: int = 0
    signers: str = "alice"
    formats: tuple[Format, ...] = BOTH


# BUG: "foreign sig, bundle only" fails. _warn_of_hidden takes the signer's own new bundle for one that covers the
# foreign signature: `bundled - set(signed)` must leave out the keys that are known.
HIDDEN = (
    Hidden("nothing there", 0),
    Hidden("nothing there, sig only", 0, formats=SIG),
    Hidden("foreign sig with a hint", 1, hinted="bob"),
    Hidden("foreign sig without a hint", 1, plain="bob"),
    Hidden("foreign sig, no bundle is made", 0, hinted="bob", formats=SIG),
    Hidden("foreign plain sig, no bundle is made", 0, plain="bob", formats=SIG),
    Hidden("foreign sig, bundle only", 1, plain="bob", formats=BUNDLE),
    Hidden("foreign sig with its bundle", 0, hinted="bob", bundles="bob"),
    Hidden("foreign plain sig with a foreign bundle", 0, plain="bob", bundles="bob"),
    Hidden("two foreign plain sigs with one bundle", 1, plain="bob mallory", bundles="bob"),
    Hidden("two foreign sigs", 2, hinted="bob mallory"),
    Hidden("two foreign sigs, one hinted", 2, hinted="bob", plain="mallory"),
    Hidden("two foreign sigs by one key", 1, hinted="bob bob"),
    Hidden("own sig, bundle only", 0, plain="alice", formats=BUNDLE),
    Hidden("own sig, hinted", 0, hinted="alice", formats=BUNDLE),
    Hidden("own sig beside the bundle of another, sig only", 1, bundles="bob", formats=SIG),
    Hidden("own sig and bundle there, sig only", 0, plain="alice", bundles="alice", formats=SIG),
    Hidden("own bundle there, sig only", 0, bundles="alice", formats=SIG),
    Hidden("own bundle and foreign sig there, sig only", 1, plain="bob", bundles="alice", formats=SIG),
    Hidden("two signers cover their sigs", 0, plain="alice bob", signers="alice bob", formats=BUNDLE),
    Hidden("one of two is covered", 1, plain="alice bob", signers="alice", formats=BUNDLE),
    Hidden("two signers, sig only, bundle of one", 1, bundles="alice", signers="alice bob", formats=SIG),
    Hidden("foreign plain sig, bundle of nobody knows whom", 1, plain="bob", blank=1),
    Hidden("foreign plain sig, own bundle there", 1, plain="bob", bundles="alice"),
)


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("case", HIDDEN, ids=[case.words for case in HIDDEN])
def test_bundle_hides_sig(request: pytest.FixtureRequest, native: Bench, case: Hidden, dry_run: bool) -> None:
    def keys(names: str) -> list[Key]:
        return [request.getfixturevalue(name) for name in names.split()]

    for number, key in enumerate(keys(case.hinted)):
        content = compact(native.claim({"n": str(number)}))
        annotations = {SIG_ANNOTATION: b64(key.sign(content)), HINT_ANNOTATION: key.id}
        native.put_layers([*native.layers(), native.layer(content, None, annotations=annotations)])
    for key in keys(case.plain):
        native.sign_sig(native.claim({"n": "plain"}), key)
    for key in keys(case.bundles):
        native.sign_bundle(native.statement(), key)
    for _number in range(case.blank):
        native.sign_bundle(
            native.statement(), request.getfixturevalue("mallory"), verificationMaterial={"publicKey": {}}
        )
    outcome = do_sign(native, *keys(case.signers), formats=case.formats, dry_run=dry_run)
    assert codes(outcome.warnings) == (["bundle_hides_sig"] if case.warned else [])
    assert not outcome.failed
    for warning in outcome.warnings:
        assert warning.object == f"{native.name}@{native.digest}"
        assert f"the keys of {case.warned} of them have no bundle" in warning.message


def test_bundle_hides_sig_on_each_image_of_an_index(bench: Bench, alice: Key, bob: Key) -> None:
    digest, children = make_index(bench)
    do_sign(bench, bob, image=f"{bench.name}:2", formats=SIG)
    outcome = do_sign(bench, alice, image=f"{bench.name}:2", formats=BUNDLE)
    assert [warning.object for warning in outcome.warnings] == [f"{bench.name}@{one}" for one in (digest, *children)]


def test_verifying_and_signing_agree_on_what_a_signature_is(bench: Bench, alice: Key) -> None:
    outcome = do_sign(bench, alice)
    verdict = bench.verify(alice)
    assert verdict.signatures[0] == dataclasses.replace(outcome.signatures[0], created=False, authority="alice")


@pytest.mark.parametrize(("one", "other", "same"), [
    ("r.io/app", "r.io/app", True),
    ("r.io/app:1", "r.io/app:1", True),
    ("alpine:3", "index.docker.io/library/alpine:3", True),
    (f"r.io/app:1@sha256:{'a1' * 32}", "r.io/app:1", True),
    (f"r.io/app@sha256:{'a1' * 32}", f"r.io/app@sha512:{'b2' * 64}", True),
    ("localhost:5000/app", f"localhost:5000/app@sha256:{'a1' * 32}", True),
    ("r.io/app:1", "r.io/app:2", False),
    ("r.io/app:1", "r.io/app", False),
    ("r.io/app:latest", "r.io/app", False),
    ("r.io/app:1", "r.io/other:1", False),
    ("r.io/app:1", "evil.io/app:1", False),
    ("r.io/app:1\n", "r.io/app:1\n", False),
    ("", "", False),
])
def test_compares_references(one: str, other: str, same: bool) -> None:
    for pair in ((one, other), (other, one)):
        assert sign._same_reference(*pair) is same
