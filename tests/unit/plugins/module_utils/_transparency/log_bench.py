# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two small logs, one of each version, made by hand: not one byte comes from the code under test."""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import typing as t
from dataclasses import dataclass, replace

from ansible_collections.hallmark.signing.plugins.module_utils._transparency import proof
from ansible_collections.hallmark.signing.plugins.module_utils._transparency.entry import InclusionProof, LogEntry
from ansible_collections.hallmark.signing.plugins.module_utils._transparency.log_key import LogKey
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

Json = dict[str, t.Any]
AnyPrivate = t.Union[ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey, rsa.RSAPrivateKey]

HOST = "log.example"
TIME = 1_700_000_000
NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.timezone.utc)
PAYLOAD = b'{"payload":1}'
SIGNATURE = b"the bytes of a signature"


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def canonical(value: t.Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode("ascii")


def spki(key: t.Any) -> bytes:
    public = key.public_key() if hasattr(key, "public_key") else key
    return public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def pem(label: str, der: bytes) -> bytes:
    lines = "\n".join(b64(der)[at:at + 64] for at in range(0, len(b64(der)), 64))
    return f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n".encode("ascii")


def certificate(key: AnyPrivate, name: str = "signer") -> bytes:
    """The DER of a certificate for the key."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    built = (
        x509.CertificateBuilder().issuer_name(subject).subject_name(subject).public_key(key.public_key())
        .serial_number(7).not_valid_before(datetime.datetime(2020, 1, 1)).not_valid_after(datetime.datetime(2040, 1, 1))
        .sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    )
    return built.public_bytes(serialization.Encoding.DER)


def sign(key: AnyPrivate, message: bytes) -> bytes:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(message, ec.ECDSA(hashes.SHA256()))
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(message, padding.PKCS1v15(), hashes.SHA256())
    return key.sign(message)


# The definitions of RFC 9162 section 2.1, which recurse where the code under test does not.


def _split(count: int) -> int:
    half = 1
    while half * 2 < count:
        half *= 2
    return half


def root_of(leaves: t.Sequence[bytes]) -> bytes:
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    half = _split(len(leaves))
    return hashlib.sha256(b"\x01" + root_of(leaves[:half]) + root_of(leaves[half:])).digest()


def path_of(index: int, leaves: t.Sequence[bytes]) -> list[bytes]:
    if len(leaves) == 1:
        return []
    half = _split(len(leaves))
    if index < half:
        return [*path_of(index, leaves[:half]), root_of(leaves[half:])]
    return [*path_of(index - half, leaves[half:]), root_of(leaves[:half])]


@dataclass(frozen=True)
class Log:
    """A log of version 1 or 2; the origin of its checkpoints, the name on their signatures, its id and its key."""

    key: AnyPrivate
    version: int
    origin: str = ""
    name: str = HOST
    log_id: bytes = b""
    size: int = 7
    index: int = 4
    virtual: int = 1000

    @property
    def known(self) -> LogKey:
        """The key as the code under test knows it."""
        return LogKey(self.key.public_key(), spki(self.key), HOST)

    @property
    def id(self) -> bytes:
        """The id in entries."""
        if self.log_id:
            return self.log_id
        if self.version == 1 or isinstance(self.key, ec.EllipticCurvePrivateKey):
            return hashlib.sha256(spki(self.key)).digest()
        raw = self.key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return hashlib.sha256(f"{self._origin}\n".encode() + b"\x01" + raw).digest()

    @property
    def _origin(self) -> str:
        return self.origin or (f"{HOST} - 77" if self.version == 1 else HOST)

    def checkpoint(
        self, size: int, root: bytes, *, before: str = "", after: str = "", extension: str = "",
        hint: bytes | None = None, signer: AnyPrivate | None = None,
    ) -> str:
        """A checkpoint, with other signature lines before or after the log's own."""
        text = f"{self._origin}\n{size}\n{b64(root)}\n{extension}"
        line = b64((self.id[:4] if hint is None else hint) + sign(signer or self.key, text.encode()))
        return f"{text}\n{before}\u2014 {self.name} {line}\n{after}"

    def enter(self, body: bytes, **changes: t.Any) -> LogEntry:
        """The entry of a body, with all that the log vouches for; changes are to the checkpoint."""
        leaves = [b"leaf %d" % number for number in range(self.size)]
        leaves[self.index] = body
        root = root_of(leaves)
        found = LogEntry(
            index=self.virtual if self.version == 1 else self.index, log_id=self.id,
            integrated_time=TIME if self.version == 1 else None, body=body, signed_entry_timestamp=None,
            proof=InclusionProof(
                self.index, self.size, root, tuple(path_of(self.index, leaves)),
                self.checkpoint(self.size, root, **changes),
            ),
        )
        return self.promise(found) if self.version == 1 else found

    def promise(self, entry: LogEntry) -> LogEntry:
        """The entry with a signed entry timestamp that fits."""
        message = canonical({
            "body": b64(entry.body), "integratedTime": entry.integrated_time, "logIndex": entry.index,
            "logID": entry.log_id.hex(),
        })
        return replace(entry, signed_entry_timestamp=sign(self.key, message))


@dataclass(frozen=True)
class Signer:
    """Who signed: a key, and its certificate if it has one."""

    key: AnyPrivate
    certificate: bytes | None = None

    @property
    def pem(self) -> bytes:
        """What is logged by Rekor v1."""
        return pem("CERTIFICATE", self.certificate) if self.certificate else pem("PUBLIC KEY", spki(self.key))

    @property
    def verifier(self) -> Json:
        """What is logged by Rekor v2."""
        member = {"x509Certificate": self.certificate} if self.certificate else {"publicKey": spki(self.key)}
        return {"keyDetails": "PKIX_ECDSA_P256_SHA_256", **{k: {"rawBytes": b64(v)} for k, v in member.items()}}


def pae(payload: bytes) -> bytes:
    return b"DSSEv1 28 application/vnd.in-toto+json %d %b" % (len(payload), payload)


def subject(signer: Signer, *, is_dsse: bool = False) -> proof.Subject:
    """The signature that entries are to be about."""
    return proof.Subject(
        signature=SIGNATURE, message=pae(PAYLOAD) if is_dsse else PAYLOAD, payload=PAYLOAD, spki=spki(signer.key),
        certificate=signer.certificate, is_dsse=is_dsse,
    )


def body(
    kind: str, version: int, signer: Signer, content: bytes, *, hash: str = "sha256", signature: bytes = SIGNATURE
) -> bytes:
    """The body of an entry; content is what the logged digest is of."""
    digest = hashlib.new(hash, content).digest()
    signed: t.Any
    if version == 1:
        hashed: Json = {"algorithm": hash, "value": digest.hex()}
        if kind == "dsse":
            signed = {"signature": b64(signature), "verifier": b64(signer.pem)}
            spec: Json = {"envelopeHash": hashed, "payloadHash": hashed, "signatures": [signed]}
        else:
            signed = {"content": b64(signature), "publicKey": {"content": b64(signer.pem)}}
            spec = {"data": {"hash": hashed}, "signature": signed}
    else:
        hashed = {"algorithm": f"SHA2_{hash[3:]}", "digest": b64(digest)}
        signed = {"content": b64(signature), "verifier": signer.verifier}
        spec = {"dsseV002": {"payloadHash": hashed, "signatures": [signed]}} if kind == "dsse" else {
            "hashedRekordV002": {"data": hashed, "signature": signed}
        }
    return canonical({"apiVersion": f"0.0.{version}", "kind": kind, "spec": spec})
