# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wiz image integrity validators, of which little is known: admitted is what any reading admits."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._policy.enforcer_model_common import (
    Files,
    Image,
    ModelError,
    array,
    first_key,
    glob_matches,
    json_document,
    made_with,
    mapping,
    one_of,
    references,
    spellings,
    text,
    texts,
)

_FILE = "image-integrity-validators.json"
_TERRAFORM = "wiz.tf.json"


@dataclass(frozen=True)
class Validator:
    """One key and the images that it is meant for."""

    name: str
    patterns: tuple[str, ...]
    key: str

    def concerns(self, name: str, crosses: bool) -> bool:
        return any(glob_matches(pattern, name, crosses=crosses) for pattern in self.patterns)


def admits(version: str, files: Files, image: Image) -> bool:
    del version
    if not {_FILE} <= set(files) <= {_FILE, _TERRAFORM}:
        raise ModelError(f"exactly the file {_FILE} is known, and the same for Terraform")
    document = mapping(json_document(files[_FILE], _FILE), _FILE, "imageIntegrityValidators", "policies")
    validators = [_validator(value) for value in array(document.get("imageIntegrityValidators"), _FILE)]
    if len({each.name for each in validators}) != len(validators):
        raise ModelError("two validators have the same name")
    blocking = _blocking(document.get("policies"), {each.name for each in validators})
    enforced = [each for each in validators if each.name in blocking]
    names = [name for spelling in spellings(image.repository) for name in references(spelling, image)]
    return any(_passes(enforced, name, image, crosses) for name in names for crosses in (True, False))


def _passes(enforced: list[Validator], name: str, image: Image, crosses: bool) -> bool:
    """Whether one of several keys is enough is unknown; what all of them admit, one of them admits too."""
    matching = [each for each in enforced if each.concerns(name, crosses)]
    made = [
        each for each in matching
        if any(made_with(signature, each.key, "sha256") and signature.predicate_type is None
               for signature in image.signatures)
    ]
    return not matching or bool(made)


def _blocking(value: object, known: set[str]) -> set[str]:
    """The validators that a policy with BLOCK names; AUDIT and a validator without a policy stop nothing."""
    result: set[str] = set()
    for entry in array(value, "policies"):
        policy = mapping(entry, "policies", "name", "enforcement", "imageIntegrityValidators")
        text(policy.get("name"), "policies: name")
        named = set(texts(policy.get("imageIntegrityValidators"), "policies: imageIntegrityValidators"))
        if not named <= known:
            raise ModelError(f"unknown validators {sorted(named - known)}")
        if one_of(policy.get("enforcement"), ("BLOCK", "AUDIT"), "policies: enforcement") == "BLOCK":
            result |= named
    return result


def _validator(value: object) -> Validator:
    fields = mapping(value, "validator", "name", "description", "imagePatterns", "value")
    name = text(fields.get("name"), "validator: name")
    check = mapping(fields.get("value"), name, "method", "cosign")
    one_of(check.get("method"), ("COSIGN",), f"{name}: method")
    cosign = mapping(check.get("cosign"), f"{name}: cosign", "method", "key")
    one_of(cosign.get("method"), ("KEY",), f"{name}: cosign: method")
    patterns = texts(fields.get("imagePatterns"), f"{name}: imagePatterns")
    if not patterns:
        raise ModelError(f"{name}: no imagePatterns")
    return Validator(name, tuple(patterns), first_key(text(cosign.get("key"), name), name))
