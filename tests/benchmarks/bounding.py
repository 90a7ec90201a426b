# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Memory and verdicts where whoever writes to the registry wants to do harm."""

from __future__ import annotations

from contest import Bench, Row, seconds
from making import Hostile

MOST = 100  # MiB
BOMB = 300  # MiB


def rows(bench: Bench, host: str) -> list[Row]:
    """Verify images with many bundles, too many, and one that unpacks to far more than it is."""
    hostile = Hostile(bench, host)
    return [
        _row(bench, "1,000 bundles of a foreign key", hostile.referrers("hostile/many", 1000), "signature_invalid"),
        _row(bench, "1,001 bundles", hostile.referrers("hostile/more", 1001), "limit_exceeded"),
        _row(bench, f"a bundle that unpacks to {BOMB} MiB", hostile.bomb("hostile/bomb", BOMB), "malformed"),
    ]


def _row(bench: Bench, what: str, image: str, code: str) -> Row:
    own, results = bench.ours_results("verify", images=[image], public="k.pub", formats=["bundle"])
    codes = {reason["code"] for reason in results[0]["reasons"]}
    theirs = [
        (peer.name, bench.run([*peer.verify, image], fails=True)) for peer in bench.peers if peer.major >= 3
    ]
    return Row(
        f"refuse {what}", f"{seconds(own)}, {own.memory:.0f} MiB, {', '.join(sorted(codes))}",
        "; ".join(f"{name}: {seconds(run)}, {run.memory:.0f} MiB" for name, run in theirs) or "-",
        f"{own.memory:.0f} MiB", f"<= {MOST} MiB, {code}", own.memory <= MOST and code in codes,
    )
