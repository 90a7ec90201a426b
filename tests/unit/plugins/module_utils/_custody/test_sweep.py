# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The search for copies: whatever they are called, and wherever links lead."""

from __future__ import annotations

import os
import pathlib
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._custody import sweep
from ansible_collections.hallmark.signing.plugins.module_utils._custody.sweep import Copy
from ansible_collections.hallmark.signing.plugins.module_utils._errors import CustodyError
from ansible_collections.hallmark.signing.plugins.module_utils._keys import lease, writing
from ansible_collections.hallmark.signing.plugins.module_utils._keys.fingerprint import key_id
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._custody import custody_bench as bench
from cryptography.hazmat.primitives import serialization

PASSPHRASE = b"canary passphrase"
Write = t.Callable[..., bytes]


def id_of(key: t.Any) -> str:
    return key_id(key.public_key())


def der(key: t.Any, form: t.Any) -> bytes:
    return t.cast(bytes, key.private_bytes(serialization.Encoding.DER, form, serialization.NoEncryption()))


def look(home: pathlib.Path, passphrase: bytes | None = None) -> dict[str, tuple[set[str], int]]:
    found = sweep.copies([str(home)], passphrase=passphrase)
    return {os.path.relpath(copy.path, home): (set(copy.key_ids), copy.unknown) for copy in found}


def test_copies_are_found_in_every_shape(
    home: pathlib.Path, p256: t.Any, other_p256: t.Any, rsa2048: t.Any, private_pem: Write, public_pem: Write
) -> None:
    plain, own = private_pem(p256), {id_of(p256)}
    pkcs8, traditional = serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL
    rows: dict[str, tuple[bytes, t.Any]] = {
        "plain": (plain, (own, 0)), "sec1": (private_pem(p256, traditional=True), (own, 0)),
        "parameters": (
            b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n" + plain, (own, 0)
        ),
        "export": (lease.Lease("0" * 16, None, True).encode() + plain, (own, 0)),
        "in a text": (b"key: |\n  " + plain.replace(b"\n", b"\n  "), (own, 0)),
        "windows": (plain.replace(b"\n", b"\r\n"), (own, 0)),
        "with a chain": (bench.chain_pem(p256) + plain, (own, 0)), "twice": (plain + plain, (own, 0)),
        "two": (plain + private_pem(other_p256), ({id_of(p256), id_of(other_p256)}, 0)),
        "pkcs1": (private_pem(rsa2048, traditional=True), ({id_of(rsa2048)}, 0)),
        "der": (der(p256, pkcs8), (own, 0)), "sec1 der": (der(p256, traditional), (own, 0)),
        "pkcs1 der": (der(rsa2048, traditional), ({id_of(rsa2048)}, 0)),
        "locked": (private_pem(p256, PASSPHRASE), (set(), 1)),
        "headers": (private_pem(p256, PASSPHRASE, traditional=True), (set(), 1)),
        "cosign": (writing.write_private_key(p256, format="cosign", passphrase=PASSPHRASE), (set(), 1)),
        "locked and plain": (private_pem(other_p256, PASSPHRASE) + plain, (own, 1)),
        "broken and plain": (b"-----BEGIN PRIVATE KEY-----\nAAAA\n" + plain, (own, 1)),
        "cut": (plain[:-40], (set(), 1)), "in JSON": (plain.replace(b"\n", b"\\n"), (set(), 1)),
        "openssh": (b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n", (set(), 1)),
        "public": (public_pem(p256), None), "chain": (bench.chain_pem(p256), None), "empty": (b"", None),
        "text": (b"PRIVATE KEY-----", None),
        "begin": (b"-----BEGIN \nPRIVATE KEY-----", None), "asn1": (b"\x30\x03\x02\x01\x00", None),
        "big": (b"\0" * (3 << 20), None),
        "big copy": (plain + b"\0" * (3 << 20), (own, 0)),
        "cut by the limit": (b"\n" * ((1 << 20) - 100) + plain, (set(), 1)),
    }
    for name, (data, _found) in rows.items():
        (home / name).write_bytes(data)
    assert look(home) == {name: found for name, (_data, found) in rows.items() if found}
    opened = look(home, PASSPHRASE)
    assert opened["locked"] == opened["cosign"] == (own, 0)
    assert opened["headers"][0] == own
    assert opened["locked and plain"] == ({id_of(p256), id_of(other_p256)}, 0)
    # Looking changes nothing.
    assert sorted(os.listdir(home)) == sorted(rows)


def test_order_is_that_of_folders_and_names(home: pathlib.Path, p256: t.Any) -> None:
    for name in ("b", "a/z", "a/b/c", "c"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(bench.key_pem(p256))
    found = [copy.path for copy in sweep.copies([str(home / "c-missing"), str(home)])]
    assert found == [str(home / name) for name in ("a/b/c", "a/z", "b", "c")]
    assert [copy.path for copy in sweep.copies([str(home / "a"), str(home / "a" / "b")])][-1] == str(home / "a/b/c")


def test_what_is_taken_is_removed_and_nothing_else(home: pathlib.Path, p256: t.Any, other_p256: t.Any) -> None:
    (home / "deeper").mkdir()
    for name, key in (("own", p256), ("deeper/own", p256), ("other", other_p256)):
        (home / name).write_bytes(bench.key_pem(key))
    os.link(home / "own", home / "second name")
    sweep.copies([str(home)], take=lambda copy: id_of(p256) in copy.key_ids)
    assert sorted(str(path.relative_to(home)) for path in home.rglob("*")) == ["deeper", "other"]


def test_links_and_what_is_no_file_are_left(home: pathlib.Path, p256: t.Any) -> None:
    outside = home.parent / "outside"
    outside.mkdir()
    (outside / "key").write_bytes(bench.key_pem(p256))
    (home / "folder").symlink_to(outside)
    (home / "file").symlink_to(outside / "key")
    (home / "dangling").symlink_to("nowhere")
    (home / "circle").symlink_to(home)
    os.mkfifo(home / "pipe")
    assert sweep.copies([str(home)], take=lambda copy: True) == []
    assert (outside / "key").exists()


@bench.needs_root
def test_devices_are_not_even_opened(home: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening some of them does something."""
    os.mknod(home / "device", 0o20600, os.makedev(1, 3))
    opened = bench_spy(monkeypatch)
    assert sweep.copies([str(home)]) == []
    assert "device" not in opened


def bench_spy(monkeypatch: pytest.MonkeyPatch) -> list[t.Any]:
    names: list[t.Any] = []
    genuine = os.open

    def spying(path: t.Any, *more: t.Any, **options: t.Any) -> int:
        names.append(path)
        return genuine(path, *more, **options)

    monkeypatch.setattr(os, "open", spying)
    return names


@pytest.mark.parametrize("kind", ["link", "file", "pipe"])
def test_what_is_no_folder_is_refused(kind: str, home: pathlib.Path, p256: t.Any) -> None:
    """A link would find nothing, in silence."""
    path = home / "named"
    (home / "folder").mkdir()
    (home / "folder" / "key").write_bytes(bench.key_pem(p256))
    {
        "link": lambda: path.symlink_to(home / "folder"), "file": lambda: path.write_bytes(b""),
        "pipe": lambda: os.mkfifo(path)
    }[kind]()
    with pytest.raises(CustodyError) as caught:
        sweep.copies([str(path)], take=lambda copy: True)
    assert (caught.value.code, caught.value.object) == ("input_invalid", str(path))
    assert (home / "folder" / "key").exists()


def test_missing_folder_holds_none(home: pathlib.Path) -> None:
    assert sweep.copies([str(home / "missing"), str(home / "missing" / "deeper")]) == []


def test_what_cannot_be_looked_into_is_told(p256: t.Any) -> None:
    with bench.folder_of_ordinary_user() as folder:
        def work() -> list[Copy]:
            (folder / "closed").mkdir(mode=0o000)
            (folder / "unreadable").write_bytes(b"x")
            (folder / "unreadable").chmod(0o000)
            try:
                return sweep.copies([str(folder)])
            finally:
                (folder / "closed").chmod(0o700)

        assert bench.as_ordinary_user(work) == [
            Copy(str(folder / name), frozenset(), 1) for name in ("closed", "unreadable")
        ]


def test_depth_does_not_end_the_search(home: pathlib.Path, p256: t.Any) -> None:
    """Anybody can make folders as deep as they like."""
    there = os.open(home, os.O_RDONLY)
    for _level in range(300):
        os.mkdir("d", dir_fd=there)
        deeper = os.open("d", os.O_RDONLY, dir_fd=there)
        os.close(there)
        there = deeper
    os.close(there)
    (home / "z").write_bytes(bench.key_pem(p256))
    found = sweep.copies([str(home)])
    assert [copy.unknown for copy in found] == [1, 0]
    assert found[0].path == os.path.join(home, *["d"] * 101)
    assert found[1].path == str(home / "z")


def test_too_many_files_are_an_error(home: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "_MAX_FILES", 3)
    for name in "abc":
        (home / name).touch()
    assert sweep.copies([str(home)]) == []
    (home / "d").touch()
    with pytest.raises(CustodyError) as caught:
        sweep.copies([str(home)])
    assert caught.value.code == "limit_exceeded"


def test_file_that_goes_away_meanwhile_is_no_error(home: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "a").touch()
    (home / "b").mkdir()
    genuine = os.listdir
    monkeypatch.setattr(os, "listdir", lambda fd: [*genuine(fd), "gone"])
    assert sweep.copies([str(home)]) == []
    names = os.open

    def opening(path: t.Any, *more: t.Any, **options: t.Any) -> int:
        if path in ("a", "b"):
            raise FileNotFoundError
        return names(path, *more, **options)

    monkeypatch.setattr(os, "open", opening)
    assert sweep.copies([str(home)]) == []


def test_file_that_becomes_a_pipe_is_not_waited_for(home: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "a").touch()
    genuine = os.open

    def opening(path: t.Any, *more: t.Any, **options: t.Any) -> int:
        if path == "a":
            (home / "a").unlink()
            os.mkfifo(home / "a")
        return genuine(path, *more, **options)

    monkeypatch.setattr(os, "open", opening)
    assert sweep.copies([str(home)]) == []


def test_copy_that_cannot_be_removed_is_told(home: pathlib.Path, p256: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "a").write_bytes(bench.key_pem(p256))

    def unlink(name: str, **_more: t.Any) -> None:
        raise PermissionError(1, "Operation not permitted", name)

    monkeypatch.setattr(os, "unlink", unlink)
    with pytest.raises(CustodyError) as caught:
        sweep.copies([str(home)], take=lambda copy: True)
    assert (caught.value.code, caught.value.object) == ("write_failed", str(home / "a"))
    assert caught.value.cause == "Operation not permitted"


def test_removal_is_on_the_medium(home: pathlib.Path, p256: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "a").write_bytes(bench.key_pem(p256))
    synced = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    sweep.copies([str(home)], take=lambda copy: True)
    assert synced == [str(home)]
