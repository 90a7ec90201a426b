# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The work of our side, as a module does it: what is to be done comes as JSON on standard input."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
import typing as t

from ansible_collections.hallmark.signing.plugins.module_utils._oci.concurrency import map_ordered
from ansible_collections.hallmark.signing.plugins.module_utils._oci.credentials import AuthFile
from ansible_collections.hallmark.signing.plugins.module_utils._oci.images import Images
from ansible_collections.hallmark.signing.plugins.module_utils._oci.transport import RegistrySettings

SETTINGS = RegistrySettings(AuthFile("none", {}), timeout=60)


def copy(images: Images, given: dict[str, t.Any]) -> list[dict[str, t.Any]]:
    """Copy each pair of C(pairs)."""
    from ansible_collections.hallmark.signing.plugins.module_utils._signing import copying

    done = map_ordered(
        lambda pair: copying.copy_image(images, images, tuple(pair), dry_run=False), given["pairs"],
        workers=SETTINGS.workers,
    )
    return [one.as_dict() for one in done]


def verify(images: Images, given: dict[str, t.Any]) -> list[dict[str, t.Any]]:
    """Verify C(images) by the key in the file C(public), in C(formats)."""
    from ansible_collections.hallmark.signing.plugins.module_utils._signing import verify

    wanted = demand(given["public"], given["formats"])
    done = map_ordered(
        lambda image: verify.verify_image(images, image, wanted), given["images"], workers=SETTINGS.workers
    )
    return [one.as_dict() for one in done]


def demand(public: str, formats: t.Sequence[t.Any]) -> t.Any:
    """Return what is demanded of images: a signature by the key in a file, in one of these formats."""
    from ansible_collections.hallmark.signing.plugins.module_utils._keys import pem
    from ansible_collections.hallmark.signing.plugins.module_utils._signing import authority

    with open(public, "rb") as file:
        key = pem.read_public_key(file.read(), where=public)
    return authority.demand([authority.Authority("bench", key)], formats=formats)


def sign(images: Images, given: dict[str, t.Any]) -> list[dict[str, t.Any]]:
    """Sign C(images) with the key in the file C(key), which may have a C(passphrase), in C(formats)."""
    from ansible_collections.hallmark.signing.plugins.module_utils._keys.signers import file as file_signer
    from ansible_collections.hallmark.signing.plugins.module_utils._signing import sign

    passphrase = given["passphrase"].encode() if given["passphrase"] else None
    signer = file_signer.load(given["key"], passphrase=passphrase, key_id=None)
    wish = sign.Wish((signer,), formats=tuple(given["formats"]))
    done = map_ordered(lambda image: sign.sign_image(images, image, wish), given["images"], workers=SETTINGS.workers)
    return [one.as_dict() for one in done]


def resign(images: Images, given: dict[str, t.Any]) -> list[dict[str, t.Any]]:
    """Re-sign C(images), which keys in the files C(trust) signed, with C(key), whose public half is C(staying).

    Without a key, say what is covered. C(cache) is the file with what is known to be.
    """
    from ansible_collections.hallmark.signing.plugins.module_utils._keys.signers import file as file_signer
    from ansible_collections.hallmark.signing.plugins.module_utils._signing import sign
    from ansible_collections.hallmark.signing.plugins.module_utils._trust import coverage_cache, live_set, resigning

    signer = file_signer.load(given["key"], passphrase=None, key_id=None) if given["key"] else None
    wanted = terms(given["trust"], given["staying"])
    plan = resigning.Plan(wanted, sign.Wish((signer,)) if signer else None, workers=SETTINGS.workers)
    cache = None
    if given["cache"]:
        cache = coverage_cache.CoverageCache(given["cache"], wanted.hash, max_age=coverage_cache.MAX_AGE)
    # As in real life: others may write at the same time.
    known = Images(dataclasses.replace(SETTINGS, settle_seconds=2.0))
    found = live_set.gather({"images": given["images"]})
    return [
        {"changed": done.changed, "reasons": [reason.as_dict() for reason in done.reasons]}
        for done in resigning.resign(known, found.images, plan, cache=cache)
    ]


def terms(trust: t.Sequence[str], staying: str) -> t.Any:
    """Return the terms by which an image is covered: the key in the file C(staying) signed it in both formats."""
    from ansible_collections.hallmark.signing.plugins.module_utils._keys import pem
    from ansible_collections.hallmark.signing.plugins.module_utils._signing import authority
    from ansible_collections.hallmark.signing.plugins.module_utils._trust import coverage

    keys = []
    for path in (*trust, staying):
        with open(path, "rb") as file:
            keys.append(pem.read_public_key(file.read(), where=path))
    return coverage.terms([authority.Authority(key.key_id, key) for key in keys], [keys[-1].key_id])


def signatures(_images: Images, given: dict[str, t.Any]) -> list[dict[str, t.Any]]:
    """Make C(count) signatures by one signer, named as in the option C(signers); return how long each took."""
    from ansible_collections.hallmark.signing.plugins.module_utils._keys.signers import command, uri
    from ansible_collections.hallmark.signing.plugins.module_utils._keys.signers import file as file_signer

    signer: t.Any
    if "uri" in given:
        signer = uri.load(given["uri"], pin=given["pin"].encode() if "pin" in given else None)
    elif "command" in given:
        signer = command.load(given["command"], public_key_path=given["public"])
    else:
        signer = file_signer.load(given["key"], passphrase=None, key_id=None)
    taken = []
    for number in range(given["count"] + 1):
        begun = time.perf_counter()
        signer.sign(b"payload %d" % number)
        taken.append((time.perf_counter() - begun) * 1000)
    # The first one pays for what is loaded late.
    return [{"reasons": [], "milliseconds": taken[1:]}]


def install(_images: Images, given: dict[str, t.Any]) -> list[dict[str, t.Any]]:
    """Install C(policy) for an C(enforcer) of some C(version) in the folder C(dest)."""
    import datetime

    from ansible_collections.hallmark.signing.plugins.module_utils._keys.files import read_key_file
    from ansible_collections.hallmark.signing.plugins.module_utils._policy import enforcers, installing, reading

    now = datetime.datetime.now(datetime.timezone.utc)
    policy = reading.read(given["policy"], now=now, read_file=read_key_file)
    rendered = enforcers.render(policy, enforcer=given["enforcer"], version=given["version"])
    done = installing.install(
        rendered.files, policy, enforcer=given["enforcer"], dest=given["dest"], dry_run=False
    )
    return [{"reasons": [one.as_dict() for one in rendered.refused], "changed": done.changed}]


def peak() -> float:
    """Return the most memory this process had since it began, in MiB; what it was forked from does not count."""
    with open("/proc/self/status", encoding="utf-8") as file:
        status = file.read()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def main() -> None:
    """Do the work that the command line names."""
    works = {
        "copy": copy, "verify": verify, "sign": sign, "signatures": signatures, "install": install, "resign": resign,
    }
    work = works[sys.argv[1]]
    results = work(Images(SETTINGS), json.load(sys.stdin))
    print(json.dumps({"memory": peak(), "results": results}))
