# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Copying images: one that is larger than memory, and many that are signed."""

from __future__ import annotations

import subprocess
import sys
import time
import typing as t

import free_ports
from contest import HERE, Bench, Row, Run, duel, seconds, started


def large(bench: Bench, gibibytes: float) -> Row:
    """Copy an image larger than memory from one registry to another."""
    ports = free_ports.free_ports(2)
    tool = [sys.executable, str(HERE / "generated_image.py")]
    with started([*tool, "source", str(ports[0]), str(gibibytes)], stdout=subprocess.PIPE) as source, started(
        [*tool, "sink", str(ports[1])], stdout=subprocess.PIPE
    ) as sink:
        image = t.cast(t.IO[str], source.stdout).readline().strip()
        t.cast(t.IO[str], sink.stdout).readline()
        done = bench.ours("copy", pairs=[(image, f"127.0.0.1:{ports[1]}/large/copy:1")])
    return Row(
        f"copy {gibibytes:g} GiB from registry to registry", f"{seconds(done)}, {done.memory:.0f} MiB", "-",
        f"{gibibytes * 1024 / done.seconds:.0f} MiB/s", "<= 64 MiB of memory", done.memory <= 64,
    )


def signed(bench: Bench, images: t.Sequence[str], to: str) -> tuple[list[Row], Run]:
    """Copy images with C(.sig), once, beside a loop of cosign copy; return its time, too."""
    own = bench.ours("copy", pairs=_pairs(images, f"{to}/ours"))
    begun = time.monotonic()
    for source, destination in _pairs(images, f"{to}/theirs"):
        bench.run([bench.peers[0].program, "copy", source, destination])
    theirs = Run(time.monotonic() - begun, 0, "")
    return [duel(f"copy {len(images)} images with .sig", own, "cosign copy in a loop", theirs, at_least=3)], theirs


def with_bundles(bench: Bench, images: t.Sequence[str], to: str, without: Run) -> Row:
    """Copy images with C(.sig) and bundles, which cosign copy leaves behind."""
    own = bench.ours("copy", pairs=_pairs(images, f"{to}/bundles"))
    return duel(f"copy {len(images)} images with .sig and bundle", own, "the same, without bundles", without)


def _pairs(images: t.Sequence[str], to: str) -> list[tuple[str, str]]:
    return [(image, f"{to}/{image.partition('/')[2]}") for image in images]
