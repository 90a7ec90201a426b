# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What options and arguments of instructions may say: owners, modes, ports, signals, durations.

Sources: Dockerfile reference; Go's time.ParseDuration for durations; the port grammar of docker's nat package.
"""

from __future__ import annotations

import re
import typing as t

from . import words
from .refusal import Refusal

Flags = t.Mapping[str, str]

_OWNER = re.compile(r"(root|[0-9]{1,10})(?::(root|[0-9]{1,10}))?")
_MAX_ID = (1 << 32) - 2
_MODE = re.compile(r"[0-7]{3,4}")
_PORT = re.compile(r"(?:\S*:)?([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/(\w*))?")
_DURATION = re.compile(r"\+?(?:0|(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+)")
_DURATION_PART = re.compile(r"([0-9]*)\.?([0-9]*)(ns|us|µs|μs|ms|s|m|h)")
_NANOSECONDS = {
    "ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9,
}
_MAX_INTEGER = (1 << 63) - 1
_HEALTH_DURATIONS = {
    "interval": "Interval", "timeout": "Timeout", "start-period": "StartPeriod", "start-interval": "StartInterval",
}
# Those of Linux, which the image is for; this machine may be another.
_SIGNALS = re.compile(
    r"(SIG)?(ABRT|ALRM|BUS|CHLD|CLD|CONT|FPE|HUP|ILL|INT|IOT?|KILL|PIPE|POLL|PROF|PWR|QUIT|SEGV|STKFLT|STOP|SYS|TERM"
    r"|TRAP|TSTP|TTIN|TTOU|URG|USR[12]|VTALRM|WINCH|XCPU|XFSZ|RTMIN(\+([1-9]|1[0-5]))?|RTMAX(-([1-9]|1[0-4]))?)"
)


def flags(text: str, escape: str) -> tuple[dict[str, str], str]:
    """Split what stands behind an instruction's name into its flags, without their dashes, and the rest."""
    found: dict[str, str] = {}
    while True:
        word, rest = words.take(text, escape)
        if not word.startswith("--"):
            return found, text.strip()
        text = rest
        if word == "--":
            return found, text.strip()
        name, _equals, value = word[2:].partition("=")
        if name in found:
            raise Refusal(f"--{name} is given twice")
        found[name] = value


def only(found: Flags, *known: str) -> None:
    """Raise Refusal for a flag that is not known, or lacks its value."""
    for name, value in found.items():
        if name not in known:
            others = ", ".join(f"--{one}" for one in known if one != "from") or "none"
            raise Refusal(f"--{name} is not known here; take it away (known: {others})")
        if name == "link":
            if value not in ("", "true", "false"):
                raise Refusal(f"--link={value} is neither true nor false")
        elif not value:
            raise Refusal(f"--{name} has no value")


def owner(text: str) -> tuple[int, int]:
    """Return UID and GID of a --chown; the GID is the UID where none is given. Raises Refusal for names."""
    found = _OWNER.fullmatch(text)
    ids = [0 if one == "root" else int(one) for one in (found[1], found[2] or found[1])] if found else []
    if not ids or max(ids) > _MAX_ID:
        raise Refusal(f"--chown={text} needs the base's list of users; give numbers, as UID:GID")
    return ids[0], ids[1]


def mode(text: str) -> int:
    """Return the permission bits of a --chmod. Raises Refusal."""
    if not _MODE.fullmatch(text):
        raise Refusal(f"--chmod={text} is not octal; give it like 0755")
    return int(text, 8)


def ports(text: str) -> list[str]:
    """Return the ports of one word of EXPOSE as the configuration names them. Raises Refusal."""
    found = _PORT.fullmatch(text)
    protocol = (found[3] or "tcp").lower() if found else ""
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
    if protocol not in ("tcp", "udp", "sctp") or not first <= last <= 65535:
        raise Refusal(f"{text!r} is no port; give it like 80, 80/udp or 8000-8010/tcp")
    return [f"{port}/{protocol}" for port in range(first, last + 1)]


def stop_signal(text: str) -> str:
    """Return the signal unchanged. Raises Refusal unless Linux has it."""
    if (re.fullmatch("[0-9]{1,3}", text) and int(text)) or _SIGNALS.fullmatch(text.upper()):
        return text
    raise Refusal(f"{text!r} is no signal; give it like SIGTERM or 15")


def health(found: Flags) -> dict[str, int]:
    """Return the members that the flags of HEALTHCHECK set; those of value 0 are left out. Raises Refusal."""
    members: dict[str, int] = {}
    for name, raw in found.items():
        value = raw.strip("\"'")
        if name in _HEALTH_DURATIONS:
            members[_HEALTH_DURATIONS[name]] = _duration(name, value)
        elif re.fullmatch("[0-9]{1,9}", value):
            members["Retries"] = int(value)
        else:
            raise Refusal(f"--{name}={raw} is no number of times")
    return {member: value for member, value in members.items() if value}


def _duration(name: str, text: str) -> int:
    total = -1
    if _DURATION.fullmatch(text):
        total = sum(
            int(whole or 0) * _NANOSECONDS[unit] + int(part or 0) * _NANOSECONDS[unit] // 10 ** len(part)
            for whole, part, unit in _DURATION_PART.findall(text)
        )
    # docker takes nothing below a millisecond.
    if total != 0 and not 10**6 <= total <= _MAX_INTEGER:
        raise Refusal(f"--{name}={text} is no duration of 1ms or more; give it like 30s or 1m30s")
    return total
