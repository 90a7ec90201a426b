# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Registering the account with an external account binding (RFC 8555 section 7.3.4)."""

from __future__ import annotations

import contextlib
import os
import re
import urllib.parse

from .._errors import CertbotError
from . import files
from .report import Report
from .running import certbot
from .settings import Settings


def register(settings: Settings) -> Report:
    """Register the account with its binding, unless there is an account. Raises CertbotError."""
    if _has_account(settings):
        return Report()
    key = _binding_key(settings.binding.hmac_key_path)
    # Arguments can be read by everybody, and a file outlives a crash. This one has no name, and ends with its readers.
    descriptor = os.memfd_create("certbot.ini", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(f"eab-kid = {settings.binding.kid}\neab-hmac-key = {key}\n".encode())
        stream.flush()
        done = certbot(
            settings, "register", "--agree-tos", "--server", settings.server, *settings.account,
            "--config", f"/dev/fd/{descriptor}", descriptors=[descriptor],
        )
    report = Report(changed=not done.status)
    return report.failed(done.error.replace(key, "(left out)")) if done.status else report


def _has_account(settings: Settings) -> bool:
    parts = urllib.parse.urlsplit(settings.server)
    accounts = os.path.join(settings.config_dir, "accounts", parts.netloc, parts.path.strip("/"))
    with contextlib.suppress(FileNotFoundError):
        return any(os.path.exists(os.path.join(accounts, name, "regr.json")) for name in os.listdir(accounts))
    return False


def _binding_key(path: str) -> str:
    data = files.read(path)
    if data is None:
        raise CertbotError(
            code="not_found", object=path, attempt="read the HMAC key of the binding", cause="there is no such file",
            advice="Write the server's HMAC key to it.",
        )
    if os.stat(path).st_mode & 0o027:
        raise CertbotError(
            code="mode_too_open", object=path, attempt="use the HMAC key of the binding",
            cause="others may read or change it", advice="Make its mode 0600.",
        )
    key = data.decode("ascii", "replace").strip()
    if not re.fullmatch(r"[A-Za-z0-9_-]+=*", key):
        raise CertbotError(
            code="malformed", object=path, attempt="use the HMAC key of the binding",
            cause="it does not hold one HMAC key in base64url, and nothing else",
            advice="Take it as the server gave it.",
        )
    return key
