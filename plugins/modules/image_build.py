#!/usr/bin/python
# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: image_build
short_description: Build a container image and push it, if its inputs changed
version_added: "1.0.0"
description:
  - Builds an image and pushes it, and returns the digest of this very push. A container engine does it, or the collection
    itself, without engine or privileges, as far as nothing must be run to build.
  - Computes a hash over everything that goes into the image, keeps it as a label, and skips the build when the image
    behind every tag already has it.
  - Each base is resolved to a digest once; that digest is hashed and built on.
author:
  - The hallmark.signing authors (@hallmark-signing)
requirements:
  - docker >= 7.1
extends_documentation_fragment:
  - hallmark.signing._attributes
  - hallmark.signing._attributes.registry
  - hallmark.signing._registry
attributes:
  check_mode:
    support: full
    details: Registries and the engine are read, nothing is built or pushed.
  diff_mode:
    support: none
  idempotent:
    support: partial
    details: A build is skipped while its inputs are unchanged; what a RUN instruction fetches is not among them.
options:
  name:
    description: Name of the image, C(HOST/REPO) or, with O(builder=assemble), C(oci:DIR), without tag and digest.
    type: str
    required: true
  tags:
    description: Tags that the image gets; all of them are pushed.
    type: list
    elements: str
    required: true
  context:
    description: Folder with the build context, on the managed host. C(.dockerignore) is honoured.
    type: path
    required: true
  dockerfile:
    description: The Dockerfile, relative to O(context) and inside of it.
    type: str
    default: Dockerfile
  build_args:
    description: Build arguments. They stay in the image's history; they are no place for secrets.
    type: dict
    default: {}
  target:
    description: Stage to build; the last one without it.
    type: str
  platform:
    description: Platform to build for, such as C(linux/arm64).
    type: str
  push:
    description:
      - Whether the image is pushed. Without it, RV(image) and RV(digest) are null.
      - With O(builder=assemble) there is no other place for an image than a registry or a layout, and it means nothing for
        a layout.
    type: bool
    default: true
  pull:
    description:
      - Whether bases are resolved in their registries, even if the engine has an image of that name.
      - A base that exists only in the engine is used as it is, by its image id, with a warning. Only for O(builder=engine).
    type: bool
    default: true
  builder:
    description: What builds.
    type: str
    default: engine
    choices:
      engine: A Docker engine or another with its API.
      assemble:
        - The collection itself. The same input gives the same digest on every machine.
        - All but C(RUN) and what needs it, such as C(ONBUILD) and C(COPY --from), on C(scratch) or on a base from a registry or
          OCI layout (C(FROM oci:DIR:TAG)). What cannot be done is refused by name and line, all of it at once.
        - Times are those of C(SOURCE_DATE_EPOCH) in O(build_args) or the environment, else 1970. Layers are not compressed, because
          compressors differ between machines.
  docker_host:
    description: Address of the engine. Without it, E(DOCKER_HOST), or C(unix:///var/run/docker.sock).
    type: str
seealso:
  - module: hallmark.signing.image_signature
"""

EXAMPLES = r"""
- name: Build and push
  hallmark.signing.image_build:
    name: registry.example.org/app
    tags: ["1.4", latest]
    context: /srv/app
    build_args:
      BASE: registry.example.org/base/nginx:1.27
  register: build

- name: Assemble static files into an image, without an engine
  hallmark.signing.image_build:
    name: registry.example.org/pages
    tags: ["2026-11"]
    context: /srv/pages
    builder: assemble
    build_args:
      SOURCE_DATE_EPOCH: "1795000000"

- name: Sign what was pushed, by its digest
  hallmark.signing.image_signature:
    images: ["{{ build.image }}"]
    signers:
      - private_key_path: /etc/hallmark-signing/release.key
"""

RETURN = r"""
image:
  description: The pushed image as C(HOST/REPO@DIGEST), or C(oci:DIR@DIGEST); null if it was not pushed, or not built in check mode.
  returned: always
  type: str
  sample: registry.example.org/app@sha256:3dc87e
digest:
  description: Digest of the pushed image, as the push reported it.
  returned: always
  type: str
  sample: sha256:3dc87e
tags:
  description: The tags as given.
  returned: always
  type: list
  elements: str
  sample: ["1.4"]
image_id:
  description: Id of the image, which is the digest of its configuration.
  returned: always
  type: str
  sample: sha256:9b1c55
input_hash:
  description: Hexadecimal SHA-256 over all that goes into the image.
  returned: always
  type: str
  sample: 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae
reasons:
  description: Why the task failed; empty otherwise.
  returned: always
  type: list
  elements: dict
  sample: []
"""

import os
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._ansible import deps, registries, results
from ..module_utils._docker import build
from ..module_utils._docker.engine import Engine
from ..module_utils._errors import BuildError, HallmarkError
from ..module_utils._oci import reference as references
from ..module_utils._oci.images import Images
from ..module_utils._oci.reference import Image


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "tags": {"type": "list", "elements": "str", "required": True},
            "context": {"type": "path", "required": True},
            "dockerfile": {"type": "str", "default": "Dockerfile"},
            "build_args": {"type": "dict", "default": {}},
            "target": {"type": "str"},
            "platform": {"type": "str"},
            "push": {"type": "bool", "default": True},
            "pull": {"type": "bool", "default": True},
            "builder": {"type": "str", "default": "engine", "choices": ["engine", "assemble"]},
            "docker_host": {"type": "str"},
            **registries.registry_spec(),
        },
        supports_check_mode=True,
    )
    params = module.params
    empty: dict[str, t.Any] = {
        "changed": False, "image": None, "digest": None, "tags": params["tags"], "image_id": None, "input_hash": None,
    }
    # Without an engine, too: it is the SDK that knows what .dockerignore means.
    deps.require_libraries(module, "docker", empty=empty)
    results.require_entries(module, empty, tags=params["tags"])
    try:
        name = references.parse_image_name(params["name"])
        for tag in params["tags"]:
            references.require_tag(tag)
        recipe = build.Recipe(
            context=params["context"],
            dockerfile=params["dockerfile"],
            build_args={
                str(key): "" if value is None else str(value) for key, value in params["build_args"].items()
            },
            target=params["target"] or None,
            platform=params["platform"] or None,
        )
        built = (_assemble if params["builder"] == "assemble" else _build)(module, recipe, name)
    except HallmarkError as exc:
        results.fail_with(module, exc, empty)
    results.warn(module, built.warnings)
    results.finish(module, [], {
        "changed": built.changed,
        "image": str(name.at(built.digest)) if built.digest else None,
        "digest": built.digest,
        "tags": params["tags"],
        "image_id": built.image_id,
        "input_hash": built.input_hash,
    })


def _build(module: AnsibleModule, recipe: build.Recipe, name: Image) -> build.Built:
    params = module.params
    if not isinstance(name, references.Reference):
        raise _contradiction("name", "the engine builds for registries only", "Use builder: assemble for layouts.")
    build.require_no_epoch(recipe, os.environ)
    return build.build_image(
        Images(registries.settings(params, uses_mirrors=True)).registries, Engine(params["docker_host"]), recipe, name,
        params["tags"], push=params["push"], pull=params["pull"], dry_run=module.check_mode,
    )


def _assemble(module: AnsibleModule, recipe: build.Recipe, name: Image) -> build.Built:
    # Loaded only here: Ansible compiles what is imported for every task.
    from ..module_utils._docker import assembly

    params = module.params
    if not params["push"] and isinstance(name, references.Reference):
        raise _contradiction("push", "without an engine there is no other place for the image", "Name oci:DIR.")
    if not isinstance(name, references.Reference) and name.is_archive:
        raise _contradiction("name", "archives are written whole", "Name oci:DIR, and copy from there with image_copy.")
    return assembly.assemble_image(
        Images(registries.settings(params, uses_mirrors=True)), Images(registries.settings(params)), recipe, name,
        params["tags"], dry_run=module.check_mode,
    )


def _contradiction(option: str, cause: str, advice: str) -> BuildError:
    return BuildError(code="input_invalid", object=option, attempt="use it", cause=cause, advice=advice)


if __name__ == "__main__":
    main()
