# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Children that die or compete at the worst moment, folders of other users, and certificates for tests of custody."""

from __future__ import annotations

import contextlib
import datetime
import os
import pathlib
import pickle
import stat
import tempfile
import traceback
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._custody.key_file import KeyFile
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

FOREIGN = 12345
IS_ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not IS_ROOT, reason="only root can give files to another user")

# Everything of os that the code under test may call on its way to a file.
CALLS = (
    "getcwd", "open", "close", "fstat", "stat", "readlink", "mkdir", "fsync", "link", "unlink", "rename", "write",
    "read", "fchmod", "fchown",
)
# Those among them that change anything: for long ways, where dying between two others makes no difference.
CHANGES = ("open", "mkdir", "fsync", "link", "unlink", "rename", "write", "fchmod", "fchown")
_KILLED = 99


def private_files(folder: pathlib.Path) -> dict[str, tuple[int, bytes]]:
    """Return mode and content of everything in a folder that is a file."""
    return {
        entry.name: (stat.S_IMODE(entry.lstat().st_mode), entry.read_bytes())
        for entry in sorted(folder.iterdir()) if entry.is_file() and not entry.is_symlink()
    }


def comparable(file: KeyFile) -> dict[str, t.Any]:
    """All of a result; keys of the same value are not equal in cryptography before 40."""
    return {**vars(file), "public": file.public and file.public.der}


def in_child(function: t.Callable[[], t.Any], *, uid: int | None = None) -> t.Callable[[], t.Any]:
    """Start the function in a child process, as another user if asked; the answer waits and returns its result.

    A child that was killed has the result "killed"; an exception in it is raised here.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            os.close(reading)
            if uid is not None:
                os.setgroups([])
                os.setgid(uid)
                os.setuid(uid)
            payload = pickle.dumps((True, function()))
            status = 0
        except BaseException:
            payload = pickle.dumps((False, traceback.format_exc()))
        with contextlib.suppress(BaseException):
            os.write(writing, payload)
        os._exit(status)
    os.close(writing)

    def wait() -> t.Any:
        with open(reading, "rb") as stream:
            answer = stream.read()
        _pid, status = os.waitpid(child, 0)
        if os.WEXITSTATUS(status) == _KILLED:
            return "killed"
        good, value = pickle.loads(answer)
        assert good, value
        return value

    return wait


def as_ordinary_user(function: t.Callable[[], t.Any]) -> t.Any:
    """Run the function as a user without privileges."""
    return in_child(function, uid=FOREIGN if IS_ROOT else None)()


@contextlib.contextmanager
def folder_of_ordinary_user() -> t.Iterator[pathlib.Path]:
    """Return a folder that as_ordinary_user() owns and can reach."""
    with tempfile.TemporaryDirectory() as folder:
        if IS_ROOT:
            os.chown(folder, FOREIGN, FOREIGN)
        yield pathlib.Path(folder)


def die_at(count: int, when: str, calls: t.Sequence[str] = CALLS) -> None:
    """Let this process, which is a child, die before or after the call of that number."""
    left = [count]
    opened = os.open

    def wrap(genuine: t.Callable[..., t.Any]) -> t.Callable[..., t.Any]:
        def call(*args: t.Any, **kwargs: t.Any) -> t.Any:
            if calls is CHANGES and genuine is opened and not args[1] & os.O_CREAT:
                return genuine(*args, **kwargs)
            left[0] -= 1
            if left[0] == 0 and when == "before":
                os._exit(_KILLED)
            try:
                return genuine(*args, **kwargs)
            finally:
                # Also where it failed: that there is something already is no reason to live on.
                if left[0] == 0:
                    os._exit(_KILLED)

        return call

    for name in calls:
        setattr(os, name, wrap(getattr(os, name)))


def deaths(function: t.Callable[[], t.Any], calls: t.Sequence[str] = CALLS) -> t.Iterator[str]:
    """Run the function again and again in children, each of which dies one call later; yield after each death."""
    for when in ("before", "after"):
        count = 0
        answer: t.Any = "killed"
        while answer == "killed":
            count += 1

            def dying(count: int = count, when: str = when) -> t.Any:
                die_at(count, when, calls)
                return function()

            answer = in_child(dying)()
            yield f"{when} call {count}"
        assert count > 5


def key_pem(key: t.Any) -> bytes:
    """A private key as plain PKCS#8."""
    return t.cast(bytes, key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ))


def chain_pem(key: t.Any, *, serial: int = 1, usage: t.Any = None) -> bytes:
    """A leaf for the key and its issuer, as PEM; another serial makes another chain of the same key.

    With usage, both certificates are for that extended key usage only.
    """
    ca = ec.generate_private_key(ec.SECP256R1())
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in ("leaf.example.org", "CA")]
    start = datetime.datetime(2024, 1, 2, 3, 4, 5)

    def issue(subject: x509.Name, public_key: t.Any) -> bytes:
        builder = (
            x509.CertificateBuilder().subject_name(subject).issuer_name(names[1]).public_key(public_key)
            .serial_number(serial).not_valid_before(start).not_valid_after(start + datetime.timedelta(days=9000))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("leaf.example.org")]), critical=False)
        )
        if usage is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        return builder.sign(ca, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    return issue(names[0], key.public_key()) + issue(names[1], ca.public_key())
