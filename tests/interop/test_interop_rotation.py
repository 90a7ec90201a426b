# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbooks of the rotation where hosts are lost: one that cannot be reached keeps no other from its step.

Each host is this machine with folders of its own; the fleet drill has the real ones. The tests are one story.
"""

from __future__ import annotations

import json
import pathlib
import sys
import typing as t

import pytest
import yaml
from interop_tools import Ansible, Json, Registry, Run, Task, serve_registry

NOW = {"rotation_calendar": {"now": True}}
ENFORCERS = ["e1/kyverno_cluster_policy", "e2/kyverno_cluster_policy"]
# Nobody listens there.
LOST = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}


class Fleet:
    """A signing host, two enforcers and the host of the ledger, each in a folder of its own."""

    def __init__(self, ansible: Ansible, registry: Registry, folder: pathlib.Path) -> None:
        self._ansible, self._registry, self._folder = ansible, registry, folder
        self.image = registry.image("released", name=f"{registry.host}/acme/app")
        self.own: dict[str, Json] = {}
        for name in ("s1", "e1", "e2", "led"):
            (folder / name).mkdir()

    def play(self, playbook: str, *arguments: str, lost: t.Collection[str] = (), **variables: t.Any) -> Run:
        """Run a playbook of the collection, while some hosts cannot be reached."""
        path = self._folder / "inventory.yml"
        path.write_text(yaml.safe_dump(self._inventory(lost)))
        return self._ansible.playbook(
            f"hallmark.signing.{playbook}", inventory=path, arguments=[*arguments, "-e", json.dumps(variables)],
        )

    def _inventory(self, lost: t.Collection[str]) -> Json:
        def hosts(*names: str) -> Json:
            return {"hosts": {name: {**(LOST if name in lost else {}), **self.own.get(name, {})} for name in names}}

        return {"all": {"vars": self._variables(), "children": {
            "signers": hosts("s1"), "enforcers": hosts("e1", "e2"), "ledger": hosts("led"),
        }}}

    def _variables(self) -> Json:
        own = str(self._folder / "{{ inventory_hostname }}")
        ledger = str(self._folder / "led" / "ledger.jsonl")
        rule = {"name": "ours", "images": [f"{self._registry.host}/acme/**"], "any_of": ["release"]}
        return {
            "ansible_connection": "local", "ansible_python_interpreter": sys.executable,
            "signing_become": False, "trust_policy_become": False, "signer_libraries": "given",
            "signer_key_source": "own", "signer_directory": f"{own}/signer/",
            "key_export_record_path": f"{own}/exports",
            "rotation_fleet": "local", "rotation_ledger_path": ledger, "rotation_head_path": f"{own}/head",
            "rotation_report_path": str(self._folder / "led" / "report.json"),
            "rotation_metric_path": str(self._folder / "led" / "rotation.prom"),
            "rotation_cache_path": f"{own}/verified.jsonl", "rotation_export_folders": [], "rotation_stop_units": [],
            "rotation_timing": {"clock_skew_bound": 0, "max_job_time": 0, "rollback_window": 0},
            "rotation_registry_options": {"registries": [{"host": self._registry.host, "plain_http": True}]},
            "rotation_canary_repository": f"{self._registry.host}/acme/canary",
            "rotation_live_sources": [
                {"name": name, "hosts": name, "command": ["cat", f"{self._folder}/{name}/running.json"], "query": "[]"}
                for name in ("e1", "e2")
            ],
            "rotation_policy": {
                "version": 1, "rules": [rule],
                "authorities": {"release": {"ledger_path": ledger, "identity": "release"}},
            },
            "trust_policy_enforcers": [
                {"enforcer": "kyverno_cluster_policy", "enforcer_version": "1.15.2", "dest": f"{own}/policies"},
            ],
        }

    def sign(self) -> None:
        """Let the signing host sign what runs."""
        path = self._folder / "s1" / "signer" / "release.key"
        run = self._ansible.run([Task("image_signature", {
            "images": [self.image], "signers": [{"private_key_path": str(path)}],
            "registries": [{"host": self._registry.host, "plain_http": True}],
        })])
        assert not run[0]["failed"], run

    def running(self, name: str, images: t.Sequence[str]) -> None:
        """Let an enforcer say what runs on it."""
        (self._folder / name / "running.json").write_text(json.dumps([*images]))

    def report(self) -> Json:
        """Return what the last run said."""
        return t.cast(Json, json.loads((self._folder / "led" / "report.json").read_text()))

    def incident(self) -> Json:
        """Return the only incident."""
        (found,) = self.report()["incidents"]
        return t.cast(Json, found)

    def metrics(self) -> dict[str, float]:
        """Return what the last run shows to a monitoring."""
        lines = (self._folder / "led" / "rotation.prom").read_text().splitlines()
        return {name: float(value) for name, value in (line.split() for line in lines if not line.startswith("#"))}

    def states(self) -> list[str]:
        """Return the states of the generations, spares left out."""
        return [one["state"] for one in self.report()["keyring"] if not one["spare"]]

    def events(self) -> list[str]:
        """Return the events of the ledger in order."""
        return [json.loads(line)["event"] for line in (self._folder / "led" / "ledger.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def fleet(ansible: Ansible, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Fleet]:
    """A fleet whose first key is active, and has signed what runs."""
    folder = tmp_path_factory.mktemp("rotation")
    with serve_registry(folder / "registry") as registry:
        yield Fleet(ansible, registry, folder)


def test_first_key_becomes_active_and_nothing_warns_of_our_files(fleet: Fleet) -> None:
    fleet.play("provision").require()
    run = fleet.play("rotate").require()
    assert fleet.states() == ["active"]
    assert "WARNING" not in run.stdout + run.stderr


def test_a_run_in_which_every_enforcer_is_lost_says_so(fleet: Fleet) -> None:
    fleet.sign()
    run = fleet.play("rotate", lost=["e1", "e2"], **NOW)
    assert run.status != 0
    why = run.failed[-1]["msg"]
    for name in ENFORCERS:
        assert f"enforcer {name} still at policy" in why
    assert fleet.states() == ["active", "published"]
    assert fleet.metrics()["hallmark_rotation_blocked"] > 0


def test_a_key_stays_while_an_enforcer_does_not_say_what_runs_on_it(fleet: Fleet) -> None:
    fleet.running("e1", [fleet.image])
    run = fleet.play("rotate", **NOW)
    assert run.status != 0
    assert "e2 did not say what runs on it (e2): cat: " in run.failed[-1]["msg"]
    assert fleet.states() == ["retiring", "active"]
    assert "withdrawn" not in fleet.events()
    fleet.running("e2", [fleet.image])
    fleet.play("rotate").require()
    assert fleet.states() == ["retired", "active"]


def test_a_key_is_revoked_though_every_other_host_is_lost(fleet: Fleet) -> None:
    leaked = {"rotation_identity": "release", "rotation_generation": 3, "rotation_evidence": "INC-7"}
    run = fleet.play("revoke", lost=["s1", "e1", "e2"], **leaked)
    assert run.status != 0
    assert fleet.incident()["behind"] == ENFORCERS
    assert "revoked" in fleet.states()
    # They come back, and each does its part.
    run = fleet.play("revoke", **leaked)
    print(run.stdout[-5000:])
    assert fleet.incident()["behind"] == []
    assert fleet.incident()["notes"].keys() >= {"signing_stopped"}
