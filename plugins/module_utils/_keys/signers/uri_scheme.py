# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a key is that never leaves its HSM or cloud service: the URIs of securesystemslib, and cosign's spellings.

All of them are normalised here. What a spelling leaves open is refused, never guessed, and nothing of a URI that was
refused is shown: somebody may have written a PIN or a password into it.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass, field
from urllib import parse as urls

from ..._errors import KeyFileError

_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_UUID = r"(?:mrk-)?[0-9A-Fa-f]{8}-?(?:[0-9A-Fa-f]{4}-?){3}[0-9A-Fa-f]{12}|mrk-[0-9a-f]{32}"
_ALIAS = r"alias/[A-Za-z0-9/_-]{1,250}"
_AWS_KEY = re.compile(
    rf"(?:arn:(?:aws|aws-us-gov|aws-cn):kms:(?P<region>[a-z0-9-]+):[0-9]{{12}}:(?:key/(?:{_UUID})|{_ALIAS})"
    rf"|{_UUID}|{_ALIAS})"
)
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?")
_GCP_KEY = re.compile(
    r"(projects/[A-Za-z0-9.:_-]+/locations/[A-Za-z0-9_-]+/keyRings/[A-Za-z0-9_-]+/cryptoKeys/[A-Za-z0-9_-]+)"
    r"(?:/(?:cryptoKeyVersions|versions)/([0-9]+))?"
)
# The access token goes to this host: only to those of the service.
_AZURE_HOST = re.compile(
    r"[A-Za-z0-9-]+\.(?:vault\.azure\.net|vault\.azure\.cn|vault\.usgovcloudapi\.net|managedhsm\.azure\.net)"
)
_AZURE_NAME = re.compile(r"[A-Za-z0-9-]{1,127}")
_AZURE_VERSION = re.compile(r"[0-9a-f]{32}")
_VAULT_NAME = re.compile(r"\w(?:[\w.-]*\w)?", re.ASCII)
# RFC 7512: what names the token, and what names the object in it.
_TOKEN_NAMES = {"token": "label", "serial": "serial", "manufacturer": "manufacturer_id", "model": "model"}
_PKCS11_PATH = (*_TOKEN_NAMES, "slot-id", "object", "id", "type")
_PKCS11_QUERY = ("module-path", "pin-source", "pin-value")
# securesystemslib's own default: the slot for signatures of a PIV card.
_HSM_KEY = 2


@dataclass(frozen=True)
class TokenKey:
    """A private key in a PKCS#11 token: what is known of the token, of the object in it, and of the library."""

    token: t.Mapping[str, str] = field(default_factory=dict)
    slot_id: int | None = None
    label: str | None = None
    id: bytes | None = None
    module_path: str | None = None
    pin_path: str | None = None

    def __str__(self) -> str:
        names = {attribute: name for name, attribute in _TOKEN_NAMES.items()}
        parts = [f"{names[attribute]}={urls.quote(value, safe='')}" for attribute, value in self.token.items()]
        parts += [f"slot-id={self.slot_id}"] if self.slot_id is not None else []
        parts += [f"object={urls.quote(self.label, safe='')}"] if self.label is not None else []
        parts += ["id=" + "".join(f"%{byte:02x}" for byte in self.id)] if self.id is not None else []
        return f"pkcs11:{';'.join(parts)}"


@dataclass(frozen=True)
class AwsKey:
    """A key of AWS KMS: id, ARN or alias; the endpoint, if it is not that of the region."""

    key: str
    endpoint: str | None = None
    region: str | None = None

    def __str__(self) -> str:
        return f"awskms://{self.endpoint or ''}/{self.key}"


@dataclass(frozen=True)
class GcpKey:
    """One version of a key of Google Cloud KMS, by its resource name."""

    name: str

    def __str__(self) -> str:
        return f"gcpkms://{self.name}"


@dataclass(frozen=True)
class AzureKey:
    """A key of Azure Key Vault; without a version, the one that is current when it is loaded."""

    host: str
    name: str
    version: str | None = None

    def __str__(self) -> str:
        return f"azurekms://{self.host}/{self.name}" + (f"/{self.version}" if self.version else "")


@dataclass(frozen=True)
class VaultKey:
    """A key of Vault's or OpenBao's Transit engine; without a version, the one that is current when it is loaded."""

    name: str
    version: int | None = None

    def __str__(self) -> str:
        return f"hv:{self.name}" + (f"/{self.version}" if self.version else "")


AnyKey = t.Union[TokenKey, AwsKey, GcpKey, AzureKey, VaultKey]


def parse(uri: str) -> AnyKey:
    """Return the key that a URI means. Raises KeyFileError (input_invalid) that shows no value of it."""
    scheme, _colon, rest = uri.partition(":")
    reader = _READERS.get(scheme)
    if reader is None:
        raise invalid(
            "its scheme is none that is known",
            f"Use one of {', '.join(f'{name}:' for name in _READERS)}; for everything else there is command.",
        )
    if not re.fullmatch(r"[!-~]*", rest) or _PERCENT.search(rest):
        raise invalid("it holds characters that a URI cannot have", "Write them as %XX, twice hexadecimal.")
    return reader(rest)


def _hsm(rest: str) -> TokenKey:
    key, _mark, query = rest.partition("?")
    options = urls.parse_qsl(query, keep_blank_values=True)
    if not re.fullmatch(r"[0-9]{0,20}", key) or [name for name, _value in options] not in ([], ["label"]):
        raise invalid("it is not hsm:[KEYID][?label=TOKEN]", "Or name the key by pkcs11:token=TOKEN;object=KEY.")
    number = int(key) if key else _HSM_KEY
    identifier = number.to_bytes(max(1, (number.bit_length() + 7) // 8), "big")
    return TokenKey(token={attribute: value for attribute, (_name, value) in zip(["label"], options)}, id=identifier)


def _pkcs11(rest: str) -> TokenKey:
    path, _mark, query = rest.partition("?")
    found = {**_attributes(path, ";", _PKCS11_PATH), **_attributes(query, "&", _PKCS11_QUERY)}
    if "pin-value" in found:
        raise invalid(
            "it holds the PIN (pin-value), and options are shown", "Keep it in a file: pin_path, or pin-source."
        )
    if found.get("type", b"private") != b"private":
        raise invalid("its type is not private", "Name the private key, or leave type out.")
    texts = {name: _text(name, value) for name, value in found.items() if name != "id"}
    slot = texts.get("slot-id")
    if slot is not None and not re.fullmatch(r"[0-9]{1,10}", slot):
        raise invalid("its slot-id is no number", "Name the token by token=LABEL; slots may change.")
    return TokenKey(
        token={_TOKEN_NAMES[name]: text for name, text in texts.items() if name in _TOKEN_NAMES},
        slot_id=None if slot is None else int(slot), label=texts.get("object"), id=found.get("id"),
        module_path=_absolute("module-path", texts.get("module-path")), pin_path=_pin_path(texts.get("pin-source")),
    )


def _attributes(text: str, mark: str, known: t.Collection[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for part in text.split(mark) if text else ():
        name, equals, value = part.partition("=")
        if not equals or name not in known or name in found:
            raise invalid(
                f"an attribute of it is unknown or doubled; known here are {', '.join(known)}", "See RFC 7512."
            )
        found[name] = urls.unquote_to_bytes(value)
    return found


def _text(name: str, value: bytes) -> str:
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        text = ""
    if not text or not text.isprintable():
        raise invalid(f"its {name} is no text", "See RFC 7512.")
    return text


def _pin_path(source: str | None) -> str | None:
    if source is None:
        return None
    kind, _colon, path = source.partition(":")
    if kind != "file":
        raise invalid("its pin-source is no file", "Write pin-source=file:/PATH.")
    return _absolute("pin-source", path[2:] if path.startswith("///") else path)


def _absolute(name: str, path: str | None) -> str | None:
    if path is not None and (not path.startswith("/") or path.startswith("//")):
        raise invalid(f"its {name} is no absolute path", "Write the whole path.")
    return path


def _aws(rest: str) -> AwsKey:
    host, key = "", rest
    if rest.startswith("//"):
        host, _slash, key = rest[2:].partition("/")
    match = _AWS_KEY.fullmatch(key)
    if match is None or (host and not _HOST.fullmatch(host)) or host == "alias":
        raise invalid(
            "it is not awskms://[ENDPOINT]/KEY, where KEY is a key id, alias/NAME or an ARN of either",
            "Without an endpoint there are three slashes: awskms:///alias/NAME.",
        )
    return AwsKey(key, endpoint=host or None, region=match["region"])


def _gcp(rest: str) -> GcpKey:
    match = _GCP_KEY.fullmatch(rest[2:] if rest.startswith("//") else rest)
    if match is None:
        raise invalid(
            "it is not gcpkms://projects/P/locations/L/keyRings/R/cryptoKeys/K/cryptoKeyVersions/V",
            "Copy the resource name of the key version.",
        )
    if match[2] is None:
        raise invalid(
            "it names no version, and the service has no current one for keys that sign",
            "Add /cryptoKeyVersions/NUMBER.",
        )
    return GcpKey(f"{match[1]}/cryptoKeyVersions/{match[2]}")


def _azure(rest: str) -> AzureKey:
    host, *parts = rest[2:].split("/") if rest.startswith("//") else [""]
    if len(parts) == 2 and parts[0] == "keys":
        raise invalid(
            "it may mean a key named keys, or securesystemslib's spelling without a version",
            "Write azurekms://HOST/KEY, or azurekms://HOST/keys/KEY/VERSION.",
        )
    if len(parts) == 3 and parts[0] == "keys":
        parts = parts[1:]
    name, version = (*parts, None, None)[:2]
    fits = len(parts) in (1, 2) and _AZURE_HOST.fullmatch(host) and _AZURE_NAME.fullmatch(name or "")
    if not fits or (version is not None and not _AZURE_VERSION.fullmatch(version)):
        raise invalid(
            "it is not azurekms://VAULT.vault.azure.net/KEY[/VERSION]", "Copy name and version from the key identifier."
        )
    return AzureKey(host, t.cast(str, name), version)


def _vault(rest: str) -> VaultKey:
    name, slash, version = rest.partition("/")
    if not _VAULT_NAME.fullmatch(name) or (slash and not re.fullmatch(r"[1-9][0-9]{0,8}", version)):
        raise invalid("it is not hv:KEY[/VERSION]", "Vault's address and token come from the environment.")
    return VaultKey(name, int(version) if slash else None)


def _cosign_vault(rest: str) -> VaultKey:
    if not rest.startswith("//") or not _VAULT_NAME.fullmatch(rest[2:]):
        raise invalid("it is not hashivault://KEY", "A version is written as hv:KEY/VERSION.")
    return VaultKey(rest[2:])


_READERS: dict[str, t.Callable[[str], AnyKey]] = {
    "hsm": _hsm, "pkcs11": _pkcs11, "awskms": _aws, "gcpkms": _gcp, "azurekms": _azure, "hv": _vault,
    "hashivault": _cosign_vault, "openbao": _cosign_vault,
}


def invalid(cause: str, advice: str) -> KeyFileError:
    """Return the error for a URI that cannot be used."""
    return KeyFileError(code="input_invalid", object="uri", attempt="use it", cause=cause, advice=advice)
