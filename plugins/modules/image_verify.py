#!/usr/bin/python
# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: image_verify
short_description: Verify the signatures of container images
version_added: "1.0.0"
description:
  - Says of each image whether it is signed by the authorities it must be signed by, and why not.
  - Each reference is resolved to a digest once, and the digest is returned. Use that digest afterwards, never the tag.
  - Stricter than cosign where that accepts what it should not; C(docs/stricter_than_cosign.md) lists each case.
author:
  - The hallmark.signing authors (@hallmark-signing)
requirements:
  - PyNaCl >= 1.5 (only for Ed25519 signatures of cosign 3)
  - rfc3161-client >= 1.0.9 (only for timestamps)
extends_documentation_fragment:
  - hallmark.signing._attributes
  - hallmark.signing._attributes.registry
  - hallmark.signing._registry
  - hallmark.signing._trust
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
  index:
    description:
      - Reference of an image index that is verified in place of O(images), each of which must be listed in the bytes that
        were verified. For what runs by the digest of its platform, while only the index was signed.
      - Signatures and authorities of the results are then those of the index.
    type: str
  formats:
    description: Formats that count, in the order in which they are looked at. Any of them suffices.
    type: list
    elements: str
    choices: [sig, bundle]
    default: [sig, bundle]
  threshold:
    description: How many distinct authorities must have signed. More than O(trust) names is an error.
    type: int
    default: 1
  annotations:
    description: Annotations that a signature must carry to count.
    type: dict
    default: {}
  recursive:
    description: Whether each image of an index must be signed too.
    type: bool
    default: false
  denied_key_ids:
    description: Keys whose signatures never count, even if O(trust) names them.
    type: list
    elements: str
    default: []
  docker_reference_check:
    description: What to do when a V(sig) signature was made for another name. Bundles carry no name.
    type: str
    default: warn
    choices:
      warn: It counts, with a warning; as with cosign.
      ignore: It counts.
      repository: It does not count; as with podman and CRI-O.
  require_log:
    description: Whether a signature counts only with an entry of one of the trusted logs.
    type: bool
    default: false
  rekor_public_key_paths:
    description: Public keys of trusted transparency logs, Rekor 1 or 2. Entries are verified offline.
    type: list
    elements: path
    default: []
  rekor_logs:
    description: The same with more to say of each log.
    type: list
    elements: dict
    default: []
    suboptions:
      public_key_path:
        description: Its public key, PEM.
        type: path
        required: true
      rekor_url:
        description: Its URL. The name of its host is what its checkpoints must name.
        type: str
      not_before:
        description: When the log began to sign with this key, RFC 3339.
        type: str
      not_after:
        description: When it ended, RFC 3339.
        type: str
  search_log:
    description:
      - Whether the log is asked, online, for an entry where a signature brings none.
      - One of O(rekor_logs) must have C(rekor_url).
    type: bool
    default: false
  require_timestamp:
    description: Whether a signature counts only with a timestamp of one of the trusted authorities.
    type: bool
    default: false
  timestamp_authority_paths:
    description: PEM files, one for each trusted RFC 3161 timestamp authority, with its certificates; the root last.
    type: list
    elements: path
    default: []
  on_failure:
    description: What a failed verification does to the task.
    type: str
    default: fail
    choices:
      fail: The task fails, after all images were looked at.
      report: The task goes well, and RV(verified) says what was found.
seealso:
  - module: hallmark.signing.image_signature
"""

EXAMPLES = r"""
- name: Verify what a container runs, which is listed in a signed index
  hallmark.signing.image_verify:
    images: ["registry.example.org/app@{{ running_digest }}"]
    index: registry.example.org/app:1.4
    trust:
      - public_key_path: /etc/hallmark-signing/release.pub

- name: Verify what was signed with certificates of our own PKI, and entered into our log
  hallmark.signing.image_verify:
    images: [registry.example.org/app:1.4]
    trust:
      - name: release
        ca_path: /etc/hallmark-signing/code-signing-root.pem
        intermediates_path: /etc/hallmark-signing/code-signing-issuing.pem
        san: {type: email, value: release@example.org}
    require_log: true
    rekor_logs:
      - public_key_path: /etc/hallmark-signing/rekor.pub
        rekor_url: https://rekor.example.org

- name: Verify before a deployment
  hallmark.signing.image_verify:
    images: [registry.example.org/app:1.4]
    trust:
      - name: release
        public_key_path: /etc/hallmark-signing/release.pub
  register: verified

- name: Deploy exactly what was verified
  community.docker.docker_container:
    name: app
    image: "{{ verified.results[0].reference }}"

- name: Look at an image that carries the signature of a wrong key, without failing
  hallmark.signing.image_verify:
    images: [registry.example.org/other:1.0]
    trust:
      - public_key_path: /etc/hallmark-signing/release.pub
    on_failure: report
  register: report
  failed_when: report.verified or report.results[0].reasons[0].code != 'signature_invalid'
"""

RETURN = r"""
verified:
  description: Whether every image was verified.
  returned: always
  type: bool
  sample: true
results:
  description: One entry for each of O(images), in their order, also on failure.
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
      description: What was verified, C(HOST/REPO@DIGEST); null if it could not be resolved.
      type: str
      returned: always
      sample: registry.example.org/app@sha256:3dc87e
    digest:
      description: The digest that was verified; null if it could not be resolved.
      type: str
      returned: always
      sample: sha256:3dc87e
    verified:
      description: Whether enough authorities signed it.
      type: bool
      returned: always
      sample: true
    signatures:
      description: The signatures that count, as those of M(hallmark.signing.image_signature), each with C(authority).
      type: list
      elements: dict
      returned: always
      sample: []
    authorities:
      description: Names of the authorities that signed, as far as was looked.
      type: list
      elements: str
      returned: always
      sample: [release]
    reasons:
      description: Why it was not verified, as code, message, object and signature; see C(docs/reason_codes.md).
      type: list
      elements: dict
      returned: always
      sample: []
    warnings:
      description: What to be warned of, such as C(reference_mismatch).
      type: list
      elements: dict
      returned: always
      sample: []
reasons:
  description: All reasons of all images; empty when every one was verified.
  returned: always
  type: list
  elements: dict
  sample: []
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._ansible import args, authorities, deps, registries, results
from ..module_utils._errors import HallmarkError
from ..module_utils._oci.concurrency import map_ordered
from ..module_utils._oci.images import Images
from ..module_utils._signing import authority, verify

EVIDENCE = (
    "require_log", "rekor_public_key_paths", "rekor_logs", "search_log", "require_timestamp", "timestamp_authority_paths",
)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "images": {"type": "list", "elements": "str", "required": True},
            "index": {"type": "str"},
            "trust": authorities.spec(),
            "require_log": {"type": "bool", "default": False},
            "rekor_public_key_paths": {"type": "list", "elements": "path", "default": [], "no_log": False},
            "rekor_logs": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "public_key_path": {"type": "path", "required": True, "no_log": False},
                    "rekor_url": {"type": "str"},
                    "not_before": {"type": "str"},
                    "not_after": {"type": "str"},
                },
            },
            "search_log": {"type": "bool", "default": False},
            "require_timestamp": {"type": "bool", "default": False},
            "timestamp_authority_paths": {"type": "list", "elements": "path", "default": []},
            "formats": {
                "type": "list", "elements": "str", "choices": ["sig", "bundle"], "default": ["sig", "bundle"],
            },
            "threshold": {"type": "int", "default": 1},
            "annotations": {"type": "dict", "default": {}},
            "recursive": {"type": "bool", "default": False},
            "denied_key_ids": {"type": "list", "elements": "str", "default": [], "no_log": False},
            "docker_reference_check": {
                "type": "str", "default": "warn", "choices": ["warn", "ignore", "repository"],
            },
            "on_failure": {"type": "str", "default": "fail", "choices": ["fail", "report"]},
            **registries.registry_spec(),
        },
        supports_check_mode=True,
    )
    params = module.params
    empty: dict[str, t.Any] = {"changed": False, "verified": False, "results": []}
    deps.require_libraries(module, "cryptography", empty=empty)
    results.require_entries(module, empty, images=params["images"], trust=params["trust"])
    try:
        known = Images(registries.settings(params, uses_mirrors=True))
        demand = _demand(params, known)
        judge = _judge(known, demand, params["index"])
        verdicts = map_ordered(judge, params["images"], workers=params["workers"])
    except HallmarkError as exc:
        failed = [
            verify.Verification(image, None, None, False, reasons=(exc.as_reason(),)).as_dict()
            for image in params["images"]
        ]
        results.fail_with(module, exc, {**empty, "results": failed})
    results.warn(module, [warning for verdict in verdicts for warning in verdict.warnings])
    reasons = [reason for verdict in verdicts for reason in verdict.reasons]
    result = {
        "changed": False,
        "verified": all(verdict.verified for verdict in verdicts),
        "results": [verdict.as_dict() for verdict in verdicts],
    }
    if result["verified"] or params["on_failure"] == "report":
        module.exit_json(reasons=[reason.as_dict() for reason in reasons], **result)
    results.fail(module, " | ".join(dict.fromkeys(reason.message for reason in reasons)), reasons, result)


def _judge(known: Images, demand: authority.Demand, index: str | None) -> t.Callable[[str], verify.Verification]:
    if index is None:
        return lambda image: verify.verify_image(known, image, demand)
    from ..module_utils._signing import through_index

    verified = through_index.verify_index(known, index, demand)
    return lambda image: through_index.verify_child(known, image, verified)


def _demand(params: dict[str, t.Any], known: Images) -> authority.Demand:
    wanted = None
    if any(params[option] for option in EVIDENCE):
        from ..module_utils._ansible import evidence

        wanted = evidence.evidence(params, known.settings)
    return authority.demand(
        authorities.load(params["trust"]),
        threshold=params["threshold"],
        formats=params["formats"],
        annotations=args.text_values(params["annotations"]),
        denied_key_ids=registries.key_ids(params["denied_key_ids"], option="denied_key_ids"),
        docker_reference_check=params["docker_reference_check"],
        recursive=params["recursive"],
        evidence=wanted,
    )


if __name__ == "__main__":
    main()
