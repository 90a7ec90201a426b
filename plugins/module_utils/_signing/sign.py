# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Making signatures present on images: idempotent, and read back after each write."""

from __future__ import annotations

import datetime
import typing as t
from contextlib import suppress
from dataclasses import dataclass, field, replace

from .._errors import HallmarkError, LibraryError, Reason, RegistryError, VerificationError
from .._keys import algorithms
from .._keys.pem import PublicKey
from .._keys.signers.protocol import Signer
from .._oci import reference as references
from .._oci import shared_tag
from .._oci.content import descendants
from .._oci.manifest import Descriptor
from .._oci.reference import Image
from .._oci.shared_tag import Written
from . import attachment, bundle, dsse, messages, payload, referring, statement
from . import candidate as candidates
from .candidate import Candidate
from .signature import FORMATS, Format, Signature

if t.TYPE_CHECKING:
    from .._oci.store import Store
    from .material import Material, SignerCertificate
    from .notary import Notary


@dataclass(frozen=True)
class Wish:
    """What signatures there shall be: by these signers, in these formats, with these annotations."""

    signers: tuple[Signer, ...]
    formats: tuple[Format, ...] = FORMATS
    annotations: t.Mapping[str, str] = field(default_factory=dict)
    recursive: bool = True
    docker_reference: str | None = None
    dry_run: bool = False
    signature_algorithm: str | None = None
    # What is attached beside the signatures: certificates by key id, and what services say of them.
    certificates: t.Mapping[str, SignerCertificate] = field(default_factory=dict)
    notary: Notary | None = None

    def __post_init__(self) -> None:
        """Refuse what would be vacuous, or done twice. Raises VerificationError (input_invalid)."""
        key_ids = {signer.public.key_id for signer in self.signers}
        for signer in self.signers if self.signature_algorithm else ():
            algorithms.scheme_for(signer.public.algorithm, t.cast(str, self.signature_algorithm), where="signers")
        if not self.signers or not self.formats or len(key_ids) != len(self.signers):
            raise invalid("signers", "there must be one or more, each with a key of its own, and a format")
        try:
            statement.encode("sha256:", self.annotations)
        except ValueError as exc:
            raise invalid("annotations", "they are not all text") from exc

    def scheme(self, signer: Signer, format: Format) -> str:
        """Return the scheme to sign in: the one asked for, else that which most readers of the format try.

        Every cosign reads C(.sig) by keys on larger curves with SHA-256; for bundles, the hash of the curve's size is
        what sigstore's algorithm registry says.
        """
        if self.signature_algorithm:
            return self.signature_algorithm
        # Rekor takes the payloads of C(.sig) with the curve's hash only, and envelopes with SHA-256 only.
        with_sha256: Format = "bundle" if self.notary and self.notary.log else "sig"
        algorithm = signer.public.algorithm
        is_short = format == with_sha256 and algorithm.family == "ec"
        # A service may have bound the key to another one.
        return signer.answers_in("ecdsa-sha256" if is_short else algorithm.schemes[0])

    def schemes(self, signer: Signer, format: Format) -> tuple[str, ...] | None:
        """Return the schemes that a signature by C(signer) may be in; None for all that its key usually signs in."""
        if signer.chooses_scheme or self.signature_algorithm:
            return (self.scheme(signer, format),)
        return None

    def messages(self, image: Image, digest: str) -> dict[Format, bytes]:
        """Return the exact bytes that are signed for one digest, by format."""
        return messages.of(
            image, digest, formats=self.formats, annotations=self.annotations, docker_reference=self.docker_reference
        )

    @property
    def is_plain(self) -> bool:
        """Whether nothing is attached beside the signatures."""
        return not self.certificates and self.notary is None


@dataclass(frozen=True)
class Outcome:
    """What happened to one image: the signatures that are (or were) there, and whether anything changed."""

    image: str
    reference: str | None = None
    digest: str | None = None
    changed: bool = False
    signatures: tuple[Signature, ...] = ()
    reasons: tuple[Reason, ...] = ()
    warnings: tuple[Reason, ...] = ()
    # What must be read once more before it is believed in: see C(settle()).
    written: tuple[Written, ...] = field(default=(), repr=False)

    @property
    def failed(self) -> bool:
        """Whether the image was not brought into the wanted state."""
        return bool(self.reasons)

    def as_dict(self) -> dict[str, t.Any]:
        """Return the shape of the module contract."""
        return {
            "image": self.image, "reference": self.reference, "digest": self.digest, "changed": self.changed,
            "failed": self.failed,
            "reasons": [reason.as_dict() for reason in self.reasons],
            "warnings": [reason.as_dict() for reason in self.warnings],
            "signatures": [signature.as_dict() for signature in self.signatures],
        }


@dataclass(frozen=True)
class Present:
    """The signatures of one digest in one format, the digests of those that cannot be read, and of all in order."""

    candidates: list[Candidate]
    unreadable: list[str]
    digests: list[str]


class Work:
    """One image under way: what was done so far survives an error in the middle."""

    def __init__(self, store: Store[Image], image: str) -> None:
        self.store = store
        self.image = image
        self.resolved: Image | None = None
        self.signatures: list[Signature] = []
        self.warnings: list[Reason] = []
        self.written: list[Written] = []
        self.changed = False

    def outcome(self, error: HallmarkError | None = None) -> Outcome:
        """Return what was done so far, with the error that ended it, if one did."""
        return Outcome(
            image=self.image,
            reference=str(self.resolved) if self.resolved else None,
            digest=self.resolved.digest if self.resolved else None,
            changed=self.changed,
            signatures=tuple(self.signatures),
            reasons=(error.as_reason(),) if error else (),
            warnings=tuple(self.warnings),
            written=tuple(self.written),
        )

    def subjects(self, recursive: bool) -> tuple[Image, list[Descriptor]]:
        """Resolve the image once; return it at its digest, and the manifests that are meant."""
        asked = references.parse_image(self.image)
        manifest = self.store.manifest(asked)
        self.resolved = asked.at(manifest.digest)
        below = descendants(self.store, asked, manifest) if recursive else ()
        return self.resolved, [manifest.descriptor(), *below]

    def read(self, image: Image, digest: str, format: Format) -> Present:
        """Return the signatures that are there.

        Raises RegistryError where the registry, not the signature, is to blame: signing on could double one.
        """
        found = list(candidates.find(self.store, image, digest, format, fetches_all=True))
        for one in found:
            if isinstance(one, RegistryError) and one.code in ("registry_error", "unauthorized"):
                raise one
        return Present(
            [one for one in found if isinstance(one, Candidate)],
            [one.signature or "" for one in found if isinstance(one, HallmarkError)],
            [one.digest if isinstance(one, Candidate) else one.signature or "" for one in found],
        )

    def wrote(self, written: Written | None) -> None:
        """Take down a change that wants to be settled."""
        if written is not None:
            self.written.append(written)

    def note(self, signatures: t.Sequence[Signature]) -> None:
        """Take down what is there now; called after a write succeeded, never before."""
        self.changed = self.changed or any(signature.created for signature in signatures)
        self.signatures.extend(signatures)


def sign_image(store: Store[Image], image: str, wish: Wish) -> Outcome:
    """Make the wished signatures present on one image, and on the children of an index if asked.

    Never raises for an image that fails: the outcome carries the reason, and what was done before it.
    """
    work = Work(store, image)
    try:
        resolved, subjects = work.subjects(wish.recursive)
        for signer in wish.signers:
            signer.prepare([
                message for subject in subjects for message in wish.messages(resolved, subject.digest).values()
            ])
        for subject in subjects:
            # From reading to writing: the same digest may be in the list twice, or signed by another process.
            with store.exclusive(resolved, subject.digest):
                present = {format: work.read(resolved, subject.digest, format) for format in FORMATS}
                if "sig" in wish.formats:
                    _sign_sig(work, resolved, subject, wish, present["sig"])
                if "bundle" in wish.formats:
                    _sign_bundle(work, resolved, subject, wish, present["bundle"].candidates)
            _warn_of_hidden(work, resolved, subject.digest, wish, present)
        _warn_of_readers(work, resolved, wish)
    except HallmarkError as exc:
        return work.outcome(exc)
    return work.outcome()


def settle(store: Store[Image], outcome: Outcome) -> Outcome:
    """See after a while that what was written is still there, and put back what a writer on another host took away.

    Images that were worked on together share the waiting. Never raises: what cannot be confirmed is a reason, and
    nothing that was made is told then.
    """
    try:
        shared_tag.settle(store, outcome.written)
    except HallmarkError as exc:
        found = tuple(one for one in outcome.signatures if not one.created)
        return replace(outcome, reasons=(*outcome.reasons, exc.as_reason()), signatures=found)
    return outcome


def _sign_sig(work: Work, image: Image, subject: Descriptor, wish: Wish, present: Present) -> None:
    content = wish.messages(image, subject.digest)["sig"]
    claim = payload.decode(content, where=image.name)
    layers: list[attachment.Layer] = []
    notes: list[Signature] = []
    for signer in wish.signers:
        existing = next((
            one for one in present.candidates if _is_like(one, signer, wish, image) and _claims(one, claim)
        ), None)
        if existing is None:
            # In a dry run nobody is asked: a service or program may count and record what it signs.
            signature = b"" if wish.dry_run else signer.sign(content, scheme=wish.scheme(signer, "sig"))
            extra = _material(wish, signer, signature, content, image)
            layers.append(attachment.sig_layer(
                content, signature, signer.public.key_id, extra.as_annotations() if extra else None
            ))
        digest = existing.digest if existing else layers[-1].descriptor.digest
        notes.append(_signature(signer, "sig", digest, subject, wish, created=existing is None))
    if layers and not wish.dry_run:
        work.wrote(attachment.add_sig(work.store, image, subject.digest, layers, present=present.digests))
    work.note(notes)


def _sign_bundle(
    work: Work, image: Image, subject: Descriptor, wish: Wish, present: t.Sequence[Candidate]
) -> None:
    content = statement.encode(subject.digest, wish.annotations)
    for signer in wish.signers:
        existing = next((
            one for one in present
            if _is_like(one, signer, wish, image) and _states(one, subject.digest, wish.annotations)
        ), None)
        digest = existing.digest if existing else None
        if existing is None and not wish.dry_run:
            message = dsse.pae(content)
            envelope = dsse.Envelope(content, signer.sign(message, scheme=wish.scheme(signer, "bundle")))
            extra = _material(wish, signer, envelope.signature, message, image, envelope)
            data = bundle.encode(envelope, key_id=signer.public.key_id, material=extra.as_bundle() if extra else None)
            digest, written = referring.add_bundle(
                work.store, image, subject, data, created=_now(), listed=len(present)
            )
            work.wrote(written)
        work.note([_signature(signer, "bundle", digest, subject, wish, created=existing is None)])


def _material(
    wish: Wish, signer: Signer, signature: bytes, message: bytes, image: Image, envelope: dsse.Envelope | None = None
) -> Material | None:
    """Return what is attached beside a signature, or None."""
    if wish.is_plain or wish.dry_run:
        return None
    from . import accompany

    return accompany.material(wish, signer.public, signature, message, envelope, where=image.name)


def _is_like(candidate: Candidate, signer: Signer, wish: Wish, image: Image) -> bool:
    """Say whether a signature is one that would be made now: key, scheme, and what is attached to it."""
    if not _is_by(candidate, signer.public, wish.schemes(signer, candidate.format)):
        return False
    if wish.is_plain:
        # In a bundle, a certificate says that it is not to be verified with the bare key.
        return candidate.format == "sig" or not candidate.has_certificate
    from . import accompany

    return accompany.has(candidate, wish, signer.public, where=image.name)


def _signature(
    signer: Signer, format: Format, digest: str | None, subject: Descriptor, wish: Wish, *, created: bool
) -> Signature:
    return Signature(
        format=format, digest=digest, subject=subject.digest, key_id=signer.public.key_id,
        algorithm=signer.public.algorithm.name, annotations=dict(wish.annotations), created=created,
    )


def _is_by(candidate: Candidate, public: PublicKey, schemes: tuple[str, ...] | None = None) -> bool:
    return algorithms.verifies(
        public.key, signature=candidate.signature, message=candidate.signed_bytes, schemes=schemes
    )


def _claims(candidate: Candidate, wanted: payload.Payload) -> bool:
    """Say whether a payload makes the same claim, whatever its spelling."""
    try:
        found = payload.decode(candidate.content, where=candidate.digest)
    except HallmarkError:
        return False
    same_name = found.docker_reference == wanted.docker_reference or _same_reference(
        found.docker_reference, wanted.docker_reference
    )
    return same_name and (found.digest, dict(found.annotations)) == (wanted.digest, dict(wanted.annotations))


def _same_reference(one: str, other: str) -> bool:
    """Say whether two texts name the same repository, and the same tag or both none."""
    tags = [references.split_tag(text.partition("@")[0])[1] for text in (one, other)]
    return references.same_name(one, other) and tags[0] == tags[1]


def _states(candidate: Candidate, digest: str, annotations: t.Mapping[str, str]) -> bool:
    try:
        subjects = statement.decode(candidate.content, where=candidate.digest)
    except HallmarkError:
        return False
    return any(subject.is_of(digest) and dict(subject.annotations) == dict(annotations) for subject in subjects)


def _warn_of_hidden(
    work: Work, image: Image, digest: str, wish: Wish, present: t.Mapping[Format, Present]
) -> None:
    """Warn when signatures in the old format are hidden from cosign 3 by a bundle.

    cosign 3 and Kyverno's ImageValidatingPolicy look at no C(.sig) once an image has any bundle. The old
    format names no key: a signature whose key is not known is taken to be covered by a bundle of a foreign key.
    """
    known = [signer.public for signer in wish.signers]
    bundled = {key_id_of(one, known) for one in present["bundle"].candidates}
    signed = [key_id_of(one, known) for one in present["sig"].candidates]
    bundled |= {signer.key_id for signer in known} if "bundle" in wish.formats else set()
    signed += [signer.key_id for signer in known] if "sig" in wish.formats else []
    uncovered = len({key_id for key_id in signed if key_id is not None} - bundled)
    foreign_bundles = len(bundled - set(signed) - {signer.key_id for signer in known})
    uncovered += max(0, signed.count(None) - foreign_bundles)
    # cosign 3 reads bundles that we refuse, and is content with attestations.
    if (bundled or present["bundle"].unreadable) and uncovered:
        where = f"{image.name}@{digest}"
        work.warnings.append(Reason(
            "bundle_hides_sig",
            f"{where}: it has bundles, so cosign 3 and Kyverno's ImageValidatingPolicy no longer look at its .sig "
            f"signatures, and the keys of {uncovered} of them have no bundle. Sign with those keys in format bundle.",
            where,
        ))


def _warn_of_readers(work: Work, image: Image, wish: Wish) -> None:
    """Warn of signatures that some readers do not take."""
    usual = ("ecdsa-sha256", "rsa-pkcs1v15-sha256")
    for signer in wish.signers:
        for format in wish.formats:
            scheme = wish.scheme(signer, format)
            certified = signer.public.key_id in wish.certificates
            if scheme in usual and not certified:
                continue
            from . import readers

            is_logged = wish.notary is not None and wish.notary.log is not None
            work.warnings += readers.warnings(
                image, signer.public, scheme, format, with_certificate=certified, is_logged=is_logged
            )


def key_id_of(candidate: Candidate, known: t.Sequence[PublicKey]) -> str | None:
    """Return the key id of a signature: proven by a known key, else as hinted, else None."""
    for public in known:
        # Whoever made it may have chosen another scheme than the usual ones. Without PyNaCl nobody knows whose an
        # Ed25519 signature is that is not pure.
        with suppress(LibraryError):
            if _is_by(candidate, public, algorithms.able(public.algorithm)):
                return public.key_id
    # A hint that names a key we know, and that key did not make it, is a lie.
    if candidate.hinted_key_id in {public.key_id for public in known}:
        return None
    return candidate.hinted_key_id


def invalid(where: str, cause: str) -> VerificationError:
    """Return the error for an option that makes no sense."""
    return VerificationError(
        code="input_invalid", object=where, attempt="sign or remove anything", cause=cause, advice="Mend the option.",
    )


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
