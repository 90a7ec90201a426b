# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of modules that talk to registries; in step with C(_ansible.registries.registry_spec)."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
requirements:
  - cryptography >= 42
notes:
  - Proxies are taken from the environment of the task, C(HTTPS_PROXY), C(HTTP_PROXY), C(ALL_PROXY) and C(NO_PROXY), as curl does.
    Loopback is never reached through a proxy. Where C(environment) of the task sets one with a login, Ansible itself shows it
    with C(-vvv); set it in the environment of the host instead.
options:
  registry_auth_file:
    description:
      - A docker C(config.json) that says how to log in, by plain C(auths), identity tokens or credential helpers. Helpers are
        asked first, as docker does; that takes the docker SDK for Python, 7.1 or newer.
      - Without it, C($DOCKER_CONFIG/config.json) or C(~/.docker/config.json) is read if it exists.
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
      client_cert:
        description: PEM file with a certificate by which this host is known to the registry, and its chain.
        type: path
      client_key:
        description: PEM file with the key of O(registries[].client_cert), without passphrase, if that file does not hold it.
        type: path
      mirrors:
        description:
          - Registries that have copies, C(HOST[:PORT][/PREFIX]), in the order in which they are read. Where they fail or
            have nothing, the registry itself is read.
          - Used by tasks that read only. What a mirror says under a tag is taken from it; what has a digest is checked.
        type: list
        elements: str
        default: []
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

    SETTLE = r"""
options:
  settle_seconds:
    description:
      - Signatures of an image share a tag, and registries cannot be told to write only if nobody else wrote. So a task
        believes in what it wrote only when it is still there after this time, in seconds, and writes again what others
        overwrote. All images of a task share one wait, and a task that changes nothing does not wait.
      - Nothing is lost if every host that signs the same images uses the same value, and reads and writes within it.
      - V(0) is for images that no other host signs.
    type: float
    default: 2.0
"""
