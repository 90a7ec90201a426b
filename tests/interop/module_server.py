# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Executes modules as Ansible does on a host, each in a process of its own, without starting Python each time.

The modules named as arguments are imported once. Then each line of standard input orders one run, in a fork: the
file of the module is executed as __main__, with its arguments on standard input. With "stop" the process stops
itself first, so that a tracer finds it before the module's first system call; then the answer is two lines.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import resource
import runpy
import signal
import sys
import tempfile
import traceback
import typing as t

COLLECTION = "ansible_collections.hallmark.signing.plugins"
# Imported late, and not by every task or under every ansible-core.
_LATE = (
    f"{COLLECTION}.module_utils._keys.encrypted_key", "nacl.secret",
    "ansible.module_utils._internal._json._profiles._module_legacy_c2m",
    "ansible.module_utils._internal._json._profiles._module_legacy_m2c",
)
_PR_SET_PTRACER = 0x59616D61


def main() -> None:
    """Serve until standard input ends."""
    for module in sys.argv[1:]:
        importlib.import_module(f"{COLLECTION}.modules.{module}")
    for name in _LATE:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.freeze()
    for line in iter(sys.stdin.readline, ""):
        order = json.loads(line)
        with open(order["arguments"], "rb") as arguments, tempfile.TemporaryFile() as errors:
            reading, writing = os.pipe()
            child = os.fork()
            if not child:
                for number, fd in enumerate((arguments.fileno(), writing, errors.fileno())):
                    os.dup2(fd, number)
                os.closerange(3, 64)
                _execute(order)
            os.close(writing)
            if order["stop"]:
                os.waitpid(child, os.WUNTRACED)
                _answer({"pid": child})
            with open(reading, "rb") as stream:
                output = stream.read().decode()
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            errors.seek(0)
            _answer({"status": status, "output": output, "errors": errors.read().decode()})


def _execute(order: dict[str, t.Any]) -> t.NoReturn:
    status: t.Any = 1
    try:
        # With an empty umask, nothing but the module's own care keeps others out.
        os.umask(0)
        signal.alarm(60)
        if order["file_size"] is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (order["file_size"],) * 2)
        if order["stop"]:
            # Where Yama lets a tracer follow its descendants only, it must be invited; elsewhere this is an error.
            ctypes.CDLL(None).prctl(_PR_SET_PTRACER, ctypes.c_ulong(-1), 0, 0, 0)
            os.kill(os.getpid(), signal.SIGSTOP)
        name = f"{COLLECTION}.modules.{order['module']}"
        del sys.modules[name]
        sys.argv = [name]
        sys.stdin, sys.stdout = open(0, encoding="utf-8"), open(1, "w", encoding="utf-8")  # noqa: SIM115
        runpy.run_module(name, run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as exc:
        status = exc.code or 0
    except BaseException:
        traceback.print_exc()
    # As at the end of Python, but for taking every object apart, which takes longer than the module.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else 1)


def _answer(content: dict[str, t.Any]) -> None:
    print(json.dumps(content), flush=True)


if __name__ == "__main__":
    main()
