# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Answering one request to sign, on the host with the key: what the forced command and the signing service do.

A request is one JSON object, C({"version": 1, "reference": HOST/REPO@DIGEST, "annotations": {…}, "message": base64 or
null, "digest": base64 or null, "hash": "sha256"}), the answer C({"signature": base64, "key_id": …}) or
C({"error": {"code": …, "message": …}}).
"""

from __future__ import annotations

import datetime
import re
import typing as t
from dataclasses import dataclass

from .. import _base64, _strict_json
from .._custody import journal
from .._errors import FormatError, HallmarkError
from .._keys import algorithms
from .._keys.signers.protocol import Signer
from .._oci import pattern
from .._oci import reference as references
from .._oci.reference import Reference
from . import claim as claims
from . import limits
from .limits import Caller

MAX_REQUEST = 512 * 1024
VERSION = 1
# Of a caller, as the relay takes it.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")


@dataclass(frozen=True)
class Key:
    """The key of one identity as it is configured on its host, by paths only, and who may use it."""

    identity: str
    key_id: str
    private_key_path: str | None
    uri: str | None
    secret_path: str | None
    public_key_path: str | None
    record_path: str
    callers: t.Mapping[str, Caller]
    pointer_path: str | None = None


def read_key(data: bytes, *, where: str) -> Key:
    """Read the configuration of an identity. Raises FormatError (malformed): unknown members, too, and empty lists."""
    top = _strict_json.loads(data, what="configuration", where=where)
    top.only(
        "identity", "key_id", "private_key_path", "uri", "secret_path", "public_key_path", "record_path", "callers",
        "pointer_path",
    )
    callers: dict[str, Caller] = {}
    for entry in top.objects("callers"):
        entry.only("name", "repositories", "per_hour")
        patterns = entry.members.get("repositories")
        per_hour = entry.integer("per_hour")
        if not isinstance(patterns, list) or not patterns or not all(isinstance(one, str) for one in patterns):
            raise entry.error("member 'repositories' is no list of patterns")
        if not 1 <= per_hour <= limits.MAX_PER_HOUR:
            raise entry.error(f"member 'per_hour' is not between 1 and {limits.MAX_PER_HOUR}")
        name = entry.string("name")
        if not NAME.fullmatch(name):
            raise entry.error(f"member 'name' is {name[:100]!r}, not 1 to 64 letters, digits, '_', '.', '@' and '-'")
        if name in callers:
            raise entry.error(f"caller {name[:100]!r} is there twice")
        callers[name] = Caller(name, tuple(map(pattern.parse, patterns)), per_hour)
    key = Key(
        identity=top.string("identity"), key_id=top.string("key_id"),
        private_key_path=top.string("private_key_path", None), uri=top.string("uri", None),
        secret_path=top.string("secret_path", None), public_key_path=top.string("public_key_path", None),
        record_path=top.string("record_path"), callers=callers, pointer_path=top.string("pointer_path", None),
    )
    if not callers or (key.private_key_path is None) is (key.uri is None):
        raise top.error("it wants callers, and one of private_key_path and uri")
    return key


def answer(
    key: Key, caller: str, request: bytes, load: t.Callable[[], Signer], *, now: datetime.datetime
) -> dict[str, t.Any]:
    """Return the answer to one request of C(caller). Never raises for what is refused: the answer says why."""
    try:
        return _signed(key, caller, request, load, now)
    except HallmarkError as exc:
        return {"error": {"code": exc.code, "message": str(exc)}}


def _signed(
    key: Key, name: str, request: bytes, load: t.Callable[[], Signer], now: datetime.datetime
) -> dict[str, t.Any]:
    caller = key.callers.get(name)
    if caller is None:
        raise claims.refused(
            "unauthorized", key.identity, f"{name[:100]!r} is not among those who may use this key",
            "Have the caller added where the key is.",
        )
    asked, top = _read(request, key.identity)
    limits.require_allowed(caller, asked.name)
    message, digest = _bytes(top, "message"), _bytes(top, "digest")
    claim = claims.rebuild(asked, message=message, digest=digest, annotations=top.strings("annotations"))
    hash_name = top.string("hash", "sha256")
    if claim.format == "sig":
        # What readers of the format try, also of curves for which cosign 3 asks for another.
        hash_name = "sha256" if hash_name in claims.HASHES.values() else hash_name
    elif digest is not None:
        hash_name = claims.HASHES[len(digest)]
    signer = load()
    scheme = _scheme(signer, hash_name, key.identity)
    signer.prepare([claim.message])
    with journal.opened(key.record_path, mode=0o600) as record:
        head = limits.take_down(record, caller, claim, str(asked), signer.public.key_id, now=now)
    signature = signer.sign(claim.message, scheme=scheme)
    if not algorithms.verifies(signer.public.key, signature=signature, message=claim.message, schemes=[scheme]):
        raise claims.refused(
            "signature_invalid", key.identity, "the key made a signature that it does not verify",
            "Find out what is wrong with the key, or with what signs with it.",
        )
    return {
        "signature": _base64.encode(signature), "key_id": signer.public.key_id, "format": claim.format,
        "record": {"sequence": head.sequence, "hash": head.hash},
    }


def _read(request: bytes, identity: str) -> tuple[Reference, _strict_json.JsonObject]:
    if len(request) > MAX_REQUEST:
        raise claims.refused("limit_exceeded", identity, f"the request has more than {MAX_REQUEST} bytes")
    if not request:
        raise claims.refused(
            "malformed", identity, "nothing was asked",
            "This login only answers cosign's plugin, sigstore-kms-hallmark.",
        )
    top = _strict_json.loads(request, what="request", where=identity)
    top.only("version", "reference", "annotations", "message", "digest", "hash")
    if top.integer("version") != VERSION:
        raise top.error(f"its version is not {VERSION}")
    text = top.string("reference")
    asked = references.parse(text)
    if asked.digest is None or asked.tag is not None:
        raise claims.refused("input_invalid", text[:300], "it is not HOST/REPO@DIGEST")
    return asked, top


def _bytes(top: _strict_json.JsonObject, name: str) -> bytes | None:
    return None if top.members.get(name) is None else top.base64(name)


def _scheme(signer: Signer, hash_name: str, where: str) -> str:
    """Return the scheme that cosign means: PKCS #1 v1.5 of RSA, ECDSA of curves."""
    family = signer.public.algorithm.family
    prefix = {"ec": "ecdsa", "rsa": "rsa-pkcs1v15"}.get(family)
    if prefix is None:
        raise FormatError(
            code="unsupported_algorithm", object=where, attempt="sign for cosign",
            cause=f"cosign's plugins sign by ECDSA and RSA only, and this key is {signer.public.algorithm.name}",
            advice="Use image_signature, or another key.",
        )
    return algorithms.scheme_for(signer.public.algorithm, f"{prefix}-{hash_name}", where=where).name
