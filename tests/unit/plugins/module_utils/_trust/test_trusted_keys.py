# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of the keys that verifiers take out of a ledger."""

from __future__ import annotations

import pathlib

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._errors import TrustError
from ansible_collections.hallmark.signing.plugins.module_utils._trust import ledger, nobody, trusted_keys
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._policy.policy_bench import public
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._trust.rotation_story import at, found, step


@pytest.fixture
def path(tmp_path: pathlib.Path) -> str:
    """A ledger with one generation that is published, and one that is staged."""
    (tmp_path / "home").mkdir(mode=0o700)
    path = str(tmp_path / "home" / "ledger.jsonl")
    with ledger.opened(path, now=at(0)) as book:
        found(book)
        step(book, "staged", 1, public_key=public("release"))
        step(book, "published", 1)
        step(book, "staged", 2, public_key=public("backup"))
    return path


def key_ids(path: str, *, identity: str = "release", head: str | None = None) -> list[str]:
    return [one.key_id for one in trusted_keys.keys(path, identity=identity, head=head)]


def refused(path: str, *, identity: str = "release", head: str | None = None) -> str:
    with pytest.raises(TrustError) as caught:
        key_ids(path, identity=identity, head=head)
    return caught.value.code


def test_only_what_is_trusted_counts(path: str) -> None:
    assert key_ids(path) == [public("release").key_id]


def test_revoked_key_counts_no_more_and_no_other_takes_its_place(path: str) -> None:
    with ledger.opened(path, now=at(9)) as book:
        step(book, "revoked", 1, accepts_none=True)
    assert refused(path) == "key_denied"


def test_head_must_be_in_it(path: str) -> None:
    head = ledger.text_of_head(ledger.read(path, now=at(9)).head)
    assert key_ids(path, head=head) == [public("release").key_id]
    assert refused(path, head="1:" + "0" * 64) == "ledger_mismatch"


def test_unknown_identity_and_missing_ledger_are_refused(path: str) -> None:
    assert refused(path, identity="other") == "not_found"
    assert refused(f"{path}.none") == "not_found"


def test_nobody_has_the_private_half_of_a_key_that_is_made_twice() -> None:
    assert nobody.make() != nobody.make()
    assert nobody.make().startswith("-----BEGIN PUBLIC KEY-----\n")
