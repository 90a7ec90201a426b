# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Gatekeeper with Ratify 1: values for Ratify's chart, and a C(ConstraintTemplate) with its constraint.

Ratify is given one key for all images, in the older of its two configurations. The newer one, C(trustPolicies), takes
several, but as of 1.4.0 it never compares the digest in a signature with that of the image (C(CheckOpts) without a
C(ClaimVerifier), pkg/verifier/cosign/trustpolicy.go): whoever can push an image could push the signature of another one
beside it. Which images need a signature is decided in Rego, with our patterns; whatever Ratify does not answer about is
denied. All of this is from its source; the Rego is tested, neither product was run.
"""

from __future__ import annotations

import typing as t

from . import rendering
from .check import Abilities
from .model import Policy
from .rendering import Files, Version

VALUES = "ratify-values.yaml"
TEMPLATE = "constraint-template.yaml"
CONSTRAINT = "constraint.yaml"
_GONE = (2,)
_KIND = "HallmarkSigning"
_STRINGS = {"type": "string"}
_PARAMETERS = {"type": "object", "properties": {
    "default": {"type": "string", "enum": ["reject", "accept"]},
    "patterns": {"type": "array", "items": {"type": "object", "properties": {
        "kind": _STRINGS, "host": _STRINGS, "path": _STRINGS,
    }}},
}}

REGO = """\
package hallmarksigning

spec := input.review.object.spec

images := ({image | image := spec.containers[_].image} | {image | image := spec.initContainers[_].image}) | {image |
  image := spec.ephemeralContainers[_].image
}

covered := {image | image := images[_]; is_covered(image)}

violation[{"msg": msg}] {
  image := images[_]
  not is_covered(image)
  input.parameters["default"] != "accept"
  msg := sprintf("%v: the trust policy has no rule for it", [image])
}

violation[{"msg": msg}] {
  image := covered[_]
  not is_verified(image)
  msg := sprintf("%v: it is not verified to be signed", [image])
}

answer := external_data({"provider": "ratify-provider", "keys": [image | image := covered[_]]})

# No answer, an error and an answer without success are all the same.
is_verified(image) {
  object.get(answer, "system_error", "") == ""
  count([1 | answer.errors[_][0] == image]) == 0
  found := [one[1] | one := answer.responses[_]; one[0] == image]
  count(found) > 0
  count([1 | one := found[_]; object.get(one, "isSuccess", false) != true]) == 0
}

is_covered(image) {
  pattern := input.parameters.patterns[_]
  matches(pattern, host(image), path(image))
}

matches(pattern, name, _) {
  pattern.kind == "domain"
  endswith(name, sprintf(".%v", [pattern.host]))
}

matches(pattern, name, repository) {
  pattern.kind != "domain"
  pattern.host == name
  fits(pattern, repository)
}

fits(pattern, repository) {
  pattern.kind == "repository"
  repository == pattern.path
}

fits(pattern, _) {
  pattern.kind == "tree"
  pattern.path == ""
}

fits(pattern, repository) {
  pattern.kind == "tree"
  repository == pattern.path
}

fits(pattern, repository) {
  pattern.kind == "tree"
  startswith(repository, sprintf("%v/", [pattern.path]))
}

fits(pattern, repository) {
  pattern.kind == "prefix"
  startswith(repository, pattern.path)
  not contains(substring(repository, count(pattern.path), -1), "/")
}

# HOST/REPO, without what comes after. A name without a host is Docker Hub's, one part is one of its own images.
parts(image) := split(split(image, "@")[0], "/")

has_host(image) {
  count(parts(image)) > 1
  regex.match("[.:]|^localhost$", parts(image)[0])
}

host(image) := lower(parts(image)[0]) {
  has_host(image)
  not is_hub(image)
}

host(image) := "docker.io" {
  is_hub(image)
}

is_hub(image) { not has_host(image) }
is_hub(image) { regex.match("^(index[.])?docker[.]io$", lower(parts(image)[0])) }

repository(image) := split(concat("/", array.slice(parts(image), 1, count(parts(image)))), ":")[0] {
  has_host(image)
}

repository(image) := split(concat("/", parts(image)), ":")[0] {
  not has_host(image)
}

path(image) := sprintf("library/%v", [repository(image)]) {
  is_hub(image)
  not contains(repository(image), "/")
}

path(image) := repository(image) {
  is_hub(image)
  contains(repository(image), "/")
}

path(image) := repository(image) {
  not is_hub(image)
}
"""


def abilities(version: Version) -> Abilities | None:
    """Return what a version can express; None for Ratify 2, which is another program."""
    if version >= _GONE:
        return None
    return Abilities(
        choices=frozenset(), identities=frozenset(("keys",)), max_keys=1, max_keys_in_all=1,
        key_families=frozenset(("ec",)), patterns=frozenset(("repository", "tree", "prefix", "domain")),
    )


def render(policy: Policy, version: Version) -> Files:
    """Return the files; the policy was checked."""
    del version
    (key,) = {key.pem for rule in policy.rules for authority in rule.any_of for key in authority.keys}
    patterns = sorted(
        ({"kind": one.kind, "host": one.host, "path": one.path} for rule in policy.rules for one in rule.patterns),
        key=lambda one: (one["host"], one["path"], one["kind"]),
    )
    return {
        VALUES: rendering.as_yaml({
            "cosignKeys": [], "cosign": {"enabled": True, "key": key, "rekorURL": ""}, "notation": {"enabled": False},
            "policy": {"useRego": False},
        }),
        TEMPLATE: rendering.as_yaml(_template()),
        CONSTRAINT: rendering.as_yaml(_constraint({"default": policy.default, "patterns": patterns})),
    }


def _template() -> dict[str, t.Any]:
    return {
        "apiVersion": "templates.gatekeeper.sh/v1", "kind": "ConstraintTemplate",
        "metadata": {"name": _KIND.lower()},
        "spec": {
            "crd": {"spec": {"names": {"kind": _KIND}, "validation": {"openAPIV3Schema": _PARAMETERS}}},
            "targets": [{"target": "admission.k8s.gatekeeper.sh", "rego": REGO}],
        },
    }


def _constraint(parameters: dict[str, t.Any]) -> dict[str, t.Any]:
    return {
        "apiVersion": "constraints.gatekeeper.sh/v1beta1", "kind": _KIND, "metadata": {"name": "hallmark-signing"},
        "spec": {
            "enforcementAction": "deny",
            # What answers runs in this namespace, and could not be started otherwise.
            "match": {
                "kinds": [{"apiGroups": [""], "kinds": ["Pod"]}], "excludedNamespaces": ["gatekeeper-system"],
            },
            "parameters": parameters,
        },
    }
