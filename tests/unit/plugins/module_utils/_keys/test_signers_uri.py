# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of signers behind URIs: what a URI means, what a service may answer, and what is made of it."""

from __future__ import annotations

import pathlib
import threading
import time
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import HallmarkError, KeyFileError
from ansible_collections.hallmark.signing.plugins.module_utils._keys import algorithms, making, pem
from ansible_collections.hallmark.signing.plugins.module_utils._keys.signers import (
    pkcs11,
    protocol,
    service,
    trusted_file,
    uri,
    uri_scheme,
)
from ansible_collections.hallmark.signing.plugins.module_utils._keys.signers.uri_scheme import (
    AwsKey,
    AzureKey,
    GcpKey,
    TokenKey,
    VaultKey,
)
from cryptography.hazmat.primitives.asymmetric import ec, utils

UUID = "1234abcd-12ab-34cd-56ef-1234567890ab"
ARN = "arn:aws:kms:us-east-2:111122223333:"
RING = "projects/p-1/locations/global/keyRings/r/cryptoKeys/k"
VERSION = "0123456789abcdef0123456789abcdef"


def refusal(function: t.Callable[[], object]) -> KeyFileError:
    """Return the error with which a function refuses."""
    with pytest.raises(KeyFileError) as caught:
        function()
    return caught.value


# What a URI means --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "key"), [
    # securesystemslib's
    ("hsm:", TokenKey(id=b"\x02")),
    ("hsm:4", TokenKey(id=b"\x04")),
    ("hsm:0", TokenKey(id=b"\x00")),
    ("hsm:255", TokenKey(id=b"\xff")),
    ("hsm:258?label=YubiKey+PIV+%2315835999", TokenKey({"label": "YubiKey PIV #15835999"}, id=b"\x01\x02")),
    (f"awskms:{UUID}", AwsKey(UUID)),
    ("awskms:alias/release", AwsKey("alias/release")),
    (f"awskms:{ARN}key/{UUID}", AwsKey(f"{ARN}key/{UUID}", region="us-east-2")),
    (f"gcpkms:{RING}/cryptoKeyVersions/7", GcpKey(f"{RING}/cryptoKeyVersions/7")),
    (f"azurekms://v1.vault.azure.net/keys/release/{VERSION}", AzureKey("v1.vault.azure.net", "release", VERSION)),
    ("hv:release/3", VaultKey("release", 3)),
    ("hv:release", VaultKey("release")),
    # cosign's
    (f"awskms:///{UUID}", AwsKey(UUID)),
    (f"awskms:///mrk-{UUID}", AwsKey(f"mrk-{UUID}")),
    ("awskms:///mrk-0123456789abcdef0123456789abcdef", AwsKey("mrk-0123456789abcdef0123456789abcdef")),
    ("awskms:///alias/a/b_c-1", AwsKey("alias/a/b_c-1")),
    (f"awskms:///{ARN}alias/release", AwsKey(f"{ARN}alias/release", region="us-east-2")),
    (f"awskms://localhost:4566/{UUID}", AwsKey(UUID, endpoint="localhost:4566")),
    ("awskms://kms.example.org/alias/x", AwsKey("alias/x", endpoint="kms.example.org")),
    (f"gcpkms://{RING}/cryptoKeyVersions/1", GcpKey(f"{RING}/cryptoKeyVersions/1")),
    (f"gcpkms://{RING}/versions/1", GcpKey(f"{RING}/cryptoKeyVersions/1")),
    ("azurekms://v1.vault.azure.net/release", AzureKey("v1.vault.azure.net", "release")),
    (f"azurekms://v1.vault.azure.net/release/{VERSION}", AzureKey("v1.vault.azure.net", "release", VERSION)),
    ("azurekms://h.managedhsm.azure.net/release", AzureKey("h.managedhsm.azure.net", "release")),
    ("hashivault://release", VaultKey("release")),
    ("openbao://re-lease.1", VaultKey("re-lease.1")),
    ("pkcs11:", TokenKey()),
    ("pkcs11:token=My%20token;object=key;id=%01%ff;type=private",
     TokenKey({"label": "My token"}, None, "key", b"\1\xff")),
    ("pkcs11:slot-id=7;serial=ab;manufacturer=M;model=m",
     TokenKey({"serial": "ab", "manufacturer_id": "M", "model": "m"}, 7)),
    ("pkcs11:object=%C3%A4?module-path=/usr/lib/x.so&pin-source=file:/etc/pin",
     TokenKey(label="ä", module_path="/usr/lib/x.so", pin_path="/etc/pin")),
    ("pkcs11:?pin-source=file%3A%2F%2F%2Fetc%2Fpin", TokenKey(pin_path="/etc/pin")),
])
def test_each_spelling_means_one_key(text: str, key: object) -> None:
    assert uri_scheme.parse(text) == key
    # How it is named in errors means the same key, but for what does not name it.
    again = uri_scheme.parse(str(key))
    assert str(again) == str(key)
    if not isinstance(key, TokenKey):
        assert again == key


def test_names_in_errors_hold_what_names_the_key() -> None:
    key = uri_scheme.parse("pkcs11:token=a%3Bb;slot-id=7;object=k;id=%01?module-path=/l.so&pin-source=file:/etc/pin")
    assert str(key) == "pkcs11:token=a%3Bb;slot-id=7;object=k;id=%01"
    assert str(AwsKey("alias/x", "h:1")) == "awskms://h:1/alias/x"
    assert str(AzureKey("h", "n", VERSION)) == f"azurekms://h/n/{VERSION}"
    assert str(VaultKey("n", 3)) == "hv:n/3"


SECRET = "s3cr3t"


@pytest.mark.parametrize(("text", "cause"), [
    ("", "scheme"), ("release", "scheme"), ("HV:release", "scheme"), ("file:/key.pem", "scheme"),
    (f"{SECRET}:x", "scheme"), ("k8s://ns/name", "scheme"), ("vault://release", "scheme"),
    ("hv:a b", "characters"), ("hv:ä", "characters"), ("hv:a\n", "characters"), ("pkcs11:object=%4", "characters"),
    ("pkcs11:object=%zz", "characters"),
    ("hsm:x", "hsm:"), ("hsm:-1", "hsm:"), (f"hsm:2?pin={SECRET}", "hsm:"), ("hsm:2?label=a&label=b", "hsm:"),
    (f"hsm:2?label=a&pin={SECRET}", "hsm:"), ("hsm:123456789012345678901", "hsm:"),
    (f"pkcs11:token=T?pin-value={SECRET}", "pin-value"),
    (f"pkcs11:token=T;pin-value={SECRET}", "unknown or doubled"),
    (f"pkcs11:token=T?pin={SECRET}", "unknown or doubled"),
    ("pkcs11:token=T;token=U", "unknown or doubled"), ("pkcs11:token", "unknown or doubled"),
    ("pkcs11:token=T;", "unknown or doubled"), ("pkcs11:library-version=3", "unknown or doubled"),
    ("pkcs11:?module-name=softhsm2", "unknown or doubled"),
    ("pkcs11:?module-path=/a&module-path=/b", "unknown or doubled"),
    ("pkcs11:type=public", "type"), ("pkcs11:type=cert", "type"),
    ("pkcs11:token=%ff", "token is no text"), ("pkcs11:token=", "token is no text"),
    ("pkcs11:object=a%00", "object is no text"),
    ("pkcs11:slot-id=x", "slot-id"), ("pkcs11:slot-id=-1", "slot-id"), ("pkcs11:slot-id=12345678901", "slot-id"),
    ("pkcs11:?module-path=x.so", "module-path"), ("pkcs11:?module-path=//x.so", "module-path"),
    (f"pkcs11:?pin-source={SECRET}", "pin-source"), ("pkcs11:?pin-source=%7Ccat", "pin-source"),
    ("pkcs11:?pin-source=file:pin", "pin-source"), ("pkcs11:?pin-source=file://host/pin", "pin-source"),
    ("pkcs11:?pin-source=http://h/p", "pin-source"), ("pkcs11:?pin-source=http:/etc/pin", "pin-source is no file"),
    ("awskms:", "awskms"), ("awskms:///", "awskms"), (f"awskms:/{UUID}", "awskms"), ("awskms:///release", "awskms"),
    ("awskms://alias/release", "awskms"), (f"awskms://alias/{UUID}", "awskms"), ("awskms:///alias/", "awskms"),
    (f"awskms://u:{SECRET}@h/{UUID}", "awskms"), (f"awskms://h:999999/{UUID}", "awskms"),
    (f"awskms://-h/{UUID}", "awskms"),
    ("awskms:///arn:aws:kms:us-east-2:1111:alias/x", "awskms"), (f"awskms:///{UUID}/x", "awskms"),
    ("awskms:///alias/x?y", "awskms"), (f"awskms:///{UUID}1", "awskms"),
    ("gcpkms:projects/p", "gcpkms"), (f"gcpkms://{RING}/cryptoKeyVersions/x", "gcpkms"),
    (f"gcpkms:///{RING}/versions/1", "gcpkms"), (f"gcpkms://{RING}/versions/1/x", "gcpkms"),
    (f"gcpkms://{RING}", "no version"), (f"gcpkms:{RING}", "no version"),
    ("azurekms:v1.vault.azure.net/release", "azurekms"), ("azurekms://v1.vault.azure.net", "azurekms"),
    ("azurekms://v1.vault.azure.net/", "azurekms"), ("azurekms://v1.example.org/release", "azurekms"),
    ("azurekms://v1.vault.azure.net.example.org/release", "azurekms"),
    ("azurekms://vault.azure.net/release", "azurekms"),
    ("azurekms://v1.vault.azure.net:444/release", "azurekms"), ("azurekms://v1.vault.azure.net/release/", "azurekms"),
    (f"azurekms://v1.vault.azure.net/release/{VERSION[1:]}", "azurekms"),
    (f"azurekms://v1.vault.azure.net/release/{VERSION}/x", "azurekms"),
    (f"azurekms://v1.vault.azure.net/secrets/release/{VERSION}", "azurekms"),
    ("azurekms://v1.vault.azure.net/re_lease", "azurekms"),
    ("azurekms://v1.vault.azure.net/keys/release", "securesystemslib"),
    (f"azurekms://v1.vault.azure.net/keys/{VERSION}", "securesystemslib"),
    ("hv:", "hv:KEY"), ("hv:release/", "hv:KEY"), ("hv:release/0", "hv:KEY"), ("hv:release/x", "hv:KEY"),
    ("hv:release/1/2", "hv:KEY"), ("hv:release-", "hv:KEY"), ("hv://release", "hv:KEY"), ("hv:../sys", "hv:KEY"),
    (f"hv:release?token={SECRET}", "hv:KEY"), ("hv:release/1234567890", "hv:KEY"),
    ("hashivault:release", "hashivault"), ("hashivault://release/1", "hashivault"), ("hashivault://", "hashivault"),
    ("hashivault://host:8200/release", "hashivault"),
])
def test_what_is_not_clear_is_refused_and_not_shown(text: str, cause: str) -> None:
    error = refusal(lambda: uri_scheme.parse(text))
    assert (error.code, error.object) == ("input_invalid", "uri")
    assert cause in error.cause
    assert SECRET not in str(error)


# What is asked of a service ----------------------------------------------------------------------------------------


class OddError(Exception):
    """An error of a library."""


class OddestError(OddError):
    """A kind of it."""


def _raise(error: BaseException) -> t.NoReturn:
    raise error


def test_answer_comes_back_and_is_asked_for_in_time() -> None:
    asked = service.Service("there", 5, {})
    assert asked.ask("look", lambda: 7) == 7
    assert not asked.is_hung


@pytest.mark.parametrize(("error", "code", "cause"), [
    (OddError(SECRET), "not_found", "OddError"), (OddestError(SECRET), "not_found", "OddestError"),
    (ValueError(SECRET), "service_unavailable", "ValueError"), (OSError(5, SECRET), "service_unavailable", "OSError"),
])
def test_errors_are_told_by_their_names_only(error: Exception, code: str, cause: str, assert_hides: t.Any) -> None:
    asked = service.Service("there", 5, {"OddError": "not_found"}, advice="Go.")
    found = refusal(lambda: asked.ask("look", lambda: _raise(error)))
    assert (found.code, found.object, found.attempt, found.cause, found.advice) == (code, "there", "look", cause, "Go.")
    assert_hides(found, SECRET.encode())
    assert not asked.is_hung


def test_name_of_an_error_is_cleaned_and_bounded() -> None:
    asked = service.Service("there", 5, {}, names=lambda _error: ["a\x1b[31m b/c" + "x" * 100])
    assert refusal(lambda: asked.ask("look", lambda: _raise(OddError()))).cause == ("a31mbc" + "x" * 100)[:80]
    asked = service.Service("there", 5, {}, names=lambda _error: ["\n"])
    assert refusal(lambda: asked.ask("look", lambda: _raise(OddError()))).cause == "it failed"


def test_own_errors_and_interrupts_stay_what_they_are() -> None:
    own = KeyFileError(code="malformed", object="x", attempt="x", cause="x", advice="x")
    asked = service.Service("there", 5, {"KeyFileError": "not_found"})
    assert refusal(lambda: asked.ask("look", lambda: _raise(own))) is own
    with pytest.raises(KeyboardInterrupt):
        asked.ask("look", lambda: _raise(KeyboardInterrupt()))


def test_who_does_not_answer_is_left_and_not_asked_again() -> None:
    wait = threading.Event()
    asked, begun = service.Service("there", 0.2, {}), time.monotonic()
    error = refusal(lambda: asked.ask("look", lambda: wait.wait(60)))
    assert (error.code, error.cause) == ("service_unavailable", "no answer came within 0.2 seconds")
    assert time.monotonic() - begun < 30
    again: list[int] = []
    error = refusal(lambda: asked.ask("look", lambda: again.append(1)))
    assert (error.code, error.cause, again) == ("service_unavailable", "it did not answer before", [])
    wait.set()


# Files that are executed -------------------------------------------------------------------------------------------


@pytest.fixture
def program(tmp_path: pathlib.Path) -> pathlib.Path:
    """A file in a folder, both of which nobody else may write."""
    folder = tmp_path / "bin"
    folder.mkdir(mode=0o755)
    path = folder / "program"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def _trusted(path: pathlib.Path | str) -> None:
    trusted_file.require_trusted(str(path), attempt="run it")


def test_file_that_is_kept_is_taken(program: pathlib.Path, tmp_path: pathlib.Path) -> None:
    _trusted(program)
    (tmp_path / "link").symlink_to("bin/../bin/./program")
    _trusted(tmp_path / "link")
    (tmp_path / "folder").symlink_to(program.parent)
    _trusted(tmp_path / "folder" / "program")
    # As /tmp is: what is in it belongs to us.
    tmp_path.chmod(0o1777)
    _trusted(program)
    program.parent.chmod(0o555)
    _trusted(program)


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777])
def test_folder_that_others_may_write_is_refused(program: pathlib.Path, mode: int) -> None:
    program.parent.chmod(mode)
    error = refusal(lambda: _trusted(program))
    assert (error.code, error.object) == ("parent_unsafe", str(program))
    assert str(program.parent) in error.cause


@pytest.mark.parametrize("mode", [0o775, 0o757])
def test_file_that_others_may_write_is_refused(program: pathlib.Path, mode: int) -> None:
    program.chmod(mode)
    error = refusal(lambda: _trusted(program))
    assert (error.code, str(program) in error.cause) == ("parent_unsafe", True)


def test_folder_above_that_others_may_write_is_refused(program: pathlib.Path, tmp_path: pathlib.Path) -> None:
    tmp_path.chmod(0o777)
    assert refusal(lambda: _trusted(program)).code == "parent_unsafe"


def test_each_step_of_a_link_counts(program: pathlib.Path, tmp_path: pathlib.Path) -> None:
    open_folder = tmp_path / "open"
    open_folder.mkdir()
    (open_folder / "middle").symlink_to(program)
    (tmp_path / "first").symlink_to("open/middle")
    _trusted(tmp_path / "first")
    open_folder.chmod(0o777)
    assert refusal(lambda: _trusted(tmp_path / "first")).code == "parent_unsafe"
    assert refusal(lambda: _trusted(open_folder / "middle")).code == "parent_unsafe"
    open_folder.chmod(0o1777)
    (open_folder / "folder").symlink_to(program.parent)
    _trusted(open_folder / "folder" / "program")


@pytest.mark.parametrize("which", ["file", "folder", "sticky"])
def test_what_belongs_to_another_user_is_refused(
    program: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    """The one user is root, and this process plays another whose files these are not."""
    wanted = {"file": program, "folder": program.parent, "sticky": program.parent}[which]
    if which == "sticky":
        tmp_path.chmod(0o1777)
    inode, own = wanted.stat().st_ino, trusted_file._is_trusted
    monkeypatch.setattr(trusted_file, "_is_trusted", lambda status: status.st_ino != inode and own(status))
    assert refusal(lambda: _trusted(program)).code == "parent_unsafe"


def test_users_who_are_trusted_are_root_and_this_one(
    program: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Status:
        st_uid = 1234

    assert not trusted_file._is_trusted(t.cast(t.Any, Status()))
    monkeypatch.setattr(trusted_file.os, "geteuid", lambda: 1234)
    assert trusted_file._is_trusted(t.cast(t.Any, Status()))
    Status.st_uid = 0
    assert trusted_file._is_trusted(t.cast(t.Any, Status()))


def test_links_have_an_end(program: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert refusal(lambda: _trusted(tmp_path / "a")).code == "parent_unsafe"
    (tmp_path / "link0").symlink_to(program)
    for number in range(1, 17):
        (tmp_path / f"link{number}").symlink_to(f"link{number - 1}")
    _trusted(tmp_path / "link15")
    assert refusal(lambda: _trusted(tmp_path / "link16")).code == "parent_unsafe"


def test_what_is_no_file_is_not_found(program: pathlib.Path, tmp_path: pathlib.Path) -> None:
    for path in (tmp_path / "none", tmp_path, program / "below"):
        error = refusal(lambda path=path: _trusted(path))  # type: ignore[misc]
        assert (error.code, error.object) == ("not_found", str(path))
    assert refusal(lambda: _trusted(tmp_path / "none")).cause == "No such file or directory"
    assert refusal(lambda: _trusted(tmp_path)).cause == "it is not a regular file"
    (tmp_path / "dangling").symlink_to("none")
    assert refusal(lambda: _trusted(tmp_path / "dangling")).code == "not_found"


# The signer --------------------------------------------------------------------------------------------------------

MESSAGE = b"payload"


class Backend:
    """A place where a key is, which answers as it is told."""

    def __init__(self, key: t.Any, schemes: t.Sequence[str], answer: t.Callable[[bytes], bytes] | None = None) -> None:
        self.key, self.schemes = key, tuple(schemes)
        self.public = pem.public_key(key.public_key(), where="test")
        self.answer = answer or (lambda signature: signature)
        self.asked: list[str] = []

    def sign(self, message: bytes, scheme: str) -> bytes:
        self.asked.append(scheme)
        return self.answer(making.sign(self.key, message, scheme=scheme))


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> t.Callable[..., uri.UriSigner]:
    """Loads a signer whose key is with a backend of ours."""

    def do(backend: Backend, **options: t.Any) -> uri.UriSigner:
        monkeypatch.setattr(uri, "_backend", lambda *_arguments: backend)
        return uri.load("hv:release", **options)

    return do


def raw(signature: bytes, size: int = 32) -> bytes:
    """Return an ECDSA signature as HSMs make it."""
    return b"".join(number.to_bytes(size, "big") for number in utils.decode_dss_signature(signature))


@pytest.mark.parametrize(("fixture", "spell"), [
    ("p256", None), ("p256", raw), ("p384", lambda one: raw(one, 48)), ("p521", lambda one: raw(one, 66)),
    ("rsa2048", None), ("ed25519_key", None),
])
def test_signature_is_der_and_verified(
    fixture: str, spell: t.Any, load: t.Any, request: pytest.FixtureRequest
) -> None:
    key = request.getfixturevalue(fixture)
    backend = Backend(key, algorithms.able(pem.public_key(key.public_key(), where="x").algorithm), spell)
    signer: protocol.Signer = load(backend)
    assert signer.chooses_scheme
    signer.prepare([MESSAGE])
    assert backend.asked == []
    for scheme in (None, *backend.schemes):
        signature = signer.sign(MESSAGE, scheme=scheme)
        expected = (scheme or signer.public.algorithm.schemes[0],)
        assert algorithms.verifies(signer.public.key, signature=signature, message=MESSAGE, schemes=expected)


@pytest.mark.parametrize("answer", [
    lambda _signature: b"", lambda signature: signature[:-1], lambda signature: signature + b"\0",
    lambda signature: bytes([signature[0], *signature[1:-1], signature[-1] ^ 1]), lambda _signature: bytes(64),
])
def test_garbage_is_refused(answer: t.Any, load: t.Any, p256: t.Any) -> None:
    signer = load(Backend(p256, ["ecdsa-sha256"], answer))
    error = refusal(lambda: signer.sign(MESSAGE))
    assert (error.code, error.object) == ("signature_invalid", "hv:release")
    assert signer.public.key_id in error.cause


def test_signature_in_another_scheme_is_garbage(load: t.Any, p256: t.Any) -> None:
    other = making.sign(p256, MESSAGE, scheme="ecdsa-sha384")
    signer = load(Backend(p256, ["ecdsa-sha256", "ecdsa-sha384"], lambda _signature: other))
    assert signer.sign(MESSAGE, scheme="ecdsa-sha384") == other
    assert refusal(lambda: signer.sign(MESSAGE)).code == "signature_invalid"


def test_base64_from_a_device_is_garbage(load: t.Any, p256: t.Any) -> None:
    import base64

    signer = load(Backend(p256, ["ecdsa-sha256"], base64.b64encode))
    assert refusal(lambda: signer.sign(MESSAGE)).code == "signature_invalid"


def test_key_that_is_bound_signs_as_it_is_bound(load: t.Any, p384: t.Any) -> None:
    backend = Backend(p384, ["ecdsa-sha384"])
    signer = load(backend)
    assert not signer.chooses_scheme
    # Signers are told which scheme readers like best, without being asked for it.
    signer.sign(MESSAGE, scheme="ecdsa-sha256")
    assert backend.asked == ["ecdsa-sha384"]
    assert [signer.answers_in(one) for one in (None, "ecdsa-sha256", "ecdsa-sha384")] == ["ecdsa-sha384"] * 3


def test_scheme_that_is_asked_for_is_the_one(load: t.Any, p384: t.Any, rsa2048: t.Any) -> None:
    backend = Backend(p384, ["ecdsa-sha384", "ecdsa-sha512"])
    load(backend, scheme="ecdsa-sha512").sign(MESSAGE)
    assert backend.asked == ["ecdsa-sha512"]
    bound = Backend(rsa2048, ["rsa-pss-sha256"])
    assert load(bound, scheme="rsa-pss-sha256").sign(MESSAGE)


@pytest.mark.parametrize(("schemes", "asked", "wanted", "found"), [
    (["rsa-pss-sha256"], None, "rsa-pkcs1v15-sha256", "rsa-pss-sha256 only"),
    (["rsa-pkcs1v15-sha256"], "rsa-pkcs1v15-sha512", "rsa-pkcs1v15-sha512", "rsa-pkcs1v15-sha256 only"),
    ([], None, "rsa-pkcs1v15-sha256", "no known way"),
])
def test_scheme_that_the_key_cannot_is_refused_by_name_before_anything(
    schemes: list[str], asked: str | None, wanted: str, found: str, load: t.Any, rsa2048: t.Any
) -> None:
    error = refusal(lambda: load(Backend(rsa2048, schemes), scheme=asked))
    assert (error.code, error.object) == ("unsupported_algorithm", "hv:release")
    assert (error.attempt, error.cause) == (f"sign in {wanted}", f"the key signs in {found}")


def test_scheme_of_another_family_is_refused(load: t.Any, p256: t.Any) -> None:
    error = refusal(lambda: load(Backend(p256, ["ecdsa-sha256"]), scheme="ed25519"))
    assert (error.code, error.object) == ("unsupported_algorithm", "hv:release")


def test_expected_key_is_taken_and_another_refused(
    load: t.Any, p256: t.Any, public_pem: t.Any, tmp_path: pathlib.Path
) -> None:
    backend = Backend(p256, ["ecdsa-sha256"])
    own = backend.public.key_id
    (tmp_path / "own").write_bytes(public_pem(p256))
    (tmp_path / "other").write_bytes(public_pem(ec.generate_private_key(ec.SECP256R1())))
    assert load(backend, key_id=own, public_key_path=str(tmp_path / "own")).public == backend.public
    error = refusal(lambda: load(backend, key_id="0" * 64))
    assert (error.code, error.object) == ("key_mismatch", "hv:release")
    error = refusal(lambda: load(backend, public_key_path=str(tmp_path / "other")))
    assert (error.code, error.object) == ("key_mismatch", "hv:release")
    assert own in error.cause
    error = refusal(lambda: load(backend, key_id="0" * 64, public_key_path=str(tmp_path / "own")))
    assert (error.code, error.object) == ("key_mismatch", str(tmp_path / "own"))
    assert backend.asked == []


def test_wrong_key_file_is_refused_before_the_device_is_asked(
    monkeypatch: pytest.MonkeyPatch, public_pem: t.Any, p256: t.Any, tmp_path: pathlib.Path
) -> None:
    """A login that serves nothing could count as a try."""
    asked: list[object] = []
    monkeypatch.setattr(uri, "_backend", lambda *arguments: asked.append(arguments))
    (tmp_path / "own").write_bytes(public_pem(p256))
    options: dict[str, t.Any] = {"public_key_path": str(tmp_path / "own"), "key_id": "0" * 64}
    assert refusal(lambda: uri.load("pkcs11:", **options)).code == "key_mismatch"
    assert refusal(lambda: uri.load("pkcs11:", public_key_path=str(tmp_path / "none"))).code == "not_found"
    assert asked == []


@pytest.mark.parametrize("text", ["hv:release", f"awskms:{UUID}", "azurekms://v1.vault.azure.net/release"])
def test_pin_is_for_devices(text: str) -> None:
    error = refusal(lambda: uri.load(text, pin=SECRET.encode()))
    assert (error.code, error.object) == ("input_invalid", "uri")
    assert "PIN" in error.cause


@pytest.mark.parametrize(("text", "module", "name"), [
    ("pkcs11:", "pkcs11", "TokenBackend"), ("hsm:2", "pkcs11", "TokenBackend"), (f"awskms:{UUID}", "aws", "AwsBackend"),
    (f"gcpkms:{RING}/cryptoKeyVersions/1", "gcp", "GcpBackend"),
    ("azurekms://v1.vault.azure.net/release", "azure", "AzureBackend"),
    ("hashivault://release", "vault", "VaultBackend"),
])
def test_each_kind_has_its_backend(
    text: str, module: str, name: str, monkeypatch: pytest.MonkeyPatch, p256: t.Any
) -> None:
    import importlib

    found = importlib.import_module(f"{uri.__name__.rpartition('.')[0]}.{module}")
    made: list[t.Any] = []

    def make(key: object, **options: t.Any) -> Backend:
        made.append((key, options))
        return Backend(p256, ["ecdsa-sha256"])

    monkeypatch.setattr(found, name, make)
    signer = uri.load(text, seconds=7)
    ((key, options),) = made
    assert key == uri_scheme.parse(text)
    assert options == {"seconds": 7, **({"pin": None, "public": None} if module == "pkcs11" else {})}
    assert signer.where == str(key)


def test_nothing_secret_is_shown(load: t.Any, p256: t.Any) -> None:
    assert "Backend" not in repr(load(Backend(p256, ["ecdsa-sha256"])))
    assert "pin_hash" not in repr(pkcs11.Login(service.Service("x", 1, {}), t.cast(t.Any, None), SECRET.encode()))


def test_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for text, library in (
        ("pkcs11:", "pkcs11"), (f"awskms:{UUID}", "boto3"), ("hv:release", "hvac"),
        (f"gcpkms:{RING}/cryptoKeyVersions/1", "google.cloud.kms"),
        ("azurekms://v1.vault.azure.net/release", "azure.identity"),
    ):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, library, None)
            with pytest.raises(HallmarkError) as caught:
                uri.load(text)
        assert caught.value.code == "library_missing", text
