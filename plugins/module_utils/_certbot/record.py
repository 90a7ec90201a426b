# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The record of a lineage: what was forced, and what was revoked. Neither can be seen in Certbot's own files."""

from __future__ import annotations

import time
import typing as t
from dataclasses import asdict, dataclass, field, replace

from . import files
from .certificates import Certificate
from .moments import text_of
from .report import Report
from .settings import Settings

PRODUCTION = "https://acme-v02.api.letsencrypt.org/directory"
COMPROMISED = "keycompromise"
# Let's Encrypt issues five certificates for a set of names in seven days. One of them is left for what is due.
_FORCED_LIMIT = 4
_FORCED_WINDOW = 7 * 86400
# A certificate revoked for these reasons is replaced; one revoked for others may be meant to end.
_REPLACED = (COMPROMISED, "superseded")


@dataclass(frozen=True)
class Forced:
    """A renewal that was not due: when, in seconds since 1970, and by which server."""

    at: float
    server: str


@dataclass(frozen=True)
class Revoked:
    """A certificate that was revoked: which, for what reason, and when."""

    serial: str
    key_id: str
    reason: str
    at: str


@dataclass(frozen=True)
class Record:
    """Renewals that were forced, and revoked certificates by their fingerprints."""

    path: str
    forced: tuple[Forced, ...] = ()
    revoked: t.Mapping[str, Revoked] = field(default_factory=dict)

    def save(self, now: float) -> None:
        """Write it, without what is too old to matter. Raises CustodyError."""
        files.keep_json(self.path, {
            "forced": [asdict(one) for one in self.forced if one.at > now - _FORCED_WINDOW],
            "revoked": {fingerprint: asdict(one) for fingerprint, one in self.revoked.items()},
        })

    def is_compromised(self, key_id: str) -> bool:
        """Say whether a certificate of this key was revoked because somebody else may have the key."""
        return any((one.key_id, one.reason) == (key_id, COMPROMISED) for one in self.revoked.values())

    def demands_successor(self, current: Certificate | None) -> bool:
        """Say whether the current certificate was revoked by us, and is to be replaced."""
        found = self.revoked.get(current.fingerprint) if current else None
        return found is not None and found.reason in _REPLACED

    def with_revoked(self, one: Certificate, reason: str, now: float) -> Record:
        """Return it with a certificate that was revoked now."""
        entry = Revoked(one.serial, one.key_id, reason, text_of(now))
        return replace(self, revoked={**self.revoked, one.fingerprint: entry})

    def forcing(self, server: str, work: t.Callable[[], Report]) -> Report:
        """Force a renewal, and remember it: before it is done, because the run may be killed."""
        now = time.time()
        replace(self, forced=(*self.forced, Forced(now, server))).save(now)
        report = work()
        if not report.changed:
            self.save(time.time())
        return report

    def refusal(self, server: str, now: float) -> str:
        """Say why no further renewal may be forced now, if so."""
        recent = sorted(one.at for one in self.forced if one.server == server and one.at > now - _FORCED_WINDOW)
        if server != PRODUCTION or len(recent) < _FORCED_LIMIT:
            return ""
        return (
            f"{len(recent)} renewals were forced in the last 7 days, and Let's Encrypt blocks a set of names after 5. "
            f"The next one may be forced at {text_of(recent[-_FORCED_LIMIT] + _FORCED_WINDOW)}; "
            "a renewal that is due needs no force"
        )


def load(settings: Settings) -> Record:
    """Read the record of a lineage; there need not be one. Raises CertbotError (malformed)."""
    path = settings.beside("journal")
    document = files.read_json(path)
    try:
        forced = tuple(Forced(float(one["at"]), str(one["server"])) for one in document.get("forced", []))
        revoked = {
            fingerprint: Revoked(*(str(one[name]) for name in ("serial", "key_id", "reason", "at")))
            for fingerprint, one in document.get("revoked", {}).items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise files.malformed(path, "it is no record of what was forced and revoked") from exc
    return Record(path, forced, revoked)
