# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the signer whose key is a file."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import pathlib
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import KeyFileError
from ansible_collections.hallmark.signing.plugins.module_utils._keys import algorithms, files, lease, making
from ansible_collections.hallmark.signing.plugins.module_utils._keys.signers import file, protocol
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._custody import custody_bench as bench
from cryptography.hazmat.primitives.asymmetric import ec

PASSPHRASE = b"correct horse"
OTHER_ID = "0" * 64
Write = t.Callable[..., bytes]


@pytest.fixture
def key_file(tmp_path: pathlib.Path, p256: t.Any, private_pem: Write) -> str:
    path = tmp_path / "key.pem"
    path.write_bytes(private_pem(p256))
    return str(path)


def _refused(path: str, passphrase: bytes | None = None, key_id: str | None = None) -> KeyFileError:
    with pytest.raises(KeyFileError) as caught:
        file.load(path, passphrase=passphrase, key_id=key_id)
    return caught.value


@pytest.mark.parametrize("fixture", ["p256", "p384", "p521", "rsa2048", "ed25519_key"])
def test_signer_signs_with_the_key_of_the_file(
    fixture: str, request: pytest.FixtureRequest, tmp_path: pathlib.Path, private_pem: Write, public_pem: Write
) -> None:
    key = request.getfixturevalue(fixture)
    path = tmp_path / "key.pem"
    path.write_bytes(private_pem(key, PASSPHRASE))
    signer: protocol.Signer = file.load(str(path), passphrase=PASSPHRASE, key_id=None)
    assert signer.public.pem.encode() == public_pem(key)
    signature = signer.sign(b"message")
    assert algorithms.verifies(key.public_key(), signature=signature, message=b"message")


def test_file_is_read_once(key_file: str) -> None:
    signer = file.load(key_file, passphrase=None, key_id=None)
    os.remove(key_file)
    assert signer.sign(b"message")


def test_expected_key_is_taken_and_another_refused(key_file: str) -> None:
    found = file.load(key_file, passphrase=None, key_id=None).public.key_id
    assert file.load(key_file, passphrase=None, key_id=found).public.key_id == found
    error = _refused(key_file, key_id=OTHER_ID)
    assert (error.code, error.object) == ("key_mismatch", key_file)
    assert error.cause == f"its key id is {found}, expected {OTHER_ID}"


def test_signer_signs_in_the_scheme_it_is_asked_for(
    tmp_path: pathlib.Path, p384: t.Any, private_pem: Write
) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(private_pem(p384))
    signer = file.load(str(path), passphrase=None, key_id=None)
    assert signer.chooses_scheme
    for scheme in ("ecdsa-sha256", "ecdsa-sha384", "ecdsa-sha512"):
        signature = signer.sign(b"message", scheme=scheme)
        assert making.scheme_of(p384.public_key(), signature, b"message") == scheme
    with pytest.raises(KeyFileError) as caught:
        signer.sign(b"message", scheme="ed25519")
    assert caught.value.code == "unsupported_algorithm"


def test_pointer_beside_the_key_is_obeyed(tmp_path: pathlib.Path, p256: t.Any, private_pem: Write) -> None:
    path = tmp_path / "release.key"
    path.write_bytes(private_pem(p256))
    key_id = file.load(str(path), passphrase=None, key_id=None).public.key_id
    beside = tmp_path / "release.pointer.json"
    beside.write_text(f'{{"key_id": "{key_id}", "fence": 1, "suspended": false}}')
    assert file.load(str(path), passphrase=None, key_id=None).public.key_id == key_id
    beside.write_text(f'{{"key_id": "{"0" * 64}", "fence": 2, "suspended": false}}')
    assert _refused(str(path)).code == "key_fenced"
    # One that leads nowhere is none that allows everything.
    beside.unlink()
    beside.symlink_to(tmp_path / "none")
    assert _refused(str(path)).code == "not_found"


def test_signer_needs_no_preparation(key_file: str) -> None:
    signer = file.load(key_file, passphrase=None, key_id=None)
    signer.prepare([b"one", b"two"])
    assert signer.sign(b"three")


def test_key_of_another_kind_is_refused(tmp_path: pathlib.Path, private_pem: Write) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(private_pem(ec.generate_private_key(ec.SECP256K1())))
    error = _refused(str(path))
    assert (error.code, error.object) == ("unsupported_algorithm", str(path))


def test_passphrase_reaches_the_key(
    tmp_path: pathlib.Path, p256: t.Any, private_pem: Write, assert_hides: t.Callable[..., None]
) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(private_pem(p256, PASSPHRASE))
    for passphrase in (None, b"incorrect mule"):
        error = _refused(str(path), passphrase)
        assert (error.code, error.object) == ("passphrase_invalid", str(path))
        assert_hides(error, PASSPHRASE, b"incorrect mule", path.read_bytes())


def test_repr_of_a_signer_shows_nothing(key_file: str) -> None:
    assert repr(file.load(key_file, passphrase=None, key_id=None)) == "FileSigner()"


def test_signer_cannot_be_changed(key_file: str) -> None:
    signer = file.load(key_file, passphrase=None, key_id=None)
    for what in (signer, signer.private, signer.public, signer.public.algorithm):
        for name in vars(what):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(what, name, None)


def test_missing_file_and_directory_are_not_found(tmp_path: pathlib.Path) -> None:
    for path, cause in ((tmp_path / "nothing", "No such file or directory"), (tmp_path, "Is a directory")):
        error = _refused(str(path))
        assert (error.code, error.object, error.cause) == ("not_found", str(path), cause)
        assert isinstance(error.__cause__, OSError)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_unreadable_file_is_not_found(key_file: str) -> None:
    os.chmod(key_file, 0)
    error = _refused(key_file)
    assert (error.code, error.cause) == ("not_found", "Permission denied")


def test_path_that_cannot_exist_is_not_found() -> None:
    assert _refused("/srv/\x00key").code == "not_found"


def test_files_up_to_1_mib_are_read(tmp_path: pathlib.Path) -> None:
    assert files.MAXIMUM_KEY_FILE == 1048576
    path = tmp_path / "large"
    for size in (0, 1048576):
        path.write_bytes(b"\n" * size)
        assert files.read_key_file(str(path)) == b"\n" * size
    path.write_bytes(b"\n" * 1048577)
    with pytest.raises(KeyFileError, match="it is larger than 1 MiB") as caught:
        files.read_key_file(str(path))
    assert (caught.value.code, caught.value.object) == ("malformed", str(path))


@pytest.mark.parametrize("kind", ["device", "pipe"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: pathlib.Path, kind: str) -> None:
    path = "/dev/zero"
    if kind == "pipe":
        path = str(tmp_path / "pipe")
        os.mkfifo(path)
    error = _refused(path)
    assert (error.code, error.object, error.cause) == ("not_found", path, "it is not a regular file")


# open() does not close a descriptor it was given when it refuses a folder.
def test_no_descriptor_is_left_open(tmp_path: pathlib.Path, key_file: str) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    for path in (key_file, "/dev/zero", str(tmp_path)):
        with contextlib.suppress(KeyFileError):
            file.read_key_file(path)
    assert sorted(os.listdir("/proc/self/fd")) == before


# Exported copies -----------------------------------------------------------------------------------------------------


def exported(path: pathlib.Path, data: bytes, *, minutes: int | None = None, once: bool = False) -> str:
    """Write an exported copy that ends in so many minutes."""
    ends = None if minutes is None else datetime.datetime.now(
        datetime.timezone.utc
    ) + datetime.timedelta(minutes=minutes)
    path.write_bytes(lease.Lease("0" * 16, ends, once).encode() + data)
    return str(path)


@pytest.mark.parametrize("passphrase", [None, PASSPHRASE])
def test_copy_signs_until_its_end(
    passphrase: bytes | None, tmp_path: pathlib.Path, p256: t.Any, private_pem: Write
) -> None:
    data = private_pem(p256, passphrase)
    path = exported(tmp_path / "copy", data, minutes=5)
    assert file.load(path, passphrase=passphrase, key_id=None).sign(b"message")
    assert os.path.exists(path)
    path = exported(tmp_path / "copy", data, minutes=-1)
    assert _refused(path, passphrase).code == "export_expired"


def test_changed_end_is_refused(tmp_path: pathlib.Path, p256: t.Any, private_pem: Write) -> None:
    path = tmp_path / "copy"
    path.write_bytes(b"hallmark-export: 0 expires whenever\n" + private_pem(p256))
    assert _refused(str(path)).code == "malformed"


def test_copy_for_one_use_is_gone_before_it_signs(tmp_path: pathlib.Path, p256: t.Any, private_pem: Write) -> None:
    path = exported(tmp_path / "copy", private_pem(p256), minutes=5, once=True)
    file.load(path, passphrase=None, key_id=None, dry_run=True)
    assert os.path.exists(path)
    signer = file.load(path, passphrase=None, key_id=None)
    assert not os.path.exists(path)
    assert signer.sign(b"message")
    assert _refused(path).code == "not_found"


@pytest.mark.parametrize(
    "options", [{"passphrase": b"wrong"}, {"passphrase": None}, {"passphrase": PASSPHRASE, "key_id": OTHER_ID}]
)
def test_copy_that_cannot_be_used_is_not_used_up(
    options: dict[str, t.Any], tmp_path: pathlib.Path, p256: t.Any, private_pem: Write
) -> None:
    path = exported(tmp_path / "copy", private_pem(p256, PASSPHRASE), once=True)
    _refused(path, **options)
    assert os.path.exists(path)


def test_of_many_processes_one_uses_it(tmp_path: pathlib.Path, p256: t.Any, private_pem: Write) -> None:
    for _round in range(10):
        path = exported(tmp_path / "copy", private_pem(p256), once=True)

        def use(path: str = path) -> bool:
            try:
                file.load(path, passphrase=None, key_id=None)
            except KeyFileError:
                return False
            return True

        waits = [bench.in_child(use) for _process in range(4)]
        assert [wait() for wait in waits].count(True) == 1
