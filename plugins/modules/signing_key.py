#!/usr/bin/python
# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: signing_key
short_description: Make, import, convert or remove a signing key
version_added: "1.0.0"
description:
  - Makes a private key file present, generated or imported from another file, and keeps its owner, group and mode.
  - An existing key is never replaced. Asking for another one is an error.
  - Reads PKCS#8 (plain and encrypted), SEC1, PKCS#1 and cosign's encrypted format, and writes PKCS#8 or cosign's.
author:
  - The hallmark.signing authors (@hallmark-signing)
extends_documentation_fragment:
  - hallmark.signing._attributes
  - hallmark.signing._private_file
  - hallmark.signing._private_file.passphrase
  - hallmark.signing._private_file.source_passphrase
attributes:
  check_mode:
    support: full
    details: The key id of a key that is yet to be generated is not known; RV(key_id) is then null, with a warning.
  diff_mode:
    support: full
    details: The diff shows public facts only.
  idempotent:
    support: full
options:
  path:
    description: The private key file.
    type: path
    required: true
  state:
    description: Whether the key file shall be there. V(absent) requires O(key_id).
    type: str
    default: present
    choices:
      present: The key is generated, or imported from O(source_path), unless it is there.
      absent: The key with O(key_id) is removed. Another key at O(path) is an error.
  algorithm:
    description:
      - Algorithm of a new key. An existing key of another algorithm is an error. Not used with O(source_path).
      - Every reader takes signatures by P-256 and RSA keys. Of the others, README tells who does not.
    type: str
    default: ecdsa-p256
    choices: [ecdsa-p256, ecdsa-p384, ecdsa-p521, rsa-2048, rsa-3072, rsa-4096, ed25519]
  format:
    description: Format of the file. An existing key in another format is an error.
    type: str
    default: pem
    choices:
      pem: PKCS#8, encrypted when a passphrase is given.
      cosign: The encrypted format of C(cosign generate-key-pair), which always wants a passphrase.
  source_path:
    description: A private key file on the managed host that is imported, and converted if it has another format.
    type: path
  key_id:
    description: The expected key id; any other key is an error. Required with O(state=absent).
    type: str
  public_key_path:
    description: File to which the public key is written as PEM, with mode C(0644). A file of another key is never overwritten.
    type: path
  csr_path:
    description:
      - File to which a certificate request (PKCS#10) for a code-signing authority is written as PEM, with mode C(0644).
        Needs O(csr_subject), unless O(state=absent).
      - It is signed by the key and asks for the key usage C(digitalSignature), the extended key usage C(codeSigning),
        and O(csr_sans).
      - A request of the same key that asks for the same is kept, one that asks for something else is replaced. A file
        of another key is never overwritten.
      - With O(state=absent), the request of the key is removed, whatever it asks for.
    type: path
  csr_subject:
    description: The distinguished name to ask for, as in RFC 4514, such as V(CN=release,O=Example).
    type: str
  csr_sans:
    description:
      - The alternative names to ask for. Each is V(dns:NAME), V(email:ADDRESS), V(uri:URI) or V(other:OID:TEXT).
      - The last is an C(otherName) with C(TEXT) as UTF8String, as keyless signing uses it for user names.
    type: list
    elements: str
seealso:
  - module: hallmark.signing.signing_key_info
  - module: hallmark.signing.key_export
"""

EXAMPLES = r"""
- name: Make a signing key of its own, with its public half beside it
  hallmark.signing.signing_key:
    path: /etc/hallmark-signing/release.key
    public_key_path: /etc/hallmark-signing/release.pub

- name: Make a signing key, and a request for a certificate of a code-signing authority
  hallmark.signing.signing_key:
    path: /etc/hallmark-signing/release.key
    csr_path: /etc/hallmark-signing/release.csr
    csr_subject: CN=release,O=Example
    csr_sans:
      - email:release@example.com
      - uri:https://ci.example.com/release

- name: Convert a key of a vault into cosign's format
  hallmark.signing.signing_key:
    path: /etc/hallmark-signing/cosign.key
    source_path: /root/import/release.pem
    format: cosign
    passphrase_path: /root/import/passphrase

- name: Remove exactly this key
  hallmark.signing.signing_key:
    path: /etc/hallmark-signing/old.key
    state: absent
    key_id: 557e7bc25c2315e3e9344d34df49878948b7b3d7a7b1cb274d62b720a54029ae
"""

RETURN = r"""
path:
  description: The key file.
  returned: always
  type: str
  sample: /etc/hallmark-signing/release.key
key_id:
  description: Lower-case hexadecimal SHA-256 of the DER SubjectPublicKeyInfo; null for a key that does not exist yet.
  returned: always
  type: str
  sample: 557e7bc25c2315e3e9344d34df49878948b7b3d7a7b1cb274d62b720a54029ae
public_key:
  description: The public key as PEM; null for a key that does not exist.
  returned: always
  type: str
  sample: "-----BEGIN PUBLIC KEY-----\n..."
csr:
  description:
    - The certificate request at O(csr_path) as PEM; null without O(csr_path), when it was removed, and in check mode
      when it would be written.
  returned: always
  type: str
  sample: "-----BEGIN CERTIFICATE REQUEST-----\n..."
algorithm:
  description: Algorithm of the key.
  returned: always
  type: str
  sample: ecdsa-p256
format:
  description: Format of the file.
  returned: always
  type: str
  sample: pem
encrypted:
  description: Whether a passphrase protects the file.
  returned: always
  type: bool
  sample: false
mode:
  description: Mode of the file, in octal digits.
  returned: always
  type: str
  sample: "0600"
reasons:
  description: Why the task failed; empty otherwise.
  returned: always
  type: list
  elements: dict
  sample: []
"""

import os
import typing as t
from contextlib import suppress

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._ansible import args, deps, results, secrets
from ..module_utils._custody import key_file, private_file, public_file
from ..module_utils._errors import HallmarkError, KeyFileError
from ..module_utils._keys import algorithms, making, pem, private_key
from ..module_utils._keys.files import read_key_file
from ..module_utils._keys.fingerprint import expect_key_id

if t.TYPE_CHECKING:
    from ..module_utils._keys import certificate_request


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "state": {"type": "str", "default": "present", "choices": ["present", "absent"]},
            "algorithm": {
                "type": "str", "default": "ecdsa-p256",
                "choices": ["ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "rsa-2048", "rsa-3072", "rsa-4096", "ed25519"],
            },
            "format": {"type": "str", "default": "pem", "choices": ["pem", "cosign"]},
            **args.passphrase_spec(),
            "source_path": {"type": "path"},
            **args.passphrase_spec("source_"),
            "key_id": {"type": "str", "no_log": False},
            "public_key_path": {"type": "path", "no_log": False},
            "csr_path": {"type": "path"},
            "csr_subject": {"type": "str"},
            "csr_sans": {"type": "list", "elements": "str"},
            **args.file_spec(),
        },
        mutually_exclusive=[
            ("passphrase", "passphrase_path"), ("source_passphrase", "source_passphrase_path"),
        ],
        required_if=[("state", "absent", ["key_id"])],
        required_by={"csr_subject": ["csr_path"], "csr_sans": ["csr_path"]},
        supports_check_mode=True,
    )
    empty = {
        "changed": False, "path": module.params["path"], "key_id": module.params["key_id"], "public_key": None,
        "csr": None, "algorithm": None, "format": module.params["format"], "encrypted": None, "mode": module.params["mode"],
    }
    deps.require_for_keys(module, empty=empty)
    try:
        result = _present(module) if module.params["state"] == "present" else _absent(module)
    except HallmarkError as exc:
        results.fail_with(module, exc, empty)
    results.finish(module, [], {**empty, **result})


def _present(module: AnsibleModule) -> dict[str, t.Any]:
    params = module.params
    request = _wanted_request(params)
    wanted = key_file.Wanted(
        format=params["format"],
        passphrase=secrets.passphrase(params),
        attributes=private_file.attributes(mode=params["mode"], owner=params["owner"], group=params["group"]),
        algorithm=None if params["source_path"] else params["algorithm"],
        key_id=_expected_key_id(params),
    )
    if not os.path.lexists(params["path"]):
        # What will be refused is refused before there is a key: a new one can have no public files yet.
        for option, is_of in _PUBLIC_FILES.items():
            if params[option]:
                public_file.ensure_public_file(params[option], None, dry_run=True, is_former=is_of(wanted.key_id))
    made = key_file.ensure_present(params["path"], wanted, lambda: _new_key(module), dry_run=module.check_mode)
    result = {
        "path": params["path"], "changed": made.changed, **made.facts(), "csr": None,
        "public_key": made.public.pem if made.public else None,
    }
    before, after = made.before(), {**made.facts(), **(request.content.facts() if request else {})}
    if made.public is None:
        module.warn(f"{params['path']}: the key does not exist yet; its key id is not known before it is made.")
        return {**result, **results.diff(module, before, after, params["path"])}
    try:
        if params["public_key_path"]:
            result["changed"] |= public_file.ensure_public_file(
                params["public_key_path"], made.public.pem.encode("ascii"), dry_run=module.check_mode,
                is_former=_is_public_key_of(made.public.key_id),
            )
        if request is not None:
            former = _read_request(params["csr_path"])
            before.update(former.content.facts() if former else {})
            result["csr"], changed = _ensure_request(module, request, former, made.public)
            result["changed"] |= changed
    except HallmarkError as exc:
        # The key itself is there by now, and the result must say so.
        results.fail_with(module, exc, result)
    return {**result, **results.diff(module, before, after, params["path"])}


def _wanted_request(params: dict[str, t.Any]) -> certificate_request.Wanted | None:
    """Return what shall be asked for; what cannot be is refused before anything is written."""
    if params["csr_path"] is None:
        return None
    if params["csr_path"] in (params["path"], params["public_key_path"]):
        raise _invalid("csr_path", "it is also the path of another file", "Give it a file of its own.")
    if not params["csr_subject"]:
        raise _invalid("csr_subject", "a certificate request has one", "Write it as CN=release,O=Example.")
    from ..module_utils._keys import certificate_request

    return certificate_request.wanted(params["csr_subject"], params["csr_sans"] or [])


def _ensure_request(
    module: AnsibleModule, wanted: certificate_request.Wanted, former: certificate_request.Request | None,
    own: pem.PublicKey,
) -> tuple[str | None, bool]:
    """Write the request unless the former will do; return its PEM, if it is there, and whether anything changes."""
    from ..module_utils._keys import certificate_request

    params = module.params
    if former is not None and former.satisfies(wanted, own.key_id):
        data, text = former.data, former.pem
    elif module.check_mode:
        data, text = None, None
    else:
        signer = private_key.read_private_key(
            read_key_file(params["path"]), passphrase=secrets.passphrase(params), where=params["path"]
        )
        expect_key_id(signer.public.key_id, own.key_id, where=params["path"])
        data = certificate_request.create(signer.key, wanted)
        text = data.decode("ascii")
    return text, public_file.ensure_public_file(
        params["csr_path"], data, dry_run=module.check_mode, is_former=_is_request_of(own.key_id)
    )


def _invalid(option: str, cause: str, advice: str) -> KeyFileError:
    return KeyFileError(
        code="input_invalid", object=option, attempt="write a certificate request", cause=cause, advice=advice
    )


def _read_request(path: str) -> certificate_request.Request | None:
    from ..module_utils._keys import certificate_request

    data = public_file.read_public_file(path)
    with suppress(KeyFileError):
        return None if data is None else certificate_request.read(data, where=path)
    return None


def _expected_key_id(params: dict[str, t.Any]) -> str | None:
    """Return the key id that must be there: as asked for, or that of the key to import."""
    gone = params["source_path"] and os.path.exists(params["path"]) and not os.path.exists(params["source_path"])
    if params["source_path"] is None or gone:
        # A source that was taken away after the import is not missed.
        return t.cast("str | None", params["key_id"])
    source = _read_source(params)
    expect_key_id(source.public.key_id, params["key_id"], where=params["source_path"])
    return source.public.key_id


def _read_source(params: dict[str, t.Any]) -> private_key.PrivateKey:
    return private_key.read_private_key(
        read_key_file(params["source_path"]), passphrase=secrets.passphrase(params, "source_"),
        where=params["source_path"],
    )


def _new_key(module: AnsibleModule) -> algorithms.AnyPrivateKey | None:
    if module.params["source_path"]:
        return _read_source(module.params).key
    return None if module.check_mode else making.generate(algorithms.by_name(module.params["algorithm"]))


def _absent(module: AnsibleModule) -> dict[str, t.Any]:
    params = module.params
    changed = key_file.ensure_absent(
        params["path"], key_id=params["key_id"], passphrase=secrets.passphrase(params), dry_run=module.check_mode
    )
    for option, is_of in _PUBLIC_FILES.items():
        if params[option]:
            changed |= public_file.remove_public_file(
                params[option], dry_run=module.check_mode, is_ours=is_of(params["key_id"])
            )
    before = {"key_id": params["key_id"]} if changed else {}
    return {"changed": changed, **results.diff(module, before, {}, params["path"])}


def _is_public_key_of(key_id: str | None) -> t.Callable[[bytes], bool]:
    def is_of(data: bytes) -> bool:
        with suppress(KeyFileError):
            return pem.read_public_key(data, where="public key").key_id == key_id
        return False

    return is_of


def _is_request_of(key_id: str | None) -> t.Callable[[bytes], bool]:
    from ..module_utils._keys import certificate_request

    def is_of(data: bytes) -> bool:
        with suppress(KeyFileError):
            return certificate_request.read(data, where="certificate request").key_id == key_id
        return False

    return is_of


_PUBLIC_FILES = {"public_key_path": _is_public_key_of, "csr_path": _is_request_of}


if __name__ == "__main__":
    main()
