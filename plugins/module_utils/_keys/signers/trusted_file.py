# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files whose content is executed: only such as nobody but root and this user could have put there."""

from __future__ import annotations

import os
import stat

from ..._errors import KeyFileError

_MAX_LINKS = 16


def require_trusted(path: str, *, attempt: str) -> None:
    """Refuse a file that others may exchange, on any step of the way to it, links included.

    Raises KeyFileError: not_found, or parent_unsafe that names the step.
    """
    todo, here, links = os.path.abspath(path).split("/")[1:], "/", 0
    try:
        while todo:
            name = todo.pop(0)
            if name in ("", ".", ".."):
                here = os.path.dirname(here) if name == ".." else here
                continue
            below = os.path.join(here, name)
            above, status = os.stat(here), os.lstat(below)
            if not _is_kept(above, status, is_last=not todo):
                raise _unsafe(path, attempt, here)
            if not stat.S_ISLNK(status.st_mode):
                here = below
                continue
            links += 1
            if links > _MAX_LINKS:
                raise _unsafe(path, attempt, below)
            target = os.readlink(below)
            todo = target.split("/") + todo
            here = "/" if target.startswith("/") else here
        status = os.stat(here)
    except OSError as exc:
        raise KeyFileError(
            code="not_found", object=path, attempt=attempt, cause=exc.strerror or type(exc).__name__,
            advice="Check the path, and that the user of this task may read it.",
        ) from exc
    if not stat.S_ISREG(status.st_mode):
        raise KeyFileError(
            code="not_found", object=path, attempt=attempt, cause="it is not a regular file", advice="Check the path.",
        )
    if status.st_mode & 0o022 or not _is_trusted(status):
        raise _unsafe(path, attempt, here)


def _is_kept(above: os.stat_result, below: os.stat_result, *, is_last: bool) -> bool:
    """Say whether nobody else can put something else in the place of a name in a folder."""
    if is_last:
        return _is_trusted(above) and not above.st_mode & 0o022
    if above.st_mode & stat.S_IWOTH:
        return bool(above.st_mode & stat.S_ISVTX) and _is_trusted(below)
    return True


def _is_trusted(status: os.stat_result) -> bool:
    return status.st_uid in (0, os.geteuid())


def _unsafe(path: str, attempt: str, step: str) -> KeyFileError:
    return KeyFileError(
        code="parent_unsafe", object=path, attempt=attempt, cause=f"others can exchange it: see {step}",
        advice="Give file and folder to root, without write for group and others.",
    )
