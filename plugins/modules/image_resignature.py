#!/usr/bin/python
# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: image_resignature
short_description: Sign the images that run with a key that stays, before another key goes
version_added: "1.0.0"
description:
  - Takes the live set, the images that run anywhere or may be deployed by rule, and says of each whether it stays verifiable
    when only O(staying_key_ids) are trusted. What would not is signed by O(signers), if it is proven.
  - An image is covered if it has, in each of O(formats), a signature that verifies by a key that stays. With O(recursive),
    so must each image of an index.
  - An image is proven if it verifies, at this moment, by one of O(trust) that is not denied, or by a key that stays. What is
    not proven is left as it is, and told; nothing gets a signature here that nobody had signed before. The signature of an
    index is no proof for its images.
  - A signature that was written is believed in when it is there after O(settle_seconds) and verifies by the key that signed.
  - Nothing is kept of how far a task came. One that was killed is begun again, and one that has nothing to do changes nothing.
author:
  - The hallmark.signing authors (@hallmark-signing)
requirements:
  - PyNaCl >= 1.5 (only for keys in cosign's format, and for Ed25519ph)
  - jmespath >= 1 (only for O(query))
extends_documentation_fragment:
  - hallmark.signing._attributes
  - hallmark.signing._attributes.registry
  - hallmark.signing._registry
  - hallmark.signing._registry.settle
  - hallmark.signing._trust
attributes:
  check_mode:
    support: full
    details: Registries are read, nothing is written, O(cache_path) neither. RV(resigned) says what would be signed.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  images:
    description:
      - The live set. Each image has a digest, C(HOST/REPO[:TAG]@DIGEST), as C(RepoDigests) of engines and C(imageID) of
        Kubernetes have it. Repetitions do not count. They are worked on in their order, what matters most first.
      - What is no image, or has no digest, fails the task before anything is done; all of it is told at once.
      - Exactly one of O(images), O(images_path) and O(source) is needed.
    type: list
    elements: str
  images_path:
    description:
      - A file on the managed host with the same, a JSON list or one reference a line. Empty lines, and those that begin with
        C(#), do not count.
      - With O(query), any JSON document.
    type: path
  source:
    description: Any data, such as the output of C(podman image inspect) after P(ansible.builtin.from_json#filter).
    type: raw
  query:
    description:
      - A JMESPath expression that picks the images out of O(source), or out of the document in O(images_path).
      - It must give texts. Nothing at all is an error, as an expression with a mistake gives nothing, too.
    type: str
  releases:
    description: Images that were released, oldest first, in the form of O(images). The last ones belong to the live set, too.
    type: list
    elements: str
    default: []
  keep:
    description: How many former releases of each repository belong to the live set, beside its last one in O(releases).
    type: int
    default: 1
  only:
    description:
      - Repositories that we sign, C(HOST/REPO), C(HOST/NS/**), C(HOST/NS/PREFIX*) or C(*.DOMAIN/**). Images in others do not
        belong to the live set, and their repositories are told.
    type: list
    elements: str
    default: []
  out_of_support:
    description:
      - Images that somebody leaves behind. They are neither looked at nor signed, until the exception ends; then they count
        again, with a warning.
    type: list
    elements: dict
    default: []
    suboptions:
      image:
        description: The image, as in O(images).
        type: str
        required: true
      owner:
        description: Who answers for it.
        type: str
        required: true
      expires:
        description: When the exception ends, RFC 3339.
        type: str
        required: true
  shard:
    description: The part of the live set that this task is about, for hosts that share the work. No image is in two parts.
    type: dict
    suboptions:
      index:
        description: Which part, from 0.
        type: int
        required: true
      count:
        description: How many parts there are.
        type: int
        required: true
  staying_key_ids:
    description:
      - The keys that stay. A signature by any of them covers. Each must be in O(trust) or be the one of O(signers), and none
        in O(denied_key_ids).
    type: list
    elements: str
    required: true
  denied_key_ids:
    description: Keys whose signatures neither cover nor prove anything, even if O(trust) names them.
    type: list
    elements: str
    default: []
  signers:
    description: The key to sign with, at most one; it must be one that stays. Without it, this is a plan only.
    type: list
    elements: dict
    default: []
    suboptions:
      private_key_path:
        description:
          - Private key file on the managed host; PKCS#8, SEC1, PKCS#1 or cosign's format. An exported copy whose time is
            over is refused, and one that is for one use is taken away.
        type: path
      passphrase:
        description: Passphrase of the key file.
        type: str
      passphrase_path:
        description: File on the managed host that holds the passphrase.
        type: path
      uri:
        description: A key in an HSM or with a service that signs, as for M(hallmark.signing.image_signature).
        type: str
      pin_path:
        description: File on the managed host that holds the PIN of an HSM. It is tried once.
        type: path
      command:
        description:
          - A program and its arguments, which is run for each signature. It reads the exact bytes on standard input, and writes
            the signature. Wants O(signers[].public_key_path). No shell is involved.
        type: list
        elements: str
      public_key_path:
        description: Public key of O(signers[].command); with O(signers[].uri), the one that the key must have.
        type: path
      key_id:
        description: The expected key id; any other key is an error, before anything is signed.
        type: str
  formats:
    description: Formats in each of which an image must be signed, as for M(hallmark.signing.image_signature).
    type: list
    elements: str
    choices: [sig, bundle]
    default: [sig, bundle]
  annotations:
    description:
      - Annotations that a signature must carry to cover or prove anything. What is signed anew carries them, and no others.
    type: dict
    default: {}
  recursive:
    description: Whether the images of an index must be signed too. BuildKit's attestation manifests are left alone.
    type: bool
    default: true
  docker_reference_check:
    description: What to do when a V(sig) signature was made for another name. Bundles carry no name.
    type: str
    default: repository
    choices:
      repository: >-
        It neither covers nor proves anything; podman and CRI-O refuse it. Nor does a bundle alone prove that a V(sig) signature
        may be made, which has a name.
      warn: It counts, with a warning; as with cosign.
      ignore: It counts.
  cache_path:
    description:
      - A file on the managed host in which is taken down what is covered, so that the next task need not ask for it. It counts
        only for the same O(staying_key_ids), O(denied_key_ids), O(formats), O(annotations), O(recursive) and
        O(docker_reference_check).
      - Whoever can write it decides what counts as covered. It is refused unless it, and its folder, can be written by root and
        the user of the task only. It is made with mode C(0600).
    type: path
  cache_max_age:
    description:
      - For how many seconds it counts, as a registry can lose signatures.
      - V(0) asks for everything anew, as should be done before a key goes, and takes the answers down.
    type: int
    default: 86400
  on_failure:
    description: What images that are not covered do to the task.
    type: str
    default: fail
    choices:
      fail: The task fails, after all images were worked on.
      report: The task goes well, and RV(uncovered) says what was found.
seealso:
  - module: hallmark.signing.image_signature
  - module: hallmark.signing.image_verify
"""

EXAMPLES = r"""
- name: Read what runs
  ansible.builtin.command: kubectl get pods --all-namespaces --output json
  register: pods
  changed_when: false

- name: Say what would be orphaned if only the new key were trusted
  hallmark.signing.image_resignature:
    source: "{{ pods.stdout | from_json }}"
    query: items[].status.[containerStatuses, initContainerStatuses, ephemeralContainerStatuses][][].imageID
    only: [registry.example.org/**]
    trust: &trust
      - public_key_path: /etc/hallmark-signing/release-1.pub
      - public_key_path: /etc/hallmark-signing/release-2.pub
    staying_key_ids: &staying [557e7bc25c2315e3e9344d34df49878948b7b3d7a7b1cb274d62b720a54029ae]
    on_failure: report
  register: plan

- name: Sign it with the new key, half of it on each of two hosts
  hallmark.signing.image_resignature:
    images_path: /var/lib/hallmark-signing/live-set.json
    trust: *trust
    staying_key_ids: *staying
    signers:
      - private_key_path: /etc/hallmark-signing/release-2.key
    shard: {index: "{{ ansible_play_hosts.index(inventory_hostname) }}", count: 2}
    cache_path: /var/lib/hallmark-signing/covered.json

- name: Ask the registry itself, before the old key goes
  hallmark.signing.image_resignature:
    images_path: /var/lib/hallmark-signing/live-set.json
    trust: *trust
    staying_key_ids: *staying
    cache_max_age: 0
    out_of_support:
      - image: registry.example.org/old/app@sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef
        owner: team-old
        expires: "2027-03-31T00:00:00Z"
"""

RETURN = r"""
count:
  description: How many images this task was about, of its shard if it has one.
  returned: always
  type: int
  sample: 3
live_set_hash:
  description:
    - SHA-256 over the references of the whole live set, sorted, each with a newline after it. It is the same for all shards.
    - Null if the live set could not be read.
  returned: always
  type: str
  sample: 0fa4ad6f7bd4a2c4e5a24d9f8a8b6e5b1fb7ac3c3a7d9e4d1d9de93af0e0a3b1
covered:
  description:
    - How many of them are covered now, or in check mode would be. With those in RV(out_of_support) and RV(uncovered), they
      make RV(count).
  returned: always
  type: int
  sample: 2
resigned:
  description: References of the images that were signed, and verified afterwards; in check mode, of those that would be signed.
  returned: always
  type: list
  elements: str
  sample:
    - registry.example.org/app@sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef
out_of_support:
  description: Images that need not be covered, with C(owner) and C(expires).
  returned: always
  type: list
  elements: dict
  sample: []
left_out:
  description: Repositories whose images do not belong to the live set because of O(only).
  returned: always
  type: list
  elements: str
  sample: [docker.io/library/nginx]
uncovered:
  description: One entry for each image that is not covered.
  returned: always
  type: list
  elements: dict
  contains:
    image:
      description: The reference.
      returned: always
      type: str
      sample: registry.example.org/app@sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef
    reasons:
      description:
        - Why it is not covered. With O(signers), why it is not proven, or what went wrong. At most ten; as code, message,
          object and signature, see C(docs/reason_codes.md).
      returned: always
      type: list
      elements: dict
      sample: []
  sample: []
seconds:
  description: How long the images were worked on. How long keys must overlap depends on it.
  returned: always
  type: float
  sample: 12.345
reasons:
  description: Why the task failed, or that images are not covered; each of those stands in RV(uncovered).
  returned: always
  type: list
  elements: dict
  sample: []
"""

import datetime
import time
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._ansible import args, authorities, deps, registries, results, signers
from ..module_utils._errors import HallmarkError, Reason, VerificationError
from ..module_utils._oci.images import Images
from ..module_utils._trust import coverage, live_set, resigning

if t.TYPE_CHECKING:
    from ..module_utils._trust.coverage_cache import CoverageCache
    from ..module_utils._trust.out_of_support import Exceptions


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "images": {"type": "list", "elements": "str"},
            "images_path": {"type": "path"},
            "source": {"type": "raw"},
            "query": {"type": "str"},
            "releases": {"type": "list", "elements": "str", "default": []},
            "keep": {"type": "int", "default": 1},
            "only": {"type": "list", "elements": "str", "default": []},
            "out_of_support": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {name: {"type": "str", "required": True} for name in ("image", "owner", "expires")},
            },
            "shard": {
                "type": "dict",
                "options": {name: {"type": "int", "required": True} for name in ("index", "count")},
            },
            "trust": authorities.spec(),
            "staying_key_ids": {"type": "list", "elements": "str", "required": True, "no_log": False},
            "denied_key_ids": {"type": "list", "elements": "str", "default": [], "no_log": False},
            "signers": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": signers.spec(),
                "mutually_exclusive": [("passphrase", "passphrase_path"), signers.KINDS],
                "required_one_of": [signers.KINDS],
                "required_by": {"command": ["public_key_path"], "pin_path": ["uri"]},
            },
            "formats": {
                "type": "list", "elements": "str", "choices": ["sig", "bundle"], "default": ["sig", "bundle"],
            },
            "annotations": {"type": "dict", "default": {}},
            "recursive": {"type": "bool", "default": True},
            "docker_reference_check": {
                "type": "str", "default": "repository", "choices": ["repository", "warn", "ignore"],
            },
            "cache_path": {"type": "path"},
            "cache_max_age": {"type": "int", "default": 86400, "no_log": False},
            "on_failure": {"type": "str", "default": "fail", "choices": ["fail", "report"]},
            **registries.settle_spec(),
            **registries.registry_spec(),
        },
        mutually_exclusive=[("images", "images_path", "source")],
        required_one_of=[("images", "images_path", "source")],
        required_by={"source": ["query"]},
        supports_check_mode=True,
    )
    result: dict[str, t.Any] = {
        "changed": False, "count": 0, "live_set_hash": None, "covered": 0, "resigned": [], "out_of_support": [],
        "left_out": [], "uncovered": [], "seconds": 0.0,
    }
    libraries = ("cryptography", "jmespath") if module.params["query"] is not None else ("cryptography",)
    deps.require_libraries(module, *libraries, empty=result)
    results.require_entries(
        module, result, trust=module.params["trust"], staying_key_ids=module.params["staying_key_ids"],
        formats=module.params["formats"],
    )
    try:
        _run(module, result)
    except live_set.LiveSetError as exc:
        results.finish(module, exc.as_reasons(), result)
    except HallmarkError as exc:
        results.fail_with(module, exc, result)


def _run(module: AnsibleModule, result: dict[str, t.Any]) -> None:
    params = module.params
    whole = live_set.gather(_lists(params), releases=params["releases"], keep=params["keep"], only=params["only"])
    images = live_set.shard(whole.images, **params["shard"]) if params["shard"] else whole.images
    exceptions = _exceptions(params["out_of_support"])
    if exceptions is not None:
        results.warn(module, exceptions.expired)
    excepted = {image: exceptions.valid[image] for image in images if image in exceptions.valid} if exceptions else {}
    result.update(
        count=len(images), live_set_hash=whole.hash, left_out=list(whole.left_out),
        out_of_support=[one.as_dict() for one in excepted.values()],
    )
    known = Images(registries.settings(params))
    plan = _plan(module)
    cache = _cache(params, plan.terms)
    warnings: list[Reason] = []
    begun = time.monotonic()
    try:
        todo = [image for image in images if image not in excepted]
        for done in resigning.resign(known, todo, plan, cache=cache):
            _take_down(done, result)
            warnings += done.warnings
    finally:
        result["seconds"] = round(time.monotonic() - begun, 3)
        results.warn(module, _summary(warnings))
        key_ids = [signer.public.key_id for signer in plan.wish.signers] if plan.wish else []
        lines = [f"{key_id} on {image}" for key_id in key_ids for image in result["resigned"]]
        result.update(results.diff(module, [], lines, "signatures"))
    reasons = [_not_covered(result)] if result["uncovered"] else []
    if params["on_failure"] == "report":
        module.exit_json(reasons=[reason.as_dict() for reason in reasons], **result)
    results.finish(module, reasons, result)


def _lists(params: dict[str, t.Any]) -> dict[str, t.Sequence[t.Any]]:
    """Return the lists of images by their names, those that are picked out of other data already."""
    if params["images"] is not None:
        if params["query"] is not None:
            raise _invalid("query", "it does not go with images", "Give source or images_path with it.")
        return {"images": params["images"]}
    path = params["images_path"]
    source = params["source"] if path is None else live_set.read_file(path)
    if params["query"] is not None:
        from ..module_utils._trust import selecting

        return {"query": selecting.select(params["query"], source)}
    if not isinstance(source, list):
        raise _invalid(path, "it is no list", "Write a list of images, or say with query where they stand.")
    return {path: source}


def _exceptions(entries: t.Sequence[t.Mapping[str, t.Any]]) -> Exceptions | None:
    if not entries:
        return None
    from ..module_utils._trust import out_of_support

    return out_of_support.read(entries, now=datetime.datetime.now(datetime.timezone.utc))


def _plan(module: AnsibleModule) -> resigning.Plan:
    params = module.params
    annotations = args.text_values(params["annotations"])
    denied = registries.key_ids(params["denied_key_ids"], option="denied_key_ids")
    signer, wish = None, None
    if len(params["signers"]) > 1:
        raise _invalid("signers", f"there are {len(params['signers'])}", "Give one, or none for a plan.")
    if params["signers"]:
        from ..module_utils._signing import sign

        signer = signers.load(params["signers"][0], scheme=None, dry_run=module.check_mode)
        wish = sign.Wish((signer,), annotations=annotations)
    registries.key_ids(params["staying_key_ids"], option="staying_key_ids")
    terms = coverage.terms(
        authorities.load(params["trust"]), params["staying_key_ids"], signer=signer.public if signer else None,
        formats=params["formats"], annotations=annotations, denied_key_ids=denied,
        docker_reference_check=params["docker_reference_check"], recursive=params["recursive"],
    )
    return resigning.Plan(terms, wish, dry_run=module.check_mode, workers=max(1, params["workers"]))


def _cache(params: dict[str, t.Any], terms: coverage.Terms) -> CoverageCache | None:
    if params["cache_path"] is None:
        return None
    from ..module_utils._trust import coverage_cache

    return coverage_cache.CoverageCache(params["cache_path"], terms.hash, max_age=params["cache_max_age"])


def _take_down(done: resigning.Done, result: dict[str, t.Any]) -> None:
    """Add what became of one image. Those that were covered are counted only: there are very many."""
    result["changed"] = result["changed"] or done.changed
    if not done.is_covered:
        result["uncovered"].append({
            "image": str(done.image), "reasons": [reason.as_dict() for reason in done.reasons],
        })
        return
    result["covered"] += 1
    if done.changed:
        result["resigned"].append(str(done.image))


def _summary(warnings: t.Sequence[Reason]) -> list[Reason]:
    """Return the first warning of each code, with the number of the others: there may be one for each image."""
    by_code: dict[str, list[Reason]] = {}
    for warning in warnings:
        by_code.setdefault(warning.code, []).append(warning)
    return [
        Reason(
            first.code, first.message + (f" The same holds {len(others)} times more." if others else ""), first.object,
        )
        for first, *others in by_code.values()
    ]


def _not_covered(result: t.Mapping[str, t.Any]) -> Reason:
    first, count = result["uncovered"][0], len(result["uncovered"])
    why = first["reasons"][0]["message"] if first["reasons"] else "nothing more is known"
    return Reason(
        "not_covered",
        f"{first['image']}: {count} of {result['count']} images are not covered by keys that stay, this one first: {why} "
        "See uncovered for the others; sign each of them by a key that stays, or take it out of service.",
        first["image"],
    )


def _invalid(where: str, cause: str, advice: str) -> VerificationError:
    return VerificationError(
        code="input_invalid", object=where, attempt="work on the images that run", cause=cause, advice=advice
    )


if __name__ == "__main__":
    main()
