# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one exception family of the collection, and the stable reason codes.

Every error names the object, what was attempted, why it failed and what to do next; modules turn it
into one entry of C(reasons), whose codes stand in C(_reason_codes).
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

if t.TYPE_CHECKING:
    # Types alone: Ansible compiles what is imported for every task.
    from ._reason_codes import ReasonCode


@dataclass(frozen=True)
class Reason:
    """Why something failed, or what to be warned of: one entry of C(reasons) or C(warnings).

    C(signature) is the digest of the signature meant, where one is.
    """

    code: ReasonCode
    message: str
    object: str
    signature: str | None = None

    def as_dict(self) -> dict[str, str | None]:
        """Return the shape of the module contract: code, message, object, signature."""
        return {"code": self.code, "message": self.message, "object": self.object, "signature": self.signature}


class HallmarkError(Exception):
    """An expected failure: C(attempt) on C(object) failed because of C(cause); C(advice) says what to do.

    C(attempt) completes the words "could not". No argument may hold private material: the text is shown.
    """

    def __init__(
        self,
        *,
        code: ReasonCode,
        object: str,
        attempt: str,
        cause: str,
        advice: str,
        signature: str | None = None,
    ) -> None:
        self.code: ReasonCode = code
        self.object = object
        self.attempt = attempt
        self.cause = cause
        self.advice = advice
        self.signature = signature
        super().__init__(f"{object}: could not {attempt}: {cause}. {advice}")

    def as_reason(self) -> Reason:
        """Return the same as a reason, for results."""
        return Reason(self.code, str(self), self.object, self.signature)


class KeyFileError(HallmarkError):
    """A key or certificate file cannot be read, is of the wrong kind or does not belong here."""


class CustodyError(HallmarkError):
    """A private file cannot be written, kept or removed safely."""


class RegistryError(HallmarkError):
    """A registry cannot be reached, refuses, or answers with something that cannot be trusted.

    C(is_transient) says that the same request may succeed later.
    """

    is_transient = False


class FormatError(HallmarkError):
    """A reference, manifest, payload, statement or bundle is not what its specification says."""


class VerificationError(HallmarkError):
    """One signature does not count; the code says which check it failed."""


class TrustError(HallmarkError):
    """The ledger is not what it must be, or a change of the keyring is refused."""


class BuildError(HallmarkError):
    """The container engine is absent, or a build or push failed."""


class CertbotError(HallmarkError):
    """A lineage of Certbot, or what is known of it, is not as it must be for what shall be done."""


class LibraryError(HallmarkError):
    """A third-party Python library is missing or older than its floor."""
