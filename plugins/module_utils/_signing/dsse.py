# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""DSSE envelopes (secure-systems-lab DSSE v1.0.2): what is signed, and how it is wrapped."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from .. import _base64, _strict_json

PAYLOAD_TYPE = "application/vnd.in-toto+json"


@dataclass(frozen=True)
class Envelope:
    """An envelope with exactly one signature: the decoded payload and the decoded signature."""

    payload: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    @property
    def signed_bytes(self) -> bytes:
        """The pre-authentication encoding, over which the signature is."""
        return pae(self.payload)


def pae(payload: bytes) -> bytes:
    """Return the pre-authentication encoding of an in-toto payload (DSSE protocol, "Signature Definition")."""
    kind = PAYLOAD_TYPE.encode("ascii")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def encode(envelope: Envelope) -> dict[str, t.Any]:
    """Return the JSON members of an envelope inside a bundle."""
    return {
        "payload": _base64.encode(envelope.payload),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"sig": _base64.encode(envelope.signature)}],
    }


def decode(source: _strict_json.JsonObject) -> Envelope:
    """Parse an envelope. Raises FormatError (malformed): another payload type, or not exactly one signature."""
    source.only("payload", "payloadType", "signatures")
    if source.string("payloadType") != PAYLOAD_TYPE:
        raise source.error(f"its payload type is {source.string('payloadType')[:100]!r}")
    signatures = source.objects("signatures")
    if len(signatures) != 1:
        raise source.error(f"it has {len(signatures)} signatures, not one")
    signature = signatures[0].only("sig", "keyid")
    return Envelope(source.base64("payload"), signature.base64("sig"))
