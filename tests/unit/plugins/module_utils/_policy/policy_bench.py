# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documents of trust policies, and the files that they name."""

from __future__ import annotations

import copy
import datetime
import functools
import json
import typing as t

from ansible_collections.hallmark.signing.plugins.module_utils._errors import KeyFileError
from ansible_collections.hallmark.signing.plugins.module_utils._keys import pem
from ansible_collections.hallmark.signing.plugins.module_utils._policy import model, reading
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._signing import certificate_bench as certs

Json = dict[str, t.Any]
NOW = datetime.datetime(2026, 11, 21, 12, tzinfo=datetime.timezone.utc)
LATER = "2027-06-01T00:00:00Z"


@functools.cache
def public(owner: str, kind: str = "p256") -> pem.PublicKey:
    """The public key of somebody, the same each time."""
    return pem.public_key(certs.key(owner, kind).public_key(), where=owner)


@functools.cache
def root(name: str) -> str:
    """The PEM of a CA."""
    return certs.pem(certs.authority(name)).decode()


@functools.cache
def leaf() -> str:
    """The PEM of a certificate that is no CA's."""
    return certs.pem(certs.leaf("root")).decode()


def files(path: str) -> bytes:
    """Read a file that exists here only: keys/NAME.pub, keys/KIND-NAME.pub, ca/NAME.pem, leaf.pem."""
    folder, _slash, name = path.partition("/")
    stem = (name or path).partition(".")[0]
    if folder == "keys":
        kind, dash, owner = stem.partition("-")
        return public(owner if dash else stem, kind if dash else "p256").pem.encode()
    if folder == "ca":
        return root(stem).encode()
    if path == "leaf.pem":
        return leaf().encode()
    if path in ("trusted_root.json", "other_root.json"):
        return json.dumps({"mediaType": f"application/vnd.dev.sigstore.trustedroot+json;version=0.1;{stem}"}).encode()
    raise KeyFileError(
        code="not_found", object=path, attempt="read the file", cause="No such file or directory", advice="Check."
    )


def key(owner: str, **members: t.Any) -> Json:
    """An authority that is one key."""
    return {"public_key_path": f"keys/{owner}.pub", **members}


def ca(**members: t.Any) -> Json:
    """An authority that is a name of a PKI."""
    return {"ca_path": "ca/root.pem", "san": {"type": "dns", "value": "signer.example.org"}, **members}


def keyless(**members: t.Any) -> Json:
    """An authority that is a person."""
    return {"keyless": {"issuer": "https://accounts.example.org", "subject": "release@example.org", **members}}


def rule(*images: str, any_of: t.Sequence[str] = ("release",), **members: t.Any) -> Json:
    """A rule, named by its first pattern."""
    return {"name": images[0], "images": list(images), "any_of": list(any_of), **members}


def document(*rules: Json, **members: t.Any) -> Json:
    """A policy, whole and right: by default one key for one repository."""
    return copy.deepcopy({
        "version": 7, "authorities": {"release": key("release"), "backup": key("backup")},
        "rules": list(rules) or [rule("registry.example.org/app")], **members,
    })


def read(given: t.Any, *, now: datetime.datetime = NOW) -> model.Policy:
    """Read a document with the files of this bench."""
    return reading.read(given, now=now, read_file=files)


def policy(*rules: Json, **members: t.Any) -> model.Policy:
    """Make a policy of what C(document()) takes."""
    return read(document(*rules, **members))
