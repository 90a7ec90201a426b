# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Revoking certificates of a lineage. The lineage stays."""

from __future__ import annotations

import contextlib
import os
import re
import time

from .._errors import CertbotError
from . import record
from .certificates import Certificate, read_certificate
from .report import Report
from .running import alone, certbot
from .settings import Settings


def revoke(settings: Settings, *, reason: str, key_id: str) -> Report:
    """Revoke the current certificate; if its key is compromised, all that are valid for this key.

    C(key_id) names the key; when empty, it is that of the current certificate. Raises HallmarkError and OSError.
    """
    with alone(settings):
        known, current = record.load(settings), read_certificate(settings.leaf)
        wanted = key_id or (current.key_id if current else "")
        todo = [
            (path, one) for path, one in _valid(settings, wanted) if reason == record.COMPROMISED or one == current
        ]
        if not todo and not any(one.key_id == wanted for one in known.revoked.values()):
            raise CertbotError(
                code="not_found", object=settings.lineage, attempt="revoke a certificate",
                cause=f"there is no valid certificate of key {wanted or '(none)'}",
                advice="Compare certbot_revoke_key_id with the key_id of the status.",
            )
        changed = False
        for path, one in todo:
            if one.fingerprint in known.revoked:
                continue
            error = _revoke(settings, path, reason)
            if error:
                return Report(changed=changed).failed(f"{path}: {error}")
            # One at a time, because this run may be killed.
            known = known.with_revoked(one, reason, time.time())
            known.save(time.time())
            changed = True
        return Report(changed=changed)


def _valid(settings: Settings, key_id: str) -> list[tuple[str, Certificate]]:
    """Return the paths of the valid certificates of a key, each certificate once."""
    found: dict[str, tuple[str, Certificate]] = {}
    for path in _paths(settings):
        one = read_certificate(path)
        if one and one.key_id == key_id and one.not_after > time.time():
            found[one.fingerprint] = (path, one)
    return list(found.values())


def _paths(settings: Settings) -> list[str]:
    """Return the paths of all certificates of the lineage, with the current one last."""
    if settings.outside:
        return [settings.leaf]
    folder = os.path.join(settings.config_dir, "archive", settings.lineage)
    with contextlib.suppress(OSError):
        names = [name for name in os.listdir(folder) if re.fullmatch(r"cert[0-9]+\.pem", name)]
        return [os.path.join(folder, name) for name in sorted(names, key=lambda name: int(name[4:-4]))]
    return []


def _revoke(settings: Settings, path: str, reason: str) -> str:
    """Revoke one certificate; return what went wrong."""
    number = re.sub("[^0-9]", "", os.path.basename(path))
    key = os.path.join(os.path.dirname(path), f"privkey{number}.pem")
    # A server that is shown the key itself blocks it for good. Certbot reads it; this program does not.
    shown = reason == record.COMPROMISED and not settings.outside and os.path.exists(key)
    done = certbot(
        settings, "revoke", "--server", settings.server, "--cert-path", path, *(["--key-path", key] if shown else []),
        "--reason", reason, "--no-delete-after-revoke",
    )
    already = ":alreadyRevoked" in done.error or "already been revoked" in done.error
    return "" if already else done.error
