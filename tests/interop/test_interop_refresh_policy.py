# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Playbook refresh_policy on hosts one of which is away, with the real skopeo of Debian 13 as their enforcer."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import typing as t

import pytest
from interop_tools import Ansible, Json, Registry
from test_interop_trust_policy import NAMES, World

if t.TYPE_CHECKING:
    from conftest import KeyFiles

VERSION = "5.34.2"
HOSTS = ("edge1", "edge2", "edge3")


@pytest.fixture(scope="module")
def world(
    registry: Registry, make_key: t.Callable[[str], KeyFiles], skopeo13: str | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> World:
    if skopeo13 is None:
        pytest.skip("the skopeo of Debian 13 is not there: HALLMARK_PEERS names none")
    keys = {name: make_key("ecdsa-p256") for name in NAMES}
    return World(registry, keys, skopeo13, tmp_path_factory.mktemp("refresh"))


class Fleet:
    """Hosts that are folders of this machine, each with a policy of its own; one of them may be away."""

    def __init__(self, ansible: Ansible, world: World, folder: pathlib.Path) -> None:
        self.ansible, self.world, self.folder = ansible, world, folder
        (folder / "skopeo").symlink_to(world.skopeo)
        (folder / "no-ssh").write_text("#!/bin/sh\nexit 255\n")
        (folder / "no-ssh").chmod(0o755)
        own = folder / ".config" / "containers"
        own.mkdir(parents=True)
        (own / "registries.conf").write_text(f'[[registry]]\nlocation = "{world.registry.host}"\ninsecure = true\n')

    def dest(self, host: str) -> pathlib.Path:
        return self.folder / host / "containers"

    def refresh(self, version: int, by: str, *, away: str = "", **more: t.Any) -> subprocess.CompletedProcess[str]:
        """Run the playbook with a policy that trusts one key."""
        wanted = {
            "version": version, "authorities": {"release": {"public_key_path": str(self.world.keys[by].public)}},
            "rules": [{"name": "app", "images": [f"{self.world.prefix}/app"], "any_of": ["release"]}],
        }
        hosts = {host: {
            "ansible_connection": "local", "ansible_python_interpreter": sys.executable,
            "trust_policy_enforcers": [
                {"enforcer": "containers", "enforcer_version": VERSION, "dest": str(self.dest(host))},
            ],
        } for host in HOSTS}
        if away:
            # As ssh ends when nobody answers; there need not be one here.
            hosts[away].update(ansible_connection="ssh", ansible_ssh_executable=str(self.folder / "no-ssh"))
        inventory = self.folder / "inventory.json"
        inventory.write_text(json.dumps({"enforcers": {"hosts": hosts, "vars": {
            "trust_policy_policy": wanted, "trust_policy_become": False, "trust_policy_serial": 2,
            "trust_policy_acknowledgements_dir": str(self.folder / "acknowledgements"), **more,
        }}}))
        environment = {**self.ansible.environment, "HOME": str(self.folder)}
        environment["PATH"] = f"{self.folder}:{environment['PATH']}"
        return subprocess.run(
            [sys.executable, "-m", "ansible", "playbook", "-i", str(inventory), "hallmark.signing.refresh_policy"],
            env=environment, cwd=self.folder, capture_output=True, text=True, timeout=180, check=False,
        )

    def versions(self) -> dict[str, int]:
        """What the hosts acknowledged."""
        return {
            path.stem: json.loads(path.read_text())[0]["policy_version"]
            for path in sorted((self.folder / "acknowledgements").glob("*.json"))
        }

    def admits(self, host: str, by: str) -> bool:
        """Have skopeo fetch an image that one key signed, under the policy of a host."""
        found = subprocess.run(
            [self.world.skopeo, "--policy", str(self.dest(host) / "policy.json"), "--registries.d",
             str(self.dest(host) / "registries.d"), "copy", "--quiet", "--src-tls-verify=false",
             f"docker://{self.world.images['app', (by,)]}", f"dir:{self.folder / f'copy-{host}-{by}'}"],
            capture_output=True, text=True, timeout=60, check=False,
            env={"PATH": "/usr/bin:/bin", "HOME": str(self.folder)},
        )
        return found.returncode == 0


@pytest.fixture
def fleet(ansible: Ansible, world: World, tmp_path: pathlib.Path) -> Fleet:
    return Fleet(ansible, world, tmp_path)


def changes(output: str) -> dict[str, int]:
    """How many tasks changed something on each host."""
    recap = output.partition("PLAY RECAP")[2].splitlines()[1:]
    return {line.split()[0]: int(line.partition("changed=")[2].split()[0]) for line in recap if "changed=" in line}


def test_hosts_that_are_away_are_named_and_catch_up(fleet: Fleet) -> None:
    first = fleet.refresh(1, "a", away="edge2")
    assert first.returncode != 0
    assert fleet.versions() == {"edge1": 1, "edge3": 1}
    assert "not known to be in force on edge2. Bring" in first.stdout, first.stdout
    assert [fleet.admits("edge1", by) for by in "ab"] == [True, False]
    second = fleet.refresh(1, "a")
    assert (second.returncode, fleet.versions()) == (0, dict.fromkeys(HOSTS, 1)), second.stdout
    assert changes(second.stdout)["edge1"] == 0
    third = fleet.refresh(1, "a")
    assert (third.returncode, set(changes(third.stdout).values())) == (0, {0}), third.stdout
    assert "is in force on all of 3 hosts" in third.stdout


def test_nothing_is_switched_where_a_probe_fails(fleet: Fleet) -> None:
    probes: Json = {"admit": [fleet.world.images["app", ("a",)]], "deny": [fleet.world.images["app", ("b",)]]}
    assert fleet.refresh(1, "a", trust_policy_probes=probes).returncode == 0
    wrong = fleet.refresh(2, "b", trust_policy_probes=probes)
    assert wrong.returncode != 0
    assert "probe_failed" in wrong.stdout or "it is to be admitted, and was denied" in wrong.stdout, wrong.stdout
    assert fleet.versions() == dict.fromkeys(HOSTS, 1)
    assert [fleet.admits("edge2", by) for by in "ab"] == [True, False]
    # What was staged and failed is not left behind either.
    assert not list(fleet.folder.rglob("*.staged*"))


K8S = """
from ansible.module_utils.basic import AnsibleModule

def main():
    options = dict.fromkeys(("state", "src", "kubeconfig"), {})
    options |= {"apply": {"type": "bool"}, "wait": {"type": "bool"}, "wait_timeout": {"type": "int"}}
    options |= {"server_side_apply": {"type": "dict"}, "wait_condition": {"type": "dict"}}
    module = AnsibleModule(argument_spec=options)
    module.exit_json(changed=True, given=module.params)

main()
"""


# There is no cluster here: what a real one would make of it is not known, only what it would be asked.
def test_what_a_cluster_would_be_asked(ansible: Ansible, world: World, tmp_path: pathlib.Path) -> None:
    place = tmp_path / "ansible_collections" / "kubernetes" / "core" / "plugins" / "modules"
    place.mkdir(parents=True)
    (place / "k8s.py").write_text(K8S)
    versions = {"policy_controller": "0.15.1", "kyverno_image_validating_policy": "1.18.2", "ratify": "1.4.0"}
    variables = {
        "trust_policy_policy": {
            "version": 1, "authorities": {"release": {"public_key_path": str(world.keys["a"].public)}},
            "rules": [{"name": "app", "images": ["r.io/app"], "any_of": ["release"]}],
        },
        "trust_policy_enforcers": [
            {"enforcer": name, "enforcer_version": version, "dest": str(tmp_path / name)}
            for name, version in versions.items()
        ],
    }
    role = {"name": "hallmark.signing.trust_policy"}
    run = ansible.play([{"vars": variables, "tasks": [
        {"ansible.builtin.include_role": role}, {"ansible.builtin.include_role": {**role, "tasks_from": "apply"}},
    ]}], environment={"ANSIBLE_COLLECTIONS_PATH": f"{ansible.environment['ANSIBLE_COLLECTIONS_PATH']}:{tmp_path}"})
    assert run.status == 0, run.stdout
    (asked,) = [result["results"] for result in run.results if "results" in result and "given" in result["results"][0]]
    assert [(pathlib.Path(one["given"]["src"]).name, one["given"]["wait"]) for one in asked] == [
        ("constraint-template.yaml", False), ("image-validating-policies.yaml", False),
        ("cluster-image-policies.yaml", True), ("config-policy-controller.yaml", False), ("constraint.yaml", False),
    ]
