# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The examples beside the demo image are what is rendered of their policy, and are about the image that is deployed."""

from __future__ import annotations

import datetime
import pathlib

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._policy import enforcers, linting, reading
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._policy.test_check import ACCEPTING, NEWEST

yaml = pytest.importorskip("yaml")
FOLDER = pathlib.Path(__file__).parents[5] / "playbooks" / "files" / "policies"
NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)


def rendered(enforcer: str) -> dict[str, str]:
    # Rejecting is a second document there, and the sanity tests of collections take one for each file.
    name = "policy-accepting.yaml" if enforcer in (*ACCEPTING, "kyverno_image_validating_policy") else "policy.yaml"
    policy = reading.read_option(
        None, str(FOLDER / name), now=NOW, read_file=lambda path: pathlib.Path(path).read_bytes()
    )
    found = enforcers.render(policy, enforcer=enforcer, version=NEWEST[enforcer])
    assert found.refused == ()
    return found.files


@pytest.mark.parametrize("enforcer", NEWEST)
def test_an_example_is_what_is_rendered(enforcer: str) -> None:
    there = {
        str(path.relative_to(FOLDER / enforcer)): path.read_text()
        for path in (FOLDER / enforcer).rglob("*") if path.is_file()
    }
    assert there == rendered(enforcer)


def test_there_are_no_other_examples() -> None:
    assert {path.name for path in FOLDER.iterdir() if path.is_dir()} == set(NEWEST)


@pytest.mark.parametrize("enforcer", NEWEST)
def test_nothing_is_wrong_with_them(enforcer: str) -> None:
    problems = [
        problem for path in (FOLDER / enforcer).rglob("*") if path.suffix in (".yaml", ".json")
        for problem in linting.lint(str(path), lambda name: pathlib.Path(name).read_bytes())
    ]
    assert problems == []
