# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys that are no files: in SoftHSM, with AWS KMS (moto) and Vault's Transit API, and behind a program.

What is signed with them is verified by the real cosigns, with the public key alone.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import typing as t

import pytest
from conftest import KeyFiles
from interop_tools import ROOT, Ansible, Cosign, Json, Registry, Task, free_port, process

LIBRARY = pathlib.Path("/usr/lib/softhsm/libsofthsm2.so")
SPIES = ("/usr/lib/*/pkcs11-spy.so", "/usr/lib/*/pkcs11/pkcs11-spy.so")
PIN = "4321"
# By python-pkcs11, in a process of its own: what a library keeps of a token, this process shall not.
MAKE_KEYS = """
import sys, pkcs11
from pkcs11.util.ec import encode_named_curve_parameters
token = pkcs11.lib(sys.argv[1]).get_token(token_label="interop")
with token.open(rw=True, user_pin=sys.argv[2]) as session:
    curve = session.create_domain_parameters(
        pkcs11.KeyType.EC, {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")}, local=True)
    curve.generate_keypair(store=True, label="born", id=b"\\1")
    session.generate_keypair(pkcs11.KeyType.RSA, 2048, store=True, label="rsa", id=b"\\2")
    key = session.get_key(pkcs11.ObjectClass.PRIVATE_KEY, label="born")
    assert key[pkcs11.Attribute.NEVER_EXTRACTABLE] and not key[pkcs11.Attribute.EXTRACTABLE]
"""


class SigningProcess:
    """Signs in a process of its own, in an environment that leads to the devices and services of these tests."""

    def __init__(self, **environment: str) -> None:
        self.environment = environment

    def run(self, *signers: Json, images: t.Sequence[str] = (), **environment: str) -> Json:
        """Load these signers and sign the images; return what became of it."""
        done = subprocess.run(
            [sys.executable, str(pathlib.Path(__file__).with_name("signing_process.py"))], capture_output=True,
            input=json.dumps({"signers": signers, "images": images}), text=True, timeout=120, check=False,
            env={**os.environ, **self.environment, **environment},
        )
        assert done.returncode == 0, done.stderr
        return t.cast(Json, json.loads(done.stdout))

    def sign(self, *signers: Json, images: t.Sequence[str], **environment: str) -> Json:
        """Sign the images, all of which must be signed."""
        told = self.run(*signers, images=images, **environment)
        assert not [one for one in told["signers"] if "code" in one], told
        assert len(told["outcomes"]) == len(images)
        assert not [one["reasons"] for one in told["outcomes"] if one["reasons"]]
        return told

    def refuse(self, *signers: Json, **environment: str) -> list[tuple[str, str]]:
        """Return the codes and messages with which signers are refused."""
        told = self.run(*signers, **environment)
        return [(one["code"], one["message"]) for one in told["signers"]]


def _accepted(
    signing: SigningProcess, signer: Json, registry: Registry, cosigns: list[Cosign], path: pathlib.Path
) -> Json:
    """Sign an image, have it verified by all cosigns, and sign it again, which changes nothing."""
    image = registry.image()
    told = signing.sign(signer, images=[image])
    path.write_text(told["signers"][0]["public_key"])
    for cosign in cosigns:
        done = cosign.verify(image, path)
        assert done.returncode == 0, f"{cosign.name}: {done.stderr}"
    assert told["outcomes"][0]["changed"]
    assert not signing.sign(signer, images=[image])["outcomes"][0]["changed"]
    assert (len(registry.layers(image)), len(registry.referrers(image))) == (1, 1)
    return t.cast(Json, told["signers"][0])


# SoftHSM -------------------------------------------------------------------------------------------------------------


class Token(t.NamedTuple):
    """A token of SoftHSM with three keys: two that were born in it, and one that was imported."""

    signing: SigningProcess
    folder: pathlib.Path

    def signer(self, path: str, *, library: object = LIBRARY, pin: str | None = PIN, **more: t.Any) -> Json:
        return {"uri": f"pkcs11:{path}?module-path={library}", "pin": pin, **more}


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory, p256: KeyFiles) -> Token:
    """A token of its own; the test is skipped where SoftHSM or python-pkcs11 is missing."""
    if shutil.which("softhsm2-util") is None or not LIBRARY.exists():
        pytest.skip("SoftHSM is not installed (Debian package softhsm2)")
    pytest.importorskip("pkcs11", reason="python-pkcs11 is not installed")
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir(mode=0o700)
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder}/tokens\nlog.level = ERROR\n")
    signing = SigningProcess(SOFTHSM2_CONF=str(folder / "softhsm2.conf"))
    for command in (
        ["softhsm2-util", "--init-token", "--free", "--label", "interop", "--so-pin", "87654321", "--pin", PIN],
        ["softhsm2-util", "--import", str(p256.pem), "--token", "interop", "--label", "imported", "--id", "03",
         "--pin", PIN],
        [sys.executable, "-c", MAKE_KEYS, str(LIBRARY), PIN],
    ):
        subprocess.run(
            command, check=True, capture_output=True, timeout=60, env={**os.environ, **signing.environment}
        )
    return Token(signing, folder)


@pytest.fixture(scope="module")
def spy() -> str:
    """The library that writes down what another one is asked."""
    found = [str(path) for pattern in SPIES for path in pathlib.Path("/").glob(pattern[1:])]
    if not found:
        pytest.skip("pkcs11-spy.so is not there (Debian package opensc-pkcs11)")
    return found[0]


def _calls(log: pathlib.Path) -> list[str]:
    return re.findall(r"^\d+: (C_\w+)$", log.read_text(errors="replace"), re.MULTILINE)


@pytest.mark.parametrize("key", ["born", "rsa", "imported"])
def test_cosign_verifies_what_softhsm_signed(
    key: str, token: Token, registry: Registry, cosigns: list[Cosign], tmp_path: pathlib.Path, p256: KeyFiles
) -> None:
    told = _accepted(
        token.signing, token.signer(f"token=interop;object={key}"), registry, cosigns, tmp_path / "k.pub"
    )
    assert (told["key_id"] == p256.key_id) is (key == "imported")


def test_spellings_of_a_key_in_a_token_are_one_key(token: Token, p256: KeyFiles, tmp_path: pathlib.Path) -> None:
    pin = tmp_path / "pin"
    pin.write_text(f"{PIN}\n")
    told = token.signing.run(
        token.signer("token=interop;object=imported", key_id=p256.key_id),
        token.signer("id=%03", public_key_path=str(p256.public)),
        {"uri": f"pkcs11:object=imported;type=private?module-path={LIBRARY}&pin-source=file:{pin}"},
        {"uri": "hsm:3?label=interop", "pin": PIN}, {"uri": "hsm:3", "pin": PIN}, PYKCS11LIB=str(LIBRARY),
    )
    assert [one.get("key_id") for one in told["signers"]] == [p256.key_id] * 5


def test_fifty_images_are_signed_in_one_session(
    token: Token, spy: str, registry: Registry, cosigns: list[Cosign], tmp_path: pathlib.Path
) -> None:
    images = [registry.image() for _number in range(50)]
    told = token.signing.sign(
        token.signer("object=born", library=spy), token.signer("object=rsa", library=spy), images=images,
        PKCS11SPY=str(LIBRARY), PKCS11SPY_OUTPUT=str(tmp_path / "calls"),
    )
    calls = _calls(tmp_path / "calls")
    counted = {name: calls.count(f"C_{name}") for name in ("Initialize", "OpenSession", "Login", "SignInit")}
    # Two keys, two formats.
    assert counted == {"Initialize": 1, "OpenSession": 1, "Login": 1, "SignInit": 200}
    assert [calls.count(f"C_{name}") for name in ("Logout", "CloseSession")] == [1, 1]
    for number, signer in enumerate(told["signers"]):
        (tmp_path / f"{number}.pub").write_text(signer["public_key"])
        for cosign in cosigns:
            assert cosign.accepts(images[17 * number], tmp_path / f"{number}.pub")


def test_wrong_pin_is_tried_once(token: Token, spy: str, tmp_path: pathlib.Path) -> None:
    wrong = token.signer("object=born", library=spy, pin="009100")
    refused = token.signing.refuse(
        wrong, wrong, token.signer("object=rsa", library=spy),
        PKCS11SPY=str(LIBRARY), PKCS11SPY_OUTPUT=str(tmp_path / "calls"),
    )
    assert [code for code, _message in refused] == ["passphrase_invalid"] * 3
    assert "It was tried once" in refused[0][1]
    assert "is not asked again" in refused[1][1]
    assert _calls(tmp_path / "calls").count("C_Login") == 1
    assert "009100" not in "".join(message for _code, message in refused)
    assert token.signing.run(token.signer("object=born"))["signers"][0]["key_id"]


def test_what_is_not_there_is_named(token: Token, tmp_path: pathlib.Path) -> None:
    (tmp_path / "empty.so").write_text("")
    (tmp_path / "tokens").mkdir()
    for signer, code, said in (
        (token.signer("token=another;object=born"), "not_found", "there is: 'interop'"),
        (token.signer("object=none"), "not_found", "'born' (id 01), 'imported' (id 03), 'rsa' (id 02)"),
        (token.signer("token=interop"), "input_invalid", "'born' (id 01), 'imported' (id 03), 'rsa' (id 02)"),
        (token.signer("object=born", library=tmp_path / "none.so"), "not_found", "none.so"),
        (token.signer("object=born", library=tmp_path / "empty.so"), "service_unavailable", "load the PKCS#11 library"),
        (token.signer("object=born", pin=None), "passphrase_invalid", "none is given"),
        (token.signer("object=born", key_id="0" * 64), "key_mismatch", "expected"),
    ):
        ((found, message),) = token.signing.refuse(signer)
        assert (found, said in message) == (code, True), message
    (tmp_path / "softhsm2.conf").write_text(f"directories.tokendir = {tmp_path}/tokens\n")
    ((found, message),) = token.signing.refuse(
        token.signer("object=born"), SOFTHSM2_CONF=str(tmp_path / "softhsm2.conf")
    )
    assert (found, "no token matches; there is: none" in message) == ("not_found", True)


def test_openssl_signs_as_a_program(
    token: Token, registry: Registry, cosigns: list[Cosign], tmp_path: pathlib.Path
) -> None:
    """By the engine of libp11, with the key in the same token."""
    engines = list(pathlib.Path("/usr/lib").glob("*/engines-*/pkcs11.so"))
    if not engines or shutil.which("openssl") is None:
        pytest.skip("openssl's engine for PKCS#11 is not installed (Debian package libengine-pkcs11-openssl)")
    (tmp_path / "pin").write_text(PIN)
    told = token.signing.run(token.signer("object=born"))["signers"][0]
    (tmp_path / "born.pub").write_text(told["public_key"])
    key = f"pkcs11:token=interop;object=born;type=private?pin-source=file:{tmp_path}/pin"
    signer = {
        "command": ["openssl", "dgst", "-sha256", "-engine", "pkcs11", "-keyform", "engine", "-sign", key],
        "public_key_path": str(tmp_path / "born.pub"), "key_id": told["key_id"],
    }
    signing = SigningProcess(**token.signing.environment, PKCS11_MODULE_PATH=str(LIBRARY))
    assert _accepted(signing, signer, registry, cosigns, tmp_path / "k.pub")["key_id"] == told["key_id"]
    # Of another key, whatever it signs.
    (tmp_path / "rsa.pub").write_text(signing.run(token.signer("object=rsa"))["signers"][0]["public_key"])
    outcome = signing.run(
        {**signer, "public_key_path": str(tmp_path / "rsa.pub"), "key_id": None}, images=[registry.image()]
    )["outcomes"][0]
    assert [one["code"] for one in outcome["reasons"]] == ["signature_invalid"]
    assert not outcome["changed"]


def test_a_playbook_signs_with_a_token(
    token: Token, ansible: Ansible, registry: Registry, cosigns: list[Cosign], tmp_path: pathlib.Path
) -> None:
    """By the module, as users name a key; a wrong PIN leaves the images alone."""
    told = token.signing.run(token.signer("object=born"))["signers"][0]
    (tmp_path / "born.pub").write_text(told["public_key"])
    (tmp_path / "pin").write_text(f"{PIN}\n")
    (tmp_path / "wrong").write_text("009100\n")
    images = [registry.image() for _number in range(3)]
    signer = {
        "uri": f"pkcs11:token=interop;object=born?module-path={LIBRARY}", "pin_path": str(tmp_path / "pin"),
        "key_id": told["key_id"],
    }
    arguments = {"images": images, "signers": [signer]}
    wrong = {"images": images, "signers": [{**signer, "pin_path": str(tmp_path / "wrong")}]}
    refused, planned, signed, again = ansible.run(
        [
            Task("image_signature", wrong), Task("image_signature", arguments, {"check_mode": True}),
            Task("image_signature", arguments), Task("image_signature", arguments),
        ],
        environment=token.signing.environment,
    )
    assert refused["failed"]
    assert [one["code"] for one in refused["reasons"]] == ["passphrase_invalid"] * len(refused["reasons"])
    assert "009100" not in json.dumps(refused)
    assert not refused["changed"]
    assert [planned["changed"], signed["changed"], again["changed"]] == [True, True, False]
    for image in images:
        for cosign in cosigns:
            assert cosign.accepts(image, tmp_path / "born.pub")


# AWS KMS -------------------------------------------------------------------------------------------------------------


class Kms(t.NamedTuple):
    """moto's AWS KMS: where it is, how a process gets there, and a client that makes keys."""

    url: str
    signing: SigningProcess
    client: t.Any

    def key(self, spec: str, name: str) -> str:
        """Make a key with an alias; return its id."""
        made = self.client.create_key(KeyUsage="SIGN_VERIFY", KeySpec=spec)["KeyMetadata"]["KeyId"]
        self.client.create_alias(AliasName=f"alias/{name}", TargetKeyId=made)
        return str(made)


@pytest.fixture(scope="module")
def kms(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Kms]:
    """AWS KMS; the test is skipped where moto or boto3 is missing."""
    boto3 = pytest.importorskip("boto3", reason="boto3 is not installed")
    pytest.importorskip("moto", reason="moto is not installed")
    folder, port = tmp_path_factory.mktemp("kms"), free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {
        "AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "interop", "AWS_SECRET_ACCESS_KEY": "interop-secret",
        "AWS_DEFAULT_REGION": "eu-central-1", "AWS_REGION": "eu-central-1", "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(folder / "none"), "AWS_SHARED_CREDENTIALS_FILE": str(folder / "none"),
    }
    program = [sys.executable, str(ROOT / "tests" / "tools" / "aws_kms.py"), str(port)]
    with process(program, port=port, log=folder / "log"):
        yield Kms(url, SigningProcess(**environment), boto3.client(
            "kms", endpoint_url=url, region_name="eu-central-1", aws_access_key_id="interop",
            aws_secret_access_key="interop-secret",
        ))


@pytest.mark.parametrize(("spec", "name"), [("ECC_NIST_P256", "p256"), ("RSA_2048", "rsa")])
def test_cosign_verifies_what_aws_signed(
    spec: str, name: str, kms: Kms, registry: Registry, cosigns: list[Cosign], tmp_path: pathlib.Path
) -> None:
    key = kms.key(spec, name)
    told = _accepted(kms.signing, {"uri": f"awskms:///alias/{name}"}, registry, cosigns, tmp_path / "k.pub")
    again = kms.signing.run({"uri": f"awskms:{key}"}, {"uri": f"awskms:alias/{name}", "key_id": told["key_id"]})
    assert [one.get("key_id") for one in again["signers"]] == [told["key_id"]] * 2
    # To cosign, the URI means the same key.
    image = registry.image()
    kms.signing.sign({"uri": f"awskms:///alias/{name}"}, images=[image])
    for cosign in cosigns:
        done = cosign.verify(image, f"awskms:///alias/{name}", environment=kms.signing.environment)
        assert done.returncode == 0, f"{cosign.name}: {done.stderr}"


def test_aws_key_in_another_region_is_not_there(kms: Kms) -> None:
    key = kms.key("ECC_NIST_P256", "elsewhere")
    arn = f"arn:aws:kms:{{}}:123456789012:key/{key}"
    assert kms.signing.run({"uri": f"awskms:///{arn.format('eu-central-1')}"})["signers"][0]["key_id"]
    ((code, _message),) = kms.signing.refuse({"uri": f"awskms:///{arn.format('us-east-1')}"})
    assert code == "not_found"


def test_aws_is_asked_in_its_own_words(kms: Kms) -> None:
    kms.key("ECC_NIST_P384", "p384")
    plain = kms.client.create_key()["KeyMetadata"]["KeyId"]
    off = kms.key("ECC_NIST_P256", "off")
    kms.client.disable_key(KeyId=off)
    away = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"}
    for signer, environment, code, said in (
        ({"uri": "awskms:///alias/none"}, {}, "not_found", "NotFoundException"),
        ({"uri": f"awskms:{plain}"}, {}, "unsupported_algorithm", "no known way"),
        ({"uri": "awskms:///alias/p384", "scheme": "ecdsa-sha256"}, {}, "unsupported_algorithm", "ecdsa-sha384 only"),
        ({"uri": "awskms:///alias/p384", "key_id": "0" * 64}, {}, "key_mismatch", "expected"),
        ({"uri": "awskms:///alias/p384"}, away, "service_unavailable", "EndpointConnectionError"),
        ({"uri": "awskms:///alias/p384"}, {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "unauthorized",
         "NoCredentialsError"),
    ):
        ((found, message),) = kms.signing.refuse(signer, **environment)
        assert (found, said in message) == (code, True), message
        assert "interop-secret" not in message


# Vault ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def transit(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[tuple[SigningProcess, t.Any]]:
    """A server of the Transit API, and a client that makes keys."""
    hvac = pytest.importorskip("hvac", reason="hvac is not installed")
    folder, port = tmp_path_factory.mktemp("vault"), free_port()
    url = f"http://127.0.0.1:{port}"
    program = [sys.executable, str(ROOT / "tests" / "tools" / "vault_transit.py"), str(port), "interop-token"]
    with process(program, port=port, log=folder / "log"):
        client = hvac.Client(url=url, token="interop-token")
        yield SigningProcess(VAULT_ADDR=url, VAULT_TOKEN="interop-token"), client.secrets.transit


@pytest.mark.parametrize("kind", ["ecdsa-p256", "rsa-2048"])
def test_cosign_verifies_what_vault_signed(
    kind: str, transit: tuple[SigningProcess, t.Any], registry: Registry, cosigns: list[Cosign], tmp_path: pathlib.Path
) -> None:
    signing, keys = transit
    keys.create_key(kind, key_type=kind)
    told = _accepted(signing, {"uri": f"hashivault://{kind}"}, registry, cosigns, tmp_path / "k.pub")
    # Once it is rotated, the older version is a key of its own.
    keys.rotate_key(kind)
    newer, older = signing.run({"uri": f"hv:{kind}"}, {"uri": f"hv:{kind}/1"})["signers"]
    assert (newer["key_id"] != told["key_id"], older["key_id"]) == (True, told["key_id"])
    ((code, _message),) = signing.refuse({"uri": f"hv:{kind}", "key_id": told["key_id"]})
    assert code == "key_mismatch"


def test_vault_that_refuses_is_told(transit: tuple[SigningProcess, t.Any]) -> None:
    signing, _keys = transit
    for environment, code in (
        ({}, "not_found"), ({"VAULT_TOKEN": "another"}, "unauthorized"),
        ({"VAULT_ADDR": f"http://127.0.0.1:{free_port()}"}, "service_unavailable"),
        ({"VAULT_ADDR": ""}, "input_invalid"),
    ):
        ((found, message),) = signing.refuse({"uri": "hv:none"}, **{"BAO_ADDR": "", **environment})
        assert found == code, message
        assert "interop-token" not in message
