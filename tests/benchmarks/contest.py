# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measuring: processes of ours and of others, in turns, on the same services."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import time
import typing as t

HERE = pathlib.Path(__file__).parent
TOOLS = HERE.parent / "tools"
sys.path.insert(0, str(TOOLS))

import free_ports  # noqa: E402

PASSPHRASE = "benchmark-passphrase"


class Row(t.NamedTuple):
    """One line of the table."""

    work: str
    ours: str
    peer: str
    ratio: str
    promised: str = "-"
    holds: bool = True


class Run(t.NamedTuple):
    """One process that ended: seconds, the most memory it had in MiB, and what it printed."""

    seconds: float
    memory: float
    output: str


class Peer(t.NamedTuple):
    """A real cosign."""

    name: str
    major: int
    program: str

    @property
    def verify(self) -> list[str]:
        """The command that verifies the images that follow, without any log."""
        return [self.program, "verify", "--key", "k.pub", "--insecure-ignore-tlog=true"]

    @property
    def sign(self) -> list[str]:
        """The command that signs the image that follows in the format of its version, without any log."""
        without_service = ["--use-signing-config=false"] if self.major >= 3 else []
        return [self.program, "sign", "--key", "k.key", *without_service, "--tlog-upload=false", "-y"]


class Bench:
    """What all measurements share: a folder, the peers, and how often each is measured."""

    def __init__(self, folder: pathlib.Path, peers: t.Sequence[Peer], *, rounds: int, images: int) -> None:
        self.folder = folder
        self.peers = list(peers)
        self.rounds = rounds
        self.images = images
        self.environment = {
            **os.environ, "HOME": str(folder), "TUF_ROOT": str(folder / "tuf"), "COSIGN_PASSWORD": PASSPHRASE,
            # Python as usual: what was compiled once is kept.
            "PYTHONPYCACHEPREFIX": str(folder / "compiled"),
        }
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def run(self, command: t.Sequence[str], text: str = "", *, fails: bool = False) -> Run:
        """Run one process in the folder, with C(text) as input; unless it C(fails), it must go well."""
        given, output, errors = (self.folder / name for name in ("stdin", "stdout", "stderr"))
        given.write_text(text)
        with given.open() as source, output.open("w") as sink, errors.open("w") as log:
            begun = time.monotonic()
            process = subprocess.Popen(
                command, stdin=source, stdout=sink, stderr=log, cwd=self.folder, env=self.environment
            )
            try:
                _pid, status, usage = os.wait4(process.pid, 0)
            except BaseException:
                process.terminate()
                process.wait(10)
                raise
            seconds = time.monotonic() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        if (process.returncode != 0) is not fails:
            raise RuntimeError(f"{command[:2]} ended with {process.returncode}: {errors.read_text()[-2000:]}")
        return Run(seconds, usage.ru_maxrss / 1024, output.read_text())

    def ours(self, work: str, **given: t.Any) -> Run:
        """Let our code work in a process of its own; every result must be good."""
        run, results = self.ours_results(work, **given)
        bad = [one["reasons"] for one in results if one["reasons"]]
        if bad:
            raise RuntimeError(f"our {work} failed: {bad[0]}")
        return run

    def ours_results(self, work: str, **given: t.Any) -> tuple[Run, list[dict[str, t.Any]]]:
        """Let our code work in a process of its own; return its results, too."""
        run = self.run([sys.executable, str(HERE / "ours.py"), work], json.dumps(given))
        told = json.loads(run.output)
        return run._replace(memory=told["memory"]), told["results"]

    def each(self, command: t.Sequence[str], images: t.Sequence[str], *, processes: int) -> Run:
        """Run a command for each image by itself, some at a time, as scripts do."""
        return self.run(["xargs", f"-P{processes}", "-n1", *command], "\n".join(images))

    def in_turns(self, contestants: t.Mapping[str, t.Callable[[int], Run]]) -> dict[str, Run]:
        """Run all, one after another, in each round; return the medians of their times, and the most memory."""
        runs: dict[str, list[Run]] = {name: [] for name in contestants}
        for number in range(self.rounds):
            for name, contestant in contestants.items():
                runs[name].append(contestant(number))
        return {
            name: Run(statistics.median(one.seconds for one in done), max(one.memory for one in done), "")
            for name, done in runs.items()
        }


def duel(work: str, ours: Run, peer: str, theirs: Run, *, at_least: float | None = None) -> Row:
    """Return the row that sets a time of ours beside one of theirs."""
    ratio = theirs.seconds / ours.seconds
    return Row(
        work, f"{seconds(ours)}, {ours.memory:.0f} MiB", f"{peer}: {seconds(theirs)}", f"{ratio:.1f}x",
        "-" if at_least is None else f">= {at_least:g}x", at_least is None or ratio >= at_least,
    )


def seconds(run: Run) -> str:
    """Return a time as text."""
    return f"{run.seconds:.1f} s" if run.seconds >= 10 else f"{run.seconds:.2f} s"


@contextlib.contextmanager
def registry(folder: pathlib.Path) -> t.Iterator[str]:
    """Run the real registry on a free port; yield HOST:PORT."""
    folder.mkdir(parents=True)
    host = f"127.0.0.1:{free_ports.free_ports(1)[0]}"
    settings = folder / "config.yml"
    settings.write_text(json.dumps({
        "version": 0.1, "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}}, "http": {"addr": host, "secret": "any"},
    }))
    with started(["docker-registry", "serve", str(settings)]):
        wait_for(host)
        yield host


@contextlib.contextmanager
def far_away(host: str, *, milliseconds: int) -> t.Iterator[str]:
    """Yield the HOST:PORT at which a server of this machine is a round trip away."""
    port = free_ports.free_ports(1)[0]
    upstream = host.partition(":")[2]
    with started([sys.executable, str(TOOLS / "delay_proxy.py"), str(port), upstream, str(milliseconds)]):
        wait_for(f"127.0.0.1:{port}")
        yield f"127.0.0.1:{port}"


@contextlib.contextmanager
def started(command: t.Sequence[str], **options: t.Any) -> t.Iterator[subprocess.Popen[str]]:
    """Run a service and stop it again."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, **{**quiet, **options}, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(10)


def wait_for(host: str) -> None:
    """Wait until HOST:PORT takes connections."""
    name, port = host.split(":")
    for _attempt in range(100):
        with contextlib.suppress(OSError), socket.create_connection((name, int(port)), timeout=1):
            return
        time.sleep(0.1)
    raise RuntimeError(f"{host} does not answer")
