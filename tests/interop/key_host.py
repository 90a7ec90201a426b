# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host with a key: a real sshd on loopback that runs the forced command, and accounts with cosign's plugin.

sshd and ssh-keygen are those of this machine; nothing of its own configuration or of this user's is touched.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import pwd
import shutil
import subprocess
import sys
import threading
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._custody import journal
from interop_tools import Cosign, Json, Task, free_port, process

if t.TYPE_CHECKING:
    from interop_tools import Ansible

PLUGIN = "sigstore-kms-hallmark"


def programs() -> dict[str, str]:
    """Return the paths of sshd, ssh and ssh-keygen; the test is skipped where one is missing or cannot run."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    found = {name: shutil.which(name, path=path) for name in ("sshd", "ssh", "ssh-keygen")}
    missing = [name for name, program in found.items() if program is None]
    if missing:
        pytest.skip(f"{missing[0]} is not installed (Debian packages openssh-server and openssh-client)")
    return t.cast("dict[str, str]", found)


def user() -> str:
    """Return the name of this user, who is the only one that this sshd lets in."""
    return pwd.getpwuid(os.geteuid()).pw_name


class KeyHost:
    """The host: its key, its configuration, its record, and its sshd on a port that stays the same."""

    def __init__(self, folder: pathlib.Path, program: str) -> None:
        self.folder, self.program = folder, program
        self.port = free_port()
        self.programs = programs()
        self.record = folder / "state" / "uses.jsonl"
        (folder / "state").mkdir(mode=0o700)
        self.host_key = self.make_key("host")
        self._check()

    def make_key(self, name: str) -> pathlib.Path:
        """Make a key pair of ssh, in place of an older one of that name."""
        path = self.folder / f"ssh-{name}"
        path.unlink(missing_ok=True)
        command = [self.programs["ssh-keygen"], "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(path)]
        subprocess.run(command, check=True, capture_output=True)
        return path

    @property
    def known_hosts(self) -> str:
        """The line by which this host is known, as its key is now."""
        kind, key = self.host_key.with_suffix(".pub").read_text().split()[:2]
        return f"[127.0.0.1]:{self.port} {kind} {key}\n"

    def configure(self, key_id: str, callers: t.Sequence[Json], **members: t.Any) -> None:
        """Write who may have what signed, and let their keys of ssh in, to the forced command only."""
        configuration = {"identity": "release", "key_id": key_id, "record_path": str(self.record), **members}
        path = self.folder / "serve.json"
        path.write_text(json.dumps({**configuration, "callers": list(callers)}))
        lines = []
        for caller in callers:
            public = self.folder / f"ssh-{caller['name']}.pub"
            if not public.exists():
                self.make_key(str(caller["name"]))
            command = f"{self.program} serve --config {path} --caller {caller['name']}"
            lines.append(f'restrict,command="{command}" {public.read_text()}')
        (self.folder / "authorized_keys").write_text("".join(lines))

    @contextlib.contextmanager
    def running(self) -> t.Iterator[None]:
        """Run sshd until the block ends; what it says is in the file C(log)."""
        command = [self.programs["sshd"], "-D", "-e", "-f", str(self.folder / "sshd_config")]
        with process(command, port=self.port, log=self.folder / "log"):
            yield

    def _check(self) -> None:
        (self.folder / "authorized_keys").touch()
        # What the forced command must prevent is allowed here.
        (self.folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.host_key}\nPidFile none\nStrictModes no\n"
            f"AuthorizedKeysFile {self.folder}/authorized_keys\nPasswordAuthentication no\nUsePAM no\n"
            "KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nLogLevel VERBOSE\nMaxStartups 100\n"
            "AllowTcpForwarding yes\nAllowAgentForwarding yes\nPermitTTY yes\nPermitTunnel yes\nX11Forwarding yes\n"
            "Subsystem sftp internal-sftp\nPermitUserEnvironment yes\n"
        )
        command = [self.programs["sshd"], "-t", "-f", str(self.folder / "sshd_config")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"sshd cannot run here: {done.stderr.strip()[-200:]}")

    @property
    def entries(self) -> tuple[journal.Entry, ...]:
        """The record, its chain checked."""
        return journal.read(str(self.record))

    def account(self, caller: str, public: pathlib.Path, *, name: str | None = None, **members: t.Any) -> Account:
        """Make an account elsewhere, with the plugin and a configuration to reach this host."""
        return Account(self, caller, public, self.folder / f"account-{name or caller}", members)

    def ssh(self, caller: str, *arguments: str, stdin: bytes = b"", options: t.Sequence[str] = ()) -> Ended:
        """Log in as a caller does by hand."""
        known = self.folder / "known-by-hand"
        known.write_text(self.known_hosts)
        done = subprocess.run(
            [
                self.programs["ssh"], "-F", "/dev/null", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes",
                "-o", f"UserKnownHostsFile={known}", "-o", "IdentitiesOnly=yes",
                "-i", str(self.folder / f"ssh-{caller}"), "-p", str(self.port), *options, f"{user()}@127.0.0.1",
                *arguments,
            ],
            input=stdin, capture_output=True, timeout=60, check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr.decode("utf-8", "replace"))


class Ended(t.NamedTuple):
    """How ssh ended."""

    status: int
    stdout: bytes
    stderr: str


class Account:
    """Somebody who signs with cosign, and has no key but that of ssh."""

    def __init__(
        self, host: KeyHost, caller: str, public: pathlib.Path, folder: pathlib.Path, members: Json
    ) -> None:
        self.folder = folder
        (folder / "bin").mkdir(parents=True)
        (folder / "bin" / PLUGIN).symlink_to(host.program)
        (folder / "config" / "hallmark-signing").mkdir(parents=True)
        shutil.copy(public, folder / "release.pub")
        self.public = folder / "release.pub"
        (folder / "known_hosts").write_text(host.known_hosts)
        entry = {
            "destination": f"{user()}@127.0.0.1", "port": host.port,
            "public_key_path": str(self.public), "known_hosts": str(folder / "known_hosts"),
            "identity_file": str(host.folder / f"ssh-{caller}"), "timeout": 50, **members,
        }
        (folder / "config" / "hallmark-signing" / "plugin.json").write_text(
            json.dumps({"identities": {"release": entry}})
        )
        self.environment = {
            "PATH": os.pathsep.join([str(folder / "bin"), os.defpath]), "XDG_CONFIG_HOME": str(folder / "config"),
        }

    def sign(self, cosign: Cosign, image: str, *arguments: str, key: str | None = None, **options: t.Any) -> None:
        """Sign an image, which must work."""
        cosign.sign(image, key or f"hallmark://release/{image}", *arguments, environment=self.environment, **options)

    def fails(self, cosign: Cosign, image: str, *arguments: str, **options: t.Any) -> str:
        """Return what cosign says when it cannot sign."""
        with pytest.raises(AssertionError) as caught:
            self.sign(cosign, image, *arguments, **options)
        said = str(caught.value)
        assert "panic" not in said
        return said


def install(ansible: Ansible, folder: pathlib.Path) -> str:
    """Install the program by its module, and return its path."""
    folder.chmod(0o755)
    path = str(folder / "hallmark.pyz")
    (made,) = ansible.run([Task("signing_program", {"dest": path, "interpreter": sys.executable})])
    assert made["changed"], made
    return path


class Watched:
    """Looks into the arguments and environments of all processes for texts, as fast as it can."""

    def __init__(self, *texts: bytes) -> None:
        self._texts = texts
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.seen: set[bytes] = set()
        self.programs: set[str] = set()

    def __enter__(self) -> Watched:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.005):
            for name in os.listdir("/proc"):
                if name.isdigit():
                    with contextlib.suppress(OSError):
                        self._look(pathlib.Path("/proc", name))

    def _look(self, process: pathlib.Path) -> None:
        shown = (process / "cmdline").read_bytes()
        self.programs.add(shown.replace(b"\0", b" ").decode("utf-8", "replace"))
        shown += (process / "environ").read_bytes()
        self.seen.update(text for text in self._texts if text in shown)
