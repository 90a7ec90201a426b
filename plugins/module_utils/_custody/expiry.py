# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What takes an exported key away when its time is over, though no playbook runs then.

Three things do, as far as the place allows: a transient timer of systemd; a rule of systemd-tmpfiles, which removes
the files at the next boot, and by their age where the folder holds nothing else; and whoever signs with the copy, who
reads its end in it. Sources: systemd-run(1), systemd.timer(5), tmpfiles.d(5).
"""

from __future__ import annotations

import datetime
import os
import re
import shutil
import subprocess
import typing as t
from contextlib import suppress
from dataclasses import dataclass

from .._errors import CustodyError
from . import public_file, storage
from .private_file import temporary_path

TIMER, AGE, BOOT, MEMORY, USE = "systemd_timer", "tmpfiles_age", "tmpfiles_boot", "memory", "check_at_use"
_BOOTED = "/run/systemd/system"
_PERSISTENT, _VOLATILE = "/etc/tmpfiles.d", "/run/tmpfiles.d"
# What needs no quoting in rules and units, and is no pattern there.
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9._/@:+=,-]+")
_TIMEOUT = 30
# systemd that knows by which times files are aged: c is that of the last change of an entry, m of its bytes.
_AGE_BY = 250


@dataclass(frozen=True)
class Guard:
    """The timer and the rule of one export, and where else its rule may lie."""

    export_id: str
    paths: tuple[str, ...]
    in_memory: bool

    @property
    def rule(self) -> str:
        """The rule: where the copy is gone with the next boot, so is it."""
        return self.rules[0 if self.in_memory else 1]

    @property
    def rules(self) -> tuple[str, str]:
        """Both places of the rule."""
        name = f"hallmark-export-{self.export_id}.conf"
        return os.path.join(_VOLATILE, name), os.path.join(_PERSISTENT, name)

    @property
    def unit(self) -> str:
        """The name of the timer, and of the service it starts."""
        return f"hallmark-export-{self.export_id}"


def guard(export_id: str, path: str, chain_path: str | None) -> Guard:
    """Return the guard of an export: of its files, and of what a killed process leaves of the copy."""
    mount = storage.mount_of(os.path.dirname(path))
    paths = (path, temporary_path(path), *([chain_path] if chain_path else []))
    return Guard(export_id, paths, in_memory=mount is not None and mount.is_memory)


def require(guarded: Guard) -> None:
    """Refuse an export that nothing would end.

    Raises CustodyError: expiry_unenforceable where no timer can be armed, input_invalid for paths that units cannot
    name.
    """
    path = guarded.paths[0]
    if not _is_root():
        raise _unenforceable(path, "only root can arm a timer of the system", "Run the task with become.")
    if not os.path.isdir(_BOOTED) or not all(map(shutil.which, ("systemd-run", "systemctl", "rm"))):
        raise _unenforceable(path, "this host was not booted with systemd", "Export without expires_in, and remove it.")
    for one in guarded.paths:
        if not _PLAIN_PATH.fullmatch(one):
            raise CustodyError(
                code="input_invalid", object=one, attempt="arm a timer for it",
                cause="it has other characters than letters, digits and ._/@:+=,-", advice="Choose another path.",
            )


def arm(guarded: Guard, *, expires_at: datetime.datetime, remaining: int, age: int | None) -> None:
    """Arm the timer and the rule, before the copy is written. C(remaining) is how many seconds are left.

    With C(age), nothing else lies in the folder, and its files may be removed when they are so many seconds old. Raises
    CustodyError (expiry_unenforceable, write_failed); nothing is left armed then.
    """
    try:
        # The timer takes the rule away, too: a process that is killed in between leaves nothing without an end.
        _start_timer(guarded, expires_at, remaining)
        _write_rule(guarded, age)
    except BaseException:
        disarm(guarded)
        raise


def is_armed(guarded: Guard) -> bool:
    """Say whether the timer waits."""
    return _is_active(f"{guarded.unit}.timer")


def enforced(guarded: Guard) -> tuple[str, ...]:
    """Return what ends the export, as it stands at this moment."""
    lines = [line for path in guarded.rules for line in (public_file.read_public_file(path) or b"").splitlines()]
    return _enforced(
        guarded, timer=is_armed(guarded), boot=any(line.startswith(b"r!") for line in lines),
        age=any(line.startswith(b"e ") for line in lines),
    )


def foreseen(guarded: Guard, *, alone: bool) -> tuple[str, ...]:
    """Return what would end the export if it were armed."""
    return _enforced(guarded, timer=True, boot=True, age=alone)


def disarm(guarded: Guard) -> None:
    """Take the timer and the rule away; what is not there is no error. Raises CustodyError for a rule that stays."""
    try:
        # The timer last: a rule without one would have no end, and an age.
        for path in guarded.rules:
            public_file.remove_public_file(path, is_ours=_is_rule, dry_run=False)
    finally:
        _run(["systemctl", "stop", "--quiet", f"{guarded.unit}.timer"])


def no_longer_alone(guarded: Guard) -> None:
    """Take the age out of the rule of an export: another file came into its folder, and would be aged with it."""
    if os.path.exists(guarded.rule):
        _write_rule(guarded, None)


def _enforced(guarded: Guard, *, timer: bool, boot: bool, age: bool) -> tuple[str, ...]:
    found = [TIMER] if timer else []
    if age and _is_active("systemd-tmpfiles-clean.timer"):
        found.append(AGE)
    if guarded.in_memory:
        found.append(MEMORY)
    elif boot and _run(["systemctl", "is-enabled", "--quiet", "systemd-tmpfiles-setup.service"]).returncode == 0:
        found.append(BOOT)
    return (*found, USE)


def _is_active(unit: str) -> bool:
    return _run(["systemctl", "is-active", "--quiet", unit]).returncode == 0


def _start_timer(guarded: Guard, expires_at: datetime.datetime, remaining: int) -> None:
    done = _run([
        "systemd-run", "--quiet", f"--unit={guarded.unit}",
        # Both, whichever is first: clocks are set back, and the other one stands still while the host sleeps.
        f"--on-calendar={expires_at:%Y-%m-%d %H:%M:%S} UTC", f"--on-active={remaining}s",
        # By default a timer may be a minute late; and a spent one would keep its name.
        "--timer-property=AccuracySec=1s", "--timer-property=RemainAfterElapse=no",
        f"--description=Take the exported key {guarded.paths[0]} away", "--collect",
        t.cast(str, shutil.which("rm")), "-f", "--", *guarded.paths, guarded.rule,
    ])
    if done.returncode != 0 or not is_armed(guarded):
        said = done.stderr.strip().splitlines()[-1:] or ["the timer is not active"]
        raise _unenforceable(
            guarded.paths[0], f"systemd-run: {said[0][:200]}", "Mend systemd on this host, and run again."
        )


def _write_rule(guarded: Guard, age: int | None) -> None:
    # The rule takes itself away at the next boot: else it would take away what comes to the same place later.
    lines = [
        "# Of an exported key; hallmark.signing.key_export takes it away.",
        *(f"r! {path}" for path in (*guarded.paths, guarded.rule)),
    ]
    if age is not None:
        # Not by when it was read. A file that is moved here keeps the time of its bytes, but not of its entry.
        by = "cm:" if _systemd_version() >= _AGE_BY else ""
        lines.append(f"e {os.path.dirname(guarded.paths[0])} - - - {by}{age}s")
    with suppress(OSError):
        # Such a folder is open to all; a private one would be made otherwise. What is wrong is told below.
        os.makedirs(os.path.dirname(guarded.rule), 0o755, exist_ok=True)
    public_file.ensure_public_file(
        guarded.rule, ("\n".join(lines) + "\n").encode("ascii"), is_former=_is_rule, dry_run=False
    )


def _is_root() -> bool:
    return os.geteuid() == 0


def _is_rule(data: bytes) -> bool:
    return data.startswith(b"# Of an exported key;")


def _systemd_version() -> int:
    match = re.match(r"systemd ([0-9]+)", _run(["systemctl", "--version"]).stdout)
    return int(match[1]) if match else 0


def _run(argv: t.Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            argv, capture_output=True, text=True, timeout=_TIMEOUT, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError) as exc:
        return subprocess.CompletedProcess(argv, 1, "", type(exc).__name__)


def _unenforceable(where: str, cause: str, advice: str) -> CustodyError:
    return CustodyError(
        code="expiry_unenforceable", object=where, attempt="export a key that ends", cause=cause, advice=advice
    )
