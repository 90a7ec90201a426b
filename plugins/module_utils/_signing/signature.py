# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A signature as results tell of it, and the formats there are."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

Format = t.Literal["sig", "bundle"]
FORMATS: tuple[Format, ...] = ("sig", "bundle")


@dataclass(frozen=True)
class Signature:
    """A signature that was verified, or made, with what it says."""

    format: Format
    digest: str | None
    subject: str
    key_id: str
    algorithm: str
    annotations: t.Mapping[str, str]
    created: bool = False
    authority: str | None = None

    def as_dict(self) -> dict[str, t.Any]:
        """Return the shape of the module contract; C(authority) only where one was named."""
        shape: dict[str, t.Any] = {
            "format": self.format, "digest": self.digest, "subject": self.subject, "key_id": self.key_id,
            "algorithm": self.algorithm, "annotations": dict(self.annotations), "created": self.created,
        }
        return shape if self.authority is None else {**shape, "authority": self.authority}
