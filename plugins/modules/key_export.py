#!/usr/bin/python
# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: key_export
short_description: Copy a key to a restrictive file of its own
version_added: "1.0.0"
description:
  - Copies a private key, and the certificate chain that belongs to it, from a Certbot lineage or from files, on the
    managed host. Key material never passes through Ansible.
  - Key and certificate are read together; if they do not belong together, as in the middle of a renewal, they are read
    again for up to three seconds, and then refused.
  - Nothing is ever overwritten, but for an older chain of the same key.
author:
  - The hallmark.signing authors (@hallmark-signing)
extends_documentation_fragment:
  - hallmark.signing._attributes
  - hallmark.signing._private_file
  - hallmark.signing._private_file.passphrase
  - hallmark.signing._private_file.source_passphrase
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: The diff shows public facts only.
  idempotent:
    support: full
options:
  lineage:
    description: A Certbot lineage directory, such as C(/etc/letsencrypt/live/NAME). Mutually exclusive with O(private_key_path).
    type: path
  private_key_path:
    description: The private key to copy. Mutually exclusive with O(lineage).
    type: path
  chain_path:
    description: Certificate chain of O(private_key_path), leaf first; key and leaf must belong together.
    type: path
  dest:
    description: The key file to write (not a folder).
    type: path
    required: true
  chain_dest:
    description: File to which the chain is copied, leaf first, with mode C(0644).
    type: path
  key_id:
    description: The expected key id; any other key is an error.
    type: str
  format:
    description: Format of the copy. Without it, that of the source.
    type: str
    choices:
      pem: PKCS#8, encrypted when O(passphrase) is given.
      cosign: The encrypted format of C(cosign generate-key-pair), which wants O(passphrase).
  state:
    description: Whether the copy shall be there.
    type: str
    default: present
    choices:
      present: The copy is made unless it is there. O(lineage) or O(private_key_path) is required.
      absent: The copy, and the file O(chain_dest) if given, are removed. With O(key_id), only a copy of that key.
seealso:
  - module: hallmark.signing.signing_key
notes:
  - A file system cannot promise that removed bytes are gone from the medium. Export to a memory file system such as
    C(/run), and count an exported key as exposed when its host is.
"""

EXAMPLES = r"""
- name: Export the key of a lineage for a signing job
  hallmark.signing.key_export:
    lineage: /etc/letsencrypt/live/signer.example.org
    dest: /run/hallmark-signing/release.key
    chain_dest: /run/hallmark-signing/release.chain.pem
    owner: ci
    mode: "0400"

- name: Hand the key to cosign, encrypted
  hallmark.signing.key_export:
    private_key_path: /etc/hallmark-signing/release.key
    dest: /run/hallmark-signing/cosign.key
    format: cosign
    passphrase: "{{ vault_cosign_passphrase }}"

- name: Take the copy away again
  hallmark.signing.key_export:
    dest: /run/hallmark-signing/release.key
    chain_dest: /run/hallmark-signing/release.chain.pem
    state: absent
"""

RETURN = r"""
key_id:
  description: Key id of the copied key; with O(state=absent), O(key_id) as given.
  returned: always
  type: str
  sample: 557e7bc25c2315e3e9344d34df49878948b7b3d7a7b1cb274d62b720a54029ae
path:
  description: The copy.
  returned: always
  type: str
  sample: /run/hallmark-signing/release.key
chain_path:
  description: The copied chain; null when O(chain_dest) was not given.
  returned: always
  type: str
  sample: /run/hallmark-signing/release.chain.pem
mode:
  description: Mode of the copy, in octal digits.
  returned: always
  type: str
  sample: "0600"
reasons:
  description: Why the task failed; empty otherwise.
  returned: always
  type: list
  elements: dict
  sample: []
"""

import typing as t
from contextlib import suppress

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._ansible import args, deps, results, secrets
from ..module_utils._custody import export, key_file, private_file, public_file
from ..module_utils._errors import HallmarkError
from ..module_utils._keys import certificate
from ..module_utils._keys.files import read_key_file


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "lineage": {"type": "path"},
            "private_key_path": {"type": "path", "no_log": False},
            "chain_path": {"type": "path"},
            "dest": {"type": "path", "required": True},
            **args.passphrase_spec("source_"),
            "chain_dest": {"type": "path"},
            "key_id": {"type": "str", "no_log": False},
            "format": {"type": "str", "choices": ["pem", "cosign"]},
            **args.passphrase_spec(),
            **args.file_spec(),
            "state": {"type": "str", "default": "present", "choices": ["present", "absent"]},
        },
        mutually_exclusive=[
            ("passphrase", "passphrase_path"), ("source_passphrase", "source_passphrase_path"),
            ("lineage", "private_key_path"), ("lineage", "chain_path"),
        ],
        required_if=[("state", "present", ["lineage", "private_key_path"], True)],
        supports_check_mode=True,
    )
    params = module.params
    empty = {
        "changed": False, "key_id": params["key_id"], "path": params["dest"], "chain_path": params["chain_dest"],
        "mode": params["mode"],
    }
    deps.require_for_keys(module, empty=empty)
    try:
        result = _present(module) if params["state"] == "present" else _absent(module)
    except HallmarkError as exc:
        results.fail_with(module, exc, empty)
    results.finish(module, [], {**empty, **result})


def _present(module: AnsibleModule) -> dict[str, t.Any]:
    params = module.params
    source_passphrase = secrets.passphrase(params, "source_")
    if params["lineage"]:
        source = export.lineage(params["lineage"], passphrase=source_passphrase)
    else:
        source = export.Source(params["private_key_path"], params["chain_path"], source_passphrase)
    wanted = key_file.Wanted(
        format=params["format"] or "pem",
        passphrase=secrets.passphrase(params),
        attributes=private_file.attributes(mode=params["mode"], owner=params["owner"], group=params["group"]),
        key_id=params["key_id"],
    )
    copied, chain_changed = export.export_key(
        source, params["dest"], wanted, chain_dest=params["chain_dest"], dry_run=module.check_mode,
        same_format=params["format"] is None,
    )
    _warn_of_tls(module, source)
    if source_passphrase is not None and not copied.encrypted:
        module.warn(f"{params['dest']}: the copy is not encrypted, though its source may be; passphrase would do that.")
    return {
        "changed": copied.changed or chain_changed,
        "key_id": copied.public.key_id if copied.public else None,
        "mode": copied.mode,
        **results.diff(module, copied.before(), copied.facts(), params["dest"]),
    }


def _warn_of_tls(module: AnsibleModule, source: export.Source) -> None:
    """Say that a TLS certificate is no signing identity; in the middle of a renewal, say nothing."""
    with suppress(HallmarkError):
        if source.chain_path and certificate.read_chain(
            read_key_file(source.chain_path), where=source.chain_path
        ).is_tls_only:
            module.warn(
                f"{source.chain_path}: the certificate is for TLS only, and no verifier takes it as a signing identity. "
                "Trust the public key by its key id; a key of its own is the better signing key."
            )


def _absent(module: AnsibleModule) -> dict[str, t.Any]:
    params = module.params
    changed = key_file.ensure_absent(
        params["dest"], key_id=params["key_id"], passphrase=secrets.passphrase(params), dry_run=module.check_mode
    )
    if params["chain_dest"]:
        changed |= public_file.remove_public_file(
            params["chain_dest"], is_ours=lambda data: export.is_chain_of(data, params["key_id"]),
            dry_run=module.check_mode,
        )
    before = {"path": params["dest"]} if changed else {}
    return {"changed": changed, **results.diff(module, before, {}, params["dest"])}


if __name__ == "__main__":
    main()
