# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs Certbot for one lineage, and makes visible what came of it.

The timer calls it, and role hallmark.signing.certbot does: both see the same errors, journal and status. It needs the
standard library only, because it runs with the Python of the host. No private key is read here.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import datetime
import fcntl
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import typing as t
import urllib.parse
from dataclasses import dataclass, field

Json = dict[str, t.Any]

PRODUCTION = "https://acme-v02.api.letsencrypt.org/directory"
FORCED_LIMIT = 4
FORCED_WINDOW = 7 * 86400
# A certificate revoked for these reasons is replaced; one revoked for others may be meant to end.
REPLACED = ("keycompromise", "superseded")
LOG_BYTES = 256 * 1024
FILE_BYTES = 1024 * 1024
SENTENCE = 1200
CERTBOT_SECONDS = 3600
BUSY = "Another instance of Certbot is already running"


class JobError(Exception):
    """What could not be done, as a sentence for people."""


# --- files -----------------------------------------------------------------------------------------------------------


def read(path: str) -> bytes | None:
    """Return the content of a file, or None where there is none."""
    try:
        with open(path, "rb") as stream:
            data = stream.read(FILE_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise JobError(f"{path}: could not be read: {error.strerror}.") from error
    if len(data) > FILE_BYTES:
        raise JobError(f"{path}: could not be read: it is larger than {FILE_BYTES} bytes.")
    return data


def write(path: str, data: bytes, *, mode: int = 0o644) -> None:
    """Write a file that is there whole or not at all."""
    folder = os.path.dirname(path)
    descriptor, name = tempfile.mkstemp(prefix=".new-", dir=folder)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


def read_json(path: str) -> Json:
    """Return the JSON object in a file, or an empty one where there is none."""
    data = read(path)
    if data is None:
        return {}
    try:
        document = json.loads(data)
    except ValueError as error:
        raise JobError(f"{path}: could not be read as JSON: {error}. Move it away, and run again.") from error
    if not isinstance(document, dict):
        raise JobError(f"{path}: could not be used: it is no JSON object. Move it away, and run again.")
    return document


def write_json(path: str, document: Json) -> None:
    """Write a JSON object, for people and programs."""
    write(path, (json.dumps(document, indent=2, sort_keys=True) + "\n").encode())


def timestamp(moment: float) -> str:
    """Return a moment as RFC 3339 has it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


# --- certificates ----------------------------------------------------------------------------------------------------

_EXTENSION_REQUEST = bytes.fromhex("2a864886f70d01090e")
_SUBJECT_ALTERNATIVE_NAME = bytes.fromhex("551d11")


class Der(t.NamedTuple):
    """One element of DER: its tag, its content, and all its bytes."""

    tag: int
    content: bytes
    whole: bytes


def elements(data: bytes) -> list[Der]:
    """Return the elements that stand one after another, as far as certificates need it."""
    found, at = [], 0
    while at < len(data):
        start, tag = at, data[at]
        length, at = data[at + 1], at + 2
        if length >= 0x80:
            size = length & 0x7F
            if not 1 <= size <= 4:
                raise ValueError("an element has no usable length")
            length, at = int.from_bytes(data[at:at + size], "big"), at + size
        if at + length > len(data):
            raise ValueError("an element ends after its file")
        found.append(Der(tag, data[at:at + length], data[start:at + length]))
        at += length
    return found


@dataclass(frozen=True)
class Certificate:
    """What this program must know of a certificate."""

    fingerprint: str
    serial: str
    key_id: str
    not_before: float
    not_after: float
    names: tuple[str, ...]

    def remaining(self, now: float) -> float:
        """Return the share of its lifetime that is left."""
        return (self.not_after - now) / max(self.not_after - self.not_before, 1.0)


def certificate(path: str) -> Certificate | None:
    """Return the first certificate of a file, or None where there is no file."""
    data = read(path)
    if data is None:
        return None
    try:
        return _certificate(_der(data, "CERTIFICATE"))
    except (ValueError, IndexError, OverflowError) as error:
        raise JobError(f"{path}: could not be read as a certificate: {error}.") from error


def _certificate(der: bytes) -> Certificate:
    fields = elements(elements(elements(der)[0].content)[0].content)
    fields = fields[1:] if fields[0].tag == 0xA0 else fields
    begin, end = elements(fields[3].content)[:2]
    extensions = [one for one in fields[6:] if one.tag == 0xA3]
    return Certificate(
        fingerprint=hashlib.sha256(der).hexdigest(), serial=fields[0].content.lstrip(b"\0").hex(),
        key_id=hashlib.sha256(fields[5].whole).hexdigest(), not_before=_moment(begin), not_after=_moment(end),
        names=_names(elements(extensions[0].content)[0].content) if extensions else (),
    )


def request(path: str) -> tuple[str, tuple[str, ...]]:
    """Return the key id and the names of a certificate request."""
    data = read(path)
    if data is None:
        raise JobError(f"{path}: could not be read: there is no certificate request. Make it where its key is.")
    try:
        fields = elements(elements(elements(_der(data, "CERTIFICATE REQUEST"))[0].content)[0].content)
        names: tuple[str, ...] = ()
        for attribute in elements(fields[3].content) if len(fields) > 3 else ():
            name, values = elements(attribute.content)[:2]
            if name.content == _EXTENSION_REQUEST:
                names = _names(elements(values.content)[0].content)
        return hashlib.sha256(fields[2].whole).hexdigest(), names
    except (ValueError, IndexError) as error:
        raise JobError(f"{path}: could not be read as a certificate request: {error}.") from error


def _der(data: bytes, kind: str) -> bytes:
    found = re.search(rb"-----BEGIN (NEW )?" + kind.encode() + rb"-----([^-]*)-----END ", data)
    if found is None and data[:1] != b"\x30":
        raise ValueError(f"there is no {kind.lower()} in it")
    return base64.b64decode(found[2]) if found else data


def _moment(element: Der) -> float:
    text = element.content.decode("ascii")
    if element.tag == 0x17:
        text = ("20" if int(text[:2]) < 50 else "19") + text
    moment = datetime.datetime.strptime(text, "%Y%m%d%H%M%SZ")
    return moment.replace(tzinfo=datetime.timezone.utc).timestamp()


def _names(extensions: bytes) -> tuple[str, ...]:
    for extension in elements(extensions):
        parts = elements(extension.content)
        if parts[0].content == _SUBJECT_ALTERNATIVE_NAME:
            names = elements(elements(parts[-1].content)[0].content)
            return tuple(sorted(name.content.decode("ascii") for name in names if name.tag == 0x82))
    return ()


# --- what went wrong -------------------------------------------------------------------------------------------------

_BOILERPLATE = re.compile(
    r"Saving debug log to|Ask for help|See the logfile|Processing |[- ]*$|Requesting a certificate|"
    r"Renewing an existing|An unexpected error occurred|AttributeError: can't set attribute|Plugins selected|"
    r"Account registered"
)
_PROBLEM = re.compile(r'\{\s*"type":\s*"urn:ietf:params:acme:error:')
_RAISED = re.compile(r"acme\.messages\.Error: (urn:ietf:params:acme:error:\w+)((?: :: [^\n]{1,600}){1,2})")


def clean(text: str, *, most: int = SENTENCE) -> str:
    """Return text as one line that is safe to show: nothing that steers a terminal, nothing long that looks secret."""
    text = re.sub(r"-----BEGIN.*?(-----END [A-Z ]*-----|\Z)", "(left out)", text, flags=re.DOTALL)
    text = "".join(char if char.isprintable() else " " for char in text)
    text = re.sub(r"[A-Za-z0-9+/_=-]{65,}", "(left out)", text)
    text = " ".join(text.split())
    return text if len(text) <= most else text[:most - 1] + "…"


def server_errors(log: str) -> list[str]:
    """Return the errors of the ACME server in a log, each once, the last ones."""
    found: list[str] = []
    for match in _PROBLEM.finditer(log):
        with contextlib.suppress(ValueError):
            problem = json.JSONDecoder().raw_decode(log, match.start())[0]
            found.append(f"{problem['type']}: {problem.get('detail') or 'no detail'}")
    if not found:
        found = [f"{match[1]}: {match[2].rpartition(' :: ')[2]}" for match in _RAISED.finditer(log)]
    texts = [clean(text, most=500) for text in found if ":badNonce:" not in text]
    return list(dict.fromkeys(texts))[-3:]


def sentence(output: str, log: str) -> str:
    """Say why Certbot failed: what the server answered, then what Certbot made of it."""
    errors = server_errors(log)
    waits = re.findall(r"^Retry-After: ([^\r\n]{1,60})", log, re.MULTILINE)
    if waits and any(":rateLimited:" in text for text in errors):
        errors.append(f"Retry-After: {clean(waits[-1], most=60)}")
    said = [line.strip() for line in output.splitlines() if not _BOILERPLATE.match(line.strip())]
    parts = [f"the server answered {' / '.join(errors)}"] if errors else []
    if said:
        parts.append(f"Certbot said {clean(' / '.join(said[-8:]), most=600)}")
    return clean("; ".join(parts).rstrip(".")) or "Certbot said nothing"


# --- settings, journal, status ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """What the role wrote down about one lineage."""

    path: str
    values: Json

    @classmethod
    def load(cls, path: str) -> Settings:
        """Read the settings of a lineage."""
        values = read_json(path)
        if not values:
            raise JobError(f"{path}: could not be read: there is no such file. Run role hallmark.signing.certbot.")
        return cls(path, values)

    def __getattr__(self, name: str) -> t.Any:
        try:
            return self.values[name]
        except KeyError as error:
            raise JobError(f"{self.path}: {name} is missing. Run role hallmark.signing.certbot again.") from error

    def beside(self, end: str) -> str:
        """Return the path of a file of this lineage in the folder of the settings."""
        return os.path.join(os.path.dirname(self.path), f"{self.lineage}.{end}")

    @property
    def live(self) -> str:
        """Return the folder of the current certificate."""
        return os.path.dirname(str(self.fullchain))

    @property
    def leaf(self) -> str:
        """Return the path of the current certificate."""
        return str(self.csr["certificate"] if self.csr else os.path.join(self.live, "cert.pem"))

    @property
    def folders(self) -> list[str]:
        """Return the arguments for Certbot's folders."""
        return [
            "--config-dir", self.config_dir, "--work-dir", self.work_dir, "--logs-dir", self.logs_dir,
        ]

    def older_than(self, *version: int) -> bool:
        """Say whether the installed Certbot is older."""
        return tuple(int(part) for part in re.findall(r"\d+", self.version)[:2]) < version

    @contextlib.contextmanager
    def lock(self) -> t.Iterator[None]:
        """Wait until no other run of this program works on the lineage."""
        with open(self.beside("lock"), "w", encoding="ascii") as stream:
            for wait in [*self.busy_waits, None]:
                try:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if wait is None:
                        raise JobError(f"{self.lineage}: another run of this program does not end.") from error
                    time.sleep(wait)
            yield


@dataclass
class Journal:
    """What was forced, and what was revoked: neither can be seen in Certbot's own files."""

    path: str
    forced: list[Json] = field(default_factory=list)
    revoked: dict[str, Json] = field(default_factory=dict)

    @classmethod
    def load(cls, settings: Settings) -> Journal:
        """Read the journal of a lineage; there need not be one."""
        path = settings.beside("journal")
        document = read_json(path)
        return cls(path, list(document.get("forced", [])), dict(document.get("revoked", {})))

    def save(self, now: float) -> None:
        """Write it, without what is too old to matter."""
        self.forced = [entry for entry in self.forced if entry["at"] > now - FORCED_WINDOW]
        write_json(self.path, {"forced": self.forced, "revoked": self.revoked})

    def compromised(self, key_id: str) -> bool:
        """Say whether a certificate of this key was revoked because somebody else may have the key."""
        return any(entry["key_id"] == key_id and entry["reason"] == "keycompromise" for entry in self.revoked.values())

    def to_replace(self, current: Certificate | None) -> bool:
        """Say whether the current certificate was revoked by us, and needs a successor."""
        entry = self.revoked.get(current.fingerprint) if current else None
        return bool(entry and entry["reason"] in REPLACED)

    def forcing(self, server: str, work: t.Callable[[], Report]) -> Report:
        """Force a renewal, and remember it: before it is done, because the run may be killed."""
        self.forced.append({"at": time.time(), "server": server})
        self.save(time.time())
        report = work()
        if not report.changed:
            self.forced.pop()
            self.save(time.time())
        return report

    def refusal(self, server: str, now: float) -> str:
        """Say why no further renewal may be forced now, if so."""
        recent = sorted(
            entry["at"] for entry in self.forced if entry["server"] == server and entry["at"] > now - FORCED_WINDOW
        )
        if server != PRODUCTION or len(recent) < FORCED_LIMIT:
            return ""
        return (
            f"{len(recent)} renewals were forced in the last 7 days, and Let's Encrypt blocks a set of names after 5. "
            f"The next one may be forced at {timestamp(recent[-FORCED_LIMIT] + FORCED_WINDOW)}; "
            "a renewal that is due needs no force"
        )


def digest(path: str) -> str:
    """Return the SHA-256 of a file, or an empty text where there is none."""
    data = read(path)
    return hashlib.sha256(data).hexdigest() if data is not None else ""


def deployed(settings: Settings) -> bool:
    """Say whether the deploy hook succeeded for the current certificate."""
    mark = read(settings.marker) or b""
    return mark.split()[:1] == [digest(settings.fullchain).encode()]


def record(
    settings: Settings, now: float, *, attempt: bool = False, error: str = "", hook_error: str = "",
    hooks_due: list[str] | None = None,
) -> None:
    """Write down what is: after an attempt to renew, with its error, or because of deploy hooks only."""
    path = settings.beside("status")
    # A status that cannot be read is worth less than the one that is written now.
    before: Json = {}
    with contextlib.suppress(JobError):
        before = read_json(path)
    status: Json = {
        "last_attempt": None, "last_success": None, "renewal_ok": True, "error": "", "hook_error": "", "hooks_due": [],
        **before, **({} if hooks_due is None else {"hooks_due": hooks_due}),
    }
    if attempt:
        status.update(last_attempt=timestamp(now), renewal_ok=not error, error=error)
        if not error:
            status["last_success"] = timestamp(now)
    current = certificate(settings.leaf)
    hook_ok = current is not None and deployed(settings) and not status["hooks_due"]
    status.update(
        lineage=settings.lineage, server=settings.server, hook_ok=hook_ok, ok=status["renewal_ok"] and hook_ok,
        hook_error="" if hook_ok else hook_error or status["hook_error"],
        certificate=current and {
            "serial": current.serial, "key_id": current.key_id, "names": current.names,
            "not_before": timestamp(current.not_before), "not_after": timestamp(current.not_after),
        },
    )
    write_json(path, status)
    if settings.metrics_path:
        write(settings.metrics_path, metrics(status, current).encode())


def metrics(status: Json, current: Certificate | None) -> str:
    """Return the status in the text format that node exporters collect."""
    lineage = json.dumps(status["lineage"])
    rows: list[tuple[str, str, float]] = [
        ("renewal_ok", "Whether the last attempt to renew succeeded, or nothing was due.", float(status["renewal_ok"])),
        ("deploy_hook_ok", "Whether deploy hooks succeeded for this certificate.", float(status["hook_ok"])),
    ]
    moments = (("last_attempt", "When a renewal was last tried."), ("last_success", "When that last went well."))
    for name, text in moments:
        if status[name]:
            moment = datetime.datetime.strptime(status[name], "%Y-%m-%dT%H:%M:%SZ")
            rows.append((f"{name}_timestamp_seconds", text, moment.replace(tzinfo=datetime.timezone.utc).timestamp()))
    if current:
        rows.append(("certificate_not_after_timestamp_seconds", "When the certificate ends.", current.not_after))
    return "".join(
        f"# HELP hallmark_certbot_{name} {text}\n# TYPE hallmark_certbot_{name} gauge\n"
        f"hallmark_certbot_{name}{{lineage={lineage}}} {value:.0f}\n" for name, text, value in rows
    )


# --- Certbot ---------------------------------------------------------------------------------------------------------


class Done(t.NamedTuple):
    """What came of one run of Certbot."""

    status: int
    error: str
    log: str = ""


def certbot(settings: Settings, *arguments: str, descriptors: t.Sequence[int] = ()) -> Done:
    """Run Certbot; it is tried again only where another instance of it was at work."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    if settings.ca_path:
        environment["REQUESTS_CA_BUNDLE"] = settings.ca_path
    command = [settings.certbot, arguments[0], "--non-interactive", *settings.folders, *arguments[1:]]
    for wait in [*settings.busy_waits, None]:
        begun = time.time()
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment,
                timeout=CERTBOT_SECONDS, check=False, pass_fds=descriptors,
            )
        except subprocess.TimeoutExpired:
            return Done(1, f"Certbot did not end within {CERTBOT_SECONDS} seconds")
        except OSError as error:
            return Done(1, f"{settings.certbot} could not be run: {error.strerror}")
        output = done.stdout[-LOG_BYTES:].decode("utf-8", "replace")
        if not done.returncode or BUSY not in output or wait is None:
            break
        time.sleep(wait)
    # The log of another instance says nothing about this one.
    busy = done.returncode and BUSY in output
    log = "" if busy else _log_since(os.path.join(settings.logs_dir, "letsencrypt.log"), begun)
    return Done(done.returncode, sentence(output, log) if done.returncode else "", log)


def _log_since(path: str, begun: float) -> str:
    try:
        with open(path, "rb") as stream:
            status = os.fstat(stream.fileno())
            # File systems may keep coarser times than the clock.
            if status.st_mtime < begun - 2:
                return ""
            stream.seek(max(status.st_size - LOG_BYTES, 0))
            return stream.read(LOG_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""


def run_hook(path: str, **environment: str) -> tuple[int, str]:
    """Run a hook of the role; return its exit status and the end of what it said."""
    done = subprocess.run(
        [path], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, **environment}, check=False,
    )
    return done.returncode, clean(done.stdout[-4096:].decode("utf-8", "replace"))


# --- the commands ----------------------------------------------------------------------------------------------------


@dataclass
class Report:
    """What a command did; this is what the role reads."""

    changed: bool = False
    error: str = ""
    notes: list[str] = field(default_factory=list)
    status: int = 0
    # Whether a server was asked, or would have been, if that had been needed.
    tried: bool = True
    # Deploy hooks of others that are still to be run for a new certificate.
    hooks_due: list[str] | None = None

    def fail(self, error: str, status: int = 1) -> Report:
        """Return it as that of a command that failed."""
        self.error, self.status = error, status
        return self


def register(settings: Settings) -> Report:
    """Register the account with an external account binding, unless there is an account."""
    parts = urllib.parse.urlsplit(settings.server)
    accounts = os.path.join(settings.config_dir, "accounts", parts.netloc, parts.path.strip("/"))
    with contextlib.suppress(FileNotFoundError):
        if any(os.path.exists(os.path.join(accounts, name, "regr.json")) for name in os.listdir(accounts)):
            return Report()
    key = _binding_key(settings.eab["hmac_key_path"])
    # Arguments can be read by everybody, and a file outlives a crash. This one has no name, and ends with its readers.
    descriptor = os.memfd_create("certbot.ini", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(f"eab-kid = {settings.eab['kid']}\neab-hmac-key = {key}\n".encode())
        stream.flush()
        done = certbot(
            settings, "register", "--agree-tos", "--server", settings.server, *settings.account,
            "--config", f"/dev/fd/{descriptor}", descriptors=[descriptor],
        )
    report = Report(changed=not done.status)
    return report.fail(done.error.replace(key, "(left out)")) if done.status else report


def _binding_key(path: str) -> str:
    data = read(path)
    if data is None:
        raise JobError(f"{path}: could not be read: there is no such file. Write the server's HMAC key to it.")
    if os.stat(path).st_mode & 0o027:
        raise JobError(f"{path}: could not be used: others may read or change it. Make its mode 0600.")
    key = data.decode("ascii", "replace").strip()
    if not re.fullmatch(r"[A-Za-z0-9_-]+=*", key):
        raise JobError(f"{path}: could not be used: it does not hold one HMAC key in base64url, and nothing else.")
    return key


def issue(settings: Settings) -> Report:
    """Obtain the certificate, if there is none, or another one is wanted."""
    with settings.lock():
        report = _attempt(settings, lambda: _request(settings) if settings.csr else _issue(settings))
        # It is no renewal that nothing was to be done.
        if report.tried:
            record(settings, time.time(), attempt=True, error=report.error, hooks_due=report.hooks_due)
        return report


def renew(settings: Settings, *, forced: bool = False) -> Report:
    """Renew the certificate if it is due, was revoked, or must be renewed."""
    with settings.lock():
        refusal = Journal.load(settings).refusal(kept_server(settings), time.time()) if forced else ""
        if refusal:
            return Report().fail(refusal)
        report = _attempt(
            settings, lambda: _request(settings, forced=forced) if settings.csr else _renew(settings, forced=forced)
        )
        record(settings, time.time(), attempt=True, error=report.error, hooks_due=report.hooks_due)
        return report


def _attempt(settings: Settings, work: t.Callable[[], Report]) -> Report:
    try:
        return work()
    except (JobError, OSError) as error:
        return Report().fail(clean(str(error)))


def _issue(settings: Settings) -> Report:
    journal, current = Journal.load(settings), certificate(settings.leaf)
    arguments: list[str] = []
    if current:
        moved = kept_server(settings) != settings.server
        if list(current.names) == sorted(settings.domains) and not moved:
            return Report(tried=False)
        arguments += ["--force-renewal"] if moved else []
        arguments += ["--new-key"] if journal.compromised(current.key_id) else []
    return _obtain(
        settings, "certonly", "--agree-tos", "--server", settings.server, "--cert-name", settings.lineage,
        "--renew-with-new-domains", "--reuse-key" if settings.reuse_key else "--no-reuse-key", *settings.account,
        *settings.key, *settings.authenticator["arguments"], *settings.profile, *arguments,
        *(word for name in settings.domains for word in ("-d", name)), *settings.extra_arguments,
    )


def _renew(settings: Settings, *, forced: bool) -> Report:
    journal, current = Journal.load(settings), certificate(settings.leaf)
    arguments = ["renew", "--cert-name", settings.lineage, "--no-random-sleep-on-renew", *settings.profile]
    if current and journal.compromised(current.key_id):
        # Else the lineage would keep the key that somebody else may have.
        arguments += ["--new-key", *settings.key]
    if forced or journal.to_replace(current):
        return journal.forcing(kept_server(settings), lambda: _obtain(settings, *arguments, "--force-renewal"))
    return _obtain(settings, *arguments)


def _obtain(settings: Settings, *arguments: str) -> Report:
    """Run Certbot to obtain a certificate, with the hooks that this version would leave out."""
    notes = []
    by_hand = arguments[0] == "certonly" and settings.older_than(3, 2)
    if by_hand and settings.pre_hook:
        status, said = run_hook(settings.pre_hook)
        notes += [f"{settings.pre_hook}: failed with status {status}: {said}"] if status else []
    before = digest(settings.fullchain)
    done = certbot(settings, *arguments)
    if by_hand and settings.post_hook:
        status, said = run_hook(settings.post_hook)
        notes += [f"{settings.post_hook}: failed with status {status}: {said}"] if status else []
    report = Report(changed=digest(settings.fullchain) != before, notes=notes)
    if report.changed:
        left_out = arguments[0] == "certonly" and settings.older_than(5, 3)
        report.hooks_due = other_hooks(settings) if left_out else failed_hooks(settings, done.log)
    return report.fail(done.error, done.status) if done.status else report


def other_hooks(settings: Settings) -> list[str]:
    """Return the deploy hooks that are not the role's own, such as that of role signer."""
    folder = os.path.dirname(settings.hook)
    with contextlib.suppress(OSError):
        paths = [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if not name.endswith("~")]
        return [path for path in paths if path != settings.hook and os.path.isfile(path) and os.access(path, os.X_OK)]
    return []


def failed_hooks(settings: Settings, log: str) -> list[str]:
    """Return those of them that Certbot ran, and that failed; Certbot itself makes nothing of it."""
    failed, command = set(), ""
    for line in log.splitlines():
        begun = re.search(r":Running deploy-hook command: (.+)$", line)
        command = begun[1] if begun else command
        if re.search(r":Hook 'deploy-hook' reported error code \d+", line):
            failed.add(command)
    return [path for path in other_hooks(settings) if path in failed]


def _request(settings: Settings, *, forced: bool = False) -> Report:
    """Obtain a certificate for a request whose key is elsewhere. Certbot keeps no lineage of these."""
    journal, current = Journal.load(settings), certificate(settings.leaf)
    path = settings.csr["path"]
    key_id, names = request(path)
    if names and list(names) != sorted(settings.domains):
        raise JobError(f"{path}: is a request for {', '.join(names)}, not for certbot_domains.")
    if journal.compromised(key_id):
        raise JobError(f"{path}: its key was revoked as compromised. Make a new key and a new request.")
    wanted = (key_id, tuple(sorted(settings.domains)))
    if current is None or (current.key_id, current.names) != wanted or certificate(settings.fullchain) != current:
        return _laid_out(settings, key_id)
    if forced or journal.to_replace(current):
        return journal.forcing(settings.server, lambda: _laid_out(settings, key_id))
    due = current.remaining(time.time()) < settings.csr["renew_at"]
    return _laid_out(settings, key_id) if due else Report(tried=False)


def _laid_out(settings: Settings, key_id: str) -> Report:
    """Obtain the certificate in a folder of its own, because Certbot numbers files that exist; then put it in place."""
    with tempfile.TemporaryDirectory(prefix=f"{settings.lineage}.csr-", dir=os.path.dirname(settings.path)) as folder:
        made = {name: os.path.join(folder, f"{name}.pem") for name in ("chain", "certificate", "fullchain")}
        report = _obtain(
            settings, "certonly", "--agree-tos", "--server", settings.server, *settings.account,
            *settings.authenticator["arguments"], *settings.profile, *settings.extra_arguments,
            "--csr", settings.csr["path"], "--cert-path", made["certificate"], "--chain-path", made["chain"],
            "--fullchain-path", made["fullchain"],
        )
        if report.status:
            return report
        obtained = certificate(made["certificate"])
        if obtained is None or obtained.key_id != key_id:
            return report.fail(f"{settings.csr['path']}: the server made a certificate for another key.")
        for name, path in made.items():
            os.makedirs(os.path.dirname(settings.csr[name]), mode=0o755, exist_ok=True)
            write(settings.csr[name], read(path) or b"")
    report.changed, report.hooks_due = True, other_hooks(settings)
    return report


def deploy(settings: Settings) -> Report:
    """Run the deploy hooks that did not succeed for the current certificate, or were not run."""
    with settings.lock():
        if not digest(settings.fullchain):
            raise JobError(f"{settings.fullchain}: there is no certificate to deploy.")
        known = read_json(settings.beside("status")).get("hooks_due", [])
        due = [path for path in other_hooks(settings) if path in known]
        report, errors, still_due = Report(), [], []
        for path in [*([] if deployed(settings) else [settings.hook]), *due]:
            report.changed = True
            status, said = run_hook(path, RENEWED_LINEAGE=settings.live, RENEWED_DOMAINS=" ".join(settings.domains))
            if status or (path == settings.hook and not deployed(settings)):
                errors.append(f"the deploy hook {path} failed with status {status}: {said or 'it said nothing'}")
                report.status = report.status or status or 1
                still_due += [] if path == settings.hook else [path]
        report.error = "; ".join(errors)
        record(settings, time.time(), hook_error=report.error, hooks_due=still_due)
        return report


def scheduled(settings: Settings) -> Report:
    """Do what the timer is there for."""
    renewed = renew(settings)
    deployment = deploy(settings) if digest(settings.fullchain) else Report()
    report = Report(renewed.changed or deployment.changed, notes=renewed.notes)
    errors = [f"could not renew: {renewed.error}" if renewed.error else "", deployment.error]
    return report.fail("; ".join(filter(None, errors))) if any(errors) else report


# --- renewal configuration -------------------------------------------------------------------------------------------


def renewal_parameters(settings: Settings) -> dict[str, str]:
    """Return what Certbot keeps for renewals of the lineage; the folders of a webroot by C(webroot_map NAME)."""
    section, found = "", {}
    for line in (read(_renewal_path(settings)) or b"").decode("utf-8", "replace").splitlines():
        name, equals, value = line.partition("=")
        if line.lstrip().startswith("["):
            section = line.strip(" []")
        elif equals and section in ("renewalparams", "webroot_map"):
            prefix = "" if section == "renewalparams" else f"{section} "
            found[prefix + name.strip()] = _unquoted(value.strip())
    return found


def _unquoted(value: str) -> str:
    mark = next((mark for mark in ('"""', "'''", '"', "'") if value.startswith(mark) and value.endswith(mark)), "")
    return value[len(mark):-len(mark)] if mark else value


def kept_server(settings: Settings) -> str:
    """Return the server that the certificate is from, and is renewed by."""
    server: str = settings.server
    return server if settings.csr else renewal_parameters(settings).get("server", server)


def _renewal_path(settings: Settings) -> str:
    return os.path.join(settings.config_dir, "renewal", f"{settings.lineage}.conf")


def configure(settings: Settings) -> Report:
    """Bring what Certbot keeps for renewals in line with the settings."""
    with settings.lock():
        report = Report(notes=_notes(settings))
        kept = renewal_parameters(settings)
        wanted = {**settings.authenticator["kept"], "reuse_key": str(settings.reuse_key)}
        # What is usual is not written down by Certbot.
        usual = {"reuse_key": "False", "http01_port": "80"}
        if settings.csr or not kept or all(
            kept.get(name, usual.get(name, "")).rstrip(",") == value for name, value in wanted.items()
        ):
            return report
        if settings.older_than(2, 3):
            _edit(_renewal_path(settings), wanted)
            report.changed = True
            return report
        done = certbot(
            settings, "reconfigure", "--cert-name", settings.lineage, "--agree-tos",
            *settings.authenticator["arguments"], "--reuse-key" if settings.reuse_key else "--no-reuse-key",
        )
        report.changed = not done.status
        return report.fail(done.error) if done.status else report


def _edit(path: str, wanted: dict[str, str]) -> None:
    """Change the file of a Certbot that cannot do it itself."""
    lines, section, kept = (read(path) or b"").decode().splitlines(), "", []
    flat = {name: value for name, value in wanted.items() if not name.startswith("webroot_map ")}
    mapped = {name.partition(" ")[2]: value for name, value in wanted.items() if name.startswith("webroot_map ")}
    for line in lines:
        if line.lstrip().startswith("["):
            section = line.strip(" []")
        name = line.partition("=")[0].strip()
        if section == "webroot_map" or (section == "renewalparams" and name in flat):
            continue
        kept.append(line)
        if section == "renewalparams" and line.lstrip().startswith("["):
            kept += [f"{name} = {_quoted(value)}" for name, value in flat.items()]
    kept += ["[[webroot_map]]", *(f"{name} = {_quoted(value)}" for name, value in mapped.items())] if mapped else []
    write(path, ("\n".join(kept) + "\n").encode())


def _quoted(value: str) -> str:
    if not re.search(r"[,#\"']", value):
        return value
    return f"'{value}'" if '"' in value else f'"{value}"'


def _stems(folder: str, end: str) -> set[str]:
    with contextlib.suppress(OSError):
        return {name[:-len(end)] for name in os.listdir(folder) if name.endswith(end)}
    return set()


def _notes(settings: Settings) -> list[str]:
    """Return what an administrator should know about this host."""
    notes = []
    copies = os.path.join(settings.config_dir, "keys")
    with contextlib.suppress(OSError):
        count = len([name for name in os.listdir(copies) if name.endswith("_key-certbot.pem")])
        if count:
            notes.append(f"{copies}: holds {count} more copies of private keys; Certbot before 2.3 keeps one of each.")
    ours = _stems(os.path.dirname(settings.path), ".settings")
    others = sorted(_stems(os.path.join(settings.config_dir, "renewal"), ".conf") - ours)
    if others and settings.exclusive:
        notes.append(f"these lineages are renewed by nobody now, as this role did not make them: {', '.join(others)}.")
    kept = renewal_parameters(settings).get("key_type")
    if kept and kept != settings.key[1]:
        notes.append(f"{settings.lineage}: its key is of type {kept}; certbot_key_type counts for the next new key.")
    return notes


# --- revocation, and looking back ------------------------------------------------------------------------------------


def revoke(settings: Settings, *, reason: str, key_id: str) -> Report:
    """Revoke the current certificate; if its key is compromised, all that are valid for this key."""
    with settings.lock():
        journal, current = Journal.load(settings), certificate(settings.leaf)
        wanted = key_id or (current.key_id if current else "")
        compromised = reason == "keycompromise"
        todo = {
            one.fingerprint: (one, path) for path in _certificates(settings) for one in [certificate(path)]
            if one and one.key_id == wanted and one.not_after > time.time() and (compromised or one == current)
        }
        if not todo and not any(entry["key_id"] == wanted for entry in journal.revoked.values()):
            raise JobError(f"there is no valid certificate of key {wanted or '(none)'} to revoke.")
        report = Report()
        for fingerprint, (one, path) in todo.items():
            if fingerprint in journal.revoked:
                continue
            error = _revoke(settings, path, reason)
            if error:
                return report.fail(f"{path}: {error}")
            # One at a time, because this run may be killed.
            journal.revoked[fingerprint] = {
                "serial": one.serial, "key_id": one.key_id, "reason": reason, "at": timestamp(time.time()),
            }
            journal.save(time.time())
            report.changed = True
        return report


def _certificates(settings: Settings) -> list[str]:
    """Return the paths of all certificates of the lineage, with the current one last."""
    if settings.csr:
        return [settings.leaf]
    folder = os.path.join(settings.config_dir, "archive", settings.lineage)
    with contextlib.suppress(OSError):
        names = [name for name in os.listdir(folder) if re.fullmatch(r"cert[0-9]+\.pem", name)]
        return [os.path.join(folder, name) for name in sorted(names, key=lambda name: int(name[4:-4]))]
    return []


def _revoke(settings: Settings, path: str, reason: str) -> str:
    """Revoke one certificate; return what went wrong."""
    key = os.path.join(os.path.dirname(path), f"privkey{re.sub('[^0-9]', '', os.path.basename(path))}.pem")
    # A server that is shown the key itself blocks it for good.
    proof = ["--key-path", key] if reason == "keycompromise" and not settings.csr and os.path.exists(key) else []
    done = certbot(
        settings, "revoke", "--server", settings.server, "--cert-path", path, *proof, "--reason", reason,
        "--no-delete-after-revoke",
    )
    already = ":alreadyRevoked" in done.error or "already been revoked" in done.error
    return "" if already else done.error


def check(settings: Settings) -> Report:
    """Say what is wrong with the lineage, without touching anything."""
    now, status, current = time.time(), read_json(settings.beside("status")), certificate(settings.leaf)
    wrong = []
    if current is None:
        wrong.append(f"there is no certificate {settings.leaf}")
    elif current.not_after <= now:
        wrong.append(f"its certificate ended at {timestamp(current.not_after)}")
    elif current.remaining(now) < 0.25:
        wrong.append(f"less than a quarter of its certificate's lifetime is left, until {timestamp(current.not_after)}")
    if current and current.fingerprint in Journal.load(settings).revoked:
        wrong.append("its certificate was revoked, and not replaced yet")
    if not status.get("renewal_ok", True):
        wrong.append(f"the renewal at {status['last_attempt']} failed: {status['error']}")
    due = [*([] if deployed(settings) else [settings.hook]), *status.get("hooks_due", [])]
    if current and due:
        wrong.append(status.get("hook_error") or f"the deploy hook {' and '.join(due)} did not succeed for it")
    return Report().fail("; ".join(wrong)) if wrong else Report()


# --- the program -----------------------------------------------------------------------------------------------------


def run_scheduled(folder: str) -> int:
    """Renew every lineage of a folder; what fails does not stop the others."""
    failed = False
    for lineage in sorted(_stems(folder, ".settings")):
        try:
            report = scheduled(Settings.load(os.path.join(folder, f"{lineage}.settings")))
            messages, failed = [*report.notes, report.error], failed or bool(report.error)
        except (JobError, OSError) as error:
            messages, failed = [str(error)], True
        for message in filter(None, messages):
            print(f"{lineage}: {message}", file=sys.stderr)
    return int(failed)


def run(arguments: argparse.Namespace) -> int:
    """Run one command for the role, and print its report."""
    try:
        settings = Settings.load(arguments.path)
        options: Json = {
            "renew": {"forced": arguments.force}, "revoke": {"reason": arguments.reason, "key_id": arguments.key_id},
        }.get(arguments.command, {})
        report = COMMANDS[arguments.command](settings, **options)
    except (JobError, OSError) as error:
        report = Report().fail(clean(str(error)))
    document = {"changed": report.changed, "error": report.error.rstrip("."), "notes": report.notes}
    print(json.dumps(document, sort_keys=True))
    return report.status


COMMANDS: dict[str, t.Callable[..., Report]] = {
    "register": register, "issue": issue, "configure": configure, "deploy": deploy, "renew": renew, "revoke": revoke,
    "check": check,
}


def main() -> int:
    """Run the command that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=[*COMMANDS, "scheduled"])
    parser.add_argument("path", help="settings of a lineage; with scheduled, the folder of all settings")
    parser.add_argument("--force", action="store_true", help="renew although it is not due")
    parser.add_argument("--reason", default="unspecified", help="why a certificate is revoked")
    parser.add_argument("--key-id", default="", help="revoke certificates of this key only")
    arguments = parser.parse_args()
    return run_scheduled(arguments.path) if arguments.command == "scheduled" else run(arguments)


if __name__ == "__main__":
    sys.exit(main())
