# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""cosign's plugin for keys C(hallmark://IDENTITY/HOST/REPO@DIGEST[?NAME=VALUE&…]): asks the host with the key by ssh.

Protocol: sigstore's C(pkg/signature/kms/cliplugin), version 1: the request is the second argument, what is to be signed
comes on standard input, the answer is one JSON object. Needs the standard library only.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import typing as t
from dataclasses import dataclass
from urllib.parse import parse_qsl

_SCHEME = "hallmark://"
_SYSTEM = "/etc/hallmark-signing/plugin.json"
_MAX_MESSAGE = 256 * 1024
# Go's numbers of hash functions, crypto.Hash.
_HASHES = {5: "sha256", 6: "sha384", 7: "sha512"}
_ALGORITHMS = ("ecdsa-p256-sha256", "ecdsa-p384-sha384", "ecdsa-p521-sha512", "rsa-pkcs1v15-2048-sha256")
_PATHS = ("public_key_path", "identity_file", "known_hosts")
_MEMBERS = ("destination", "port", "timeout", *_PATHS)
_BASE64 = re.compile(r"[A-Za-z0-9+/]{1,8192}={0,2}")
_CONTROL = re.compile(r"[^\x20-\x7e]+")


class PluginError(Exception):
    """What cosign shows to its user; never holds anything secret."""


@dataclass(frozen=True)
class KeyHost:
    """Where the key of an identity is, and how it is asked."""

    identity: str
    destination: str
    public_key_path: str
    port: int = 22
    identity_file: str | None = None
    known_hosts: str | None = None
    timeout: int = 60


def main(argv: t.Sequence[str]) -> int:
    """Answer one request of cosign; return the exit status, which cosign ignores."""
    try:
        if len(argv) != 2 or argv[0] != "v1":
            raise PluginError("this plugin is run by cosign, and speaks version v1 of its protocol")
        answer = _answer(json.loads(argv[1]))
        status = 0
    # Whatever happens: cosign takes an empty answer for an answer, and crashes.
    except Exception as exc:
        unknown = f"cosign's request is not understood ({type(exc).__name__})"
        said = str(exc) if isinstance(exc, PluginError) else unknown
        answer, status = {"errorMessage": said}, 1
    sys.stdout.write(json.dumps(answer) + "\n")
    return status


def _answer(request: dict[str, t.Any]) -> dict[str, t.Any]:
    options, method = request["initOptions"], request["methodName"]
    if method in ("defaultAlgorithm", "supportedAlgorithms"):
        values: t.Any = _ALGORITHMS[0] if method == "defaultAlgorithm" else list(_ALGORITHMS)
        return {method: {method: values}}
    identity, reference, annotations = _parse(options["keyResourceID"])
    host = _key_host(identity)
    if method == "publicKey":
        return {"publicKey": {"publicKeyPEM": _encode(_public_key(host))}}
    if method == "verifySignature":
        raise PluginError(f"verify with the public key itself: cosign verify --key {host.public_key_path}")
    if method != "signMessage":
        raise PluginError(f"{method[:50]}: keys are made and removed by hallmark.signing, not by cosign")
    if "@" not in reference:
        raise PluginError(
            f"which image? The key host signs nothing it does not know: name it as in hallmark://{identity}/HOST/REPO@DIGEST"
        )
    if options.get("hashFunc", 5) not in _HASHES:
        raise PluginError(f"hash function {options.get('hashFunc')} of cosign is not known")
    message = sys.stdin.buffer.read(_MAX_MESSAGE + 1)
    if len(message) > _MAX_MESSAGE:
        raise PluginError("what is to be signed is larger than the claim about an image can be")
    given = ((request["signMessage"].get("signOptions") or {}).get("messageOptions") or {}).get("digest")
    answer = _ask(host, {
        "version": 1, "reference": reference, "annotations": annotations, "hash": _HASHES[options.get("hashFunc", 5)],
        "message": _encode(message) if message else None, "digest": given,
    })
    return {"signMessage": {"signature": answer["signature"]}}


def _parse(key_id: str) -> tuple[str, str, dict[str, str]]:
    """Return identity, image and annotations of what stands behind hallmark://."""
    text = key_id[len(_SCHEME):] if key_id.startswith(_SCHEME) else key_id
    name, _question, query = text.partition("?")
    identity, _slash, reference = name.partition("/")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", identity):
        raise PluginError("the key is to be named hallmark://IDENTITY/HOST/REPO@DIGEST")
    try:
        annotations = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), errors="strict")
    except ValueError:
        raise PluginError("what follows the question mark is not NAME=VALUE&…, escaped as in URLs") from None
    if len(dict(annotations)) != len(annotations):
        raise PluginError("an annotation is named twice behind the question mark")
    return identity, reference, dict(annotations)


def _key_host(identity: str) -> KeyHost:
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    own = os.path.join(base, "hallmark-signing", "plugin.json")
    for path in (own, _SYSTEM):
        try:
            with open(path, encoding="utf-8") as stream:
                known = json.load(stream)["identities"]
            if identity in known:
                return _read_host(identity, known[identity])
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
            is_ours = isinstance(exc, ValueError) and not isinstance(exc, (json.JSONDecodeError, UnicodeError))
            cause = str(exc) if is_ours else type(exc).__name__
            raise PluginError(f"{path}: could not be read ({cause}); role signer writes it") from exc
    raise PluginError(f"identity {identity} is neither in {own} nor in {_SYSTEM}; role signer writes the latter")


def _read_host(identity: str, members: dict[str, t.Any]) -> KeyHost:
    """Return the checked entry of an identity. Raises ValueError that says which member is wrong."""
    kinds = {"port": int, "timeout": int}
    for name, value in members.items():
        if name not in _MEMBERS or not isinstance(value, kinds.get(name, str)) or isinstance(value, bool):
            raise ValueError(f"{identity}: member {name[:50]!r} is unknown or of the wrong type")
    missing = [name for name in ("destination", "public_key_path") if not members.get(name)]
    if missing or members["destination"].startswith("-"):
        raise ValueError(f"{identity}: {(missing or ['destination'])[0]} is missing or wrong")
    paths = {name: os.path.expanduser(members[name]) for name in members if name in _PATHS}
    host = KeyHost(identity=identity, **{**members, **paths})
    if not (1 <= host.port <= 65535 and 1 <= host.timeout <= 3600):
        raise ValueError(f"{identity}: port or timeout is out of range")
    return host


def _public_key(host: KeyHost) -> bytes:
    try:
        with open(host.public_key_path, "rb") as stream:
            return stream.read()
    except OSError as exc:
        raise PluginError(
            f"{host.public_key_path}: could not read the public key of {host.identity}: {exc.strerror}"
        ) from exc


def _ask(host: KeyHost, request: dict[str, t.Any]) -> dict[str, t.Any]:
    """Send a request to the forced command, and return its answer."""
    try:
        done = subprocess.run(
            _ssh(host), input=json.dumps(request).encode("ascii"), capture_output=True, timeout=host.timeout,
            check=False,
        )
    except OSError as exc:
        raise PluginError(f"could not run ssh: {exc.strerror}") from exc
    except subprocess.TimeoutExpired:
        raise PluginError(f"{host.destination}: no answer within {host.timeout} seconds") from None
    try:
        answer = json.loads(done.stdout)
        if "error" not in answer and _BASE64.fullmatch(answer["signature"]):
            return {"signature": answer["signature"]}
        said = str(answer["error"]["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        said = _ssh_failure(host, done)
    raise PluginError(_CONTROL.sub(" ", said)[:2000])


def _ssh(host: KeyHost) -> list[str]:
    argv = ["ssh", "-T", "-a", "-x", "-p", str(host.port)]
    # No question can be answered here, a host key that is not known is never taken, and nothing is learned or left
    # running: a connection that several commands share would outlast this one, and may be somebody else's.
    for option in (
        "BatchMode=yes", "StrictHostKeyChecking=yes", "UpdateHostKeys=no", "ConnectTimeout=15",
        "ClearAllForwardings=yes", "ControlPath=none",
    ):
        argv += ["-o", option]
    if host.known_hosts:
        argv += ["-o", f"UserKnownHostsFile={host.known_hosts}", "-o", "GlobalKnownHostsFile=/dev/null"]
    if host.identity_file:
        argv += ["-i", host.identity_file, "-o", "IdentitiesOnly=yes"]
    return [*argv, "--", host.destination]


def _ssh_failure(host: KeyHost, done: subprocess.CompletedProcess[bytes]) -> str:
    said = done.stderr.decode("utf-8", "replace")
    known = host.known_hosts or "known_hosts"
    if "IDENTIFICATION HAS CHANGED" in said:
        return (
            f"{host.destination}: its ssh host key is not the one in {known}. Nothing was sent. If the host was set up "
            "anew, put its new key there; else somebody stands between."
        )
    if "Host key verification failed" in said:
        return f"{host.destination}: its ssh host key is not in {known}. Nothing was sent. Put the host's key there."
    lines = [line for line in said.splitlines() if line.strip()] or ["it said nothing"]
    return f"{host.destination}: ssh ended with status {done.returncode}: {lines[-1][:300]}"


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
