# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A small token service for docker-registry, for tests: ES256 tokens that carry their certificate.

    registry_tokens.py certificate FOLDER            writes token.key and token.crt
    registry_tokens.py serve PORT FOLDER USERS.json  answers at http://127.0.0.1:PORT/token until it is stopped

USERS.json: {"name": {"password": "…", "actions": ["pull", "push", "delete"]}}. Source: distribution
specification "Token Authentication Specification" and its JWT format.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import datetime
import hmac
import json
import pathlib
import secrets
import sys
import time
import typing as t
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID

ISSUER = "hallmark-test-issuer"
SERVICE = "hallmark-test-registry"
_LIFETIME = 300

Users = t.Mapping[str, t.Mapping[str, t.Any]]


def write_certificate(folder: pathlib.Path) -> None:
    """Write a new key and a self-signed certificate: token.key and token.crt."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test tokens")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5)).not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    path = folder / "token.key"
    path.touch(mode=0o600)
    path.write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ))
    (folder / "token.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


class Tokens:
    """Makes tokens for known users."""

    def __init__(self, folder: pathlib.Path, users: Users) -> None:
        key = serialization.load_pem_private_key((folder / "token.key").read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self._key = key
        certificate = x509.load_pem_x509_certificate((folder / "token.crt").read_bytes())
        self._x5c = base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode("ascii")
        self._users = users

    def user_of(self, authorization: str) -> str | None:
        """Return the user of a Basic header if the password is right."""
        try:
            text = base64.b64decode(authorization.removeprefix("Basic "), validate=True).decode("utf-8")
        except (binascii.Error, UnicodeDecodeError):
            return None
        name, _colon, password = text.partition(":")
        known = self._users.get(name)
        right = known is not None and hmac.compare_digest(str(known["password"]).encode(), password.encode())
        return name if right else None

    def token(self, user: str, scopes: t.Iterable[str]) -> str:
        """Return a token with those of the wanted actions that the user may do."""
        allowed = self._users[user]["actions"]
        access = []
        for scope in scopes:
            kind, _colon, rest = scope.partition(":")
            name, _colon, actions = rest.rpartition(":")
            access.append({
                "type": kind, "name": name, "actions": [one for one in actions.split(",") if one in allowed],
            })
        now = int(time.time())
        return self._sign({
            "iss": ISSUER, "sub": user, "aud": SERVICE, "nbf": now - 10, "iat": now, "exp": now + _LIFETIME,
            "jti": secrets.token_hex(8), "access": access,
        })

    def _sign(self, claims: t.Mapping[str, t.Any]) -> str:
        header = {"typ": "JWT", "alg": "ES256", "x5c": [self._x5c]}
        text = ".".join(_base64url(json.dumps(part).encode()) for part in (header, claims))
        r, s = decode_dss_signature(self._key.sign(text.encode("ascii"), ec.ECDSA(hashes.SHA256())))
        return f"{text}.{_base64url(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def serve(port: int, tokens: Tokens) -> None:
    """Answer token requests until the process is stopped."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            user = tokens.user_of(self.headers.get("Authorization", ""))
            if user is None:
                self._answer(401, {"details": "bad credentials"})
                return
            scopes = " ".join(parse_qs(urlsplit(self.path).query).get("scope", [])).split()
            self._answer(200, {"token": tokens.token(user, scopes), "expires_in": _LIFETIME})

        def _answer(self, status: int, document: t.Mapping[str, t.Any]) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="tokens"')
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    certificate = commands.add_parser("certificate")
    certificate.add_argument("folder", type=pathlib.Path)
    serving = commands.add_parser("serve")
    serving.add_argument("port", type=int)
    serving.add_argument("folder", type=pathlib.Path)
    serving.add_argument("users", type=pathlib.Path)
    given = parser.parse_args()
    if given.command == "certificate":
        write_certificate(given.folder)
    else:
        serve(given.port, Tokens(given.folder, json.loads(given.users.read_text())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
