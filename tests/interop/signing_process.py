# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A process that signs as the module does: what a PKCS#11 library and a client of a service keep, it keeps to itself.

    signing_process.py < ORDER > ANSWER

ORDER: {"signers": [{"uri": ..., "pin": ...} or {"command": [...], "public_key_path": ...}], "images": [...]}. A signer
that cannot be loaded is answered with its reason, and then nothing is signed. ANSWER: {"signers": [{"key_id",
"public_key"} or {"code", "message"}], "outcomes": [...]}.
"""

from __future__ import annotations

import json
import sys
import typing as t

from ansible_collections.hallmark.signing.plugins.module_utils._errors import HallmarkError
from ansible_collections.hallmark.signing.plugins.module_utils._keys.signers import command, uri
from ansible_collections.hallmark.signing.plugins.module_utils._oci.concurrency import map_ordered
from ansible_collections.hallmark.signing.plugins.module_utils._oci.credentials import AuthFile
from ansible_collections.hallmark.signing.plugins.module_utils._oci.images import Images
from ansible_collections.hallmark.signing.plugins.module_utils._oci.transport import RegistrySettings
from ansible_collections.hallmark.signing.plugins.module_utils._signing import sign


def load(given: dict[str, t.Any]) -> t.Any:
    """Return a signer."""
    options = dict(given)
    if "command" in options:
        return command.load(options.pop("command"), **options)
    pin = options.pop("pin", None)
    return uri.load(options.pop("uri"), pin=None if pin is None else pin.encode(), **options)


def main() -> None:
    """Do what standard input says."""
    order, signers, told = json.load(sys.stdin), [], []
    for one in order["signers"]:
        try:
            signers.append(load(one))
            told.append({"key_id": signers[-1].public.key_id, "public_key": signers[-1].public.pem})
        except HallmarkError as exc:
            told.append({"code": exc.code, "message": str(exc)})
    outcomes = []
    if len(signers) == len(told) and order["images"]:
        known = Images(RegistrySettings(AuthFile("none", {}), timeout=60))
        wish = sign.Wish(tuple(signers))
        done = map_ordered(lambda image: sign.sign_image(known, image, wish), order["images"], workers=16)
        outcomes = [one.as_dict() for one in done]
    print(json.dumps({"signers": told, "outcomes": outcomes}))


if __name__ == "__main__":
    main()
