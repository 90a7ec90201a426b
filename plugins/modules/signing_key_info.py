#!/usr/bin/python
# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: signing_key_info
short_description: Tell what keys, certificates and Certbot lineages are
version_added: "1.0.0"
description:
  - Returns the public facts of key files, certificates and Certbot lineages, and what is wrong with how they are kept.
  - Nothing is changed, and no private material is returned.
author:
  - The hallmark.signing authors (@hallmark-signing)
requirements:
  - cryptography >= 38
  - PyNaCl >= 1.5 (only for keys in cosign's format)
extends_documentation_fragment:
  - hallmark.signing._attributes
  - hallmark.signing._private_file.passphrase
attributes:
  check_mode:
    support: full
    details: This module does not modify state.
  diff_mode:
    support: N/A
    details: This module does not modify state.
  idempotent:
    support: full
options:
  paths:
    description:
      - Files and lineage directories to look at. A file may hold a private key, a public key, or certificates with the
        leaf first.
      - A path that cannot be read at all fails the task, after the others were looked at.
    type: list
    elements: path
    required: true
  key_ids:
    description: The key ids that these keys shall have; any other is the problem V(key_mismatch). Not checked without it.
    type: list
    elements: str
    version_added: "1.0.0"
  owners:
    description: Users beside root and the one of the task who may own private keys.
    type: list
    elements: str
    default: []
    version_added: "1.0.0"
  issuer_key_ids:
    description:
      - Key ids of issuers, as RV(signing_keys[].certificate) showed them when they were recorded. A certificate with none of
        them above it is the problem V(issuer_changed).
    type: list
    elements: str
    version_added: "1.0.0"
seealso:
  - module: hallmark.signing.signing_key
"""

EXAMPLES = r"""
- name: Look at the signing key and at the lineage
  hallmark.signing.signing_key_info:
    paths:
      - /etc/hallmark-signing/release.key
      - /etc/letsencrypt/live/signer.example.org
  register: __keys

- name: Show keys that are not kept well
  ansible.builtin.debug:
    msg: "{{ __keys.signing_keys | selectattr('problems') | map(attribute='path') }}"
"""

RETURN = r"""
signing_keys:
  description: One entry for each of O(paths), in their order.
  returned: always
  type: list
  elements: dict
  contains:
    path:
      description: The path as given.
      type: str
      returned: always
      sample: /etc/hallmark-signing/release.key
    key_id:
      description: Lower-case hexadecimal SHA-256 of the DER SubjectPublicKeyInfo; null for an encrypted key whose passphrase is not known.
      type: str
      returned: always
      sample: 557e7bc25c2315e3e9344d34df49878948b7b3d7a7b1cb274d62b720a54029ae
    algorithm:
      description: Algorithm of the key; null for certificates, and where RV(signing_keys[].key_id) is null.
      type: str
      returned: always
      sample: ecdsa-p256
    format:
      description: What was found, one of V(pem), V(cosign), V(spki), V(certificate), V(lineage); null if it cannot be read.
      type: str
      returned: always
      sample: pem
    encrypted:
      description: Whether a passphrase protects the key.
      type: bool
      returned: always
      sample: false
    owner:
      description: User that owns the file; of a lineage, its private key.
      type: str
      returned: always
      sample: root
    group:
      description: Group that owns the file.
      type: str
      returned: always
      sample: root
    mode:
      description: Mode of the file, in octal digits.
      type: str
      returned: always
      sample: "0600"
    problems:
      description:
        - What is wrong with it, as code and message.
        - Of private keys V(mode_too_open), V(parent_unsafe), V(owner_unexpected), V(hard_linked), V(export_expired) and
          V(swap_in_clear); of lineages also V(extra_copies), V(tls_only) and V(issuer_changed); V(key_mismatch) where a key is
          not the expected one, or not that of its certificate.
      type: list
      elements: dict
      returned: always
      sample: []
    certificate:
      description: Facts of the leaf certificate with its issuers; null for bare keys.
      type: dict
      returned: always
      sample:
        key_id: 557e7bc25c2315e3e9344d34df49878948b7b3d7a7b1cb274d62b720a54029ae
        sans: [{type: dns, value: signer.example.org}]
        eku: [serverAuth]
        issuer_chain: [{subject: CN=YE1, key_id: 0a1b}]
        not_before: "2026-11-20T10:00:00Z"
        not_after: "2027-02-18T10:00:00Z"
reasons:
  description: Why the task failed; empty otherwise.
  returned: always
  type: list
  elements: dict
  sample: []
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._ansible import args, deps, results, secrets
from ..module_utils._custody import inventory
from ..module_utils._errors import HallmarkError
from ..module_utils._keys.fingerprint import require_key_id


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "paths": {"type": "list", "elements": "path", "required": True},
            "key_ids": {"type": "list", "elements": "str", "no_log": False},
            "owners": {"type": "list", "elements": "str", "default": []},
            "issuer_key_ids": {"type": "list", "elements": "str", "no_log": False},
            **args.passphrase_spec(),
        },
        mutually_exclusive=[("passphrase", "passphrase_path")],
        supports_check_mode=True,
    )
    empty = {"changed": False, "signing_keys": []}
    deps.require_for_keys(module, empty=empty)
    results.require_entries(module, empty, paths=module.params["paths"])
    try:
        passphrase = secrets.passphrase(module.params)
        expected = inventory.Expected(
            key_ids=_key_ids(module.params, "key_ids"), owners=frozenset(module.params["owners"]),
            issuer_key_ids=_key_ids(module.params, "issuer_key_ids"),
        )
    except HallmarkError as exc:
        unread = [inventory.KeyEntry(path).as_dict() for path in module.params["paths"]]
        results.fail_with(module, exc, {**empty, "signing_keys": unread})
    described = [
        inventory.describe(path, passphrase=passphrase, expected=expected) for path in module.params["paths"]
    ]
    results.finish(
        module,
        [error.as_reason() for _entry, error in described if error],
        {"changed": False, "signing_keys": [entry.as_dict() for entry, _error in described]},
    )


def _key_ids(params: dict[str, t.Any], option: str) -> frozenset[str]:
    return frozenset(require_key_id(value, option=option) for value in params[option] or [])


if __name__ == "__main__":
    main()
