# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of module log_entry_info."""

from __future__ import annotations

import hashlib
import pathlib
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._keys import pem
from ansible_collections.hallmark.signing.plugins.module_utils._oci.credentials import AuthFile
from ansible_collections.hallmark.signing.plugins.module_utils._oci.transport import RegistrySettings
from ansible_collections.hallmark.signing.plugins.module_utils._transparency import body, rekor
from ansible_collections.hallmark.signing.plugins.modules import log_entry_info
from ansible_collections.hallmark.signing.tests.unit.fake_services import FakeLog
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

ENTRY = {"log_index", "integrated_time", "kind", "key_id", "verified", "reasons"}
MESSAGE = b"what was signed"
DIGEST = f"sha256:{hashlib.sha256(MESSAGE).hexdigest()}"
Run = t.Callable[..., t.Any]


@pytest.fixture
def run(run_module: Run, log: FakeLog, home: pathlib.Path) -> Run:
    """Runs the module on the log, and checks the shape of the results."""
    (home / "rekor.pub").write_bytes(log.public_pem)

    def call(**options: t.Any) -> t.Any:
        given = {"rekor_url": log.url, "rekor_public_key_path": str(home / "rekor.pub"), **options}
        ended = run_module(log_entry_info, ["entries"], **given)
        assert not ended.result.get("changed")
        for entry in ended.result.get("entries", []):
            assert set(entry) == ENTRY
            assert entry["verified"] is not bool(entry["reasons"])
        return ended

    return call


@pytest.fixture
def key_id(log: FakeLog, p256: ec.EllipticCurvePrivateKey) -> str:
    """The id of a key that signed what is in the log."""
    public = pem.public_key(p256.public_key(), where="x")
    rekor.Log(log.url, RegistrySettings(AuthFile("none", {}))).add(body.hashedrekord(
        digest=hashlib.sha256(MESSAGE).digest(), hash_algorithm="sha256", verifier_pem=public.pem,
        signature=p256.sign(MESSAGE, ec.ECDSA(hashes.SHA256())),
    ))
    return public.key_id


@pytest.mark.parametrize("mode", [{}, {"check": True}, {"diff": True}])
def test_entries_of_a_digest_are_found(run: Run, key_id: str, mode: dict[str, bool]) -> None:
    ended = run(digest=DIGEST, **mode)
    assert (ended.failed, ended.result["reasons"], "diff" in ended.result) == (False, [], False)
    (entry,) = ended.result["entries"]
    moment = entry.pop("integrated_time")
    assert entry == {
        "log_index": 1001, "kind": "hashedrekord 0.0.1", "key_id": key_id, "verified": True, "reasons": [],
    }
    assert moment.endswith("Z")
    assert run(digest=f"sha256:{'0' * 64}").result["entries"] == []


def test_entries_are_found_by_key_address_and_number(
    run: Run, key_id: str, home: pathlib.Path, p256: t.Any, public_pem: t.Callable[..., bytes]
) -> None:
    (home / "pub").write_bytes(public_pem(p256))
    for options in ({"public_key_path": str(home / "pub")}, {"log_index": 1001}):
        assert [entry["key_id"] for entry in run(**options).result["entries"]] == [key_id]
    assert run(email="nobody@example.com").result["entries"] == []


def test_what_the_log_does_not_vouch_for_is_told_and_fails_nothing(run: Run, log: FakeLog, key_id: str) -> None:
    for kind in ("set", "proof", "no_proof", "checkpoint"):
        log.lie(kind)
        for options in ({"digest": DIGEST}, {"log_index": 1001}):
            ended = run(**options)
            assert (ended.failed, ended.result["reasons"]) == (False, [])
            (entry,) = ended.result["entries"]
            assert (entry["log_index"], entry["key_id"], entry["verified"]) == (1001, key_id, False)
            assert [reason["code"] for reason in entry["reasons"]] == ["log_invalid"]


def test_key_of_another_log_vouches_for_nothing(
    run: Run, key_id: str, home: pathlib.Path, other_p256: t.Any, public_pem: t.Callable[..., bytes]
) -> None:
    (home / "rekor.pub").write_bytes(public_pem(other_p256))
    (entry,) = run(digest=DIGEST).result["entries"]
    assert (entry["key_id"], entry["verified"]) == (key_id, False)


@pytest.mark.parametrize("options", [{"digest": DIGEST}, {"log_index": 0}, {"email": "x"}])
def test_log_that_fails_fails_the_task(run: Run, log: FakeLog, options: dict[str, t.Any]) -> None:
    log.lie("status500")
    ended = run(**options)
    assert (ended.failed, ended.codes, ended.result["entries"]) == (True, ["service_unavailable"], [])


@pytest.mark.parametrize("index", [0, 999, 1001, -1, 2**70])
def test_number_that_is_none_of_the_log_is_told(run: Run, index: int) -> None:
    ended = run(log_index=index)
    assert (ended.failed, ended.result["entries"]) == (True, [])
    assert ended.codes[0] in ("not_found", "service_unavailable")


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"rekor_url": "log.example.org"}, "input_invalid"),
        ({"rekor_url": ""}, "input_invalid"),
        ({"rekor_public_key_path": "/srv/missing"}, "not_found"),
        ({"registry_auth_file": "/srv/missing"}, "not_found"),
    ],
)
def test_wrong_options_are_told(run: Run, options: dict[str, t.Any], code: str) -> None:
    ended = run(digest=DIGEST, **options)
    assert (ended.failed, ended.codes, ended.result["entries"]) == (True, [code], [])


@pytest.mark.parametrize("data", [b"", b"rubbish", b"\xff\xfe", "DER", None])
def test_file_that_is_no_key_is_refused(
    run: Run, home: pathlib.Path, p256: ec.EllipticCurvePrivateKey, data: bytes | str | None
) -> None:
    path = home / "pub"
    if data == "DER":
        data = p256.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    if isinstance(data, bytes):
        path.write_bytes(data)
    ended = run(public_key_path=str(path))
    assert (ended.failed, ended.result["entries"]) == (True, [])
    assert ended.codes[0] in ("malformed", "service_unavailable", "not_found")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "one of the following is required"), ({"digest": DIGEST, "email": "x"}, "mutually exclusive"),
        ({"log_index": "x"}, "log_index"),
    ],
)
def test_one_question_is_asked(run: Run, options: dict[str, t.Any], text: str) -> None:
    ended = run(**options)
    assert ended.failed
    assert text in ended.result["msg"]


def test_old_library_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import cryptography

    monkeypatch.setattr(cryptography, "__version__", "41.0.7")
    assert run(digest=DIGEST).codes == ["library_missing"]
