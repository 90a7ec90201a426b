#!/usr/bin/python
# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: keyring_info
short_description: Read which generations of which signing keys there are
version_added: "1.0.0"
description:
  - Reads the ledger of a fleet, checks its chain, and says what follows from it. See C(docs/rotation.md).
author:
  - The hallmark.signing authors (@hallmark-signing)
requirements:
  - cryptography >= 42
extends_documentation_fragment:
  - hallmark.signing._attributes
  - hallmark.signing._rotation
attributes:
  check_mode:
    support: full
    details: This module does not modify state, and runs fully in check mode.
  diff_mode:
    support: N/A
    details: This module does not modify state.
  idempotent:
    support: full
options:
  ledger_path:
    description: The ledger on the managed host.
    type: path
    required: true
  identity:
    description: The identity whose generations are meant. Without it, those of all, and no pointer.
    type: str
  witness_heads:
    description:
      - Heads that others keep, C(SEQUENCE:HASH). Each must be in the ledger. Without one, it does not show that lines at its end
        were cut off, or that it was written anew.
    type: list
    elements: str
    default: []
seealso:
  - module: hallmark.signing.keyring
"""

EXAMPLES = r"""
- name: See which step is due
  hallmark.signing.keyring_info:
    ledger_path: /var/lib/hallmark-signing/ledger.jsonl
    identity: release
    calendar: {lifetime: 31536000}
    witness_heads: ["{{ lookup('ansible.builtin.file', 'ledger.head') }}"]
  register: keyring

- name: Fail if something is not as it should be
  ansible.builtin.assert:
    that: keyring.problems | rejectattr('code', 'eq', 'no_spare') | length == 0
"""

RETURN = r"""
head:
  description: The last entry of the ledger, as C(sequence) and C(hash); null before the first.
  returned: always
  type: dict
  sample: {"sequence": 12, "hash": "3dc87e"}
pointer:
  description:
    - Which generation of the identity signs, as C(generation), C(key_id), C(fence) and C(suspended); null before the first. C(fence)
      rises with every change, and who was told a number refuses a lower one.
  returned: always
  type: dict
  sample: {"generation": 2, "key_id": "557e7b", "fence": 3, "suspended": false}
keyring:
  description:
    - The generations, each with C(identity), C(generation), C(key_id), C(state), C(since), C(algorithm), C(public_key), C(spare)
      and C(destroy), which is whether every copy of its private key is to be destroyed.
  returned: always
  type: list
  elements: dict
  sample: []
policy_version:
  description: The version of what is trusted; each change of it is one more.
  returned: always
  type: int
  sample: 4
denied_key_ids:
  description: The keys that were revoked.
  returned: always
  type: list
  elements: str
  sample: []
steps:
  description:
    - The next steps by the calendar, as C(identity), C(state), C(generation) (null for one to be made), C(at) and C(due).
  returned: always
  type: list
  elements: dict
  sample: []
floors:
  description: The lowest version of the policy that each enforcer may be given, for it had that before.
  returned: always
  type: dict
  sample: {"edge1": 4}
reasons:
  description: Why the task failed, as code, message, object and signature; see C(docs/reason_codes.md).
  returned: always
  type: list
  elements: dict
  sample: []
blocked_by:
  description: Always empty; module M(hallmark.signing.keyring) asks the guards.
  returned: always
  type: list
  elements: dict
  sample: []
enforcers:
  description:
    - What is known of each enforcer, as C(enforcer), C(class), C(kind), C(policy_version), C(seen), C(floor), C(excused_until) and
      C(follows), which is whether it has the newest policy.
  returned: always
  type: list
  elements: dict
  sample: []
windows:
  description:
    - The shortest overlap of each retiring generation in seconds, as C(identity), C(generation), C(overlap), C(terms), which it is
      the sum of, and C(hold_down).
  returned: always
  type: list
  elements: dict
  sample: []
incidents:
  description: Each revocation with its timeline, and the enforcers that are behind.
  returned: always
  type: list
  elements: dict
  sample: []
problems:
  description: What should not be so, as C(path), C(code) and C(message).
  returned: always
  type: list
  elements: dict
  sample: []
"""

import datetime
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._ansible import deps, keeping, results
from ..module_utils._errors import HallmarkError
from ..module_utils._trust import ledger, telling


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={**keeping.common_spec(), "identity": {"type": "str"}}, supports_check_mode=True,
    )
    params = module.params
    empty = keeping.empty()
    for name in ("policy", "effective_hashes"):
        del empty[name]
    result: dict[str, t.Any] = {**empty, "enforcers": [], "windows": [], "incidents": [], "problems": []}
    deps.require_libraries(module, "cryptography", empty=result)
    try:
        timing = keeping.timing(params)
        book = ledger.read(params["ledger_path"], now=datetime.datetime.now(datetime.timezone.utc))
        book.expect_witnesses({f"witness {number}": head for number, head in enumerate(params["witness_heads"], 1)})
        result.update(
            keeping.told(book, params), enforcers=telling.enforcers(book.keyring),
            windows=telling.windows(book.keyring, params["identity"], timing),
            incidents=telling.incidents(book.keyring),
            problems=telling.problems(book.keyring, params["ledger_path"], now=book.now),
        )
    except HallmarkError as exc:
        results.fail_with(module, exc, result)
    results.finish(module, [], result)


if __name__ == "__main__":
    main()
