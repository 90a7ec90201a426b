# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Counting authorities: one key counts once, and as many authorities as possible are found."""

from __future__ import annotations

import itertools
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._signing.matching import match
from ansible_collections.hallmark.signing.plugins.module_utils._signing.signature import Signature
from hypothesis import given, settings
from hypothesis import strategies as st

Found = list[tuple[tuple[str, ...], Signature]]


def signature(key_id: str, digest: str = "sha256:1") -> Signature:
    return Signature("sig", digest, "sha256:0", key_id, "ecdsa-p256", {})


def found(*rows: tuple[str, str]) -> Found:
    """Each row is a key and the names it is good for."""
    return [(tuple(names.split()), signature(key)) for key, names in rows]


def best(rows: t.Sequence[tuple[str, t.Collection[str]]]) -> int:
    """How many authorities can have a key of their own, by trying everything."""
    names = sorted({name for _key, good_for in rows for name in good_for})
    good = {(key, name) for key, good_for in rows for name in good_for}
    keys = sorted({key for key, _good_for in rows})
    for count in range(min(len(names), len(keys)), 0, -1):
        for some in itertools.combinations(names, count):
            for order in itertools.permutations(keys, count):
                if all(pair in good for pair in zip(order, some)):
                    return count
    return 0


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        ((), ""),
        ((("k", ""),), ""),
        ((("k", "a"),), "a"),
        # One key counts once, however often it signed and whatever it is good for.
        ((("k", "a"), ("k", "a")), "a"),
        ((("k", "a b"),), "a"),
        ((("k", "a"), ("k", "b")), "a"),
        ((("k", "a b"), ("l", "a b")), "a b"),
        # The first one must give way, once, and along a chain.
        ((("k", "a b"), ("l", "a")), "a b"),
        ((("k", "a b"), ("l", "b c"), ("m", "a")), "a b c"),
        ((("k", "a"), ("l", "a b"), ("m", "b c"), ("n", "a")), "a b c"),
        # Nobody is left for the second authority.
        ((("k", "a"), ("l", "a"), ("m", "a")), "a"),
    ],
)
def test_as_many_authorities_as_possible_are_named(rows: t.Any, named: str) -> None:
    made = match(found(*rows))
    assert sorted(made) == named.split()


def test_each_authority_has_a_signature_that_is_good_for_it() -> None:
    rows = (("k", "a b"), ("l", "b c"), ("m", "a"), ("k", "d"))
    made = match(found(*rows))
    assert {name: one.authority for name, one in made.items()} == {name: name for name in made}
    assert len({one.key_id for one in made.values()}) == len(made)
    for name, one in made.items():
        assert any(key == one.key_id and name in names.split() for key, names in rows)


def test_first_signature_of_a_key_is_told() -> None:
    made = match([(("a",), signature("k", "sha256:1")), (("a", "b"), signature("k", "sha256:2"))])
    assert {name: one.digest for name, one in made.items()} == {"a": "sha256:1"}


@settings(max_examples=300)
@given(st.lists(st.tuples(st.sampled_from("klmn"), st.frozensets(st.sampled_from("abcd"))), max_size=6))
def test_no_distribution_is_better(rows: list[tuple[str, frozenset[str]]]) -> None:
    made = match([(tuple(sorted(names)), signature(key)) for key, names in rows])
    assert len(made) == best(rows)
    assert len({one.key_id for one in made.values()}) == len(made)
    for name, one in made.items():
        assert any(key == one.key_id and name in names for key, names in rows)


def test_many_signatures_take_no_time() -> None:
    rows = [(tuple(f"a{name}" for name in range(100)), signature(f"k{key}")) for key in range(1000)]
    assert len(match(rows)) == 100
    # Each gives way to the next: as deep as there are authorities.
    chain = [((f"a{key}", f"a{key + 1}"), signature(f"k{key}")) for key in range(300)]
    assert len(match([*chain, (("a0",), signature("last"))])) == 301
