# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mutation testing: change the sources in one place at a time, and print the changes that no test notices.

    python tests/tools/mutate.py --seconds 900 plugins/module_utils/_signing/*.py -- tests/unit/plugins

Sources come before --, arguments of pytest after it; run it in the root of the collection. Each change is made in a
copy of the tree in a temporary folder. Tests named after a source (test_verify.py for verify.py) run first, then the
others, until one fails; tests that already fail without any change are left out. The changes: an if negated, a raise
dropped, a comparison flipped or moved by one, a call of only() or no_case_variants() dropped, and and or exchanged, a
number raised by one. They are made in random order, so that a run that ends early is a fair sample; --seed repeats one.
Survivors stand in the output as FILE:LINE, with what was changed. The exit status is 1 if there are any.
"""

from __future__ import annotations

import argparse
import ast
import concurrent.futures
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

_COPIED = ("plugins", "tests")
_DROPPED_CALLS = ("only", "no_case_variants")
_FLIPPED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
}


class Mutator(ast.NodeTransformer):
    """Makes the change number C(wanted) and leaves all else alone; C(made) says what it was."""

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.count = 0
        self.made: tuple[int, str] | None = None

    def _offer(self, node: t.Any, changed: ast.AST, what: str) -> t.Any:
        self.count += 1
        if self.count - 1 != self.wanted:
            return node
        self.made = (node.lineno, f"{what}: {ast.unparse(node).splitlines()[0][:100]}")
        return ast.copy_location(changed, node)

    def visit_test(self, node: t.Any) -> t.Any:
        """Negate the condition of an if statement or expression."""
        self.generic_visit(node)
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


def mutants(source: pathlib.Path) -> t.Iterator[tuple[pathlib.Path, int, str, str]]:
    """Yield every change of a file: the file, the line, what was changed, and the whole changed text."""
    text = source.read_text(encoding="utf-8")
    for wanted in range(1_000_000):
        mutator = Mutator(wanted)
        changed = ast.fix_missing_locations(mutator.visit(ast.parse(text)))
        if mutator.made is None:
            return
        yield source, mutator.made[0], mutator.made[1], ast.unparse(changed)


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
        command = [sys.executable, "-m", "pytest", "-q", "--tb=no", "-p", "no:cacheprovider", *further, *self.arguments]
        environment = {**os.environ, "PYTHONPATH": self.folder, "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            return subprocess.run(
                command, cwd=self.root, env=environment, timeout=seconds, capture_output=True, text=True, check=False
            )
        except subprocess.TimeoutExpired:
            return None

    def notices(self, source: pathlib.Path, changed: str, *further: str, seconds: float) -> bool:
        """Say whether a test fails, or does not end, with this text in place of the source."""
        target = self.root / source
        genuine = target.read_bytes()
        own = sorted(str(path.relative_to(self.root)) for path in self.root.glob(f"tests/**/test_{source.stem}.py"))
        named = [path for path in own if any(path.startswith(argument) for argument in self.arguments)]
        try:
            target.write_text(changed, encoding="utf-8")
            ended = self.run("-x", *further, *named, seconds=seconds)
        finally:
            target.write_bytes(genuine)
        return ended is None or ended.returncode != 0


def main() -> int:
    """Run the tool."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sources", nargs="+", type=pathlib.Path)
    parser.add_argument("--seconds", type=float, default=900.0, help="stop after so long")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    split = sys.argv.index("--")
    options, arguments = parser.parse_args(sys.argv[1:split]), sys.argv[split + 1:]
    deadline = time.monotonic() + options.seconds
    changes = [change for source in options.sources for change in mutants(source)]
    random.Random(options.seed).shuffle(changes)
    with tempfile.TemporaryDirectory(prefix="mutate-") as folder:
        trees: queue.Queue[Tree] = queue.Queue()
        for number in range(options.processes):
            trees.put(Tree(os.path.join(folder, str(number)), arguments))
        first = trees.get()
        begun = time.monotonic()
        ended = first.run("-rfE", seconds=options.seconds)
        if ended is None or ended.returncode not in (0, 1):
            sys.exit(f"The tests do not run:\n{ended.stdout if ended else 'no end in time'}")
        limit = 3 * (time.monotonic() - begun) + 10
        failing = [line.split(" ", 1)[1].split(" - ")[0] for line in ended.stdout.splitlines()
                   if line.startswith(("FAILED ", "ERROR "))]
        deselected = [option for name in failing for option in ("--deselect", name)]
        source = options.sources[0]
        if first.notices(source, source.read_text(encoding="utf-8"), *deselected, seconds=limit):
            sys.exit("Tests fail in one run and not in another, without any change.")
        trees.put(first)

        def judge(change: tuple[pathlib.Path, int, str, str]) -> bool | None:
            if time.monotonic() > deadline:
                return None
            tree = trees.get()
            try:
                return tree.notices(change[0], change[3], *deselected, seconds=limit)
            finally:
                trees.put(tree)

        with concurrent.futures.ThreadPoolExecutor(options.processes) as pool:
            noticed = list(pool.map(judge, changes))
    for (source, line, what, _text), was_noticed in sorted(zip(changes, noticed), key=lambda pair: pair[0][:3]):
        if was_noticed is False:
            print(f"{source}:{line}: {what}")
    print(f"{len(changes)} changes, {noticed.count(True)} noticed, {noticed.count(False)} survived, "
          f"{noticed.count(None)} not tried; {len(failing)} tests left out because they fail anyway")
    return 1 if False in noticed else 0


if __name__ == "__main__":
    sys.exit(main())
