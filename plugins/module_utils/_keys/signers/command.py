# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A signer that is a program: for every device and service that no URI names.

The program reads the exact message on standard input and writes the signature to standard output. It is believed only
after the signature was verified with the public key.
"""

from __future__ import annotations

import hashlib
import os
import selectors
import shutil
import signal
import subprocess
import time
import typing as t
from contextlib import suppress
from dataclasses import dataclass, field

from ..._errors import KeyFileError
from .. import pem
from ..algorithms import scheme_for
from ..files import read_key_file
from ..fingerprint import expect_key_id
from . import spelling
from .trusted_file import require_trusted

if t.TYPE_CHECKING:
    from ..._reason_codes import ReasonCode

SECONDS = 60.0
_ATTEMPT = "sign with this command"
_MAX_OUTPUT = 64 * 1024
_MAX_COMPLAINT = 200
# How often a program is looked at that ended, while something it started keeps its output open.
_GLANCE = 0.1


@dataclass(frozen=True)
class CommandSigner:
    """Runs a program for each signature."""

    argv: tuple[str, ...] = field(repr=False)
    public: pem.PublicKey
    # The only one that is taken, or None for those that the key usually signs in.
    scheme: str | None
    seconds: float
    # The program is told what is asked for, and may be one that knows one scheme.
    chooses_scheme: t.ClassVar[bool] = False

    def answers_in(self, asked: str) -> str:
        """Return C(asked)."""
        return asked

    def prepare(self, messages: t.Collection[bytes]) -> None:
        """Do nothing: what a program can do shows when it runs."""

    def sign(self, message: bytes, *, scheme: str | None = None) -> bytes:
        """Return the verified signature over C(message); C(scheme) is what the program is told.

        Raises KeyFileError: not_found, service_unavailable, limit_exceeded, signature_invalid.
        """
        asked = self.scheme or scheme or self.public.algorithm.schemes[0]
        answer = self._run(message, {
            "HALLMARK_SCHEME": asked, "HALLMARK_MESSAGE_SHA256": hashlib.sha256(message).hexdigest(),
            "HALLMARK_KEY_ID": self.public.key_id,
        })
        signature = spelling.verified(
            answer, message, self.public, schemes=None if self.scheme is None else (self.scheme,)
        )
        if signature is None:
            raise self._failed(
                "signature_invalid", f"its output is no signature by {self.public.key_id} over its input",
                "It must sign exactly what it reads, in HALLMARK_SCHEME, and write nothing but the signature.",
            )
        return signature

    def _run(self, message: bytes, told: t.Mapping[str, str]) -> bytes:
        """Return what the program writes, once it ended well."""
        deadline = time.monotonic() + self.seconds
        try:
            process = subprocess.Popen(
                self.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                env={**os.environ, **told}, start_new_session=True,
            )
        except OSError as exc:
            raise self._failed(
                "not_found", exc.strerror or type(exc).__name__, "Check that it is a program that may be executed."
            ) from exc
        try:
            output, complaint = self._talk(process, message, deadline)
            status = process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired as exc:
            raise self._late() from exc
        finally:
            _end(process)
        said, advice = _last_line(complaint), "Run it by hand with the same input."
        if status < 0:
            raise self._failed("service_unavailable", f"signal {-status} ended it: {said}", advice)
        if status:
            raise self._failed("service_unavailable", f"it ended with status {status}: {said}", advice)
        return output

    def _talk(self, process: subprocess.Popen[bytes], message: bytes, deadline: float) -> tuple[bytes, bytes]:
        """Write the message, and return all of standard output and the end of standard error."""
        stdin, stdout, stderr = (t.cast(t.IO[bytes], pipe) for pipe in (process.stdin, process.stdout, process.stderr))
        to_write, read = memoryview(message), {stdout: b"", stderr: b""}
        with selectors.DefaultSelector() as watch:
            for pipe in (stdin, stdout, stderr):
                os.set_blocking(pipe.fileno(), False)
                watch.register(pipe, selectors.EVENT_WRITE if pipe is stdin else selectors.EVENT_READ)
            while {stdout, stderr} & {key.fileobj for key in watch.get_map().values()}:
                if time.monotonic() > deadline:
                    raise self._late()
                has_ended = process.poll() is not None
                ready = [key.fileobj for key, _events in watch.select(_GLANCE)]
                if has_ended and not set(ready) & {stdout, stderr}:
                    break
                for pipe in t.cast("list[t.IO[bytes]]", ready):
                    if pipe is stdin:
                        to_write = _write(pipe, to_write)
                        is_done = not to_write
                    else:
                        data = os.read(pipe.fileno(), _MAX_OUTPUT)
                        read[pipe] = read[pipe] + data if pipe is stdout else (read[pipe] + data)[-_MAX_OUTPUT:]
                        is_done = not data
                    if is_done:
                        watch.unregister(pipe)
                        pipe.close()
                if len(read[stdout]) > _MAX_OUTPUT:
                    raise self._failed(
                        "limit_exceeded", f"it wrote more than {_MAX_OUTPUT >> 10} KiB", "It writes something else."
                    )
        return read[stdout], read[stderr]

    def _late(self) -> KeyFileError:
        return self._failed(
            "service_unavailable", f"it did not end within {self.seconds:g} seconds, and was killed",
            "Find out what it waits for; it has no terminal.",
        )

    def _failed(self, code: ReasonCode, cause: str, advice: str) -> KeyFileError:
        # Its arguments are not shown: they may hold what is secret.
        return KeyFileError(code=code, object=self.argv[0], attempt=_ATTEMPT, cause=cause, advice=advice)


def load(
    argv: t.Sequence[str], *, public_key_path: str, key_id: str | None = None, scheme: str | None = None,
    seconds: float = SECONDS,
) -> CommandSigner:
    """Find the program, and read the public key whose signatures it makes; C(key_id) is the expected one or None.

    C(scheme) is the only one to sign in, or None for the usual ones. C(seconds) is the time for one signature. Raises
    KeyFileError: input_invalid, not_found, parent_unsafe, malformed, key_mismatch, unsupported_algorithm.
    """
    if not argv or not argv[0] or any("\0" in word for word in argv):
        raise _invalid("it names no program, or holds a null character", "Give program and arguments as a list.")
    if "/" in argv[0] and not argv[0].startswith("/"):
        raise _invalid("a relative path means another program in each folder", "Give its name, or its whole path.")
    program = shutil.which(argv[0])
    if program is None:
        raise KeyFileError(
            code="not_found", object=argv[0], attempt=_ATTEMPT,
            cause="there is no such program" + ("" if "/" in argv[0] else " on PATH") + " that may be executed",
            advice="Install it on the host that signs, or give its whole path.",
        )
    require_trusted(program, attempt=_ATTEMPT)
    public = pem.read_public_key(read_key_file(public_key_path), where=public_key_path)
    expect_key_id(public.key_id, key_id, where=public_key_path)
    wanted = None if scheme is None else scheme_for(public.algorithm, scheme, where="command").name
    return CommandSigner((os.path.abspath(program), *argv[1:]), public, wanted, seconds)


def _write(pipe: t.IO[bytes], data: memoryview) -> memoryview:
    """Write what the pipe takes; return the rest. A program may end without having read all."""
    try:
        return data[os.write(pipe.fileno(), data):]
    except BrokenPipeError:
        return data[:0]


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the program and everything it started, whether it ended or not."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    for pipe in t.cast("tuple[t.IO[bytes], ...]", (process.stdin, process.stdout, process.stderr)):
        pipe.close()
    process.wait()


def _last_line(complaint: bytes) -> str:
    """Return the last line with text, without control characters, and not too long."""
    lines = [line for line in complaint.decode("utf-8", "replace").splitlines() if line.strip()]
    text = "".join(character if character.isprintable() else " " for character in (lines or ["it said nothing"])[-1])
    return text.strip()[:_MAX_COMPLAINT]


def _invalid(cause: str, advice: str) -> KeyFileError:
    return KeyFileError(code="input_invalid", object="command", attempt="use it", cause=cause, advice=advice)
