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
  - PyNaCl >= 1.5 (only for keys in cosign's format, and for Ed25519ph)
  - rfc3161-client >= 1.0.9 (only for timestamps)
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
    description: The keys to sign with, each of exactly one kind. Required with O(state=present).
    type: list
    elements: dict
    suboptions:
      private_key_path:
        description:
          - Private key file on the managed host; PKCS#8, SEC1, PKCS#1 or cosign's format. An exported copy whose time is
            over is refused, and one that is for one use is taken away.
          - Every reader takes signatures by P-256 and RSA keys. For others a warning says who does not.
        type: path
      passphrase:
        description: Passphrase of the key file.
        type: str
      passphrase_path:
        description: File on the managed host that holds the passphrase.
        type: path
      uri:
        description:
          - A key that stays where it is, in an HSM (C(hsm:), C(pkcs11:)) or with a service that signs (C(awskms:), C(gcpkms:),
            C(azurekms:), C(hv:), and cosign's spellings of them). The login, or the session, serves all images of the task.
          - What each wants, and with which of them this was tested, is told in the guide on HSMs and KMSs.
        type: str
        version_added: "1.0.0"
      pin_path:
        description: File on the managed host that holds the PIN of an HSM. It is tried once.
        type: path
        version_added: "1.0.0"
      command:
        description:
          - A program and its arguments, which is run for each signature. It reads the exact bytes on standard input, and writes
            the signature. Wants O(signers[].public_key_path). No shell is involved.
        type: list
        elements: str
        version_added: "1.0.0"
      public_key_path:
        description: Public key of O(signers[].command); with O(signers[].uri), the one that the key must have.
        type: path
        version_added: "1.0.0"
      signatures:
        description:
          - What M(hallmark.signing.payload_signature) returned on the host with the key, over what
            M(hallmark.signing.image_payload) prepared here with the same images and options. Each is verified first.
        type: list
        elements: dict
        version_added: "1.0.0"
        suboptions:
          sha256:
            description: SHA-256 of what was signed.
            type: str
            required: true
          signature:
            description: The signature, in base64. Null only in check mode.
            type: str
          public_key:
            description: The public key, PEM.
            type: str
            required: true
          digest:
            description: The digest of the image. Not used.
            type: str
          format:
            description: The format of the signature. Not used.
            type: str
          key_id:
            description: Key id of the key. Not used.
            type: str
      key_id:
        description: The expected key id; any other key is an error, before anything is signed.
        type: str
      external:
        description:
          - Signatures that were made elsewhere, all by one key, over files that M(hallmark.signing.image_payload) wrote with the
            same images and options. Each is verified first, and nothing is attached if one is wrong or missing.
        type: list
        elements: dict
        suboptions:
          payload_path:
            description: The file that was signed.
            type: path
            required: true
          signature_path:
            description:
              - Its signature. As openssl writes it, or raw C(r) and C(s) as HSMs do, or either of them in base64.
            type: path
            required: true
          public_key_path:
            description: The public key, PEM. Not needed with O(signers[].certificate_path).
            type: path
      certificate_path:
        description:
          - Certificate of the key for code signing, PEM. It must be of this key and valid now. It is attached with
            O(attach_certificate) only.
        type: path
      chain_path:
        description: The certificates above it in their order, PEM.
        type: path
  attach_certificate:
    description:
      - Whether the certificates of the signers are attached, for those who verify by a private code-signing PKI.
      - Verifiers who trust the bare key then refuse the bundle, and cosign refuses the C(.sig) once the certificate expires
        unless the signature has a log entry or a timestamp. Bundles have room for the certificate, not for its chain.
    type: bool
    default: false
  signature_algorithm:
    description:
      - Algorithm to sign with, in place of the one that most readers try for each key. Others than those read few; a warning
        names who does not.
      - One of C(ecdsa-sha256), C(ecdsa-sha384), C(ecdsa-sha512), C(rsa-pkcs1v15-sha256), C(rsa-pkcs1v15-sha384),
        C(rsa-pkcs1v15-sha512), C(rsa-pss-sha256), C(rsa-pss-sha384), C(rsa-pss-sha512), C(ed25519), C(ed25519ph).
    type: str
  transparency:
    description:
      - A transparency log (Rekor 1) that each new signature is entered into. Its answer is verified and attached. Without it
        nothing leaves for any log, public or not.
      - TLS files and time limits for its host are those of O(registries) and O(timeout).
    type: dict
    suboptions:
      rekor_url:
        description: Address of the log.
        type: str
        required: true
      rekor_public_key_path:
        description: Public key of the log, PEM.
        type: path
        required: true
  timestamp_authority:
    description: An RFC 3161 timestamp authority that stamps each new signature. Its answer is verified and attached.
    type: dict
    suboptions:
      url:
        description: Address that takes timestamp queries.
        type: str
        required: true
      certificate_path:
        description: Its certificates, PEM; the root last.
        type: path
        required: true
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
  - module: hallmark.signing.image_payload
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

- name: Sign with a key in an HSM
  hallmark.signing.image_signature:
    images: ["{{ build.image }}"]
    signers:
      - uri: pkcs11:token=release;object=signing
        pin_path: /etc/hallmark-signing/release.pin

- name: Attach what the host with the key signed
  hallmark.signing.image_signature:
    images: ["{{ build.image }}"]
    signers:
      - signatures: "{{ signed.signatures }}"

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

from ..module_utils._ansible import args, deps, registries, results, signers
from ..module_utils._errors import HallmarkError, VerificationError
from ..module_utils._keys import pem
from ..module_utils._keys.files import read_key_file
from ..module_utils._keys.signers.protocol import Signer
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
                    **signers.spec(),
                    "signatures": {
                        "type": "list",
                        "elements": "dict",
                        "options": {
                            **{name: {"type": "str", "no_log": False} for name in ("digest", "format", "key_id", "signature")},
                            **{name: {"type": "str", "required": True, "no_log": False} for name in ("sha256", "public_key")},
                        },
                    },
                    "external": {
                        "type": "list",
                        "elements": "dict",
                        "options": {
                            "payload_path": {"type": "path", "required": True},
                            "signature_path": {"type": "path", "required": True},
                            "public_key_path": {"type": "path", "no_log": False},
                        },
                    },
                    "certificate_path": {"type": "path"},
                    "chain_path": {"type": "path"},
                },
                "mutually_exclusive": [("passphrase", "passphrase_path"), (*signers.KINDS, "external", "signatures")],
                "required_one_of": [(*signers.KINDS, "external", "signatures")],
                "required_by": {"chain_path": ["certificate_path"], "command": ["public_key_path"], "pin_path": ["uri"]},
            },
            "attach_certificate": {"type": "bool", "default": False},
            "signature_algorithm": {"type": "str"},
            "transparency": {
                "type": "dict",
                "options": {
                    "rekor_url": {"type": "str", "required": True},
                    "rekor_public_key_path": {"type": "path", "required": True, "no_log": False},
                },
            },
            "timestamp_authority": {
                "type": "dict",
                "options": {
                    "url": {"type": "str", "required": True},
                    "certificate_path": {"type": "path", "required": True},
                },
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
    deps.require_libraries(module, "cryptography", empty=empty)
    results.require_entries(module, empty, images=params["images"], formats=params["formats"])
    try:
        _require_fitting_options(params)
        known = Images(registries.settings(params))
        work = _signing(module, known, empty) if params["state"] == "present" else _removing(module, empty)
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
    only_absent = ("key_ids", "public_key_paths", "all")
    only_present = ("signers", "attach_certificate", "signature_algorithm", "transparency", "timestamp_authority")
    wrong = [name for name in (only_absent if present else only_present) if params[name]]
    if not present and params["all"] and params["key_ids"]:
        wrong = ["key_ids"]
    if wrong:
        raise VerificationError(
            code="input_invalid", object=wrong[0], attempt="use it",
            cause=f"it does not go with state={params['state']}" + ("" if present or wrong == ["signers"] else " and all"),
            advice="Leave it out, or change the other.",
        )


def _signing(module: AnsibleModule, known: Images, empty: dict[str, t.Any]) -> Work:
    params = module.params
    results.require_entries(module, empty, signers=params["signers"])
    if params["docker_reference"] is not None:
        references.parse(params["docker_reference"])
    loaded = tuple(_signer(signer, params, dry_run=module.check_mode) for signer in params["signers"])
    wish = sign.Wish(
        signers=loaded,
        formats=tuple(params["formats"]),
        annotations=args.text_values(params["annotations"]),
        recursive=params["recursive"],
        docker_reference=params["docker_reference"],
        dry_run=module.check_mode,
        signature_algorithm=params["signature_algorithm"],
        **_accompaniment(params, loaded, known),
    )
    return lambda known, image: sign.sign_image(known, image, wish)


def _signer(signer: dict[str, t.Any], params: dict[str, t.Any], *, dry_run: bool) -> Signer:
    scheme = params["signature_algorithm"]
    if signer["signatures"] is None and signer["external"] is None:
        return signers.load(signer, scheme=scheme, dry_run=dry_run)
    from ..module_utils._ansible import made_elsewhere

    return made_elsewhere.load(signer, scheme=scheme, dry_run=dry_run)


def _accompaniment(params: dict[str, t.Any], loaded: t.Sequence[Signer], known: Images) -> dict[str, t.Any]:
    """Return what of a wish is about certificates, logs and timestamps."""
    given = [signer for signer in params["signers"] if signer["certificate_path"]]
    if not (given or params["attach_certificate"] or params["transparency"] or params["timestamp_authority"]):
        return {}
    from ..module_utils._ansible import evidence

    return {
        "certificates": evidence.certificates(
            params["signers"], [signer.public for signer in loaded], attach=params["attach_certificate"]
        ),
        "notary": evidence.notary(params, known.settings),
    }


def _removing(module: AnsibleModule, empty: dict[str, t.Any]) -> Work:
    from ..module_utils._signing import remove

    params = module.params
    if not params["all"]:
        results.require_entries(module, empty, key_ids=params["key_ids"] or [])
    recognised = [pem.read_public_key(read_key_file(path), where=path) for path in params["public_key_paths"] or []]
    removal = remove.Removal(
        key_ids=registries.key_ids(params["key_ids"] or [], option="key_ids"),
        everything=params["all"],
        known_keys=tuple(recognised),
        formats=tuple(params["formats"]),
        recursive=params["recursive"],
        dry_run=module.check_mode,
    )
    return lambda known, image: remove.remove_signatures(known, image, removal)


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
