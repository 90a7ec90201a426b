# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fuzzing, led by coverage (libFuzzer, by way of atheris): each reader of hostile bytes, in a process of its own.

    python tests/fuzz/fuzz.py --seconds 180 [--jobs 2] [TARGET...]    some targets, or all of those in targets.py
    python tests/fuzz/fuzz.py --input FILE TARGET                     one input again, such as a saved one

The seconds are shared out among the targets; with two jobs, two run at a time and the whole takes half as long. It
fails if a target does: by an exception that is no HallmarkError, by something false that is accepted, by taking too
long or too much memory. The input is then in .work/fuzz/found, what the target said in .work/fuzz/TARGET.log. What was
reached stays in .work/fuzz/corpus, and is where the next run begins. Run it in the root of the collection, with the
folder that holds ansible_collections in PYTHONPATH.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import importlib
import os
import pathlib
import re
import resource
import subprocess
import sys
import time
import typing as t

_BEGUN = time.monotonic()
_WORK = pathlib.Path(".work/fuzz")
_INSTRUMENTED = ["ansible_collections.hallmark.signing.plugins", "tarfile"]
_MAX_SIZE = 256 * 1024
# What one input may take: seconds of processor time, and memory beside a multiple of its own size.
_MAX_SECONDS = 2.0
_MAX_MEMORY = 16 * 1024 * 1024
_MAX_MEMORY_PER_BYTE = 40
# libFuzzer's own limits, for what does not come back.
_TIMEOUT = 20
_RSS_LIMIT_MB = 1024


class Outcome(t.NamedTuple):
    """What came of one target."""

    name: str
    executions: int
    edges: int
    seconds: float
    failure: str


def main() -> int:
    """Run as the command line says; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--input", type=pathlib.Path, help="run this one input")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        fuzz(options.targets[0], options.seconds)
    shares = {name: target.share for name, target in importlib.import_module("targets").TARGETS.items()}
    unknown = set(options.targets) - set(shares)
    if unknown or (options.input and len(options.targets) != 1):
        parser.error(f"no target: {', '.join(sorted(unknown))}" if unknown else "--input wants one target")
    if options.input:
        importlib.import_module("targets").TARGETS[options.targets[0]].run(options.input.read_bytes())
        return 0
    wanted = {name: share for name, share in shares.items() if name in (options.targets or shares)}
    return run_all(wanted, options.seconds, options.jobs)


# --- all targets -----------------------------------------------------------------------------------------------------


def run_all(shares: dict[str, int], seconds: float, jobs: int) -> int:
    """Run each target in a process of its own, the longest first; print what came of it."""
    (_WORK / "found").mkdir(parents=True, exist_ok=True)
    print(f"{'target':<14}{'executions':>12}{'edges':>8}{'seconds':>9}", flush=True)
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        running = [
            pool.submit(run_target, name, seconds * share / sum(shares.values()))
            for name, share in sorted(shares.items(), key=lambda item: -item[1])
        ]
        outcomes = []
        for done in concurrent.futures.as_completed(running):
            one = done.result()
            outcomes.append(one)
            print(f"{one.name:<14}{one.executions:>12}{one.edges:>8}{one.seconds:>9.0f}  {one.failure}".rstrip(), flush=True)
    failed = [one.name for one in outcomes if one.failure]
    print(f"{sum(one.executions for one in outcomes)} executions, {len(outcomes) - len(failed)} targets held"
          + (f", {len(failed)} did not: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


def run_target(name: str, seconds: float) -> Outcome:
    """Run one target, and read from its log what came of it."""
    log = _WORK / f"{name}.log"
    begun = time.monotonic()
    with log.open("wb") as stream:
        try:
            status = subprocess.run(
                [sys.executable, __file__, "--child", "--seconds", str(seconds), name],
                stdout=stream, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, check=False,
                timeout=seconds + 3 * _TIMEOUT,
            ).returncode
        except subprocess.TimeoutExpired:
            status = -1
    text = log.read_text("utf-8", "replace")
    edges = re.findall(r"\bcov: (\d+)", text)
    executions = re.findall(r"^(?:stat::number_of_executed_units: |#)(\d+)", text, re.MULTILINE)
    return Outcome(
        name, int(executions[-1]) if executions else 0, int(edges[-1]) if edges else 0, time.monotonic() - begun,
        _failure(text, log) if status else "",
    )


def _failure(text: str, log: pathlib.Path) -> str:
    """Return the line that says what happened, and where the input is."""
    saved = re.findall(r"Test unit written to (\S+)", text)
    said = re.findall(r"^ *=== Uncaught Python exception: ===\s*\n(.*)", text, re.MULTILINE)
    said += re.findall(r"^==\d+== ?(?:ERROR|FATAL)[: ]+(.*)", text, re.MULTILINE)
    return f"FAILED: {(said or ['see the log'])[0][:200]} ({', '.join([*saved, str(log)])})"


# --- one target ------------------------------------------------------------------------------------------------------


def fuzz(name: str, seconds: float) -> t.NoReturn:
    """Fuzz one target until its time is over. Does not return: libFuzzer ends the process."""
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=_INSTRUMENTED):
        target = importlib.import_module("targets").TARGETS[name]
    mutate = importlib.import_module("mutation").mutate
    corpus, seeds, found = _WORK / "corpus" / name, _WORK / "seeds" / name, _WORK / "found"
    for folder in (corpus, seeds, found):
        folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (seeds / str(number)).write_bytes(seed)
    left = max(1, round(seconds - (time.monotonic() - _BEGUN)))
    arguments = [
        f"-max_total_time={left}", f"-timeout={_TIMEOUT}", f"-rss_limit_mb={_RSS_LIMIT_MB}", f"-max_len={_MAX_SIZE}",
        f"-malloc_limit_mb={_RSS_LIMIT_MB // 2}", "-len_control=0", "-print_final_stats=1", "-reload=0",
        f"-artifact_prefix={found}/{name}-",
    ]
    atheris.Setup([sys.argv[0], *arguments, str(corpus), str(seeds)], bounded(target.run), custom_mutator=mutate)
    atheris.Fuzz()
    sys.exit(0)


def bounded(run: t.Callable[[bytes], None]) -> t.Callable[[bytes], None]:
    """Return a target that also fails if it takes too long, or too much memory at any moment."""
    # Linux begins a new count of the peak when this is written.
    peak = os.open("/proc/self/clear_refs", os.O_WRONLY)

    def run_bounded(data: bytes) -> None:
        os.write(peak, b"5")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        begun = time.process_time()
        run(data)
        took = time.process_time() - begun
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        assert took <= _MAX_SECONDS, f"{took:.1f} seconds for {len(data)} bytes"
        assert grown <= _MAX_MEMORY + _MAX_MEMORY_PER_BYTE * len(data), f"{grown >> 20} MiB for {len(data)} bytes"

    return run_bounded


if __name__ == "__main__":
    sys.exit(main())
