# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let anything happen to a model fleet, very often, and see that the invariants of rotations hold after each event.

    python tests/model/run.py --sequences 100000 --steps 50 --seed 1
    python tests/model/run.py --steps 50 --seed 1 --only 4711        one sequence again, with what happened

Run it in the root of the collection, with the folder above ansible_collections in PYTHONPATH. The first sequence that
fails is told with its trace; the exit status is then 1, and also if something never happened that must be come across.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import random
import sys
import time
import typing as t

from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._trust import rotation_model as model

_AT_ONCE = 500


def numbers(seed: int, sequence: int, steps: int) -> list[int]:
    """Return a sequence: where it starts, and its events."""
    chance = random.Random(f"{seed} {sequence}")
    return [chance.randrange(model.NUMBERS) for _number in range(steps + 1)]


def play(drawn: t.Sequence[int], trace: list[str] | None = None) -> collections.Counter[str]:
    """Play a sequence. Raises what fails."""
    fleet = model.Fleet(drawn[0], trace=trace)
    for number in drawn[1:]:
        fleet.step(number)
    fleet.finish()
    return fleet.seen


def play_many(
    seed: int, first: int, last: int, steps: int
) -> tuple[int, collections.Counter[str], int | None, str]:
    """Play sequences of a seed: how many, what was seen, the one that failed, and how."""
    seen: collections.Counter[str] = collections.Counter()
    for sequence in range(first, last):
        try:
            seen += play(numbers(seed, sequence, steps))
        except Exception as exc:
            return sequence - first, seen, sequence, f"{type(exc).__name__}: {exc}"
    return last - first, seen, None, ""


def again(options: argparse.Namespace) -> int:
    """Play one sequence, and print what happens."""
    trace: list[str] = []
    try:
        play(numbers(options.seed, options.only, options.steps), trace)
    except Exception as exc:
        print("\n".join((*trace, f"{type(exc).__name__}: {exc}")))
        return 1
    print("\n".join((*trace, "all held")))
    return 0


def main() -> int:
    """Run the tool."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sequences", type=int, default=100_000)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="play this sequence alone, with a trace")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    if options.only is not None:
        return again(options)
    begun, seen, done, told = time.monotonic(), collections.Counter[str](), 0, 0.0
    with concurrent.futures.ProcessPoolExecutor(options.processes) as pool:
        parts = [
            pool.submit(play_many, options.seed, first, min(first + _AT_ONCE, options.sequences), options.steps)
            for first in range(0, options.sequences, _AT_ONCE)
        ]
        for part in concurrent.futures.as_completed(parts):
            count, counted, failed, words = part.result()
            done += count
            seen += counted
            if failed is not None:
                pool.shutdown(cancel_futures=True, wait=False)
                seconds, which = time.monotonic() - begun, f"--steps {options.steps} --seed {options.seed}"
                print(f"sequence {failed} of seed {options.seed} failed after {seconds:.1f} s: {words}")
                print(f"again: python tests/model/run.py {which} --only {failed}")
                again(argparse.Namespace(**{**vars(options), "only": failed}))
                return 1
            if time.monotonic() - told > 30:
                told = time.monotonic()
                print(f"{done} sequences", flush=True)
    seconds = time.monotonic() - begun
    for name, count in sorted(seen.items()):
        print(f"{count:>9} {name}")
    rate = done * options.steps / seconds
    print(f"{done} sequences of {options.steps} events in {seconds:.0f} s: {rate:.0f} events/s")
    missing = [name for name in model.EXPECTED if not seen[name]]
    if missing:
        print(f"never came across: {', '.join(missing)}")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
