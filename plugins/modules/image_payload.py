#!/usr/bin/python
# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: image_payload
short_description: Write the bytes that a signer elsewhere must sign for container images
version_added: "1.0.0"
description:
  - First of two phases of signing with a key that no managed host may see, as in an HSM room, in a signing server or on a
    machine without network. It writes the exact bytes to sign, one file for each image and format.
  - "Whoever has the key signs each file, for instance by C(openssl dgst -sha256 -sign KEY -out SIGNATURE PAYLOAD)."
  - The second phase is M(hallmark.signing.image_signature) with C(external) signers and the same options, which verifies each
    signature before it attaches it.
  - Idempotent. The bytes depend on the images and options only.
author:
  - The hallmark.signing authors (@hallmark-signing)
extends_documentation_fragment:
  - hallmark.signing._attributes
  - hallmark.signing._attributes.registry
  - hallmark.signing._registry
attributes:
  check_mode:
    support: full
    details: Registries are read, nothing is written.
  diff_mode:
    support: none
    details: What is written follows from the images.
  idempotent:
    support: full
options:
  images:
    description:
      - Image references, C(HOST/REPO[:TAG][@DIGEST]), C(oci:DIR:TAG) or C(oci:DIR@DIGEST). Each is resolved to its digest
        once. Use the digests of RV(payloads) in the second phase, because a tag may have moved by then.
    type: list
    elements: str
    required: true
  dest:
    description: Folder on the managed host for the files. Made if missing, as one that others may not write to.
    type: path
    required: true
  formats:
    description:
      - Formats to prepare. For V(sig) the file holds a SimpleSigning payload; for V(bundle) the pre-authentication encoding
        of a DSSE envelope.
    type: list
    elements: str
    choices: [sig, bundle]
    default: [sig, bundle]
  annotations:
    description: Annotations that are part of what is signed.
    type: dict
    default: {}
  recursive:
    description: Whether the images of an index are signed too.
    type: bool
    default: true
  docker_reference:
    description: Name that is signed with the digest in format V(sig), instead of C(HOST/REPO) of each image.
    type: str
seealso:
  - module: hallmark.signing.image_signature
  - module: hallmark.signing.payload_signature
"""

EXAMPLES = r"""
- name: Write what the HSM room has to sign
  hallmark.signing.image_payload:
    images: [registry.example.org/app:1.4]
    dest: /srv/to-sign
  register: prepared

# Elsewhere, for each file: openssl dgst -sha256 -sign KEY -out FILE.signature FILE

- name: Attach what came back, two files for an image that is no index
  hallmark.signing.image_signature:
    images: ["registry.example.org/app@{{ prepared.payloads[0].digest }}"]
    signers:
      - external:
          - payload_path: "{{ prepared.payloads[0].path }}"
            signature_path: "{{ prepared.payloads[0].path }}.signature"
            public_key_path: /etc/hallmark-signing/room.pub
          - payload_path: "{{ prepared.payloads[1].path }}"
            signature_path: "{{ prepared.payloads[1].path }}.signature"
            public_key_path: /etc/hallmark-signing/room.pub

- name: The same for any number of files, such as those of an index and its children, by the key of one certificate
  hallmark.signing.image_signature:
    images: [registry.example.org/app:1.4]
    signers:
      - external: >-
          {{ dict(paths | zip(paths | map('regex_replace', '$', '.signature')))
          | dict2items(key_name='payload_path', value_name='signature_path') }}
        certificate_path: /etc/hallmark-signing/room.pem
        chain_path: /etc/hallmark-signing/room.chain.pem
    attach_certificate: true
  vars:
    paths: "{{ prepared.payloads | map(attribute='path') | list }}"
"""

RETURN = r"""
payloads:
  description: One entry for each file, in the order of O(images); those of images that failed are missing.
  returned: always
  type: list
  elements: dict
  contains:
    image:
      description: The reference as given.
      type: str
      returned: always
      sample: registry.example.org/app:1.4
    digest:
      description: The digest that is to be signed, of the image, or of one in an index.
      type: str
      returned: always
      sample: sha256:3dc87e
    format:
      description: V(sig) or V(bundle).
      type: str
      returned: always
      sample: sig
    path:
      description: The file to sign.
      type: str
      returned: always
      sample: /srv/to-sign/sha256-3dc87e.sig.5f0c.payload
    sha256:
      description: SHA-256 of the file, to compare after it was carried elsewhere.
      type: str
      returned: always
      sample: 5f0c
    repository:
      description: The repository, C(HOST/REPO); empty for an image in a layout.
      type: str
      returned: always
      sample: registry.example.org/app
    docker_reference:
      description: The name that is signed with the digest in format V(sig).
      type: str
      returned: always
      sample: registry.example.org/app
    annotations:
      description: The annotations that are part of what is signed.
      type: dict
      returned: always
      sample: {}
reasons:
  description: All reasons of all images; empty when nothing failed.
  returned: always
  type: list
  elements: dict
  sample: []
"""

import os
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._ansible import args, deps, registries, results
from ..module_utils._custody import public_file
from ..module_utils._errors import HallmarkError, Reason
from ..module_utils._oci import reference as references
from ..module_utils._oci.concurrency import map_ordered
from ..module_utils._oci.images import Images
from ..module_utils._signing import preparing


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "images": {"type": "list", "elements": "str", "required": True},
            "dest": {"type": "path", "required": True},
            "formats": {
                "type": "list", "elements": "str", "choices": ["sig", "bundle"], "default": ["sig", "bundle"],
            },
            "annotations": {"type": "dict", "default": {}},
            "recursive": {"type": "bool", "default": True},
            "docker_reference": {"type": "str"},
            **registries.registry_spec(),
        },
        supports_check_mode=True,
    )
    params = module.params
    empty: dict[str, t.Any] = {"changed": False, "payloads": []}
    deps.require_libraries(module, "cryptography", empty=empty)
    results.require_entries(module, empty, images=params["images"], formats=params["formats"])
    try:
        if params["docker_reference"] is not None:
            references.parse(params["docker_reference"])
        known = Images(registries.settings(params))
        prepared = map_ordered(
            lambda image: preparing.prepare(
                known, image, formats=params["formats"], annotations=args.text_values(params["annotations"]),
                recursive=params["recursive"], docker_reference=params["docker_reference"],
            ),
            params["images"], workers=params["workers"],
        )
    except HallmarkError as exc:
        results.fail_with(module, exc, empty)
    reasons = [reason for one in prepared for reason in one.reasons]
    written = [_write(module, payload, reasons) for one in prepared for payload in one.payloads]
    results.finish(module, reasons, {
        "changed": any(changed for changed, _shape in written), "payloads": [shape for _changed, shape in written],
    })


def _write(module: AnsibleModule, payload: preparing.Payload, reasons: list[Reason]) -> tuple[bool, dict[str, t.Any]]:
    path = os.path.join(module.params["dest"], payload.file_name)
    changed = False
    try:
        changed = public_file.ensure_public_file(
            path, payload.content, is_former=lambda _data: False, dry_run=module.check_mode
        )
    except HallmarkError as exc:
        reasons.append(exc.as_reason())
    return changed, {
        "image": payload.image, "digest": payload.digest, "format": payload.format, "path": path,
        "sha256": payload.sha256, "repository": payload.repository, "docker_reference": payload.docker_reference,
        "annotations": args.text_values(module.params["annotations"]),
    }


if __name__ == "__main__":
    main()
