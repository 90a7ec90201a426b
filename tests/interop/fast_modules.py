# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Modules, executed as Ansible executes them on a host, but many in a second: see module_server.py."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import typing as t

from interop_tools import NOBODY_ELSE, Json

NAMES = ("image_payload", "image_signature", "image_verify", "log_entry_info", "signing_key")


class Modules:
    """Runs modules, one at a time."""

    def __init__(self, folder: pathlib.Path, tree: pathlib.Path) -> None:
        self._arguments = folder / "arguments.json"
        self._server = subprocess.Popen(
            [sys.executable, str(pathlib.Path(__file__).parent / "module_server.py"), *NAMES], cwd=folder,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={
                "PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": str(tree), "LC_ALL": "C.UTF-8",
                "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(folder), "TMPDIR": str(folder),
            },
        )

    def run(self, module: str, *, check: bool = False, **arguments: t.Any) -> Json:
        """Run one module and return its result, with failed in any case."""
        given = {**NOBODY_ELSE.get(f"hallmark.signing.{module}", {}), **arguments, "_ansible_check_mode": check}
        self._arguments.write_text(json.dumps({"ANSIBLE_MODULE_ARGS": given}))
        order = {"module": module, "arguments": str(self._arguments), "stop": False, "file_size": None}
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(order) + "\n")
        self._server.stdin.flush()
        answer = json.loads(self._server.stdout.readline())
        assert answer["output"].strip(), f"status {answer['status']}: {answer['errors']}"
        return {"failed": False, **json.loads(answer["output"])}

    def succeed(self, module: str, *, check: bool = False, **arguments: t.Any) -> Json:
        """Run one module, which must not fail."""
        result = self.run(module, check=check, **arguments)
        assert not result["failed"], result
        return result

    def fail(self, module: str, *codes: str, **arguments: t.Any) -> Json:
        """Run one module, which must fail for these reasons, in this order."""
        result = self.run(module, **arguments)
        assert result["failed"], result
        assert tuple(reason["code"] for reason in result["reasons"]) == codes, result["msg"]
        return result

    def close(self) -> None:
        """End the server."""
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait(timeout=60)
