# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts with systemd and sshd in containers, and Ansible that manages them as users do."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import typing as t
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

Json = dict[str, t.Any]

DOMAIN = "fleet.example"
SIZE = int(os.environ.get("HALLMARK_FLEET_SIZE") or 20)

# What systemd needs: mounts of its own that units get copies of, and a writable tree of control groups.
_INIT = (
    "mount --make-rshared / && "
    "if [ -e /sys/fs/cgroup/cgroup.controllers ]; then mount -o remount,rw /sys/fs/cgroup; fi && "
    "exec /lib/systemd/systemd"
)
_RUN = (
    "--stop-signal", "SIGRTMIN+3", "--cgroupns", "private", "--cap-add", "SYS_ADMIN",
    "--security-opt", "apparmor=unconfined", "--tmpfs", "/run", "--tmpfs", "/run/lock", "--tmpfs", "/tmp",
)
_SSH = (
    "-F", "none", "-o", "ControlMaster=auto", "-o", "ControlPersist=60s", "-o", "StrictHostKeyChecking=no",
    "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
    # A host that dies in the middle of a task says no goodbye.
    "-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3",
)
_RECAP = re.compile(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.MULTILINE)
# Guards against hanging, not limits of what is fast enough.
BOOT_SECONDS = 180.0
PLAY_SECONDS = 900.0


def wait_until(
    condition: t.Callable[[], t.Any], what: str, *, seconds: float = BOOT_SECONDS, pause: float = 0.1
) -> t.Any:
    """Return what the condition returns as soon as that is true."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"{what}: not within {seconds:.0f} s"
        time.sleep(pause)
    return found


def docker(
    *arguments: str, check: bool = True, input: bytes | None = None, timeout: float = 120.0
) -> subprocess.CompletedProcess[bytes]:
    """Run the engine's client."""
    done = subprocess.run(["docker", *arguments], input=input, capture_output=True, timeout=timeout, check=False)
    assert not check or done.returncode == 0, (
        f"docker {shlex.join(arguments)}: {done.returncode}\n{done.stdout.decode()}\n{done.stderr.decode()}"
    )
    return done


class Times:
    """How long things took: lines of a file, which is printed at the end. No test depends on them."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path

    def add(self, what: str, seconds: float) -> None:
        """Write one line."""
        with self.path.open("a") as stream:
            stream.write(f"{what:<60} {seconds:6.0f} s\n")

    @contextlib.contextmanager
    def of(self, what: str) -> t.Iterator[None]:
        """Take the time of the block."""
        begun = time.monotonic()
        yield
        self.add(what, time.monotonic() - begun)


@dataclass(frozen=True)
class Entry:
    """What a host has at a path."""

    kind: str
    mode: str
    owner: str
    size: int


@dataclass
class Host:
    """One host. Methods that look into it do so without ssh, so that they see what Ansible cannot reach."""

    name: str
    container: str
    image: str
    mounts: tuple[str, ...]
    group: str
    variables: Json = field(default_factory=dict)

    def create(self, *options: str) -> None:
        """Start it as a new machine; C(options) are further ones of C(docker run)."""
        docker(
            "run", "--detach", "--name", self.container, "--hostname", self.name, *_RUN, *self.mounts, *options,
            self.image, "sh", "-c", _INIT,
        )

    def wait(self) -> None:
        """Wait until it has booted; every unit must have come up."""
        def state() -> str:
            said = self.run(["systemctl", "is-system-running"], check=False).stdout.strip()
            return "" if said in ("", "offline", "unknown", "initializing", "starting") else said

        try:
            reached = wait_until(state, f"{self.name}: booting")
        except AssertionError as exc:
            # Nobody but PID 1 knows why, as when the kernel has nothing left to give.
            said = docker("logs", "--tail", "5", self.container)
            raise AssertionError(f"{exc}\n{said.stdout.decode()}\n{said.stderr.decode()}") from None
        failed = "" if reached == "running" else self.run(["systemctl", "--failed", "--no-legend", "--plain"]).stdout
        assert reached == "running", f"{self.name} is {reached}: {failed}"

    def replace(self, *options: str) -> None:
        """Put a new machine in its place."""
        self.remove()
        self.create(*options)
        self.wait()

    def remove(self) -> None:
        """Take it away, in whatever state it is."""
        docker("rm", "--force", "--volumes", self.container)

    def kill(self) -> None:
        """Cut its power; C(start()) gives it back."""
        docker("kill", self.container)

    def start(self) -> None:
        """Boot it again; its disk is as it was, /run and /tmp are empty."""
        docker("start", self.container)
        self.wait()

    def restart(self) -> None:
        """Reboot it in good order."""
        docker("restart", "--time", "30", self.container)
        self.wait()

    def pause(self) -> None:
        """Freeze it: it accepts packets, and answers none."""
        docker("pause", self.container)

    def resume(self) -> None:
        """Let it go on."""
        docker("unpause", self.container)

    @property
    def address(self) -> str:
        """Its address, which may be another one after a boot; empty while it is off."""
        form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        return docker("inspect", "--format", form, self.container).stdout.decode().strip()

    def run(
        self, argv: t.Sequence[str], *, check: bool = True, input: str | None = None, user: str = "root",
        timeout: float = 120.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program on it."""
        done = docker(
            "exec", *(["--interactive"] if input is not None else []), "--user", user, self.container, *argv,
            check=False, input=None if input is None else input.encode(), timeout=timeout,
        )
        text = subprocess.CompletedProcess(list(argv), done.returncode, done.stdout.decode(), done.stderr.decode())
        assert not check or text.returncode == 0, (
            f"{self.name}: {shlex.join(argv)}: {text.returncode}\n{text.stdout}\n{text.stderr}"
        )
        return text

    def read(self, path: str) -> str:
        """Return the text of a file."""
        return self.run(["cat", path]).stdout

    def write(self, path: str, text: str, *, mode: str = "0644") -> None:
        """Write a file of root; a test's own, where nothing is to be proved about writing."""
        self.run(["sh", "-c", 'cat >"$1" && chmod "$2" "$1"', "sh", path, mode], input=text)

    def exists(self, path: str) -> bool:
        """Say whether there is anything at the path, be it a dangling link."""
        return self.run(["sh", "-c", '[ -e "$1" ] || [ -L "$1" ]', "sh", path], check=False).returncode == 0

    def entries(self, folder: str) -> dict[str, Entry]:
        """Return everything in a folder and below, by path; nothing if it is not there."""
        found = self.run(["find", folder, "-mindepth", "1", "-printf", r"%y %m %u:%g %s %p\n"], check=False).stdout
        rows = [line.split(" ", 4) for line in found.splitlines()]
        return {path: Entry(kind, mode, owner, int(size)) for kind, mode, owner, size, path in rows}

    def processes(self, pattern: str) -> list[str]:
        """Return the command lines of its processes in which the pattern is found; none when it is off."""
        listed = docker("top", self.container, "-eo", "pid,args", check=False).stdout.decode()
        return [line for line in listed.splitlines()[1:] if re.search(pattern, line)]


@dataclass(frozen=True)
class Recap:
    """What Ansible counted on one host."""

    ok: int
    changed: int
    unreachable: int
    failed: int

    @property
    def well(self) -> bool:
        """Whether the play ended well on it."""
        return not self.unreachable and not self.failed


@dataclass
class Play:
    """What came of one ansible-playbook."""

    status: int
    output: str
    lines: list[Json]
    seconds: float

    @property
    def recap(self) -> dict[str, Recap]:
        """The recap, by host."""
        found = _RECAP.findall(self.output.partition("PLAY RECAP")[2])
        return {host: Recap(*map(int, counts)) for host, *counts in found}

    @property
    def changed(self) -> dict[str, list[str]]:
        """The tasks that changed something, by host."""
        named: dict[str, list[str]] = {}
        for line in self.lines:
            if line["result"].get("changed"):
                named.setdefault(line["host"], []).append(line["task"])
        return named

    def reason(self, host: str) -> str:
        """Return what Ansible says last of why the host failed, as its user reads it."""
        bad = [line for line in self.lines if line["host"] == host and line["status"] in ("failed", "unreachable")]
        assert bad, f"{host} did not fail:\n{self.output[-4000:]}"
        return str(bad[-1]["result"].get("msg"))

    def require(self) -> Play:
        """Fail the test with what went wrong, unless the playbook ended well everywhere."""
        bad = [
            f"{line['host']}: {line['task']}: {json.dumps(line['result'], indent=1)[:4000]}" for line in self.lines
            if line["status"] in ("failed", "unreachable")
        ]
        assert self.status == 0, "\n".join(bad) or self.output[-8000:]
        return self


class Fleet:
    """The hosts, and the control node: ansible-playbook of the running interpreter, with an installed collection."""

    def __init__(
        self, *, folder: pathlib.Path, collections: pathlib.Path, callbacks: pathlib.Path, prefix: str
    ) -> None:
        self.folder, self.prefix = folder, prefix
        self.hosts: dict[str, Host] = {}
        self.group_variables: dict[str, Json] = {}
        # Tells the DNS server of the drills where a name leads to; there may be none yet.
        self.lead: t.Callable[[str, str], None] = lambda name, address: None
        # Every host sees this folder, read only.
        self.shared = folder / "shared"
        self.shared.mkdir()
        self._numbers = itertools.count()
        self._key = folder / "ssh-key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self._key)], check=True)
        shutil.copy(self._key.with_suffix(".pub"), self.shared / "authorized_keys")
        self._environment = {
            "PATH": os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)]),
            "HOME": str(folder), "TMPDIR": str(folder), "LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1",
            "ANSIBLE_HOME": str(folder / "ansible"), "ANSIBLE_COLLECTIONS_PATH": str(collections),
            "ANSIBLE_CALLBACK_PLUGINS": str(callbacks), "ANSIBLE_CALLBACKS_ENABLED": "hallmark_results",
            "ANSIBLE_SSH_ARGS": shlex.join(_SSH), "ANSIBLE_PIPELINING": "true", "ANSIBLE_NOCOLOR": "true",
            # Two cores certify no more than this at a time.
            "ANSIBLE_FORKS": "10",
        }

    # --- hosts ------------------------------------------------------------------------------------------------------

    def add(
        self, name: str, *options: str, image: str = "node", group: str = "signers", variables: Json | None = None
    ) -> Host:
        """Start a new host; C(options) are further ones of C(docker run). It may still be booting: C(wait())."""
        mounts = ("--volume", f"{self.shared}:/fleet:ro")
        host = Host(
            name, f"{self.prefix}-{name.partition('.')[0]}", f"{self.prefix}-{image}", mounts, group, variables or {}
        )
        host.create(*options)
        self.hosts[name] = host
        return host

    def discard(self, host: Host) -> None:
        """Take a host away for good."""
        host.remove()
        del self.hosts[host.name]

    def group(self, name: str) -> list[Host]:
        """Return the hosts of a group."""
        return [host for host in self.hosts.values() if host.group == name]

    def close(self) -> None:
        """Take all hosts away."""
        if self.hosts:
            docker("rm", "--force", "--volumes", *(host.container for host in self.hosts.values()), check=False)

    def each(self, work: t.Callable[[Host], t.Any], hosts: t.Iterable[Host] | None = None) -> list[t.Any]:
        """Do something with many hosts, a few at a time; return what it returned."""
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(work, list(self.hosts.values()) if hosts is None else hosts))

    # --- Ansible ----------------------------------------------------------------------------------------------------

    def inventory(self) -> pathlib.Path:
        """Write the inventory of all hosts with the addresses that they have now, and tell DNS."""
        groups: Json = {}
        for host, address in zip(self.hosts.values(), self.each(lambda one: one.address), strict=True):
            group = groups.setdefault(host.group, {"hosts": {}, "vars": self.group_variables.get(host.group, {})})
            # Nobody answers at the address of a host that is off.
            group["hosts"][host.name] = {"ansible_host": address or "192.0.2.1", **host.variables}
            if address:
                self.lead(host.name, address)
        common = {
            "ansible_user": "ops", "ansible_ssh_private_key_file": str(self._key),
            "ansible_python_interpreter": "/usr/bin/python3",
        }
        path = self.folder / "inventory.yml"
        # JSON is YAML.
        path.write_text(json.dumps({"all": {"vars": common, "children": groups}}, indent=1))
        return path

    def play(
        self, playbook: str | os.PathLike[str], *arguments: str, meanwhile: t.Callable[[], object] | None = None
    ) -> Play:
        """Run a playbook; C(meanwhile) is called once it runs."""
        stem = self.folder / f"play-{next(self._numbers)}"
        results, log = stem.with_suffix(".results"), stem.with_suffix(".log")
        begun = time.monotonic()
        # Paths of sockets must be short. A master connection must not outlive the host that it leads to.
        with tempfile.TemporaryDirectory(prefix=f"{self.prefix}-", dir="/tmp") as sockets, log.open("w") as stream:
            command = [
                sys.executable, "-m", "ansible", "playbook", "--inventory", str(self.inventory()), str(playbook),
                *arguments,
            ]
            environment = {
                **self._environment, "ANSIBLE_SSH_CONTROL_PATH_DIR": sockets, "HALLMARK_RESULTS": str(results),
            }
            running = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, stdout=stream,
                stderr=subprocess.STDOUT,
            )
            try:
                if meanwhile is not None:
                    meanwhile()
                status = running.wait(timeout=PLAY_SECONDS)
            finally:
                running.kill()
                running.wait()
                for path in pathlib.Path(sockets).iterdir():
                    subprocess.run(
                        ["ssh", "-F", "none", "-o", f"ControlPath={path}", "-O", "exit", "nobody"], capture_output=True,
                        timeout=20, check=False,
                    )
        lines = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
        return Play(status, log.read_text(), lines, time.monotonic() - begun)
