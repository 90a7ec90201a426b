# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of module key_export."""

from __future__ import annotations

import json
import os
import pathlib
import re
import stat
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._custody import export_record, journal
from ansible_collections.hallmark.signing.plugins.module_utils._keys import private_key, writing
from ansible_collections.hallmark.signing.plugins.module_utils._keys.fingerprint import key_id
from ansible_collections.hallmark.signing.plugins.modules import key_export
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._custody import custody_bench as bench
from cryptography.x509.oid import ExtendedKeyUsageOID

KEYS = [
    "key_id", "path", "chain_path", "mode", "export_id", "expires_at", "enforced_by", "removed", "unidentified",
    "events",
]
# What says nothing of an export without terms, and of one that was refused.
NOTHING = {"export_id": None, "expires_at": None, "enforced_by": [], "removed": [], "unidentified": [], "events": []}
PASSPHRASE = "canary passphrase"
Run = t.Callable[..., t.Any]


@pytest.fixture
def out(home: pathlib.Path) -> pathlib.Path:
    """The folder of the copies; it is not there yet."""
    return home / "out"


@pytest.fixture
def run(run_module: Run, out: pathlib.Path) -> Run:
    """Runs the module with out/key as destination."""

    def call(**options: t.Any) -> t.Any:
        return run_module(key_export, KEYS, **{"dest": str(out / "key"), **options})

    return call


@pytest.fixture
def source(home: pathlib.Path, p256: t.Any) -> dict[str, str]:
    """Options that name a key and its chain."""
    (home / "privkey.pem").write_bytes(bench.key_pem(p256))
    (home / "fullchain.pem").write_bytes(bench.chain_pem(p256))
    return {"private_key_path": str(home / "privkey.pem"), "chain_path": str(home / "fullchain.pem")}


def id_of(key: t.Any) -> str:
    return key_id(key.public_key())


def mode_of(path: pathlib.Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("way", ["files", "lineage"])
def test_key_and_chain_are_copied_once(
    way: str, run: Run, home: pathlib.Path, out: pathlib.Path, source: dict[str, str], p256: t.Any
) -> None:
    options = {"chain_dest": str(out / "chain"), **(source if way == "files" else {"lineage": str(home)})}
    planned = run(check=True, **options)
    assert not out.exists()
    done = run(**options)
    assert bench.private_files(out) == {
        "key": (0o600, bench.key_pem(p256)), "chain": (0o644, (home / "fullchain.pem").read_bytes()),
    }
    for ended in (planned, done):
        assert ended.result["changed"]
        export_id, events = ended.result["export_id"], ended.result["events"]
        assert re.fullmatch("[0-9a-f]{16}", export_id)
        assert [event["event"] for event in events] == (["exported"] if ended is done else [])
        assert {name: ended.result[name] for name in KEYS} == {
            **NOTHING, "key_id": id_of(p256), "path": str(out / "key"), "chain_path": str(out / "chain"),
            "mode": "0600",
            "export_id": export_id, "events": events,
        }
    for check in (False, True):
        again = run(check=check, **options).result
        assert (again["changed"], again["events"], again["export_id"]) == (False, [], done.result["export_id"])


@pytest.mark.parametrize(("usage", "warned"), [
    (ExtendedKeyUsageOID.SERVER_AUTH, True), (ExtendedKeyUsageOID.CODE_SIGNING, False), (None, False),
])
def test_certificate_for_tls_only_is_told(
    run: Run, home: pathlib.Path, source: dict[str, str], p256: t.Any, usage: t.Any, warned: bool
) -> None:
    (home / "fullchain.pem").write_bytes(bench.chain_pem(p256, usage=usage))
    ended = run(lineage=str(home))
    assert (ended.failed, any("for TLS only" in warning for warning in ended.warnings)) == (False, warned)


def test_chain_is_not_copied_unasked(run: Run, home: pathlib.Path, out: pathlib.Path, source: dict[str, str]) -> None:
    assert run(lineage=str(home)).result["chain_path"] is None
    assert os.listdir(out) == ["key"]


def test_key_without_chain_is_copied(run: Run, out: pathlib.Path, source: dict[str, str], p256: t.Any) -> None:
    assert run(private_key_path=source["private_key_path"]).result["key_id"] == id_of(p256)


def test_diff_shows_public_facts(run: Run, out: pathlib.Path, source: dict[str, str], p256: t.Any) -> None:
    difference = run(diff=True, **source).result["diff"]
    assert difference == {
        "before_header": str(out / "key"), "after_header": str(out / "key"), "before": {},
        "after": {
            "key_id": id_of(p256), "algorithm": "ecdsa-p256", "format": "pem", "encrypted": False, "mode": "0600",
        },
    }
    difference = run(diff=True, mode="0400", **source).result["diff"]
    assert (difference["before"]["mode"], difference["after"]["mode"]) == ("0600", "0400")


def test_new_chain_alone_is_a_change(
    run: Run, home: pathlib.Path, out: pathlib.Path, source: dict[str, str], p256: t.Any
) -> None:
    options = {"chain_dest": str(out / "chain"), **source}
    run(**options)
    (home / "fullchain.pem").write_bytes(bench.chain_pem(p256, serial=2))
    assert run(check=True, **options).result["changed"]
    assert run(**options).result["changed"]
    assert (out / "chain").read_bytes() == (home / "fullchain.pem").read_bytes()
    assert not run(**options).result["changed"]


@pytest.mark.parametrize(
    ("options", "format", "secret"),
    [({}, "pem", None), ({"passphrase": PASSPHRASE}, "pem", PASSPHRASE),
     ({"format": "cosign", "passphrase": PASSPHRASE}, "cosign", PASSPHRASE), ({"format": "pem"}, "pem", None)],
)
def test_copy_has_its_format(
    options: dict[str, str], format: str, secret: str | None, run: Run, out: pathlib.Path,
    source: dict[str, str], p256: t.Any,
) -> None:
    run(**source, **options)
    data = (out / "key").read_bytes()
    found = private_key.read_private_key(data, passphrase=secret.encode() if secret else None, where="key")
    assert (found.format, found.encrypted, found.public.key_id) == (format, secret is not None, id_of(p256))
    assert not run(**source, **options).result["changed"]


@pytest.mark.parametrize("way", ["source_passphrase", "source_passphrase_path"])
def test_format_is_that_of_the_source_unless_asked(
    way: str, run: Run, home: pathlib.Path, out: pathlib.Path, p256: t.Any
) -> None:
    data = writing.write_private_key(p256, format="cosign", passphrase=PASSPHRASE.encode())
    (home / "cosign.key").write_bytes(data)
    (home / "secret").write_text(PASSPHRASE)
    options = {
        "private_key_path": str(home / "cosign.key"),
        way: PASSPHRASE if way == "source_passphrase" else str(home / "secret"),
    }
    assert run(**options).codes == ["passphrase_invalid"]
    assert not (out / "key").exists()
    run(format="pem", **options)
    assert (out / "key").read_bytes() == bench.key_pem(p256)
    run(dest=str(out / "cosign"), passphrase="canary of the copy", **options)
    found = private_key.read_private_key((out / "cosign").read_bytes(), passphrase=b"canary of the copy", where="key")
    assert (found.format, found.public.key_id) == ("cosign", id_of(p256))


@pytest.mark.parametrize("check", [False, True])
def test_pair_that_does_not_match_is_refused(
    check: bool, run: Run, home: pathlib.Path, out: pathlib.Path, source: dict[str, str], other_p256: t.Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    (home / "fullchain.pem").write_bytes(bench.chain_pem(other_p256))
    ended = run(check=check, lineage=str(home), chain_dest=str(out / "chain"), mode="0400")
    assert (ended.failed, ended.codes, ended.result["changed"]) == (True, ["key_mismatch"], False)
    assert {name: ended.result[name] for name in KEYS} == {
        **NOTHING, "key_id": None, "path": str(out / "key"), "chain_path": str(out / "chain"), "mode": "0400",
    }
    assert not out.exists()
    assert not os.path.exists(export_record.default_path())


@pytest.mark.parametrize("check", [False, True])
def test_expected_key_id_is_kept_to(
    check: bool, run: Run, out: pathlib.Path, source: dict[str, str], p256: t.Any
) -> None:
    ended = run(check=check, key_id="0" * 64, **source)
    assert (ended.codes, ended.result["key_id"], out.exists()) == (["key_mismatch"], "0" * 64, False)
    assert run(check=check, key_id="x", **source).codes == ["input_invalid"]
    assert run(check=check, key_id=id_of(p256), **source).result["changed"]


@pytest.mark.parametrize("check", [False, True])
def test_what_is_at_the_destination_is_never_overwritten(
    check: bool, run: Run, out: pathlib.Path, source: dict[str, str], other_p256: t.Any
) -> None:
    out.mkdir(mode=0o700)
    for data, code in ((bench.key_pem(other_p256), "key_mismatch"), (b"rubbish", "destination_occupied")):
        (out / "key").write_bytes(data)
        ended = run(check=check, **source)
        assert (ended.failed, ended.codes, (out / "key").read_bytes()) == (True, [code], data)
    (out / "key").unlink()
    (out / "chain").write_bytes(bench.chain_pem(other_p256))
    assert run(check=check, chain_dest=str(out / "chain"), **source).codes == ["destination_occupied"]


def test_chain_that_is_refused_is_refused_before_the_key_is_copied(
    run: Run, out: pathlib.Path, source: dict[str, str]
) -> None:
    out.mkdir(mode=0o700)
    (out / "chain").write_bytes(b"rubbish")
    for check in (True, False):
        ended = run(check=check, chain_dest=str(out / "chain"), **source)
        assert (ended.codes, ended.result["changed"], os.listdir(out)) == (["destination_occupied"], False, ["chain"])


def test_chain_out_of_nothing_is_refused(run: Run, out: pathlib.Path, source: dict[str, str]) -> None:
    ended = run(private_key_path=source["private_key_path"], chain_dest=str(out / "chain"))
    assert (ended.codes, out.exists()) == (["input_invalid"], False)


def test_link_at_the_destination_is_refused(run: Run, home: pathlib.Path, source: dict[str, str]) -> None:
    (home / "link").symlink_to("elsewhere")
    for check in (False, True):
        assert run(dest=str(home / "link"), check=check, **source).codes == ["destination_unsafe"]
    assert not (home / "elsewhere").exists()


@pytest.mark.parametrize("mode", ["0644", 0o400])
def test_wrong_mode_is_refused(mode: t.Any, run: Run, out: pathlib.Path, source: dict[str, str]) -> None:
    assert (run(mode=mode, **source).codes, out.exists()) == (["input_invalid"], False)


def test_mode_of_an_existing_copy_converges(run: Run, out: pathlib.Path, source: dict[str, str]) -> None:
    run(**source)
    (out / "key").chmod(0o666)
    assert run(check=True, **source).result["changed"]
    assert run(**source).result["changed"]
    assert mode_of(out / "key") == 0o600


# "600" is accepted, and a mode is four digits everywhere.
def test_mode_is_four_digits(run: Run, source: dict[str, str]) -> None:
    assert run(mode="600", check=True, **source).result["mode"] == "0600"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "any of the following are missing: lineage, private_key_path"),
        ({"lineage": "/x", "private_key_path": "/y"}, "mutually exclusive"),
        ({"lineage": "/x", "chain_path": "/y"}, "mutually exclusive"),
        ({"lineage": "/x", "passphrase": PASSPHRASE, "passphrase_path": "/y"}, "mutually exclusive"),
        ({"lineage": "/x", "source_passphrase": PASSPHRASE, "source_passphrase_path": "/y"}, "mutually exclusive"),
        ({"lineage": "/x", "format": "der"}, "value of format must be one of"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, str], text: str, run: Run) -> None:
    ended = run(**options)
    assert ended.failed
    assert text in ended.result["msg"]


def test_missing_files_are_told(run: Run, home: pathlib.Path, source: dict[str, str]) -> None:
    for options in (
        {"lineage": str(home / "missing")}, {"private_key_path": str(home / "missing")},
        {**source, "passphrase_path": str(home / "missing")},
        {**source, "source_passphrase_path": str(home / "missing")},
        {**source, "chain_path": str(home / "missing")},
    ):
        assert run(**options).codes == ["not_found"]


# Removing ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", [False, True])
def test_copy_and_chain_are_removed(
    named: bool, run: Run, out: pathlib.Path, source: dict[str, str], p256: t.Any
) -> None:
    chain = {"chain_dest": str(out / "chain")}
    run(**chain, **source)
    options = {"state": "absent", **chain, **({"key_id": id_of(p256)} if named else {})}
    planned = run(check=True, diff=True, **options)
    assert sorted(os.listdir(out)) == ["chain", "key"]
    done = run(diff=True, **options)
    assert os.listdir(out) == []
    for ended in (planned, done):
        assert ended.result["changed"]
        assert (ended.result["key_id"], ended.result["chain_path"]) == (options.get("key_id"), str(out / "chain"))
        files = [str(out / "key"), str(out / "chain")]
        assert (ended.result["diff"]["before"], ended.result["diff"]["after"]) == ({"files": files}, {})
        assert ended.result["removed"] == files
    again = run(diff=True, **options)
    assert (again.result["changed"], again.result["diff"]["before"]) == (False, {})


def test_chain_goes_with_its_copy(run: Run, out: pathlib.Path, source: dict[str, str]) -> None:
    run(chain_dest=str(out / "chain"), **source)
    assert run(state="absent").result["removed"] == [str(out / "key"), str(out / "chain")]
    assert os.listdir(out) == []


def test_chain_that_was_not_exported_is_not_removed_unasked(
    run: Run, out: pathlib.Path, source: dict[str, str]
) -> None:
    run(**source)
    (out / "chain").write_bytes(pathlib.Path(source["chain_path"]).read_bytes())
    run(state="absent")
    assert os.listdir(out) == ["chain"]
    assert run(state="absent", chain_dest=str(out / "chain")).result["changed"]
    assert os.listdir(out) == []


@pytest.mark.parametrize("check", [False, True])
def test_copy_of_another_key_is_not_removed(check: bool, run: Run, out: pathlib.Path, source: dict[str, str]) -> None:
    run(**source)
    ended = run(state="absent", key_id="0" * 64, check=check)
    assert (ended.codes, ended.result["changed"], os.listdir(out)) == (["key_mismatch"], False, ["key"])


@pytest.mark.parametrize("content", ["chain of another key", "rubbish"])
def test_other_file_is_not_removed_as_a_chain(
    content: str, run: Run, out: pathlib.Path, p256: t.Any, other_p256: t.Any
) -> None:
    out.mkdir(mode=0o700)
    (out / "chain").write_bytes(b"rubbish" if content == "rubbish" else bench.chain_pem(other_p256))
    ended = run(state="absent", chain_dest=str(out / "chain"), key_id=id_of(p256))
    assert (ended.codes, os.listdir(out)) == (["destination_occupied"], ["chain"])


def test_encrypted_copy_with_a_key_id_wants_its_passphrase(
    run: Run, out: pathlib.Path, source: dict[str, str], p256: t.Any
) -> None:
    run(passphrase=PASSPHRASE, **source)
    assert run(state="absent", key_id=id_of(p256)).codes == ["passphrase_invalid"]
    assert run(state="absent", key_id=id_of(p256), passphrase=PASSPHRASE).result["changed"]
    assert os.listdir(out) == []


def test_absent_wants_no_source(run: Run, out: pathlib.Path) -> None:
    ended = run(state="absent")
    assert (ended.failed, ended.result["changed"], out.exists()) == (False, False, False)


def test_no_private_byte_is_ever_shown(run: Run, source: dict[str, str], p256: t.Any) -> None:
    lines = bench.key_pem(p256).decode().splitlines()[1:-1]
    for options in ({"check": True}, {"diff": True}, {"passphrase": PASSPHRASE}, {"state": "absent", "diff": True}):
        text = str(run(**({} if "state" in options else source), **options).result)
        assert "PRIVATE KEY" not in text
        assert not any(line in text for line in lines)


# Terms, record and sweep ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "option"), [
    ({"state": "absent", "expires_in": 60}, "expires_in"), ({"state": "absent", "consume_once": True}, "consume_once"),
    ({"state": "absent", "recipient": "age1q"}, "recipient"),
    ({"sweep_paths": ["/x"], "key_id": "0" * 64}, "sweep_paths"),
])
@pytest.mark.parametrize("check", [False, True])
def test_option_of_the_other_state_is_refused(
    options: dict[str, t.Any], option: str, check: bool, run: Run, out: pathlib.Path, source: dict[str, str]
) -> None:
    given = options if "state" in options else {**source, **options}
    ended = run(check=check, **given)
    assert (ended.codes, ended.result["reasons"][0]["object"]) == (["input_invalid"], option)
    assert not out.exists()


def test_sweep_wants_a_key_id(run: Run) -> None:
    ended = run(state="absent", sweep_paths=["/x"])
    assert ended.failed
    assert "key_id" in ended.result["msg"]


@pytest.mark.parametrize("seconds", [0, -1, 10**9])
def test_span_that_is_none_is_refused(seconds: int, run: Run, out: pathlib.Path, source: dict[str, str]) -> None:
    ended = run(expires_in=seconds, **source)
    assert (ended.codes, ended.result["reasons"][0]["object"]) == (["input_invalid"], "expires_in")
    assert not out.exists()


def test_record_can_be_elsewhere(run: Run, home: pathlib.Path, source: dict[str, str]) -> None:
    record = home / "records" / "own.jsonl"
    done = run(record_path=str(record), **source)
    assert [entry.members["export_id"] for entry in journal.read(str(record))] == [done.result["export_id"]]
    assert not os.path.exists(export_record.default_path())


def test_broken_record_is_told(run: Run, home: pathlib.Path, out: pathlib.Path, source: dict[str, str]) -> None:
    (home / "record").write_bytes(b"nothing of ours\n")
    ended = run(record_path=str(home / "record"), **source)
    assert (ended.codes, out.exists()) == (["journal_broken"], False)


@pytest.mark.parametrize("check", [False, True])
def test_copy_for_one_use_says_so(check: bool, run: Run, out: pathlib.Path, source: dict[str, str]) -> None:
    ended = run(check=check, consume_once=True, **source)
    assert (ended.result["changed"], ended.result["expires_at"], ended.result["enforced_by"]) == (True, None, [])
    if not check:
        assert b", for one use\n" in (out / "key").read_bytes()
        assert not run(consume_once=True, **source).result["changed"]
        (out / "key").unlink()
        again = run(consume_once=True, **source).result
        assert [event["event"] for event in again["events"]] == ["gone", "exported"]


@pytest.mark.parametrize("check", [True, False])
def test_sweep_returns_what_it_removed_and_what_it_could_not_tell(
    check: bool, run: Run, home: pathlib.Path, out: pathlib.Path, source: dict[str, str], p256: t.Any
) -> None:
    run(**source)
    below = home / "below"
    below.mkdir()
    (below / "copy").write_bytes(bench.key_pem(p256))
    (below / "locked").write_bytes(writing.write_private_key(p256, format="pem", passphrase=PASSPHRASE.encode()))
    options = {"state": "absent", "key_id": id_of(p256), "sweep_paths": [str(below), str(home / "missing")]}
    ended = run(check=check, diff=True, **options)
    assert ended.result["changed"]
    assert ended.result["removed"] == [str(out / "key"), str(below / "copy")]
    assert ended.result["unidentified"] == [str(below / "locked")]
    assert any(str(below / "locked") in warning for warning in ended.warnings)
    assert ended.result["diff"]["before"] == {"files": [str(out / "key"), str(below / "copy")]}
    assert os.path.exists(source["private_key_path"])
    assert sorted(os.listdir(below)) == (["copy", "locked"] if check else ["locked"])
    if not check:
        again = run(**options)
        assert (again.result["changed"], again.result["removed"]) == (False, [])
        assert run(passphrase=PASSPHRASE, **options).result["removed"] == [str(below / "locked")]


def test_nothing_private_is_returned(run: Run, out: pathlib.Path, source: dict[str, str], p256: t.Any) -> None:
    ended = [run(diff=True, passphrase=PASSPHRASE, **source), run(diff=True, state="absent")]
    secret = [line for line in bench.key_pem(p256).decode().splitlines() if not line.startswith("-")]
    for one in ended:
        shown = json.dumps(one.result) + "".join(one.warnings)
        assert not any(line in shown for line in [PASSPHRASE, *secret])
