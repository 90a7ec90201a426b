# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which repositories are meant, as rules of the trust policy say it.

Four forms, each of which most enforcers have a word for: C(HOST/REPO); C(HOST/NS/**), the repository NS and all below
it; C(HOST/NS/PREFIX*), the repositories of NS whose last component begins so; C(*.DOMAIN/**), all hosts below a domain,
without a port. There are no tags: enforcers compare what a tag became.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass

from .._errors import FormatError
from . import reference as references

Kind = t.Literal["repository", "tree", "prefix", "domain"]

_BELOW = "/**"
_DOMAIN = re.compile(r"\*\.((?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*)/\*\*")
# What stands for the rest of a name, to have the beginning judged by the one grammar of references.
_REST = "x"


@dataclass(frozen=True)
class Pattern:
    """One pattern. C(host) is that of a reference, or the domain; C(path) is the repository, NS or NS/PREFIX.

    An empty path is that of a tree that is all of a host, or of a domain.
    """

    kind: Kind
    host: str
    path: str = ""

    def __str__(self) -> str:
        if self.kind == "domain":
            return f"*.{self.host}{_BELOW}"
        name = f"{self.host}/{self.path}" if self.path else self.host
        return name + {"repository": "", "tree": _BELOW, "prefix": "*"}[self.kind]

    def matches(self, name: str) -> bool:
        """Say whether C(name), HOST/REPO as C(Reference.name), is one of these repositories."""
        host, _slash, repository = name.partition("/")
        if self.kind == "domain":
            return host.endswith(f".{self.host}")
        if host != self.host:
            return False
        if self.kind == "repository":
            return repository == self.path
        if self.kind == "tree":
            return not self.path or repository == self.path or repository.startswith(f"{self.path}/")
        return repository.startswith(self.path) and "/" not in repository[len(self.path):]

    @property
    def specificity(self) -> tuple[bool, bool, int, bool]:
        """What orders the patterns that match one name, the most specific last: no two of them are equal in it."""
        return self.kind == "repository", self.kind != "domain", len(self.host) + len(self.path), self.kind == "prefix"

    def overlaps(self, other: Pattern) -> bool:
        """Say whether some repository is matched by both."""
        return any(one.matches(example) for one, two in ((self, other), (other, self)) for example in two.examples)

    def at(self, mirror: str) -> Pattern:
        """Return the same repositories in a mirror, HOST or HOST/NS, which keeps their paths."""
        host, _slash, namespace = mirror.partition("/")
        path = "/".join(part for part in (namespace, self.path) if part)
        return Pattern("tree" if self.kind == "domain" else self.kind, host, path)

    @property
    def examples(self) -> tuple[str, ...]:
        """Names that are matched; of two patterns that overlap, one matches an example of the other."""
        if self.kind == "domain":
            return (f"{_REST}.{self.host}/{_REST}",)
        whole = f"{self.host}/{self.path}" if self.path else self.host
        return {
            "repository": (whole,), "prefix": (f"{whole}{_REST}",),
            "tree": (f"{whole}/{_REST}", *([whole] if self.path else [])),
        }[self.kind]


def parse(text: str) -> Pattern:
    """Parse a pattern; Docker Hub's names become C(docker.io). Raises FormatError (malformed)."""
    domain = _DOMAIN.fullmatch(text)
    if domain:
        return Pattern("domain", domain[1])
    if text.endswith(_BELOW):
        return _tree(text, text[:-len(_BELOW)])
    if text.endswith("*"):
        return _prefix(text, text[:-1])
    if "*" in text or "?" in text:
        raise _malformed(text, "a wildcard stands at the end only")
    if references.split_tag(text)[1] is not None or "@" in text:
        raise _malformed(text, "it has a tag or a digest")
    name = _name(text, text)
    return Pattern("repository", name.host, name.repository)


def _tree(text: str, above: str) -> Pattern:
    if "*" in above:
        raise _malformed(text, "a wildcard stands at the end only")
    host, _slash, path = above.partition("/")
    name = _name(text, f"{host}/{path}/{_REST}" if path else f"{host}/{_REST}/{_REST}")
    return Pattern("tree", name.host, path)


def _prefix(text: str, above: str) -> Pattern:
    if "*" in above:
        raise _malformed(text, "a wildcard stands at the end only")
    if above.endswith("/") or "/" not in above:
        raise _malformed(text, "nothing stands before the asterisk; /** means all that is below")
    name = _name(text, f"{above}{_REST}")
    return Pattern("prefix", name.host, name.repository[:-len(_REST)])


def _name(text: str, example: str) -> references.Reference:
    host, slash, _rest = example.partition("/")
    # Without one, some enforcers mean Docker Hub, and others ask a list of hosts.
    if not slash or not references.looks_like_host(host):
        raise _malformed(text, "it names no registry host")
    try:
        return references.parse_name(example)
    except FormatError as exc:
        raise _malformed(text, exc.cause) from exc


def _malformed(text: str, cause: str) -> FormatError:
    return FormatError(
        code="malformed", object=text[:300], attempt="read it as a pattern of images", cause=cause,
        advice="Write HOST/REPO, HOST/NS/**, HOST/NS/PREFIX* or *.DOMAIN/**, without a tag.",
    )
