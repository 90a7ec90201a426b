# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What went wrong: the errors of the server out of Certbot's log, and what Certbot said, as one line for people.

Certbot before 2.3 hides the server's error behind one of its own, with Python 3.11.
"""

from __future__ import annotations

import contextlib
import json
import re

MAX_LENGTH = 1200
_BOILERPLATE = re.compile(
    r"Saving debug log to|Ask for help|See the logfile|Processing |[- ]*$|Requesting a certificate|"
    r"Renewing an existing|An unexpected error occurred|AttributeError: can't set attribute|Plugins selected|"
    r"Account registered"
)
_PROBLEM = re.compile(r'\{\s*"type":\s*"urn:ietf:params:acme:error:')
_RAISED = re.compile(r"acme\.messages\.Error: (urn:ietf:params:acme:error:\w+)((?: :: [^\n]{1,600}){1,2})")


def clean(text: str, *, most: int = MAX_LENGTH) -> str:
    """Return what others said as one line that is safe to show: also nothing long that looks secret."""
    text = re.sub(r"-----BEGIN.*?(-----END [A-Z ]*-----|\Z)", "(left out)", text, flags=re.DOTALL)
    text = "".join(char if char.isprintable() else " " for char in text)
    return one_line(re.sub(r"[A-Za-z0-9+/_=-]{65,}", "(left out)", text), most=most)


def one_line(text: str, *, most: int = MAX_LENGTH) -> str:
    """Return text as one line of bounded length, without anything that steers a terminal."""
    text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return text if len(text) <= most else text[:most - 1] + "…"


def server_errors(log: str) -> list[str]:
    """Return the errors of the ACME server in a log, each once, the last three."""
    found: list[str] = []
    for match in _PROBLEM.finditer(log):
        with contextlib.suppress(ValueError):
            problem = json.JSONDecoder().raw_decode(log, match.start())[0]
            found.append(f"{problem['type']}: {problem.get('detail') or 'no detail'}")
    if not found:
        found = [f"{match[1]}: {match[2].rpartition(' :: ')[2]}" for match in _RAISED.finditer(log)]
    texts = [clean(text, most=500) for text in found if ":badNonce:" not in text]
    return list(dict.fromkeys(texts))[-3:]


def sentence(output: str, log: str) -> str:
    """Say why Certbot failed: what the server answered, then what Certbot made of it."""
    errors = server_errors(log)
    waits = re.findall(r"^Retry-After: ([^\r\n]{1,60})", log, re.MULTILINE)
    if waits and any(":rateLimited:" in text for text in errors):
        errors.append(f"Retry-After: {clean(waits[-1], most=60)}")
    said = [line.strip() for line in output.splitlines() if not _BOILERPLATE.match(line.strip())]
    parts = [f"the server answered {' / '.join(errors)}"] if errors else []
    if said:
        parts.append(f"Certbot said {clean(' / '.join(said[-8:]), most=600)}")
    return clean("; ".join(parts).rstrip(".")) or "Certbot said nothing"
