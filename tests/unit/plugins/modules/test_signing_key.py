# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of module signing_key."""

from __future__ import annotations

import os
import pathlib
import shutil
import stat
import subprocess
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils import _libraries
from ansible_collections.hallmark.signing.plugins.module_utils._keys import (
    algorithms,
    certificate_request,
    private_key,
)
from ansible_collections.hallmark.signing.plugins.module_utils._keys.fingerprint import key_id
from ansible_collections.hallmark.signing.plugins.modules import signing_key
from cryptography import x509
from cryptography.hazmat.primitives import serialization

KEYS = ["path", "key_id", "public_key", "csr", "algorithm", "format", "encrypted", "mode"]
PASSPHRASE = "canary passphrase"
Run = t.Callable[..., t.Any]
Write = t.Callable[..., bytes]


@pytest.fixture
def run(run_module: Run, home: pathlib.Path) -> Run:
    """Runs the module with home/key, or another path."""

    def call(**options: t.Any) -> t.Any:
        return run_module(signing_key, KEYS, **{"path": str(home / "key"), **options})

    return call


def read(path: pathlib.Path, passphrase: str | None = None) -> private_key.PrivateKey:
    secret = None if passphrase is None else passphrase.encode()
    return private_key.read_private_key(path.read_bytes(), passphrase=secret, where="key")


def mode_of(path: pathlib.Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def id_of(key: t.Any) -> str:
    return key_id(key.public_key())


def test_key_is_generated_once(run: Run, home: pathlib.Path) -> None:
    first = run()
    private = read(home / "key")
    assert first.result["changed"]
    assert {name: first.result[name] for name in KEYS} == {
        "path": str(home / "key"), "key_id": private.public.key_id, "public_key": private.public.pem,
        "csr": None, "algorithm": "ecdsa-p256", "format": "pem", "encrypted": False, "mode": "0600",
    }
    assert mode_of(home / "key") == 0o600
    for check in (False, True):
        again = run(check=check)
        assert {name: again.result[name] for name in KEYS} == {name: first.result[name] for name in KEYS}
        assert not again.result["changed"]
    assert os.listdir(home) == ["key"]


@pytest.mark.parametrize(
    "algorithm", ["ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "rsa-2048", "rsa-3072", "ed25519"]
)
def test_key_has_the_algorithm_asked_for(algorithm: str, run: Run, home: pathlib.Path) -> None:
    assert run(algorithm=algorithm).result["algorithm"] == algorithm
    assert read(home / "key").public.algorithm.name == algorithm


def test_each_algorithm_is_a_choice(run: Run) -> None:
    ended = run(algorithm="rsa-1024")
    assert ended.failed
    for name in ("ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "rsa-2048", "rsa-3072", "rsa-4096", "ed25519"):
        assert name in ended.result["msg"]
        assert algorithms.by_name(name).name == name


@pytest.mark.parametrize(("format", "secret"), [("pem", PASSPHRASE), ("cosign", PASSPHRASE), ("pem", None)])
def test_key_has_the_format_asked_for(format: str, secret: str | None, run: Run, home: pathlib.Path) -> None:
    options = {"format": format, **({"passphrase": secret} if secret else {})}
    result = run(**options).result
    assert (result["format"], result["encrypted"]) == (format, secret is not None)
    private = read(home / "key", secret)
    assert (private.format, private.encrypted, private.public.key_id) == (format, secret is not None, result["key_id"])
    assert not run(**options).result["changed"]


def test_passphrase_may_be_in_a_file(run: Run, home: pathlib.Path) -> None:
    (home / "secret").write_text(f"{PASSPHRASE}\n")
    run(passphrase_path=str(home / "secret"))
    assert read(home / "key", PASSPHRASE).encrypted
    assert not run(passphrase=PASSPHRASE).result["changed"]


def test_key_in_check_mode_is_not_made_and_not_known(run: Run, home: pathlib.Path) -> None:
    planned = run(check=True, path=str(home / "new" / "key"), public_key_path=str(home / "pub"))
    assert planned.result["changed"]
    assert {name: planned.result[name] for name in KEYS} == {
        "path": str(home / "new" / "key"), "key_id": None, "public_key": None, "csr": None, "algorithm": None,
        "format": "pem", "encrypted": False, "mode": "0600",
    }
    assert any("does not exist yet" in warning for warning in planned.warnings)
    assert os.listdir(home) == []


def test_existing_key_is_no_matter_for_a_warning(run: Run) -> None:
    assert not run().warnings
    assert not run(check=True).warnings


# Public halves  ------------------------------------------------------------------------------------------------------


def test_public_key_is_written_beside_it(run: Run, home: pathlib.Path) -> None:
    first = run(public_key_path=str(home / "new" / "pub"))
    assert (home / "new" / "pub").read_text() == first.result["public_key"] == read(home / "key").public.pem
    assert mode_of(home / "new" / "pub") == 0o644
    assert not run(public_key_path=str(home / "new" / "pub")).result["changed"]
    (home / "new" / "pub").unlink()
    assert run(public_key_path=str(home / "new" / "pub"), check=True).result["changed"]
    assert not (home / "new" / "pub").exists()
    assert run(public_key_path=str(home / "new" / "pub")).result["changed"]
    assert (home / "new" / "pub").exists()


def test_other_spelling_of_the_public_key_is_replaced(run: Run, home: pathlib.Path) -> None:
    text = run().result["public_key"]
    (home / "pub").write_text("a comment\n" + text)
    assert run(public_key_path=str(home / "pub")).result["changed"]
    assert (home / "pub").read_text() == text


@pytest.mark.parametrize("check", [False, True])
def test_public_key_of_another_key_is_not_overwritten(
    check: bool, run: Run, home: pathlib.Path, p256: t.Any, public_pem: Write
) -> None:
    run()
    for data in (public_pem(p256), b"rubbish"):
        (home / "pub").write_bytes(data)
        ended = run(public_key_path=str(home / "pub"), check=check)
        assert (ended.failed, ended.codes) == (True, ["destination_occupied"])
        assert (home / "pub").read_bytes() == data


def test_public_file_that_is_refused_is_refused_before_there_is_a_key(
    run: Run, home: pathlib.Path, other_p256: t.Any, public_pem: t.Callable[..., bytes]
) -> None:
    for data in (b"rubbish", b"", public_pem(other_p256)):
        (home / "pub").write_bytes(data)
        for check in (True, False):
            ended = run(check=check, public_key_path=str(home / "pub"))
            assert (ended.codes, ended.result["changed"]) == (["destination_occupied"], False)
            assert (os.listdir(home), (home / "pub").read_bytes()) == (["pub"], data)


# A key that was removed leaves its public file behind; the import of the same key takes it over.
def test_public_file_of_an_imported_key_may_be_there(
    run: Run, home: pathlib.Path, p256: t.Any, private_pem: t.Callable[..., bytes],
    public_pem: t.Callable[..., bytes],
) -> None:
    (home / "source").write_bytes(private_pem(p256))
    (home / "pub").write_bytes(public_pem(p256))
    ended = run(source_path=str(home / "source"), public_key_path=str(home / "pub"))
    assert (ended.failed, ended.result["changed"]) == (False, True)
    assert (home / "pub").read_bytes() == public_pem(p256)


# Certificate requests ------------------------------------------------------------------------------------------------


REQUEST: dict[str, t.Any] = {
    "csr_subject": "CN=release,O=Example", "csr_sans": ["email:release@example.com", "uri:https://ci.example.com"],
}


@pytest.fixture
def ask(run: Run, home: pathlib.Path) -> Run:
    """Runs the module with a request in home/csr."""

    def call(**options: t.Any) -> t.Any:
        return run(**{"csr_path": str(home / "csr"), **REQUEST, **options})

    return call


def request_in(path: pathlib.Path) -> certificate_request.Request:
    return certificate_request.read(path.read_bytes(), where="csr")


@pytest.mark.parametrize("algorithm", ["ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "rsa-2048", "ed25519"])
def test_request_is_written_once(algorithm: str, ask: Run, home: pathlib.Path) -> None:
    options = {"algorithm": algorithm, "csr_path": str(home / "new" / "csr")}
    first = ask(**options)
    found = request_in(home / "new" / "csr")
    assert (first.result["changed"], first.result["csr"]) == (True, (home / "new" / "csr").read_text())
    assert (found.key_id, found.is_signed) == (first.result["key_id"], True)
    assert found.content.facts() == {**REQUEST, "csr_sans": sorted(REQUEST["csr_sans"])}
    assert mode_of(home / "new" / "csr") == 0o644
    for check in (True, False):
        again = ask(check=check, **options)
        assert (again.result["changed"], again.result["csr"]) == (False, first.result["csr"])
    assert os.listdir(home / "new") == ["csr"]


def test_request_is_verified_by_openssl(ask: Run, home: pathlib.Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("there is no program openssl")
    ask()
    done = subprocess.run(
        ["openssl", "req", "-verify", "-in", str(home / "csr"), "-noout", "-text"],
        capture_output=True, text=True, check=True,
    )
    assert "verify OK" in done.stdout + done.stderr
    assert "Code Signing" in done.stdout


@pytest.mark.parametrize(("format", "secret"), [("pem", PASSPHRASE), ("cosign", PASSPHRASE)])
def test_request_of_an_encrypted_key(format: str, secret: str, ask: Run, home: pathlib.Path) -> None:
    first = ask(format=format, passphrase=secret)
    assert request_in(home / "csr").key_id == first.result["key_id"]
    (home / "csr").unlink()
    assert ask(format=format, passphrase="wrong passphrase").codes == ["passphrase_invalid"]
    assert not (home / "csr").exists()
    again = ask(format=format, passphrase=secret)
    assert (again.result["changed"], request_in(home / "csr").key_id) == (True, first.result["key_id"])


def test_request_of_an_existing_and_of_an_imported_key(
    ask: Run, run: Run, home: pathlib.Path, p256: t.Any, private_pem: Write
) -> None:
    made = run().result["key_id"]
    assert ask().result["changed"]
    assert request_in(home / "csr").key_id == made
    (home / "source").write_bytes(private_pem(p256))
    options = {"source_path": str(home / "source"), "path": str(home / "other"), "csr_path": str(home / "other.csr")}
    planned = ask(check=True, **options)
    assert (planned.result["changed"], planned.result["csr"], planned.result["key_id"]) == (True, None, id_of(p256))
    assert ask(**options).result["changed"]
    assert request_in(home / "other.csr").key_id == id_of(p256)


def test_request_with_other_names_is_replaced(ask: Run, home: pathlib.Path) -> None:
    former = ask().result["csr"]
    others: list[dict[str, t.Any]] = [
        {"csr_subject": "CN=other"}, {"csr_sans": []}, {"csr_sans": ["dns:a.example"]},
        {"csr_sans": [*REQUEST["csr_sans"], "dns:a.example"]},
    ]
    for options in others:
        planned = ask(check=True, **options)
        assert (planned.result["changed"], planned.result["csr"]) == (True, None)
        assert (home / "csr").read_text() == former
        done = ask(**options)
        assert done.result["changed"]
        assert done.result["csr"] == (home / "csr").read_text() != former
        assert not ask(**options).result["changed"]
        former = done.result["csr"]


def test_order_of_names_means_nothing(ask: Run) -> None:
    former = ask().result["csr"]
    again = ask(csr_sans=REQUEST["csr_sans"][::-1])
    assert (again.result["changed"], again.result["csr"]) == (False, former)


def test_text_around_a_request_is_left(ask: Run, home: pathlib.Path) -> None:
    text = ask().result["csr"]
    (home / "csr").write_text(f"sent on Monday\n{text}")
    again = ask()
    assert (again.result["changed"], again.result["csr"]) == (False, text)
    assert (home / "csr").read_text() == f"sent on Monday\n{text}"


def test_mode_of_a_request_converges(ask: Run, home: pathlib.Path) -> None:
    text = ask().result["csr"]
    (home / "csr").chmod(0o600)
    for check in (True, False):
        ended = ask(check=check)
        assert (ended.result["changed"], ended.result["csr"]) == (True, text)
    assert mode_of(home / "csr") == 0o644


def test_request_that_its_key_did_not_sign_is_replaced(ask: Run, home: pathlib.Path, pem_block: Write) -> None:
    first = ask().result["csr"]
    der = x509.load_pem_x509_csr(first.encode()).public_bytes(serialization.Encoding.DER)
    (home / "csr").write_bytes(pem_block("CERTIFICATE REQUEST", der.replace(b"Example", b"Examble")))
    ended = ask(csr_subject="CN=release,O=Examble")
    assert ended.result["changed"]
    assert request_in(home / "csr").is_signed


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize("has_key", [False, True])
def test_other_file_in_the_place_of_the_request_is_not_overwritten(
    check: bool, has_key: bool, ask: Run, run: Run, home: pathlib.Path, p256: t.Any, public_pem: Write
) -> None:
    if has_key:
        run()
    other = certificate_request.create(p256, certificate_request.wanted(REQUEST["csr_subject"], REQUEST["csr_sans"]))
    before = os.listdir(home)
    for data in (other, public_pem(p256), b"rubbish", b"", b"-----BEGIN CERTIFICATE REQUEST-----\n"):
        (home / "csr").write_bytes(data)
        ended = ask(check=check)
        assert (ended.failed, ended.codes, ended.result["changed"]) == (True, ["destination_occupied"], False)
        assert (ended.result["csr"], (home / "csr").read_bytes()) == (None, data)
    assert sorted(os.listdir(home)) == sorted([*before, "csr"])


def test_request_of_an_imported_key_may_be_there(ask: Run, home: pathlib.Path, p256: t.Any, private_pem: Write) -> None:
    (home / "source").write_bytes(private_pem(p256))
    text = certificate_request.create(p256, certificate_request.wanted(REQUEST["csr_subject"], REQUEST["csr_sans"]))
    (home / "csr").write_bytes(text)
    ended = ask(source_path=str(home / "source"))
    assert (ended.failed, ended.result["changed"], ended.result["csr"]) == (False, True, text.decode())
    assert (home / "csr").read_bytes() == text


def test_what_was_written_before_the_refusal_is_told(ask: Run, run: Run, home: pathlib.Path) -> None:
    run()
    (home / "csr").write_bytes(b"rubbish")
    ended = ask(public_key_path=str(home / "pub"))
    assert (ended.codes, ended.result["changed"]) == (["destination_occupied"], True)
    assert (home / "pub").read_text() == ended.result["public_key"]


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize("has_key", [False, True])
@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"csr_subject": "release"}, "csr_subject"), ({"csr_subject": ""}, "csr_subject"),
        ({"csr_subject": None}, "csr_subject"), ({"csr_sans": ["release"]}, "csr_sans"),
        ({"csr_sans": ["dns:a", "dns:a"]}, "csr_sans"), ({"csr_sans": ["other:x:y"]}, "csr_sans"),
    ],
)
def test_wrong_request_is_refused_before_anything_is_written(
    options: dict[str, t.Any], wrong: str, has_key: bool, check: bool, ask: Run, run: Run, home: pathlib.Path
) -> None:
    if has_key:
        run()
    before = os.listdir(home)
    ended = ask(check=check, public_key_path=str(home / "pub"), **options)
    assert (ended.codes, ended.result["reasons"][0]["object"]) == (["input_invalid"], wrong)
    assert (ended.result["changed"], os.listdir(home)) == (False, before)


def test_request_wants_a_file_of_its_own(ask: Run, home: pathlib.Path) -> None:
    for options in ({"csr_path": str(home / "key")}, {"public_key_path": str(home / "csr")}):
        ended = ask(**options)
        assert (ended.codes, ended.result["reasons"][0]["object"]) == (["input_invalid"], "csr_path")
        assert os.listdir(home) == []


@pytest.mark.parametrize("option", ["csr_subject", "csr_sans"])
def test_request_wants_a_path(option: str, run: Run, home: pathlib.Path) -> None:
    ended = run(**{option: REQUEST[option]})
    assert ended.failed
    assert "csr_path" in ended.result["msg"]
    assert os.listdir(home) == []


def test_request_in_check_mode_is_not_made(ask: Run, home: pathlib.Path) -> None:
    planned = ask(check=True, diff=True)
    assert (planned.result["changed"], planned.result["csr"], os.listdir(home)) == (True, None, [])
    assert planned.result["diff"]["after"]["csr_subject"] == REQUEST["csr_subject"]


def test_diff_shows_what_is_asked_for(ask: Run, run: Run) -> None:
    first = ask(diff=True).result["diff"]
    assert first["before"] == {}
    assert {name: first["after"][name] for name in REQUEST} == REQUEST
    for check in (True, False):
        second = ask(diff=True, check=check, csr_subject="CN=other", csr_sans=[]).result["diff"]
        assert {name: second["before"][name] for name in REQUEST} == REQUEST
        assert {name: second["after"][name] for name in REQUEST} == {"csr_subject": "CN=other", "csr_sans": []}
    assert "csr_subject" not in run(diff=True).result["diff"]["after"]


# Another process may exchange the key; a request of its key would go out under the name of the first.
def test_request_is_never_of_another_key(
    ask: Run, run: Run, home: pathlib.Path, p256: t.Any, private_pem: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    run()
    monkeypatch.setattr(signing_key, "read_key_file", lambda _path: private_pem(p256))
    ended = ask()
    assert (ended.codes, ended.result["csr"], (home / "csr").exists()) == (["key_mismatch"], None, False)


@pytest.mark.parametrize("secret", [None, PASSPHRASE])
def test_request_is_removed_with_its_key(secret: str | None, ask: Run, run: Run, home: pathlib.Path) -> None:
    options = {"passphrase": secret} if secret else {}
    made = ask(public_key_path=str(home / "pub"), **options).result["key_id"]
    files = {"csr_path": str(home / "csr"), "public_key_path": str(home / "pub")}
    absent = {"state": "absent", "key_id": made, **files, **options}
    assert run(check=True, **absent).result["changed"]
    assert sorted(os.listdir(home)) == ["csr", "key", "pub"]
    done = run(**absent)
    assert (done.result["changed"], done.result["csr"], os.listdir(home)) == (True, None, [])
    assert not run(**absent).result["changed"]


def test_request_alone_is_removed(ask: Run, run: Run, home: pathlib.Path) -> None:
    made = ask().result["key_id"]
    (home / "key").unlink()
    # Whatever it asks for.
    assert run(state="absent", key_id=made, csr_path=str(home / "csr")).result["changed"]
    assert os.listdir(home) == []


@pytest.mark.parametrize("check", [False, True])
def test_request_of_another_key_is_not_removed(check: bool, run: Run, home: pathlib.Path, p256: t.Any) -> None:
    other = certificate_request.create(p256, certificate_request.wanted("CN=other", []))
    for data in (other, b"rubbish"):
        (home / "csr").write_bytes(data)
        ended = run(state="absent", key_id="0" * 64, csr_path=str(home / "csr"), check=check)
        assert (ended.codes, (home / "csr").read_bytes()) == (["destination_occupied"], data)


# Attributes ----------------------------------------------------------------------------------------------------------


def test_mode_converges_and_the_diff_shows_it(run: Run, home: pathlib.Path) -> None:
    run()
    (home / "key").chmod(0o644)
    planned = run(mode="0400", check=True, diff=True)
    assert mode_of(home / "key") == 0o644
    done = run(mode="0400", diff=True)
    assert mode_of(home / "key") == 0o400
    # In check mode Ansible puts the mode that is there in the place of the one that would be.
    assert (planned.result["mode"], done.result["mode"]) == ("0644", "0400")
    for ended in (planned, done):
        assert ended.result["changed"]
        difference = ended.result["diff"]
        assert (difference["before"]["mode"], difference["after"]["mode"]) == ("0644", "0400")
        assert difference["before_header"] == difference["after_header"] == str(home / "key")
        assert sorted(difference["after"]) == ["algorithm", "encrypted", "format", "key_id", "mode"]


def test_diff_of_a_new_key_begins_with_nothing(run: Run, home: pathlib.Path) -> None:
    difference = run(diff=True).result["diff"]
    assert difference["before"] == {}
    assert difference["after"]["key_id"] == read(home / "key").public.key_id
    assert "diff" not in run().result


@pytest.mark.parametrize("mode", ["0644", "0700", "u=rw", 0o600])
def test_wrong_mode_is_refused_before_anything_is_made(mode: t.Any, run: Run, home: pathlib.Path) -> None:
    for check in (False, True):
        ended = run(mode=mode, check=check, path=str(home / "new" / "key"))
        assert (ended.failed, ended.codes, os.listdir(home)) == (True, ["input_invalid"], [])


@pytest.mark.parametrize("option", ["owner", "group"])
def test_unknown_owner_is_refused(option: str, run: Run, home: pathlib.Path) -> None:
    ended = run(**{option: "no-such-name"})
    assert (ended.codes, ended.result["reasons"][0]["object"], os.listdir(home)) == (["input_invalid"], option, [])


def test_owner_and_group_are_passed_on(run: Run, home: pathlib.Path) -> None:
    uid, gid = (12345, 54321) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    run(owner=str(uid), group=str(gid))
    status = (home / "key").stat()
    assert (status.st_uid, status.st_gid) == (uid, gid)


# Keys that do not fit ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"algorithm": "rsa-2048"}, "key_mismatch"), ({"passphrase": PASSPHRASE}, "key_mismatch"),
        ({"format": "cosign", "passphrase": PASSPHRASE}, "key_mismatch"), ({"key_id": "0" * 64}, "key_mismatch"),
        ({"key_id": "x"}, "input_invalid"),
    ],
)
def test_existing_key_is_never_replaced(
    check: bool, options: dict[str, str], code: str, run: Run, home: pathlib.Path
) -> None:
    run()
    data = (home / "key").read_bytes()
    ended = run(check=check, **options)
    assert (ended.failed, ended.codes, ended.result["changed"]) == (True, [code], False)
    assert (home / "key").read_bytes() == data


def test_failed_task_has_every_key(run: Run, home: pathlib.Path) -> None:
    (home / "key").write_bytes(b"rubbish")
    (home / "key").chmod(0o400)
    ended = run(mode="0400", key_id="0" * 64)
    assert {name: ended.result[name] for name in KEYS} == {
        "path": str(home / "key"), "key_id": "0" * 64, "public_key": None, "csr": None, "algorithm": None,
        "format": "pem", "encrypted": None, "mode": "0400",
    }
    assert (ended.codes, ended.result["changed"]) == (["destination_occupied"], False)


@pytest.mark.parametrize(
    "options", [{"passphrase": "short"}, {"format": "cosign"}, {"passphrase": ""}],
)
def test_passphrase_of_a_new_key_is_checked(options: dict[str, str], run: Run, home: pathlib.Path) -> None:
    ended = run(**options)
    assert (ended.failed, ended.codes, os.listdir(home)) == (True, ["passphrase_invalid"], [])


@pytest.mark.parametrize("options", [
    {"passphrase": "short"}, {"format": "cosign"}, {"key_id": "0" * 64},
])
def test_check_mode_refuses_what_the_run_refuses(options: dict[str, str], run: Run) -> None:
    assert run(check=True, **options).failed


def test_key_id_of_a_key_that_shall_be_generated_cannot_be_met(run: Run, home: pathlib.Path) -> None:
    ended = run(key_id="0" * 64)
    assert (ended.codes, os.listdir(home)) == (["key_mismatch"], [])


@pytest.mark.parametrize("name", ["passphrase", "source_passphrase"])
def test_passphrase_and_its_file_exclude_each_other(name: str, run: Run) -> None:
    ended = run(**{name: PASSPHRASE, f"{name}_path": "/x"})
    assert ended.failed
    assert "mutually exclusive" in ended.result["msg"]


def test_missing_passphrase_file_is_told(run: Run, home: pathlib.Path) -> None:
    ended = run(passphrase_path=str(home / "missing"))
    assert (ended.codes, os.listdir(home)) == (["not_found"], [])


def test_unsafe_folder_is_told(run: Run, home: pathlib.Path) -> None:
    home.chmod(0o777)
    for check in (False, True):
        assert run(check=check).codes == ["destination_unsafe"]


def test_old_library_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import cryptography

    monkeypatch.setattr(cryptography, "__version__", "37.0")
    assert run().codes == ["library_missing"]
    assert _libraries.KEYS_CRYPTOGRAPHY_FLOOR == "38"


# Importing -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def source(home: pathlib.Path, p256: t.Any, private_pem: Write) -> str:
    """A key that can be imported."""
    (home / "source").write_bytes(private_pem(p256, traditional=True))
    return str(home / "source")


@pytest.mark.parametrize(("format", "secret"), [("pem", None), ("pem", PASSPHRASE), ("cosign", PASSPHRASE)])
def test_key_is_imported_and_converted(
    format: str, secret: str | None, run: Run, home: pathlib.Path, source: str, p256: t.Any
) -> None:
    options = {"source_path": source, "format": format, **({"passphrase": secret} if secret else {})}
    planned = run(check=True, **options)
    assert not (home / "key").exists()
    done = run(**options)
    assert planned.result["key_id"] == done.result["key_id"] == id_of(p256)
    assert (planned.result["changed"], done.result["changed"], planned.warnings) == (True, True, [])
    private = read(home / "key", secret)
    assert (private.format, private.encrypted, private.public.key_id) == (format, secret is not None, id_of(p256))
    assert not run(**options).result["changed"]


def test_algorithm_of_an_import_is_that_of_its_source(
    run: Run, home: pathlib.Path, rsa2048: t.Any, private_pem: Write
) -> None:
    (home / "source").write_bytes(private_pem(rsa2048))
    for _round in range(2):
        assert run(source_path=str(home / "source")).result["algorithm"] == "rsa-2048"


@pytest.mark.parametrize("way", ["source_passphrase", "source_passphrase_path"])
def test_encrypted_source_is_imported(way: str, run: Run, home: pathlib.Path, p256: t.Any, private_pem: Write) -> None:
    (home / "source").write_bytes(private_pem(p256, PASSPHRASE.encode()))
    (home / "secret").write_text(PASSPHRASE)
    value = PASSPHRASE if way == "source_passphrase" else str(home / "secret")
    options = {"source_path": str(home / "source"), way: value}
    assert run(**options).result["key_id"] == id_of(p256)
    assert not read(home / "key").encrypted
    assert run(source_path=str(home / "source")).codes == ["passphrase_invalid"]


def test_key_id_of_a_source_is_kept_to(run: Run, home: pathlib.Path, source: str, p256: t.Any) -> None:
    for check in (False, True):
        ended = run(source_path=source, key_id="0" * 64, check=check)
        assert (ended.codes, ended.result["reasons"][0]["object"]) == (["key_mismatch"], source)
        assert not (home / "key").exists()
    assert run(source_path=source, key_id=id_of(p256)).result["changed"]


def test_import_does_not_replace_another_key(run: Run, home: pathlib.Path, source: str) -> None:
    run()
    data = (home / "key").read_bytes()
    for check in (False, True):
        assert run(source_path=source, check=check).codes == ["key_mismatch"]
    assert (home / "key").read_bytes() == data


def test_source_that_is_gone_after_the_import_is_not_missed(run: Run, home: pathlib.Path, source: str) -> None:
    assert run(source_path=str(home / "missing")).codes == ["not_found"]
    imported = run(source_path=source).result["key_id"]
    (home / "source").unlink()
    for options in ({}, {"key_id": imported}, {"check": True}):
        again = run(source_path=source, **options)
        assert (again.failed, again.result["changed"], again.result["key_id"]) == (False, False, imported)
    assert run(source_path=source, key_id="0" * 64).codes == ["key_mismatch"]


# Removing ------------------------------------------------------------------------------------------------------------


def test_absent_wants_a_key_id(run: Run) -> None:
    ended = run(state="absent")
    assert ended.failed
    assert "key_id" in ended.result["msg"]


@pytest.mark.parametrize("secret", [None, PASSPHRASE])
def test_key_is_removed_with_its_public_half(secret: str | None, run: Run, home: pathlib.Path) -> None:
    options = {"public_key_path": str(home / "pub"), **({"passphrase": secret} if secret else {})}
    made = run(**options).result["key_id"]
    options.update(state="absent", key_id=made)
    planned = run(check=True, diff=True, **options)
    assert sorted(os.listdir(home)) == ["key", "pub"]
    done = run(diff=True, **options)
    assert os.listdir(home) == []
    for ended in (planned, done):
        assert (ended.result["changed"], ended.result["key_id"], ended.result["public_key"]) == (True, made, None)
        assert (ended.result["diff"]["before"], ended.result["diff"]["after"]) == ({"key_id": made}, {})
    again = run(diff=True, **options)
    assert (again.result["changed"], again.result["diff"]["before"]) == (False, {})


def test_public_half_alone_is_removed(run: Run, home: pathlib.Path) -> None:
    made = run(public_key_path=str(home / "pub")).result["key_id"]
    (home / "key").unlink()
    assert run(state="absent", key_id=made, public_key_path=str(home / "pub")).result["changed"]
    assert os.listdir(home) == []


def test_public_half_is_not_removed_unasked(run: Run, home: pathlib.Path) -> None:
    made = run(public_key_path=str(home / "pub")).result["key_id"]
    run(state="absent", key_id=made)
    assert os.listdir(home) == ["pub"]


@pytest.mark.parametrize("check", [False, True])
def test_another_key_is_not_removed(check: bool, run: Run, home: pathlib.Path) -> None:
    run()
    ended = run(state="absent", key_id="0" * 64, check=check)
    assert (ended.codes, ended.result["changed"], os.listdir(home)) == (["key_mismatch"], False, ["key"])


@pytest.mark.parametrize("check", [False, True])
def test_public_half_of_another_key_is_not_removed(
    check: bool, run: Run, home: pathlib.Path, p256: t.Any, public_pem: Write
) -> None:
    (home / "pub").write_bytes(public_pem(p256))
    ended = run(state="absent", key_id="0" * 64, public_key_path=str(home / "pub"), check=check)
    assert (ended.codes, os.listdir(home)) == (["destination_occupied"], ["pub"])


# A key id that cannot be one is found out only where there is a key to compare it with.
def test_malformed_key_id_is_refused(run: Run) -> None:
    assert run(state="absent", key_id="no key id").codes == ["input_invalid"]


# Secrets -------------------------------------------------------------------------------------------------------------


def test_no_private_byte_is_ever_shown(run: Run, home: pathlib.Path, p256: t.Any, private_pem: Write) -> None:
    (home / "source").write_bytes(private_pem(p256))
    lines = private_pem(p256).decode().splitlines()[1:-1]
    for options in (
        {"check": True}, {}, {"diff": True, "mode": "0400"}, {"passphrase": PASSPHRASE}, {"format": "cosign"},
        {"csr_path": str(home / "csr"), "csr_subject": "CN=x", "diff": True, "check": True},
        {"csr_path": str(home / "csr"), "csr_subject": "CN=x", "diff": True},
        {"csr_path": str(home / "csr"), "csr_subject": "CN=y", "diff": True},
        {"csr_path": str(home / "key"), "csr_subject": "CN=y"},
        {"csr_path": str(home / "source"), "csr_subject": "CN=y"},
        {"state": "absent", "key_id": "0" * 64}, {"state": "absent", "key_id": id_of(p256), "diff": True},
    ):
        source = {} if "state" in options else {"source_path": str(home / "source")}
        ended = run(**options, **source)
        text = str(ended.result)
        assert not any(line in text for line in lines)
        assert "PRIVATE KEY" not in text
