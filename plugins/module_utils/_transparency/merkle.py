# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Merkle tree of a transparency log (RFC 9162 section 2.1)."""

from __future__ import annotations

import hashlib
import typing as t


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf that holds C(data)."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of a node above two others."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_of_inclusion(*, leaf: bytes, index: int, size: int, hashes: t.Sequence[bytes]) -> bytes:
    """Return the root that an inclusion proof leads to (RFC 9162 section 2.1.3.2).

    C(leaf) is the hash of the leaf at C(index) of a tree of C(size) leaves, C(hashes) are the neighbours on its
    way up. The proof holds if the root is the one the log signed. Raises ValueError: a number of hashes that
    does not fit, or an index outside the tree.
    """
    if not 0 <= index < size:
        raise ValueError("its index is outside the tree")
    found, position, last = leaf, index, size - 1
    for neighbour in hashes:
        if last == 0:
            raise ValueError("it has too many hashes")
        if position % 2 == 1 or position == last:
            found = node_hash(neighbour, found)
            # The last node of a level without a neighbour moves up as it is.
            while position % 2 == 0 and position != 0:
                position, last = position // 2, last // 2
        else:
            found = node_hash(found, neighbour)
        position, last = position // 2, last // 2
    if last != 0:
        raise ValueError("it has too few hashes")
    return found
