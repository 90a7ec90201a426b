# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the interoperability tests share: Ansible as users run it, the real cosigns, servers, images."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.client
import itertools
import json
import os
import pathlib
import re
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time
import typing as t
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import yaml

ROOT = pathlib.Path(os.environ.get("HALLMARK_ROOT") or pathlib.Path(__file__).resolve().parents[2])
sys.path.insert(0, str(ROOT / "tests" / "tools"))

import demo_images  # noqa: E402
from ansible_collections.hallmark.signing.plugins.module_utils._oci import (  # noqa: E402
    manifest as manifests,
)
from ansible_collections.hallmark.signing.plugins.module_utils._oci import (  # noqa: E402
    reference as references,
)
from ansible_collections.hallmark.signing.plugins.module_utils._oci.credentials import (  # noqa: E402
    AuthFile,
)
from ansible_collections.hallmark.signing.plugins.module_utils._oci.registry import Registries  # noqa: E402
from ansible_collections.hallmark.signing.plugins.module_utils._oci.transport import (  # noqa: E402
    HostSettings,
    RegistrySettings,
)
from ansible_collections.hallmark.signing.plugins.module_utils._signing import attachment  # noqa: E402

Json = dict[str, t.Any]
PASSWORD = "interoperable-passphrase"


# --- Ansible ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """One task of a playbook: a module of the collection (or an FQCN) with its arguments."""

    module: str
    args: Json
    keywords: Json = field(default_factory=dict)

    def as_json(self) -> Json:
        """Return the task as a playbook has it."""
        name = self.module if "." in self.module else f"hallmark.signing.{self.module}"
        return {"name": name, name: self.args, "ignore_errors": True, **self.keywords}


@dataclass
class Run:
    """What came of one ansible-playbook."""

    status: int
    stdout: str
    stderr: str
    lines: list[Json]

    @property
    def results(self) -> list[Json]:
        """The results of all tasks in order."""
        return [line["result"] for line in self.lines]

    @property
    def changed(self) -> list[str]:
        """The names of the tasks that changed something."""
        return [line["task"] for line in self.lines if line["result"].get("changed")]

    @property
    def failed(self) -> list[Json]:
        """The results of the tasks that failed and were not ignored."""
        return [line["result"] for line in self.lines if line["status"] == "failed"]

    def of(self, name: str) -> Json:
        """Return the last result of the task whose name ends so."""
        return [line["result"] for line in self.lines if line["task"].endswith(name)][-1]

    def require(self) -> Run:
        """Fail the test with everything that was printed, unless the playbook ended well."""
        assert self.status == 0, f"{self.stdout}\n{self.stderr}"
        return self


# Each test has its images for itself, unless it says otherwise: waiting for other hosts would be for nothing.
NOBODY_ELSE = {
    f"hallmark.signing.{module}": {"settle_seconds": 0} for module in ("image_signature", "image_copy")
}


class Ansible:
    """ansible-playbook of the running interpreter, with the collection of this checkout."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self._numbers = itertools.count()
        tree = folder / "tree" / "ansible_collections" / "hallmark"
        tree.mkdir(parents=True)
        (tree / "signing").symlink_to(ROOT)
        (folder / "home").mkdir()
        self.environment = {
            "PATH": os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)]),
            "HOME": str(folder / "home"), "TMPDIR": str(folder), "LC_ALL": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
            "ANSIBLE_HOME": str(folder / "ansible"), "ANSIBLE_LOCAL_TEMP": str(folder / "ansible-local"),
            "ANSIBLE_REMOTE_TEMP": str(folder / "ansible-remote"),
            "ANSIBLE_COLLECTIONS_PATH": str(folder / "tree"), "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_CALLBACK_PLUGINS": str(pathlib.Path(__file__).parent / "callback_plugins"),
            "ANSIBLE_CALLBACKS_ENABLED": "hallmark_results", "ANSIBLE_PIPELINING": "true",
            "ANSIBLE_DEPRECATION_WARNINGS": "false", "ANSIBLE_NOCOLOR": "true",
            **{name: os.environ[name] for name in ("DOCKER_HOST",) if name in os.environ},
        }

    def play(
        self, plays: t.Sequence[Json], *, arguments: t.Sequence[str] = (), hosts: t.Mapping[str, Json] | None = None,
        environment: t.Mapping[str, str] | None = None, wrapper: t.Sequence[str] = (), timeout: float = 180.0,
    ) -> Run:
        """Run plays; C(hosts) maps names to variables, all of them this machine."""
        number = next(self._numbers)
        book = self.folder / f"play-{number}.json"
        # The record of exports of this machine is not that of tests.
        defaults = {**NOBODY_ELSE, "hallmark.signing.key_export": {"record_path": str(self.folder / "exports.jsonl")}}
        book.write_text(json.dumps([
            {"hosts": "all", "gather_facts": False, "module_defaults": defaults, **play} for play in plays
        ]))
        common = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        inventory = self.folder / f"play-{number}.inventory.json"
        inventory.write_text(json.dumps({
            "all": {"hosts": {name: {**common, **own} for name, own in (hosts or {"localhost": {}}).items()}}
        }))
        return self.playbook(
            str(book), inventory, arguments=arguments, environment=environment, wrapper=wrapper, timeout=timeout
        )

    def playbook(
        self, book: str, inventory: pathlib.Path, *, arguments: t.Sequence[str] = (),
        environment: t.Mapping[str, str] | None = None, wrapper: t.Sequence[str] = (), timeout: float = 180.0,
    ) -> Run:
        """Run a playbook, by its path or its name, for an inventory."""
        results = self.folder / f"results-{next(self._numbers)}"
        done = subprocess.run(
            [
                *wrapper, sys.executable, "-m", "ansible", "playbook", "-i", str(inventory), book,
                "--forks", "8", *arguments,
            ],
            env={**self.environment, "HALLMARK_RESULTS": str(results), **(environment or {})},
            cwd=self.folder, capture_output=True, text=True, timeout=timeout, check=False,
        )
        lines = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
        for line in lines:
            # What callbacks get has no "failed" any more.
            line["result"]["failed"] = line["status"] in ("failed", "ignored", "unreachable")
        return Run(done.returncode, done.stdout, done.stderr, lines)

    def run(self, tasks: t.Sequence[Task], *, arguments: t.Sequence[str] = (), **options: t.Any) -> list[Json]:
        """Run modules of the collection in one play, each whatever became of the others; return their results."""
        run = self.play([{"tasks": [task.as_json() for task in tasks]}], arguments=arguments, **options)
        assert len(run.lines) == len(tasks), f"{run.stdout}\n{run.stderr}"
        return run.results

    def run_apart(self, tasks: t.Sequence[Task], *, processes: int = 2) -> list[Json]:
        """Run modules like C(run()), in several playbooks at a time; no task may depend on another."""
        with ThreadPoolExecutor(processes) as pool:
            parts = list(pool.map(lambda first: self.run(tasks[first::processes]), range(processes)))
        return [parts[number % processes][number // processes] for number in range(len(tasks))]


@functools.cache
def always_returned(module: str) -> frozenset[str]:
    """Return the keys that the documentation of a module promises in every outcome."""
    source = (ROOT / "plugins" / "modules" / f"{module}.py").read_text()
    found = re.search(r'^RETURN = r"""(.*?)^"""', source, re.MULTILINE | re.DOTALL)
    assert found is not None
    return frozenset({name for name, entry in yaml.safe_load(found[1]).items() if entry["returned"] == "always"})


# --- cosign ----------------------------------------------------------------------------------------------------------


def said(annotations: t.Mapping[str, str] | None) -> list[str]:
    """Return annotations as arguments of cosign, each of which is a line of comma-separated values there."""
    quoted = [f"{name}={value}".replace('"', '""') for name, value in (annotations or {}).items()]
    return [part for text in quoted for part in ("-a", f'"{text}"')]


# Since when the services of these tests are to be trusted.
_START = "start-time=2020-01-01T00:00:00Z"


@dataclass(frozen=True)
class Cosign:
    """One real cosign."""

    name: str
    version: str
    program: str
    home: pathlib.Path

    @property
    def major(self) -> int:
        """The major version, by which tests branch."""
        return int(self.version.partition(".")[0])

    @property
    def own_format(self) -> str:
        """The format it writes by default, and prefers."""
        return "bundle" if self.major >= 3 else "sig"

    def run(
        self, *arguments: str, password: str = PASSWORD, environment: t.Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run it and return what it said."""
        return subprocess.run(
            [self.program, *arguments], capture_output=True, text=True, timeout=60, check=False, cwd=self.home,
            env={
                "PATH": os.defpath, "HOME": str(self.home), "COSIGN_PASSWORD": password,
                "TUF_ROOT": str(self.home / "tuf"), **(environment or {}),
            },
        )

    def sign(
        self, image: str, key: str | os.PathLike[str], *arguments: str, format: str | None = None,
        annotations: t.Mapping[str, str] | None = None, **options: t.Any,
    ) -> None:
        """Sign, without any log; the key must be in its own format."""
        wanted = format or self.own_format
        if self.major < 3:
            assert wanted == "sig"
            flags = ["--tlog-upload=false"]
        elif wanted == "sig":
            flags = ["--use-signing-config=false", "--tlog-upload=false", "--new-bundle-format=false"]
        else:
            flags = ["--signing-config", str(self._signing_config())]
        done = self.run(
            "sign", "--key", str(key), *flags, *said(annotations), *arguments, "-y", image, **options
        )
        assert done.returncode == 0, done.stderr

    def verify(
        self, image: str, public: str | os.PathLike[str], *arguments: str,
        annotations: t.Mapping[str, str] | None = None, **options: t.Any,
    ) -> subprocess.CompletedProcess[str]:
        """Verify, without any log."""
        return self.run(
            "verify", "--key", str(public), "--insecure-ignore-tlog=true", *said(annotations), *arguments, image,
            **options,
        )

    def accepts(self, image: str, public: str | os.PathLike[str], *arguments: str, **options: t.Any) -> bool:
        """Say whether it verifies the image."""
        return self.verify(image, public, *arguments, **options).returncode == 0

    def sign_logged(
        self, image: str, key: str | os.PathLike[str], *arguments: str, log: TransparencyLog | None = None,
        version: int = 1, timestamps: TimestampServer | None = None, format: str | None = None,
        chain: pathlib.Path | None = None, **options: t.Any,
    ) -> subprocess.CompletedProcess[str]:
        """Sign with what is given: an entry in a log (of version 1, or 2 in bundles), a timestamp.

        With a certificate, it wants C(chain), too: its intermediate, then its root.
        """
        if (format or self.own_format) == "bundle":
            flags = [
                "--signing-config", str(self._signing_config(log=log, version=version, timestamps=timestamps)),
                # Without it, it asks the network for one; with it, it verifies what it has written.
                "--trusted-root", str(self.trusted_root(log=log, timestamps=timestamps, chain=chain)),
            ]
        else:
            flags = ["--use-signing-config=false", "--new-bundle-format=false"] if self.major >= 3 else []
            flags += ["--rekor-url", log.url] if log else ["--tlog-upload=false"]
            flags += ["--timestamp-server-url", timestamps.endpoint] if timestamps else []
        return self.run("sign", "--key", str(key), *flags, *arguments, "-y", image, **options)

    def verify_logged(
        self, image: str, public: str | os.PathLike[str], *arguments: str, log: TransparencyLog | None = None,
        timestamps: TimestampServer | None = None, format: str | None = None, **options: t.Any,
    ) -> subprocess.CompletedProcess[str]:
        """Verify what C(sign_logged) makes, without asking the log or anybody else."""
        environment = {}
        flags = ["--use-signed-timestamps"] if timestamps else []
        flags += ["--offline=true"] if log else ["--insecure-ignore-tlog=true"]
        if (format or self.own_format) == "bundle":
            flags += ["--trusted-root", str(self.trusted_root(log=log, timestamps=timestamps))]
        else:
            flags += ["--new-bundle-format=false"] if self.major >= 3 else []
            flags += ["--timestamp-certificate-chain", str(timestamps.chain)] if timestamps else []
            environment = {"SIGSTORE_REKOR_PUBLIC_KEY": str(log.key)} if log else {}
        return self.run(
            "verify", "--key", str(public), *flags, *arguments, image, environment=environment, **options
        )

    def verify_certified(
        self, image: str, name: str, *arguments: str, chain: pathlib.Path, log: TransparencyLog | None = None,
        timestamps: TimestampServer | None = None, format: str | None = None, **options: t.Any,
    ) -> subprocess.CompletedProcess[str]:
        """Verify by a private code-signing PKI: beside C(chain) lie root.pem and sub.pem; C(name) is the signer's."""
        environment = {}
        flags = [f"--certificate-identity={name}", "--certificate-oidc-issuer-regexp=.*", "--insecure-ignore-sct"]
        flags += ["--offline=true"] if log else ["--insecure-ignore-tlog=true"]
        flags += ["--use-signed-timestamps"] if timestamps else []
        if (format or self.own_format) == "bundle":
            flags += ["--trusted-root", str(self.trusted_root(log=log, timestamps=timestamps, chain=chain))]
        else:
            flags += ["--new-bundle-format=false"] if self.major >= 3 else []
            flags += ["--ca-roots", str(chain.with_name("root.pem"))]
            flags += ["--ca-intermediates", str(chain.with_name("sub.pem"))]
            flags += ["--timestamp-certificate-chain", str(timestamps.chain)] if timestamps else []
            environment = {"SIGSTORE_REKOR_PUBLIC_KEY": str(log.key)} if log else {}
        return self.run("verify", *flags, *arguments, image, environment=environment, **options)

    def trusted_root(
        self, *, log: TransparencyLog | None = None, timestamps: TimestampServer | None = None,
        chain: pathlib.Path | None = None,
    ) -> pathlib.Path:
        """Write a trusted root with both logs of a server, an authority, and a PKI. Since version 3."""
        # The host name of the URL must be what the checkpoints of the second log begin with.
        services = [
            f"--rekor=url={log.url},public-key={log.key},{_START}",
            f"--rekor=url={log.url},public-key={log.key2},{_START},origin=127.0.0.1",
        ] if log else []
        services += [f"--tsa=url={timestamps.url},certificate-chain={timestamps.chain}"] if timestamps else []
        services += [f"--fulcio=url=https://ca.example.com,certificate-chain={chain}"] if chain else []
        names = [*(one.port for one in (log, timestamps) if one), *([chain.parent.name] if chain else [])]
        path = self.home / f"trusted-root{''.join(f'-{name}' for name in names)}.json"
        done = self.run("trusted-root", "create", *services, "--out", str(path))
        assert done.returncode == 0, done.stderr
        return path

    def _signing_config(
        self, *, log: TransparencyLog | None = None, version: int = 1, timestamps: TimestampServer | None = None
    ) -> pathlib.Path:
        services = [
            f"--rekor=url={log.url},api-version={version},{_START},operator=test", "--rekor-config=ANY",
        ] if log else []
        services += [
            f"--tsa=url={timestamps.endpoint},api-version=1,{_START},operator=test", "--tsa-config=ANY",
        ] if timestamps else []
        names = [f"-{log.port}-{version}" if log else "", f"-{timestamps.port}" if timestamps else ""]
        path = self.home / f"signing-config{''.join(names)}.json"
        if not path.exists():
            done = self.run("signing-config", "create", *services, "--out", str(path))
            assert done.returncode == 0, done.stderr
        return path


# --- processes and servers -------------------------------------------------------------------------------------------


def free_port() -> int:
    """Return a port of 127.0.0.1 that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def process(
    command: t.Sequence[str], *, port: int, log: pathlib.Path, environment: t.Mapping[str, str] | None = None
) -> t.Iterator[subprocess.Popen[bytes]]:
    """Run a server until the block ends; it is ready when it listens on C(port)."""
    with log.open("wb") as stream:
        started = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, cwd=log.parent,
            env={**os.environ, **(environment or {})},
        )
    try:
        wait_until(
            lambda: _listens(port) or started.poll() is not None, f"{command[0]} to listen on port {port}"
        )
        assert started.poll() is None, log.read_text(errors="replace")
        yield started
    finally:
        started.terminate()
        try:
            started.wait(timeout=10)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


def wait_until(condition: t.Callable[[], object], what: str, *, seconds: float = 20.0) -> None:
    """Wait for something that other processes do."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} seconds for {what}"
        time.sleep(0.02)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Lying:
    """A server of tests/tools that can be told to lie, at C(url)."""

    def __init__(self, url: str, folder: pathlib.Path) -> None:
        self.url = url
        self.port = url.rpartition(":")[2]
        self.folder = folder

    @contextlib.contextmanager
    def lying(self, kind: str, **options: t.Any) -> t.Iterator[None]:
        """Let it lie until the block ends; see the text at the top of the program for the kinds."""
        self._ask("POST", "/fault", {"kind": kind, **options})
        try:
            yield
        finally:
            self._ask("POST", "/fault", {"kind": None})

    def requests(self) -> t.Any:
        """Return the requests that it got so far."""
        return self._ask("GET", "/requests")

    def _ask(self, method: str, path: str, document: Json | None = None) -> t.Any:
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=10)
        try:
            connection.request(method, path, json.dumps(document), {"Content-Type": "application/json"})
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        assert response.status == 200, body
        return json.loads(body)


class TransparencyLog(Lying):
    """A running transparency log: Rekor v1 and Rekor v2 at one address."""

    @property
    def key(self) -> pathlib.Path:
        """The public key of the log that speaks the protocol of Rekor v1."""
        return self.folder / "rekor.pub"

    @property
    def key2(self) -> pathlib.Path:
        """The public key of the log that speaks the protocol of Rekor v2."""
        return self.folder / "rekor2.pub"


class TimestampServer(Lying):
    """A running time-stamping authority."""

    @property
    def chain(self) -> pathlib.Path:
        """The certificates of the signer and of the root, in this order."""
        return self.folder / "chain.pem"

    @property
    def endpoint(self) -> str:
        """Where requests go to."""
        return f"{self.url}/api/v1/timestamp"


@contextlib.contextmanager
def serve_log(folder: pathlib.Path, *arguments: str) -> t.Iterator[TransparencyLog]:
    """Run a transparency log until the block ends; it keeps its keys in the folder."""
    port = free_port()
    program = [sys.executable, str(ROOT / "tests" / "tools" / "transparency_log.py")]
    command = [*program, "--port", str(port), "--directory", str(folder), *arguments]
    with process(command, port=port, log=folder / "log"):
        yield TransparencyLog(f"http://127.0.0.1:{port}", folder)


@contextlib.contextmanager
def serve_timestamps(folder: pathlib.Path, *arguments: str) -> t.Iterator[TimestampServer]:
    """Run a time-stamping authority until the block ends."""
    port = free_port()
    program = [sys.executable, str(ROOT / "tests" / "tools" / "timestamp_server.py")]
    command = [*program, "--port", str(port), "--directory", str(folder), *arguments]
    with process(command, port=port, log=folder / "log"):
        yield TimestampServer(f"http://127.0.0.1:{port}", folder)


class Answer(t.NamedTuple):
    """What a stub answers to every request: a declared length above that of the body cuts it short."""

    status: int
    headers: t.Mapping[str, str] = {}
    body: bytes = b""
    length: int | None = None


@contextlib.contextmanager
def stub_server(answer: t.Callable[[str, str], Answer]) -> t.Iterator[str]:
    """Serve C(answer(method, path)) over plain HTTP until the block ends; yield HOST:PORT."""

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            said = answer(self.command, self.path)
            self.send_response(said.status)
            for name, value in said.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(said.body) if said.length is None else said.length))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(said.body)
            self.close_connection = True

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# --- registries and images -------------------------------------------------------------------------------------------


class Registry:
    """A running registry, with a client of ours that may do everything there."""

    def __init__(self, host: str, folder: pathlib.Path, options: Json | None = None) -> None:
        self.host = host
        self.folder = folder
        # What a module needs in its option registries.
        self.options: list[Json] = [{"host": host, **options}] if options else []
        self.client = Registries(RegistrySettings(
            AuthFile("", {}), {host: HostSettings(**(options or {}))}, timeout=20.0
        ))
        self._numbers = itertools.count()

    def name(self) -> str:
        """Return a new HOST/REPO."""
        return f"{self.host}/interop/r{next(self._numbers)}"

    def image(self, text: str = "content", *, name: str | None = None, tag: str = "1") -> str:
        """Write a small image under a tag and return HOST/REPO@DIGEST."""
        repository = name or self.name()
        return str(demo_images.write_image(
            self.client, references.parse(f"{repository}:{tag}"), {"file": f"{repository} {text}".encode()}
        ))

    def index(self, children: int = 2, *, tag: str = "multi") -> tuple[str, list[str]]:
        """Write an index of small images; return it and its children, each as HOST/REPO@DIGEST."""
        name = self.name()
        images = [self.image(f"child {number}", name=name, tag=f"c{number}") for number in range(children)]
        entries = [self.client.manifest(references.parse(image)).descriptor() for image in images]
        raw = manifests.encode_index(entries)
        self.client.put_manifest(references.parse(f"{name}:{tag}"), raw, media_type=manifests.OCI_INDEX)
        return f"{name}@sha256:{hashlib.sha256(raw).hexdigest()}", images

    def sig(self, image: str) -> manifests.Manifest | None:
        """Return the .sig manifest of an image at its digest."""
        reference = references.parse(image)
        return self.client.find_manifest(reference.tagged(attachment.signature_tag(str(reference.digest))))

    def layers(self, image: str) -> list[Json]:
        """Return the layers of the .sig manifest, in their order."""
        found = self.sig(image)
        return [layer.as_json() for layer in found.layers] if found else []

    def referrers(self, image: str) -> list[str]:
        """Return the digests behind the fallback tag of an image, in their order."""
        reference = references.parse(image)
        found = self.client.find_manifest(reference.tagged(str(reference.digest).replace(":", "-")))
        return [child.digest for child in found.children] if found else []

    def put_sig(self, image: str, layers: t.Sequence[attachment.Layer], *, raw: bytes | None = None) -> None:
        """Store the .sig manifest of an image, as it may lie there: by our own client, with any layers."""
        reference = references.parse(image)
        for layer in layers:
            self.client.put_blob(reference, layer.payload)
        config = manifests.Descriptor(
            manifests.OCI_CONFIG, self.client.put_blob(reference, manifests.EMPTY_OBJECT), len(manifests.EMPTY_OBJECT)
        )
        document = raw or manifests.encode_image(config=config, layers=[layer.descriptor for layer in layers])
        self.client.put_manifest(reference.tagged(attachment.signature_tag(str(reference.digest))), document)


@contextlib.contextmanager
def serve_registry(
    folder: pathlib.Path, *, tls: Json | None = None, auth: Json | None = None, options: Json | None = None
) -> t.Iterator[Registry]:
    """Run a real docker-registry until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    config: Json = {
        "version": 0.1, "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}, "delete": {"enabled": True}},
        "http": {"addr": f"127.0.0.1:{port}", "secret": "interop"},
    }
    if tls:
        config["http"]["tls"] = tls
    if auth:
        config["auth"] = auth
    (folder / "config.yml").write_text(yaml.safe_dump(config))
    program = shutil.which("docker-registry") or "/usr/bin/docker-registry"
    with process([program, "serve", str(folder / "config.yml")], port=port, log=folder / "log"):
        yield Registry(f"127.0.0.1:{port}", folder, options)


# --- files -----------------------------------------------------------------------------------------------------------


def listing(folder: pathlib.Path) -> dict[str, tuple[object, ...]]:
    """Return every name below a folder with what would show a change: kind, mode, owner, number, time, content."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        found[str(path.relative_to(folder))] = (
            status.st_mode, status.st_uid, status.st_gid, status.st_ino, status.st_mtime_ns,
            hashlib.sha256(content).hexdigest(),
        )
    return found
