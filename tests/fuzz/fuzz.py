# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fuzzing, led by coverage (libFuzzer, by way of atheris): each reader of hostile bytes, in a process of its own.

    python tests/fuzz/fuzz.py --seconds 180 [--jobs 2] [--seed N] [TARGET...]    some targets, or all of targets.py
    python tests/fuzz/fuzz.py --input FILE TARGET                     one input again, such as a saved one

The same seed makes the same inputs, as long as the code is the same and the corpus empty, but for those with new keys
in them: in CI a failure shall be about the change. Then each target has a number of inputs, and a slow machine makes
fewer of the same. Seed 0 makes others each time. The seconds are shared out among the targets; with two jobs, two run
at a time and the whole takes half as long. It fails if a target does: by an exception that is no HallmarkError, by
something false that is accepted, by taking too long or too much memory. The input is then in .work/fuzz/found, what
the target said in .work/fuzz/TARGET.log. What was reached stays in .work/fuzz/corpus, and is where the next run
begins. Run it in the root of the collection, with the folder that holds ansible_collections in PYTHONPATH.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import os
import pathlib
import re
import resource
import signal
import sys
import time
import typing as t
from dataclasses import dataclass, field

_BEGUN = time.monotonic()

import atheris  # noqa: E402
import mutation  # noqa: E402

# It names each module that it instruments.
with contextlib.redirect_stderr(io.StringIO()), atheris.instrument_imports(
    include=["ansible_collections.hallmark.signing.plugins", "http.client", "tarfile"]
):
    from targets import TARGETS

_WORK = pathlib.Path(".work/fuzz")
_MAX_SIZE = 128 * 1024
# What one input may take: seconds of processor time, and memory beside a multiple of its own size.
_MAX_SECONDS = 2.0
_MAX_MEMORY = 12 * 1024 * 1024
_MAX_MEMORY_PER_BYTE = 32
# libFuzzer's own limits, for what does not come back. Making new inputs takes memory, too.
_TIMEOUT = 20
_RSS_LIMIT_MB = 4096


def main() -> int:
    """Run as the command line says; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--input", type=pathlib.Path, help="run this one input")
    options = parser.parse_args()
    unknown = set(options.targets) - set(TARGETS)
    if unknown or (options.input and len(options.targets) != 1):
        parser.error(f"no target: {', '.join(sorted(unknown))}" if unknown else "--input wants one target")
    wanted = {name: target for name, target in TARGETS.items() if name in (options.targets or TARGETS)}
    if options.input:
        bounded(wanted[options.targets[0]].run)(options.input.read_bytes())
        return 0
    return run_all(wanted, options.seconds, options.jobs, options.seed)


# --- all targets -----------------------------------------------------------------------------------------------------


def run_all(targets: dict[str, t.Any], seconds: float, jobs: int, seed: int) -> int:
    """Run each target in a process of its own, those with the largest shares first; print what came of them."""
    (_WORK / "found").mkdir(parents=True, exist_ok=True)
    print(f"{'target':<14}{'executions':>12}{'edges':>8}{'seconds':>9}", flush=True)
    waiting = sorted(targets, key=lambda name: targets[name].share)
    ends = _BEGUN + seconds / jobs
    running: list[Run] = []
    executions, failed = 0, []
    while waiting or running:
        while waiting and len(running) < jobs:
            # What is left is shared out anew: on a busy machine, each takes longer to begin and to end.
            left = (ends - time.monotonic()) * jobs - sum(run.remaining() for run in running)
            share = targets[waiting[-1]].share / sum(targets[name].share for name in waiting)
            name = waiting.pop()
            running.append(Run.begin(name, targets[name], left * share, seed))
        time.sleep(0.05)
        for run in [run for run in running if run.is_over()]:
            running.remove(run)
            executed, line = run.told()
            print(line, flush=True)
            executions += executed
            failed += [run.name] if run.status else []
    print(f"{executions} executions, {len(targets) - len(failed)} targets held"
          + (f", {len(failed)} did not: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


@dataclass
class Run:
    """One target in its process; C(status) is what it ended with."""

    name: str
    pid: int
    seconds: float
    begun: float = field(default_factory=time.monotonic)
    since: float = field(default_factory=time.time)
    status: int = 0

    @classmethod
    def begin(cls, name: str, target: t.Any, seconds: float, seed: int) -> Run:
        """Start it. What is loaded is loaded for all of them: that takes longer than some targets run."""
        sys.stdout.flush()
        pid = os.fork()
        if not pid:
            with log_of(name).open("wb") as log:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
            fuzz(name, target, seconds, seed)
            # libFuzzer writes the input down when the process ends by itself.
            sys.exit(1)
        return cls(name, pid, seconds)

    def remaining(self) -> float:
        """Return the seconds that it still has."""
        return max(0.0, self.begun + self.seconds - time.monotonic())

    def is_over(self) -> bool:
        """Look after it; one that does not end is ended."""
        if time.monotonic() > self.begun + self.seconds + 3 * _TIMEOUT:
            os.kill(self.pid, signal.SIGKILL)
        pid, self.status = os.waitpid(self.pid, os.WNOHANG)
        return pid != 0

    def told(self) -> tuple[int, str]:
        """Return the number of executions, and the line about it."""
        text = log_of(self.name).read_text("utf-8", "replace")
        edges = re.findall(r"\bcov: (\d+)", text) or ["0"]
        executions = re.findall(r"^(?:stat::number_of_executed_units: |#)(\d+)", text, re.MULTILINE) or ["0"]
        line = f"{self.name:<14}{executions[-1]:>12}{edges[-1]:>8}{time.monotonic() - self.begun:>9.0f}"
        return int(executions[-1]), line + (f"  FAILED: {self._failure(text)}" if self.status else "")

    def _failure(self, text: str) -> str:
        """Return what happened, and where the input is."""
        found = (_WORK / "found").glob(f"{self.name}-*")
        saved = [str(path) for path in found if path.stat().st_mtime >= self.since]
        said = re.findall(r"^ *=== Uncaught Python exception: ===\s*\n(.*)", text, re.MULTILINE)
        said += re.findall(r"^==\d+== ?(?:ERROR|FATAL)[: ]+(.*)", text, re.MULTILINE)
        asserted = re.findall(r"^    (assert .*)", text, re.MULTILINE)
        words = asserted[-1] if asserted and "<EMPTY MESSAGE>" in said[0] else (said or ["it ended"])[0]
        return f"{ascii(words[:200])[1:-1]}, status {self.status} ({', '.join([*saved, str(log_of(self.name))])})"


def log_of(name: str) -> pathlib.Path:
    """Return where the output of a target goes."""
    return _WORK / f"{name}.log"


# --- one target ------------------------------------------------------------------------------------------------------


def fuzz(name: str, target: t.Any, seconds: float, seed: int) -> None:
    """Fuzz one target until its time is over; libFuzzer then ends the process."""
    corpus, seeds, found = _WORK / "corpus" / name, _WORK / "seeds" / name, _WORK / "found"
    for folder in (corpus, seeds, found):
        folder.mkdir(parents=True, exist_ok=True)
    for number, example in enumerate(target.seeds()):
        (seeds / str(number)).write_bytes(example)
    arguments = [
        # It stops in the second after.
        f"-max_total_time={max(1, int(seconds - 0.5))}", f"-timeout={_TIMEOUT}", f"-rss_limit_mb={_RSS_LIMIT_MB}",
        f"-malloc_limit_mb={_RSS_LIMIT_MB // 2}", f"-max_len={_MAX_SIZE}", "-len_control=0", "-reload=0",
        "-print_final_stats=1", f"-seed={seed}", f"-artifact_prefix={found}/{name}-", str(corpus), str(seeds),
    ]
    if seed:
        # How much an input is worth to an entropic schedule depends on the time it took.
        arguments += [f"-runs={target.runs}", "-entropic=0"]
    # What is loaded when it is first needed is no cost of the first input.
    target.run(b"")
    run = saving(bounded(target.run), f"{found}/{name}-crash-")
    atheris.Setup([sys.argv[0], *arguments], run, custom_mutator=mutation.mutate)
    atheris.Fuzz()


def bounded(run: t.Callable[[bytes], None]) -> t.Callable[[bytes], None]:
    """Return a target that also fails if it takes too long, or too much memory at any moment."""
    # Linux begins a new count of the peak when this is written. Where it cannot be, only new peaks are seen.
    peak: int | None = None
    with contextlib.suppress(OSError):
        peak = os.open("/proc/self/clear_refs", os.O_WRONLY)

    def run_bounded(data: bytes) -> None:
        if peak is not None:
            os.write(peak, b"5")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        begun = time.process_time()
        run(data)
        took = time.process_time() - begun
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        assert took <= _MAX_SECONDS, f"{took:.1f} seconds for {len(data)} bytes"
        assert grown <= _MAX_MEMORY + _MAX_MEMORY_PER_BYTE * len(data), f"{grown >> 20} MiB for {len(data)} bytes"

    return run_bounded


def saving(run: t.Callable[[bytes], None], prefix: str) -> t.Callable[[bytes], None]:
    """Return a target that writes down what it fails on, as libFuzzer does unless the process ends in trouble."""

    def run_saving(data: bytes) -> None:
        try:
            run(data)
        except BaseException:
            pathlib.Path(prefix + hashlib.sha1(data).hexdigest()).write_bytes(data)
            raise

    return run_saving


if __name__ == "__main__":
    sys.exit(main())
