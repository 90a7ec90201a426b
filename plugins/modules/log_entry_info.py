#!/usr/bin/python
# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: log_entry_info
short_description: Search a transparency log, and verify what it answers
version_added: "1.0.0"
description:
  - Searches a log of Rekor 1 by digest, key, e-mail address or index, and says of each entry whether the log vouches for it.
  - What the index of a log returns is a hint. An entry that it does not return may still be there, and what an entry says is
    its submitter's word; whether it is about a signature on an image is for M(hallmark.signing.image_verify) to say.
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
  rekor_url:
    description: Address of the log. TLS files and time limits for its host are those of O(registries) and O(timeout).
    type: str
    required: true
  rekor_public_key_path:
    description: Public key of the log, PEM.
    type: path
    required: true
  digest:
    description: C(sha256:HEX) of what was signed. For signatures of format V(sig) that is the digest of the payload, which
      M(hallmark.signing.image_signature) returns; for bundles the digest of the image.
    type: str
  public_key_path:
    description:
      - A public key or a certificate, PEM.
      - Rekor 1 finds only signatures of format V(sig) by it; those of bundles are found by the digest of the image.
    type: path
  email:
    description: An e-mail address in certificates.
    type: str
  log_index:
    description: The global index of one entry.
    type: int
seealso:
  - module: hallmark.signing.image_signature
  - module: hallmark.signing.image_verify
"""

EXAMPLES = r"""
- name: See what was ever signed with the release key
  hallmark.signing.log_entry_info:
    rekor_url: https://rekor.example.org
    rekor_public_key_path: /etc/hallmark-signing/rekor.pub
    public_key_path: /etc/hallmark-signing/release.pub
  register: logged
"""

RETURN = r"""
entries:
  description: The entries found, in the order of the log's answer.
  returned: always
  type: list
  elements: dict
  contains:
    log_index:
      description: The global index; null if the entry could not be read.
      type: int
      returned: always
      sample: 1005
    integrated_time:
      description: When the log says that it took the entry, RFC 3339 in UTC.
      type: str
      returned: always
      sample: "2026-11-21T08:00:00Z"
    kind:
      description: Kind and version of the entry.
      type: str
      returned: always
      sample: hashedrekord 0.0.1
    key_id:
      description: Key id of the key that the entry names; null for kinds that are not of image signatures.
      type: str
      returned: always
      sample: 557e7b
    verified:
      description: Whether the log vouches for the entry by promise, inclusion proof and checkpoint.
      type: bool
      returned: always
      sample: true
    reasons:
      description: Why not.
      type: list
      elements: dict
      returned: always
      sample: []
reasons:
  description: Why the search failed; empty if it did not.
  returned: always
  type: list
  elements: dict
  sample: []
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._ansible import deps, registries, results
from ..module_utils._errors import FormatError, HallmarkError
from ..module_utils._keys import pem
from ..module_utils._keys.files import read_key_file
from ..module_utils._oci.concurrency import map_ordered
from ..module_utils._oci.digest import is_digest
from ..module_utils._transparency import log_key, lookup, rekor
from ..module_utils._transparency.entry import LogEntry

QUERIES = ("digest", "public_key_path", "email", "log_index")


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "rekor_url": {"type": "str", "required": True},
            "rekor_public_key_path": {"type": "path", "required": True, "no_log": False},
            "digest": {"type": "str"},
            "public_key_path": {"type": "path", "no_log": False},
            "email": {"type": "str"},
            "log_index": {"type": "int"},
            **registries.registry_spec(),
        },
        mutually_exclusive=[QUERIES],
        required_one_of=[QUERIES],
        supports_check_mode=True,
    )
    params = module.params
    empty: dict[str, t.Any] = {"changed": False, "entries": []}
    deps.require_libraries(module, "cryptography", empty=empty)
    try:
        path, url = params["rekor_public_key_path"], params["rekor_url"]
        key = log_key.read(read_key_file(path), where=path, rekor_url=url)
        entries = _entries(rekor.Log(url, registries.settings(params)), params)
        found = map_ordered(
            lambda get: lookup.describe(get, key, where=url), entries, workers=max(1, params["workers"])
        )
    except HallmarkError as exc:
        results.fail_with(module, exc, empty)
    results.finish(module, [], {"changed": False, "entries": [one.as_dict() for one in found]})


def _entries(log: rekor.Log, params: dict[str, t.Any]) -> list[t.Callable[[], LogEntry]]:
    """Return what fetches each entry that is asked for. Raises HallmarkError."""
    if params["log_index"] is not None:
        entry = log.by_index(params["log_index"])
        return [lambda: entry]
    if params["digest"] is not None:
        if not is_digest(params["digest"]):
            raise FormatError(
                code="input_invalid", object="digest", attempt="search for it",
                cause=f"{params['digest'][:100]!r} is none", advice="Write it as sha256:HEX.",
            )
        return lookup.search(log, rekor.hash_query(params["digest"]))
    if params["email"] is not None:
        return lookup.search(log, rekor.email_query(params["email"]))
    path = params["public_key_path"]
    blocks = pem.split(read_key_file(path), where=path)
    return lookup.search(log, rekor.key_query(blocks[0].text))


if __name__ == "__main__":
    main()
