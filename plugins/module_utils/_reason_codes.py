# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The stable codes of reasons. The meaning of each stands in C(docs/reason_codes.md). Import it for checking only."""

from __future__ import annotations

import typing as t

ReasonCode = t.Literal[
    "annotation_mismatch",
    "attestation_missing",
    "build_failed",
    "bundle_hides_sig",
    "certificate_expired",
    "certificate_untrusted",
    "destination_occupied",
    "destination_unsafe",
    "digest_mismatch",
    "eku_mismatch",
    "engine_unavailable",
    "identity_mismatch",
    "input_invalid",
    "key_denied",
    "key_mismatch",
    "key_unknown",
    "library_missing",
    "limit_exceeded",
    "limited_readers",
    "local_base",
    "log_invalid",
    "log_missing",
    "malformed",
    "mode_too_open",
    "no_rule",
    "no_signatures",
    "not_evaluated",
    "not_found",
    "not_in_index",
    "parent_unsafe",
    "passphrase_invalid",
    "policy_refused",
    "probe_failed",
    "reference_mismatch",
    "registry_error",
    "service_unavailable",
    "signature_invalid",
    "threshold_not_met",
    "timestamp_invalid",
    "timestamp_missing",
    "type_mismatch",
    "unauthorized",
    "unsupported_algorithm",
    "write_failed",
    "write_lost",
]
