# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Times that both modules of the ledger go by."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  timing:
    description: Times that guards go by, all in seconds.
    type: dict
    suboptions:
      clock_skew_bound:
        description: What clocks may differ by. More is refused, and every wait is longer by it.
        type: int
        default: 60
      clock_skew:
        description: The largest difference of clocks that was measured.
        type: float
        default: 0.0
      overlap:
        description: How long both keys are trusted after a change. By default what is computed; less is refused.
        type: int
      offline_allowance:
        description: How long an enforcer may be away from the network.
        type: int
        default: 0
      cached_image_age:
        description: How long an image may be kept somewhere before it is admitted.
        type: int
        default: 0
      max_job_time:
        description: How long a job that signs may run.
        type: int
        default: 3600
      rollback_window:
        description: How long the private key of a withdrawn generation is kept.
        type: int
        default: 86400
      coverage_max_age:
        description: How old a check of the live set may be.
        type: int
        default: 3600
  calendar:
    description: When steps are due, as parts of the lifetime of the key that signs. Guards decide whether they are taken.
    type: dict
    suboptions:
      lifetime:
        description: How long a key signs, in seconds. Without it, no new key is due until somebody says so.
        type: int
      stage:
        description: When the next generation is staged.
        type: float
        default: 0.7
      publish:
        description: When it is published.
        type: float
        default: 0.75
      activate:
        description: When it becomes the one that signs.
        type: float
        default: 0.9
      now:
        description: Whether all steps of one new key are due now.
        type: bool
        default: false
"""
