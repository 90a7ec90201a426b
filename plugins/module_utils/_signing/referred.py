# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Finding bundles among the referrers of an image."""

from __future__ import annotations

import typing as t
from contextlib import suppress

from .._errors import HallmarkError
from .._oci.digest import digest_of
from .._oci.manifest import Descriptor, Manifest
from .._oci.reference import Image
from . import bundle, statement
from .candidate import Candidate, Found, within_budget

if t.TYPE_CHECKING:
    from .._oci.store import Store


def find_bundles(store: Store[Image], image: Image, digest: str, *, fetches_all: bool = False) -> t.Iterator[Found]:
    """Yield the bundles of C(digest), as C(candidate.find()) does.

    First come the copies in the list. Nobody vouches for the list: where a copy is not what lies in the registry, the
    bundle itself follows, for those who are not content yet.
    """
    copied: list[tuple[Descriptor, str]] = []
    # Types and annotations in the list are often wrong: they only decide what is looked at first.
    listed = sorted(
        store.referrers(image, digest),
        key=lambda entry: entry.annotations.get(bundle.PREDICATE_ANNOTATION) != statement.PREDICATE_TYPE,
    )
    for entry in within_budget({entry.digest: entry for entry in listed}.values(), image):
        copy = None if fetches_all else bundle.copy_in(entry.annotations)
        if copy is not None:
            known = ""
            # One that cannot be read is nobody's fault but the list's, unless the bundle itself is like that.
            with suppress(HallmarkError):
                yield _candidate(copy, image, entry)
                known = digest_of(copy)
            copied.append((entry, known))
            continue
        yield from _read_referrer(store, image, entry)
    for entry, known in copied:
        yield from _read_referrer(store, image, entry, known=known)


def _read_referrer(store: Store[Image], image: Image, entry: Descriptor, *, known: str = "") -> t.Iterator[Found]:
    """Yield the bundle of a referrer, or its error; nothing if it is C(known), or something else, such as an SBOM."""
    try:
        manifest = store.manifest(image.at(entry.digest))
        if is_bundle(manifest) and manifest.layers[0].digest != known:
            yield _candidate(store.blob(image, manifest.layers[0], limit=bundle.MAX_SIZE), image, entry)
    except HallmarkError as exc:
        exc.signature = entry.digest
        yield exc


def _candidate(data: bytes, image: Image, entry: Descriptor) -> Candidate:
    found = bundle.decode(data, where=f"{image.name}@{entry.digest}")
    return Candidate(
        "bundle", entry.digest, found.envelope.signed_bytes, found.envelope.payload, found.envelope.signature,
        found.hinted_key_id, found.has_certificate, material=found.material,
    )


def is_bundle(manifest: Manifest) -> bool:
    """Say whether a referrer holds a bundle: what its one layer is decides, not what any list says it is."""
    return len(manifest.layers) == 1 and manifest.layers[0].media_type.startswith(bundle.ANY_MEDIA_TYPE)
