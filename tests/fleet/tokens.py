# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A registry that takes tokens, with its token service, on a host; and the guide's tasks that replace their key."""

from __future__ import annotations

import pathlib

import registry_tokens
from fleet import Host

FOLDER = "/etc/registry"
_CONFIG = f"""version: 0.1
storage: {{inmemory: {{}}}}
http: {{addr: "127.0.0.1:5000"}}
auth:
  token:
    realm: http://127.0.0.1:5001/token
    service: {registry_tokens.SERVICE}
    issuer: {registry_tokens.ISSUER}
    rootcertbundle: {FOLDER}/token.crt
"""
_UNIT = f"""[Service]
ExecStart=/usr/bin/python3 {FOLDER}/registry_tokens.py serve 5001 {FOLDER} {FOLDER}/users.json
Restart=on-failure
[Install]
WantedBy=multi-user.target
"""
_ASK = """
import base64, json, sys, time, urllib.error, urllib.request
def ask(url, authorization):
    request = urllib.request.Request(url, headers={"Authorization": authorization})
    for _ in range(100):
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as exc:
            return exc.code, b""
        except OSError:
            time.sleep(0.1)
    raise SystemExit(url + " does not answer")
if sys.argv[1] == "token":
    print(json.loads(ask("http://127.0.0.1:5001/token", "Basic " + base64.b64encode(b"ops:pw").decode())[1])["token"])
else:
    print(ask("http://127.0.0.1:5000/v2/", "Bearer " + sys.argv[1])[0])
"""


def serve(host: Host) -> None:
    """Run both on a host of image node."""
    host.run(["mkdir", "-p", FOLDER])
    host.write(f"{FOLDER}/registry_tokens.py", pathlib.Path(registry_tokens.__file__).read_text())
    host.write(f"{FOLDER}/users.json", '{"ops": {"password": "pw", "actions": ["pull"]}}')
    host.write("/etc/docker/registry/config.yml", _CONFIG)
    host.write("/etc/systemd/system/registry-tokens.service", _UNIT)
    host.run(["python3", f"{FOLDER}/registry_tokens.py", "certificate", FOLDER])
    host.run(["rm", "-f", "/etc/systemd/system/docker-registry.service"])
    host.run(["chgrp", "docker-registry", f"{FOLDER}/token.crt"])
    host.run(["systemctl", "daemon-reload"])
    host.run(["systemctl", "start", "registry-tokens.service", "docker-registry.service"])


def token(host: Host) -> str:
    """Have a token made."""
    return host.run(["python3", "-c", _ASK, "token"]).stdout.strip()


def status(host: Host, made: str) -> int:
    """Return what the registry answers to a token."""
    return int(host.run(["python3", "-c", _ASK, made]).stdout)


def replacing(guide: pathlib.Path, host: Host) -> str:
    """Return the tasks of the guide, for the registry that is here."""
    after = guide.read_text().partition("A file for `rotation_registry_token_tasks`")[2]
    tasks = after.partition("```yaml\n")[2].partition("```")[0]
    assert "registry1.example.org" in tasks
    return "---\n" + tasks.replace("registry1.example.org", host.name)
