# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Running Certbot: one instance at a time, for a bounded time, and never twice because of a server's error."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import time
import typing as t
from dataclasses import dataclass

from .._errors import CertbotError
from .failure import sentence
from .settings import Settings

LOG_BYTES = 256 * 1024
BUSY = "Another instance of Certbot is already running"
_SECONDS = 3600


@dataclass(frozen=True)
class Done:
    """What came of one run of Certbot: its exit status, why it failed, and what is new in its log."""

    status: int
    error: str
    log: str = ""


def certbot(settings: Settings, *arguments: str, descriptors: t.Sequence[int] = ()) -> Done:
    """Run Certbot; it is tried again only where another instance of it was at work."""
    command = [settings.certbot, arguments[0], "--non-interactive", *settings.folders, *arguments[1:]]
    for wait in [*settings.busy_waits, None]:
        begun = time.time()
        try:
            status, output = _run(command, _environment(settings), descriptors)
        except subprocess.TimeoutExpired:
            return Done(1, f"Certbot did not end within {_SECONDS} seconds")
        except OSError as exc:
            return Done(1, f"{settings.certbot} could not be run: {exc.strerror}")
        is_busy = bool(status) and BUSY in output
        if not is_busy or wait is None:
            break
        time.sleep(wait)
    # The log of another instance says nothing about this one.
    log = "" if is_busy else _log_since(os.path.join(settings.logs_dir, "letsencrypt.log"), begun)
    return Done(status, sentence(output, log) if status else "", log)


@contextlib.contextmanager
def alone(settings: Settings) -> t.Iterator[None]:
    """Wait until no other run of this program works on the lineage. Raises CertbotError (lineage_busy)."""
    with open(settings.beside("lock"), "w", encoding="ascii") as stream:
        for wait in [*settings.busy_waits, None]:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as exc:
                if wait is None:
                    raise CertbotError(
                        code="lineage_busy", object=settings.lineage, attempt="work on the lineage",
                        cause="another run of this program does not end", advice="See what it waits for.",
                    ) from exc
                time.sleep(wait)
        yield


def _environment(settings: Settings) -> dict[str, str]:
    trusted = {"REQUESTS_CA_BUNDLE": settings.ca_path} if settings.ca_path else {}
    return {**os.environ, "LC_ALL": "C.UTF-8", **trusted}


def _run(command: t.Sequence[str], environment: t.Mapping[str, str], descriptors: t.Sequence[int]) -> tuple[int, str]:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment,
        timeout=_SECONDS, check=False, pass_fds=descriptors,
    )
    return done.returncode, done.stdout[-LOG_BYTES:].decode("utf-8", "replace")


def _log_since(path: str, begun: float) -> str:
    try:
        with open(path, "rb") as stream:
            status = os.fstat(stream.fileno())
            # File systems may keep coarser times than the clock.
            if status.st_mtime < begun - 2:
                return ""
            stream.seek(max(status.st_size - LOG_BYTES, 0))
            return stream.read(LOG_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
