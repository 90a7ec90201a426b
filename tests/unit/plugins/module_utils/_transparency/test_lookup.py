# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Entries of a log and the verdict on each: whatever the log answers, there is an answer to give."""

from __future__ import annotations

import datetime
import hashlib
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import RegistryError
from ansible_collections.hallmark.signing.plugins.module_utils._oci import transport
from ansible_collections.hallmark.signing.plugins.module_utils._oci.credentials import AuthFile
from ansible_collections.hallmark.signing.plugins.module_utils._oci.transport import RegistrySettings
from ansible_collections.hallmark.signing.plugins.module_utils._transparency import body, log_key, lookup, rekor
from ansible_collections.hallmark.signing.plugins.module_utils._transparency.lookup import Found
from ansible_collections.hallmark.signing.tests.unit.fake_services import FakeLog
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._transparency import log_bench
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

SIGNER = log_bench.Signer(ec.generate_private_key(ec.SECP256R1()))
KEY_ID = hashlib.sha256(log_bench.spki(SIGNER.key)).hexdigest()
OURS = log_bench.Log(ec.generate_private_key(ec.SECP256R1()), 1)
MOMENT = datetime.datetime.fromtimestamp(log_bench.TIME, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "_FIRST_DELAY", 0.001)


def describe(entry: log_bench.LogEntry, log: log_bench.Log = OURS) -> Found:
    return lookup.describe(lambda: entry, log.known, where="https://log.example")


def made(kind: str = "hashedrekord", version: int = 1) -> bytes:
    return log_bench.body(kind, version, SIGNER, log_bench.PAYLOAD)


@pytest.mark.parametrize("kind", ["hashedrekord", "dsse"])
def test_entry_that_the_log_vouches_for_is_verified(kind: str) -> None:
    found = describe(OURS.enter(made(kind)))
    assert found.as_dict() == {
        "log_index": 1000, "integrated_time": MOMENT, "kind": f"{kind} 0.0.1", "key_id": KEY_ID, "verified": True,
        "reasons": [],
    }


def test_entry_of_a_newer_log_has_no_time() -> None:
    newer = log_bench.Log(ed25519.Ed25519PrivateKey.generate(), 2)
    found = describe(newer.enter(made(version=2)), newer)
    assert (found.verified, found.integrated_time, found.kind) == (True, None, "hashedrekord 0.0.2")


def test_whoever_signed_may_have_a_certificate() -> None:
    signer = log_bench.Signer(SIGNER.key, log_bench.certificate(SIGNER.key))
    found = describe(OURS.enter(log_bench.body("hashedrekord", 1, signer, b"x")))
    assert (found.verified, found.key_id) == (True, KEY_ID)


def test_what_was_found_out_before_it_failed_is_told() -> None:
    odd = log_bench.canonical({"apiVersion": "0.0.1", "kind": "alpine", "spec": {}})
    broken = log_bench.canonical({"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": {}})
    stranger = log_bench.Log(ec.generate_private_key(ec.SECP256R1()), 1)
    cases: list[tuple[log_bench.LogEntry, Found, str]] = [
        (OURS.enter(b"rubbish"), Found(1000), "malformed"),
        (OURS.enter(odd), Found(1000, MOMENT, "alpine 0.0.1"), "malformed"),
        (OURS.enter(broken), Found(1000, MOMENT, "hashedrekord 0.0.1"), "malformed"),
        (stranger.enter(made()), Found(1000, MOMENT, "hashedrekord 0.0.1", KEY_ID), "log_invalid"),
    ]
    for entry, wanted, code in cases:
        found = describe(entry)
        assert (found.log_index, found.integrated_time, found.kind, found.key_id, found.verified) == (
            wanted.log_index, wanted.integrated_time, wanted.kind, wanted.key_id, False,
        )
        (reason,) = found.reasons
        assert reason.code == code
        assert reason.object.startswith("https://log.example")
    assert "entry 1000" in describe(stranger.enter(made())).reasons[0].object


def test_promise_alone_is_not_enough() -> None:
    entry = OURS.enter(made())
    found = describe(log_bench.replace(entry, proof=None))
    assert (found.verified, [one.code for one in found.reasons]) == (False, ["log_invalid"])


def test_entry_that_cannot_be_fetched_has_a_reason() -> None:
    def get() -> log_bench.LogEntry:
        raise RegistryError(code="not_found", object="log", attempt="read an entry", cause="x", advice="y")

    found = lookup.describe(get, OURS.known, where="x")
    assert found.as_dict() == {
        "log_index": None, "integrated_time": None, "kind": None, "key_id": None, "verified": False,
        "reasons": [{"code": "not_found", "message": "log: could not read an entry: x. y", "object": "log",
                     "signature": None}],
    }


@pytest.mark.parametrize("seconds", [0, 253402300799])
def test_times_are_those_of_the_calendar(seconds: int) -> None:
    entry = OURS.promise(log_bench.replace(OURS.enter(made()), integrated_time=seconds))
    assert describe(entry).integrated_time in ("1970-01-01T00:00:00Z", "9999-12-31T23:59:59Z")


def test_entries_are_fetched_one_by_one(log: FakeLog) -> None:
    asked = rekor.Log(log.url, RegistrySettings(AuthFile("none", {}), timeout=5.0))
    key = log_key.read(log.public_pem, where="rekor.pub", rekor_url=log.url)
    content = [
        body.hashedrekord(
            digest=hashlib.sha256(b"x").digest(), hash_algorithm="sha256", signature=log_bench.sign(one.key, b"x"),
            verifier_pem=one.pem.decode(),
        ) for one in (SIGNER, log_bench.Signer(ec.generate_private_key(ec.SECP256R1())))
    ]
    for one in content:
        asked.add(one)
    gets = lookup.search(asked, rekor.hash_query(f"sha256:{hashlib.sha256(b'x').hexdigest()}"))
    found = [lookup.describe(get, key, where=log.url) for get in gets]
    assert [(one.log_index, one.verified, one.reasons) for one in found] == [(1001, True, ()), (1002, True, ())]
    assert found[0].key_id == KEY_ID
    log.lie("checkpoint")
    assert [one.verified for one in (lookup.describe(get, key, where=log.url) for get in gets)] == [False, False]
    log.lie("status500")
    assert [one.reasons[0].code for one in (lookup.describe(get, key, where=log.url) for get in gets)] == [
        "service_unavailable", "service_unavailable",
    ]


def test_search_that_fails_fails(log: FakeLog) -> None:
    log.lie("status500")
    asked = rekor.Log(log.url, RegistrySettings(AuthFile("none", {}), timeout=5.0))
    with pytest.raises(RegistryError):
        lookup.search(asked, rekor.email_query("x"))


def test_types_are_those_of_the_contract() -> None:
    assert t.get_type_hints(Found)["verified"] is bool
