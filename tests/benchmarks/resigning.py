# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Re-signing what runs by a new key: one process that verifies, signs, waits and verifies again, beside cosign.

The images are manifests that differ in one annotation, so that there can be very many.
"""

from __future__ import annotations

import shlex
import time
import typing as t

import making
import working
from ansible_collections.hallmark.signing.plugins.module_utils._oci import manifest as manifests
from ansible_collections.hallmark.signing.plugins.module_utils._oci import reference
from ansible_collections.hallmark.signing.plugins.module_utils._oci.concurrency import map_ordered
from ansible_collections.hallmark.signing.plugins.module_utils._oci.digest import digest_of
from ansible_collections.hallmark.signing.plugins.module_utils._trust import coverage_cache
from contest import Bench, Peer, Row, Run, seconds

FEW = 20
MANY = 10_000
_MOST_SECONDS = 10
_LEAST_RATE = 30  # images a second


def rows(bench: Bench, host: str) -> t.Iterator[Row]:
    """Yield the rate of one process with both formats beside that of each cosign, and the time of a plan."""
    making.key(bench, "n")
    contestants: dict[str, t.Callable[[int], Run]] = {"ours": lambda number: _ours(bench, host, number)}
    for peer in bench.peers:
        contestants[peer.name] = lambda number, peer=peer: _theirs(bench, host, number, peer)  # type: ignore[misc]
    done = bench.in_turns(contestants)
    own = done.pop("ours")
    rate = bench.images / own.seconds
    for name, theirs in done.items() or [("-", None)]:
        peer = "-" if theirs is None else f"xargs -P2 {name}, one format: {FEW / theirs.seconds:.1f} images/s"
        yield Row(
            f"re-sign {bench.images} images in both formats, verified before and after",
            f"{rate:.0f} images/s ({seconds(own)}), {own.memory:.0f} MiB", peer,
            "-" if theirs is None else f"{rate * theirs.seconds / FEW:.1f}x", f">= {_LEAST_RATE} images/s",
            rate >= _LEAST_RATE,
        )
    yield _plan(bench, host)


def write(host: str, repository: str, count: int) -> list[str]:
    """Write images that share their layer and their config, and return them by their digests."""
    known = making.images().registries
    base = known.manifest(reference.parse(making.write([f"{host}/{repository}:base"])[0]))
    image = reference.parse(f"{host}/{repository}:base")

    def one(number: int) -> str:
        raw = manifests.encode_image(
            config=t.cast(manifests.Descriptor, base.config), layers=base.layers,
            annotations={"org.example.number": str(number)},
        )
        pinned = image.at(digest_of(raw))
        known.put_manifest(pinned, raw)
        return str(pinned)

    return map_ordered(one, range(count), workers=8)


def _ours(bench: Bench, host: str, number: int) -> Run:
    images = write(host, f"resign/ours{number}", bench.images)
    for format in ("sig", "bundle"):
        making.add_signatures(bench, images, t.cast(making.Format, format))
    given = {"images": images, "trust": ["k.pub"], "staying": "n.pub", "key": "n.pem", "cache": None}
    run, results = bench.ours_results("resign", **given)
    if not all(one["changed"] and not one["reasons"] for one in results):
        raise RuntimeError(f"our resign failed: {next(one for one in results if not one['changed'])}")
    return run


def _theirs(bench: Bench, host: str, number: int, peer: Peer) -> Run:
    images = write(host, f"resign/cosign{peer.major}-{number}", FEW)
    for format in ("sig", "bundle"):
        making.add_signatures(bench, images, t.cast(making.Format, format))
    sign = [word.replace("k.key", "n.key") for word in peer.sign]
    both = f'{shlex.join(peer.verify)} "$0" && {shlex.join(sign)} "$0"'
    return bench.each(["sh", "-c", both], images, processes=2)


def _plan(bench: Bench, host: str) -> Row:
    images = [f"{host}/live/app{number}@{digest_of(b'%d' % number)}" for number in range(MANY)]
    path = str(bench.folder / "covered")
    terms = working.terms([str(bench.folder / "k.pub")], str(bench.folder / "n.pub"))
    cache = coverage_cache.CoverageCache(path, terms.hash, max_age=coverage_cache.MAX_AGE)
    cache.add([reference.parse(image) for image in images], at=time.time())
    run, results = bench.ours_results("resign", images=images, trust=["k.pub"], staying="n.pub", key=None, cache=path)
    is_whole = len(results) == MANY and not any(one["reasons"] or one["changed"] for one in results)
    return Row(
        f"plan {MANY:,} images from a warm cache", f"{seconds(run)}, {run.memory:.0f} MiB", "-", "-",
        f"<= {_MOST_SECONDS} s", is_whole and run.seconds <= _MOST_SECONDS,
    )
