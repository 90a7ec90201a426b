# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The forced command of ssh where the key belongs to a unit: carries one request to its socket, and the answer back.

The account of ssh cannot read the key. It says who calls, which is the name that stands in authorized_keys.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import socket
import sys
import typing as t

_MAX = 512 * 1024
_SECONDS = 60
_CALLER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")


def main(argv: t.Sequence[str]) -> int:
    """Relay one request; return 0 if the service answered."""
    parser = argparse.ArgumentParser(prog="hallmark relay")
    parser.add_argument("--socket", required=True)
    parser.add_argument("--caller", required=True)
    options = parser.parse_args(argv)
    if not _CALLER.fullmatch(options.caller):
        return _failed("input_invalid", f"{options.caller[:64]!r} is no name of a caller")
    # Whoever connects and says nothing is not waited for.
    signal.alarm(2 * _SECONDS)
    request = sys.stdin.buffer.read(_MAX + 1)
    if len(request) > _MAX:
        return _failed("limit_exceeded", "the request is too large")
    answer = b""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_SECONDS)
            connection.connect(options.socket)
            connection.sendall(options.caller.encode("ascii") + b"\n" + request)
            connection.shutdown(socket.SHUT_WR)
            while len(answer) <= _MAX and (chunk := connection.recv(65536)):
                answer += chunk
    except OSError as exc:
        return _failed("service_unavailable", f"{options.socket}: {exc.strerror or type(exc).__name__}")
    if not answer:
        return _failed("service_unavailable", f"{options.socket}: the service ended without an answer; see its journal")
    sys.stdout.buffer.write(answer)
    sys.stdout.flush()
    return 0


def _failed(code: str, cause: str) -> int:
    message = f"could not reach the signing service: {cause}"
    sys.stdout.write(json.dumps({"error": {"code": code, "message": message}}) + "\n")
    sys.stdout.flush()
    return 1
