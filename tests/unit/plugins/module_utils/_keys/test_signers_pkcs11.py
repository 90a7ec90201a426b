# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of keys in PKCS#11 tokens, on a token of ours that counts logins. The real SoftHSM is in tests/interop."""

from __future__ import annotations

import contextlib
import hashlib
import pathlib
import threading
import time
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import KeyFileError
from ansible_collections.hallmark.signing.plugins.module_utils._keys import algorithms
from ansible_collections.hallmark.signing.plugins.module_utils._keys.signers import pkcs11 as tokens
from ansible_collections.hallmark.signing.plugins.module_utils._keys.signers import uri
from ansible_collections.hallmark.signing.plugins.module_utils._oci.concurrency import map_ordered
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

pkcs11 = pytest.importorskip("pkcs11", reason="python-pkcs11 is not installed")

Attribute, Flag, KeyType, Mechanism, ObjectClass = (
    pkcs11.Attribute, pkcs11.TokenFlag, pkcs11.KeyType, pkcs11.Mechanism, pkcs11.ObjectClass,
)
PIN = b"4321"
MESSAGE = b"payload"
READY = Flag.TOKEN_INITIALIZED | Flag.LOGIN_REQUIRED | Flag.USER_PIN_INITIALIZED
RSA = {getattr(Mechanism, f"SHA{size}_RSA_PKCS{kind}") for size in (256, 384, 512) for kind in ("", "_PSS")}
CURVES = {"secp256r1": "06082a8648ce3d030107", "secp384r1": "06052b81040022", "secp521r1": "06052b81040023"}


class Stored:
    """An object in a token. The private one signs as PKCS#11 says."""

    def __init__(self, token: Token, attributes: dict[t.Any, t.Any], key: t.Any = None) -> None:
        self.token, self.attributes, self.key = token, attributes, key
        self.key_type = attributes[Attribute.KEY_TYPE]
        if key is not None:
            self.sign: t.Callable[..., bytes] = self._sign

    def __getitem__(self, attribute: t.Any) -> t.Any:
        if attribute not in self.attributes:
            raise pkcs11.AttributeTypeInvalid
        return self.attributes[attribute]

    def _sign(self, data: bytes, mechanism: t.Any, mechanism_param: t.Any = None) -> bytes:
        self.token.signed.append((data, mechanism))
        with self.token.alone():
            if mechanism == Mechanism.ECDSA:
                # An ECDSA over the digest itself, of which the curve's length counts.
                algorithm = {32: hashes.SHA256(), 48: hashes.SHA384(), 64: hashes.SHA512()}[len(data)]
                numbers = utils.decode_dss_signature(self.key.sign(data, ec.ECDSA(utils.Prehashed(algorithm))))
                length = (self.key.curve.key_size + 7) // 8
                return b"".join(number.to_bytes(length, "big") for number in numbers)
            if mechanism == Mechanism.EDDSA:
                return t.cast(bytes, self.key.sign(data))
            scheme = algorithms.SCHEMES[self._scheme(mechanism)]
            pad = algorithms.padding_of(scheme)
            if mechanism_param is not None:
                assert isinstance(pad, padding.PSS)
                name = scheme.hash.upper()
                length = hashlib.new(scheme.hash).digest_size
                assert mechanism_param == (getattr(Mechanism, name), getattr(pkcs11.MGF, name), length)
            return t.cast(bytes, self.key.sign(data, pad, algorithms.hash_of(scheme)))

    @staticmethod
    def _scheme(mechanism: t.Any) -> str:
        size, _rsa, _pkcs, *pss = mechanism.name.split("_")
        return f"rsa-{'pss' if pss else 'pkcs1v15'}-{size.lower()}"


class Session:
    """A session of a token."""

    def __init__(self, token: Token) -> None:
        self.token = token

    def get_objects(self, wanted: dict[t.Any, t.Any]) -> t.Iterator[Stored]:
        for one in self.token.objects:
            if all(one.attributes.get(name) == value for name, value in wanted.items()):
                yield one

    def close(self) -> None:
        self.token.closed += 1


class Token:
    """A token with one PIN, which counts how often it is asked."""

    manufacturer_id, model = "maker", "model"

    def __init__(self, label: str = "T", *, slot_id: int = 1, serial: bytes = b"0001", flags: int = READY) -> None:
        self.label, self.serial, self.flags = label, serial, flags
        self.slot = Slot(self, slot_id)
        self.objects: list[Stored] = []
        self.logins: list[object] = []
        self.signed: list[tuple[bytes, t.Any]] = []
        self.closed = self.sessions = 0
        self.error: type[Exception] = pkcs11.PinIncorrect
        self.flags_after = flags
        self._users = 0
        self.was_shared = False

    @contextlib.contextmanager
    def alone(self) -> t.Iterator[None]:
        """Note whether two threads are in the token at a time."""
        self._users += 1
        self.was_shared = self.was_shared or self._users > 1
        time.sleep(0.001)
        yield
        self._users -= 1

    def open(self, user_pin: str | None = None) -> Session:
        self.sessions += 1
        if user_pin is not None:
            self.logins.append(user_pin)
            if user_pin != PIN.decode():
                self.flags = self.flags_after
                raise self.error
        return Session(self)

    def add(
        self, key: t.Any, label: str = "key", identifier: bytes = b"\1", *, public: bool = True, **more: t.Any
    ) -> None:
        """Store a key pair."""
        shown = self._shown(key)
        shared = {Attribute.LABEL: label, Attribute.ID: identifier}
        private = {name: value for name, value in shown.items() if name != Attribute.EC_POINT}
        self.objects.append(Stored(self, {
            **private, **shared, Attribute.CLASS: ObjectClass.PRIVATE_KEY,
            **{getattr(Attribute, name): value for name, value in more.items()},
        }, key))
        if public:
            self.objects.append(Stored(self, {**shown, **shared, Attribute.CLASS: ObjectClass.PUBLIC_KEY}))

    @staticmethod
    def _shown(key: t.Any) -> dict[t.Any, t.Any]:
        public = key.public_key()
        if isinstance(public, rsa.RSAPublicKey):
            numbers = public.public_numbers()
            return {
                Attribute.KEY_TYPE: KeyType.RSA, Attribute.MODULUS: numbers.n.to_bytes(public.key_size // 8, "big"),
                Attribute.PUBLIC_EXPONENT: b"\1\0\1",
            }
        if isinstance(public, ed25519.Ed25519PublicKey):
            point = public.public_bytes_raw()
            return {Attribute.KEY_TYPE: KeyType.EC_EDWARDS, Attribute.EC_POINT: b"\x04\x20" + point}
        numbers = public.public_numbers()
        size = (public.curve.key_size + 7) // 8
        point = b"\4" + numbers.x.to_bytes(size, "big") + numbers.y.to_bytes(size, "big")
        header = b"\4" + (b"\x81" if len(point) > 127 else b"") + bytes([len(point)])
        return {
            Attribute.KEY_TYPE: KeyType.EC, Attribute.EC_PARAMS: bytes.fromhex(CURVES[public.curve.name]),
            Attribute.EC_POINT: header + point,
        }


class Slot:
    """A slot, with its token in it or none."""

    def __init__(self, token: Token | None, slot_id: int) -> None:
        self.token, self.slot_id = token, slot_id
        self.mechanisms = {Mechanism.ECDSA, Mechanism.EDDSA, *RSA}
        self.absent: type[Exception] = pkcs11.TokenNotPresent

    def get_token(self) -> Token:
        if self.token is None:
            raise self.absent
        return self.token

    def get_mechanisms(self) -> set[t.Any]:
        return self.mechanisms


class Library:
    """A PKCS#11 library with slots."""

    def __init__(self, path: pathlib.Path) -> None:
        path.touch(mode=0o644)
        self.path = path
        self.slots: list[Slot] = []
        self.loads = 0
        self.error: Exception | None = None

    def load(self, path: str) -> Library:
        assert path == str(self.path)
        self.loads += 1
        if self.error is not None:
            raise self.error
        return self

    def get_slots(self, *, token_present: bool) -> list[Slot]:
        assert token_present
        return self.slots

    def put(self, *found: Token) -> Token:
        self.slots += [token.slot for token in found]
        return found[0]


@pytest.fixture
def library(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Library:
    """A library in which there is no slot yet, in a process that has asked no token yet."""
    made = Library(tmp_path / "library.so")
    monkeypatch.setattr(pkcs11, "lib", made.load)
    monkeypatch.setattr(tokens, "_logins", {})
    monkeypatch.setattr(tokens, "_refused", set())
    monkeypatch.setattr(tokens.atexit, "register", lambda _function: None)
    for name in tokens._LIBRARY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return made


@pytest.fixture
def token(library: Library, p256: t.Any) -> Token:
    """A token with one P-256 key."""
    made = library.put(Token())
    made.add(p256)
    return made


@pytest.fixture
def load(library: Library) -> t.Callable[..., uri.UriSigner]:
    """Loads a signer by what stands behind pkcs11: in its URI."""

    def do(
        path: str = "token=T;object=key", *, pin: bytes | None = PIN, query: str = "", **more: t.Any
    ) -> uri.UriSigner:
        return uri.load(f"pkcs11:{path}?module-path={library.path}{query}", pin=pin, **more)

    return do


def refusal(function: t.Callable[[], object]) -> KeyFileError:
    """Return the error with which a function refuses."""
    with pytest.raises(KeyFileError) as caught:
        function()
    return caught.value


# Signing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fixture", ["p256", "p384", "p521", "rsa2048", "ed25519_key"])
def test_keys_of_each_kind_sign_in_each_scheme(
    fixture: str, library: Library, load: t.Any, request: pytest.FixtureRequest
) -> None:
    key = request.getfixturevalue(fixture)
    library.put(Token()).add(key)
    signer = load()
    wanted = [name for name in algorithms.able(signer.public.algorithm) if name != "ed25519ph"]
    assert list(signer.schemes) == wanted
    assert signer.chooses_scheme is (fixture != "ed25519_key")
    for scheme in wanted:
        signature = signer.sign(MESSAGE, scheme=scheme)
        assert algorithms.verifies(key.public_key(), signature=signature, message=MESSAGE, schemes=(scheme,))


@pytest.mark.parametrize(("size", "scheme", "expected"), [
    (256, "ecdsa-sha256", (0, 32)), (256, "ecdsa-sha384", (0, 32)), (256, "ecdsa-sha512", (0, 32)),
    (384, "ecdsa-sha256", (16, 48)), (384, "ecdsa-sha384", (0, 48)), (384, "ecdsa-sha512", (0, 48)),
    (521, "ecdsa-sha256", (0, 32)), (521, "ecdsa-sha512", (0, 64)),
])
def test_digests_are_of_the_length_of_the_curve(size: int, scheme: str, expected: tuple[int, int]) -> None:
    data, options = tokens._operation(MESSAGE, scheme, size)
    zeros, length = expected
    digest = hashlib.new(scheme[6:], MESSAGE).digest()
    assert options == {"mechanism": Mechanism.ECDSA}
    assert data == bytes(zeros) + digest[:length - zeros]


def test_only_what_the_token_can_is_offered(library: Library, load: t.Any, rsa2048: t.Any) -> None:
    token = library.put(Token())
    token.add(rsa2048)
    token.slot.mechanisms = {Mechanism.SHA256_RSA_PKCS, Mechanism.SHA512_RSA_PKCS_PSS}
    signer = load()
    assert signer.schemes == ("rsa-pkcs1v15-sha256", "rsa-pss-sha512")
    assert not signer.chooses_scheme
    token.slot.mechanisms = {Mechanism.RSA_PKCS_OAEP}
    assert refusal(load).code == "unsupported_algorithm"


def test_error_while_signing_is_named(token: Token, load: t.Any) -> None:
    signer = load()

    def broken(*_arguments: object, **_options: object) -> bytes:
        raise pkcs11.DeviceRemoved("details of the device")

    token.objects[0].sign = broken
    error = refusal(lambda: signer.sign(MESSAGE))
    assert (error.code, error.object, error.cause) == ("service_unavailable", "pkcs11:token=T", "DeviceRemoved")


# One login ---------------------------------------------------------------------------------------------------------


def test_one_login_serves_a_batch_in_many_threads(token: Token, load: t.Any) -> None:
    signer = load()
    done = map_ordered(lambda number: signer.sign(b"%d" % number), range(50), workers=16)
    assert len(set(done)) == len(token.signed) == 50
    assert (token.logins, token.sessions) == ([PIN.decode()], 1)
    assert not token.was_shared


def test_two_keys_of_a_token_share_the_login(token: Token, load: t.Any, rsa2048: t.Any) -> None:
    token.add(rsa2048, "other", b"\2")
    first, second = load(), load("object=other")
    assert first.public != second.public
    assert (token.logins, token.sessions) == ([PIN.decode()], 1)
    first.sign(MESSAGE)
    second.sign(MESSAGE)


def test_library_by_another_name_is_the_same(library: Library, token: Token, load: t.Any) -> None:
    link = library.path.with_name("link.so")
    link.symlink_to(library.path)
    load()
    assert uri.load(f"pkcs11:token=T?module-path={link}", pin=PIN).sign(MESSAGE)
    assert (token.logins, token.sessions) == ([PIN.decode()], 1)


def test_another_pin_for_the_same_token_is_refused(token: Token, load: t.Any) -> None:
    load()
    for pin in (b"4322", None):
        error = refusal(lambda pin=pin: load(pin=pin))  # type: ignore[misc]
        assert (error.code, "another PIN" in error.cause) == ("passphrase_invalid", True)
    assert token.logins == [PIN.decode()]


def test_session_is_closed_at_the_end(token: Token, load: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    registered: list[t.Callable[[], None]] = []
    monkeypatch.setattr(tokens.atexit, "register", registered.append)
    load()
    load()
    (close,) = registered
    assert token.closed == 0
    close()
    assert token.closed == 1
    (login,) = list(tokens._logins.values())
    login.service.is_hung = True
    close()
    assert token.closed == 1


def test_error_while_closing_is_nobodys(token: Token, load: t.Any) -> None:
    load()
    (login,) = list(tokens._logins.values())
    assert login.session is not None
    login.session.close = lambda: 1 / 0
    login.close()


def test_device_that_hangs_is_left(token: Token, load: t.Any) -> None:
    signer, wait = load(seconds=0.3), threading.Event()
    token.objects[0].sign = lambda *_a, **_o: wait.wait(60)
    assert "no answer" in refusal(lambda: signer.sign(MESSAGE)).cause
    assert "did not answer before" in refusal(lambda: signer.sign(MESSAGE)).cause
    wait.set()


# The PIN -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("flags", "said"), [
    (0, "does not say that tries run out"), (Flag.USER_PIN_COUNT_LOW, "more than one try is left"),
    (Flag.USER_PIN_FINAL_TRY | Flag.USER_PIN_COUNT_LOW, "one try is left"), (Flag.USER_PIN_LOCKED, "is locked"),
])
def test_wrong_pin_is_tried_once_in_a_process(token: Token, load: t.Any, flags: int, said: str) -> None:
    token.flags_after = READY | flags
    error = refusal(lambda: load(pin=b"wrong"))
    assert (error.code, error.object) == ("passphrase_invalid", "pkcs11:token=T")
    assert "refused the PIN (PinIncorrect). It was tried once" in error.cause
    assert said in error.cause
    assert "wrong" not in error.cause.replace("wrong PINs were tried", "")
    token.flags = READY
    for pin in (b"wrong", b"wrong too", PIN):
        error = refusal(lambda pin=pin: load(pin=pin))  # type: ignore[misc]
        assert (error.code, "not asked again" in error.cause) == ("passphrase_invalid", True)
    assert token.logins == ["wrong"]
    assert token.sessions == 1


@pytest.mark.parametrize("name", [
    "PinIncorrect", "PinInvalid", "PinLenRange", "PinLocked", "PinExpired", "UserPinNotInitialized",
])
def test_each_refusal_of_a_pin_is_one(token: Token, load: t.Any, name: str) -> None:
    token.error = getattr(pkcs11, name)
    error = refusal(lambda: load(pin=b"wrong"))
    assert (error.code, f"({name})" in error.cause) == ("passphrase_invalid", True)


def test_other_failures_of_the_login_are_not_tried_again_either(token: Token, load: t.Any) -> None:
    token.error = pkcs11.DeviceError
    error = refusal(lambda: load(pin=b"wrong"))
    assert (error.code, error.cause) == ("service_unavailable", "DeviceError")
    assert refusal(load).code == "passphrase_invalid"
    assert token.logins == ["wrong"]


@pytest.mark.parametrize(("flags", "said"), [
    (Flag.USER_PIN_FINAL_TRY, "one try is left"), (Flag.USER_PIN_LOCKED, "is locked"),
])
def test_last_try_is_never_used(token: Token, load: t.Any, flags: int, said: str) -> None:
    token.flags = READY | flags
    error = refusal(load)
    assert (error.code, error.object) == ("passphrase_invalid", "pkcs11:token=T")
    assert error.cause.endswith("; the PIN was not tried")
    assert said in error.cause
    assert (token.logins, token.sessions) == ([], 0)


def test_pin_is_tried_while_tries_are_left(token: Token, load: t.Any) -> None:
    token.flags = READY | Flag.USER_PIN_COUNT_LOW
    assert load().sign(MESSAGE)


def test_token_that_wants_a_pin_gets_one(token: Token, load: t.Any) -> None:
    error = refusal(lambda: load(pin=None))
    assert (error.code, "none is given" in error.cause) == ("passphrase_invalid", True)
    assert token.sessions == 0
    token.flags &= ~Flag.LOGIN_REQUIRED
    assert load(pin=None).sign(MESSAGE)
    assert token.logins == []


def test_pin_comes_from_a_file(token: Token, load: t.Any, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "pin"
    path.write_bytes(PIN + b"\n")
    assert load(pin=None, query=f"&pin-source=file:{path}").sign(MESSAGE)
    assert token.logins == [PIN.decode()]
    error = refusal(lambda: load(query=f"&pin-source=file:{path}"))
    assert (error.code, error.cause) == ("input_invalid", "there are two PINs")
    assert refusal(lambda: load(pin=None, query=f"&pin-source=file:{path}x")).code == "not_found"


def test_only_the_file_has_a_line_end(token: Token, load: t.Any) -> None:
    assert refusal(lambda: load(pin=PIN + b"\n")).code == "passphrase_invalid"
    assert token.logins == [PIN.decode() + "\n"]


@pytest.mark.parametrize("pin", [b"", b"\xff\xfe1234"])
def test_pin_that_is_none_is_not_tried(token: Token, load: t.Any, pin: bytes, assert_hides: t.Any) -> None:
    error = refusal(lambda: load(pin=pin))
    assert (error.code, error.cause) == ("passphrase_invalid", "the PIN is empty, or no text")
    assert_hides(error, pin)
    assert token.sessions == 0


# Which token -------------------------------------------------------------------------------------------------------


def test_token_is_found_by_each_of_its_names(library: Library, load: t.Any, p256: t.Any) -> None:
    for number, (label, serial) in enumerate([("T", b"1"), ("T", b"2"), ("U", b"1")]):
        library.put(Token(label, slot_id=10 + number, serial=serial)).add(p256)
    for path, slot in (
        ("token=U", 12), ("token=T;serial=2", 11), ("slot-id=10", 10), ("serial=1;token=T", 10),
        ("slot-id=12;token=U", 12), ("token=U;manufacturer=maker;model=model", 12),
    ):
        tokens._logins.clear()
        assert load(path)
        assert [place[1] for place in tokens._logins] == [slot]
    for path in ("", "token=T", "serial=1", "manufacturer=maker"):
        error = refusal(lambda path=path: load(path))  # type: ignore[misc]
        assert (error.code, "more than one token" in error.cause) == ("input_invalid", True)
        assert "'T'" in error.cause
    for path in ("token=V", "slot-id=13", "token=U;serial=2", "model=other", "slot-id=10;token=U"):
        error = refusal(lambda path=path: load(path))  # type: ignore[misc]
        assert (error.code, error.cause) == ("not_found", "no token matches; there is: 'T', 'T', 'U'")


@pytest.mark.parametrize("absent", ["TokenNotPresent", "TokenNotRecognised"])
def test_slots_without_a_token_in_use_are_passed_over(
    library: Library, token: Token, load: t.Any, absent: str
) -> None:
    empty = Slot(None, 8)
    empty.absent = getattr(pkcs11, absent)
    library.slots.insert(0, empty)
    library.put(Token("", slot_id=9, flags=Flag.RNG))
    assert load("").sign(MESSAGE)
    library.slots = [empty]
    tokens._logins.clear()
    error = refusal(load)
    assert (error.code, error.cause) == ("not_found", "no token matches; there is: none")


def test_library_is_named_or_in_the_environment(
    library: Library, token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = refusal(lambda: uri.load("pkcs11:token=T", pin=PIN))
    assert (error.code, "names no PKCS#11 library" in error.cause) == ("input_invalid", True)
    for name in ("PYKCS11LIB", "COSIGN_PKCS11_MODULE_PATH"):
        with monkeypatch.context() as patch:
            patch.setenv(name, str(library.path))
            assert uri.load("hsm:1?label=T", pin=PIN).sign(MESSAGE)


def test_library_that_is_missing_or_no_library_is_refused(library: Library, token: Token, load: t.Any) -> None:
    library.error = pkcs11.PKCS11Error(f"OS exception while loading {library.path}")
    error = refusal(load)
    assert (error.code, error.attempt) == ("service_unavailable", "load the PKCS#11 library")
    library.path.unlink()
    error = refusal(load)
    assert (error.code, error.object) == ("not_found", str(library.path))


def test_library_that_others_may_write_is_not_loaded(library: Library, token: Token, load: t.Any) -> None:
    library.path.chmod(0o666)
    assert refusal(load).code == "parent_unsafe"
    assert library.loads == 0


# Which key ---------------------------------------------------------------------------------------------------------


def test_key_is_found_by_label_and_id(token: Token, load: t.Any, rsa2048: t.Any) -> None:
    token.add(rsa2048, "key", b"\2")
    assert load("id=%01").public.algorithm.name == "ecdsa-p256"
    assert load("object=key;id=%02").public.algorithm.name == "rsa-2048"
    error = refusal(load)
    assert (error.code, error.object) == ("input_invalid", "pkcs11:token=T;object=key")
    assert error.cause == "more than one private key matches: 'key' (id 01), 'key' (id 02)"
    for path in ("object=none", "object=key;id=%03"):
        error = refusal(lambda path=path: load(path))  # type: ignore[misc]
        assert (error.code, error.object) == ("not_found", f"pkcs11:{path}")
        assert error.cause == "no private key matches; there is: 'key' (id 01), 'key' (id 02)"


def test_many_keys_are_not_all_named(token: Token, load: t.Any, p256: t.Any) -> None:
    for number in range(100):
        token.add(p256, f"key{number:03}", b"\2")
    assert refusal(lambda: load("")).cause.count("(id") == 10


def test_key_that_may_not_sign_is_refused(token: Token, load: t.Any) -> None:
    del token.objects[0].sign
    error = refusal(load)
    assert (error.code, error.cause) == ("unsupported_algorithm", "the key may not sign")


def test_key_that_wants_the_pin_each_time_is_refused(library: Library, load: t.Any, p256: t.Any) -> None:
    library.put(Token()).add(p256, ALWAYS_AUTHENTICATE=True)
    error = refusal(load)
    assert (error.code, "CKA_ALWAYS_AUTHENTICATE" in error.cause) == ("unsupported_algorithm", True)


def test_rsa_keys_show_their_public_half_themselves(library: Library, load: t.Any, rsa2048: t.Any) -> None:
    library.put(Token()).add(rsa2048, public=False)
    assert load().sign(MESSAGE)


def test_public_key_may_come_from_a_file(
    library: Library, load: t.Any, p256: t.Any, public_pem: t.Any, tmp_path: pathlib.Path
) -> None:
    library.put(Token()).add(p256, public=False)
    error = refusal(load)
    assert (error.code, "shows no public key" in error.cause) == ("not_found", True)
    path = tmp_path / "pub"
    path.write_bytes(public_pem(p256))
    assert load(public_key_path=str(path)).sign(MESSAGE)
    # Whatever the file says, what is signed is verified.
    path.write_bytes(public_pem(ec.generate_private_key(ec.SECP256R1())))
    signer = load(public_key_path=str(path))
    assert refusal(lambda: signer.sign(MESSAGE)).code == "signature_invalid"


def test_public_half_of_another_key_is_not_taken(token: Token, load: t.Any, rsa2048: t.Any, p384: t.Any) -> None:
    """The same id may stand at keys of several kinds; two of one kind are one too many."""
    token.add(rsa2048, "rsa", b"\1")
    assert load().public.algorithm.name == "ecdsa-p256"
    token.add(p384, "other", b"\1")
    error = refusal(load)
    assert (error.code, "more than one public key" in error.cause) == ("input_invalid", True)


def test_key_without_an_id_has_no_public_half(library: Library, load: t.Any, p256: t.Any) -> None:
    library.put(Token()).add(p256, identifier=b"")
    assert refusal(load).code == "not_found"


def test_bare_points_are_read(token: Token, load: t.Any, p256: t.Any) -> None:
    public = token.objects[1].attributes
    public[Attribute.EC_POINT] = public[Attribute.EC_POINT][2:]
    assert load().sign(MESSAGE)


@pytest.mark.parametrize(("attribute", "value"), [
    ("EC_PARAMS", bytes.fromhex("06052b8104000a")), ("EC_POINT", b"\4\1\4"), ("EC_POINT", None), ("EC_PARAMS", None),
])
def test_public_half_that_cannot_be_read_is_none(token: Token, load: t.Any, attribute: str, value: t.Any) -> None:
    public = token.objects[1].attributes
    if value is None:
        del public[getattr(Attribute, attribute)]
    else:
        public[getattr(Attribute, attribute)] = value
    assert refusal(load).code == "not_found"
