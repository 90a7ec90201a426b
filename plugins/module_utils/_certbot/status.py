# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The status of a lineage, for people and programs, and the same as metrics for a node exporter."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass, replace

from .._errors import CertbotError
from . import files, hooks
from .certificates import Certificate, read_certificate
from .moments import seconds_of, text_of
from .settings import Settings


@dataclass(frozen=True)
class Status:
    """What outlives a run: when a renewal was tried, when it went well, and which hooks are still to be run."""

    last_attempt: str | None = None
    last_success: str | None = None
    renewal_ok: bool = True
    error: str = ""
    hook_error: str = ""
    hooks_due: tuple[str, ...] = ()


_KINDS: dict[str, tuple[type, ...]] = {
    "last_attempt": (str, type(None)), "last_success": (str, type(None)), "renewal_ok": (bool,), "error": (str,),
    "hook_error": (str,), "hooks_due": (list,),
}


def load(settings: Settings) -> Status:
    """Read the status of a lineage; there need not be one. Raises CertbotError (malformed)."""
    path = settings.beside("status")
    said = {name: value for name, value in files.read_json(path).items() if name in _KINDS}
    try:
        if not all(isinstance(value, _KINDS[name]) for name, value in said.items()):
            raise TypeError
        for name in ("last_attempt", "last_success"):
            seconds_of(said.get(name) or text_of(0))
    except (TypeError, ValueError) as exc:
        raise files.malformed(path, "it is no status of a lineage") from exc
    return Status(**{**said, "hooks_due": tuple(map(str, said.get("hooks_due", ())))})


def after_attempt(settings: Settings, now: float, *, error: str, hooks_due: tuple[str, ...] | None) -> None:
    """Write down what is after an attempt to renew, with its error. Raises HallmarkError."""
    former = _former(settings)
    _write(settings, replace(
        former, last_attempt=text_of(now), last_success=former.last_success if error else text_of(now),
        renewal_ok=not error, error=error, hooks_due=former.hooks_due if hooks_due is None else hooks_due,
    ))


def after_hooks(settings: Settings, *, error: str, hooks_due: tuple[str, ...]) -> None:
    """Write down what is after deploy hooks were run, and which of them are still to be run. Raises HallmarkError."""
    former = _former(settings)
    _write(settings, replace(former, hook_error=error or former.hook_error, hooks_due=hooks_due))


def _former(settings: Settings) -> Status:
    # A status that cannot be read is worth less than the one that is written now.
    with contextlib.suppress(CertbotError):
        return load(settings)
    return Status()


def _write(settings: Settings, status: Status) -> None:
    current = read_certificate(settings.leaf)
    hook_ok = current is not None and hooks.succeeded(settings) and not status.hooks_due
    status = replace(status, hook_error="") if hook_ok else status
    files.keep_json(settings.beside("status"), {
        **asdict(status), "lineage": settings.lineage, "server": settings.server, "hook_ok": hook_ok,
        "ok": status.renewal_ok and hook_ok, "certificate": _facts(current),
    })
    if settings.metrics_path:
        files.write(settings.metrics_path, metrics(settings.lineage, status, current, hook_ok=hook_ok).encode())


def _facts(current: Certificate | None) -> files.Json | None:
    return None if current is None else {
        "serial": current.serial, "key_id": current.key_id, "names": current.names,
        "not_before": text_of(current.not_before), "not_after": text_of(current.not_after),
    }


def metrics(lineage: str, status: Status, current: Certificate | None, *, hook_ok: bool) -> str:
    """Return the status in the text format that node exporters collect."""
    rows: list[tuple[str, str, float]] = [
        ("renewal_ok", "Whether the last attempt to renew succeeded, or nothing was due.", float(status.renewal_ok)),
        ("deploy_hook_ok", "Whether deploy hooks succeeded for this certificate.", float(hook_ok)),
    ]
    if status.last_attempt:
        rows.append((
            "last_attempt_timestamp_seconds", "When a renewal was last tried.", seconds_of(status.last_attempt)
        ))
    if status.last_success:
        rows.append(("last_success_timestamp_seconds", "When that last went well.", seconds_of(status.last_success)))
    if current:
        rows.append(("certificate_not_after_timestamp_seconds", "When the certificate ends.", current.not_after))
    label = json.dumps(lineage)
    return "".join(
        f"# HELP hallmark_certbot_{name} {text}\n# TYPE hallmark_certbot_{name} gauge\n"
        f"hallmark_certbot_{name}{{lineage={label}}} {value:.0f}\n" for name, text, value in rows
    )
