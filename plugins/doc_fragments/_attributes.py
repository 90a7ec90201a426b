# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Attributes that every module of the collection has."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
requirements:
  - Python >= 3.9
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
  idempotent:
    description: When run twice in a row outside check mode, with the same arguments, the second invocation changes nothing.
  platform:
    description: Target OS/families that can be operated against.
    support: full
    platforms: posix
  secrets:
    description: Whether private material, or a passphrase, is returned, logged or shown.
    support: none
    details: Never. Results, diffs and messages hold public facts only.
"""

    # For modules of action group registry.
    REGISTRY = r"""
attributes:
  action_group:
    description: Use C(group/hallmark.signing.registry) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - hallmark.signing.registry
"""
