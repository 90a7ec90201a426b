# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A server of the Transit API as Vault and OpenBao document it, for tests: keys that sign, and nothing else of Vault.

    vault_transit.py PORT TOKEN

It answers at http://127.0.0.1:PORT/v1/transit until it is stopped, to whoever sends TOKEN in X-Vault-Token. Of the API:
create, read and rotate a key (POST and GET /keys/NAME, POST /keys/NAME/rotate), and sign (POST /sign/NAME, with or
without /HASH). Parameters, defaults and answers are those of "Transit secrets engine (API)"; a parameter that is not
documented there, or is not for this kind of key, is refused, which Vault itself does not always do.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import hmac
import json
import sys
import threading
import typing as t
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

Json = dict[str, t.Any]

_HASHES = {
    "sha2-224": hashes.SHA224, "sha2-256": hashes.SHA256, "sha2-384": hashes.SHA384, "sha2-512": hashes.SHA512,
}
_CURVES = {"ecdsa-p256": ec.SECP256R1, "ecdsa-p384": ec.SECP384R1, "ecdsa-p521": ec.SECP521R1}
_RSA = {"rsa-2048": 2048, "rsa-3072": 3072, "rsa-4096": 4096}
_SYMMETRIC = ("aes256-gcm96", "chacha20-poly1305")
_SIGN = {
    "key_version", "hash_algorithm", "input", "reference", "batch_input", "context", "prehashed",
    "signature_algorithm", "marshaling_algorithm", "salt_length",
}


class RefusedError(Exception):
    """What Vault answers with an error: its status, and what it says."""

    def __init__(self, status: int, *errors: str) -> None:
        super().__init__(*errors)
        self.status, self.errors = status, errors


@dataclass
class Key:
    """A named key with its versions, the first of which has number 1."""

    type: str
    versions: list[t.Any] = field(default_factory=list)
    min_encryption_version: int = 0

    def rotate(self) -> None:
        """Add a version."""
        if self.type in _CURVES:
            self.versions.append(ec.generate_private_key(_CURVES[self.type]()))
        elif self.type in _RSA:
            self.versions.append(rsa.generate_private_key(public_exponent=65537, key_size=_RSA[self.type]))
        else:
            self.versions.append(ed25519.Ed25519PrivateKey.generate() if self.type == "ed25519" else b"symmetric")

    def described(self, name: str) -> Json:
        """Return what reading the key answers."""
        signs = self.type not in _SYMMETRIC
        return {
            "type": self.type, "name": name, "deletion_allowed": False, "derived": False, "exportable": False,
            "allow_plaintext_backup": False, "min_available_version": 0, "min_decryption_version": 1,
            "min_encryption_version": self.min_encryption_version, "latest_version": len(self.versions),
            "supports_encryption": not signs or self.type in _RSA, "supports_derivation": not signs,
            "supports_decryption": not signs or self.type in _RSA, "supports_signing": signs, "imported_key": False,
            "keys": {str(number): self._version(one) for number, one in enumerate(self.versions, 1)},
        }

    def _version(self, private: t.Any) -> Json | int:
        now = datetime.datetime.now(datetime.timezone.utc)
        if self.type in _SYMMETRIC:
            return int(now.timestamp())
        public = private.public_key()
        if self.type == "ed25519":
            raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
            text = base64.b64encode(raw).decode()
        else:
            spki = serialization.PublicFormat.SubjectPublicKeyInfo
            text = public.public_bytes(serialization.Encoding.PEM, spki).decode()
        names = {"ecdsa-p256": "P-256", "ecdsa-p384": "P-384", "ecdsa-p521": "P-521"}
        return {
            "creation_time": now.isoformat().replace("+00:00", "Z"), "name": names.get(self.type, self.type),
            "public_key": text,
        }


class Transit:
    """The engine: keys by name."""

    def __init__(self) -> None:
        self.keys: dict[str, Key] = {}
        self.requests: list[str] = []
        self._lock = threading.Lock()

    def answer(self, method: str, path: list[str], given: Json) -> Json | None:
        """Answer one request below /v1/transit; None has no content. Raises RefusedError."""
        with self._lock:
            self.requests.append(" ".join([method, *path]))
            if path[0] == "keys" and len(path) == 2:
                return self._read(path[1]) if method == "GET" else self._create(path[1], given)
            if method == "POST" and path[0] == "keys" and path[2:] == ["rotate"]:
                _only(given, {"managed_key_name", "managed_key_id"})
                self._key(path[1], 400).rotate()
                return None
            if method == "POST" and path[0] == "sign" and len(path) in (2, 3):
                return {"data": self._sign(path[1], {**given, **({"hash_algorithm": path[2]} if path[2:] else {})})}
        raise RefusedError(404)

    def _key(self, name: str, status: int) -> Key:
        if name not in self.keys:
            raise RefusedError(status, *(["signing key not found"] if status == 400 else []))
        return self.keys[name]

    def _read(self, name: str) -> Json:
        return {"data": self._key(name, 404).described(name)}

    def _create(self, name: str, given: Json) -> None:
        _only(given, {"type", "exportable", "allow_plaintext_backup", "derived", "auto_rotate_period", "key_size"})
        kind = given.get("type", "aes256-gcm96")
        if kind not in {*_CURVES, *_RSA, *_SYMMETRIC, "ed25519"}:
            raise RefusedError(400, f"unknown key type {kind}")
        if name not in self.keys:
            self.keys[name] = Key(kind)
            self.keys[name].rotate()

    def _sign(self, name: str, given: Json) -> Json:
        _only(given, _SIGN)
        key = self._key(name, 400)
        if key.type in _SYMMETRIC:
            raise RefusedError(400, f"key type {key.type} does not support signing")
        version = given.get("key_version", 0) or len(key.versions)
        if not isinstance(version, int) or not max(1, key.min_encryption_version) <= version <= len(key.versions):
            raise RefusedError(400, "requested version for signing is not available")
        try:
            data = base64.b64decode(given["input"], validate=True)
        except (KeyError, TypeError, binascii.Error):
            raise RefusedError(400, "unable to decode input as base64") from None
        private = key.versions[version - 1]
        signature = self._ed25519(private, data, given) if key.type == "ed25519" else self._hashed(private, data, given)
        return {"signature": f"vault:v{version}:{base64.b64encode(signature).decode()}", "key_version": version}

    @staticmethod
    def _ed25519(private: ed25519.Ed25519PrivateKey, data: bytes, given: Json) -> bytes:
        if set(given) - {"input", "key_version", "reference"} and given.get("prehashed"):
            raise RefusedError(400, "prehashed is not supported for ed25519 keys")
        return private.sign(data)

    @staticmethod
    def _hashed(private: t.Any, data: bytes, given: Json) -> bytes:
        name = given.get("hash_algorithm", "sha2-256")
        if name not in _HASHES:
            raise RefusedError(400, f"unsupported hash algorithm {name}")
        algorithm = _HASHES[name]()
        prehashed = given.get("prehashed", False)
        if not isinstance(prehashed, bool):
            raise RefusedError(400, "prehashed is no boolean")
        if prehashed and len(data) != algorithm.digest_size:
            raise RefusedError(400, "input is not of the length of the hash")
        chosen = utils.Prehashed(algorithm) if prehashed else algorithm
        if isinstance(private, ec.EllipticCurvePrivateKey):
            if set(given) & {"signature_algorithm", "salt_length"}:
                raise RefusedError(400, "signature_algorithm and salt_length are for RSA")
            signature = private.sign(data, ec.ECDSA(chosen))
            return _marshalled(signature, given.get("marshaling_algorithm", "asn1"), private.curve.key_size)
        return t.cast(bytes, private.sign(data, _padding(given, algorithm), chosen))


def _marshalled(signature: bytes, how: str, bits: int) -> bytes:
    if how == "asn1":
        return signature
    if how != "jws":
        raise RefusedError(400, f"unsupported marshaling algorithm {how}")
    size = (bits + 7) // 8
    return b"".join(number.to_bytes(size, "big") for number in utils.decode_dss_signature(signature))


def _padding(given: Json, algorithm: hashes.HashAlgorithm) -> padding.AsymmetricPadding:
    if "marshaling_algorithm" in given:
        raise RefusedError(400, "marshaling_algorithm is for ECDSA")
    kind = given.get("signature_algorithm", "pss")
    if kind == "pkcs1v15":
        return padding.PKCS1v15()
    if kind != "pss":
        raise RefusedError(400, f"unsupported signature algorithm {kind}")
    salts: dict[str, t.Any] = {"auto": padding.PSS.MAX_LENGTH, "hash": algorithm.digest_size}
    salt = given.get("salt_length", "auto")
    if salt not in salts and not str(salt).isdigit():
        raise RefusedError(400, f"invalid salt length {salt}")
    return padding.PSS(mgf=padding.MGF1(algorithm), salt_length=salts.get(salt) or int(salt))


def _only(given: Json, known: set[str]) -> None:
    if unknown := set(given) - known:
        raise RefusedError(400, f"parameters that are not documented: {sorted(unknown)}")


class Server(ThreadingHTTPServer):
    """The server: for tests in the same process, C(transit) is what it works on, C(fault) a status it answers with."""

    daemon_threads = True

    def __init__(self, port: int, token: str) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.transit, self.token = Transit(), token
        self.fault: int | None = None


class Handler(BaseHTTPRequestHandler):
    """Reads requests, and asks the engine."""

    server: Server
    protocol_version = "HTTP/1.1"
    # Head and body leave one after the other; the second shall not wait for the first to arrive.
    disable_nagle_algorithm = True

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            if self.server.fault is not None:
                raise RefusedError(self.server.fault, "as the test wants it")
            if not hmac.compare_digest(self.headers.get("X-Vault-Token") or "", self.server.token):
                raise RefusedError(403, "permission denied")
            head, *path = self.path.strip("/").split("/")
            if head != "v1" or path[:1] != ["transit"] or len(path) < 2:
                raise RefusedError(404, "no handler for route")
            given = json.loads(body) if body else {}
            method = "POST" if self.command == "PUT" else self.command
            answer, status = self.server.transit.answer(method, path[1:], given), 200
        except RefusedError as error:
            answer, status = {"errors": list(error.errors)}, error.status
        data = b"" if answer is None else json.dumps({"request_id": "test", "lease_id": "", **answer}).encode()
        self.send_response(status if data else 204)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = _serve

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""


def main() -> None:
    """Run the command line."""
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    Server(int(sys.argv[1]), sys.argv[2]).serve_forever()


if __name__ == "__main__":
    main()
