# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of what is said about keys, certificates and lineages on disk."""

from __future__ import annotations

import datetime
import grp
import os
import pathlib
import pwd
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils import _libraries
from ansible_collections.hallmark.signing.plugins.module_utils._custody import inventory, storage
from ansible_collections.hallmark.signing.plugins.module_utils._errors import HallmarkError
from ansible_collections.hallmark.signing.plugins.module_utils._keys import lease, private_key, writing
from ansible_collections.hallmark.signing.plugins.module_utils._keys.fingerprint import key_id
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._custody import custody_bench as bench
from cryptography.x509.oid import ExtendedKeyUsageOID

PASSPHRASE = b"canary passphrase"
MEMBERS = [
    "path", "key_id", "algorithm", "format", "encrypted", "owner", "group", "mode", "problems", "certificate",
]
# A container may run under a number without a name.
OWNER = {user.pw_uid: user.pw_name for user in pwd.getpwall()}.get(os.geteuid(), str(os.geteuid()))
GROUPS = {group.gr_gid: group.gr_name for group in grp.getgrall()}
Write = t.Callable[..., bytes]


@pytest.fixture(autouse=True)
def _no_swap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether this host swaps is no matter."""
    monkeypatch.setattr(storage, "clear_swaps", lambda: [])


def describe(path: pathlib.Path, passphrase: bytes | None = None) -> tuple[dict[str, t.Any], str | None]:
    """Return the entry as a module shows it, and the code of the error."""
    entry, error = inventory.describe(str(path), passphrase=passphrase)
    shape = entry.as_dict()
    assert list(shape) == MEMBERS
    assert shape["path"] == str(path)
    for text in (repr(entry), repr(shape), str(error)):
        assert "canary" not in text
    if isinstance(error, HallmarkError):
        assert shape["problems"][-1] == {"code": error.code, "message": str(error)}
    return shape, error.code if error else None


def put(path: pathlib.Path, data: bytes, mode: int = 0o600) -> pathlib.Path:
    path.write_bytes(data)
    path.chmod(mode)
    return path


def id_of(key: t.Any) -> str:
    return key_id(key.public_key())


def codes(shape: dict[str, t.Any]) -> list[str]:
    return [problem["code"] for problem in shape["problems"]]


def test_private_key_is_described(home: pathlib.Path, p256: t.Any) -> None:
    path = put(home / "key", bench.key_pem(p256))
    shape, error = describe(path)
    assert error is None
    assert shape == {
        "path": str(path), "key_id": id_of(p256), "algorithm": "ecdsa-p256", "format": "pem", "encrypted": False,
        "owner": OWNER, "group": GROUPS.get(path.stat().st_gid, str(path.stat().st_gid)), "mode": "0600",
        "problems": [], "certificate": None,
    }


@pytest.mark.parametrize("traditional", [False, True])
def test_key_of_each_algorithm_is_described(
    traditional: bool, home: pathlib.Path, rsa2048: t.Any, p384: t.Any, private_pem: Write
) -> None:
    for key, algorithm in ((rsa2048, "rsa-2048"), (p384, "ecdsa-p384")):
        shape, error = describe(put(home / "key", private_pem(key, traditional=traditional)))
        assert (shape["key_id"], shape["algorithm"], shape["format"], error) == (id_of(key), algorithm, "pem", None)


@pytest.mark.parametrize("label", [b"ENCRYPTED SIGSTORE PRIVATE KEY", b"ENCRYPTED COSIGN PRIVATE KEY"])
def test_cosign_key_is_described(label: bytes, home: pathlib.Path, p256: t.Any) -> None:
    data = writing.write_private_key(p256, format="cosign", passphrase=PASSPHRASE)
    path = put(home / "key", data.replace(b"ENCRYPTED SIGSTORE PRIVATE KEY", label))
    shape, error = describe(path, PASSPHRASE)
    assert (shape["key_id"], shape["algorithm"], error) == (id_of(p256), "ecdsa-p256", None)
    assert (shape["format"], shape["encrypted"], shape["problems"]) == ("cosign", True, [])


@pytest.mark.parametrize("format", ["pem", "cosign"])
def test_encrypted_key_without_passphrase_has_no_id_and_no_error(
    format: private_key.KeyFormat, home: pathlib.Path, p256: t.Any
) -> None:
    path = put(home / "key", writing.write_private_key(p256, format=format, passphrase=PASSPHRASE))
    shape, error = describe(path)
    assert (shape["key_id"], shape["algorithm"], shape["problems"], error) == (None, None, [], None)
    assert (shape["format"], shape["encrypted"], shape["mode"]) == (format, True, "0600")


@pytest.mark.parametrize("format", ["pem", "cosign"])
def test_wrong_passphrase_is_a_problem_and_no_error(
    format: private_key.KeyFormat, home: pathlib.Path, p256: t.Any
) -> None:
    path = put(home / "key", writing.write_private_key(p256, format=format, passphrase=PASSPHRASE), 0o604)
    shape, error = describe(path, b"canary of a wrong one")
    assert (shape["key_id"], shape["algorithm"], shape["encrypted"], error) == (None, None, True, None)
    assert codes(shape) == ["passphrase_invalid", "mode_too_open"]


def test_passphrase_is_not_needed_for_a_plain_key(home: pathlib.Path, p256: t.Any) -> None:
    shape, error = describe(put(home / "key", bench.key_pem(p256)), PASSPHRASE)
    assert (shape["key_id"], shape["encrypted"], error) == (id_of(p256), False, None)


def test_empty_passphrase_is_one(home: pathlib.Path, golden: t.Callable[[str], bytes]) -> None:
    shape, error = describe(put(home / "key", golden("cosign3-empty-passphrase.key")), b"")
    assert (shape["key_id"] is not None, shape["encrypted"], error) == (True, True, None)


def test_public_key_is_described(home: pathlib.Path, p256: t.Any, public_pem: Write) -> None:
    shape, error = describe(put(home / "pub", public_pem(p256), 0o666))
    assert error is None
    assert {name: shape[name] for name in MEMBERS[1:5]} == {
        "key_id": id_of(p256), "algorithm": "ecdsa-p256", "format": "spki", "encrypted": False,
    }
    assert (shape["mode"], shape["problems"], shape["certificate"]) == ("0666", [], None)


def test_certificate_is_described(home: pathlib.Path, p256: t.Any) -> None:
    shape, error = describe(put(home / "chain", bench.chain_pem(p256), 0o644))
    assert error is None
    assert {name: shape[name] for name in MEMBERS[1:5]} == {
        "key_id": id_of(p256), "algorithm": None, "format": "certificate", "encrypted": False,
    }
    certificate = shape["certificate"]
    assert sorted(certificate) == ["eku", "issuer_chain", "key_id", "not_after", "not_before", "sans"]
    assert (certificate["key_id"], certificate["not_before"]) == (id_of(p256), "2024-01-02T03:04:05Z")
    assert certificate["sans"] == [{"type": "dns", "value": "leaf.example.org"}]
    assert [issuer["subject"] for issuer in certificate["issuer_chain"]] == ["CN=CA"]
    assert shape["problems"] == []


@pytest.fixture
def lineage(home: pathlib.Path, p256: t.Any) -> pathlib.Path:
    """A lineage of p256, with links as Certbot sets them."""
    for name in ("live", "archive"):
        (home / name).mkdir(mode=0o700)
    put(home / "archive" / "privkey1.pem", bench.key_pem(p256))
    put(home / "archive" / "fullchain1.pem", bench.chain_pem(p256), 0o644)
    for name in ("privkey", "fullchain"):
        (home / "live" / f"{name}.pem").symlink_to(f"../archive/{name}1.pem")
    return home / "live"


def test_lineage_is_described(lineage: pathlib.Path, p256: t.Any) -> None:
    shape, error = describe(lineage)
    assert error is None
    assert {name: shape[name] for name in MEMBERS[1:8] if name != "group"} == {
        "key_id": id_of(p256), "algorithm": "ecdsa-p256", "format": "lineage", "encrypted": False, "owner": OWNER,
        "mode": "0600",
    }
    assert (shape["problems"], shape["certificate"]["key_id"]) == ([], id_of(p256))


def test_pair_that_does_not_match_is_a_problem(lineage: pathlib.Path, p256: t.Any, other_p256: t.Any) -> None:
    put(lineage.parent / "archive" / "fullchain1.pem", bench.chain_pem(other_p256))
    shape, error = describe(lineage)
    assert (codes(shape), error) == (["key_mismatch"], None)
    assert (shape["key_id"], shape["certificate"]["key_id"]) == (id_of(p256), id_of(other_p256))
    assert str(lineage) in shape["problems"][0]["message"]


def test_lineage_with_an_encrypted_key_has_no_key_id(lineage: pathlib.Path, p256: t.Any, private_pem: Write) -> None:
    put(lineage.parent / "archive" / "privkey1.pem", private_pem(p256, PASSPHRASE))
    shape, error = describe(lineage)
    assert (shape["key_id"], shape["problems"], shape["format"], error) == (None, [], "lineage", None)
    assert shape["certificate"]["key_id"] == id_of(p256)


@pytest.mark.parametrize("name", ["privkey", "fullchain"])
@pytest.mark.parametrize(("data", "code"), [(None, "not_found"), (b"canary", "malformed")])
def test_lineage_that_cannot_be_read_is_an_error(
    name: str, data: bytes | None, code: str, lineage: pathlib.Path
) -> None:
    path = lineage.parent / "archive" / f"{name}1.pem"
    path.unlink()
    if data is not None:
        put(path, data)
    shape, error = describe(lineage)
    assert (codes(shape), error, shape["certificate"]) == ([code], code, None)


def test_folder_that_is_no_lineage_is_an_error(home: pathlib.Path) -> None:
    shape, error = describe(home)
    assert (codes(shape), error, shape["format"]) == (["not_found"], "not_found", None)
    assert "privkey.pem" in shape["problems"][0]["message"]


def test_missing_path_is_an_error(home: pathlib.Path) -> None:
    shape, error = describe(home / "nothing")
    assert error == "not_found"
    assert [shape[name] for name in MEMBERS[1:8]] == [None] * 7


@pytest.mark.parametrize("data", [b"", b"canary", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_malformed_file_is_an_error(data: bytes, home: pathlib.Path) -> None:
    shape, error = describe(put(home / "key", data))
    assert (error, shape["key_id"], shape["owner"], shape["mode"]) == ("malformed", None, OWNER, "0600")


def test_file_with_several_things_is_an_error(home: pathlib.Path, p256: t.Any, public_pem: Write) -> None:
    key, public, chain = bench.key_pem(p256), public_pem(p256), bench.chain_pem(p256)
    for data in (key + key, public + key, key + chain, chain + key, public + public, chain + public, public + chain):
        shape, error = describe(put(home / "key", data))
        assert (error, shape["key_id"]) == ("malformed", None)


# The format is set before the file is read; the documentation says that it is null then.
@pytest.mark.parametrize("label", [b"CERTIFICATE", b"PUBLIC KEY", b"PRIVATE KEY"])
def test_what_cannot_be_read_has_no_format(label: bytes, home: pathlib.Path) -> None:
    shape, error = describe(put(home / "key", b"-----BEGIN %b-----\nAAAA\n-----END %b-----\n" % (label, label)))
    assert (error, shape["format"]) == ("malformed", None)


def test_file_that_cannot_be_read_has_no_other_problem_and_its_mode(home: pathlib.Path, p256: t.Any) -> None:
    shape, error = describe(put(home / "key", bench.chain_pem(p256) + bench.key_pem(p256), 0o644))
    assert (error, codes(shape), shape["mode"]) == ("malformed", ["malformed"], "0644")


@pytest.mark.parametrize(
    ("mode", "good"),
    [(0o600, True), (0o400, True), (0o640, True), (0o440, True), (0o700, True), (0o660, False), (0o610, False),
     (0o604, False), (0o602, False), (0o601, False), (0o644, False), (0o777, False)],
)
def test_mode_that_lets_others_at_the_key_is_a_problem(
    mode: int, good: bool, home: pathlib.Path, p256: t.Any
) -> None:
    shape, error = describe(put(home / "key", bench.key_pem(p256), mode))
    assert (codes(shape), error, shape["mode"]) == ([] if good else ["mode_too_open"], None, f"0{mode:o}")
    assert all(f"0{mode:o}" in problem["message"] for problem in shape["problems"])


@pytest.mark.parametrize(
    ("mode", "good"),
    [(0o700, True), (0o755, True), (0o711, True), (0o720, False), (0o702, False), (0o777, False), (0o1777, False)],
)
def test_folder_in_which_others_can_write_is_a_problem(
    mode: int, good: bool, home: pathlib.Path, p256: t.Any
) -> None:
    path = put(home / "key", bench.key_pem(p256))
    home.chmod(mode)
    shape, error = describe(path)
    home.chmod(0o700)
    assert (codes(shape), error) == ([] if good else ["parent_unsafe"], None)
    assert all(str(home) in problem["message"] for problem in shape["problems"])


@bench.needs_root
def test_folder_of_another_user_is_a_problem(
    home: pathlib.Path, p256: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(home / "key", bench.key_pem(p256))
    os.chown(home, bench.FOREIGN, bench.FOREIGN)
    assert codes(describe(path)[0]) == ["parent_unsafe"]
    monkeypatch.setattr(os, "geteuid", lambda: bench.FOREIGN)
    assert codes(describe(path)[0]) == []


def test_folder_behind_a_link_is_what_counts(lineage: pathlib.Path) -> None:
    (lineage.parent / "archive").chmod(0o770)
    assert codes(describe(lineage)[0]) == ["parent_unsafe"]
    (lineage.parent / "archive").chmod(0o700)
    lineage.chmod(0o770)
    assert codes(describe(lineage)[0]) == []
    assert codes(describe(lineage / "privkey.pem")[0]) == []


def test_certificates_and_public_keys_may_be_open(home: pathlib.Path, p256: t.Any, public_pem: Write) -> None:
    home.chmod(0o777)
    for data in (bench.chain_pem(p256), public_pem(p256)):
        assert describe(put(home / "file", data, 0o666))[0]["problems"] == []


@bench.needs_root
def test_user_without_a_name_is_a_number(home: pathlib.Path, p256: t.Any) -> None:
    path = put(home / "key", bench.key_pem(p256))
    os.chown(path, 3_000_000, 3_000_001)
    shape, _error = describe(path)
    assert (shape["owner"], shape["group"]) == ("3000000", "3000001")


def test_missing_library_is_an_error(
    home: pathlib.Path, p256: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(home / "key", writing.write_private_key(p256, format="cosign", passphrase=PASSPHRASE))
    monkeypatch.setitem(_libraries.FLOORS, "nacl", "999")
    shape, error = describe(path, PASSPHRASE)
    assert (error, shape["format"], shape["encrypted"]) == ("library_missing", None, True)


def test_nothing_is_changed(lineage: pathlib.Path) -> None:
    def state() -> list[t.Any]:
        return [
            (str(path), path.lstat().st_ctime_ns, path.lstat().st_mode) for path in sorted(lineage.parent.rglob("*"))
        ]

    (lineage.parent / "archive" / "privkey1.pem").chmod(0o666)
    (lineage.parent / "archive" / ".privkey1.pem.hallmark-new").write_bytes(b"half")
    before = state()
    describe(lineage)
    assert state() == before


def test_file_that_goes_while_it_is_looked_at_is_an_error(
    home: pathlib.Path, p256: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(home / "key", bench.key_pem(p256))
    genuine = inventory.read_key_file

    def read(name: str) -> bytes:
        data = genuine(name)
        path.unlink()
        return data

    monkeypatch.setattr(inventory, "read_key_file", read)
    assert describe(path)[1] == "not_found"


def test_pipe_is_an_error_and_not_waited_for(home: pathlib.Path) -> None:
    os.mkfifo(home / "key")
    shape, error = describe(home / "key")
    assert (error, shape["format"]) == ("not_found", None)
    assert "it is not a regular file" in shape["problems"][0]["message"]


# How keys are kept, and what was expected of them --------------------------------------------------------------------


def expect(path: pathlib.Path, passphrase: bytes | None = None, **wanted: t.Any) -> list[str]:
    given = inventory.Expected(**{name: frozenset(values) for name, values in wanted.items()})
    entry, _error = inventory.describe(str(path), passphrase=passphrase, expected=given)
    assert all(str(path.parent) in problem.message for problem in entry.problems)
    return [problem.code for problem in entry.problems]


def issuers_of(path: pathlib.Path) -> list[str]:
    return [issuer["key_id"] for issuer in describe(path)[0]["certificate"]["issuer_chain"]]


@bench.needs_root
@pytest.mark.parametrize(("uid", "owners", "found"), [
    (0, [], []), (bench.FOREIGN, [], ["owner_unexpected"]), (bench.FOREIGN, [str(bench.FOREIGN)], []),
    (bench.FOREIGN, ["somebody"], ["owner_unexpected"]), (0, ["somebody"], []),
])
def test_owner_that_nobody_expected_is_told(
    uid: int, owners: list[str], found: list[str], home: pathlib.Path, p256: t.Any
) -> None:
    path = put(home / "key", bench.key_pem(p256))
    os.chown(path, uid, -1)
    assert expect(path, owners=owners) == found


@bench.needs_root
def test_owner_of_a_public_file_is_nobodys_business(home: pathlib.Path, p256: t.Any, public_pem: Write) -> None:
    for name, data in (("pub", public_pem(p256)), ("chain", bench.chain_pem(p256))):
        os.chown(put(home / name, data), bench.FOREIGN, -1)
        assert expect(home / name) == []


def test_second_name_is_told(home: pathlib.Path, p256: t.Any) -> None:
    path = put(home / "key", bench.key_pem(p256))
    os.link(path, home / "other")
    (problem,) = describe(path)[0]["problems"]
    assert problem["code"] == "hard_linked"
    assert "2 names" in problem["message"]
    assert f"inode {path.stat().st_ino}" in problem["message"]


@pytest.mark.parametrize(("minutes", "found"), [(-1, ["export_expired"]), (5, []), (None, [])])
@pytest.mark.parametrize("passphrase", [None, PASSPHRASE])
def test_export_that_is_still_there_is_told(
    minutes: int | None, found: list[str], passphrase: bytes | None, home: pathlib.Path, p256: t.Any, private_pem: Write
) -> None:
    """Also of a key that nobody can read: its end stands before it."""
    ends = None if minutes is None else datetime.datetime.now(
        datetime.timezone.utc
    ) + datetime.timedelta(minutes=minutes)
    path = put(home / "key", lease.Lease("0" * 16, ends).encode() + private_pem(p256, passphrase))
    assert expect(path) == found
    assert codes(describe(path)[0]) == found


@pytest.mark.parametrize(("mount", "swaps", "found"), [
    (storage.Mount("/run", "tmpfs", "x"), ["/dev/sda2"], ["swap_in_clear"]),
    (storage.Mount("/run", "tmpfs", "x"), [], []),
    (storage.Mount("/run", "ramfs", "x"), ["/dev/sda2"], []), (storage.Mount("/", "ext4", "x"), ["/dev/sda2"], []),
    (None, ["/x"], []),
])
def test_memory_that_may_be_swapped_is_told(
    mount: storage.Mount | None, swaps: list[str], found: list[str], home: pathlib.Path, p256: t.Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(storage, "mount_of", lambda path: mount)
    monkeypatch.setattr(storage, "clear_swaps", lambda: swaps)
    path = put(home / "key", bench.key_pem(p256))
    shape = describe(path)[0]
    assert codes(shape) == found
    assert all("/dev/sda2" in problem["message"] for problem in shape["problems"])


@pytest.mark.parametrize("usage", [None, ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CODE_SIGNING])
def test_certificate_for_tls_only_is_told(usage: t.Any, home: pathlib.Path, lineage: pathlib.Path, p256: t.Any) -> None:
    chain = bench.chain_pem(p256, usage=usage)
    put(home / "archive" / "fullchain1.pem", chain, 0o644)
    found = ["tls_only"] if usage == ExtendedKeyUsageOID.SERVER_AUTH else []
    assert expect(lineage) == expect(put(home / "chain", chain)) == found


def test_key_that_is_not_the_pinned_one_is_told(
    home: pathlib.Path, lineage: pathlib.Path, p256: t.Any, other_p256: t.Any, public_pem: Write, private_pem: Write
) -> None:
    put(home / "key", bench.key_pem(p256))
    put(home / "pub", public_pem(p256))
    put(home / "chain", bench.chain_pem(p256))
    for path in (home / "key", home / "pub", home / "chain", lineage):
        assert expect(path, key_ids=[id_of(p256)]) == []
        assert expect(path, key_ids=[id_of(other_p256), id_of(p256)]) == []
        assert expect(path, key_ids=[id_of(other_p256)]) == ["key_mismatch"]
        assert expect(path) == []
    # Of an encrypted key nobody can tell; with its passphrase, one can.
    locked = put(home / "locked", private_pem(p256, PASSPHRASE))
    assert expect(locked, key_ids=[id_of(other_p256)]) == []
    assert expect(locked, PASSPHRASE, key_ids=[id_of(other_p256)]) == ["key_mismatch"]


def test_issuer_that_was_not_recorded_is_told(home: pathlib.Path, lineage: pathlib.Path, p256: t.Any) -> None:
    recorded = issuers_of(lineage)
    assert expect(lineage, issuer_key_ids=recorded) == []
    assert expect(lineage, issuer_key_ids=["0" * 64, *recorded]) == []
    assert expect(lineage, issuer_key_ids=["0" * 64]) == ["issuer_changed"]
    # A renewal by another intermediate; and one that came without any.
    put(home / "archive" / "fullchain1.pem", bench.chain_pem(p256, serial=2), 0o644)
    assert expect(lineage, issuer_key_ids=recorded) == ["issuer_changed"]
    leaf = bench.chain_pem(p256).partition(b"-----END CERTIFICATE-----\n")
    put(home / "archive" / "fullchain1.pem", leaf[0] + leaf[1], 0o644)
    entry, _error = inventory.describe(
        str(lineage), passphrase=None, expected=inventory.Expected(issuer_key_ids=frozenset(recorded))
    )
    assert "they are missing" in entry.problems[0].message
    assert expect(put(home / "key", bench.key_pem(p256)), issuer_key_ids=recorded) == []


@pytest.fixture
def etc(home: pathlib.Path, p256: t.Any) -> pathlib.Path:
    """The folder of Certbot, with a lineage live/x."""
    etc = home / "etc"
    (etc / "live" / "x").mkdir(parents=True, mode=0o700)
    (etc / "keys").mkdir(mode=0o700)
    for path in (etc, etc / "live"):
        path.chmod(0o700)
    put(etc / "live" / "x" / "privkey.pem", bench.key_pem(p256))
    put(etc / "live" / "x" / "fullchain.pem", bench.chain_pem(p256))
    return etc


def test_copies_of_certbot_are_told(
    etc: pathlib.Path, home: pathlib.Path, p256: t.Any, other_p256: t.Any, private_pem: Write
) -> None:
    live = etc / "live" / "x"
    put(etc / "keys" / "0001_key-certbot.pem", bench.key_pem(other_p256))
    assert codes(describe(live)[0]) == []
    put(etc / "keys" / "0000_key-certbot.pem", bench.key_pem(p256))
    (home / "link").symlink_to(live)
    for path in (live, f"{live}/", live / ".", home / "link"):
        (problem,) = describe(t.cast(t.Any, path))[0]["problems"]
        assert problem["code"] == "extra_copies"
        assert str(etc / "keys" / "0000_key-certbot.pem") in problem["message"]
    put(live / "privkey.pem", private_pem(p256, PASSPHRASE))
    assert codes(describe(live)[0]) == []
    assert codes(describe(live, PASSPHRASE)[0]) == ["extra_copies"]


@pytest.mark.parametrize("kind", ["missing", "file", "link"])
def test_lineage_without_a_folder_of_keys_has_no_copies(kind: str, etc: pathlib.Path, p256: t.Any) -> None:
    (etc / "keys").rmdir()
    if kind == "file":
        (etc / "keys").touch()
    elif kind == "link":
        (etc / "keys").symlink_to(etc / "nowhere")
    assert describe(etc / "live" / "x")[1] is None
    assert codes(describe(etc / "live" / "x")[0]) == []
