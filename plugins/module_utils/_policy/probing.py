# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Trying a policy before it is installed: the real skopeo fetches images under it.

Each image is fetched whole into a folder that is taken away again, so small ones are the better probes. Credentials and
mirrors are those that skopeo finds by itself.
"""

from __future__ import annotations

import glob
import os
import re
import shutil
import subprocess
import tempfile
import typing as t

from .._errors import RegistryError
from .._oci import reference as references
from . import containers
from .rendering import Files

PROGRAM = "skopeo"
# What skopeo says of an image that the policy denies, and of nothing else.
_DENIED = "Source image rejected: "
_TIMEOUT = 300
_SHOWN = 400


def probe(files: Files, *, dest: str, admit: t.Sequence[str], deny: t.Sequence[str]) -> None:
    """Fetch images under the rendered policy, with what others say of registries in C(dest). Raises RegistryError.

    probe_failed: one was denied that is to be admitted, or the reverse. registry_error: one could not be fetched for
    another reason, which proves nothing. not_found: there is no skopeo. FormatError: an image is none.
    """
    wanted = [(str(references.parse(image)), True) for image in admit]
    wanted += [(str(references.parse(image)), False) for image in deny]
    program = shutil.which(PROGRAM)
    if program is None:
        raise RegistryError(
            code="not_found", object=PROGRAM, attempt="try the policy before it is installed",
            cause="it is not on this host", advice="Install it, or leave probes out.",
        )
    with tempfile.TemporaryDirectory(prefix="hallmark-probe-") as folder:
        _copy_others(os.path.join(dest, os.path.dirname(containers.REGISTRIES)), folder)
        for name, text in files.items():
            path = os.path.join(folder, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as stream:
                stream.write(text)
        for image, is_admitted in wanted:
            _try(program, folder, image, is_admitted)


def _copy_others(source: str, folder: str) -> None:
    """Copy the files of others beside ours: a narrower scope of theirs wins, and a broken file breaks all."""
    target = os.path.join(folder, os.path.dirname(containers.REGISTRIES))
    os.makedirs(target)
    for path in glob.glob(f"{glob.escape(source)}/*.yaml"):
        if os.path.basename(path) != os.path.basename(containers.REGISTRIES):
            try:
                shutil.copy(path, target)
            except OSError as exc:
                raise _failed("registry_error", path, f"it cannot be read: {exc.strerror}") from exc


def _try(program: str, folder: str, image: str, is_admitted: bool) -> None:
    target = os.path.join(folder, "image")
    command = [
        program, "--policy", os.path.join(folder, containers.POLICY), "--registries.d",
        os.path.join(folder, os.path.dirname(containers.REGISTRIES)), "copy", "--quiet", f"docker://{image}",
        f"dir:{target}",
    ]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT, check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise _failed("registry_error", image, f"skopeo did not end well: {type(exc).__name__}") from exc
    finally:
        shutil.rmtree(target, ignore_errors=True)
    said = re.sub(r"\s+", " ", done.stderr).strip()
    if done.returncode and _DENIED not in said:
        raise _failed("registry_error", image, f"skopeo could not fetch it: {said[-_SHOWN:]}")
    if done.returncode and is_admitted:
        why = said.partition(_DENIED)[2][:_SHOWN].rstrip('." ')
        raise _failed("probe_failed", image, f"it is to be admitted, and was denied: {why}")
    if not done.returncode and not is_admitted:
        raise _failed("probe_failed", image, "it is to be denied, and was admitted")


def _failed(code: t.Literal["registry_error", "probe_failed"], image: str, cause: str) -> RegistryError:
    return RegistryError(
        code=code, object=image, attempt="try the policy with it", cause=cause,
        advice="Nothing was installed; look at " + (
            "the policy, and at who signed the image." if code == "probe_failed" else "what skopeo says."
        ),
    )
