# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of module payload_signature."""

from __future__ import annotations

import base64
import json
import os
import pathlib
import stat
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._custody import export_record, journal
from ansible_collections.hallmark.signing.plugins.module_utils._keys import algorithms, lease
from ansible_collections.hallmark.signing.plugins.module_utils._keys.fingerprint import key_id
from ansible_collections.hallmark.signing.plugins.module_utils._keys.signers import command as commands
from ansible_collections.hallmark.signing.plugins.module_utils._keys.signers import uri as uris
from ansible_collections.hallmark.signing.plugins.modules import image_payload, image_signature, payload_signature
from ansible_collections.hallmark.signing.tests.unit.fake_registry import FakeRegistry

SIGNATURE = {"digest", "format", "sha256", "signature", "key_id", "public_key"}
PASSPHRASE = "canary passphrase"
Run = t.Callable[..., t.Any]
Payloads = list[dict[str, t.Any]]


@pytest.fixture
def key(home: pathlib.Path, p256: t.Any, private_pem: t.Callable[..., bytes]) -> str:
    """A key file."""
    (home / "key").write_bytes(private_pem(p256))
    return str(home / "key")


@pytest.fixture
def record(home: pathlib.Path) -> str:
    """Where the record will be."""
    return str(home / "uses.jsonl")


@pytest.fixture
def run(run_module: Run, key: str, record: str) -> Run:
    """Runs the module with payloads, and checks the shape of the results."""

    def call(payloads: Payloads, **options: t.Any) -> t.Any:
        given = {"private_key_path": key, "record_path": record, **options}
        ended = run_module(
            payload_signature, ["signatures"], payloads=payloads,
            **{name: value for name, value in given.items() if value is not None},
        )
        assert all(set(one) == SIGNATURE for one in ended.result.get("signatures", []))
        assert not ended.result.get("changed")
        return ended

    return call


@pytest.fixture
def prepare(run_module: Run, home: pathlib.Path) -> Run:
    """Has payloads prepared."""

    def call(*images: str, **options: t.Any) -> Payloads:
        ended = run_module(image_payload, ["payloads"], images=list(images), dest=str(home / "to-sign"), **options)
        assert not ended.failed
        return t.cast(Payloads, ended.result["payloads"])

    return call


@pytest.fixture
def image(registry: FakeRegistry) -> str:
    """An image by its tag."""
    registry.put_image("team/app", "1")
    return f"{registry.host}/team/app:1"


@pytest.fixture
def payloads(prepare: Run, image: str) -> Payloads:
    """The payloads of an image."""
    return t.cast(Payloads, prepare(image, annotations={"a": "1"}))


def test_what_was_prepared_is_signed(run: Run, payloads: Payloads, record: str, p256: t.Any) -> None:
    ended = run(payloads)
    assert not ended.failed
    found = ended.result["signatures"]
    for one, payload in zip(found, payloads):
        assert {name: one[name] for name in ("digest", "format", "sha256")} == {
            name: payload[name] for name in ("digest", "format", "sha256")
        }
        assert one["key_id"] == key_id(p256.public_key())
        assert algorithms.verifies(
            p256.public_key(), signature=base64.b64decode(one["signature"]),
            message=pathlib.Path(payload["path"]).read_bytes(),
        )
    assert [entry.members["sha256"] for entry in journal.read(record)] == [one["sha256"] for one in found]
    assert stat.S_IMODE(os.stat(record).st_mode) == 0o600


def test_check_mode_checks_all_and_signs_nothing(run: Run, payloads: Payloads, record: str) -> None:
    planned = run(payloads, check=True)
    assert (planned.failed, os.path.exists(record)) == (False, False)
    assert [one["signature"] for one in planned.result["signatures"]] == [None, None]
    done = run(payloads)
    without = [{**one, "signature": None} for one in done.result["signatures"]]
    assert planned.result["signatures"] == without
    for wrong in ({"repositories": ["registry.example.org/**"]}, {"key_id": "0" * 64}):
        assert run(payloads, check=True, **wrong).codes == run(payloads, **wrong).codes != []
    assert len(journal.read(record)) == 2


def test_only_the_claim_counts_and_not_the_file(run: Run, payloads: Payloads) -> None:
    for payload in payloads:
        pathlib.Path(payload["path"]).write_bytes(b"something else")
    first = run(payloads)
    assert not first.failed
    bare = [{name: one[name] for name in ("digest", "format", "annotations", "docker_reference")} for one in payloads]
    assert [one["sha256"] for one in run(bare).result["signatures"]] == [one["sha256"] for one in payloads]


@pytest.mark.parametrize(("code", "changed"), [
    ("digest_mismatch", {"sha256": "0" * 64}), ("digest_mismatch", {"annotations": {"a": "2"}}),
    ("digest_mismatch", {"docker_reference": "registry.example.org/app"}), ("digest_mismatch", {"format": "bundle"}),
    ("digest_mismatch", {"digest": f"sha256:{'0' * 64}"}), ("input_invalid", {"digest": "sha256:0"}),
    ("malformed", {"docker_reference": "NO NAME"}), ("malformed", {"repository": "NO NAME"}),
    ("limit_exceeded", {"annotations": {"a": "x" * 5000}}),
])
def test_nothing_is_signed_if_one_is_wrong(
    run: Run, payloads: Payloads, record: str, code: str, changed: dict[str, t.Any]
) -> None:
    for check in (True, False):
        ended = run([payloads[1], {**payloads[0], **changed}], check=check)
        assert (ended.failed, ended.codes, ended.result["signatures"]) == (True, [code], [])
    assert not os.path.exists(record)


def test_repositories_are_limited(run: Run, payloads: Payloads, registry: FakeRegistry, record: str) -> None:
    mine = [f"{registry.host}/team/**"]
    assert not run(payloads, repositories=mine).failed
    before = len(journal.read(record))
    for wrong in ([f"{registry.host}/other/**"], [], ["registry.example.org/team/**"]):
        ended = run(payloads, repositories=wrong)
        assert (ended.failed, ended.codes, ended.result["signatures"]) == (True, ["reference_mismatch"], [])
    other = {**payloads[0], "docker_reference": "registry.example.org/other", "sha256": None}
    assert run([other], repositories=mine).codes == ["reference_mismatch"]
    assert run(payloads, repositories=["*"]).codes == ["malformed"]
    assert len(journal.read(record)) == before


def test_values_of_annotations_are_text(run: Run, image: str, prepare: Run) -> None:
    payloads = prepare(image, annotations={"n": 1, "b": True})
    assert not run(payloads).failed
    given = [{**one, "annotations": {"n": 1, "b": True}} for one in payloads]
    assert [one["sha256"] for one in run(given).result["signatures"]] == [one["sha256"] for one in payloads]


def test_empty_list_is_an_error(run: Run, record: str) -> None:
    ended = run([])
    assert (ended.failed, ended.codes, ended.result["signatures"]) == (True, ["input_invalid"], [])


# Keys ----------------------------------------------------------------------------------------------------------------


def test_passphrase_is_an_option_or_a_file(
    run: Run, payloads: Payloads, home: pathlib.Path, p256: t.Any, private_pem: t.Callable[..., bytes]
) -> None:
    (home / "key").write_bytes(private_pem(p256, PASSPHRASE.encode()))
    (home / "passphrase").write_text(f"{PASSPHRASE}\n")
    assert not run(payloads, passphrase=PASSPHRASE).failed
    assert not run(payloads, passphrase_path=str(home / "passphrase")).failed
    assert run(payloads).codes == run(payloads, passphrase="canary wrong").codes == ["passphrase_invalid"]


def test_expected_key_is_taken_and_another_refused(run: Run, payloads: Payloads, p256: t.Any, record: str) -> None:
    assert not run(payloads, key_id=key_id(p256.public_key())).failed
    assert run(payloads, key_id="0" * 64).codes == ["key_mismatch"]
    assert len(journal.read(record)) == 2


def test_missing_key_is_told(run: Run, payloads: Payloads, record: str) -> None:
    assert run(payloads, private_key_path="/missing").codes == ["not_found"]
    assert not os.path.exists(record)


def test_copy_for_one_use_is_used_once_and_not_in_check_mode(run: Run, payloads: Payloads, key: str) -> None:
    line = lease.Lease("0123456789abcdef", None, once=True).encode()
    pathlib.Path(key).write_bytes(line + pathlib.Path(key).read_bytes())
    assert not run(payloads, check=True).failed
    # Not by what is refused either.
    assert run(payloads, repositories=["registry.example.org/**"]).failed
    assert not run(payloads).failed
    assert not os.path.exists(key)
    assert run(payloads).codes == ["not_found"]


def test_unusual_algorithm_can_be_asked_for(run: Run, payloads: Payloads, p256: t.Any) -> None:
    (one, _bundle) = run(payloads, signature_algorithm="ecdsa-sha512").result["signatures"]
    assert algorithms.verifies(
        p256.public_key(), signature=base64.b64decode(one["signature"]),
        message=pathlib.Path(payloads[0]["path"]).read_bytes(), schemes=["ecdsa-sha512"],
    )
    assert run(payloads, signature_algorithm="rsa-pss-sha256").codes == ["unsupported_algorithm"]


def test_other_kinds_of_keys_are_loaded_with_their_options(
    run: Run, payloads: Payloads, key: str, home: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ansible_collections.hallmark.signing.plugins.module_utils._keys.signers import file

    seen: list[t.Any] = []

    def load(what: t.Any, **options: t.Any) -> t.Any:
        seen.append((what, options))
        return file.load(key, passphrase=None, key_id=None)

    for module in (uris, commands):
        monkeypatch.setattr(module, "load", load)
    (home / "pin").write_bytes(b"canary 1234\n")
    scheme = {"signature_algorithm": "ecdsa-sha256"}
    options = {"private_key_path": None, "uri": "pkcs11:token=t", "public_key_path": "/etc/pub"}
    assert not run(payloads, pin_path=str(home / "pin"), **options).failed
    assert not run(payloads, key_id="0" * 64, **options, **scheme).failed
    options = {"private_key_path": None, "command": ["/bin/sign", "-x"], "public_key_path": "/etc/pub"}
    assert not run(payloads, **options, **scheme).failed
    common = {"public_key_path": "/etc/pub", "key_id": None, "scheme": None}
    assert seen == [
        ("pkcs11:token=t", {"pin": b"canary 1234", **common}),
        ("pkcs11:token=t", {"pin": None, **common, "key_id": "0" * 64, "scheme": "ecdsa-sha256"}),
        (["/bin/sign", "-x"], {**common, "scheme": "ecdsa-sha256"}),
    ]


@pytest.mark.parametrize("options", [
    {"private_key_path": None}, {"uri": "hsm:"}, {"command": ["x"], "public_key_path": "y"},
    {"private_key_path": None, "command": ["x"]}, {"pin_path": "/pin"},
    {"passphrase": "canary", "passphrase_path": "x"},
    {"private_key_path": None, "uri": "hsm:", "command": ["x"], "public_key_path": "y"},
])
def test_options_that_do_not_go_together_are_refused(run: Run, options: dict[str, t.Any], record: str) -> None:
    ended = run([{"digest": f"sha256:{'0' * 64}", "format": "sig"}], **options)
    assert ended.failed
    assert "reasons" not in ended.result
    assert not os.path.exists(record)


def test_library_of_a_host_with_a_key_suffices(run: Run, payloads: Payloads, monkeypatch: pytest.MonkeyPatch) -> None:
    import cryptography

    monkeypatch.setattr(cryptography, "__version__", "38.0.4")
    assert not run(payloads).failed
    monkeypatch.setattr(cryptography, "__version__", "37.0.0")
    assert run(payloads).codes == ["library_missing"]


# The record ----------------------------------------------------------------------------------------------------------


def test_record_lies_beside_that_of_the_exports(
    run: Run, payloads: Payloads, home: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_record, "default_path", lambda: str(home / "state" / "exports.jsonl"))
    assert not run(payloads, record_path=None).failed
    assert len(journal.read(str(home / "state" / "uses.jsonl"))) == 2


def test_without_a_record_nothing_is_signed(run: Run, payloads: Payloads, record: str) -> None:
    pathlib.Path(record).mkdir()
    assert run(payloads).codes == ["destination_unsafe"]
    pathlib.Path(record).rmdir()
    pathlib.Path(record).write_text("not ours\n")
    pathlib.Path(record).chmod(0o600)
    ended = run(payloads)
    assert (ended.codes, ended.result["signatures"]) == (["journal_broken"], [])


# The whole way -------------------------------------------------------------------------------------------------------


def _attach(run_module: Run, image: str, signatures: t.Any, **options: t.Any) -> t.Any:
    return run_module(
        image_signature, ["results"], images=[image], signers=[{"signatures": signatures}], settle_seconds=0, **options
    )


@pytest.mark.parametrize("key_fixture", ["p256", "p384", "rsa2048", "ed25519_key"])
def test_three_phases_go_together(
    key_fixture: str, run: Run, run_module: Run, prepare: Run, registry: FakeRegistry, key: str,
    private_pem: t.Callable[..., bytes], request: pytest.FixtureRequest,
) -> None:
    pathlib.Path(key).write_bytes(private_pem(request.getfixturevalue(key_fixture)))
    registry.put_index("team/app", "2", ["linux/amd64", "linux/arm64"])
    image = f"{registry.host}/team/app:2"
    given = {"annotations": {"a": "1"}, "docker_reference": "registry.example.org/app"}
    signed = run(prepare(image, **given)).result["signatures"]
    assert len(signed) == 6
    unsigned = run(prepare(image, **given), check=True).result["signatures"]
    planned = _attach(run_module, image, unsigned, check=True, **given)
    assert (planned.failed, planned.result["changed"]) == (False, True)
    assert not [seen for seen in registry.log if seen.method not in ("GET", "HEAD")]
    for changed in (True, False):
        ended = _attach(run_module, image, signed, **given)
        assert (ended.failed, ended.result["changed"]) == (False, changed), ended.result
    # Signed anew, as each run of a playbook does.
    again = _attach(run_module, image, run(prepare(image, **given)).result["signatures"], **given)
    assert (again.failed, again.result["changed"]) == (False, False)
    planned = _attach(run_module, image, unsigned, check=True, **given)
    assert (planned.failed, planned.result["changed"]) == (False, False)
    # Other options are other bytes.
    assert _attach(run_module, image, signed, annotations={"a": "2"}).codes == ["not_found"]


def test_result_is_plain_json(run: Run, payloads: Payloads) -> None:
    text = json.dumps(run(payloads).result)
    assert "PRIVATE" not in text
