# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What takes an exported key away when its time is over, though no playbook runs then.

Three things do, as far as the place allows: a transient timer of systemd; a rule of systemd-tmpfiles, which removes the files at
the next boot, and by their age where the folder holds nothing else; and whoever signs with the copy, who reads its end in it.
Sources: systemd-run(1), systemd.timer(5), tmpfiles.d(5).
"""

from __future__ import annotations

import datetime
import os
import re
import shutil
import subprocess
import typing as t
from dataclasses import dataclass

from .._errors import CustodyError
from . import public_file, storage

TIMER, AGE, BOOT, MEMORY, USE = "systemd_timer", "tmpfiles_age", "tmpfiles_boot", "memory", "check_at_use"
_BOOTED = "/run/systemd/system"
_PERSISTENT, _VOLATILE = "/etc/tmpfiles.d", "/run/tmpfiles.d"
# What needs no quoting in rules and units, and is no pattern there.
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9._/@:+=,-]+")
_TIMEOUT = 30
# systemd that knows by which times files are aged: m is the time of their last change.
_AGE_BY = 250


@dataclass(frozen=True)
class Guard:
    """The timer and the rule of one export."""

    export_id: str
    paths: tuple[str, ...]
    rule: str

    @property
    def unit(self) -> str:
        """The name of the timer, and of the service it starts."""
        return f"hallmark-export-{self.export_id}"


def guard(export_id: str, paths: t.Sequence[str]) -> Guard:
    """Return the guard of an export of these files.

    Raises CustodyError: expiry_unenforceable where no timer can be armed, input_invalid for paths that units cannot name.
    """
    if os.geteuid() != 0:
        raise _unenforceable(paths[0], "only root can arm a timer of the system", "Run the task with become.")
    if not os.path.isdir(_BOOTED) or not all(map(shutil.which, ("systemd-run", "systemctl"))):
        raise _unenforceable(paths[0], "this host was not booted with systemd", "Export without expires_in, and remove it.")
    for path in paths:
        if not _PLAIN_PATH.fullmatch(path):
            raise CustodyError(
                code="input_invalid", object=path, attempt="arm a timer for it",
                cause="it has other characters than letters, digits and ._/@:+=,-", advice="Choose another path.",
            )
    mount = storage.mount_of(os.path.dirname(paths[0]))
    folder = _VOLATILE if mount is not None and mount.is_memory else _PERSISTENT
    return Guard(export_id, tuple(paths), os.path.join(folder, f"hallmark-export-{export_id}.conf"))


def arm(armed: Guard, *, expires_at: datetime.datetime, seconds: int, alone: bool) -> tuple[str, ...]:
    """Arm the timer and the rule before the copy is written; return what will enforce its end.

    With C(alone), nothing else lies in the folder, and its files may be aged. Raises CustodyError (expiry_unenforceable,
    write_failed); nothing is left armed then.
    """
    enforced = [TIMER]
    try:
        _write_rule(armed, seconds if alone else None)
        if alone:
            enforced.append(AGE)
        enforced.append(MEMORY if armed.rule.startswith(_VOLATILE) else BOOT)
        _start_timer(armed, expires_at)
    except BaseException:
        disarm(armed)
        raise
    return (*enforced, USE)


def is_armed(armed: Guard) -> bool:
    """Say whether the timer waits."""
    return _run(["systemctl", "is-active", "--quiet", f"{armed.unit}.timer"]).returncode == 0


def disarm(armed: Guard) -> None:
    """Take the timer and the rule away; what is not there is no error."""
    _run(["systemctl", "stop", "--quiet", f"{armed.unit}.timer"])
    public_file.remove_public_file(armed.rule, is_ours=_is_rule, dry_run=False)


def no_longer_alone(armed: Guard) -> None:
    """Take the age out of the rule of an export: another file came into its folder, and would be aged with it."""
    if os.path.exists(armed.rule):
        _write_rule(armed, None)


def _start_timer(armed: Guard, expires_at: datetime.datetime) -> None:
    remove = shutil.which("rm") or "/bin/rm"
    done = _run([
        "systemd-run", "--quiet", f"--unit={armed.unit}", f"--on-calendar={expires_at:%Y-%m-%d %H:%M:%S} UTC",
        # By default a timer may be a minute late; and a spent one would keep its name.
        "--timer-property=AccuracySec=1s", "--timer-property=RemainAfterElapse=no",
        f"--description=Take the exported key {armed.paths[0]} away", "--collect",
        remove, "-f", "--", *armed.paths, armed.rule,
    ])
    if done.returncode != 0 or not is_armed(armed):
        said = done.stderr.strip().splitlines()[-1:] or ["the timer is not active"]
        raise _unenforceable(armed.paths[0], f"systemd-run: {said[0][:200]}", "Mend systemd on this host, and run again.")


def _write_rule(armed: Guard, seconds: int | None) -> None:
    lines = ["# Of an exported key; hallmark.signing.key_export takes it away.", *(f"r! {path}" for path in armed.paths)]
    if seconds is not None:
        by = "m:" if _systemd_version() >= _AGE_BY else ""
        lines.append(f"e {os.path.dirname(armed.paths[0])} - - - {by}{seconds}s")
    folder = os.path.dirname(armed.rule)
    if not os.path.isdir(folder):
        os.makedirs(folder, 0o755, exist_ok=True)
    public_file.ensure_public_file(
        armed.rule, ("\n".join(lines) + "\n").encode("ascii"), is_former=_is_rule, dry_run=False
    )


def _is_rule(data: bytes) -> bool:
    return data.startswith(b"# Of an exported key;")


def _systemd_version() -> int:
    match = re.match(r"systemd ([0-9]+)", _run(["systemctl", "--version"]).stdout)
    return int(match[1]) if match else 0


def _run(argv: t.Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(argv, capture_output=True, text=True, timeout=_TIMEOUT, check=False, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError) as exc:
        return subprocess.CompletedProcess(argv, 1, "", type(exc).__name__)


def _unenforceable(where: str, cause: str, advice: str) -> CustodyError:
    return CustodyError(
        code="expiry_unenforceable", object=where, attempt="export a key that ends", cause=cause, advice=advice
    )
