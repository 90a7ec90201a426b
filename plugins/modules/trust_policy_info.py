#!/usr/bin/python
# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: trust_policy_info
short_description: Tell what enforcers would say of images, and what is wrong with policies of others
version_added: "1.0.0"
description:
  - Decides, for each of some images and each of some enforcers, whether it would be admitted under a trust policy, and why not.
    Signatures are read as that enforcer reads them, and really verified.
  - Looks for mistakes in files of policies, whoever wrote them.
  - Nothing is changed, and nothing fails because an image would be denied, or because something is wrong with a policy.
author:
  - The hallmark.signing authors (@hallmark-signing)
requirements:
  - PyYAML >= 6
  - jmespath >= 1 (only for O(query))
extends_documentation_fragment:
  - hallmark.signing._attributes
  - hallmark.signing._attributes.registry
  - hallmark.signing._registry
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
  policy:
    description: The policy, as for M(hallmark.signing.trust_policy).
    type: dict
  policy_path:
    description: A file on the managed host with the policy, YAML or JSON.
    type: path
  enforcers:
    description: Whom to decide for.
    type: list
    elements: dict
    default: []
    suboptions:
      enforcer:
        description: As for M(hallmark.signing.trust_policy).
        type: str
        required: true
        choices:
          - containers
          - openshift
          - policy_controller
          - kyverno_cluster_policy
          - kyverno_image_validating_policy
          - connaisseur
          - ratify
          - wiz
      enforcer_version:
        description: Its version.
        type: str
        required: true
  namespace:
    description: The namespace of Kubernetes that the images would run in; without it, rules for namespaces do not count.
    type: str
  images:
    description: Images in registries, as they would be deployed.
    type: list
    elements: str
  query:
    description:
      - A JMESPath expression that picks images out of O(source). What it gives is decided after O(images), each once.
      - It must give texts. Nothing at all is an error, as an expression with a mistake gives nothing, too.
    type: str
  source:
    description: Any data, such as the output of C(kubectl get pods -A -o json) after P(ansible.builtin.from_json#filter).
    type: raw
  lint_paths:
    description: Files with policies, on the managed host; YAML with any number of documents, or JSON.
    type: list
    elements: path
    default: []
seealso:
  - module: hallmark.signing.trust_policy
  - module: hallmark.signing.image_verify
"""

EXAMPLES = r"""
- name: Read what runs
  ansible.builtin.command: kubectl get pods --all-namespaces --output json
  register: pods
  changed_when: false

- name: Say what of it would be denied, before anything is enforced
  hallmark.signing.trust_policy_info:
    policy_path: /srv/gitops/policy.yaml
    enforcers:
      - {enforcer: policy_controller, enforcer_version: 0.15.1}
      - {enforcer: containers, enforcer_version: 5.34.2}
    source: "{{ pods.stdout | from_json }}"
    query: items[].spec.[containers, initContainers, ephemeralContainers][][].image
  register: told

- name: Show it
  ansible.builtin.debug:
    msg: "{{ told.decisions | rejectattr('admit') | map(attribute='image') | unique }}"

- name: Look for mistakes in a policy that somebody else wrote
  hallmark.signing.trust_policy_info:
    lint_paths: [/etc/containers/policy.json]
"""

RETURN = r"""
decisions:
  description: One entry for each image and each of O(enforcers), in their order, image by image.
  returned: always
  type: list
  elements: dict
  contains:
    image:
      description: The image as given.
      type: str
      returned: always
      sample: registry.example.org/app:1.4
    digest:
      description: What it is; null where that was not looked up, or could not be.
      type: str
      returned: always
      sample: sha256:3dc87e
    enforcer:
      description: The enforcer.
      type: str
      returned: always
      sample: containers
    admit:
      description: Whether it would be admitted.
      type: bool
      returned: always
      sample: false
    rule:
      description: The rule that it was decided by; null if there is none.
      type: str
      returned: always
      sample: own images
    reasons:
      description: Why not, as code, message, object and signature; see C(docs/reason_codes.md).
      type: list
      elements: dict
      returned: always
      sample: []
problems:
  description: What was found in O(lint_paths), and images that are signed in a format only that an enforcer does not read.
  returned: always
  type: list
  elements: dict
  contains:
    path:
      description: The file, or the image.
      type: str
      returned: always
      sample: /etc/containers/policy.json
    code:
      description: A stable word; all stand in C(docs/trust_policy.md).
      type: str
      returned: always
      sample: catch_all_missing
    message:
      description: Where it stands and what it means.
      type: str
      returned: always
      sample: "default: images that no scope is about are admitted unsigned; write reject"
reasons:
  description: Why the task failed; empty otherwise.
  returned: always
  type: list
  elements: dict
  sample: []
"""

import datetime
import itertools
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._ansible import deps, registries, results
from ..module_utils._errors import FormatError, HallmarkError, Reason
from ..module_utils._keys.files import read_key_file
from ..module_utils._policy import reading
from ..module_utils._policy.model import ENFORCERS


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "policy": {"type": "dict"},
            "policy_path": {"type": "path"},
            "enforcers": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "enforcer": {"type": "str", "required": True, "choices": list(ENFORCERS)},
                    "enforcer_version": {"type": "str", "required": True},
                },
            },
            "namespace": {"type": "str"},
            "images": {"type": "list", "elements": "str"},
            "query": {"type": "str"},
            "source": {"type": "raw"},
            "lint_paths": {"type": "list", "elements": "path", "default": []},
            **registries.registry_spec(),
        },
        mutually_exclusive=[("policy", "policy_path")],
        required_together=[("query", "source")],
        supports_check_mode=True,
    )
    params = module.params
    empty: dict[str, t.Any] = {"changed": False, "decisions": [], "problems": []}
    deps.require_libraries(module, "cryptography", "yaml", empty=empty)
    problems, reasons = _lint(params["lint_paths"])
    decisions: list[dict[str, t.Any]] = []
    try:
        images = _images(module, params, empty)
        if images:
            _require_question(params)
            decisions, more = _decide(params, images)
            problems += more
        elif not params["lint_paths"]:
            raise _invalid("images", "there is nothing to do", "Give images, query with source, or lint_paths.")
    except reading.PolicyError as exc:
        reasons += exc.as_reasons()
    except HallmarkError as exc:
        reasons.append(exc.as_reason())
    results.finish(module, reasons, {"changed": False, "decisions": decisions, "problems": problems})


def _lint(paths: t.Sequence[str]) -> tuple[list[dict[str, str]], list[Reason]]:
    """Return the problems of all files, and why some could not be read."""
    problems: list[dict[str, str]] = []
    reasons: list[Reason] = []
    if paths:
        from ..module_utils._policy import linting

        for path in paths:
            try:
                problems += [one.as_dict() for one in linting.lint(path, read_key_file)]
            except HallmarkError as exc:
                reasons.append(exc.as_reason())
    return problems, reasons


def _images(module: AnsibleModule, params: dict[str, t.Any], empty: dict[str, t.Any]) -> list[str]:
    if params["images"] is not None:
        results.require_entries(module, empty, images=params["images"])
    images = list(params["images"] or [])
    if params["query"] is not None:
        from ..module_utils._trust import selecting

        deps.require_libraries(module, "jmespath", empty=empty)
        images += [one for one in selecting.select(params["query"], params["source"]) if one not in images]
    return images


def _require_question(params: dict[str, t.Any]) -> None:
    if params["policy"] is None and params["policy_path"] is None:
        raise _invalid("policy", "there are images, and no policy", "Give policy or policy_path.")
    if not params["enforcers"]:
        raise _invalid("enforcers", "there are images, and nobody to decide about them", "Name at least one enforcer.")


def _decide(
    params: dict[str, t.Any], images: t.Sequence[str]
) -> tuple[list[dict[str, t.Any]], list[dict[str, str]]]:
    from ..module_utils._oci.concurrency import map_ordered
    from ..module_utils._oci.images import Images
    from ..module_utils._policy import decision

    policy = reading.read_option(
        params["policy"], params["policy_path"], now=datetime.datetime.now(datetime.timezone.utc),
        read_file=read_key_file,
    )
    judges = [
        decision.Judge(
            policy, enforcer=one["enforcer"], version=one["enforcer_version"], namespace=params["namespace"]
        )
        for one in params["enforcers"]
    ]
    known = Images(registries.settings(params, uses_mirrors=True))
    found = list(itertools.chain.from_iterable(map_ordered(
        lambda image: [judge.decide(known, image) for judge in judges], images, workers=params["workers"]
    )))
    unseen = [
        {"path": one.image, "code": "bundle_only",
         "message": f"{one.enforcer}: its signatures are bundles only, which are not read there; sign it in both formats"}
        for one in found if one.bundle_only
    ]
    return [one.as_dict() for one in found], unseen


def _invalid(where: str, cause: str, advice: str) -> FormatError:
    return FormatError(code="input_invalid", object=where, attempt="decide about images", cause=cause, advice=advice)


if __name__ == "__main__":
    main()
