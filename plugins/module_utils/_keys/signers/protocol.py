# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What signs: the interface behind which a key file, an HSM or a remote host may stand."""

from __future__ import annotations

import typing as t

from ..pem import PublicKey


class Signer(t.Protocol):
    """Something that holds one private key and signs with it."""

    @property
    def public(self) -> PublicKey:
        """The public half, with key id and algorithm."""

    def sign(self, message: bytes) -> bytes:
        """Return the signature over C(message), in the scheme of C(_keys.algorithms.sign)."""
