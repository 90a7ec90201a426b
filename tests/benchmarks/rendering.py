# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A large trust policy, installed for each enforcer that takes it, and installed again."""

from __future__ import annotations

import os
import pathlib
import typing as t

from ansible_collections.hallmark.signing.plugins.module_utils._keys import algorithms, making, pem
from contest import Bench, Row, seconds

MANY = 1000
ENFORCERS = {
    "containers": "5.34.2", "policy_controller": "0.15.1", "kyverno_cluster_policy": "1.18.2",
    "kyverno_image_validating_policy": "1.18.2", "connaisseur": "3.10.0",
}
_MAX_SECONDS = 2
_MAX_MEMORY = 200


def rows(bench: Bench) -> t.Iterator[Row]:
    """Yield a row for each enforcer: C(MANY) authorities, as many rules, each of which demands three of them."""
    names = [f"signer {number}" for number in range(MANY)]
    authorities = {name: {"public_key_content": _public()} for name in names}
    rules = [
        {"name": f"rule {number}", "images": [f"r{number % 50}.example.org/team{number}/app"], "threshold": 3,
         "any_of": [names[(number + more) % MANY] for more in range(3)]}
        for number in range(MANY)
    ]
    policy = {"version": 1, "default": "reject", "authorities": authorities, "rules": rules}
    for enforcer, version in ENFORCERS.items():
        dest = bench.folder / f"policy-{enforcer}"
        given = {"policy": policy, "enforcer": enforcer, "version": version, "dest": str(dest)}
        first = bench.ours("install", **given)
        before = _state(dest)
        again, (result,) = bench.ours_results("install", **given)
        is_idle = not result["changed"] and _state(dest) == before
        slowest, memory = max(first, again, key=lambda run: run.seconds), max(first.memory, again.memory)
        yield Row(
            f"install a policy of {MANY:,} authorities and {MANY:,} rules for {enforcer}",
            f"{seconds(slowest)}, {memory:.0f} MiB", "-", "no change again" if is_idle else "changed again",
            f"<= {_MAX_SECONDS} s, {_MAX_MEMORY} MiB",
            is_idle and slowest.seconds <= _MAX_SECONDS and memory <= _MAX_MEMORY,
        )


def _public() -> str:
    private = making.generate(algorithms.by_name("ecdsa-p256"))
    return pem.public_key(private.public_key(), where="bench").pem


def _state(folder: pathlib.Path) -> dict[str, tuple[int, int]]:
    found = {str(path): os.stat(path) for path in folder.rglob("*")}
    return {path: (status.st_mtime_ns, status.st_ino) for path, status in found.items()}
