# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Argument specs of key files, shared by several modules; each names its doc fragment."""

from __future__ import annotations

import typing as t

Spec = dict[str, t.Any]


def passphrase_spec(prefix: str = "") -> Spec:
    """Return a passphrase option and its C(_path) sibling; doc fragment C(_passphrase)."""
    return {
        f"{prefix}passphrase": {"type": "str", "no_log": True},
        # A path is no secret; without this Ansible would hide it because of its name.
        f"{prefix}passphrase_path": {"type": "path", "no_log": False},
    }


def text_values(given: t.Mapping[str, t.Any]) -> dict[str, str]:
    """Return a mapping as text, as annotations are: YAML makes numbers and booleans of values, cosign's are text."""
    return {str(name): str(value) for name, value in given.items()}


def file_spec() -> Spec:
    """Return owner, group and mode of a private file; doc fragment C(_private_file)."""
    return {
        "owner": {"type": "str"},
        "group": {"type": "str"},
        "mode": {"type": "str", "default": "0600"},
    }
