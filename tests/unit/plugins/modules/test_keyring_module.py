# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of modules keyring and keyring_info."""

from __future__ import annotations

import pathlib
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._trust import nobody
from ansible_collections.hallmark.signing.plugins.modules import keyring, keyring_info
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._policy.policy_bench import public

RETURNED = [
    "head", "pointer", "keyring", "blocked_by", "policy_version", "denied_key_ids", "steps", "policy",
    "effective_hashes", "floors",
]
RETURNED_INFO = [name for name in RETURNED if name not in ("policy", "effective_hashes")] + [
    "enforcers", "windows", "incidents", "problems",
]
Run = t.Callable[..., t.Any]
EDGE = {"name": "edge1", "enforcer": "containers", "enforcer_version": "5.34.2"}
# Nothing is waited for.
AT_ONCE = {"clock_skew_bound": 0, "max_job_time": 0, "rollback_window": 0}


@pytest.fixture
def ledger(home: pathlib.Path) -> pathlib.Path:
    """A ledger that is not there yet."""
    return home / "ledger.jsonl"


@pytest.fixture
def run(run_module: Run, ledger: pathlib.Path) -> Run:
    """Runs module keyring for identity release."""

    def call(**options: t.Any) -> t.Any:
        given = {
            "ledger_path": str(ledger), "fleet": "test", "identity": "release", "reason": "test", "author": "me",
            "timing": AT_ONCE, **options,
        }
        return run_module(keyring, RETURNED, **given)

    return call


@pytest.fixture
def info(run_module: Run, ledger: pathlib.Path) -> Run:
    """Runs module keyring_info."""
    return lambda **options: run_module(keyring_info, RETURNED_INFO, ledger_path=str(ledger), **options)


def policy(ledger: pathlib.Path, **members: t.Any) -> dict[str, t.Any]:
    return {
        "authorities": {"release": {"ledger_path": str(ledger), "identity": "release"}},
        "rules": [{"name": "ours", "images": ["registry.example.org/**"], "any_of": ["release"]}], **members,
    }


def stage(run: Run, name: str, **options: t.Any) -> t.Any:
    return run(state="staged", public_key_content=public(name).pem, **options)


def follow(run: Run, ledger: pathlib.Path, **options: t.Any) -> t.Any:
    """Let the enforcer have the newest policy, and try a canary."""
    made = run(enforcers=[EDGE], policy=policy(ledger))
    acknowledgement = {
        "enforcer": "edge1", "policy_version": made.result["policy_version"],
        "effective_hash": made.result["effective_hashes"]["containers 5.34.2"],
    }
    canaries = [
        {"enforcer": "edge1", "key_id": one["key_id"], "policy_version": made.result["policy_version"],
         "admitted": True, "unsigned_denied": True, "foreign_denied": True}
        for one in made.result["keyring"] if one["state"] == "published"
    ]
    return run(acknowledgements=[acknowledgement], canaries=canaries, **options)


def activated(run: Run, ledger: pathlib.Path, name: str) -> t.Any:
    stage(run, name)
    run(state="published")
    follow(run, ledger)
    return run(state="active")


def states(told: t.Any) -> list[str]:
    return [one["state"] for one in told.result["keyring"]]


def test_key_becomes_active_and_a_second_run_changes_nothing(run: Run, ledger: pathlib.Path) -> None:
    told = activated(run, ledger, "release")
    assert told.result["changed"]
    assert states(told) == ["active"]
    assert told.result["pointer"] == {
        "generation": 1, "key_id": public("release").key_id, "fence": 1, "suspended": False,
    }
    before = ledger.read_bytes()
    for again in (run(state="active", generation=1), follow(run, ledger), run()):
        assert not again.result["changed"]
    assert ledger.read_bytes() == before


def test_check_mode_says_what_would_be_and_writes_nothing(run: Run, ledger: pathlib.Path) -> None:
    told = stage(run, "release", _ansible_check_mode=True)
    assert told.result["changed"]
    assert states(told) == ["staged"]
    assert not ledger.exists()


def test_what_is_refused_makes_no_ledger(run: Run, ledger: pathlib.Path) -> None:
    told = run(state="published")
    assert told.failed
    assert told.codes == ["transition_refused"]
    assert not ledger.exists()


def test_ledger_is_begun_by_name_only_and_is_that_of_one_fleet(run: Run, ledger: pathlib.Path) -> None:
    assert stage(run, "release", fleet=None).codes == ["input_invalid"]
    stage(run, "release")
    before = ledger.read_bytes()
    assert run(fleet="other").codes == ["ledger_mismatch"]
    assert ledger.read_bytes() == before


def test_blocked_step_fails_or_is_reported_and_names_each_guard(run: Run, ledger: pathlib.Path) -> None:
    stage(run, "release")
    run(state="published", enforcers=[EDGE])
    failed = run(state="active")
    assert failed.failed
    assert set(failed.codes) == {"transition_blocked"}
    reported = run(state="active", on_blocked="report")
    assert not reported.failed
    assert {one["guard"] for one in reported.result["blocked_by"]} == {"enforcers_acknowledged", "canaries_passed"}
    assert "enforcer edge1 has not acknowledged any policy" in failed.result["msg"]


def test_no_state_is_skipped_and_the_ledger_is_as_it_was(run: Run, ledger: pathlib.Path) -> None:
    stage(run, "release")
    before = ledger.read_bytes()
    for state in ("active", "withdrawn", "retired"):
        assert run(state=state, generation=1).codes == ["transition_refused"]
    assert ledger.read_bytes() == before


def test_uncovered_images_are_listed(run: Run, ledger: pathlib.Path) -> None:
    activated(run, ledger, "release")
    second = activated(run, ledger, "backup")
    run(signers=[{"signer": "sign1", "fence": 2, "key_ids": [public("backup").key_id]}])
    run(coverage={
        "staying_key_ids": [second.result["pointer"]["key_id"]], "live_set_hash": "x", "count": 2,
        "uncovered": ["registry.example.org/app@sha256:1"],
    })
    told = run(state="withdrawn", on_blocked="report")
    assert states(told) == ["retiring", "active"]
    assert "registry.example.org/app@sha256:1" in str(told.result["blocked_by"])


def test_somebody_else_wrote_meanwhile(run: Run, ledger: pathlib.Path) -> None:
    head = stage(run, "release").result["head"]
    run(state="published", expected_head=f"{head['sequence']}:{head['hash']}")
    assert run(state="abandoned", generation=1, expected_head=head["hash"]).codes == ["ledger_moved"]


def test_head_that_is_not_in_it_is_told(run: Run, info: Run, ledger: pathlib.Path) -> None:
    head = stage(run, "release").result["head"]
    run(state="published")
    lines = ledger.read_bytes().splitlines(keepends=True)
    ledger.write_bytes(b"".join(lines[:1]))
    witness = f"{head['sequence']}:{head['hash']}"
    assert info(witness_heads=[witness]).codes == ["ledger_mismatch"]
    assert stage(run, "release", witness_heads=[witness]).codes == ["ledger_mismatch"]
    # Nobody held a head: it does not show.
    assert info().result["keyring"] == []


def test_revocation_names_its_generation_and_needs_another_key(run: Run, info: Run, ledger: pathlib.Path) -> None:
    activated(run, ledger, "release")
    assert run(state="revoked").failed
    assert run(state="revoked", generation=1).codes == ["transition_refused"]
    told = run(state="revoked", generation=1, accept_none=True, policy=policy(ledger), evidence="INC-1")
    assert states(told) == ["revoked"]
    assert told.result["pointer"]["key_id"] is None
    assert told.result["policy"]["denied_key_ids"] == [public("release").key_id]
    assert not run(state="revoked", generation=1, accept_none=True).result["changed"]
    (incident,) = info().result["incidents"]
    assert (incident["evidence"], incident["behind"]) == ("INC-1", ["edge1"])
    assert stage(run, "release", emergency=True).codes == ["transition_refused"]


def test_spare_takes_over_when_the_key_is_revoked(run: Run, ledger: pathlib.Path) -> None:
    activated(run, ledger, "release")
    stage(run, "backup", spare=True)
    run(state="published", generation=2)
    told = run(state="revoked", generation=1)
    assert states(told) == ["revoked", "active"]
    assert told.result["pointer"]["fence"] == 2


def test_a_leaked_key_is_distrusted_whoever_has_no_key_yet(run: Run, ledger: pathlib.Path) -> None:
    activated(run, ledger, "release")
    wider = policy(ledger)
    wider["authorities"]["ci"] = {"ledger_path": str(ledger), "identity": "ci"}
    wider["rules"].append({"name": "of ci", "images": ["ci.example.org/**"], "any_of": ["ci"]})
    stage(run, "backup", spare=True)
    run(state="published", generation=2)
    assert run(policy=wider).codes == ["input_invalid"]
    run(state="revoked", generation=1)
    told = run(policy=wider)
    stranger = told.result["policy"]["authorities"]["ci"]["public_key_content"]
    assert stranger == run(policy=wider).result["policy"]["authorities"]["ci"]["public_key_content"]
    assert stranger != nobody.of("release")
    assert told.result["policy"]["denied_key_ids"] == [public("release").key_id]
    run(note="closed", generation=1)
    assert run(policy=wider).codes == ["input_invalid"]


def test_rules_of_people_are_a_version_of_their_own(run: Run, ledger: pathlib.Path) -> None:
    stage(run, "release")
    run(state="published")
    first = run(enforcers=[EDGE], policy=policy(ledger))
    second = run(policy=policy(ledger, not_after="2099-01-01T00:00:00Z"))
    assert second.result["policy"]["version"] == first.result["policy"]["version"] + 1
    assert not run(policy=policy(ledger, not_after="2099-01-01T00:00:00Z")).result["changed"]


@pytest.mark.parametrize("options", [
    {"timing": {"max_job_time": -1}}, {"calendar": {"stage": 0.9, "publish": 0.1}}, {"calendar": {"lifetime": 0}},
    {"policy": {"authorities": []}}, {"policy": {"authorities": {"a": {"ledger_path": "/other", "identity": "a"}}}},
    {"excused_enforcers": [{"enforcer": "edge1", "until": "soon"}]}, {"acknowledgements": [
        {"enforcer": "nobody", "policy_version": 1, "effective_hash": "x"},
    ]},
])
def test_wrong_input_is_refused(run: Run, ledger: pathlib.Path, options: dict[str, t.Any]) -> None:
    stage(run, "release")
    run(state="published", enforcers=[EDGE])
    before = ledger.read_bytes()
    assert run(**options).codes == ["input_invalid"]
    assert ledger.read_bytes() == before


def test_missing_ledger_cannot_be_read(info: Run) -> None:
    assert info().codes == ["not_found"]
