# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The live set: out of what engines and clusters say, complete or not at all."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import pathlib
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import FormatError
from ansible_collections.hallmark.signing.plugins.module_utils._oci import reference as references
from ansible_collections.hallmark.signing.plugins.module_utils._trust import live_set, out_of_support, selecting
from hypothesis import given
from hypothesis import strategies as st

A, B, C = (f"sha256:{letter * 64}" for letter in "abc")
NOW = datetime.datetime(2026, 11, 22, tzinfo=datetime.timezone.utc)


def texts(found: live_set.LiveSet) -> list[str]:
    return [str(image) for image in found.images]


def gathered(*images: t.Any, **further: t.Any) -> list[str]:
    return texts(live_set.gather({"images": images}, **further))


def mistakes(action: t.Callable[[], object]) -> list[str]:
    with pytest.raises(live_set.LiveSetError) as caught:
        action()
    assert caught.value.code == "input_invalid"
    return [one.place for one in caught.value.mistakes]


# One image ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("given", "read"), [
    (f"r.example.org/app@{A}", f"r.example.org/app@{A}"),
    (f"r.example.org:5000/ns/app:1.4@{A}", f"r.example.org:5000/ns/app@{A}"),
    (f"docker-pullable://r.example.org/app@{A}", f"r.example.org/app@{A}"),
    (f"nginx@{A}", f"docker.io/library/nginx@{A}"),
    (f"docker-pullable://nginx@{A}", f"docker.io/library/nginx@{A}"),
    (f"acme/app:1@{A}", f"docker.io/acme/app@{A}"),
    (f"index.docker.io/acme/app@{A}", f"docker.io/acme/app@{A}"),
])
def test_an_image_has_one_spelling(given: str, read: str) -> None:
    assert gathered(given) == [read]


@pytest.mark.parametrize("given", [
    "r.example.org/app:1", "nginx", A, f"docker://{A}", "", None, 7, {}, ["x"], f"oci:/srv/x@{A}",
    f"oci-archive:/srv/x@{A}", "r.example.org/app@sha256:12", f"r.example.org/APP@{A}", f"docker://r.example.org/app@{A}",
    f" r.example.org/app@{A}",
])
def test_what_is_no_image_with_a_digest_is_told_with_its_place(given: t.Any) -> None:
    assert mistakes(lambda: gathered(f"r.example.org/app@{A}", given)) == ["images[1]"]


def test_all_mistakes_are_told_at_once() -> None:
    assert mistakes(lambda: gathered("x", f"r.example.org/app@{A}", "y", releases=["z"], only=["*", "r.io/**"])) == [
        "images[0]", "images[2]", "releases[0]", "only[0]",
    ]


def test_of_very_many_mistakes_the_first_and_the_number_of_the_others_are_told() -> None:
    with pytest.raises(live_set.LiveSetError) as caught:
        gathered(*["x"] * 150)
    reasons = caught.value.as_reasons()
    assert (len(caught.value.mistakes), len(reasons)) == (150, 101)
    assert "there are 50 more" in reasons[-1].message
    assert all(reason.object in str(caught.value) for reason in reasons)


# The set --------------------------------------------------------------------------------------------------------------


def test_order_is_kept_and_repetitions_are_dropped() -> None:
    assert gathered(f"nginx@{B}", f"r.io/a@{A}", f"docker.io/library/nginx:1@{B}", f"r.io/a@{C}") == [
        f"docker.io/library/nginx@{B}", f"r.io/a@{A}", f"r.io/a@{C}",
    ]


@pytest.mark.parametrize("action", [gathered, lambda: gathered(f"nginx@{A}", only=["r.io/**"])])
def test_an_empty_set_is_an_error(action: t.Callable[[], object]) -> None:
    with pytest.raises(FormatError, match=r"empty|none of its 1 images"):
        action()


def test_hash_is_that_of_the_sorted_lines_whatever_the_order() -> None:
    one = live_set.gather({"images": [f"r.io/b@{B}", f"r.io/a@{A}"]})
    other = live_set.gather({"images": [f"r.io/a@{A}", f"r.io/b@{B}", f"r.io/a@{A}"]})
    assert one.hash == other.hash == hashlib.sha256(f"r.io/a@{A}\nr.io/b@{B}\n".encode()).hexdigest()
    assert one.hash != live_set.gather({"images": [f"r.io/a@{A}"]}).hash


def test_only_limits_the_set_and_names_what_is_left_out() -> None:
    found = live_set.gather(
        {"images": [f"nginx@{A}", f"r.io/ns/a@{A}", f"x.io/b@{A}", f"nginx@{B}", f"r.io/other@{A}"]},
        only=["r.io/ns/**", "x.io/b"],
    )
    assert texts(found) == [f"r.io/ns/a@{A}", f"x.io/b@{A}"]
    assert found.left_out == ("docker.io/library/nginx", "r.io/other")


# Releases -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("keep", "kept"), [(0, "C"), (1, "BC"), (2, "ABC"), (9, "ABC")])
def test_the_last_release_and_those_before_it_are_kept(keep: int, kept: str) -> None:
    by_letter = {"A": A, "B": B, "C": C}
    found = gathered(f"x.io/y@{A}", releases=[f"r.io/a@{one}" for one in (A, B, C)], keep=keep)
    assert found == [f"x.io/y@{A}", *(f"r.io/a@{by_letter[letter]}" for letter in kept)]


def test_releases_count_by_repository() -> None:
    releases = [f"r.io/a@{A}", f"r.io/b@{A}", f"r.io/a@{B}", f"r.io/a@{C}", f"r.io/b@{B}"]
    assert gathered(releases=releases, keep=0) == [f"r.io/a@{C}", f"r.io/b@{B}"]


def test_what_was_released_again_counts_where_it_stands_last() -> None:
    # B was a mistake, and A was released again: before A there is B.
    assert gathered(releases=[f"r.io/a@{one}" for one in (C, A, B, A)], keep=1) == [f"r.io/a@{B}", f"r.io/a@{A}"]


def test_less_than_no_release_cannot_be_kept() -> None:
    with pytest.raises(FormatError, match="keep"):
        gathered(releases=[f"r.io/a@{A}"], keep=-1)


# Shards ---------------------------------------------------------------------------------------------------------------

IMAGES = [
    references.parse(f"r.io/a{number % 7}@sha256:{hashlib.sha256(b'%d' % number).hexdigest()}") for number in range(200)
]


@given(count=st.integers(1, 40))
def test_shards_are_disjoint_and_make_the_whole(count: int) -> None:
    parts = [live_set.shard(IMAGES, index=index, count=count) for index in range(count)]
    together = [image for part in parts for image in part]
    assert len(together) == len(set(together)) == len(IMAGES)
    assert set(together) == set(IMAGES)


def test_shards_go_by_the_digest_and_are_about_equal() -> None:
    sizes = [len(live_set.shard(IMAGES, index=index, count=4)) for index in range(4)]
    assert min(sizes) > 25
    twice = [references.parse(f"r.io/{name}@{A}") for name in ("x", "y")]
    assert sorted(len(live_set.shard(twice, index=index, count=5)) for index in range(5)) == [0, 0, 0, 0, 2]


@pytest.mark.parametrize(("index", "count"), [(1, 1), (-1, 2), (0, 0), (2, 2), (0, -1)])
def test_a_part_that_there_is_not_is_an_error(index: int, count: int) -> None:
    with pytest.raises(FormatError, match="shard"):
        live_set.shard(IMAGES, index=index, count=count)


# Files ----------------------------------------------------------------------------------------------------------------


def test_a_file_is_json_or_lines(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "list"
    path.write_text(f"# the fleet\n\n  r.io/a@{A}  \nr.io/b@{B}")
    assert live_set.read_file(str(path)) == [f"r.io/a@{A}", f"r.io/b@{B}"]
    path.write_text(json.dumps([f"r.io/a@{A}", 7]))
    assert live_set.read_file(str(path)) == [f"r.io/a@{A}", 7]
    path.write_text(' {"items": []}')
    assert live_set.read_file(str(path)) == {"items": []}
    path.write_text("")
    assert live_set.read_file(str(path)) == []


@pytest.mark.parametrize("data", [b'["a"', b"\xff\xfe", b"[" * 200000])
def test_a_broken_file_is_told_by_its_name(data: bytes, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "list"
    path.write_bytes(data)
    with pytest.raises(FormatError) as caught:
        live_set.read_file(str(path))
    assert (caught.value.code, caught.value.object) == ("malformed", str(path))


def test_a_file_that_is_none_is_told(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "none", "."):
        with pytest.raises(FormatError) as caught:
            live_set.read_file(str(tmp_path / name))
        assert caught.value.code == "not_found"
    monkeypatch.setattr(live_set, "MAX_FILE", 10)
    (tmp_path / "large").write_text("x" * 11)
    with pytest.raises(FormatError) as caught:
        live_set.read_file(str(tmp_path / "large"))
    assert caught.value.code == "limit_exceeded"


# What others say ------------------------------------------------------------------------------------------------------

PODS = {"items": [
    {"status": {
        "containerStatuses": [
            {"imageID": f"docker-pullable://r.example.org/app@{A}"}, {"imageID": f"docker.io/library/nginx@{B}"},
        ],
        "initContainerStatuses": [{"imageID": f"r.example.org/init@{C}"}],
    }},
    {"status": {"containerStatuses": [{"imageID": f"r.example.org/app@{A}"}]}},
    {"status": {}},
]}
PODS_QUERY = "items[].status.[containerStatuses, initContainerStatuses, ephemeralContainerStatuses][][].imageID"


@pytest.mark.parametrize(("source", "query", "found"), [
    # kubectl get pods -A -o json
    (PODS, PODS_QUERY, [f"r.example.org/app@{A}", f"docker.io/library/nginx@{B}", f"r.example.org/init@{C}"]),
    # docker image inspect, podman image inspect
    ([{"Id": C, "RepoTags": ["app:1"], "RepoDigests": [f"r.example.org/app@{A}", f"nginx@{B}"]}], "[].RepoDigests[]",
     [f"r.example.org/app@{A}", f"docker.io/library/nginx@{B}"]),
    # podman container inspect
    ([{"ImageName": "r.example.org/app:1", "ImageDigest": A}], "[].join('@', [ImageName, ImageDigest])",
     [f"r.example.org/app@{A}"]),
    # docker ps, podman ps, of containers that were started by digest
    ([{"Image": f"r.example.org/app:1@{A}"}], "[].Image", [f"r.example.org/app@{A}"]),
    # an inventory
    ({"_meta": {"hostvars": {"a": {"runs": [f"r.example.org/app@{A}"]}, "b": {"runs": [f"nginx@{B}"]}, "c": {}}}},
     "_meta.hostvars.*.runs[]", [f"r.example.org/app@{A}", f"docker.io/library/nginx@{B}"]),
    ([f"r.example.org/app@{A}"], "@", [f"r.example.org/app@{A}"]),
])
def test_images_are_picked_out_of_what_others_say(source: t.Any, query: str, found: list[str]) -> None:
    assert texts(live_set.gather({"query": selecting.select(query, source)})) == found


@pytest.mark.parametrize("query", ["items[].nothing", "items[", "items[].status"])
def test_a_query_that_gives_no_images_is_an_error(query: str) -> None:
    with pytest.raises(FormatError) as caught:
        selecting.select(query, PODS)
    assert caught.value.code == "input_invalid"


def test_a_container_that_was_not_pulled_yet_is_not_dropped() -> None:
    with pytest.raises(FormatError):
        selecting.select(PODS_QUERY, {"items": [{"status": {"containerStatuses": [{"imageID": ""}]}}, *PODS["items"]]})


def test_the_tag_of_a_container_is_told_not_dropped() -> None:
    picked = selecting.select("[].Image", [{"Image": "app:1"}])
    assert mistakes(lambda: live_set.gather({"query": picked})) == ["query[0]"]


# Out of support -------------------------------------------------------------------------------------------------------


def entry(**members: t.Any) -> dict[str, t.Any]:
    return {"image": f"r.io/a:1@{A}", "owner": "team", "expires": "2027-01-01T00:00:00Z", **members}


@pytest.mark.parametrize(("expires", "counts"), [
    ("2026-11-22T00:00:01Z", True), ("2026-11-22T01:00:00+01:00", False), ("2026-11-22T00:00:00Z", False),
    ("2026-11-22 01:30:00+01:00", True), ("2026-11-21T23:30:00-01:00", True), ("2020-01-01t00:00:00z", False),
])
def test_an_exception_counts_until_it_expires(expires: str, counts: bool) -> None:
    found = out_of_support.read([entry(expires=expires)], now=NOW)
    assert [str(image) for image in found.valid] == ([f"r.io/a@{A}"] if counts else [])
    assert len(found.expired) == (0 if counts else 1)
    if not counts:
        assert "team" in found.expired[0].message


@pytest.mark.parametrize(("members", "place"), [
    ({"owner": ""}, "owner"), ({"owner": " "}, "owner"), ({"owner": None}, "owner"), ({"image": "r.io/a:1"}, "image"),
    ({"image": None}, "image"), ({"expires": "never"}, "expires"), ({"expires": "2027-01-01T00:00:00"}, "expires"),
    ({"expires": None}, "expires"), ({"expires": ""}, "expires"),
])
def test_an_exception_has_image_owner_and_end(members: dict[str, t.Any], place: str) -> None:
    entries = [entry(), entry(**{"image": f"r.io/b@{B}", **members})]
    assert mistakes(lambda: out_of_support.read(entries, now=NOW)) == [f"out_of_support[1].{place}"]


def test_two_exceptions_for_one_image_are_a_mistake() -> None:
    assert mistakes(lambda: out_of_support.read([entry(), entry(owner="other")], now=NOW)) == ["out_of_support[1]"]


def test_an_exception_is_told_as_it_was_agreed() -> None:
    (one,) = out_of_support.read([entry()], now=NOW).valid.values()
    assert one.as_dict() == {"image": f"r.io/a@{A}", "owner": "team", "expires": "2027-01-01T00:00:00+00:00"}
