# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who is trusted; in step with C(_ansible.authorities.spec)."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  trust:
    description: The authorities that may sign.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the authority in results. Without it, its position in the list, from 0.
        type: str
      public_key_path:
        description: PEM file on the managed host with exactly one public key.
        type: path
      public_key_content:
        description: The same as text.
        type: str
      signature_algorithm:
        description:
          - The one algorithm that its signatures must be made with. By default these are the ones that any cosign makes with
            a key of its type.
          - One of C(ecdsa-sha256), C(ecdsa-sha384), C(ecdsa-sha512), C(rsa-pkcs1v15-sha256), C(rsa-pkcs1v15-sha384),
            C(rsa-pkcs1v15-sha512), C(rsa-pss-sha256), C(rsa-pss-sha384), C(rsa-pss-sha512), C(ed25519), C(ed25519ph).
        type: str
      ledger_path:
        description:
          - The ledger of a fleet on the managed host. The keys of O(trust[].identity) count that are published, active or
            retiring and were not revoked; all of them are one authority. See C(docs/rotation.md).
        type: path
      identity:
        description: The identity that is trusted. Required with O(trust[].ledger_path).
        type: str
      ledger_head:
        description:
          - A head that the ledger must have, C(SEQUENCE:HASH) or C(HASH). Without it, it does not show that its end was cut off, or
            that it is another one.
        type: str
      ca_path:
        description:
          - PEM file on the managed host with the root certificates of a private code-signing PKI. Signatures count that were
            made with a certificate which one of them vouches for, and which is for the name in O(trust[].san).
          - Every certificate on the way must be valid at every proven time of the signature; without one, now. Revocation
            lists are not asked; see O(denied_key_ids).
        type: path
      ca_content:
        description: The same as text.
        type: str
      intermediates_path:
        description: PEM file with certificates between the leaf and the root. Bundles bring none along.
        type: path
      san:
        description: The name that the certificate must have, as one of its subject alternative names. Required with a CA.
        type: dict
        suboptions:
          type:
            description: Kind of name. V(other) is the OtherName of Fulcio, or any other as C(OID:HEX).
            type: str
            required: true
            choices: [dns, email, uri, other]
          value:
            description: The name. Upper and lower case differ, and a wildcard stands for itself.
            type: str
          regexp:
            description: A regular expression that matches the whole name.
            type: str
      eku:
        description: Extended key usage that the certificate must allow, by name or as OID.
        type: str
        default: codeSigning
"""
