# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of module trust_policy_info."""

from __future__ import annotations

import json
import pathlib
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._oci import images as stores
from ansible_collections.hallmark.signing.plugins.modules import trust_policy_info
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._policy.image_bench import Made, Memory
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._policy.policy_bench import (
    Json,
    public,
    rule,
)

pytest.importorskip("yaml")

RETURNED = ["decisions", "problems"]
APP = "registry.example.org/app"
BOTH = [
    {"enforcer": "containers", "enforcer_version": "5.34.2"},
    {"enforcer": "kyverno_image_validating_policy", "enforcer_version": "1.18.2"},
]
PODS = {"items": [
    {"spec": {"containers": [{"image": f"{APP}:signed"}, {"image": f"{APP}:foreign"}], "initContainers": [
        {"image": f"{APP}:bundle"},
    ]}},
    {"spec": {"containers": [{"image": f"{APP}:signed"}], "ephemeralContainers": [{"image": f"{APP}:none"}]}},
]}
IN_PODS = "items[].spec.[containers, initContainers, ephemeralContainers][][].image"
Run = t.Callable[..., t.Any]


@pytest.fixture
def run(run_module: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the module with images that are in memory."""
    memory = Memory()
    for tag, made in (
        ("signed", [Made("release"), Made("release", "bundle")]), ("foreign", [Made("stranger")]), ("unsigned", []),
        ("bundle", [Made("release", "bundle")]),
    ):
        memory.image(APP, tag, *made)
    monkeypatch.setattr(stores, "Images", lambda _settings: memory)

    def call(**options: t.Any) -> t.Any:
        return run_module(trust_policy_info, RETURNED, **options)

    return call


def policy(*rules: Json, **members: t.Any) -> Json:
    known = {"release": {"public_key_content": public("release").pem}}
    return {"version": 1, "authorities": known, "rules": list(rules) or [rule(APP)], **members}


def decided(result: Json) -> list[tuple[str, str, bool]]:
    return [(one["image"], one["enforcer"], one["admit"]) for one in result["decisions"]]


def codes(result: Json) -> list[str]:
    return [one["code"] for one in result["reasons"]]


def test_each_image_is_decided_for_each_enforcer_in_order(run: Run) -> None:
    tags = ("signed", "foreign", "unsigned", "bundle", "none")
    images = [*(f"{APP}:{tag}" for tag in tags), "r.io/other:1", "bad image"]
    done = run(policy=policy(), enforcers=BOTH, images=images)
    assert (done.failed, done.result["changed"]) == (False, False)
    assert decided(done.result) == [
        (image, one["enforcer"], admit) for image, (first, second) in zip(images, [
            (True, True), (False, False), (False, False), (False, True), *[(False, False)] * 3,
        ]) for one, admit in zip(BOTH, (first, second))
    ]
    assert [[one["code"] for one in entry["reasons"]] for entry in done.result["decisions"]][::2] == [
        [], ["signature_invalid"], ["no_signatures"], ["no_signatures"], ["not_found"], ["no_rule"], ["malformed"],
    ]
    # What is signed for others only is a problem that can be mended.
    assert [(one["path"], one["code"]) for one in done.result["problems"]] == [(f"{APP}:bundle", "bundle_only")]
    assert done.result["decisions"][0]["rule"] == APP
    assert done.result["decisions"][0]["digest"].startswith("sha256:")


def test_images_are_picked_out_of_any_data(run: Run) -> None:
    pytest.importorskip("jmespath")
    done = run(policy=policy(), enforcers=BOTH[:1], query=IN_PODS, source=PODS, images=[f"{APP}:signed"])
    assert decided(done.result) == [
        (f"{APP}:{tag}", "containers", admit)
        for tag, admit in (("signed", True), ("foreign", False), ("bundle", False), ("none", False))
    ]


@pytest.mark.parametrize(("query", "words"), [
    ("items[", "Invalid"), ("nothing", "it finds nothing"), ("items[].metadata", "it finds nothing"), ("items", "dict"),
    ("items[0].spec.containers[].image[0]", "it finds nothing"), ("length(items)", "int"), ("'' ", "not a text"),
    ("no_such_function(items)", "nknown function"),
])
def test_a_query_that_gives_no_images_is_an_error(run: Run, query: str, words: str) -> None:
    pytest.importorskip("jmespath")
    done = run(policy=policy(), enforcers=BOTH, query=query, source=PODS)
    assert (done.failed, codes(done.result)) == (True, ["input_invalid"])
    assert words in done.result["msg"]


@pytest.mark.parametrize(("options", "words"), [
    ({}, "there is nothing to do"), ({"images": []}, "the list is empty"),
    ({"images": [APP], "enforcers": BOTH}, "there are images, and no policy"),
    ({"images": [APP], "policy": {}}, "nobody to decide about them"),
    ({"images": [APP], "policy": {}, "enforcers": BOTH}, "version: could not read the policy"),
    ({"images": [APP], "policy_path": "/none", "enforcers": BOTH}, "/none"),
    ({"images": [APP], "policy": None, "enforcers": [{"enforcer": "containers", "enforcer_version": "x"}]}, "policy"),
    ({"lint_paths": ["/none"]}, "/none"),
])
def test_what_makes_no_sense_is_an_error(run: Run, options: Json, words: str) -> None:
    done = run(**options)
    assert done.failed
    assert words in done.result["msg"]
    assert done.result["decisions"] == []


def test_a_version_that_is_none(run: Run) -> None:
    done = run(policy=policy(), images=[APP], enforcers=[{"enforcer": "containers", "enforcer_version": "new"}])
    assert (done.failed, codes(done.result)) == (True, ["input_invalid"])


def test_files_are_looked_at_though_one_cannot_be_read(run: Run, home: pathlib.Path) -> None:
    (home / "policy.json").write_text(json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))
    (home / "broken.yaml").write_text("a: [")
    done = run(lint_paths=[str(home / "broken.yaml"), str(home / "policy.json")])
    assert not done.failed
    assert [(one["path"], one["code"]) for one in done.result["problems"]] == [
        (str(home / "broken.yaml"), "not_loadable"), (str(home / "policy.json"), "catch_all_missing"),
    ]
    missing = run(lint_paths=[str(home / "none.yaml"), str(home / "policy.json")])
    assert (missing.failed, codes(missing.result)) == (True, ["not_found"])
    assert missing.result["problems"] == done.result["problems"][1:]


def test_the_policy_may_be_a_file_and_a_rule_may_be_for_a_namespace(run: Run, home: pathlib.Path) -> None:
    own = rule(APP, name="own", any_of=["other"], namespaces=["team-a"])
    given = policy(rule(APP), own)
    given["authorities"]["other"] = {"public_key_content": public("stranger").pem}
    (home / "policy.json").write_text(json.dumps(given))
    images = [f"{APP}:signed", f"{APP}:foreign"]
    asked = {"policy_path": str(home / "policy.json"), "enforcers": BOTH[:1], "images": images}
    for namespace, expected in ((None, [True, False]), ("team-a", [False, True]), ("team-b", [True, False])):
        done = run(**asked, **({"namespace": namespace} if namespace else {}))
        assert [one["admit"] for one in done.result["decisions"]] == expected


def test_what_is_refused_is_said_of_each_image(run: Run) -> None:
    done = run(policy=policy(), images=[APP], enforcers=[{"enforcer": "openshift", "enforcer_version": "4.21"}])
    assert not done.failed
    (only,) = done.result["decisions"]
    assert (only["admit"], [one["code"] for one in only["reasons"]]) == (False, ["policy_refused"])
