# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of how tasks end."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._ansible import results
from ansible_collections.hallmark.signing.plugins.module_utils._errors import KeyFileError, Reason
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._ansible.fake_module import Ended, FakeModule

RESULT = {"changed": True, "key_id": "x"}
FIRST = Reason("not_found", "first", "a")
SECOND = Reason("malformed", "second", "b", "sha256:00")


def ended(action: t.Callable[[FakeModule], t.Any], **options: t.Any) -> tuple[str, dict[str, t.Any]]:
    module = FakeModule(**options)
    with pytest.raises(Ended):
        action(module)
    assert module.ended is not None
    return module.ended


def test_good_end_has_the_result_and_no_reasons() -> None:
    assert ended(lambda module: results.finish(module, [], RESULT)) == ("well", {**RESULT, "reasons": []})


def test_reasons_make_the_task_fail_with_the_same_keys() -> None:
    assert ended(lambda module: results.finish(module, [FIRST, SECOND], RESULT)) == ("failed", {
        **RESULT, "msg": "first | second", "reasons": [FIRST.as_dict(), SECOND.as_dict()],
    })


def test_message_says_each_thing_once_and_reasons_stay() -> None:
    again = Reason("not_found", "first", "other")
    how, result = ended(lambda module: results.finish(module, [FIRST, SECOND, again], RESULT))
    assert (how, result["msg"], len(result["reasons"])) == ("failed", "first | second", 3)


def test_error_of_the_domain_becomes_one_reason() -> None:
    error = KeyFileError(code="malformed", object="/k", attempt="read it", cause="rubbish", advice="Look.")
    assert ended(lambda module: results.fail_with(module, error, RESULT)) == ("failed", {
        **RESULT, "msg": "/k: could not read it: rubbish. Look.", "reasons": [error.as_reason().as_dict()],
    })


def test_failure_has_the_message_given() -> None:
    assert ended(lambda module: results.fail(module, "said", [FIRST], {})) == ("failed", {
        "msg": "said", "reasons": [FIRST.as_dict()],
    })


@pytest.mark.parametrize("end", [
    lambda module: results.fail(module, "x", [], {}), lambda module: results.finish(module, [], {}),
])
def test_nothing_goes_on_behind_the_end(end: t.Callable[[t.Any], t.Any], monkeypatch: pytest.MonkeyPatch) -> None:
    module = FakeModule()
    monkeypatch.setattr(module, "exit_json", lambda **_result: None)
    monkeypatch.setattr(module, "fail_json", lambda **_result: None)
    with pytest.raises(AssertionError, match="unreachable"):
        end(module)


def test_warnings_are_shown_once_and_in_order() -> None:
    module = FakeModule()
    results.warn(module, [SECOND, FIRST, Reason("local_base", "second", "c")])
    assert module.warnings == ["second", "first"]
    results.warn(module, [])
    assert module.warnings == ["second", "first"]


def test_empty_list_ends_the_task() -> None:
    how, result = ended(lambda module: results.require_entries(module, RESULT, images=["x"], trust=[]))
    assert (how, sorted(result)) == ("failed", ["changed", "key_id", "msg", "reasons"])
    assert result["reasons"] == [
        {"code": "input_invalid", "message": result["msg"], "object": "trust", "signature": None},
    ]
    assert result["msg"].startswith("trust: ")
    assert "empty" in result["msg"]


def test_filled_lists_are_no_matter() -> None:
    module = FakeModule()
    results.require_entries(module, RESULT, images=["x"], trust=["y"])
    results.require_entries(module, RESULT)
    assert module.ended is None


def test_diff_is_there_in_diff_mode_only() -> None:
    assert results.diff(FakeModule(), {"a": 1}, {}, "head") == {}
    assert results.diff(FakeModule(diff=True), {"a": 1}, {}, "head") == {
        "diff": {"before_header": "head", "after_header": "head", "before": {"a": 1}, "after": {}},
    }
