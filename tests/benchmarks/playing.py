# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The same work as a play of Ansible: one task of ours, or a loop over a command."""

from __future__ import annotations

import json
import os
import pathlib
import statistics
import sys
import typing as t

from contest import HERE, Bench, Row, Run, duel


def rows(bench: Bench, images: t.Sequence[str]) -> list[Row]:
    """Verify images by a playbook with one task; what Ansible itself needs to start is in the second row only."""
    peer = bench.peers[-1]
    seconds = bench.folder / "seconds"
    bench.environment.update({
        "ANSIBLE_COLLECTIONS_PATH": os.environ["PYTHONPATH"].partition(os.pathsep)[0],
        "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "callback_plugins"), "ANSIBLE_CALLBACKS_ENABLED": "task_seconds",
        "ANSIBLE_HOME": str(bench.folder / "ansible"), "ANSIBLE_LOCAL_TEMP": str(bench.folder / "ansible-local"),
        "ANSIBLE_REMOTE_TEMP": str(bench.folder / "ansible-remote"), "ANSIBLE_LOCALHOST_WARNING": "false",
        "LC_ALL": "C.UTF-8", "TASK_SECONDS": str(seconds),
    })
    books = {
        "task": _play(bench, "task", {"hallmark.signing.image_verify": {
            "images": list(images), "trust": [{"public_key_path": str(bench.folder / "k.pub")}], "formats": ["sig"],
        }}),
        "loop": _play(bench, "loop", {
            "ansible.builtin.command": {"argv": [*peer.verify, "{{ item }}"], "chdir": str(bench.folder)},
            "changed_when": False, "loop": list(images),
        }),
    }
    tasks: dict[str, list[float]] = {name: [] for name in books}

    def played(name: str) -> t.Callable[[int], Run]:
        def play(_round: int) -> Run:
            done = bench.run(books[name])
            tasks[name].append(float(seconds.read_text()))
            return done

        return play

    whole = bench.in_turns({name: played(name) for name in books})
    task = {name: whole[name]._replace(seconds=statistics.median(times)) for name, times in tasks.items()}
    what, other = f"verify {len(images)} images with .sig, by Ansible", f"a loop over {peer.name}"
    return [
        duel(f"{what}, the task", task["task"], other, task["loop"], at_least=15),
        duel(f"{what}, all of the play", whole["task"], other, whole["loop"]),
    ]


def _play(bench: Bench, name: str, task: dict[str, t.Any]) -> list[str]:
    book = bench.folder / f"{name}.json"
    book.write_text(json.dumps([{
        "hosts": "localhost", "connection": "local", "gather_facts": False,
        "vars": {"ansible_python_interpreter": sys.executable}, "tasks": [{"name": name, **task}],
    }]))
    return [str(pathlib.Path(sys.executable).parent / "ansible-playbook"), "-i", "localhost,", str(book)]
