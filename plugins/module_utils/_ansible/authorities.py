# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options that say who is trusted, turned into authorities."""

from __future__ import annotations

import typing as t

from .._keys import pem
from .._keys.files import read_key_file
from .._signing.authority import Authority
from .args import Spec

_KINDS = ("public_key_path", "public_key_content", "ca_path", "ca_content", "ledger_path")
_TEXTS = ("name", "signature_algorithm", "ca_content", "identity", "ledger_head")


def spec() -> Spec:
    """Return the option C(trust), a list of authorities."""
    return {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            **{name: {"type": "str"} for name in _TEXTS},
            **{name: {"type": "path"} for name in ("ca_path", "intermediates_path", "ledger_path")},
            "public_key_path": {"type": "path", "no_log": False},
            "public_key_content": {"type": "str", "no_log": False},
            "san": {
                "type": "dict",
                "options": {
                    "type": {"type": "str", "required": True, "choices": ["dns", "email", "uri", "other"]},
                    "value": {"type": "str"},
                    "regexp": {"type": "str"},
                },
            },
            "eku": {"type": "str", "default": "codeSigning"},
        },
        "mutually_exclusive": [_KINDS],
        "required_one_of": [_KINDS],
        "required_by": {"ledger_path": ["identity"]},
    }


def load(trust: t.Sequence[dict[str, t.Any]]) -> list[Authority]:
    """Return the authorities in their order; a ledger gives one for each key that may sign, all under one name.

    Raises KeyFileError, VerificationError, TrustError, CustodyError.
    """
    return [one for index, entry in enumerate(trust) for one in _authorities(entry, entry["name"] or str(index))]


def _authorities(entry: dict[str, t.Any], name: str) -> list[Authority]:
    if entry["ledger_path"] is None:
        return [_authority(entry, name)]
    from .._trust import trusted_keys

    keys = trusted_keys.keys(entry["ledger_path"], identity=entry["identity"], head=entry["ledger_head"])
    return [Authority(name, key, signature_algorithm=entry["signature_algorithm"], is_generation=True) for key in keys]


def _authority(entry: dict[str, t.Any], name: str) -> Authority:
    algorithm = entry["signature_algorithm"]
    if entry["ca_path"] is not None or entry["ca_content"] is not None:
        from . import evidence

        return Authority(name, issuer=evidence.issuer(entry, name=name), signature_algorithm=algorithm)
    if entry["san"] is not None or entry["intermediates_path"] is not None:
        from . import evidence

        raise evidence.misplaced(name)
    if entry["public_key_path"] is not None:
        data, where = read_key_file(entry["public_key_path"]), entry["public_key_path"]
    else:
        data, where = entry["public_key_content"].encode("utf-8", "replace"), f"public_key_content of authority {name}"
    return Authority(name, pem.read_public_key(data, where=where), signature_algorithm=algorithm)
