# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The transparency log and the time-stamping authority of these tests are like real ones.

The real cosigns and rekor-cli take what they say when it is the truth, and refuse their lies. So what our code says of
them, other tests may take for what it would say of real ones. Nothing of the collection is tested here.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import http.client
import json
import pathlib
import subprocess
import time
import typing as t

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID
from interop_tools import Cosign, Json, Registry, TimestampServer, TransparencyLog, serve_timestamps

if t.TYPE_CHECKING:
    from conftest import KeyFiles

RekorCli = t.Callable[..., subprocess.CompletedProcess[str]]
Done = subprocess.CompletedProcess


def _ok(done: Done[str]) -> Done[str]:
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done


def _refused(done: Done[str], *words: str) -> None:
    """Demand that a program has refused, not just broken down."""
    assert done.returncode not in (0, 2), f"{done.stdout}\n{done.stderr}"
    assert not words or any(word in done.stderr + done.stdout for word in words), done.stderr


# --- signatures in the .sig format -----------------------------------------------------------------------------------


def test_entries_verify_offline_under_the_key_of_the_log_only(
    cosign: Cosign, cosigns: list[Cosign], registry: Registry, p256: KeyFiles, other: KeyFiles,
    transparency_log: TransparencyLog,
) -> None:
    image = registry.image()
    _ok(cosign.sign_logged(image, p256.cosign, log=transparency_log, format="sig"))
    asked = transparency_log.requests()
    annotation = json.loads(registry.layers(image)[0]["annotations"]["dev.sigstore.cosign/bundle"])
    assert annotation["Payload"]["logIndex"] > 1000
    for reader in cosigns:
        _ok(reader.verify_logged(image, p256.public, log=transparency_log, format="sig"))
        mine = [] if reader.major < 3 else ["--new-bundle-format=false"]
        foreign = {"SIGSTORE_REKOR_PUBLIC_KEY": str(other.public)}
        _refused(
            reader.run("verify", "--key", str(p256.public), "--offline=true", *mine, image, environment=foreign),
            "rekor log public key not found",
        )
    assert transparency_log.requests() == asked


@pytest.mark.parametrize("kind", ["set", "log_id", "time", "index", "body", "other_entry"])
def test_lies_about_entries_are_refused(
    kind: str, legacy_cosign: Cosign, cosigns: list[Cosign], registry: Registry, p256: KeyFiles,
    transparency_log: TransparencyLog,
) -> None:
    """This cosign stores what the log says without looking."""
    image = registry.image()
    with transparency_log.lying(kind):
        _ok(legacy_cosign.sign_logged(image, p256.cosign, log=transparency_log))
    for reader in cosigns:
        _refused(reader.verify_logged(image, p256.public, log=transparency_log, format="sig"), "bundle", "rekor log")


def test_an_entry_that_is_there_already_is_taken(
    legacy_cosign: Cosign, registry: Registry, make_key: t.Callable[[str], KeyFiles],
    transparency_log: TransparencyLog,
) -> None:
    """RSA signatures are equal each time: the log answers 409, and where the entry is."""
    key, name = make_key("rsa-2048"), registry.name()
    for _number in range(2):
        image = registry.image(name=name)
        _ok(legacy_cosign.sign_logged(image, key.cosign, log=transparency_log))
        registry.put_sig(image, [])
    assert transparency_log.requests()[-1].startswith("GET /api/v1/log/")
    assert any("/api/v1/log/entries/0000000010c0ffee" in one for one in transparency_log.requests()[-3:])


# --- bundles ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [1, 2])
def test_bundles_verify_offline(
    version: int, bundle_cosign: Cosign, found_cosigns: list[Cosign], registry: Registry, p256: KeyFiles,
    other: KeyFiles, transparency_log: TransparencyLog, timestamp_server: TimestampServer,
) -> None:
    image = registry.image()
    services: Json = {"log": transparency_log, "timestamps": timestamp_server}
    _ok(bundle_cosign.sign_logged(image, p256.cosign, version=version, **services))
    asked, tokens = transparency_log.requests(), timestamp_server.requests()
    assert asked[-1] == f"POST /api/v{version}/log/entries"
    _ok(bundle_cosign.verify_logged(image, p256.public, **services))
    _refused(bundle_cosign.verify_logged(image, other.public, **services))
    for reader in found_cosigns:
        # The older one reads it as an attestation, unless its entry is one of the second version.
        if reader.major == 2:
            done = reader.run(
                "verify-attestation", "--key", str(p256.public), "--new-bundle-format", "--type",
                "https://sigstore.dev/cosign/sign/v1", "--trusted-root",
                str(bundle_cosign.trusted_root(**services)), image,
            )
            assert (done.returncode == 0) == (version == 1), done.stderr
    assert (transparency_log.requests(), timestamp_server.requests()) == (asked, tokens)


# What cosign 3 refuses of either log, when it verifies what it has just signed.
_EVERY = (
    "log_id", "index", "set", "proof", "long_proof", "short_proof", "checkpoint", "checkpoint_root", "other_entry",
)
_LIES = [
    *((1, kind) for kind in (*_EVERY, "time", "tree_index", "root", "size", "body", "witness")),
    *((2, kind) for kind in (*_EVERY, "no_proof", "origin", "checkpoint_size")),
]
# What it takes: of version 1 the name and the size in a checkpoint; of version 2 whatever it makes itself instead.
_TAKEN = [
    *((1, kind) for kind in ("no_set", "origin", "checkpoint_size")),
    *((2, kind) for kind in ("tree_index", "root", "size", "body", "witness")),
]


@pytest.mark.parametrize(("version", "kind"), [*_LIES, *_TAKEN], ids=str)
def test_lies_about_bundles(
    version: int, kind: str, bundle_cosign: Cosign, registry: Registry, p256: KeyFiles,
    transparency_log: TransparencyLog,
) -> None:
    with transparency_log.lying(kind):
        done = bundle_cosign.sign_logged(registry.image(), p256.cosign, log=transparency_log, version=version)
    if (version, kind) in _TAKEN:
        _ok(done)
    else:
        _refused(done, "log", "tlog", "proof", "entry", "SET")


def _change(entry: Json, what: str) -> None:
    """Change something that a log has said, in the place it has in a bundle."""
    promise, proof = entry["inclusionPromise"], entry["inclusionProof"]
    holder, name = {
        "set": (promise, "signedEntryTimestamp"), "root": (proof, "rootHash"), "body": (entry, "canonicalizedBody"),
        "proof": (proof["hashes"], 0), "checkpoint": (proof["checkpoint"], "envelope"),
    }[what]
    if what == "checkpoint":
        # A digit of its size.
        origin, size, rest = holder[name].split("\n", 2)
        holder[name] = f"{origin}\n{int(size) + 1}\n{rest}"
        return
    data = bytearray(base64.b64decode(holder[name]))
    data[-9] ^= 1
    holder[name] = base64.b64encode(data).decode()


def test_altered_bundles_are_refused(
    bundle_cosign: Cosign, cosigns: list[Cosign], p256: KeyFiles, tmp_path: pathlib.Path,
    transparency_log: TransparencyLog,
) -> None:
    blob, bundle = tmp_path / "blob", tmp_path / "bundle.json"
    blob.write_bytes(b"content")
    root = bundle_cosign.trusted_root(log=transparency_log)
    _ok(bundle_cosign.run(
        "sign-blob", "--key", str(p256.cosign), "--signing-config",
        str(bundle_cosign._signing_config(log=transparency_log)), "--trusted-root", str(root),
        "--bundle", str(bundle), "-y", str(blob),
    ))
    genuine = bundle.read_text()
    for reader in cosigns:
        own = ["--new-bundle-format"] if reader.major < 3 else []
        command = [
            "verify-blob", *own, "--key", str(p256.public), "--bundle", str(bundle), "--trusted-root", str(root),
            str(blob),
        ]
        bundle.write_text(genuine)
        _ok(reader.run(*command))
        for what in ("set", "proof", "root", "checkpoint", "body"):
            document = json.loads(genuine)
            _change(document["verificationMaterial"]["tlogEntries"][0], what)
            bundle.write_text(json.dumps(document))
            _refused(reader.run(*command))


# --- timestamps ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [[], ["--key", "rsa"], ["--essential", "sha1"]], ids=["ec", "rsa", "sha1"])
def test_timestamps_verify_under_their_authority_only(
    arguments: list[str], cosign: Cosign, cosigns: list[Cosign], registry: Registry, p256: KeyFiles,
    timestamp_server: TimestampServer, tmp_path: pathlib.Path,
) -> None:
    image = registry.image()
    with serve_timestamps(tmp_path, *arguments) as authority:
        _ok(cosign.sign_logged(image, p256.cosign, timestamps=authority, format="sig"))
        assert authority.requests() == 1
    for reader in cosigns:
        _ok(reader.verify_logged(image, p256.public, timestamps=authority, format="sig"))
        _refused(reader.verify_logged(image, p256.public, timestamps=timestamp_server, format="sig"), "timestamp")


@pytest.mark.parametrize("usage", ["plain", "none", "signing", "both"])
def test_certificates_that_are_not_for_timestamps_are_refused(
    usage: str, legacy_cosign: Cosign, bundle_cosign: Cosign, registry: Registry, p256: KeyFiles,
    tmp_path: pathlib.Path,
) -> None:
    image = registry.image()
    with serve_timestamps(tmp_path, "--usage", usage) as authority:
        _ok(legacy_cosign.sign_logged(image, p256.cosign, timestamps=authority))
        # The other one verifies at once.
        _refused(bundle_cosign.sign_logged(registry.image(), p256.cosign, timestamps=authority), "timestamp")
    for reader in (legacy_cosign, bundle_cosign):
        done = reader.verify_logged(image, p256.public, timestamps=authority, format="sig")
        _refused(done, "EKU", "incompatible key usage")


@pytest.mark.parametrize("kind", ["imprint", "denied", "other_authority", "clock", "status500", "garbage", "cut"])
def test_lies_about_time_are_refused(
    kind: str, bundle_cosign: Cosign, registry: Registry, p256: KeyFiles, timestamp_server: TimestampServer,
) -> None:
    # Before the certificate of the signer begins.
    with timestamp_server.lying(kind, seconds=-864_000):
        _refused(bundle_cosign.sign_logged(registry.image(), p256.cosign, timestamps=timestamp_server))
    _ok(bundle_cosign.sign_logged(registry.image(), p256.cosign, timestamps=timestamp_server))


# --- rekor-cli -------------------------------------------------------------------------------------------------------


def _pem(key: t.Any) -> bytes:
    return t.cast(bytes, key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ))


class Artifact:
    """A file with its signature, and the arguments of rekor-cli for it."""

    def __init__(self, folder: pathlib.Path, text: str) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.data, self.path = text.encode(), folder / "artifact"
        self.digest = hashlib.sha256(self.data).hexdigest()
        self.path.write_bytes(self.data)
        self.signature = self.key.sign(self.data, ec.ECDSA(hashes.SHA256()))
        (folder / "signature").write_bytes(self.signature)
        (folder / "key.pub").write_bytes(_pem(self.key))
        self.key_arguments = ["--public-key", str(folder / "key.pub"), "--pki-format", "x509"]
        self.arguments = [
            "--type", "hashedrekord:0.0.1", "--artifact-hash", self.digest, "--signature",
            str(folder / "signature"), *self.key_arguments,
        ]

    def proposed(self) -> Json:
        """Return what is posted to a log of version 1."""
        return {"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": {
            "data": {"hash": {"algorithm": "sha256", "value": self.digest}},
            "signature": {
                "content": base64.b64encode(self.signature).decode(),
                "publicKey": {"content": base64.b64encode(_pem(self.key)).decode()},
            },
        }}

    def proposed_v2(self) -> Json:
        """Return what is posted to a log of version 2."""
        der = self.key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return {"hashedRekordRequestV002": {
            "digest": base64.b64encode(bytes.fromhex(self.digest)).decode(),
            "signature": {"content": base64.b64encode(self.signature).decode(), "verifier": {
                "keyDetails": "PKIX_ECDSA_P256_SHA_256", "publicKey": {"rawBytes": base64.b64encode(der).decode()},
            }},
        }}


@pytest.fixture
def artifact(tmp_path: pathlib.Path) -> Artifact:
    return Artifact(tmp_path, str(tmp_path))


def test_rekor_cli_uploads_finds_and_verifies(
    rekor_cli: RekorCli, artifact: Artifact, transparency_log: TransparencyLog
) -> None:
    log = transparency_log
    _ok(rekor_cli(log, "loginfo"))
    created = _ok(rekor_cli(log, "upload", *artifact.arguments)).stdout
    assert created.startswith("Created entry at index 1")
    uuid = created.rpartition("/")[2].strip()
    again = _ok(rekor_cli(log, "upload", *artifact.arguments)).stdout
    assert again.startswith("Entry already exists")
    assert again.strip().endswith(f"/api/v1/log/entries/{uuid}")

    found = json.loads(_ok(rekor_cli(log, "get", "--uuid", uuid, "--format", "json")).stdout)
    assert found["UUID"] == uuid
    assert found["Body"]["HashedRekordObj"]["data"]["hash"]["value"] == artifact.digest
    index = str(found["LogIndex"])
    for arguments in (["--log-index", index], ["--uuid", uuid[16:]]):
        same = json.loads(_ok(rekor_cli(log, "get", *arguments, "--format", "json")).stdout)
        assert same["UUID"] == uuid
    for arguments in (artifact.arguments, ["--uuid", uuid], ["--log-index", index]):
        assert f"Entry Hash: {uuid[16:]}\n" in _ok(rekor_cli(log, "verify", *arguments)).stdout
    for arguments in (
        ["--sha", artifact.digest], ["--artifact", str(artifact.path)], artifact.key_arguments,
        ["--sha", artifact.digest, *artifact.key_arguments, "--operator", "and"],
    ):
        assert _ok(rekor_cli(log, "search", *arguments)).stdout.split() == [uuid]
    _refused(rekor_cli(log, "search", "--sha", "0" * 64, *artifact.key_arguments, "--operator", "and"), "no matching")
    # It knows the tree from before, and wants a proof that it has only grown.
    assert "Verification Successful" in _ok(rekor_cli(log, "loginfo")).stdout
    assert any("/api/v1/log/proof?firstSize=" in one for one in log.requests())
    _refused(rekor_cli(log, "get", "--log-index", "3"), "NotFound")


def test_rekor_cli_and_envelopes(
    rekor_cli: RekorCli, bundle_cosign: Cosign, registry: Registry, p256: KeyFiles, tmp_path: pathlib.Path,
    transparency_log: TransparencyLog,
) -> None:
    image = registry.image()
    _ok(bundle_cosign.sign_logged(
        image, p256.cosign, "--upload=false", "--bundle", str(tmp_path / "bundle.json"), log=transparency_log
    ))
    bundle = json.loads((tmp_path / "bundle.json").read_text())
    envelope = bundle["dsseEnvelope"]
    uuids = _ok(rekor_cli(transparency_log, "search", "--sha", image.rpartition(":")[2])).stdout.split()
    assert len(uuids) == 1
    payload = hashlib.sha256(base64.b64decode(envelope["payload"])).hexdigest()
    assert _ok(rekor_cli(transparency_log, "search", "--sha", payload)).stdout.split() == uuids
    got = json.loads(_ok(rekor_cli(transparency_log, "get", "--uuid", uuids[0], "--format", "json")).stdout)
    assert got["Body"]["DSSEObj"]["signatures"][0]["signature"] == envelope["signatures"][0]["sig"]
    _ok(rekor_cli(transparency_log, "verify", "--uuid", uuids[0]))
    # The same envelope in other words is another entry; it is uploaded, and verified.
    (tmp_path / "envelope.json").write_text(json.dumps(envelope, indent=1))
    arguments = ["--type", "dsse", "--artifact", str(tmp_path / "envelope.json"), "--public-key", str(p256.public)]
    _ok(rekor_cli(transparency_log, "upload", *arguments, "--pki-format", "x509"))
    _ok(rekor_cli(transparency_log, "verify", *arguments, "--pki-format", "x509"))


def _certificate(key: t.Any) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "signer")])
    now = datetime.datetime.now(datetime.timezone.utc)
    names = [x509.RFC822Name("Signer@example.com"), x509.UniformResourceIdentifier("https://example.com/signer")]
    return (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )


def test_entries_with_certificates_are_found_by_their_names(
    rekor_cli: RekorCli, artifact: Artifact, tmp_path: pathlib.Path, transparency_log: TransparencyLog
) -> None:
    certificate = _certificate(artifact.key)
    (tmp_path / "key.pub").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    created = _ok(rekor_cli(transparency_log, "upload", *artifact.arguments)).stdout
    uuid = created.rpartition("/")[2].strip()
    _ok(rekor_cli(transparency_log, "verify", *artifact.arguments))
    for arguments in (["--email", "signer@example.com"], artifact.key_arguments):
        assert _ok(rekor_cli(transparency_log, "search", *arguments)).stdout.split() == [uuid]
    query = {"subject": "https://example.com/Signer"}
    assert _post(transparency_log, "/api/v1/index/retrieve", query)[:2] == (200, [uuid])

    request = artifact.proposed_v2()
    der = base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()
    request["hashedRekordRequestV002"]["signature"]["verifier"] = {
        "keyDetails": "PKIX_ECDSA_P256_SHA_256", "x509Certificate": {"rawBytes": der},
    }
    status, document, _headers = _post(transparency_log, "/api/v2/log/entries", request)
    assert status == 201
    assert der.encode() in base64.b64decode(document["canonicalizedBody"])


@pytest.mark.parametrize(
    "kind", ["set", "proof", "long_proof", "root", "tree_index", "checkpoint", "checkpoint_root", "body", "other_entry"]
)
def test_rekor_cli_refuses_lies(
    kind: str, rekor_cli: RekorCli, artifact: Artifact, transparency_log: TransparencyLog
) -> None:
    _ok(rekor_cli(transparency_log, "upload", *artifact.arguments))
    with transparency_log.lying(kind):
        _refused(rekor_cli(transparency_log, "verify", *artifact.arguments))
    _ok(rekor_cli(transparency_log, "verify", *artifact.arguments))


# --- what no client of ours shall rely on ----------------------------------------------------------------------------


def _post(log: TransparencyLog, path: str, document: t.Any) -> tuple[int, Json, t.Any]:
    connection = http.client.HTTPConnection(log.url.removeprefix("http://"), timeout=10)
    try:
        connection.request("POST", path, json.dumps(document), {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, json.loads(response.read()), response.headers
    finally:
        connection.close()


def test_logs_refuse_what_real_ones_refuse(artifact: Artifact, transparency_log: TransparencyLog) -> None:
    """As pkg/api/entries.go of Rekor and internal/server/service.go of rekor-tiles have it."""
    edwards = ed25519.Ed25519PrivateKey.generate()
    p384 = ec.generate_private_key(ec.SECP384R1())
    pure, short, kind, altered = (artifact.proposed() for _number in range(4))
    for proposed, key, signature in (
        (pure, edwards, edwards.sign(artifact.data)),
        (short, p384, p384.sign(artifact.data, ec.ECDSA(hashes.SHA256()))),
    ):
        proposed["spec"]["signature"] = {
            "content": base64.b64encode(signature).decode(),
            "publicKey": {"content": base64.b64encode(_pem(key)).decode()},
        }
    kind["kind"] = "cose"
    altered["spec"]["data"]["hash"]["value"] = "0" * 64
    for proposed in (pure, short, kind, altered, {}, {**artifact.proposed(), "spec": {}}):
        status, document, _headers = _post(transparency_log, "/api/v1/log/entries", proposed)
        assert (status, document["code"]) == (400, 400)
        assert document["message"]

    request = artifact.proposed_v2()
    for proposed in ({"dsseRequestV002": {}}, {**request, "unknown": 1}, artifact.proposed()):
        status, document, _headers = _post(transparency_log, "/api/v2/log/entries", proposed)
        assert (status, document["code"]) == (400, 3)
    status, document, _headers = _post(transparency_log, "/api/v2/log/entries", request)
    assert status == 201
    assert (document["integratedTime"], document["inclusionPromise"]) == ("0", None)
    status, again, headers = _post(transparency_log, "/api/v2/log/entries", request)
    assert (status, again["code"], headers["x-log-index"]) == (409, 6, document["logIndex"])


def test_entries_are_found_by_what_was_uploaded(artifact: Artifact, transparency_log: TransparencyLog) -> None:
    path = "/api/v1/log/entries"
    status, created, headers = _post(transparency_log, path, artifact.proposed())
    (uuid,) = created
    assert (status, headers["ETag"], headers["Location"]) == (201, uuid, f"{path}/{uuid}")
    status, refused, headers = _post(transparency_log, path, artifact.proposed())
    assert (status, refused["code"], headers["Location"]) == (409, 409, f"{path}/{uuid}")
    index = created[uuid]["logIndex"]
    assert created[uuid]["verification"]["inclusionProof"]["logIndex"] == index - 1000
    absent = uuid[:-2] + ("00" if uuid[-2:] != "00" else "11")
    for query in (
        {"entryUUIDs": [uuid, absent]}, {"entryUUIDs": [uuid[16:]]}, {"logIndexes": [index, 3]},
        {"entries": [artifact.proposed()]},
    ):
        status, found, _headers = _post(transparency_log, f"{path}/retrieve", query)
        assert (status, [list(one) for one in found]) == (200, [[uuid]])
    assert _post(transparency_log, f"{path}/retrieve", {"entryUUIDs": [uuid] * 11})[0] == 422
    assert _post(transparency_log, f"{path}/retrieve", {"entryUUIDs": ["x"]})[0] == 422


def test_answers_can_be_spoilt(transparency_log: TransparencyLog) -> None:
    query: Json = {"hash": "0" * 64}
    path = "/api/v1/index/retrieve"
    with transparency_log.lying("answer", status=202, body='{"a": 1}', headers={"X": "y"}, times=1, path="/index/"):
        assert _post(transparency_log, "/api/v1/log/entries/retrieve", {})[:2] == (200, [])
        status, document, headers = _post(transparency_log, path, query)
        assert (status, document, headers["X"]) == (202, {"a": 1}, "y")
        assert _post(transparency_log, path, query)[:2] == (200, [])
    with transparency_log.lying("status500"):
        assert _post(transparency_log, path, query)[0] == 500
    with transparency_log.lying("cut"), pytest.raises(http.client.IncompleteRead):
        _post(transparency_log, path, query)
    with transparency_log.lying("slow", seconds=0.3):
        begun = time.monotonic()
        assert _post(transparency_log, path, query)[:2] == (200, [])
        assert time.monotonic() - begun > 0.25
    with transparency_log.lying("large"):
        assert int(_post(transparency_log, path, query)[2]["Content-Length"]) > 100_000_000
