# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts that fetch images all the time, under the policy that is in force on them, and write down what became of it."""

from __future__ import annotations

import pathlib
import time
import typing as t

from fleet import Host, wait_until

LOG = "/var/log/admissions"
_LIST = "admissions"
_PROGRAM = """#!/bin/sh
while :; do
  while read -r wanted image; do
    begun=$(date +%s.%N)
    if skopeo copy --quiet "docker://$image" dir:/run/admission 2>/run/admission.said; then got=admit
    elif grep -q 'Source image rejected' /run/admission.said; then got=deny
    else got=error; fi
    rm -rf /run/admission
    echo "$begun $wanted $got $image" >>/var/log/admissions
    sleep 0.8
  done </fleet/admissions
done
"""
_UNIT = "[Service]\nExecStart=/usr/local/bin/admit\nRestart=always\n[Install]\nWantedBy=multi-user.target\n"


class Admission(t.NamedTuple):
    """One image that a host fetched, or not: when that began, what was right, and what became of it."""

    host: str
    begun: float
    wanted: str
    got: str
    image: str


class Admissions:
    """Everything that was fetched, on hosts that may come and go."""

    def __init__(
        self, hosts: t.Sequence[Host], shared: pathlib.Path, *, admit: t.Sequence[str], deny: t.Sequence[str]
    ) -> None:
        self.hosts = list(hosts)
        self.images = {**dict.fromkeys(admit, "admit"), **dict.fromkeys(deny, "deny")}
        self._kept: list[Admission] = []
        (shared / _LIST).write_text("".join(f"{wanted} {image}\n" for image, wanted in self.images.items()))

    def begin(self) -> None:
        """Let every host begin."""
        for host in self.hosts:
            host.write("/usr/local/bin/admit", _PROGRAM, mode="0755")
            host.write("/etc/systemd/system/admissions.service", _UNIT)
            host.run(["systemctl", "enable", "--now", "admissions.service"])

    def end(self) -> None:
        """Let every host stop."""
        for host in self.hosts:
            host.run(["systemctl", "disable", "--now", "admissions.service"], check=False)

    def keep(self, host: Host) -> None:
        """Take down what a host wrote, before its disk is taken away."""
        self._kept += self._of(host)
        host.write(LOG, "")

    def all(self) -> list[Admission]:
        """Return everything so far."""
        return [*self._kept, *(one for host in self.hosts for one in self._of(host))]

    def cover(self, hosts: t.Sequence[Host] | None = None) -> None:
        """Wait until each host has tried each image once more."""
        since = time.time()
        wanted = {(host.name, image) for host in (self.hosts if hosts is None else hosts) for image in self.images}

        def is_covered() -> bool:
            return wanted <= {(one.host, one.image) for one in self.all() if one.begun > since}

        wait_until(is_covered, "every image at every enforcer", pause=1)

    def _of(self, host: Host) -> list[Admission]:
        lines = host.run(["cat", LOG], check=False).stdout.splitlines()
        return [
            Admission(host.name, float(begun), wanted, got, image)
            for begun, wanted, got, image in (line.split(" ") for line in lines if line.count(" ") == 3)
        ]


def verdicts(admissions: t.Iterable[Admission]) -> dict[str, int]:
    """Return how often what was wanted became what."""
    found: dict[str, int] = {}
    for one in admissions:
        found[f"{one.wanted}: {one.got}"] = found.get(f"{one.wanted}: {one.got}", 0) + 1
    return dict(sorted(found.items()))
