# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Our speed and memory against the real cosign, on this machine, in one run: run it by ./dev bench.

Whole processes are measured on the same images; ratios are what counts, since machines are noisy. A row that does
not hold what it promises makes the run fail.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import typing as t

from ansible_collections.hallmark.signing.plugins.module_utils._keys.signers import file as file_signer
from ansible_collections.hallmark.signing.plugins.module_utils._oci import reference
from ansible_collections.hallmark.signing.plugins.module_utils._oci.concurrency import map_ordered
from ansible_collections.hallmark.signing.plugins.module_utils._oci.credentials import AuthFile
from ansible_collections.hallmark.signing.plugins.module_utils._oci.images import Images
from ansible_collections.hallmark.signing.plugins.module_utils._oci.transport import RegistrySettings
from ansible_collections.hallmark.signing.plugins.module_utils._signing import sign

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tools"))

import demo_images  # noqa: E402
import free_ports  # noqa: E402

MEBIBYTE = 1024**2
# What our side runs: a process of its own that calls the code of the module, its start and imports included.
COPY = """
import json, resource, sys
from ansible_collections.hallmark.signing.plugins.module_utils._oci.concurrency import map_ordered
from ansible_collections.hallmark.signing.plugins.module_utils._oci.credentials import AuthFile
from ansible_collections.hallmark.signing.plugins.module_utils._oci.images import Images
from ansible_collections.hallmark.signing.plugins.module_utils._oci.transport import RegistrySettings
from ansible_collections.hallmark.signing.plugins.module_utils._signing import copying
images = Images(RegistrySettings(AuthFile("none", {}), timeout=60))
pairs = [tuple(pair) for pair in json.load(sys.stdin)]
done = map_ordered(lambda pair: copying.copy_image(images, images, pair, dry_run=False), pairs, workers=16)
failed = [copy.as_dict() for copy in done if copy.reasons]
if failed:
    sys.exit(str(failed[0]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


class Row(t.NamedTuple):
    """One line of the table."""

    work: str
    ours: str
    peer: str
    ratio: str
    promised: str
    holds: bool


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
        _wait_for(host)
        yield host


@contextlib.contextmanager
def started(command: t.Sequence[str], **options: t.Any) -> t.Iterator[subprocess.Popen[str]]:
    """Run a service and stop it again."""
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, text=True, **options)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(10)


def _wait_for(host: str) -> None:
    import socket

    name, port = host.split(":")
    for _attempt in range(100):
        with contextlib.suppress(OSError), socket.create_connection((name, int(port)), timeout=1):
            return
        time.sleep(0.1)
    raise RuntimeError(f"{host} does not answer")


def ours(pairs: t.Sequence[tuple[str, str]]) -> tuple[float, float]:
    """Copy with our code in a process of its own; return seconds and the most memory it had, in MiB."""
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", COPY], input=json.dumps(pairs), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"our copy failed: {done.stderr[-2000:]}")
    return time.monotonic() - begun, int(done.stdout) / 1024


def large(gibibytes: float) -> Row:
    """Copy an image larger than memory from one registry to another."""
    ports = free_ports.free_ports(2)
    tool = [sys.executable, str(HERE / "generated_image.py")]
    with started([*tool, "source", str(ports[0]), str(gibibytes)], stdout=subprocess.PIPE) as source, started(
        [*tool, "sink", str(ports[1])], stdout=subprocess.PIPE
    ) as sink:
        image = t.cast(t.IO[str], source.stdout).readline().strip()
        t.cast(t.IO[str], sink.stdout).readline()
        seconds, memory = ours([(image, f"127.0.0.1:{ports[1]}/large/copy:1")])
    return Row(
        f"copy {gibibytes:g} GiB from registry to registry", f"{seconds:.1f} s, {memory:.0f} MiB", "-",
        f"{gibibytes * 1024 / seconds:.0f} MiB/s", "<= 64 MiB of memory", memory <= 64,
    )


def many(count: int, cosign: str, folder: pathlib.Path, *, rounds: int) -> list[Row]:
    """Copy signed images from one registry to another, beside a loop of cosign copy, which leaves bundles behind."""
    with registry(folder / "from") as first, registry(folder / "to") as second:
        names = [f"bench/image{number}" for number in range(count)]
        make(first, names, "sig", folder)
        own, theirs = [], []
        for number in range(rounds):
            own.append(ours([(f"{first}/{name}:1", f"{second}/ours{number}/{name}:1") for name in names]))
            begun = time.monotonic()
            for name in names:
                subprocess.run(
                    [cosign, "copy", f"{first}/{name}:1", f"{second}/theirs{number}/{name}:1"], check=True,
                    capture_output=True, env={**os.environ, "HOME": str(folder)},
                )
            theirs.append(time.monotonic() - begun)
        make(first, names, "bundle", folder)
        with_bundles = ours([(f"{first}/{name}:1", f"{second}/bundles/{name}:1") for name in names])
    peer = statistics.median(theirs)
    seconds, memory = statistics.median(one[0] for one in own), max(one[1] for one in own)
    return [
        Row(
            f"copy {count} images with .sig", f"{seconds:.1f} s, {memory:.0f} MiB",
            f"cosign copy in a loop: {peer:.1f} s", f"{peer / seconds:.1f}x", ">= 3x", peer / seconds >= 3,
        ),
        Row(
            f"copy {count} images with .sig and bundle", f"{with_bundles[0]:.1f} s, {with_bundles[1]:.0f} MiB",
            "the same, without bundles", f"{peer / with_bundles[0]:.1f}x", "-", True,
        ),
    ]


def make(host: str, names: t.Sequence[str], format: t.Literal["sig", "bundle"], folder: pathlib.Path) -> None:
    """Write an image under each name, the same one each time, and sign it in one format."""
    images = Images(RegistrySettings(AuthFile("none", {}), timeout=60))
    key = folder / "k.pem"
    if not key.exists():
        key.touch(0o600)
        subprocess.run(
            ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", str(key)],
            check=True, capture_output=True,
        )
    wish = sign.Wish((file_signer.load(str(key), passphrase=None, key_id=None),), formats=(format,))

    def one(name: str) -> None:
        image = reference.parse(f"{host}/{name}:1")
        demo_images.write_image(images.registries, image, {"name": name.encode()})
        outcome = sign.sign_image(images, str(image), wish)
        if outcome.reasons:
            raise RuntimeError(str(outcome.reasons))

    map_ordered(one, names, workers=8)


def table(rows: t.Sequence[Row]) -> str:
    """Return the rows as a table of text."""
    lines = [("work", "ours", "peer", "ratio", "promised", "")]
    lines += [(row.work, row.ours, row.peer, row.ratio, row.promised, "" if row.holds else "MISSED") for row in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(6)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gibibytes", type=float, default=10.0)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    cosigns = json.loads(os.environ.get("HALLMARK_COSIGNS", "[]"))
    # In memory where that is possible: the disk of this machine is not what is measured.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = pathlib.Path(tempfile.mkdtemp(prefix="hallmark-bench-", dir=memory))
    try:
        rows = [large(given.gibibytes)]
        if cosigns:
            rows += many(given.images, cosigns[0]["program"], folder, rounds=given.rounds)
        else:
            print("without the real cosign: the row that copies many images is left out")
    finally:
        shutil.rmtree(folder)
    print(table(rows))
    return 0 if all(row.holds for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
