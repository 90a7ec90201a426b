# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Our speed and memory against the real cosign, on this machine, in one run: run it by ./dev bench.

Whole processes are measured on the same images, in turns; ratios are what counts, since machines are noisy. A row
that does not hold what it promises makes the run fail.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import pathlib
import platform
import shutil
import sys
import tempfile
import time
import typing as t

import bounding
import copying
import devices
import making
import playing
import rendering
import resigning
import signing
import verifying
from contest import Bench, Peer, Row, registry

PARTS = ("verify", "sign", "resign", "signers", "play", "memory", "copy", "policy")


def measure(bench: Bench, parts: t.Collection[str], gibibytes: float) -> t.Iterator[Row]:
    """Yield the rows of these parts. Images have only signatures in the old format until their bundles are made."""
    making.key(bench)
    if "policy" in parts:
        yield from rendering.rows(bench)
    if "signers" in parts:
        yield from devices.rows(bench)
    if not set(parts) - {"policy", "signers"}:
        return
    with registry(bench.folder / "from") as host, registry(bench.folder / "to") as second:
        images = [f"{host}/bench/image{number}:1" for number in range(bench.images)]
        pinned = making.write(images)
        making.add_signatures(bench, images, "sig")
        bench.ours("verify", images=images[:1], public="k.pub", formats=["sig"])  # compiles what it imports
        if "verify" in parts:
            yield from verifying.signatures(bench, pinned)
            yield from verifying.by_tag(bench, images)
            yield from verifying.far(bench, host)
        if "play" in parts:
            yield from playing.rows(bench, images[:verifying.FEW])
        if "sign" in parts:
            yield from signing.rows(bench, host)
        if "resign" in parts:
            yield from resigning.rows(bench, host)
        if "memory" in parts:
            yield from bounding.rows(bench, host)
        if "copy" in parts:
            yield copying.large(bench, gibibytes)
            rows, theirs = copying.signed(bench, images, second)
            yield from rows
        if "verify" in parts:
            names = [f"{host}/bundle/image{number}:1" for number in range(verifying.FEW)]
            named = making.write(names)
            making.add_signatures(bench, names, "bundle")
            yield from verifying.bundles(bench, named)
        if "copy" in parts:
            making.add_signatures(bench, images, "bundle")
            yield copying.with_bundles(bench, images, second, theirs)


def table(rows: t.Sequence[Row]) -> str:
    """Return the rows as a table of text."""
    lines = [("work", "ours", "peer", "ratio", "promised", "")]
    lines += [(row.work, row.ours, row.peer, row.ratio, row.promised, "" if row.holds else "MISSED") for row in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(6)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)


def markdown(rows: t.Sequence[Row]) -> str:
    """Return the rows as the README shows them, under the machine's description and the date."""
    processor = next(
        (line.partition(": ")[2] for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
         if line.startswith("model name")), platform.machine(),
    )
    system = platform.freedesktop_os_release()["PRETTY_NAME"]
    machine = f"{os.cpu_count()} cores of {processor}, {system}, Python {platform.python_version()}"
    lines = [
        f"{datetime.date.today()}: {machine}.", "", "| work | ours | peer | ratio |", "| --- | --- | --- | --- |",
    ]
    lines += [f"| {row.work} | {row.ours} | {row.peer} | {row.ratio} |" for row in rows]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"what to measure: {', '.join(PARTS)}; default: all")
    parser.add_argument("--gibibytes", type=float, default=10.0, help="size of the largest image")
    parser.add_argument("--images", type=int, default=500, help="how many images are many")
    parser.add_argument("--rounds", type=int, default=5, help="how often each contestant runs")
    parser.add_argument("--quick", action="store_true", help="one round, 1 GiB, 100 images")
    parser.add_argument("--markdown", type=pathlib.Path, metavar="FILE", help="write the table as the README shows it")
    given = parser.parse_args()
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"there is no part {sorted(unknown)[0]}")
    if given.quick:
        given.gibibytes, given.images, given.rounds = 1.0, 100, 1
    peers = [
        Peer(f"cosign {one['version'].partition('-')[0]}", int(one["version"].partition(".")[0]), one["program"])
        for one in json.loads(os.environ.get("HALLMARK_COSIGNS", "[]"))
    ]
    if not peers:
        print("without the real cosign there is nothing to compare with")
        return 1
    # In memory where that is possible: the disk of this machine is not what is measured.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = pathlib.Path(tempfile.mkdtemp(prefix="hallmark-bench-", dir=memory))
    begun, rows = time.monotonic(), []
    try:
        bench = Bench(folder, peers, rounds=given.rounds, images=given.images)
        for row in measure(bench, given.parts or PARTS, given.gibibytes):
            rows.append(row)
            print(table(rows[-1:]).splitlines()[1], file=sys.stderr, flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(table(rows))
    if given.markdown:
        given.markdown.write_text(markdown(rows))
    print(f"medians of {given.rounds} rounds; {time.monotonic() - begun:.0f} s in all")
    return 0 if all(row.holds for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
