# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From the certificate of a signer to a trusted root: RFC 5280 section 6, for code signing under a private authority.

As Go's C(x509.Certificate.Verify), and so cosign, sees it, and stricter where the two leave room: every certificate of
a path must be valid at the moment asked for, and name constraints that cannot be evaluated are violated. Neither
revocation lists nor OCSP are consulted, and certificate policies are not asked for. Deviations from Go:

- A leaf that is itself a root is refused: whoever trusts one key has a public key to name, not an issuer.
- Roots must have the CA flag (Go excuses version 1), keys are RSA from 2048 bits, Ed25519, or on P-256, P-384 or P-521
  (Go takes RSA from 1024 bits, and P-224), and a path has at most eight certificates.
- Policy constraints and critical distribution points are refused, as nothing here heeds them.
- Names that hold control characters are refused. Name constraints are those of RFC 5280 where Go permits more, and
  Go's where it excludes more; those on directory names are evaluated, not refused.
"""

from __future__ import annotations

import datetime
import ipaddress
import re
import typing as t
import unicodedata
from collections import deque

from .._errors import KeyFileError, VerificationError
from .._keys import certificate as facts
from .._keys import pem
from .._keys.fingerprint import spki_der
from .._libraries import optional

with optional():
    from cryptography import x509
    from cryptography.exceptions import InternalError, InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
    from cryptography.x509.oid import ExtensionOID, NameOID, SignatureAlgorithmOID

MAX_CERTIFICATES = 16
_MAX_SIZE = 64 * 1024
_MAX_DEPTH = 8
_MAX_CHECKS = 100
_MAX_COMPARISONS = 50_000
_HASHES = ("sha256", "sha384", "sha512")
_CURVES = ("secp256r1", "secp384r1", "secp521r1")
# Limits what policies are good for, and must be critical: it is never passed over.
_POLICY_CONSTRAINTS = "2.5.29.36"
_ANY_USAGE = "2.5.29.37.0"
# Extensions that are looked at here. Policies are among them because any policy will do.
_KNOWN = ("2.5.29.15", "2.5.29.17", "2.5.29.19", "2.5.29.30", "2.5.29.32", "2.5.29.37")
_DOTTED = re.compile(r"[0-2](\.(0|[1-9][0-9]*))+")
_HOST = re.compile(r"(\*\.)?([a-z0-9_-]+\.)*[a-z0-9_-]+")
_MAILBOX = re.compile(r"([A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+)@([^@]+)")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://([A-Za-z0-9._-]+)(:[0-9]*)?([/?#].*)?")
# The further a path gets in this order, the more its failure says.
_ORDER = ("certificate_untrusted", "certificate_expired", "eku_mismatch")

Path = tuple["x509.Certificate", ...]


def read_certificates(data: bytes, *, where: str) -> tuple[x509.Certificate, ...]:
    """Read certificates from PEM. Raises KeyFileError (malformed): none, more than 16, something else, unparsable."""
    blocks = pem.split(data, where=where, what="certificates")
    if any(block.label != "CERTIFICATE" for block in blocks):
        raise _unreadable(where, "there is something else than certificates")
    if len(blocks) > MAX_CERTIFICATES:
        raise _unreadable(where, f"there are {len(blocks)} certificates, more than {MAX_CERTIFICATES}")
    return tuple(_load(x509.load_pem_x509_certificate, block.text, where) for block in blocks)


def read_leaf_der(data: bytes, *, where: str) -> x509.Certificate:
    """Read one certificate from DER. Raises KeyFileError (malformed), also for bytes behind it."""
    return _load(x509.load_der_x509_certificate, data, where)


def _load(load: t.Callable[[bytes], x509.Certificate], data: bytes, where: str) -> x509.Certificate:
    if len(data) > _MAX_SIZE:
        raise _unreadable(where, f"a certificate is larger than {_MAX_SIZE} bytes")
    try:
        certificate = load(data)
        # Looking at a part is what parses it: whatever can be raised is raised here, and nowhere else.
        for part in ("subject", "issuer", "extensions", "signature_hash_algorithm"):
            getattr(certificate, part)
        certificate.public_key()
    except facts.UNPARSABLE as exc:
        raise _unreadable(where, f"a certificate cannot be parsed ({type(exc).__name__})") from exc
    return certificate


def usage_oid(eku: str, *, where: str) -> str:
    """Return the OID of an extended key usage given by name or OID. Raises VerificationError (input_invalid)."""
    for oid, name in facts.USAGES.items():
        if eku == name:
            return oid
    if not _DOTTED.fullmatch(eku):
        raise VerificationError(
            code="input_invalid", object=where, attempt=f"ask for the usage {eku[:100]!r}",
            cause="it is neither a name that is known nor an object identifier",
            advice=f"Give one of {', '.join(facts.USAGES.values())}, or a dotted OID.",
        )
    return eku


def find_path(
    leaf: x509.Certificate,
    *,
    intermediates: t.Sequence[x509.Certificate],
    roots: t.Sequence[x509.Certificate],
    at: datetime.datetime,
    eku: str = "codeSigning",
    where: str,
) -> Path:
    """Return a path from C(leaf) to one of C(roots), all of which is valid for a usage at a moment.

    All certificates come from C(read_certificates()) or C(read_leaf_der()), which parse them whole; C(intermediates)
    are not trusted. C(at) is aware. Usage anyExtendedKeyUsage is satisfied by every certificate.
    Raises VerificationError: certificate_untrusted, certificate_expired, eku_mismatch (that of the path that got
    furthest), or input_invalid for C(eku).
    """
    usage = usage_oid(eku, where=where)
    if leaf in roots:
        raise _refused(
            "certificate_untrusted", where, "it is itself one of the roots, which vouch for others",
            "To trust one key, give its public key.",
        )
    failures: list[VerificationError] = []
    for path in _paths(leaf, roots, intermediates, failures, where):
        try:
            _require_valid(path, at, usage, where)
        except VerificationError as exc:
            failures.append(exc)
        else:
            return path
    failures = failures or [_refused(
        "certificate_untrusted", where,
        f"none of the trusted roots issued {_name(leaf)}, directly or through at most {_MAX_DEPTH - 2} others",
        "Give the root of its authority, and the intermediates between them.",
    )]
    raise max(failures, key=lambda failure: _ORDER.index(failure.code))


def _paths(
    leaf: x509.Certificate, roots: t.Sequence[x509.Certificate], intermediates: t.Sequence[x509.Certificate],
    failures: list[VerificationError], where: str,
) -> t.Iterator[Path]:
    """Yield paths of certificates that signed each other, the shortest first; add to C(failures) why some end.

    Nothing but the number of signatures checked bounds the search in a web of cross-signed authorities.
    """
    candidates = tuple(dict.fromkeys((*roots, *intermediates)))
    pending: deque[Path] = deque([(leaf,)])
    checks = 0
    while pending:
        path = pending.popleft()
        try:
            _require_sound(path[-1], where, is_root=False)
        except VerificationError as exc:
            failures.append(exc)
            continue
        for upper in candidates:
            if upper in path or upper.subject != path[-1].issuer:
                continue
            checks += 1
            if checks > _MAX_CHECKS:
                failures.append(_refused(
                    "certificate_untrusted", where, f"no valid path was found by checking {_MAX_CHECKS} signatures"
                ))
                return
            if not _has_signed(upper, path[-1]):
                continue
            if upper in roots:
                yield (*path, upper)
            elif len(path) + 1 < _MAX_DEPTH:
                pending.append((*path, upper))


def _has_signed(upper: x509.Certificate, lower: x509.Certificate) -> bool:
    try:
        lower.verify_directly_issued_by(upper)
        if lower.signature_algorithm_oid == SignatureAlgorithmOID.RSASSA_PSS:
            # Mask and salt must be of the hash's kind and size, which the library leaves open and Go does not.
            digest = t.cast(t.Any, lower.signature_hash_algorithm)
            t.cast("rsa.RSAPublicKey", upper.public_key()).verify(
                lower.signature, lower.tbs_certificate_bytes,
                padding.PSS(mgf=padding.MGF1(digest), salt_length=padding.PSS.DIGEST_LENGTH), digest,
            )
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, InternalError):
        return False
    return True


def _require_valid(path: Path, at: datetime.datetime, usage: str, where: str) -> None:
    """Check a path whose signatures were verified; only the last certificate has not been looked at at all."""
    _require_sound(path[-1], where, is_root=True)
    for depth, certificate in enumerate(path):
        if depth:
            _require_authority(certificate, depth - 1, where)
            _require_allowed_names(certificate, path[:depth], where)
    for certificate in path:
        _require_time(certificate, at, where)
    for certificate in path:
        _require_usage(certificate, usage, where)


def _require_sound(certificate: x509.Certificate, where: str, *, is_root: bool) -> None:
    """Refuse a certificate whatever its place: weak, of unknown demands, with names that deceive.

    The signature on a root is not checked, so its algorithm does not matter.
    """
    fault = _fault_of_key(certificate) or ("" if is_root else _fault_of_signature(certificate))
    for extension in certificate.extensions:
        oid = extension.oid.dotted_string
        if oid == _POLICY_CONSTRAINTS or (extension.critical and oid not in _KNOWN):
            fault = f"the extension {oid}, which must be heeded, is not known"
    if not all(str(name.value).isprintable() for name in _alternative_names(certificate)):
        fault = "a name has control characters"
    if fault:
        raise _refused("certificate_untrusted", where, f"{_name(certificate)}: {fault}")


def _fault_of_key(certificate: x509.Certificate) -> str:
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        if key.key_size < 2048 or numbers.e < 3 or numbers.e % 2 == 0:
            return f"the RSA key of {key.key_size} bits with exponent {numbers.e} is weak"
    elif isinstance(key, ec.EllipticCurvePublicKey):
        if key.curve.name not in _CURVES:
            return f"the key is on the curve {key.curve.name}"
    elif not isinstance(key, ed25519.Ed25519PublicKey):
        return "the key is of a kind that is not used"
    # Something is lost where a restriction to PSS, or curve parameters, were: what is left is not what was certified.
    return "" if spki_der(key) in certificate.tbs_certificate_bytes else "the key is restricted, or oddly encoded"


def _fault_of_signature(certificate: x509.Certificate) -> str:
    digest = certificate.signature_hash_algorithm
    if certificate.signature_algorithm_oid == SignatureAlgorithmOID.ED25519 or (digest and digest.name in _HASHES):
        return ""
    return f"the signature is made with {digest.name if digest else 'an algorithm that is not used'}"


def _require_authority(certificate: x509.Certificate, below: int, where: str) -> None:
    """Refuse an issuer that may not issue, with C(below) others between it and the leaf."""
    constraints = facts.extension(certificate, ExtensionOID.BASIC_CONSTRAINTS)
    usage = facts.extension(certificate, ExtensionOID.KEY_USAGE)
    if constraints is None or not constraints.ca:
        raise _refused("certificate_untrusted", where, f"{_name(certificate)} is not that of an authority")
    if constraints.path_length is not None and below > constraints.path_length:
        raise _refused(
            "certificate_untrusted", where,
            f"{_name(certificate)} allows {constraints.path_length} others below it, not {below}",
        )
    if usage is not None and not usage.key_cert_sign:
        raise _refused("certificate_untrusted", where, f"the key usage of {_name(certificate)} lacks keyCertSign")


def _require_time(certificate: x509.Certificate, at: datetime.datetime, where: str) -> None:
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not start <= at <= end:
        raise _refused(
            "certificate_expired", where,
            f"at {at.isoformat()}, {_name(certificate)} is {'not yet valid' if at < start else 'expired'}:"
            f" it is valid from {start.isoformat()} to {end.isoformat()}",
            "Sign with a certificate that is valid, or with a timestamp from the time when it was.",
        )


def _require_usage(certificate: x509.Certificate, usage: str, where: str) -> None:
    """Refuse a certificate that is limited to other usages; what limits an issuer limits all below it."""
    usages = facts.extension(certificate, ExtensionOID.EXTENDED_KEY_USAGE)
    if usages is None or usage == _ANY_USAGE:
        return
    allowed = [oid.dotted_string for oid in usages]
    if usage not in allowed and _ANY_USAGE not in allowed:
        names = ", ".join(facts.USAGES.get(oid, oid) for oid in allowed[:10])
        raise _refused(
            "eku_mismatch", where,
            f"{_name(certificate)} is for {names}, not for {facts.USAGES.get(usage, usage)}",
            "Have one issued for this usage, trust the public key instead, or ask for another usage with eku.",
        )


# --- name constraints: RFC 5280 section 4.2.1.10 ---------------------------------------------------------------------


def _require_allowed_names(issuer: x509.Certificate, below: Path, where: str) -> None:
    constraints = facts.extension(issuer, ExtensionOID.NAME_CONSTRAINTS)
    if constraints is None:
        return
    permitted, excluded = constraints.permitted_subtrees or (), constraints.excluded_subtrees or ()
    for certificate in below:
        try:
            names = _constrained_names(certificate)
            if len(names) * (len(permitted) + len(excluded)) > _MAX_COMPARISONS:
                raise ValueError("there are too many")
            if constraints.public_bytes() not in issuer.tbs_certificate_bytes:
                raise ValueError("there are bounds, which no profile allows")
            violated = [name for name in names if not _is_allowed(name, permitted, excluded)]
        except ValueError as exc:
            raise _refused(
                "certificate_untrusted", where,
                f"the name constraints of {_name(issuer)} cannot be applied to {_name(certificate)}: {exc}",
            ) from exc
        if violated:
            raise _refused(
                "certificate_untrusted", where,
                f"the name constraints of {_name(issuer)} do not allow {str(violated[0].value)[:200]!r}",
            )


def _alternative_names(certificate: x509.Certificate) -> list[x509.GeneralName]:
    return list(facts.extension(certificate, ExtensionOID.SUBJECT_ALTERNATIVE_NAME) or ())


def _constrained_names(certificate: x509.Certificate) -> list[x509.GeneralName]:
    """Return the alternative names, and the subject with the addresses in it. Raises ValueError."""
    subject = certificate.subject
    addresses = subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS)
    return [
        *_alternative_names(certificate),
        *([x509.DirectoryName(subject)] if subject.rdns else ()),
        *(x509.RFC822Name(str(address.value)) for address in addresses),
    ]


def _is_allowed(
    name: x509.GeneralName, permitted: t.Iterable[x509.GeneralName], excluded: t.Iterable[x509.GeneralName]
) -> bool:
    """Say whether constraints of the name's own type allow it. Raises ValueError if that cannot be told."""
    of_type = [base for base in permitted if type(base) is type(name)]
    return (not of_type or any(_is_within(name, base) for base in of_type)) and not any(
        _is_within(name, base, widely=True) for base in excluded if type(base) is type(name)
    )


def _is_within(name: t.Any, base: t.Any, *, widely: bool = False) -> bool:
    """Say whether a subtree holds a name; C(widely) as well if only some readers of the constraint think so."""
    if isinstance(name, x509.DNSName):
        host = _host(name.value)
        covered = widely and host.startswith("*.") and base.value.lower().endswith(host[1:])
        return _holds(base.value, host, below=True) or covered
    if isinstance(name, x509.RFC822Name):
        local, host = _parts(_MAILBOX, name.value)
        if "@" in base.value:
            wanted, domain = _parts(_MAILBOX, base.value)
            return local == wanted and _host(host) == _host(domain)
        return _holds(base.value, _host(host), below=widely)
    if isinstance(name, x509.UniformResourceIdentifier):
        host = _host(_parts(_URI, name.value)[0])
        if host.replace(".", "").isdigit():
            raise ValueError(f"{host!r} is the address of a host, not its name")
        return _holds(base.value, host, below=widely)
    if isinstance(name, x509.IPAddress) and isinstance(name.value, (ipaddress.IPv4Address, ipaddress.IPv6Address)):
        return name.value in base.value
    if isinstance(name, x509.DirectoryName):
        wanted_rdns = [_normal(rdn) for rdn in base.value.rdns]
        return [_normal(rdn) for rdn in name.value.rdns][:len(wanted_rdns)] == wanted_rdns
    raise ValueError(f"names of type {type(name).__name__} are not known")


def _parts(pattern: re.Pattern[str], text: str) -> tuple[str, str]:
    found = pattern.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:200]!r} has no host of a domain")
    return found[1], found[2]


def _host(text: str) -> str:
    if not _HOST.fullmatch(text.lower()):
        raise ValueError(f"{text[:200]!r} is no name of a host")
    return text.lower()


def _holds(constraint: str, host: str, *, below: bool) -> bool:
    """Say whether a domain holds a host: itself, with C(below) those below it; only these after a leading point."""
    if not constraint:
        return below
    domain = _host(constraint[1:] if constraint.startswith(".") else constraint)
    if domain.startswith("*"):
        raise ValueError(f"{constraint[:200]!r} is no domain")
    if constraint.startswith("."):
        return host.endswith(f".{domain}")
    return host == domain or (below and host.endswith(f".{domain}"))


def _normal(rdn: x509.RelativeDistinguishedName) -> frozenset[tuple[t.Any, ...]]:
    """Return attributes in a form to compare: neither case nor repeated spaces matter (RFC 5280 section 7.1)."""
    return frozenset(
        (attribute.oid, " ".join(unicodedata.normalize("NFKC", str(attribute.value)).casefold().split()))
        for attribute in rdn
    )


# --- errors ----------------------------------------------------------------------------------------------------------


def _name(certificate: x509.Certificate) -> str:
    subject = certificate.subject.rfc4514_string()
    return f"certificate {subject[:200]!r}" if subject else f"the certificate of number {certificate.serial_number:x}"


def _unreadable(where: str, cause: str) -> KeyFileError:
    return KeyFileError(
        code="malformed", object=where, attempt="read the certificates", cause=cause,
        advice=f"Give at most {MAX_CERTIFICATES} certificates and nothing else.",
    )


def _refused(
    code: t.Literal["certificate_untrusted", "certificate_expired", "eku_mismatch"], where: str, cause: str,
    advice: str = "Have the authority issue one that follows RFC 5280, or trust another.",
) -> VerificationError:
    return VerificationError(code=code, object=where, attempt="trust the certificate", cause=cause, advice=advice)
