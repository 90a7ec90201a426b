#!/usr/bin/python
# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: signing_program
short_description: Install the program that signs outside of playbooks
version_added: "1.0.0"
description:
  - Writes one file that Python runs. It is cosign's plugin for keys C(hallmark://) if it is started as
    C(sigstore-kms-hallmark); else its first argument says whether it serves requests to sign, carries them to a socket, keeps
    copies of keys in order, or runs Certbot.
  - It is made of the code of this collection, the same bytes each time, so that both are of one version.
author:
  - The hallmark.signing authors (@hallmark-signing)
requirements:
  - On the host with the key, and where it runs Certbot, cryptography >= 38; the plugin needs the standard library only
extends_documentation_fragment:
  - hallmark.signing._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: The diff shows the SHA-256 of the file.
  idempotent:
    support: full
options:
  dest:
    description: The file. Its folder is made with mode C(0700) if it is missing; make it first if others shall run the program.
    type: path
    default: /usr/local/lib/hallmark-signing/hallmark.pyz
  interpreter:
    description: The Python that runs it, in isolated mode.
    type: path
    default: /usr/bin/python3
  state:
    description: Whether the program shall be there.
    type: str
    default: present
    choices: [present, absent]
seealso:
  - module: hallmark.signing.payload_signature
"""

EXAMPLES = r"""
- name: Make the folder of the program
  ansible.builtin.file:
    path: /usr/local/lib/hallmark-signing
    state: directory
    mode: "0755"

- name: Install the program
  hallmark.signing.signing_program:

- name: Let cosign find its plugin
  ansible.builtin.file:
    src: /usr/local/lib/hallmark-signing/hallmark.pyz
    path: /usr/local/bin/sigstore-kms-hallmark
    state: link
"""

RETURN = r"""
path:
  description: The file.
  returned: always
  type: str
  sample: /usr/local/lib/hallmark-signing/hallmark.pyz
sha256:
  description: SHA-256 of the program that this version of the collection makes; null with O(state=absent).
  returned: always
  type: str
  sample: 5f0c
mode:
  description: The mode of the file, as four octal digits; null with O(state=absent).
  returned: always
  type: str
  sample: "0755"
reasons:
  description: Why the task failed; empty otherwise.
  returned: always
  type: list
  elements: dict
  sample: []
"""

import hashlib
import os
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._ansible import results
from ..module_utils._custody import public_file
from ..module_utils._errors import HallmarkError
from ..module_utils._program import archive

if t.TYPE_CHECKING:
    # Not run here, but packed: it is what the program consists of.
    from ..module_utils._program import main as _main  # noqa: F401

_LIMIT = 4 * 1024 * 1024
_MODE = 0o755


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "dest": {"type": "path", "default": "/usr/local/lib/hallmark-signing/hallmark.pyz"},
            "interpreter": {"type": "path", "default": "/usr/bin/python3"},
            "state": {"type": "str", "default": "present", "choices": ["present", "absent"]},
        },
        supports_check_mode=True,
    )
    params = module.params
    dest, dry_run = params["dest"], module.check_mode
    empty: dict[str, t.Any] = {"changed": False, "path": dest, "sha256": None, "mode": None}
    sha256 = None
    try:
        former = public_file.read_public_file(dest, limit=_LIMIT)
        if params["state"] == "present":
            program = archive.build(_source, interpreter=params["interpreter"])
            sha256 = hashlib.sha256(program).hexdigest()
            changed = public_file.ensure_public_file(
                dest, program, is_former=archive.is_program, dry_run=dry_run, limit=_LIMIT, mode=_MODE
            )
        else:
            changed = public_file.remove_public_file(dest, is_ours=archive.is_program, dry_run=dry_run, limit=_LIMIT)
    except HallmarkError as exc:
        results.fail_with(module, exc, empty)
    before = {"sha256": hashlib.sha256(former).hexdigest()} if former is not None else {}
    results.finish(module, [], {
        "changed": changed, "path": dest, "sha256": sha256, "mode": f"{_MODE:04o}" if sha256 else None,
        **results.diff(module, before, {"sha256": sha256} if sha256 else {}, dest),
    })


def _source(name: str) -> bytes | None:
    """Return a file of the code that this module was loaded with, be it a folder or the archive that Ansible sent."""
    loader: t.Any = archive.__loader__
    base = os.path.dirname(os.path.dirname(archive.__file__))
    try:
        return t.cast(bytes, loader.get_data(os.path.join(base, *name.split("/"))))
    except OSError:
        return None


if __name__ == "__main__":
    main()
