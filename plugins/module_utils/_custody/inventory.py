# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a key, certificate or lineage on disk is, and what is wrong with how it lies there. Read only."""

from __future__ import annotations

import grp
import os
import pwd
import stat
import typing as t
from dataclasses import dataclass, field

from .._errors import HallmarkError, KeyFileError
from .._keys import certificate, pem, private_key
from .._keys.files import read_key_file

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


def describe(path: str, *, passphrase: bytes | None) -> tuple[KeyEntry, HallmarkError | None]:
    """Return the entry of one path, and the error if it could not be read at all.

    An encrypted key without its passphrase is no error: its key id is None then.
    """
    entry = KeyEntry(path)
    try:
        if os.path.isdir(path):
            _describe_lineage(entry, passphrase)
        else:
            _describe_file(entry, path, passphrase)
    except HallmarkError as exc:
        entry.problems.append(Problem(exc.code, str(exc)))
        entry.format = None
        return entry, exc
    return entry, None


def _describe_lineage(entry: KeyEntry, passphrase: bytes | None) -> None:
    key_path = os.path.join(entry.path, "privkey.pem")
    _describe_file(entry, key_path, passphrase)
    entry.format = "lineage"
    chain_path = os.path.join(entry.path, "fullchain.pem")
    entry.certificate = certificate.read_chain(read_key_file(chain_path), where=chain_path)
    if entry.key_id not in (None, entry.certificate.key_id):
        entry.problems.append(Problem(
            "key_mismatch", f"{entry.path}: key and certificate do not belong together; a renewal may be under way."
        ))


def _describe_file(entry: KeyEntry, path: str, passphrase: bytes | None) -> None:
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
