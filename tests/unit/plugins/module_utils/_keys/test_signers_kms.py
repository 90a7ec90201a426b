# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of keys with cloud services: what their libraries are asked, and what is made of their answers.

The libraries are the real ones. In front of that of AWS is a client of ours (moto is in tests/interop), behind that of
Vault a server of its documented API, behind those of Google and Azure a transport that answers as they document it.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import json
import threading
import typing as t
from concurrent import futures

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import KeyFileError
from ansible_collections.hallmark.signing.plugins.module_utils._keys import algorithms, pem
from ansible_collections.hallmark.signing.plugins.module_utils._keys.signers import aws, azure, gcp, uri, vault
from ansible_collections.hallmark.signing.tests.tools import vault_transit
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

MESSAGE = b"payload" * 1000
SECRET = "s3cr3t"
NAMES = {"p256": "ecdsa-p256", "p384": "ecdsa-p384", "p521": "ecdsa-p521", "rsa2048": "rsa-2048"}
SIZES = (256, 384, 512)
RSA_SCHEMES = [f"rsa-{kind}-sha{size}" for kind in ("pkcs1v15", "pss") for size in SIZES]


def refusal(function: t.Callable[[], object]) -> KeyFileError:
    """Return the error with which a function refuses."""
    with pytest.raises(KeyFileError) as caught:
        function()
    return caught.value


def sign_digest(key: t.Any, digest: bytes, size: int, *, is_pss: bool = False) -> bytes:
    """Sign as a service does that gets the hash."""
    algorithm = {256: hashes.SHA256(), 384: hashes.SHA384(), 512: hashes.SHA512()}[size]
    chosen = utils.Prehashed(algorithm)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(digest, ec.ECDSA(chosen))
    pss = padding.PSS(mgf=padding.MGF1(algorithm), salt_length=algorithm.digest_size)
    return t.cast(bytes, key.sign(digest, pss if is_pss else padding.PKCS1v15(), chosen))


def der(key: t.Any) -> bytes:
    """Return the public key as services have it."""
    return t.cast(bytes, key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    ))


def signs(signer: uri.UriSigner, schemes: t.Iterable[str]) -> None:
    """Assert that it signs in these, and in no others."""
    wanted = list(schemes)
    assert list(signer.schemes) == wanted
    for scheme in wanted:
        signature = signer.sign(MESSAGE, scheme=scheme)
        assert algorithms.verifies(signer.public.key, signature=signature, message=MESSAGE, schemes=(scheme,))


# AWS ---------------------------------------------------------------------------------------------------------------

ALIAS = "awskms:///alias/release"
ARN = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"


class Kms:
    """A client of AWS KMS with one key behind an alias."""

    def __init__(self, key: t.Any, algorithms_: list[str] | None) -> None:
        self.key, self.algorithms = key, algorithms_
        self.made: list[tuple[tuple[object, ...], dict[str, t.Any]]] = []
        self.asked: list[dict[str, t.Any]] = []
        self.error: Exception | None = None

    def client(self, *arguments: object, **options: t.Any) -> Kms:
        self.made.append((arguments, options))
        return self

    def get_public_key(self, *, KeyId: str) -> dict[str, t.Any]:
        self.asked.append({"KeyId": KeyId})
        if self.error is not None:
            raise self.error
        answer = {"KeyId": ARN, "PublicKey": der(self.key), "KeyUsage": "SIGN_VERIFY"}
        return {**answer, **({} if self.algorithms is None else {"SigningAlgorithms": self.algorithms})}

    def sign(self, *, KeyId: str, Message: bytes, MessageType: str, SigningAlgorithm: str) -> dict[str, t.Any]:
        self.asked.append({"KeyId": KeyId, "Message": Message, "MessageType": MessageType})
        if self.error is not None:
            raise self.error
        size = int(SigningAlgorithm.rpartition("_")[2])
        return {"Signature": sign_digest(self.key, Message, size, is_pss="PSS" in SigningAlgorithm)}


@pytest.fixture
def kms(monkeypatch: pytest.MonkeyPatch) -> t.Callable[..., Kms]:
    """Makes a client of AWS KMS that is the one of this process."""
    pytest.importorskip("boto3", reason="boto3 is not installed")

    def make(key: t.Any, algorithms_: list[str] | None) -> Kms:
        made = Kms(key, algorithms_)
        monkeypatch.setattr(aws.boto3, "client", made.client)
        return made

    return make


@pytest.mark.parametrize(("fixture", "names", "schemes"), [
    ("p256", ["ECDSA_SHA_256"], ["ecdsa-sha256"]), ("p384", ["ECDSA_SHA_384"], ["ecdsa-sha384"]),
    ("p521", ["ECDSA_SHA_512", "NEW_ONE"], ["ecdsa-sha512"]),
    ("rsa2048", [f"RSASSA_{kind}_SHA_{size}" for kind in ("PKCS1_V1_5", "PSS") for size in SIZES], RSA_SCHEMES),
])
def test_aws_signs_digests_by_the_key_behind_the_alias(
    fixture: str, names: list[str], schemes: list[str], kms: t.Any, request: pytest.FixtureRequest
) -> None:
    client = kms(request.getfixturevalue(fixture), names)
    signer = uri.load(ALIAS)
    signs(signer, schemes)
    assert client.asked[0] == {"KeyId": "alias/release"}
    assert client.asked[1:] == [
        {"KeyId": ARN, "MessageType": "DIGEST", "Message": hashlib.new(scheme.rpartition("-")[2], MESSAGE).digest()}
        for scheme in schemes
    ]


@pytest.mark.parametrize(("text", "region", "endpoint"), [
    (ALIAS, None, None), (f"awskms:///{ARN}", "eu-west-1", None), ("awskms://h:1/alias/x", None, "https://h:1"),
])
def test_aws_is_asked_where_the_uri_says_and_not_for_ever(
    text: str, region: str | None, endpoint: str | None, kms: t.Any, p256: t.Any
) -> None:
    client = kms(p256, ["ECDSA_SHA_256"])
    uri.load(text)
    (((name,), options),) = client.made
    assert (name, options["region_name"], options["endpoint_url"]) == ("kms", region, endpoint)
    config = options["config"]
    assert (config.connect_timeout, config.read_timeout) == (5, 10)
    assert config.retries == {"mode": "standard", "total_max_attempts": 2}


@pytest.mark.parametrize("names", [None, [], ["SM2DSA"]])
def test_aws_key_that_does_not_sign_is_refused(names: list[str] | None, kms: t.Any, rsa2048: t.Any) -> None:
    kms(rsa2048, names)
    assert refusal(lambda: uri.load(ALIAS)).code == "unsupported_algorithm"


def _client_error(code: str) -> t.Callable[[], Exception]:
    def make() -> Exception:
        from botocore.exceptions import ClientError

        return ClientError({"Error": {"Code": code, "Message": SECRET}}, "Sign")

    return make


def _botocore_error(name: str, **options: t.Any) -> t.Callable[[], Exception]:
    def make() -> Exception:
        from botocore import exceptions

        return t.cast(Exception, getattr(exceptions, name)(**options))

    return make


@pytest.mark.parametrize(("make", "code", "cause"), [
    (_client_error("NotFoundException"), "not_found", "NotFoundException"),
    *((_client_error(name), "unauthorized", name) for name in (
        "AccessDeniedException", "UnrecognizedClientException", "InvalidClientTokenId", "ExpiredTokenException",
        "InvalidSignatureException", "MissingAuthenticationToken", "DisabledException", "IncompleteSignature",
        "SignatureDoesNotMatch", "AccessDenied",
    )),
    (_client_error("InvalidArnException"), "input_invalid", "InvalidArnException"),
    (_client_error("InvalidKeyUsageException"), "unsupported_algorithm", "InvalidKeyUsageException"),
    (_client_error("UnsupportedOperationException"), "unsupported_algorithm", "UnsupportedOperationException"),
    (_client_error("KMSInternalException"), "service_unavailable", "KMSInternalException"),
    (_client_error("ThrottlingException"), "service_unavailable", "ThrottlingException"),
    (_botocore_error("NoCredentialsError"), "unauthorized", "NoCredentialsError"),
    (_botocore_error("PartialCredentialsError", provider="x", cred_var="y"), "unauthorized", "PartialCredentialsError"),
    (_botocore_error("CredentialRetrievalError", provider="x", error_msg=SECRET), "unauthorized",
     "CredentialRetrievalError"),
    (_botocore_error("ProfileNotFound", profile="x"), "unauthorized", "ProfileNotFound"),
    (_botocore_error("NoRegionError"), "input_invalid", "NoRegionError"),
    (_botocore_error("InvalidRegionError", region_name="x"), "input_invalid", "InvalidRegionError"),
    (_botocore_error("EndpointConnectionError", endpoint_url=SECRET), "service_unavailable", "EndpointConnectionError"),
    (_botocore_error("ReadTimeoutError", endpoint_url=SECRET), "service_unavailable", "ReadTimeoutError"),
])
def test_aws_errors_are_told_by_their_codes(
    make: t.Callable[[], Exception], code: str, cause: str, kms: t.Any, p256: t.Any, assert_hides: t.Any
) -> None:
    client = kms(p256, ["ECDSA_SHA_256"])
    signer = uri.load(ALIAS)
    client.error = make()
    for asked in (lambda: uri.load(ALIAS), lambda: signer.sign(MESSAGE)):
        error = refusal(asked)
        assert (error.code, error.object, error.cause) == (code, ALIAS, cause)
        assert_hides(error, SECRET.encode())


def test_aws_that_answers_garbage_is_refused(kms: t.Any, p256: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client = kms(p256, ["ECDSA_SHA_256"])
    for answer in ({}, {"KeyId": ARN, "PublicKey": b"garbage"}):
        monkeypatch.setattr(client, "get_public_key", lambda answer=answer, **_options: answer)
        assert refusal(lambda: uri.load(ALIAS)).code == "service_unavailable"


def test_aws_without_a_region_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: t.Any) -> None:
    pytest.importorskip("boto3", reason="boto3 is not installed")
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(aws.boto3, "DEFAULT_SESSION", None)
    error = refusal(lambda: uri.load(ALIAS))
    assert (error.code, error.cause) == ("input_invalid", "NoRegionError")


# Vault -------------------------------------------------------------------------------------------------------------


class Running(t.NamedTuple):
    """The server, and a client that makes keys."""

    server: vault_transit.Server
    client: t.Any


@pytest.fixture
def transit(monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Running]:
    """A server of the Transit API, and an environment that leads there."""
    hvac = pytest.importorskip("hvac", reason="hvac is not installed")
    server = vault_transit.Server(0, SECRET)
    thread = threading.Thread(target=server.serve_forever, args=(0.003,), daemon=True)
    thread.start()
    for name in ("BAO_ADDR", "BAO_TOKEN", "VAULT_NAMESPACE", "TRANSIT_SECRET_ENGINE_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VAULT_ADDR", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setenv("VAULT_TOKEN", SECRET)
    yield Running(server, hvac.Client())
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(("kind", "schemes"), [
    *((f"ecdsa-p{size}", ["ecdsa-sha256", "ecdsa-sha384", "ecdsa-sha512"]) for size in (256, 384, 521)),
    ("rsa-2048", RSA_SCHEMES), ("ed25519", ["ed25519"]),
])
def test_vault_signs_with_each_kind_of_key(kind: str, schemes: list[str], transit: Running) -> None:
    transit.client.secrets.transit.create_key("release", key_type=kind)
    signer = uri.load("hashivault://release")
    assert (signer.where, signer.public.algorithm.name) == ("hv:release", kind)
    signs(signer, schemes)
    assert signer.chooses_scheme is (kind != "ed25519")
    assert transit.server.transit.requests[1:] == ["GET keys release", *["POST sign release"] * len(schemes)]


def test_vault_signs_with_the_version_that_was_read(transit: Running) -> None:
    keys = transit.client.secrets.transit
    keys.create_key("release", key_type="ecdsa-p256")
    first = uri.load("hv:release")
    for _number in range(10):
        keys.rotate_key("release")
    newest = uri.load("hv:release")
    assert newest.public != first.public
    assert uri.load("hv:release/1").public == first.public
    assert uri.load("hv:release/11").public == newest.public
    for signer in (first, newest, uri.load("hv:release/3")):
        assert signer.sign(MESSAGE)
    error = refusal(lambda: uri.load("hv:release/12"))
    assert (error.code, error.cause) == ("not_found", "version 12 is not there")
    assert "10, 11" in error.advice


def test_server_of_this_test_takes_what_is_documented_only(transit: Running) -> None:
    """What the product sends is documented, then, for each kind of key; and defaults are those of Vault."""
    for kind in ("ecdsa-p256", "rsa-2048"):
        transit.client.secrets.transit.create_key(kind, key_type=kind)
    good = {"input": base64.b64encode(b"x").decode()}
    for name, more in (
        ("ecdsa-p256", {"algorithm": "sha2-256"}), ("ecdsa-p256", {"signature_algorithm": "pss"}),
        ("rsa-2048", {"marshaling_algorithm": "asn1"}), ("rsa-2048", {"hash_algorithm": "sha256"}),
        ("ecdsa-p256", {"prehashed": True}), ("ecdsa-p256", {"key_version": 2}), ("ecdsa-p256", {"input": "*"}),
    ):
        with pytest.raises(vault.hvac.exceptions.InvalidRequest):
            transit.client.write_data(f"transit/sign/{name}", data={**good, **more})
    answer = transit.client.write_data("transit/sign/rsa-2048", data=good)
    key = transit.server.transit.keys["rsa-2048"].versions[0].public_key()
    longest = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=padding.PSS.MAX_LENGTH)
    key.verify(base64.b64decode(answer["data"]["signature"].split(":")[2]), b"x", longest, hashes.SHA256())


def test_vault_key_that_does_not_sign_is_refused(transit: Running) -> None:
    transit.client.secrets.transit.create_key("release", key_type="aes256-gcm96")
    error = refusal(lambda: uri.load("hv:release"))
    assert (error.code, error.cause) == ("unsupported_algorithm", "it is a key that does not sign")


def test_vault_errors_are_told_by_their_kinds(
    transit: Running, monkeypatch: pytest.MonkeyPatch, assert_hides: t.Any
) -> None:
    transit.client.secrets.transit.create_key("release", key_type="ecdsa-p256")
    signer = uri.load("hv:release")
    error = refusal(lambda: uri.load("hv:another"))
    assert (error.code, error.object, error.cause) == ("not_found", "hv:another", "InvalidPath")
    for status, code, cause in (
        (400, "service_unavailable", "InvalidRequest"), (401, "unauthorized", "Unauthorized"),
        (403, "unauthorized", "Forbidden"), (404, "not_found", "InvalidPath"),
        (500, "service_unavailable", "InternalServerError"), (503, "service_unavailable", "VaultDown"),
    ):
        transit.server.fault = status
        for asked in (lambda: uri.load("hv:release"), lambda: signer.sign(MESSAGE)):
            error = refusal(asked)
            assert (error.code, error.cause) == (code, cause)
            assert_hides(error, SECRET.encode())
    transit.server.fault = None
    monkeypatch.setenv("VAULT_TOKEN", "another")
    assert refusal(lambda: uri.load("hv:release")).code == "unauthorized"
    monkeypatch.setenv("VAULT_ADDR", "http://127.0.0.1:1")
    error = refusal(lambda: uri.load("hv:release"))
    assert (error.code, error.cause) == ("service_unavailable", "ConnectionError")


@pytest.mark.parametrize("answer", [
    {}, {"data": None}, {"data": {}}, {"data": {"signature": 7}}, {"data": {"signature": "vault:v1"}},
    {"data": {"signature": "vault:v1:***"}}, {"data": {"signature": "vault:v1:AAAA"}},
])
def test_vault_that_answers_garbage_is_refused(
    answer: t.Any, transit: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    transit.client.secrets.transit.create_key("release", key_type="ecdsa-p256")
    signer = uri.load("hv:release")
    monkeypatch.setattr(transit.server.transit, "answer", lambda *_arguments: answer)
    assert refusal(lambda: signer.sign(MESSAGE)).code == "signature_invalid"


@pytest.mark.parametrize("answer", [
    {}, {"data": None}, {"data": {"keys": {}}}, {"data": {"keys": {"one": {}}}},
    {"data": {"keys": {"1": {"public_key": "-----BEGIN"}}}}, {"data": {"keys": {"1": {"public_key": "AAAA"}}}},
])
def test_vault_whose_key_is_garbage_is_refused(
    answer: t.Any, transit: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transit.server.transit, "answer", lambda *_arguments: answer)
    assert refusal(lambda: uri.load("hv:release")).code in ("service_unavailable", "malformed")


def test_vault_is_found_by_the_environment(transit: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    transit.client.secrets.transit.create_key("release", key_type="ecdsa-p256")
    address = str(transit.client.url)
    monkeypatch.delenv("VAULT_ADDR")
    error = refusal(lambda: uri.load("hv:release"))
    assert (error.code, error.object) == ("input_invalid", "uri")
    monkeypatch.setenv("BAO_ADDR", address)
    monkeypatch.setenv("BAO_TOKEN", SECRET)
    monkeypatch.delenv("VAULT_TOKEN")
    assert uri.load("openbao://release").sign(MESSAGE)
    monkeypatch.setenv("VAULT_ADDR", address)
    monkeypatch.setenv("VAULT_TOKEN", SECRET)
    monkeypatch.setenv("BAO_ADDR", "http://127.0.0.1:1")
    monkeypatch.setenv("BAO_TOKEN", "another")
    assert uri.load("hv:release")
    monkeypatch.setenv("TRANSIT_SECRET_ENGINE_PATH", "elsewhere")
    assert refusal(lambda: uri.load("hv:release")).code == "not_found"


def test_vault_namespace_and_time_limit_are_given(transit: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    transit.client.secrets.transit.create_key("release", key_type="ecdsa-p256")
    made: list[dict[str, t.Any]] = []
    client = vault.hvac.Client
    monkeypatch.setattr(vault.hvac, "Client", lambda **options: made.append(options) or client(**options))
    monkeypatch.setenv("VAULT_NAMESPACE", "team")
    uri.load("hv:release")
    assert [(one["namespace"], one["timeout"]) for one in made] == [("team", 10)]


# Google ------------------------------------------------------------------------------------------------------------

GCP_NAME = "projects/p/locations/global/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1"


class Grpc:
    """A server of the two calls that are made."""

    def __init__(self, kms: t.Any) -> None:
        self.kms = kms
        self.key: t.Any = None
        self.algorithm = ""
        self.status: t.Any = None
        self.asked: list[t.Any] = []

    def get(self, data: bytes, context: t.Any) -> bytes:
        request = self.kms.GetPublicKeyRequest.deserialize(data)
        self.asked.append(request)
        if self.status is not None:
            context.abort(self.status, SECRET)
        text = pem.public_key(self.key.public_key(), where="x").pem
        answer = self.kms.PublicKey(name=request.name, pem=text, algorithm=self.algorithm)
        return t.cast(bytes, self.kms.PublicKey.serialize(answer))

    def sign(self, data: bytes, context: t.Any) -> bytes:
        request = self.kms.AsymmetricSignRequest.deserialize(data)
        self.asked.append(request)
        if self.status is not None:
            context.abort(self.status, SECRET)
        kinds = {size: getattr(request.digest, f"sha{size}") for size in SIZES}
        ((size, digest),) = [(size, digest) for size, digest in kinds.items() if digest]
        signature = sign_digest(self.key, digest, size, is_pss="PSS" in self.algorithm)
        answer = self.kms.AsymmetricSignResponse(name=request.name, signature=signature)
        return t.cast(bytes, self.kms.AsymmetricSignResponse.serialize(answer))


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Grpc]:
    """A server of Google's calls, to which its client library leads."""
    kms = pytest.importorskip("google.cloud.kms", reason="google-cloud-kms is not installed")
    import grpc
    from google.cloud.kms_v1.services.key_management_service.transports import KeyManagementServiceGrpcTransport

    answers = Grpc(kms)
    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(
        "google.cloud.kms.v1.KeyManagementService", {
            "GetPublicKey": grpc.unary_unary_rpc_method_handler(answers.get),
            "AsymmetricSign": grpc.unary_unary_rpc_method_handler(answers.sign),
        },
    ),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    channel = grpc.insecure_channel(f"127.0.0.1:{port}")
    monkeypatch.setattr(gcp.kms, "KeyManagementServiceClient", functools.partial(
        kms.KeyManagementServiceClient, transport=KeyManagementServiceGrpcTransport(channel=channel)
    ))
    yield answers
    channel.close()
    server.stop(None).wait(10)


@pytest.mark.parametrize(("fixture", "algorithm", "schemes"), [
    ("p256", "EC_SIGN_P256_SHA256", ["ecdsa-sha256"]), ("p384", "EC_SIGN_P384_SHA384", ["ecdsa-sha384"]),
    ("rsa2048", "RSA_SIGN_PKCS1_2048_SHA256", ["rsa-pkcs1v15-sha256"]),
])
def test_google_signs_digests_in_the_scheme_of_the_key(
    fixture: str, algorithm: str, schemes: list[str], google: Grpc, request: pytest.FixtureRequest
) -> None:
    google.key, google.algorithm = request.getfixturevalue(fixture), algorithm
    signer = uri.load(f"gcpkms://{GCP_NAME}")
    assert not signer.chooses_scheme
    signs(signer, schemes)
    assert {one.name for one in google.asked} == {GCP_NAME}
    signs(uri.load(f"gcpkms:{GCP_NAME}"), schemes)


@pytest.mark.parametrize(("algorithm", "scheme"), [
    ("RSA_SIGN_PSS_2048_SHA256", "rsa-pss-sha256"), ("RSA_SIGN_PSS_4096_SHA512", "rsa-pss-sha512"),
    ("RSA_SIGN_PKCS1_4096_SHA512", "rsa-pkcs1v15-sha512"),
])
def test_google_key_in_an_unusual_scheme_must_be_asked_for(
    algorithm: str, scheme: str, google: Grpc, rsa2048: t.Any
) -> None:
    google.key, google.algorithm = rsa2048, algorithm
    error = refusal(lambda: uri.load(f"gcpkms://{GCP_NAME}"))
    assert (error.code, error.cause) == ("unsupported_algorithm", f"the key signs in {scheme} only")
    signs(uri.load(f"gcpkms://{GCP_NAME}", scheme=scheme), [scheme])


@pytest.mark.parametrize("algorithm", ["RSA_SIGN_RAW_PKCS1_2048", "RSA_DECRYPT_OAEP_2048_SHA256", "HMAC_SHA256"])
def test_google_key_of_another_kind_is_refused(algorithm: str, google: Grpc, rsa2048: t.Any) -> None:
    google.key, google.algorithm = rsa2048, algorithm
    assert refusal(lambda: uri.load(f"gcpkms://{GCP_NAME}")).code == "unsupported_algorithm"


@pytest.mark.parametrize(("status", "code", "cause"), [
    ("NOT_FOUND", "not_found", "NotFound"), ("PERMISSION_DENIED", "unauthorized", "PermissionDenied"),
    ("UNAUTHENTICATED", "unauthorized", "Unauthenticated"), ("INVALID_ARGUMENT", "input_invalid", "InvalidArgument"),
    ("FAILED_PRECONDITION", "unauthorized", "FailedPrecondition"),
    ("RESOURCE_EXHAUSTED", "service_unavailable", "ResourceExhausted"),
])
def test_google_errors_are_told_by_their_kinds(
    status: str, code: str, cause: str, google: Grpc, p256: t.Any, assert_hides: t.Any
) -> None:
    import grpc

    google.key, google.algorithm = p256, "EC_SIGN_P256_SHA256"
    signer = uri.load(f"gcpkms://{GCP_NAME}")
    google.status = getattr(grpc.StatusCode, status)
    for asked in (lambda: uri.load(f"gcpkms://{GCP_NAME}"), lambda: signer.sign(MESSAGE)):
        error = refusal(asked)
        assert (error.code, error.cause) == (code, cause)
        assert_hides(error, SECRET.encode())


def test_google_that_is_away_is_waited_for_as_long_as_said(google: Grpc, p256: t.Any) -> None:
    import grpc

    google.key, google.algorithm = p256, "EC_SIGN_P256_SHA256"
    signer = uri.load(f"gcpkms://{GCP_NAME}", seconds=1.5)
    google.status = grpc.StatusCode.UNAVAILABLE
    error = refusal(lambda: signer.sign(MESSAGE))
    assert error.code == "service_unavailable"


def test_google_without_credentials_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: t.Any) -> None:
    pytest.importorskip("google.cloud.kms", reason="google-cloud-kms is not installed")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none"))
    error = refusal(lambda: uri.load(f"gcpkms://{GCP_NAME}"))
    assert (error.code, error.cause) == ("unauthorized", "DefaultCredentialsError")


# Azure -------------------------------------------------------------------------------------------------------------

HOST = "v1.vault.azure.net"
NEWEST, OLDER = "0123456789abcdef0123456789abcdef", "f" * 32


def _number(value: int, size: int) -> str:
    return base64.urlsafe_b64encode(value.to_bytes(size, "big")).rstrip(b"=").decode()


def _json_web_key(key: t.Any) -> dict[str, t.Any]:
    numbers = key.public_key().public_numbers()
    if isinstance(key, rsa.RSAPrivateKey):
        return {"kty": "RSA-HSM", "n": _number(numbers.n, key.key_size // 8), "e": "AQAB"}
    bits = key.curve.key_size
    names = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521", "secp256k1": "P-256K"}
    size = (bits + 7) // 8
    return {"kty": "EC", "crv": names[key.curve.name], "x": _number(numbers.x, size), "y": _number(numbers.y, size)}


class Answers:
    """What Azure answers: a key by its versions, and signatures as JSON web algorithms spell them."""

    def __init__(self) -> None:
        self.keys: dict[str, t.Any] = {}
        self.asked: list[tuple[str, str]] = []
        self.status: tuple[int, str] | None = None

    def __call__(self, request: t.Any) -> tuple[int, dict[str, str], t.Any]:
        if "Authorization" not in request.headers:
            challenge = 'Bearer authorization="https://login.example.org/tenant", resource="https://vault.azure.net"'
            return 401, {"WWW-Authenticate": challenge}, {}
        path = request.url.partition("?")[0].removeprefix(f"https://{HOST}/")
        self.asked.append((request.method, path))
        if self.status is not None:
            return self.status[0], {}, {"error": {"code": self.status[1], "message": SECRET}}
        _keys, _name, version, *rest = [*path.split("/"), ""][:4]
        version = version or NEWEST
        if version not in self.keys:
            return 404, {}, {"error": {"code": "KeyNotFound", "message": SECRET}}
        key, kid = self.keys[version], f"https://{HOST}/keys/release/{version}"
        if rest != ["sign"]:
            return 200, {}, {"key": {"kid": kid, "key_ops": ["sign", "verify"], **_json_web_key(key)}, "attributes": {}}
        body = json.loads(request.body)
        digest = base64.urlsafe_b64decode(body["value"] + "==")
        signature = sign_digest(key, digest, int(body["alg"][2:]), is_pss=body["alg"].startswith("PS"))
        if isinstance(key, ec.EllipticCurvePrivateKey):
            size = (key.curve.key_size + 7) // 8
            signature = b"".join(one.to_bytes(size, "big") for one in utils.decode_dss_signature(signature))
        return 200, {}, {"kid": kid, "value": base64.urlsafe_b64encode(signature).rstrip(b"=").decode()}


@pytest.fixture
def key_vault(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """Answers of Azure, to which its client library leads."""
    pytest.importorskip("azure.keyvault.keys", reason="azure-keyvault-keys is not installed")
    from azure.core.credentials import AccessToken
    from azure.core.pipeline.transport import RequestsTransport
    from requests import PreparedRequest, Response, Session
    from requests.adapters import HTTPAdapter
    from urllib3 import HTTPResponse

    answers = Answers()

    class Adapter(HTTPAdapter):
        def send(self, request: PreparedRequest, *_arguments: object, **_options: object) -> Response:
            status, headers, body = answers(request)
            return self.build_response(request, HTTPResponse(
                body=io.BytesIO(json.dumps(body).encode()), status=status, preload_content=False,
                headers={"Content-Type": "application/json", **headers},
            ))

    session = Session()
    session.mount("https://", Adapter())

    class Credential:
        def get_token(self, *_scopes: str, **_options: t.Any) -> t.Any:
            return AccessToken("token", 2**40)

    monkeypatch.setattr(azure, "DefaultAzureCredential", Credential)
    transport = RequestsTransport(session=session)
    for name in ("KeyClient", "CryptographyClient"):
        monkeypatch.setattr(azure, name, functools.partial(getattr(azure, name), transport=transport))
    return answers


@pytest.mark.parametrize(("fixture", "schemes"), [
    ("p256", ["ecdsa-sha256"]), ("p384", ["ecdsa-sha384"]), ("p521", ["ecdsa-sha512"]), ("rsa2048", RSA_SCHEMES),
])
def test_azure_signs_digests_with_the_version_that_was_read(
    fixture: str, schemes: list[str], key_vault: Answers, request: pytest.FixtureRequest
) -> None:
    key_vault.keys[NEWEST] = request.getfixturevalue(fixture)
    signer = uri.load(f"azurekms://{HOST}/release")
    signs(signer, schemes)
    assert signer.chooses_scheme is (fixture == "rsa2048")
    read, *signed = key_vault.asked
    assert (read[0], read[1].rstrip("/")) == ("GET", "keys/release")
    assert signed == [("POST", f"keys/release/{NEWEST}/sign")] * len(schemes)


def test_azure_version_that_is_named_is_the_one(key_vault: Answers, p256: t.Any, p384: t.Any) -> None:
    key_vault.keys.update({NEWEST: p256, OLDER: p384})
    for text in (f"azurekms://{HOST}/release/{OLDER}", f"azurekms://{HOST}/keys/release/{OLDER}"):
        key_vault.asked.clear()
        signs(uri.load(text), ["ecdsa-sha384"])
        assert key_vault.asked == [("GET", f"keys/release/{OLDER}"), ("POST", f"keys/release/{OLDER}/sign")]


def test_azure_key_on_another_curve_is_refused(key_vault: Answers) -> None:
    key_vault.keys[NEWEST] = ec.generate_private_key(ec.SECP256K1())
    assert refusal(lambda: uri.load(f"azurekms://{HOST}/release")).code == "unsupported_algorithm"


@pytest.mark.parametrize(("status", "name", "code"), [
    (401, "Unauthorized", "unauthorized"), (403, "Forbidden", "unauthorized"), (404, "KeyNotFound", "not_found"),
    (400, "BadParameter", "service_unavailable"),
])
def test_azure_errors_are_told_by_their_codes(
    status: int, name: str, code: str, key_vault: Answers, p256: t.Any, assert_hides: t.Any
) -> None:
    key_vault.keys[NEWEST] = p256
    signer = uri.load(f"azurekms://{HOST}/release")
    key_vault.status = (status, name)
    for asked in (lambda: uri.load(f"azurekms://{HOST}/release"), lambda: signer.sign(MESSAGE)):
        error = refusal(asked)
        assert (error.code, error.object) == (code, f"azurekms://{HOST}/release")
        assert error.cause == name
        assert_hides(error, SECRET.encode())


def test_azure_is_not_asked_for_ever(key_vault: Answers, p256: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, t.Any]] = []
    for name in ("KeyClient", "CryptographyClient"):
        own = getattr(azure, name)
        monkeypatch.setattr(azure, name, lambda *a, own=own, **o: made.append(o) or own(*a, **o))
    key_vault.keys[NEWEST] = p256
    uri.load(f"azurekms://{HOST}/release")
    limits = {"retry_total": 1, "connection_timeout": 5, "read_timeout": 10}
    assert [{name: one[name] for name in limits} for one in made] == [limits, limits]
