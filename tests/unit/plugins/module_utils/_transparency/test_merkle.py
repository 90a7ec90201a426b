# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Merkle proofs, against the recursive definition of the tree."""

from __future__ import annotations

import functools
import hashlib
import typing as t

import pytest
from ansible_collections.hallmark.signing.plugins.module_utils._transparency import merkle
from ansible_collections.hallmark.signing.tests.unit.plugins.module_utils._transparency.log_bench import (
    path_of,
    root_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st

SIZES = (*range(1, 75), 127, 128, 129)


@functools.cache
def tree(size: int) -> tuple[tuple[bytes, ...], bytes]:
    leaves = tuple(b"leaf %d" % number for number in range(size))
    return leaves, root_of(leaves)


def proves(root: bytes, *, leaf: bytes, index: int, size: int, hashes: t.Sequence[bytes]) -> bool:
    try:
        return merkle.root_of_inclusion(leaf=leaf, index=index, size=size, hashes=hashes) == root
    except ValueError:
        return False


def test_hashes() -> None:
    assert merkle.leaf_hash(b"") == bytes.fromhex("6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d")
    assert merkle.node_hash(b"l" * 32, b"r" * 32) == hashlib.sha256(b"\x01" + b"l" * 32 + b"r" * 32).digest()


@pytest.mark.parametrize("size", SIZES)
def test_every_proof_holds_and_no_other(size: int) -> None:
    leaves, root = tree(size)
    for index in range(size):
        leaf, path = merkle.leaf_hash(leaves[index]), path_of(index, leaves)
        assert merkle.root_of_inclusion(leaf=leaf, index=index, size=size, hashes=path) == root
        others = {
            "lengthened": [*path, b"x" * 32], "lengthened by the root": [*path, root],
            "lengthened in front": [leaf, *path], "shortened": path[:-1], "shortened in front": path[1:],
            "reversed": path[::-1],
        }
        for name, hashes in others.items():
            if hashes != path:
                assert not proves(root, leaf=leaf, index=index, size=size, hashes=hashes), (index, name)
        for other in {*range(-1, size + 2), -size, 2 * size, index + 2**62} - {index}:
            assert not proves(root, leaf=leaf, index=other, size=size, hashes=path), (index, other)
        assert not proves(root, leaf=merkle.leaf_hash(b"another"), index=index, size=size, hashes=path)


@settings(max_examples=300)
@given(st.data())
def test_a_proof_with_anything_altered_does_not_hold(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 74))
    index = data.draw(st.integers(0, size - 1))
    leaves, root = tree(size)
    good = path_of(index, leaves)
    hashes = data.draw(st.one_of(
        st.permutations(good), st.lists(st.sampled_from([*good, root, b"\x00" * 32]), max_size=9),
    ))
    at, of = data.draw(st.integers(0, 80)), data.draw(st.integers(0, 80))
    held = proves(root, leaf=merkle.leaf_hash(leaves[index]), index=at, size=of, hashes=hashes)
    # The size is not in a root: where the path is the same, a tree of another size has the same root at the same place.
    assert not held or (at == index and list(hashes) == good)


@given(st.binary(max_size=64), st.integers(), st.integers(), st.lists(st.binary(max_size=64), max_size=70))
def test_raises_nothing_but_value_errors(leaf: bytes, index: int, size: int, hashes: list[bytes]) -> None:
    proves(b"", leaf=leaf, index=index, size=size, hashes=hashes)


@pytest.mark.parametrize(("index", "size", "hashes", "cause"), [
    (0, 0, 0, "its index is outside the tree"),
    (-1, 1, 0, "its index is outside the tree"),
    (1, 1, 0, "its index is outside the tree"),
    (0, 1, 1, "it has too many hashes"),
    (0, 2, 0, "it has too few hashes"),
    (4, 5, 2, "it has too many hashes"),
    (4, 5, 0, "it has too few hashes"),
    (2**62, 2**63 - 1, 62, "it has too few hashes"),
])
def test_says_why(index: int, size: int, hashes: int, cause: str) -> None:
    with pytest.raises(ValueError, match=cause):
        merkle.root_of_inclusion(leaf=b"l" * 32, index=index, size=size, hashes=[b"h" * 32] * hashes)
