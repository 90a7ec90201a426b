# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the argument specs of key files."""

from __future__ import annotations

import typing as t

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.hallmark.signing.plugins.module_utils._ansible import args

KEY_ID = "0123456789abcdef" * 4


def validate(spec: args.Spec, **params: t.Any) -> dict[str, t.Any]:
    """Return the parameters as a module gets them."""
    result = ArgumentSpecValidator(spec).validate(params)
    assert result.error_messages == []
    return t.cast("dict[str, t.Any]", result.validated_parameters)


def errors(spec: args.Spec, **params: t.Any) -> str:
    return " / ".join(ArgumentSpecValidator(spec).validate(params).error_messages)


@pytest.mark.parametrize("prefix", ["", "source_"])
def test_passphrase_is_a_secret_and_its_path_is_none(prefix: str) -> None:
    spec = args.passphrase_spec(prefix)
    assert spec == {
        f"{prefix}passphrase": {"type": "str", "no_log": True},
        f"{prefix}passphrase_path": {"type": "path", "no_log": False},
    }
    assert validate(spec) == {f"{prefix}passphrase": None, f"{prefix}passphrase_path": None}


def test_file_options_have_the_defaults_of_the_contract() -> None:
    assert validate(args.file_spec()) == {"owner": None, "group": None, "mode": "0600"}
    # What YAML makes of an unquoted 0600; the domain refuses it.
    assert validate(args.file_spec(), mode=0o600)["mode"] == "384"
