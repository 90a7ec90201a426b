# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of module image_resignature."""

from __future__ import annotations

import hashlib
import json
import pathlib
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._keys.fingerprint import key_id
from ansible_collections.hallmark.signing.plugins.module_utils._trust import coverage_cache
from ansible_collections.hallmark.signing.plugins.modules import image_resignature, image_signature, image_verify
from ansible_collections.hallmark.signing.tests.unit.fake_registry import FakeRegistry, Fault
from cryptography.hazmat.primitives.asymmetric import ec

KEYS = ["count", "live_set_hash", "covered", "resigned", "out_of_support", "left_out", "uncovered", "seconds"]
Run = t.Callable[..., t.Any]


class Fleet:
    """Images that the old key signed, and both keys as files."""

    def __init__(self, run_module: Run, registry: FakeRegistry, files: dict[str, str], ids: dict[str, str]) -> None:
        self.run_module = run_module
        self.registry = registry
        self.files = files
        self.ids = ids
        self.images = [self.put(f"fleet/app{number}") for number in range(4)]
        self.sign("old", *self.images)

    def put(self, repository: str) -> str:
        return f"{self.registry.host}/{repository}@{self.registry.put_image(repository, '1')}"

    def sign(self, name: str, *images: str) -> None:
        signers = [{"private_key_path": self.files[name]}]
        ended = self.run_module(
            image_signature, ["results"], images=list(images), signers=signers, settle_seconds=0
        )
        assert not ended.failed

    def verifies(self, name: str, *images: str) -> bool:
        ended = self.run_module(
            image_verify, ["verified", "results"], images=list(images), on_failure="report",
            trust=[{"public_key_path": f"{self.files[name]}.pub"}],
        )
        return t.cast(bool, ended.result["verified"])

    def __call__(self, **options: t.Any) -> t.Any:
        given = {
            "images": self.images, "settle_seconds": 0, "staying_key_ids": [self.ids["new"]],
            "trust": [{"name": name, "public_key_path": f"{self.files[name]}.pub"} for name in ("old", "new")],
            **options,
        }
        ended = self.run_module(
            image_resignature, KEYS, **{name: value for name, value in given.items() if value is not None}
        )
        if "covered" in ended.result:
            result = ended.result
            parts = result["covered"] + len(result["out_of_support"]) + len(result["uncovered"])
            assert parts == result["count"] or ended.failed
        return ended

    def signing(self, **options: t.Any) -> t.Any:
        return self(**{"signers": [{"private_key_path": self.files["new"]}], **options})

    @property
    def writes(self) -> int:
        return len([seen for seen in self.registry.log if seen.method not in ("GET", "HEAD")])


@pytest.fixture
def fleet(
    run_module: Run, registry: FakeRegistry, home: pathlib.Path, p256: t.Any, other_p256: t.Any,
    private_pem: t.Callable[..., bytes], public_pem: t.Callable[..., bytes],
) -> Fleet:
    """The fleet."""
    files, ids = {}, {}
    for name, key in (("old", p256), ("new", other_p256), ("third", ec.generate_private_key(ec.SECP256R1()))):
        (home / name).write_bytes(private_pem(key))
        (home / f"{name}.pub").write_bytes(public_pem(key))
        files[name], ids[name] = str(home / name), key_id(key.public_key())
    return Fleet(run_module, registry, files, ids)


def live_hash(*images: str) -> str:
    return hashlib.sha256("".join(f"{image}\n" for image in sorted(images)).encode()).hexdigest()


# Signing --------------------------------------------------------------------------------------------------------------


def test_what_runs_is_signed_once(fleet: Fleet) -> None:
    first = fleet.signing()
    assert not first.failed
    assert first.result == {**first.result, **{
        "changed": True, "count": 4, "covered": 4, "resigned": fleet.images, "uncovered": [], "out_of_support": [],
        "left_out": [], "reasons": [], "live_set_hash": live_hash(*fleet.images),
    }}
    assert first.result["seconds"] > 0
    assert fleet.verifies("new", *fleet.images)
    assert fleet.verifies("old", *fleet.images)
    writes = fleet.writes
    again = fleet.signing()
    assert (again.result["changed"], again.result["covered"], again.result["resigned"], fleet.writes) == (
        False, 4, [], writes,
    )


def test_check_mode_says_what_would_be_signed(fleet: Fleet, home: pathlib.Path) -> None:
    foreign, writes = fleet.put("fleet/foreign"), fleet.writes
    planned = fleet.signing(
        images=[*fleet.images, foreign], check=True, on_failure="report", cache_path=str(home / "cache")
    )
    assert (planned.result["changed"], planned.result["covered"], planned.result["resigned"]) == (True, 4, fleet.images)
    assert [one["image"] for one in planned.result["uncovered"]] == [foreign]
    assert (fleet.writes, (home / "cache").exists()) == (writes, False)
    fleet.signing()
    assert not fleet.signing(check=True).result["changed"]


def test_diff_shows_what_is_signed(fleet: Fleet) -> None:
    lines = [f"{fleet.ids['new']} on {image}" for image in fleet.images]
    assert fleet.signing(diff=True).result["diff"]["after"] == lines
    difference = fleet.signing(diff=True).result["diff"]
    assert difference["before"] == difference["after"] == []


def test_without_a_signer_it_is_a_plan(fleet: Fleet) -> None:
    writes = fleet.writes
    planned = fleet()
    assert (planned.failed, planned.codes, planned.result["changed"]) == (True, ["not_covered"], False)
    assert [one["image"] for one in planned.result["uncovered"]] == fleet.images
    assert {reason["code"] for one in planned.result["uncovered"] for reason in one["reasons"]} == {"signature_invalid"}
    assert fleet.writes == writes
    reported = fleet(on_failure="report")
    assert (reported.failed, reported.codes, len(reported.result["uncovered"])) == (False, ["not_covered"], 4)


# A leaked key proves nothing, nor does that of a stranger.
def test_what_is_not_proven_is_told_and_left_alone(fleet: Fleet) -> None:
    unsigned, stranger = fleet.put("fleet/unsigned"), fleet.put("fleet/stranger")
    fleet.sign("third", stranger)
    writes = fleet.writes
    ended = fleet.signing(images=[*fleet.images, unsigned, stranger], denied_key_ids=[fleet.ids["old"]])
    assert (ended.failed, ended.result["changed"], ended.result["covered"], fleet.writes) == (True, False, 0, writes)
    by_image = {one["image"]: {reason["code"] for reason in one["reasons"]} for one in ended.result["uncovered"]}
    assert by_image[unsigned] >= {"no_signatures"}
    assert by_image[stranger] >= {"signature_invalid"}
    assert all(by_image[image] >= {"key_denied"} for image in fleet.images)
    ended = fleet.signing(images=[*fleet.images, unsigned, stranger])
    assert (ended.failed, ended.result["changed"], ended.result["resigned"]) == (True, True, fleet.images)
    assert not fleet.verifies("new", stranger)


def test_children_of_an_index_are_signed_unless_told_otherwise(fleet: Fleet) -> None:
    digest = fleet.registry.put_index("fleet/multi", "1", ["linux/amd64", "linux/arm64"])
    index = f"{fleet.registry.host}/fleet/multi@{digest}"
    children = [
        f"{fleet.registry.host}/fleet/multi@{entry['digest']}"
        for entry in fleet.registry.manifests["fleet/multi"]["1"].members["manifests"]
    ]
    fleet.sign("old", index)
    assert not fleet.signing(images=[index], recursive=False).failed
    assert (fleet.verifies("new", index), fleet.verifies("new", children[0])) == (True, False)
    assert not fleet.signing(images=[index]).failed
    assert fleet.verifies("new", index, *children)


def test_a_failure_of_the_registry_is_told_with_what_was_done(fleet: Fleet) -> None:
    fleet.registry.fail(Fault(status=403), method="PUT", path="app1/manifests")
    ended = fleet.signing()
    assert (ended.failed, ended.result["changed"], ended.result["covered"]) == (True, True, 3)
    assert [one["image"] for one in ended.result["uncovered"]] == [fleet.images[1]]
    assert ended.result["uncovered"][0]["reasons"][0]["code"] == "unauthorized"


def test_many_warnings_of_one_kind_are_one(fleet: Fleet) -> None:
    for image in fleet.images:
        ended = fleet.run_module(
            image_signature, ["results"], images=[image], signers=[{"private_key_path": fleet.files["third"]}],
            formats=["sig"], settle_seconds=0,
        )
        assert not ended.failed
    told = fleet.signing().warnings
    assert len([one for one in told if "ImageValidatingPolicy" in one]) == 1
    assert "3 times more" in "".join(told)


def test_a_key_with_a_service_or_a_program_signs(fleet: Fleet, home: pathlib.Path) -> None:
    program = home / "sign"
    program.write_text(f"#!/bin/sh\nexec openssl dgst -sha256 -sign {fleet.files['new']}\n")
    program.chmod(0o700)
    signers = [{"command": [str(program)], "public_key_path": f"{fleet.files['new']}.pub"}]
    assert fleet.signing(signers=signers).result["covered"] == 4


# The live set ---------------------------------------------------------------------------------------------------------


def test_images_come_from_a_file(fleet: Fleet, home: pathlib.Path) -> None:
    path = home / "list"
    for text in (json.dumps(fleet.images), "# list\n" + "\n".join(fleet.images)):
        path.write_text(text)
        ended = fleet(images=None, images_path=str(path), on_failure="report")
        assert ended.result["live_set_hash"] == live_hash(*fleet.images)
    path.write_text(json.dumps({"items": [{"imageID": f"docker-pullable://{image}"} for image in fleet.images]}))
    ended = fleet(images=None, images_path=str(path), query="items[].imageID", on_failure="report")
    assert ended.result["live_set_hash"] == live_hash(*fleet.images)
    ended = fleet(images=None, images_path=str(path))
    assert (ended.failed, ended.codes) == (True, ["input_invalid"])


def test_images_are_picked_out_of_any_data(fleet: Fleet) -> None:
    ended = fleet(
        images=None, source=[{"RepoDigests": fleet.images}], query="[].RepoDigests[]", on_failure="report"
    )
    assert ended.result["live_set_hash"] == live_hash(*fleet.images)


def test_releases_belong_to_the_live_set(fleet: Fleet) -> None:
    repository = fleet.images[0].partition("@")[0]
    digests = [f"sha256:{number}{'0' * 63}" for number in range(4)]
    ended = fleet(releases=[f"{repository}@{digest}" for digest in digests], on_failure="report")
    assert ended.result["live_set_hash"] == live_hash(*fleet.images, *(f"{repository}@{one}" for one in digests[2:]))
    ended = fleet(releases=[f"{repository}@{digest}" for digest in digests], keep=0, on_failure="report")
    assert ended.result["count"] == 5


def test_only_ours_count(fleet: Fleet) -> None:
    other = f"nginx@sha256:{'0' * 64}"
    ended = fleet.signing(images=[other, *fleet.images], only=[f"{fleet.registry.host}/fleet/**"])
    assert (ended.failed, ended.result["count"], ended.result["left_out"]) == (False, 4, ["docker.io/library/nginx"])
    assert ended.result["live_set_hash"] == live_hash(*fleet.images)


def test_shards_share_the_work(fleet: Fleet) -> None:
    done = [fleet.signing(shard={"index": index, "count": 3}) for index in range(3)]
    together = [image for one in done for image in one.result["resigned"]]
    assert sorted(together) == sorted(fleet.images)
    assert {one.result["live_set_hash"] for one in done} == {live_hash(*fleet.images)}
    assert sum(one.result["count"] for one in done) == 4
    assert not fleet().failed


def test_all_mistakes_are_told_at_once_before_anything_is_done(fleet: Fleet) -> None:
    before = len(fleet.registry.log)
    ended = fleet.signing(images=[fleet.images[0], "app:1", "sha256:x"], releases=["y"])
    assert (ended.failed, ended.codes) == (True, ["input_invalid"] * 3)
    assert [reason["object"] for reason in ended.result["reasons"]] == ["images[1]", "images[2]", "releases[0]"]
    assert (len(fleet.registry.log), ended.result["live_set_hash"]) == (before, None)


# Out of support -------------------------------------------------------------------------------------------------------


def test_what_is_out_of_support_is_not_touched_until_that_ends(fleet: Fleet) -> None:
    entry = {"image": fleet.images[0], "owner": "team-old", "expires": "2999-01-01T00:00:00Z"}
    ended = fleet.signing(out_of_support=[entry])
    assert (ended.failed, ended.result["count"], ended.result["covered"]) == (False, 4, 3)
    assert ended.result["out_of_support"] == [{**entry, "expires": "2999-01-01T00:00:00+00:00"}]
    assert not fleet.verifies("new", fleet.images[0])
    ended = fleet(out_of_support=[{**entry, "expires": "2020-01-01T00:00:00Z"}])
    assert (ended.failed, ended.result["out_of_support"], len(ended.result["uncovered"])) == (True, [], 1)
    assert any("team-old" in warning for warning in ended.warnings)


def test_an_exception_for_something_else_changes_nothing(fleet: Fleet) -> None:
    entry = {"image": f"r.io/x@sha256:{'0' * 64}", "owner": "x", "expires": "2999-01-01T00:00:00Z"}
    assert fleet.signing(out_of_support=[entry]).result["out_of_support"] == []


# The cache ------------------------------------------------------------------------------------------------------------


def test_a_warm_cache_asks_nobody(fleet: Fleet, home: pathlib.Path) -> None:
    path = home / "covered.json"
    fleet.signing(cache_path=str(path))
    before = len(fleet.registry.log)
    assert not fleet(cache_path=str(path)).failed
    assert len(fleet.registry.log) == before
    # A registry that lost signatures is found out about when nothing is believed.
    fleet.registry.manifests["fleet/app0"] = {
        name: stored for name, stored in fleet.registry.manifests["fleet/app0"].items() if not name.endswith(".sig")
    }
    assert not fleet(cache_path=str(path)).failed
    for options in ({"cache_max_age": 0}, {"staying_key_ids": [fleet.ids["new"], fleet.ids["old"]]}):
        ended = fleet(cache_path=str(path), **options)
        assert [one["image"] for one in ended.result["uncovered"]] == [fleet.images[0]]


@pytest.mark.parametrize("way", ["writable", "broken"])
def test_a_cache_that_cannot_be_believed_ends_the_task_before_anything_is_done(
    way: str, fleet: Fleet, home: pathlib.Path
) -> None:
    path = home / "covered.json"
    path.write_text('{"version": 1, "covered": {}}' if way == "writable" else "{")
    path.chmod(0o666 if way == "writable" else 0o600)
    before = len(fleet.registry.log)
    ended = fleet.signing(cache_path=str(path))
    assert (ended.failed, ended.codes) == (True, ["destination_unsafe" if way == "writable" else "malformed"])
    assert str(path) in ended.result["msg"]
    assert len(fleet.registry.log) == before


def test_a_cache_that_cannot_be_written_hides_nothing_of_what_was_done(
    fleet: Fleet, home: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coverage_cache, "_LIMIT", 10)
    ended = fleet.signing(cache_path=str(home / "covered.json"))
    assert (ended.failed, ended.result["changed"], ended.result["resigned"]) == (True, True, fleet.images)


# Bad options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "object"), [
    ({"staying_key_ids": ["x"]}, "staying_key_ids"), ({"staying_key_ids": []}, "staying_key_ids"),
    ({"staying_key_ids": ["0" * 64]}, "staying_key_ids"), ({"denied_key_ids": ["x"]}, "denied_key_ids"),
    ({"trust": []}, "trust"), ({"formats": []}, "formats"), ({"images": []}, "live set"), ({"query": "@"}, "query"),
    ({"shard": {"index": 2, "count": 2}}, "shard"), ({"keep": -1}, "keep"), ({"only": ["nginx"]}, "only[0]"),
    ({"out_of_support": [{"image": "x", "owner": "y", "expires": "2999-01-01T00:00:00Z"}]}, "out_of_support[0].image"),
    ({"cache_max_age": -1, "cache_path": "/root/x"}, "cache_max_age"),
])
def test_options_that_make_no_sense_are_refused(options: dict[str, t.Any], object: str, fleet: Fleet) -> None:
    before = len(fleet.registry.log)
    ended = fleet(**options)
    assert (ended.failed, ended.codes) == (True, ["input_invalid"])
    assert ended.result["reasons"][0]["object"] == object
    assert len(fleet.registry.log) == before


def test_two_signers_and_one_that_does_not_stay_are_refused(fleet: Fleet) -> None:
    signers = [{"private_key_path": fleet.files[name]} for name in ("new", "third")]
    assert fleet(signers=signers).result["reasons"][0]["object"] == "signers"
    assert fleet(signers=signers[1:]).result["reasons"][0]["object"] == "staying_key_ids"
    assert fleet.signing(denied_key_ids=[fleet.ids["new"]]).codes == ["key_denied"]


@pytest.mark.parametrize("options", [
    {"images_path": "/x"}, {"images": None}, {"source": [], "query": "@"}, {"images": None, "source": []},
    {"shard": {"index": 1}}, {"docker_reference_check": "x"}, {"signers": [{"uri": "x", "private_key_path": "y"}]},
])
def test_options_that_contradict_each_other_are_refused(options: dict[str, t.Any], fleet: Fleet) -> None:
    ended = fleet(**options)
    assert ended.failed
    assert "reasons" not in ended.result
