# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host of the fleet as a control node: ansible-core, the collection, the inventory and a key of its own."""

from __future__ import annotations

import importlib.util
import pathlib
import shutil
import typing as t

from fleet import Fleet, Host

_FOLDER = "controller"
_KEY = "/srv/controller/ssh-key"
# They need no compiler: what is faster with one is left out, for it is another Python there.
_LIBRARIES = ("ansible", "jinja2", "markupsafe", "packaging", "resolvelib", "yaml")


def install(fleet: Fleet, collections: pathlib.Path, host: Host) -> None:
    """Give a host what it manages the others with; its Python has cryptography."""
    folder = fleet.shared / _FOLDER
    for name in _LIBRARIES:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.submodule_search_locations is not None
        found = pathlib.Path(*spec.submodule_search_locations)
        metadata = found.parent.glob(f"{'ansible_core' if name == 'ansible' else name}-*.dist-info")
        for source in (found, *metadata):
            ignored = shutil.ignore_patterns("*.so", "__pycache__")
            shutil.copytree(source, folder / "libraries" / source.name, ignore=ignored)
    shutil.copytree(collections, folder / "collections")
    host.run(["mkdir", "-p", str(pathlib.Path(_KEY).parent)])
    host.write(_KEY, (fleet.folder / "ssh-key").read_text(), mode="0600")
    know(fleet, host)


def know(fleet: Fleet, host: Host) -> None:
    """Tell it where the others are by now."""
    path = fleet.inventory()
    host.write("/srv/controller/inventory.yml", path.read_text().replace(str(path.with_name("ssh-key")), _KEY))


def command(playbook: str, arguments: t.Sequence[str]) -> list[str]:
    """Return what runs a playbook there."""
    return [
        "/usr/bin/env", f"PYTHONPATH=/fleet/{_FOLDER}/libraries", "ANSIBLE_HOST_KEY_CHECKING=false",
        f"ANSIBLE_COLLECTIONS_PATH=/fleet/{_FOLDER}/collections", "LC_ALL=C.UTF-8",
        "/usr/bin/python3", "-m", "ansible.cli.playbook", "-i", "/srv/controller/inventory.yml", playbook, *arguments,
    ]
