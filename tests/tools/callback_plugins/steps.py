# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Standard output of ./dev demo: one line for each play, with its time, and whatever a task says by debug."""

from __future__ import annotations

import time
import typing as t

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: steps
type: stdout
short_description: One line for each play
description: Prints the name of each play when it begins, its time when it ends, and failures in full.
"""


class CallbackModule(CallbackBase):
    """One line for each play."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "steps"

    def __init__(self) -> None:
        super().__init__()
        self._number = 0
        self._since = 0.0
        self._open = False

    def v2_playbook_on_play_start(self, play: t.Any) -> None:
        self._end()
        self._number += 1
        self._since = time.monotonic()
        self._open = True
        self._display.display(f"  {self._number:2}  {play.get_name()}")

    def v2_runner_on_ok(self, result: t.Any) -> None:
        if result.task.action in ("debug", "ansible.builtin.debug"):
            self._display.display(f"      {result.result.get('msg', '')}")

    def v2_runner_on_failed(self, result: t.Any, ignore_errors: bool = False) -> None:
        if ignore_errors or result.task.loop:
            return
        self._fail(result.task.get_name(), result.result)

    def v2_runner_item_on_failed(self, result: t.Any) -> None:
        self._fail(f"{result.task.get_name()} ({self._get_item_label(result.result)})", result.result)

    def v2_runner_on_unreachable(self, result: t.Any) -> None:
        self._fail(result.task.get_name(), result.result)

    def v2_playbook_on_stats(self, stats: t.Any) -> None:
        self._end()

    def _fail(self, task: str, result: t.Mapping[str, t.Any]) -> None:
        said = [str(result.get(name) or "").strip() for name in ("msg", "stderr", "stdout")]
        self._display.display(f"      failed: {task}: " + "\n        ".join(part for part in said if part), color="red")

    def _end(self) -> None:
        if self._open:
            self._display.display(f"      {time.monotonic() - self._since:.1f} s")
            self._open = False
