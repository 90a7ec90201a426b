# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""References to images in OCI layouts and in archives of them, as skopeo writes them."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from .digest import is_digest
from .reference import ARCHIVE_PREFIX, LAYOUT_PREFIX, malformed, require_tag, split_tag


@dataclass(frozen=True)
class LayoutReference:
    """Where an image is in an OCI layout (a folder), or in a tar archive of one: by tag or digest or neither.

    Without both, the only image there is meant.
    """

    path: str
    tag: str | None = None
    digest: str | None = None
    is_archive: bool = False

    @property
    def name(self) -> str:
        """C(oci:DIR) or C(oci-archive:FILE), without tag and digest."""
        return f"{ARCHIVE_PREFIX if self.is_archive else LAYOUT_PREFIX}{self.path}"

    @property
    def signed_name(self) -> str:
        """Nothing: a folder is no name under which anybody will run the image."""
        return ""

    @property
    def target(self) -> str:
        """What to look for: the digest if there is one, else the tag, else nothing."""
        return self.digest or self.tag or ""

    def at(self, digest: str) -> LayoutReference:
        """Return the same layout at a digest, without a tag."""
        return replace(self, tag=None, digest=digest)

    def tagged(self, tag: str) -> LayoutReference:
        """Return the same layout at a tag, without a digest."""
        return replace(self, tag=tag, digest=None)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}" + (f"@{self.digest}" if self.digest else "")


def parse(text: str, rest: str, *, is_archive: bool) -> LayoutReference:
    """Parse C(PATH[:TAG][@DIGEST]), which follows the prefix in C(text). Raises FormatError (malformed)."""
    head, at, digest = rest.rpartition("@")
    if not at or not is_digest(digest):
        head, digest = rest, ""
    path, tag = split_tag(head)
    if tag is not None:
        require_tag(tag, whole=text)
    if not path or "\0" in path:
        raise malformed(text, "it names no folder or file")
    return LayoutReference(os.path.expanduser(path), tag, digest or None, is_archive)
