# Copyright (c) the hallmark.signing authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is wrong with policies that others wrote: not that they are no policies, but that they trust more than they say.

C(lint()) is the order of what is looked at: what holds for every kind first, then what is said of each kind. What is
known about them, and where from, stands in the files of the enforcers.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, replace

from .._errors import FormatError
from . import lint_clusters, lint_containers, lint_texts, parsing
from .lint_texts import Finding

Kind = t.Callable[[t.Any], t.Iterator[Finding]]


@dataclass(frozen=True)
class Problem:
    """Something in a file: a stable code, and where it stands with what it means."""

    path: str
    code: str
    message: str

    def as_dict(self) -> dict[str, str]:
        """Return the shape of the module contract."""
        return {"path": self.path, "code": self.code, "message": self.message}


def lint(path: str, read_file: t.Callable[[str], bytes]) -> list[Problem]:
    """Return the problems of a file, YAML with any number of documents, or JSON. Raises what C(read_file) does."""
    data = read_file(path)
    try:
        documents = [one for one in parsing.parse_all(data, where=path) if one is not None]
    except FormatError as exc:
        return [Problem(path, "not_loadable", f"file: {exc.cause}")]
    if not documents:
        return [Problem(path, "not_loadable", "file: it is empty")]
    several = len(documents) > 1
    found = [
        replace(one, place=f"{_name_of(number, document)}: {one.place}") if several else one
        for number, document in enumerate(documents) for one in _findings(document)
    ]
    found += lint_clusters.together(documents)
    return [Problem(path, *one) for one in dict.fromkeys((one.code, f"{one.place}: {one.message}") for one in found)]


def _name_of(number: int, document: t.Any) -> str:
    """Return what tells a document from the others of its file."""
    if not isinstance(document, dict) or "kind" not in document:
        return f"document {number + 1}"
    metadata = document.get("metadata")
    return f"{document['kind']} {metadata.get('name', '') if isinstance(metadata, dict) else ''}".strip()


def _findings(document: t.Any) -> t.Iterator[Finding]:
    kind = _kind_of(document)
    if kind is None:
        yield Finding("unknown_document", "document", "it is none of the policies that are known here")
        return
    yield from lint_texts.findings(document)
    yield from kind(document)


def _kind_of(document: t.Any) -> Kind | None:
    if not isinstance(document, dict):
        return None
    if isinstance(document.get("default"), list):
        return lint_containers.policy
    if {"docker", "default-docker"} & set(document):
        return lint_containers.registries
    return lint_clusters.kind_of(document)
