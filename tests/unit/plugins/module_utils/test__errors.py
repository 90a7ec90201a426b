# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the exception family."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils import _errors, _reason_codes

FAMILY = (
    _errors.BuildError,
    _errors.CustodyError,
    _errors.FormatError,
    _errors.KeyFileError,
    _errors.LibraryError,
    _errors.RegistryError,
    _errors.VerificationError,
)


def _error(kind: type[_errors.HallmarkError] = _errors.HallmarkError, **more: t.Any) -> _errors.HallmarkError:
    return kind(
        code="not_found", object="/srv/key", attempt="read the file", cause="no such file", advice="Check it.", **more
    )


def test_text_names_object_attempt_cause_and_advice() -> None:
    assert str(_error()) == "/srv/key: could not read the file: no such file. Check it."


@pytest.mark.parametrize("kind", FAMILY)
def test_each_error_is_caught_as_the_family(kind: type[_errors.HallmarkError]) -> None:
    with pytest.raises(_errors.HallmarkError) as caught:
        raise _error(kind)
    assert caught.value.__class__ is kind


def test_kinds_are_apart() -> None:
    for kind in FAMILY:
        assert not [other for other in FAMILY if other is not kind and issubclass(kind, other)]


def test_attributes_are_those_given() -> None:
    error = _error(signature="sha256:00")
    shown = (error.code, error.object, error.attempt, error.cause, error.advice, error.signature)
    assert shown == ("not_found", "/srv/key", "read the file", "no such file", "Check it.", "sha256:00")


@pytest.mark.parametrize("signature", [None, "sha256:00"])
def test_reason_says_the_same_as_the_error(signature: str | None) -> None:
    error = _error(signature=signature)
    assert error.as_reason() == _errors.Reason("not_found", str(error), "/srv/key", signature)
    assert error.as_reason().as_dict() == {
        "code": "not_found", "message": str(error), "object": "/srv/key", "signature": signature,
    }


@pytest.mark.parametrize("make", [_errors.HallmarkError, *FAMILY])
def test_arguments_are_keywords_only(make: t.Callable[..., _errors.HallmarkError]) -> None:
    with pytest.raises(TypeError, match="positional argument"):
        make("not_found", "a", "b", "c", "d")


def test_reason_without_signature_has_the_member() -> None:
    assert _errors.Reason("not_found", "text", "/srv/key").as_dict()["signature"] is None


def test_reason_cannot_be_changed_and_can_be_counted() -> None:
    reason = _errors.Reason("not_found", "text", "/srv/key")
    with pytest.raises(dataclasses.FrozenInstanceError):
        reason.code = "malformed"  # type: ignore
    assert len({reason, _errors.Reason("not_found", "text", "/srv/key")}) == 1


def test_codes_are_sorted_and_unique() -> None:
    codes = t.get_args(_reason_codes.ReasonCode)
    assert list(codes) == sorted(set(codes))
