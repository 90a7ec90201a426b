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
  - Each export is recorded on the host, without key material, before it is made. A copy may have an end, after which it is
    taken away though no playbook runs; it may be for one use; and it may be encrypted to the one who shall have it.
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
  expires_in:
    description:
      - Seconds after which the copy, and its chain, are taken away. It needs root and a host with systemd, and fails where no
        timer can be armed.
      - Three things see to it. A timer of systemd; a rule of systemd-tmpfiles that removes them at the next boot, and by age
        where the folder holds nothing else; and every module of this collection, which refuses to sign with a copy whose
        time is over.
      - The terms of an export are not changed while it lives. Remove it first. Nor is an export that ends exported again.
    type: int
    version_added: "1.0.0"
  consume_once:
    description: Whether the copy is taken away by the first task of this collection that signs with it.
    type: bool
    default: false
    version_added: "1.0.0"
  recipient:
    description:
      - Recipient of the program C(age), C(age1...), to whom the copy is encrypted, so that it can be carried to another host.
        Needs the program on this host.
      - A second run takes the recorded copy for what it is, for nobody here can read it.
    type: str
    version_added: "1.0.0"
  record_path:
    description:
      - The record of exports, JSON lines chained by their hashes. By default C(/var/lib/hallmark-signing/exports.jsonl) for
        root, and C(hallmark-signing/exports.jsonl) in the user's folder of state (E(XDG_STATE_HOME)) for others.
    type: path
    version_added: "1.0.0"
  sweep_paths:
    description:
      - Folders below which every copy of O(key_id) is removed, with those that the record knows elsewhere. Only with
        O(state=absent) and O(key_id). Links are not followed.
      - Name folders that hold copies, not the one with the key itself. Those that are missing hold none.
    type: list
    elements: path
    version_added: "1.0.0"
  keep_paths:
    description: Folders below which O(sweep_paths) removes nothing, though a copy there is recorded; such as evidence.
    type: list
    elements: path
    version_added: "1.0.0"
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
      absent: The copy, the chain that was exported with it, and the file O(chain_dest) if given, are removed. With O(key_id),
        only a copy of that key.
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

- name: Export for ten minutes, whatever becomes of this playbook
  hallmark.signing.key_export:
    private_key_path: /etc/hallmark-signing/release.key
    dest: /run/hallmark-signing/release.key
    expires_in: 600

- name: After an incident, take every copy away
  hallmark.signing.key_export:
    dest: /run/hallmark-signing/release.key
    state: absent
    key_id: 557e7bc25c2315e3e9344d34df49878948b7b3d7a7b1cb274d62b720a54029ae
    sweep_paths: [/run, /srv/ci, /home]

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
export_id:
  description: The export in the record, 16 hexadecimal digits; null with O(state=absent).
  returned: always
  type: str
  sample: 5f0c3a9d1e7b2468
expires_at:
  description: When it ends, RFC 3339; null for a copy without an end.
  returned: always
  type: str
  sample: "2026-11-21T20:10:00Z"
enforced_by:
  description:
    - What ends it, as it stands now. V(systemd_timer); V(memory) for a copy that ends with the next boot anyway,
      V(tmpfiles_boot) for one that a rule removes then; V(tmpfiles_age) where files of the folder are removed by age, too;
      V(check_at_use). Empty for a copy without O(expires_in).
  returned: always
  type: list
  elements: str
  sample: [systemd_timer, memory, check_at_use]
removed:
  description: The files that were removed, or would be in check mode.
  returned: always
  type: list
  elements: str
  sample: []
unidentified:
  description:
    - Files that may hold the key and could not be told. They are encrypted, or broken, or cannot be read; or stand where
      an export was, and are something else.
  returned: always
  type: list
  elements: str
  sample: []
events:
  description: What was written to the record, for a second record elsewhere. No key material.
  returned: always
  type: list
  elements: dict
  sample:
    - {sequence: 1, time: "2026-11-21T20:00:00Z", event: exported, export_id: 5f0c3a9d1e7b2468}
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
from ..module_utils._custody import export, export_record, key_file, private_file
from ..module_utils._custody import source as sources
from ..module_utils._errors import CustodyError, HallmarkError
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
            "expires_in": {"type": "int"},
            "consume_once": {"type": "bool", "default": False},
            "recipient": {"type": "str"},
            "record_path": {"type": "path"},
            "sweep_paths": {"type": "list", "elements": "path"},
            "keep_paths": {"type": "list", "elements": "path"},
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
        required_by={"sweep_paths": ["key_id"], "keep_paths": ["sweep_paths"]},
        supports_check_mode=True,
    )
    params = module.params
    empty = {
        "changed": False, "key_id": params["key_id"], "path": params["dest"], "chain_path": params["chain_dest"],
        "mode": params["mode"], "export_id": None, "expires_at": None, "enforced_by": [], "removed": [], "unidentified": [],
        "events": [],
    }
    deps.require_for_keys(module, empty=empty)
    try:
        exports = export.Exports(params["record_path"] or export_record.default_path(), dry_run=module.check_mode)
        result = _present(module, exports) if params["state"] == "present" else _absent(module, exports)
    except HallmarkError as exc:
        results.fail_with(module, exc, empty)
    results.finish(module, [], {**empty, **result})


def _present(module: AnsibleModule, exports: export.Exports) -> dict[str, t.Any]:
    params = module.params
    if params["sweep_paths"]:
        raise _misplaced("sweep_paths", "state=present")
    source_passphrase = secrets.passphrase(params, "source_")
    if params["lineage"]:
        source = sources.lineage(params["lineage"], passphrase=source_passphrase)
    else:
        source = sources.Source(params["private_key_path"], params["chain_path"], source_passphrase)
    wanted = key_file.Wanted(
        format=params["format"] or "pem",
        passphrase=secrets.passphrase(params),
        attributes=private_file.attributes(mode=params["mode"], owner=params["owner"], group=params["group"]),
        key_id=params["key_id"],
    )
    done = exports.make(
        source, params["dest"], wanted, export.Terms(params["expires_in"], params["consume_once"], params["recipient"]),
        chain_dest=params["chain_dest"], same_format=params["format"] is None,
    )
    _warn_of_tls(module, source)
    copied = done.copied
    if source_passphrase is not None and not copied.encrypted:
        module.warn(f"{params['dest']}: the copy is not encrypted, though its source may be; passphrase would do that.")
    return {
        "changed": done.changed, "key_id": copied.public.key_id if copied.public else None, "mode": copied.mode,
        "export_id": done.made.export_id, "expires_at": done.made.expires_at,
        "enforced_by": list(done.made.enforced_by), "events": list(done.events),
        **results.diff(module, copied.before(), copied.facts(), params["dest"]),
    }


def _warn_of_tls(module: AnsibleModule, source: sources.Source) -> None:
    """Say that a TLS certificate is no signing identity; in the middle of a renewal, say nothing."""
    with suppress(HallmarkError):
        if source.chain_path and certificate.read_chain(
            read_key_file(source.chain_path), where=source.chain_path
        ).is_tls_only:
            module.warn(
                f"{source.chain_path}: the certificate is for TLS only, and no verifier takes it as a signing identity. "
                "Trust the public key by its key id; a key of its own is the better signing key."
            )


def _absent(module: AnsibleModule, exports: export.Exports) -> dict[str, t.Any]:
    params = module.params
    for option in ("expires_in", "consume_once", "recipient"):
        if params[option]:
            raise _misplaced(option, "state=absent")
    passphrase = secrets.passphrase(params)
    removed = exports.retract(params["dest"], params["chain_dest"], key_id=params["key_id"], passphrase=passphrase)
    unidentified: list[str] = []
    if params["sweep_paths"]:
        swept, unidentified = exports.sweep(
            params["sweep_paths"], params["key_id"], passphrase=passphrase, keep=params["keep_paths"] or ()
        )
        removed += [path for path in swept if path not in removed]
    if unidentified:
        module.warn(f"These may hold the key, and could not be told: {', '.join(unidentified)}. Look at them by hand.")
    before = {"files": removed} if removed else {}
    return {
        "changed": bool(removed or exports.events), "removed": removed, "unidentified": unidentified,
        "events": exports.events, **results.diff(module, before, {}, params["dest"]),
    }


def _misplaced(option: str, state: str) -> CustodyError:
    return CustodyError(
        code="input_invalid", object=option, attempt="use it", cause=f"it does not go with {state}", advice="Leave it out."
    )


if __name__ == "__main__":
    main()
