# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ending a task: the same keys in every outcome, failures with their reasons."""

from __future__ import annotations

import typing as t

from ansible.module_utils.basic import AnsibleModule

from .._errors import HallmarkError, Reason


def fail(
    module: AnsibleModule, message: str, reasons: t.Sequence[Reason], result: t.Mapping[str, t.Any]
) -> t.NoReturn:
    """End the task as failed, with C(reasons) and every normal return key."""
    module.fail_json(msg=message, reasons=[reason.as_dict() for reason in reasons], **result)
    raise AssertionError("unreachable: fail_json exits")


def fail_with(module: AnsibleModule, error: HallmarkError, result: t.Mapping[str, t.Any]) -> t.NoReturn:
    """End the task with one error of the domain."""
    fail(module, str(error), [error.as_reason()], result)


def finish(
    module: AnsibleModule, reasons: t.Sequence[Reason], result: t.Mapping[str, t.Any]
) -> t.NoReturn:
    """End the task: as failed if there are reasons, each of which stands in the message, else well."""
    if reasons:
        fail(module, " | ".join(dict.fromkeys(reason.message for reason in reasons)), reasons, result)
    module.exit_json(reasons=[], **result)
    raise AssertionError("unreachable: exit_json exits")


def warn(module: AnsibleModule, warnings: t.Iterable[Reason]) -> None:
    """Show warnings of the domain, each once."""
    for message in dict.fromkeys(reason.message for reason in warnings):
        module.warn(message)


def require_entries(module: AnsibleModule, result: t.Mapping[str, t.Any], **lists: t.Sequence[t.Any]) -> None:
    """End the task if a list is empty: nothing is vacuously done or true."""
    for name, entries in lists.items():
        if not entries:
            message = f"{name}: could not work on it: the list is empty. Name at least one entry."
            fail(module, message, [Reason("input_invalid", message, name)], result)


def diff(module: AnsibleModule, before: t.Any, after: t.Any, header: str) -> dict[str, t.Any]:
    """Return the C(diff) key of a result in diff mode; C(before) and C(after) hold public facts only."""
    if not module._diff:
        return {}
    return {"diff": {"before_header": header, "after_header": header, "before": before, "after": after}}
