# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who does not read what we sign: measured, cell by cell, by the interoperability tests.

Only readers that know the format at all are named: no cosign 2, podman or CRI-O looks at bundles.
"""

from __future__ import annotations

import typing as t

from .._errors import Reason
from .._keys.algorithms import SCHEMES, by_name
from .._keys.pem import PublicKey
from .._oci.reference import Image
from .signature import Format

# Whether readers try a scheme by themselves, whether cosign can be told its hash, or neither.
Kind = t.Literal["tried", "told", "refused"]

_TRIED = ("ecdsa-sha256", "rsa-pkcs1v15-sha256", "ed25519")
_WITH_FLAG = "--signature-digest-algorithm {hash}"
_LIMITS: dict[tuple[Format, bool], dict[Kind, str]] = {
    ("sig", False): {
        "told": f"podman and CRI-O refuse it; cosign 2 and cosign 3 take it only with {_WITH_FLAG}",
        "refused": "cosign 2, cosign 3, podman and CRI-O refuse it",
    },
    ("bundle", False): {
        "told": f"cosign 3 takes it only with {_WITH_FLAG}",
        "refused": "cosign 3 refuses it",
    },
    ("sig", True): {
        "tried": "with the bare key, cosign 2 and cosign 3 take it only until its certificate expires",
        "told": "podman and CRI-O refuse it; cosign 2 and cosign 3 take it only with the bare key, until its "
        f"certificate expires, and with {_WITH_FLAG}",
        "refused": "cosign 2, cosign 3, podman and CRI-O refuse it",
    },
    ("bundle", True): {
        "tried": "with the bare key, cosign 3 does not take it, only with the roots of its certificate",
        "refused": "cosign 3 refuses it",
    },
}


def warnings(
    image: Image, public: PublicKey, scheme: str, format: Format, *, with_certificate: bool, is_logged: bool
) -> list[Reason]:
    """Return a warning, if some readers do not simply take such a signature of C(image) by C(public)."""
    found = limits(public.algorithm.name, scheme, format, with_certificate=with_certificate, is_logged=is_logged)
    message = f"{image.name}: of the {format} signature by {public.key_id}: {found}."
    return [Reason("limited_readers", message, str(image))] if found else []


def limits(
    algorithm: str, scheme: str, format: Format, *, with_certificate: bool, is_logged: bool = False
) -> str | None:
    """Say which readers do not simply take a signature by a key of type C(algorithm), as part of a sentence.

    None if all that know the format take it.
    """
    kind = _kind(algorithm, scheme, is_certified_bundle=with_certificate and format == "bundle")
    words = _LIMITS[format, with_certificate].get(kind)
    if words and kind == "told" and format == "sig" and is_logged:
        # Of log entries of the old format, cosign knows those with SHA-256 only.
        words += ", and with --insecure-ignore-tlog, as they refuse its log entry"
    return words and words.format(hash=SCHEMES[scheme].hash)


def _kind(algorithm: str, scheme: str, *, is_certified_bundle: bool) -> Kind:
    if scheme in _TRIED:
        return "tried"
    if is_certified_bundle:
        # There cosign 3 tries the hash of the curve's size, too, and can be told none.
        is_of_curve = scheme.startswith("ecdsa-") and scheme in by_name(algorithm).schemes
        return "tried" if is_of_curve else "refused"
    return "refused" if SCHEMES[scheme].is_pss or scheme == "ed25519ph" else "told"
