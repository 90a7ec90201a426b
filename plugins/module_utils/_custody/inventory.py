# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a key, certificate or lineage on disk is, and what is wrong with how it lies there. Read only."""

from __future__ import annotations

import datetime
import grp
import os
import pwd
import stat
import typing as t
from contextlib import suppress
from dataclasses import dataclass, field

from .._errors import HallmarkError, KeyFileError
from .._keys import certificate, lease, pem, private_key
from .._keys.files import read_key_file
from . import storage, sweep

if t.TYPE_CHECKING:
    from .._reason_codes import ReasonCode

EntryFormat = t.Literal["pem", "cosign", "spki", "certificate", "lineage"]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a key file, with a stable code."""

    code: ReasonCode
    message: str


@dataclass
class KeyEntry:
    """One entry of C(signing_keys) in the module contract."""

    path: str
    key_id: str | None = None
    algorithm: str | None = None
    format: EntryFormat | None = None
    encrypted: bool | None = None
    owner: str | None = None
    group: str | None = None
    mode: str | None = None
    problems: list[Problem] = field(default_factory=list)
    certificate: certificate.CertificateFacts | None = None

    def as_dict(self) -> dict[str, t.Any]:
        """Return the shape of the module contract."""
        shape: dict[str, t.Any] = {
            name: getattr(self, name)
            for name in ("path", "key_id", "algorithm", "format", "encrypted", "owner", "group", "mode")
        }
        shape["problems"] = [{"code": problem.code, "message": problem.message} for problem in self.problems]
        shape["certificate"] = self.certificate.as_dict() if self.certificate else None
        return shape


@dataclass(frozen=True)
class Expected:
    """What keys shall be, as far as it was said: their ids, their owners, and an issuer of their certificates."""

    key_ids: frozenset[str] = frozenset()
    owners: frozenset[str] = frozenset()
    issuer_key_ids: frozenset[str] = frozenset()


def describe(
    path: str, *, passphrase: bytes | None, expected: Expected = Expected()
) -> tuple[KeyEntry, HallmarkError | None]:
    """Return the entry of one path, and the error if it could not be read at all.

    An encrypted key without its passphrase is no error: its key id is None then.
    """
    entry = KeyEntry(path)
    try:
        if os.path.isdir(path):
            _describe_lineage(entry, passphrase, expected)
        else:
            _describe_file(entry, path, passphrase, expected)
        entry.problems += _unexpected(entry, expected)
    except HallmarkError as exc:
        entry.problems.append(Problem(exc.code, str(exc)))
        entry.format = None
        return entry, exc
    return entry, None


def _unexpected(entry: KeyEntry, expected: Expected) -> t.Iterator[Problem]:
    """Yield what is otherwise than it shall be."""
    if expected.key_ids and entry.key_id is not None and entry.key_id not in expected.key_ids:
        yield Problem("key_mismatch", (
            f"{entry.path}: its key id is {entry.key_id}, which is none of those expected. A renewal may have brought "
            "a new "
            "key: stage it as a new generation, or find out where it comes from."
        ))
    if entry.certificate is None:
        return
    if entry.certificate.is_tls_only:
        yield Problem("tls_only", (
            f"{entry.path}: the certificate is for TLS only, and no verifier takes it as a signing identity. Trust "
            "the key."
        ))
    issuers = [issuer.key_id for issuer in entry.certificate.issuer_chain]
    if expected.issuer_key_ids and not expected.issuer_key_ids.intersection(issuers):
        yield Problem("issuer_changed", (
            f"{entry.path}: none of its issuers has a key that was recorded; they are "
            f"{', '.join(issuers) or 'missing'}. "
            "Authorities change intermediates at will: compare the chain, and record the new one."
        ))


def _describe_lineage(entry: KeyEntry, passphrase: bytes | None, expected: Expected) -> None:
    key_path = os.path.join(entry.path, "privkey.pem")
    _describe_file(entry, key_path, passphrase, expected)
    entry.problems += _copies_of_certbot(entry, passphrase)
    entry.format = "lineage"
    chain_path = os.path.join(entry.path, "fullchain.pem")
    entry.certificate = certificate.read_chain(read_key_file(chain_path), where=chain_path)
    if entry.key_id not in (None, entry.certificate.key_id):
        entry.problems.append(Problem(
            "key_mismatch", f"{entry.path}: key and certificate do not belong together; a renewal may be under way."
        ))


def _copies_of_certbot(entry: KeyEntry, passphrase: bytes | None) -> t.Iterator[Problem]:
    """Yield the copies that Certbot before 2.3 keeps of every key, and does not take away."""
    folder = os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(entry.path))), "keys")
    if entry.key_id is None or not os.path.isdir(folder):
        return
    for copy in sweep.copies([folder], passphrase=passphrase):
        if entry.key_id in copy.key_ids:
            yield Problem("extra_copies", (
                f"{copy.path}: Certbot before 2.3 kept a second copy of the key here. Nothing reads it: remove it."
            ))


def _describe_file(entry: KeyEntry, path: str, passphrase: bytes | None, expected: Expected) -> None:
    data = read_key_file(path)
    try:
        status = os.stat(path)
    except OSError as exc:
        raise KeyFileError(
            code="not_found", object=path, attempt="look at the file", cause=exc.strerror or type(exc).__name__,
            advice="It went away in between: run again.",
        ) from exc
    entry.owner, entry.group = _user(status.st_uid), _group(status.st_gid)
    entry.mode = f"{stat.S_IMODE(status.st_mode):04o}"
    labels = [block.label for block in pem.split(data, where=path)]
    if labels[0] == "CERTIFICATE":
        entry.format, entry.encrypted = "certificate", False
        entry.certificate = certificate.read_chain(data, where=path)
        entry.key_id = entry.certificate.key_id
    elif not any(block.is_private for block in pem.split(data, where=path)):
        entry.format, entry.encrypted = "spki", False
        public = pem.read_public_key(data, where=path)
        entry.key_id, entry.algorithm = public.key_id, public.algorithm.name
    else:
        _describe_private(entry, data, path, passphrase)
        entry.problems += _custody_problems(path, status)
        entry.problems += _more_custody_problems(entry, data, path, status, expected)


def _describe_private(entry: KeyEntry, data: bytes, path: str, passphrase: bytes | None) -> None:
    block = private_key.only_private_block(data, where=path)
    entry.encrypted = block.is_encrypted
    entry.format = "cosign" if block.label.endswith(("SIGSTORE PRIVATE KEY", "COSIGN PRIVATE KEY")) else "pem"
    if block.is_encrypted and passphrase is None:
        return
    try:
        private = private_key.read_private_key(data, passphrase=passphrase, where=path)
    except KeyFileError as exc:
        if exc.code != "passphrase_invalid":
            raise
        # A list of keys may well have several passphrases: the entry says so, the others go on.
        entry.problems.append(Problem(exc.code, str(exc)))
        return
    entry.key_id, entry.algorithm = private.public.key_id, private.public.algorithm.name


def _custody_problems(path: str, status: os.stat_result) -> list[Problem]:
    problems = []
    if stat.S_IMODE(status.st_mode) & 0o037:
        problems.append(Problem(
            "mode_too_open", f"{path}: mode {stat.S_IMODE(status.st_mode):04o} lets others at the key. Set 0600."
        ))
    folder = os.path.dirname(os.path.realpath(path))
    parent = os.stat(folder)
    if parent.st_mode & 0o022 or parent.st_uid not in (0, os.geteuid()):
        problems.append(Problem(
            "parent_unsafe", f"{folder}: others can exchange the key in it. Give it to root, without write for others."
        ))
    return problems


def _more_custody_problems(
    entry: KeyEntry, data: bytes, path: str, status: os.stat_result, expected: Expected
) -> t.Iterator[Problem]:
    if status.st_uid not in (0, os.geteuid()) and entry.owner not in expected.owners:
        yield Problem("owner_unexpected", (
            f"{path}: it belongs to {entry.owner}. Give it to root, or name that user in owners if it shall have the "
            "key."
        ))
    if status.st_nlink > 1:
        yield Problem("hard_linked", (
            f"{path}: the file has {status.st_nlink} names, and whoever removes this one leaves the others. Find them "
            "by its "
            f"inode {status.st_ino}, and remove them."
        ))
    with suppress(HallmarkError):
        made = lease.read(data, where=path)
        if made is not None and made.is_over(datetime.datetime.now(datetime.timezone.utc)):
            yield Problem("export_expired", (
                f"{path}: this exported copy ended at {made.end}, and is still there. Remove it "
                "by "
                "key_export with state: absent, and find out why its timer did not."
            ))
    mount = storage.mount_of(path)
    swaps = storage.clear_swaps() if mount is not None and mount.type == "tmpfs" else []
    if swaps:
        yield Problem("swap_in_clear", (
            f"{path}: it lies in memory that may be written to {', '.join(swaps)}, which is not encrypted. Encrypt or "
            "switch "
            "off swap on this host."
        ))


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
