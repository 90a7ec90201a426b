# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Drill: keys of three signers are rotated while five enforcers admit images all the time; then one key leaks.

The tests are one story, in the order in which they stand.
"""

from __future__ import annotations

import json
import pathlib
import re
import typing as t

import controller
import pytest
import tokens
from admissions import Admissions, verdicts
from conftest import DOMAIN, ROOT
from fleet import PLAY_SECONDS, Fleet, Host, Json, Play, Times, docker, wait_until
from services import Acme

HERE = pathlib.Path(__file__).parent
LEDGER = "/var/lib/hallmark-signing/ledger.jsonl"
SIGNERS: dict[str, Json] = {
    "s01": {"signer_key_source": "certbot"}, "s02": {"signer_key_source": "own"},
    "s03": {"signer_key_source": "own", "signer_algorithm": "rsa-2048", "signer_mode": "0640"},
}
IDENTITIES = tuple(SIGNERS)
ENFORCERS = ("v01", "v02", "v03", "v04", "v05")
# As many enforcers as the figure of a compromise is about.
ALL_ENFORCERS = 20
ADMISSIONS = 1000
# Which hosts plays are for cannot come from the inventory itself.
WHERE = ["--extra-vars", json.dumps({
    "signing_hosts": "keysigners", "trust_policy_hosts": "edges", "rotation_ledger_host": f"ledger.{DOMAIN}",
})]
SERVICE, TIMER = "hallmark-rotation.service", "hallmark-rotation.timer"
METRICS = "/var/lib/metrics/rotation.prom"
STAGE_NOW = ["--extra-vars", json.dumps({"rotation_calendar": {"lifetime": 31536000, "stage": 0}})]
NOW = ["--extra-vars", json.dumps({"rotation_calendar": {"now": True}})]


class Drill:
    """The fleet of the drill, and what is known of it."""

    def __init__(self, fleet: Fleet, registry: str, hosts: dict[str, Host]) -> None:
        self.fleet, self.registry, self.hosts = fleet, registry, hosts
        self.admissions: Admissions | None = None
        # The disk of a signer, when its next key was staged.
        self.backup = ""

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    @property
    def enforcers(self) -> list[Host]:
        return self.fleet.group("edges")

    def rotate(self, *arguments: str, **options: t.Any) -> Play:
        return self.fleet.play("hallmark.signing.rotate", *WHERE, *arguments, **options)

    def report(self) -> Json:
        return t.cast(Json, json.loads(self["ledger"].read("/var/lib/hallmark-signing/rotation.json")))

    def entries(self) -> list[Json]:
        return [json.loads(line) for line in self["ledger"].read(LEDGER).splitlines()]

    def key(self, identity: str, generation: int) -> str:
        """Return the key id of a generation."""
        (found,) = (
            one["key_id"] for one in self.report()["keyring"]
            if (one["identity"], one["generation"]) == (identity, generation)
        )
        return t.cast(str, found)

    def states(self) -> dict[str, list[str]]:
        """Return the states of the generations of each identity, spares left out."""
        found: dict[str, list[str]] = {}
        for one in self.report()["keyring"]:
            if not one["spare"]:
                found.setdefault(one["identity"], []).append(one["state"])
        return found

    def pointers(self) -> dict[str, Json]:
        """Return what each signing host obeys."""
        return {
            name: json.loads(self[name].read(f"/etc/hallmark-signing/{name}.pointer.json")) for name in IDENTITIES
        }

    def policies(self) -> dict[str, str]:
        return {host.name: host.read("/etc/containers/policy.json") for host in self.enforcers}


def variables(registry: str, acme: Acme) -> dict[str, Json]:
    """Return the variables of the groups, as one inventory has them."""
    common: Json = {
        "signer_libraries": "given", "rotation_fleet": "drill", "rotation_author": "drill@fleet.example",
        "rotation_timing": {"clock_skew_bound": 1, "max_job_time": 1, "rollback_window": 1},
        "rotation_policy": {
            "version": 1,
            "authorities": {name: {"ledger_path": LEDGER, "identity": name} for name in IDENTITIES},
            "rules": [{
                "name": "ours", "images": [f"{registry}/acme/**", f"{registry}/probes/**"], "any_of": [*IDENTITIES],
            }],
        },
        "rotation_registry_options": {"registries": [{"host": registry, "plain_http": True}]},
        "rotation_canary_repository": f"{registry}/probes/canary", "rotation_metric_path": METRICS,
    }
    return {
        "ledger": common,
        "edges": {
            **common,
            "trust_policy_enforcers": [
                {"enforcer": "containers", "enforcer_version": "5.34.2", "dest": "/etc/containers"}
            ],
        },
        "keysigners": {
            **common, "signer_identity": "{{ inventory_hostname.split('.')[0] }}", "registry_host": registry,
            "certbot_lineage": "{{ inventory_hostname }}", "certbot_domains": ["{{ inventory_hostname }}"],
            "certbot_agree_tos": True, "certbot_server": acme.url, "certbot_server_ca_path": "/fleet/acme-ca.pem",
            "certbot_scheduler": "systemd",
        },
    }


@pytest.fixture(scope="module")
def drill(empty_fleet: Fleet, registry: str, acme: Acme) -> t.Iterator[Drill]:
    """Three signing hosts with keys and released images, five enforcers, a host with the ledger."""
    hosts = {
        name: empty_fleet.add(
            f"{name}.{DOMAIN}", image="enforcer", group="keysigners",
            variables=SIGNERS[name],
        )
        for name in IDENTITIES
    }
    hosts |= {name: add_enforcer(empty_fleet, name) for name in ENFORCERS}
    hosts["ledger"] = empty_fleet.add(f"ledger.{DOMAIN}", image="enforcer", group="ledger")
    empty_fleet.each(Host.wait, hosts.values())
    empty_fleet.each(lambda host: know(host, registry), [hosts[name] for name in ENFORCERS])
    hosts["ledger"].run(["mkdir", str(pathlib.PurePath(METRICS).parent)])
    empty_fleet.group_variables.update(variables(registry, acme))
    empty_fleet.play("hallmark.signing.provision", *WHERE).require()
    yield Drill(empty_fleet, registry, hosts)
    for host in [*empty_fleet.group("keysigners"), *empty_fleet.group("edges"), *empty_fleet.group("ledger")]:
        empty_fleet.discard(host)


def add_enforcer(fleet: Fleet, name: str, **variables: t.Any) -> Host:
    return fleet.add(f"{name}.{DOMAIN}", image="enforcer", group="edges", variables=variables)


def know(host: Host, registry: str) -> None:
    """Let the programs of a host reach the registry."""
    known = f'[[registry]]\nlocation = "{registry}"\ninsecure = true\n'
    host.write("/etc/containers/registries.conf.d/fleet.conf", known)


def test_first_keys_become_active_in_one_run_and_a_second_changes_nothing(drill: Drill, times: Times) -> None:
    images = drill.fleet.play(HERE / "rotation_images.yml").require()
    said = [line["result"]["msg"] for line in images.lines if line["task"] == "Say which images there are"]
    admit, deny = ([image for one in said for image in one[name]] for name in ("admit", "deny"))
    drill.fleet.group_variables["keysigners"]["rotation_live_images"] = admit
    drill.fleet.group_variables["keysigners"]["rotation_live_only"] = [
        "{{ registry_host }}/acme/{{ signer_identity }}-one", "{{ registry_host }}/acme/{{ signer_identity }}-two",
    ]
    first = drill.rotate().require()
    times.add("rotate, the first keys of 3 signers and 5 enforcers", first.seconds)
    assert drill.states() == {name: ["active"] for name in IDENTITIES}
    for name, pointer in drill.pointers().items():
        assert (pointer["generation"], pointer["fence"]) == (1, 1), name
    assert drill["s03"].entries("/etc/hallmark-signing")["/etc/hallmark-signing/s03.key"].mode == "640"
    before = drill.entries()
    second = drill.rotate().require()
    assert second.changed == {}
    assert drill.entries() == before
    drill.admissions = Admissions(drill.enforcers, drill.fleet.shared, admit=admit, deny=deny)
    drill.admissions.begin()
    drill.admissions.cover()


def test_it_blocks_and_says_why_while_hosts_are_away_and_goes_on_when_they_are_back(drill: Drill, times: Times) -> None:
    admissions = t.cast(Admissions, drill.admissions)
    old = docker("commit", drill["v05"].container).stdout.decode().strip()
    storm(drill, "active")
    drill.rotate("--tags", "stage,report", *STAGE_NOW).require()
    assert drill.states() == {name: ["active", "staged"] for name in IDENTITIES}
    storm(drill, "staged")
    drill.backup = docker("commit", drill["s03"].container).stdout.decode().strip()
    # As if the run had been killed before it took the name away under which it made the key.
    folder = "/etc/hallmark-signing/s02.generations"
    drill["s02"].run(["cp", "-p", f"{folder}/{drill.key('s02', 3)}.key", f"{folder}/next.key"])
    admissions.cover()
    # One enforcer freezes while the policy is on its way, and one signer dies before the key that it has is to sign.
    drill["v04"].pause()
    published = drill.rotate("--tags", "publish", *NOW)
    drill["s02"].kill()
    storm(drill, "published")
    assert published.recap[f"v04.{DOMAIN}"].unreachable
    blocked = drill.rotate(*NOW)
    assert blocked.status != 0
    why = blocked.reason(f"ledger.{DOMAIN}")
    assert f"enforcer v04.{DOMAIN} still at policy " in why
    assert f"signer s02.{DOMAIN} was not seen in this run" in why
    assert all(pointer["generation"] == 1 for pointer in read_pointers(drill, "s01", "s03").values())
    drill["v04"].resume()
    drill["s02"].start()
    # Its disk is that of before: it has the policy, and the head of the ledger, of then.
    admissions.keep(drill["v05"])
    drill["v05"].image = old
    drill["v05"].replace()
    behind = drill.entries()[-1]["sequence"]
    storm(drill, "published, and an old disk came back")
    going_on = drill.rotate(*NOW).require()
    times.add("rotate, from published to re-signed, 6 images", going_on.seconds)
    assert drill.entries()[-1]["sequence"] > behind
    assert not drill["s02"].exists(f"{folder}/next.key")
    assert all(pointer["generation"] != 1 for pointer in drill.pointers().values())
    assert len(set(drill.policies().values())) == 1
    storm(drill, "active and retiring")
    admissions.cover()


def test_the_former_keys_are_withdrawn(drill: Drill, times: Times) -> None:
    admissions = t.cast(Admissions, drill.admissions)

    def is_withdrawn() -> bool:
        play = drill.rotate("--tags", "resign,withdraw,report")
        assert play.status == 0, play.reason(f"ledger.{DOMAIN}")
        admissions.cover()
        return all(states[0] == "withdrawn" for states in drill.states().values())

    with times.of("rotate, from re-signed to withdrawn"):
        wait_until(is_withdrawn, "every former key withdrawn", seconds=600)
    storm(drill, "withdrawn")


def test_ledger_host_goes_on_by_itself_and_shows_when_it_cannot(
    drill: Drill, times: Times, collections: pathlib.Path
) -> None:
    former = {one["key_id"] for one in drill.report()["keyring"] if one["generation"] == 1}
    schedule(drill, collections)
    with times.of("rotate by the timer's service, from withdrawn to retired"):
        assert by_itself(drill)
    assert all(states[:2] == ["retired", "active"] for states in drill.states().values()), drill.states()
    storm(drill, "retired")
    for name in IDENTITIES:
        folder = f"/etc/hallmark-signing/{name}.generations"
        assert not {path.rpartition("/")[2][:64] for path in drill[name].entries(folder)} & former
    held = [one for one in drill.entries() if one["event"] == "signers"][-1]["signers"]
    assert not {key for one in held for key in one["key_ids"]} & former
    before = drill.entries()
    with times.of("rotate by the timer's service, nothing due"):
        assert by_itself(drill)
    assert drill.entries() == before
    log = drill["ledger"].run(["journalctl", "--no-pager", "--unit", SERVICE]).stdout
    assert "All is where it should be." in log
    assert not re.search(r"changed=[1-9]", log.rpartition("PLAY RECAP")[2]), log[-2000:]
    assert metrics(drill["ledger"])["hallmark_rotation_signers_not_seen"] == 0
    drill["s03"].kill()
    assert not by_itself(drill)
    assert drill["ledger"].run(["systemctl", "is-failed", SERVICE]).stdout.strip() == "failed"
    assert metrics(drill["ledger"])["hallmark_rotation_signers_not_seen"] == 1
    assert drill.report()["not_seen"] == [f"s03.{DOMAIN}"]
    assert drill.entries() == before
    # It comes back with the disk of before its key was activated: the former key, and the former pointer.
    drill["s03"].image = drill.backup
    drill["s03"].replace()


def test_nothing_was_denied_and_nothing_foreign_admitted(drill: Drill, times: Times) -> None:
    admissions = t.cast(Admissions, drill.admissions)
    wait_until(lambda: len(admissions.all()) >= ADMISSIONS, "a thousand admissions", seconds=600, pause=2)
    found = admissions.all()
    counted = verdicts(found)
    seconds = max(one.begun for one in found) - min(one.begun for one in found)
    times.add(f"{len(found)} admissions, {len(found) / seconds:.1f}/s: {counted}", seconds)
    assert counted.get("admit: deny", 0) == 0
    assert counted.get("deny: admit", 0) == 0
    assert {(one.host, one.image) for one in found} == {
        (host.name, image) for host in admissions.hosts for image in admissions.images
    }
    admissions.end()


def test_ledger_shows_who_did_what_and_its_chain_holds(drill: Drill) -> None:
    entries = drill.entries()
    assert all(one["author"] and one["reason"] for one in entries)
    assert {one["event"] for one in entries} >= {
        "founded", "enforcer", "staged", "published", "policy", "acknowledged", "canaries", "signers", "activated",
        "coverage", "withdrawn", "destroying", "retired", "confirmed",
    }
    fences = [one["fence"] for one in entries if one["event"] == "activated" and one["identity"] == "s01"]
    assert fences == sorted(set(fences))


def test_enforcers_join_and_a_signer_from_an_old_disk_obeys_again(drill: Drill) -> None:
    more = [add_enforcer(drill.fleet, f"v{number:02}") for number in range(len(ENFORCERS) + 1, ALL_ENFORCERS + 1)]
    drill.fleet.each(Host.wait, more)
    drill.fleet.each(lambda host: know(host, drill.registry), more)
    drill.rotate("--tags", "stage,publish,activate,retire").require()
    assert len({*drill.policies().values()}) == 1
    # It signs with the key of today, and has no copy of the one that was destroyed.
    assert read_pointers(drill, "s03")["s03"]["fence"] == 2
    assert not kept(drill, "s03", drill.key("s03", 1))


def test_leaked_key_is_distrusted_everywhere_within_a_minute(drill: Drill, times: Times, acme: Acme) -> None:
    fleet, lost = drill.fleet, drill.enforcers[-1]
    leaked = json.loads(drill["s01"].read("/etc/hallmark-signing/s01.pointer.json"))
    public = drill["s01"].read("/etc/hallmark-signing/s01.pub")
    proven, unproven = (
        next(one for one in fleet.group_variables["keysigners"]["rotation_live_images"] if f"/s01-{name}@" in one)
        for name in ("one", "two")
    )
    fleet.group_variables["keysigners"]["rotation_proofs"] = [vouch(drill, proven)]
    serial = drill["s01"].run([
        "openssl", "x509", "-noout", "-serial", "-in", f"/etc/letsencrypt/live/s01.{DOMAIN}/cert.pem",
    ]).stdout.strip().partition("=")[2].lower()
    assert "active" in timer_states(drill["s01"])
    for host in drill.enforcers:
        host.write("/etc/running.json", json.dumps([proven]))
    fleet.group_variables["keysigners"]["rotation_live_sources"] = [
        {"name": "file", "command": ["cat", "/etc/running.json"], "query": "[]"},
    ]
    lost.kill()
    # Whoever had this host may have had the key of a registry's tokens, too.
    keeper = fleet.add(f"tokens.{DOMAIN}", group="others")
    keeper.wait()
    tokens.serve(keeper)
    stolen = tokens.token(keeper)
    assert tokens.status(keeper, stolen) == 200
    hook = fleet.folder / "tokens.yml"
    hook.write_text(tokens.replacing(ROOT / "docs" / "rotation.md", keeper))
    extra = {
        "rotation_registry_token_tasks": str(hook),
        "rotation_identity": "s01", "rotation_generation": leaked["generation"], "rotation_evidence": "INC-1",
        "rotation_reason": "found in a log",
    }
    play = fleet.play("hallmark.signing.revoke", *WHERE, "--extra-vars", json.dumps(extra))
    incident = drill.report()["incidents"][-1]
    times.add("revoke, the whole play", play.seconds)
    times.add(f"of it, declared to distrusted by {ALL_ENFORCERS - 1} reachable enforcers", last_distrust(play))
    assert incident["behind"] == [lost.name]
    # The host that is away is named, and nothing else is wrong.
    assert [name for name, recap in play.recap.items() if not recap.well] == [lost.name], play.output[-4000:]
    after = json.loads(drill["s01"].read("/etc/hallmark-signing/s01.pointer.json"))
    assert after["key_id"] != leaked["key_id"]
    assert after["fence"] > leaked["fence"]
    assert "active" not in timer_states(drill["s01"])
    assert kept(drill, "s01", leaked["key_id"])
    policies = {host.name: host.read("/etc/containers/policy.json") for host in drill.enforcers if host is not lost}
    assert len(set(policies.values())) == 1
    assert "".join(public.splitlines()[1:-1])[:40] not in next(iter(policies.values()))
    assert incident["notes"].keys() >= {
        "signing_stopped", "credentials_replaced", "resigned", "certificates_revoked",
    }
    assert tokens.status(keeper, stolen) == 401
    assert tokens.status(keeper, tokens.token(keeper)) == 200
    fleet.discard(keeper)
    status = acme.certificate(serial)
    assert (status["Status"], status["Reason"]) == ("Revoked", 1)
    # What the builder vouches for runs on; what only the leaked key had signed is denied.
    assert admits(drill["v01"], proven)
    assert not admits(drill["v01"], unproven)
    # It comes back, and catches up.
    lost.start()
    fleet.play("hallmark.signing.revoke", *WHERE, "--tags", "distrust", "--extra-vars", json.dumps(extra)).require()
    assert drill_incident(drill)["behind"] == []
    refused = stage_again(drill, public)
    assert "no key comes back" in refused


def test_evidence_stays_until_the_incident_is_closed(drill: Drill) -> None:
    number = drill_incident(drill)["generation"]
    leaked = drill.key("s01", number)
    # While the incident is open, one spare is made and waits; nothing of the leaked key is destroyed.
    here = ["--limit", f"s01.{DOMAIN},ledger.{DOMAIN}"]
    drill.rotate("--tags", "stage", *here).require()
    keys = drill["s01"].entries("/etc/hallmark-signing")
    drill.rotate("--tags", "stage,retire", *here).require()
    assert drill["s01"].entries("/etc/hallmark-signing") == keys
    assert kept(drill, "s01", leaked)
    tell(drill, {"identity": "s01", "generation": number, "note": "closed"}).require()
    drill.rotate("--tags", "stage,retire,report", *here)
    assert not kept(drill, "s01", leaked)
    assert [(one["state"], one["spare"]) for one in drill.report()["keyring"] if one["identity"] == "s01"][-2:] == [
        ("staged", True), ("staged", False),
    ]
    assert not drill["s01"].exists("/etc/hallmark-signing/s01.generations/spare.key")
    # The lineage has another key, and can be renewed.
    storm(drill, "an incident was closed")


def schedule(drill: Drill, collections: pathlib.Path) -> None:
    """Let the ledger host rotate keys by itself."""
    controller.install(drill.fleet, collections, drill["ledger"])
    path = drill.fleet.folder / "schedule.yml"
    role = {"ansible.builtin.include_role": {"name": "hallmark.signing.rotation"}}
    path.write_text(json.dumps([{
        "hosts": "ledger", "become": True, "tasks": [role], "vars": {
            "rotation_schedule": "hourly",
            "rotation_schedule_command": controller.command("hallmark.signing.rotate", WHERE),
        },
    }]))
    drill.fleet.play(path).require()
    assert drill.fleet.play(path).require().changed == {}
    said = drill["ledger"].run(["systemd-analyze", "security", "--no-pager", SERVICE], check=False).stdout
    assert float(said.rpartition(f"Overall exposure level for {SERVICE}: ")[2].split()[0]) <= 2.5, said
    shown = drill["ledger"].run([
        "systemctl", "show", "--property=Persistent,RandomizedDelayUSec,ActiveState", TIMER,
    ])
    assert set(shown.stdout.split()) == {"Persistent=yes", "RandomizedDelayUSec=5min", "ActiveState=active"}


def by_itself(drill: Drill) -> bool:
    """Let the timer's service run; return whether it ended well. If not, it says why."""
    controller.know(drill.fleet, drill["ledger"])
    done = drill["ledger"].run(["systemctl", "start", SERVICE], check=False, timeout=PLAY_SECONDS)
    log = drill["ledger"].run(["journalctl", "--no-pager", "--unit", SERVICE, "--lines", "100"]).stdout
    assert not done.returncode or "was not seen in this run" in log, log
    return not done.returncode


def metrics(host: Host) -> dict[str, float]:
    """Return what a host shows to its monitoring."""
    lines = (line.split() for line in host.read(METRICS).splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in lines}


def vouch(drill: Drill, image: str) -> Json:
    """Let a builder sign an image; return it as an authority."""
    path = drill.fleet.folder / "vouch.yml"
    path.write_text(json.dumps([{
        "hosts": f"s01.{DOMAIN}", "become": True, "tasks": [
            {"hallmark.signing.signing_key": {"path": "/srv/builder/builder.key"}},
            {"hallmark.signing.image_signature": {
                "images": [image], "signers": [{"private_key_path": "/srv/builder/builder.key"}],
                "registries": [{"host": drill.registry, "plain_http": True}],
            }},
        ],
    }]))
    made = drill.fleet.play(path).require().lines
    public = next(line["result"]["public_key"] for line in made if "public_key" in line["result"])
    return {"name": "builder", "public_key_content": public}


def admits(host: Host, image: str) -> bool:
    done = host.run(["skopeo", "copy", "--quiet", f"docker://{image}", "dir:/run/once"], check=False)
    host.run(["rm", "-rf", "/run/once"])
    assert not done.returncode or "Source image rejected" in done.stderr, done.stderr
    return not done.returncode


def read_pointers(drill: Drill, *names: str) -> dict[str, Json]:
    return {name: json.loads(drill[name].read(f"/etc/hallmark-signing/{name}.pointer.json")) for name in names}


def storm(drill: Drill, state: str) -> None:
    """Renew the certificate by force, as a timer might: neither pointer nor key nor what verifies changes by it."""
    host = drill["s01"]
    before = [host.read(f"/etc/hallmark-signing/s01.{end}") for end in ("pointer.json", "pub")]
    certbot = ["certbot", "renew", "--force-renewal", "--no-random-sleep-on-renew", "--quiet"]
    host.run(["env", "REQUESTS_CA_BUNDLE=/fleet/acme-ca.pem", *certbot], timeout=180)
    after = [host.read(f"/etc/hallmark-signing/s01.{end}") for end in ("pointer.json", "pub")]
    assert after == before, state


def timer_states(host: Host) -> set[str]:
    return {
        host.run(["systemctl", "is-active", name], check=False).stdout.strip()
        for name in ("certbot.timer", "hallmark-certbot.timer")
    }


def last_distrust(play: Play) -> float:
    """Return the seconds from the declaration until the last enforcer that was reached was read back."""
    times_of = {
        name: [line["at"] for line in play.lines if line["task"].endswith(name) and line["status"] == "ok"]
        for name in ("Declare it", "Remember what is in force")
    }
    return float(max(times_of["Remember what is in force"]) - min(times_of["Declare it"]))


def drill_incident(drill: Drill) -> Json:
    path = drill.fleet.folder / "report.yml"
    path.write_text(json.dumps([{
        "hosts": "ledger", "become": True, "tasks": [{"hallmark.signing.keyring_info": {"ledger_path": LEDGER}}],
    }]))
    return t.cast(Json, drill.fleet.play(path).require().lines[-1]["result"]["incidents"][-1])


def stage_again(drill: Drill, public: str) -> str:
    """Return why the ledger refuses a key."""
    said = tell(drill, {"identity": "s01", "state": "staged", "public_key_content": public, "emergency": True})
    return said.reason(f"ledger.{DOMAIN}")


def tell(drill: Drill, what: Json) -> Play:
    """Tell the ledger something by hand."""
    path = drill.fleet.folder / "tell.yml"
    path.write_text(json.dumps([{
        "hosts": "ledger", "become": True, "tasks": [{"hallmark.signing.keyring": {
            "ledger_path": LEDGER, "author": "drill", "reason": "try", **what,
        }}],
    }]))
    return drill.fleet.play(path)


def kept(drill: Drill, name: str, key_id: str) -> list[str]:
    """Return where a host that signs has files of a key."""
    return [path for path in drill[name].entries("/etc/hallmark-signing") if key_id in path]
