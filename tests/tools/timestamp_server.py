# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A time-stamping authority for tests: HTTP before "openssl ts -reply" (RFC 3161).

    timestamp_server.py --port P --directory D [--address A] [--usage U] [--key K] [--essential H] [--lifetime S E]

It prints "ready" when it listens; POST a TimeStampReq to any path. D/chain.pem is the signer's certificate and then
the root's, D/root.pem the root's alone, D/signer.pem the signer's: made anew at every start. --usage: the signer's
extended key usage (critical, plain, none, signing: another one, both: it and another one). --key: ec or rsa.
--essential: the hash of the certificate's identifier in the token (sha256: ESSCertIDv2, sha1: ESSCertID). --lifetime:
the signer's certificate begins and ends so many seconds from now.

It lies when told so: POST /fault {"kind": K}, until {"kind": null}: "imprint" (a token over something else), "denied"
(a reply without token), "other_authority" (another signer and root, of the same names), "clock" (another time, by
"seconds"), "status500", "garbage", "slow" ("seconds"), "cut". GET /requests: how many tokens were asked for.
"""

from __future__ import annotations

import argparse
import datetime
import json
import pathlib
import re
import subprocess
import tempfile
import threading
import time
import typing as t
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

FAULTS = ("imprint", "denied", "other_authority", "clock", "status500", "garbage", "slow", "cut")
_USAGES: dict[str, tuple[list[x509.ObjectIdentifier], bool]] = {
    "critical": ([ExtendedKeyUsageOID.TIME_STAMPING], True), "plain": ([ExtendedKeyUsageOID.TIME_STAMPING], False),
    "none": ([], False), "signing": ([ExtendedKeyUsageOID.CODE_SIGNING], True),
    "both": ([ExtendedKeyUsageOID.TIME_STAMPING, ExtendedKeyUsageOID.CODE_SIGNING], True),
}
_CONFIG = """
[tsa]
default_tsa = one
[one]
serial = {folder}/serial
signer_cert = {folder}/signer.pem
signer_key = {folder}/signer.key
certs = {folder}/root.pem
signer_digest = sha256
ess_cert_id_alg = {essential}
default_policy = 1.3.6.1.4.1.57264.2
digests = sha256, sha384, sha512
accuracy = secs:1
"""
_TIME = "%Y%m%d%H%M%S"
# PKIStatusInfo: rejection, badAlg.
_DENIED = bytes.fromhex("3009 3007 0201 02 0302 0780")


def write_authority(folder: pathlib.Path, given: argparse.Namespace, *, usage: str) -> None:
    """Write a root, a signer under it, and the configuration of openssl."""
    folder.mkdir(parents=True, exist_ok=True)
    now = datetime.datetime.now(datetime.timezone.utc)
    root_key = ec.generate_private_key(ec.SECP256R1())
    key = rsa.generate_private_key(65537, 2048) if given.key == "rsa" else ec.generate_private_key(ec.SECP256R1())
    root_name, name = (
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in ("test TSA root", "test TSA")
    )
    root_id = x509.SubjectKeyIdentifier.from_public_key(root_key.public_key())
    root = (
        x509.CertificateBuilder().subject_name(root_name).issuer_name(root_name).public_key(root_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=30)).not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(False, False, False, False, False, True, True, False, False), critical=True)
        .add_extension(root_id, critical=False)
        .sign(root_key, hashes.SHA256())
    )
    begin, end = (now + datetime.timedelta(seconds=seconds) for seconds in given.lifetime)
    builder = (
        x509.CertificateBuilder().subject_name(name).issuer_name(root_name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(begin).not_valid_after(end)
        .add_extension(x509.KeyUsage(True, False, False, False, False, False, False, False, False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(root_id), critical=False)
    )
    usages, critical = _USAGES[usage]
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=critical)
    signer = builder.sign(root_key, hashes.SHA256())
    pems = [one.public_bytes(serialization.Encoding.PEM) for one in (signer, root)]
    (folder / "signer.pem").write_bytes(pems[0])
    (folder / "root.pem").write_bytes(pems[1])
    (folder / "chain.pem").write_bytes(b"".join(pems))
    (folder / "signer.key").touch(mode=0o600)
    (folder / "signer.key").write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ))
    (folder / "serial").write_text("01\n")
    (folder / "openssl.cnf").write_text(_CONFIG.format(folder=folder, essential=given.essential))


def openssl(*arguments: object, given: bytes) -> bytes:
    """Run openssl on a file with these bytes, the last of its arguments."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(given)
        file.flush()
        command = ["openssl", *(str(one) for one in arguments), file.name]
        done = subprocess.run(command, capture_output=True, timeout=30, check=False)
    if done.returncode:
        raise ValueError(done.stderr.decode(errors="replace"))
    return done.stdout


def reply(folder: pathlib.Path, request: bytes) -> bytes:
    """Return the TimeStampResp to a TimeStampReq."""
    return openssl("ts", "-reply", "-config", folder / "openssl.cnf", "-queryfile", given=request)


def odd_reply(folder: pathlib.Path, inner: pathlib.Path, request: bytes, *, seconds: int) -> bytes:
    """Return a TimeStampResp as openssl would not make it: of another time, or by a certificate not meant for it."""
    token = openssl("ts", "-reply", "-config", inner / "openssl.cnf", "-token_out", "-queryfile", given=request)
    content = openssl(
        "cms", "-verify", "-noverify", "-nosigs", "-certfile", inner / "signer.pem", "-inform", "DER", "-in",
        given=token,
    )
    moment = re.search(rb"\x18\x0f([0-9]{14})Z", content)
    assert moment is not None
    told = datetime.datetime.strptime(moment[1].decode(), _TIME) + datetime.timedelta(seconds=seconds)
    content = content.replace(moment[1], told.strftime(_TIME).encode())
    # certReq is the last member of a request.
    certificates = [] if request.endswith(b"\x01\x01\xff") else ["-nocerts"]
    signed = openssl(
        "cms", "-sign", "-cades", "-md", "sha256", "-econtent_type", "1.2.840.113549.1.9.16.1.4", "-binary",
        "-nodetach", *certificates, "-signer", folder / "signer.pem", "-inkey", folder / "signer.key",
        "-outform", "DER", "-in", given=content,
    )
    granted = bytes.fromhex("3003 0201 00")
    return b"\x30\x82" + (len(granted) + len(signed)).to_bytes(2, "big") + granted + signed


class Server(ThreadingHTTPServer):
    """The server, and what it is told to do wrong."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], folder: pathlib.Path, *, is_odd: bool) -> None:
        super().__init__(address, Handler)
        self.folder, self.is_odd = folder, is_odd
        self.lock = threading.Lock()
        self.fault: dict[str, t.Any] = {}
        self.requests = 0
        self.asked = ""

    def token(self, request: bytes) -> bytes:
        """Return a reply: openssl counts in a file, so one at a time."""
        kind = self.fault.get("kind")
        if kind == "denied":
            return _DENIED
        if kind == "imprint":
            at = request.index(b"\x04\x20") + 2
            request = request[:at] + bytes(32) + request[at + 32:]
        folder = self.folder / "other" if kind == "other_authority" else self.folder
        with self.lock:
            if kind == "clock" or self.is_odd:
                return odd_reply(folder, self.folder / "inner", request, seconds=self.fault.get("seconds", 0))
            return reply(folder, request)


class Handler(BaseHTTPRequestHandler):
    """Answers requests."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self._answer(200, json.dumps(self.server.requests).encode(), "application/json")

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/fault":
            fault = json.loads(sent)
            self.server.fault = fault if fault["kind"] in FAULTS else {}
            known = fault["kind"] in (None, *FAULTS)
            self._answer(200 if known else 400, json.dumps(FAULTS).encode(), "application/json")
            return
        self.server.requests += 1
        self.server.asked = self.path
        kind = self.server.fault.get("kind")
        if self.headers.get_content_type() != "application/timestamp-query":
            self._answer(415, b"unsupported media type\n", "text/plain")
        elif kind == "status500":
            self._answer(500, b"no\n", "text/plain")
        elif kind == "garbage":
            self._answer(200, b"<html>no</html>", "application/timestamp-reply")
        else:
            if kind == "slow":
                time.sleep(self.server.fault.get("seconds", 5))
            try:
                answer = self.server.token(sent)
            except ValueError as error:
                self._answer(400, str(error).encode(), "text/plain")
            else:
                # The authority of Sigstore answers 201 at this path, others 200.
                status = 201 if self.path == "/api/v1/timestamp" else 200
                self._answer(status, answer, "application/timestamp-reply", cut=kind == "cut")

    def _answer(self, status: int, body: bytes, media_type: str, *, cut: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        self.close_connection = self.close_connection or cut

    def log_message(self, format: str, *args: object) -> None:
        pass


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--directory", type=pathlib.Path, required=True)
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--usage", choices=sorted(_USAGES), default="critical")
    parser.add_argument("--key", choices=["ec", "rsa"], default="ec")
    parser.add_argument("--essential", choices=["sha256", "sha1"], default="sha256")
    parser.add_argument("--lifetime", type=int, nargs=2, default=[-3600, 86400], metavar=("BEGIN", "END"))
    given = parser.parse_args()
    folder = given.directory.absolute()
    for one in (folder, folder / "other"):
        write_authority(one, given, usage=given.usage)
    write_authority(folder / "inner", given, usage="critical")
    server = Server((given.address, given.port), folder, is_odd=given.usage != "critical")
    print("ready", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
