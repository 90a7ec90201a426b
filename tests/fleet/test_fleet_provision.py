# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Drill: playbook provision on a whole fleet, with Certbot, real systemd and real packages."""

from __future__ import annotations

import signing_hosts
from fleet import SIZE, Fleet, Host, Play, Times


def test_one_run_provisions_every_host(fleet: Fleet, first_run: Play) -> None:
    signers = {host.name for host in fleet.group("signers")}
    assert len(signers) == SIZE
    first_run.require()
    assert set(first_run.recap) == signers
    assert all(recap.well and recap.changed for recap in first_run.recap.values())


def test_every_host_has_a_guarded_key_of_its_own(provisioned: Fleet) -> None:
    key_ids = provisioned.each(signing_hosts.check_key, provisioned.group("signers"))
    assert len(set(key_ids)) == SIZE


def test_exactly_one_scheduler_renews_on_every_host(provisioned: Fleet) -> None:
    provisioned.each(signing_hosts.check_scheduler, provisioned.group("signers"))


def test_the_scheduled_unit_ends_well(provisioned: Fleet) -> None:
    # A host with packages that were there, and the one that installed them.
    for host in (provisioned.group("signers")[0], provisioned.group("signers")[-1]):
        unit = host.run(["systemctl", "show", "--value", "--property=Unit", signing_hosts.timer(host)]).stdout.strip()
        host.run(["systemctl", "start", unit])
        assert host.run(["systemctl", "show", "--value", "--property=Result", unit]).stdout.strip() == "success"


def test_the_deploy_hook_ran_once_for_each_certificate(provisioned: Fleet) -> None:
    def deployed(host: Host) -> str:
        return host.run(["journalctl", "--quiet", "--output=cat", "--identifier=fleet"]).stdout

    signers = provisioned.group("signers")
    assert provisioned.each(deployed, signers) == [f"deployed {host.name}\n" for host in signers]


def test_a_second_run_changes_nothing(provisioned: Fleet, times: Times) -> None:
    play = provisioned.play("hallmark.signing.provision").require()
    times.add(f"{SIZE} hosts provisioned again", play.seconds)
    assert len(play.recap) == SIZE
    assert play.changed == {}
    assert {recap.changed for recap in play.recap.values()} == {0}


def test_a_host_that_was_rebooted_renews_again_and_gets_its_copy_back(provisioned: Fleet) -> None:
    host = provisioned.group("signers")[1]
    before = signing_hosts.check_key(host)
    host.restart()
    signing_hosts.check_scheduler(host)
    # A copy in a memory file system does not survive a boot.
    assert not host.exists(signing_hosts.COPY)
    play = provisioned.play("hallmark.signing.provision", "--limit", host.name).require()
    assert play.changed == {host.name: ["hallmark.signing.key_export : Bring the copies into their state"]}
    assert signing_hosts.check_key(host) == before
