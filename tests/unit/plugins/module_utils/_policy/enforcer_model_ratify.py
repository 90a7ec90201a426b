# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ratify 1.x in its older configuration, behind Gatekeeper: its chart's values, and the Rego of the template.

The Rego is really evaluated, with what Ratify would answer as data. The newer configuration, C(trustPolicies), compares
no digest (source of 1.4.0, pkg/verifier/cosign/trustpolicy.go): a file with it would admit anything.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._policy.enforcer_model_common import (
    Files,
    Image,
    ModelError,
    array,
    first_key,
    flag,
    made_with,
    mapping,
    one_of,
    references,
    spellings,
    text,
    yaml_documents,
)


def admits(version: str, files: Files, image: Image) -> bool:
    del version
    found = {path: yaml_documents(content, path) for path, content in files.items()}
    if set(found) != {"ratify-values.yaml", "constraint-template.yaml", "constraint.yaml"}:
        raise ModelError(f"other files: {sorted(found)}")
    ((values,), (template,), (constraint,)) = (found[one] for one in (
        "ratify-values.yaml", "constraint-template.yaml", "constraint.yaml"
    ))
    rego, kind = _template(template)
    spec = mapping(constraint, "constraint", "apiVersion", "kind", "metadata", "spec")["spec"]
    if constraint["kind"] != kind or not _denies(spec, image):
        return True
    verified = _verifies(values, image)
    names = [name for spelling in spellings(image.repository) for name in references(spelling, image)]
    return any(not _violations(rego, spec["parameters"], name, verified) for name in names)


def _verifies(values: Any, image: Image) -> bool:
    """One key in a file, SHA-256, no log without a URL."""
    top = mapping(values, "values", "cosignKeys", "cosign", "notation", "policy")
    cosign = mapping(top.get("cosign"), "values: cosign", "enabled", "key", "rekorURL")
    if array(top.get("cosignKeys") or [], "cosignKeys") or not flag(cosign.get("enabled"), True, "cosign"):
        raise ModelError("the chart would render trustPolicies, or nothing")
    if cosign.get("rekorURL"):
        raise ModelError("a log is not in the model")
    mapping(top.get("notation") or {}, "values: notation", "enabled")
    if flag(mapping(top.get("policy") or {}, "policy", "useRego").get("useRego"), False, "useRego"):
        raise ModelError("a policy in Rego is not in the model")
    key = first_key(text(cosign.get("key"), "values: cosign.key"), "values: cosign.key")
    return any(
        each.format == "sig" and each.predicate_type is None and made_with(each, key, "sha256")
        for each in image.signatures
    )


def _template(template: Any) -> tuple[str, str]:
    spec = mapping(template, "template", "apiVersion", "kind", "metadata", "spec")["spec"]
    kind = text(spec["crd"]["spec"]["names"]["kind"], "template: kind")
    if template["metadata"]["name"] != kind.lower():
        raise ModelError("a template is named as its kind")
    (target,) = array(spec.get("targets"), "template: targets")
    return text(target.get("rego"), "template: rego"), kind


def _denies(spec: Any, image: Image) -> bool:
    mapping(spec, "constraint", "enforcementAction", "match", "parameters")
    action = one_of(spec.get("enforcementAction", "deny"), ("deny", "warn", "dryrun"), "constraint")
    match = mapping(spec.get("match") or {}, "constraint: match", "kinds", "excludedNamespaces")
    kinds = [mapping(each, "constraint: kinds", "apiGroups", "kinds") for each in match.get("kinds") or []]
    pods = not kinds or any("" in each["apiGroups"] and "Pod" in each["kinds"] for each in kinds)
    return action == "deny" and pods and image.namespace not in (match.get("excludedNamespaces") or [])


def _violations(rego: str, parameters: Any, name: str, verified: bool) -> list[str]:
    regopy = pytest.importorskip("regopy")
    interpreter = regopy.Interpreter()
    # The built-in function of Gatekeeper is not in the interpreter: what Ratify answers is data.
    with_answer, count = re.subn(r"external_data\(\{.*\}\)", "input.answer", rego)
    if count != 1:
        raise ModelError("the Rego asks the provider once")
    interpreter.add_module("template", with_answer)
    interpreter.set_input({
        "parameters": parameters, "review": {"object": {"spec": {"containers": [{"image": name}]}}},
        "answer": {"responses": [[name, {"isSuccess": verified}]], "errors": [], "system_error": ""},
    })
    package = re.search(r"^package (\w+)$", rego, re.MULTILINE)
    if package is None:
        raise ModelError("the Rego has no package")
    found = json.loads(str(interpreter.query(f"data.{package[1]}.violation")))
    return list(found["expressions"][0])
