#!/usr/bin/python
# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: trust_policy
short_description: Install a trust policy for what enforces it
version_added: "1.0.0"
description:
  - Renders one trust policy for podman, skopeo, buildah and CRI-O, or as manifests for a cluster, and writes the files.
  - What an enforcer cannot express is refused, with the reason and what to do instead. Then nothing is written.
  - The files are written whole and read back, the one that switches the policy last. If anything fails, the former files
    stand again. What somebody else wrote there is kept as C(NAME.former) the first time.
  - Beside O(dest) lies a record, C(DEST.hallmark-signing.json), of which policy is installed. A policy with a lower version,
    or another one with the same version, is refused.
  - Manifests of clusters were checked against the schemas of their products, not run in a cluster.
author:
  - The hallmark.signing authors (@hallmark-signing)
requirements:
  - cryptography >= 42
  - PyYAML >= 6 (only for O(policy_path), and for manifests)
extends_documentation_fragment:
  - hallmark.signing._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  policy:
    description:
      - The policy. All of its mistakes are told at once, each with its place.
      - C(version) is a number that rises with every change, C(not_after) when the policy ends, C(default) what becomes of
        images that no rule is about, V(reject) or V(accept).
      - C(authorities) are who may sign, by name. Each has one of C(public_key_path), C(public_key_content), C(generations) (a
        list of C(generation), C(state) and a public key, of which those in state C(published), C(active) and C(retiring)
        count), C(ca_path) or C(ca_content) with C(san), and C(keyless). C(log) and C(timestamp) say what else is required.
      - C(rules) have C(name), C(images), C(any_of), C(threshold), C(mirrors), C(attestations) and C(namespaces). Images are
        C(HOST/REPO), C(HOST/NS/**), C(HOST/NS/PREFIX*) or C(*.DOMAIN/**). The most specific pattern wins.
      - All of it is in C(docs/trust_policy.md), and C(docs/trust_policy.schema.json) is its JSON schema.
      - C(denied_key_ids) are keys that count for nobody.
      - Paths in it are on the managed host.
    type: dict
  policy_path:
    description: A file on the managed host with the policy, YAML or JSON.
    type: path
  enforcer:
    description: What the policy is rendered for.
    type: str
    required: true
    choices:
      containers: podman, skopeo, buildah and CRI-O, C(policy.json) and C(registries.d).
      openshift: C(ClusterImagePolicy) of OpenShift.
      policy_controller: C(ClusterImagePolicy) and C(TrustRoot) of sigstore's policy-controller.
      kyverno_cluster_policy: C(ClusterPolicy) of Kyverno.
      kyverno_image_validating_policy: C(ImageValidatingPolicy) of Kyverno.
      connaisseur: Helm values of Connaisseur.
      ratify: Gatekeeper with Ratify, a C(ConstraintTemplate) with its constraint, and Helm values of Ratify.
      wiz: Image integrity validators of a Wiz tenant, as JSON and for Terraform. Not verified against the real service.
  enforcer_version:
    description:
      - Its version, which decides what it can express. For V(containers) that of the library containers/image; skopeo 1.18 and
        podman 5.4 of Debian 13 have V(5.34.2). For V(wiz), anything.
    type: str
    required: true
  dest:
    description: Folder on the managed host, such as C(/etc/containers). Made if missing.
    type: path
    required: true
  floor:
    description:
      - The highest version that is known to have been installed here. A policy with a lower version is refused, also where
        the record beside O(dest) is gone, or an old one.
    type: int
    default: 1
  announce:
    description: How many days before C(not_after) of the policy a warning begins to say so.
    type: int
    default: 30
  probes:
    description:
      - Images that are fetched under the new policy, before it is installed, by the skopeo of the managed host. If one is
        denied that is to be admitted, or the reverse, nothing is installed. Also in check mode.
      - For O(enforcer=containers) only. Whole images are fetched, so name small ones.
    type: dict
    default: {}
    suboptions:
      admit:
        description: Images that must be admitted.
        type: list
        elements: str
        default: []
      deny:
        description: Images that must be denied.
        type: list
        elements: str
        default: []
seealso:
  - module: hallmark.signing.trust_policy_info
  - module: hallmark.signing.image_verify
"""

EXAMPLES = r"""
- name: Admit only what we signed, on a host with podman
  hallmark.signing.trust_policy:
    policy:
      version: 3
      authorities:
        release: {public_key_path: /etc/hallmark-signing/release.pub}
      rules:
        - name: own images
          images: ["registry.example.org/**"]
          any_of: [release]
    enforcer: containers
    enforcer_version: 5.34.2
    dest: /etc/containers
    probes:
      admit: ["registry.example.org/probes/signed:1"]
      deny: ["registry.example.org/probes/unsigned:1"]

- name: Write the manifests of the same policy for a cluster
  hallmark.signing.trust_policy:
    policy_path: /srv/gitops/policy.yaml
    enforcer: policy_controller
    enforcer_version: 0.15.1
    dest: /srv/gitops/policy-controller
"""

RETURN = r"""
policy_version:
  description: The version of the policy; null if it could not be read.
  returned: always
  type: int
  sample: 3
policy_hash:
  description: Hash of what the policy says, whatever its order; null if it could not be read.
  returned: always
  type: str
  sample: 3dc87e
effective_hash:
  description: Hash of the files as they were read afterwards, or would be; null if there are none.
  returned: always
  type: str
  sample: 5e884b
files:
  description: The files, in the order in which they are written.
  returned: always
  type: list
  elements: dict
  contains:
    path:
      description: Path below O(dest).
      type: str
      returned: always
      sample: policy.json
    sha256:
      description: Hash of its content.
      type: str
      returned: always
      sample: 3dc87e
    changed:
      description: Whether it was another one, or missing.
      type: bool
      returned: always
      sample: true
  sample: []
removed:
  description: Files of the former policy that this one has no more, and that were taken away.
  returned: always
  type: list
  elements: str
  sample: []
not_after:
  description: When the policy ends, RFC 3339 in UTC; null if it does not, or could not be read.
  returned: always
  type: str
  sample: "2027-06-01T00:00:00Z"
rendered:
  description: The texts of the files, by their paths below O(dest).
  returned: always
  type: dict
  sample: {}
refused:
  description: What the enforcer cannot express, as code, policy_path, message and instead.
  returned: always
  type: list
  elements: dict
  sample: []
reasons:
  description: Why the task failed, as code, message, object and signature; see C(docs/reason_codes.md).
  returned: always
  type: list
  elements: dict
  sample: []
"""

import datetime
import os
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._ansible import deps, results
from ..module_utils._errors import FormatError, HallmarkError, Reason
from ..module_utils._keys.files import read_key_file
from ..module_utils._policy import enforcers, installing, reading, rendering
from ..module_utils._policy.check import Refusal
from ..module_utils._policy.model import ENFORCERS, Policy


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "policy": {"type": "dict"},
            "policy_path": {"type": "path"},
            "enforcer": {
                "type": "str", "required": True,
                "choices": list(ENFORCERS),
            },
            "enforcer_version": {"type": "str", "required": True},
            "dest": {"type": "path", "required": True},
            "floor": {"type": "int", "default": 1},
            "announce": {"type": "int", "default": 30},
            "probes": {
                "type": "dict",
                "default": {},
                "options": {
                    "admit": {"type": "list", "elements": "str", "default": []},
                    "deny": {"type": "list", "elements": "str", "default": []},
                },
            },
        },
        required_one_of=[("policy", "policy_path")],
        mutually_exclusive=[("policy", "policy_path")],
        supports_check_mode=True,
    )
    params = module.params
    result: dict[str, t.Any] = {
        "changed": False, "policy_version": None, "policy_hash": None, "effective_hash": None, "files": [],
        "removed": [], "not_after": None, "rendered": {}, "refused": [],
    }
    needs_yaml = params["policy_path"] is not None or params["enforcer"] != "containers"
    deps.require_libraries(module, "cryptography", *(["yaml"] if needs_yaml else []), empty=result)
    try:
        _require_absolute(params["dest"])
        policy = reading.read_option(
            params["policy"], params["policy_path"], now=datetime.datetime.now(datetime.timezone.utc),
            read_file=read_key_file,
        )
        result.update(policy_version=policy.version, policy_hash=policy.hash, not_after=policy.not_after)
        _announce_end(module, policy)
        rendered = enforcers.render(policy, enforcer=params["enforcer"], version=params["enforcer_version"])
        refused = (*rendered.refused, *enforcers.refused_here(enforcer=params["enforcer"], dest=params["dest"]))
        if refused:
            _refuse(module, refused, result)
        enforcers.require_room(policy, enforcer=params["enforcer"], dest=params["dest"])
        _probe(params, rendered)
        before = _texts(rendered, params["dest"]) if module._diff else {}
        done = installing.install(
            rendered.files, policy, enforcer=params["enforcer"], dest=params["dest"], dry_run=module.check_mode,
            floor=params["floor"],
        )
    except reading.PolicyError as exc:
        results.finish(module, exc.as_reasons(), result)
    except HallmarkError as exc:
        results.fail_with(module, exc, result)
    result.update(
        changed=done.changed, effective_hash=done.effective_hash, rendered=rendered.files, removed=list(done.removed),
        files=[file.as_dict() for file in done.files],
    )
    if module._diff:
        result["diff"] = [
            {"before_header": name, "after_header": name, "before": before.get(name, ""), "after": text}
            for name, text in rendered.files.items() if before.get(name) != text
        ]
    results.finish(module, [], result)


def _require_absolute(dest: str) -> None:
    if not os.path.isabs(dest):
        raise FormatError(
            code="input_invalid", object="dest", attempt="install the policy", cause=f"{dest!r} is no absolute path",
            advice="Name the folder from / on.",
        )


def _announce_end(module: AnsibleModule, policy: Policy) -> None:
    if policy.not_after is None:
        return
    left = datetime.datetime.fromisoformat(policy.not_after.replace("Z", "+00:00")) - datetime.datetime.now(
        datetime.timezone.utc
    )
    if left.days < module.params["announce"]:
        module.warn(
            f"The trust policy ends at {policy.not_after}, in {left.days} days, and cannot be installed afterwards: give "
            "it a later not_after, and a higher version."
        )


def _probe(params: dict[str, t.Any], rendered: rendering.Rendering) -> None:
    admit, deny = (params["probes"].get(name) or [] for name in ("admit", "deny"))
    if not admit and not deny:
        return
    if params["enforcer"] != "containers":
        raise FormatError(
            code="input_invalid", object="probes", attempt="try the policy",
            cause="only that of enforcer containers can be tried on a host", advice="Leave probes out.",
        )
    from ..module_utils._policy import probing

    probing.probe(rendered.files, dest=params["dest"], admit=admit, deny=deny)


def _refuse(module: AnsibleModule, refused: tuple[Refusal, ...], result: dict[str, t.Any]) -> t.NoReturn:
    enforcer = f"{module.params['enforcer']} {module.params['enforcer_version']}"
    reasons = [
        Reason(
            "policy_refused",
            f"{one.policy_path or 'policy'}: could not express it for {enforcer}: {one.message}. {one.instead}",
            one.policy_path or "policy",
        )
        for one in refused
    ]
    result["refused"] = [one.as_dict() for one in refused]
    results.finish(module, reasons, result)


def _texts(rendered: rendering.Rendering, dest: str) -> dict[str, str]:
    """Return the files that are there, for the diff."""
    return {
        name: data.decode("utf-8", "replace")
        for name in rendered.files if (data := installing.read(dest, name)) is not None
    }


if __name__ == "__main__":
    main()
