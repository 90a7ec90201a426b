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
    def chooses_scheme(self) -> bool:
        """Whether it signs in the scheme it is asked for; if not, the signature is in one of the key's usual ones."""

    @property
    def public(self) -> PublicKey:
        """The public half, with key id and algorithm."""

    def answers_in(self, asked: str) -> str:
        """Return the scheme in which it signs when it is asked for this one; the same, where that is not known."""

    def prepare(self, messages: t.Collection[bytes]) -> None:
        """Refuse what could not be signed, before anything is written. Raises KeyFileError."""

    def sign(self, message: bytes, *, scheme: str | None = None) -> bytes:
        """Return the signature over C(message), in a scheme of C(_keys.algorithms) or in the key's first one."""
