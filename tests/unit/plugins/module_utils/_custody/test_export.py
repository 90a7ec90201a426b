# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of copying a key with the certificate that belongs to it."""

from __future__ import annotations

import os
import pathlib
import stat
import threading
import time
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._custody import export, export_record
from ansible_collections.hallmark.signing.plugins.module_utils._custody import source as sources
from ansible_collections.hallmark.signing.plugins.module_utils._custody.key_file import KeyFile, Wanted
from ansible_collections.hallmark.signing.plugins.module_utils._custody.private_file import Attributes
from ansible_collections.hallmark.signing.plugins.module_utils._errors import CustodyError, HallmarkError, KeyFileError
from ansible_collections.hallmark.signing.plugins.module_utils._keys import private_key, writing
from ansible_collections.hallmark.signing.plugins.module_utils._keys.fingerprint import key_id
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._custody import custody_bench as bench

PASSPHRASE = b"canary passphrase"
SOURCE_PASSPHRASE = b"canary of the source"
WANTED = Wanted("pem", None, Attributes(0o600))
Hides = t.Callable[..., None]
Write = t.Callable[..., bytes]


class Lineage:
    """A folder as Certbot makes it: links in live, files in archive."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.live, self.archive = folder / "live", folder / "archive"
        self.live.mkdir(mode=0o700)
        self.archive.mkdir(mode=0o700)
        self.version = 0

    @property
    def source(self) -> sources.Source:
        """What is exported."""
        return sources.lineage(str(self.live))

    def write(self, key: t.Any, chain: bytes) -> None:
        """Write the next version; no link points to it yet."""
        self.version += 1
        (self.archive / f"privkey{self.version}.pem").write_bytes(bench.key_pem(key))
        (self.archive / f"fullchain{self.version}.pem").write_bytes(chain)

    def unlink(self, *names: str) -> None:
        """Take links away, as Certbot does before it sets new ones."""
        for name in names:
            (self.live / f"{name}.pem").unlink()

    def link(self, *names: str) -> None:
        """Let links point to the newest version."""
        for name in names:
            (self.live / f"{name}.pem").symlink_to(f"../archive/{name}{self.version}.pem")

    def switch(self, *names: str) -> None:
        """Do both."""
        self.unlink(*names)
        self.link(*names)


@pytest.fixture
def lineage(home: pathlib.Path, p256: t.Any) -> Lineage:
    """A lineage with p256."""
    made = Lineage(home)
    made.write(p256, bench.chain_pem(p256))
    made.link("privkey", "fullchain")
    return made


def run(source: sources.Source, dest: pathlib.Path, wish: Wanted = WANTED, **more: t.Any) -> tuple[KeyFile, bool]:
    options = {"chain_dest": None, "dry_run": False, "same_format": True, **more}
    if options["chain_dest"] is not None:
        options["chain_dest"] = str(options["chain_dest"])
    exports = export.Exports(export_record.default_path(), dry_run=options.pop("dry_run"))
    done = exports.make(source, str(dest), wish, export.Terms(), **options)
    return done.copied, done.chain_changed


def refused(kind: type[HallmarkError], code: str, action: t.Callable[[], t.Any]) -> HallmarkError:
    with pytest.raises(kind) as caught:
        action()
    assert caught.value.code == code
    return caught.value


def id_of(key: t.Any) -> str:
    return key_id(key.public_key())


def mode_of(path: pathlib.Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def later(action: t.Callable[[], None], seconds: float = 0.5) -> threading.Thread:
    def work() -> None:
        time.sleep(seconds)
        action()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


# Reading -------------------------------------------------------------------------------------------------------------


def test_lineage_is_key_and_full_chain() -> None:
    source = sources.lineage("/etc/letsencrypt/live/x", passphrase=PASSPHRASE)
    assert (source.private_key_path, source.chain_path, source.passphrase) == (
        "/etc/letsencrypt/live/x/privkey.pem", "/etc/letsencrypt/live/x/fullchain.pem", PASSPHRASE,
    )


def test_source_and_pair_show_nothing_private(lineage: Lineage, p256: t.Any) -> None:
    shown = repr(sources.lineage("x", passphrase=PASSPHRASE)) + repr(sources.read_pair(lineage.source))
    assert "canary" not in shown
    assert bench.key_pem(p256).decode().splitlines()[1] not in shown


def test_pair_that_belongs_together_is_read_at_once(
    lineage: Lineage, p256: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _seconds: pytest.fail("it waits"))
    pair = sources.read_pair(lineage.source)
    assert pair.private.public.key_id == id_of(p256)
    assert pair.chain == (lineage.live / "fullchain.pem").read_bytes()


def test_key_without_chain_is_read_alone(lineage: Lineage, p256: t.Any) -> None:
    pair = sources.read_pair(sources.Source(str(lineage.live / "privkey.pem"), None))
    assert (pair.private.public.key_id, pair.chain) == (id_of(p256), None)


@pytest.mark.parametrize("first", ["privkey", "fullchain"])
def test_renewal_under_way_is_waited_for(first: str, lineage: Lineage, other_p256: t.Any) -> None:
    last = "fullchain" if first == "privkey" else "privkey"
    lineage.write(other_p256, bench.chain_pem(other_p256))
    lineage.switch(first)
    thread = later(lambda: lineage.switch(last))
    try:
        pair = sources.read_pair(lineage.source)
    finally:
        thread.join()
    assert pair.private.public.key_id == id_of(other_p256)
    assert pair.chain == (lineage.archive / "fullchain2.pem").read_bytes()


# Certbot takes a link away before it sets the new one (storage.py, _update_link_to): for a moment there is none.
@pytest.mark.parametrize("name", ["privkey", "fullchain"])
def test_link_that_is_missing_during_a_renewal_is_waited_for(name: str, lineage: Lineage, other_p256: t.Any) -> None:
    lineage.write(other_p256, bench.chain_pem(other_p256))
    lineage.unlink(name)
    lineage.switch(*({"privkey", "fullchain"} - {name}))
    thread = later(lambda: lineage.link(name), 0.3)
    try:
        assert sources.read_pair(lineage.source, delay=0.1).private.public.key_id == id_of(other_p256)
    finally:
        thread.join()


def test_pair_that_never_matches_is_refused_after_three_seconds(
    lineage: Lineage, other_p256: t.Any, home: pathlib.Path, monkeypatch: pytest.MonkeyPatch, assert_hides: Hides
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    lineage.write(other_p256, bench.chain_pem(other_p256))
    lineage.switch("privkey")
    error = refused(KeyFileError, "key_mismatch", lambda: run(
        lineage.source, home / "out" / "key", chain_dest=home / "out" / "chain"
    ))
    assert 2.5 < sum(pauses) <= 3
    assert max(pauses) <= 0.5
    assert error.object == str(lineage.live / "privkey.pem")
    assert str(lineage.live / "fullchain.pem") in error.cause
    assert_hides(error, bench.key_pem(other_p256))
    assert not (home / "out").exists()


def test_delay_between_attempts_can_be_set(
    lineage: Lineage, other_p256: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    lineage.write(other_p256, bench.chain_pem(other_p256))
    lineage.switch("privkey")
    refused(KeyFileError, "key_mismatch", lambda: sources.read_pair(lineage.source, delay=0.01))
    assert pauses == [0.01] * 9


@pytest.mark.parametrize(("name", "code"), [("privkey", "not_found"), ("fullchain", "not_found")])
def test_missing_file_is_told(name: str, code: str, lineage: Lineage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    lineage.unlink(name)
    error = refused(KeyFileError, code, lambda: sources.read_pair(lineage.source))
    assert error.object == str(lineage.live / f"{name}.pem")


@pytest.mark.parametrize("name", ["privkey", "fullchain"])
def test_malformed_file_is_told(name: str, lineage: Lineage, home: pathlib.Path) -> None:
    (lineage.archive / f"{name}1.pem").write_bytes(b"rubbish")
    error = refused(KeyFileError, "malformed", lambda: run(lineage.source, home / "key"))
    assert error.object == str(lineage.live / f"{name}.pem")
    assert not (home / "key").exists()


# Copying -------------------------------------------------------------------------------------------------------------


def test_key_and_chain_are_copied(lineage: Lineage, p256: t.Any, home: pathlib.Path) -> None:
    copied, chain_changed = run(lineage.source, home / "out" / "key", chain_dest=home / "out" / "chain")
    assert (copied.changed, copied.former_mode, chain_changed) == (True, None, True)
    assert copied.facts() == {
        "key_id": id_of(p256), "algorithm": "ecdsa-p256", "format": "pem", "encrypted": False, "mode": "0600",
    }
    assert bench.private_files(home / "out") == {
        "key": (0o600, bench.key_pem(p256)), "chain": (0o644, (lineage.live / "fullchain.pem").read_bytes()),
    }
    again, chain_again = run(lineage.source, home / "out" / "key", chain_dest=home / "out" / "chain")
    assert (again.changed, chain_again) == (False, False)


def test_chain_is_not_copied_unasked(lineage: Lineage, home: pathlib.Path) -> None:
    copied, chain_changed = run(lineage.source, home / "out" / "key")
    assert (copied.changed, chain_changed, os.listdir(home / "out")) == (True, False, ["key"])


def test_dry_run_copies_nothing(lineage: Lineage, p256: t.Any, home: pathlib.Path) -> None:
    copied, chain_changed = run(lineage.source, home / "out" / "key", chain_dest=home / "out" / "chain", dry_run=True)
    assert (copied.changed, copied.facts()["key_id"], chain_changed) == (True, id_of(p256), True)
    assert not (home / "out").exists()


def test_attributes_of_the_copy_converge(lineage: Lineage, home: pathlib.Path) -> None:
    run(lineage.source, home / "key", chain_dest=home / "chain")
    (home / "key").chmod(0o666)
    (home / "chain").chmod(0o600)
    wish = Wanted("pem", None, Attributes(0o400))
    planned = run(lineage.source, home / "key", wish, chain_dest=home / "chain", dry_run=True)
    assert (mode_of(home / "key"), mode_of(home / "chain")) == (0o666, 0o600)
    done = run(lineage.source, home / "key", wish, chain_dest=home / "chain")
    assert (bench.comparable(done[0]), done[1]) == (bench.comparable(planned[0]), planned[1])
    assert (planned[0].changed, planned[0].former_mode, planned[0].mode, planned[1]) == (True, "0666", "0400", True)
    assert (mode_of(home / "key"), mode_of(home / "chain")) == (0o400, 0o644)


def test_expected_key_id_is_kept_to(
    lineage: Lineage, p256: t.Any, other_p256: t.Any, home: pathlib.Path
) -> None:
    for expected, code in ((id_of(other_p256), "key_mismatch"), ("no key id", "input_invalid")):
        wish = Wanted("pem", None, Attributes(0o600), key_id=expected)
        refused(KeyFileError, code, lambda wish=wish: run(lineage.source, home / "out" / "key", wish))
        assert not (home / "out").exists()
    run(lineage.source, home / "key", Wanted("pem", None, Attributes(0o600), key_id=id_of(p256)))
    assert (home / "key").exists()


@pytest.mark.parametrize("dry_run", [False, True])
def test_copy_of_another_key_is_never_overwritten(
    dry_run: bool, lineage: Lineage, other_p256: t.Any, home: pathlib.Path
) -> None:
    (home / "key").write_bytes(bench.key_pem(other_p256))
    refused(KeyFileError, "key_mismatch", lambda: run(lineage.source, home / "key", dry_run=dry_run))
    assert (home / "key").read_bytes() == bench.key_pem(other_p256)


def test_newer_chain_of_the_same_key_replaces_the_older(lineage: Lineage, p256: t.Any, home: pathlib.Path) -> None:
    run(lineage.source, home / "key", chain_dest=home / "chain")
    former = (home / "chain").read_bytes()
    lineage.write(p256, bench.chain_pem(p256, serial=2))
    lineage.switch("privkey", "fullchain")
    copied, chain_changed = run(lineage.source, home / "key", chain_dest=home / "chain", dry_run=True)
    assert (copied.changed, chain_changed, (home / "chain").read_bytes()) == (False, True, former)
    copied, chain_changed = run(lineage.source, home / "key", chain_dest=home / "chain")
    assert (copied.changed, chain_changed) == (False, True)
    assert (home / "chain").read_bytes() == (lineage.archive / "fullchain2.pem").read_bytes() != former


@pytest.mark.parametrize("content", ["chain of another key", "key", "rubbish"])
@pytest.mark.parametrize("dry_run", [False, True])
def test_other_file_is_not_replaced_by_a_chain(
    content: str, dry_run: bool, lineage: Lineage, p256: t.Any, other_p256: t.Any, home: pathlib.Path
) -> None:
    data = {
        "chain of another key": bench.chain_pem(other_p256), "key": bench.key_pem(p256), "rubbish": b"rubbish",
    }[content]
    (home / "chain").write_bytes(data)
    refused(CustodyError, "destination_occupied", lambda: run(
        lineage.source, home / "key", chain_dest=home / "chain", dry_run=dry_run
    ))
    assert (home / "chain").read_bytes() == data


def test_refused_chain_leaves_no_key(lineage: Lineage, other_p256: t.Any, home: pathlib.Path) -> None:
    (home / "chain").write_bytes(bench.chain_pem(other_p256))
    refused(CustodyError, "destination_occupied", lambda: run(
        lineage.source, home / "key", chain_dest=home / "chain"
    ))
    assert not (home / "key").exists()


@pytest.mark.parametrize("dry_run", [False, True])
def test_chain_cannot_be_made_out_of_nothing(dry_run: bool, lineage: Lineage, home: pathlib.Path) -> None:
    source = sources.Source(str(lineage.live / "privkey.pem"), None)
    error = refused(KeyFileError, "input_invalid", lambda: run(
        source, home / "key", chain_dest=home / "chain", dry_run=dry_run
    ))
    assert error.object == str(home / "chain")
    assert not (home / "key").exists()


FORMATS = [("pem", None), ("pem", PASSPHRASE), ("cosign", PASSPHRASE)]


@pytest.mark.parametrize(
    ("there", "secret"), [("pem", None), ("pem", SOURCE_PASSPHRASE), ("cosign", SOURCE_PASSPHRASE)]
)
@pytest.mark.parametrize(("format", "passphrase"), [*FORMATS, (None, None), (None, PASSPHRASE)])
def test_copy_has_the_format_asked_for_or_that_of_its_source(
    there: private_key.KeyFormat, secret: bytes | None, format: private_key.KeyFormat | None, passphrase: bytes | None,
    home: pathlib.Path, p256: t.Any, assert_hides: Hides,
) -> None:
    (home / "source").write_bytes(writing.write_private_key(p256, format=there, passphrase=secret))
    source = sources.Source(str(home / "source"), None, secret)
    wish = Wanted(format or "pem", passphrase, Attributes(0o600))
    if (format or there) == "cosign" and passphrase is None:
        error = refused(
            KeyFileError, "passphrase_invalid", lambda: run(source, home / "key", wish, same_format=format is None)
        )
        assert_hides(error, SOURCE_PASSPHRASE)
        assert not (home / "key").exists()
        return
    copied, _chain_changed = run(source, home / "key", wish, same_format=format is None)
    found = private_key.read_private_key((home / "key").read_bytes(), passphrase=passphrase, where="key")
    assert (found.format, found.encrypted, found.public.key_id) == (
        format or there, passphrase is not None, id_of(p256),
    )
    assert (copied.format, copied.encrypted) == (found.format, found.encrypted)


@pytest.mark.parametrize("passphrase", [None, b"canary of a wrong one"])
def test_encrypted_source_wants_its_passphrase(
    passphrase: bytes | None, home: pathlib.Path, p256: t.Any, private_pem: Write, assert_hides: Hides
) -> None:
    (home / "source").write_bytes(private_pem(p256, SOURCE_PASSPHRASE))
    source = sources.Source(str(home / "source"), None, passphrase)
    error = refused(KeyFileError, "passphrase_invalid", lambda: run(source, home / "key"))
    assert_hides(error, SOURCE_PASSPHRASE, passphrase or SOURCE_PASSPHRASE, (home / "source").read_bytes())
    assert not (home / "key").exists()


def test_traditional_source_becomes_pkcs8(home: pathlib.Path, rsa2048: t.Any, private_pem: Write) -> None:
    (home / "source").write_bytes(private_pem(rsa2048, traditional=True))
    run(sources.Source(str(home / "source"), None), home / "key")
    assert (home / "key").read_bytes() == bench.key_pem(rsa2048)


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("way", ["itself", "link"])
def test_key_cannot_be_its_own_copy(way: str, dry_run: bool, home: pathlib.Path, p256: t.Any) -> None:
    """Else it would stand in the record, and go when its copies go."""
    (home / "key").write_bytes(bench.key_pem(p256))
    (home / "link").symlink_to(home / "key")
    source = sources.Source(str(home / ("key" if way == "itself" else "link")), None)
    error = refused(CustodyError, "input_invalid", lambda: run(source, home / "key", dry_run=dry_run))
    assert "it is the key that shall be copied" in error.cause
    assert not os.path.exists(export_record.default_path())


def test_chain_is_recognised_by_its_key(p256: t.Any, other_p256: t.Any) -> None:
    chain = bench.chain_pem(p256)
    assert sources.is_chain_of(chain, id_of(p256))
    assert sources.is_chain_of(chain, None)
    assert not sources.is_chain_of(chain, id_of(other_p256))
    for data in (b"", b"rubbish", bench.key_pem(p256), chain + bench.key_pem(p256)):
        assert not sources.is_chain_of(data, None)
        assert not sources.is_chain_of(data, id_of(p256))
