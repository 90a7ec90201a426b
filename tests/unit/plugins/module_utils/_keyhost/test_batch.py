# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of signing many claims: all are checked before the first is signed, and each is recorded before."""

from __future__ import annotations

import base64
import hashlib
import os
import pathlib
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._custody import export_record, journal
from ansible_collections.hallmark.signing.plugins.module_utils._errors import HallmarkError, KeyFileError
from ansible_collections.hallmark.signing.plugins.module_utils._keyhost import batch
from ansible_collections.hallmark.signing.plugins.module_utils._keys import algorithms
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._keyhost.keyhost_bench import (
    DIGEST,
    NAME,
    FakeSigner,
    bundle,
    sig,
)

MINE = ["registry.example.org/acme/**"]


def _wanted(format: str = "sig", **changed: t.Any) -> batch.Wanted:
    return batch.Wanted(**{
        "digest": DIGEST, "format": format, "repository": NAME, "docker_reference": NAME, **changed,
    })


def _refused(*wanted: batch.Wanted, repositories: t.Sequence[str] | None = None) -> HallmarkError:
    with pytest.raises(HallmarkError) as caught:
        batch.check(wanted, repositories)
    return caught.value


# What may be signed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("repositories", [None, MINE, ["docker.io/x/y", NAME]])
def test_claims_are_made_in_their_order(repositories: list[str] | None) -> None:
    found = batch.check([_wanted("bundle", annotations={"a": "1"}), _wanted("sig")], repositories)
    assert [(name, claim.message) for name, claim in found] == [
        (NAME, bundle(annotations={"a": "1"})), (NAME, sig()),
    ]


@pytest.mark.parametrize(("format", "changed"), [
    ("sig", {"repository": "registry.example.org/other"}), ("bundle", {"repository": "registry.example.org/other"}),
    ("sig", {"docker_reference": "registry.example.org/other"}), ("sig", {"docker_reference": ""}),
    ("sig", {"repository": ""}), ("bundle", {"repository": ""}), ("sig", {"repository": "", "docker_reference": ""}),
])
def test_both_names_must_be_allowed(format: str, changed: dict[str, str]) -> None:
    error = _refused(_wanted(), _wanted(format, **changed), repositories=MINE)
    assert error.code == "reference_mismatch"
    assert error.cause == "this task may have signed: registry.example.org/acme/**"
    # Without patterns, what has no name may be signed, too.
    batch.check([_wanted(format, **changed)], None)


def test_bundle_carries_no_name() -> None:
    batch.check([_wanted("bundle", docker_reference="registry.example.org/other")], MINE)
    batch.check([_wanted("bundle", docker_reference="NO NAME")], MINE)


def test_docker_hub_is_one_place() -> None:
    names = {"repository": "docker.io/library/nginx", "docker_reference": "index.docker.io/library/nginx"}
    ((_name, claim),) = batch.check([_wanted(**names)], ["docker.io/library/**"])
    assert claim.message == sig("index.docker.io/library/nginx")


def test_no_patterns_allow_nothing() -> None:
    assert _refused(_wanted(), repositories=[]).cause == "this task may have signed: nothing"


@pytest.mark.parametrize("repositories", [None, MINE])
@pytest.mark.parametrize(("code", "changed"), [
    ("malformed", {"docker_reference": "NO NAME"}), ("malformed", {"docker_reference": '","evil":"'}),
    ("malformed", {"repository": "NO NAME"}), ("malformed", {"repository": f"{NAME}:1"}),
    ("malformed", {"repository": f"{NAME}@{DIGEST}"}), ("input_invalid", {"digest": "sha256:1"}),
    ("digest_mismatch", {"sha256": "0" * 64}), ("limit_exceeded", {"annotations": {"a": "x" * 5000}}),
])
def test_what_is_wrong_is_told(code: str, changed: dict[str, t.Any], repositories: list[str] | None) -> None:
    assert _refused(_wanted(), _wanted(**changed), repositories=repositories).code == code


def test_wrong_patterns_are_told() -> None:
    assert _refused(_wanted(), repositories=["*"]).code == "malformed"


def test_bytes_that_were_meant_may_be_named() -> None:
    ((_name, claim),) = batch.check([_wanted(sha256=hashlib.sha256(sig()).hexdigest())], MINE)
    assert claim.message == sig()


# Signing -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def record(tmp_path: pathlib.Path) -> str:
    (tmp_path / "state").mkdir(mode=0o700)
    return str(tmp_path / "state" / "uses.jsonl")


def _sign(
    signer: FakeSigner, record: str | None, *wanted: batch.Wanted, scheme: str | None = None, dry_run: bool = False
) -> list[dict[str, t.Any]]:
    claims = batch.check(wanted, None)
    return batch.sign(claims, t.cast(t.Any, signer), scheme=scheme, record_path=record, dry_run=dry_run)


def test_signatures_are_returned_and_recorded(p256: t.Any, record: str) -> None:
    signer = FakeSigner(p256)
    made = _sign(signer, record, _wanted(annotations={"a": "1"}), _wanted("bundle"))
    messages = [sig(annotations={"a": "1"}), bundle()]
    assert signer.prepared == signer.signed == messages
    assert [{name: one[name] for name in one if name != "signature"} for one in made] == [
        {
            "digest": DIGEST, "format": format, "sha256": hashlib.sha256(message).hexdigest(),
            "key_id": signer.public.key_id, "public_key": signer.public.pem,
        } for format, message in zip(("sig", "bundle"), messages)
    ]
    for one, message in zip(made, messages):
        signature = base64.b64decode(one["signature"])
        assert algorithms.verifies(signer.public.key, signature=signature, message=message)
    entries = journal.read(record)
    assert [entry.members["sha256"] for entry in entries] == [one["sha256"] for one in made]
    assert [entry.members["docker_reference"] for entry in entries] == [NAME, None]
    assert {name: entries[0].members[name] for name in ("event", "caller", "reference", "format", "annotations")} == {
        "event": "signed", "caller": f"uid {os.geteuid()}", "reference": f"{NAME}@{DIGEST}", "format": "sig",
        "annotations": {"a": "1"},
    }
    assert entries[0].members["key_id"] == signer.public.key_id
    assert os.stat(record).st_mode & 0o777 == 0o600


def test_dry_run_prepares_and_signs_nothing(p256: t.Any, record: str) -> None:
    signer = FakeSigner(p256)
    made = _sign(signer, record, _wanted(), dry_run=True)
    assert [(one["signature"], one["sha256"]) for one in made] == [(None, hashlib.sha256(sig()).hexdigest())]
    assert (signer.prepared, signer.signed, os.path.exists(record)) == ([sig()], [], False)


def test_signer_is_asked_about_all_before_the_first(p256: t.Any, record: str) -> None:
    signer = FakeSigner(p256)

    def prepare(messages: t.Collection[bytes]) -> t.NoReturn:
        assert list(messages) == [sig(), bundle()]
        raise KeyFileError(code="not_found", object="key", attempt="sign", cause="none", advice="Look.")

    signer.prepare = prepare  # type: ignore[method-assign]
    with pytest.raises(KeyFileError):
        _sign(signer, record, _wanted(), _wanted("bundle"))
    assert (signer.signed, os.path.exists(record)) == ([], False)


def test_without_a_record_nothing_is_signed(p256: t.Any, record: str) -> None:
    signer = FakeSigner(p256)
    pathlib.Path(record).write_text("not ours\n")
    os.chmod(record, 0o600)
    with pytest.raises(HallmarkError) as caught:
        _sign(signer, record, _wanted())
    assert (caught.value.code, signer.signed) == ("journal_broken", [])


@pytest.mark.parametrize(("fixture", "format", "scheme", "used"), [
    ("p256", "sig", None, "ecdsa-sha256"), ("p256", "bundle", None, "ecdsa-sha256"),
    ("p384", "sig", None, "ecdsa-sha256"), ("p384", "bundle", None, "ecdsa-sha384"),
    ("p521", "sig", None, "ecdsa-sha256"), ("p521", "bundle", None, "ecdsa-sha512"),
    ("rsa2048", "sig", None, "rsa-pkcs1v15-sha256"), ("rsa2048", "bundle", None, "rsa-pkcs1v15-sha256"),
    ("ed25519_key", "sig", None, "ed25519"), ("rsa2048", "sig", "rsa-pss-sha256", "rsa-pss-sha256"),
    ("p384", "sig", "ecdsa-sha384", "ecdsa-sha384"),
])
def test_scheme_is_the_one_that_most_readers_try(
    fixture: str, format: str, scheme: str | None, used: str, record: str, request: pytest.FixtureRequest
) -> None:
    signer = FakeSigner(request.getfixturevalue(fixture))
    (made,) = _sign(signer, record, _wanted(format), scheme=scheme)
    message = sig() if format == "sig" else bundle()
    signature = base64.b64decode(made["signature"])
    assert algorithms.verifies(signer.public.key, signature=signature, message=message, schemes=[used])


def test_record_lies_beside_that_of_the_exports(
    p256: t.Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_record, "default_path", lambda: str(tmp_path / "state" / "exports.jsonl"))
    _sign(FakeSigner(p256), None, _wanted())
    assert batch.default_record() == str(tmp_path / "state" / "uses.jsonl")
    assert len(journal.read(batch.default_record())) == 1
