# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether an image stays verifiable when keys leave, and what proves that it may be signed anew.

An image is covered if it, and of an index each image, has in each wanted format a signature that verifies under a key
that stays. It is proven if it verifies under a key that is trusted still: re-signing gives nothing a signature that
nobody had signed before.
"""

from __future__ import annotations

import functools
import hashlib
import typing as t
from dataclasses import dataclass, field, replace

from .. import _strict_json
from .._errors import HallmarkError, Reason, VerificationError
from .._oci.content import descendants, not_there
from .._oci.digest import digest_of
from .._oci.reference import Image, Reference
from .._signing import authority
from .._signing.authority import Authority, Demand, ReferenceCheck
from .._signing.signature import FORMATS, Format
from .._signing.verify import Verification, verify_image

if t.TYPE_CHECKING:
    from .._keys.pem import PublicKey
    from .._oci.manifest import Descriptor, Manifest
    from .._oci.store import Store
    from .._reason_codes import ReasonCode

_MAX_REASONS = 10


@dataclass(frozen=True)
class Terms:
    """What covers an image: C(staying) in each of C(formats); and who proves it: C(trusted). Made by C(terms())."""

    staying: tuple[Authority, ...]
    trusted: tuple[Authority, ...]
    formats: tuple[Format, ...]
    annotations: t.Mapping[str, str] = field(default_factory=dict)
    denied_key_ids: frozenset[str] = frozenset()
    docker_reference_check: ReferenceCheck = "repository"
    recursive: bool = True

    def demand(self, authorities: t.Sequence[Authority], formats: t.Sequence[Format]) -> Demand:
        """Return what one of these authorities must have signed in one of these formats."""
        return authority.demand(
            authorities, formats=formats, annotations=self.annotations, denied_key_ids=self.denied_key_ids,
            docker_reference_check=self.docker_reference_check,
        )

    @functools.cached_property
    def covering(self) -> dict[Format, Demand]:
        """What covers an image, by format."""
        return {format: self.demand(self.staying, [format]) for format in self.formats}

    def proving(self, formats: t.Sequence[Format] = FORMATS) -> Demand:
        """Return what proves an image, by signatures in these formats.

        With the same annotations: what is signed anew says no more than what was proven.
        """
        return self.demand(self.trusted, formats)

    @functools.cached_property
    def hash(self) -> str:
        """SHA-256 over all that decides whether an image is covered."""
        keys = sorted((t.cast("PublicKey", one.public).key_id, one.signature_algorithm or "") for one in self.staying)
        return hashlib.sha256(_strict_json.dumps({
            "staying": [list(key) for key in keys], "denied": sorted(self.denied_key_ids),
            "formats": sorted(self.formats), "annotations": dict(sorted(self.annotations.items())),
            "docker_reference_check": self.docker_reference_check, "recursive": self.recursive,
        })).hexdigest()


def terms(
    trust: t.Sequence[Authority], staying_key_ids: t.Sequence[str], *, signer: PublicKey | None = None,
    formats: t.Sequence[Format] = FORMATS, annotations: t.Mapping[str, str] | None = None,
    denied_key_ids: t.Collection[str] = (), docker_reference_check: ReferenceCheck = "repository",
    recursive: bool = True,
) -> Terms:
    """Return checked terms; C(signer) is the key that will sign.

    Raises VerificationError: as C(authority.demand()); input_invalid for no staying key, one that nobody knows, or a
    signer whose key does not stay; key_denied for a staying key that is denied.
    """
    known = {one.public.key_id: one for one in trust if one.public}
    if signer is not None and signer.key_id not in known:
        known[signer.key_id] = Authority(f"key {signer.key_id}", signer)
    for key_id in staying_key_ids:
        if key_id in denied_key_ids:
            raise _invalid(f"the key {key_id} is denied", "Leave it out of one of both.", code="key_denied")
        if key_id not in known:
            raise _invalid(f"nobody has the key {key_id}", "Add it to trust, or sign with it.")
    if not staying_key_ids:
        raise _invalid("it is empty, and nothing could be covered", "Name the keys that stay.")
    if signer is not None and signer.key_id not in staying_key_ids:
        raise _invalid(f"the key {signer.key_id} of the signer is not one of them", "Sign with a key that stays.")
    found = Terms(
        staying=tuple(known[key_id] for key_id in dict.fromkeys(staying_key_ids)),
        trusted=(*trust, *(one for one in known.values() if one not in trust)),
        formats=tuple(dict.fromkeys(formats)), annotations=dict(annotations or {}),
        denied_key_ids=frozenset(denied_key_ids), docker_reference_check=docker_reference_check, recursive=recursive,
    )
    # Both refuse what could be vacuously true.
    for authorities in (found.staying, found.trusted):
        found.demand(authorities, found.formats)
    return found


@dataclass(frozen=True)
class Coverage:
    """What was found of one image: which digests lack which formats and why, and whether all of those are proven."""

    image: Reference
    lacking: t.Mapping[str, tuple[Format, ...]] = field(default_factory=dict)
    reasons: tuple[Reason, ...] = ()
    warnings: tuple[Reason, ...] = ()
    is_covered: bool = False
    is_proven: bool = False

    @property
    def formats(self) -> tuple[Format, ...]:
        """The formats that are lacking anywhere."""
        return tuple(format for format in FORMATS if any(format in lacking for lacking in self.lacking.values()))


def look(once: Once, image: Reference, terms: Terms, *, proves: bool) -> Coverage:
    """Say whether an image is covered, and if not, and it is asked for, whether it is proven, by one reading.

    The reasons say why it is not covered; where a proof was looked for in vain, why it is not proven. Never raises for
    an image that fails.
    """
    store = t.cast("Store[Image]", once)
    lacking: dict[str, tuple[Format, ...]] = {}
    uncovered: list[Reason] = []
    unproven: list[Reason] = []
    warnings: list[Reason] = []
    proven: list[bool] = []
    try:
        subjects = [t.cast(str, image.digest)]
        if terms.recursive:
            subjects += [child.digest for child in descendants(store, image, store.manifest(image))]
    except HallmarkError as exc:
        return Coverage(image, reasons=(exc.as_reason(),))
    for subject in dict.fromkeys(subjects):
        verdicts = {
            format: verify_image(store, str(image.at(subject)), demand) for format, demand in terms.covering.items()
        }
        warnings += [warning for verdict in verdicts.values() for warning in verdict.warnings]
        missing = tuple(format for format, verdict in verdicts.items() if not verdict.verified)
        if missing:
            lacking[subject] = missing
            uncovered += [reason for verdict in verdicts.values() for reason in verdict.reasons]
            if proves:
                # The very bytes that were looked at just now.
                proof = _prove(store, image.at(subject), terms, missing)
                proven.append(proof.verified)
                unproven += proof.reasons
                warnings += proof.warnings
    return Coverage(
        image, lacking, _few(unproven or uncovered), _few(warnings), is_covered=not lacking,
        is_proven=bool(proven) and all(proven),
    )


def _prove(store: Store[Image], image: Reference, terms: Terms, lacking: t.Collection[Format]) -> Verification:
    """Verify an image that is to be signed in these formats: no more is claimed than was proven.

    Where the name counts, a bundle, which has none, proves nothing for a C(.sig), which has one.
    """
    if "sig" not in lacking or terms.docker_reference_check != "repository":
        return verify_image(store, str(image), terms.proving())
    proof = verify_image(store, str(image), terms.proving(["sig"]))
    if proof.verified or not verify_image(store, str(image), terms.proving()).verified:
        return proof
    unnamed = VerificationError(
        code="reference_mismatch", object=str(image), attempt="prove the name that a .sig would be made for",
        cause="only a bundle proves the image, and a bundle has no name",
        advice="If it belongs there, set docker_reference_check to warn, or formats to bundle alone.",
    )
    return replace(proof, reasons=(unnamed.as_reason(), *proof.reasons))


def confirm(store: Store[Image], coverage: Coverage, demands: t.Mapping[Format, Demand]) -> Coverage:
    """Read from the registry what was lacking, and return what still is."""
    lacking: dict[str, tuple[Format, ...]] = {}
    reasons: list[Reason] = []
    for subject, formats in coverage.lacking.items():
        for format in formats:
            verdict = verify_image(store, str(coverage.image.at(subject)), demands[format])
            if not verdict.verified:
                lacking[subject] = (*lacking.get(subject, ()), format)
                reasons += verdict.reasons
    return Coverage(coverage.image, lacking, _few(reasons), is_covered=not lacking)


def _few(reasons: t.Sequence[Reason]) -> tuple[Reason, ...]:
    """Return reasons each once, and of very many the first ones: anybody may have attached a thousand signatures."""
    return tuple(dict.fromkeys(reasons))[:_MAX_REASONS]


class Once:
    """A store that is asked each thing once: for whoever looks at one image from several sides at one moment.

    After C(forget_names()) only what has a digest is still known, and nothing else is kept: so it can be written to.
    """

    def __init__(self, store: Store[Image]) -> None:
        self._store = store
        self._content: dict[tuple[str, ...], t.Any] = {}
        self._names: dict[tuple[str, ...], t.Any] | None = {}

    def __getattr__(self, name: str) -> t.Any:
        return getattr(self._store, name)

    def forget_names(self) -> Store[Image]:
        """Forget what tags and lists said, and return the same as a store."""
        self._names = None
        return t.cast("Store[Image]", self)

    def find_manifest(self, image: Image) -> Manifest | None:
        """See C(Store)."""
        key, known = ("manifest", str(image)), self._content if image.digest else self._names
        return t.cast("Manifest | None", self._ask(known, key, lambda: self._store.find_manifest(image)))

    def manifest(self, image: Image) -> Manifest:
        """See C(Store)."""
        found = self.find_manifest(image)
        if found is None:
            raise not_there(image)
        return found

    def blob(self, image: Image, descriptor: Descriptor, *, limit: int) -> bytes:
        """See C(Store)."""
        key = ("blob", descriptor.digest)
        found = self._ask(self._content, key, lambda: self._store.blob(image, descriptor, limit=limit))
        if len(found) != descriptor.size or len(found) > limit:
            # Somebody says something else of it: let it be refused as always.
            return self._store.blob(image, descriptor, limit=limit)
        return t.cast(bytes, found)

    def put_blob(self, image: Image, data: bytes, *, algorithm: str = "sha256", is_new: bool = False) -> str:
        """See C(Store). What was read just now is there, such as the payload that the former key has signed."""
        digest = digest_of(data, algorithm=algorithm)
        if ("blob", digest) in self._content:
            return digest
        return self._store.put_blob(image, data, algorithm=algorithm, is_new=is_new)

    def referrers(self, image: Image, digest: str) -> tuple[Descriptor, ...]:
        """See C(Store)."""
        found = self._ask(self._names, ("referrers", digest), lambda: self._store.referrers(image, digest))
        return t.cast("tuple[Descriptor, ...]", found)

    @staticmethod
    def _ask(known: dict[tuple[str, ...], t.Any] | None, key: tuple[str, ...], ask: t.Callable[[], t.Any]) -> t.Any:
        if known is None:
            return ask()
        if key not in known:
            known[key] = ask()
        return known[key]


def _invalid(cause: str, advice: str, *, code: ReasonCode = "input_invalid") -> VerificationError:
    return VerificationError(
        code=code, object="staying_key_ids", attempt="decide what is covered", cause=cause, advice=advice
    )
