# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who signed an image, as the authorities of a trust policy are asked: one by one, each with its own demands."""

from __future__ import annotations

import typing as t
from dataclasses import replace

from .. import _strict_json
from .._errors import HallmarkError, Reason
from .._keys import algorithms, pem
from .._oci.reference import Reference
from .._signing import authority as authorities
from .._signing import bundle, dsse, verify
from .._signing import candidate as candidates
from .model import Attestation, Authority, Certified, Keys

if t.TYPE_CHECKING:
    from .._oci.manifest import Descriptor, Manifest
    from .._oci.reference import Image
    from .._oci.store import Store
    from .._signing.authority import ReferenceCheck
    from .._signing.evidence import Evidence
    from .._signing.signature import Format

# What enforcers take of a key where the policy does not say it.
_SCHEMES = {"ec": "ecdsa-sha256", "rsa": "rsa-pkcs1v15-sha256", "ed25519": "ed25519"}
_Result = t.TypeVar("_Result")


def remembering(store: Store[Image], place: Reference) -> Store[Image]:
    """Return a store that reads each thing once, and from one repository, by whatever name it is asked for."""
    return t.cast("Store[Image]", _Remembering(store, place))


class _Remembering:
    """What reading signatures needs of a C(Store)."""

    def __init__(self, store: Store[Image], place: Reference) -> None:
        self._store, self._place = store, place
        self._known: dict[tuple[str, ...], t.Any] = {}

    def find_manifest(self, image: Image) -> Manifest | None:
        """See C(Store)."""
        return self._once(lambda: self._store.find_manifest(self._at(image)), "manifest", image.target)

    def manifest(self, image: Image) -> Manifest:
        """See C(Store)."""
        return self._once(lambda: self._store.manifest(self._at(image)), "there", image.target)

    def blob(self, image: Image, descriptor: Descriptor, *, limit: int) -> bytes:
        """See C(Store)."""
        return self._once(
            lambda: self._store.blob(self._at(image), descriptor, limit=limit), "blob", descriptor.digest, str(limit)
        )

    def referrers(self, image: Image, digest: str) -> tuple[Descriptor, ...]:
        """See C(Store)."""
        return self._once(lambda: self._store.referrers(self._at(image), digest), "referrers", digest)

    def _at(self, image: Image) -> Reference:
        return replace(t.cast(Reference, image), host=self._place.host, repository=self._place.repository)

    def _once(self, read: t.Callable[[], _Result], *what: str) -> _Result:
        if what not in self._known:
            self._known[what] = read()
        return t.cast(_Result, self._known[what])


def signed_by(
    store: Store[Image], image: Reference, authority: Authority, *,
    formats: tuple[Format, ...], names: ReferenceCheck, denied: frozenset[str],
) -> list[Reason]:
    """Return why an image does not count as signed by an authority; nothing if it does."""
    try:
        trusted = _trusted(authority)
        if not trusted:
            return [_not_evaluated(image, f"authority {authority.name}", "it is keyless")]
        wanted = authorities.demand(
            trusted, formats=formats, denied_key_ids=denied, docker_reference_check=names, evidence=_evidence(authority)
        )
    except HallmarkError as exc:
        return [exc.as_reason()]
    verdict = verify.verify_image(store, str(image), wanted)
    return list(verdict.reasons) if not verdict.verified else []


def has_bundle(store: Store[Image], image: Reference) -> bool:
    """Say whether any bundle is attached to an image, whatever it says and whoever made it."""
    found = candidates.find(store, image, t.cast(str, image.digest), "bundle")
    return any(True for _one in found)


def has_bundle_only(store: Store[Image], image: Reference) -> bool:
    """Say whether signatures are there as bundles, and none in the old format."""
    try:
        old = candidates.find(store, image, t.cast(str, image.digest), "sig")
        return not any(True for _one in old) and has_bundle(store, image)
    except HallmarkError:
        return False


def attested(store: Store[Image], image: Reference, wanted: Attestation) -> list[Reason]:
    """Return why an image lacks an attestation in the old format; nothing if it has it."""
    keys = [key for authority in wanted.any_of for key in authority.keys]
    if any(not one.keys or one.log or one.timestamp for one in wanted.any_of):
        return [_not_evaluated(
            image, wanted.predicate_type, "somebody else than bare keys may have made the attestation"
        )]
    try:
        for layer in _attestation_layers(store, image):
            if _says(store, image, layer, wanted, keys):
                return []
    except HallmarkError as exc:
        return [exc.as_reason()]
    return [Reason(
        "attestation_missing", f"{image}: could not find an attestation of type {wanted.predicate_type} by "
        f"{' or '.join(authority.name for authority in wanted.any_of)}. Have it made.", str(image),
    )]


def _attestation_layers(store: Store[Image], image: Reference) -> t.Iterator[Descriptor]:
    tag = candidates.signature_tag(t.cast(str, image.digest)).removesuffix(".sig") + ".att"
    manifest = store.find_manifest(image.tagged(tag))
    return candidates.within_budget(candidates.layers_of(manifest, image), image)


def _says(
    store: Store[Image], image: Reference, layer: Descriptor, wanted: Attestation, keys: list[pem.PublicKey]
) -> bool:
    """Say whether a layer is the attestation; what cannot be read, or is signed by others, is another one."""
    where = f"{image.name}@{layer.digest}"
    try:
        content = store.blob(image, layer, limit=bundle.MAX_SIZE)
        envelope = dsse.decode(_strict_json.loads(content, what="envelope", where=where))
        if not any(_made(envelope, key) for key in keys):
            return False
        top = _strict_json.loads(envelope.payload, what="statement", where=where)
        algorithm, _colon, value = t.cast(str, image.digest).partition(":")
        subjects = [one.strings("digest") for one in top.objects("subject")]
        return top.string("predicateType") == wanted.predicate_type and any(
            one.get(algorithm) == value for one in subjects
        )
    except HallmarkError:
        return False


def _made(envelope: dsse.Envelope, key: pem.PublicKey) -> bool:
    return algorithms.verifies(
        key.key, signature=envelope.signature, message=envelope.signed_bytes, schemes=(_SCHEMES[key.algorithm.family],)
    )


def _trusted(authority: Authority) -> list[authorities.Authority]:
    """Return what verifies for an authority, any of which is enough; nothing for one that is keyless."""
    identity = authority.identity
    if isinstance(identity, Keys):
        return [
            authorities.Authority(
                f"{authority.name}/{number}", key,
                signature_algorithm=identity.signature_algorithm or _SCHEMES[key.algorithm.family],
            )
            for number, key in enumerate(identity.keys)
        ]
    if isinstance(identity, Certified):
        from . import vouching

        return [authorities.Authority(authority.name, issuer=vouching.issuer(identity))]
    return []


def _evidence(authority: Authority) -> Evidence | None:
    """Return the log and the timestamps that an authority demands; of certificates, a timestamp tells the time."""
    if not authority.log and not authority.timestamp:
        return None
    from . import vouching

    return vouching.evidence(authority)


def _not_evaluated(image: Reference, what: str, why: str) -> Reason:
    return Reason(
        "not_evaluated", f"{image}: could not say whether {what} is satisfied: {why}. Ask the enforcer itself.",
        str(image),
    )
