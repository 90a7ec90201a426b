#!/usr/bin/python
# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: image_signature
short_description: Sign container images, or remove signatures
version_added: "1.0.0"
description:
  - Makes signatures by given keys present on images in registries and OCI layouts, readable by cosign 2 and 3, podman and
    CRI-O.
  - Idempotent. An image that has a signature by the same key with the same annotations gets no second one.
  - Each write is read back. Signatures of others are never touched, also when several processes and hosts sign the same
    image at the same time; see O(settle_seconds).
author:
  - The hallmark.signing authors (@hallmark-signing)
requirements:
  - PyNaCl >= 1.5 (only for keys in cosign's format)
extends_documentation_fragment:
  - hallmark.signing._attributes
  - hallmark.signing._attributes.registry
  - hallmark.signing._registry
  - hallmark.signing._registry.settle
attributes:
  check_mode:
    support: full
    details: Registries are read, nothing is written.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  images:
    description:
      - Image references, C(HOST/REPO[:TAG][@DIGEST]), C(oci:DIR:TAG) or C(oci:DIR@DIGEST). Each is resolved to its digest
        once, and the digest is signed.
      - They are worked on concurrently. The failure of one does not stop the others; the task fails at its end.
    type: list
    elements: str
    required: true
  state:
    description: Whether the signatures shall be there.
    type: str
    default: present
    choices:
      present: Each image has a signature by each of O(signers) in each of O(formats).
      absent: The signatures by O(key_ids), or all of them, are removed.
  signers:
    description: The keys to sign with. Required with O(state=present).
    type: list
    elements: dict
    suboptions:
      private_key_path:
        description: Private key file on the managed host; PKCS#8, SEC1, PKCS#1 or cosign's format, P-256 or RSA.
        type: path
        required: true
      passphrase:
        description: Passphrase of the key file.
        type: str
      passphrase_path:
        description: File on the managed host that holds the passphrase.
        type: path
      key_id:
        description: The expected key id; any other key is an error, before anything is signed.
        type: str
  key_ids:
    description:
      - Keys whose signatures are removed. Only with O(state=absent).
      - The old format names no key. Signatures made by this collection carry the key id as a hint; those of other tools
        are recognised with O(public_key_paths) only, and stay otherwise, with a warning.
    type: list
    elements: str
  public_key_paths:
    description: Public keys by which signatures without a key id are recognised. Only with O(state=absent).
    type: list
    elements: path
  all:
    description: Whether every signature is removed. Only with O(state=absent).
    type: bool
    default: false
  formats:
    description:
      - Formats to write or remove.
      - V(sig) is the tag C(sha256-HEX.sig) that cosign 1 to 3, podman and CRI-O read. V(bundle) is a Sigstore bundle as OCI
        referrer, which cosign 3 writes. Once an image has a bundle, cosign 3 no longer looks at its C(.sig).
    type: list
    elements: str
    choices: [sig, bundle]
    default: [sig, bundle]
  annotations:
    description: Annotations that are part of what is signed.
    type: dict
    default: {}
  recursive:
    description: Whether the images of an index are signed too. BuildKit's attestation manifests are left alone.
    type: bool
    default: true
  docker_reference:
    description:
      - Name that is signed with the digest in format V(sig), instead of C(HOST/REPO) of each image. An OCI layout has no
        name; without this option none is signed there.
      - podman and CRI-O compare it with the name an image is pulled by.
    type: str
seealso:
  - module: hallmark.signing.image_verify
"""

EXAMPLES = r"""
- name: Sign what was just built
  hallmark.signing.image_signature:
    images: ["{{ build.image }}"]
    signers:
      - private_key_path: /etc/hallmark-signing/release.key
        key_id: 557e7bc25c2315e3e9344d34df49878948b7b3d7a7b1cb274d62b720a54029ae
    annotations:
      commit: "{{ commit }}"

- name: Take away the signatures of a key that is no longer used
  hallmark.signing.image_signature:
    images: [registry.example.org/app:1.4]
    state: absent
    key_ids: [557e7bc25c2315e3e9344d34df49878948b7b3d7a7b1cb274d62b720a54029ae]
"""

RETURN = r"""
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
      description: The reference that was signed, C(HOST/REPO@DIGEST); null if it could not be resolved.
      type: str
      returned: always
      sample: registry.example.org/app@sha256:3dc87e
    digest:
      description: The digest that was signed; null if it could not be resolved.
      type: str
      returned: always
      sample: sha256:3dc87e
    changed:
      description: Whether signatures were added or removed.
      type: bool
      returned: always
      sample: true
    failed:
      description: Whether this image failed.
      type: bool
      returned: always
      sample: false
    reasons:
      description: Why it failed.
      type: list
      elements: dict
      returned: always
      sample: []
    warnings:
      description: What to be warned of, such as C(bundle_hides_sig).
      type: list
      elements: dict
      returned: always
      sample: []
    signatures:
      description:
        - The signatures that are there now; with O(state=absent), those that were removed.
        - C(digest) is that of the payload (format V(sig)) or of the referrer (format V(bundle)); null for a bundle that
          check mode did not make. C(subject) is the digest that is signed, which may be one of the images in an index.
      type: list
      elements: dict
      returned: always
      sample:
        - format: sig
          digest: sha256:877b98
          subject: sha256:3dc87e
          key_id: 557e7b
          algorithm: ecdsa-p256
          annotations: {}
          created: true
reasons:
  description: All reasons of all images; empty when nothing failed.
  returned: always
  type: list
  elements: dict
  sample: []
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._ansible import args, deps, registries, results, secrets
from ..module_utils._errors import HallmarkError, VerificationError
from ..module_utils._keys import algorithms, pem
from ..module_utils._keys.signers import file as file_signer
from ..module_utils._keys.signers.file import read_key_file
from ..module_utils._oci import reference as references
from ..module_utils._oci.concurrency import map_ordered
from ..module_utils._oci.images import Images
from ..module_utils._signing import sign

Work = t.Callable[[Images, str], sign.Outcome]


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "images": {"type": "list", "elements": "str", "required": True},
            "state": {"type": "str", "default": "present", "choices": ["present", "absent"]},
            "signers": {
                "type": "list",
                "elements": "dict",
                "options": {
                    "private_key_path": {"type": "path", "required": True, "no_log": False},
                    **args.passphrase_spec(),
                    "key_id": {"type": "str", "no_log": False},
                },
                "mutually_exclusive": [("passphrase", "passphrase_path")],
            },
            "key_ids": {"type": "list", "elements": "str", "no_log": False},
            "public_key_paths": {"type": "list", "elements": "path", "no_log": False},
            "all": {"type": "bool", "default": False},
            "formats": {
                "type": "list", "elements": "str", "choices": ["sig", "bundle"], "default": ["sig", "bundle"],
            },
            "annotations": {"type": "dict", "default": {}},
            "recursive": {"type": "bool", "default": True},
            "docker_reference": {"type": "str"},
            **registries.settle_spec(),
            **registries.registry_spec(),
        },
        required_if=[("state", "present", ["signers"]), ("state", "absent", ["key_ids", "all"], True)],
        supports_check_mode=True,
    )
    params = module.params
    empty: dict[str, t.Any] = {"changed": False, "results": []}
    deps.require_libraries(module, "cryptography", "urllib3", empty=empty)
    results.require_entries(module, empty, images=params["images"], formats=params["formats"])
    try:
        _require_fitting_options(params)
        work = _signing(module, empty) if params["state"] == "present" else _removing(module, empty)
        known = registries.images(params)
        outcomes = map_ordered(lambda image: work(known, image), params["images"], workers=params["workers"])
        # Only now: all images share the waiting.
        outcomes = map_ordered(lambda one: sign.settle(known, one), outcomes, workers=max(1, params["workers"]))
    except HallmarkError as exc:
        failed = [sign.Outcome(image, reasons=(exc.as_reason(),)).as_dict() for image in params["images"]]
        results.fail_with(module, exc, {**empty, "results": failed})
    results.warn(module, [warning for outcome in outcomes for warning in outcome.warnings])
    results.finish(module, [reason for outcome in outcomes for reason in outcome.reasons], {
        "changed": any(outcome.changed for outcome in outcomes),
        "results": [outcome.as_dict() for outcome in outcomes],
        **results.diff(module, *_before_and_after(outcomes, params["state"]), "signatures"),
    })


def _require_fitting_options(params: dict[str, t.Any]) -> None:
    """Refuse what contradicts itself: the argument spec cannot, because C(all) has a default."""
    present = params["state"] == "present"
    wrong = [name for name in ("key_ids", "public_key_paths", "all") if params[name]] if present else [
        name for name in ("signers",) if params[name]
    ]
    if not present and params["all"] and params["key_ids"]:
        wrong = ["key_ids"]
    if wrong:
        raise VerificationError(
            code="input_invalid", object=wrong[0], attempt="use it",
            cause=f"it does not go with state={params['state']}" + ("" if present or wrong == ["signers"] else " and all"),
            advice="Leave it out, or change the other.",
        )


def _signing(module: AnsibleModule, empty: dict[str, t.Any]) -> Work:
    params = module.params
    results.require_entries(module, empty, signers=params["signers"])
    if params["docker_reference"] is not None:
        references.parse(params["docker_reference"])
    wish = sign.Wish(
        signers=tuple(
            file_signer.load(
                signer["private_key_path"], passphrase=secrets.passphrase(signer), key_id=signer["key_id"]
            )
            for signer in params["signers"]
        ),
        formats=tuple(params["formats"]),
        annotations=_annotations(params["annotations"]),
        recursive=params["recursive"],
        docker_reference=params["docker_reference"],
        dry_run=module.check_mode,
    )
    return lambda known, image: sign.sign_image(known, image, wish)


def _removing(module: AnsibleModule, empty: dict[str, t.Any]) -> Work:
    from ..module_utils._signing import remove

    params = module.params
    if not params["all"]:
        results.require_entries(module, empty, key_ids=params["key_ids"] or [])
    recognised = [pem.read_public_key(read_key_file(path), where=path) for path in params["public_key_paths"] or []]
    for public in recognised:
        algorithms.require_signing(public.algorithm, where="public_key_paths")
    removal = remove.Removal(
        key_ids=registries.key_ids(params["key_ids"] or [], option="key_ids"),
        everything=params["all"],
        known_keys=tuple(recognised),
        formats=tuple(params["formats"]),
        recursive=params["recursive"],
        dry_run=module.check_mode,
    )
    return lambda known, image: remove.remove_signatures(known, image, removal)


def _annotations(given: dict[str, t.Any]) -> dict[str, str]:
    # YAML makes numbers and booleans of values; cosign's annotations are text.
    return {str(name): str(value) for name, value in given.items()}


def _before_and_after(outcomes: t.Sequence[sign.Outcome], state: str) -> tuple[dict[str, t.Any], dict[str, t.Any]]:
    def lines(outcome: sign.Outcome, *, created: bool) -> list[str]:
        return [
            f"{signature.format} {signature.key_id} on {signature.subject}"
            for signature in outcome.signatures if created or not signature.created
        ]

    first = {outcome.image: lines(outcome, created=False) for outcome in outcomes}
    if state == "absent":
        return first, {outcome.image: [] for outcome in outcomes}
    return first, {outcome.image: lines(outcome, created=True) for outcome in outcomes}


if __name__ == "__main__":
    main()
