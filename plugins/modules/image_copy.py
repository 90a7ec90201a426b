#!/usr/bin/python
# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: image_copy
short_description: Copy container images with their signatures
version_added: "1.0.0"
description:
  - Copies images between registries, OCI layouts and OCI archives, with everything that belongs to them - children of an
    index, C(.sig), C(.att) and C(.sbom) tags, and all referrers, such as bundles and SBOMs.
  - Digests do not change. Every blob is checked on the way; where one registry has it already it is mounted, not sent.
  - A copy that broke off goes on from where it broke. The tag is written last, after the signatures.
  - Signatures that the destination has stay, and are joined with those of the source.
author:
  - The hallmark.signing authors (@hallmark-signing)
extends_documentation_fragment:
  - hallmark.signing._attributes
  - hallmark.signing._attributes.registry
  - hallmark.signing._registry
  - hallmark.signing._registry.settle
attributes:
  check_mode:
    support: full
    details: Sources and destinations are read, nothing is written.
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  copies:
    description:
      - What to copy where. They are worked on concurrently; the failure of one does not stop the others, and the task fails
        at its end.
    type: list
    elements: dict
    required: true
    suboptions:
      source:
        description: Image reference, C(HOST/REPO[:TAG][@DIGEST]), C(oci:DIR:TAG), C(oci:DIR@DIGEST) or C(oci-archive:FILE[:TAG]).
        type: str
        required: true
      destination:
        description:
          - The same. A layout or archive is made if it is not there, and keeps what else is in it.
          - Without a tag, registries get C(latest), layouts and archives list the image without a tag.
        type: str
        required: true
notes:
  - An archive is written whole, from a folder beside it which stays when the copy breaks off. That takes the room twice.
  - cosign knows one image in a layout. The first one that comes into it is the one it sees.
seealso:
  - module: hallmark.signing.image_verify
"""

EXAMPLES = r"""
- name: Carry a signed image over the air gap
  hallmark.signing.image_copy:
    copies:
      - source: registry.example.org/app:1.4
        destination: oci-archive:/media/usb/app-1.4.tar:1.4

- name: Bring it into the registry inside
  hallmark.signing.image_copy:
    copies:
      - source: oci-archive:/media/usb/app-1.4.tar:1.4
        destination: registry.inside.example/app:1.4
"""

RETURN = r"""
results:
  description: One entry per copy, in the order of the input, also on failure.
  returned: always
  type: list
  elements: dict
  contains:
    source:
      description: The source as given.
      type: str
      returned: always
      sample: registry.example.org/app:1.4
    destination:
      description: The destination as given.
      type: str
      returned: always
      sample: oci:/srv/layout:1.4
    digest:
      description: Digest of the image, the same on both sides; null if it could not be resolved.
      type: str
      returned: always
      sample: sha256:3dc87e
    changed:
      description: Whether anything was written for it.
      type: bool
      returned: always
      sample: true
    failed:
      description: Whether it was not copied whole.
      type: bool
      returned: always
      sample: false
    reasons:
      description: Why, as code, message, object and signature; see C(docs/reason_codes.md).
      type: list
      elements: dict
      returned: always
      sample: []
    warnings:
      description: What to be warned of.
      type: list
      elements: dict
      returned: always
      sample: []
reasons:
  description: All reasons of all copies; empty when every one succeeded.
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
from ..module_utils._signing import copying


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "copies": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "source": {"type": "str", "required": True},
                    "destination": {"type": "str", "required": True},
                },
            },
            **registries.settle_spec(),
            **registries.registry_spec(),
        },
        supports_check_mode=True,
    )
    params = module.params
    empty: dict[str, t.Any] = {"changed": False, "results": []}
    results.require_entries(module, empty, copies=params["copies"])
    names = [(entry["source"], entry["destination"]) for entry in params["copies"]]
    workers = max(1, params["workers"])
    try:
        source, target = Images(registries.settings(params, uses_mirrors=True)), Images(registries.settings(params))
        done = map_ordered(
            lambda pair: copying.copy_image(source, target, pair, dry_run=module.check_mode), names, workers=workers
        )
        done = map_ordered(lambda one: copying.settle(target, one), done, workers=workers)
    except HallmarkError as exc:
        failed = [copying.Copy(*pair, reasons=(exc.as_reason(),)).as_dict() for pair in names]
        results.fail_with(module, exc, {**empty, "results": failed})
    results.warn(module, [warning for one in done for warning in one.warnings])
    results.finish(module, [reason for one in done for reason in one.reasons], {
        "changed": any(one.changed for one in done),
        "results": [one.as_dict() for one in done],
    })


if __name__ == "__main__":
    main()
