# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of modules that write private files; in step with C(_ansible.args.file_spec) and C(passphrase_spec)."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
requirements:
  - cryptography >= 38
  - PyNaCl >= 1.5 (only for keys in cosign's format)
options:
  owner:
    description: Name or number of the user that shall own the file. Without it, the file belongs to the user of the task.
    type: str
  group:
    description: Name or number of the group that shall own the file.
    type: str
  mode:
    description:
      - Mode of the file in octal digits, quoted.
      - Only V(0600), V(0400), V(0640) and V(0440) can be asked for; the file has it before its first byte is written.
    type: str
    default: "0600"
notes:
  - A missing parent folder is made with mode C(0700). An existing one must belong to root or the user of the task, and
    must not be writable by its group or others. A further ancestor may be writable by others only if it is sticky, as
    C(/tmp) is, and the next folder belongs to root or the user of the task.
  - Symbolic links, hard links, pipes and everything else that is not a plain file are refused.
"""

    PASSPHRASE = r"""
options:
  passphrase:
    description:
      - Passphrase of the key file.
      - A new key wants 8 or more characters, or no passphrase at all. Existing keys are read with any.
      - Mutually exclusive with O(passphrase_path).
    type: str
  passphrase_path:
    description:
      - File on the managed host that holds the passphrase; one newline at its end does not count.
      - Mutually exclusive with O(passphrase).
    type: path
"""

    SOURCE_PASSPHRASE = r"""
options:
  source_passphrase:
    description: Passphrase of the key that is read. Mutually exclusive with O(source_passphrase_path).
    type: str
  source_passphrase_path:
    description: File that holds the passphrase of the key that is read. Mutually exclusive with O(source_passphrase).
    type: path
"""
