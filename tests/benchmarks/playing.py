# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The same work as a play of Ansible: one task of ours, or a loop over a command."""

from __future__ import annotations

import json
import os
import pathlib
import sys
import typing as t

from contest import Bench, Row, duel


def rows(bench: Bench, images: t.Sequence[str]) -> list[Row]:
    """Verify images by a whole ansible-playbook with one task."""
    peer = bench.peers[-1]
    tree = os.environ["PYTHONPATH"].partition(os.pathsep)[0]
    bench.environment.update({
        "ANSIBLE_COLLECTIONS_PATH": tree, "ANSIBLE_HOME": str(bench.folder / "ansible"),
        "ANSIBLE_LOCAL_TEMP": str(bench.folder / "ansible-local"), "ANSIBLE_LOCALHOST_WARNING": "false",
        "ANSIBLE_REMOTE_TEMP": str(bench.folder / "ansible-remote"), "LC_ALL": "C.UTF-8",
    })
    task = _play(bench, "task", {
        "hallmark.signing.image_verify": {
            "images": list(images), "trust": [{"public_key_path": str(bench.folder / "k.pub")}], "formats": ["sig"],
        },
    })
    loop = _play(bench, "loop", {
        "ansible.builtin.command": {"argv": [*peer.verify, "{{ item }}"], "chdir": str(bench.folder)},
        "changed_when": False, "loop": list(images),
    })
    done = bench.in_turns({"task": lambda _round: bench.run(task), "loop": lambda _round: bench.run(loop)})
    return [duel(
        f"verify {len(images)} images with .sig, by a play", done["task"], f"a loop over {peer.name}", done["loop"],
        at_least=15,
    )]


def _play(bench: Bench, name: str, task: dict[str, t.Any]) -> list[str]:
    book = bench.folder / f"{name}.json"
    book.write_text(json.dumps([{
        "hosts": "localhost", "connection": "local", "gather_facts": False,
        "vars": {"ansible_python_interpreter": sys.executable}, "tasks": [{"name": name, **task}],
    }]))
    return [str(pathlib.Path(sys.executable).parent / "ansible-playbook"), "-i", "localhost,", str(book)]
