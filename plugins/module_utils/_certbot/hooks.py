# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hooks: those of the role, and the deploy hooks of others, such as that of role signer.

Certbot itself makes nothing of a hook that fails, and ends with 0.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess

from . import files
from .failure import clean
from .settings import Settings


def run(path: str, **environment: str) -> tuple[int, str]:
    """Run a hook; return its exit status and the end of what it said. Raises OSError."""
    done = subprocess.run(
        [path], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, **environment}, check=False,
    )
    return done.returncode, clean(done.stdout[-4096:].decode("utf-8", "replace"))


def succeeded(settings: Settings) -> bool:
    """Say whether the deploy hook of the role succeeded for the current certificate. Raises CertbotError."""
    mark = files.read(settings.marker) or b""
    return mark.split()[:1] == [files.digest(settings.fullchain).encode()]


def of_others(settings: Settings) -> tuple[str, ...]:
    """Return the deploy hooks that are not the role's own."""
    folder = os.path.dirname(settings.hook)
    with contextlib.suppress(OSError):
        paths = [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if not name.endswith("~")]
        return tuple(path for path in paths if path != settings.hook and _is_program(path))
    return ()


def failed(settings: Settings, log: str) -> tuple[str, ...]:
    """Return those of others that Certbot ran, and that failed, by its log."""
    found, command = set(), ""
    for line in log.splitlines():
        begun = re.search(r":Running deploy-hook command: (.+)$", line)
        command = begun[1] if begun else command
        if re.search(r":Hook 'deploy-hook' reported error code \d+", line):
            found.add(command)
    return tuple(path for path in of_others(settings) if path in found)


def _is_program(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)
