#!/usr/bin/python
# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: keyring
short_description: Bring a generation of a signing key into its next state
version_added: "1.0.0"
description:
  - Writes to the ledger of a fleet what becomes of its keys, after it has seen that all guards are met. The states, their
    guards and the ledger are described in C(docs/rotation.md).
  - What hosts report is taken in first, then the wanted step is taken, then the policy is made that follows from it. One task
    may do any of these.
  - The ledger is a file of JSON lines, each with the hash of the line before it. One writer holds it at a time, and a line is on
    disk before it counts. It holds public data only, and may live in git.
author:
  - The hallmark.signing authors (@hallmark-signing)
requirements:
  - cryptography >= 42
  - PyYAML >= 6 (only for O(policy) with enforcers of clusters)
extends_documentation_fragment:
  - hallmark.signing._attributes
  - hallmark.signing._rotation
attributes:
  check_mode:
    support: full
    details: The guards are looked at, and the ledger is not written to.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  ledger_path:
    description: The ledger on the managed host. It is made with its first entry.
    type: path
    required: true
  fleet:
    description: Name of the fleet that the ledger is for. Needed to begin one; the ledger of another fleet is refused.
    type: str
  identity:
    description: The identity whose generations are meant.
    type: str
    required: true
  generation:
    description:
      - Its number. By default the next one for O(state=staged), and else the only one that could be meant. Required for
        O(state=revoked).
    type: int
  state:
    description:
      - The state that the generation shall be in. No state is skipped. The generation that signed is C(retiring) when another
        becomes V(active); a V(retiring) one may be made V(active) again, and a V(withdrawn) one V(published), as long as its key
        is not destroyed.
      - V(retired) takes two tasks. The first writes that the destruction of the private key begins; the second, after every
        host has reported in O(signers) that its copy is gone, ends it.
      - V(revoked) distrusts the key at once and for good. If it was the one that signs, the published spare takes over.
      - Without it, only reports are taken in.
    type: str
    choices: [staged, published, active, withdrawn, retired, revoked, abandoned]
  public_key_path:
    description: Public key of a generation that is staged, a PEM file on the managed host.
    type: path
  public_key_content:
    description: The same as text.
    type: str
  spare:
    description: Whether the staged generation is the spare, which is published and not used until another one is revoked.
    type: bool
    default: false
  emergency:
    description: Whether to go on while an incident is open, and beside a generation that is on its way. No proof is left out.
    type: bool
    default: false
  accept_none:
    description: Whether a revocation may leave the identity without a trusted key, so that all of its images are denied.
    type: bool
    default: false
  evidence:
    description: Where the evidence of a compromise is kept, such as the number of a ticket.
    type: str
    default: ""
  suspected_since:
    description: From when on the key may have been used by others, RFC 3339 in UTC.
    type: str
  suspended:
    description: Whether the identity shall not sign for now. Its key stays trusted. C(null) leaves it as it is.
    type: bool
  note:
    description:
      - What was done about the revocation of O(generation), with the time of this task. V(closed) ends the incident, and lets
        planned rotations go on.
    type: str
    choices: [signing_stopped, credentials_replaced, resigned, certificates_revoked, rebuilt, closed]
  enforcers:
    description: What admits images. One that is left out later stays required, until O(removed_enforcers) names it.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Its name, such as that of its host.
        type: str
        required: true
      class:
        description: Whether it must follow before a step is taken.
        type: str
        default: required
        choices: [required, best_effort]
      enforcer:
        description: What its policy is rendered for, as in M(hallmark.signing.trust_policy).
        type: str
        required: true
      enforcer_version:
        description: Its version, as in M(hallmark.signing.trust_policy).
        type: str
        required: true
      interval:
        description: How many seconds it may work on with an old policy after it has a new one.
        type: int
        default: 0
      has_tool:
        description: Whether it can try images itself, and must before a key is activated.
        type: bool
        default: true
  removed_enforcers:
    description: Enforcers that are no more, and are not waited for.
    type: list
    elements: str
    default: []
  excused_enforcers:
    description: Enforcers that need not follow until some moment.
    type: list
    elements: dict
    default: []
    suboptions:
      enforcer:
        description: Its name.
        type: str
        required: true
      until:
        description: When that ends, RFC 3339 in UTC.
        type: str
        required: true
  acknowledgements:
    description: What enforcers were read back with.
    type: list
    elements: dict
    default: []
    suboptions:
      enforcer:
        description: Its name.
        type: str
        required: true
      policy_version:
        description: The version of the policy in force.
        type: int
        required: true
      effective_hash:
        description: Hash of its files, as M(hallmark.signing.trust_policy) returns it.
        type: str
        required: true
      ledger_head:
        description:
          - The head of the ledger that was left with it before, C(SEQUENCE:HASH). A ledger that lacks it was cut off, written
            anew, or is another one, and is refused.
        type: str
  canaries:
    description: What enforcers did with images that show whether they enforce.
    type: list
    elements: dict
    default: []
    suboptions:
      enforcer:
        description: Its name.
        type: str
        required: true
      key_id:
        description: The key of the published generation that signed the first image.
        type: str
        required: true
      policy_version:
        description: The version of the policy in force.
        type: int
        required: true
      admitted:
        description: Whether an image signed by it was admitted.
        type: bool
        required: true
      unsigned_denied:
        description: Whether an unsigned image was denied.
        type: bool
        required: true
      foreign_denied:
        description: Whether an image signed by a foreign key was denied.
        type: bool
        required: true
  signers:
    description: What hosts that sign for O(identity) obey, and which private keys they hold.
    type: list
    elements: dict
    default: []
    suboptions:
      signer:
        description: Name of the host.
        type: str
        required: true
      fence:
        description: The number of the pointer that it obeys, 0 before the first.
        type: int
        required: true
      key_ids:
        description: The keys of which it has a private half anywhere.
        type: list
        elements: str
        required: true
  fenced_signers:
    description: Hosts whose credentials somebody took away, so that they can sign no more. They are not waited for.
    type: list
    elements: str
    default: []
  coverage:
    description: What M(hallmark.signing.image_resignature) said of the live set.
    type: dict
    suboptions:
      staying_key_ids:
        description: The keys that stay.
        type: list
        elements: str
        required: true
      live_set_hash:
        description: Hash of the live set.
        type: str
        required: true
      count:
        description: How many images there are in it, those out of support left out.
        type: int
        required: true
      uncovered:
        description: The images that no key covers that stays.
        type: list
        elements: str
        default: []
      seconds:
        description: How long it took.
        type: float
        default: 0
  policy:
    description:
      - The trust policy, as in M(hallmark.signing.trust_policy). Authorities with C(ledger_path) and C(identity) get the keys of
        the ledger, and C(version) is that of the ledger, never lower than the one given.
      - It is rendered for every enforcer that is known, so that what they are read back with can be compared.
    type: dict
  expected_head:
    description: The head that the ledger must have, C(SEQUENCE:HASH) or C(HASH). Another one means that somebody else wrote to it.
    type: str
  witness_heads:
    description: Heads that others keep, such as the controller. Each must be in the ledger.
    type: list
    elements: str
    default: []
  reason:
    description: Why this is done. Kept in the ledger.
    type: str
    required: true
  author:
    description: Who does it. Kept in the ledger.
    type: str
    required: true
  on_blocked:
    description: Whether the task fails while a guard is not met, or reports it in RV(blocked_by).
    type: str
    default: fail
    choices: [fail, report]
seealso:
  - module: hallmark.signing.keyring_info
  - module: hallmark.signing.image_resignature
  - module: hallmark.signing.trust_policy
"""

EXAMPLES = r"""
- name: Stage the first generation
  hallmark.signing.keyring:
    ledger_path: /var/lib/hallmark-signing/ledger.jsonl
    fleet: example
    identity: release
    state: staged
    public_key_path: /etc/hallmark-signing/release.pub
    reason: first key
    author: alice@example.org

- name: Publish it, and make the policy that trusts it
  hallmark.signing.keyring:
    ledger_path: /var/lib/hallmark-signing/ledger.jsonl
    identity: release
    state: published
    enforcers:
      - {name: edge1, enforcer: containers, enforcer_version: 5.34.2}
    policy:
      version: 1
      authorities:
        release: {ledger_path: /var/lib/hallmark-signing/ledger.jsonl, identity: release}
      rules:
        - {name: own images, images: ["registry.example.org/**"], any_of: [release]}
    reason: first key
    author: alice@example.org
  register: keyring

- name: Distrust the key that signs, everywhere and for good
  hallmark.signing.keyring:
    ledger_path: /var/lib/hallmark-signing/ledger.jsonl
    identity: release
    generation: 1
    state: revoked
    evidence: INC-2041
    reason: the key was found in a build log
    author: bob@example.org
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
  description:
    - The guards that are not met, as C(guard), C(object), C(message) and C(until). C(until) is null unless waiting is all that it
      takes.
  returned: always
  type: list
  elements: dict
  sample:
    - guard: enforcers_acknowledged
      object: edge-07
      message: enforcer edge-07 still at policy 41, last seen 2026-11-21T09:12:00Z; it needs policy 42
      until: null
policy:
  description: The whole policy, to be given to M(hallmark.signing.trust_policy); null without O(policy).
  returned: always
  type: dict
  sample: null
effective_hashes:
  description: Hash of the files that each kind of enforcer must be read back with.
  returned: always
  type: dict
  sample: {"containers 5.34.2": "5e884b"}
"""

import datetime
import functools

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._ansible import changing, deps, keeping, results
from ..module_utils._errors import HallmarkError, Reason
from ..module_utils._trust import ledger, telling


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=keeping.spec(),
        mutually_exclusive=[("public_key_path", "public_key_content")],
        required_if=[
            ("state", "staged", ["public_key_path", "public_key_content"], True),
            # Whoever says it twice must not revoke two.
            ("state", "revoked", ["generation"]),
        ],
        required_by={"note": ["generation"]},
        supports_check_mode=True,
    )
    params = module.params
    result = keeping.empty()
    libraries = ["yaml"] if any(one["enforcer"] != "containers" for one in params["enforcers"]) else []
    deps.require_libraries(module, "cryptography", *libraries, empty=result)
    opened = functools.partial(
        ledger.opened, params["ledger_path"], now=datetime.datetime.now(datetime.timezone.utc),
        skew_bound=params["timing"]["clock_skew_bound"],
    )
    try:
        # What is refused leaves the ledger as it was, and makes none.
        with opened(dry_run=True) as book:
            result.update(keeping.told(book, params))
            changing.change(book, params)
        with opened(dry_run=module.check_mode) as book:
            before = telling.summary(book, params["identity"])
            result.update(keeping.told(book, params))
            changing.change(book.rehearsal(), params)
            blocked, policy = changing.change(book, params)
            result.update(keeping.told(book, params), **policy, changed=book.is_changed)
            result.update(results.diff(module, before, telling.summary(book, params["identity"]), "keyring"))
    except HallmarkError as exc:
        results.fail_with(module, exc, result)
    result["blocked_by"] = [one.as_dict() for one in blocked]
    if params["on_blocked"] == "report":
        blocked = ()
    results.finish(module, [
        Reason(
            "transition_blocked",
            f"{one.object}: could not make {params['identity']} {params['state']}: {one.message}. Mend it, or wait, and "
            "run this again.",
            one.object,
        )
        for one in blocked
    ], result)


if __name__ == "__main__":
    main()
