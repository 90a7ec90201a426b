# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mutation testing: change the sources in one place at a time, and print the changes that no test notices.

    python tests/tools/mutate.py --seconds 3600 plugins/module_utils/_signing/*.py -- tests/unit/plugins

Sources come before --, arguments of pytest after it; run it in the root of the collection, with pytest-cov. Each change
is made in a copy of the tree in a temporary folder. All tests run once unchanged, and coverage notes which of them
passes through which line; a change is then put before the tests that pass through its lines, those named after the
source (test_verify.py for verify.py) first, until one fails. Tests that already fail without any change are left out.

The changes: an if negated, a raise dropped, a comparison flipped or moved by one, a call of only() or
no_case_variants() dropped, and and or exchanged, a number raised by one. They are made in random order, so that a run
that ends early is a fair sample; --seed repeats one.

Survivors stand in the output as FILE:LINE, with what was changed. Those that cannot be noticed, because nothing a user
can observe depends on them, are listed with the reason in tests/tools/survivors.txt: a line "FILE: CHANGE" for each,
below a line "# REASON". The exit status is 1 if there are others, or if a listed one is noticed after all.
"""

from __future__ import annotations

import argparse
import ast
import concurrent.futures
import dataclasses
import os
import pathlib
import queue
import random
import shutil
import subprocess
import sys
import tempfile
import time
import typing as t

import coverage
import pytest

_COPIED = ("plugins", "tests")
# Seconds that the tests of one change may take: one that does not end has been noticed.
_PATIENCE = 240.0
_DROPPED_CALLS = ("only", "no_case_variants")
_FLIPPED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Change:
    """One change of a source: its lines, what was changed, and the whole changed text."""

    source: pathlib.Path
    first: int
    last: int
    what: str
    text: str

    def __str__(self) -> str:
        return f"{self.source}: {self.what}"


class Mutator(ast.NodeTransformer):
    """Makes the change number C(wanted) and leaves all else alone; C(made) says what it was."""

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.count = 0
        self.made: tuple[int, int, str] | None = None

    def _offer(self, node: t.Any, changed: ast.AST, what: str) -> t.Any:
        self.count += 1
        if self.count - 1 != self.wanted:
            return node
        self.made = (node.lineno, node.end_lineno, f"{what}: {ast.unparse(node).splitlines()[0][:100]}")
        return ast.copy_location(changed, node)

    def visit_test(self, node: t.Any) -> t.Any:
        """Negate the condition of an if statement or expression."""
        self.generic_visit(node)
        if ast.unparse(node.test) == "t.TYPE_CHECKING":
            return node
        node.test = self._offer(node.test, ast.UnaryOp(ast.Not(), node.test), "condition negated")
        return node

    visit_If = visit_IfExp = visit_While = visit_test

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        """Negate the filters of a comprehension."""
        self.generic_visit(node)
        node.ifs = [self._offer(test, ast.UnaryOp(ast.Not(), test), "filter negated") for test in node.ifs]
        return node

    def visit_Raise(self, node: ast.Raise) -> t.Any:
        """Drop a raise."""
        self.generic_visit(node)
        return self._offer(node, ast.Pass(), "raise dropped")

    def visit_Compare(self, node: ast.Compare) -> t.Any:
        """Flip each comparison."""
        self.generic_visit(node)
        changed: t.Any = node
        for number, operator in enumerate(node.ops):
            flipped = [*node.ops[:number], _FLIPPED[type(operator)](), *node.ops[number + 1:]]
            offered = self._offer(node, ast.Compare(node.left, flipped, node.comparators), "comparison flipped")
            changed = offered if offered is not node else changed
        return changed

    def visit_Call(self, node: ast.Call) -> t.Any:
        """Take a checking call out of a chain."""
        self.generic_visit(node)
        if isinstance(node.func, ast.Attribute) and node.func.attr in _DROPPED_CALLS:
            return self._offer(node, node.func.value, "call dropped")
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> t.Any:
        """Exchange and and or."""
        self.generic_visit(node)
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        return self._offer(node, ast.BoolOp(other, node.values), "and and or exchanged")

    def visit_Slice(self, node: ast.Slice) -> ast.AST:
        """Leave the lengths alone to which texts are cut."""
        return node

    def visit_Constant(self, node: ast.Constant) -> t.Any:
        """Raise a number by one."""
        if not isinstance(node.value, int) or isinstance(node.value, bool):
            return node
        return self._offer(node, ast.Constant(node.value + 1), "number raised")


def changes_of(source: pathlib.Path) -> t.Iterator[Change]:
    """Yield every change of a file."""
    text = source.read_text(encoding="utf-8")
    for wanted in range(1_000_000):
        mutator = Mutator(wanted)
        changed = ast.fix_missing_locations(mutator.visit(ast.parse(text)))
        if mutator.made is None:
            return
        first, last, what = mutator.made
        yield Change(source=source, first=first, last=last, what=what, text=ast.unparse(changed))


class Tree:
    """A copy of the collection in which tests can be run."""

    def __init__(self, folder: str, arguments: t.Sequence[str]) -> None:
        self.folder = folder
        self.root = pathlib.Path(folder, "ansible_collections", "hallmark", "signing")
        self.arguments = arguments
        for name in _COPIED:
            shutil.copytree(name, self.root / name, ignore=shutil.ignore_patterns("__pycache__"))

    def run(self, *further: str, seconds: float) -> subprocess.CompletedProcess[str] | None:
        """Run pytest; None when it did not end in time."""
        command = [sys.executable, "-m", "pytest", "-q", "--tb=no", "--rootdir=.", "-p", "no:cacheprovider", *further]
        environment = {**os.environ, "PYTHONPATH": self.folder, "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            return subprocess.run(
                command, cwd=self.root, env=environment, timeout=seconds, capture_output=True, text=True, check=False
            )
        except subprocess.TimeoutExpired:
            return None

    def observe(self, *, processes: int, seconds: float) -> tuple[list[str], coverage.CoverageData]:
        """Run all tests unchanged: the options that leave out those that fail, and which test passes through what."""
        ended = self.run(
            "-rfE", "-n", str(processes), "--cov=plugins/module_utils", "--cov-context=test", "--cov-report=",
            *self.arguments, seconds=seconds,
        )
        if ended is None or ended.returncode not in (0, 1):
            sys.exit(f"The tests do not run:\n{ended.stdout + ended.stderr if ended else 'no end in time'}")
        failing = [line.split(" ", 1)[1].split(" - ")[0] for line in ended.stdout.splitlines()
                   if line.startswith(("FAILED ", "ERROR "))]
        data = coverage.CoverageData(str(self.root / ".coverage"))
        data.read()
        return [option for name in failing for option in ("--deselect", name)], data

    def notices(self, change: Change, tests: t.Sequence[str], *further: str) -> bool:
        """Say whether one of these tests fails, or does not end, with the change."""
        target = self.root / change.source
        genuine = target.read_bytes()
        try:
            target.write_text(change.text, encoding="utf-8")
            ended = self.run("-x", *further, *tests, seconds=_PATIENCE)
            if ended is not None and ended.returncode == pytest.ExitCode.USAGE_ERROR:
                # Tests of a file that is left out as a whole, now, cannot be named one by one.
                files = sorted({name.split("::", 1)[0] for name in tests})
                ended = self.run("-x", *further, *files, seconds=_PATIENCE)
        finally:
            target.write_bytes(genuine)
        return ended is None or ended.returncode in (pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED)


def passing_through(data: coverage.CoverageData, root: pathlib.Path, change: Change) -> list[list[str]]:
    """The test functions that pass through the lines of a change: those of the source's own tests, and the others."""
    by_line = data.contexts_by_lineno(str(root / change.source))
    contexts = {name for line in range(change.first, change.last + 1) for name in by_line.get(line, ()) if name}
    own = f"/test_{change.source.stem}.py"
    files: list[str] = []
    if not contexts:
        # Constants and decorators run before any test does: every test that looks into the file may notice.
        contexts = {name for names in by_line.values() for name in names if name}
        files = sorted(str(path.relative_to(root)) for path in root.glob(f"tests/**{own}"))
    functions = {name.split("[", 1)[0].split("|", 1)[0] for name in contexts}
    named = [name for name in sorted(functions) if f"{own}::" in name]
    return [files or named, [name for name in sorted(functions) if name not in named]]


def listed(path: pathlib.Path) -> set[str]:
    """Read the changes that are known not to be noticed."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {line for line in lines if line and not line.startswith("#")}


def judge_all(
    changes: t.Sequence[Change], options: argparse.Namespace, arguments: t.Sequence[str]
) -> list[bool | None]:
    """Say of each change whether it was noticed; None for those that there was no time for."""
    deadline = time.monotonic() + options.seconds
    with tempfile.TemporaryDirectory(prefix="mutate-") as folder:
        trees: queue.Queue[Tree] = queue.Queue()
        for number in range(options.processes):
            trees.put(Tree(os.path.join(folder, str(number)), arguments))
        first = trees.get()
        deselected, data = first.observe(processes=options.processes, seconds=options.seconds)
        trees.put(first)
        print(f"{len(changes)} changes; {len(deselected) // 2} tests left out because they fail anyway", flush=True)

        done: list[bool] = []

        def judge(change: Change) -> bool | None:
            if time.monotonic() > deadline:
                return None
            tree = trees.get()
            try:
                noticed = any(
                    tests and tree.notices(change, tests, *deselected)
                    for tests in passing_through(data, first.root, change)
                )
            finally:
                trees.put(tree)
            done.append(noticed)
            if not noticed:
                print(f"{len(done)}: {change.source}:{change.first}: {change.what}", flush=True)
            return noticed

        with concurrent.futures.ThreadPoolExecutor(options.processes) as pool:
            return list(pool.map(judge, changes))


def main() -> int:
    """Run the tool."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sources", nargs="+", type=pathlib.Path)
    parser.add_argument("--seconds", type=float, default=3600.0, help="stop after so long")
    parser.add_argument("--kinds", default="", help="only changes that begin with this, such as raise,condition,call")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    split = sys.argv.index("--")
    options, arguments = parser.parse_args(sys.argv[1:split]), sys.argv[split + 1:]
    kinds = tuple(options.kinds.split(","))
    changes = [one for source in options.sources for one in changes_of(source) if one.what.startswith(kinds)]
    random.Random(options.seed).shuffle(changes)
    known = listed(pathlib.Path(__file__).parent / "survivors.txt")
    noticed = judge_all(changes, options, arguments)
    new = {str(change) for change, seen in zip(changes, noticed) if seen is False} - known
    gone = known & {str(change) for change, seen in zip(changes, noticed) if seen}
    print(f"{noticed.count(True)} noticed, {noticed.count(False)} survived, {noticed.count(None)} not tried")
    for title, found in (("Not noticed, and not listed:", new), ("Listed, but noticed:", gone)):
        if found:
            print("\n".join((title, *sorted(found))))
    return 1 if new or gone else 0


if __name__ == "__main__":
    sys.exit(main())
