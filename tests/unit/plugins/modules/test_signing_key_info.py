# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of module signing_key_info."""

from __future__ import annotations

import datetime
import os
import pathlib
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._custody import storage
from ansible_collections.hallmark.signing.plugins.module_utils._keys import lease, writing
from ansible_collections.hallmark.signing.plugins.module_utils._keys.fingerprint import key_id
from ansible_collections.hallmark.signing.plugins.modules import signing_key_info
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._custody import custody_bench as bench

ENTRY = {
    "path", "key_id", "algorithm", "format", "encrypted", "owner", "group", "mode", "problems", "certificate",
}
CERTIFICATE = {"sans", "eku", "issuer_chain", "not_before", "not_after", "key_id"}
PASSPHRASE = "canary passphrase"
Run = t.Callable[..., t.Any]


@pytest.fixture
def run(run_module: Run, home: pathlib.Path) -> Run:
    """Runs the module with names in home."""

    def call(*names: str, **options: t.Any) -> t.Any:
        ended = run_module(signing_key_info, ["signing_keys"], paths=[str(home / name) for name in names], **options)
        entries = ended.result.get("signing_keys", [])
        for entry in entries:
            assert set(entry) == ENTRY
            assert entry["certificate"] is None or set(entry["certificate"]) == CERTIFICATE
            assert all(sorted(problem) == ["code", "message"] for problem in entry["problems"])
        return ended

    return call


@pytest.fixture(autouse=True)
def _no_swap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether this host swaps is no matter."""
    monkeypatch.setattr(storage, "clear_swaps", lambda: [])


@pytest.fixture(autouse=True)
def _files(home: pathlib.Path, p256: t.Any, public_pem: t.Callable[..., bytes]) -> None:
    (home / "key").write_bytes(bench.key_pem(p256))
    (home / "key").chmod(0o600)
    (home / "encrypted").write_bytes(writing.write_private_key(p256, format="pem", passphrase=PASSPHRASE.encode()))
    (home / "encrypted").chmod(0o600)
    (home / "pub").write_bytes(public_pem(p256))
    (home / "chain").write_bytes(bench.chain_pem(p256))
    (home / "lineage").mkdir(mode=0o700)
    for name, target in (("privkey", "key"), ("fullchain", "chain")):
        (home / "lineage" / f"{name}.pem").symlink_to(f"../{target}")


def test_everything_is_described_in_order(run: Run, home: pathlib.Path, p256: t.Any) -> None:
    names = ["pub", "key", "lineage", "chain", "encrypted", "key"]
    ended = run(*names)
    entries = ended.result["signing_keys"]
    assert (ended.failed, ended.result["changed"]) == (False, False)
    assert [entry["path"] for entry in entries] == [str(home / name) for name in names]
    assert [entry["format"] for entry in entries] == ["spki", "pem", "lineage", "certificate", "pem", "pem"]
    expected = key_id(p256.public_key())
    assert [entry["key_id"] for entry in entries] == [expected, expected, expected, expected, None, expected]
    assert [entry["encrypted"] for entry in entries] == [False, False, False, False, True, False]
    assert [entry["problems"] for entry in entries] == [[]] * 6


@pytest.mark.parametrize("mode", [{"check": True}, {"diff": True}])
def test_other_modes_say_the_same(mode: dict[str, bool], run: Run) -> None:
    assert run("key", "chain", **mode).result["signing_keys"] == run("key", "chain").result["signing_keys"]
    assert "diff" not in run("key", **mode).result


@pytest.mark.parametrize("way", ["passphrase", "passphrase_path"])
def test_passphrase_opens_what_is_encrypted(way: str, run: Run, home: pathlib.Path, p256: t.Any) -> None:
    (home / "secret").write_text(f"{PASSPHRASE}\n")
    value = PASSPHRASE if way == "passphrase" else str(home / "secret")
    (entry, plain) = run("encrypted", "key", **{way: value}).result["signing_keys"]
    assert (entry["key_id"], entry["algorithm"]) == (key_id(p256.public_key()), "ecdsa-p256")
    assert plain["key_id"] == entry["key_id"]


def test_wrong_passphrase_does_not_fail_the_task(run: Run) -> None:
    ended = run("encrypted", "key", passphrase="canary of a wrong one")
    assert (ended.failed, ended.codes) == (False, [])
    assert [problem["code"] for problem in ended.result["signing_keys"][0]["problems"]] == ["passphrase_invalid"]


def test_problems_do_not_fail_the_task(run: Run, home: pathlib.Path) -> None:
    (home / "key").chmod(0o644)
    ended = run("key")
    assert not ended.failed
    assert [problem["code"] for problem in ended.result["signing_keys"][0]["problems"]] == ["mode_too_open"]


def test_path_that_cannot_be_read_fails_the_task_after_the_others(run: Run, home: pathlib.Path) -> None:
    (home / "rubbish").write_bytes(b"canary")
    ended = run("missing", "key", "rubbish", "pub")
    assert (ended.failed, ended.codes, ended.result["changed"]) == (True, ["not_found", "malformed"], False)
    entries = ended.result["signing_keys"]
    assert [entry["path"] for entry in entries] == [str(home / name) for name in ("missing", "key", "rubbish", "pub")]
    assert [entry["key_id"] is None for entry in entries] == [True, False, True, False]
    assert [reason["object"] for reason in ended.result["reasons"]] == [str(home / "missing"), str(home / "rubbish")]


def test_empty_list_is_an_error(run: Run) -> None:
    ended = run()
    assert (ended.failed, ended.codes, ended.result["signing_keys"]) == (True, ["input_invalid"], [])
    assert ended.result["reasons"][0]["object"] == "paths"


def test_missing_passphrase_file_is_an_error(run: Run, home: pathlib.Path) -> None:
    ended = run("key", passphrase_path=str(home / "missing"))
    assert (ended.failed, ended.codes) == (True, ["not_found"])


# The contract: same order and length as the input, also on failure.
def test_failure_has_an_entry_for_each_path(run: Run, home: pathlib.Path) -> None:
    ended = run("key", "pub", passphrase_path=str(home / "missing"))
    assert [entry["path"] for entry in ended.result["signing_keys"]] == [str(home / "key"), str(home / "pub")]


def test_passphrase_and_its_file_exclude_each_other(run: Run) -> None:
    ended = run("key", passphrase=PASSPHRASE, passphrase_path="/x")
    assert ended.failed
    assert "mutually exclusive" in ended.result["msg"]


def test_old_library_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import cryptography

    monkeypatch.setattr(cryptography, "__version__", "37.0")
    assert run("key").codes == ["library_missing"]


def test_nothing_is_changed(run: Run, home: pathlib.Path) -> None:
    before = {name: (home / name).lstat().st_ctime_ns for name in os.listdir(home)}
    run("key", "lineage", "missing")
    assert {name: (home / name).lstat().st_ctime_ns for name in os.listdir(home)} == before


# What was expected ---------------------------------------------------------------------------------------------------


def codes(ended: t.Any) -> list[list[str]]:
    return [[problem["code"] for problem in entry["problems"]] for entry in ended.result["signing_keys"]]


def test_expectations_are_kept_to(run: Run, p256: t.Any, other_p256: t.Any) -> None:
    own, other = key_id(p256.public_key()), key_id(other_p256.public_key())
    names = ("key", "lineage", "encrypted")
    assert codes(run(*names, key_ids=[own])) == [[], [], []]
    ended = run(*names, key_ids=[other])
    assert (ended.failed, codes(ended)) == (False, [["key_mismatch"], ["key_mismatch"], []])
    issuers = run("lineage").result["signing_keys"][0]["certificate"]["issuer_chain"]
    assert codes(run("lineage", issuer_key_ids=[issuers[0]["key_id"]])) == [[]]
    assert codes(run("lineage", issuer_key_ids=[own])) == [["issuer_changed"]]


@bench.needs_root
def test_owners_that_are_expected_are_no_problem(run: Run, home: pathlib.Path) -> None:
    os.chown(home / "key", bench.FOREIGN, -1)
    assert codes(run("key")) == [["owner_unexpected"]]
    assert codes(run("key", owners=[str(bench.FOREIGN)])) == [[]]


@pytest.mark.parametrize("option", ["key_ids", "issuer_key_ids"])
@pytest.mark.parametrize("value", ["", "0" * 63, "A" * 64, "0" * 64 + "\n"])
def test_what_is_no_key_id_is_refused(option: str, value: str, run: Run) -> None:
    """Else a slip would expect what no key can be."""
    ended = run("key", **{option: [value]})
    assert (ended.codes, ended.result["reasons"][0]["object"]) == (["input_invalid"], option)


def test_export_that_is_still_there_is_told(run: Run, home: pathlib.Path, p256: t.Any) -> None:
    over = lease.Lease("0" * 16, datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc))
    (home / "key").write_bytes(over.encode() + bench.key_pem(p256))
    assert codes(run("key")) == [["export_expired"]]
