# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where images are: in a registry, in an OCI layout, or in an archive of one.

Registry references follow the grammar of the distribution project (C(reference/reference.go), v3); Docker Hub's
short names are normalised here and nowhere else. Layouts are written as skopeo writes them.
"""

from __future__ import annotations

import ipaddress
import re
import typing as t
from dataclasses import dataclass, replace

from .._errors import FormatError
from .digest import is_digest

if t.TYPE_CHECKING:
    from .layout_reference import LayoutReference

HUB = "docker.io"
_HUB_ALIASES = (HUB, "index.docker.io", "registry-1.docker.io")
_HUB_API = "registry-1.docker.io"
_HUB_COSIGN = "index.docker.io"

_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:.]+\])(?::[0-9]{{1,5}})?")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_HEX_ID = re.compile(r"[0-9a-f]{64}")
_MAX_NAME = 255
LAYOUT_PREFIX = "oci:"
ARCHIVE_PREFIX = "oci-archive:"


@dataclass(frozen=True)
class Reference:
    """Where an image is: registry host (with port), repository, and tag or digest or both."""

    host: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    @property
    def name(self) -> str:
        """HOST/REPOSITORY, without tag and digest."""
        return f"{self.host}/{self.repository}"

    @property
    def signed_name(self) -> str:
        """The name as cosign writes it into signatures: Docker Hub is C(index.docker.io) there."""
        return f"{_HUB_COSIGN if self.host == HUB else self.host}/{self.repository}"

    @property
    def api_host(self) -> str:
        """The host that serves the registry API."""
        return _HUB_API if self.host == HUB else self.host

    @property
    def target(self) -> str:
        """What to ask the registry for: the digest if there is one, else the tag."""
        return self.digest or self.tag or "latest"

    def at(self, digest: str) -> Reference:
        """Return the same repository at a digest, without a tag."""
        return replace(self, tag=None, digest=digest)

    def tagged(self, tag: str) -> Reference:
        """Return the same repository at a tag, without a digest."""
        return replace(self, tag=tag, digest=None)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}" + (f"@{self.digest}" if self.digest else "")


Image = t.Union[Reference, "LayoutReference"]


def parse_image(text: str) -> Image:
    """Parse an image in a registry, as C(parse()) does, or C(oci:DIR[:TAG][@DIGEST]), C(oci-archive:FILE[:TAG]).

    A path may begin with C(~); a colon in its last component must be followed by a tag. Raises FormatError
    (malformed) that names the part.
    """
    for prefix in (LAYOUT_PREFIX, ARCHIVE_PREFIX):
        if text.startswith(prefix):
            # Loaded when one is named: Ansible compiles what is imported for every task.
            from . import layout_reference

            return layout_reference.parse(text, text[len(prefix):], is_archive=prefix == ARCHIVE_PREFIX)
    return parse(text)


def parse_image_name(text: str) -> Image:
    """Parse C(HOST/REPO) or C(oci:DIR), which have neither tag nor digest. Raises FormatError (malformed)."""
    if not text.startswith((LAYOUT_PREFIX, ARCHIVE_PREFIX)):
        return parse_name(text)
    image = parse_image(text)
    if image.target:
        raise malformed(text, "neither tag nor digest belongs here")
    return image


def parse(text: str) -> Reference:
    """Parse C([HOST[:PORT]/]REPOSITORY[:TAG][@DIGEST]); without tag and digest the tag is C(latest).

    Raises FormatError (malformed) that names the part.
    """
    rest, at, digest = text.partition("@")
    if at and not is_digest(digest):
        raise malformed(text, f"{digest[:150]!r} is not a digest (sha256: and 64 lower-case hexadecimal characters)")
    name, tag = split_tag(rest)
    if tag is not None:
        require_tag(tag, whole=text)
    reference = parse_name(name, whole=text)
    return replace(reference, tag=tag if tag or digest else "latest", digest=digest or None)


def require_tag(tag: str, *, whole: str | None = None) -> str:
    """Return C(tag) if it is one. Raises FormatError (malformed)."""
    if not _TAG.fullmatch(tag):
        raise malformed(
            tag if whole is None else whole,
            f"{tag[:150]!r} is not a tag (at most 128 of letters, digits, '_', '.', '-')",
        )
    return tag


def parse_name(name: str, *, whole: str | None = None) -> Reference:
    """Parse C([HOST[:PORT]/]REPOSITORY), which has neither tag nor digest. Raises FormatError (malformed)."""
    text = name if whole is None else whole
    host, slash, repository = name.partition("/")
    if not slash or not looks_like_host(host):
        host, repository = HUB, name
    elif not _is_host(host):
        raise malformed(text, f"{host[:150]!r} is not a registry host")
    if host in _HUB_ALIASES:
        host = HUB
        repository = repository if "/" in repository else f"library/{repository}"
    if len(repository) > _MAX_NAME or not _REPOSITORY.fullmatch(repository):
        raise malformed(
            text, f"{repository[:150]!r} is not a repository (lower-case letters, digits, separators; at most 255 long)"
        )
    if _HEX_ID.fullmatch(name):
        raise malformed(text, "64 hexadecimal characters are an image id, not a repository")
    return Reference(host, repository)


def same_name(one: str, other: str) -> bool:
    """Say whether two texts name the same repository; tags and digests in them do not count."""
    try:
        return parse(one).name == parse(other).name
    except FormatError:
        return False


def split_tag(rest: str) -> tuple[str, str | None]:
    """Return a text without the tag at its end, and that tag, if there is one."""
    # A colon before the last slash belongs to the port.
    head, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag or tag.endswith("]"):
        return rest, None
    return head, tag


def looks_like_host(component: str) -> bool:
    """Say whether what stands before the first slash is a host, and not a part of a name on Docker Hub."""
    return "." in component or ":" in component or component == "localhost" or component != component.lower()


def _is_host(host: str) -> bool:
    if len(host) > _MAX_NAME or not _HOST.fullmatch(host):
        return False
    bare, _bracket, port = host.partition("]") if host.startswith("[") else host.partition(":")
    if port.lstrip(":") and not 0 < int(port.lstrip(":")) < 65536:
        return False
    try:
        return not host.startswith("[") or bool(ipaddress.IPv6Address(bare[1:]))
    except ValueError:
        return False


def malformed(text: str, cause: str) -> FormatError:
    """Return the error for a text that names no image."""
    return FormatError(
        code="malformed", object=text[:300], attempt="read it as an image reference", cause=cause,
        advice="Write HOST/REPOSITORY[:TAG][@DIGEST], oci:DIR:TAG or oci-archive:FILE:TAG.",
    )
