#!/usr/bin/python
# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: image_signature_info
short_description: List the signatures, attestations and other referrers of container images
version_added: "1.0.0"
description:
  - Lists what hangs on images, as C(cosign tree), C(cosign download) and C(cosign triangulate) tell it.
  - B(Nothing is verified). Anybody who may write to the repository can hang anything on an image. To decide by signatures,
    use M(hallmark.signing.image_verify).
author:
  - The hallmark.signing authors (@hallmark-signing)
extends_documentation_fragment:
  - hallmark.signing._attributes
  - hallmark.signing._attributes.registry
  - hallmark.signing._registry
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
  images:
    description: Image references, C(HOST/REPO[:TAG][@DIGEST]), C(oci:DIR:TAG), C(oci:DIR@DIGEST) or C(oci-archive:FILE[:TAG]).
    type: list
    elements: str
    required: true
  recursive:
    description: Whether the images of an index are looked at, too.
    type: bool
    default: false
  contents:
    description: Whether signatures and attestations are returned with all they say, as C(contents).
    type: bool
    default: false
seealso:
  - module: hallmark.signing.image_verify
"""

EXAMPLES = r"""
- name: See what hangs on an image
  hallmark.signing.image_signature_info:
    images: [registry.example.org/app:1.4]
  register: found

- name: Show which keys claim to have signed it
  ansible.builtin.debug:
    var: found.results[0].signatures | map(attribute='key_id') | unique
"""

RETURN = r"""
results:
  description: One entry per image, in the order of the input, also on failure.
  returned: always
  type: list
  elements: dict
  contains:
    image:
      description: The reference as given.
      type: str
      returned: always
      sample: registry.example.org/app:1.4
    reference:
      description: The image at its digest; null if it could not be resolved.
      type: str
      returned: always
      sample: registry.example.org/app@sha256:3dc87e
    digest:
      description: Its digest; null if it could not be resolved.
      type: str
      returned: always
      sample: sha256:3dc87e
    signatures:
      description:
        - As those of M(hallmark.signing.image_signature). C(key_id) is a hint of whoever wrote it, or null; C(algorithm) is
          null, because nothing was verified.
        - With O(contents), C(contents) has C(payload) and C(signature) in base64, C(certificate), C(chain) and C(bundle).
      type: list
      elements: dict
      returned: always
      sample: []
    attestations:
      description: Attestations as C(format) (V(att) or V(bundle)), C(digest), C(subject) and C(predicate_type).
      type: list
      elements: dict
      returned: always
      sample: []
    artifacts:
      description:
        - Everything else, as C(kind) (V(sbom) for a C(.sbom) tag, V(referrer)), C(digest), C(subject), C(artifact_type),
          C(size) in bytes and C(annotations).
      type: list
      elements: dict
      returned: always
      sample: []
    tags:
      description: For each digest looked at, as C(subject), the tags C(signature), C(attestation) and C(sbom) would have.
      type: list
      elements: dict
      returned: always
      sample: []
    reasons:
      description: Why the image could not be listed, as code, message, object and signature.
      type: list
      elements: dict
      returned: always
      sample: []
    warnings:
      description: What was found and cannot be read.
      type: list
      elements: dict
      returned: always
      sample: []
reasons:
  description: All reasons of all images.
  returned: always
  type: list
  elements: dict
  sample: []
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._ansible import registries, results
from ..module_utils._errors import HallmarkError
from ..module_utils._oci.concurrency import map_ordered
from ..module_utils._oci.images import Images
from ..module_utils._signing import listing


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "images": {"type": "list", "elements": "str", "required": True},
            "recursive": {"type": "bool", "default": False},
            "contents": {"type": "bool", "default": False},
            **registries.registry_spec(),
        },
        supports_check_mode=True,
    )
    params = module.params
    empty: dict[str, t.Any] = {"changed": False, "results": []}
    results.require_entries(module, empty, images=params["images"])
    try:
        known = Images(registries.settings(params, uses_mirrors=True))
        listed = map_ordered(
            lambda image: listing.list_image(
                known, image, recursive=params["recursive"], contents=params["contents"]
            ),
            params["images"], workers=params["workers"],
        )
    except HallmarkError as exc:
        failed = [listing.Listing(image, reasons=[exc.as_reason()]).as_dict() for image in params["images"]]
        results.fail_with(module, exc, {**empty, "results": failed})
    results.finish(module, [reason for one in listed for reason in one.reasons], {
        "changed": False, "results": [one.as_dict() for one in listed],
    })


if __name__ == "__main__":
    main()
