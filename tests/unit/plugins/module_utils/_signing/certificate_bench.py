# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates of every good and bad kind, and a table of chains that we, openssl and cosign are asked about.

Every subject has one key, known by the subject's name; a certificate says who is certified, and by whom.
"""

from __future__ import annotations

import datetime
import functools
import ipaddress
import typing as t
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa
from cryptography.x509.oid import ExtensionOID, NameOID, ObjectIdentifier

NOW = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
DAY = datetime.timedelta(days=1)
USAGES = {
    "serverAuth": "1.3.6.1.5.5.7.3.1", "clientAuth": "1.3.6.1.5.5.7.3.2", "codeSigning": "1.3.6.1.5.5.7.3.3",
    "emailProtection": "1.3.6.1.5.5.7.3.4", "any": "2.5.29.37.0",
}
UTF8_STRING = 0x0C
RSA_SHA256 = bytes.fromhex("2a864886f70d01010b")
SHA256_OID = bytes.fromhex("0609608648016503040201")

Cert = x509.Certificate
Names = t.Sequence[x509.GeneralName]
uri, dns, email = x509.UniformResourceIdentifier, x509.DNSName, x509.RFC822Name
JOB = uri("https://ci.example.com/job")


def network(text: str) -> x509.IPAddress:
    return x509.IPAddress(ipaddress.ip_network(text))


def address(text: str) -> x509.IPAddress:
    return x509.IPAddress(ipaddress.ip_address(text))


def other_name(oid: str, value: bytes) -> x509.OtherName:
    return x509.OtherName(ObjectIdentifier(oid), value)


def utf8(text: str) -> bytes:
    return bytes([UTF8_STRING, len(text.encode())]) + text.encode()


def name(**attributes: str) -> x509.Name:
    """A name of one attribute in each part, by their short names."""
    oids = {"O": NameOID.ORGANIZATION_NAME, "OU": NameOID.ORGANIZATIONAL_UNIT_NAME, "CN": NameOID.COMMON_NAME,
            "E": NameOID.EMAIL_ADDRESS}
    return x509.Name([x509.NameAttribute(oids[kind], value) for kind, value in attributes.items()])


def directory(**attributes: str) -> x509.DirectoryName:
    return x509.DirectoryName(name(**attributes))


@functools.cache
def key(owner: str, kind: str = "p256") -> t.Any:
    """The private key of a subject."""
    del owner
    curves: dict[str, t.Any] = {
        "p256": ec.SECP256R1, "p384": ec.SECP384R1, "p521": ec.SECP521R1, "p224": ec.SECP224R1, "k256": ec.SECP256K1,
    }
    if kind in curves:
        return ec.generate_private_key(curves[kind]())
    if kind.startswith("rsa"):
        return rsa.generate_private_key(65537, int(kind[3:]))
    if kind == "dsa":
        return dsa.generate_private_key(2048)
    return ed25519.Ed25519PrivateKey.generate() if kind == "ed25519" else ed448.Ed448PrivateKey.generate()


@dataclass(frozen=True)
class Subject:
    """Who is certified, or certifies: a name, and the key under it."""

    common_name: str
    kind: str = "p256"
    name: x509.Name | None = None
    key_of: str = ""

    @property
    def full_name(self) -> x509.Name:
        """The distinguished name."""
        return name(O="Example", CN=self.common_name) if self.name is None else self.name

    @property
    def key(self) -> t.Any:
        """The private key."""
        return key(self.key_of or self.common_name, self.kind)


def who(subject: str | Subject) -> Subject:
    return Subject(subject) if isinstance(subject, str) else subject


def issue(
    subject: str | Subject,
    by: str | Subject,
    *,
    ca: bool | None = None,
    below: int | None = None,
    cert_sign: bool | None = None,
    eku: t.Sequence[str] = (),
    sans: Names = (),
    critical_sans: bool = False,
    permitted: Names | None = None,
    excluded: Names | None = None,
    start: datetime.datetime = NOW - DAY,
    end: datetime.datetime = NOW + 30 * DAY,
    extensions: t.Sequence[tuple[str, bytes, bool]] = (),
    digest: t.Any = None,
    pss: bool = False,
) -> Cert:
    """Issue one certificate; C(extensions) are OID, DER value, and whether they are critical."""
    subject, by = who(subject), who(by)
    # Serial numbers of one size, for tests that count bytes.
    builder = (
        x509.CertificateBuilder().subject_name(subject.full_name).issuer_name(by.full_name)
        .public_key(subject.key.public_key()).serial_number(x509.random_serial_number() | 1 << 158)
        .not_valid_before(start).not_valid_after(end)
    )
    # Without these, openssl takes a certificate for self-signed that merely has two equal names.
    by_id = x509.SubjectKeyIdentifier.from_public_key(by.key.public_key())
    builder = builder.add_extension(
        x509.SubjectKeyIdentifier.from_public_key(subject.key.public_key()), critical=False
    ).add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(by_id), critical=False)
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca, below), critical=True)
    if cert_sign is not None:
        builder = builder.add_extension(
            x509.KeyUsage(not cert_sign, False, False, False, False, cert_sign, True, False, False), critical=True
        )
    if eku:
        oids = [ObjectIdentifier(USAGES.get(one, one)) for one in eku]
        builder = builder.add_extension(x509.ExtendedKeyUsage(oids), critical=False)
    if sans:
        builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=critical_sans)
    if permitted or excluded:
        builder = builder.add_extension(x509.NameConstraints(permitted or None, excluded or None), critical=True)
    for oid, value, critical in extensions:
        builder = builder.add_extension(x509.UnrecognizedExtension(ObjectIdentifier(oid), value), critical)
    if by.kind.startswith("ed"):
        return builder.sign(by.key, None)
    rsa_padding = padding.PSS(padding.MGF1(hashes.SHA256()), hashes.SHA256.digest_size) if pss else None
    return builder.sign(by.key, digest or hashes.SHA256(), rsa_padding=rsa_padding)


def authority(subject: str | Subject, by: str | Subject | None = None, **options: t.Any) -> Cert:
    """Issue for an authority; by itself unless told otherwise."""
    return issue(subject, by or subject, **{"ca": True, "cert_sign": True, "start": NOW - 10 * DAY, **options})


def leaf(by: str | Subject = "sub", subject: str | Subject = "leaf", **options: t.Any) -> Cert:
    """Issue for somebody who signs code."""
    return issue(subject, by, **{"sans": [JOB], "eku": ["codeSigning"], **options})


def pem(*certificates: Cert) -> bytes:
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates)


# --- certificates that no library writes: DER by hand ----------------------------------------------------------------


def der(tag: int, *parts: bytes) -> bytes:
    """One element of these parts."""
    content = b"".join(parts)
    if len(content) < 0x80:
        return bytes([tag, len(content)]) + content
    length = len(content).to_bytes(1 if len(content) < 0x100 else 2, "big")
    return bytes([tag, 0x80 + len(length)]) + length + content


def elements(content: bytes) -> list[bytes]:
    """The elements that stand in a row in C(content)."""
    found = []
    while content:
        size, header = content[1], 2
        if size >= 0x80:
            header += size - 0x80
            size = int.from_bytes(content[2:header], "big")
        found.append(content[:header + size])
        content = content[header + size:]
    return found


def inside(element: bytes) -> list[bytes]:
    """The elements in one that holds others."""
    header = 2 if element[1] < 0x80 else 2 + element[1] - 0x80
    return elements(element[header:])


def rewritten(
    certificate: Cert, by: str | Subject, edit: t.Callable[[list[bytes]], list[bytes]], *,
    algorithm: tuple[bytes, bytes] = (b"", b""), sign: t.Callable[[t.Any, bytes], bytes] | None = None,
) -> Cert:
    """Change the parts of what is signed, replace bytes of the algorithm in both its places, and sign anew."""
    old, new = algorithm
    signer = who(by).key
    parts = edit([part.replace(old, new) if old and i == 2 else part for i, part in enumerate(_parts(certificate))])
    body = der(0x30, *parts)
    kind = inside(certificate.public_bytes(serialization.Encoding.DER))[1]
    kind = kind.replace(old, new) if old else kind
    signature = sign(signer, body) if sign else signer.sign(body, ec.ECDSA(hashes.SHA256()))
    return x509.load_der_x509_certificate(der(0x30, body, kind, der(0x03, b"\0", signature)))


def _parts(certificate: Cert) -> list[bytes]:
    return inside(certificate.tbs_certificate_bytes)


def as_is(parts: list[bytes]) -> list[bytes]:
    return parts


def with_digest(certificate: Cert, by: Subject, digest: hashes.HashAlgorithm, number: int) -> Cert:
    """Sign anew, by RSA with a hash that is not made any more; C(number) is the last of its OID."""
    return rewritten(
        certificate, by, as_is, algorithm=(RSA_SHA256, RSA_SHA256[:-1] + bytes([number])),
        sign=lambda signer, body: t.cast(bytes, signer.sign(body, padding.PKCS1v15(), digest)),
    )


def with_mask(certificate: Cert, by: Subject) -> Cert:
    """Sign anew, by PSS with SHA-256 and a mask of SHA-384."""
    old = inside(certificate.public_bytes(serialization.Encoding.DER))[1]
    start, middle, end = old.split(SHA256_OID)
    new = start + SHA256_OID + middle + SHA256_OID[:-1] + b"\2" + end
    scheme = padding.PSS(padding.MGF1(hashes.SHA384()), hashes.SHA256.digest_size)
    return rewritten(
        certificate, by, as_is, algorithm=(old, new),
        sign=lambda signer, body: t.cast(bytes, signer.sign(body, scheme, hashes.SHA256())),
    )


def with_key(certificate: Cert, by: str | Subject, spki: bytes) -> Cert:
    """Put another SubjectPublicKeyInfo in, and sign anew."""
    return rewritten(certificate, by, lambda parts: [*parts[:6], spki, *parts[7:]])


def first_version(certificate: Cert, by: str | Subject) -> Cert:
    """Make it an X.509 version 1 certificate, which has no extensions."""
    return rewritten(certificate, by, lambda parts: parts[1:7])


def broken(certificate: Cert) -> Cert:
    """Spoil the signature, but not its form."""
    data = bytearray(certificate.public_bytes(serialization.Encoding.DER))
    data[-1] ^= 1
    return x509.load_der_x509_certificate(bytes(data))


def rsa_spki(public: t.Any, *, algorithm: str = "300d06092a864886f70d0101010500", exponent: int = 0) -> bytes:
    """A SubjectPublicKeyInfo of an RSA key under any algorithm identifier, or with any small exponent."""
    old = inside(public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo))[1]
    numbers = inside(old[old.index(b"\0") + 1:])
    if exponent:
        numbers[1] = der(0x02, bytes([exponent]))
    return der(0x30, bytes.fromhex(algorithm), der(0x03, b"\0", der(0x30, *numbers)))


PSS_RESTRICTED = "300b06092a864886f70d01010a"


# --- the table -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One chain, and what comes of it: None where a path is found, else the code of the refusal.

    C(openssl) and C(cosign) say why these think otherwise, C(legacy_cosign) why cosign 2 alone does.
    """

    id: str
    code: str | None
    leaf: Cert
    intermediates: tuple[Cert, ...]
    roots: tuple[Cert, ...]
    eku: str = "codeSigning"
    openssl: str = ""
    cosign: str = ""
    legacy_cosign: str = ""
    signer: Subject = Subject("leaf")


UNTRUSTED, EXPIRED, USAGE = "certificate_untrusted", "certificate_expired", "eku_mismatch"
POLICIES = ("2.5.29.32", bytes.fromhex("3006300406022a03"), True)
NULL = b"\5\0"
NO_PURPOSE = "openssl 3.0 has no purpose for code signing; see the cases of e-mail"


def chain(id: str, code: str | None = None, **options: t.Any) -> Case:
    """One leaf below "sub" below "root", of which any may be another; with options of the case."""
    parts: dict[str, t.Any] = {
        "leaf": options.pop("leaf", None) or leaf(),
        "intermediates": options.pop("intermediates", None) or (options.pop("sub", None) or authority("sub", "root"),),
        "roots": options.pop("roots", None) or (options.pop("root", None) or authority("root"),),
    }
    return Case(id, code, **parts, **options)


def constrained(
    id: str, sans: Names, permitted: Names = (), excluded: Names = (), *, code: str | None = None,
    subject: str | Subject = "leaf", **options: t.Any,
) -> Case:
    """One leaf with names below an issuer with name constraints."""
    # cosign 3 refuses certificates with neither a URI nor an address of mail.
    named = any(isinstance(one, (x509.UniformResourceIdentifier, x509.RFC822Name)) for one in sans)
    return chain(
        f"names-{id}", code, leaf=leaf(subject=subject, sans=[*sans, *([] if named else [JOB])]),
        sub=authority("sub", "root", permitted=permitted, excluded=excluded), **options,
    )


@functools.cache
def cases() -> tuple[Case, ...]:
    """The table."""
    found = (
        *_good(), *_no_path(), *_no_authority(), *_times(), *_usages(), *_demands(), *_weak(), *_cross_signed(),
        *_allowed_names(), *_forbidden_names(), *_odd_constraints(),
    )
    assert len({case.id for case in found}) == len(found)
    return found


def _good() -> t.Iterator[Case]:
    yield chain("usual")
    yield chain("directly-below-the-root", leaf=leaf("root"))
    yield chain("three-intermediates", intermediates=(
        authority("sub", "two"), authority("three", "root"), authority("two", "three"),
    ))
    yield chain("strangers-and-doubles-among-the-intermediates", intermediates=(
        authority("stranger"), authority("sub", "root"), authority("sub", "root"), authority("root"),
    ))
    for kind in ("rsa2048", "p384", "p521", "ed25519"):
        sub, root = Subject("sub", kind), Subject("root", kind)
        yield chain(f"authorities-with-{kind}", leaf=leaf(sub), sub=authority(sub, root), root=authority(root))
    sub = Subject("sub", "rsa2048")
    yield chain("signed-with-pss", leaf=leaf(sub, pss=True), sub=authority(sub, "root"))
    for digest in (hashes.SHA384(), hashes.SHA512()):
        yield chain(f"signed-with-{digest.name}", leaf=leaf(digest=digest))
    root = Subject("root", "rsa2048")
    old = with_digest(authority(root), root, hashes.SHA1(), 5)
    yield chain("root-signed-itself-with-sha1", sub=authority("sub", root), root=old)
    yield chain("authorities-without-key-usage", sub=authority("sub", "root", cert_sign=None),
                root=authority("root", cert_sign=None))
    yield chain("lengths-met", sub=authority("sub", "root", below=0), root=authority("root", below=1))
    yield chain("anchor-not-self-signed", leaf=leaf("sub"), intermediates=(authority("stranger"),),
                root=authority("sub", "root"))
    yield chain("leaf-that-is-an-authority", leaf=leaf(ca=True, cert_sign=True))
    yield chain("leaf-without-subject", leaf=leaf(subject=Subject("leaf", name=name())))
    yield chain("leaf-for-signatures-only", leaf=leaf(cert_sign=False))


def _no_path() -> t.Iterator[Case]:
    yield chain("another-root", UNTRUSTED, root=authority("stranger"))
    yield chain("root-of-the-same-name", UNTRUSTED, root=authority(Subject("root", key_of="stranger")))
    yield chain("intermediate-missing", UNTRUSTED, intermediates=(authority("stranger"),))
    yield chain("root-among-the-intermediates-only", UNTRUSTED, root=authority("stranger"),
                intermediates=(authority("sub", "root"), authority("root")))
    yield chain("signature-on-the-leaf-broken", UNTRUSTED, leaf=broken(leaf()))
    yield chain("signature-on-an-intermediate-broken", UNTRUSTED, sub=broken(authority("sub", "root")))
    yield chain("signed-by-another-key", UNTRUSTED, leaf=leaf(Subject("sub", key_of="stranger")))
    yield chain("right-key-under-another-name", UNTRUSTED, leaf=leaf(Subject("other", key_of="sub")))
    yield chain("self-signed-leaf", UNTRUSTED, leaf=leaf("leaf"))
    own = leaf("leaf")
    yield chain("leaf-that-is-the-root", UNTRUSTED, leaf=own, root=own,
                cosign="Go takes a leaf that is in the pool of roots", openssl="openssl takes a leaf that is trusted")
    own = leaf("leaf", ca=True, cert_sign=True)
    yield chain("root-that-signs-code-itself", UNTRUSTED, leaf=own, root=own,
                cosign="Go takes a leaf that is in the pool of roots", openssl="openssl takes a leaf that is trusted")
    yield chain("in-circles", UNTRUSTED, intermediates=(
        authority("sub", "two"), authority("two", "three"), authority("three", "two"), authority("three", "sub"),
    ))
    # Eight certificates are a path, nine are none.
    yield chain("path-of-eight", intermediates=_row(6))
    yield chain("path-of-nine", UNTRUSTED, intermediates=_row(7), openssl="openssl goes 100 certificates deep",
                cosign="Go goes as deep as 100 signatures")


def _row(length: int) -> tuple[Cert, ...]:
    names = ["sub", *(f"sub-{number}" for number in range(1, length)), "root"]
    return tuple(authority(lower, upper) for lower, upper in zip(names, names[1:]))


def _no_authority() -> t.Iterator[Case]:
    yield chain("leaf-used-as-authority", UNTRUSTED, sub=leaf("root", subject="sub", ca=False))
    yield chain("intermediate-without-constraints", UNTRUSTED, sub=authority("sub", "root", ca=None))
    yield chain("root-that-is-none", UNTRUSTED, root=authority("root", ca=False))
    yield chain("root-without-constraints", UNTRUSTED, root=authority("root", ca=None),
                openssl="openssl takes keyCertSign of a root for the flag")
    yield chain("root-of-version-1", UNTRUSTED, root=first_version(authority("root"), "root"),
                cosign="Go takes roots of X.509 version 1", openssl="openssl takes self-signed version 1 certificates")
    yield chain("length-of-the-root-exceeded", UNTRUSTED, root=authority("root", below=0))
    yield chain("length-of-an-intermediate-exceeded", UNTRUSTED, intermediates=(
        authority("sub", "two"), authority("two", "root", below=0),
    ))
    yield chain("length-with-a-self-issued-one", UNTRUSTED, intermediates=(
        authority(Subject("sub"), Subject("sub", key_of="two")),
        authority(Subject("sub", key_of="two"), "root", below=0),
    ), openssl="RFC 5280 does not count self-issued certificates; Go and we do")
    yield chain("intermediate-may-not-sign", UNTRUSTED, sub=authority("sub", "root", cert_sign=False))
    yield chain("root-may-not-sign", UNTRUSTED, root=authority("root", cert_sign=False))


PAST: dict[str, t.Any] = {"start": NOW - 3 * DAY, "end": NOW - DAY}
FUTURE: dict[str, t.Any] = {"start": NOW + DAY, "end": NOW + 3 * DAY}


def _times() -> t.Iterator[Case]:
    for when, span in (("expired", PAST), ("not-yet-valid", FUTURE)):
        yield chain(f"leaf-{when}", EXPIRED, leaf=leaf(**span))
        # cosign 2 looks at the chain at the time when the leaf began, and at the leaf itself now.
        past: dict[str, t.Any] = {}
        if when == "expired":
            past = {"leaf": leaf(start=span["start"]), "legacy_cosign": "the leaf began when all were valid"}
        yield chain(f"intermediate-{when}", EXPIRED, sub=authority("sub", "root", **span), **past)
        yield chain(f"root-{when}", EXPIRED, root=authority("root", **span), **past)


def _usages() -> t.Iterator[Case]:
    for who_, ours in (("code", "codeSigning"), ("mail", "emailProtection"), ("tls", "serverAuth")):
        other = "clientAuth"
        blind: dict[str, t.Any] = {"openssl": NO_PURPOSE} if who_ == "code" else {}
        unknown: dict[str, t.Any] = {} if who_ == "code" else {
            "openssl": "openssl does not take anyExtendedKeyUsage for its purposes"
        }
        of: dict[str, t.Any] = {"eku": ours}
        yield chain(f"{who_}-usage-everywhere", leaf=leaf(eku=[ours]), sub=authority("sub", "root", eku=[other, ours]),
                    root=authority("root", eku=[ours]), **of)
        yield chain(f"{who_}-usage-not-limited", leaf=leaf(eku=[]), **of)
        yield chain(f"{who_}-any-usage-of-the-leaf", leaf=leaf(eku=["any"]), **of, **unknown)
        yield chain(f"{who_}-any-usage-of-an-intermediate", leaf=leaf(eku=[ours]),
                    sub=authority("sub", "root", eku=["any"]), **of, **unknown)
        yield chain(f"{who_}-other-usage-of-the-leaf", USAGE, leaf=leaf(eku=[other]), **of, **blind)
        yield chain(f"{who_}-other-usage-of-an-intermediate", USAGE, leaf=leaf(eku=[ours]),
                    sub=authority("sub", "root", eku=[other]), **of, **blind)
        yield chain(f"{who_}-other-usage-of-the-root", USAGE, leaf=leaf(eku=[ours]),
                    root=authority("root", eku=[other]), **of, **blind)
    yield chain("usage-of-web-servers", USAGE, leaf=leaf(eku=["serverAuth", "clientAuth"]), openssl=NO_PURPOSE)
    yield chain("usage-given-as-oid", leaf=leaf(eku=["1.2.3.4"]), eku="1.2.3.4")
    yield chain("usage-does-not-matter", leaf=leaf(eku=["serverAuth"]), eku="anyExtendedKeyUsage")


def _demands() -> t.Iterator[Case]:
    unknown, poison = ("1.2.3.4", NULL, True), ("1.3.6.1.4.1.11129.2.4.3", NULL, True)
    yield chain("unknown-extension", leaf=leaf(extensions=[("1.2.3.4", NULL, False)]))
    yield chain("critical-policies", leaf=leaf(extensions=[POLICIES]),
                sub=authority("sub", "root", extensions=[POLICIES]))
    yield chain("critical-extension-of-the-leaf", UNTRUSTED, leaf=leaf(extensions=[unknown]))
    yield chain("critical-extension-of-an-intermediate", UNTRUSTED,
                sub=authority("sub", "root", extensions=[unknown]))
    yield chain("critical-extension-of-the-root", UNTRUSTED, root=authority("root", extensions=[unknown]))
    yield chain("poisoned", UNTRUSTED, leaf=leaf(extensions=[poison]))
    # At least one explicit policy, zero certificates further down.
    heedless = "openssl heeds policies only if told to"
    constraints = ("2.5.29.36", bytes.fromhex("3003800100"), True)
    yield chain("critical-policy-constraints", UNTRUSTED, sub=authority("sub", "root", extensions=[constraints]),
                openssl=heedless)
    yield chain("policy-constraints", UNTRUSTED, openssl=heedless,
                sub=authority("sub", "root", extensions=[(*constraints[:2], False)]))
    # Zero mappings of policies further down.
    mapping = ("2.5.29.36", bytes.fromhex("3003810100"), True)
    yield chain("policy-constraints-on-mapping", UNTRUSTED, sub=authority("sub", "root", extensions=[mapping]),
                openssl=heedless, cosign="Go holds paths to all of RFC 5280's rules on policies")
    points = ("2.5.29.31", bytes.fromhex("30133011a00fa00d860b687474703a2f2f632e6578"), True)
    yield chain("critical-distribution-points", UNTRUSTED, leaf=leaf(extensions=[points]),
                openssl="openssl knows them, and fetches no list unless told to",
                cosign="Go knows them, and never fetches a list")
    fulcio = other_name("1.3.6.1.4.1.57264.1.7", utf8("user!example.com"))
    yield chain("critical-other-name", leaf=leaf(sans=[fulcio], critical_sans=True))
    for what, text in (("nul", "ci.example.com\0.example.org"), ("new-line", "ci.example.com\n")):
        why: dict[str, t.Any] = dict.fromkeys(("openssl", "cosign"), "it does not look at names nobody asks for")
        yield chain(f"{what}-in-a-name", UNTRUSTED, leaf=leaf(sans=[JOB, dns(text)]), **why)
        yield chain(f"{what}-in-a-name-of-an-intermediate", UNTRUSTED, sub=authority("sub", "root", sans=[dns(text)]),
                    **why)


def _weak() -> t.Iterator[Case]:
    sub, root = Subject("sub", "rsa2048"), Subject("root", "rsa2048")
    for digest, number in ((hashes.SHA1(), 5), (hashes.MD5(), 4), (hashes.SHA224(), 14)):
        fine: dict[str, t.Any] = {"openssl": "it has 112 bits"} if number == 14 else {}
        yield chain(f"leaf-signed-with-{digest.name}", UNTRUSTED, leaf=with_digest(leaf(sub), sub, digest, number),
                    sub=authority(sub, "root"), **fine)
        yield chain(f"intermediate-signed-with-{digest.name}", UNTRUSTED, root=authority(root),
                    sub=with_digest(authority("sub", root), root, digest, number), **fine)
    yield chain("mask-of-another-hash", UNTRUSTED, leaf=with_mask(leaf(sub, pss=True), sub), sub=authority(sub, "root"),
                openssl="openssl takes any mask")
    for kind, why in (
        ("rsa1024", "Go takes RSA keys of 1024 bits"), ("p224", "Go knows P-224"), ("k256", ""), ("dsa", ""),
        ("ed448", ""),
    ):
        bits = {} if kind in ("rsa1024",) else {"openssl": "it has 112 bits or more"}
        signer = Subject("leaf", kind)
        both: dict[str, t.Any] = {**bits, "cosign": why}
        yield chain(f"leaf-with-{kind}", UNTRUSTED, leaf=leaf(subject=signer), signer=signer, legacy_cosign=why, **bits)
        weak = Subject("sub", kind)
        yield chain(f"intermediate-with-{kind}", UNTRUSTED, leaf=leaf(weak), sub=authority(weak, "root"), **both)
        weak = Subject("root", kind)
        yield chain(f"root-with-{kind}", UNTRUSTED, sub=authority("sub", weak), root=authority(weak), **both)
    restricted = rsa_spki(sub.key.public_key(), algorithm=PSS_RESTRICTED)
    yield chain("key-restricted-to-pss", UNTRUSTED, leaf=leaf(sub),
                sub=with_key(authority(sub, "root"), "root", restricted))


def _cross_signed() -> t.Iterator[Case]:
    old, new = Subject("old"), Subject("new")
    ahead = "openssl takes the first untrusted issuer of the name and key, and does not go back to another"
    yield chain("new-root-cross-signed-by-the-trusted-one", leaf=leaf("sub"), root=authority(old),
                intermediates=(authority("sub", new), authority(new), authority(new, old)), openssl=ahead)
    yield chain("two-of-one-name-and-key-one-expired", intermediates=(
        authority("sub", "root", **PAST), authority("sub", "root"),
    ))
    yield chain("two-roots-of-one-name-one-expired", roots=(authority("root", **PAST), authority("root")))
    yield chain("a-longer-path-is-the-valid-one", leaf=leaf("sub"), intermediates=(
        authority("sub", "root", eku=["serverAuth"]), authority("sub", "two"), authority("two", "root"),
    ))
    yield chain("two-of-one-name-one-of-another-key", intermediates=(
        authority(Subject("sub", key_of="stranger"), "root"), authority("sub", "root"),
    ))
    yield chain("cross-signed-in-a-circle", intermediates=(
        authority("sub", "two"), authority("two", "sub"), authority("two", "root"),
    ), openssl=ahead)
    # Of several failures, the one of the path that got furthest is told.
    yield chain("expired-rather-than-untrusted", EXPIRED, intermediates=(
        authority("sub", "root", ca=False), authority("sub", "root", **PAST),
    ), leaf=leaf(start=PAST["start"]), legacy_cosign="the leaf began when all were valid")
    yield chain("usage-rather-than-expired", USAGE, openssl=NO_PURPOSE, leaf=leaf(start=NOW - DAY / 2), intermediates=(
        authority("sub", "root", **PAST), authority("sub", "root", eku=["serverAuth"]),
    ))


EXAMPLE_ORG = directory(O="Example")


def _allowed_names() -> t.Iterator[Case]:
    yield constrained("dns-below", [JOB, dns("ci.example.com")], [dns("example.com"), JOB_HOST])
    yield constrained("dns-same", [dns("EXAMPLE.com")], [dns("example.COM")])
    yield constrained("dns-point", [dns("ci.example.com")], [dns(".example.com")])
    yield constrained("dns-wildcard", [dns("*.example.com")], [dns("example.com")])
    yield constrained("dns-not-below-the-excluded", [dns("anexample.com")], excluded=[dns("example.com")])
    yield constrained("dns-any", [dns("ci.example.com")], [dns("")])
    yield constrained("other-types-are-free", [JOB, email("dev@example.com")], [dns("example.org")])
    yield constrained("email-mailbox", [email("dev@EXAMPLE.com")], [email("dev@example.com")])
    yield constrained("email-host", [email("dev@example.com")], [email("example.com")])
    yield constrained("email-domain", [email("dev@mail.example.com")], [email(".example.com")])
    yield constrained("email-not-excluded", [email("dev@example.com")], excluded=[email("ops@example.com")])
    yield constrained("uri-host", [JOB], [JOB_HOST])
    yield constrained("uri-domain", [uri("https://ci.example.com:8443/job?a#b")], [uri(".example.com")])
    yield constrained("uri-not-excluded", [JOB], excluded=[uri("cd.example.com")])
    yield constrained("ip", [address("192.0.2.7")], [network("192.0.2.0/24")])
    yield constrained("ip-6", [address("2001:db8::7")], [network("2001:db8::/32")])
    yield constrained("ip-not-excluded", [address("192.0.2.7")], excluded=[network("192.0.2.8/29")])
    unknown: dict[str, t.Any] = {"cosign": "Go does not know constraints on directory names, and they are critical"}
    yield constrained("directory", [JOB], [directory(O="example")], **unknown)
    spaced = Subject("leaf", name=name(O=" EXAMPLE  inc", CN="leaf"))
    yield constrained("directory-spelt-otherwise", [JOB], [directory(O="Example Inc ")], subject=spaced, **unknown)
    yield constrained("directory-not-excluded", [JOB], excluded=[directory(O="Example", CN="sub")], **unknown)
    yield constrained("directory-of-nobody", [JOB], [directory(O="Other")], subject=Subject("leaf", name=name()),
                      **unknown)
    yield chain("names-of-the-root-held-to", root=authority("root", permitted=[JOB_HOST]))


JOB_HOST = uri("ci.example.com")


def _forbidden_names() -> t.Iterator[Case]:
    rows: list[tuple[str, x509.GeneralName, x509.GeneralName]] = [
        ("dns-other", dns("ci.example.org"), dns("example.com")),
        ("dns-longer-label", dns("anexample.com"), dns("example.com")),
        ("dns-above", dns("com"), dns("example.com")),
        ("dns-point-same", dns("example.com"), dns(".example.com")),
        ("dns-wildcard-above", dns("*.example.com"), dns("ci.example.com")),
        ("email-other-mailbox", email("ops@example.com"), email("dev@example.com")),
        ("email-mailbox-elsewhere", email("dev@example.org"), email("dev@example.com")),
        ("email-case-of-mailbox", email("DEV@example.com"), email("dev@example.com")),
        ("email-other-host", email("dev@example.org"), email("example.com")),
        ("email-point-same", email("dev@example.com"), email(".example.com")),
        ("uri-other-host", uri("https://cd.example.com/job"), JOB_HOST),
        ("uri-point-same", uri("https://example.com/job"), uri(".example.com")),
        ("ip-other", address("192.0.3.7"), network("192.0.2.0/24")),
        ("ip-other-version", address("2001:db8::7"), network("192.0.2.0/24")),
    ]
    for id, name_, base in rows:
        yield constrained(f"{id}-not-permitted", [name_], [base], code=UNTRUSTED)
    yield constrained("one-of-several-not-permitted", [dns("ci.example.com"), dns("ci.example.org")],
                      [dns("example.com")], code=UNTRUSTED)
    wider = "Go lets hosts below a permitted domain pass; RFC 5280 names that host alone"
    yield constrained("uri-nothing-permitted", [JOB], [uri("")], code=UNTRUSTED,
                      cosign="to Go an empty constraint holds everything")
    yield constrained("uri-all-excluded", [JOB], excluded=[uri("")], code=UNTRUSTED,
                      openssl="to openssl an empty constraint on URIs holds none")
    yield constrained("email-below-not-permitted", [email("dev@mail.example.com")], [email("example.com")],
                      code=UNTRUSTED, cosign=wider)
    yield constrained("uri-below-not-permitted", [uri("https://a.ci.example.com/")], [JOB_HOST], code=UNTRUSTED,
                      cosign=wider)
    rows = [
        ("dns", dns("ci.example.com"), dns("example.com")),
        ("dns-case", dns("ci.EXAMPLE.com"), dns("example.com")),
        ("dns-all", dns("ci.example.com"), dns("")),
        ("email-host", email("dev@example.com"), email("example.com")),
        ("email-mailbox", email("dev@example.com"), email("dev@example.com")),
        ("uri", JOB, JOB_HOST),
        ("uri-domain", JOB, uri(".example.com")),
        ("ip", address("192.0.2.7"), network("192.0.2.0/24")),
        ("directory", JOB, EXAMPLE_ORG),
        ("directory-case", JOB, directory(O="EXAMPLE")),
    ]
    for id, name_, base in rows:
        yield constrained(f"{id}-excluded", [name_], excluded=[base], code=UNTRUSTED)
    narrow = "openssl holds to RFC 5280: without a leading point, this host alone"
    yield constrained("dns-wildcard-excluded", [dns("*.example.com")], excluded=[dns("ci.example.com")],
                      code=UNTRUSTED, openssl="to openssl a wildcard is a name like others",
                      legacy_cosign="to Go 1.24 a wildcard is a name like others")
    yield constrained("email-below-excluded", [email("dev@mail.example.com")], excluded=[email("example.com")],
                      code=UNTRUSTED, openssl=narrow)
    yield constrained("uri-below-excluded", [uri("https://a.ci.example.com/")], excluded=[JOB_HOST], code=UNTRUSTED,
                      openssl=narrow)
    yield constrained("both-permitted-and-excluded", [dns("ci.example.com")], [dns("example.com")],
                      [dns("ci.example.com")], code=UNTRUSTED)
    yield constrained("directory-not-permitted", [JOB], [directory(O="Other")], code=UNTRUSTED)
    yield constrained("directory-name-among-names-not-permitted", [JOB, directory(O="Other")], [EXAMPLE_ORG],
                      code=UNTRUSTED)
    addressed = Subject("leaf", name=name(O="Example", E="dev@example.org"))
    yield constrained("email-in-the-subject-not-permitted", [JOB], [email("example.com")], code=UNTRUSTED,
                      subject=addressed, cosign="Go looks at alternative names alone")
    yield chain("names-of-the-root-not-held-to", UNTRUSTED, root=authority("root", excluded=[JOB_HOST]))
    yield chain("names-of-an-intermediate-not-held-to", UNTRUSTED, intermediates=(
        authority("sub", "two", sans=[dns("sub.example.org")]),
        authority("two", "root", permitted=[dns("example.com")]),
    ))


def _odd_constraints() -> t.Iterator[Case]:
    text, found = "it compares the text, whatever it means", "it finds the host"
    for id, name_, base, openssl, cosign in (
        ("email-quoted", email('"dev"@example.com'), email("dev@example.org"), text, "Go unquotes"),
        ("uri-without-host", uri("urn:example:job"), JOB_HOST, "", ""),
        ("uri-with-address", uri("https://192.0.2.7/job"), JOB_HOST, text, ""),
        ("uri-with-user", uri("https://ci.example.com@example.org/"), JOB_HOST, found, found),
        ("dns-with-empty-label", dns("ci..example.com"), dns("example.org"), text, ""),
        ("dns-with-a-point-behind", dns("ci.example.com."), dns("example.org"), text, ""),
    ):
        yield constrained(f"{id}-under-an-exclusion", [name_], excluded=[base], code=UNTRUSTED, openssl=openssl,
                          cosign=cosign)
    yield constrained("wildcard-in-a-constraint", [JOB], excluded=[uri("*.example.com")], code=UNTRUSTED,
                      openssl=text, cosign=text)
    number = x509.RegisteredID(ObjectIdentifier("1.2.3"))
    yield constrained("of-another-type-that-nobody-has", [JOB], [number],
                      cosign="Go does not know such constraints, and they are critical")
    yield constrained("of-an-unknown-type", [JOB, number], [number], code=UNTRUSTED)
    fulcio = other_name("1.3.6.1.4.1.57264.1.7", utf8("user!example.com"))
    yield constrained("of-other-names", [fulcio], [fulcio], code=UNTRUSTED)
    # GeneralSubtree: base [2] "example.com", minimum [0] 1.
    subtree = der(0x82, b"example.com")
    bounded = der(0x30, der(0xA0, der(0x30, subtree, b"\x80\1\1")))
    yield chain("names-with-a-minimum", UNTRUSTED, leaf=leaf(sans=[dns("ci.example.com")]),
                sub=authority("sub", "root", extensions=[(ExtensionOID.NAME_CONSTRAINTS.dotted_string, bounded, True)]),
                legacy_cosign="Go 1.24 does not look at it")
    yield constrained("too-many", [dns(f"a{number}.example.com") for number in range(300)],
                      [*(dns(f"b{number}.example.com") for number in range(200)), dns("example.com")], code=UNTRUSTED,
                      openssl="openssl allows 2**20 comparisons", cosign="Go allows 250000 comparisons")
