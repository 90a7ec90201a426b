# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private keys in PKCS#11 tokens: hardware security modules, smart cards, SoftHSM.

By python-pkcs11, the library below securesystemslib's HSMSigner, and not by that: it opens a session and logs in for
each signature, does not look at what the token says about tries left, takes the library from the environment only, and
knows neither RSA nor labels of keys.

A token counts wrong PINs and locks itself. So there is one login for each token in a process, whatever it is asked for,
and none at all where the token says that one more wrong PIN would lock it.
"""

from __future__ import annotations

import atexit
import hashlib
import hmac
import os
import threading
import typing as t
from contextlib import suppress
from dataclasses import dataclass, field, replace

from ..._errors import KeyFileError
from ..._libraries import optional
from .. import pem
from ..algorithms import SCHEMES, able
from ..files import read_key_file
from .service import Service, need
from .trusted_file import require_trusted
from .uri_scheme import TokenKey

with optional():
    import pkcs11
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass, TokenFlag

if t.TYPE_CHECKING:
    from ..._reason_codes import ReasonCode

# Where other tools look for the library, too; securesystemslib, cosign.
_LIBRARY_VARIABLES = ("PYKCS11LIB", "COSIGN_PKCS11_MODULE_PATH")
_PIN_ERRORS = ("PinIncorrect", "PinInvalid", "PinLenRange", "PinLocked", "PinExpired", "UserPinNotInitialized")
# DER of the object identifiers of curves, as CKA_EC_PARAMS holds them.
_CURVES = {
    bytes.fromhex("06082a8648ce3d030107"): ("SECP256R1", 65), bytes.fromhex("06052b81040022"): ("SECP384R1", 97),
    bytes.fromhex("06052b81040023"): ("SECP521R1", 133),
}


@dataclass
class Login:
    """One session in which the user is logged in. One thread at a time uses it: few libraries allow more."""

    service: Service
    token: pkcs11.Token
    pin_hash: bytes = field(repr=False)
    lock: threading.Lock = field(default_factory=threading.Lock)
    session: pkcs11.Session | None = None

    def ask(self, attempt: str, question: t.Callable[[], t.Any]) -> t.Any:
        """Ask the token something, after whoever asked before. Raises KeyFileError."""
        with self.lock:
            return self.service.ask(attempt, question)

    def close(self) -> None:
        """Log out, as far as that is possible."""
        if self.session is not None and not self.service.is_hung:
            with suppress(Exception):
                self.ask("close the session", self.session.close)


# By the library's file, the slot and the token's serial number: logins that succeeded, and tokens that refused a PIN.
_Place = tuple[str, int, bytes]
_logins: dict[_Place, Login] = {}
_refused: set[_Place] = set()
_opening = threading.Lock()


class TokenBackend:
    """One private key in one token."""

    def __init__(self, key: TokenKey, *, pin: bytes | None, public: pem.PublicKey | None, seconds: float) -> None:
        need("pkcs11")
        self._where = str(key)
        self._login = _login(key, _pin(key, pin), seconds)
        self._private, self.public = self._login.ask("find the key", lambda: self._find(key, public))
        self.schemes = self._login.ask("see what it can", self._able)

    def sign(self, message: bytes, scheme: str) -> bytes:
        """Return the signature as the token makes it: ECDSA as raw r and s."""
        data, options = _operation(message, scheme, self.public.algorithm.size)
        return t.cast(bytes, self._login.ask("sign", lambda: self._private.sign(data, **options)))

    def _find(self, key: TokenKey, public: pem.PublicKey | None) -> tuple[t.Any, pem.PublicKey]:
        session = t.cast("pkcs11.Session", self._login.session)
        wanted: dict[t.Any, t.Any] = {Attribute.CLASS: ObjectClass.PRIVATE_KEY}
        wanted.update({Attribute.LABEL: key.label} if key.label is not None else {})
        wanted.update({Attribute.ID: key.id} if key.id is not None else {})
        found = list(session.get_objects(wanted))
        if len(found) != 1:
            there = found or session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY})
            raise _no_single("private key", self._where, [_name(one) for one in there], is_choice=bool(found))
        private = found[0]
        if not hasattr(private, "sign") or _attribute(private, Attribute.ALWAYS_AUTHENTICATE):
            raise _unusable(
                self._where, "unsupported_algorithm",
                "the key may not sign" if not hasattr(private, "sign") else
                "the key wants the PIN for every signature (CKA_ALWAYS_AUTHENTICATE)",
                "Use a key that may sign after one login; on PIV cards, another slot than 9c.",
            )
        return private, _public_key(session, private, self._where) or public or _no_public(self._where)

    def _able(self) -> tuple[str, ...]:
        mechanisms = self._login.token.slot.get_mechanisms()
        return tuple(name for name in able(self.public.algorithm) if _mechanism(name) in mechanisms)


def _pin(key: TokenKey, given: bytes | None) -> str | None:
    if given is not None and key.pin_path is not None:
        raise _unusable(str(key), "input_invalid", "there are two PINs", "Leave out pin-source, or the other.")
    if given is None and key.pin_path is None:
        return None
    data = given if given is not None else read_key_file(t.cast(str, key.pin_path))
    text: str | None = None
    with suppress(UnicodeDecodeError):
        text = data.decode("utf-8").removesuffix("\n" if given is None else "")
    if not text:
        # Raised out here, so that no context of it holds the bytes.
        raise _unusable(str(key), "passphrase_invalid", "the PIN is empty, or no text", "Write it as one line of text.")
    return text


def _login(key: TokenKey, pin: str | None, seconds: float) -> Login:
    """Return the login at the one token that is meant: the one that this process has, or a new one."""
    where = str(key)
    path = key.module_path or next((os.environ[name] for name in _LIBRARY_VARIABLES if os.environ.get(name)), None)
    if path is None:
        raise _unusable(
            where, "input_invalid", "it names no PKCS#11 library",
            "Add ?module-path=/PATH/LIBRARY.so, or set PYKCS11LIB.",
        )
    require_trusted(path, attempt="load the PKCS#11 library")
    # By its own name, so that a token has one login by whatever link its library is found.
    path = os.path.realpath(path)
    service = Service(where, seconds, {"NoSuchKey": "not_found"}, advice="Check the device and its driver.")
    pin_hash = hashlib.sha256((pin or "").encode("utf-8")).digest()
    with _opening:
        token = _token(key, path, service)
        place = (path, token.slot.slot_id, token.serial)
        if place not in _logins:
            # Several keys of a token share the login.
            login = Login(replace(service, where=str(TokenKey({"label": token.label}))), token, pin_hash)
            _log_in(login, place, pin)
            _logins[place] = login
            atexit.register(login.close)
        if not hmac.compare_digest(_logins[place].pin_hash, pin_hash):
            raise _unusable(
                where, "passphrase_invalid", "another signer logged in at this token with another PIN",
                "Give both the same PIN file.",
            )
        return _logins[place]


def _token(key: TokenKey, path: str, service: Service) -> pkcs11.Token:
    library = service.ask("load the PKCS#11 library", lambda: pkcs11.lib(path))
    there = service.ask("list the tokens", lambda: list(_tokens(library)))
    found = [
        token for token in there
        if key.slot_id in (None, token.slot.slot_id)
        and all(_text(getattr(token, name)) == value for name, value in key.token.items())
    ]
    if len(found) != 1:
        raise _no_single("token", service.where, [repr(token.label) for token in found or there], is_choice=bool(found))
    return found[0]


def _tokens(library: t.Any) -> t.Iterator[pkcs11.Token]:
    for slot in library.get_slots(token_present=True):
        with suppress(pkcs11.TokenNotPresent, pkcs11.TokenNotRecognised):
            token = slot.get_token()
            if token.flags & TokenFlag.TOKEN_INITIALIZED:
                yield token


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _log_in(login: Login, place: _Place, pin: str | None) -> None:
    """Try the PIN, once. Raises KeyFileError (passphrase_invalid)."""
    flags = login.token.flags
    cause = None
    if place in _refused:
        cause = "it refused a PIN before in this task, and is not asked again"
    elif flags & (TokenFlag.USER_PIN_FINAL_TRY | TokenFlag.USER_PIN_LOCKED):
        cause = f"{_tries(flags)}; the PIN was not tried"
    elif pin is None and flags & TokenFlag.LOGIN_REQUIRED:
        cause = "it wants a PIN, and none is given"
    if cause is not None:
        raise _unusable(
            login.service.where, "passphrase_invalid", cause,
            "Find out which PIN is right, and log in with the token's own tools first.",
        )

    def open_session() -> str | None:
        try:
            login.session = login.token.open(user_pin=pin)
        except pkcs11.PKCS11Error as exc:
            if type(exc).__name__ not in _PIN_ERRORS:
                raise
            return type(exc).__name__
        return None

    # Whatever happens, a login that did not succeed is not tried again.
    _refused.add(place)
    refusal = login.ask("log in", open_session)
    if refusal is not None:
        after = login.ask("read how many tries are left", login.token.slot.get_token).flags
        raise _unusable(
            login.service.where, "passphrase_invalid",
            f"the token refused the PIN ({refusal}). It was tried once; {_tries(after)}",
            "Find out which PIN is right before you run again: wrong ones lock the token.",
        )
    _refused.discard(place)


def _tries(flags: int) -> str:
    if flags & TokenFlag.USER_PIN_LOCKED:
        return "the token says that its PIN is locked"
    if flags & TokenFlag.USER_PIN_FINAL_TRY:
        return "the token says that one try is left"
    if flags & TokenFlag.USER_PIN_COUNT_LOW:
        return "the token says that wrong PINs were tried, and that more than one try is left"
    return "the token does not say that tries run out"


def _public_key(session: pkcs11.Session, private: t.Any, where: str) -> pem.PublicKey | None:
    """Return the public half that the token holds, or None."""
    found = []
    identifier = _attribute(private, Attribute.ID)
    if identifier:
        found = list(session.get_objects({
            Attribute.CLASS: ObjectClass.PUBLIC_KEY, Attribute.ID: identifier,
            Attribute.KEY_TYPE: private.key_type,
        }))
    if len(found) > 1:
        raise _no_single("public key", where, [_name(one) for one in found], is_choice=True)
    try:
        return pem.public_key(_decoded(found[0] if found else private), where=where)
    except (ValueError, TypeError, pkcs11.PKCS11Error):
        return None


def _decoded(key: t.Any) -> object:
    """Return the key of an object that shows it. Raises ValueError, TypeError or PKCS11Error for others."""
    if key.key_type == KeyType.RSA:
        modulus, exponent = key[Attribute.MODULUS], key[Attribute.PUBLIC_EXPONENT]
        return rsa.RSAPublicNumbers(int.from_bytes(exponent, "big"), int.from_bytes(modulus, "big")).public_key()
    point = key[Attribute.EC_POINT]
    if key.key_type == KeyType.EC_EDWARDS:
        return ed25519.Ed25519PublicKey.from_public_bytes(point[-32:])
    found = _CURVES.get(key[Attribute.EC_PARAMS])
    if found is None:
        raise ValueError("another curve")
    curve, length = found
    # In an OCTET STRING, as the standard says, or bare, as some devices have it.
    return ec.EllipticCurvePublicKey.from_encoded_point(getattr(ec, curve)(), point[-length:])


def _attribute(key: t.Any, attribute: t.Any) -> t.Any:
    with suppress(pkcs11.PKCS11Error):
        return key[attribute]
    return None


def _name(key: t.Any) -> str:
    return f"{_attribute(key, Attribute.LABEL)!r} (id {(_attribute(key, Attribute.ID) or b'').hex() or 'none'})"


def _mechanism(scheme: str) -> t.Any:
    """Return the mechanism of a scheme, or None. Few tokens hash for ECDSA, and all do for RSA."""
    row = SCHEMES[scheme]
    if row.family == "rsa":
        return getattr(Mechanism, f"{row.hash.upper()}_RSA_PKCS{'_PSS' if row.is_pss else ''}")
    return {"ec": Mechanism.ECDSA, "ed25519": Mechanism.EDDSA if scheme == "ed25519" else None}[row.family]


def _operation(message: bytes, scheme: str, size: int) -> tuple[bytes, dict[str, t.Any]]:
    """Return what is given to the token to sign, and how."""
    row = SCHEMES[scheme]
    options = {"mechanism": _mechanism(scheme)}
    if row.is_pss:
        name = row.hash.upper()
        salt = hashlib.new(row.hash).digest_size
        options["mechanism_param"] = (getattr(Mechanism, name), getattr(pkcs11.MGF, name), salt)
    if row.family != "ec":
        return message, options
    digest = hashlib.new(row.hash, message).digest()
    # Some tokens take digests of the curve's length only: ECDSA uses so many bits from the left, as a number.
    return (digest[:size // 8].rjust(size // 8, b"\0") if size % 8 == 0 else digest), options


def _no_single(what: str, where: str, names: t.Sequence[str], *, is_choice: bool) -> KeyFileError:
    listed = ", ".join(sorted(names)[:10]) or "none"
    if is_choice:
        return _unusable(
            where, "input_invalid", f"more than one {what} matches: {listed}", "Name one of them by more attributes."
        )
    return _unusable(where, "not_found", f"no {what} matches; there is: {listed}", "Check the names, and the slot.")


def _no_public(where: str) -> t.NoReturn:
    raise _unusable(
        where, "not_found", "the token shows no public key of it that could be read", "Name it as public_key_path."
    )


def _unusable(where: str, code: ReasonCode, cause: str, advice: str) -> KeyFileError:
    return KeyFileError(code=code, object=where, attempt="use the key", cause=cause, advice=advice)
