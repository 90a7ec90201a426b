# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Signs, verifies, lists and copies images by order, in a process of its own, for tests.

Each line of standard input is an order in JSON, each line of standard output what came of it: result (as modules
return it for one image), seconds, requests, and peak, the most memory in MiB that the process held meanwhile. With
"at" (seconds since the epoch) the order waits, so that many processes begin together; with "tmpdir" it is as if given
by TMPDIR: hosts share no lock files. Needs the collection on PYTHONPATH, and its libraries.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
import sys
import tempfile
import time
import typing as t

from ansible_collections.hallmark.signing.plugins.module_utils._keys import pem
from ansible_collections.hallmark.signing.plugins.module_utils._keys.signers import file as file_signer
from ansible_collections.hallmark.signing.plugins.module_utils._oci import authorization, transfer, upload
from ansible_collections.hallmark.signing.plugins.module_utils._oci.concurrency import map_ordered
from ansible_collections.hallmark.signing.plugins.module_utils._oci.credentials import AuthFile
from ansible_collections.hallmark.signing.plugins.module_utils._oci.images import Images
from ansible_collections.hallmark.signing.plugins.module_utils._oci.transport import HostSettings, RegistrySettings
from ansible_collections.hallmark.signing.plugins.module_utils._signing import (
    authority,
    copying,
    listing,
    referred,
    remove,
    sign,
    verify,
)

Json = dict[str, t.Any]
# Loaded now, so that no order pays for it.
_LATE = (authorization, transfer, upload, referred)
_WORKERS = 16


def _signed(images: Images, order: Json) -> list[Json]:
    wish = sign.Wish(
        signers=tuple(file_signer.load(key, passphrase=None, key_id=None) for key in order["keys"]),
        formats=tuple(order.get("formats", ["sig", "bundle"])),
    )
    return _written(images, order, lambda image: sign.sign_image(images, image, wish))


def _removed(images: Images, order: Json) -> list[Json]:
    removal = remove.Removal(
        key_ids=frozenset(order.get("key_ids", [])), everything=order.get("all", False),
        formats=tuple(order.get("formats", ["sig", "bundle"])),
    )
    return _written(images, order, lambda image: remove.remove_signatures(images, image, removal))


def _written(images: Images, order: Json, work: t.Callable[[str], sign.Outcome]) -> list[Json]:
    done = map_ordered(work, order["images"], workers=_WORKERS)
    done = map_ordered(lambda outcome: sign.settle(images, outcome), done, workers=_WORKERS)
    return [outcome.as_dict() for outcome in done]


def _verified(images: Images, order: Json) -> list[Json]:
    public = [
        authority.Authority(str(number), pem.read_public_key(pathlib.Path(path).read_bytes(), where=path))
        for number, path in enumerate(order["public"])
    ]
    demand = authority.demand(
        public, threshold=order.get("threshold", 1), formats=order.get("formats", ["sig", "bundle"]), annotations={},
        denied_key_ids=frozenset(), docker_reference_check="warn", recursive=False,
    )
    return [
        verdict.as_dict()
        for verdict in map_ordered(
            lambda image: verify.verify_image(images, image, demand), order["images"], workers=_WORKERS
        )
    ]


def _listed(images: Images, order: Json) -> list[Json]:
    return [
        listing.list_image(images, image, recursive=False, contents=order.get("contents", False)).as_dict()
        for image in order["images"]
    ]


def _copied(images: Images, order: Json) -> list[Json]:
    source = Images(images.registries.settings)
    done = [copying.copy_image(source, images, (a, b), dry_run=False) for a, b in order["copies"]]
    results = [copying.settle(images, one).as_dict() for one in done]
    images.registries._transports.update({f"source {key}": one for key, one in source.registries._transports.items()})
    return results


_OPERATIONS = {"sign": _signed, "remove": _removed, "verify": _verified, "info": _listed, "copy": _copied}


def operate(order: Json) -> Json:
    """Carry out one order."""
    settings = RegistrySettings(AuthFile("", {}), timeout=30.0, settle_seconds=2.0)
    settings = dataclasses.replace(settings, **order.get("settings", {}))
    settings = dataclasses.replace(settings, hosts={
        host: HostSettings(**options) for host, options in settings.hosts.items()  # type: ignore[arg-type]
    })
    tempfile.tempdir = order.get("tmpdir", tempfile.tempdir)
    time.sleep(max(0.0, order.get("at", 0.0) - time.time()))
    # From here on the highest memory counts anew.
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    images, began = Images(settings), time.monotonic()
    results = _OPERATIONS[order["operation"]](images, order)
    return {
        "results": results, "seconds": time.monotonic() - began, "requests": images.registries.request_count,
        "peak": peak(),
    }


def peak() -> float:
    """Return the most memory in MiB that this process has held; its parent's does not count."""
    found = re.search(r"VmHWM:\s+([0-9]+) kB", pathlib.Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def main() -> int:
    """Serve until standard input ends."""
    print(json.dumps({"ready": True}), flush=True)
    for line in iter(sys.stdin.readline, ""):
        print(json.dumps(operate(json.loads(line))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
