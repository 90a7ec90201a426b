# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Writes the result of every task as one line of JSON, as callbacks see it: after no_log was applied."""

from __future__ import annotations

import json
import os
import time
import typing as t

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: hallmark_results
type: notification
short_description: Results of tasks as JSON lines
description: Appends one JSON object for each task and host to the file that HALLMARK_RESULTS names.
"""


class CallbackModule(CallbackBase):
    """Results of tasks as JSON lines."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "hallmark_results"
    CALLBACK_NEEDS_ENABLED = True

    def v2_runner_on_ok(self, result: t.Any) -> None:
        self._write("ok", result)

    def v2_runner_on_failed(self, result: t.Any, ignore_errors: bool = False) -> None:
        self._write("ignored" if ignore_errors else "failed", result)

    def v2_runner_on_skipped(self, result: t.Any) -> None:
        self._write("skipped", result)

    def v2_runner_on_unreachable(self, result: t.Any) -> None:
        self._write("unreachable", result)

    @staticmethod
    def _write(status: str, result: t.Any) -> None:
        line = json.dumps({
            "status": status, "host": result.host.get_name(), "task": result.task.get_name(),
            "action": result.task.action, "result": result.result, "at": time.time(),
        }, default=str)
        with open(os.environ["HALLMARK_RESULTS"], "a", encoding="utf-8") as stream:
            stream.write(line + "\n")
