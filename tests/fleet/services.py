# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the hosts of the fleet are given: certificates, a way out, variables."""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import sys
import typing as t
import urllib.request

from fleet import Fleet, Host

# Where Debian looks for authorities of this machine.
CA_FOLDER = pathlib.Path("/usr/local/share/ca-certificates")


class Acme:
    """The ACME server of the fleet, and the only DNS server that it asks."""

    def __init__(self, host: Host) -> None:
        self.host, self.address = host, host.address
        self.url = f"https://{self.address}:14000/dir"

    def lead(self, name: str, address: str) -> None:
        """Let a name lead to an address."""
        self._post("clear-a", {"host": name})
        self._post("add-a", {"host": name, "addresses": [address]})

    def certificate(self, serial: str) -> dict[str, t.Any]:
        """Return what the server says of a certificate, by its serial number in hexadecimal."""
        script = (
            "import ssl, sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=20, "
            "context=ssl._create_unverified_context()).read().decode())"
        )
        url = f"https://{self.address}:15000/cert-status-by-serial/{serial}"
        said = self.host.run(["python3", "-c", script, url]).stdout
        return t.cast("dict[str, t.Any]", json.loads(said))

    def _post(self, what: str, data: dict[str, t.Any]) -> None:
        # Whatever proxy leads out of here does not lead to the containers.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        opener.open(f"http://{self.address}:8055/{what}", json.dumps(data).encode(), timeout=20).close()


def signer_variables(acme: Acme) -> dict[str, t.Any]:
    """Return the variables of the signing hosts, as in the example inventory as far as it goes."""
    return {
        "certbot_lineage": "{{ inventory_hostname }}", "certbot_domains": ["{{ inventory_hostname }}"],
        "certbot_agree_tos": True, "certbot_server": acme.url, "certbot_server_ca_path": "/fleet/acme-ca.pem",
        "certbot_deploy_commands": [["/usr/bin/logger", "--tag", "fleet", "deployed {{ inventory_hostname }}"]],
        "certbot_scheduler": "systemd",
        "key_export_exports": [{
            "private_key_path": "/etc/hallmark-signing/release.key", "dest": "/run/hallmark-signing/release.key",
            "owner": "ci", "mode": "0400",
        }],
    }


def add_bare(fleet: Fleet, name: str) -> Host:
    """Start a host that has none of the packages of the roles."""
    # Authorities of this machine that stand between it and package indexes.
    mounts = ["--volume", f"{CA_FOLDER}:{CA_FOLDER}:ro"] if CA_FOLDER.is_dir() else []
    return fleet.add(name, *mounts, "--cap-add", "NET_ADMIN", image="bare")


def lead_out(host: Host, proxy: str) -> None:
    """Let apt and pip of a host reach what those of this machine reach."""
    # Where the engine lets containers out by itself, this one shall have it no better than elsewhere.
    host.run(["ip", "route", "del", "default"])
    host.run(["update-ca-certificates"])
    host.write("/etc/apt/apt.conf.d/90fleet", f'Acquire::http::Proxy "{proxy}";\nAcquire::https::Proxy "{proxy}";\n')
    said = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    index = re.search(r"^\S+\.index-url='(.*)'$", said.stdout, re.MULTILINE)
    host.write("/etc/pip.conf", f"[global]\nproxy = {proxy}\n" + (f"index-url = {index[1]}\n" if index else ""))
