# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of modules that talk to registries; in step with C(_ansible.registries.registry_spec)."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
requirements:
  - cryptography >= 42
  - urllib3 >= 2
options:
  registry_auth_file:
    description:
      - A docker C(config.json) whose plain C(auths) are used to log in.
      - Without it, C($DOCKER_CONFIG/config.json) or C(~/.docker/config.json) is read if it exists.
      - Credential helpers named there are not asked.
    type: path
  registries:
    description: Settings of single registries; a registry that is not listed gets the defaults.
    type: list
    elements: dict
    default: []
    suboptions:
      host:
        description: Host of the registry, with its port if it has one, as in image references.
        type: str
        required: true
      username:
        description: User to log in as; wins over O(registry_auth_file).
        type: str
      password:
        description: Password or token of O(registries[].username).
        type: str
      ca_path:
        description: PEM file with the authorities that are trusted for this registry, instead of the system's.
        type: path
      validate_certs:
        description: Whether the certificate of the registry is checked. Turn it off for experiments only.
        type: bool
        default: true
      plain_http:
        description:
          - Whether the registry is reached by HTTP without TLS.
          - Without it, only loopback hosts are, unless they have an O(registries[].ca_path).
        type: bool
  timeout:
    description: Seconds that one request may take, its retries included.
    type: int
    default: 30
  workers:
    description: How many images are worked on at a time.
    type: int
    default: 16
"""
