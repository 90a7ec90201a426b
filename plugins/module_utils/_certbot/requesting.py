# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A certificate for a request whose key is elsewhere. Certbot keeps no lineage of these, and renews none."""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import replace

from .._errors import CertbotError
from . import files, hooks, record
from .certificates import Certificate, Request, read_certificate, read_request
from .obtaining import obtain
from .report import Report
from .settings import Outside, Settings


def request(settings: Settings, outside: Outside, *, forced: bool = False) -> Report:
    """Obtain a certificate if there is none for this request, or another one is due. Raises HallmarkError."""
    known, current = record.load(settings), read_certificate(outside.certificate)
    asked = _checked(settings, outside, known)
    if current is None or not _is_for(current, asked, settings) or read_certificate(settings.fullchain) != current:
        return _laid_out(settings, outside, asked.key_id)
    if forced or known.demands_successor(current):
        return known.forcing(settings.server, lambda: _laid_out(settings, outside, asked.key_id))
    is_due = current.remaining(time.time()) < outside.renew_at
    return _laid_out(settings, outside, asked.key_id) if is_due else Report(tried=False)


def _checked(settings: Settings, outside: Outside, known: record.Record) -> Request:
    """Return the request, if it may be used."""
    asked = read_request(outside.request)
    if asked.names and list(asked.names) != sorted(settings.domains):
        raise CertbotError(
            code="input_invalid", object=outside.request, attempt="use the certificate request",
            cause=f"it is for {', '.join(asked.names)}, not for certbot_domains",
            advice="Make another request, or change certbot_domains.",
        )
    if known.is_compromised(asked.key_id):
        raise CertbotError(
            code="input_invalid", object=outside.request, attempt="use the certificate request",
            cause="its key was revoked as compromised", advice="Make a new key and a new request.",
        )
    return asked


def _is_for(current: Certificate, asked: Request, settings: Settings) -> bool:
    return (current.key_id, current.names) == (asked.key_id, tuple(sorted(settings.domains)))


def _laid_out(settings: Settings, outside: Outside, key_id: str) -> Report:
    """Obtain the certificate in a folder of its own, because Certbot numbers files that exist; then put it in place."""
    with tempfile.TemporaryDirectory(prefix=f"{settings.lineage}.csr-", dir=os.path.dirname(settings.path)) as folder:
        certificate, chain, fullchain = (os.path.join(folder, f"{name}.pem") for name in ("cert", "chain", "fullchain"))
        report = obtain(
            settings, "certonly", "--agree-tos", "--server", settings.server, *settings.account,
            *settings.authenticator.arguments, *settings.profile, *settings.extra_arguments,
            "--csr", outside.request, "--cert-path", certificate, "--chain-path", chain, "--fullchain-path", fullchain,
        )
        if report.status:
            return report
        obtained = read_certificate(certificate)
        if obtained is None or obtained.key_id != key_id:
            return report.failed(f"{outside.request}: the server made a certificate for another key.")
        # That with both last: by it, it is known what is in place.
        for path, source in (
            (outside.chain, chain), (outside.certificate, certificate), (outside.fullchain, fullchain),
        ):
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
            files.write(path, files.read(source) or b"")
    return replace(report, changed=True, hooks_due=hooks.of_others(settings))
