# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The SimpleSigning payload: what a C(.sig) signature is over.

Source: containers/image C(docs/containers-signature.5.md); byte for byte as cosign's C(pkg/cosign/payload) writes it.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from .. import _strict_json
from .._errors import VerificationError
from .._oci.digest import is_digest

TYPE = "cosign container image signature"
MEDIA_TYPE = "application/vnd.dev.cosign.simplesigning.v1+json"
MAX_SIZE = 256 * 1024


@dataclass(frozen=True)
class Payload:
    """The claim of a payload: this digest, under this name, with these annotations."""

    docker_reference: str
    digest: str
    annotations: t.Mapping[str, str]


def encode(payload: Payload) -> bytes:
    """Return the exact bytes that are signed: those of C(cosign generate), without a newline at the end."""
    return _strict_json.dumps({
        "critical": {
            "identity": {"docker-reference": payload.docker_reference},
            "image": {"docker-manifest-digest": payload.digest},
            "type": TYPE,
        },
        # cosign writes null, not an empty object, when there are none.
        "optional": dict(sorted(payload.annotations.items())) or None,
    })


def decode(data: bytes, *, where: str) -> Payload:
    """Parse a payload whose signature was verified.

    Unknown members are ignored, as the format's specification demands. Raises FormatError (malformed) and
    VerificationError (type_mismatch).
    """
    top = _strict_json.loads(data, what="payload", where=where).no_case_variants("critical", "optional")
    critical = top.object("critical").no_case_variants("identity", "image", "type")
    identity = critical.object("identity", None).no_case_variants("docker-reference")
    image = critical.object("image").no_case_variants("docker-manifest-digest")
    if critical.string("type") != TYPE:
        raise VerificationError(
            code="type_mismatch", object=where, attempt="accept the payload",
            cause=f"its type is {critical.string('type')[:100]!r}, not {TYPE!r}",
            advice="It was signed for something else; it does not count as an image signature.",
        )
    digest = image.string("docker-manifest-digest")
    if not is_digest(digest):
        raise image.error("member 'docker-manifest-digest' is not a digest")
    return Payload(identity.string("docker-reference", ""), digest, _annotations(top))


def _annotations(top: _strict_json.JsonObject) -> dict[str, str]:
    optional = top.members.get("optional")
    if optional is not None and not isinstance(optional, dict):
        raise top.error("member 'optional' is not an object")
    # Members that are not strings are legal here, but can never satisfy a wanted annotation.
    return {name: value for name, value in (optional or {}).items() if isinstance(value, str)}
