# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is said when Ansible itself prints secrets. It did so before the task ran."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule

_TEXT = (
    "ANSIBLE_DEBUG is set: Ansible prints the arguments of tasks with it, passphrases and passwords too, whatever "
    "no_log says. Switch it off, and replace secrets that were given as options."
)
_warned: set[str] = set()


def warn(module: AnsibleModule) -> None:
    """Warn of ANSIBLE_DEBUG, once."""
    if _TEXT not in _warned:
        _warned.add(_TEXT)
        module.warn(_TEXT)
