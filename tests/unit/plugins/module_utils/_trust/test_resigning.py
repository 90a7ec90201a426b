# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Re-signing: what is proven gets a signature by a key that stays, everything else stays as it is."""

from __future__ import annotations

import pathlib
import threading
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import CustodyError
from ansible_collections.hallmark.signing.plugins.module_utils._oci import shared_tag
from ansible_collections.hallmark.signing.plugins.module_utils._signing import sign
from ansible_collections.hallmark.signing.plugins.module_utils._signing.candidate import signature_tag
from ansible_collections.hallmark.signing.plugins.module_utils._trust import coverage_cache, resigning
from ansible_collections.hallmark.signing.tests.unit.fake_registry import Fault, Seen
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


@pytest.fixture
def cache(world: World, tmp_path: pathlib.Path) -> t.Callable[..., coverage_cache.CoverageCache]:
    """Opens the cache of the usual terms, or of others."""
    folder = tmp_path / "private"
    folder.mkdir(mode=0o700)

    def open_it(max_age: int = 1000, **further: t.Any) -> coverage_cache.CoverageCache:
        terms = world.terms(**{"signer": "new", **further})
        return coverage_cache.CoverageCache(str(folder / "covered.json"), terms.hash, max_age=max_age)

    return open_it


def outcome(done: t.Sequence[resigning.Done]) -> list[tuple[bool, bool]]:
    return [(one.is_covered, one.changed) for one in done]


def test_what_is_proven_is_signed_and_a_second_run_changes_nothing(world: World) -> None:
    images = world.images(5)
    world.signed(key("old"), *images)
    assert outcome(world.resign(*images)) == [(True, True)] * 5
    assert all(world.verifies("new", image) == world.verifies("old", image) == ["sig", "bundle"] for image in images)
    written = world.written
    assert outcome(world.resign(*images)) == [(True, False)] * 5
    assert world.written == written


def test_the_order_is_kept_and_the_failure_of_one_stops_no_other(world: World) -> None:
    images = world.images(4)
    world.signed(key("old"), images[0], images[3])
    world.signed(key("new"), images[1])
    done = world.resign(*images)
    assert [one.image for one in done] == images
    assert outcome(done) == [(True, True), (True, False), (False, False), (True, True)]
    assert codes(done[2].reasons) == ["no_signatures"]


@pytest.mark.parametrize("signed_by", ["mallory", "old", None])
def test_what_is_not_proven_stays_as_it_was(signed_by: str | None, world: World) -> None:
    if signed_by:
        world.signed(key(signed_by))
    before, written = world.content(), world.written
    (done,) = world.resign(denied_key_ids=[key("old").id])
    assert (done.is_covered, done.changed) == (False, False)
    assert codes(done.reasons)
    assert (world.content(), world.written) == (before, written)


def test_a_signature_that_only_the_leaving_key_made_for_another_claim_is_not_laundered(world: World) -> None:
    world.signed(key("old"), annotations={"env": "test"})
    (done,) = world.resign(annotations={"env": "prod"})
    assert (done.is_covered, done.changed) == (False, False)
    (done,) = world.resign(annotations={"env": "test"})
    assert (done.is_covered, done.changed) == (True, True)
    assert world.verify(key("new"), annotations={"env": "test"}).verified


def test_only_the_format_that_is_lacking_is_signed(world: World) -> None:
    world.signed(key("old"))
    world.signed(key("new"), formats=("sig",))
    layers = world.layers()
    assert outcome(world.resign()) == [(True, True)]
    assert (world.layers(), world.verifies("new")) == (layers, ["sig", "bundle"])


def test_an_image_with_the_old_format_only_gets_the_bundle(world: World) -> None:
    world.signed(key("old"), formats=("sig",))
    assert outcome(world.resign(formats=("bundle",))) == [(True, True)]
    assert world.verifies("new") == ["bundle"]
    assert world.verifies("old") == ["sig"]


def test_the_key_that_signs_proves_what_it_signed_before(world: World) -> None:
    # The task was killed between the formats, and the old key is gone from trust.
    world.signed(key("new"), formats=("sig",))
    assert outcome(world.resign(trust=("third",))) == [(True, True)]


def test_an_index_with_an_image_that_is_not_proven_stays_as_it_was(world: World) -> None:
    index, children = world.index()
    world.signed(key("old"), index, children[0])
    written = world.written
    (done,) = world.resign(index)
    assert (done.is_covered, done.changed, world.written) == (False, False, written)
    assert [reason.object for reason in done.reasons] == [str(children[1])]
    assert outcome(world.resign(index, recursive=False)) == [(True, True)]
    assert world.verifies("new", children[0]) == []
    world.signed(key("old"), children[1])
    assert outcome(world.resign(index)) == [(True, True)]
    assert all(world.verifies("new", one) == ["sig", "bundle"] for one in (index, *children))


def test_re_signing_takes_few_requests(world: World) -> None:
    world.settle_seconds = 0.1
    images = world.images(1)
    world.signed(key("old"), *images)
    before = len(world.registry.log)
    assert outcome(world.resign(*images)) == [(True, True)]
    sent = [f"{seen.method} {seen.path}" for seen in world.registry.log[before:]]
    # Each more is paid for with every image of a live set, by the registry above all.
    assert len(sent) <= 22, sent
    # After the wait, each format is read once, and that is what is verified.
    digest = str(images[0].digest)
    tag = digest.replace(":", "-")
    assert sent[-2] == f"GET /v2/fleet/app0/manifests/{tag}.sig"
    assert sent[-1] in (f"GET /v2/fleet/app0/referrers/{digest}", f"GET /v2/fleet/app0/manifests/{tag}")
    assert sent[-2] not in sent[sent.index(sent[-2].replace("GET", "PUT")):-2]


def test_without_a_signer_it_is_a_plan(world: World) -> None:
    world.signed(key("old"))
    written = world.written
    (done,) = world.resign(by=None)
    assert (done.is_covered, done.changed, world.written) == (False, False, written)
    assert set(codes(done.reasons)) == {"signature_invalid"}


def test_a_dry_run_says_what_would_be_signed(world: World) -> None:
    images = world.images(2)
    world.signed(key("old"), images[0])
    written = world.written
    assert outcome(world.resign(*images, dry_run=True)) == [(True, True), (False, False)]
    assert world.written == written


def test_what_the_registry_refuses_is_a_reason(world: World) -> None:
    images = world.images(2)
    world.signed(key("old"), *images)
    world.registry.fail(Fault(status=403), method="PUT", path="app0/manifests")
    done = world.resign(*images)
    assert outcome(done) == [(False, False), (True, True)]
    assert codes(done[0].reasons) == ["unauthorized"]


def test_a_signature_that_the_registry_loses_again_does_not_cover(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.signed(key("old"))
    losing(world, monkeypatch, times=2)
    (done,) = world.resign()
    assert (done.is_covered, done.changed) == (False, True)
    assert "no_signatures" in codes(done.reasons)


def test_a_signature_that_another_writer_took_away_is_put_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.signed(key("old"))
    world.settle_seconds = 0.3
    losing(world, monkeypatch, times=1)
    (done,) = world.resign()
    assert (done.is_covered, done.changed, done.reasons) == (True, True, ())
    assert world.verifies("new") == ["sig", "bundle"]


def test_what_is_put_back_and_lost_again_does_not_cover(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.signed(key("old"))
    world.settle_seconds = 0.1
    losing(world, monkeypatch, times=1_000)
    (done,) = world.resign()
    assert (done.is_covered, done.changed) == (False, True)
    assert codes(done.reasons) == ["write_lost"]


def test_what_another_key_signed_meanwhile_does_not_stand_for_ours(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.signed(key("old"))

    def wait(_store: t.Any, _written: t.Any) -> None:
        if world.sig_tag in world.manifests and world.verifies("new"):
            world.manifests.pop(world.sig_tag)
            world.signed(key("other"), formats=("sig",))

    monkeypatch.setattr(shared_tag, "wait", wait)
    (done,) = world.resign(trust=("old", "new", "other"), stay=("new", "other"))
    assert (done.is_covered, done.changed, codes(done.reasons)) == (False, True, ["signature_invalid"])


def test_what_was_written_before_it_failed_stays(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.signed(key("old"))
    world.settle_seconds = 0.1
    losing(world, monkeypatch, times=1)
    # The signature in the old format is written first.
    world.registry.fail(Fault(status=403), method="PUT", path="/manifests/sha256:")
    (done,) = world.resign()
    assert (done.is_covered, done.changed, codes(done.reasons)) == (False, True, ["unauthorized"])
    assert world.verifies("new") == ["sig"]


def test_what_is_signed_beyond_what_was_lacking_is_confirmed_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, (first, second) = world.index()
    world.signed(key("old"), index, first, second)
    # Each lacks another format, and so each gets both.
    world.signed(key("other"), index, first, formats=("sig",))
    world.signed(key("other"), second, formats=("bundle",))
    tag = signature_tag(str(first.digest))
    losing(world, monkeypatch, times=2, tag=tag)
    (done,) = world.resign(index, trust=("old", "new", "other"), stay=("new", "other"))
    assert (done.is_covered, done.changed) == (False, True)
    assert codes(done.reasons) == ["no_signatures"]


def losing(world: World, monkeypatch: pytest.MonkeyPatch, *, times: int, tag: str = "") -> None:
    """Let somebody take the signatures in the old format away, so often, while we wait."""
    genuine, left = shared_tag.wait, [None] * times

    def wait(store: t.Any, written: t.Any) -> None:
        genuine(store, written)
        if left:
            left.pop()
            world.manifests.pop(tag or world.sig_tag, None)

    monkeypatch.setattr(shared_tag, "wait", wait)


def test_a_kill_in_the_middle_loses_nothing(world: World) -> None:
    images = world.images(6)
    world.signed(key("old"), *images)

    class Killed(BaseException):
        pass

    puts: list[str] = []

    def kill(seen: Seen) -> None:
        if seen.method == "PUT" and "/manifests/" in seen.path:
            puts.append(seen.path)

    world.registry.faults.append(kill)
    genuine, begun = sign.sign_image, []

    def dying(store: t.Any, image: str, wish: sign.Wish) -> sign.Outcome:
        begun.append(image)
        if len(begun) == 4:
            raise Killed
        return genuine(store, image, wish)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sign, "sign_image", dying)
        with pytest.raises(Killed):
            world.resign(*images, workers=1)
    assert puts
    done = world.resign(*images)
    assert outcome(done) == [(True, False)] * 3 + [(True, True)] * 3
    assert all(world.verifies("new", image) == ["sig", "bundle"] for image in images)


def test_six_workers_on_one_digest_lose_no_signature(world: World) -> None:
    names = [f"generation-{number}" for number in range(6)]
    world.signed(key("old"))
    results: list[list[tuple[bool, bool]]] = []

    def work(name: str) -> None:
        results.append(outcome(world.resign(by=name, trust=("old",), stay=(name,))))

    threads = [threading.Thread(target=work, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == [[(True, True)]] * 6
    assert all(world.verifies(name) == ["sig", "bundle"] for name in ("old", *names))
    assert len(world.layers()) == len(world.referrers()) == 7


def test_one_image_twice_in_one_run_is_signed_once(world: World) -> None:
    world.signed(key("old"))
    world.resign(world.reference, world.reference, workers=2)
    assert len(world.layers()) == len(world.referrers()) == 2


# The cache ------------------------------------------------------------------------------------------------------------


def test_what_is_known_to_be_covered_costs_no_request(world: World, cache: t.Callable[..., t.Any]) -> None:
    images = world.images(5)
    world.signed(key("old"), *images)
    assert outcome(world.resign(*images, cache=cache())) == [(True, True)] * 5
    before = len(world.registry.log)
    assert outcome(world.resign(*images, cache=cache())) == [(True, False)] * 5
    assert len(world.registry.log) == before


def test_the_order_is_kept_beside_what_is_known(world: World, cache: t.Callable[..., t.Any]) -> None:
    images = world.images(5)
    world.signed(key("old"), *images[:4])
    world.resign(images[1], images[3], cache=cache())
    done = world.resign(*images, cache=cache())
    assert [one.image for one in done] == images
    assert outcome(done) == [(True, True), (True, False), (True, True), (True, False), (False, False)]


@pytest.mark.parametrize("further", [
    {"stay": ("new", "third"), "trust": ("old", "third")}, {"recursive": False}, {"denied_key_ids": [key("third").id]},
])
def test_the_cache_of_other_terms_does_not_count(
    further: dict[str, t.Any], world: World, cache: t.Callable[..., t.Any]
) -> None:
    world.signed(key("new"))
    world.resign(cache=cache())
    world.manifests.pop(world.sig_tag)
    # What is known is believed, by those for whom it is known.
    assert outcome(world.resign(cache=cache())) == [(True, False)]
    before = len(world.registry.log)
    world.resign(cache=cache(**further), **further)
    assert len(world.registry.log) > before


def test_a_cache_that_is_too_old_or_not_asked_for_does_not_count(world: World, cache: t.Callable[..., t.Any]) -> None:
    world.signed(key("new"))
    world.resign(cache=cache())
    world.manifests.pop(world.sig_tag)
    assert outcome(world.resign(cache=cache(max_age=0), by=None)) == [(False, False)]
    assert outcome(world.resign(by=None)) == [(False, False)]


def test_what_is_not_covered_and_a_dry_run_are_not_taken_down(world: World, cache: t.Callable[..., t.Any]) -> None:
    world.signed(key("old"))
    world.resign(cache=cache(), dry_run=True)
    world.resign(cache=cache(), by=None)
    assert not cache().is_fresh(world.reference)
    world.resign(cache=cache())
    assert cache().is_fresh(world.reference)


def test_what_was_signed_is_told_before_the_cache_fails(
    world: World, cache: t.Callable[..., t.Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.signed(key("old"))
    broken = cache()

    def fail(_images: t.Any, *, at: float) -> None:
        raise CustodyError(code="write_failed", object="x", attempt="y", cause="z", advice="")

    monkeypatch.setattr(broken, "add", fail)
    plan = resigning.Plan(world.terms(signer="new"), sign.Wish((key("new").signer,)))
    told = resigning.resign(world.store(), [world.reference], plan, cache=broken)
    assert next(told).changed
    with pytest.raises(CustodyError):
        next(told)


def test_images_share_the_wait_in_batches(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resigning, "BATCH", 2)
    images = world.images(5)
    world.signed(key("old"), *images)
    assert outcome(world.resign(*images)) == [(True, True)] * 5
