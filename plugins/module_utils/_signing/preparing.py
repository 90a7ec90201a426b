# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The exact bytes that a signer elsewhere must sign, for one image and its children."""

from __future__ import annotations

import hashlib
import typing as t
from dataclasses import dataclass, field

from .._errors import HallmarkError, Reason
from .._oci import reference as references
from .._oci.content import descendants
from .._oci.reference import Image
from . import messages
from .signature import FORMATS, Format

if t.TYPE_CHECKING:
    from .._oci.store import Store


@dataclass(frozen=True)
class Payload:
    """What is to be signed for one digest in one format; see C(messages)."""

    image: str
    digest: str
    format: Format
    content: bytes = field(repr=False)
    # What a host with the key makes the same bytes of.
    repository: str = ""
    docker_reference: str = ""

    @property
    def sha256(self) -> str:
        """The SHA-256 of the bytes, hexadecimal, by which a signer can check what arrived."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def file_name(self) -> str:
        """The name of its file: what is signed, in which format, and the beginning of the SHA-256 of the bytes.

        The same digest may be signed under several names, or with several annotations.
        """
        return f"{self.digest.replace(':', '-')}.{self.format}.{self.sha256[:16]}.payload"


@dataclass(frozen=True)
class Prepared:
    """The payloads of one image, or why there are none."""

    image: str
    payloads: tuple[Payload, ...] = ()
    reasons: tuple[Reason, ...] = ()


def prepare(
    store: Store[Image], image: str, *, formats: t.Sequence[Format] = FORMATS, annotations: t.Mapping[str, str],
    recursive: bool, docker_reference: str | None,
) -> Prepared:
    """Return what C(sign.sign_image()) signs with the same options. Never raises for an image that fails."""
    try:
        asked = references.parse_image(image)
        manifest = store.manifest(asked)
        resolved = asked.at(manifest.digest)
        below = descendants(store, asked, manifest) if recursive else ()
        return Prepared(image, tuple(
            Payload(image, digest, format, content, _repository(resolved), docker_reference or resolved.signed_name)
            for digest in dict.fromkeys([manifest.digest, *(child.digest for child in below)])
            for format, content in messages.of(
                resolved, digest, formats=formats, annotations=annotations, docker_reference=docker_reference
            ).items()
        ))
    except HallmarkError as exc:
        return Prepared(image, reasons=(exc.as_reason(),))


def _repository(image: Image) -> str:
    """Return HOST/REPO, or nothing for an image outside of registries."""
    return image.name if isinstance(image, references.Reference) else ""
