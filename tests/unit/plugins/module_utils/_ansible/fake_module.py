# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module that notes how it ends, for tests of what modules share."""

from __future__ import annotations

import typing as t

from ansible.module_utils.basic import AnsibleModule


class Ended(Exception):
    """The module would end here."""


class FakeModule(AnsibleModule):
    """Has what _ansible uses of a module, and nothing else of it is started."""

    def __init__(self, *, diff: bool = False, debug: bool = False) -> None:
        self._diff = diff
        self._debug = debug
        self.warnings: list[str] = []
        self.ended: tuple[str, dict[str, t.Any]] | None = None

    def warn(self, warning: str, **_more: t.Any) -> None:
        """Note a warning."""
        self.warnings.append(warning)

    def exit_json(self, **result: t.Any) -> t.NoReturn:
        """End well."""
        self.ended = ("well", result)
        raise Ended

    def fail_json(self, msg: str, **result: t.Any) -> t.NoReturn:
        """End as failed."""
        self.ended = ("failed", {"msg": msg, **result})
        raise Ended
