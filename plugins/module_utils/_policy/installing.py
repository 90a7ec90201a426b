# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Installing the files of an enforcer: all of them, or those that were there before.

Beside the folder, outside of it, lies a record of which policy is installed, and of which files: enforcers refuse
members that they do not know. No policy is installed whose version is lower than the one recorded, and files that a new
policy has no more are taken away.
"""

from __future__ import annotations

import hashlib
import os
import typing as t
from contextlib import suppress
from dataclasses import dataclass

from .. import _strict_json
from .._custody import public_file
from .._errors import CustodyError, FormatError, HallmarkError
from .model import Policy
from .rendering import Files

RECORD = ".hallmark-signing.json"
# What was there before us is kept under this name, which no enforcer reads.
FORMER = ".former"
# Policies of a thousand keys have two million bytes.
_MAX_SIZE = 64 * 1024 * 1024


@dataclass(frozen=True)
class InstalledFile:
    """One file: its path in the folder, the hash of what it has to hold, and whether that is a change."""

    path: str
    sha256: str
    changed: bool

    def as_dict(self) -> dict[str, t.Any]:
        """Return the shape of the module contract."""
        return {"path": self.path, "sha256": self.sha256, "changed": self.changed}


@dataclass(frozen=True)
class Installation:
    """What installing did, or would do; C(effective_hash) is of the files as they were read afterwards.

    C(removed) are files of the former policy that this one has no more.
    """

    files: tuple[InstalledFile, ...]
    effective_hash: str
    record_changed: bool
    removed: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether anything is changed."""
        return self.record_changed or bool(self.removed) or any(file.changed for file in self.files)


def install(
    files: Files, policy: Policy, *, enforcer: str, dest: str, dry_run: bool, floor: int = 1
) -> Installation:
    """Write the files below C(dest) in their order, the one that switches the policy last, and read them back.

    Raises CustodyError, and FormatError (input_invalid) for a version that is lower than C(floor) or that of the
    record, or the same with another policy. Whatever fails, the former files stand again.
    """
    path = record_path(dest)
    former_record = public_file.read_public_file(path, limit=_MAX_SIZE)
    if policy.version < floor:
        raise _refused(f"version {floor} was installed here before, says floor, and {policy.version} is lower")
    _require_progress(former_record, policy, path, enforcer)
    stale = _stale(former_record, files, dest, path)
    former = {name: read(dest, name) for name in files}
    done = tuple(
        InstalledFile(name, _sha256(text.encode()), former[name] != text.encode()) for name, text in files.items()
    )
    record = _strict_json.dumps({
        "enforcer": enforcer, "policy_version": policy.version, "policy_hash": policy.hash,
        "effective_hash": _hash(files), "floor": policy.version,
        "files": {file.path: file.sha256 for file in sorted(done, key=lambda one: one.path)},
    }) + b"\n"
    if not dry_run:
        if former_record is None:
            _keep(former, files, dest)
        _write(files, former, dest)
        for name in stale:
            _remove(os.path.join(dest, name))
        _replace(path, record)
    found = effective_hash(files, dest) if not dry_run else _hash(files)
    return Installation(done, found, former_record != record, stale)


def record_path(dest: str) -> str:
    """Return where the record of a folder lies."""
    return f"{dest.rstrip('/')}{RECORD}"


def effective_hash(names: t.Iterable[str], dest: str) -> str:
    """Return the hash over files as they are now. Raises CustodyError."""
    return hash_of({name: read(dest, name) or b"" for name in names})


def read(dest: str, name: str) -> bytes | None:
    """Return what a file holds, or None if it is not there. Raises CustodyError."""
    return public_file.read_public_file(os.path.join(dest, name), limit=_MAX_SIZE)


def hash_of(contents: t.Mapping[str, bytes]) -> str:
    """Return lower-case hex SHA-256 over the hashes of files, by name."""
    return _sha256("".join(f"{_sha256(data)}  {name}\n" for name, data in sorted(contents.items())).encode())


def _hash(files: Files) -> str:
    return hash_of({name: text.encode() for name, text in files.items()})


def _require_progress(record: bytes | None, policy: Policy, path: str, enforcer: str) -> None:
    if record is None:
        return
    installed = _strict_json.loads(record, what="record of the installed policy", where=path)
    if installed.string("enforcer") != enforcer:
        raise CustodyError(
            code="destination_occupied", object=path, attempt="install the policy",
            cause=f"what is installed there is for {installed.string('enforcer')}",
            advice="Give each enforcer a folder of its own.",
        )
    version, digest = installed.integer("policy_version"), installed.string("policy_hash")
    if policy.version < version:
        raise _refused(f"version {version} is installed, and {policy.version} is lower")
    if policy.version == version and policy.hash != digest:
        raise _refused(f"another policy is installed as version {version}")


def _stale(record: bytes | None, files: Files, dest: str, path: str) -> tuple[str, ...]:
    """Return the files that the record names and the policy has no more, and that are as they were written."""
    if record is None:
        return ()
    known = _strict_json.loads(record, what="record of the installed policy", where=path).strings("files")
    found: list[str] = []
    for name, digest in sorted(known.items()):
        if name in files or os.path.isabs(name) or ".." in name.split("/"):
            continue
        data = read(dest, name)
        if data is not None and _sha256(data) != digest:
            raise CustodyError(
                code="destination_occupied", object=os.path.join(dest, name), attempt="remove it, as the policy says",
                cause="it is not as it was written", advice="Look at it, and remove it yourself.",
            )
        found += [name] if data is not None else []
    return tuple(found)


def _keep(former: t.Mapping[str, bytes | None], files: Files, dest: str) -> None:
    """Keep copies of what somebody else wrote, the first time; a run that was cut off left those that count."""
    for name, data in former.items():
        if data is not None and data != files[name].encode() and read(dest, name + FORMER) is None:
            _replace(os.path.join(dest, name + FORMER), data)


def _write(files: Files, former: t.Mapping[str, bytes | None], dest: str) -> None:
    tried: list[str] = []
    try:
        for name, text in files.items():
            tried.append(name)
            _replace(os.path.join(dest, name), text.encode())
    except HallmarkError:
        for name in reversed(tried):
            data, path = former[name], os.path.join(dest, name)
            # The first error is the one to tell.
            with suppress(CustodyError):
                if data is None:
                    _remove(path)
                else:
                    _replace(path, data)
        raise


def _replace(path: str, data: bytes) -> None:
    folder = os.path.dirname(path)
    try:
        _make(folder)
    except OSError as exc:
        raise CustodyError(
            code="write_failed", object=folder, attempt="make the folder", cause=exc.strerror or str(exc),
            advice="Check dest, and that the user of this task may write there.",
        ) from exc
    public_file.ensure_public_file(path, data, is_former=lambda _data: True, dry_run=False, limit=_MAX_SIZE)


def _remove(path: str) -> None:
    public_file.remove_public_file(path, is_ours=lambda _data: True, dry_run=False, limit=_MAX_SIZE)


def _make(folder: str) -> None:
    """Make a folder, and those above it, that everybody may read: whoever pulls reads the policy."""
    if not os.path.isdir(folder):
        _make(os.path.dirname(folder))
        os.mkdir(folder)
        os.chmod(folder, 0o755)


def _refused(cause: str) -> FormatError:
    return FormatError(
        code="input_invalid", object="version", attempt="install the policy", cause=cause,
        advice="Raise version with every change of the policy, and never go back.",
    )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
