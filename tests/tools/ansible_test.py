# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run ansible-test on a copy of the checkout.

ansible-test wants to stand in C(ansible_collections/NAMESPACE/NAME), follows no link there, and finds nothing to
test below a folder that git ignores; so the files git knows or would add are copied beside the checkout, into a
repository of their own. What it keeps between runs (its virtual environments) stays in the copy.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Sanity and integration tests may run at a time.
FOLDER = ROOT / ".work" / "ansible-test" / sys.argv[1]
COPY = FOLDER / "ansible_collections" / "hallmark" / "signing"
KEPT = ("tests/output", ".git")
# It downloads its pip installer from a host that closed networks do not reach; any version will do.
GET_PIP = '''
import subprocess, sys
wanted = [word for word in sys.argv[1:] if word not in ("--no-setuptools", "--no-wheel")]
subprocess.run([sys.executable, "-m", "ensurepip", "--upgrade", "--default-pip"], check=True)
subprocess.run([sys.executable, "-m", "pip", "install", "--upgrade", *(wanted or ["pip"])], check=True)
'''


def git(*words: str, where: pathlib.Path = ROOT) -> str:
    """Return what git prints."""
    return subprocess.run(
        ["git", "-c", "safe.directory=*", *words], cwd=where, check=True, capture_output=True, text=True
    ).stdout


def mirror() -> None:
    """Make the copy equal to the checkout, without what git ignores."""
    names = git("ls-files", "-z", "-co", "--exclude-standard").split("\0")
    wanted = {name for name in names if name and (ROOT / name).is_file()}
    COPY.mkdir(parents=True, exist_ok=True)
    for path in sorted(COPY.rglob("*"), reverse=True):
        name = path.relative_to(COPY).as_posix()
        if any(name == kept or name.startswith(f"{kept}/") for kept in KEPT):
            continue
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif name not in wanted:
            path.unlink()
    for name in wanted:
        (COPY / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, COPY / name)
    if not (COPY / ".git").exists():
        git("init", "--quiet", where=COPY)


def bootstrap(home: pathlib.Path) -> None:
    """Put our pip installer where ansible-test caches the one it would download."""
    cache = home / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    for name in ("get_pip_24_2.py", "get_pip_25_2.py"):
        if not (cache / name).exists():
            (cache / name).write_text(GET_PIP)


def main() -> int:
    """Run ansible-test with the given words; fail where it silently tests nothing."""
    mirror()
    home = FOLDER / "home"
    bootstrap(home)
    binaries = pathlib.Path(sys.executable).parent
    # Shims of Pythons that are not there confuse it.
    path = [str(binaries), *(part for part in os.environ["PATH"].split(os.pathsep) if "shims" not in part)]
    environment = {**os.environ, "HOME": str(home), "PATH": os.pathsep.join(path), "PIP_QUIET": "1"}
    process = subprocess.Popen(
        [str(binaries / "ansible-test"), *sys.argv[1:]],
        cwd=COPY, env=environment, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )
    skipped = False
    for line in process.stdout or ():
        skipped = skipped or "All targets skipped" in line
        print(line, end="", flush=True)
    status = process.wait()
    if skipped:
        print("ansible-test tested nothing")
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main())
