# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fixtures of the fleet drills: twenty signing hosts with systemd, an ACME server, the collection as users install it.

./dev test fleet makes the images, and sets the environment: HALLMARK_FLEET_PREFIX begins the names of its images and
containers, HALLMARK_FLEET_GATEWAY is the address of this machine in their network, HALLMARK_FLEET_TIMES is the file of
times. While one works on a drill, HALLMARK_FLEET_SIZE, 20 by default, may be as small as 5, and HALLMARK_FLEET_ONLY may
name the tests, as pytest -k has it.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import typing as t

import pytest
from fleet import DOMAIN, PLAY_SECONDS, SIZE, Fleet, Host, Play, Times
from services import Acme, add_bare, lead_out, signer_variables

ROOT = pathlib.Path(os.environ["HALLMARK_ROOT"])
HERE = ROOT / "tests" / "fleet"
sys.path.insert(0, str(ROOT / "tests" / "tools"))

import fleet_proxy  # noqa: E402

ACME_FOLDER = "/var/lib/hallmark-acme"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how long things took."""
    terminalreporter.section("times, which no test depends on")
    terminalreporter.write(pathlib.Path(os.environ["HALLMARK_FLEET_TIMES"]).read_text())


@pytest.fixture(scope="session")
def times() -> Times:
    """Where the times of long steps are noted."""
    return Times(pathlib.Path(os.environ["HALLMARK_FLEET_TIMES"]))


@pytest.fixture(scope="session")
def collections(tmp_path_factory: pytest.TempPathFactory, times: Times) -> pathlib.Path:
    """A folder into which the tarball of the collection is installed."""
    built, installed = tmp_path_factory.mktemp("tarball"), tmp_path_factory.mktemp("collections")
    galaxy = [sys.executable, "-m", "ansible", "galaxy", "collection"]
    environment = {**os.environ, "ANSIBLE_HOME": str(built / "ansible")}
    environment.pop("PYTHONPATH", None)
    with times.of("tarball built and installed"):
        for command in (
            [*galaxy, "build", "--output-path", str(built), str(ROOT)],
            [*galaxy, "install", "--offline", "--collections-path", str(installed)],
        ):
            tarball = [str(path) for path in built.glob("*.tar.gz")]
            done = subprocess.run(
                [*command, *tarball], env=environment, capture_output=True, text=True, timeout=PLAY_SECONDS, check=False
            )
            assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return installed


@pytest.fixture(scope="session")
def empty_fleet(tmp_path_factory: pytest.TempPathFactory, collections: pathlib.Path) -> t.Iterator[Fleet]:
    """The fleet before it has hosts; all that it ever gets are taken away at the end."""
    fleet = Fleet(
        folder=tmp_path_factory.mktemp("fleet"), collections=collections,
        callbacks=ROOT / "tests" / "interop" / "callback_plugins", prefix=os.environ["HALLMARK_FLEET_PREFIX"],
    )
    yield fleet
    fleet.close()


@pytest.fixture(scope="session")
def acme(empty_fleet: Fleet) -> Acme:
    """The ACME server, on a host of its own; it forgets everything when it ends, and there is one for all drills."""
    host = empty_fleet.add(f"acme.{DOMAIN}", group="acme")
    host.wait()
    empty_fleet.group_variables["acme"] = {
        "acme_test_ca_directory": ACME_FOLDER, "acme_test_ca_address": host.address, "acme_test_ca_http01_port": 80,
    }
    empty_fleet.play(HERE / "acme.yml").require()
    # Hosts see it as /fleet/acme-ca.pem.
    (empty_fleet.shared / "acme-ca.pem").write_text(host.read(f"{ACME_FOLDER}/ca.pem"))
    server = Acme(host)
    empty_fleet.lead = server.lead
    return server


@pytest.fixture(scope="session")
def proxy() -> t.Iterator[str]:
    """The way out for hosts that install packages."""
    with fleet_proxy.serve(os.environ["HALLMARK_FLEET_GATEWAY"]) as url:
        yield url


@pytest.fixture(scope="session")
def fleet(empty_fleet: Fleet, acme: Acme, proxy: str, times: Times) -> Fleet:
    """Signing hosts n01, n02, and so on, not provisioned; the last is bare, and installs its packages by itself."""
    empty_fleet.group_variables["signers"] = signer_variables(acme)
    with times.of(f"{SIZE} hosts started"):
        for number in range(1, SIZE):
            empty_fleet.add(f"n{number:02}.{DOMAIN}", variables={"signer_libraries": "given"})
        bare = add_bare(empty_fleet, f"n{SIZE:02}.{DOMAIN}")
        empty_fleet.each(Host.wait, empty_fleet.group("signers"))
    lead_out(bare, proxy)
    return empty_fleet


@pytest.fixture(scope="session")
def registry(empty_fleet: Fleet) -> str:
    """HOST:PORT of a registry on plain HTTP, on a host of its own, that all hosts of the fleet reach."""
    host = empty_fleet.add(f"registry.{DOMAIN}", group="registry")
    host.wait()
    empty_fleet.group_variables["registry"] = {"registry_address": host.address, "registry_port": 5000}
    empty_fleet.play(HERE / "registry.yml").require()
    return f"{host.address}:5000"


@pytest.fixture(scope="session")
def enforcers(empty_fleet: Fleet, registry: str) -> list[Host]:
    """Two hosts of Debian 13, in group enforcers, whose podman and skopeo know signatures and the registry."""
    hosts = [empty_fleet.add(f"e{number:02}.{DOMAIN}", image="enforcer", group="enforcers") for number in (1, 2)]
    for host in hosts:
        host.wait()
        known = f'[[registry]]\nlocation = "{registry}"\ninsecure = true\n'
        host.write("/etc/containers/registries.conf.d/fleet.conf", known)
    return hosts


@pytest.fixture(scope="session")
def first_run(fleet: Fleet, times: Times) -> Play:
    """What came of the first run of playbook provision."""
    play = fleet.play("hallmark.signing.provision")
    times.add(f"{SIZE} hosts provisioned", play.seconds)
    return play


@pytest.fixture(scope="session")
def provisioned(fleet: Fleet, first_run: Play) -> Fleet:
    """The fleet, provisioned. Drills leave it so."""
    first_run.require()
    return fleet


@pytest.fixture
def make_host(empty_fleet: Fleet) -> t.Iterator[t.Callable[..., Host]]:
    """Starts further hosts for one drill, with the arguments of C(Fleet.add()), and waits for them.

    They are in group others unless C(group) says otherwise: hosts in group signers are provisioned with all.
    """
    made: list[Host] = []

    def make(name: str, *options: str, **arguments: t.Any) -> Host:
        host = empty_fleet.add(f"{name}.{DOMAIN}", *options, **{"group": "others", **arguments})
        made.append(host)
        host.wait()
        return host

    yield make
    for host in made:
        empty_fleet.discard(host)
