# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A small transparency log for tests: the API of Rekor v1, and beside it a second log with that of Rekor v2.

    transparency_log.py --port P --directory D [--address A] [--host NAME] [--tls-certificate FILE --tls-key FILE]

It prints "ready" when it listens. D/rekor.pub (ECDSA P-256) and D/rekor2.pub (Ed25519) are made once and kept; entries
are in memory only: after a restart it is a log that has lost them. NAME (default: the address) stands in checkpoints.
Like real ones it verifies what is uploaded, and refuses keys with another hash than theirs. Not here: certificate
chains, Ed25519ph, other kinds than hashedrekord and dsse. Each log begins with an entry of its own, so that no tree is
empty. Shares no code with the collection. Sources: openapi.yaml and pkg/api of Rekor, rekor_service.proto of
rekor-tiles, RFC 9162 section 2.1, C2SP signed-note and tlog-checkpoint.

It lies when told so: POST /fault {"kind": K, …}, until {"kind": null}. "times": N requests only; "path": only those
whose path contains it. K is one of FAULTS below, or for any answer "answer" (with status, headers, body), "status500",
"slow" (seconds), "cut" (half the body), "large" (100 MB of white space before it). GET /requests lists all so far.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import dataclasses
import hashlib
import json
import pathlib
import re
import ssl
import threading
import time
import typing as t
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

Json = dict[str, t.Any]
# As many entries are said to lie in an older tree of the log: an index of the log is none of the tree.
OFFSET = 1000
TREE_ID = 0x10C0FFEE
_HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512(),
}
_CURVES = {"secp256r1": ("P256", "256"), "secp384r1": ("P384", "384"), "secp521r1": ("P521", "512")}


class Refused(Exception):
    """An answer other than the one wished for."""

    def __init__(self, status: int, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, headers


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def unb64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def public_bytes(key: t.Any, encoding: serialization.Encoding = serialization.Encoding.PEM) -> bytes:
    return t.cast(bytes, key.public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo))


def canonical(document: Json) -> bytes:
    """RFC 8785, for the ASCII keys, strings and integers that occur here."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode("ascii")


class Tree:
    """A Merkle tree (RFC 9162 section 2.1)."""

    def __init__(self) -> None:
        self.leaves: list[bytes] = []
        self._known: dict[tuple[int, int], bytes] = {}

    @staticmethod
    def leaf(data: bytes) -> bytes:
        return hashlib.sha256(b"\0" + data).digest()

    def hash(self, begin: int, end: int) -> bytes:
        """MTH(D[begin:end]); what lies between the two never changes again."""
        if end - begin == 1:
            return self.leaves[begin]
        if (begin, end) not in self._known:
            middle = begin + self._split(end - begin)
            self._known[begin, end] = hashlib.sha256(
                b"\1" + self.hash(begin, middle) + self.hash(middle, end)
            ).digest()
        return self._known[begin, end]

    def inclusion(self, index: int, begin: int, end: int) -> list[bytes]:
        """PATH(index, D[begin:end])."""
        if end - begin == 1:
            return []
        middle = begin + self._split(end - begin)
        if index < middle:
            return [*self.inclusion(index, begin, middle), self.hash(middle, end)]
        return [*self.inclusion(index, middle, end), self.hash(begin, middle)]

    def consistency(self, size: int, begin: int, end: int, whole: bool = True) -> list[bytes]:
        """SUBPROOF(size, D[begin:end], whole); size counts from the beginning of the tree."""
        if size == end:
            return [] if whole else [self.hash(begin, end)]
        middle = begin + self._split(end - begin)
        if size <= middle:
            return [*self.consistency(size, begin, middle, whole), self.hash(middle, end)]
        return [*self.consistency(size, middle, end, False), self.hash(begin, middle)]

    @staticmethod
    def _split(size: int) -> int:
        """The largest power of two below a size."""
        return 1 << (size - 1).bit_length() - 1


# --- what is uploaded ------------------------------------------------------------------------------------------------


class Verifier:
    """The public key, or the certificate, that a signature is to be verified with."""

    def __init__(self, data: bytes) -> None:
        certificate = x509.load_pem_x509_certificate(data) if b"-BEGIN CERTIFICATE-" in data else None
        self.key: t.Any = certificate.public_key() if certificate else serialization.load_pem_public_key(data)
        self.pem = certificate.public_bytes(serialization.Encoding.PEM) if certificate else public_bytes(self.key)
        self.subjects: list[str] = []
        if certificate:
            with contextlib.suppress(x509.ExtensionNotFound):
                names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
                self.subjects = [str(name.value) for name in names if not isinstance(name, x509.OtherName)]

    @classmethod
    def from_der(cls, label: str, data: bytes) -> Verifier:
        """Read DER, by the label that its PEM has."""
        return cls(f"-----BEGIN {label}-----\n{b64(data)}\n-----END {label}-----\n".encode())

    def algorithm(self) -> tuple[str, str]:
        """The one algorithm that logs take for a key, as PublicKeyDetails, and the name of its hash."""
        if isinstance(self.key, rsa.RSAPublicKey) and self.key.key_size in (2048, 3072, 4096):
            return f"PKIX_RSA_PKCS1V15_{self.key.key_size}_SHA256", "sha256"
        if isinstance(self.key, ec.EllipticCurvePublicKey) and self.key.curve.name in _CURVES:
            curve, bits = _CURVES[self.key.curve.name]
            return f"PKIX_ECDSA_{curve}_SHA_{bits}", f"sha{bits}"
        raise Refused(400, "error processing entry: entry algorithms are not allowed")

    def verify(self, signature: bytes, digest: bytes, algorithm: hashes.HashAlgorithm) -> None:
        """Verify a signature over a digest."""
        prehashed = utils.Prehashed(algorithm)
        if isinstance(self.key, rsa.RSAPublicKey):
            self.key.verify(signature, digest, padding.PKCS1v15(), prehashed)
        else:
            self.key.verify(signature, digest, ec.ECDSA(prehashed))

    def signed(self, signature: bytes, message: bytes) -> bool:
        """Whether a signature is over a message: with SHA-256, whatever the key, as Rekor v1 does with envelopes."""
        try:
            if isinstance(self.key, ed25519.Ed25519PublicKey):
                self.key.verify(signature, message)
            else:
                self.verify(signature, hashlib.sha256(message).digest(), hashes.SHA256())
        except InvalidSignature:
            return False
        return True


class Proposed(t.NamedTuple):
    """What becomes an entry, and by what it is found."""

    body: bytes
    names: list[str]


def hashedrekord(spec: Json) -> Proposed:
    """Read a proposed hashedrekord 0.0.1."""
    algorithm, value = spec["data"]["hash"]["algorithm"], spec["data"]["hash"]["value"]
    verifier = Verifier(unb64(spec["signature"]["publicKey"]["content"]))
    signature = unb64(spec["signature"]["content"])
    if algorithm != verifier.algorithm()[1] or len(value) != 2 * _HASHES[algorithm].digest_size:
        raise Refused(400, "error processing entry: entry algorithms are not allowed")
    verifier.verify(signature, bytes.fromhex(value), _HASHES[algorithm])
    body = canonical({"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": {
        "data": {"hash": {"algorithm": algorithm, "value": value}},
        "signature": {"content": b64(signature), "publicKey": {"content": b64(verifier.pem)}},
    }})
    return Proposed(body, [hashlib.sha256(verifier.pem).hexdigest(), *verifier.subjects, f"{algorithm}:{value}"])


def dsse(spec: Json) -> Proposed:
    """Read a proposed dsse 0.0.1. By its key alone it is not found, which is so in real ones."""
    text = spec["proposedContent"]["envelope"]
    envelope = json.loads(text)
    payload, payload_type = unb64(envelope["payload"]), envelope["payloadType"].encode()
    message = b"DSSEv1 %d %s %d %s" % (len(payload_type), payload_type, len(payload), payload)
    todo = {row["sig"] for row in envelope["signatures"]}
    found: dict[str, Verifier] = {}
    for content in spec["proposedContent"]["verifiers"]:
        verifier = Verifier(unb64(content))
        good = {signature for signature in todo if verifier.signed(unb64(signature), message)}
        if todo and not good:
            raise Refused(400, "error processing entry: could not verify envelope")
        found.update(dict.fromkeys(good, verifier))
        todo -= good
    if todo or not found:
        raise Refused(400, "error processing entry: all signatures must have a key that verifies it")
    of_envelope, of_payload = (hashlib.sha256(data).hexdigest() for data in (text.encode(), payload))
    body = canonical({"apiVersion": "0.0.1", "kind": "dsse", "spec": {
        "envelopeHash": {"algorithm": "sha256", "value": of_envelope},
        "payloadHash": {"algorithm": "sha256", "value": of_payload},
        "signatures": [{"signature": sig, "verifier": b64(found[sig].pem)} for sig in sorted(found)],
    }})
    names = [f"sha256:{of_envelope}", f"sha256:{of_payload}"]
    for verifier in found.values():
        names += [f"sha256:{hashlib.sha256(verifier.pem).hexdigest()}", *verifier.subjects]
    if payload_type == b"application/vnd.in-toto+json":
        for subject in json.loads(payload)["subject"]:
            names += [f"{algorithm}:{value}" for algorithm, value in subject["digest"].items()]
    return Proposed(body, names)


def hashedrekord_v2(request: Json) -> Proposed:
    """Read a hashedRekordRequestV002. Fields that are not in the protocol are refused, as real ones do."""
    request = _only(request, "hashedRekordRequestV002")["hashedRekordRequestV002"]
    signature = _only(request, "digest", "signature")["signature"]
    said = _only(signature, "content", "verifier")["verifier"]
    (kind,) = set(said) - {"keyDetails"}
    label = {"publicKey": "PUBLIC KEY", "x509Certificate": "CERTIFICATE"}[kind]
    verifier = Verifier.from_der(label, unb64(_only(said[kind], "rawBytes")["rawBytes"]))
    details, algorithm = verifier.algorithm()
    if said["keyDetails"] != details:
        raise ValueError(details)
    content, digest = unb64(signature["content"]), unb64(request["digest"])
    verifier.verify(content, digest, _HASHES[algorithm])
    return Proposed(canonical({"apiVersion": "0.0.2", "kind": "hashedrekord", "spec": {"hashedRekordV002": {
        "data": {"algorithm": f"SHA2_{algorithm[3:]}", "digest": b64(digest)},
        "signature": {"content": b64(content), "verifier": {
            "keyDetails": details, kind: {"rawBytes": said[kind]["rawBytes"]},
        }},
    }}}), [])


def first_entries() -> tuple[Proposed, Proposed]:
    """Return what both logs begin with, by a key that nobody has."""
    key = ec.generate_private_key(ec.SECP256R1())
    digest, content = hashlib.sha256(b"first").digest(), b64(key.sign(b"first", ec.ECDSA(hashes.SHA256())))
    pem, der = public_bytes(key.public_key()), public_bytes(key.public_key(), serialization.Encoding.DER)
    return hashedrekord({
        "data": {"hash": {"algorithm": "sha256", "value": digest.hex()}},
        "signature": {"content": content, "publicKey": {"content": b64(pem)}},
    }), hashedrekord_v2({"hashedRekordRequestV002": {
        "digest": b64(digest),
        "signature": {"content": content, "verifier": {
            "keyDetails": "PKIX_ECDSA_P256_SHA_256", "publicKey": {"rawBytes": b64(der)},
        }},
    }})


def _only(document: Json, *names: str) -> Json:
    if set(document) - set(names):
        raise ValueError(f"unknown field in {sorted(document)}")
    return document


# --- the logs --------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Entry:
    """Everything that is said about one entry, so that each of it can be a lie."""

    body: bytes
    index: int
    tree_index: int
    size: int
    root: bytes
    hashes: list[bytes]
    checkpoint: str
    time: int
    log_id: bytes
    promise: bytes
    has_proof: bool = True


class Log:
    """What both logs are: a key, a tree, entries."""

    offset, tree_id, tells_time = 0, "", True

    def __init__(self, key: t.Any, host: str) -> None:
        self.key, self.host = key, host
        self.tree = Tree()
        self.bodies: list[tuple[bytes, int]] = []
        self.indexes: dict[bytes, int] = {}
        self.names: dict[str, list[int]] = {}

    @property
    def origin(self) -> str:
        return f"{self.host} - {self.tree_id}" if self.tree_id else self.host

    def id(self, host: str) -> bytes:
        """The id of the key; what Ed25519 keys sign notes as is theirs under one name only."""
        if isinstance(self.key, ec.EllipticCurvePrivateKey):
            return hashlib.sha256(public_bytes(self.key.public_key(), serialization.Encoding.DER)).digest()
        return hashlib.sha256(host.encode() + b"\n\1" + self.key.public_key().public_bytes_raw()).digest()

    def sign(self, data: bytes, key: t.Any = None) -> bytes:
        key = key or self.key
        return t.cast(bytes, key.sign(data, ec.ECDSA(hashes.SHA256())) if hasattr(key, "curve") else key.sign(data))

    def checkpoint(self, *, origin: str = "", size: int = 0, root: bytes = b"", key: t.Any = None) -> str:
        """A signed note about the tree, or about another one."""
        size = size or len(self.bodies)
        origin = origin or self.origin
        name = origin.split(" - ")[0]
        text = f"{origin}\n{size}\n{b64(root or self.tree.hash(0, size))}\n"
        return f"{text}\n\u2014 {name} {b64(self.id(name)[:4] + self.sign(text.encode(), key))}\n"

    def promise(self, body: bytes, index: int, moment: int) -> bytes:
        """The signed entry timestamp."""
        return self.sign(canonical({
            "body": b64(body), "integratedTime": moment, "logID": self.id(self.host).hex(), "logIndex": index,
        }))

    def add(self, proposed: Proposed) -> int:
        """Append an entry; return its index in the tree."""
        leaf = Tree.leaf(proposed.body)
        if leaf in self.indexes:
            self.conflict(leaf)
        index = self.indexes[leaf] = len(self.bodies)
        self.bodies.append((proposed.body, int(time.time())))
        self.tree.leaves.append(leaf)
        for name in dict.fromkeys(one.lower() for one in proposed.names):
            self.names.setdefault(name, []).append(index)
        return index

    def conflict(self, leaf: bytes) -> t.NoReturn:
        """Refuse what is there already."""
        uuid = self.uuid(leaf)
        message = f"an equivalent entry already exists in the transparency log with UUID {uuid}"
        raise Refused(409, message, Location=f"/api/v1/log/entries/{uuid}")

    def uuid(self, leaf: bytes) -> str:
        return f"{TREE_ID:016x}{leaf.hex()}"

    def entry(self, index: int) -> Entry:
        """Return the entry at an index of the tree, with a proof to the tree as it is now."""
        body, moment = self.bodies[index]
        size = len(self.bodies)
        promise = self.promise(body, index + self.offset, moment) if self.tells_time else b""
        return Entry(
            body, index + self.offset, index, size, self.tree.hash(0, size), self.tree.inclusion(index, 0, size),
            self.checkpoint(), moment if self.tells_time else 0, self.id(self.host), promise,
        )


class LogV1(Log):
    """Rekor v1."""

    offset, tree_id = OFFSET, str(TREE_ID)

    def read(self, proposed: Json) -> Proposed:
        known = {("hashedrekord", "0.0.1"): hashedrekord, ("dsse", "0.0.1"): dsse}
        kind = (proposed.get("kind"), proposed.get("apiVersion"))
        if kind not in known:
            raise Refused(400, f"error processing entry: unknown kind or version: {kind}")
        return known[kind](proposed["spec"])

    def render(self, entry: Entry) -> Json:
        verification: Json = {"signedEntryTimestamp": b64(entry.promise)} if entry.promise else {}
        if entry.has_proof:
            verification["inclusionProof"] = {
                "checkpoint": entry.checkpoint, "hashes": [one.hex() for one in entry.hashes],
                "logIndex": entry.tree_index, "rootHash": entry.root.hex(), "treeSize": entry.size,
            }
        return {self.uuid(Tree.leaf(entry.body)): {
            "body": b64(entry.body), "integratedTime": entry.time, "logID": entry.log_id.hex(),
            "logIndex": entry.index, "verification": verification,
        }}

    def find(self, uuid: str) -> int:
        """Return the index in the tree of an entry by 64 or 80 hexadecimal digits."""
        if not re.fullmatch("([0-9a-fA-F]{16})?[0-9a-fA-F]{64}", uuid):
            raise Refused(422, "entryUUID in path should match '^([0-9a-fA-F]{64}|[0-9a-fA-F]{80})$'")
        leaf = bytes.fromhex(uuid[-64:])
        if leaf not in self.indexes or uuid.lower() not in (leaf.hex(), self.uuid(leaf)):
            raise Refused(404, "")
        return self.indexes[leaf]

    def at(self, index: int) -> int:
        if not OFFSET <= index < OFFSET + len(self.bodies):
            raise Refused(404, "")
        return index - OFFSET

    def retrieve(self, query: Json) -> list[int]:
        """Find entries by UUIDs, indexes, or what was uploaded; those that are not there are left out."""
        query = {name: items or [] for name, items in query.items()}
        if sum(len(items) for items in query.values()) > 10:
            raise Refused(422, "more than max allowed 10 entries in request")
        found = []
        for search, items in ((self.find, query.get("entryUUIDs", [])), (self.at, query.get("logIndexes", []))):
            for item in items:
                try:
                    found.append(search(item))
                except Refused as refused:
                    if refused.status != 404:
                        raise
        leaves = [Tree.leaf(self.read(proposed).body) for proposed in query.get("entries", [])]
        return [*found, *(self.indexes[leaf] for leaf in leaves if leaf in self.indexes)]

    def search(self, query: Json) -> list[str]:
        """Find UUIDs by hash, e-mail address, subject, or public key."""
        wanted = [query[name].lower() for name in ("email", "subject") if name in query]
        if "hash" in query:
            prefix, _colon, value = query["hash"].lower().rpartition(":")
            algorithm = {40: "sha1", 64: "sha256", 128: "sha512"}.get(len(value))
            if not algorithm or prefix not in ("", algorithm) or not re.fullmatch("[0-9a-f]+", value):
                raise Refused(422, "query.hash in body should match another pattern")
            wanted.append(f"{algorithm}:{value}")
        if "publicKey" in query:
            if query["publicKey"]["format"] != "x509":
                raise Refused(400, "the PKI format requested is not supported by this server")
            wanted.append(hashlib.sha256(Verifier(unb64(query["publicKey"]["content"])).pem).hexdigest())
        sets = [set(self.names.get(name, [])) for name in wanted] or [set()]
        both = set.intersection(*sets) if query.get("operator") == "and" else set.union(*sets)
        return [self.uuid(self.tree.leaves[index]) for index in sorted(both)]

    def info(self) -> Json:
        size = len(self.bodies)
        return {
            "rootHash": self.tree.hash(0, size).hex(), "treeSize": size, "treeID": self.tree_id,
            "signedTreeHead": self.checkpoint(),
        }

    def consistency(self, first: int, last: int) -> Json:
        if not 1 <= first <= last <= len(self.bodies):
            raise Refused(400, f"firstSize({first}) and lastSize({last}) do not fit {len(self.bodies)}")
        proof = self.tree.consistency(first, 0, last)
        return {"rootHash": self.tree.hash(0, last).hex(), "hashes": [one.hex() for one in proof]}


class LogV2(Log):
    """Rekor v2: no promise, no time."""

    tells_time = False

    def conflict(self, leaf: bytes) -> t.NoReturn:
        index = str(self.indexes[leaf])
        message = f"an equivalent entry already exists in the transparency log with index {index}"
        raise Refused(409, message, **{"x-log-index": index})

    def render(self, entry: Entry) -> Json:
        """All fields, those without a value, too: so do real ones."""
        proof = {
            "logIndex": str(entry.tree_index), "rootHash": b64(entry.root), "treeSize": str(entry.size),
            "hashes": [b64(one) for one in entry.hashes], "checkpoint": {"envelope": entry.checkpoint},
        }
        return {
            "logIndex": str(entry.index), "logId": {"keyId": b64(entry.log_id)},
            "kindVersion": {"kind": "hashedrekord", "version": "0.0.2"}, "integratedTime": str(entry.time),
            "inclusionPromise": {"signedEntryTimestamp": b64(entry.promise)} if entry.promise else None,
            "inclusionProof": proof if entry.has_proof else None,
            "canonicalizedBody": b64(entry.body),
        }


# --- lies ------------------------------------------------------------------------------------------------------------


def _flipped(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


def _other_digit(match: re.Match[bytes]) -> bytes:
    return match[1] + (b"0" if match[0][-1:] != b"0" else b"1")


def _stranger(log: Log) -> t.Any:
    return type(log.key).generate() if isinstance(log, LogV2) else ec.generate_private_key(ec.SECP256R1())


# Each takes the log, the entry and the fault, and returns what is to be said instead of the truth.
FAULTS: dict[str, t.Callable[[Log, Entry, Json], Json]] = {
    # The promise is over another time; there is none; it is another log's.
    "set": lambda log, entry, _f: {"promise": log.promise(entry.body, entry.index, entry.time + 1)},
    "no_set": lambda _l, _e, _f: {"promise": b""},
    "log_id": lambda _l, entry, _f: {"log_id": _flipped(entry.log_id)},
    # The time, the index of the log: not what the promise is over.
    "time": lambda _l, entry, fault: {"time": entry.time + fault.get("seconds", -3600)},
    "index": lambda _l, entry, _f: {"index": entry.index + 1},
    # The log's clock is wrong: everything is properly signed.
    "clock": lambda log, entry, fault: {
        "time": entry.time + fault["seconds"],
        "promise": log.promise(entry.body, entry.index, entry.time + fault["seconds"]),
    },
    "proof": lambda _l, entry, _f: {"hashes": [_flipped(entry.hashes[0]), *entry.hashes[1:]]},
    "long_proof": lambda _l, entry, _f: {"hashes": [*entry.hashes, entry.root]},
    "short_proof": lambda _l, entry, _f: {"hashes": entry.hashes[:-1]},
    "no_proof": lambda _l, _e, _f: {"has_proof": False},
    "tree_index": lambda _l, entry, _f: {"tree_index": entry.tree_index + 1},
    "root": lambda _l, entry, _f: {"root": _flipped(entry.root)},
    "size": lambda _l, entry, _f: {"size": entry.size + 1},
    # The checkpoint is somebody else's; under another name; of another root or size; with an unknown line (no lie).
    "checkpoint": lambda log, _e, _f: {"checkpoint": log.checkpoint(key=_stranger(log))},
    "origin": lambda log, _e, _f: {"checkpoint": log.checkpoint(origin=f"other.{log.origin}")},
    "checkpoint_root": lambda log, entry, _f: {"checkpoint": log.checkpoint(root=_flipped(entry.root))},
    "checkpoint_size": lambda log, entry, _f: {"checkpoint": log.checkpoint(size=entry.size + 1, root=entry.root)},
    "witness": lambda _l, entry, _f: {"checkpoint": f"{entry.checkpoint}\u2014 witness {b64(bytes(68))}\n"},
    # Another body than that which everything else is about; a different entry, with everything that belongs to it.
    "body": lambda _l, entry, _f: {"body": re.sub(b'((?:value|digest)":").', _other_digit, entry.body, count=1)},
    "other_entry": lambda log, entry, _f: vars(log.entry(0 if entry.tree_index else 1)),
}
_ANSWER_FAULTS = ("answer", "status500", "slow", "cut", "large")


class Server(ThreadingHTTPServer):
    """Serves both logs."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], first: LogV1, second: LogV2) -> None:
        super().__init__(address, Handler)
        self.first, self.second = first, second
        self.lock = threading.Lock()
        self.fault: Json = {}
        self.requests: list[str] = []

    def fault_for(self, path: str) -> Json:
        """Return the fault that this request is to meet, or an empty one."""
        if not self.fault or self.fault.get("path", "") not in path or not self.fault.get("times", 1):
            return {}
        if "times" in self.fault:
            self.fault["times"] -= 1
        return self.fault

    def set_fault(self, fault: Json) -> Json:
        if fault.get("kind") is not None and fault["kind"] not in (*FAULTS, *_ANSWER_FAULTS):
            raise Refused(400, f"unknown fault; there are {sorted(FAULTS)} and {_ANSWER_FAULTS}")
        self.fault = fault if fault.get("kind") else {}
        return self.fault


def _refusal(path: str, status: int, message: str) -> Json:
    """Return the body of a refusal: Rekor v2 gives codes of gRPC."""
    if path.startswith("/api/v2/"):
        return {"code": {400: 3, 404: 5, 409: 6}.get(status, 2), "message": message, "details": []}
    return {"code": status, "message": message}


class Handler(BaseHTTPRequestHandler):
    """Answers requests to both logs."""

    protocol_version = "HTTP/1.1"
    server: Server
    fault: Json

    def do_GET(self) -> None:
        self._serve({})

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get_content_type() != "application/json":
            self._serve(Refused(415, f"unsupported media type {self.headers.get_content_type()!r}"))
            return
        try:
            self._serve(json.loads(sent))
        except ValueError as error:
            self._serve(Refused(400, str(error)))

    def _serve(self, document: Json | Refused) -> None:
        url = urlsplit(self.path)
        headers: Json = {}
        with self.server.lock:
            self.fault = {}
            if url.path not in ("/fault", "/requests"):
                self.server.requests.append(f"{self.command} {self.path}")
                self.fault = self.server.fault_for(url.path)
            try:
                if isinstance(document, Refused):
                    raise document
                status, said, headers = self._route(url.path, parse_qs(url.query), document)
            except Refused as refused:
                status, headers = refused.status, refused.headers
                said = _refusal(url.path, status, refused.message)
            except (ValueError, KeyError, TypeError, AttributeError, InvalidSignature) as error:
                status, said = 400, _refusal(url.path, 400, f"error processing entry: {error!r}")
        self._answer(status, said, headers)

    def _answer(self, status: int, document: t.Any, headers: Json) -> None:
        kind = self.fault.get("kind")
        body = document.encode() if isinstance(document, str) else json.dumps(document).encode() + b"\n"
        if status == 404:
            body = b""
        if kind == "slow":
            time.sleep(self.fault.get("seconds", 5))
        elif kind == "status500":
            status, body, headers = 500, b'{"code":500,"message":"unexpected result from transparency log"}\n', {}
        elif kind == "answer":
            status, headers = self.fault.get("status", 200), self.fault.get("headers", {})
            body = self.fault.get("body", "").encode()
        filler = 100 if kind == "large" else 0
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) + filler * 1_000_000))
        self.end_headers()
        try:
            for _number in range(filler):
                self.wfile.write(b" " * 1_000_000)
            self.wfile.write(body[: len(body) // 2] if kind == "cut" else body)
        except ConnectionError:
            self.close_connection = True
        if kind == "cut":
            self.close_connection = True

    def _said(self, log: LogV1 | LogV2, index: int) -> Json:
        """Return what is said about an entry: the truth, or the lie that was ordered."""
        entry = log.entry(index)
        if self.fault.get("kind") in FAULTS:
            entry = dataclasses.replace(entry, **FAULTS[self.fault["kind"]](log, entry, self.fault))
        return log.render(entry)

    def _route(self, path: str, query: dict[str, list[str]], document: Json) -> tuple[int, t.Any, Json]:
        """Return the status, the body and the headers of the answer to a request."""
        server, log, entries = self.server, self.server.first, "/api/v1/log/entries"
        uuid = path.removeprefix(f"{entries}/")
        numbers = {name: int(values[0]) for name, values in query.items() if name != "treeID"}
        key = public_bytes(log.key.public_key()).decode()
        routes: dict[str, t.Callable[[], t.Any]] = {
            "GET /requests": lambda: server.requests,
            "POST /fault": lambda: server.set_fault(document),
            "GET /api/v1/log": log.info,
            "GET /api/v1/log/publicKey": lambda: (200, key, {"Content-Type": "application/x-pem-file"}),
            "GET /api/v1/log/proof": lambda: log.consistency(numbers.get("firstSize", 1), numbers["lastSize"]),
            f"GET {entries}": lambda: self._said(log, log.at(numbers["logIndex"])),
            f"GET {entries}/{uuid}": lambda: self._said(log, log.find(uuid)),
            f"POST {entries}": lambda: self._added(log, log.read(document)),
            f"POST {entries}/retrieve": lambda: [self._said(log, index) for index in log.retrieve(document)],
            "POST /api/v1/index/retrieve": lambda: log.search(document),
            "GET /checkpoint": lambda: (200, server.second.checkpoint(), {"Content-Type": "text/plain"}),
            "GET /api/v2/checkpoint": lambda: (200, server.second.checkpoint(), {"Content-Type": "text/plain"}),
            "POST /api/v2/log/entries": lambda: self._added(server.second, hashedrekord_v2(document)),
        }
        if f"{self.command} {path}" not in routes:
            raise Refused(404, "")
        found = routes[f"{self.command} {path}"]()
        return found if isinstance(found, tuple) else (200, found, {})

    def _added(self, log: LogV1 | LogV2, proposed: Proposed) -> tuple[int, Json, Json]:
        said = self._said(log, log.add(proposed))
        uuid = next(iter(said))
        headers = {"ETag": uuid, "Location": f"/api/v1/log/entries/{uuid}"} if isinstance(log, LogV1) else {}
        return 201, said, headers

    def log_message(self, format: str, *args: object) -> None:
        pass


def kept_key(path: pathlib.Path, make: t.Callable[[], t.Any]) -> t.Any:
    """Read a private key, made the first time, and write its public half beside it."""
    if not path.exists():
        path.touch(mode=0o600)
        path.write_bytes(make().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ))
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    path.with_suffix(".pub").write_bytes(public_bytes(key.public_key()))
    return key


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--directory", type=pathlib.Path, required=True)
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--host")
    parser.add_argument("--tls-certificate")
    parser.add_argument("--tls-key")
    given = parser.parse_args()
    given.directory.mkdir(parents=True, exist_ok=True)
    host = given.host or given.address
    key = kept_key(given.directory / "rekor.key", lambda: ec.generate_private_key(ec.SECP256R1()))
    first = LogV1(key, host)
    second = LogV2(kept_key(given.directory / "rekor2.key", ed25519.Ed25519PrivateKey.generate), host)
    for log, proposed in zip((first, second), first_entries()):
        log.add(proposed)
    server = Server((given.address, given.port), first, second)
    if given.tls_certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(given.tls_certificate, given.tls_key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    print("ready", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
