#!/usr/bin/python
# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: payload_signature
short_description: Sign on the host with the key what another host prepared
version_added: "1.0.0"
description:
  - Signs the claims that M(hallmark.signing.image_payload) prepared, on the host where the key lives. That host needs no access
    to registries, and the key does not leave it; M(hallmark.signing.image_signature) attaches the signatures elsewhere.
  - What comes is the repository, the digest, the annotations and the format of each. The bytes are made here, and nothing else
    is ever signed; if the other side says which bytes it means, they must be the same.
  - Each signature is recorded before it is made, in a record chained by hashes.
author:
  - The hallmark.signing authors (@hallmark-signing)
requirements:
  - cryptography >= 38 (keys in files and programs), or what the URI of the key wants
extends_documentation_fragment:
  - hallmark.signing._attributes
  - hallmark.signing._private_file.passphrase
attributes:
  check_mode:
    support: full
    details: Everything is checked, the key too; nothing is signed or recorded, and signatures are null.
  diff_mode:
    support: none
    details: Nothing on the host changes but the record of uses.
  idempotent:
    support: full
    details: Signatures differ each time, as those of ECDSA do. M(hallmark.signing.image_signature) adds none that is there already.
options:
  payloads:
    description: What to sign, as M(hallmark.signing.image_payload) returned it.
    type: list
    elements: dict
    required: true
    suboptions:
      digest:
        description: The digest of the image.
        type: str
        required: true
      format:
        description: The format of the signature.
        type: str
        choices: [sig, bundle]
        required: true
      repository:
        description: The repository, C(HOST/REPO).
        type: str
        default: ""
      docker_reference:
        description: The name that is signed with the digest in format V(sig).
        type: str
        default: ""
      annotations:
        description: The annotations that are part of what is signed.
        type: dict
        default: {}
      sha256:
        description: SHA-256 of the bytes that are meant.
        type: str
      image:
        description: The image as it was named there. Not used, but for messages.
        type: str
      path:
        description: The file with the bytes on the other host. Not used.
        type: path
  repositories:
    description:
      - Patterns of repositories that this key may sign for, C(HOST/REPO), C(HOST/NS/**), C(HOST/NS/PREFIX*) or C(*.DOMAIN/**).
        Without it, any. In format V(sig), O(payloads[].docker_reference) is compared, too.
      - A bundle carries no repository. The patterns limit what can be asked for, not where such a signature counts.
    type: list
    elements: str
  private_key_path:
    description: Private key file on this host; PKCS#8, SEC1, PKCS#1 or cosign's format.
    type: path
  uri:
    description: A key in an HSM or with a service that signs, as for M(hallmark.signing.image_signature).
    type: str
  pin_path:
    description: File on this host that holds the PIN of an HSM. It is tried once.
    type: path
  command:
    description: A program and its arguments that signs, as for M(hallmark.signing.image_signature). Wants O(public_key_path).
    type: list
    elements: str
  public_key_path:
    description: Public key of O(command); with O(uri), the one that the key must have.
    type: path
  key_id:
    description: The expected key id; any other key is an error.
    type: str
  signature_algorithm:
    description: Algorithm to sign with, in place of the one that most readers try, as for M(hallmark.signing.image_signature).
    type: str
  record_path:
    description:
      - The record of uses, JSON lines chained by their hashes. By default C(/var/lib/hallmark-signing/uses.jsonl) for root, and
        C(hallmark-signing/uses.jsonl) in the user's folder of state (E(XDG_STATE_HOME)) for others.
    type: path
seealso:
  - module: hallmark.signing.image_payload
  - module: hallmark.signing.image_signature
"""

EXAMPLES = r"""
- name: Prepare what is to be signed, where the registry can be reached
  hallmark.signing.image_payload:
    images: ["{{ build.image }}"]
    dest: /var/tmp/to-sign
  register: prepared

- name: Sign it where the key is
  hallmark.signing.payload_signature:
    payloads: "{{ prepared.payloads }}"
    private_key_path: /etc/hallmark-signing/release.key
    repositories: [registry.example.org/acme/**]
  delegate_to: keyhost.example.org
  register: signed

- name: Attach the signatures
  hallmark.signing.image_signature:
    images: ["{{ build.image }}"]
    signers:
      - signatures: "{{ signed.signatures }}"
"""

RETURN = r"""
signatures:
  description: One entry for each of O(payloads), in their order.
  returned: always
  type: list
  elements: dict
  contains:
    digest:
      description: The digest of the image.
      type: str
      returned: always
      sample: sha256:3dc87e
    format:
      description: V(sig) or V(bundle).
      type: str
      returned: always
      sample: sig
    sha256:
      description: SHA-256 of the bytes that were signed.
      type: str
      returned: always
      sample: 5f0c
    signature:
      description: The signature, in base64; null in check mode.
      type: str
      returned: always
      sample: MEUCIQDx
    key_id:
      description: Key id of the key.
      type: str
      returned: always
      sample: 557e7bc25c2315e3e9344d34df49878948b7b3d7a7b1cb274d62b720a54029ae
    public_key:
      description: The public key, PEM.
      type: str
      returned: always
      sample: "-----BEGIN PUBLIC KEY-----\n"
reasons:
  description: Why the task failed; empty otherwise. Nothing is signed unless all of it may be.
  returned: always
  type: list
  elements: dict
  sample: []
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._ansible import args, deps, results, signers
from ..module_utils._errors import HallmarkError
from ..module_utils._keyhost import batch


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "payloads": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "digest": {"type": "str", "required": True},
                    "format": {"type": "str", "choices": ["sig", "bundle"], "required": True},
                    "repository": {"type": "str", "default": ""},
                    "docker_reference": {"type": "str", "default": ""},
                    "annotations": {"type": "dict", "default": {}},
                    "sha256": {"type": "str"},
                    "image": {"type": "str"},
                    "path": {"type": "path"},
                },
            },
            "repositories": {"type": "list", "elements": "str"},
            **signers.spec(),
            "signature_algorithm": {"type": "str"},
            "record_path": {"type": "path"},
        },
        mutually_exclusive=[("passphrase", "passphrase_path"), signers.KINDS],
        required_one_of=[signers.KINDS],
        required_by={"command": ["public_key_path"], "pin_path": ["uri"]},
        supports_check_mode=True,
    )
    params = module.params
    empty: dict[str, t.Any] = {"changed": False, "signatures": []}
    deps.require_for_keys(module, empty=empty)
    results.require_entries(module, empty, payloads=params["payloads"])
    try:
        wanted = [
            batch.Wanted(
                digest=entry["digest"], format=entry["format"], repository=entry["repository"],
                docker_reference=entry["docker_reference"], annotations=args.text_values(entry["annotations"]),
                sha256=entry["sha256"],
            )
            for entry in params["payloads"]
        ]
        claims = batch.check(wanted, params["repositories"])
        signer = signers.load(params, scheme=params["signature_algorithm"], dry_run=module.check_mode)
        signatures = batch.sign(
            claims, signer, scheme=params["signature_algorithm"], record_path=params["record_path"],
            dry_run=module.check_mode,
        )
    except HallmarkError as exc:
        results.fail_with(module, exc, empty)
    results.finish(module, [], {"changed": False, "signatures": signatures})


if __name__ == "__main__":
    main()
