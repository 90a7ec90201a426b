# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Making signatures absent from images, without touching those of others, or attestations."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from .._errors import HallmarkError, Reason
from .._keys.pem import PublicKey
from .._oci.reference import Image
from . import attachment, statement
from . import candidate as candidates
from .candidate import Candidate
from .sign import Outcome, Work, invalid, key_id_of
from .signature import FORMATS, Format, Signature

if t.TYPE_CHECKING:
    from .._oci.store import Store


@dataclass(frozen=True)
class Removal:
    """What signatures there shall not be: those by C(key_ids), or every one; attestations are never meant."""

    key_ids: frozenset[str]
    everything: bool
    known_keys: tuple[PublicKey, ...] = ()
    formats: tuple[Format, ...] = FORMATS
    recursive: bool = True
    dry_run: bool = False

    def __post_init__(self) -> None:
        """Refuse to remove nothing. Raises VerificationError (input_invalid)."""
        if not self.formats or not (self.everything or self.key_ids):
            raise invalid("key_ids", "there must be one or more, or all, and a format")


def remove_signatures(store: Store[Image], image: str, removal: Removal) -> Outcome:
    """Make signatures absent from one image; those of other keys are never touched.

    Never raises for an image that fails: the outcome carries the reason. C(signatures) lists what was removed.
    """
    work = Work(store, image)
    try:
        resolved, subjects = work.subjects(removal.recursive)
        for subject in subjects:
            with store.exclusive(resolved, subject.digest):
                if "sig" in removal.formats:
                    _remove_sig(work, resolved, subject.digest, removal)
                if "bundle" in removal.formats:
                    _remove_bundles(work, resolved, subject.digest, removal)
    except HallmarkError as exc:
        return work.outcome(exc)
    return work.outcome()


def _remove_sig(work: Work, image: Image, digest: str, removal: Removal) -> None:
    if removal.everything:
        _remove_all_sig(work, image, digest, removal)
        return
    present = work.read(image, digest, "sig").candidates
    gone = [one for one in present if key_id_of(one, removal.known_keys) in removal.key_ids]
    if gone and not removal.dry_run:
        work.wrote(attachment.remove_sig(
            work.store, image, digest, lambda layer: any(attachment.is_layer_of(layer, one) for one in gone)
        ))
    _note_removed(work, digest, gone, removal)
    _warn_of_unknown(work, image, digest, "sig", [one for one in present if one not in gone], removal)


def _remove_all_sig(work: Work, image: Image, digest: str, removal: Removal) -> None:
    """Remove every layer, also such as cannot be read, and more than a reader would look at."""
    if not candidates.has_signature_tag(digest):
        return
    manifest = work.store.find_manifest(image.tagged(candidates.signature_tag(digest)))
    layers = manifest.layers if manifest else ()
    if layers and not removal.dry_run:
        work.wrote(attachment.remove_sig(work.store, image, digest, lambda _layer: True))
    work.changed = work.changed or bool(layers)
    work.signatures += [
        Signature("sig", layer.digest, digest, layer.annotations.get(candidates.KEY_ID_ANNOTATION, ""), "", {})
        for layer in layers
    ]


def _remove_bundles(work: Work, image: Image, digest: str, removal: Removal) -> None:
    present = work.read(image, digest, "bundle")
    signatures = [one for one in present.candidates if statement.is_image_signature(one.content)]
    gone = [
        one for one in signatures
        if removal.everything or key_id_of(one, removal.known_keys) in removal.key_ids
    ]
    for one in gone:
        if not removal.dry_run:
            work.wrote(work.store.detach(image, digest, [one.digest]))
        _note_removed(work, digest, [one], removal)
    for unreadable in present.unreadable if removal.everything else ():
        if not removal.dry_run:
            work.wrote(work.store.detach(image, digest, [unreadable]))
        work.changed = True
    _warn_of_unknown(work, image, digest, "bundle", [one for one in signatures if one not in gone], removal)


def _note_removed(work: Work, digest: str, gone: t.Sequence[Candidate], removal: Removal) -> None:
    work.changed = work.changed or bool(gone)
    work.signatures += [
        Signature(one.format, one.digest, digest, key_id_of(one, removal.known_keys) or "", "", {}) for one in gone
    ]


def _warn_of_unknown(
    work: Work, image: Image, digest: str, format: Format, kept: t.Sequence[Candidate], removal: Removal
) -> None:
    unknown = sum(1 for one in kept if key_id_of(one, removal.known_keys) is None)
    if unknown:
        where = f"{image.name}@{digest}"
        work.warnings.append(Reason(
            "key_unknown",
            f"{where}: {unknown} signatures of format {format} stay, because nothing says which key made them. "
            "Give public_key_paths to have them recognised.",
            where,
        ))
