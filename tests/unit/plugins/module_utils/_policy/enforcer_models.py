# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models of how the enforcers of container images evaluate their own configuration, independent of the renderers.

Where a product's behaviour is not known, ``admits`` says yes if any reading of it would: the property under test
is that no enforcer admits what the trust policy denies.
"""

from __future__ import annotations

from collections.abc import Callable

from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._policy import (
    enforcer_model_connaisseur,
    enforcer_model_containers,
    enforcer_model_kyverno_cluster_policy,
    enforcer_model_kyverno_image_validating_policy,
    enforcer_model_openshift,
    enforcer_model_policy_controller,
    enforcer_model_ratify,
    enforcer_model_wiz,
)
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._policy.enforcer_model_common import (
    PUBLIC_LOG,
    PUBLIC_ROOT,
    Files,
    Image,
    ModelError,
    Signature,
)

__all__ = [
    "ENFORCERS",
    "PUBLIC_LOG",
    "PUBLIC_ROOT",
    "Files",
    "Image",
    "ModelError",
    "Signature",
    "admits",
]

ENFORCERS: dict[str, Callable[[str, Files, Image], bool]] = {
    "containers": enforcer_model_containers.admits,
    "openshift": enforcer_model_openshift.admits,
    "policy_controller": enforcer_model_policy_controller.admits,
    "kyverno_cluster_policy": enforcer_model_kyverno_cluster_policy.admits,
    "kyverno_image_validating_policy": enforcer_model_kyverno_image_validating_policy.admits,
    "connaisseur": enforcer_model_connaisseur.admits,
    "ratify": enforcer_model_ratify.admits,
    "wiz": enforcer_model_wiz.admits,
}


def admits(enforcer: str, version: str, files: Files, image: Image) -> bool:
    """Whether the enforcer, configured by the files, lets a pod run the image."""
    if enforcer not in ENFORCERS:
        raise ModelError(f"there is no model of {enforcer}")
    return ENFORCERS[enforcer](version, files, image)
