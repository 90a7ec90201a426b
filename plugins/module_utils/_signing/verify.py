# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Deciding whether an image is signed by those it must be signed by.

C(verify_image) and C(_judge) are the order of checks; everything they call does one of them.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, replace

from .._errors import HallmarkError, LibraryError, Reason, VerificationError
from .._keys import algorithms
from .._oci import reference as references
from .._oci.content import descendants
from .._oci.reference import Image
from . import candidate as candidates
from . import payload
from .authority import Authority, Demand
from .candidate import Candidate
from .signature import Signature

if t.TYPE_CHECKING:
    import datetime

    from .._keys.pem import PublicKey
    from .._oci.store import Store
    from .._reason_codes import ReasonCode
    from . import statement


class Signer(t.NamedTuple):
    """Whose key made a signature, and the authorities it may be good for.

    With C(is_certified), the key is that of a certificate for which the authorities' issuers have yet to vouch.
    """

    public: PublicKey
    authorities: tuple[Authority, ...]
    is_certified: bool


@dataclass(frozen=True)
class Accepted:
    """A signature that passed all checks, and the names of the authorities it is good for."""

    authorities: tuple[str, ...]
    signature: Signature


@dataclass(frozen=True)
class Verification:
    """The verdict on one image. C(verified) is true only if the whole demand was met."""

    image: str
    reference: str | None
    digest: str | None
    verified: bool
    signatures: tuple[Signature, ...] = ()
    authorities: tuple[str, ...] = ()
    reasons: tuple[Reason, ...] = ()
    warnings: tuple[Reason, ...] = ()

    def as_dict(self) -> dict[str, t.Any]:
        """Return the shape of the module contract."""
        return {
            "image": self.image, "reference": self.reference, "digest": self.digest, "verified": self.verified,
            "signatures": [signature.as_dict() for signature in self.signatures],
            "authorities": list(self.authorities),
            "reasons": [reason.as_dict() for reason in self.reasons],
            "warnings": [reason.as_dict() for reason in self.warnings],
        }


def verify_image(store: Store[Image], image: str, demand: Demand) -> Verification:
    """Verify one image reference: resolve it once, then judge the digest, and its children if asked.

    Never raises for an image that fails: the verdict carries the reasons.
    """
    resolved: Image | None = None
    try:
        asked = references.parse_image(image)
        if asked.digest and not demand.recursive:
            resolved, subjects = asked.at(asked.digest), [asked.digest]
        else:
            manifest = store.manifest(asked)
            resolved = asked.at(manifest.digest)
            children = descendants(store, asked, manifest) if demand.recursive else ()
            subjects = [manifest.digest, *(child.digest for child in children)]
        verdicts = [_verify_digest(store, resolved, subject, demand) for subject in dict.fromkeys(subjects)]
    except HallmarkError as exc:
        name = str(resolved) if resolved else None
        return Verification(image, name, resolved.digest if resolved else None, False, reasons=(exc.as_reason(),))
    return _combine(image, resolved, verdicts)


def _combine(image: str, resolved: Image, verdicts: t.Sequence[Verification]) -> Verification:
    """Join the verdicts on an index and its children: all must hold. The authorities are those of every part."""
    common = set(verdicts[0].authorities).intersection(*(verdict.authorities for verdict in verdicts))
    return Verification(
        image=image,
        reference=str(resolved),
        digest=resolved.digest,
        verified=all(verdict.verified for verdict in verdicts),
        signatures=tuple(signature for verdict in verdicts for signature in verdict.signatures),
        authorities=tuple(name for name in verdicts[0].authorities if name in common),
        reasons=tuple(reason for verdict in verdicts for reason in verdict.reasons),
        warnings=tuple(reason for verdict in verdicts for reason in verdict.warnings),
    )


def _verify_digest(store: Store[Image], image: Image, digest: str, demand: Demand) -> Verification:
    """Look at the signatures of one digest, format by format, until enough authorities are found."""
    accepted: list[Accepted] = []
    named: dict[str, Signature] = {}
    # Of an index and its children all authorities are looked for: only those of every part signed the whole.
    enough = len({one.name for one in demand.authorities}) if demand.recursive else demand.threshold
    reasons: list[Reason] = []
    warnings: list[Reason] = []
    for format in demand.formats:
        try:
            for found in candidates.find(store, image, digest, format):
                if isinstance(found, HallmarkError):
                    reasons.append(found.as_reason())
                    continue
                try:
                    accepted.append(_judge(found, image=image, digest=digest, demand=demand, warnings=warnings))
                    named = _name(accepted, demand)
                except HallmarkError as exc:
                    reasons.append(replace(exc.as_reason(), signature=found.digest))
                if len(named) >= enough:
                    break
        except HallmarkError as exc:
            reasons.append(exc.as_reason())
        if len(named) >= enough:
            break
    verified = len(named) >= demand.threshold
    if not verified:
        # Loaded where something is missing: Ansible compiles what is imported for every task.
        from .shortfall import shortfall

        reasons += shortfall(store, image, digest, demand, found=len(named), reasons=reasons)
    return Verification(
        image=str(image), reference=str(image.at(digest)), digest=digest, verified=verified,
        signatures=tuple(named.values()), authorities=tuple(named),
        reasons=() if verified else tuple(reasons), warnings=tuple(warnings),
    )


def _name(accepted: t.Sequence[Accepted], demand: Demand) -> dict[str, Signature]:
    """Give authorities the signatures that are good for them, first come first served."""
    if any(authority.issuer for authority in demand.authorities):
        # A certificate may be good for several authorities, and a key be trusted both as such and by its certificate.
        from .matching import match

        return match([(one.authorities, one.signature) for one in accepted])
    named: dict[str, Signature] = {}
    for one in accepted:
        named.setdefault(one.authorities[0], replace(one.signature, authority=one.authorities[0]))
    return named


def _judge(
    candidate: Candidate, *, image: Image, digest: str, demand: Demand, warnings: list[Reason]
) -> Accepted:
    """Apply the checks to one candidate, in order; raise HallmarkError with the code of the first that fails.

    1. the signature over the raw bytes, by a trusted key or by the certificate that came with it;
    2. denied keys;
    3. log entries and timestamps: that they are there if demanded, and that they are about this very signature;
    4. of a certificate: its path to a trusted issuer at each proven time (now, if none is), its usage, its name;
    5. the claim, parsed only now: its type, its digest, its annotations, its name.
    """
    where = f"{image.name}@{digest}"
    signer = _find_signer(candidate, demand, where)
    _refuse_denied([signer.public.key_id], demand, where)
    times = _find_times(candidate, signer, demand, where)
    authorities = signer.authorities
    if signer.is_certified:
        from . import certified

        authorities = certified.vouching(candidate, authorities, denied=demand.denied_key_ids, times=times, where=where)
    if candidate.format == "sig":
        claim = payload.decode(candidate.content, where=where)
        _require_same_digest(claim.digest == digest, where)
        annotations = claim.annotations
    else:
        from . import statement

        subjects = statement.decode(candidate.content, where=where)
        of_image = [subject for subject in subjects if subject.is_of(digest)]
        _require_same_digest(bool(of_image), where)
        annotations = _first_with(of_image, demand.annotations)
    _require_annotations(annotations, demand.annotations, where)
    if candidate.format == "sig":
        _check_docker_reference(claim, image, demand, candidate, warnings)
    return Accepted(tuple(authority.name for authority in authorities), Signature(
        format=candidate.format, digest=candidate.digest, subject=digest, key_id=signer.public.key_id,
        algorithm=signer.public.algorithm.name, annotations=dict(annotations),
    ))


def _find_signer(candidate: Candidate, demand: Demand, where: str) -> Signer:
    """Return whose key made the signature over the raw bytes; a certificate's key is not trusted by that yet."""
    # As for cosign, a certificate in a bundle says that no bare key is meant.
    by_key = () if candidate.format == "bundle" and candidate.has_certificate else demand.authorities
    failure: HallmarkError | None = None
    # The hint decides who is tried first, and nothing else.
    for authority in sorted(by_key, key=lambda one: not one.public or one.public.key_id != candidate.hinted_key_id):
        try:
            if authority.public and _made(candidate, authority.public, authority.schemes):
                return Signer(authority.public, (authority,), is_certified=False)
        except LibraryError as exc:
            # Others may still be found without that library.
            failure = exc
    if candidate.has_certificate:
        issuers = tuple(authority for authority in demand.authorities if authority.issuer)
        if not issuers and not by_key:
            raise _refused("certificate_untrusted", where, "it was made with a certificate, and only keys are trusted")
        if issuers:
            from . import certified

            public = certified.claimed_key(candidate, where)
            authorities = tuple(one for one in issuers if _made(candidate, public, one.schemes))
            if authorities:
                return Signer(public, authorities, is_certified=True)
    if failure is not None:
        raise failure
    if candidate.hinted_key_id in demand.denied_key_ids:
        raise _refused("key_denied", where, f"it claims to be by the denied key {candidate.hinted_key_id}")
    raise _refused("signature_invalid", where, "no trusted key made it, or it is broken")


def _made(candidate: Candidate, public: PublicKey, schemes: tuple[str, ...] | None) -> bool:
    return algorithms.verifies(
        public.key, signature=candidate.signature, message=candidate.signed_bytes, schemes=schemes
    )


def _refuse_denied(key_ids: t.Iterable[str], demand: Demand, where: str) -> None:
    for key_id in key_ids:
        if key_id in demand.denied_key_ids:
            raise _refused("key_denied", where, f"its key {key_id} is denied")


def _find_times(
    candidate: Candidate, signer: Signer, demand: Demand, where: str
) -> tuple[datetime.datetime, ...]:
    """Return the times at which the signature provenly was there; none if nothing that proves times is trusted."""
    if demand.evidence is None:
        return ()
    from . import evidence

    return evidence.times(candidate, signer.public, demand.evidence, where=where)


def _require_same_digest(same: bool, where: str) -> None:
    if not same:
        raise _refused("digest_mismatch", where, "it was made for another image")


def _first_with(subjects: t.Sequence[statement.Subject], wanted: t.Mapping[str, str]) -> t.Mapping[str, str]:
    """Return the annotations of the first subject that has all the wanted ones, else of the first one."""
    fitting = [subject for subject in subjects if wanted.items() <= subject.annotations.items()]
    return (fitting or list(subjects))[0].annotations


def _require_annotations(found: t.Mapping[str, str], wanted: t.Mapping[str, str], where: str) -> None:
    missing = sorted(name for name, value in wanted.items() if found.get(name) != value)
    if missing:
        raise _refused("annotation_mismatch", where, f"annotation {missing[0]!r} is missing or has another value")


def _check_docker_reference(
    claim: payload.Payload, image: Image, demand: Demand, candidate: Candidate, warnings: list[Reason]
) -> None:
    """Compare the name inside a payload with the image's; bundles carry no name."""
    if demand.docker_reference_check == "ignore" or references.same_name(claim.docker_reference, image.name):
        return
    if not image.signed_name and demand.docker_reference_check == "warn":
        # A layout has no name that a signature could be for.
        return
    cause = f"it was made for the name {claim.docker_reference[:200]!r}"
    if demand.docker_reference_check == "repository":
        raise _refused("reference_mismatch", image.name, cause)
    warnings.append(Reason(
        "reference_mismatch", f"{image.name}: a signature counts although {cause}. podman and CRI-O refuse it.",
        image.name, candidate.digest,
    ))


def _refused(code: ReasonCode, where: str, cause: str) -> VerificationError:
    return VerificationError(
        code=code, object=where, attempt="count a signature", cause=cause,
        advice="It does not count; others on the same image still may.",
    )
