# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the drills rely on: that hosts in containers behave as machines do. Else drills would pass for wrong reasons."""

from __future__ import annotations

import time
import typing as t

import pytest
from fleet import DOMAIN, Fleet, Host, wait_until

MakeHost = t.Callable[..., Host]


@pytest.fixture(scope="module")
def host(empty_fleet: Fleet) -> t.Iterator[Host]:
    """A host on which nothing was done."""
    made = empty_fleet.add(f"bed.{DOMAIN}", group="others")
    made.wait()
    yield made
    empty_fleet.discard(made)


def test_units_get_credentials_that_nobody_else_reads(host: Host) -> None:
    host.write("/etc/secret", "for one unit", mode="0600")
    host.write("/etc/systemd/system/reader.service", "\n".join((
        "[Service]", "Type=oneshot", "LoadCredential=secret:/etc/secret", "DynamicUser=yes", "PrivateTmp=yes",
        "StateDirectory=reader", "ExecStart=/bin/cp ${CREDENTIALS_DIRECTORY}/secret /var/lib/reader/seen",
        "ExecStart=/bin/sh -c 'cat /etc/secret || touch /var/lib/reader/refused'",
    )))
    host.run(["systemctl", "daemon-reload"])
    host.run(["systemctl", "start", "reader.service"])
    assert host.read("/var/lib/reader/seen") == "for one unit"
    assert host.exists("/var/lib/reader/refused")


def test_units_get_credentials_that_lie_encrypted_on_the_disk(host: Host) -> None:
    host.run(["systemd-creds", "encrypt", "--name=secret", "-", "/etc/secret.cred"], input="for one machine")
    assert "for one machine" not in host.read("/etc/secret.cred")
    host.write("/etc/systemd/system/opener.service", "\n".join((
        "[Service]", "Type=oneshot", "LoadCredentialEncrypted=secret:/etc/secret.cred", "StateDirectory=opener",
        "ExecStart=/bin/cp ${CREDENTIALS_DIRECTORY}/secret /var/lib/opener/seen",
    )))
    host.run(["systemctl", "daemon-reload"])
    host.run(["systemctl", "start", "opener.service"])
    assert host.read("/var/lib/opener/seen") == "for one machine"


def test_transient_timers_fire(host: Host) -> None:
    host.run(["systemd-run", "--on-active=1s", "--timer-property=AccuracySec=100ms", "touch", "/etc/fired"])
    wait_until(lambda: host.exists("/etc/fired"), "a transient timer")


@pytest.mark.parametrize("boot", ["in good order", "after a loss of power"])
def test_a_boot_empties_memory_and_keeps_the_disk(host: Host, boot: str) -> None:
    host.write("/etc/kept", boot)
    host.write("/run/lost", boot)
    host.run(["systemd-run", "--unit=lost", "--on-active=1h", "true"])
    before = boot_of(host)
    if boot == "in good order":
        host.restart()
    else:
        host.kill()
        host.start()
    assert boot_of(host) != before
    assert host.read("/etc/kept") == boot
    assert not host.exists("/run/lost")
    assert host.run(["systemctl", "is-active", "lost.timer"], check=False).stdout.strip() == "inactive"
    # It is found again, wherever it is.
    assert host.address


def boot_of(host: Host) -> str:
    """Return when the host began to boot."""
    return host.run(["systemctl", "show", "--value", "--property=UserspaceTimestampMonotonic"]).stdout


def test_a_frozen_host_does_nothing_until_it_goes_on(host: Host) -> None:
    host.run(["sh", "-c", "(while sleep 0.05; do date +%s%N >/run/alive; done) >/dev/null 2>&1 &"])
    wait_until(lambda: host.exists("/run/alive"), "a loop")
    host.pause()
    with pytest.raises(AssertionError, match="paused"):
        host.read("/run/alive")
    time.sleep(0.5)
    host.resume()
    seen = host.read("/run/alive")
    wait_until(lambda: host.read("/run/alive") != seen, "the loop goes on")


def test_hosts_are_gone_for_those_who_have_lost_them(make_host: MakeHost) -> None:
    host = make_host("gone")
    assert host.processes("sshd")
    host.kill()
    assert host.processes("sshd") == []
    assert host.address == ""


def test_enforcers_push_to_and_pull_from_the_registry(enforcers: list[Host], registry: str) -> None:
    image = f"{registry}/bed/image:1"
    enforcers[0].run(["sh", "-c", 'tar -C /etc -cf - hostname | podman import - "$0" && podman push "$0"', image])
    enforcers[1].run(["podman", "pull", image])
    assert '"Digest"' in enforcers[1].run(["skopeo", "inspect", f"docker://{image}"]).stdout
