# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Writes how many seconds the tasks of a playbook took together, from the first one's start to the last one's end."""

from __future__ import annotations

import os
import pathlib
import time
import typing as t

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: task_seconds
type: notification
short_description: Seconds that all tasks took
description: Writes the seconds from the first task's start to the playbook's end to the file that TASK_SECONDS names.
"""


class CallbackModule(CallbackBase):
    """Seconds that all tasks took."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "task_seconds"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._since: float | None = None

    def v2_playbook_on_task_start(self, task: t.Any, is_conditional: bool) -> None:
        self._since = self._since or time.monotonic()

    def v2_playbook_on_stats(self, stats: t.Any) -> None:
        seconds = time.monotonic() - (self._since or time.monotonic())
        pathlib.Path(os.environ["TASK_SECONDS"]).write_text(str(seconds))
