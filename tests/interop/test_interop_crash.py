# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private files and sudden ends: modules are killed at, and refused, every system call on their destination.

Method: strace writes down an undisturbed run. Then the run is repeated once for each call, in a new folder, and
strace sends SIGKILL as that call begins, so that it does not happen. To be killed after a call is to be killed at
the next one; the last in the list is therefore the one after the write. Where Linux would refuse a call, strace
does it in the same way, with an error instead of the signal.

What a killed process cannot show is what a power cut does to bytes that were never synced: the trace shows it.
"""

from __future__ import annotations

import json
import os
import pathlib
import queue
import re
import shutil
import signal
import stat
import subprocess
import sys
import typing as t
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._keys import pem, private_key
from cryptography.hazmat.primitives import serialization
from interop_tools import PASSWORD, Ansible, Json, Task, listing

if t.TYPE_CHECKING:
    from conftest import KeyFiles

_FILTER = "trace=%file,%desc"
_CALL = re.compile(r"^(?P<name>\w+)\((?P<args>.*?)(?:\)\s+= (?P<result>.*)|\s*<unfinished \.\.\.>)$")
_NAME = re.compile(r'(?:<(?P<folder>[^>]*)>(?:\(deleted\))?)?(?:(?:, |^)"(?P<name>[^"]*)")?')
_PACKAGE = "ansible_collections.hallmark.signing.plugins.modules"
_TEMPORARY = re.compile(r"\.(?P<name>.+)\.hallmark-new")
# Who a file is handed to: root can give files away, others can only keep them.
_OWNER, _GROUP = (65534, 65534) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
# What each kind of call may be refused with.
_ERRORS = {
    "open": ("EACCES",), "create": ("ENOSPC",), "mkdir": ("ENOSPC",), "fchown": ("EPERM",), "fchmod": ("EPERM",),
    "write": ("ENOSPC", "EIO"), "fsync": ("EIO",), "link": ("EACCES", "EXDEV"), "rename": ("EACCES", "EXDEV"),
    "unlink": ("EIO",), "flock": ("ENOLCK",), "close": ("EIO",),
}


# --- what is run -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One task; C({base}) in its arguments is a new folder, which C(before) fills: name, content, mode.

    C(key) and C(side) are the private and the public file that it writes, or removes.
    """

    name: str
    module: str
    args: Json
    key: str = "new/a.key"
    side: str | None = None
    mode: int = 0o600
    before: tuple[tuple[str, str, int], ...] = ()
    passphrase: bytes | None = None
    generates: bool = False
    # Deriving a key takes long, by design: only calls that change something, and those next to them, are disturbed.
    is_slow: bool = False

    def __str__(self) -> str:
        return self.name

    @property
    def is_handed_over(self) -> bool:
        """Whether the private file gets an owner and a group."""
        return "owner" in self.args

    def files(self) -> list[str]:
        """Return the files that it is about."""
        return [self.key] if self.side is None else [self.key, self.side]


_TO_ANOTHER = {"owner": str(_OWNER), "group": str(_GROUP)}
_KEPT = (("new/a.key", "key", 0o600),)
CASES = (
    Case("generate", "signing_key", {"path": "{base}/new/deeper/a.key"}, key="new/deeper/a.key", generates=True),
    Case(
        "generate-with-public-half", "signing_key",
        {"path": "{base}/new/a.key", "public_key_path": "{base}/new/a.pub"}, side="new/a.pub", generates=True,
    ),
    Case(
        "generate-for-another-user", "signing_key", {"path": "{base}/new/a.key", "mode": "0640", **_TO_ANOTHER},
        mode=0o640, generates=True,
    ),
    Case(
        "generate-for-cosign", "signing_key",
        {"path": "{base}/new/a.key", "format": "cosign", "passphrase": PASSWORD}, passphrase=PASSWORD.encode(),
        generates=True, is_slow=True,
    ),
    Case("import", "signing_key", {"path": "{base}/new/a.key", "source_path": "{key}", "key_id": "{key_id}"}),
    Case(
        "remove", "signing_key",
        {"path": "{base}/new/a.key", "state": "absent", "key_id": "{key_id}", "public_key_path": "{base}/new/a.pub"},
        side="new/a.pub", before=(*_KEPT, ("new/a.pub", "public", 0o644)),
    ),
    Case("export", "key_export", {"private_key_path": "{key}", "dest": "{base}/new/a.key", "mode": "0400"}, mode=0o400),
    Case(
        "export-lineage", "key_export",
        {"lineage": "{lineage}", "dest": "{base}/new/a.key", "chain_dest": "{base}/chains/a.chain"},
        side="chains/a.chain",
    ),
    Case(
        "export-renewed-chain", "key_export",
        {"lineage": "{lineage}", "dest": "{base}/new/a.key", "chain_dest": "{base}/new/a.chain"},
        side="new/a.chain", before=(*_KEPT, ("new/a.chain", "old chain", 0o644)),
    ),
    Case(
        "repair-mode", "key_export", {"private_key_path": "{key}", "dest": "{base}/new/a.key"},
        before=(("new/a.key", "key", 0o444),),
    ),
    Case(
        "hand-over", "key_export",
        {"private_key_path": "{key}", "dest": "{base}/new/a.key", "mode": "0440", **_TO_ANOTHER},
        mode=0o440, before=(("new/a.key", "key", 0o640),),
    ),
    Case(
        "remove-export", "key_export",
        {"dest": "{base}/new/a.key", "chain_dest": "{base}/new/a.chain", "state": "absent"},
        side="new/a.chain", before=(*_KEPT, ("new/a.chain", "chain", 0o644)),
    ),
)


@dataclass(frozen=True)
class Material:
    """What keys are imported and exported from."""

    key: KeyFiles
    lineage: pathlib.Path
    contents: dict[str, bytes] = field(repr=False)

    def task(self, case: Case, base: pathlib.Path) -> Task:
        """Return the task with its folder in the arguments."""
        words = {"base": base, "key": self.key.pem, "key_id": self.key.key_id, "lineage": self.lineage}
        return Task(case.module, {name: value.format(**words) for name, value in case.args.items()})

    def prepare(self, case: Case, base: pathlib.Path) -> None:
        """Make the folder, with what is there before the task."""
        base.mkdir(mode=0o700)
        for name, content, mode in case.before:
            path = base / name
            path.parent.mkdir(mode=0o700, exist_ok=True)
            path.write_bytes(self.contents[content])
            path.chmod(mode)


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory, p256: KeyFiles) -> Material:
    """A lineage folder as Certbot leaves it, and the chain that the key had before."""
    folder = tmp_path_factory.mktemp("lineage")
    shutil.copyfile(p256.pem, folder / "privkey.pem")
    (folder / "privkey.pem").chmod(0o600)
    for name in ("before.pem", "fullchain.pem"):
        subprocess.run(
            ["openssl", "req", "-x509", "-key", str(p256.pem), "-days", "1", "-subj", f"/CN={name}", "-out",
             str(folder / name)], check=True, capture_output=True,
        )
    return Material(p256, folder, {
        "key": p256.pem.read_bytes(), "public": p256.public.read_bytes(),
        "chain": (folder / "fullchain.pem").read_bytes(), "old chain": (folder / "before.pem").read_bytes(),
    })


# --- running and tracing ---------------------------------------------------------------------------------------------


class Call(t.NamedTuple):
    """One system call, the paths it is about, and its number among those of the same name."""

    name: str
    paths: tuple[str, ...]
    creates: bool
    number: int
    # Made by strace: the call did not happen.
    injected: bool

    def __str__(self) -> str:
        return f"{self.name}({', '.join(self.paths)})"

    @property
    def kind(self) -> str:
        """What it does, whatever it is called on this machine: C(open) or C(create) for C(openat)."""
        if self.creates:
            return "create"
        found = re.match(r"open|mkdir|fchown|fchmod|link|rename|unlink", self.name)
        return found[0] if found else self.name

    @property
    def changes(self) -> bool:
        """Whether it can change what is there."""
        return self.kind in ("create", "mkdir", "fchown", "fchmod", "write", "link", "rename", "unlink")

    def relative_to(self, base: pathlib.Path) -> Call:
        """Return the call with only the paths in C(base), and those relative to it."""
        return self._replace(paths=tuple(
            os.path.relpath(path, base) for path in self.paths if f"{path}/".startswith(f"{base}/")
        ))

    def is_like(self, other: Call) -> bool:
        """Say whether both do the same, wherever they stand in their runs."""
        return self[:3] == other[:3]


def _calls(trace: str) -> list[Call]:
    """Return the calls that strace wrote down."""
    found: list[Call] = []
    counts: dict[str, int] = {}
    for line in trace.splitlines():
        match = _CALL.match(line)
        if match is None:
            continue
        name, args = match["name"], match["args"]
        counts[name] = counts.get(name, 0) + 1
        if name in ("read", "write"):
            # The rest is content.
            args = args.partition(">")[0] + ">"
        paths = tuple(
            os.path.normpath(os.path.join(part["folder"] or "", part["name"] or "")) for part in _NAME.finditer(args)
            if part[0]
        )
        found.append(Call(name, paths, "O_CREAT" in args, counts[name], "(INJECTED)" in (match["result"] or "")))
    return found


def _work(calls: t.Sequence[Call], base: pathlib.Path) -> list[Call]:
    """Return the calls on C(base), relative to it, until it is let go of, and the call after those.

    Later ones are Ansible's, which adds facts about C(path) to the result of any module.
    """
    rows = [call.relative_to(base) for call in calls]
    last = max((number for number, row in enumerate(rows) if row.paths and row.name == "close"), default=-1)
    return [row for row in rows[:last + 1] if row.paths] + rows[last + 1:last + 2]


@dataclass
class Outcome:
    """How a run ended, what it said, and its system calls if they were traced."""

    status: int
    output: str
    errors: str
    calls: list[Call]

    @property
    def result(self) -> Json:
        """The result of the module."""
        assert self.output.strip(), f"no result: status {self.status}: {self.errors}"
        return t.cast(Json, json.loads(self.output))


class Runner:
    """Runs modules, one at a time; strace follows, and interferes, where it is asked to."""

    def __init__(self, folder: pathlib.Path, tree: pathlib.Path) -> None:
        self._arguments, self._trace = folder / "arguments.json", folder / "trace"
        self.record = folder / "exports.jsonl"
        self._environment = {
            "PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": str(tree), "LC_ALL": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(folder), "TMPDIR": str(folder),
        }
        server = pathlib.Path(__file__).parent / "module_server.py"
        self._server = subprocess.Popen(
            [sys.executable, str(server), "signing_key", "key_export"], cwd=folder, env=self._environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )

    def run(
        self, task: Task, *, check: bool = False, trace: bool = False, inject: str | None = None,
        file_size: int | None = None,
    ) -> Outcome:
        """Run one module; C(inject) is an expression of strace, C(file_size) the largest file that it may write."""
        self._write_arguments(task, check)
        traced = trace or inject is not None
        order = {
            "module": task.module, "arguments": str(self._arguments), "stop": traced, "file_size": file_size,
        }
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(order) + "\n")
        self._server.stdin.flush()
        if not traced:
            return Outcome(**self._answer(), calls=[])
        process = int(self._answer()["pid"])
        options = ["-e", f"inject={inject}"] if inject else []
        with subprocess.Popen(
            ["strace", "-y", "-e", _FILTER, *options, "-o", str(self._trace), "-p", str(process)],
            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        ) as strace:
            assert strace.stderr is not None
            said = strace.stderr.readline()
            # It is stopped anew before anything else: no call is missed.
            os.kill(process, signal.SIGCONT if "attached" in said else signal.SIGKILL)
            outcome = Outcome(**self._answer(), calls=[])
        if "attached" not in said:
            pytest.skip(f"strace can follow no process here: {said.strip()}")
        outcome.calls = _calls(self._trace.read_text(errors="replace"))
        return outcome

    def run_alone(self, task: Task) -> Outcome:
        """Run one module in a Python of its own, traced from its start."""
        self._write_arguments(task, False)
        with self._arguments.open() as arguments:
            done = subprocess.run(
                ["strace", "-y", "-e", _FILTER, "-o", str(self._trace), sys.executable, "-m",
                 f"{_PACKAGE}.{task.module}"],
                stdin=arguments, capture_output=True, text=True, env=self._environment, check=False, timeout=60,
                cwd=self._trace.parent,
            )
        return Outcome(done.returncode, done.stdout, done.stderr, _calls(self._trace.read_text(errors="replace")))

    def close(self) -> None:
        """End the server."""
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait(timeout=60)

    def _write_arguments(self, task: Task, check: bool) -> None:
        # The record of this machine is not that of tests; what becomes of a record, unit tests of custody see.
        record = {"record_path": str(self.record)} if task.module == "key_export" else {}
        given = {**task.args, **record, "_ansible_check_mode": check}
        self._arguments.write_text(json.dumps({"ANSIBLE_MODULE_ARGS": given}))

    def _answer(self) -> Json:
        assert self._server.stdout is not None
        line = self._server.stdout.readline()
        assert line, "the server of modules is gone"
        return t.cast(Json, json.loads(line))


@pytest.fixture(scope="module")
def runners(ansible: Ansible, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[queue.Queue[Runner]]:
    """Runners, one for each of two threads; the tests are skipped where nothing can be traced."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    made = [Runner(tmp_path_factory.mktemp("runner").resolve(), ansible.folder / "tree") for _number in range(2)]
    free: queue.Queue[Runner] = queue.Queue()
    nowhere = tmp_path_factory.mktemp("nothing") / "a.key"
    try:
        for one in made:
            one.run(Task("key_export", {"dest": str(nowhere), "state": "absent"}), trace=True)
            free.put(one)
        yield free
    finally:
        for one in made:
            one.close()


@dataclass(frozen=True)
class Seen:
    """A file or folder as it was at one moment."""

    mode: int
    uid: int
    gid: int
    links: int
    data: bytes | None = field(repr=False)

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return self.data is None


State = dict[str, Seen]


def _state(base: pathlib.Path) -> State:
    found = {}
    for path in base.rglob("*"):
        status = path.lstat()
        assert stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode), path
        data = None if path.is_dir() else path.read_bytes()
        found[str(path.relative_to(base))] = Seen(
            stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_nlink, data
        )
    return found


def _target(temporary: str) -> str | None:
    """Return the file that is written under this temporary name; None if it is none."""
    folder, name = os.path.split(temporary)
    match = _TEMPORARY.fullmatch(name)
    return os.path.join(folder, match["name"]) if match else None


def _leftovers(state: State) -> State:
    return {name: seen for name, seen in state.items() if _target(name)}


@dataclass
class Disturbed:
    """A run that did not come to its end, and what later runs of the same task made of it."""

    base: pathlib.Path
    call: Call
    effect: str
    outcome: Outcome
    before: State
    after: State
    # A run in check mode, and whether it changed any name, content or time.
    foretold: Outcome
    foretelling_changed: bool
    again: Outcome
    settled: State
    third: Outcome
    third_changed: bool

    def __str__(self) -> str:
        return f"{self.effect} at {self.call}"


class Bench:
    """Disturbs one task in all ways; its folders have names of equal length."""

    def __init__(self, case: Case, material: Material, runners: queue.Queue[Runner], root: pathlib.Path) -> None:
        self.case = case
        self.material = material
        self._runners = runners
        self._root = root
        self._numbers = iter(range(1000, 10000))
        runner = runners.get()
        try:
            self.plan, self.ideal = self._undisturbed(runner)
        finally:
            runners.put(runner)

    @property
    def disturbed(self) -> list[int]:
        """The positions of the calls that are disturbed."""
        return [
            number for number in range(len(self.plan))
            if not self.case.is_slow or any(call.changes for call in self.plan[max(0, number - 1):number + 1])
        ]

    def folder(self) -> pathlib.Path:
        """Return a new folder, prepared for the task."""
        base = self._root / f"f{next(self._numbers)}"
        self.material.prepare(self.case, base)
        return base

    def task(self, base: pathlib.Path) -> Task:
        """Return the task for one folder."""
        return self.material.task(self.case, base)

    def disturb(
        self, rows: t.Iterable[tuple[int, str]], plan: t.Sequence[Call] | None = None, file_size: int | None = None
    ) -> list[Disturbed]:
        """Run the task once for each row: the position of a call in the plan, and what happens to it."""

        def one(row: tuple[int, str]) -> Disturbed:
            runner = self._runners.get()
            try:
                return self._disturb(runner, *row, list(plan or self.plan), file_size)
            finally:
                self._runners.put(runner)

        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(one, rows))

    def _undisturbed(self, runner: Runner) -> tuple[list[Call], State]:
        base = self.folder()
        outcome = runner.run(self.task(base), trace=True)
        assert outcome.status == 0, outcome
        assert outcome.result["changed"], outcome
        return _work(outcome.calls, base), _state(base)

    def _disturb(
        self, runner: Runner, position: int, effect: str, plan: list[Call], file_size: int | None
    ) -> Disturbed:
        for _attempt in range(10):
            base, call = self.folder(), plan[position]
            before, task = _state(base), self.task(base)
            outcome = runner.run(task, inject=f"{call.name}:{effect}:when={call.number}", file_size=file_size)
            if _is_hit(outcome, base, plan, position):
                break
            # The numbers were those of another run.
            plan, _ideal = self._undisturbed(runner)
        else:
            raise AssertionError(f"{self.case}: could not hit {call}: {outcome}")
        after, names = _state(base), listing(base)
        foretold = runner.run(task, check=True)
        foretelling_changed = listing(base) != names
        again = runner.run(task)
        settled, names = _state(base), listing(base)
        third = runner.run(task)
        return Disturbed(
            base, call, effect, outcome, before, after, foretold, foretelling_changed, again, settled, third,
            listing(base) != names,
        )


def _is_hit(outcome: Outcome, base: pathlib.Path, plan: t.Sequence[Call], position: int) -> bool:
    """Say whether the call that was meant is the one that was disturbed."""
    rows = [call.relative_to(base) for call in outcome.calls]
    if outcome.status == -signal.SIGKILL:
        hit = len(rows) - 1
    else:
        found = [number for number, row in enumerate(rows) if row.injected]
        if len(found) != 1:
            return False
        hit = found[0]
    before = [row for row in rows[:hit] if row.paths]
    return (
        len(before) == position and all(one.is_like(other) for one, other in zip(before, plan))
        and rows[hit].is_like(plan[position])
    )


@pytest.fixture(scope="module", params=CASES, ids=str)
def bench(
    request: pytest.FixtureRequest, material: Material, runners: queue.Queue[Runner],
    tmp_path_factory: pytest.TempPathFactory,
) -> Bench:
    """One task, with the system calls that it makes undisturbed."""
    case: Case = request.param
    if "cosign" in case.args.values():
        pytest.importorskip("nacl", reason="PyNaCl is not installed")
    return Bench(case, material, runners, tmp_path_factory.mktemp(f"crash-{case}").resolve())


@pytest.fixture(scope="module")
def killed(bench: Bench) -> list[Disturbed]:
    """The task, killed at each system call on its destination, and at the one after."""
    return bench.disturb((number, "signal=KILL") for number in bench.disturbed)


@pytest.fixture(scope="module")
def refused(bench: Bench) -> list[Disturbed]:
    """The task, with an error from each system call that opens, locks or changes something at its destination."""
    return bench.disturb(
        (number, f"error={error}") for number in bench.disturbed if bench.plan[number].paths
        for error in _ERRORS.get(bench.plan[number].kind, ())
    )


# --- judging ---------------------------------------------------------------------------------------------------------


def _key_id(case: Case, seen: Seen) -> str:
    """Return the key id of a whole private key; anything else fails the test."""
    assert seen.data is not None
    assert seen.data.endswith(b"-----\n")
    private = private_key.read_private_key(seen.data, passphrase=case.passphrase, where=case.key)
    assert private.format == case.args.get("format", "pem")
    if private.format == "pem":
        serialization.load_pem_private_key(seen.data, None)
    return private.public.key_id


def _content(seen: Seen | None) -> bytes | None:
    return seen.data if seen else None


def _judge_key(bench: Bench, row: Disturbed, state: State) -> None:
    """The private file is as it was, or as it shall be, and never open to more than before and after."""
    case, former, seen = bench.case, row.before.get(bench.case.key), state.get(bench.case.key)
    final = bench.ideal.get(case.key)
    if seen is None:
        assert former is None or final is None, "the key is lost"
        return
    if not case.generates:
        assert _key_id(case, seen) == bench.material.key.key_id
        assert seen.data == bench.material.contents["key"]
    else:
        _key_id(case, seen)
    if former is None:
        assert seen.mode == case.mode
        assert seen.links in (1, 2)
        _judge_owner(case, seen, new=True)
        return
    allowed = former.mode | case.mode
    assert not seen.mode & ~allowed, oct(seen.mode)
    # Nobody's group gets what another group was to have.
    if case.is_handed_over and seen.gid == _GROUP != former.gid:
        assert not seen.mode & ~case.mode
    if final is not None and seen not in (former, final):
        assert not seen.mode & ~(former.mode & case.mode), "it was not narrowed first"


def _judge_owner(case: Case, seen: Seen, *, new: bool) -> None:
    ours, theirs = (os.geteuid(), os.getegid()), (_OWNER, _GROUP)
    if case.is_handed_over:
        # Not before it belongs to them does it open to their group.
        assert (seen.uid, seen.gid) == theirs or (not new and (seen.uid, seen.gid) == ours and seen.mode == 0o600)
    else:
        assert (seen.uid, seen.gid) == ours


def _judge_side(bench: Bench, row: Disturbed, state: State) -> None:
    """The public file is as it was, or as it shall be; a new one never comes before its key."""
    case = bench.case
    if case.side is None:
        return
    former, seen, final = row.before.get(case.side), state.get(case.side), bench.ideal.get(case.side)
    if seen is None:
        assert former is None or final is None, "the public file is lost"
        return
    assert seen.mode == 0o644
    if case.generates:
        assert pem.read_public_key(t.cast(bytes, seen.data), where="public").key_id == _key_id(case, state[case.key])
        assert seen.data == pem.read_public_key(t.cast(bytes, seen.data), where="public").pem.encode()
    else:
        assert seen.data in {_content(one) for one in (former, final) if one}
    if former is None:
        assert case.key in state


def _judge_leftovers(bench: Bench, state: State) -> None:
    """What is left under a temporary name lies beside its file, and is as closed."""
    case = bench.case
    for name, seen in _leftovers(state).items():
        target = _target(name)
        assert target in case.files()
        if target == case.key:
            assert seen.mode in (0o600, case.mode), oct(seen.mode)
            _judge_owner(case, seen, new=False)
        else:
            assert seen.mode in (0o600, 0o644)
        if seen.data and seen.links == 1 and target == case.key:
            # The final owner and mode come before the first byte.
            assert seen.mode == case.mode
            _judge_owner(case, seen, new=True)


def _judge(bench: Bench, row: Disturbed) -> None:
    """Judge what a disturbed run left: nothing but what was there, what shall be there, and closed leftovers."""
    known = {*bench.case.files(), *_leftovers(row.after)}
    for name, seen in row.after.items():
        if seen.is_folder:
            assert (seen.mode, seen.uid) == (0o700, os.geteuid()), name
        else:
            assert name in known
    _judge_leftovers(bench, row.after)
    _judge_key(bench, row, row.after)
    _judge_side(bench, row, row.after)


def _judge_rerun(bench: Bench, row: Disturbed) -> None:
    """A run after that does what is left to do, says whether that was anything, and the next has nothing to do."""
    case, settled = bench.case, row.settled
    for outcome in (row.foretold, row.again, row.third):
        assert outcome.status == 0, outcome
        assert not outcome.errors
    assert set(settled) == set(bench.ideal)
    for name, ideal in bench.ideal.items():
        seen = settled[name]
        assert (seen.mode, seen.uid, seen.gid, seen.links) == (ideal.mode, ideal.uid, ideal.gid, ideal.links), name
        if not case.generates:
            assert seen.data == ideal.data
    if case.key in settled:
        own = _key_id(case, settled[case.key])
        assert row.again.result["key_id"] == row.third.result["key_id"] == own
    _judge_side(bench, row, settled)
    if case.key in row.after and case.key in settled:
        assert settled[case.key].data == row.after[case.key].data, "a key was replaced"
    changed = any(_without_links(row.after.get(name)) != _without_links(settled.get(name)) for name in case.files())
    assert row.again.result["changed"] is changed
    assert row.third.result["changed"] is False
    assert not row.third_changed
    # Check mode sees through what is left over, and touches nothing.
    assert row.foretold.result["changed"] is changed
    assert not row.foretelling_changed


def _without_links(seen: Seen | None) -> tuple[object, ...] | None:
    return (seen.mode, seen.uid, seen.gid, seen.data) if seen else None


def _each(bench: Bench, rows: t.Sequence[Disturbed], judge: t.Callable[[Bench, Disturbed], None]) -> None:
    """Judge all rows; say of which each failure is."""
    assert rows
    failures = []
    for row in rows:
        try:
            judge(bench, row)
        except Exception as exc:
            failures.append(f"{row}: {exc!r:.1200}")
    assert not failures, f"{len(failures)} of {len(rows)}:\n" + "\n".join(failures)


# --- tests -----------------------------------------------------------------------------------------------------------


def test_a_python_of_its_own_makes_the_same_calls(bench: Bench, runners: queue.Queue[Runner]) -> None:
    """What is disturbed here is what Ansible starts on a host."""
    base, runner = bench.folder(), runners.get()
    try:
        outcome = runner.run_alone(bench.task(base))
    finally:
        runners.put(runner)
    assert outcome.status == 0, outcome
    plan = _work(outcome.calls, base)
    assert [str(call) for call in plan] == [str(call) for call in bench.plan]


def test_what_is_named_is_on_disk(bench: Bench) -> None:
    """Synced are: content before it gets its name, names before the task ends. Only the trace can show that."""
    plan = bench.plan
    synced = [(number, call.paths) for number, call in enumerate(plan) if call.kind == "fsync"]
    for number, call in enumerate(plan):
        assert not call.creates or _target(call.paths[0]), call
        if call.kind in ("link", "rename", "unlink", "mkdir"):
            folder = os.path.dirname(call.paths[-1]) or "."
            assert any(later > number and paths == (folder,) for later, paths in synced), call
        if call.kind in ("link", "rename"):
            temporary = call.paths[0]
            kinds = [one.kind for one in plan[:number] if one.paths == (temporary,)]
            own = ["fchown"] if bench.case.is_handed_over else []
            # The first call looks for what an interrupted run left.
            assert kinds[-5 - len(own):] == ["create", *own, "fchmod", "write", "fsync", "close"]
    assert synced or bench.case.name in ("repair-mode", "hand-over")


def test_a_killed_write_leaves_nothing_or_the_whole_file(bench: Bench, killed: list[Disturbed]) -> None:
    """Whatever is left is complete, or under a temporary name beside it; private bytes are never open to others."""
    for row in killed:
        assert row.outcome.status == -signal.SIGKILL
        assert not row.outcome.output
    _each(bench, killed, _judge)


def test_after_a_kill_a_rerun_converges(bench: Bench, killed: list[Disturbed]) -> None:
    """It takes leftovers away, keeps a key that is whole, and the run after it changes nothing."""
    _each(bench, killed, _judge_rerun)


def test_every_moment_of_the_write_was_seen(bench: Bench, killed: list[Disturbed]) -> None:
    """The injector works: the states that a write goes through were all there."""
    case = bench.case
    seen = set()
    for row in killed:
        key, left = row.after.get(case.key), _leftovers(row.after)
        temporary = left.get(os.path.join(os.path.dirname(case.key), f".{os.path.basename(case.key)}.hallmark-new"))
        seen.add((
            key is not None and key != row.before.get(case.key), temporary is not None,
            bool(temporary and temporary.data),
        ))
    if (case.key in bench.ideal) and not case.before:
        # Nothing, an empty file, the whole one, both names, the final name only.
        assert seen == {
            (False, False, False), (False, True, False), (False, True, True), (True, True, True), (True, False, False),
        }
    elif case.key not in bench.ideal:
        assert {case.key in row.after for row in killed} == {True, False}
    elif case.side is None:
        # Attributes: the former, those on the way, the final.
        assert len({_without_links(row.after[case.key]) for row in killed}) >= 2
    if case.side is not None:
        states = {_content(row.after.get(case.side)) for row in killed}
        assert len(states) >= 2
        assert any(_leftovers(row.after).keys() for row in killed) or case.side not in bench.ideal


def _judge_refusal(bench: Bench, row: Disturbed) -> None:
    """One clean error that names the place; the file that was being written is as it was before."""
    if row.outcome.status == 0:
        # What was only read may be closed with an error: nothing is lost by that.
        assert row.call.kind == "close"
        assert _target(row.call.paths[0]) is None
        assert set(row.after) == set(bench.ideal)
        _judge(bench, row)
        return
    assert row.outcome.status == 1, row.outcome
    result = row.outcome.result
    assert result["failed"] is True
    assert [reason["code"] for reason in result["reasons"]] == ["write_failed"], result
    where, path = result["reasons"][0]["object"], row.call.paths[0]
    assert result["reasons"][0]["message"] == result["msg"]
    assert "Traceback" not in f"{row.outcome.errors}{row.outcome.output}"
    _judge(bench, row)
    target = _target(path)
    if target is None:
        # A folder, or a file that is looked at: itself, or what was to be done in it.
        assert f"{where}/".startswith(f"{os.path.normpath(row.base / path)}/"), result
    else:
        assert where == str(row.base / target), result
    if row.call.kind != "unlink":
        assert target is None or row.after.get(target) == row.before.get(target)
        assert not _leftovers(row.after)


def test_a_refused_call_is_a_clean_error_and_leaves_nothing(bench: Bench, refused: list[Disturbed]) -> None:
    """No space, no right, no other file system: no part of a file stays behind, under any name."""
    _each(bench, refused, _judge_refusal)


def test_after_a_refused_call_a_rerun_converges(bench: Bench, refused: list[Disturbed]) -> None:
    """As soon as the cause is gone, the same task does its work."""
    _each(bench, refused, _judge_rerun)


@pytest.mark.parametrize("bench", [case for case in CASES if not case.before], indirect=True, ids=str)
def test_a_file_that_is_cut_short_never_gets_its_name(bench: Bench, runners: queue.Queue[Runner]) -> None:
    """The system takes only a part of the key, as on a full disk: then it refuses the rest, or the process ends."""
    size, base, runner = 100, bench.folder(), runners.get()
    try:
        outcome = runner.run(bench.task(base), trace=True, file_size=size)
    finally:
        runners.put(runner)
    assert outcome.status == 1, outcome
    reason = outcome.result["reasons"][0]
    # No line of the record is shorter: an export that cannot be recorded is not made.
    is_export = bench.case.module == "key_export"
    wanted = str(runner.record if is_export else base / bench.case.key)
    assert (reason["code"], reason["object"]) == ("write_failed", wanted)
    assert [name for name, seen in _state(base).items() if not seen.is_folder] == []
    if is_export:
        return
    plan = _work(outcome.calls, base)
    writes = [number for number, call in enumerate(plan) if call.kind == "write" and call.paths]
    assert len(writes) == 2
    cut = bench.disturb([(writes[1], "signal=KILL")], plan, size)
    assert [len(seen.data or b"") for seen in _leftovers(cut[0].after).values()] == [size]
    _each(bench, cut, _judge)
    _each(bench, cut, _judge_rerun)
