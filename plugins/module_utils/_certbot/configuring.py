# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bringing what Certbot keeps for renewals in line with the settings."""

from __future__ import annotations

import os

from . import files, renewal_file
from .report import Report
from .running import alone, certbot
from .settings import Settings

# What is usual is not written down by Certbot.
_USUAL = {"reuse_key": "False", "http01_port": "80"}


def configure(settings: Settings) -> Report:
    """Change how the lineage is renewed, where that is another way than is wanted. Raises HallmarkError and OSError."""
    with alone(settings):
        notes = _notes(settings)
        kept = renewal_file.parameters(settings)
        wanted = {**settings.authenticator.kept, "reuse_key": str(settings.reuse_key)}
        if settings.outside or not kept or all(_value(kept, name) == value for name, value in wanted.items()):
            return Report(notes=notes)
        if settings.older_than(2, 3):
            renewal_file.edit(renewal_file.path_of(settings), wanted)
            return Report(changed=True, notes=notes)
        done = certbot(
            settings, "reconfigure", "--cert-name", settings.lineage, "--agree-tos",
            *settings.authenticator.arguments, *settings.reuse_arguments,
        )
        report = Report(changed=not done.status, notes=notes)
        return report.failed(done.error) if done.status else report


def _value(kept: dict[str, str], name: str) -> str:
    return kept.get(name, _USUAL.get(name, "")).rstrip(",")


def _notes(settings: Settings) -> tuple[str, ...]:
    """Return what an administrator should know about this host."""
    notes = []
    copies = os.path.join(settings.config_dir, "keys")
    count = len(files.stems(copies, "_key-certbot.pem"))
    if count:
        notes.append(f"{copies}: holds {count} more copies of private keys; Certbot before 2.3 keeps one of each.")
    ours = files.stems(os.path.dirname(settings.path), ".settings")
    others = sorted(files.stems(os.path.join(settings.config_dir, "renewal"), ".conf") - ours)
    if others and settings.exclusive:
        notes.append(f"these lineages are renewed by nobody now, as this role did not make them: {', '.join(others)}.")
    kept = renewal_file.parameters(settings).get("key_type")
    if kept and kept != settings.key[1]:
        notes.append(f"{settings.lineage}: its key is of type {kept}; certbot_key_type counts for the next new key.")
    return tuple(notes)
