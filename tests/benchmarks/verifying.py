# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Verifying images by a key, beside cosign, and beside what the registry can give.

Images are named by digest, as whoever verifies what will run has them, unless the row says otherwise.
"""

from __future__ import annotations

import typing as t

import making
import working
from ansible_collections.hallmark.signing.plugins.module_utils._oci.concurrency import map_ordered
from ansible_collections.hallmark.signing.plugins.module_utils._signing import verify
from contest import Bench, Peer, Row, Run, duel, far_away

FEW = 50
FAR = 20  # milliseconds
# By how much one process of ours is ahead of one process of cosign, by its major version: few images, and many.
ONE_PROCESS = {2: (1.2, 1.5), 3: (1.5, 1.8)}
CONNECTIONS = 16


def signatures(bench: Bench, images: t.Sequence[str]) -> list[Row]:
    """Verify few images and many, with signatures in the old format."""
    few = images[:FEW]
    contestants = {"ours": _ours(bench, few, "sig")}
    for peer in bench.peers:
        contestants[f"one {peer.name}"] = _one(bench, peer, few)
        contestants[f"xargs -P2 {peer.name}"] = _each(bench, peer, few, processes=2)
    done = bench.in_turns(contestants)
    own, what = done.pop("ours"), f"verify {len(few)} images with .sig"
    promised = {
        **{f"one {peer.name}": ONE_PROCESS[peer.major][0] for peer in bench.peers},
        **{f"xargs -P2 {peer.name}": 5 for peer in bench.peers},
    }
    rows = [duel(what, own, name, theirs, at_least=promised[name]) for name, theirs in done.items()]
    return rows + _many(bench, images)


def by_tag(bench: Bench, images: t.Sequence[str]) -> list[Row]:
    """Verify few images by their tags, which have to be resolved first."""
    few = images[:FEW]
    done = bench.in_turns({
        "ours": _ours(bench, few, "sig"), **{f"one {peer.name}": _one(bench, peer, few) for peer in bench.peers},
    })
    own = done.pop("ours")
    return [duel(f"verify {len(few)} images with .sig, by tag", own, name, theirs) for name, theirs in done.items()]


def _many(bench: Bench, images: t.Sequence[str]) -> list[Row]:
    config = _same_requests(bench, images)
    done = bench.in_turns({
        "ours": _ours(bench, images, "sig"),
        "limit": lambda _round: bench.run(["curl", "-sS", "-Z", "--parallel-max", str(CONNECTIONS), "-K", config]),
        **{peer.name: _one(bench, peer, images) for peer in bench.peers},
    })
    own, limit, what = done["ours"], done["limit"], f"verify {len(images)} images with .sig"
    rows = [
        duel(what, own, f"one {peer.name}", done[peer.name], at_least=ONE_PROCESS[peer.major][1])
        for peer in bench.peers
    ]
    share = Row(
        what, f"{own.seconds:.2f} s", f"the same GETs by curl, {CONNECTIONS} at a time: {limit.seconds:.2f} s",
        f"{limit.seconds / own.seconds:.0%} of the limit",
    )
    return [*rows, share]


def far(bench: Bench, host: str) -> list[Row]:
    """Verify images in a registry that is a round trip away."""
    with far_away(host, milliseconds=FAR) as there:
        images = making.write([f"{there}/far/image{number}:1" for number in range(FEW)])
        making.add_signatures(bench, images, "sig")
        peer = bench.peers[0]
        one, several = f"one {peer.name}", f"xargs -P8 {peer.name}"
        done = bench.in_turns({
            "ours": _ours(bench, images, "sig"),
            one: _one(bench, peer, images),
            several: _each(bench, peer, images, processes=8),
        })
    what = f"verify {FEW} images with .sig, {FAR} ms away"
    return [
        duel(what, done["ours"], one, done[one], at_least=20),
        duel(what, done["ours"], several, done[several], at_least=5),
    ]


def bundles(bench: Bench, images: t.Sequence[str]) -> list[Row]:
    """Verify images with bundles, beside the cosign that knows them."""
    peers = [peer for peer in bench.peers if peer.major >= 3]
    done = bench.in_turns({
        "ours": _ours(bench, images[:FEW], "bundle"),
        **{peer.name: _one(bench, peer, images[:FEW]) for peer in peers},
    })
    what = f"verify {len(images[:FEW])} images with bundles"
    return [duel(what, done["ours"], f"one {peer.name}", done[peer.name], at_least=2) for peer in peers]


def _ours(bench: Bench, images: t.Sequence[str], format: str) -> t.Callable[[int], Run]:
    return lambda _round: bench.ours("verify", images=images, public="k.pub", formats=[format])


def _one(bench: Bench, peer: Peer, images: t.Sequence[str]) -> t.Callable[[int], Run]:
    return lambda _round: bench.run([*peer.verify, *images])


def _each(bench: Bench, peer: Peer, images: t.Sequence[str], *, processes: int) -> t.Callable[[int], Run]:
    return lambda _round: bench.each(peer.verify, images, processes=processes)


def _same_requests(bench: Bench, images: t.Sequence[str]) -> str:
    """Write down what we ask a registry for while we verify these images, as a configuration of curl."""
    known, paths = making.images(), []
    genuine = known.registries.send

    def send(image: t.Any, request: t.Any, **options: t.Any) -> t.Any:
        paths.append(request.location)
        return genuine(image, request, **options)

    known.registries.send = send  # type: ignore[method-assign]
    demand = working.demand(str(bench.folder / "k.pub"), ["sig"])
    map_ordered(lambda image: verify.verify_image(known, image, demand), images, workers=CONNECTIONS)
    host = images[0].partition("/")[0]
    config = bench.folder / "requests"
    accept = "Accept: application/vnd.oci.image.manifest.v1+json"
    config.write_text("\n".join(
        [f'header = "{accept}"', *(f'url = "http://{host}{path}"\noutput = "/dev/null"' for path in paths)]
    ))
    return str(config)
