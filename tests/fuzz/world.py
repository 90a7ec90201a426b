# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The small world that fuzzed verifiers look at: an image, whom they trust, and what these really signed.

Keys are made of names, so that a saved input means the same in every run. What C(SIGNED), C(BODIES) and C(LEAVES) do
not hold was never signed: to accept it is a break.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import typing as t
from dataclasses import dataclass, field

import mutation
from ansible_collections.hallmark.signing.plugins.module_utils._errors import RegistryError
from ansible_collections.hallmark.signing.plugins.module_utils._keys import pem
from ansible_collections.hallmark.signing.plugins.module_utils._oci import manifest as manifests
from ansible_collections.hallmark.signing.plugins.module_utils._oci.digest import digest_of
from ansible_collections.hallmark.signing.plugins.module_utils._oci.manifest import Descriptor, Manifest
from ansible_collections.hallmark.signing.plugins.module_utils._signing import authority, certified, identity
from ansible_collections.hallmark.signing.plugins.module_utils._signing.evidence import Evidence
from ansible_collections.hallmark.signing.plugins.module_utils._transparency import entry as entries
from ansible_collections.hallmark.signing.plugins.module_utils._transparency.entry import LogEntry
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._signing.signing_bench import (
    BUNDLE_TYPE,
    SIG_ANNOTATION,
    SIG_TYPE,
    Json,
    Key,
    b64,
    bundle,
    claim,
    compact,
    pae,
    statement,
)
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._transparency import log_bench
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NAME = "registry.example/team/app"
DIGEST = digest_of(b"the image")
OTHER = digest_of(b"another image")
IMAGE = f"{NAME}@{DIGEST}"
NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.timezone.utc)
_START = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
_END = datetime.datetime(2049, 1, 1, tzinfo=datetime.timezone.utc)
_CERTIFICATE, _CHAIN = "dev.sigstore.cosign/certificate", "dev.sigstore.cosign/chain"
_LOG, _TIMESTAMP = "dev.sigstore.cosign/bundle", "dev.sigstore.cosign/rfc3161timestamp"
_ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")

SIGNED: set[bytes] = set()
BODIES: set[bytes] = set()
LEAVES: set[bytes] = set()


def p256(name: str) -> ec.EllipticCurvePrivateKey:
    """Return the key of a name."""
    return ec.derive_private_key(int.from_bytes(hashlib.sha256(name.encode()).digest(), "big") >> 1, ec.SECP256R1())


class Signer(Key):
    """A key whose signatures are always the same: inputs of former runs hold them, and log entries of them."""

    def sign(self, message: bytes, digest: hashes.HashAlgorithm | None = None) -> bytes:
        """Sign as RFC 6979 says."""
        if isinstance(self.private, ec.EllipticCurvePrivateKey):
            return self.private.sign(message, ec.ECDSA(digest or hashes.SHA256(), deterministic_signing=True))
        return super().sign(message, digest)


ALICE = Signer("alice", p256("alice"))
BOB = Signer("bob", ed25519.Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"bob").digest()))
CAROL = Signer("carol", p256("carol"))
MALLORY = Signer("mallory", p256("mallory"))
LOG_V1 = log_bench.Log(p256("log"), 1)
# What nobody trusts, under the name and the id of one that is trusted.
FALSE_LOG = log_bench.Log(p256("mallory"), 1, log_id=LOG_V1.id)
LOG_V2 = log_bench.Log(ed25519.Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"log").digest()), 2)


def _issue(name: str, key: t.Any, by: str, by_key: t.Any, *extensions: tuple[x509.ExtensionType, bool]) -> bytes:
    def full(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    builder = (
        x509.CertificateBuilder().subject_name(full(name)).issuer_name(full(by)).public_key(key.public_key())
        .serial_number(int.from_bytes(name.encode(), "big")).not_valid_before(_START).not_valid_after(_END)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    made = builder.sign(by_key, hashes.SHA256(), ecdsa_deterministic=True)
    LEAVES.add(made.tbs_certificate_bytes)
    return made.public_bytes(serialization.Encoding.DER)


_IS_CA = (x509.BasicConstraints(True, None), True)
_JOB = (x509.SubjectAlternativeName([x509.UniformResourceIdentifier("https://ci.example.com/job")]), True)
_CODE = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), False)
ROOT = _issue("root", p256("root"), "root", p256("root"), _IS_CA)
SUB = _issue("sub", p256("sub"), "root", p256("root"), _IS_CA)
# Carol is certified by those who are trusted; Mallory by herself, under the same names.
LEAF = _issue("leaf", CAROL.private, "sub", p256("sub"), _JOB, _CODE)
FORGED = _issue("leaf", MALLORY.private, "sub", MALLORY.private, _JOB, _CODE)
LEAVES.remove(x509.load_der_x509_certificate(FORGED).tbs_certificate_bytes)


def pem_of(*ders: bytes) -> str:
    """Return certificates as PEM."""
    return b"".join(pem.pem_text("CERTIFICATE", der) for der in ders).decode("ascii")


# --- what was signed -------------------------------------------------------------------------------------------------


def _sign(key: Key, message: bytes, content: bytes) -> bytes:
    if key is not MALLORY:
        SIGNED.add(content)
    return key.sign(message)


def _logged(log: log_bench.Log, kind: str, key: Key, content: bytes, signature: bytes, der: bytes | None) -> LogEntry:
    signer = log_bench.Signer(key.private, der)
    made = log_bench.body(kind, log.version, signer, content, signature=signature)
    BODIES.add(made)
    return log.enter(made)


def _layer(content: bytes, signature: bytes, **annotations: str) -> bytes:
    return compact({"content": b64(content), "annotations": {SIG_ANNOTATION: b64(signature), **annotations}})


def sig_seeds(timestamp: bytes) -> t.Iterator[bytes]:
    """Yield signatures of the old format: the payload, and the annotations of its layer."""
    content = compact(claim(DIGEST, NAME, {"env": "prod"}))
    stamp = compact({"SignedRFC3161Timestamp": b64(timestamp)}).decode()
    for key, der in ((ALICE, None), (BOB, None), (CAROL, LEAF), (MALLORY, None), (MALLORY, FORGED)):
        signature = _sign(key, content, content)
        chain = {} if der is None else {_CERTIFICATE: pem_of(der), _CHAIN: pem_of(SUB, ROOT)}
        entry = _logged(LOG_V1, "hashedrekord", key, content, signature, der)
        yield _layer(content, signature, **chain)
        yield _layer(content, signature, **chain, **{_LOG: entries.as_annotation(entry), _TIMESTAMP: stamp})
    other = compact(claim(OTHER, NAME))
    yield _layer(other, _sign(ALICE, other, other))


def bundle_seeds(timestamp: bytes) -> t.Iterator[bytes]:
    """Yield bundles."""
    content = compact(statement(DIGEST, {"env": "prod"}))
    stamps = {"rfc3161Timestamps": [{"signedTimestamp": b64(timestamp)}]}
    for key, der in ((ALICE, None), (BOB, None), (CAROL, LEAF), (MALLORY, None), (MALLORY, FORGED)):
        made = bundle(content, key)
        signature = base64.b64decode(made["dsseEnvelope"]["signatures"][0]["sig"])
        if key is not MALLORY:
            SIGNED.add(content)
        material: Json = made["verificationMaterial"] if der is None else {"certificate": {"rawBytes": b64(der)}}
        logged = [
            entries.as_bundle(_logged(LOG_V1, "dsse", key, content, signature, der)),
            entries.as_bundle(_logged(LOG_V2, "hashedrekord", key, pae(content), signature, der)),
        ]
        proven = {"tlogEntries": logged[1:], "timestampVerificationData": stamps}
        for extra in ({}, {"tlogEntries": logged[:1]}, proven):
            yield compact({**made, "verificationMaterial": {**material, **extra}})


# --- who is trusted --------------------------------------------------------------------------------------------------

LOGS = (LOG_V1.known, LOG_V2.known)
_KEYS = (ALICE.authority, BOB.authority)
_ISSUER = authority.Authority("pki", issuer=certified.Issuer(
    roots=(x509.load_der_x509_certificate(ROOT),), intermediates=(x509.load_der_x509_certificate(SUB),),
    identity=identity.read_identity({"type": "uri", "regexp": "https://ci[.]example[.]com/.+"}),
))


@dataclass(frozen=True)
class Trust:
    """One way to verify: the demand, and what must be true of whatever it accepts."""

    demand: authority.Demand
    is_logged: bool = False
    is_certified: bool = False


def trusts(timestamp_authorities: tuple[t.Any, ...]) -> tuple[Trust, ...]:
    """Return the ways to verify."""
    logged = Evidence(logs=LOGS, require_log=True)
    all_of_it = Evidence(logs=LOGS, timestamp_authorities=timestamp_authorities)
    return (
        Trust(authority.demand(_KEYS)), Trust(authority.demand(_KEYS, evidence=logged), is_logged=True),
        Trust(authority.demand([_ISSUER]), is_certified=True),
        Trust(authority.demand([_ISSUER], evidence=logged), is_logged=True, is_certified=True),
        Trust(authority.demand([*_KEYS, _ISSUER], evidence=all_of_it)),
    )


# --- a registry ------------------------------------------------------------------------------------------------------


@dataclass
class Registry:
    """A store that has one signature of each format for the image, or of one only."""

    payload: bytes | None = None
    annotations: t.Any = None
    bundle: bytes | None = None
    blobs: dict[str, bytes] = field(default_factory=dict)

    def find_manifest(self, _image: t.Any) -> Manifest | None:
        """Return the signatures of the old format."""
        return None if self.payload is None else self._manifest(self.payload, SIG_TYPE, annotations=self.annotations)

    def manifest(self, _image: t.Any) -> Manifest:
        """Return the manifest of the bundle; that of the image is not looked into."""
        return self._manifest(self.bundle or b"", BUNDLE_TYPE)

    def referrers(self, _image: t.Any, _digest: str) -> tuple[Descriptor, ...]:
        """Return the descriptor of that manifest."""
        return () if self.bundle is None else (self.manifest(None).as_referrer(),)

    def blob(self, image: t.Any, descriptor: Descriptor, *, limit: int) -> bytes:
        """Return a blob as any store does, within the limit."""
        if descriptor.size > limit:
            raise RegistryError(
                code="limit_exceeded", object=str(image), attempt="fetch a blob", cause="it is too large", advice="No."
            )
        return self.blobs[descriptor.digest]

    def _manifest(self, content: bytes, kind: str, **members: t.Any) -> Manifest:
        self.blobs = {digest_of(content): content}
        layer = {"mediaType": kind, "size": len(content), "digest": digest_of(content), **members}
        document = {"schemaVersion": 2, "mediaType": manifests.OCI_MANIFEST, "layers": [layer]}
        return manifests.parse(json.dumps(document).encode(), content_type="", where="registry.example")


# --- certificates ----------------------------------------------------------------------------------------------------


def rekeyed(der: bytes, key: str, issuer: str) -> bytes:
    """Return a certificate with the key of a name, signed by that of another: what it says then counts.

    What is no certificate stays as it is.
    """
    outer = mutation.elements(der)
    parts = mutation.elements(outer[0][1]) if outer else None
    body = mutation.elements(parts[0][1]) if parts else None
    # Version and serial number may be there or not.
    first = 1 if body and body[0][0] == 0xA0 else 0
    if not body or len(body) < first + 6:
        return der
    spki = p256(key).public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    rows = [mutation.element(tag, content) for tag, content in body]
    rows[first + 1], rows[first + 5] = _ECDSA_SHA256, spki
    signed = mutation.element(0x30, b"".join(rows))
    signature = p256(issuer).sign(signed, ec.ECDSA(hashes.SHA256()))
    return mutation.element(0x30, signed + _ECDSA_SHA256 + mutation.element(0x03, b"\0" + signature))
